# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the lab's Dragonfly archives come from: cached programs, or published archives (here from a mirror on loopback)."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import subprocess
import sys
import tarfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "releases"
NOWHERE = "http://127.0.0.1:9"


def load():
    loader = SourceFileLoader("modelfleet_releases", str(SCRIPT))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


RELEASES, BEFORE = load().RELEASES, load().BEFORE


def run(tmp_path, url=NOWHERE, *options):
    """Run the program with a cache of its own; return (status, output, facts)."""
    output = tmp_path / "out" / "releases.json"
    command = [sys.executable, str(SCRIPT), "--cache", str(tmp_path / "cache"), "--output", str(output), "--releases-url", url, *options]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "no_proxy": "*"}
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, timeout=60, check=False)
    return done.returncode, done.stdout, json.loads(output.read_text()) if output.exists() else None


def add_programs(tmp_path, release, suffix=""):
    folder = tmp_path / "cache" / "programs" / (release.slug + suffix)
    folder.mkdir(parents=True)
    for program in release.programs:
        (folder / program).write_text(f"#!/bin/sh\necho {program}\n")
        (folder / program).chmod(0o755)


@pytest.fixture
def mirror(tmp_path):
    """A web server with archives under the paths of the published ones."""
    root = tmp_path / "mirror"
    for release in RELEASES:
        folder = root / release.url_path.lstrip("/")
        folder.mkdir(parents=True)
        (folder / release.archive).write_bytes(f"published {release.name}".encode())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            server.requests.append(f"{self.command} {self.path}")

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    server.requests = []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.root = root
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_programs_in_the_cache_are_packed_like_the_published_archives(tmp_path):
    for release in RELEASES:
        add_programs(tmp_path, release)
    status, output, facts = run(tmp_path)
    assert status == 0, output
    scheduler, client = facts["scheduler"], facts["client"]
    with tarfile.open(scheduler["path"]) as tar:
        assert tar.getnames() == ["manager", "scheduler"]
        assert {(one.mode, one.mtime, one.uid, one.gid) for one in tar} == {(0o755, 0, 0, 0)}
    with tarfile.open(client["path"]) as tar:
        top = client["file"].removesuffix(".tar.gz")
        assert tar.getnames() == [top, f"{top}/dfctl", f"{top}/dfdaemon", f"{top}/dfget"]
    for fact in facts.values():
        assert fact["source"] == "built"
        assert fact["url_path"].startswith("/dragonflyoss/")
        assert fact["sha256"] == hashlib.sha256(Path(fact["path"]).read_bytes()).hexdigest()


def test_the_client_before_has_a_file_of_its_own(tmp_path):
    for release in RELEASES + BEFORE:
        add_programs(tmp_path, release)
    status, output, facts = run(tmp_path, NOWHERE, "--before")
    assert status == 0, output
    assert list(facts) == ["client"] and facts["client"]["file"] == BEFORE[0].archive != RELEASES[1].archive


def test_packing_gives_the_same_bytes_again(tmp_path):
    for release in RELEASES:
        add_programs(tmp_path, release)
    first = run(tmp_path)[2]
    for fact in first.values():
        Path(fact["path"]).unlink()
    assert run(tmp_path)[2] == first


def test_published_archives_are_taken_and_pinned_on_first_use(tmp_path, mirror):
    status, output, facts = run(tmp_path, mirror.url)
    assert status == 0, output
    lock = (tmp_path / "cache" / "releases.lock").read_text()
    for release in RELEASES:
        fact = facts[release.name]
        assert fact["source"] == "published"
        assert f"pinned {release.archive} on first use" in output
        assert f"{fact['sha256']}  {release.archive}\n" in lock
    assert sum(line.startswith("HEAD") for line in mirror.requests) == 1, "one probe for all"
    mirror.requests.clear()
    assert run(tmp_path, mirror.url)[2] == facts
    assert mirror.requests == [], "the second run needs no network"


def test_published_archive_that_changed_is_refused(tmp_path, mirror):
    _, _, facts = run(tmp_path, mirror.url)
    for release in RELEASES:
        (tmp_path / "cache" / "published" / release.archive).unlink()
    changed = mirror.root / RELEASES[1].url_path.lstrip("/") / RELEASES[1].archive
    changed.write_bytes(b"something else")
    status, output, _ = run(tmp_path, mirror.url)
    assert status != 0
    assert f"Refused {RELEASES[1].archive}" in output
    assert facts["client"]["sha256"] in output
    assert not (tmp_path / "cache" / "published" / RELEASES[1].archive).exists()


