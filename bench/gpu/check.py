"""Run the project's own parts on this host, with its GPU if there is one. Started by check.sh in the repository root."""
import glob
import grp
import hashlib
import http.client
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time
import traceback
import zipfile
from pathlib import Path

REPO = Path.cwd()
HERE = REPO / ".gpu"
OUT = Path(os.environ.get("OUT", "/tmp/gpu-out"))
WORK = Path("/tmp/gpucheck")
FILES = WORK / "files"
SITE = Path("/tmp/gpusite")
COLLECTION = REPO / "collections/ansible_collections/modelfleet/serving"
PY = sys.executable
BEGAN = time.monotonic()
LIMIT = float(os.environ.get("GPUCHECK_LIMIT", "400"))
SLOW = float(os.environ.get("GPUCHECK_SLOW", "1"))  # limits times this, for a slow machine
RESULTS = []
NUMBERS = {}
S = {}  # what one step leaves for another
USER = "torchserve"
STANDARD = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CACHES, STORE = "/var/lib/modelfleet/compile-caches", "/var/lib/modelfleet/models"


class Fail(Exception):
    pass


def say(text):
    print(f"[{time.monotonic() - BEGAN:6.1f}] {text}", flush=True)


def left():
    return LIMIT - (time.monotonic() - BEGAN)


def step(name, limit, needs=()):
    def wrap(function):
        missing = [one for one in needs if one not in S]
        if missing or left() < 5 or name.split()[0] in os.environ.get("GPUCHECK_SKIP", "").split():
            why = "not asked for" if not missing and left() >= 5 else f"without {', '.join(missing)}" if missing else "no time left"
            say(f"SKIP {name}: {why}")
            RESULTS.append((name, "SKIP", why, 0))
            return
        say(f"---- {name}")
        began = time.monotonic()
        signal.signal(signal.SIGALRM, alarm)
        signal.alarm(max(1, int(min(limit * SLOW, left()))))
        try:
            detail = function() or ""
            state = "PASS"
        except Fail as exc:
            state, detail = "FAIL", str(exc)
        except Exception as exc:
            state, detail = "FAIL", f"{type(exc).__name__}: {exc}"
            traceback.print_exc()
        finally:
            signal.alarm(0)
        took = time.monotonic() - began
        say(f"{state} {name} ({took:.1f} s) {detail}")
        RESULTS.append((name, state, detail, round(took, 1)))

    return wrap


def alarm(_number, _frame):
    raise Fail("its time is up")


def need(condition, text):
    if not condition:
        raise Fail(text)


def sh(command, timeout=30, **more):
    """(code, output) of a command; its process group ends with it."""
    process = subprocess.Popen(
        command, shell=isinstance(command, str), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, text=True,
        errors="replace", stdin=subprocess.DEVNULL, **more,
    )
    try:
        out, _ = process.communicate(timeout=timeout * SLOW)
        return process.returncode, out
    except BaseException as exc:
        os.killpg(process.pid, signal.SIGKILL)
        if isinstance(exc, subprocess.TimeoutExpired):
            return 124, f"{exc.output or ''}\n(no end within {timeout} s)"
        raise


# Ansible


ANSIBLE_ENV = {
    **os.environ, "PYTHONPATH": str(SITE), "ANSIBLE_COLLECTIONS_PATH": str(REPO / "collections"), "ANSIBLE_CONFIG": str(WORK / "ansible.cfg"),
    "ANSIBLE_HOME": "/tmp/gpucheck/ansible", "LC_ALL": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_LOCALHOST_WARNING": "false",
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
}


def log_ansible(title, out):
    with open(OUT / "ansible.log", "a") as handle:
        handle.write(f"\n==== [{time.monotonic() - BEGAN:.1f}] {title}\n{out}\n")


def module(name, args, timeout=90, check=False):
    """What a module of the collection returns (with "failed")."""
    env = {**ANSIBLE_ENV, "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.minimal"}
    command = [PY, "-m", "ansible.cli.adhoc", "localhost", "-i", "localhost,", "-c", "local", "-m", f"modelfleet.serving.{name}",
               "-a", json.dumps(args), "-e", f"ansible_python_interpreter={PY}"] + (["--check"] if check else [])
    code, out = sh(command, timeout, env=env)
    log_ansible(f"{name} {json.dumps(args)[:600]}", out)
    found = re.search(r"^localhost \| \w+!? => (?=\{)", out, re.M)
    if not found:
        raise Fail(f"{name} gave nothing to read ({code}): {out[-600:]}")
    return json.JSONDecoder().raw_decode(out[found.end():])[0]


def play(name, timeout):
    role = COLLECTION / "roles/torchserve"
    if not (WORK / "templates").exists():
        (WORK / "templates").symlink_to(role / "templates")
    shutil.copy(HERE / name, WORK / name)
    command = [PY, "-m", "ansible.cli.playbook", "-i", str(WORK / "inventory.json"), str(WORK / name)]
    code, out = sh([*command, "-e", json.dumps({"role_here": str(role)})], timeout, env=ANSIBLE_ENV)
    log_ansible(name, out)
    return code, out


# The unit, as systemd would run it (without its sandbox)


