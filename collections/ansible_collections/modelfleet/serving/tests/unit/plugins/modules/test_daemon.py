# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The module on a systemd that only pretends: it knows units as they were loaded, and its starts write the record as the drop-in says."""

from __future__ import annotations

import grp
import http.server
import os
import pwd
import re
import shlex
import socket
import subprocess
import threading

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import daemon

OWNER = {"owner": pwd.getpwuid(os.geteuid()).pw_name, "group": grp.getgrgid(os.getegid()).gr_name}
UNIT = "[Service]\nExecStart=/bin/true\n"


class Systemd:
    """What the test's systemctl knows and was told."""

    def __init__(self, root):
        self.units = root / "units"
        self.units.mkdir()
        self.state = {"ActiveState": "inactive", "SubState": "dead", "UnitFileState": "disabled", "Result": "success"}
        self.loaded = None
        self.calls = []
        self.fails = ""

    def on_disk(self):
        return {path: path.read_text() for path in sorted(self.units.rglob("*")) if path.is_file() and not path.is_symlink()}

    def systemctl(self, _module, command, **_options):
        verb = command[1]
        if verb == "show":
            # It tells of those units that it is asked about, each with its drop-ins.
            unread = {} if self.loaded is None else dict(self.loaded.items() ^ self.on_disk().items())
            reload = any(re.search(rf"/{re.escape(name)}($|\.d/)", str(path)) for path in unread for name in command[3:])
            if "--property=NeedDaemonReload" in command and not all(name.endswith((".service", ".socket")) for name in command[3:]):
                return 1, "", "Unit name is not valid.\n"
            return (
                0,
                "".join(f"{key}={value}\n" for key, value in {**self.state, "NeedDaemonReload": "yes" if reload else "no"}.items()),
                "",
            )
        self.calls.append(verb)
        if verb == self.fails:
            return 1, "", f"Job for {command[-1]} failed.\n"
        if verb == "daemon-reload":
            self.loaded = self.on_disk()
        elif verb == "enable":
            self.state["UnitFileState"] = "enabled"
            link = self.units / "multi-user.target.wants/peer.service"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(self.units / "peer.service")
        elif verb == "reload":
            self.write_records("ExecReload")
        elif verb in ("stop", "reset-failed"):
            self.state.update(ActiveState="inactive", SubState="dead")
        else:
            self.start()
        return 0, "", ""

    def start(self):
        """A start by whomever: systemd runs what it has loaded."""
        self.state.update(ActiveState="active", SubState="running")
        self.write_records("ExecStartPre")

    def write_records(self, when):
        lines = [line for text in self.loaded.values() for line in text.splitlines() if line.startswith(f"{when}=+/bin/sh")]
        assert lines
        for line in lines:
            shell, option, script, *arguments = shlex.split(line.partition("=+")[2])
            subprocess.run([shell, option, script.replace("$$", "$"), *arguments], check=True)

    def told(self):
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def host(tmp_path, monkeypatch):
    systemd = Systemd(tmp_path)
    monkeypatch.setattr(daemon, "UNITS", str(systemd.units))

    def run_command(module, command, **options):
        return systemd.systemctl(module, command, **options)

    monkeypatch.setattr(daemon.DiscreetModule, "run_command", run_command)
    return systemd


@pytest.fixture
def run(host, tmp_path, run_module):
    def call(unit=UNIT, config="port: 1\n", reread="addrs: []\n", check=False, diff=False, **options):
        files = [
            {"path": str(host.units / "peer.service"), "content": unit},
            {"path": str(tmp_path / "peer.yaml"), "content": config, "mode": "0640"},
            {"path": str(tmp_path / "reread.yaml"), "content": reread, "restart": False},
        ]
        args = {
            "name": "peer.service",
            "files": [{**OWNER, **entry} for entry in files],
            "started_record": str(tmp_path / "started.sha256"),
            "started_from": [str(tmp_path / "release")],
            **options,
        }
        return run_module(daemon.main, {name: value for name, value in args.items() if value is not None}, check=check, diff=diff)

    return call


