#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dragonfly_cluster
short_description: Set the limits of a cluster in Dragonfly's manager
version_added: 0.1.0
description:
  - Has a cluster in the manager with these limits, which schedulers and daemons in manager mode read every minute.
  - An option that is not given stays as it is in the manager, block lists too. Written is always the whole cluster, for the manager takes a
    limit that a request leaves out for 0, and a cluster for one that is no default any more. What it has afterwards is read and compared.
author:
  - ModelFleet developers (@modelfleet)
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.manager
options:
  name:
    description: Name of the cluster. A new manager has V(cluster-1), which has the number 1.
    type: str
    default: cluster-1
  state:
    description: Whether there is such a cluster. One that has a scheduler cannot be removed.
    type: str
    default: present
    choices: [present, absent]
  description:
    description: A text for people. The manager cannot take one away, only have another.
    type: str
  default:
    description: Whether daemons that match no other cluster are of this one.
    type: bool
  candidate_parent_limit:
    description: From how many peers a peer takes pieces, from 1 to 20. A seed peer uploads about as many whole copies. A new cluster has 3.
    type: int
  filter_parent_limit:
    description: How many peers the scheduler looks at to find them, from 10 to 1000. A new cluster has 15.
    type: int
  job_rate_limit:
    description: How many jobs the manager takes in a second, from 1 to 1000000. A new cluster has 10.
    type: int
  peer_load_limit:
    description: How many uploads a peer does at once, from 1 to 2000. A new cluster has 200.
    type: int
  seed_peer_load_limit:
    description: How many uploads a seed peer does at once, from 1 to 50000. A new cluster has 2000.
    type: int
  idc:
    description: The data centre of the daemons that are of this cluster.
    type: str
  location:
    description: Their location.
    type: str
  cidrs:
    description: Prefixes of their addresses.
    type: list
    elements: str
  hostnames:
    description: Regular expressions of their names.
    type: list
    elements: str
seealso:
  - module: modelfleet.serving.dragonfly_preheat
"""

EXAMPLES = r"""
- name: Have a seed peer upload two copies of a file
  modelfleet.serving.dragonfly_cluster:
    candidate_parent_limit: 2
    filter_parent_limit: 15

- name: Have a cluster of its own for the second site
  modelfleet.serving.dragonfly_cluster:
    name: site-2
    description: The second data centre
    cidrs: [10.2.0.0/16]
"""

RETURN = r"""
cluster:
  description: The cluster as the manager has it, or would have it; empty where there is none.
  returned: success
  type: dict
  contains:
    id:
      description: Its number, V(0) of one that is not there yet. Schedulers and daemons name it as C(schedulerClusterID).
      type: int
    name:
      description: Its name.
      type: str
    description:
      description: The text for people.
      type: str
    default:
      description: Whether daemons that match no other are of this one.
      type: bool
  sample:
    id: 1
    name: cluster-1
    description: ""
    default: true
    candidate_parent_limit: 2
    filter_parent_limit: 15
    job_rate_limit: 10
    peer_load_limit: 200
    seed_peer_load_limit: 2000
    idc: ""
    location: ""
    cidrs: []
    hostnames: []
