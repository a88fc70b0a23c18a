#!/usr/bin/python
# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: storage_object
short_description: Objects in the object store, with their digest
version_added: 0.1.0
description:
  - Makes an object present in the store with exactly the content of a file, or absent. Runs where the file is, usually on the controller.
  - The sha256 is recorded with the object (at S3 as C(x-amz-meta-sha256)), so that a second run compares digests and sends nothing.
  - An object with other content is never replaced unless O(overwrite=true).
author:
  - ModelFleet developers (@modelfleet)
requirements:
  - boto3
extends_documentation_fragment:
  - modelfleet.serving.attributes
  - modelfleet.serving.storage
options:
  credentials:
    description: Credentials that may write, keyed by the store's type. Without them those in O(storage).
    type: dict
    suboptions:
      s3:
        description: Credentials for S3.
        type: dict
        suboptions:
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
  object:
    description: Key of the object.
    type: str
    required: true
  src:
    description: The file. Required with O(state=present).
    type: path
  sha256:
    description: The sha256 that the file must have, 64 hexadecimal digits. Without it the file's own is used.
    type: str
  overwrite:
    description:
      - Whether an object with other content is replaced.
      - Hosts that hold the old content keep it, so prefer a new key for a new version.
    type: bool
    default: false
  ca_path:
    description: CA bundle to trust instead of the system's.
    type: path
  validate_certs:
    description: Whether the store's certificate is verified.
    type: bool
    default: true
  state:
    description: Whether the object is there.
    type: str
    choices: [present, absent]
    default: present
"""

EXAMPLES = r"""
- name: Publish a model
  modelfleet.serving.storage_object:
    storage: "{{ modelfleet_storage }}"
    credentials: "{{ modelfleet_publish_credentials }}"
    object: models/resnet50/1.0/resnet50.mar
    src: files/resnet50.mar
    sha256: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
  delegate_to: localhost
"""

RETURN = r"""
object:
  description: The object as a human names it.
  returned: success
  type: str
  sample: s3://models/models/resnet50/1.0/resnet50.mar
sha256:
  description: The sha256 of the object's content, empty when it is absent or unknown.
  returned: success
  type: str
  sample: 9f2c1a4be3f2d6c7b8a90123456789abcdef0123456789abcdef0123456789ab
bytes:
  description: The size of the object.
  returned: success
  type: int
  sample: 102400000
