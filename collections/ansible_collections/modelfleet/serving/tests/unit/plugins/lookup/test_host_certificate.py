# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible.errors import AnsibleLookupError
from ansible.plugins.loader import lookup_loader
from ansible_collections.modelfleet.serving.plugins.module_utils import _certificates as pki
from ansible_collections.modelfleet.serving.plugins.modules import host_certificates

PASSPHRASE = "PLANTED"


@pytest.fixture
def lookup():
    return lookup_loader.get("modelfleet.serving.host_certificate")


@pytest.fixture
def directory(run_module, tmp_path):
    path = tmp_path / "prod.pki"
    host = {"name": "gpu-1", "address": "10.0.0.1"}
    run_module(host_certificates.main, {"hosts": [host], "directory": str(path), "passphrase": PASSPHRASE})
    return path


def test_what_a_host_needs(lookup, directory):
    (files,) = lookup.run(["gpu-1"], directory=str(directory), passphrase=PASSPHRASE)
    (authority,) = pki.certificates_of(files["trusted"].encode(), "")
    (made,) = pki.certificates_of(files["certificate"].encode(), "")
    key = pki.key_of(files["certificate"].encode(), "")
    assert pki.host_problems([made], key, "10.0.0.1", [authority], pki.now()) == []
    assert "PRIVATE" not in files["trusted"] and "ENCRYPTED" not in files["certificate"]
    # The same each time, or every run would restart the fleet.
    assert lookup.run(["gpu-1"], directory=str(directory), passphrase=PASSPHRASE) == [files]


def test_both_authorities_are_trusted_in_a_rotation(lookup, directory, run_module):
    host = {"name": "gpu-1", "address": "10.0.0.1"}
    for step, count in (("trust", 2), ("issue", 2), ("finish", 1)):
        args = {"hosts": [host], "directory": str(directory), "passphrase": PASSPHRASE, "rotation": step}
        assert run_module(host_certificates.main, args)["changed"]
        (files,) = lookup.run(["gpu-1"], directory=str(directory), passphrase=PASSPHRASE)
        assert files["trusted"].count("BEGIN CERTIFICATE") == count


def test_no_place_to_look(lookup):
    """As a variable that is empty has it: not the directory in which Ansible was started."""
    with pytest.raises(AnsibleLookupError, match="set modelfleet_pki_directory, or modelfleet_pki_ca_path"):
        lookup.run(["gpu-1"], directory="", ca_path="", certificate_path="", key_path="")


def test_before_there_is_one(lookup, tmp_path):
    with pytest.raises(AnsibleLookupError, match=r"gpu-1\.pem is not there\. The play site issues it"):
        lookup.run(["gpu-1"], directory=str(tmp_path))
    assert lookup.run(["gpu-1"], directory=str(tmp_path), predicted=True) == [
        {"trusted": "(not made yet)\n", "certificate": "(not made yet)\n"}
    ]


@pytest.mark.parametrize(("passphrase", "said"), [("", "Set modelfleet_pki_passphrase"), ("other", "Correct modelfleet_pki_passphrase")])
def test_without_the_passphrase(lookup, directory, passphrase, said):
    with pytest.raises(AnsibleLookupError, match=said):
        lookup.run(["gpu-1"], directory=str(directory), passphrase=passphrase)


def test_certificates_of_ones_own(lookup, tmp_path):
    authority, key = pki.new_authority("Example", 10, pki.now())
    made, host_key = pki.new_host("gpu-1", "10.0.0.1", 10, authority, key, pki.now())
    paths = {}
    for name, text in (("ca", pki.pem_of([authority])), ("certificate", pki.pem_of([made])), ("key", pki.pem_of([], host_key, PASSPHRASE))):
        paths[f"{name}_path"] = str(tmp_path / name)
        (tmp_path / name).write_text(text)
    (files,) = lookup.run(["gpu-1"], passphrase=PASSPHRASE, **paths)
    assert files == {"trusted": pki.pem_of([authority]), "certificate": pki.pem_of([made], host_key)}
    with pytest.raises(AnsibleLookupError, match="The host gpu-1 has no certificate or no key"):
        lookup.run(["gpu-1"], passphrase=PASSPHRASE, **{**paths, "key_path": ""})
    with pytest.raises(AnsibleLookupError, match="Failed to read /nowhere: No such file or directory"):
        lookup.run(["gpu-1"], passphrase=PASSPHRASE, **{**paths, "key_path": "/nowhere"})
