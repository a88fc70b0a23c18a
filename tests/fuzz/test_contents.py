# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever lies in a file that a module reads, it reads it, says what is wrong with it, or takes it for none."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
import warnings
import zipfile

import pytest
import sandbox as _sandbox  # noqa: F401 it finds the collection
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle, _doctor_expiry, _model_archive, _started
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from hypothesis import example, given
from hypothesis import strategies as st
from inputs import changed, damaged, junk, odd_texts, texts

EMPTY = hashlib.sha256().hexdigest()
ENTRY = {
    "name": "m", "version": "1", "file": f"m-1-{'a' * 12}.mar", "kind": "object", "sha256": "a" * 64, "workers": 1, "default": True,
    "device": "cpu", "params": {},
}  # fmt: skip
RECORD = {
    "format": 1,
    "models": [ENTRY],
    "previous": [{**ENTRY, "version": "0", "retired": 1.5, "run": "r", "rolled_back": False}],
    "staged": [{**ENTRY, "version": "2", "since": 2, "run": "r"}],
}
DEEP = "[" * 100_000
HTTP = {"http": {"url": "http://127.0.0.1:1/store"}}


def as_file(value):
    return json.dumps(value, ensure_ascii=True).encode()


def files_like(value):
    """The bytes of a file with this JSON, nearly right."""
    return changed(value).map(as_file) | damaged(as_file(value)) | st.binary(max_size=20) | st.just(DEEP.encode()) | st.just(b"\xff")


# Bundles


