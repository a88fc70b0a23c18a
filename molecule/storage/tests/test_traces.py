"""What the scenario leaves behind on hosts and in logs; runs last."""

from __future__ import annotations

import json

import pytest
import yaml
from conftest import CONFIG, LOGS, SCENARIO, SERVICE_ACCOUNT, STORES
from fleet import DAEMON_HOSTS, SIGNATURES


def leaves(value):
    if isinstance(value, dict):
        return [leaf for inner in value.values() for leaf in leaves(inner)]
    return [value]


@pytest.fixture(scope="module")
def secrets(fleet):
    """Every secret of the scenario."""
    keys = yaml.safe_load((SCENARIO.directory / "inventory/group_vars/all/keys.yml").read_text(encoding="utf-8"))["lab_keys"]
    planted = [value for value in leaves(keys) if value.startswith("planted-") or len(value) > 40]
    assert len(planted) == 13
    private = [
        line
        for name in ("reader", "publisher")
        for line in (LOGS.parent / f"{name}.pem").read_text(encoding="utf-8").splitlines()
        if not line.startswith("-----") and len(line) == 64
    ]
    assert len(private) >= 40
    settings = yaml.safe_load((SCENARIO.directory.parent.parent / "inventory/lab/group_vars/all/lab.yml").read_text(encoding="utf-8"))
    torchserve = [
        entry["key"]
        for name in DAEMON_HOSTS
        if name.startswith("gpu")
        for entry in json.loads(fleet[name].check_output("cat /var/lib/torchserve/key_file.json")).values()
    ]
    return [*planted, *private, *torchserve, settings["lab_read_secret_key"], settings["lab_publish_secret_key"]]


def test_no_run_printed_a_secret(secrets):
    logs = sorted(LOGS.glob("*.log"))
    assert len(logs) >= 3 * len(STORES)
    for log in logs:
        text = log.read_text(encoding="utf-8")
        assert "PLAY RECAP" in text
        assert [secret for secret in (*secrets, *SIGNATURES) if secret in text] == [], log.name


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_no_host_logged_a_secret(fleet, secrets, name):
    host = fleet[name]
    patterns = [*secrets, *SIGNATURES]
    assert host.journal_lines(patterns) == []
    each = " ".join(["-e %s"] * len(patterns))
    found = host.run(f"grep -rIlF {each} /var/log /run/log /var/lib/torchserve --exclude=key_file.json", *patterns)
    assert found.stdout == ""


@pytest.mark.parametrize("name", ["gpu-1", "gpu-2", "gpu-3"])
def test_the_last_store_left_no_key_of_the_others(fleet, name):
    """A service account's file goes with its store."""
    assert json.loads(fleet[name].check_output("cat %s", CONFIG))["object_storage"]["type"] == STORES[-1]
    assert not fleet[name].shell.file(SERVICE_ACCOUNT).exists
