# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell HAProxy which models of this host are ready, and the key that TorchServe takes now.

Run by modelfleet-gateway-watch.service. With --drain it only holds back new requests and waits for those on their way, for the stop of
torchserve.service. What HAProxy is told stands in a map: a new worker reads the file, and those that run are told by way of their master.

  key          TorchServe's inference key
  hold         1 while no request may go to TorchServe: it is down, or changes its key
  ping         Healthy while every model is ready
  @<model>, @<model>/<version>     ready, loading or restoring
"""

from __future__ import annotations

import argparse
import calendar
import csv
import http.client
import json
import os
import select
import socket
import sys
import time
import urllib.parse

# Until the next look, where something is about to change.
SOON_S = 0.2
# A new worker of HAProxy, after a reload, is found within this time.
TICK_S = 1.0
TIMEOUT_S = 5
MOST_PAGES = 1000
# Keys are renewed so long before they expire, or a third of their life.
MARGIN_S = 600
RETRY_S = 10
# What is being answered goes on with another key, so this is for bodies that are still on their way; the others wait meanwhile.
RENEWAL_S = 10


class Failure(Exception):
    """One sentence for the journal."""


class KeyRefused(Exception):
    """TorchServe has other keys, or these have expired."""


def say(text, level=6):
    print(f"<{level}>{text}", file=sys.stderr, flush=True)


def segment(text):
    # A request that holds "/token" anywhere is taken for the token API.
    quoted = urllib.parse.quote(text, safe="")
    return "%74" + quoted[1:] if quoted.startswith("token") else quoted


def epoch_of(stamp):
    return calendar.timegm(time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))


def ask_socket(path, text=""):
    """One connection to a socket of this host, one question, all that is answered."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(path)
        if text:
            connection.sendall(text.encode() + b"\n")
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode("utf-8", "replace")


class Haproxy:
    """All workers of an HAProxy, those that only finish their requests after a reload as well, by the socket of its master."""

    def __init__(self, master, state_file, backend):
        self.master = master
        self.state_file = state_file
        self.backend = backend
        self.told = {}  # by worker, the entries that it has

    def workers(self):
        """Raises OSError while the master starts anew for a reload: then its workers go on, and nobody can tell them."""
        try:
            lines = [line.split() for line in self.ask("show proc").splitlines()]
        except FileNotFoundError:
            return []  # it does not run: the file tells it when it starts
        return [words[0] for words in lines if words[1:2] == ["worker"]]

    def tell(self, entries):
        """Have every worker know exactly ``entries``; return whether all do. What fails is tried again the next time."""
        try:
            workers = self.workers()
        except OSError:
            return False
        self.told = {worker: known for worker, known in self.told.items() if worker in workers}
        for worker in workers:
            known = self.told.get(worker)
            try:
                known = self.known_by(worker) if known is None else known
                # Nobody goes where the rest is not right yet.
                order = sorted(entries, key=lambda name: (name == "hold") == (entries["hold"] == "0"))
                for name in order:
                    if known.get(name) != entries[name]:
                        self.set(worker, name, entries[name], name in known)
                for name in set(known) - set(entries):
                    self.command(worker, f"del map {self.state_file} {name}")
                self.told[worker] = dict(entries)
            except OSError:
                self.told.pop(worker, None)
        return len(self.told) == len(workers)

    def known_by(self, worker):
        lines = [line.split() for line in self.command(worker, f"show map {self.state_file}").splitlines()]
        return {words[1]: words[2] for words in lines if len(words) == 3}

    def set(self, worker, name, value, there):
        self.command(worker, f"{'set' if there else 'add'} map {self.state_file} {name} {value}")

    def command(self, worker, text):
        return self.ask(f"@!{worker} {text}")

    def ask(self, text):
        answer = ask_socket(self.master, text)
        # As each of them does that was not cut off.
        if answer != "\n" and not answer.endswith("\n\n"):
            raise ConnectionError("HAProxy did not finish its answer")
        return answer

    def requests(self):
        """How many are on their way to TorchServe."""
        total = 0
        for worker in self.workers():
            rows = csv.DictReader(self.command(worker, "show stat").lstrip("# ").splitlines())
            (row,) = [row for row in rows if (row["pxname"], row["svname"]) == (self.backend, "BACKEND")]
            total += int(row["scur"] or 0)
        return total

    def wait_idle(self, seconds, held):
        """Whether no request is on its way any more; not asked for longer than ``seconds``.

        ``held`` holds new ones back and returns whether every worker does: after a reload there is one that has not been told.
        """
        deadline = time.monotonic() + seconds
        quiet = 0
        while True:
            try:
                # One that has just passed the gate is counted a moment later.
                quiet = quiet + 1 if held() and self.requests() == 0 else 0
            except (OSError, ValueError, KeyError):
                quiet = 0
            if quiet >= 2:
                return True
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.05)

    def hold(self):
        """Have every worker hold new requests back; raises OSError where one cannot be told."""
        for worker in self.workers():
            if worker not in self.told:
                self.set(worker, "hold", "1", True)
                self.told[worker] = {"hold": "1"}
        return True


