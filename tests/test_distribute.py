# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is brought to whom and removed from whom, and what the run says of it: the plays of the collection, with modules that only note what
they were asked."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest
import yaml
from fleet import only_in_all
from test_repository import COLLECTION, documentation, load

MIB = 1024 * 1024
STORE = {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "reader", "secret_key": "cGxhbnRlZC1zZWNyZXQ"}}
OBJECT = {"name": "tiny", "version": "1.0", "object": "models/tiny.mar", "sha256": "9f" * 32, "size": "64MiB", "workers": 2}
BUNDLE = {"name": "llama", "version": "3.1", "bundle": "bundles/llama", "sha256": "ab" * 32, "size": "100MiB", "default": True}
OLD = {"name": "llama", "version": "3.0", "bundle": "bundles/llama", "sha256": "cd" * 32, "state": "absent"}

# In place of a module: it notes its arguments and returns what the inventory says of the host.
STUB = """
import json
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        said = {"module": self._task.action.split(".")[-1], "host": task_vars["inventory_hostname"], "args": self._task.args}
        with open(task_vars["log"], "a") as log:
            log.write(json.dumps(said, default=str) + "\\n")
        return self._templar.template(task_vars["answers"]).get(said["module"], {})
"""
STUBBED = (
    "preflight_info",
    "host_layout",
    "dfdaemon_info",
    "model_artifact",
    "model_prune",
    "nft_table",
    "torchserve_model",
    "torchserve_info",
    "inference_check",
    "rollout_lock",
    "openai_model",
    "openai_info",
    "triton_model",
    "triton_info",
    "bentoml_model",
    "bentoml_info",
    "daemon",
)
READY = {"findings": [], "facts": {"clock": {"epoch": 0}}}
NOT_READY = {**READY, "findings": [{"severity": "error", "message": "It has no room."}]}
HEALTHY = {"healthy": True, "problem": "", "traffic": {"origin": 0, "remote_peer": 0, "local_peer": 0}}


def artifact(model, action="fetched", size=64 * MIB, fetched=0, moved=None):
    found = {"name": model["name"], "version": model["version"], "action": action, "seconds": 2.5, "size": size, "fetched": fetched}
    return {**found, "bytes": moved or {}}


def sources(**moved):
    return {source: moved.get(source, 0) for source in ("origin", "remote_peer", "local_peer")}


@pytest.fixture
def fleet(run, tmp_path):
    collection = tmp_path / "ansible_collections/modelfleet/serving"
    for part in ("playbooks", "roles", "plugins", "meta"):
        shutil.copytree(COLLECTION / part, collection / part)
    for name in STUBBED:
        (collection / f"plugins/action/{name}.py").write_text(STUB)
        (collection / f"plugins/modules/{name}.py").touch()
    # The real ones wait for sockets.
    (collection / "roles/dfdaemon/tasks/seed_ready.yml").write_text("[]")
    answers = [{"name": "Answer", "ansible.builtin.set_fact": {"__smoke_scheduler": {"problem": ""}}}]
    (collection / "roles/smoke/tasks/scheduler.yml").write_text(yaml.safe_dump(answers))
    packages = [{"name": "Install", "ansible.builtin.debug": {"msg": "installs {{ __modelfleet_packages | join(' ') }}"}}]
    (collection / "roles/modelfleet/tasks/packages.yml").write_text(yaml.safe_dump(packages))

    def play(playbook, models, answers, *options, schedulers=("scheduler-1",), **variables):
        """Run ``playbook`` with what the modules answer, {host: {module: result}}; return (process, [what was asked])."""
        log = tmp_path / "log"
        log.write_text("")
        common = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "modelfleet_storage": STORE,
            "modelfleet_models": models,
            "dragonfly_scheduler_release_sha256": "9f" * 32,
            "dfdaemon_release_sha256": "9f" * 32,
            "log": str(log),
            **variables,
        }
        groups = {"dragonfly_schedulers": schedulers, "dragonfly_seed_peers": ["seed-1"], "gpu_hosts": ["gpu-1", "gpu-2"]}
        hosts = {
            group: {
                "hosts": {
                    name: {
                        "modelfleet_address": f"10.1.{position}.{number + 1}",
                        "answers": {"preflight_info": READY, "dfdaemon_info": HEALTHY, **answers.get(name, {})},
                    }
                    for number, name in enumerate(names)
                }
            }
            for position, (group, names) in enumerate(groups.items())
        }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": hosts}}))
        done = run(
            "ansible-playbook",
            "-i",
            tmp_path / "hosts.yml",
            f"modelfleet.serving.{playbook}",
            *options,
            ANSIBLE_COLLECTIONS_PATH=tmp_path,
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        )
        assert "WARN" not in done.stdout, done.stdout
        return done, [json.loads(line) for line in log.read_text().splitlines()]

    return play


def asked(calls, module, host="gpu-1"):
    return [call["args"] for call in calls if call["module"] == module and call["host"] == host]


def table_of(done, play="Report the fleet"):
    """The lines of the table that the run showed."""
    found = re.search(r'"msg": (\[.*?\n    \])', done.stdout.split(f"PLAY [{play}]")[1], re.DOTALL)
    return json.loads(found[1])


