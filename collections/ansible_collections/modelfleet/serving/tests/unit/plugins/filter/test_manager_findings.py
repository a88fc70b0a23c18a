# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.manager_findings import manager_findings

FINE = {
    "hosts": ["one"],
    "schedulers": ["one", "two"],
    "mode": True,
    "jwt_key": "k" * 64,
    "root_password": "correct-horse-1",
    "database_password": "d" * 20,
    "redis_password": "r" * 20,
    "database_type": "mariadb",
    "database_host": "",
    "redis_addresses": [],
    "config": {},
    "cluster": {},
    "ports": {"dragonfly_manager_port": 65003, "dragonfly_manager_rest_port": 8090},
}


def test_nothing_is_wrong():
    assert manager_findings(FINE) == []
    assert manager_findings({**FINE, "config": {"job": {"syncPeers": {"interval": "13h"}}}}) == []
    assert manager_findings({**FINE, "config": {"database": {"mysql": {"migrate": True}}}, "cluster": {"job_rate_limit": 20}}) == []


def test_of_a_host_that_does_not_run_it_only_what_concerns_all():
    assert manager_findings({**FINE, "jwt_key": ""}, runs=False) == []
    (found,) = manager_findings({**FINE, "hosts": ["three"], "jwt_key": ""}, runs=False)
    assert "The manager's host three is not in dragonfly_schedulers" in found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hosts": ["one", "two"]}, "The group dragonfly_managers has 2 hosts (one, two), and daemons ask one; leave one of them in it."),
        ({"hosts": ["three"]}, "The manager's host three is not in dragonfly_schedulers"),
        ({"hosts": []}, "modelfleet_manager_mode is true, and the group dragonfly_managers has no host"),
        ({"jwt_key": "ZHJhZ29uZmx5Cg=="}, "The variable dragonfly_manager_jwt_key is what Dragonfly publishes"),
        ({"jwt_key": ""}, "The variable dragonfly_manager_jwt_key has 0 characters; write one of 32 characters or more, in vault"),
        ({"root_password": "dragonfly"}, "The variable dragonfly_manager_root_password is what Dragonfly publishes"),
        ({"root_password": "x" * 21}, "has 21 characters; write one of 8 to 20 characters"),
        ({"redis_password": "r" * 20 + "\n"}, "dragonfly_manager_redis_password ends with a line end; write it without"),
        ({"database_password": 123456789012}, "dragonfly_manager_database_password is no text; write it in quotes"),
        ({"database_type": "postgres"}, "only a MariaDB is installed here"),
        ({"redis_addresses": ["127.0.0.1:6379"]}, "is loopback, and the schedulers of other hosts call it too"),
        ({"ports": {"a": 1, "b": 1}}, "The variables a and b are both 1"),
        (
            {"config": {"server": {"rest": {"addr": "0.0.0.0:8080"}}}},
            "The key server.rest in dragonfly_manager_config is what other variables",
        ),
        ({"config": {"consolle": True}}, "The key consolle in dragonfly_manager_config "),
        (
            {"config": {"database": {"redis": {"password": "another"}}}},
            "The key database.redis.password in dragonfly_manager_config is what",
        ),
        ({"config": {"database": {"mysql": {"migrat": True}}}}, "The key database.mysql.migrat in dragonfly_manager_config "),
        ({"cluster": {"candidate_parents": 2}}, "The key candidate_parents in dragonfly_manager_cluster is none of candidate_parent_limit"),
    ],
)
def test_what_is_wrong_is_said_once_and_without_a_secret(change, said):
    (found,) = manager_findings({**FINE, **change})
    assert said in found
    assert not any(value in found for value in ("k" * 64, "d" * 20, "r" * 20, "x" * 21))
