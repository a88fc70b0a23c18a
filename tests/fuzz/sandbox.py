# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A place where a module can do no harm, and nothing that it does goes unseen.

Python itself tells what is about to be written, run or called (sys.addaudithook), so that this needs no privileges. Outside of the
sandbox nothing is written, and a module that tries fails the test unless one of its options names the place. No program is run and
nobody is called: programs and servers answer what the test says. Nobody waits: a sleep moves the clock.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
sys.path.insert(0, str(REPOSITORY / "collections"))

from ansible.module_utils import basic  # noqa: E402
from ansible.module_utils.testing import patch_module_args  # noqa: E402

MODULES = sorted(path.stem for path in (COLLECTION / "plugins/modules").glob("*.py"))
# They take long to make a client, and whatever they do is theirs.
LIBRARIES = ("boto3", "botocore", "azure", "google.cloud.storage", "obs", "oss2")
# Of the processor, for who never ends, and by the clock, for who waits. The clock goes on while a busy machine stands still.
HANG_S, STUCK_S = 20, 600
MOST_SLEEPS = 3000
# What Ansible writes in the place of a secret, whatever else it is.
MASKED = "********"
UNREADABLE = {"\0", *map(chr, range(0xD800, 0xE000))}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# The arguments of an event that name what is changed.
CHANGES = {
    "os.chmod": (0,), "os.chown": (0,), "os.link": (0, 1), "os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1), "os.rmdir": (0,),
    "os.setxattr": (0,), "os.symlink": (1,), "os.truncate": (0,), "os.utime": (0,), "shutil.rmtree": (0,), "shutil.move": (0, 1),
    "shutil.copyfile": (1,), "shutil.chown": (0,),
}  # fmt: skip
RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill")


class Hang(BaseException):
    """It does not end."""


class Outside(BaseException):
    """It wanted to change what none of its options names, or run what nobody may."""


class Clock:
    """The time of this process, which a sleep inside the sandbox moves on."""

    def __init__(self):
        self.skew, self.sleeps, self.on = 0.0, 0, False
        self.real = {name: getattr(time, name) for name in ("sleep", "monotonic", "time")}
        # Before any plugin is imported, which may keep them as defaults.
        time.sleep = self.sleep
        time.monotonic = lambda: self.real["monotonic"]() + self.skew
        time.time = lambda: self.real["time"]() + self.skew

    def sleep(self, seconds):
        if not self.on or threading.current_thread() is not threading.main_thread():
            self.real["sleep"](0 if self.on else seconds)
            return
        # What the real one refuses.
        if seconds != seconds or seconds < 0:
            raise ValueError("sleep length must be non-negative")
        if seconds > 9e9:
            raise OverflowError("timestamp too large to convert to C _PyTime_t")
        self.sleeps += 1
        if self.sleeps > MOST_SLEEPS:
            raise Hang("it sleeps again and again")
        # Whatever the limit is, it comes.
        self.skew += seconds + 2.0 ** min(self.sleeps, 200)


CLOCK = Clock()


class Connection:
    """What socket.create_connection returns: a server that has an answer to a request."""

    def __init__(self, world):
        self.world, self.request = world, b""

    def __enter__(self):
        return self

    def __exit__(self, *_args):
        pass

    def sendall(self, data, *_args):
        self.request += data

    def makefile(self, *_args, **_kwargs):
        line = self.request.partition(b"\r\n")[0].decode("latin-1")
        return io.BytesIO(next((answer for part, answer in self.world.servers.items() if part in line), b""))

    def getsockopt(self, *_args):
        # Asked by who begins TLS, of which no such server knows.
        raise ssl.SSLError(1, "wrong version number")

    def __getattr__(self, _name):
        return lambda *_args, **_kwargs: None


class World:
    """What programs and servers answer: ``programs`` is [(rc, out, err)], used in turn, again and again, ``servers`` is {part of the first
    line of a request: all bytes of the answer}, of which the first counts, or nothing where nobody answers."""

    def __init__(self, programs=((0, "", ""),), servers=None):
        self.programs, self.servers = list(programs), servers or {}
        self.ran = 0

    def run(self):
        self.ran += 1
        return self.programs[self.ran % len(self.programs)]


def spec_of(name):
    """The argument specification of a module, as it gives it to Ansible."""

    class Seen(BaseException):
        pass

    def init(_self, argument_spec, **kwargs):
        found.update(argument_spec=argument_spec, **kwargs)
        raise Seen

    found = {}
    real, basic.AnsibleModule.__init__ = basic.AnsibleModule.__init__, init
    try:
        main_of(name)()
    except Seen:
        pass
    finally:
        basic.AnsibleModule.__init__ = real
    return found


