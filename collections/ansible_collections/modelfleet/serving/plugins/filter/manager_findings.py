# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: manager_findings
short_description: What is wrong with the variables of Dragonfly's manager
version_added: 0.1.0
description:
  - Looks for what the manager or a task of its role would stumble over later, and for what would leave it open. No secret is in a sentence.
positional: _input
options:
  _input:
    description: The settings, as the role P(modelfleet.serving.dragonfly_manager#role) collects them.
    type: dict
    required: true
  runs:
    description: Whether the host is to run the manager. Of another one only the group and the mode are looked at.
    type: bool
    default: true
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Look for mistakes
  ansible.builtin.debug:
    msg: "{{ __dragonfly_manager_settings | modelfleet.serving.manager_findings }}"
"""

RETURN = r"""
_value:
  description: Sentences, none where nothing is wrong.
  type: list
  elements: str
"""

from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import problems
from ansible_collections.modelfleet.serving.plugins.module_utils._text import OUTER_REMEDY, outer_problem

# By variable, how long it must be at least, and at the most.
SECRETS = {"jwt_key": (32, None), "root_password": (8, 20), "database_password": (12, None), "redis_password": (12, None)}
NO_HOST = "The variable modelfleet_manager_mode is true, and the group dragonfly_managers has no host; name one, or take the variable out."
# What is published with Dragonfly: its documentation, its chart, its first start.
PUBLISHED = ("dragonfly", "ZHJhZ29uZmx5Cg==")
# Keys that other variables own, so that whoever asks the manager, its database or Redis finds it.
OWNED = (
    *("server.rest", "server.grpc.listenIP", "server.grpc.port", "server.grpc.tls", "auth.jwt.key", "metrics.addr", "database.type"),
    *(f"database.redis.{key}" for key in ("addrs", "username", "password", "proxy")),
    *(f"database.{kind}.{key}" for kind in ("mysql", "postgres") for key in ("host", "port", "user", "password", "dbname")),
)
LIMITS = ("candidate_parent_limit", "filter_parent_limit", "job_rate_limit", "peer_load_limit", "seed_peer_load_limit")
# What the rest of the configuration has.
ELSEWHERE = "is missing;"


def manager_findings(settings, runs=True):
    return [*_of_fleet(settings), *(_of_secrets(settings) if runs else ()), *(_of_the_rest(settings) if runs else ())]


def _of_fleet(settings):
    hosts, outside = settings["hosts"], [host for host in settings["hosts"] if host not in settings["schedulers"]]
    if len(hosts) > 1:
        yield f"The group dragonfly_managers has {len(hosts)} hosts ({', '.join(hosts)}), and daemons ask one; leave one of them in it."
    if outside:
        runs = "the manager runs beside a scheduler, add the host to that group too"
        yield f"The manager's host {outside[0]} is not in dragonfly_schedulers; {runs}."
    if settings["mode"] and not hosts:
        yield NO_HOST


def _of_secrets(settings):
    for name, (least, most) in SECRETS.items():
        value, variable = settings[name], f"dragonfly_manager_{name}"
        length = f"{least} characters or more" if most is None else f"{least} to {most} characters"
        if not isinstance(value, str):
            yield f"The variable {variable} is no text; write it in quotes."
        elif outer_problem(value):
            yield f"The variable {variable} {outer_problem(value)}; {OUTER_REMEDY}."
        elif value in PUBLISHED:
            yield f"The variable {variable} is what Dragonfly publishes, which everybody knows; write another, of {length}, in vault."
        elif len(value) < least or (most and len(value) > most):
            makes = f"openssl rand -hex {least // 2 + 2} makes one"
            yield f"The variable {variable} has {len(value)} characters; write one of {length}, in vault ({makes})."


def _of_the_rest(settings):
    if settings["database_type"] == "postgres" and not settings["database_host"]:
        remedy = "name a PostgreSQL in dragonfly_manager_database_host"
        yield f"The variable dragonfly_manager_database_type is postgres, and only a MariaDB is installed here; {remedy}."
    for address in settings["redis_addresses"]:
        if str(address).rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]") and len(settings["schedulers"]) > 1:
            why = "is loopback, and the schedulers of other hosts call it too; name one that they reach"
            yield f"The address {address} in dragonfly_manager_redis_addresses {why}."
    taken = {}
    for variable, port in settings["ports"].items():
        if port in taken:
            yield f"The variables {taken[port]} and {variable} are both {port}; give each a port of its own."
        taken[port] = variable
    config = settings["config"]
    for key in OWNED:
        value = config
        for part in key.split("."):
            value = value.get(part) if hasattr(value, "get") else None
        if value is not None:
            yield f"The key {key} in dragonfly_manager_config is what other variables of the role say; leave it out."
    for key, problem in problems("manager", config):
        if not problem.startswith(ELSEWHERE):
            yield f"The key {key} in dragonfly_manager_config {problem}."
    for key in settings["cluster"]:
        if key not in LIMITS:
            yield f"The key {key} in dragonfly_manager_cluster is none of {', '.join(LIMITS)}; correct it."


class FilterModule:
    def filters(self):
        return {"manager_findings": manager_findings}