def test_an_empty_host_in_check_mode(run, host, tmp_path):
    result = run(check=True)
    assert result["changed"] and result["action"] == "started" and not result["restart_owed"]
    assert len(result["files"]) == 4
    assert host.told() == [] and not (tmp_path / "peer.yaml").exists() and not list(host.units.iterdir())


def test_the_first_start_and_then_nothing(run, host, tmp_path):
    result = run()
    assert result["changed"] and result["action"] == "started"
    assert host.told() == ["daemon-reload", "enable", "start"]
    assert (tmp_path / "peer.yaml").stat().st_mode & 0o7777 == 0o640
    for check in (True, False):
        again = run(check=check)
        assert not again["changed"] and again["action"] == "none" and again["stale"] == [] and again["files"] == []
    assert host.told() == []


@pytest.mark.parametrize(("change", "reload"), [({"config": "port: 2\n"}, False), ({"unit": UNIT + "# other\n"}, True)])
def test_other_files_restart_it(run, host, change, reload):
    run()
    host.told()
    predicted = run(check=True, **change)
    assert predicted["changed"] and predicted["action"] == "restarted" and host.told() == []
    result = run(**change)
    assert {key: result[key] for key in ("changed", "action", "stale", "files")} == {
        key: predicted[key] for key in ("changed", "action", "stale", "files")
    }
    assert host.told() == (["daemon-reload"] if reload else []) + ["restart"]
    assert not run(**change)["changed"]


def test_what_the_daemon_reads_again_restarts_nothing(run, host):
    run()
    host.told()
    result = run(reread="addrs: [1]\n")
    assert result["changed"] and result["action"] == "none" and result["stale"] == []
    assert host.told() == []
    # It names what the daemon needs, so that is asked first.
    needs = {"what": "the scheduler", "addresses": ["127.0.0.1:1"], "timeout": 0}
    assert "Failed to reach the scheduler" in run(reread="addrs: [2]\n", needs=needs)["msg"]
    assert not run(reread="addrs: [1]\n", needs=needs)["changed"], "so the file is as it was"


def test_what_it_takes_over_by_a_reload(run, host, tmp_path):
    """Also after a run that died in between, and not where it must be restarted anyway."""

    def given(config="port: 1\n", map_="a b\n", **options):
        files = [
            {"path": str(host.units / "peer.service"), "content": UNIT},
            {"path": str(tmp_path / "peer.yaml"), "content": config},
            {"path": str(tmp_path / "peer.map"), "content": map_, "reload": True, "secret": True},
        ]
        return run(files=[{**OWNER, **entry} for entry in files], **options)

    given()
    host.told()
    assert not given()["changed"]
    for check in (True, False):
        result = given(map_="hidden\n", check=check, diff=True)
        assert result["changed"] and result["action"] == "reloaded" and not result["restart_owed"]
        assert "hidden" not in str(result["diff"]) and "(another secret)" in str(result["diff"])
    assert host.told() == ["reload"]
    assert not given(map_="hidden\n")["changed"]
    (tmp_path / "peer.map").write_text("other\n")
    host.fails = "reload"
    assert "Failed to reload peer.service" in given(map_="other\n")["msg"]
    host.fails = ""
    assert given(map_="other\n")["action"] == "reloaded"
    assert given(map_="last\n", config="port: 2\n")["action"] == "restarted"
    assert not given(map_="last\n", config="port: 2\n")["changed"]
    owed = given(map_="first\n", config="port: 3\n", restart="deferred")
    assert owed["action"] == "reloaded" and owed["restart_owed"]


def test_a_release_that_comes_or_changes_restarts_it(run, host, tmp_path):
    run()
    (tmp_path / "release").write_text("1")
    assert run()["action"] == "restarted"
    assert run()["action"] == "none"
    (tmp_path / "release").write_text("2")
    assert run(check=True)["stale"] == [str(tmp_path / "release")]
    assert run()["action"] == "restarted"
    assert run(check=True, about_to_change=[str(tmp_path / "release")])["action"] == "restarted"


