# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The servers that are compared: how each is started, asked, and what TorchServe may be told beyond what the role says by default."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

import jinja2
import yaml

REPOSITORY = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(REPOSITORY / "collections"))

from ansible_collections.modelfleet.serving.plugins.module_utils._torchserve_config import file_text  # noqa: E402

ROLE = REPOSITORY / "collections/ansible_collections/modelfleet/serving/roles/torchserve"
VENV = "/cache/venv"
PORT = 8080
WORKERS = 2
# One picture at a time; and up to eight, for which one waits five milliseconds at most.
BATCHES = {1: 0, 8: 5}


class Server(NamedTuple):
    name: str
    title: str
    family: str
    batches: tuple = tuple(BATCHES)
    # Of TorchServe: variables of the role, keys of config.properties, and its workers. None: as many as the role's default says.
    variables: dict = {}
    config: dict = {}
    workers: int | None = WORKERS


QUIET = {"torchserve_log_level": "warn", "torchserve_access_log": False}
QUEUE = {"job_queue_size": "1000"}
THREADS = {"number_of_netty_threads": "2", "netty_client_threads": "2"}


def _torchserve(name: str, title: str, **options) -> Server:
    return Server(f"torchserve{name}", f"TorchServe, {title}" if title else "TorchServe", "torchserve", **options)


SERVERS = {
    one.name: one
    for one in (
        Server("model", "the model alone", "model", batches=(1,)),
        Server("fastapi", "FastAPI (control)", "fastapi", batches=(1,)),
        _torchserve("", ""),
        Server("triton", "Triton", "triton"),
        Server("bentoml", "BentoML", "bentoml"),
        _torchserve("-before", "one worker", batches=(1,), workers=None),
        _torchserve(
            "-tuned",
            "tuned",
            variables={**QUIET, "torchserve_java_options": ["-XX:+UseSerialGC", "-Dio.netty.leakDetection.level=disabled"]},
            config={**QUEUE, **THREADS},
        ),
        # What of it does what.
        _torchserve("-quiet", "without logs of requests", variables=QUIET),
        _torchserve("-queue", "queue of 1000", config=QUEUE),
        _torchserve("-threads", "two threads of netty", config=THREADS),
        _torchserve("-serial", "serial collector", variables={"torchserve_java_options": ["-XX:+UseSerialGC"]}),
        _torchserve("-parallel", "parallel collector", variables={"torchserve_java_options": ["-XX:+UseParallelGC"]}),
        _torchserve("-heap", "heap of 128 MiB", variables={"torchserve_heap": "128m"}),
        _torchserve("-nometrics", "without metrics", config={"disable_system_metrics": "true"}),
    )
}
COMPARED = ("model", "fastapi", "torchserve", "triton", "bentoml", "torchserve-before", "torchserve-tuned")
QUICK = ("model", "fastapi", "torchserve", "triton", "bentoml")
# The servers, of which one is the best; the others are there to be compared with.
RIVALS = ("torchserve-tuned", "triton", "bentoml")


def spec(server: Server, batch: int) -> dict:
    """What once.py needs to start and ask it; without argv it is the model alone."""
    common = {"directories": [], "files": {}, "links": {}, "environment": {}, "cwd": "/", "keys": None, "register": None, "kind": "raw"}
    return {**common, **_FAMILIES[server.family](server, batch)}


def _model(server: Server, batch: int) -> dict:
    return {}


def _python() -> dict:
    return {"PYTHONPATH": "/bench/served", "PATH": f"{VENV}/bin:/usr/bin:/bin"}


def _fastapi(server: Server, batch: int) -> dict:
    options = ["--host=127.0.0.1", f"--port={PORT}", f"--workers={WORKERS}", "--no-access-log", "--log-level=warning"]
    return {
        "argv": [f"{VENV}/bin/uvicorn", "fast_app:app", *options],
        "environment": _python(),
        "url": f"http://127.0.0.1:{PORT}/predict",
    }


def _bentoml(server: Server, batch: int) -> dict:
    settings = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": "/tmp/bentoml", "BATCH": str(batch), "WORKERS": str(WORKERS)}
    return {
        "argv": [f"{VENV}/bin/bentoml", "serve", "bento_service:Service", "--host=127.0.0.1", f"--port={PORT}"],
        "cwd": "/bench/served",
        "environment": {**_python(), **settings},
        "url": f"http://127.0.0.1:{PORT}/predict",
        "kind": "raw" if batch == 1 else "form",
    }


