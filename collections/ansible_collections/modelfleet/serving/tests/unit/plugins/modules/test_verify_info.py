# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that is as it was installed, and what is said when one byte of it is another one: the file, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import tarfile
import venv
import zipfile

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _verify, _verify_packages, _verify_releases
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import File, Manifest, manifest_bytes
from ansible_collections.modelfleet.serving.plugins.module_utils._environment import RECORD, record_text
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._verify_packages import verify_packages
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_release, verify_info


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def install_wheel(site, name, files):
    """A package as pip installs it, compiled files included."""
    info = f"{name}-1.0.dist-info"
    files = {**files, f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.title()}\nVersion: 1.0\n"}
    rows = []
    for path, content in files.items():
        write(site / path, content)
        digest = base64.urlsafe_b64encode(hashlib.sha256((site / path).read_bytes()).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(content)}")
    write(site / f"{name}/__pycache__/__init__.cpython-311.pyc", b"compiled")
    rows += [f"{name}/__pycache__/__init__.cpython-311.pyc,,", f"{info}/RECORD,,"]
    write(site / info / "RECORD", "".join(f"{row}\n" for row in rows))


class Host:
    """Has a release of Dragonfly, a Python environment, the plugin's jar, and models of both kinds, one of them unpacked."""

    def __init__(self, directory, run_module):
        self.top, self.run_module = directory, run_module
        self.release()
        self.environment = directory / "venv-1"
        venv.create(self.environment, with_pip=False, symlinks=True)
        (self.site,) = self.environment.glob("lib/python*/site-packages")
        install_wheel(self.site, "torchserve", {"torchserve/__init__.py": "serve = 1\n", "../../../bin/torchserve": "#!python\n"})
        os.symlink(self.site, self.environment / "site-packages")
        write(self.environment / RECORD, record_text(str(self.environment), sha256_of))
        write(self.environment / ".installed", "made\n")
        self.jar = write(directory / "plugins/endpoint.jar", b"jar")
        self.models()
        self.units = {}

    def release(self):
        archive = self.top / "client.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name in ("dfdaemon", "dfget"):
                tar.add(write(self.top / name, f"#!{name}"), arcname=name)
        args = {"name": "client", "version": "1.5.10", "src": str(archive), "sha256": sha256_of(archive)}
        args.update(programs=["dfdaemon", "dfget"], root=str(self.top / "opt"))
        assert self.run_module(dragonfly_release.main, args)["changed"]
        self.archive = args["sha256"]
        self.client = self.top / "opt/client/1.5.10"

    def models(self):
        store, blobs = self.top / "models", self.top / "blobs"
        mar = self.top / "tiny.mar"
        with zipfile.ZipFile(mar, "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"modelName": "tiny", "modelVersion": "1.0"}}))
            archive.writestr("handler.py", "def handle(): pass\n")
        digest = sha256_of(mar)
        self.mar = store / f"tiny-1.0-{digest[:12]}.mar"
        store.mkdir()
        blobs.mkdir()
        os.rename(mar, self.mar)
        os.link(self.mar, blobs / digest)
        with zipfile.ZipFile(self.mar) as archive:
            archive.extractall(self.top / "unpacked/0f")
        weights = b"weights"
        manifest = manifest_bytes(Manifest([File("weights.bin", len(weights), sha256(weights), "0644")], []))
        self.bundle = store / f"llama-3.1-{sha256(manifest)[:12]}"
        write(self.top / "manifests" / f"{sha256(manifest)}.json", manifest)
        write(self.bundle / "weights.bin", weights)
        self.listed = [
            {"name": "tiny", "version": "1.0", "sha256": digest},
            {"name": "llama", "version": "3.1", "bundle": "models/llama", "sha256": sha256(manifest)},
        ]
        entry = {"name": "tiny", "version": "1.0", "file": self.mar.name, "kind": "object", "sha256": digest}
        self.record([{**entry, "workers": 1, "default": True, "params": {}}])

    def record(self, models, **parts):
        write(self.top / "state/models.json", json.dumps({"format": 1, "models": models, **parts}))

    def verify(self, check=False, **changed):
        release = {"name": "client", "link": str(self.top / "opt/client/current"), "version": "1.5.10", "sha256": self.archive}
        args = {
            "releases": [release],
            "environments": [str(self.environment)],
            "files": [{"part": "endpoint plugin", "name": "endpoint.jar", "path": str(self.jar), "sha256": sha256(b"jar"), "alone": True}],
            "models": self.listed,
            "model_store": str(self.top / "models"),
            "manifest_store": str(self.top / "manifests"),
            "blob_store": str(self.top / "blobs"),
            "record": str(self.top / "state/models.json"),
            "unpack_dir": str(self.top / "unpacked"),
            "disk_mbytes": 0,
        }
        return self.run_module(verify_info.main, {**args, **changed}, check=check)

    def findings(self, **changed):
        """{(part, name, state): paths below the directory of this test}."""
        found = self.verify(**changed)["findings"]
        assert all(one["count"] == len(one["paths"]) for one in found)
        return {(one["part"], one["name"], one["state"]): [path.removeprefix(f"{self.top}/") for path in one["paths"]] for one in found}


@pytest.fixture
def host(tmp_path, run_module, monkeypatch):
    # The process of the tests goes on.
    monkeypatch.setattr(_verify, "make_way", lambda module: True)
    return Host(tmp_path, run_module)


def test_a_host_that_is_as_it_was_installed(host):
    result = host.verify()
    assert result["findings"] == [] and result["changed"] is False and result["idle_disk"] is True
    assert result["unverified"] == []
    found = {(one["kind"], one["name"], one["version"]): one.get("sha256") for one in result["components"]}
    assert found == {
        ("program", "dfdaemon", "1.5.10"): sha256(b"#!dfdaemon"),
        ("program", "dfget", "1.5.10"): sha256(b"#!dfget"),
        ("python", "Torchserve", "1.0"): None,
        ("file", "endpoint.jar", ""): sha256(b"jar"),
        ("model", "tiny", "1.0"): host.listed[0]["sha256"],
        ("model", "llama", "3.1"): host.listed[1]["sha256"],
    }
    assert result["files"] > 10 and result["bytes"] > 100
    assert result == {**host.verify(check=True), "seconds": result["seconds"]}


def flip(path):
    """Another byte, and the same time and size."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    mode = status.st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (lambda host: host.client / "dfget", ("programs", "client 1.5.10")),
        (lambda host: host.site / "torchserve/__init__.py", ("python", "venv-1")),
        (lambda host: host.site / "torchserve/__pycache__/__init__.cpython-311.pyc", ("python", "venv-1")),
        (lambda host: host.environment / "bin/torchserve", ("python", "venv-1")),
        (lambda host: host.environment / "pyvenv.cfg", ("python", "venv-1")),
        (lambda host: host.jar, ("endpoint plugin", "endpoint.jar")),
        (lambda host: host.bundle / "weights.bin", ("models", "llama 3.1")),
        (lambda host: host.top / "manifests" / f"{host.listed[1]['sha256']}.json", ("models", "llama 3.1")),
        (lambda host: host.top / "unpacked/0f/handler.py", ("unpacked", "tiny 1.0")),
    ],
    ids=["program", "python", "compiled", "script", "settings", "jar", "weights", "manifest", "unpacked"],
)
def test_one_byte(host, path, where):
    flip(path(host))
    assert host.findings() == {(*where, "changed"): [str(path(host).relative_to(host.top))]}


def test_one_byte_of_an_archive(host):
    """It has two names, and another digest than the unpacked handler came from is none of the handler's."""
    with zipfile.ZipFile(host.mar, "a") as archive:
        archive.comment = b"!"
    assert host.findings() == {
        ("models", "tiny 1.0", "changed"): [f"models/{host.mar.name}"],
        ("models", "blobs", "changed"): [f"blobs/{host.listed[0]['sha256']}"],
    }


@pytest.mark.parametrize(
    ("path", "where"),
    [
        (lambda host: host.client / "dfget", ("programs", "client 1.5.10")),
        (lambda host: host.client / ".release.json", ("programs", "client 1.5.10")),
        (lambda host: host.site / "torchserve/__init__.py", ("python", "venv-1")),
        (lambda host: host.environment / "site-packages", ("python", "venv-1")),
        (lambda host: host.jar, ("endpoint plugin", "endpoint.jar")),
        (lambda host: host.mar, ("models", "tiny 1.0")),
        (lambda host: host.bundle / "weights.bin", ("models", "llama 3.1")),
        (lambda host: host.top / "unpacked/0f/handler.py", ("unpacked", "tiny 1.0")),
    ],
    ids=["program", "record", "python", "link", "jar", "archive", "weights", "unpacked"],
)
def test_what_is_gone(host, path, where):
    path(host).unlink()
    found = host.findings()
    assert found.pop((*where, "missing")) == [str(path(host).relative_to(host.top))]
    # Without its archive nothing says what the unpacked copy should be.
    assert set(found) <= {("unpacked", "tiny 1.0", "extra")}


@pytest.mark.parametrize(
    ("path", "where"),
    [
        ("opt/client/1.5.10/dfrootkit", ("programs", "client 1.5.10")),
        ("opt/client/1.5.9/dfdaemon", ("programs", "client")),
        ("venv-1/bin/curl", ("python", "venv-1")),
        ("plugins/other.jar", ("endpoint plugin", "endpoint.jar")),
        ("models/stray.mar", ("models", "model store")),
        ("blobs/stray", ("models", "blobs")),
        ("unpacked/0f/sitecustomize.py", ("unpacked", "tiny 1.0")),
    ],
)
def test_what_nobody_installed(host, path, where):
    write(host.top / path, "import os\n")
    shown = "opt/client/1.5.9" if "1.5.9" in path else path
    assert host.findings() == {(*where, "extra"): [shown]}


def test_code_that_python_would_run_at_its_start(host):
    write(host.site / "sitecustomize.py", "import os\n")
    write(host.bundle / "handler.py", "import os\n")
    assert host.findings() == {
        ("python", "venv-1", "extra"): [str((host.site / "sitecustomize.py").relative_to(host.top))],
        ("models", "llama 3.1", "extra"): [f"models/{host.bundle.name}/handler.py"],
    }


def test_nothing_is_installed(host, tmp_path):
    empty = tmp_path / "empty"
    result = host.verify(
        releases=[{"name": "client", "link": str(empty / "current")}],
        environments=[str(empty / "venv")],
        model_store=str(empty),
        blob_store=str(empty),
        record=str(empty / "models.json"),
        unpack_dir=str(empty),
    )
    assert {(one["part"], one["state"]) for one in result["findings"]} == {("programs", "missing"), ("python", "missing")}


# Programs


def test_another_archive_than_the_pinned_one(host):
    (finding,) = host.verify(releases=[{"name": "client", "link": str(host.client), "version": "1.5.10", "sha256": "9f" * 32}])["findings"]
    assert finding["state"] == "changed" and host.archive in finding["detail"] and "9f" * 32 in finding["detail"]
    # What is pinned is of another version.
    assert host.findings(releases=[{"name": "client", "link": str(host.client), "version": "1.5.11", "sha256": "9f" * 32}]) == {}


def test_the_version_before_is_verified(host):
    before = host.top / "opt/client/1.5.9"
    write(before / "dfdaemon", "#!before")
    write(before / ".release.json", json.dumps({"version": "1.5.9", "sha256": "9f" * 32, "programs": {"dfdaemon": sha256(b"#!before")}}))
    assert host.findings() == {}
    flip(before / "dfdaemon")
    assert host.findings() == {("programs", "client 1.5.9", "changed"): ["opt/client/1.5.9/dfdaemon"]}


def test_the_process_that_runs(host, tmp_path):
    """It may run from a file that is no more, and no file tells."""
    proc = tmp_path / "proc"
    (proc / "7").mkdir(parents=True)
    wanted = {"name": "client", "link": str(host.client.parent / "current"), "version": "", "sha256": "", "unit": "dfdaemon.service"}

    def verify(program):
        if os.path.lexists(proc / "7/exe"):
            os.unlink(proc / "7/exe")
        os.symlink(program, proc / "7/exe")
        look = _verify.Look()
        _verify_releases.verify_release(look, wanted, lambda command, **_options: (0, "MainPID=7\n", ""), str(proc))
        return look.findings

    assert verify(host.client / "dfdaemon") == []
    (finding,) = verify(write(tmp_path / "other", "#!other"))
    assert finding["name"] == "process of client" and f"runs {tmp_path}/other with the sha256 {sha256(b'#!other')}" in finding["detail"]
    # It has ended meanwhile.
    assert verify(tmp_path / "gone") == []


# Python


def test_an_environment_that_is_older_than_its_record(host):
    """pip has no digest of what it compiled, and nobody one of what the venv module made."""
    (host.environment / RECORD).unlink()
    result = host.verify()
    assert result["findings"] == [] and "compiled files" in result["unverified"][0]["why"]
    flip(host.site / "torchserve/__pycache__/__init__.cpython-311.pyc")
    flip(host.site / "torchserve/__init__.py")
    flip(host.environment / "bin/torchserve")
    write(host.site / "evil.pth", "import os\n")
    write(host.environment / "bin/curl", "#!\n")
    site = host.site.relative_to(host.top)
    assert host.findings() == {
        ("python", "venv-1", "changed"): ["venv-1/bin/torchserve", f"{site}/torchserve/__init__.py"],
        ("python", "venv-1", "extra"): ["venv-1/bin/curl", f"{site}/evil.pth"],
    }


def test_a_record_that_was_changed_with_its_file(host):
    flip(host.site / "torchserve/__init__.py")
    write(host.environment / RECORD, record_text(str(host.environment), sha256_of))
    ((key, paths),) = host.findings().items()
    assert key == ("python", "venv-1", "disputed") and paths[0].endswith("torchserve/__init__.py")


@pytest.mark.parametrize("record", ["{", '{"files": 1}', '{"files": {"a": 1}, "links": {}}', "\xff"])
def test_a_record_that_is_none(host, record):
    (host.environment / RECORD).write_text(record, encoding="latin-1")
    (finding,) = host.verify()["findings"]
    assert (finding["part"], finding["state"]) == ("python", "unreadable")


def test_a_link_that_leads_elsewhere(host):
    (host.environment / "site-packages").unlink()
    os.symlink("/tmp", host.environment / "site-packages")
    (finding,) = host.verify()["findings"]
    assert finding["state"] == "changed" and "it leads to /tmp, and led to" in finding["detail"]


def test_what_a_package_says_that_is_not_in_the_environment(host):
    (record,) = host.site.glob("*.dist-info/RECORD")
    (host.environment / RECORD).unlink()
    write(record, record.read_text() + '../../../../../outside,sha256=AAAA,1\n/etc/passwd,sha256=AAAA,1\n"torn')
    assert not [key for key in host.findings() if "changed" in key]
    # Then nothing says of its files that they belong there.
    record.write_bytes(b"\xff\xfe")
    assert "venv-1/bin/torchserve" in host.findings()["python", "venv-1", "extra"]


def test_an_environment_that_sees_the_packages_of_the_system(host):
    settings = host.environment / "pyvenv.cfg"
    write(settings, settings.read_text().replace("include-system-site-packages = false", "include-system-site-packages = true"))
    write(host.environment / RECORD, record_text(str(host.environment), sha256_of))
    (left,) = host.verify()["unverified"]
    assert "system's Python" in left["why"]


def test_another_environment_beside_it(host):
    """TorchServe runs from it until it is restarted."""
    other = host.top / "venv-0"
    write(other / "bin/torchserve", "#!python\n")
    write(other / RECORD, record_text(str(other), sha256_of))
    assert host.findings() == {}
    write(other / ".installed", "made\n")
    flip(other / "bin/torchserve")
    assert host.findings() == {("python", "venv-0", "changed"): ["venv-0/bin/torchserve"]}


# Models


def test_the_inventory_and_the_record_of_the_host_differ(host):
    other = [{**host.listed[0], "sha256": "9f" * 32}, host.listed[1]]
    (finding,) = host.verify(models=other)["findings"]
    assert finding["name"] == "tiny 1.0" and "9f" * 32 in finding["detail"] and host.listed[0]["sha256"] in finding["detail"]


def test_versions_that_nobody_lists(host):
    """The record has the digest of what the host serves or goes back to, the name of anything else its first digits."""
    entry = {"name": "tiny", "version": "0.9", "kind": "object", "sha256": "9f" * 32, "file": "tiny-0.9.mar", "workers": 1, "default": True}
    write(host.top / "models/tiny-0.9.mar", "old")
    old = write(host.top / "models" / f"tiny-0.8-{sha256(b'older')[:12]}.mar", "older")
    tree = host.top / "models" / f"llama-3.0-{'9f' * 6}"
    write(tree / "weights.bin", "w")
    host.record([{**entry, "params": {}}])
    found = host.findings()
    assert found.pop(("models", "tiny 0.9", "changed")) == ["models/tiny-0.9.mar"]
    assert found == {("models", "version llama-3.0, which nobody lists", "missing"): [f"manifests/{'9f' * 6}*.json"]}
    flip(old)
    assert ("models", "version tiny-0.8, which nobody lists", "changed") in host.findings()


def test_a_listed_model_that_did_not_come_yet(host):
    """Doctor says what is not served."""
    assert host.findings(models=[*host.listed, {"name": "new", "version": "1.0", "sha256": "9f" * 32}]) == {}


def test_a_record_of_the_host_that_is_damaged(host):
    write(host.top / "state/models.json", "{")
    found = host.findings()
    assert found == {("models", "record of what this host serves", "unreadable"): ["state/models.json"]}


def test_links_and_other_things_in_the_place_of_files(host, tmp_path):
    """TorchServe's user may put them there, and this module runs as root."""
    host.mar.unlink()
    os.symlink("/etc/passwd", host.mar)
    (host.bundle / "weights.bin").unlink()
    os.mkfifo(host.bundle / "weights.bin")
    os.mkfifo(host.top / "models/pipe-1.0-0123456789ab.mar")
    (host.top / "unpacked/2f/MAR-INF").mkdir(parents=True)
    os.mkfifo(host.top / "unpacked/2f/MAR-INF/MANIFEST.json")
    (tmp_path / "unpacked/1f").symlink_to(tmp_path / "unpacked/0f")
    found = host.findings()
    assert found[("models", "tiny 1.0", "unreadable")] == [f"models/{host.mar.name}"]
    assert found[("models", "llama 3.1", "unreadable")] == [f"models/{host.bundle.name}/weights.bin"]
    assert found[("models", "version pipe-1.0, which nobody lists", "unreadable")] == ["models/pipe-1.0-0123456789ab.mar"]
    assert found[("unpacked", "what TorchServe unpacked", "extra")] == ["unpacked/2f"]


def test_an_unpacked_model_without_an_archive(host):
    write(host.top / "unpacked/2f/MAR-INF/MANIFEST.json", json.dumps({"model": {"modelName": "evil", "modelVersion": "1"}}))
    assert host.findings() == {("unpacked", "evil 1", "extra"): ["unpacked/2f"]}
    flip(host.top / "unpacked/2f/MAR-INF/MANIFEST.json")
    assert host.findings() == {("unpacked", "what TorchServe unpacked", "extra"): ["unpacked/2f"]}
    # What its handler wrote and compiled is its own affair.
    write(host.top / "unpacked/0f/__pycache__/handler.pyc", "compiled")
    write(host.top / "unpacked/0f/cache.json", "{}")
    assert len(host.findings()) == 1


# Packages


class Commands:
    """A run_command that knows some answers by the beginning of the command."""

    def __init__(self, **answers):
        self.answers = answers

    def __call__(self, command, **_options):
        for key, answer in self.answers.items():
            if " ".join(command).startswith(key.replace("_", " ")):
                return 0, answer, ""
        return 1, "", ""


def packages(monkeypatch, tmp_path, manager, answers, names=("jre",), programs=()):
    known = {"deb": _verify_packages._Dpkg, "rpm": _verify_packages._Rpm}
    for name, one in known.items():
        monkeypatch.setattr(one, "database", str(tmp_path if name == manager else tmp_path / "none"))
    look = _verify.Look()
    verify_packages(look, list(names), list(programs), Commands(**answers))
    return look


DEB = {"dpkg-query -W": "jre\t2:17.0.1+9-1\tamd64\tinstalled\n", "dpkg-query -S": "jre:amd64: /x\n"}


def test_packages_of_debian(monkeypatch, tmp_path):
    said = (
        "??5??????   /usr/bin/java\n??5?????? c /etc/java/security\nmissing     /usr/lib/a.so\nmissing     /usr/share/doc/jre/copyright\n"
    )
    look = packages(monkeypatch, tmp_path, "deb", {**DEB, "dpkg --verify": said}, programs=[sys.executable])
    found = {(one["name"], one["state"]): one["paths"] for one in look.findings}
    assert found == {("jre 2:17.0.1+9-1", "changed"): ["/usr/bin/java"], ("jre 2:17.0.1+9-1", "missing"): ["/usr/lib/a.so"]}
    (component,) = look.components
    assert (component["manager"], component["architecture"]) == ("deb", "amd64")
    assert "MD5" in look.unverified[0]["why"]


def test_packages_of_red_hat(monkeypatch, tmp_path):
    said = "S.5....T.    /usr/bin/java\n.......T.    /usr/bin/other\nS.5....T.  c /etc/java/security\nmissing     /usr/lib/a.so\n"
    answers = {"rpm -q": "jre\t0:17.0.1-2.el9\tx86_64\n", "rpm -V": said}
    look = packages(monkeypatch, tmp_path, "rpm", answers)
    found = {(one["name"], one["state"]): one["paths"] for one in look.findings}
    assert found == {("jre 17.0.1-2.el9", "changed"): ["/usr/bin/java"], ("jre 17.0.1-2.el9", "missing"): ["/usr/lib/a.so"]}


def test_packages_that_are_not_there(monkeypatch, tmp_path):
    look = packages(monkeypatch, tmp_path, "deb", {}, programs=["/nonexistent/java"])
    assert [(one["name"], one["state"]) for one in look.findings] == [("jre", "missing")]
    assert look.unverified[0] == {"part": "packages", "name": "/nonexistent/java", "why": "it is not there"}
    look = packages(monkeypatch, tmp_path, "none", {})
    assert look.findings == [] and "neither dpkg nor rpm" in look.unverified[0]["why"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [('ID=debian\nVERSION_ID="12"\n', ("debian", "12")), ("ID='rocky'\nVERSION_ID='9.4'\n", ("rocky", "9.4")), ("", ("", ""))],
)
def test_the_distribution(text, expected):
    assert tuple(_verify_packages.distribution_of(text).values()) == expected


# How it reads


def test_a_file_is_read_once_however_many_names_it_has(host):
    before = host.verify()["bytes"]
    os.link(host.mar, host.top / "models" / f"copy-1.0-{host.listed[0]['sha256'][:12]}.mar")
    assert host.verify()["bytes"] == before


def test_it_keeps_to_the_rate(tmp_path, monkeypatch):
    now, waited = [0.0], []
    monkeypatch.setattr(_verify.time, "monotonic", lambda: now[0])

    def sleep(seconds):
        waited.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(_verify.time, "sleep", sleep)
    path = write(tmp_path / "file", b"x" * (3 << 20))
    look = _verify.Look(bytes_per_s=1 << 20)
    assert look.sha256(str(path)) == sha256_of(path)
    assert sum(waited) == pytest.approx(3)
    waited.clear()
    _verify.Look().sha256(str(path))
    assert waited == []


def test_how_far_it_is(host, monkeypatch):
    """In the form of what shows downloads."""
    monkeypatch.setattr(_verify, "PROGRESS_S", 0)
    path, seen = host.top / "progress.json", []
    monkeypatch.setattr(_verify.os, "replace", lambda old, new: seen.append(json.loads((host.top / "progress.json.new").read_text())))
    result = host.verify(progress_path=str(path))
    assert not path.exists() and not list(host.top.glob("progress*"))
    fetched = [one["artifacts"][0]["fetched"] for one in seen]
    assert fetched == sorted(fetched) and fetched[-1] <= result["bytes"] and fetched[-1] == seen[-1]["bytes"]["local_peer"]
    # What there is was counted before, with the records.
    (size,) = {one["artifacts"][0]["size"] for one in seen}
    assert result["bytes"] <= size < 2 * result["bytes"]
    # One that cannot be written is no reason to fail.
    assert host.verify(progress_path=str(host.top / "none/progress.json"))["findings"] == []


def test_it_lets_everybody_else_go_first():
    class Module:
        def __init__(self):
            self.commands = []

        def get_bin_path(self, name):
            return f"/usr/bin/{name}"

        def run_command(self, command):
            self.commands.append(command)
            return 0, "", ""

    module = Module()
    assert _verify.make_way(module) is True
    pid = str(os.getpid())
    assert module.commands == [["renice", "-n", "19", "-p", pid], ["ionice", "-c", "3", "-p", pid]]
    module.get_bin_path = lambda name: None
    assert _verify.make_way(module) is False


def test_a_rate_that_is_none(host):
    assert "use 0 (no limit) or more" in host.verify(disk_mbytes=-1)["msg"]
