# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write as metrics what no daemon of this host says: whether its models are served, ready and right, and what expires.

Run by modelfleet-metrics.service, which a timer starts. It asks this host alone, changes nothing, and replaces the page in one step. A part
that fails leaves out what it would have said, and says so: modelfleet_look_success of that part is 0.
"""

from __future__ import annotations

import argparse
import base64
import calendar
import glob
import http.client
import json
import math
import os
import re
import ssl
import sys
import time
import urllib.parse

TIMEOUT_S = 10
ANSWER_S = 60
LARGEST = 16 << 20
UNITS = "/etc/systemd/system"
# What the unit of a server of one model says of it, by runtime: the prefix of the unit, and the path that answers 200 when it is ready.
UNIT_RUNTIMES = {"openai": ("openai-server-", "/health"), "bentoml": ("bentoml-", "/readyz")}
_SECTION = re.compile(r"^\[X-ModelFleet\]\n((?:[A-Za-z0-9]+=.*(?:\n|\Z))*)", re.MULTILINE)
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_TIMES = {0x17: 12, 0x18: 14}  # UTCTime and GeneralizedTime, with how many digits they have

# Every metric, in the order of the page. All are gauges.
METRICS = {
    "modelfleet_model_expected": "1 for each version that this host is to serve, by its own record.",
    "modelfleet_model_served": "Whether the runtime has the version.",
    "modelfleet_model_ready": "Whether as many workers of the version are ready as are to be, on the device on which they must be.",
    "modelfleet_model_workers_on_cpu": "Ready workers of the version that must use a GPU and do not.",
    "modelfleet_model_answering": "Whether the version gave the known answer when it was asked last. Only of versions with a known answer.",
    "modelfleet_smoke_timestamp_seconds": "When the known answers were asked for last.",
    "modelfleet_smoke_last_success_timestamp_seconds": "When all known answers were right for the last time.",
    "modelfleet_rollout_in_progress": "Whether a rollout works on this host, or has left something half-way.",
    "modelfleet_rollout_since_timestamp_seconds": "Since when, 0 without one.",
    "modelfleet_certificate_expiry_timestamp_seconds": "When the first certificate in the file expires.",
    "modelfleet_look_success": "Whether this part of the look at the host succeeded.",
    "modelfleet_look_duration_seconds": "How long the look took.",
    "modelfleet_look_timestamp_seconds": "When the look ended.",
}


class Failure(Exception):
    """One sentence for the journal."""


# The page


class Page:
    def __init__(self):
        self.samples = {name: [] for name in METRICS}

    def add(self, name, value, **labels):
        self.samples[name].append((labels, value))

    def text(self):
        lines = []
        for name, samples in self.samples.items():
            if samples:
                lines += [f"# HELP {name} {METRICS[name]}", f"# TYPE {name} gauge"]
                lines += [f"{name}{_braces(labels)} {_number(value)}" for labels, value in samples]
        return "\n".join(lines) + "\n"


def _braces(labels):
    pairs = [f'{name}="{_escaped(str(value))}"' for name, value in labels.items()]
    return "{" + ",".join(pairs) + "}" if pairs else ""


def _escaped(text):
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value):
    return str(int(value)) if float(value).is_integer() else f"{value:.3f}"


def replace(path, text):
    """Write the file in one step. Whoever reads it has the old one or the new one."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        os.fchmod(handle.fileno(), 0o644)
    os.replace(temporary, path)


# What is on this host


def read(path):
    """The text of a file, None without one."""
    try:
        with open(path, "rb") as handle:
            return handle.read(LARGEST).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise Failure(f"Cannot read {path}: {exc.strerror}") from exc


def read_json(path):
    text = read(path)
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise Failure(f"Cannot read {path}: it is not JSON") from exc


def read_record(path):
    """(the versions that this host is to serve, those that a rollout has brought up and not finished)."""
    found = read_json(path) if path else None
    try:
        parts = [list((found or {}).get(part, [])) for part in ("models", "staged")]
        for entry in (one for part in parts for one in part):
            if not all(isinstance(entry[key], str) for key in ("name", "version", "file")) or not isinstance(entry.get("workers", 1), int):
                raise TypeError
        return parts
    except (AttributeError, KeyError, TypeError) as exc:
        raise Failure(f"Cannot read the record {path}: it is damaged; run the playbook site, which writes it anew") from exc


