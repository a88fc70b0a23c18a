# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ways to bring a file to hosts that are compared: what runs on a host from the barrier on, and what must be there before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from cells import ORIGINS

RUN = "/opt/bench/run"  # what a run leaves on a host
FILE = f"{RUN}/bench.mar"
CA = "/opt/bench/ca.crt"
AUTHORIZATION = "/opt/bench/authorization"
SOCKET = "/run/dragonfly/dfdaemon.sock"
DFGET = "/opt/dragonfly/client/current/dfget"
STORE = "/var/lib/modelfleet/models"
INCOMING = "/var/lib/modelfleet/incoming"
CACHE_PORT = 8088
MODEL = ("bench", "1.0")  # name and version in the manifest of the archive

# TorchServe's key changes with each start.
AUTHORIZE = f"""python3 -c 'import json
print("Authorization: Bearer " + json.load(open("/var/lib/torchserve/key_file.json"))["management"]["key"])' > {AUTHORIZATION}"""


class Job(NamedTuple):
    """One run, as a method sees it."""

    url: str  # signed, https
    key: str  # of the object
    sha256: str
    storage: dict  # as modelfleet_storage has it
    seed: str  # address of the seed peer


class Helper(NamedTuple):
    """A program that is up before the barrier: where, its command, and the files that it needs there."""

    host: str
    command: list
    files: dict = {}


class Method(NamedTuple):
    name: str
    title: str
    shape: str  # what its time is like, see cells.expected
    work: Callable[[Job], dict]  # what host.py is told
    settings: str = "ours"  # of the daemons: the collection's own, or those of the file <settings>.yml beside this one
    units: tuple = ()  # services on the hosts and on the seed peer that do the work
    held: str = ""  # who has the file before: nobody, "seed" or "host"
    one_host: bool = False
    origins: tuple = tuple(ORIGINS)  # where it is measured
    torchserve: bool = False
    helper: Callable[[Job], Helper] | None = None


def dfget(job: Job, output: str) -> list:
    """Under the name that the collection gives the task."""
    task = f"sha256:{job.sha256};piece_length=auto"
    return [DFGET, job.url, f"--output={output}", f"--endpoint={SOCKET}", f"--content-for-calculating-task-id={task}", "--no-progress"]


def model_artifact(job: Job) -> dict:
    name, version = MODEL
    artifact = {"name": name, "version": version, "object": job.key, "sha256": job.sha256}
    return {"module": "model_artifact", "arguments": {"storage": job.storage, "artifacts": [artifact]}, "output": archive(job)}


def archive(job: Job) -> str:
    return f"{STORE}/{MODEL[0]}-{MODEL[1]}-{job.sha256[:12]}.mar"


def register(path: str, **query: str) -> list:
    text = "&".join(f"{name}={quote(value, safe='')}" for name, value in {**query, "initial_workers": "0"}.items())
    return [
        "curl",
        "--fail-with-body",
        "--silent",
        "--request",
        "POST",
        "--header",
        f"@{AUTHORIZATION}",
        f"http://127.0.0.1:8081{path}?{text}",
    ]


def plugin(job: Job) -> dict:
    return {"command": register("/dragonfly/models", file_name=job.key, sha256=job.sha256), "output": archive(job), "before": AUTHORIZE}


def torchserve(job: Job) -> dict:
    """Its own download. Its Java does not trust the lab's CA, so this one is plain HTTP."""
    plain = job.url.replace("https://", "http://", 1)
    return {"command": register("/models", url=plain), "output": f"{STORE}/{Path(job.key).name}", "before": AUTHORIZE}


def dfget_upstream(job: Job) -> dict:
    """As its documentation has it: a task is named by its URL, and every peer may go to the origin."""
    output = f"{INCOMING}/bench.mar"
    return {"command": [DFGET, job.url, f"--output={output}", f"--endpoint={SOCKET}", "--no-progress"], "output": output}


def curl(job: Job) -> dict:
    return {"command": ["curl", "--fail", "--silent", "--cacert", CA, "--output", FILE, job.url], "output": FILE}


def aria2(job: Job) -> dict:
    where = [f"--ca-certificate={CA}", f"--dir={RUN}", "--out=bench.mar"]
    return {"command": ["aria2c", "-x8", "-s8", "--quiet", *where, job.url], "output": FILE}


