# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""With a real gpg. pip, apt and skopeo are scripts that write down how they were called; tests/test_offline_bundle.py of the
repository takes real ones."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import zipfile

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _offline_parts
from ansible_collections.modelfleet.serving.plugins.modules import offline_bundle, offline_bundle_check
from ansible_collections.modelfleet.serving.tests.unit.plugins.gpg_home import gpg, gpg_home, make_key

PLATFORM = "debian-13-x86_64"
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $*" >> {log}
[ ! -e {directory}/fails ] || {{ echo "E: nobody answers at https://user:hush@example.com/" >&2; exit 100; }}
case "$(basename "$0") $*" in
*"pip "*)
    for word; do case "$word" in --dest=*) dest=${{word#--dest=}} ;; --requirement=*) cat "${{word#--requirement=}}" >> {log} ;; esac; done
    cp {directory}/wheels/*.whl "$dest"
    ;;
*--print-uris*) echo "'https://user:hush@example.com/pool/tool_1.0_amd64.deb' tool_1.0_amd64.deb 6 SHA256:{deb}" ;;
*--download-only*)
    for word; do case "$word" in --option=Dir::Cache=*) cache=${{word#--option=Dir::Cache=}} ;; esac; done
    echo "a deb" > "$cache/archives/tool_1.0_amd64.deb"
    ;;
*apt-ftparchive*packages*) echo "Package: tool" ;;
*apt-ftparchive*release*) echo "Origin: modelfleet" ;;
*"skopeo inspect --raw"*) cat {directory}/manifest.json ;;
*"skopeo inspect"*) echo "BSD-3-Clause" ;;
*"skopeo copy"*)
    for word; do last=$word; done
    file=${{last#oci-archive:}}; echo "an image" > "${{file%%:*}}"
    ;;
esac
"""
WHEELS = {
    "path": f"wheels/{PLATFORM}",
    "platform": PLATFORM,
    "packages": ["torchserve==0.12.0"],
    "index_url": "https://user:hush@example.com/simple",
}
PACKAGES = {
    "path": f"packages/{PLATFORM}",
    "platform": PLATFORM,
    "names": ["tool"],
    "sources": ["deb [signed-by=/k.gpg] https://user:hush@example.com/d trixie main"],
}
IMAGE = {"path": "images/triton.tar", "image": f"nvcr.io/nvidia/tritonserver:25.07-py3@sha256:{'9f' * 32}", "platform": PLATFORM}


@pytest.fixture(scope="module")
def keys():
    with gpg_home():
        yield {"signer": make_key("signer@example.com"), "other": make_key("other@example.com")}


@pytest.fixture
def programs(tmp_path, monkeypatch):
    place = tmp_path / "programs"
    (place / "wheels").mkdir(parents=True)
    log = place / "log"
    log.touch()
    for name in ("python", "apt-get", "apt-ftparchive", "skopeo"):
        (place / name).write_text(PROGRAM.format(log=log, directory=place, deb=sha256(b"a deb\n")))
        (place / name).chmod(0o755)
    wheel(place / "wheels", "torchserve", "0.12.0", "License-Expression: Apache-2.0")
    (place / "manifest.json").write_text(json.dumps({"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []}))
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    return place


def wheel(place, project, version, *metadata):
    path = place / f"{project}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{project}-{version}.dist-info/METADATA", "\n".join([f"Name: {project}", *metadata, "", "text"]))
    return path


@pytest.fixture
def bundle(tmp_path, run_module, keys, programs):
    source = tmp_path / "client.tar.gz"
    source.write_bytes(b"an archive")

    def run(check=False, diff=False, **options):
        (programs / "log").write_text("")
        file = {"path": "releases/client.tar.gz", "src": str(source), "licence": "Apache-2.0"}
        args = {"path": str(run.path), "key": keys["signer"], "platforms": [PLATFORM], "files": [file], **options}
        for one in args.get("wheels", []):
            one.setdefault("pip", str(programs / "python"))
        result = run_module(offline_bundle.main, args, check=check, diff=diff)
        assert "hush" not in str(dict(result))
        return result

    run.path, run.source = tmp_path / "bundle", source
    run.calls = (programs / "log").read_text
    run.manifest = lambda: json.loads((run.path / "MANIFEST.json").read_text())
    return run


@pytest.fixture
def checked(bundle, run_module, keys):
    """What the other module says of it."""

    def run(**options):
        return run_module(offline_bundle_check.main, {"path": str(bundle.path), "key": keys["signer"], **options})

    return run


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_names_and_signs_what_is_in_it(bundle, checked, keys):
    predicted = bundle(check=True, diff=True)
    assert predicted["changed"] and not bundle.path.exists()
    assert "releases/client.tar.gz (made anew)" in predicted["diff"]["after"]
    result = bundle(diff=True)
    assert result["changed"] and result["made"] == ["key.asc", "releases/client.tar.gz"] and result["key"] == keys["signer"]
    assert f"releases/client.tar.gz {sha256(b'an archive')}" in result["diff"]["after"]
    (_key, file) = bundle.manifest()["files"]
    expected = {"path": "releases/client.tar.gz", "size": 10, "sha256": sha256(b"an archive"), "source": "client.tar.gz"}
    assert file == {**expected, "licence": "Apache-2.0"}
    gpg("--verify", str(bundle.path / "MANIFEST.json.asc"), str(bundle.path / "MANIFEST.json"))
    assert checked()["files"] == 2
    assert not bundle()["changed"] and not bundle(check=True)["changed"]
    assert {path.stat().st_mode & 0o777 for path in bundle.path.rglob("*") if path.is_file()} == {0o644}


def test_gets_again_what_is_not_whole(bundle, checked):
    bundle()
    (bundle.path / "releases/client.tar.gz").write_bytes(b"AN ARCHIVE")
    assert bundle(check=True)["made"] == ["releases/client.tar.gz"]
    assert bundle()["made"] == ["releases/client.tar.gz"] and checked()["files"] == 2
    (bundle.path / "MANIFEST.json.asc").unlink()
    again = bundle()
    assert again["changed"] and again["made"] == [] and checked()["files"] == 2


def test_removes_what_it_made_and_nothing_else(bundle, checked, tmp_path):
    (tmp_path / "other").write_bytes(b"other")
    bundle(files=[{"path": "other/file", "src": str(tmp_path / "other")}])
    result = bundle()
    assert result["removed"] == ["other/file"] and not (bundle.path / "other").exists()
    (bundle.path / "mine").write_text("notes")
    assert "mine would be lost in it, for no manifest names it" in bundle()["msg"] and (bundle.path / "mine").exists()
    assert "mine is extra. Remove what is extra, and run again." in checked()["msg"]


def test_a_run_that_was_killed_is_none(bundle, checked):
    bundle()
    (bundle.path / ".modelfleet-new").mkdir()
    (bundle.path / ".modelfleet-new/half").write_text("half")
    assert not bundle()["changed"] and not (bundle.path / ".modelfleet-new").exists()


def test_one_run_at_a_time(bundle):
    bundle()
    guard = os.open(bundle.path, os.O_RDONLY)
    fcntl.flock(guard, fcntl.LOCK_EX)
    (bundle.path / ".modelfleet-new").mkdir()
    assert "another run is making it. Wait for its end." in bundle()["msg"] and (bundle.path / ".modelfleet-new").exists()
    os.close(guard)
    assert not bundle()["changed"]


def test_downloads_what_has_a_digest(bundle, tmp_path):
    url = (tmp_path / "client.tar.gz").as_uri()
    file = {"path": "releases/client.tar.gz", "url": url}
    assert "has no sha256, so nobody could tell what it is. Add it." in bundle(files=[file])["msg"]
    wrong = bundle(files=[{**file, "sha256": "9f" * 32}])
    assert f"its sha256 is {sha256(b'an archive')}, expected {'9f' * 32}" in wrong["msg"] and not (bundle.path / "MANIFEST.json").exists()
    assert bundle(files=[{**file, "sha256": sha256(b"an archive").upper()}])["changed"]
    bundle.source.unlink()
    assert not bundle(files=[{**file, "sha256": sha256(b"an archive")}])["changed"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": ""}, "nobody would sign it"),
        ({"key": "nobody@example.com"}, "names 0 secret keys of gpg"),
        ({"key": "example.com"}, "names 2 secret keys of gpg"),
        ({"platforms": ["debian-9-x86_64"]}, "Refused the platform 'debian-9-x86_64'"),
        ({"files": [{"path": "../x", "src": "/etc/hostname"}]}, "it is no path below the directory"),
        ({"files": [{"path": "MANIFEST.json", "src": "/etc/hostname"}]}, "the bundle has files of its own of that name"),
        (
            {"files": [{"path": "a", "src": "/etc/hostname"}, {"path": "a/b", "src": "/etc/hostname"}]},
            "something else of the bundle lies there",
        ),
        ({"files": [{"path": "a", "src": "/etc/hostname", "sha256": "9f"}]}, "it is not 64 hexadecimal digits"),
        ({"files": [{"path": "a", "src": "/nowhere"}]}, "Failed to read /nowhere for a: No such file or directory. Put the file there"),
        ({"packages": [{**PACKAGES, "platform": "el-9-x86_64"}]}, "bundles have those of Debian and Ubuntu only"),
        ({"packages": [{**PACKAGES, "platform": "ubuntu-22.04-x86_64", "sources": []}]}, "so its own sources have others"),
        ({"images": [{**IMAGE, "image": "example.com/a:1"}]}, "a bundle has images by their digest"),
    ],
)
def test_refuses_in_one_sentence(bundle, options, said):
    result = bundle(**options)
    assert result["failed"] and said in result["msg"] and not (bundle.path / "MANIFEST.json").exists()


def test_gets_wheels_for_the_hosts(bundle, programs):
    first = {**WHEELS, "first": ["torch==2.6.0"], "first_index_url": "https://example.com/cu124"}
    result = bundle(wheels=[first])
    assert result["made"][-1] == WHEELS["path"]
    calls = bundle.calls()
    assert calls.count("-m pip ") == 2 and calls.index("torch==2.6.0") < calls.index("torchserve==0.12.0")
    for word in ("--only-binary=:all:", "--python-version=3.13", "--platform=manylinux_2_41_x86_64", "--platform=manylinux2014_x86_64"):
        assert word in calls
    assert "--platform=manylinux_2_42_x86_64" not in calls and "--index-url=https://example.com/cu124" in calls
    (file,) = [file for file in bundle.manifest()["files"] if file["path"].startswith("wheels/")]
    assert file["source"] == "https://example.com/cu124" and file["licence"] == "Apache-2.0"
    assert not bundle(wheels=[dict(first)])["changed"] and bundle.calls() == ""
    # Newer ones, or others, only for who asks.
    assert bundle(wheels=[dict(first)], refresh=True)["made"] == [WHEELS["path"]]
    assert bundle(wheels=[{**first, "python": "3.11"}])["made"] == [WHEELS["path"]] and "--python-version=3.11" in bundle.calls()
    (programs / "fails").touch()
    failed = bundle(wheels=[dict(WHEELS)])
    assert "Failed to download torchserve==0.12.0 for debian-13-x86_64 with Python 3.13 from https://example.com/simple" in failed["msg"]


def test_a_wheel_has_the_hash_of_its_line(bundle, programs):
    digest = sha256((programs / "wheels/torchserve-0.12.0-py3-none-any.whl").read_bytes())
    for how in ({"packages": ["torchserve==0.12.0 --hash=sha256:{}"]}, {"hashes": {"torchserve==0.12.0": "sha256:{}"}}):
        text = json.dumps({**WHEELS, **how})
        wrong = bundle(wheels=[json.loads(text.replace("{}", "9f" * 32))])
        assert f"its sha256 is {digest}, and torchserve==0.12.0 has another hash" in wrong["msg"]
        assert bundle(wheels=[json.loads(text.replace("{}", digest))], refresh=True)["changed"]
    assert "--hash" not in bundle.calls()


def test_two_indexes_with_one_name(bundle, programs, monkeypatch):
    real = _offline_parts._take
    monkeypatch.setattr(_offline_parts, "_take", lambda source, *rest: (_append(source), real(source, *rest)))
    assert "two package indexes have different files of that name" in bundle(wheels=[{**WHEELS, "first": ["a"]}])["msg"]


def _append(path):
    with open(path, "ab") as handle:
        handle.write(os.urandom(8))


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        (["License-Expression: MIT"], "MIT"),
        (["License: BSD"], "BSD"),
        (["License: " + "long " * 50, "Classifier: License :: OSI Approved :: MIT License"], "MIT License"),
        ([], ""),
    ],
)
def test_licence_of_a_wheel(tmp_path, metadata, licence):
    assert _offline_parts.licence_of_wheel(wheel(tmp_path, "a", "1", *metadata)) == licence


def test_licence_of_what_is_no_wheel(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"PK nothing")
    assert _offline_parts.licence_of_wheel(tmp_path / "a.whl") == ""


def test_packages_are_a_repository_that_is_signed(bundle, keys):
    assert PACKAGES["path"] in bundle(packages=[PACKAGES])["made"]
    files = {file["path"].rpartition("/")[2]: file for file in bundle.manifest()["files"]}
    assert set(files) == {"client.tar.gz", "key.asc", "tool_1.0_amd64.deb", "Packages", "Release", "InRelease"}
    assert files["tool_1.0_amd64.deb"]["source"] == "https://example.com/pool/tool_1.0_amd64.deb"
    gpg("--verify", str(bundle.path / PACKAGES["path"] / "InRelease"))
    calls = bundle.calls()
    for word in ("Dir::State::status=", "APT::Architecture=amd64", "--no-install-recommends install --download-only -- tool"):
        assert word in calls
    assert not bundle(packages=[PACKAGES])["changed"] and bundle.calls() == ""
    # Whoever signs the packages is whoever signs the rest.
    assert bundle(packages=[PACKAGES], key=keys["other"])["made"] == ["key.asc", PACKAGES["path"]]


def test_what_fails_leaves_the_bundle_as_it_was(bundle, checked, programs):
    bundle(wheels=[dict(WHEELS)])
    (programs / "fails").touch()
    failed = bundle(wheels=[dict(WHEELS)], packages=[PACKAGES])
    assert "Failed to read the lists of the packages of debian-13-x86_64: E: nobody answers at https://example.com/" in failed["msg"]
    assert checked()["files"] == 3 and not (bundle.path / ".modelfleet-new").exists()


def test_images_are_copied_as_they_are(bundle, programs):
    assert IMAGE["path"] in bundle(images=[IMAGE])["made"]
    (file,) = [file for file in bundle.manifest()["files"] if file["path"] == IMAGE["path"]]
    assert file["source"] == IMAGE["image"] and file["licence"] == "BSD-3-Clause"
    assert f"copy --quiet --preserve-digests docker://nvcr.io/nvidia/tritonserver@sha256:{'9f' * 32} oci-archive:" in bundle.calls()
    assert "triton.tar:nvcr.io/nvidia/tritonserver:offline" in bundle.calls()
    assert not bundle(images=[IMAGE])["changed"]
    for answer, said in (
        ({"manifests": [{"digest": "sha256:1", "platform": {"architecture": "amd64"}}]}, "Take that for x86_64: sha256:1."),
        ([], "this digest"),
    ):
        (programs / "manifest.json").write_text(json.dumps(answer))
        result = bundle(images=[IMAGE], refresh=True)
        assert result.get("failed", False) == bool(answer)
        assert not answer or said in result["msg"]


def test_without_a_signature_only_for_who_says_so(bundle, checked):
    assert bundle(key="", unsigned=True)["key"] == ""
    assert not (bundle.path / "MANIFEST.json.asc").exists() and not (bundle.path / "key.asc").exists()
    assert "MANIFEST.json.asc is missing, so nobody can tell who signed it" in checked()["msg"]
    assert "no key says who may have signed it" in checked(key="")["msg"]
    assert checked(key="", unsigned=True)["files"] == 1


def test_the_keys_of_the_one_who_makes_it_are_as_before(bundle, keys):
    before = gpg("--list-keys")
    bundle()
    assert gpg("--list-keys") == before
    assert subprocess.run(["gpg", "--list-packets", bundle.path / "key.asc"], capture_output=True, check=True).stdout.count(b"secret") == 0
