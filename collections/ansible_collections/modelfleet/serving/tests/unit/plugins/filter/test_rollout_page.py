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
from ansible_collections.modelfleet.serving.plugins.plugin_utils._run_view import counted
from ansible_collections.modelfleet.serving.tests.unit.plugins.rollout_facts import GATE, host

rollout_page = FilterModule().filters()["rollout_page"]
EVIL = '<script>alert("1")</script>&"\'<img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """The elements and the text of a page; one that is not closed is a mistake."""

    EMPTY = ("meta", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        # Of each drawing the attributes of its texts, and of each row of a table the texts of its cells.
        self.drawings, self.rows = [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "svg":
            self.drawings.append([])
        if tag == "text":
            self.drawings[-1].append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "tr" in self.open and data.strip():
            self.rows[-1].append(data)

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


def timeline(*marks, failed=()):
    """A timeline of (phase, seconds); the ``failed`` ones (seconds) say so of what ended there."""
    return [{"phase": phase, "at": 1000.0 + at, **({"failed": True} if at in failed else {})} for phase, at in marks]


def page_of(hosts, names, batches=()):
    return Page(rollout_page(rollout_report(hosts, "rollout", 1020.0, names, batches)))


@pytest.mark.parametrize("count", [1, 3, 50, 200])
def test_every_host_is_in_every_part(count):
    names, hosts = fleet(count)
    page = page_of(hosts, names, [names[:1], names[1:]])
    text = "\n".join(page.text)
    assert "Done." in page.text and f"demo 1.0 → 2.0: {count} activated, of {counted(count, 'host')}." in page.text
    tiles = [attributes["title"] for attributes in page.named("li")]
    assert tiles == [f"{name}: activated" for name in names]
    bars = page.named("rect")
    assert len(bars) == 3 * count and {part["class"] for part in bars} == {"prepare", "bring", "load"}
    assert len(page.named("circle")) == 2 * count
    for name in names:
        assert text.count(f"{name}, ready: 5.5 s, from 0:10") == 1
        assert text.count(f"{name}: 24.0 ms, then 26.0 ms") == 1
    height = float(page.named("svg")[0]["viewbox"].split()[3])
    assert max(float(part["y"]) + float(part["height"]) for part in bars) <= height
    assert all(float(part["x"]) >= 80 and float(part["x"]) + float(part["width"]) <= 985 for part in bars)


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
    marks = timeline((EVIL, 0), ("idle", 10), failed=[10])
    plan = [{"name": EVIL, "from": EVIL, "version": EVIL}]
    hosts = {EVIL: host(gates=gates, problem=EVIL, outcome=EVIL, plan=plan, timeline=marks)}
    safe, _hosts = fleet(1)
    plain = page_of({safe[0]: host(gates=[traffic(90.0, False)], problem="x", timeline=marks)}, safe, [safe])
    page = page_of(hosts, [EVIL], [[EVIL]])
    assert {tag for tag, _attributes in page.elements} == {tag for tag, _attributes in plain.elements}
    assert not [name for _tag, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "".join(page.text).count(EVIL) >= 10
    assert f"{EVIL}: {EVIL}" in [attributes["title"] for attributes in page.named("li") if "title" in attributes]


WRONG = "Stop at the gate: traffic: demo: p95 91.0 ms, allowed: p95 56 ms."
BACK = (("traffic", 10), ("idle", 15), ("undo", 16), ("idle", 18))


def gone_back(count, *failed):
    """A fleet whose second batch went back because ``failed`` hosts of it did not pass the gate traffic."""
    names, hosts = fleet(count)
    for name in names[11:]:
        hosts[name].update(outcome="untouched", gates=[], timeline=[])
    for name in names[1:11]:
        hosts[name].update(outcome="went back", timeline=timeline(*BACK))
    for name in failed:
        hosts[name].update(gates=[GATE, traffic(91.0, False)], problem=WRONG, timeline=timeline(*BACK, failed=[15]))
    return hosts, names, [names[:1], names[1:11], names[11:]]


def test_what_stopped_it_stands_first():
    page = page_of(*gone_back(50, "gpu-7"))
    text = "\n".join(page.text)
    assert "Failed in batch 2 of 3: gpu-7, at traffic." in page.text
    assert "demo 1.0 → 2.0: 10 went back, 1 activated, 39 untouched, of 50 hosts." in page.text
    assert text.index("What went wrong") < text.index("demo 2.0: p95 91.0 ms") < text.index("Timeline")
    assert [one["class"] for one in page.named("p") if "verdict" in one.get("class", "")] == ["verdict bad"]
    assert "batch 2, went back" in page.text
    before, after = text.split("Timeline")
    assert WRONG not in before and WRONG in after, "the gate says it already"
    tiles = [(one["title"], one["class"]) for one in page.named("li") if "title" in one]
    assert tiles[:3] == [("gpu-1: activated", "good"), ("gpu-7: went back", "back cause"), ("gpu-2: went back", "back")]
    assert tiles[-1] == ("gpu-50: untouched", "calm")
    assert "gpu-7 failed at traffic" in page.text and len([one for one in page.named("path") if one["class"] == "mark"]) == 1
    assert [one["class"] for one in page.named("circle")].count("new over") == 1
    assert "back" in {part["class"] for part in page.named("rect")}
    assert [row[0] for row in page.rows if row[0] in ("gpu-1", "gpu-7")] == 2 * ["gpu-7", "gpu-1"], "the tables begin with it"


def test_no_name_lies_on_another_one():
    hosts, names, batches = gone_back(200, "gpu-4", "gpu-5", "gpu-6")
    for name in names:
        hosts[name]["gates"] = [traffic(91.0, False)] if name in ("gpu-4", "gpu-5", "gpu-6", "gpu-200") else [traffic()]
    page = page_of(hosts, names, batches)
    rows, points = ([one for one in page.drawings[at] if one.get("class") in ("wrong", "name", "title")] for at in (0, -1))
    # Those that failed have a name, and each batch has a title.
    assert [one["class"] for one in rows] == 3 * ["title"] + 4 * ["wrong"]
    ys = sorted(float(one["y"]) for one in rows)
    assert all(after - before >= 11 for before, after in zip(ys, ys[1:]))
    # Below the latencies the neighbours of gpu-4 have none.
    assert [one["class"] for one in points] == 2 * ["wrong"] and points[-1]["text-anchor"] == "end"


def test_what_went_wrong_is_said_once_with_all_its_hosts():
    names, hosts = fleet(60)
    for name in names:
        hosts[name].update(outcome="untouched", gates=[], brought={}, plan=[], timeline=timeline(("check", 0)))
    for name in names[::2]:
        hosts[name]["problem"] = "Reach the host: unreachable"
    hosts["scheduler-1"] = {"problem": "no disk"}
    page = page_of(hosts, names)
    said = "".join(page.text).partition("Timeline")[0]
    assert "Failed before the first change: gpu-1, gpu-3, gpu-5 and 27 more, at check." in page.text
    assert said.count("Reach the host: unreachable") == 1 and "gpu-13, gpu-15 and 22 more" in said
    assert "scheduler-1" in page.text and "no disk" in said, "it is no GPU host"
    page = page_of({**fleet(1)[1], "scheduler-1": {"problem": "no disk"}}, ["gpu-1"])
    assert "Failed on scheduler-1." in page.text


def test_a_host_that_could_not_go_back_says_both():
    hosts, names, batches = gone_back(20, "gpu-3")
    hosts["gpu-3"].update(outcome="NOT UNDONE", problem="Reach the host: no route")
    page = page_of(hosts, names, batches)
    said = "".join(page.text).partition("Timeline")[0]
    assert "demo 2.0: p95 91.0 ms" in said and "Reach the host: no route" in said
    assert "demo 1.0 → 2.0: 1 NOT UNDONE, 9 went back, 1 activated, 9 untouched, of 20 hosts." in page.text
    assert {one["title"]: one["class"] for one in page.named("li") if "title" in one}["gpu-3: NOT UNDONE"] == "bad cause"


def test_what_is_allowed_everywhere_is_said_once():
    names, hosts = fleet(3)
    text = "\n".join(page_of(hosts, names, [names]).text)
    assert text.count("allowed: 1 worker READY") == 1 and text.count("p95 56 ms") == 1
    hosts["gpu-2"]["gates"] = [GATE, {**traffic(), "allowed": "p95 57 ms"}]
    text = "\n".join(page_of(hosts, names, [names]).text)
    assert text.count("p95 56 ms") == 2 and text.count("p95 57 ms") == 1


def test_each_gate_names_its_model_where_there_are_two():
    names, hosts = fleet(1)
    one = hosts["gpu-1"]
    assert "demo: 1 worker READY" not in "".join(page_of(hosts, names, [names]).text)
    one["plan"] = [*one["plan"], {**one["plan"][0], "name": "other"}]
    one["gates"] = [GATE, {**GATE, "model": "other"}]
    text = "".join(page_of(hosts, names, [names]).text)
    assert "demo: 1 worker READY" in text and "other: 1 worker READY" in text


def test_times_stand_at_round_numbers():
    names, hosts = fleet(2)
    page = page_of(hosts, names)
    assert {"0:00", "0:05", "0:10", "0:15", "0:20", "min:s"} <= {text.strip() for text in page.text}
    # The hosts fetched from 3.25 s to 7.25 s.
    assert {"0:04", "0:05", "0:06", "0:07"} <= {text.strip() for text in page.text}


def test_the_look_after_the_watching_is_no_second_loading():
    names, hosts = fleet(1)
    hosts["gpu-1"].update(brought={}, timeline=timeline(("ready", 0), ("switch", 1), ("traffic", 2), ("ready", 3), ("idle", 4)))
    assert [part["class"] for part in page_of(hosts, names).named("rect")] == ["load", "traffic", "traffic", "traffic"]


def test_it_is_small():
    names, hosts = fleet(200)
    for one in hosts.values():
        one["timeline"] = timeline(*((phase, at) for at, phase in enumerate(["check", "plan", *PHASES])))
    assert len(rollout_page(rollout_report(hosts, "rollout", 1030.0, names, [names[:1], names[1:]])).encode()) < 1 << 20


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


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["gpu-1.r1.dc1.example.com", "gpu-2.r2.dc1.example.com"], ["gpu-1.r1", "gpu-2.r2"]),
        (["gpu-1.example.com"], ["gpu-1.example.com"]),
        (["10.0.1.5", "10.0.2.5"], ["10.0.1.5", "10.0.2.5"]),
        (["example.com", "gpu-2.example.com"], ["example", "gpu-2.example"]),
    ],
)
def test_a_domain_that_all_have_is_left_out_of_the_drawings(names, shown):
    page = page_of({name: host(gates=[traffic()]) for name in names}, names)
    assert [one["title"] for one in page.named("li")] == [f"{name}: activated" for name in names]
    hosts = {name: host(problem="It is down.", outcome="untouched", gates=[], brought={}) for name in names}
    assert f"Failed on {', '.join(shown)}." in page_of(hosts, names).text
    # Tile, row of the timeline, column of the latencies; the tables and titles have the whole name.
    assert all(page.text.count(text) >= 3 for text in shown)
    assert all(f"{name}: 24.0 ms, then 26.0 ms" in page.text and name in [row[0] for row in page.rows] for name in names)


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
