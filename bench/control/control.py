#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a run that changes nothing costs the controller: of site, and of a play of ansible.builtin modules that does the same.

See bench/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import ansible.release
import control_report
import fleet_of_answers
import measured
import yaml
from control_report import Cell, cell_of

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PLAYS = {"site": REPOSITORY / "playbooks/site.yml", "plain": HERE / "plain.yml"}
INVENTORY = HERE / "inventory"
LAB = yaml.safe_load((INVENTORY / "group_vars/all/lab.yml").read_text(encoding="utf-8"))
CACHE = REPOSITORY / ".cache" / LAB["lab_name"]
CONTAINER = f"{LAB['lab_name']}-control-1"
HOSTS = (1, 10, 30, 100)
REPEATS = 3
FORKS = 25
# Where forks and pipelining are compared.
WAYS_HOSTS = 30
WAYS = (5, 50, 100)
# Before anything was measured, for --plan and for how long a run may take: seconds for the control plane, and for each host.
FIRST_S, EACH_S = {"site": 60, "plain": 40}, {"site": 4, "plain": 8}
LIMIT = 10


def cells(hosts: list, plays: list, forks: list | None, ways: bool) -> list:
    found = [Cell(play, count, one) for play in plays for count in hosts for one in forks or [FORKS]]
    if ways and not forks and WAYS_HOSTS in hosts:
        found += [Cell("site", WAYS_HOSTS, one) for one in WAYS]
        found += [Cell(play, WAYS_HOSTS, FORKS, False) for play in plays]
    return found


def order(wanted: list, repeats: int, done: set) -> list:
    """(cell, repeat) of all runs that are not done: a warm-up of each play with most hosts, then all cells in each repeat, in any order."""
    runs = []
    for repeat in range(1, repeats + 1):
        those = [cell for cell in wanted if (cell, repeat) not in done]
        random.Random(repeat).shuffle(those)
        runs += [(cell, repeat) for cell in those]
    plays = [play for play in PLAYS if any(cell.play == play for cell, _repeat in runs)]
    most = max((cell.hosts for cell, _repeat in runs), default=0)
    return [(Cell(play, most, FORKS), 0) for play in plays] + runs


def expected(cell: Cell) -> float:
    return FIRST_S[cell.play] + EACH_S[cell.play] * cell.hosts * (1 if cell.pipelining else 2)


