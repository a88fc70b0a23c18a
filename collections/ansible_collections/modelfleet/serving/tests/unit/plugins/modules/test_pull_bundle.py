# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import pull_bundle

pytestmark = pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen")
SECRET = "cGxhbnRlZC1zZWNyZXQ"


def key(path, *options):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", *options, "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    top = tmp_path_factory.mktemp("keys")
    return [key(top / name) for name in ("first", "second")]


@pytest.fixture
def inventory(tmp_path):
    top = tmp_path / "prod"
    (top / "group_vars/all").mkdir(parents=True)
    (top / "hosts.yml").write_text("all: {hosts: {gpu-1: }}\n")
    (top / "group_vars/all/modelfleet.yml").write_text('modelfleet_storage: {s3: {secret_key: "{{ vault_key }}"}}\n')
    (top / "group_vars/all/vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n3132\n")
    (top / "run.sh").write_text("#!/bin/sh\n")
    (top / "run.sh").chmod(0o750)
    (top / ".git").mkdir()
    (top / ".git/config").write_text("x")
    return top


@pytest.fixture
def publish(run_module, tmp_path, inventory, keys):
    """Run the module on the inventory."""

    def run(check=False, diff=False, **changes):
        args = {
            "dest": str(tmp_path / "www/fleet"),
            "sources": [{"src": str(inventory), "path": "inventory"}],
            "exclude": [".git"],
            "signing_key": str(keys[0]),
            **changes,
        }
        return run_module(pull_bundle.main, args, check=check, diff=diff)

    run.dest = tmp_path / "www/fleet"
    return run


def current(publish):
    said, _begin, _rest = (publish.dest / "current").read_text().partition(pull_bundle.SIGNATURE)
    return json.loads(said)


def verified(publish, signer):
    """Whether a host that knows this signer would take what is current, as ssh-keygen itself says."""
    said, begin, rest = (publish.dest / "current").read_text().partition(pull_bundle.SIGNATURE)
    signers, signature = publish.dest.parent / "signers", publish.dest.parent / "signature"
    signers.write_text(f"modelfleet-pull {signer.with_suffix('.pub').read_text()}")
    signature.write_text(begin + rest)
    command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "modelfleet-pull", "-n", "modelfleet-pull", "-s", signature]
    return subprocess.run(command, input=said, text=True, capture_output=True, check=False).returncode == 0


def test_a_bundle_has_the_files_and_nothing_that_is_encrypted(publish, keys):
    result = publish(diff=True)
    assert result["changed"] and (result["serial"], result["files"]) == (1, 3)
    assert result["left_out"] == ["inventory/group_vars/all/vault.yml"]
    assert result["diff"]["after"] == f"{result['sha256']}\n"
    archive = publish.dest / f"{result['sha256']}.tar.gz"
    assert archive.stat().st_size == result["bytes"] and archive.stat().st_mode & 0o777 == 0o644
    with tarfile.open(archive) as tar:
        found = {entry.name: (entry.mode, entry.mtime, entry.uid, entry.uname) for entry in tar}
    assert found == {
        "inventory/group_vars/all/modelfleet.yml": (0o644, 0, 0, ""),
        "inventory/hosts.yml": (0o644, 0, 0, ""),
        "inventory/run.sh": (0o755, 0, 0, ""),
    }
    assert current(publish) == {"format": 1, "serial": 1, "sha256": result["sha256"], "bytes": result["bytes"]}
    assert verified(publish, keys[0]) and not verified(publish, keys[1])


def test_the_same_files_are_the_same_bundle(publish, inventory):
    first = publish()
    os.utime(inventory / "hosts.yml", (1, 1))
    again = publish()
    assert not again["changed"]
    assert (again["sha256"], again["serial"]) == (first["sha256"], 1)
    (inventory / "hosts.yml").write_text("all: {hosts: {gpu-2: }}\n")
    other = publish()
    assert other["changed"] and other["serial"] == 2 and other["sha256"] != first["sha256"]
    # Whoever has read the old one finds what it names.
    assert (publish.dest / f"{first['sha256']}.tar.gz").exists()