def recap(done):
    return {host: int(failed) for host, failed in re.findall(r"^(\S+) +: .* failed=(\d+)", done.stdout, re.MULTILINE)}


def test_distribute_brings_everything_that_is_to_be_present_and_asks_for_nothing_else(fleet, tmp_path):
    report = tmp_path / "report.json"
    report.write_text("of what is served")
    brought = {
        "gpu-1": [artifact(OBJECT, fetched=64 * MIB), artifact(BUNDLE, size=100 * MIB, fetched=20 * MIB)],
        "gpu-2": [artifact(OBJECT, "unchanged"), artifact(BUNDLE, "unchanged", size=100 * MIB)],
    }
    expiry = {"dfdaemon_distribute_url_expiry_seconds": 7200}
    moved = {"gpu-1": sources(origin=MIB, remote_peer=83 * MIB), "gpu-2": {}}
    answers = {host: {"model_artifact": {"changed": host == "gpu-1", "artifacts": brought[host], "bytes": moved[host]}} for host in brought}
    done, calls = fleet("distribute", [OBJECT, BUNDLE, OLD], answers, smoke_report_path=str(report), **expiry)
    assert done.returncode == 0, done.stdout
    for host in ("gpu-1", "gpu-2"):
        (args,) = asked(calls, "model_artifact", host)
        assert args["artifacts"] == [
            {"name": "tiny", "version": "1.0", "object": "models/tiny.mar", "sha256": "9f" * 32, "state": "present"},
            {"name": "llama", "version": "3.1", "bundle": "bundles/llama", "sha256": "ab" * 32, "state": "present"},
        ]
        assert (args["storage"], args["parallel"], args["retry_s"], args["back_to_source"]) == (STORE, 4, 120, False)
        assert args["url_expiry_s"] == 7200
        assert set(args) - {"storage"} <= set(documentation(COLLECTION / "plugins/modules/model_artifact.py")["options"])
        assert args["dfdaemon_metrics_url"] == "http://127.0.0.1:4002/metrics"
    # TorchServe serves a bundle where it lies.
    (looked,) = asked(calls, "preflight_info")
    assert (int(looked["required_bytes"]), int(looked["unpack_bytes"])) == (164 * MIB, 64 * MIB)
    assert {call["module"] for call in calls} == {"preflight_info", "dfdaemon_info", "host_layout", "model_artifact"}
    modules = [call["module"] for call in calls if call["host"] == "gpu-1"]
    assert modules.index("host_layout") < modules.index("model_artifact")
    assert table_of(done)[:7] == [
        "host   artifact  version    brought  fetched     there  origin    peers  local",
        "------------------------------------------------------------------------------",
        "gpu-1  tiny      1.0          2.50s  64.0MiB        0B       -        -      -",
        "gpu-1  llama     3.1          2.50s  20.0MiB   80.0MiB       -        -      -",
        "gpu-1  together  -                -        -         -  1.0MiB  83.0MiB     0B",
        "gpu-2  tiny      1.0      unchanged       0B   64.0MiB       -        -      -",
        "gpu-2  llama     3.1      unchanged       0B  100.0MiB       -        -      -",
    ]
    assert table_of(done)[-2:] == [
        "The last host had everything after 2.5 s.",
        "The origin sent 1.0 MiB for models of 84.0 MiB: 0.01 times their size.",
    ]
    assert "Expected:" not in done.stdout, "nobody said what the links are"
    assert report.read_text() == "of what is served"


@only_in_all
def test_says_beforehand_how_long_it_should_take(fleet):
    links = {"modelfleet_origin_mbits": 40, "modelfleet_host_mbits": 100}
    done, _calls = fleet("distribute", [OBJECT, BUNDLE, OLD], {}, **links)
    said = re.search(
        r"Expected: ([\d.]+) s until the last of 2 hosts has all 164.00 MB, where none has anything of it; the bound is 34.4 s", done.stdout
    )
    assert said and 34.4 < float(said[1]) < 2 * 34.4, done.stdout
    assert done.stdout.index("Expected:") < done.stdout.index("PLAY [Wait until the schedulers know the seed peers]")
    done, _calls = fleet("distribute", [{name: value for name, value in OBJECT.items() if name != "size"}], {}, **links)
    assert "Expected:" not in done.stdout


def test_a_host_that_fails_says_why_and_what_it_got_all_the_same(fleet):
    moved = sources(remote_peer=64 * MIB)
    failed = {
        "failed": True,
        "msg": "Failed to fetch the bundle bundles/llama.",
        "artifacts": [artifact(OBJECT, fetched=64 * MIB), artifact(BUNDLE, "failed")],
        "bytes": moved,
    }
    answers = {
        "gpu-1": {"model_artifact": failed},
        "gpu-2": {"model_artifact": {"artifacts": [artifact(OBJECT, "unchanged"), artifact(BUNDLE, "unchanged")]}},
        "seed-1": {"preflight_info": NOT_READY},
    }
    done, _calls = fleet("distribute", [OBJECT, BUNDLE], answers)
    assert done.returncode == 2
    assert recap(done) == {"gpu-1": 1, "gpu-2": 0, "scheduler-1": 0, "seed-1": 1}
    lines = table_of(done)
    assert [line.split()[1:4] for line in lines if line.startswith("gpu-1")][:2] == [["tiny", "1.0", "2.50s"], ["llama", "3.1", "FAILED"]]
    assert "gpu-1: Bring the artifacts: Failed to fetch the bundle bundles/llama." in lines
    assert "seed-1: Check this host: This host is not ready: It has no room." in lines
    assert "what the origin sent is not known" in " ".join(lines)


