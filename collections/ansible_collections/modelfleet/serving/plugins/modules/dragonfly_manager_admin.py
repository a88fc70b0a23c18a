#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_manager_admin
short_description: Take a new manager of Dragonfly into use
version_added: 0.1.0
description:
  - Gives the manager's user root another password than the published one, has a personal access token for automation in a file that only
    root can read, has the manager forget schedulers that are somewhere else now, and says which it does not know.
  - It does not sign in, which would lock everybody out for 30 seconds, but makes a session of its own by O(jwt_key). The manager's user is
    asked for his password by the one call that needs no session.
  - A token that is in the manager under that name is kept, with its scopes; it is prolonged before it expires.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    support: partial
    details: Whether root has the password can only be found out by setting it, so that is not asked.
options:
  url:
    description: The manager's REST API, without a path.
    type: str
    default: http://127.0.0.1:8090
  ca_path:
    description: File with the authorities of which the certificate at O(url) may be, where that is not known to the host.
    type: path
  jwt_key:
    description: What the manager signs its sessions with, C(auth.jwt.key) of its configuration.
    type: str
    required: true
  root_password:
    description: The password that root has from now on, of 8 to 20 characters.
    type: str
    required: true
  old_root_passwords:
    description: Passwords that root may have until now, beside the published one of a new manager.
    type: list
    elements: str
    default: []
  token_path:
    description: File that gets the token, for root alone. Its directory must exist.
    type: path
    default: /etc/dragonfly/manager-token
  token_name:
    description: Name of the token in the manager.
    type: str
    default: modelfleet
  token_days:
    description: For how long a token is valid. It is prolonged by as much when less than a tenth of it is left.
    type: int
    default: 365
  rotate:
    description: Whether the token is replaced by another, so that the old one is worth nothing from now on.
    type: bool
    default: false
  schedulers:
    description:
      - The schedulers that register themselves. What the manager knows of another port of one of them is forgotten, for it refuses a
        scheduler whose port has changed; so is an inactive one that is not among them.
      - Without any nothing is forgotten, for then nobody registers himself.
    type: list
    elements: dict
    default: []
    suboptions:
      hostname:
        description: Its name, C(server.host) of its configuration.
        type: str
        required: true
      ip:
        description: Its address.
        type: str
        required: true
      port:
        description: Its port.
        type: int
        required: true
seealso:
  - module: modelfleet.serving.dragonfly_cluster
"""

EXAMPLES = r"""
- name: Take the manager into use
  modelfleet.serving.dragonfly_manager_admin:
    jwt_key: "{{ vault_dragonfly_manager_jwt_key }}"
    root_password: "{{ vault_dragonfly_manager_root_password }}"
    schedulers:
      - {hostname: scheduler-1, ip: 10.0.0.1, port: 8002}
"""

RETURN = r"""
password:
  description: Whether root got another password.
  returned: success
  type: bool
  sample: true
token:
  description: What became of the token.
  returned: success
  type: str
  sample: created
  choices:
    - none
    - created
    - renewed
    - replaced
    - written
forgotten:
  description: The schedulers that the manager has forgotten, by name and address.
  returned: success
  type: list
  elements: str
  sample: ["scheduler-1 (10.0.0.1:8002)"]
unregistered:
  description:
    - The names of O(schedulers) that the manager does not know. Each registers itself when it starts, and at no other time; so one that
      runs must be restarted after the manager's database was lost, or another took its place.
  returned: success
  type: list
  elements: str
  sample: [scheduler-1]
