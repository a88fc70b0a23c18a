"""Each alert: what it is for is broken, the alert arrives at Alertmanager, it is mended, the alert goes. In the end: how long."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager

import pytest
from conftest import DIRECTORY, SCENARIO, STATE, address_of, alerts, seconds_until
from fleet import REPOSITORY, small_disk

LIMIT_S = 240
TIMES = {}
PLACE = "http://127.0.0.1:8081/models/demo"

# Runs on a host: a server of a file that breaks off behind its first piece.
BREAKS_OFF = """
import http.server, re
data = bytes(12 << 20)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        found = re.match(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("Range", ""))
        first, last = (int(found[1]), min(int(found[2] or len(data)), len(data) - 1)) if found else (0, len(data) - 1)
        body = b"" if first else data[first : last + 1]
        self.send_response(500 if first else 206 if found else 200)
        if found and not first: self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET": self.wfile.write(body)
    do_HEAD = do_GET
http.server.ThreadingHTTPServer(("0.0.0.0", 8901), Handler).serve_forever()
"""

# Runs on a host: asks as long as its file is there.
ASKS = """
import json, os, time, urllib.error, urllib.request
key = json.load(open("/var/lib/torchserve/key_file.json"))["inference"]["key"]
while os.path.exists("/run/asking"):
    request = urllib.request.Request("http://127.0.0.1:8080/predictions/demo", b"{}", {"Authorization": "Bearer " + key})
    try:
        urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError:
        pass
    time.sleep(0.5)
"""

# Runs on a host: downloads, a few at a time, what breaks off.
DOWNLOADS = """
number=0
while true; do
    for _ in 1 2 3 4; do
        number=$((number + 1))
        timeout 60 /opt/dragonfly/client/current/dfget --no-progress "$0/$number.bin" -O "/var/lib/modelfleet/incoming/broken-$number" &
    done
    wait
