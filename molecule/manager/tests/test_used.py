"""The manager at work, what becomes of it when things change, and the way back to a fleet without it."""

from __future__ import annotations

import shlex
import time

import pytest
from conftest import MANAGER, SECRETS, TOKEN, address_of, ask, config, query, token_of
from fleet import GPU_HOSTS, REPOSITORY, declared_models, known_answer, recap, wait_until

SIZE = 9 << 20
PASSWORD = SECRETS["dragonfly_manager_root_password"]
COMMENT = "select table_comment from information_schema.tables where table_schema = 'manager' and table_name = 'user'"
WHO = "select host_name, port, state from scheduler"
REGISTERED = f"{MANAGER}\t8002\tactive"
# Runs on a host: asks the model again and again, and keeps in a file how often, and how often in vain.
ASKING = """
import json, os, sys, time, urllib.request
asked = failed = 0
while True:
    key = json.load(open("/var/lib/torchserve/key_file.json"))["inference"]["key"]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request("http://127.0.0.1:8080/predictions/demo", data=sys.argv[1].encode(), headers=headers)
    try:
        urllib.request.urlopen(request, timeout=10).read()
    except OSError:
        failed += 1
    asked += 1
    with open("/run/asked.new", "w") as counted:
        counted.write(f"{asked} {failed}")
    os.replace("/run/asked.new", "/run/asked")
    time.sleep(0.1)
"""


@pytest.fixture(scope="module")
def url(fleet):
    """A file at a web server of the fleet that answers requests for a range, as the seed peer sees it."""
    host = fleet["gpu-1"]
    host.check_output("head -c %s /dev/urandom > /run/warm.bin", str(SIZE))
    server = (
        "import http.server, re\n"
        "data = open('/run/warm.bin', 'rb').read()\n"
        "class Handler(http.server.BaseHTTPRequestHandler):\n"
        "    protocol_version = 'HTTP/1.1'\n"
        "    def do_GET(self):\n"
        "        found = re.match(r'bytes=([0-9]+)-([0-9]*)', self.headers.get('Range', ''))\n"
        "        known = self.path.startswith('/warm.bin')\n"
        "        first, last = (int(found[1]), min(int(found[2] or len(data)), len(data) - 1)) if found else (0, len(data) - 1)\n"
        "        body = data[first : last + 1] if known else b''\n"
        "        self.send_response(404 if not known else 206 if found else 200)\n"
        "        if found and known: self.send_header('Content-Range', f'bytes {first}-{last}/{len(data)}')\n"
        "        self.send_header('Content-Length', str(len(body)))\n"
        "        self.end_headers()\n"
        "        if self.command == 'GET': self.wfile.write(body)\n"
        "    do_HEAD = do_GET\n"
        "http.server.ThreadingHTTPServer(('0.0.0.0', 8900), Handler).serve_forever()\n"
    )
    host.check_output("systemd-run --quiet --unit warm python3 -c %s", server)
    yield f"http://{address_of(21)}:8900/warm.bin"
    host.check_output("systemctl stop warm")


def test_a_job_warms_exactly_this_file_on_the_seed_peer(fleet, module, url):
    before = fleet["seed-1"].traffic().get("BACK_TO_SOURCE", 0)
    result = module("dragonfly_preheat", urls=[f"{url}?X-Amz-Signature=one"])
    assert result["changed"] and result["state"] == "SUCCESS"
    assert fleet["seed-1"].traffic()["BACK_TO_SOURCE"] - before == SIZE
    # Signed another time, it is the same file.
    assert not module("dragonfly_preheat", urls=[f"{url}?X-Amz-Signature=two"])["changed"]


def test_what_is_not_there_is_a_failure_for_a_single_seed_peer_too(module, url):
    """The manager calls it a success."""
    result = module("dragonfly_preheat", failed=True, urls=[url.replace("warm.bin", "none")], scope="single_seed_peer")
    assert "does not name every URL as fetched" in result["msg"]


def test_limits_are_written_whole(manager, module):
    assert module("dragonfly_cluster", candidate_parent_limit=4)["changed"]
    assert not module("dragonfly_cluster", candidate_parent_limit=4)["changed"]
    _status, (cluster,) = ask(manager, "GET", "/oapi/v1/clusters", token=token_of(manager))
    assert cluster["is_default"] and cluster["scheduler_cluster_config"]["filter_parent_limit"] == 15
    assert module("dragonfly_cluster", candidate_parent_limit=2)["changed"]


