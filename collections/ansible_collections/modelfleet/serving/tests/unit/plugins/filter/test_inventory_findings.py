# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.inventory_findings import FilterModule

inventory_findings = FilterModule().filters()["inventory_findings"]
GOOD = {"name": "resnet50", "version": "1.0", "object": "models/resnet50.mar", "sha256": "9f" * 32}


def test_a_good_inventory_has_none(tmp_path):
    (tmp_path / "cat.json").write_text("{}", encoding="utf-8")
    check = {"input_file": "cat.json", "expected_file": "cat.json"}
    models = [{**GOOD, "default": True, "check": check, "size": "98MiB"}, {**GOOD, "version": "0.9", "state": "absent"}]
    addresses = {"gpu-1": "10.0.0.1", "gpu-2": "fd00::2"}
    assert inventory_findings(models, files_dir=str(tmp_path), groups={"gpu_hosts": ["gpu-1", "gpu-2"]}, addresses=addresses) == []
    assert inventory_findings([]) == []


@pytest.mark.parametrize("key", ["name", "version", "sha256"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_key(key, value):
    (finding,) = inventory_findings([{**GOOD, key: value}])
    assert f"has no {key}; add it" in finding


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"version": 1.1}, "The version of the model resnet50 1.1 is not text; write it in quotes"),
        ({"sha256": 123}, "The sha256 of the model resnet50 1.0 is not text"),
        ({"name": "res net"}, "must be of letters, digits"),
        ({"name": "../x"}, "must be of letters, digits"),
        ({"version": "1/0"}, "The version of the model resnet50 1/0 must be"),
        ({"name": "x" * 101}, "must be of letters, digits"),
        ({"sha256": "9F" * 32}, "64 hexadecimal digits in lower case"),
        ({"sha256": "9f" * 31}, "64 hexadecimal digits in lower case"),
        ({"sha256": "9f" * 32 + "\n"}, "64 hexadecimal digits in lower case"),
        ({"object": "/models/x.mar"}, "cannot be used"),
        ({"object": "models//x.mar"}, "cannot be used"),
        ({"object": "models/../x.mar"}, "cannot be used"),
        ({"object": "models/"}, "cannot be used"),
        ({"object": "models/x\n.mar"}, "control character"),
        ({"object": "m" * 1025}, "more than 1024 bytes"),
        ({"object": "ü" * 513}, "more than 1024 bytes"),
        ({"size": "big"}, "is not a size ('big')"),
        ({"state": "absent", "default": True}, "absent and the default at once"),
    ],
)
def test_wrong_value(options, words):
    (finding,) = inventory_findings([{**GOOD, **options}])
    assert words in finding


CACHED = {**GOOD, "compile_cache": "caches/resnet50", "response_timeout": 600, "check": {"input_file": "x", "expected_file": "x"}}


def test_a_model_with_a_compile_cache():
    assert inventory_findings([CACHED]) == []
    assert inventory_findings([{**CACHED, "response_timeout": None, "state": "absent"}]) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"check": None}, "The model resnet50 1.0 has compile_cache and no check, whose input has the model compile; add it"),
        ({"response_timeout": None}, "has compile_cache and no response_timeout, within which it must come to its end, 600 say; add it"),
        ({"compile_cache": "../caches"}, "has a compile_cache that cannot be used ('../caches')"),
        ({"compile_cache": "caches/x.mar"}, "has a compile_cache that cannot be used"),
        ({"name": "x" * 95}, "its name or version is too long for that"),
        ({"version": "1" * 90}, "its name or version is too long for that"),
    ],
)
def test_a_compile_cache_that_cannot_be(options, words):
    (finding,) = inventory_findings([{**CACHED, **options}])
    assert words in finding


@pytest.mark.parametrize("key", ["models/a b/ü+%/x.mar", "x.mar", ".hidden/x.mar"])
def test_odd_keys_are_accepted(key):
    assert inventory_findings([{**GOOD, "object": key}]) == []


BUNDLE = {"name": "llama", "version": "3.1", "bundle": "bundles/llama", "sha256": "9f" * 32}


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (BUNDLE, None),
        ({**BUNDLE, "bundle": "b/ü+% x"}, None),
        ({**BUNDLE, "object": "llama.mar"}, "has an object and a bundle; keep the one that it is"),
        ({**BUNDLE, "bundle": ""}, "has no object and no bundle; add the one that it is"),
        ({**GOOD, "object": None}, "has no object and no bundle; add the one that it is"),
        ({**BUNDLE, "bundle": 3}, "The bundle of the model llama 3.1 is not text"),
        ({**BUNDLE, "bundle": "/bundles"}, "The bundle of the model llama 3.1 cannot be used ('/bundles'); leave out outer and double"),
        ({**BUNDLE, "bundle": "bundles/llama/"}, "cannot be used"),
        ({**BUNDLE, "bundle": "b" * 950}, "more than 1024 bytes"),
        ({**BUNDLE, "bundle": "models/llama.mar"}, "('models/llama.mar'); a .mar is one object; give its key as object"),
        ({**GOOD, "object": f"b/x/manifests/{'9f' * 32}.json"}, "it is the manifest of a bundle, so give bundle: b/x instead."),
        ({**BUNDLE, "sha256": "9F" * 32}, "64 hexadecimal digits in lower case; write what publish printed."),
    ],
)
def test_a_model_is_one_object_or_one_bundle(model, words):
    findings = inventory_findings([model])
    assert [words in finding for finding in findings] == ([] if words is None else [True]), findings


