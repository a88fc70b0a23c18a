# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jar is built reproducibly, once, and works wherever it was compiled."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile

import pytest
import yaml
from archive import build as build_archive
from conftest import SOURCES, VERSIONS

JAR = "roles/endpoint_plugin/files/dragonfly-endpoint.jar"


def test_equal_inputs_make_equal_bytes(server_jar, build_plugin, tmp_path):
    sources = shutil.copytree(SOURCES, tmp_path / "elsewhere/src")
    first = build_plugin(server_jar("0.12.0"), tmp_path / "first.jar")
    second = build_plugin(server_jar("0.12.0"), tmp_path / "second.jar", src=sources)
    assert first["changed"] and second["changed"]
    assert first["sha256"] == second["sha256"]
    assert first["inputs_sha256"] == second["inputs_sha256"]

    again = build_plugin(server_jar("0.12.0"), tmp_path / "first.jar")
    assert not again["changed"]

    with (sources / "org/modelfleet/serving/endpoint/Hex.java").open("a") as source:
        source.write("// another input\n")
    assert build_plugin(server_jar("0.12.0"), tmp_path / "second.jar", src=sources)["changed"]


def test_the_classes_are_the_same_for_every_torchserve(server_jar, build_plugin, tmp_path):
    contents = []
    for version in VERSIONS:
        build_plugin(server_jar(version), tmp_path / f"{version}.jar")
        with zipfile.ZipFile(tmp_path / f"{version}.jar") as jar:
            contents.append({name: jar.read(name) for name in jar.namelist() if name != "META-INF/MANIFEST.MF"})
    assert contents[0] == contents[1]


def test_a_fleet_of_two_versions_has_one_jar_whatever_a_run_is_limited_to(run, tmp_path):
    hosts = {"gpu-1": {"torchserve_version": "0.12.0"}, "gpu-2": {"torchserve_version": "0.11.1"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"gpu_hosts": {"hosts": hosts}}}}))
    role = SOURCES.parent.parent
    tasks = [{"ansible.builtin.debug": {"msg": "built as {{ __endpoint_plugin_built_jar | basename }}"}}]
    files = [str(role / part / "main.yml") for part in ("defaults", "vars")]
    play = {"hosts": "all", "gather_facts": False, "vars": {"role_path": str(role)}, "vars_files": files, "tasks": tasks}
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    names = set()
    for limit in ("all", "gpu-1", "gpu-2"):
        done = run("ansible-playbook", "-i", tmp_path / "hosts.yml", tmp_path / "play.yml", "--limit", limit)
        names.update(re.findall(r"built as (\S+)", done.stdout))
    assert len(names) == 1 and names.pop().startswith("dragonfly-endpoint-0.12.0-"), done.stdout


@pytest.fixture(scope="module")
def released(run, tmp_path_factory):
    """The collection as ``make collection`` builds it, installed; the archive and where it is installed."""
    place = tmp_path_factory.mktemp("released")
    # With the compiler of this machine; a release is built with the one that the Makefile names.
    version = subprocess.run(["javac", "-version"], capture_output=True, text=True, check=True).stdout.split()[1]
    # The environment that this test runs in is there.
    make = ["make", "--assume-old=.venv/complete", "collection"]
    built = run(*make, f"DEST={place}", f"JDK={version.partition('.')[0]}")
    assert built.returncode == 0, built.stdout
    (archive,) = place.glob("*.tar.gz")
    installed = run("ansible-galaxy", "collection", "install", "--offline", "--force", "-p", place, archive)
    assert installed.returncode == 0, installed.stdout
    return archive, place


def test_a_build_elsewhere_and_later_has_the_same_bytes(released, tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    before = os.umask(0o077)
    try:
        again = build_archive(tmp_path / "again")
    finally:
        os.umask(before)
    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(released[0].read_bytes()).hexdigest()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_another_compiler_makes_other_classes_and_is_refused(run):
    built = run("make", "--assume-old=.venv/complete", "collection", "JDK=1")
    assert built.returncode != 0 and "built with JDK 1" in built.stdout and "JAVAC=" in built.stdout, built.stdout


def test_the_archive_of_the_collection_names_the_digest_of_its_jar(released, server_jar, build_plugin, tmp_path):
    archive, _place = released
    with tarfile.open(archive) as tar:
        (entry,) = [one for one in json.load(tar.extractfile("FILES.json"))["files"] if one["name"] == JAR]
        content = tar.extractfile(JAR).read()
    assert entry["chksum_sha256"] == hashlib.sha256(content).hexdigest()
    # It is that of the tracked sources, whichever compiler made the classes.
    build_plugin(server_jar("0.12.0"), tmp_path / "here.jar")
    with zipfile.ZipFile(io.BytesIO(content)) as shipped, zipfile.ZipFile(tmp_path / "here.jar") as here:
        assert shipped.read("META-INF/MANIFEST.MF") == here.read("META-INF/MANIFEST.MF")
        assert shipped.namelist() == here.namelist()
    # What is shipped is stale as soon as a source changes, so none is left where sources are edited.
    assert not (SOURCES.parent / "dragonfly-endpoint.jar").exists()


def test_an_installed_collection_takes_the_jar_that_it_came_with(released, run, tmp_path):
    """Without a compiler, pip or a wheel on the controller."""
    _archive, place = released
    shipped = place / "ansible_collections/modelfleet/serving" / JAR
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "endpoint_plugin_build_dir": str(tmp_path / "build"),
        "endpoint_plugin_python": "/nonexistent/python",
        "endpoint_plugin_javac": "/nonexistent/javac",
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "__modelfleet_host_ready": True,
    }
    role = "modelfleet.serving.endpoint_plugin"
    include = [{"ansible.builtin.include_role": {"name": role, "tasks_from": part}} for part in ("build", "main")]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "vars": variables, "tasks": include}]))

    def play(*options):
        done = run(
            "ansible-playbook", "-i", "gpu-1,", "--check", "--diff", *options, "play.yml", cwd=tmp_path, ANSIBLE_COLLECTIONS_PATH=str(place)
        )  # fmt: skip
        return done.stdout

    output = play()
    installed = output.partition("Install the endpoint plugin] ")[2].partition("TASK [")[0]
    assert "changed: [gpu-1]" in installed and "is not built yet" not in output, output
    assert not (tmp_path / "build").exists()
    # A jar that is named goes first, and without any the play builds one.
    output = play("-e", "endpoint_plugin_jar=/nonexistent.jar")
    assert "is not built yet" in output, output
    shipped.unlink()
    output = play()
    assert "is not built yet" in output and "Build the endpoint plugin] *" in output, output


def test_the_files_of_a_user_lie_outside_the_installed_collection(released, run, tmp_path):
    """By the name of a play, where playbook_dir is the collection's own."""
    _archive, place = released
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": {"ansible_connection": "local"}}}}))
    artifact = {"src": "notes.txt", "object": "notes.txt"}
    variables = {"modelfleet_storage": {"http": {"url": "http://127.0.0.1:9"}}, "modelfleet_artifacts": [artifact]}
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(place)}
    options = ["-i", "hosts.yml", "-e", json.dumps(variables)]
    done = run("ansible-playbook", *options, "modelfleet.serving.publish", cwd=tmp_path, **environment)
    assert done.returncode != 0 and f"{tmp_path}/files/notes.txt" in done.stdout, done.stdout
