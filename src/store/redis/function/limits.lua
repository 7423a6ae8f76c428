
-- Limits, by subject: a bucket is { when it is full again, the part of a microsecond beyond, of how many parts }; a
-- window { when all of it is over, what was spent, how long a span is, its spans, the number of the newest }. The spans
-- of a sliding window are what was spent in each of its last ones, by their number modulo how many there are; a fixed
-- one has a single span, and `false`. One takes about 310 bytes, a sliding window 450.
local BUCKET, SLIDING, SHADOW, NEVER = 0, 1, 4, 8
local SPANS = 16
-- A cost: its subject; its kind (0 a bucket, 1 a sliding and 2 a fixed window; 4 more in shadow; 8 more where it never
-- fits); quota; a bucket's period or the length of a window's spans; and what it takes: of a bucket that many
-- microseconds and parts of one, of a window that many units and 0.
local COST = '<c8I1I4I8I8I4'

-- What a charge would leave, by the place of its costs, used anew by each call: the limits themselves, and two figures of
-- each, which are told as well. Three stand before, and which of them did not hold in shadow, as bits.
local cells, told = {}, {}
-- The subjects of those that are not kept yet, by place, and how many.
local fresh, added = {}, 0
-- Which of them holds last, if not all do: its place, whether it never does, how long until then, and how full it is.
local worst, worst_never, worst_wait, worst_ahead, worst_part

local function new_cell(place, subject, cell)
  fresh[place], added = subject, added + 1
  return cell
end

-- A bucket of another quota: in parts of that one, rounded up.
local function recount(cell, quota)
  if cell[2] > 0 then cell[1], cell[2] = cell[1] + 1, 0 end
  cell[3] = quota
end

-- A window with what is over taken out.
local function turn_to(cell, span)
  local newest, spans, spent = cell[5], cell[4], 0
  if spans then
    spent = cell[2]
    for past = max(newest + 1, span - SPANS + 1), span do
      spent = spent - (spans[past % SPANS] or 0)
      spans[past % SPANS] = 0
    end
  end
  cell[2], cell[5] = spent, span
end

-- When that many units fit into a window: once enough of its oldest spans are over.
local function opens(cell, units, quota)
  local width, spans, span = cell[3], cell[4], cell[5]
  if not spans then return (span + 1) * width end
  local left = units
  for back = 0, SPANS - 1 do
    left = left + (spans[(span - back) % SPANS] or 0)
    if left > quota then return (span - back + SPANS) * width end
  end
  return 0
end

-- Notes that a cost does not hold: where that is not in shadow, all are refused.
local function note_beyond(place, kind, wait, ahead, part)
  local never = kind >= NEVER
  if never then kind = kind - NEVER end
  if kind >= SHADOW then
    told[4] = told[4] + 2 ^ (place - 1)
  elseif not worst or (never and not worst_never) or (never == worst_never and wait > worst_wait) then
    worst, worst_never, worst_wait, worst_ahead, worst_part = place - 1, never, wait, ahead, part
  end
end

-- What `count` costs from a place of `packed` on would leave of their limits; where not all of them hold it says so.
-- Where it is `free` they are only looked at.
local function plan(limits, packed, at, count, now, free)
  if added > 0 then fresh, added = {}, 0 end
  worst, told[4] = nil, 0
  local subject, kind, quota, width, amount, part
  for place = 1, count do
    subject, kind, quota, width, amount, part, at = read(COST, packed, at)
    if free then amount, part = 0, 0 end
    local cell, level = limits[subject], nil
    if kind % SHADOW == BUCKET then
      if not cell then cell = new_cell(place, subject, { now, 0, quota }) end
      if cell[3] ~= quota then recount(cell, quota) end
      local whole, held = cell[1], cell[2]
      if whole < now then whole, held = now, 0 end
      local wait
      level, part = whole + amount, held + part
      if part >= quota then level, part = level + 1, part - quota end
      wait = level - now - width
      if part > 0 then wait = wait + 1 end
      if wait > 0 and (level > whole or part > held) then
        note_beyond(place, kind, wait, whole - now, held)
        level, part = whole, held
      end
      level = level - now
    else
      local span, spans = (now - now % width) / width, kind % SHADOW == SLIDING
      if not cell or cell[3] ~= width then
        cell = new_cell(place, subject, { 0, 0, width, spans and {} or false, span })
      elseif span > cell[5] then
        turn_to(cell, span)
      end
      level = cell[2] + amount
      if level > quota and amount > 0 then
        note_beyond(place, kind, opens(cell, amount, quota) - now, cell[2], 0)
        level = cell[2]
      end
    end
    cells[place] = cell
    told[place * 2 + 3], told[place * 2 + 4] = level, part
  end
  if worst then return OVER end
  if added > 0 and limits_held + added > MOST_LIMITS then return FULL end
