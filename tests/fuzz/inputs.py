# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody should write, and what is nearly right: the strategies that the properties share."""

from __future__ import annotations

import copy

from hypothesis import strategies as st

ODD = [
    "", " ", "\0", "a\0b", "\ud800", "\udc80x", "\n", "a\nb", "\t", "\x1b[31m", "\u202e", "é",
    "\ufeff", "\u2028", "²", "٣", "🙂", "~", "~root", "$HOME", "${x", "{{ x }}", "%s", "%", "..",
    "../../precious", "../precious/file", "/", "//", ".", "-", "--", "*", "[", "[::1", "null", "true",
    "nan", "inf", "-1", "0", "1e999", "9" * 5000, "0x10", "x" * 300, "x" * 70000, "'", '"', "\\",
    ";", "`id`", "<a>", "None",
]  # fmt: skip
WORDS = [
    "a", "m", "model", "resnet-50", "1.0", "2.0rc1", "0" * 64, "ab" * 32, "0644", "u=rwx,go=r",
    "root", "nobody", "http://127.0.0.1:8080", "https://user:pw@store.example.com/x?y=z#f", "http://[::1]:1",
    "http://[1:2", "file:///nowhere", "unix:/x", "ftp://x", "http://x:99999", "http://" + "a" * 70 + ".example.com/",
    "http://ü.example.com/", "127.0.0.1:1", "[::1]:1", "x:99999", "a" * 70 + ".b:1", ".a:1", "10GiB",
    "1.5 MB", "auto", "4MiB", "64MiB", "dfdaemon.service", "cn-north-4", "handler.py", "handler:run",
    "image_classifier", "model.mar", "file", "*.txt", "present", "absent", "dfdaemon", "scheduler",
    "s3", "abcdefgh", "my-bucket", "AES256", "dGV4dA==", "{}", "[1]", "[0.5", "cpu", "gpu", "x86_64",
    "sha256", "us-east-1", "10%", "20%", "1",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 60, 3600, 8080, 65535, 65536, 2**31, 2**63, 10**30, -(10**30), 10**310]
FLOATS = [0.0, -0.0, 0.5, -1.5, 1e300, float("inf"), float("-inf"), float("nan")]

odd_texts = st.sampled_from(ODD) | st.text(max_size=20) | st.text(st.sampled_from("\0\n\t ../~$%\\\"'{}[]:@?#é\ud800a0-"), max_size=12)
texts = st.sampled_from(WORDS) | odd_texts
numbers = st.sampled_from(NUMBERS) | st.integers(-5, 100)
floats = st.sampled_from(FLOATS) | st.floats()
leaves = st.none() | st.booleans() | numbers | floats | texts
junk = (
    st.recursive(leaves, lambda below: st.lists(below, max_size=4) | st.dictionaries(texts, below, max_size=4), max_leaves=8)
    | st.integers(2, 150).map(lambda depth: nested([], depth))
    | st.integers(2, 150).map(lambda depth: nested({}, depth))
)


def nested(kind, depth):
    """Lists or dictionaries in one another."""
    found = kind
    for _turn in range(depth):
        found = [found] if isinstance(kind, list) else {"a": found}
    return found


def mostly(right, wrong=junk):
    """Nearly always ``right``: what is wrong in many places is refused for the first of them."""
    return st.integers(0, 11).flatmap(lambda turn: wrong if turn == 0 else right)


# What a service account's key file looks like.
ACCOUNT = {
    "type": "service_account",
    "client_email": "reader@fleet.iam.gserviceaccount.com",
    "private_key": "-----BEGIN {0}-----\nAAAA\n-----END {0}-----\n".format("PRIVATE KEY"),
}


def options_like(spec, paths, rules=None):
    """Values for an argument specification, nearly right."""
    rules = rules or {}
    need = {name for name, one in spec.items() if one.get("required")}
    for group in rules.get("required_one_of") or ():
        need.add(group[0])
    values = {name: mostly(value_like(name, one, paths)) for name, one in spec.items()}
    required = {name: values[name] for name in need}
    optional = {name: value for name, value in values.items() if name not in need}
    whole = st.fixed_dictionaries(required, optional=optional)
    for group in rules.get("mutually_exclusive") or ():
        whole = whole.map(lambda found, group=tuple(group): _with_one(found, group))
    return whole


def _with_one(found, group):
    """One of several options that exclude each other; which hangs on the others, so that each has its turn."""
    there = [name for name in group if name in found]
    stays = there[len(found) % len(there)] if there else None
    return {name: value for name, value in found.items() if name not in there or name == stays}


def value_like(name, option, paths):
    kind = option.get("type", "str")
    if option.get("choices"):
        one = st.sampled_from(list(option["choices"]))
        return st.lists(one, max_size=3) if kind == "list" else one
    if kind == "dict" and option.get("options") is not None:
        return options_like(option["options"], paths, option)
    if kind == "list":
        if option.get("options") is not None:
            return st.lists(options_like(option["options"], paths, option), max_size=3)
        return st.lists(value_like(name, {"type": option.get("elements", "raw")}, paths), max_size=3)
    if name in ("sha256", "jar_sha256") and kind == "str":
        return st.sampled_from(["0" * 64, "ab" * 32, "x"]) | texts
    if name == "service_account_json":
        return st.just(ACCOUNT) | junk
    if name in ("name", "version", "model", "model_name", "bucket", "container", "account_name") and kind == "str":
        return st.sampled_from(["m", "model", "1.0", "my-bucket", "fleet", "dfdaemon.service", "../precious", "a" * 101]) | texts
    return {
        "str": texts,
        "path": st.sampled_from(paths),
        "int": numbers,
        "float": floats | numbers,
        "bool": st.booleans(),
        "dict": st.dictionaries(texts, leaves, max_size=4),
        "json": junk,
    }.get(kind, junk)


@st.composite
def changed(draw, value):
    """JSON in which some places hold something else, or nothing."""
    value = copy.deepcopy(value)
    for _turn in range(draw(st.integers(0, 2))):
        places = []
        waiting = [value]
        while waiting:
            one = waiting.pop()
            found = list(one.items()) if isinstance(one, dict) else list(enumerate(one)) if isinstance(one, list) else []
            places += [(one, key) for key, _below in found]
            waiting += [below for _key, below in found]
        if not places:
            break
        holder, key = places[draw(st.integers(0, len(places) - 1))]
        if draw(st.integers(0, 3)) == 0:
            del holder[key]
        else:
            holder[key] = draw(junk)
    return draw(st.just(value) | junk) if draw(st.integers(0, 19)) == 0 else value


@st.composite
def damaged(draw, content):
    """Bytes of which some are others, or missing."""
    content = bytearray(content)
    for _turn in range(draw(st.integers(0, 4))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    if draw(st.integers(0, 5)) == 0:
        del content[draw(st.integers(0, len(content))) :]
    return bytes(content)
