#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_manager_database
short_description: Keep strangers out of the manager's database, save and restore it
version_added: 0.1.0
description:
  - Whoever reaches the manager's REST API can register himself, and reads everybody's tokens then; the manager has no switch for it. With
    O(state=present) its database takes no user but O(users), so that this is refused wherever it comes from. The manager keeps the rule
    when it changes its tables.
  - With O(state=created) a database and its owner are made in a MariaDB on this host, as root by its socket.
  - Everything is done by the database's own programs, which must be on this host.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
attributes:
  check_mode:
    support: partial
    details: With O(state=created) an owner who is there counts as having the password.
  diff_mode:
    details: Nothing of what is in the database is shown.
  idempotent:
    support: partial
    details: With O(state=dumped) and O(state=restored) there is a change each time.
options:
  state:
    description: What is wanted.
    type: str
    default: present
    choices:
      created: There is an empty database with an owner, see O(type=mariadb).
      present: The tables of the manager take no user but O(users). It must have run once.
      dumped: The database is saved in O(path).
      restored: The database is what was saved in O(path). Stop the manager before.
  type:
    description: The kind of the database, as in the manager's configuration.
    type: str
    default: mariadb
    choices: [mariadb, mysql, postgres]
  host:
    description: Its address.
    type: str
    default: 127.0.0.1
  port:
    description: Its port; V(3306) or V(5432) without it.
    type: int
  name:
    description: Name of the database.
    type: str
    default: manager
  user:
    description: Its owner.
    type: str
    default: dragonfly
  password:
    description: The password of O(user).
    type: str
    required: true
  users:
    description: Names of users that the manager may have beside V(root).
    type: list
    elements: str
    default: []
  path:
    description: File of the saved database, which only root can read. Required with O(state=dumped) and O(state=restored).
    type: path
seealso:
  - module: modelfleet.serving.dragonfly_manager_admin
"""

EXAMPLES = r"""
- name: Let nobody register himself at the manager
  modelfleet.serving.dragonfly_manager_database:
    password: "{{ vault_dragonfly_manager_database_password }}"

- name: Save the manager's database
  modelfleet.serving.dragonfly_manager_database:
    state: dumped
    path: /var/backups/dragonfly-manager.sql
    password: "{{ vault_dragonfly_manager_database_password }}"
"""

RETURN = r"""
users:
  description: With O(state=present), the users whom the database takes.
  returned: success
  type: list
  elements: str
  sample: [root]
