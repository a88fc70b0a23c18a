# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host in pull mode: what it takes and what it refuses, with the real ssh-keygen and an ansible-playbook that notes how it was called."""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import tarfile

import pytest
import yaml
from test_repository import COLLECTION

PROGRAM = COLLECTION / "roles/pull/files/pull.py"
# In the place of Ansible: notes its arguments and shows a recap.
PLAYBOOK = """#!{python}
import json, os, sys
with open({calls!r}, "w") as file:
    json.dump({{"argv": sys.argv[1:], "environment": dict(os.environ)}}, file)
print("PLAY RECAP ****")
print("gpu-1                      : ok=9    changed=3    unreachable=0    failed=%d    skipped=1" % {failed})
sys.exit({status})
"""


def archive(files, kind=tarfile.REGTYPE):
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.size = kind, len(text)
            entry.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            tar.addfile(entry, io.BytesIO(text))
    return content.getvalue()


FILES = {"inventory/hosts.yml": b"all: {}\n", "plugin.jar": b"jar", "ansible_collections/modelfleet/serving/galaxy.yml": b"x"}


class Host:
    """A host with its configuration, and the directory that is published for it."""

    def __init__(self, top):
        self.top, self.www, self.state = top, top / "www", top / "state"
        for directory in (self.www, self.state, top / "venv/bin"):
            directory.mkdir(parents=True)
        for name in ("known", "other"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", top / name], check=True)
        public = (top / "known.pub").read_text()
        (top / "signers").write_text(f'modelfleet-pull namespaces="modelfleet-pull" {public}')
        self.config = {
            "name": "gpu-1",
            "url": f"file://{self.www}",
            "ca": "",
            "signers": str(top / "signers"),
            "secrets": "/etc/modelfleet-pull/secrets.json",
            "inventory": "/etc/modelfleet-pull/host.json",
            "environment": str(top / "venv"),
            "state": str(self.state),
            "textfile": str(top / "modelfleet_pull.prom"),
            "timeout_s": 10,
            "check": False,
            "variables": {"modelfleet_pki_ca_path": "/etc/modelfleet-pull/ca.pem"},
        }
        self.ansible()

    def ansible(self, status=0, failed=0):
        program = self.top / "venv/bin/ansible-playbook"
        text = PLAYBOOK.format(python=sys.executable, calls=str(self.top / "calls"), status=status, failed=failed)
        program.write_text(text)
        program.chmod(0o755)

    def publish(self, serial=1, content=None, key="known", namespace="modelfleet-pull", alter=lambda text: text, **said):
        content = archive(FILES) if content is None else content
        sha256 = hashlib.sha256(content).hexdigest()
        (self.www / f"{sha256}.tar.gz").write_bytes(content)
        text = json.dumps({"format": 1, "serial": serial, "sha256": sha256, "bytes": len(content), **said}) + "\n"
        place = self.top / "to-sign"
        place.write_text(text)
        signature = self.top / "to-sign.sig"
        signature.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", self.top / key, "-n", namespace, place], check=True, capture_output=True)
        (self.www / "current").write_text(alter(text + signature.read_text()))
        return sha256

    def run(self, **config):
        """Run the program; return (status, what the status file says, how Ansible was called or None)."""
        calls = self.top / "calls"
        calls.unlink(missing_ok=True)
        (self.top / "pull.json").write_text(json.dumps({**self.config, **config}))
        done = subprocess.run(
            [sys.executable, "-I", PROGRAM, "--config", self.top / "pull.json"], capture_output=True, text=True, check=False
        )
        assert "Traceback" not in done.stderr, done.stderr
        return (
            done.returncode,
            json.loads((self.state / "status.json").read_text()),
            json.loads(calls.read_text()) if calls.exists() else None,
        )

    def metrics(self):
        lines = (self.top / "modelfleet_pull.prom").read_text().splitlines()
        return {name: float(value) for name, _space, value in (line.partition(" ") for line in lines if not line.startswith("#"))}


@pytest.fixture
def host(tmp_path):
    return Host(tmp_path)


def test_a_host_sets_itself_up_and_nobody_else(host):
    sha256 = host.publish(serial=7)
    status, said, call = host.run()
    assert (status, said["result"], said["serial"], said["sha256"], said["changed"], said["problem"]) == (0, "ok", 7, sha256, 3, "")
    place = host.state / "bundles" / sha256
    argv = call["argv"]
    assert argv[:4] == ["--inventory", f"{place}/inventory", "--inventory", "/etc/modelfleet-pull/host.json"]
    assert argv[4:7] == ["modelfleet.serving.site", "--limit", "gpu-1"]
    variables = json.loads(argv[argv.index("--extra-vars") + 1])
    assert variables["endpoint_plugin_jar"] == f"{place}/plugin.jar" and "torchserve_wheelhouse" not in variables, "there are no wheels"
    assert variables["modelfleet_pki_ca_path"] == "/etc/modelfleet-pull/ca.pem"
    assert argv[-1] == "@/etc/modelfleet-pull/secrets.json" and "--check" not in argv
    assert call["environment"]["ANSIBLE_COLLECTIONS_PATH"] == str(place) and call["environment"]["HOME"].startswith(str(host.state))
    assert (place / "inventory/hosts.yml").read_text() == "all: {}\n"
    assert host.metrics()["modelfleet_pull_ok"] == 1 and host.metrics()["modelfleet_pull_serial"] == 7
    assert host.metrics()["modelfleet_pull_last_success_timestamp_seconds"] > 1e9
    assert (host.state / "log").stat().st_mode & 0o777 == 0o600


def test_it_only_looks_where_it_should(host):
    host.publish()
    _status, said, call = host.run(check=True, secrets="")
    assert "--check" in call["argv"] and not any(word.startswith("@") for word in call["argv"])
    assert said["check"] is True


def test_what_is_there_is_not_fetched_again_and_the_old_one_goes(host):
    sha256 = host.publish(serial=1)
    host.run()
    (host.www / f"{sha256}.tar.gz").unlink()
    assert host.run()[0] == 0
    other = host.publish(serial=2, content=archive({**FILES, "new": b"x"}))
    assert host.run()[1]["serial"] == 2
    assert [path.name for path in (host.state / "bundles").iterdir()] == [other]


def test_a_play_that_fails_is_said_and_the_last_success_stays(host):
    host.publish()
    host.run()
    before = host.metrics()["modelfleet_pull_last_success_timestamp_seconds"]
    host.ansible(status=2, failed=1)
    status, said, _call = host.run()
    assert (status, said["result"]) == (1, "failed") and "the play ended with 2" in said["problem"]
    assert host.metrics()["modelfleet_pull_ok"] == 0
    assert host.metrics()["modelfleet_pull_last_success_timestamp_seconds"] == before


def test_a_host_that_is_in_the_bundle_no_more_is_said(host):
    host.publish()
    status, said, _call = host.run(name="gpu-2")
    assert status == 1 and "did not come to this host (gpu-2)" in said["problem"]


@pytest.mark.parametrize(
    ("published", "words"),
    [
        ({"key": "other"}, "the signature of the bundle is not good"),
        ({"namespace": "git"}, "the signature of the bundle is not good"),
        ({"alter": lambda text: text.replace('"serial": 2', '"serial": 3')}, "the signature of the bundle is not good"),
        ({"alter": lambda text: text.partition("-----BEGIN")[0]}, "is not signed"),
        ({"alter": lambda text: text + "x" * 70000}, "is longer than such a file is"),
        ({"format": 2}, "is of another release"),
        ({"sha256": "../../etc"}, "is of another release"),
        ({"serial": "7"}, "cannot be read"),
        ({"bytes": 5, "content": archive({**FILES, "new": b"x"})}, "is not what was signed"),
        ({"content": archive({"../x": b"x"})}, "is no plain file"),
        ({"content": archive({"/etc/x": b"x"})}, "is no plain file"),
        ({"content": archive({"link": b""}, tarfile.SYMTYPE)}, "is no plain file"),
        ({"content": b"no archive"}, "cannot be unpacked"),
    ],
)
def test_what_is_not_good_is_refused_and_nothing_is_run(host, published, words):
    host.publish(serial=1)
    host.run()
    host.publish(**{"serial": 2, **published})
    status, said, call = host.run()
    assert (status, said["result"], call) == (1, "refused", None) and words in said["problem"], said
    assert said["serial"] == 1, "what was taken before"
    assert host.metrics()["modelfleet_pull_ok"] == 0


def test_an_older_bundle_is_not_taken_even_where_it_is_signed(host):
    host.publish(serial=5)
    host.run()
    host.publish(serial=4, content=archive({**FILES, "old": b"x"}))
    status, said, call = host.run()
    assert status == 1 and call is None and "bundle 4 is older than bundle 5" in said["problem"]


def test_an_archive_that_was_altered_is_refused(host):
    sha256 = host.publish()
    path = host.www / f"{sha256}.tar.gz"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    status, said, call = host.run()
    assert status == 1 and call is None and "is not what was signed" in said["problem"]
    assert list((host.state / "bundles").iterdir()) == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/fleet", "neither https nor file"),
        ("https://127.0.0.1:1/fleet", "cannot be read"),
        ("file:///nonexistent", "cannot be read"),
    ],
)
def test_a_server_that_is_not_there_is_said(host, url, words):
    status, said, call = host.run(url=url)
    assert (status, said["result"], call) == (1, "refused", None) and words in said["problem"]
    assert host.metrics()["modelfleet_pull_last_success_timestamp_seconds"] == 0


