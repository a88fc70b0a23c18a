# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles write for fleets of any size: daemons accept it, and one host more changes nothing."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils import _dragonfly_config, _swarm  # noqa: E402
from ansible_collections.modelfleet.serving.plugins.module_utils._plan import Links, plan, shortages  # noqa: E402

TRIED = settings(max_examples=200, deadline=None, derandomize=True, database=None)
# As many small fleets as large ones.
HOSTS = st.integers(0, 6).flatmap(lambda digits: st.integers(0, 10**digits))
RATES = st.floats(1e6, 1e12)
TIMES = st.floats(1, 60)
# Seed peers have the slowest link, so that their upload is often the wall.
SLOW_SEEDS = st.builds(lambda seed, origin, host: Links(seed * origin, seed, seed * host), st.floats(1e6, 2e8), TIMES, TIMES)
COUNT = st.integers(1, 30)
COMPONENTS = {"scheduler": "scheduler", "scheduler_dynconfig": "scheduler_dynconfig", "seed_peer": "dfdaemon"}
SHOWN = {
    "scheduler": "{{ __dragonfly_scheduler_files[0].config }}",
    "scheduler_dynconfig": "{{ __dragonfly_scheduler_files[1].config }}",
    "dfdaemon": "{{ __dfdaemon_files[0].config }}",
    "dfdaemon_dynconfig": "{{ __dfdaemon_files[1].config }}",
}
# What each kind of host writes.
WRITTEN = {"scheduler-1": ("scheduler", "scheduler_dynconfig"), "seed-1": ("dfdaemon",), "gpu-1": ("dfdaemon",)}


@TRIED
@given(HOSTS, RATES | st.just(0))
def test_the_daemons_accept_it(hosts, origin):
    for part, config in _swarm.settings(hosts, origin).items():
        assert list(_dragonfly_config.problems(COMPONENTS[part], config)) == []


@TRIED
@given(HOSTS, HOSTS, RATES | st.just(0))
def test_what_a_dfdaemon_has_does_not_depend_on_the_number_of_hosts(some, others, origin):
    """Otherwise adding hosts would restart the daemons of all others."""
    assert _swarm.settings(some, origin)["seed_peer"] == _swarm.settings(others, origin)["seed_peer"]


@TRIED
@given(HOSTS, RATES | st.just(0))
def test_a_host_more_restarts_a_scheduler_at_a_power_of_ten_only(hosts, origin):
    before, after = (_swarm.settings(number, origin)["scheduler"] for number in (hosts, hosts + 1))
    step = hosts >= 1000 and set(str(hosts)) <= {"1", "0"} and str(hosts).count("1") == 1
    assert (before != after) == step


@TRIED
@given(COUNT, SLOW_SEEDS, COUNT, COUNT, st.integers(1, 5))
def test_as_many_seed_peers_as_a_plan_asks_for_are_enough_and_fewer_are_not(hosts, links, seeds, files, copies):
    def planned(seeds, **changed):
        return plan(1 << 40, hosts, links._replace(**changed), seeds=seeds, files=files, copies=copies)

    said = [sentence for sentence in planned(seeds)["shortages"] if "upload of the seed peers" in sentence]
    assert bool(said) == (planned(seeds)["wall"] == "seed_upload")
    for sentence in said:
        wanted = re.search(r": (\d+) instead of", sentence)
        link = re.search(r"links of (\d+) Mbit/s", sentence)
        assert (wanted is None) != (link is None)
        if wanted:
            assert seeds < int(wanted[1])
            assert planned(int(wanted[1]))["wall"] != "seed_upload"
            assert planned(int(wanted[1]) - 1)["wall"] == "seed_upload"
        else:
            assert planned(1000)["wall"] == "seed_upload"
            assert planned(files, seed=(int(link[1]) + 1) * 1e6)["wall"] != "seed_upload"


