"""What the scenario's tests share: the hub's back door, the plays with a token for each host, and the hub's own client on a host."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from fleet import GPU_HOSTS, REPOSITORY, Kept, Scenario

SCENARIO = Scenario("huggingface")
KEPT = Kept(SCENARIO)
HUB, CDN, MIRROR = "huggingface.co", "cdn-lfs.hf.co", "hub.mirror.example"
HOME = "/var/lib/modelfleet/huggingface"
GROUP = "modelfleet-hf"
LOCK = REPOSITORY / ".cache" / SCENARIO.lab_name / "huggingface.lock.yml"
TOKENS = yaml.safe_load((SCENARIO.directory / "inventory/group_vars/all/hub.yml").read_text(encoding="utf-8"))["lab_tokens"]
VERSIONS = ("0.36", "2.4")
SEEN = {}  # what the tables at the end show
# Beside the large files, as a model has them.
SMALL = {
    "config.json": '{"model_type": "bert", "hidden_size": 8}\n',
    "generation_config.json": "{}\n",
    "tokenizer.json": '{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}}}\n',
    "tokenizer_config.json": "{}\n",
    "special_tokens_map.json": "{}\n",
    "vocab.txt": "a\nb\n",
    "merges.txt": "a b\n",
    "README.md": "# A model of the lab\n",
    "1_Pooling/config.json": '{"pooling_mode_mean_tokens": true}\n',
    "model.safetensors.index.json": '{"metadata": {}, "weight_map": {}}\n',
}
PROXY = f"http://{SCENARIO.settings['lab_network_prefix']}.10:3128"
# By which the origin knows who asks; the proxy of the controller is the origin itself.
ADDRESSES = {name: f"{SCENARIO.settings['lab_network_prefix']}.2{name[-1]}" for name in GPU_HOSTS}
CONTROLLER = "127.0.0.1"
# How often the hub is asked for the small files of a model: once for each content, and each leads to another address there.
SMALL_REQUESTS = 2 * len(set(SMALL.values()))


def weights(seed, size_mib):
    """A safetensors file of one tensor."""
    data = random.Random(seed).randbytes(size_mib << 20)
    return safetensors({"weight": ([len(data) // 4], data)})


def safetensors(tensors):
    """A file of {name: (shape, its numbers, four bytes each)}: eight bytes of length, a header in JSON, the numbers."""
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, begin + len(data)]}
        begin += len(data)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"".join(data for _shape, data in tensors.values())


@dataclass
class Model:
    """A repository at the hub, and the entry of modelfleet_models that a user writes for it."""

    origin: object
    repo: str
    entry: dict = field(default_factory=dict)
    large: dict = field(default_factory=dict)  # path: sha256
    size: int = 0
    commits: list = field(default_factory=list)

    @property
    def commit(self):
        return self.commits[-1]

    def put(self, large=None, small=None, **more):
        """Commit these files; the branch has those of before, too."""
        files = {}
        for path, content in (large or {}).items():
            self.large[path] = self.origin.call("PUT", "/hub/blobs", content)["sha256"]
            assert self.large[path] == hashlib.sha256(content).hexdigest()
            self.size += len(content)
            files[path] = {"sha256": self.large[path]}
        for path, text in (small or {}).items():
            self.size += len(text.encode())
            files[path] = {"text": text}
        made = self.origin.call("PUT", f"/hub/commits/{self.repo}", json.dumps({"files": files, **more}).encode())
        self.commits.append(made["commit"])
        return self

    def set(self, **settings):
        self.origin.call("PUT", f"/hub/repositories/{self.repo}", json.dumps(settings).encode())

    def wanted(self, **more):
        """The entry with the newest commit."""
        source = {"repo": self.repo, "revision": self.commit, **more}
        return {"name": self.repo.replace("/", "-"), "version": self.commit[:7], "huggingface": source}

    def folder(self, group=GROUP):
        return f"{HOME}/{group}/hub/models--{self.repo.replace('/', '--')}"

    def snapshot(self, group=GROUP, commit=None):
        return f"{self.folder(group)}/snapshots/{commit or self.commit}"


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts()


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def repository(origin):
    """A callable that puts a model into the hub: size_mib in each of its large files, and ten small ones."""

    def make(repo, size_mib=6, files=1, seed=None, **settings):
        seed = seed if seed is not None else repo
        model = Model(origin, repo)
        model.put({f"model-{n + 1:05}-of-{files:05}.safetensors": weights(f"{seed} {n}", size_mib) for n in range(files)}, SMALL)
        if settings:
            model.set(**settings)
        return model

    return make


_RUNS = iter(range(1, 1000))


def play(playbook, models=(), users=None, limit=None, **variables):
    """A play with these entries of modelfleet_models and a user of the hub for each host, everybody ``alice`` without."""
    users = users if users is not None else dict.fromkeys(("localhost", *GPU_HOSTS), "alice")
    extra = {"modelfleet_models": list(models), "lab_users": users, **variables}
    pins = ["-e", f"@{LOCK}"] if LOCK.exists() else []
    hosts = ["--limit", limit] if limit else []
    name = f"{next(_RUNS):03}-{Path(playbook).stem}"
    return KEPT.play(name, playbook, *hosts, *pins, "-e", json.dumps(extra), HTTPS_PROXY=PROXY, no_proxy="127.0.0.1,localhost")


def pin(*models, **variables):
    """Have the files of the models' newest commits in the lock, as a user has them there."""
    finished = play("playbooks/pin.yml", [model.wanted() for model in models], **variables)
    assert finished.returncode == 0, finished.stdout[-3000:]
    return finished


