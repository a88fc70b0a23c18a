# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a controller costs: how runs become numbers, what a command took, and hosts that only answer."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import control
import control_report
import fleet_of_answers
import measured
import pytest
import yaml
from control_report import MIB, Cell
from fleet import REPOSITORY, only_in_all

HERE = REPOSITORY / "bench/control"


def run(hosts, cpu_s, play="site", repeat=1, forks=25, **options):
    return {
        **{"play": play, "hosts": hosts, "forks": forks, "pipelining": True, "repeat": repeat, "problem": ""},
        **{"wall_s": cpu_s / 2, "cpu_s": cpu_s, "machine_s": cpu_s + 4, "peak_bytes": 100 * MIB, "processes": 30, "modules": 14},
        **options,
    }


def results(*runs):
    return {"machine": {"processor": "a processor", "cores": 2}, "forks": 25, "runs": list(runs)}


RECAP = """
PLAY RECAP *********************************************************************
gpu-1                      : ok=70   changed={changed}    unreachable=0    failed={failed}    skipped=60   rescued=0    ignored=0
seed-1                     : ok=50   changed=0    unreachable=0    failed=0    skipped=60   rescued=0    ignored=0
"""


@pytest.mark.parametrize(
    ("status", "counts", "wanted", "said"),
    [
        (0, (0, 0), {"gpu-1", "seed-1"}, ""),
        (2, (0, 0), {"gpu-1", "seed-1"}, "it ended with 2"),
        (0, (3, 0), {"gpu-1", "seed-1"}, "something was done on gpu-1: changed=3"),
        (0, (1, 1), {"gpu-1"}, "something was done on gpu-1: changed=1, failed=1"),
        (0, (0, 0), {"gpu-1", "gpu-2"}, "gpu-2 is not in its recap"),
        (0, (0, 0), {"gpu-2", "gpu-3", "gpu-4", "gpu-5"}, "gpu-2, gpu-3, gpu-4 are not in its recap"),
    ],
)
def test_what_does_not_count(status, counts, wanted, said):
    changed, failed = counts
    assert control_report.problem(status, RECAP.format(changed=changed, failed=failed), wanted) == said


def test_one_more_host_is_the_slope_of_a_line():
    assert control_report.slope([(1, 12.0), (11, 42.0)]) == pytest.approx((3.0, 9.0))
    assert control_report.slope([(0, 1.0), (1, 2.0), (2, 2.0)]) == pytest.approx((0.5, 7 / 6))
    with pytest.raises(ValueError, match="two different"):
        control_report.slope([(1, 12.0), (1, 13.0)])


def test_statistics_of_a_cell():
    runs = [run(10, cpu, repeat=number) for number, cpu in enumerate((30.0, 50.0, 34.0), 1)]
    others = [run(10, 999.0, repeat=0), run(10, 999.0, repeat=4, problem="something was done on gpu-1: changed=1")]
    ((cell, one),) = control_report.summarize([*runs, *others]).items()
    assert cell == Cell("site", 10, 25)
    assert one["runs"] == 3
    assert one["cpu_s"] == (34.0, 30.0, 50.0)


def test_the_report_has_both_plays_and_says_whether_the_aim_is_met():
    text = control_report.markdown(
        results(
            *(run(hosts, 10 + 2 * hosts) for hosts in (1, 10, 100)),
            *(run(hosts, 8 + 8 * hosts, play="plain", modules=40) for hosts in (1, 10, 100)),
            run(10, 60.0, forks=5),
            run(1, 5.0, repeat=2, problem="it ended with 2"),
        )
    )
    assert "| processor | a processor |" in text
    assert "| site, 1 host | 6.0 | 12.0 | 12.00 | 14 | 100 | 30 | 16.0 | 1 |" in text
    assert "| plain, 100 hosts | 404.0 | 808.0 | 8.08 | 40 | 100 | 30 | 812.0 | 1 |" in text
    assert "- `site`: 2.00 CPU s of the controller, 1.00 s of the clock." in text
    assert "`plain` takes 4.0 times the CPU of `site`" in text
    assert "at most 3 CPU s a host. Met." in text
    assert "100 hosts in at most 300 s on two cores. Met: 105 s." in text
    assert "| site, 10 hosts, 5 forks |" in text and "| site, 10 hosts, 25 forks |" in text
    assert "- site, 1 hosts, 25 forks: it ended with 2" in text
    missed = control_report.markdown(results(run(1, 10.0), run(100, 700.0)))
    assert "a host. Missed." in missed and "Missed: 350 s." in missed
    assert "One more host" in control_report.markdown(results()), "nothing was measured yet"


