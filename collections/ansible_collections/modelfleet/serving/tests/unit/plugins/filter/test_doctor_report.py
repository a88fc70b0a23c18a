# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet that is well, and what is said when one thing of it is broken: the thing itself, its cause and its remedy, and nothing else."""

from __future__ import annotations

import copy
import re

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.doctor_report import doctor_report, doctor_table
from ansible_collections.modelfleet.serving.plugins.filter.fleet_report import fleet_report
from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_findings import parted

JOBS = {"scheduler": ["scheduler-1"], "seed": ["seed-1"], "gpu": ["gpu-1", "gpu-2"]}
HOSTS = ["scheduler-1", "seed-1", "gpu-1", "gpu-2"]
NOW = 1_800_000_000
HOUR = 3600
DAY = 24 * HOUR
SCHEDULER_AT = "10.0.0.1:8002"
MODEL = {"name": "tiny", "version": "2.0", "object": "tiny.mar", "sha256": "9f" * 32, "workers": 2}
SERVED = {
    "name": "tiny",
    "version": "2.0",
    "default": True,
    "file": f"tiny-2.0-{'9f' * 6}.mar",
    "workers": 2,
    "workers_ready": 2,
    "gpu": 2,
}


def unit(name, **changed):
    return {
        "unit": f"{name}.service",
        "load": "loaded",
        "enabled": "enabled",
        "active": "active",
        "sub": "running",
        "result": "success",
        "exit_status": 0,
        "restarts": 0,
        "pid": 100,
        "since": NOW - HOUR,
        "version": {"dragonfly-scheduler": "2.5.1", "dfdaemon": "1.5.10"}.get(name, ""),
        "installed": {"dragonfly-scheduler": "2.5.1", "dfdaemon": "1.5.10"}.get(name, ""),
        "stale": [],
        "trouble": "",
        **changed,
    }


def entry(what, name, address, **changed):
    return {"what": what, "name": name, "address": address, "problem": "", "connections": 2, "certificate_expires": None, **changed}


def info(daemons, reach):
    disk = {"point": "/", "paths": ["/", "/var/lib/modelfleet/pieces"], "total": 100 << 30, "free": 50 << 30, "free_inodes": 0.9}
    return {
        "daemons": [unit(name) for name in daemons],
        "reach": reach,
        "schedulers": [SCHEDULER_AT] if "dfdaemon" in daemons else None,
        "filesystems": [{**disk, "read_only": False}],
        "keys_expire": NOW + 3000 * DAY if "torchserve" in daemons else None,
        "now": NOW,
    }


def dfdaemon(origin, peers):
    traffic = {"origin": origin, "remote_peer": peers, "local_peer": 0}
    cache = {"tasks": 9, "bytes": 80 << 30}
    return {"healthy": True, "problem": "", "version": "1.5.10", "uptime_s": HOUR, "traffic": traffic, "cache": cache}


def rollout_of(**versions):
    return {"name": "tiny", "current": "", "previous": "", "staged": "", "since": 0, "run": "", "rolled_back": False, **versions}


class Fleet:
    """A fleet that is well, until a test breaks it."""

    def __init__(self):
        common = {
            "preflight": {"findings": [], "disk": {"held_bytes": 8 << 30}, "ahead_s": 0.1},
            "drift": {},
            "failed": [],
            "unreachable": "",
            "rollout": {},
        }
        origin = entry("origin", "models.example.com", "models.example.com:443", certificate_expires=NOW + 100 * DAY)
        to_scheduler = entry("scheduler", "scheduler-1", SCHEDULER_AT)
        to_seed = [entry("seed peer", "seed-1", f"10.0.0.2:{port}") for port in (4000, 4005)]
        of_dfdaemon = {"schedulers": [SCHEDULER_AT], "budget": 100 << 30}
        gpu = {
            **common,
            "info": info(["dfdaemon", "torchserve", "torchserve-models"], [to_scheduler, *to_seed, origin]),
            "wanted": {**of_dfdaemon, "versions": {"dfdaemon.service": "1.5.10", "torchserve.service": "0.12.0"}},
            "dfdaemon": dfdaemon(1 << 20, 1 << 30),
            "torchserve": {"reachable": True, "version": "0.12.0", "models": [SERVED], "busy": False},
            "rollout": {"holder": {}, "dead": False, "models": [rollout_of(current="2.0")]},
        }
        facts = {
            "scheduler-1": {
                **common,
                "info": info(["dragonfly-scheduler"], [entry("own scheduler", "scheduler-1", SCHEDULER_AT)]),
                "wanted": {"versions": {"dragonfly-scheduler.service": "2.5.1"}, "schedulers": None},
            },
            "seed-1": {
                **common,
                "info": info(["dfdaemon"], [to_scheduler, origin]),
                "wanted": {**of_dfdaemon, "versions": {"dfdaemon.service": "1.5.10"}},
                "dfdaemon": dfdaemon(1 << 30, 0),
            },
            "gpu-1": gpu,
            "gpu-2": gpu,
        }
        # One by one, or what two hosts share would stay shared.
        self.facts = {host: copy.deepcopy(one) for host, one in facts.items()}
        served = {"models": [MODEL], "device": "gpu", "gpu": {"served": [SERVED], "recorded": [SERVED], "checks": [], "problems": []}}
        self.models = {host: copy.deepcopy(served) for host in JOBS["gpu"]}
        self.asked = list(HOSTS)
        self.inventory = []

    def unit(self, host, name):
        return next(one for one in self.facts[host]["info"]["daemons"] if one["unit"] == f"{name}.service")

    def serves(self, host, *served, recorded=(SERVED,)):
        """What TorchServe serves there, each as SERVED with what is different."""
        served = [{**SERVED, **one} for one in served]
        self.models[host]["gpu"].update(served=served, recorded=list(recorded))
        self.facts[host]["torchserve"]["models"] = served

    def reach(self, what, *hosts):
        return [one for host in hosts for one in self.facts[host]["info"]["reach"] if one["what"] == what]

    def preflight(self, host, check, message, severity="error"):
        self.facts[host]["preflight"]["findings"].append({"check": check, "severity": severity, "message": message})

    def report(self):
        models = fleet_report(self.models, {"gpu": JOBS["gpu"]}, self.asked)["hosts"]
        return doctor_report(self.facts, JOBS, self.asked, models=models, inventory=self.inventory)

    def only(self):
        """The one finding that is not ok."""
        report = self.report()
        (finding,) = (one for one in report["findings"] if one["severity"] != "ok")
        assert report["code"] == {"problem": 2, "warning": 1}[finding["severity"]] and not report["ok"]
        assert finding["cause"] and finding["remedy"], finding
        return finding


@pytest.fixture
def fleet():
    return Fleet()


