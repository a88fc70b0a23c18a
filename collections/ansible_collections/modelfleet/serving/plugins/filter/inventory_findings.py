# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: inventory_findings
short_description: Find everything that is wrong in a fleet's inventory
version_added: 0.1.0
description:
  - Checks what an argument specification cannot say, such as a model listed twice or two hosts with one address.
  - Returns every finding at once, as sentences that say what is wrong, where, and what to do. An empty list means that nothing is wrong.
positional: _input
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
    type: list
    elements: dict
    required: true
  files_dir:
    description: Directory on the controller with the files of the models' checks. Without it, the files are not looked for.
    type: path
  groups:
    description: The groups of the inventory that must have hosts, each with its list of hosts.
    type: dict
    default: {}
  addresses:
    description: The C(modelfleet_address) of every host of the fleet, by host.
    type: dict
    default: {}
  storage:
    description: The storage description, keyed by the store's type, as in O(modelfleet.serving.endpoint_config#module:storage).
    type: dict
  settings:
    description:
      - Variables of the other roles that concern the host, under their own names, such as C(dfdaemon_config).
      - A value that needs a variable which is not known yet is left to its role.
    type: dict
    default: {}
  hosts:
    description: What was found for each host, by host. A sentence that several hosts share is returned once and names some of them.
    type: dict
    default: {}
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Check the list of models
  ansible.builtin.assert:
    that: (modelfleet_models | modelfleet.serving.inventory_findings) | length == 0
"""

RETURN = r"""
_value:
  description: The findings, one sentence each.
  type: list
  elements: str