class Unit:
    def __init__(self, name):
        text = Path(f"/etc/systemd/system/{name}.service").read_text().replace("\\\n", " ")
        self.name, self.keys = name, {}
        section = ""
        for line in text.splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and "=" in line and not line.startswith("#"):
                key, value = line.split("=", 1)
                self.keys.setdefault(key, []).append(value)
        self.process = None

    def environment(self):
        env = {"PATH": STANDARD, "LANG": "C.UTF-8", "USER": USER, "LOGNAME": USER, "HOME": "/var/lib/torchserve"}
        for line in self.keys.get("Environment", []):
            for pair in shlex.split(line):
                name, value = pair.replace("%%", "%").split("=", 1)
                env[name] = value
        return env

    def popen(self, value, log):
        prefix = re.match(r"[-+@:!]*", value)[0]
        words = [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(value[len(prefix):])]
        cwd = (self.keys.get("WorkingDirectory") or ["/"])[0]
        more = {} if "+" in prefix else {"user": USER, "group": USER, "extra_groups": os.getgrouplist(USER, pwd.getpwnam(USER).pw_gid)}
        return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=cwd, env=self.environment(),
                                start_new_session=True, umask=0o027, **more)

    def start(self, wait=False):
        uid, gid = pwd.getpwnam(USER).pw_uid, grp.getgrnam(USER).gr_gid
        if self.keys.get("RuntimeDirectory"):
            for top, key, mode in (("/run", "RuntimeDirectory", 0o755), ("/var/lib", "StateDirectory", 0o750)):
                path = f"{top}/{self.keys[key][0]}"
                os.makedirs(path, exist_ok=True)
                os.chown(path, uid, gid)
                os.chmod(path, mode)
        self.log = open(OUT / "torchserve.log", "a")
        self.log.write(f"\n==== [{time.monotonic() - BEGAN:.1f}] start of {self.name}\n")
        self.log.flush()
        for value in self.keys.get("ExecStartPre", []):
            try:
                code = self.popen(value, self.log).wait(90 * SLOW)
            except OSError as exc:
                code = str(exc)
            if code:
                say(f"  ExecStartPre {value[:70]}… ended with {code}")
                need(value.startswith("-"), f"{self.name}: {value[:60]} ended with {code}")
        self.process = self.popen(self.keys["ExecStart"][0], self.log)
        return self.process.wait(120 * SLOW) if wait else None

    def stop(self):
        """KillMode=mixed."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30 * SLOW)
            except subprocess.TimeoutExpired:
                say("  the stop took too long")
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            # Workers may have sessions of their own.
            for pid in [int(one) for one in os.listdir("/proc") if one.isdigit()]:
                try:
                    command = Path(f"/proc/{pid}/cmdline").read_bytes()
                    if os.stat(f"/proc/{pid}").st_uid == pwd.getpwnam(USER).pw_uid and b"model_service_worker" in command:
                        os.kill(pid, signal.SIGKILL)
                except OSError:
                    pass
        for path in glob.glob("/run/torchserve/*"):
            os.unlink(path)


def call(method, path, body=None, api="management", timeout=120):
    port = 8081 if api == "management" else 8080
    headers = {"Content-Type": "application/json"}
    try:
        headers["Authorization"] = "Bearer " + json.loads(Path("/var/lib/torchserve/key_file.json").read_text())[api]["key"]
    except (OSError, ValueError, KeyError):
        pass
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout * SLOW)
    try:
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    finally:
        connection.close()
    try:
        return response.status, json.loads(text)
    except ValueError:
        return response.status, text


def until(what, condition, timeout):
    deadline = time.monotonic() + timeout * SLOW
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (OSError, http.client.HTTPException, KeyError, IndexError, TypeError):
            pass
        time.sleep(0.2)
    raise Fail(f"no {what} within {timeout} s")


def workers(name):
    status, found = call("GET", f"/models/{name}/1.0")
    return found[0]["workers"] if status == 200 else []


def ready(name):
    return any(one["status"] == "READY" for one in workers(name))


def predict(name, timeout=200):
    """(seconds, answer, whether it is the known one)"""
    body = (FILES / f"{name}-1.0.input.json").read_bytes()
    began = time.monotonic()
    status, answer = call("POST", f"/predictions/{name}/1.0", body, "inference", timeout)
    took = time.monotonic() - began
    known = json.loads((FILES / f"{name}-1.0.expected.json").read_text())
    return took, answer, status == 200 and same(known, answer)


def same(a, b):
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return abs(a - b) <= 2e-3
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    return a == b


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def into_store(name):
    path = FILES / f"{name}-1.0.mar"
    digest = sha256(path)
    target = Path(STORE) / f"{name}-1.0-{digest[:12]}.mar"
    shutil.copy(path, target)
    os.chmod(target, 0o644)
    return digest


def scale(name, count):
    status, answer = call("PUT", f"/models/{name}/1.0?min_worker={count}&max_worker={count}&synchronous=false", b"")
    need(status < 300, f"scale {name} to {count}: {status} {answer}")
    if count:
        until(f"READY {name}", lambda: ready(name), 60)
    else:
        until(f"end of {name}'s workers", lambda: not workers(name), 60)
        time.sleep(0.3)


def tree(path):
    found = {}
    for one in sorted(Path(path).rglob("*")):
        if one.is_file() and not one.is_symlink():
            status = one.stat()
            found[str(one.relative_to(path))] = (status.st_size, status.st_ino, status.st_mtime_ns)
    return found


def kinds(names):
    found = {}
    for name in names:
        top = name.split("/")[0]
        key = f"{top if len(top) > 2 else '**'}/*{Path(name).suffix or '(none)'}"
        found[key] = found.get(key, 0) + 1
    return dict(sorted(found.items()))


def compare(title, before, after):
    """What was new or written again, into caches.txt; returns the new ones that a compiler made."""
    new, again = sorted(after.keys() - before.keys()), sorted(n for n in before.keys() & after.keys() if before[n] != after[n])
    with open(OUT / "caches.txt", "a") as handle:
        handle.write(f"\n==== {title}: {len(before)} files before, {len(after)} after\nnew: {new}\nwritten again: {again}\n")
    say(f"  {title}: {len(before)} files before, {len(new)} new {kinds(new)}, {len(again)} written again {kinds(again)}")
    return [name for name in new if re.search(r"\.(so|cubin|ptx|o)$|fxgraph|aotautograd", name)]


def counters(name):
    """What the handler said of its last request."""
    time.sleep(0.3)
    offset = {"neta": 117.0, "netb": 31.0}[name]
    found = [json.loads(line.split("GPUCHECK ", 1)[1]) for line in (OUT / "torchserve.log").read_text(errors="replace").splitlines()
             if "GPUCHECK {" in line]
    found = [one for one in found if one["offset"] == offset]
    return found[-1] if found else {}


def first(name, title):
    """The first answer of a worker that has just begun."""
    took, answer, right = predict(name)
    said = counters(name)
    say(f"  {title}: {took:.2f} s, right: {right}, {json.dumps({k: said.get(k) for k in ('inductor', 'aot_autograd', 'dir', 'triton')})}")
    need(right, f"{title}: wrong answer {str(answer)[:300]}")
    NUMBERS.setdefault(title, []).append(round(took, 2))
    return took


def cache(name):
    return f"{CACHES}/{S['sha'][name][:12]}-{S['fingerprint']}"


def background(name, command, env=None):
    log = open(OUT / "build.log", "a")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, cwd=REPO,
                            env={**os.environ, **(env or {})})


# ---------------------------------------------------------------- steps

OUT.mkdir(parents=True, exist_ok=True)
for old in ("ansible.log", "torchserve.log", "build.log", "caches.txt", "facts.txt"):
    (OUT / old).write_text("")
shutil.rmtree(WORK, ignore_errors=True)
FILES.mkdir(parents=True)
(WORK / "ansible.cfg").write_text("[defaults]\n")
SMI = shutil.which("nvidia-smi") or next(iter(glob.glob("/usr/local/nvidia/bin/nvidia-smi")), None)
GPU = bool(SMI)
DEVICE = "gpu" if GPU else "cpu"
say(f"python {sys.version.split()[0]} at {PY}, nvidia-smi {SMI}, limit {LIMIT} s")

BUILDS = {"plain": background("plain", [PY, str(HERE / "build.py"), "plain", str(FILES), "cuda" if GPU else "cpu"])}
SKIPPED = os.environ.get("GPUCHECK_SKIP", "").split()
for kind in ("cuda", "cpu") if GPU else ("cpu",) if "2g" not in SKIPPED else ():
    BUILDS[kind] = background(kind, [PY, str(HERE / "build.py"), kind, str(FILES)], {"TORCHINDUCTOR_CACHE_DIR": f"/tmp/gpucheck/build-{kind}"})


def read_facts():
    for command in (
        "uname -a; cat /etc/os-release | head -3; id; which systemctl g++ gcc nvcc ptxas java useradd ldconfig; g++ --version | head -1; gcc --version | head -1",
        "ps -p 1 -o comm=; cat /proc/1/comm; systemctl is-system-running",
        "nvidia-smi; nvidia-smi topo -m; nvidia-smi -L; ls -la /dev/nvidia* /proc/driver/nvidia /proc/driver/nvidia-nvswitch/devices; cat /proc/driver/nvidia/version",
        "df -h / /tmp /dev/shm; free -g; nproc; grep -m1 'model name' /proc/cpuinfo; grep -m1 '^flags' /proc/cpuinfo; ldconfig -p | grep -E 'libcuda|libnvidia-ml'",
        "env | grep -E '^(PATH|LD_|CUDA|NVIDIA|TRITON|TORCH|OMP|VIRTUAL|PYTHON)'; ls -ld / /opt /opt/torch /opt/torch/.venv; ls -la /opt/torch/.venv/bin/python3",
        f"{PY} -c \"import torch,sysconfig,os; print(torch.__version__, torch.version.git_version, torch.version.cuda, torch.cuda.is_available(), "
        "torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()); print(torch.cuda.is_available() and torch.cuda.get_device_properties(0)); "
        "print(os.path.exists(sysconfig.get_paths()['include']+'/Python.h')); import triton; print(triton.__version__)\"",
        f"{PY} -c \"import importlib.metadata as m; print(sorted(f'{{d.name}} {{d.version}}' for d in m.distributions() if d.name and d.name.lower().split('-')[0] in ('torch', 'triton', 'jinja2', 'markupsafe', 'pyyaml', 'packaging', 'psutil', 'cryptography', 'numpy', 'nvidia')))\"",
    ):
        out = sh(command, 30)[1]
        with open(OUT / "facts.txt", "a") as handle:
            handle.write(f"$ {command}\n{out}\n")


(OUT / "nvidia-smi.xml").write_text(sh([SMI, "-q", "-x"], 30)[1] if SMI else "")
FACTS = threading.Thread(target=read_facts, daemon=True)
if "0" not in SKIPPED:
    FACTS.start()


# The PATH and what else the unit needs on this host, for which a site has torchserve_environment.
ENVIRONMENT = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "CUDA_HOME", "TRITON_PTXAS_PATH", "CXX", "CC") if os.environ.get(name)}
if SMI and not shutil.which("nvidia-smi", path=STANDARD):
    ENVIRONMENT["PATH"] = f"{STANDARD}:{os.path.dirname(SMI)}"


def metrics(record, title):
    config = {
        "record": str(record), "lock": "/var/lib/modelfleet/state/rollout.lock", "checks": str(WORK / "checks.json"),
        "state": str(WORK / f"smoke-{title}.json"), "smoke_seconds": 300, "certificates": {},
        "torchserve": {"management": "127.0.0.1:8081", "inference": "127.0.0.1:8080", "key_file": "/var/lib/torchserve/key_file.json"},
    }
    (WORK / "checks.json").write_text(json.dumps(list(S["checks"].values())))
    (WORK / "metrics.json").write_text(json.dumps(config))
    code, out = sh([PY, "-I", str(COLLECTION / "roles/monitoring/files/host_metrics.py"), "--config", str(WORK / "metrics.json"), "--page", str(WORK / "page.prom")], 60)
    need(code == 0, out)
    page = [line for line in (WORK / "page.prom").read_text().splitlines() if line.startswith("modelfleet_") and "look_duration" not in line]
    print(out + "\n".join(page), flush=True)
    return page


def refused(name, words, device, timeout=70):
    digest = into_store(name)
    entry = {"name": name, "version": "1.0", "object": f"models/{name}.mar", "sha256": digest, "device": device}
    began = (OUT / "torchserve.log").stat().st_size
    found = module("torchserve_model", {"models": [entry], "via": "api", "device": DEVICE, "timeout": 40}, timeout)
    log = (OUT / "torchserve.log").read_bytes()[began:].decode("utf-8", "replace")
    seen = [line for line in log.splitlines() if words in line]
    say(f"  module: {found.get('msg', found.get('models'))}")
    say(f"  log: {seen[:1] or log[-600:]}")
    need(found.get("failed"), "it was not refused")
    need(seen or words in str(found.get("msg")), f"nobody said «{words}»")


@step("0b ansible and TorchServe unpacked", 60)
def _():
    SITE.mkdir(exist_ok=True)
    for wheel in HERE.glob("whl/*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(SITE)
    code, out = sh([PY, "-m", "ansible.cli.adhoc", "--version"], 30, env=ANSIBLE_ENV)
    need(code == 0, out[-500:])
    S["ansible"] = True
    for name, target in (("jre", "/opt/gpujre"), ("ts", "/opt/gputs")):
        shutil.rmtree(target, ignore_errors=True)
        with tarfile.open(HERE / f"{name}.tar.xz") as archive:
            archive.extractall(target, filter="fully_trusted")
    sh("chmod -R a+rX /opt/gpujre /opt/gputs; chmod a+x /opt/gpujre/bin/* /opt/gpujre/lib/jspawnhelper", 20)
    code, java = sh(["/opt/gpujre/bin/java", "-version"], 20)
    need(code == 0, java)
    S["java"] = True
    return out.splitlines()[0] + ", " + java.splitlines()[0]


@step("1a gpu_info", 30, ["ansible"])
def _():
    found = module("gpu_info", {"nvidia_smi": SMI or "nvidia-smi"})
    print(json.dumps(found, indent=1)[:3000], flush=True)
    if GPU:
        one = found["gpus"][0]
        need(found["driver"] and found["cuda"] and one["name"] and one["memory_total_mib"], "a field is missing")
        nothing = [key for key, value in one.items() if value is None]
        return f"{one['name']}, {one['memory_total_mib']} MiB, driver {found['driver']}, CUDA {found['cuda']}; nothing in {nothing}"
    need(found["gpus"] == [], "GPUs out of nowhere")


@step("1b preflight_info", 40, ["ansible"])
def _():
    import_torch = sh([PY, "-c", "import torch; print(torch.version.cuda or '')"], 60)[1].split()
    options = {
        "gpu": GPU, "cuda": import_torch[-1] if import_torch and GPU else "", "nvidia_smi": SMI or "nvidia-smi", "java": "/opt/gpujre/bin/java",
        "allow_unsupported_os": True, "fail_on_error": False, "controller_epoch": time.time(), "names": ["localhost"],
        "ports": [{"port": port, "address": "127.0.0.1", "unit": "torchserve.service"} for port in (8080, 8081, 8082)],
        "required_bytes": 1 << 30, "unpack_bytes": 1 << 30, "curl": True, "firewall": True,
    }
    found = module("preflight_info", options)
    for one in found.get("findings", []):
        say(f"  {one['severity']} {one['check']}: {one['message']}")
    print(json.dumps({k: v for k, v in found.get("facts", {}).items() if k != "gpus"}), flush=True)
    need("facts" in found, str(found)[:500])
    bare = module("preflight_info", {"gpu": GPU, "fail_on_error": False, "allow_unsupported_os": True, "service_path": STANDARD})
    for one in bare.get("findings", []):
        if one["check"] == "gpu":
            say(f"  with the defaults: {one['severity']}: {one['message']}")
    if GPU:
        need(found["facts"]["gpus"], "no GPU among the facts")


@step("1c fingerprint", 60, ["ansible"])
def _():
    program = str(COLLECTION / "roles/torchserve/files/compile_cache.py")
    here = module("compile_cache_info", {"python": PY, "program": program, "environment": ENVIRONMENT})
    print(json.dumps(here), flush=True)
    need(here.get("fingerprint"), here.get("detail") or str(here)[:400])
    need(bool(here["parts"]["gpus"]) == GPU, f"GPUs in it: {here['parts']['gpus']}")
    hidden = module("compile_cache_info", {"python": PY, "program": program, "environment": {**ENVIRONMENT, "CUDA_VISIBLE_DEVICES": ""}})
    S["other"] = hidden["fingerprint"]
    need(hidden["parts"]["gpus"] == [], f"hidden GPUs are seen: {hidden['parts']}")
    need((hidden["fingerprint"] != here["fingerprint"]) == GPU, "the fingerprint with and without GPUs is the same")
    return f"{here['fingerprint']} of {here['parts']}, without GPUs {hidden['fingerprint']}"


@step("2a archives", 60, ["ansible"])
def _():
    need(BUILDS["plain"].wait(60 * SLOW) == 0, (OUT / "build.log").read_text()[-800:])
    made = [
        [PY, "lab/model/make_model.py", "--size-mib", "4", "--out", str(FILES)],
        [PY, "lab/model/make_compiled.py", "risen", "117", "--out", str(FILES)],
    ]
    for command in made:
        code, out = sh(command, 30)
        need(code == 0, out[-500:])
    S["sha"] = {name: sha256(FILES / f"{name}-1.0.mar") for name in ("neta", "netb", "demo", "risen")}
    models = [
        {"name": name, "version": "1.0", "object": f"models/{name}.mar", "sha256": S["sha"][name], "default": True, "response_timeout": 300,
         "check": {"input_file": f"{name}-1.0.input.json", "expected_file": f"{name}-1.0.expected.json", "tolerance": 0.002},
         **({"compile_cache": "caches"} if name != "demo" else {})}
        for name in ("neta", "netb", "demo")
    ]
    host = {
        "ansible_connection": "local", "ansible_python_interpreter": PY, "modelfleet_address": "127.0.0.1", "modelfleet_plugin_downloads": False,
        "modelfleet_models": models, "modelfleet_storage": {"http": {"url": "https://files.example.com/models"}},
        "modelfleet_files_dir": str(FILES), "torchserve_device": DEVICE, "torchserve_java": "/opt/gpujre/bin/java",
        "torchserve_environment": ENVIRONMENT, "torchserve_models_timeout": 150, "modelfleet_compile_cache_lock": str(WORK / "lock.yml"),
    }
    (WORK / "inventory.json").write_text(json.dumps({"all": {"children": {"gpu_hosts": {"hosts": {"gpu-1": host}}}}}))
    S["models"] = models
    S["checks"] = {
        one["name"]: {"model": one["name"], "version": "1.0", "tolerance": 0.002,
                      **{key: json.loads((FILES / f"{one['name']}-1.0.{key}.json").read_text()) for key in ("input", "expected")}}
        for one in models
    }


@step("2b users, directories, unit and files of the role", 60, ["models"])
def _():
    code, out = play("setup.yml", 60)
    need(code == 0, out[-1500:])
    S["vars"] = json.loads((WORK / "vars.json").read_text())
    venv = Path(S["vars"]["venv"])
    shutil.rmtree(venv, ignore_errors=True)
    code, out = sh([PY, "-m", "venv", "--without-pip", str(venv)], 30)
    need(code == 0, out[-500:])
    site = next(venv.glob("lib/python3*/site-packages"))
    base = [one for one in sys.path if one.endswith(("site-packages", "dist-packages")) and one != str(SITE)]
    (site / "base.pth").write_text("".join(f"import site; site.addsitedir({one!r})\n" for one in base))
    (venv / "site-packages").symlink_to(site)
    for one in ("ts", "torchserve-0.12.0.dist-info"):
        shutil.copytree(f"/opt/gputs/{one}", site / one)
    for name in ("neta", "netb", "demo", "risen"):
        into_store(name)
    test = "import torch, yaml, psutil, ts; print(torch.__version__, torch.cuda.is_available())"
    S["unit"] = Unit("torchserve")
    run = {"user": USER, "group": USER, "extra_groups": [], "cwd": "/", "env": S["unit"].environment()}
    code, out = sh([str(venv / "bin/python"), "-c", test], 60, **run)
    if code:
        say(f"  as {USER}: {out[-400:]}; now with a wider mode")
        sh("chmod a+x /root; chmod -R a+rX /opt/torch", 30)
        code, out = sh([str(venv / "bin/python"), "-c", test], 60, **run)
    if code:
        del S["unit"]
    need(code == 0, out[-800:])
    return f"{venv}, {out.split(chr(10))[-2]}, environment {S['unit'].environment()}"


@step("2c TorchServe starts, as the unit would", 60, ["unit", "java"])
def _():
    began = time.monotonic()
    S["unit"].start()
    until("answer of TorchServe", lambda: call("GET", "/models")[0] == 200, 50)
    found = json.loads(Path("/run/torchserve/compile_cache.json").read_text())
    S["fingerprint"] = found["fingerprint"]
    lines = [line for line in (OUT / "torchserve.log").read_text().splitlines() if "GPU" in line or "Python executable" in line]
    return f"{time.monotonic() - began:.1f} s, {found}; {lines[:3]}"


@step("2d the role's tasks for models: registered, and first asked (cold)", 150, ["fingerprint"])
def _():
    code, out = play("models.yml", 150)
    print("\n".join(out.splitlines()[-40:]), flush=True)
    if code and ready("neta") and ready("netb"):
        S["registered"] = True
    need(code == 0, "the play failed")
    found = json.loads((WORK / "registered.json").read_text())
    print(json.dumps(found), flush=True)
    need(found["fingerprint"] == S["fingerprint"] == found["started"], "fingerprints differ")
    for one in found["warmed"]:
        NUMBERS.setdefault(f"cold {one['model']}", []).append(round(one["seconds"], 2))
    S["registered"] = True
    for name in ("neta", "netb"):
        say(f"  {name}: {kinds(tree(cache(name)))} in {cache(name)}, {json.dumps(counters(name))}")
        with open(OUT / "caches.txt", "a") as handle:
            handle.write(f"\n==== {name} after the first answer\n" + "".join(f"{v[0]:9d} {k}\n" for k, v in tree(cache(name)).items()))
    stray = sh("find /var/lib/torchserve /tmp/torchinductor* -type f \\( -name '*.so' -o -name '*.cubin' -o -path '*/.triton/*' -o -path '*inductor/*' \\) | head -30", 10)[1]
    say(f"  compiled elsewhere: {stray.split()}")
    return ", ".join(f"{one['model']} {one['seconds']:.1f} s" for one in found["warmed"])


@step("2e torchserve_info, inference_check, what is seen of the workers", 40, ["registered"])
def _():
    found = module("torchserve_info", {"record": "/var/lib/modelfleet/state/models.json"})
    print(json.dumps({k: found.get(k) for k in ("reachable", "healthy", "version", "models", "not_restored")}), flush=True)
    asked = module("inference_check", {"checks": list(S["checks"].values()), "fail_on_mismatch": False})
    print(json.dumps(asked)[:1500], flush=True)
    for name in ("neta", "demo"):
        for worker in workers(name):
            maps = sh(f"grep -o '/dev/nvidia.*' /proc/{worker['pid']}/maps | sort | uniq -c; ls -l /proc/{worker['pid']}/fd | grep -o '/dev/nvidia.*' | sort | uniq -c", 10)[1]
            say(f"  {name}: {json.dumps(worker)}; maps and files: {maps.split()}")
    need(all(one["ok"] for one in asked["checks"]), str(asked["checks"]))
    need(found["healthy"], "not healthy")
    if GPU:
        need(all(one["gpu"] == 1 for one in found["models"]), "a worker is not seen on the GPU")


@step("2f host_metrics.py", 40, ["registered"])
def _():
    page = metrics("/var/lib/modelfleet/state/models.json", "right")
    need(any(line.startswith('modelfleet_model_answering{model="neta"') and line.endswith(" 1") for line in page), "neta does not answer rightly")
    if GPU:
        fallen = [line for line in page if "workers_on_cpu" in line]
        need(len(fallen) == 3 and all(line.endswith(" 0") for line in fallen), str(fallen))


@step("3a warm requests", 20, ["registered"])
def _():
    for name in ("neta", "netb"):
        times = [predict(name)[0] for _ in range(30)]
        NUMBERS[f"warm request {name} (ms, median of 30)"] = round(1000 * statistics.median(times), 2)
    return str({k: v for k, v in NUMBERS.items() if "warm request" in k})


@step("3b restart on the same cache", 120, ["registered"])
def _():
    before = {name: tree(cache(name)) for name in ("neta", "netb")}
    S["unit"].stop()
    began = time.monotonic()
    S["unit"].start()
    until("answer of TorchServe", lambda: call("GET", "/models")[0] == 200, 50)
    code = Unit("torchserve-models").start(wait=True)
    say(f"  TorchServe up and torchserve-models ended with {code} after {time.monotonic() - began:.1f} s")
    for name in ("neta", "netb"):
        until(f"READY {name}", lambda: ready(name), 30)
        first(name, f"restart {name}")
    made = []
    for name in ("neta", "netb"):
        made += compare(f"restart {name}", before[name], tree(cache(name)))
    need(code == 0, f"torchserve-models ended with {code}")
    need(not made, f"a compiler ran again: {made[:5]}")


@step("3d compile anew and pack, as the play compile does", 120, ["registered", "checks"])
def _():
    found = module("compile_cache_check", {"checks": [S["checks"]["neta"]], "anew": True, "device": DEVICE, "timeout": 100}, 110)
    need(not found.get("failed"), str(found)[:600])
    NUMBERS.setdefault("cold neta", []).append(round(found["checks"][0]["seconds"], 2))
    model = {"name": "neta", "version": "1.0", "sha256": S["sha"]["neta"]}
    packed = module("compile_cache", {"state": "packed", "models": [model], "fingerprint": S["fingerprint"], "dest": str(WORK / "neta.zip")})
    need(not packed.get("failed"), str(packed)[:600])
    source = """
