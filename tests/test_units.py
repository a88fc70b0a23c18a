# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every systemd unit of the product, rendered by its role's own defaults, is valid and well sandboxed."""

from __future__ import annotations

import ipaddress
import os
import pathlib
import re
import subprocess

import pytest
import yaml

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
ROLES = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles"
UNITS = sorted(ROLES.glob("*/templates/*.service.j2"))
LIMIT = 2.0
# It writes units, users and rules of the firewall, so it is root; a unit of root without a sandbox has 9.6.
LIMITS_OF_ROOT = {
    "modelfleet-pull.service.j2": 3.6,
    "modelfleet-pull.service.j2 on GPUs": 3.8,
    "modelfleet-pull.service.j2 with packages": 3.6,
}

# One version of a model has a unit of its own.
SERVER = {
    "__openai_server_model": {
        "name": "llama",
        "version": "3.1",
        "sha256": "9f" * 32,
        "port": 8101,
        "options": ["--alias={name}", "50% of $HOME", '{"a": 1}'],
        "environment": {"ODD": '50% of "it"'},
    },
    "openai_server_command": ["/opt/vllm/bin/vllm", "serve", "{directory}", "--host", "{host}", "--port", "{port}"],
}
BENTO = {"__bentoml_model": {**SERVER["__openai_server_model"], "route": "answer"}}
SERVED = {"modelfleet_offline_bundle": "/srv/modelfleet bundle", "offline_bundle_readers": ["10.9.0.0/24"]}
OF_ONE = {"openai-server.service.j2": SERVER, "bentoml.service.j2": BENTO, "modelfleet-bundle.service.j2": SERVED}
# A unit and the variables that give it another sandbox.
VARIANTS = {path.name: (path, OF_ONE.get(path.name, {})) for path in UNITS}
VARIANTS["bentoml.service.j2 on GPUs"] = (ROLES / "bentoml/templates/bentoml.service.j2", {**BENTO, "torchserve_device": "gpu"})
VARIANTS["openai-server.service.j2 on GPUs"] = (
    ROLES / "openai_server/templates/openai-server.service.j2",
    {**SERVER, "torchserve_device": "gpu"},
)
VARIANTS.update(
    {f"{path.name} on GPUs": (path, {"torchserve_device": "gpu"}) for path in UNITS if path.name.startswith(("torchserve", "triton"))}
)
VARIANTS["modelfleet-metrics.service.j2 on GPUs"] = (
    ROLES / "monitoring/templates/modelfleet-metrics.service.j2",
    {"__monitoring_gpu": True},
)
PULL = ROLES / "pull/templates/modelfleet-pull.service.j2"
VARIANTS["modelfleet-pull.service.j2 on GPUs"] = (
    PULL,
    {"__pull_gpu": True, "pull_textfile_directory": "/var/lib/prometheus/node-exporter"},
)
VARIANTS["modelfleet-pull.service.j2 with packages"] = (PULL, {"pull_install_packages": True})
# Podman needs to be root; what it runs is not.
IMAGE = f"registry.example.org/modelfleet/image:1.0@sha256:{'0f' * 32}"
CONTAINED = {
    "dfdaemon.service.j2": {
        "dfdaemon_install_method": "container",
        "dfdaemon_image": IMAGE,
        "dfdaemon_environment": {"HTTPS_PROXY": "http://p:1"},
    },
    "dragonfly-scheduler.service.j2": {
        "dragonfly_scheduler_install_method": "container",
        "dragonfly_scheduler_image": f"sha256:{'0f' * 32}",
    },
    "torchserve.service.j2": {
        "torchserve_install_method": "container",
        "torchserve_image": IMAGE,
        "torchserve_environment": {"ODD": '50% of "it" $HOME'},
        "torchserve_java_options": ["-Dodd=${HOME}"],
    },
    "triton.service.j2": {
        "triton_image": f"nvcr.io/nvidia/tritonserver:25.07-py3@sha256:{'0f' * 32}",
        "triton_environment": {"ODD": '50% of "it"'},
    },
}
CONTAINERS = set()
for path in UNITS:
    for device in ("cpu", "gpu") if path.name.startswith(("torchserve.", "triton.")) else ("cpu",):
        if path.name in CONTAINED:
            name = f"{path.name} in a container{' on GPUs' if device == 'gpu' else ''}"
            CONTAINERS.add(name)
            VARIANTS[name] = (path, {"torchserve_device": device, **CONTAINED[path.name]})
