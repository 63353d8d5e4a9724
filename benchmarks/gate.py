"""How long the gate looks at a file, and how much memory it takes, whatever the file.

``python benchmarks/gate.py [FILE ...]`` prints one row for each of the files that it makes for
itself (large and valid ones, and ones made to keep a reader busy), and for each `.keras` or `.onnx`
file that is named. The columns are the least time of some runs by the clock and of the processor,
the most memory that Python and numpy took in one run (tracemalloc), and what the gate said.
"""

from __future__ import annotations

import io
import json
import struct
import sys
import tempfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from napari_cellclf.bundles.keras_file import read_keras_file
from napari_cellclf.bundles.onnx_file import check_onnx
from napari_cellclf.errors import ModelError

RUNS = 5
GIGABYTE = 1 << 30


def layer(class_name: str, **config: Any) -> dict[str, Any]:
    """Return a layer as Keras writes it."""
    named = {"module": "keras.layers", "class_name": class_name, "registered_name": None}
    return named | {"config": config}


def config_of(*layers: dict[str, Any], shape: tuple[int, ...] = (512, 512, 1)) -> bytes:
    """Return the configuration of a network."""
    begin = layer("InputLayer", batch_shape=[None, *shape], name="begin")
    network = {"name": "net", "layers": [begin, *layers]}
    whole = {"module": "keras", "class_name": "Sequential", "config": network}
    return json.dumps(whole).encode()


def packed(path: Path, config: bytes, weights: bytes | Path) -> Path:
    """Write a .keras file."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
        archive.writestr("config.json", config)
        if isinstance(weights, Path):
            archive.write(weights, "model.weights.h5")
        else:
            archive.writestr("model.weights.h5", weights)
    return path


def large(folder: Path) -> Path:
    """Write a network of 130 million weights, 520 MB."""
    file = folder / "large.h5"
    with h5py.File(file, "w") as h5:
        h5["layers/dense/vars/0"] = np.ones((1 << 20, 124), np.float32)
        h5["layers/dense/vars/1"] = np.ones(124, np.float32)
    layers = (layer("Flatten", name="flat"), layer("Dense", name="dense", units=124))
    path = packed(folder / "large.keras", config_of(*layers, shape=(1024, 1024, 1)), file)
    file.unlink()
    return path


def deep(folder: Path) -> Path:
    """Write a network of 1,500 layers with weights."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as h5:
        for number in range(1500):
            h5[f"layers/dense_{number}/vars/0"] = np.ones((2, 2), np.float32)
            h5[f"layers/dense_{number}/vars/1"] = np.ones(2, np.float32)
    layers = [layer("Dense", name=f"d{i}", units=2, activation="relu") for i in range(1500)]
    return packed(folder / "deep.keras", config_of(*layers, shape=(2,)), stream.getvalue())


def many_objects(folder: Path) -> Path:
    """Write weights in more groups than are looked at."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as h5:
        for number in range(20_000):
            h5.create_group(str(number))
    return packed(folder / "objects.keras", config_of(), stream.getvalue())


def json_of(unit: bytes, name: str) -> Callable[[Path], Path]:
    """Write a configuration as long as may be, of one thing again and again."""

    def make(folder: Path) -> Path:
        return packed(folder / f"{name}.keras", b"[" + unit * ((1 << 22) // len(unit) - 1), b"")

    return make


def many_entries(folder: Path) -> Path:
    """Write a zip of a million entries."""
    path = folder / "entries.keras"
    entry = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 16)
    entries = entry * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entries), 4, 0)
    path.write_bytes(b"PK\x03\x04" + entries + end)
    return path


def sparse(name: str, start: bytes, size: int) -> Callable[[Path], Path]:
    """Write a file of that size which takes no room."""

    def make(folder: Path) -> Path:
        path = folder / name
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)
        return path

    return make


def onnx_of(field: bytes, count: int, name: str) -> Callable[[Path], Path]:
    """Write an ONNX file of one field again and again."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(field * count)
        return path

    return make


def look(path: Path) -> object:
    """Send a file through the gate it is for."""
    if path.suffix == ".onnx":
        return check_onnx(path.read_bytes(), path.name)
    return read_keras_file(path)


def measure(name: str, look: Callable[[], object]) -> None:
    """Print a row."""
    clock, processor, said = [], [], "passes"
    for _ in range(RUNS):
        began, worked = time.perf_counter(), time.process_time()
        try:
            look()
        except ModelError as error:
            said = f"{type(error).__name__}: {str(error)[:60]}"
        clock.append(time.perf_counter() - began)
        processor.append(time.process_time() - worked)
    tracemalloc.start()
    with suppress(ModelError):
        look()
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    times = f"{min(clock):7.3f} s {min(processor):7.3f} s"
    print(f"{name:34} {times} {peak:7.1f} MB  {said}", flush=True)


def main() -> None:
    """Print all rows."""
    made: dict[str, Callable[[Path], Path]] = {
        "520 MB of weights": large,
        "1,500 layers": deep,
        "20,000 groups in the weights": many_objects,
        "4 MB of empty objects": json_of(b"{},", "objects-json"),
        "4 MB of numbers": json_of(b"0,", "numbers"),
        "4 MB of empty texts": json_of(b'"",', "texts"),
        "4 MB of opening brackets": json_of(b"[", "brackets"),
        "4 MB of JSON below every limit": json_of(b'{"a":[0.5,"' + b"x" * 150 + b'"]},', "near"),
        "4 MB of one text": json_of(b"\\u0061", "escapes"),
        "a million entries in the zip": many_entries,
        "3 GB that begin like a zip": sparse("zip.keras", b"PK\x03\x04", 3 * GIGABYTE),
        "3 GB that begin like HDF5": sparse("h5.keras", b"\x89HDF\r\n\x1a\n", 3 * GIGABYTE),
        "ONNX: a million fields": onnx_of(b"\x10\x00", 1_000_000, "fields.onnx"),
        "ONNX: a million nodes": onnx_of(b"\x0a\x00", 1_000_000, "nodes.onnx"),
        "ONNX: 3 GB of nothing": sparse("nothing.onnx", b"\x3a\xff\xff\xff\xff\x0b", 3 * GIGABYTE),
    }
    print(f"{'file':34} {'clock':>9} {'processor':>9} {'memory':>10}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, make in made.items():
            path = make(folder)
            measure(name, lambda path=path: look(path))
            path.unlink()
    for path in map(Path, sys.argv[1:]):
        measure(path.name, lambda path=path: look(path))


if __name__ == "__main__":
    main()
