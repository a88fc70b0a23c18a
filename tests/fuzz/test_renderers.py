# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever an inventory says becomes sentences about it, or files that say just that."""

from __future__ import annotations

import json
import math
import re
import string

import sandbox
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.modelfleet.serving.plugins.filter import (
    addresses,
    distribution_plan,
    dragonfly_files,
    gateway_findings,
    inventory_findings,
    restart_batches,
    rollout_findings,
    rollout_models,
    swarm_settings,
    systemd_quote,
    torchserve_properties,
    variable_findings,
)
from ansible_collections.modelfleet.serving.plugins.module_utils import (
    _dragonfly_config,
    _dragonfly_schema,
    _storage,
    _text,
    _torchserve_config,
)
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from hypothesis import assume, example, given
from hypothesis import strategies as st
from inputs import floats, junk, leaves, mostly, nested, numbers, odd_texts, options_like, texts, value_like

OPTIONS = variable_findings._options()
# It reads them at every call, once in a play.
variable_findings._options = lambda: OPTIONS
PATHS = ["/", "/nowhere", "relative", "/etc/passwd"]
SECRET = "PLANTED-secret"
# What fits each type of a key, as inputs between which the other half is what does not.
FITTING = {
    "bool": st.booleans(),
    "int": numbers,
    "str": texts,
    "secret": texts | st.just(SECRET),
    "anything": junk,
    "path": st.sampled_from(["/x", "/run/a b", "/\n"]),
    "ip": st.sampled_from(["10.0.0.1", "::1", "0.0.0.0"]),
    "port": st.integers(1, 65535),
    "ip:port": st.sampled_from(["10.0.0.1:8002", "[::1]:1", "10.0.0.1:²"]),
    "host:port": st.sampled_from(["host:1", ":1", "host:٣"]),
    "authority": st.sampled_from(["host", "host:1\n"]),
    "url": st.sampled_from(["http://10.0.0.1:65003", "https://x/y"]),
    "regex": st.sampled_from([".*", "(", "(?P<a>x)", "(" * 300]),
    "duration": st.sampled_from(["30s", "1h 30m", "1s\n", "٣s"]),
    "go duration": st.sampled_from(["30s", "1h30m", "1s\n"]),
    "size": st.sampled_from(["512MiB", 1, "1.5gb", "٣MiB", "1MiB\n"]),
}


def like(table):
    """A configuration for a table of keys, nearly right."""
    if isinstance(table, dict):
        keys = {key: mostly(like(below)) for key, below in table.items() if key != _dragonfly_schema.ANY}
        free = table.get(_dragonfly_schema.ANY)
        if free is not None:
            return st.dictionaries(mostly(texts, leaves), mostly(like(free)), max_size=3)
        # A few of the keys: with all of them one is always wrong.
        return st.lists(st.sampled_from(sorted(keys)), max_size=3, unique=True).flatmap(
            lambda chosen: st.fixed_dictionaries({key: keys[key] for key in chosen})
        )
    if isinstance(table, list):
        return st.lists(like(table[0]), max_size=2)
    name, *limits = table if isinstance(table, tuple) else (table,)
    if name == "choice":
        return st.sampled_from(limits)
    if limits:
        return st.integers(limits[0], limits[1])
    return FITTING[name]


def configurations(component):
    """(component, a configuration of it)."""
    return st.tuples(st.just(component), CONFIGURATIONS[component])


CONFIGURATIONS = {component: mostly(like(table), st.dictionaries(texts, junk)) for component, table in _dragonfly_schema.COMPONENTS.items()}


def plain(value):
    """Whether every key is text, and no text has halves of a pair."""
    keys, found = _keys_and_leaves(value)
    return all(isinstance(key, str) for key in keys) and not any(
        isinstance(one, str) and set(one) & sandbox.UNREADABLE - {"\0"} for one in keys + found
    )


def finite(value):
    return all(not isinstance(one, float) or math.isfinite(one) for one in _keys_and_leaves(value)[1])


def _keys_and_leaves(value):
    waiting, keys, found = [value], [], []
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            keys += one
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        else:
            found.append(one)
    return keys, found


def sentences(found):
    assert all(isinstance(one, str) and one[:1].isupper() for one in found), found
    return list(found)


SETTINGS = [
    *inventory_findings.COMPONENTS, *inventory_findings.ENVIRONMENTS, *inventory_findings.RELEASES, "torchserve_config",
    "torchserve_java_options", "torchserve_heap", "torchserve_java", "torchserve_version", "dfdaemon_disk_budget",
]  # fmt: skip


