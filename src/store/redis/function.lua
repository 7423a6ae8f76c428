#!lua name=countersign_1
-- What several gateways remember together, as one library of functions for Redis 7. Its name carries the version of
-- the format: gateways of different formats never share a record.
--
-- Every key of one call carries the same tag in braces, so that a call touches one hash slot. Numbers are packed
-- little-endian; moments are microseconds since the epoch, which a double holds exactly.

-- Generations by their key, in the memory of this process alone: a name, when it began, and until when each bucket of
-- records must be there, in ms. A restart, a promoted replica, a snapshot that was
-- rolled back, FLUSHALL and a reloaded library all leave one that differs from the key's, or none.
local generations = {}
-- How many keys the server had evicted when it was last looked at.
local evicted
-- When generations were last rid of buckets that need not be there any more.
local swept = 0
-- The latest moment this process's clock ever told.
local latest = 0

local STATUS = { new = 0, seen = 1, over = 2, fenced = 3, outdated = 4, step_spent = 5, unborn = 6 }
-- How long a record outlives its request, in ms, so that a clock that jumps ahead and back drops none unnoticed.
local MARGIN = 10000
-- In what steps the life of records is prolonged, in ms.
local STEP = 4000
-- How often what is known of buckets is swept, in microseconds.
local SWEEP = 10000000
-- How far a clock may run back by being set right a little.
local SLACK = 50000
-- How long what is known of a key's epoch is kept, in ms: longer than any gateway trusts what it read.
local EPOCH_LIFE = 2 * 86400000
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

-- Limits are packed one after the other: subject, when all of it is over, how long the rest is, and the rest. The rest
-- of a bucket is a part of a microsecond and of how many parts; that of a window what was spent in each of its spans.
local HEAD = 17
local SPANS = 16
-- What stands in a record instead of a call's token once its charge was given back.
local GIVEN_BACK = '\0\0\0\0\0\0'
local SIXTEEN = 'I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4I4'

-- Where the limit of a subject lies in a packed value, from a place on.
local function find(held, subject, from)
  while from < #held do
    if string.sub(held, from, from + 7) == subject then return from end
    from = from + HEAD + string.byte(held, from + HEAD - 1)
  end
end

-- The packed values that a request touches: the key's limits, and the account's.
local function open(held)
  -- `next` is where the next limit is looked for first: most requests ask for the same ones in the same order.
  return { held = held or '', next = 1, cells = {}, used = nil, furthest = 0 }
end

-- Where a subject's limit lies, if its rest is so long: one of another kind is replaced. Each is asked for once.
local function take(value, subject, length)
  local held, at = value.held, value.next
  if #held == 0 then return nil end
  if string.sub(held, at, at + 7) ~= subject then
    if not value.used then
      value.used = {}
      local passed = 1
      while passed < at do
        value.used[passed] = true
        passed = passed + HEAD + string.byte(held, passed + HEAD - 1)
      end
    end
    at = find(held, subject, 1)
    if not at then return nil end
  end
  if value.used then value.used[at] = true end
  local found = string.byte(held, at + HEAD - 1)
  value.next = at + HEAD + found
  return found == length and at or nil
end

