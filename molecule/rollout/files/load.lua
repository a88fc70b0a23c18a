-- For wrk: the known input of the demo model all the time, and a line for each answer: seconds, status, server, answer.
local input = io.open("/root/input.json"):read("*a")
local log = io.open("/root/answers.log", "a")

wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = input

-- Milliseconds between two requests of a connection: steady, and less than two cores can do.
function delay()
    return 200
end

-- HAProxy sends the names of headers in small letters.
function response(status, headers, body)
    log:write(os.time(), " ", status, " ", headers["x-server"] or "-", " ", (body:gsub("%s", "")), "\n")
    log:flush()
end

-- At the end, what had no answer: connections that were refused or broke, by what wrk was about to do with them.
function done(summary, latency, requests)
    local lost = io.open("/root/lost.log", "w")
    lost:write(summary.errors.connect, " ", summary.errors.read, " ", summary.errors.write, "\n")
    lost:close()
end