def test_a_fleet_that_is_well(fleet):
    report = fleet.report()
    assert (report["code"], report["ok"], report["counts"]["problem"], report["counts"]["warning"]) == (0, True, 0, 0)
    subjects = {(one["host"], one["subject"]) for one in report["findings"]}
    assert {
        ("gpu-1", subject) for subject in ("clock", "disk", "cache", "dfdaemon", "torchserve", "models", "p2p", "network", "expiry")
    } <= subjects
    versions = {"running": "1.5.10", "installed": "1.5.10", "inventory": "1.5.10", "since": NOW - HOUR}
    assert report["hosts"]["gpu-1"]["versions"]["dfdaemon.service"] == versions
    assert report["traffic"] == {"origin": 2 << 20, "remote_peer": 2 << 30, "local_peer": 0}
    assert doctor_table(report) == [
        "0 problems, 0 warnings; 4 of 4 hosts well.",
        "Of 2 models that the hosts should serve 2 are loaded.",
        "Since their start the GPU hosts took 2.0 GiB from peers and 2.0 MiB from the origin.",
    ]


def test_scheduler_down(fleet):
    """Nobody reaches it, which is said once, where it is."""
    fleet.unit("scheduler-1", "dragonfly-scheduler").update(active="inactive", sub="dead", pid=0, version="")
    for one in [*fleet.reach("scheduler", "seed-1", "gpu-1", "gpu-2"), *fleet.reach("own scheduler", "scheduler-1")]:
        one.update(problem="Connection refused", connections=0)
    found = fleet.only()
    assert (found["host"], found["subject"], found["what"]) == ("scheduler-1", "scheduler", "dragonfly-scheduler does not run")
    assert "stopped it" in found["cause"] and "systemctl start dragonfly-scheduler" in found["remedy"]


def test_dfdaemon_that_waits_for_a_scheduler(fleet):
    fleet.unit("scheduler-1", "dragonfly-scheduler").update(
        active="failed", result="exit-code", exit_status=1, trouble="bind: address already in use"
    )
    fleet.unit("gpu-1", "dfdaemon").update(active="activating", sub="auto-restart", result="exit-code", exit_status=1)
    for one in fleet.reach("scheduler", "gpu-1"):
        one.update(problem="Connection refused")
    fleet.facts["gpu-1"]["dfdaemon"] = {"healthy": False, "problem": "Failed to ask dfdaemon."}
    problems = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    assert [(one["host"], one["what"]) for one in problems] == [
        ("scheduler-1", "dragonfly-scheduler does not run"),
        ("gpu-1", "dfdaemon does not run"),
    ]
    assert "address already in use" in problems[0]["cause"]
    assert "none answers: scheduler-1 at 10.0.0.1:8002 (Connection refused)" in problems[1]["cause"]
    assert "start the schedulers" in problems[1]["remedy"]


def test_seed_down(fleet):
    fleet.unit("seed-1", "dfdaemon").update(active="failed", result="signal", exit_status=9, restarts=3, trouble="thread panicked")
    fleet.facts["seed-1"]["dfdaemon"] = {"healthy": False, "problem": "Failed to ask dfdaemon."}
    for one in fleet.reach("seed peer", "gpu-1", "gpu-2"):
        one["problem"] = "Connection refused"
    found = fleet.only()
    assert (found["host"], found["what"]) == ("seed-1", "dfdaemon does not run")
    assert "thread panicked" in found["cause"] and "journalctl -u dfdaemon" in found["remedy"]


def test_dfdaemon_down(fleet):
    fleet.unit("gpu-2", "dfdaemon").update(active="inactive", pid=0, version="")
    fleet.facts["gpu-2"]["dfdaemon"] = {"healthy": False, "problem": "Failed to ask dfdaemon."}
    found = fleet.only()
    assert (found["host"], found["what"], found["remedy"]) == ("gpu-2", "dfdaemon does not run", "systemctl start dfdaemon on the host")


def test_torchserve_down(fleet):
    """Its models are not said beside it, nor that it does not answer."""
    fleet.unit("gpu-2", "torchserve").update(active="failed", result="exit-code", exit_status=1, restarts=5, trouble="OutOfMemoryError")
    fleet.unit("gpu-2", "torchserve-models").update(active="inactive", sub="dead")
    fleet.facts["gpu-2"]["torchserve"] = {"reachable": False, "version": "", "models": []}
    fleet.models["gpu-2"]["gpu"] = {"served": None, "checks": [{"model": "tiny", "version": "2.0", "ok": False, "detail": "refused"}]}
    found = fleet.only()
    assert (found["host"], found["subject"], found["what"]) == ("gpu-2", "torchserve", "torchserve does not run")
    assert "it ended with exit-code 1 and was restarted 5 times; it said: OutOfMemoryError" in found["cause"]
    assert "torchserve_heap" in found["remedy"]


def test_wrong_scheduler_list_on_one_host(fleet):
    """The file was changed by hand as well, which is not said twice."""
    fleet.facts["gpu-2"]["info"]["schedulers"] = ["10.9.9.9:8002"]
    dynconfig = "/etc/dragonfly/dfdaemon-dynconfig.yaml"
    fleet.unit("gpu-2", "dfdaemon")["stale"] = [dynconfig]
    fleet.facts["gpu-2"]["drift"] = {"dfdaemon.service": {"files": [dynconfig]}}
    found = fleet.only()
    assert (found["host"], found["severity"]) == ("gpu-2", "problem")
    assert "10.9.9.9:8002" in found["cause"] and SCHEDULER_AT in found["cause"] and "modelfleet.serving.site" in found["remedy"]


@pytest.mark.parametrize(
    ("served", "what", "cause"),
    [
        ({"version": "1.0"}, "tiny 2.0 is not served", "the host is stale: it serves version 1.0 of it"),
        (
            {"file": "tiny-2.0-000000000000.mar"},
            "tiny 2.0 is stale: another content is served under this version",
            "is served from tiny-2.0-0",
        ),
    ],
)
def test_stale_model(fleet, served, what, cause):
    other = {**SERVED, **served}
    unanswered = [{"model": "tiny", "version": "2.0", "ok": False, "detail": "404"}]
    fleet.models["gpu-1"]["gpu"].update(served=[other], recorded=[], checks=unanswered)
    fleet.facts["gpu-1"]["torchserve"]["models"] = [other]
    problems = [one for one in fleet.report()["findings"] if one["severity"] == "problem"]
    assert [(one["host"], one["what"]) for one in problems] == [("gpu-1", what)]
    assert cause in problems[0]["cause"] and re.search(r"modelfleet\.serving\.(site|rollout)", problems[0]["remedy"])


def test_half_loaded_model(fleet):
    fleet.models["gpu-1"]["gpu"]["served"] = [{**SERVED, "workers_ready": 1, "gpu": 1}]
    fleet.unit("gpu-1", "torchserve")["trouble"] = "java.lang.InterruptedException: worker was killed"
    found = fleet.only()
    assert found["what"] == "tiny 2.0 is loaded by half"
    assert (
        "1 of 2 workers READY" in found["cause"]
        and "worker was killed" in found["cause"]
        and "systemctl restart torchserve" in found["remedy"]
    )


def test_a_model_without_workers(fleet):
    fleet.models["gpu-1"]["gpu"]["served"] = [{**SERVED, "workers": 0, "workers_ready": 0, "gpu": 0}]
    found = fleet.only()
    assert (found["severity"], found["what"]) == ("problem", "tiny 2.0 is loaded by half")
    assert "has 0 of 2 workers" in found["cause"] and "modelfleet.serving.site" in found["remedy"]