def environment(cell: Cell) -> dict:
    """Of a controller that is set up as docs/scale.md says, and knows no host yet."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_HOME": str(CACHE / "home"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORKS": str(cell.forks),
        "ANSIBLE_PIPELINING": str(cell.pipelining),
    }


def boot() -> None:
    """Have the container, with the address and the answers of every host that there can be."""
    said = {
        "control_hosts": fleet_of_answers.addresses(LAB["lab_network_prefix"]),
        "control_answers": {"host_s": fleet_of_answers.HOST_S, "answers": fleet_of_answers.answers()},
    }
    CACHE.mkdir(parents=True, exist_ok=True)
    (CACHE / "hosts.json").write_text(json.dumps(said))
    play("bench/control/hosts.yml", "-e", f"@{CACHE}/hosts.json")


def play(playbook: str, *arguments: str) -> None:
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    quiet = {**os.environ, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "PATH": programs}
    subprocess.run(["ansible-playbook", "-i", str(INVENTORY), playbook, *arguments], cwd=REPOSITORY, env=quiet, check=True)


def inventories(counts: list) -> dict:
    return fleet_of_answers.write(
        CACHE,
        counts,
        prefix=LAB["lab_network_prefix"],
        ansible_connection="ssh",
        ansible_host="{{ modelfleet_address }}",
        ansible_user="admin",
        ansible_become=True,
        ansible_ssh_private_key_file=str(CACHE / "ssh_key"),
        ansible_ssh_common_args=f"-o StrictHostKeyChecking=accept-new -o UserKnownHostsFile={CACHE}/known_hosts",
        ansible_python_interpreter="/opt/control/{{ inventory_hostname }}/python3",
    )


def in_container(script: str) -> str:
    return subprocess.run(["podman", "exec", CONTAINER, "sh", "-ec", script], capture_output=True, text=True, check=True).stdout


def run_once(cell: Cell, inventory: Path) -> dict:
    """One run of a play; what it took, and how many modules the first GPU host was asked for."""
    log = CACHE / "run.log"
    in_container("rm -f /opt/control/*/asked")
    command = ["ansible-playbook", "-i", inventory, PLAYS[cell.play]]
    found = measured.measure(command, log, expected(cell) * LIMIT, cwd=REPOSITORY, env=environment(cell))
    wanted = {name for those in fleet_of_answers.names(cell.hosts).values() for name in those}
    why = control_report.problem(found["status"], log.read_text(encoding="utf-8", errors="replace"), wanted)
    modules = in_container("cat /opt/control/gpu-1/asked 2>/dev/null || true").split()
    return {**found, "modules": len(modules), "asked": modules, "problem": why}


def machine() -> dict:
    """What the numbers depend on, without a name."""
    cpu = Path("/proc/cpuinfo").read_text()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True, check=True).stderr.strip()
    return {
        "processor": next(line.partition(": ")[2] for line in cpu.splitlines() if line.startswith("model name")),
        "cores": os.cpu_count(),
        "ansible-core": ansible.release.__version__,
        "Python": platform.python_version(),
        "SSH": ssh,
        "hosts": "one container with one sshd and an address for each; modules are sent to it, and a program answers in their place after "
        f"{fleet_of_answers.HOST_S} s, so that no host's work is in the numbers",
        "fleet": "the GPU hosts, one scheduler and one seed peer; two models; mutual TLS and the firewall on",
        "commit": commit.stdout.strip(),
    }


def save(results: dict, path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    path.with_suffix(".md").write_text(control_report.markdown(results), encoding="utf-8")


def arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--name", default="", help="of the results (default: control, or control-quick)")
    parser.add_argument("--quick", action="store_true", help="1 and 10 hosts, once, to see that it works")
    parser.add_argument("--hosts", action="append", type=int, help=f"only with so many GPU hosts, at most {fleet_of_answers.MOST}")
    parser.add_argument("--play", action="append", choices=PLAYS, help="only this play")
    parser.add_argument(
        "--forks", action="append", type=int, help=f"forks of Ansible (default: {FORKS}, and others with {WAYS_HOSTS} hosts)"
    )
    parser.add_argument("--repeats", type=int, help=f"runs of a cell that count (default: {REPEATS}, quick: 1)")
    parser.add_argument("--plan", action="store_true", help="say what would be run and how long that takes, and end")
    parser.add_argument("--report", action="store_true", help="only write the table again")
    parser.add_argument("--keep", action="store_true", help="leave the container")
    args = parser.parse_args(argv)
    args.name = args.name or ("control-quick" if args.quick else "control")
    args.repeats = args.repeats or (1 if args.quick else REPEATS)
    args.hosts = args.hosts or ([1, 10] if args.quick else list(HOSTS))
    args.play = args.play or list(PLAYS)
    if not all(1 <= count <= fleet_of_answers.MOST for count in args.hosts):
        parser.error(f"--hosts is from 1 to {fleet_of_answers.MOST}")
    return args


def main(argv=None) -> int:
    args = arguments(argv)
    path = REPOSITORY / "bench/results" / f"{args.name}.json"
    results = json.loads(path.read_text()) if path.exists() else {"machine": {}, "forks": FORKS, "runs": []}
    if args.report:
        save(results, path)
        return 0
    wanted = cells(args.hosts, args.play, args.forks, not args.quick)
    done = {(cell_of(run), run["repeat"]) for run in results["runs"] if not run["problem"]}
    runs = order(wanted, args.repeats, done)
    print(f"{len(runs)} runs, about {sum(expected(cell) for cell, _repeat in runs) / 60:.0f} minutes.")
    if args.plan:
        for cell, repeat in runs:
            print(repeat, *cell)
        return 0
    results["machine"] = machine()
    boot()
    places = inventories(sorted({cell.hosts for cell, _repeat in runs}))
    failed = False
    for number, (cell, repeat) in enumerate(runs, 1):
        run = {**cell._asdict(), "repeat": repeat, "at": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        run |= run_once(cell, places[cell.hosts])
        if run["status"]:
            print(
                f"{' '.join(map(str, cell))}: {run['problem']}; the end of {CACHE / 'run.log'}:\n{(CACHE / 'run.log').read_text()[-3000:]}"
            )
            return 1
        if repeat == 0:
            # It made what the others find: certificates, and files on the hosts.
            run["problem"] = ""
        failed |= bool(run["problem"])
        results["runs"].append(run)
        save(results, path)
        print(
            f"{number}/{len(runs)} {' '.join(map(str, cell))}:",
            run["problem"] or f"{run['wall_s']:.1f} s, {run['cpu_s']:.1f} CPU s",
            flush=True,
        )
    if not args.keep:
        play("playbooks/lab_down.yml")
    print(path.with_suffix(".md").read_text())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
