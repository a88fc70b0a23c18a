# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import ssl
import threading
import time

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import reach, speaks_tls, tls_problem


@pytest.fixture
def ports():
    """One port on which somebody answers, and two on which nobody does."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _number in range(3)]
    found = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets[1:]:
        one.close()
    yield found
    sockets[0].close()


def test_hosts_that_answer(ports):
    assert reach("dfdaemon", {"seed-1": ports[:1]}, 0) == []
    assert reach("dfdaemon", {}, 0) == []


def test_a_closed_port_of_a_host_that_answers_on_another(ports):
    port = ports[1].rpartition(":")[2]
    with pytest.raises(ModelFleetError) as error:
        reach("dfdaemon", {"seed-1": ports[:2]}, 0)
    assert str(error.value) == (
        f"Failed to reach dfdaemon of seed-1 at {ports[1]} from this host: Connection refused. Start it there, or open the port there "
        f"(firewall-cmd --permanent --add-port={port}/tcp && firewall-cmd --reload, or ufw allow {port}/tcp)."
    )


def test_one_of_two_hosts_is_down(ports):
    found = reach("dfdaemon", {"seed-1": ports[:1], "seed-2": ports[1:]}, 0)
    assert [f"of seed-2 at {port} from this host" in " ".join(found) for port in ports] == [False, True, True]


def test_no_host_answers(ports):
    with pytest.raises(ModelFleetError) as error:
        reach("dfdaemon", {"seed-1": ports[1:2], "seed-2": ports[2:]}, 0)
    assert "of seed-1 at" in str(error.value) and "of seed-2 at" in str(error.value)


def test_a_daemon_that_is_just_being_started_gets_its_time(ports):
    def start():
        time.sleep(0.5)
        late.append(socket.create_server(("127.0.0.1", int(ports[1].rpartition(":")[2]))))

    late = []
    thread = threading.Thread(target=start)
    thread.start()
    assert reach("dfdaemon", {"seed-1": ports[:2]}, 10) == []
    thread.join()
    late[0].close()


@pytest.fixture
def secure(tmp_path):
    """What a daemon with mutual TLS does with a connection, and the authority of its certificate."""
    authority, key = pki.new_authority("Example", 10, pki.now())
    made, host_key = pki.new_host("seed-1", "127.0.0.1", 10, authority, key, pki.now())
    (tmp_path / "host.pem").write_text(pki.pem_of([made], host_key))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "host.pem")
    # Whoever has no certificate is not let in, and sees all the same that this is TLS.
    context.load_verify_locations(cadata=pki.pem_of([authority]))
    context.verify_mode = ssl.CERT_REQUIRED

    def answer(connection):
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            pass

    return answer, pki.pem_of([authority])


def clear(connection):
    connection.recv(100)
    connection.sendall(b"\0\0\6\4\0\0\0\0\0")


def closes(connection):
    connection.recv(100)


def silent(_connection):
    time.sleep(1.5)


def serve(answer, ask):
    """What ``ask`` says of the address of a server that answers its one connection so."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            connection, _address = server.accept()
            with connection:
                answer(connection)

        threading.Thread(target=accept, daemon=True).start()
        return ask(f"127.0.0.1:{server.getsockname()[1]}")


def test_who_speaks_tls_and_who_does_not(secure):
    for answer, expected in ((secure[0], True), (clear, False), (closes, False), (silent, None)):
        assert serve(answer, lambda address: speaks_tls(address, timeout=1)) is expected, answer
    assert speaks_tls("127.0.0.1:1", timeout=1) is None


def test_who_would_not_know_each_other(secure):
    answer, trusted = secure
    stranger = pki.pem_of([pki.new_authority("Other", 10, pki.now())[0]])
    assert serve(clear, lambda address: tls_problem(address, False)) == ""
    assert serve(clear, lambda address: tls_problem(address, True, trusted)) == "answers in clear text"
    assert serve(answer, lambda address: tls_problem(address, False)) == "answers by TLS only"
    assert serve(answer, lambda address: tls_problem(address, True, trusted)) == ""
    assert "would not trust (" in serve(answer, lambda address: tls_problem(address, True, stranger))
    assert serve(answer, lambda address: tls_problem(address, True, "no PEM")) == ""
    assert tls_problem("127.0.0.1:1", True, trusted) == ""
