# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels, packages and images of an offline bundle, by the programs whose own they are: pip, apt, skopeo.

PRIVATE to the collection: it can have breaking changes at any time. Each function writes into a directory (str) that is empty, and returns
{file name: (source, licence)}, texts that are empty where nobody knows.
"""

from __future__ import annotations

import email
import os
import re
import shutil
import sys
import tempfile
import urllib.parse
import zipfile

from ansible_collections.modelfleet.serving.plugins.module_utils._download import without_credentials
from ansible_collections.modelfleet.serving.plugins.module_utils._errors import ModelFleetError
from ansible_collections.modelfleet.serving.plugins.module_utils._files import sha256_of
from ansible_collections.modelfleet.serving.plugins.module_utils._gpg import sign
from ansible_collections.modelfleet.serving.plugins.module_utils._offline_platform import platform
from ansible_collections.modelfleet.serving.plugins.module_utils._text import from_json

_HASH = re.compile(r"\s+(?:\\\s*)?--hash[= ]sha256:([0-9a-fA-F]{64})")
_ANY_HASH = re.compile(r"\s+(?:\\\s*)?--hash[= ]\S+")
_PROJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WITH_DIGEST = re.compile(r"[^\s@]+@sha256:[0-9a-f]{64}\Z")
# As pip prints it, apt as well, and as people write it.
_USER = re.compile(r"(?<=://)[^/\s@]+@")
# 'URI' name size hash, as apt-get prints them.
_URI = re.compile(r"'([^']+)' (\S+) \d+ (\S*)")


def _call(module, command, problem, remedy, **options):
    """What a program printed. Raises ModelFleetError with ``problem`` and ``remedy`` (sentences without their end) when it fails."""
    try:
        rc, out, err = module.run_command(command, handle_exceptions=False, **options)
    except OSError as exc:
        raise ModelFleetError(f"{problem}: {exc}. {remedy}.") from exc
    if rc:
        said = " ".join([line.strip() for line in (err.strip() or out).splitlines() if line.strip()][-4:])
        raise ModelFleetError(f"{problem}: {_USER.sub('', said) or 'it said nothing.'} {remedy}.")
    return out


def _program(module, name, package):
    found = module.get_bin_path(name)
    if not found:
        raise ModelFleetError(f"Failed to find {name} on this machine, which makes bundles. Install the package {package}.")
    return found


def canonical(project):
    return re.sub(r"[-_.]+", "-", project).lower()


# Wheels


def wheels(module, asked, directory):
    """Download what TorchServe's environment is made of; ``asked`` (dict) is an entry of the option ``wheels``."""
    target = platform(asked["platform"])
    version = asked["python"] or target.python
    if version != "{}.{}".format(*sys.version_info[:2]) and not asked["pip"]:
        module.warn(
            f"The wheels of {asked['path']} are for Python {version}, and pip runs on another one here, which decides by its own "
            f"version what they depend on. Name a Python {version} that has pip."
        )
    pip = [asked["pip"] or sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "download", "--no-cache-dir"]
    pip += ["--only-binary=:all:", "--implementation=cp", f"--python-version={version}"]
    pip += [f"--platform={tag}" for tag in target.wheel_tags()]
    found = {}
    for lines, index in ((asked["first"], asked["first_index_url"] or asked["index_url"]), (asked["packages"], asked["index_url"])):
        if not lines:
            continue
        work = tempfile.mkdtemp(dir=module.tmpdir)
        requirements = os.path.join(module.tmpdir, os.path.basename(work) + ".txt")
        with open(requirements, "w", encoding="utf-8") as handle:
            # With one hash pip wants one of everything, also of what these depend on; they are compared below.
            handle.writelines(f"{_ANY_HASH.sub('', line)}\n" for line in lines)
        source = without_credentials(index) if index else "the package index that pip is configured for"
        names = ", ".join(_ANY_HASH.sub("", line) for line in lines)
        command = [*pip, *([f"--index-url={index}"] if index else []), f"--dest={work}", f"--requirement={requirements}"]
        problem = f"Failed to download {_USER.sub('', names)} for {asked['platform']} with Python {version} from {source}"
        _call(module, command, problem, "See whether that index has wheels of them for this Python; what has none must be built before")
        for name in sorted(os.listdir(work)):
            _take(os.path.join(work, name), os.path.join(directory, name), asked["path"])
            found.setdefault(name, (source, licence_of_wheel(os.path.join(directory, name))))
    _compare_hashes([*asked["first"], *asked["packages"]], directory, found, asked["hashes"])
    return found


def _take(source, target, place):
    if os.path.exists(target):
        if sha256_of(source) != sha256_of(target):
            raise ModelFleetError(
                f"Refused {os.path.basename(target)} for {place}: two package indexes have different files of that name. Name its version "
                "in one of the lists."
            )
        return
    shutil.move(source, target)