@only_in_all
def test_distribute_with_a_tag_brings_what_it_reports(fleet):
    done, calls = fleet("distribute", [OBJECT], {}, "--tags", "dfdaemon")
    assert done.returncode == 0, done.stdout
    assert [len(asked(calls, "model_artifact", host)) for host in ("gpu-1", "gpu-2")] == [1, 1]


@only_in_all
def test_fewer_forks_than_hosts_are_told(fleet):
    told = "Ansible works on 1 of these 2 hosts at a time"
    for options, count in (["--forks", "1"], 1), ([], 0):
        done, _calls = fleet("distribute", [OBJECT], {}, *options)
        assert done.stdout.count(told) == count, done.stdout


GOOGLE = {"gcs": {"bucket": "models", "service_account_file": "/etc/google.json"}}


@only_in_all
@pytest.mark.parametrize(("packages", "library"), [({}, False), ({"dfdaemon_packages": []}, True)])
def test_what_asks_and_what_signs_for_google_is_there_first(fleet, packages, library):
    done, calls = fleet("distribute", [OBJECT], {}, modelfleet_storage=GOOGLE, **packages)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("installs curl python3-cryptography") == (0 if packages else 2)
    (looked,) = asked(calls, "preflight_info")
    assert looked["cryptography"] is looked["curl"] is library
    assert asked(calls, "preflight_info", "seed-1")[0]["cryptography"] is False


