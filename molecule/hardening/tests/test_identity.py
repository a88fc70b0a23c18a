# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fleet whose hosts have no credentials in any file: the role of an instance, by the metadata service at the address that EC2 has it at,
as a download outlives them. The stores and their identities, one by one, are in tests/test_identity.py."""

from __future__ import annotations

import json
import time

import pytest
from conftest import SCENARIO, SEEN
from fleet import CONNECT, GPU_HOSTS, make_model, recap

NAME, VERSION = "instance", "1.0"
KEY = f"models/{NAME}/{VERSION}/{NAME}.mar"
SERVICE = "169.254.169.254"
STORAGE = {"s3": {"bucket": "models", "region": "us-east-1", "identity": {"source": "instance"}}}
# What whoever reaches the service can do, as its first caller: a session, the role's name, its credentials.
ASK = """
import sys, urllib.request as u
def call(path, method="GET", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    wanted = u.Request(f"http://169.254.169.254/latest/{path}", method=method, headers=headers)
    return u.build_opener(u.ProxyHandler({})).open(wanted, timeout=5).read().decode()
session = call("api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
roles = "meta-data/iam/security-credentials/"
role = call(roles, X_aws_ec2_metadata_token=session)
print(call(roles + role, X_aws_ec2_metadata_token=session))
"""


def identity(origin, **settings):
    """What the service gives from now on, and how often it gave something."""
    body = json.dumps(settings).encode() if settings else None
    return origin.call("PUT" if settings else "GET", "/identities/s3", body)


def site(*arguments, **variables):
    return SCENARIO.play("playbooks/site.yml", *arguments, "-e", json.dumps({"modelfleet_storage": STORAGE, **variables}))


def credentials_of(host):
    """The key, its secret and the session token that the service gives now, and gives until half of their time is over."""
    given = json.loads(host.check_output("python3 -c %s", ASK))
    return [given[name] for name in ("SecretAccessKey", "Token")]


def anew():
    """The seed of a model that no host has pieces of."""
    return time.time_ns() % 2**31


@pytest.fixture(scope="module", autouse=True)
def instances(fleet):
    """The hosts are instances: the origin has the address of the metadata service."""
    store = SCENARIO.hosts(["origin"])["origin"]
    address = store.check_output("hostname -I").split()[0]
    store.check_output("ip address add %s/32 dev lo", SERVICE)
    for name in GPU_HOSTS:
        fleet[name].check_output("ip route replace %s via %s", SERVICE, address)
    yield
    for name in GPU_HOSTS:
        fleet[name].check_output("ip route delete %s", SERVICE)
    store.check_output("ip address delete %s/32 dev lo", SERVICE)


@pytest.fixture(scope="module")
def declared(archive):
    return [{name: value for name, value in archive.items() if name != "path"}]


@pytest.fixture(scope="module")
def entry(origin, tmp_path_factory):
    """A model that runs what a request says."""
    made = make_model(tmp_path_factory.mktemp(NAME), NAME, VERSION, size_mib=24, seed=anew(), fault="hostile")
    return {"name": NAME, "version": VERSION, "object": KEY, "sha256": origin.put(KEY, made.read_bytes()), "size": "25MiB"}


@pytest.fixture(scope="module")
def served(fleet, origin, declared, entry):
    """The fleet with that model on every host, root having signed. Yields what the play printed, and the credentials of its time."""
    identity(origin, lifetime=3600)
    secrets = credentials_of(fleet["gpu-1"])
    origin.count_anew()
    done = site("-vvv", "--diff", modelfleet_models=[*declared, entry], modelfleet_plugin_downloads=False)
    assert done.returncode == 0, done.stdout[-5000:]
    yield done, secrets
    back = SCENARIO.play("playbooks/site.yml", "-e", json.dumps({"modelfleet_models": [*declared, {**entry, "state": "absent"}]}))
    assert back.returncode == 0, back.stdout[-5000:]


def run(host, command):
    """What a shell command prints that the model runs."""
    status, answer = host.request("POST", f"http://127.0.0.1:8080/predictions/{NAME}", kind="inference", body=json.dumps({"run": command}))
    assert status == 200, answer
    return answer["y"]


def test_a_fleet_is_served_with_no_key_in_any_file(fleet, origin, declared, entry, served):
    size = int(fleet["gpu-1"].check_output("stat -L -c %%s /var/lib/modelfleet/models/%s-%s-%s.mar", NAME, VERSION, entry["sha256"][:12]))
    sent = origin.bytes_sent(KEY)
    assert size <= sent <= 1.1 * size
    SEEN.append(f"By the role of an instance: 3 hosts, the store sent {sent / size:.2f} times the size")
    for name in GPU_HOSTS:
        assert run(fleet[name], "id -un").strip() == "torchserve"
    again = site(modelfleet_models=[*declared, entry], modelfleet_plugin_downloads=False)
    assert again.returncode == 0 and not any(row["changed"] for row in recap(again).values())


def test_what_was_given_is_nowhere(fleet, served):
    """Not with all that Ansible shows, nor in what a host keeps."""
    done, secrets = served
    assert "invocation:" in done.stdout, "all that Ansible shows"
    for secret in secrets:
        assert secret not in done.stdout + done.stderr
    places = "/etc /run /tmp /home /root /var /opt"
    for name in GPU_HOSTS:
        host = fleet[name]
        assert host.journal_lines(secrets) == []
        host.check_output("python3 -c %s %s", "import sys; open('/dev/shm/patterns', 'w').write(sys.argv[1] + '\\n')", "\n".join(secrets))
        found = host.run(f"grep -rlsaF -f /dev/shm/patterns {places} /proc/[0-9]*/environ /proc/[0-9]*/cmdline")
        host.check_output("rm /dev/shm/patterns")
        assert found.stdout == "", name


def test_model_code_is_given_nothing(fleet, served):
    """Root asks, and the user of the models cannot."""
    host = fleet["gpu-1"]
    assert credentials_of(host) == served[1]
    assert host.run(f"python3 -c '{CONNECT}' {SERVICE}:80").stdout.split() == ["connected"]
    assert set(run(host, f"python3 -c '{CONNECT}' {SERVICE}:80").split()) <= {"ConnectionRefusedError", "TimeoutError"}


def test_a_download_outlives_what_signed_it(fleet, origin, declared, entry, served, tmp_path):
    """What is given is good for 12 seconds, a piece takes 7, and the last third of them is asked for when the others have come."""
    made = make_model(tmp_path, NAME, "2.0", size_mib=96, seed=anew())
    key = KEY.replace(VERSION, "2.0")
    later = {**entry, "version": "2.0", "object": key, "sha256": origin.put(key, made.read_bytes()), "size": "97MiB"}
    identity(origin, lifetime=12)
    before = identity(origin)["issued"]
    origin.fault(key, slow=600_000)
    try:
        done = site(modelfleet_models=[*declared, entry, later], modelfleet_plugin_downloads=False)
        assert done.returncode == 0, done.stdout[-5000:]
        given = identity(origin)["issued"] - before
        assert given >= 2
    finally:
        origin.heal()
        identity(origin, lifetime=3600)
    SEEN.append(f"A download that outlives its credentials: they were given {given} times")
    for name in GPU_HOSTS:
        assert fleet[name].request("GET", f"http://127.0.0.1:8081/models/{NAME}/2.0")[0] == 200
    gone = site(modelfleet_models=[*declared, entry, {**later, "state": "absent"}], modelfleet_plugin_downloads=False)
    assert gone.returncode == 0, gone.stdout[-5000:]


def test_an_instance_without_a_role_is_told_so(fleet, origin, declared, entry, served, tmp_path):
    """And goes on serving what it has."""
    made = make_model(tmp_path, NAME, "3.0", size_mib=8, seed=anew())
    key = KEY.replace(VERSION, "3.0")
    wanted = {**entry, "version": "3.0", "object": key, "sha256": origin.put(key, made.read_bytes())}
    identity(origin, attached=False)
    try:
        done = site(modelfleet_models=[*declared, entry, wanted], modelfleet_plugin_downloads=False)
    finally:
        identity(origin, attached=True)
    assert done.returncode != 0
    assert "no role is attached to this instance. Attach an instance profile whose role may read the bucket." in done.stdout
    assert run(fleet["gpu-1"], "id -un").strip() == "torchserve"


def test_the_plugin_asks_only_where_it_may(fleet, origin, declared, entry, served):
    """With the plugin's downloads the service must be open to TorchServe's user, which the user must say by its address."""
    variables = {"modelfleet_models": [*declared, entry], "modelfleet_plugin_downloads": True}
    refused = site(**variables)
    assert refused.returncode != 0 and not any(row["changed"] for row in recap(refused).values())
    assert f"ask http://{SERVICE} for credentials, which the firewall keeps it from" in refused.stdout
    done = site(**variables, modelfleet_firewall_destinations=[SERVICE])
    assert done.returncode == 0, done.stdout[-5000:]
    host = fleet["gpu-1"]
    config = json.loads(host.check_output("cat /etc/dragonfly-endpoint/config.json"))
    assert config["object_storage"]["identity"] == {"source": "instance"}
    secrets = credentials_of(host)
    assert not any(secret in json.dumps(config) for secret in secrets)
    host.unregister(NAME)
    status, answer = host.register(KEY, sha256=entry["sha256"], model_name=NAME, initial_workers=1, synchronous="true")
    assert status == 200, answer
    # As the documentation says: whoever is that user has them now.
    assert secrets[0] in run(host, f"python3 -c '{ASK}'")
