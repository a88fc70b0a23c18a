#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_manager_database
short_description: Keep strangers out of the manager's database, look whose it is, save and restore it
version_added: 0.1.0
description:
  - Whoever reaches the manager's REST API can register himself, and reads everybody's tokens then; the manager has no switch for it. With
    O(state=present) its database takes no user but O(users), so that this is refused wherever it comes from. The manager keeps the rule
    when it changes its tables.
  - With O(state=created) a database and its owner are made in a MariaDB on this host, as root by its socket.
  - With O(state=usable) nothing is changed. A manager that starts changes every table that has the name of one of its own to what it
    expects, whoever made that table; so it must not be started on a database of another program, or of a newer manager.
  - Everything is done by the database's own programs, which must be on this host; of Redis nothing is needed there.
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
      usable:
        - The manager O(version) may be started on the database, and Redis takes the password.
        - In check mode what cannot be looked at, because this host has no client of the database yet, counts as usable.
  type:
    description:
      - The kind of the database, as in the manager's configuration.
      - V(redis), which the manager needs beside it, can only be asked whether it is O(state=usable).
    type: str
    default: mariadb
    choices: [mariadb, mysql, postgres, redis]
  host:
    description: Its address.
    type: str
    default: 127.0.0.1
  port:
    description: Its port; V(3306), V(5432) or V(6379) without it.
    type: int
  name:
    description: Name of the database.
    type: str
    default: manager
  user:
    description: Its owner. Of a Redis without users, an empty one.
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
  version:
    description:
      - The version of the manager. With O(state=present) a comment of its table C(user) says that it was used by this one; a comment that
        somebody else wrote there stays.
      - With O(state=usable) and O(state=restored) what a newer one has used is refused. Newer is one with a greater first or second number.
      - Without it nothing is written or compared.
    type: str
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
import socket
import tempfile

from ansible_collections.modelfleet.serving.plugins.module_utils._addresses import host_of
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import split_address

