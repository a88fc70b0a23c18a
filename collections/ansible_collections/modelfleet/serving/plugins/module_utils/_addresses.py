# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where every daemon of a host listens. PRIVATE to the collection: it can have breaking changes at any time.

This is the only place that knows it: what configures a daemon, waits for it, asks it or checks its port takes the address from here.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

# Listener: the block of dfdaemon.yaml with its address, the key of its port, the port, and whether other hosts must reach it.
DFDAEMON = {
    "upload": ("upload.server", "port", 4000, True),
    "proxy": ("proxy.server", "port", 4001, False),
    "metrics": ("metrics.server", "port", 4002, False),
    "health": ("health.server", "port", 4003, False),
    "stats": ("stats.server", "port", 4004, False),
    "storage": ("storage.server", "tcpPort", 4005, True),
    # By UDP, whether or not a peer uses it.
    "quic": ("storage.server", "quicPort", 4006, True),
}
SCHEDULER_PORT = 8002
SCHEDULER_METRICS = "127.0.0.1:8000"
# The names of the ports in the role's variables; an address in torchserve_config comes before them.
TORCHSERVE = {"inference": 8080, "management": 8081, "metrics": 8082, "grpc_inference": 7070, "grpc_management": 7071}
GATEWAY_PORT = 8443
MONITORING_PORT = 9443
# Of the manager: the variable of a port, the port, and whether other hosts must reach it. TorchServe has 8080 and the scheduler 8000.
MANAGER = {
    "grpc": ("dragonfly_manager_port", 65003, True),
    "redis": ("dragonfly_manager_redis_proxy_port", 65100, True),
    "rest": ("dragonfly_manager_rest_port", 8090, False),
    "metrics": ("dragonfly_manager_metrics_port", 8001, False),
}
LOOPBACK = "127.0.0.1"
# Half of it would be none: the daemons fall back to clear text without a word.
_TLS = "is what modelfleet_mtls sets, for the whole fleet; leave it out, and name certificates of your own in modelfleet_pki_ca_path"


def addresses(variables, daemon):
    """Return where ``daemon``, one of _DAEMONS, of one host listens, by the name of the listener.

    ``variables`` is a mapping with the host's variables, under their own names; what is not there has its default. A listener is
    ``{"bind": {"address": str, "port": int, "unit": str}, "host": str, "authority": "host:port", "url": "http://host:port"}``, where
    ``host`` is how to reach it: from other hosts for what they use, on the host itself for the rest.
    Raises ModelFleetError, see ``problems``.
    """
    found = list(problems(variables, daemon))
    if found:
        raise ModelFleetError(" ".join(f"The key {key} in {variable} {problem}." for variable, key, problem in found))
    return _DAEMONS[daemon][0](variables)


def problems(variables, daemon):
    """Yield ``(variable, key, what is wrong and what to do)`` for addresses of ``daemon`` that the fleet could not use."""
    yield from _DAEMONS[daemon][1](variables)


def host_of(address):
    """Return an address as a URL has it: IPv6 in brackets."""
    return f"[{address}]" if ":" in address else address


def _listener(address, port, unit, public=""):
    """``public``: the address that others reach, for what listens on every one."""
    try:
        every = ipaddress.ip_address(address).is_unspecified
    except ValueError:
        every = address == ""
    reached = address if not every else public or ("::1" if ":" in address else LOOPBACK)
    authority = f"{host_of(reached)}:{port}"
    bind = {"address": LOOPBACK if address == "localhost" else address or "::", "port": int(port), "unit": unit}
    return {"bind": bind, "host": reached, "authority": authority, "url": f"http://{authority}"}


def _get(config, path, default=None):
    for key in path.split("."):
        config = config[key] if _is_mapping(config) and key in config else None
    return default if config is None else config


def _is_mapping(value):
    return hasattr(value, "keys")


def _same(one, other):
    try:
        return ipaddress.ip_address(str(one)) == ipaddress.ip_address(str(other))
    except ValueError:
        return one == other


