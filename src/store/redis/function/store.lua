#!lua name=countersign_2
-- What several gateways remember together, as one library of functions for Redis 7: these files, joined. Its name
-- carries the version of the format of keys and arguments: gateways of different ones are refused beside each other.
--
-- The code is what gateways agree by, in what they do besides too: by a lease in a cluster none accepts a stamp that lies
-- further after it began than all of them wait for, nor a deadline when more than three eighths of it are over. So one
-- whose rule is another must have other code.
--
-- Every key of one call carries the same tag in braces, so that a call touches one hash slot. Numbers are packed
-- little-endian; moments are microseconds since the epoch, which a double holds exactly.
--
-- Keys of Redis hold what must outlive this process: the epochs of an account's keys and the steps of its second
-- factors, and the records against replay, which the server lets go of when they are over. The memory of this process
-- holds what a loss may forget: limits, and marks of growing numbers. Which it is that was lost, generations say.

-- Generations by their key, in the memory of this process alone. A restart, a promoted replica, a snapshot that was
-- rolled back, FLUSHALL and a reloaded library all leave one that differs from the key's, or none. Each has
--   name, seal      what its key holds, and a key that is there for as long as that is so
--   born            when it began, by a gateway's clock; nothing before a gateway has confirmed that it knows of it
--   since           the same by this server's clock
--   epoch           in a cluster, since when this server is the tags' primary
--   filled          until when each bucket of records must be there, in ms
--   current, known  keys whose epoch is known to count, each as calls name it, and how many of them
--   limits, count   what was spent, by subject, and how many subjects there are
--   marks           of growing numbers, by their name
--   swept           when it was last rid of what is over
local generations = {}
-- What was spent of limits that more accounts share, by the key of the generation whose slot they belong to: none of
-- them itself, but swept as one.
local spanning = {}
-- How many limits and marks there are in all.
local limits_held, marks_held = 0, 0
-- How many keys the server had evicted when it was last looked at.
local evicted
-- Which generation is swept next.
local turn = 0
-- The latest moment this process's clock ever told.
local latest = 0

local NEW, SEEN, OVER, FENCED, OUTDATED, STEP_SPENT, UNBORN = 0, 1, 2, 3, 4, 5, 6
local LOW, UNMARKED, MARKED, FULL = 7, 8, 9, 10

-- How long a record outlives its request, in ms, so that a clock that jumps ahead and back drops none unnoticed.
local MARGIN = 10000
-- In what steps the life of records is prolonged, in ms.
local STEP = 4000
-- When seals expire, in ms: as far ahead as a double tells milliseconds apart by far.
local NEVER_MS = 2 ^ 52
-- How far a clock may run back by being set right a little.
local SLACK = 50000
-- How long epochs and steps are kept, in ms: longer than any gateway trusts what it read.
local ACCOUNT_LIFE = 2 * 86400000
-- How long a mark that is not used is kept, in microseconds.
local MARK_LIFE = 2 * 86400000000
-- How often a generation is swept, in microseconds, and how many limits and marks at a time: about a millisecond.
local SWEEP, SWEPT_AT_ONCE = 10000000, 10000
-- The most limits and marks in all, about 300 MB and 100 MB, and the most keys that a generation knows.
local MOST_LIMITS, MOST_MARKS, MOST_KNOWN = 1000000, 100000, 1000
-- The most costs of one call.
local MOST_COSTS = 8

-- Functions of the server's, which a library gets at only once it runs, and the formats of answers to so many costs.
local call, pack, read, sub, spread, floor, ceil, min, max
local FORMATS = {}

local function equip()
  call, pack, read, sub, spread = redis.call, struct.pack, struct.unpack, string.sub, unpack
  floor, ceil, min, max = math.floor, math.ceil, math.min, math.max
  FORMATS[0] = '<I1I8I8'
  for count = 1, MOST_COSTS do FORMATS[count] = '<I1I8I8I1' .. string.rep('I8I4', count) end
end

local function generation(name, seal, epoch)
  return {
    name = name, seal = seal, epoch = epoch, since = latest, swept = latest,
    filled = {}, current = {}, known = 0, limits = {}, count = 0, marks = {}, marked = 0,
  }
end

-- What a generation held counts no longer.
local function drop(mine)
  limits_held, marks_held = limits_held - mine.count, marks_held - mine.marked
end

local function forget_all()
  generations, spanning = {}, {}
  limits_held, marks_held = 0, 0
end

-- This process's clock told a moment.
local function tick(now)
  if now > latest then
    latest = now
  elseif now < latest - SLACK then
    -- It was ahead: what seemed to have expired may be gone.
    latest = now
    forget_all()
  end
  return now
end

local function clock()
  if not call then
    equip()
    forget_all()
  end
  local time = call('TIME')
  return tick(time[1] * 1000000 + time[2])
end

-- A generation counts for as long as its seal is there, a key that is named after its key and its name, which nobody
-- uses twice. `wake` alone writes seals: in one step with the name under the generation's key, and in the step in which
-- another name takes that place the seal goes. So data that hold the seal hold the name as well, whatever became of
-- them: FLUSHALL, an earlier snapshot, and what another primary did meanwhile leave neither. That the seal is there
-- says what comparing the name would. It expires when nobody waits for it any longer, so that how long it still has
-- tells the time as well, to a millisecond: that is one number, where the time alone would be two strings.

