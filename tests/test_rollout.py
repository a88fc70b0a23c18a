# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets a new version when, who goes back, and what the run says: the plays of the collection, with a host in a file."""

from __future__ import annotations

import json
import re
import shutil
import sys

import jsonschema
import pytest
import yaml
from fleet import only_in_all
from test_distribute import HEALTHY, NOT_READY, READY, STORE, STUB, STUBBED, recap, table_of
from test_gateway import gateway_variables
from test_repository import COLLECTION, documentation, load

HOSTS = tuple(f"gpu-{number}" for number in range(1, 5))
# A run takes seconds for each host and batch: a test has as few of both as show it.
FEW = HOSTS[:2]
OLD = {"name": "demo", "version": "1.0", "object": "models/demo-1.0.mar", "sha256": "1f" * 32, "size": "64MiB"}
NEW = {**OLD, "version": "2.0", "object": "models/demo-2.0.mar", "sha256": "2f" * 32}

# In place of model_rollout: the host is a file, and what is to go wrong stands in the inventory, {step: result}.
ROLLOUT = """
import json, pathlib
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        args, host = self._task.args, task_vars["inventory_hostname"]
        look = self._task.check_mode
        path = pathlib.Path(task_vars["state_of_hosts"]) / host
        state = json.loads(path.read_text())
        said = {"module": "model_rollout", "host": host, "args": args, "look": look, "batch": list(task_vars["ansible_play_batch"])}
        with open(task_vars["log"], "a") as log:
            log.write(json.dumps(said, default=str) + "\\n")
        wrong = self._templar.template(task_vars.get("wrong", {})).get(("look " if look else "") + args["state"])
        if wrong:
            return wrong
        models, changed = [], False
        for model in args["models"]:
            before = dict(state)
            action = getattr(self, args["state"])(state, model)
            models.append({"name": model["name"], "version": model["version"], "from": before["current"], "previous": before["previous"],
                           "runtime": model.get("runtime") or "torchserve", "on_disk": False, "workers": 1, "workers_ready": 1,
                           "action": action,
                           "removable": [{"name": "demo", "version": "0.9", "sha256": "0f" * 32}] if action == "finished" else []})
            changed = changed or action != "unchanged"
        if not look:
            path.write_text(json.dumps(state))
        return {"changed": changed, "models": models, "time": 1000.0, "seconds": 2.5}

    def prepared(self, state, model):
        if model["version"] == state["current"]:
            return self.undone(state, model)
        if state["staged"] == model["version"]:
            return "unchanged"
        state["staged"] = model["version"]
        return "prepared"

    def switched(self, state, model):
        if state["answers"] == model["version"]:
            return "unchanged"
        state["answers"] = model["version"]
        return "switched"

    def finished(self, state, model):
        if state["current"] == model["version"]:
            return "unchanged"
        state.update(previous=state["current"], current=model["version"], staged="")
        return "finished"

    def undone(self, state, model):
        if not state["staged"]:
            return "unchanged"
        state.update(answers=state["current"], staged="")
        return "undone"

    def rolled_back(self, state, model):
        if state["current"] != model["version"]:
            return self.undone(state, model)
        state.update(current=state["previous"], previous=state["current"], answers=state["previous"])
        return "rolled_back"
"""
# Of these the answer of a host is in the inventory.
ANSWERING = (*STUBBED, "traffic_check", "model_rollout_info", "gpu_info", "haproxy_server")
FREE = {"changed": True, "run": "this", "holder": {}, "taken_over": False}
GOOD = {
    "preflight_info": READY,
    "dfdaemon_info": HEALTHY,
    "model_artifact": {"artifacts": [], "bytes": {}},
    "rollout_lock": FREE,
    "inference_check": {"checks": [{"model": "demo", "version": "2.0", "ok": True, "seconds": 0.1, "detail": ""}]},
    "traffic_check": {"ok": True, "saw": "p95 20 ms", "allowed": "p95 30 ms"},
}


