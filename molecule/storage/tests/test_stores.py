"""Each kind of store on real daemons: one model from the publish play to its answer, then what goes wrong at users'."""

from __future__ import annotations

import base64
import json

import pytest
import yaml
from conftest import CONFIG, SCENARIO, SEEN, SERVICE_ACCOUNT, play
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from fleet import GPU_HOSTS, MODELS

WRONG = {"s3": "secret_key", "oss": "access_key_secret", "abs": "account_key", "obs": "secret_access_key"}
# What a user of the public plugin has: the publisher's keys, because those of the scenario's hosts have session tokens.
KEYS = yaml.safe_load((SCENARIO.directory / "inventory/group_vars/all/keys.yml").read_text(encoding="utf-8"))["lab_keys"]
PUBLIC = {
    "s3": {"bucket_name": "models", "region": "us-east-1", **KEYS["s3"]["publish"]},
    "oss": {"bucket_name": "models", "endpoint": "oss-cn-hangzhou.aliyuncs.com", **KEYS["oss"]["publish"]},
    "gcs": {"bucket_name": "models", "project_id": "modelfleet-lab", "service_account_path": SERVICE_ACCOUNT},
    "abs": {"container_name": "models", "account_name": "modelfleetlab", **KEYS["abs"]["publish"]},
}
# In place, so that owner and mode stay.
WRITE = "python3 -c 'import sys; open(sys.argv[1], \"w\").write(sys.argv[2])' %s %s"
NAMES = [
    "names/{}/with space.mar",
    "names/{}/plus+and%2Fpercent%.mar",
    "names/{}/ünïcödé/模型 🙂.mar",
    "names/{}/quote'and~(tilde)&a=b;c@d$e!*,.mar",
]
REFUSED = ["", "/names/leading.mar", "names/../other.mar", "../names.mar", "names/./x.mar", "names/line\nbreak.mar"]


@pytest.fixture(autouse=True)
def healed(origin, store, fleet):
    """Whatever a test breaks: afterwards the model still answers everywhere, and nothing half-fetched is left."""
    yield
    origin.heal()
    origin.clock_ahead(0)
    for name in GPU_HOSTS:
        status, answer = fleet[name].predict(store.name, store.input)
        assert status == 200, answer
        assert answer["y"] == pytest.approx(store.expected["y"], abs=1e-4)
        assert fleet[name].check_output("find /var/lib/modelfleet/incoming -type f") == ""


@pytest.fixture
def config(fleet):
    """config.json of gpu-1 as a dict to change; put back at the end. write() writes it as its owner would."""

    class Config:
        def __init__(self, host, path):
            self.host, self.path = host, path
            self.before = host.check_output("cat %s", path)
            self.value = json.loads(self.before)

        def write(self):
            self.host.check_output(WRITE, self.path, json.dumps(self.value))

        def restore(self):
            self.value = json.loads(self.before)
            self.write()

    opened = []

    def open_config(path=CONFIG):
        opened.append(Config(fleet["gpu-1"], path))
        return opened[-1]

    yield open_config
    for one in opened:
        one.restore()


def refused(store, fault, host, key, digest, expected_status=502):
    """Register, expect an error that names the object; keep the message for the table."""
    before = host.stored()
    status, answer = host.register(key, sha256=digest)
    assert status == expected_status, answer
    message = answer["message"]
    assert key in message, message
    assert host.stored() == before
    store.faults[fault] = f"{status} {message}"
    return message


def test_every_host_serves_what_was_published(store, fleet):
    row = SEEN[store.name]
    rows = {host: store.report["hosts"][host]["models"] for host in GPU_HOSTS}
    assert all(lines and all(line["answer_ok"] for line in lines) for lines in rows.values()) and store.report["problems"] == []
    assert 1 <= store.report["origin"]["ratio"] <= 1.05
    row["registered"] = row["answered"] = 0
    for name in GPU_HOSTS:
        status, versions = fleet[name].request("GET", f"http://127.0.0.1:8081/models/{store.name}/all")
        assert status == 200
        assert [worker["status"] for worker in versions[0]["workers"]] == ["READY"]
        row["registered"] += 1
        status, answer = fleet[name].predict(store.name, store.input)
        assert status == 200 and answer["y"] == pytest.approx(store.expected["y"], abs=1e-4)
        row["answered"] += 1


