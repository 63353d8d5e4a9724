"""Limits of what a file from anywhere may hold, at their boundaries; the numbers stand here too."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import h5py
import hostile
import numpy as np
import pytest
from onnx_bytes import NODES, TENSORS, graph, ints, model, node, tensor, text_attribute

from napari_cellclf.bundles.arrays import parse_weights
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.keras_file import check_weights, read_keras_file
from napari_cellclf.bundles.onnx_file import check_onnx
from napari_cellclf.errors import BundleError, UnsafeModelError


def test_json_of_40000_lists_is_read_and_no_more() -> None:
    assert len(parse_json(b"[" + b",".join([b"[]"] * 39_999) + b"]", "it")) == 39_999
    with pytest.raises(UnsafeModelError, match="more than such files do"):
        parse_json(b"[" + b",".join([b"[]"] * 40_000) + b"]", "it")


@pytest.mark.parametrize(("size", "is_read"), [(1 << 22, True), ((1 << 22) + 8, False)])
def test_a_header_of_weights_takes_4_mib_at_most(size: int, is_read: bool) -> None:
    array = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    content = struct.pack("<Q", size) + json.dumps(array).encode().ljust(size) + bytes(4)
    if is_read:
        assert parse_weights(content, "it")["a"].tolist() == [0]
        return
    with pytest.raises(BundleError, match="not a complete safetensors file"):
        parse_weights(content, "it")


@pytest.mark.parametrize(("groups", "is_read"), [(9_998, True), (10_001, False)])
def test_weights_hold_10000_objects_at_most(tmp_path: Path, groups: int, is_read: bool) -> None:
    path = tmp_path / "many.weights.h5"
    with h5py.File(path, "w", libver="latest") as file:
        for number in range(groups):
            file.create_group(str(number))
        file["array"] = [1.0]
    if is_read:
        check_weights(path)
        return
    with pytest.raises(UnsafeModelError, match="hold over 10000 objects"):
        check_weights(path)


@pytest.mark.parametrize(("size", "is_read"), [(1 << 14, True), ((1 << 14) + 1, False)])
def test_metadata_take_16_kib_at_most(tmp_path: Path, size: int, is_read: bool) -> None:
    metadata = json.dumps(hostile.METADATA).encode().ljust(size)
    path = hostile.write(tmp_path / "model.keras", metadata=metadata)
    if is_read:
        assert read_keras_file(path).kind == "Keras 3"
        return
    with pytest.raises(UnsafeModelError, match="limit 16384"):
        read_keras_file(path)


def test_the_list_of_a_zip_takes_16_kib_at_most(tmp_path: Path) -> None:
    wordy = zipfile.ZipInfo("more.json")
    wordy.comment = b" " * (1 << 14)
    path = hostile.write(tmp_path / "model.keras", extra=((wordy, b"{}"),))
    with pytest.raises(UnsafeModelError, match=r"lists 4 members in 16\d\d\d bytes"):
        read_keras_file(path)


def enlarged(*more: bytes) -> bytes:
    """Enlarge an image of 8 x 8 to 2 ** 27 pixels, beside what a plain network makes of it."""
    scales = tensor("scales", np.array([1, 1 << 10, 1 << 11, 1], np.float32))
    larger = node("Resize", ["image", "", "scales"], "x0")
    return model(graph(larger, *more, *NODES, tensors=(*TENSORS, scales)))


@pytest.mark.parametrize(("repeats", "is_read"), [(30, True), (32, False)])
def test_a_network_makes_2_to_the_32_numbers_of_an_image_at_most(
    repeats: int, is_read: bool
) -> None:
    again = [node("Relu", [f"x{number}"], f"x{number + 1}") for number in range(repeats)]
    if is_read:
        check_onnx(enlarged(*again), "it")
        return
    with pytest.raises(UnsafeModelError, match="makes over 4294967296 numbers of one image in all"):
        check_onnx(enlarged(*again), "it")


@pytest.mark.parametrize(("repeats", "is_read"), [(1, True), (3, False)])
def test_a_network_takes_2_to_the_41_multiplications_at_most(repeats: int, is_read: bool) -> None:
    # Each takes 2 ** 27 times 2 ** 13.
    how = (ints("kernel_shape", 1 << 13, 1), text_attribute("auto_pad", "SAME_UPPER"))
    pools = [node("MaxPool", [f"x{n}"], f"x{n + 1}", *how) for n in range(repeats)]
    if is_read:
        check_onnx(enlarged(*pools), "it")
        return
    with pytest.raises(UnsafeModelError, match="takes over 2199023255552 multiplications"):
        check_onnx(enlarged(*pools), "it")
