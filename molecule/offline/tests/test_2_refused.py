"""Bundles that are not what they should be: each is named before anything is changed."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest
from conftest import BUNDLE, SERVER, URL
from fleet import DAEMON_HOSTS, recap


def signed(place, key):
    command = ["gpg", "--batch", "--yes", "--armor", "--local-user", key, "--output", f"{place}.asc", "--detach-sign", str(place)]
    subprocess.run(command, check=True, capture_output=True)


def other_key():
    name = "other@example.com"
    generate = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", name, "ed25519", "sign", "never"]
    subprocess.run(generate, check=True, capture_output=True)
    return name


def altered_manifest(place):
    manifest = place / "MANIFEST.json"
    manifest.write_text(manifest.read_text().replace("debian-13-x86_64", "debian-12-x86_64", 1))


def altered_file(place):
    (wheel,) = place.glob("wheels/*/torchserve-*.whl")
    content = bytearray(wheel.read_bytes())
    content[-1] ^= 1
    wheel.unlink()
    wheel.write_bytes(content)


def missing_file(place):
    next(place.glob("packages/*/nftables_*.deb")).unlink()


def extra_file(place):
    (place / "wheels/evil.whl").write_bytes(b"evil")


def unknown_key(place):
    signed(place / "MANIFEST.json", other_key())


CASES = {
    altered_manifest: "it is not what was signed",
    altered_file: "is altered. Bring it anew",
    missing_file: "is missing. Bring it anew",
    extra_file: "wheels/evil.whl is extra. Remove what is extra",
    unknown_key: "it was signed by a key that is not known here",
}


@pytest.mark.parametrize("change", CASES, ids=lambda change: change.__name__)
def test_a_bad_bundle(fleet, play, tmp_path, change):
    place = tmp_path / "bundle"
    # Files are replaced, never written into.
    shutil.copytree(BUNDLE, place, copy_function=shutil.copy)
    change(place)
    before = {name: fleet[name].check_output("stat -c %%y /etc/systemd/system /etc/apt/sources.list.d /opt") for name in DAEMON_HOSTS}
    said = " ".join(play("site", code=2, modelfleet_offline_bundle=str(place)).stdout.split())
    assert CASES[change] in said and "Traceback" not in said
    assert before == {
        name: fleet[name].check_output("stat -c %%y /etc/systemd/system /etc/apt/sources.list.d /opt") for name in DAEMON_HOSTS
    }


def test_a_bundle_of_another_distribution(play):
    said = " ".join(play("bundle_verify", code=2, modelfleet_offline_platform="debian-12-x86_64").stdout.split())
    assert "it was made for debian-13-x86_64 and has no packages/debian-12-x86_64, which gpu-1, gpu-2, gpu-3" in said


def test_hosts_of_another_distribution(play, tmp_path):
    """The bundle is whole and for what the inventory says, and the hosts are others."""
    place = tmp_path / "bundle"
    shutil.copytree(BUNDLE, place)
    manifest = json.loads((place / "MANIFEST.json").read_text())
    for path in (place / "packages").iterdir():
        path.rename(path.with_name("debian-12-x86_64"))
    text = json.dumps(manifest).replace("packages/debian-13-x86_64", "packages/debian-12-x86_64")
    (place / "MANIFEST.json").write_text(text)
    variables = {"modelfleet_offline_bundle": str(place), "modelfleet_offline_platform": "debian-12-x86_64", "offline_bundle_key": ""}
    wheels = {"torchserve_wheelhouse": str(next((place / "wheels").iterdir()))}
    said = " ".join(play("bundle_verify", code=2, offline_bundle_unsigned=True, **variables, **wheels).stdout.split())
    assert "This host runs debian-13-x86_64, and the bundle has what debian-12-x86_64 needs." in said


def test_is_served_no_more(fleet, play, rolled_out):
    play("bundle_serve", offline_bundle_served=False)
    assert not fleet[SERVER].active("modelfleet-bundle.service")
    assert fleet["gpu-1"].run("curl --silent --fail %s", f"{URL}/MANIFEST.json").rc != 0
    # What serves goes on, and hosts are as the inventory says without a server as well.
    assert {name: row["changed"] for name, row in recap(play("site", **rolled_out)).items()} == dict.fromkeys(DAEMON_HOSTS, 0)
