# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images, and the containers that run of them. PRIVATE to the collection: it can have breaking changes at any time."""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._podman import Podman
from ansible_collections.modelfleet.serving.plugins.module_utils._verify import CHANGED, MISSING, UNREADABLE

CONTAINERS = "containers"


def verify_container(look, wanted, run_command):
    """A container (name, image, version): whether its image is here, and is the one that it runs of.

    A digest says what came. What lies in podman's own store is not hashed again, which is said.
    """
    podman = Podman(run_command)
    name, image = wanted["name"], wanted["image"]
    try:
        found = podman.image(image)
        container = podman.container(name)
    except ModelFleetError as exc:
        look.add(CONTAINERS, name, UNREADABLE, image, str(exc))
        return
    if not found:
        look.add(CONTAINERS, name, MISSING, image, "it is not on this host, so that nothing would start again")
    # Whether it runs at all is for who looks at its unit.
    elif container and container["image_id"] != found["id"]:
        look.add(
            CONTAINERS,
            f"container {name}",
            CHANGED,
            image,
            f"it runs of the image {container['image']} with the id {container['image_id']}, and that of the inventory has {found['id']}",
        )
    if found:
        look.has({"kind": "container", "name": name, "version": wanted["version"], "image": image, "id": found["id"]})
        look.leave(
            CONTAINERS, name, "podman keeps the files of an image in its own store, where its digest says what came and not what is there"
        )
