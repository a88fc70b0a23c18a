#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_preheat
short_description: Warm files in Dragonfly by a job of its manager
version_added: 0.1.0
description:
  - Has the manager fetch URLs into Dragonfly, and waits until that is done.
  - It warms tasks that are named by their URL, for clients that download by the proxy or by C(dfget) without a name for the content. What
    this collection distributes is named by its content, which a job cannot say; a preheat of the same file warms another task and makes no
    model start sooner. Models are brought by P(modelfleet.serving.dfdaemon#role).
  - The manager says that a job for a single seed peer succeeded also where nothing was fetched. A job counts here when its result names
    every URL as fetched.
  - Nothing is done where a job with the same arguments has succeeded within O(fresh_seconds). The parameters by which URLs are signed do
    not count, as they do not for Dragonfly.
  - The manager keeps URLs and headers of a job in clear, for as long as it keeps jobs, and shows them to whoever has a token or an account.
    Give URLs that expire.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.manager
attributes:
  check_mode:
    support: full
    details: Whether the URLs can be fetched is known when a job has tried.
  idempotent:
    support: partial
    details: For O(fresh_seconds).
options:
  urls:
    description: What is fetched, by HTTP or HTTPS.
    type: list
    elements: str
    required: true
  headers:
    description: Headers of the requests to the origin. Each is a secret.
    type: dict
    default: {}
  scope:
    description: Where the files are warm afterwards.
    type: str
    default: all_seed_peers
    choices:
      single_seed_peer: On one seed peer.
      all_seed_peers: On every seed peer.
      all_peers: On every peer that the schedulers know at that moment.
  cluster_ids:
    description: Numbers of the clusters.
    type: list
    elements: int
    default: [1]
  tag:
    description: As the clients name it; it is part of the name of a task.
    type: str
    default: ""
  application:
    description: As the clients name it; it is part of the name of a task.
    type: str
    default: ""
  filtered_query_params:
    description:
      - Parameters of the query that are no part of the name of a task. They must be those of the proxy rule by which the clients download.
      - Without it those that the manager filters of its own, which sign URLs of S3, GCS, OSS, OBS and COS.
    type: list
    elements: str
  piece_length:
    description: Bytes of a piece, from 4194304 to 67108864, where the clients name a length too. It is part of the name of a task.
    type: int
  ips:
    description: Only the peers of these addresses.
    type: list
    elements: str
  fresh_seconds:
    description: For how long a job that succeeded counts. V(0) makes a job each time.
    type: int
    default: 86400
  timeout:
    description: How long to wait, in seconds. The manager notices the end of a job at the earliest after 30.
    type: int
    default: 900
seealso:
  - module: modelfleet.serving.dragonfly_cluster
  - module: modelfleet.serving.model_artifact
"""

EXAMPLES = r"""
- name: Warm a data set on the seed peers, for jobs that read it by the proxy
  modelfleet.serving.dragonfly_preheat:
    urls:
      - https://data.example.com/imagenet/shard-0001.tar
      - https://data.example.com/imagenet/shard-0002.tar
"""

RETURN = r"""
job_id:
  description: Number of the job; V(0) where none was made.
  returned: always
  type: int
  sample: 7
state:
  description: What became of it. Empty where none was made, V(SUCCESS) also where an earlier one counts.
  returned: success
  type: str
  sample: SUCCESS
"""

import json
import time
from datetime import datetime, timezone

from ansible_collections.modelfleet.serving.plugins.module_utils import _manager
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

POLL_S = 5
ENDED = ("SUCCESS", "FAILURE")
# The manager's own, of 2.5.1.
FILTERED = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
    "X-Amz-Security-Token",
    "X-Amz-User-Agent",
    "X-Goog-Algorithm",
    "X-Goog-Credential",
    "X-Goog-Date",
    "X-Goog-Expires",
    "X-Goog-SignedHeaders",
    "X-Goog-Signature",
    "OSSAccessKeyId",
    "Expires",
    "Signature",
    "SecurityToken",
    "AccessKeyId",
    "X-Obs-Date",
    "X-Obs-Security-Token",
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
    "x-cos-security-token",
    "ns",
]


def check(params):
    for number, url in enumerate(params["urls"]):
        split = _manager.split_url(url)
        if not split or split.scheme not in ("http", "https") or not split.hostname:
            raise ModelFleetError(
                f"Failed to preheat urls[{number}]: it is no URL of http or https with a host; the manager fetches no other."
            )
    if not params["urls"]:
        raise ModelFleetError("Failed to preheat: the option urls is empty; name at least one.")
    length = params["piece_length"]
    if length is not None and not 4 << 20 <= length <= 64 << 20:
        raise ModelFleetError(f"Failed to preheat with piece_length {length}: Dragonfly takes 4194304 to 67108864.")
    for name, value in params["headers"].items():
        if not isinstance(value, str):
            raise ModelFleetError(f"Failed to preheat with the header {name}: its value is no text; write it in quotes.")


def arguments(params):
    args = {"type": "file", "urls": params["urls"], "scope": params["scope"], "timeout": params["timeout"] * 10**9}
    for option in ("headers", "tag", "application", "piece_length", "ips"):
        if params[option]:
            args[option] = params[option]
    if params["filtered_query_params"]:
        args["filtered_query_params"] = "&".join(params["filtered_query_params"])
    return args


def essence(args):
    """What makes two jobs the same: where the files come from and what the tasks are called."""
    filtered = set((args.get("filtered_query_params") or "&".join(FILTERED)).split("&"))
    urls = sorted(_unsigned(url, filtered) for url in [*(args.get("urls") or []), *([args["url"]] if args.get("url") else [])])
    names = [args.get(key) or "" for key in ("type", "scope", "tag", "application")]
    return urls, names, args.get("piece_length") or 0, sorted(args.get("ips") or []), sorted(filtered)


def _unsigned(url, filtered):
    split = _manager.split_url(url)
    if not split:
        return url, "", "", []
    kept = [part for part in split.query.split("&") if part.partition("=")[0] not in filtered]
    return split.scheme, split.netloc, split.path, sorted(filter(None, kept))


def age_s(job):
    """Seconds since the manager last wrote it."""
    written = _manager.time_of(job.get("updated_at"))
    return float("inf") if written is None else (datetime.now(timezone.utc) - written).total_seconds()


def earlier(manager, params):
    """A job of the same arguments that has succeeded of late or has not ended, or None."""
    jobs = manager.ask("GET", "/oapi/v1/jobs?type=preheat&page=1&per_page=200", doing="read the jobs")
    same = essence(arguments(params))
    for job in jobs or []:
        if job.get("state") == "FAILURE" or age_s(job) > params["fresh_seconds"] or essence(job.get("args") or {}) != same:
            continue
        # The list does not say in which clusters.
        job = read(manager, job["id"])
        clusters = sorted({one["id"] for one in job.get("scheduler_clusters") or []})
        if clusters == sorted(set(params["cluster_ids"])) and not (job["state"] == "SUCCESS" and why_not(job)):
            return job
    return None


def read(manager, number):
    return manager.ask("GET", f"/oapi/v1/jobs/{number}", doing=f"read the job {number}")


def create(manager, params):
    try:
        return manager.ask(
            "POST",
            "/oapi/v1/jobs",
            {"type": "preheat", "args": arguments(params), "scheduler_cluster_ids": params["cluster_ids"]},
            doing="make a job",
        )
    except _manager.Refused as exc:
        if "schedulers not found" not in exc.answer.message:
            raise
        numbers = ", ".join(map(str, params["cluster_ids"]))
        raise ModelFleetError(
            f"Failed to make a job at the manager {manager.url}: no active scheduler is registered in the cluster {numbers}. Set "
            "modelfleet_manager_mode and run the play site, and see that the schedulers reach Redis."
        ) from exc


def wait(manager, job, params):
    end = time.monotonic() + params["timeout"]
    while job.get("state") not in ENDED:
        if time.monotonic() > end:
            raise ModelFleetError(
                f"Failed to see the end of job {job['id']} at the manager {manager.url} within {params['timeout']} s; it goes on. Ask "
                "again with a longer timeout, which waits for the same job.",
                job_id=job["id"],
            )
        time.sleep(POLL_S)
        job = read(manager, job["id"])
    said = why_not(job)
    if said:
        why = without_queries(said, params["urls"])
        raise ModelFleetError(
            f"Failed to preheat at the manager {manager.url}: job {job['id']} says: {why}. See that seed peers run and reach the origin, "
            "that it answers requests for a range with 206, and that the URLs are not expired.",
            job_id=job["id"],
        )
    return job


def why_not(job):
    """Why a job that has ended did not fetch all its URLs; empty where it did."""
    states = (job.get("result") or {}).get("job_states") or []
    said = next((one["error"] for one in states if one.get("error")), "")
    if said or job["state"] != "SUCCESS":
        return said or "nothing about the reason, as when the manager was restarted meanwhile"
    results = [result for one in states for result in one.get("results") or []]
    failed = [one for result in results for one in result.get("failure_tasks") or []]
    if failed:
        return f"{failed[0].get('hostname')}: {failed[0].get('description') or 'no reason'}"
    fetched = {one.get("url") for result in results for one in result.get("success_tasks") or []}
    return "" if fetched >= set(job["args"].get("urls") or []) else "that it succeeded, and does not name every URL as fetched"


def without_queries(text, urls):
    for url in urls:
        text = text.replace(url, url.partition("?")[0])
    return " ".join(text.split()).rstrip(".")


def run(module):
    params = module.params
    check(params)
    manager = _manager.Manager(params["url"], _manager.token_of(params), params["ca_path"])
    job = earlier(manager, params) if params["fresh_seconds"] else None
    made = job is None
    if not module.check_mode:
        job = wait(manager, job or create(manager, params), params)
    result = {"changed": made, "job_id": job["id"] if job else 0, "state": job["state"] if job else ""}
    if module._diff:
        shown = json.dumps([url.partition("?")[0] for url in params["urls"]], indent=2) + "\n"
        result["diff"] = {"before_header": "warm", "after_header": "warm", "before": "" if made else shown, "after": shown}
    return result


def main():
    module = DiscreetModule(
        argument_spec={
            **_manager.OPTIONS,
            "urls": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "headers": {"type": "dict", "default": {}, "no_log": True},
            "scope": {"type": "str", "default": "all_seed_peers", "choices": ["single_seed_peer", "all_seed_peers", "all_peers"]},
            "cluster_ids": {"type": "list", "elements": "int", "default": [1]},
            "tag": {"type": "str", "default": ""},
            "application": {"type": "str", "default": ""},
            "filtered_query_params": {"type": "list", "elements": "str"},
            "piece_length": {"type": "int"},
            "ips": {"type": "list", "elements": "str"},
            "fresh_seconds": {"type": "int", "default": 86400},
            "timeout": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
