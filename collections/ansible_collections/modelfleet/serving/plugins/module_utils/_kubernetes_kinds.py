# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of objects in a cluster, and what those of a fleet carry. PRIVATE to the collection: it can have breaking changes at any time.

Filters need no more than this, and the library kubernetes takes a second to load.
"""

from __future__ import annotations

FIELD_MANAGER = "modelfleet.serving"
# What the objects of a fleet carry, and by which those that are not wanted any more are found.
MANAGED_BY = "app.kubernetes.io/managed-by"
PART_OF = "app.kubernetes.io/part-of"
HELM_RELEASE = "meta.helm.sh/release-name"
# Kind: (apiVersion, plural, whether it lies in a namespace). In the order in which they are made; the other way round they are removed.
KINDS = {
    "Namespace": ("v1", "namespaces", False),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies", True),
    "ConfigMap": ("v1", "configmaps", True),
    "Secret": ("v1", "secrets", True),
    "Service": ("v1", "services", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "Deployment": ("apps/v1", "deployments", True),
    "StatefulSet": ("apps/v1", "statefulsets", True),
    "DaemonSet": ("apps/v1", "daemonsets", True),
}
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
# Of these a fleet has none of its own.
EXTRA_KINDS = {
    "Node": ("v1", "nodes", False),
    "Pod": ("v1", "pods", True),
    "Event": ("v1", "events", True),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", True),
}
