# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mistake in the inventory stops the first play, before any module reaches a host, with a sentence that names the key and the remedy."""

from __future__ import annotations

import copy
import re
import sys

import pytest
import yaml
from fleet import a_few

SECRET = "cGxhbnRlZC1zZWNyZXQ"
DIGEST = "9f" * 32
GOOD = {
    "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "reader", "secret_key": SECRET}},
    "modelfleet_models": [{"name": "resnet50", "version": "1.0", "object": "models/resnet50.mar", "sha256": DIGEST}],
    "dragonfly_scheduler_release_sha256": DIGEST,
    "dfdaemon_release_sha256": DIGEST,
}
BUNDLE = {"name": "llama", "version": "3.1", "bundle": "models/llama", "sha256": DIGEST}
STORES = {
    "oss": {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "reader", "access_key_secret": SECRET},
    "gcs": {"bucket": "models", "service_account_file": "/etc/modelfleet/reader.json"},
    "abs": {"account_name": "example", "account_key": SECRET + "=", "container": "models"},
    "obs": {"bucket": "models", "region": "cn-north-4", "access_key_id": "reader", "secret_access_key": SECRET},
    "http": {
        "url": "https://files.example.com",
        "headers": [{"name": "X-Key", "value": SECRET}],
        "headers_reach_daemon_logs": True,
        "headers_reach_unverified_server": True,
    },
}
HOSTS = {
    "dragonfly_schedulers": {"scheduler-1": "10.0.0.1"},
    "dragonfly_seed_peers": {"seed-1": "10.0.0.2"},
    "gpu_hosts": {"gpu-1": "10.0.0.3", "gpu-2": "10.0.0.4"},
}


def storage(variables, **options):
    variables["modelfleet_storage"]["s3"].update(options)


def model(variables, **options):
    variables["modelfleet_models"][0].update(options)


def unknown_store(variables):
    variables["modelfleet_storage"]["swift"] = {"container": "models", "secret_key": SECRET}


def second_store(variables):
    variables["modelfleet_storage"]["oss"] = STORES["oss"]


def other_store(name, **changes):
    """Another store than the S3 of the good inventory, with its options changed; None takes one away."""

    def change(variables):
        options = {**STORES[name], **changes}
        variables["modelfleet_storage"] = {name: {key: value for key, value in options.items() if value is not None}}

    return change


def no_bucket(variables):
    del variables["modelfleet_storage"]["s3"]["bucket"]


def misspelt_secret(variables):
    storage(variables, secretkey=variables["modelfleet_storage"]["s3"].pop("secret_key"))


def no_sha256(variables):
    del variables["modelfleet_models"][0]["sha256"]


def another_model(variables, **options):
    variables["modelfleet_models"].append({**variables["modelfleet_models"][0], **options})


