# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import ipaddress
import os
import socket
import sys

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _proc

pytestmark = pytest.mark.skipif(sys.byteorder != "little", reason="the fixtures are from a little-endian machine")

TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0
   1: 0B00D50A:1F42 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0
   2: 0B00D50A:1F42 0C00D50A:9C40 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000000000000:0FA0 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 444 1
   1: 0000000000000000FFFF00000100007F:0FA1 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 555 1
"""
MOUNTINFO = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 8:2 / /var/lib/model\\040fleet rw,relatime shared:2 - xfs /dev/sdb1 rw
31 30 8:3 / /var/lib/model\\040fleet/models ro,relatime shared:3 - vfat /dev/sdc1 rw
"""

FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.213.0.0/24 2 0 2
        |-- 10.213.0.0
           /24 link UNICAST
        |-- 10.213.0.11
           /32 host LOCAL
        |-- 10.213.0.255
           /32 link BROADCAST
     |-- 127.0.0.0
        /8 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
"""
IF_INET6 = "fd000000000000000000000000000011 02 40 00 80     eth0\n"


@pytest.fixture
def proc(tmp_path):
    for path, text in {
        "net/tcp": TCP,
        "net/tcp6": TCP6,
        "net/fib_trie": FIB_TRIE,
        "net/if_inet6": IF_INET6,
        "self/mountinfo": MOUNTINFO,
        "meminfo": "MemTotal:       24684084 kB\nMemFree: 1 kB\n",
        "812/comm": "java\n",
        "812/cgroup": "0::/system.slice/torchserve.service\n",
        "813/comm": "nginx\n",
        "813/cgroup": "0::/user.slice/user-0.slice/session-1.scope\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    for pid, inode in ((812, 111), (813, 444)):
        (tmp_path / str(pid) / "fd").mkdir()
        os.symlink(f"socket:[{inode}]", tmp_path / str(pid) / "fd/7")
    return str(tmp_path)


def test_addresses(proc, tmp_path):
    assert [str(one) for one in _proc.addresses(proc)] == ["10.213.0.11", "127.0.0.1", "fd00::11"]
    assert _proc.addresses(str(tmp_path / "nothing")) == []


def test_listeners(proc):
    seen = [(str(one["address"]), one["port"], one["inode"]) for one in _proc.listeners(proc)]
    assert seen == [("127.0.0.1", 8080, "111"), ("10.213.0.11", 8002, "222"), ("::", 4000, "444"), ("127.0.0.1", 4001, "555")]


def test_connections(proc):
    """The other end, and neither listeners nor what is closing."""
    assert [(str(one["address"]), one["port"]) for one in _proc.connections(proc)] == [("10.213.0.12", 40000)]


def test_finds_a_real_listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (mine,) = (one for one in _proc.listeners() if one["port"] == port)
        assert _proc.socket_owners([mine["inode"]])[mine["inode"]]["pid"] == os.getpid()


@pytest.mark.parametrize(
    ("one", "other", "collide"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "10.0.0.1", False),
        ("0.0.0.0", "10.0.0.1", True),
        ("10.0.0.1", "::", True),
    ],
)
def test_overlaps(one, other, collide):
    assert _proc.overlaps(ipaddress.ip_address(one), ipaddress.ip_address(other)) is collide


def test_socket_owners(proc):
    assert _proc.socket_owners(["111", "444", "999"], proc) == {
        "111": {"pid": 812, "program": "java", "unit": "torchserve.service"},
        "444": {"pid": 813, "program": "nginx", "unit": ""},
    }


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/nonexistent/usr", {"point": "/", "type": "ext4", "read_only": False}),
        ("/var/lib/model fleet/pieces", {"point": "/var/lib/model fleet", "type": "xfs", "read_only": False}),
        ("/var/lib/model fleet/models", {"point": "/var/lib/model fleet/models", "type": "vfat", "read_only": True}),
        ("/var/lib/model fleets", {"point": "/", "type": "ext4", "read_only": False}),
    ],
)
def test_mount_of(proc, path, mount):
    assert _proc.mount_of(path, proc) == mount


def test_mount_points(proc):
    assert _proc.mount_points(proc) == {"/", "/var/lib/model fleet", "/var/lib/model fleet/models"}


def test_memory(proc, tmp_path):
    assert _proc.memory_bytes(proc) == 24684084 * 1024
    assert _proc.memory_bytes(str(tmp_path / "nothing")) is None


def test_clock_is_read_and_not_set():
    assert _proc.clock_synchronized() in (True, False, None)


@pytest.fixture
def used(tmp_path):
    """A callable that makes a process in a directory as the kernel shows it, and a file that it may use."""
    weights = tmp_path / "store" / "llama-1-0123456789ab" / "weights.bin"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"x")
    top = tmp_path / "processes"

    def make(pid, cmdline="", environ="", mountinfo="", maps="", open_files=(), cwd="/"):
        process = top / str(pid)
        (process / "fd").mkdir(parents=True)
        for name, text in {"cmdline": cmdline, "environ": environ, "mountinfo": mountinfo, "maps": maps, "comm": "server\n"}.items():
            (process / name).write_text(text)
        (process / "cwd").symlink_to(cwd)
        (process / "root").symlink_to("/")
        for number, path in enumerate(open_files):
            (process / "fd" / str(number)).symlink_to(path)
        return str(top)

    make.weights = weights
    return make


def look(proc, weights, beside=()):
    status = weights.stat()
    return _proc.holders({(status.st_dev, status.st_ino)}, {weights.parent.name, "llama-1-0123456789ab.mar"}, beside, proc)


@pytest.mark.parametrize(
    "says",
    [
        {"cmdline": "serve\0--model=/models/llama-1-0123456789ab\0"},
        {"environ": "HOME=/\0PYTHONPATH=/a:/models/llama-1-0123456789ab/code\0"},
        {"mountinfo": "9 8 0:1 /models/llama-1-0123456789ab /model ro - ext4 /dev/sda1 ro\n"},
        {"maps": "7f00-7f01 r--s 00000000 00:30 999999999 /container/llama-1-0123456789ab/weights.bin\n"},
    ],
)
def test_a_process_that_names_a_file_uses_it(used, says):
    assert look(used(7, **says), used.weights) == ({}, {"llama-1-0123456789ab": "server (7)"})


@pytest.mark.parametrize("name", ["llama-1-0123456789abc", "other-llama-1-0123456789ab", "llama-1-0123456789ab.tar"])
def test_a_longer_name_is_another(used, name):
    assert look(used(7, cmdline=f"serve\0/models/{name}\0"), used.weights) == ({}, {})


def test_a_file_that_is_used_by_another_name_is_known_by_its_number(used, tmp_path):
    status, alias = used.weights.stat(), tmp_path / "alias"
    os.link(used.weights, alias)
    expected = {(status.st_dev, status.st_ino): "server (7)"}
    mapped = f"7f00-7f01 r--s 00000000 00:30 {status.st_ino} "
    assert look(used(7, open_files=[alias]), used.weights) == (expected, {})
    assert look(used(8, maps=f"{mapped}{alias}\n"), used.weights)[0].keys() == expected.keys()
    alias.unlink()
    (tmp_path / "processes").rename(tmp_path / "before")
    assert look(used(7, maps=f"{mapped}{alias} (deleted)\n"), used.weights) == (expected, {})


def test_another_file_with_the_same_number_is_not_it(used, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"y")
    maps = f"7f00-7f01 r--s 00000000 00:99 {used.weights.stat().st_ino} {other}\n"
    assert look(used(7, maps=maps), used.weights) == ({}, {})


def test_what_is_used_beside_does_not_count(used, tmp_path):
    pieces = tmp_path / "pieces"
    pieces.mkdir()
    os.link(used.weights, pieces / "0123")
    proc = used(7, open_files=[pieces / "0123"])
    assert look(proc, used.weights, [str(pieces)]) == ({}, {})
    assert look(proc, used.weights)[0]


def test_a_process_that_hides_is_an_error_and_one_that_ends_is_not(used, monkeypatch):
    proc = used(7)
    os.unlink(f"{proc}/7/environ")
    assert look(proc, used.weights) == ({}, {})

    def hidden(path):
        raise PermissionError(13, "Permission denied", path)

    proc = used(8)
    monkeypatch.setattr(_proc, "_said_by", lambda directory, pattern: hidden(directory))
    with pytest.raises(PermissionError):
        look(proc, used.weights)