def test_a_second_start_is_as_good_as_the_first(manager):
    """Also where the variable of a first token is in the environment of systemd."""
    manager.check_output("systemctl set-environment DRAGONFLY_PAT=abcdef")
    try:
        for _time in range(2):
            manager.check_output("systemctl restart dragonfly-manager")
            wait_until(lambda: ask(manager, "GET", "/healthy")[0] == 200, "the manager")
    finally:
        manager.check_output("systemctl unset-environment DRAGONFLY_PAT")
    assert ask(manager, "GET", "/oapi/v1/clusters", token="abcdef")[0] == 401


def test_a_sign_in_by_somebody_does_not_stop_a_run(manager, play):
    """It has the manager refuse everybody for 30 seconds, root with the right password as well."""
    wrong = {"name": "root", "password": "a-wrong-guess"}
    ask(manager, "POST", "/api/v1/users/signin", wrong)
    right = {"name": "root", "password": PASSWORD}
    assert ask(manager, "POST", "/api/v1/users/signin", right)[0] == 401
    play("site", "--tags", "dragonfly_manager")


def test_a_lost_token_comes_back_and_another_replaces_it(manager, play):
    before = token_of(manager)
    manager.check_output("rm %s", TOKEN)
    play("site", "--tags", "dragonfly_manager")
    assert token_of(manager) == before
    play("site", "--tags", "dragonfly_manager", dragonfly_manager_rotate_token=True)
    assert token_of(manager) != before
    assert ask(manager, "GET", "/oapi/v1/clusters", token=before)[0] == 401
    assert ask(manager, "GET", "/oapi/v1/clusters", token=token_of(manager))[0] == 200


def test_another_password_of_root(manager, play):
    other = "lab-root-worthless-2"
    passwords = {"dragonfly_manager_root_password": other, "dragonfly_manager_old_root_passwords": [PASSWORD]}
    play("site", "--tags", "dragonfly_manager", **passwords)
    play("site", "--tags", "dragonfly_manager", dragonfly_manager_old_root_passwords=[other])


def test_a_lost_database_is_restored(manager, play, module):
    module("dragonfly_cluster", name="kept", description="before the loss")
    # As if it were saved before the scheduler came, which registers itself when it starts, and at no other time.
    query(manager, "delete from scheduler")
    play("backup")
    assert manager.check_output("stat -c '%a %U' /var/backups/dragonfly-manager.sql") == "600 root"
    token = token_of(manager)
    manager.check_output("systemctl stop dragonfly-manager")
    manager.check_output("mariadb --execute %s", "drop database manager; create database manager")
    play("restore")
    assert query(manager, "select bio from scheduler_cluster where name = 'kept'") == "before the loss"
    wait_until(lambda: query(manager, WHO) == REGISTERED, "the scheduler", 30)
    assert token_of(manager) == token and ask(manager, "GET", "/oapi/v1/clusters", token=token)[0] == 200
    body = {"name": "mallory", "password": "mallory-1", "email": "mallory@example.com"}
    assert ask(manager, "POST", "/api/v1/users/signup", body)[0] == 500
    assert module("dragonfly_cluster", name="kept", state="absent")["changed"]


def test_a_database_that_is_not_for_this_manager(manager, play):
    """It would change the tables of others, and does not know those of a newer one."""
    assert query(manager, COMMENT) == "modelfleet: manager 2.5.1"
    started = manager.check_output("systemctl show -P ActiveEnterTimestamp dragonfly-manager")
    query(manager, "alter table user comment = 'modelfleet: manager 2.6.0'")
    for mode in ([], ["--check"]):
        said = " ".join(play("site", "--tags", "dragonfly_manager", *mode, code=2).stdout.split())
        assert "the manager 2.6.0 has used it, and an older one does not know its tables. Set dragonfly_manager_version to 2.6.0" in said
    query(manager, "alter table user comment = 'modelfleet: manager 2.5.1'")
    query(manager, "create database shop; create table shop.config (price int); grant all on shop.* to 'dragonfly'@'127.0.0.1'")
    said = " ".join(play("site", "--tags", "dragonfly_manager", code=2, dragonfly_manager_database_name="shop").stdout.split())
    assert "it has tables of another program (config), which the manager would change" in said
    assert query(manager, "show tables in shop") == "config" and query(manager, "show columns in shop.config like 'price'")
    query(manager, "drop database shop")
    # What was saved of a newer one is refused before anything stops.
    play("backup")
    manager.check_output("sed -i 's/modelfleet: manager 2.5.1/modelfleet: manager 2.6.0/' /var/backups/dragonfly-manager.sql")
    assert "it was saved of the manager 2.6.0" in " ".join(play("restore", code=2).stdout.split())
    assert query(manager, COMMENT) == "modelfleet: manager 2.5.1"
    assert manager.check_output("systemctl show -P ActiveEnterTimestamp dragonfly-manager") == started


