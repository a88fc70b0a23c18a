"""A bundle on every host: one copy on the disk, served where it lies, restored after a restart; a second version moves almost nothing.

Runs after the tests of the converged fleet, whose counters it changes.
"""

from __future__ import annotations

import json

import pytest
from fleet import GPU_HOSTS, MODELS, REPOSITORY, make_model, only_in_all, published, recap, wait_until

# Runs on the host: {sha256: [names]} of the files of at least so many bytes below the directories, a line for each inode.
COPIES = """
import hashlib, json, os, sys
least, found = int(sys.argv[1]), {}
for top in sys.argv[2:]:
    for parent, _directories, names in os.walk(top):
        for path in (os.path.join(parent, name) for name in names):
            status = os.lstat(path)
            if status.st_size >= least and not os.path.islink(path):
                found.setdefault((status.st_dev, status.st_ino), []).append(path)
copies = {}
for paths in found.values():
    with open(paths[0], "rb") as handle:
        copies.setdefault(hashlib.file_digest(handle, "sha256").hexdigest(), []).append(paths)
print(json.dumps(copies))
"""
LARGE = 4 << 20


def copies(host):
    """{sha256: [names of one inode, names of another, …]} of the large files, those that TorchServe unpacked included."""
    return json.loads(host.check_output("python3 -c %s %s /var/lib/modelfleet /var/lib/torchserve", COPIES, str(LARGE)))


def weights_of(host, directory):
    return host.check_output("sha256sum %s", f"{directory}/weights.bin").split()[0]


def used(host):
    """Bytes of all files that models consist of, each inode once."""
    return int(
        host.check_output("cd /var/lib/modelfleet && du -s -c -B1 pieces/content incoming blobs manifests models | tail -1").split()[0]
    )


@pytest.fixture(scope="module")
def ask():
    """A callable that asks a version of the bundle's model on a host for its known answer."""
    files = REPOSITORY / ".cache/files"
    request = (files / "unpacked-1.0.input.json").read_text(encoding="utf-8")
    expected = json.loads((files / "unpacked-1.0.expected.json").read_text(encoding="utf-8"))

    def check(host, version="1.0"):
        status, answer = host.predict(f"unpacked/{version}", request)
        assert status == 200, answer
        assert answer["y"] == pytest.approx(expected["y"], abs=1e-4)
        return True

    return check


def versions(host):
    status, found = host.request("GET", "http://127.0.0.1:8081/models/unpacked/all")
    assert status == 200, found
    return {one["modelVersion"]: one["modelUrl"] for one in found}


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_a_bundle_is_served_as_the_directory_that_it_is(fleet, bundle, ask, name):
    host = fleet[name]
    assert versions(host) == {"1.0": bundle["path"].rpartition("/")[2]}
    assert sorted(host.check_output("find %s -printf '%%P\\n'", bundle["path"]).split()) == [
        "MAR-INF",
        "MAR-INF/MANIFEST.json",
        "handler.py",
        "weights.bin",
    ]
    assert ask(host)


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_one_copy_is_on_the_disk_with_all_that_torchserve_has(fleet, archive, bundle, name):
    host = fleet[name]
    found = copies(host)
    (names,) = found[weights_of(host, bundle["path"])]
    places = {path.removeprefix("/var/lib/modelfleet/").split("/")[0] for path in names}
    assert places == {"pieces", "blobs", "models"}, names
    # What TorchServe unpacks of an archive shows that this looks at the right place.
    assert any(path.startswith("/var/lib/torchserve/tmp/models/") for inodes in found.values() for paths in inodes for path in paths)
    assert len(found[archive["sha256"]]) == 1


@pytest.mark.parametrize("name", GPU_HOSTS)
def test_only_root_can_change_a_bundle(fleet, bundle, name):
    host = fleet[name]
    assert set(host.check_output("find %s -printf '%%u %%m %%y\\n'", bundle["path"]).splitlines()) == {"root 755 d", "root 444 f"}
    for user in ("dfdaemon", "torchserve"):
        for command in ("touch %s/planted", "sh -c 'echo > %s/weights.bin'"):
            tried = host.run(f"runuser -u {user} -- {command}", bundle["path"])
            assert tried.rc != 0 and "ermission denied" in tried.stderr, (user, command, tried.stderr)


