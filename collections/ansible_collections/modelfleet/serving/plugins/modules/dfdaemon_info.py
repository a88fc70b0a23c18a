#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dfdaemon_info
short_description: Ask a dfdaemon how it is and where its bytes came from
version_added: 0.1.0
description:
  - Returns health, version, traffic by source and cache of the dfdaemon on this host.
  - With O(wait_s) it waits until dfdaemon is healthy and fails if that takes longer.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes.info
options:
  health_url:
    description: Where dfdaemon answers whether it is healthy.
    type: str
    default: http://127.0.0.1:4003/healthy
  metrics_url:
    description: Where dfdaemon shows its metrics.
    type: str
    default: http://127.0.0.1:4002/metrics
  storage_dir:
    description: Directory of dfdaemon's piece store.
    type: path
    default: /var/lib/modelfleet/pieces
  wait_s:
    description: Seconds to wait for a healthy dfdaemon. With V(0) it does not wait, and an unhealthy dfdaemon is a result, not an error.
    type: int
    default: 0
  min_uptime_s:
    description:
      - Wait also until dfdaemon has been running for so many seconds.
      - A scheduler takes notice of a seed peer up to 30 seconds after its start.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Wait until dfdaemon answers
  modelfleet.serving.dfdaemon_info:
    wait_s: 60

- name: Read the traffic by source
  modelfleet.serving.dfdaemon_info:
  register: dfdaemon
"""

RETURN = r"""
healthy:
  description: Whether dfdaemon says that it is healthy and shows its metrics.
  returned: success
  type: bool
  sample: true
problem:
  description: Why it is not healthy, one sentence; empty if it is.
  returned: success
  type: str
  sample: ""
version:
  description: Version of the running dfdaemon.
  returned: when healthy
  type: str
  sample: 1.5.10
uptime_s:
  description: Seconds since it started.
  returned: when healthy
  type: int
  sample: 86400
traffic:
  description: Bytes that it took since it started, by where they came from.
  returned: when healthy
  type: dict
  contains:
    origin:
      description: From the origin itself.
      type: int
      sample: 0
    remote_peer:
      description: From other peers.
      type: int
      sample: 67108864
    local_peer:
      description: From its own piece store.
      type: int
      sample: 0
disk:
  description: The filesystem of the piece store in bytes, as dfdaemon sees it.
  returned: when healthy
  type: dict
  sample: {"total": 107374182400, "used": 67108864}
cache:
  description: What is in the piece store. Nothing if the store cannot be read.
  returned: success
  type: dict
  sample: {"tasks": 1, "bytes": 67108864}
"""

import os
import time

from ansible_collections.modelfleet.serving.plugins.module_utils._dfdaemon import get, parse_traffic, samples
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import CheckedModule

POLL_S = 0.25


def state(params):
    """What dfdaemon answers now. Raises ModelFleetError while it does not."""
    get(params["health_url"])
    text = get(params["metrics_url"])
    values = {name: (labels, value) for name, labels, value in samples(text)}
    return {
        "healthy": True,
        "problem": "",
        "version": values.get("dragonfly_client_version", ({}, 0))[0].get("git_version", "unknown"),
        "uptime_s": int(time.time() - values.get("process_start_time_seconds", ({}, 0))[1]),
        "traffic": parse_traffic(text),
        "disk": {
            "total": int(values.get("dragonfly_client_disk_space_total", ({}, 0))[1]),
            "used": int(values.get("dragonfly_client_disk_usage_space_total", ({}, 0))[1]),
        },
    }


def waited_for(params):
    deadline = time.monotonic() + params["wait_s"]
    while True:
        try:
            result = state(params)
            if result["uptime_s"] >= params["min_uptime_s"]:
                return result
            if time.monotonic() >= deadline + params["min_uptime_s"]:
                raise ModelFleetError(
                    f"dfdaemon answers, but says that it began {result['uptime_s']} s ago, not {params['min_uptime_s']}, however long one "
                    "waits. See journalctl -u dfdaemon, whether it dies again and again, and the clock of this host."
                )
            # Until then it can die and be young again.
            time.sleep(params["min_uptime_s"] - max(0, result["uptime_s"]))
        except ModelFleetError as exc:
            if time.monotonic() < deadline:
                time.sleep(POLL_S)
            elif params["wait_s"]:
                raise ModelFleetError(f"dfdaemon was not healthy within {params['wait_s']} s. {exc}") from exc
            else:
                return {"healthy": False, "problem": str(exc)}


def cache(storage_dir):
    """Count the tasks' files; dfdaemon keeps them in <storage_dir>/content/tasks/<3 hex digits>/<task id>."""
    top = os.path.join(storage_dir, "content", "tasks")
    tasks = size = 0
    try:
        for shelf in os.scandir(top):
            if shelf.is_dir(follow_symlinks=False):
                for task in os.scandir(shelf.path):
                    tasks += 1
                    size += task.stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        pass
    except OSError:
        return None
    return {"tasks": tasks, "bytes": size}


def main():
    module = CheckedModule(
        argument_spec={
            "health_url": {"type": "str", "default": "http://127.0.0.1:4003/healthy"},
            "metrics_url": {"type": "str", "default": "http://127.0.0.1:4002/metrics"},
            "storage_dir": {"type": "path", "default": "/var/lib/modelfleet/pieces"},
            "wait_s": {"type": "int", "default": 0},
            "min_uptime_s": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    try:
        result = waited_for(module.params)
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(changed=False, cache=cache(module.params["storage_dir"]), **result)


if __name__ == "__main__":
    main()
