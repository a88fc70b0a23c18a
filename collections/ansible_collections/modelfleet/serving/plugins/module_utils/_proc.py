# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel tells about listeners, mounts, memory and clock. PRIVATE to the collection: it can have breaking changes at any time.

Reads /proc itself, so that it works on a host without ss, lsof or ntp tools.
"""

from __future__ import annotations

import ctypes
import ipaddress
import os
import re
import sys

LISTEN = "0A"
ESTABLISHED = "01"
# systemd's own test for "the clock is synchronised" (NTPSynchronized of timedatectl): the kernel's error estimate is below 16 s.
MAX_CLOCK_ERROR_US = 16000000


def read_lines(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read().splitlines()
    except OSError:
        return []


def listeners(proc="/proc"):
    """Return the listening TCP sockets: ``[{"address": IPv4Address|IPv6Address, "port": int, "inode": str}]``."""
    return _sockets(proc, LISTEN, 1)


def connections(proc="/proc"):
    """Return the other ends of the TCP connections of this host, as ``listeners`` does."""
    return _sockets(proc, ESTABLISHED, 2)


def _sockets(proc, state, column):
    """``column``: that of the own end, or of the other."""
    found = []
    for table in ("tcp", "tcp6"):
        for line in read_lines(os.path.join(proc, "net", table))[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == state:
                address, port = fields[column].split(":")
                found.append({"address": _address(address), "port": int(port, 16), "inode": fields[9]})
    return found


def _address(text):
    """The kernel prints an address as 32-bit words in the byte order of the machine."""
    words = [bytes.fromhex(text[i : i + 8]) for i in range(0, len(text), 8)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    address = ipaddress.ip_address(b"".join(words))
    return getattr(address, "ipv4_mapped", None) or address


def addresses(proc="/proc"):
    """Return the IP addresses of this host, as IPv4Address and IPv6Address; an empty list where the kernel does not tell."""
    found = {}
    candidate = ""
    for line in read_lines(os.path.join(proc, "net", "fib_trie")):
        if "|--" in line:
            candidate = line.split()[-1]
        elif "/32 host LOCAL" in line:
            found[ipaddress.ip_address(candidate)] = None
    for line in read_lines(os.path.join(proc, "net", "if_inet6")):
        found[ipaddress.ip_address(bytes.fromhex(line.split()[0]))] = None
    return list(found)


def overlaps(one, other):
    """Whether two sockets on one port collide. A wildcard takes every address; ``::`` usually takes the IPv4 ones as well."""
    return one == other or one.is_unspecified or other.is_unspecified


def socket_owners(inodes, proc="/proc"):
    """Return ``{inode: {"pid": int, "program": str, "unit": str}}`` for the sockets whose process can be seen (root sees all)."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    owners = {}
    for pid in (name for name in os.listdir(proc) if name.isdigit()):
        if len(owners) == len(wanted):
            break
        for inode in (wanted[link] for link in _open_files(os.path.join(proc, pid, "fd")) if link in wanted):
            owners.setdefault(
                inode, {"pid": int(pid), "program": "".join(read_lines(os.path.join(proc, pid, "comm"))), "unit": unit_of(pid, proc)}
            )
    return owners


def _open_files(directory):
    """What the descriptors of a process point to. Each may be closed meanwhile, and those of other users are hidden."""
    try:
        names = os.listdir(directory)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(os.path.join(directory, name))
        except OSError:
            continue


def holders(inodes, names, beside=(), proc="/proc"):
    """Who uses which files: ``({(device, inode): who}, {name: who})``, where ``who`` is "program (pid)".

    ``inodes`` are (st_dev, st_ino), ``names`` (str) those of files and directories that no other has. A process uses a file that it has
    open or mapped, and a name that is part of the path of one, of its working directory, its command line, its environment or a mount
    that it has. A file that is used by way of one of the names counts for that name alone, for it may have others. What is used below the
    directories ``beside`` does not count. Raises OSError where a process hides that.
    """
    # The longest first: one name may be the beginning of another.
    words = b"|".join(re.escape(os.fsencode(name)) for name in sorted(names, key=len, reverse=True)) or b"(?!)"
    pattern = re.compile(rb"(?<![\w.-])(?:" + words + rb")(?![\w.-])")
    beside = tuple(os.fsencode(os.path.realpath(directory)) + b"/" for directory in beside)
    numbers = {}
    for key in inodes:
        numbers.setdefault(key[1], []).append(key)
    found, named = {}, {}
    for pid in (name for name in os.listdir(proc) if name.isdigit() and int(name) != os.getpid()):
        directory = os.path.join(proc, pid)
        try:
            who = "{} ({})".format("".join(read_lines(os.path.join(directory, "comm"))), pid)
            said, used = _said_by(directory, pattern), _used_by(directory, numbers, pattern)
        except (FileNotFoundError, ProcessLookupError):
            # It has ended.
            continue
        for path, device, inode in used:
            by_name = pattern.findall(path)
            if path.startswith(beside):
                continue
            said += by_name
            if not by_name:
                found.update((key, who) for key in numbers.get(inode, ()) if device in (None, key[0]))
        named.update((os.fsdecode(name), who) for name in said)
    return found, named


