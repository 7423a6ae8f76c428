
-- Marks: what was accepted of the growing numbers of a key. One that is not known has the token of whoever asked for it
-- first: as long as no gateway has said, for that token, up to which number all may have been accepted, nothing is. One
-- that is known has the highest number accepted, the floor at or below which nothing passes, the number up to which it
-- is not known what was accepted, and in `last` the last ones accepted in ascending order, each with a print of its
-- request and its record. A mark that is gone is asked for anew. Numbers have 64 bits, which no double holds: they are
-- compared in halves, and packed with the high one first.
local ENTRY = 24
-- How many numbers are remembered above the floor; and where there is no window, so that copies are told from others.
local REMEMBERED, REMEMBERED_TO_TELL = 64, 8
-- What weighing a number may say besides.
local OURS = -1

local function less(high, low, than_high, than_low)
  return high < than_high or (high == than_high and low < than_low)
end

-- How many of a mark's last numbers there are.
local function entries(mark)
  return #mark.last / ENTRY
end

-- The number of the entry at a place, and of the one where that begins.
local function number_at(mark, place)
  return read('>I4I4', mark.last, (place - 1) * ENTRY + 1)
end

-- The place of the first entry whose number is not below this one; the place behind the last where there is none.
local function place_of(mark, high, low)
  local from, to = 1, entries(mark) + 1
  while from < to do
    local middle = floor((from + to) / 2)
    local its_high, its_low = number_at(mark, middle)
    if less(its_high, its_low, high, low) then from = middle + 1 else to = middle end
  end
  return from
end

-- The entry at a place, in its three parts; empty ones where there is none.
local function entry_at(mark, place)
  local at = (place - 1) * ENTRY + 1
  return sub(mark.last, at, at + 7), sub(mark.last, at + 8, at + 15), sub(mark.last, at + 16, at + 23)
end

-- Puts an entry, or nothing, in the place of so many others.
local function splice(mark, place, gone, entry)
  local at = (place - 1) * ENTRY
  mark.last = sub(mark.last, 1, at) .. entry .. sub(mark.last, at + gone * ENTRY + 1)
end

-- The number a window below the highest one.
local function lowest(mark, window_high, window_low)
  local high, low = mark.high - window_high, mark.low - window_low
  if low < 0 then high, low = high - 1, low + 4294967296 end
  if high < 0 then return 0, 0 end
  return high, low
end

-- What a mark says to a number, and its place among the entries.
local function weigh(mark, number, print, record)
  local high, low, window_high, window_low = read('>I4I4I4I4', number)
  if less(mark.high, mark.low, high, low) then return NEW, entries(mark) + 1 end
  local place = place_of(mark, high, low)
  local its_number, its_print, its_record = entry_at(mark, place)
  if its_number == sub(number, 1, 8) then
    if its_print ~= print then return LOW end
    return its_record == record and OURS or SEEN
  end
  if not less(mark.forgotten_high, mark.forgotten_low, high, low) then return SEEN end
  if not less(mark.floor_high, mark.floor_low, high, low) then return LOW end
  if less(high, low, lowest(mark, window_high, window_low)) then return LOW end
  return NEW, place
end

-- How many of its first entries a mark need not remember any longer, where it is to have so many: those further below
-- the highest number than the window, and those that are too many.
local function surplus(mark, count, is_alone, window_high, window_low)
  if is_alone then return count - REMEMBERED_TO_TELL end
  local most = count - REMEMBERED
  if mark.last == '' then return most end
  local high, low = lowest(mark, window_high, window_low)
  local its_high, its_low = number_at(mark, 1)
  if not less(its_high, its_low, high, low) then return most end
  return max(most, place_of(mark, high, low) - 1)
end

-- Notes a number that passes. Whatever is then no longer remembered lies at or below the floor.
local function accept(mark, place, number, print, record)
  local high, low, window_high, window_low = read('>I4I4I4I4', number)
  if less(mark.high, mark.low, high, low) then mark.high, mark.low = high, low end
  local is_alone = window_high == 0 and window_low == 0
  local gone = surplus(mark, entries(mark) + 1, is_alone, window_high, window_low)
  local at = (place - 1) * ENTRY
  local entry = sub(number, 1, 8) .. print .. record
  if gone <= 0 then
    mark.last = sub(mark.last, 1, at) .. entry .. sub(mark.last, at + 1)
  else
    -- It may be one of those that go.
    if place <= gone then entry, gone = '', gone - 1 end
    if entry ~= '' or place <= gone then high, low = number_at(mark, gone) end
    mark.last = sub(mark.last, gone * ENTRY + 1, at) .. entry .. sub(mark.last, max(at, gone * ENTRY) + 1)
    if less(mark.floor_high, mark.floor_low, high, low) then mark.floor_high, mark.floor_low = high, low end
    if less(mark.forgotten_high, mark.forgotten_low, high, low) then
      mark.forgotten_high, mark.forgotten_low = high, low
    end
  end
  if is_alone then mark.floor_high, mark.floor_low = mark.high, mark.low end
