# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import json
import os
import re
import stat
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
