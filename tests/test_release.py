# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A release: the same bytes wherever it is built, refused when it is not fit, and installed by who has its key only as it was signed."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import archive
import judge
import pytest
import sign
import yaml
from archive import Stop, normalise, read, sha256_of
from contents import bill_of
from fleet import only_in_all

import release

pytestmark = only_in_all
REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = REPOSITORY / archive.COLLECTION
NAME = "modelfleet-serving-0.1.0.tar.gz"
IN_JAR = "roles/endpoint_plugin/files/dragonfly-endpoint.jar"


def pack(path, members, when=1, names=None):
    """Write (is a directory, mode, content) by name as an archive."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile(path.name, "wb", fileobj=raw, mtime=when) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for name in names or members:
            directory, mode, content = members[name]
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = (tarfile.DIRTYPE if directory else tarfile.REGTYPE), mode
            entry.size, entry.mtime = len(content), when
            tar.addfile(entry, io.BytesIO(content))
    return path


def alter(members, name, content, hide=False):
    """With another content of a file, and where it is to be hidden with the digests that follow from it."""
    changed = {**members, name: (*members[name][:2], content)}
    if hide:
        files, manifest = (json.loads(members[one][2]) for one in ("FILES.json", "MANIFEST.json"))
        next(one for one in files["files"] if one["name"] == name)["chksum_sha256"] = hashlib.sha256(content).hexdigest()
        listed = json.dumps(files).encode()
        manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(listed).hexdigest()
        changed["FILES.json"] = (False, 0o644, listed)
        changed["MANIFEST.json"] = (False, 0o644, json.dumps(manifest).encode())
    return changed


@pytest.fixture(scope="module")
def plain(run, tmp_path_factory):
    """The archive of the collection without the jar, which takes a compiler."""
    folder = tmp_path_factory.mktemp("plain")
    built = run("ansible-galaxy", "collection", "build", "--output-path", folder / "raw", COLLECTION)
    assert built.returncode == 0, built.stdout
    normalise(folder / "raw" / NAME, folder / NAME)
    return folder / NAME


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A throw-away key that signs, the keyring of who has its public half, and a keyring with another one."""
    with pytest.MonkeyPatch.context() as patch:
        # A socket's path may have a hundred characters.
        home = Path(subprocess.run(["mktemp", "-d"], capture_output=True, text=True, check=True).stdout.strip())
        patch.setenv("GNUPGHOME", str(home))
        made = {}
        for name in ("Releaser", "Stranger"):
            generate = [
                "gpg",
                "--batch",
                "--passphrase",
                "",
                "--quick-generate-key",
                f"{name} <{name.lower()}@example.com>",
                "ed25519",
                "sign",
            ]
            subprocess.run(generate, check=True, capture_output=True)
            public = subprocess.run(["gpg", "--export", name], check=True, capture_output=True).stdout
            ring = tmp_path_factory.mktemp("keys") / "ring.kbx"
            command = ["gpg", "--batch", "--no-default-keyring", "--keyring", str(ring), "--import"]
            subprocess.run(command, input=public, check=True, capture_output=True)
            made[name] = (sign.fingerprint_of(name), ring)
        yield made
        subprocess.run(["gpgconf", "--kill", "all"], check=True)
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def signed(plain, keys, tmp_path_factory):
    """What a release is made of, by what it is."""
    place = tmp_path_factory.mktemp("signed")
    shutil.copy(plain, place)
    bill = place / "modelfleet-serving-0.1.0.cdx.json"
    bill.write_text(json.dumps(bill_of(plain)))
    made = sign.sign(place / NAME, [bill], keys["Releaser"][0])
    return dict(zip(("archive", "bill", "manifest", "sums", "signature"), made))


