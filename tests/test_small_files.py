# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller asks a hub for on behalf of its hosts: the module as Ansible runs it, on three at once, and the lab's own hub."""

from __future__ import annotations

import grp
import io
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "lab/origin"))

from strict_origin import server

REPO = "org/bert"
SMALL = {f"part-{number}.json": json.dumps({"part": number}) for number in range(10)}
GROUP = grp.getgrgid(os.getegid()).gr_name
RESULTS = "{{ ansible_play_hosts_all | map('extract', hostvars, 'result') | to_json }}"
TOLD = "Not all small files of the hub came by the controller"


@pytest.fixture
def hub(tmp_path, loopback_certificate):
    users = {name: {"tokens": {f"hf_cGxhbnRlZC{name}": {}}} for name in ("alice", "bob")}
    config = {
        "data": str(tmp_path / "data"),
        "address": "127.0.0.1",
        "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
        "tls": loopback_certificate,
        "hub": {"hosts": ["127.0.0.1"], "cdn": "cdn.example.com", "users": users},
    }
    servers = server.start(config)
    origin = servers["http"].origin

    def put(what, **given):
        return origin.hub.control("PUT", f"{what}/{REPO}", io.BytesIO(json.dumps(given).encode()))

    def asked():
        """How often each file was asked for, and all requests, since the last time."""
        objects = origin.counters.snapshot()["objects"]
        origin.counters.clear()
        files = Counter({name.rpartition("/")[2]: row.get("get", 0) for name, row in objects.items() if f"/{REPO}/resolve/" in name})
        return {name: count for name, count in files.items() if count}, sum(row["requests"] for row in objects.values())

    url = f"https://127.0.0.1:{servers['https'].server_address[1]}"
    yield SimpleNamespace(url=url, ca=loopback_certificate["certificate"], put=put, asked=asked, token="hf_cGxhbnRlZC{}".format)
    server.stop(servers)


@pytest.fixture
def fleet(run, hub, tmp_path):
    """Brings a commit ({commit, files} as the hub answered) to hosts, by name with their users at the hub; returns what each got."""
    machines = {}

    def bring(committed, hosts=(("gpu-1", "alice"), ("gpu-2", "alice"), ("gpu-3", "alice")), **more):
        files = {path: {"size": file["size"], "git_sha1": file["oid"]} for path, file in committed["files"].items()}
        source = {"repo": REPO, "revision": committed["commit"], "group": GROUP}
        inventory = {}
        for name, user in hosts:
            place = tmp_path / name
            if name not in machines:
                place.mkdir()
                machines[name] = FakeDragonfly(place)
                (place / "huggingface").mkdir()
            inventory[name] = {
                **machines[name].options(),
                "artifacts": [{"name": "bert", "version": "1", "huggingface": source}],
                "huggingface": {"endpoint": [hub.url], "token_endpoint": [hub.url], "token": hub.token(user), "ca_path": hub.ca},
                "huggingface_pins": {f"{REPO}@{committed['commit']}": {"files": files}},
                "huggingface_home": str(place / "huggingface"),
                "huggingface_decisions": str(place / "decisions.json"),
                "huggingface_small_ca_path": hub.ca,
                **more,
            }
        names = {name: f"{{{{ options.{name} }}}}" for name in inventory["gpu-1"]}
        tasks = [
            {"modelfleet.serving.model_artifact": names, "register": "result", "ignore_errors": True},
            {"ansible.builtin.copy": {"content": RESULTS, "dest": str(tmp_path / "results"), "mode": "0600"}, "run_once": True},
        ]
        common = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        listed = {name: {"options": found} for name, found in inventory.items()}
        (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "hosts": listed}}))
        temporary = tmp_path / "local"
        environment = {"ANSIBLE_LOCAL_TEMP": temporary, "ANSIBLE_REMOTE_TEMP": tmp_path / "remote", "no_proxy": "127.0.0.1"}
        done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "-vvv", **environment)
        assert done.returncode == 0, done.stdout
        assert "hf_cGxhbnRlZC" not in done.stdout and "Traceback" not in done.stdout
        # Neither the controller nor a host keeps what was on its way.
        assert [path for top in (temporary, tmp_path / "remote") for path in top.rglob("*") if path.is_file()] == []
        results = json.loads((tmp_path / "results").read_text())
        return {name: SimpleNamespace(**result) for name, result in zip(inventory, results)}

    def contents(name, commit):
        top = tmp_path / name / "huggingface" / GROUP / "hub" / "models--org--bert" / "snapshots" / commit
        return {path.name: path.read_text() for path in top.rglob("*")}

    yield SimpleNamespace(bring=bring, contents=contents)
    for machine in machines.values():
        machine.close()


def committed(hub, **changed):
    return hub.put("commits", files={name: {"text": text} for name, text in {**SMALL, **changed}.items()})


def test_three_hosts_ask_for_ten_small_files_ten_times(fleet, hub):
    commit = committed(hub)
    hub.put("repositories", gated="manual", granted=["alice"])
    results = fleet.bring(commit)
    files, requests = hub.asked()
    assert files == dict.fromkeys(SMALL, 1)
    for name, result in results.items():
        assert fleet.contents(name, commit["commit"]) == SMALL
        # A small file is behind a redirect of the hub's own.
        assert (result.changed, result.hub_requests, getattr(result, "warnings", [])) == (True, 2, [])
    assert sum(result.hub_requests_controller for result in results.values()) == 2 * len(SMALL) == requests - 3 * 2
    assert [(one.changed, one.hub_requests, one.hub_requests_controller) for one in fleet.bring(commit).values()] == [(False, 0, 0)] * 3
    assert hub.asked() == ({}, 0)
    changed = committed(hub, **{"part-3.json": "{}"})
    fleet.bring(changed)
    assert hub.asked()[0] == {"part-3.json": 1}
    assert fleet.contents("gpu-3", changed["commit"]) == {**SMALL, "part-3.json": "{}"}


def test_nobody_asks_for_who_has_no_right(fleet, hub):
    commit = committed(hub)
    hub.put("repositories", gated="manual", granted=["alice"])
    for others in (), (("gpu-2", "alice"), ("gpu-3", "alice")):
        result = fleet.bring(commit, hosts=(("gpu-1", "bob"), *others))["gpu-1"]
        assert result.failed and "has not been granted access (403)" in result.msg
        assert result.hub_requests_controller == 0 and fleet.contents("gpu-1", commit["commit"]) == {}
        assert hub.asked()[0] == (dict.fromkeys(SMALL, 1) if others else {})
    assert fleet.contents("gpu-2", commit["commit"]) == SMALL


@pytest.mark.parametrize("how", [{"huggingface_small_ca_path": ""}, {"huggingface_small": "host"}])
def test_hosts_ask_where_the_controller_cannot_or_must_not(fleet, hub, how):
    commit = committed(hub)
    results = fleet.bring(commit, **how)
    assert hub.asked()[0] == dict.fromkeys(SMALL, 3)
    for name, result in results.items():
        assert fleet.contents(name, commit["commit"]) == SMALL
        told = [one for one in getattr(result, "warnings", []) if TOLD in one]
        assert ["its certificate is not trusted" in one for one in told] == ([] if "huggingface_small" in how else [True])
