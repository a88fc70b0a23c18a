# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter.dfdaemon_rules import FilterModule

STORAGE = {"bucket": "models", "access_key": "AK", "secret_key": "PLANTED"}
FILTERS = FilterModule().filters()


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, {"regex": r"^http://models\.s3\.us-east-1\.amazonaws\.com/", "useTLS": True}),
        ({"endpoint": "https://minio.example.com:9000"}, {"regex": r"^http://models\.minio\.example\.com:9000/", "useTLS": True}),
        ({"endpoint": "http://10.0.0.5:80"}, {"regex": r"^http://10\.0\.0\.5/", "useTLS": False}),
        ({"endpoint": "http://[fd00::5]:9000"}, {"regex": r"^http://\[fd00::5\]:9000/", "useTLS": False}),
    ],
)
def test_dfdaemon_rules(changes, rule):
    assert FILTERS["dfdaemon_rules"]({"s3": {**STORAGE, **changes}}) == [rule]


@pytest.mark.parametrize(
    ("storage", "regex", "tls"),
    [
        (
            {"oss": {"bucket": "models", "region": "cn-hangzhou", "access_key_id": "AK", "access_key_secret": "PLANTED"}},
            r"^http://models\.oss-cn-hangzhou\.aliyuncs\.com/",
            True,
        ),
        # The file is on the hosts, not here.
        ({"gcs": {"bucket": "models", "service_account_file": "/nonexistent/reader.json"}}, r"^http://storage\.googleapis\.com/", True),
        (
            {"abs": {"account_name": "example", "account_key": "eHg=", "container": "models"}},
            r"^http://example\.blob\.core\.windows\.net/",
            True,
        ),
        (
            {"obs": {"bucket": "models", "region": "cn-north-4", "access_key_id": "AK", "secret_access_key": "PLANTED"}},
            r"^http://models\.obs\.cn-north-4\.myhuaweicloud\.com/",
            True,
        ),
        ({"http": {"url": "http://files.example.com:8080/models"}}, r"^http://files\.example\.com:8080/", False),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_rules_of_every_store(storage, regex, tls):
    assert FILTERS["dfdaemon_rules"](storage) == [{"regex": regex, "useTLS": tls}]


PROXY = {"host": "proxy.example.com", "port": 3128, "tls": False}


@pytest.mark.parametrize(
    ("endpoint", "environment", "proxied"),
    [
        ("https://minio.example.com", {"HTTPS_PROXY": "http://proxy.example.com:3128"}, True),
        ("https://minio.example.com", {"https_proxy": "proxy.example.com:3128"}, True),
        ("https://minio.example.com", {"ALL_PROXY": "http://proxy.example.com:3128", "NO_PROXY": "10.0.0.0/8,localhost"}, True),
        ("https://minio.example.com", {"HTTPS_PROXY": "http://proxy.example.com:3128", "NO_PROXY": ".example.com"}, False),
        ("https://minio.example.com", {"HTTPS_PROXY": "http://proxy.example.com:3128", "no_proxy": "*"}, False),
        ("https://minio.example.com", {"HTTP_PROXY": "http://proxy.example.com:3128"}, False),
        ("http://minio.example.com", {"HTTP_PROXY": "http://proxy.example.com:3128"}, True),
        ("http://minio.example.com", {}, False),
    ],
)
def test_origin_hosts_behind_a_proxy(endpoint, environment, proxied):
    (found,) = FILTERS["origin_hosts"]({"s3": {**STORAGE, "endpoint": endpoint, "path_style": True}}, environment)
    assert found == PROXY if proxied else found["host"] == "minio.example.com"


def test_origin_hosts():
    assert FILTERS["origin_hosts"]({"s3": STORAGE}) == [{"host": "models.s3.us-east-1.amazonaws.com", "port": 443, "tls": True}]


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_bad_input_is_a_filter_error_without_the_secret(name):
    with pytest.raises(AnsibleFilterError, match="container") as raised:
        FILTERS[name]({"s3": {**STORAGE, "container": "x"}})
    assert "PLANTED" not in str(raised.value)