def test_the_origin_sends_it_about_once(store, fleet, origin):
    sent = origin.sent(store.object)
    SEEN[store.name]["ratio"] = sent["bytes"] / store.size
    assert store.size <= sent["bytes"] <= 1.05 * store.size, sent


def test_a_second_registration_asks_the_origin_for_nothing(store, fleet, origin):
    host = fleet["gpu-1"]
    file = f"{MODELS}/{store.name}-1.0-{store.published['sha256'][:12]}.mar"
    assert host.unregister(store.name)[0] == 200
    host.check_output("rm %s", file)
    before, traffic = origin.bytes_sent(store.object), host.traffic()
    status, answer = host.register(store.object, sha256=store.published["sha256"], initial_workers=1)
    assert status == 200, answer
    after = host.traffic()
    SEEN[store.name]["again"] = origin.bytes_sent(store.object) - before
    assert SEEN[store.name]["again"] == 0
    assert {source: after[source] - traffic[source] for source in after} == {
        "BACK_TO_SOURCE": 0,
        "REMOTE_PEER": 0,
        "LOCAL_PEER": store.size,
    }


def test_distribute_brings_a_version_before_anything_serves_it(store, fleet, origin, put):
    """A host signs the URL itself there, not the plugin."""
    key = f"models/{store.name}/2.0/{store.name}.mar"
    digest = put(key, name=store.name, version="2.0")
    entry = {"name": store.name, "version": "2.0", "object": key, "sha256": digest}
    models = ["-e", json.dumps({"modelfleet_models": [store.published, entry]})]
    finished = play(f"{store.name}-distribute", "playbooks/distribute.yml", *store.variables[:2], *models)
    assert finished.returncode == 0, finished.stdout[-5000:]
    file = f"{MODELS}/{store.name}-2.0-{digest[:12]}.mar"
    for name in GPU_HOSTS:
        assert fleet[name].check_output("sha256sum %s", file).split()[0] == digest
        assert fleet[name].check_output("stat -c '%%a %%U' %s", file) == "444 root"
        status, versions = fleet[name].request("GET", f"http://127.0.0.1:8081/models/{store.name}/all")
        assert status == 200 and [version["modelVersion"] for version in versions] == ["1.0"]
    size = int(fleet["gpu-1"].check_output("stat -c %%s %s", file))
    assert size <= origin.bytes_sent(key) <= 1.05 * size


def test_the_configuration_is_private(store, fleet):
    for name in GPU_HOSTS:
        assert fleet[name].check_output("stat -c '%a %U' /etc/dragonfly-endpoint/config.json") == "600 torchserve"
        found = fleet[name].run("stat -c '%a %U' /etc/dragonfly-endpoint/service-account.json")
        assert found.stdout.strip() == ("600 torchserve" if store.name == "gcs" else "")


def test_names_that_must_work(store, fleet, put):
    host = fleet["gpu-2"]
    for number, name in enumerate(NAMES):
        key, model = name.format(store.name), f"name{number}{store.name}"
        digest = put(key, name=model)
        status, answer = host.register(key, sha256=digest, initial_workers=0)
        assert status == 200, (key, answer)
        assert host.unregister(model)[0] == 200


def test_names_that_are_refused(store, fleet):
    for key in REFUSED:
        status, answer = fleet["gpu-2"].register(key, sha256="0" * 64)
        assert status == 400, (key, answer)


