# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the guides tell people to type and to write: each command is run, each variable is one, and each piece of an inventory is valid."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import guides
import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from fleet import only_in_all
from guides import COLLECTION, DOCUMENTS, GUIDES, REPOSITORY, RUN_BY, SYNTAX

ROLES = [path.name for path in sorted((COLLECTION / "roles").iterdir())]
COMMANDS = [(block.place, command) for document in DOCUMENTS for block, command in guides.commands(document)]
GROUPS = {
    "dragonfly_schedulers",
    "dragonfly_seed_peers",
    "dragonfly_managers",
    "gpu_hosts",
    "modelfleet_gateways",
    "modelfleet_prometheus",
    "modelfleet_bundle_servers",
    "load_balancers",
    "kubernetes_clusters",
}


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options():
    """Every variable of every role: {name: specification}."""
    found = {}
    for path in sorted(COLLECTION.glob("roles/*/meta/argument_specs.yml")):
        found.update(load(path)["argument_specs"]["main"]["options"])
    return found


OPTIONS = options()


def name(path):
    return str(path.relative_to(REPOSITORY)).removeprefix("collections/ansible_collections/modelfleet/serving/")


def test_there_is_something_to_test():
    assert len(GUIDES) >= 15 and len(COMMANDS) >= 60
    # Lines that go on, and comments.
    block = guides.Block(REPOSITORY / "README.md", 1, "sh", "one \\\n  two   # three\n# four\nfive 'a # b'\n")
    assert block.lines == ["one two", "five 'a # b'"]
    command = "ansible-playbook -i a modelfleet.serving.site --ask-vault-pass --limit b --check -e c=1"
    assert guides.play_of(command) == "site --check --limit -e c"


def test_a_guide_is_in_the_list_of_guides():
    text = (COLLECTION / "docs/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\((\w+\.md)\)", text)) == {path.name for path in GUIDES} - {"README.md"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_command_is_marked_as_one(document):
    """Otherwise nobody would run it."""
    for block in guides.blocks(document):
        assert block.language in ("", "ini", "json", "sh", "yaml"), block.place
        if block.language != "sh":
            hidden = [line for line in block.text.splitlines() if re.match(rf"(\$ |sudo )?({'|'.join(guides.PROGRAMS)})[\w-]* ", line)]
            assert hidden == [], f"{block.place}: give the block the language sh"


@pytest.mark.parametrize(("place", "command"), COMMANDS, ids=[place for place, _command in COMMANDS])
def test_a_command_is_run_somewhere(place, command):
    assert guides.how(command), f"No test knows how to run {command}: add it to docs/guides.py"
    if guides.how(command) == guides.ELSEWHERE:
        assert guides.run_by(command), f"Which test runs {command}? Add it to ELSEWHERE_BY in docs/guides.py"


@pytest.mark.parametrize("key", [*RUN_BY, *guides.ELSEWHERE_BY])
def test_the_test_that_runs_it_is_there(key):
    file, text = {**RUN_BY, **guides.ELSEWHERE_BY}[key]
    assert text in (REPOSITORY / file).read_text(encoding="utf-8")
    plays = {guides.play_of(command) for _place, command in COMMANDS if guides.how(command) == SYNTAX}
    assert key in plays or any(command.startswith(key) for _place, command in COMMANDS), "no document has it any more"


def test_a_variable_of_a_command_is_one():
    for place, command in COMMANDS:
        words = shlex.split(command)
        for option, value in zip(words, words[1:]):
            if option == "-e" and guides.how(command) == SYNTAX:
                variable, _equals, said = value.partition("=")
                assert variable in OPTIONS, place
                judged = ArgumentSpecValidator({variable: OPTIONS[variable]}).validate({variable: said})
                assert judged.error_messages == [], place


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_a_variable_is_one(document):
    def inner(specification):
        for key, value in specification.items():
            yield key
            yield from inner(value.get("options", {}))

    plugins = {path.stem for path in COLLECTION.glob("plugins/*/*") if path.suffix in (".py", ".yml")}
    known = {*inner(OPTIONS), *ROLES, *GROUPS, *plugins, *(path.stem for path in COLLECTION.glob("playbooks/*.yml"))}
    known |= {path.stem for role in ROLES for path in (COLLECTION / f"roles/{role}").rglob("*.yml")}
    # Metrics of ours are called as variables are.
    roles = COLLECTION / "roles"
    pages = [roles / path for path in ("monitoring/files/host_metrics.py", "monitoring/files/rules.yml", "pull/files/pull.py")]
    known |= {metric for page in pages for metric in re.findall(r"modelfleet_\w+", page.read_text(encoding="utf-8"))}
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(rf"(?<![\w./-])((?:{'|'.join(ROLES)})_[a-z0-9_]*[a-z0-9])(?![\w/-])", text))
    assert named - known == set()