def test_a_redis_that_cannot_be_used(manager, module):
    own = {"type": "redis", "state": "usable", "user": "", "port": 6380, "password": SECRETS["dragonfly_manager_redis_password"]}
    assert not module("dragonfly_manager_database", **own)["changed"]
    assert (
        "does not take the password: WRONGPASS" in module("dragonfly_manager_database", failed=True, **{**own, "password": "wrong"})["msg"]
    )
    assert "Failed to reach Redis at 127.0.0.1:6399" in module("dragonfly_manager_database", failed=True, **{**own, "port": 6399})["msg"]


def test_a_scheduler_whose_port_moves_is_registered_anew(manager, fleet, play):
    """The manager refuses it while it knows the old port: Duplicate entry, uk_scheduler."""
    play("site", dragonfly_scheduler_port=8012)
    assert query(manager, "select host_name, port, state from scheduler") == f"{MANAGER}\t8012\tactive"
    for name in GPU_HOSTS:
        assert fleet[name].active("dfdaemon")
    play("site")
    assert query(manager, "select port from scheduler") == "8002"


def test_dfdaemon_starts_again_until_it_finds_a_scheduler(manager, fleet):
    """It ends with "available schedulers not found" where none is registered and active."""
    host = fleet["gpu-1"]
    manager.check_output("systemctl stop dragonfly-scheduler")
    wait_until(lambda: query(manager, "select state from scheduler") == "inactive", "the scheduler to be inactive", 120)
    host.check_output("systemctl restart dfdaemon")
    wait_until(lambda: int(host.check_output("systemctl show -P NRestarts dfdaemon")) > 0, "dfdaemon to start again", 120)
    manager.check_output("systemctl start dragonfly-scheduler")
    wait_until(lambda: host.run("curl --silent --fail http://127.0.0.1:4003/healthy").rc == 0, "dfdaemon", 180)


def test_downloads_go_on_without_the_manager(manager, fleet, play, url):
    manager.check_output("systemctl stop dragonfly-manager mariadb")
    try:
        # Longer than dfdaemon keeps what the manager has said.
        time.sleep(70)
        target = "/var/lib/modelfleet/incoming/warm"
        fleet["gpu-2"].check_output("/opt/dragonfly/client/current/dfget --no-progress %s -O %s", f"{url}?another", target)
        wanted = fleet["gpu-1"].check_output("sha256sum < /run/warm.bin")
        assert fleet["gpu-2"].check_output("sha256sum < %s", target) == wanted
        fleet["gpu-2"].check_output("rm %s", target)
        done = play("doctor", code=2)
        assert "dragonfly-manager" in done.stdout
        # Nobody is restarted who would not come back.
        pid = fleet["seed-1"].main_pid("dfdaemon")
        done = play("site", "--tags", "dfdaemon", code=2, dfdaemon_config={"scheduler": {"announceInterval": "61s"}})
        assert "Failed to reach Dragonfly's manager at" in done.stdout and fleet["seed-1"].main_pid("dfdaemon") == pid
    finally:
        manager.check_output("systemctl start mariadb dragonfly-manager")
    wait_until(lambda: ask(manager, "GET", "/healthy")[0] == 200, "the manager")


def administer(host, sql, database="postgres"):
    """What PostgreSQL answers to its administrator; one statement at a time, as some allow no other with them."""
    host.check_output("systemctl start postgresql")
    wait_until(lambda: host.run("pg_isready").rc == 0, "PostgreSQL")
    words = " ".join(f"--command={shlex.quote(one)}" for one in sql.split("; "))
    return host.check_output(f"runuser -u postgres -- psql --dbname={database} --quiet --tuples-only --no-align {words}")


