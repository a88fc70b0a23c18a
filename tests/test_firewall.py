# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rules that the role makes of an inventory, loaded by its module into the kernel, and who then gets a connection: hosts are network
namespaces on one bridge, users are those of this machine, and every connection is a real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time

import pytest
import yaml
from conftest import REPOSITORY

ROLE = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles/firewall"
# On the bridge. Each has both addresses, and no host of the fleet has those of "stranger" and "monitor", which scrapes.
PLACES = {"host": 2, "member": 3, "stranger": 9, "monitor": 8, "second": 4}
V4, V6 = "10.77.0.{}", "fd77::{}"
GUEST = "10.88.0.2"  # behind "host", which translates its address
PORTS = {"upload": 4000, "storage": 4005, "quic": 4006, "api": 8002, "proxy": 4001, "metrics": 4002, "gateway": 8443}
PORTS |= {"door": 9443, "other": 2222, "model": 8080}
# In the place of the daemons' own users, which this machine does not have.
USERS = {"root": 0, "daemon": 1, "bin": 2, "nobody": 65534}

# Runs in a namespace, as a user: answers on every address until it is ended.
SERVER = """
import os, selectors, socket, sys
uid = int(sys.argv[1])
os.setgroups([]), os.setgid(uid), os.setuid(uid)
selector = selectors.DefaultSelector()
for place in sys.argv[2:]:
    kind, _slash, place = place.partition("/")
    address, _colon, port = place.rpartition(":")
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, int(port)))
    if kind == "tcp":
        one.listen(64)
    selector.register(one, selectors.EVENT_READ, kind)
print("ready", flush=True)
kept = []
while True:
    for key, _events in selector.select():
        if key.data == "udp":
            key.fileobj.sendto(*key.fileobj.recvfrom(100))
        elif key.data == "tcp":
            connection, _peer = key.fileobj.accept()
            selector.register(connection, selectors.EVENT_READ, "connection")
        else:
            try:
                said = key.fileobj.recv(100)
                key.fileobj.sendall(said)
            except OSError:
                said = b""
            if not said:
                selector.unregister(key.fileobj)
                key.fileobj.close()
"""
# Runs in a namespace, as a user: one line for each place, "yes" or why not.
CLIENT = """
import os, socket, sys
uid = int(sys.argv[1])
os.setgroups([]), os.setgid(uid), os.setuid(uid)
for place in sys.argv[2:]:
    kind, _slash, place = place.partition("/")
    address, _colon, port = place.rpartition(":")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM, 262 if kind == "mptcp" else 0) as one:
        one.settimeout(0.7 if kind == "udp" else 3)
        try:
            one.connect((address, int(port)))
            one.sendall(b"?")
            print("yes" if one.recv(10) == b"?" else "closed")
        except OSError as exc:
            print(type(exc).__name__)
"""
# Runs in a namespace: the module, as Ansible runs it.
MODULE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils.testing import patch_module_args
from ansible_collections.modelfleet.serving.plugins.modules import nft_table
with patch_module_args(json.load(sys.stdin)):
    nft_table.main()