def test_gpu_worker_on_the_cpu(fleet):
    fleet.models["gpu-1"]["gpu"]["served"] = [{**SERVED, "gpu": 1}]
    fleet.preflight("gpu-1", "gpu", "The GPU 0 (H100) does not work before this is done: Reset; run nvidia-smi --gpu-reset -i 0.")
    found = fleet.only()
    assert found["what"] == "tiny 2.0 has workers that run on the CPU, not on a GPU"
    assert "The GPU 0 (H100) does not work" in found["cause"] and "nvidia-smi" in found["remedy"]


def test_a_model_that_is_being_restored(fleet):
    fleet.models["gpu-1"]["gpu"]["served"] = []
    fleet.unit("gpu-1", "torchserve-models")["active"] = "activating"
    found = fleet.only()
    assert (found["severity"], found["what"]) == ("warning", "tiny 2.0 is not served")
    assert "still restores" in found["cause"]


def test_a_model_of_a_host_that_is_being_changed(fleet):
    """By a run of site, for example, which is not waited for."""
    fleet.models["gpu-1"]["gpu"]["served"] = []
    fleet.facts["gpu-1"]["torchserve"]["busy"] = True
    found = fleet.only()
    assert (found["severity"], found["what"]) == ("warning", "tiny 2.0 is not served") and "at this moment" in found["cause"]


def test_a_restore_that_outlasts_the_question(fleet):
    fleet.facts["gpu-1"]["torchserve"] = {}
    fleet.unit("gpu-1", "torchserve-models")["active"] = "activating"
    assert fleet.only()["what"] == "models are still being restored"


def test_a_model_that_could_not_be_restored(fleet):
    fleet.models["gpu-1"]["gpu"]["served"] = []
    fleet.unit("gpu-1", "torchserve-models").update(active="failed", trouble="tiny 2.0 could not be restored: its file is damaged")
    assert fleet.only()["cause"] == "tiny 2.0 could not be restored: its file is damaged"


def test_a_restore_that_failed_although_everything_is_served_by_now(fleet):
    fleet.unit("gpu-1", "torchserve-models").update(active="failed", trouble="Failed to restore model tiny 2.0: its file is damaged.")
    found = fleet.only()
    assert (found["severity"], found["subject"]) == ("warning", "models") and "its file is damaged" in found["cause"]
    assert "systemctl restart torchserve-models" in found["remedy"]
    fleet.unit("gpu-1", "torchserve-models")["trouble"] = ""
    fleet.models["gpu-1"]["gpu"]["served"] = []
    assert "torchserve-models could not restore" in fleet.only()["cause"], "nobody had to register it"


def test_a_record_that_is_damaged(fleet):
    """TorchServe is not blamed for it."""
    said = "Failed to read the record /x/models.json: it is damaged. Run torchserve_model (playbook site), which writes it anew."
    fleet.facts["gpu-1"]["torchserve"] = {"msg": said}
    fleet.models["gpu-1"]["gpu"]["served"] = None
    found = fleet.only()
    assert (found["subject"], found["what"]) == ("models", "the record of what the host serves cannot be read")
    assert "/x/models.json: it is damaged" in found["cause"] and "playbook site" in found["remedy"]


HOLDER = {"run": "a:b:4711:1", "user": "alice", "controller": "control-1", "pid": 4711, "since": "2027-01-15T07:00:00Z"}
OLD = {"version": "1.0", "file": "tiny-1.0-000000000000.mar"}
NEW_LOADING = {"default": False, "workers_ready": 0, "gpu": 0}
BY_ALICE = "the run of alice on control-1 (process 4711) since 2027-01-15T07:00:00Z"


@pytest.mark.parametrize(
    ("versions", "served", "said"),
    [
        ({"current": "1.0"}, [OLD], "tiny 2.0 is not served"),
        ({"current": "1.0", "staged": "2.0"}, [OLD, NEW_LOADING], "tiny is to become 2.0; tiny 2.0 has 0 of 2 workers READY"),
        ({"current": "1.0", "staged": "2.0"}, [NEW_LOADING], "tiny is to become 2.0; tiny 2.0 has 0 of 2 workers READY"),
        ({"current": "1.0", "staged": "2.0"}, [OLD, {"default": False}], "tiny is to become 2.0; tiny 2.0 is not the default version"),
        ({"current": "1.0", "staged": "2.0"}, [{**OLD, "default": False}, {}], "tiny is to become 2.0; tiny 1.0 is served, but"),
        ({"current": "2.0", "previous": "1.0"}, [{**OLD, "default": False}, {}], "tiny 1.0 is served, but"),
        ({"current": "2.0", "previous": "1.0"}, [{}], ""),
    ],
    ids=["to come", "loading", "in its place", "beside", "switched", "retiring", "finished"],
)
def test_a_rollout_on_its_way(fleet, versions, served, said):
    """Who works there since when; what follows from it is no other finding."""
    fleet.models["gpu-1"]["models"] = [{**MODEL, "default": True}]
    answers = "READY" not in said and "not served" not in said
    fleet.models["gpu-1"]["gpu"]["checks"] = [{"model": "tiny", "version": "2.0", "ok": answers, "seconds": 0.1, "detail": "404"}]
    current = {"name": "tiny", "version": versions["current"]}
    fleet.serves("gpu-1", *served, recorded=[current])
    fleet.facts["gpu-1"]["rollout"] = {"holder": HOLDER, "dead": False, "models": [rollout_of(**versions)]}
    found = fleet.only()
    assert (found["severity"], found["subject"], found["what"]) == ("warning", "rollout", "a rollout works on this host")
    assert found["cause"].startswith(BY_ALICE) and said in found["cause"]
    assert "wait for its end" in found["remedy"] and "modelfleet_rollout_take_over=true" in found["remedy"]


def test_a_rollout_hides_nothing_of_another_model(fleet):
    """Nor of the version that serves meanwhile."""
    fleet.facts["gpu-1"]["rollout"] = {"holder": HOLDER, "dead": False, "models": [rollout_of(current="2.0", staged="3.0")]}
    fleet.serves("gpu-1", {"workers_ready": 1, "gpu": 1})
    findings = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    assert [(one["severity"], one["what"]) for one in findings] == [
        ("problem", "tiny 2.0 is loaded by half"),
        ("warning", "a rollout works on this host"),
    ]


@pytest.mark.parametrize(
    ("rollout", "what", "cause"),
    [
        ({"holder": HOLDER, "dead": True}, "a rollout died on this host", f"{BY_ALICE} is not there any more; tiny is to become 2.0; "),
        ({"holder": {}, "dead": False}, "a rollout came to no end on this host", "no run works on it any more; tiny is to become 2.0; "),
    ],
)
def test_a_rollout_that_was_left_half_way(fleet, rollout, what, cause):
    fleet.serves("gpu-1", OLD, NEW_LOADING, recorded=[{"name": "tiny", "version": "1.0"}])
    fleet.facts["gpu-1"]["rollout"] = {**rollout, "models": [rollout_of(current="1.0", staged="2.0")]}
    found = fleet.only()
    assert (found["severity"], found["subject"], found["what"]) == ("problem", "rollout", what)
    assert found["cause"].startswith(cause) and "modelfleet.serving.rollout, which goes on from there" in found["remedy"]