class Fleet:
    def __init__(self, run, tmp_path):
        self.run, self.tmp_path = run, tmp_path
        self.environment = {}
        self.state = tmp_path / "state"
        self.state.mkdir()
        collection = tmp_path / "ansible_collections/modelfleet/serving"
        for part in ("playbooks", "roles", "plugins", "meta"):
            shutil.copytree(COLLECTION / part, collection / part)
        for name in (*ANSWERING, "model_rollout"):
            (collection / f"plugins/action/{name}.py").write_text(ROLLOUT if name == "model_rollout" else STUB)
            (collection / f"plugins/modules/{name}.py").touch()
        # The real ones wait for sockets.
        (collection / "roles/dfdaemon/tasks/seed_ready.yml").write_text("[]")
        (collection / "roles/modelfleet/tasks/packages.yml").write_text("[]")
        for host in HOSTS:
            self.put(host)

    def put(self, host, current="1.0", answers=None, previous="", staged=""):
        state = {"current": current, "answers": answers or current, "previous": previous, "staged": staged}
        (self.state / host).write_text(json.dumps(state))

    def read(self, key="current"):
        return {host: json.loads((self.state / host).read_text())[key] for host in HOSTS}

    def play(self, playbook, *options, hosts=HOSTS, models=(NEW,), answers=None, wrong=None, of_hosts=None, groups=None, **variables):
        """Run a play on some hosts; ``answers``, ``wrong`` and their own variables ``of_hosts`` are {host: {…}}.

        Returns (process, calls).
        """
        log = self.tmp_path / "log"
        log.write_text("")
        common = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "modelfleet_storage": STORE,
            "modelfleet_models": list(models),
            "modelfleet_rollout_batches": ["1", "2", "100%"],
            "dragonfly_scheduler_release_sha256": "9f" * 32,
            "dfdaemon_release_sha256": "9f" * 32,
            "log": str(log),
            "state_of_hosts": str(self.state),
            **variables,
        }
        members = {"dragonfly_schedulers": ["base-1"], "dragonfly_seed_peers": ["base-1"], "gpu_hosts": hosts, **(groups or {})}
        names = list(dict.fromkeys(name for group in members.values() for name in group))
        described = {
            name: {
                "modelfleet_address": f"10.1.0.{number + 1}",
                "answers": {**GOOD, **(answers or {}).get(name, {})},
                "wrong": (wrong or {}).get(name, {}),
                **(of_hosts or {}).get(name, {}),
            }
            for number, name in enumerate(names)
        }
        children = {group: {"hosts": {name: described[name] for name in found}} for group, found in members.items()}
        inventory = yaml.safe_dump({"all": {"vars": common, "children": children}}, sort_keys=False)
        (self.tmp_path / "hosts.yml").write_text(inventory)
        done = self.run(
            "ansible-playbook",
            "-i",
            self.tmp_path / "hosts.yml",
            f"modelfleet.serving.{playbook}",
            *options,
            ANSIBLE_COLLECTIONS_PATH=str(self.tmp_path),
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
            **self.environment,
        )
        assert "WARN" not in done.stdout, done.stdout
        return done, [json.loads(line) for line in log.read_text().splitlines()]


@pytest.fixture
def fleet(run, tmp_path):
    return Fleet(run, tmp_path)


def touched(calls):
    """The hosts on which something was done, in order, each once."""
    return list(dict.fromkeys(call["host"] for call in calls if call["module"] == "model_rollout" and not call["look"]))


def steps(calls, host):
    return [call["args"]["state"] for call in calls if call["module"] == "model_rollout" and call["host"] == host and not call["look"]]


def unlocked(calls):
    """The hosts that gave their lock back."""
    return sorted(call["host"] for call in calls if call["module"] == "rollout_lock" and call["args"].get("state") == "absent")


def balanced(calls, host):
    """What was done with a host, and with it in a balancer, in order."""
    modules = ("haproxy_server", "model_rollout")
    return [call["args"]["state"] for call in calls if call["module"] in modules and call["host"] == host and not call.get("look")]


def removed(calls, host):
    """The versions that are taken away from a host, in order."""
    asked = [call["args"]["artifacts"] for call in calls if call["module"] == "model_artifact" and call["host"] == host]
    return [one["version"] for artifacts in asked for one in artifacts if one["state"] == "absent"]


def changed(done):
    return sum(int(count) for count in re.findall(r"changed=(\d+)", done.stdout))


def ending(done):
    """The table at the end, and what is wrong below it."""
    return "\n".join(table_of(done, "Show what became of it"))


def rows(done):
    """{host: its line of the table}"""
    lines = [re.split(r"  +", line) for line in ending(done).splitlines()[2:] if line.startswith("gpu-") and "  " in line]
    return {host: dict(zip(("model", "from", "to", "outcome", "gate", "saw", "allowed"), line, strict=True)) for host, *line in lines}


def outcomes(done):
    return {host: row["outcome"] for host, row in rows(done).items()}


def failures(done):
    return {host for host, failed in recap(done).items() if failed}


WENT = ["prepared", "switched", "finished"]


