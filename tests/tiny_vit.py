"""A small attention network with random weights, written as PyTorch's exporter writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH, PATCH, SIDE = 24, 8, 32
TOKENS = (SIDE // PATCH) ** 2 + 1


def tiny_vit(n_inputs: int = 3, *, output: str = "tokens", seed: int = 0) -> bytes:
    """Return the bytes of an ONNX file: ``(N, C, 32, 32)`` to 17 tokens of 24 numbers."""
    random = np.random.default_rng(seed)
    constants: dict[str, np.ndarray[Any, Any]] = {
        "patches": random.normal(0, 0.1, (WIDTH, n_inputs, PATCH, PATCH)),
        "class": random.normal(0, 1, (1, 1, WIDTH)),
        "places": random.normal(0, 0.5, (1, TOKENS, WIDTH)),
        "scale": np.ones(WIDTH),
        "bias": np.zeros(WIDTH),
        "root": np.array(WIDTH**0.5),
        "half": np.array(0.5),
        "one": np.array(1.0),
        "two": np.array(2**0.5),
        "qkv": random.normal(0, 0.3, (WIDTH, 3 * WIDTH)),
        "up": random.normal(0, 0.3, (WIDTH, 2 * WIDTH)),
        "down": random.normal(0, 0.3, (2 * WIDTH, WIDTH)),
    }
    tensors = [numpy_helper.from_array(value.astype(np.float32), name)
               for name, value in constants.items()]  # fmt: skip
    tensors += [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in {
            "flat": (WIDTH, -1),
            "rest": (1, WIDTH),
            "zero": (0,),
            "ends": (1,),
        }.items()
    ]
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "patches"], ["map"], kernel_shape=[PATCH] * 2, strides=[PATCH] * 2),
        # The batch is open: sizes are put together, as exporters do.
        node("Shape", ["map"], ["shape"]),
        node("Slice", ["shape", "zero", "ends"], ["batch"]),
        node("Concat", ["batch", "flat"], ["to"], axis=0),
        node("Reshape", ["map", "to"], ["columns"]),
        node("Transpose", ["columns"], ["tokens0"], perm=[0, 2, 1]),
        node("Concat", ["batch", "rest"], ["wide"], axis=0),
        node("Expand", ["class", "wide"], ["first"]),
        node("Concat", ["first", "tokens0"], ["joined"], axis=1),
        node("Add", ["joined", "places"], ["placed"]),
        node("LayerNormalization", ["placed", "scale", "bias"], ["even"], axis=-1),
        node("MatMul", ["even", "qkv"], ["threefold"]),
        node("Split", ["threefold"], ["query", "key", "value"], axis=2),
        node("Transpose", ["key"], ["turned"], perm=[0, 2, 1]),
        node("MatMul", ["query", "turned"], ["likeness"]),
        node("Div", ["likeness", "root"], ["evened"]),
        node("Softmax", ["evened"], ["attention"], axis=-1),
        node("MatMul", ["attention", "value"], ["seen"]),
        node("Add", ["seen", "placed"], ["kept"]),
        node("LayerNormalization", ["kept", "scale", "bias"], ["again"], axis=-1),
        node("MatMul", ["again", "up"], ["wider"]),
        node("Div", ["wider", "two"], ["scaled"]),
        node("Erf", ["scaled"], ["erf"]),
        node("Add", ["erf", "one"], ["above"]),
        node("Mul", ["wider", "above"], ["twice"]),
        node("Mul", ["twice", "half"], ["gelu"]),
        node("MatMul", ["gelu", "down"], ["narrow"]),
        node("Add", ["narrow", "kept"], [output]),
    ]
    image = helper.make_tensor_value_info(
        "image", TensorProto.FLOAT, ["batch", n_inputs, SIDE, SIDE]
    )
    made = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", TOKENS, WIDTH])
    graph = helper.make_graph(nodes, "vit", [image], [made], tensors)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(whole)
    return bytes(whole.SerializeToString())