end

-- Keeps limits that are new.
local function adopt(mine)
  for place, subject in pairs(fresh) do
    if not mine.limits[subject] then mine.count, limits_held = mine.count + 1, limits_held + 1 end
    mine.limits[subject] = cells[place]
  end
end

-- Keeps what a plan left.
local function charge(mine, count)
  if added > 0 then adopt(mine) end
  for place = 1, count do
    local cell, level = cells[place], told[place * 2 + 3]
    local spans = cell[4]
    if spans == nil then
      cell[1], cell[2] = latest + level, told[place * 2 + 4]
    else
      local span = cell[5]
      if spans then spans[span % SPANS] = (spans[span % SPANS] or 0) + level - cell[2] end
      cell[1], cell[2] = (span + (spans and SPANS or 1)) * cell[3], level
    end
  end
end

-- The answer to a plan that does not hold: which limit refuses, for how long, and how full all of them are.
local function refusal(now, said, limits, packed, at, count)
  if said ~= OVER then return pack('<I1I8', said, now) end
  local place, wait, ahead, part = worst, worst_wait, worst_ahead, worst_part
  plan(limits, packed, at, count, latest, true)
  told[1], told[2], told[3], told[4] = OVER, now, wait, place
  told[place * 2 + 5], told[place * 2 + 6] = ahead, part
  return pack(FORMATS[count], spread(told, 1, 4 + 2 * count))
end

-- That a request is new, and how full its limits are.
local function passes(now, count)
  told[1], told[2], told[3] = NEW, now, latest
  return pack(FORMATS[count], spread(told, 1, count > 0 and 4 + 2 * count or 3))
end

-- How much of `amount` that a bucket was charged at a moment, when it had been full again at `level - amount` later, can
-- be given back: less what would be back by now had it never been charged.
local function of_bucket(charged_at, level, amount)
  return amount - max(0, latest - charged_at - max(0, level - amount))
end

-- Gives back what was charged at a moment. Of a window it is known by its span what was spent then. `answer` is what was
-- said to the charge; where it is not known a bucket counts as having been empty before it.
local function unspend(mine, charged_at, costs, answer)
  -- An earlier generation charged it.
  if charged_at < mine.since then return end
  local told_at, beyond = 18, 0
  if answer then beyond, told_at = read('<I1', answer, told_at) end
  local at, place = 1, 0
  while at < #costs do
    local subject, kind, amount, _
    subject, kind, _, _, amount, _, at = read(COST, costs, at)
    local level, was_charged = amount, floor(beyond / 2 ^ place) % 2 == 0
    if answer then level, _, told_at = read('<I8I4', answer, told_at) end
    place = place + 1
    local cell = was_charged and mine.limits[subject]
    if cell and cell[4] == nil then
      cell[1] = cell[1] - max(0, of_bucket(charged_at, level, amount))
    elseif cell then
      local span, spans, newest = floor(charged_at / cell[3]), cell[4], cell[5]
      if spans and span <= newest and span > newest - SPANS then
        local back = min(spans[span % SPANS] or 0, amount)
        spans[span % SPANS] = (spans[span % SPANS] or 0) - back
        cell[2] = cell[2] - back
      elseif not spans and span == newest then
        cell[2] = max(cell[2] - amount, 0)
      end
    end
  end
end

-- The same of what `answer` tells, if it was charged anything.
local function undo(mine, costs, answer)
  if #costs > 0 then unspend(mine, read('<I8', answer, 10), costs, answer) end
end

-- KEYS: the subject's generation, for its slot. ARGV: cost. What a gateway let run up of a limit that more accounts
-- share: whether it fits, or when.
local function settle(keys, args)
  clock()
  local held = spanning[keys[1]]
  if not held then
    held = generation('', '', 0)
    spanning[keys[1]] = held
  end
  local said = plan(held.limits, args[1], 1, 1, latest)
  if said then return pack('<I1I8', said, worst_wait or 0) end
  charge(held, 1)
  return passes(latest, 1)
end

-- KEYS: the subject's generation, for its slot. ARGV: cost, what was said to it. Takes back what was granted here, and
-- not by another that counts as well.
local function unsettle(keys, args)
  clock()
  local held = spanning[keys[1]]
  if held then undo(held, args[1], args[2]) end
  return ''
end

redis.register_function('countersign_2_settle', settle)
redis.register_function('countersign_2_unsettle', unsettle)