def test_a_deferred_restart_stays_owed_until_it_is_done(run, host):
    run()
    host.told()
    for check, changed in ((True, True), (False, True), (False, False)):
        result = run(config="port: 2\n", restart="deferred", check=check)
        assert result["restart_owed"] and result["action"] == "none" and result["changed"] == changed
    assert host.told() == []
    assert run(config="port: 2\n", check=True)["action"] == "restarted"
    done = run(config="port: 2\n")
    assert done["changed"] and done["action"] == "restarted" and not done["restart_owed"] and done["files"] == []
    assert not run(config="port: 2\n", restart="deferred")["restart_owed"]


def test_what_was_lost_elsewhere_restarts_it_too(run, host):
    """Once for each run that says so, for no file tells whether it is over."""
    lost = {"also_stale": ["its registration"]}
    assert run(**lost)["action"] == "started"
    deferred = run(restart="deferred", **lost)
    assert deferred["restart_owed"] and deferred["stale"] == ["its registration"] and not deferred["changed"]
    result = run(diff=True, **lost)
    assert result["action"] == "restarted" and result["changed"] and result["files"] == []
    assert run()["action"] == "none"


def test_a_daemon_that_serves_nobody_is_not_deferred(run, host):
    run()
    host.state["ActiveState"] = "failed"
    assert run(config="port: 2\n", restart="deferred")["action"] == "started"
    # It ends and comes back, again and again: only another content can make a difference.
    host.state["ActiveState"] = "activating"
    assert run(config="port: 2\n", restart="deferred")["action"] == "none"
    assert run(config="port: 3\n", restart="deferred")["action"] == "restarted"


def test_a_run_that_died_is_healed_by_the_next(run, host):
    """After it wrote the unit and before systemd read it, the daemon died and was started again from the unit that systemd knew."""
    run()
    unit = host.units / "peer.service"
    unit.write_text(UNIT + "# other\n")
    host.start()
    host.told()
    result = run(unit=UNIT + "# other\n")
    assert result["stale"] == [str(unit)] and result["action"] == "restarted"
    assert host.told() == ["daemon-reload", "restart"]
    assert not run(unit=UNIT + "# other\n")["changed"]


def test_without_a_record_it_is_restarted(run, host, tmp_path):
    run()
    (tmp_path / "started.sha256").unlink()
    assert run()["action"] == "restarted"


def test_a_unit_that_systemd_has_not_read_is_loaded(run, host):
    run()
    host.loaded = {}
    host.told()
    run()
    assert host.told() == ["daemon-reload"]


def test_a_drop_in_of_another_unit_that_systemd_has_not_read_is_loaded(run, host):
    other, template = host.units / "other.service.d/peer.conf", host.units / "peer@.service"
    other.parent.mkdir()
    files = [
        {"path": str(host.units / "peer.service"), "content": UNIT},
        {"path": str(other), "content": "[Service]\nExecStop=/bin/true\n", "restart": False},
        {"path": str(template), "content": UNIT, "restart": False},
    ]
    files = [{**OWNER, **entry} for entry in files]
    assert run(files=files)["changed"]
    # As after a run that died when it had written it.
    del host.loaded[other]
    host.told()
    run(files=files)
    assert host.told() == ["daemon-reload"]
    run(files=files)
    assert host.told() == []


def test_it_is_taken_away_once(run, host, tmp_path):
    run()
    host.told()
    (host.units / "peer.service.d/more.conf").write_text("[Service]\n")
    (host.units / ".modelfleet-killed").write_text("half")
    gone = {"state": "absent", "files": None, "started_record": None, "started_from": []}
    predicted = run(check=True, **gone)
    assert predicted["changed"] and predicted["action"] == "stopped" and host.told() == []
    done = run(diff=True, **gone)
    assert done["files"] == predicted["files"] and f"active\n{host.units}/peer.service\n" in done["diff"][0]["before"]
    assert host.told() == ["stop", "daemon-reload"] and list(host.units.iterdir()) == []
    assert (tmp_path / "peer.yaml").exists(), "the configuration is not the daemon's to take away"
    for check in (False, True):
        again = run(check=check, **gone)
        assert not again["changed"] and again["action"] == "none" and again["files"] == []
    assert host.told() == []