def test_a_lock_on_a_host_whose_torchserve_is_down(fleet):
    fleet.unit("gpu-1", "torchserve").update(active="failed", result="exit-code", exit_status=1, trouble="it died")
    fleet.facts["gpu-1"].update(torchserve={"reachable": False}, rollout={"holder": HOLDER, "dead": False, "models": []})
    fleet.models["gpu-1"]["gpu"]["served"] = None
    findings = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    assert [one["what"] for one in findings] == ["torchserve does not run", "a rollout works on this host"]


def test_what_a_host_can_go_back_to_is_no_drift(fleet):
    """The version that a rollout has retired lies on the disk."""
    fleet.facts["gpu-1"]["rollout"]["models"] = [rollout_of(current="2.0", previous="1.0")]
    assert fleet.report()["ok"]
    fleet.serves("gpu-1", {**OLD, "default": False}, {})
    found = fleet.only()
    assert (found["severity"], found["what"]) == ("warning", "tiny 1.0 is served although it is retired")
    assert "was interrupted before it was unregistered" in found["cause"] and "modelfleet.serving.rollout" in found["remedy"]


def test_a_rollout_that_is_still_to_come(fleet):
    """Only it brings the new version in the place of the old one, which is not blamed for that."""
    fleet.serves("gpu-1", OLD, recorded=[{"name": "tiny", "version": "1.0"}])
    fleet.facts["gpu-1"]["rollout"]["models"] = [rollout_of(current="1.0")]
    found = fleet.only()
    assert (found["severity"], found["what"]) == ("problem", "tiny 2.0 is not served")
    assert "it serves version 1.0" in found["cause"] and found["remedy"].startswith("run modelfleet.serving.rollout")


def test_a_second_version_that_is_to_serve_beside_the_first(fleet):
    """The host is not stale, and site registers it."""
    fleet.models["gpu-1"]["models"] = [MODEL, {**MODEL, "version": "3.0"}]
    found = fleet.only()
    assert (found["what"], found["cause"]) == ("tiny 3.0 is not served", "nobody has registered it")
    assert "modelfleet.serving.site" in found["remedy"]


def test_what_a_rollback_took_away(fleet):
    fleet.serves("gpu-1", OLD, recorded=[{"name": "tiny", "version": "1.0"}])
    fleet.facts["gpu-1"]["rollout"]["models"] = [rollout_of(current="1.0", previous="2.0", rolled_back=True)]
    found = fleet.only()
    assert (found["severity"], found["what"]) == ("warning", "tiny 2.0 is not served")
    assert "a rollback took it away" in found["cause"] and "write version 1.0 into modelfleet_models" in found["remedy"]


def test_a_wrong_answer_and_a_model_that_nobody_listed(fleet):
    fleet.models["gpu-1"]["gpu"]["checks"] = [{"model": "tiny", "version": "2.0", "ok": False, "detail": "$ is 2, expected 1"}]
    fleet.models["gpu-2"]["gpu"]["served"].append({**SERVED, "name": "other"})
    findings = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    assert [(one["severity"], one["host"], one["what"]) for one in findings] == [
        ("problem", "gpu-1", "tiny 2.0 does not give its known answer"),
        ("warning", "gpu-2", "other 2.0 is served, but is not in modelfleet_models"),
    ]
    assert findings[0]["cause"] == "$ is 2, expected 1" and all(one["cause"] and one["remedy"] for one in findings)


@pytest.mark.parametrize(
    ("changed", "severity", "what"),
    [
        ({"free": 0}, "problem", "a disk is full"),
        ({"free": 5 << 30}, "warning", "a disk is nearly full"),
        ({"free_inodes": 0.001}, "problem", "a disk is full"),
        ({"read_only": True}, "problem", "a filesystem is read-only"),
    ],
)
def test_full_disk(fleet, changed, severity, what):
    """What preflight says of the same disk is not said again."""
    fleet.facts["gpu-1"]["info"]["filesystems"][0].update(changed)
    fleet.preflight("gpu-1", "disk", "/var/lib/modelfleet needs 9 GiB more and the filesystem / has 0 B free; free some space.")
    found = fleet.only()
    assert (found["severity"], found["what"], found["subject"]) == (severity, what, "disk")
    assert "/var/lib/modelfleet/pieces" in found["cause"]


def test_too_small_a_disk_before_it_is_full(fleet):
    fleet.preflight("gpu-1", "disk", "/var/lib/modelfleet needs 90 GiB more and the filesystem / has 50 GiB free; free some space.")
    found = fleet.only()
    assert found["subject"] == "disk" and found["remedy"] == "free some space" and "needs 90 GiB more" in found["cause"]


def test_a_host_too_full_to_be_examined(fleet):
    fleet.facts["gpu-1"] = {"failed": ["Look for causes: MODULE FAILURE OSError: [Errno 28] No space left on device: token=SECRET"]}
    found = fleet.only()
    assert found["host"] == "gpu-1" and "No space left" in found["cause"] and "free space" in found["remedy"]
    assert "SECRET" not in found["cause"]


@pytest.mark.parametrize(
    ("stale", "why"), [(["/etc/dragonfly/dfdaemon.yaml"], "changed on the host"), ([], "changed by hand, or the inventory")]
)
def test_configuration_changed_by_hand(fleet, stale, why):
    fleet.facts["gpu-1"]["drift"] = {"dfdaemon.service": {"files": ["/etc/dragonfly/dfdaemon.yaml"]}}
    fleet.unit("gpu-1", "dfdaemon")["stale"] = stale
    findings = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    found = findings[-1] if stale else fleet.only()
    assert (found["severity"], found["what"]) == ("warning", "files are not what the inventory says")
    assert "/etc/dragonfly/dfdaemon.yaml" in found["cause"] and why in found["cause"] and "--check --diff" in found["remedy"]
    assert [one["what"] for one in findings[:-1]] == (["dfdaemon runs on older files than there are"] if stale else [])


def test_what_differs_on_a_host_is_one_finding(fleet):
    fleet.facts["gpu-1"]["drift"] = {
        "dfdaemon.service": {"files": ["/etc/dragonfly/dfdaemon.yaml"]},
        "torchserve.service": {"files": [], "msg": ""},
        "endpoint plugin": {"files": ["/etc/dragonfly-endpoint/config.json"]},
        "users and directories": {"files": ["directory /var/lib/modelfleet/models"]},
    }
    cause = fleet.only()["cause"]
    assert all(text in cause for text in ("dfdaemon.yaml", "config.json", "directory /var/lib/modelfleet/models"))


