# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check and write configuration of Dragonfly's daemons. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import difflib
import json
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._addresses import DFDAEMON
from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_schema import ANY, COMPONENTS, FORBIDDEN, TYPES
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import bytes_of, from_json

_HEADER = "# Managed by Ansible (modelfleet.serving): changes made here are lost.\n"

HIDDEN = "********"
# YAML has no longer one on a line with its value.
_LONGEST_KEY = 1000

# Variables of dfdaemon's environment that would take away what the unit sets up.
OWNED_ENVIRONMENT = {
    "RUST_LOG": "would log presigned URLs, which open an object to whoever reads them; leave it out",
    "DFDAEMON_CONFIG": "makes dfdaemon read another configuration; write the keys into dfdaemon_config",
    "DFDAEMON_DYNCONFIG": "makes dfdaemon call other schedulers; correct the group dragonfly_schedulers",
    "DFDAEMON_LOG_LEVEL": "would log presigned URLs, which open an object to whoever reads them; leave it out",
}


def problems(component, config):
    """Everything that is wrong with ``config`` (dict) of a component, as ``[(dotted path, what is wrong and what to do)]``."""
    found = []
    _walk(component, COMPONENTS[component], config, "", found)
    long_ones = [_key(key) for key in _keys(config) if len(_key(key)) > _LONGEST_KEY]
    found.extend((f"{key[:40]}…", f"is a key of more than {_LONGEST_KEY} characters, which YAML has not; shorten it") for key in long_ones)
    if not found:
        found.extend(_CONTRADICTIONS.get(component, lambda _config: [])(config))
    return found


def secrets(component, config):
    """The texts in ``config`` that nobody may see, by dotted path."""
    found = {}

    def collect(table, value, path):
        if table == "secret":
            found[path] = value
        elif isinstance(table, dict) and isinstance(value, dict):
            for key, item in value.items():
                collect(table.get(key, table.get(ANY)), item, f"{path}.{key}" if path else key)

    collect(COMPONENTS[component], config, "")
    return {path: value for path, value in found.items() if isinstance(value, str) and value}


def shown_config(component, text, before):
    """What may be shown of a file ``text`` that held ``before`` (both str or None): YAML with secrets hidden, whoever wrote the file."""
    value, old = from_yaml(text or ""), from_yaml(before or "")
    if value is None:
        return "(not written by this module, so its secrets cannot be told from the rest)\n" if text else ""
    return to_yaml(_hidden(COMPONENTS[component], value, old))