@pytest.mark.parametrize("left", ["link", "drop-in", "process", "failed"])
def test_what_an_interrupted_run_left_is_taken_away(run, host, left):
    gone = {"state": "absent", "files": None, "started_record": None, "started_from": []}
    if left == "link":
        (host.units / "multi-user.target.wants").mkdir()
        (host.units / "multi-user.target.wants/peer.service").symlink_to("/nowhere")
    elif left == "drop-in":
        (host.units / "peer.service.d").mkdir()
    else:
        host.state["ActiveState"] = {"process": "active", "failed": "failed"}[left]
    assert run(**gone)["changed"] is (left != "failed")
    assert host.state["ActiveState"] == "inactive" and list(host.units.iterdir()) == []
    assert not run(**gone)["changed"]


def test_a_timer_is_taken_away_as_well(run, host):
    (host.units / "look.timer").write_text("[Timer]\n")
    host.state["ActiveState"] = "active"
    result = run(name="look.timer", state="absent", files=None, started_record=None, started_from=[])
    assert result["files"] == [str(host.units / "look.timer")] and host.told() == ["stop", "daemon-reload"]


def test_a_stop_that_fails_takes_nothing_away(run, host):
    run()
    host.fails = "stop"
    result = run(state="absent")
    assert result["failed"] and "Failed to stop peer.service: Job for peer.service failed." in result["msg"]
    assert (host.units / "peer.service").exists()


