# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _bundle
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import File, Manifest, Pack
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

EMPTY = hashlib.sha256().hexdigest()
ONE, TWO, THREE, PACK = ("{:064x}".format(number) for number in range(1, 5))
MANIFEST = Manifest(
    [
        File("MAR-INF/MANIFEST.json", 10, ONE, "0644", PACK, 0),
        File("bin/run", 20, TWO, "0755", PACK, 10),
        File("empty", 0, EMPTY, "0644"),
        File("weights/ä.bin", 5 << 20, THREE, "0644"),
    ],
    [Pack(PACK, 30)],
)


def canonical(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def test_a_manifest_is_what_it_was():
    content = _bundle.manifest_bytes(MANIFEST)
    assert _bundle.parse_manifest(content, "m") == MANIFEST
    assert content == canonical(json.loads(content)) and json.loads(content)["format"] == 1
    assert json.loads(content)["files"][3] == {"mode": "0644", "path": "weights/ä.bin", "sha256": THREE, "size": 5 << 20}
    assert json.loads(content)["files"][1]["offset"] == 10
    assert MANIFEST.size == 30 + (5 << 20)


def test_what_must_be_fetched():
    assert _bundle.blobs(MANIFEST) == {PACK: 30, THREE: 5 << 20}
    assert _bundle.blobs(Manifest([File("a", 9, ONE, "0644"), File("b", 9, ONE, "0755")], [])) == {ONE: 9}
    assert _bundle.manifest_key("models/a", ONE) == "models/a/manifests/" + ONE + ".json"
    assert _bundle.blob_key("models/a", ONE) == "models/a/blobs/" + ONE


def changed(change):
    found = json.loads(_bundle.manifest_bytes(MANIFEST))
    change(found)
    return canonical(found)


def file_with(**values):
    return changed(lambda found: found["files"][3].update(values))


def packed_with(**values):
    return changed(lambda found: found["files"][1].update(values))


def paths(*names):
    files = [{"mode": "0644", "path": name, "sha256": THREE, "size": 9} for name in names]
    return canonical({"files": files, "format": 1, "packs": []})


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is not JSON"),
        (b"{", "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"\xff\xfe", "it is not UTF-8 (byte 0)"),
        (b"[]", "it is not a JSON object"),
        (_bundle.manifest_bytes(MANIFEST) + b"\n", "canonical form"),
        (_bundle.manifest_bytes(MANIFEST).replace(b'"format":1', b'"format": 1'), "canonical form"),
        (_bundle.manifest_bytes(MANIFEST).replace(b'"format":1', b'"format":1,"format":1'), "canonical form"),
        (_bundle.manifest_bytes(MANIFEST).replace("ä".encode(), b"\\u00e4"), "canonical form"),
        (
            changed(lambda found: found.update(format=2)),
            "it has the format 2, and this version of the collection knows the format 1. Update",
        ),
        (changed(lambda found: found.update(format=True)), "its format is not a whole number"),
        (changed(lambda found: found.update(format="1")), "its format is not a whole number"),
        (changed(lambda found: found.update(more=1)), "it has 'files', 'format', 'more', 'packs', not files, format, packs"),
        (changed(lambda found: found.pop("packs")), "it has 'files', 'format', not"),
        (changed(lambda found: found.update(files={})), "its files is not a list"),
        (changed(lambda found: found.update(packs=None)), "its packs is not a list"),
        (changed(lambda found: found.update(files=[])), "it has 0 files"),
        (changed(lambda found: found.update(files=[0])), "file 0 is not an object"),
        (changed(lambda found: found["files"][3].pop("mode")), "file 3 has 'path', 'sha256', 'size', not mode, path, sha256, size"),
        (file_with(link="/etc/passwd"), "file 3 has 'link'"),
        (packed_with(pack=None), "the pack of the file 'bin/run' is not text"),
        (changed(lambda found: found["files"][1].pop("offset")), "file 1 has"),
        (file_with(path=7), "the path of file 3 is not text"),
        (file_with(path="/etc/passwd"), "the path '/etc/passwd' of file 3 is absolute"),
        (file_with(path="../etc/passwd"), "has the component '.' or '..'"),
        (file_with(path="a/./b"), "has the component '.' or '..'"),
        (file_with(path=""), "the path '' of file 3 has an empty component"),
        (file_with(path="a//b"), "has an empty component"),
        (file_with(path="a/"), "has an empty component"),
        (file_with(path="a\\b"), "has a backslash"),
        (file_with(path="a\nb"), "has a control character"),
        (file_with(path="a\x00b"), "has a control character"),
        (file_with(path="a\x85b"), "has a control character"),
        (file_with(path="n" * 256), "is longer than 2048 bytes, or a component of it than 255"),
        (file_with(path="d/" * 1100 + "n"), "is longer than 2048 bytes"),
        (canonical(json.loads(file_with(path="@"))).replace(b"@", b"\\ud800"), "is not UTF-8"),
        (file_with(mode="0777"), "the file 'weights/ä.bin' has the mode '0777', not 0644 or 0755"),
        (file_with(mode=420), "has the mode 420"),
        (file_with(mode=["0644"]), "has the mode ['0644']"),
        (file_with(sha256=None), "the sha256 of the file 'weights/ä.bin' is not text"),
        (file_with(sha256="A" * 64), "is not 64 lower-case hexadecimal digits"),
        (file_with(sha256="a" * 63), "is not 64 lower-case hexadecimal digits"),
        (file_with(sha256="a" * 64 + "\n"), "is not 64 lower-case hexadecimal digits"),
        (file_with(size=-1), "the size of the file 'weights/ä.bin' is -1, less than 0"),
        (file_with(size=1.0), "is not a whole number"),
        (file_with(size=True), "is not a whole number"),
        (file_with(size=0), "has 0 bytes and the sha256 " + THREE + ", which do not fit"),
        (file_with(sha256=EMPTY), "which do not fit"),
        (file_with(sha256=TWO), "has {} bytes, but what has its sha256 elsewhere has 20".format(5 << 20)),
        (packed_with(pack=ONE), "is in the pack " + ONE + ", which is not among its packs"),
        (packed_with(pack="../" + ONE), "the pack of the file 'bin/run' is not 64 lower-case"),
        (packed_with(offset=-1), "the offset of the file 'bin/run' is -1"),
        (packed_with(offset=11), "ends at byte 31 of the pack " + PACK + ", which has 30"),
        (packed_with(size=0, sha256=EMPTY), "is empty, but in a pack"),
        (changed(lambda found: found["packs"][0].update(size=0)), "the size of pack 0 is 0, less than 1"),
        (changed(lambda found: found["packs"][0].update(sha256="x")), "the sha256 of pack 0 is not 64"),
        (changed(lambda found: found["packs"][0].update(more=1)), "pack 0 has 'more', 'sha256', 'size', not sha256, size"),
        (changed(lambda found: found["packs"].append({"sha256": "f" * 64, "size": 1})), "no file is in the pack " + "f" * 64),
        (changed(lambda found: found["packs"].insert(0, found["packs"][0])), "its packs are not sorted, or one is there twice"),
        (paths("a", "a"), "the paths 'a' and 'a' are the same path"),
        (paths("A/b", "a/B"), "the paths 'a/B' and 'A/b' differ only in case"),
        (paths("a", "a/b"), "the paths 'a/b' and 'a' are a file and a directory of one name"),
        (paths("a", "a.b", "a/b/c"), "the paths 'a/b/c' and 'a' are a file and a directory of one name"),
        (paths("A/b/c", "a"), "the paths 'A/b/c' and 'a' are a file and a directory of one name"),
        (paths("b", "a"), "its files are not sorted"),
    ],
)
def test_what_is_refused(content, said):
    with pytest.raises(ModelFleetError) as raised:
        _bundle.parse_manifest(content, "s3://models/m.json")
    message = str(raised.value)
    assert said in message
    assert message.startswith("Failed to read the manifest s3://models/m.json: ") and message.endswith(".") and "\n" not in message


def test_more_than_a_manifest_may_have(monkeypatch):
    monkeypatch.setattr(_bundle, "MAX_FILES", 2)
    assert _bundle.parse_manifest(paths("a", "b"), "m")
    with pytest.raises(ModelFleetError, match=r"it has 3 files, not 1 to 2\. Publish a tree"):
        _bundle.parse_manifest(paths("a", "b", "c"), "m")
    monkeypatch.setattr(_bundle, "MAX_MANIFEST", 10)
    with pytest.raises(ModelFleetError, match=r"bytes, more than 10\. Publish a tree"):
        _bundle.parse_manifest(paths("a", "b"), "m")
