# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One table of nftables, by an nft that only pretends: it keeps the text that it loaded, and lists it as the real one does."""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _nft
from ansible_collections.modelfleet.serving.plugins.modules import nft_table

RULES = "chain input {\n    type filter hook input priority filter; policy accept;\n}\n"
SETS = [
    {"name": "peers4", "type": "ipv4_addr", "elements": ["10.0.0.2", "10.0.0.1", "10.0.0.1"]},
    {"name": "peers6", "type": "ipv6_addr", "elements": ["FD00:0::1"]},
    {"name": "ports", "type": "inet_service", "elements": [4005, "4000"]},
]


def listing(text):
    """As nft lists it: no comments, and elements in a line."""
    body = text.partition("delete table inet modelfleet\n")[2]
    body = "\n".join(line for line in body.splitlines() if line.strip() and not line.startswith("#"))
    return re.sub(r"elements = \{\s*([^}]*?)\s*\}", lambda found: f"elements = {{ {' '.join(found[1].split())} }}", body) + "\n"


@pytest.fixture
def kernel(monkeypatch):
    state = SimpleNamespace(table=None, calls=[], fails={}, text="", refused=[])

    def run_command(_module, command, data=None, **_options):
        verb = "try" if command[0] == "unshare" else command[1].removeprefix("--") if command[1] != "--stateless" else "list"
        if command[-1] == "true":
            verb = "enter"
        state.calls.append(verb)
        if command[0] == "unshare" and command[1:-1] in state.refused:
            # It may be gone before the rules are written to it.
            assert data is None
            return 1, "", "unshare: unshare failed: Operation not permitted\n"
        if verb in state.fails:
            return 1, "", f"{state.fails[verb]}\n  where it is\n  ^^^^^\n"
        if verb == "list":
            missing = "Error: No such file or directory; did you mean table 'filter' in family ip?\n"
            return (1, "", missing) if state.table is None else (0, state.table, "")
        if verb == "try":
            return 0, listing(data), ""
        if verb == "file":
            state.table = listing(Path(command[-1]).read_text())
        if verb == "delete":
            assert command[1:] == ["delete", "table", "inet", "modelfleet"]
            state.table = None
        return 0, "", ""

    monkeypatch.setattr(nft_table.CheckedModule, "run_command", run_command)
    monkeypatch.setattr(_nft, "program", lambda: "/usr/sbin/nft")
    return state


@pytest.fixture
def run(run_module, tmp_path):
    def call(check=False, **options):
        args = {"name": "modelfleet", "path": str(tmp_path / "table.nft"), "sets": SETS, "rules": RULES, **options}
        args = {name: value for name, value in args.items() if value is not None}
        return run_module(nft_table.main, args, check=check, diff=True)

    return call


def test_root_in_a_sandbox_tries_rules_too(kernel, run):
    kernel.refused = [["--net"]]
    assert run()["changed"] and kernel.calls == ["list", "enter", "enter", "try", "check", "file"]


def test_without_a_namespace_nothing_is_loaded(kernel, run, tmp_path):
    kernel.refused = [["--net"], ["--user", "--keep-caps", "--net"]]
    said = "in a network namespace: unshare: unshare failed: Operation not permitted. Nothing was changed."
    assert said in run()["msg"] and kernel.calls == ["list", "enter", "enter"] and not (tmp_path / "table.nft").exists()


def test_it_is_loaded_once(kernel, run, tmp_path):
    result = run()
    assert result["changed"] and (result["action"], result["table"]) == ("loaded", "absent")
    assert result["files"] == [str(tmp_path / "table.nft")]
    assert result["added"] == {"peers4": ["10.0.0.2", "10.0.0.1"], "peers6": ["fd00::1"], "ports": ["4005", "4000"]}
    # Tried elsewhere, then checked against the kernel itself, before the file is there.
    assert kernel.calls == ["list", "enter", "try", "check", "file"]
    assert result["diff"][0]["before"] == "" and "chain input" in result["diff"][0]["after"]
    kernel.calls.clear()
    again = run()
    assert not again["changed"] and again["diff"] == [] and again["table"] == "wanted"
    assert kernel.calls == ["list", "enter", "try"]


def test_the_file_replaces_the_table_in_one_transaction(kernel, run, tmp_path):
    run(users=[{"name": "daemons", "users": ["root", "0", "7"]}])
    text = (tmp_path / "table.nft").read_text()
    assert text.startswith("#!/usr/sbin/nft -f\n# Managed by Ansible (modelfleet.serving): changes made here are lost.\n")
    commands = [line for line in text.splitlines() if line.startswith(("table ", "delete "))]
    assert commands == ["table inet modelfleet", "delete table inet modelfleet", "table inet modelfleet {", "table inet modelfleet {"]
    assert [line.strip(" ,") for line in text.splitlines() if re.match(r" +[\da-f.:]+,?$", line)] == [
        "10.0.0.1", "10.0.0.2", "fd00::1", "4000", "4005", "0", "7",
    ]  # fmt: skip
    assert oct(os.stat(tmp_path / "table.nft").st_mode)[-3:] == "644"


def test_check_mode_changes_nothing(kernel, run, tmp_path):
    result = run(check=True)
    assert result["changed"] and result["action"] == "loaded" and result["files"] == [str(tmp_path / "table.nft")]
    assert kernel.table is None and not (tmp_path / "table.nft").exists() and kernel.calls == ["list", "enter", "try"]