def _compare_hashes(lines, directory, found, pinned):
    """The wheels of lines with a hash, or with one in ``pinned`` ({line: sha256:digest}), must be those."""
    for line in lines:
        hashes = {digest.lower() for digest in _HASH.findall(f"{line} --hash={pinned[line]}" if line in pinned else line)}
        project = _PROJECT.match(line.strip())
        if not hashes or not project:
            continue
        for name in found:
            if canonical(name.partition("-")[0]) == canonical(project.group()):
                digest = sha256_of(os.path.join(directory, name))
                if digest not in hashes:
                    raise ModelFleetError(
                        f"Refused the wheel {name}: its sha256 is {digest}, and {_ANY_HASH.sub('', line)} has another hash. Find out "
                        "who changed it, or correct the hash."
                    )


def licence_of_wheel(path):
    """What the metadata of a wheel say of its licence (str), in a line; empty where they say nothing."""
    try:
        with zipfile.ZipFile(path) as wheel:
            name = next(name for name in wheel.namelist() if re.match(r"[^/]+\.dist-info/METADATA\Z", name))
            metadata = email.message_from_bytes(wheel.read(name))
    except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        return ""
    said = str(metadata.get("License-Expression") or metadata.get("License") or "").strip()
    # Some have the whole text there.
    if said and "\n" not in said and len(said) <= 100:
        return said
    classified = [line.rpartition(" :: ")[2] for line in metadata.get_all("Classifier", []) if line.startswith("License ::")]
    return ", ".join(classified)


# Packages of Debian and Ubuntu


def packages(module, asked, directory, key):
    """Download packages with all that they depend on, and make a repository of them that ``key`` signs, or nobody where it is empty."""
    target = platform(asked["platform"])
    if not target.has_apt:
        raise ModelFleetError(
            f"Failed to get the packages of {target.name}: bundles have those of Debian and Ubuntu only. Mirror them with dnf "
            "reposync, and leave the names of this platform out."
        )
    apt_get, ftparchive = _program(module, "apt-get", "apt"), _program(module, "apt-ftparchive", "apt-utils")
    work = tempfile.mkdtemp(dir=module.tmpdir)
    options = _apt_options(work, target, _sources(module, asked, target, work))
    place = f"the packages of {target.name}"
    _call(
        module,
        [apt_get, *options, "--quiet", "update"],
        f"Failed to read the lists of {place}",
        "See whether this machine reaches the sources and has the keys that sign them",
    )
    install = [apt_get, *options, "--quiet", "--yes", "--no-install-recommends", "install"]
    problem = f"Failed to get {', '.join(asked['names'])} for {target.name}"
    remedy = "Compare the names with what the sources have"
    uris = _call(module, [*install, "--print-uris", "--", *asked["names"]], problem, remedy)
    wanted = {os.path.basename(name): (uri, digest) for uri, name, digest in _URI.findall(uris)}
    _call(module, [*install, "--download-only", "--", *asked["names"]], problem, remedy)
    archives = os.path.join(work, "cache/archives")
    found = {}
    for name, (uri, digest) in sorted(wanted.items()):
        source, kept = os.path.join(archives, name), os.path.join(directory, name)
        # What lies in a directory is used there, and not copied.
        if not os.path.exists(source) and uri.startswith("file:"):
            source = urllib.parse.unquote(urllib.parse.urlsplit(uri).path)
        try:
            shutil.copyfile(source, kept)
        except OSError as exc:
            raise ModelFleetError(f"{problem}: apt got {name}, and it is not there ({exc.strerror}). Run again.") from exc
        kind, _colon, expected = digest.partition(":")
        if kind == "SHA256" and sha256_of(kept) != expected:
            raise ModelFleetError(f"{problem}: {name} is not what the lists of its source say. Find out who changed it.")
        found[name] = (_USER.sub("", uri), "")
    return {**found, **_index(module, target, directory, ftparchive, key)}


def _apt_options(work, target, sources):
    """A state of its own, so that what this machine has installed and asks is neither read nor changed."""
    for part in ("lists/partial", "cache/archives/partial", "etc"):
        os.makedirs(os.path.join(work, part))
    with open(os.path.join(work, "status"), "w", encoding="utf-8"):
        pass
    values = {
        "Dir::State": work,
        "Dir::State::lists": os.path.join(work, "lists"),
        # Of a machine that has nothing, so that all that is depended on comes with it.
        "Dir::State::status": os.path.join(work, "status"),
        "Dir::Cache": os.path.join(work, "cache"),
        "Dir::Etc::preferences": os.path.join(work, "etc/none"),
        "Dir::Etc::preferencesparts": os.path.join(work, "etc"),
        **sources,
        "APT::Architecture": target.dpkg_architecture,
        "APT::Architectures": target.dpkg_architecture,
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        # Its own user may not write here; where this is run by another one than root, there is no choice.
        "APT::Sandbox::User": "root",
    }
    return [f"--option={name}={value}" for name, value in values.items()]


