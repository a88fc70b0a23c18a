# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of a pod on this machine's loopback, by way of the API server. PRIVATE to the collection: it can have breaking changes at any time.

So what listens on the loopback of a pod is reached by whom the cluster lets, and by nobody else.
"""

from __future__ import annotations

import select
import socket
import threading

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._kubernetes import REQUEST_TIMEOUT_S, message_of, one_line

try:
    import kubernetes
    import kubernetes.stream
except ImportError:
    kubernetes = None  # told by _kubernetes

_BLOCK = 1 << 16


def _why(exc):
    return one_line(message_of(getattr(exc, "body", None)) or getattr(exc, "reason", None) or exc)


def connect(cluster, namespace, pod, port):
    """A connected socket to a port of a pod. Raises ModelFleetError."""
    # The library puts itself in the place of the client's request for a moment, so each connection has a client of its own.
    api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(cluster.client.configuration))
    try:
        forward = kubernetes.stream.portforward(api.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        return forward.socket(port)
    except Exception as exc:  # of the library's websocket, of HTTP, of TLS
        raise ModelFleetError(
            f"Failed to reach port {port} of the pod {pod} in {namespace} by way of {cluster.server}: {_why(exc)}. See that the pod runs "
            "and that the account may use pods/portforward."
        ) from exc


def read_file(cluster, namespace, pod, container, path):
    """The text of a file in a container, or None where there is none."""
    api = kubernetes.client.CoreV1Api(kubernetes.client.ApiClient(cluster.client.configuration))
    try:
        return kubernetes.stream.stream(
            api.connect_get_namespaced_pod_exec,
            pod,
            namespace,
            container=container,
            command=["cat", path],
            stderr=False,
            stdin=False,
            stdout=True,
            tty=False,
            _preload_content=True,
            _request_timeout=REQUEST_TIMEOUT_S,
        )
    except Exception as exc:
        raise ModelFleetError(
            f"Failed to read {path} in the pod {pod} in {namespace} by way of {cluster.server}: {_why(exc)}. See that the pod runs and "
            "that the account may use pods/exec."
        ) from exc


class Forward:
    """A port of loopback from which each connection goes to a pod, for as long as the block takes. ``open_socket`` opens one."""

    def __init__(self, open_socket):
        self.open_socket = open_socket
        self.problem = None  # of the last connection that could not be made
        self.listener = None

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc):
        self.listener.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _accept(self):
        while True:
            try:
                here, _address = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(here,), daemon=True).start()

    def _serve(self, here):
        with here:
            try:
                there = self.open_socket()
            except ModelFleetError as exc:
                self.problem = exc
                return
            with there:
                _pump(here, there)


def _pump(here, there):
    """Pass on what either side sends until both have ended."""
    other = {here: there, there: here}
    open_ends = {here, there}
    there.setblocking(True)
    while open_ends:
        readable, _writable, _broken = select.select(list(open_ends), [], [])
        for one in readable:
            try:
                data = one.recv(_BLOCK)
                if data:
                    other[one].sendall(data)
                    continue
                other[one].shutdown(socket.SHUT_WR)
            except OSError:
                return
            open_ends.discard(one)
            if one is there:
                return  # nobody is left who answers
