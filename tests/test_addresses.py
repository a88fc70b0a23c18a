# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A port that a user moved is moved everywhere: in what the daemons read, in what waits for them, asks them and checks their ports."""

from __future__ import annotations

import json
import re

import pytest
import yaml
from conftest import REPOSITORY

ROLES = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles"
UNIT = ROLES / "dfdaemon/templates/dfdaemon.service.j2"
MOVED = {
    "dragonfly_scheduler_config": {"server": {"port": 18002}, "metrics": {"addr": "127.0.0.1:18000"}},
    "dfdaemon_config": {
        "upload": {"server": {"port": 14000}},
        "proxy": {"server": {"port": 14001}, "rules": [{"regex": "files"}]},
        "metrics": {"server": {"port": 14002}},
        "health": {"server": {"port": 14003}},
        "stats": {"server": {"port": 14004}},
        "storage": {"server": {"tcpPort": 14005}},
    },
    "torchserve_config": {
        "inference_address": "http://127.0.0.1:18080",
        "management_address": "http://127.0.0.1:18081",
        "metrics_address": "http://127.0.0.1:{{ torchserve_metrics_port }}",
        "grpc_inference_port": 17070,
    },
    "torchserve_metrics_port": 18082,
    "torchserve_grpc_management_port": 17071,
    "torchserve_torch_index_url": "https://download.pytorch.org/whl/cu124/",
}
DEFAULT_PORT = re.compile(r"\b(8002|8000|400[0-5]|808[0-2]|707[01])\b")
SHOWN = {
    "scheduler": "{{ __dragonfly_scheduler_config | combine(dragonfly_scheduler_config, recursive=true) }}",
    "dynconfig": "{{ __dfdaemon_dynconfig }}",
    "dfdaemon": "{{ __dfdaemon_files[0].config }}",
    "torchserve": "{{ __torchserve_config | combine(torchserve_config) }}",
    "asked": [
        "{{ __dfdaemon_health_url }}",
        "{{ __dfdaemon_metrics_url }}",
        "{{ __torchserve_management_url }}",
        "{{ endpoint_plugin_proxy_url }}",
        "{{ __modelfleet_addresses.torchserve.inference.url }}",
    ],
    "checked": "{{ __preflight_ports | map(attribute='port') }}",
    "cuda": "{{ __preflight_cuda }}",
    "unit": f"{{{{ lookup('ansible.builtin.template', '{UNIT}', template_vars={{'role_path': '{UNIT.parent.parent}'}}) }}}}",
}


@pytest.fixture(scope="module")
def shown(run, tmp_path_factory):
    """What the roles make of the inventory. Those without an entry point that only reads variables lend their files."""
    directory = tmp_path_factory.mktemp("moved")
    variables = {"modelfleet_address": "10.0.0.1", "modelfleet_storage": {"http": {"url": "https://files.example.com"}}, **MOVED}
    inventory = {group: {"hosts": {"all-in-one": variables}} for group in ("dragonfly_schedulers", "dragonfly_seed_peers", "gpu_hosts")}
    play = {
        "hosts": "all",
        "connection": "local",
        "gather_facts": False,
        "vars_files": [str(ROLES / part / "main.yml") for part in ("preflight/vars", "monitoring/vars", "endpoint_plugin/defaults")],
        "tasks": [
            *(
                {"ansible.builtin.import_role": {"name": f"modelfleet.serving.{role}", "tasks_from": "variables"}}
                for role in ("dragonfly_scheduler", "dfdaemon", "torchserve")
            ),
            {"ansible.builtin.debug": {"msg": SHOWN}},
        ],
    }
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    (directory / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    done = run("ansible-playbook", "-i", directory / "hosts.yml", directory / "play.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
    assert done.returncode == 0, done.stdout
    return json.loads(re.search(r"ok: \[all-in-one\] => (\{\n    \"msg\".*\})\n\nPLAY RECAP", done.stdout, re.DOTALL).group(1))["msg"]


@pytest.mark.parametrize("what", SHOWN)
def test_no_port_stays_where_it_was(shown, what):
    assert DEFAULT_PORT.findall(json.dumps(shown[what])) == []


def test_the_fleet_uses_the_moved_ports(shown):
    assert shown["asked"] == [
        "http://127.0.0.1:14003/healthy",
        "http://127.0.0.1:14002/metrics",
        "http://127.0.0.1:18081",
        "http://127.0.0.1:14001",
        "http://127.0.0.1:18080",
    ]
    assert shown["dynconfig"] == {"scheduler": {"addrs": ["10.0.0.1:18002"]}}
    assert sorted(shown["checked"]) == [14000, 14001, 14002, 14003, 14004, 14005, 17070, 17071, 18000, 18002, 18080, 18081, 18082]
    assert "sport = :14005" in shown["unit"]


def test_rules_of_the_users_own_come_after_that_of_the_store(shown):
    assert shown["dfdaemon"]["proxy"]["rules"] == [{"regex": r"^http://files\.example\.com/", "useTLS": True}, {"regex": "files"}]


def test_the_name_of_torchs_build_says_its_cuda(shown):
    assert shown["cuda"] == "12.4"


def test_an_address_may_name_a_variable_of_its_role(run, tmp_path):
    """Also where another role asks."""
    variables = {
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "modelfleet_address": "10.0.0.1",
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "torchserve_config": {"management_address": "http://127.0.0.1:{{ torchserve_management_port + 10000 }}"},
    }
    tasks = [{"ansible.builtin.include_role": {"name": "modelfleet.serving.smoke"}}]
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    done = run("ansible-playbook", "-i", "localhost,", "-v", tmp_path / "play.yml")
    assert done.returncode == 0, done.stdout