def test_what_differs_between_builds_is_not_in_the_archive(plain, tmp_path):
    members = read(plain)
    files = json.loads(members["FILES.json"][2])
    digests = set()
    for number, order in enumerate((sorted(members), sorted(members, reverse=True))):
        files["files"].sort(key=lambda one: one["name"], reverse=bool(number))
        listed = json.dumps(files, indent=number).encode()
        pack(tmp_path / f"{number}.tar.gz", {**members, "FILES.json": (False, 0o644, listed)}, 1_700_000_000 + number, order)
        target = tmp_path / f"normal-{number}.tar.gz"
        normalise(tmp_path / f"{number}.tar.gz", target)
        digests.add(sha256_of(target))
    assert digests == {sha256_of(plain)}
    assert sha256_of(tmp_path / "0.tar.gz") != sha256_of(tmp_path / "1.tar.gz")
    normal = read(plain)
    assert list(normal)[:2] == ["MANIFEST.json", "FILES.json"]
    manifest = json.loads(normal["MANIFEST.json"][2])
    assert manifest["file_manifest_file"]["chksum_sha256"] == hashlib.sha256(normal["FILES.json"][2]).hexdigest()
    for entry in json.loads(normal["FILES.json"][2])["files"]:
        if entry["ftype"] == "file":
            assert hashlib.sha256(normal[entry["name"]][2]).hexdigest() == entry["chksum_sha256"], entry["name"]


def umask():
    before = os.umask(0o022)
    os.umask(before)
    return before


@pytest.mark.parametrize("differs", ["by nothing", "by the place", "by the umask"])
def test_builds_that_differ_are_no_release(monkeypatch, tmp_path, differs):
    def build(dest, _javac, _jdk):
        content = {"by nothing": "", "by the place": str(dest), "by the umask": oct(umask())}[differs]
        (Path(dest) / NAME).write_text(content)
        return Path(dest) / NAME

    monkeypatch.setattr(archive, "build", build)
    before = umask()
    if differs == "by nothing":
        assert release.build_twice(tmp_path, "javac", None) == tmp_path / NAME
    else:
        with pytest.raises(Stop, match="not the same"):
            release.build_twice(tmp_path, "javac", None)
    assert umask() == before


def test_the_bill_says_what_is_in_the_archive_and_what_it_brings(plain):
    bill = bill_of(plain)
    root = bill["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == ("modelfleet.serving", "0.1.0", "application")
    assert root["hashes"] == [{"alg": "SHA-256", "content": sha256_of(plain)}]
    assert root["licenses"] == [{"license": {"id": "GPL-3.0-or-later"}}]
    inside = {one["name"]: one["hashes"][0]["content"] for one in root["components"]}
    assert set(inside) == {name for name, (directory, _mode, _content) in read(plain).items() if not directory} - {
        "MANIFEST.json",
        "FILES.json",
    }
    assert inside["meta/runtime.yml"] == sha256_of(COLLECTION / "meta/runtime.yml")
    brought = {(one["name"], one["version"]): one for one in bill["components"]}
    wheels = dict(re.findall(r"^torchserve==(\S+) --hash=sha256:(\w+)$", (REPOSITORY / "lab/wheels.txt").read_text(), re.MULTILINE))
    assert {one["version"]: one["hashes"][0]["content"] for one in brought.values() if one["name"] == "torchserve"} == wheels
    assert brought["torchserve", "0.12.0"]["purl"] == "pkg:pypi/torchserve@0.12.0"
    defaults = {
        name: yaml.safe_load((COLLECTION / f"roles/{name}/defaults/main.yml").read_text()) for name in ("dfdaemon", "dragonfly_scheduler")
    }
    client, scheduler = defaults["dfdaemon"]["dfdaemon_version"], defaults["dragonfly_scheduler"]["dragonfly_scheduler_version"]
    assert brought["dragonfly-client", client]["purl"] == f"pkg:github/dragonflyoss/client@v{client}"
    assert brought["dragonfly-scheduler", scheduler]["purl"] == f"pkg:github/dragonflyoss/dragonfly@v{scheduler}"
    refs = [one["bom-ref"] for one in [root, *root["components"], *bill["components"]]]
    assert len(refs) == len(set(refs))
    assert bill == bill_of(plain)


def test_everything_is_in_the_sums_and_the_sums_are_signed(signed, keys):
    place = signed["archive"].parent
    assert {line.split()[1] for line in signed["sums"].read_text().splitlines()} == {
        signed[one].name for one in ("archive", "bill", "manifest")
    }
    assert sorted(path.name for path in place.iterdir()) == sorted(path.name for path in signed.values())
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=place, check=True, capture_output=True)

    def verify(name, signature, signatory="Releaser"):
        ring = ["--no-default-keyring", "--keyring", str(keys[signatory][1])]
        return subprocess.run(
            ["gpg", "--batch", *ring, "--verify", signature, name], cwd=place, capture_output=True, check=False
        ).returncode

    assert verify("SHA256SUMS", "SHA256SUMS.asc") == 0
    assert verify("SHA256SUMS", "SHA256SUMS.asc", "Stranger") != 0
    assert verify(signed["bill"], "SHA256SUMS.asc") != 0


