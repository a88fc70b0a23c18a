# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import shutil
import threading
import types
import zipfile

import pytest
from ansible.errors import AnsibleError
from ansible_collections.modelfleet.serving.plugins.action import model_artifact
from ansible_collections.modelfleet.serving.plugins.module_utils import _huggingface
from ansible_collections.modelfleet.serving.plugins.plugin_utils import _progress, _small_files
from ansible_collections.modelfleet.serving.tests.unit.plugins.fake_hub import FakeHub, git_sha1

SHOWN = {
    "artifacts": [{"name": "demo", "version": "1.0", "state": "fetching", "size": 100, "fetched": 40}, {"size": None, "fetched": None}],
    "bytes": {"origin": 10, "remote_peer": 30, "local_peer": 0},
    "seconds": 2.5,
}


class Connection:
    def __init__(self, become=None):
        self.transport = "ssh"
        self.become = become

    def set_become_plugin(self, become):
        self.become = become


@pytest.fixture
def action(monkeypatch, tmp_path):
    """The action with a module that ends once its file was read; ``action.ran`` are the commands on the host."""
    monkeypatch.setattr(model_artifact.ActionBase, "run", lambda self, tmp=None, task_vars=None: {"skipped": False})
    monkeypatch.setattr(model_artifact, "_FIRST_S", 0.01)
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path))
    action = model_artifact.ActionModule.__new__(model_artifact.ActionModule)
    action._task = types.SimpleNamespace(args={"artifacts": []}, async_val=0, check_mode=False)
    action._connection = Connection(become=object())
    action.called, action.ran, action.read, action.said = [], [], threading.Event(), json.dumps(SHOWN)
    action.done = {"changed": True}

    def command(self, line):
        self.ran.append((line, self._connection))
        if line.startswith("cat"):
            self.read.set()
            return {"rc": 0, "stdout": self.said}
        return {"rc": 0}

    def execute(module_args=None, task_vars=None, wrap_async=None):
        action.called.append(module_args)
        if module_args.get("progress_path", "").startswith("/run/"):
            assert action.read.wait(30)
        return dict(action.done)

    monkeypatch.setattr(model_artifact.ActionModule, "_low_level_execute_command", command)
    action._execute_module = execute
    return action


VARS = {"inventory_hostname": "gpu/1", "ansible_play_hosts": ["gpu/1"]}


def test_what_the_host_says_can_be_read_on_the_controller(action, tmp_path):
    result = action.run(task_vars=VARS)
    assert result.pop("began") > 0 and result == {"skipped": False, "changed": True}
    path = action.called[0]["progress_path"]
    assert path.startswith("/run/modelfleet-artifacts-"), "only root may write there: the module follows links"
    assert _progress.get(str(tmp_path), "gpu/1") == {"wanted": 100, "fetched": 40, "bytes": SHOWN["bytes"], "seconds": 2.5}
    (read, other), (removed, mine) = action.ran[0], action.ran[-1]
    assert read == f"cat {path}" and removed == f"rm -f {path} {path}.new"
    # What keeps a state while a command runs is not shared with the one that reads.
    assert other is not mine and other.become is not None and mine is action._connection
    _progress.forget(str(tmp_path), "gpu/1")
    assert _progress.get(str(tmp_path), "gpu/1") is None


@pytest.mark.parametrize("said", ["", "[]", '{"artifacts": 3}', "{", '{"artifacts": [{"size": "x"}], "seconds": 1}'])
def test_nonsense_from_a_host_is_nothing(action, tmp_path, said):
    action.said = said
    assert action.run(task_vars=VARS)["changed"]
    assert _progress.get(str(tmp_path), "gpu/1") is None


def test_a_host_that_does_not_answer_meanwhile_changes_nothing(action, monkeypatch):
    def command(self, line):
        self.read.set()
        raise OSError("gone")

    monkeypatch.setattr(model_artifact.ActionModule, "_low_level_execute_command", command)
    action.done = {"unreachable": True, "msg": "gone"}
    assert action.run(task_vars=VARS)["unreachable"]