import hashlib, os, sys, zipfile
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import File, Manifest, manifest_bytes, parse_manifest
from ansible_collections.modelfleet.serving.plugins.module_utils._model import model_directory
from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import artifact_of
zipped, fingerprint, other = sys.argv[1:]
with zipfile.ZipFile(zipped) as archive:
    content = {name: archive.read(name) for name in archive.namelist()}
files = [File(name, len(data), hashlib.sha256(data).hexdigest(), "0644") for name, data in sorted(content.items())]
text = manifest_bytes(Manifest(files, []))
parse_manifest(text, "it")
digest = hashlib.sha256(text).hexdigest()
open(f"/var/lib/modelfleet/manifests/{digest}.json", "wb").write(text)
for kind in (fingerprint, other):
    base = os.path.join("/var/lib/modelfleet/models", model_directory(*artifact_of({"name": "neta", "version": "1.0"}, kind), digest))
    for name, data in content.items():
        os.makedirs(os.path.dirname(os.path.join(base, name)), exist_ok=True)
        open(os.path.join(base, name), "wb").write(data)
print(digest)
"""
    env = {**os.environ, "PYTHONPATH": f"{SITE}:{REPO / 'collections'}"}
    code, out = sh([PY, "-c", source, str(WORK / "neta.zip"), S["fingerprint"], S.get("other", "0" * 16)], 30, env=env)
    need(code == 0, out[-800:])
    S["bundle"] = out.split()[-1]
    with zipfile.ZipFile(WORK / "neta.zip") as archive:
        names = set(archive.namelist())
    say(f"  {packed['files']} files, {os.path.getsize(WORK / 'neta.zip')} bytes; left out: {sorted(set(tree(cache('neta'))) - names)[:20]}")
    S["packed"] = model


@step("3e a host that gets the packed cache", 150, ["packed"])
def _():
    made = []
    for _number in range(3):
        if left() < 45:
            break
        scale("neta", 0)
        shutil.rmtree(cache("neta"))
        # Of this user and outside the cache, which another host does not have.
        for path in ("/var/lib/torchserve/.triton", "/var/lib/torchserve/.cache", "/var/lib/torchserve/inductor", "/var/lib/torchserve/tmp/inductor", "/var/lib/torchserve/.nv"):
            shutil.rmtree(path, ignore_errors=True)
        found = module("compile_cache", {"models": [{**S["packed"], "cache": S["bundle"]}], "fingerprint": S["fingerprint"]})
        need(not found.get("failed") and found["caches"][0]["action"] == "restored", str(found)[:600])
        before = tree(cache("neta"))
        scale("neta", 1)
        first("neta", "restored neta")
        made += compare("restored neta", before, tree(cache("neta")))
    stray = sh("find /var/lib/torchserve/.triton /var/lib/torchserve/inductor -type f | head", 10)[1]
    say(f"  compiled elsewhere: {stray.split()}")
    need(not made, f"a compiler ran again: {made[:5]}")


@step("3g a wrong cache is thrown away", 150, ["registered", "checks"])
def _():
    scale("neta", 0)
    mine, other = Path(cache("neta")), Path(cache("netb"))
    own, foreign = set(tree(mine)), set(tree(other))
    user = pwd.getpwnam(USER)
    replaced = 0
    for name in sorted(foreign - own):
        (mine / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(other / name, mine / name)
    for top in ("fxgraph", "aotautograd"):
        ours = sorted({str(Path(name).parent) for name in own if name.startswith(top)})
        theirs = sorted({str(Path(name).parent) for name in foreign if name.startswith(top)})
        different = [(a, b) for a, b in zip([one for one in ours if one not in theirs], [one for one in theirs if one not in ours])]
        for a, b in different:
            for path in (mine / a).iterdir():
                if path.is_file():
                    path.unlink()
            for path in (other / b).iterdir():
                if path.is_file():
                    shutil.copy(path, mine / a / path.name)
                    replaced += 1
    libraries = sorted(n for n in own - foreign if n.endswith(".so")), sorted(n for n in foreign - own if n.endswith(".so"))
    for a, b in zip(*libraries):
        shutil.copy(other / b, mine / a)
        replaced += 1
    for path in [mine, *mine.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid)
    say(f"  {replaced} files stand in for others; libraries {libraries}")
    scale("neta", 1)
    found = module("compile_cache_check", {"checks": [S["checks"]["neta"]], "device": DEVICE, "timeout": 100}, 140)
    print(json.dumps(found)[:1500], flush=True)
    one = (found.get("checks") or [{}])[0]
    need(one.get("cold"), "torch did not take the other's code for its own: nothing was wrong")
    need(one.get("ok"), "still wrong after a cold start")
    took, _answer, right = predict("neta")
    need(right, "wrong afterwards")
    return one["detail"]


@step("3f the cache of the other fingerprint", 40, ["packed", "other"])
def _():
    found = module("compile_cache", {"models": [{**S["packed"], "cache": S["bundle"]}], "fingerprint": S["other"]}, check=True)
    need(found.get("failed") == GPU or not GPU, str(found)[:500])
    none = module("compile_cache", {"models": [{**S["packed"], "cache": ""}], "fingerprint": S["other"]}, check=True)
    return f"refused: {found.get('msg')}; without a pin: {none.get('caches')}"


@step("2g a package of AOTInductor for this device", 90, ["registered"])
def _():
    kind = "cuda" if GPU else "cpu"
    need(BUILDS[kind].wait(80 * SLOW) == 0, (OUT / "build.log").read_text()[-1500:])
    print("\n".join(line[:600] for line in (OUT / "build.log").read_text().splitlines() if line.startswith(("METADATA", "MEMBERS"))), flush=True)
    name = "aotgpu" if GPU else "aotcpu"
    entry = {"name": name, "version": "1.0", "object": "x.mar", "sha256": into_store(name), "device": DEVICE}
    found = module("torchserve_model", {"models": [entry], "via": "api", "device": DEVICE, "timeout": 60}, 80)
    need(not found.get("failed"), str(found)[:900])
    took, answer, right = predict(name)
    NUMBERS[f"first answer {name}"] = round(took, 2)
    NUMBERS[f"warm request {name} (ms, median of 30)"] = round(1000 * statistics.median(predict(name)[0] for _ in range(30)), 2)
    need(right, f"wrong: {str(answer)[:300]}")
    return f"first answer {took:.2f} s; {found['models']}"


if GPU:

    @step("2i a package for cuda on a CPU worker is refused", 90, ["registered"])
    def _():
        need(BUILDS["cuda"].poll() == 0, "there is no package")
        refused("aotoncpu", "was compiled for cuda, and this worker is on cpu", "cpu")


if GPU:

    @step("2j a package for the CPU on a GPU worker is refused", 90, ["registered"])
    def _():
        need(BUILDS["cpu"].wait(60) == 0, "there is no package")
        refused("aotwrong", "was compiled for cpu, and this worker is on cuda", "gpu")


if GPU:

    @step("2h a handler that stays on the CPU of a host with a GPU", 90, ["registered"])
    def _():
        entry = {"name": "risen", "version": "1.0", "object": "x.mar", "sha256": S["sha"]["risen"]}
        found = module("torchserve_model", {"models": [entry], "via": "api", "device": "gpu", "timeout": 60}, 80)
        say(f"  torchserve_model: {found.get('msg')}")
        # As it would be after its handler fell back: registered, and in the record for a GPU.
        file = f"risen-1.0-{S['sha']['risen'][:12]}.mar"
        status, answer = call("POST", f"/models?url={file}&initial_workers=1&synchronous=true", b"", timeout=60)
        record = json.loads(Path("/var/lib/modelfleet/state/models.json").read_text())
        record["models"].append({**record["models"][0], "name": "risen", "file": file, "sha256": S["sha"]["risen"], "device": "gpu"})
        (WORK / "record.json").write_text(json.dumps(record))
        info = module("torchserve_info", {"record": str(WORK / "record.json")})
        print(json.dumps([one for one in info.get("models", []) if one["name"] == "risen"]), info.get("healthy"), flush=True)
        say(f"  {json.dumps(workers('risen'))}")
        page = metrics(WORK / "record.json", "fallen")
        call("DELETE", "/models/risen/1.0", timeout=60)
        need(found.get("failed") and "runs on the CPU" in str(found.get("msg")), "torchserve_model did not refuse it so")
        need(status == 200, f"{status} {answer}")
        need(any('model="risen"' in line and "workers_on_cpu" in line and line.endswith(" 1") for line in page), "the metric does not say so")


@step("3c new workers on the same cache, twice more", 80, ["registered"])
def _():
    made = []
    for _number in range(2):
        before = tree(cache("neta"))
        scale("neta", 0)
        scale("neta", 1)
        first("neta", "restart neta")
        made += compare("new worker neta", before, tree(cache("neta")))
    need(not made, f"a compiler ran again: {made[:5]}")


@step("0 facts", 30)
def _():
    FACTS.join(25 * SLOW)
    text = (OUT / "facts.txt").read_text()
    print("\n".join(line[:220] for line in text.splitlines() if not line.startswith("flags"))[:8000], flush=True)


@step("4 stop", 40, ["unit"])
def _():
    S["unit"].stop()


if "unit" in S:
    S["unit"].stop()
for one in BUILDS.values():
    if one.poll() is None:
        os.killpg(one.pid, signal.SIGKILL)
for key in ("restart neta", "restored neta"):
    if NUMBERS.get("cold neta") and NUMBERS.get(key):
        NUMBERS[f"cold / {key}"] = round(statistics.median(NUMBERS["cold neta"]) / statistics.median(NUMBERS[key]), 1)
print("\n==== SUMMARY", flush=True)
for name, state, detail, took in RESULTS:
    print(f"{state:4} {took:6.1f} s  {name}: {detail[:300]}", flush=True)
for name, value in NUMBERS.items():
    print(f"  {name}: {value}", flush=True)
(OUT / "summary.json").write_text(json.dumps({"results": RESULTS, "numbers": NUMBERS}, indent=1))
say("end")
