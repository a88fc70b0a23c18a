# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import from_yaml, problems, to_yaml
from ansible_collections.modelfleet.serving.plugins.modules import dragonfly_config

PEER = {
    "host": {"ip": "10.0.0.21", "hostname": "gpu-1"},
    "seedPeer": {"enable": False},
    "storage": {"dir": "/var/lib/modelfleet/pieces", "keep": True, "server": {"ip": "10.0.0.21", "tcpPort": 4005}},
    "gc": {"interval": "1m", "policy": {"diskThreshold": "100GiB"}},
    "proxy": {
        "server": {"ip": "127.0.0.1", "port": 4001},
        "disableBackToSource": True,
        "rules": [{"regex": "^http://models[.]s3[.]us-east-1[.]amazonaws[.]com/", "useTLS": True}],
    },
}
PEER_DYNCONFIG = {"scheduler": {"addrs": ["10.0.0.11:8002", "[fd00::11]:8002"]}}
SCHEDULER = {
    "server": {"listenIP": "10.0.0.11", "port": 8002, "logLevel": "warn"},
    "scheduler": {"backToSourceCount": 3, "retryInterval": "500ms"},
    "metrics": {"enable": True, "addr": "127.0.0.1:8000"},
}
SCHEDULER_DYNCONFIG = {"schedulerClusterConfig": {"candidateParentLimit": 3, "filterParentLimit": 15}}
MANAGER = {
    "auth": {"jwt": {"key": "a-jwt-key"}},
    "database": {"mysql": {"user": "d", "password": "a-db-password", "host": "db"}, "redis": {"addrs": ["redis:6379"]}},
}


def changed(config, path, value):
    """A copy of ``config`` with ``value`` at the dotted path."""
    config = copy.deepcopy(config)
    place = config
    *parents, last = path.split(".")
    for key in parents:
        place = place.setdefault(key, {})
    place[last] = value
    return config


@pytest.fixture
def write(run_module):
    def run(*files, mode="0644", **modes):
        args = {"files": [{"component": component, "path": str(path), "config": config, "mode": mode} for component, path, config in files]}
        return run_module(dragonfly_config.main, args, **modes)

    return run


def test_writes_what_yaml_reads_back(write, tmp_path):
    path = tmp_path / "dfdaemon.yaml"
    result = write(("dfdaemon", path, PEER))
    assert result["changed"] and result["files"] == [{"path": str(path), "changed": True}]
    assert yaml.safe_load(path.read_text()) == PEER
    assert path.read_text().startswith("# Managed by Ansible")
    assert path.stat().st_mode & 0o7777 == 0o644
    assert not write(("dfdaemon", path, PEER))["changed"]


def test_order_of_keys_does_not_matter(write, tmp_path):
    path = tmp_path / "dfdaemon.yaml"
    write(("dfdaemon", path, PEER))
    assert not write(("dfdaemon", path, dict(reversed(list(PEER.items())))))["changed"]


def test_check_mode_tells_and_does_nothing(write, tmp_path):
    path = tmp_path / "dfdaemon.yaml"
    result = write(("dfdaemon", path, PEER), check=True, diff=True)
    assert result["changed"] and not path.exists()
    assert result["diff"][0]["before"] == "" and "diskThreshold" in result["diff"][0]["after"]
    write(("dfdaemon", path, PEER))
    other = changed(PEER, "gc.policy.diskThreshold", "5GiB")
    assert write(("dfdaemon", path, other), check=True)["changed"]
    assert yaml.safe_load(path.read_text()) == PEER


def test_wrong_permissions_are_a_change(write, tmp_path):
    path = tmp_path / "dfdaemon.yaml"
    write(("dfdaemon", path, PEER))
    path.chmod(0o600)
    assert write(("dfdaemon", path, PEER))["changed"]
    assert path.stat().st_mode & 0o7777 == 0o644


def test_several_files_in_one_call(write, tmp_path):
    files = [("scheduler", tmp_path / "s.yaml", SCHEDULER), ("scheduler_dynconfig", tmp_path / "sd.yaml", SCHEDULER_DYNCONFIG)]
    assert [entry["changed"] for entry in write(*files)["files"]] == [True, True]
    files[1] = (*files[1][:2], changed(SCHEDULER_DYNCONFIG, "schedulerClusterConfig.candidateParentLimit", 2))
    assert [entry["changed"] for entry in write(*files)["files"]] == [False, True]


def test_missing_directory_is_one_sentence(write, tmp_path):
    result = write(("dfdaemon", tmp_path / "none" / "dfdaemon.yaml", PEER))
    assert result["failed"] and "directory" in result["msg"]