@pytest.mark.parametrize("document", GUIDES, ids=name)
def test_what_an_inventory_is_told_to_have_is_valid(document):
    for block in guides.blocks(document):
        if block.language != "yaml":
            continue
        said = yaml.safe_load(block.text)
        if not isinstance(said, dict):
            continue
        variables = {key: value for key, value in said.items() if not key.startswith("vault_")}
        assert set(variables) - set(OPTIONS) == set(), block.place
        judged = ArgumentSpecValidator({key: OPTIONS[key] for key in variables}).validate(variables)
        assert judged.error_messages == [], block.place


PROGRAMS = Path(sys.executable).parent
# Programs that do what they can without a fleet: {name: what a shell runs}.
STAND_INS = {
    "ansible-playbook": f"""
for word; do
    shift
    [ "$word" = --ask-vault-pass ] || set -- "$@" "$word"
done
exec {PROGRAMS}/ansible-playbook "$@" --syntax-check
""",
    "ansible-vault": f'command=$1; shift; exec {PROGRAMS}/ansible-vault "$command" --skip-tty-check "$@"\n',
    "ansible-doc": f'exec {PROGRAMS}/ansible-doc "$@"\n',
    "make": 'exec /usr/bin/make --dry-run "$@"\n',
    "editor": """
for file; do
    [ -e "$file" ] || { echo "$file is not there"; exit 1; }
    [ -s "$file" ] || printf '%s: a\\n' vault_read_access_key vault_read_secret_key > "$file"
done
""",
}


@pytest.fixture
def checkout(tmp_path):
    """What a person has who follows a guide: the repository, and an inventory with as many hosts as any guide names."""
    place = tmp_path / "checkout"
    shutil.copytree(REPOSITORY / "inventory", place / "inventory", ignore=shutil.ignore_patterns("*.pki"))
    for folder in ("awx", "playbooks"):
        shutil.copytree(REPOSITORY / folder, place / folder)
    for file in ("ansible.cfg", "Makefile", "requirements-dev.txt"):
        shutil.copyfile(REPOSITORY / file, place / file)
    (place / "collections").symlink_to(REPOSITORY / "collections")
    # A group that is not there would be a warning.
    groups = {
        "gpu_hosts": ("gpu-[1:4]", "gpu-[1:500].example.com"),
        "modelfleet_gateways": ("gpu-1.example.com",),
        "dragonfly_managers": ("scheduler-1.example.com",),
        "kubernetes_clusters": ("prod-cluster",),
        "load_balancers": ("balancer-1.example.com",),
    }
    children = {group: {"hosts": dict.fromkeys(hosts)} for group, hosts in groups.items()}
    (place / "inventory/sample/more.yml").write_text(yaml.safe_dump({"all": {"children": children}}), encoding="utf-8")
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for program, text in STAND_INS.items():
        (stand_ins / program).write_text(f"#!/bin/sh\nset -eu\n{text}", encoding="utf-8")
        (stand_ins / program).chmod(0o755)
    (tmp_path / "password").write_text("password\n", encoding="utf-8")
    return place


@only_in_all
@pytest.mark.parametrize("document", [path for path in DOCUMENTS if guides.commands(path)], ids=name)
def test_a_person_can_type_it(document, checkout, tmp_path):
    """All that a guide says, by one shell, in its order; a play up to its syntax."""
    commands = [command for _block, command in guides.commands(document) if guides.how(command) != guides.ELSEWHERE]
    if not any(command.startswith("cp -r inventory/sample ") for command in commands):
        shutil.copytree(checkout / "inventory/sample", checkout / "inventory/prod")
    script = "".join(f"echo {shlex.quote('$ ' + command)}\n{command}\n" for command in commands)
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=checkout,
        env={
            **os.environ,
            "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
            "EDITOR": "editor",
            "ANSIBLE_VAULT_PASSWORD_FILE": str(tmp_path / "password"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_NOCOLOR": "1",
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        start_new_session=True,  # nobody may ask a terminal for a password
    )
    assert done.returncode == 0, done.stdout
    assert "WARN" not in done.stdout, done.stdout
    assert done.stdout.count("\nplaybook: ") >= sum(guides.how(command) == SYNTAX for command in commands)
