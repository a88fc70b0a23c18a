# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who gets a new version when, who goes back, and what the run says: the plays of the collection, with a host in a file."""

from __future__ import annotations

import json
import shutil
import sys

import pytest
import yaml
from test_distribute import HEALTHY, NOT_READY, READY, STORE, STUB, STUBBED, recap, table_of
from test_repository import COLLECTION, documentation

HOSTS = tuple(f"gpu-{number}" for number in range(1, 5))
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
                           "on_disk": False, "workers": 1, "workers_ready": 1, "action": action, "removable": []})
            changed = changed or action != "unchanged"
        if not look:
            path.write_text(json.dumps(state))
        return {"changed": changed, "models": models, "time": 1000.0}

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
ANSWERING = (*STUBBED, "traffic_check", "rollout_lock", "model_rollout_info", "gpu_info", "haproxy_server")
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
        (collection / "roles/dfdaemon/tasks/packages.yml").write_text("[]")
        for host in HOSTS:
            self.put(host, current="1.0", answers="1.0", previous="", staged="")

    def put(self, host, **state):
        (self.state / host).write_text(json.dumps(state))

    def read(self, key="current"):
        return {host: json.loads((self.state / host).read_text())[key] for host in HOSTS}

    def play(self, playbook, *options, models=(NEW,), answers=None, wrong=None, groups=None, **variables):
        """Run a play; ``answers`` and ``wrong`` are {host: {…}}. Returns (process, calls)."""
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
        members = {"dragonfly_schedulers": ["scheduler-1"], "dragonfly_seed_peers": ["seed-1"], "gpu_hosts": HOSTS, **(groups or {})}
        children = {
            group: {
                "hosts": {
                    name: {
                        "modelfleet_address": f"10.1.{position}.{number + 1}",
                        "answers": {**GOOD, **(answers or {}).get(name, {})},
                        "wrong": (wrong or {}).get(name, {}),
                    }
                    for number, name in enumerate(names)
                }
            }
            for position, (group, names) in enumerate(members.items())
        }
        (self.tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": children}}))
        done = self.run(
            "ansible-playbook",
            "-i",
            self.tmp_path / "hosts.yml",
            f"modelfleet.serving.{playbook}",
            *options,
            ANSIBLE_COLLECTIONS_PATH=self.tmp_path,
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
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


def rows(done):
    return [line.split() for line in table_of(done, "Show what became of it")[2:] if line.startswith("gpu-")]


WENT = ["prepared", "switched", "finished"]


def test_in_batches_each_after_the_one_before(fleet):
    done, calls = fleet.play("rollout")
    assert done.returncode == 0, done.stdout
    assert set(fleet.read().values()) == {"2.0"} and set(fleet.read("previous").values()) == {"1.0"}
    batches = []
    for call in calls:
        if call["module"] == "model_rollout" and not call["look"] and call["batch"] not in batches:
            batches.append(call["batch"])
    assert batches == [["gpu-1"], ["gpu-2", "gpu-3"], ["gpu-4"]]
    assert sorted(touched(calls)) == list(HOSTS) and steps(calls, "gpu-1") == WENT
    modules = [call["module"] for call in calls]
    # Everybody has it before anybody serves it.
    last_brought = max(index for index, module in enumerate(modules) if module == "model_artifact")
    assert last_brought < min(index for index, call in enumerate(calls) if call["module"] == "model_rollout" and not call["look"])
    planned = table_of(done, "Plan the rollout")
    assert planned[0].split() == ["host", "model", "from", "to", "to", "bring", "free"]
    assert planned[2].split() == ["gpu-1", "demo", "1.0", "2.0", "64.0MiB", "-"]
    assert rows(done)[0][:6] == ["gpu-1", "demo", "1.0", "2.0", "activated", "4"]
    for call in calls:
        known = documentation(COLLECTION / f"plugins/modules/{call['module']}.py")["options"] or {}
        assert set(call["args"]) - {"storage"} <= set(known), call
    # Each host gives the lock back.
    locks = [(call["host"], call["args"].get("state")) for call in calls if call["module"] == "rollout_lock"]
    assert sorted(host for host, state in locks if state == "absent") == sorted(HOSTS)


def test_a_second_run_changes_nothing(fleet):
    fleet.play("rollout")
    done, calls = fleet.play("rollout")
    assert done.returncode == 0, done.stdout
    assert touched(calls) == []
    assert "changed=0" in done.stdout and not any(f"changed={count}" in done.stdout for count in range(1, 99)), done.stdout
    assert "Every host serves what modelfleet_models names." in done.stdout


WRONG_ANSWER = {
    "inference_check": {"checks": [{"model": "demo", "version": "2.0", "ok": False, "seconds": 0.1, "detail": "$.y is 3, expected 2"}]}
}
SLOW = {"traffic_check": {"ok": False, "saw": "p95 90 ms, errors 0.0 % of 500 requests (access log)", "allowed": "p95 50 ms, errors 0.0 %"}}


@pytest.mark.parametrize(
    ("answers", "wrong", "gate", "saw", "through"),
    [
        (WRONG_ANSWER, {}, "answers", "$.y is 3, expected 2", ["prepared"]),
        (SLOW, {}, "traffic", "p95 90 ms", ["prepared", "switched"]),
        ({}, {"prepared": {"failed": True, "msg": "Failed to register model demo 2.0."}}, "ready", "Failed to register", ["prepared"]),
    ],
)
def test_the_first_host_keeps_it_from_the_others(fleet, answers, wrong, gate, saw, through):
    done, calls = fleet.play("rollout", answers={"gpu-1": answers}, wrong={"gpu-1": wrong})
    assert done.returncode == 2
    assert touched(calls) == ["gpu-1"] and steps(calls, "gpu-1") == [*through, "undone", "rolled_back"]
    assert set(fleet.read().values()) == {"1.0"} and set(fleet.read("answers").values()) == {"1.0"}
    assert recap(done) == {**dict.fromkeys([*HOSTS, "scheduler-1", "seed-1"], 0), "gpu-1": 1}
    lines = rows(done)
    assert lines[0][:5] == ["gpu-1", "demo", "1.0", "2.0", "went"] and lines[0][6] == gate
    assert all(line[4] == "untouched" for line in lines[1:4])
    text = "\n".join(table_of(done, "Show what became of it"))
    assert saw in text.split("Wrong:")[0] and saw in text.split("Wrong:")[1]
    assert len([call for call in calls if call["module"] == "rollout_lock" and call["args"].get("state") == "absent"]) == len(HOSTS)


def test_a_batch_goes_back_as_a_whole_and_no_other(fleet):
    done, calls = fleet.play("rollout", answers={"gpu-3": SLOW})
    assert done.returncode == 2
    assert fleet.read() == {**dict.fromkeys(HOSTS, "1.0"), "gpu-1": "2.0"}
    assert sorted(touched(calls)) == ["gpu-1", "gpu-2", "gpu-3"]
    # It had passed its own gates.
    assert "undone" in steps(calls, "gpu-2") and "finished" not in steps(calls, "gpu-2")
    assert [line[4] for line in rows(done)[:4]] == ["activated", "went", "went", "untouched"]
    assert recap(done)["gpu-2"] == 0 and recap(done)["gpu-3"] == 1
    # And on from there, once it is corrected.
    done, calls = fleet.play("rollout")
    assert done.returncode == 0 and set(fleet.read().values()) == {"2.0"}
    assert sorted(touched(calls)) == list(HOSTS[1:])


def test_what_was_finished_goes_back_where_another_of_its_batch_could_not_be(fleet):
    done, calls = fleet.play("rollout", wrong={"gpu-3": {"finished": {"failed": True, "msg": "Failed to finish."}}})
    assert done.returncode == 2
    assert fleet.read() == {**dict.fromkeys(HOSTS, "1.0"), "gpu-1": "2.0"}
    assert steps(calls, "gpu-2") == [*WENT, "undone", "rolled_back"]


def test_a_host_that_is_lost_on_the_way(fleet):
    gone = {"unreachable": True, "msg": "Task failed: no route"}
    done, calls = fleet.play("rollout", wrong={"gpu-2": {"switched": gone, "undone": gone}})
    assert done.returncode != 0
    assert fleet.read() == {**dict.fromkeys(HOSTS, "1.0"), "gpu-1": "2.0"}
    assert sorted(touched(calls)) == ["gpu-1", "gpu-2", "gpu-3"]
    assert "undone" in steps(calls, "gpu-3")
    text = "\n".join(table_of(done, "Show what became of it"))
    assert "NOT UNDONE" in text and "gpu-2: See that it was done: unreachable: no route" in text


def test_goes_on_where_an_interrupted_run_ended(fleet):
    left = {**FREE, "taken_over": True, "holder": {"user": "alice", "controller": "control-1", "pid": 1, "since": "then", "run": "dead"}}
    fleet.put("gpu-1", current="2.0", answers="2.0", previous="1.0", staged="")
    fleet.put("gpu-2", current="1.0", answers="2.0", previous="", staged="2.0")
    hooks = {"modelfleet_drain": ["true"], "modelfleet_return": ["true"]}
    done, _calls = fleet.play("rollout", answers={host: {"rollout_lock": left} for host in HOSTS}, **hooks)
    assert done.returncode == 0, done.stdout
    assert "The run of alice on control-1 since then came to no end here" in done.stdout
    assert set(fleet.read().values()) == {"2.0"}
    # It may have been left out of the balancing.
    assert done.stdout.count("TASK [modelfleet.serving.rollout : Run the command of the user on the controller]") > 0
    # With the old list it is undone instead.
    fleet.put("gpu-2", current="1.0", answers="2.0", previous="", staged="2.0")
    fleet.play("rollout", models=[OLD])
    assert fleet.read("answers")["gpu-2"] == "1.0" and fleet.read("staged")["gpu-2"] == ""


def test_a_host_is_out_of_the_balancing_while_its_version_changes(fleet):
    hooks = {"modelfleet_drain": "haproxy", "modelfleet_return": "haproxy"}
    done, calls = fleet.play("rollout", groups={"load_balancers": ["balancer-1", "balancer-2"]}, **hooks)
    assert done.returncode == 0, done.stdout
    order = [(call["module"], call["args"].get("state")) for call in calls if call["host"] == "gpu-1" and not call.get("look")]
    order = [one for one in order if one[0] in ("haproxy_server", "model_rollout")]
    drain, ready = [("haproxy_server", "drain")] * 2, [("haproxy_server", "ready")] * 2
    rollout = [("model_rollout", state) for state in WENT]
    assert order == [*drain, rollout[0], rollout[1], *ready, rollout[2]]
    done, calls = fleet.play("rollout", models=[OLD], answers={"gpu-1": SLOW}, groups={"load_balancers": ["balancer-1"]}, **hooks)
    assert done.returncode == 2
    assert [call["args"]["state"] for call in calls if call["module"] == "haproxy_server"] == ["drain", "ready", "drain", "ready"]


def test_a_file_of_tasks_is_a_hook(fleet, tmp_path):
    tasks = [{"name": "Say", "ansible.builtin.debug": {"msg": "{{ inventory_hostname }} is to be {{ __rollout_hook_state }}"}}]
    (tmp_path / "hook.yml").write_text(yaml.safe_dump(tasks))
    hooks = {"modelfleet_drain": "hook.yml", "modelfleet_return": "hook.yml", "modelfleet_files_dir": str(tmp_path)}
    done, _calls = fleet.play("rollout", modelfleet_rollout_command=["true"], **hooks)
    assert done.returncode == 0, done.stdout
    assert "gpu-4 is to be drain" in done.stdout and "gpu-4 is to be ready" in done.stdout
    assert rows(done)[0][5:7] == ["5", "passed"]


def test_a_command_is_a_gate(fleet):
    command = ["sh", "-c", "echo saw $MODELFLEET_MODEL $MODELFLEET_OLD_VERSION $MODELFLEET_VERSION; exit 3"]
    done, calls = fleet.play("rollout", modelfleet_rollout_command=command)
    assert done.returncode == 2, done.stdout
    assert touched(calls) == ["gpu-1"]
    assert "status 3: saw demo 1.0 2.0" in "\n".join(table_of(done, "Show what became of it"))


@pytest.mark.parametrize(
    ("gpu", "ok"),
    [
        ({"memory_used_mib": 950, "memory_total_mib": 1000, "temperature_c": 85}, True),
        ({"memory_used_mib": 951, "memory_total_mib": 1000, "temperature_c": 85}, False),
        ({"memory_used_mib": None, "memory_total_mib": None, "temperature_c": 86}, False),
    ],
)
def test_the_gpu_is_a_gate(fleet, gpu, ok):
    found = {"gpu_info": {"gpus": [{"index": 0, **gpu}]}}
    done, _calls = fleet.play("rollout", answers=dict.fromkeys(HOSTS, found), torchserve_device="gpu")
    assert (done.returncode == 0) is ok, done.stdout


def test_check_mode_is_the_plan(fleet):
    done, calls = fleet.play("rollout", "--check")
    assert done.returncode == 0, done.stdout
    assert touched(calls) == [] and all(call.get("look", True) for call in calls)
    assert all(line[4] == "planned" for line in rows(done)[:4])
    assert "changed=1" in done.stdout


# Bad input: one sentence, nothing changed.


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"modelfleet_rollout_batches": ["50%", "20%"]}, "The modelfleet_rollout_batches does not increase (50%, 20%)"),
        ({"modelfleet_rollout_latency_factor": 0}, "The modelfleet_rollout_latency_factor is 0, which nothing could pass"),
        ({"modelfleet_drain": "haproxy", "modelfleet_return": "haproxy"}, "The group load_balancers has no host"),
        ({"modelfleet_rollout_gates": ["luck"]}, "modelfleet_rollout_gates"),
        ({"models": [OLD, NEW]}, "The model demo has several versions in modelfleet_models"),
    ],
)
def test_bad_variables(fleet, variables, words):
    done, calls = fleet.play("rollout", **variables)
    assert done.returncode != 0 and words in done.stdout, done.stdout
    assert calls == []