# How long Redis may take to answer.
TIMEOUT_S = 10
RULE = "modelfleet_known_users"
NAME = re.compile(r"[A-Za-z0-9_.-]{3,10}\Z")
PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
PORTS = {"mariadb": 3306, "mysql": 3306, "postgres": 5432, "redis": 6379}
# The tables of the manager that every version so far gives a column is_del.
MODELS = [
    "application",
    "audit",
    "config",
    "job",
    "oauth",
    "peer",
    "personal_access_token",
    "scheduler",
    "scheduler_cluster",
    "seed_peer",
    "seed_peer_cluster",
    "user",
]
VERSION = re.compile(r"(\d{1,4})[.](\d{1,4})([.+-][0-9A-Za-z.+-]{0,40})?")
USED_BY = re.compile(rf"modelfleet: manager ({VERSION.pattern})")
# As the two kinds write it into what they save.
SAVED_OF = re.compile(rf"(?:[)].* COMMENT='|COMMENT ON TABLE .* IS '){USED_BY.pattern}';\s*".encode())
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

    def has_no_client(self):
        return not any(self.module.get_bin_path(name) for name in self.CLIENTS)

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

    # Whose it is

    def foreign(self):
        """Names of tables that a manager would take for its own, and that none has made."""
        names = ", ".join(f"'{name}'" for name in MODELS)
        sql = (
            f"select t.table_name from information_schema.tables t where t.table_schema = {self.SCHEMA} and t.table_name in ({names}) "
            "and not exists (select 1 from information_schema.columns c where c.table_schema = t.table_schema "
            "and c.table_name = t.table_name and c.column_name = 'is_del')"
        )
        return sorted(self.query(sql, "look for tables").split())

    def comment(self):
        return self.query(self.COMMENT_OF, "read who used it").strip()

    def is_newer(self, version):
        """Whether the manager ``version`` (str) has tables that the one that is to use it does not know."""
        there, wanted = VERSION.fullmatch(version), VERSION.fullmatch(self.params["version"])
        return [int(there[part]) for part in (1, 2)] > [int(wanted[part]) for part in (1, 2)]

    def usable(self):
        foreign = self.foreign()
        if foreign:
            raise ModelFleetError(
                f"Refused {self.place} for the manager: it has tables of another program ({', '.join(foreign)}), which the manager would "
                "change. Name a database for it alone in dragonfly_manager_database_name."
            )
        used_by = USED_BY.fullmatch(self.comment()) if self.params["version"] else None
        if used_by and self.is_newer(used_by[1]):
            raise ModelFleetError(
                f"Refused {self.place} for the manager {self.params['version']}: the manager {used_by[1]} has used it, and an older one "
                f"does not know its tables. Set dragonfly_manager_version to {used_by[1]} or newer, or name another database, and restore "
                "there what was saved before."
            )

    def is_marked(self):
        """Whether its comment is what it should be, or somebody else's."""
        comment = self.comment()
        return comment == self.mark() or bool(comment and not USED_BY.fullmatch(comment))

    def mark(self):
        return f"modelfleet: manager {self.params['version']}"

    # Who may be in it

    def present(self):
        users = sorted({"root", *self.params["users"]})
        wrong = [name for name in users if not NAME.match(name)]
        if wrong:
            raise ModelFleetError(
                f"Failed to admit the user {wrong[0]}: the manager's names have 3 to 10 letters, digits, '.', '_' or '-'."
            )
        if not self.query(self.HAS_TABLE, "look for the manager's tables").strip():
            if self.module.check_mode:
                return True, [], users, users
            raise ModelFleetError(
                f"Failed to keep strangers out of {self.place}: the manager's tables are not there; start the manager once."
            )
        before = self.users()
        if before != users and not self.module.check_mode:
            self.admit(users, before)
        marks = bool(self.params["version"]) and not self.is_marked()
        if marks and not self.module.check_mode:
            self.query(self.MARK.format(self.mark()), "write who uses it")
        shown = [f"used by the manager {self.params['version']}"] if marks else []
        return before != users or marks, before or [], users + shown, users

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
        version = self.saved_of(path) if self.params["version"] else None
        if version and self.is_newer(version):
            raise ModelFleetError(
                f"Refused to restore {self.place} from {path}: it was saved of the manager {version}, and an older one does not know its "
                f"tables. Set dragonfly_manager_version to {version} or newer, run site, and restore then."
            )
        if not self.module.check_mode:
            self.read_dump(path)

    @staticmethod
    def saved_of(path):
        """The version (str) of the manager that had used a database when it was saved, None where it is not said."""
        try:
            with open(path, "rb") as lines:
                found = next(filter(None, map(SAVED_OF.fullmatch, lines)), None)
        except OSError as exc:
            raise ModelFleetError(f"Failed to read {path}: {exc.strerror}. Copy the saved database to it again.") from exc
        return found[1].decode() if found else None


class MySQL(Database):
    CLIENTS = ("mariadb", "mysql")
    TABLE = "user"
    SCHEMA = "database()"
    COMMENT_OF = "select table_comment from information_schema.tables where table_schema = database() and table_name = 'user'"
    MARK = "alter table user comment = '{}'"
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
        client = self.program(*self.CLIENTS)
        return self.call([client, self.options(), "--batch", "--skip-column-names", self.params["name"]], doing, data=sql)

    def write_dump(self, path):
        program = self.program("mariadb-dump", "mysqldump")
        self.call([program, self.options(), "--single-transaction", f"--result-file={path}", self.params["name"]], "save what is")

    def read_dump(self, path):
        client = self.program(*self.CLIENTS)
        self.call([client, self.options(), self.params["name"]], "restore what was", data=f"source {path}\n")

    def create(self):
        """As root, by the socket; what is not there yet."""
        client = [self.program(*self.CLIENTS), "--no-defaults", "--batch", "--skip-column-names"]
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
    CLIENTS = ("psql",)
    TABLE = '"user"'
    SCHEMA = "current_schema()"
    COMMENT_OF = "select obj_description(to_regclass('\"user\"'), 'pg_class')"
    MARK = "comment on table \"user\" is '{}'"
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


