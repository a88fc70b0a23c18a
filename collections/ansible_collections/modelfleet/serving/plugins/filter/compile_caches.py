# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: compile_caches
short_description: Say which models of a list have a compile cache, and which of them a host may use
version_added: 0.1.0
description:
  - Models that are absent, or have no C(compile_cache), are left out.
positional: _input, fingerprint, pins
options:
  _input:
    description: The list of models, see C(modelfleet_models) of the role P(modelfleet.serving.variables#role).
    type: list
    elements: dict
    required: true
  fingerprint:
    description:
      - What the host compiles for, as M(modelfleet.serving.compile_cache_info) says it. Empty where nobody knows.
      - Without it the caches of every fingerprint that is pinned are returned.
    type: str
  pins:
    description: C(modelfleet_compile_cache_pins), which the play C(modelfleet.serving.compile) writes.
    type: dict
    default: {}
author:
  - ModelFleet developers (@modelfleet)
"""

EXAMPLES = r"""
- name: Have the directories of the caches
  modelfleet.serving.compile_cache:
    models: "{{ modelfleet_models | modelfleet.serving.compile_caches(compiled.fingerprint, modelfleet_compile_cache_pins) }}"
    fingerprint: "{{ compiled.fingerprint }}"
"""

RETURN = r"""
_value:
  description:
    - For each of these models C(name), C(version), C(sha256) and C(cache), which is the sha256 of what is pinned for this host, or empty,
      as M(modelfleet.serving.compile_cache) takes them; C(pin), by which it is or would be pinned; and C(artifact), which
      M(modelfleet.serving.model_artifact) brings, or null.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.module_utils._compile_cache import artifact_of


def compile_caches(models, fingerprint=None, pins=None):
    pins = pins or {}
    found = []
    for model in models:
        if model.get("state", "present") == "present" and model.get("compile_cache"):
            every = [key.rpartition("-")[2] for key in pins if key.startswith(f"{model['sha256'].lower()}-")]
            found += [_cache(model, one, pins) for one in (every if fingerprint is None else [fingerprint])]
    return found


def _cache(model, fingerprint, pins):
    # Whoever writes the list may write the digits in capitals.
    key = f"{model['sha256'].lower()}-{fingerprint}" if fingerprint else ""
    pin = pins.get(key)
    if pin is not None and not (isinstance(pin, dict) and isinstance(pin.get("sha256"), str)):
        raise AnsibleFilterError(
            f"Failed to read {key} in modelfleet_compile_cache_pins: it has no sha256. Take it out and run the playbook compile."
        )
    cache = pin["sha256"] if pin else ""
    name, version = artifact_of(model, fingerprint)
    return {
        "name": model["name"],
        "version": str(model["version"]),
        "sha256": model["sha256"],
        "cache": cache,
        "pin": key,
        "artifact": {"name": name, "version": version, "bundle": model["compile_cache"], "sha256": cache} if cache else None,
    }


class FilterModule:
    def filters(self):
        return {"compile_caches": compile_caches}