"""

import json
from urllib.parse import quote

from ansible_collections.modelfleet.serving.plugins.module_utils import _manager
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._module import DiscreetModule

# Option: where the manager has it, what a new cluster gets, and its bounds.
LIMITS = {
    "candidate_parent_limit": ("scheduler_cluster_config", "candidate_parent_limit", 3, (1, 20)),
    "filter_parent_limit": ("scheduler_cluster_config", "filter_parent_limit", 15, (10, 1000)),
    "job_rate_limit": ("scheduler_cluster_config", "job_rate_limit", 10, (1, 1000000)),
    "peer_load_limit": ("peer_cluster_config", "load_limit", 200, (1, 2000)),
    "seed_peer_load_limit": ("seed_peer_cluster_config", "load_limit", 2000, (1, 50000)),
}
SCOPES = {"idc": "", "location": "", "cidrs": [], "hostnames": []}
CONFIGS = ("scheduler_cluster_config", "seed_peer_cluster_config", "peer_cluster_config")


def shown(cluster):
    """A cluster of the manager under the names of the options."""
    found = {"id": cluster["id"], "name": cluster["name"], "description": cluster["bio"], "default": cluster["is_default"]}
    for option, (block, key, _default, _bounds) in LIMITS.items():
        found[option] = (cluster.get(block) or {}).get(key) or 0
    for option, empty in SCOPES.items():
        found[option] = (cluster.get("scopes") or {}).get(option) or empty
    return found


def check(params):
    for option, (_block, _key, _default, (low, high)) in LIMITS.items():
        value = params[option]
        if value is not None and not low <= value <= high:
            raise ModelFleetError(f"Failed to set {option} of the cluster {params['name']} to {value}: the manager takes {low} to {high}.")


def read(manager, name):
    """The cluster of that name in the manager, or None."""
    found = manager.ask("GET", f"/oapi/v1/clusters?name={quote(name, safe='')}&page=1&per_page=1000", doing=f"read the cluster {name}")
    # None of that name is null.
    if not isinstance(found or [], list):
        raise ModelFleetError(f"Failed to read the cluster {name} at {manager.url}: what answers there is no manager; correct the URL.")
    return next((one for one in found or [] if one.get("name") == name), None)


def wanted(params, now):
    """What the manager is sent: the whole cluster."""
    new = now is None
    now = now or {"bio": "", "is_default": False}
    body = {
        "name": params["name"],
        "bio": now["bio"] if params["description"] is None else params["description"],
        "is_default": now["is_default"] if params["default"] is None else params["default"],
        "scopes": {**SCOPES, **{key: value for key, value in (now.get("scopes") or {}).items() if value}},
    }
    for block in CONFIGS:
        body[block] = dict(now.get(block) or {})
    for option, (block, key, default, _bounds) in LIMITS.items():
        if params[option] is not None or new:
            body[block][key] = default if params[option] is None else params[option]
    for option in SCOPES:
        if params[option] is not None:
            body["scopes"][option] = params[option]
    return body


def provide(module, manager):
    name, now = module.params["name"], read(manager, module.params["name"])
    body = wanted(module.params, now)
    before, after = shown(now) if now else {}, shown({**body, "id": now["id"] if now else 0})
    if now and before["description"] and not after["description"]:
        raise ModelFleetError(f"Failed to empty the description of the cluster {name}: the manager cannot; write another text.")
    changed = before != after
    if changed and not module.check_mode:
        if now:
            manager.ask("PATCH", f"/oapi/v1/clusters/{now['id']}", body, doing=f"write the cluster {name}")
        else:
            manager.ask("POST", "/oapi/v1/clusters", body, doing=f"create the cluster {name}")
        kept = shown(read(manager, name) or {"id": 0, "name": "", "bio": "", "is_default": False})
        after["id"] = kept["id"] if now is None else after["id"]
        different = [key for key in after if after[key] != kept[key]]
        if different:
            raise ModelFleetError(
                f"Failed to write the cluster {name} at the manager {manager.url}: it took the request and has another "
                f"{', '.join(different)} all the same. See who else writes it, and run again."
            )
    return changed, before, after


def remove(module, manager):
    name, now = module.params["name"], read(manager, module.params["name"])
    if now and not module.check_mode:
        try:
            manager.ask("DELETE", f"/oapi/v1/clusters/{now['id']}", doing=f"remove the cluster {name}")
        except _manager.Refused as exc:
            if "exists scheduler" not in exc.answer.message:
                raise
            raise ModelFleetError(
                f"Failed to remove the cluster {name} at the manager {manager.url}: schedulers are registered in it. Let them register in "
                "another, and run the play site, which has the manager forget the old ones."
            ) from exc
    return bool(now), shown(now) if now else {}, {}


def run(module):
    check(module.params)
    manager = _manager.Manager(module.params["url"], _manager.token_of(module.params), module.params["ca_path"])
    changed, before, after = (remove if module.params["state"] == "absent" else provide)(module, manager)
    header = f"cluster {module.params['name']}"
    texts = [json.dumps(one, indent=2, sort_keys=True) + "\n" if one else "" for one in (before, after)]
    diff = {"before_header": header, "after_header": header, "before": texts[0], "after": texts[1]}
    return {"changed": changed, "cluster": after, **({"diff": diff} if module._diff else {})}


def main():
    module = DiscreetModule(
        argument_spec={
            **_manager.OPTIONS,
            "name": {"type": "str", "default": "cluster-1"},
            "state": {"type": "str", "default": "present", "choices": ["present", "absent"]},
            "description": {"type": "str"},
            "default": {"type": "bool"},
            **{option: {"type": "int"} for option in LIMITS},
            "idc": {"type": "str"},
            "location": {"type": "str"},
            "cidrs": {"type": "list", "elements": "str"},
            "hostnames": {"type": "list", "elements": "str"},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)


if __name__ == "__main__":
    main()