"""

import ipaddress
import os
import re
from urllib.parse import urlsplit

from ansible.errors import AnsibleError
from ansible_collections.modelfleet.serving.plugins.module_utils import (
    _addresses,
    _bentoml,
    _dragonfly_config,
    _openai_server,
    _podman,
    _systemd,
    _torchserve_config,
    _triton,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_bundle import BundleArtifact
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import HuggingFaceArtifact
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_object import ObjectArtifact
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import GROUP, options_problem, source_problem
from ansible_collections.modelfleet.serving.plugins.module_utils._model import NAME_RULE, is_name, is_served
from ansible_collections.modelfleet.serving.plugins.module_utils._runtime import RUNTIMES, runtime_name
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import store_from_unchecked
from ansible_collections.modelfleet.serving.plugins.module_utils._text import bytes_of
from jinja2.exceptions import UndefinedError

# What an entry may have with every runtime, for it means nothing.
_PLAIN = {"workers": 1}
_A = {"object": "an object", "bundle": "a bundle", "huggingface": "huggingface"}
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
# What a model is made of; an entry has exactly one.
KINDS = {kind.kind: kind for kind in (ObjectArtifact, BundleArtifact, HuggingFaceArtifact)}
# What only a runtime would read of an entry.
SERVED_ONLY = ("check", "default", *sorted({key for runtime in RUNTIMES.values() for key in runtime.KEYS}))
# What runs from a package or as a container.
METHODS = ("package", "container")
CONTAINERS = ("dragonfly_scheduler", "dfdaemon", "torchserve")
RELEASES = {"dragonfly_scheduler_release_sha256": "the scheduler", "dfdaemon_release_sha256": "dfdaemon"}
COMPONENTS = {
    "dragonfly_scheduler_config": "scheduler",
    "dragonfly_scheduler_dynconfig": "scheduler_dynconfig",
    "dfdaemon_config": "dfdaemon",
}
ADDRESSES = {"scheduler": "dragonfly_scheduler_config", "dfdaemon": "dfdaemon_config", "torchserve": "torchserve_config"}
ENVIRONMENTS = {
    "dfdaemon_environment": _dragonfly_config.OWNED_ENVIRONMENT,
    "torchserve_environment": _torchserve_config.OWNED_ENVIRONMENT,
    "openai_server_environment": _openai_server.OWNED_ENVIRONMENT,
    "triton_environment": _triton.OWNED_ENVIRONMENT,
    "bentoml_environment": _bentoml.OWNED_ENVIRONMENT,
}
# Keys of the daemons for which the roles have a variable that other parts of the fleet read, or that the unit's sandbox fixes.
_INSTEAD = "is what {} sets, which other checks and plays read as well; leave it out and set that"
_SANDBOX = "names another place than the one that the unit's sandbox lets the scheduler write to; leave it out"
OWNED = {
    "dfdaemon_config": {
        "gc.policy.diskThreshold": _INSTEAD.format("dfdaemon_disk_budget"),
        "proxy.disableBackToSource": _INSTEAD.format("dfdaemon_back_to_source"),
        "seedPeer.enable": _INSTEAD.format("the group dragonfly_seed_peers or dfdaemon_seed_peer"),
    },
    "dragonfly_scheduler_config": {
        "server.logDir": _SANDBOX,
        "server.pluginDir": _SANDBOX,
    },
}
SIZE = re.compile(r"[0-9]+([.][0-9]+)? ?([KMGT]i?)?B?\Z")
PORTS = ("dragonfly_scheduler_port", *(f"torchserve_{name}_port" for name in _addresses.TORCHSERVE))
# Whether an entry may be a prefix as well.
FIREWALL_ADDRESSES = {
    "modelfleet_firewall_addresses": False,
    "modelfleet_firewall_monitoring": True,
    "modelfleet_firewall_destinations": True,
}


def model_findings(model, files_dir=None, settings=None):
    """Yield what is wrong with one entry of the list; ``settings`` are the variables of the roles that concern the host."""
    label = _label(model)
    sources = [key for key in KINDS if model.get(key)]
    if len(sources) > 1:
        yield f"The {label} has {' and '.join(_A[key] for key in sources)}; keep the one that it is in modelfleet_models."
    elif not sources:
        yield f"The {label} has no object and no bundle; add the one that it is to the entry in modelfleet_models."
    needed = ["name", "version", *(key for key in sources if key != "huggingface")]
    if "huggingface" in sources:
        yield from _huggingface_findings(label, model, (settings or {}).get("modelfleet_huggingface_pins"))
    else:
        needed.append("sha256")
    for key in needed:
        value = model.get(key)
        if value is None or value == "":
            yield f"The {label} has no {key}; add it to the entry in modelfleet_models."
        elif not isinstance(value, str):
            yield f"The {key} of the {label} is not text; write it in quotes in modelfleet_models, for YAML reads 1.10 as the number 1.1."
        elif key in ("name", "version") and not is_name(value):
            yield f"The {key} of the {label} {NAME_RULE}; rename it."
        elif key == "sha256" and not SHA256.match(value):
            printed = "publish printed" if sources == ["bundle"] else "sha256sum prints for the file"
            yield f"The sha256 of the {label} is not 64 hexadecimal digits in lower case; write what {printed}."
        elif key in KINDS:
            yield from _source_findings(label, key, value)
    if model.get("size") is not None and not SIZE.match(str(model["size"])):
        yield f"The size of the {label} is not a size ('{model['size']}'); write a number with a unit, for example 2GiB."
    if model.get("state", "present") == "present" and is_served(model):
        yield from _runtime_findings(model, label, sources, settings or {})
    check = model.get("check")
    if files_dir and isinstance(check, dict) and model.get("state", "present") == "present":
        for key in ("input_file", "expected_file"):
            path = os.path.join(files_dir, str(check.get(key, "")))
            if check.get(key) and not os.path.isfile(path):
                yield f"The {key} of the {label} is not at {path} on the controller; put it there or correct modelfleet_files_dir."


def _huggingface_findings(label, model, pins):
    """Yield what is wrong with the repository of a hub, for a model that is to be here also with what is pinned of it."""
    source = model["huggingface"]
    problem = "write repo and revision below it" if not isinstance(source, dict) else None
    problem = problem or source_problem(source, pins if model.get("state", "present") == "present" else None)
    if problem:
        yield f"The huggingface of the {label} cannot be used; {problem}."
    for key in SERVED_ONLY if not is_served(model) else ():
        if model.get(key) and model[key] != _PLAIN.get(key):
            yield f"The {label} has huggingface and {key}, but no runtime that serves it; name one, or leave {key} out."


def huggingface_findings(models, options):
    """Yield what is wrong with the hub and who asks it, and models that would be in one place."""
    problem = options_problem({"endpoint": ["https://huggingface.co"], "token_endpoint": ["https://huggingface.co"], **(options or {})})
    if problem:
        yield f"The modelfleet_huggingface cannot be used: {problem}."
    places = {}
    for model in models:
        source = model.get("huggingface")
        if not isinstance(source, dict) or model.get("state", "present") != "present":
            continue
        group, repo, ref = source.get("group") or GROUP, source.get("repo"), source.get("ref", "main")
        for what, place, remedy in (
            ("commit", source.get("revision"), "keep one entry, with the include of both"),
            ("ref", ref, "give one of them another ref, or an empty one"),
        ):
            other = places.setdefault((what, str(group), str(repo), str(place)), model) if place else model
            if other is not model:
                yield f"The {_label(model)} and the {_label(other)} have one {what} of {repo} for the group {group}; {remedy}."


def _runtime_findings(model, label, sources, settings):
    """Yield what of an entry is not for what is to serve it."""
    name = runtime_name(model)
    if name not in RUNTIMES:
        yield f"The runtime of the {label} is not one that is known ('{name}'); write {' or '.join(RUNTIMES)}."
        return
    runtime = RUNTIMES[name]
    for kind in sources:
        if kind not in runtime.KINDS:
            known = " or ".join(_A[one] for one in runtime.KINDS)
            yield f"The {label} is {_A[kind]}, and the runtime {name} loads {known} only; publish it as that and give its key."
    for key in sorted({key for other in RUNTIMES.values() for key in other.KEYS} - set(runtime.KEYS)):
        if model.get(key) is not None and model[key] != _PLAIN.get(key):
            yield f"The {label} has {key}, which the runtime {name} does not know; leave it out."
    if model.get("compile_cache") is not None and settings.get("torchserve_install_method") == "container":
        yield (
            f"The {label} has compile_cache, which TorchServe in a container does not use; leave it out for this host, or set "
            "torchserve_install_method to package."
        )
    for problem in runtime.entry_problems(model, settings):
        yield f"The {label} {problem}."


def _source_findings(label, kind, key):
    problem = KINDS[kind].key_problem(key)
    if problem:
        yield f"The {kind} of the {label} cannot be used ({key!r}); {problem}."


def list_findings(models):
    """Yield what is wrong with the list as a whole."""
    present = [model for model in models if model.get("state", "present") == "present"]
    for label in _repeated(_label(model) for model in models):
        yield f"The {label} is listed more than once in modelfleet_models; keep one entry."
    for name in _repeated(model.get("name") for model in present if model.get("default") is True):
        versions = ", ".join(str(model.get("version")) for model in present if model.get("name") == name and model.get("default") is True)
        yield f"The model {name} has more than one default version ({versions}) in modelfleet_models; set default: true on one of them."
    for model in models:
        if model.get("default") is True and model.get("state") == "absent":
            yield f"The {_label(model)} is absent and the default at once in modelfleet_models; make another version the default."


def runtime_list_findings(models, settings):
    """Yield where entries of the list cannot be served beside each other, or beside the daemons of their host."""
    present = [model for model in models if model.get("state", "present") == "present" and runtime_name(model) in RUNTIMES]
    for name in dict.fromkeys(str(model.get("name")) for model in present):
        versions = [model for model in present if str(model.get("name")) == name]
        runtimes = list(dict.fromkeys(runtime_name(model) for model in versions))
        if len(runtimes) > 1:
            yield (
                f"The model {name} has versions of the runtimes {' and '.join(runtimes)} in modelfleet_models; a name has one runtime, so "
                "give those of the other another name."
            )
        elif len(versions) > 1 and not RUNTIMES[runtimes[0]].SIDE_BY_SIDE:
            listed = ", ".join(str(model.get("version")) for model in versions)
            yield (
                f"The model {name} has several versions ({listed}) in modelfleet_models, and its runtime {runtimes[0]} serves one at a "
                "time; keep one, or give the others another name and port."
            )
        elif len({str(model["port"]) for model in versions if model.get("port") is not None}) > 1:
            listed = ", ".join(f"{model.get('version')} at {model['port']}" for model in versions if model.get("port") is not None)
            yield (
                f"The model {name} has versions with several ports ({listed}) in modelfleet_models, and one port leads to its default "
                "version; give all of them the same."
            )
    taken = _ports_of_daemons(settings)
    if any(runtime_name(model) == "triton" for model in present):
        for variable in _triton.PORTS:
            port = _openai_server.port_of(settings.get(variable))
            if port in taken:
                yield f"The {variable} is that of {taken[port]} ({port}); give each its own."
            elif port:
                taken[port] = "Triton"
    for model in present:
        port = _openai_server.port_of(model.get("port"))
        if port is None or "port" not in RUNTIMES[runtime_name(model)].KEYS:
            continue
        if port in taken and taken[port] != f"the model {model.get('name')}":
            yield f"The port {port} of the {_label(model)} is that of {taken[port]}; give each its own."
        taken.setdefault(port, f"the model {model.get('name')}")


def _ports_of_daemons(settings):
    """{port: whose it is} of what is known of the host's daemons; what is wrong with their addresses is told by itself."""
    ports = {}
    for daemon, variable in ADDRESSES.items():
        if variable not in settings:
            continue
        try:
            listeners = _addresses.addresses(settings, daemon).values()
        except (AttributeError, KeyError, ModelFleetError, TypeError, ValueError):
            continue
        ports.update((listener["bind"]["port"], daemon) for listener in listeners)
    return ports