"""


def sh(*command, **options):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def rendered(run, tmp_path_factory):
    """What the role makes of an inventory: {host: (sets, rules)}. "host" is a GPU host with a gateway, in another inventory of IPv6, and in
    a third one that listens on every address and is a scheduler too."""
    directory = tmp_path_factory.mktemp("firewall")
    everywhere = {name: {"server": {"ip": "0.0.0.0"}} for name in ("upload", "storage", "metrics")}
    hosts = {
        "host": {"modelfleet_address": V4.format(PLACES["host"])},
        "host-6": {"modelfleet_address": V6.format(PLACES["host"])},
        "host-any": {"modelfleet_address": V4.format(77), "dfdaemon_config": everywhere},
        "member": {
            "modelfleet_address": V4.format(PLACES["member"]),
            "modelfleet_firewall_addresses": [V6.format(PLACES["member"])],
        },
        "second": {
            "modelfleet_address": V4.format(PLACES["second"]),
            "modelfleet_firewall_addresses": [V6.format(PLACES["second"]).upper()],
        },
    }
    common = {
        "modelfleet_storage": {"http": {"url": "https://files.example.com"}},
        "modelfleet_firewall_monitoring": [f"{V4.format(PLACES['monitor'])}/32", V6.format(PLACES["monitor"])],
        "modelfleet_firewall_destinations": [f"{V4.format(PLACES['second'])}/32", V6.format(PLACES["second"])],
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    }
    groups = {
        "dragonfly_schedulers": ["member", "host-any"],
        "dragonfly_seed_peers": ["second"],
        "gpu_hosts": ["host", "host-6", "host-any"],
        "modelfleet_gateways": ["host", "host-6", "host-any"],
    }
    children = {group: {"hosts": {name: hosts[name] for name in names}} for group, names in groups.items()}
    children["modelfleet_prometheus"] = {"hosts": {"watch": {"modelfleet_address": V4.format(PLACES["monitor"])}}}
    shown = {"sets": "{{ __firewall_sets }}", "rules": "{{ lookup('ansible.builtin.template', src) }}", "users": "{{ __firewall_users }}"}
    shown["gateway"] = "{{ __gateway_listener.api.bind if 'modelfleet_gateways' in group_names else none }}"
    tasks = [
        {"ansible.builtin.import_role": {"name": "modelfleet.serving.gateway", "tasks_from": "variables"}},
        {"ansible.builtin.import_role": {"name": "modelfleet.serving.firewall", "tasks_from": "variables"}},
        {"ansible.builtin.include_role": {"name": "modelfleet.serving.firewall", "tasks_from": "fleet"}},
        {"ansible.builtin.debug": {"msg": shown}, "vars": {"src": str(ROLE / "templates/rules.j2")}},
    ]
    play = {"hosts": "all:!watch", "connection": "local", "gather_facts": False, "tasks": tasks}
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": common, "children": children}}), encoding="utf-8")
    (directory / "play.yml").write_text(yaml.safe_dump([play]), encoding="utf-8")
    # A run of one host: who is admitted does not depend on who is asked.
    found = {}
    for limit in ("all", "host"):
        done = run(
            "ansible-playbook", "-i", directory / "hosts.yml", "-l", limit, directory / "play.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json"
        )
        assert done.returncode == 0, done.stdout
        said = re.findall(r"ok: \[([^]]+)\] => (\{\n    \"msg\".*?\n\})\n", done.stdout, re.DOTALL)
        found[limit] = {host: json.loads(text)["msg"] for host, text in said}
    assert set(found["all"]) == set(hosts) and found["host"]["host"] == found["all"]["host"]
    return found["all"]


class Lan:
    """Namespaces on a bridge, and what runs in them."""

    def __init__(self, work):
        self.work, self.prefix, self.servers = work, f"mf{os.getpid()}", []
        self.names = ["bridge", *PLACES, "guest"]

    def ns(self, name):
        return f"{self.prefix}{name}"

    def ip(self, *arguments):
        done = sh("ip", *arguments)
        if done.returncode:
            pytest.skip(f"may not make network namespaces: {done.stderr.strip()}")

    def build(self):
        for name in self.names:
            self.ip("netns", "add", self.ns(name))
            self.ip("-n", self.ns(name), "link", "set", "lo", "up")
        self.ip("-n", self.ns("bridge"), "link", "add", "lan", "type", "bridge")
        self.ip("-n", self.ns("bridge"), "link", "set", "lan", "up")
        for name, number in PLACES.items():
            link = ("link", "add", "eth0", "netns", self.ns(name), "type", "veth", "peer", "name", name, "netns", self.ns("bridge"))
            self.ip(*link)
            self.ip("-n", self.ns("bridge"), "link", "set", name, "master", "lan", "up")
            self.ip("-n", self.ns(name), "addr", "add", f"{V4.format(number)}/24", "dev", "eth0")
            self.ip("-n", self.ns(name), "addr", "add", f"{V6.format(number)}/64", "dev", "eth0", "nodad")
            self.ip("-n", self.ns(name), "link", "set", "eth0", "up")
        self.ip("link", "add", "eth0", "netns", self.ns("guest"), "type", "veth", "peer", "name", "guest", "netns", self.ns("host"))
        for name, device, address in (("guest", "eth0", f"{GUEST}/24"), ("host", "guest", "10.88.0.1/24")):
            self.ip("-n", self.ns(name), "addr", "add", address, "dev", device)
            self.ip("-n", self.ns(name), "link", "set", device, "up")
        self.ip("-n", self.ns("guest"), "route", "add", "default", "via", "10.88.0.1")
        self.check("host", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def remove(self):
        for server in self.servers:
            server.kill()
            server.wait()
        for name in self.names:
            sh("ip", "netns", "delete", self.ns(name))

    def run(self, name, *command, **options):
        return sh("ip", "netns", "exec", self.ns(name), *command, **options)

    def check(self, name, *command, **options):
        done = self.run(name, *command, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def serve(self, name, *places, user="root"):
        command = ["ip", "netns", "exec", self.ns(name), sys.executable, "-c", SERVER, str(USERS[user]), *places]
        self.servers.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert self.servers[-1].stdout.readline() == "ready\n"

    def ask(self, name, *places, user="root"):
        """Whether each place answers somebody there: {place: "yes" or why not}."""
        answers = self.check(name, sys.executable, "-c", CLIENT, USERS[user], *places).splitlines()
        assert len(answers) == len(places)
        return dict(zip(places, answers))

    def table(self, name="host", table="inet modelfleet"):
        done = self.run(name, "nft", "--stateless", "list", "table", *table.split())
        return done.stdout if done.returncode == 0 else None

    def module(self, name="host", check=False, **options):
        args = {
            "name": "modelfleet",
            "path": str(self.work / f"{name}.nft"),
            **options,
            "_ansible_check_mode": check,
            "_ansible_diff": True,
        }
        done = self.run(name, sys.executable, "-c", MODULE, REPOSITORY / "collections", input=json.dumps(args))
        assert done.stdout.strip().startswith("{"), done.stdout[-2000:] + done.stderr[-2000:]
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def lan(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    lan = Lan(tmp_path_factory.mktemp("lan"))
    try:
        lan.build()
        for name in ("host", "member"):
            own = [template.format(PLACES[name]) for template in (V4, V6)]
            served = ("upload", "storage", "api", "gateway", "door", "other")
            lan.serve(name, *(f"tcp/{address}:{PORTS[port]}" for address in own for port in served))
            lan.serve(name, *(f"udp/{address}:{PORTS['quic']}" for address in own))
        for name in ("stranger", "second"):
            own = [template.format(PLACES[name]) for template in (V4, V6)]
            lan.serve(name, *(f"{kind}/{address}:{PORTS['other']}" for address in own for kind in ("tcp", "udp")))
        own = [template.format(PLACES["host"]) for template in (V4, V6)]
        lan.serve("host", *(f"tcp/{address}:{PORTS['model']}" for address in own), user="bin")
        lan.serve("host", f"tcp/127.0.0.1:{PORTS['proxy']}", f"tcp/127.0.0.1:{PORTS['other']}", f"tcp/0.0.0.0:{PORTS['metrics']}")
        yield lan
    finally:
        lan.remove()


@pytest.fixture
def load(lan, rendered):
    """A callable that loads the rules of a host of the inventory into the namespace "host"; nothing of them stays."""

    def call(of="host", **options):
        own = rendered[of]
        known = {"daemons": ["root", "daemon"], "runtimes": ["root", "2"], "administrators": ["root"], "models": ["bin"]}
        users = [{"name": name, "users": users} for name, users in known.items()]
        return lan.module(**{"sets": own["sets"], "users": users, "rules": own["rules"], **options})

    yield call
    lan.run("host", "nft", "flush", "ruleset")
    (lan.work / "host.nft").unlink(missing_ok=True)


def at(name, *ports, kind="tcp", template=V4):
    return [f"{kind}/{template.format(PLACES[name])}:{PORTS[port]}" for port in ports]


def of_peers(template):
    return [*at("host", "upload", "storage", template=template), *at("host", "quic", kind="udp", template=template)]


BOTH = pytest.mark.parametrize(("of", "template"), [("host", V4), ("host-6", V6)], ids=["IPv4", "IPv6"])
# The last is what a sender on the host itself is told of a datagram that is dropped.
REFUSED = {"ConnectionRefusedError", "ConnectionResetError", "TimeoutError", "PermissionError"}


def refused(answers):
    return set(answers.values()) <= REFUSED


def all_yes(answers):
    return set(answers.values()) == {"yes"}


def test_who_is_in_the_inventory(rendered):
    sets = {entry["name"]: entry["elements"] for entry in rendered["host"]["sets"]}
    assert sets == {
        "schedulers4": ["10.77.0.3", "10.77.0.77"],
        "schedulers6": [],
        "peers4": ["10.77.0.2", "10.77.0.4", "10.77.0.77"],
        "peers6": ["fd77::2"],
        "callers4": [],
        "callers6": ["fd77::3", "fd77::4"],
        "scheduler_ports": ["8002"],
        "peer_ports": ["4000", "4005"],
        "peer_udp_ports": ["4006"],
    }
    # The same for all, whatever they do.
    assert all(one["sets"] == rendered["host"]["sets"] for one in rendered.values())
    assert rendered["host"]["users"] == [
        {"name": "daemons", "users": ["root", "dfdaemon", "dragonfly-scheduler"]},
        {"name": "runtimes", "users": ["root", "torchserve"]},
        {"name": "administrators", "users": ["root"]},
        {"name": "models", "users": ["torchserve"]},
    ]


def test_no_rule_names_what_is_not_ours(rendered):
    for one in rendered.values():
        assert one["rules"].count("policy accept;") == 3 and "policy drop" not in one["rules"]
        ports = set(re.findall(r"dport (\S+)", one["rules"]))
        assert ports <= {"4000", "4001", "4002", "4005", "4006", "8002", "9443", "@peer_ports", "@peer_udp_ports", "@scheduler_ports"}
        assert not re.search(r"\b(22|8080|8081|7070|7071)\b", one["rules"])


@BOTH
def test_members_are_admitted_and_strangers_refused(lan, load, of, template):
    assert all_yes(lan.ask("stranger", *of_peers(template))), "nobody is refused without the table"
    assert load(of)["action"] == "loaded"
    assert all_yes(lan.ask("member", *of_peers(template)))
    assert all_yes(lan.ask("second", *of_peers(template)))
    assert refused(lan.ask("stranger", *of_peers(template)))
    # A refusal comes at once.
    assert set(lan.ask("stranger", *at("host", "upload", "storage", template=template)).values()) == {"ConnectionRefusedError"}
    # What is not ours: another port, and the same port where this host runs no scheduler.
    assert all_yes(lan.ask("stranger", *at("host", "other", "api", template=template)))
    # This host itself.
    assert all_yes(lan.ask("host", *of_peers(template)))


@pytest.mark.parametrize(("of", "template"), [("host", V4), ("host-6", V6), ("host-any", V4)], ids=["IPv4", "IPv6", "every address"])
def test_the_gateway_is_for_everybody(lan, load, rendered, of, template):
    """It knows its clients itself: whoever they are, and whichever user of a host of the fleet or guest of it they call as."""
    assert rendered[of]["gateway"]["port"] == PORTS["gateway"]
    load(of)
    own, other = (at(name, "gateway", template=template) for name in ("host", "member"))
    for name in ("stranger", "monitor", "member", "second"):
        assert all_yes(lan.ask(name, *own))
    assert all_yes(lan.ask("host", *own, *other, user="nobody")) and refused(lan.ask("stranger", *at("host", "upload", template=template)))


@BOTH
def test_model_code_answers_everybody_and_calls_nobody_beyond_its_host(lan, load, of, template):
    def beyond(name):
        return [*at(name, "other", template=template), *at(name, "other", kind="udp", template=template)]

    assert all_yes(lan.ask("host", *beyond("stranger"), user="bin")), "nobody is refused without the table"
    load(of)
    assert refused(lan.ask("host", *beyond("stranger"), user="bin"))
    assert all_yes(lan.ask("host", *beyond("stranger"), user="nobody"))
    # Whom modelfleet_firewall_destinations names, and its own host.
    assert all_yes(lan.ask("host", *beyond("second"), user="bin"))
    assert all_yes(lan.ask("host", f"tcp/127.0.0.1:{PORTS['proxy']}", *at("host", "other", template=template), user="bin"))
    assert all_yes(lan.ask("stranger", *at("host", "model", template=template)))


@BOTH
def test_only_the_daemons_users_call_the_fleet(lan, load, of, template):
    """A user of a member has its address."""
    places = [*of_peers(template), *(at("member", "api", template=V4) if template == V4 else [])]
    assert all_yes(lan.ask("host", *places, user="nobody"))
    load(of)
    assert refused(lan.ask("host", *places, user="nobody")) and refused(lan.ask("host", *places, user="bin"))
    assert all_yes(lan.ask("host", *places, user="daemon")) and all_yes(lan.ask("host", *places))
    assert all_yes(lan.ask("host", *at("member", "other", template=template), user="nobody"))


def test_the_proxy_is_for_root_and_the_runtimes(lan, load):
    proxy = [f"tcp/127.0.0.1:{PORTS['proxy']}"]
    assert all_yes(lan.ask("host", *proxy, user="nobody"))
    load()
    assert all_yes(lan.ask("host", *proxy)) and all_yes(lan.ask("host", *proxy, user="bin"))
    assert lan.ask("host", *proxy, user="nobody") == {proxy[0]: "ConnectionRefusedError"}
    assert refused(lan.ask("host", *proxy, user="daemon"))
    assert all_yes(lan.ask("host", f"tcp/127.0.0.1:{PORTS['other']}", user="nobody"))


def test_a_socket_that_has_no_owner_is_no_way_round(lan, load):
    """One of MPTCP is the kernel's, whoever asked for it."""
    ways = [f"mptcp/127.0.0.1:{PORTS['proxy']}", *at("host", "upload", kind="mptcp")]
    before = lan.ask("host", *ways, user="nobody")
    if not all_yes(before):
        pytest.skip(f"this kernel has no MPTCP: {before}")
    load()
    assert refused(lan.ask("host", *ways, user="nobody"))


