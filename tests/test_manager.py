# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the roles write for a fleet with Dragonfly's manager: by one variable everybody asks it, and by the same one nobody does."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
ROLES = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles"
sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils import _dragonfly_config  # noqa: E402

SECRETS = {
    "dragonfly_manager_jwt_key": "k" * 64,
    "dragonfly_manager_root_password": "correct-horse-1",
    "dragonfly_manager_database_password": "d" * 20,
    "dragonfly_manager_redis_password": "r" * 20,
}
SHOWN = {
    "scheduler": "{{ __dragonfly_scheduler_files }}",
    "dfdaemon": "{{ __dfdaemon_files }}",
    "manager": "{{ __dragonfly_manager_files }}",
    "schedulers": "{{ __dragonfly_manager_schedulers }}",
    "stale": "{{ __dragonfly_scheduler_also_stale }}",
    "cluster": "{{ __dragonfly_manager_cluster }}",
    "findings": "{{ __dragonfly_manager_settings | modelfleet.serving.manager_findings }}",
    "admitted": "{{ __firewall_for_members | map(attribute='authority') }}",
    "administrators": "{{ __firewall_for_administrators | map(attribute='authority') }}",
    "sets": "{{ __firewall_sets }}",
    "redis": "{{ lookup('ansible.builtin.template', roles ~ '/dragonfly_manager/templates/manager-redis.conf.j2') }}",
}


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    directory = tmp_path_factory.mktemp("manager")
    roles = ("dragonfly_scheduler", "dfdaemon", "dragonfly_manager", "firewall")
    tasks = [
        *({"ansible.builtin.import_role": {"name": f"modelfleet.serving.{role}", "tasks_from": "variables"}} for role in roles),
        {"ansible.builtin.import_role": {"name": "modelfleet.serving.firewall", "tasks_from": "fleet"}},
        {"ansible.builtin.debug": {"msg": SHOWN}},
    ]
    play = {"hosts": ["scheduler-1", "seed-1"], "connection": "local", "gather_facts": False, "tasks": tasks}
    (directory / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")

    def write(managers=("scheduler-1",), **variables):
        common = {"modelfleet_storage": {"http": {"url": "https://files.example.com"}}, "roles": str(ROLES), **SECRETS, **variables}
        inventory = {
            "all": {"vars": common},
            "dragonfly_schedulers": {
                "hosts": {
                    "scheduler-1": {"modelfleet_address": "10.0.0.1"},
                    "scheduler-2": {"modelfleet_address": "10.0.0.4", "dragonfly_scheduler_port": 8012},
                }
            },
            "dragonfly_seed_peers": {"hosts": {"seed-1": {"modelfleet_address": "10.0.0.2"}}},
            "gpu_hosts": {"hosts": {"gpu-1": {"modelfleet_address": "10.0.0.3"}}},
            **({"dragonfly_managers": {"hosts": {name: {} for name in managers}}} if managers else {}),
        }
        (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        done = run("ansible-playbook", "-i", directory / "hosts.yml", directory / "play.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
        assert done.returncode == 0, done.stdout
        shown = re.findall(r"ok: \[([^]]+)\] => (\{\n    \"msg\".*?\n\})\n", done.stdout, re.DOTALL)
        files = {host: json.loads(text)["msg"] for host, text in shown}
        assert set(files) == {"scheduler-1", "seed-1"}
        return files

    return write


@pytest.fixture(scope="module")
def fleets(written):
    return {
        "without": written(managers=()),
        "beside": written(),
        "mode": written(modelfleet_manager_mode=True),
        "clear": written(modelfleet_manager_mode=True, modelfleet_mtls=False),
        "lost": written(modelfleet_manager_mode=True, __dragonfly_manager_admin={"unregistered": ["scheduler-1"]}),
    }


def main(files):
    return files[0]["config"]


def test_the_daemons_accept_it(fleets):
    for name, fleet in fleets.items():
        for host, component in (("scheduler-1", "scheduler"), ("seed-1", "dfdaemon"), ("scheduler-1", "manager")):
            _dragonfly_config.check([{**entry, "mode": entry.get("mode", "0644")} for entry in fleet[host][component]])
            assert list(_dragonfly_config.problems(component, main(fleet[host][component]))) == [], (name, component)
        assert fleet["scheduler-1"]["findings"] == [], name


def test_a_manager_that_nobody_is_to_ask_changes_nothing(fleets):
    for host in ("scheduler-1", "seed-1"):
        for component in ("scheduler", "dfdaemon"):
            assert fleets["beside"][host][component] == fleets["without"][host][component]
            assert [entry["component"] for entry in fleets["beside"][host][component]] == [component, f"{component}_dynconfig"]
    assert fleets["beside"]["scheduler-1"]["schedulers"] == []


def test_one_variable_has_everybody_ask_it(fleets):
    """The address with a scheme for dfdaemon, which takes https for TLS, and without one for the scheduler; no local file beside it."""
    for name, scheme in (("mode", "https"), ("clear", "http")):
        (scheduler,), (dfdaemon,) = fleets[name]["scheduler-1"]["scheduler"], fleets[name]["seed-1"]["dfdaemon"]
        assert scheduler["config"]["manager"]["addr"] == "10.0.0.1:65003"
        assert dfdaemon["config"]["manager"]["addr"] == f"{scheme}://10.0.0.1:65003"
        assert ("tls" in scheduler["config"]["manager"]) == ("caCert" in dfdaemon["config"]["manager"]) == (name == "mode")
        assert scheduler["config"]["manager"]["schedulerClusterID"] == dfdaemon["config"]["host"]["schedulerClusterID"] == 1
        assert scheduler["config"]["database"]["redis"] == {"addrs": ["10.0.0.1:65100"], "password": "r" * 20}
        assert scheduler["mode"] == "0640"
        # Otherwise 8002 is registered, whatever its port is.
        assert scheduler["config"]["server"]["advertisePort"] == scheduler["config"]["server"]["port"] == 8002
    assert fleets["mode"]["scheduler-1"]["schedulers"] == [
        {"hostname": "scheduler-1", "ip": "10.0.0.1", "port": 8002},
        {"hostname": "scheduler-2", "ip": "10.0.0.4", "port": 8012},
    ]


def test_whoever_the_manager_does_not_know_is_stale(fleets):
    found = {name: fleet["scheduler-1"]["stale"] for name, fleet in fleets.items()}
    assert found == {**{name: [] for name in fleets}, "lost": ["its registration at the manager"]}


def test_nobody_reaches_more_than_he_must(fleets):
    config = main(fleets["mode"]["scheduler-1"]["manager"])
    assert config["server"]["rest"]["addr"] == "127.0.0.1:8090" and config["metrics"]["addr"] == "127.0.0.1:8001"
    assert config["server"]["grpc"]["listenIP"] == "10.0.0.1" and config["server"]["grpc"]["tls"]["caCert"] == "/etc/dragonfly/tls/ca.pem"
    assert "tls" not in main(fleets["clear"]["scheduler-1"]["manager"])["server"]["grpc"]
    assert config["server"]["logLevel"] == "warn"
    assert config["database"]["redis"]["addrs"] == ["127.0.0.1:6380"] and config["database"]["redis"]["proxy"]["addr"] == "10.0.0.1:65100"
    assert {"10.0.0.1:65003", "10.0.0.1:65100"} <= set(fleets["mode"]["scheduler-1"]["admitted"])
    assert fleets["mode"]["scheduler-1"]["administrators"] == ["127.0.0.1:8090"]
    assert fleets["mode"]["seed-1"]["administrators"] == fleets["without"]["scheduler-1"]["administrators"] == []
    sets = {one["name"]: one["elements"] for one in fleets["mode"]["seed-1"]["sets"]}
    assert sets["scheduler_ports"] == ["8002", "8012", "65003", "65100"]
    redis = fleets["mode"]["scheduler-1"]["redis"]
    assert "bind 127.0.0.1\n" in redis and f'requirepass "{"r" * 20}"\n' in redis


def test_the_limits_are_those_without_a_manager(fleets, written):
    limits = {"candidate_parent_limit": 2, "filter_parent_limit": 15, "peer_load_limit": 200, "seed_peer_load_limit": 2000}
    assert fleets["mode"]["scheduler-1"]["cluster"] == limits
    other = written(modelfleet_manager_mode=True, dragonfly_manager_cluster={"candidate_parent_limit": 4})
    assert other["scheduler-1"]["cluster"] == {**limits, "candidate_parent_limit": 4}


def test_databases_elsewhere(written):
    fleet = written(
        modelfleet_manager_mode=True,
        dragonfly_manager_database_type="postgres",
        dragonfly_manager_database_host="db.example.com",
        dragonfly_manager_redis_addresses=["redis-1.example.com:6379"],
        dragonfly_manager_redis_username="fleet",
    )
    config = main(fleet["scheduler-1"]["manager"])
    assert config["database"]["postgres"] == {
        **{"user": "dragonfly", "password": "d" * 20, "host": "db.example.com", "port": 5432, "dbname": "manager"}
    }
    assert config["database"]["redis"] == {"addrs": ["redis-1.example.com:6379"], "password": "r" * 20, "username": "fleet"}
    assert list(_dragonfly_config.problems("manager", config)) == []
    assert main(fleet["scheduler-1"]["scheduler"])["database"]["redis"]["addrs"] == ["redis-1.example.com:6379"]


def test_no_unit_keeps_the_variable_of_a_first_token():
    """With it the second start of the manager fails (Duplicate entry 'default')."""
    unit = (ROLES / "dragonfly_manager/templates/dragonfly-manager.service.j2").read_text(encoding="utf-8")
    assert "UnsetEnvironment=DRAGONFLY_PAT\n" in unit


@pytest.mark.parametrize("name", ["dfdaemon/templates/dfdaemon.service.j2", "dragonfly_scheduler/templates/dragonfly-scheduler.service.j2"])
def test_daemons_start_again_until_the_manager_knows_a_scheduler(name):
    """Until then dfdaemon ends: available schedulers not found."""
    unit = (ROLES / name).read_text(encoding="utf-8")
    assert "Restart=always\n" in unit and "StartLimitIntervalSec=0\n" in unit
