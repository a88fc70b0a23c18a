# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Triton's unit and the format of its models. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import re
from typing import NamedTuple

from ansible_collections.modelfleet.serving.plugins.module_utils import _systemd
from ansible_collections.modelfleet.serving.plugins.module_utils._files import read_text
from ansible_collections.modelfleet.serving.plugins.module_utils._text import SECRET_NAME

HOST = "127.0.0.1"
UNIT = "triton.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
CONFIG = "config.pbtxt"
# The last release with the holes below: 2.59.0 is that of the container 25.06.
LAST_BROKEN = (2, 59, 0)
OLDEST_CONTAINER = (25, 7)
HOLES = "CVE-2025-23319, CVE-2025-23320 and CVE-2025-23334, by which whoever reaches it runs code in it"
NEWER = "take the container 25.07 or newer, or its /opt/tritonserver"
OWNED_ENVIRONMENT = {"HOME": "must be the directory that the unit lets Triton write to; leave it out"}
# What the unit says itself, and everything here relies on.
OWNED_OPTIONS = {
    *("model-repository", "model-store", "model-control-mode", "model-namespacing", "model-config-name", "load-model", "backend-directory"),
    *("http-address", "http-port", "grpc-address", "grpc-port", "metrics-address", "metrics-port", "allow-http"),
    *("exit-on-error", "strict-readiness"),
}
PORTS = ("triton_http_port", "triton_grpc_port", "triton_metrics_port")
_SECTION = re.compile(r"^\[X-ModelFleet\]\nHttp=([0-9]{4,5})\nHoles=(refused|accepted)\n?\Z", re.MULTILINE)
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:-]*@sha256:[0-9a-f]{64}")


class Unit(NamedTuple):
    """What the unit of this host says: where Triton answers, and whether one with known holes may."""

    port: int
    accepts_holes: bool

    @property
    def url(self):
        return f"http://{HOST}:{self.port}"


def read_unit():
    """The Unit of this host, None without one."""
    found = _SECTION.search(read_text(UNIT_FILE) or "")
    return Unit(int(found[1]), found[2] == "accepted") if found else None


# Releases


def release_problem(version):
    """What is wrong with the release that a server or its file TRITON_VERSION names (str), in words; None for a good one."""
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})\.([0-9]{1,4})([A-Za-z.-].*)?", str(version).strip(), re.ASCII)
    if not found:
        return f"has the release {str(version)[:60]!r}, which is none that can be compared; {NEWER}"
    if tuple(int(part) for part in found.groups()[:3]) <= LAST_BROKEN:
        return f"has the release {'.'.join(found.groups()[:3])}, with {HOLES}; {NEWER}"
    return None


def image_problem(image):
    """What is wrong with the name of an image (str), None for a good one. A name without a release is asked when it runs."""
    if not _IMAGE.fullmatch(image):
        return f"is not the name of an image with its digest ('{image}'); write it as in nvcr.io/nvidia/tritonserver:25.07-py3@sha256:…"
    tag = re.search(r":([0-9]{2})\.([0-9]{2})(?:-[^@]*)?@", image)
    if tag and (int(tag[1]), int(tag[2])) < OLDEST_CONTAINER:
        return f"is the container {tag[1]}.{tag[2]}, with {HOLES}; take 25.07 or newer"
    return None


def settings_problems(settings):
    """Yield what the unit could not be made of; ``settings`` are the variables of the roles."""
    home, image = settings.get("triton_home"), settings.get("triton_image")
    if image:
        problem = None if settings.get("triton_accept_known_holes") is True and _IMAGE.fullmatch(str(image)) else image_problem(str(image))
        if problem:
            yield f"The triton_image {problem}."
    elif "triton_home" in settings and not re.fullmatch(r"/(opt|usr)(/[A-Za-z0-9._+-]+)+", str(home), re.ASCII):
        yield f"The triton_home is not a directory below /opt or /usr ('{home}'), which a unit would see; put Triton there."
    options = settings.get("triton_options") or []
    if not isinstance(options, (list, tuple)):
        yield "The triton_options is not a list; make each option an element."
        options = []
    for number, option in enumerate(options, 1):
        problem = _systemd.problem(option)
        name = str(option).lstrip("-").partition("=")[0]
        if problem:
            yield f"The option {number} in triton_options {problem}."
        elif name in OWNED_OPTIONS:
            yield f"The option --{name} in triton_options is what the unit says itself; leave it out."
        elif SECRET_NAME.search(name):
            yield f"The option --{name} in triton_options is a secret by its name, and everyone may read a unit; leave it out."
    ports = {}
    for variable in PORTS:
        port = str(settings.get(variable, ""))
        if variable not in settings:
            continue
        if not re.fullmatch(r"[0-9]{4,5}", port, re.ASCII) or not 1024 <= int(port) <= 65535:
            yield f"The {variable} is not a port ('{port}'); write a number from 1024 to 65535."
        elif ports.setdefault(port, variable) != variable:
            yield f"The {variable} is that of {ports[port]} ({port}); give each its own."


# Models


class Unreadable(Exception):
    """Why a config.pbtxt is not read."""


class Quoted(str):
    """A text in quotes, unlike a word or a number."""