def test_port_taken(fleet):
    """By a stranger: the cause of the daemon that does not come up."""
    taken = "Port 4000 on 10.0.0.3 is taken by nginx (pid 812, nginx.service); stop that process or give dfdaemon.service another port."
    fleet.preflight("gpu-1", "port", taken)
    fleet.unit("gpu-1", "dfdaemon").update(active="activating", sub="auto-restart", result="exit-code", restarts=40)
    fleet.facts["gpu-1"]["dfdaemon"] = {"healthy": False, "problem": "Failed to ask dfdaemon."}
    found = fleet.only()
    assert found["what"] == "dfdaemon does not run"
    assert found["cause"] == "Port 4000 on 10.0.0.3 is taken by nginx (pid 812, nginx.service)" and "stop that process" in found["remedy"]


def test_a_port_that_is_taken_from_a_daemon_that_runs(fleet):
    fleet.preflight(
        "gpu-1",
        "port",
        "Port 8082 on 127.0.0.1 is taken by x (pid 1, no systemd unit); stop that process or give torchserve.service another port.",
    )
    assert fleet.only()["what"] == "a port of a daemon is not free"


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Address already in use (os error 98)", "ss -ltnp"),
        ("listen tcp 10.0.0.1:8002: bind: address already in use", "ss -ltnp"),
        ("java.lang.OutOfMemoryError: Java heap space", "torchserve_heap"),
        ("write: No space left on device", "free space"),
        ("Failed to execute /opt/dragonfly/client/current/dfdaemon: No such file or directory", "modelfleet.serving.site"),
        ("invalid type: string, expected u16 at line 3", "modelfleet.serving.site"),
        ("Error: registry.example.org/client@sha256:1: image not known", "which brings it"),
        ("Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all", "nvidia-ctk cdi generate"),
        ("", "journalctl -u dfdaemon"),
    ],
)
def test_a_remedy_for_what_the_journal_says(fleet, said, remedy):
    fleet.unit("gpu-1", "dfdaemon").update(active="failed", result="exit-code", exit_status=1, trouble=said)
    fleet.facts["gpu-1"]["dfdaemon"] = {}
    found = fleet.only()
    assert said in found["cause"] and remedy in found["remedy"]


def test_origin_unreachable(fleet):
    for one in fleet.reach("origin", "seed-1", "gpu-1", "gpu-2"):
        one.update(problem="Connection timed out", certificate_expires=None)
    findings = [one for one in fleet.report()["findings"] if one["severity"] == "problem"]
    assert {one["host"] for one in findings} == {"seed-1", "gpu-1", "gpu-2"}
    assert {one["what"] for one in findings} == {"the origin cannot be reached"}
    assert "models.example.com:443: Connection timed out" in findings[0]["cause"] and "modelfleet_storage" in findings[0]["remedy"]
    table = doctor_table(fleet.report())
    assert table[2].split()[:2] == ["problem", "origin"] and "seed-1, gpu-1, gpu-2" in table[2] and len(table) == 9


def test_a_name_that_does_not_resolve(fleet):
    sentence = "The name models.example.com does not resolve (Name or service not known); correct it in the inventory, or add it to DNS."
    fleet.preflight("gpu-1", "name", sentence)
    fleet.reach("origin", "gpu-1")[0].update(problem="Name or service not known", certificate_expires=None)
    assert fleet.only()["what"] == "a name does not resolve"


def test_a_firewall_before_a_daemon_that_runs(fleet):
    fleet.reach("seed peer", "gpu-1")[1]["problem"] = "Connection timed out"
    found = fleet.only()
    assert found["what"] == "a seed peer that runs cannot be reached" and "open port 4005/tcp on seed-1" in found["remedy"]


def test_a_daemon_of_a_host_that_was_not_asked(fleet):
    fleet.asked.remove("seed-1")
    fleet.reach("seed peer", "gpu-1")[0]["problem"] = "Connection refused"
    report = fleet.report()
    (found,) = (one for one in report["findings"] if one["severity"] != "ok")
    assert found["what"] == "a seed peer cannot be reached" and "run doctor for seed-1 too" in found["remedy"]
    assert report["not_checked"] == ["seed-1"] and "Not asked: 1 host." in doctor_table(report)


def test_clock_ahead(fleet):
    fleet.facts["gpu-1"]["preflight"]["ahead_s"] = 600.0
    found = fleet.only()
    assert (
        (found["severity"], found["what"]) == ("problem", "the clock is wrong")
        and "600 s ahead" in found["cause"]
        and "chrony" in found["remedy"]
    )


def test_clock_behind(fleet):
    fleet.preflight(
        "gpu-1", "clock", "The clock is 600 s behind the controller's, and object stores refuse requests; start a time service."
    )
    found = fleet.only()
    assert found["severity"] == "problem" and "600 s behind" in found["cause"] and "chrony" in found["remedy"]


def test_hangs(fleet):
    """Active for an hour, and silent."""
    fleet.facts["gpu-1"]["torchserve"] = {"reachable": False, "version": "", "models": []}
    fleet.models["gpu-1"]["gpu"] = {"served": None, "checks": [{"model": "tiny", "version": "2.0", "ok": False, "detail": "timed out"}]}
    found = fleet.only()
    assert found["what"] == "torchserve runs, but does not answer" and "systemctl restart torchserve" in found["remedy"]
    fleet.unit("gpu-1", "torchserve")["since"] = NOW - 10
    assert fleet.only()["severity"] == "warning"


def test_a_daemon_that_is_silent_where_systemd_could_not_be_asked(fleet):
    facts = fleet.facts["gpu-1"]
    facts.update(info={}, failed=["Look for causes: Timed out after 60 second(s)."], torchserve={"reachable": False})
    findings = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    assert [one["what"] for one in findings] == ["a part of the host could not be examined", "torchserve does not answer"]
    assert "journalctl -u torchserve" in findings[1]["remedy"]


def test_dfdaemon_hangs(fleet):
    said = "Failed to ask dfdaemon at http://127.0.0.1:4003/healthy: timed out. See systemctl status dfdaemon and journalctl -u dfdaemon."
    fleet.facts["gpu-1"]["dfdaemon"] = {"healthy": False, "problem": said}
    found = fleet.only()
    assert found["what"] == "dfdaemon runs, but does not answer" and "timed out" in found["cause"] and "restart dfdaemon" in found["remedy"]


def test_unreachable(fleet):
    fleet.facts["gpu-1"] = {"unreachable": "ssh: connect to host gpu-1 port 22: No route to host"}
    found = fleet.only()
    assert found["what"] == "the host cannot be reached by SSH" and "No route to host" in found["cause"]


def test_nothing_is_known_of_a_host(fleet):
    fleet.facts["gpu-1"] = {}
    assert "nothing is known" in fleet.only()["cause"]