@pytest.mark.parametrize(
    ("component", "config"),
    [
        ("dfdaemon", PEER),
        ("dfdaemon", {}),
        ("dfdaemon_dynconfig", PEER_DYNCONFIG),
        ("scheduler", SCHEDULER),
        ("scheduler_dynconfig", SCHEDULER_DYNCONFIG),
        ("manager", MANAGER),
    ],
)
def test_good_configuration_has_no_problem(component, config):
    assert problems(component, config) == []


@pytest.mark.parametrize(
    ("path", "value", "hint"),
    [
        ("prox", {}, "did you mean proxy?"),
        ("gc.policy.distHighThresholdPercent", 80, "did you mean gc.policy.diskHighThresholdPercent?"),
        ("gc.policy.taskTtl", "1h", "did you mean gc.policy.taskTTL?"),
        ("proxy.caCert", "/ca.crt", "did you mean proxy.server.caCert?"),
        ("gc.maxMillion", 5, "known here: interval, policy"),
        ("storage.server.port", 4005, "did you mean storage.server.tcpPort?"),
    ],
)
def test_unknown_key_is_named_with_the_one_that_was_meant(path, value, hint):
    assert [(key, hint in problem) for key, problem in problems("dfdaemon", changed(PEER, path, value))] == [(path, True)]


@pytest.mark.parametrize(
    ("component", "path", "value"),
    [
        ("dfdaemon", "storage.keep", "yes"),
        ("dfdaemon", "proxy.server.port", 70000),
        ("dfdaemon", "proxy.server.port", "4001"),
        ("dfdaemon", "proxy.server.port", True),
        ("dfdaemon", "host.ip", "gpu-1"),
        ("dfdaemon", "storage.dir", "pieces"),
        ("dfdaemon", "gc.interval", "soon"),
        ("dfdaemon", "gc.interval", 60),
        ("dfdaemon", "gc.policy.diskThreshold", "lots"),
        ("dfdaemon", "gc.policy.diskHighThresholdPercent", 100),
        ("dfdaemon", "download.concurrentPieceCount", 0),
        ("dfdaemon", "download.protocol", "udp"),
        ("dfdaemon", "storage.writeBufferSize", "512KiB"),
        ("dfdaemon", "seedPeer.type", "strong"),
        ("dfdaemon", "manager.addr", "10.0.0.1:65003"),
        ("dfdaemon", "proxy.rules", {"regex": "x"}),
        ("dfdaemon", "proxy", None),
        ("dfdaemon", "backend.requestHeader", {"X-Team": 5}),
        ("dfdaemon_dynconfig", "scheduler.addrs", ["scheduler-1:8002"]),
        ("dfdaemon_dynconfig", "scheduler.addrs", [":8002"]),
        ("scheduler", "manager.addr", "http://10.0.0.1:65003"),
        ("scheduler", "scheduler.backToSourceCount", 0),
        ("scheduler", "scheduler.gc.peerTTL", "1 day"),
        ("scheduler_dynconfig", "schedulerClusterConfig.candidateParentLimit", 21),
    ],
)
def test_wrong_type_is_named(component, path, value):
    base = {"dfdaemon": PEER, "dfdaemon_dynconfig": PEER_DYNCONFIG, "scheduler": SCHEDULER, "scheduler_dynconfig": SCHEDULER_DYNCONFIG}
    ((key, problem),) = problems(component, changed(base[component], path, value))
    assert key.startswith(path) and "must be" in problem


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({"regex": "("}, "proxy.rules[0].regex"),
        ({"regex": "x", "redirect": "https://mirror.example.com"}, "proxy.rules[0].redirect"),
        ({"regex": "x", "useTls": True}, "proxy.rules[0].useTls"),
    ],
)
def test_a_rule_is_named_by_its_place(rule, key):
    assert [path for path, _problem in problems("dfdaemon", changed(PEER, "proxy.rules", [rule]))] == [key]


