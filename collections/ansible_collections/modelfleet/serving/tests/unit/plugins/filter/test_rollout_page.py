# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from ansible_collections.modelfleet.serving.plugins.filter.rollout_page import FilterModule
from ansible_collections.modelfleet.serving.plugins.filter.rollout_report import rollout_report
from ansible_collections.modelfleet.serving.plugins.module_utils._rollout_phases import PHASES
from ansible_collections.modelfleet.serving.plugins.plugin_utils._rollout_page import KIND_OF
from ansible_collections.modelfleet.serving.tests.unit.plugins.rollout_facts import GATE, host

rollout_page = FilterModule().filters()["rollout_page"]
EVIL = '<script>alert("1")</script>&"\'<img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """The elements and the text of a page; one that is not closed is a mistake."""

    EMPTY = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def traffic(new=26.0, ok=True, model="demo"):
    return {
        **GATE,
        "model": model,
        "gate": "traffic",
        "ok": ok,
        "saw": f"p95 {new} ms",
        "allowed": "p95 56 ms",
        "old": {"requests": 1200, "errors": 0, "p95_ms": 24.0},
        "new": {"requests": 1180, "errors": 0, "p95_ms": new},
    }


def fleet(count, **facts):
    names = [f"gpu-{number}" for number in range(1, count + 1)]
    return names, {name: host(gates=[GATE, traffic()], **facts) for name in names}


def page_of(hosts, names, batches=()):
    return Page(rollout_page(rollout_report(hosts, "rollout", 1020.0, names, batches)))


@pytest.mark.parametrize("count", [1, 3, 50, 200])
def test_every_host_is_in_every_part(count):
    names, hosts = fleet(count)
    page = page_of(hosts, names, [names[:1], names[1:]])
    text = "\n".join(page.text)
    assert f"Done. demo 1.0 → 2.0: {count} activated, of {count}." in text
    tiles = [attributes["title"] for attributes in page.named("li")]
    assert tiles == [f"{name}: activated" for name in names]
    bars = page.named("rect")
    assert len(bars) == 3 * count and {bar["class"] for bar in bars} == {"prepare", "bring", "load"}
    assert len(page.named("circle")) == 2 * count
    for name in names:
        assert text.count(f"{name}, ready: 5.5 s, from 0:10") == 1
        assert text.count(f"{name}: 24.0 ms, then 26.0 ms") == 1
    height = float(page.named("svg")[0]["viewbox"].split()[3])
    assert max(float(bar["y"]) + float(bar["height"]) for bar in bars) <= height
    assert all(float(bar["x"]) >= 130 and float(bar["x"]) + float(bar["width"]) <= 985 for bar in bars)


