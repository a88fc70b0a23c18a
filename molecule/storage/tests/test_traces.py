"""What the scenario leaves behind on hosts and on the controller; runs last."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

import pytest
import yaml
from conftest import CONFIG, KEPT, SCENARIO, SERVICE_ACCOUNT, STORES
from fleet import DAEMON_HOSTS, GPU_HOSTS, SIGNATURES
from test_rotation import UNITS


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
    # As a query has it.
    quoted = [quote(value, safe="") for value in planted if quote(value, safe="") != value]
    assert quoted
    private = [
        line
        for name in ("reader", "publisher")
        for line in (KEPT.logs.parent / f"{name}.pem").read_text(encoding="utf-8").splitlines()
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
    return [*planted, *quoted, *private, *torchserve, settings["lab_read_secret_key"], settings["lab_publish_secret_key"]]


def test_no_run_left_a_secret_here(secrets):
    """Neither in what it printed, nor in what Ansible and the report keep, nor where everybody sees it while a run goes on."""
    assert len(list(KEPT.logs.glob("*.log"))) >= 3 * len(STORES)
    assert KEPT.holding([*secrets, *SIGNATURES]) == {}


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_no_host_logged_a_secret(fleet, secrets, name):
    host = fleet[name]
    patterns = [*secrets, *SIGNATURES]
    assert host.journal_lines(patterns) == []
    each = " ".join(["-e %s"] * len(patterns))
    found = host.run(f"grep -rIlF {each} /var/log /run/log /var/lib/torchserve --exclude=key_file.json", *patterns)
    assert found.stdout == ""


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_a_secret_is_in_its_file_and_nowhere_else(fleet, secrets, name):
    """Not in temporary files of Ansible either, nor in the files of what a store before this one needed."""
    host = fleet[name]
    each = " ".join(["-e %s"] * len(secrets))
    everywhere = "--exclude-dir=proc --exclude-dir=sys --exclude-dir=dev / 2>/dev/null"
    found = host.run(f"grep -ralF {each} {everywhere}", *secrets).stdout.split()
    holders = [CONFIG, "/var/lib/torchserve/key_file.json"] if name in GPU_HOSTS else []
    assert sorted(found) == holders
    for path in found:
        assert host.check_output("stat -c '%%a %%U' %s", path) == "600 torchserve"


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_a_daemon_that_crashes_leaves_no_core(fleet, name):
    """It would hold keys and signed URLs."""
    host = fleet[name]
    for unit in UNITS[name]:
        limits = host.check_output("cat /proc/%s/limits", host.main_pid(unit))
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits


@pytest.mark.parametrize("name", ["gpu-1", "gpu-2", "gpu-3"])
def test_the_last_store_left_no_key_of_the_others(fleet, name):
    """A service account's file goes with its store."""
    assert json.loads(fleet[name].check_output("cat %s", CONFIG))["object_storage"]["type"] == STORES[-1]
    assert not fleet[name].shell.file(SERVICE_ACCOUNT).exists
