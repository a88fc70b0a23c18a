#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: haproxy_server
short_description: Take servers of an HAProxy out of its balancing and back
description:
  - Tells a running HAProxy through its runtime socket to send no new requests to servers of a backend, and waits until those on their way
    are answered; or to send them requests again.
  - A server that somebody put into maintenance is left there.
  - It changes no file, so a restart of HAProxy puts every server back.
version_added: 0.1.0
author: ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  servers:
    description: Names of the servers, as in the configuration of HAProxy.
    type: list
    elements: str
    required: true
  backend:
    description: Name of the backend.
    type: str
    required: true
  state:
    description: Whether they get requests, V(ready), or no new ones, V(drain).
    type: str
    choices: [drain, ready]
    required: true
  socket:
    description: The runtime socket, with C(level admin).
    type: path
    default: /run/haproxy/admin.sock
  timeout:
    description: Longest time for the requests on their way to be answered, in seconds. After that it fails.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Send no new requests to this host
  modelfleet.serving.haproxy_server:
    servers: ["{{ inventory_hostname }}"]
    backend: modelfleet
    state: drain
  delegate_to: balancer-1
"""

RETURN = r"""
servers:
  description: The servers and what they were before, V(ready), V(drain) or V(maint).
  returned: success
  type: dict
  sample: {gpu-1: ready}
"""

import csv
import re
import socket
import time
from contextlib import contextmanager

from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

# srv_admin_state is a set of these.
MAINT = 0x01 | 0x02 | 0x04
DRAIN = 0x08 | 0x10
# Of a backend or a server. Anything else would be another command to HAProxy.
NAME = re.compile(r"[A-Za-z0-9._:-]+")


class Haproxy:
    def __init__(self, path, backend):
        self.path = path
        self.backend = backend

    def ask(self, command):
        """One connection, one command, one answer."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                connection.connect(self.path)
                connection.sendall(to_bytes(command + "\n"))
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to ask HAProxy at {self.path}: {exc.strerror or exc}. Check that HAProxy runs here and that its "
                f"configuration says 'stats socket {self.path} level admin'."
            ) from exc
        return to_text(answer).strip()

    def states(self):
        """{server: "ready", "drain" or "maint"}."""
        said = self.ask(f"show servers state {self.backend}")
        lines = [line.split() for line in said.splitlines()]
        head = next((line[1:] for line in lines if line[:1] == ["#"]), None)
        if not head:
            raise ModelFleetError(
                f"Failed to find the backend {self.backend} of HAProxy at {self.path}: {' '.join(said.split()).rstrip('.')}. "
                "Set modelfleet_haproxy_backend to the name of one in its configuration."
            )
        rows = [dict(zip(head, line)) for line in lines if len(line) == len(head) and line[0] != "#"]
        with self.understood():
            return {row["srv_name"]: state_of(int(row["srv_admin_state"])) for row in rows}

    def sessions(self, server):
        """Requests on their way to it."""
        rows = csv.DictReader(self.ask("show stat").lstrip("# ").splitlines())
        with self.understood():
            return sum(int(row["scur"] or 0) for row in rows if (row["pxname"], row["svname"]) == (self.backend, server))

    @contextmanager
    def understood(self):
        """Around what looks into an answer: another program may have the socket as well."""
        try:
            yield
        except (KeyError, ValueError, csv.Error) as exc:
            raise ModelFleetError(
                f"Failed to read what answers at {self.path}: that is not HAProxy, or one of another version ({exc}). Correct socket."
            ) from exc

    def set(self, server, state):
        said = self.ask(f"set server {self.backend}/{server} state {state}")
        if said:
            raise ModelFleetError(
                f"Failed to set {self.backend}/{server} to {state} at {self.path}: {said.rstrip('.')}. The socket needs level admin."
            )


def state_of(admin):
    return "maint" if admin & MAINT else "drain" if admin & DRAIN else "ready"


def run(module):
    params = module.params
    for name in [params["backend"], *params["servers"]]:
        if not NAME.fullmatch(name):
            raise ModelFleetError(
                f"Failed to use the name {name!r}: what HAProxy names has letters, digits and ._:- only. Correct backend or servers."
            )
    haproxy = Haproxy(params["socket"], params["backend"])
    states = haproxy.states()
    missing = [server for server in params["servers"] if server not in states]
    if missing:
        raise ModelFleetError(
            f"Failed to find {', '.join(missing)} in the backend {params['backend']} of HAProxy at {params['socket']}, which has "
            f"{', '.join(sorted(states)) or 'no server'}. Name each server as its host is called in the inventory."
        )
    before = {server: states[server] for server in params["servers"]}
    turn = [server for server, state in before.items() if state not in ("maint", params["state"])]
    result = {"changed": bool(turn), "servers": before}
    if module._diff:
        after = {server: params["state"] if server in turn else state for server, state in before.items()}
        result["diff"] = {name: "".join(f"{server}: {state}\n" for server, state in found.items()) for name, found in
                          (("before", before), ("after", after))}  # fmt: skip
    if module.check_mode:
        return result
    for server in turn:
        haproxy.set(server, params["state"])
    if params["state"] == "drain":
        wait(haproxy, params["servers"], params["timeout"])
    return result


def wait(haproxy, servers, timeout):
    deadline = time.monotonic() + timeout
    while True:
        busy = {server: count for server, count in ((server, haproxy.sessions(server)) for server in servers) if count}
        if not busy:
            return
        if time.monotonic() >= deadline:
            server, count = next(iter(busy.items()))
            raise ModelFleetError(
                f"Failed to drain {haproxy.backend}/{server}: {count} requests are still on their way after {timeout} s. "
                "Raise modelfleet_drain_seconds, or see who keeps them open."
            )
        time.sleep(0.2)


def main():
    module = CheckedModule(
        argument_spec={
            "servers": {"type": "list", "elements": "str", "required": True},
            "backend": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["drain", "ready"], "required": True},
            "socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