def test_the_module_and_the_program_mean_the_same():
    spec = importlib.util.spec_from_file_location("pull", PROGRAM)
    pull = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pull)
    sys.path.insert(0, str(COLLECTION.parents[2]))
    from ansible_collections.modelfleet.serving.plugins.modules import pull_bundle

    for name in ("NAMESPACE", "FORMAT", "SIGNATURE", "MOST_FILES"):
        assert getattr(pull, name) == getattr(pull_bundle, name)


class TestPlay:
    """What the role says of an inventory, before it changes anything."""

    @pytest.fixture
    def play(self, run, tmp_path):
        def run_play(playbook, **variables):
            common = {
                "ansible_connection": "local",
                "ansible_python_interpreter": "/nonexistent/python",
                "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
                **variables,
            }
            hosts = {"gpu_hosts": {"hosts": {"gpu-1": {"modelfleet_address": "10.0.0.1"}}}}
            (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": hosts}}))
            done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", f"modelfleet.serving.{playbook}")
            assert done.returncode != 0 and "Traceback" not in done.stdout
            return " ".join(done.stdout.split())

        return run_play

    def test_all_that_is_missing_is_named_at_once(self, play):
        said = play("pull_install", pull_secret_variables=["vault_key"], pull_interval_seconds=5)
        for words in (
            "pull_url is empty",
            "pull_signers is empty",
            "pull_interval_seconds is less than 60",
            "pull_secret_variables names vault_key",
        ):
            assert words in said, words
        assert "/nonexistent/python" not in said, "a module was run"

    def test_a_host_that_runs_containers_is_refused(self, play):
        said = play("pull_install", torchserve_install_method="container", torchserve_image=f"sha256:{'1' * 64}")
        assert "Refused the pull mode:" in said and "this host runs containers, for which podman needs more" in said

    def test_a_bundle_needs_a_place_and_a_key(self, play, tmp_path):
        said = play("pull_bundle", endpoint_plugin_build_dir=str(tmp_path / "nothing-built"))
        for words in ("pull_bundle_directory is empty", "pull_signing_key is empty", "run site from this controller first"):
            assert words in said, words