COMMIT = "0f" * 20
HUB = {"name": "bert", "version": "1", "huggingface": {"repo": "org/bert", "revision": COMMIT, "include": ["*.json"]}}
PINS = {f"org/bert@{COMMIT}": {"revision": "main", "files": {"config.json": {"size": 2, "git_sha1": "ab" * 20}}}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, None),
        ({"repo": "bert"}, "the lock has no files of bert at 0f0f"),
        (
            {"revision": "main"},
            "the revision 'main' of org/bert is no commit of 40 hexadecimal digits, so that it may be another model tomorrow; run",
        ),
        ({"revision": 4}, "give repo and revision, both as text"),
        ({"repo": "../bert"}, "the repo '../bert' is none; write it as organisation/name"),
        ({"include": ["*.gguf"]}, "the include '*.gguf' matches no file of org/bert"),
        ({"include": "*.json"}, "include is no list of patterns"),
        ({"exclude": ["*"]}, "the include and exclude leave no file of org/bert"),
        ({"group": "a/b"}, "the group 'a/b' can be none of this system"),
        ({"ref": "../x"}, "the ref '../x' is no name of a branch"),
    ],
)
def test_a_model_of_a_hub(change, words):
    model = {**HUB, "huggingface": {**HUB["huggingface"], **change}}
    findings = inventory_findings([model], settings={"modelfleet_huggingface_pins": PINS})
    assert [f"The huggingface of the model bert 1 cannot be used; {words}" in finding for finding in findings] == (
        [True] if words else []
    ), findings


def test_files_that_are_pinned_stay_below_their_directory():
    pins = {f"org/bert@{COMMIT}": {"files": {"../../etc/passwd": {"size": 2, "git_sha1": "ab" * 20}}}}
    (finding,) = inventory_findings([HUB], settings={"modelfleet_huggingface_pins": pins})
    assert "has the component '.' or '..'" in finding


def test_models_of_a_hub_among_others():
    settings = {"modelfleet_huggingface_pins": PINS}
    assert inventory_findings([HUB, GOOD], settings=settings) == []
    # One that leaves needs no lock.
    assert inventory_findings([{**HUB, "state": "absent"}]) == []
    (both,) = inventory_findings([{**HUB, "object": "x.mar"}], settings=settings)
    assert "has an object and huggingface; keep the one that it is" in both
    (checked,) = inventory_findings([{**HUB, "default": True}], settings=settings)
    assert "has huggingface and default, but no runtime that serves it; name one, or leave default out" in checked
    again = {**HUB, "version": "2"}
    commit, ref = inventory_findings([HUB, again], settings=settings)
    assert "have one commit of org/bert for the group modelfleet-hf; keep one entry" in commit
    assert "have one ref of org/bert" in ref
    other = {**again, "huggingface": {**HUB["huggingface"], "group": "research"}}
    assert inventory_findings([HUB, other], settings=settings) == []


def test_token_of_a_hub_that_nobody_gets():
    source = {"endpoint": ["https://mirror.example.com"], "token": "hf_s3cret"}
    (finding,) = inventory_findings([HUB], settings={"modelfleet_huggingface_pins": PINS, "modelfleet_huggingface": source})
    assert "The modelfleet_huggingface cannot be used: none of the endpoints may have the token" in finding
    assert "s3cret" not in finding