VARIANTS["torchserve.service.j2 in a container without downloads"] = (
    ROLES / "torchserve/templates/torchserve.service.j2",
    {"modelfleet_plugin_downloads": False, **CONTAINED["torchserve.service.j2"]},
)
CONTAINERS.add("torchserve.service.j2 in a container without downloads")
VARIANTS["torchserve-models.service.j2 beside a container"] = (
    ROLES / "torchserve/templates/torchserve-models.service.j2",
    {"torchserve_install_method": "container"},
)
# Values that systemd would expand, split, or leave out with the whole line.
ODD = {
    "torchserve_environment": {"ODD": '50% of "it" \\ $HOME', "SPACED": " a  b "},
    "torchserve_java_options": ["-XX:OnOutOfMemoryError=kill -9 %p", "-Dodd=${HOME} \"'"],
}
VARIANTS["torchserve.service.j2 with odd values"] = (ROLES / "torchserve/templates/torchserve.service.j2", ODD)
VARIANTS["torchserve.service.j2 without downloads"] = (
    ROLES / "torchserve/templates/torchserve.service.j2",
    {"modelfleet_plugin_downloads": False},
)
HUB = {"name": "bert", "version": "1", "huggingface": {"repo": "org/bert", "revision": "0f" * 20}}
OTHER_GROUP = {**HUB, "huggingface": {**HUB["huggingface"], "group": "tenant"}}
VARIANTS["openai-server.service.j2 with a hub"] = (
    ROLES / "openai_server/templates/openai-server.service.j2",
    {**SERVER, "__openai_server_model": {**OTHER_GROUP, "port": 8102}},
)
FOR_HANDLERS = {
    " with a hub": {"modelfleet_models": [HUB]},
    " with a hub and words of its own": {"modelfleet_models": [HUB], "torchserve_environment": {"HF_HUB_OFFLINE": "0"}},
    " with a cache of its own": {"modelfleet_models": [HUB], "torchserve_environment": {"HF_HOME": "/srv/cache"}},
    " with a hub for others": {"modelfleet_models": [OTHER_GROUP, {**HUB, "state": "absent"}]},
}
for variant, variables in FOR_HANDLERS.items():
    VARIANTS[f"torchserve.service.j2{variant}"] = (ROLES / "torchserve/templates/torchserve.service.j2", variables)
COMPILED = {"name": "net", "version": "1", "object": "net.mar", "sha256": "9f" * 32, "compile_cache": "caches/net"}
FOR_CACHES = {
    " with a compile cache": {"modelfleet_models": [COMPILED]},
    " with a compile cache and a path of its own": {
        "modelfleet_models": [COMPILED],
        "modelfleet_plugin_downloads": False,
        "torchserve_environment": {"PYTHONPATH": "/srv/handlers"},
    },
    " with a compile cache that goes": {"modelfleet_models": [{**COMPILED, "state": "absent"}]},
}
for variant, variables in FOR_CACHES.items():
    VARIANTS[f"torchserve.service.j2{variant}"] = (ROLES / "torchserve/templates/torchserve.service.j2", variables)
VARIANTS["torchserve.service.j2 on the LAN"] = (
    ROLES / "torchserve/templates/torchserve.service.j2",
    {"torchserve_config": {"inference_address": "http://10.0.0.1:8080"}},
)

FLEET = {
    "modelfleet_install_method": "package",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "modelfleet_address": "10.0.0.1",
    "modelfleet_mtls": True,
    "modelfleet_plugin_downloads": True,
    "modelfleet_models": [],
    "modelfleet_firewall_destinations": ["10.0.0.53"],
    "modelfleet_storage": {"s3": {"bucket": "models", "region": "us-east-1", "access_key": "a", "secret_key": "s"}},
}