def test_an_empty_group(fleet):
    done, calls = fleet.play("rollout", groups={"gpu_hosts": []})
    assert done.returncode != 0 and "The group gpu_hosts has no host" in done.stdout
    assert touched(calls) == []


@pytest.mark.parametrize(
    ("answers", "wrong", "words"),
    [
        ({"preflight_info": NOT_READY}, {}, "It has no room."),
        ({"preflight_info": {"unreachable": True, "msg": "no route"}}, {}, "unreachable: no route"),
        ({"rollout_lock": {"failed": True, "msg": "Refused: a run of alice on control-1."}}, {}, "Refused: a run of alice"),
        ({}, {"look prepared": {"failed": True, "msg": "Refused model demo 2.0: other content."}}, "Refused model demo 2.0"),
        ({"model_artifact": {"failed": True, "msg": "Failed to fetch."}}, {}, "Failed to fetch."),
    ],
)
def test_one_host_that_cannot_take_part_stops_all_before_anything_serves(fleet, answers, wrong, words):
    done, calls = fleet.play("rollout", answers={"gpu-3": answers}, wrong={"gpu-3": wrong})
    assert done.returncode == 2, done.stdout
    assert touched(calls) == []
    assert recap(done) == {**dict.fromkeys([*HOSTS, "scheduler-1", "seed-1"], 0), "gpu-3": 1}
    assert words in "\n".join(table_of(done, "Show what became of it"))