end

-- That a mark is not known, with the token of whoever asked first, which is whoever asks now where nobody did.
local function unmarked(mine, name, token, now)
  local mark = mine.marks[name]
  if not mark then
    if marks_held >= MOST_MARKS then return pack('<I1I8', FULL, now) end
    mark = { token = token }
    mine.marks[name] = mark
    mine.marked, marks_held = mine.marked + 1, marks_held + 1
  end
  mark.used = now
  return pack('<I1I8c6', UNMARKED, now, mark.token)
end

-- KEYS: generation, account. ARGV: head, the mark's name, the number, the window, step, and costs. The same as `spend`
-- for a request that signs a growing number and no time.
local function grow(keys, args)
  local packed, account = args[1], keys[2]
  local mine, now = sealed(keys[1])
  if not mine then return pack('<I1I8', UNBORN, now) end
  local fence, _, key, flags, count, identity, record, at = read(HEAD, packed)
  if fence <= mine.born then return pack('<I1I8I8', FENCED, now, mine.born) end
  if is_outdated(mine, account, key) then return pack('<I1I8', OUTDATED, now) end
  local name, number, step
  name, number, at = read('<c16c16', packed, at)
  if flags >= HAS_STEP then step, at = read('<I8', packed, at) end
  local mark = mine.marks[name]
  if not mark or mark.token then return unmarked(mine, name, sub(record, 3), now) end
  local print = sub(identity, 1, 8)
  local said, place = weigh(mark, number, print, record)
  if said == OURS then
    plan(mine.limits, packed, at, count, latest, true)
    return passes(now, count)
  end
  if said ~= NEW then return pack('<I1I8', said, now) end
  if step and step_is_spent(account, step) then return pack('<I1I8', STEP_SPENT, now) end
  local beyond = plan(mine.limits, packed, at, count, latest)
  if beyond then return refusal(now, beyond, mine.limits, packed, at, count) end
  -- The only thing of it that can fail.
  if step then spend_step(account, step) end
  accept(mark, place, number, print, record)
  mark.used = now
  charge(mine, count)
  return passes(now, count)
end

-- KEYS: generation. ARGV: the mark's name, a token; and the token that was told before and up to which number all may have
-- been accepted, or nothing. If the mark is known, up to where it is not known what was accepted; if not, the token that
-- says since when.
local function ask_mark(keys, args)
  local mine, now = sealed(keys[1])
  if not mine then return pack('<I1I8', UNBORN, now) end
  local mark = mine.marks[args[1]]
  if mark and mark.token and mark.token == args[3] then
    local high, low = read('>I4I4', args[4])
    mark = { high = high, low = low, floor_high = high, floor_low = low, forgotten_high = high, forgotten_low = low }
    mark.last, mark.used = '', now
    mine.marks[args[1]] = mark
  end
  if not mark or mark.token then return unmarked(mine, args[1], args[2], now) end
  return pack('<I1I8I4I4', MARKED, now, mark.forgotten_low, mark.forgotten_high)
end

-- A mark that is known, and the place of an entry that begins like this one; nothing where there is none.
local function recall(key, name, entry)
  local mine = generations[key]
  local mark = mine and mine.marks[name]
  if not mark or mark.token then return nil end
  local place = place_of(mark, read('>I4I4', entry))
  local number, print = entry_at(mark, place)
  if number .. print == sub(entry, 1, 16) then return mine, mark, place end
end

-- KEYS: generation. ARGV: the mark's name, the entry, whether that stays, what was said to it, and costs. The same as
-- `forget` for a request with a growing number. The floor stays.
local function forget_number(keys, args)
  clock()
  local mine, mark, place = recall(keys[1], args[1], args[2])
  if not mine then return '' end
  local _, _, record = entry_at(mark, place)
  if record ~= sub(args[2], 17) then return '' end
  undo(mine, args[5], args[4])
  local given = sub(args[2], 1, 16) .. sub(record, 1, 2) .. GIVEN_BACK
  splice(mark, place, 1, #args[3] > 0 and given or '')
  return ''
end

-- KEYS: generation. ARGV: the mark's name, number and print, route, moment of the charge, costs. The same as `refund` for
-- a request with a growing number, as long as that is among the last ones.
local function refund_number(keys, args)
  clock()
  local mine, mark, place = recall(keys[1], args[1], args[2])
  if not mine then return '' end
  local _, _, record = entry_at(mark, place)
  local given = args[3] .. GIVEN_BACK
  if sub(record, 1, 2) ~= args[3] or record == given then return '' end
  splice(mark, place, 1, args[2] .. given)
  unspend(mine, read('<I8', args[4]), args[5])
  return ''
end

redis.register_function('countersign_2_grow', grow)
redis.register_function('countersign_2_mark', ask_mark)
redis.register_function('countersign_2_forget_number', forget_number)
redis.register_function('countersign_2_refund_number', refund_number)
