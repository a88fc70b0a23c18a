# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects through this host's dfdaemon into the blob store. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import copy
import http.client
import os
import random
import re
import subprocess
import threading
import time
import urllib.error
import uuid
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.common.text.converters import to_text
from ansible.module_utils.urls import ConnectionError as UrlsConnectionError
from ansible.module_utils.urls import open_url
from ansible_collections.modelfleet.serving.plugins.module_utils import _download_task
from ansible_collections.modelfleet.serving.plugins.module_utils._artifact import TEMPORARY, free_bytes, remove, writing
from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import piece_length_bytes, task_name
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes, without_colours

# A signed URL opens its object to whoever reads it.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s)\"']+")
_SIGNATURE = re.compile(r"\S*(?i:signature|credential|token|[?&]sig)=\S*")
_LENGTH = re.compile(r"content_length=([0-9]+)")
# As dfdaemon's database says it.
_FULL_DATABASE = "IO error: No space left on device: While "
# What stays free for others: dfdaemon's database, once it found the disk full, may write nothing until dfdaemon is restarted.
_RESERVE = 64 << 20
_FREE_SOME = (
    "Free some and run again; if the same is said then, dfdaemon's database has not recovered: restart it (systemctl restart dfdaemon), "
    "which keeps its pieces."
)
_ASK_TIMEOUT_S = 10
_FIRST_PAUSE_S = 1
_LONGEST_PAUSE_S = 15
_LOOK_S = 5
# dfdaemon itself gives a piece up after 360 s.
_STALLED_S = 600


class _Passing(Exception):
    """A download failed for a reason that may pass; the text is the end of an error. ``origin`` is whether it may be the origin's fault."""

    def __init__(self, text, origin=False):
        super().__init__(text)
        self.origin = origin


class _OriginError(ModelFleetError):
    """An object did not come, or not as it should, and that may be the fault of where it was asked for."""


