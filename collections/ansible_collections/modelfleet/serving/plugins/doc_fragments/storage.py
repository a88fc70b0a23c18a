# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  storage:
    description: The object store that owns the models, keyed by its type; exactly one key.
    type: dict
    required: true
    suboptions:
      s3:
        description: An S3 bucket, at AWS or at any store that speaks its protocol.
        type: dict
        suboptions:
          bucket:
            description: Name of the bucket.
            type: str
            required: true
          region:
            description: Region of the bucket.
            type: str
            default: us-east-1
          endpoint:
            description:
              - URL of a self-hosted store, for example V(https://minio.example.com:9000), without path and query.
              - Without it the URL of AWS in O(storage.s3.region).
            type: str
          path_style:
            description:
              - Put the bucket in the path instead of the host name.
              - Always so for a bucket with dots in its name and for an endpoint that is an IP address.
            type: bool
            default: false
          access_key:
            description: Access key id.
            type: str
            required: true
          secret_key:
            description: Secret access key.
            type: str
            required: true
          session_token:
            description: Session token of temporary credentials.
            type: str
"""
