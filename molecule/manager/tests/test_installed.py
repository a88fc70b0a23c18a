"""What the first run has left: a manager that the fleet asks, and that is closed to everybody else."""

from __future__ import annotations

import pytest
from conftest import MANAGER, SCENARIO, SECRETS, TOKEN, address_of, ask, config, query, token_of
from fleet import CONNECT, GPU_HOSTS, declared_models, recap, wait_until


def test_every_host_serves(fleet):
    (model,) = declared_models(SCENARIO.directory.parent.parent / "inventory/lab")
    for name in GPU_HOSTS:
        assert fleet[name].gives(model)


def test_the_units_run_as_their_own_user_and_start_at_boot(manager):
    for unit in ("dragonfly-manager", "dragonfly-manager-redis"):
        assert manager.active(f"{unit}.service") and manager.check_output("systemctl is-enabled %s", unit) == "enabled"
        assert manager.check_output("ps -o user:32= -p %s", manager.main_pid(unit)).strip() == "dragonfly-manager"
    assert manager.check_output("systemctl --failed --no-legend --plain") == ""
    # What the package brought is not ours.
    assert manager.run("systemctl is-active redis-server").stdout.strip() != "active"


def test_only_the_fleet_reaches_it(manager, fleet):
    address = address_of(11)
    listening = {line.split()[3] for line in manager.check_output("ss -Hltn").splitlines()}
    assert {f"{address}:65003", f"{address}:65100", "127.0.0.1:8090", "127.0.0.1:6380", "127.0.0.1:8001"} <= listening
    assert not {f"*:{port}" for port in (8090, 6380, 65003, 65100)} & listening
    for name in GPU_HOSTS:
        assert fleet[name].run("curl --silent --max-time 5 %s", f"http://{address}:8090/healthy").rc != 0


@pytest.mark.parametrize("name", [MANAGER, "gpu-1"])
def test_of_a_host_only_its_daemons_reach_manager_and_redis(fleet, name):
    places = [f"{address_of(11)}:{port}" for port in (65003, 65100)]
    for user, said in (("root", {"connected"}), ("dfdaemon", {"connected"}), ("nobody", {"ConnectionRefusedError"})):
        assert set(fleet[name].check_output("runuser -u %s -- python3 -c %s %s %s", user, CONNECT, *places).split()) == said, user


def test_redis_answers_nobody_without_its_password(manager):
    for place in ("127.0.0.1 -p 6380", f"{address_of(11)} -p 65100"):
        assert "NOAUTH" in manager.run(f"redis-cli -h {place} ping").stdout


def test_nobody_registers_himself(manager):
    """As the manager comes, this is answered with 200, and the new user reads everybody's tokens."""
    body = {"name": "mallory", "password": "mallory-1", "email": "mallory@example.com"}
    assert ask(manager, "POST", "/api/v1/users/signup", body)[0] == 500
    assert query(manager, "select name from user") == "root"
    assert ask(manager, "GET", "/api/v1/personal-access-tokens")[0] == 401


def test_a_user_of_the_host_does_not_even_reach_it(manager):
    assert ask(manager, "GET", "/healthy")[0] == 200
    assert ask(manager, "GET", "/healthy", user="nobody")[0] == 0


def test_the_published_password_is_worth_nothing(manager):
    body = {"old_password": "dragonfly", "new_password": "dragonfly-2"}
    wait_until(lambda: ask(manager, "POST", "/api/v1/users/1/reset_password", body)[0] == 401, "the manager to compare passwords", 60)


def test_the_token_is_for_root_alone_and_opens_jobs_and_clusters(manager):
    assert manager.check_output("stat -c '%%a %%U' %s", TOKEN) == "600 root"
    token = token_of(manager)
    for path in ("/oapi/v1/clusters", "/oapi/v1/jobs"):
        assert ask(manager, "GET", path, token=token)[0] == 200
        assert ask(manager, "GET", path, token="another")[0] == 401
    assert ask(manager, "GET", "/api/v1/personal-access-tokens", token=token)[0] == 401


def test_no_secret_is_readable_by_others(manager):
    # What is in /run may go while it is looked at.
    files = manager.run("find /etc/dragonfly /run /var/log/dragonfly-manager -type f -perm /o=r").stdout.split()
    assert "/etc/dragonfly/tls/ca.pem" in files
    for name in ("jwt_key", "root_password", "database_password", "redis_password"):
        command = "grep --files-with-matches --fixed-strings --no-messages -e %s -- " + " ".join(["%s"] * len(files))
        assert manager.run(command, SECRETS[f"dragonfly_manager_{name}"], *files).stdout == "", name


@pytest.mark.parametrize("name", ["seed-1", *GPU_HOSTS])
def test_dfdaemon_asks_the_manager_by_tls(fleet, name):
    found = config(fleet[name], "dfdaemon")
    assert found["manager"]["addr"].startswith("https://") and found["manager"]["caCert"] == "/etc/dragonfly/tls/ca.pem"
    assert fleet[name].active("dfdaemon")


def test_the_scheduler_is_registered_at_its_port(manager):
    assert query(manager, "select host_name, port, state from scheduler") == f"{MANAGER}\t8002\tactive"
    assert "manager" in config(manager, "scheduler")


def test_the_cluster_has_the_limits_of_the_fleet(manager):
    status, (cluster,) = ask(manager, "GET", "/oapi/v1/clusters", token=token_of(manager))
    assert status == 200 and cluster["is_default"]
    assert cluster["scheduler_cluster_config"] == {"candidate_parent_limit": 2, "filter_parent_limit": 15, "job_rate_limit": 10}


@pytest.mark.parametrize("playbook", ["smoke", "verify", "doctor"])
def test_a_play_that_looks_changes_nothing(play, playbook, tmp_path):
    reports = {f"{name}_report_path": str(tmp_path / f"{name}.json") for name in ("doctor", "verify")}
    done = play(playbook, verify_sbom_dir=str(tmp_path / "sbom"), **reports)
    assert {name: row["changed"] for name, row in recap(done).items()} == dict.fromkeys(recap(done), 0)
    assert MANAGER in recap(done)