@only_in_all
def test_in_batches_each_after_the_one_before_and_out_of_the_balancing_meanwhile(fleet, tmp_path):
    tasks = [{"name": "Say", "ansible.builtin.debug": {"msg": "{{ inventory_hostname }} is to be {{ __rollout_hook_state }}"}}]
    (tmp_path / "hook.yml").write_text(yaml.safe_dump(tasks))
    # Each host has another kind of hook, and the command is one more gate.
    hooks = {"gpu-1": "haproxy", "gpu-2": "hook.yml", "gpu-3": ["true"], "gpu-4": "gateway"}
    # The socket of a gateway that runs.
    variables = tmp_path / "ansible_collections/modelfleet/serving/roles/gateway/vars/main.yml"
    variables.write_text(variables.read_text().replace("/run/modelfleet-gateway/admin.sock", f"{tmp_path}/admin.sock"))
    (tmp_path / "admin.sock").touch()
    same = {
        "models": [NEW, {**OLD, "version": "1.1", "state": "absent"}],
        "of_hosts": {host: {"modelfleet_drain": hook, "modelfleet_return": hook} for host, hook in hooks.items()},
        "groups": {"load_balancers": ["balancer-1", "balancer-2"], "modelfleet_gateways": ["gpu-4"]},
        **gateway_variables(tmp_path),
        "modelfleet_rollout_command": ["true"],
        "modelfleet_files_dir": str(tmp_path),
    }
    done, calls = fleet.play("rollout", **same)
    assert done.returncode == 0, done.stdout
    assert set(fleet.read().values()) == {"2.0"} and set(fleet.read("previous").values()) == {"1.0"}
    batches = []
    for call in calls:
        if call["module"] == "model_rollout" and not call["look"] and call["batch"] not in batches:
            batches.append(call["batch"])
    assert batches == [["gpu-1"], ["gpu-2", "gpu-3"], ["gpu-4"]]
    assert sorted(touched(calls)) == list(HOSTS) and steps(calls, "gpu-4") == WENT
    assert balanced(calls, "gpu-1") == ["drain", "drain", "prepared", "switched", "ready", "ready", "finished"]
    assert balanced(calls, "gpu-4") == ["drain", "prepared", "switched", "ready", "finished"]
    told = [call["args"]["socket"] for call in calls if call["module"] == "haproxy_server"]
    assert told == ["/run/haproxy/admin.sock"] * 4 + [f"{tmp_path}/admin.sock"] * 2
    assert done.stdout.index("gpu-2 is to be drain") < done.stdout.index("gpu-2 is to be ready")
    modules = [call["module"] for call in calls]
    # Everybody has it before anybody serves it.
    brought = [call["module"] == "model_artifact" and call["args"]["artifacts"][0]["state"] == "present" for call in calls]
    last_brought = max(index for index, one in enumerate(brought) if one)
    assert last_brought < min(index for index, call in enumerate(calls) if call["module"] == "model_rollout" and not call["look"])
    planned = table_of(done, "Plan the rollout")
    assert planned[0].split() == ["host", "model", "from", "to", "to", "bring", "free"]
    assert planned[2].split() == ["gpu-1", "demo", "1.0", "2.0", "64.0MiB", "-"]
    passed = {"model": "demo", "from": "1.0", "to": "2.0", "outcome": "activated", "gate": "5 passed", "saw": "-", "allowed": "-"}
    assert rows(done) == dict.fromkeys(HOSTS, passed)
    for call in calls:
        known = documentation(COLLECTION / f"plugins/modules/{call['module']}.py")["options"] or {}
        assert set(call["args"]) - {"storage"} <= set(known), call
    assert unlocked(calls) == list(HOSTS)
    # What is absent by now, and what nothing goes back to, goes at last.
    assert [removed(calls, host) for host in HOSTS] == [["1.1", "0.9"]] * len(HOSTS)
    last_finished = max(index for index, call in enumerate(calls) if call["module"] == "model_rollout" and not call["look"])
    assert last_finished < modules.index("torchserve_model")

    done, calls = fleet.play("rollout", **same)
    assert done.returncode == 0 and touched(calls) == [], done.stdout
    assert changed(done) == 0 and "Every host serves what modelfleet_models names." in done.stdout
    assert unlocked(calls) == list(HOSTS)


@only_in_all
def test_a_model_with_a_server_of_its_own_and_its_way_back(fleet):
    """Its unit is there before its server is to start, and as one goes before the other comes, the host is drained both ways."""
    new = {"name": "demo", "version": "2.0", "bundle": "models/demo", "sha256": "2f" * 32, "runtime": "openai", "port": 8101}
    same = {
        "hosts": FEW,
        "models": [new],
        "groups": {"load_balancers": ["balancer-1"]},
        "modelfleet_drain": "haproxy",
        "modelfleet_return": "haproxy",
        "openai_server_command": ["/opt/vllm/bin/vllm", "serve", "{directory}", "--port", "{port}"],
    }
    daemons = {"daemon": {"action": "none", "restart_owed": False}}
    done, calls = fleet.play("rollout", **same, answers=dict.fromkeys(FEW, daemons))
    assert done.returncode == 0 and outcomes(done) == dict.fromkeys(FEW, "activated"), done.stdout
    mine = [call for call in calls if call["host"] == "gpu-1" and not call.get("look")]
    order = [
        (call["module"], call["args"].get("state")) for call in mine if call["module"] in ("daemon", "model_rollout", "haproxy_server")
    ]
    assert order[:3] == [("daemon", None), ("haproxy_server", "drain"), ("model_rollout", "prepared")]
    unit, gone = (call["args"] for call in mine if call["module"] == "daemon")
    assert (unit["name"], unit["start"]) == (f"openai-server-demo-2.0-{'2f' * 6}.service", False)
    # What nothing goes back to has a unit as well.
    assert (gone["name"], gone["state"]) == (f"openai-server-demo-0.9-{'0f' * 6}.service", "absent")
    assert [call["args"]["runtime"] for call in mine if call["module"] == "traffic_check"] == ["openai"]
    assert {one["runtime"] for call in mine if call["module"] == "model_rollout" for one in call["args"]["models"]} == {"openai"}

    done, calls = fleet.play("rollback", **same, answers={host: {**daemons, **found("2.0", "1.0")} for host in FEW})
    assert done.returncode == 0 and fleet.read() == dict.fromkeys(HOSTS, "1.0"), done.stdout
    assert balanced(calls, "gpu-1") == ["drain", "rolled_back", "ready"]


