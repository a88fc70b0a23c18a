# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that runs the stages of `make test`: a failure is never lost, and the table says which stage it was."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture
def stages(tmp_path, monkeypatch):
    loader = SourceFileLoader("modelfleet_stages", str(REPOSITORY / "lab/stages"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.setitem(sys.modules, loader.name, module)  # dataclasses look there
    loader.exec_module(module)
    monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
    return module


@pytest.fixture
def run(stages, monkeypatch, capsys, tmp_path):
    """Run commands, given by name with what they need, as the stages of `make test`; return (status, output)."""

    def run_commands(plan="test", **commands):
        monkeypatch.setattr(stages, "STAGES", [])
        for name, (text, *needs) in commands.items():
            program = tmp_path / name
            program.write_text(f"#!/bin/sh\n{text}\n")
            program.chmod(0o755)
            turn = "one" if name.startswith("turn") else ""
            stages.STAGES.append(stages.Stage(name, str(program), "all" if name.startswith("rare") else "test", tuple(needs), turn))
        monkeypatch.setattr(sys, "argv", ["stages", plan])
        return stages.main(), capsys.readouterr().out

    return run_commands


def row(output, name):
    return re.search(rf"^{name} +(\d+:\d\d)? +\d+:\d\d  (.*)$", output, re.MULTILINE).group(2)


def test_all_went_well(run):
    status, output = run(one=["echo '==== 12 passed, 1 skipped in 3.45s ===='"], two=["true"])
    assert status == 0
    assert [row(output, name) for name in ("one", "two", "together")] == ["ok"] * 3
    assert "one:\n==== 12 passed, 1 skipped in 3.45s ====" in output


def test_a_failed_stage_is_named_and_shown_and_the_others_go_on(run):
    status, output = run(bad=["echo what happened; echo '==== 1 failed in 0.1s ===='; exit 2"], good=["true"])
    assert status == 1
    assert row(output, "bad") == "FAILED with status 2"
    assert row(output, "good") == "ok"
    assert row(output, "together") == "not ok: bad"
    assert "what happened\n" in output
    assert "bad:\n==== 1 failed in 0.1s ====" in output


def test_a_stage_that_was_not_run_is_no_success(run):
    status, output = run(image=["exit 1"], fleet=["true", "image"], after=["true", "fleet"])
    assert status == 1
    assert row(output, "fleet") == "not run: needs image"
    assert row(output, "after") == "not run: needs fleet"


def test_a_killed_stage_is_no_success(run):
    assert run(killed=["kill -9 $$"])[0] == 1


def test_a_program_that_is_not_there_is_no_success(stages, monkeypatch, capsys):
    monkeypatch.setattr(stages, "STAGES", [stages.Stage("nothing", "/nowhere/nothing"), stages.Stage("other", "true")])
    monkeypatch.setattr(sys, "argv", ["stages", "test"])
    assert stages.main() == 1
    output = capsys.readouterr().out
    assert row(output, "nothing").startswith("FAILED") and "/nowhere/nothing" in output
    assert row(output, "other") == "ok"


def test_two_at_a_time_but_one_of_a_turn(run, tmp_path):
    """Each notes who runs beside it."""
    note = f"cd {tmp_path}; touch $(basename $0).runs; sleep 0.5; ls *.runs > $(basename $0).saw; rm $(basename $0).runs"
    status, _output = run(turn1=[note], turn2=[note], other=[note])
    assert status == 0
    seen = {name: (tmp_path / f"{name}.saw").read_text().split() for name in ("turn1", "turn2", "other")}
    assert "turn2.runs" not in seen["turn1"] and "turn1.runs" not in seen["turn2"]
    assert {"turn1.runs", "other.runs"} <= {*seen["turn1"], *seen["other"]}


def test_needs_come_first(run, tmp_path):
    assert run(second=[f"test -e {tmp_path}/made", "first"], first=[f"sleep 0.3; touch {tmp_path}/made"])[0] == 0


def test_what_does_not_fit_runs_with_all_only(run):
    assert "rare" not in run(rare=["exit 1"], one=["true"])[1]
    assert run("all", rare=["exit 1"], one=["true"])[0] == 1


def test_a_run_that_takes_too_long_says_so(run, stages, monkeypatch):
    assert "make test-all" not in run(one=["true"])[1]
    monkeypatch.setattr(stages, "BUDGET", -1)
    assert "make test-all" in run(one=["true"])[1]


def test_every_need_is_a_stage_before_it(stages):
    """A misspelt need would be no need."""
    names = [stage.name for stage in stages.STAGES]
    for number, stage in enumerate(stages.STAGES):
        assert set(stage.needs) <= set(names[:number]), stage.name
        assert stages.PLANS.index(stage.plan) >= max(
            [stages.PLANS.index(one.plan) for one in stages.STAGES if one.name in stage.needs] or [0]
        )


def test_every_scenario_and_every_check_is_a_stage(stages):
    """Nothing that is checked is forgotten here."""
    commands = " ".join(stage.command for stage in stages.STAGES)
    scenarios = {path.parent.name for path in (REPOSITORY / "molecule").glob("*/molecule.yml")}
    assert scenarios == set(re.findall(r"make scenario-([\w-]+)", commands))
    targets = ("lint", "repository-tests", "life-tests", "lab-tests", "fuzz-tests", "release-rehearsal")
    for needed in (*(f"make {target}" for target in targets), "tests/collection 3.11", "tests/collection 3.13"):
        assert needed in commands