"""

import os
import re
import tempfile

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

RULE = "modelfleet_known_users"
NAME = re.compile(r"[A-Za-z0-9_.-]{3,10}\Z")
PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
PORTS = {"mariadb": 3306, "mysql": 3306, "postgres": 5432}
LOOPBACK = ("127.0.0.1", "::1", "localhost")
# From 11.4 on MariaDB's client refuses a server without TLS, or with a certificate that it cannot verify, to which the manager connects
# all the same. Programs that do not know the option let it be.
AS_THE_MANAGER = "loose-ssl-verify-server-cert=0\n"


class Database:
    """What the kinds of databases share; a kind says how its programs are called."""

    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.port = self.params["port"] or PORTS[self.params["type"]]
        self.place = f"the database {self.params['name']} of {self.params['host']}:{self.port}"

    def program(self, *names):
        for name in names:
            found = self.module.get_bin_path(name)
            if found:
                return found
        raise ModelFleetError(f"Failed to use {self.place}: this host has no program {' or '.join(names)}; install the database's client.")

    def call(self, command, doing, **options):
        status, out, err = self.module.run_command(command, **options)
        if status:
            said = " ".join(err.split()).rstrip(".") or f"status {status}"
            raise ModelFleetError(
                f"Failed to {doing} in {self.place}: {said}. See that it runs, and that its address, user and password are right."
            )
        return out

    def users(self):
        """Whom the rule lets in, or None where there is no rule."""
        rule = self.query(self.RULE_OF, "read the rule for users").strip()
        return sorted(set(re.findall(r"'([A-Za-z0-9_.-]+)", rule))) if rule else None

    def admit(self, users, before):
        table = self.TABLE
        listed = ", ".join(f"'{name}'" for name in users)
        drop = f"drop constraint {RULE}, " if before is not None else ""
        try:
            self.query(f"alter table {table} {drop}add constraint {RULE} check (name in ({listed}))", "write the rule for users")
        except ModelFleetError as exc:
            if "4025" not in str(exc) and "3819" not in str(exc) and "violated" not in str(exc):
                raise
            there = sorted(self.query(f"select name from {table}", "read the users").split())
            strangers = ", ".join(name for name in there if name not in users)
            raise ModelFleetError(
                f"Failed to keep strangers out of {self.place}: it has users whom nobody named ({strangers}). Name them in "
                "dragonfly_manager_users, or remove whoever is a stranger there, with his role: the API has no call for that."
            ) from exc

    def present(self):
        users = sorted({"root", *self.params["users"]})
        wrong = [name for name in users if not NAME.match(name)]
        if wrong:
            raise ModelFleetError(
                f"Failed to admit the user {wrong[0]}: the manager's names have 3 to 10 letters, digits, '.', '_' or '-'."
            )
        if not self.query(self.HAS_TABLE, "look for the manager's tables").strip():
            if self.module.check_mode:
                return True, [], users
            raise ModelFleetError(
                f"Failed to keep strangers out of {self.place}: the manager's tables are not there; start the manager once."
            )
        before = self.users()
        if before != users and not self.module.check_mode:
            self.admit(users, before)
        return before != users, before or [], users

    def dump(self):
        path = self.params["path"]
        if os.path.isdir(path):
            raise ModelFleetError(f"Failed to save {self.place} in {path}: it is a directory. Name a file in it.")
        if self.module.check_mode:
            return
        try:
            handle, temporary = tempfile.mkstemp(prefix=".modelfleet-", dir=os.path.dirname(path))
            os.close(handle)
        except OSError as exc:
            raise ModelFleetError(f"Failed to save {self.place} in {path}: {exc.strerror}. Make its directory, with room.") from exc
        try:
            self.write_dump(temporary)
            os.replace(temporary, path)
        except OSError as exc:
            raise ModelFleetError(f"Failed to save {self.place} in {path}: {exc.strerror}. Have the path free, with room.") from exc
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)

    def restore(self):
        path = self.params["path"]
        if not os.path.isfile(path):
            raise ModelFleetError(f"Failed to restore {self.place}: {path} is not there; copy the saved database to it.")
        if not self.module.check_mode:
            self.read_dump(path)


class MySQL(Database):
    TABLE = "user"
    HAS_TABLE = "select table_name from information_schema.tables where table_schema = database() and table_name = 'user'"
    RULE_OF = (
        f"select check_clause from information_schema.check_constraints where constraint_schema = database() and constraint_name = '{RULE}'"
    )

    def options(self):
        """A file with what nobody may see in the list of processes."""
        password = self.params["password"].replace("\\", "\\\\").replace('"', '\\"')
        handle, path = tempfile.mkstemp(dir=self.module.tmpdir)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(
                f"[client]\nhost={self.params['host']}\nport={self.port}\nprotocol=tcp\nuser={self.params['user']}\n"
                f'password="{password}"\ndefault-character-set=utf8mb4\n{"" if self.params["host"] in LOOPBACK else AS_THE_MANAGER}'
            )
        self.module.add_cleanup_file(path)
        return f"--defaults-file={path}"

    def query(self, sql, doing):
        client = self.program("mariadb", "mysql")
        return self.call([client, self.options(), "--batch", "--skip-column-names", self.params["name"]], doing, data=sql)

    def write_dump(self, path):
        program = self.program("mariadb-dump", "mysqldump")
        self.call([program, self.options(), "--single-transaction", f"--result-file={path}", self.params["name"]], "save what is")

    def read_dump(self, path):
        client = self.program("mariadb", "mysql")
        self.call([client, self.options(), self.params["name"]], "restore what was", data=f"source {path}\n")

    def create(self):
        """As root, by the socket; what is not there yet."""
        client = [self.program("mariadb", "mysql"), "--no-defaults", "--batch", "--skip-column-names"]
        for what in ("name", "user"):
            if not PLAIN.match(self.params[what]):
                raise ModelFleetError(
                    f"Failed to create {self.place}: its {what} has other characters than letters, digits and . _ -; choose another."
                )
        name, user = self.params["name"], self.params["user"]
        password = self.params["password"].replace("\\", "\\\\").replace("'", "\\'")
        there = self.call(
            client,
            "look for what is",
            data=f"select schema_name from information_schema.schemata where schema_name = '{name}';"
            f"select distinct 'user' from mysql.user where user = '{user}' and host = '127.0.0.1';",
        ).split()
        works = len(there) == 2 and (self.module.check_mode or self.works())
        if works:
            return False
        if not self.module.check_mode:
            self.call(
                client,
                "create what is not",
                data=f"create database if not exists `{name}` character set utf8mb4;"
                f"create user if not exists '{user}'@'127.0.0.1';alter user '{user}'@'127.0.0.1' identified by '{password}';"
                f"grant all on `{name}`.* to '{user}'@'127.0.0.1';",
            )
        return True

    def works(self):
        try:
            return bool(self.query("select 1", "ask"))
        except ModelFleetError:
            return False


class Postgres(Database):
    TABLE = '"user"'
    HAS_TABLE = "select table_name from information_schema.tables where table_schema = current_schema() and table_name = 'user'"
    RULE_OF = f"select pg_get_constraintdef(oid) from pg_constraint where conname = '{RULE}'"

    def call(self, command, doing, **options):
        return super().call(command, doing, environ_update={"PGPASSWORD": self.params["password"], "PGCONNECT_TIMEOUT": "10"}, **options)

    def where(self, program):
        return [
            self.program(program),
            f"--host={self.params['host']}",
            f"--port={self.port}",
            f"--username={self.params['user']}",
            "--no-password",
        ]

    def psql(self):
        return [*self.where("psql"), f"--dbname={self.params['name']}", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1"]

    def query(self, sql, doing):
        return self.call([*self.psql(), "--tuples-only", "--no-align"], doing, data=f"{sql};\n")

    def write_dump(self, path):
        command = [*self.where("pg_dump"), "--clean", "--if-exists", "--no-owner", "--no-privileges", f"--file={path}", self.params["name"]]
        self.call(command, "save what is")

    def read_dump(self, path):
        self.call([*self.psql(), "--single-transaction", f"--file={path}"], "restore what was")

    def create(self):
        raise ModelFleetError(
            f"Failed to create {self.place}: only a MariaDB of this host is made here; create database and user in PostgreSQL yourself."
        )


def run(module):
    database = (Postgres if module.params["type"] == "postgres" else MySQL)(module)
    state, users, header = module.params["state"], [], database.place
    before = after = ""
    changed = True
    if state == "created":
        changed = database.create()
        before, after = "" if changed else "created\n", "created\n"
    elif state == "present":
        changed, old, users = database.present()
        before, after = ("".join(f"{name}\n" for name in names) for names in (old, users))
    elif state == "dumped":
        database.dump()
        after = f"saved in {module.params['path']}\n"
    else:
        database.restore()
        after = f"restored from {module.params['path']}\n"
    diff = {"before_header": header, "after_header": header, "before": before, "after": after}
    return {"changed": changed, "users": users, **({"diff": diff} if module._diff else {})}


def main():
    module = DiscreetModule(
        argument_spec={
            "state": {"type": "str", "default": "present", "choices": ["created", "present", "dumped", "restored"]},
            "type": {"type": "str", "default": "mariadb", "choices": list(PORTS)},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int"},
            "name": {"type": "str", "default": "manager"},
            "user": {"type": "str", "default": "dragonfly"},
            "password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "path"},
        },
        required_if=[("state", "dumped", ["path"]), ("state", "restored", ["path"])],
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
