# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers of BentoML, each with one version of a model, and who leads a model's port to one of them. PRIVATE to the collection: it can have
breaking changes at any time.

Each is a unit of its own, which has name, version and content of what it serves in its name, and an address of its own on the loopback
network, at the port of the model. At 127.0.0.1 an HAProxy has that port, and a section of its configuration for each model. Whichever
version a section names is the default one.
"""

from __future__ import annotations

import glob
import os
import re
from typing import NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils import _systemd
from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import unit_state
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_directory
from ansible_collections.modelfleet.serving.plugins.module_utils._openai_server import HIDDEN, HOST, described, port_of

UNITS = "/etc/systemd/system"
PREFIX = "bentoml-"
# Of the unit of a version, beside what others say.
_MORE = {"Address": "address", "Route": "route"}
SWITCH = "modelfleet-bentoml.service"
SECTIONS = "/etc/modelfleet-bentoml/models.cfg"
# What every answer at a model's port has, with the name of the directory that answers.
HEADER = "x-modelfleet-model"
DESCRIPTION = "bento.yaml"
ROUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~/-]{0,199}")
_PLACE = "must be the directory of the model's own that the unit lets its server write to; leave it out"
_ELSEWHERE = "would have a server listen where nobody looks for it; leave it out"
OWNED_ENVIRONMENT = {
    "HOME": _PLACE,
    "BENTOML_HOME": _PLACE,
    "BENTOML_HOST": _ELSEWHERE,
    "BENTOML_PORT": _ELSEWHERE,
    "HF_HUB_OFFLINE": "keeps a server from fetching what nobody verified; leave it out, and publish what it needs in the bundle",
}
_TOP = "# Managed by Ansible (modelfleet.serving): changes made here are lost. Each model, and the version that answers at its port.\n"
_TEXT = f"""
listen {{name}}
    bind {HOST}:{{port}}
    http-after-response set-header {HEADER} {{file}}
    server {{file}} {{address}}:{{port}}
"""
_READ = re.compile(
    rf"listen (?P<name>\S+)\n    bind {re.escape(HOST)}:(?P<port>[0-9]+)\n    http-after-response set-header {HEADER} (?P<file>\S+)\n"
    r"    server (?P=file) (?P<address>127\.[0-9.]+):(?P=port)\n"
)
_TAG = re.compile(r"^ *-? *tag: ['\"]?([a-z0-9][a-z0-9._-]*):([A-Za-z0-9][A-Za-z0-9._-]*)['\"]?$", re.MULTILINE)


class Server(NamedTuple):
    """A unit as it is on this host: ``file`` is the directory in the model store, ``state`` what systemd says (unit_state)."""

    unit: str
    name: str
    version: str
    file: str
    port: int
    device: str
    address: str
    route: str
    state: dict

    @property
    def served(self):
        """Whether it runs, or would at the next boot; a unit that is neither only lies there."""
        return self.state["enabled"] == "enabled" or self.state["active"] not in ("", "inactive", "failed")

    @property
    def url(self):
        return f"http://{self.address}:{self.port}"


class Section(NamedTuple):
    """Where the port of a model leads."""

    port: int
    file: str
    address: str

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"


def unit_of(model):
    """The unit of a version, an entry of a list of models."""
    return f"{PREFIX}{model_directory(model['name'], model['version'], model['sha256'])}.service"


def read_servers(run_command):
    """Every Server of this host, by its unit. A unit that says nothing of a model is somebody else's."""
    found = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(UNITS), f"{PREFIX}*.service"))):
        unit = os.path.basename(path)
        said = described(read_text(path) or "", _MORE)
        if said:
            found[unit] = Server(unit, **said, state=unit_state(run_command, unit))
    return found


def read_sections():
    """{name: Section} of the models whose ports lead somewhere. Raises ModelFleetError for a file that is not ours."""
    text = read_text(SECTIONS) or ""
    found = {one["name"]: Section(int(one["port"]), one["file"], one["address"]) for one in _READ.finditer(text)}
    if text and text != sections_text(found):
        raise ModelFleetError(f"Failed to read {SECTIONS} on this host: somebody has changed it. Remove it, and run the playbook site.")
    return found


def sections_text(sections):
    return _TOP + "".join(_TEXT.format(name=name, **sections[name]._asdict()) for name in sorted(sections))


def entry_problems(model, settings):
    """Yield what is wrong with an entry of the list, to be read after its name; ``settings`` are the variables of the roles."""
    if model.get("port") is None:
        yield "has no port; add the one at which it is to answer to the entry in modelfleet_models"
    elif port_of(model["port"]) is None:
        yield f"has a port that is none ('{model['port']}'); write a number from 1024 to 65535"
    if model.get("route") is not None and not ROUTE.fullmatch(str(model["route"])):
        yield f"has a route that is none ('{model['route']}'); write the path that its check asks without the first slash, as in predict"
    environment = model.get("environment") or {}
    if not isinstance(environment, dict):
        yield "has an environment that is no dictionary; write each variable with its value below it"
        return
    for name, problem in _systemd.environment_problems(environment, OWNED_ENVIRONMENT):
        yield f"has the variable {name} in its environment, which {problem}"


def settings_problems(settings):
    """Yield what the units could not be made of; ``settings`` are the variables of the roles."""
    if "bentoml_program" not in settings:
        return
    program = str(settings["bentoml_program"])
    hidden = next((place for place in HIDDEN if program.startswith(place)), None)
    if not re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", program, re.ASCII):
        yield f"The bentoml_program is not the path of a program ('{program}'); write it as in /opt/bentoml/bin/bentoml."
    elif hidden:
        yield f"The bentoml_program is in {hidden}, which a unit does not see; put BentoML below /opt or /usr."


def bundle_problem(paths, description):
    """What keeps a bundle with the files ``paths`` from being served, in words with the remedy; None for a good one.

    ``description``: the text of its bento.yaml, where that is known.
    """
    if DESCRIPTION not in paths:
        return f"has no {DESCRIPTION}; publish the directory of a built bento, as bentoml export makes it"
    # What lies in the cache of a hub has a tag as well.
    if description and "registry: huggingface" not in description:
        for name, version in _TAG.findall(description):
            if f"models/{name}/{version}/model.yaml" not in paths:
                return (
                    f"has no models/{name}/{version}, which its {DESCRIPTION} names, and a server fetches nothing; publish what bentoml "
                    "export makes, which has the models in it"
                )
    return None