def test_it_loads_nothing_and_runs_nothing():
    names, hosts = fleet(3)
    text = rollout_page(rollout_report(hosts, "rollout", 1020.0, names, [names]))
    page = Page(text)
    assert not re.search(r"https?:|//|url\(|@import", text)
    assert not {tag for tag, _attributes in page.elements} & {"script", "link", "img", "iframe", "object", "use", "image"}
    assert not [name for _tag, attributes in page.elements for name in attributes if name.startswith("on") or name in ("src", "href")]
    policy = next(one["content"] for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_what_hosts_say_is_text():
    gates = [{**traffic(90.0, False, model=EVIL), "saw": EVIL, "allowed": EVIL, "version": EVIL, "gate": EVIL}]
    timeline = [{"phase": EVIL, "at": 1000.0}, {"phase": "idle", "at": 1010.0, "failed": True}]
    plan = [{"name": EVIL, "from": EVIL, "version": EVIL}]
    hosts = {EVIL: host(gates=gates, problem=EVIL, outcome=EVIL, plan=plan, timeline=timeline)}
    safe, _hosts = fleet(1)
    plain = page_of({safe[0]: host(gates=[traffic(90.0, False)], problem="x", timeline=timeline)}, safe, [safe])
    page = page_of(hosts, [EVIL], [[EVIL]])
    assert {tag for tag, _attributes in page.elements} == {tag for tag, _attributes in plain.elements}
    assert not [name for _tag, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "".join(page.text).count(EVIL) >= 10
    assert f"{EVIL}: {EVIL}" in [attributes["title"] for attributes in page.named("li") if "title" in attributes]


def test_what_stopped_it_stands_first():
    names, hosts = fleet(50)
    for name in names[1:]:
        hosts[name].update(outcome="untouched", gates=[], timeline=[])
    wrong = "Stop at the gate: traffic: demo: p95 91.0 ms."
    failed = [{"phase": "traffic", "at": 1010.0}, {"phase": "idle", "at": 1015.0, "failed": True}, {"phase": "undo", "at": 1016.0}]
    hosts["gpu-1"].update(outcome="went back", gates=[GATE, traffic(91.0, False)], problem=wrong, timeline=failed)
    page = page_of(hosts, names, [names[:1], names[1:]])
    text = "\n".join(page.text)
    assert "Failed. demo 1.0 → 2.0: 49 untouched, 1 went back, of 50." in text
    assert text.index("What stopped it") < text.index("p95 91.0 ms") < text.index("Timeline")
    assert [one for one in page.named("p") if one.get("class") == "verdict bad"]
    tiles = {one["title"]: one["class"] for one in page.named("li") if "title" in one}
    assert tiles["gpu-1: went back"] == "back cause" and tiles["gpu-2: untouched"] == "calm"
    assert "gpu-1 failed at traffic" in text and [one for one in page.named("path") if one["class"] == "mark"]
    assert [one["class"] for one in page.named("circle")].count("new over") == 1
    assert "back" in {bar["class"] for bar in page.named("rect")}


def test_every_phase_has_its_colour():
    assert set(PHASES) - {"reach"} <= set(KIND_OF)
    style = rollout_page(rollout_report(fleet(1)[1], "rollout", 1020.0, ["gpu-1"])).partition("</style>")[0]
    for kind in KIND_OF.values():
        assert f".{kind} {{ fill" in style or f".{kind}, ." in style, kind


def test_bytes_by_source_over_time():
    names, hosts = fleet(2)
    hosts["gpu-2"]["brought"] = {**hosts["gpu-2"]["brought"], "began": 1005.25}
    page = page_of(hosts, names)
    areas = {one["class"]: one["points"].split() for one in page.named("polygon")}
    assert set(areas) == {"origin", "remote_peer", "local_peer"}
    edge = {source: [tuple(map(float, point.split(","))) for point in points[:101]] for source, points in areas.items()}
    assert edge["origin"][0][1] == edge["remote_peer"][0][1] == 192.0, "nothing in the beginning"
    heights = [192.0 - y for _x, y in edge["remote_peer"]]
    assert heights == sorted(heights) and heights[-1] == max(heights)
    # After 2 of 6 seconds one host has half, the other begins: a quarter of all.
    assert heights[33] == pytest.approx(heights[-1] / 4, rel=0.05)
    assert [one["class"] for one in page.named("i")].count("origin") == 1 and "2 B from the object store" in "\n".join(page.text)


def test_what_is_not_known_is_left_out():
    names, hosts = fleet(2)
    for one in hosts.values():
        one.update(brought={}, gates=[], timeline=[], plan=[], outcome="untouched")
    page = page_of(hosts, names)
    text = "\n".join(page.text)
    assert "Nothing had to change." in text and not page.named("polygon") and not page.named("circle") and not page.named("rect")
    assert "What came from where" not in text and "Latency" not in text
    hosts["gpu-1"]["gates"] = [{**traffic(), "old": {"requests": 0, "errors": 0, "p95_ms": 0}}]
    assert len(page_of(hosts, names).named("circle")) == 1, "no old version to compare with"
