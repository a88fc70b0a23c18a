"""How hosts go, and monitoring with them. Last, since nothing is watched afterwards."""

from __future__ import annotations

import json

from conftest import DIRECTORY, QUICK, alerts, targets
from fleet import GPU_HOSTS, recap, wait_until


def test_a_rotation_of_the_authority_leaves_no_page_unread(watch, play):
    play("rotate_certificates")
    wait_until(lambda: all(one["health"] == "up" for one in targets(watch)), "every page to be read again", 120)
    watch.check_output("sh -c %s", QUICK)


def test_a_host_that_leaves_is_watched_no_more(watch, play):
    play("remove_host", modelfleet_remove_hosts="gpu-3", modelfleet_uninstall_confirm=True)
    wait_until(lambda: "gpu-3" not in {one["labels"]["instance"] for one in targets(watch)}, "Prometheus to forget gpu-3", 60)
    wait_until(lambda: ("ModelFleetHostUnreachable", "gpu-3") not in alerts(watch), "its alerts to go", 120)
    assert "gpu-3" not in json.dumps(json.loads(watch.check_output("cat %s", f"{DIRECTORY}/targets.json")))


def test_uninstalled(fleet, watch, play):
    """With what it wrote on the host of Prometheus, whose own files stay."""
    play("uninstall", modelfleet_uninstall_confirm=True)
    for name in ("scheduler-1", "seed-1", *GPU_HOSTS):
        host = fleet[name]
        assert host.run("systemctl cat modelfleet-monitoring modelfleet-metrics.timer").rc != 0
        places = [
            *(f"/{one}/modelfleet-monitoring" for one in ("etc", "opt")),
            *(f"/{one}/modelfleet-metrics" for one in ("run", "var/lib")),
        ]
        assert host.run("ls -d " + " ".join(places)).stdout == ""
        assert host.run("getent passwd modelfleet-monitoring modelfleet-metrics").stdout == ""
    assert watch.run("ls -d %s", DIRECTORY).rc != 0 and watch.active("prometheus")
    again = recap(play("uninstall", modelfleet_uninstall_confirm=True))
    assert {name: row["changed"] for name, row in again.items()} == dict.fromkeys(again, 0)
