"""The optional ``model.onnx`` of a bundle."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import samples
from onnx_bytes import graph, model, node, number, port, tensor, whole_file

from napari_cellclf.bundles.arrays import dump_array
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


def test_a_network_of_open_size_is_weighed_by_its_test_image(tmp_path: Path) -> None:
    scales = tensor("scales", np.array([1, 32, 32, 1], np.float32))
    content = model(
        graph(
            node("Resize", ["image", "", "scales"], "large"),
            node("ReduceMax", ["large", "axes"], "one", number("keepdims", 0)),
            node("Gemm", ["one", "kernel"], "answer"),
            tensors=(
                scales,
                tensor("axes", np.array([1, 2])),
                tensor("kernel", np.ones((1, 2), np.float32)),
            ),
            inputs=(port("image", "batch", "y", "x", 1),),
        )
    )
    open_size = samples.spec(input={"preprocessing": {"channels": [{"name": "DNA"}]}})
    for name, side in (("small", 300), ("large", 400)):
        files = samples.files() | {
            "model.onnx": content,
            "test_input.npy": dump_array(np.zeros((side, side), np.uint8)),
        }
        bundle = write_bundle(tmp_path / f"{name}.cellclf", open_size, files)
        if name == "small":
            assert bundle.graph() == content
        else:
            with pytest.raises(UnsafeModelError, match=r"numbers of one image by Resize; limit"):
                bundle.graph()


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