def test_a_key_that_is_new_signs_the_same_bundle(publish, keys):
    publish()
    result = publish(signing_key=str(keys[1]))
    assert result["changed"] and result["serial"] == 1
    assert verified(publish, keys[1])
    assert not publish(signing_key=str(keys[1]))["changed"]


def test_what_was_altered_or_lost_is_published_again(publish, keys):
    result = publish()
    (publish.dest / f"{result['sha256']}.tar.gz").write_bytes(b"other")
    assert publish()["changed"]
    text = (publish.dest / "current").read_text()
    (publish.dest / "current").write_text(text.replace('"serial": 1', '"serial": 9'))
    assert publish()["changed"] and verified(publish, keys[0])


def test_check_mode_writes_nothing_and_says_what_it_would(publish):
    result = publish(check=True)
    assert result["changed"] and result["serial"] == 1
    assert not publish.dest.exists()


@pytest.mark.parametrize("text", [f"secret_key: {SECRET}\n", f"a: x{SECRET}x"])
def test_a_secret_stops_it_and_is_not_shown(publish, inventory, text):
    (inventory / "group_vars/all/extra.yml").write_text(text)
    result = publish(secrets=[SECRET, "short"])
    assert result["failed"] and f"a secret stands in {inventory}/group_vars/all/extra.yml" in result["msg"]
    assert SECRET not in json.dumps(dict(result)) and not publish.dest.exists()
    assert not publish(secrets=["other-secret", "all"]).get("failed"), "a text of few characters stands anywhere"


def test_a_value_that_is_encrypted_stops_it(publish, inventory):
    (inventory / "group_vars/all/extra.yml").write_text("a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  31\n")
    result = publish()
    assert result["failed"] and "has values that ansible-vault encrypted" in result["msg"] and "pull_secret_variables" in result["msg"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"signing_key": "/nonexistent/key"}, "the key /nonexistent/key cannot be read"),
        ({"sources": [{"src": "/nonexistent/inventory", "path": "inventory"}]}, "there is no /nonexistent/inventory"),
        ({"sources": [{"src": "/etc/hostname", "path": "../x"}]}, "the path '../x' is none in an archive"),
        ({"sources": [{"src": "/etc/hostname", "path": "/x"}]}, "the path '/x' is none in an archive"),
        ({"exclude": ["*"]}, "there is nothing to pack"),
        ({"dest": "/proc/none"}, "Failed to make the bundle"),
    ],
)
def test_what_cannot_be_is_one_sentence(publish, changes, words):
    result = publish(**changes)
    assert result["failed"] and words in result["msg"] and "Traceback" not in result["msg"]


def test_a_directory_that_is_none_of_an_inventory_is_refused(publish, monkeypatch):
    monkeypatch.setattr(pull_bundle, "MOST_FILES", 2)
    result = publish()
    assert result["failed"] and "more than 2 files" in result["msg"]


def test_two_files_of_one_name_are_refused(publish, inventory):
    sources = [{"src": str(inventory / "hosts.yml"), "path": "a"}, {"src": str(inventory / "run.sh"), "path": "a"}]
    result = publish(sources=sources)
    assert result["failed"] and "would both be a" in result["msg"]


def test_a_link_to_a_directory_is_refused(publish, inventory, tmp_path):
    (inventory / "link").symlink_to(tmp_path)
    result = publish()
    assert result["failed"] and f"{inventory}/link is a link to a directory" in result["msg"]
    assert not publish(exclude=[".git", "link"]).get("failed")


def test_a_lost_number_is_not_made_up(publish):
    publish()
    (publish.dest / "current").write_text("other")
    result = publish()
    assert result["failed"] and "hosts take no bundle whose number is less" in result["msg"]


def test_a_key_with_a_passphrase_is_refused_and_not_asked_for(publish, tmp_path):
    closed = tmp_path / "closed"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "passphrase", "-f", closed], check=True, start_new_session=True)
    result = publish(signing_key=str(closed))
    assert result["failed"] and "load it into an agent" in result["msg"]
