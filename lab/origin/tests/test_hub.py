# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hub, judged by what nobody here wrote: two versions of huggingface_hub, and git for the names of objects."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import subprocess
import time
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from conftest import Running
from strict_origin import server

LAB = Path(__file__).resolve().parents[2]
VERSIONS = ["0.36", "2.4"]
HUB, CDN, MIRROR, CLOSED = "huggingface.co", "cdn-lfs.hf.co", "hub.mirror.example", "closed.mirror.example"
SOON = int(time.time()) + 86400
USERS = {
    "alice": {
        "tokens": {"hf_alice": {}, "hf_narrow": {"gated": False}, "hf_old": {"name": "old", "expires": 1}, "hf_gone": {"revoked": True}}
    },
    "bob": {"tokens": {"hf_bob": {"expires": SOON}}},
    "carol": {"orgs": ["org"], "tokens": {"hf_carol": {}}},
}
SMALL = {"config.json": '{"model_type": "bert"}\n', "README.md": "", "tokenizer/vocab.txt": "a\nb\n", "tokenizer/\u00fc b+c.json": "{}"}
BIG = {"model-1.safetensors": os.urandom(300_000), "model-2.safetensors": os.urandom(500_000)}
SIZE = sum(len(text.encode()) for text in SMALL.values()) + sum(map(len, BIG.values()))

# A program for the client's own Python: the calls in its argument, and what came of them.
CLIENT = """
import json, sys
import huggingface_hub
def plain(value):
    if hasattr(value, "__dict__"):
        return {name: plain(one) for name, one in vars(value).items()}
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, (list, tuple)) else value
said = []
for name, arguments in json.loads(sys.argv[1]):
    try:
        answer = getattr(huggingface_hub, name)(**arguments)
        said.append(plain(list(answer) if name == "list_repo_tree" else answer))
    except Exception as exc:
        response = getattr(exc, "response", None)
        said.append({"error": type(exc).__name__, "status": getattr(response, "status_code", None), "message": str(exc)})
print(json.dumps(said, default=str))
"""


def installed(version):
    done = subprocess.run([str(LAB / "huggingface/install"), version], capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"Failed to install huggingface_hub {version}: {done.stderr[-2000:]} See that pip reaches its registry.")
    return done.stdout.strip()


class Client:
    """huggingface_hub as a user of this machine has it, with the hub under its own names."""

    def __init__(self, python, hub, home):
        self.python = python
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HF_HOME": str(home),
            "HTTPS_PROXY": f"http://127.0.0.1:{hub.ports['proxy']}",
            "SSL_CERT_FILE": hub.ca,
            "REQUESTS_CA_BUNDLE": hub.ca,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        }

    def __call__(self, *calls, token=None, **environment):
        """What the calls return, in one process."""
        environment = self.environment | environment | ({"HF_TOKEN": token} if token else {})
        program = [self.python, "-c", CLIENT, json.dumps(calls)]
        done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def cached(self, repository="org/bert"):
        return self.home / "hub" / f"models--{repository.replace('/', '--')}"


@pytest.fixture(params=VERSIONS)
def client(request, hub, tmp_path):
    return Client(installed(request.param), hub, tmp_path / "hf")


@pytest.fixture(scope="module")
def config(certificate):
    return {
        "address": "127.0.0.1",
        "listen": {"http": 0, "https": 0, "control": 0, "proxy": 0},
        "tls": certificate,
        "hub": {"hosts": [HUB], "cdn": CDN, "mirrors": {MIRROR: {}, CLOSED: {"token": "its-own"}}, "users": USERS},
    }


@pytest.fixture
def hub(tmp_path, config):
    running = Running(config | {"data": str(tmp_path / "data")})
    yield running
    server.stop(running.servers)


def commit(hub, repository="org/bert", big=BIG, small=SMALL, **more):
    """Put these files into a branch; the answer of the control API."""
    files = {path: {"sha256": hub.control("PUT", "/hub/blobs", content)["sha256"]} for path, content in big.items()}
    files |= {path: {"text": text} for path, text in small.items()}
    return hub.control("PUT", f"/hub/commits/{repository}", {"files": files, **more})