def _covers(bound, address):
    """Whether a socket on ``bound`` answers at ``address``. Nothing is known of a host without an address, which is told elsewhere."""
    return not address or _same(bound, address) or str(bound) in ("0.0.0.0", "::")


def _value(variables, name, default):
    value = variables.get(name)
    return default if value is None or value == "" else value


# The scheduler


def _scheduler_config(variables):
    return _value(variables, "dragonfly_scheduler_config", {})


def _scheduler(variables):
    config, unit = _scheduler_config(variables), "dragonfly-scheduler.service"
    address = str(_value(variables, "modelfleet_address", ""))
    port = _get(config, "server.port", _value(variables, "dragonfly_scheduler_port", SCHEDULER_PORT))
    metrics_host, _colon, metrics_port = str(_get(config, "metrics.addr", SCHEDULER_METRICS)).rpartition(":")
    return {
        "api": _listener(str(_get(config, "server.listenIP", address)), port, unit, public=address),
        "metrics": _listener(metrics_host.strip("[]"), metrics_port, unit),
    }


def _scheduler_problems(variables):
    config, name, address = _scheduler_config(variables), "dragonfly_scheduler_config", _value(variables, "modelfleet_address", "")
    if not _covers(_get(config, "server.listenIP", address), address):
        yield name, "server.listenIP", f"does not cover modelfleet_address ({address}), at which peers call; leave it out"
    if not _same(_get(config, "server.advertiseIP", address), address):
        yield name, "server.advertiseIP", f"is not modelfleet_address ({address}), which peers are told; set that variable instead"
    port = _get(config, "server.port", _value(variables, "dragonfly_scheduler_port", SCHEDULER_PORT))
    if str(_get(config, "server.advertisePort", port)) != str(port):
        yield name, "server.advertisePort", f"is not the port on which it listens ({port}); leave it out and set dragonfly_scheduler_port"
    for key in ("server.tls", "seedPeer.tls", "peer.tls"):
        if _get(config, key) is not None:
            yield name, key, _TLS


# dfdaemon


def _dfdaemon_config(variables):
    return _value(variables, "dfdaemon_config", {})


def _dfdaemon(variables):
    config, public = _dfdaemon_config(variables), str(_value(variables, "modelfleet_address", ""))
    found = {}
    for name, (block, port_key, port, for_others) in DFDAEMON.items():
        address = str(_get(config, f"{block}.ip", public if for_others else LOOPBACK))
        found[name] = _listener(address, _get(config, f"{block}.{port_key}", port), "dfdaemon.service", public if for_others else "")
    return found


def _dfdaemon_problems(variables):
    config, name, address = _dfdaemon_config(variables), "dfdaemon_config", _value(variables, "modelfleet_address", "")
    if not _same(_get(config, "host.ip", address), address):
        yield name, "host.ip", f"is not modelfleet_address ({address}), at which the fleet calls this host; set that variable instead"
    for block, _key, _port, for_others in DFDAEMON.values():
        bound = _get(config, f"{block}.ip", address)
        if for_others and not _covers(bound, address):
            yield name, f"{block}.ip", f"does not cover modelfleet_address ({address}), at which other peers call; leave it out"
    for block in ("upload.server", "upload.client", "scheduler"):
        for key in ("caCert", "cert", "key"):
            if _get(config, f"{block}.{key}") is not None:
                yield name, f"{block}.{key}", _TLS
    for key, owned in (("storage.dir", "/var/lib/modelfleet/pieces"), ("download.server.socketPath", "/run/dragonfly/dfdaemon.sock")):
        if _get(config, key, owned) != owned:
            yield name, key, f"must stay {owned}, the only place that the unit's sandbox leaves for it; leave it out or mount a disk there"


# TorchServe


def _torchserve_config(variables):
    return _value(variables, "torchserve_config", {})