def main_of(name):
    return importlib.import_module(f"ansible_collections.modelfleet.serving.plugins.modules.{name}").main


def texts_in(value):
    """Every text in JSON."""
    waiting, found = [value], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            found.append(one)
    return found


class Sandbox:
    """A context: ``run`` runs a module in ``top``/named, which has something of everything; ``top``/precious is what no option names."""

    def __init__(self, top):
        self.top = Path(os.path.realpath(top))
        self.named, self.precious = self.top / "named", self.top / "precious"
        self.changed, self.tried, self.allowed, self.world, self.active = True, [], (), World(), False

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        for library in LIBRARIES:
            self.replace(sys.modules, library, None)
        self.replace(os.environ, "HOME", str(self.named))
        self.stack.callback(os.chdir, os.getcwd())
        self.patch(basic.AnsibleModule, "log", lambda *_args, **_kwargs: None)
        self.patch(basic.AnsibleModule, "run_command", lambda module, *args, **kwargs: self.run_command(module, *args, **kwargs))
        self.patch(basic.AnsibleModule, "fail_json", self.fail_json(basic.AnsibleModule.fail_json))
        self.patch(basic.atexit, "register", lambda *_args, **_kwargs: None)
        self.patch(socket, "create_connection", self.create_connection(socket.create_connection))
        # Nobody is called, and to read the certificates of the system takes longer than the rest.
        self.patch(ssl.SSLContext, "set_default_verify_paths", lambda _context: None)
        self.patch(tempfile, "tempdir", str(self.named / "tmp"))
        daemon = importlib.import_module("ansible_collections.modelfleet.serving.plugins.modules.daemon")
        self.patch(daemon, "UNITS", str(self.named / "units"))
        sys.addaudithook(self.audit)
        return self

    def __exit__(self, *_args):
        self.active = False
        self.stack.close()

    def patch(self, owner, name, value):
        self.stack.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def replace(self, mapping, key, value):
        before = mapping.get(key, mapping)
        self.stack.callback(lambda: mapping.pop(key, None) if before is mapping else mapping.__setitem__(key, before))
        mapping[key] = value

    # What is there

    def fill(self):
        os.chdir("/")
        for path in (self.named, self.precious):
            shutil.rmtree(path, ignore_errors=True)
            (path / "dir" / "below").mkdir(parents=True)
            (path / "dir" / "file.txt").write_text("text\n")
            (path / "file").write_bytes(b"\x00\xff\x80bytes")
        for name in ("tmp", "empty", "units", "cwd", "state"):
            (self.named / name).mkdir()
        (self.named / "link").symlink_to(self.precious)
        (self.named / "loop").symlink_to(self.named / "loop")
        (self.named / "nowhere").symlink_to(self.named / "nothing")
        (self.named / "bad.json").write_text("[" * 2000)
        (self.named / "good.json").write_text('{"models": []}')
        with zipfile.ZipFile(self.named / "model.mar", "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"modelName": "m", "modelVersion": "1.0"}}))
            archive.writestr("handler.py", "pass\n")
        (self.named / "handler.py").write_text("pass\n")
        os.chdir(self.named / "cwd")
        self.changed = False

    def put(self, name, content):
        """Write a file (bytes) for a module to find; returns its path."""
        if self.changed:
            self.fill()
        path = self.named / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return str(path)

    def paths(self):
        """What a path may name, from the file to what cannot be."""
        names = "dir", "dir/file.txt", "file", "empty", "link", "loop", "nowhere", "bad.json", "good.json", "model.mar", "units", "state"
        return [str(self.named / name) for name in (*names, "new", "new/below/it", "file/below", "state/models.json", "x" * 255)]

    # What a module does

    def audit(self, event, args):
        if not self.active:
            return
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int) or (not (flags or 0) & WRITES and not set(mode or "") & set("wax+")):
                return
            self.change(path)
        elif event in CHANGES:
            for position in CHANGES[event]:
                if not isinstance(args[position], int):
                    self.change(args[position])
        elif event in RUNS:
            self.tried.append(f"{event} {args[:1]}")
            raise PermissionError(1, "not in the sandbox")
        elif event == "socket.connect":
            raise ConnectionRefusedError(111, "Connection refused")
        elif event == "socket.getaddrinfo":
            host = args[0] if isinstance(args[0], str) else os.fsdecode(args[0] or b"")
            if host and not set(host) <= set("0123456789abcdefABCDEF.:"):
                raise socket.gaierror(-2, "Name or service not known")

    def change(self, path):
        text = os.fsdecode(path)
        if "\0" in text or text == "/dev/null":
            return
        # Of a link the link is changed, not what it names.
        directory, name = os.path.split(os.path.join(os.getcwd(), text).rstrip("/"))
        place = os.path.join(os.path.realpath(directory), name)
        if (place + "/").startswith(f"{self.named}/"):
            self.changed = True
            return
        # What is named, what is below it, beside it (before it gets its name) or above it.
        if not any((place + "/").startswith(f"{os.path.dirname(one).rstrip('/')}/") or one.startswith(place + "/") for one in self.allowed):
            self.tried.append(f"change {place}")
        raise PermissionError(13, "Permission denied", text)

    def run_command(self, module, args, *_args, **kwargs):
        words = args if isinstance(args, list) else [args]
        if any("\0" in str(word) for word in words):
            if kwargs.get("handle_exceptions", True):
                module.fail_json(rc=257, msg="embedded null byte", exception="run_command", cmd=words)
            raise ValueError("embedded null byte")
        return self.world.run()

    def fail_json(self, real):
        def fail(module, msg, **kwargs):
            # Whether the sentence is one of this collection.
            self.ours = "ansible_collections" in sys._getframe(1).f_code.co_filename
            real(module, msg, **kwargs)

        return fail

    def create_connection(self, real):
        def create(address, timeout=None, *args, **kwargs):
            if not self.active:
                return real(address, timeout, *args, **kwargs)
            # Without a server it fails as it does, and what no socket takes is refused.
            if not self.world.servers:
                return real(address, timeout, *args, **kwargs)
            host, port = address
            host.encode("idna")
            if not 0 <= int(port) <= 65535:
                raise OverflowError("connect(): port must be 0-65535.")
            with socket.socket() as probe:
                if timeout is None or isinstance(timeout, (int, float)):
                    probe.settimeout(timeout)
            return Connection(self.world)

        return create

    def run(self, name, params, check=False, diff=False, world=None):
        """Run a module; return what it printed. Fails on any other end than Ansible's, and on what it had no business with."""
        if self.changed:
            self.fill()
        self.world, self.tried, self.ours = world or World(), [], False
        texts = [os.path.expandvars(os.path.expanduser(text)) for text in texts_in(params) if not set(text) & UNREADABLE]
        self.allowed = [os.path.realpath(text) for text in texts if len(text) < 5000 and text.startswith("/")] + DEFAULTS.setdefault(
            name, [text for text in texts_in(_plain(spec_of(name)["argument_spec"])) if text.startswith("/")]
        )
        options = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": str(self.named / "tmp")}
        main, out = main_of(name), io.StringIO()
        code = None
        CLOCK.skew, CLOCK.sleeps, CLOCK.on = 0.0, 0, True
        try:
            with patch_module_args({**params, **options}), contextlib.redirect_stdout(out), limit():
                self.active = True
                try:
                    main()
                except SystemExit as exc:
                    code = exc.code
                finally:
                    self.active = False
        finally:
            CLOCK.on = False
        assert not self.tried, f"it tried to {'; '.join(self.tried)}"
        assert code is not None, "it did not end by exit_json or fail_json"
        printed = [json.loads(line) for line in out.getvalue().splitlines() if line.startswith("{")]
        assert len(printed) == 1, out.getvalue()
        result = printed[0]
        assert result.get("failed", False) == (code != 0)
        if code:
            self.check_sentence(result)
        return result

    def check_sentence(self, result):
        said = result["msg"]
        assert isinstance(said, str) and said.strip() and "Traceback" not in said and "object at 0x" not in said, said
        if said.startswith("Failed to import the required Python library"):
            return
        assert "exception" not in result or not result["exception"], result
        if self.ours:
            assert said.rstrip().endswith((".", "…", "?)", ".)", MASKED)), said


DEFAULTS = {}


def _plain(spec):
    return json.loads(json.dumps(spec, default=lambda one: sorted(one) if isinstance(one, (set, frozenset)) else list(one)))


@contextlib.contextmanager
def limit():
    """Hang where it takes longer."""

    def end(kind, _frame):
        raise Hang(f"it did not end within {HANG_S} s of the processor" if kind == signal.SIGPROF else f"it waited for {STUCK_S} s")

    before = {kind: signal.signal(kind, end) for kind in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, HANG_S)
    signal.setitimer(signal.ITIMER_REAL, STUCK_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)
