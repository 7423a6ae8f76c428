
-- Limits, by subject: a bucket is { when it is full again, the part of a microsecond beyond, of how many parts }; a
-- window { when all of it is over, what was spent, how long a span is, its spans, the number of the newest }. The spans
-- of a sliding window are what was spent in each of its last ones, by their number modulo how many there are; a fixed
-- one has a single span, and `false`. One takes about 200 bytes, a sliding window 500.
local BUCKET, SLIDING, SHADOW = 0, 1, 8
local SPANS = 16
-- A cost: its subject, its kind (0 a bucket, 1 a sliding and 2 a fixed window; 8 more in shadow), quota, period, weight.
local COST = '<c8I1I4I8I4'

-- What a charge would leave, by the place of its costs, used anew by each call: the limit, its subject if it is new, and
-- two figures; those of a bucket are its first, and its weight and kind are those of a window.
local cells, fresh, first, second, quotas = {}, {}, {}, {}, {}
-- What is told of each limit: whether it did not hold, in shadow, and how full it is. Three figures stand before.
local told = {}

-- A bucket after `weight` units: when it is full again, and how long until it holds them; then when it is now.
local function pour(cell, quota, period, weight, now)
  local whole, part = cell[1], cell[2]
  if part > 0 and cell[3] ~= quota then whole, part = whole + 1, 0 end
  if whole < now then whole, part = now, 0 end
  local odd = period % quota
  local rest = part + weight * odd
  local over = rest % quota
  local after = whole + weight * ((period - odd) / quota) + (rest - over) / quota
  local wait = after - now - period
  if over > 0 then wait = wait + 1 end
  return after, over, wait, whole, part
end

-- The window of a subject with what is over taken out, and the number of its present span.
local function turn_to(cell, width, is_sliding, now)
  local span = floor(now / width)
  if not cell or cell[3] ~= width or (cell[4] ~= false) ~= is_sliding then
    return { 0, 0, width, is_sliding and {} or false, span }, span, true
  end
  local newest, spans = cell[5], cell[4]
  if span <= newest then return cell, newest end
  if spans then
    local spent = cell[2]
    for past = max(newest + 1, span - SPANS + 1), span do
      spent = spent - (spans[past % SPANS] or 0)
      spans[past % SPANS] = 0
    end
    cell[2] = spent
  else
    cell[2] = 0
  end
  cell[5] = span
  return cell, span
end

-- When `weight` fits into a window: once enough of its oldest spans are over.
local function opens(cell, span, weight, quota)
  local width, spans = cell[3], cell[4]
  if not spans then return (span + 1) * width end
  local left = weight
  for back = 0, SPANS - 1 do
    left = left + (spans[(span - back) % SPANS] or 0)
    if left > quota then return (span - back + SPANS) * width end
  end
  return 0
end