_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*(?:\n|\Z))*
    (?:(?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<word>-?[A-Za-z0-9_.][A-Za-z0-9_.]*(?:(?<=[eE])[+-][0-9]+)?)
    |(?P<mark>[{}\[\]<>:,;])
    |(?P<end>\Z))""",
    re.VERBOSE,
)
_DEEPEST = 50
_CLOSES = {"{": "}", "<": ">"}
_KINDS = {"0": "KIND_AUTO", "1": "KIND_GPU", "2": "KIND_CPU", "3": "KIND_MODEL"}


class _Text:
    """Protocol buffers in text: what Triton itself reads, without names of extensions, which no configuration has."""

    def __init__(self, text):
        self.text = text
        self.at = 0
        self.next()

    def next(self):
        found = _TOKEN.match(self.text, self.at)
        if not found:
            raise Unreadable(f"line {self.line} cannot be read")
        self.at = found.end()
        self.kind, self.token = found.lastgroup, found[found.lastgroup]

    @property
    def line(self):
        return self.text.count("\n", 0, self.at) + 1

    def take(self):
        taken = self.token
        self.next()
        return taken

    def is_mark(self, *marks):
        return self.kind == "mark" and self.token in marks

    def message(self, closes=None, depth=0):
        """{name: [values]} up to the mark that ``closes`` it, or the end."""
        if depth > _DEEPEST:
            raise Unreadable(f"line {self.line} is in more than {_DEEPEST} blocks")
        found = {}
        while not (self.is_mark(closes) if closes else self.kind == "end"):
            if self.kind != "word" or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", self.token):
                raise Unreadable(f"line {self.line} has no name of a field where one must be")
            name = self.take()
            colon = self.is_mark(":")
            if colon:
                self.next()
            if not colon and not self.is_mark("{", "<", "["):
                raise Unreadable(f"line {self.line} has no value for {name[:60]}")
            found.setdefault(name, []).extend(self.values(colon, depth))
            if self.is_mark(",", ";"):
                self.next()
        self.next()
        return found

    def values(self, scalars, depth):
        if not self.is_mark("["):
            return [self.value(scalars, depth)]
        self.next()
        found = []
        while not self.is_mark("]"):
            found.append(self.value(scalars, depth))
            if self.is_mark(","):
                self.next()
                if not self.is_mark("]"):
                    continue
                raise Unreadable(f"line {self.line} has a list that ends with a comma")
            if not self.is_mark("]"):
                raise Unreadable(f"line {self.line} has a list without its end")
        self.next()
        return found

    def value(self, scalar, depth):
        if self.is_mark("{", "<"):
            return self.message(_CLOSES[self.take()], depth + 1)
        if scalar and self.kind == "word":
            return self.take()
        if scalar and self.kind == "text":
            parts = []
            # Texts that follow each other are one.
            while self.kind == "text":
                parts.append(self.take()[1:-1])
            return Quoted("".join(parts))
        raise Unreadable(f"line {self.line} has no value where one must be")


def parse_config(text):
    """{name: [values]} of a config.pbtxt; a value is a dictionary like that, a word or a number (str), or Quoted. Raises Unreadable."""
    return _Text(text).message()


def _one_text(config, name):
    """The text of a field that is there once at most. Raises Unreadable."""
    values = config.get(name, [])
    if len(values) > 1:
        raise Unreadable(f"it has {name} {len(values)} times")
    if values and (not isinstance(values[0], Quoted) or "\\" in values[0] or not values[0].isprintable()):
        raise Unreadable(f"its {name} is no plain text in quotes")
    return str(values[0]) if values else ""


def device_kinds(config):
    """The kinds of a configuration's instance groups, an empty set where Triton chooses. Raises Unreadable."""
    groups, kinds = config.get("instance_group", []), set()
    for group in groups:
        values = group.get("kind", ["KIND_AUTO"]) if isinstance(group, dict) else [None]
        kind = _KINDS.get(values[0], values[0]) if len(values) == 1 and isinstance(values[0], str) else None
        if kind not in _KINDS.values():
            raise Unreadable("an instance_group of it has a kind that is none of Triton's")
        kinds.add(kind)
    return kinds


def version_of(paths):
    """(the number by which Triton names what a bundle with the files ``paths`` has, None) or (None, what is wrong, with the remedy)."""
    numbers = sorted({path.split("/")[0] for path in paths if re.fullmatch(r"[1-9][0-9]{0,17}/.+", path)}, key=int)
    if CONFIG not in paths:
        return None, f"has no {CONFIG}; publish the directory of the model with {CONFIG} and one directory of a version in it"
    if not numbers:
        return None, "has no directory of a version, such as 1; put the model's files into one and publish it again"
    if len(numbers) > 1:
        return None, (
            f"has the directories {', '.join(numbers[:5])} of several versions, and a version here is one; publish each as a version of "
            "its own"
        )
    return numbers[0], None


def config_problem(text, name, device):
    """What of a config.pbtxt (str) does not fit the model ``name`` on the ``device``, in words with the remedy; None for a good one."""
    try:
        config = parse_config(text)
        named, backend, platform = (_one_text(config, key) for key in ("name", "backend", "platform"))
        kinds = device_kinds(config)
    except Unreadable as exc:
        return f"has a {CONFIG} that cannot be read: {exc}; correct it and publish the model again"
    if named and named != name:
        return f"has the name {named[:100]} in its {CONFIG}; call the model so in modelfleet_models, or leave the name out of the file"
    if not backend and not platform:
        return f"has no backend and no platform in its {CONFIG}, so that nothing would load it; add one"
    if device == "cpu" and "KIND_GPU" in kinds:
        return (
            f"has an instance_group of KIND_GPU in its {CONFIG}, and its device is cpu; give the model device gpu, or publish one for CPUs"
        )
    if device == "gpu" and kinds == {"KIND_CPU"}:
        return (
            f"has an instance_group of KIND_CPU only in its {CONFIG}, and its device is gpu; give the model device cpu, or publish one "
            "for GPUs"
        )
    return None