@only_in_all
def test_who_has_google_sign_needs_no_library(fleet):
    identity = {"gcs": {"bucket": "models", "identity": {"source": "instance"}}}
    done, calls = fleet("distribute", [OBJECT], {}, modelfleet_storage=identity, modelfleet_plugin_downloads=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("installs curl") == 2 and "python3-cryptography" not in done.stdout
    assert asked(calls, "preflight_info")[0]["cryptography"] is False


@only_in_all
def test_what_asks_dfdaemon_is_not_installed_where_it_is(fleet):
    ready = {**READY, "facts": {**READY["facts"], "curl": True}}
    done, _calls = fleet("distribute", [OBJECT], {"gpu-1": {"preflight_info": ready}})
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("installs curl") == 1


@only_in_all
def test_one_for_all_stops_before_anything_is_brought(fleet):
    answers = {"gpu-2": {"preflight_info": NOT_READY}}
    done, calls = fleet("distribute", [OBJECT], answers, modelfleet_all_or_nothing=True)
    assert done.returncode == 2 and asked(calls, "model_artifact") == []
    assert "gpu-1: the run stopped before it was done with this host, because of gpu-2" in table_of(done)


SERVED = [
    {"name": "tiny", "version": "1.0", "file": f"tiny-1.0-{'9f' * 6}.mar", "workers": 2, "workers_ready": 2, "gpu": 0, "default": True},
    {"name": "llama", "version": "3.1", "file": f"llama-3.1-{'ab' * 6}", "workers": 1, "workers_ready": 1, "gpu": 0, "default": True},
]
REGISTERED = [
    {"name": model["name"], "version": model["version"], "action": action, "register_seconds": 1.0, "workers_ready": 1, "bytes": moved}
    for model, action, moved in (
        (OBJECT, "registered", {"origin": 0, "remote_peer": 64 * MIB, "local_peer": 0}),
        (BUNDLE, "registered", {}),
        (OLD, "removed", {}),
    )
]


def site_answers(**changes):
    moved = sources(remote_peer=100 * MIB)
    answers = {
        "model_artifact": {
            "changed": True,
            "artifacts": [artifact(BUNDLE, size=100 * MIB, fetched=100 * MIB, moved=moved)],
            "bytes": moved,
        },
        "torchserve_model": {"changed": True, "models": REGISTERED},
        "torchserve_info": {"reachable": True, "models": SERVED, "recorded": []},
        "inference_check": {"checks": []},
        **changes,
    }
    return {"gpu-1": answers, "gpu-2": answers}


def test_site_brings_the_bundles_before_it_registers_and_takes_away_what_is_absent_after(fleet):
    done, calls = fleet("site", [OBJECT, BUNDLE, OLD], site_answers(), "--tags", "models")
    assert done.returncode == 0, done.stdout
    order = [call for call in calls if call["host"] == "gpu-1" and call["module"] in ("model_artifact", "torchserve_model")]
    assert [call["module"] for call in order] == ["model_artifact", "torchserve_model", "model_artifact"]
    # Nobody registers before everybody has it.
    modules = [call["module"] for call in calls]
    assert max(index for index, call in enumerate(calls) if call["module"] == "model_artifact" and call["args"] == order[0]["args"]) < (
        modules.index("torchserve_model")
    )
    assert [(one["name"], one["version"], one["state"]) for one in order[0]["args"]["artifacts"]] == [("llama", "3.1", "present")]
    assert [(one["name"], one["version"], one["state"]) for one in order[2]["args"]["artifacts"]] == [("llama", "3.0", "absent")]
    assert [sorted(one) for one in order[1]["args"]["models"]][1] == ["bundle", "default", "name", "sha256", "version"]
    # What answers is changed by the play rollout only.
    assert order[1]["args"]["replace_default"] is False
    assert set(order[1]["args"]) <= set(documentation(COLLECTION / "plugins/modules/torchserve_model.py")["options"])
    # The seconds and the bytes of the bundle are those of its way to the host.
    assert [line.split()[1:4] + line.split()[6:] for line in table_of(done)[2:4]] == [
        ["tiny", "1.0", "1.00s", "0B", "64.0MiB", "0B"],
        ["llama", "3.1", "3.50s", "0B", "100.0MiB", "0B"],
    ]


LETTERS = {"name": "letters", "version": "1.0", "bundle": "bundles/letters", "sha256": "ef" * 32, "runtime": "openai", "port": 8101}
SERVER = {
    "name": "letters",
    "version": "1.0",
    "default": True,
    "file": f"letters-1.0-{'ef' * 6}",
    "workers": 1,
    "workers_ready": 1,
    "gpu": 0,
}
COMMAND = ["/opt/vllm/bin/vllm", "serve", "{directory}", "--port", "{port}"]


@only_in_all
def test_site_gives_each_model_to_what_serves_it(fleet):
    unit, old = (f"openai-server-letters-{version}-{'ef' * 6}.service" for version in ("1.0", "0.9"))
    started = {"name": "letters", "version": "1.0", "action": "started", "register_seconds": 2.5, "workers_ready": 1, "bytes": {}}
    answers = site_answers(
        openai_model={"changed": True, "models": [started]},
        openai_info={"models": [{**SERVER, "unit": unit, "port": 8101, "detail": ""}], "recorded": [], "units": [unit]},
        daemon={"action": "none", "restart_owed": False},
    )
    gone = {**LETTERS, "version": "0.9", "state": "absent"}
    done, calls = fleet("site", [OBJECT, BUNDLE, OLD, LETTERS, gone], answers, "--tags", "models", openai_server_command=COMMAND)
    assert done.returncode == 0, done.stdout
    assert [[one["name"] for one in args["models"]] for args in asked(calls, "torchserve_model")] == [["tiny", "llama", "llama"]]
    look, served = asked(calls, "openai_model")
    assert look == served and [(one["version"], one.get("state"), one["port"]) for one in served["models"]] == [
        ("1.0", None, 8101),
        ("0.9", "absent", 8101),
    ]
    assert set(served) <= set(documentation(COLLECTION / "plugins/modules/openai_model.py")["options"])
    # Its unit before it is started, and away when it is stopped.
    order = [
        (call["module"], call["args"].get("name", "")) for call in calls if call["host"] == "gpu-1" and call["module"] != "model_artifact"
    ]
    assert [one for one in order if one[0] in ("openai_model", "daemon")] == [
        ("openai_model", ""),
        ("daemon", unit),
        ("openai_model", ""),
        ("daemon", old),
    ]
    written, removed = asked(calls, "daemon")
    assert (written["start"], removed["state"]) == (False, "absent")
    assert "Environment=HOME=/var/lib/openai-server/letters-1.0-" in written["files"][0]["content"]
    assert ["letters", "1.0", "2.50s"] in [line.split()[1:4] for line in table_of(done)]


MOVED = {"name": "moved", "version": "1.0", "bundle": "bundles/moved", "sha256": "ef" * 32, "runtime": "bentoml", "port": 8301}


@only_in_all
def test_site_serves_models_of_bentoml_and_who_leads_their_ports(fleet):
    unit, old = (f"bentoml-moved-{version}-{'ef' * 6}.service" for version in ("1.0", "0.9"))
    started = {"name": "moved", "version": "1.0", "action": "started", "register_seconds": 2.5, "workers_ready": 1, "bytes": {}}
    there = {**SERVER, "name": "moved", "file": f"moved-1.0-{'ef' * 6}", "unit": unit, "port": 8301, "detail": ""}
    answers = site_answers(
        bentoml_model={"changed": True, "models": [started]},
        bentoml_info={"models": [there], "recorded": [], "units": [unit]},
        daemon={"action": "none", "restart_owed": False},
    )
    gone = {**MOVED, "version": "0.9", "state": "absent"}
    done, calls = fleet("site", [OBJECT, BUNDLE, OLD, MOVED, gone], answers, "--tags", "bentoml,models", bentoml_program="/usr/bin/true")
    assert done.returncode == 0, done.stdout
    assert [[one["name"] for one in args["models"]] for args in asked(calls, "torchserve_model")] == [["tiny", "llama", "llama"]]
    look, served = asked(calls, "bentoml_model")
    assert look == served and [(one["version"], one.get("state"), one["port"]) for one in served["models"]] == [
        ("1.0", None, 8301),
        ("0.9", "absent", 8301),
    ]
    assert set(served) <= set(documentation(COLLECTION / "plugins/modules/bentoml_model.py")["options"])
    daemons = [(one["name"], one.get("start", True), one.get("state", "present")) for one in asked(calls, "daemon")]
    switch = "modelfleet-bentoml.service"
    # Those that run; then what is to come, and away what has gone.
    assert daemons == [
        *((switch, False, "present"), (unit, True, "present"), (switch, True, "present")),
        *((switch, False, "present"), (unit, False, "present"), (old, True, "absent")),
    ]
    # Before a rollout stops the version that such a connection still leads to.
    (config,) = (one["content"] for one in asked(calls, "daemon")[0]["files"] if one["path"] == "/etc/modelfleet-bentoml/haproxy.cfg")
    assert "\n    timeout http-keep-alive 4s\n" in config
    assert ["moved", "1.0", "2.50s"] in [line.split()[1:4] for line in table_of(done)]


@only_in_all
def test_a_host_without_bentoml(fleet):
    answers = site_answers(bentoml_info={"models": [], "recorded": [], "units": []}, daemon={"action": "none", "restart_owed": False})
    done, calls = fleet("site", [OBJECT, MOVED], answers, "--tags", "bentoml", bentoml_program="/opt/nowhere/bin/bentoml")
    assert done.returncode == 2 and asked(calls, "daemon") == []
    assert "Refused to serve models with BentoML: this host has no program /opt/nowhere/bin/bentoml" in " ".join(done.stdout.split())
    (looked, *_others) = asked(calls, "preflight_info")
    assert looked["programs"] == [{"path": "/opt/nowhere/bin/bentoml", "variable": "bentoml_program"}]


DOUBLE = {"name": "double", "version": "1.0", "bundle": "bundles/double", "sha256": "ef" * 32, "runtime": "triton"}
OF_TRITON = {**SERVER, "name": "double", "file": f"double-1.0-{'ef' * 6}", "unit": "triton.service", "detail": ""}


@only_in_all
def test_site_runs_triton_and_then_loads_its_models(fleet):
    loaded = {"name": "double", "version": "1.0", "action": "loaded", "register_seconds": 2.5, "workers_ready": 1, "bytes": {}}
    state = {"models": [OF_TRITON], "recorded": [], "home_problem": "", "release_problem": ""}
    answers = site_answers(
        triton_model={"changed": True, "models": [loaded]}, triton_info=state, daemon={"action": "none", "restart_owed": False}
    )
    gone = {**DOUBLE, "version": "0.9", "state": "absent"}
    done, calls = fleet("site", [OBJECT, BUNDLE, OLD, DOUBLE, gone], answers, "--tags", "triton,models")
    assert done.returncode == 0, done.stdout
    assert [[one["name"] for one in args["models"]] for args in asked(calls, "torchserve_model")] == [["tiny", "llama", "llama"]]
    (served,) = asked(calls, "triton_model")
    assert [sorted(one) for one in served["models"]] == [
        ["bundle", "name", "sha256", "version"],
        ["bundle", "name", "sha256", "state", "version"],
    ]
    assert set(served) <= set(documentation(COLLECTION / "plugins/modules/triton_model.py")["options"])
    (daemon,) = asked(calls, "daemon")
    assert (daemon["name"], daemon["restart"]) == ("triton.service", "deferred")
    assert daemon["answers"]["url"] == "http://127.0.0.1:8200/v2/health/ready"
    assert daemon["started_from"] == ["/opt/tritonserver/bin/tritonserver", "/opt/tritonserver/TRITON_VERSION"]
    mine = [call["module"] for call in calls if call["host"] == "gpu-1"]
    assert mine.index("daemon") < mine.index("triton_model")
    assert {call["args"].get("home") for call in calls if call["module"] == "triton_info"} == {"/opt/tritonserver", None}
    assert ["double", "1.0", "2.50s"] in [line.split()[1:4] for line in table_of(done)]


@only_in_all
def test_a_triton_with_known_holes_is_not_run_and_one_that_turns_out_to_be_is_stopped(fleet):
    refused = {"models": [], "recorded": [], "home_problem": "has the release 2.51.0, with CVE-2025-23319", "release_problem": ""}
    answers = site_answers(triton_info=refused, daemon={"action": "none", "restart_owed": False})
    done, calls = fleet("site", [OBJECT, DOUBLE], answers, "--tags", "triton")
    assert done.returncode == 2 and asked(calls, "daemon") == []
    assert "Refused to run Triton: /opt/tritonserver has the release 2.51.0, with CVE-2025-23319" in " ".join(done.stdout.split())
    found = {**refused, "home_problem": "", "release_problem": "has the release 2.51.0, with CVE-2025-23319"}
    answers = site_answers(triton_info=found, daemon={"action": "started", "restart_owed": False})
    done, calls = fleet("site", [OBJECT, DOUBLE], answers, "--tags", "triton")
    assert done.returncode == 2 and [one.get("state", "present") for one in asked(calls, "daemon")] == ["present", "absent"]
    assert "It was stopped again." in done.stdout


@only_in_all
def test_where_the_plugin_downloads_nothing_objects_come_as_bundles_do(fleet):
    done, calls = fleet("site", [OBJECT, BUNDLE], site_answers(), "--tags", "models", modelfleet_plugin_downloads=False)
    assert done.returncode == 0, done.stdout
    (brought,) = asked(calls, "model_artifact")
    assert [one["name"] for one in brought["artifacts"]] == ["tiny", "llama"]
    assert [one["via"] for one in asked(calls, "torchserve_model")] == ["api"]
    _done, calls = fleet("site", [OBJECT, BUNDLE], site_answers(), "--tags", "models")
    assert [one["via"] for one in asked(calls, "torchserve_model")] == ["plugin"]


@only_in_all
def test_a_bundle_that_does_not_come_keeps_no_other_from_being_registered_and_a_rollout_does(fleet):
    other = {**OLD, "state": "present"}
    failed = {"failed": True, "msg": "Failed to fetch the bundle.", "artifacts": [artifact(BUNDLE, "failed"), artifact(other, "unchanged")]}
    answers = site_answers(model_artifact=failed)
    held = {"failed": True, "msg": "Refused: a run of alice on control-1 (process 7) has worked on this host since 2026-11-26T06:00:00Z."}
    answers["gpu-2"] = {**answers["gpu-2"], "rollout_lock": held}
    done, calls = fleet("site", [OBJECT, BUNDLE, other], answers, "--tags", "models")
    assert done.returncode == 2
    assert {call["module"] for call in calls if call["host"] == "gpu-2"} == {"preflight_info", "rollout_lock"}
    assert f"gpu-2: See that no rollout works on this host: {held['msg']}" in table_of(done)
    (args,) = asked(calls, "torchserve_model")
    assert [(one["name"], one["version"]) for one in args["models"]] == [("tiny", "1.0"), ("llama", "3.0")]
    assert "gpu-1: Bring the artifacts: Failed to fetch the bundle." in table_of(done)


@only_in_all
def test_only_a_scheduler_that_is_needed_stops_the_fleet(fleet):
    """Without a list of artifacts, none of them came. The scheduler beside it still works."""
    failed = {"failed": True, "msg": "Failed to lock."}
    answers = site_answers()
    answers["gpu-1"] = {**answers["gpu-1"], "model_artifact": failed}
    done, calls = fleet("site", [OBJECT, BUNDLE], answers, "--tags", "models", schedulers=["gpu-1"])
    assert done.returncode == 2
    assert [[one["name"] for one in asked(calls, "torchserve_model", host)[0]["models"]] for host in ("gpu-1", "gpu-2")] == [
        ["tiny"], ["tiny", "llama"],
    ]  # fmt: skip


@only_in_all
def test_check_mode_takes_nothing_away_that_is_still_recorded(fleet):
    done, calls = fleet("site", [OBJECT, BUNDLE, OLD], site_answers(), "--tags", "models", "--check")
    assert done.returncode == 0, done.stdout
    assert [one["artifacts"][0]["version"] for one in asked(calls, "model_artifact")] == ["3.1"]
    unchanged = [{**one, "action": "unchanged", "bytes": {}} for one in REGISTERED]
    answers = site_answers(torchserve_model={"models": unchanged})
    _done, calls = fleet("site", [OBJECT, BUNDLE, OLD], answers, "--tags", "models", "--check")
    assert [one["artifacts"][0]["version"] for one in asked(calls, "model_artifact")] == ["3.1", "3.0"]


@only_in_all
def test_a_list_without_bundles_asks_nothing_more_of_a_host(fleet):
    done, calls = fleet("site", [OBJECT], site_answers(torchserve_info={"reachable": True, "models": SERVED[:1]}), "--tags", "models")
    assert done.returncode == 0, done.stdout
    assert asked(calls, "model_artifact") == []


USAGE = {"models": 64 * MIB, "blobs": 0, "pieces": 0, "unpacked": 64 * MIB, "shared": 0}
PRUNED = {
    "changed": True,
    "versions": [
        {"name": "llama", "version": "3.0", "state": "removed", "by": "", "bytes": 100 * MIB, "own": 20 * MIB},
        {"name": "tiny", "version": "1.0", "state": "served", "by": "", "bytes": 64 * MIB, "own": 64 * MIB},
    ],
    "before": USAGE,
    "after": USAGE,
    "freed": 20 * MIB,
    "free": 1024 * MIB,
}


def test_prune_says_what_must_stay_and_touches_nothing_else(fleet):
    answers = {host: {"model_prune": PRUNED} for host in ("gpu-1", "gpu-2")}
    policy = {"dfdaemon_prune_keep": 0, "dfdaemon_prune_pinned": [{"name": "llama", "version": "2.0"}], "dfdaemon_prune_limit": "1TiB"}
    done, calls = fleet("prune", [OBJECT, BUNDLE, OLD], answers, **policy)
    assert done.returncode == 0, done.stdout
    assert {call["module"] for call in calls} == {"model_prune"}
    for host in ("gpu-1", "gpu-2"):
        (args,) = asked(calls, "model_prune", host)
        assert args == {
            "models": [
                {"name": "tiny", "version": "1.0", "sha256": "9f" * 32},
                {"name": "llama", "version": "3.1", "sha256": "ab" * 32},
            ],
            "huggingface_pins": {},
            "pinned": [{"name": "llama", "version": "2.0"}],
            "keep": 0,
            "limit": "1TiB",
            "piece_length": "auto",
            "container": "",
            "base_url": "http://127.0.0.1:8081",
        }
        assert set(args) <= set(documentation(COLLECTION / "plugins/modules/model_prune.py")["options"])
    freed = "freed 20.0 MiB. Models take 64.0 MiB, of which versions share 0 B, other blobs 0 B, dfdaemon alone 0 B, unpacked 64.0 MiB"
    assert table_of(done, "Report what was removed") == [
        "host   model  version  state       takes    alone",
        "-------------------------------------------------",
        "gpu-1  llama  3.0      removed  100.0MiB  20.0MiB",
        "gpu-1  tiny   1.0      served    64.0MiB  64.0MiB",
        "gpu-2  llama  3.0      removed  100.0MiB  20.0MiB",
        "gpu-2  tiny   1.0      served    64.0MiB  64.0MiB",
        "",
        f"gpu-1: {freed}; 1.0 GiB are free.",
        f"gpu-2: {freed}; 1.0 GiB are free.",
    ]


@only_in_all
def test_prune_keeps_the_previous_version_without_a_limit_unless_told_otherwise(fleet):
    done, calls = fleet("prune", [OBJECT], {"gpu-1": {"model_prune": PRUNED}}, "--limit", "gpu-1")
    assert done.returncode == 0, done.stdout
    (args,) = asked(calls, "model_prune")
    assert (args["keep"], args["pinned"], "limit" in args) == (1, [], False)


@only_in_all
def test_prune_knows_what_is_pinned_of_a_hub(fleet):
    done, calls = fleet("prune", [OBJECT, HUB], {"gpu-1": {"model_prune": PRUNED}}, "--limit", "gpu-1", modelfleet_huggingface_pins=PINS)
    assert done.returncode == 0, done.stdout
    (args,) = asked(calls, "model_prune")
    assert args["models"][1] == {"name": "bert", "version": "1", "huggingface": HUB["huggingface"]}
    assert args["huggingface_pins"] == {f"org/bert@{COMMIT}": PIN}


@only_in_all
def test_a_host_that_cannot_keep_its_limit_says_so_and_the_others_go_on(fleet):
    over = {**PRUNED, "failed": True, "msg": "Failed to keep the limit."}
    lost = {"failed": True, "msg": "Failed to ask dfdaemon."}
    done, _calls = fleet("prune", [OBJECT], {"gpu-1": {"model_prune": over}, "gpu-2": {"model_prune": PRUNED}})
    assert done.returncode == 2
    assert recap(done) == {"gpu-1": 1, "gpu-2": 0, "scheduler-1": 0, "seed-1": 0}
    assert "Remove old versions: Failed to keep the limit." in done.stdout
    assert [line.split()[1:4] for line in table_of(done, "Report what was removed") if line.startswith("gpu-1  llama")] == [
        ["llama", "3.0", "removed"]
    ]
    done, _calls = fleet("prune", [OBJECT], {"gpu-1": {"model_prune": lost}, "gpu-2": {"model_prune": PRUNED}})
    assert (done.returncode, recap(done)["gpu-1"], recap(done)["gpu-2"]) == (2, 1, 0)
    assert "gpu-1  -      -        FAILED          -        -" in table_of(done, "Report what was removed")


def test_a_host_asks_the_scheduler_anew_before_distribute_gives_a_download_up():
    """Nobody tells those that wait for a seed peer that its download has failed; Dragonfly's own default is three times as long."""
    dfdaemon = COLLECTION / "roles/dfdaemon"
    waits = load(dfdaemon / "vars/main.yml")["__dfdaemon_config"]["download"]["collectedPieceTimeout"]
    assert re.fullmatch(r"[1-9]\d*m", waits)
    assert int(waits[:-1]) * 60 <= load(dfdaemon / "defaults/main.yml")["dfdaemon_distribute_retry_seconds"]


COMMIT = "0f" * 20
HUB = {"name": "bert", "version": "1", "huggingface": {"repo": "org/bert", "revision": COMMIT, "include": ["*.json"]}, "size": "1MiB"}
PIN = {"revision": "main", "files": {"config.json": {"size": 2, "git_sha1": "ab" * 20}}}
PINS = {f"org/bert@{COMMIT}": PIN, f"org/other@{COMMIT}": PIN}
TOKEN = "cGxhbnRlZC10b2tlbg"


@only_in_all
def test_a_repository_of_a_hub_comes_with_what_is_pinned_of_it(fleet):
    brought = {
        host: {"model_artifact": {"changed": True, "artifacts": [artifact(HUB, size=2)], "bytes": {}}} for host in ("gpu-1", "gpu-2")
    }
    hub = {"modelfleet_huggingface": {"token": TOKEN}, "modelfleet_huggingface_pins": PINS}
    done, calls = fleet("distribute", [HUB], brought, "-vvv", **hub)
    assert done.returncode == 0, done.stdout
    assert TOKEN not in done.stdout
    (args,) = asked(calls, "model_artifact")
    assert args["artifacts"] == [{"name": "bert", "version": "1", "huggingface": HUB["huggingface"], "state": "present"}]
    assert args["huggingface"] == {"token": TOKEN}
    assert args["huggingface_pins"] == {f"org/bert@{COMMIT}": PIN}
    assert args["huggingface_access_s"] == 3600
    assert args["huggingface_small"] == "controller" and "huggingface_small_ca_path" not in args
    assert set(args) - {"storage"} <= set(documentation(COLLECTION / "plugins/modules/model_artifact.py")["options"])
    (layout,) = asked(calls, "host_layout")
    assert layout["groups"] == ["dragonfly", "modelfleet-hf"]
    # Nobody unpacks it.
    (looked,) = asked(calls, "preflight_info")
    assert (int(looked["required_bytes"]), int(looked["unpack_bytes"])) == (MIB, 0)


@only_in_all
def test_the_controller_asks_a_hub_for_small_files_as_the_inventory_says(fleet):
    counted = {"gpu-1": (2, 20), "gpu-2": (3, 0)}
    answers = {
        host: {"model_artifact": {"artifacts": [artifact(HUB)], "hub_requests": own, "hub_requests_controller": controller}}
        for host, (own, controller) in counted.items()
    }
    done, calls = fleet("distribute", [HUB], answers, modelfleet_huggingface_pins=PINS, modelfleet_release_ca_path="/etc/ca.pem")
    assert done.returncode == 0, done.stdout
    (args,) = asked(calls, "model_artifact")
    assert args["huggingface_small_ca_path"] == "/etc/ca.pem"
    assert "The hub was asked 25 times, 20 of them by the controller for all." in table_of(done)
    done, calls = fleet("distribute", [HUB], {}, modelfleet_huggingface_pins=PINS, modelfleet_huggingface_small="host")
    (args,) = asked(calls, "model_artifact")
    assert args["huggingface_small"] == "host"
    assert "The hub was asked" not in " ".join(table_of(done))


@only_in_all
def test_a_repository_of_a_hub_is_none_of_torchserves(fleet):
    brought = {"changed": True, "artifacts": [artifact(BUNDLE), artifact(HUB, size=2)], "bytes": {}}
    done, calls = fleet(
        "site", [OBJECT, BUNDLE, HUB], site_answers(model_artifact=brought), "--tags", "models", modelfleet_huggingface_pins=PINS
    )
    assert done.returncode == 0, done.stdout
    assert [one["name"] for one in asked(calls, "model_artifact")[0]["artifacts"]] == ["llama", "bert"]
    assert [one["name"] for one in asked(calls, "torchserve_model")[0]["models"]] == ["tiny", "llama"]


@only_in_all
def test_a_repository_of_a_hub_is_served_where_it_names_a_server(fleet):
    unit = f"openai-server-bert-1-{COMMIT[:12]}.service"
    row = {**SERVER, "name": "bert", "version": "1", "file": COMMIT, "unit": unit, "port": 8102, "detail": ""}
    answers = site_answers(
        model_artifact={"changed": True, "artifacts": [artifact(BUNDLE), artifact(HUB, size=2)], "bytes": {}},
        openai_model={"changed": True, "models": []},
        openai_info={"models": [row], "recorded": [], "units": [unit]},
        daemon={"action": "none", "restart_owed": False},
    )
    listed = [OBJECT, BUNDLE, OLD, {**HUB, "runtime": "openai", "port": 8102}]
    options = {"openai_server_command": COMMAND, "modelfleet_huggingface_pins": PINS}
    done, calls = fleet("site", listed, answers, "--tags", "models", **options)
    assert done.returncode == 0, done.stdout
    assert [one["name"] for one in asked(calls, "torchserve_model")[0]["models"]] == ["tiny", "llama", "llama"]
    assert asked(calls, "openai_model")[-1]["models"] == [{"name": "bert", "version": "1", "huggingface": HUB["huggingface"], "port": 8102}]
    (written,) = asked(calls, "daemon")
    assert written["name"] == unit
    repository = "/var/lib/modelfleet/huggingface/modelfleet-hf/hub/models--org--bert"
    assert f"\nBindReadOnlyPaths={repository}\n" in written["files"][0]["content"]


def test_a_branch_of_a_hub_stops_before_any_host_is_reached(fleet):
    branch = {**HUB, "huggingface": {"repo": "org/bert", "revision": "main"}}
    done, calls = fleet("distribute", [branch], {})
    assert done.returncode != 0
    said = " ".join(done.stdout.split())
    assert "the revision 'main' of org/bert is no commit of 40 hexadecimal digits" in said and "run modelfleet.serving.pin" in said
    assert asked(calls, "model_artifact") == []