GATEWAY = [*(name for name in OPTIONS if name.startswith("gateway_")), "certificate", "key", "client_ca", "max_request_size"]
GATEWAY += ["daemons", "listening"]


VALUES = {name: mostly(value_like(name, option, PATHS)) for name, option in OPTIONS.items()}


@st.composite
def inventories(draw):
    """Variables of a host: what its list of models and its store are, and some of the others."""
    names = draw(st.lists(st.sampled_from(sorted(OPTIONS)), max_size=4))
    names = dict.fromkeys(["modelfleet_models", "modelfleet_storage", *names])
    # A role always has a version.
    return {"torchserve_version": "0.12.0", **{name: draw(VALUES[name]) for name in names}}


class TestInventory:
    @given(inventories())
    def test_is_refused_in_sentences_or_works(self, variables):
        if sentences(variable_findings.variable_findings({"host": variables})):
            return
        models = variables.get("modelfleet_models") or []
        findings = inventory_findings.inventory_findings(
            models, "/nowhere", {}, {"host": variables.get("modelfleet_address")}, variables.get("modelfleet_storage"), variables
        )
        if sentences(findings):
            return
        for daemon in ("scheduler", "dfdaemon", "torchserve"):
            addresses.addresses(variables, daemon)
        sentences(rollout_findings.rollout_findings({name: value for name, value in variables.items() if value is not None}, models))
        rollout_models.rollout_models(models)

    @given(st.dictionaries(st.sampled_from(SETTINGS), junk), st.dictionaries(texts, leaves))
    @example({"torchserve_config": {1: "a", "b": 2}, "torchserve_version": "0.12.0"}, {})
    @example({"torchserve_config": {"inference_address": "http://[1:2"}, "torchserve_version": "0.12.0"}, {})
    @example({"torchserve_java_options": 1}, {})
    def test_has_settings_of_any_kind(self, settings, hosts):
        # A role always has a version.
        settings = {"torchserve_version": "0.12.0", **settings}
        sentences(inventory_findings.inventory_findings([], settings=settings, addresses=hosts))

    @given(
        st.dictionaries(st.sampled_from(GATEWAY), junk),
        st.lists(st.dictionaries(st.sampled_from(["name", "token", "certificate", "requests_per_minute"]), leaves), max_size=3),
        texts,
    )
    @example({}, [], "\ud800")
    @example({}, [{"name": "a", "token": "\ud800" * 32}], "")
    def test_has_a_gateway_of_any_kind(self, settings, clients, pem):
        certificate = f"-----BEGIN CERTIFICATE-----\n{pem}\n-----END CERTIFICATE-----"
        wanted = {"gateway_certificate": "a", "gateway_key": "b", "certificate": certificate, "key": pem, "gateway_clients": clients}
        sentences(gateway_findings.gateway_findings({**settings, **wanted}))
        sentences(gateway_findings.gateway_findings(settings))

    @given(st.lists(leaves, max_size=4), st.lists(texts, max_size=5))
    @example(["9" * 5000], [])
    def test_has_batches_of_any_kind(self, sizes, hosts):
        found = list(rollout_findings.batch_findings(sizes))
        try:
            batches = restart_batches.restart_batches(hosts, sizes)
        except AnsibleFilterError:
            assert found
        else:
            assert sorted(batches) == sorted(set(hosts))


class TestDragonfly:
    @given(st.sampled_from(sorted(_dragonfly_schema.COMPONENTS)).flatmap(configurations))
    @example(("dfdaemon_dynconfig", {"scheduler": {"addrs": ["10.0.0.1:²"]}}))
    @example(("scheduler_dynconfig", {"applications": [{None: 1, False: 2, 3: 4}]}))
    @example(("scheduler_dynconfig", {"applications": [{"a": 1e300}]}))
    @example(("dfdaemon", {"upload": {"server": {"port": 10**310}}}))
    @example(("scheduler_dynconfig", {"applications": [{"a": {"9" * 5000: None}}]}))
    def test_a_configuration_is_refused_or_is_what_the_file_says(self, given_):
        component, config = given_
        entry = {"component": component, "path": "/x", "config": config, "mode": "0600"}
        try:
            (written,) = dragonfly_files.dragonfly_files([entry])
        except AnsibleFilterError as exc:
            assert str(exc).startswith("Refused the configuration") and str(exc).endswith(".")
            return
        assert SECRET not in _dragonfly_config.shown_config(component, written["content"], "")
        assume(plain(config) and finite(config))
        assert yaml.safe_load(written["content"]) == config
        assert _dragonfly_config.from_yaml(written["content"]) == config

    @given(st.recursive(leaves, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=9), below, max_size=3)))
    @example({"A\n": None})
    def test_a_file_is_read_back(self, value):
        assume(plain(value) and finite(value))
        assert _dragonfly_config.from_yaml(_dragonfly_config.to_yaml(value)) == value

    @given(st.sampled_from(sorted(_dragonfly_schema.COMPONENTS)), st.text(st.sampled_from('-: \n"[]{}a#\\,1\t')) | texts, texts)
    @example("dfdaemon", "a: " + "[" * 5000, "")
    @example("dfdaemon", "\n".join("  " * depth + "a:" for depth in range(2000)), "")
    def test_whoever_wrote_a_file_it_is_shown(self, component, text, before):
        assert isinstance(_dragonfly_config.shown_config(component, text, before), str)


