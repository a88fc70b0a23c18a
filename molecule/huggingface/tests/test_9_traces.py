"""What the scenario leaves behind on hosts and on the controller; runs last."""

from __future__ import annotations

import pytest
from conftest import KEPT, TOKENS
from fleet import DAEMON_HOSTS, SIGNATURES

SECRETS = [token for token in TOKENS.values() if token]


def test_no_run_left_a_token_here():
    """Neither in what it printed, nor in what Ansible and the report keep, nor where everybody sees it while a run goes on."""
    assert len(SECRETS) == 5 and len(list(KEPT.logs.glob("*.log"))) >= 30
    # What the hub's CDN signs has this name.
    assert KEPT.holding([*SECRETS, *SIGNATURES]) == {}


@pytest.mark.parametrize("name", DAEMON_HOSTS)
def test_no_host_has_a_token(fleet, name):
    """In no journal and in no file: the host's own came with the run, and went with it."""
    host = fleet[name]
    assert host.journal_lines([*SECRETS, *SIGNATURES]) == []
    each = " ".join(["-e %s"] * len(SECRETS))
    everywhere = "--exclude-dir=proc --exclude-dir=sys --exclude-dir=dev / 2>/dev/null"
    assert host.run(f"grep -ralF {each} {everywhere}", *SECRETS).stdout.split() == []