def group_findings(groups):
    for group, hosts in groups.items():
        if not hosts:
            yield f"The group {group} has no host; add at least one to the inventory."


def address_findings(addresses):
    hosts_of = {}
    for host, address in addresses.items():
        if not address:
            yield f"The host {host} has no modelfleet_address; set it in the inventory to the IP address that the fleet reaches."
            continue
        try:
            parsed = ipaddress.ip_address(str(address))
        except ValueError:
            yield f"The modelfleet_address of the host {host} is not an IP address ('{address}'); names and prefixes are not accepted."
            continue
        if parsed.is_unspecified or parsed.is_loopback or parsed.is_multicast:
            yield f"The modelfleet_address of the host {host} is local to it ({address}); use its address on the fleet's network."
        hosts_of.setdefault(parsed, []).append(host)
    for address, hosts in hosts_of.items():
        if len(hosts) > 1:
            yield f"The hosts {', '.join(hosts)} have one modelfleet_address ({address}); give each host its own."


def storage_findings(storage, settings):
    try:
        store = store_from_unchecked(storage)
    except ModelFleetError as exc:
        yield str(exc)
        return
    if store.identity and settings.get("modelfleet_plugin_downloads") is True:
        # Model code has the plugin's user and its unit, and they are kept from whatever is not of their host.
        keeper = "the firewall" if settings.get("modelfleet_firewall") is True else "the unit of TorchServe" if _is_local(settings) else ""
        if keeper:
            yield from _identity_findings(store, settings.get("modelfleet_firewall_destinations"), keeper)


