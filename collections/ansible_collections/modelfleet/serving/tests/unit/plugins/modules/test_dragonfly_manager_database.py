# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json
import os
import re
import socket
import stat
import threading
from pathlib import Path

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_manager_database

PASSWORD = "a\"b\\c'd-very-secret"


class FakeDatabase:
    """What the programs of MariaDB and PostgreSQL said. ``rule`` is as the server shows it."""

    def __init__(self):
        self.tables = True
        self.names = ["root"]
        self.rule = []
        self.comment = ""
        self.foreign = ""
        self.calls = []
        self.options = ""
        self.made = False
        self.down = False

    def run(self, command, data=None, environ_update=None, **_options):
        self.calls.append((command, data, environ_update))
        for word in command:
            if word.startswith("--defaults-file="):
                self.options = Path(word.partition("=")[2]).read_text(encoding="utf-8")
        if self.down:
            return 1, "", "ERROR 2002 (HY000): Can't connect to server on '127.0.0.1' (115)\n"
        for word in command:
            for option in ("--result-file=", "--file="):
                if word.startswith(option) and "dump" in command[0]:
                    Path(word.removeprefix(option)).write_text("-- saved\n", encoding="utf-8")
        return self.answer(data or "")

    def answer(self, sql):
        if sql.startswith("select schema_name"):
            return 0, "manager\nuser\n" if self.made else "", ""
        if sql.startswith("create database"):
            self.made = True
        if "is_del" in sql:
            return 0, self.foreign, ""
        if "table_comment" in sql or "obj_description" in sql:
            return 0, f"{self.comment}\n", ""
        if "comment" in sql:
            self.comment = re.search(r"'(.*)'", sql)[1]
            return 0, "", ""
        if "information_schema.tables" in sql:
            return 0, "user\n" if self.tables else "", ""
        if "check_constraints" in sql:
            return 0, f"`name` in ({','.join(repr(one) for one in self.rule)})\n" if self.rule else "", ""
        if "pg_get_constraintdef" in sql:
            listed = ", ".join(f"'{one}'::character varying" for one in self.rule)
            return 0, f"CHECK (((name)::text = ANY ((ARRAY[{listed}])::text[])))\n" if self.rule else "", ""
        if sql.startswith("alter table"):
            assert ("drop constraint" in sql) == bool(self.rule)
            wanted = re.findall(r"'([^']*)'", sql)
            if set(self.names) - set(wanted):
                return 1, "", "ERROR 4025 (23000) at line 1: CONSTRAINT `modelfleet_known_users` failed for `manager`.`user`\n"
            self.rule = wanted
        if sql.startswith("select name"):
            return 0, "\n".join(self.names) + "\n", ""
        return 0, "1\n", ""


@pytest.fixture
def database(monkeypatch):
    fake = FakeDatabase()
    monkeypatch.setattr(CheckedModule, "run_command", lambda _module, command, **options: fake.run(command, **options))
    monkeypatch.setattr(CheckedModule, "get_bin_path", lambda _module, name, **_options: f"/usr/bin/{name}")
    return fake


@pytest.fixture
def run(database, run_module):
    def call(check=False, diff=False, **options):
        return run_module(dragonfly_manager_database.main, {"password": PASSWORD, **options}, check=check, diff=diff)

    return call


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_takes_no_user_but_these(database, run, kind):
    assert run(check=True, type=kind)["changed"] and database.rule == []
    result = run(diff=True, type=kind)
    assert result["changed"] and result["users"] == ["root"] and database.rule == ["root"]
    assert result["diff"]["before"] == "" and result["diff"]["after"] == "root\n"
    assert not run(type=kind)["changed"]
    assert run(type=kind, users=["ann"])["users"] == ["ann", "root"] and not run(type=kind, users=["ann", "root"])["changed"]
    assert run(type=kind)["changed"] and database.rule == ["root"]


def test_strangers_who_are_there_are_named(database, run):
    database.names = ["mallory", "root"]
    assert "it has users whom nobody named (mallory). Name them in dragonfly_manager_users" in run()["msg"]


def test_a_name_that_would_be_more_than_a_name(database, run):
    assert "the manager's names have 3 to 10 letters" in run(users=["x') or (1=1"])["msg"]
    assert database.calls == []


def test_the_password_is_in_no_argument(database, run):
    run(host="10.0.0.9", port=3307)
    assert all(PASSWORD not in json.dumps(command) for command, _data, _environment in database.calls)
    assert 'password="a\\"b\\\\c\'d-very-secret"' in database.options and "host=10.0.0.9\nport=3307\n" in database.options
    run(type="postgres")
    command, _data, environment = database.calls[-1]
    assert environment["PGPASSWORD"] == PASSWORD and "--port=5432" in command