LETTERS = {**BUNDLE, "name": "letters", "runtime": "openai", "port": 8101}
COMMAND = ["/opt/vllm/bin/vllm", "serve", "{directory}", "--port", "{port}"]
SERVERS = {"openai_server_command": COMMAND, "torchserve_config": {}}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, None),
        ({"options": ["--tensor-parallel-size", "2", "{x}"], "environment": {"OMP_NUM_THREADS": 2}, "device": "gpu"}, None),
        (
            {"command": ["/usr/bin/llama-server", "-m", "{directory}/m.gguf", "--api-key-file", "/etc/key"], "options": ["--port={port}"]},
            None,
        ),
        (
            {"runtime": "tritno"},
            "The runtime of the model letters 3.1 is not one that is known ('tritno'); write torchserve or openai or triton or bentoml.",
        ),
        (
            {"bundle": None, "object": "l.mar"},
            "is an object, and the runtime openai loads a bundle or huggingface only; publish it as that and give its key.",
        ),
        ({"workers": 2}, "The model letters 3.1 has workers, which the runtime openai does not know; leave it out."),
        ({"batch_size": 4}, "has batch_size, which the runtime openai does not know"),
        ({"runtime": "torchserve"}, "The model letters 3.1 has port, which the runtime torchserve does not know; leave it out."),
        ({"port": None}, "has no port; add the one at which it is to answer"),
        ({"port": "80"}, "has a port that is none ('80'); write a number from 1024 to 65535."),
        ({"port": 8081}, "The port 8081 of the model letters 3.1 is that of torchserve; give each its own."),
        (
            {"command": ["vllm", "{directory}", "{port}"]},
            "has a command that does not begin with the path of a program ('vllm'); write all of it",
        ),
        ({"command": ["/home/me/vllm", "{directory}", "{port}"]}, "has a command in /home/, which a unit does not see; put the program"),
        ({"command": ["/vllm", "{port}"]}, "has a command without {directory}, so that the server would not know what to serve"),
        ({"command": ["/vllm", "{directory}"]}, "has a command without {port}, so that the server would listen elsewhere"),
        ({"command": "/vllm {directory}"}, "has a command or options that are no list; make each word an element."),
        ({"options": ["a\nb"]}, "has a word 6 in its command and options that has the character U+000A"),
        ({"options": ["--api-key=PLANTED"]}, "has --api-key in its command or options, which is a secret by its name"),
        ({"options": ["--max-model-len", "8", "--tokenizer", "x"]}, None),
        ({"environment": ["A=1"]}, "has an environment that is no dictionary"),
        ({"environment": {"HF_TOKEN": "PLANTED"}}, "has the variable HF_TOKEN in its environment, which is a secret by its name"),
        ({"environment": {"HOME": "/root"}}, "has the variable HOME in its environment, which must be the directory of the model's own"),
    ],
)
def test_what_is_for_a_runtime(changed, words):
    findings = inventory_findings([{**LETTERS, **changed}], settings=SERVERS)
    assert [words in finding for finding in findings] == ([] if words is None else [True]), findings
    assert "PLANTED" not in str(findings)
    # What is to go is not looked at.
    assert inventory_findings([{**LETTERS, **changed, "state": "absent"}], settings=SERVERS) == [] or changed.get("bundle", 1) is None


def test_a_commit_of_a_hub_with_a_server():
    served = {key: value for key, value in LETTERS.items() if key not in ("bundle", "sha256")}
    served["huggingface"] = {"repo": "org/bert", "revision": COMMIT, "include": ["*.json"]}
    settings = {**SERVERS, "modelfleet_huggingface_pins": PINS}
    assert inventory_findings([{**served, "default": True}], settings=settings) == []
    (wrong,) = inventory_findings([{**served, "runtime": "torchserve", "port": None}], settings=settings)
    assert "is huggingface, and the runtime torchserve loads an object or a bundle only" in wrong


def test_no_command_at_all():
    (finding,) = inventory_findings([LETTERS], settings={"openai_server_command": []})
    assert "has no command; write the one that starts its server into openai_server_command, or into the entry." in finding


def test_servers_beside_each_other():
    assert inventory_findings([LETTERS, {**LETTERS, "name": "numbers", "port": 8102}, GOOD], settings=SERVERS) == []
    (port,) = inventory_findings([LETTERS, {**LETTERS, "name": "numbers"}], settings=SERVERS)
    assert port == "The port 8101 of the model numbers 3.1 is that of the model letters; give each its own."
    (versions,) = inventory_findings([LETTERS, {**LETTERS, "version": "3.2"}], settings=SERVERS)
    assert "The model letters has several versions (3.1, 3.2) in modelfleet_models, and its runtime openai serves one at a time" in versions
    (runtimes,) = inventory_findings([LETTERS, {**BUNDLE, "name": "letters", "version": "3.2"}], settings=SERVERS)
    assert "The model letters has versions of the runtimes openai and torchserve in modelfleet_models; a name has one runtime" in runtimes
    # The next version takes the port of the one that goes.
    assert inventory_findings([{**LETTERS, "state": "absent"}, {**LETTERS, "version": "3.2"}], settings=SERVERS) == []


DOUBLE = {**BUNDLE, "name": "double", "runtime": "triton"}
TRITON = {"triton_home": "/opt/tritonserver", "triton_image": "", "triton_http_port": 8200, "torchserve_config": {}}


@pytest.mark.parametrize(
    ("changed", "settings", "words"),
    [
        ({}, {}, None),
        ({"bundle": None, "object": "d.mar"}, {}, "is an object, and the runtime triton loads a bundle only; publish it as that"),
        ({"bundle": "models/d.mar"}, {}, "a .mar is one object"),
        ({"port": 8101}, {}, "has port, which the runtime triton does not know; leave it out."),
        ({}, {"triton_image": "nvcr.io/nvidia/tritonserver:25.07-py3"}, "The triton_image is not the name of an image with its digest"),
        ({}, {"triton_http_port": 8080}, "The triton_http_port is that of torchserve (8080); give each its own."),
        (
            {},
            {"triton_environment": {"HOME": "/x"}},
            "The variable HOME in triton_environment must be the directory that the unit lets Triton",
        ),
    ],
)
def test_what_is_for_triton(changed, settings, words):
    findings = inventory_findings([{**DOUBLE, **changed}], settings={**TRITON, **settings})
    assert [words in finding for finding in findings] == ([] if words is None else [True]), findings