def _is_local(settings):
    """Whether the unit of TorchServe lets nothing out, because all that it listens at is on loopback."""
    try:
        listeners = _addresses.addresses(settings, "torchserve").values()
        return all(ipaddress.ip_address(listener["bind"]["address"]).is_loopback for listener in listeners)
    except (AttributeError, KeyError, ModelFleetError, TypeError, ValueError):
        return False  # told of the variables of TorchServe


def _identity_findings(store, destinations, keeper):
    """Yield whom TorchServe's plugin must ask for credentials and may not."""
    networks = [ipaddress.ip_network(str(entry)) for entry in _listed(destinations) if _is_address(entry, prefixes=True)]
    names, used = [], set()
    for server in store.identity.servers():
        host = urlsplit(server).hostname
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            names.append(host)
            continue
        open_to = {network for network in networks if address.version == network.version and address in network}
        used |= open_to
        if not open_to and not address.is_loopback:
            yield (
                f"The identity in modelfleet_storage has TorchServe's plugin ask {server} for credentials, which {keeper} keeps it "
                "from; set modelfleet_plugin_downloads to false, so that root asks, or add the address to "
                "modelfleet_firewall_destinations, with which model code can have the credentials of the instance as well."
            )
    # Where a name is, at a boot nobody may know; so it is enough that there are other addresses.
    if names and not set(networks) - used:
        yield (
            f"The identity in modelfleet_storage has TorchServe's plugin ask {' and '.join(names)}, which {keeper} keeps it from; set "
            "modelfleet_plugin_downloads to false, so that root asks, or add the addresses to modelfleet_firewall_destinations, with which "
            "model code can call them as well."
        )