done
"""


# What breaks a fleet, each for as long as the block lasts


@contextmanager
def stopped(host, *units):
    host.check_output("systemctl stop " + " ".join(units))
    try:
        yield
    finally:
        host.check_output("systemctl start " + " ".join(units))


@contextmanager
def changed(host, path, change, *before):
    """A file with other content, by a program of Python that has its text as ``text``; ``before`` are commands that follow."""
    host.check_output("cp -a %s /run/kept", path)
    program = f"import sys; path = sys.argv[1]; text = open(path).read()\n{change}\nopen(path, 'w').write(text)"
    try:
        host.check_output("python3 -c %s %s", program, path)
        for command in before:
            host.check_output(command)
        yield
    finally:
        host.check_output("cp -a /run/kept %s", path)


@contextmanager
def no_targets(fleet):
    with changed(fleet["watch-1"], f"{DIRECTORY}/targets.json", "text = '[]'"):
        yield


@contextmanager
def no_workers(fleet):
    host = fleet["gpu-1"]
    assert host.request("PUT", f"{PLACE}?min_worker=0&max_worker=0&synchronous=true")[0] == 200
    try:
        yield
    finally:
        assert host.request("PUT", f"{PLACE}?min_worker=1&max_worker=1&synchronous=true")[0] == 200


@contextmanager
def failing_requests(fleet):
    """Nobody works on what is asked: TorchServe answers 503."""
    host = fleet["gpu-2"]
    assert host.request("PUT", f"{PLACE}?min_worker=0&max_worker=0&synchronous=true")[0] == 200
    host.check_output("touch /run/asking")
    host.check_output("systemd-run --quiet --unit asking python3 -c %s", ASKS)
    try:
        yield
    finally:
        host.check_output("rm /run/asking")
        assert host.request("PUT", f"{PLACE}?min_worker=1&max_worker=1&synchronous=true")[0] == 200


@contextmanager
def wrong_answer(fleet):
    """The host believes that another answer is the right one, which it asks for at once."""
    change = "import json\nchecks = json.loads(text)\nchecks[0]['expected'] = {'y': [17.0]}\ntext = json.dumps(checks)"
    with changed(fleet["gpu-3"], "/etc/modelfleet-monitoring/checks.json", change, "rm -f /var/lib/modelfleet-metrics/answers.json"):
        yield


@contextmanager
def worker_on_cpu(fleet):
    """By its record it must use a GPU, of which the lab has none."""
    with changed(fleet["gpu-1"], f"{STATE}/models.json", 'text = text.replace(\'"device": "cpu"\', \'"device": "gpu"\')'):
        yield


@contextmanager
def short_certificate(fleet, play):
    """One that was issued for ten days, and nobody renewed."""
    issued = REPOSITORY / ".cache" / SCENARIO.lab_name / "pki/hosts/gpu-2.pem"
    issued.unlink()
    play("site", "--limit", "gpu-2", "--tags", "dfdaemon,monitoring", modelfleet_pki_days=10, modelfleet_pki_renew_days=5)
    try:
        yield
    finally:
        play("site", "--limit", "gpu-2", "--tags", "dfdaemon,monitoring")


@contextmanager
def stuck_rollout(fleet):
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 9000))
    lock = json.dumps({"run": "x", "user": "anna", "controller": "elsewhere", "pid": 1, "since": since})
    host = fleet["gpu-3"]
    host.check_output("python3 -c %s %s %s", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", f"{STATE}/rollout.lock", lock)
    try:
        yield
    finally:
        host.check_output("rm %s", f"{STATE}/rollout.lock")


@contextmanager
def damaged_record(fleet):
    with changed(fleet["gpu-1"], f"{STATE}/models.json", "text = '{'"):
        yield


@contextmanager
def downloads_that_break_off(fleet):
    server, host = fleet["seed-1"], fleet["gpu-2"]
    server.check_output("systemd-run --quiet --unit breaks-off python3 -c %s", BREAKS_OFF)
    host.check_output("systemd-run --quiet --unit downloading sh -c %s %s", DOWNLOADS, f"http://{address_of(12)}:8901")
    try:
        yield
    finally:
        host.check_output("systemctl stop downloading")
        server.check_output("systemctl stop breaks-off")


@contextmanager
def full_disk(fleet):
    host = fleet["seed-1"]
    with small_disk(host, "256m", "dfdaemon"):
        host.check_output("dd if=/dev/zero of=/var/lib/modelfleet/other bs=1M count=246")
        yield


BREAKAGES = [
    ("ModelFleetNotWatched", "", lambda fleet, play: no_targets(fleet)),
    ("ModelFleetHostUnreachable", "gpu-3", lambda fleet, play: stopped(fleet["gpu-3"], "modelfleet-monitoring")),
    ("ModelFleetDaemonDown", "seed-1", lambda fleet, play: stopped(fleet["seed-1"], "dfdaemon")),
    ("ModelFleetModelNotReady", "gpu-1", lambda fleet, play: no_workers(fleet)),
    ("ModelFleetWrongAnswer", "gpu-3", lambda fleet, play: wrong_answer(fleet)),
    ("ModelFleetWorkerOnCpu", "gpu-1", lambda fleet, play: worker_on_cpu(fleet)),
    ("ModelFleetCertificateExpires", "gpu-2", lambda fleet, play: short_certificate(fleet, play)),
    ("ModelFleetRolloutStuck", "gpu-3", lambda fleet, play: stuck_rollout(fleet)),
    ("ModelFleetLookFailed", "gpu-1", lambda fleet, play: damaged_record(fleet)),
    ("ModelFleetInferenceFails", "gpu-2", lambda fleet, play: failing_requests(fleet)),
    ("ModelFleetDownloadsFail", "gpu-2", lambda fleet, play: downloads_that_break_off(fleet)),
    ("ModelFleetDiskFull", "seed-1", lambda fleet, play: full_disk(fleet)),
]


@pytest.mark.parametrize(("alert", "host", "breakage"), BREAKAGES, ids=[one[0] for one in BREAKAGES])
def test_an_alert_arrives_and_goes(fleet, watch, play, alert, host, breakage):
    assert (alert, host) not in alerts(watch)
    with breakage(fleet, play):
        arrived = seconds_until(lambda: (alert, host) in alerts(watch), f"{alert} to arrive", LIMIT_S)
        found = alerts(watch)[alert, host]
        assert found["severity"] in ("critical", "warning")
    gone = seconds_until(lambda: (alert, host) not in alerts(watch), f"{alert} to go", LIMIT_S)
    TIMES[alert] = (host or "watch-1", arrived, gone)


def test_every_alert_was_seen(watch, capsys):
    """And a table for who reads the log."""
    lines = [f"{alert:32}{host:12}{arrived:8.1f} s{gone:8.1f} s" for alert, (host, arrived, gone) in TIMES.items()]
    with capsys.disabled():
        print("\n".join(["", f"{'alert':32}{'broken':12}{'arrived':>10}{'gone':>10}", *lines]))
    rules = watch.check_output("grep -o 'alert: .*' /etc/prometheus/modelfleet/rules.yml").split("\n")
    assert {line.removeprefix("alert: ") for line in rules} == set(TIMES) == {one[0] for one in BREAKAGES}
