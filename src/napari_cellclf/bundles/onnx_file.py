"""Check an ONNX file before an engine loads it: standard operators on whole tensors, nothing else.

The data of large constants are left out before the `onnx` package parses the rest, so that a file
of any size takes little memory. Then the size of every result is inferred node by node: each is
checked before the next can be made larger by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import onnx
from google.protobuf.message import DecodeError, Message
from onnx.checker import ValidationError
from onnx.defs import SchemaError, get_schema
from onnx.helper import make_tensor, make_tensor_type_proto
from onnx.shape_inference import InferenceError, infer_node_outputs

from napari_cellclf.bundles.allowed_layers import words
from napari_cellclf.bundles.schema import (
    EXTRAS,
    MAX_ALL_NUMBERS,
    MAX_NUMBERS,
    MAX_OPERATIONS,
    OPEN_SIDE,
)
from napari_cellclf.errors import BundleError, UnsafeModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Side = int | None

MAX_NODES = 6_000
#: Fields that are looked at in one file: a bound of the time it takes.
MAX_FIELDS = 80_000
#: Bytes of a file without the data of its large constants.
MAX_STRUCTURE = 1 << 21
#: Axes of a result, and of a constant.
MAX_RANK, MAX_DIMENSIONS = 16, 8
#: The largest number that an attribute may be.
MAX_ATTRIBUTE = 1 << 14
#: Versions of the operators that the list below was made for, and of the format.
OPSETS = range(7, onnx.defs.onnx_opset_version() + 1)
IR_VERSIONS = range(3, onnx.IR_VERSION + 1)

#: Operators that a classifier of images is made of. None of them holds another graph, draws random
#: numbers, or makes a tensor whose size depends on what is in the image.
OPERATORS = words(
    "Abs Add AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant ConstantOfShape "
    "Conv ConvTranspose DepthToSpace Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather "
    "Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual "
    "HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu "
    "Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mul Neg "
    "PRelu Pad Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Reshape Resize Selu Shape Shrink Sigmoid Slice Softmax Softplus "
    "Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile Transpose "
    "Unsqueeze Where"
)

#: Every field that may stand in a message, by the message's type.
_FIELDS: Mapping[str, frozenset[str]] = {
    "ModelProto": words(
        "ir_version producer_name producer_version domain model_version doc_string graph "
        "opset_import"
    ),
    "OperatorSetIdProto": words("domain version"),
    "GraphProto": words("node name initializer doc_string input output value_info metadata_props"),
    "NodeProto": words("input output name op_type domain attribute doc_string metadata_props"),
    "AttributeProto": words("name type doc_string f i s t floats ints"),
    "TensorProto": words(
        "dims data_type name doc_string data_location raw_data float_data int32_data int64_data "
        "double_data uint64_data metadata_props"
    ),
    "ValueInfoProto": words("name type doc_string metadata_props"),
    "TypeProto": words("tensor_type"),
    "Tensor": words("elem_type shape"),
    "TensorShapeProto": words("dim"),
    "Dimension": words("dim_value dim_param"),
}
#: Numbers, and texts that exporters write everywhere and nobody computes with.
_NOT_LOOKED_AT = ("doc_string", "metadata_props", "raw_data")
#: What the others are, for messages.
_REFUSED = {
    "external_data": "a tensor in another file",
    "functions": "functions of its own",
    "g": "a graph inside a node",
    "graphs": "a graph inside a node",
    "quantization_annotation": "quantised tensors",
    "segment": "a tensor in pieces",
    "sparse_initializer": "sparse tensors",
    "sparse_tensor": "sparse tensors",
    "string_data": "texts instead of numbers",
    "strings": "texts instead of numbers",
    "training_info": "training steps",
}
#: Axes of the outputs after the first, by their names.
_RANKS = {"features": 2, "feature_map": 4}
_MAX_TEXT = 1 << 10
_MAX_LIST = 1 << 10

#: numpy's names of the types of numbers; complex, packed and 8-bit ones are left out.
_TYPES = {
    1: "<f4", 2: "u1", 3: "i1", 4: "<u2", 5: "<i2", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2",
    11: "<f8", 12: "<u4", 13: "<u8",
}  # fmt: skip
_FLOAT, _INT32, _INT64, _BOOL = 1, 6, 7, 9
#: What `onnx` raises of a node that does not fit its inputs; the last four come from C++.
_REFUSALS = (
    *(InferenceError, ValidationError, SchemaError),
    *(IndexError, OverflowError, RuntimeError, ValueError),
)
_LISTS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")
#: Constants of up to this many numbers may say how large a result is.
_FEW = 64
#: Bytes of data that are kept for parsing.
_SMALL = 1 << 10
#: Beyond this, sizes could wrap around where an engine computes them; `Slice` clips to the image.
_LARGEST = (1 << 31) - 1


def check_onnx(
    content: bytes,
    name: str,
    *,
    inputs: Sequence[Side] | None = None,
    n_classes: int | None = None,
    assumed: Sequence[Side] | None = None,
) -> None:
    """Check an ONNX file statically.

    Its first output are probabilities; after it may come `EXTRAS`, under these names.

    Parameters
    ----------
    content : bytes
        The file. Give these same bytes to the engine, so that it loads what was checked.
    name : str
        What to call it in messages.
    inputs : sequence of (int or None), optional
        The shape that will be fed, with the batch in front; None where the size is open.
    n_classes : int, optional
        How many probabilities are expected for each image.
    assumed : sequence of (int or None), optional
        The shape of an image that it is weighed by, where `inputs` leaves sides open.

    Raises
    ------
    BundleError
        If it is not complete, or its input or output is another.
    UnsafeModelError
        If it holds anything but standard operators on tensors in the file, or takes too much memory
        or time to compute.
    """
    try:
        _Check(name).model(content, inputs, n_classes, assumed or inputs or ())
    except (DecodeError, UnicodeDecodeError) as error:
        raise _incomplete(name) from error


@dataclass(frozen=True)
class OnnxPorts:
    """What an ONNX network takes and makes, as it was found."""

    #: Of the input, with the batch in front; None where a side is open.
    taken: tuple[Side, ...]
    #: Of each output, for the images that were assumed.
    made: dict[str, tuple[int, ...]]


def look_at_onnx(content: bytes, name: str, assumed: Sequence[Side] = ()) -> OnnxPorts:
    """Check an ONNX file as `check_onnx` does, whatever it makes of an image.

    Its graph alone is checked, and may be used: ONNX Runtime can take settings from the texts that
    stand beside it.

    `assumed`: sides of the input, with the batch in front, where the file leaves them open.
    """
    check = _Check(name)
    try:
        graph = check.opened(content, texts_beside=True)
        check.ports(graph, None)
        fed = check.compute(graph, assumed)
        made = {port.name: check.output(port)[0] for port in graph.output}
    except (DecodeError, UnicodeDecodeError) as error:
        raise _incomplete(name) from error
    return OnnxPorts(_declared(fed), made)


def _incomplete(name: str) -> BundleError:
    return BundleError(f"{name} is not a complete ONNX file (truncated download?); get it again")


@dataclass(frozen=True)
class _Tensor:
    """What is known of a tensor before anything is computed."""

    kind: int
    sides: tuple[int, ...]
    #: Its numbers, of small constants.
    data: onnx.TensorProto | None = None
    #: The same, if they are whole.
    whole: list[int] | None = None

    @property
    def count(self) -> int:
        return math.prod(self.sides)


class _Check:
    """Checks one file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.n_fields = 0
        self.opset = 0
        self.ir_version = 0
        self.known: dict[str, _Tensor] = {}
        self.numbers = 0
        self.operations = 0

    def refuse(self, what: str) -> NoReturn:
        raise UnsafeModelError(f"{self.name} {what}")

    def model(
        self,
        content: bytes,
        inputs: Sequence[Side] | None,
        n_classes: int | None,
        assumed: Sequence[Side],
    ) -> None:
        graph = self.opened(content)
        self.extra_names(graph)
        self.ports(graph, inputs)
        self.compute(graph, assumed)
        self.result(graph.output[0], n_classes)
        for port in graph.output[1:]:
            self.extra(port)

    def opened(self, content: bytes, *, texts_beside: bool = False) -> Any:
        """Parse a file without its large constants, and check what stands in it; the graph."""
        thin = _Thin(self.refuse)
        parsed = onnx.ModelProto.FromString(thin.copy(memoryview(content), _TO_DATA))
        if texts_beside:
            parsed.ClearField("metadata_props")
        self.fields(parsed)
        self.versions(parsed)
        graph = parsed.graph
        if not graph.node or not self.opset:
            raise DecodeError
        for tensor, left_out in zip(graph.initializer, thin.left_out, strict=True):
            self.add(tensor.name, self.constant(tensor, left_out))
        return graph

    def compute(self, graph: onnx.GraphProto, inputs: Sequence[Side]) -> onnx.ValueInfoProto:
        """Follow the sizes of everything that is computed of one image; return the input."""
        fed = self.fed(graph)
        self.add(fed.name, _Tensor(_FLOAT, _fed_sides(fed, inputs)))
        if self.known[fed.name].count > MAX_NUMBERS:
            self.refuse(f"takes {self.known[fed.name].count:g} numbers; limit {MAX_NUMBERS}")
        for node in graph.node:
            self.node(node)
        return fed

    def fields(self, parsed: onnx.ModelProto) -> None:
        """Let nothing pass that is not known here: an engine may know what to do with it."""
        size = parsed.ByteSize()
        parsed.DiscardUnknownFields()
        if parsed.ByteSize() != size:
            self.refuse("holds fields that are not known here; save it with an older ONNX")
        if len(parsed.graph.node) > MAX_NODES:
            self.refuse(f"has over {MAX_NODES} nodes")
        self.message(parsed)

    def message(self, message: Message) -> None:
        kind = message.DESCRIPTOR.name
        for field, value in message.ListFields():
            if field.name not in _FIELDS[kind]:
                what = _REFUSED.get(field.name, f"{field.name!r}")
                self.refuse(f"holds {what}; only plain networks with their weights can be loaded")
            plain = isinstance(value, int | float | str | bytes | Message)
            values = (value,) if plain else value
            if field.name == "ints" and len(values) > _MAX_LIST:
                self.refuse("holds a list of numbers that is longer than such lists are")
            if isinstance(values[0], int | float) or field.name in _NOT_LOOKED_AT:
                continue
            self.n_fields += len(values)
            if self.n_fields > MAX_FIELDS:
                self.refuse(f"holds over {MAX_FIELDS} fields; only smaller networks can be loaded")
            for one in values:
                if isinstance(one, Message):
                    self.message(one)
                elif isinstance(one, bytes) and field.type == field.TYPE_STRING:
                    # What is not UTF-8 comes as it is.
                    raise DecodeError
                elif len(one) > _MAX_TEXT:
                    self.refuse("holds a name that is longer than names are")

    def versions(self, parsed: onnx.ModelProto) -> None:
        self.ir_version = parsed.ir_version
        if self.ir_version not in IR_VERSIONS:
            self.refuse(f"is of ONNX format {self.ir_version}, which is not known here")
        # Exporters also name sets that no node is of; the nodes are looked at one by one.
        found = [one.version for one in parsed.opset_import if one.domain in ("", "ai.onnx")]
        if len(found) > 1 or any(version not in OPSETS for version in found):
            self.refuse(
                f"uses version {found[-1]} of ONNX's operators; {OPSETS[0]} to {OPSETS[-1]} are "
                "known"
            )
        self.opset = sum(found)

    def add(self, name: str, tensor: _Tensor) -> None:
        if not name or name in self.known:
            self.refuse(f"has two tensors of the name {name[:80]!r}, or computes it twice")
        self.known[name] = tensor

    def constant(self, tensor: onnx.TensorProto, left_out: int = 0) -> _Tensor:
        """Check that a constant is as large as it says."""
        sides = tuple(tensor.dims)
        if tensor.data_location != onnx.TensorProto.DEFAULT:
            self.refuse("keeps a tensor in another file; save it as one file")
        plain = tensor.data_type in _TYPES and len(sides) <= MAX_DIMENSIONS
        if not plain or not all(0 <= side <= _LARGEST for side in sides):
            self.refuse(f"holds a tensor {tensor.name[:80]!r} that is no plain array of numbers")
        dtype = np.dtype(_TYPES[tensor.data_type])
        lists = [listed for key in _LISTS if (listed := getattr(tensor, key))]
        size = left_out + len(tensor.raw_data)
        # Half a number counts as none.
        held = -1 if size % dtype.itemsize else size // dtype.itemsize
        n_listed = sum(map(len, lists))
        twice = (
            (len(lists) > 1) + (bool(lists) and size > 0) + (left_out and tensor.raw_data != b"")
        )
        if held + n_listed != math.prod(sides) or twice:
            self.refuse(
                f"holds a tensor {tensor.name[:80]!r} of shape {sides} with {held + n_listed} "
                "numbers; save it again"
            )
        if left_out or math.prod(sides) > _FEW:
            return _Tensor(tensor.data_type, sides)
        listed = lists[0] if lists else np.frombuffer(tensor.raw_data, dtype).tolist()
        whole = list(listed) if tensor.data_type in (_INT32, _INT64) else None
        return _Tensor(tensor.data_type, sides, tensor, whole)

    def fed(self, graph: onnx.GraphProto) -> onnx.ValueInfoProto:
        """Return the one input that is no constant."""
        fed: list[onnx.ValueInfoProto] = [one for one in graph.input if one.name not in self.known]
        if len(fed) != 1 or not graph.output:
            self.refuse(f"has {len(fed)} inputs and {len(graph.output)} outputs instead of one")
        return fed[0]

    def extra_names(self, graph: onnx.GraphProto) -> None:
        others = [port.name for port in graph.output[1:]]
        if others != [name for name in EXTRAS if name in others]:
            self.refuse(
                f"has {len(graph.output)} outputs, of which those after the first are not "
                f"{' and '.join(EXTRAS)}"
            )

    def ports(self, graph: onnx.GraphProto, inputs: Sequence[Side] | None) -> None:
        """Check what goes in, and that plain numbers come out."""
        fed = self.fed(graph)
        for port in (fed, *graph.output):
            if not port.type.HasField("tensor_type"):
                self.refuse("takes or makes something else than one plain tensor")
            if port.type.tensor_type.elem_type != _FLOAT:
                self.refuse("takes or makes other numbers than float32")
            if not port.type.tensor_type.HasField("shape"):
                self.refuse(f"does not say what shape {port.name[:80]!r} has; save it with shapes")
        taken = _declared(fed)
        if inputs is not None and (
            len(taken) != len(inputs)
            or any(fixed not in (None, side) for fixed, side in zip(taken, inputs, strict=True))
        ):
            raise BundleError(
                f"{self.name} takes arrays of shape {taken}, but {tuple(inputs)} will be fed; "
                "export it again"
            )

    def output(self, port: onnx.ValueInfoProto) -> tuple[tuple[int, ...], tuple[Side, ...], bool]:
        """Return the size of an output for one image, what is stated, and whether they agree."""
        if port.name not in self.known:
            raise DecodeError
        made, stated = self.known[port.name].sides, _declared(port)
        agree = len(made) == len(stated) and all(
            side in (None, known) for side, known in zip(stated[1:], made[1:], strict=True)
        )
        return made, stated, agree

    def extra(self, port: onnx.ValueInfoProto) -> None:
        made, stated, agree = self.output(port)
        # A number for each image, not the same ones for every batch.
        if not agree or len(made) != _RANKS[port.name] or stated[0] is not None:
            raise BundleError(
                f"{self.name} gives {port.name} of shape {made} and states {stated}, which should "
                f"have {_RANKS[port.name]} axes, the first of open size; export it again"
            )

    def result(self, port: onnx.ValueInfoProto, n_classes: int | None) -> None:
        made, stated, agree = self.output(port)
        if not agree or (n_classes is not None and (len(made) != 2 or made[1] != n_classes)):
            raise BundleError(
                f"{self.name} gives arrays of shape {(None, *made[1:])}"
                + (f", but there are {n_classes} classes" if agree else f", but states {stated}")
                + "; export it again"
            )

    def node(self, node: onnx.NodeProto) -> None:
        kind = node.op_type
        if node.domain not in ("", "ai.onnx"):
            self.refuse(f"uses the operators of {node.domain[:80]!r}, not ONNX's own")
        if kind not in OPERATORS:
            self.refuse(
                f"uses the operator {kind[:80]!r}, which is not on the list of those that a "
                "classifier needs"
            )
        unknown = [name for name in node.input if name and name not in self.known]
        if unknown:
            self.refuse(f"uses {unknown[0][:80]!r} before it is computed")
        self.attributes(node)
        taken = [self.known[name] if name else None for name in node.input]
        made = self.infer(node)
        for name in filter(None, node.output):
            self.add(name, made[name])
            self.weigh(node, taken, made[name])

    def attributes(self, node: onnx.NodeProto) -> None:
        for one in node.attribute:
            largest = max(map(abs, (one.i, *one.ints)))
            if largest > MAX_ATTRIBUTE:
                self.refuse(
                    f"has an attribute {one.name[:80]!r} of {largest}; limit {MAX_ATTRIBUTE}"
                )
            # Not refused by ONNX, and engines divide by it.
            if one.name == "group" and one.i < 1:
                self.refuse(f"has an attribute 'group' of {one.i}")

    def infer(self, node: onnx.NodeProto) -> dict[str, _Tensor]:
        """Infer the size of each result of a node, with a batch of one image."""
        if node.op_type == "Constant":
            return dict.fromkeys(node.output, self.constant_of(node))
        if node.op_type == "Split":
            return self.split(node)
        taken = {name: self.known[name] for name in node.input if name}
        if node.op_type != "Slice" and any(
            abs(number) > _LARGEST for tensor in taken.values() for number in tensor.whole or ()
        ):
            self.unknown(node)
        types = {
            name: make_tensor_type_proto(tensor.kind, tensor.sides)
            for name, tensor in taken.items()
        }
        data = {name: tensor.data for name, tensor in taken.items() if tensor.data is not None}
        try:
            found = infer_node_outputs(
                get_schema(node.op_type, self.opset, ""),
                node,
                types,
                data,
                opset_imports=[onnx.helper.make_opsetid("", self.opset)],
                ir_version=self.ir_version,
            )
        except _REFUSALS as error:
            reason = str(error).removeprefix("[ShapeInferenceError] ").split("\n")[0][:200]
            reason = reason.encode("ascii", "replace").decode()
            self.refuse(f"uses the operator {node.op_type} as it cannot be computed ({reason})")
        # One tensor may be taken twice.
        whole = _computed(node, [self.known[name] for name in node.input if name])
        return {name: self.made(node, found.get(name), whole) for name in node.output if name}

    def split(self, node: onnx.NodeProto) -> dict[str, _Tensor]:
        """Infer what is split; onnx 1.23 aborts where there are other results than are stated."""
        given = {one.name: one for one in node.attribute}
        count = len(node.output)
        if not node.input or not node.input[0] or not count:
            self.refuse("uses the operator Split of nothing")
        data, *stated = [self.known[name] for name in node.input if name]
        axis = given["axis"].i if "axis" in given else 0
        inside = -len(data.sides) <= axis < len(data.sides)
        side = data.sides[axis] if inside else 0
        sizes = [side // count] * count
        if stated or "split" in given:
            sizes = list((stated[0].whole or ()) if stated else given["split"].ints)
        fits = len(sizes) == count == (given["num_outputs"].i if "num_outputs" in given else count)
        if not fits or sum(sizes) != side or min(sizes, default=0) < 1:
            self.refuse("uses the operator Split with parts that are not those of what is split")
        axis %= len(data.sides)
        return {
            name: _Tensor(data.kind, (*data.sides[:axis], size, *data.sides[axis + 1 :]))
            for name, size in zip(node.output, sizes, strict=True)
        }

    def constant_of(self, node: onnx.NodeProto) -> _Tensor:
        if len(node.attribute) != 1 or not node.attribute[0].HasField("t") or node.input:
            self.refuse("has a Constant that is not one tensor of numbers")
        return self.constant(node.attribute[0].t)

    def made(
        self, node: onnx.NodeProto, found: onnx.TypeProto | None, whole: list[int] | None
    ) -> _Tensor:
        kind = found.tensor_type.elem_type if found is not None else 0
        if found is None or not found.tensor_type.HasField("shape"):
            self.unknown(node)
        if kind not in _TYPES:
            self.refuse(f"makes something else than plain numbers by {node.op_type}")
        if len(found.tensor_type.shape.dim) > MAX_RANK:
            self.refuse(f"makes something of {len(found.tensor_type.shape.dim)} axes")
        sides = tuple(side.dim_value for side in found.tensor_type.shape.dim)
        stated = all(side.HasField("dim_value") for side in found.tensor_type.shape.dim)
        if not stated or any(side < 0 for side in sides):
            self.unknown(node)
        if 0 in sides:
            # At another size of image it would be something.
            self.refuse(f"makes nothing by {node.op_type} of an image of this size")
        if whole is None or kind not in (_INT64, _BOOL) or len(whole) != math.prod(sides):
            return _Tensor(kind, sides)
        if kind == _BOOL:
            return _Tensor(kind, sides, None, [int(one != 0) for one in whole])
        return _Tensor(_INT64, sides, make_tensor("", _INT64, sides, whole), whole)

    def unknown(self, node: onnx.NodeProto) -> NoReturn:
        self.refuse(
            f"makes something by {node.op_type} whose size cannot be told; export it with fixed "
            "sizes"
        )

    def weigh(self, node: onnx.NodeProto, taken: list[_Tensor | None], made: _Tensor) -> None:
        count = made.count
        self.numbers += count
        self.operations += count * _multiplications(node, taken)
        if count > MAX_NUMBERS:
            self.refuse(
                f"makes {count:g} numbers of one image by {node.op_type}; limit {MAX_NUMBERS}"
            )
        if self.numbers > MAX_ALL_NUMBERS:
            self.refuse(f"makes over {MAX_ALL_NUMBERS} numbers of one image in all")
        if self.operations > MAX_OPERATIONS:
            self.refuse(f"takes over {MAX_OPERATIONS} multiplications for one image")


def _declared(port: onnx.ValueInfoProto) -> tuple[Side, ...]:
    dims = port.type.tensor_type.shape.dim
    return tuple(side.dim_value if side.dim_value > 0 else None for side in dims)


def _fed_sides(port: onnx.ValueInfoProto, fed: Sequence[Side]) -> tuple[int, ...]:
    """Return the size of one image: what is fed where a side is open, else a usual length."""
    taken = _declared(port)
    sides = [
        side if side is not None else given for side, given in zip_longest(taken, fed[: len(taken)])
    ]
    first = [1 if side is None else side for side in sides[:1]]
    return (*first, *(OPEN_SIDE if side is None else side for side in sides[1:]))


def _computed(node: onnx.NodeProto, taken: list[_Tensor]) -> list[int] | None:
    """Compute the few whole numbers by which exporters say how large something is."""
    given = {one.name: one for one in node.attribute}
    if node.op_type == "Shape":
        start, end = (given[key].i if key in given else None for key in ("start", "end"))
        return list(taken[0].sides[start:end])
    arrays = [
        np.array(tensor.whole, np.int64).reshape(tensor.sides)
        for tensor in taken
        if tensor.whole is not None
    ]
    # Of lists alone, so that the order is plain.
    if not taken or len(arrays) < len(taken) or any(array.ndim > 1 for array in arrays):
        return None
    if node.op_type == "ConstantOfShape":
        count = math.prod(arrays[0].tolist())
        fill = onnx.numpy_helper.to_array(given["value"].t) if "value" in given else np.zeros(1)
        return [int(fill.item())] * count if 0 <= count <= _FEW and fill.size == 1 else None
    compute = _ON_LISTS.get(node.op_type)
    try:
        found = None if compute is None else compute(*arrays)
    except (IndexError, TypeError, ValueError, ZeroDivisionError):
        # The node is not as its operator wants it, which its inference tells.
        return None
    return None if found is None or found.size > _FEW else [int(one) for one in found.ravel()]


def _slice(
    data: NDArray[np.int64],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    axis: NDArray[np.int64] | None = None,
    step: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    stride = 1 if step is None else int(step.item())
    first, last = int(start.item()), int(end.item())
    # Backwards, an end below the list means something else to Python.
    return data[first:last:stride] if stride > 0 else data[:0]


def _divided(data: NDArray[np.int64], by: NDArray[np.int64]) -> NDArray[np.int64] | None:
    # Rounding differs below zero.
    return data // by if (data >= 0).all() and (by > 0).all() else None


#: What is computed of such numbers, by the operator. `Reshape` and its like keep them in order.
_ON_LISTS: Mapping[str, Callable[..., NDArray[Any] | None]] = {
    **dict.fromkeys(("Cast", "Identity", "Reshape", "Squeeze", "Unsqueeze"), lambda one, *_: one),
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divided,
    "Equal": np.equal,
    "Where": np.where,
    "Concat": lambda *parts: np.concatenate([part.ravel() for part in parts]),
    "Gather": lambda data, places: data[places],
    "Slice": _slice,
}


def _multiplications(node: onnx.NodeProto, taken: list[_Tensor | None]) -> int:
    """Return how many multiplications each number of a result takes."""
    sides = [tensor.sides if tensor is not None else () for tensor in taken]
    if node.op_type in ("Conv", "ConvTranspose"):
        return math.prod(sides[1][1:] if node.op_type == "Conv" else sides[1])
    if node.op_type in ("MatMul", "Gemm"):
        return max(*sides[0][-2:], 1)
    kernels = [one.ints for one in node.attribute if one.name == "kernel_shape"]
    return max(math.prod(kernels[0]) if kernels else 1, 1)


#: The way to what is left out: the model's graph, its constants, their data.
_TO_DATA = (7, 5, 9)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class _Thin:
    """Copies a file without the data of large constants, and notes how large they are.

    The encoding is that of https://protobuf.dev/programming-guides/encoding/: each field is a
    number, a kind, and either a number or a length and as many bytes.
    """

    def __init__(self, refuse: Callable[[str], NoReturn]) -> None:
        self.refuse = refuse
        #: Bytes of each constant.
        self.left_out: list[int] = []
        self.n_fields = 0
        self.n_bytes = 0

    def copy(self, message: memoryview, way: tuple[int, ...]) -> bytes:
        copied: list[bytes] = []
        for number, inside, whole in self.fields(message):
            if inside is None or number != way[0]:
                copied.append(self.kept(whole))
            elif len(way) > 1:
                if len(way) == 2:
                    self.left_out.append(0)
                part = self.copy(inside, way[1:])
                copied += [_varint(number << 3 | _BYTES), _varint(len(part)), part]
            elif len(inside) <= _SMALL:
                copied.append(self.kept(whole))
            elif self.left_out[-1]:
                self.refuse("holds the data of a tensor twice")
            else:
                self.left_out[-1] = len(inside)
        return b"".join(copied)

    def kept(self, part: memoryview) -> bytes:
        self.n_bytes += len(part)
        if self.n_bytes > MAX_STRUCTURE:
            self.refuse(
                f"holds over {MAX_STRUCTURE} bytes besides its weights; only smaller networks can "
                "be loaded"
            )
        return bytes(part)

    def fields(self, message: memoryview) -> Iterator[tuple[int, memoryview | None, memoryview]]:
        """Find the fields of a message: the number of each, what it holds, and all of it."""
        place = 0
        while place < len(message):
            self.n_fields += 1
            if self.n_fields > MAX_FIELDS:
                self.refuse(f"holds over {MAX_FIELDS} fields; only smaller networks can be loaded")
            start = place
            key, place = _read_varint(message, place)
            inside = None
            if key & 7 == _VARINT:
                _, place = _read_varint(message, place)
            elif key & 7 == _BYTES:
                length, place = _read_varint(message, place)
                inside = message[place : place + length]
                place += length
            elif key & 7 in _FIXED:
                place += _FIXED[key & 7]
            else:
                raise DecodeError
            if place > len(message):
                raise DecodeError
            yield key >> 3, inside, message[start:place]


def _read_varint(message: memoryview, place: int) -> tuple[int, int]:
    """Read a number of up to ten bytes, of seven bits each; return it and where the next begins."""
    number = 0
    for shift, byte in enumerate(message[place : place + 10]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, place + shift + 1
    raise DecodeError


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*made, number))