def _hidden(table, value, old):
    if isinstance(value, dict) and isinstance(table, dict):
        old = old if isinstance(old, dict) else {}
        return {key: _hidden(table.get(key, table.get(ANY)), item, old.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(table, list):
        old = old if isinstance(old, list) and len(old) == len(value) else [None] * len(value)
        return [_hidden(table[0], item, other) for item, other in zip(value, old)]
    # Also where the daemon knows no key: it may be a secret's name, misspelt. No table means no value either.
    if table in (None, "secret") or isinstance(table, (dict, list)):
        return HIDDEN if value == old else HIDDEN + " (new)"
    return value


def check(files):
    """Refuse ``files``, a list of ``{component, path, config, mode}``, with all that is wrong in any of them. Raises ModelFleetError."""
    found = [
        {"path": entry["path"], "key": key, "problem": problem}
        for entry in files
        for key, problem in problems(entry["component"], entry["config"])
    ]
    paths = [entry["path"] for entry in files]
    for entry in files:
        if secrets(entry["component"], entry["config"]) and not _for_its_group_only(entry.get("mode")):
            found.extend(
                {"path": entry["path"], "key": key, "problem": 'is a secret, so no other user may read the file; write mode as in "0640"'}
                for key in secrets(entry["component"], entry["config"])
            )
        if paths.count(entry["path"]) > 1:
            found.append(
                {
                    "path": entry["path"],
                    "key": entry["component"],
                    "problem": "shares its file with another component; their keys differ, so give each its own path",
                }
            )
        # A daemon with a manager never reads its local dynamic configuration.
        elif entry["component"] + "_dynconfig" in [other["component"] for other in files] and (entry["config"].get("manager") or {}).get(
            "addr"
        ):
            found.append(
                {
                    "path": entry["path"],
                    "key": "manager.addr",
                    "problem": f"is set, so {entry['component']}_dynconfig would never be read; remove one of them",
                }
            )
    if found:
        sentences = "; ".join("{key} in {path} {problem}".format(**problem) for problem in found)
        count = "a problem" if len(found) == 1 else f"{len(found)} problems"
        raise ModelFleetError(f"Refused the configuration and wrote nothing, because of {count}: {sentences}.", problems=found)


def _for_its_group_only(mode):
    """Whether a file with these permissions (text in octal, number or None) is closed to other users. Symbolic ones are not looked into."""
    try:
        return mode is None or not (mode if isinstance(mode, int) else int(mode, 8)) & 0o007
    except ValueError:
        return False


def file_text(config):
    """The text of a configuration file with ``config`` (dict)."""
    return _HEADER + to_yaml(config)


def to_yaml(value, indent=""):
    """Write dicts, lists and scalars as block YAML. Scalars are JSON, which is YAML that no parser reads in another way."""
    if isinstance(value, dict) and value:
        return "".join(f"{indent}{_key(key)}:{_below(value[key], indent)}" for key in sorted(value, key=str))
    if isinstance(value, list) and value:
        return "".join(f"{indent}-{_item(item, indent)}" for item in value)
    return f"{indent}{_scalar(value)}\n"


def _below(value, indent):
    if isinstance(value, (dict, list)) and value:
        return "\n" + to_yaml(value, indent + "  ")
    return f" {_scalar(value)}\n"


def _item(value, indent):
    if isinstance(value, (dict, list)) and value:
        return " " + to_yaml(value, indent + "  ")[len(indent) + 2 :]
    return f" {_scalar(value)}\n"


def _key(key):
    # As JSON has it on the way to a module.
    key = key if isinstance(key, str) else json.dumps(key)
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", key)
    return key if plain and key.lower() not in ("y", "n", "yes", "no", "on", "off", "true", "false", "null") else _scalar(key)


def _scalar(value):
    if isinstance(value, float) and "." not in repr(value):
        # A number of YAML 1.1 has a point; repr leaves it out before an exponent.
        return json.dumps(value).replace("e", ".0e")
    # JSON allows what YAML does not, or takes for the end of a line. What is beyond 16 bits stays as it is: JSON would write two halves.
    return re.sub(
        "[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


_ENTRY = re.compile(r'([A-Za-z][A-Za-z0-9_-]*|"(?:[^"\\]|\\.)*"):(?: (.+))?\Z')


def from_yaml(text):
    """Read back what ``to_yaml`` wrote, comments above it and plain texts as well; None for any other text."""
    lines = text.rstrip("\n").split("\n")
    while lines and lines[0].startswith("#"):
        lines = lines[1:]
    try:
        value, rest = _block(lines, "")
    except (ValueError, IndexError, RecursionError):
        return None
    return None if rest else value


def _block(lines, indent):
    """The value that stands at ``indent`` in the first of the lines, and the lines below it."""
    if lines[0].startswith(indent + "- "):
        items = []
        while lines and lines[0].startswith(indent + "- "):
            item, lines = _block([indent + "  " + lines[0][len(indent) + 2 :], *lines[1:]], indent + "  ")
            items.append(item)
        return items, lines
    found = {}
    while lines and lines[0].startswith(indent) and _ENTRY.match(lines[0][len(indent) :]):
        key, scalar = _ENTRY.match(lines[0][len(indent) :]).groups()
        key = from_json(key) if key.startswith('"') else key
        if scalar is None:
            found[key], lines = _block(lines[1:], indent + "  ")
        else:
            found[key], lines = _scalar_of(scalar), lines[1:]
    if found:
        return found, lines
    if not lines[0].startswith(indent):
        raise ValueError("less is indented than must be")
    return from_json(lines[0][len(indent) :]), lines[1:]


def _scalar_of(text):
    try:
        return from_json(text)
    except ValueError:
        return text


def _walk(component, table, value, path, found):
    if isinstance(table, dict):
        if not isinstance(value, dict):
            found.append((path, f"must be a dictionary, not {_kind(value)}"))
            return
        for key in value:
            below = f"{path}.{key}" if path else str(key)
            if below in FORBIDDEN.get(component, {}):
                found.append((below, f"must not be set: {FORBIDDEN[component][below]}"))
            elif key in table or ANY in table:
                _walk(component, table.get(key, table.get(ANY)), value[key], below, found)
            else:
                found.append((below, f"is not a key of {component}; {_suggestion(component, table, str(key), path)}"))
    elif isinstance(table, list):
        if not isinstance(value, list):
            found.append((path, f"must be a list, not {_kind(value)}"))
            return
        for number, item in enumerate(value):
            _walk(component, table[0], item, f"{path}[{number}]", found)
    else:
        name, *limits = table if isinstance(table, tuple) else (table,)
        fits, wanted = TYPES[name]
        if not fits(value, *limits):
            if name == "choice":
                wanted = f"one of {', '.join(limits)}"
            elif limits:
                wanted = f"{wanted} from {limits[0]} to {limits[1]}"
            found.append((path, f"must be {wanted}, not {'what is there' if name == 'secret' else _shown(value)}"))


def _keys(value):
    """Every key in dictionaries at any depth."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _keys(item)
    yield from value if isinstance(value, dict) else ()


def _kind(value):
    """Not the value: a secret may stand in the place of its dictionary."""
    for kind, name in ((str, "a text"), (list, "a list"), (dict, "a dictionary")):
        if isinstance(value, kind):
            return name
    return _shown(value)


def _shown(value):
    return "nothing (remove the key instead)" if value is None else _scalar(value)


def _suggestion(component, table, key, path):
    same_level = difflib.get_close_matches(key.lower(), [name.lower() for name in table], n=1, cutoff=0.7)
    if same_level:
        name = next(name for name in table if name.lower() == same_level[0])
        return f"did you mean {path + '.' if path else ''}{name}?"
    elsewhere = [place for place in _places(COMPONENTS[component], "") if place.rpartition(".")[2].lower() == key.lower()]
    if elsewhere:
        # The place that shares most with where the key was put comes first.
        elsewhere.sort(key=lambda place: (-len(_common_prefix(place, path)), place))
        return f"did you mean {elsewhere[0]}?"
    return "known here: " + ", ".join(sorted(table))


def _common_prefix(one, other):
    length = next((i for i, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))
    return one[:length]


def _places(table, path):
    if isinstance(table, list):
        yield from _places(table[0], path + "[]")
    elif isinstance(table, dict):
        for key, below in table.items():
            if key != ANY:
                place = f"{path}.{key}" if path else key
                yield place
                yield from _places(below, place)


# Values that fit one by one and not together


def _get(config, path, default=None):
    for key in path.split("."):
        if not isinstance(config, dict) or key not in config:
            return default
        config = config[key]
    return config


def _complete(config, block, keys):
    """A block of TLS files counts only when it is complete; the daemons fall back to clear text otherwise."""
    present = [key for key in keys if _get(config, f"{block}.{key}")]
    if present and len(present) < len(keys):
        missing = ", ".join(f"{block}.{key}" for key in keys if key not in present)
        return [(f"{block}.{present[0]}", f"is set without {missing}, so there would be no TLS; set all of {', '.join(keys)}, or none")]
    return []


def _of_dfdaemon(config):
    found = []
    for block in ("upload.server", "upload.client", "manager", "scheduler"):
        found += _complete(config, block, ("caCert", "cert", "key"))
    found += _complete(config, "proxy.server", ("caCert", "caKey"))

    if bytes_of(_get(config, "gc.policy.diskThreshold", 1)) == 0:
        found.append(("gc.policy.diskThreshold", "is 0, which dfdaemon takes for the whole disk; set dfdaemon_disk_budget to a size"))
    high = _get(config, "gc.policy.diskHighThresholdPercent", 80)
    low = _get(config, "gc.policy.diskLowThresholdPercent", 60)
    if high <= low:
        found.append(
            (
                "gc.policy.diskHighThresholdPercent",
                f"is {high}, and gc.policy.diskLowThresholdPercent is {low}; the high one must be higher",
            )
        )

    seed = _get(config, "seedPeer.enable", False)
    kind = _get(config, "seedPeer.type")
    if seed and kind == "normal":
        found.append(("seedPeer.type", "is normal while seedPeer.enable is true; a seed peer is of type super"))
    if not seed and kind == "super":
        found.append(("seedPeer.type", "is super while seedPeer.enable is not true; set seedPeer.enable, or leave seedPeer out"))
    if seed and _get(config, "proxy.disableBackToSource"):
        found.append(("proxy.disableBackToSource", "is true on a seed peer, which is the one that must go to the origin; remove it"))

    ports = {}
    for block, key, default, _for_others in DFDAEMON.values():
        path = f"{block}.{key}"
        port = _get(config, path, default)
        if port in ports:
            found.append((path, f"is {port}, which {ports[port]} has already; give each its own port"))
        ports.setdefault(port, path)

    if _get(config, "host.ip") in ("0.0.0.0", "::"):
        found.append(("host.ip", "is the address that other peers connect to; set an address of this host that they reach"))
    return found


def _of_dfdaemon_dynconfig(config):
    addrs = _get(config, "scheduler.addrs")
    if addrs is None and _get(config, "scheduler.addr") is None:
        return [("scheduler.addrs", "is missing; list the schedulers as IP address and port, as in 10.0.0.1:8002")]
    found = []
    if addrs is not None:
        if not addrs:
            found.append(("scheduler.addrs", "is empty; list at least one scheduler"))
        if _get(config, "scheduler.addr") is not None:
            found.append(("scheduler.addr", "has no effect beside scheduler.addrs; keep one of them"))
        for addr in sorted({addr for addr in addrs if addrs.count(addr) > 1}):
            found.append(("scheduler.addrs", f"has {addr} twice; list each scheduler once"))
    return found


def _of_scheduler(config):
    found = []
    for block in ("server.tls", "manager.tls", "seedPeer.tls", "peer.tls"):
        found += _complete(config, block, ("caCert", "cert", "key"))
    if _get(config, "manager") is not None and _get(config, "manager.addr") is None:
        found.append(("manager.addr", "is missing though manager is there; set it, or leave manager out to run without a manager"))
    level = _get(config, "server.logLevel")
    if level in ("debug", "info"):
        found.append(("server.logLevel", f"is {level}, which would log presigned URLs, and who reads them may read the object; write warn"))
    return found


def _of_manager(config):
    found = []
    kind = _get(config, "database.type", "mysql")
    required = {"polardb": ("user", "password", "addrList")}.get(kind, ("user", "password", "host"))
    block = {"mariadb": "mysql"}.get(kind, kind)
    for path in ("auth.jwt.key", "database.redis.addrs", *(f"database.{block}.{key}" for key in required)):
        if not _get(config, path):
            found.append((path, "is missing; the manager does not start without it"))
    return found


_CONTRADICTIONS = {
    "dfdaemon": _of_dfdaemon,
    "dfdaemon_dynconfig": _of_dfdaemon_dynconfig,
    "scheduler": _of_scheduler,
    "manager": _of_manager,
}