@pytest.mark.parametrize(
    ("key", "said"), [("", "names 0 secret keys"), ("nobody@example.com", "gpg"), ("example.com", "names 2 secret keys")]
)
def test_only_one_key_signs(keys, key, said):
    with pytest.raises(Stop, match=said):
        sign.fingerprint_of(key)


@contextmanager
def galaxy(path, signatures=()):
    """A Galaxy server with one collection, as much of one as installing it takes."""
    content = path.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            base = f"http://127.0.0.1:{self.server.server_port}"
            place = "/api/v3/collections/modelfleet/serving/"
            version = {
                "version": "0.1.0",
                "href": f"{place}versions/0.1.0/",
                "namespace": {"name": "modelfleet"},
                "collection": {"name": "serving", "href": place},
                "download_url": f"{base}/{NAME}",
                "artifact": {"filename": NAME, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)},
                "metadata": {"dependencies": {}},
                "signatures": [{"signature": one} for one in signatures],
            }
            pages = {
                "/api/": {"available_versions": {"v3": "v3/"}},
                place: {"href": place, "updated_at": "2026-01-01T00:00:00Z", "versions_url": f"{place}versions/"},
                f"{place}versions/": {"meta": {"count": 1}, "links": {"next": None}, "data": [version]},
                f"{place}versions/0.1.0/": version,
            }
            asked = self.path.partition("?")[0]
            body = content if asked == f"/{NAME}" else json.dumps(pages[asked]).encode() if asked in pages else None
            self.send_response(200 if body is not None else 404)
            self.send_header("Content-Type", "application/octet-stream" if asked == f"/{NAME}" else "application/json")
            self.end_headers()
            self.wfile.write(body or b"{}")

        def log_message(self, *_arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api/"
    server.shutdown()


@pytest.fixture
def install(run, tmp_path, keys):
    """Install an archive from a server, with a keyring; the finished process, and where the collection is then."""

    def install_from(path, signatures=(), signatory="Releaser", own=()):
        place = tmp_path / "installed"
        shutil.rmtree(place, ignore_errors=True)
        with galaxy(path, signatures) as url:
            done = run(
                *("ansible-galaxy", "collection", "install", "modelfleet.serving:==0.1.0", "--server", url, "-p", place),
                *("--keyring", keys[signatory][1], "--required-valid-signature-count", "+1", *own),
                ANSIBLE_HOME=str(tmp_path / "home"),
                ANSIBLE_COLLECTIONS_PATH=str(place),
            )
        return done, place / "ansible_collections/modelfleet/serving"

    return install_from


def test_who_has_the_key_installs_what_was_signed(install, signed, run, keys, tmp_path):
    done, place = install(signed["archive"], [signed["manifest"].read_text()])
    assert done.returncode == 0 and (place / "MANIFEST.json").exists(), done.stdout
    # From a server without signatures, with the one that lies beside the archive.
    done, place = install(signed["archive"], own=("--signature", f"file://{signed['manifest']}"))
    assert done.returncode == 0 and (place / "MANIFEST.json").exists(), done.stdout

    def verify():
        return run(
            *(
                "ansible-galaxy",
                "collection",
                "verify",
                "--offline",
                "--keyring",
                keys["Releaser"][1],
                "--required-valid-signature-count",
                "+1",
            ),
            *("--signature", f"file://{signed['manifest']}", "modelfleet.serving"),
            ANSIBLE_HOME=str(tmp_path / "home"),
            ANSIBLE_COLLECTIONS_PATH=str(tmp_path / "installed"),
        )

    assert verify().returncode == 0, verify().stdout
    with (place / "meta/runtime.yml").open("a") as file:
        file.write("# altered\n")
    assert verify().returncode != 0 and "meta/runtime.yml" in verify().stdout, verify().stdout


@pytest.mark.parametrize("case", ["unsigned", "by a stranger", "a file", "a file and its digests"])
def test_what_was_not_signed_is_not_installed(install, signed, tmp_path, case):
    signatures, path = [signed["manifest"].read_text()], signed["archive"]
    if case.startswith("a file"):
        members = alter(read(path), "meta/runtime.yml", b"# altered\n", hide="digests" in case)
        path = pack(tmp_path / "altered.tar.gz", members)
    done, place = install(path, [] if case == "unsigned" else signatures, "Stranger" if case == "by a stranger" else "Releaser")
    assert done.returncode != 0 and not (place / "meta/runtime.yml").exists(), done.stdout
    assert ("Checksum mismatch" if case == "a file" else "signature verification failed") in done.stdout, done.stdout


@pytest.fixture
def checkout(tmp_path):
    """The sources of a release, in a commit of their own."""
    place = tmp_path / "checkout"
    (place / "changelogs/fragments").mkdir(parents=True)
    (place / "galaxy.yml").write_text("version: 1.2.3\n")
    (place / "changelogs/changelog.yaml").write_text("ancestor: null\nreleases:\n  1.2.3: {release_date: '2026-01-01'}\n")
    (place / "changelogs/fragments/.keep").touch()
    git(place, "init", "--quiet")
    git(place, "add", ".")
    git(place, "commit", "--quiet", "--message", "Release")
    return place


def git(place, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false", "-c", "tag.gpgsign=false"]
    subprocess.run(["git", *identity, *arguments], cwd=place, check=True, capture_output=True)


def test_a_commit_with_its_changelog_is_released(checkout):
    assert list(release.unreleasable(checkout)) == []
    git(checkout, "tag", "--annotate", "v1.2.3", "--message", "1.2.3")
    assert list(release.unreleasable(checkout)) == []
    git(checkout, "commit", "--quiet", "--allow-empty", "--message", "Something else")
    assert [reason for reason in release.unreleasable(checkout) if "at another commit" in reason]


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        ("galaxy.yml", "version: 1.2\n", "no semantic version"),
        ("galaxy.yml", "version: 1.2.4\n", "no version 1.2.4"),
        ("changelogs/fragments/new.yml", "bugfixes: [a]\n", "the changes in new.yml"),
        ("changelogs/changelog.yaml", "releases: {}\n", "no version 1.2.3"),
        ("left.txt", "", "1 files differ, the first is left.txt"),
    ],
)
def test_what_is_not_fit_is_not_released(checkout, path, content, said):
    (checkout / path).write_text(content)
    assert said in "\n".join(release.unreleasable(checkout))


