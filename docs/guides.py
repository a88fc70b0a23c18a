#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides tell people to type and to write, and where a test does the same. Run as a program it says how many commands there are.

A command stands in a fenced block of the language sh. tests/test_guides.py has each of them run by a shell in a directory of its own, where
the programs that need a fleet do all that they can do without one; RUN_BY names the tests and scenarios that do the rest.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
GUIDES = sorted((COLLECTION / "docs").glob("*.md"))
# The guides, and all else that says what to type.
DOCUMENTS = [
    *GUIDES,
    *sorted((COLLECTION / "docs/runbooks").glob("*.md")),
    COLLECTION / "README.md",
    *sorted(COLLECTION.glob("roles/*/README.md")),
    REPOSITORY / "inventory/sample/README.md",
    REPOSITORY / "inventory/dynamic/README.md",
    REPOSITORY / "README.md",
]

FENCE = re.compile(r"^( *)```([\w-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
# A line up to its comment, in whose quotes a # begins none.
COMMENT = re.compile(r"""^((?:'[^']*'|"[^"]*"|[^'"])*?)(?:^|\s)#\s.*$""")
PROGRAMS = ("ansible", "cp", "curl", "gpg", "journalctl", "make", "nft", "openssl", "podman", "printf", "sha256sum", "systemctl")

# How a command is run where there is no fleet.
SYNTAX, DRY, EDIT, HERE, ELSEWHERE = "syntax", "dry run", "edit", "here", "elsewhere"
HOW = {
    "ansible-playbook": SYNTAX,  # with --syntax-check
    "make": DRY,  # with --dry-run
    "$EDITOR": EDIT,  # an editor that only looks whether the files are there
    "ansible-vault": HERE,
    "ansible-doc": HERE,
    "cp": HERE,
    "openssl": HERE,
    "printf": HERE,
    "ssh-keygen": HERE,
    # Run by the tests that ELSEWHERE_BY names, as they need what is not here.
    "ansible-galaxy": ELSEWHERE,
    "curl": ELSEWHERE,
    "gpg": ELSEWHERE,
    "podman": ELSEWHERE,
    "sha256sum": ELSEWHERE,
    "ssh": ELSEWHERE,
}

# Where a play is run on a fleet, or on hosts that are stubs, with the same options: {play and options: (file, what stands there)}.
RUN_BY = {
    "add --limit": ("molecule/life/tests/test_life.py", 'play("add", "--limit", "gpu-3")'),
    "backup": ("molecule/manager/tests/test_used.py", 'play("backup")'),
    "bundle": ("molecule/offline/prepare.yml", "modelfleet.serving.bundle"),
    "bundle -e offline_bundle_refresh": ("tests/test_offline_bundle.py", "offline_bundle_refresh=True"),
    "bundle_serve": ("molecule/offline/converge.yml", "modelfleet.serving.bundle_serve"),
    "bundle_serve -e offline_bundle_served": ("molecule/offline/tests/test_2_refused.py", "offline_bundle_served=False"),
    "bundle_verify": ("tests/test_offline_bundle.py", 'play("bundle_verify"'),
    "compile": ("molecule/compile/tests/test_caches.py", '"playbooks/compile.yml"'),
    "distribute": ("molecule/default/tests/test_distribute.py", 'play("playbooks/distribute.yml")'),
    "distribute -e modelfleet_huggingface_access_seconds": (
        "molecule/huggingface/tests/test_2_access.py",
        "distribute(entry, modelfleet_huggingface_access_seconds=0)",
    ),
    "doctor": ("molecule/default/tests/test_doctor.py", '"playbooks/doctor.yml"'),
    "doctor --limit": ("molecule/hardening/tests/test_firewall.py", '"playbooks/doctor.yml", "--limit", "gpu-1"'),
    "kubernetes": ("tests/test_kubernetes.py", 'play("kubernetes")'),
    "kubernetes --check --diff": ("tests/test_kubernetes.py", 'play("kubernetes", "--check", "--diff")'),
    "kubernetes_uninstall -e modelfleet_uninstall_confirm": (
        "tests/test_kubernetes.py",
        'play("kubernetes_uninstall", "-e", "modelfleet_uninstall_confirm=true")',
    ),
    "kubernetes_values": ("tests/test_kubernetes.py", 'play("kubernetes_values"'),
    "awx/configure": ("tests/test_awx.py", 'AWX / "configure.yml"'),
    "merge_reports -e slices_reports": ("tests/test_slices.py", '"modelfleet.serving.merge_reports"'),
    "pin": ("molecule/huggingface/tests/conftest.py", '"playbooks/pin.yml"'),
    "pin_releases": ("tests/test_pin_releases.py", '"playbooks/pin_releases.yml"'),
    "plan -e modelfleet_host_mbits -e modelfleet_origin_mbits -e plan_files -e plan_size": (
        "tests/test_plan.py",
        '"modelfleet.serving.plan"',
    ),
    "preflight": ("tests/test_bad_input.py", '"playbooks/preflight.yml"'),
    "prune": ("molecule/default/tests/test_prune.py", '"playbooks/prune.yml"'),
    "prune --check": ("molecule/default/tests/test_prune.py", 'prune("--check"'),
    "pull_bundle": ("molecule/pull/tests/conftest.py", 'play("pull_bundle")'),
    "pull_install": ("molecule/pull/tests/conftest.py", 'play("pull_install")'),
    "publish": ("molecule/default/prepare.yml", "modelfleet.serving.publish"),
    "remove_host -e modelfleet_remove_hosts": ("molecule/life/tests/test_life.py", 'modelfleet_remove_hosts="spare-1"'),
    "restore": ("molecule/manager/tests/test_used.py", 'play("restore")'),
    "rollback": ("molecule/runtimes/tests/test_2_versions.py", 'play("rollback"'),
    "rollout": ("molecule/runtimes/tests/test_2_versions.py", 'play("rollout"'),
    "rollout --check": ("tests/test_rollout.py", 'fleet.play("rollout", "--check"'),
    "rotate_certificates": ("tests/test_life.py", 'fleet("rotate_certificates")'),
    "site": ("molecule/default/converge.yml", "modelfleet.serving.site"),
    "site --check --diff": ("molecule/hardening/tests/test_firewall.py", 'site("--check", "--diff")'),
    "site --limit": ("molecule/hardening/tests/test_firewall.py", 'site("--limit", "gpu-1")'),
    "site --tags firewall": ("molecule/hardening/tests/test_firewall.py", '"playbooks/site.yml", "--tags", "firewall"'),
    "smoke": ("molecule/runtimes/tests/test_3_faults.py", 'play("smoke"'),
    "uninstall --check": ("molecule/life/tests/test_life.py", 'uninstall("--check")'),
    "uninstall -e modelfleet_uninstall_confirm": ("molecule/life/tests/test_life.py", "modelfleet_uninstall_confirm=True"),
    "upgrade": ("molecule/life/tests/test_life.py", 'play("upgrade"'),
    "verify": ("molecule/default/tests/test_verify.py", '"playbooks/verify.yml"'),
    "verify -e verify_sbom_dir": ("molecule/default/tests/test_verify.py", '"verify_sbom_dir"'),
}

# The same for what begins so.
ELSEWHERE_BY = {
    "ansible-galaxy collection install": ("release/judge.py", '"collection", "install"'),
    "ansible-galaxy collection verify": ("tests/test_release.py", '"verify"'),
    # The same request, by Python.
    "curl --cacert": ("molecule/hardening/tests/test_gateway.py", 'create_default_context(cafile=FILES / "gateway.crt")'),
    "gpg --batch --passphrase '' --quick-generate-key": (
        "collections/ansible_collections/modelfleet/serving/tests/unit/plugins/gpg_home.py",
        '"--quick-generate-key"',
    ),
    "gpg --import /srv/modelfleet-bundle/key.asc": ("tests/test_offline_bundle.py", 'gpg("--import", str(bundle / "key.asc"))'),
    "gpg --list-keys": ("collections/ansible_collections/modelfleet/serving/tests/unit/plugins/gpg_home.py", '"--list-keys"'),
    "gpg --no-default-keyring --keyring ./modelfleet.kbx --import": ("tests/test_release.py", '"--no-default-keyring", "--keyring"'),
    "gpg --no-default-keyring --keyring ./modelfleet.kbx --verify": ("tests/test_release.py", '"--verify"'),
    "gpg --verify /srv/modelfleet-bundle": ("tests/test_offline_bundle.py", 'gpg("--verify", '),
    "podman build": ("lab/image/containers", "podman build"),
    "podman image inspect": ("lab/image/containers", "podman image inspect"),
    "podman save": ("lab/image/containers", "podman save --quiet --format oci-archive --output"),
    "sha256sum --check": ("tests/test_release.py", '"sha256sum", "--check", "--strict"'),
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def place(self):
        return f"{self.document.relative_to(REPOSITORY)}:{self.line}"

    @property
    def lines(self):
        """Its commands, one a line, without comments."""
        joined = re.sub(r"\\\n\s*", "", self.text)
        stripped = (COMMENT.sub(r"\1", line).strip() for line in joined.splitlines())
        return [line for line in stripped if line]


def blocks(document):
    text = document.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        indent, language, inside = found.groups()
        yield Block(document, text.count("\n", 0, found.start()) + 1, language, re.sub(f"(?m)^{indent}", "", inside))


def commands(document):
    """(block, command) of all that a document tells people to type, in its order."""
    return [(block, line) for block in blocks(document) if block.language == "sh" for line in block.lines]


def how(command):
    """How a command is run without a fleet, or None where nobody would know."""
    return HOW.get(shlex.split(command)[0])


def play_of(command):
    """The play that a command runs and its options without their values, as RUN_BY has them."""
    words = shlex.split(command)[1:]
    plays, options = [], []
    while words:
        word = words.pop(0)
        if word == "-i":
            words.pop(0)
        elif word == "--ask-vault-pass":
            continue
        elif word == "-e":
            options.append(f"-e {words.pop(0).partition('=')[0]}")
        elif word == "--tags":
            options.append(f"--tags {words.pop(0)}")
        elif word == "--limit":
            words.pop(0)
            options.append(word)
        elif word.startswith("-"):
            options.append(word)
        else:
            plays.append(re.sub(r"^(playbooks/|modelfleet\.serving\.)|\.yml$", "", word))
    return " ".join([*plays, *sorted(options)])


def run_by(command):
    """(file, what stands there) of the test that runs a command, or None."""
    if how(command) == SYNTAX:
        return RUN_BY.get(play_of(command))
    return next((found for begin, found in ELSEWHERE_BY.items() if command.startswith(begin)), None)


def summary():
    """One sentence with the numbers."""
    found = {(how(command), command) for document in DOCUMENTS for _block, command in commands(document)}
    plays = [command for kind, command in found if kind == SYNTAX]
    on_fleets = [command for command in plays if run_by(command)]
    return (
        f"{len(found)} commands in {sum(bool(commands(document)) for document in DOCUMENTS)} documents ({len(GUIDES)} guides): "
        f"{len(plays)} run plays, {len(on_fleets)} of them as a test or scenario does; "
        f"{sum(kind == ELSEWHERE for kind, _command in found)} are run by other tests, the rest where the guides are tested."
    )


if __name__ == "__main__":
    print(f"docs: {summary()}")