@pytest.mark.parametrize(
    ("nobody", "task"),
    [
        (True, {}),
        (False, {"check_mode": True}),
        (False, {"async_val": 60}),
        (False, {"args": {"progress_path": "/tmp/mine"}}),
    ],
)
def test_nothing_is_read_where_nobody_looks(action, monkeypatch, nobody, task):
    if nobody:
        monkeypatch.delenv(_progress.VARIABLE)
    vars(action._task).update(task)
    assert action.run(task_vars=VARS)["changed"]
    assert action.called == [action._task.args] and action.ran == []


def test_a_large_fleet_is_read_less_often(action, monkeypatch):
    waits = []

    class Reader(model_artifact.Reader):
        def __init__(self, *options):
            waits.append(options[2])
            super().__init__(*options)

    monkeypatch.setattr(model_artifact, "Reader", Reader)
    action.run(task_vars=VARS)
    action.run(task_vars={**VARS, "ansible_play_hosts": ["gpu"] * 200})
    assert waits == [5.0, 40.0]


# Small files of a hub

REPO = "org/bert"
FILES = {"config.json": b"{}", "vocab.txt": b"words", "a/tokenizer.json": b"[]"}
ASKED = "huggingface_small_return"
PACK = "huggingface_small_path"


@pytest.fixture
def hub():
    fake = FakeHub(None)
    yield fake
    fake.close()


@pytest.fixture
def host(action, hub, monkeypatch, tmp_path):
    """The action with a module on a host that lacks what ``host.lacking`` says; ``host.got`` is what it found in packs."""
    commit = hub.commit(REPO, FILES)
    local, remote = tmp_path / "local", tmp_path / "remote"
    local.mkdir()
    monkeypatch.delenv(_progress.VARIABLE)
    monkeypatch.setattr(model_artifact.C, "DEFAULT_LOCAL_TMP", str(local))
    monkeypatch.setattr(_small_files, "_PATIENCE_S", 0)
    for name in "http_proxy", "HTTP_PROXY":
        monkeypatch.delenv(name, raising=False)
    action.local, action.remote, action.got, action.sent = local, remote, [], []
    action.lacking = [{"repo": REPO, "revision": commit, "git_sha1": sorted(map(git_sha1, FILES.values()))}]
    action._task.args = {
        "artifacts": [{"name": "bert", "version": "1", "huggingface": {"repo": REPO, "revision": commit}}],
        "huggingface": {"endpoint": hub.url, "token_endpoint": hub.url, "token": "alice", "ca_path": "/of/the/host"},
        "huggingface_pins": {f"{REPO}@{commit}": {"revision": "main", "files": hub.listing(REPO, commit)}},
    }

    def execute(module_args=None, task_vars=None, wrap_async=None):
        action.called.append(module_args)
        if ASKED in module_args and action.lacking:
            return {"changed": False, "hub_requests": 1, "huggingface_lacking": action.lacking}
        if PACK in module_args:
            with zipfile.ZipFile(module_args[PACK]) as pack:
                action.got.append({name: pack.read(name) for name in pack.namelist()})
        return {"changed": True, "hub_requests": 4, "warnings": ["its own"]}

    def make_directory():
        remote.mkdir()
        return str(remote)

    def transfer(source, target):
        assert oct(os.stat(source).st_mode)[-3:] == "600"
        shutil.copyfile(source, target)
        action.sent.append(target)
        return target

    action._execute_module, action._make_tmp_path, action._transfer_file = execute, make_directory, transfer
    action._fixup_perms2 = lambda paths, execute: None
    action._connection.transport = "local"
    action._connection._shell = types.SimpleNamespace(tmpdir=None, join_path=os.path.join, remove=lambda path: f"rm {path}")
    monkeypatch.setattr(
        model_artifact.ActionModule,
        "_low_level_execute_command",
        lambda self, line, sudoable=True: self.ran.append(line) or os.unlink(line.split()[1]) or {"rc": 0},
    )
    return action


def files_asked(hub):
    return sorted(path for _method, path, _token in hub.asked if "/resolve/" in path)