def test_nothing_is_installed(fleet):
    """Said once a daemon: not that its files differ too."""
    facts = fleet.facts["gpu-1"]
    for name in ("dfdaemon", "torchserve", "torchserve-models"):
        fleet.unit("gpu-1", name).update(load="not-found", active="inactive", enabled="", version="", installed="", since=None)
    facts["drift"] = {"dfdaemon.service": {"files": ["/etc/dragonfly/dfdaemon.yaml"]}, "layout": {"files": ["user dfdaemon"], "msg": ""}}
    facts["info"].update(schedulers=None, keys_expire=None)
    facts.update(dfdaemon={}, torchserve={"reachable": False})
    findings = [one for one in fleet.report()["findings"] if one["severity"] != "ok"]
    assert [one["what"] for one in findings] == ["dfdaemon is not installed", "torchserve is not installed"]


def test_another_version(fleet):
    fleet.unit("gpu-1", "dfdaemon").update(version="1.5.9", installed="1.5.9")
    assert "site has not run" in fleet.only()["cause"]
    fleet.unit("gpu-1", "dfdaemon")["installed"] = "1.5.10"
    found = fleet.only()
    assert "1.5.9 runs, the inventory has 1.5.10" in found["cause"] and "not restarted" in found["cause"]


def test_another_version_of_torchserve(fleet):
    fleet.facts["gpu-1"]["torchserve"]["version"] = "0.11.1"
    assert "0.11.1 runs, the inventory has 0.12.0" in fleet.only()["cause"]


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"enabled": "disabled"}, "dfdaemon would not start at the next boot"),
        ({"load": "masked", "active": "inactive"}, "dfdaemon cannot start"),
        ({"active": "activating", "sub": "start-pre"}, "dfdaemon is starting"),
        ({"restarts": 9, "since": NOW - 20}, "dfdaemon keeps dying"),
        ({"stale": ["/opt/dragonfly/client/current/.release.json"]}, "dfdaemon runs on older files than there are"),
        ({"load": ""}, "nothing is known of dfdaemon"),
    ],
)
def test_a_unit_that_is_not_as_it_should_be(fleet, changed, what):
    fleet.unit("gpu-1", "dfdaemon").update(changed)
    if "load" in changed or "active" in changed:
        fleet.facts["gpu-1"]["dfdaemon"] = {}
    assert fleet.only()["what"] == what


def test_a_piece_store_that_is_full(fleet):
    fleet.facts["gpu-1"]["dfdaemon"]["cache"] = {"tasks": 9, "bytes": 96 << 30}
    found = fleet.only()
    assert found["subject"] == "cache" and "9 tasks hold 96.0 GiB" in found["cause"] and "dfdaemon_disk_budget" in found["remedy"]
    assert fleet.report()["hosts"]["gpu-1"]["cache"] == {"tasks": 9, "bytes": 96 << 30}


def test_p2p_that_does_not_happen(fleet):
    fleet.facts["gpu-1"]["dfdaemon"] = dfdaemon(1 << 30, 1 << 20)
    found = fleet.only()
    assert (found["severity"], found["subject"]) == ("warning", "p2p") and "1.0 GiB from the origin and 1.0 MiB from peers" in found[
        "cause"
    ]
    fleet.facts["gpu-1"]["dfdaemon"] = dfdaemon(4 << 20, 0)
    assert fleet.report()["ok"], "small files always come from the origin"


def test_no_scheduler_hears_from_dfdaemon(fleet):
    fleet.reach("scheduler", "gpu-1")[0]["connections"] = 0
    assert fleet.only()["what"] == "no scheduler hears from dfdaemon"
    fleet.facts["gpu-1"]["dfdaemon"]["uptime_s"] = 5
    assert fleet.report()["ok"]


@pytest.mark.parametrize(("left", "severity"), [(-HOUR, "problem"), (3 * DAY, "warning")])
def test_keys_that_expire(fleet, left, severity):
    fleet.facts["gpu-1"]["info"]["keys_expire"] = NOW + left
    found = fleet.only()
    assert (found["severity"], found["subject"]) == (severity, "expiry") and "token_expiration_min" in found["remedy"]


@pytest.mark.parametrize(("left", "what"), [(-5 * DAY, "has expired"), (3 * DAY, "expires soon")])
def test_certificates_that_expire(fleet, left, what):
    fleet.reach("origin", "seed-1")[0]["certificate_expires"] = NOW + left
    found = fleet.only()
    assert found["severity"] == "warning" and what in found["what"] and "models.example.com" in found["cause"]


@pytest.mark.parametrize(("left", "severity"), [(-HOUR, "problem"), (3 * DAY, "warning")])
@pytest.mark.parametrize(
    ("name", "remedy"), [("dfdaemon", "modelfleet.serving.site, which issues"), ("ca", "modelfleet.serving.rotate_certificates")]
)
def test_certificates_of_daemons_that_expire(fleet, left, severity, name, remedy):
    fine = {"path": "/etc/dragonfly/tls/scheduler.pem", "expires": NOW + 300 * DAY}
    path = f"/etc/dragonfly/tls/{name}.pem"
    fleet.facts["gpu-1"]["info"]["certificates"] = [fine, {"path": path, "expires": NOW + left}, {"path": "/gone", "expires": None}]
    found = fleet.only()
    assert (found["severity"], found["subject"]) == (severity, "expiry")
    assert path in found["cause"] and remedy in found["remedy"]


def test_mistakes_in_the_inventory(fleet):
    fleet.inventory = ["The hosts gpu-1 and gpu-2 have one address; give each its own."]
    found = fleet.only()
    assert (found["host"], found["what"], found["remedy"]) == (
        "inventory",
        "The hosts gpu-1 and gpu-2 have one address",
        "give each its own",
    )


def test_what_else_preflight_finds(fleet):
    fleet.preflight("gpu-1", "memory", "The host has 1 GiB of memory and 2 GiB are advised; add memory or run fewer workers.", "warning")
    found = fleet.only()
    assert (found["severity"], found["subject"]) == ("warning", "memory") and found["remedy"] == "add memory or run fewer workers"


def test_what_could_not_be_compared(fleet):
    fleet.facts["gpu-1"]["drift"] = {"dfdaemon.service": {"msg": "Failed to read /etc/dragonfly/dfdaemon.yaml: not text. Check the file."}}
    found = fleet.only()
    assert found["severity"] == "problem" and found["remedy"] == "Check the file"
    said = "Timed out after 60 second(s)."
    fleet.facts["gpu-1"]["drift"] = {"dfdaemon.service": {"msg": f"Task failed: {said}", "timedout": {"period": 60}}}
    fleet.facts["gpu-1"]["failed"] = [f"Compare dfdaemon with the inventory: {said}"]
    assert fleet.only()["what"] == "a part of the host could not be examined"


def test_a_large_fleet_is_read_in_a_few_lines(fleet):
    """What 500 hosts have in common is one entry."""
    names = [f"gpu-{number}" for number in range(1, 501)]
    one = fleet.facts["gpu-1"]
    one["info"]["filesystems"][0]["free"] = 0
    facts = {**fleet.facts, **{name: copy.deepcopy(one) for name in names}}
    for number, name in enumerate(names):
        facts[name]["info"]["filesystems"][0]["free"] = number
    report = doctor_report(facts, {**JOBS, "gpu": names}, [*HOSTS[:2], *names])
    table = doctor_table(report)
    assert report["counts"]["problem"] == 500 and len(table) < 20
    assert "gpu-1, gpu-2, gpu-3, gpu-4 and 496 others" in table[2]
    assert table[3].endswith("has 0 B of 100.0 GiB free; 8.0 GiB of it are models and their pieces (gpu-1)")
    assert table[6] == "    cause: others like these on 497 hosts, in the report in JSON"
    assert "500 problems, 0 warnings; 2 of 502 hosts well." in table