class Redis:
    """As the manager and the schedulers call it, in the words of its protocol: a command is a list of texts with their lengths."""

    def __init__(self, module):
        self.params = module.params
        host, port = self.params["host"], self.params["port"] or PORTS["redis"]
        self.address = f"{host_of(host)}:{port}"
        self.place = f"Redis at {self.address}"

    def usable(self):
        try:
            with (
                socket.create_connection(split_address(self.address), timeout=TIMEOUT_S) as connection,
                connection.makefile("rwb") as stream,
            ):
                answer = self.ask(stream, "AUTH", *filter(None, [self.params["user"]]), self.params["password"])
                # One that is a member of a cluster or a replica answers this as well.
                if answer == "+OK":
                    answer = self.ask(stream, "PING")
        except (OSError, UnicodeError) as exc:
            raise ModelFleetError(
                f"Failed to reach {self.place}: {getattr(exc, 'strerror', None) or exc or type(exc).__name__}. Start it, open its port to "
                "this host, or correct dragonfly_manager_redis_addresses."
            ) from exc
        if answer.startswith(("-WRONGPASS", "-NOAUTH", "-ERR invalid password", "-ERR AUTH", "-ERR Client sent AUTH")):
            raise ModelFleetError(
                f"{self.place} does not take the password: {answer[1:]}. Correct dragonfly_manager_redis_password or "
                "dragonfly_manager_redis_username, or give it that password (requirepass)."
            )
        if answer != "+PONG":
            said = f"it answers {answer[:200]!r}" if answer else "it answers nothing"
            raise ModelFleetError(f"{self.place} cannot be used: {said}. See its log, or correct dragonfly_manager_redis_addresses.")

    def has_no_client(self):
        return False

    @staticmethod
    def ask(stream, *words):
        encoded = [word.encode() for word in words]
        stream.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        stream.flush()
        return stream.readline(1000).decode("utf-8", "replace").strip().rstrip(".")


KINDS = {"mariadb": MySQL, "mysql": MySQL, "postgres": Postgres, "redis": Redis}


def run(module):
    database = KINDS[module.params["type"]](module)
    if module.params["type"] == "redis" and module.params["state"] != "usable":
        raise ModelFleetError(f"Refused state {module.params['state']} of {database.place}: only usable can be asked of a Redis.")
    if module.params["version"] and not VERSION.fullmatch(module.params["version"]):
        raise ModelFleetError(f"Refused the version '{module.params['version']}' of the manager: write it as in 2.5.1.")
    state, users, header = module.params["state"], [], database.place
    before = after = ""
    changed = True
    if state == "created":
        changed = database.create()
        before, after = "" if changed else "created\n", "created\n"
    elif state == "present":
        changed, *shown, users = database.present()
        before, after = ("".join(f"{line}\n" for line in lines) for lines in shown)
    elif state == "dumped":
        database.dump()
        after = f"saved in {module.params['path']}\n"
    elif state == "usable":
        changed = False
        if not (module.check_mode and database.has_no_client()):
            database.usable()
    else:
        database.restore()
        after = f"restored from {module.params['path']}\n"
    diff = {"before_header": header, "after_header": header, "before": before, "after": after}
    return {"changed": changed, "users": users, **({"diff": diff} if module._diff else {})}


def main():
    module = DiscreetModule(
        argument_spec={
            "state": {"type": "str", "default": "present", "choices": ["created", "present", "dumped", "restored", "usable"]},
            "type": {"type": "str", "default": "mariadb", "choices": list(PORTS)},
            "host": {"type": "str", "default": "127.0.0.1"},
            "port": {"type": "int"},
            "name": {"type": "str", "default": "manager"},
            "user": {"type": "str", "default": "dragonfly"},
            "password": {"type": "str", "required": True, "no_log": True},
            "users": {"type": "list", "elements": "str", "default": []},
            "version": {"type": "str"},
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
