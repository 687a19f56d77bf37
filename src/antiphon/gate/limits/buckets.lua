-- Token buckets on a Valkey or Redis server; the rules are told in buckets.py, the numbers are the same units.
-- One call is one operation on all its buckets, and nothing else runs meanwhile.
--
-- KEYS      the buckets' names
-- ARGV[1]   'take' or 'settle'; then for each bucket
--   take    limit, amount, needs
--   settle  limit, amount held, tokens used, where the hold ends, when it was taken, which life of the bucket it is of
-- Answers   take: whether it fitted (1 or 0) and the time; then for each bucket its deficit, where the hold ends, and
--           the bucket's life
--
-- A bucket is stored as "deficit served at limit born". A key outlives the moment when its bucket is full by a minute
-- and is then forgotten: a full bucket is one that nobody needs to remember.

local UNITS = 60000
local KEPT_MS = 60000
-- Up to 2^53 doubles are exact integers. `served` starts anew before that; holds then end in another life.
local MOST_SERVED = 4e15

local function read(key, limit, now)
  local stored = redis.call('GET', key)
  if not stored then
    return { deficit = 0, served = 0, at = now, limit = limit, born = now }
  end
  local deficit, served, at, old, born = string.match(stored, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  local b = { deficit = tonumber(deficit), served = tonumber(served), at = tonumber(at), limit = tonumber(old),
              born = tonumber(born) }
  if now > b.at then
    local refilled = math.min((now - b.at) * b.limit, b.deficit)
    b.deficit, b.served, b.at = b.deficit - refilled, b.served + refilled, now
  end
  if b.served > MOST_SERVED then
    b.served, b.born = 0, now
  end
  return b
end

-- Only who takes decides what the limit is: a hold that is settled may be from before it was changed.
local function rescale(b, limit, now)
  if b.limit ~= limit then
    if b.limit > 0 then
      b.deficit = math.ceil(b.deficit * (limit / b.limit))
    else
      b.deficit = math.min(b.deficit, limit * UNITS)
    end
    b.limit, b.served, b.born = limit, 0, now
  end
end

local function write(key, b)
  local kept = KEPT_MS
  if b.limit > 0 then
    kept = kept + math.ceil(b.deficit / b.limit)
  else
    kept = kept * 1440
  end
  local text = string.format('%.0f %.0f %.0f %.0f %.0f', b.deficit, b.served, b.at, b.limit, b.born)
  redis.call('SET', key, text, 'PX', string.format('%.0f', kept))
end

local function take(now)
  local found, fits = {}, true
  for i, key in ipairs(KEYS) do
    local limit, amount, needs = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
    local wanted = math.max(amount, needs)
    found[i] = read(key, limit, now)
    rescale(found[i], limit, now)
    if wanted > 0 and found[i].deficit > (limit - wanted) * UNITS then
      fits = false
    end
  end
  local answer = { fits and 1 or 0, now }
  for i, key in ipairs(KEYS) do
    local b, amount = found[i], tonumber(ARGV[3 * i])
    if fits and amount > 0 then
      b.deficit = b.deficit + amount * UNITS
      write(key, b)
    end
    table.insert(answer, b.deficit)
    table.insert(answer, b.served + b.deficit)
    table.insert(answer, b.born)
  end
  return answer
end

local function settle(now)
  for i, key in ipairs(KEYS) do
    local at = 6 * i - 4
    local limit, held, used = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
    local hold_end, taken, born = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
    local b = read(key, limit, now)
    if used > held then
      b.deficit = b.deficit + (used - held) * UNITS
      write(key, b)
    elseif b.born == born and b.limit == limit then
      local queued = math.max(hold_end - b.served, held * UNITS - (now - taken) * limit, 0)
      local back = math.min((held - used) * UNITS, queued, b.deficit)
      b.deficit, b.served = b.deficit - back, b.served + back
      write(key, b)
    end
  end
  return 1
end

local now = NOW_MS
if ARGV[1] == 'take' then
  return take(now)
end
return settle(now)
