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