class TorchServe:
    def __init__(self, inference, management, key_socket):
        self.inference = inference
        self.management = management
        self.key_socket = key_socket
        self.keys = {}  # the content of key_file.json

    def call(self, method, address, path, kind):
        """Return (status, parsed body); raises OSError where nobody answers, and KeyRefused."""
        host, port = split(address)
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        try:
            headers = {"Authorization": f"Bearer {self.key(kind)}"} if self.keys else {}
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            data = parse(response.read())
        except http.client.HTTPException as exc:
            raise OSError(str(exc)) from exc
        finally:
            connection.close()
        if response.status == 400 and isinstance(data, dict) and data.get("type") == "InvalidKeyException":
            raise KeyRefused
        return response.status, data

    def key(self, kind):
        return self.keys.get(kind, {}).get("key", "")

    def read_keys(self):
        """Whether TorchServe has written its keys; a moment after its start it has not."""
        if not self.key_socket:
            return True  # token authorization is off
        try:
            found = parse(ask_socket(self.key_socket).encode())
        except OSError as exc:
            raise Failure(f"Failed to read TorchServe's keys at {self.key_socket}: {exc.strerror or exc}") from exc
        whole = isinstance(found, dict) and all(isinstance(found.get(kind), dict) for kind in ("inference", "management", "API"))
        self.keys = found if whole and all(is_key(one.get("key")) for one in found.values()) else {}
        return bool(self.keys)

    def expires(self, kind):
        """When the key expires (epoch); None for one that does not."""
        try:
            return epoch_of(self.keys[kind]["expiration time"])
        except (KeyError, TypeError, ValueError):
            return None

    def renew(self, kind):
        status, _data = self.call("GET", self.management, f"/token?type={kind}", "API")
        if status != 200:
            raise Failure(f"Failed to renew TorchServe's {kind} key: it answered {status}")
        if not self.read_keys():
            raise Failure("Failed to read TorchServe's keys after their renewal")

    def takes_key(self):
        self.call("GET", self.inference, "/ping", "inference")

    def models(self):
        """{model or model/version: whether a worker is READY}; the model alone is its default version."""
        states = {}
        for name in self.names():
            versions = self.described(f"/models/{segment(name)}/all")
            default = versions if len(versions) == 1 else self.described(f"/models/{segment(name)}")
            for item in versions:
                states[f"{name}/{item['modelVersion']}"] = is_ready(item)
            for item in default:
                states[name] = is_ready(item)
        return states

    def names(self):
        names, token = [], None
        for _page in range(MOST_PAGES):
            query = urllib.parse.urlencode({"limit": 100, **({"next_page_token": token} if token else {})})
            status, data = self.call("GET", self.management, f"/models?{query}", "management")
            if status != 200:
                raise Failure(f"Failed to list the models: TorchServe answered {status}")
            names += [model["modelName"] for model in data["models"]]
            token = data.get("nextPageToken")
            if not token:
                break
        return names

    def described(self, path):
        status, data = self.call("GET", self.management, path, "management")
        return data if status == 200 else []


def entries_of(states, key, hold):
    healthy = hold == "0" and states and all(state == "ready" for state in states.values())
    entries = {f"@{target}": state for target, state in states.items()}
    return {**entries, "key": key or "none", "hold": hold, "ping": "Healthy" if healthy else "Unhealthy"}


def is_key(text):
    # It becomes a word of a command.
    return isinstance(text, str) and text.isascii() and text.replace("_", "a").replace("-", "a").isalnum()


