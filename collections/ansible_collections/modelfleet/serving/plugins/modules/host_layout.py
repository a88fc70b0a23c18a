#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_layout
short_description: Have the users and directories of daemons on a host
version_added: 0.1.0
description:
  - Describes groups, users and directories to C(systemd-sysusers) and C(systemd-tmpfiles), and has these make what is missing or has other
    permissions, all in one call.
  - What is gone since, or hidden by a disk that was mounted over it, is made again, also when the description has not changed.
  - With O(state=absent) all of it is removed, and what is in the directories.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
options:
  state:
    description: Whether the host has them.
    type: str
    default: present
    choices:
      present: What is missing is made.
      absent:
        - The directories are removed with all that is in them, then users, groups and descriptions. Nothing may run as these users any
          more.
        - A directory that is a mount point, or a link to one elsewhere, was not made here. It is emptied and stays, and so does whatever is
          mounted deeper in it.
        - A user of that name with another home directory is not removed either.
  keep:
    description:
      - Of O(directories) those that O(state=absent) leaves as they are where there is something in them, with the users and groups that own
        them.
    type: list
    elements: path
    default: []
  groups:
    description: System groups beside those that bear the name of a user.
    type: list
    elements: str
    default: []
  users:
    description: System users, each with a group of the same name.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      comment:
        description: Who that is.
        type: str
        default: ""
      home:
        description: Home directory. It is not made.
        type: path
        default: /
      groups:
        description: More groups that the user is in.
        type: list
        elements: str
        default: []
  directories:
    description: Directories, each after the one above it.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The directory.
        type: path
        required: true
      mode:
        description: Permissions in octal.
        type: str
        default: "0755"
      owner:
        description: User that owns it.
        type: str
        default: root
      group:
        description: Group that owns it.
        type: str
        default: root
  sysusers_file:
    description: Where the description of the users goes.
    type: path
    default: /usr/lib/sysusers.d/modelfleet.conf
  tmpfiles_file:
    description: Where the description of the directories goes.
    type: path
    default: /etc/tmpfiles.d/modelfleet.conf
"""

EXAMPLES = r"""
- name: Prepare the host for an exporter
  modelfleet.serving.host_layout:
    users:
      - {name: exporter, comment: Prometheus exporter, home: /var/lib/exporter}
    directories:
      - {path: /var/lib/exporter, mode: "0750", owner: exporter, group: exporter}
    sysusers_file: /usr/lib/sysusers.d/exporter.conf
    tmpfiles_file: /etc/tmpfiles.d/exporter.conf

- name: Take it away again
  modelfleet.serving.host_layout:
    state: absent
    users:
      - {name: exporter, home: /var/lib/exporter}
    directories:
      - {path: /var/lib/exporter}
    sysusers_file: /usr/lib/sysusers.d/exporter.conf
    tmpfiles_file: /etc/tmpfiles.d/exporter.conf
"""

RETURN = r"""
missing:
  description: What was not there, or had another owner, group or mode, as it was found.
  returned: success
  type: list
  elements: str
  sample: [user dfdaemon, directory /var/lib/modelfleet/pieces]
removed:
  description: What O(state=absent) removed. Of directories those that were described, not what was in them.
  returned: success
  type: list
  elements: str
  sample: [directory /var/lib/modelfleet/pieces, user dfdaemon]
left:
  description: What O(state=absent) left on the host, because it was asked to or because it was not made here.
  returned: success
  type: list
  elements: str
  sample: [directory /var/lib/modelfleet/pieces]
