# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What this host's dfdaemon has. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import os
import re

from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import remove, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import without_colours

_TASK = re.compile(r"\b[0-9a-f]{64}\b")


class Tasks:
    """The tasks of dfdaemon. ``module`` has the options dfctl, container and socket."""

    def __init__(self, module):
        self.module = module
        container = module.params["container"]
        # In its container dfctl has the version of dfdaemon, too, and is who may reach the socket.
        self.command = ["podman", "exec", container, "dfctl"] if container else [module.params["dfctl"]]
        self.socket = module.params["socket"]

    def known(self):
        """The tasks that dfdaemon knows, by their id. Raises ModelFleetError where it does not answer."""
        rc, output = self._run("ls")
        if rc != 0:
            raise ModelFleetError(
                f"Failed to ask dfdaemon at {self.socket} what it has: {output or f'dfctl ended with {rc}'}. Nothing was removed, for what "
                "it keeps would not be freed. Start it (systemctl start dfdaemon, journalctl -u dfdaemon) and run again."
            )
        return set(_TASK.findall(output))

    def forget(self, path, known):
        """Have dfdaemon drop a task with its file ``path``. A file of which it does not know is only removed.

        Without dfdaemon, its database would go on saying that it has the task, and every download of it would fail.
        """
        task = os.path.basename(path)
        if task in known:
            # It also fails where only the scheduler does not answer, after the file is gone.
            rc, output = self._run("rm", task)
            if os.path.lexists(path):
                raise ModelFleetError(
                    f"Failed to have dfdaemon remove its task {task}: {output or f'dfctl ended with {rc}'}. The model is still whole. See "
                    "journalctl -u dfdaemon and run again."
                )
        else:
            with writing(f"the removal of {path}", os.path.dirname(path)):
                remove(path)

    def kept(self, paths):
        """The tasks of which dfdaemon still says that it has them, after it has dropped their files."""
        rc, output = self._run("ls") if paths else (0, "")
        return {os.path.basename(path) for path in paths} & set(_TASK.findall(output)) if rc == 0 else set()

    def _run(self, *command):
        try:
            rc, out, err = self.module.run_command(
                [*self.command, "task", command[0], f"--endpoint={self.socket}", *command[1:]], handle_exceptions=False
            )
        except OSError as exc:
            raise ModelFleetError(
                f"Failed to run {self.command[0]}: {exc.strerror}. Run the role modelfleet.serving.dfdaemon, which installs it."
            ) from None
        # What it prints is long only where it succeeds.
        output = " ".join(without_colours(out + err).split())
        return rc, output if rc == 0 else output[:300].rstrip(" .*")
