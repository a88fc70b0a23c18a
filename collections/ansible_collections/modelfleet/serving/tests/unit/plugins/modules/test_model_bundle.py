# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module makes of files, with a store in memory. Each store's real client is tested in the repository."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import stat
import zipfile

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _publish_object
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import blobs, parse_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_answers import Progress, Refusal
from ansible_collections.modelfleet.serving.plugins.modules import model_bundle
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_bucket import Bucket

SECRET = "PLANTEDSECRETKEY"
ABOUT = {"model": {"modelName": "resnet50", "modelVersion": "1.0"}}
LARGE = random.Random(1).randbytes(3000)
FILES = {
    "MAR-INF/MANIFEST.json": json.dumps(ABOUT).encode(),
    "a.bin": b"a" * 1000,
    "deep/er/handler.py": b"class Handler: pass\n",
    "deep/same.py": b"class Handler: pass\n",
    "empty": b"",
    "weights ä.bin": LARGE,
    "z/.hidden": b"z" * 900,
}


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch):
    monkeypatch.setattr(model_bundle, "_SMALL", 1000)
    monkeypatch.setattr(model_bundle, "_PACK", 1500)
    monkeypatch.setattr(model_bundle, "_PACK_LEAST", 1500)
    monkeypatch.setattr(model_bundle, "_BLOCK", 256)


@pytest.fixture
def bucket(monkeypatch):
    bucket = Bucket()
    monkeypatch.setattr(_publish_object, "CLIENTS", {"s3": bucket})
    return bucket


@pytest.fixture
def src(tmp_path):
    for name, content in FILES.items():
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    (tmp_path / "model/z/.hidden").chmod(0o700)
    (tmp_path / "model/nothing").mkdir()
    return tmp_path / "model"


@pytest.fixture
def publish(run_module, bucket, src):
    args = {
        "storage": {"s3": {"bucket": "models", "access_key": "READ", "secret_key": "READ" + SECRET}},
        "credentials": {"s3": {"access_key": "WRITE", "secret_key": SECRET}},
        "bundle": "models/resnet50",
        "src": str(src),
    }

    def run(check=False, **changes):
        result = run_module(model_bundle.main, {**args, **changes}, check=check, diff=True)
        assert SECRET not in json.dumps(result)
        return result

    return run


def tree(bucket, sha256):
    """What a host makes of the objects in the store: {path: (mode, content)}."""
    content = bucket.objects["models/resnet50/manifests/{}.json".format(sha256)][0]
    assert hashlib.sha256(content).hexdigest() == sha256
    manifest, found = parse_manifest(content, "m"), {}
    stored = {one: bucket.objects["models/resnet50/blobs/" + one][0] for one in blobs(manifest)}
    assert all(hashlib.sha256(blob).hexdigest() == one for one, blob in stored.items())
    for file in manifest.files:
        blob = stored[file.pack][file.offset : file.offset + file.size] if file.pack else stored.get(file.sha256, b"")
        assert hashlib.sha256(blob).hexdigest() == file.sha256
        found[file.path] = (file.mode, blob)
    return found


def archive(path, files, **entries):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in files.items():
            packed.writestr(entries.get(name, name), content)
    return str(path)


def test_publishes_every_file_and_the_manifest_last(publish, bucket):
    result = publish()
    wanted = {name: ("0644", content) for name, content in FILES.items()}
    assert tree(bucket, result["sha256"]) == {**wanted, "z/.hidden": ("0755", FILES["z/.hidden"])}
    assert list(bucket.objects)[-1] == "models/resnet50/manifests/{}.json".format(result["sha256"])
    assert result["changed"] and result["manifest"] == "s3://models/" + list(bucket.objects)[-1]
    sizes = [len(content) for content, _sha256 in bucket.objects.values()]
    assert (result["files"], result["blobs"], result["bytes"]) == (7, 3, sum(map(len, FILES.values())))
    assert (result["blobs_sent"], result["bytes_sent"]) == (3, sum(sizes))
    assert (result["model_name"], result["version"], result["bundle"]) == ("resnet50", "1.0", "models/resnet50")
    assert result["diff"]["before"] == "" and all(key in result["diff"]["after"] for key in bucket.objects)