def ask(hub, path, host=HUB, method="GET", token=None, **headers):
    """One request by plain HTTP: (status, headers, body). No redirect is followed."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.ports["http"], timeout=10)
    headers = {"Host": host, **headers} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def at_cdn(hub, path="model-1.safetensors", **changes):
    """Where the CDN has a file of org/bert now, with parameters of the address changed, or left out where the value is None."""
    url = urlsplit(ask(hub, f"/org/bert/resolve/main/{path}", method="HEAD")[1]["Location"])
    params = dict(parse_qsl(url.query)) | {name.replace("_", "-"): value for name, value in changes.items()}
    return f"{url.path}?{urlencode({name: value for name, value in params.items() if value is not None})}"


def requests(hub):
    """{what was asked for: {kind: how often}} since the counters were cleared."""
    rows = hub.control("GET", "/counters")["objects"]
    return {name: {kind: row[kind] for kind in ("get", "head") if kind in row} for name, row in rows.items()}


# -- downloads by the client itself ------------------------------------------------------------------------------------


def test_a_snapshot_is_in_the_cache_as_the_client_lays_it_out_and_stays_when_the_hub_is_gone(hub, client):
    put = commit(hub)
    (folder,) = client(("snapshot_download", {"repo_id": "org/bert"}))
    cache = client.cached()
    assert Path(folder) == cache / "snapshots" / put["commit"]
    assert (cache / "refs/main").read_bytes() == put["commit"].encode()
    everything = {path: text.encode() for path, text in SMALL.items()} | BIG
    assert {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if not path.is_dir()} == set(everything)
    for path, content in everything.items():
        link = Path(folder, path)
        assert link.is_symlink() and link.resolve().parent == cache / "blobs" and link.read_bytes() == content
        named = hashlib.sha256(content) if path in BIG else hashlib.sha1(f"blob {len(content)}\0".encode() + content)
        assert link.resolve().name == named.hexdigest()
    counted = hub.control("GET", "/counters")
    assert counted["bytes"] == SIZE
    assert {name.partition("/")[0] for name in counted["objects"]} == {HUB, CDN}
    assert counted["objects"][f"{CDN}/{hashlib.sha256(BIG['model-1.safetensors']).hexdigest()}"]["get"] == 1

    hub.control("DELETE", "/counters")
    calls = [("snapshot_download", {"repo_id": "org/bert"}), ("hf_hub_download", {"repo_id": "org/bert", "filename": "config.json"})]
    assert client(*calls, HF_HUB_OFFLINE="1") == [folder, f"{folder}/config.json"]
    assert requests(hub) == {}


def test_a_new_commit_moves_only_what_changed(hub, client):
    first = commit(hub)
    client(("snapshot_download", {"repo_id": "org/bert"}))
    hub.control("DELETE", "/counters")
    changed = os.urandom(400_000)
    second = commit(hub, big={"model-2.safetensors": changed}, small={})
    assert second["commit"] != first["commit"]
    (folder,) = client(("snapshot_download", {"repo_id": "org/bert"}))
    assert Path(folder).name == second["commit"] and Path(folder, "model-2.safetensors").read_bytes() == changed
    assert hub.control("GET", "/counters")["bytes"] == len(changed)


def test_a_file_by_branch_tag_and_commit(hub, client):
    first = commit(hub, small={"config.json": "1"}, big={})["commit"]
    second = commit(hub, small={"config.json": "2"}, big={})["commit"]
    third = commit(hub, small={"config.json": "3"}, big={}, branch="refs/pr/1", parent=second)["commit"]
    hub.control("PUT", "/hub/refs/org/bert", {"tags": {"v1": first}})
    revisions = {"main": (second, "2"), "v1": (first, "1"), first: (first, "1"), "refs/pr/1": (third, "3")}
    found = client(*[("hf_hub_download", {"repo_id": "org/bert", "filename": "config.json", "revision": one}) for one in revisions])
    assert [(Path(path).parent.name, Path(path).read_text()) for path in found] == list(revisions.values())
    (refs,) = client(("list_repo_refs", {"repo_id": "org/bert"}))
    branches = {one["name"]: one["target_commit"] for one in refs["branches"]}
    assert branches == {"main": second, "refs/pr/1": third}
    assert [(one["ref"], one["target_commit"]) for one in refs["tags"]] == [("refs/tags/v1", first)]


def test_what_is_not_there_has_the_clients_own_name_for_it(hub, client):
    put = commit(hub)
    calls = [
        ("hf_hub_download", {"repo_id": "org/bert", "filename": "none.json"}),
        ("hf_hub_download", {"repo_id": "org/bert", "filename": "config.json", "revision": "none"}),
        ("hf_hub_download", {"repo_id": "org/none", "filename": "config.json"}),
        ("model_info", {"repo_id": "org/bert", "revision": "0" * 40}),
        ("snapshot_download", {"repo_id": "org/bert", "revision": "0" * 40}),
    ]
    entry, revision, repository, commit_info, snapshot = client(*calls)
    assert entry["error"] in ("EntryNotFoundError", "RemoteEntryNotFoundError") and entry["status"] == 404
    assert (client.cached() / ".no_exist" / put["commit"] / "none.json").exists(), "the refusal names the commit"
    assert (revision["error"], revision["status"]) == ("RevisionNotFoundError", 404) and "Invalid rev id: none" in revision["message"]
    assert (repository["error"], repository["status"]) == ("RepositoryNotFoundError", 401)
    assert [one["error"] for one in (commit_info, snapshot)] == ["RevisionNotFoundError"] * 2
    (known,) = client(calls[2], token="hf_bob")
    assert (known["error"], known["status"]) == ("RepositoryNotFoundError", 404)


def test_the_listing_is_the_same_however_it_is_paged(hub, client):
    put = commit(hub)
    calls = [("list_repo_tree", {"repo_id": "org/bert", "recursive": True}), ("list_repo_tree", {"repo_id": "org/bert"})]
    calls += [("list_repo_tree", {"repo_id": "org/bert", "path_in_repo": "tokenizer", "revision": put["commit"]})]
    calls += [("model_info", {"repo_id": "org/bert", "files_metadata": True})]
    whole = client(*calls)
    hub.control("PUT", "/hub/settings", {"page": 2})
    hub.control("DELETE", "/counters")
    assert client(*calls) == whole
    assert requests(hub)[f"{HUB}/api/models/org/bert/tree/main"] == {"get": 4 + 3}

    deep, flat, folder, info = whole
    files = {one["path"]: one for one in deep if "blob_id" in one}
    assert set(files) == {*SMALL, *BIG} == {one["rfilename"] for one in info["siblings"]}
    for path, content in BIG.items():
        assert files[path]["lfs"] == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), "pointer_size": 131}
    assert {path: one["blob_id"] for path, one in files.items()} == {path: one["oid"] for path, one in put["files"].items()}
    assert files["config.json"]["lfs"] is None and files["config.json"]["size"] == len(SMALL["config.json"])
    assert {one["path"] for one in flat} == {"tokenizer", "config.json", "README.md", *BIG}
    assert {one["path"] for one in folder} == {"tokenizer/vocab.txt", "tokenizer/\u00fc b+c.json"}
    assert (info["sha"], info["private"], info["gated"]) == (put["commit"], False, False)
    assert {one["rfilename"]: one["size"] for one in info["siblings"]} == {path: one["size"] for path, one in files.items()}


@pytest.mark.parametrize("kind", ["public", "gated", "private"])
def test_who_may_have_what(hub, client, kind):
    """Alice is let through the gate, Bob is not, Carol is of the organization."""
    settings = {"public": {}, "gated": {"gated": "manual", "granted": ["alice"]}, "private": {"private": True}}[kind]
    commit(hub)
    hub.control("PUT", "/hub/repositories/org/bert", settings)
    may = {
        "hf_alice": {"public": None, "gated": None, "private": ("RepositoryNotFoundError", 404)},
        "hf_bob": {"public": None, "gated": ("GatedRepoError", 403), "private": ("RepositoryNotFoundError", 404)},
        "hf_carol": {"public": None, "gated": None, "private": None},
        "hf_narrow": {"public": None, "gated": ("", 403), "private": ("RepositoryNotFoundError", 404)},
        "": {"public": None, "gated": ("GatedRepoError", 401), "private": ("RepositoryNotFoundError", 401)},
    }
    # A token that is no good is refused wherever it is shown.
    bad = ("hf_old", "hf_gone", "hf_wrong")
    may |= {token: {kind: ("", 401)} for token in bad}
    calls, caches = [], [str(client.home / f"of-{token}") for token in may]
    for token, cache in zip(may, caches):
        of = {"repo_id": "org/bert", "token": token or False}
        calls += [("hf_hub_download", {**of, "filename": name, "cache_dir": cache}) for name in ("config.json", "model-1.safetensors")]
        calls += [("auth_check", of), ("model_info", of)]
    answers = iter(client(*calls))
    for (token, wanted), cache in zip(may.items(), caches):
        *contents, info = (next(answers) for _ in range(4))
        if wanted[kind] is None:
            assert Path(contents[1]).read_bytes() == BIG["model-1.safetensors"] and contents[2] is None, token
            assert (info["id"], info["private"], info["gated"]) == ("org/bert", kind == "private", settings.get("gated", False))
            continue
        name, status = wanted[kind]
        # Of a refusal that it has no name for the client says only that a file is not in the cache either.
        assert all("error" in one for one in contents) and {one["status"] for one in contents} - {None} == {status}, token
        assert not name or {one["error"] for one in contents} == {name}, token
        # Everybody sees the listing of a gated repository.
        assert info.get("status") == (None if kind == "gated" and token not in bad else status), token
        assert not [path for path in Path(cache).rglob("blobs/*") if path.is_file()]


def test_a_token_is_taken_back_and_expires(hub, client):
    commit(hub)
    hub.control("PUT", "/hub/repositories/org/bert", {"gated": "auto", "granted": ["bob"]})
    calls = [("whoami", {}), ("auth_check", {"repo_id": "org/bert"})]
    who, checked = client(*calls, token="hf_bob")
    assert who["name"] == "bob" and checked is None
    hub.control("PUT", "/clock", {"ahead": 2 * 86400})
    who, checked = client(*calls, token="hf_bob")
    assert checked["status"] == 401 and 'User Access Token "lab" is expired' in checked["message"]
    hub.control("PUT", "/clock", {"ahead": 0})
    hub.control("PUT", "/hub/repositories/org/bert", {"granted": []})
    assert client(calls[1], token="hf_bob")[0]["error"] == "GatedRepoError"
    hub.control("PUT", "/hub/users/bob", {"tokens": {"hf_bob": {"revoked": True}}})
    who, checked = client(*calls, token="hf_bob")
    assert (who["status"], checked["status"]) == (401, 401) and "Invalid credentials in Authorization header" in checked["message"]


def test_a_renamed_repository_is_found_by_its_old_name(hub, client):
    put = commit(hub, repository="old/name")
    hub.control("PUT", "/hub/repositories/old/name", {"name": "org/bert"})
    (folder,) = client(("snapshot_download", {"repo_id": "old/name"}))
    assert Path(folder).name == put["commit"] and Path(folder, "model-1.safetensors").read_bytes() == BIG["model-1.safetensors"]
    status, headers, _ = ask(hub, "/api/models/Old/Name/tree/main?recursive=True")
    assert (status, headers["Location"]) == (307, "/api/models/org/bert/tree/main?recursive=True")
    status, headers, _ = ask(hub, "/old/name/resolve/main/tokenizer/%C3%BC%20b%2Bc.json", method="HEAD")
    assert (status, headers["Location"]) == (307, "/org/bert/resolve/main/tokenizer/%C3%BC%20b%2Bc.json")
    # Nobody learns by a redirect where a private repository is.
    hub.control("PUT", "/hub/repositories/org/bert", {"private": True})
    assert ask(hub, "/api/models/old/name")[0] == 401
    # Who makes a repository at the old name has it.
    other = commit(hub, repository="old/name", small={"config.json": "other"}, big={})
    assert json.loads(ask(hub, "/api/models/old/name")[2])["sha"] == other["commit"]


def test_moved_forgotten_and_deleted(hub, client):
    first, second = commit(hub)["commit"], commit(hub, small={"config.json": "2"}, big={})["commit"]
    hub.control("PUT", "/hub/refs/org/bert", {"branches": {"main": first}})
    (folder,) = client(("snapshot_download", {"repo_id": "org/bert"}))
    assert Path(folder).name == first
    rewritten = commit(hub, parent=None, message="Rewritten")["commit"]  # in the second of the first one it would be the same commit
    calls = [("model_info", {"repo_id": "org/bert", "revision": one}) for one in ("main", first, second)]
    assert [one["sha"] for one in client(*calls)] == [rewritten, first, second], "what no branch reaches is there still"
    hub.control("PUT", "/hub/refs/org/bert", {"forget": [first, second]})
    main, *gone = client(*calls)
    assert main["sha"] == rewritten and [one["error"] for one in gone] == ["RevisionNotFoundError"] * 2
    hub.control("DELETE", "/hub/repositories/org/bert")
    assert client(calls[0])[0]["error"] == "RepositoryNotFoundError"
    # What is there needs no repository.
    assert client(("snapshot_download", {"repo_id": "org/bert", "revision": first, "local_files_only": True})) == [folder]


def test_a_hub_that_is_down_and_a_cdn_that_breaks_off(hub, client):
    commit(hub)
    hub.control("PUT", "/faults", {"key": f"{HUB}/*", "status": 503})
    (answer,) = client(("model_info", {"repo_id": "org/bert"}))
    assert answer["status"] == 503
    hub.control("PUT", "/faults", {"key": f"{CDN}/*", "reset_at": 1000, "times": 1})
    call = ("hf_hub_download", {"repo_id": "org/bert", "filename": "model-1.safetensors"})
    # The older one tells its caller that the connection broke; the newer one goes on by itself.
    path = client(call, call)[1]
    assert Path(path).read_bytes() == BIG["model-1.safetensors"]
    assert hub.control("GET", "/faults")[0]["times"] == 0
    hub.control("PUT", "/faults", {"key": f"{HUB}/*", "status": 503})
    assert client(call) == [path]


def test_a_mirror_has_what_is_public_and_takes_no_token_of_the_hub(hub, client):
    put = commit(hub)
    commit(hub, repository="org/gated")
    hub.control("PUT", "/hub/repositories/org/gated", {"gated": "auto", "granted": ["alice"]})
    call = ("snapshot_download", {"repo_id": "org/bert"})
    (folder,) = client(call, HF_ENDPOINT=f"https://{MIRROR}")
    assert Path(folder).name == put["commit"]
    names = {name.partition("/")[0] for name in requests(hub)}
    assert names == {MIRROR, CDN}, "the hub was not asked"
    refused, gated = client(
        call, ("auth_check", {"repo_id": "org/gated"}), HF_ENDPOINT=f"https://{MIRROR}", token="hf_alice", HF_HOME="/nonexistent"
    )
    assert (refused["status"], gated["status"]) == (401, 401)
    (gated,) = client(("auth_check", {"repo_id": "org/gated"}), HF_ENDPOINT=f"https://{MIRROR}")
    assert gated["error"] == "GatedRepoError"


def test_a_repository_of_xet_comes_from_the_cdn_to_who_says_so(hub, client):
    commit(hub)
    hub.control("PUT", "/hub/repositories/org/bert", {"xet": True})
    call = ("snapshot_download", {"repo_id": "org/bert"})
    (folder,) = client(call)
    assert Path(folder, "model-1.safetensors").read_bytes() == BIG["model-1.safetensors"]
    assert not [name for name in requests(hub) if "/xet-read-token/" in name]
    (answer,) = client(call, HF_HUB_DISABLE_XET="0", HF_HOME=str(client.home / "other"))
    assert "error" in answer and [name for name in requests(hub) if "/xet-read-token/" in name]


def test_the_client_reads_the_limits(hub, client):
    commit(hub)
    hub.control("PUT", "/hub/settings", {"limits": {"anonymous": {"api": 1, "resolvers": 1}, "user": {"api": 100, "resolvers": 100}}})
    calls = [("model_info", {"repo_id": "org/bert"}), ("model_info", {"repo_id": "org/bert"})]
    first, second = client(*calls)
    assert first["id"] == "org/bert" and second["status"] == 429
    if client.python.split("/")[-3] != "0.36":
        assert re.search(
            r"your 'api' rate limit\.\nRetry after (29\d|300) seconds \(0/1 requests remaining in current 300s window", second["message"]
        )
    assert [one["id"] for one in client(*calls, token="hf_bob")] == ["org/bert"] * 2


# -- what the clients do not show --------------------------------------------------------------------------------------


def test_limits_are_by_user_or_address_by_kind_and_for_five_minutes(hub):
    commit(hub)
    hub.control("PUT", "/hub/settings", {"limits": {"anonymous": {"api": 2, "resolvers": 1}, "user": {"api": 1, "resolvers": 9}}})
    info, file = "/api/models/org/bert", "/org/bert/resolve/main/config.json"
    status, headers, _ = ask(hub, "/api/models/org/none")
    assert (status, headers["RateLimit-Policy"]) == (401, '"fixed window";"api";q=2;w=300'), "a refusal counts, too"
    assert re.fullmatch(r'"api";r=1;t=(299|300)', headers["RateLimit"])
    assert [ask(hub, info)[0] for _ in range(2)] == [200, 429]
    assert [ask(hub, info, token="hf_bob")[0] for _ in range(2)] == [200, 429]
    assert [ask(hub, info, token="hf_alice")[0], ask(hub, file, method="HEAD")[0], ask(hub, file, method="HEAD")[0]] == [200, 307, 429]
    status, headers, body = ask(hub, info)
    assert status == 429 and headers["RateLimit"].startswith('"api";r=0;t=') and "Retry-After" not in headers
    assert "We had to rate limit your IP (127.0.0.1)" in json.loads(body)["error"]
    assert ask(hub, info, MIRROR)[0] == 200, "a mirror counts for itself"
    hub.control("PUT", "/hub/settings", {"retry_after": True})
    assert 298 <= int(ask(hub, info)[1]["Retry-After"]) <= 300
    hub.control("PUT", "/clock", {"ahead": 301})
    assert ask(hub, info)[0] == 200
    hub.control("PUT", "/clock", {"ahead": 0})
    assert re.fullmatch(r'"api";r=1;t=(299|300)', ask(hub, info)[1]["RateLimit"]), "a clock that is set back makes no window longer"


def test_an_address_at_the_cdn_is_good_for_one_file_without_a_token_and_for_its_time(hub):
    commit(hub)
    content = BIG["model-1.safetensors"]
    status, headers, body = ask(hub, at_cdn(hub), CDN)
    assert (status, body) == (200, content) and 'filename="model-1.safetensors"' in headers["Content-Disposition"]
    status, headers, body = ask(hub, at_cdn(hub), CDN, Range="bytes=10-19")
    assert (status, headers["Content-Range"], body) == (206, f"bytes 10-19/{len(content)}", content[10:20])
    assert ask(hub, at_cdn(hub), CDN, Range=f"bytes={len(content)}-")[0] == 416

    status, _, body = ask(hub, at_cdn(hub), CDN, token="hf_alice")
    assert status == 400 and b"<Code>InvalidArgument</Code>" in body
    other = urlsplit(at_cdn(hub, "model-2.safetensors"))
    bad = [at_cdn(hub, Signature="0" * 64), at_cdn(hub, Signature=None), at_cdn(hub, Policy="e30_"), at_cdn(hub, Expires=str(SOON))]
    bad += [f"{other.path}?{urlsplit(at_cdn(hub)).query}"]
    for path in bad:
        status, _, body = ask(hub, path, CDN)
        assert status == 403 and b"<Code>AccessDenied</Code>" in body, path
    assert b"<Code>MissingKey</Code>" in ask(hub, other.path, CDN)[2]
    hub.control("PUT", "/hub/settings", {"lifetime": 60})
    path = at_cdn(hub)
    hub.control("PUT", "/clock", {"ahead": 58})
    assert ask(hub, path, CDN)[0] == 200
    hub.control("PUT", "/clock", {"ahead": 60})
    assert ask(hub, path, CDN)[0] == 403
    # A grant that is taken back does not reach an address that was given out.
    hub.control("PUT", "/clock", {"ahead": 0})
    hub.control("DELETE", "/hub/repositories/org/bert")
    assert ask(hub, path, CDN)[0] == 200


def test_small_files_are_elsewhere_on_the_same_host_and_ask_for_the_right_again(hub):
    put = commit(hub)
    hub.control("PUT", "/hub/repositories/org/bert", {"gated": "auto", "granted": ["alice"]})
    path = "/org/bert/resolve/main/tokenizer/%C3%BC%20b%2Bc.json"
    status, headers, _ = ask(hub, path, method="HEAD", token="hf_alice")
    where = urlsplit(headers["Location"])
    assert (status, headers["X-Repo-Commit"], where.netloc) == (307, put["commit"], "")
    assert where.path == f"/api/resolve-cache/models/org/bert/{put['commit']}/tokenizer/%C3%BC%20b%2Bc.json"
    oid = put["files"]["tokenizer/\u00fc b+c.json"]["oid"]
    # One of the clients leaves the query out.
    for one in (headers["Location"], where.path):
        status, headers, body = ask(hub, one, token="hf_alice")
        assert (status, body, headers["ETag"], headers["X-Repo-Commit"]) == (200, b"{}", f'"{oid}"', put["commit"])
        assert [ask(hub, one)[0], ask(hub, one, token="hf_bob")[0]] == [401, 403]
    assert ask(hub, where.path, token="hf_alice", If_None_Match="x")[0] == 200
    assert ask(hub, where.path, token="hf_alice", **{"If-None-Match": f'"{oid}"'})[0] == 304
    assert ask(hub, f"/api/resolve-cache/models/org/bert/{put['commit']}/model-1.safetensors", token="hf_alice")[0] == 404
    hub.control("PUT", "/hub/settings", {"resolve_cache": False})
    status, headers, body = ask(hub, path, token="hf_alice")
    assert (status, headers["ETag"], body) == (200, f'"{oid}"', b"{}")


def test_a_big_file_says_what_it_is_before_it_is_fetched(hub):
    put, content = commit(hub), BIG["model-1.safetensors"]
    status, headers, _ = ask(hub, "/org/bert/resolve/main/model-1.safetensors", method="HEAD")
    assert (status, headers["X-Linked-Size"], headers["X-Repo-Commit"]) == (302, str(len(content)), put["commit"])
    assert headers["X-Linked-ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert "X-Xet-Hash" not in headers and urlsplit(headers["Location"]).netloc == CDN
    # Where the hub is on another port, so is the CDN.
    elsewhere = ask(hub, "/org/bert/resolve/main/model-1.safetensors", f"{HUB}:8080", method="HEAD")[1]["Location"]
    assert urlsplit(elsewhere).netloc == f"{CDN}:8080"
    hub.control("PUT", "/hub/repositories/org/bert", {"xet": True})
    headers = ask(hub, "/org/bert/resolve/main/model-1.safetensors", method="HEAD")[1]
    rows = {row["path"]: row for row in json.loads(ask(hub, "/api/models/org/bert/tree/main")[2])}
    assert re.fullmatch("[0-9a-f]{64}", headers["X-Xet-Hash"]) and headers["X-Xet-Hash"] == rows["model-1.safetensors"]["xetHash"]
    assert headers["Link"] == f'<http://{HUB}/api/models/org/bert/xet-read-token/{put["commit"]}>; rel="xet-auth"'


def test_refusals_are_worded_as_the_hubs(hub):
    commit(hub)
    commit(hub, repository="org/gated")
    hub.control("PUT", "/hub/repositories/org/gated", {"gated": "manual"})
    commit(hub, repository="org/off")
    hub.control("PUT", "/hub/repositories/org/off", {"disabled": True})
    config = "resolve/main/config.json"
    wanted = [
        ("/org/none/" + config, None, 401, None, "Invalid username or password."),
        ("/org/none/" + config, "hf_bob", 404, "RepoNotFound", "Repository not found"),
        ("/org/bert/" + config, "hf_wrong", 401, None, "Invalid credentials in Authorization header"),
        ("/org/bert/resolve/x%0Ay/config.json", None, 404, "RevisionNotFound", "Invalid rev id: x?y"),
        ("/org/bert/resolve/main/none", None, 404, "EntryNotFound", "Entry not found"),
        ("/api/models/org/bert/tree/main/none", None, 404, "EntryNotFound", 'none does not exist on "main"'),
        ("/org/gated/" + config, None, 401, "GatedRepo", "Access to model org/gated is restricted. You must have access to it and be"),
        (
            "/org/gated/" + config,
            "hf_bob",
            403,
            "GatedRepo",
            "Access to model org/gated is restricted and you are not in the authorized list.",
        ),
        ("/org/off/" + config, "hf_carol", 403, None, "Access to this resource is disabled."),
        ("/api/models/org/bert?expand[]=sha", None, 400, None, "This hub does not play expand"),
        ("/api/datasets/org/bert", None, 404, None, "Sorry, we can't find the page"),
    ]
    for path, token, status, code, message in wanted:
        got, headers, body = ask(hub, path, token=token)
        assert (got, headers["X-Error-Code"]) == (status, code), path
        assert headers["X-Error-Message"].startswith(message), path
        assert json.loads(body)["error"].replace("\n", "?") == headers["X-Error-Message"]
    assert ask(hub, "/org/bert/" + config, method="DELETE")[0] == 405
    status, headers, _ = ask(hub, "/api/models/org/bert", host=CDN)
    assert (status, headers["Content-Type"]) == (403, "text/xml"), "the CDN is not the hub"


def test_a_mirror_with_a_token_of_its_own_takes_no_other_and_opens_nothing_by_it(hub):
    commit(hub)
    commit(hub, repository="org/gated")
    hub.control("PUT", "/hub/repositories/org/gated", {"gated": "auto", "granted": ["alice"]})
    path = "/org/bert/resolve/main/model-1.safetensors"
    tokens = (None, "hf_alice", "its-own")
    assert [ask(hub, path, CLOSED, method="HEAD", token=token)[0] for token in tokens] == [401, 401, 302]
    assert ask(hub, path.replace("bert", "gated"), CLOSED, method="HEAD", token="its-own")[1]["X-Error-Code"] == "GatedRepo"
    assert [ask(hub, path, host, method="HEAD", token="its-own")[0] for host in (HUB, MIRROR)] == [401, 401]


def test_requests_and_faults_are_by_the_name_that_was_asked(hub):
    commit(hub)
    hub.control("PUT", "/faults", {"key": f"{MIRROR}/*", "status": 503})
    path = "/org/bert/resolve/main/config.json"
    assert [ask(hub, path, host, method="HEAD")[0] for host in (MIRROR, HUB, HUB)] == [503, 307, 307]
    assert ask(hub, "/org/none/resolve/main/config.json")[0] == 401
    assert "X-Error-Code" not in ask(hub, path, MIRROR, method="HEAD")[1], "a hub that is down has no word for it"
    wanted = {f"{MIRROR}{path}": {"head": 2}, f"{HUB}{path}": {"head": 2}, f"{HUB}/org/none/resolve/main/config.json": {"get": 1}}
    assert requests(hub) == wanted
    hub.control("PUT", "/faults", {"key": f"{CDN}/*", "change": True})
    assert ask(hub, at_cdn(hub), CDN)[2][1:] == BIG["model-1.safetensors"][1:]
    assert ask(hub, at_cdn(hub), CDN)[2] != BIG["model-1.safetensors"]


def test_objects_have_the_names_that_git_gives_them(hub, tmp_path):
    """Names that sort otherwise in git than in Python, or lie deep, and a pointer in the place of a big file."""
    texts = {"a.txt": "1", "a/b/c": "2", "a/b.txt": "", "a-b": "3", "ab": "4", "\u00fc/x": "5", "..-": "6"}
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(b'weights').hexdigest()}\nsize 7\n"
    first = commit(hub, small=texts, big={"m.safetensors": b"weights"}, date=1_700_000_000, message="First\n\nof two")
    second = commit(hub, small={"a.txt": "7"}, big={}, remove=["ab"], date=1_700_000_001, message="Second")
    work = tmp_path / "git"

    def git(*command, **environment):
        done = subprocess.run(["git", "-C", str(work), *command], env=os.environ | environment, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def committed(files, message, when, *parent):
        for path, text in files.items():
            (work / path).parent.mkdir(parents=True, exist_ok=True)
            (work / path).write_text(text)
        git("add", "--all")
        tree = git("write-tree")
        person = {"NAME": "ModelFleet lab", "EMAIL": "lab@modelfleet.internal", "DATE": f"{when} +0000"}
        people = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in person.items()}
        return tree, git("commit-tree", tree, *parent, "-m", message, **people)

    work.mkdir()
    git("init", "--quiet")
    wanted = committed(texts | {"m.safetensors": pointer}, "First\n\nof two", 1_700_000_000)
    assert (first["tree"], first["commit"]) == wanted
    rows = [line.partition("\t") for line in git("-c", "core.quotePath=off", "ls-tree", "-r", wanted[0]).splitlines()]
    assert {path: one["oid"] for path, one in first["files"].items()} == {path: facts.split()[2] for facts, _, path in rows}
    (work / "ab").unlink()
    wanted = committed({"a.txt": "7"}, "Second", 1_700_000_001, "-p", wanted[1])
    assert (second["tree"], second["commit"]) == wanted
    rows = json.loads(ask(hub, "/api/models/org/bert/tree/main?recursive=true")[2])
    folders = {row["path"]: row["oid"] for row in rows if row["type"] == "directory"}
    assert folders == {path: git("rev-parse", f"{wanted[1]}:{path}") for path in ("a", "a/b", "\u00fc")}


def test_a_repository_may_have_files_that_no_host_should_take(hub):
    """Git would take few of these, but a hub may say anything."""
    names = {"../up", "a/../../up", "/root", ".git/config", "a\\b", "nul\0"}
    put = commit(hub, small=dict.fromkeys(names, "x"), big={})
    rows = json.loads(ask(hub, "/api/models/org/bert/tree/main?recursive=True")[2])
    assert {row["path"] for row in rows if row["type"] == "file"} == names == set(put["files"])
    info = json.loads(ask(hub, f"/api/models/org/bert/revision/{put['commit']}")[2])
    assert {row["rfilename"] for row in info["siblings"]} == names
    where = ask(hub, "/org/bert/resolve/main/a%2F..%2F..%2Fup", method="HEAD")[1]["Location"]
    assert ask(hub, where)[2] == b"x"


def test_a_hub_that_is_restarted_has_everything_still(hub, config, tmp_path):
    put = commit(hub)
    hub.control("PUT", "/hub/users/dora", {"orgs": ["org"], "tokens": {"hf_dora": {}}})
    hub.control("PUT", "/hub/users/alice", {"tokens": {"hf_alice": {"revoked": True}}})
    hub.control("PUT", "/hub/repositories/org/bert", {"private": True, "name": "org/new"})
    url = urlsplit(ask(hub, "/org/new/resolve/main/model-1.safetensors", method="HEAD", token="hf_carol")[1]["Location"])
    again = Running(config | {"data": str(tmp_path / "data")})
    try:
        assert json.loads(ask(again, "/api/models/org/new", token="hf_dora")[2])["sha"] == put["commit"]
        assert ask(again, "/api/models/org/bert", token="hf_dora")[0] == 307
        assert [ask(again, "/api/whoami-v2", token=token)[0] for token in ("hf_alice", "hf_bob")] == [401, 200]
        served = ask(again, f"{url.path}?{url.query}", CDN)
        assert served[2] == BIG["model-1.safetensors"], "an address that was given out is good still"
    finally:
        server.stop(again.servers)


def test_the_control_api_takes_nothing_half(hub):
    put = commit(hub)
    commit(hub, repository="org/taken", big={})
    bad = [
        ("PUT", "/hub/repositories/org/bert", {"gated": "some"}),
        ("PUT", "/hub/repositories/org/bert", {"private": "yes"}),
        ("PUT", "/hub/repositories/org/bert", {"commits": {}}),
        ("PUT", "/hub/repositories/org/bert", {"private": True, "name": "org/taken"}),
        ("PUT", "/hub/settings", {"lifetime": 1, "page": "many"}),
        ("PUT", "/hub/commits/org/bert", {"files": {"x": {"sha256": "0" * 64}}}),
        ("PUT", "/hub/commits/org/other", {"files": {"x": {"text": "x"}}, "remove": ["none"]}),
        ("PUT", "/hub/refs/org/bert", {"branches": {"other": put["commit"], "main": "0" * 40}}),
        ("PUT", "/hub/refs/org/bert", {"forget": [put["commit"]]}),
        ("PUT", "/hub/users/eve", {"tokens": {"hf_eve": {"admin": True}}}),
        ("DELETE", "/hub/repositories/org/none", None),
        ("GET", "/hub/none", None),
    ]
    before = [hub.control("GET", path) for path in ("/hub", "/hub/settings")]
    for method, path, value in bad:
        connection = http.client.HTTPConnection("127.0.0.1", hub.ports["control"], timeout=10)
        connection.request(method, path, body=json.dumps(value) if value else None)
        assert connection.getresponse().status in (400, 404), (method, path, value)
        connection.close()
    assert [hub.control("GET", path) for path in ("/hub", "/hub/settings")] == before