def test_triton_is_nobodys_matter_without_a_model():
    wrong = {**TRITON, "triton_home": "/home/me", "triton_http_port": 8080}
    assert inventory_findings([GOOD], settings=wrong) == []
    assert len(inventory_findings([DOUBLE], settings=wrong)) == 2
    (versions,) = inventory_findings([DOUBLE, {**DOUBLE, "version": "3.2"}], settings=TRITON)
    assert "and its runtime triton serves one at a time" in versions
    (port,) = inventory_findings([DOUBLE, LETTERS], settings={**TRITON, **SERVERS, "triton_http_port": 8101})
    assert port == "The port 8101 of the model letters 3.1 is that of Triton; give each its own."


MOVED = {**BUNDLE, "name": "moved", "runtime": "bentoml", "port": 8301, "route": "answer"}
BENTOML = {"bentoml_program": "/opt/bentoml/bin/bentoml", "bentoml_environment": {}, "torchserve_config": {}}


@pytest.mark.parametrize(
    ("changed", "settings", "words"),
    [
        ({}, {}, None),
        ({"route": None, "environment": {"OMP_NUM_THREADS": 2}, "device": "gpu", "default": True}, {}, None),
        ({"bundle": None, "object": "m.mar"}, {}, "is an object, and the runtime bentoml loads a bundle only; publish it as that and give"),
        ({"port": None}, {}, "has no port; add the one at which it is to answer"),
        ({"port": "80"}, {}, "has a port that is none ('80'); write a number from 1024 to 65535."),
        ({"port": 8081}, {}, "The port 8081 of the model moved 3.1 is that of torchserve; give each its own."),
        ({"route": "/answer"}, {}, "has a route that is none ('/answer'); write the path that its check asks without the first slash"),
        ({"command": ["/x"]}, {}, "has command, which the runtime bentoml does not know; leave it out."),
        ({"runtime": "torchserve", "port": None}, {}, "has route, which the runtime torchserve does not know; leave it out."),
        ({"environment": ["A=1"]}, {}, "has an environment that is no dictionary"),
        ({"environment": {"HF_TOKEN": "PLANTED"}}, {}, "has the variable HF_TOKEN in its environment, which is a secret by its name"),
        ({"environment": {"BENTOML_HOME": "/x"}}, {}, "the variable BENTOML_HOME in its environment, which must be the directory of the"),
        ({}, {"bentoml_environment": {"BENTOML_PORT": 1}}, "The variable BENTOML_PORT in bentoml_environment would have a server listen"),
        ({}, {"bentoml_program": "bentoml"}, "The bentoml_program is not the path of a program ('bentoml'); write it as in /opt/"),
        ({}, {"bentoml_program": "/home/me/bin/bentoml"}, "The bentoml_program is in /home/, which a unit does not see; put BentoML below"),
    ],
)
def test_what_is_for_bentoml(changed, settings, words):
    findings = inventory_findings([{**MOVED, **changed}], settings={**BENTOML, **settings})
    assert [words in finding for finding in findings] == ([] if words is None else [True]), findings
    assert "PLANTED" not in str(findings)


def test_models_of_bentoml_beside_each_other():
    assert inventory_findings([MOVED, {**MOVED, "version": "3.2", "default": True}], settings=BENTOML) == []
    (ports,) = inventory_findings([MOVED, {**MOVED, "version": "3.2", "port": 8302}], settings=BENTOML)
    assert "The model moved has versions with several ports (3.1 at 8301, 3.2 at 8302) in modelfleet_models" in ports
    (port,) = inventory_findings([MOVED, {**MOVED, "name": "other"}], settings=BENTOML)
    assert port == "The port 8301 of the model other 3.1 is that of the model moved; give each its own."
    assert inventory_findings([GOOD], settings={**BENTOML, "bentoml_program": "bentoml"}) == []


def test_lists():
    twice = inventory_findings([GOOD, GOOD, GOOD])
    assert twice == ["The model resnet50 1.0 is listed more than once in modelfleet_models; keep one entry."]
    (defaults,) = inventory_findings([{**GOOD, "default": True}, {**GOOD, "version": "2.0", "default": True}])
    assert "more than one default version (1.0, 2.0)" in defaults


def test_check_files_are_looked_for_where_the_model_is_present(tmp_path):
    model = {**GOOD, "check": {"input_file": "cat.json", "expected_file": "cat.expected.json"}}
    findings = inventory_findings([model], files_dir=str(tmp_path))
    assert [f"{tmp_path}/cat.json" in findings[0], f"{tmp_path}/cat.expected.json" in findings[1]] == [True, True]
    assert inventory_findings([model]) == []
    assert inventory_findings([{**model, "state": "absent"}], files_dir=str(tmp_path)) == []


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "has no modelfleet_address"),
        ("gpu-1.example.com", "is not an IP address"),
        ("10.0.0.1/24", "is not an IP address"),
        ("127.0.0.1", "is local to it"),
        ("0.0.0.0", "is local to it"),
    ],
)
def test_addresses(address, words):
    (finding,) = inventory_findings([], addresses={"gpu-1": address})
    assert "host gpu-1" in finding
    assert words in finding


