# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter import release_findings as plugin
from ansible_collections.modelfleet.serving.plugins.filter.release_findings import release_findings

INCOMPATIBLE = yaml.safe_load((Path(plugin.__file__).parents[2] / "roles/preflight/files/incompatible.yml").read_text(encoding="utf-8"))
GOOD = {"scheduler-1": {"scheduler": ["2.5.1"]}, "gpu-1": {"client": ["1.5.10"], "torchserve": ["0.12.0", "0.11.1"]}}


@pytest.mark.parametrize(
    ("host", "versions", "words"),
    [
        ("scheduler-1", {"scheduler": ["2.5.0"]}, ["the scheduler 2.5.0 of scheduler-1, which does not work here", "without a manager"]),
        ("gpu-1", {"client": ["1.5.10", "1.4.2"]}, ["dfdaemon 1.4.2 of gpu-1", "from a manager only"]),
        ("gpu-1", {"torchserve": ["0.8.0"]}, ["TorchServe 0.8.0 of gpu-1", "torchserve_version"]),
    ],
)
def test_what_is_refused(host, versions, words):
    assert release_findings(GOOD, INCOMPATIBLE) == []
    (finding,) = release_findings({**GOOD, host: versions}, INCOMPATIBLE)
    for word in words:
        assert word in finding


def test_a_pair_is_refused_where_both_meet():
    pairs = [entry for entry in INCOMPATIBLE if "client" in entry and "scheduler" in entry]
    assert len(pairs) == 1
    (finding,) = release_findings({**GOOD, "scheduler-1": {"scheduler": ["2.3.0"]}}, pairs)
    assert finding.startswith("Refused the scheduler 2.3.0 of scheduler-1 and dfdaemon 1.5.10 of gpu-1, which do not work together: ")
    assert finding.endswith("Choose another dragonfly_scheduler_version or dfdaemon_version.")
    for one in ({"scheduler-1": {"scheduler": ["2.3.1"]}}, {"scheduler-1": {"scheduler": ["2.3.0"]}, "gpu-1": {"client": ["1.0.10"]}}):
        assert release_findings({**GOOD, **one}, pairs) == []


@pytest.mark.parametrize("version", ["2.5.1", "2.5.1-rc.0", "2.6", "10.0.0", "main"])
def test_what_is_not_older(version):
    """Numbers are compared as numbers, and a name is no number."""
    assert release_findings({"one": {"scheduler": [version]}}, INCOMPATIBLE) == []


def test_every_entry_says_why_and_can_be_read():
    for entry in INCOMPATIBLE:
        assert entry["reason"].strip() and set(entry) - {"reason"} <= set(plugin.PROGRAMS) and len(entry) > 1
    assert release_findings(GOOD, INCOMPATIBLE) == []
    with pytest.raises(AnsibleFilterError, match=r"'2\.3' is no condition"):
        release_findings(GOOD, [{"scheduler": ["2.3"], "reason": "none"}])