@pytest.mark.parametrize(
    ("component", "base", "changes", "key"),
    [
        ("dfdaemon", PEER, {"gc.policy.diskLowThresholdPercent": 85}, "gc.policy.diskHighThresholdPercent"),
        ("dfdaemon", PEER, {"gc.policy.diskThreshold": 0}, "gc.policy.diskThreshold"),
        ("dfdaemon", PEER, {"gc.policy.diskThreshold": "0GiB"}, "gc.policy.diskThreshold"),
        ("dfdaemon", PEER, {"upload.server.caCert": "/ca.crt", "upload.server.cert": "/c.crt"}, "upload.server.caCert"),
        ("dfdaemon", PEER, {"proxy.server.caCert": "/ca.crt"}, "proxy.server.caCert"),
        ("dfdaemon", PEER, {"proxy.server.basicAuth": {"username": "u", "password": "p"}}, "proxy.server.basicAuth"),
        ("dfdaemon", PEER, {"security.enable": True}, "security"),
        ("dfdaemon", PEER, {"seedPeer": {"enable": True, "type": "normal"}, "proxy.disableBackToSource": False}, "seedPeer.type"),
        ("dfdaemon", PEER, {"seedPeer": {"type": "super"}}, "seedPeer.type"),
        ("dfdaemon", PEER, {"seedPeer": {"enable": True}}, "proxy.disableBackToSource"),
        ("dfdaemon", PEER, {"metrics.server.port": 4001}, "metrics.server.port"),
        ("dfdaemon", PEER, {"host.ip": "0.0.0.0"}, "host.ip"),
        ("dfdaemon_dynconfig", PEER_DYNCONFIG, {"scheduler.addr": "scheduler:8002"}, "scheduler.addr"),
        ("dfdaemon_dynconfig", PEER_DYNCONFIG, {"scheduler.addrs": []}, "scheduler.addrs"),
        ("dfdaemon_dynconfig", PEER_DYNCONFIG, {"scheduler.addrs": ["10.0.0.1:8002"] * 2}, "scheduler.addrs"),
        ("dfdaemon_dynconfig", {}, {}, "scheduler.addrs"),
        ("scheduler", SCHEDULER, {"manager.schedulerClusterID": 1}, "manager.addr"),
        ("scheduler", SCHEDULER, {"server.tls.cert": "/c.crt"}, "server.tls.cert"),
        ("scheduler", SCHEDULER, {"job.redis": {"addrs": ["redis:6379"]}}, "job.redis"),
        ("scheduler", SCHEDULER, {"server.logLevel": "info"}, "server.logLevel"),
        ("scheduler", SCHEDULER, {"server.logLevel": "debug"}, "server.logLevel"),
        ("manager", MANAGER, {"auth": {}}, "auth.jwt.key"),
        ("manager", MANAGER, {"database.type": "postgres"}, "database.postgres.user"),
    ],
)
def test_contradictions_are_named(component, base, changes, key):
    for path, value in changes.items():
        base = changed(base, path, value)
    assert key in [path for path, _problem in problems(component, base)]


def test_all_problems_at_once_and_nothing_is_written(write, tmp_path):
    bad = changed(changed(PEER, "storage.keeep", True), "gc.interval", "soon")
    good, path = tmp_path / "dyn.yaml", tmp_path / "dfdaemon.yaml"
    result = write(("dfdaemon_dynconfig", good, PEER_DYNCONFIG), ("dfdaemon", path, bad))
    assert result["failed"] and "2 problems" in result["msg"]
    assert f"storage.keeep in {path} is not a key of dfdaemon; did you mean storage.keep?" in result["msg"]
    assert [problem["key"] for problem in result["problems"]] == ["storage.keeep", "gc.interval"]
    assert not good.exists() and not path.exists()


def test_two_components_cannot_share_a_file(write, tmp_path):
    path = tmp_path / "dynconfig.yaml"
    result = write(("dfdaemon_dynconfig", path, PEER_DYNCONFIG), ("scheduler_dynconfig", path, SCHEDULER_DYNCONFIG))
    assert result["failed"] and "shares its file" in result["msg"]


@pytest.mark.parametrize(
    ("component", "config", "addr"), [("dfdaemon", PEER, "http://10.0.0.1:65003"), ("scheduler", SCHEDULER, "10.0.0.1:65003")]
)
def test_manager_and_local_dynconfig_exclude_each_other(write, tmp_path, component, config, addr):
    dynconfig = {"dfdaemon": PEER_DYNCONFIG, "scheduler": SCHEDULER_DYNCONFIG}[component]
    config = changed(config, "manager.addr", addr)
    result = write((component, tmp_path / "c.yaml", config), (component + "_dynconfig", tmp_path / "d.yaml", dynconfig))
    assert result["failed"] and "manager.addr" in result["msg"]
    assert write((component, tmp_path / "c.yaml", config))["changed"]


SECRETS = {
    "scheduler": (SCHEDULER, "database.redis.password"),
    "manager": (MANAGER, "database.mysql.password"),
    "dfdaemon": (PEER, "backend.requestHeader.Authorization"),
    "tracing": (PEER, "tracing.headers.X-Token"),
    "misspelt": (SCHEDULER, "database.redis.passwrd"),
    "refused": (PEER, "proxy.server.basicAuth"),
    "list": (PEER, "tracing.headers"),
}