def test_a_server_elsewhere_need_have_no_certificate(database, run):
    """The client of Debian 13 would not speak to it."""
    run(host="10.0.0.9")
    assert database.options.endswith("\nloose-ssl-verify-server-cert=0\n")
    run()
    assert "ssl" not in database.options


def test_before_the_first_start_of_the_manager(database, run):
    database.tables = False
    assert run(check=True)["changed"]
    assert "the manager's tables are not there; start the manager once" in run()["msg"]


def test_saves_and_restores(database, run, tmp_path):
    path = tmp_path / "saved.sql"
    assert run(check=True, state="dumped", path=str(path))["changed"] and not path.exists()
    for kind in ("mysql", "postgres"):
        path.unlink(missing_ok=True)
        result = run(state="dumped", path=str(path), type=kind, diff=True)
        assert path.read_text() == "-- saved\n" and stat.S_IMODE(path.stat().st_mode) == 0o600
        assert result["diff"]["after"] == f"saved in {path}\n" and list(tmp_path.iterdir()) == [path]
    count = len(database.calls)
    assert run(check=True, state="restored", path=str(path))["changed"] and len(database.calls) == count
    assert run(state="restored", path=str(path))["changed"]
    assert database.calls[-1][1] == f"source {path}\n"
    run(state="restored", path=str(path), type="postgres")
    assert f"--file={path}" in database.calls[-1][0] and "--single-transaction" in database.calls[-1][0]
    assert "is not there; copy the saved database to it" in run(state="restored", path=str(tmp_path / "none"))["msg"]
    assert "Make its directory, with room" in run(state="dumped", path=str(tmp_path / "none" / "saved.sql"))["msg"]


def test_a_file_that_cannot_be_replaced(database, run, tmp_path, monkeypatch):
    """As one that is mounted into a container by itself."""

    def busy(*_paths):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    monkeypatch.setattr(dragonfly_manager_database.os, "replace", busy)
    (tmp_path / "saved").write_text("before")
    assert "Device or resource busy. Have the path free" in run(state="dumped", path=str(tmp_path / "saved"))["msg"]
    assert (tmp_path / "saved").read_text() == "before" and list(tmp_path.iterdir()) == [tmp_path / "saved"]


def test_a_half_saved_database_does_not_stay(database, run, tmp_path):
    database.down = True
    assert (
        "Failed to save what is in the database manager of 127.0.0.1:3306: ERROR 2002"
        in run(state="dumped", path=str(tmp_path / "saved"))["msg"]
    )
    assert list(tmp_path.iterdir()) == []


def test_creates_a_database_and_its_owner(database, run):
    assert run(check=True, state="created")["changed"] and not database.made
    assert run(state="created")["changed"] and database.made
    sql = database.calls[-1][1]
    assert "'dragonfly'@'127.0.0.1' identified by 'a\"b\\\\c\\'d-very-secret'" in sql and "grant all on `manager`.*" in sql
    assert database.calls[-1][0] == ["/usr/bin/mariadb", "--no-defaults", "--batch", "--skip-column-names"]
    assert not run(state="created")["changed"]
    assert "create database and user in PostgreSQL yourself" in run(state="created", type="postgres")["msg"]
    assert "its name has other characters" in run(state="created", name="x`y")["msg"]


def test_without_the_programs(run, monkeypatch):
    monkeypatch.setattr(CheckedModule, "get_bin_path", lambda _module, _name, **_options: None)
    assert "this host has no program mariadb or mysql; install the database's client" in run()["msg"]


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_says_who_used_it(database, run, kind):
    database.rule = ["root"]
    result = run(check=True, diff=True, type=kind, version="2.5.1")
    assert result["changed"] and result["users"] == ["root"] and database.comment == ""
    assert result["diff"]["before"] == "root\n" and result["diff"]["after"] == "root\nused by the manager 2.5.1\n"
    assert run(type=kind, version="2.5.1")["changed"] and database.comment == "modelfleet: manager 2.5.1"
    assert not run(type=kind, version="2.5.1")["changed"]
    assert run(type=kind, version="2.6.0")["changed"] and database.comment == "modelfleet: manager 2.6.0"
    assert not run(type=kind)["changed"]


def test_what_somebody_wrote_there_stays(database, run):
    database.rule, database.comment = ["root"], "ours, ask Ann"
    assert not run(version="2.5.1")["changed"] and database.comment == "ours, ask Ann"
    assert not run(state="usable", version="2.5.1")["changed"]


