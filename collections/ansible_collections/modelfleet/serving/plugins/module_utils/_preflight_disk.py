# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disks that models need. PRIVATE to the collection: it can have breaking changes at any time.

A check takes what ``preflight_info`` knows: ``params``, ``run_command``, ``facts`` (dict, what it saw), ``error`` and ``warning``
(both with the check and the message).
"""

from __future__ import annotations

import os
from itertools import chain

from ansible_collections.modelfleet.serving.plugins.module_utils import _proc
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

NO_HARD_LINKS = ("vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk")
# Below the data directory; somebody else's files beside them take room from models.
OURS = ("pieces", "incoming", "blobs", "manifests", "models", "huggingface", "state")
NETWORK_FILESYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "fuse.sshfs", "fuse.s3fs", "fuse.juicefs")


def existing_parent(path):
    """The nearest directory above ``path``, or itself, that exists."""
    path = os.path.abspath(path)
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return path


def held_bytes(directories):
    """Bytes on disk of the files under all ``directories``; a file with several names counts once."""
    sizes = {}
    for parent, _directories, names in chain.from_iterable(map(os.walk, directories)):
        for name in names:
            try:
                status = os.lstat(os.path.join(parent, name))
            except OSError:  # gone since
                continue
            sizes[(status.st_dev, status.st_ino)] = status.st_blocks * 512
    return sum(sizes.values())


def disk(host):
    data_dir, unpack_dir = host.params["data_dir"], host.params["unpack_dir"]
    # Its parent, because TorchServe's unit removes the directory itself at every start.
    beside = os.path.dirname(unpack_dir)
    needs = {}
    for directory, names, required, remedy in (
        (data_dir, OURS, host.params["required_bytes"], f"mount a larger disk at {data_dir}, or lower dfdaemon_disk_budget"),
        (unpack_dir, ("",), host.params["unpack_bytes"], f"mount a larger disk at {beside}, where TorchServe unpacks models"),
    ):
        path, held = existing_parent(directory), held_bytes(os.path.join(directory, name) for name in names)
        status = os.statvfs(path)
        free, mount = status.f_bavail * status.f_frsize, _proc.mount_of(path)
        if directory == data_dir:
            place = {"path": path, "mount": mount["point"], "filesystem": mount["type"]}
            host.facts["disk"] = {**place, "free_bytes": free, "held_bytes": held}
        if required > held:
            # By device, because what two directories need of one filesystem adds up.
            needs.setdefault(os.stat(path).st_dev, []).append((directory, required - held, free, mount["point"], remedy))
    for wanted in needs.values():
        missing, free, point = sum(need[1] for need in wanted), wanted[0][2], wanted[0][3]
        if missing > free:
            directories, verb = " and ".join(need[0] for need in wanted), "needs" if len(wanted) == 1 else "need"
            host.error(
                "disk",
                f"{directories} {verb} {human_bytes(missing)} more and the filesystem {point} has {human_bytes(free)} free; "
                f"free some space, or {', or '.join(need[4] for need in wanted)}.",
            )


def filesystem(host):
    places = {}
    for path in host.params["one_filesystem"]:
        parent = existing_parent(path)
        mount = _proc.mount_of(parent)
        # Both: a bind mount keeps the device number and a btrfs subvolume keeps the mount, and neither lets a hard link pass.
        places.setdefault((mount["point"], os.stat(parent).st_dev), (mount, []))[1].append(path)
    if len(places) > 1:
        where = "; ".join(f"{', '.join(paths)} on {mount['point']}" for mount, paths in places.values())
        host.error(
            "filesystem",
            f"The piece store and the model store lie on different filesystems ({where}), so a model cannot be hard-linked; "
            f"mount one disk at {host.params['data_dir']} and none below it.",
        )
    for mount, paths in places.values():
        where = f"{', '.join(paths)} on {mount['point']} ({mount['type']})"
        if mount["read_only"]:
            host.error("filesystem", f"The filesystem of {where} is mounted read-only; mount it writable.")
        if mount["type"] in NO_HARD_LINKS:
            host.error("filesystem", f"The filesystem of {where} has no hard links; use ext4 or xfs.")
        if mount["type"] in NETWORK_FILESYSTEMS:
            host.warning(
                "filesystem", f"The filesystem of {where} is a network filesystem; use a local disk, which is what peers share from."
            )


CHECKS = (disk, filesystem)