def test_small_files_share_packs(publish, bucket):
    """In the order of their paths, up to the size of a pack; the same content once."""
    manifest = parse_manifest(bucket.objects[list(bucket.objects)[-1]][0], "m") if publish() else None
    packs = [(file.path, file.pack and file.offset) for file in manifest.files]
    about = len(FILES["MAR-INF/MANIFEST.json"])
    assert packs[:4] == [
        ("MAR-INF/MANIFEST.json", 0),
        ("a.bin", about),
        ("deep/er/handler.py", about + 1000),
        ("deep/same.py", about + 1000),
    ]
    assert packs[4:] == [("empty", None), ("weights ä.bin", None), ("z/.hidden", 0)]
    assert len(manifest.packs) == 2


def test_idempotent(publish, bucket):
    first = publish()
    bucket.calls.clear()
    second = publish()
    assert not second["changed"] and second["sha256"] == first["sha256"]
    assert (second["blobs"], second["blobs_sent"], second["bytes_sent"]) == (3, 0, 0)
    assert set(bucket.calls) == {"head"} and second["diff"]["before"] == second["diff"]["after"] == first["diff"]["after"]


def test_check_mode_says_what_would_go(publish, bucket):
    predicted = publish(check=True)
    assert bucket.objects == {} and predicted["changed"]
    done = publish()
    assert predicted == done
    assert not publish(check=True)["changed"]


def test_another_version_sends_what_is_new(publish, bucket, src):
    first = publish()
    (src / "z/.hidden").write_bytes(b"y" * 900)
    second = publish()
    assert second["sha256"] != first["sha256"] and second["changed"]
    assert second["blobs_sent"] == 1 and second["bytes_sent"] < len(LARGE)
    assert tree(bucket, first["sha256"])["z/.hidden"] == ("0755", b"z" * 900)
    assert tree(bucket, second["sha256"])["z/.hidden"] == ("0755", b"y" * 900)


def test_a_change_in_a_small_file_leaves_the_other_packs(publish, src, monkeypatch):
    monkeypatch.setattr(model_bundle, "_PACK", 40_000)
    monkeypatch.setattr(model_bundle, "_PACK_LEAST", 5_000)
    for number in range(1000):
        (src / "{:04}".format(number)).write_bytes(random.Random(number).randbytes(100))
    first = publish()
    assert first["blobs"] > 10
    (src / "0100").write_bytes(b"longer than it was " * 20)
    second = publish()
    assert second["blobs_sent"] == 1 and second["blobs"] == first["blobs"]


def test_the_same_files_give_the_same_manifest(publish, src, tmp_path):
    first = publish()
    other = tmp_path / "other place"
    for name in reversed(list(FILES)):
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_bytes(FILES[name])
        os.utime(other / name, (1, 1))
        (other / name).chmod(0o600)
    (other / "z/.hidden").chmod(0o555)
    assert publish(src=str(other))["sha256"] == first["sha256"]
    assert publish(sha256=first["sha256"].upper())["sha256"] == first["sha256"]
    (other / "empty").chmod(0o755)
    assert publish(src=str(other))["sha256"] != first["sha256"]


def test_an_archive_gives_what_its_files_give(publish, bucket, src, tmp_path):
    script = zipfile.ZipInfo("z/.hidden")
    script.create_system, script.external_attr = 3, 0o100755 << 16
    mar = archive(tmp_path / "model.mar", {"z/": b"", **FILES}, **{"z/.hidden": script})
    first = publish(src=mar)
    assert first["changed"] and tree(bucket, first["sha256"])["weights ä.bin"] == ("0644", LARGE)
    assert publish()["sha256"] == first["sha256"]
    assert not publish(src=mar)["changed"]


