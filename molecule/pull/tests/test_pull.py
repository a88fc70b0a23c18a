"""From a fleet that a controller has set up to one that sets itself up, and what its hosts do not let themselves be told."""

from __future__ import annotations

import subprocess

import pytest
from conftest import CACHE, INVENTORY, STATE, WWW, run_all
from fleet import DAEMON_HOSTS, recap

SECRET = "lab-read-only-secret-key-worth-nothing-1"


def test_the_bundle_has_no_secret(installed):
    names = subprocess.run(["tar", "--list", "--file", *WWW.glob("*.tar.gz")], capture_output=True, text=True, check=True).stdout.split()
    assert "inventory/hosts.yml" in names and "plugin.jar" in names
    assert not [name for name in names if "vault" in name or name.endswith((".key", ".pyc"))]
    content = subprocess.run(["tar", "--extract", "--to-stdout", "--file", *WWW.glob("*.tar.gz")], capture_output=True, check=True).stdout
    assert len(content) > 10**6 and SECRET.encode() not in content


def test_a_second_installation_changes_nothing(installed, play):
    counts = recap(play("pull_install"))
    assert set(counts) == set(DAEMON_HOSTS)
    assert [host for host, one in counts.items() if one["changed"] or one["failed"]] == []


def test_every_host_has_a_time_of_its_own(installed, fleet):
    times = {host.check_output("systemctl show -p NextElapseUSecMonotonic --value modelfleet-pull.timer") for host in fleet.values()}
    assert len(times) == len(DAEMON_HOSTS)
    for host in fleet.values():
        assert host.check_output("systemctl is-enabled modelfleet-pull.timer") == "enabled"


def test_root_alone_reads_what_is_secret(installed, fleet):
    for host in fleet.values():
        assert host.check_output("stat -c %a /etc/modelfleet-pull/secrets.json /etc/modelfleet-pull/host.pem").split() == ["600", "600"]
        assert host.run("grep -rlF %s /etc/systemd /opt/modelfleet-pull /etc/modelfleet-pull/pull.json", SECRET).stdout == ""
        assert host.run("grep -rl 'ENCRYPTED PRIVATE KEY' /etc/modelfleet-pull").stdout == "", "the key of the authority"


def test_a_fleet_that_is_as_it_should_be_is_left_alone(installed, fleet):
    """On five hosts at once, which know nothing of each other's runs."""
    pids = {name: host.main_pid("dfdaemon") for name, host in fleet.items() if name != "scheduler-1"}
    found = run_all(fleet)
    assert {name: (one["result"], one["changed"], one["problem"]) for name, one in found.items()} == dict.fromkeys(
        DAEMON_HOSTS, ("ok", 0, "")
    )
    assert pids == {name: fleet[name].main_pid("dfdaemon") for name in pids}


def test_what_was_changed_by_hand_is_found_and_mended(installed, fleet):
    host = fleet["gpu-2"]
    before = host.check_output("cat /etc/dragonfly/dfdaemon.yaml")
    host.check_output("echo '# by hand' >> /etc/dragonfly/dfdaemon.yaml")
    host.check_output("systemctl disable --now modelfleet-firewall.service")
    (found,) = run_all(fleet, ["gpu-2"]).values()
    assert found["result"] == "ok" and found["changed"] >= 2
    assert host.check_output("cat /etc/dragonfly/dfdaemon.yaml") == before
    assert host.active("modelfleet-firewall") and host.active("torchserve")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        ("alter", "is not what was signed"),
        ("stranger", "the signature of the bundle is not good"),
        ("unsigned", "is not signed"),
    ],
)
def test_what_is_not_good_is_refused_by_everybody(installed, fleet, files, play, another, spoil, words):
    """Of a bundle that is new, so that each host must fetch it."""
    (INVENTORY / "group_vars/all/more.yml").write_text(f"modelfleet_firewall_monitoring: [10.228.0.{len(spoil)}]\n")
    play("pull_bundle", *(["-e", f"pull_signing_key={CACHE / 'stranger'}"] if spoil == "stranger" else []))
    files()
    if spoil == "alter":
        files.origin.check_output("sh -c 'for one in /srv/fleet/*.tar.gz; do printf x >> $one; done'")
    if spoil == "unsigned":
        files.origin.check_output("sed -i '/BEGIN/,$d' /srv/fleet/current")
    found = run_all(fleet)
    assert {one["result"] for one in found.values()} == {"refused"}
    assert all(words in one["problem"] for one in found.values()), found


def test_a_new_bundle_reaches_every_host_and_an_old_one_none(installed, fleet, files, play, another):
    (INVENTORY / "group_vars/all/more.yml").write_text("modelfleet_firewall_monitoring: [10.228.0.77]\n")
    play("pull_bundle")
    files()
    found = run_all(fleet)
    assert {one["result"] for one in found.values()} == {"ok"} and all(one["changed"] for one in found.values()), found
    for host in fleet.values():
        assert "10.228.0.77" in host.check_output("nft list ruleset")
    files(another)
    assert {one["result"] for one in run_all(fleet).values()} == {"refused"}


def test_hosts_go_on_when_nobody_serves_it(installed, fleet, files):
    files.origin.check_output("systemctl stop fleet-files")
    found = run_all(fleet)
    assert all(one["result"] == "refused" and "cannot be read" in one["problem"] for one in found.values())
    assert all(fleet[name].active("torchserve") for name in fleet if name.startswith("gpu"))


def test_it_goes_by_one_variable(installed, fleet, play):
    play("pull_install", "-e", "pull_enabled=false")
    for host in fleet.values():
        assert host.run("ls -d /etc/modelfleet-pull /opt/modelfleet-pull %s /etc/systemd/system/modelfleet-pull.*", STATE).stdout == ""
    assert all(fleet[name].active("dfdaemon") for name in fleet if name != "scheduler-1")
