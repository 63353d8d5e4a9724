"""Put one ONNX network together: the images, a backbone from a file, and a head on its features.

The result is what ``model.onnx`` of any bundle is: ``(N, Y, X, C)`` to probabilities, features and,
where the backbone makes one, the feature map. It is checked like any other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from napari_cellclf.bundles.onnx_file import OnnxPorts, look_at_onnx
from napari_cellclf.core.normalization import photograph_range
from napari_cellclf.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import BackboneSpec

#: Names of the head's weights in a bundle.
KERNEL, BIAS = "head/kernel", "head/bias"
_PREFIX = "backbone/"
#: Channels that an input may have whose place the file does not tell otherwise.
_USUAL = (1, 3)
_LEAST_FORMAT = 8


@dataclass(frozen=True)
class Layout:
    """How a backbone is fed, and what it gives, as far as its file tells."""

    size: tuple[int, int]
    n_inputs: int
    channels_last: bool
    output: str
    n_features: int


def layout_of(content: bytes, name: str, size: tuple[int, int] | None, output: str = "") -> Layout:
    """Check a file of a backbone, and find out how it is fed.

    `size`: height and width for a file that takes any. `output`: name of the one with the features;
    the first one if empty.
    """
    side = (None, None) if size is None else size
    ports = look_at_onnx(content, name, (None, 3, *side))
    taken = ports.taken
    if len(taken) == 4 and taken[1] not in _USUAL and taken[3] in _USUAL:
        ports = look_at_onnx(content, name, (None, *side, 3))
    if len(taken) != 4 or taken[0] is not None:
        raise BundleError(
            f"{name} takes arrays of shape {taken}, but a backbone takes images with an open batch "
            "in front, (None, C, Y, X); export it again with a dynamic batch"
        )
    last = taken[1] not in _USUAL and taken[3] in _USUAL
    n_inputs = (taken[3] if last else taken[1]) or 3
    stated = taken[1:3] if last else taken[2:4]
    height, width = (fixed or given for fixed, given in zip(stated, side, strict=True))
    if not height or not width:
        raise BundleError(f"{name} takes images of any size; say which size it was trained with")
    found = output or next(iter(ports.made))
    return Layout((height, width), n_inputs, last, found, _n_features(ports, found, last, name))


def _n_features(ports: OnnxPorts, output: str, channels_last: bool, name: str) -> int:
    if output not in ports.made:
        raise BundleError(
            f"{name} has no output {output!r}; give one of {', '.join(map(repr, ports.made))}"
        )
    sides = ports.made[output]
    if len(sides) not in (2, 3, 4) or sides[0] != 1:
        raise BundleError(
            f"{name} gives {output} of shape {sides} for an image, which is neither features (1, "
            "F), tokens (1, T, F) nor a map of features; name another output"
        )
    return sides[1] if len(sides) == 4 and not channels_last else sides[-1]


def put_together(
    content: bytes,
    backbone: BackboneSpec,
    channels: int,
    *,
    photographs: bool,
    head: Mapping[str, NDArray[Any]] | None = None,
) -> bytes:
    """Write the network of a bundle: its backbone with what is before and after it.

    `content`: of the backbone's file, which was checked. `photographs`: whether images are scaled
    as its authors scaled photographs. `head`: its weights; without one, the first output are the
    features.
    """
    model = onnx.ModelProto.FromString(content)
    onnx.compose.add_prefix(model, _PREFIX, inplace=True)
    graph = model.graph
    known = {tensor.name for tensor in graph.initializer}
    fed = next(one.name for one in graph.input if one.name not in known)
    given = {one.name: one for one in graph.output}[_PREFIX + backbone.output]
    rank = len(given.type.tensor_type.shape.dim)
    parts = _Parts(backbone, channels)
    nodes = [*parts.before(fed, photographs)]
    after = [*parts.after(given.name, rank, head)]
    nodes += [*graph.node, *after]
    made = helper.make_graph(
        nodes,
        "network",
        [parts.port("image", *backbone.size, channels)],
        parts.outputs,
        [*graph.initializer, *parts.constants],
    )
    # Nothing but the graph is taken over.
    opsets = [one for one in model.opset_import if one.domain in ("", "ai.onnx")]
    version = max(model.ir_version, _LEAST_FORMAT)
    whole = helper.make_model(made, opset_imports=opsets, ir_version=version)
    return bytes(whole.SerializeToString())


class _Parts:
    """Makes the nodes before and after a backbone."""

    def __init__(self, backbone: BackboneSpec, channels: int) -> None:
        self._backbone = backbone
        self._channels = channels
        self._runs = backbone.runs(channels)
        self._each = backbone.one_channel or channels != backbone.n_inputs
        self._names = map("part{}".format, itertools.count())
        self.constants: list[TensorProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def port(self, name: str, *sides: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ("batch", *sides))

    def _constant(self, value: Any, dtype: type) -> str:
        name = next(self._names)
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def before(self, fed: str, photographs: bool) -> Iterator[onnx.NodeProto]:
        """From prepared images to what the backbone takes."""
        backbone = self._backbone
        last = "image"
        if self._each and not photographs and backbone.photographs is not None:
            # As a registered network of photographs sees images of other channels.
            for kind, number in zip(
                ("Mul", "Add"), photograph_range(backbone.photographs), strict=True
            ):
                last, before = next(self._names), last
                yield helper.make_node(kind, [before, self._constant(number, np.float32)], [last])
        if self._each:
            turned, alone, copied = (next(self._names) for _ in range(3))
            yield helper.make_node("Transpose", [last], [turned], perm=(0, 3, 1, 2))
            shape = self._constant((-1, 1, *backbone.size), np.int64)
            yield helper.make_node("Reshape", [turned, shape], [alone])
            yield helper.make_node("Concat", [alone] * backbone.n_inputs, [copied], axis=1)
            to = (0, 2, 3, 1) if backbone.channels_last else None
            last = copied
        else:
            to = None if backbone.channels_last else (0, 3, 1, 2)
        if to is None:
            yield helper.make_node("Identity", [last], [fed])
        else:
            yield helper.make_node("Transpose", [last], [fed], perm=to)

    def after(
        self, given: str, rank: int, head: Mapping[str, NDArray[Any]] | None
    ) -> Iterator[onnx.NodeProto]:
        """From what the backbone gives to what is asked for."""
        pooled = given
        if rank == 3:
            pooled = next(self._names)
            first = self._constant(0, np.int64)
            yield helper.make_node("Gather", [given, first], [pooled], axis=1)
        elif rank == 4:
            pooled = next(self._names)
            yield from self._pooled(given, pooled, head is not None)
        count = self._runs * self._backbone.n_features
        shape = self._constant((-1, count), np.int64)
        yield helper.make_node("Reshape", [pooled, shape], ["features"])
        port = self.port("features", count)
        if head is None:
            self.outputs = [port]
            return
        kernel, bias = (self._constant(head[key], np.float32) for key in (KERNEL, BIAS))
        yield helper.make_node("Gemm", ["features", kernel, bias], ["logits"])
        yield helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)
        n_classes = len(head[BIAS])
        self.outputs = [self.port("probabilities", n_classes), port, *self.outputs]

    def _pooled(self, given: str, pooled: str, wanted: bool) -> Iterator[onnx.NodeProto]:
        """Average a map of features; it is an output, too, where there is one for each image."""
        found, average = "feature_map", next(self._names)
        if self._backbone.channels_last:
            yield helper.make_node("Transpose", [given], [found], perm=(0, 3, 1, 2))
        else:
            yield helper.make_node("Identity", [given], [found])
        yield helper.make_node("GlobalAveragePool", [found], [average])
        yield helper.make_node("Flatten", [average], [pooled], axis=1)
        if wanted and self._runs == 1:
            sides = (self._backbone.n_features, None, None)
            self.outputs = [
                helper.make_tensor_value_info(found, TensorProto.FLOAT, ("batch", *sides))
            ]


def head_weights(kernel: NDArray[Any], bias: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Name the weights of a head as a bundle keeps them, shapes (F, K) and (K,)."""
    return {KERNEL: np.asarray(kernel, np.float32), BIAS: np.asarray(bias, np.float32)}


def check_head(
    head: Mapping[str, NDArray[Any]], backbone: BackboneSpec, channels: int, n_classes: int
) -> None:
    """Refuse a head that does not fit its backbone, or the classes."""
    count = backbone.runs(channels) * backbone.n_features
    wanted: dict[str, Sequence[int]] = {KERNEL: (count, n_classes), BIAS: (n_classes,)}
    found = {key: array.shape for key, array in head.items()}
    if found != wanted or math.prod(wanted[KERNEL]) == 0:
        raise BundleError(
            f"the head holds {found}, but on {backbone.name} it needs {wanted}; write the bundle "
            "again"
        )