def test_a_daemon_on_every_address(lan, load):
    """Whatever address is called, and on loopback by user."""
    load("host-any")
    places = at("host", "upload", "storage")
    assert all_yes(lan.ask("member", *places)) and refused(lan.ask("stranger", *places))
    assert refused(lan.ask("stranger", *at("host", "upload", template=V6)))


def test_metrics_are_for_who_is_named(lan, load):
    metrics = at("host", "metrics")
    load("host-any")
    assert all_yes(lan.ask("monitor", *metrics)) and refused(lan.ask("stranger", *metrics)) and refused(lan.ask("member", *metrics))
    assert all_yes(lan.ask("host", f"tcp/127.0.0.1:{PORTS['metrics']}", user="nobody"))


def test_the_door_to_the_metrics_is_for_who_scrapes(lan, load):
    """Not for members: each has a certificate that a door trusts."""
    load()
    door = at("host", "door")
    assert all_yes(lan.ask("monitor", *door)) and refused(lan.ask("stranger", *door)) and refused(lan.ask("member", *door))
    assert all_yes(lan.ask("host", *door, user="nobody"))
    assert refused(lan.ask("monitor", *at("host", "upload")))


def test_a_guest_of_a_member_is_none(lan, load):
    nat = "add table ip nat; add chain ip nat post { type nat hook postrouting priority srcnat; }; add rule ip nat post masquerade"
    lan.check("host", "nft", nat)
    assert all_yes(lan.ask("guest", *at("member", "api", "other")))
    load()
    assert refused(lan.ask("guest", *at("member", "api")))
    assert all_yes(lan.ask("guest", *at("member", "other", "gateway"), *at("host", "gateway")))
    assert all_yes(lan.ask("host", *at("member", "api")))
    assert refused(lan.ask("guest", *at("host", "upload")))