# Each case: what is done to a good inventory, and the parts of the sentence that the user must see.
VARIABLES = {
    "a store that does not exist": (
        unknown_store,
        ["modelfleet_storage.swift", "Supported parameters include: abs, gcs, http, obs, oss, s3"],
    ),
    "two stores": (second_store, ["parameters are mutually exclusive: s3|oss|gcs|abs|obs|http found in modelfleet_storage"]),
    "no store": (lambda variables: variables["modelfleet_storage"].clear(), ["one of the following is required: ", "modelfleet_storage"]),
    "a key of another store": (
        lambda variables: storage(variables, account_name="x"),
        ["modelfleet_storage.s3.account_name", "access_key, bucket"],
    ),
    "a secret key that is misspelt": (misspelt_secret, ["modelfleet_storage.s3.secretkey", "access_key, bucket"]),
    "OSS without a region": (
        other_store("oss", region=None),
        ["missing required arguments: region found in modelfleet_storage -> oss"],
    ),
    "a region of OSS as its host name has it": (
        other_store("oss", region="oss-cn-hangzhou"),
        ["storage.oss.region 'oss-cn-hangzhou': write the region without the oss- of its host name, cn-hangzhou."],
    ),
    "GCS without a key": (
        other_store("gcs", service_account_file=None),
        ["required: service_account_json, service_account_file, identity found in modelfleet_storage -> gcs"],
    ),
    "GCS with two keys": (
        other_store("gcs", service_account_json=SECRET),
        ["mutually exclusive: service_account_json|service_account_file|identity found in modelfleet_storage -> gcs"],
    ),
    "S3 without credentials": (
        lambda variables: storage(variables, access_key=None, secret_key=None),
        ["storage.s3: it has no credentials. Give access_key and secret_key, or identity, so that they need not be in a file."],
    ),
    "Azure with an identity and a key": (
        other_store("abs", identity={"source": "instance"}),
        ["storage.abs.account_key: with identity there would be two kinds of credentials. Leave one of them out."],
    ),
    "a web identity without its token": (
        other_store(
            "oss", access_key_id=None, access_key_secret=None, identity={"source": "web_identity", "role_arn": "acs:ram::1:role/a"}
        ),
        ["source is web_identity but all of the following are missing: oidc_provider_arn, token_path found in modelfleet_storage -> oss"],
    ),
    "a metadata service that the firewall keeps the plugin from": (
        other_store("obs", access_key_id=None, secret_access_key=None, identity={"source": "instance"}),
        ["has TorchServe's plugin ask http://169.254.169.254 for credentials", "modelfleet_plugin_downloads to false"],
    ),
    "a service account that is none": (
        other_store("gcs", service_account_file=None, service_account_json=SECRET),
        ["storage.gcs.service_account_json: it is not a JSON object. Give the key file of a service account, unchanged"],
    ),
    "an account key that was cut": (
        other_store("abs", account_key=SECRET),
        ["storage.abs.account_key: it is not base64. Give one of the account's two access keys, unchanged."],
    ),
    "Azure with the keys of S3": (
        other_store("abs", secret_key=SECRET),
        ["modelfleet_storage.abs.secret_key", "account_key, account_name, container"],
    ),
    "a region of OBS that is none": (
        other_store("obs", region="cn-north"),
        ["storage.obs.region 'cn-north': a region looks like cn-north-4."],
    ),
    "a secret of OBS that is misspelt": (
        other_store("obs", secret_acces_key=SECRET),
        ["modelfleet_storage.obs.secret_acces_key", "secret_access_key"],
    ),
    "headers that nobody accepted": (
        other_store("http", headers_reach_daemon_logs=None),
        ["storage.http.headers: dfdaemon and the scheduler pass on", "Set headers_reach_daemon_logs to true to accept that"],
    ),
    "headers for a server that nobody verifies": (
        other_store("http", headers_reach_unverified_server=None),
        ["dfdaemon does not verify the certificate of the server", "Set headers_reach_unverified_server to true to accept that"],
    ),
    "a header without its value": (
        other_store("http", headers=[{"name": "X-Key", "valeu": SECRET}]),
        ["modelfleet_storage.http.headers.valeu", "name, value"],
    ),
    "a password in a URL": (
        other_store("http", url=f"https://user:{SECRET}@files.example.com"),
        ["storage.http.url: it must be http:// or https:// with a host"],
    ),
    "credentials to publish with a foreign key": (
        lambda variables: variables.update(modelfleet_publish_credentials={"oss": {"secret_key": SECRET}}),
        ["modelfleet_publish_credentials.oss.secret_key", "access_key_id, access_key_secret"],
    ),
    "a secret with a line end": (
        lambda variables: storage(variables, secret_key=SECRET + "\n"),
        ["The variable modelfleet_storage.s3.secret_key ends with a line end; write it without; where a command makes the text, echo adds"],
    ),
    "a publishing secret with a line end": (
        lambda variables: variables.update(modelfleet_publish_credentials={"s3": {"access_key": "writer", "secret_key": SECRET + "\n"}}),
        ["The variable modelfleet_publish_credentials.s3.secret_key ends with a line end; write it without"],
    ),
    "names and keys with white space": (
        lambda variables: (
            model(variables, object="a.mar "),
            storage(variables, bucket="models\n"),
            variables.update(torchserve_java="/java\n"),
        ),
        [
            "The variable modelfleet_models[0] (resnet50).object begins or ends with white space; write it without",
            "The variable modelfleet_storage.s3.bucket ends with a line end",
            "The variable torchserve_java ends with a line end",
        ],
    ),
    "secrets of the daemons in the wrong place": (
        lambda variables: variables.update(
            dragonfly_scheduler_config={"database": {"redis": f"password={SECRET}"}},
            dfdaemon_config={"tracing": {"headers": [SECRET]}, "backend": {"requestHeader": {"Authorization": SECRET + "\t"}}},
        ),
        ["The variable dfdaemon_config.backend.requestHeader.Authorization begins or ends with white space; write it without"],
    ),
    "a secret of a daemon in place of its dictionary": (
        lambda variables: variables.update(dragonfly_scheduler_config={"database": {"redis": f"password={SECRET}"}}),
        ["The key database.redis in dragonfly_scheduler_config must be a dictionary, not a text."],
    ),
    "a secret in the environment of TorchServe": (
        lambda variables: variables.update(torchserve_environment={"HF_TOKEN": SECRET}),
        ["The variable HF_TOKEN in torchserve_environment is a secret by its name, and everyone may read a unit; put it into a file"],
    ),
    "no GPU for the workers of a GPU host": (
        lambda variables: variables.update(torchserve_device="gpu", torchserve_environment={"CUDA_VISIBLE_DEVICES": ""}),
        ["The variable CUDA_VISIBLE_DEVICES in torchserve_environment hides from the workers the GPUs that TorchServe gives them; leave"],
    ),
    "no bucket": (no_bucket, ["missing required arguments: bucket found in modelfleet_storage -> s3"]),
    "an unknown key in a model": (lambda variables: model(variables, wokers=2), ["modelfleet_models.wokers", "workers"]),
    "a model without sha256": (no_sha256, ["missing parameter(s) required by 'object': sha256 found in modelfleet_models"]),
    "a model with an empty sha256": (
        lambda variables: model(variables, sha256=""),
        ["The model resnet50 1.0 has no sha256; add it to the entry in modelfleet_models."],
    ),
    "a sha256 that is none": (
        lambda variables: model(variables, sha256="9f2c"),
        ["The sha256 of the model resnet50 1.0 is not 64 hexadecimal digits in lower case; write what sha256sum prints for the file."],
    ),
    "a model that is an object and a bundle": (
        lambda variables: model(variables, bundle="models/resnet50"),
        ["The variable modelfleet_models[0] (resnet50) is not what its role takes: parameters are mutually exclusive: object|bundle"],
    ),
    "a model that is nothing": (
        lambda variables: variables["modelfleet_models"][0].pop("object"),
        ["modelfleet_models[0] (resnet50) is not what its role takes: one of the following is required: object, bundle"],
    ),
    "a kind of artifact that does not exist": (
        lambda variables: model(variables, tarball="resnet50.tar"),
        ["modelfleet_models.tarball. Supported parameters include: batch_size, bundle, check"],
    ),
    "a runtime that does not exist": (
        lambda variables: model(variables, runtime="tritno"),
        ["(resnet50) is not what its role takes: value of runtime must be one of: torchserve, openai, triton, bentoml, got: tritno"],
    ),
    "models that their runtime cannot serve": (
        lambda variables: variables.update(
            openai_server_command=["/opt/vllm/bin/vllm", "serve", "{directory}", "--port", "{port}"],
            modelfleet_models=[
                {**GOOD["modelfleet_models"][0], "runtime": "openai", "port": 8101},
                {**BUNDLE, "runtime": "openai", "port": 8102, "options": ["--api-key", SECRET]},
                {**BUNDLE, "name": "mistral", "runtime": "openai", "port": 8102},
                {**BUNDLE, "name": "qwen", "port": 8103},
            ],
        ),
        [
            "The model resnet50 1.0 is an object, and the runtime openai loads a bundle or huggingface only; publish it as that",
            "The model llama 3.1 has --api-key in its command or options, which is a secret by its name",
            "The port 8102 of the model mistral 3.1 is that of the model llama; give each its own.",
            "The model qwen 3.1 has port, which the runtime torchserve does not know; leave it out.",
        ],
    ),
    "a Triton that whoever reaches it takes over, and an archive for it": (
        lambda variables: variables.update(
            triton_image=f"nvcr.io/nvidia/tritonserver:25.06-py3@sha256:{DIGEST}",
            modelfleet_models=[{**GOOD["modelfleet_models"][0], "runtime": "triton"}, {**BUNDLE, "runtime": "triton"}],
        ),
        [
            "The model resnet50 1.0 is an object, and the runtime triton loads a bundle only; publish it as that and give its key.",
            "The triton_image is the container 25.06, with CVE-2025-23319, CVE-2025-23320 and CVE-2025-23334",
        ],
    ),
    "models that BentoML cannot serve": (
        lambda variables: variables.update(
            bentoml_program="/home/me/bentoml",
            modelfleet_models=[
                {**GOOD["modelfleet_models"][0], "runtime": "bentoml", "port": 8301},
                {**BUNDLE, "runtime": "bentoml", "port": 8301, "environment": {"API_TOKEN": SECRET}},
            ],
        ),
        [
            "The model resnet50 1.0 is an object, and the runtime bentoml loads a bundle only; publish it as that and give its key.",
            "The model llama 3.1 has the variable API_TOKEN in its environment, which is a secret by its name",
            "The port 8301 of the model llama 3.1 is that of the model resnet50; give each its own.",
            "The bentoml_program is in /home/, which a unit does not see; put BentoML below /opt or /usr.",
        ],
    ),
    "a bundle with the key of an archive": (
        lambda variables: variables.update(modelfleet_models=[{**BUNDLE, "bundle": "models/llama.mar"}]),
        ["The bundle of the model llama 3.1 cannot be used ('models/llama.mar'); a .mar is one object; give its key as object"],
    ),
    "an object with the key of a manifest": (
        lambda variables: model(variables, object=f"models/llama/manifests/{DIGEST}.json"),
        ["it is the manifest of a bundle, so give bundle: models/llama instead."],
    ),
    "the same model twice, once as a bundle": (
        lambda variables: variables["modelfleet_models"].append({**BUNDLE, "name": "resnet50", "version": "1.0"}),
        ["The model resnet50 1.0 is listed more than once in modelfleet_models; keep one entry."],
    ),
    "the same model twice": (another_model, ["The model resnet50 1.0 is listed more than once in modelfleet_models; keep one entry."]),
    "two defaults": (
        lambda variables: (model(variables, default=True), another_model(variables, version="2.0")),
        ["The model resnet50 has more than one default version (1.0, 2.0) in modelfleet_models; set default: true on one of them."],
    ),
    "a version that YAML took for a number": (
        lambda variables: model(variables, version=1.10),
        [
            "The version of the model resnet50 1.1 is not text; write it in quotes in modelfleet_models",
        ],
    ),
    "a key with a leading slash": (
        lambda variables: model(variables, object="/models/resnet50.mar"),
        ["The object of the model resnet50 1.0 cannot be used ('/models/resnet50.mar'); leave out outer and double slashes"],
    ),
    "release archives without a sha256": (
        lambda variables: variables.update(dragonfly_scheduler_release_sha256="", dfdaemon_release_sha256="9f2c"),
        [
            "The dragonfly_scheduler_release_sha256 is missing; take an empty one out of the inventory and run modelfleet.serving.pin_",
            "(On scheduler-1.)",
            "The dfdaemon_release_sha256 is not 64 hexadecimal digits ('9f2c'); write what sha256sum prints",
            "(On seed-1, gpu-1, gpu-2.)",
        ],
    ),
    "a release archive that nobody named": (
        lambda variables: variables.pop("dfdaemon_release_sha256"),
        ["The dfdaemon_release_sha256 is missing; take an empty one out of the inventory and run modelfleet.serving.pin_"],
    ),
    "unknown and refused keys of the daemons": (
        lambda variables: variables.update(
            dragonfly_scheduler_config={"server": {"prot": 8003}},
            dragonfly_scheduler_dynconfig={"x": 1},
            dfdaemon_config={"proxy": {"server": {"basicAuth": {"username": "x", "password": SECRET}}}},
            torchserve_config={"job_queue_sizes": 10, "keystore_pass": SECRET},
        ),
        [
            "The key server.prot in dragonfly_scheduler_config is not a key of scheduler; did you mean server.port?",
            "The key x in dragonfly_scheduler_dynconfig is not a key of scheduler_dynconfig",
            "The key proxy.server.basicAuth in dfdaemon_config must not be set: ",
            "The key job_queue_sizes in torchserve_config is not a key of TorchServe 0.12.0; did you mean job_queue_size?",
            "The key keystore_pass in torchserve_config would be a secret in clear",
        ],
    ),
    "addresses that the fleet could not use": (
        lambda variables: variables.update(
            dragonfly_scheduler_config={"server": {"tls": {"caCert": "/a", "cert": "/b", "key": "/c"}}},
            dfdaemon_config={"upload": {"server": {"ip": "127.0.0.1"}}},
            torchserve_config={"management_address": "https://127.0.0.1:{{ torchserve_management_port }}"},
        ),
        [
            "The key server.tls in dragonfly_scheduler_config is what modelfleet_mtls sets, for the whole fleet; leave it out",
            "The key upload.server.ip in dfdaemon_config does not cover modelfleet_address (10.0.0.2), at which other peers call",
            "The key management_address in torchserve_config is https://127.0.0.1:8081, and this fleet asks TorchServe by plain HTTP",
        ],
    ),
    "half of the users own certificates, which would be none": (
        lambda variables: variables.update(modelfleet_pki_ca_path="/srv/pki/ca.pem", modelfleet_pki_certificate_path="/srv/pki/host.pem"),
        [
            "The modelfleet_pki_ca_path is set without modelfleet_pki_key_path, so that there would be no TLS; set all three, or none",
        ],
    ),
    "an authority that is not there": (
        lambda variables: variables.update(
            modelfleet_pki_ca_path="/nowhere/ca.pem",
            modelfleet_pki_certificate_path="/nowhere/host.pem",
            modelfleet_pki_key_path="/nowhere/key",
        ),
        ["Failed to read /nowhere/ca.pem: No such file or directory. Put the file there on the controller, or correct its path."],
    ),
    "certificates that every run would issue": (
        lambda variables: variables.update(modelfleet_pki_days=20),
        ["Refused renew_days 30: it must be from 0 to less than days (20), or every run would issue every certificate."],
    ),
    "a passphrase with a line end": (
        lambda variables: variables.update(modelfleet_pki_passphrase=SECRET + "\n"),
        ["The variable modelfleet_pki_passphrase ends with a line end; write it without"],
    ),
    "half of a certificate in the configuration of a daemon": (
        lambda variables: variables.update(dfdaemon_config={"upload": {"client": {"cert": "/etc/a.pem"}}}),
        ["upload.client.cert"],
    ),
    "a firewall for what is no address and nobody": (
        lambda variables: variables.update(
            modelfleet_firewall_addresses=["10.0.0.0/24"],
            modelfleet_firewall_monitoring=["prometheus.example.com", "10.0.0.5/24", "10.0.0.0/24"],
            modelfleet_firewall_users=["Torch Serve", "torchserve"],
        ),
        [
            "The entry '10.0.0.0/24' in modelfleet_firewall_addresses is not an IP address; write that in place of a name",
            "The entry 'prometheus.example.com' in modelfleet_firewall_monitoring is not an IP address or a prefix",
            "The entry '10.0.0.5/24' in modelfleet_firewall_monitoring is not an IP address or a prefix with nothing beyond it",
            "The entry 'Torch Serve' in modelfleet_firewall_users is not the name or the number of a user; correct it.",
        ],
    ),
    "ports that are none": (
        lambda variables: variables.update(
            dragonfly_scheduler_port=70000, torchserve_metrics_port=0, dfdaemon_config={"storage": {"server": {"quicPort": 65536}}}
        ),
        [
            "The dragonfly_scheduler_port is not a port ('70000'); write a number from 1 to 65535. (On scheduler-1.)",
            "The torchserve_metrics_port is not a port ('0'); write a number from 1 to 65535.",
            "The key storage.server.quicPort in dfdaemon_config must be a port number from 1 to 65535",
        ],
    ),
    "a TorchServe that is not known": (
        lambda variables: variables.update(torchserve_version="0.13.0"),
        ["value of torchserve_version must be one of: 0.11.1, 0.12.0, got: 0.13.0."],
    ),
    "a check file that is not there": (
        lambda variables: model(variables, check={"input_file": "cat.json", "expected_file": "cat.expected.json"}),
        [
            "The input_file of the model resnet50 1.0 is not at ",
            "/files/cat.json on the controller; put it there or correct modelfleet_files_dir.",
        ],
    ),
}

