# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that run containers beside hosts that do not: the plays of the collection, with modules that only note what they were asked."""

from __future__ import annotations

import pytest
import yaml
from fleet import only_in_all
from test_distribute import PRUNED
from test_life import EVERYBODY, GROUPS, OWED, documented, fleet, gone, hosts_of  # noqa: F401

CLIENT, NEXT, SCHEDULER, TORCHSERVE = (f"registry.example.org/modelfleet/{name}@sha256:{digit * 64}" for name, digit in
                                       (("client", "1"), ("client", "2"), ("scheduler", "3"), ("torchserve", "4")))  # fmt: skip
IMAGES = {
    "modelfleet_install_method": "container",
    "dragonfly_scheduler_image": SCHEDULER,
    "dfdaemon_image": CLIENT,
    "torchserve_image": TORCHSERVE,
    # Whatever is installed on this machine.
    "modelfleet_container_packages": [],
}
RECORDS = {"/opt/dragonfly/scheduler/.images.json", "/opt/dragonfly/client/.images.json", "/opt/torchserve/.images.json"}


def of(calls, module, host):
    return [call["args"] for call in calls if (call["module"], call["host"]) == (module, host)]


def files_of(calls, host, unit):
    """{path: text} of what a daemon was asked to run on."""
    (found, *_others) = (args["files"] for args in of(calls, "daemon", host) if args["name"] == unit and args.get("files"))
    return {one["path"]: one["content"] for one in found}


def test_a_fleet_may_mix_both_and_only_units_differ(fleet):  # noqa: F811
    _done, calls = fleet("site", of_hosts={"gpu-1": IMAGES, "one": IMAGES})
    assert [args["name"] for args in of(calls, "container_image", "gpu-1")] == [CLIENT, TORCHSERVE]
    assert [args["name"] for args in of(calls, "container_image", "one")] == [SCHEDULER]
    assert set(hosts_of(calls, "container_image")) == {"gpu-1", "one"}
    assert {"gpu-1", "one"}.isdisjoint({*hosts_of(calls, "dragonfly_release"), *hosts_of(calls, "python_environment")})
    assert {"gpu-2", "gpu-3"} <= set(hosts_of(calls, "dragonfly_release")) & set(hosts_of(calls, "python_environment"))
    for unit in ("dfdaemon", "torchserve"):
        contained, other = (files_of(calls, host, f"{unit}.service") for host in ("gpu-1", "gpu-2"))
        assert list(contained) == list(other)
        path = f"/etc/systemd/system/{unit}.service"
        assert "podman run" in contained.pop(path) and "podman" not in other.pop(path)
        # But for its own address and certificate a host has the same.
        same = {path for path in contained if contained[path].replace("10.1.0.4", "10.1.0.5").replace("gpu-1", "gpu-2") == other[path]}
        assert set(contained) - same <= {"/etc/dragonfly/tls/dfdaemon.pem", "/etc/systemd/system/torchserve-models.service"}
    for call in calls:
        if call["module"] == "container_image":
            documented(call["module"], call["args"])


def test_an_image_is_there_before_anything_restarts(fleet):  # noqa: F811
    _done, calls = fleet("upgrade", answers={host: {"daemon": OWED} for host in EVERYBODY}, **{**IMAGES, "dfdaemon_image": NEXT})

    def moments(module, host, **args):
        return [
            moment
            for moment, call in enumerate(calls)
            if (call["module"], call["host"]) == (module, host) and args.items() <= call["args"].items()
        ]

    for host in ("seed", "gpu-1", "gpu-2"):
        assert moments("container_image", host, name=NEXT)[-1] < moments("daemon", host, name="dfdaemon.service", restart="now")[0]
    # As with releases, a host has nothing new before its turn.
    assert moments("daemon", "seed", restart="now")[-1] < moments("container_image", "gpu-1")[0]
    assert moments("daemon", "gpu-1", restart="now")[-1] < moments("container_image", "gpu-2")[0]
    probes = {args["name"]: args["probe"] for args in of(calls, "container_image", "gpu-1")}
    assert probes[NEXT] == ["--version"] and "TorchServe is" in probes[TORCHSERVE][1]


def test_what_was_brought_goes_with_the_fleet(fleet):  # noqa: F811
    _done, calls = fleet("uninstall", modelfleet_uninstall_confirm=True, **IMAGES)
    for host in GROUPS["gpu_hosts"]:
        absent = of(calls, "container_image", host)
        assert {args["record"] for args in absent} == RECORDS and {args["state"] for args in absent} == {"absent"}
    assert ("gpu-1", "dfdaemon.service") in gone(calls) and ("one", "dragonfly-scheduler.service") in gone(calls)


def test_an_archive_travels_only_where_it_is_needed(run, tmp_path):
    """That of the controller's own, or that of a bundle for what a registry has."""
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "vars": {"__modelfleet_image_of": {"image": CLIENT, "archive": ""}, "modelfleet_offline_bundle": "/srv/bundle"},
        "tasks": [
            {"ansible.builtin.import_role": {"name": "modelfleet.serving.modelfleet", "tasks_from": "variables"}},
            {
                "ansible.builtin.debug": {"msg": "{{ item.what }} ({{ __modelfleet_image_archive }})"},
                "loop": [
                    {"what": "bundled", "image": CLIENT.replace("@", ":v1@"), "archive": ""},
                    {"what": "own", "image": CLIENT, "archive": "/srv/client.tar"},
                    {"what": "built here", "image": CLIENT.replace("registry.example.org", "localhost"), "archive": ""},
                    {"what": "by its id", "image": f"sha256:{'1' * 64}", "archive": ""},
                ],
                "vars": {"__modelfleet_image_of": "{{ item }}"},
            },
        ],
    }
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    done = run("ansible-playbook", "-i", "localhost,", tmp_path / "play.yml")
    for words in (f"bundled (/srv/bundle/images/client-{'1' * 12}.tar)", "own (/srv/client.tar)", "built here ()", "by its id ()"):
        assert words in done.stdout, done.stdout


@only_in_all
def test_dfctl_is_asked_where_it_is(fleet):  # noqa: F811
    _done, calls = fleet("prune", answers={key: {"model_prune": PRUNED} for key in EVERYBODY}, of_hosts={"gpu-1": IMAGES})
    assert [args["container"] for host in ("gpu-1", "gpu-2") for args in of(calls, "model_prune", host)] == ["dfdaemon", ""]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"dfdaemon_image": "docker.io/dragonflyoss/client:v1.5.10"}, "The dfdaemon_image has no digest"),
        ({"torchserve_image": ""}, "The torchserve_image is empty"),
    ],
)
def test_a_tag_is_refused_before_any_host_is_asked(fleet, variables, words):  # noqa: F811
    done, calls = fleet("site", code=2, **{**IMAGES, **variables})
    assert calls == [] and words in " ".join(done.stdout.split())


def test_nothing_of_an_archive_is_needed_for_a_container(fleet):  # noqa: F811
    """No digest of one is asked for, and no Java of the host."""
    _done, calls = fleet("site", dfdaemon_release_sha256="", dragonfly_scheduler_release_sha256="", **IMAGES)
    (looked,) = of(calls, "preflight_info", "gpu-1")
    assert looked["java"] == "" and [one["variable"] for one in looked["images"]] == ["dfdaemon_image", "torchserve_image"]
    assert not looked["cdi"] and hosts_of(calls, "dragonfly_release") == []