-- What is stored instead: the new limits, and the others that are not over.
local function close(value, now)
  local held, cells, used = value.held, value.cells, value.used
  local from = used and 1 or value.next
  while from < #held do
    local after = from + HEAD + string.byte(held, from + HEAD - 1)
    if not (used and used[from]) then
      local over = struct.unpack('<I8', held, from + 8)
      if over > now then
        cells[#cells + 1] = string.sub(held, from, after - 1)
        if over > value.furthest then value.furthest = over end
      end
    end
    from = after
  end
  return #cells == 1 and cells[1] or table.concat(cells)
end

-- A bucket after `weight` units: when it is full again, and for how long it does not hold them.
local function fill(value, subject, quota, period, weight, now)
  local whole, part = now, 0
  local at = take(value, subject, 8)
  if at then
    local held, held_part, parts = struct.unpack('<I8xI4I4', value.held, at + 8)
    if parts ~= quota and held_part > 0 then held, held_part = held + 1, 0 end
    if held >= now then whole, part = held, held_part end
  end
  local rest = part + weight * (period % quota)
  local after = whole + weight * math.floor(period / quota) + math.floor(rest / quota)
  rest = rest % quota
  local wait = after - now - period
  if rest > 0 then wait = wait + 1 end
  return whole, part, after, rest, wait
end

-- A window, as what was spent in each span that still counts, the place of the present one and its number.
local function look(value, subject, kind, period, now)
  local width = kind == 1 and math.ceil(period / (SPANS - 1)) or period
  local kept = kind == 1 and SPANS or 1
  local span = math.floor(now / width)
  local spans = {}
  local at = take(value, subject, 4 * kept)
  local newest = span
  if at then
    local over = struct.unpack('<I8', value.held, at + 8)
    newest = math.floor(over / width) - kept
    if kept == 1 then
      spans[0] = struct.unpack('<I4', value.held, at + HEAD)
    else
      local all = { struct.unpack('<' .. SIXTEEN, value.held, at + HEAD) }
      for place = 1, SPANS do spans[place - 1] = all[place] end
    end
  end
  if newest > span then span = newest end
  local spent = 0
  for back = 0, kept - 1 do
    local counted = span - back
    local place = counted % kept
    if counted > newest or counted <= newest - kept then spans[place] = 0 end
    spans[place] = spans[place] or 0
    spent = spent + spans[place]
  end
  return { spans = spans, span = span, width = width, kept = kept, spent = spent, held = at ~= nil }
end

-- When `weight` fits into a window: once enough of its oldest spans are over.
local function opens(window, weight, quota)
  local left = weight
  for back = 0, window.kept - 1 do
    left = left + window.spans[(window.span - back) % window.kept]
    if left > quota then return (window.span - back + window.kept) * window.width end
  end
  return 0
end

local function pack_window(subject, window)
  local over = (window.span + window.kept) * window.width
  if window.kept == 1 then return struct.pack('<c8I8I1I4', subject, over, 4, window.spans[0]), over end
  local spans = window.spans
  return struct.pack('<c8I8I1' .. SIXTEEN, subject, over, 64, spans[0], spans[1], spans[2], spans[3], spans[4],
    spans[5], spans[6], spans[7], spans[8], spans[9], spans[10], spans[11], spans[12], spans[13], spans[14], spans[15]),
    over
end

-- The same as `plan`, for the one bucket that many keys have and nothing else; nothing where more is stored.
local function plan_bucket(held, costs, now, charge)
  local whole, part, parts = now, 0, 0
  if #held == 25 and string.sub(held, 1, 8) == string.sub(costs, 1, 8) and string.byte(held, 17) == 8 then
    whole, part, parts = struct.unpack('<I8xI4I4', held, 9)
  elseif #held > 0 then
    return nil
  end
  local subject, quota, period, weight = struct.unpack('<c8xI4I8I4', costs)
  if parts ~= quota and part > 0 then whole, part = whole + 1, 0 end
  if whole < now then whole, part = now, 0 end
  local after, rest = whole, part
  if charge then
    rest = part + weight * (period % quota)
    after = whole + weight * math.floor(period / quota) + math.floor(rest / quota)
    rest = rest % quota
    local wait = after - now - period
    if rest > 0 then wait = wait + 1 end
    if weight > quota then wait = period end
    if weight > 0 and wait > 0 then
      return nil, { place = 0, wait = wait, never = weight > quota, ahead = whole - now, part = part }
    end
  end
  return {
    value = struct.pack('<c8I8I1I4I4', subject, after, 8, rest, quota),
    furthest = after,
    levels = struct.pack('<I1I8I4', 0, after - now, rest),
  }
end

-- What the costs of a request would leave of its limits: what to store, or which of them does not hold. A cost is its
-- subject, its kind (0 a bucket, 1 a sliding and 2 a fixed window; 4 more for the account's; 8 more in shadow), quota,
-- period and weight. Without `charge` it is only looked at.
local function plan(of_key, of_account, costs, count, now, charge)
  if count == 1 and string.byte(costs, 9) == 0 then
    local limits, over = plan_bucket(of_key or '', costs, now, charge)
    if limits or over then return limits, over end
  end
  local values = { open(of_key), open(of_account) }
  local levels, worst = {}, nil
  local at = 1
  for place = 1, count do
    local subject, kind, quota, period, weight
    subject, kind, quota, period, weight, at = struct.unpack('<c8I1I4I8I4', costs, at)
    local shadow, value = kind >= 8, values[1]
    if shadow then kind = kind - 8 end
    if kind >= 4 then kind, value = kind - 4, values[2] end
    local taken = charge and weight or 0
    local never = weight > quota
    local cell, over, beyond, level
    if kind == 0 then
      local whole, part, after, rest, wait = fill(value, subject, quota, period, taken, now)
      if taken > 0 and (never or wait > 0) then
        beyond = { wait = wait, ahead = whole - now, part = part }
        after, rest = whole, part
      end
      over = after
      cell = struct.pack('<c8I8I1I4I4', subject, after, 8, rest, quota)
      level = struct.pack('<I1I8I4', beyond and 1 or 0, after - now, rest)
    else
      local window = look(value, subject, kind, period, now)
      local spent = window.spent + taken
      if taken > 0 and spent > quota then
        beyond = { wait = never and 0 or opens(window, taken, quota) - now, ahead = window.spent, part = 0 }
        spent = window.spent
      else
        local here = window.span % window.kept
        window.spans[here] = window.spans[here] + taken
      end
      cell, over = pack_window(subject, window)
      level = struct.pack('<I1I8I4', beyond and 1 or 0, spent, 0)
    end
    if beyond and not shadow then
      beyond.place, beyond.never = place - 1, never
      if never then beyond.wait = period end
      if not worst or (never and not worst.never) or (never == worst.never and beyond.wait > worst.wait) then
        worst = beyond
      end
    end
    value.cells[#value.cells + 1] = cell
    if over > value.furthest then value.furthest = over end
    levels[place] = level
  end
  if worst then return nil, worst end
  return { levels = table.concat(levels), of_key = values[1], of_account = values[2] }
end

-- Stores what a plan left.
local function charge(limits, keys, now)
  if limits.value then
    redis.call('SET', keys[3], limits.value, 'PX', math.ceil((limits.furthest - now + SLACK) / 1000) + 1)
    return
  end
  local of_key, of_account = limits.of_key, limits.of_account
  if #of_key.cells > 0 then
    local value = close(of_key, now)
    redis.call('SET', keys[3], value, 'PX', math.ceil((of_key.furthest - now + SLACK) / 1000) + 1)
  end
  if #of_account.cells > 0 then
    redis.call('HSET', keys[4], 'limits', close(of_account, now))
    redis.call('PEXPIRE', keys[4], EPOCH_LIFE)
  end
end

-- Sees to it that a bucket outlives what was just put there, so many `fields`. False where the bucket was lost: it was
-- filled before, and is gone ahead of its time. What is known of its end is not asked for again.
local function outlive(generation, bucket, fields, keep_until, now)
  local filled = generations[generation].filled
  local until_then = filled[bucket]
  -- In steps, so that few records of a bucket move its end.
  local wanted = math.ceil((keep_until / 1000 + MARGIN) / STEP) * STEP
  local fresh = redis.call('HLEN', bucket) == fields
  if fresh then
    redis.call('PEXPIREAT', bucket, wanted)
    filled[bucket] = wanted
    return not (until_then and until_then * 1000 > now)
  end
  if not until_then or wanted > until_then then
    redis.call('PEXPIREAT', bucket, wanted, 'GT')
    filled[bucket] = wanted
  end
  return true
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
  -- Above the number of costs stand whether some are the key's and some the account's.
  local of_key, of_account = count % 128 >= 64, count >= 128
  count = count % 64
  local known
  if of_account then
    known = redis.call('HMGET', keys[4], key_tag, 'step', 'limits')
  else
    known = redis.call('HMGET', keys[4], key_tag, 'step')
  end
  if known[1] and tonumber(known[1]) > epoch then return struct.pack('<I1I8', STATUS.outdated, now) end
  local identity, nonce, record = args[2], args[3], args[4]
  local limits, refused, seen
  if step > 0 and known[2] and tonumber(known[2]) >= step then
    refused = struct.pack('<I1I8', STATUS.step_spent, now)
  elseif count > 0 then
    local over
    limits, over = plan(of_key and redis.call('GET', keys[3]), of_account and known[3], args[5], count, latest, true)
    if over then
      refused = struct.pack('<I1I8I1I8I8I4', STATUS.over, now, over.place, over.wait, over.ahead, over.part)
    end
  end
  if refused or #nonce > 0 then
    seen = redis.call('HGET', keys[2], identity)
    if not seen then
      if #nonce > 0 and redis.call('HEXISTS', keys[2], nonce) == 1 then return struct.pack('<I1I8', STATUS.seen, now) end
      if refused then return refused end
    end
  end
  if not seen and redis.call('HSETNX', keys[2], identity, record) == 0 then
    seen = redis.call('HGET', keys[2], identity)
  end
  if seen then
    -- The same token is our own retry: it was charged, and passes. Else only a read may repeat, on its own route.
    if seen == record then
      limits = plan(of_key and redis.call('GET', keys[3]), of_account and known[3], args[5], count, latest, false)
      return struct.pack('<I1I8I8', STATUS.new, now, latest) .. limits.levels
    end
    if may_repeat ~= 1 or string.sub(seen, 1, 2) ~= string.sub(record, 1, 2) then
      return struct.pack('<I1I8', STATUS.seen, now)
    end
    if refused then return refused end
  else
    if #nonce > 0 then redis.call('HSET', keys[2], nonce, record) end
    if not outlive(keys[1], keys[2], #nonce > 0 and 2 or 1, keep_until, now) then
      -- Evicted, or deleted by hand: nobody knows what else is.
      generations = {}
      return struct.pack('<I1I8', STATUS.unborn, now)
    end
  end
  if limits then charge(limits, keys, latest) end
  if step > 0 then
    redis.call('HSET', keys[4], 'step', string.format('%.0f', step))
    redis.call('PEXPIRE', keys[4], EPOCH_LIFE)
  end
  return struct.pack('<I1I8I8', STATUS.new, now, latest) .. (limits and limits.levels or '')
end

-- KEYS: generation, records. ARGV: identity, nonce or nothing, record. Forgets what this very call of ours recorded,
-- where it was not forwarded: another server of a quorum said no.
local function forget(keys, args)
  for place = 1, 2 do
    if #args[place] > 0 and redis.call('HGET', keys[2], args[place]) == args[3] then
      redis.call('HDEL', keys[2], args[place])
    end
  end
  local mine = generations[keys[1]]
  if mine and redis.call('EXISTS', keys[2]) == 0 then mine.filled[keys[2]] = nil end
  return ''
end

-- Gives back what was charged at a moment. All of it are windows, where what was spent is known by its span.
local function unspend(of_key, of_account, charged_at, costs)
  local values = {}
  local at = 1
  while at < #costs do
    local subject, kind, quota, period, weight
    subject, kind, quota, period, weight, at = struct.unpack('<c8I1I4I8I4', costs, at)
    kind = kind % 8
    local place = kind >= 4 and 2 or 1
    kind = kind % 4
    local value = values[place]
    if not value then
      value = open(place == 1 and redis.call('GET', of_key) or place == 2 and redis.call('HGET', of_account, 'limits'))
      values[place] = value
    end
    local window = kind > 0 and look(value, subject, kind, period, charged_at)
    if window and window.held then
      local span = math.floor(charged_at / window.width)
      if span > window.span - window.kept then
        local here = span % window.kept
        window.spans[here] = math.max(window.spans[here] - weight, 0)
      end
      value.cells[#value.cells + 1] = pack_window(subject, window)
    end
  end
  if values[1] and #values[1].cells > 0 then redis.call('SET', of_key, close(values[1], 0), 'KEEPTTL') end
  if values[2] and #values[2].cells > 0 then redis.call('HSET', of_account, 'limits', close(values[2], 0)) end
end

-- KEYS: records, limits, account. ARGV: identity, route, moment of the charge, costs. Gives back what a request was
-- charged, once: its record says whether that was done.
local function refund(keys, args)
  clock()
  local record = redis.call('HGET', keys[1], args[1])
  local given = args[2] .. GIVEN_BACK
  if not record or string.sub(record, 1, 2) ~= args[2] or record == given then return '' end
  redis.call('HSET', keys[1], args[1], given)
  local charged_at = struct.unpack('<I8', args[3])
  unspend(keys[2], keys[3], charged_at, args[4])
  return ''
end

-- KEYS: limits. ARGV: cost. What a gateway let run up of a limit that more accounts share: whether it fits, or when.
local function settle(keys, args)
  clock()
  local limits, over = plan(redis.call('GET', keys[1]), false, args[1], 1, latest, true)
  if over then return struct.pack('<I1I8', STATUS.over, over.wait) end
  charge(limits, { nil, nil, keys[1] }, latest)
  return struct.pack('<I1I8', STATUS.new, 0)
end

-- KEYS: account. ARGV: key, epoch. From now on what was known of the key under an earlier epoch counts no longer.
local function raise(keys, args)
  local held = redis.call('HGET', keys[1], args[1])
  if not held or tonumber(held) < tonumber(args[2]) then redis.call('HSET', keys[1], args[1], args[2]) end
  redis.call('PEXPIRE', keys[1], EPOCH_LIFE)
  return ''
end

-- KEYS: generations. ARGV: the gateway's moment, a name that was never used, the name it knows of or nothing, how many
-- keys the server has evicted, and in a cluster the epoch since which this server is the tags' primary: whoever was
-- one before, and another meanwhile, knows nothing of what that one recorded, whatever its memory says. Names the generations that are missing, all at once after a loss, so that the first
-- requests find them old enough. One begins when a gateway says that it knows of its name, which is after whatever was
-- lost. Tells the clock, the latest birth, and a name that nobody has confirmed yet.
local function wake(keys, args)
  local now = clock()
  local asked_at, name, known, gone = tonumber(args[1]), args[2], args[3], tonumber(args[4])
  local epoch = tonumber(args[5] or 0)
  if evicted and gone ~= evicted then generations = {} end
  evicted = gone
  if now > swept + SWEEP or now < swept then
    swept = now
    for _, generation in pairs(generations) do
      for bucket, until_then in pairs(generation.filled) do
        if until_then * 1000 < now then generation.filled[bucket] = nil end
      end
    end
  end
  local youngest, pending = 0, ''
  for place = 1, #keys do
    local key = keys[place]
    local held, mine = redis.call('GET', key), generations[key]
    local before = mine and mine.epoch or 0
    if not (held and mine and held == mine.name and epoch <= before) then
      mine = { name = name, filled = {}, epoch = math.max(epoch, before) }
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
redis.register_function('countersign_1_settle', settle)
redis.register_function('countersign_1_refund', refund)
redis.register_function('countersign_1_raise', raise)
redis.register_function('countersign_1_wake', wake)

-- Marks: what was accepted of the growing numbers of a key. A mark begins with the name of the generation that it belongs
-- to, so that one that came back from before a loss counts for nothing. Then comes either P and the token of whoever
-- asked first: as long as no gateway has said, for that token, up to which number all may have been accepted, nothing
-- is. Or M: the number up to which nothing passes, the one up to which it is not known what was accepted, and the last
-- ones accepted in ascending order, each with a print of its request and its record. A mark that is gone is asked for
-- anew. Numbers have 64 bits, which no double holds: they are compared in halves.
local MARK = { low = 7, unmarked = 8, marked = 9 }
local NUMBERS, ENTRY = 16, 24
-- How many numbers are remembered above the floor; and where there is no window, so that copies are told from others.
local REMEMBERED, REMEMBERED_TO_TELL = 64, 8
-- How long a mark that is not used is kept, in ms.
local MARK_LIFE = 2 * 86400000

local function less(high, low, than_high, than_low)
  return high < than_high or (high == than_high and low < than_low)
end

-- The kind of a mark of this generation and what follows it; nothing where there is none.
local function read_mark(held, name)
  if not held or string.sub(held, 1, #name) ~= name then return nil end
  return string.sub(held, #name + 1, #name + 1), string.sub(held, #name + 2)
end

local function write_mark(key, name, kind, rest)
  redis.call('SET', key, name .. kind .. rest, 'PX', MARK_LIFE)
end

-- Where the entry of this place lies.
local function entry_at(place)
  return NUMBERS + 1 + (place - 1) * ENTRY
end

-- A mark as its parts, with the highest number accepted.
local function open_mark(rest)
  local mark = { rest = rest, count = (#rest - NUMBERS) / ENTRY }
  mark.floor_high, mark.floor_low, mark.forgotten_high, mark.forgotten_low = struct.unpack('>I4I4I4I4', rest)
  mark.high, mark.low = mark.floor_high, mark.floor_low
  if mark.count > 0 then
    local high, low = struct.unpack('>I4I4', rest, entry_at(mark.count))
    if less(mark.high, mark.low, high, low) then mark.high, mark.low = high, low end
  end
  return mark
end

-- The place of the first entry whose number is not below this one; the place behind the last where there is none.
local function place_of(mark, high, low)
  local first, last = 1, mark.count + 1
  while first < last do
    local middle = math.floor((first + last) / 2)
    local its_high, its_low = struct.unpack('>I4I4', mark.rest, entry_at(middle))
    if less(its_high, its_low, high, low) then first = middle + 1 else last = middle end
  end
  return first
end

-- The number a window below the highest one.
local function lowest(mark, window_high, window_low)
  local high, low = mark.high - window_high, mark.low - window_low
  if low < 0 then high, low = high - 1, low + 4294967296 end
  if high < 0 then return 0, 0 end
  return high, low
end

-- What a mark says to a number: new, seen, low, or that it is our own retry; and its place among the entries.
local function weigh(mark, number, print, record)
  local high, low, window_high, window_low = struct.unpack('>I4I4I4I4', number)
  if less(mark.high, mark.low, high, low) then return STATUS.new, mark.count + 1 end
  local place = place_of(mark, high, low)
  if place <= mark.count then
    local at = entry_at(place)
    if string.sub(mark.rest, at, at + 7) == string.sub(number, 1, 8) then
      if string.sub(mark.rest, at + 8, at + 15) ~= print then return MARK.low end
      return string.sub(mark.rest, at + 16, at + 23) == record and 'ours' or STATUS.seen
    end
  end
  if not less(mark.forgotten_high, mark.forgotten_low, high, low) then return STATUS.seen end
  if not less(mark.floor_high, mark.floor_low, high, low) then return MARK.low end
  if less(high, low, lowest(mark, window_high, window_low)) then return MARK.low end
  return STATUS.new, place
end

-- What a mark is after a number that may pass. Whatever is then no longer remembered lies at or below its floor.
local function accept(mark, place, number, print, record)
  local high, low, window_high, window_low = struct.unpack('>I4I4I4I4', number)
  local at = entry_at(place)
  mark.rest = string.sub(mark.rest, 1, at - 1) .. string.sub(number, 1, 8) .. print .. record .. string.sub(mark.rest, at)
  mark.count = mark.count + 1
  if less(mark.high, mark.low, high, low) then mark.high, mark.low = high, low end
  local alone = window_high == 0 and window_low == 0
  local gone = alone and 0 or place_of(mark, lowest(mark, window_high, window_low)) - 1
  gone = math.max(gone, mark.count - (alone and REMEMBERED_TO_TELL or REMEMBERED))
  if gone > 0 then
    high, low = struct.unpack('>I4I4', mark.rest, entry_at(gone))
    if less(mark.floor_high, mark.floor_low, high, low) then mark.floor_high, mark.floor_low = high, low end
    if less(mark.forgotten_high, mark.forgotten_low, high, low) then
      mark.forgotten_high, mark.forgotten_low = high, low
    end
  end
  if alone then mark.floor_high, mark.floor_low = mark.high, mark.low end
  return struct.pack('>I4I4I4I4', mark.floor_high, mark.floor_low, mark.forgotten_high, mark.forgotten_low)
    .. string.sub(mark.rest, entry_at(gone + 1))
end

-- The token of whoever asked first for a mark that is not known, which is whoever asks now where there is none.
local function pending(key, name, kind, rest, token)
  if kind == 'P' then return rest end
  write_mark(key, name, 'P', token)
  return token
end

-- KEYS: generation, mark, limits, account. ARGV: head, identity, number and window, record, costs. The same as `spend`
-- for a request that signs a growing number and no time.
local function grow(keys, args)
  local now = clock()
  local fence, _, epoch, step, key_tag, _, count = struct.unpack('<I8I8I8I8c8I1I1', args[1])
  local born = birth(keys[1])
  if not born then return struct.pack('<I1I8', STATUS.unborn, now) end
  if fence <= born then return struct.pack('<I1I8I8', STATUS.fenced, now, born) end
  local of_key, of_account = count % 128 >= 64, count >= 128
  count = count % 64
  local known = redis.call('HMGET', keys[4], key_tag, 'step', 'limits')
  if known[1] and tonumber(known[1]) > epoch then return struct.pack('<I1I8', STATUS.outdated, now) end
  local name = generations[keys[1]].name
  local kind, rest = read_mark(redis.call('GET', keys[2]), name)
  if kind ~= 'M' then
    local told = pending(keys[2], name, kind, rest, string.sub(args[4], 3))
    return struct.pack('<I1I8c6', MARK.unmarked, now, told)
  end
  local mark, print = open_mark(rest), string.sub(args[2], 1, 8)
  local said, place = weigh(mark, args[3], print, args[4])
  local ours = said == 'ours'
  if not ours and said ~= STATUS.new then return struct.pack('<I1I8', said, now) end
  if not ours and step > 0 and known[2] and tonumber(known[2]) >= step then
    return struct.pack('<I1I8', STATUS.step_spent, now)
  end
  local limits, over
  if count > 0 then
    local held = of_key and redis.call('GET', keys[3])
    limits, over = plan(held, of_account and known[3], args[5], count, latest, not ours)
    if over then
      return struct.pack('<I1I8I1I8I8I4', STATUS.over, now, over.place, over.wait, over.ahead, over.part)
    end
  end
  if not ours then
    write_mark(keys[2], name, 'M', accept(mark, place, args[3], print, args[4]))
    if limits then charge(limits, keys, latest) end
    if step > 0 then
      redis.call('HSET', keys[4], 'step', string.format('%.0f', step))
      redis.call('PEXPIRE', keys[4], EPOCH_LIFE)
    end
  end
  return struct.pack('<I1I8I8', STATUS.new, now, latest) .. (limits and limits.levels or '')
end

-- KEYS: generation, mark. ARGV: a token; and the token that was told before and up to which number all may have been
-- accepted, or nothing. If the mark is known, up to where it is not known what was accepted; if not, the token that says
-- since when.
local function ask_mark(keys, args)
  local now = clock()
  if not birth(keys[1]) then return struct.pack('<I1I8', STATUS.unborn, now) end
  local name = generations[keys[1]].name
  local kind, rest = read_mark(redis.call('GET', keys[2]), name)
  if kind == 'P' and rest == args[2] then
    local floor = args[3] .. args[3]
    write_mark(keys[2], name, 'M', floor)
    kind, rest = 'M', floor
  end
  if kind == 'M' then
    local mark = open_mark(rest)
    return struct.pack('<I1I8I4I4', MARK.marked, now, mark.forgotten_low, mark.forgotten_high)
  end
  return struct.pack('<I1I8c6', MARK.unmarked, now, pending(keys[2], name, kind, rest, args[1]))
end

-- KEYS: generation, mark. ARGV: the entry. Forgets a number that this very call of ours had accepted, where it was not
-- forwarded: another server of a quorum said no. The floor stays.
local function forget_number(keys, args)
  local mine = generations[keys[1]]
  local kind, rest = read_mark(redis.call('GET', keys[2]), mine and mine.name or '\0')
  if kind ~= 'M' then return '' end
  local mark = open_mark(rest)
  local place = place_of(mark, struct.unpack('>I4I4', args[1]))
  local at = entry_at(place)
  if place <= mark.count and string.sub(rest, at, at + ENTRY - 1) == args[1] then
    write_mark(keys[2], mine.name, 'M', string.sub(rest, 1, at - 1) .. string.sub(rest, at + ENTRY))
  end
  return ''
end

-- KEYS: generation, mark, limits, account. ARGV: number and print, route, moment of the charge, costs. The same as `refund`
-- for a request with a growing number, as long as that is among the last ones.
local function refund_number(keys, args)
  clock()
  local mine = generations[keys[1]]
  local kind, rest = read_mark(redis.call('GET', keys[2]), mine and mine.name or '\0')
  if kind ~= 'M' then return '' end
  local mark = open_mark(rest)
  local place = place_of(mark, struct.unpack('>I4I4', args[1]))
  local at = entry_at(place)
  if place > mark.count or string.sub(rest, at, at + 15) ~= args[1] then return '' end
  local record, given = string.sub(rest, at + 16, at + 23), args[2] .. GIVEN_BACK
  if string.sub(record, 1, 2) ~= args[2] or record == given then return '' end
  write_mark(keys[2], mine.name, 'M', string.sub(rest, 1, at + 15) .. given .. string.sub(rest, at + 24))
  local charged_at = struct.unpack('<I8', args[3])
  unspend(keys[3], keys[4], charged_at, args[4])
  return ''
end

redis.register_function('countersign_1_grow', grow)
redis.register_function('countersign_1_mark', ask_mark)
redis.register_function('countersign_1_forget_number', forget_number)
redis.register_function('countersign_1_refund_number', refund_number)