def test_cached_archive_that_changed_is_refused(tmp_path, mirror):
    run(tmp_path, mirror.url)
    (tmp_path / "cache" / "published" / RELEASES[0].archive).write_bytes(b"something else")
    status, output, _ = run(tmp_path)
    assert status != 0
    assert "Refused" in output


def test_incomplete_programs_are_refused(tmp_path):
    add_programs(tmp_path, RELEASES[0])
    (tmp_path / "cache" / "programs" / RELEASES[0].slug / "manager").unlink()
    status, output, _ = run(tmp_path)
    assert status != 0
    assert "lacks manager" in output


@pytest.fixture
def commands(monkeypatch):
    """The program with a run() that only notes [command, environment] and makes what a build would make."""
    module = load()
    noted = []

    def note(command, env=None, **_kwargs):
        command = list(map(str, command))
        noted.append((command, env))
        if command[0] == "go":
            for package in command[command.index("-o") + 2 :]:
                Path(command[command.index("-o") + 1], Path(package).name).write_text("built")
        if command[0] == "strip":
            Path(command[2]).write_text("built")
        if command[0] == "cargo":
            Path(command[-1]).mkdir()
            Path(env["CARGO_TARGET_DIR"]).mkdir()

    monkeypatch.setattr(module, "run", note)
    return module, noted


def test_nothing_reachable_means_a_build_for_the_lab(tmp_path, commands, capsys):
    """Quick, and never under the name of a real one."""
    module, noted = commands
    (scheduler, source), (client, _) = module.Cache(tmp_path, NOWHERE, 1).get(module.RELEASES)
    assert source == "built-lab"
    assert "cannot be reached" in capsys.readouterr().out
    assert noted[0][0][-1] == "--build"
    builds = {command[0]: (command, env) for command, env in noted}
    assert builds["go"][0][-2:] == ["d7y.io/dragonfly/v2/cmd/scheduler", "d7y.io/dragonfly/v2/cmd/manager"]
    assert builds["cargo"][1]["CARGO_PROFILE_RELEASE_OPT_LEVEL"] == "1"
    with tarfile.open(scheduler) as tar:
        assert tar.getnames() == ["manager", "scheduler"]
    assert client.name == module.RELEASES[1].archive
    assert {path.name for path in (tmp_path / "programs").iterdir()} == {f"{release.slug}-lab" for release in RELEASES}
    noted.clear()
    assert [source for _path, source in module.Cache(tmp_path, NOWHERE, 1).get(module.RELEASES)] == ["built-lab"] * 2
    assert noted == [], "built once"


def test_an_optimised_build_has_all_programs_and_the_release_s_own_profile(tmp_path, commands):
    module, noted = commands
    for release in RELEASES:
        add_programs(tmp_path, release, "-lab")  # which it must not take
    cache = module.Cache(tmp_path / "cache", NOWHERE, 1, optimised=True)
    assert [source for _path, source in cache.get(module.RELEASES)] == ["built"] * 2
    builds = {command[0]: (command, env) for command, env in noted}
    assert builds["go"][0][-2:] == ["d7y.io/dragonfly/v2/cmd/scheduler", "d7y.io/dragonfly/v2/cmd/manager"]
    assert not [name for name in builds["cargo"][1] if name.startswith("CARGO_PROFILE")]


def test_programs_that_were_built_for_the_lab_are_the_lab_s_last_choice(tmp_path, mirror):
    for release in RELEASES:
        add_programs(tmp_path, release, "-lab")
    assert {fact["source"] for fact in run(tmp_path)[2].values()} == {"built-lab"}
    assert {fact["source"] for fact in run(tmp_path, mirror.url, "--optimised")[2].values()} == {"published"}
    assert {fact["source"] for fact in run(tmp_path)[2].values()} == {"published"}


def test_programs_of_before_are_preferred(tmp_path):
    for release in RELEASES:
        add_programs(tmp_path, release, "-lab")
        add_programs(tmp_path, release)
    assert {fact["source"] for fact in run(tmp_path)[2].values()} == {"built"}