def test_every_cause_of_what_some_hosts_have_in_common_is_shown(fleet):
    fleet.facts["gpu-2"]["drift"] = {"dfdaemon.service": {"files": ["/etc/dragonfly/dfdaemon.yaml"]}}
    for host in ("seed-1", "gpu-1"):
        fleet.facts[host]["drift"] = {"users and directories": {"files": ["user dfdaemon"], "msg": ""}}
    why = "changed by hand, or the inventory since the last site"
    assert doctor_table(fleet.report())[2:5] == [
        "warning   configuration  seed-1, gpu-1, gpu-2  files are not what the inventory says",
        f"    cause: user dfdaemon ({why}) (seed-1, gpu-1)",
        f"    cause: /etc/dragonfly/dfdaemon.yaml ({why}) (gpu-2)",
    ]


def test_models_expected_loaded_and_answering(fleet):
    fleet.models["gpu-1"]["gpu"]["checks"] = [{"model": "tiny", "version": "2.0", "ok": True, "seconds": 0.1, "detail": ""}]
    fleet.models["gpu-2"]["gpu"].update(
        served=[], checks=[{"model": "tiny", "version": "2.0", "ok": False, "seconds": 0.1, "detail": "404"}]
    )
    report = fleet.report()
    row = {"model": "tiny", "version": "2.0"}
    assert report["hosts"]["gpu-1"]["models"] == [{**row, "workers_ready": 2, "answer_ok": True}]
    assert report["hosts"]["gpu-2"]["models"] == [{**row, "workers_ready": None, "answer_ok": False}]
    assert report["models"] == {"expected": 2, "loaded": 1, "asked": 2, "answering": 1}
    assert "Of 2 models that the hosts should serve 1 are loaded; 1 of 2 known answers came." in doctor_table(report)


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("The module interpreter '/opt/py/bin/python' was not found.", "ansible_python_interpreter"),
        ("MODULE FAILURE /bin/sh: 1: /usr/bin/python3: not found", "repair Python"),
        ("MODULE FAILURE ModuleNotFoundError: No module named 'json'", "repair Python"),
        ("MODULE FAILURE ModuleNotFoundError: No module named 'encodings'", "repair Python"),
        ("Missing sudo password", "--ask-become-pass"),
        ("Timed out after 60 second(s).", "doctor_timeout"),
        ("MODULE FAILURE KeyError: 'x'", "correct that"),
    ],
)
def test_a_remedy_for_what_keeps_a_host_from_being_examined(fleet, message, remedy):
    fleet.facts["gpu-1"] = {"failed": [f"Look for causes: {message}"]}
    assert remedy in fleet.only()["remedy"]


def test_what_keeps_every_part_from_being_examined_is_said_once(fleet):
    fleet.facts["gpu-1"] = {"failed": [f"{part}: Missing sudo password" for part in ("Look at this host", "Look for causes")]}
    assert fleet.only()["cause"] == "Look at this host: Missing sudo password"


@pytest.mark.parametrize(
    ("sentence", "parts"),
    [
        ("A is wrong; do B.", ("A is wrong", "do B")),
        ("Failed to X: y. Do Z.", ("Failed to X: y", "Do Z")),
        ("A (b; c) is wrong; do B", ("A (b; c) is wrong", "do B")),
        ("nothing to part", ("nothing to part", "")),
    ],
)
def test_sentences_are_parted(sentence, parts):
    assert parted(sentence) == parts


WANTED = {"wanted": True, "table": "wanted", "files": [], "msg": ""}
FILE = "/etc/dragonfly/firewall.nft"


@pytest.mark.parametrize(
    ("firewall", "unit_state", "severity", "what", "cause", "remedy"),
    [
        (
            {"table": "absent"},
            None,
            "problem",
            "the firewall is off",
            "there is no unit modelfleet-firewall.service",
            "run modelfleet.serving.site",
        ),
        (
            {"table": "absent"},
            {"active": "inactive"},
            "problem",
            "the firewall is off",
            "is inactive",
            "systemctl restart modelfleet-firewall",
        ),
        (
            {"table": "different"},
            {},
            "problem",
            "is not what was loaded",
            "somebody changed the table inet modelfleet by hand",
            "--check --diff",
        ),
        ({"table": "different", "files": [FILE]}, {}, "warning", "is not what the inventory says", FILE, "--check --diff"),
        ({"files": [FILE]}, {}, "warning", "is not what the inventory says", FILE, "--check --diff"),
        ({}, {"enabled": "disabled"}, "warning", "off after the next boot", "its unit is disabled", "systemctl enable modelfleet-firewall"),
        (
            {"msg": "Failed to list it: no. See that."},
            {},
            "problem",
            "whether the firewall is on is not known",
            "Failed to list it: no",
            "See that",
        ),
        (
            {"wanted": False, "table": "different"},
            None,
            "warning",
            "on although the inventory says",
            "modelfleet_firewall is false",
            "site",
        ),
    ],
)
def test_the_firewall(fleet, firewall, unit_state, severity, what, cause, remedy):
    fleet.facts["gpu-1"]["firewall"] = {**WANTED, **firewall}
    if unit_state is not None:
        fleet.facts["gpu-1"]["info"]["daemons"].append(unit("modelfleet-firewall", **unit_state))
    found = fleet.only()
    assert (found["host"], found["subject"], found["severity"]) == ("gpu-1", "firewall", severity)
    assert what in found["what"] and cause in found["cause"] and remedy in found["remedy"]


def test_a_firewall_that_is_as_it_should_be(fleet):
    fleet.facts["gpu-1"]["firewall"] = WANTED
    fleet.facts["gpu-1"]["info"]["daemons"].append(unit("modelfleet-firewall"))
    fleet.facts["gpu-2"]["firewall"] = {**WANTED, "wanted": False, "table": "absent"}
    report = fleet.report()
    assert report["code"] == 0
    assert [report["hosts"][host]["firewall"] for host in ("gpu-1", "gpu-2", "seed-1")] == [True, False, None]
    said = {finding["host"]: finding["what"] for finding in report["findings"] if finding["subject"] == "firewall"}
    assert said == {"gpu-1": "it admits the hosts of the inventory", "gpu-2": "it is off, as the inventory says"}


def test_what_preflight_says_of_the_firewall(fleet):
    fleet.preflight(
        "gpu-1", "firewall", "The rules of others in the table ip filter drop what they do not admit; open it there.", "warning"
    )
    found = fleet.only()
    assert (found["subject"], found["severity"], found["remedy"]) == ("firewall", "warning", "open it there")