def is_ready(item):
    return any(worker.get("status") == "READY" for worker in item["workers"])


def is_plain(target):
    """Others have no address at the gateway."""
    return all((letter.isascii() and letter.isalnum()) or letter in "._-/" for letter in target)


def split(address):
    host, _colon, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def parse(body):
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except ValueError:
        return None


class Watch:
    def __init__(self, torchserve, haproxy, args):
        self.torchserve = torchserve
        self.haproxy = haproxy
        self.args = args
        self.link = None  # an idle connection to TorchServe: the kernel closes it the moment TorchServe is gone
        self.known = self.read_known()
        self.missing_since = {}
        self.settled = False  # whether what is served has been seen whole since the last start of TorchServe
        self.not_before = 0  # of the next try to renew a key
        self.entries = {}
        self.open = None
        self.said = ""

    def run(self):
        self.close("TorchServe has not answered yet")
        notify("READY=1")
        while True:
            wake = time.monotonic() + self.step()
            while time.monotonic() < wake and not self.gone():
                self.wait(min(TICK_S, max(0, wake - time.monotonic())))
                self.haproxy.tell(self.entries)

    def wait(self, seconds):
        if self.link:
            select.select([self.link], [], [], seconds)
        else:
            time.sleep(seconds)

    def gone(self):
        """Whether TorchServe has closed the connection; the gate is shut at once then."""
        if not self.link:
            return False
        readable, _w, _x = select.select([self.link], [], [], 0)
        if not readable:
            return False
        try:
            if self.link.recv(4096):
                return False
        except OSError:
            pass
        self.lose("TorchServe has gone")
        return True

    def lose(self, why):
        if self.link:
            self.link.close()
        self.link = None
        self.torchserve.keys = {}
        self.settled = False
        self.close(why)

    def step(self):
        """Look once; return how long to wait until the next look."""
        try:
            if self.gone():
                return SOON_S
            if not self.link:
                self.link = socket.create_connection(split(self.args.inference), timeout=TIMEOUT_S)
                self.torchserve.keys = {}
            return self.look()
        except KeyRefused:
            # Somebody has renewed it, or a restart was faster than this.
            if self.reread():
                return 0
            self.close("TorchServe refuses its key")
            return SOON_S
        except Failure as exc:
            self.complain(str(exc))
            return SOON_S
        except OSError as exc:
            # Python before 3.10 has no other name for it.
            if isinstance(exc, socket.timeout):
                # It is busy, and not gone: the connection to it would say so.
                self.complain(f"TorchServe has not answered within {TIMEOUT_S} s")
            else:
                self.lose(f"TorchServe does not answer at {self.args.inference} ({exc.strerror or exc})")
            return SOON_S
        except (AttributeError, KeyError, IndexError, TypeError):
            self.complain(f"What answers at {self.args.management} is not TorchServe")
            return self.args.interval

    def reread(self):
        """Whether there are other keys than those that were refused."""
        before = self.torchserve.keys
        try:
            return self.torchserve.read_keys() and self.torchserve.keys != before
        except Failure as exc:
            self.complain(str(exc))
            return False

    def look(self):
        if not self.torchserve.keys and not self.torchserve.read_keys():
            self.close("TorchServe has not written its keys yet")
            return SOON_S
        self.renew()
        self.torchserve.takes_key()
        states = self.judge(self.torchserve.models())
        self.publish(entries_of(states, self.torchserve.key("inference"), "0"))
        if not self.open:
            self.open = True
            self.tell(f"TorchServe answers and serves {', '.join(sorted(name for name in states if '/' in name)) or 'nothing yet'}")
        waiting = [target for target, state in states.items() if state != "ready"]
        return SOON_S * 2 if waiting else min(self.args.interval, self.until_renewal())

    def judge(self, served):
        """The state of each model; those that this host served before a restart are waited for."""
        now = time.monotonic()
        served = {target: ready for target, ready in served.items() if is_plain(target)}
        missing = set(self.known) - set(served)
        if self.settled or not missing:
            # Once all are back, what is missing was taken away by somebody.
            self.settled = True
            missing = set()
        self.missing_since = {target: self.missing_since.get(target, now) for target in missing}
        missing = {target for target, since in self.missing_since.items() if now - since < self.args.forget}
        states = {target: "ready" if ready else "loading" for target, ready in served.items()}
        states.update(dict.fromkeys(missing, "restoring"))
        self.remember(states)
        return states

    def renew(self):
        for kind in ("management", "inference"):
            expires = self.torchserve.expires(kind)
            valid = expires is None or expires > time.time()
            if self.remaining(kind) > 0 or (valid and time.monotonic() < self.not_before):
                continue
            idle = True
            if kind == "inference" and valid and self.open:
                # The old key is void at once, also for a request whose body is still on its way.
                self.publish({**self.entries, "hold": "1"})
                idle = self.haproxy.wait_idle(min(self.args.drain_seconds, RENEWAL_S), lambda: self.haproxy.tell(self.entries))
            try:
                self.torchserve.renew(kind)
                if self.torchserve.expires(kind) == expires:
                    raise Failure(f"TorchServe's {kind} key has not changed with its renewal")
            except Failure as exc:
                if not valid:
                    raise
                # The old one goes on.
                self.complain(str(exc))
                self.not_before = time.monotonic() + RETRY_S
                continue
            if kind == "inference":
                self.tell("Renewed TorchServe's inference key" + ("" if idle else ", though requests were still on their way"))

    def remaining(self, kind):
        """Seconds until the key must be renewed."""
        expires = self.torchserve.expires(kind)
        if expires is None:
            return float("inf")
        return expires - time.time() - min(MARGIN_S, self.args.key_minutes * 60 / 3)

    def until_renewal(self):
        return max(SOON_S, min(self.remaining(kind) for kind in ("management", "inference")))

    def close(self, why):
        self.publish(entries_of(dict.fromkeys(self.known, "restoring"), "", "1"))
        if self.open is not False:
            self.open = False
            self.tell(f"Requests wait: {why}")

    def publish(self, entries):
        # The file first: a worker that begins now reads it.
        if entries != self.entries:
            write_file(self.args.state, "".join(f"{name} {value}\n" for name, value in sorted(entries.items())))
            self.entries = entries
        self.haproxy.tell(entries)

    def read_known(self):
        try:
            with open(self.args.known, encoding="utf-8") as handle:
                return [target for target in handle.read().split() if is_plain(target)]
        except OSError:
            return []

    def remember(self, states):
        """For a start of the host: what it has served is being restored, and not unknown."""
        known = sorted(states)
        if known != self.known:
            self.known = known
            write_file(self.args.known, "".join(f"{target}\n" for target in known))

    def tell(self, text):
        self.said = ""
        say(f"{text}.")

    def complain(self, text):
        if text != self.said:
            self.said = text
            say(f"{text}.", 4)