def settings_findings(settings):
    """Yield what the modules of the other roles would refuse."""
    settings = _readable(settings)
    yield from _container_findings(settings)
    for variable, program in RELEASES.items():
        value = settings.get(variable)
        contained = settings.get(variable.replace("release_sha256", "install_method")) == "container"
        if variable in settings and not contained and not SHA256.match(str(value).lower()):
            wrong = f"is not 64 hexadecimal digits ('{value}')" if value else "is missing"
            remedy = f"write what sha256sum prints for an archive of {program} that you trust"
            if not value:
                remedy = f"take an empty one out of the inventory and run modelfleet.serving.pin_releases, or {remedy}"
            yield f"The {variable} {wrong}; {remedy}."
    for variable, component in COMPONENTS.items():
        config = settings.get(variable) or {}
        if component == "dfdaemon" and isinstance(config, dict) and isinstance(config.get("seedPeer", {}), dict):
            # What the role says of itself, without which a part of this block would contradict the rest.
            config = {**config, "seedPeer": {"enable": settings.get("dfdaemon_seed_peer", False), **config.get("seedPeer", {})}}
        yield from _config_findings(variable, _dragonfly_config.problems(component, config))
    for variable, owned in OWNED.items():
        yield from _config_findings(variable, ((key, problem) for key, problem in owned.items() if _has(settings.get(variable), key)))
    version, config = settings.get("torchserve_version"), settings.get("torchserve_config") or {}
    if "torchserve_version" in settings and (not isinstance(version, str) or version not in _torchserve_config.KEYS):
        yield f"The torchserve_version is not one that is known ('{version}'); write {' or '.join(_torchserve_config.KEYS)}, in quotes."
    elif not isinstance(config, dict):
        yield "The torchserve_config is not a dictionary; write each key of config.properties with its value below it."
    elif config:
        allow = settings.get("torchserve_config_allow") or []
        yield from _config_findings("torchserve_config", _torchserve_config.problems(version, config, allow))
    for daemon, variable in ADDRESSES.items():
        if variable in settings:
            for name, key, problem in _addresses.problems(settings, daemon):
                yield f"The key {key} in {name} {problem}."
    yield from _tls_findings(settings)
    for variable in PORTS:
        if variable in settings and not _is_port(settings[variable]):
            yield f"The {variable} is not a port ('{settings[variable]}'); write a number from 1 to 65535."
    yield from firewall_findings(settings)
    yield from _unit_findings(settings)