def rclone(job: Job) -> dict:
    (s3,) = job.storage.values()
    remote = {
        "TYPE": "s3",
        "PROVIDER": "AWS",
        "REGION": s3["region"],
        "ACCESS_KEY_ID": s3["access_key"],
        "SECRET_ACCESS_KEY": s3["secret_key"],
    }
    streams = ["--multi-thread-streams", "8", "--multi-thread-cutoff", "32M"]
    options = ["--config", "/dev/null", "--ca-cert", CA, "--s3-no-check-bucket", *streams]
    return {
        "command": ["rclone", "copyto", *options, f"origin:{s3['bucket']}/{job.key}", FILE],
        "environment": {f"RCLONE_CONFIG_ORIGIN_{name}": value for name, value in remote.items()},
        "output": FILE,
    }


def nginx(job: Job) -> dict:
    path = job.url.split("/", 3)[3]
    url = f"http://{job.seed}:{CACHE_PORT}/{path}"
    return {"command": ["curl", "--fail", "--silent", "--output", FILE, url], "output": FILE}


def nginx_cache(job: Job) -> Helper:
    config = Path(__file__).with_name("nginx.conf").read_text(encoding="utf-8")
    config = config.replace("@ORIGIN@", job.url.split("/", 3)[2]).replace("@PORT@", str(CACHE_PORT))
    return Helper("seed-1", ["nginx", "-c", f"{RUN}/nginx.conf"], {f"{RUN}/nginx.conf": config})


TRACKER_ONLY = ["--enable-dht=false", "--enable-dht6=false", "--bt-enable-lpd=false"]
SWARM = ["aria2c", "--quiet", *TRACKER_ONLY, "--seed-ratio=0.0", f"--dir={RUN}"]


def bittorrent(job: Job) -> dict:
    """It goes on seeding until every host has the file."""
    return {
        "command": [*SWARM, f"--on-bt-download-complete={RUN}/done.sh", f"{RUN}/bench.torrent"],
        "files": {f"{RUN}/done.sh": f"#!/bin/sh\nexec touch {RUN}/done\n"},
        "output": FILE,
        "done": f"{RUN}/done",
        "torrent": f"{RUN}/bench.torrent",
    }


def bittorrent_seeder(job: Job) -> Helper:
    """Beside the object store, so that its link is that of the origin."""
    return Helper("origin", [*SWARM, "--bt-seed-unverified=true", "--allow-overwrite=true", f"{RUN}/bench.torrent"])


DRAGONFLY = ("dfdaemon.service",)
TORCHSERVE = (*DRAGONFLY, "torchserve.service")
METHODS = {
    method.name: method
    for method in (
        Method("ours", "model_artifact", "peers", model_artifact, units=DRAGONFLY),
        Method("ours-known", "model_artifact, origin's rate set", "peers", model_artifact, "known", units=DRAGONFLY, origins=("slow",)),
        Method("plugin", "endpoint plugin", "peers", plugin, units=TORCHSERVE, torchserve=True),
        Method("dfget", "dfget, upstream's defaults", "peers", dfget_upstream, settings="upstream", units=DRAGONFLY),
        Method("curl", "curl", "direct", curl),
        Method("aria2", "aria2 -x8", "direct", aria2),
        Method("rclone", "rclone, 8 streams", "direct", rclone),
        Method("nginx", "one nginx cache", "cache", nginx, helper=nginx_cache),
        Method("bittorrent", "BitTorrent, one seeder", "peers", bittorrent, helper=bittorrent_seeder),
        Method("ours-remote", "model_artifact, a peer has it", "hit", model_artifact, units=DRAGONFLY, held="seed", one_host=True),
        Method("ours-local", "model_artifact, dfdaemon has it", "hit", model_artifact, units=DRAGONFLY, held="host", one_host=True),
        Method("torchserve", "TorchServe, direct", "direct", torchserve, units=("torchserve.service",), one_host=True, torchserve=True),
        Method("plugin-remote", "plugin, a peer has it", "hit", plugin, units=TORCHSERVE, held="seed", one_host=True, torchserve=True),
        Method("plugin-local", "plugin, dfdaemon has it", "hit", plugin, units=TORCHSERVE, held="host", one_host=True, torchserve=True),
    )
}
QUICK = ("ours", "curl", "nginx", "bittorrent")