def test_other_tables_stay_as_they_are(lan, load):
    """Also what they drop."""
    other = "add table inet filter; add chain inet filter input { type filter hook input priority 0; }"
    other += "; add rule inet filter input tcp dport 4005 drop"
    lan.check("host", "nft", other)
    before = lan.table(table="inet filter")
    load()
    assert lan.ask("member", *at("host", "upload", "storage")) == dict(zip(at("host", "upload", "storage"), ("yes", "TimeoutError")))
    load("host-any")
    assert lan.module(state="absent")["action"] == "removed"
    assert lan.table(table="inet filter") == before and lan.table() is None


def test_a_second_time_changes_nothing(lan, load):
    first = load()
    assert first["changed"] and first["table"] == "absent" and first["files"] and first["added"]["peers6"] == ["fd77::2"]
    again = load()
    assert not again["changed"] and (again["action"], again["table"], again["files"], again["added"]) == ("none", "wanted", [], {})
    # What a boot loads is the same.
    before = lan.table()
    lan.check("host", "nft", "--file", lan.work / "host.nft")
    assert lan.table() == before
    assert not load()["changed"]


def test_check_mode_tells_and_changes_nothing(lan, load):
    said = load(check=True)
    assert said["changed"] and said["action"] == "loaded" and lan.table() is None and not (lan.work / "host.nft").exists()
    assert "chain input" in said["diff"][0]["after"] and said["diff"][0]["before"] == ""
    load()
    said = load("host-any", check=True)
    assert said["changed"] and said["table"] == "different" and "tcp dport 4002 jump monitoring" in said["diff"][0]["after"]
    assert "4002" not in lan.table()
    assert lan.module(state="absent", check=True)["action"] == "removed" and lan.table() is not None