def _container_findings(settings):
    """Yield what is wrong with how programs come to the host, and with their images."""
    for name in CONTAINERS:
        method, archive = settings.get(f"{name}_install_method"), settings.get(f"{name}_image_archive")
        if f"{name}_install_method" in settings and method not in METHODS:
            yield f"The {name}_install_method is not one that is known ('{method}'); write {' or '.join(METHODS)}."
        if method != "container":
            continue
        problem = _podman.image_problem(settings.get(f"{name}_image"))
        if problem:
            yield f"The {name}_image {problem}."
        if archive and not os.path.isfile(os.path.expanduser(str(archive))):
            yield f"The {name}_image_archive is not at {archive} on the controller; put it there, or leave the variable out."


def _tls_findings(settings):
    """Yield what of mutual TLS would be none."""
    if settings.get("modelfleet_mtls") is not True:
        return
    own = ("modelfleet_pki_ca_path", "modelfleet_pki_certificate_path", "modelfleet_pki_key_path")
    given = [name for name in own if settings.get(name)]
    if given and len(given) < len(own):
        missing = " and ".join(name for name in own if name not in given)
        yield f"The {given[0]} is set without {missing}, so that there would be no TLS; set all three, or none of them."
    # With its brackets, as dfdaemon takes it from a URL, an IPv6 address is no name that a certificate could have.
    if ":" in str(settings.get("modelfleet_address")):
        yield (
            f"The modelfleet_address {settings['modelfleet_address']} is of IPv6, at which dfdaemon cannot verify a certificate; "
            "set an IPv4 address, or set modelfleet_mtls to false for the whole fleet."
        )


def firewall_findings(settings):
    """Yield what a ruleset could not hold. A name is not resolved: at a boot there may be nobody who could."""
    for variable in (*FIREWALL_ADDRESSES, "modelfleet_firewall_users"):
        if not isinstance(settings.get(variable) or [], (list, tuple)):
            yield f"The {variable} is not a list; make each entry an element."
    for variable, prefixes in FIREWALL_ADDRESSES.items():
        for entry in _listed(settings.get(variable)):
            if _is_address(entry, prefixes):
                continue
            found = "an IP address or a prefix with nothing beyond it, as in 10.0.0.0/24" if prefixes else "an IP address"
            yield f"The entry '{entry}' in {variable} is not {found}; write that in place of a name, which nobody may resolve at a boot."
    for entry in _listed(settings.get("modelfleet_firewall_users")):
        if not re.fullmatch(r"[a-z_][a-z0-9_.-]{0,31}|[0-9]{1,10}", str(entry), re.ASCII):
            yield f"The entry '{entry}' in modelfleet_firewall_users is not the name or the number of a user; correct it."


def _listed(value):
    return value if isinstance(value, (list, tuple)) else []


def _is_port(value):
    return re.fullmatch(r"[0-9]{1,5}", str(value), re.ASCII) is not None and 1 <= int(value) <= 65535


def _is_address(value, prefixes):
    try:
        parsed = ipaddress.ip_network(str(value)) if prefixes else ipaddress.ip_address(str(value))
    except ValueError:
        return False
    return "%" not in str(value) and not (parsed.is_unspecified and not prefixes) and not parsed.is_multicast


def budget_findings(models, budget):
    """Yield a budget that is none, and the models that the piece store of dfdaemon could not hold."""
    limit = bytes_of(budget)
    if limit == 0:
        yield f"The dfdaemon_disk_budget is {budget}, which dfdaemon takes for the whole disk; set it to a size."
    for model in models:
        size = bytes_of(model.get("size")) if model.get("state", "present") == "present" else None
        # gc.policy.diskHighThresholdPercent
        if limit and size and size > 0.8 * limit:
            yield (
                f"The {_label(model)} is larger ({model['size']}) than 80 percent of what dfdaemon may keep ({budget}), and would be "
                "removed as soon as it is there; raise dfdaemon_disk_budget."
            )


def _has(config, path):
    for key in path.split("."):
        if not isinstance(config, dict) or key not in config:
            return False
        config = config[key]
    return True