@only_in_all
def test_a_model_of_bentoml_and_its_way_back(fleet):
    """Its unit is there before its server is to start; the way back, on which both are beside each other, drains nobody."""
    new = {"name": "demo", "version": "2.0", "bundle": "models/demo", "sha256": "2f" * 32, "runtime": "bentoml", "port": 8301}
    same = {
        "hosts": FEW,
        "models": [new],
        "groups": {"load_balancers": ["balancer-1"]},
        "modelfleet_drain": "haproxy",
        "modelfleet_return": "haproxy",
        "bentoml_program": "/usr/bin/true",
    }
    daemons = {"daemon": {"action": "none", "restart_owed": False}}
    done, calls = fleet.play("rollout", **same, answers=dict.fromkeys(FEW, daemons))
    assert done.returncode == 0 and outcomes(done) == dict.fromkeys(FEW, "activated"), done.stdout
    mine = [call for call in calls if call["host"] == "gpu-1" and not call.get("look")]
    order = [
        (call["module"], call["args"].get("state")) for call in mine if call["module"] in ("daemon", "model_rollout", "haproxy_server")
    ]
    assert order[:4] == [("daemon", None), ("daemon", None), ("haproxy_server", "drain"), ("model_rollout", "prepared")]
    switch, unit, gone = (call["args"] for call in mine if call["module"] == "daemon")
    assert (switch["name"], switch["start"]) == ("modelfleet-bentoml.service", False)
    assert (unit["name"], unit["start"]) == (f"bentoml-demo-2.0-{'2f' * 6}.service", False)
    assert (gone["name"], gone["state"]) == (f"bentoml-demo-0.9-{'0f' * 6}.service", "absent")
    assert [call["args"]["runtime"] for call in mine if call["module"] == "traffic_check"] == ["bentoml"]

    done, calls = fleet.play("rollback", **same, answers={host: {**daemons, **found("2.0", "1.0")} for host in FEW})
    assert done.returncode == 0 and fleet.read() == dict.fromkeys(HOSTS, "1.0"), done.stdout
    assert balanced(calls, "gpu-1") == ["rolled_back"]


@only_in_all
def test_a_model_of_triton_and_its_way_back(fleet):
    """One version goes before the other comes, so that the host is drained both ways."""
    new = {"name": "demo", "version": "2.0", "bundle": "models/demo", "sha256": "2f" * 32, "runtime": "triton"}
    same = {
        "hosts": FEW,
        "models": [new],
        "groups": {"load_balancers": ["balancer-1"]},
        "modelfleet_drain": "haproxy",
        "modelfleet_return": "haproxy",
    }
    done, calls = fleet.play("rollout", **same)
    assert done.returncode == 0 and outcomes(done) == dict.fromkeys(FEW, "activated"), done.stdout
    mine = [call for call in calls if call["host"] == "gpu-1" and not call.get("look")]
    order = [
        (call["module"], call["args"].get("state")) for call in mine if call["module"] in ("daemon", "model_rollout", "haproxy_server")
    ]
    assert order[:2] == [("haproxy_server", "drain"), ("model_rollout", "prepared")] and "daemon" not in dict(order)
    assert [call["args"]["runtime"] for call in mine if call["module"] == "traffic_check"] == ["triton"]
    assert {one["runtime"] for call in mine if call["module"] == "model_rollout" for one in call["args"]["models"]} == {"triton"}

    done, calls = fleet.play("rollback", **same, answers={host: found("2.0", "1.0") for host in FEW})
    assert done.returncode == 0 and fleet.read() == dict.fromkeys(HOSTS, "1.0"), done.stdout
    assert balanced(calls, "gpu-1") == ["drain", "rolled_back", "ready"]


def test_check_mode_is_the_plan(fleet):
    done, calls = fleet.play("rollout", "--check", hosts=FEW)
    assert done.returncode == 0, done.stdout
    assert touched(calls) == [] and all(call.get("look", True) for call in calls)
    assert outcomes(done) == dict.fromkeys(FEW, "planned") and changed(done) >= len(FEW)


SLOW = {"traffic_check": {"ok": False, "saw": "p95 90 ms, errors 0.0 % of 500 requests (access log)", "allowed": "p95 50 ms, errors 0.0 %"}}


def gpu(used, total, temperature, margin=None):
    told = {"memory_used_mib": used, "memory_total_mib": total, "temperature_c": temperature, "temperature_margin_c": margin}
    return {"gpu_info": {"gpus": [{"index": 0, **told}]}}


