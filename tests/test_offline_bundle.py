# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plays bundle and bundle_verify on this machine, with a real gpg, pip and apt and tiny things to bundle.

What they made is judged by gpg, sha256sum, pip and apt.
"""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import threading
import zipfile

import pytest
import yaml
from conftest import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.tests.unit.plugins.gpg_home import gpg, gpg_home, make_key

SECRET = "cGxhbnRlZC1zZWNyZXQ"
ARCHITECTURE = platform.machine()
RELEASE = platform.freedesktop_os_release()
PLATFORM = f"{RELEASE['ID']}-{RELEASE['VERSION_ID']}-{ARCHITECTURE}"


def deb(place, name, depends=""):
    """The smallest package that there is."""
    control = place / "tree" / name / "DEBIAN/control"
    control.parent.mkdir(parents=True)
    needs = f"Depends: {depends}\n" if depends else ""
    control.write_text(f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@example.com>\n{needs}Description: tiny\n")
    command = ["dpkg-deb", "--root-owner-group", "--build", control.parent.parent, place / "debs" / f"{name}_1.0_all.deb"]
    subprocess.run(command, check=True, capture_output=True)


def wheel(path, project, requires="", version="1.0"):
    with zipfile.ZipFile(path / f"{project}-{version}-py3-none-any.whl", "w") as archive:
        info = f"{project}-{version}.dist-info"
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        archive.writestr(f"{project}.py", "answer = 42\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\nLicense: MIT\n{needs}")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", f"{project}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture(scope="module")
def key():
    with gpg_home():
        yield make_key("bundles@example.com")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """A package index, a repository of packages and release archives, as they are elsewhere."""
    place = tmp_path_factory.mktemp("sources")
    for project, requires in (("tiny", "small"), ("small", "")):
        (place / "simple" / project).mkdir(parents=True)
        wheel(place / "simple" / project, project, requires)
        (place / "simple" / project / "index.html").write_text(f'<a href="{project}-1.0-py3-none-any.whl">{project}</a>')
    (place / "debs").mkdir()
    deb(place, "tiny-tool", "tiny-library")
    deb(place, "tiny-library")
    deb(place, "python3-apt")
    listed = subprocess.run(["apt-ftparchive", "packages", "."], cwd=place / "debs", check=True, capture_output=True).stdout
    (place / "debs/Packages").write_bytes(listed)
    for name in ("dragonfly.tar.gz", "client.tar.gz", "dragonfly-endpoint.jar", "modelfleet-serving-0.1.0.tar.gz"):
        (place / name).write_text(f"the content of {name}")
    return place


def serve(place):
    """A server of a directory, as bundle_serve runs one, and its URL."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=place))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}"