def test_a_store_that_no_argument_spec_refuses():
    good = {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "AK", "access_key_secret": "PLANTED"}
    assert inventory_findings([], storage={"oss": good}) == []
    (finding,) = inventory_findings([], storage={"oss": {**good, "region": "oss-cn-hangzhou"}})
    assert "storage.oss.region 'oss-cn-hangzhou'" in finding and "PLANTED" not in finding


S3_OF_INSTANCE = {"s3": {"bucket": "models", "identity": {"source": "instance"}}}
KEPT_IN = {"modelfleet_plugin_downloads": True, "modelfleet_firewall": True}
WEB = {"source": "web_identity", "token_path": "/run/token"}


@pytest.mark.parametrize(
    ("storage", "destinations", "words"),
    [
        (
            S3_OF_INSTANCE,
            [],
            "ask http://169.254.169.254 for credentials, which the firewall keeps it from; set modelfleet_plugin_",
        ),
        (S3_OF_INSTANCE, ["10.0.0.0/8", "fd00::/8"], "with which model code can have the credentials of the instance as well."),
        ({"oss": {"bucket": "models", "region": "cn-hangzhou", "identity": {"source": "instance"}}}, [], "ask http://100.100.100.200 for"),
        ({"obs": {"bucket": "models", "region": "cn-north-4", "identity": {"source": "instance"}}}, [], "ask http://169.254.169.254 for"),
        (
            {"gcs": {"bucket": "models", "identity": {"source": "instance"}}},
            ["169.254.169.254"],
            "ask iamcredentials.googleapis.com, which",
        ),
        (
            {"abs": {"account_name": "example", "container": "models", "identity": {"source": "instance"}}},
            ["169.254.0.0/16"],
            "ask example.blob.core.windows.net, which",
        ),
        (
            {"s3": {"bucket": "models", "identity": {**WEB, "role_arn": "a"}}},
            [],
            "ask sts.us-east-1.amazonaws.com, which",
        ),
        (
            {"gcs": {"bucket": "models", "identity": {**WEB, "audience": "//a", "service_account": "a@b.c"}}},
            [],
            "ask sts.googleapis.com and iamcredentials.googleapis.com, which",
        ),
    ],
)
def test_a_plugin_that_cannot_ask_for_credentials(storage, destinations, words):
    settings = {**KEPT_IN, "modelfleet_firewall_destinations": destinations}
    (finding,) = inventory_findings([], storage=storage, settings=settings)
    assert words in finding
    assert inventory_findings([], storage=storage, settings={**settings, "modelfleet_plugin_downloads": False}) == []
    # Without the firewall it is the unit that keeps it in, but where others call TorchServe itself.
    settings["modelfleet_firewall"] = False
    (finding,) = inventory_findings([], storage=storage, settings=settings)
    assert words.replace("the firewall", "the unit of TorchServe") in finding
    settings.update(torchserve_version="0.12.0", torchserve_config_allow=["lan_bind"])
    settings["torchserve_config"] = {"inference_address": "http://0.0.0.0:8080"}
    assert inventory_findings([], storage=storage, settings=settings) == []


@pytest.mark.parametrize(
    ("storage", "destinations"),
    [
        (S3_OF_INSTANCE, ["169.254.169.254"]),
        (S3_OF_INSTANCE, ["169.254.169.0/24"]),
        ({"s3": {"bucket": "models", "identity": {"source": "instance", "endpoint": "http://127.0.0.1:8080"}}}, []),
        ({"s3": {"bucket": "models", "identity": {"source": "instance", "endpoint": "http://[fd00:ec2::254]"}}}, ["fd00:ec2::254"]),
        ({"gcs": {"bucket": "models", "identity": {"source": "instance"}}}, ["169.254.169.254", "199.36.153.8/30"]),
    ],
)
def test_a_plugin_that_can(storage, destinations):
    settings = {**KEPT_IN, "modelfleet_firewall_destinations": destinations}
    assert inventory_findings([], storage=storage, settings=settings) == []


def test_a_bad_identity_is_one_finding():
    storage = {"s3": {"bucket": "models", "identity": {"source": "instance", "role_arn": "a"}}}
    (finding,) = inventory_findings([], storage=storage, settings={**KEPT_IN, "modelfleet_firewall_destinations": ["x"]})[:1]
    assert "storage.s3.identity.role_arn 'a': it is for source: web_identity" in finding


def test_fleet():
    findings = inventory_findings([], groups={"gpu_hosts": []}, addresses={"a": "10.0.0.1", "b": "10.0.0.1"})
    assert findings == [
        "The group gpu_hosts has no host; add at least one to the inventory.",
        "The hosts a, b have one modelfleet_address (10.0.0.1); give each host its own.",
    ]