@only_in_all
def test_what_is_on_a_host_is_not_brought_again(fleet, play):
    """Neither the bundle, nor the archive that came with its registration."""
    before = {name: fleet[name].traffic() for name in ("seed-1", *GPU_HOSTS)}
    first, second = play("playbooks/distribute.yml"), play("playbooks/distribute.yml")
    for finished in (first, second):
        assert finished.returncode == 0, finished.stdout[-3000:]
    assert {name: recap(second)[name]["changed"] for name in before} == dict.fromkeys(before, 0)
    assert "No model was downloaded in this run." in second.stdout
    assert {name: fleet[name].traffic() for name in before} == before


def test_a_restart_restores_it_from_local_disk(fleet, origin, ask, bundle):
    host = fleet["gpu-1"]
    before = origin.call("GET", "/counters")["objects"]
    host.check_output("systemctl restart torchserve")
    wait_until(lambda: host.active("torchserve-models") and ask(host), "the bundle serving again")
    assert origin.call("GET", "/counters")["objects"] == before
    assert len(copies(host)[weights_of(host, bundle["path"])]) == 1


def test_a_bundle_that_was_changed_is_not_restored_and_healed_by_the_next_run(fleet, play, ask, bundle):
    """Somebody who is root has deleted a file of it; what else the host serves is not touched."""
    host = fleet["gpu-2"]
    host.check_output("rm %s", f"{bundle['path']}/handler.py")
    host.check_output("systemctl restart torchserve")
    wait_until(lambda: host.run("systemctl is-failed torchserve-models").stdout.strip() == "failed", "the restore giving up")
    said = host.check_output("journalctl --no-pager --output=cat -u torchserve-models --since -2min")
    assert "Failed to restore model unpacked 1.0" in said and "has no handler.py that can be read" in said
    assert host.served() == {"demo"}
    finished = play("playbooks/site.yml", "--limit", "gpu-2")
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert ask(host)
    host.check_output("systemctl reset-failed torchserve-models && systemctl start torchserve-models")


@pytest.fixture(scope="module")
def second(models, bundle, tmp_path_factory):
    """(list of models with a second version of the bundle, which has the same weights; where its archive is)."""
    archive = make_model(tmp_path_factory.mktemp("second"), "unpacked", "2.0", size_mib=16)
    listed = [{key: value for key, value in model.items() if key != "path"} for model in models]
    return listed, {"src": str(archive), "bundle": bundle["bundle"]}


@only_in_all
def test_a_second_version_with_the_same_weights_moves_almost_nothing(fleet, origin, play, second, bundle, ask):
    listed, artifact = second
    size = 16 << 20
    (entry,) = published(play("playbooks/publish.yml", "-e", json.dumps({"modelfleet_artifacts": [artifact]}), json_results=True))
    assert (entry["name"], entry["version"], entry["bundle"]) == ("unpacked", "2.0", bundle["bundle"])
    variables = ["-e", json.dumps({"modelfleet_models": [*listed, entry]})]

    disk = {name: used(fleet[name]) for name in GPU_HOSTS}
    before = {name: sum(fleet[name].traffic().values()) for name in ("seed-1", *GPU_HOSTS)}
    brought = play("playbooks/distribute.yml", *variables)
    assert brought.returncode == 0, brought.stdout[-3000:]
    directory = f"{MODELS}/unpacked-2.0-{entry['sha256'][:12]}"
    for name in GPU_HOSTS:
        host = fleet[name]
        assert sum(host.traffic().values()) - before[name] <= 0.01 * size
        assert used(host) - disk[name] <= 0.01 * size
        (names,) = copies(host)[weights_of(host, bundle["path"])]
        assert {f"{directory}/weights.bin", f"{bundle['path']}/weights.bin"} <= set(names)
        # Nothing that serves was touched.
        assert list(versions(host)) == ["1.0"]
    assert sum(fleet["seed-1"].traffic().values()) - before["seed-1"] <= 0.01 * size

    served = play("playbooks/site.yml", *variables)
    assert served.returncode == 0, served.stdout[-3000:]
    for name in GPU_HOSTS:
        assert sorted(versions(fleet[name])) == ["1.0", "2.0"]
        assert ask(fleet[name]) and ask(fleet[name], "2.0")

    gone = play("playbooks/site.yml", "-e", json.dumps({"modelfleet_models": [*listed, {**entry, "state": "absent"}]}))
    assert gone.returncode == 0, gone.stdout[-3000:]
    for name in GPU_HOSTS:
        host = fleet[name]
        assert list(versions(host)) == ["1.0"] and ask(host)
        assert host.run("test -e %s", directory).rc == 1
        assert host.run("test -e %s", f"/var/lib/modelfleet/manifests/{entry['sha256']}.json").rc == 1
        assert used(host) - disk[name] <= 0.01 * size
