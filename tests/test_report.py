# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of a fleet that is not well: no host is forgotten, each fails for itself, and no old report is left behind."""

from __future__ import annotations

import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from conftest import REPOSITORY
from fleet import only_in_all

# A daemon's own ports are closed on this machine; a host that cannot be reached is one whose SSH port is closed.
HERE = {"ansible_connection": "local"}
AWAY = {"ansible_host": "127.0.0.1", "ansible_port": 1}
PLAYBOOKS = "collections/ansible_collections/modelfleet/serving/playbooks"
MODEL = {"name": "tiny", "version": "1.0", "object": "tiny.mar", "sha256": "9f" * 32}


@pytest.fixture(scope="module")
def port():
    """Port of a server that answers everything with the number 2."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"2")

        def log_message(self, *_arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def write_inventory(directory, groups, variables):
    """Write hosts.yml: ``groups`` is {group: {host: its variables}}. Returns its path."""
    number = iter(range(1, 100))
    common = {"ansible_python_interpreter": sys.executable, "ansible_become": False, "smoke_report_path": str(directory / "report.json")}
    common.update(modelfleet_storage={"http": {"url": "http://localhost"}}, modelfleet_models=[MODEL])
    hosts = {
        group: {"hosts": {name: {"modelfleet_address": f"10.1.1.{next(number)}", **host} for name, host in members.items()}}
        for group, members in groups.items()
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": {**common, **variables}, "children": hosts}}))
    return directory / "hosts.yml"


@pytest.fixture(scope="module")
def report(run, port, tmp_path_factory):
    """(report, output, text beside the report) of the play smoke, without gpu-4. gpu-3 has a list of models of its own."""
    directory = tmp_path_factory.mktemp("report")
    own = {"name": "own", "version": "2.0", "object": "own.mar", "sha256": "ab" * 32}
    own["check"] = {"input_file": "one.json", "expected_file": "one.json"}
    groups = {
        "dragonfly_schedulers": {"scheduler-1": {**HERE, "modelfleet_address": "127.0.0.1"}, "scheduler-2": AWAY},
        "dragonfly_seed_peers": {"seed-1": HERE},
        "gpu_hosts": {
            "gpu-1": HERE,
            "gpu-2": AWAY,
            "gpu-3": {**HERE, "modelfleet_models": [own], "torchserve_inference_port": port},
            "gpu-4": HERE,
        },
    }
    ports = {"dragonfly_scheduler_port": 1, "torchserve_management_port": 1, "torchserve_inference_port": 1}
    inventory = write_inventory(directory, groups, {**ports, "modelfleet_files_dir": str(directory)})
    (directory / "one.json").write_text("1\n")
    for name in ("report.json", "report.txt"):
        (directory / name).write_text('{"ok": true}')
    done = run("ansible-playbook", "-i", inventory, f"{PLAYBOOKS}/smoke.yml", "--limit", "!gpu-4")
    assert done.returncode == 2, done.stdout
    return json.loads((directory / "report.json").read_text()), done.stdout, (directory / "report.txt").read_text()


def test_no_host_of_the_run_is_forgotten(report):
    found, _output, text = report
    assert found["ok"] is False
    assert {host: one["ok"] for host, one in found["hosts"].items()} == {
        **dict.fromkeys(("scheduler-1", "scheduler-2", "seed-1", "gpu-1", "gpu-2", "gpu-3"), False),
        "gpu-4": None,
    }
    assert found["not_checked"] == ["gpu-4"]
    for host, one in found["hosts"].items():
        for message in one["problems"]:
            assert {"host": host, "message": message} in found["problems"]
            assert f"{host}: {message}" in text
    assert found["hosts"]["gpu-2"]["problems"][0].startswith("Reach the host: unreachable: ")


def test_a_host_is_judged_by_its_own_list(report):
    found, _output, _text = report
    assert [row["model"] for row in found["hosts"]["gpu-1"]["models"]] == ["tiny"]
    (own,) = found["hosts"]["gpu-3"]["models"]
    assert (own["model"], own["answer_ok"]) == ("own", False)
    assert any("own 2.0 does not give its known answer: $ is 2, expected 1" in said for said in found["hosts"]["gpu-3"]["problems"])


def test_each_host_fails_for_itself(report):
    found, output, _text = report
    recap = dict(re.findall(r"^(\S+) +: .* failed=(\d+)", output.split("PLAY RECAP")[1], re.MULTILINE))
    assert recap == dict.fromkeys(("scheduler-1", "scheduler-2", "seed-1", "gpu-1", "gpu-2", "gpu-3"), "1")
    last = output.split("TASK [modelfleet.serving.smoke : Stop if something is wrong]")[1]
    said = {
        name: " ".join(part.split("[ERROR]")[0].split()) for name, part in re.findall(r"fatal: \[(\S+)\]: (.*?)(?=fatal:|$)", last, re.S)
    }
    for problem in found["problems"]:
        words = " ".join(problem["message"].split()[:4])
        assert words in said[problem["host"]]


@pytest.fixture(scope="module")
def stopped(run, tmp_path_factory):
    """(site's finished process, report) where no host can be used: they have no room, or cannot be reached."""
    directory = tmp_path_factory.mktemp("stopped")
    report = directory / "report.json"
    report.write_text('{"ok": true}')
    groups = {"dragonfly_schedulers": {"scheduler-1": HERE}, "gpu_hosts": {"gpu-1": HERE, "gpu-2": AWAY}}
    digests = {"dfdaemon_release_sha256": "9f" * 32, "dragonfly_scheduler_release_sha256": "9f" * 32}
    inventory = write_inventory(directory, groups, {**digests, "preflight_required_disk": "1000TiB"})
    done = run("ansible-playbook", "-i", inventory, f"{PLAYBOOKS}/site.yml")
    return done, json.loads(report.read_text())


def test_hosts_that_cannot_be_used_are_named_before_the_first_change(stopped):
    done, _report = stopped
    assert done.returncode == 2, done.stdout
    named, after = done.stdout.split("PLAY [Name the hosts that cannot be used]")[1].split("PLAY [Build the endpoint plugin once]")
    named = " ".join(named.split())
    # Without a scheduler nobody can go on.
    assert "The run stops here because of:" in named
    assert "gpu-2: Reach the host: unreachable: " in named and "scheduler-1: Check this host: This host is not ready" in named
    assert "changed=1" not in done.stdout
    assert "PLAY [Install TorchServe on the GPU hosts] " in after and "PLAY [Report the fleet]" in after


def test_a_run_that_is_stopped_ends_with_the_report(stopped):
    _done, report = stopped
    assert {host: one["problems"][0].split(": ")[0] for host, one in report["hosts"].items()} == {
        "scheduler-1": "Check this host",
        "gpu-1": "Check this host",
        "gpu-2": "Reach the host",
    }


@only_in_all
@pytest.mark.parametrize("playbook", ["site", "smoke"])
def test_a_run_that_a_mistake_ends_leaves_no_old_report(run, tmp_path, playbook):
    for name in ("report.json", "report.txt"):
        (tmp_path / name).write_text('{"ok": true}')
    inventory = write_inventory(tmp_path, {"gpu_hosts": {"gpu-1": AWAY}}, {"modelfleet_models": [{"name": "tiny"}]})
    done = run("ansible-playbook", "-i", inventory, f"{PLAYBOOKS}/{playbook}.yml")
    assert done.returncode != 0 and "missing required arguments: version" in done.stdout, done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["hosts.yml"]


@only_in_all
@pytest.mark.parametrize("path", ["", "{{ nothing }}", "kept", ["kept/file.json"]])
def test_only_a_report_is_taken_away(run, tmp_path, path):
    """Whatever the path of the report says: nobody has checked it yet."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file.json").write_text("1")
    inventory = write_inventory(tmp_path, {"gpu_hosts": {"gpu-1": AWAY}}, {"modelfleet_models": "none", "smoke_report_path": path})
    playbook = f"{REPOSITORY}/{PLAYBOOKS}/smoke.yml"
    done = run("ansible-playbook", "-i", inventory, playbook, cwd=tmp_path, ANSIBLE_COLLECTIONS_PATH=REPOSITORY / "collections")
    assert "The variable modelfleet_models is not what its role takes" in done.stdout, done.stdout
    assert (tmp_path / "kept/file.json").exists()


@only_in_all
def test_check_mode_leaves_a_report_alone(run, tmp_path):
    old = tmp_path / "report.json"
    old.write_text('{"ok": true}')
    inventory = write_inventory(tmp_path, {"gpu_hosts": {"gpu-1": AWAY}}, {})
    done = run("ansible-playbook", "-i", inventory, f"{PLAYBOOKS}/smoke.yml", "--check")
    assert done.returncode != 0 and old.exists()


@only_in_all
def test_the_only_host_of_a_play_may_get_lost_on_the_way(run, tmp_path):
    """The report comes although the scheduler is gone after the first play has reached it."""
    lost = {"ansible_connection": "{{ 'ssh' if ansible_facts.distribution is defined else 'local' }}", **AWAY}
    inventory = write_inventory(tmp_path, {"dragonfly_schedulers": {"scheduler-1": lost}, "gpu_hosts": {"gpu-1": HERE}}, {})
    quick = ["-e", '{"torchserve_management_port": 1, "torchserve_inference_port": 1}', "-T", "1"]
    done = run("ansible-playbook", "-i", inventory, f"{PLAYBOOKS}/smoke.yml", *quick)
    assert done.returncode == 2, done.stdout
    hosts = json.loads((tmp_path / "report.json").read_text())["hosts"]
    assert hosts["scheduler-1"]["problems"][0].startswith("Reach the host: timed out"), hosts
    assert hosts["gpu-1"]["answered"]


@only_in_all
def test_nothing_depends_on_the_users_way_of_running(run, tmp_path):
    """Become everywhere on a controller that cannot, another strategy, tags: the hosts fail, the controller's own work does not."""
    report = tmp_path / "report.json"
    report.write_text("old")
    nowhere = {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": "/bin/false"}
    inventory = write_inventory(
        tmp_path, {"dragonfly_schedulers": {"scheduler-1": HERE}, "gpu_hosts": {"gpu-1": HERE, "gpu-2": HERE}}, nowhere
    )
    smoke = f"{PLAYBOOKS}/smoke.yml"
    done = run("ansible-playbook", "-i", inventory, smoke, "-b", "--tags", "none", ANSIBLE_STRATEGY="free", ANSIBLE_FORKS="1")
    assert done.returncode == 2, done.stdout
    hosts = json.loads(report.read_text())["hosts"]
    assert sorted(hosts) == ["gpu-1", "gpu-2", "scheduler-1"]
    assert all(one["problems"][0].startswith(("Check this host: ", "Gather facts: ")) for one in hosts.values()), hosts
    assert done.stdout.count("TASK [modelfleet.serving.modelfleet : Write the report as JSON]") == 1


@only_in_all
def test_a_python_without_pip_is_named(run, tmp_path):
    inventory = write_inventory(tmp_path, {"gpu_hosts": {"gpu-1": HERE}}, {"endpoint_plugin_python": "/bin/false"})
    variables = {"__endpoint_plugin_is_built": True, "endpoint_plugin_build_dir": str(tmp_path)}
    role = {"name": "modelfleet.serving.endpoint_plugin", "tasks_from": "build"}
    play = {"hosts": "gpu_hosts", "gather_facts": False, "tasks": [{"ansible.builtin.include_role": role}]}
    (tmp_path / "build.yml").write_text(yaml.safe_dump([play]))
    done = run("ansible-playbook", "-i", inventory, tmp_path / "build.yml", "-e", json.dumps(variables))
    said = " ".join(done.stdout.split())
    assert (
        done.returncode == 2
        and "with /bin/false -m pip on localhost" in said
        and "Set endpoint_plugin_python to a Python that has pip" in said
    )


@only_in_all
@pytest.mark.parametrize("all_or_nothing", [False, True])
def test_a_host_on_which_something_fails_is_left_out_with_the_reason(run, tmp_path, all_or_nothing):
    """The rescue that every play of site has, with each kind of failure."""
    failures = {
        "said": {"ansible.builtin.fail": {"msg": "It said why."}},
        "loop": {"ansible.builtin.fail": {"msg": "{{ item }} failed."}, "loop": ["one", "two"], "when": "item == 'two'"},
        "command": {"ansible.builtin.command": {"argv": ["ls", "/nowhere"]}},
        "hidden": {"ansible.builtin.fail": {"msg": "a secret"}, "no_log": True},
        "good": {"ansible.builtin.debug": {}},
    }
    tasks = [{"name": f"Do {kind}", **failure} for kind, failure in failures.items()]
    for kind, task in zip(failures, tasks, strict=True):
        task["when"] = [f"inventory_hostname == '{kind}'", *([task["when"]] if "when" in task else [])]
    aside = {"name": "modelfleet.serving.modelfleet", "tasks_from": "set_aside"}
    tell = "{{ groups['modelfleet_stopped'] | default([]) | length }} stopped; {{ __modelfleet_problem }}"
    plays = [
        {"hosts": "gpu_hosts", "gather_facts": False, "tasks": [{"block": tasks, "rescue": [{"ansible.builtin.include_role": aside}]}]},
        {"hosts": "modelfleet_set_aside", "gather_facts": False, "tasks": [{"ansible.builtin.debug": {"msg": tell}}]},
    ]
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays))
    inventory = write_inventory(tmp_path, {"gpu_hosts": dict.fromkeys(failures, HERE)}, {"modelfleet_all_or_nothing": all_or_nothing})
    done = run("ansible-playbook", "-i", inventory, tmp_path / "play.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
    assert done.returncode == 0, done.stdout
    shown = done.stdout.split("PLAY [modelfleet_set_aside]")[1]
    told = dict(re.findall(r'ok: \[(\w+)\] => \{\s*"msg": "\d stopped; (.*)"', shown))
    assert sorted(told) == ["command", "hidden", "loop", "said"]
    assert (told["said"], told["loop"]) == ("Do said: It said why.", "Do loop: two failed.")
    assert told["command"].startswith("Do command: ") and "/nowhere" in told["command"]
    assert "a secret" not in shown and told["hidden"] == "Do hidden: it failed, and what it says is hidden"
    assert f"{4 if all_or_nothing else 0} stopped" in shown
