# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documents of the repository promise: the versions that are tested, the commands that there are, and places that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelfleet.serving.plugins.module_utils import _preflight_system

REPOSITORY = Path(__file__).resolve().parent.parent
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [
    REPOSITORY / name
    for name in subprocess.run(["git", "ls-files", "*.md"], cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split()
    if (REPOSITORY / name).exists()
]
DEBIAN = {"bookworm": "12", "trixie": "13"}
VERSION = re.compile(r"\d+(?:\.\d+)*")


def load(path):
    return yaml.safe_load((REPOSITORY / path).read_text(encoding="utf-8"))


def text(path):
    return (REPOSITORY / path).read_text(encoding="utf-8")


def row(what):
    """The versions that each cell of a row of the table names: in make test, in make test-all as well, expected."""
    cells = re.search(rf"^\| {re.escape(what)} \|(.*)\|$", README, re.MULTILINE).group(1).split("|")
    assert len(cells) == 3, what
    return [VERSION.findall(cell) for cell in cells]


def scenarios(plan):
    """Names of the scenarios that make test runs, or that only make test-all does."""
    stages = re.findall(r'^    scenario\("(\w+)"(, ALL)?', text("lab/stages"), re.MULTILINE)
    assert len(stages) >= 6
    return {name for name, rare in stages if bool(rare) == (plan == "all")}


def settings(plan, variable):
    """Every value of a variable in the inventories of the scenarios of a plan."""
    for name in scenarios(plan):
        for path in (REPOSITORY / "molecule" / name).rglob("*.yml"):
            yield from re.findall(rf"^ *{variable}: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)


def suites(plan):
    """The Debians of the images that the hosts have."""
    recipes = dict(re.findall(r"^(\w+)\)\n(?:    .*\n)*?    suite=(\w+)$", text("lab/image/build"), re.MULTILINE))
    images = [image.rpartition(":")[2] for image in settings(plan, "lab_node_image")]
    return {DEBIAN[recipes.get(image, image)] for image in images}


def test_the_ansible_cores_are_those_of_the_lock_file():
    locked = re.findall(
        r"^ansible-core==(\d+\.\d+)\.\d+ ; python_full_version (<|>=) '(\d+\.\d+)'$", text("requirements-dev.txt"), re.MULTILINE
    )
    tested, _all, expected = row("ansible-core")
    assert tested == [version for version, _than, _python in locked]
    assert [f">={version}.0" for version in expected] == [load(f"{COLLECTION}/meta/runtime.yml")["requires_ansible"]]
    # tests/collection: the first is for the Python before the border, the second for those from it on.
    first, *others = row("Python of the controller")[0]
    border = tuple(map(int, locked[0][2].split(".")))
    assert tuple(map(int, first.split("."))) < border <= min(tuple(map(int, version.split("."))) for version in others)
    assert {f"check {first}", f"check {' '.join(others)}"} <= set(map(str.strip, text("tests/collection").splitlines()))


def test_the_distributions_are_those_of_the_labs_images_and_of_preflight():
    assert load("inventory/lab/group_vars/all/lab.yml")["lab_image"].endswith(":latest")
    latest = re.search(r"^what=\$\{1:-(\w+)\}$", text("lab/image/build"), re.MULTILINE).group(1)
    tested, also, expected = row("distribution of the hosts")
    assert set(tested) == {DEBIAN[latest], *suites("test")}
    assert set(also) == suites("all") - set(tested)
    supported = _preflight_system.SUPPORTED_OS
    assert {*tested, *also} <= set(supported["debian"])
    assert set(expected) == {*supported["debian"], *supported["ubuntu"], "9"} - {*tested, *also}
    assert row("Python of the hosts") == [tested, also, [".".join(map(str, _preflight_system.MIN_PYTHON))]]


def test_the_releases_of_dragonfly_are_those_of_the_lab_and_of_the_roles():
    lab = dict(re.findall(r'^(\w+) = "([\d.]+)"$', text("lab/dragonfly/releases"), re.MULTILINE))
    refused = load(f"{COLLECTION}/roles/preflight/files/incompatible.yml")
    for name, role, key, before in (
        ("Dragonfly's scheduler", "dragonfly_scheduler", "scheduler", []),
        ("Dragonfly's client", "dfdaemon", "client", [lab["CLIENT_BEFORE"]]),
    ):
        tested, also, expected = row(name)
        assert tested == [lab[f"{key.upper()}_VERSION"]] == [load(f"{COLLECTION}/roles/{role}/defaults/main.yml")[f"{role}_version"]]
        assert also == before
        oldest = [one[key][0].lstrip("<") for one in refused if set(one) == {key, "reason"}]
        assert expected[:1] == (oldest if oldest != tested else [])


def test_the_versions_of_torchserve_are_those_that_the_role_offers():
    option = load(f"{COLLECTION}/roles/torchserve/meta/argument_specs.yml")["argument_specs"]["main"]["options"]["torchserve_version"]
    tested, also, expected = row("TorchServe")
    assert set(tested) == {option["default"], *settings("test", "torchserve_version")}
    assert set(also) == {*settings("all", "torchserve_version")} - set(tested)
    assert {*tested, *also, *expected} == set(option["choices"])


def test_the_archive_is_called_as_it_will_be():
    version = load(f"{COLLECTION}/galaxy.yml")["version"]
    assert set(re.findall(r"modelfleet-serving-(\d[\w.]*?)(?:\.tar\.gz|-MANIFEST)", README)) == {version}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_what_make_is_told_to_do_it_can(document):
    targets = re.findall(r"^([\w -]+):(?!=)", text("Makefile"), re.MULTILINE)
    known = {target for line in targets for target in line.split()}
    told = set(re.findall(r"`make ([a-z][\w-]*)", document.read_text(encoding="utf-8")))
    assert {target for target in told - known if not target.startswith(("scenario-", "image-"))} == set()
    scenario = {target.partition("-")[2] for target in told if target.startswith("scenario-")} - {""}
    assert scenario <= scenarios("test") | scenarios("all")


def anchors(document):
    """The places of a document, as the hosts of repositories name them."""
    for heading in re.findall(r"^#+ (.*)$", document.read_text(encoding="utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_link_leads_somewhere(document):
    bad = []
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            name, _hash, anchor = target.partition("#")
            path = (document.parent / name).resolve() if name else document
            if not path.exists() or (anchor and anchor not in set(anchors(path))):
                bad.append(target)
    assert bad == []


FORMS = sorted((REPOSITORY / ".github/ISSUE_TEMPLATE").glob("[!c]*.yml"))


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_a_form_of_an_issue_is_one(path):
    """By the rules of GitHub, which shows no form that breaks one."""
    form = load(path)
    assert set(form) <= {"name", "description", "labels", "title", "body"} and form["name"] and form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    identifiers, labels = [field["id"] for field in fields], [field["attributes"]["label"] for field in fields]
    assert len(set(identifiers)) == len(set(labels)) == len(fields) > 1
    for field in form["body"]:
        allowed = {
            "markdown": {"value"},
            "input": {"label", "description", "placeholder", "value"},
            "textarea": {"label", "description", "placeholder", "value", "render"},
            "dropdown": {"label", "description", "options", "multiple", "default"},
        }[field["type"]]
        assert set(field) <= {"type", "id", "attributes", "validations"} and set(field["attributes"]) <= allowed
        # An option may be no truth value, and none may be called None.
        options = field["attributes"].get("options", ["one"])
        assert options and all(isinstance(option, str) and option.lower() != "none" for option in options)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_a_report_asks_for_every_store():
    from ansible_collections.modelfleet.serving.plugins.module_utils._storage import STORES

    (options,) = [field["attributes"]["options"] for field in load(".github/ISSUE_TEMPLATE/bug.yml")["body"] if field.get("id") == "store"]
    assert set(STORES) == set(options) - {"none of these"}
