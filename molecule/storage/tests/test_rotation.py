"""A rotated key: one run, no restart, nobody interrupted. Runs first, on the fleet as it converged with the lab's usual key."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

from conftest import CONFIG, SCENARIO, play, recap
from fleet import DAEMON_HOSTS, GPU_HOSTS, Host, only_in_all, wait_until

UNITS = {"scheduler-1": ["dragonfly-scheduler"], "seed-1": ["dfdaemon"], **{name: ["dfdaemon", "torchserve"] for name in GPU_HOSTS}}

# What the store's owner does once the new key is everywhere.
RETIRE = """
import json, sys
path = "/etc/modelfleet-origin/config.json"
config = json.load(open(path))
config["s3"]["keys"] = [key for key in config["s3"]["keys"] if key["access_key"] != sys.argv[1]]
open(path, "w").write(json.dumps(config))
"""


@only_in_all
def test_a_rotated_key_restarts_nothing(fleet, origin, put):
    host = fleet["gpu-1"]
    old = json.loads(host.check_output("cat %s", CONFIG))["object_storage"]["access_key"]
    pids = {(name, unit): fleet[name].main_pid(unit) for name in DAEMON_HOSTS for unit in UNITS[name]}

    # A request that began with the old key, and takes as long as the run.
    slow = "rotation/slow.mar"
    digest = put(slow, name="slow", version=str(time.time()))  # content that no peer holds from a run before
    origin.fault(slow, method="GET", slow=15_000)
    with ThreadPoolExecutor(1) as pool:
        in_flight = pool.submit(lambda: (*host.register(slow, sha256=digest, initial_workers=0), time.time()))
        wait_until(lambda: origin.bytes_sent(slow) > 15_000, "the slow request on its way", seconds=60)
        finished = play("rotation-site", "playbooks/site.yml", "-e", f"@{SCENARIO.directory}/stores/s3.yml")
        assert finished.returncode == 0, finished.stdout[-3000:]
        new = json.loads(host.check_output("cat %s", CONFIG))["object_storage"]["access_key"]
        origin.heal()
        status, answer, finished_at = in_flight.result(timeout=300)
    assert new != old
    assert status == 200, answer
    assert float(host.check_output("stat -c %%Y %s", CONFIG)) < finished_at, "the key was to change during the request"
    assert host.unregister("slow")[0] == 200

    changed = {name: counts["changed"] for name, counts in recap(finished).items() if name in DAEMON_HOSTS}
    assert changed == {"scheduler-1": 0, "seed-1": 0, "gpu-1": 1, "gpu-2": 1, "gpu-3": 1}
    assert {(name, unit): fleet[name].main_pid(unit) for name in DAEMON_HOSTS for unit in UNITS[name]} == pids

    store = Host(SCENARIO.lab_name, "origin")
    store.check_output("python3 -c %s %s", RETIRE, old)
    store.check_output("systemctl restart modelfleet-origin")
    wait_until(lambda: origin.call("GET", "/health"), "the origin without the old key")
    digest = put("rotation/next.mar", name="next", version=str(time.time()))
    status, answer = host.register("rotation/next.mar", sha256=digest, initial_workers=0)
    assert status == 200, answer
    assert host.unregister("next")[0] == 200
