# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keys of TorchServe's config.properties. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

import difflib
import ipaddress
import re
from urllib.parse import urlsplit

from ansible_collections.modelfleet.serving.plugins.module_utils import _systemd
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError

_HEADER = "# Managed by Ansible (modelfleet.serving): changes made here are lost.\n"

# TorchServe ignores a key that it does not know, so that a misspelt one goes unnoticed: these tables are the keys that its
# ConfigManager reads, by the type it reads them as.
_KEYS = {
    "address": "inference_address management_address metrics_address",
    "host": "grpc_inference_address grpc_management_address",
    "port": "grpc_inference_port grpc_management_port initial_worker_port initial_distribution_port",
    "bool": """async_logging cpu_launcher_enable debug decode_input_request disable_system_metrics disable_token_authorization
        enable_envvars_config enable_grpc_ssl enable_metrics_api enable_model_api install_py_dep_per_model ipex_enable ipex_gpu_enable
        limit_max_image_pixels model_metrics_auto_detect prefer_direct_buffer ts_open_inference_protocol use_env_allowed_urls
        use_native_io""",
    "int": """default_response_timeout default_workers_per_model grpc_inference_max_connection_age_grace_ms
        grpc_inference_max_connection_age_ms grpc_management_max_connection_age_grace_ms grpc_management_max_connection_age_ms io_ratio
        job_queue_size max_request_size max_response_size metric_time_interval netty_client_threads number_of_gpu number_of_netty_threads
        unregister_model_timeout""",
    "number": "token_expiration_min",
    "metrics_mode": "metrics_mode",
    "text": """allowed_urls blacklist_env_vars certificate_file cors_allowed_headers cors_allowed_methods cors_allowed_origin cpp_log_config
        cpu_launcher_args default_service_handler keystore keystore_pass keystore_type load_models metrics_config model_snapshot model_store
        models private_key_file service_envelope system_metrics_cmd ts_header_key_sequence_end ts_header_key_sequence_id
        ts_header_key_sequence_start workflow_store""",
}
_COMMON = {key: kind for kind, keys in _KEYS.items() for key in keys.split()}
KEYS = {"0.11.1": _COMMON, "0.12.0": {**_COMMON, "default_startup_timeout": "int"}}

# Written unless the configuration says otherwise. TorchServe's own defaults are a key that expires after an hour, no way to remove a model,
# and downloads from any URL.
SAFE = {
    "inference_address": "http://127.0.0.1:8080",
    "management_address": "http://127.0.0.1:8081",
    "metrics_address": "http://127.0.0.1:8082",
    "disable_token_authorization": False,
    "token_expiration_min": 5256000,
    "enable_model_api": True,
    # Matches nothing that is meant: a model is a file of the model store, never a URL.
    "allowed_urls": "file:///nonexistent/modelfleet",
}

# Keys that take over what this collection does: TorchServe would load models that nobody verified, or heed what nobody wrote down.
_UNVERIFIED = "lets TorchServe load models without a sha256 and without a record; list them in modelfleet_models"
_NO_CHOICE = "has no effect, because the unit names the directory of verified models on the command line; leave it out"
OWNED = {
    "enable_envvars_config": "lets the environment override this file unseen; write the keys themselves",
    "install_py_dep_per_model": "makes TorchServe fetch packages at every registration and restart, without a sha256, so that a host "
    "without network restores nothing; add what the models' requirements.txt list to torchserve_pip_packages",
    "load_models": _UNVERIFIED,
    "model_snapshot": _UNVERIFIED,
    "model_store": _NO_CHOICE,
    "models": "sets for a model what its entry in modelfleet_models sets; write it there",
    "use_env_allowed_urls": "lets the environment say what may be loaded; leave it out",
    "workflow_store": "is where TorchServe finds archives that nobody verified; leave it out, workflows are not supported",
}
_LAUNCHER = "is read by the torchserve launcher only, which this installation does not use; "
OWNED["plugins_path"] = _LAUNCHER + "put a plugin's jar into /opt/torchserve/plugins"
OWNED["vmargs"] = _LAUNCHER + "use the role's torchserve_java_options"

# Variables of the environment that would take away what the unit sets up.
OWNED_ENVIRONMENT = {
    "DRAGONFLY_ENDPOINT_CONFIG": "names the endpoint plugin's configuration, which its role writes; leave it out",
    "TEMP": "must be the directory that the unit empties at every start; leave it out",
    "TMPDIR": "must be the directory that the unit empties at every start; leave it out",
    "TS_CONFIG_FILE": "makes TorchServe read another configuration; write the keys into torchserve_config",
}

HOW = {
    "address": "a URL such as http://127.0.0.1:8080, or unix:/path",
    "host": "an IP address",
    "port": "a port number",
    "bool": "true or false",
    "int": "a whole number",
    "number": "a number",
    "metrics_mode": "log, prometheus or legacy",
    "text": "text in one line",
}


