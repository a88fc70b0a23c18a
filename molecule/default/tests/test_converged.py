"""The state of every host after the fleet has converged; runs before the faults, which change the counters."""

from __future__ import annotations

import json

import pytest
import yaml
from fleet import BUCKET, DAEMON_HOSTS, GPU_HOSTS, MODELS, REPOSITORY, SIGNATURES

UNITS = {
    "scheduler-1": ["dragonfly-scheduler", "modelfleet-firewall"],
    "seed-1": ["dfdaemon", "modelfleet-firewall"],
    **{name: ["dfdaemon", "torchserve", "torchserve-models", "modelfleet-firewall"] for name in GPU_HOSTS},
}
USERS = {"dragonfly-scheduler": "dragonfly-scheduler", "dfdaemon": "dfdaemon", "torchserve": "torchserve"}
# What may face the network; everything else listens on loopback.
PUBLIC_PORTS = {"scheduler-1": {8002}, "seed-1": {4000, 4005}, **{name: {4000, 4005} for name in GPU_HOSTS}}


def test_the_whole_fleet_is_tested(fleet):
    assert sorted(fleet) == ["gpu-1", "gpu-2", "gpu-3", "scheduler-1", "seed-1"]


def test_a_run_that_changes_nothing_asks_little_of_a_host():
    """Counted in the scenario's second run: its cost grows with the modules that run on each host, not with the machine."""
    tasks = json.loads((REPOSITORY / ".cache/module_tasks.json").read_text(encoding="utf-8"))
    for name in GPU_HOSTS:
        assert 5 < len(tasks[name]) <= 14, tasks[name]


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_units_run_and_start_at_boot(fleet, name):
    for unit in UNITS[name]:
        assert fleet[name].active(unit), unit
    for unit in set(UNITS[name]) - {"torchserve-models"}:
        assert fleet[name].check_output("systemctl is-enabled %s", unit) == "enabled"
    assert fleet[name].check_output("systemctl --failed --no-legend --plain") == ""


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_daemons_run_as_their_own_users(fleet, name):
    for unit in set(UNITS[name]) & set(USERS):
        pid = fleet[name].main_pid(unit)
        assert fleet[name].check_output("ps -o user:32= -p %s", pid).strip() == USERS[unit]


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_only_the_peer_ports_face_the_network(fleet, name):
    public = set()
    for line in fleet[name].check_output("ss -Hltn").splitlines():
        address, _colon, port = line.split()[3].rpartition(":")
        if not address.strip("[]").startswith(("127.", "::1", "::ffff:127.")):
            public.add(int(port))
    assert public == PUBLIC_PORTS[name]


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_every_model_has_its_workers_ready(fleet, models, name):
    for model in models:
        status, versions = fleet[name].request("GET", f"http://127.0.0.1:8081/models/{model['name']}/all")
        assert status == 200
        (version,) = [entry for entry in versions if entry["modelVersion"] == model["version"]]
        assert [worker["status"] for worker in version["workers"]] == ["READY"] * model.get("workers", 1)


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_every_host_gives_the_known_answer(fleet, serves, name):
    assert serves(fleet[name])


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_one_copy_on_disk(fleet, archive, name):
    # The model store's file is the piece store's file.
    inode, links = fleet[name].check_output("stat -c '%%i %%h' %s", archive["path"]).split()
    assert int(links) >= 2
    assert fleet[name].check_output("find /var/lib/modelfleet/pieces -inum %s -type f", inode), (
        "the model store's file is the piece store's file"
    )


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_a_model_file_is_what_was_declared(fleet, archive, name):
    assert fleet[name].check_output("sha256sum %s", archive["path"]).split()[0] == archive["sha256"]


def test_the_origin_sends_a_model_about_once(fleet, archive, bundle, origin):
    size = int(fleet["gpu-1"].check_output("stat -c %%s %s", archive["path"]))
    weights = int(fleet["gpu-1"].check_output("stat -c %%s %s", f"{bundle['path']}/weights.bin"))
    assert size >= 64 << 20 and weights >= 16 << 20
    assert origin.bytes_sent(archive["object"]) <= 1.05 * size
    sent = origin.call("GET", "/counters")["objects"]
    blobs = sum(one["bytes"] for key, one in sent.items() if f"/{bundle['bundle']}/" in key)
    assert blobs <= 1.05 * weights
    # What is small every peer takes from the origin: the manifest and the pack of the bundle.
    small = 64 << 10
    assert 0 <= fleet["seed-1"].traffic()["BACK_TO_SOURCE"] - size - weights <= small
    for name in GPU_HOSTS:
        traffic = fleet[name].traffic()
        assert 0 <= traffic["REMOTE_PEER"] - size - weights <= small
        assert (traffic["BACK_TO_SOURCE"] <= small, traffic["LOCAL_PEER"]) == (True, 0), traffic


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_dfdaemon_cannot_write_where_torchserve_looks(fleet, name):
    # The reason is asserted too: without the user, the file or the directory the commands would fail as well.
    for command in (
        f"runuser -u dfdaemon -- touch {MODELS}/planted",
        "runuser -u nobody -- cat /etc/dragonfly-endpoint/config.json",
        "runuser -u nobody -- ls /run/dragonfly",
    ):
        tried = fleet[name].run(command)
        assert tried.rc != 0 and "Permission denied" in tried.stderr, command


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_secrets_are_private_and_not_logged(fleet, name):
    host = fleet[name]
    assert host.check_output("stat -c '%a %U' /etc/dragonfly-endpoint/config.json") == "600 torchserve"
    assert host.check_output("stat -c '%a %U' /var/lib/torchserve/key_file.json") == "600 torchserve"
    secret = json.loads(host.check_output("cat /etc/dragonfly-endpoint/config.json"))["object_storage"]["secret_key"]
    assert host.journal_lines([secret, *SIGNATURES]) == []
    assert host.run("grep -rIlF -e %s -e X-Amz-Signature= /var/lib/torchserve /var/log /run/log", secret).stdout == ""


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_no_temporary_file_is_left(fleet, name):
    assert fleet[name].check_output("find /var/lib/modelfleet/incoming -type f") == ""


def test_a_run_prints_no_secret(fleet, play):
    """Everything that -vvv and --diff show of a run that changes both keys: neither the old nor the new ones."""
    settings = yaml.safe_load((REPOSITORY / "inventory/lab/group_vars/all/lab.yml").read_text(encoding="utf-8"))
    storage = {"s3": {"bucket": BUCKET, "region": "us-east-1", "access_key": "AKIAPLANTED", "secret_key": "planted-secret-key"}}
    finished = play(
        "playbooks/site.yml", "-vvv", "--diff", "--check", "--limit", "gpu-1", "-e", json.dumps({"modelfleet_storage": storage})
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
    printed = finished.stdout + finished.stderr
    assert "config.json" in printed and "changed: [gpu-1]" in printed
    for secret in ("planted-secret-key", settings["lab_read_secret_key"], settings["lab_publish_secret_key"]):
        assert secret not in printed
    keys = json.loads(fleet["gpu-1"].check_output("cat /var/lib/torchserve/key_file.json"))
    for key in (entry["key"] for entry in keys.values()):
        assert key not in printed
