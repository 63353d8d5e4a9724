"""How much time and memory hostile model files take until they are refused.

``python benchmarks/gate.py [FILE ...]`` takes the hostile files of the tests, some that it makes
itself, and the `.keras` and `.onnx` files that are named. Each is imported or checked in a
process of its own, as for a user, and so are all processes that are started for it. A row tells the
seconds after Python's own imports, the most memory of all these processes together beyond that
after these imports (proportional set size, every 10 ms), and what was said. At the end stands the
memory of a process that only imports Keras, which an import may take besides. Linux only.
"""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

TESTS = Path(__file__).parents[1] / "tests" / "bundles"
GIGABYTE = 1 << 30

#: Says when it begins, then what the gate said and how long that took.
RUN = """
import sys, time
from pathlib import Path
from napari_cellclf.bundles.foreign import ForeignNetwork, look_at
from napari_cellclf.bundles.onnx_file import check_onnx
from napari_cellclf.errors import ModelError
from napari_cellclf.models.importing import import_network

def check(path):
    if path.suffix == ".onnx":
        return check_onnx(path.read_bytes(), path.name)
    found = look_at(path)
    channels = [{"name": str(number)} for number in range(found.n_channels)]
    described = ForeignNetwork(
        name="hostile", classes=[{"name": str(number)} for number in range(found.n_classes)],
        preprocessing={"channels": channels, "size": found.size or (64, 64)},
    )
    import_network(path, described, path=path.with_suffix(".cellclf"), overwrite=True)

print("begin", flush=True)
sys.stdin.readline()
began, said = time.perf_counter(), "passes"
try:
    check(Path(sys.argv[1]))
except ModelError as error:
    said = f"{type(error).__name__}: {error}"
print(time.perf_counter() - began, said, flush=True)
"""
BARE = """
import time
print("begin", flush=True)
input()
began = time.perf_counter()
import keras
print(time.perf_counter() - began, "imports")
"""


def session_bytes(session: int) -> int:
    """Add up what the processes of a session hold in memory.

    What several share counts once: a process that is just being forked shares all of its parent's.
    """
    kilobytes = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if int(stat.read_text().rpartition(")")[2].split()[3]) == session:
                held = stat.with_name("smaps_rollup").read_text()
                kilobytes += int(held.partition("\nPss:")[2].split()[0])
        except (OSError, IndexError):
            # It has ended meanwhile.
            continue
    return kilobytes << 10


def measure(code: str, *arguments: str) -> tuple[float, int, str]:
    """Run code and return its seconds, the most bytes beyond those at its beginning, its words."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    first = most = session_bytes(process.pid)
    process.stdin.write("\n")
    process.stdin.flush()
    while process.poll() is None:
        most = max(most, session_bytes(process.pid))
        time.sleep(0.01)
    seconds, _, said = process.stdout.read().partition(" ")
    _, errors = process.communicate()
    return float(seconds or "nan"), most - first, said.strip() or errors[-300:]


def of_the_tests(folder: Path) -> Iterator[tuple[str, Path]]:
    """Write the hostile files of the tests, one after the other."""
    sys.path.insert(0, str(TESTS))
    import hostile
    import test_keras_file
    import test_network_config
    import test_onnx_file

    path = folder / "model.onnx"
    for name, (content, _) in test_onnx_file.HOSTILE.items():
        path.write_bytes(content)
        yield f"ONNX: {name}", path
    for name, (make, _, _) in test_keras_file.HOSTILE.items():
        yield f"file: {name}", make(folder)
    for name, layer in test_network_config.WRONG.items():
        config = hostile.config_with(layer)
        yield f"layer: {name}", hostile.write(folder / "model.keras", config=config)
    for name, config in test_network_config.GRAPHS.items():
        yield f"graph: {name}", hostile.write(folder / "model.keras", config=config)


def layer(class_name: str, **config: Any) -> dict[str, Any]:
    """Return a layer as Keras writes it."""
    named = {"module": "keras.layers", "class_name": class_name, "registered_name": None}
    return named | {"config": config}


def config_of(*layers: dict[str, Any], shape: tuple[int, ...] = (512, 512, 1)) -> bytes:
    """Return the configuration of a network that ends as a classifier does."""
    begin = layer("InputLayer", batch_shape=[None, *shape], name="begin")
    end = layer("Dense", name="end", units=2, activation="softmax")
    network = {"name": "net", "layers": [begin, *layers, end]}
    return json.dumps({"module": "keras", "class_name": "Sequential", "config": network}).encode()


def weights(shapes: dict[str, tuple[int, ...]]) -> bytes:
    """Return the weights of layers, all of them 1."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as h5:
        for name, shape in shapes.items():
            h5[f"layers/{name}"] = np.ones(shape, np.float32)
    return stream.getvalue()


