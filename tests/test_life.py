# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who joins and leaves a fleet, what is upgraded when, and what is taken off whom: the plays of the collection, with modules that only
note what they were asked."""

from __future__ import annotations

import json
import re
import shutil
import sys

import pytest
import yaml
from test_distribute import HEALTHY, NOT_READY, READY, STORE, STUB, STUBBED, recap, table_of
from test_gateway import gateway_variables
from test_repository import COLLECTION, documentation

MODEL = {"name": "tiny", "version": "1.0", "object": "models/tiny.mar", "sha256": "9f" * 32, "size": "64MiB", "default": True}
NEXT = {**MODEL, "version": "2.0", "object": "models/tiny-2.mar", "sha256": "2f" * 32}
GROUPS = {"dragonfly_schedulers": ["one", "two"], "dragonfly_seed_peers": ["two", "seed"], "gpu_hosts": ["gpu-1", "gpu-2", "gpu-3"]}
EVERYBODY = ("one", "two", "seed", "gpu-1", "gpu-2", "gpu-3")
LIFE = (
    *STUBBED,
    "daemon",
    "dragonfly_config",
    "dragonfly_release",
    "container_image",
    "endpoint_config",
    "python_environment",
    "haproxy_server",
    "openai_info",
    "triton_info",
    "bentoml_info",
)
# As the others, and a delegated task is one of the host that it is delegated to.
DELEGATED = STUB.replace('task_vars["inventory_hostname"]', 'self._task.delegate_to or task_vars["inventory_hostname"]').replace(
    'task_vars["answers"]', 'task_vars["hostvars"][said["host"]]["answers"]'
)
# What a host without a drain hook would have no use for: it notes who is taken out of the balancing and back.
HOOK = [
    {
        "name": "Note it",
        "ansible.builtin.shell": """echo '{"module": "hook", "host": "{{ inventory_hostname }}", "args": """
        """{"state": "{{ __rollout_hook_state }}", "how": "{{ __rollout_hook }}"}}' >> {{ log }}""",
        "changed_when": False,
    }
]


def serves(*models):
    rows = [{"name": one["name"], "version": one["version"], "default": True, "workers": 1, "workers_ready": 1, "gpu": 0} for one in models]
    return {"reachable": True, "version": "0.12.0", "models": [{**row, "file": file_of(one)} for row, one in zip(rows, models)]}


def file_of(model):
    return f"{model['name']}-{model['version']}-{model['sha256'][:12]}.mar"


RUNS = {"action": "none", "restart_owed": False}
GOOD = {
    "preflight_info": READY,
    "dfdaemon_info": HEALTHY,
    "daemon": RUNS,
    "nft_table": {"action": "none", "table": "wanted", "kept": {}, "removed": {}},
    "host_layout": {"removed": [], "left": []},
    "model_artifact": {"artifacts": [], "bytes": {}},
    "dragonfly_release": {"reason": "", "removed": []},
    "container_image": {"action": "none", "removed": []},
    "python_environment": {"complete": True, "path": "", "others": []},
    "endpoint_config": {"jar_differs": False},
    "torchserve_model": {"models": []},
    "torchserve_info": serves(MODEL),
    "openai_info": {"models": [], "units": [], "recorded": []},
    "triton_info": {"models": [], "recorded": []},
    "bentoml_info": {"models": [], "units": [], "recorded": []},
    "inference_check": {"checks": []},
}


