# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.modelfleet.serving.plugins.plugin_utils._run_view import PHASES, RunView
from ansible_collections.modelfleet.serving.plugins.plugin_utils._screen import ASCII, UNICODE, plain, width

MIB = 1 << 20


def lines(found):
    return [plain(line).rstrip() for line in found]


@pytest.fixture
def view():
    view = RunView(UNICODE, 0)
    view.play("Activate in batches", ["gpu-1", "gpu-2"], 100, batch=(2, 3))
    return view


def test_host_by_phase(view):
    assert view.facts("gpu-1", {"__rollout_plan": [{"name": "demo", "from": "1.0", "version": "2.0"}]}) is None
    assert view.facts("gpu-1", {"__rollout_timeline": [{"phase": "drain"}]}) == "drain"
    assert view.facts("gpu-2", {"__rollout_timeline": [{"phase": "drain"}]}) is None, "said once for the batch"
    view.facts("gpu-1", {"__rollout_timeline": [{"phase": "ready"}]})
    view.facts("gpu-2", {"__rollout_timeline": [{"phase": "ready"}]})
    view.facts("gpu-2", {"__rollout_timeline": [{"phase": "answers"}]})
    view.facts("gpu-2", {"__rollout_seen": [{"gate": "answers", "saw": "$.y is 3,\nexpected 2"}]})
    view.fail("gpu-2", "$.y is 3, allowed: the known answer.")
    found = lines(view.region(120, 20, 130))
    assert found[0][0] in UNICODE["spin"] and [found[0][1:], *found[1:]] == [
        " Activate in batches, batch 2 of 3  2 hosts, 0:30, run 2:10",
        "         drain  ready  answers  gpu  command  switch  return  traffic  finish",
        "  gpu-1  ✓      ▶      ·        ·    ·        ·       ·       ·        ·",
        "  gpu-2  ✓      ✓      ✗        ·    ·        ·       ·       ·        ·        $.y is 3, allowed: the known answer.",
    ]
    view.facts("gpu-1", {"__rollout_timeline": [{"phase": "undo"}]})
    view.facts("gpu-1", {"__rollout_outcome": "NOT UNDONE"})
    view.facts("gpu-1", {"__rollout_outcome": "went back"})
    view.facts("gpu-1", {"__rollout_timeline": [{"phase": "undo"}, {"phase": "idle"}]})
    assert lines(view.grid(120, 20))[0].endswith("finish  undo") and lines(view.grid(120, 20))[1].rstrip().endswith("✓")
    view.end("gpu-1", "changed")
    view.end("gpu-2", "failed")
    assert plain(view.summary(142)) == (
        "✗ Activate in batches, batch 2 of 3: 2 hosts, demo 1.0 → 2.0, 1 went back, 1 changed, 1 failed, 0:42"
    )


def test_a_host_that_waits_is_at_no_phase(view):
    view.facts("gpu-1", {"__rollout_timeline": [{"phase": "traffic"}]})
    assert view.facts("gpu-1", {"__rollout_timeline": [{"phase": "idle"}]}) is None
    assert view.phases["gpu-1"] == {"traffic": "ok"}


def test_a_way_back_has_no_columns_of_a_way_forth():
    view = RunView(ASCII, 0)
    view.play("Go back", ["gpu-1"], 0)
    assert view.facts("gpu-1", {"__rollout_timeline": [{"phase": "plan"}]}) is None
    assert view.facts("gpu-1", {"__rollout_timeline": [{"phase": "plan"}, {"phase": "idle"}]}) is None and not view.phases
    view.facts("gpu-1", {"__rollout_timeline": [{"phase": "rollback"}]})
    assert lines(view.grid(80, 20)) == ["         rollback", "  gpu-1  >"]
    view.facts("gpu-1", {"__rollout_timeline": [{"phase": "idle"}]})
    assert lines(view.grid(80, 20))[1] == "  gpu-1  +"


@pytest.mark.parametrize("columns", [20, 40, 60, 79])
@pytest.mark.parametrize("signs", [UNICODE, ASCII])
def test_a_narrow_terminal_shows_how_far(columns, signs):
    view = RunView(signs, 0)
    view.play("Activate", ["gpu-with-a-very-long-name-1", "日本"], 0)
    for host in view.hosts:
        view.facts(host, {"__rollout_timeline": [{"phase": "drain"}]})
        view.facts(host, {"__rollout_timeline": [{"phase": "ready"}]})
    found = lines(view.grid(columns, 20))
    assert len(found) == 2, "no room for the names of the phases"
    assert signs["ok"] + signs["now"] + signs["to come"] * (len(PHASES) - 2) + " ready" in found[0]
    assert width(found[0]) == width(found[1])


@pytest.mark.parametrize(("host", "gap"), [("gpu-01", "  "), ("gpu-r01-n17", " ")])
def test_a_terminal_of_80_columns_shows_the_names_of_the_phases(host, gap):
    view = RunView(UNICODE, 0)
    view.play("Activate", [host], 0)
    view.facts(host, {"__rollout_timeline": [{"phase": "drain"}], "__rollout_seen": [{"gate": "gpu", "saw": "GPU 0 " + 80 * "x"}]})
    found = [plain(line) for line in view.grid(79, 20)]
    assert found[0] == " " * (len(host) + 4) + gap.join(PHASES) and max(map(width, found)) <= 79
    assert found[1].startswith(f"  {host}  ▶") and "GPU 0" not in found[1], "of a few columns nobody can read anything"


