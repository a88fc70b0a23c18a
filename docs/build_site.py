#!/usr/bin/env python3
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the site of the collection's documentation: its guides and the READMEs of its roles as they are, the pages that antsibull-docs
makes of modules, plugins and argument specifications, and pictures.

Nothing is fetched. A warning, a link that leads nowhere and a page that would load something from elsewhere are errors.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import shutil
import subprocess
import sys
import urllib.parse
import zlib
from html.parser import HTMLParser
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
COLLECTION = REPOSITORY / "collections/ansible_collections/modelfleet/serving"
NAME = "modelfleet.serving"
LINK = re.compile(r"\]\(([^)\s]+)\)")
PICTURE = re.compile(r"^<!-- picture: (\w+) -->$", re.MULTILINE)
# What antsibull-docs refers to in Ansible's own documentation: {label: where it is}.
LABELS = {
    "action_plugins": "plugins/action.html#action-plugins",
    "ansible_collections.ansible.builtin.default_callback": "collections/ansible/builtin/default_callback.html",
    "ansible_collections.ansible.builtin.pip_module": "collections/ansible/builtin/pip_module.html",
    "ansible_collections.ansible.builtin.systemd_service_module": "collections/ansible/builtin/systemd_service_module.html",
    "ansible_configuration_settings": "reference_appendices/config.html#ansible-configuration-settings",
    "ansible_collections.kubernetes.core.k8s_module": "collections/kubernetes/core/k8s_module.html",
    "callback_plugins": "plugins/callback.html#callback-plugins",
    "common_return_values": "reference_appendices/common_return_values.html#common-return-values",
}
# Variables of the environment that Ansible itself describes, and a callback has from it or an inventory names.
VARIABLES = ("ANSIBLE_DISPLAY_SKIPPED_HOSTS", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "ANSIBLE_SHOW_CUSTOM_STATS")


class Stop(Exception):
    """Why there is no site, as a sentence."""


def say(text):
    print(f"docs: {text}", flush=True)


def run(*command, **environment):
    done = subprocess.run(
        list(map(str, command)),
        cwd=REPOSITORY,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Stop(f"{Path(command[0]).name} ended with status {done.returncode}:\n{done.stdout}")
    return done.stdout


def collect(source):
    """Lay the guides and READMEs where they are in the collection, and what they link, so that every link is right as it stands."""
    documents = [*COLLECTION.glob("docs/**/*.md"), COLLECTION / "README.md", *COLLECTION.glob("roles/*/README.md")]
    wanted = set(documents)
    for document in documents:
        for target in LINK.findall(document.read_text(encoding="utf-8")):
            path = (document.parent / target.partition("#")[0]).resolve()
            if not re.match(r"[a-z]+:|#", target) and path.is_file():
                wanted.add(path)
    for path in sorted(wanted):
        copy = source / path.relative_to(COLLECTION)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)


def index(source):
    """The first page is the list of the guides, and the order of its links is that of the navigation."""
    text = (source / "docs/README.md").read_text(encoding="utf-8")
    parts, trees = re.split(r"^(?=## )", text, flags=re.MULTILINE), []
    for part in parts[1:]:
        found = [posixpath.normpath(posixpath.join("docs", target)) for target in LINK.findall(part) if target.endswith(".md")]
        trees.append(tree(part.splitlines()[0].strip("# "), [target.removesuffix(".md") for target in dict.fromkeys(found)]))
    trees.append(tree("Roles, modules and plugins", ["README", "reference/index"]))
    trees.append(tree("Runbooks", [f"docs/runbooks/{path.stem}" for path in sorted(source.glob("docs/runbooks/*.md"))]))
    trees.append(tree("READMEs of the roles", [f"roles/{path.parent.name}/README" for path in sorted(source.glob("roles/*/README.md"))]))
    moved = LINK.sub(lambda link: f"]({posixpath.normpath(posixpath.join('docs', link[1]))})", text)
    (source / "index.md").write_text("\n".join([moved, *trees]), encoding="utf-8")
    (source / "docs/README.md").unlink()
    readme = source / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("](docs/README.md)", "](index.md)"), encoding="utf-8")


def tree(caption, pages):
    return "\n".join(["```{toctree}", ":hidden:", ":maxdepth: 1", f":caption: {caption}", "", *pages, "```", ""])


def insert_pictures(source, shown):
    used = set()
    for path in source.glob("docs/*.md"):
        text = path.read_text(encoding="utf-8")
        names = PICTURE.findall(text)
        if names:
            used.update(names)
            path.write_text(PICTURE.sub(lambda found: shown[found[1]], text), encoding="utf-8")
    if used != set(shown):
        raise Stop(f"The guides show the pictures {sorted(used)}, and there are {sorted(shown)}.")