@pytest.mark.parametrize(
    ("said", "fit"),
    [
        (f"Getting doc strings via ansible-doc\n{judge.COMPLETED}", True),
        (f"WARNING: README.md: something\n{judge.COMPLETED}", False),
        ("Getting doc strings via ansible-doc", False),
    ],
)
def test_a_warning_of_galaxys_importer_is_a_failure(tmp_path, said, fit):
    (tmp_path / "python").write_text(f"#!/bin/sh\ncat <<'EOF'\n{said}\nEOF\n")
    (tmp_path / "python").chmod(0o755)
    if fit:
        assert judge.judge(tmp_path / NAME, tmp_path).strip() == said
    else:
        with pytest.raises(Stop, match="not content"):
            judge.judge(tmp_path / NAME, tmp_path)


@pytest.fixture
def parts(monkeypatch, plain, tmp_path):
    """A release whose dear parts are done; the sources are fit, and so is the archive."""
    monkeypatch.setattr(archive, "build", lambda place, _javac, _jdk: Path(shutil.copy(plain, Path(place) / NAME)))
    monkeypatch.setattr(release, "unreleasable", lambda _collection: [])
    monkeypatch.setattr(judge, "importer", lambda _cache: None)
    monkeypatch.setattr(judge, "judge", lambda _archive, _programs: judge.COMPLETED)
    (tmp_path / "ansible").write_text("#!/bin/sh\necho 'ansible [core 2.19.0]'\n")
    (tmp_path / "ansible").chmod(0o755)
    monkeypatch.setattr(judge, "cores", lambda: [("3.11", tmp_path), ("3.13", tmp_path)])
    monkeypatch.setattr(judge, "install", lambda _archive, _programs: (1, 2))
    return monkeypatch