INVENTORIES = {
    "no GPU host": ({"gpu_hosts": {}}, ["The group gpu_hosts has no host; add at least one to the inventory."]),
    "no scheduler": ({"dragonfly_schedulers": {}}, ["The group dragonfly_schedulers has no host; add at least one to the inventory."]),
    "a host without an address": (
        {"gpu_hosts": {"gpu-1": None}},
        ["The host gpu-1 has no modelfleet_address; set it in the inventory to the IP address that the fleet reaches."],
    ),
    "two hosts with one address": (
        {"gpu_hosts": {"gpu-1": "10.0.0.3", "gpu-2": "10.0.0.3"}},
        ["The hosts gpu-1, gpu-2 have one modelfleet_address (10.0.0.3); give each host its own."],
    ),
    "an address at which a certificate cannot be verified": (
        {"gpu_hosts": {"gpu-1": "fd00::3"}},
        ["The modelfleet_address fd00::3 is of IPv6, at which dfdaemon cannot verify a certificate; set an IPv4 address"],
    ),
    "a name for an address": (
        {"gpu_hosts": {"gpu-1": "gpu-1.example.com"}},
        ["The modelfleet_address of the host gpu-1 is not an IP address ('gpu-1.example.com')"],
    ),
}


@pytest.fixture
def preflight(run, tmp_path):
    """Run the first play of a site against an inventory without real hosts: a module that runs at all fails in another way."""

    def run_preflight(variables, groups=None, python="/nonexistent/python", playbook="preflight", verbosity="-vvv", **environment):
        inventory = {
            "all": {
                "vars": {"ansible_connection": "local", "ansible_python_interpreter": python, "ansible_become": False},
                "children": {
                    group: {"hosts": {host: {"modelfleet_address": address} if address else {} for host, address in hosts.items()}}
                    for group, hosts in {**HOSTS, **(groups or {})}.items()
                },
            }
        }
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        (tmp_path / "vars.yml").write_text(yaml.safe_dump(variables), encoding="utf-8")
        inputs = ["-i", tmp_path / "hosts.yml", "-e", f"@{tmp_path / 'vars.yml'}"]
        finished = run("ansible-playbook", verbosity, "--diff", *inputs, f"playbooks/{playbook}.yml", **environment)
        if verbosity == "-v":
            return finished.returncode, finished.stdout
        # The output is wrapped for the eye.
        return finished.returncode, " ".join(finished.stdout.split())

    return run_preflight