@pytest.fixture(scope="module")
def rendered(run, tmp_path_factory):
    """Render all units in one play; an Ansible start takes longer than everything else here."""
    work = tmp_path_factory.mktemp("units")
    plays, files = [], {}
    for number, (name, (path, variables)) in enumerate(VARIANTS.items()):
        # systemd takes the name of a unit from its file.
        files[name] = work / str(number) / path.stem
        files[name].parent.mkdir()
        role = path.parent.parent
        plays.append(
            {
                "hosts": "localhost",
                "connection": "local",
                "gather_facts": False,
                "vars": {**FLEET, "role_path": str(role)},
                "vars_files": [f"{role}/defaults/main.yml", f"{role}/vars/main.yml", f"{ROLES}/modelfleet/vars/main.yml"],
                "tasks": [{"ansible.builtin.template": {"src": str(path), "dest": str(files[name]), "mode": "0644"}, "vars": variables}],
            }
        )
    (work / "render.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    finished = run("ansible-playbook", "-i", "localhost,", work / "render.yml")
    assert finished.returncode == 0, finished.stdout
    return files


def test_there_are_units():
    assert {"dfdaemon.service.j2", "dragonfly-scheduler.service.j2", "torchserve.service.j2"} <= set(VARIANTS)


@pytest.mark.parametrize("name", [name for name in VARIANTS if name not in CONTAINERS])
def test_sandbox(rendered, name):
    limit = LIMITS_OF_ROOT.get(name, LIMIT)
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={limit * 10:.0f}", "--no-pager", str(rendered[name])],
        capture_output=True,
        text=True,
        check=False,
    )
    print(result.stdout.splitlines()[-1])
    assert result.returncode == 0, result.stdout + result.stderr


def test_no_dfdaemon_starts_without_certificates_that_it_can_read(rendered):
    """It would listen in clear text and say nothing."""
    text = rendered["dfdaemon.service.j2"].read_text()
    assert "\nExecStartPre=test -r /etc/dragonfly/tls/ca.pem -a -r /etc/dragonfly/tls/dfdaemon.pem\n" in text


def test_model_code_writes_only_where_the_plugin_downloads_and_calls_nobody(rendered):
    units = [rendered[f"torchserve.service.j2{variant}"].read_text() for variant in ("", " without downloads", " on the LAN")]
    for text, writes, local in zip(units, (True, False, True), (True, True, False), strict=True):
        assert ("\nReadWritePaths=/var/lib/modelfleet\n" in text) is writes
        assert ("\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1 10.0.0.53\n" in text) is local
        assert "\nInaccessiblePaths=-/var/lib/modelfleet/pieces\n" in text


def test_the_watch_of_the_gateway_reads_no_key_of_its_certificate(rendered):
    text = rendered["modelfleet-gateway-watch.service.j2"].read_text()
    assert "\nGroup=modelfleet-gateway\n" in text and "\nInaccessiblePaths=/etc/modelfleet-gateway\n" in text


def test_a_host_that_sets_itself_up_changes_the_distribution_only_where_it_may(rendered):
    texts = [rendered[f"modelfleet-pull.service.j2{variant}"].read_text() for variant in ("", " on GPUs", " with packages")]
    for text, usr, gpu in zip(texts, (False, False, True), (False, True, False), strict=True):
        assert "\nProtectSystem=strict\n" in text and "SYS_ADMIN" not in text and "SYS_MODULE" not in text
        assert (" /usr\n" in text) is usr
        assert ("DeviceAllow=char-nvidia rw" in text) is gpu and ("PrivateDevices=true" in text) is not gpu
    assert "\nReadWritePaths=/var/lib/prometheus/node-exporter\n" in texts[1]


def test_the_devices_of_workers_are_seen_where_they_are_judged(rendered):
    for unit in ("torchserve.service.j2", "torchserve-models.service.j2"):
        assert "PrivateUsers=true" in rendered[unit].read_text()
        assert "PrivateUsers=true" not in rendered[f"{unit} on GPUs"].read_text()