def _sources(module, asked, target, work):
    texts = asked["sources"]
    if not texts:
        own = _own_distribution()
        if own != target.distribution:
            raise ModelFleetError(
                f"Failed to get the packages of {target.name}: this machine is {own or 'no Debian or Ubuntu'}, so its own sources "
                f"have others. Name sources of {target.distribution}, each with the keyring that signs it."
            )
        return {"Dir::Etc::sourcelist": "/etc/apt/sources.list", "Dir::Etc::sourceparts": "/etc/apt/sources.list.d"}
    place = os.path.join(work, "sources")
    os.makedirs(place)
    for number, text in enumerate(texts):
        suffix = "list" if text.lstrip().startswith("deb ") else "sources"
        with open(os.path.join(place, f"{number:03}.{suffix}"), "w", encoding="utf-8") as handle:
            handle.write(text.rstrip("\n") + "\n")
    return {"Dir::Etc::sourcelist": os.path.join(work, "etc/none"), "Dir::Etc::sourceparts": place}


def _own_distribution(path="/etc/os-release"):
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            pairs = dict(line.strip().split("=", 1) for line in handle if "=" in line)
    except OSError:
        return ""
    return "-".join(pairs.get(key, "").strip("\"'") for key in ("ID", "VERSION_ID")).strip("-")


def _index(module, target, directory, ftparchive, key):
    """Packages and a signed Release, as apt reads them where everything lies in one directory."""
    quiet = [f"--option=APT::FTPArchive::{name}=false" for name in ("MD5", "SHA1", "SHA512")]
    remedy = "Try apt-ftparchive there"
    listed = _call(module, [ftparchive, *quiet, "packages", "."], f"Failed to list the packages of {target.name}", remedy, cwd=directory)
    with open(os.path.join(directory, "Packages"), "w", encoding="utf-8", errors="surrogateescape") as handle:
        handle.write(listed)
    values = {"Origin": "modelfleet", "Label": "modelfleet", "Suite": target.name, "Architectures": target.dpkg_architecture}
    options = [f"--option=APT::FTPArchive::Release::{name}={value}" for name, value in values.items()]
    release = _call(
        module, [ftparchive, *quiet, *options, "release", "."], f"Failed to describe the packages of {target.name}", remedy, cwd=directory
    )
    path = os.path.join(directory, "Release")
    with open(path, "w", encoding="utf-8", errors="surrogateescape") as handle:
        handle.write(release)
    names = ["Packages", "Release"]
    if key:
        sign(module, key, path, os.path.join(directory, "InRelease"), clear=True)
        names.append("InRelease")
    return dict.fromkeys(names, ("apt-ftparchive of this bundle", ""))


# Images of containers


def images(module, asked, directory):
    """Copy an image, byte for byte, into an archive that podman loads."""
    image = asked["image"]
    if not _WITH_DIGEST.match(image):
        raise ModelFleetError(f"Refused the image {image}: a bundle has images by their digest. Write it as name@sha256:….")
    target = platform(asked["platform"])
    skopeo = _program(module, "skopeo", "skopeo")
    source = "docker://" + re.sub(r":[^:/@]+(?=@)", "", image)
    remedy = "See whether this machine reaches the registry and may read it (skopeo login)"
    raw = _call(module, [skopeo, "inspect", "--raw", source], f"Failed to read the image {image}", remedy)
    try:
        described = from_json(raw)
    except ValueError as exc:
        raise ModelFleetError(f"Failed to read the image {image}: the registry's answer is no manifest ({exc}). {remedy}.") from exc
    listed = described.get("manifests") if isinstance(described, dict) else None
    if isinstance(listed, list):
        ours = [str(one.get("digest")) for one in listed if isinstance(one, dict) and _architecture(one) == target.dpkg_architecture]
        raise ModelFleetError(
            f"Refused the image {image}: this digest is that of a list of images for several architectures, and a host can load only "
            f"one of them. Take that for {target.architecture}: {', '.join(ours) or 'there is none'}."
        )
    name = asked["path"].rpartition("/")[2]
    command = [
        skopeo,
        "copy",
        "--quiet",
        "--preserve-digests",
        source,
        f"oci-archive:{os.path.join(directory, name)}:{source.partition('://')[2].partition('@')[0]}:offline",
    ]
    _call(module, command, f"Failed to copy the image {image}", remedy)
    labels = _call(
        module,
        [skopeo, "inspect", "--format", '{{index .Labels "org.opencontainers.image.licenses"}}', source],
        f"Failed to read {image}",
        remedy,
    )
    return {name: (image, labels.strip())}


def _architecture(described):
    """Of an image in a list of them, as Go and Debian call it."""
    found = described.get("platform")
    return found.get("architecture") if isinstance(found, dict) else None


def without_passwords(text):
    """A line that may name a URL (str), without the user and password in it."""
    return _USER.sub("", text)