@pytest.mark.parametrize("change", ["flush chain inet modelfleet members", "add element inet modelfleet peers4 { 10.77.0.9 }"])
def test_what_was_changed_by_hand_is_found_and_made_good(lan, load, change):
    load()
    lan.check("host", "nft", change)
    assert all_yes(lan.ask("stranger", *at("host", "upload")))
    said = load(check=True)
    assert (said["changed"], said["table"], said["files"]) == (True, "different", [])
    load()
    assert refused(lan.ask("stranger", *at("host", "upload"))) and not load()["changed"]


def test_rules_that_the_kernel_refuses_change_nothing(lan, load):
    load()
    before, file = lan.table(), (lan.work / "host.nft").read_text()
    said = load(rules="chain input { type filter hook input priority filter; tcp dport 70000 drop; }")
    assert said["failed"] and "Failed to try the rules of the table inet modelfleet" in said["msg"] and "Nothing was changed" in said["msg"]
    assert lan.table() == before and (lan.work / "host.nft").read_text() == file


def test_there_is_no_moment_without_the_table(lan, load):
    """A stranger who tries all the time while the rules are replaced, and a member who is served all the time."""
    load()
    ends, answers = threading.Event(), {"stranger": [], "member": []}

    def tries(name):
        while not ends.is_set():
            answers[name] += lan.ask(name, *at("host", "upload") * 50).values()

    threads = [threading.Thread(target=tries, args=(name,)) for name in answers]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            load(("host-any", "host")[number % 2])
    finally:
        ends.set()
        for thread in threads:
            thread.join()
    print({name: len(said) for name, said in answers.items()})
    assert set(answers["member"]) == {"yes"} and set(answers["stranger"]) <= REFUSED and len(answers["stranger"]) >= 50