"""

import hashlib
import os
import re
import traceback

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

try:
    import boto3
    from boto3.exceptions import Boto3Error
    from boto3.s3.transfer import TransferConfig
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    BOTO3_ERROR = None
except ImportError:
    BOTO3_ERROR = traceback.format_exc()

from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._storage import (
    check_object_key,
    credentials_argument_spec,
    storage_argument_spec,
    store_from,
)

_MULTIPART_FROM = 64 << 20


class S3Objects:
    """The objects of one bucket, as the module needs them."""

    def __init__(self, store, ca_path, validate_certs):
        self.store = store
        self.client = boto3.client(
            "s3",
            region_name=store.region,
            endpoint_url=store.endpoint_url,
            aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret_key,
            aws_session_token=store.session_token,
            verify=(ca_path or True) if validate_certs else False,
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path" if store.path_style else "virtual"},
                retries={"max_attempts": 5, "mode": "standard"},
                connect_timeout=10,
            ),
        )

    def head(self, key):
        """(size, sha256 or "") of an object; None where there is none."""
        try:
            found = self.client.head_object(Bucket=self.store.bucket, Key=key)
        except ClientError as exc:
            if exc.response["ResponseMetadata"]["HTTPStatusCode"] == 404 and exc.response["Error"]["Code"] != "NoSuchBucket":
                return None
            raise
        return found["ContentLength"], found["Metadata"].get("sha256", "").lower()

    def read_sha256(self, key):
        digest = hashlib.sha256()
        for block in self.client.get_object(Bucket=self.store.bucket, Key=key)["Body"].iter_chunks(1 << 20):
            digest.update(block)
        return digest.hexdigest()

    def put(self, key, src, sha256):
        self.client.upload_file(
            src,
            self.store.bucket,
            key,
            ExtraArgs={"Metadata": {"sha256": sha256}},
            Config=TransferConfig(multipart_threshold=_MULTIPART_FROM, multipart_chunksize=_MULTIPART_FROM),
        )

    def delete(self, key):
        self.client.delete_object(Bucket=self.store.bucket, Key=key)


# One class a store, as in the module's docs.
OBJECTS = {"s3": S3Objects}


class StorageObject:
    def __init__(self, module):
        self.module = module
        self.params = module.params
        self.key = module.params["object"]
        check_object_key(self.key)
        self.store = store_from(_publishing(module.params))
        self.name = self.store.describe(self.key)
        self.objects = OBJECTS[self.store.name](self.store, module.params["ca_path"], module.params["validate_certs"])

    def run(self):
        if self.params["state"] == "absent":
            return self._absent()
        return self._present()

    def _absent(self):
        before = self._call("look at", self.objects.head)
        if before and not self.module.check_mode:
            self._call("delete", self.objects.delete)
        return self._result(before, None)

    def _present(self):
        src = self.params["src"]
        size, sha256 = _digest(src)
        wanted = (self.params["sha256"] or sha256).lower()
        if not re.match(r"[0-9a-f]{64}\Z", wanted):
            raise ModelFleetError("Failed to use sha256 {!r}: it must be 64 hexadecimal digits.".format(self.params["sha256"]))
        if sha256 != wanted:
            raise ModelFleetError(
                "Failed to publish {}: the file has the sha256 {}, but {} was asked for. Take the right file or correct sha256.".format(
                    src, sha256, wanted
                )
            )
        before = self._call("look at", self.objects.head)
        if before and not before[1] and before[0] == size:
            # Published by something that records no digest: only its bytes can tell.
            before = (size, self._call("read", self.objects.read_sha256))
        after = (size, sha256)
        if before != after:
            if before and not self.params["overwrite"]:
                raise ModelFleetError(
                    "Failed to publish {}: the object has other content already (sha256 {}, {} bytes) than {} (sha256 {}, {} bytes)."
                    " Publish under another key, or set overwrite=true.".format(
                        self.name, before[1] or "not recorded", before[0], src, sha256, size
                    )
                )
            if not self.module.check_mode:
                self._call("write", self.objects.put, src, sha256)
        return self._result(before, after)

    def _result(self, before, after):
        def shown(state):
            return "sha256: {}\nbytes: {}\n".format(state[1] or "not recorded", state[0]) if state else ""

        size, sha256 = after or (0, "")
        return {
            "changed": before != after,
            "object": self.name,
            "sha256": sha256,
            "bytes": size,
            "diff": {"before_header": self.name, "after_header": self.name, "before": shown(before), "after": shown(after)},
        }

    def _call(self, verb, method, *args):
        try:
            return method(self.key, *args)
        except (BotoCoreError, Boto3Error, ClientError, OSError) as exc:
            # An upload's error comes wrapped, with the store's answer as its context.
            answer = exc if isinstance(exc, ClientError) else exc.__context__
            if isinstance(answer, ClientError):
                reason = "the store answered {} {}".format(
                    answer.response["ResponseMetadata"].get("HTTPStatusCode", "?"), answer.response["Error"].get("Code", "?")
                )
                remedy = "Check bucket, region, endpoint, credentials and their permissions."
            else:
                reason = str(exc)
                remedy = "Check the endpoint, the network, the proxy variables, and ca_path for a CA of your own."
            raise ModelFleetError("Failed to {} {}: {}. {}".format(verb, self.name, reason.rstrip("."), remedy)) from exc


def _publishing(params):
    """The storage description with the publishing credentials in it."""
    if not params["credentials"]:
        return params["storage"]
    merged = {}
    for name, options in params["storage"].items():
        credentials = params["credentials"].get(name)
        if options is not None and credentials is None:
            raise ModelFleetError("Failed to publish: credentials has no {}, but that is the store. Give credentials for it.".format(name))
        merged[name] = {**options, **credentials} if options is not None else None
    return merged


def _digest(path):
    digest = hashlib.sha256()
    size = 0
    try:
        with open(path, "rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
                size += len(block)
    except OSError as exc:
        raise ModelFleetError("Failed to read {}: {}. Check src.".format(path, os.strerror(exc.errno))) from exc
    return size, digest.hexdigest()


def main():
    module = AnsibleModule(
        argument_spec={
            "storage": storage_argument_spec(),
            "credentials": credentials_argument_spec(),
            "object": {"type": "str", "required": True},
            "src": {"type": "path"},
            "sha256": {"type": "str"},
            "overwrite": {"type": "bool", "default": False},
            "ca_path": {"type": "path"},
            "validate_certs": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        required_if=[("state", "present", ["src"])],
        supports_check_mode=True,
    )
    if BOTO3_ERROR is not None:
        module.fail_json(msg=missing_required_lib("boto3"), exception=BOTO3_ERROR)
    try:
        result = StorageObject(module).run()
    except ModelFleetError as exc:
        module.fail_json(msg=str(exc), **exc.result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
