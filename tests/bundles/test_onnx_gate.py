"""ONNX files: standard operators on whole tensors, and nothing that leads elsewhere."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_bytes import (
    NODES,
    TENSORS,
    float_attribute,
    graph,
    ints,
    message,
    model,
    node,
    port,
    tensor,
    varint,
    whole,
    whole_file,
)

from napari_cellclf.bundles.onnx_gate import MAX_NODES, CheckedOnnx, check_onnx
from napari_cellclf.bundles.wire import MAX_FIELDS
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError

WHOLE = whole_file()


def _check(content: bytes, **ports: object) -> CheckedOnnx:
    return check_onnx(io.BytesIO(content), "model.onnx", **ports)


def test_a_plain_network_passes(tmp_path: Path) -> None:
    checked = _check(WHOLE, inputs=(None, 8, 8, 1), n_classes=2)
    assert checked == CheckedOnnx(
        input_name="image",
        output_name="answer",
        input_shape=(None, 8, 8, 1),
        output_shape=(None, 2),
        opset=18,
        operators=frozenset({"Flatten", "Gemm", "Softmax"}),
        n_parameters=130,
        n_nodes=3,
    )
    (tmp_path / "model.onnx").write_bytes(WHOLE)
    assert check_onnx(tmp_path / "model.onnx", "model.onnx") == checked


def test_it_is_what_onnx_itself_reads() -> None:
    onnx = pytest.importorskip("onnx")
    onnx.checker.check_model(onnx.load_from_string(WHOLE), full_check=True)


def _one(*nodes: bytes, tensors: tuple[bytes, ...] = (), **parts: object) -> bytes:
    """Put nodes in front of the plain network, on its image."""
    return model(graph(*nodes, *NODES, tensors=(*TENSORS, *tensors), **parts))


def _constant(name: str, *values: int) -> bytes:
    return tensor(name, np.array(values, np.int64))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "external-data": (
        _one(tensors=(tensor("x", np.ones(2, np.float32), message(13, "/etc/passwd")),)),
        "another file",
    ),
    "external-location": (
        _one(tensors=(tensor("x", np.ones(2, np.float32), whole(14, 1)),)), "another file",
    ),
    "texts": (_one(tensors=(whole(1, 1) + whole(2, 8) + message(6, "x"),)), "texts"),
    "segment": (_one(tensors=(tensor("x", np.ones(2, np.float32), message(3)),)), "in pieces"),
    "tensor-too-long": (
        _one(tensors=(whole(1, 4) + whole(2, 1) + message(8, "x") + message(9, bytes(12)),)),
        "with 3 numbers",
    ),
    "tensor-of-a-terabyte": (
        _one(tensors=(whole(1, 1 << 40) + whole(2, 1) + message(8, "x") + message(9, bytes(8)),)),
        "with 2 numbers",
    ),
    "tensor-without-data": (
        _one(tensors=(whole(1, 1 << 40) + whole(2, 1) + message(8, "x"),)), "with 0 numbers",
    ),
    "negative-side": (
        _one(tensors=(whole(1, -4) + whole(2, 1) + message(8, "x"),)), "no plain array",
    ),
    "half-a-number": (
        _one(tensors=(whole(1, 1) + whole(2, 1) + message(8, "x") + message(9, bytes(5)),)),
        "with -1 numbers",
    ),
    "own-domain": (
        _one(node("Evil", ["image"], "x") + message(7, "com.evil")), "operators of 'com.evil'",
    ),
    "unknown-operator": (_one(node("Evil", ["image"], "x")), "operator 'Evil'"),
    "if": (_one(node("If", ["image"], "x", message(1, "a") + message(6, graph()))), "a graph"),
    "loop": (_one(node("Loop", ["image"], "x")), "operator 'Loop'"),
    "scan": (_one(node("Scan", ["image"], "x")), "operator 'Scan'"),
    "random": (_one(node("RandomNormalLike", ["image"], "x")), "RandomNormalLike"),
    "image-decoder": (_one(node("ImageDecoder", ["image"], "x")), "ImageDecoder"),
    "sparse-attribute": (
        _one(node("Constant", [], "x", message(1, "a") + message(22, b""))), "another object",
    ),
    "attribute-of-a-function": (
        _one(node("Relu", ["image"], "x", message(1, "a") + message(21, "outer"))),
        "another object",
    ),
    "large-attribute": (
        _one(node("MaxPool", ["image"], "x", ints("kernel_shape", 1 << 40))), "limit 16384",
    ),
    "resize": (
        _one(node("Resize", ["image", "", "s"], "x"),
             tensors=(tensor("s", np.array([1, 1, 1e4, 1e4], np.float32)),)),
        "much larger",
    ),
    "resize-again-and-again": (
        _one(*(node("Resize", ["image", "", "s"], f"x{i}") for i in range(20)),
             tensors=(tensor("s", np.array([1, 1, 2, 2], np.float32)),)),
        "much larger",
    ),
    "resize-to": (
        _one(node("Resize", ["image", "", "", "s"], "x"), tensors=(_constant("s", 1, 9999, 9999),)),
        "makes 9.998e",
    ),
    "expand": (
        _one(node("Expand", ["image", "s"], "x"), tensors=(_constant("s", 1 << 40),)), "Expand",
    ),
    "expand-by-the-image": (_one(node("Expand", ["image", "image"], "x")), "depend on the image"),
    "tile": (_one(node("Tile", ["image", "s"], "x"), tensors=(_constant("s", 1 << 20),)), "larger"),
    "pad": (_one(node("Pad", ["image", "s"], "x"), tensors=(_constant("s", 1 << 30),)), "larger"),
    "pad-backwards": (
        _one(node("Pad", ["image", "s"], "x"), tensors=(_constant("s", -(1 << 62)),)), "larger",
    ),
    "pads-of-a-convolution": (
        _one(*(node("MaxPool", ["image"], f"x{i}", ints("pads", 900, 900)) for i in range(9))),
        "larger",
    ),
    "strides": (
        _one(*(node("ConvTranspose", ["image"], f"x{i}", ints("strides", 64, 64))
               for i in range(4))),
        "larger",
    ),
    "cycle": (
        _one(node("Relu", ["b"], "a"), node("Relu", ["a"], "b")), "'b' before it is computed",
    ),
    "computed-twice": (_one(node("Relu", ["image"], "flat")), "computes it twice"),
    "overwrites-a-constant": (_one(node("Relu", ["image"], "bias")), "computes it twice"),
    "two-constants": (_one(tensors=(TENSORS[1],)), "two constants of one name"),
    "two-inputs": (_one(inputs=[port("image", 1), port("more", 1)]), "2 inputs"),
    "two-outputs": (_one(outputs=[port("answer", 1), port("flat", 1)]), "2 outputs"),
    "sparse-initializer": (_one(more=message(15, b"")), "sparse or quantised"),
    "quantisation": (_one(more=message(14, b"")), "sparse or quantised"),
    "input-of-texts": (_one(inputs=[port("image", 1, kind=8)]), "other numbers"),
    "input-without-shape": (_one(inputs=[message(1, "image")]), "what shape"),
    "input-is-a-sequence": (
        _one(inputs=[message(1, "image") + message(2, message(4, b""))]), "one plain tensor",
    ),
    "training": (model(graph(*NODES, tensors=TENSORS), message(20, b"")), "training steps"),
    "functions": (model(graph(*NODES, tensors=TENSORS), message(25, b"")), "functions of its own"),
    "opset-of-tomorrow": (model(graph(*NODES, tensors=TENSORS), opset=99), "version 99"),
    "format-of-tomorrow": (model(graph(*NODES, tensors=TENSORS), ir=99), "format 99"),
    "many-nodes": (model(message(1) * (MAX_NODES + 1)), f"over {MAX_NODES} nodes"),
    "many-fields": (_one(more=whole(2, 0) * MAX_FIELDS), f"over {MAX_FIELDS} fields"),
    "long-name": (_one(node("Relu", ["image"], "x" * 2000)), "longer than names are"),
    "long-list": (
        _one(node("Relu", ["image"], "x", message(1, "a") + message(8, bytes(9000)))),
        "longer than",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_are_refused(kind: str) -> None:
    content, told = HOSTILE[kind]
    with pytest.raises(UnsafeModelError, match=told) as caught:
        _check(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        WHOLE[:-1],
        b"\x80\x04K\x01.",
        b"\xff" * 50,
        varint(7 << 3 | 2) + b"\xff" * 9 + b"\x7f",
        varint(7 << 3 | 3),
        varint(2),
        model(b""),
        message(7, b"") * 2,
        model(graph(tensors=TENSORS)),
    ],
)
def test_incomplete_files_are_told(content: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        _check(content)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("ports", "told"),
    [
        ({"inputs": (None, 9, 8, 1)}, "will be fed"),
        ({"inputs": (None, None, 8, 1)}, "will be fed"),
        ({"inputs": (None, 8, 1)}, "will be fed"),
        ({"n_classes": 3}, "there are 3 classes"),
    ],
)
def test_ports_are_those_of_the_bundle(ports: dict[str, object], told: str) -> None:
    with pytest.raises(BundleError, match=told):
        _check(WHOLE, **ports)


def test_open_sizes_take_any() -> None:
    content = model(
        graph(*NODES, tensors=TENSORS, inputs=[port("image", "n", "y", "x", 1)])
    )  # fmt: skip
    assert _check(content, inputs=(None, 300, None, 1)).input_shape == (None, None, None, 1)


def test_sizes_that_are_put_together_are_followed() -> None:
    shaped = (
        node("Shape", ["image"], "all"),
        node("Concat", ["all", "s"], "size", ints("axis", 0)),
        node("Resize", ["image", "", "", "size"], "x", float_attribute("cubic_coeff_a", -0.5)),
    )
    assert _check(_one(*shaped, tensors=(_constant("s", 20, 20),))).n_nodes == 6
    with pytest.raises(UnsafeModelError, match="Resize"):
        _check(_one(*shaped, tensors=(_constant("s", 20_000, 20_000),)))


@settings(max_examples=500, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1, max_size=5
    ),
    cut=st.integers(0, 2 * len(WHOLE)),
)
def test_bent_bytes_are_told_or_still_a_plain_network(
    changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    try:
        checked = _check(bytes(content[:cut]))
    except ModelError:
        return
    assert checked.n_parameters * 4 <= len(WHOLE)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_told(content: bytes) -> None:
    with pytest.raises(ModelError):
        _check(content)


def test_bent_files_of_other_writers(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    body = helper.make_graph(
        [
            helper.make_node("Transpose", ["image"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("Conv", ["t", "k"], ["c"], pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
            helper.make_node("GlobalAveragePool", ["c"], ["g"]),
            helper.make_node("Flatten", ["g"], ["f"]),
            helper.make_node("Softmax", ["f"], ["answer"]),
        ],
        "net",
        [helper.make_tensor_value_info("image", 1, [None, None, None, 2])],
        [helper.make_tensor_value_info("answer", 1, [None, 3])],
        [helper.make_tensor("k", 1, [3, 2, 3, 3], np.arange(54.0))],
    )
    content = helper.make_model(body).SerializeToString()
    checked = _check(content, inputs=(None, None, None, 2), n_classes=3)
    assert checked.n_parameters == 54
    for length in range(len(content)):
        with pytest.raises(ModelError):
            _check(content[:length])


def test_tensors_are_not_copied() -> None:
    large = _one(tensors=(tensor("large", np.zeros(1 << 23, np.float32)),))
    handle = io.BytesIO(large)
    tracemalloc.start()
    try:
        assert check_onnx(handle, "model.onnx").n_parameters == 130 + (1 << 23)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
