# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Has this host set itself up: fetches the bundle that is current, if it is signed by somebody this host knows, and runs the play site of
it, for this host alone. Says what came of it in a status file and as metrics. Needs Python 3.9 and ssh-keygen.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

NAMESPACE = WHO = "modelfleet-pull"
SIGNATURE = "-----BEGIN SSH SIGNATURE-----"
FORMAT = 1
MOST_CURRENT = 64 * 1024
MOST_FILES = 100_000
BLOCK = 1 << 20
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)\s+unreachable=\d+\s+failed=\d+", re.MULTILINE)
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Refused(Exception):
    """What is wrong with what was fetched, or with the way to it, and what to do."""


def opened(url, ca, timeout):
    """What a URL leads to. TLS is verified; no redirect leads away from it."""
    scheme = urllib.parse.urlsplit(url).scheme
    if scheme not in ("https", "file"):
        raise Refused(f"the URL {url} is neither https nor file; correct pull_url")
    context = ssl.create_default_context(cafile=ca or None)
    handlers = [urllib.request.HTTPSHandler(context=context), urllib.request.FileHandler(), NoRedirect()]
    opener = urllib.request.OpenerDirector()
    for handler in (
        *handlers,
        urllib.request.ProxyHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener.open(url, timeout=timeout)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args):
        return None


@contextlib.contextmanager
def reading(url):
    try:
        yield
    except (OSError, urllib.error.URLError) as exc:
        raise Refused(f"{url} cannot be read ({getattr(exc, 'reason', None) or exc}); check the server and the way to it") from exc


def fetch_current(config):
    """The text that is signed, and its signature."""
    url = f"{config['url'].rstrip('/')}/current"
    with reading(url), opened(url, config["ca"], config["timeout_s"]) as answer:
        text = answer.read(MOST_CURRENT + 1)
    if len(text) > MOST_CURRENT:
        raise Refused(f"{url} is longer than such a file is; check what is published there")
    said, begin, rest = text.partition(SIGNATURE.encode())
    if not begin:
        raise Refused(f"{url} is not signed; publish it with the play pull_bundle")
    return said, begin + rest


def verify(config, said, signature):
    """Raises Refused unless one of the signers that this host knows has signed the text."""
    with tempfile.TemporaryDirectory() as place:
        path = os.path.join(place, "signature")
        with open(path, "wb") as handle:
            handle.write(signature)
        command = ["ssh-keygen", "-Y", "verify", "-f", config["signers"], "-I", WHO, "-n", NAMESPACE, "-s", path]
        done = subprocess.run(command, input=said, capture_output=True, check=False)
    if done.returncode:
        why = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        raise Refused(
            f"the signature of the bundle is not good ({why}); sign with a key of pull_signers, or run pull_install with the new one"
        )


def current(config, last):
    """What is current, after a look at who says so and whether it is older than what was taken before."""
    said, signature = fetch_current(config)
    verify(config, said, signature)
    try:
        found = json.loads(said)
        good = found["format"] == FORMAT and SHA256.match(found["sha256"]) and min(found["serial"], found["bytes"]) > 0
    except (ValueError, KeyError, TypeError) as exc:
        raise Refused(f"what is signed cannot be read ({exc}); publish it with the play pull_bundle") from exc
    if not good:
        raise Refused("what is signed is of another release; run pull_install with the one that made the bundle")
    if found["serial"] < last:
        raise Refused(f"bundle {found['serial']} is older than bundle {last}, which was taken before; publish a newer one")
    return found


def have(config, found):
    """The directory of the bundle, fetched and unpacked where it is not there yet."""
    top = os.path.join(config["state"], "bundles")
    place = os.path.join(top, found["sha256"])
    if not os.path.isdir(place):
        os.makedirs(top, mode=0o700, exist_ok=True)
        # Of a run that was killed.
        for name in os.listdir(top):
            if name.startswith("."):
                shutil.rmtree(os.path.join(top, name), ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=top) as new:
            archive = os.path.join(new, "archive")
            fetch(config, found, archive)
            unpack(archive, os.path.join(new, "content"))
            os.rename(os.path.join(new, "content"), place)
    for name in os.listdir(top):
        if name != found["sha256"]:
            shutil.rmtree(os.path.join(top, name), ignore_errors=True)
    return place


def fetch(config, found, path):
    url = f"{config['url'].rstrip('/')}/{found['sha256']}.tar.gz"
    digest, size = hashlib.sha256(), 0
    with reading(url), opened(url, config["ca"], config["timeout_s"]) as answer, open(path, "wb") as file:
        while block := answer.read(BLOCK):
            size += len(block)
            if size > found["bytes"]:
                break
            digest.update(block)
            file.write(block)
    if size != found["bytes"] or digest.hexdigest() != found["sha256"]:
        raise Refused(f"{url} is not what was signed; publish the bundle again")