@only_in_all
def test_each_gate_keeps_a_version_from_answering(fleet):
    answer = {"model": "demo", "version": "2.0", "ok": False, "seconds": 0.1, "detail": "$.y is 3, expected 2"}
    answers = {
        "gpu-1": {"inference_check": {"checks": [answer]}},
        "gpu-2": gpu(951, 1000, 85),
        "gpu-3": gpu(None, None, 86),
        # As much as is allowed.
        "gpu-4": gpu(950, 1000, 85, 1),
    }
    command = ["sh", "-c", "echo saw $MODELFLEET_MODEL $MODELFLEET_OLD_VERSION $MODELFLEET_VERSION; exit 3"]
    everything = {"modelfleet_rollout_batches": ["100%"], "modelfleet_rollout_command": command, "torchserve_device": "gpu"}
    done, calls = fleet.play("rollout", answers=answers, **everything)
    assert done.returncode == 2 and failures(done) == set(HOSTS), done.stdout
    assert [steps(calls, host) for host in HOSTS] == [["prepared", "undone", "rolled_back"]] * len(HOSTS)
    assert set(fleet.read().values()) == set(fleet.read("answers").values()) == {"1.0"}
    assert outcomes(done) == dict.fromkeys(HOSTS, "went back")
    allowed = "95 %, 85 °C and less than its own limit"
    assert {host: (row["gate"], row["saw"], row["allowed"]) for host, row in rows(done).items()} == {
        "gpu-1": ("answers", "$.y is 3, expected 2", "the known answer"),
        "gpu-2": ("gpu", "GPU 0 with 95.1 % of its memory in use, 85 °C", allowed),
        "gpu-3": ("gpu", "GPU 0 with 0 % of its memory in use, 86 °C", allowed),
        "gpu-4": ("command", "status 3: saw demo 1.0 2.0", "status 0"),
    }
    assert "gpu-1: Stop at the gate: answers: demo: $.y is 3, expected 2, allowed: the known answer." in ending(done)


@only_in_all
def test_a_gpu_that_slows_down_by_itself_is_too_warm(fleet):
    """At 70 °C an H100 said that 9 °C are left."""
    answers = {"gpu-1": gpu(500, 1000, 79, 0), "gpu-2": gpu(500, 1000, 70, 9)}
    done, _calls = fleet.play("rollout", hosts=FEW, answers=answers, modelfleet_rollout_batches=["100%"], torchserve_device="gpu")
    assert done.returncode == 2 and failures(done) == {"gpu-1"}, done.stdout
    assert rows(done)["gpu-1"]["saw"] == "GPU 0 with 50.0 % of its memory in use, 79 °C, 0 °C left to its own limit"


def test_the_first_host_keeps_it_from_the_others(fleet):
    wrong = {"prepared": {"failed": True, "msg": "Failed to register model demo 2.0."}}
    done, calls = fleet.play("rollout", hosts=FEW, wrong={"gpu-1": wrong})
    assert done.returncode == 2 and failures(done) == {"gpu-1"}
    assert touched(calls) == ["gpu-1"] and steps(calls, "gpu-1") == ["prepared", "undone", "rolled_back"]
    assert set(fleet.read().values()) == {"1.0"}
    assert outcomes(done) == {"gpu-1": "went back", "gpu-2": "untouched"}
    assert rows(done)["gpu-1"]["gate"] == "ready" and "Failed to register model demo 2.0." in rows(done)["gpu-1"]["saw"]
    assert unlocked(calls) == list(FEW)


@only_in_all
def test_a_batch_goes_back_as_a_whole_and_no_other_and_the_next_run_goes_on(fleet):
    hooks = {"modelfleet_drain": "haproxy", "modelfleet_return": "haproxy", "groups": {"load_balancers": ["balancer-1"]}}
    done, calls = fleet.play("rollout", answers={"gpu-3": SLOW}, **hooks)
    assert done.returncode == 2 and failures(done) == {"gpu-3"}
    assert fleet.read() == {**dict.fromkeys(HOSTS, "1.0"), "gpu-1": "2.0"} and fleet.read("answers") == fleet.read()
    assert sorted(touched(calls)) == ["gpu-1", "gpu-2", "gpu-3"]
    assert [removed(calls, host) for host in HOSTS] == [[]] * len(HOSTS)
    # gpu-2 had passed its own gates.
    for host in "gpu-2", "gpu-3":
        assert balanced(calls, host) == ["drain", "prepared", "switched", "ready", "drain", "undone", "rolled_back", "ready"]
    assert outcomes(done) == {"gpu-1": "activated", "gpu-2": "went back", "gpu-3": "went back", "gpu-4": "untouched"}
    assert (rows(done)["gpu-3"]["gate"], rows(done)["gpu-3"]["saw"]) == ("traffic", SLOW["traffic_check"]["saw"])
    assert unlocked(calls) == list(HOSTS)

    # Once it is corrected, on from there; another run was interrupted meanwhile and may have left hosts out of the balancing.
    left = {**FREE, "taken_over": True, "holder": {"user": "alice", "controller": "control-1", "pid": 1, "since": "then", "run": "dead"}}
    fleet.put("gpu-2", answers="2.0", staged="2.0")
    locks = {host: {"rollout_lock": left} for host in FEW}
    done, calls = fleet.play("rollout", hosts=FEW, answers=locks, modelfleet_rollout_batches=["100%"], **hooks)
    assert done.returncode == 0, done.stdout
    assert "The run of alice on control-1 since then came to no end here" in done.stdout
    assert fleet.read()["gpu-1"] == fleet.read()["gpu-2"] == "2.0"
    assert [balanced(calls, host)[-2:] for host in FEW] == [["ready", "finished"]] * 2


