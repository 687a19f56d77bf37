-- wrk -s requests.lua URL -- FIRST FILE...
-- Sends the raw requests of the files in turn. A row of eight zeros in one of them becomes a number that counts up from
-- FIRST, so that no two prompts are alike and no cache of encoded texts answers for the tokenizer.
local requests = {}
local number = 0

function init(args)
  number = tonumber(args[1])
  for place = 2, #args do
    local file = assert(io.open(args[place], "rb"))
    local text = file:read("*a")
    file:close()
    local from, to = text:find("00000000", 1, true)
    if from then
      requests[#requests + 1] = { text:sub(1, from - 1), text:sub(to + 1) }
    else
      requests[#requests + 1] = { text }
    end
  end
end

function request()
  number = number + 1
  local parts = requests[number % #requests + 1]
  if parts[2] then
    return parts[1] .. string.format("%08d", number) .. parts[2]
  end
  return parts[1]
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests":%d,"seconds":%f,"bytes":%d,"p50_ms":%f,"p99_ms":%f,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration / 1e6, summary.bytes,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