@pytest.mark.parametrize("variable", ["dragonfly_scheduler_release_sha256", "dfdaemon_release_sha256"])
@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "run modelfleet.serving.pin_releases, or write what sha256sum prints"),
        (None, "is missing"),
        ("9f2c", "('9f2c')"),
        (12, "('12')"),
    ],
)
def test_release_archives(variable, value, words):
    (finding,) = inventory_findings([], settings={variable: value})
    assert finding.startswith(f"The {variable} ") and words in finding
    assert inventory_findings([], settings={variable: "9F" * 32}) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dfdaemon_config": {"proxi": {}}}, "The key proxi in dfdaemon_config is not a key of dfdaemon; did you mean proxy?"),
        ({"dfdaemon_config": {"seedPeer": "yes"}}, "The key seedPeer in dfdaemon_config must be a dictionary"),
        ({"dfdaemon_config": {"seedPeer": {"type": "super"}}, "dfdaemon_seed_peer": False}, "is super while seedPeer.enable is not true"),
        ({"dfdaemon_config": ["a"]}, "The dfdaemon_config must be a dictionary"),
        (
            {"modelfleet_mtls": True, "modelfleet_pki_key_path": "/a"},
            "The modelfleet_pki_key_path is set without modelfleet_pki_ca_path and modelfleet_pki_certificate_path, so that",
        ),
        (
            {"modelfleet_mtls": True, "modelfleet_address": "fd00::1"},
            "is of IPv6, at which dfdaemon cannot verify a certificate; set an IPv4",
        ),
        (
            {"dfdaemon_config": {"seedPeer": {"enable": True}}},
            "The key seedPeer.enable in dfdaemon_config is what the group dragonfly_seed_peers",
        ),
        ({"dfdaemon_config": {"gc": {"policy": {"diskThreshold": "1GiB"}}}}, "is what dfdaemon_disk_budget sets"),
        ({"dfdaemon_config": {"proxy": {"disableBackToSource": False}}}, "is what dfdaemon_back_to_source sets"),
        (
            {"dragonfly_scheduler_config": {"server": {"logDir": "/srv"}}},
            "The key server.logDir in dragonfly_scheduler_config names another place",
        ),
        ({"dragonfly_scheduler_config": {"job": {"redis": {}}}}, "it moved to database.redis"),
        (
            {"dragonfly_scheduler_config": {"server": {"logLevel": "info"}}},
            "The key server.logLevel in dragonfly_scheduler_config is info, which would log presigned URLs",
        ),
        ({"dragonfly_scheduler_dynconfig": {"x": 1}}, "The key x in dragonfly_scheduler_dynconfig is not a key"),
        ({"torchserve_version": "0.12.0", "torchserve_config": {"job_queue_sice": 1}}, "did you mean job_queue_size?"),
        ({"torchserve_version": "0.12.0", "torchserve_config": {"load_models": "all"}}, "The key load_models in torchserve_config lets"),
        ({"torchserve_version": "0.11.1", "torchserve_config": {"default_startup_timeout": 1}}, "it exists in 0.12.0"),
        ({"torchserve_version": "0.12.0", "torchserve_config": "x"}, "The torchserve_config is not a dictionary"),
        ({"torchserve_version": "0.12.0", "torchserve_config": {"inference_address": "http://0.0.0.0:8080"}}, "name lan_bind in allow"),
        ({"torchserve_version": "1.0", "torchserve_config": {"x": 1}}, "('1.0'); write 0.11.1 or 0.12.0"),
        ({"dfdaemon_environment": {"RUST_LOG": "info"}}, "The variable RUST_LOG in dfdaemon_environment would log presigned URLs"),
        (
            {"dfdaemon_environment": {"HTTPS_PROXY": "http://u:p@proxy:3128"}},
            "HTTPS_PROXY in dfdaemon_environment has a user or",
        ),
        ({"dfdaemon_environment": {"PROXY_PASSWORD": "x"}}, "The variable PROXY_PASSWORD in dfdaemon_environment is a secret by its name"),
        ({"dfdaemon_environment": "x"}, "The dfdaemon_environment is not a dictionary"),
        (
            {"modelfleet_address": "10.0.0.1", "dfdaemon_config": {"upload": {"server": {"ip": "127.0.0.1"}}}},
            "The key upload.server.ip in dfdaemon_config does not cover modelfleet_address (10.0.0.1), at which other peers call",
        ),
        ({"dragonfly_scheduler_config": {"server": {"tls": {"caCert": "/a", "cert": "/b", "key": "/c"}}}}, "server.tls in dragonfly_sch"),
        (
            {"torchserve_version": "0.12.0", "torchserve_config": {"management_address": "https://127.0.0.1:8443"}},
            "asks TorchServe by plain HTTP on its own host; write http://127.0.0.1 with a port",
        ),
    ],
)
def test_settings_that_a_module_would_refuse(settings, words):
    (finding,) = inventory_findings([], settings=settings)
    assert words in finding


