"""ONNX files: standard operators on whole tensors, and nothing that leads elsewhere."""

from __future__ import annotations

import math
import tracemalloc
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
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
    number,
    port,
    tensor,
    text_attribute,
    varint,
    whole,
    whole_file,
)

from napari_cellclf.bundles.onnx_file import MAX_FIELDS, MAX_NODES, OPERATORS, OPSETS, check_onnx
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError

WHOLE = whole_file()


def _check(content: bytes, **ports: object) -> None:
    check_onnx(content, "model.onnx", **ports)


def test_a_plain_network_passes() -> None:
    _check(WHOLE, inputs=(None, 8, 8, 1), n_classes=2)
    _check(WHOLE)


def test_it_is_what_onnx_itself_reads() -> None:
    onnx.checker.check_model(onnx.load_from_string(WHOLE), full_check=True)


def _one(*nodes: bytes, tensors: tuple[bytes, ...] = (), **parts: object) -> bytes:
    """Put nodes in front of the plain network, on its image."""
    return model(graph(*nodes, *NODES, tensors=(*TENSORS, *tensors), **parts))


def _constant(name: str, *values: int) -> bytes:
    return tensor(name, np.array(values, np.int64))


def _elsewhere(path: str) -> bytes:
    return message(13, message(1, "location"), message(2, path))


def _nested(depth: int) -> bytes:
    inside = graph(node("If", ["image"], "x", _nested(depth - 1))) if depth else b""
    return message(1, "then_branch") + message(6, inside)


def _kernel(*sides: int) -> bytes:
    return tensor("k", np.zeros(sides, np.float32))


def _chain(
    length: int, operator: str, *more: str, start: str = "image", twice: bool = False, **given: Any
) -> list[bytes]:
    """Call an operator on its own result again and again."""
    attributes = [
        text_attribute(name, value) if isinstance(value, str) else ints(name, *value)
        for name, value in given.items()
    ]
    names = [start, *(f"x{i}" for i in range(1, length + 1))]
    return [
        node(operator, [before] * (1 + twice) + list(more), after, *attributes)
        for before, after in pairwise(names)
    ]


