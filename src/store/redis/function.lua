#!lua name=countersign_1
-- What several gateways remember together, as one library of functions for Redis 7. Its name carries the version of
-- the format: gateways of different formats never share a record.
--
-- Every key of one call carries the same tag in braces, so that a call touches one hash slot. Numbers are packed
-- little-endian; moments are microseconds since the epoch, which a double holds exactly.

-- Generations by their key, in the memory of this process alone. A restart, a promoted replica, a snapshot that was
-- rolled back, FLUSHALL and a reloaded library all leave one that differs from the key's, or none.
local generations = {}
-- How many keys the server had evicted when it was last looked at.
local evicted
-- The latest moment this process's clock ever told.
local latest = 0

local STATUS = { new = 0, seen = 1, over = 2, fenced = 3, outdated = 4, step_spent = 5, unborn = 6 }
-- How long a record outlives its request, in ms, so that a clock that jumps ahead and back drops none unnoticed.
local MARGIN = 10000
-- How far a clock may run back by being set right a little.
local SLACK = 50000
-- How long what is known of a key's epoch is kept, in ms: longer than any gateway trusts what it read.
local EPOCH_LIFE = 2 * 86400000
-- A limit in a packed value: subject, whole microseconds, parts of one, of how many parts.
local CELL = 24

local function clock()
  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  if now < latest - SLACK then
    -- It was ahead: what seemed to have expired may be gone.
    generations = {}
  end
  if now > latest or now < latest - SLACK then latest = now end
  return now
end

-- When this process began to remember under a tag, by a gateway's clock; nil as long as no gateway has confirmed that
-- it knows of this generation. What a gateway says before it knows of one may have been on its way for long.
local function birth(key)
  local held, mine = redis.call('GET', key), generations[key]
  if held and mine and held == mine.name then return mine.born end
  return nil
end