@pytest.mark.parametrize("case", a_few(VARIABLES))
def test_wrong_variables(preflight, case):
    spoil, sentences = VARIABLES[case]
    variables = copy.deepcopy(GOOD)
    spoil(variables)
    code, output = preflight(variables)
    assert code != 0
    for sentence in sentences:
        assert sentence in output
    assert SECRET not in output
    assert "/nonexistent/python" not in output, "a module was run"


def test_a_wrong_gateway(preflight):
    """Everything at once, and only of the hosts that have one."""
    variables = {
        **GOOD,
        "gateway_clients": [{"name": "anna", "token": SECRET}],
        "dfdaemon_config": {"upload": {"server": {"port": 8443}}},
        "torchserve_metrics_port": 8443,
    }
    code, output = preflight(variables, {"modelfleet_gateways": {"gpu-1": "10.0.0.3", "seed-1": "10.0.0.2"}})
    assert code != 0
    for sentence in (
        "The gateway_certificate is empty, and the gateway speaks TLS only; set it to a PEM file on the controller. (On gpu-1.)",
        "The token of the client gateway_clients[0] (anna) has 19 characters, and must have 32 to 256; make one with: openssl rand",
        "The gateway_port is 8443, which dfdaemon has on this host (upload); use another one, or move that of dfdaemon in dfdaemon_config.",
        "The gateway_port is 8443, which TorchServe has on this host (metrics); use another one, or move that of TorchServe in torchserve_",
        "The host is in modelfleet_gateways and not in gpu_hosts, so that there is nothing to ask on it; take it out of the group.",
    ):
        assert sentence in output, sentence
    assert SECRET not in output
    assert "/nonexistent/python" not in output, "a module was run"