def _torchserve(variables):
    config, found = _torchserve_config(variables), {}
    for name, default in TORCHSERVE.items():
        port = _value(variables, f"torchserve_{name}_port", default)
        if name.startswith("grpc_"):
            address = str(_get(config, f"{name}_address", LOOPBACK))
            port = _get(config, f"{name}_port", port)
        else:
            split = urlsplit(str(_get(config, f"{name}_address", f"http://{LOOPBACK}:{port}")))
            address, port = split.hostname or "", split.port
        found[name] = _listener(address, port, "torchserve.service")
    return found


def _torchserve_problems(variables):
    config, name = _torchserve_config(variables), "torchserve_config"
    for key in (f"{listener}_address" for listener in TORCHSERVE if not listener.startswith("grpc_")):
        value = str(_get(config, key, f"http://{LOOPBACK}:1"))
        if value.startswith(("https:", "unix:")):
            remedy = "write http://127.0.0.1 with a port, and let others come by way of a proxy that speaks TLS"
            yield name, key, f"is {value}, and this fleet asks TorchServe by plain HTTP on its own host; {remedy}"
            continue
        try:
            usable = urlsplit(value).port
        except ValueError:
            usable = None
        if not usable:
            yield name, key, f"is {value}, which names no port; write http://127.0.0.1 with a port"


# The manager


def _manager(variables):
    public, unit = str(_value(variables, "modelfleet_address", "")), "dragonfly-manager.service"
    return {
        name: _listener(public if for_others else LOOPBACK, _value(variables, variable, port), unit)
        for name, (variable, port, for_others) in MANAGER.items()
    }


# The gateway


def _gateway(variables):
    address = str(_value(variables, "gateway_address", _value(variables, "modelfleet_address", "")))
    return {"api": _listener(address, _value(variables, "gateway_port", GATEWAY_PORT), "modelfleet-gateway.service")}


# The door to the metrics


def _monitoring(variables):
    address = str(_value(variables, "monitoring_address", _value(variables, "modelfleet_address", "")))
    return {"door": _listener(address, _value(variables, "monitoring_port", MONITORING_PORT), "modelfleet-monitoring.service")}


def _no_problems(_variables):
    """The role looks at them itself."""
    return ()


_DAEMONS = {
    "gateway": (_gateway, _no_problems),
    "monitoring": (_monitoring, _no_problems),
    "manager": (_manager, _no_problems),
    "scheduler": (_scheduler, _scheduler_problems),
    "dfdaemon": (_dfdaemon, _dfdaemon_problems),
    "torchserve": (_torchserve, _torchserve_problems),
}


# Of a listener that is in the way: how people call its daemon, and by which variables it moves.
_OWNERS = {
    "scheduler": ("the scheduler", "dragonfly_scheduler_port or dragonfly_scheduler_config"),
    "dfdaemon": ("dfdaemon", "dfdaemon_config"),
    "torchserve": ("TorchServe", "torchserve_config or torchserve_*_port"),
    "gateway": ("the gateway", "gateway_port"),
}


def taken(settings, port, variable):
    """Each of the ``daemons`` of a host that is to listen on ``port``, whatever the address: one port for two would be guessed wrong by
    somebody. ``variable`` is that of the port."""
    daemons = settings.get("daemons")
    for daemon in daemons if isinstance(daemons, list) else []:
        try:
            listeners = addresses(settings["listening"], daemon)
        except (AttributeError, KeyError, ModelFleetError, TypeError, ValueError):
            continue  # told of the variables of that daemon
        # By UDP it is another port.
        names = [name for name, listener in listeners.items() if listener["bind"]["port"] == port and name != "quic"]
        if names:
            label, variables = _OWNERS[daemon]
            yield (
                f"The {variable} is {port}, which {label} has on this host ({', '.join(names)}); use another one, or move that of "
                f"{label} in {variables}."
            )


def whole(value):
    """A number of an option, whose type is checked elsewhere; None for what is none."""
    try:
        return int(str(value))
    except ValueError:
        return None