def test_which_runs_there_are():
    quick = control.arguments(["--quick"])
    wanted = control.cells(quick.hosts, quick.play, quick.forks, False)
    assert wanted == [Cell(play, hosts, 25) for play in ("site", "plain") for hosts in (1, 10)]
    runs = control.order(wanted, 1, set())
    assert runs[:2] == [(Cell("site", 10, 25), 0), (Cell("plain", 10, 25), 0)] and len(runs) == 6
    assert control.order(wanted, 1, {(cell, 1) for cell in wanted}) == []
    full = control.arguments([])
    ways = set(control.cells(full.hosts, full.play, full.forks, True)) - set(control.cells(full.hosts, full.play, full.forks, False))
    assert ways == {*(Cell("site", 30, forks) for forks in (5, 50, 100)), Cell("site", 30, 25, False), Cell("plain", 30, 25, False)}
    with pytest.raises(SystemExit):
        control.arguments(["--hosts", "101"])


def test_what_a_command_leaves_behind_is_measured_with_it(tmp_path):
    """A process that works for a while in a session of its own, as the master of an SSH connection does, and one that would never end."""
    work = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
    left = f"(setsid {sys.executable} -c '{work}'; touch {tmp_path}/worked) & until [ -e {tmp_path}/worked ]; do sleep 0.1; done"
    script = f"{left}; setsid sleep 98765 & sleep 2.5; echo done"
    found = measured.measure(["sh", "-c", script], tmp_path / "log", 600)
    assert (found["status"], (tmp_path / "log").read_text()) == (0, "done\n")
    assert found["cpu_s"] > 0.3 and found["wall_s"] > 2.4
    assert found["processes"] >= 2 and found["peak_bytes"] > 0
    assert subprocess.run(["pgrep", "-f", "sleep 98765"], capture_output=True, text=True, check=False).stdout == ""


def test_a_process_that_is_gone_has_nothing():
    with subprocess.Popen(["true"]) as gone:
        pass
    assert (measured.descendants(gone.pid), measured.proportional_bytes(gone.pid)) == ([], 0)


def test_a_run_that_takes_too_long_is_ended(tmp_path):
    assert measured.measure(["sleep", "60"], tmp_path / "log", 0.5)["status"] == -9


def payload(module, /, **arguments):
    """As Ansible sends a module; the test of a play has the real one."""
    said = json.dumps({"ANSIBLE_MODULE_ARGS": arguments})
    code = "def _ansiballz_main(**given):\n    import base64\n"
    return (
        f'{code}\n\nif __name__ == "__main__":\n    _ansiballz_main(\nansible_module={module!r},\nparams={said!r},\nzip_data="QUJD",\n)\n'
    )


ANSWERS = {"daemon": {"action": "none", "echo": ["name"]}, "stat": {"directories": ["/opt/x"]}}