def test_small_files_come_with_the_connection(host, hub):
    result = host.run(task_vars=VARS)
    assert host.got == [{git_sha1(content): content for content in FILES.values()}]
    assert len(files_asked(hub)) == len(FILES)
    assert {token for _method, _path, token in hub.asked} == {"alice"}
    assert (result["hub_requests"], result["hub_requests_controller"]) == (5, len(hub.asked))
    assert result["warnings"] == ["its own"] and result["changed"] and "huggingface_lacking" not in result
    asked, brought = host.called
    assert asked == {**host._task.args, ASKED: True}
    assert brought == {**host._task.args, PACK: host.sent[0]}
    # Neither here nor there is anything left but what the next host takes.
    assert os.listdir(host.remote) == [] and host.ran == [f"rm {host.sent[0]}"]
    assert os.listdir(host.local) == ["modelfleet-huggingface"]
    assert oct(os.stat(host.local / "modelfleet-huggingface").st_mode)[-3:] == "700"
    kept = b"".join(path.read_bytes() for path in (host.local / "modelfleet-huggingface").iterdir())
    assert b"alice" not in kept


def test_the_next_host_asks_the_hub_for_nothing(host, hub):
    host.run(task_vars=VARS)
    hub.asked.clear()
    shutil.rmtree(host.remote)
    result = host.run(task_vars=VARS)
    assert host.got[0] == host.got[1] and hub.asked == []
    assert result["hub_requests_controller"] == 0


def test_a_new_commit_brings_what_changed(host, hub):
    host.run(task_vars=VARS)
    shutil.rmtree(host.remote)
    commit = hub.commit(REPO, {**FILES, "config.json": b"{1}"})
    host._task.args["artifacts"][0]["huggingface"]["revision"] = commit
    host._task.args["huggingface_pins"] = {f"{REPO}@{commit}": {"files": hub.listing(REPO, commit)}}
    host.lacking = [{"repo": REPO, "revision": commit, "git_sha1": [git_sha1(one) for one in (b"{1}", *FILES.values())]}]
    hub.asked.clear()
    host.run(task_vars=VARS)
    assert files_asked(hub) == [f"/{REPO}/resolve/{commit}/config.json"]
    assert host.got[1][git_sha1(b"{1}")] == b"{1}" and len(host.got[1]) == 3


def test_with_nothing_small_to_bring_the_module_runs_once(host, hub):
    host.lacking = []
    result = host.run(task_vars=VARS)
    assert host.called == [{**host._task.args, ASKED: True}]
    assert (result["hub_requests"], result["hub_requests_controller"], hub.asked, host.sent) == (4, 0, [], [])


@pytest.mark.parametrize(
    "task", [{"check_mode": True}, {"async_val": 60}, {"args": {"huggingface_small": "host"}}, {"args": {"huggingface": None}}]
)
def test_the_controller_is_left_alone(host, hub, task):
    vars(host._task).update({**task, "args": {**host._task.args, **task.get("args", {})}})
    assert "hub_requests_controller" not in host.run(task_vars=VARS)
    assert host.called == [host._task.args] and hub.asked == []


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ((429, {}), "it takes no more requests from this host for now (429)"),
        ((503, {}), "it answered 503"),
        ((401, {}), "it refused the token of this host (401)"),
        (None, "Failed to reach 127.0.0.1:9: "),
    ],
)
def test_what_the_controller_cannot_get_its_hosts_get_themselves(host, hub, monkeypatch, fault, said):
    hub.fault = fault
    if not fault:
        host._task.args["huggingface"]["endpoint"] = host._task.args["huggingface"]["token_endpoint"] = ["http://127.0.0.1:9"]
    result = host.run(task_vars=VARS)
    own, told = result["warnings"]
    assert own == "its own"
    assert (
        told.startswith("Not all small files of the hub came by the controller, so that hosts asked for them themselves. ") and said in told
    )
    assert host.called[1] == host._task.args and host.sent == []
    # Once is enough for all hosts.
    asked = len(hub.asked)
    assert asked == (1 if fault else 0)
    assert host.run(task_vars=VARS)["warnings"] == result["warnings"]
    assert len(hub.asked) == asked
    if fault:
        hub.fault = None
        monkeypatch.setattr(_small_files, "_REMEMBERED_S", 0)
        assert host.run(task_vars=VARS)["warnings"] == ["its own"] and len(host.got) == 1