def call(address, method, path, body=None, headers=None, timeout=TIMEOUT_S):
    """Return (status, body) of a request on this host, (0, b"") where nobody answers."""
    host, _colon, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=timeout)
    try:
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read(LARGEST)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def parse(body):
    try:
        return json.loads(body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def segment(text):
    # A request that holds "/token" anywhere is taken for the token API.
    quoted = urllib.parse.quote(text, safe="")
    return "%74" + quoted[1:] if quoted.startswith("token") else quoted


# The runtimes: each says of an entry of the record (served, ready workers, ready workers on the CPU that must use a GPU), and asks it


class TorchServe:
    def __init__(self, settings):
        self.settings = settings or {}

    def _headers(self, kind):
        """The keys are new at every start."""
        try:
            keys = read_json(self.settings["key_file"])
        except Failure:
            keys = None  # TorchServe is writing it
        key = ((keys or {}).get(kind) or {}).get("key") if isinstance(keys, dict) else None
        return {"Authorization": f"Bearer {key}"} if key else {}

    def look(self, entry):
        path = f"/models/{segment(entry['name'])}/all"
        status, body = call(self.settings["management"], "GET", path, headers=self._headers("management"))
        found = parse(body)
        if status == 404 or status == 0:
            return False, 0, 0
        if status != 200 or not isinstance(found, list):
            raise Failure(f"TorchServe answered {status} for the model {entry['name']}; see journalctl -u torchserve")
        for item in found:
            if isinstance(item, dict) and item.get("modelVersion") == entry["version"]:
                ready = [worker for worker in item.get("workers", []) if worker.get("status") == "READY"]
                fallen = [worker for worker in ready if entry.get("device") == "gpu" and not on_gpu(worker)]
                return True, len(ready) - len(fallen), len(fallen)
        return False, 0, 0

    def ask(self, check, body, kind):
        path = f"/predictions/{segment(check['model'])}/{segment(check['version'])}"
        return call(self.settings["inference"], "POST", path, body, {"Content-Type": kind, **self._headers("inference")}, ANSWER_S)


class Triton:
    def __init__(self, settings):
        self.address = (settings or {}).get("http", "")

    def look(self, entry):
        _status, body = call(self.address, "POST", "/v2/repository/index", b"{}", {"Content-Type": "application/json"})
        found = parse(body)
        known = isinstance(found, list) and any(
            isinstance(one, dict) and one.get("name") == entry["name"] and one.get("state") in ("READY", "LOADING") for one in found
        )
        ready = known and call(self.address, "GET", f"/v2/models/{urllib.parse.quote(entry['name'], safe='')}/ready")[0] == 200
        return known, entry.get("workers", 1) if ready else 0, 0

    def ask(self, check, body, kind):
        status, answer = call(
            self.address, "POST", f"/v2/models/{urllib.parse.quote(check['model'], safe='')}/infer", body, {"Content-Type": kind}, ANSWER_S
        )
        found = parse(answer)
        # The rest, such as the id of a request, is another one each time.
        return status, json.dumps(found.get("outputs")).encode() if isinstance(found, dict) else answer


class Unit:
    """A server of one model, which its unit describes."""

    def __init__(self, runtime, units=UNITS):
        self.prefix, self.path = UNIT_RUNTIMES[runtime]
        self.units = units

    def _section(self, name, version):
        for path in sorted(glob.glob(os.path.join(glob.escape(self.units), f"{self.prefix}*.service"))):
            found = _SECTION.search(read(path) or "")
            pairs = dict(line.partition("=")[::2] for line in found[1].splitlines()) if found else {}
            if (pairs.get("Name"), pairs.get("Version")) == (name, version) and pairs.get("Port", "").isdigit():
                return pairs
        return None

    def look(self, entry):
        section = self._section(entry["name"], entry["version"])
        if section is None:
            return False, 0, 0
        ready = call(f"{section.get('Address', '127.0.0.1')}:{section['Port']}", "GET", self.path)[0] == 200
        return True, entry.get("workers", 1) if ready else 0, 0

    def ask(self, check, body, kind):
        section = self._section(check["model"], check["version"])
        if section is None:
            return 0, b""
        address = f"{section.get('Address', '127.0.0.1')}:{section['Port']}"
        return call(address, "POST", f"/{section.get('Route', '').lstrip('/')}", body, {"Content-Type": kind}, ANSWER_S)


def runtime_of(name, config):
    if name == "torchserve":
        return TorchServe(config.get("torchserve"))
    if name == "triton":
        return Triton(config.get("triton"))
    if name in UNIT_RUNTIMES:
        return Unit(name)
    raise Failure(f"Cannot look at the runtime {name} of the record, which is newer than this program; run the playbook site")


def on_gpu(worker):
    """Whether TorchServe gave the worker a GPU that works and the process uses it: a handler stays on the CPU without a word."""
    if not worker.get("gpu") or str(worker.get("gpuUsage", "")).startswith("failed"):
        return False
    return any(uses_gpu(pid) is not False for pid in family(worker.get("pid", -1)))


def uses_gpu(pid, proc="/proc"):
    """Whether the process has a CUDA context, for which it maps this device; None when that cannot be seen from here."""
    try:
        with open(f"{proc}/{pid}/maps", "rb") as handle:
            return any(line.rstrip().endswith(b" /dev/nvidia-uvm") for line in handle)
    except OSError:
        return None


def family(pid, proc="/proc"):
    """The process and its descendants (torchrun starts the real workers as children)."""
    parents = {}
    for entry in os.listdir(proc):
        if entry.isdigit():
            try:
                with open(f"{proc}/{entry}/stat", encoding="utf-8", errors="replace") as handle:
                    parents.setdefault(int(handle.read().rpartition(")")[2].split()[1]), []).append(int(entry))
            except (OSError, IndexError, ValueError):
                continue
    members = [pid]
    for member in members:
        members += parents.get(member, [])
    return members


# Known answers


def same(expected, found, tolerance):
    """Whether two JSON values are equal, numbers to within ``tolerance``."""
    if _is_number(expected) and _is_number(found):
        return expected == found or abs(expected - found) <= tolerance or (math.isnan(expected) and math.isnan(found))
    if type(expected) is not type(found):
        return False
    if isinstance(expected, dict):
        return set(expected) == set(found) and all(same(expected[key], found[key], tolerance) for key in expected)
    if isinstance(expected, list):
        return len(expected) == len(found) and all(same(one, other, tolerance) for one, other in zip(expected, found))
    return expected == found


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def request_of(check):
    """(body, content type), as inference_check sends it."""
    if check.get("input_base64") is not None:
        return base64.b64decode(check["input_base64"]), check.get("content_type") or "application/octet-stream"
    known = check["input"]
    if isinstance(known, str):
        kind = "application/octet-stream" if parse(known.encode()) is None and known.strip() != "null" else "application/json"
        return known.encode(), check.get("content_type") or kind
    return json.dumps(known).encode(), check.get("content_type") or "application/json"


def is_right(check, status, body):
    if status != 200:
        return False
    if check.get("expected_base64") is not None:
        return body == base64.b64decode(check["expected_base64"])
    expected, text = check["expected"], body.decode("utf-8", "replace")
    if isinstance(expected, str):
        try:
            expected = json.loads(expected)
        except ValueError:
            return re.sub(r"\r?\n\Z", "", text) == re.sub(r"\r?\n\Z", "", expected)
    try:
        return same(expected, json.loads(text), check.get("tolerance", 1e-4))
    except (ValueError, RecursionError):
        return False


# The parts of a look: each adds what it knows to the page, and raises Failure


def look_at_models(config, page, now):
    failed = []
    for entry in read_record(config.get("record"))[0]:
        labels = {"model": entry["name"], "version": entry["version"], "runtime": entry.get("runtime", "torchserve")}
        page.add("modelfleet_model_expected", 1, **labels)
        try:
            served, ready, fallen = runtime_of(labels["runtime"], config).look(entry)
        except Failure as exc:
            failed.append(str(exc))
            continue
        page.add("modelfleet_model_served", served, **labels)
        page.add("modelfleet_model_ready", served and ready >= entry.get("workers", 1), **labels)
        if entry.get("device") == "gpu" and labels["runtime"] == "torchserve":
            page.add("modelfleet_model_workers_on_cpu", fallen, **labels)
    if failed:
        raise Failure("; ".join(failed))


def look_at_answers(config, page, now):
    """Asked again when the last time is long enough ago, or not all answers were right."""
    checks = {(one["model"], one["version"], one.get("runtime", "torchserve")): one for one in read_json(config["checks"]) or []}
    here = {(one["name"], one["version"], one.get("runtime", "torchserve")) for one in read_record(config.get("record"))[0]}
    checks = {key: one for key, one in checks.items() if key in here and key[2] != "openai"}
    if not checks:
        return
    try:
        state = read_json(config["state"])
        kept = {tuple(key): right for *key, right in state["answers"]}
        asked, good = float(state["asked"]), float(state["good"])
    except (Failure, KeyError, TypeError, ValueError):
        kept, asked, good = {}, 0.0, 0.0
    if set(kept) != set(checks) or not all(kept.values()) or not 0 <= now - asked < config["smoke_seconds"]:
        kept, asked = {}, now
        for key, check in checks.items():
            kept[key] = is_right(check, *runtime_of(key[2], config).ask(check, *request_of(check)))
        good = now if all(kept.values()) else good
        replace(config["state"], json.dumps({"asked": asked, "good": good, "answers": [[*key, right] for key, right in kept.items()]}))
    for (model, version, runtime), right in kept.items():
        page.add("modelfleet_model_answering", right, model=model, version=version, runtime=runtime)
    page.add("modelfleet_smoke_timestamp_seconds", asked)
    page.add("modelfleet_smoke_last_success_timestamp_seconds", good)


def look_at_rollout(config, page, now):
    if not config.get("record"):
        return
    text, staged = read(config["lock"]), read_record(config["record"])[1]
    begun = [one["since"] for one in staged if _is_number(one.get("since"))]
    if text is not None:
        begun.append(_since(text, config["lock"], now))
    page.add("modelfleet_rollout_in_progress", text is not None or bool(staged))
    page.add("modelfleet_rollout_since_timestamp_seconds", min(begun) if begun else (now if staged else 0))


def _since(text, path, now):
    """When the holder of the lock took it; a lock that nobody can read any more is as old as its file."""
    try:
        return calendar.timegm(time.strptime(json.loads(text)["since"], "%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, KeyError, TypeError):
        try:
            return os.stat(path).st_mtime
        except OSError:
            return now


def look_at_certificates(config, page, now):
    missing = []
    for name, path in config.get("certificates", {}).items():
        ends = [not_after(ssl.PEM_cert_to_DER_cert(one)) for one in _CERTIFICATE.findall(read(path) or "")]
        ends = [end for end in ends if end is not None]
        if ends:
            page.add("modelfleet_certificate_expiry_timestamp_seconds", min(ends), certificate=name)
        else:
            missing.append(path)
    if missing:
        raise Failure(f"No certificate that can be read in {', '.join(missing)}; run the playbook site")


def not_after(certificate):
    """The end of the validity of a certificate (bytes, DER) as epoch; None for what is none."""
    try:
        fields = list(_elements(next(_elements(next(_elements(certificate))[1]))[1]))
        # Behind the version, which may be missing: serial number, algorithm, issuer, validity.
        kind, stamp = list(_elements(fields[4 if fields[0][0] == 0xA0 else 3][1]))[1]
        digits = re.match(rf"\d{{{_TIMES[kind]}}}", stamp.decode()).group()
        # Two digits of a year are those of 1950 to 2049.
        year = digits if len(digits) == 14 else ("19" if digits >= "5" else "20") + digits
        return calendar.timegm(time.strptime(year, "%Y%m%d%H%M%S"))
    except (IndexError, KeyError, StopIteration, AttributeError, ValueError):
        return None


def _elements(data):
    """The tag and content of each element of DER."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            count = length & 0x7F
            length, at = int.from_bytes(data[at : at + count], "big"), at + count
        yield tag, data[at : at + length]
        at += length


PARTS = {
    "models": look_at_models,
    "answers": look_at_answers,
    "rollout": look_at_rollout,
    "certificates": look_at_certificates,
}


def complain(text):
    print(f"<4>{text}", file=sys.stderr, flush=True)


def look(config, now=None):
    """The page of this host, and whether all parts of it succeeded."""
    page, began, well = Page(), time.monotonic(), True
    now = time.time() if now is None else now
    for name, part in PARTS.items():
        try:
            part(config, page, now)
            success = True
        except Failure as exc:
            complain(f"{exc}.")
            success = False
        except Exception as exc:  # the others are worth having all the same
            complain(f"Failed to look at the {name} of this host: {type(exc).__name__}: {exc}.")
            success = False
        page.add("modelfleet_look_success", success, part=name)
        well = well and success
    page.add("modelfleet_look_duration_seconds", time.monotonic() - began)
    page.add("modelfleet_look_timestamp_seconds", time.time())
    return page, well


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True)
    parser.add_argument("--page", required=True)
    args = parser.parse_args(argv)
    try:
        config = read_json(args.config)
        if not isinstance(config, dict):
            raise Failure(f"Cannot read {args.config}: it is not what the role monitoring writes")
    except Failure as exc:
        # Without it nothing is known, and that is what the page says.
        complain(f"{exc}.")
        page = Page()
        for name in PARTS:
            page.add("modelfleet_look_success", 0, part=name)
        page.add("modelfleet_look_timestamp_seconds", time.time())
        replace(args.page, page.text())
        return 1
    page, _well = look(config)
    replace(args.page, page.text())
    # What is wrong is in the metrics: a unit that fails would hide that they were written.
    return 0


if __name__ == "__main__":
    sys.exit(main())