@only_in_all
def test_the_old_list_takes_away_what_an_interrupted_run_left(fleet):
    fleet.put("gpu-1", answers="2.0", staged="2.0")
    done, _calls = fleet.play("rollout", hosts=HOSTS[:1], models=[OLD])
    assert done.returncode == 0, done.stdout
    assert fleet.read("answers")["gpu-1"] == "1.0" and fleet.read("staged")["gpu-1"] == ""


@only_in_all
def test_what_was_finished_goes_back_where_another_of_its_batch_could_not_be(fleet):
    wrong = {"gpu-2": {"finished": {"failed": True, "msg": "Failed to finish."}}}
    done, calls = fleet.play("rollout", hosts=FEW, wrong=wrong, modelfleet_rollout_batches=["2"])
    assert done.returncode == 2
    assert set(fleet.read().values()) == {"1.0"}
    assert steps(calls, "gpu-1") == [*WENT, "undone", "rolled_back"]


@only_in_all
def test_a_host_that_is_lost_on_the_way(fleet):
    gone = {"unreachable": True, "msg": "Task failed: no route"}
    wrong = {"gpu-1": {"switched": gone, "undone": gone}}
    done, calls = fleet.play("rollout", hosts=FEW, wrong=wrong, modelfleet_rollout_batches=["2"])
    assert done.returncode != 0
    assert set(fleet.read().values()) == {"1.0"} and "undone" in steps(calls, "gpu-2")
    assert outcomes(done) == {"gpu-1": "NOT UNDONE", "gpu-2": "went back"}
    assert "gpu-1: See that it was done: unreachable: no route" in ending(done)


# Bad input: one sentence for each, nothing changed.


@only_in_all
def test_bad_variables(fleet):
    wrong = {
        "modelfleet_rollout_batches": ["50%", "20%"],
        "modelfleet_rollout_soak_seconds": -1,
        "modelfleet_rollout_soak_requests": 0,
        "modelfleet_rollout_error_rate": -0.5,
        "modelfleet_rollout_latency_factor": 0.5,
        "modelfleet_rollout_latency_margin_ms": -1,
        "modelfleet_rollout_gpu_memory_percent": 0,
        "modelfleet_rollout_gpu_temperature": 0,
        "modelfleet_drain": "haproxy",
        "modelfleet_return": "haproxy",
    }
    done, calls = fleet.play("rollout", hosts=FEW, models=[OLD, NEW], **wrong)
    assert done.returncode != 0 and calls == []
    for words in (
        "The modelfleet_rollout_batches does not increase (50%, 20%)",
        "The modelfleet_rollout_soak_seconds is -1, which nothing could pass",
        "The modelfleet_rollout_soak_requests is 0, which nothing could pass",
        "The modelfleet_rollout_error_rate is -0.5, which nothing could pass",
        "The modelfleet_rollout_latency_factor is 0.5, which not even the same version would pass",
        "The modelfleet_rollout_latency_margin_ms is -1, which nothing could pass",
        "The modelfleet_rollout_gpu_memory_percent is 0, which nothing could pass",
        "The modelfleet_rollout_gpu_temperature is 0, which nothing could pass",
        "The group load_balancers has no host",
        "The model demo has several versions in modelfleet_models",
    ):
        assert words in done.stdout


def test_a_gate_that_there_is_not(fleet):
    done, calls = fleet.play("rollout", hosts=FEW, modelfleet_rollout_gates=["luck"])
    assert done.returncode != 0 and "modelfleet_rollout_gates" in done.stdout and calls == []


@only_in_all
def test_an_empty_group(fleet):
    done, calls = fleet.play("rollout", hosts=[])
    assert done.returncode != 0 and "The group gpu_hosts has no host" in done.stdout
    assert touched(calls) == []


OTHER = "Refused model demo 2.0: this host has other content under that version."
HELD = "Refused: a run of alice on control-1 (process 7) has worked on this host since 2026-11-26T06:00:00Z."


@only_in_all
@pytest.mark.parametrize(
    ("answers", "wrong", "said"),
    [
        (
            {"gpu-1": {"preflight_info": NOT_READY}, "gpu-2": {"preflight_info": {"unreachable": True, "msg": "no route"}}},
            {},
            {"gpu-1": "It has no room.", "gpu-2": "unreachable: no route"},
        ),
        (
            {"gpu-1": {"rollout_lock": {"failed": True, "msg": HELD}}},
            {"gpu-2": {"look prepared": {"failed": True, "msg": OTHER}}},
            {"gpu-1": HELD, "gpu-2": OTHER},
        ),
        ({"gpu-2": {"model_artifact": {"failed": True, "msg": "Failed to fetch."}}}, {}, {"gpu-2": "Failed to fetch."}),
    ],
)
def test_one_host_that_cannot_take_part_stops_all_before_anything_serves(fleet, answers, wrong, said):
    done, calls = fleet.play("rollout", hosts=HOSTS[:3], answers=answers, wrong=wrong)
    assert done.returncode == 2 and touched(calls) == [], done.stdout
    assert failures(done) == set(said)
    for host, words in said.items():
        assert re.search(rf"^{host}: .*{re.escape(words)}", ending(done), re.MULTILINE), done.stdout
    # Who has no lock gives none back.
    assert set(unlocked(calls)) <= {"gpu-1", "gpu-2", "gpu-3"} - {host for host, words in said.items() if words == HELD}


