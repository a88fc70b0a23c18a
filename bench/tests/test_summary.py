# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
import summary
from cells import MIB, Cell, Run, bound, planned

CELL = Cell("ours", 2, 64, "slow")
BOUND = bound(CELL)


def run(seconds, repeat=1, cell=CELL, problem="", **options):
    size = cell.mib * MIB
    return {
        **cell._asdict(),
        "repeat": repeat,
        "size": size,
        "seconds": seconds,
        "origin_bytes": size,
        "origin_requests": 3,
        "written": cell.hosts * size,
        "cpu_s": 1.0,
        "peak": 30 * MIB,
        "busy": 0.3,
        "problem": problem,
        **options,
    }


def results(*runs):
    return {"machine": {"processor": "a processor", "cores": 2}, "runs": list(runs)}


def test_busy():
    before = "cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 2 3\n"
    after = "cpu  160 0 120 710 110 0 0 0 99 0\ncpu0 1 2 3\n"
    assert summary.busy(before, after) == pytest.approx(0.8), "guests are in user time already, and waiting for a disk is not busy"
    assert summary.busy(before, before) == 0


@pytest.mark.parametrize(
    ("answers", "options", "said"),
    [
        ([{}, {}], {}, ""),
        ([{}, {"sha256": "b", "log": "curl: (56)  reset"}], {}, "1 of 2 hosts failed or have another file: curl: (56) reset"),
        ([{"sha256": "", "status": -9}, {"sha256": ""}], {}, "2 of 2 hosts failed or have another file: -9"),
        ([{"status": 1, "log": "x" * 999}, {}], {}, f"1 of 2 hosts failed or have another file: {'x' * 300}"),
        ([{}, {}], {"busy": 0.81}, "the processors were 81% busy"),
        ([{}, {}], {"busy": 0.8}, ""),
        ([{}, {}], {"busy": 1.0, "seconds": [0.2, 0.9]}, ""),
    ],
)
def test_what_does_not_count(answers, options, said):
    answers = [{"sha256": "a", "status": 0, "log": "", **answer} for answer in answers]
    assert summary.problem(run(**{"seconds": [14.0, 15.0], **options}), "a", answers) == said


def test_statistics_of_a_cell():
    runs = [run([BOUND * 1.0, BOUND * ratio], repeat) for repeat, ratio in ((1, 1.2), (2, 1.6), (3, 1.4))]
    warm_up = run([BOUND, BOUND * 9], 0)
    rejected = run([BOUND, BOUND * 9], 4, problem="the processors were 90% busy")
    (cell,) = summary.summarize([warm_up, *runs, rejected])
    one = summary.summarize([warm_up, *runs, rejected])[cell]
    assert cell == CELL
    assert (one["counted"], one["rejected"]) == (3, ["the processors were 90% busy"])
    assert one["t_max"] == pytest.approx({"median": 1.4, "min": 1.2, "max": 1.6})
    assert one["t_median"]["median"] == pytest.approx(1.2), "the median host of two is between them"
    assert one["origin"]["median"] == pytest.approx(1)
    assert one["written"]["median"] == pytest.approx(1), "of one copy a host"
    assert one["cpu"]["median"] == pytest.approx(1 / (2 * 64 * MIB / 1e9))
    assert one["peak"]["median"] == pytest.approx(30)


def test_a_failed_run_needs_no_numbers():
    failed = {**CELL._asdict(), "repeat": 1, "problem": "host.py ended"}
    assert summary.summarize([failed]) == {CELL: {"counted": 0, "rejected": ["host.py ended"]}}
    text = summary.markdown(results(failed))
    assert "| model_artifact | rejected |" in text
    assert "- model_artifact, 2 hosts, 64 MiB, slow origin: host.py ended" in text


def test_only_what_counts_is_done():
    one, warm_up, bad = run([14, 15]), run([14, 15], 0), run([14, 15], 2, problem="busy")
    assert summary.done(results(one, warm_up, bad)) == {Run(CELL, 1), Run(CELL, 0)}


def test_markdown():
    curl = Cell("curl", 2, 64, "slow")
    ours8 = Cell("ours", 8, 64, "slow")
    text = summary.markdown(
        results(
            run([BOUND, BOUND * 1.25]),
            run([BOUND, BOUND * 1.35], 2),
            run([BOUND * 2, BOUND * 2.1], cell=curl, origin_bytes=2 * 64 * MIB),
            run([BOUND * 1.5] * 8, cell=ours8),
        )
    )
    assert "| processor | a processor |" in text
    assert f"### 64 MiB, slow origin: bound {BOUND:.1f} s" in text
    assert "| method | 2 hosts | 8 hosts |" in text
    assert "| model_artifact | 1.30 (1.25-1.35) [2] | 1.50 [1] |" in text
    assert "| curl | 2.10 [1] |  |" in text
    assert "## What it took, 8 hosts" in text
    assert "| method | T median | origin / F | requests | written / F | CPU s / GB | peak MiB | busy |" in text
    assert "| model_artifact | 1.50 | 1.00 | 3 | 1.00 | 1.9 | 30 | 0.30 |" in text
    assert "Runs that do not count" not in text
    assert "Direct, cold" not in text


def test_the_four_bars():
    seconds = {"torchserve": 14.0, "plugin": 14.7, "plugin-remote": 7.0, "plugin-local": 0.14}
    cells = {name: Cell(name, 1, 64, "slow") for name in seconds}
    runs = [run([value], cell=cells[name]) for name, value in seconds.items()]
    text = summary.markdown(results(*runs))
    row = "| 64 MiB, slow origin, through TorchServe | 14.00 s | 14.70 s | 7.00 s | 0.14 s | 1.05 | 2.0 x | 100 x |"
    assert row in text
    assert row not in summary.markdown(results(*runs[:3])), "all four or none"


def test_the_planner_is_held_against_the_cells():
    said = planned(CELL)
    text = summary.markdown(results(run([said * 0.5, said / 1.1])))
    assert f"| 2 hosts, 64 MiB, slow origin | {said:.1f} s | {said / 1.1:.1f} s | +10% |" in text
    assert "off by 10% in the median and by 10% at most" in text