def test_the_store_is_healed(publish, bucket):
    """What is lost or is not what its name says goes there again, and what was interrupted is finished."""
    result = publish()
    keys = list(bucket.objects)
    del bucket.objects[keys[0]]
    bucket.objects[keys[1]] = (b"half", "")
    bucket.objects[keys[2]] = (b"other", "0" * 64)
    again = publish()
    assert again["changed"] and again["blobs_sent"] == 3 and "half" not in json.dumps(again["diff"]["after"])
    assert tree(bucket, result["sha256"])


def test_what_was_sent_before_a_failure_is_told(publish, bucket):
    put, sent = bucket.put, []

    def refuse_the_second(key, *more):
        if sent:
            raise Refusal("permission is denied (403)", "Allow it")
        sent.append(key)
        put(key, *more)

    bucket.put = refuse_the_second
    result = publish()
    assert result["failed"] and result["changed"] and result["blobs_sent"] == 1
    assert result["msg"].startswith("Failed to write s3://models/models/resnet50/blobs/") and "permission is denied" in result["msg"]
    assert list(bucket.objects) == sent
    bucket.put = put
    assert publish()["blobs_sent"] == 2


def test_progress_counts_all_of_them(publish, bucket, monkeypatch):
    """Also with a client that knows how far it is in one object, and says nothing of its end."""
    made, put = [], bucket.put
    monkeypatch.setattr(model_bundle, "Progress", lambda *options: made.append(Progress(*options)) or made[0])

    def put_and_say_half(key, src, size, sha256, found, progress):
        put(key, src, size, sha256, found, Progress(None, size))
        progress.at(size // 2)

    bucket.put = put_and_say_half
    assert publish()["bytes_sent"] == made[0].total == made[0].done


def test_links_are_published_as_what_they_point_to(publish, bucket, src):
    (src / "deep/link").symlink_to("../z/.hidden")
    (src / "absolute").symlink_to(src / "a.bin")
    found = tree(bucket, publish()["sha256"])
    assert found["deep/link"] == ("0755", FILES["z/.hidden"]) and found["absolute"] == ("0644", FILES["a.bin"])


def test_the_directory_may_be_a_link(publish, src, tmp_path):
    (tmp_path / "link").symlink_to(src)
    assert publish(src=str(tmp_path / "link"))["sha256"] == publish()["sha256"]


def link(name, to):
    return lambda src: (src / name).symlink_to(to)


def unix_socket(src):
    place = os.getcwd()
    os.chdir(str(src))
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(place)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (link("out", "/etc/hostname"), "out' is a link that leads out of the directory. Put the file itself there."),
        (link("out", "../outside"), "out' is a link that leads out of the directory"),
        (link("folder", "deep"), "folder' is a link to a directory"),
        (link("folder", "/etc"), "folder' is a link to a directory"),
        (link("gone", "nowhere"), "gone' cannot be read (No such file or directory)"),
        (link("loop", "loop"), "loop' cannot be read (Too many levels of symbolic links)"),
        (lambda src: os.mkfifo(str(src / "pipe")), "pipe' is not a regular file"),
        (unix_socket, "socket' is not a regular file"),
        (lambda src: (src / "a\\b").touch(), "the path 'a\\\\b' has a backslash"),
        (lambda src: (src / "a\nb").touch(), "the path 'a\\nb' has a control character"),
        (lambda src: open(os.fsencode(str(src)) + b"/\xff", "w").close(), "the path '\\udcff' is not UTF-8"),
        (lambda src: (src / "A.bin").touch(), "'a.bin' and 'A.bin' differ only in case. Rename one of them."),
        (lambda src: (src / "DEEP").touch(), "are a file and a directory of one name"),
        (lambda src: (src / "MAR-INF/MANIFEST.json").write_text("{"), "its MAR-INF/MANIFEST.json is damaged"),
        (lambda src: (src / "MAR-INF/MANIFEST.json").write_text("{}"), "its MAR-INF/MANIFEST.json is damaged"),
        (lambda src: (src / "MAR-INF/MANIFEST.json").write_text(" " * 2000), "its MAR-INF/MANIFEST.json is damaged"),
    ],
)
def test_what_cannot_be_in_a_bundle(publish, bucket, src, change, said):
    change(src)
    result = publish()
    assert result["failed"] and said in result["msg"], result["msg"]
    assert result["msg"].startswith("Failed to publish {} as a bundle: ".format(src)) and "exception" not in result
    assert bucket.calls == []