def test_more_hosts_that_failed_than_lines(view):
    view.play("Activate", [f"gpu-{number}" for number in range(50)], 0)
    for host in view.hosts:
        view.facts(host, {"__rollout_timeline": [{"phase": "drain"}]})
        view.fail(host, "Failed.")
    found = lines(view.grid(79, 20))
    assert len(found) == 20 and found[-2].startswith("  ✗ gpu-") and found[-1] == "  and 40 more hosts that failed"


def test_more_hosts_than_lines(view):
    hosts = [f"gpu-{number}" for number in range(200)]
    view.play("Activate in batches", hosts, 0, batch=(3, 3))
    for host in hosts:
        view.facts(host, {"__rollout_timeline": [{"phase": "drain"}]})
    for host in hosts[:150]:
        view.facts(host, {"__rollout_timeline": [{"phase": "ready"}]})
    view.fail("gpu-7", "Failed to register.")
    found = lines(view.region(80, 24, 1))
    assert len(found) <= 24
    assert found[1].startswith("  drain") and found[1].endswith("150 of 200, 50 there now")
    assert found[2].endswith("0 of 200, 149 there now, 1 failed")
    assert found[-1] == "  ✗ gpu-7  Failed to register."


def test_downloads(view):
    view.play("Bring the artifacts", ["gpu-1", "gpu-2", "gpu-3"], 0)
    view.task("Bring the artifacts", 0)
    for host in view.hosts:
        view.start(host, 0)
        view.bring(host)
    assert view.downloads(0) == [] and lines(view.region(120, 20, 5))[1] == ("  Bring the artifacts: waiting for gpu-1, gpu-2, gpu-3, 0:05")
    found = {"wanted": 100 * MIB, "fetched": 20 * MIB, "bytes": {"origin": 0, "remote_peer": 20 * MIB, "local_peer": 0}, "seconds": 2.0}
    view.bring("gpu-1").read(found)
    view.bring("gpu-1").read(found)
    view.bring("gpu-2").read({**found, "bytes": {"origin": 8 * MIB, "remote_peer": 0, "local_peer": 0}, "fetched": 8 * MIB})
    view.bring("gpu-3").end({"artifacts": [{"action": "unchanged", "size": 7, "fetched": 0}]})
    view.end("gpu-3", "ok")
    assert view.downloads(10) == [
        "1 of 3 hosts done, 28.0 MiB of 200.0 MiB, 14.0 MiB/s (origin 4.0 MiB/s, peers 10.0 MiB/s, local 0 B/s), 0:10",
        "  gpu-2: 8 % of 100.0 MiB, 4.0 MiB/s, origin 8.0 MiB, peers 0 B, local 0 B",
        "  gpu-1: 20 % of 100.0 MiB, 10.0 MiB/s, origin 0 B, peers 20.0 MiB, local 0 B",
    ]
    assert view.downloads(10, most=1)[-1] == "  and 1 more host"
    wide, narrow = (lines(view.region(columns, 20, 10)) for columns in (120, 79))
    assert wide[2] == "  gpu-1  ████░░░░░░░░░░░░░░░░  20 % of 100.0 MiB, 10.0 MiB/s, origin 0 B, peers 20.0 MiB, local 0 B"
    assert narrow[1:] == [
        "  1 of 3 hosts done, 28.0 MiB of 200.0 MiB, 14.0 MiB/s",
        "  origin 4.0 MiB/s, peers 10.0 MiB/s, local 0 B/s",
        "  gpu-1  20 %, 10.0 MiB/s, origin 0 B, peers 20.0 MiB, local 0 B",
        "  gpu-2  8 %, 4.0 MiB/s, origin 8.0 MiB, peers 0 B, local 0 B",
    ]
    for host in ("gpu-4", "gpu-5"):
        view.bring(host)
    few = lines(view.region(120, 4, 10))
    assert len(few) == 4 and few[3] == "  and 3 more hosts" and not few[2].startswith("  gpu-1"), "the slowest ones"
    view.bring("gpu-1").end(
        {"artifacts": [{"action": "fetched", "size": 100 * MIB, "fetched": 100 * MIB}], "bytes": {"remote_peer": 100 * MIB}}
    )
    assert "108.0 MiB (origin 8.0 MiB, peers 100.0 MiB, local 0 B)" in plain(view.summary(20))


def test_counters_that_began_again_are_no_rate():
    view = RunView(UNICODE, 0)
    found = {"wanted": 100, "fetched": 50, "bytes": {"origin": 50, "remote_peer": 0, "local_peer": 0}, "seconds": 2.0}
    view.bring("gpu-1").read(found)
    view.bring("gpu-1").read({**found, "bytes": {"origin": 1, "remote_peer": 0, "local_peer": 0}, "seconds": 3.0})
    assert view.bring("gpu-1").rates["origin"] == 0


def test_what_a_host_is_called_cannot_move_the_cursor(view):
    view.play("a\x1b[2J", ["gpu\x1b[2J"], 0)
    view.facts("gpu\x1b[2J", {"__rollout_timeline": [{"phase": "ready"}], "__rollout_seen": [{"gate": "g\x1b[A", "saw": "\x1b[A"}]})
    assert "\x1b" not in "".join(lines(view.region(100, 20, 0)))


def test_what_it_waits_for(view):
    view.task("Install packages", 200)
    for number in range(1, 8):
        view.start(f"gpu-{number}", 200)
    view.end("gpu-1", "changed")
    assert view.still(275) == "Install packages: 1 of 7 hosts done, waiting for gpu-2, gpu-3, gpu-4 and 3 more, 1:15"
    found = lines(view.region(60, 20, 275))
    assert found[1:] == ["  Install packages", "  1 of 7 hosts done, waiting for gpu-2, gpu-3, gpu-4 and 3 more, 1:15"]