# Back.


def found(current, previous="", staged="", run="last", since=200, rolled_back=False):
    one = {"name": "demo", "current": current, "previous": previous, "staged": staged}
    return {"model_rollout_info": {"models": [{**one, "run": run, "since": since, "rolled_back": rolled_back}]}}


def test_rollback_leaves_what_the_last_rollout_brought_and_nothing_else(fleet):
    answers = {
        "gpu-1": found("2.0", "1.0"),
        "gpu-2": found("1.0", staged="2.0"),
        "gpu-3": found("2.0", "1.0"),
        "gpu-4": found("1.0", "0.9", run="first", since=100),
    }
    fleet.put("gpu-1", current="2.0", previous="1.0")
    fleet.put("gpu-2", answers="2.0", previous="0.9", staged="2.0")
    fleet.put("gpu-3", current="2.0", previous="1.0")
    gone = {"look rolled_back": {"failed": True, "msg": "Failed to go back to model demo 1.0: it is no longer on this host."}}
    done, calls = fleet.play("rollback", answers=answers, wrong={"gpu-3": gone})
    # A host that cannot go back says why, and keeps no other from it.
    assert done.returncode == 2 and failures(done) == {"gpu-3"}, done.stdout
    assert fleet.read() == {**dict.fromkeys(HOSTS, "1.0"), "gpu-3": "2.0"} and fleet.read("answers") == fleet.read()
    assert sorted(touched(calls)) == ["gpu-1", "gpu-2"]
    assert {call["module"] for call in calls} == {"model_rollout", "model_rollout_info", "rollout_lock"}
    went = {host: (row["model"], row["from"], row["to"], row["outcome"]) for host, row in rows(done).items()}
    assert went == dict.fromkeys(("gpu-1", "gpu-2"), ("demo", "2.0", "1.0", "rolled back"))
    assert "The host that took longest was back after 2.5 s." in ending(done)
    assert "gpu-3: " in ending(done) and "it is no longer on this host" in ending(done)
    assert unlocked(calls) == list(HOSTS)


@only_in_all
def test_a_second_rollback_changes_nothing(fleet):
    done, calls = fleet.play("rollback", hosts=FEW, answers={host: found("1.0", "2.0", rolled_back=True) for host in FEW})
    assert done.returncode == 0 and touched(calls) == [] and changed(done) == 0, done.stdout


@only_in_all
def test_all_or_nothing_goes_for_the_way_back_too(fleet):
    for host in FEW:
        fleet.put(host, current="2.0", previous="1.0")
    wrong = {"gpu-2": {"look rolled_back": {"failed": True, "msg": "It is gone."}}}
    answers = {host: found("2.0", "1.0") for host in FEW}
    done, calls = fleet.play("rollback", hosts=FEW, answers=answers, wrong=wrong, modelfleet_all_or_nothing=True)
    assert done.returncode == 2 and touched(calls) == []