@pytest.mark.parametrize("name", VARIANTS)
def test_comes_back_after_a_kill(rendered, name):
    text = rendered[name].read_text()
    if "Type=oneshot" not in text:
        assert "Restart=always" in text and "StartLimitIntervalSec=0" in text


def test_a_worker_that_the_kernel_kills_takes_no_other_with_it(rendered):
    assert "\nOOMPolicy=continue\n" in rendered["torchserve.service.j2"].read_text()


def test_nvidia_devices_of_every_driver(rendered):
    """The class of the devices has two names, and those of a module that is not loaded yet are not allowed to the unit at all."""
    for unit in ("torchserve.service.j2", "openai-server.service.j2", "triton.service.j2", "bentoml.service.j2"):
        gpu, cpu = (rendered[name].read_text() for name in (f"{unit} on GPUs", unit))
        for kind in ("nvidia", "nvidia-frontend", "nvidia-uvm", "nvidia-caps"):
            assert f"\nDeviceAllow=char-{kind} rw" in gpu
        assert "\nWants=modprobe@nvidia_uvm.service\nAfter=modprobe@nvidia_uvm.service " in gpu
        assert "\nExecStartPre=-+nvidia-modprobe -u -c=0\n" in gpu
        assert "nvidia" not in cpu


def test_a_server_sees_its_own_model_and_is_told_what_the_inventory_says(rendered):
    text = rendered["openai-server.service.j2"].read_text()
    directory = f"/var/lib/modelfleet/models/llama-3.1-{'9f' * 6}"
    assert f"\nTemporaryFileSystem=/var/lib/modelfleet:ro\nBindReadOnlyPaths={directory}\n" in text
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1\n" in text
    command = text.partition("\nExecStart=")[2].partition("\nKillMode=")[0].replace(" \\\n    ", " ")
    assert command == (
        f'"/opt/vllm/bin/vllm" "serve" "{directory}" "--host" "127.0.0.1" "--port" "8101" "--alias=llama" "50%% of $$HOME" '
        r'"{\"a\": 1}"'
    )
    assert r'Environment="ODD=50%% of \"it\""' in text
    said = dict(line.split("=") for line in text.partition("[X-ModelFleet]\n")[2].splitlines())
    assert said == {"Name": "llama", "Version": "3.1", "File": f"llama-3.1-{'9f' * 6}", "Port": "8101", "Device": "cpu"}
    hub = rendered["openai-server.service.j2 with a hub"].read_text()
    repository = "/var/lib/modelfleet/huggingface/tenant/hub/models--org--bert"
    assert f"\nTemporaryFileSystem=/var/lib/modelfleet:ro\nBindReadOnlyPaths={repository}\n" in hub
    assert f'"serve" \\\n    "{repository}/snapshots/{"0f" * 20}" \\\n' in hub and f"\nFile={'0f' * 20}\n" in hub
    assert f"\nStateDirectory=openai-server/bert-1-{'0f' * 6}\n" in hub


def test_a_version_of_bentoml_sees_its_own_model_and_has_an_address_of_its_own(rendered):
    text = rendered["bentoml.service.j2"].read_text()
    directory = f"/var/lib/modelfleet/models/llama-3.1-{'9f' * 6}"
    assert f"\nTemporaryFileSystem=/var/lib/modelfleet:ro\nBindReadOnlyPaths={directory}\n" in text
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1\n" in text and "\nUser=bentoml\n" in text
    found = re.fullmatch(rf"/opt/bentoml/bin/bentoml serve {directory} --host (\S+) --port 8101", command_of(text))
    assert ipaddress.ip_address(found[1]) in ipaddress.ip_network("127.64.0.0/10")
    assert r'Environment="ODD=50%% of \"it\""' in text and f" BENTOML_HOME=/var/lib/bentoml/llama-3.1-{'9f' * 6}\n" in text
    said = dict(line.split("=") for line in text.partition("[X-ModelFleet]\n")[2].splitlines())
    assert said == {
        **{"Name": "llama", "Version": "3.1", "File": f"llama-3.1-{'9f' * 6}", "Port": "8101", "Device": "cpu"},
        **{"Address": found[1], "Route": "answer"},
    }