def test_settings_that_are_right():
    settings = {
        "dfdaemon_config": {"seedPeer": {"type": "super"}, "download": {"bandwidthLimit": "1GiB"}},
        "dfdaemon_seed_peer": True,
        "dfdaemon_environment": {"HTTPS_PROXY": "http://proxy.example.com:3128", "NO_PROXY": "localhost"},
        "dragonfly_scheduler_config": {"scheduler": {"backToSourceCount": 5}},
        "torchserve_version": "0.12.0",
        "torchserve_config": {"inference_address": "http://0.0.0.0:8080", "job_queue_size": 10},
        "torchserve_config_allow": ["lan_bind"],
    }
    assert inventory_findings([], settings=settings) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"torchserve_environment": "A=b"}, "The torchserve_environment is not a dictionary;"),
        ({"torchserve_environment": {"MY-NAME": "x"}}, "The variable MY-NAME in torchserve_environment is not the name of a variable"),
        ({"torchserve_environment": {"KEY": "s3cret\nx"}}, "The variable KEY in torchserve_environment has the character U+000A"),
        (
            {"torchserve_environment": {"KEY": None}},
            "The variable KEY in torchserve_environment is not one text; write the text in quotes.",
        ),
        (
            {"torchserve_environment": {"TS_CONFIG_FILE": "/tmp/x"}},
            "TS_CONFIG_FILE in torchserve_environment makes TorchServe read another",
        ),
        ({"torchserve_environment": {"TMPDIR": "/tmp/x"}}, "TMPDIR in torchserve_environment must be the directory that the unit empties"),
        ({"torchserve_environment": {"CUDA_VISIBLE_DEVICES": "GPU-1e5a2ac9"}}, "CUDA_VISIBLE_DEVICES in torchserve_environment is not num"),
        ({"torchserve_environment": {"CUDA_VISIBLE_DEVICES": "0, 1"}}, "CUDA_VISIBLE_DEVICES in torchserve_environment is not numbers of"),
        (
            {"torchserve_device": "gpu", "torchserve_environment": {"CUDA_VISIBLE_DEVICES": ""}},
            "CUDA_VISIBLE_DEVICES in torchserve_environment hides from the workers the GPUs",
        ),
        ({"torchserve_environment": {"CUDA_VISIBLE_DEVICES": None}}, "CUDA_VISIBLE_DEVICES in torchserve_environment is not one text"),
        ({"torchserve_java_options": "-Xss1m"}, "The torchserve_java_options is not a list;"),
        ({"torchserve_java_options": ["-Xss1m", "Main"]}, "The option 2 in torchserve_java_options is not an option"),
        ({"torchserve_java_options": ["-Xss1m -Dx=1"]}, "The option 1 in torchserve_java_options is several options in one;"),
        ({"torchserve_java_options": ["-cp"]}, "The option 1 in torchserve_java_options takes away what the unit sets;"),
        ({"torchserve_java_options": ["-Dx=\x00"]}, "The option 1 in torchserve_java_options has the character U+0000"),
        ({"torchserve_heap": "half"}, "The torchserve_heap is not a size of java ('half'); write a number and k, m or g, such as 512m."),
        ({"torchserve_java": "java"}, "The torchserve_java is not the path of a program ('java'); write all of it"),
    ],
)
def test_what_a_unit_could_not_hold(settings, words):
    (finding,) = inventory_findings([], settings=settings)
    assert words in finding
    assert finding.endswith(".") and "s3cret" not in finding


def test_what_a_unit_can_hold():
    settings = {
        "torchserve_environment": {"HF_HOME": '/srv/50% "of" it', "OMP_NUM_THREADS": 4, "EMPTY": ""},
        "torchserve_java": "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        "torchserve_java_options": ["-XX:OnOutOfMemoryError=kill -9 %p", "-Dx=a b", "-Xss1m"],
        "torchserve_heap": "4096M",
    }
    assert inventory_findings([], settings=settings) == []


@pytest.mark.parametrize(("device", "visible"), [("gpu", "0"), ("gpu", 1), ("gpu", "0,1,15"), ("cpu", "-1"), ("cpu", "")])
def test_gpus_that_a_worker_may_see(device, visible):
    settings = {"torchserve_device": device, "torchserve_environment": {"CUDA_VISIBLE_DEVICES": visible}}
    assert inventory_findings([], settings=settings) == []


@pytest.mark.parametrize(
    ("size", "budget", "state", "found"),
    [
        ("120GiB", "100GiB", "present", True),
        ("101GiB", 107374182400, "present", True),
        ("81GiB", "100GiB", "present", True),
        ("80GiB", "100GiB", "present", False),
        ("120GiB", "100GiB", "absent", False),
        (None, "100GiB", "present", False),
        ("120GiB", None, "present", False),
        ("120GiB", "much", "present", False),
    ],
)
def test_a_model_larger_than_the_piece_store(size, budget, state, found):
    models = [{**GOOD, "size": size, "state": state}]
    findings = [one for one in inventory_findings(models, settings={"dfdaemon_disk_budget": budget}) if "dfdaemon" in one]
    assert len(findings) == found
    if found:
        assert findings[0].startswith(f"The model resnet50 1.0 is larger ({size}) than 80 percent of what dfdaemon may keep ({budget}), ")
        assert findings[0].endswith("; raise dfdaemon_disk_budget.")