def unpack(archive, place):
    """Files and directories, nothing else, and nothing that leads out."""
    os.mkdir(place, 0o700)
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for number, entry in enumerate(tar):
                parts = entry.name.split("/")
                if number >= MOST_FILES or not entry.isreg() or entry.name.startswith("/") or {"", ".", ".."} & set(parts):
                    raise Refused(f"the bundle has {entry.name[:80]!r}, which is no plain file; make it with the play pull_bundle")
                path = os.path.join(place, *parts)
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                with open(path, "xb") as file:
                    shutil.copyfileobj(tar.extractfile(entry), file)
                    os.fchmod(file.fileno(), 0o755 if entry.mode & stat.S_IXUSR else 0o644)
    except (tarfile.TarError, EOFError, OSError) as exc:
        raise Refused(f"the bundle cannot be unpacked ({exc}); check the room in {place}, and publish it again") from exc


def command(config, place):
    """The play, for this host alone."""
    there = {"endpoint_plugin_jar": "plugin.jar", "modelfleet_files_dir": "files", "torchserve_wheelhouse": "wheels"}
    said = {name: os.path.join(place, path) for name, path in there.items() if os.path.exists(os.path.join(place, path))}
    said |= {"smoke_report_path": os.path.join(config["state"], "report.json"), **config["variables"]}
    play = ["modelfleet.serving.site", "--limit", config["name"], "--extra-vars", json.dumps(said)]
    if config["secrets"]:
        play += ["--extra-vars", f"@{config['secrets']}"]
    if config["check"]:
        play.append("--check")
    inventories = ["--inventory", os.path.join(place, "inventory"), "--inventory", config["inventory"]]
    return [os.path.join(config["environment"], "bin/ansible-playbook"), *inventories, *play]


def play(config, place):
    """Run it; return (problem, how many tasks changed something)."""
    home = os.path.join(config["state"], "home")
    os.makedirs(home, mode=0o700, exist_ok=True)
    environment = {
        "ANSIBLE_COLLECTIONS_PATH": place,
        "ANSIBLE_HOME": os.path.join(home, ".ansible"),
        "ANSIBLE_NOCOLOR": "1",
        # Ansible would take that of the user's entry in the passwd file, which the unit hides.
        "ANSIBLE_REMOTE_TMP": os.path.join(home, ".ansible/tmp"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "HOME": home,
        "LANG": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }
    log = os.path.join(config["state"], "log")
    with open(log, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        done = subprocess.run(
            command(config, place), cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        )
    with open(log, encoding="utf-8", errors="replace") as file:
        recap = dict(RECAP.findall(file.read()))
    changed = int(recap.get(config["name"], 0))
    if config["name"] not in recap:
        return f"the play did not come to this host ({config['name']}); see {log}", changed
    return f"the play ended with {done.returncode}; see {log}" if done.returncode else "", changed


def read_status(path):
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def write(path, text, mode=0o644):
    """Whole or not at all."""
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), mode)
        file.write(text)
    os.replace(part, path)


def metrics(status):
    rows = (
        ("modelfleet_pull_ok", "gauge", "Whether the last run of the pull mode went well.", int(status["result"] == "ok")),
        ("modelfleet_pull_last_run_timestamp_seconds", "gauge", "When the last run ended.", round(status["ended"])),
        ("modelfleet_pull_last_success_timestamp_seconds", "gauge", "When a run last went well; 0: never.", round(status["last_success"])),
        ("modelfleet_pull_serial", "gauge", "Number of the bundle that was taken last.", status["serial"]),
        (
            "modelfleet_pull_changed",
            "gauge",
            "How many tasks of the last run changed something, or would in check mode.",
            status["changed"],
        ),
    )
    return "".join(f"# HELP {name} {text}\n# TYPE {name} {kind}\n{name} {value}\n" for name, kind, text, value in rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    with open(parser.parse_args().config, encoding="utf-8") as file:
        config = json.load(file)
    path = os.path.join(config["state"], "status.json")
    last = read_status(path)
    status = {
        **{"format": FORMAT, "began": time.time(), "changed": 0, "problem": "", "check": config["check"]},
        **{name: last.get(name, default) for name, default in (("serial", 0), ("sha256", ""), ("last_success", 0))},
    }
    try:
        found = current(config, status["serial"])
        place = have(config, found)
        status |= {"serial": found["serial"], "sha256": found["sha256"]}
        status["problem"], status["changed"] = play(config, place)
        status["result"] = "failed" if status["problem"] else "ok"
    except (Refused, OSError) as exc:
        status |= {"result": "refused", "problem": str(exc)}
    status["ended"] = time.time()
    if status["result"] == "ok":
        status["last_success"] = status["ended"]
    write(path, json.dumps(status, indent=1, sort_keys=True) + "\n")
    if config["textfile"]:
        write(config["textfile"], metrics(status))
    said = status["problem"] or f"bundle {status['serial']}, {status['changed']} changed"
    print(f"{status['result']}: {said}", flush=True)
    return 0 if status["result"] == "ok" else 1


if __name__ == "__main__":
    sys.exit(main())