@pytest.mark.parametrize("playbook", a_few(["site", "preflight", "distribute", "prune", "rollout", "rollback", "smoke", "publish"]))
def test_a_mistake_is_the_sentence_and_not_a_screen(preflight, playbook):
    """Every play checks the variables first: Ansible's own check prints the whole specification, some 400 lines."""
    variables = copy.deepcopy(GOOD)
    no_sha256(variables)
    code, output = preflight(variables, playbook=playbook, verbosity="-v")
    assert code != 0
    assert (
        "The variable modelfleet_models[0] (resnet50) is not what its role takes: missing parameter(s) required by 'object': sha256 found"
        in output
    )
    assert len(output.splitlines()) < 40


@pytest.mark.parametrize("case", a_few(INVENTORIES))
def test_wrong_hosts(preflight, case):
    groups, sentences = INVENTORIES[case]
    code, output = preflight(GOOD, groups)
    assert code != 0
    for sentence in sentences:
        assert sentence in output


def test_all_mistakes_are_named_at_once(preflight):
    variables = copy.deepcopy(GOOD)
    model(variables, sha256="9f2c", object="/models/resnet50.mar")
    another_model(variables)
    _code, output = preflight(variables, {"gpu_hosts": {"gpu-1": "10.0.0.1"}})
    for sentence in (
        "The sha256 of the model",
        "The object of the model",
        "is listed more than once",
        "The hosts scheduler-1, gpu-1 have one",
    ):
        assert sentence in output