def distribute(*models, **more):
    """Bring what the entries, or the models at their newest commits, are made of to the fleet."""
    return play("playbooks/distribute.yml", [model.wanted() if isinstance(model, Model) else model for model in models], **more)


def asked(origin):
    """{hub, CDN or mirror: {"bytes": …, "requests": …, "by": {address: requests}}} since the counters were cleared."""
    found = {host: {"bytes": 0, "requests": 0, "by": {}} for host in (HUB, CDN, MIRROR)}
    for name, row in origin.call("GET", "/counters")["objects"].items():
        host = name.partition("/")[0]
        if host in found:
            found[host]["bytes"] += row["bytes"]
            found[host]["requests"] += row["requests"]
            for client, counted in row["clients"].items():
                found[host]["by"][client] = found[host]["by"].get(client, 0) + counted["requests"]
    return found


def unwrapped(text):
    """What was said, without where Ansible or a terminal broke it."""
    return " ".join(text.replace("''", "'").split())


# -- the hub's own client ----------------------------------------------------------------------------------------------

CLIENT = "/opt/huggingface"


@pytest.fixture(scope="session")
def clients(fleet):
    """Both versions of huggingface_hub on the hosts, each with safetensors beside it, and a user who may read what they find."""
    for name in GPU_HOSTS:
        # The play that brings the first model makes it as well.
        fleet[name].check_output("groupadd --force --system %s && usermod --append --groups %s alice", GROUP, GROUP)
    for version in VERSIONS:
        done = subprocess.run([REPOSITORY / "lab/huggingface/install", version], capture_output=True, text=True, check=True)
        site = Path(done.stdout.strip()).parents[1] / "lib"
        (packages,) = site.glob("python*/site-packages")
        for name in GPU_HOSTS:
            host = fleet[name]
            host.check_output("mkdir -p %s", CLIENT)
            subprocess.run(["podman", "cp", packages, f"{host.container}:{CLIENT}/{version}"], check=True)
    return VERSIONS


OFFLINE = """
import hashlib, json, os, sys
import huggingface_hub
import safetensors.torch
repo, files = sys.argv[1], sys.argv[2:]
found = {"version": huggingface_hub.__version__}
found["snapshot"] = huggingface_hub.snapshot_download(repo)
found["config"] = json.load(open(huggingface_hub.hf_hub_download(repo, "config.json")))
found["files"] = sorted(
    os.path.relpath(os.path.join(parent, name), found["snapshot"]) for parent, _d, names in os.walk(found["snapshot"]) for name in names
)
found["revisions"] = [
    revision.commit_hash for one in huggingface_hub.scan_cache_dir().repos if one.repo_id == repo for revision in one.revisions
]
found["tensors"] = {}
for name in files:
    tensor = safetensors.torch.load_file(huggingface_hub.hf_hub_download(repo, name))["weight"]
    found["tensors"][name] = hashlib.sha256(tensor.numpy().tobytes()).hexdigest()
print(json.dumps(found))
"""


def offline(host, version, model, user="alice", group=GROUP, program=OFFLINE):
    """What the hub's own client, or another program, finds as a user of the host without asking anybody; the finished process."""
    environment = f"set -a; . {HOME}/{group}.env; PYTHONPATH={CLIENT}/{version} exec python3 -B -c"
    command = "runuser -u %s -- sh -c %s"
    return host.run(command + " %s %s " + "%s " * len(model.large), user, f'{environment} "$0" "$@"', program, model.repo, *model.large)


def pytest_terminal_summary(terminalreporter):
    """The scenario's results, as tables that a person can read."""
    for title, rows in SEEN.items():
        terminalreporter.section(title)
        widths = [max(len(str(row[n])) for row in rows) for n in range(len(rows[0]))]
        for row in rows:
            terminalreporter.write_line("  ".join(f"{cell!s:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
