# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small files of a hub that the controller gets for its hosts, each once in a run.

PRIVATE to the collection: it can have breaking changes at any time.

They are in Ansible's own temporary directory, which all processes of a run have in common and which goes with it. Whether a host may have a
file is what that proves before.
"""

from __future__ import annotations

import fcntl
import hashlib
import ipaddress
import os
import random
import tempfile
import time
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface import (
    OPTIONS,
    Hub,
    HubError,
    files_of,
    options_problem,
    source_problem,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._huggingface_pack import fitting

_DIRECTORY = "modelfleet-huggingface"
_SPEC = {"huggingface": {"type": "dict", "options": OPTIONS, "required": True}}
# What the controller does not get soon, every host gets itself.
_PATIENCE_S = 5
# For how long nobody asks again for what did not come: the time in which a hub counts requests.
_REMEMBERED_S = 300


class Brought(NamedTuple):
    """{git_sha1: path}, how often the hub was asked, why not all came, in a sentence, or None, and sentences on endpoints."""

    files: dict
    requests: int
    problem: str | None
    warnings: list


def bring(top, args, said, local):
    """Have what a host says it lacks, as model_artifact returns it, in the temporary directory ``top`` of the controller; returns Brought.

    ``args`` are those of the module, and ``local`` is whether it runs on this machine. Of what the host says, only what is pinned for it
    is asked for, with its token.
    """
    hub, files, problem = None, {}, None
    try:
        hub = Hub(_options(args, local))
        shelf = _Shelf(top, hub)
        wanted = _wanted(args, said)
        # In another order each, those who want the same at once share the work.
        for repo, commit, file in random.sample(wanted, len(wanted)):
            try:
                files[file.git_sha1] = shelf.get(repo, commit, file)
            except ModelFleetError as exc:
                problem = problem or str(exc)
    except ModelFleetError as exc:
        problem = str(exc)
    except OSError as exc:
        problem = f"Failed to keep them in {top} on the controller: {exc.strerror}."
    return Brought(files, hub.requests if hub else 0, problem, hub.warnings if hub else [])


def _options(args, local):
    given = args.get("huggingface")
    if isinstance(given, dict):
        given = {name: value for name, value in given.items() if value is not None and name != "ca_path"}
    checked = ArgumentSpecValidator(_SPEC).validate({"huggingface": given})
    options = checked.validated_parameters["huggingface"]
    problem = "it is none that the module takes" if checked.error_messages else options_problem(options)
    if problem:
        raise ModelFleetError(f"Failed to use the option huggingface: {problem}.")
    # Who listens there on the controller is somebody else, and gets no token.
    options["endpoint"] = [one for one in options["endpoint"] if local or not _is_loopback(one)]
    if not options["endpoint"] or options_problem(options):
        raise ModelFleetError("The endpoint is one that only the host itself can ask. Set huggingface_small to host.")
    return {**options, "ca_path": args.get("huggingface_small_ca_path")}


def _is_loopback(endpoint):
    host = urlsplit(endpoint).hostname
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wanted(args, said):
    """[(repo, commit, HubFile)] of what a host says it lacks, as far as one pack takes it. A host can say anything."""
    lacking = {}
    listed = [one["huggingface"] for one in _dicts(args.get("artifacts")) if isinstance(one.get("huggingface"), dict)]
    for one in _dicts(said):
        repo, commit, names = one.get("repo"), one.get("revision"), one.get("git_sha1")
        if source_problem({"repo": repo, "revision": commit}) or not isinstance(names, list):
            raise ModelFleetError("Failed to read what the host lacks: it is no list as the module makes it.")
        if not any((source.get("repo"), source.get("revision")) == (repo, commit) for source in listed):
            raise ModelFleetError(f"The host asks for files of {repo} at {commit}, which is none of its artifacts.")
        names = {name for name in names if isinstance(name, str)}
        files = [file for file in files_of({"repo": repo, "revision": commit}, args.get("huggingface_pins")) if file.git_sha1 in names]
        lacking.update((file, (repo, commit)) for file in files)
    return [(*lacking[file], file) for file in fitting(lacking)]


def _dicts(found):
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


class _Shelf:
    """The files that are here, and what kept others from coming, so that nobody waits for the same in vain again."""

    def __init__(self, top, hub):
        self._directory = os.path.join(top, _DIRECTORY)
        self._hub = hub
        os.makedirs(self._directory, mode=0o700, exist_ok=True)

    def get(self, repo, commit, file):
        """The path of the file, which is brought if it is not here and nobody else brings it. Raises ModelFleetError."""
        # A file with this content is the same in every commit.
        path = os.path.join(self._directory, "--".join([*repo.split("/"), file.git_sha1]))
        if os.path.exists(path):
            return path
        with _alone(f"{path}.lock"):
            if os.path.exists(path):
                return path
            everybody, token, one = self._failures(path)
            for failure in (everybody, token, one):
                if os.path.exists(failure) and time.time() - os.stat(failure).st_mtime < _REMEMBERED_S:
                    with open(failure, encoding="utf-8") as handle:
                        raise ModelFleetError(handle.read())
            try:
                content = self._hub.patiently(lambda: self._hub.small(repo, commit, file), _PATIENCE_S)
            except HubError as exc:
                failure = everybody if self._hub.is_down else token if exc.passing or exc.refused else one
                self._put(failure, str(exc).encode())
                raise
            self._put(path, content)
            return path

    def _failures(self, path):
        """Where it is noted that the hub does not answer, that it gives nothing for this token, and that it does not give this file."""
        hub = "\0".join(self._hub.endpoints)
        parts = [hub, self._hub.fingerprint(f"{self._directory}\0{hub}"), path]
        return [
            os.path.join(self._directory, "failed-" + hashlib.sha256("\0".join(parts[:count]).encode()).hexdigest()) for count in (1, 2, 3)
        ]

    def _put(self, path, content):
        handle, temporary = tempfile.mkstemp(dir=self._directory)
        with os.fdopen(handle, "wb") as sink:
            sink.write(content)
        os.rename(temporary, path)


@contextmanager
def _alone(path):
    """While it is entered, nobody else of this run has this file locked. A process that ends gives it up."""
    with open(path, "ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