def test_a_configuration_written_for_the_public_plugin(store, fleet, origin, put):
    """Its keys alone, without a digest: the model still comes from the origin once, although every host signs a URL of its own."""
    if store.name not in PUBLIC:
        pytest.skip("the public plugin does not know this store")
    key = f"public/{store.name}.mar"
    put(key, name=f"public{store.name}")
    storage = {"type": store.name, **PUBLIC[store.name]}
    public = {"addr": "http://127.0.0.1:4001", "header": {}, "filter": ["Expires&Signature&ns"], "object_storage": storage}
    hosts = [fleet[name] for name in ("gpu-1", "gpu-2")]
    ours = hosts[0].check_output("cat %s", CONFIG)
    size = 0
    try:
        for host in hosts:
            host.check_output(WRITE, CONFIG, json.dumps(public))
            status, answer = host.register(key)
            assert status == 200, answer
            size = answer["bytes"]
    finally:
        for host in hosts:
            host.check_output(WRITE, CONFIG, ours)
            host.unregister(f"public{store.name}")
    assert size <= origin.bytes_sent(key) <= 1.05 * size


def test_wrong_key(store, fleet, config, put):
    """The next call after the mistake fails, the next one after its repair works; nothing was restarted."""
    key = f"faults/{store.name}/wrong-key.mar"
    digest = put(key, name=f"wrongkey{store.name}")
    host = fleet["gpu-1"]
    pids = [host.main_pid(unit) for unit in ("torchserve", "dfdaemon")]
    broken = config(SERVICE_ACCOUNT) if store.name == "gcs" else config()
    if store.name == "gcs":
        other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        broken.value["private_key"] = pem.decode()
    elif store.name == "http":
        broken.value["object_storage"]["headers"] = {"X-Api-Key": "another-value"}
    else:
        wrong = base64.b64encode(b"another key").decode() if store.name == "abs" else "another-key"
        broken.value["object_storage"][WRONG[store.name]] = wrong
    broken.write()
    message = refused(store, "wrong key", host, key, digest)
    assert ("401" if store.name == "http" else "403") in message
    broken.restore()
    status, answer = host.register(key, sha256=digest, initial_workers=0)
    assert status == 200, answer
    assert host.unregister(f"wrongkey{store.name}")[0] == 200
    assert [host.main_pid(unit) for unit in ("torchserve", "dfdaemon")] == pids


def test_expired_credentials(store, fleet, origin, put):
    """The origin's clock goes ahead of every signature; plain HTTP has nothing that expires, and goes on."""
    key = f"faults/{store.name}/expired.mar"
    digest = put(key, name=f"expired{store.name}")
    host = fleet["gpu-1"]
    origin.clock_ahead(8 * 24 * 3600)
    if store.name == "http":
        status, answer = host.register(key, sha256=digest, initial_workers=0)
        assert status == 200, answer
        assert host.unregister(f"expired{store.name}")[0] == 200
        store.faults["expired credentials"] = "does not apply"
        return
    message = refused(store, "expired credentials", host, key, digest)
    assert "clock" in message


def test_missing_bucket(store, fleet, config, put):
    key = f"faults/{store.name}/missing-bucket.mar"
    digest = put(key)
    broken = config()
    storage = broken.value["object_storage"]
    if store.name == "http":
        storage["url"] = "https://files.modelfleet.internal/nowhere"
    else:
        storage["container_name" if store.name == "abs" else "bucket_name"] = "nowhere"
    broken.write()
    message = refused(store, "missing bucket", fleet["gpu-1"], key, digest, 404)
    assert "nowhere" in message


def test_missing_object(store, fleet):
    refused(store, "missing object", fleet["gpu-1"], f"faults/{store.name}/nothing.mar", "0" * 64, 404)


def test_object_changed_after_its_digest_was_recorded(store, fleet, put):
    key = f"faults/{store.name}/changed.mar"
    recorded = put(key, name=f"changed{store.name}")
    present = put(key, name=f"changed{store.name}", version="6.6.6")
    message = refused(store, "changed object", fleet["gpu-1"], key, recorded)
    assert recorded in message and present in message


def test_origin_without_range(store, fleet, origin, put):
    key = f"faults/{store.name}/no-range.mar"
    digest = put(key, name=f"norange{store.name}")
    origin.fault(key, no_range=True)
    refused(store, "origin without Range", fleet["gpu-1"], key, digest)