@pytest.mark.parametrize("budget", [0, "0GiB"])
def test_a_budget_that_is_none(budget):
    (finding,) = [one for one in inventory_findings([], settings={"dfdaemon_disk_budget": budget}) if "dfdaemon" in one]
    assert finding == f"The dfdaemon_disk_budget is {budget}, which dfdaemon takes for the whole disk; set it to a size."


def test_what_hosts_share_is_said_once():
    hosts = {f"gpu-{number}": ["Shared.", "Most."] for number in range(5)} | {"seed-1": ["Shared.", "Own."]}
    assert inventory_findings([], hosts=hosts) == ["Shared.", "Most. (On gpu-0, gpu-1, gpu-2 and 2 more.)", "Own. (On seed-1.)"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dragonfly_scheduler_port": 70000}, "The dragonfly_scheduler_port is not a port ('70000'); write a number from 1 to 65535."),
        ({"dragonfly_scheduler_port": "http"}, "is not a port ('http')"),
        ({"torchserve_metrics_port": 0}, "The torchserve_metrics_port is not a port ('0')"),
        (
            {"modelfleet_firewall_addresses": ["gpu-1.example.com"]},
            "The entry 'gpu-1.example.com' in modelfleet_firewall_addresses is not an IP",
        ),
        (
            {"modelfleet_firewall_addresses": ["10.0.0.0/24"]},
            "is not an IP address; write that in place of a name, which nobody may resolve",
        ),
        ({"modelfleet_firewall_addresses": ["0.0.0.0"]}, "'0.0.0.0' in modelfleet_firewall_addresses"),
        ({"modelfleet_firewall_addresses": ["fe80::1%eth0"]}, "'fe80::1%eth0' in modelfleet_firewall_addresses"),
        ({"modelfleet_firewall_addresses": "10.0.0.1"}, "The modelfleet_firewall_addresses is not a list; make each entry an element."),
        ({"modelfleet_firewall_users": "torchserve"}, "The modelfleet_firewall_users is not a list"),
        ({"modelfleet_firewall_monitoring": ["10.0.0.5/24"]}, "a prefix with nothing beyond it, as in 10.0.0.0/24"),
        ({"modelfleet_firewall_monitoring": [None]}, "The entry 'None' in modelfleet_firewall_monitoring"),
        ({"modelfleet_firewall_users": ["a b"]}, "The entry 'a b' in modelfleet_firewall_users is not the name or the number of a user"),
        ({"modelfleet_firewall_users": ["root; flush ruleset"]}, "is not the name or the number of a user; correct it."),
    ],
)
def test_what_a_firewall_could_not_hold(settings, words):
    (finding,) = inventory_findings([], settings=settings)
    assert words in finding and finding.endswith(".")


def test_what_a_firewall_can_hold():
    settings = {
        "dragonfly_scheduler_port": "8002",
        "modelfleet_firewall_addresses": ["10.0.0.1", "FD00::1"],
        "modelfleet_firewall_monitoring": ["10.0.0.5", "10.0.0.0/24", "fd00::/64", "0.0.0.0/0"],
        "modelfleet_firewall_users": ["torchserve", "my-runtime", 1000, "1001"],
    }
    assert inventory_findings([], settings=settings) == []


IMAGE = f"registry.example.org:5000/modelfleet/client@sha256:{'0f' * 32}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dfdaemon_install_method": "container", "dfdaemon_image": IMAGE, "dfdaemon_release_sha256": ""}, ""),
        ({"torchserve_install_method": "container", "torchserve_image": f"sha256:{'0f' * 32}"}, ""),
        ({"dfdaemon_install_method": "package", "dfdaemon_image": "client:latest"}, ""),
        (
            {"dragonfly_scheduler_install_method": "container", "dragonfly_scheduler_image": "docker.io/dragonflyoss/scheduler:v2.5.1"},
            "The dragonfly_scheduler_image has no digest ('docker.io/dragonflyoss/scheduler:v2.5.1'), and what a tag names may be another",
        ),
        ({"torchserve_install_method": "container", "torchserve_image": ""}, "The torchserve_image is empty; write registry/repository@"),
        (
            {"dfdaemon_install_method": "docker"},
            "The dfdaemon_install_method is not one that is known ('docker'); write package or container.",
        ),
        (
            {"dfdaemon_install_method": "container", "dfdaemon_image": IMAGE, "dfdaemon_image_archive": "/nowhere/client.tar"},
            "The dfdaemon_image_archive is not at /nowhere/client.tar on the controller",
        ),
    ],
)
def test_images_by_digest_and_no_other_way(settings, words):
    found = inventory_findings([], settings=settings)
    assert found == [] if not words else [one.startswith(words) for one in found] == [True]


def test_a_compile_cache_is_not_for_a_container():
    settings = {"torchserve_install_method": "container", "torchserve_image": IMAGE}
    (found,) = inventory_findings([CACHED], settings=settings)
    assert "has compile_cache, which TorchServe in a container does not use; leave it out for this host" in found
    assert inventory_findings([CACHED], settings={"torchserve_install_method": "package"}) == []
