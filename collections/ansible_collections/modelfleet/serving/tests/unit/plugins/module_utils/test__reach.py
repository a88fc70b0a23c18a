# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import socket
import threading
import time

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._reach import reach


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