def make(dest, *options, what="release"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["release", what, "--dest", str(dest), *options])
        return release.main()


def test_a_release_is_the_archive_and_what_vouches_for_it(parts, keys, tmp_path, capsys):
    assert make(tmp_path / "dist", "--key", keys["Releaser"][0]) == 0
    made = {path.name for path in (tmp_path / "dist").iterdir()}
    stem = NAME.removesuffix(".tar.gz")
    assert made == {NAME, f"{stem}.cdx.json", f"{stem}-MANIFEST.json.asc", "SHA256SUMS", "SHA256SUMS.asc"}
    assert keys["Releaser"][0] in capsys.readouterr().out
    # Nothing is put beside another release.
    assert make(tmp_path / "dist", "--key", keys["Releaser"][0]) == 1
    assert "is not empty" in capsys.readouterr().err


def test_a_rehearsal_needs_no_key_and_no_commit(parts, tmp_path):
    parts.setattr(release, "unreleasable", lambda _collection: ["It is not committed."])
    parts.setattr(judge, "cores", lambda: [("3.11", tmp_path)])
    assert make(tmp_path / "dist", what="rehearse") == 0
    assert {path.name for path in (tmp_path / "dist").iterdir()} == {NAME, f"{NAME.removesuffix('.tar.gz')}.cdx.json", "SHA256SUMS"}


@pytest.mark.parametrize("case", ["no key", "not committed", "a warning", "one core", "does not install"])
def test_nothing_is_left_of_what_is_no_release(parts, keys, tmp_path, capsys, case):
    def stop(*_arguments):
        raise Stop("It is not as it should be.")

    if case == "not committed":
        parts.setattr(release, "unreleasable", lambda _collection: ["It is not as it should be."])
    elif case == "one core":
        parts.setattr(judge, "cores", lambda: [("3.11", tmp_path)])
    elif case in ("a warning", "does not install"):
        parts.setattr(judge, "judge" if case == "a warning" else "install", stop)
    assert make(tmp_path / "dist", *([] if case == "no key" else ["--key", keys["Releaser"][0]])) == 1
    expected = {"no key": "GPG_KEY", "one core": "Python 3.11 and 3.13, and here is 3.11"}.get(case, "It is not as it should be.")
    assert expected in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if "dist" in path.name] == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("playbooks/smoke.yml", b"- hosts: all\n  roles: [nobody.knows.it]\n", "ansible-playbook .*ended with status"),
        ("plugins/modules/gpu_info.py", b"DOCUMENTATION = ''\n", "ansible-doc"),
    ],
)
def test_an_archive_that_does_not_work_by_itself_is_no_release(plain, tmp_path, name, content, said):
    broken = pack(tmp_path / NAME, alter(read(plain), name, content, hide=True))
    _version, programs = judge.cores()[0]
    with pytest.raises(Stop, match=f"(?s){said}"):
        judge.install(broken, programs)
