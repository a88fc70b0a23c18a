# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agency of a server of Huawei Cloud. PRIVATE to the collection: it can have breaking changes at any time.

As in the ECS User Guide, "Obtaining ECS Details Using Metadata" (Security Key), and with a session as Huawei's own SDKs open it: where the
region has none, the metadata service answers the PUT with 404 or 405, and gives the keys without.
"""

from __future__ import annotations

from ansible_collections.modelfleet.serving.plugins.module_utils._identity import Identity, Refused, identity_option

_NONE = "Configure an agency for this server that may read the bucket (Cloud Service Agency)"


class OBSIdentity(Identity):
    OPTION = identity_option(["instance"])
    instance_advice = (
        "Use it on a server of Huawei Cloud, with its metadata service on; TorchServe's plugin needs the address in"
        " modelfleet_firewall_destinations"
    )

    def _issue(self, now):
        url = self._endpoint(self.instance_url)
        token = self.session(url + "/meta-data/latest/api/token", "X-Metadata-Token-Ttl-Seconds")
        if isinstance(token, Refused) and token.status not in (404, 405):
            raise self.error(url, f"it gives no session ({token.status})", self.instance_advice)
        headers = {} if isinstance(token, Refused) else {"X-Metadata-Token": token}
        answer = self.ask("GET", url + "/openstack/latest/securitykey", headers, direct=True)
        if isinstance(answer, Refused):
            if answer.status == 404 or "gency" in answer.text:
                raise self.error(url, f"no agency is configured for this server ({answer.status})", _NONE)
            raise self.error(url, f"it refuses ({answer.status})", self.instance_advice)
        found = self.json(url, answer).get("credential")
        return self.keys(url, found if isinstance(found, dict) else {}, ("access", "secret", "securitytoken", "expires_at"), now)
