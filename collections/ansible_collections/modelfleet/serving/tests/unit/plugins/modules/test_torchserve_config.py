# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import torchserve_config


@pytest.fixture
def apply(tmp_path, run_module):
    path = tmp_path / "config.properties"

    def run(config=None, check=False, diff=False, **options):
        return run_module(
            torchserve_config.main, {"path": str(path), "config": config or {}, "mode": "0640", **options}, check=check, diff=diff
        )

    run.path = path
    run.properties = lambda: dict(line.split("=", 1) for line in path.read_text().splitlines() if not line.startswith("#"))
    return run


def test_safe_defaults(apply):
    assert apply()["changed"]
    assert apply.properties() == {
        "allowed_urls": "file:///nonexistent/modelfleet",
        "disable_token_authorization": "false",
        "enable_model_api": "true",
        "inference_address": "http://127.0.0.1:8080",
        "management_address": "http://127.0.0.1:8081",
        "metrics_address": "http://127.0.0.1:8082",
        "token_expiration_min": "5256000",
    }
    assert apply.path.stat().st_mode & 0o777 == 0o640
    assert not apply()["changed"]


def test_check_mode_and_diff(apply):
    result = apply({"job_queue_size": 7}, check=True, diff=True)
    assert result["changed"]
    assert "job_queue_size=7\n" in result["diff"]["after"]
    assert not apply.path.exists()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"job_queue_sice": 7}, "did you mean job_queue_size?"),
        ({"job_queue_size": "many"}, "job_queue_size must be a whole number, not 'many'"),
        ({"enable_metrics_api": "yes"}, "must be true or false"),
        ({"grpc_inference_port": 70000}, "must be a port number"),
        ({"metrics_mode": "statsd"}, "must be log, prometheus or legacy"),
        ({"inference_address": "127.0.0.1:8080"}, "must be a URL"),
        ({"default_service_handler": "a\nb"}, "one line"),
        ({"service_envelope": ["x"]}, "one line"),
        ({"vmargs": "-Xmx1g"}, "launcher"),
        ({"plugins_path": "/srv/plugins"}, "/opt/torchserve/plugins"),
        ({"install_py_dep_per_model": True}, "requirements.txt list to torchserve_pip_packages"),
        ({"load_models": "all"}, "without a sha256 and without a record; list them in modelfleet_models"),
        ({"model_snapshot": "{}"}, "modelfleet_models"),
        ({"models": "{}"}, "modelfleet_models"),
        ({"model_store": "/srv/models"}, "no effect"),
        ({"workflow_store": "/srv/models"}, "nobody verified"),
        ({"enable_envvars_config": True}, "write the keys themselves"),
        ({"use_env_allowed_urls": True}, "leave it out"),
        ({"enable_model_api": False}, "impossible to remove"),
        ({"keystore_pass": "changeit"}, "secret in clear"),
        ({"token_expiration_min": 60}, "nothing renews them"),
        ({"token_expiration_min": "0.5"}, "nothing renews them"),
        ({"inference_address": "http://0.0.0.0:8080"}, "lan_bind"),
        ({"grpc_inference_address": "10.0.0.1"}, "lan_bind"),
        ({"disable_token_authorization": True}, "no_token"),
        ({"allowed_urls": "https://models.example.com/.*"}, "remote_urls"),
    ],
)
def test_refused(apply, config, words):
    result = apply(config)
    assert result["failed"]
    assert words in result["msg"]
    assert next(iter(config)) in result["msg"]
    assert [problem["key"] for problem in result["problems"]] == list(config)
    assert not apply.path.exists()


def test_all_problems_at_once(apply):
    assert len(apply({"nonsense": 1, "job_queue_size": "x"})["problems"]) == 2


def test_keys_differ_by_version(apply):
    assert apply({"default_startup_timeout": 600}, version="0.12.0")["changed"]
    assert "exists in 0.12.0" in apply({"default_startup_timeout": 600}, version="0.11.1")["msg"]


@pytest.mark.parametrize(
    ("config", "allow"),
    [
        ({"inference_address": "http://0.0.0.0:8080"}, "lan_bind"),
        ({"disable_token_authorization": True}, "no_token"),
        ({"allowed_urls": "https://models.example.com/.*"}, "remote_urls"),
    ],
)
def test_allowed_when_named(apply, config, allow):
    assert apply(config, allow=[allow])["changed"]


def test_properties_are_escaped(apply):
    """What Java reads is tried in tests/test_quoting.py of the repository."""
    apply({"allowed_urls": "https://a\\.b/.*", "cpp_log_config": "/tmp/é"}, allow=["remote_urls"])
    assert apply.properties()["allowed_urls"] == "https://a\\\\.b/.*"
    assert apply.properties()["cpp_log_config"] == "/tmp/\\u00e9"
    assert apply({"management_address": "unix:/run/torchserve/mgmt.sock", "keystore_pass": "$$STORE_PASS$$"})["changed"]