def test_a_database_of_postgresql(manager, fleet, play, module, url):
    """Made by who looks after it, as one that is elsewhere."""
    sql = "create role dragonfly login password '{dragonfly_manager_database_password}'; create database manager owner dragonfly"
    administer(manager, sql.format(**SECRETS))
    elsewhere = {"dragonfly_manager_database_type": "postgres", "dragonfly_manager_database_host": "127.0.0.1"}
    play("site", **elsewhere)
    assert administer(manager, 'select name from "user"', "manager") == "root"
    wait_until(lambda: administer(manager, WHO, "manager") == REGISTERED.replace("\t", "|"), "the scheduler", 30)
    # One that starts finds a scheduler in it.
    fleet["gpu-1"].check_output("systemctl restart dfdaemon")
    wait_until(lambda: fleet["gpu-1"].run("curl --silent --fail http://127.0.0.1:4003/healthy").rc == 0, "dfdaemon", 30)
    again = recap(play("site", **elsewhere))
    assert {name: row["changed"] for name, row in again.items()} == dict.fromkeys(again, 0)
    before = fleet["seed-1"].traffic().get("BACK_TO_SOURCE", 0)
    assert module("dragonfly_preheat", urls=[f"{url}?version=postgres"])["state"] == "SUCCESS"
    assert fleet["seed-1"].traffic()["BACK_TO_SOURCE"] - before == SIZE
    play("backup", **elsewhere)
    token = token_of(manager)
    manager.check_output("systemctl stop dragonfly-manager")
    administer(manager, "drop database manager; create database manager owner dragonfly")
    play("restore", **elsewhere)
    assert ask(manager, "GET", "/oapi/v1/clusters", token=token)[0] == 200
    body = {"name": "mallory", "password": "mallory-1", "email": "mallory@example.com"}
    assert ask(manager, "POST", "/api/v1/users/signup", body)[0] == 500
    assert administer(manager, 'select name from "user"', "manager") == "root"
    # The database before has all that it had.
    play("site")
    wait_until(lambda: query(manager, WHO) == REGISTERED, "the scheduler", 30)
    manager.check_output("systemctl stop postgresql")


@pytest.fixture
def load(fleet):
    """A callable that says how many requests for the model's answer were made so far on all hosts, and how many of them failed."""
    (model,) = declared_models(REPOSITORY / "inventory/lab")
    body, _expected = known_answer(model)
    for name in GPU_HOSTS:
        fleet[name].check_output("systemd-run --quiet --unit asking python3 -c %s %s", ASKING, body)
    yield lambda: [sum(int(fleet[name].check_output("cut -d ' ' -f %s /run/asked", str(at))) for name in GPU_HOSTS) for at in (1, 2)]
    for name in GPU_HOSTS:
        fleet[name].check_output("systemctl stop asking")


def test_and_back(manager, fleet, play, load):
    """By the same variable, and the manager stays; then by its group it goes, and its secrets with it."""
    for mode in (False, True, False):
        play("site", modelfleet_manager_mode=mode)
    asked, failed = load()
    print(f"Requests while the fleet went from the manager to none, back, and to none: {asked}, failed: {failed}")
    assert asked > 1000 and failed == 0
    assert "manager" not in config(manager, "scheduler") and config(manager, "scheduler").get("database") is None
    for name in ("seed-1", *GPU_HOSTS):
        assert "manager" not in config(fleet[name], "dfdaemon") and fleet[name].active("dfdaemon")
    assert manager.active("dragonfly-manager")
    again = recap(play("site", modelfleet_manager_mode=False))
    assert {name: row["changed"] for name, row in again.items()} == dict.fromkeys(again, 0)
    play("uninstall", "--limit", MANAGER, modelfleet_uninstall_confirm=True)
    assert manager.run("systemctl cat dragonfly-manager dragonfly-manager-redis").rc != 0
    assert (
        manager.run("ls /etc/dragonfly/manager.yaml /etc/dragonfly/manager-token /var/lib/dragonfly-manager /opt/dragonfly/manager").stdout
        == ""
    )
    assert manager.run("getent passwd dragonfly-manager").rc != 0