-- What `count` costs from a place of `packed` on would leave of their limits; or that they do not all hold, of which it
-- is said first how long until then, and how full it is. Where it is `free` they are only looked at.
local function plan(limits, packed, at, count, now, free)
  local worst, worst_wait, worst_ahead, worst_part, worst_never
  local added = 0
  for place = 1, count do
    local subject, kind, quota, period, weight
    subject, kind, quota, period, weight, at = read(COST, packed, at)
    local shadow, never = kind >= SHADOW, weight > quota
    if shadow then kind = kind - SHADOW end
    if free then weight = 0 end
    local cell, is_new = limits[subject], false
    local wait, ahead, part, beyond
    if kind == BUCKET then
      -- One that was counted in another way is replaced.
      if not cell or cell[4] ~= nil then cell, is_new = { now, 0, quota }, true end
      local after, rest, whole
      after, rest, wait, whole, part = pour(cell, quota, period, weight, now)
      beyond, ahead = weight > 0 and (never or wait > 0), whole - now
      if beyond then after, rest = whole, part end
      first[place], second[place], quotas[place] = after, rest, quota
      told[place * 3 + 2], told[place * 3 + 3] = after - now, rest
    else
      local is_sliding = kind == SLIDING
      local width, span = is_sliding and ceil(period / (SPANS - 1)) or period, nil
      if cell and cell[4] == nil then cell = nil end
      cell, span, is_new = turn_to(cell, width, is_sliding, now)
      ahead, part = cell[2], 0
      beyond = weight > 0 and ahead + weight > quota
      if beyond then
        wait = opens(cell, span, weight, quota) - now
        weight = 0
      end
      first[place], quotas[place] = weight, false
      told[place * 3 + 2], told[place * 3 + 3] = ahead + weight, 0
    end
    cells[place], fresh[place] = cell, is_new and subject
    if is_new and not limits[subject] then added = added + 1 end
    told[place * 3 + 1] = beyond and 1 or 0
    if beyond and not shadow then
      if never then wait = period end
      if not worst or (never and not worst_never) or (never == worst_never and wait > worst_wait) then
        worst, worst_wait, worst_ahead, worst_part, worst_never = place - 1, wait, ahead, part, never
      end
    end
  end
  if worst then return OVER, worst, worst_wait, worst_ahead, worst_part end
  if added > 0 and limits_held + added > MOST_LIMITS then return FULL end
end

-- Keeps what a plan left.
local function charge(mine, count)
  for place = 1, count do
    local cell, subject, quota = cells[place], fresh[place], quotas[place]
    if subject then
      if not mine.limits[subject] then mine.count, limits_held = mine.count + 1, limits_held + 1 end
      mine.limits[subject] = cell
    end
    if quota then
      cell[1], cell[2], cell[3] = first[place], second[place], quota
    else
      local weight, spans, span = first[place], cell[4], cell[5]
      cell[2] = cell[2] + weight
      if spans then spans[span % SPANS] = (spans[span % SPANS] or 0) + weight end
      cell[1] = (span + (spans and SPANS or 1)) * cell[3]
    end
  end
end

-- That a plan does not hold, as an answer.
local function refusal(now, said, place, wait, ahead, part)
  if said == OVER then return pack('<I1I8I1I8I8I4', OVER, now, place, wait, ahead, part) end
  if said then return pack('<I1I8', said, now) end
end

-- That a request is new, and how full its limits are.
local function passes(now, count)
  if count == 0 then return pack('<I1I8I8', NEW, now, latest) end
  told[1], told[2], told[3] = NEW, now, latest
  return pack(FORMATS[count], spread(told, 1, 3 + 3 * count))
end

-- Gives back what was charged at a moment. All of it are windows, where what was spent is known by its span.
local function unspend(mine, charged_at, costs)
  -- An earlier generation charged it.
  if charged_at < mine.since then return end
  local at = 1
  while at < #costs do
    local subject, _kind, _quota, _period, weight
    subject, _kind, _quota, _period, weight, at = read(COST, costs, at)
    local cell = mine.limits[subject]
    if cell and cell[4] ~= nil then
      local span, spans, newest = floor(charged_at / cell[3]), cell[4], cell[5]
      if spans and span <= newest and span > newest - SPANS then
        local back = min(spans[span % SPANS] or 0, weight)
        spans[span % SPANS] = (spans[span % SPANS] or 0) - back
        cell[2] = cell[2] - back
      elseif not spans and span == newest then
        cell[2] = max(cell[2] - weight, 0)
      end
    end
  end
end

-- KEYS: the subject's generation, for its slot. ARGV: cost. What a gateway let run up of a limit that more accounts
-- share: whether it fits, or when.
local function settle(_keys, args)
  clock()
  local said, _place, wait = plan(spanning.limits, args[1], 1, 1, latest)
  if said then return pack('<I1I8', said, wait or 0) end
  charge(spanning, 1)
  return pack('<I1I8', NEW, 0)
end

redis.register_function('countersign_2_settle', settle)