"""

import time
from datetime import datetime, timedelta, timezone

from ansible_collections.modelfleet.serving.plugins.module_utils import _manager
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

SCOPES = ["job", "cluster"]
# The manager keeps what it read of a user for 30 seconds, and that has no password in it.
FORGETS_S = 40
POLL_S = 2
PUBLISHED = "dragonfly"
NO_HASH = "hashedSecret too short"


class Admin:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.open = _manager.Manager(self.params["url"], ca_path=self.params["ca_path"])
        self.manager = _manager.Manager(self.params["url"], _manager.session(self.params["jwt_key"]), self.params["ca_path"])

    def run(self):
        wanted = self.params["root_password"]
        if not 8 <= len(wanted) <= 20:
            raise ModelFleetError("Failed to set the password of the manager's user root: it must have 8 to 20 characters; choose another.")
        if wanted == PUBLISHED:
            raise ModelFleetError("Refused to set the password of the manager's user root: it is the published one; choose another.")
        # Before anything else, for what follows would have the manager keep a record of root without his password.
        password = self.module.check_mode is False and self.set_password()
        token, written = self.provide_token()
        forgotten, unregistered = self.forget()
        lines = [
            f"{what}\n" for what in (("another password for root",) if password else ()) + ((f"token {token}",) if token != "none" else ())
        ]
        lines += [f"forgotten: {one}\n" for one in forgotten]
        result = {"changed": bool(password or written or forgotten), "password": password, "token": token, "forgotten": forgotten}
        result["unregistered"] = unregistered
        if self.module._diff:
            result["diff"] = {"before_header": "manager", "after_header": "manager", "before": "", "after": "".join(lines)}
        return result

    # The password

    def set_password(self):
        """Whether it was another one. Setting it to itself is how to ask whether it is right."""
        wanted = self.params["root_password"]
        if self.reset(wanted, wanted):
            return False
        if any(self.reset(old, wanted) for old in [PUBLISHED, *self.params["old_root_passwords"]] if 8 <= len(old) <= 20):
            return True
        raise ModelFleetError(
            f"Failed to set the password of root at the manager {self.open.url}: it is none of those that are known. Name the one "
            "that it has in dragonfly_manager_old_root_passwords."
        )

    def reset(self, old, new):
        end = time.monotonic() + FORGETS_S
        while True:
            try:
                self.open.ask(
                    "POST",
                    f"/api/v1/users/{_manager.ROOT_ID}/reset_password",
                    {"old_password": old, "new_password": new},
                    doing="set the password of root",
                )
                return True
            except _manager.Refused as exc:
                if exc.answer.status == 401:
                    return False
                if NO_HASH not in exc.answer.message or time.monotonic() > end:
                    raise
            time.sleep(POLL_S)

    # The token

    def provide_token(self):
        """``(what was done, whether anything changes)``."""
        name = self.params["token_name"]
        tokens = self.ask("GET", "/api/v1/personal-access-tokens?page=1&per_page=1000", "read the tokens")
        now = next((one for one in tokens or [] if one["name"] == name), None)
        action = "none"
        if now and self.params["rotate"]:
            if not self.module.check_mode:
                self.ask("DELETE", f"/api/v1/personal-access-tokens/{now['id']}", f"take away the token {name}")
            now, action = None, "replaced"
        if now is None:
            action = action if action == "replaced" else "created"
            if not self.module.check_mode:
                now = self.ask("POST", "/api/v1/personal-access-tokens", f"make the token {name}", {"name": name, **self.validity()})
        elif self.must_renew(now):
            action = "renewed"
            if not self.module.check_mode:
                self.ask("PATCH", f"/api/v1/personal-access-tokens/{now['id']}", f"renew the token {name}", self.validity())
        if now is None:
            return action, True
        before = read_text(self.params["token_path"])
        written, _diff = put_file(
            self.module, self.params["token_path"], f"{now['token']}\n", params={"owner": "root", "group": "root", "mode": "0600"}
        )
        if action == "none" and written:
            action = "written"
        return action, action != "none" or (before is not None and written)

    def must_renew(self, token):
        end = _manager.time_of(token["expired_at"])
        if end is None:
            raise ModelFleetError(
                f"Failed to read when a token expires: the manager says {token['expired_at']}. Correct the URL; it is no manager 2.5."
            )
        return (
            end - datetime.now(timezone.utc) < timedelta(days=self.params["token_days"]) / 10
            or token["state"] != "active"
            or sorted(token["scopes"] or []) != sorted(SCOPES)
            or token["user_id"] != _manager.ROOT_ID
        )

    def validity(self):
        end = datetime.now(timezone.utc) + timedelta(days=self.params["token_days"])
        return {"scopes": SCOPES, "state": "active", "expired_at": end.strftime("%Y-%m-%dT%H:%M:%SZ"), "user_id": _manager.ROOT_ID}

    # The schedulers

    def forget(self):
        """``(those that are forgotten, the names of those that the manager does not know)``."""
        known = {(one["hostname"], one["ip"]): one["port"] for one in self.params["schedulers"]}
        if not known:
            return [], []
        forgotten, missing = [], {name for name, _ip in known}
        for one in self.ask("GET", "/api/v1/schedulers?page=1&per_page=10000", "read the schedulers") or []:
            port = known.get((one["host_name"], one["ip"]))
            if port == one["port"]:
                missing.discard(one["host_name"])
            if port == one["port"] or (port is None and one["state"] == "active"):
                continue
            forgotten.append(f"{one['host_name']} ({one['ip']}:{one['port']})")
            if not self.module.check_mode:
                self.ask("DELETE", f"/api/v1/schedulers/{one['id']}", f"forget the scheduler {one['host_name']}")
        return forgotten, sorted(missing)

    def ask(self, method, path, doing, body=None):
        try:
            return self.manager.ask(method, path, body, doing=doing)
        except _manager.Refused as exc:
            if exc.answer.status != 401:
                raise
            raise ModelFleetError(
                f"Failed to {doing} at the manager {self.manager.url}: it does not know a session signed with jwt_key. It runs "
                "with another key, or its clock is wrong by minutes; restart it with the configuration that is there."
            ) from exc


def main():
    scheduler = {
        "hostname": {"type": "str", "required": True},
        "ip": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
    }
    module = DiscreetModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8090"},
            "ca_path": {"type": "path"},
            "jwt_key": {"type": "str", "required": True, "no_log": True},
            "root_password": {"type": "str", "required": True, "no_log": True},
            "old_root_passwords": {"type": "list", "elements": "str", "default": [], "no_log": True},
            "token_path": {"type": "path", "default": "/etc/dragonfly/manager-token"},
            "token_name": {"type": "str", "default": "modelfleet", "no_log": False},
            "token_days": {"type": "int", "default": 365, "no_log": False},
            "rotate": {"type": "bool", "default": False},
            "schedulers": {"type": "list", "elements": "dict", "default": [], "options": scheduler},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**Admin(module).run())
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
