# Copyright: (c) 2026, ModelFleet developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import pytest
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle import File
from ansible_collections.modelfleet.serving.plugins.module_utils._bundle_tree import served_as, tree_problem

RESTORE = Path(__file__).parents[4] / "roles/torchserve/files/restore_models.py"
CONTENTS = {"MAR-INF/MANIFEST.json": b"{}", "empty": b"", "layers/1/weights.bin": b"weights", "run": b"#!", "\u00fcber.txt": b"text"}
WEIGHTS, RUN = (hashlib.sha256(CONTENTS[path]).hexdigest() for path in ("layers/1/weights.bin", "run"))


def restore_models():
    spec = importlib.util.spec_from_file_location("restore_models", RESTORE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path):
    for path, content in CONTENTS.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    return tmp_path


def linked(tree):
    (tree / "other").write_bytes(b"text")
    (tree / "\u00fcber.txt").unlink()
    (tree / "\u00fcber.txt").symlink_to(tree / "other")
    (tree / "other").rename(tree.parent / "other")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: None, None),
        (lambda tree: (tree / "layers/2").mkdir(), None),
        (lambda tree: (tree / "empty").unlink(), "has no empty that can be read (No such file or directory); run the playbook distribute"),
        (
            lambda tree: (tree / "layers/1/weights.bin").write_bytes(b"short"),
            f"has layers/1/weights.bin with 5 bytes, expected 7; remove /var/lib/modelfleet/blobs/{WEIGHTS} and run the playbook",
        ),
        (lambda tree: (tree / "layers/1/weights.bin").write_bytes(b"weightz"), "has layers/1/weights.bin with sha256 "),
        (lambda tree: (tree / "run").write_bytes(b"#"), f"has run with 1 bytes, expected 2; remove /var/lib/modelfleet/blobs/{RUN}-x and"),
        (lambda tree: (tree / "layers/1/more").write_bytes(b""), "has layers/1/more, which is not in its manifest"),
        (lambda tree: (tree / "etc").symlink_to("/etc"), "has etc, which is not in its manifest"),
        (linked, "has \u00fcber.txt, which is no file"),
        (lambda tree: ((tree / "empty").unlink(), (tree / "empty").mkdir()), "has empty, which is no file"),
    ],
)
def test_a_tree_has_exactly_the_files_of_its_manifest(tree, change, words):
    change(tree)
    files = [
        File(path, len(content), hashlib.sha256(content).hexdigest(), "0755" if path == "run" else "0644")
        for path, content in sorted(CONTENTS.items())
    ]
    problem = tree_problem(files, str(tree))
    assert problem == words if words is None else problem.startswith(words)
    # The restore after a start has no part of the collection, and the same opinion.
    assert restore_models().tree_problem([file._asdict() for file in files], str(tree)) == problem


@pytest.mark.parametrize("content", [None, b"", b"[]", b"{}", b'{"model": null}', b"\xff"])
def test_a_directory_that_is_no_model_of_torchserve(tree, content):
    (tree / "MAR-INF/MANIFEST.json").unlink()
    if content is not None:
        (tree / "MAR-INF/MANIFEST.json").write_bytes(content)
    assert served_as(str(tree)) is None