@st.composite
def manifests(draw):
    names = draw(
        st.lists(
            st.sampled_from(["a", "b/c", "b/d", "Ä", "x y", "../up", "/abs", "a/../b", "a//b"]) | odd_texts,
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    pack = "f" * 64
    files, end = [], 0
    for name in sorted(names):
        size = draw(st.integers(0, 9))
        file = {
            "path": name,
            "size": size,
            "sha256": EMPTY if not size else hashlib.sha256(name.encode(errors="replace")).hexdigest(),
            "mode": "0644",
        }
        if size and draw(st.booleans()):
            file.update(pack=pack, offset=end)
            end += size
        files.append(file)
    packs = [{"sha256": pack, "size": end}] if end else []
    found = draw(changed({"format": 1, "files": files, "packs": packs}))
    with contextlib.suppress(UnicodeEncodeError, TypeError):
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
    return as_file(found)


@given(manifests() | st.binary(max_size=30) | manifests().flatmap(damaged))
@example(DEEP.encode())
def test_a_manifest_is_refused_or_is_what_it_says(content):
    try:
        found = _bundle.parse_manifest(content, "it")
    except ModelFleetError as exc:
        assert str(exc).startswith("Failed to read the manifest it: ") and str(exc).endswith(".")
        return
    assert _bundle.manifest_bytes(found) == content
    for file in found.files:
        assert not file.path.startswith("/") and not {"..", ".", ""} & set(file.path.split("/")) and "\0" not in file.path
    assert len(_bundle.blobs(found)) <= len(found.files) + len(found.packs)


# Archives


# Where a manifest is, and what else is looked for.
PLACES = [_model_archive.MANIFEST] * 5 + ["ts/frontend/model-server.jar", "META-INF/MANIFEST.MF"]


@st.composite
def archives(draw):
    """Zip archives that are nearly those of a model."""
    members = draw(
        st.lists(st.tuples(st.sampled_from(["handler.py", "MAR-INF/x", "../up", "/abs", "a/"]) | odd_texts, st.binary(max_size=30)))
    )
    manifest = draw(files_like({"createdOn": "", "model": {"modelName": "m", "modelVersion": "1", "requirementsFile": "r.txt"}}))
    kept = io.BytesIO()
    with (
        warnings.catch_warnings(),
        zipfile.ZipFile(kept, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive,
    ):
        # A name may be there twice.
        warnings.simplefilter("ignore")
        for name, content in [(draw(st.sampled_from(PLACES)), manifest), *members][draw(st.sampled_from([0, 0, 0, 1])) :]:
            with contextlib.suppress(UnicodeEncodeError, ValueError):
                info = zipfile.ZipInfo((name or "x")[:9000])
                info.external_attr = draw(st.sampled_from([0, 0o100644 << 16, 0o120777 << 16, 0o100755 << 16]))
                archive.writestr(info, content)
        archive.comment = draw(st.binary(max_size=5))
    return draw(damaged(kept.getvalue()) if draw(st.booleans()) else st.just(kept.getvalue()))


@given(archives() | st.binary(max_size=40))
def test_an_archive_is_reported_on_or_refused(sandbox, content):
    path = sandbox.put("archive.mar", content)
    result = sandbox.run("model_archive", {"src": path})
    if not result.get("failed"):
        assert result["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_member_without_a_name_is_refused(sandbox):
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr(_model_archive.MANIFEST, b'{"model": {}}')
        archive.writestr("xyz", b"")
    path = sandbox.put("archive.mar", kept.getvalue().replace(b"xyz", b"\0yz"))
    assert "the path '' has an empty component" in sandbox.run("model_bundle", {"src": path, "bundle": "b", "storage": HTTP})["msg"]


def test_a_manifest_that_grows_without_end_is_refused(sandbox):
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_model_archive.MANIFEST, b'{"model": {}}' + b" " * (64 << 20))
    assert "no model archive" in sandbox.run("model_archive", {"src": sandbox.put("archive.mar", kept.getvalue())})["msg"]


@given(archives() | st.binary(max_size=40), st.booleans())
def test_an_archive_is_taken_apart_or_refused(sandbox, content, check):
    path = sandbox.put("archive.mar", content)
    result = sandbox.run("model_bundle", {"src": path, "bundle": "b", "storage": HTTP}, check)
    # Nobody answers at the store.
    assert result["failed"]


def misnamed(count):
    """An archive in which so many of the two places with the name of its member are no UTF-8, as they say they are."""
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        archive.writestr("ü", b"")
    return kept.getvalue().replace("ü".encode(), b"\x80\x80", count)


@given(archives(), st.booleans())
@example(misnamed(1), False)
@example(misnamed(2), False)
def test_an_archive_in_the_place_of_a_new_one_is_replaced(sandbox, content, check):
    path = sandbox.put("new.mar", content)
    options = {"directory": f"{sandbox.named}/dir", "dest": path, "model_name": "m", "version": "1", "handler": "image_classifier"}
    assert "failed" not in sandbox.run("model_archive", options, check, diff=True)


@given(archives() | st.binary(max_size=40), archives() | st.binary(max_size=40), st.sampled_from(["torchserve_wheel", "torchserve_jar"]))
def test_a_plugin_is_built_of_any_wheel_and_over_any_jar_or_refused(sandbox, wheel, before, option):
    sandbox.put("src/X.java", b"class X {}")
    dest = sandbox.put("plugin.jar", before)
    sandbox.run("endpoint_plugin", {"src": f"{sandbox.named}/src", "dest": dest, option: sandbox.put("wheel.whl", wheel), "javac": "true"})


@st.composite
def releases(draw):
    """Archives of a release, with names that lead elsewhere and what is no file."""
    kept = io.BytesIO()
    with tarfile.open(fileobj=kept, mode=draw(st.sampled_from(["w", "w:gz"]))) as archive:
        for name in draw(
            st.lists(st.sampled_from(["dfget", "bin/dfget", "../dfget", "/dfget", "./dfget", "a/b/dfget"]) | odd_texts, max_size=4)
        ):
            member = tarfile.TarInfo(name)
            member.type = draw(
                st.sampled_from([tarfile.REGTYPE] * 4 + [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
            )
            member.linkname = draw(st.sampled_from(["/etc/passwd", "../../precious/file", "dfget"]))
            member.size = 3 if member.isreg() else 0
            with contextlib.suppress(UnicodeError, ValueError):
                archive.addfile(member, io.BytesIO(b"abc") if member.isreg() else None)
    return draw(damaged(kept.getvalue()) if draw(st.booleans()) else st.just(kept.getvalue()))


@given(releases(), st.none() | files_like({"version": "1", "sha256": "a" * 64, "programs": {"dfget": "a" * 64}}), st.booleans())
def test_a_release_is_unpacked_or_refused(sandbox, content, before, check):
    path = sandbox.put("release.tar", content)
    if before is not None:
        for version in ("1", "0"):
            sandbox.put(f"root/client/{version}/.release.json", before)
        sandbox.put("root/client/1/dfget", b"abc")
    options = {"name": "client", "version": "1", "src": path, "root": f"{sandbox.named}/root", "programs": ["dfget"], "keep": 0}
    result = sandbox.run("dragonfly_release", {**options, "sha256": hashlib.sha256(content).hexdigest()}, check, diff=True)
    if not result.get("failed") and not check:
        assert (sandbox.named / "root/client/current/dfget").read_bytes() == b"abc"


# Records


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("model_rollout_info", {}),
        ("torchserve_info", {}),
        ("torchserve_model", {"models": [{"name": "m", "version": "1", "state": "absent"}]}),
        ("model_rollout", {"state": "rolled_back", "models": [{"name": "m", "version": "1"}]}),
        ("model_rollout", {"state": "finished", "models": [{"name": "m", "version": "2"}]}),
    ],
    ids=lambda one: one if isinstance(one, str) else one.get("state", ""),
)
def test_a_record_is_read_or_refused(sandbox, module, options):
    @given(files_like(RECORD), st.booleans())
    def ends(content, check):
        sandbox.run(module, {**options, "record": sandbox.put("state/models.json", content)}, check, diff=True)

    ends()


@pytest.mark.parametrize("wrong", [{"name": 1}, {"file": None}, {"default": "x"}, {"workers": "1"}, {"params": []}, {"sha256": 5}])
def test_a_record_that_says_something_else_is_damaged(sandbox, wrong):
    path = sandbox.put("state/models.json", as_file({"format": 1, "models": [{**ENTRY, **wrong}]}))
    assert "it is damaged" in sandbox.run("torchserve_info", {"record": path})["msg"]


@given(
    files_like({"run": "r", "user": "u", "controller": "c", "pid": 1, "since": "s"}), st.sampled_from(["present", "absent"]), st.booleans()
)
def test_the_holder_of_a_lock_is_read(sandbox, content, state, take_over):
    holder = {"run": "r", "user": "me", "controller": "here", "pid": 2}
    options = {"path": sandbox.put("state/lock", content), "state": state, "holder": holder, "take_over": take_over}
    sandbox.run("rollout_lock", options)


PINS = b'modelfleet_release_pins:\n  client-1-amd64:\n    sha256: "%s"\n    source: "x"\n' % (b"a" * 64)


@given(damaged(PINS) | files_like({"modelfleet_release_pins": {}}) | texts.map(lambda text: text.encode(errors="replace")), st.booleans())
def test_the_pins_of_releases_are_read_or_refused(sandbox, content, check):
    release = {"name": "client", "version": "1", "architecture": "amd64", "src": f"{sandbox.named}/file"}
    sandbox.run("release_lock", {"path": sandbox.put("lock.yml", content), "releases": [release]}, check, diff=True)


@given(files_like({"inference": {"key": "abc", "expiration time": "2026-01-01T00:00:00Z"}, "management": {"key": "d"}}))
def test_the_keys_of_torchserve_are_read(sandbox, content):
    path = sandbox.put("key_file.json", content)
    assert isinstance(_doctor_expiry.keys_expire(path), (int, type(None)))
    sandbox.run("torchserve_info", {"key_file": path})


@given(st.binary(max_size=60) | texts.map(lambda text: text.encode(errors="replace")))
def test_what_a_daemon_was_started_from_is_read(sandbox, content):
    try:
        found = _started.read_started(sandbox.put("started", content))
    except ModelFleetError:
        return
    assert all(isinstance(path, str) for path in found)


# Until the thirteenth month of 1999.
CERTIFICATE = bytes.fromhex("3029302702010130003000301e") + 2 * b"\x17\x0d991331000000Z"


@given(st.binary(max_size=80))
@example(CERTIFICATE)
def test_the_end_of_a_certificate_is_read(content):
    assert isinstance(_doctor_expiry.not_after(content), (int, type(None)))


@given(junk | texts)
def test_a_manifest_of_a_model_names_texts(value):
    content = value.encode(errors="replace") if isinstance(value, str) else as_file(value)
    try:
        assert all(isinstance(one, str) for one in _model_archive.described(content))
    except ValueError:
        pass
