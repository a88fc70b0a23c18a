# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hostile model reaches on a host where the endpoint plugin downloads nothing: its handler runs what a request says. The last tests
are of what it still can, as the documentation says."""

from __future__ import annotations

import json
import shlex

import pytest
import yaml
from conftest import SCENARIO
from fleet import CONNECT, GPU_HOSTS, MODELS, REPOSITORY, make_model, recap

NAME, VERSION = "hostile", "1.0"
LAB = yaml.safe_load((REPOSITORY / "inventory/lab/group_vars/all/lab.yml").read_text(encoding="utf-8"))
STORE_SECRET = LAB["lab_read_secret_key"]
# By the table at once; by the unit, which drops, without a word.
REFUSED = {"ConnectionRefusedError", "TimeoutError"}


def site(entries, **variables):
    done = SCENARIO.play("playbooks/site.yml", "-e", json.dumps({"modelfleet_models": entries, **variables}))
    assert done.returncode == 0, done.stdout[-5000:]
    return done


@pytest.fixture(scope="module")
def run(fleet, origin, archive, tmp_path_factory):
    """A callable that has the model run a shell command on the first GPU host, and returns what that printed."""
    declared = [{name: value for name, value in archive.items() if name != "path"}]
    made = make_model(tmp_path_factory.mktemp(NAME), NAME, VERSION, size_mib=8, fault="hostile")
    key = f"models/{NAME}/{VERSION}/{NAME}.mar"
    entry = {"name": NAME, "version": VERSION, "object": key, "sha256": origin.put(key, made.read_bytes()), "size": "9MiB"}
    hardened = {"modelfleet_plugin_downloads": False}
    site([*declared, entry], **hardened)
    assert not any(row["changed"] for row in recap(site([*declared, entry], **hardened)).values())

    def call(command):
        body = json.dumps({"run": command})
        status, answer = fleet["gpu-1"].request("POST", f"http://127.0.0.1:8080/predictions/{NAME}", kind="inference", body=body)
        assert status == 200, answer
        return answer["y"]

    yield call
    site([*declared, {**entry, "state": "absent"}])
    assert fleet["gpu-1"].run("test -e /etc/dragonfly-endpoint/config.json").rc == 0, "the plugin downloads again"


def connect(run, *places):
    return run(f"python3 -c {shlex.quote(CONNECT)} {' '.join(places)}").split()


def test_it_runs_as_the_user_of_torchserve(run):
    assert run("id -un").strip() == "torchserve"
    assert run("ls /etc/torchserve/config.properties").strip() == "/etc/torchserve/config.properties", "it sees no file at all"


def test_it_finds_no_credentials(fleet, run):
    for name in GPU_HOSTS:
        assert fleet[name].run("ls /etc/dragonfly-endpoint/config.json").rc != 0
    # In two parts, or it would find its own command.
    secret = f"{STORE_SECRET[:12]}'{STORE_SECRET[12:]}'"
    assert run(f"grep -rlsaF {secret} /etc /run /tmp /home /root /var; grep -lsaF {secret} /proc/[0-9]*/environ /proc/[0-9]*/cmdline") == ""
    keys = run("cat /etc/dragonfly/tls/dfdaemon.pem /etc/dragonfly/dfdaemon.yaml /root/.ssh/* 2>&1")
    assert "BEGIN" not in keys and keys.count("Permission denied") + keys.count("No such file") >= 3


def test_it_reaches_nothing_of_dragonfly(fleet, run):
    own = fleet["gpu-1"].check_output("hostname -I").split()[0]
    other, scheduler = own.rpartition(".")[0] + ".22", own.rpartition(".")[0] + ".11"
    assert connect(run, "/run/dragonfly/dfdaemon.sock") == ["PermissionError"]
    places = ["127.0.0.1:4001", f"{own}:4000", f"{own}:4005", f"{other}:4000", f"{other}:4005", f"{scheduler}:8002"]
    assert set(connect(run, *places)) <= REFUSED
    assert "Permission denied" in run("ls /var/lib/modelfleet/pieces")


def test_it_calls_nobody_beyond_its_host(fleet, origin, run):
    store = origin.base.rpartition("/")[2].rpartition(":")[0]
    places = [f"{store}:8090", f"{store}:3128", f"{SCENARIO.settings['lab_network_prefix']}.1:22"]
    # The host itself reaches the first.
    assert fleet["gpu-1"].run(f"python3 -c {shlex.quote(CONNECT)} {places[0]}").stdout.split() == ["connected"]
    assert set(connect(run, *places)) <= REFUSED


def test_it_writes_no_model(fleet, run, archive):
    before = fleet["gpu-1"].check_output("find %s /var/lib/modelfleet/blobs -printf '%%p %%u %%m %%s %%T@\n' | sort", MODELS)
    attempts = (
        f"echo x > {MODELS}/new.mar; echo x >> {archive['path']}; rm -f {archive['path']}; mv {archive['path']} /tmp; chmod 777 {MODELS}"
    )
    said = run(f"({attempts}) 2>&1")
    assert said.count("\n") >= 5, said
    assert fleet["gpu-1"].check_output("find %s /var/lib/modelfleet/blobs -printf '%%p %%u %%m %%s %%T@\n' | sort", MODELS) == before
    # Nor does dfdaemon, whose pieces they share.
    assert fleet["gpu-1"].run("su -s /bin/sh dfdaemon -c %s", f"echo x >> {archive['path']}").rc != 0


def test_what_it_still_can(fleet, run, archive):
    """TorchServe has one user for all models: each reads the others, and whatever TorchServe's own keys open on its host."""
    assert run(f"head -c 2 {archive['path']}") == "PK"
    assert '"management"' in run("cat /var/lib/torchserve/key_file.json")
    assert connect(run, "127.0.0.1:8081") == ["connected"]