class Fetcher:
    """Brings objects into the blob store, each once a call and ``parallel`` of them at a time.

    ``params`` are the options of model_artifact, ``store`` is the object store and ``blobs`` the Blobs.
    """

    def __init__(self, params, store, blobs):
        self.params = params
        self.store = store
        self.blobs = blobs
        self._pool = ThreadPoolExecutor(params["parallel"])
        self._futures = {}
        # Bytes that the tasks on their way have on the disk in the end.
        self._on_their_way = {}
        self._lock = threading.Lock()
        self._failing_since = None
        # Tasks that the origin refused before, where credentials come and go.
        self._refused = set()

    def at(self, store):
        """The same for another store: they share what is on its way, and how many of it there may be."""
        other = copy.copy(self)
        other.store = store
        return other

    def close(self):
        self._pool.shutdown()

    def drop_damaged(self, what, names):
        """Remove those of the blobs ``names``, (sha256, mode), that have not their content any more: what is made of them is verified."""
        with writing(what, self.blobs.directory):
            list(self._pool.map(lambda name: self.blobs.drop_damaged(*name), names))

    def start(self, key, sha256, mode, size):
        """Bring the object ``key`` into the blob store; ``size`` is how many bytes the disk needs for it, None where that is not known.

        Returns a Future, whose result is the number of bytes that dfdaemon gave; it is the same one for the same content.
        """
        with self._lock:
            if sha256 not in self._futures:
                self._futures[sha256] = self._pool.submit(self._bring, key, sha256, mode, size)
            return self._futures[sha256]

    def fetched(self, artifacts):
        """Bytes that came for each of the artifacts so far.

        What several need counts for the first of them whoever asked, so that all hosts with one list count alike.
        """
        with self._lock:
            futures = dict(self._futures)
        came = {sha256: future.result() for sha256, future in futures.items() if future.done() and not future.exception()}
        return [sum(came.pop(sha256) for sha256 in artifact.objects & came.keys()) for artifact in artifacts]

    def _bring(self, key, sha256, mode, size):
        """From where the store says, and from where else it knows."""
        first = None
        while True:
            try:
                return self._bring_from_there(key, sha256, mode, size)
            except ModelFleetError as exc:
                first = first or exc
                other = isinstance(exc, _OriginError) and hasattr(self.store, "pass_over") and self.store.pass_over(key, str(exc))
                if not other:
                    raise first from None

    def _bring_from_there(self, key, sha256, mode, size):
        if self.blobs.status(sha256, mode) or self.blobs.other(sha256, mode):
            return 0
        name = self.store.describe(key)
        for task in self._tasks(key, sha256):
            piece_file = self.blobs.piece_file(task)
            with writing(name, self.blobs.directory):
                if piece_file and self._link(piece_file, sha256, mode):
                    return 0
            try:
                found, fetched = self._get(name, key, task, sha256, mode, size)
            finally:
                with self._lock:
                    self._on_their_way.pop(task, None)
            if found == sha256:
                return fetched
        raise _OriginError(
            f"Failed to verify {name}: the object has the sha256 {found}, but {sha256} was asked for. Publish the right file under "
            "this key, or correct the sha256 of the model."
        )

    def _tasks(self, key, sha256):
        """The names under which Dragonfly may have this content.

        A task is named by its content, so a wrong object stays under that name on every host that has it, even when the origin is
        repaired. The second name therefore holds what the origin calls its present content. The endpoint plugin uses the same names.
        """
        task = task_name(sha256, self.params["piece_length"])
        yield task
        generation = self._generation(key)
        if generation:
            yield f"{task};generation={generation}"

    def _link(self, piece_file, sha256, mode):
        """Take what this module has verified before, and dfdaemon kept."""
        temporary = self.blobs.temporary()
        try:
            os.link(piece_file, temporary, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return self.blobs.take(temporary, sha256, mode)[0] == sha256

    def _get(self, name, key, task, sha256, mode, size):
        """Have dfdaemon link its file of the task, repeated with jitter while the failure may pass.

        Returns its sha256 and size. All hosts ask at once, and must not come back at once. The time counts from the first failure after
        something of this object came, or of all since the last that came.
        """
        failing_since, ceiling, written = None, _FIRST_PAUSE_S, self.blobs.written(task)
        while True:
            self._require_room(name, key, task, size)
            try:
                temporary = self._attempt(name, key, task)
                break
            except _Passing as exc:
                now, before, written = time.monotonic(), written, max(written, self.blobs.written(task))
                if written > before:
                    failing_since = self._failing_since = None
                failing_since = failing_since or now
                all_since = self._failing_since = self._failing_since or now
                pause = random.uniform(ceiling / 2, ceiling)
                if now + pause - min(failing_since, all_since) > self.params["retry_s"]:
                    raise (_OriginError if exc.origin else ModelFleetError)(f"Failed to get {name}: {exc}") from None
                ceiling = min(ceiling * 2, _LONGEST_PAUSE_S)
                time.sleep(pause)
        self._failing_since = None
        with writing(name, self.blobs.directory):
            return self.blobs.take(temporary, sha256, mode)

    def _require_room(self, name, key, task, size):
        """Refuse what does not fit on the disk beside what else is on its way. dfdaemon looks at its budget only."""
        if size is None and not self.blobs.allocated(task):
            size = self._size(key)
        with self._lock:
            self._on_their_way[task] = size or 0
            needed = sum(max(0, wanted - self.blobs.allocated(other)) for other, wanted in self._on_their_way.items())
        free = free_bytes(self.blobs.directory)
        if not self.blobs.allocated(task) and needed + _RESERVE > free:
            raise ModelFleetError(
                f"Failed to get {name}: the disk of {self.blobs.directory} has {human_bytes(free)} free, and this needs "
                f"{human_bytes(needed + _RESERVE)} with what else is on its way and a reserve. Free some and run again."
            )

    def _attempt(self, name, key, task):
        """Returns the path of the file in the blob store, not verified yet."""
        link = os.path.join(self.params["incoming"], TEMPORARY + str(uuid.uuid4()))
        try:
            self._download(name, key, task, link)
            # Where nobody else may write: dfdaemon and the runtimes may, in incoming.
            temporary = self.blobs.temporary()
            with writing(name, self.blobs.directory):
                os.rename(link, temporary)
            return temporary
        finally:
            remove(link)

    def _download(self, name, key, task, link):
        signed_s = self.store.signed_s(self.params["url_expiry_s"])
        request = _download_task.request(
            self.store.presign("GET", key, signed_s),
            self._headers(),
            link,
            task,
            piece_length_bytes(self.params["piece_length"]),
            self.params["back_to_source"],
        )
        # What curl takes from its environment is for the origin, not for dfdaemon.
        environment = {"PATH": os.environ.get("PATH", os.defpath)}
        began, written = time.monotonic(), self.blobs.written(task)
        try:
            # Several at a time, which a module's run_command is not made for.
            process = subprocess.Popen(  # pylint: disable=ansible-bad-function
                _download_task.command(self.params["curl"], self.params["socket"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        except OSError as exc:
            raise self._unusable(exc.strerror) from None
        with process:
            printed, complaint = (to_text(output, errors="replace") for output in self._outputs(process, request, task))
        if process.returncode in _download_task.UNABLE:
            raise self._unusable(complaint.strip())
        if process.returncode == _download_task.NOT_CONNECTED:
            raise _Passing(
                f"dfdaemon does not answer at {self.params['socket']}. See systemctl status dfdaemon and journalctl -u dfdaemon."
            )
        answer = _download_task.answer(printed)
        if answer.status is None:
            raise _Passing(
                f"dfdaemon broke it off ({self._harmless(complaint)}). See systemctl status dfdaemon and journalctl -u dfdaemon."
            )
        if answer.status != 0:
            # The origin is asked with the URL of the host that asked the seed peer first, which may be older than that of this one.
            may_have_expired = time.monotonic() - began >= signed_s or self.blobs.written(task) > written
            if self.store.identity and answer.origin_status in (400, 401, 403) and task not in self._refused:
                # Nor need it be of credentials that are as new.
                self._refused.add(task)
                may_have_expired = True
            self._explain(name, task, answer, signed_s if may_have_expired else None)

    def _unusable(self, why):
        return ModelFleetError(
            f"Failed to run {self.params['curl']}: {why}. Have one that speaks HTTP/2: the role modelfleet.serving.dfdaemon installs it as "
            "one of dfdaemon_packages."
        )

    @staticmethod
    def _harmless(text):
        """A text of others without what opens an object, short enough for an error."""
        return _SIGNATURE.sub("…", _URL.sub("URL", " ".join(without_colours(text).split())))[:300].rstrip(" .")

    def _outputs(self, process, request, task):
        """What curl prints until it ends. It is ended when nothing comes for long: it waits for ever for a dfdaemon that hangs."""
        written, since = self.blobs.written(task), time.monotonic()
        while True:
            try:
                return process.communicate(request, timeout=_LOOK_S)
            except subprocess.TimeoutExpired:
                request = None  # it is on its way
                before, written = written, self.blobs.written(task)
                if written != before:
                    since = time.monotonic()
                elif time.monotonic() - since > _STALLED_S:
                    process.kill()
                    raise _Passing(
                        f"dfdaemon brought nothing of it for {_STALLED_S} s. Look at its journal, and whether a seed peer and the "
                        "scheduler run."
                    ) from None

    def _headers(self):
        return self.store.headers if self.store.name == "http" else {}

    def _explain(self, name, task, answer, expired_after_s):
        """Raise what the failure of a download means: ModelFleetError, or _Passing.

        ``expired_after_s`` is for how many seconds its URL was signed, where these may have been over.
        """
        status = answer.origin_status
        said = self._harmless(answer.said) or f"status {answer.status} of gRPC"
        failed = f"Failed to get {name}: "
        pieces, incoming = self.params["piece_store"], self.params["incoming"]
        if status == 404:
            raise _OriginError(f"{failed}the origin has no such object. Publish it, or correct the key of the model.")
        if status in (400, 401, 403) and expired_after_s is not None:
            raise _Passing(
                f"the origin refused with {status} what was signed for {expired_after_s} s. Have url_expiry_s be longer than a download "
                "takes (dfdaemon_distribute_url_expiry_seconds), and what gives out credentials give them for longer, and check "
                "credentials and clock.",
                origin=True,
            )
        if status in (400, 401, 403):
            raise _OriginError(
                f"{failed}the origin refused with {status}. Check credentials, region and clock; some stores say so of a missing object."
            )
        if 400 <= status < 500 and status not in (408, 425, 429):
            raise _OriginError(f"{failed}the origin answered {status}. Check endpoint, region and the state of the store.")
        if "(os error 18)" in said:
            raise ModelFleetError(
                f"{failed}dfdaemon cannot link a file of {pieces} into {incoming}. Have both on one filesystem and, under systemd, under "
                "one entry of ReadWritePaths."
            )
        if "(os error 1)" in said:
            raise ModelFleetError(
                f"{failed}dfdaemon may not link a file in its piece store that is not its own. Check that {pieces} is the storage.dir of "
                "dfdaemon, and correct piece_store."
            )
        if "(os error 13)" in said:
            raise ModelFleetError(
                f"{failed}dfdaemon may not write in {incoming}. Run the role modelfleet.serving.dfdaemon, which prepares it."
            )
        free = free_bytes(incoming)
        if _FULL_DATABASE in said:
            raise ModelFleetError(
                f"{failed}the database of dfdaemon found the disk of {pieces} full, which has {human_bytes(free)} free now. {_FREE_SOME}"
            )
        if "o space left on device" in said:
            self.blobs.drop_unwritten(task)
            length = _LENGTH.search(said)
            room = (
                f"there is no room for it in the piece store {pieces}: the disk has {human_bytes(free)} free, "
                f"{'the object has ' + human_bytes(int(length[1])) + ', ' if length else ''}"
                "and dfdaemon_disk_budget is what dfdaemon may use. Free some, or raise the budget, and run again."
            )
            # dfdaemon looks once a minute for what it may give up.
            if length and int(length[1]) <= free:
                raise _Passing(room)
            raise ModelFleetError(failed + room)
        if status:
            raise _Passing(f"the origin answered {status}. Check the network and the state of the store.", origin=True)
        if free < _RESERVE:
            # There was more when this began, and dfdaemon does not always tell what its database said.
            raise _Passing(f"dfdaemon says '{said}', and the disk of {pieces} has {human_bytes(free)} free. {_FREE_SOME}")
        raise _Passing(
            f"dfdaemon says '{said}'. Look at its journal, and whether a seed peer and the scheduler run: only they go to the origin.",
            origin=True,
        )

    def _generation(self, key):
        """What the origin calls the present content of an object: its ETag, else the time of its last change; empty if it tells neither.

        Every host that asks gets the same answer, so hosts agree on the next task without talking to each other.
        """
        headers = self._ask(key)
        return re.sub(r"^W/|[^A-Za-z0-9-]", "", headers.get("ETag") or headers.get("Last-Modified") or "")

    def _size(self, key):
        """Bytes of an object, None where the origin does not tell."""
        headers = self._ask(key)
        size = (headers.get("Content-Range") or "").rpartition("/")[2] or headers.get("Content-Length") or ""
        return int(size) if size.isdecimal() else None

    def _ask(self, key):
        """The headers of an object at the origin; none where that cannot be asked.

        dfdaemon would set room for the whole object aside before it asks. It does not verify the origin's certificate either: the sha256
        is what protects an object.
        """
        try:
            with open_url(
                self.store.presign("GET", key, self.params["url_expiry_s"]),
                headers={**self._headers(), "Range": "bytes=0-0"},
                http_agent="modelfleet",
                timeout=_ASK_TIMEOUT_S,
                validate_certs=False,
            ) as answer:
                return answer.headers
        except (urllib.error.URLError, UrlsConnectionError, http.client.HTTPException, OSError):
            return {}