def linked(name):
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry


@pytest.mark.parametrize(
    ("files", "entries", "said"),
    [
        ({"../out": b""}, {}, "the path '../out' has the component '.' or '..'"),
        ({"/out": b""}, {}, "the path '/out' is absolute"),
        ({"A.bin": b""}, {}, "'a.bin' and 'A.bin' differ only in case"),
        ({"link": b"/etc/passwd"}, {"link": linked("link")}, "its member 'link' is not a regular file"),
        ({"again": b""}, {"again": "a.bin"}, "it has two members 'a.bin'"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_cannot_be_in_an_archive(publish, bucket, tmp_path, files, entries, said):
    result = publish(src=archive(tmp_path / "model.mar", {**FILES, **files}, **entries))
    assert result["failed"] and said in result["msg"], result["msg"]
    assert bucket.calls == []


def test_what_is_no_archive(publish, bucket, tmp_path):
    (tmp_path / "text.mar").write_text("text")
    result = publish(src=str(tmp_path / "text.mar"))
    assert result["failed"] and "is neither a directory nor a model archive. Check src." in result["msg"]
    result = publish(src=archive(tmp_path / "any.zip", {"a": b""}))
    assert result["failed"] and "it has no MAR-INF/MANIFEST.json" in result["msg"]
    mar = archive(tmp_path / "model.mar", {**FILES, "b.bin": b"b" * 9000})
    with open(mar, "r+b") as handle:
        handle.seek(len(FILES["MAR-INF/MANIFEST.json"]) + 150)
        handle.write(b"\xff" * 20)
    result = publish(src=mar)
    assert result["failed"] and "its member" in result["msg"] and "cannot be read" in result["msg"] and "exception" not in result
    assert bucket.calls == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"src": "/nonexistent"}, "Failed to publish /nonexistent as a bundle: No such file or directory. Check src."),
        ({"bundle": ""}, "Failed to use the bundle ''"),
        ({"bundle": "models/../x"}, "Failed to use the bundle 'models/../x': leave out"),
        ({"bundle": "models/"}, "Failed to use the bundle 'models/': leave out"),
        ({"bundle": "models/a.mar"}, "Failed to use the bundle 'models/a.mar': a .mar is one object"),
        ({"bundle": "m" * 1000}, "1024 bytes"),
        ({"sha256": ""}, "Failed to use sha256 ''"),
        ({"sha256": "1" * 64}, "but {} was asked for".format("1" * 64)),
        ({"ca_path": "/nonexistent/ca.pem"}, "Failed to use ca_path"),
        ({"progress_path": "/nonexistent/progress"}, "Failed to write progress_path"),
        ({"storage": {"s3": {"bucket": "NO", "access_key": "a", "secret_key": SECRET}}}, "Failed to use storage.s3.bucket"),
    ],
)
def test_bad_input(publish, bucket, changes, said):
    result = publish(**changes)
    assert result["failed"] and said in result["msg"] and "exception" not in result
    assert "put" not in bucket.calls


def test_an_empty_directory(publish, tmp_path):
    (tmp_path / "none/below").mkdir(parents=True)
    result = publish(src=str(tmp_path / "none"))
    assert result["failed"] and "it has 0 files" in result["msg"]