def test_nothing_is_touched_behind_a_firewall(run, host, tmp_path):
    """The peer answers on one port and not on the other."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("127.0.0.1", 0)) as closed:
        opened, shut = (f"127.0.0.1:{one.getsockname()[1]}" for one in (server, closed))
        closed.close()
        needs = {"what": "it", "addresses": [opened], "timeout": 0, "peers_what": "dfdaemon", "peers": {"seed-1": [opened, shut]}}
        result = run(config="port: 2\n", needs=needs)
        assert result["failed"] and f"Failed to reach dfdaemon of seed-1 at {shut} from this host" in result["msg"]
        assert not (tmp_path / "config.yaml").exists()
        assert run(config="port: 2\n", needs={**needs, "peers": {"seed-1": [opened], "seed-2": [shut]}})["changed"]


def test_nothing_is_touched_without_what_it_needs(run, host, tmp_path):
    run()
    host.told()
    # No port that the server below could be given.
    addresses = ["127.0.0.1:1", "127.0.0.1:2"]
    needs = {"what": "the scheduler", "addresses": addresses, "timeout": 0, "remedy": "Correct modelfleet_address."}
    result = run(config="port: 2\n", needs=needs)
    assert result["failed"]
    for words in ("Failed to reach the scheduler", " and ".join(addresses), "Correct modelfleet_address."):
        assert words in result["msg"]
    assert (tmp_path / "peer.yaml").read_text() == "port: 1\n" and host.told() == []
    # One that answers is enough, and nothing is asked when nothing is started.
    with socket.create_server(("127.0.0.1", 0)) as server:
        needs["addresses"] = [addresses[0], f"127.0.0.1:{server.getsockname()[1]}"]
        result = run(config="port: 2\n", needs=needs)
    assert result["action"] == "restarted" and addresses[0] in str(result["warnings"])
    assert not run(config="port: 2\n", needs={**needs, "addresses": addresses})["changed"]


@pytest.mark.parametrize(("tls", "said"), [(True, "answers in clear text"), (False, None), (None, None)])
def test_nothing_is_touched_where_neither_would_know_the_other(run, host, tmp_path, tls, said):
    """As a host of a fleet that is in clear text, and is changed alone."""

    def serve():
        connection, _address = server.accept()
        connection.recv(100)
        connection.sendall(b"\0\0\6\4\0\0\0\0\0\0\5\0\0\x40\0")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = [threading.Thread(target=serve, daemon=True) for _number in range(2)]
        for thread in threads:
            thread.start()
        needs = {"what": "the scheduler", "addresses": [f"127.0.0.1:{server.getsockname()[1]}"], "timeout": 1, "tls": tls}
        result = run(needs={name: value for name, value in needs.items() if value is not None})
    assert result.get("failed", False) == (said is not None), result
    if said:
        assert f"the scheduler at {needs['addresses'][0]} {said}" in result["msg"] and "one run of site without --limit" in result["msg"]
        assert not (tmp_path / "peer.yaml").exists() and host.told() == []


def test_a_diff_tells_only_that_a_secret_is_another_one(run, host, tmp_path):
    def call(content, **modes):
        files = [
            {**OWNER, "path": str(host.units / "peer.service"), "content": UNIT},
            {**OWNER, "path": str(tmp_path / "key.pem"), "content": content, "mode": "0640", "secret": True},
        ]
        result = run(files=files, diff=True, **modes)
        assert "PLANTED" not in str(dict(result))
        return result

    result = call("PLANTED 1\n", check=True)
    assert [one["after"] for one in result["diff"] if one["after_header"].endswith("key.pem")] == ["(another secret)\n"]
    call("PLANTED 1\n")
    assert not call("PLANTED 1\n")["changed"]
    (shown,) = [one for one in call("PLANTED 2\n")["diff"] if one["after_header"].endswith("key.pem")]
    assert (shown["before"], shown["after"]) == ("(a secret)\n", "(another secret)\n")
    assert (tmp_path / "key.pem").stat().st_mode & 0o7777 == 0o640


@pytest.fixture
def answering():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(self.server.status)
            self.end_headers()

        def log_message(self, *_args):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    server.status = 200
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_it_must_answer(run, host, answering):
    answers = {"url": f"http://127.0.0.1:{answering.server_port}/healthy", "timeout": 1}
    assert run(answers=answers)["action"] == "started"
    answering.status = 503
    result = run(answers=answers)
    assert result["failed"] and "peer.service" in result["msg"] and "503" in result["msg"] and answers["url"] in result["msg"]
    assert "journalctl -u peer.service" in result["msg"]
    # Its restart is owed: whether it answers is asked when it has the new files.
    assert run(config="port: 2\n", restart="deferred", answers=answers)["restart_owed"]
    closed = "127.0.0.1:1"
    assert f"it did not answer at {closed} within 0 s" in run(answers={"address": closed, "timeout": 0})["msg"]


def test_a_start_that_fails_says_so(run, host):
    host.fails = "start"
    result = run()
    assert result["failed"] and "Failed to start peer.service: Job for peer.service failed." in result["msg"]


def test_secrets_are_shown_nowhere(run, tmp_path, host):
    def jwt(key):
        return {"path": str(tmp_path / "manager.yaml"), "content": f'auth:\n  jwt:\n    key: "{key}"\n', "component": "manager", **OWNER}

    def call(key):
        files = [{"path": str(host.units / "peer.service"), "content": UNIT, **OWNER}, jwt(key)]
        return run(files=files, diff=True)

    for result in (call("first-secret"), call("second-secret")):
        assert "-secret" not in str(result) and any("key: " in diff["after"] for diff in result["diff"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "peer"}, "its suffix"),
        ({"name": "peer", "state": "absent"}, "its suffix"),
        ({"name": "peer.mount", "state": "absent"}, "its suffix"),
        ({"files": None}, "state is present but all of the following are missing: files"),
        ({"name": "other.service"}, "other.service is not among them"),
        ({"started_from": ["/a b"]}, "/a b"),
        ({"needs": {"what": "it", "addresses": ["nowhere"], "timeout": 0}}, "'nowhere'"),
    ],
)
def test_bad_input(run, options, words):
    result = run(**options)
    assert result["failed"] and words in result["msg"]


def test_only_the_files_for_whoever_starts_it_later(run, host):
    assert run(start=False)["changed"] and host.told() == ["daemon-reload"]
    again = run(start=False)
    assert (again["changed"], again["action"], again["restart_owed"]) == (False, "none", False) and not host.told()
    # Whoever starts it finds the record of that start; nothing is owed then.
    host.start()
    assert run()["action"] == "none" and host.told() == ["enable"]
    # One that runs is left alone with other files.
    assert run(unit=UNIT + "Nice=1\n", start=False)["action"] == "none" and host.told() == ["daemon-reload"]
    assert run(unit=UNIT + "Nice=1\n")["action"] == "restarted"