class TestTorchServe:
    @given(
        st.dictionaries(mostly(st.sampled_from(sorted(_torchserve_config.KEYS["0.12.0"])), leaves), leaves, max_size=4),
        st.sampled_from(sorted(_torchserve_config.KEYS)),
        st.lists(st.sampled_from(["lan_bind", "no_token", "remote_urls"])),
    )
    @example({"grpc_inference_port": "9" * 5000}, "0.12.0", [])
    def test_a_configuration_is_refused_or_is_what_the_file_says(self, config, version, allow):
        try:
            text = torchserve_properties.torchserve_properties(config, version, allow)
        except AnsibleFilterError as exc:
            assert str(exc).startswith("Refused the configuration")
            return
        lines = text.splitlines()[1:]
        assert [line.partition("=")[0] for line in lines] == sorted({**_torchserve_config.SAFE, **config})
        assert set(text) <= set(string.printable) - set("\r\x0b\x0c\t")

    @given(junk, st.booleans())
    @example('\\ "%$', True)
    def test_a_word_of_a_unit_is_refused_or_is_one_word(self, value, argument):
        try:
            quoted = systemd_quote.systemd_quote(value, argument)
        except AnsibleFilterError:
            return
        inner = quoted[1:-1]
        assert quoted[0] == quoted[-1] == '"' and re.fullmatch(r'(?:[^"\\%\n\r\0]|\\["\\]|%%)*', inner)
        plain_text = re.sub(r"\\(.)", r"\1", inner).replace("%%", "%")
        assert (plain_text.replace("$$", "$") if argument else plain_text) == str(value)


class TestStores:
    SPEC = _storage.storage_argument_spec()

    @given(mostly(options_like(SPEC["options"], PATHS, SPEC)), odd_texts | st.just("models/a.mar"), numbers)
    @example({"s3": {"bucket": "model", "access_key": "\ud800", "secret_key": "x"}}, "a.mar", 60)
    def test_a_description_is_refused_or_signs(self, storage, key, expires_s):
        try:
            store = _storage.store_from_unchecked(storage)
        except ModelFleetError as exc:
            assert str(exc).startswith("Failed to")
            return
        for host in store.origin_hosts():
            assert host["host"] and 0 < host["port"] < 65536
        try:
            _storage.check_object_key(key)
            assert store.presign("GET", key, expires_s).startswith("http")
        except ModelFleetError:
            pass
        try:
            json.dumps(store.to_config())
        except ModelFleetError:
            pass


class TestNumbers:
    @given(*[st.integers(-2, 10**7) | numbers] * 2, *[st.floats(-1, 1e9) | floats | numbers] * 2, *[st.integers(-2, 5000) | numbers] * 3)
    @example(1, 2, 1.0, 2.2250738585e-313, 1, 1, 1)
    def test_a_plan_is_refused_or_is_one(self, hosts, size, origin, host, seeds, files, copies):
        try:
            found = distribution_plan.distribution_plan(hosts, size, origin, host, seeds=seeds, files=files, copies=copies)
            distribution_plan.plan_table([found])
        except AnsibleFilterError as exc:
            assert str(exc).startswith("Failed to plan")
            return
        assert all(math.isfinite(found[name]) for name in ("seconds", "uneven_seconds", "bound_seconds", "direct_seconds"))

    @given(st.integers(0, 10**9), floats, st.integers(0, 1000), st.integers(0, 1000))
    def test_a_swarm_of_any_size_has_settings(self, hosts, origin, seeds, schedulers):
        assert swarm_settings.swarm_settings(hosts, origin)["scheduler"]["server"]["requestRateLimit"] >= 4000
        sentences(swarm_settings.swarm_shortages(hosts, seeds, schedulers))

    @given(leaves)
    @example(nested([], 50))
    @example(10**310)
    def test_a_size_is_one_or_none(self, size):
        found = _text.bytes_of(size)
        assert found is None or isinstance(found, int)
