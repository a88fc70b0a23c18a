# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import os
import zipfile

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import endpoint_plugin

# Writes one class file for every source, as javac does; what it is told is checked.
JAVAC = """#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in
        -cp) test -s "$2" || exit 3; shift ;;
        -d) out=$2; shift ;;
        *.java) mkdir -p "$out/org"; grep -q BROKEN "$1" && { echo "error in $1" >&2; exit 1; }
                cp "$1" "$out/org/$(basename "$1" .java).class" ;;
    esac
    shift
done
"""


@pytest.fixture
def args(tmp_path):
    sources = tmp_path / "src"
    (sources / "META-INF/services").mkdir(parents=True)
    (sources / "META-INF/services/api").write_text("org.B\n")
    (sources / "org").mkdir()
    for name in ("B", "A"):
        (sources / "org" / (name + ".java")).write_text("class " + name)
    javac = tmp_path / "javac"
    javac.write_text(JAVAC)
    javac.chmod(0o755)
    with zipfile.ZipFile(tmp_path / "torchserve.whl", "w") as wheel:
        wheel.writestr("ts/frontend/model-server.jar", b"server")
    return {
        "src": str(sources),
        "dest": str(tmp_path / "out/plugin.jar"),
        "torchserve_wheel": str(tmp_path / "torchserve.whl"),
        "javac": str(javac),
        "mode": "0644",
    }


def test_builds_a_jar_with_sorted_entries_of_one_time(run_module, args):
    result = run_module(endpoint_plugin.main, args)
    assert result["changed"] and len(result["sha256"]) == len(result["inputs_sha256"]) == 64
    with zipfile.ZipFile(args["dest"]) as jar:
        assert jar.namelist() == ["META-INF/MANIFEST.MF", "META-INF/services/api", "org/A.class", "org/B.class"]
        assert {entry.date_time for entry in jar.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_idempotent_until_an_input_changes(run_module, args):
    first = run_module(endpoint_plugin.main, args)
    assert not run_module(endpoint_plugin.main, args)["changed"]
    with open(os.path.join(args["src"], "org/A.java"), "a", encoding="utf-8") as source:
        source.write(" // more")
    second = run_module(endpoint_plugin.main, args)
    assert second["changed"] and second["sha256"] != first["sha256"]


def test_the_same_jar_from_the_wheel_and_from_its_model_server_jar(run_module, args, tmp_path):
    first = run_module(endpoint_plugin.main, args)
    (tmp_path / "model-server.jar").write_bytes(b"server")
    del args["torchserve_wheel"]
    second = run_module(
        endpoint_plugin.main, {**args, "torchserve_jar": str(tmp_path / "model-server.jar"), "dest": str(tmp_path / "2.jar")}
    )
    assert second["sha256"] == first["sha256"]


def test_another_wheel_than_the_pinned_one_is_refused(run_module, args, tmp_path):
    digest = hashlib.sha256((tmp_path / "torchserve.whl").read_bytes()).hexdigest()
    refused = run_module(endpoint_plugin.main, {**args, "torchserve_wheel_sha256": "9f" * 32})
    assert f"Refused {tmp_path}/torchserve.whl: its sha256 is {digest}, expected {'9f' * 32}. Nothing was built" in refused["msg"]
    assert not os.path.exists(args["dest"])
    assert run_module(endpoint_plugin.main, {**args, "torchserve_wheel_sha256": digest.upper()})["changed"]


def test_check_mode_builds_nothing(run_module, args):
    assert run_module(endpoint_plugin.main, args, check=True)["changed"]
    assert not os.path.exists(args["dest"])
    run_module(endpoint_plugin.main, args)
    assert not run_module(endpoint_plugin.main, args, check=True)["changed"]


@pytest.mark.parametrize("missing", ["src", "torchserve_wheel", "javac"])
def test_check_mode_with_something_still_missing_predicts_the_build(run_module, args, missing):
    result = run_module(endpoint_plugin.main, {**args, missing: "/nonexistent/" + missing}, check=True)
    assert result["changed"] and result["sha256"] == result["inputs_sha256"] == ""


@pytest.mark.parametrize(
    ("option", "said"),
    [("src", "no Java sources in"), ("torchserve_wheel", "there is no file"), ("javac", "endpoint_plugin_build_host")],
)
def test_what_is_missing_is_named(run_module, args, option, said):
    result = run_module(endpoint_plugin.main, {**args, option: "/nonexistent/" + option})
    assert result["failed"] and said in result["msg"] and "/nonexistent/" + option in result["msg"]


def test_a_wheel_without_the_jar_is_named(run_module, args):
    with zipfile.ZipFile(args["torchserve_wheel"], "w") as wheel:
        wheel.writestr("other", b"")
    result = run_module(endpoint_plugin.main, args)
    assert result["failed"] and args["torchserve_wheel"] in result["msg"]


def test_what_the_compiler_says_is_returned_and_the_old_jar_stays(run_module, args):
    before = run_module(endpoint_plugin.main, args)
    with open(os.path.join(args["src"], "org/A.java"), "w", encoding="utf-8") as source:
        source.write("BROKEN")
    result = run_module(endpoint_plugin.main, args)
    assert result["failed"] and "javac ended with 1" in result["msg"] and "error in" in result["stderr"]
    assert run_module(endpoint_plugin.main, args, check=True)["sha256"] == before["sha256"]


def test_exactly_one_torchserve(run_module, args):
    assert "mutually exclusive" in run_module(endpoint_plugin.main, {**args, "torchserve_jar": "/x"})["msg"]
