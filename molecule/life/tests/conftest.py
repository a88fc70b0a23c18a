"""What the scenario's tests share: plays on the fleet as it is and as it grows, what is on a host, and requests all the time."""

from __future__ import annotations

import pytest
from fleet import FILES, GPU_HOSTS, REPOSITORY, Scenario, declared_models, recap, wait_until

SCENARIO = Scenario("life")
HOSTS = ("scheduler-1", "seed-1", *GPU_HOSTS, "spare-1")
DAEMONS = {
    "scheduler-1": ["dragonfly-scheduler"],
    "seed-1": ["dfdaemon"],
    **{name: ["dfdaemon", "torchserve"] for name in GPU_HOSTS},
    "spare-1": ["dragonfly-scheduler", "dfdaemon"],
}
MORE = ("-i", str(SCENARIO.directory / "more"))
# Every name on a host with its owner and mode, but what a system that runs writes by itself: Ansible's own directory, records of systemd,
# the package manager's index and what it copies at midnight, backups of the lists of users, and what Python has compiled. The last are the
# requests of the tests.
SYSTEM = "/root/.ansible /var/log/journal /var/lib/systemd /var/cache/apt /var/tmp /tmp /run /etc/.pwd.lock /etc/.updated /var/.updated"
OURS = "/root/answers.log /root/input.json /root/load.py"
COPIES = [f"-path '/var/backups/{name}.*'" for name in ("alternatives.tar", "apt.extended_states", "dpkg")]
SKIPPED = " -o ".join([*(f"-path {path}" for path in f"{SYSTEM} {OURS}".split()), "-path '/etc/*-'", *COPIES, "-name __pycache__"])
TREE = rf"find / -xdev \( {SKIPPED} \) -prune -o -printf '%p %y %m %U %G\n' | LC_ALL=C sort"


@pytest.fixture(scope="session")
def fleet():
    return SCENARIO.hosts(HOSTS)


@pytest.fixture(scope="session")
def origin():
    return SCENARIO.origin


@pytest.fixture(scope="session")
def play():
    """A callable that runs a play; it must end with ``code``."""
    return SCENARIO.play_to_the_end


def changed(finished):
    """The hosts on which a play changed something."""
    return {name for name, row in recap(finished).items() if row["changed"]}


@pytest.fixture(scope="session")
def on_disk(fleet):
    """A callable that returns all that is on a host, and who its users are."""

    def look(name):
        host = fleet[name]
        users = host.check_output("getent passwd; getent group").splitlines()
        return {*host.check_output(TREE).splitlines(), *(f"account {line}" for line in users)}

    return look


@pytest.fixture(scope="session")
def before(fleet, on_disk):
    """What was on each host before the first installation, when Ansible had been there once."""
    asked = SCENARIO.play("all:!localhost:!origin", "-m", "ansible.builtin.setup", program="ansible")
    assert asked.returncode == 0, asked.stdout
    return {name: on_disk(name) for name in HOSTS}


@pytest.fixture(scope="session")
def installed(before, play):
    """The fleet before it grows."""
    play("site", "--limit", "all:!gpu-3")


@pytest.fixture
def processes(fleet):
    """A callable that returns what runs on hosts, so that a restart is a difference."""

    def look(names):
        return {(name, unit): fleet[name].main_pid(unit) for name in names for unit in DAEMONS[name]}

    return look


@pytest.fixture
def serves(fleet):
    """A callable that asserts that a host gives the known answer."""
    (demo,) = declared_models(REPOSITORY / "inventory/lab")
    return lambda name: fleet[name].gives(demo)


@pytest.fixture
def schedulers(fleet):
    """A callable that returns to which of the schedulers a host has connections."""
    prefix = SCENARIO.settings["lab_network_prefix"]
    names = {f"{prefix}.11": "scheduler-1", f"{prefix}.13": "spare-1"}

    def look(name):
        peers = {line.split()[3] for line in fleet[name].check_output("ss -Htn state established").splitlines()}
        return {names[peer.rpartition(":")[0]] for peer in peers if peer.endswith(":8002")}

    return look


@pytest.fixture
def load(fleet):
    """Requests on every GPU host all the time; a callable returns {host: [what was answered]} and ends them."""
    source = (SCENARIO.directory / "files/load.py").read_text(encoding="utf-8")
    body = (FILES / "demo-1.0.input.json").read_text(encoding="utf-8")
    write = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"

    def answers(name):
        return fleet[name].check_output("cat /root/answers.log").splitlines()

    for name in GPU_HOSTS:
        for path, content in (("/root/load.py", source), ("/root/input.json", body), ("/root/answers.log", "")):
            fleet[name].check_output("python3 -c %s %s %s", write, path, content)
        fleet[name].check_output("systemd-run --unit=load python3 /root/load.py")
    for name in GPU_HOSTS:
        wait_until(lambda name=name: answers(name), f"an answer of {name}")

    yield lambda: {name: answers(name) for name in GPU_HOSTS}
    for name in GPU_HOSTS:
        fleet[name].check_output("systemctl stop load.service && rm -f /root/load.py /root/input.json /root/answers.log")
