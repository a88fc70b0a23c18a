# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the site of the documentation is put together and looked at, without the programs that `make docs` installs."""

from __future__ import annotations

import xml.etree.ElementTree

import build_site
import pictures
import pytest

GOOD = {
    "index.html": '<a href="a/one.html#here">one</a><a href="https://example.com">elsewhere</a><img src="a/p.svg">',
    "a/one.html": '<h1 id="here">One</h1><a href="#here">up</a><a href="../index.html">first</a>',
    "a/p.svg": "<svg/>",
    "a/s.css": "@import 'theme.css'; a {background: url(p.svg)}",
}


@pytest.fixture
def site(tmp_path):
    def make(files):
        for name, text in {**GOOD, **files}.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path

    return make


def test_a_site_that_is_whole(site):
    assert build_site.check(site({})) == (2, 4)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a/two.html", '<a href="none.html">', "a/two.html leads to none.html, which is not there"),
        ("a/two.html", '<a href="one.html#there">', "a/two.html leads to one.html#there, a place that is not there"),
        ("a/two.html", '<a href="#there">', "a/two.html leads to #there, a place that is not there"),
        ("a/two.html", '<img src="q.png">', "a/two.html leads to q.png, which is not there"),
        ("a/two.html", '<script src="//cdn.example.com/a.js"></script>', "a/two.html loads //cdn.example.com/a.js"),
        (
            "a/two.html",
            '<link rel="stylesheet" href="https://fonts.example.com/a.css">',
            "a/two.html loads https://fonts.example.com/a.css",
        ),
        ("a/t.css", "@import 'https://fonts.example.com/a.css'", "a/t.css loads https://fonts.example.com/a.css"),
        ("a/t.css", 'a {background: url("https://example.com/a.png")}', "a/t.css loads https://example.com/a.png"),
    ],
)
def test_a_site_that_is_not(site, name, text, said):
    with pytest.raises(build_site.Stop) as stopped:
        build_site.check(site({name: text}))
    assert str(stopped.value).splitlines()[1:] == [said]


def test_everything_that_is_linked_is_collected(tmp_path):
    build_site.collect(tmp_path)
    guides = {path.name for path in (build_site.COLLECTION / "docs").glob("*.md")}
    assert {path.name for path in (tmp_path / "docs").glob("*.md")} == guides
    assert (tmp_path / "docs/rollout_report.schema.json").exists() and (tmp_path / "roles/torchserve/files/aot_handler.py").exists()
    build_site.insert_pictures(tmp_path, dict.fromkeys(("rollout", "report"), "<img>"))
    with pytest.raises(build_site.Stop, match=r"show the pictures \[\], and there are \['other'\]"):
        build_site.insert_pictures(tmp_path, {"other": "<img>"})
    build_site.index(tmp_path)
    first = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert "](docs/first_fleet.md)" in first and "](first_fleet.md)" not in first
    named = [line for line in first.splitlines() if line.startswith("docs/") and not line.startswith("docs/runbooks/")]
    assert "\ndocs/runbooks/ModelFleetDiskFull\n" in first
    assert {f"{page.removeprefix('docs/')}.md" for page in named} == guides - {"README.md"}
    assert first.index("\ndocs/architecture\n") < first.index("\ndocs/rollout\n") < first.index("\ndocs/developing\n")


def test_pictures_are_made_with_and_without_a_browser(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "browser", lambda: None)
    shown = pictures.make(tmp_path)
    drawing = xml.etree.ElementTree.parse(tmp_path / "rollout.svg").getroot()
    texts = [element.text for element in drawing if element.tag.endswith("text")]
    assert "gpu-3" in texts and "⠋ Activate in batches, batch 2 of 3" in " ".join(texts) and drawing.get("viewBox")
    assert any("resnet50 1.0 → 2.0, 1 finished" in text for text in texts)
    assert "no browser was there" in shown["report"] and not (tmp_path / "report.png").exists()
    before = (tmp_path / "report.html").read_bytes()
    program = tmp_path / "browser"
    program.write_text('#!/bin/sh\nfor word; do case $word in --screenshot=*) echo picture > "${word#*=}";; esac; done\n')
    program.chmod(0o755)
    monkeypatch.setattr(pictures, "browser", lambda: str(program))
    assert "report.png" in pictures.make(tmp_path)["report"]
    assert (tmp_path / "report.png").exists() and (tmp_path / "report.html").read_bytes() == before, "the same page each time"
    program.write_text("#!/bin/sh\necho no display\n")
    (tmp_path / "report.png").unlink()
    with pytest.raises(OSError, match="no display"):
        pictures.make(tmp_path)