-- The generation of a key, if it counts, and the moment.
local function sealed(key)
  local mine = generations[key]
  local left = mine and mine.born and call('PTTL', mine.seal) or -1
  if left < 0 then return nil, clock() end
  local now = tick((NEVER_MS - left) * 1000)
  -- None is left where the clock was ahead.
  return generations[key], now
end

-- The same, and whether a bucket of records is there. Where it was filled before and is gone ahead of its time it was
-- evicted, or deleted by hand: nobody knows what else is.
local function find(key, bucket)
  local mine, now = sealed(key)
  if not mine then return nil, now end
  if call('EXISTS', bucket) == 1 then return mine, now, true end
  local until_then = mine.filled[bucket]
  if until_then and until_then * 1000 > now then
    forget_all()
    return nil, now
  end
  return mine, now, false
end

-- Sees to it that a bucket outlives what was just put there. What is known of its end is not asked for again.
local function outlive(mine, bucket, is_old, keep_until)
  -- In steps, so that few records of a bucket move its end.
  local wanted = ceil((keep_until / 1000 + MARGIN) / STEP) * STEP
  local until_then = mine.filled[bucket]
  if not is_old then
    call('PEXPIREAT', bucket, wanted)
  elseif not until_then or wanted > until_then then
    call('PEXPIREAT', bucket, wanted, 'GT')
  else
    return
  end
  mine.filled[bucket] = wanted
end

-- Whether a key counts no longer, given as its tag and the epoch under which it is known. The account's hash holds the
-- epoch below which it does not; `raise` alone writes that, so what was read once is good until then.
local function is_outdated(mine, account, key)
  if mine.current[key] then return false end
  if tonumber(call('HGET', account, sub(key, 1, 8)) or 0) > read('<I8', key, 9) then return true end
  if mine.known >= MOST_KNOWN then mine.current, mine.known = {}, 0 end
  mine.current[key], mine.known = true, mine.known + 1
  return false
end

-- KEYS: generation, account. ARGV: the key's tag, epoch. From now on what was known of the key under an earlier epoch
-- counts no longer.
local function raise(keys, args)
  clock()
  if tonumber(call('HGET', keys[2], args[1]) or 0) < tonumber(args[2]) then call('HSET', keys[2], args[1], args[2]) end
  local mine = generations[keys[1]]
  if mine then mine.current, mine.known = {}, 0 end
  call('PEXPIRE', keys[2], ACCOUNT_LIFE)
  return ''
end

-- Rids a generation of what is over. Keys are looked up again when they are needed.
local function sweep(mine, now)
  mine.swept, mine.current, mine.known = now, {}, 0
  for bucket, until_then in pairs(mine.filled) do
    if until_then * 1000 < now then mine.filled[bucket] = nil end
  end
  for subject, cell in pairs(mine.limits) do
    if cell[1] < latest then
      mine.limits[subject] = nil
      mine.count, limits_held = mine.count - 1, limits_held - 1
    end
  end
  for name, mark in pairs(mine.marks) do
    if mark.used + MARK_LIFE < now then
      mine.marks[name] = nil
      mine.marked, marks_held = mine.marked - 1, marks_held - 1
    end
  end
end

-- Sweeps those whose turn it is, as long as that takes no time to speak of.
local function sweep_some(keys, now)
  local left = SWEPT_AT_ONCE
  for _ = 1, #keys do
    turn = turn % #keys + 1
    for _, all in ipairs({ generations, spanning }) do
      local held = all[keys[turn]]
      if held and now > held.swept + SWEEP then
        left = left - held.count - held.marked
        sweep(held, now)
      end
    end
    if left <= 0 then return end
  end
end

-- KEYS: generations. ARGV: the gateway's moment, a name that was never used, the name it knows of or nothing, how many
-- keys the server has evicted, and in a cluster the epoch since which this server is the tags' primary: whoever was
-- one before, and another meanwhile, knows nothing of what that one recorded, whatever its memory says. Names the
-- generations that are missing, all at once after a loss, so that the first requests find them old enough. One begins
-- when a gateway says that it knows of its name, which is after whatever was lost. Tells the clock, the latest birth, and
-- a name that nobody has confirmed yet.
local function wake(keys, args)
  local now = clock()
  local asked_at, name, known, gone = tonumber(args[1]), args[2], args[3], tonumber(args[4])
  local epoch = tonumber(args[5] or 0)
  if evicted and gone ~= evicted then forget_all() end
  evicted = gone
  sweep_some(keys, now)
  local youngest, pending = 0, ''
  for place = 1, #keys do
    local key = keys[place]
    local mine = generations[key]
    local before = mine and mine.epoch or 0
    local held = call('GET', key)
    if not (mine and held == mine.name and call('PTTL', mine.seal) >= 0 and epoch <= before) then
      if mine then
        drop(mine)
        call('DEL', mine.seal)
      end
      if held then call('DEL', key .. held) end
      mine = generation(name, key .. name, max(epoch, before))
      call('MSET', key, name, mine.seal, '')
      call('PEXPIREAT', mine.seal, string.format('%.0f', NEVER_MS))
      generations[key] = mine
    elseif not mine.born and mine.name == known then
      mine.born = asked_at
    end
    if not mine.born then pending = mine.name elseif mine.born > youngest then youngest = mine.born end
  end
  return string.format('%.0f %.0f %s', now, youngest, pending)
end

redis.register_function('countersign_2_raise', raise)
redis.register_function('countersign_2_wake', wake)
