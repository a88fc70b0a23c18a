# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever text reaches a unit, a properties file or YAML is what its reader finds there; systemd, Java and PyYAML judge."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "collections"))
from ansible_collections.modelfleet.serving.plugins.module_utils import _dragonfly_config, _systemd, _torchserve_config  # noqa: E402

# What readers have rules for is frequent, all of Unicode is possible.
TEXT = st.text(st.sampled_from(" \t%\"'\\$;#!:=-{}@é\u0085\u2028\ufeff\U0001f600ansu0x\n") | st.characters())
WORDS = st.lists(TEXT.filter(lambda text: _systemd.problem(text) is None), min_size=1, max_size=20)
# The same inputs in every run: a failure in a change is a failure of that change. A reader takes its time to start.
TRIED = settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def read_unit():
    """What systemd has read from the lines of a service: (its environment, the arguments of its command)."""
    # Not below pytest's directories, which only their owner may enter: systemd refuses to try a unit as root.
    units = Path(tempfile.mkdtemp(prefix="modelfleet-units-"))
    directory, user = units, []
    if os.geteuid() == 0:
        os.chown(units, 65534, 65534)
        # systemd makes a directory in /tmp whatever TMPDIR says, and there are hosts on which only root may.
        directory = "/tmp"
        user = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /tmp && exec "$@"', units]
        user += ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    command = [*user, "/lib/systemd/systemd", "--test", "--user", "--unit=probe.service"]
    environment = {"PATH": os.environ["PATH"], "XDG_RUNTIME_DIR": directory, "SYSTEMD_UNIT_PATH": directory, "LC_ALL": "C.UTF-8"}

    def read(*lines):
        (units / "probe.service").write_text("\n".join(["[Unit]", "DefaultDependencies=no", "[Service]", *lines, ""]), encoding="utf-8")
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        assert done.returncode == 0, done.stdout.decode()
        # Newer versions draw an arrow.
        dump = done.stdout.decode().replace("\t\u2192 ", "\t-> ")
        shown = dump.partition("\t-> Unit probe.service:\n")[2].partition("\n\t-> ")[0].split("\n")
        # The dump quotes as a shell does.
        words = [re.findall(r'"((?:[^"\\]|\\.)*)"|([^ ]+)', line.partition(": ")[2]) for line in shown if "\t\tCommand Line: " in line]
        arguments = [re.sub(r"\\(.)", lambda found: {"t": "\t"}.get(found[1], found[1]), quoted) or plain for quoted, plain in words[0][1:]]
        return [line.partition(": ")[2] for line in shown if line.startswith("\t\tEnvironment: ")], arguments

    yield read
    shutil.rmtree(units)


@pytest.fixture(scope="module")
def read_properties(tmp_path_factory):
    """What Java has read from a properties file."""
    work = tmp_path_factory.mktemp("java")
    (work / "Show.java").write_text(
        """
        import java.io.*; import java.nio.charset.StandardCharsets; import java.util.*;
        public class Show {
            public static void main(String[] arguments) throws IOException {
                Properties properties = new Properties();
                properties.load(System.in);
                PrintStream out = new PrintStream(System.out, false, "UTF-8");
                for (String key : properties.stringPropertyNames()) {
                    byte[] value = properties.getProperty(key).getBytes(StandardCharsets.UTF_16BE);
                    StringBuilder hex = new StringBuilder();
                    for (byte one : value) hex.append(String.format("%02x", one));
                    out.println(key + " " + hex);
                }
                out.flush();
            }
        }
        """,
        encoding="utf-8",
    )
    subprocess.run(["javac", "Show.java"], cwd=work, check=True)

    def read(text):
        command = ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", str(work), "Show"]
        done = subprocess.run(command, input=text.encode(), stdout=subprocess.PIPE, check=True)
        lines = (line.split(" ") for line in done.stdout.decode().splitlines())
        return {key: bytes.fromhex(value).decode("utf-16-be", "surrogatepass") for key, value in lines}

    return read


@TRIED
@given(WORDS)
def test_systemd_reads_what_was_quoted(read_unit, words):
    environment = [f"Environment={_systemd.quote(f'N{number}={word}')}" for number, word in enumerate(words)]
    arguments = " ".join(_systemd.quote(word, argument=True) for word in words)
    found = read_unit(*environment, f"ExecStart=/bin/true {arguments}")
    # $$ becomes $ only when the command is run.
    assert found == ([f"N{number}={word}" for number, word in enumerate(words)], [word.replace("$", "$$") for word in words])


@TRIED
@given(WORDS)
def test_java_reads_what_was_escaped(read_properties, words):
    config = {f"n{number}": word for number, word in enumerate(words)}
    assert read_properties(_torchserve_config.to_properties(config)) == config


@TRIED
@given(st.recursive(TEXT | st.integers() | st.booleans(), lambda below: st.lists(below) | st.dictionaries(TEXT, below), max_leaves=20))
def test_a_yaml_parser_reads_what_was_written(value):
    assert yaml.safe_load(_dragonfly_config.to_yaml(value)) == value