def _unit_findings(settings):
    """Yield what the units could not hold. No value is shown: some are secrets in spite of what is said about them."""
    for variable, owned in ENVIRONMENTS.items():
        environment = settings.get(variable) or {}
        if not isinstance(environment, dict):
            yield f"The {variable} is not a dictionary; write each variable with its value below it."
            continue
        for name, problem in _systemd.environment_problems(environment, owned):
            yield f"The variable {name} in {variable} {problem}."
    environment = settings.get("torchserve_environment")
    visible = environment.get("CUDA_VISIBLE_DEVICES") if isinstance(environment, dict) else None
    problem = None if _systemd.problem(visible) else _torchserve_config.visible_problem(visible, settings.get("torchserve_device"))
    if problem:
        yield f"The variable CUDA_VISIBLE_DEVICES in torchserve_environment {problem}."
    options = settings.get("torchserve_java_options") or []
    if not isinstance(options, (list, tuple)):
        yield "The torchserve_java_options is not a list; make each option an element."
    else:
        for number, option in enumerate(options, 1):
            problem = _torchserve_config.java_problem(option)
            if problem:
                yield f"The option {number} in torchserve_java_options {problem}."
    if not re.fullmatch(r"[0-9]+[kKmMgG]?", str(settings.get("torchserve_heap", "1g"))):
        yield f"The torchserve_heap is not a size of java ('{settings['torchserve_heap']}'); write a number and k, m or g, such as 512m."
    if not re.fullmatch(r"(/[A-Za-z0-9._+-]+)+", str(settings.get("torchserve_java", "/java"))):
        yield f"The torchserve_java is not the path of a program ('{settings['torchserve_java']}'); write all of it, as in /usr/bin/java."


def _config_findings(variable, problems):
    for key, problem in problems:
        yield f"The key {key} in {variable} {problem}." if key else f"The {variable} {problem}."


def _readable(value):
    """A copy without the values that cannot be read yet, such as a template with a variable of a role that did not run."""
    if not isinstance(value, dict):
        return [_readable(one) for one in value] if isinstance(value, list) else value
    found = {}
    for key in value:
        try:
            found[key] = _readable(value[key])
        except (AnsibleError, UndefinedError):
            continue
    return found


def host_findings(hosts):
    """Yield each sentence once, with its hosts unless they all have it."""
    hosts_of = {}
    for host, findings in hosts.items():
        for finding in dict.fromkeys(findings):
            hosts_of.setdefault(finding, []).append(host)
    for finding, names in hosts_of.items():
        if len(names) == len(hosts):
            yield finding
        else:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            yield f"{finding} (On {', '.join(names[:3])}{more}.)"


def _label(model):
    name = model.get("name")
    return f"model {name} {model.get('version')}" if name else f"model without a name ({model.get('object') or model.get('bundle')})"


def _repeated(values):
    seen = {}
    for value in values:
        seen[value] = seen.get(value, 0) + 1
    return [value for value, count in seen.items() if count > 1]


def inventory_findings(models, files_dir=None, groups=None, addresses=None, storage=None, settings=None, hosts=None):
    findings = [*group_findings(groups or {}), *address_findings(addresses or {})]
    if storage is not None:
        findings.extend(storage_findings(storage, settings or {}))
    settings = settings or {}
    for model in models:
        findings.extend(model_findings(model, files_dir, settings))
    if any(model.get("huggingface") for model in models):
        findings.extend(huggingface_findings(models, settings.get("modelfleet_huggingface")))
    findings.extend(list_findings(models))
    findings.extend(runtime_list_findings(models, settings))
    findings.extend(settings_findings(settings))
    if any(runtime_name(model) == "triton" for model in models):
        findings.extend(_triton.settings_problems(settings))
    if any(runtime_name(model) == "bentoml" for model in models):
        findings.extend(_bentoml.settings_problems(settings))
    findings.extend(budget_findings(models, settings.get("dfdaemon_disk_budget")))
    findings.extend(host_findings(hosts or {}))
    return findings


class FilterModule:
    def filters(self):
        return {"inventory_findings": inventory_findings}
