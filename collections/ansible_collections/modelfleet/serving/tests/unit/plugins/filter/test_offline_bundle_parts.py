# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.offline_bundle_parts import FilterModule
from ansible_collections.modelfleet.serving.plugins.module_utils._offline_platform import ARCHITECTURES, DISTRIBUTIONS, platform

parts = FilterModule().filters()["offline_bundle_parts"]
ROLES = Path(__file__).resolve().parents[4] / "roles"
DIGEST = "9f" * 32
PLACE = "/srv/bundle"
URL = "https://user:hush@example.com/v1/client%2B1.tar.gz?token=hush"
CLIENT = {"name": "client", "version": "1.5.10", "architecture": "x86_64", "url": URL, "archive": "", "sha256": DIGEST}
WHEELS = {"path": "wheels/debian-13-x86_64-aa", "python": "", "first": [], "packages": ["torchserve"], "used": True}
GPU = {
    "platform": "debian-13-x86_64",
    "releases": [CLIENT],
    "wheels": WHEELS,
    "packages": ["curl", "nftables"],
    "packages_used": True,
    "images": [f"nvcr.io/nvidia/tritonserver:25.07-py3@sha256:{DIGEST}"],
}
SCHEDULER = {**GPU, "releases": [], "wheels": {}, "packages": ["nftables", "python3-apt"], "images": []}


def test_each_thing_is_there_once():
    found = parts({"gpu-1": GPU, "gpu-2": GPU, "scheduler-1": SCHEDULER}, PLACE)
    assert found["platforms"] == ["debian-13-x86_64"] and found["unpinned"] == []
    assert found["files"] == [{"path": "releases/client+1.tar.gz", "licence": "Apache-2.0", "url": URL, "sha256": DIGEST}]
    (wheels,), (packages,), (image,) = found["wheels"], found["packages"], found["images"]
    assert wheels["path"] == WHEELS["path"] and wheels["platform"] == "debian-13-x86_64" and "used" not in wheels
    assert packages["names"] == ["curl", "nftables", "python3-apt"] and packages["sources"] == []
    assert image["path"] == f"images/tritonserver-{DIGEST[:12]}.tar"
    assert {need["path"] for need in found["needs"] if need["host"] == "scheduler-1"} == {"packages/debian-13-x86_64"}
    assert {need["path"] for need in found["needs"] if need["host"] == "gpu-2"} == {
        *("releases/client+1.tar.gz", WHEELS["path"], "packages/debian-13-x86_64", f"images/tritonserver-{DIGEST[:12]}.tar")
    }


def test_groups_with_other_lists_and_other_distributions():
    other = {**GPU, "platform": "ubuntu-24.04-aarch64", "wheels": {**WHEELS, "path": "wheels/b", "python": "3.11"}}
    sources = {"ubuntu-24.04": ["deb a"], "debian-13-x86_64": ["deb b"]}
    found = parts({"gpu-1": GPU, "gpu-2": other}, PLACE, apt_sources=sources, pip={"3.13": "/usr/bin/python3.13", "3.11": "python3.11"})
    assert [one["pip"] for one in found["wheels"]] == ["python3.11", "/usr/bin/python3.13"]
    assert [(one["platform"], one["sources"]) for one in found["packages"]] == [
        ("debian-13-x86_64", ["deb b"]),
        ("ubuntu-24.04-aarch64", ["deb a"]),
    ]


def test_what_nobody_pinned_is_pinned_first():
    bare = {**GPU, "releases": [{**CLIENT, "sha256": ""}]}
    found = parts({"gpu-1": bare, "gpu-2": bare}, PLACE)
    assert found["unpinned"] == [{"name": "client", "version": "1.5.10", "architecture": "x86_64", "url": URL}]
    pinned = parts({"gpu-1": bare}, PLACE, pins=[{"name": "client-1.5.10-x86_64", "sha256": DIGEST}])
    assert pinned["unpinned"] == [] and pinned["files"][0]["sha256"] == DIGEST


@pytest.mark.parametrize(("archive", "own"), [("/srv/bundle/releases/client+1.tar.gz", False), ("/srv/bundle/../x/client+1.tar.gz", True)])
def test_an_archive_of_the_users_own(archive, own):
    found = parts({"gpu-1": {**SCHEDULER, "releases": [{**CLIENT, "archive": archive}]}}, PLACE)
    assert found["files"][0].get("src") == (archive if own else None) and ("url" in found["files"][0]) is not own
    # It is used where it is.
    assert any(need["path"].startswith("releases/") for need in found["needs"]) is not own


def test_hosts_that_take_nothing_from_there():
    found = parts({"gpu-1": {**GPU, "wheels": {**WHEELS, "used": False}, "packages_used": False}}, PLACE)
    assert {need["path"].partition("/")[0] for need in found["needs"]} == {"releases", "images"}
    enterprise = {**SCHEDULER, "platform": "el-9-x86_64"}
    assert parts({"a": enterprise}, PLACE)["packages"] == [] and parts({"a": enterprise}, PLACE)["needs"] == []


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({"a": {**GPU, "platform": "debian-9-x86_64"}}, "Refused the platform 'debian-9-x86_64'"),
        ({"a": GPU, "b": {**GPU, "releases": [{**CLIENT, "sha256": "0f" * 32}]}}, "releases/client+1.tar.gz has two digests"),
        ({"a": {"platform": "debian-13-x86_64"}}, "what a host needs is not as it must be"),
        ({"a": None}, "what a host needs is not as it must be"),
    ],
)
def test_refuses(hosts, said):
    with pytest.raises(AnsibleFilterError) as failed:
        parts(hosts, PLACE)
    assert said in str(failed.value) and "hush" not in str(failed.value)


def test_the_roles_know_the_same_platforms():
    choices = yaml.safe_load((ROLES / "variables/meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    names = ["-".join(one) for one in product(DISTRIBUTIONS, ARCHITECTURES)]
    assert sorted(choices["modelfleet_offline_platform"]["choices"]) == sorted(["", *names])
    said = yaml.safe_load((ROLES / "offline_bundle/vars/main.yml").read_text())["__offline_bundle_pythons"]
    assert said == {name: python for name, (python, _glibc) in DISTRIBUTIONS.items()}
    assert [platform(name).name for name in names] == names


def test_tags_of_wheels_that_run_there():
    assert platform("el-9-x86_64").wheel_tags()[0] == "manylinux_2_34_x86_64"
    assert platform("debian-12-aarch64").wheel_tags()[-3:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64", "linux_aarch64"]
