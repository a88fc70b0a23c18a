# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

from ansible_collections.modelfleet.serving.plugins.filter.helm_values import helm_values
from ansible_collections.modelfleet.serving.tests.unit.plugins.kubernetes_settings import serving, settings

DAEMON = {
    "enable": True,
    "image": {"registry": "", "repository": "", "tag": "", "digest": ""},
    "config": {
        "console": True,
        "log": {},
        **{key: {} for key in ("host", "upload", "download", "storage", "scheduler", "seedPeer", "health")},
    },
    "resources": {},
    "nodeSelector": {},
    "tolerations": [],
}
# The keys of chart 1.7.4 that are written.
CHART = {
    "global": {"imagePullSecrets": []},
    "scheduler": {**DAEMON, "replicas": 3, "metrics": {"enable": True}, "config": {"server": {}, "console": True}},
    "seedClient": {**DAEMON, "replicas": 3, "persistence": {"enable": True, "size": "", "storageClass": ""}},
    "client": {**DAEMON, "hostNetwork": True, "hostPID": True, "hostIPC": True, "extraVolumes": [], "extraVolumeMounts": []},
}


def test_the_same_settings_in_the_words_of_the_chart():
    found = helm_values(settings(resources={"seed": {"requests": {"cpu": "1"}}}, pull_secrets=["mine"]), CHART)
    values = found["values"]
    assert found["findings"] == []
    assert values["scheduler"]["replicas"] == 2 and values["seedClient"]["replicas"] == 1
    assert values["client"]["image"] == {"registry": "docker.io", "repository": "dragonflyoss/client", "digest": "sha256:" + "a" * 64}
    assert values["seedClient"]["resources"] == {"requests": {"cpu": "1"}} and values["global"] == {"imagePullSecrets": [{"name": "mine"}]}
    assert values["client"]["config"]["storage"]["keep"] is True and values["client"]["config"]["storage"]["dir"] == "/var/lib/dragonfly"
    assert values["client"]["hostPID"] is False
    # Nobody's address, and no path that the chart does not mount.
    text = json.dumps(values)
    assert "192.0.2.1" not in text and "modelfleet-node" not in text and "dragonfly-tls" not in text


def test_a_chart_that_does_not_know_a_value():
    other = {**CHART, "client": {key: value for key, value in CHART["client"].items() if key != "hostIPC"}}
    assert helm_values(settings(), other)["findings"] == [
        "The chart knows no client.hostIPC, and would ignore it; it is another version than these values are for (1.7.4)."
    ]
    assert "name the directory of Dragonfly's chart" in helm_values(settings(), {"replicaCount": 1})["findings"][0]
    assert helm_values(settings(), None)["findings"] == []


def test_what_the_chart_has_no_place_for():
    said = " ".join(helm_values(serving(), None)["left_out"])
    assert "Mutual TLS" in said and "TorchServe: the chart has none." in said and "candidateParentLimit" in said
    assert "Mutual TLS" not in " ".join(helm_values(settings(mtls=False), None)["left_out"])
    assert "hostAliases of seed" in " ".join(helm_values(settings(pods={"seed": {"hostAliases": []}}), None)["left_out"])