@pytest.fixture(scope="module")
def inventory(tmp_path_factory, sources, key):
    """Two hosts that nobody can reach."""
    place = tmp_path_factory.mktemp("inventory")
    server, url = serve(sources)
    common = {
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "modelfleet_firewall": False,
        "modelfleet_offline_bundle": str(place / "bundle"),
        "modelfleet_offline_platform": PLATFORM,
        "modelfleet_release_lock": str(place / "inventory/group_vars/all/releases.lock.yml"),
        "offline_bundle_key": key,
        "offline_bundle_collection": str(sources / "modelfleet-serving-0.1.0.tar.gz"),
        "offline_bundle_apt_sources": {PLATFORM.rpartition("-")[0]: [f"deb [trusted=yes] file:{sources}/debs ./"]},
        "offline_bundle_url": "http://127.0.0.1:1",
        "dragonfly_scheduler_release_url": f"{url}/dragonfly.tar.gz?token={SECRET}",
        "dfdaemon_release_url": (sources / "client.tar.gz").as_uri(),
        "dfdaemon_packages": [],
        "torchserve_packages": ["tiny-tool"],
        "torchserve_pip_packages": ["tiny==1.0"],
        "torchserve_pip_index_url": (sources / "simple").as_uri(),
        "torchserve_python": "python{}.{}".format(*sys.version_info[:2]),
        "endpoint_plugin_jar": str(sources / "dragonfly-endpoint.jar"),
    }
    hosts = {
        "dragonfly_schedulers": {"scheduler-1": {"modelfleet_address": "127.0.0.2"}},
        "dragonfly_seed_peers": {"seed-1": {"modelfleet_address": "127.0.0.3"}},
        "gpu_hosts": {"gpu-1": {"modelfleet_address": "127.0.0.4"}},
    }
    unreachable = {"ansible_host": "{{ modelfleet_address }}", "ansible_port": 1}
    (place / "inventory/group_vars/all").mkdir(parents=True)
    (place / "inventory/group_vars/all/fleet.yml").write_text(yaml.safe_dump({**common, **unreachable}))
    children = {group: {"hosts": members} for group, members in hosts.items()}
    (place / "inventory/hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}))
    yield place
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def play(run, inventory):
    def run_play(name, *options, code=0, **variables):
        extra = ["-e", json.dumps(variables)] if variables else []
        done = run("ansible-playbook", "-i", inventory / "inventory", f"playbooks/{name}.yml", *options, *extra)
        assert done.returncode == code, done.stdout
        assert SECRET not in done.stdout and "Traceback" not in done.stdout, done.stdout
        return " ".join(done.stdout.split())

    return run_play


def changes(output):
    return re.search(r"\bchanged=[1-9]", output)


@pytest.fixture(scope="module")
def bundle(play, inventory):
    predicted = play("bundle", "--check")
    assert changes(predicted) and not (inventory / "bundle").exists()
    said = play("bundle", "--diff")
    assert f"for {PLATFORM}, signed by" in said and "packages/" in said
    return inventory / "bundle"


def test_is_whole_by_programs_that_nobody_here_wrote(bundle, inventory):
    with gpg_home():
        gpg("--import", str(bundle / "key.asc"))
        gpg("--verify", str(bundle / "MANIFEST.json.asc"), str(bundle / "MANIFEST.json"))
    files = {file["path"]: file for file in json.loads((bundle / "MANIFEST.json").read_text())["files"]}
    lines = "".join(f"{file['sha256']}  {path}\n" for path, file in files.items())
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet"], input=lines, text=True, cwd=bundle, check=True)
    there = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    assert there == {*files, "MANIFEST.json", "MANIFEST.json.asc"}
    names = {os.path.basename(path) for path in there}
    assert names >= {"dragonfly.tar.gz", "client.tar.gz", "dragonfly-endpoint.jar", "modelfleet-serving-0.1.0.tar.gz"}
    # With what they depend on.
    assert names >= {"tiny-1.0-py3-none-any.whl", "small-1.0-py3-none-any.whl", "tiny-tool_1.0_all.deb", "tiny-library_1.0_all.deb"}
    assert {file["licence"] for path, file in files.items() if path.endswith(".whl")} == {"MIT"}
    assert not any(SECRET in path.read_text(errors="replace") for path in bundle.rglob("*") if path.is_file())
    # The releases were pinned first.
    pins = yaml.safe_load((inventory / "inventory/group_vars/all/releases.lock.yml").read_text())["modelfleet_release_pins"]
    assert {pin["sha256"] for pin in pins.values()} == {files[f"releases/{name}.tar.gz"]["sha256"] for name in ("dragonfly", "client")}


def test_a_second_run_changes_no_byte(bundle, play):
    def state():
        return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes()) for path in bundle.rglob("*")}

    before = state()
    assert not changes(play("bundle")) and state() == before
    assert "Run the play without --limit" in play("bundle", "--limit", "gpu-1", code=2) and state() == before


def test_images_take_the_place_of_archives_and_wheels(bundle, play):
    """Those that a registry has; an id, and a file of the controller's own, are left to who named them."""
    images = {
        "modelfleet_install_method": "container",
        "modelfleet_container_packages": ["tiny-tool"],
        "torchserve_packages": ["none-such"],
        "dragonfly_scheduler_image": f"sha256:{'1' * 64}",
        "dfdaemon_image": f"registry.example.com:5000/dragonfly/client:v1@sha256:{'2' * 64}",
        "torchserve_image": f"registry.example.com/modelfleet/torchserve@sha256:{'3' * 64}",
    }
    said = play("bundle", "--check", **images)
    assert f"New: images/client-{'2' * 12}.tar, images/torchserve-{'3' * 12}.tar." in said
    said = play("bundle_verify", code=2, **images)
    assert f"has no images/client-{'2' * 12}.tar, which gpu-1, seed-1 needs" in said and "scheduler-1 needs" not in said
    own = {**images, "dfdaemon_image_archive": "/srv/client.tar", "torchserve_image_archive": "/srv/torchserve.tar"}
    assert "images/" not in play("bundle", "--check", **own)


def test_newer_ones_come_for_who_asks(bundle, play, sources):
    wheel(sources / "simple/small", "small", version="1.1")
    links = "".join(f'<a href="small-{version}-py3-none-any.whl">small</a>' for version in ("1.0", "1.1"))
    (sources / "simple/small/index.html").write_text(links)
    play("bundle")
    assert len(list(bundle.glob("wheels/*/small-1.0-*.whl"))) == 1
    play("bundle", offline_bundle_refresh=True)
    assert [path.name for path in bundle.glob("wheels/*/small-*.whl")] == ["small-1.1-py3-none-any.whl"]