@pytest.mark.parametrize("secret", ["hunter2-hunter2", 'quo"ted\\hunter2', "it's hunter2 \u00e9"])
@pytest.mark.parametrize("case", SECRETS)
def test_secrets_are_shown_nowhere(write, tmp_path, monkeypatch, case, secret):
    """Neither in what the module returns, with its options and its diff, nor in the journal of the host; also the secret of yesterday."""
    journal = []
    monkeypatch.setattr(AnsibleModule, "log", lambda self, msg, log_args=None: journal.append(f"{msg} {log_args}"))
    base, key = SECRETS[case]
    component = case if case in ("scheduler", "manager") else "scheduler" if case == "misspelt" else "dfdaemon"
    path = tmp_path / "daemon.yaml"
    for value in ([secret, "another-hunter2"], ["yesterday-hunter2", secret]) if case == "list" else (secret, "another-hunter2"):
        result = write((component, path, changed(base, key, value)), diff=True, mode="0640")
        assert "hunter2" not in str(result) + str(journal)
        assert result.get("failed", False) == (case in ("misspelt", "refused", "list"))
    if not result.get("failed"):
        assert '********"' in result["diff"][0]["before"] and "******** (new)" in result["diff"][0]["after"]
        assert yaml.safe_load(path.read_text()) == changed(base, key, "another-hunter2")


def test_a_diff_shows_what_another_hand_wrote_only_where_it_can_tell_secrets(write, tmp_path):
    path = tmp_path / "scheduler.yaml"
    path.write_text("server:\n  port: 8003\ndatabase:\n  redis:\n    password: hunter2\n    passwrd: hunter2\n")
    before = write(("scheduler", path, SCHEDULER), diff=True, check=True)["diff"][0]["before"]
    assert "port: 8003" in before and "hunter2" not in before
    for text in (
        "database: {redis: {password: hunter2}}\n",
        "database:\n  redis:\n    password: |\n      hunter2\n",
        "hunter2",
        "# hunter2\n",
    ):
        path.write_text(text)
        assert "hunter2" not in str(write(("scheduler", path, SCHEDULER), diff=True, check=True))


@pytest.mark.parametrize("mode", ["0644", 0o644, "0604", "u=rw,go=r"])
def test_a_file_with_a_secret_is_for_its_daemon_only(write, tmp_path, mode):
    config = changed(SCHEDULER, "database.redis.password", "hunter2")
    path = tmp_path / "scheduler.yaml"
    result = write(("scheduler", path, config), mode=mode)
    assert result["failed"] and not path.exists()
    assert f"database.redis.password in {path} is a secret" in result["msg"] and '"0640"' in result["msg"]
    for mode in (None, "0640", 0o600):
        assert not write(("scheduler", path, config), mode=mode).get("failed")
    assert path.stat().st_mode & 0o7777 == 0o600


@pytest.mark.parametrize("secret", ["hunter2\n", " hunter2", "hun\tter2", "", 5])
def test_a_secret_is_clean(secret):
    ((key, problem),) = problems("scheduler", changed(SCHEDULER, "database.redis.password", secret))
    assert key == "database.redis.password" and "hunter2" not in problem and "printf %s" in problem


@pytest.mark.parametrize("url", ["https://user:hunter2@mirror.example.com", "https://mirror.example.com\n"])
def test_a_url_is_clean_and_has_no_password(url):
    assert [key for key, _problem in problems("dfdaemon", changed(PEER, "proxy.registryMirror.addr", url))] == ["proxy.registryMirror.addr"]


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"a": {}, "b": [], "c": [[1, [2]], {"d": [{"e": 1, "f": [True, None]}]}]},
        {"on": "off", "no": "1e3", "x y": "a: b # c", "k": "line\nbreak\t\"quoted\" 'x' \\ é 😀 {{ }}", "n": -1.5, "": ""},
        ["~", "null", "yes", "0x10", "2026-11-21", " lead", "trail ", "- x", "%", "@"],
    ],
)
def test_yaml_is_read_back_as_it_was(value):
    assert yaml.safe_load(to_yaml(value)) == value
    assert from_yaml(to_yaml(value)) == value


def test_the_role_sizes_the_garbage_collection_by_the_budget():
    """With keys that dfdaemon knows, at the percentage that the check of the models reckons with."""
    role = Path(__file__).parents[4] / "roles/dfdaemon/vars/main.yml"
    gc = yaml.safe_load(role.read_text(encoding="utf-8"))["__dfdaemon_config"]["gc"]
    assert gc == {
        "interval": "1m",
        "policy": {"diskThreshold": "{{ dfdaemon_disk_budget }}", "diskHighThresholdPercent": 80, "diskLowThresholdPercent": 60},
    }
    gc["policy"]["diskThreshold"] = "100GiB"
    assert problems("dfdaemon", {**PEER, "gc": gc}) == []