def test_who_serves_the_bundle_sees_it_and_may_only_read(rendered):
    text = rendered["modelfleet-bundle.service.j2"].read_text()
    assert '\nBindReadOnlyPaths="/srv/modelfleet bundle":/run/modelfleet-bundle\n' in text and "\nDynamicUser=true\n" in text
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1 10.9.0.0/24\n" in text
    assert " --bind 10.0.0.1 --directory /run/modelfleet-bundle\n" in text


def test_who_leads_ports_to_servers_sees_nothing_of_the_fleet(rendered):
    text = rendered["modelfleet-bentoml.service.j2"].read_text()
    assert "\nUser=modelfleet-bentoml\n" in text and "\nTemporaryFileSystem=/var/lib/modelfleet:ro\n" in text
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost\n" in text


def command_of(text):
    return text.partition("\nExecStart=")[2].partition("\nKillMode=")[0].partition("\nExecStopPost=")[0].replace(" \\\n    ", " ").strip()


OPTIONS = (
    '"--model-repository=/var/lib/modelfleet/triton/models" "--model-control-mode=explicit" "--load-model=*" "--exit-on-error=false" '
    '"--strict-readiness=false" "--http-address=127.0.0.1" "--http-port=8200" "--grpc-address=127.0.0.1" "--grpc-port=8201" '
    '"--metrics-address=127.0.0.1" "--metrics-port=8202"'
)


def test_triton_reads_its_repository_and_listens_on_loopback(rendered):
    text = rendered["triton.service.j2"].read_text()
    assert command_of(text) == f'/opt/tritonserver/bin/tritonserver {OPTIONS} "--backend-directory=/opt/tritonserver/backends"'
    assert "\nTemporaryFileSystem=/var/lib/modelfleet:ro\nBindReadOnlyPaths=/var/lib/modelfleet/triton\n" in text
    assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1\n" in text and "\nUser=triton\n" in text
    assert text.endswith("\n[X-ModelFleet]\nHttp=8200\nHoles=refused\n")


def test_triton_in_a_container_is_as_well(rendered):
    cpu, gpu = (rendered[f"triton.service.j2 in a container{device}"].read_text() for device in ("", " on GPUs"))
    image = f'"nvcr.io/nvidia/tritonserver:25.07-py3@sha256:{"0f" * 32}"'
    assert command_of(cpu).endswith(f"--volume=/var/lib/modelfleet/triton:/var/lib/modelfleet/triton:ro {image} tritonserver {OPTIONS}")
    assert " --pull=never " in command_of(cpu) and r'"--env=ODD=50%% of \"it\""' in command_of(cpu) and "nvidia.com" not in cpu
    assert " --device=nvidia.com/gpu=all " in command_of(gpu)
    for text in (cpu, gpu):
        assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1\n" in text


CONFINED = (
    "--detach --replace --rm --pull=never --sdnotify=conmon --cgroups=split --network=host --log-driver=passthrough --read-only "
    "--cap-drop=all --security-opt=no-new-privileges"
)


@pytest.mark.parametrize("name", ["dfdaemon", "dragonfly-scheduler", "torchserve"])
def test_a_container_has_the_rights_of_its_user_and_no_other(rendered, name):
    text = rendered[f"{name}.service.j2 in a container"].read_text()
    command = command_of(text)
    assert CONFINED in command and f" --name={name} " in command and f"ExecStopPost=-podman rm --force --ignore {name}\n" in text
    assert "\nUser=" not in text and f'podman run --user "$$(id -u {name}):$$(getent group ' in command and "--privileged" not in text
    assert "nvidia.com/gpu" not in text and "--pid=host" not in text
    # No tag beside the digest, which counts, and nothing from a registry.
    assert (f'"registry.example.org/modelfleet/image@sha256:{"0f" * 32}"' in command) is (name != "dragonfly-scheduler")
    assert (f'"sha256:{"0f" * 32}"' in command) is (name == "dragonfly-scheduler") and "podman pull" not in text


