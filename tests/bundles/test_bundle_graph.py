"""The optional ``model.onnx`` of a bundle."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import samples
from onnx_bytes import graph, model, node, whole_file

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.write import copy_bundle, write_bundle
from napari_cellclf.errors import BundleError, IntegrityError, UnsafeModelError

GRAPH = whole_file()


def _bundle(folder: Path, content: bytes = GRAPH, size: int = 8, **options: Any) -> ModelBundle:
    made = {"preprocessing": {"channels": [{"name": "DNA"}], "size": (size, size)}}
    files = samples.files() | {"model.onnx": content}
    return write_bundle(folder / "two.cellclf", samples.spec(input=made), files, **options)


@pytest.mark.parametrize("as_zip", [False, True])
def test_it_comes_back_as_it_was_written(tmp_path: Path, as_zip: bool) -> None:
    bundle = _bundle(tmp_path, as_zip=as_zip)
    assert bundle.has_graph
    assert bundle.graph() == GRAPH
    assert bundle.graph_sha256 == hashlib.sha256(GRAPH).hexdigest()
    shared = copy_bundle(bundle.path, tmp_path / "shared.zip")
    assert shared.graph() == GRAPH


def test_a_bundle_is_whole_without_it(tmp_path: Path) -> None:
    bundle = samples.bundle(tmp_path)
    assert (bundle.has_graph, bundle.graph_sha256) == (False, "")
    with pytest.raises(BundleError, match=r"has no model\.onnx.*engine keras"):
        bundle.graph()


def test_the_gate_looks_before_an_engine_does(tmp_path: Path) -> None:
    hostile = model(graph(node("Loop", ["image"], "answer")))
    with pytest.raises(UnsafeModelError):
        _bundle(tmp_path, hostile).graph()


def test_it_must_take_what_the_bundle_feeds_it(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"takes arrays of shape \(None, 8, 8, 1\)"):
        _bundle(tmp_path, size=4).graph()


def test_a_change_after_loading_is_noticed(tmp_path: Path) -> None:
    bundle = _bundle(tmp_path)
    (bundle.path / "model.onnx").write_bytes(GRAPH + b"x")
    with pytest.raises(IntegrityError):
        bundle.graph()
    with pytest.raises(IntegrityError):
        ModelBundle.load(bundle.path)


def test_one_that_no_hash_stands_for_is_not_looked_at(tmp_path: Path) -> None:
    path = samples.bundle(tmp_path, as_zip=True).path
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("model.onnx", GRAPH)
    assert not ModelBundle.load(path).has_graph
