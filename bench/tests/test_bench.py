# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bench.py with hosts that are processes of this machine."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tarfile
import zipfile

import pytest
import shaped
import yaml
from cells import MIB, REPOSITORY, Cell
from methods import METHODS

import bench


class LocalFleet:
    """Every host is a directory."""

    def __init__(self, root, *options):
        self.root = root
        self.python = [sys.executable, *options]

    def command(self, host, argv):
        directory = self.root / host
        directory.mkdir(exist_ok=True)
        shutil.copy(bench.HERE / "host.py", directory)
        return [*self.python, *(word.replace("/opt/bench", str(directory)) for word in argv[1:])]


def test_all_hosts_begin_at_one_barrier(tmp_path):
    """None begins before the last is ready, however long that takes."""
    script = "import time; print(time.monotonic())"
    specs = {f"gpu-{number}": {"command": [sys.executable, "-c", script], "limit": 60} for number in (1, 2, 3)}
    ready = "import time; open('{}', 'w').write(repr(time.monotonic()))".format(tmp_path / "ready")
    specs["gpu-3"]["before"] = f'sleep 0.5; {sys.executable} -c "{ready}"'
    specs["seed-1"] = {"units": []}
    said, busy = bench.converse(LocalFleet(tmp_path), specs)
    assert set(said) == set(specs)
    assert all(answer["status"] == 0 for answer in said.values())
    assert min(float(said[host]["log"]) for host in list(specs)[:3]) > float((tmp_path / "ready").read_text())
    assert 0 <= busy <= 1


def test_a_host_that_cannot_begin_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"Failed to measure on gpu-1: host\.py ended, .*nonexistent\.service does not run"):
        bench.converse(LocalFleet(tmp_path), {"gpu-1": {"units": ["nonexistent.service"]}})


def test_no_two_archives_are_alike(tmp_path):
    digests = {bench.make(tmp_path / f"{seed}.mar", 1, seed) for seed in (1, 2)}
    assert len(digests) == 2
    with zipfile.ZipFile(tmp_path / "1.mar") as archive:
        assert archive.testzip() is None
        assert json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]["modelName"] == "bench"
    assert MIB < (tmp_path / "1.mar").stat().st_size < 1.01 * MIB


def test_a_host_is_sent_what_a_module_needs(tmp_path):
    """With the standard library alone, as on a host: the module runs, and refuses what is wrong in its own words."""
    with tarfile.open(fileobj=io.BytesIO(shaped.library())) as tar:
        assert not [name for name in tar.getnames() if "__pycache__" in name]
        tar.extractall(tmp_path / "gpu-1", filter="data")
    storage = {"s3": {"bucket": "b", "access_key": "a", "secret_key": "k"}}
    spec = METHODS["ours"].work(bench.Job("", "bench.mar", "not a digest", storage, ""))
    said, _busy = bench.converse(LocalFleet(tmp_path, "-I", "-S"), {"gpu-1": {**spec, "limit": 60}})
    assert said["gpu-1"]["status"] == 1
    assert "is not 64 hexadecimal digits" in said["gpu-1"]["log"]


def test_the_inventory_has_the_hosts_that_are_measured():
    lab, own = (yaml.safe_load((REPOSITORY / name / "hosts.yml").read_text()) for name in shaped.INVENTORIES)
    hosts = [inventory["all"]["children"]["lab_nodes"]["children"]["gpu_hosts"]["hosts"] for inventory in (lab, own)]
    assert [*hosts[0], *hosts[1]] == shaped.gpu_hosts(8)


def test_results_survive_what_ends_the_program(tmp_path):
    path = tmp_path / "bench.json"
    bench.save({"machine": {}, "runs": [1]}, path)
    bench.save({"machine": {}, "runs": [1, 2]}, path)
    assert json.loads(path.read_text())["runs"] == [1, 2]
    assert list(tmp_path.iterdir()) == [path]


def test_pictures(tmp_path):
    pytest.importorskip("matplotlib")
    from plots import draw
    from summary import BARS
    from test_summary import results, run

    drawn = draw(results(run([14.0, 16.0]), run([14.0, 17.0], 2)), tmp_path / "bench")
    assert [path.name for path in drawn] == ["bench-times.svg"]
    first = drawn[0].read_bytes()
    assert b"<svg" in first
    draw(results(run([14.0, 16.0]), run([14.0, 17.0], 2)), tmp_path / "bench")
    assert drawn[0].read_bytes() == first, "the same results give the same picture"
    hits = [run([14.0], cell=Cell(name, 1, 64, "slow")) for name in BARS["to the disk"]]
    assert [path.name for path in draw(results(*hits), tmp_path / "hits")] == ["hits-times.svg", "hits-hits.svg"]
