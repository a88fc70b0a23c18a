# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _module
from ansible_collections.modelfleet.serving.plugins.modules import container_image
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_podman import ANOTHER, CLIENT, DIGEST, ID, OLD_ID, FakePodman

OLDER = f"registry.example.org/dragonfly/client@{ANOTHER}"


@pytest.fixture
def podman(monkeypatch):
    fake = FakePodman()
    # Bound to the fake already, it is not given the module.
    monkeypatch.setattr(_module.CheckedModule, "run_command", fake.run_command)
    fake.registry = {CLIENT: ID, OLDER: OLD_ID}
    return fake


@pytest.fixture
def args(tmp_path):
    return {"name": CLIENT, "record": str(tmp_path / "client/.images.json"), "version": "1.5.10", "probe": ["--version"]}


@pytest.fixture
def image(run_module):
    return lambda args, **modes: run_module(container_image.main, args, **modes)


def recorded(args):
    with open(args["record"], encoding="utf-8") as handle:
        return [(one["name"], one["id"], one["brought"]) for one in json.load(handle)["images"]]


def test_is_pulled_by_its_digest_tried_and_noted(image, podman, args):
    predicted = image(args, check=True, diff=True)
    assert predicted["changed"] and predicted["action"] == "pulled" and predicted["id"] == "" and podman.images == {}
    assert (predicted["diff"]["before"], predicted["diff"]["after"]) == ("", f"{CLIENT}\n")
    result = image({**args, "name": CLIENT.replace("@", ":v1.5.10@"), "auth_file": "/root/auth.json"})
    assert result["changed"] and result["action"] == "pulled" and result["id"] == ID and result["previous"] is None
    assert podman.made("pull") == [["pull", "--quiet", "--authfile", "/root/auth.json", CLIENT]]
    (tried,) = podman.made("run")
    assert tried[-2:] == [CLIENT, "--version"] and {"--network=none", "--cap-drop=all", "--pull=never", "--read-only"} <= set(tried)
    assert recorded(args) == [(CLIENT.replace("@", ":v1.5.10@"), ID, True)]


def test_a_second_run_asks_nobody_and_changes_nothing(image, podman, args):
    image(args)
    podman.registry, podman.calls = {}, []
    result = image(args)
    assert not result["changed"] and result["action"] == "none" and result["id"] == ID
    assert podman.made("pull") == podman.made("run") == podman.made("rmi") == []
    assert not image(args, check=True)["changed"]


def test_what_was_there_before_is_never_removed(image, podman, args):
    podman.images = {OLDER: OLD_ID}
    assert image({**args, "name": OLDER})["action"] == "none"
    assert image({**args, "keep": 0})["removed"] == []
    assert podman.images == {OLDER: OLD_ID, CLIENT: ID}
    assert image({"record": args["record"], "state": "absent"})["removed"] == [ID]
    assert podman.images == {OLDER: OLD_ID}
    assert not image({"record": args["record"], "state": "absent"})["changed"]


def test_the_one_before_stays_for_the_way_back(image, podman, args):
    image({**args, "name": OLDER})
    assert image(args)["previous"] == OLDER and OLDER in podman.images
    podman.registry = {}
    back = image({**args, "name": OLDER})
    assert back["action"] == "none" and back["previous"] == CLIENT and recorded(args) == [(OLDER, OLD_ID, True), (CLIENT, ID, True)]
    predicted = image({**args, "name": OLDER, "keep": 0}, check=True)
    assert predicted["changed"] and predicted["removed"] == [ID] and CLIENT in podman.images
    assert image({**args, "name": OLDER, "keep": 0})["removed"] == [ID] and podman.images == {OLDER: OLD_ID}


def test_one_that_a_container_uses_stays(image, podman, args):
    image({**args, "name": OLDER})
    podman.used = {OLD_ID}
    assert image({**args, "keep": 0})["removed"] == [] and OLDER in podman.images
    # And goes when nothing runs of it any more.
    podman.used = set()
    assert image({**args, "keep": 0})["removed"] == [OLD_ID] and recorded(args) == [(CLIENT, ID, True)]


def test_comes_from_an_archive_without_a_registry(image, podman, args):
    podman.registry = {}
    podman.archives["/tmp/client.tar"] = {"localhost/client@sha256:" + "9" * 64: ID}
    result = image({**args, "name": f"sha256:{ID}", "archive": "/tmp/client.tar"})
    assert result["action"] == "loaded" and result["id"] == ID and podman.made("pull") == []
    podman.images = {}
    refused = image({**args, "archive": "/tmp/client.tar"})
    assert "what came is another one" in refused["msg"] and "name it by its id" in refused["msg"]
    # And is not left behind.
    assert podman.images == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("docker.io/dragonflyoss/client:v1.5.10", "has no digest ('docker.io/dragonflyoss/client:v1.5.10')"),
        (f"dragonflyoss/client@{DIGEST}", "is not the name of an image"),
        (CLIENT[:-1], "is not the name of an image"),
        (CLIENT + "; rm", "is not the name of an image"),
        ("sha256:12", "is not the name of an image"),
        ("", "is empty"),
    ],
)
def test_another_name_is_refused_in_one_sentence(image, podman, args, name, words):
    result = image({**args, "name": name})
    assert result["failed"] and words in result["msg"] and podman.calls == []


def test_what_does_not_come_is_named_with_what_to_do(image, podman, args):
    podman.registry = {}
    result = image(args)
    assert "from registry.example.org: Error: initializing source" in result["msg"] and "manifest unknown. See that" in result["msg"]
    assert "Trying to pull" not in result["msg"]
    local = image({**args, "name": f"localhost/client@{DIGEST}"})
    assert "no registry has it" in local["msg"] and len(podman.made("pull")) == 1


def test_one_that_does_not_run_here_is_taken_away_again(image, podman, args):
    image({**args, "name": OLDER})
    podman.probe = (125, "", "exec /usr/local/bin/dfdaemon: exec format error\n")
    result = image(args)
    assert "its program --version ends with 125 in it: exec /usr/local/bin/dfdaemon: exec format error" in result["msg"]
    assert CLIENT not in podman.images and recorded(args) == [(OLDER, OLD_ID, True)]


@pytest.mark.parametrize(("version", "words"), [("3.4.4", "Refused podman 3.4.4"), (None, "Failed to run podman: No such file")])
def test_a_podman_that_is_too_old_or_missing(image, podman, args, version, words):
    podman.version = version
    assert words in image(args)["msg"]
    if version is None:
        assert image(args, check=True)["changed"]
        assert not image({"record": args["record"], "state": "absent"})["changed"]


def test_a_damaged_record_removes_nothing(image, podman, args, tmp_path):
    image(args)
    (tmp_path / "client/.images.json").write_text('{"images": [{"name": 1}]}')
    assert image({"record": args["record"], "state": "absent"})["removed"] == [] and CLIENT in podman.images
