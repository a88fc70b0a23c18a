# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell a worker of TorchServe where what it compiles is kept, before any handler is imported.

The unit of TorchServe has Python find this file. The environment of all workers is one, and each model has a directory of its own, by what
the host compiles for (compile_cache.py). A model that is not in the list keeps what the unit says.
"""

from __future__ import annotations

import json
import os

# The list of models, and what was found out before this start of TorchServe.
LIST, FINGERPRINT = "/var/lib/modelfleet/state/compile_caches.json", "/run/torchserve/compile_cache.json"
DIRECTORY = "/var/lib/modelfleet/compile-caches"
# Emptied at every start.
COLD = "/var/lib/torchserve/tmp/inductor"


def place(model):
    """The directory of the model whose files are in the directory ``model``; None for one that is not in the list."""
    with open(LIST, encoding="utf-8") as handle:
        listed = json.load(handle)["models"]
    with open(os.path.join(model, "MAR-INF", "MANIFEST.json"), encoding="utf-8") as handle:
        found = json.load(handle)["model"]
    digest = listed.get("{} {}".format(found["modelName"], found.get("modelVersion")))
    if digest is None:
        return None
    try:
        with open(FINGERPRINT, encoding="utf-8") as handle:
            found = os.path.join(DIRECTORY, "{}-{}".format(digest[:12], json.load(handle)["fingerprint"]))
    except (OSError, ValueError, KeyError, TypeError):
        return COLD
    # Nobody has made one yet for what this host is now. A cache of something else gives wrong answers.
    return found if os.access(found, os.W_OK) else COLD


def main():
    try:
        # TorchServe starts a worker in the directory of its model.
        found = place(os.getcwd())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # Another program of this Python, or no model has a cache.
        return
    if found:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = found


main()