@pytest.mark.parametrize(
    ("how", "said"),
    [("hangs", "nothing came from it for 1 s"), ("stops", "nothing came from it for 1 s"), ("breaks_off", "it broke off after ")],
)
def test_a_hub_that_hangs_is_waited_for_once(host, hub, monkeypatch, how, said):
    monkeypatch.setattr(_huggingface, "_TIMEOUT_S", 1)
    setattr(hub, how, ("resolve-cache",))
    for _host in range(2):
        assert f"Failed to reach {hub.url.partition('//')[2]}: {said}" in host.run(task_vars=VARS)["warnings"][1]
    assert len(hub.asked) == 2 and host.called[1] == host._task.args


def test_a_mirror_that_lags_is_told(host, hub):
    mirror = FakeHub(None)
    try:
        host._task.args["huggingface"] |= {"endpoint": [mirror.url, hub.url]}
        result = host.run(task_vars=VARS)
    finally:
        mirror.close()
    assert len(host.got[0]) == len(FILES)
    own, said = result["warnings"]
    assert own == "its own"
    assert said.startswith(
        f"{mirror.url.partition('//')[2]} was passed over for another endpoint, {len(FILES)} times in this run: Failed to get "
    )


def test_a_file_that_is_another_at_the_hub_keeps_no_other_from_coming(host, hub):
    hub.wrong["config.json"] = b"!!"
    result = host.run(task_vars=VARS)
    assert "Failed to verify config.json" in result["warnings"][1]
    assert git_sha1(FILES["config.json"]) not in host.got[0] and len(host.got[0]) == 2


def test_a_connection_that_takes_no_file(host, hub):
    def transfer(source, target):
        raise AnsibleError("no\nsftp")

    host._transfer_file = transfer
    result = host.run(task_vars=VARS)
    assert "Failed to send them to the host: no sftp" in result["warnings"][1]
    assert host.called[1] == host._task.args and os.listdir(host.local) == ["modelfleet-huggingface"]


def test_the_pack_goes_when_the_module_fails(host, hub):
    execute = host._execute_module

    def fail(module_args=None, task_vars=None, wrap_async=None):
        if PACK in module_args:
            raise AnsibleError("gone")
        return execute(module_args)

    host._execute_module = fail
    with pytest.raises(AnsibleError, match="gone"):
        host.run(task_vars=VARS)
    assert os.listdir(host.remote) == []


def test_another_machine_s_loopback_is_not_the_controller_s(host, hub):
    host._connection.transport = "ssh"
    result = host.run(task_vars=VARS)
    assert "only the host itself can ask" in result["warnings"][1] and hub.asked == []


def test_both_runs_can_be_read_meanwhile(host, monkeypatch, tmp_path):
    monkeypatch.setenv(_progress.VARIABLE, str(tmp_path))
    monkeypatch.setattr(
        model_artifact.ActionModule,
        "_low_level_execute_command",
        lambda self, line, sudoable=True: self.ran.append(line) or self.read.set() or {"rc": 0, "stdout": json.dumps(SHOWN)},
    )
    execute = host._execute_module

    def read_first(module_args=None, task_vars=None, wrap_async=None):
        host.read.clear()
        assert host.read.wait(30)
        return execute(module_args)

    host._execute_module = read_first
    assert host.run(task_vars=VARS)["changed"]
    first, second = (args["progress_path"] for args in host.called)
    assert first != second and {f"cat {first}", f"cat {second}", f"rm -f {second} {second}.new"} <= set(host.ran)
    assert _progress.get(str(tmp_path), "gpu/1")["wanted"] == 100


@pytest.mark.parametrize(
    "said",
    [
        [{}],
        [{"repo": "../x", "revision": "0" * 40, "git_sha1": []}],
        [{"repo": REPO, "revision": "0" * 40, "git_sha1": [git_sha1(b"{}")]}],
        [{"repo": "org/other", "revision": None, "git_sha1": [git_sha1(b"{}")]}],
        [{"repo": REPO, "revision": "main", "git_sha1": {"a": 1}}],
    ],
)
def test_a_host_gets_only_what_its_list_has(host, hub, said):
    host.lacking = said
    hub.commit("org/other", FILES)
    assert len(host.run(task_vars=VARS)["warnings"]) == 2
    assert hub.asked == [] and host.got == []


@pytest.mark.parametrize("said", ["x", 3, [3], {"repo": REPO}])
def test_nonsense_of_what_a_host_lacks_is_nothing(host, hub, said):
    host.lacking = said
    assert host.run(task_vars=VARS)["changed"]
    assert hub.asked == [] and host.got == []