@pytest.mark.parametrize("store", a_few(["s3", *STORES]))
def test_good_variables_reach_the_hosts(preflight, store):
    """So that the other tests fail for their own reason: with a good inventory the first module is tried, which has no Python here."""
    variables = GOOD if store == "s3" else {**GOOD, "modelfleet_storage": {store: STORES[store]}}
    code, output = preflight(variables)
    assert code != 0
    assert "/nonexistent/python" in output
    assert SECRET not in output


def test_settings_that_are_right_reach_the_hosts(preflight):
    """Also one that names a variable of its role, which is not known yet."""
    settings = {
        "torchserve_config": {"inference_address": "http://127.0.0.1:{{ torchserve_inference_port }}", "job_queue_size": 10},
        "dfdaemon_config": {
            "seedPeer": {"type": "{{ 'super' if dfdaemon_seed_peer else 'normal' }}"},
            "download": {"bandwidthLimit": "{{ speed }}"},
        },
        "speed": "1GiB",
    }
    code, output = preflight({**GOOD, **settings})
    assert code != 0
    assert "/nonexistent/python" in output


def test_everything_that_the_sample_leaves_open_is_named_at_once(run):
    variables = '{"ansible_python_interpreter": "/nonexistent/python", "vault_read_access_key": "a", "vault_read_secret_key": "s"}'
    finished = run("ansible-playbook", "-i", "inventory/sample", "-c", "local", "playbooks/preflight.yml", "-e", variables)
    output = " ".join(finished.stdout.split())
    for name in (
        "The dragonfly_scheduler_release_sha256 is missing",
        "The dfdaemon_release_sha256 is missing",
        "model resnet50 1.0 has no sha256",
    ):
        assert name in output
    assert "/nonexistent/python" not in output


