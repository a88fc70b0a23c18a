# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients that write to the object stores, keyed by the store's name.

PRIVATE to the collection: it can have breaking changes at any time.

A client is one class in a file ``_publish_<name>.py``, listed in ``CLIENTS``. It is made from ``(store, ca_path,
validate_certs)``, imports its library only then, and has

- ``place``: where it reaches the store, fit to be shown;
- ``head(key)``: the object as ``Found``, None where there is none;
- ``read_sha256(key)``: the sha256 of the object's bytes;
- ``put(key, src, size, sha256, found, progress)``: write the file, record its digest; ``found`` is what may be replaced, None: nothing;
- ``delete(key)``.

Each raises ``Refusal``, or ``Taken`` where another publisher came first.
"""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._publish_abs import AbsObjects
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_gcs import GcsObjects
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_http import HttpObjects
from ansible_collections.modelfleet.serving.plugins.module_utils._publish_s3 import ObsObjects, OssObjects, S3Objects

CLIENTS = {"abs": AbsObjects, "gcs": GcsObjects, "http": HttpObjects, "obs": ObsObjects, "oss": OssObjects, "s3": S3Objects}
