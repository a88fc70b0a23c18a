# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._dragonfly_config import check, file_text
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError


def dragonfly_files(files):
    try:
        check(files)
    except ModelFleetError as exc:
        raise AnsibleFilterError(str(exc)) from exc
    return [{**{key: value for key, value in entry.items() if key != "config"}, "content": file_text(entry["config"])} for entry in files]


class FilterModule:
    def filters(self):
        return {"dragonfly_files": dragonfly_files}
