# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of OpenAI's protocol, each with one version of a model. PRIVATE to the collection: it can have breaking changes at any time.

Each is a unit of its own, which has name, version and content of what it serves in its name. What that is stands in the unit, in a section
that systemd leaves alone, so that whoever looks at a host needs no more than its units.
"""

from __future__ import annotations

import glob
import os
import re
from typing import NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils import _systemd
from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import unit_state
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._model import content_of, file_of, is_name, model_directory
from ansible_collections.modelfleet.serving.plugins.module_utils._text import SECRET_NAME

UNITS = "/etc/systemd/system"
HOST = "127.0.0.1"
PREFIX = "openai-server-"
_SECTION = re.compile(r"^\[X-ModelFleet\]\n((?:[A-Za-z0-9]+=.*(?:\n|\Z))*)", re.MULTILINE)
_KEYS = {"Name": "name", "Version": "version", "File": "file", "Port": "port", "Device": "device"}
# What a word of a command may have in it, with the reason why it must be there where it must.
PLACEHOLDERS = {
    "directory": "so that the server would not know what to serve",
    "port": "so that the server would listen elsewhere",
    "name": "",
    "version": "",
    "host": "",
}
# What the sandbox hides from a server.
HIDDEN = ("/home/", "/root/", "/tmp/", "/var/tmp/", "/var/lib/modelfleet/")
OWNED_ENVIRONMENT = {
    "HOME": "must be the directory of the model's own that the unit lets its server write to; leave it out",
    "HF_HUB_OFFLINE": "keeps a server from fetching what nobody verified; leave it out, and publish what it needs in the bundle",
}


class Server(NamedTuple):
    """A unit as it is on this host: ``file`` is the directory in the model store or a commit, ``state`` what systemd says (unit_state)."""

    unit: str
    name: str
    version: str
    file: str
    port: int
    device: str
    state: dict

    @property
    def served(self):
        """Whether it runs, or would at the next boot; a unit that is neither only lies there."""
        return self.state["enabled"] == "enabled" or self.state["active"] not in ("", "inactive", "failed")

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"


def unit_of(model):
    """The unit of a version, an entry of a list of models."""
    return f"{PREFIX}{model_directory(model['name'], model['version'], content_of(model))}.service"


def read_servers(run_command):
    """Every Server of this host, by its unit. A unit that says nothing of a model is somebody else's."""
    found = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(UNITS), f"{PREFIX}*.service"))):
        unit = os.path.basename(path)
        said = described(read_text(path) or "")
        if said:
            found[unit] = Server(unit, **said, state=unit_state(run_command, unit))
    return found


def predicted(model, device):
    """The Server that there will be of an entry of the list."""
    state = {"enabled": "enabled", "active": "active", "sub": "running", "result": "success", "pid": 0, "restarts": 0}
    return Server(unit_of(model), model["name"], model["version"], file_of(model), model["port"], device, state)


def described(text, more=()):
    """{key: value} of what a unit says that it serves, beside the usual keys also those of ``more``; None where it says no such thing."""
    section = _SECTION.search(text)
    pairs = dict(line.partition("=")[::2] for line in section[1].splitlines()) if section else {}
    keys = {**_KEYS, **dict(more)}
    if set(pairs) != set(keys) or not (is_name(pairs["Name"]) and is_name(pairs["Version"]) and port_of(pairs["Port"])):
        return None
    return {**{keys[key]: value for key, value in pairs.items()}, "port": port_of(pairs["Port"])}


def port_of(value):
    """The port that an entry names (int), None for what is none that a user other than root may have."""
    text = str(value)
    return int(text) if re.fullmatch(r"[0-9]{4,5}", text, re.ASCII) and 1024 <= int(text) <= 65535 else None


def entry_problems(model, settings):
    """Yield what is wrong with an entry of the list, to be read after its name; ``settings`` are the variables of the roles."""
    if model.get("port") is None:
        yield "has no port; add the one at which it is to answer to the entry in modelfleet_models"
    elif port_of(model["port"]) is None:
        yield f"has a port that is none ('{model['port']}'); write a number from 1024 to 65535"
    command, options = model.get("command"), model.get("options") or []
    where = "command"
    if not command:
        command, where = settings.get("openai_server_command") or [], "command in openai_server_command"
        if not command and "openai_server_command" in settings:
            yield "has no command; write the one that starts its server into openai_server_command, or into the entry"
    if not _is_list(command) or not _is_list(options):
        yield "has a command or options that are no list; make each word an element"
        return
    for number, word in enumerate([*command, *options], 1):
        problem = _systemd.problem(word)
        if problem:
            yield f"has a word {number} in its command and options that {problem}"
            return
    if command:
        yield from _command_problems([str(word) for word in command], [str(word) for word in options], where)
    environment = model.get("environment") or {}
    if not isinstance(environment, dict):
        yield "has an environment that is no dictionary; write each variable with its value below it"
        return
    for name, problem in _systemd.environment_problems(environment, OWNED_ENVIRONMENT):
        yield f"has the variable {name} in its environment, which {problem}"


def _command_problems(command, options, where):
    if not re.fullmatch(r"(/[^/]+)+", command[0]):
        yield f"has a {where} that does not begin with the path of a program ('{command[0]}'); write all of it, as in /opt/vllm/bin/vllm"
    for word in (*command, *options):
        if word.startswith("-") and SECRET_NAME.search(word.partition("=")[0]):
            yield (
                f"has {word.partition('=')[0]} in its command or options, which is a secret by its name, and everyone may read a unit; put "
                "it into a file of mode 0600 that a drop-in of the unit names in EnvironmentFile"
            )
    hidden = next((place for place in HIDDEN if command[0].startswith(place)), None)
    if hidden:
        yield f"has a {where} in {hidden}, which a unit does not see; put the program below /opt or /usr"
    words = " ".join([*command, *options])
    for name, why in PLACEHOLDERS.items():
        if why and f"{{{name}}}" not in words:
            yield f"has a {where} without {{{name}}}, {why}; write it where the server takes that"


def _is_list(value):
    return isinstance(value, (list, tuple))