def packed(config: bytes, h5: bytes) -> Callable[[Path], Path]:
    """Return what writes a .keras file."""

    def make(folder: Path) -> Path:
        path = folder / "model.keras"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", '{"keras_version": "3.15.1"}')
            archive.writestr("config.json", config)
            archive.writestr("model.weights.h5", h5)
        return path

    return make


def json_of(unit: bytes) -> Callable[[Path], Path]:
    """Return what writes a configuration as long as may be, of one thing again and again."""
    return packed(b"[" + unit * ((1 << 22) // len(unit) - 1), b"")


def many_entries(folder: Path) -> Path:
    """Write a zip of a million entries."""
    path = folder / "model.keras"
    entries = struct.pack("<4s6H3L5H2L", b"PK\x01\x02", *[0] * 16) * 1_000_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, len(entries), 4, 0)
    path.write_bytes(b"PK\x03\x04" + entries + end)
    return path


def sparse(name: str, start: bytes, size: int) -> Callable[[Path], Path]:
    """Return what writes a file of that size which takes no room."""

    def make(folder: Path) -> Path:
        path = folder / name
        with path.open("wb") as file:
            file.write(start)
            file.truncate(size)
        return path

    return make


def onnx_of(field: bytes, count: int) -> Callable[[Path], Path]:
    """Return what writes an ONNX file of one field again and again."""

    def make(folder: Path) -> Path:
        path = folder / "model.onnx"
        path.write_bytes(field * count)
        return path

    return make


def upsampled(times: int) -> bytes:
    """Return a network that enlarges its image again and again."""
    sizes = [layer("UpSampling2D", name=f"up{i}", size=[64, 64]) for i in range(times)]
    return config_of(*sizes, layer("GlobalAveragePooling2D", name="pool"), shape=(64, 64, 1))


def made() -> dict[str, Callable[[Path], Path]]:
    """Return what writes each of the files that are no test's."""
    relus = [layer("ReLU", name=f"r{i}") for i in range(2400)]
    dense = [layer("Dense", name=f"d{i}", units=1 << 16) for i in range(40)]
    flat = layer("Flatten", name="flat")
    one = weights({"dense/vars/0": (2, 2), "dense/vars/1": (2,)})
    return {
        "a network that enlarges 64-fold, three times": packed(upsampled(3), one),
        "2,400 layers, then weights that do not fit": packed(
            config_of(*relus, flat, shape=(8, 8, 1)), one
        ),
        "170 billion weights out of 6": packed(config_of(flat, *dense), one),
        "a huge matrix out of 6 numbers": packed(config_of(flat, shape=(8192, 8192, 1)), one),
        "20,000 groups": packed(config_of(), weights({f"g{i}/v": (1,) for i in range(20_000)})),
        "4 MB of empty objects": json_of(b"{},"),
        "4 MB of numbers": json_of(b"0,"),
        "4 MB of empty texts": json_of(b'"",'),
        "4 MB of opening brackets": json_of(b"["),
        "4 MB of JSON below every limit": json_of(b'{"a":[0.5,"' + b"x" * 150 + b'"]},'),
        "4 MB of one text": json_of(b"\\u0061"),
        "a million entries in the zip": many_entries,
        "3 GB that begin like a zip": sparse("model.keras", b"PK\x03\x04", 3 * GIGABYTE),
        "3 GB that begin like HDF5": sparse("model.keras", b"\x89HDF\r\n\x1a\n", 3 * GIGABYTE),
        "ONNX: a million fields": onnx_of(b"\x10\x00", 1_000_000),
        "ONNX: a million nodes": onnx_of(b"\x0a\x00", 1_000_000),
        "ONNX: 256 MB of nothing": sparse("model.onnx", b"\x3a\xfb\xff\xff\x7f", GIGABYTE >> 2),
    }


def main() -> None:
    """Print all rows, and the largest numbers."""
    worst_time, worst_memory = 0.0, 0

    def row(name: str, path: Path) -> None:
        nonlocal worst_time, worst_memory
        seconds, taken, said = measure(RUN, str(path))
        worst_time, worst_memory = max(worst_time, seconds), max(worst_memory, taken)
        print(f"{name[:44]:44} {seconds:7.2f} s {taken >> 20:6} MB  {said[:90]}", flush=True)

    for named in sys.argv[1:]:
        row(named, Path(named))
    if not sys.argv[1:]:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            for name, path in of_the_tests(folder):
                row(name, path)
            for name, make in made().items():
                row(name, make(folder))
    print(f"at most {worst_time:.2f} s and {worst_memory >> 20} MB")
    seconds, taken, _ = measure(BARE)
    print(f"Keras with TensorFlow alone: {seconds:.2f} s and {taken >> 20} MB")


if __name__ == "__main__":
    main()