"""

import glob
import grp
import os
import pwd
import re
import stat

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import UNFINISHED, put_file
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule
from ansible_collections.modelfleet.serving.plugins.module_utils._proc import mount_points

HEADER = "# Managed by Ansible (modelfleet.serving): changes made here are lost.\n"
FILE = {"owner": None, "group": None, "mode": "0644"}
NAME = re.compile(r"^[a-z_][a-z0-9_-]{0,30}\Z")
PATH = re.compile(r"^/[A-Za-z0-9._/@:+,=-]*\Z")


def check(params):
    directories = [entry["path"] for entry in params["directories"]]
    for path in params["keep"]:
        if path not in directories:
            raise ModelFleetError(f"Refused to keep {path}: it is not among the directories; name one of them, or leave it out.")
    names = [*params["groups"]]
    for user in params["users"]:
        names += [user["name"], *user["groups"]]
        if not re.match(r"^[^\x00-\x1f\"\\%:]*\Z", user["comment"]):
            raise ModelFleetError(f"Refused the comment of user {user['name']}: it has a character that systemd-sysusers does not take.")
    for entry in params["directories"]:
        names += [entry["owner"], entry["group"]]
        if not re.match(r"^[0-7]{3,4}\Z", entry["mode"]):
            raise ModelFleetError(f"Refused mode '{entry['mode']}' of {entry['path']}: write it in octal and in quotes, as in '0750'.")
    for name in names:
        if not NAME.match(name):
            raise ModelFleetError(f"Refused the name '{name}': a user or group is called with small letters, digits, '_' and '-'.")
    for path in directories + [user["home"] for user in params["users"]]:
        if not PATH.match(path):
            raise ModelFleetError(f"Refused the path '{path}': write an absolute path of letters, digits and ._/@:+,=-.")


def sysusers_text(params):
    lines = [f"g {name} -" for name in params["groups"]]
    for user in params["users"]:
        lines.append('u {name} - "{comment}" {home}'.format(**user))
        lines += [f"m {user['name']} {group}" for group in user["groups"]]
    return HEADER + "".join(f"{line}\n" for line in lines)


def tmpfiles_text(params):
    return HEADER + "".join("d {path} {mode} {owner} {group}\n".format(**entry) for entry in params["directories"])


def has_group(name):
    try:
        return grp.getgrnam(name)
    except KeyError:
        return None


def missing_users(params):
    missing = [f"group {name}" for name in params["groups"] if not has_group(name)]
    for user in params["users"]:
        try:
            pwd.getpwnam(user["name"])
        except KeyError:
            missing.append(f"user {user['name']}")
            continue
        for name in user["groups"]:
            group = has_group(name)
            if group and user["name"] not in group.gr_mem:
                missing.append(f"user {user['name']} in group {name}")
    return missing


def missing_directories(params):
    return [f"directory {entry['path']}" for entry in params["directories"] if not is_as_wanted(entry)]


def is_as_wanted(entry):
    try:
        status = os.stat(entry["path"])
        owner, group = pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except (OSError, KeyError):
        return False
    return (
        stat.S_ISDIR(status.st_mode)
        and stat.S_IMODE(status.st_mode) == int(entry["mode"], 8)
        and (status.st_uid, status.st_gid) == (owner, group)
    )


def make(module, command, look):
    """Run a program of systemd and see whether it did what it should; its exit code alone tells neither."""
    rc, out, err = module.run_command(command)
    missing = look(module.params)
    if rc != 0 or missing:
        reason = " ".join((err or out).split()) or f"it ended with {rc}"
        raise ModelFleetError(
            f"Failed to make {', '.join(missing) or 'what is in ' + command[-1]} with {command[0]}: {reason}. "
            f"Move away what is in its place, or correct its parent directory, and run again."
        )


class Removal:
    """What goes, found before anything does."""

    def __init__(self, params):
        self.params = params
        self.directories = {entry["path"]: entry for entry in params["directories"]}
        self.mounts = mount_points()
        self.paths = []  # what goes, what is in a directory before it
        self.removed = []
        self.left = []
        self.kept = [path for path in params["keep"] if os.path.isdir(path) and os.listdir(path)]
        for path in self.directories:
            if os.path.lexists(path) and not any(path.startswith(f"{other}/") for other in self.directories):
                self.take(path)
        self.users = [user["name"] for user in params["users"] if self.goes(user)]
        names = [*params["groups"], *(user["name"] for user in params["users"])]
        staying = [self.directories[path]["group"] for path in self.kept] + [name for name in names if f"user {name}" in self.left]
        self.groups = [name for name in names if name not in staying and has_group(name)]
        self.left += [f"group {name}" for name in names if name in staying and has_group(name)]
        files = [params["sysusers_file"], params["tmpfiles_file"]]
        unfinished = {path for file in files for path in glob.glob(os.path.join(os.path.dirname(file), f"{UNFINISHED}*"))}
        self.files = [path for path in files + sorted(unfinished) if os.path.lexists(path)]

    def take(self, path):
        """Note what goes of ``path``, whether it stays itself is returned."""
        described = path in self.directories
        if path in self.kept:
            self.left.append(f"directory {path}")
            return True
        if not os.path.isdir(path) or (os.path.islink(path) and not described):
            self.paths.append(path)
            return False
        mounted = path in self.mounts
        if mounted and not described:
            self.left.append(f"mount {path}")
            return True
        # What an ext4 filesystem has for itself.
        inside = [os.path.join(path, name) for name in sorted(os.listdir(path)) if not (mounted and name == "lost+found")]
        stays = [entry for entry in inside if self.take(entry)]
        if mounted or os.path.islink(path):
            self.left.append(f"directory {path}")
        elif not stays:
            self.paths.append(path)
            if described:
                self.removed.append(f"directory {path}")
            return False
        return True

    def goes(self, user):
        try:
            home = pwd.getpwnam(user["name"]).pw_dir
        except KeyError:
            return False
        # His group may go with him, so it must not be needed either.
        owners = [self.directories[path][which] for path in self.kept for which in ("owner", "group")]
        if home == user["home"] and user["name"] not in owners:
            return True
        self.left.append(f"user {user['name']}")
        return False

    def run(self, module):
        self.unlink(self.paths)
        for name in self.users:
            self.forget(module, ["userdel", name], f"user {name}")
        # Where nobody else is in it, the group of a user goes with him.
        for name in filter(has_group, self.groups):
            self.forget(module, ["groupdel", name], f"group {name}")
        # Last, so that by them it can be seen that something is left.
        self.unlink(self.files)

    @staticmethod
    def unlink(paths):
        for path in paths:
            try:
                os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
            except FileNotFoundError:
                continue
            except OSError as exc:
                raise ModelFleetError(f"Failed to remove {path}: {exc.strerror}. Remove it by hand and run again.") from exc

    @staticmethod
    def forget(module, command, what):
        rc, out, err = module.run_command(command)
        if rc != 0:
            reason = " ".join((err or out).split()).rstrip(".") or f"{command[0]} ended with {rc}"
            raise ModelFleetError(f"Failed to remove {what}: {reason}. End what runs as it, or remove it by hand, and run again.")


def remove(module):
    removal = Removal(module.params)
    removed = [
        *removal.removed,
        *(f"user {name}" for name in removal.users),
        *(f"group {name}" for name in removal.groups),
        *(f"file {path}" for path in removal.files),
    ]
    if not module.check_mode:
        removal.run(module)
    result = {"changed": bool(removed or removal.paths), "missing": [], "removed": removed, "left": removal.left}
    if module._diff:
        found = {"before_header": "there", "after_header": "left", "before": "".join(f"{what}\n" for what in removed), "after": ""}
        result["diff"] = [found] if removed else []
    return result


def run(module):
    check(module.params)
    return remove(module) if module.params["state"] == "absent" else provide(module)


def provide(module):
    params = module.params
    users, directories = missing_users(params), missing_directories(params)
    new_users, users_diff = put_file(module, params["sysusers_file"], sysusers_text(params), params=FILE)
    new_directories, directories_diff = put_file(module, params["tmpfiles_file"], tmpfiles_text(params), params=FILE)
    if not module.check_mode:
        if users or new_users:
            make(module, ["systemd-sysusers", params["sysusers_file"]], missing_users)
        if directories or new_directories:
            make(module, ["systemd-tmpfiles", "--create", params["tmpfiles_file"]], missing_directories)
    missing = users + directories
    result = {"changed": bool(missing or new_users or new_directories), "missing": missing, "removed": [], "left": []}
    if module._diff:
        found = {"before_header": "missing", "after_header": "made", "before": "", "after": "".join(f"{what}\n" for what in missing)}
        result["diff"] = [
            *([users_diff] if new_users else []),
            *([directories_diff] if new_directories else []),
            *([found] if missing else []),
        ]
    return result


def main():
    module = CheckedModule(
        argument_spec={
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "keep": {"type": "list", "elements": "path", "default": []},
            "groups": {"type": "list", "elements": "str", "default": []},
            "users": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "comment": {"type": "str", "default": ""},
                    "home": {"type": "path", "default": "/"},
                    "groups": {"type": "list", "elements": "str", "default": []},
                },
            },
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "mode": {"type": "str", "default": "0755"},
                    "owner": {"type": "str", "default": "root"},
                    "group": {"type": "str", "default": "root"},
                },
            },
            "sysusers_file": {"type": "path", "default": "/usr/lib/sysusers.d/modelfleet.conf"},
            "tmpfiles_file": {"type": "path", "default": "/etc/tmpfiles.d/modelfleet.conf"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