def test_a_vault_that_is_not_there_yet_is_named(run):
    finished = run("ansible-playbook", "-i", "inventory/sample", "-c", "local", "playbooks/site.yml")
    output = " ".join(finished.stdout.split())
    assert finished.returncode != 0
    assert (
        "The variable modelfleet_storage cannot be read: 'vault_read_access_key' is undefined; define it, a secret in vault.yml." in output
    )
    assert len(finished.stdout.splitlines()) < 40


@pytest.mark.parametrize("zone", a_few(["Asia/Kolkata", "UTC", "America/New_York"]))
def test_the_clock_is_right_in_every_zone(preflight, zone):
    """Also where no difference is allowed: how long the answer takes is none."""
    _code, output = preflight({**GOOD, "preflight_clock_tolerance": 0}, python="{{ ansible_playbook_python }}", TZ=zone)
    assert output.count("This host is not ready: ") >= 4
    assert "The clock is" not in output


@pytest.mark.parametrize(("shift", "said"), [(-3600, r"The clock is 3[56]\d\d s behind"), (3600, r"The clock is 3[56]\d\d s ahead of")])
def test_a_wrong_clock_is_named_with_everything_else(preflight, tmp_path, shift, said):
    (tmp_path / "sitecustomize.py").write_text(f"import time\nright = time.time\ntime.time = lambda: right() + {shift}\n")
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={tmp_path} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    _code, output = preflight(GOOD, python=str(python))
    assert re.search(f"This host is not ready: .*{said} the controller's", output), output
    assert "is on no interface of this host" in output