HOSTILE: dict[str, tuple[bytes, str]] = {
    "external-data": (
        _one(tensors=(tensor("x", np.ones(2, np.float32), _elsewhere("/etc/passwd")),)),
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
        _one(tensors=(whole(1, 1 << 20) * 2 + whole(2, 1) + message(8, "x")
                      + message(9, bytes(8)),)),
        "with 2 numbers",
    ),
    "tensor-without-data": (
        _one(tensors=(whole(1, 1 << 20) * 2 + whole(2, 1) + message(8, "x"),)), "with 0 numbers",
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
        _one(node("Constant", [], "x", message(1, "a") + message(22, b""))), "sparse tensors",
    ),
    "attribute-of-a-function": (
        _one(node("Relu", ["image"], "x", message(1, "a") + message(21, "outer"))),
        "ref_attr_name",
    ),
    "large-attribute": (
        _one(node("MaxPool", ["image"], "x", ints("kernel_shape", 1 << 40))), "limit 16384",
    ),
    "resize": (
        _one(node("Resize", ["image", "", "s"], "x"),
             tensors=(tensor("s", np.array([1, 1e4, 1e4, 1], np.float32)),)),
        "makes 6.4e[+]09 numbers of one image by Resize",
    ),
    "resize-again-and-again": (
        _one(*_chain(14, "Resize", "", "s"),
             tensors=(tensor("s", np.array([1, 2, 2, 1], np.float32)),)),
        "numbers of one image by Resize",
    ),
    "resize-to": (
        _one(node("Resize", ["image", "", "", "s"], "x"),
             tensors=(_constant("s", 1, 1, 99999, 99999),)),
        "makes 9.9998e[+]09",
    ),
    "resize-by-the-image": (_one(node("Resize", ["image", "", "image"], "x")), "cannot be told"),
    "expand": (
        _one(node("Expand", ["image", "s"], "x"), tensors=(_constant("s", 1 << 30),)), "Expand;",
    ),
    "expand-by-the-image": (_one(node("Expand", ["image", "image"], "x")), "must be 1D"),
    "tile": (
        _one(node("Tile", ["image", "s"], "x"), tensors=(_constant("s", 1 << 20, 8, 8, 8),)),
        "by Tile",
    ),
    "pad": (
        _one(node("Pad", ["image", "s"], "x"), tensors=(_constant("s", *[0, 0, 1 << 30, 0] * 2),)),
        "by Pad",
    ),
    "pads-of-a-convolution": (
        _one(*_chain(9, "MaxPool", kernel_shape=(1, 1), pads=(9000, 900, 9000, 900))),
        "by MaxPool",
    ),
    "strides": (
        _one(*_chain(4, "ConvTranspose", "k", strides=(64, 64)), tensors=(_kernel(8, 8, 1, 1),)),
        "by ConvTranspose",
    ),
    "dilations": (
        _one(*_chain(2, "ConvTranspose", "k", dilations=(16384, 16384)),
             tensors=(_kernel(8, 8, 2, 2),)),
        "by ConvTranspose",
    ),
    "output-shape": (
        _one(*_chain(1, "ConvTranspose", "k", output_shape=(16384, 16384)),
             tensors=(_kernel(8, 8, 1, 1),)),
        "by ConvTranspose",
    ),
    "joined-with-itself-again-and-again": (
        _one(*(node("Concat", [f"x{i}" if i else "image"] * 2, f"x{i + 1}", number("axis", 1))
               for i in range(60))),
        "by Concat",
    ),
    "each-with-each": (
        _one(node("Reshape", ["big", "row"], "r"), node("Reshape", ["big", "column"], "c"),
             node("Mul", ["r", "c"], "x"),
             tensors=(tensor("big", np.ones(1 << 15, np.float32)), _constant("row", 1, -1),
                      _constant("column", -1, 1))),
        "by Mul",
    ),
    "each-with-each-in-a-matrix": (
        _one(node("Reshape", ["big", "row"], "r"), node("Reshape", ["big", "column"], "c"),
             node("MatMul", ["c", "r"], "x"),
             tensors=(tensor("big", np.ones(1 << 15, np.float32)), _constant("row", 1, -1),
                      _constant("column", -1, 1))),
        "by MatMul",
    ),
    "shaped-by-the-image": (
        _one(node("Reshape", ["image", "image"], "r"), *_chain(8, "MatMul", start="r", twice=True)),
        "must be 1D",
    ),
    "chosen-again-and-again": (
        _one(*(node("Gather", [f"x{i}" if i else "image", "s"], f"x{i + 1}") for i in range(4)),
             tensors=(tensor("s", np.zeros((64, 64), np.int64)),)),
        "by Gather",
    ),
    "more-and-more-axes": (
        _one(*_chain(99, "Gather", "s"), tensors=(tensor("s", np.zeros((1, 1), np.int64)),)),
        "of 17 axes",
    ),
    "beyond-all-numbers": (
        _one(*_chain(40, "Mul", start="s", twice=True), node("Tile", ["image", "x40"], "x"),
             tensors=(_constant("s", 9, 9, 9, 9),)),
        "cannot be told",
    ),
    "wound-round": (
        _one(node("Cast", ["s"], "u", message(1, "to") + whole(3, 2) + whole(20, 2)),
             *_chain(1, "Mul", start="u", twice=True), node("Tile", ["image", "x1"], "x"),
             tensors=(_constant("s", -1, -1, -1, -1),)),
        "unsupported type",
    ),
    "wound-round-and-back": (
        _one(*(node("Cast", [a], b, number("to", to))
               for a, b, to in (("s", "u", 12), ("u", "v", 7))),
             node("Add", ["v", "two"], "w"), node("Tile", ["image", "w"], "x"),
             tensors=(_constant("s", -1, -1, -1, -1), _constant("two", 2, 2, 2, 2))),
        "by Tile",
    ),
    "by-fractions": (
        _one(node("Div", ["s", "t"], "a"), node("Tile", ["image", "a"], "x"),
             tensors=(_constant("s", 1, 1, 1, 1), tensor("t", np.full(4, 1e-9, np.float32)))),
        "inconsistent type",
    ),
    "texts-that-are-a-constant": (
        _one(node("Constant", [], "x", message(1, "value_strings") + message(9, "1") * 9)),
        "texts instead of numbers",
    ),
    "many-numbers-in-an-attribute": (
        _one(node("Constant", [], "s", message(1, "value_floats") + message(7, bytes(1 << 18))),
             node("Reshape", ["s", "column"], "c"), node("Mul", ["s", "c"], "x"),
             tensors=(_constant("column", -1, 1),)),
        "not one tensor",
    ),
    "times-less-than-nothing": (
        _one(node("Tile", ["image", "s"], "x"), tensors=(_constant("s", 1, -9, 1, 1),)),
        "negative values",
    ),
    "nothing-of-this-size": (
        _one(node("Slice", ["image", "s", "e"], "x"),
             tensors=(_constant("s", 0, 9), _constant("e", 1, 99))),
        "makes nothing by Slice",
    ),
    "many-filters": (
        _one(*_chain(1, "Conv", "k", pads=(99, 99, 99, 99)), tensors=(_kernel(1 << 16, 8, 1, 1),)),
        "by Conv;",
    ),
    "many-multiplications": (
        _one(*_chain(40, "Conv", "k", auto_pad="SAME_UPPER"),
             tensors=(_kernel(1 << 10, 1 << 10, 9, 9),),
             inputs=[port("image", 1, 1 << 10, 256, 256)]),
        "multiplications",
    ),
    "cycle": (
        _one(node("Relu", ["b"], "a"), node("Relu", ["a"], "b")), "'b' before it is computed",
    ),
    "computed-twice": (_one(node("Relu", ["image"], "flat")), "computes it twice"),
    "overwrites-a-constant": (_one(node("Relu", ["image"], "bias")), "computes it twice"),
    "two-constants": (_one(tensors=(TENSORS[1],)), "two tensors of the name"),
    "two-inputs": (_one(inputs=[port("image", 1), port("more", 1)]), "2 inputs"),
    "two-outputs": (_one(outputs=[port("answer", 1), port("flat", 1)]), "2 outputs"),
    "sparse-initializer": (_one(more=message(15, b"")), "sparse tensors"),
    "quantisation": (_one(more=message(14, b"")), "quantised tensors"),
    "input-of-texts": (_one(inputs=[port("image", 1, kind=8)]), "other numbers"),
    "input-without-shape": (
        _one(inputs=[message(1, "image") + message(2, message(1, whole(1, 1)))]), "what shape",
    ),
    "input-without-type": (_one(inputs=[message(1, "image")]), "one plain tensor"),
    "input-is-a-sequence": (
        _one(inputs=[message(1, "image") + message(2, message(4, b""))]), "sequence_type",
    ),
    "training": (model(graph(*NODES, tensors=TENSORS), message(20, b"")), "training steps"),
    "functions": (model(graph(*NODES, tensors=TENSORS), message(25, b"")), "functions of its own"),
    "opset-of-tomorrow": (model(graph(*NODES, tensors=TENSORS), opset=99), "version 99"),
    "format-of-tomorrow": (model(graph(*NODES, tensors=TENSORS), ir=99), "format 99"),
    "many-nodes": (model(message(1) * (MAX_NODES + 1)), f"over {MAX_NODES} nodes"),
    "many-fields": (_one(more=whole(2, 0) * MAX_FIELDS), f"over {MAX_FIELDS} fields"),
    "external-above": (
        _one(tensors=(tensor("x", np.ones(2, np.float32), _elsewhere("../../secret")),)),
        "another file",
    ),
    "data-twice": (
        _one(tensors=(whole(1, 1 << 10) + whole(2, 1) + message(8, "x")
                      + message(9, bytes(1 << 11)) * 2,)),
        "data of a tensor twice",
    ),
    "data-in-two-forms": (
        _one(tensors=(tensor("x", np.ones(2, np.float32), message(4, bytes(8))),)),
        "with 4 numbers",
    ),
    "data-in-two-forms-one-large": (
        _one(tensors=(tensor("x", np.ones(1 << 12, np.float32), message(9, bytes(8))),)),
        "with 4098 numbers",
    ),
    "sides-that-wrap-to-nothing": (
        _one(tensors=(whole(1, 1 << 62) + whole(1, 4) + whole(2, 1) + message(8, "x"),)),
        "no plain array",
    ),
    "nothing-of-a-huge-side": (
        _one(tensors=(whole(1, 0) + whole(1, 1 << 62) + whole(2, 1) + message(8, "x"),)),
        "no plain array",
    ),
    "many-sides": (
        _one(tensors=(whole(1, 1) * 9 + whole(2, 1) + message(8, "x") + message(9, bytes(4)),)),
        "no plain array",
    ),
    "complex-numbers": (
        _one(tensors=(whole(1, 1) + whole(2, 14) + message(8, "x") + message(9, bytes(8)),)),
        "no plain array",
    ),
    "float-of-eight-bits": (
        _one(tensors=(whole(1, 1) + whole(2, 17) + message(8, "x") + message(9, bytes(1)),)),
        "no plain array",
    ),
    "split-into-other-numbers": (
        _one(node("Split", ["image"], "x", number("num_outputs", 2)) + message(2, "y") * 3),
        "operator Split with parts that are not those",
    ),
    "cast-to-nothing": (_one(node("Cast", ["image"], "x", number("to", 0))), "cannot be computed"),
    "cast-to-texts": (_one(node("Cast", ["image"], "x", number("to", 8))), "else than plain"),
    "constant-of-shape": (
        _one(node("ConstantOfShape", ["s"], "x"), tensors=(_constant("s", 1 << 20, 1 << 20),)),
        "ConstantOfShape",
    ),
    "range": (
        _one(node("Range", ["a", "b", "c"], "x"),
             tensors=(_constant("a", 0), _constant("b", 1 << 50), _constant("c", 1))),
        "'Range'",
    ),
    "quantised-convolution": (_one(node("QLinearConv", ["image"] * 8, "x")), "QLinearConv"),
    "if-with-both-branches": (
        _one(node("If", ["image"], "x", message(1, "then_branch") + message(6, graph(*NODES)),
                  message(1, "else_branch") + message(6, graph(*NODES)))),
        "a graph inside a node",
    ),
    "graphs-inside-each-other": (_one(node("If", ["image"], "x", _nested(30))), "a graph"),
    "function-that-calls-itself": (
        model(graph(node("F", ["image"], "answer") + message(7, "own")),
              message(25, message(1, "F"), message(4, "a"), message(5, "b"), message(10, "own"),
                      message(7, node("F", ["a"], "b") + message(7, "own")))),
        "functions of its own",
    ),
    "overload": (_one(node("Relu", ["image"], "x") + message(8, "mine")), "'overload'"),
    "two-versions": (
        model(graph(*NODES, tensors=TENSORS), message(8, message(1, ""), whole(2, 7))), "version 7",
    ),
    "metadata": (
        model(graph(*NODES, tensors=TENSORS), message(14, message(1, "ort_config"))), "metadata",
    ),
    "field-of-tomorrow": (model(graph(*NODES, tensors=TENSORS), message(99, "x")), "not known"),
    "field-of-another-kind": (_one(more=whole(1, 5)), "not known here"),
    "axes-that-double": (
        _one(*_chain(40, "Gather", start="s", twice=True),
             tensors=(tensor("s", np.zeros((1, 1), np.int64)),)),
        "axes",
    ),
    "lists-that-double": (
        _one(node("Shape", ["image"], "x0"),
             *(node("Concat", [f"x{i}"] * 2, f"x{i + 1}", number("axis", 0)) for i in range(60))),
        "by Concat",
    ),
    "repeats-that-wrap": (
        _one(node("Tile", ["image", "s"], "x"),
             tensors=(_constant("s", 1, (1 << 61) + 1, 1, 1),)),
        "cannot be told",
    ),
    "no-groups": (
        _one(node("Conv", ["image", "k"], "x", number("group", 0)), tensors=(_kernel(4, 8, 1, 1),)),
        "'group' of 0",
    ),
    "huge-image": (
        _one(inputs=[port("image", 1, 1 << 40, 1 << 40, 1)]), "takes 1.2",
    ),
    "large-structure": (
        _one(node("Relu", ["image"], "x", *[b""] * (1 << 20))), "bytes besides its weights",
    ),
    "many-attributes": (_one(node("Relu", ["image"], "x", *[b""] * 900_000)), "fields"),
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


def test_two_megabytes_besides_weights_are_parsed() -> None:
    def named(n_bytes: int) -> bytes:
        return model(graph(*NODES, tensors=TENSORS), message(6, "x" * n_bytes))

    _check(named((2 << 20) - 4096))
    with pytest.raises(UnsafeModelError, match="over 2097152 bytes besides its weights"):
        _check(named(2 << 20))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>not found</html>",
        WHOLE[:-1],
        WHOLE.replace(b"flat", b"fl\xff\xfe"),
        WHOLE.replace(b"by hand", b"by h\xff\xfed"),
        _one(tensors=(tensor("x", np.ones(2, np.float32), message(13, "/etc/passwd")),)),
        model(graph(*NODES, tensors=TENSORS)[:-9]),
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


#: Features of 64 numbers and a map of the image itself.
_EXTRAS = (
    node("Flatten", ["image"], "features"),
    node("Relu", ["image"], "feature_map"),
)
_ANSWER = port("answer", "n", 2)
_FEATURES = port("features", "n", 64)
_MAP = port("feature_map", "n", "h", "w", 1)


@pytest.mark.parametrize("more", [(), (_FEATURES,), (_MAP,), (_FEATURES, _MAP)])
def test_features_and_their_map_may_follow_the_probabilities(more: tuple[bytes, ...]) -> None:
    content = _one(*_EXTRAS, outputs=[_ANSWER, *more])
    _check(content, inputs=(None, 8, 8, 1), n_classes=2)


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        ([_ANSWER, _MAP, _FEATURES], "3 outputs, of which those after the first are not features"),
        ([_ANSWER, _FEATURES, _FEATURES], "3 outputs"),
        ([_ANSWER, _FEATURES, _MAP, port("flat", "n", 64)], "4 outputs"),
        ([_ANSWER, port("logits", "n", 2)], "2 outputs"),
        ([_FEATURES, _ANSWER], "2 outputs"),
        ([], "0 outputs"),
        ([_ANSWER, port("features", "n", 64, kind=10)], "other numbers than float32"),
        ([_ANSWER, message(1, "features")], "one plain tensor"),
        ([_ANSWER, port("features", "n", 63)], "gives features of shape"),
        ([_ANSWER, port("features", "n", 8, 8, 1)], "gives features of shape"),
        ([_ANSWER, port("features", 1, 64)], "the first of open size"),
        ([_ANSWER, port("feature_map", "n", 64)], "should have 4 axes"),
    ],
)
def test_other_outputs_are_refused(outputs: list[bytes], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        _check(_one(*_EXTRAS, outputs=outputs), n_classes=2)


def test_extras_of_other_ranks_are_refused() -> None:
    for made, stated, told in (
        (node("Relu", ["image"], "features"), port("features", "n", 8, 8, 1), "2 axes"),
        (node("Flatten", ["image"], "feature_map"), port("feature_map", "n", 64), "4 axes"),
    ):
        with pytest.raises(BundleError, match=told):
            _check(_one(made, outputs=[_ANSWER, stated]))
    # It is not computed at all.
    with pytest.raises(BundleError, match="not a complete ONNX file"):
        _check(_one(outputs=[_ANSWER, _FEATURES]))


def test_open_sizes_take_any() -> None:
    mean = node("ReduceMean", ["image"], "mean", ints("axes", 1, 2), number("keepdims", 0))
    ends = (node("Gemm", ["mean", "k"], "logits"), node("Softmax", ["logits"], "answer"))
    image = port("image", "n", "y", "x", 1)
    content = model(graph(mean, *ends, tensors=(_kernel(1, 2),), inputs=[image]), opset=13)
    _check(content, n_classes=2)
    _check(content, inputs=(None, 300, None, 1))


def test_sizes_that_are_put_together_are_followed() -> None:
    shaped = (
        node("Shape", ["image"], "all", number("start", 0), number("end", 2)),
        node("Concat", ["all", "s"], "size", number("axis", 0)),
        node("Resize", ["image", "", "", "size"], "x", float_attribute("cubic_coeff_a", -0.5)),
    )
    _check(_one(*shaped, tensors=(_constant("s", 20, 20),)))
    with pytest.raises(UnsafeModelError, match="Resize"):
        _check(_one(*shaped, tensors=(_constant("s", 20_000, 20_000),)))


def test_what_will_be_fed_counts_where_a_size_is_open() -> None:
    content = model(
        graph(*_chain(1, "Conv", "k"), node("GlobalAveragePool", ["x1"], "pooled"),
              node("Flatten", ["pooled"], "flat"), *NODES[1:],
              tensors=(*TENSORS, _kernel(64, 1, 1, 1)),
              inputs=[port("image", "n", 1, "y", "x")])
    )  # fmt: skip
    _check(content, inputs=(None, 1, 1000, 1000))
    with pytest.raises(UnsafeModelError, match="by Conv"):
        _check(content, inputs=(None, 1, 2000, 2000))


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
        _check(bytes(content[:cut]))
    except ModelError:
        return
    tensors = onnx.load_from_string(bytes(content[:cut])).graph.initializer
    assert sum(math.prod(tensor.dims) for tensor in tensors) * 4 <= len(WHOLE)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_told(content: bytes) -> None:
    with pytest.raises(ModelError):
        _check(content)


def test_bent_files_of_other_writers() -> None:
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
    _check(content, inputs=(None, None, None, 2), n_classes=3)
    for length in range(len(content)):
        with pytest.raises(ModelError):
            _check(content[:length])


def test_tensors_are_not_copied() -> None:
    large = _one(tensors=(tensor("large", np.zeros(1 << 23, np.float32)),))
    tracemalloc.start()
    try:
        _check(large)
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("operator", sorted(OPERATORS))
def test_nodes_that_are_not_as_their_operator_wants_them_are_told(operator: str) -> None:
    schema = onnx.defs.get_schema(operator, OPSETS[-1], "")
    texts = [text_attribute(name, "text") for name in schema.attributes]
    lists = [ints(name, *[1] * 9) for name in schema.attributes]
    for inputs in ([], ["image"], ["", "image"], ["bias"], ["image", "bias", "", "bias"]):
        for how in ((), texts, lists, texts[:1] * 2):
            spoiled = graph(
                node(operator, inputs, "flat", *how),
                *NODES[1:],
                tensors=(*TENSORS, tensor("axes", np.array([1, -1]))),
            )
            with suppress(BundleError, UnsafeModelError):
                _check(model(spoiled, opset=OPSETS[-1]))