# Back.


def found(current, previous="", staged="", run="last", since=200, rolled_back=False):
    one = {"name": "demo", "current": current, "previous": previous, "staged": staged}
    return {"model_rollout_info": {"models": [{**one, "run": run, "since": since, "rolled_back": rolled_back}]}}


def test_rollback_leaves_what_the_last_rollout_brought_and_nothing_else(fleet):
    answers = {host: found("1.0", "0.9", run="first", since=100) for host in HOSTS}
    for host in ("gpu-1", "gpu-2"):
        answers[host] = found("2.0", "1.0")
        fleet.put(host, current="2.0", answers="2.0", previous="1.0", staged="")
    answers["gpu-3"] = found("1.0", staged="2.0")
    fleet.put("gpu-3", current="1.0", answers="2.0", previous="0.9", staged="2.0")
    done, calls = fleet.play("rollback", answers=answers)
    assert done.returncode == 0, done.stdout
    assert set(fleet.read().values()) == {"1.0"} and set(fleet.read("answers").values()) == {"1.0"}
    assert sorted(touched(calls)) == ["gpu-1", "gpu-2", "gpu-3"]
    assert {call["module"] for call in calls} == {"model_rollout", "model_rollout_info", "rollout_lock"}
    assert [line[:5] for line in rows(done)] == [[host, "demo", "2.0", "1.0", "rolled"] for host in ("gpu-1", "gpu-2", "gpu-3")]


def test_a_second_rollback_changes_nothing(fleet):
    answers = {host: found("1.0", "2.0", rolled_back=True) for host in HOSTS}
    done, calls = fleet.play("rollback", answers=answers)
    assert done.returncode == 0 and touched(calls) == [], done.stdout


def test_a_host_that_cannot_go_back_says_why_and_changes_nothing(fleet):
    for host in HOSTS:
        fleet.put(host, current="2.0", answers="2.0", previous="1.0", staged="")
    answers = {host: found("2.0", "1.0") for host in HOSTS}
    gone = {"look rolled_back": {"failed": True, "msg": "Failed to go back to model demo 1.0: it is no longer on this host."}}
    done, calls = fleet.play("rollback", answers=answers, wrong={"gpu-2": gone})
    assert done.returncode == 2
    assert fleet.read() == {**dict.fromkeys(HOSTS, "1.0"), "gpu-2": "2.0"}
    assert recap(done) == {**dict.fromkeys([*HOSTS, "scheduler-1", "seed-1"], 0), "gpu-2": 1}
    done, calls = fleet.play("rollback", answers=answers, wrong={"gpu-2": gone}, modelfleet_all_or_nothing=True)
    assert done.returncode == 2 and touched(calls) == []