TRITON_CONFIG = """backend: "python"
max_batch_size: {batch}
input [{{ name: "picture", data_type: TYPE_STRING, dims: [ 1 ] }}]
output [{{ name: "classes", data_type: TYPE_INT32, dims: [ 5 ] }}, {{ name: "scores", data_type: TYPE_FP32, dims: [ 5 ] }}]
instance_group [{{ kind: KIND_CPU, count: {workers} }}]
"""


def _triton(server: Server, batch: int) -> dict:
    home, repository = "/cache/triton/pytriton/tritonserver", "/var/lib/triton/models"
    config = TRITON_CONFIG.format(batch=batch, workers=WORKERS)
    if batch > 1:
        config += f"dynamic_batching {{ max_queue_delay_microseconds: {BATCHES[batch] * 1000} }}\n"
    options = [
        f"--model-repository={repository}",
        "--model-control-mode=explicit",
        "--load-model=*",
        "--http-address=127.0.0.1",
        f"--http-port={PORT}",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        f"--backend-directory={home}/backends",
    ]
    return {
        "argv": [f"{home}/bin/tritonserver", *options],
        "environment": _python(),
        "files": {f"{repository}/bench/config.pbtxt": config},
        "links": {f"{repository}/bench/1/model.py": "/bench/served/triton_model.py"},
        "url": f"http://127.0.0.1:{PORT}/v2/models/bench/infer",
        "kind": "tensor",
    }


class _Role:
    """The role's templates with its defaults, as Ansible would render them."""

    def __init__(self, variables: dict, config: dict):
        self._environment = jinja2.Environment(undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
        self._environment.filters |= {
            "bool": bool,
            "ternary": lambda value, yes, no: yes if value else no,
            "combine": lambda one, other: {**one, **other},
            "modelfleet.serving.systemd_quote": lambda value, argument=False: shlex.quote(str(value)),
        }
        # Where a unit looks up another file, it is about what it may not do.
        self._environment.globals["lookup"] = lambda *_args, **_options: ""
        defaults, derived = (yaml.safe_load((ROLE / name / "main.yml").read_text()) for name in ("defaults", "vars"))
        given = {
            "__torchserve_venv": VENV,
            "__torchserve_home": "/opt/torchserve",
            "__torchserve_hub_environment": {},
            "__torchserve_compiled": [],
            "__torchserve_local": False,
            "torchserve_install_method": "package",
            "modelfleet_plugin_downloads": False,
            "role_path": str(ROLE),
        }
        self.variables = {**defaults, **given, **variables}
        rendered = {key: self._text(str(value)) for key, value in derived["__torchserve_config"].items()}
        rendered = {key: value.lower() if value in ("True", "False") else value for key, value in rendered.items()}
        self.config = {**rendered, **self.variables["torchserve_config"], **config}

    def _text(self, template: str) -> str:
        return self._environment.from_string(template).render(self.variables)

    def template(self, name: str) -> str:
        return self._text((ROLE / "templates" / name).read_text())


def _unit(text: str) -> tuple[list, dict]:
    """The command of a unit, and its environment."""
    lines = re.sub(r"\\\n", " ", text).splitlines()
    (command,) = (line.partition("=")[2] for line in lines if line.startswith("ExecStart="))
    pairs = [word for line in lines if line.startswith("Environment=") for word in shlex.split(line.partition("=")[2])]
    return shlex.split(command), dict(pair.split("=", 1) for pair in pairs)


def _torchserve_spec(server: Server, batch: int) -> dict:
    role = _Role(server.variables, server.config)
    argv, environment = _unit(role.template("torchserve.service.j2"))
    home = "/var/lib/torchserve"
    workers = server.workers or role.config["default_workers_per_model"]
    query = f"url=bench.mar&model_name=bench&synchronous=true&initial_workers={workers}&batch_size={batch}&max_batch_delay={BATCHES[batch]}"
    return {
        "argv": argv,
        "environment": environment,
        "cwd": home,
        "directories": [f"{home}/tmp"],
        "files": {
            "/etc/torchserve/config.properties": file_text(
                role.variables["torchserve_version"], role.config, role.variables["torchserve_config_allow"], "config.properties"
            ),
            "/etc/torchserve/log4j2.xml": role.template("log4j2.xml.j2"),
        },
        "links": {"/var/lib/modelfleet/models/bench.mar": "/cache/model/bench.mar"},
        "keys": f"{home}/key_file.json",
        "register": f"{role.config['management_address']}/models?{query}",
        "url": f"{role.config['inference_address']}/predictions/bench",
    }


_FAMILIES = {"model": _model, "fastapi": _fastapi, "bentoml": _bentoml, "triton": _triton, "torchserve": _torchserve_spec}
