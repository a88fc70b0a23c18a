# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong with a fleet, why, and what to do. PRIVATE to the collection: it can have breaking changes at any time.

A rule takes a Patient and adds findings to it. What many hosts say in the same words is shown once for all of them, so numbers and names
that differ from host to host stand in the cause.
"""

from __future__ import annotations

import re

from ansible_collections.modelfleet.serving.plugins.module_utils._doctor_daemon import masked
from ansible_collections.modelfleet.serving.plugins.module_utils._text import human_bytes

PROBLEM, WARNING, OK = "problem", "warning", "ok"
CODES = {OK: 0, WARNING: 1, PROBLEM: 2}

SCHEDULER, DFDAEMON, TORCHSERVE, RESTORE, FIREWALL, TRITON, BENTOML = (
    f"{name}.service"
    for name in (
        *("dragonfly-scheduler", "dfdaemon", "torchserve", "torchserve-models", "modelfleet-firewall", "triton"),
        # Who leads the ports of its models; each model has a server of its own.
        "modelfleet-bentoml",
    )
)
GATEWAY, GATEWAY_WATCH = "modelfleet-gateway.service", "modelfleet-gateway-watch.service"
DOOR = "modelfleet-monitoring.service"
MANAGER, MANAGER_REDIS = "dragonfly-manager.service", "dragonfly-manager-redis.service"
UNITS = {
    "scheduler": (SCHEDULER,),
    "manager": (MANAGER,),
    "seed": (DFDAEMON,),
    "gpu": (DFDAEMON, TORCHSERVE),
    "gateway": (GATEWAY, GATEWAY_WATCH),
}
SUBJECTS = {
    SCHEDULER: "scheduler",
    MANAGER: "manager",
    MANAGER_REDIS: "manager",
    DFDAEMON: "dfdaemon",
    TORCHSERVE: "torchserve",
    FIREWALL: "firewall",
    TRITON: "triton",
    BENTOML: "bentoml",
    GATEWAY: "gateway",
    GATEWAY_WATCH: "gateway",
    DOOR: "monitoring",
}
DYNCONFIG = "/etc/dragonfly/dfdaemon-dynconfig.yaml"
SITE = "run modelfleet.serving.site with --limit and the host"
ROLLOUT = "run modelfleet.serving.rollout"
UNFINISHED = f"{ROLLOUT}, which goes on from there, or with the old version in modelfleet_models takes away what is half-way"
TRUSTED = "/etc/dragonfly/tls/ca.pem"
DAY = 86400
# So long after its start a TorchServe may be silent, and a dfdaemon without its connections.
STARTING_S = 120
# What a host may take from the origin before it counts: files of 4 MiB or less always come from there.
SMALL = 32 << 20


class Patient:
    """A host, with what is known of it (``facts``), the ``sentences`` about its models, and all ``others`` by name.

    ``fleet``: what counts as wrong, and the seed peers.
    """

    def __init__(self, name, jobs, facts, sentences, others, fleet):
        self.name = name
        self.jobs = jobs
        self.facts = facts
        self.sentences = sentences
        self.others = others
        self.fleet = fleet
        self.info = facts.get("info") or {}
        self.wanted = facts.get("wanted") or {}
        self.preflight = (facts.get("preflight") or {}).get("findings") or []
        self.daemons = {one["unit"]: one for one in self.info.get("daemons") or []}
        self.rollout = facts.get("rollout") or {}
        self.versions = {one["name"]: one for one in self.rollout.get("models") or []}
        # Names of models that TorchServe has nothing to do with: those of Triton and BentoML, and of servers of their own.
        self.triton, self.bentoml = (facts.get(runtime) or [] for runtime in ("triton", "bentoml"))
        self.servers = [*(facts.get("servers") or []), *self.triton, *self.bentoml]
        self.units = list(dict.fromkeys(unit for job in jobs for unit in UNITS[job]))
        # Where the inventory says so.
        self.units += [unit for unit in (TRITON, BENTOML, MANAGER_REDIS, DOOR) if unit in self.daemons]
        self.findings = []
        self.checked = {}

    def add(self, severity, subject, what, cause, remedy):
        self.findings.append({"host": self.name, "subject": subject, "severity": severity, "what": what, "cause": cause})
        self.findings[-1]["remedy"] = remedy or "correct that, and run doctor again"

    def looked_at(self, subject, what):
        """Is said where nothing is wrong with the subject."""
        self.checked[subject] = what

    def runs(self, unit):
        return (self.daemons.get(unit) or {}).get("active") == "active"

    def may_run(self, unit):
        """Also where systemd could not be asked."""
        return unit not in self.daemons or self.runs(unit)

    def age(self, unit):
        """Seconds since its start; 0 where that is not known."""
        since = (self.daemons.get(unit) or {}).get("since")
        return max(0, self.info["now"] - since) if since else 0

    def trouble(self, unit):
        return (self.daemons.get(unit) or {}).get("trouble") or ""


def diagnose(facts, jobs, models, asked, limits):
    """Every finding of the hosts ``asked``, the worst first; ``models`` are the sentences about the models of each host."""
    patients = {}
    for host in dict.fromkeys(host for names in jobs.values() for host in names if host in asked):
        own = [job for job, names in jobs.items() if host in names]
        patients[host] = Patient(host, own, facts.get(host) or {}, models.get(host, []), patients, limits)
    for patient in patients.values():
        if _is_examined(patient):
            for rule in RULES:
                rule(patient)
    findings = [finding for patient in patients.values() for finding in patient.findings]
    for patient in patients.values():
        wrong = {finding["subject"] for finding in patient.findings}
        for subject, what in patient.checked.items():
            if subject not in wrong:
                findings.append({"host": patient.name, "subject": subject, "severity": OK, "what": what, "cause": "", "remedy": ""})
    return sorted(findings, key=lambda finding: -CODES[finding["severity"]])


def configuration_findings(host, facts):
    """What the rules about what roles write find, of a host of which ``info``, ``drift`` and ``firewall`` are known."""
    patient = Patient(host, [], facts, [], {}, {})
    _configuration(patient)
    _firewall(patient)
    return patient.findings


def parted(sentence):
    """A sentence of this collection as what is wrong and what to do, which it has behind its last semicolon or full stop."""
    sentence = sentence.strip().rstrip(".")
    for sign in ("; ", ". "):
        what, found, remedy = sentence.rpartition(sign)
        if found:
            return what, remedy
    return sentence, ""


# Rules


def _is_examined(patient):
    unreachable = patient.facts.get("unreachable")
    if unreachable or not patient.facts:
        patient.add(
            PROBLEM,
            "host",
            "the host cannot be reached by SSH",
            unreachable or "nothing is known of it: it failed during this run",
            "ssh to it from the controller; boot it, or repair SSH, sudo or its network; one that is gone for good leaves the fleet with "
            "modelfleet.serving.remove_host",
        )
        return False
    patient.looked_at("host", "the host answers")
    # Whatever keeps one part from being examined, such as sudo, may keep others: said once.
    failed = {message.partition(": ")[2]: message for message in reversed(patient.facts.get("failed") or [])}
    for message in reversed(failed.values()):
        patient.add(PROBLEM, "doctor", "a part of the host could not be examined", masked(message), _remedy_for_doctor(message))
    return True


def _remedy_for_doctor(message):
    for pattern, remedy in (
        (r"No space left|usable temporary directory|Disk quota", "free space on / and /tmp of the host"),
        (
            r"interpreter|[Pp]ython[\d.]*: |minimum of Python|No module named|ImportError|SyntaxError|init_fs_encoding",
            "repair Python on the host with its package manager, or name another one in ansible_python_interpreter",
        ),
        (r"sudo|become|privilege", "let the user of ansible_user use sudo there, with --ask-become-pass if it asks for a password"),
        (r"Timed out", "see what hangs there (dmesg, top, mounts of a server that is away), or raise doctor_timeout"),
    ):
        if re.search(pattern, message):
            return f"{remedy}; then run doctor again"
    return "correct that, and run doctor again"


def _clock(patient):
    if not patient.facts.get("preflight"):
        return
    patient.looked_at("clock", "the clock is right")
    ahead, tolerance = patient.facts["preflight"].get("ahead_s") or 0, patient.fleet["clock_tolerance_s"]
    start = "start chrony or systemd-timesyncd (timedatectl set-ntp true) on the host and on the controller"
    if ahead > tolerance:
        cause = f"it is {ahead:.0f} s ahead of the controller's, and stores refuse requests that are signed at the wrong time"
        patient.add(PROBLEM, "clock", "the clock is wrong", cause, start)
    for finding in _taken(patient, "clock"):
        what, _remedy = parted(finding["message"])
        error = finding["severity"] == "error"
        patient.add(PROBLEM if error else WARNING, "clock", "the clock is wrong" if error else "nothing keeps the clock right", what, start)


def _disk(patient):
    if not patient.info:
        return
    patient.looked_at("disk", "the disks have room")
    low, full = patient.fleet["free_percent"], min(2, patient.fleet["free_percent"])
    for one in patient.info.get("filesystems") or []:
        share = 100 * one["free"] / one["total"] if one["total"] else 0
        inodes = 100 * one["free_inodes"]
        where = f"{one['point']}, on which {', '.join(one['paths'])} {'lies' if len(one['paths']) == 1 else 'lie'}"
        remedy = (
            "find what fills it (du -xh --max-depth=2), free some or mount a larger disk; modelfleet.serving.prune removes old versions of "
            "models, dfdaemon_disk_budget is what dfdaemon may take. After a full disk: systemctl restart dfdaemon"
        )
        if one["read_only"]:
            cause = f"{where}, is mounted read-only, which the kernel does after an error"
            patient.add(PROBLEM, "disk", "a filesystem is read-only", cause, "see dmesg, repair the disk and mount it writable")
        if min(share, inodes) < low:
            left = f"{human_bytes(one['free'])} of {human_bytes(one['total'])}" if share <= inodes else f"{inodes:.1f} % of the inodes"
            is_full = min(share, inodes) < full
            what = "a disk is full" if is_full else "a disk is nearly full"
            patient.add(PROBLEM if is_full else WARNING, "disk", what, f"{where}, has {left} free{_held(patient, one)}", remedy)
    told = any(finding["subject"] == "disk" for finding in patient.findings)
    for finding in [*_taken(patient, "disk"), *_taken(patient, "filesystem")]:
        if not told or finding["check"] == "filesystem":
            what, remedy = parted(finding["message"])
            severity = PROBLEM if finding["severity"] == "error" else WARNING
            patient.add(severity, "disk", "the disk is not what the models need", what, remedy)


def _cache(patient):
    """dfdaemon clears its store at 80 % of what it may have."""
    cache, budget = (patient.facts.get("dfdaemon") or {}).get("cache"), patient.wanted.get("budget")
    if not cache or not budget:
        return
    patient.looked_at("cache", "the piece store has room")
    if cache["bytes"] > 0.95 * budget:
        cause = f"{cache['tasks']} tasks hold {human_bytes(cache['bytes'])}, dfdaemon_disk_budget is {human_bytes(budget)}"
        remedy = "raise dfdaemon_disk_budget, which must hold the models of one rollout at least, and run modelfleet.serving.site"
        patient.add(WARNING, "cache", "the piece store is full, and refuses what is new until it has cleared something", cause, remedy)


def _held(patient, filesystem):
    disk = (patient.facts.get("preflight") or {}).get("disk") or {}
    ours = any(path.startswith("/var/lib/modelfleet") for path in filesystem["paths"])
    return f"; {human_bytes(disk['held_bytes'])} of it are models and their pieces" if ours and disk.get("held_bytes") else ""


def _daemons(patient):
    if not patient.info:
        return
    for unit in patient.units:
        one, subject = patient.daemons.get(unit), SUBJECTS[unit]
        if one is None:
            continue
        name = unit.partition(".")[0]
        patient.looked_at(subject, f"{name} runs")
        if one["load"] == "":
            remedy = f"see systemctl status on the host, which must be booted with systemd; then {SITE}"
            patient.add(PROBLEM, subject, f"nothing is known of {name}", "systemd does not answer", remedy)
        elif one["load"] == "not-found":
            patient.add(PROBLEM, subject, f"{name} is not installed", f"systemd knows no unit {unit}", SITE)
        elif one["load"] == "masked":
            patient.add(PROBLEM, subject, f"{name} cannot start", "its unit is masked", f"systemctl unmask {unit}, then {SITE}")
        elif one["active"] == "activating" and one["sub"] != "auto-restart" and not one["restarts"]:
            remedy = f"wait, and run doctor again; see journalctl -u {name} if it stays so"
            patient.add(WARNING, subject, f"{name} is starting", f"systemd says {one['sub']}", remedy)
        elif one["active"] != "active":
            cause, remedy = _why_down(patient, unit, one)
            patient.add(PROBLEM, subject, f"{name} does not run", cause, remedy)
        else:
            _old(patient, unit, one)
            if one["enabled"] not in ("enabled", ""):
                cause = f"its unit is {one['enabled']}"
                patient.add(WARNING, subject, f"{name} would not start at the next boot", cause, f"systemctl enable {unit}")
            if one["restarts"] > 2 and patient.age(unit) < 10 * 60:
                cause = f"systemd restarted it {one['restarts']} times, the last time {_span(patient.age(unit))} ago"
                patient.add(WARNING, subject, f"{name} keeps dying", cause, f"see journalctl -u {name} for what it said before")
    _foreign_ports(patient)


def _why_down(patient, unit, one):
    name = unit.partition(".")[0]
    for finding in _taken(patient, "port", f"give {unit} another"):
        what, remedy = parted(finding["message"])
        return what, f"{remedy}; {name} comes back by itself"
    if unit == DFDAEMON:
        schedulers = [entry for entry in patient.info.get("reach") or [] if entry["what"] == "scheduler"]
        if schedulers and all(entry["problem"] for entry in schedulers):
            cause = "it needs a scheduler, and none answers: " + _listed(schedulers)
            return cause, "start the schedulers (systemctl start dragonfly-scheduler on their hosts); dfdaemon then comes back by itself"
    if one["active"] == "inactive" and one["result"] == "success":
        return "somebody stopped it, or it was never started", f"systemctl start {name} on the host"
    said = one["trouble"]
    ended = f"it ended with {one['result']} {one['exit_status']} and was restarted {one['restarts']} times"
    return (f"{ended}; it said: {said}" if said else ended), _remedy_for(said, name)


def _remedy_for(said, name):
    for pattern, remedy in (
        (r"(?i)address already in use|BindException", "ss -ltnp shows who has the port: stop that, or move the port in the inventory"),
        (r"(?i)no space left", f"free space on its disk, then systemctl restart {name}"),
        (r"OutOfMemory|out of memory|Cannot allocate memory", "free memory, or give it more (torchserve_heap, fewer workers)"),
        (r"(?i)image not known|no such image|manifest unknown", f"its image is not on this host: {SITE}, which brings it"),
        (r"(?i)unresolvable CDI devices", "run nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml, which tells containers of the GPUs"),
        (r"No such file|not found|Permission denied|Failed to (execute|locate)", f"a part of it is missing or not its own: {SITE}"),
        (r"(?i)invalid|parse|unknown (field|key)|config", f"its configuration is not what it takes: {SITE}, which writes it anew"),
    ):
        if re.search(pattern, said):
            return remedy
    return f"see journalctl -u {name} on the host, correct that, then systemctl restart {name}"


def _old(patient, unit, one):
    """A daemon that runs, and not what the inventory says."""
    name, subject = unit.partition(".")[0], SUBJECTS[unit]
    wanted = (patient.wanted.get("versions") or {}).get(unit, "")
    running = one["version"] if unit != TORCHSERVE else (patient.facts.get("torchserve") or {}).get("version", "")
    if wanted and running and running != wanted:
        installed = one["installed"] == wanted
        where = "not restarted since that was installed" if installed else "site has not run since the inventory has it"
        cause = f"{running} runs, the inventory has {wanted}: {where}"
        patient.add(WARNING, subject, f"{name} has another version than the inventory", cause, f"{SITE}, which restarts in batches")
    stale = [path for path in one["stale"] if path != DYNCONFIG]
    if stale:
        cause = f"changed since its start: {', '.join(stale)}"
        patient.add(WARNING, subject, f"{name} runs on older files than there are", cause, f"{SITE}, which restarts in batches")


def _foreign_ports(patient):
    """Ports that others have, of daemons that run all the same."""
    down = [f"give {unit} another" for unit, one in patient.daemons.items() if one["load"] == "loaded" and one["active"] != "active"]
    for finding in _taken(patient, "port"):
        if any(text in finding["message"] for text in down):
            continue  # it is the cause of that
        what, remedy = parted(finding["message"])
        patient.add(PROBLEM, "network", "a port of a daemon is not free", what, remedy)


def _answers(patient):
    dfdaemon, torchserve = patient.facts.get("dfdaemon") or {}, patient.facts.get("torchserve") or {}
    if patient.may_run(DFDAEMON) and dfdaemon and not dfdaemon.get("healthy"):
        _add_silent(patient, DFDAEMON, parted(dfdaemon.get("problem", ""))[0])
    if torchserve.get("msg", "").startswith("Failed to read the record"):
        patient.add(PROBLEM, "models", "the record of what the host serves cannot be read", *parted(torchserve["msg"]))
    elif patient.may_run(TORCHSERVE) and torchserve and not torchserve.get("reachable"):
        running = f", though it has been running for {_span(patient.age(TORCHSERVE))}" if patient.runs(TORCHSERVE) else ""
        silence = f"nothing came from its management API{running}"
        _add_silent(patient, TORCHSERVE, f"{silence} ({torchserve['msg'].rstrip('.')})" if torchserve.get("msg") else silence)
    for what, unit in (("own scheduler", SCHEDULER), ("own manager", MANAGER), ("own gateway", GATEWAY)):
        own = [entry for entry in patient.info.get("reach") or [] if entry["what"] == what and entry["problem"]]
        if own and patient.runs(unit):
            _add_silent(patient, unit, _listed(own))


def _add_silent(patient, unit, cause):
    name = unit.partition(".")[0]
    said = patient.trouble(unit)
    cause = f"{cause}; it said: {said}" if said else cause
    if patient.runs(unit) and patient.age(unit) < STARTING_S:
        remedy = f"wait, and run doctor again; see journalctl -u {name} if it stays so"
        patient.add(WARNING, SUBJECTS[unit], f"{name} is starting, and does not answer yet", cause, remedy)
    else:
        kept = ", which restores its models from local disk" if unit == TORCHSERVE else ""
        remedy = f"see journalctl -u {name} on the host, then systemctl restart {name}{kept}"
        patient.add(PROBLEM, SUBJECTS[unit], f"{name}{' runs, but' if patient.runs(unit) else ''} does not answer", cause, remedy)


def _configuration(patient):
    patient.looked_at("configuration", "files are what the inventory says")
    remedy = f"{SITE}: with --check --diff it shows the difference, without it makes the host what the inventory says"
    listed, wanted = patient.info.get("schedulers"), patient.wanted.get("schedulers")
    other_list = listed is not None and wanted is not None and sorted(listed) != sorted(wanted)
    if other_list:
        cause = f"{DYNCONFIG} has {', '.join(listed) or 'none'}, the inventory has {', '.join(wanted) or 'none'}"
        patient.add(PROBLEM, "configuration", "dfdaemon has another list of schedulers than the inventory", cause, remedy)
    # What is not installed at all is said once.
    loaded = {one["unit"] for one in patient.daemons.values() if one["load"] == "loaded"}
    differ = []
    for unit, drift in (patient.facts.get("drift") or {}).items():
        if not (unit in loaded if unit in SUBJECTS else loaded):
            continue
        # What hung is among what could not be examined.
        if drift.get("msg") and "timedout" not in drift:
            patient.add(PROBLEM, "configuration", "files could not be compared with the inventory", *parted(drift["msg"]))
        files = [path for path in drift.get("files") or [] if not (other_list and path == DYNCONFIG)]
        if files:
            by_hand = set(files) & set((patient.daemons.get(unit) or {}).get("stale") or [])
            why = "changed on the host since the daemon's start"
            differ.append(f"{', '.join(files)} ({why if by_hand else 'changed by hand, or the inventory since the last site'})")
    if differ:
        patient.add(WARNING, "configuration", "files are not what the inventory says", "; ".join(differ), remedy)


def _firewall(patient):
    """The table in the kernel; the file that the next boot loads, and its unit."""
    firewall, unit = patient.facts.get("firewall") or {}, patient.daemons.get(FIREWALL) or {}
    if not firewall:
        return
    if not firewall["wanted"]:
        patient.looked_at("firewall", "it is off, as the inventory says")
        if firewall["table"] == "different":
            cause = "there is a table inet modelfleet, and modelfleet_firewall is false"
            patient.add(WARNING, "firewall", "the firewall is on although the inventory says that it is off", cause, SITE)
        return
    patient.looked_at("firewall", "it admits the hosts of the inventory")
    difference = f"{SITE}: with --check --diff it shows the difference, without it loads what the inventory says"
    if firewall["msg"]:
        patient.add(PROBLEM, "firewall", "whether the firewall is on is not known", *parted(firewall["msg"]))
    elif firewall["table"] == "absent":
        state = f"the unit {FIREWALL} is {unit['active']}" if unit.get("active") else f"there is no unit {FIREWALL}"
        remedy = f"systemctl restart modelfleet-firewall on the host, or {SITE}"
        patient.add(PROBLEM, "firewall", "the firewall is off", f"there is no table inet modelfleet, and {state}", remedy)
    elif firewall["table"] == "different" and not firewall["files"]:
        cause = "somebody changed the table inet modelfleet by hand: its file is what the inventory says, and the kernel has other rules"
        patient.add(PROBLEM, "firewall", "the firewall is not what was loaded", cause, difference)
    elif firewall["table"] == "different" or firewall["files"]:
        cause = f"{', '.join(firewall['files'])} was changed by hand, or the inventory since the last site"
        patient.add(WARNING, "firewall", "the firewall is not what the inventory says", cause, difference)
    if firewall["table"] in ("wanted", "different") and unit.get("enabled") not in ("enabled", "", None):
        cause = f"its unit is {unit['enabled']}"
        patient.add(WARNING, "firewall", "the firewall would be off after the next boot", cause, "systemctl enable modelfleet-firewall")


def _network(patient):
    """What it does not reach, unless that is down, which is said where it is."""
    patient.looked_at("network", "it reaches schedulers, seed peers and the origin")
    unknown = " ".join(finding["message"] for finding in _taken(patient, "name"))
    if unknown:
        for sentence in [finding["message"] for finding in patient.preflight if finding["check"] == "name"]:
            patient.add(PROBLEM, "origin", "a name does not resolve", *parted(sentence))
    for entry in patient.info.get("reach") or []:
        at = f"{entry['name']} at {entry['address']}: {entry['problem']}"
        if not entry["problem"] or entry["what"].startswith("own "):
            continue
        if entry["what"] == "origin":
            if entry["name"] not in unknown:
                remedy = (
                    "let the host out to it, or correct the endpoint in modelfleet_storage or the proxy in dfdaemon_environment; "
                    "what serves goes on, nothing new can be brought"
                )
                patient.add(PROBLEM, "origin", "the origin cannot be reached", at, remedy)
            continue
        other, port = patient.others.get(entry["name"]), entry["address"].rpartition(":")[2]
        firewall = (
            f"open port {port}/tcp on {entry['name']} and between them, run modelfleet.serving.site where its firewall does not know this "
            "host yet, or correct its modelfleet_address"
        )
        if other is None:
            what = f"a {entry['what']} cannot be reached"
            patient.add(PROBLEM, "network", what, at, f"run doctor for {entry['name']} too; if it runs, {firewall}")
        elif other.runs(SCHEDULER if entry["what"] == "scheduler" else DFDAEMON):
            patient.add(PROBLEM, "network", f"a {entry['what']} that runs cannot be reached", at, firewall)


def _models(patient):
    sentences = patient.sentences
    torchserve, restore = patient.facts.get("torchserve") or {}, patient.daemons.get(RESTORE) or {}
    if "gpu" not in patient.jobs:
        return
    if not torchserve and restore.get("active") == "activating":
        cause = "torchserve-models restores what this host served, and has not finished"
        remedy = "wait, and run doctor again; see journalctl -u torchserve-models"
        patient.add(WARNING, "models", "models are still being restored", cause, remedy)
    if not torchserve.get("reachable"):
        # What something else serves does not need it.
        sentences = [sentence for sentence in sentences if sentence.split()[0] in patient.servers]
    sentences = _rollout(patient, sentences)
    if torchserve.get("reachable"):
        patient.looked_at("models", "every model of the list is served and answers")
    elif not sentences:
        return
    passing = _passing(patient, torchserve, restore)
    # What is to be replaced is said of what is to replace it.
    listed = {one.split()[0] for one in sentences if re.search(r" is not served;| is not the default version;", one)}
    # What cannot give it is not blamed for that too.
    cannot = r" is not served;| is served from | has \d+ of \d+ workers| is not ready "
    unable = [" ".join(one.split()[:2]) for one in sentences if re.search(cannot, one)]
    for sentence in sentences:
        label = " ".join(sentence.split()[:2])
        name, version = label.split()
        replaced = name in listed and patient.versions.get(name, {}).get("current") == version
        if ("known answer" in sentence and label in unable) or ("is not in modelfleet_models" in sentence and replaced):
            continue
        severity, what, cause, remedy = _model_finding(patient, sentence, label)
        if severity == PROBLEM and passing:
            severity, cause, remedy = WARNING, passing, "wait, and run doctor again"
        patient.add(severity, "models", what, cause, remedy)
    if restore.get("active") == "failed" and not any(" is not served;" in sentence for sentence in sentences):
        remedy = "see journalctl -u torchserve-models, then systemctl restart torchserve-models, which leaves alone what is served"
        patient.add(WARNING, "models", "torchserve-models has failed", _why_not_restored(patient), remedy)


def _passing(patient, torchserve, restore):
    """Why what is wrong with a model may be over in a moment; empty where it is not."""
    if restore.get("active") == "activating":
        return "torchserve-models still restores what this host served"
    if torchserve.get("busy") and not patient.rollout.get("holder"):
        return "a run changes the models of this host at this moment"
    return ""


def _rollout(patient, sentences):
    """Adds what a rollout is doing here, or has left; returns the sentences that do not follow from it."""
    holder, dead = patient.rollout.get("holder") or {}, patient.rollout.get("dead")
    if "rollout" in patient.facts:
        patient.looked_at("rollout", "no rollout works on the host")
    staged = {name: one["staged"] for name, one in patient.versions.items() if one["staged"]}
    if not holder and not staged:
        return sentences

    def follows(sentence):
        """Of a version that is on its way or, as long as the host is locked, that is to come or to go. The current one serves meanwhile."""
        name, version = sentence.split()[:2]
        if version != patient.versions.get(name, {}).get("current"):
            return name in staged or bool(holder)
        return "is not in modelfleet_models" in sentence or (name in staged and " is not served" in sentence)

    seen = [parted(sentence)[0] for sentence in sentences if follows(sentence)]
    doing = [f"{name} is to become {version}" for name, version in staged.items()]
    there = f"; {'; '.join([*doing, *seen])}" if doing or seen else ""
    if not holder:
        patient.add(PROBLEM, "rollout", "a rollout came to no end on this host", f"no run works on it any more{there}", UNFINISHED)
        return [sentence for sentence in sentences if not follows(sentence)]
    who = f"the run of {holder['user']} on {holder['controller']} (process {holder['pid']}) since {holder['since']}"
    if dead:
        patient.add(PROBLEM, "rollout", "a rollout died on this host", f"{who} is not there any more{there}", UNFINISHED)
    else:
        remedy = (
            "wait for its end, and run doctor again; if that run is dead, run modelfleet.serving.rollout or rollback with "
            "-e modelfleet_rollout_take_over=true"
        )
        patient.add(WARNING, "rollout", "a rollout works on this host", f"{who}{there}", remedy)
    return [sentence for sentence in sentences if not follows(sentence)]


def _why_not_restored(patient):
    return patient.trouble(RESTORE) or "torchserve-models could not restore what this host served, and its journal does not say why"


def _model_finding(patient, sentence, label):
    said, served = patient.trouble(TORCHSERVE), (patient.facts.get("torchserve") or {}).get("models") or []
    what, remedy = parted(sentence)
    name, version = label.split()[0], label.split()[-1]
    known = patient.versions.get(name, {})
    if name in patient.servers:
        silent = re.fullmatch(r"(.* is not ready) \((.*)\); (see journalctl -u \S+)", sentence)
        if silent:
            return PROBLEM, silent[1], silent[2], f"{silent[3]}, and run doctor again"
        if "known answer" in sentence:
            unit = "triton" if name in patient.triton else f"'{'bentoml' if name in patient.bentoml else 'openai-server'}-{name}-*'"
            remedy = f"compare the file of the check, the sha256 of the version and journalctl -u {unit}"
            return PROBLEM, f"{label} does not give its known answer", sentence.partition("known answer: ")[2], remedy
    if "fell back to the CPU" in sentence:
        gpu = [finding["message"] for finding in _taken(patient, "gpu")]
        cause = " ".join(gpu) or said or "torch has no CUDA that works with the driver, or the GPU is not there"
        return PROBLEM, f"{label} has workers that run on the CPU, not on a GPU", f"{what}: {cause}", remedy
    if re.search(r"has \d+ of \d+ workers;", sentence):
        cause = f"{what}: somebody took workers away, or the list has more since the last site"
        return PROBLEM, f"{label} is loaded by half", cause, remedy
    if "workers READY" in sentence:
        cause = f"{what}: {said or 'they are still loading, or die, as those of a model do that needs more memory than there is'}"
        remedy = (
            "see journalctl -u torchserve; free memory or ask for fewer workers, then systemctl restart torchserve, which loads the same "
            "models from local disk"
        )
        return PROBLEM, f"{label} is loaded by half", cause, remedy
    if "is served from" in sentence:
        return PROBLEM, f"{label} is stale: another content is served under this version", what, remedy
    if "known answer" in sentence:
        _what, _colon, detail = sentence.partition("known answer: ")
        remedy = "compare the file of the check, the sha256 of the version and journalctl -u torchserve"
        return PROBLEM, f"{label} does not give its known answer", detail, remedy
    if sentence.startswith(f"{label} is not served;"):
        # Not those that the list has beside it.
        of_name = [str(one["version"]) for one in served if one["name"] == name]
        others = sorted(one for one in of_name if any(line.startswith(f"{name} {one} is served, but") for line in patient.sentences))
        if known.get("rolled_back") and known["previous"] == version:
            cause = f"a rollback took it away, and this host serves version {known['current']}"
            remedy = f"write version {known['current']} into modelfleet_models, or {ROLLOUT}"
            return WARNING, f"{label} is not served", cause, remedy
        if (patient.daemons.get(RESTORE) or {}).get("active") == "failed":
            return PROBLEM, f"{label} is not served", _why_not_restored(patient), remedy
        if others:
            cause = f"the host is stale: it serves version {', '.join(others)} of it"
            return PROBLEM, f"{label} is not served", cause, f"{ROLLOUT}; site never replaces what serves"
        return PROBLEM, f"{label} is not served", "nobody has registered it", remedy
    if "is served, but" in sentence and known.get("previous") == version != known.get("current"):
        cause = "a rollout has retired it, and was interrupted before it was unregistered, or somebody registered it again"
        return WARNING, f"{label} is served although it is retired", cause, f"{ROLLOUT}, which unregisters it"
    # What is there against the list, or without being in it.
    return WARNING, what, "it was changed by hand, or the list has changed since the last site", remedy


def _expiry(patient):
    if not patient.info:
        return
    now, soon = patient.info["now"], patient.fleet["expiry_days"] * DAY
    keys = patient.info.get("keys_expire")
    ends = [entry["certificate_expires"] for entry in patient.info.get("reach") or []]
    ends += [entry["expires"] for entry in patient.info.get("certificates") or []]
    if keys is not None or any(ends):
        patient.looked_at("expiry", "nothing expires soon")
    # The gateway's watch renews them.
    if keys is not None and keys < (now if patient.runs(GATEWAY_WATCH) else now + soon):
        gone = keys <= now
        patient.add(
            PROBLEM if gone else WARNING,
            "expiry",
            "TorchServe's keys have expired" if gone else "TorchServe's keys expire soon",
            f"{_when(keys, now)}, because token_expiration_min is in torchserve_config, or because it runs for years",
            "leave out token_expiration_min; systemctl restart torchserve makes new keys",
        )
    for entry in patient.info.get("reach") or []:
        expires = entry["certificate_expires"]
        if expires and expires < now + soon and entry["what"] == "own gateway":
            gone = expires <= now
            what = "the gateway's certificate has expired" if gone else "the gateway's certificate expires soon"
            remedy = "renew the file of gateway_certificate, and run modelfleet.serving.site, which replaces it without a restart"
            patient.add(PROBLEM if gone else WARNING, "expiry", what, _when(expires, now), remedy)
        elif expires and expires < now + soon:
            what = "the origin's certificate has expired" if expires <= now else "the origin's certificate expires soon"
            cause = f"{entry['name']} at {entry['address']}: {_when(expires, now)}"
            remedy = "renew it on the server; dfdaemon goes by the sha256 of what it gets, publish and other clients refuse the server"
            patient.add(WARNING, "expiry", what, cause, remedy)
    for entry in patient.info.get("certificates") or []:
        expires = entry["expires"]
        if expires and expires < now + soon:
            trusted = entry["path"] == TRUSTED
            gone = expires <= now
            what = (
                f"{'an authority of the fleet' if trusted else 'the certificate of a daemon'} {'has expired' if gone else 'expires soon'}"
            )
            remedy = (
                "run modelfleet.serving.rotate_certificates, or site with another authority of your own in modelfleet_pki_ca_path"
                if trusted
                else "run modelfleet.serving.site, which issues another; one of your own must lie at modelfleet_pki_certificate_path"
            )
            patient.add(PROBLEM if gone else WARNING, "expiry", what, f"{entry['path']}: {_when(expires, now)}", remedy)


def _when(moment, now):
    return f"{_span(now - moment)} ago" if moment <= now else f"in {_span(moment - now)}"


def _span(seconds):
    for size, noun in ((DAY, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {noun}"
    return f"{seconds:.0f} s"


def _p2p(patient):
    """What a host took from the origin although there are peers to take it from."""
    dfdaemon = patient.facts.get("dfdaemon") or {}
    if not dfdaemon.get("healthy"):
        return
    traffic = dfdaemon["traffic"]
    origin, peers = traffic["origin"], traffic["remote_peer"]
    took = f"since its start {_span(dfdaemon['uptime_s'])} ago {human_bytes(origin)} from the origin and {human_bytes(peers)} from peers"
    if "seed" in patient.jobs:
        patient.looked_at("p2p", "a seed peer, which takes from the origin")
    else:
        patient.looked_at("p2p", "pieces come from peers" if peers > origin else "nothing much was downloaded since its start")
    schedulers = [entry for entry in patient.info.get("reach") or [] if entry["what"] == "scheduler"]
    silent = schedulers and not any(entry["problem"] or entry["connections"] for entry in schedulers)
    if silent and dfdaemon["uptime_s"] > STARTING_S:
        remedy = "see journalctl -u dfdaemon, compare its list of schedulers with the inventory, then systemctl restart dfdaemon"
        cause = f"this host has no connection to {', '.join(entry['address'] for entry in schedulers)}, where it announces itself"
        patient.add(WARNING, "p2p", "no scheduler hears from dfdaemon", cause, remedy)
    if "seed" not in patient.jobs and patient.fleet["seeds"] and origin > SMALL and origin > peers:
        remedy = (
            "see that the seed peers run (systemctl status dfdaemon there) and that they are in dragonfly_seed_peers, and that "
            "the origin is not asked by others than dfdaemon; systemctl restart dfdaemon begins to count anew"
        )
        cause = f"{took}: no seed peer was up then, or had just started, or no scheduler was reached"
        patient.add(WARNING, "p2p", "most bytes came from the origin, not from peers", cause, remedy)


def _other_preflight(patient):
    """What the next site would find, and no rule before."""
    if not patient.facts.get("preflight"):
        return
    told_gpu = any("on a GPU" in finding["what"] for finding in patient.findings)
    for finding in patient.preflight:
        if finding["check"] in ("clock", "disk", "filesystem", "port", "name") or (finding["check"] == "gpu" and told_gpu):
            continue
        what, remedy = parted(finding["message"])
        severity = PROBLEM if finding["severity"] == "error" else WARNING
        subject = finding["check"] if finding["check"] in ("gpu", "memory", "java", "firewall") else "host"
        patient.add(severity, subject, f"preflight finds fault with the {finding['check']}", what, remedy)


def _taken(patient, check, text=""):
    """The findings of preflight for a check."""
    return [finding for finding in patient.preflight if finding["check"] == check and text in finding["message"]]


def _listed(entries):
    return ", ".join(f"{entry['name']} at {entry['address']} ({entry['problem']})" for entry in entries)


# What each host says of itself, before what follows from others.
RULES = (_clock, _disk, _cache, _daemons, _answers, _configuration, _firewall, _models, _expiry, _p2p, _other_preflight, _network)
