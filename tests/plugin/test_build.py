# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The jar is built reproducibly, once, and works wherever it was compiled."""

from __future__ import annotations

import shutil
import zipfile

from conftest import SOURCES, VERSIONS


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
