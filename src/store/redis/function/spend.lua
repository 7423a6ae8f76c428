
-- What both kinds of requests say first, in their one argument: the fence, until when it is good, its key as `is_outdated`
-- has it, what holds of it, how many costs it has, its identity and its record, which is its route and the call's token.
local HEAD = '<I8I8c16I1I1c14c8'
-- What may hold of it: it may repeat on its route, or the step of a second factor follows.
local MAY_REPEAT, HAS_STEP = 1, 2
-- What stands in a record instead of a call's token once its charge was given back.
local GIVEN_BACK = '\0\0\0\0\0\0'

local function step_is_spent(account, step)
  return tonumber(call('HGET', account, 'step') or 0) >= step
end

local function spend_step(account, step)
  call('HSET', account, 'step', string.format('%.0f', step))
  call('PEXPIRE', account, ACCOUNT_LIFE)
end

-- KEYS: generation, records of two seconds, account, and where it has a nonce that one's: other content may come under it
-- that was signed at another time, whose records lie elsewhere. ARGV: head, step, and costs.
local function spend(keys, args)
  local packed, bucket, account = args[1], keys[2], keys[3]
  local mine, now, is_old = find(keys[1], bucket)
  if not mine then return pack('<I1I8', UNBORN, now) end
  local fence, keep_until, key, flags, count, identity, record, at = read(HEAD, packed)
  local born = mine.born
  if born >= fence then
    return pack('<I1I8I8', FENCED, now, born)
  end
  if is_outdated(mine, account, key) then return pack('<I1I8', OUTDATED, now) end
  local nonce, step, refused, seen = keys[4]
  if flags >= HAS_STEP then step, at = read('<I8', packed, at) end
  if step and step_is_spent(account, step) then
    refused = pack('<I1I8', STEP_SPENT, now)
  elseif count > 0 then
    local said = plan(mine.limits, packed, at, count, latest)
    if said then refused = refusal(now, said, mine.limits, packed, at, count) end
  end
  if refused or nonce then
    seen = call('HGET', bucket, identity)
    if not seen then
      if nonce and call('EXISTS', nonce) == 1 then return pack('<I1I8', SEEN, now) end
      if refused then return refused end
    end
  end
  if not seen and call('HSETNX', bucket, identity, record) == 0 then seen = call('HGET', bucket, identity) end
  if not seen then
    if nonce then call('SET', nonce, record, 'PXAT', ceil(keep_until / 1000 + MARGIN)) end
    outlive(mine, bucket, is_old, keep_until)
  elseif seen == record then
    -- The same token is our own retry: it was charged, and passes.
    plan(mine.limits, packed, at, count, latest, true)
    return passes(now, count)
  elseif flags % HAS_STEP < MAY_REPEAT or sub(seen, 1, 2) ~= sub(record, 1, 2) then
    -- Only a read may repeat, on its own route.
    return pack('<I1I8', SEEN, now)
  elseif refused then
    return refused
  end
  if count > 0 then charge(mine, count) end
  if step then spend_step(account, step) end
  return passes(now, count)
end

-- KEYS: generation, records, nonce if it has one. ARGV: identity, record, whether that stays, what was said to it, and costs.
-- Takes back what this very call of ours charged, where it was not forwarded: another server of a quorum said no. Its
-- record stays where it is a copy of what passed, and goes where it may come again.
local function forget(keys, args)
  clock()
  local mine, is_ours = generations[keys[1]], call('HGET', keys[2], args[1]) == args[2]
  if is_ours and mine then undo(mine, args[5], args[4]) end
  if #args[3] > 0 then
    if is_ours then call('HSET', keys[2], args[1], sub(args[2], 1, 2) .. GIVEN_BACK) end
    return ''
  end
  if is_ours then call('HDEL', keys[2], args[1]) end
  if keys[3] and call('GET', keys[3]) == args[2] then call('DEL', keys[3]) end
  if mine and call('EXISTS', keys[2]) == 0 then mine.filled[keys[2]] = nil end
  return ''
end

-- KEYS: generation, records. ARGV: identity, route, moment of the charge, costs. Gives back what a request was charged,
-- once: its record says whether that was done.
local function refund(keys, args)
  clock()
  local mine = generations[keys[1]]
  local record = call('HGET', keys[2], args[1])
  local given = args[2] .. GIVEN_BACK
  if not mine or not record or sub(record, 1, 2) ~= args[2] or record == given then return '' end
  call('HSET', keys[2], args[1], given)
  unspend(mine, read('<I8', args[3]), args[4])
  return ''
end

redis.register_function('countersign_2_spend', spend)
redis.register_function('countersign_2_forget', forget)
redis.register_function('countersign_2_refund', refund)