def _said_by(directory, pattern):
    """The names in the command line and the environment of a process, and in what is mounted for it."""
    said = []
    for name in ("cmdline", "environ", "mountinfo"):
        with open(os.path.join(directory, name), "rb") as handle:
            said += pattern.findall(handle.read())
    return said


def _used_by(directory, numbers, pattern):
    """What a process has open or mapped, as [(path, device or None where it is not known, inode)]."""
    used = []
    descriptors = os.path.join(directory, "fd")
    for link in [os.path.join(directory, "cwd"), *(os.path.join(descriptors, fd) for fd in os.listdir(descriptors))]:
        try:
            path = os.fsencode(os.readlink(link))
            if path.startswith(b"/"):
                status = os.stat(link)
                used.append((path, status.st_dev, status.st_ino))
        except (FileNotFoundError, ProcessLookupError):
            continue
    with open(os.path.join(directory, "maps"), "rb") as handle:
        lines = [line.rstrip(b"\n").split(None, 5) for line in handle]
    for inode, path in {(int(line[4]), line[5]) for line in lines if len(line) > 5}:
        if inode in numbers or pattern.search(path):
            try:
                # On btrfs and overlayfs the kernel names another device here than stat does.
                status = os.stat(os.fsencode(directory) + b"/root" + path)
                used.append((path, status.st_dev, status.st_ino))
            except FileNotFoundError:
                # Its name is gone.
                used.append((path, None, inode))
    return used


def unit_of(pid, proc="/proc"):
    """Return the systemd service of a process, from its cgroup; an empty string when it belongs to none."""
    for line in read_lines(os.path.join(proc, str(pid), "cgroup")):
        services = [part for part in line.split(":", 2)[-1].split("/") if part.endswith(".service")]
        if services:
            return services[-1]
    return ""


def _mounts(proc):
    """Yield the point, the fields and the source of each mount, the later after the earlier."""
    for line in read_lines(os.path.join(proc, "self", "mountinfo")):
        left, _dash, right = line.partition(" - ")
        fields, source = left.split(), right.split()
        if len(fields) >= 6 and source:
            yield re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), fields[4]), fields, source


def mount_points(proc="/proc"):
    """Return the directories on which something is mounted, also those of bind mounts, which no device number tells."""
    return {point for point, _fields, _source in _mounts(proc)}


def mount_of(path, proc="/proc"):
    """Return the mount that ``path`` lies on: ``{"point": str, "type": str, "read_only": bool}``."""
    path = os.path.realpath(path)
    best = {"point": "/", "type": "unknown", "read_only": False}
    for point, fields, source in _mounts(proc):
        # ">=": a later mount on the same point hides the earlier one.
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= len(best["point"]):
            options = fields[5].split(",") + (source[2].split(",") if len(source) > 2 else [])
            best = {"point": point, "type": source[0], "read_only": "ro" in options}
    return best


def memory_bytes(proc="/proc"):
    for line in read_lines(os.path.join(proc, "meminfo")):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


class _Timex(ctypes.Structure):
    _fields_ = [
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("rest", ctypes.c_char * 512),
    ]


def clock_synchronized():
    """Whether a time service keeps the kernel's clock; None where the kernel does not say."""
    timex = _Timex()  # modes 0: read only
    try:
        if ctypes.CDLL(None).adjtimex(ctypes.byref(timex)) < 0:
            return None
    except (OSError, AttributeError):
        return None
    return timex.maxerror < MAX_CLOCK_ERROR_US
