# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys that Dragonfly's daemons know. PRIVATE to the collection: it can have breaking changes at any time.

The daemons ignore a key that they do not know without a word, so these tables are complete: scheduler and manager 2.5.1, client 1.5.10.

A table is a dict from key to what stands there: another table, a one-element list (a list of that), ``{ANY: ...}`` (free keys), or the name
of a type in TYPES, with its bounds or choices where it has some: ``("int", low, high)``, ``("choice", "tcp", "quic")``.
"""

from __future__ import annotations

import ipaddress
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._text import outer_problem

ANY = "*"

_COUNT = ("int", 1, 1 << 32)
_PERCENT = ("int", 1, 99)
_FLAG = "bool"

_MUTUAL_TLS = {"caCert": "path", "cert": "path", "key": "path"}
_LISTENER = {"ip": "ip", "port": "port"}

DFDAEMON = {
    "host": {"idc": "str", "location": "str", "hostname": "str", "ip": "ip", "schedulerClusterID": "int"},
    "server": {
        "pluginDir": "path",
        "cacheDir": "path",
        "adaptiveRateLimit": {
            "bucketCount": _COUNT,
            "bucketInterval": "duration",
            "cpuThreshold": ("int", 1, 100),
            "memoryThreshold": ("int", 1, 100),
            "shedCooldown": "duration",
            "collectInterval": "duration",
        },
    },
    "download": {
        "server": {"socketPath": "path", "requestRateLimit": _COUNT, "requestBufferSize": _COUNT},
        "protocol": ("choice", "tcp", "quic"),
        "bandwidthLimit": "size",
        "backToSourceBandwidthLimit": "size",
        "pieceTimeout": "duration",
        "collectedPieceTimeout": "duration",
        "concurrentPieceCount": _COUNT,
        "backToSourceConcurrentPieceCount": _COUNT,
    },
    "upload": {
        "server": {**_LISTENER, **_MUTUAL_TLS, "requestRateLimit": _COUNT, "requestBufferSize": _COUNT},
        "client": _MUTUAL_TLS,
        "disableShared": _FLAG,
        "bandwidthLimit": "size",
    },
    "manager": {"addr": "url", **_MUTUAL_TLS},
    "scheduler": {"announceInterval": "duration", "scheduleTimeout": "duration", "maxScheduleCount": _COUNT, **_MUTUAL_TLS},
    "seedPeer": {"enable": _FLAG, "type": ("choice", "normal", "super")},
    "dynconfig": {"refreshInterval": "duration"},
    "storage": {
        "server": {"ip": "ip", "tcpPort": "port", "tcpFastopen": _FLAG, "quicPort": "port"},
        "dir": "path",
        "keep": _FLAG,
        "writebackMode": ("choice", "sync", "async", "off"),
        "writePieceTimeout": "duration",
        "writeBufferSize": _COUNT,
        "readBufferSize": _COUNT,
        "cacheCapacity": "size",
    },
    "backend": {
        "requestHeader": {ANY: "secret"},
        "maxRetries": "int",
        "enableCacheTemporaryRedirect": _FLAG,
        "cacheTemporaryRedirectTTL": "duration",
        "putConcurrentChunkCount": _COUNT,
        "putChunkSize": "size",
        "putTimeout": "duration",
        "enableHickoryDNS": _FLAG,
    },
    "gc": {
        "interval": "duration",
        "policy": {
            "taskTTL": "duration",
            "persistentTaskTTL": "duration",
            "persistentCacheTaskTTL": "duration",
            "pageCacheIdleTimeout": "duration",
            "diskThreshold": "size",
            "diskHighThresholdPercent": _PERCENT,
            "diskLowThresholdPercent": _PERCENT,
        },
    },
    "proxy": {
        "server": {**_LISTENER, "requestRateLimit": _COUNT, "caCert": "path", "caKey": "path"},
        "rules": [
            {
                "regex": "regex",
                "useTLS": _FLAG,
                "redirect": "authority",
                "filteredQueryParams": ["str"],
                "schedulingPolicy": ("choice", "auto", "always"),
            }
        ],
        "registryMirror": {"addr": "url", "cert": "path", "enableTaskIDBasedBlobDigest": _FLAG},
        "disableBackToSource": _FLAG,
        "prefetch": _FLAG,
        "prefetchBandwidthLimit": "size",
        "readBufferSize": _COUNT,
    },
    "health": {"server": _LISTENER},
    "metrics": {"server": _LISTENER},
    "stats": {"server": _LISTENER},
    "tracing": {"protocol": ("choice", "http", "https", "grpc"), "endpoint": "str", "path": "path", "headers": {ANY: "secret"}},
    "network": {"enableIPv6": _FLAG},
}

_BLOCKED_DOWNLOAD = {"applications": ["str"], "urls": ["regex"], "tags": ["str"], "priorities": ["int"]}
_BLOCKED_UPLOAD = {"applications": ["str"], "urls": ["regex"], "tags": ["str"]}


def _block_list(persistent_task, persistent_cache_task):
    both = {"download": _BLOCKED_DOWNLOAD, "upload": _BLOCKED_UPLOAD}
    return {"task": {"download": _BLOCKED_DOWNLOAD}, persistent_task: both, persistent_cache_task: both}


DFDAEMON_DYNCONFIG = {
    "scheduler": {"addr": "authority", "addrs": ["ip:port"]},
    "clientConfig": {"blockList": _block_list("persistentTask", "persistentCacheTask")},
    "seedClientConfig": {"blockList": _block_list("persistentTask", "persistentCacheTask")},
}

_GO_OPTIONS = {
    "console": _FLAG,
    "pprofPort": "int",
    "tracing": {
        "protocol": ("choice", "http", "https", "grpc"),
        "endpoint": "str",
        "path": "path",
        "service-name": "str",
        "headers": {ANY: "secret"},
    },
}
_GO_LOG = {
    "logDir": "path",
    "logLevel": ("choice", "debug", "info", "warn", "error", "panic", "fatal"),
    "logMaxSize": _COUNT,
    "logMaxAge": _COUNT,
    "logMaxBackups": _COUNT,
    "pluginDir": "path",
}
_REDIS = {
    "addrs": ["host:port"],
    "masterName": "str",
    "username": "str",
    "password": "secret",
    "sentinelUsername": "str",
    "sentinelPassword": "secret",
    "brokerDB": "int",
    "backendDB": "int",
    "poolSize": _COUNT,
    "poolTimeout": "go duration",
    "tls": {**_MUTUAL_TLS, "insecureSkipVerify": _FLAG},
}

SCHEDULER = {
    **_GO_OPTIONS,
    "server": {
        "advertiseIP": "ip",
        "advertisePort": "port",
        "listenIP": "ip",
        "port": "port",
        "host": "str",
        "tls": _MUTUAL_TLS,
        "requestRateLimit": _COUNT,
        **_GO_LOG,
    },
    "scheduler": {
        "algorithm": ("choice", "default", "plugin"),
        "backToSourceCount": _COUNT,
        "retryBackToSourceLimit": _COUNT,
        "retryLimit": _COUNT,
        "retryInterval": "go duration",
        "gc": {
            "pieceDownloadTimeout": "go duration",
            "peerGCInterval": "go duration",
            "peerTTL": "go duration",
            "taskGCInterval": "go duration",
            "hostGCInterval": "go duration",
            "hostTTL": "go duration",
        },
    },
    "database": {"redis": _REDIS},
    "dynConfig": {"refreshInterval": "go duration"},
    "manager": {"addr": "authority", "tls": _MUTUAL_TLS, "schedulerClusterID": _COUNT, "keepAlive": {"interval": "go duration"}},
    "seedPeer": {"tls": _MUTUAL_TLS, "taskDownloadTimeout": "go duration"},
    "peer": {"tls": _MUTUAL_TLS},
    "host": {"idc": "str", "location": "str"},
    "job": {"enable": _FLAG, "globalWorkerNum": _COUNT, "schedulerWorkerNum": _COUNT, "localWorkerNum": _COUNT},
    "metrics": {"enable": _FLAG, "addr": "host:port", "enableHost": _FLAG},
    "network": {"enableIPv6": _FLAG},
}

_SCHEDULER_BLOCK_LIST = _block_list("persistent_task", "persistent_cache_task")

SCHEDULER_DYNCONFIG = {
    "applications": [{ANY: "anything"}],
    "seedPeerClusterConfig": {"loadLimit": ("int", 1, 50000), "blockList": _SCHEDULER_BLOCK_LIST},
    "schedulerClusterConfig": {
        "candidateParentLimit": ("int", 1, 20),
        "filterParentLimit": ("int", 10, 1000),
        "jobRateLimit": ("int", 1, 1000000),
    },
    "schedulerClusterClientConfig": {"loadLimit": ("int", 1, 2000), "blockList": _SCHEDULER_BLOCK_LIST},
}

MANAGER = {
    **_GO_OPTIONS,
    "server": {
        "name": "str",
        **_GO_LOG,
        "grpc": {
            "advertiseIP": "ip",
            "listenIP": "ip",
            "port": {"start": "port", "end": "port"},
            "tls": _MUTUAL_TLS,
            "requestRateLimit": _COUNT,
        },
        "rest": {"addr": "host:port", "tls": {"cert": "path", "key": "path"}},
    },
    "auth": {"jwt": {"realm": "str", "key": "secret", "timeout": "go duration", "maxRefresh": "go duration"}},
    "database": {
        "type": ("choice", "mysql", "mariadb", "postgres", "polardb"),
        "mysql": {
            "user": "str",
            "password": "secret",
            "host": "str",
            "port": "port",
            "dbname": "str",
            "tlsConfig": "str",
            "tls": {**_MUTUAL_TLS, "insecureSkipVerify": _FLAG},
            "migrate": _FLAG,
        },
        "postgres": {
            "user": "str",
            "password": "secret",
            "host": "str",
            "port": "port",
            "dbname": "str",
            "sslMode": "str",
            "preferSimpleProtocol": _FLAG,
            "timezone": "str",
            "migrate": _FLAG,
        },
        "polardb": {"user": "str", "password": "secret", "addrList": "str", "dbname": "str", "migrate": _FLAG},
        "redis": {**_REDIS, "db": "int", "proxy": {"enable": _FLAG, "addr": "host:port"}},
    },
    "cache": {"redis": {"ttl": "go duration"}, "local": {"size": _COUNT, "ttl": "go duration"}},
    "job": {
        "preheat": {"tls": {"insecureSkipVerify": _FLAG, "caCert": "str"}},
        "syncPeers": {"interval": "go duration", "timeout": "go duration", "batchSize": _COUNT},
    },
    "metrics": {"enable": _FLAG, "addr": "host:port"},
    "network": {"enableIPv6": _FLAG},
}

COMPONENTS = {
    "dfdaemon": DFDAEMON,
    "dfdaemon_dynconfig": DFDAEMON_DYNCONFIG,
    "scheduler": SCHEDULER,
    "scheduler_dynconfig": SCHEDULER_DYNCONFIG,
    "manager": MANAGER,
}

# Keys that a daemon knows and that nobody should set, with the reason.
FORBIDDEN = {
    "dfdaemon": {
        "proxy.server.basicAuth": "dfdaemon passes the password on to the origin, which breaks signed requests; keep the proxy on loopback",
        "security": "dfdaemon reads it and does nothing with it; set caCert, cert and key of upload.server, upload.client and scheduler",
    },
    "scheduler": {"job.redis": "it moved to database.redis"},
}


def _is_text(value):
    return isinstance(value, str) and value != ""


def _is_secret(value):
    return _is_text(value) and outer_problem(value) is None


def _is_number(value, low=0, high=1 << 63):
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_ip(value):
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return isinstance(value, str)


def _is_address(value, host_ok):
    if not isinstance(value, str):
        return False
    host, _colon, port = value.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        return _is_ip(host[1:-1]) and _is_port(port)
    return host_ok(host) and _is_port(port)


def _is_port(text):
    return re.fullmatch(r"[0-9]{1,5}", text) is not None and 1 <= int(text) <= 65535


def _is_regex(value):
    if not _is_text(value):
        return False
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError):
        return False
    return True


def _matches(pattern):
    compiled = re.compile(pattern, re.ASCII)
    # The end of a pattern is also before a line end.
    return lambda value: isinstance(value, str) and bool(compiled.match(value)) and not value.endswith("\n")


_HOST = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
_UNIT = r"(nsec|ns|usec|us|msec|ms|seconds|second|sec|s|minutes|minute|min|m|hours|hour|hrs|hr|h|days|day|d)"

# type name: (does the value fit, what belongs there)
TYPES = {
    "bool": (lambda value: isinstance(value, bool), "true or false"),
    "int": (_is_number, "a whole number"),
    "choice": (lambda value, *choices: value in choices, "one of"),
    "str": (_is_text, "a text"),
    "secret": (
        _is_secret,
        "a text without white space around it and without control characters (echo adds a line end, printf %s does not)",
    ),
    "anything": (lambda value: value is not None, "a value"),
    "path": (_matches(r"^/"), "an absolute path"),
    "ip": (_is_ip, "an IP address"),
    "port": (lambda value: _is_number(value, 1, 65535), "a port number from 1 to 65535"),
    "ip:port": (lambda value: _is_address(value, _is_ip), "an IP address and port, as in 10.0.0.1:8002"),
    "host:port": (lambda value: _is_address(value, lambda host: host == "" or re.fullmatch(_HOST, host)), "host:port"),
    "authority": (_matches(rf"^({_HOST}|\[[0-9a-fA-F:]+\])(:\d{{1,5}})?$"), "a host with an optional port and no scheme"),
    "url": (_matches(r"^https?://[^/\s@]+(/\S*)?\Z"), "a URL with its scheme and without a password, as in http://10.0.0.1:65003"),
    "regex": (_is_regex, "a regular expression"),
    "duration": (_matches(rf"^\s*\d+\s*{_UNIT}(\s*\d+\s*{_UNIT})*\s*$"), "a duration, as in 30s or 1h 30m"),
    "go duration": (_matches(r"^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$"), "a duration, as in 30s or 1h30m"),
    "size": (
        lambda value: _is_number(value) or _matches(r"(?i)^\d+(\.\d+)?\s*([kmgtp]i?)?b?$")(value),
        "a size, as in 512MiB or 100GB",
    ),
}