def test_pip_installs_from_its_wheels(bundle, tmp_path):
    (wheels,) = (bundle / "wheels").iterdir()
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--no-index",
        f"--find-links={wheels}",
        f"--target={tmp_path}",
        "--quiet",
        "tiny==1.0",
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert {path.name for path in tmp_path.glob("*.py")} == {"tiny.py", "small.py"}


def test_apt_believes_its_signature_and_nothing_else(bundle, tmp_path):
    """As a host has it."""
    served = tmp_path / "served"
    shutil.copytree(bundle, served)
    server, url = serve(served)
    for part in ("lists/partial", "cache/archives/partial", "etc"):
        (tmp_path / part).mkdir(parents=True)
    (tmp_path / "status").touch()
    source = f"Types: deb\nURIs: {url}/packages/{PLATFORM}/\nSuites: ./\nSigned-By: {bundle}/key.asc\n"
    (tmp_path / "etc/offline.sources").write_text(source)
    options = {"State": "", "State::lists": "lists", "State::status": "status", "Cache": "cache", "Etc::sourceparts": "none"}
    options = [f"--option=Dir::{name}={tmp_path / value}" for name, value in {**options, "Etc::sourcelist": "etc/offline.sources"}.items()]
    options += ["--option=APT::Sandbox::User=root", "--option=APT::Update::Error-Mode=any", "--option=Acquire::http::Proxy=DIRECT"]

    def apt(*words):
        return subprocess.run(["apt-get", *options, "--yes", *words], capture_output=True, text=True, check=False)

    try:
        read = apt("update")
        assert read.returncode == 0, read.stderr
        got = apt("install", "--download-only", "tiny-tool")
        assert got.returncode == 0, got.stderr
        archives = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (tmp_path / "cache/archives").glob("*.deb")}
        ours = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (bundle / "packages" / PLATFORM).glob("tiny-*.deb")}
        assert archives == ours and len(ours) == 2
        packages = served / "packages" / PLATFORM / "Packages"
        packages.write_text(packages.read_text().replace("Version: 1.0", "Version: 9.9"))
        shutil.rmtree(tmp_path / "lists")
        (tmp_path / "lists/partial").mkdir(parents=True)
        assert apt("update").returncode != 0
    finally:
        server.shutdown()
        server.server_close()


def altered(place):
    (place / "releases/client.tar.gz").unlink()
    (place / "releases/client.tar.gz").write_text("THE CONTENT of client.tar.gz")


def altered_manifest(place):
    text = (place / "MANIFEST.json").read_text()
    (place / "MANIFEST.json").write_text(text.replace("Apache-2.0", "MIT"))


def missing(place):
    (place / "releases/client.tar.gz").unlink()


def extra(place):
    (place / "wheels/evil.whl").write_text("evil")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (altered_manifest, "of its MANIFEST.json it is not what was signed. Use nothing of it;"),
        (altered, "releases/client.tar.gz is altered. Bring it anew from where it was made, and run again."),
        (missing, "releases/client.tar.gz is missing. Bring it anew from where it was made, and run again."),
        (extra, "wheels/evil.whl is extra. Remove what is extra, and run again."),
    ],
)
def test_is_refused_before_a_host_is_asked(bundle, play, tmp_path, change, said):
    shutil.copytree(bundle, tmp_path / "bundle")
    change(tmp_path / "bundle")
    output = play("bundle_verify", code=2, modelfleet_offline_bundle=str(tmp_path / "bundle"))
    assert said in output and "UNREACHABLE" not in output and "unreachable: " not in output


def test_is_refused_for_other_hosts_and_by_another_key(bundle, play):
    other = "ubuntu-24.04-aarch64"
    output = play("bundle_verify", code=2, modelfleet_offline_platform=other)
    assert f"it was made for {PLATFORM} and has no packages/{other}, which gpu-1, scheduler-1, seed-1 needs" in output
    stranger = make_key("stranger@example.com")
    assert f"not by {stranger}" in play("bundle_verify", code=2, offline_bundle_key=stranger)


def test_is_for_these_hosts(bundle, play):
    """By this machine, which plays all of them."""
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    output = play("bundle_verify", **here)
    assert "are as they were signed" in output and not changes(output)


def test_a_host_that_cannot_be_reached_is_named(bundle, play):
    output = play("bundle_verify", code=2)
    assert "are as they were signed" in output and "unreachable: " in output
