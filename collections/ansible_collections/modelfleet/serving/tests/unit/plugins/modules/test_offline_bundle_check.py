# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a real gpg."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from ansible_collections.modelfleet.serving.plugins.modules import offline_bundle, offline_bundle_check
from ansible_collections.modelfleet.serving.tests.unit.plugins.gpg_home import gpg, gpg_home, make_key


@pytest.fixture(scope="module")
def keys():
    with gpg_home():
        # Of a time at which its signature was good.
        expired = make_key("expired@example.com", "20200601T000000", "--faked-system-time", "20200101T000000")
        yield {"signer": make_key("signer@example.com"), "other": make_key("other@example.com"), "expired": expired}


@pytest.fixture
def bundle(tmp_path, run_module, keys):
    (tmp_path / "a").write_bytes(b"an archive")
    files = [{"path": path, "src": str(tmp_path / "a")} for path in ("releases/a", "wheels/debian-13-x86_64/b.whl")]
    options = {"path": str(tmp_path / "bundle"), "key": keys["signer"], "platforms": ["debian-13-x86_64"], "files": files}
    assert run_module(offline_bundle.main, options)["changed"]
    return tmp_path / "bundle"


@pytest.fixture
def check(bundle, run_module, keys):
    def run(check=False, **options):
        before = {path: path.lstat().st_mtime_ns for path in bundle.rglob("*")}
        result = run_module(offline_bundle_check.main, {"path": str(bundle), "key": keys["signer"], **options}, check=check)
        assert before == {path: path.lstat().st_mtime_ns for path in bundle.rglob("*")}
        return result

    return run


def sign(bundle, key, *options):
    signature = str(bundle / "MANIFEST.json.asc")
    gpg("--yes", "--armor", "--local-user", key, *options, "--output", signature, "--detach-sign", str(bundle / "MANIFEST.json"))


def test_says_what_is_in_it(check, keys):
    result = check()
    assert result["changed"] is False and result["files"] == 3 and result["platforms"] == ["debian-13-x86_64"]
    assert set(result["sha256"]) == {"key.asc", "releases/a", "wheels/debian-13-x86_64/b.whl"}
    assert result["bytes"] > 20 and not check(check=True)["changed"]
    # As gpg prints it for people.
    assert check(key=" ".join(keys["signer"][at : at + 4] for at in range(0, 40, 4)).lower())["files"] == 3


def test_a_manifest_that_was_altered(check, bundle):
    text = (bundle / "MANIFEST.json").read_text()
    (bundle / "MANIFEST.json").write_text(text.replace("debian-13", "debian-12"))
    said = check()["msg"]
    assert "of its MANIFEST.json it is not what was signed." in said and "bring it anew from who made it" in said


@pytest.mark.parametrize(
    ("change", "said"), [("altered", "releases/a is altered"), ("missing", "releases/a is missing"), ("link", "releases/a is altered")]
)
def test_a_file_that_is_another_one(check, bundle, change, said):
    file = bundle / "releases/a"
    file.unlink()
    if change == "altered":
        file.write_bytes(b"AN ARCHIVE")
    elif change == "link":
        shutil.copy(bundle.parent / "a", bundle.parent / "elsewhere")
        file.symlink_to(bundle.parent / "elsewhere")
    result = check()
    assert said in result["msg"] and "Bring it anew from where it was made, and run again." in result["msg"]
    assert result[{"link": "altered"}.get(change, change)] == ["releases/a"]


def test_files_that_nobody_named(check, bundle):
    (bundle / "wheels/debian-13-x86_64/torch.whl").write_bytes(b"")
    os.symlink("/etc", bundle / "etc")
    result = check()
    assert "etc, wheels/debian-13-x86_64/torch.whl are extra. Remove what is extra, and run again." in result["msg"]