@pytest.mark.parametrize("kind", ["mariadb", "postgres"])
def test_what_a_newer_manager_used_is_refused(database, run, kind):
    for there in ("2.6.0", "3.0.0-rc.1"):
        database.comment = f"modelfleet: manager {there}"
        for check in (False, True):
            said = run(check=check, state="usable", type=kind, version="2.5.1")["msg"]
            assert f"the manager {there} has used it" in said and f"Set dragonfly_manager_version to {there} or newer" in said
    for there in ("2.5.9", "2.4.0", "1.9"):
        database.comment = f"modelfleet: manager {there}"
        assert not run(state="usable", type=kind, version="2.5.1")["changed"]
    assert not any("alter" in (data or "") or "comment on" in (data or "") for _command, data, _environment in database.calls)


def test_tables_of_another_program_are_refused(database, run):
    database.foreign = "config\nuser\n"
    assert "it has tables of another program (config, user), which the manager would change. Name" in run(state="usable")["msg"]


def test_a_version_that_is_none(database, run):
    assert "write it as in 2.5.1" in run(state="usable", version="2.5.1'; drop table user")["msg"] and database.calls == []


def test_without_a_client_nothing_is_looked_at_in_check_mode(database, run, monkeypatch):
    """A host that has nothing yet gets it in the same run."""
    monkeypatch.setattr(CheckedModule, "get_bin_path", lambda *_arguments, **_options: None)
    for kind in ("mariadb", "postgres"):
        assert not run(check=True, state="usable", type=kind)["changed"]
        assert "this host has no program" in run(state="usable", type=kind)["msg"]


@pytest.mark.parametrize(
    "line",
    [
        ") ENGINE=InnoDB AUTO_INCREMENT=2 DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_general_ci COMMENT='modelfleet: manager 2.6.0';",
        "COMMENT ON TABLE public.\"user\" IS 'modelfleet: manager 2.6.0';",
    ],
)
def test_what_was_saved_of_a_newer_manager_is_refused(database, run, tmp_path, line):
    path = tmp_path / "saved.sql"
    path.write_text(f"-- saved\n{line}\n-- end\n")
    for check in (False, True):
        said = run(check=check, state="restored", path=str(path), version="2.5.1")["msg"]
        assert "it was saved of the manager 2.6.0" in said and "or newer, run site, and restore then" in said
    assert database.calls == []
    assert run(state="restored", path=str(path), version="2.6.1")["changed"]
    # What stands in a row says nothing.
    path.write_bytes(b"INSERT INTO `job` VALUES (1,'modelfleet: manager 9.9.9');\n\xff\xfe\n")
    assert run(state="restored", path=str(path), version="2.5.1")["changed"]


class FakeRedis:
    """Redis 7 as it answers to AUTH and PING."""

    def __init__(self, answers):
        self.asked = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        threading.Thread(target=self.serve, args=(answers,), daemon=True).start()

    def serve(self, answers):
        connection, _address = self.server.accept()
        with connection, connection.makefile("rwb") as stream:
            for answer in answers:
                count = int(stream.readline()[1:])
                self.asked.append([(stream.readline(), stream.readline().rstrip(b"\r\n").decode())[1] for _word in range(count)])
                stream.write(answer)
                stream.flush()


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ([b"+OK\r\n", b"+PONG\r\n"], None),
        ([b"-WRONGPASS invalid username-password pair or user is disabled.\r\n"], "does not take the password: WRONGPASS invalid"),
        ([b"-ERR AUTH <password> called without any password configured for the default user.\r\n"], "give it that password (requirepass)"),
        ([b"+OK\r\n", b"-LOADING Redis is loading the dataset in memory\r\n"], "cannot be used: it answers '-LOADING Redis is loading"),
        ([b"HTTP/1.1 400 Bad Request\r\n"], "it answers 'HTTP/1.1 400 Bad Request'"),
        ([b""], "it answers nothing"),
    ],
)
def test_a_redis(run, answers, words):
    redis = FakeRedis(answers)
    for_it = {"state": "usable", "type": "redis", "port": redis.port, "user": ""}
    result = run(**for_it)
    assert redis.asked[0] == ["AUTH", PASSWORD]
    assert words in result["msg"] and f"Redis at 127.0.0.1:{redis.port}" in result["msg"] if words else not result["changed"]
    assert PASSWORD not in json.dumps(result)


def test_a_redis_with_users_and_none_at_all(run):
    redis = FakeRedis([b"+OK\r\n", b"+PONG\r\n"])
    assert not run(state="usable", type="redis", port=redis.port, user="manager")["changed"]
    assert redis.asked == [["AUTH", "manager", PASSWORD], ["PING"]]
    redis.server.close()
    assert "Failed to reach Redis at 127.0.0.1" in run(state="usable", type="redis", port=redis.port)["msg"]
    assert "only usable can be asked of a Redis" in run(type="redis")["msg"]