def without(sets, address):
    return [{**entry, "elements": [one for one in entry["elements"] if one != address]} for entry in sets]


def test_who_is_gone_is_shut_out_last(lan, load, rendered):
    """Also with the connections that it has."""
    gone = V4.format(PLACES["second"])
    fewer = without(rendered["host"]["sets"], gone)
    load()
    connected = subprocess.Popen(
        ["ip", "netns", "exec", lan.ns("second"), sys.executable, "-c", TALK, V4.format(PLACES["host"]), str(PORTS["upload"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert connected.stdout.readline() == "yes\n"
        first = load(sets=fewer, keep=True)
        assert not first["changed"] and first["kept"] == {"peers4": [gone]} and first["removed"] == {}
        assert all_yes(lan.ask("second", *at("host", "upload")))
        last = lan.module(sets=fewer)
        assert last["changed"] and last["removed"] == {"peers4": [gone]}
        assert refused(lan.ask("second", *at("host", "upload"))) and all_yes(lan.ask("member", *at("host", "upload")))
        connected.stdin.write("\n")
        connected.stdin.flush()
        assert connected.stdout.readline() == "ConnectionResetError\n"
    finally:
        connected.kill()
        connected.wait()
    assert not load(sets=fewer)["changed"]


# A connection that says something when it is told to.
TALK = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as one:
    one.settimeout(5)
    while True:
        try:
            one.sendall(b"?")
            print("yes" if one.recv(10) == b"?" else "closed", flush=True)
        except OSError as exc:
            print(type(exc).__name__, flush=True)
        sys.stdin.readline()
"""


def test_another_host_learns_only_who_belongs_to_the_fleet(lan, load, rendered):
    """As when hosts join: its own rules stay, and one without the table gets none."""
    assert lan.module(sets=rendered["host"]["sets"])["changed"] is False and lan.table() is None
    fewer = without(rendered["host"]["sets"], V4.format(PLACES["second"]))
    load("host-any", sets=fewer)
    assert refused(lan.ask("second", *at("host", "upload")))
    said = lan.module(sets=rendered["host"]["sets"], keep=True)
    assert said["changed"] and said["added"] == {"peers4": [V4.format(PLACES["second"])]}
    assert all_yes(lan.ask("second", *at("host", "upload"))) and all_yes(lan.ask("monitor", *at("host", "metrics")))
    assert not load("host-any")["changed"]


def test_a_user_who_is_not_there_is_named(lan, load):
    users = [{"name": "daemons", "users": ["root"]}, {"name": "models", "users": ["bin"]}]
    users += [{"name": "administrators", "users": ["root"]}, {"name": "runtimes", "users": ["root", "no-such-runtime"]}]
    said = load(users=users)
    assert said["failed"] and "Failed to find the user 'no-such-runtime' of the set runtimes" in said["msg"] and lan.table() is None
    # Before the first run of the roles the daemons have no users.
    assert load(users=users, check=True)["changed"]


def test_ten_thousand_hosts(lan, load, rendered):
    """In one transaction as well; the limit only ends a run that would not end."""
    many = [f"10.{number >> 8 & 255}.{number & 255}.1" for number in range(10_000)]
    sets = [
        {**entry, "elements": [*many, *entry["elements"]]} if entry["name"] == "peers4" else entry for entry in rendered["host"]["sets"]
    ]
    begun = time.monotonic()
    assert load(sets=sets)["changed"]
    assert not load(sets=sets)["changed"]
    print(f"{time.monotonic() - begun:.1f} s, {(lan.work / 'host.nft').stat().st_size >> 10} KiB")
    assert refused(lan.ask("stranger", *at("host", "upload"))) and all_yes(lan.ask("member", *at("host", "upload")))
