-- Accounts of spend budgets on a Valkey or Redis server; the rules are told in accounts.py. Amounts are nano-dollars.
-- One call is one operation on all its accounts, and nothing else runs meanwhile.
--
-- KEYS      two for each account: a hash with `spent`, `reserved` and, while it is unknown, `early`; and a sorted set of
--           what is reserved, "id:bound" by the time at which a reservation that nobody settles is given up
-- ARGV[1]   the operation, and then
--   reserve  id, bound, milliseconds until it is given up; for each account its amount, or '' where there is no limit
--   settle   id, bound, cost, 1 if it was tried before; for each account whether it holds the bound
--   open     for each account how long it is kept, in milliseconds
--   fill     for each account what was spent
-- Answers   reserve: 1 if it is reserved, else 0; then for each account 1 where it fits, 0 where it does not, and -1
--           where it is unknown
--
-- Sums are made by the server's own whole numbers. Doubles, the script's only numbers, are for comparing: below 2^53
-- they are exact, and no amount and no bound is more than 4 * 10^15.

local function number(key, field)
  return tonumber(redis.call('HGET', key, field) or '0')
end

-- Give up what nobody has settled: whoever reserved it has died.
local function clean(account, held, now)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', held, '-inf', now)) do
    redis.call('ZREM', held, member)
    redis.call('HINCRBY', account, 'reserved', '-' .. string.match(member, ':(%d+)$'))
  end
end

local function reserve(now)
  local member, bound = ARGV[2] .. ':' .. ARGV[3], tonumber(ARGV[3])
  local answer = { 1 }
  for i = 1, #KEYS, 2 do
    local account, amount, fits = KEYS[i], ARGV[5 + (i - 1) / 2], 1
    if redis.call('HEXISTS', account, 'spent') == 0 then
      fits = -1
    elseif amount ~= '' then
      clean(account, KEYS[i + 1], now)
      local spent, reserved, most = number(account, 'spent'), number(account, 'reserved'), tonumber(amount)
      if spent + reserved + bound > most and not (reserved == 0 and spent < most) then
        fits = 0
      end
    end
    if fits ~= 1 then
      answer[1] = 0
    end
    table.insert(answer, fits)
  end
  if answer[1] == 1 then
    for i = 1, #KEYS, 2 do
      redis.call('ZADD', KEYS[i + 1], string.format('%.0f', now + tonumber(ARGV[4])), member)
      redis.call('HINCRBY', KEYS[i], 'reserved', ARGV[3])
      redis.call('PEXPIRE', KEYS[i + 1], redis.call('PTTL', KEYS[i]))
    end
  end
  return answer
end

local function settle()
  local member, cost, again = ARGV[2] .. ':' .. ARGV[3], ARGV[4], ARGV[5] == '1'
  for i = 1, #KEYS, 2 do
    local account, held = KEYS[i], ARGV[6 + (i - 1) / 2] == '1'
    local found = held and redis.call('ZREM', KEYS[i + 1], member) == 1
    local known = redis.call('HEXISTS', account, 'spent') == 1
    if found and known then
      redis.call('HINCRBY', account, 'reserved', '-' .. ARGV[3])
    end
    -- Where an earlier try got no answer and the reservation is gone, that try has run.
    if not (held and again and not found) then
      if known then
        redis.call('HINCRBY', account, 'spent', cost)
      elseif redis.call('HEXISTS', account, 'early') == 1 then
        redis.call('HINCRBY', account, 'early', cost)
      end
    end
  end
  return 1
end

local function open()
  for i = 1, #KEYS, 2 do
    if redis.call('EXISTS', KEYS[i]) == 0 then
      redis.call('HSET', KEYS[i], 'early', '0')
      redis.call('PEXPIRE', KEYS[i], ARGV[2 + (i - 1) / 2])
    end
  end
  return 1
end

local function fill()
  for i = 1, #KEYS, 2 do
    local account, spent = KEYS[i], ARGV[2 + (i - 1) / 2]
    if redis.call('HEXISTS', account, 'spent') == 1 then
      if tonumber(spent) > number(account, 'spent') then
        redis.call('HSET', account, 'spent', spent)
      end
    elseif redis.call('HEXISTS', account, 'early') == 1 then
      redis.call('HSET', account, 'spent', spent)
      redis.call('HINCRBY', account, 'spent', redis.call('HGET', account, 'early'))
      redis.call('HDEL', account, 'early')
    end
  end
  return 1
end

local operation = ARGV[1]
if operation == 'reserve' then
  return reserve(NOW_MS)
elseif operation == 'settle' then
  return settle()
elseif operation == 'open' then
  return open()
end
return fill()