def numbers_of(command, tmp_path, *groups):
    """What the shell of a start makes of it, with users and groups of its own."""
    for program, script in {
        "podman": 'printf "%s\\n" "$@"',
        "id": 'case "$1 $2" in "-u "*) echo 990;; *) echo "980 981 982";; esac',
        "getent": f'echo "$2:x:980:{",".join(groups)}"',
    }.items():
        path = tmp_path / program
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    script = command.partition("-c '")[2].partition("' sh")[0].replace("$$", "$").replace("\\\n", "")
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", "--rest"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    return done.stdout.splitlines()


def test_a_container_is_its_user_by_the_numbers_of_the_host(rendered, tmp_path):
    words = numbers_of(rendered["dfdaemon.service.j2 in a container"].read_text().partition("\nExecStart=")[2], tmp_path)
    assert words[:6] == ["run", "--user", "990:980", "--group-add=980", "--group-add=981", "--group-add=982"]
    assert words[-1] == "--rest" and all(word.endswith(":/etc/ssl/certs/ca-certificates.crt:ro") for word in words[6:-1])


def test_dfdaemon_in_a_container_links_within_one_mount(rendered):
    text = rendered["dfdaemon.service.j2 in a container"].read_text()
    command = command_of(text)
    assert " --volume=/var/lib/modelfleet:/var/lib/modelfleet " in command and "/var/lib/modelfleet/" not in command
    assert " --volume=/etc/dragonfly:/etc/dragonfly:ro " in command and '"--env=HTTPS_PROXY=http://p:1"' in command
    assert '"--env=RUST_LOG=dragonfly_client_backend=off"' in command and "\nLogFilterPatterns=~(?i)(signature|[?&]sig)=\n" in text
    socket, secret = (
        text.index(words) for words in ("-m 0700 /run/dragonfly", "setpriv --reuid=dfdaemon --regid=dragonfly --init-groups test -r")
    )
    assert socket < secret < text.index("\nExecStart=")


def test_torchserve_in_a_container_sees_what_it_does_without_one(rendered):
    cpu, gpu, closed = (
        rendered[f"torchserve.service.j2 in a container{one}"].read_text() for one in ("", " on GPUs", " without downloads")
    )
    command = command_of(cpu)
    assert "--security-opt=mask=/var/lib/modelfleet/pieces" in command and " --volume=/var/lib/modelfleet:/var/lib/modelfleet " in command
    assert " --volume=/var/lib/modelfleet/state:/var/lib/modelfleet/state:ro " in command
    assert " --volume=/var/lib/modelfleet:/var/lib/modelfleet:ro " in command_of(closed)
    assert " --volume=/opt/torchserve/plugins:/opt/torchserve/plugins:ro " in command
    assert r'"--env=ODD=50%% of \"it\" $$HOME"' in command and command.endswith('"torchserve" "-Xmx512m" "-Dodd=$${HOME}"')
    for text in (cpu, closed):
        assert "\nIPAddressDeny=any\nIPAddressAllow=localhost 10.0.0.1 10.0.0.53\n" in text and "--device" not in text
    assert " --device=nvidia.com/gpu=all " in command_of(gpu) and " --pid=host " in command_of(gpu)
    models = rendered["torchserve-models.service.j2 beside a container"].read_text()
    assert "\nExecStart=python3 -I /opt/torchserve/restore_models.py " in models and "/opt/torchserve/venv" not in models


def test_odd_values_are_quoted(rendered):
    text = rendered["torchserve.service.j2 with odd values"].read_text()
    assert r'Environment="ODD=50%% of \"it\" \\ $HOME"' in text and 'Environment="SPACED= a  b "' in text
    assert r'''"-XX:OnOutOfMemoryError=kill -9 %%p"''' in text and r'''"-Dodd=$${HOME} \"'"''' in text