@pytest.fixture
def fleet(run, tmp_path):
    collection = tmp_path / "ansible_collections/modelfleet/serving"
    for part in ("playbooks", "roles", "plugins", "meta"):
        shutil.copytree(COLLECTION / part, collection / part)
    for name in LIFE:
        (collection / f"plugins/action/{name}.py").write_text(DELEGATED)
        (collection / f"plugins/modules/{name}.py").touch()
    # The real ones wait for sockets.
    for path in ("dfdaemon/tasks/seed_ready", "dragonfly_scheduler/tasks/drained"):
        (collection / f"roles/{path}.yml").write_text("[]")
    answers = [{"name": "Answer", "ansible.builtin.set_fact": {"__smoke_scheduler": {"problem": ""}}}]
    (collection / "roles/smoke/tasks/scheduler.yml").write_text(yaml.safe_dump(answers))
    # Every host is this machine.
    restart = collection / "playbooks/_restart.yml"
    drained = restart.read_text().replace("/var/lib/modelfleet/state/drained", f"{tmp_path}/drained-{{{{ inventory_hostname }}}}")
    restart.write_text(drained)
    hook = collection / "roles/rollout/tasks/hook.yml"
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(yaml.safe_dump(HOOK))
    jar = tmp_path / "plugin.jar"
    jar.touch()

    def play(playbook, *options, groups=GROUPS, answers=None, of_hosts=None, models=(MODEL,), code=0, **variables):
        """Run ``playbook``; ``answers`` is what the modules answer that differs, {host: {module: result}}; return (process, calls).

        ``of_hosts`` are variables of single hosts, by host.
        """
        log = tmp_path / "log"
        log.write_text("")
        common = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "modelfleet_storage": STORE,
            "modelfleet_pki_passphrase": "cGxhbnRlZC1zZWNyZXQ",
            "modelfleet_models": list(models),
            "dragonfly_scheduler_release_sha256": "9f" * 32,
            "dfdaemon_release_sha256": "9f" * 32,
            "endpoint_plugin_jar": str(jar),
            "log": str(log),
            **variables,
        }
        hosts = {
            name: {
                "modelfleet_address": f"10.1.0.{number + 1}",
                "answers": {**GOOD, **(answers or {}).get(name, {})},
                **(of_hosts or {}).get(name, {}),
            }
            for number, name in enumerate(dict.fromkeys(name for names in groups.values() for name in names))
        }
        children = {group: {"hosts": {name: hosts[name] for name in names}} for group, names in groups.items()}
        (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": children}}, sort_keys=False))
        done = run(
            "ansible-playbook",
            "-i",
            tmp_path / "hosts.yml",
            f"modelfleet.serving.{playbook}",
            *options,
            ANSIBLE_COLLECTIONS_PATH=tmp_path,
            ANSIBLE_CALLBACK_RESULT_FORMAT="json",
        )
        assert done.returncode == code, done.stdout
        return done, [json.loads(line) for line in log.read_text().splitlines()]

    return play


def hosts_of(calls, module, **args):
    """Whom a module was asked of, in this order; of its arguments only these count."""
    return [call["host"] for call in calls if call["module"] == module and args.items() <= call["args"].items()]


def gone(calls):
    """[(host, unit)] of the daemons that were taken away."""
    return [(call["host"], call["args"]["name"]) for call in calls if call["module"] == "daemon" and call["args"].get("state") == "absent"]


def documented(module, args):
    assert set(args) <= set(documentation(COLLECTION / f"plugins/modules/{module}.py")["options"])


BY = {"run": "other", "user": "alice", "controller": "control-1", "pid": 7, "since": "06:00"}
HELD = {"rollout_lock": {"failed": True, "msg": "Refused: a run of alice has worked on this host since 06:00.", "holder": BY}}
DOWN = {"unreachable": True, "msg": "no route"}
# Of a host: nobody answers there, whatever is asked.
DEAD = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
# No rollout that is known to live: nobody answers, there is no Python, and its process is dead.
NOT_HELD = [DOWN, {"failed": True, "msg": "no Python"}, {"run": "this", "holder": BY, "taken_over": True}]


class TestRolloutOnItsWay:
    @pytest.mark.parametrize(
        ("playbook", "options", "variables"),
        [
            ("uninstall", (), {"modelfleet_uninstall_confirm": True}),
            ("remove_host", (), {"modelfleet_remove_hosts": "gpu-3"}),
            ("remove_host", (), {"modelfleet_remove_hosts": "one"}),
            ("add", ("--limit", "gpu-3"), {}),
        ],
    )
    def test_it_is_named_and_nothing_is_changed_anywhere(self, fleet, playbook, options, variables):
        done, calls = fleet(playbook, *options, code=2, answers={"gpu-1": {"rollout_lock": DOWN}, "gpu-2": HELD}, **variables)
        said = "Refused: a run of alice on control-1 (process 7) has worked on gpu-2 since 06:00. Nothing was changed. Wait for its end"
        assert said in " ".join(done.stdout.split())
        assert {call["module"] for call in calls} == {"rollout_lock"}
        for call in calls:
            documented(call["module"], call["args"])

    def test_every_other_host_is_asked_before_all_are_told_of_a_scheduler(self, fleet):
        groups = {**GROUPS, "gpu_hosts": [f"gpu-{number}" for number in range(1, 14)]}
        done, calls = fleet("add", "--limit", "one", code=2, groups=groups, answers={"gpu-7": HELD})
        assert "has worked on gpu-7 since 06:00" in " ".join(done.stdout.split())
        assert sorted(hosts_of(calls, "rollout_lock")) == sorted(groups["gpu_hosts"])

    def test_upgrade_leaves_the_host_alone(self, fleet):
        done, calls = fleet("upgrade", code=2, answers={"gpu-2": HELD})
        assert {call["module"] for call in calls if call["host"] == "gpu-2"} == {"preflight_info", "rollout_lock"}
        assert sorted(set(hosts_of(calls, "dragonfly_release"))) == sorted(set(EVERYBODY) - {"gpu-2"})
        assert recap(done) == {host: int(host == "gpu-2") for host in EVERYBODY}
        assert f"gpu-2: See that no rollout works on this host: {HELD['rollout_lock']['msg']}" in table_of(done)


class TestUninstall:
    def test_whoever_is_served_goes_first(self, fleet):
        done, calls = fleet("uninstall", modelfleet_uninstall_confirm=True)
        assert "WARN" not in done.stdout, done.stdout
        order = list(dict.fromkeys(gone(calls)))
        daemons = {host: [unit for name, unit in order if name == host] for host in EVERYBODY}
        units = ["modelfleet-gateway-watch.service", "modelfleet-gateway-key.socket", "modelfleet-gateway.service"]
        units += ["triton.service", "modelfleet-bentoml.service"]
        units += ["torchserve.service", "torchserve-models.service", "dfdaemon.service", "dragonfly-scheduler.service"]
        units += ["modelfleet-monitoring.service", "modelfleet-metrics.timer", "modelfleet-metrics.service"]
        units += ["dragonfly-manager.service", "dragonfly-manager-redis.service"]
        units += ["modelfleet-firewall.service", "modelfleet-firewall-again.service"]
        assert {host: sorted(found) for host, found in daemons.items()} == dict.fromkeys(EVERYBODY, sorted(units))
        last_gpu = max(order.index((host, "dfdaemon.service")) for host in GROUPS["gpu_hosts"])
        seeds = [order.index((host, "dfdaemon.service")) for host in GROUPS["dragonfly_seed_peers"]]
        schedulers = [order.index((host, "dragonfly-scheduler.service")) for host in EVERYBODY]
        assert last_gpu < min(seeds) and max(seeds) < min(schedulers)
        for host in GROUPS["gpu_hosts"]:
            assert daemons[host][:8] == units[:8]
            assert daemons[host][-2:] == units[-2:]
        assert sorted(hosts_of(calls, "nft_table", state="absent")) == sorted(EVERYBODY)
        # Nothing is asked of a host after its users are gone.
        for host in EVERYBODY:
            assert [call["module"] for call in calls if call["host"] == host][-1] == "host_layout"
        for call in calls:
            documented(call["module"], call["args"])

    @pytest.mark.parametrize("purge", [False, True])
    def test_models_and_cache_go_only_where_it_is_said(self, fleet, purge):
        left = {host: {"rollout_lock": lock} for host, lock in zip(GROUPS["gpu_hosts"], NOT_HELD)}
        left["gpu-2"]["host_layout"] = {"removed": [], "left": ["directory /var/lib/modelfleet/pieces", "user dfdaemon"]}
        done, calls = fleet("uninstall", answers=left, modelfleet_uninstall_confirm=True, modelfleet_uninstall_purge=purge)
        *of_others, args = [call["args"] for call in calls if call["module"] == "host_layout" and call["host"] == "gpu-1"]
        of_models = ("pieces", "models", "blobs", "manifests", "state", "huggingface", "huggingface/modelfleet-hf")
        models = [f"/var/lib/modelfleet/{name}" for name in of_models]
        assert args["state"] == "absent" and args["keep"] == ([] if purge else models)
        described = [entry["path"] for entry in args["directories"]]
        assert {*models, "/etc/dragonfly", "/opt/torchserve", "/var/lib/torchserve", "/var/log/dfdaemon"} < set(described)
        assert [user["name"] for user in args["users"]] == ["dragonfly-scheduler", "dfdaemon", "torchserve"]
        # There are no models of a hub any more, and there may have been.
        assert args["groups"] == ["dragonfly", "modelfleet-hf"]
        theirs = {
            ("modelfleet-gateway", "modelfleet-gateway-watch"): {"/etc/modelfleet-gateway", "/opt/modelfleet-gateway"},
            ("modelfleet-monitoring", "modelfleet-metrics"): {"/etc/modelfleet-monitoring", "/var/lib/modelfleet-metrics"},
            ("dragonfly-manager",): {"/var/lib/dragonfly-manager", "/var/lib/dragonfly-manager-redis"},
            ("openai-server",): {"/var/lib/openai-server"},
            ("triton",): {"/var/lib/triton", "/var/lib/modelfleet/triton"},
            ("bentoml", "modelfleet-bentoml"): {"/etc/modelfleet-bentoml", "/var/lib/bentoml"},
        }
        for taken in of_others:
            assert taken["state"] == "absent" and "keep" not in taken
            described = {entry["path"] for entry in taken["directories"]}
            assert theirs[tuple(user["name"] for user in taken["users"])] <= described
        assert {tuple(user["name"] for user in taken["users"]) for taken in of_others} == set(theirs)
        assert "Left on this host: directory /var/lib/modelfleet/pieces, user dfdaemon." in done.stdout
        assert done.stdout.count("Nothing of it is left.") == 5

    def test_it_must_be_meant(self, fleet):
        done, calls = fleet("uninstall", code=2)
        assert calls == []
        refused = " ".join(done.stdout.split())
        assert f"Refused to uninstall {', '.join(EVERYBODY)}" in refused and "-e modelfleet_uninstall_confirm=true" in refused
        # To look needs no such word.
        _done, calls = fleet("uninstall", "--check")
        assert len(gone(calls)) > 0

    def test_a_host_on_which_it_fails_keeps_no_other_from_going_on(self, fleet):
        answers = {"gpu-2": {"daemon": {"failed": True, "msg": "Failed to stop modelfleet-gateway.service."}}}
        done, calls = fleet("uninstall", answers=answers, code=2, modelfleet_uninstall_confirm=True, modelfleet_all_or_nothing=True)
        assert recap(done) == {host: int(host == "gpu-2") for host in EVERYBODY}
        assert "Stop the gateway and remove its units: Failed to stop modelfleet-gateway.service." in done.stdout
        assert set(hosts_of(calls, "host_layout")) == set(EVERYBODY) - {"gpu-2"}


class TestAdd:
    def test_a_new_host_touches_only_itself(self, fleet):
        done, calls = fleet("add", "--limit", "gpu-3", modelfleet_return="haproxy")
        # The others are asked whether a rollout works there, and learn who is to be admitted.
        touched = {call["host"] for call in calls if call["module"] not in ("torchserve_info", "rollout_lock", "nft_table")}
        assert touched == {"gpu-3"} and set(recap(done)) == {"gpu-3"}
        # The others are asked what they serve, and it is asked at the end.
        assert hosts_of(calls, "torchserve_info") == ["gpu-1", "gpu-2", "gpu-3"]
        modules = [call["module"] for call in calls if call["host"] == "gpu-3"]
        order = ["preflight_info", "daemon", "model_artifact", "torchserve_model", "inference_check", "hook"]
        positions = [modules.index(module) for module in order]
        assert positions == sorted(positions), modules
        (hook,) = [call["args"] for call in calls if call["module"] == "hook"]
        assert hook == {"state": "ready", "how": "haproxy"}

    def test_it_serves_what_the_others_serve(self, fleet):
        """Not what is listed for the next rollout."""
        down = dict.fromkeys(("rollout_lock", "torchserve_info"), DOWN)
        done, calls = fleet("add", "--limit", "gpu-3", models=[MODEL, {**NEXT, "default": False}], answers={"gpu-1": down})
        for module, option in (("model_artifact", "artifacts"), ("torchserve_model", "models")):
            (args,) = [call["args"] for call in calls if call["module"] == module]
            assert [one["version"] for one in args[option]] == ["1.0"], module
        assert "The others do not serve tiny 2.0, so this host does not either" in done.stdout

    @pytest.mark.parametrize(
        ("answers", "models", "words"),
        [
            ({}, [NEXT], "gpu-1 serves tiny 1.0, which modelfleet_models does not list"),
            ({"gpu-2": {"torchserve_info": serves(NEXT)}}, [MODEL, NEXT], "The default version of tiny is 1.0 on gpu-1 and 2.0 on gpu-2"),
            ({host: {"torchserve_info": {"reachable": False}} for host in GROUPS["gpu_hosts"]}, [MODEL], "None of gpu-1, gpu-2 says"),
        ],
    )
    def test_a_fleet_that_does_not_say_what_it_serves(self, fleet, answers, models, words):
        done, calls = fleet("add", "--limit", "gpu-3", models=models, code=2, answers=answers)
        assert words in " ".join(done.stdout.split())
        assert {call["module"] for call in calls} == {"rollout_lock", "torchserve_info"}

    def test_models_with_servers_of_their_own_are_asked_for_as_well(self, fleet):
        letters = {**NEXT, "name": "letters", "runtime": "openai", "port": 8101, "bundle": "models/letters"}
        del letters["object"], letters["default"]
        there = {"openai_info": {**GOOD["openai_info"], "models": [{"name": "letters", "version": "1.0", "default": True}]}}
        done, calls = fleet("add", "--limit", "gpu-3", models=[MODEL, letters], code=2, answers={"gpu-1": there, "gpu-2": there})
        assert "gpu-1 serves letters 1.0, which modelfleet_models does not list" in " ".join(done.stdout.split())
        # One of which that is not known says nothing.
        silent = {host: {"openai_info": {"msg": "no such file"}} for host in GROUPS["gpu_hosts"]}
        done, calls = fleet("add", "--limit", "gpu-3", models=[MODEL, letters], code=2, answers=silent)
        assert "None of gpu-1, gpu-2 says" in " ".join(done.stdout.split())
        assert {call["module"] for call in calls} == {"rollout_lock", "torchserve_info", "openai_info"}

    @pytest.mark.parametrize("runtime", ["triton", "bentoml"])
    def test_others_are_asked_for_as_well(self, fleet, runtime):
        port = {"port": 8301} if runtime == "bentoml" else {}
        double = {**NEXT, "name": "double", "runtime": runtime, "bundle": "models/double", **port}
        del double["object"], double["default"]
        info = f"{runtime}_info"
        there = {info: {**GOOD[info], "models": [{"name": "double", "version": "1.0", "default": True}]}}
        done, calls = fleet("add", "--limit", "gpu-3", models=[MODEL, double], code=2, answers={"gpu-1": there, "gpu-2": there})
        assert "gpu-1 serves double 1.0, which modelfleet_models does not list" in " ".join(done.stdout.split())
        assert {call["module"] for call in calls} == {"rollout_lock", "torchserve_info", info}

    def test_all_hosts_at_once_are_refused(self, fleet):
        done, calls = fleet("add", code=2)
        assert calls == [] and "Refused to add every host of the inventory: name the new ones, as in --limit" in done.stdout

    def test_the_others_learn_of_a_new_scheduler(self, fleet):
        done, calls = fleet("add", "--limit", "one")
        written = [call for call in calls if call["module"] == "dragonfly_config"]
        assert [call["host"] for call in written] == ["two", "seed", "gpu-1", "gpu-2", "gpu-3"], done.stdout
        for call in written:
            (file,) = call["args"]["files"]
            assert file["path"] == "/etc/dragonfly/dfdaemon-dynconfig.yaml"
            assert file["config"] == {"scheduler": {"addrs": ["10.1.0.1:8002", "10.1.0.2:8002"]}}
            documented("dragonfly_config", call["args"])
        # Nothing restarts there: nobody else's daemon is asked for.
        assert set(hosts_of(calls, "daemon")) == {"one"}


class TestRemoveHost:
    def test_it_leaves_and_the_others_stay(self, fleet):
        done, calls = fleet("remove_host", modelfleet_remove_hosts="gpu-2", modelfleet_drain="haproxy")
        assert "WARN" not in done.stdout, done.stdout
        assert {host for host, _unit in gone(calls)} == {"gpu-2"} and set(hosts_of(calls, "host_layout")) == {"gpu-2"}
        modules = [call["module"] for call in calls]
        assert hosts_of(calls, "hook", state="drain") == ["gpu-2"] and modules.index("hook") < modules.index("daemon")
        # The others are asked whether they go on, after that; the firewall of all is told who left.
        last = max(index for index, module in enumerate(modules) if module == "host_layout")
        assert sorted({call["host"] for call in calls[last + 1 :] if call["module"] != "nft_table"}) == ["gpu-1", "gpu-3", "seed", "two"]
        assert hosts_of(calls, "dragonfly_config") == []
        assert "Delete gpu-2 from the inventory after this run" in done.stdout
        assert not any(line.startswith("gpu-2") for line in table_of(done))

    def test_the_others_no_longer_count_on_a_scheduler(self, fleet):
        done, calls = fleet("remove_host", modelfleet_remove_hosts="one")
        assert sorted(hosts_of(calls, "dragonfly_config")) == ["gpu-1", "gpu-2", "gpu-3", "seed", "two"]
        for call in calls:
            if call["module"] == "dragonfly_config":
                assert call["args"]["files"][0]["config"] == {"scheduler": {"addrs": ["10.1.0.2:8002"]}}
        modules = [call["module"] for call in calls]
        assert max(index for index, module in enumerate(modules) if module == "dragonfly_config") < modules.index("daemon")
        assert {host for host, _unit in gone(calls)} == {"one"}
        assert done.stdout.index("PLAY [Let the others go") < done.stdout.index("PLAY [Remove the rest]")

    @pytest.mark.parametrize(
        ("hosts", "options", "words"),
        [
            ("", (), "nobody said which"),
            ("gpu-9", (), "'gpu-9': no host of the inventory is called so"),
            ("two:seed", (), "Refused to remove two, seed: it is the last seed peer"),
            ("dragonfly_schedulers", (), "Refused to remove one, two: it is the last scheduler"),
            ("gpu-3", ("--limit", "gpu-3"), "with --limit"),
        ],
    )
    def test_what_the_rest_needs_stays(self, fleet, hosts, options, words):
        done, calls = fleet("remove_host", *options, code=2, modelfleet_remove_hosts=hosts)
        assert calls == [] and words in " ".join(done.stdout.split())

    def test_a_host_on_which_it_fails_is_named_and_the_others_are_asked(self, fleet):
        answers = {"gpu-2": {"daemon": {"failed": True, "msg": "Failed to stop torchserve.service."}}}
        done, calls = fleet("remove_host", code=2, modelfleet_remove_hosts="gpu-2", answers=answers)
        assert recap(done) == {host: int(host == "gpu-2") for host in EVERYBODY}
        assert sorted(hosts_of(calls, "inference_check")) == ["gpu-1", "gpu-3"]


@pytest.fixture
def known(fleet, tmp_path):
    """Add a pair that is known not to work to those of the collection, and have each host of this machine run releases of its own."""
    preflight = tmp_path / "ansible_collections/modelfleet/serving/roles/preflight"
    releases = preflight / "tasks/releases.yml"
    releases.write_text(releases.read_text().replace("/opt/dragonfly/", f"{tmp_path}/{{{{ inventory_hostname }}}}/"))
    pairs = preflight / "files/incompatible.yml"
    return lambda pair: pairs.write_text(pairs.read_text() + yaml.safe_dump([pair], sort_keys=False))


def admitted(call):
    """The addresses that a call has a host admit."""
    return {one for entry in call["args"]["sets"] if entry["name"][-1] in "46" for one in entry["elements"]}


class TestFirewall:
    ALL = {f"10.1.0.{number}" for number in range(1, 7)}

    @pytest.mark.parametrize("options", [(), ("--limit", "gpu-2")])
    def test_everybody_in_the_inventory_is_admitted_before_anything_starts(self, fleet, options):
        """Also those that are not part of the run."""
        hosts = ["gpu-2"] if options else list(EVERYBODY)
        _done, calls = fleet("site", *options)
        loaded = [call for call in calls if call["module"] == "nft_table"]
        assert sorted(call["host"] for call in loaded) == sorted(hosts)
        for call in loaded:
            assert admitted(call) == self.ALL and call["args"]["keep"] and "chain input" in call["args"]["rules"]
            documented("nft_table", call["args"])
        first = [call["args"]["name"] for call in calls if call["module"] == "daemon"][: len(hosts)]
        assert first == ["modelfleet-firewall.service"] * len(hosts)
        modules = [call["module"] for call in calls]
        assert max(index for index, module in enumerate(modules) if module == "nft_table") < modules.index("dragonfly_release")

    def test_whoever_is_gone_is_shut_out_when_all_is_done(self, fleet):
        answers = {"gpu-1": {"nft_table": {**GOOD["nft_table"], "kept": {"peers4": ["10.1.0.9"]}, "removed": {"peers4": ["10.1.0.9"]}}}}
        done, calls = fleet("site", answers=answers)
        last = [call for call in calls if call["module"] == "nft_table"][-1]
        assert last["host"] == "gpu-1" and "rules" not in last["args"] and not last["args"]["keep"] and admitted(last) == self.ALL
        position = calls.index(last)
        assert all(position > index for index, call in enumerate(calls) if call["module"] == "torchserve_model")
        assert "The fleet no longer admits 10.1.0.9, since no host of it has that address any more" in " ".join(done.stdout.split())

    def test_the_others_admit_a_host_that_joins(self, fleet):
        down = {"nft_table": {"failed": True, "msg": "Failed to load the table."}}
        done, calls = fleet("add", "--limit", "gpu-3", answers={"gpu-1": down})
        told = [call for call in calls if call["module"] == "nft_table" and call["host"] != "gpu-3"]
        assert sorted(call["host"] for call in told) == sorted(set(EVERYBODY) - {"gpu-3"})
        for call in told:
            # Their own rules stay, and nobody is shut out.
            assert "rules" not in call["args"] and call["args"]["keep"] and admitted(call) == self.ALL
        positions = [index for index, call in enumerate(calls) if call in told]
        assert max(positions) < next(index for index, call in enumerate(calls) if call["module"] == "dragonfly_release")
        assert "gpu-1 could not be told of the hosts that join (Failed to load the table.)" in " ".join(done.stdout.split())

    def test_who_leaves_is_shut_out_when_it_is_gone(self, fleet):
        _done, calls = fleet("remove_host", modelfleet_remove_hosts="gpu-2")
        told = [call for call in calls if call["module"] == "nft_table" and call["host"] != "gpu-2"]
        assert sorted(call["host"] for call in told) == sorted(set(EVERYBODY) - {"gpu-2"})
        for call in told:
            assert admitted(call) == self.ALL - {"10.1.0.5"} and "rules" not in call["args"]
        assert min(map(calls.index, told)) > max(index for index, call in enumerate(calls) if call["module"] == "host_layout")

    def test_it_can_be_off(self, fleet):
        _done, calls = fleet("site", modelfleet_firewall=False)
        assert sorted(hosts_of(calls, "nft_table", state="absent")) == sorted(EVERYBODY) == sorted(hosts_of(calls, "nft_table"))
        assert {unit for _host, unit in gone(calls)} == {"modelfleet-firewall.service", "modelfleet-firewall-again.service"}
        (asked,) = {json.dumps(call["args"]["firewall_members"]) for call in calls if call["module"] == "preflight_info"}
        assert asked == "[]"


class TestGateway:
    @pytest.fixture
    def balanced(self, fleet, tmp_path):
        """Run a play that takes hosts out of the balancing by their own gateways; those in ``running`` have one that runs."""
        collection = tmp_path / "ansible_collections/modelfleet/serving"
        hook = "roles/rollout/tasks/hook.yml"
        shutil.copy(COLLECTION / hook, collection / hook)
        variables = collection / "roles/gateway/vars/main.yml"
        variables.write_text(variables.read_text().replace("/run/modelfleet-gateway/admin", f"{tmp_path}/{{{{ inventory_hostname }}}}"))
        for playbook in ("_uninstall.yml", "_restart.yml"):
            path = collection / "playbooks" / playbook
            path.write_text(path.read_text().replace("timeout: 20", "timeout: 1"))

        def play(playbook, running, **variables):
            for host in running:
                (tmp_path / f"{host}.sock").touch()
            hooks = {"modelfleet_drain": "gateway", "modelfleet_return": "gateway"}
            return fleet(
                playbook, groups={**GROUPS, "modelfleet_gateways": GROUPS["gpu_hosts"]}, **gateway_variables(tmp_path), **hooks, **variables
            )

        return play

    def test_a_host_that_leaves_is_taken_out_of_its_own(self, balanced, tmp_path):
        done, calls = balanced("remove_host", ["gpu-2", "gpu-3"], modelfleet_remove_hosts="gpu-1:gpu-2")
        assert "WARN" not in done.stdout, done.stdout
        (drained,) = [call for call in calls if call["module"] == "haproxy_server"]
        assert drained["host"] == "gpu-2" and drained["args"]["servers"] == ["gpu-2"] and drained["args"]["state"] == "drain"
        assert drained["args"]["socket"] == f"{tmp_path}/gpu-2.sock"
        documented("haproxy_server", drained["args"])
        assert calls.index(drained) < [call["module"] for call in calls].index("daemon")
        # What an interrupted run has taken off already keeps nobody from going on.
        assert done.stdout.count("No gateway runs on this host") == 1 and {host for host, _unit in gone(calls)} == {"gpu-1", "gpu-2"}

    def test_one_that_is_dead_keeps_nobody_from_leaving(self, balanced):
        done, calls = balanced("remove_host", ["gpu-1"], modelfleet_remove_hosts="gpu-1:gpu-2", of_hosts={"gpu-2": DEAD}, code=2)
        assert "The gateway of this host is not told, because the host cannot be reached" in done.stdout
        assert hosts_of(calls, "haproxy_server") == ["gpu-1"] and {host for host, _unit in gone(calls)} == {"gpu-1"}
        assert recap(done) == {host: int(host == "gpu-2") for host in EVERYBODY}
        assert "Reach the host: timed out waiting for ping module test" in done.stdout
        assert {"one", "two", "seed", "gpu-3"} <= set(hosts_of(calls, "nft_table")), "the others shut it out"

    def test_one_that_dies_before_it_fails_as_with_another_drain(self, balanced):
        owed = {host: {"daemon": OWED} for host in EVERYBODY}
        # Once all is installed there, and before it is drained.
        installed = '"daemon", "host": "gpu-2".*"name": "torchserve.service"'
        dies = {
            **DEAD,
            "ansible_connection": f"{{{{ 'ssh' if lookup('ansible.builtin.file', log) is search('{installed}') else 'local' }}}}",
        }
        batches = {"modelfleet_restart_batches": ["1", "100%"]}
        done, calls = balanced("upgrade", GROUPS["gpu_hosts"], answers=owed, of_hosts={"gpu-2": dies}, code=2, **batches)
        assert "The gateway of this host is not told, because the host cannot be reached" in done.stdout
        told = [(call["host"], call["args"]["state"]) for call in calls if call["module"] == "haproxy_server"]
        assert told[:2] == [("gpu-1", "drain"), ("gpu-1", "ready")] and sorted(told[2:]) == [("gpu-3", "drain"), ("gpu-3", "ready")]
        assert recap(done) == {host: int(host == "gpu-2") for host in EVERYBODY}
        assert "gpu-2: See that the host is still there: timed out waiting for ping module test" in " ".join(table_of(done))

    def test_it_comes_when_all_is_done_and_who_is_gone_is_shut_out(self, fleet, tmp_path):
        # Nothing is installed on this machine.
        role = tmp_path / "ansible_collections/modelfleet/serving/roles/gateway"
        (role / "tasks/install.yml").write_text("[]")
        # One that was in the group has some of it left.
        variables = (role / "vars/main.yml").read_text()
        path = f'"{tmp_path}/{{{{ inventory_hostname }}}}.conf"'
        (role / "vars/main.yml").write_text(variables.replace("/usr/lib/sysusers.d/modelfleet-gateway.conf", path))
        (tmp_path / "gpu-3.conf").touch()
        _done, calls = fleet(
            "site",
            groups={**GROUPS, "modelfleet_gateways": ["gpu-1"]},
            answers={"gpu-2": {"nft_table": {**GOOD["nft_table"], "kept": {"peers4": ["10.1.0.9"]}}}},
            **gateway_variables(tmp_path),
        )
        ports = {call["host"]: [one["port"] for one in call["args"]["ports"]] for call in calls if call["module"] == "preflight_info"}
        assert [host for host, found in ports.items() if 8443 in found] == ["gpu-1"]
        asked = [call for call in calls if call["module"] == "daemon" and "gateway" in call["args"]["name"]]
        started = [call for call in asked if call["args"].get("state") != "absent"]
        assert {host for host, _unit in gone(calls)} == {"gpu-3"} and len(gone(calls)) == 3
        assert hosts_of(calls, "host_layout", state="absent") == ["gpu-3"]
        units = ["modelfleet-gateway-watch.service", "modelfleet-gateway.service"]
        assert [(call["host"], call["args"]["name"]) for call in started] == [("gpu-1", unit) for unit in units]
        for call in started:
            documented("daemon", call["args"])
        last = max(index for index, call in enumerate(calls) if call["module"] in ("nft_table", "torchserve_model"))
        assert calls[last]["host"] == "gpu-2" and calls.index(started[0]) > last


OWED = {"changed": True, "action": "none", "restart_owed": True}


class TestUpgrade:
    @pytest.fixture
    def upgrade(self, fleet):
        def play(*options, owed=EVERYBODY, answers=None, **more):
            """Run the play on hosts of which those in ``owed`` must restart what they run."""
            of = {host: {"daemon": OWED} for host in owed}
            for host, one in (answers or {}).items():
                of[host] = {**of.get(host, {}), **one}
            hooks = {"modelfleet_drain": "haproxy", "modelfleet_return": "haproxy", "modelfleet_restart_batches": ["1", "100%"]}
            return fleet("upgrade", *options, answers=of, **{**hooks, **more})

        return play

    def test_one_after_the_other_and_each_has_nothing_new_before_its_turn(self, upgrade):
        _done, calls = upgrade(dfdaemon_version="1.5.11")
        released = hosts_of(calls, "dragonfly_release")
        assert released[:5] == ["one", "two", "two", "seed", "gpu-1"] and sorted(released[5:]) == ["gpu-2", "gpu-3"]
        assert hosts_of(calls, "dragonfly_release", version="1.5.11") == released[2:]

        def moments(module, host):
            return [moment for moment, call in enumerate(calls) if (call["module"], call["host"]) == (module, host)]

        for before, after in (("one", "two"), ("two", "seed"), ("seed", "gpu-1"), ("gpu-1", "gpu-2"), ("gpu-1", "gpu-3")):
            assert moments("daemon", before)[-1] < moments("dragonfly_release", after)[0]

    def test_a_host_is_out_of_the_balancing_while_what_serves_restarts(self, upgrade):
        _done, calls = upgrade()
        mine = [call for call in calls if call["host"] == "gpu-1" and call["module"] in ("hook", "daemon", "inference_check")]
        steps = [call["args"].get("state") or call["args"].get("restart") or call["module"] for call in mine]
        # Installed, then dfdaemon, then what serves; the last answers are those of the report.
        assert steps == ["deferred", "deferred", "now", "drain", "now", "inference_check", "ready", "inference_check"]
        names = [call["args"].get("name") for call in mine if call["args"].get("restart") == "now"]
        assert names == ["dfdaemon.service", "torchserve.service"]

    def test_run_again_it_restarts_nothing(self, upgrade, tmp_path):
        done, calls = upgrade(owed=())
        assert hosts_of(calls, "hook") == [] and hosts_of(calls, "daemon", restart="now") == []
        assert "changed=0" in done.stdout and not re.search(r"changed=[1-9]", done.stdout)
        # But a host that an interrupted run has taken out of the balancing comes back, when it answers.
        (tmp_path / "drained-gpu-2").touch()
        _done, calls = upgrade(owed=())
        assert hosts_of(calls, "hook") == ["gpu-2", "gpu-2"] and hosts_of(calls, "hook", state="ready") == ["gpu-2"]
        assert hosts_of(calls, "daemon", restart="now") == [] and hosts_of(calls, "inference_check").count("gpu-2") == 2
        assert not (tmp_path / "drained-gpu-2").exists()

    def test_beyond_the_first_host_that_does_not_answer_nothing_is_touched(self, upgrade):
        wrong = {"inference_check": {"failed": True, "msg": "tiny 1.0 does not give its known answer."}}
        done, calls = upgrade(code=2, answers={"gpu-1": wrong})
        assert "gpu-2" not in hosts_of(calls, "dragonfly_release") and "gpu-3" not in hosts_of(calls, "dragonfly_release")
        assert [(call["host"], call["args"]["state"]) for call in calls if call["module"] == "hook"] == [("gpu-1", "drain")]
        lines = " ".join(table_of(done))
        assert "gpu-1: Ask for the known answers: tiny 1.0 does not give its known answer." in lines
        assert "gpu-2: Leave this host as it is when one before it did not come back: Nothing was restarted here, because gpu-1" in lines

    def test_without_hooks_it_says_that_requests_may_fail(self, upgrade):
        done, calls = upgrade(modelfleet_drain="", modelfleet_return="")
        assert "Nothing takes a host out of the balancing" in done.stdout and hosts_of(calls, "hook") == []
        assert sorted(hosts_of(calls, "daemon", restart="now", name="torchserve.service")) == GROUPS["gpu_hosts"]

    @pytest.mark.parametrize(
        ("playbook", "variables", "words"),
        [
            ("upgrade", {"dragonfly_scheduler_version": "2.5.0"}, "Refused the scheduler 2.5.0 of one, which does not work here"),
            ("upgrade", {"dfdaemon_version": "1.4.2"}, "Refused dfdaemon 1.4.2 of two, which does not work here"),
            ("site", {"dfdaemon_version": "1.4.2"}, "Refused dfdaemon 1.4.2 of two, which does not work here"),
            # A pair: neither is refused by itself.
            ("site", {"dfdaemon_version": "1.5.9"}, "Refused the scheduler 2.5.1 of one and dfdaemon 1.5.9 of two"),
        ],
    )
    def test_what_is_known_not_to_work_is_refused_first(self, fleet, known, playbook, variables, words):
        known({"scheduler": [">=2.5.1"], "client": ["<1.5.10"], "reason": "none"})
        done, calls = fleet(playbook, code=2, **variables)
        assert calls == [] and words in " ".join(done.stdout.split())

    def test_what_runs_meets_what_is_new(self, upgrade, known, tmp_path):
        """Until its turn comes, an old peer asks a new scheduler."""
        known({"scheduler": [">=2.5.2"], "client": ["<1.5.10"], "reason": "none"})
        current = tmp_path / "gpu-2/client/current"
        current.parent.mkdir(parents=True)
        current.symlink_to("1.5.9")
        done, calls = upgrade(code=2, dragonfly_scheduler_version="2.5.2")
        assert "Refused the scheduler 2.5.2 of one and dfdaemon 1.5.9 of gpu-2, which do not work together" in " ".join(done.stdout.split())
        assert {call["module"] for call in calls} == {"preflight_info", "rollout_lock", "torchserve_info"}

    def test_a_host_that_cannot_be_used_is_left_out(self, upgrade):
        done, calls = upgrade(code=2, answers={"gpu-3": {"preflight_info": NOT_READY}})
        assert hosts_of(calls, "dragonfly_release").count("gpu-2") == 1 and "gpu-3" not in hosts_of(calls, "dragonfly_release")
        assert recap(done)["gpu-3"] == 1 and recap(done)["gpu-2"] == 0
        assert re.search(r"gpu-3: .*It has no room", " ".join(table_of(done)))


class TestRotation:
    """Replacing the authority behind the certificates of Dragonfly's daemons."""

    @staticmethod
    def written(calls):
        """(host, daemon, how many authorities it trusts, its certificate) of everything that was written, in this order."""
        for call in calls:
            files = {file["path"]: file["content"] for file in call["args"].get("files") or []} if call["module"] == "daemon" else {}
            name = {"dfdaemon.service": "dfdaemon", "dragonfly-scheduler.service": "scheduler"}.get(call["args"].get("name"))
            if name and files:
                trusted = files["/etc/dragonfly/tls/ca.pem"].count("BEGIN CERTIFICATE")
                yield call["host"], name, trusted, files[f"/etc/dragonfly/tls/{name}.pem"]

    def test_a_step_begins_when_every_host_has_the_one_before(self, fleet):
        broken = {"gpu-2": {"daemon": {"failed": True, "msg": "It did not answer."}}}
        done, calls = fleet("rotate_certificates", code=2, answers=broken)
        assert "It did not answer." in done.stdout, done.stdout
        first = list(self.written(calls))
        # All trust the next authority by now, but the hosts after the one that failed, and nothing else has begun.
        assert [host for host, _name, _trusted, _certificate in first] == ["one", "two", "two", "seed", "gpu-1", "gpu-2"]
        assert {trusted for _host, _name, trusted, _certificate in first} == {2}
        # It goes on from there.
        done, calls = fleet("rotate_certificates")
        assert "WARN" not in done.stdout, done.stdout
        found = list(self.written(calls))
        order = [("one", "scheduler"), ("two", "scheduler"), ("two", "dfdaemon"), ("seed", "dfdaemon")]
        order += [(host, "dfdaemon") for host in GROUPS["gpu_hosts"]]
        assert [one[:2] for one in found] == order * 3
        assert [one[2] for one in found] == [2] * 14 + [1] * 7
        certificates = [{one[0]: one[3] for one in found[step * 7 : step * 7 + 7]} for step in range(3)]
        assert {one[0]: one[3] for one in first}.items() <= certificates[0].items()
        assert all(certificates[0][host] != certificates[1][host] == certificates[2][host] for host in EVERYBODY)
        assert recap(done) == dict.fromkeys(EVERYBODY, 0)
        assert not hosts_of(calls, "dragonfly_release") and not hosts_of(calls, "python_environment")

    def test_a_part_of_the_fleet_is_refused(self, fleet):
        done, calls = fleet("rotate_certificates", "--limit", "gpu-1", code=2)
        assert "every host must take each step, so run it without --limit." in " ".join(done.stdout.split())
        assert calls == []