-- What the costs of a request would leave of its limits: a value to store, or which of them does not hold.
local function plan(key, costs, count, now, charge)
  local held = redis.call('GET', key) or ''
  local cells, levels, worst, furthest = {}, {}, nil, now
  local at = 1
  for place = 1, count do
    local subject, quota, period, weight
    subject, quota, period, weight, at = struct.unpack('<c8I4I8I4', costs, at)
    local whole, part = now, 0
    local found = 1
    while found <= #held do
      if string.sub(held, found, found + 7) == subject then
        local parts
        whole, part, parts = struct.unpack('<I8I4I4', held, found + 8)
        if parts ~= quota and part > 0 then whole, part = whole + 1, 0 end
        held = string.sub(held, 1, found - 1) .. string.sub(held, found + CELL)
        break
      end
      found = found + CELL
    end
    if whole < now then whole, part = now, 0 end
    local before, before_part = whole, part
    if charge then
      local rest = part + weight * (period % quota)
      whole = whole + weight * math.floor(period / quota) + math.floor(rest / quota)
      part = rest % quota
      local wait = whole - now - period
      if part > 0 then wait = wait + 1 end
      local never = weight > quota
      if never then wait = period end
      if never or (weight > 0 and wait > 0) then
        if not worst or (never and not worst.never) or (never == worst.never and wait > worst.wait) then
          worst = { place = place - 1, wait = wait, never = never, ahead = before - now, part = before_part }
        end
      end
    end
    if whole > furthest then furthest = whole end
    cells[place] = struct.pack('<c8I8I4I4', subject, whole, part, quota)
    levels[place] = struct.pack('<I8I4', whole - now, part)
  end
  if worst then return nil, worst end
  -- What is paid off is as good as absent.
  local others = 1
  while others <= #held do
    local whole = struct.unpack('<I8', held, others + 8)
    if whole > now then
      cells[#cells + 1] = string.sub(held, others, others + CELL - 1)
      if whole > furthest then furthest = whole end
    end
    others = others + CELL
  end
  return { value = table.concat(cells), levels = table.concat(levels), life = math.ceil((furthest - now) / 1000) + 1 }
end

local function remember(bucket, field, record, keep_until)
  redis.call('HSET', bucket, field, record)
  local life = redis.call('PTTL', bucket)
  local wanted = math.ceil(keep_until / 1000) + MARGIN
  if life < 0 then
    redis.call('PEXPIREAT', bucket, wanted)
  else
    redis.call('PEXPIREAT', bucket, wanted, 'GT')
  end
end

-- KEYS: generation, records, limits, account. ARGV: head, identity, nonce or nothing, record, costs.
local function spend(keys, args)
  local now = clock()
  local fence, keep_until, epoch, step, key_tag, may_repeat, count = struct.unpack('<I8I8I8I8c8I1I1', args[1])
  local born = birth(keys[1])
  if not born then return struct.pack('<I1I8', STATUS.unborn, now) end
  if born >= fence then
    return struct.pack('<I1I8I8', STATUS.fenced, now, born)
  end
  local known = redis.call('HMGET', keys[4], key_tag, 'step')
  if known[1] and tonumber(known[1]) > epoch then return struct.pack('<I1I8', STATUS.outdated, now) end
  local identity, nonce, record = args[2], args[3], args[4]
  local seen = redis.call('HGET', keys[2], identity)
  local again = false
  if seen then
    -- The same token is our own retry: it was charged, and passes. Else only a read may repeat, on its own route.
    if seen == record then
      local levels = plan(keys[3], args[5], count, now, false)
      return struct.pack('<I1I8', STATUS.new, now) .. levels.levels
    end
    again = may_repeat == 1 and string.sub(seen, 1, 2) == string.sub(record, 1, 2)
    if not again then return struct.pack('<I1I8', STATUS.seen, now) end
  elseif #nonce > 0 and redis.call('HEXISTS', keys[2], nonce) == 1 then
    return struct.pack('<I1I8', STATUS.seen, now)
  end
  if step > 0 and known[2] and tonumber(known[2]) >= step then
    return struct.pack('<I1I8', STATUS.step_spent, now)
  end
  local limits, over
  if count > 0 then
    limits, over = plan(keys[3], args[5], count, now, true)
    if over then
      return struct.pack('<I1I8I1I8I8I4', STATUS.over, now, over.place, over.wait, over.ahead, over.part)
    end
  end
  if not again then
    remember(keys[2], identity, record, keep_until)
    if #nonce > 0 then remember(keys[2], nonce, record, keep_until) end
  end
  if limits then redis.call('SET', keys[3], limits.value, 'PX', limits.life) end
  if step > 0 then
    redis.call('HSET', keys[4], 'step', string.format('%.0f', step))
    redis.call('PEXPIRE', keys[4], EPOCH_LIFE)
  end
  return struct.pack('<I1I8', STATUS.new, now) .. (limits and limits.levels or '')
end

-- KEYS: records. ARGV: identity, nonce or nothing, record. Forgets what this very call of ours recorded, where it was
-- not forwarded: another server of a quorum said no.
local function forget(keys, args)
  for place = 1, 2 do
    if #args[place] > 0 and redis.call('HGET', keys[1], args[place]) == args[3] then
      redis.call('HDEL', keys[1], args[place])
    end
  end
  return ''
end

-- KEYS: account. ARGV: key, epoch. From now on what was known of the key under an earlier epoch counts no longer.
local function raise(keys, args)
  local held = redis.call('HGET', keys[1], args[1])
  if not held or tonumber(held) < tonumber(args[2]) then redis.call('HSET', keys[1], args[1], args[2]) end
  redis.call('PEXPIRE', keys[1], EPOCH_LIFE)
  return ''
end

-- KEYS: generations. ARGV: the gateway's moment, a name that was never used, the name it knows of or nothing, how many
-- keys the server has evicted. Names the generations that are missing, all at once after a loss, so that the first
-- requests find them old enough. One begins when a gateway says that it knows of its name, which is after whatever was
-- lost. Tells the clock, the latest birth, and a name that nobody has confirmed yet.
local function wake(keys, args)
  local now = clock()
  local asked_at, name, known, gone = tonumber(args[1]), args[2], args[3], tonumber(args[4])
  if evicted and gone ~= evicted then generations = {} end
  evicted = gone
  local youngest, pending = 0, ''
  for place = 1, #keys do
    local key = keys[place]
    local held, mine = redis.call('GET', key), generations[key]
    if not (held and mine and held == mine.name) then
      mine = { name = name }
      redis.call('SET', key, name)
      generations[key] = mine
    elseif not mine.born and mine.name == known then
      mine.born = asked_at
    end
    if not mine.born then pending = mine.name elseif mine.born > youngest then youngest = mine.born end
  end
  return string.format('%.0f %.0f %s', now, youngest, pending)
end

redis.register_function('countersign_1_spend', spend)
redis.register_function('countersign_1_forget', forget)
redis.register_function('countersign_1_raise', raise)
redis.register_function('countersign_1_wake', wake)