@pytest.fixture
def host(tmp_path):
    """A host that answers; a callable that sends it a module."""
    home = tmp_path / "gpu-1"
    home.mkdir()
    (home / "python3").symlink_to(HERE / "answering_python")
    (tmp_path / "answers.json").write_text(json.dumps({"host_s": 0, "answers": ANSWERS}))

    def send(module, /, **arguments):
        done = subprocess.run([home / "python3"], input=payload(module, **arguments), capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    send.home = home
    return send


def test_a_directory_is_there(host):
    assert host("ansible.legacy.stat", path="/opt/x")["stat"]["isdir"]
    assert host("ansible.legacy.stat", path="/opt/y")["stat"] == {"exists": False}


def test_a_host_answers_and_notes_what_it_was_asked(host):
    assert host("modelfleet.serving.daemon", name="x.service") == {"changed": False, "action": "none", "name": "x.service"}
    assert host("ansible.legacy.file", path="/etc/x") == {"changed": False}
    assert (host.home / "asked").read_text().split() == ["daemon", "file"]


def test_a_file_that_was_copied_is_there_the_next_time(host, tmp_path):
    (tmp_path / "content").write_text("content")
    assert host("ansible.legacy.stat", path="/etc/x")["stat"] == {"exists": False}
    given = host("ansible.legacy.copy", src=str(tmp_path / "content"), dest="/etc/x")
    assert given["changed"]
    assert host("ansible.legacy.stat", path="/etc/x")["stat"]["checksum"] == given["checksum"]


def test_every_module_that_site_asks_a_host_for_is_answered():
    """An answer for a module that is there no more would say nothing."""
    modules = {path.stem for path in (REPOSITORY / "collections/ansible_collections/modelfleet/serving/plugins/modules").glob("*.py")}
    assert set(fleet_of_answers.answers()) - modules == {"wait_for", "setup", "stat", "uri", "command", "ping"}


def test_an_inventory_has_as_many_hosts_as_it_should(tmp_path):
    paths = fleet_of_answers.write(tmp_path, [1, 100], prefix="10.1.0", ansible_user="admin")
    said = json.loads(paths[100].read_text())["all"]
    hosts = {name: one["modelfleet_address"] for group in said["children"].values() for name, one in group["hosts"].items()}
    assert len(hosts) == len(set(hosts.values())) == 102
    assert hosts["gpu-100"] == "10.1.0.200" and said["vars"]["ansible_user"] == "admin"


def test_the_container_has_what_the_hosts_need():
    """The directory of each host's Python, and its address, are where the inventory looks for them."""
    tasks = [task for play in yaml.safe_load((HERE / "hosts.yml").read_text()) for task in play["tasks"]]
    copied = {task["ansible.builtin.copy"]["dest"] for task in tasks if "ansible.builtin.copy" in task}
    assert {"/opt/control/answering_python", "/opt/control/answers.json"} <= copied
    assert (HERE / "answering_python").stat().st_mode & 0o111


@only_in_all
@pytest.mark.parametrize("play", control.PLAYS)
def test_a_run_against_hosts_that_answer_changes_nothing_from_the_second_time_on(play, tmp_path):
    """On this machine in place of SSH: what the bench would find out after an hour."""
    for name in ("scheduler-1", "seed-1", "gpu-1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "python3").symlink_to(HERE / "answering_python")
    (tmp_path / "answers.json").write_text(json.dumps({"host_s": 0, "answers": fleet_of_answers.answers()}))
    interpreter = f"{tmp_path}/{{{{ inventory_hostname }}}}/python3"
    local = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": interpreter}
    (inventory,) = fleet_of_answers.write(tmp_path, [1], prefix="10.1.0", **local).values()
    command = [Path(sys.executable).parent / "ansible-playbook", "-i", inventory, control.PLAYS[play]]
    environment = {**control.environment(Cell(play, 1, 25)), "ANSIBLE_HOME": str(tmp_path / "home")}
    outputs = []
    for _turn in range(2):
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
        outputs.append(done.stdout + done.stderr)
    assert control_report.problem(done.returncode, outputs[-1], {"scheduler-1", "seed-1", "gpu-1"}) == "", outputs[-1][-3000:]
    modules = (tmp_path / "gpu-1/asked").read_text().split()
    assert 10 < len(modules) / 2 < (20 if play == "site" else 80), modules
    assert not re.search("WARN|Traceback", outputs[-1]), outputs[-1]
    assert os.path.exists(tmp_path / "report.json") == (play == "site")