def test_keys(check, bundle, keys):
    for key, said in (
        (keys["other"], f"it was signed by a key that is not known here ({keys['other'][-16:]})"),
        (keys["expired"], "it was signed by a key that is not known here"),
    ):
        sign(bundle, key, *(["--faked-system-time", "20200201T000000"] if key == keys["expired"] else []))
        assert said in check()["msg"]
    # Somebody else's bundle, with his key in it.
    ring = bundle.parent / "ring.asc"
    ring.write_text(gpg("--armor", "--export", keys["other"]) + gpg("--armor", "--export", keys["expired"]))
    sign(bundle, keys["other"])
    assert f"it was signed by the key {keys['other']}, not by {keys['signer']}" in check(keyring=str(ring))["msg"]
    assert check(keyring=str(ring), key=keys["other"])["files"] == 3
    sign(bundle, keys["expired"], "--faked-system-time", "20200201T000000")
    said = check(keyring=str(ring), key=keys["expired"])["msg"]
    assert f"the key {keys['expired']} that signed it has expired on 2020-" in said and "signed again by a key that you trust" in said


def test_a_key_that_was_revoked(check, bundle, keys, tmp_path):
    """Which only who has it from elsewhere can know."""
    key = make_key("revoked@example.com")
    sign(bundle, key)
    certificate = os.path.join(os.environ["GNUPGHOME"], "openpgp-revocs.d", f"{key}.rev")
    with open(certificate, encoding="utf-8") as handle:
        text = handle.read().replace(":-----BEGIN", "-----BEGIN")
    (tmp_path / "revocation").write_text(text[text.index("-----BEGIN") :])
    gpg("--import", str(tmp_path / "revocation"))
    (tmp_path / "ring").write_text(gpg("--armor", "--export", key))
    assert f"the key {key} that signed it was revoked" in check(keyring=str(tmp_path / "ring"), key=key)["msg"]


@pytest.mark.parametrize("key", ["signer@example.com", "0123456789ABCDEF", "zz"])
def test_a_key_is_a_whole_fingerprint(check, key):
    assert f"Refused the key {key!r}: it is no whole fingerprint" in check(key=key)["msg"]


def test_what_hosts_need(check):
    there = [{"path": "releases/a", "host": "gpu-1"}, {"path": "wheels/debian-13-x86_64", "host": "gpu-1"}]
    assert check(needs=there)["files"] == 3
    result = check(needs=[*there, *({"path": "packages/debian-12-x86_64", "host": f"gpu-{number}"} for number in (2, 3))])
    assert "it was made for debian-13-x86_64 and has no packages/debian-12-x86_64, which gpu-2, gpu-3 needs." in result["msg"]
    assert "Make it with this inventory, or correct modelfleet_offline_platform of these hosts." in result["msg"]
    assert "has no releas, which a needs" in check(needs=[{"path": "releas", "host": "a"}])["msg"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("no json", "is no JSON"),
        ("[]", "is of format None"),
        ('{"format": true}', "is of format True"),
        ('{"format": 2}', "is of format 2"),
        ('{"format": 1, "files": [], "parts": []}', "is none of this collection's"),
        ({"path": "../etc/passwd"}, "names '../etc/passwd', which is no file of a bundle"),
        ({"path": "releases/a"}, "names 'releases/a', which is no file of a bundle"),
        ({"sha256": "9F" * 32}, "is none of this collection's"),
        ({"size": "10"}, "is none of this collection's"),
    ],
)
def test_what_is_no_manifest(check, bundle, content, said):
    if isinstance(content, dict):
        found = json.loads((bundle / "MANIFEST.json").read_text())
        found["files"].append({**found["files"][-1], "path": "b", **content})
        content = json.dumps(found)
    (bundle / "MANIFEST.json").write_text(content)
    assert said in check(key="", unsigned=True)["msg"]


def test_what_is_no_bundle(check, bundle):
    assert "there is no such directory. Bring it here, or correct its path." in check(path=str(bundle / "nowhere"))["msg"]
    assert "it has no MANIFEST.json. Bring all of it" in check(path=str(bundle / "releases"))["msg"]