def test_phases_and_outcomes_have_one_list():
    sys.path.insert(0, str(COLLECTION.parents[2]))
    from ansible_collections.modelfleet.serving.plugins.module_utils import _rollout_phases as phases

    role = COLLECTION / "roles/rollout"
    gates = {path.stem for path in (role / "tasks/gates").glob("*.yml")}
    variables = load(role / "vars/main.yml")
    for name, known in ("__rollout_before", phases.GATES_BEFORE), ("__rollout_after", phases.GATES_AFTER):
        assert re.findall(r"'(\w+)'", variables[name])[:-1] == list(known)
    fleet = load(COLLECTION / "roles/variables/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(fleet["modelfleet_rollout_gates"]["choices"]) == gates == {*phases.GATES_BEFORE, *phases.GATES_AFTER}
    said = {"__rollout_mark": set(), "__rollout_outcome": set()}
    for path in (role / "tasks").glob("*.yml"):
        for fact, value in re.findall(r"(__rollout_mark|__rollout_outcome): (.*)", path.read_text(encoding="utf-8")):
            said[fact] |= set(re.findall(r"'([a-z ]+)'", value)) if "{{" in value else {value}
    assert said["__rollout_mark"] - {"plan", "idle"} | gates | {"reach"} == set(phases.PHASES)
    shown = set(re.findall(r"'(planned|untouched)'", (role / "tasks/report.yml").read_text(encoding="utf-8")))
    assert said["__rollout_outcome"] | shown == set(phases.OUTCOMES)


# The report.


PHASES = ("drain", "ready", "answers", "gpu", "command", "switch", "return", "traffic")
BROUGHT = {"remote_peer": 60 << 20, "origin": 4 << 20, "local_peer": 0}
ARTIFACTS = {
    "changed": True,
    "artifacts": [
        {"name": "demo", "version": "2.0", "action": "fetched", "size": 64 << 20, "fetched": 64 << 20, "seconds": 2.5, "links": 2}
    ],
    "bytes": BROUGHT,
    "samples": [{"seconds": 0.0, **dict.fromkeys(BROUGHT, 0)}, {"seconds": 2.5, **BROUGHT}],
    # When it was asked, in the inventory.
    "began": "{{ now().timestamp() }}",
}
MEASURED = {"old": {"requests": 500, "errors": 0, "p95_ms": 20.5}, "new": {"requests": 500, "errors": 0, "p95_ms": 90}}


def reports(fleet):
    """{name of the play: report}, each as its JSON Schema says, with its page beside it."""
    schema = json.loads((COLLECTION / "docs/rollout_report.schema.json").read_text())
    found = {}
    for path in sorted((fleet.tmp_path / "reports").glob("*.json")):
        report = json.loads(path.read_text())
        jsonschema.validate(report, schema)
        page = path.with_suffix(".html").read_text()
        assert all(f">{host}</li>" in page for host in HOSTS)
        found[path.name.partition("-")[0]] = report
    return found


@only_in_all
def test_a_report_of_each_run(fleet):
    answers = {host: {"model_artifact": ARTIFACTS} for host in HOSTS}
    nothing = {"requests": 0, "errors": 0, "p95_ms": 0}
    unseen = {"ok": True, "saw": "no requests to compare", "allowed": "errors 0.0 %", "old": nothing, "new": nothing}
    answers["gpu-1"]["traffic_check"] = unseen
    answers["gpu-3"]["traffic_check"] = {**SLOW["traffic_check"], **MEASURED}
    answers["base-1"] = {"dfdaemon_info": {**HEALTHY, "traffic": {"origin": 5 << 20}}}
    wanted = {"modelfleet_report_dir": str(fleet.tmp_path / "reports")}
    fleet.play("rollout", "--check", answers=answers, **wanted)
    assert reports(fleet) == {}, "nothing is written in check mode"
    done, _calls = fleet.play("rollout", answers=answers, **wanted)
    report = reports(fleet)["rollout"]
    assert not report["ok"] and report["batches"] == [["gpu-1"], ["gpu-2", "gpu-3"], ["gpu-4"]]
    assert {host: one["outcome"] for host, one in report["hosts"].items()} == {
        "gpu-1": "activated", "gpu-2": "went back", "gpu-3": "went back", "gpu-4": "untouched",
    }  # fmt: skip
    assert {host: [one["phase"] for one in report["hosts"][host]["phases"]] for host in ("gpu-1", "gpu-3", "gpu-4")} == {
        "gpu-1": ["check", "plan", "bring", *PHASES, "ready", "finish"],
        "gpu-3": ["check", "plan", "bring", *PHASES, "undo"],
        "gpu-4": ["check", "plan", "bring"],
    }
    assert [one["phase"] for one in report["hosts"]["gpu-3"]["phases"] if one["failed"]] == ["traffic"]
    assert all(one["ended"] >= one["began"] for host in report["hosts"].values() for one in host["phases"])
    # A gate that nothing went through is not one that was passed.
    assert list(rows(done)["gpu-1"].values())[3:] == ["activated", "3 passed", "traffic: no requests to compare", "errors 0.0 %"]
    gates = {one["gate"]: one for one in report["hosts"]["gpu-3"]["gates"]}
    assert gates["traffic"]["new"] == MEASURED["new"] and gates["traffic"]["old"] == MEASURED["old"] and not gates["traffic"]["ok"]
    assert report["hosts"]["gpu-3"]["models"] == [{"name": "demo", "from": "1.0", "to": "2.0"}]
    assert report["hosts"]["gpu-4"]["brought"]["samples"] == ARTIFACTS["samples"]
    # The stub's seed peer took nothing between two readings.
    assert report["origin"] == {"bytes": 16 << 20, "model_bytes": 64 << 20, "ratio": 0.25}
    assert [one["host"] for one in report["problems"]] == ["gpu-3"]
    assert "The report of this run: " in done.stdout
    # By the first host of all, for which it is no change.
    assert re.search(r"^base-1 +: .* changed=0 ", done.stdout, re.MULTILINE), done.stdout

    answers = {"gpu-1": found("2.0", "1.0"), **{host: found("1.0") for host in HOSTS[1:]}}
    done, _calls = fleet.play("rollback", answers=answers, **wanted)
    assert done.returncode == 0, done.stdout
    report = reports(fleet)["rollback"]
    assert report["ok"] and {host: one["outcome"] for host, one in report["hosts"].items()} == {
        "gpu-1": "rolled back", "gpu-2": "unchanged", "gpu-3": "unchanged", "gpu-4": "unchanged",
    }  # fmt: skip
    assert [one["phase"] for one in report["hosts"]["gpu-1"]["phases"]] == ["check", "plan", "rollback"]