def inventory(path):
    """The places of Ansible's own documentation as intersphinx reads them."""
    places = {f"{label} std:label": target for label, target in LABELS.items()}
    places.update({f"{name} std:envvar": f"reference_appendices/config.html#envvar-{name}" for name in VARIABLES})
    lines = "".join(f"{place} -1 {target} -\n" for place, target in places.items())
    head = "# Sphinx inventory version 2\n# Project: Ansible\n# Version: devel\n# The remainder of this file is compressed using zlib.\n"
    path.write_bytes(head.encode() + zlib.compress(lines.encode()))


class Page(HTMLParser):
    """What a page has: the names of its places, where it leads, and what it loads."""

    LOADS = {"img": "src", "script": "src", "iframe": "src", "source": "src", "object": "data"}

    def __init__(self, path):
        super().__init__()
        self.places, self.leads, self.loads = set(), [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.places.update(filter(None, (attributes.get("id"), attributes.get("name") if tag == "a" else None)))
        if tag == "a" and attributes.get("href"):
            self.leads.append(attributes["href"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preload", "shortcut icon"):
            self.loads.append(attributes.get("href") or "")
        if tag in self.LOADS and attributes.get(self.LOADS[tag]):
            self.loads.append(attributes[self.LOADS[tag]])

    handle_startendtag = handle_starttag


def check(site):
    """Follow every link of every page within the site; return the number of pages and links."""
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    bad, links = [], 0
    for path, page in pages.items():
        here = path.relative_to(site.resolve())
        for target in page.loads:
            if re.match(r"[a-z]+:|//", target) and not target.startswith("data:"):
                bad.append(f"{here} loads {target}")
        for target in [*page.leads, *page.loads]:
            if re.match(r"[a-z]+:|//", target):
                continue
            links += 1
            name, _hash, anchor = target.partition("#")
            name, anchor = urllib.parse.unquote(name.partition("?")[0]), urllib.parse.unquote(anchor)
            other = (path.parent / name).resolve() if name else path
            if not other.exists():
                bad.append(f"{here} leads to {target}, which is not there")
            elif anchor and other in pages and anchor not in pages[other].places:
                bad.append(f"{here} leads to {target}, a place that is not there")
    for path in site.rglob("*.css"):
        for target in re.findall(r"url\(['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)", path.read_text(encoding="utf-8")):
            if re.match(r"https?:|//", "".join(target)):
                bad.append(f"{path.relative_to(site)} loads {''.join(target)}")
    if bad:
        raise Stop("\n".join(["The site is not whole:", *sorted(set(bad))]))
    return len(pages), links


def build(place, programs):
    """Make the site in a directory of the place, and look at it."""
    sys.path[:0] = [str(REPOSITORY / "collections")]
    import pictures

    source, site = place / "source", place / "html"
    shutil.rmtree(source, ignore_errors=True)
    shutil.rmtree(site, ignore_errors=True)
    reference = source / "reference"
    reference.mkdir(parents=True)
    # antsibull-docs writes only where nobody else may.
    os.chmod(reference, 0o755)
    environment = {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / "collections"),
    }
    collect(source)
    options = ("--plugin-docs", "--validate-collection-refs", "self")
    run(programs / "antsibull-docs", "lint-collection-docs", *options, COLLECTION, **environment)
    say("antsibull-docs finds nothing wrong in the collection's documentation")
    options = ("--use-current", "--squash-hierarchy", "--fail-on-error", "--no-add-antsibull-docs-version")
    run(programs / "antsibull-docs", "collection", *options, "--dest-dir", reference, NAME, **environment)
    insert_pictures(source, pictures.make(source / "extra/pictures"))
    index(source)
    inventory(source / "ansible_devel.inv")
    shutil.copyfile(HERE / "conf.py", source / "conf.py")
    run(programs / "sphinx-build", "-q", "-b", "html", "-W", "--keep-going", "-d", place / "doctrees", source, site, **environment)
    pages, links = check(site)
    taken = "with" if (site / "pictures/report.png").exists() else "without"
    say(f"{pages} pages, whose {links} links within the site all lead somewhere, {taken} a picture of the report, in {site}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dest", type=Path, default=REPOSITORY / ".cache/docs", help="directory for what is made (default: .cache/docs)")
    parser.add_argument("--programs", type=Path, default=REPOSITORY / ".cache/docs-env/bin", help="directory of Sphinx and antsibull-docs")
    args = parser.parse_args()
    try:
        build(args.dest.resolve(), args.programs.resolve())
    except (Stop, OSError, subprocess.SubprocessError) as exc:
        print(f"docs: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