def test_more_than_a_manifest_takes(publish, bucket, monkeypatch):
    monkeypatch.setattr(model_bundle, "MAX_MANIFEST", 100)
    assert "its manifest would have" in publish()["msg"]
    monkeypatch.setattr(model_bundle, "MAX_FILES", 6)
    assert "it has 7 files, not 1 to 6" in publish()["msg"]
    assert bucket.calls == []


@pytest.mark.parametrize("name", ["weights ä.bin", "a.bin"])
def test_a_file_that_changes_before_it_is_sent(publish, bucket, src, name):
    """A large one and one in a pack."""
    head = bucket.head

    def change(key):
        (src / name).write_bytes(FILES[name][::-1] + b"more")
        return head(key)

    bucket.head = change
    result = publish()
    assert result["failed"] and "changed while it was" in result["msg"]
    assert not any("manifests" in key for key in bucket.objects)
    for key, (content, _sha256) in bucket.objects.items():
        assert hashlib.sha256(content).hexdigest() == key.rpartition("/")[2]


def test_no_room_where_a_pack_is_put_together(publish, bucket, monkeypatch):
    monkeypatch.setattr(model_bundle.StorageModule, "tmpdir", "/dev/full")
    result = publish()
    assert result["failed"] and "/dev/full/blob cannot be written (Not a directory). Give remote_tmp of Ansible more room" in result["msg"]
    assert "put" not in bucket.calls


def test_a_directory_of_another_runtime(publish, src):
    (src / "MAR-INF/MANIFEST.json").unlink()
    result = publish()
    assert (result["model_name"], result["version"], result["files"]) == ("", "", 6)


def test_requirements_that_no_host_installs(publish, src):
    about = {"model": {**ABOUT["model"], "requirementsFile": "requirements.txt"}}
    (src / "MAR-INF/MANIFEST.json").write_text(json.dumps(about))
    (warning,) = publish()["warnings"]
    assert "has requirements.txt, and no host will install it" in str(warning)


@pytest.mark.parametrize("room", ["size=4k", "size=1m,nr_inodes=1"])
def test_a_full_disk_on_the_controller(publish, bucket, small_disk, monkeypatch, room):
    """Where packs are put together. What can be sent is sent, the manifest comes last, and the next run goes on."""
    directory = small_disk(room)
    if "size=4k" in room:
        (directory / "taken").write_bytes(b"x" * 4096)
    monkeypatch.setattr(model_bundle.StorageModule, "tmpdir", str(directory))
    result = publish()
    assert result["failed"]
    assert result["msg"].startswith("Failed to publish ")
    assert f"{directory}/blob cannot be written (No space left on device). Give remote_tmp of Ansible more room" in result["msg"]
    assert not [key for key in bucket.objects if "/manifests/" in key]
    assert "blob" not in os.listdir(directory)
    small_disk("size=1m,nr_inodes=100")
    assert publish()["changed"]
    assert [key for key in bucket.objects if "/manifests/" in key]


PACKED = {"compile-cache.json": b"{}", "ab/kernel.so": b"code"}


def test_a_packed_compile_cache(publish, bucket, tmp_path):
    result = publish(src=archive(tmp_path / "packed", PACKED))
    assert tree(bucket, result["sha256"]) == {name: ("0644", content) for name, content in PACKED.items()}
    assert (result["model_name"], result["version"]) == ("", "")


@pytest.mark.parametrize("path", ["../../etc/cron.d/evil", "/etc/cron.d/evil", "ab/../../evil"])
def test_a_packed_compile_cache_with_a_path_outside_its_directory(publish, bucket, tmp_path, path):
    result = publish(src=archive(tmp_path / "packed", {**PACKED, path: b"evil"}))
    assert repr(path) in result["msg"] and "Failed to publish" in result["msg"]
    assert bucket.objects == {}