@pytest.fixture
def gateway(fleet, monkeypatch):
    """gpu-1 has one."""
    monkeypatch.setitem(JOBS, "gateway", ["gpu-1"])
    info = fleet.facts["gpu-1"]["info"]
    info["daemons"] += [unit("modelfleet-gateway"), unit("modelfleet-gateway-watch")]
    info["reach"].append(entry("own gateway", "gpu-1", "10.0.0.3:8443", certificate_expires=NOW + 100 * DAY))
    return info


def test_a_gateway_that_is_well(fleet, gateway):
    assert fleet.report()["code"] == 0
    # Its watch renews them.
    gateway["keys_expire"] = NOW + HOUR
    assert fleet.report()["code"] == 0
    gateway["keys_expire"] = NOW - HOUR
    assert fleet.only()["what"] == "TorchServe's keys have expired"


@pytest.mark.parametrize(
    ("number", "change", "what"),
    [
        (-2, {"active": "failed", "result": "exit-code", "exit_status": 1, "trouble": "cannot bind"}, "modelfleet-gateway does not run"),
        (-1, {"active": "inactive"}, "modelfleet-gateway-watch does not run"),
        (-1, {"load": "not-found"}, "modelfleet-gateway-watch is not installed"),
        (-2, {"stale": ["/etc/systemd/system/modelfleet-gateway.service"]}, "modelfleet-gateway runs on older files than there are"),
    ],
)
def test_a_gateway_that_is_not_what_it_should_be(fleet, gateway, number, change, what):
    gateway["daemons"][number].update(change)
    found = fleet.only()
    assert (found["what"], found["subject"]) == (what, "gateway")


def test_a_gateway_that_does_not_answer(fleet, gateway):
    gateway["reach"][-1].update(problem="Connection refused", certificate_expires=None)
    found = fleet.only()
    assert found["what"] == "modelfleet-gateway runs, but does not answer" and "10.0.0.3:8443" in found["cause"]


@pytest.mark.parametrize(("left", "severity"), [(-DAY, "problem"), (5 * DAY, "warning")])
def test_the_certificate_of_a_gateway(fleet, gateway, left, severity):
    gateway["reach"][-1]["certificate_expires"] = NOW + left
    found = fleet.only()
    assert (found["severity"], found["subject"]) == (severity, "expiry") and "gateway_certificate" in found["remedy"]


LLAMA = {"name": "llama", "version": "3.1", "bundle": "models/llama", "sha256": "9f" * 32, "runtime": "openai", "port": 8101}
SERVER = {
    "name": "llama",
    "version": "3.1",
    "default": True,
    "file": f"llama-3.1-{'9f' * 6}",
    "unit": f"openai-server-llama-3.1-{'9f' * 6}.service",
    "workers": 1,
    "workers_ready": 1,
    "gpu": 1,
    "detail": "",
}
WRONG = {"model": "llama", "version": "3.1", "ok": False, "seconds": 0.1, "detail": 'the answer is "x", expected "y"'}


@pytest.mark.parametrize(
    ("changed", "checks", "what", "remedy"),
    [
        ({}, [], None, None),
        (
            {"detail": "/health answers 503: Loading model; wait", "workers_ready": 0},
            [WRONG],
            "llama 3.1 is not ready",
            f"see journalctl -u {SERVER['unit']}",
        ),
        ({}, [WRONG], "llama 3.1 does not give its known answer", "journalctl -u 'openai-server-llama-*'"),
        (None, [], "llama 3.1 is not served", "run modelfleet.serving.site"),
    ],
)
@pytest.mark.parametrize("torchserve", [True, False])
def test_a_model_with_a_server_of_its_own(fleet, torchserve, changed, checks, what, remedy):
    """It needs no TorchServe."""
    one = fleet.models["gpu-1"]
    one["models"].append(LLAMA)
    one["gpu"].update(openai=[] if changed is None else [{**SERVER, **changed}], checks=checks)
    fleet.facts["gpu-1"]["servers"] = ["llama"]
    if not torchserve:
        fleet.facts["gpu-1"]["torchserve"] = {"reachable": False, "version": "", "models": [], "busy": False}
        one["gpu"]["served"] = None
    found = [finding for finding in fleet.report()["findings"] if finding["severity"] != "ok" and "llama" in finding["what"]]
    assert [(finding["what"], finding["severity"]) for finding in found] == ([(what, "problem")] if what else [])
    assert not what or remedy in found[0]["remedy"]


@pytest.mark.parametrize("torchserve", [True, False])
def test_a_model_of_triton(fleet, torchserve):
    one = fleet.models["gpu-1"]
    one["models"].append({key: value for key, value in LLAMA.items() if key != "port"} | {"runtime": "triton"})
    one["gpu"].update(triton=[{**SERVER, "unit": "triton.service"}], checks=[WRONG])
    fleet.facts["gpu-1"]["triton"] = ["llama"]
    if not torchserve:
        fleet.facts["gpu-1"]["torchserve"] = {"reachable": False, "version": "", "models": [], "busy": False}
        one["gpu"]["served"] = None
    (found,) = [finding for finding in fleet.report()["findings"] if finding["severity"] != "ok" and "llama" in finding["what"]]
    assert found["what"] == "llama 3.1 does not give its known answer" and found["remedy"].endswith("and journalctl -u triton")


def test_a_model_of_bentoml(fleet):
    one = fleet.models["gpu-1"]
    one["models"].append({**LLAMA, "runtime": "bentoml"})
    one["gpu"].update(bentoml=[{**SERVER, "unit": "bentoml-llama-3.1-0f3a5e9c1f0c.service"}], checks=[WRONG])
    fleet.facts["gpu-1"]["bentoml"] = ["llama"]
    (found,) = [finding for finding in fleet.report()["findings"] if finding["severity"] != "ok" and "llama" in finding["what"]]
    assert found["what"] == "llama 3.1 does not give its known answer" and found["remedy"].endswith("and journalctl -u 'bentoml-llama-*'")


def test_who_leads_the_ports_of_bentoml_does_not_run(fleet):
    daemons = fleet.facts["gpu-1"]["info"]["daemons"]
    switch = {**next(daemon for daemon in daemons if daemon["unit"] == "torchserve.service"), "unit": "modelfleet-bentoml.service"}
    daemons.append({**switch, "active": "failed", "sub": "failed", "result": "exit-code", "exit_status": 1, "trouble": "cannot bind"})
    (found,) = [finding for finding in fleet.report()["findings"] if finding["subject"] == "bentoml"]
    assert (found["what"], found["severity"]) == ("modelfleet-bentoml does not run", "problem") and "cannot bind" in found["cause"]


def test_a_triton_that_does_not_run(fleet):
    daemons = fleet.facts["gpu-1"]["info"]["daemons"]
    triton = {**next(daemon for daemon in daemons if daemon["unit"] == "torchserve.service"), "unit": "triton.service"}
    daemons.append({**triton, "active": "failed", "sub": "failed", "result": "exit-code", "exit_status": 1, "trouble": "no such library"})
    (found,) = [finding for finding in fleet.report()["findings"] if finding["subject"] == "triton"]
    assert (found["what"], found["severity"]) == ("triton does not run", "problem") and "no such library" in found["cause"]
