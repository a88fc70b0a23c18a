#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: daemon
short_description: Run a daemon under systemd on exactly these files
version_added: 0.1.0
description:
  - Writes the unit and the configuration of a daemon, enables and starts it, and waits until it answers, all in one call.
  - A daemon that was started from anything else than what is there now is restarted, also when it was an earlier run that changed the
    files and died. What the running process was started from stands in O(started_record), which every start writes, whoever asked for it.
  - With O(restart=deferred) a daemon that runs is left alone and RV(restart_owed) says that it is older than its files, so that a later
    task can restart one host after the other. A daemon that does not run is started in any case.
  - With O(state=absent) it is stopped and its unit is removed, with everything that was added to that and whatever has become of it.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    details: Whether the daemon would answer cannot be told before it is started.
options:
  name:
    description: Name of the unit, with its suffix.
    type: str
    required: true
  state:
    description: Whether there is such a daemon. For V(absent) nothing else is needed but O(name).
    type: str
    default: present
    choices:
      present: It runs on O(files).
      absent: It does not run, and has no unit and no drop-ins. Its configuration and its data stay.
  files:
    description:
      - The files of the daemon. Each is replaced in one step, in this order. One of them is the unit itself.
      - A unit among them that is not O(name) is loaded, but neither enabled nor started.
      - Required where O(state=present).
    type: list
    elements: dict
    suboptions:
      path:
        description: Where the file goes. Its directory must exist.
        type: path
        required: true
      content:
        description: The text of the file.
        type: str
        required: true
      owner:
        description: User that owns the file.
        type: str
        default: root
      group:
        description: Group that owns the file.
        type: str
        default: root
      mode:
        description: Permissions of the file.
        type: raw
        default: "0644"
      restart:
        description: Whether the running daemon must be restarted to have this file.
        type: bool
        default: true
      reload:
        description: Whether the running daemon has this file after a reload, as C(ExecReload=) of its unit says. No restart is needed then.
        type: bool
        default: false
      secret:
        description: Whether nobody may see the text of the file, in a diff either. That shows only whether it is another one.
        type: bool
        default: false
      component:
        description:
          - Set for a configuration of Dragonfly, as in O(modelfleet.serving.dragonfly_config#module:files[].component).
          - A diff shows it without its secrets then.
          - P(modelfleet.serving.dragonfly_files#filter) sets it.
        type: str
        choices:
          - dfdaemon
          - dfdaemon_dynconfig
          - scheduler
          - scheduler_dynconfig
          - manager
  started_from:
    description: More files that the running process depends on, such as its release. They need not exist.
    type: list
    elements: path
    default: []
  started_record:
    description:
      - Where every start writes what the process is started from, in the format of C(sha256sum). It belongs below C(/run).
      - Required where O(state=present).
    type: path
  about_to_change:
    description: Files of O(started_from) that an earlier task would change outside check mode.
    type: list
    elements: path
    default: []
  also_stale:
    description: What else is not as the running process believes, such as a registration that was lost. Whoever runs is older than that.
    type: list
    elements: str
    default: []
  start:
    description:
      - Whether the daemon is enabled and started. With V(false) only its files are written, for whatever starts it later, and a daemon that
        runs is left alone.
    type: bool
    default: true
  restart:
    description: What becomes of a running daemon that is older than its files.
    type: str
    default: now
    choices:
      now: It is restarted.
      deferred: It is left alone.
  needs:
    description:
      - What must answer before the daemon is started or restarted, or a file of it is changed. One of the addresses is enough.
      - Without any of them nothing is written and the daemon that runs is not touched.
    type: dict
    suboptions:
      what:
        description: Name of what is needed, for the message.
        type: str
        required: true
      addresses:
        description: Host and port of each, an IPv6 address in brackets.
        type: list
        elements: str
        required: true
      peers:
        description:
          - More hosts, each with the list of its addresses. Of a host that answers at one of them, all must answer, because the others are
            behind a firewall. It is an error too that none of the hosts answers.
        type: dict
        default: {}
      peers_what:
        description: Name of what listens there, for the message.
        type: str
        default: the daemon
      tls:
        description:
          - Whether what is needed must speak TLS, or must not, because the daemon will call it that way. One of the addresses is enough.
          - Without it that makes no difference.
        type: bool
      trusted:
        description: With O(needs.tls), the authorities in PEM of which its certificate must be, for the address at which it is called.
        type: str
        default: ""
      timeout:
        description: How long to wait for one of them, in seconds.
        type: int
        default: 15
      remedy:
        description: What to do when none answers, a sentence.
        type: str
        default: Start it, open its port, or correct its address.
  answers:
    description:
      - How to tell that the daemon does its work. Exactly one of O(answers.url) and O(answers.address) is required.
      - It is not asked while its restart is owed.
    type: dict
    suboptions:
      url:
        description: A URL that answers 200.
        type: str
      address:
        description: Host and port that take a connection, an IPv6 address in brackets.
        type: str
      timeout:
        description: How long to wait for an answer, in seconds.
        type: int
        default: 60
seealso:
  - module: ansible.builtin.systemd_service
"""

EXAMPLES = r"""
- name: Run an inference server
  modelfleet.serving.daemon:
    name: triton.service
    started_record: /run/triton/started.sha256
    started_from:
      - /opt/triton/current/.release.json
    files:
      - path: /etc/systemd/system/triton.service
        content: "{{ lookup('ansible.builtin.template', 'triton.service.j2') }}"
    answers:
      url: http://127.0.0.1:8000/v2/health/ready
      timeout: 120

- name: Run it no more
  modelfleet.serving.daemon:
    name: triton.service
    state: absent
"""

RETURN = r"""
action:
  description: What was done to the daemon, or would be done outside check mode.
  returned: success
  type: str
  sample: restarted
  choices:
    - none
    - started
    - restarted
    - reloaded
    - stopped
restart_owed:
  description: Whether the daemon runs and is older than its files, because O(restart=deferred).
  returned: success
  type: bool
  sample: false
stale:
  description: The files whose content is not what the running daemon was started from, as it was found, and O(also_stale).
  returned: success
  type: list
  elements: str
  sample: [/etc/dragonfly/dfdaemon.yaml]
files:
  description: The files that were written or got other permissions, or what was removed.
  returned: success
  type: list
  elements: str
  sample: [/etc/dragonfly/dfdaemon.yaml]
"""

import glob
import os
import re
import shutil
import socket
import time
import urllib.error

from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils import _started
from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import shown_config
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import UNFINISHED, put_file, read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import POLL_S, connects, reach, tls_problem

UNITS = "/etc/systemd/system"
# They become words of a command in a unit.
PLAIN_PATH = re.compile(r"^/[A-Za-z0-9._/@:+,=-]*\Z")


def is_fine(url):
    """Empty, or why ``url`` does not answer 200."""
    try:
        with open_url(url, timeout=5, use_proxy=False, http_agent="modelfleet"):
            return ""
    except urllib.error.HTTPError as exc:
        return f"it answered {exc.code} {exc.reason}"
    except Exception as exc:  # open_url's own errors share no base, and each only means "not yet"
        return str(getattr(exc, "reason", None) or exc) or type(exc).__name__


class Daemon:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.name = self.params["name"]
        self.unit = os.path.join(UNITS, self.name)
        self.files = self.params["files"] or []
        self.contents = {entry["path"]: entry["content"] for entry in self.files}
        self.started_from = [
            *(entry["path"] for entry in self.files if self.restarts(entry) and entry["path"] != self.unit),
            *self.params["started_from"],
        ]
        self.reloaded_from = [entry["path"] for entry in self.files if entry["reload"]]

    @staticmethod
    def restarts(entry):
        return entry["restart"] and not entry["reload"]

    def run(self):
        self.check_name()
        return self.remove() if self.params["state"] == "absent" else self.provide()

    def provide(self):
        self.check_parameters()
        state = self.state()
        stale = self.stale()
        start = self.params["start"]
        action, owed = self.plan(state, stale) if start else ("none", False)
        runs = start and state["ActiveState"] in ("active", "reloading")
        if action == "none" and runs and self.stale_of(self.reloaded_from, self.reloaded_record):
            action = "reloaded"
        # A file that the daemon reads again by itself may name what it needs.
        changes = action != "none" or owed or any(read_text(path) != content for path, content in self.contents.items())
        if changes and self.params["needs"] and not self.module.check_mode:
            self.wait_for_needs()
        written, diffs = self.write_files()
        enable = start and state["UnitFileState"] != "enabled"
        if not self.module.check_mode:
            if any(path.startswith(UNITS) for path in written) or self.must_reload():
                self.systemctl("daemon-reload")
            if enable:
                self.systemctl("enable")
            if action != "none":
                self.systemctl({"started": "start", "restarted": "restart", "reloaded": "reload"}[action])
        if self.params["answers"] and start and not owed and (action == "none" or not self.module.check_mode):
            self.wait_for_answer()
        result = {
            "changed": bool(written or enable or action != "none"),
            "action": action,
            "restart_owed": owed,
            "stale": stale,
            "files": written,
        }
        if self.module._diff:
            unit = {"before_header": self.name, "after_header": self.name}
            if action != "none":
                diffs.append({**unit, "before": "{}\n".format(state["ActiveState"]), "after": f"{action}\n"})
            result["diff"] = diffs
        return result

    def remove(self):
        state = self.state()
        runs = state["ActiveState"] not in ("inactive", "failed")
        # Also the links by which it is enabled, for systemctl disable fails without the unit.
        found = [path for path in (self.unit, f"{self.unit}.d") if os.path.lexists(path)]
        links = sorted(glob.glob(os.path.join(UNITS, "*.*", self.name)))
        found += links + sorted(glob.glob(os.path.join(UNITS, f"{UNFINISHED}*")))
        if not self.module.check_mode:
            if runs:
                self.systemctl("stop")
            for path in found:
                self.discard(path)
            for directory in {os.path.dirname(link) for link in links}:
                if not os.listdir(directory):
                    os.rmdir(directory)
            if found:
                self.systemctl("daemon-reload")
            # A unit that has failed is known until somebody says so.
            if self.state()["ActiveState"] == "failed":
                self.systemctl("reset-failed")
        result = {
            "changed": bool(runs or found),
            "action": "stopped" if runs else "none",
            "restart_owed": False,
            "stale": [],
            "files": found,
        }
        if self.module._diff:
            before = "".join(f"{line}\n" for line in [state["ActiveState"], *found]) if runs or found else ""
            result["diff"] = [{"before_header": self.name, "after_header": self.name, "before": before, "after": ""}]
        return result

    def discard(self, path):
        try:
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
        except OSError as exc:
            raise ModelFleetError(f"Failed to remove {path}: {exc.strerror}. Remove it by hand and run again.") from exc

    def check_name(self):
        if not re.match(r"^[A-Za-z0-9._@:-]+\.(service|socket|timer)\Z", self.name):
            raise ModelFleetError(f"Refused name '{self.name}': it is the name of a unit with its suffix, as in dfdaemon.service.")

    def check_parameters(self):
        if self.unit not in self.contents:
            raise ModelFleetError(f"Refused the files of {self.name}: its unit {self.unit} is not among them.")
        twice = [path for path in self.contents if sum(entry["path"] == path for entry in self.files) > 1]
        if twice:
            raise ModelFleetError(f"Refused the files of {self.name}: {twice[0]} is there twice; give each file its own path.")
        for path in (*self.started_from, *self.reloaded_from, self.params["started_record"]):
            if not PLAIN_PATH.match(path):
                raise ModelFleetError(f"Refused the path '{path}': use letters, digits and ._/@:+,=- in what a start is recorded from.")
        for entry in self.files:
            if isinstance(entry["mode"], int):
                raise ModelFleetError(f"Refused mode {entry['mode']} of {entry['path']}: write it in quotes, as in '0644'.")

    # what is there

    def systemctl(self, verb, *arguments):
        units = [] if verb == "daemon-reload" else [self.name]
        rc, out, err = self.module.run_command(["systemctl", verb, *arguments, *units])
        if rc != 0:
            reason = " ".join((err or out).split())
            raise ModelFleetError(f"Failed to {verb.replace('-', ' ')} {self.name}: {reason} See journalctl -u {self.name} on this host.")
        return out

    def state(self):
        out = self.systemctl("show", "--property=ActiveState,SubState,UnitFileState,Result")
        found = dict.fromkeys(("ActiveState", "SubState", "UnitFileState", "Result"), "")
        found.update(line.split("=", 1) for line in out.splitlines() if "=" in line)
        return found

    def must_reload(self):
        """Also for a file that an earlier run wrote before it died."""
        # A drop-in has the state of its unit, which may be another one, and a template has none.
        inside = [os.path.relpath(path, UNITS).partition(os.sep)[0] for path in self.contents if path.startswith(f"{UNITS}/")]
        units = sorted({name[: -len(".d")] if name.endswith(".d") else name for name in inside if "@." not in name})
        rc, out, _err = self.module.run_command(["systemctl", "show", "--property=NeedDaemonReload", *units])
        return rc == 0 and "NeedDaemonReload=yes" in out

    def stale(self):
        return self.stale_of([self.unit, *self.started_from], self.params["started_record"]) + self.params["also_stale"]

    def stale_of(self, paths, record):
        wanted = {}
        for path in paths:
            if path in self.contents:
                wanted[path] = _started.digest_of(self.contents[path])
            else:
                wanted[path] = "changes" if path in self.params["about_to_change"] else _started.digest_of_file(path)
        return _started.stale_paths(record, wanted)

    @property
    def reloaded_record(self):
        """Of the files that it takes over by a reload; every reload writes it as well."""
        return f"{self.params['started_record']}.reload"

    def plan(self, state, stale):
        """What to do to the daemon, and whether a restart stays owed."""
        if state["ActiveState"] in ("active", "reloading"):
            if not stale:
                return "none", False
            return ("none", True) if self.params["restart"] == "deferred" else ("restarted", False)
        # systemd is about to try again: only other files can make a difference. Nobody is served meanwhile.
        if state["ActiveState"] == "activating":
            return ("restarted" if stale else "none"), False
        return "started", False

    # what changes

    def write_files(self):
        dropin = {
            "path": os.path.join(f"{self.unit}.d", "started.conf"),
            "content": _started.drop_in(
                self.params["started_record"],
                self.unit,
                self.contents[self.unit],
                self.started_from,
                self.reloaded_record,
                self.reloaded_from,
            ),
            "owner": "root",
            "group": "root",
            "mode": "0644",
        }
        directory = os.path.dirname(dropin["path"])
        if not os.path.isdir(directory) and not self.module.check_mode:
            try:
                os.makedirs(directory)
                os.chmod(directory, 0o755)
            except OSError as exc:
                raise ModelFleetError(f"Failed to create {directory}: {exc.strerror}. Check its parent and its permissions.") from exc
        written, diffs = [], []
        for entry in [*self.files, dropin]:
            changed, diff = put_file(self.module, entry["path"], entry["content"], shown=self.shown(entry), params=entry)
            if changed:
                written.append(entry["path"])
                diffs.append(diff)
        return written, diffs

    @staticmethod
    def shown(entry):
        """What a diff may show of a file's texts; nothing is hidden in a file that has no place for secrets."""
        if entry.get("secret"):
            old = read_text(entry["path"])
            return lambda text: "(a secret)\n" if text in (old, "") else "(another secret)\n"
        if not entry.get("component"):
            return None
        before = read_text(entry["path"])
        return lambda text: shown_config(entry["component"], text, before)

    # waiting

    def wait_for_needs(self):
        needs = self.params["needs"]
        deadline = time.monotonic() + needs["timeout"]
        missing = list(needs["addresses"])
        while missing:
            missing = [address for address in missing if connects(address, 3)]
            if len(missing) < len(needs["addresses"]) or time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        if len(missing) < len(needs["addresses"]):
            # What starts at the same time may need a moment; what goes on without it is only told.
            for address in missing:
                if connects(address, 3):
                    self.module.warn(f"This host does not reach {needs['what']} at {address}; {self.name} goes on with the others.")
        elif missing:
            raise ModelFleetError(
                f"Failed to reach {needs['what']} at {' and '.join(missing)} from {socket.gethostname()} within {needs['timeout']} s. "
                f"{needs['remedy']} Nothing was changed on this host for {self.name}."
            )
        if needs["tls"] is not None:
            self.check_tls([address for address in needs["addresses"] if address not in missing])
        for sentence in reach(needs["peers_what"], needs["peers"], needs["timeout"]):
            self.module.warn(sentence)

    def check_tls(self, answering):
        needs = self.params["needs"]
        found = {address: tls_problem(address, needs["tls"], needs["trusted"]) for address in answering}
        problems = [f"{needs['what']} at {address} {problem}" for address, problem in found.items() if problem]
        if problems and len(problems) == len(answering):
            raise ModelFleetError(
                f"Refused to run {self.name} {'with' if needs['tls'] else 'without'} TLS: {' and '.join(problems)}, so that neither would "
                "know the other. Change the whole fleet in one run of site without --limit, which changes the schedulers first, from the "
                f"controller that has the authority of the fleet. Nothing was changed on this host for {self.name}."
            )
        for problem in problems:
            self.module.warn(f"This host goes on without a part of what it needs: {problem}.")

    def wait_for_answer(self):
        answers = self.params["answers"]
        deadline = time.monotonic() + answers["timeout"]
        while True:
            problem = is_fine(answers["url"]) if answers["url"] else connects(answers["address"], 3)
            if not problem:
                return
            if time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        state = self.state()
        raise ModelFleetError(
            f"Failed to run {self.name}: it did not answer at {answers['url'] or answers['address']} within {answers['timeout']} s "
            f"({problem}; systemd says {state['ActiveState']}, {state['SubState']}, {state['Result']}). "
            f"See journalctl -u {self.name} on this host."
        )


def main():
    module = DiscreetModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "files": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                    "mode": {"type": "raw", "default": "0644"},
                    "restart": {"type": "bool", "default": True},
                    "reload": {"type": "bool", "default": False},
                    "secret": {"type": "bool", "default": False, "no_log": False},
                    "component": {
                        "type": "str",
                        "choices": ["dfdaemon", "dfdaemon_dynconfig", "scheduler", "scheduler_dynconfig", "manager"],
                    },
                },
            },
            "started_from": {"type": "list", "elements": "path", "default": []},
            "started_record": {"type": "path"},
            "about_to_change": {"type": "list", "elements": "path", "default": []},
            "also_stale": {"type": "list", "elements": "str", "default": []},
            "start": {"type": "bool", "default": True},
            "restart": {"type": "str", "choices": ["now", "deferred"], "default": "now"},
            "needs": {
                "type": "dict",
                "options": {
                    "what": {"type": "str", "required": True},
                    "addresses": {"type": "list", "elements": "str", "required": True},
                    "peers": {"type": "dict", "default": {}},
                    "peers_what": {"type": "str", "default": "the daemon"},
                    "tls": {"type": "bool"},
                    "trusted": {"type": "str", "default": ""},
                    "timeout": {"type": "int", "default": 15},
                    "remedy": {"type": "str", "default": "Start it, open its port, or correct its address."},
                },
            },
            "answers": {
                "type": "dict",
                "mutually_exclusive": [("url", "address")],
                "required_one_of": [("url", "address")],
                "options": {"url": {"type": "str"}, "address": {"type": "str"}, "timeout": {"type": "int", "default": 60}},
            },
        },
        required_if=[("state", "present", ("files", "started_record"))],
        supports_check_mode=True,
    )
    try:
        result = Daemon(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
