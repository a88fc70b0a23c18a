# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever config.json or a request says, the plugin takes it or refuses it in a sentence without a secret."""

from __future__ import annotations

import os
import random
import subprocess

from conftest import REPOSITORY

LONG = os.environ.get("FUZZ") == "long"
# Half of them files, half of them requests.
INPUTS = 2 * int(os.environ.get("FUZZ_INPUTS", "10000")) if LONG else 2000


def test_any_input_has_an_answer(plugin_jar, server_jar, tmp_path):
    classpath = f"{plugin_jar}:{server_jar('0.12.0')}"
    driver = REPOSITORY / "tests/plugin/java/FuzzDriver.java"
    subprocess.run(["javac", "--release", "11", "-proc:none", "-encoding", "UTF-8", "-cp", classpath, "-d", tmp_path, driver], check=True)
    seed = random.SystemRandom().getrandbits(32) if LONG else 1
    # Names are looked up in this file alone.
    (tmp_path / "hosts").write_text("127.0.0.1 h\n")
    java = ["java", f"-Djdk.net.hosts.file={tmp_path}/hosts", "-cp", f"{tmp_path}:{classpath}"]
    arguments = [str(seed), str(INPUTS), str(tmp_path / "config.json")]
    command = [*java, "org.modelfleet.serving.endpoint.FuzzDriver", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", errors="replace", check=False)
    assert done.returncode == 0, f"seed {seed}: {done.stderr}"
    taken, refused = (int(part.split()[0]) for part in done.stdout.split(","))
    assert taken + refused == INPUTS and min(taken, refused) > INPUTS / 10