def problems(version, config, allow=()):
    """Yield ``(key, problem)`` for everything that is wrong with ``config``."""
    keys = KEYS[version]
    for key in sorted(config, key=str):
        value = config[key]
        if key in OWNED:
            yield key, OWNED[key]
        elif key not in keys:
            newer = [other for other in KEYS if key in KEYS[other]]
            near = difflib.get_close_matches(str(key), [known for known in keys if known not in OWNED], 1)
            hint = f"; it exists in {newer[0]}" if newer else f"; did you mean {near[0]}?" if near else ""
            yield key, f"is not a key of TorchServe {version}{hint}"
        elif not _fits(keys[key], value):
            yield key, f"must be {HOW[keys[key]]}, not {value!r}"
        else:
            yield from _unsafe(key, keys[key], value, allow)


def java_problem(option):
    """What is wrong with one option for java (str, with what to do), or None."""
    if not isinstance(option, str) or not option.startswith("-"):
        return "is not an option, which begins with '-'; java would take it for the program"
    if re.match(r"(-cp|-classpath|--class-path|-jar|-m|--module|-Dmodel_server_home|-Djava[.]io[.]tmpdir)(=|$)", option):
        return "takes away what the unit sets; leave it out"
    if re.search(r"\s-[DX]", option):
        return "is several options in one; make each an element of the list"
    return _systemd.problem(option)


def visible_problem(value, device):
    """What is wrong with a CUDA_VISIBLE_DEVICES on a host whose torchserve_device is ``device`` (str, with what to do), or None.

    TorchServe counts the numbers in it, does not start with one of CUDA's other names, and gives out all GPUs where it is empty.
    """
    text = str(value)
    if re.fullmatch(r"[0-9]{1,4}(,[0-9]{1,4})*", text) or (text in ("", "-1") and device != "gpu"):
        return None
    if text in ("", "-1"):
        return "hides from the workers the GPUs that TorchServe gives them; leave it out, or set torchserve_device to cpu"
    return "is not numbers of GPUs, and TorchServe starts with nothing else; write them as in 0,1, or leave it out"


def _fits(kind, value):
    text = as_text(value)
    if isinstance(value, (dict, list)) or value is None or "\n" in text or "\r" in text:
        return False
    if kind == "bool":
        return text in ("true", "false")
    # Java reads no other digits, and no more of them into a number of 64 bits.
    if kind == "int":
        return re.fullmatch("-?[0-9]{1,18}", text) is not None
    if kind == "port":
        return re.fullmatch("[0-9]{1,5}", text) is not None and 0 < int(text) < 65536
    if kind == "number":
        return re.fullmatch(r"[0-9]+(\.[0-9]+)?", text) is not None
    if kind == "metrics_mode":
        return text in ("log", "prometheus", "legacy")
    if kind == "host":
        return re.fullmatch(r"[0-9A-Fa-f.:]+|localhost", text) is not None
    if kind == "address":
        return re.fullmatch(r"https?://[^/\s]+|unix:/\S+", text) is not None
    return text != ""


def _unsafe(key, kind, value, allow):
    text = as_text(value)
    if kind in ("address", "host") and "lan_bind" not in allow and not _is_local(text):
        yield key, f"binds {text}, which others can reach; bind 127.0.0.1, or name lan_bind in allow"
    if key == "disable_token_authorization" and text == "true" and "no_token" not in allow:
        yield key, "lets every local user manage models; leave it false, or name no_token in allow"
    if key == "allowed_urls" and "remote_urls" not in allow and text != SAFE["allowed_urls"]:
        yield key, "lets TorchServe load models from there without a sha256; leave it out, or name remote_urls in allow"
    if key == "enable_model_api" and text == "false":
        yield key, "would make it impossible to remove a model and to restore models after a restart; leave it true, the token protects it"
    if key == "token_expiration_min" and float(text) < SAFE[key]:
        yield key, f"is {text}, so that the keys would expire that many minutes after a start, and nothing renews them; leave it out"
    if key == "keystore_pass" and not re.fullmatch(r"\$\$\w+\$\$", text):
        yield key, "would be a secret in clear; write $$NAME$$ and put NAME into the unit's environment"


def _is_local(text):
    if text.startswith("unix:"):
        return True
    try:
        host = urlsplit(text).hostname if "://" in text else text
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def file_text(version, config, allow, path):
    """The text of config.properties with ``config`` (dict) over what is safe. Raises ModelFleetError for what is refused in ``path``."""
    found = [{"key": key, "problem": problem} for key, problem in problems(version, config, allow)]
    if found:
        sentences = "; ".join("{key} {problem}".format(**problem) for problem in found)
        raise ModelFleetError(f"Refused the configuration {path}: {sentences}. Nothing was written.", problems=found)
    return _HEADER + to_properties({**SAFE, **config})


def as_text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def to_properties(config):
    """Java properties, sorted by key."""
    return "".join(f"{key}={_escape(as_text(config[key]))}\n" for key in sorted(config))


def _escape(text):
    escaped = "".join(_escape_character(character) for character in text)
    # Java leaves out blanks before a value.
    return "\\" + escaped if escaped.startswith(" ") else escaped


def _escape_character(character):
    if character == "\\":
        return "\\\\"
    if " " <= character <= "~":
        return character
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