def test_handlers_find_the_models_of_a_hub(rendered):
    texts = [rendered[f"torchserve.service.j2{variant}"].read_text() for variant in FOR_HANDLERS]
    found = [
        [line.removeprefix("Environment=").strip('"') for line in text.splitlines() if line.startswith('Environment="HF_')]
        for text in texts
    ]
    cache = "HF_HUB_CACHE=/var/lib/modelfleet/huggingface/modelfleet-hf/hub"
    rest = ["HF_HUB_DISABLE_TELEMETRY=1", "HF_HUB_DISABLE_XET=1"]
    assert found == [[cache, *rest, "HF_HUB_OFFLINE=1"], [cache, *rest, "HF_HUB_OFFLINE=0"], ["HF_HOME=/srv/cache"], []]
    assert rendered["torchserve.service.j2 with a hub for others"].read_text() == rendered["torchserve.service.j2"].read_text()
    # What a handler writes there, as with trust_remote_code, it may write.
    assert "\nEnvironment=HOME=/var/lib/torchserve\nEnvironment=TEMP=" in texts[0] and "XDG_CACHE_HOME" not in texts[0]


@pytest.mark.parametrize("name", VARIANTS)
def test_is_understood_by_systemd(rendered, name):
    result = subprocess.run(["systemd-analyze", "verify", str(rendered[name])], capture_output=True, text=True, check=False)
    # The programs are not there on a development machine, which is the only error that may be, and other units are not either.
    absent = [line for line in result.stderr.splitlines() if "is not executable: No such file" in line]
    # Before systemd 253 there is no LogFilterPatterns, and its line is ignored.
    known = ("not found", "Unknown key 'LogFilterPatterns'", "Unknown key name 'LogFilterPatterns'")
    assert [line for line in result.stderr.splitlines() if line not in absent and not any(part in line for part in known)] == []
    assert result.returncode == (1 if absent else 0)


def test_what_another_processor_compiled_goes(rendered, tmp_path):
    """What models share that have no compile cache of their own."""
    (line,) = (one for one in rendered["torchserve.service.j2"].read_text().splitlines() if "/proc/cpuinfo" in one)
    cpuinfo, inductor = tmp_path / "cpuinfo", tmp_path / "inductor"
    command = line.removeprefix("ExecStartPre=-/bin/sh -c '").removesuffix("'").replace("$$", "$").replace("/proc/cpuinfo", str(cpuinfo))

    def start(flags, capability=""):
        (tmp_path / "tmp").mkdir(exist_ok=True)
        cpuinfo.write_text(f"processor : 0\nflags\t: {flags}\n" * 2)
        command_here = ["/bin/sh", "-c", command.replace("/var/lib/torchserve", str(tmp_path))]
        subprocess.run(command_here, check=True, env={"PATH": os.environ["PATH"], "ATEN_CPU_CAPABILITY": capability})
        kept = (inductor / "kernel.so").exists()
        (inductor / "kernel.so").touch()
        return kept

    assert not start("avx2 avx512f")
    assert start("avx2 avx512f")
    assert not start("avx2")
    assert start("avx2")
    assert not start("avx2", "default")


def test_workers_find_their_compile_caches_by_what_the_host_is_at_this_start(rendered):
    found, beside, gone = (rendered[f"torchserve.service.j2{variant}"].read_text() for variant in FOR_CACHES)
    asked = "/bin/python -I /opt/torchserve/compile_cache.py --write /run/torchserve/compile_cache.json"
    for text in (found, beside):
        # Before any worker, and not in the way of a start.
        assert asked in text.partition("\nExecStart=")[0]
        assert "\nExecStartPre=-timeout 75 /opt/torchserve/venv-" in text
    assert '\nEnvironment="PYTHONPATH=/opt/torchserve/worker"\n' in found or "\nEnvironment=PYTHONPATH=/opt/torchserve/worker\n" in found
    last = [line for line in beside.splitlines() if "PYTHONPATH=" in line][-1]
    assert "PYTHONPATH=/opt/torchserve/worker:/srv/handlers" in last
    assert "\nReadWritePaths=-/var/lib/modelfleet/compile-caches\n" in beside
    assert gone == rendered["torchserve.service.j2"].read_text()
