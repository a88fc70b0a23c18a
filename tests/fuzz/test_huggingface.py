# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a lock, a hub, a host's own notes or somebody's cache hold of a hub's models, it is understood or refused, and nothing gets
beyond the cache."""

from __future__ import annotations

import grp
import json
import os
import shutil
import socket
import time
from pathlib import Path

import sandbox as _sandbox  # noqa: F401 it finds the collection
import yaml
from ansible_collections.modelfleet.serving.plugins.module_utils import _huggingface
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact_huggingface import Place
from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import to_yaml
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.modules import huggingface_lock, model_prune
from hypothesis import example, given
from hypothesis import strategies as st
from inputs import changed, damaged, junk, odd_texts, texts
from sandbox import CLOCK, World
from test_answers import framings
from test_contents import HTTP, as_file, files_like

REPO, COMMIT = "org/bert", "0f" * 20
CONFIG = b'{"model_type": "bert"}'
CONFIG_SHA1 = _huggingface.git_sha1(CONFIG)
LARGE = {"size": 9, "sha256": "a" * 64}
LISTED = {"config.json": {"size": len(CONFIG), "git_sha1": CONFIG_SHA1}, "onnx/model.onnx": LARGE}
KEY = f"{REPO}@{COMMIT}"
PINS = {KEY: {"revision": "main", "files": LISTED}}
SOURCE = {
    "repo": REPO, "revision": COMMIT, "include": ["*.json", "onnx/"], "exclude": ["*.md"], "ref": "main",
    "group": grp.getgrgid(os.getegid()).gr_name,
}  # fmt: skip
TREE = [
    {"type": "directory", "path": "onnx", "oid": "0" * 40, "size": 0},
    {"type": "file", "path": "config.json", "oid": CONFIG_SHA1, "size": len(CONFIG)},
    {"type": "file", "path": "onnx/model.onnx", "oid": "1" * 40, "size": 9, "lfs": {"oid": "a" * 64, "size": 9, "pointerSize": 134}},
]
HUB = "http://127.0.0.1:1"
paths = st.sampled_from(["a", "b/c", "b/d", "Ä", "../up", "/abs", "a/../b", "a//b", "a/b", "A", ".", "x\\y", "x/" * 600]) | odd_texts


def stays_inside(files):
    """Whether each file has a place below its snapshot, and its blob below the repository."""
    place = Place({"huggingface_home": "/home"}, SOURCE)
    for file in files:
        assert os.path.normpath(os.path.join(place.snapshot, file.path)).startswith(f"{place.snapshot}/")
        target = os.path.normpath(os.path.join(place.snapshot, os.path.dirname(file.path), place.target(file)))
        assert target == place.blob(file.name) and os.path.dirname(target) == f"{place.folder}/blobs"
    assert len({file.path.casefold() for file in files}) == len(files) <= _huggingface.MAX_FILES


# Locks


@given(
    changed(LISTED) | st.dictionaries(paths | junk.map(str), changed(LARGE) | changed(LISTED["config.json"]), max_size=4) | junk,
    st.booleans(),
)
@example({1: LARGE, "a": LARGE}, False)
@example({"a": {"size": 10**400, "sha256": "a" * 64}}, False)
def test_the_files_of_a_lock_are_read_or_refused(found, more):
    if more and isinstance(found, dict):
        found = {**found, **LISTED}
    try:
        files = _huggingface.parse_files(REPO, found)
    except ModelFleetError as exc:
        assert str(exc).endswith(".") and "\n" not in str(exc)
        return
    stays_inside(files)
    assert _huggingface.parse_files(REPO, _huggingface.lock_entry(files)) == files


@given(changed(SOURCE) | st.dictionaries(st.sampled_from([*SOURCE]), junk), changed(PINS) | junk)
@example({**SOURCE, "include": ["[", "[!]", "*" * 50]}, PINS)
def test_an_entry_of_a_hub_is_good_or_has_a_problem(source, pins):
    if not isinstance(source, dict):
        return
    problem = _huggingface.source_problem(source, pins)
    if problem:
        assert isinstance(problem, str) and not problem.endswith(".")
        return
    # Without a lock nobody looked at files.
    stays_inside([] if pins is None else _huggingface.files_of(source, pins))
    place = Place({"huggingface_home": "/home"}, source)
    assert os.path.normpath(place.snapshot) == place.snapshot and place.snapshot.startswith("/home/")
    ref = place.ref_path(source.get("ref") or "main")
    assert os.path.normpath(ref) == ref and os.path.dirname(ref) == f"{place.folder}/refs"


LOCK = (huggingface_lock.HEADER + to_yaml({"modelfleet_huggingface_pins": PINS})).encode()


@given(
    damaged(LOCK) | files_like({"modelfleet_huggingface_pins": PINS}) | texts.map(lambda text: text.encode(errors="replace")),
    st.booleans(),
)
@example(LOCK, False)
@example(LOCK.replace(b"config.json", b"config"), False)
@example(LOCK.replace(b"config.json", b'"\xff"'), False)
def test_a_lock_is_read_or_left_alone(sandbox, content, check):
    path = sandbox.put("lock/huggingface.lock.yml", content)
    servers = {"/revision/": answer(200, {}, as_file({"sha": COMMIT})), "/tree/": answer(200, {}, as_file(TREE))}
    options = {"path": path, "models": [{"repo": REPO}], "huggingface": {"endpoint": [HUB]}, "retry_s": 0}
    result = sandbox.run("huggingface_lock", options, check, diff=True, world=World(servers=servers))
    if result.get("failed") or check:
        assert Path(path).read_bytes() == content
    else:
        assert yaml.safe_load(Path(path).read_bytes())["modelfleet_huggingface_pins"][KEY]["files"] == LISTED


# Hubs


def answer(status, headers, body, framing="right"):
    length = {"right": len(body), "short": len(body) + 9, "none": None}.get(framing, framing)
    lines = [f"HTTP/1.1 {status} said", *(f"{name}: {value}" for name, value in headers.items())]
    lines += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join(lines).encode("utf-8", "replace") + b"\r\n\r\n" + body


TARGETS = [
    "/api/resolve-cache/x", "x", "?", "", "//", "//[", "http://[", "http://[1:2", "http://x:99999/", "http://127.0.0.1:2/x", "https://127.0.0.1:1/x",
    "file:///etc/passwd", "ftp://x", "http://user:pw@127.0.0.1:1/x", "http://127.0.0.1:1/a b", "http:///x", "/ü", "\x7f",
]  # fmt: skip
NUMBERS = ["0", "7", "-1", "²", "٣", "9" * 5000, "1e9", "", " 12 ", str(len(CONFIG))]
odd_headers = odd_texts.map(lambda text: text.replace("\r", " ").replace("\n", " "))
headers = st.fixed_dictionaries(
    {},
    optional={
        "Location": st.sampled_from(TARGETS),
        "Link": st.sampled_from([*TARGETS, *(f'<{target}>; rel="next"' for target in TARGETS)]),
        "ETag": st.sampled_from([f'"{CONFIG_SHA1}"', f'W/"{CONFIG_SHA1}"', '"' + "b" * 40 + '"']) | odd_headers,
        "X-Linked-Etag": st.sampled_from(['"' + "a" * 64 + '"', "c" * 64]) | odd_headers,
        "X-Linked-Size": st.sampled_from(NUMBERS),
        "X-Repo-Commit": st.sampled_from([COMMIT, "f" * 40]) | odd_headers,
        "X-Error-Code": st.sampled_from(["GatedRepo", "RepoNotFound", "RevisionNotFound", "EntryNotFound"]) | odd_headers,
        "X-Error-Message": odd_headers,
        "Retry-After": st.sampled_from(NUMBERS),
        "RateLimit": st.sampled_from(NUMBERS).map(lambda number: f'"resolvers";r=0;t={number}'),
        "Transfer-Encoding": st.just("chunked"),
    },
)


def answers(body):
    """Answers with this body, nearly right."""
    statuses = st.integers(0, 3).flatmap(
        lambda turn: st.sampled_from([204, 302, 307, 401, 403, 404, 416, 429, 500, 503, 999, "x"]) if turn == 0 else st.just(200)
    )
    few = st.integers(0, 2).flatmap(lambda turn: headers if turn == 0 else st.just({}))
    whole = st.builds(answer, statuses, few, body, framings)
    return st.integers(0, 19).flatmap(lambda turn: st.binary(max_size=30) if turn == 0 else whole)


json_bodies = changed(TREE).map(as_file) | damaged(as_file(TREE)) | st.just(b"[" * 100_000) | junk.map(as_file)


@st.composite
def trees(draw):
    """A tree with files of other names."""
    return as_file([*TREE, *({**draw(st.sampled_from(TREE[1:])), "path": path} for path in draw(st.lists(paths, max_size=2)))])


@given(
    answers(st.just(as_file({"sha": COMMIT})) | changed({"sha": COMMIT}).map(as_file)),
    answers(st.just(as_file(TREE)) | trees() | json_bodies),
    st.booleans(),
)
@example(answer(200, {}, as_file({"sha": COMMIT})), answer(200, {}, as_file([{"type": "file", "path": ["a"], "size": 1}])), False)
@example(answer(200, {}, as_file({"sha": COMMIT})), answer(200, {"Link": '<http://[>; rel="next"'}, as_file(TREE)), False)
@example(answer(200, {}, as_file({"sha": COMMIT})), answer(200, {"Link": '<file:///etc/passwd>; rel="next"'}, as_file(TREE)), False)
@example(answer(200, {}, as_file({"sha": COMMIT})), answer(200, {"Link": '<https://127.0.0.1:1/x>; rel="next"'}, as_file(TREE)), False)
@example(answer(302, {"Location": "//["}, b""), b"", False)
@example(answer(429, {"RateLimit": f"x;t={'9' * 5000}"}, b""), b"", False)
def test_a_hub_that_lists_anything_is_understood_or_refused(sandbox, revision, tree, check):
    sandbox.changed = True
    path = sandbox.put("lock/huggingface.lock.yml", b"")
    Path(path).unlink()
    options = {"path": path, "models": [{"repo": REPO}], "huggingface": {"endpoint": [HUB]}, "retry_s": 5}
    servers = {"/revision/": revision, "/tree/": tree, "": answer(200, {}, as_file(TREE))}
    result = sandbox.run("huggingface_lock", options, check, diff=True, world=World(servers=servers))
    if result.get("failed") or check:
        assert not Path(path).exists()
    else:
        (pinned,) = yaml.safe_load(Path(path).read_bytes())["modelfleet_huggingface_pins"].values()
        stays_inside(_huggingface.parse_files(REPO, pinned["files"]))


def stores(sandbox):
    """What model_artifact and others have on a host."""
    sandbox.put("host/.x", b"")
    top = sandbox.named / "host"
    names = {"model_store": "models", "blob_store": "blobs", "manifest_store": "manifests", "incoming": "incoming", "piece_store": "pieces"}
    for name in (*names.values(), "huggingface", "state"):
        (top / name).mkdir(exist_ok=True)
    found = {option: str(top / name) for option, name in names.items()}
    found.update(record=str(top / "state/models.json"), huggingface_home=str(top / "huggingface"))
    return top, found


def bring(sandbox, servers, check=False, **options):
    """Have a commit with one small file; returns the result and where that is."""
    top, found = stores(sandbox)
    entry = {"name": "bert", "version": "1", "huggingface": {**SOURCE, "include": ["*.json"]}}
    options = {
        **found, "artifacts": [entry], "storage": HTTP, "huggingface": {"endpoint": [HUB], "token_endpoint": [HUB], "token": "hf_x"},
        "huggingface_pins": PINS, "huggingface_decisions": str(top / "state/huggingface.json"), "socket": str(top / "none"),
        "dfdaemon_metrics_url": f"{HUB}/metrics", "retry_s": 0, **options,
    }  # fmt: skip
    result = sandbox.run("model_artifact", options, check, diff=True, world=World(servers=servers))
    return result, Path(Place(options, SOURCE).snapshot) / "config.json"


@given(answers(st.just(b"")), answers(st.just(CONFIG) | st.binary(max_size=30) | damaged(CONFIG)), st.booleans())
@example(answer(200, {}, b""), answer(200, {}, CONFIG), False)
@example(answer(200, {"X-Linked-Size": "9" * 5000}, b""), answer(200, {}, CONFIG), False)
@example(answer(307, {"Location": "http://["}, b""), answer(307, {"Location": "//["}, b""), False)
def test_a_hub_that_gives_anything_is_understood_or_refused(sandbox, proof, content, check):
    sandbox.changed = True
    result, path = bring(sandbox, {"HEAD ": proof, "GET ": content}, check)
    if result.get("failed") or check:
        assert not path.exists()
    else:
        assert path.read_bytes() == CONFIG
    assert "hf_x" not in json.dumps(result)


# What a host has noted


def decisions_like(until):
    return files_like({"salt": "ab" * 16, "until": {"x": until}})


@given(decisions_like(1 << 62) | junk.map(lambda value: as_file({"salt": "ab" * 16, "until": value})), st.integers(0, 3600))
@example(as_file({"salt": "\ud800", "until": {}}), 3600)
def test_what_a_host_may_have_is_read_or_asked_anew(sandbox, content, access_s):
    CLOCK.skew = 0.0  # what a module slept before this
    path = sandbox.put("state/huggingface.json", content)
    hub = _huggingface.Hub({"endpoint": [HUB], "token_endpoint": [HUB], "token": "hf_x"})
    decisions = _huggingface.Decisions(path, access_s, check_mode=False)
    # Nobody could know the name that this host's token has there.
    assert not decisions.holds(hub, REPO, COMMIT)
    sandbox.changed = True
    decisions.note(hub, REPO, COMMIT, granted=True)
    again = _huggingface.Decisions(path, access_s, check_mode=False)
    assert again.holds(hub, REPO, COMMIT) == bool(access_s)
    for until in again._until.values():
        assert until > time.time()


# What lies in a cache


def nothing(path, _right):
    pass


def right(path, content):
    path.write_bytes(content)


def writable(path, content):
    path.write_bytes(content)
    path.chmod(0o666)


def wrong(path, content):
    path.write_bytes(content[::-1])


def huge(path, _content):
    path.touch()
    os.truncate(path, 1 << 40)


def fifo(path, _content):
    os.mkfifo(path)


def listener(path, _content):
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(path.parent)  # a longer path has no room in an address
        try:
            one.bind(path.name)
        finally:
            os.chdir(here)


def directory(path, content):
    path.mkdir()
    (path / "below").write_bytes(content)


def precious(path):
    """What no module may touch."""
    return next(parent for parent in path.parents if parent.name == "named").parent / "precious"


def elsewhere(path, _content):
    path.symlink_to(precious(path) / "dir")


def file_elsewhere(path, _content):
    path.symlink_to(precious(path) / "file")


def loop(path, _content):
    path.symlink_to(path.name)


KINDS = [nothing, right, writable, wrong, fifo, listener, directory, elsewhere, file_elsewhere, loop]


def put_odd(top, place, kind):
    """Have something of a kind at a place below ``top`` in the place of what is there, unless that leads out of the sandbox."""
    path = top / place
    if not path.parent.is_dir() or precious(path) in path.parent.resolve().parents:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    kind(path, CONFIG)


FOLDER = "models--org--bert"
IN_A_CACHE = ["", FOLDER, f"{FOLDER}/blobs", f"{FOLDER}/blobs/{CONFIG_SHA1}", f"{FOLDER}/blobs/{'a' * 64}"]


@given(st.lists(st.tuples(st.sampled_from(IN_A_CACHE), st.sampled_from([*KINDS, huge])), max_size=2))
@example([(IN_A_CACHE[3], fifo)])
@example([(IN_A_CACHE[3], directory)])
@example([(IN_A_CACHE[3], huge)])
def test_an_odd_cache_is_of_use_or_passed_over(sandbox, odd):
    sandbox.changed = True
    sandbox.put(f"cache/{FOLDER}/blobs/{'b' * 64}", b"another")
    cache = sandbox.named / "cache"
    for place, kind in odd:
        put_odd(cache, place, kind)
    servers = {"HEAD ": answer(200, {}, b""), "GET ": answer(200, {}, CONFIG)}
    result, path = bring(sandbox, servers, huggingface_adopt=[str(cache)])
    assert not result.get("failed"), result["msg"]
    assert path.read_bytes() == CONFIG and path.resolve().parent.parent.name == FOLDER
    assert (path.resolve().stat().st_mode & 0o777, path.resolve().is_symlink()) == (0o444, False)


GROUP = SOURCE["group"]
HOME = [
    GROUP, f"{GROUP}.env", *(f"{GROUP}/hub{name}" for name in ("", f"/{FOLDER}", "/.locks", "/models--", "/datasets--x")),
    *(f"{GROUP}/hub/{FOLDER}/{name}" for name in (
        "blobs", "snapshots", "refs", "trees", f"blobs/{CONFIG_SHA1}", f"blobs/{'a' * 64}", "blobs/x.incomplete", "refs/main", "refs/pr",
        f"snapshots/{COMMIT}", "snapshots/x", f"snapshots/{COMMIT}/config.json", f"snapshots/{COMMIT}/onnx", f"snapshots/{'1' * 40}",
    )),
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(HOME), st.sampled_from(KINDS)), max_size=3), st.booleans(), st.booleans())
def test_an_odd_cache_is_pruned_and_verified_and_nothing_else(sandbox, odd, listed, check):
    sandbox.changed = True
    servers = {"HEAD ": answer(200, {}, b""), "GET ": answer(200, {}, CONFIG)}
    result, path = bring(sandbox, servers)
    assert not result.get("failed"), result["msg"]
    # What came stays for the next ones.
    sandbox.changed = False
    _top, found = stores(sandbox)
    for place, kind in odd:
        put_odd(Path(found["huggingface_home"]), place, kind)
    whole = path.is_file() and path.read_bytes() == CONFIG
    entry = {"name": "bert", "version": "1", "huggingface": {**SOURCE, "include": ["*.json"]}}
    options = {"models": [entry] if listed else [], "huggingface_pins": PINS, **found}
    others = {"retry_s": 0, "unpack_dir": str(sandbox.named / "empty"), "key_file": str(sandbox.named / "none"), "base_url": f"{HUB}9"}
    verified = {key: options[key] for key in options if key not in ("incoming", "piece_store")}
    sandbox.run("verify_info", {**verified, "unpack_dir": others["unpack_dir"]}, check)
    sandbox.changed = False
    before, model_prune.holders = model_prune.holders, lambda *_args: ({}, {})  # who runs the tests may not see all processes
    try:
        pruned = sandbox.run("model_prune", {**options, **others, "keep": 0}, check, diff=True)
    finally:
        model_prune.holders = before
    if not odd:
        assert [one["state"] for one in pruned["versions"]] == ["listed" if listed else "removed"]
        assert path.exists() == (listed or check)
    if (listed or check) and whole:
        assert path.read_bytes() == CONFIG
    assert sorted(os.listdir(sandbox.precious)) == ["dir", "file"]
    assert sorted(os.listdir(sandbox.precious / "dir")) == ["below", "file.txt"]