def write_file(path, text):
    """In one step, so that a reader finds the old or the new one."""
    temporary = f"{path}.new"
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "w", encoding="utf-8") as handle:
        handle.write(text)
    os.replace(temporary, path)


def notify(text):
    """To systemd, where it started this."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
            connection.connect("\0" + address[1:] if address.startswith("@") else address)
            connection.sendall(text.encode())


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state", required=True, help="the map that HAProxy reads")
    parser.add_argument("--master", required=True, help="the socket of HAProxy's master")
    parser.add_argument("--backend", required=True, help="the backend of TorchServe")
    parser.add_argument("--drain-seconds", type=float, default=30, help="how long requests on their way are waited for")
    parser.add_argument("--drain", action="store_true", help="hold new requests back and wait for those on their way, nothing else")
    parser.add_argument("--inference", help="host and port of TorchServe's inference API")
    parser.add_argument("--management", help="host and port of TorchServe's management API")
    parser.add_argument(
        "--key-socket", default="", help="answers with the content of key_file.json; empty where TorchServe asks for no key"
    )
    parser.add_argument("--key-minutes", type=float, default=60, help="how long a key lives")
    parser.add_argument("--known", help="where to keep the names of what is served")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--forget", type=float, default=1800, help="seconds after which a model that is not restored is unknown")
    args = parser.parse_args(argv)
    haproxy = Haproxy(args.master, args.state, args.backend)
    if args.drain:
        if not haproxy.wait_idle(args.drain_seconds, haproxy.hold):
            problem = f"are still on their way after {args.drain_seconds:.0f} s, or HAProxy does not answer at {args.master}"
            say(f"Requests {problem}; those fail.", 4)
            return 1
        return 0
    Watch(TorchServe(args.inference, args.management, args.key_socket), haproxy, args).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