@TRIED
@given(HOSTS.map(lambda hosts: hosts + 1))
def test_a_fleet_of_the_planned_size_is_short_of_nothing(hosts):
    planned = plan(1 << 30, hosts, Links(5e9, 10e9, 10e9))
    assert list(shortages(hosts, planned["seeds"], planned["schedulers"])) == []


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    """The files of a scheduler, a seed peer and a GPU host, for fleets of several sizes."""
    directory = tmp_path_factory.mktemp("swarm")
    tasks = [
        *(
            {"ansible.builtin.import_role": {"name": f"modelfleet.serving.{role}", "tasks_from": "variables"}}
            for role in ("dragonfly_scheduler", "dfdaemon")
        ),
        {"ansible.builtin.debug": {"msg": SHOWN}},
    ]
    play = {"hosts": list(WRITTEN), "connection": "local", "gather_facts": False, "tasks": tasks}
    (directory / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")

    def write(hosts, **variables):
        common = {"modelfleet_storage": {"http": {"url": "https://files.example.com"}}, **variables}
        inventory = {
            "all": {"vars": common},
            "dragonfly_schedulers": {"hosts": {"scheduler-1": {"modelfleet_address": "10.0.0.1"}}},
            "dragonfly_seed_peers": {"hosts": {"seed-1": {"modelfleet_address": "10.0.0.2"}}},
            "gpu_hosts": {"hosts": {"gpu-1": {"modelfleet_address": "10.0.0.3"}, f"gpu-[2:{hosts}]": {}}},
        }
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        done = run("ansible-playbook", "-i", directory / "hosts.yml", directory / "play.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
        assert done.returncode == 0, done.stdout
        shown = re.findall(r"ok: \[([^]]+)\] => (\{\n    \"msg\".*?\n\})\n", done.stdout, re.DOTALL)
        files = {host: json.loads(text)["msg"] for host, text in shown}
        assert set(files) == set(WRITTEN)
        return files

    return write


@pytest.fixture(scope="module")
def fleets(written):
    return {hosts: written(hosts) for hosts in (3, 100, 1000, 10000)}


def test_every_daemon_accepts_what_the_roles_write(fleets):
    for files in fleets.values():
        for host, components in WRITTEN.items():
            for component in components:
                assert list(_dragonfly_config.problems(component, files[host][component])) == [], (host, component)


@pytest.mark.parametrize("host", ["seed-1", "gpu-1"])
def test_a_larger_fleet_restarts_no_dfdaemon(fleets, host):
    files = [(fleet[host]["dfdaemon"], fleet[host]["dfdaemon_dynconfig"]) for fleet in fleets.values()]
    assert files.count(files[0]) == len(files)


def test_a_scheduler_is_ready_for_its_fleet(fleets):
    scheduler = {hosts: files["scheduler-1"]["scheduler"] for hosts, files in fleets.items()}
    limits = {hosts: config["server"].pop("requestRateLimit") for hosts, config in scheduler.items()}
    assert limits == {3: 4000, 100: 4000, 1000: 4000, 10000: 40000}
    assert all(config == scheduler[3] for config in scheduler.values()), "nothing else depends on the number of hosts"
    assert scheduler[3]["scheduler"] == {"backToSourceCount": 3}
    assert scheduler[3]["server"]["port"] == 8002
    for files in fleets.values():
        assert files["scheduler-1"]["scheduler_dynconfig"]["schedulerClusterConfig"] == {"candidateParentLimit": 2, "filterParentLimit": 15}


def test_only_a_seed_peer_is_told_of_the_origin(fleets, written):
    unknown, slow = fleets[3], written(3, modelfleet_origin_mbits=40)
    assert unknown["seed-1"]["dfdaemon"]["download"]["backToSourceConcurrentPieceCount"] == 8
    assert slow["seed-1"]["dfdaemon"]["download"]["backToSourceConcurrentPieceCount"] == 2
    assert slow["gpu-1"] == unknown["gpu-1"]
    assert "backToSourceConcurrentPieceCount" not in slow["gpu-1"]["dfdaemon"]["download"]


@pytest.mark.parametrize(("seeds", "said"), [(1, True), (2, False)])
def test_preflight_says_what_there_is_too_little_of(run, tmp_path, seeds, said):
    """Whatever else it finds: these hosts have no Python."""
    numbers = iter(range(1, 100))
    inventory = {
        group: {"hosts": {f"{group}-{number}": {"modelfleet_address": f"10.0.0.{next(numbers)}"} for number in range(hosts)}}
        for group, hosts in (("dragonfly_schedulers", 1), ("dragonfly_seed_peers", seeds), ("gpu_hosts", 2))
    }
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/nonexistent/python",
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "dragonfly_scheduler_release_sha256": "9f" * 32,
        "dfdaemon_release_sha256": "9f" * 32,
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common}, **inventory}), encoding="utf-8")
    done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", "modelfleet.serving.preflight")
    assert ("There is one seed peer: while it is away" in " ".join(done.stdout.split())) == said, done.stdout
    assert "/nonexistent/python" in done.stdout, "the hosts were not looked at"


def test_variables_of_the_user_beat_it(written):
    files = written(
        3,
        modelfleet_origin_mbits=40,
        dragonfly_scheduler_config={"scheduler": {"backToSourceCount": 5}, "server": {"requestRateLimit": 100}},
        dragonfly_scheduler_dynconfig={"schedulerClusterConfig": {"candidateParentLimit": 3}},
        dfdaemon_config={"download": {"backToSourceConcurrentPieceCount": 6}},
    )
    assert files["scheduler-1"]["scheduler"]["scheduler"] == {"backToSourceCount": 5}
    assert files["scheduler-1"]["scheduler"]["server"]["requestRateLimit"] == 100
    assert files["scheduler-1"]["scheduler_dynconfig"]["schedulerClusterConfig"] == {"candidateParentLimit": 3, "filterParentLimit": 15}
    assert files["seed-1"]["dfdaemon"]["download"]["backToSourceConcurrentPieceCount"] == 6
    assert files["seed-1"]["dfdaemon"]["download"]["server"] == {"socketPath": "/run/dragonfly/dfdaemon.sock"}
