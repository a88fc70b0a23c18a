# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The play pin against a hub: what it writes is what the other plays read, and nobody is shown the token."""

from __future__ import annotations

import sys

import pytest
import yaml
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_dragonfly import FakeDragonfly
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub

TOKEN = "cGxhbnRlZC10b2tlbg"
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}


@pytest.fixture
def hub(tmp_path):
    directory = tmp_path / "hub"
    directory.mkdir()
    cdn = FakeDragonfly(directory)
    fake = FakeHub(cdn)
    fake.tokens = {TOKEN}
    yield fake
    fake.close()
    cdn.close()


@pytest.fixture
def inventory(tmp_path, hub):
    """A fleet on this machine, with a model that all have, one that a host has, and one that goes."""
    source = {"endpoint": hub.url, "token_endpoint": hub.url, "token": TOKEN}
    bert = {"name": "bert", "version": "1", "huggingface": {"repo": "org/bert", "revision": "main", "include": ["*.json"]}}
    other = {"name": "other", "version": "1", "huggingface": {"repo": "org/other", "revision": "main"}}
    gone = {"name": "gone", "version": "1", "state": "absent", "huggingface": {"repo": "org/gone", "revision": "main"}}
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "ansible_become": False,
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "modelfleet_huggingface": source,
        "modelfleet_models": [bert, gone],
    }
    hosts = {
        "gpu-1": {"modelfleet_address": "10.0.0.3"},
        "gpu-2": {"modelfleet_address": "10.0.0.4", "modelfleet_models": [bert, other]},
    }
    place = tmp_path / "inventory"
    (place / "group_vars/all").mkdir(parents=True)
    (place / "group_vars/all/fleet.yml").write_text(yaml.safe_dump(common))
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"gpu_hosts": {"hosts": hosts}}}}))
    return place


def test_pins_what_the_hosts_have_and_prints_the_commits(run, inventory, hub):
    commits = {repo: hub.commit(repo, files) for repo, files in (("org/bert", FILES), ("org/other", {"a.json": b"1"}))}
    hub.repositories["org/bert"].granted, hub.repositories["org/bert"].private = {TOKEN}, True
    lock = inventory / "group_vars/all/huggingface.lock.yml"

    def pin(*options):
        done = run("ansible-playbook", "-i", inventory, "-vvv", "--diff", "playbooks/pin.yml", *options)
        assert TOKEN not in done.stdout
        return done.returncode, " ".join(done.stdout.split())

    code, output = pin("--check")
    assert code == 0 and "changed=1 " in output and not lock.exists(), output
    code, output = pin()
    assert code == 0 and "changed=1 " in output, output
    pins = yaml.safe_load(lock.read_text())["modelfleet_huggingface_pins"]
    assert pins == {f"{repo}@{commit}": {"revision": "main", "files": hub.listing(repo, commit)} for repo, commit in commits.items()}
    for repo, commit in commits.items():
        assert f"commit: {commit}" in output and f"repo: {repo}" in output
    assert "org/gone" not in " ".join(path for _method, path, _token in hub.asked)
    code, output = pin()
    assert code == 0 and "changed=0 " in output and "changed=1 " not in output, output