def test_what_somebody_changed_in_the_kernel_is_made_good(kernel, run):
    run()
    wanted = kernel.table
    kernel.table = wanted.replace("10.0.0.1,", "10.0.0.1, 10.0.0.9,")
    found = run(check=True)
    assert found["changed"] and found["table"] == "different" and found["files"] == [] and found["removed"] == {"peers4": ["10.0.0.9"]}
    assert run()["changed"] and kernel.table == wanted


def test_who_is_gone_stays_as_long_as_it_is_said(kernel, run):
    run()
    fewer = [{**SETS[0], "elements": ["10.0.0.1"]}, *SETS[1:]]
    first = run(sets=fewer, keep=True)
    assert not first["changed"] and first["kept"] == {"peers4": ["10.0.0.2"]} and first["removed"] == {}
    last = run(sets=fewer)
    assert last["changed"] and last["kept"] == {} and last["removed"] == {"peers4": ["10.0.0.2"]}
    assert not run(sets=fewer, keep=True)["changed"]


def test_without_rules_those_on_the_host_stay(kernel, run, tmp_path):
    nothing = run(rules=None)
    assert not nothing["changed"] and (nothing["action"], nothing["files"]) == ("none", []) and kernel.calls == []
    run(users=[{"name": "daemons", "users": ["root"]}])
    own = (tmp_path / "table.nft").read_text().partition(_nft.MARK)[2]
    more = [{**SETS[0], "elements": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]}, *SETS[1:]]
    result = run(rules=None, sets=more)
    assert result["changed"] and result["added"] == {"peers4": ["10.0.0.3"]}
    assert (tmp_path / "table.nft").read_text().endswith(own) and "set daemons" in own and "chain input" in own


def test_it_is_removed(kernel, run, tmp_path):
    run()
    gone = run(check=True, state="absent")
    assert gone["changed"] and gone["action"] == "removed" and kernel.table is not None
    gone = run(state="absent")
    assert gone["changed"] and gone["files"] == [str(tmp_path / "table.nft")] and kernel.table is None
    assert gone["diff"][0]["after"] == "" and "chain input" in gone["diff"][0]["before"]
    assert not run(state="absent")["changed"]


def test_nothing_is_left_without_the_program(kernel, run, monkeypatch, tmp_path):
    run()
    monkeypatch.setattr(_nft, "program", lambda: None)
    assert run(state="absent")["changed"] and not (tmp_path / "table.nft").exists()
    assert "there is no program nft on this host; install the package nftables" in run()["msg"]


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("list", "Failed to list the table inet modelfleet: Error: it. See that the kernel has nf_tables"),
        ("try", "Failed to try the rules of the table inet modelfleet in a network namespace: Error: it. Nothing was changed."),
        ("check", "Failed to check the table modelfleet: Error: it. Correct what it names"),
        ("file", "Failed to load the table modelfleet: Error: it."),
    ],
)
def test_what_nft_refuses_is_named(kernel, run, tmp_path, verb, words):
    kernel.fails[verb] = "Error: it"
    assert words in run()["msg"]
    assert kernel.table is None and (verb == "file" or not (tmp_path / "table.nft").exists())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "a b"}, "Refused the name 'a b' of a table: it has letters, digits and '_'"),
        ({"sets": [{"name": "x; flush", "type": "ipv4_addr"}]}, "Refused the name 'x; flush' of a set"),
        ({"users": [{"name": "9", "users": []}]}, "Refused the name '9' of a set"),
        ({"path": "table.nft"}, "Refused the path 'table.nft' of the table modelfleet: write an absolute one."),
        (
            {"sets": [{**SETS[0], "elements": ["gpu-1"]}]},
            "Refused the element 'gpu-1' of the set peers4: it is not an IPv4 address; correct it.",
        ),
        ({"sets": [{**SETS[0], "elements": ["10.0.0.0/8"]}]}, "'10.0.0.0/8' of the set peers4: it is not an IPv4 address"),
        ({"sets": [{**SETS[0], "elements": ["fd00::1"]}]}, "'fd00::1' of the set peers4: it is not an IPv4 address"),
        ({"sets": [{**SETS[1], "elements": ["fe80::1%eth0"]}]}, "'fe80::1%eth0' of the set peers6: it is not an IPv6 address"),
        ({"sets": [{**SETS[2], "elements": [65536]}]}, "'65536' of the set ports: it is not a port from 1 to 65535"),
        ({"sets": [{**SETS[2], "elements": ["http"]}]}, "'http' of the set ports: it is not a port"),
        (
            {"users": [{"name": "daemons", "users": ["no-such-user"]}]},
            "Failed to find the user 'no-such-user' of the set daemons on this host",
        ),
        ({"users": [{"name": "daemons", "users": ["4294967296"]}]}, "Refused the user 4294967296 of the set daemons"),
    ],
)
def test_bad_input_is_refused(kernel, run, options, words):
    result = run(**options)
    assert result["failed"] and words in result["msg"]
    assert kernel.table is None and "file" not in kernel.calls


def test_a_user_who_is_yet_to_come_is_left_out_in_check_mode(kernel, run):
    result = run(check=True, users=[{"name": "daemons", "users": ["root", "no-such-user"]}])
    assert result["changed"] and "elements = { 0 }" in result["diff"][0]["after"]


def test_a_file_that_somebody_else_wrote_is_not_guessed_at(kernel, run, tmp_path):
    (tmp_path / "table.nft").write_text("table inet modelfleet {\n}\n")
    assert "is not as this module wrote it. Give the rules, which writes it anew." in run(rules=None)["msg"]
    assert run()["changed"]
