"""One large image: memory, seconds, and how soon a stop is obeyed.

    python benchmarks/large_image.py [--side 20000] [--model rxrx1-celltype] [--folder DIR]

Writes a grey image as tiled TIFF, TIFF of strips, PNG and JPEG, and seven times less of its side as
six uint16 channels. Each is classified in a process of its own (Linux): peak memory beside that of
the loaded model, as a multiple of the image's pixels; seconds; progress that was told; and, in
another process, seconds from asking to stop, at several moments, until the call has returned.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile

#: Seconds after which the call is asked to stop.
STOPS = (0.3, 1.0, 2.0)


def make(folder: Path, side: int) -> list[Path]:
    """Write the files, unless they are there."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / name for name in ("tiles.tif", "strips.tif", "x.png", "x.jpg", "six.tif")]
    if all(path.is_file() for path in paths):
        return paths
    part = np.random.default_rng(0).integers(0, 255, (512, 512), dtype=np.uint8)
    pixels = np.tile(part, (side // 512 + 1,) * 2)[:side, :side]
    tifffile.imwrite(paths[0], pixels, tile=(512, 512), compression="zlib")
    tifffile.imwrite(paths[1], pixels, rowsperstrip=64, compression="zlib")
    paths[2].write_bytes(imagecodecs.png_encode(pixels, level=1))
    paths[3].write_bytes(imagecodecs.jpeg8_encode(pixels))
    small = pixels[: side // 3, : side // 3].astype(np.uint16)
    tifffile.imwrite(paths[4], np.stack([small] * 6), metadata={"axes": "CYX"}, compression="zlib")
    return paths


def memory(field: str) -> int:
    """Return a size of this process in bytes."""
    status = Path("/proc/self/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith(field)]
    return 1024 * int(line.split()[1])


def measure(model: str, path: Path, stop_after: float | None, answer: Any) -> None:
    """Classify one image and say what it took."""
    from napari_cellclf import load_classifier
    from napari_cellclf.io.sources import collect_sources

    classifier = load_classifier(model)
    names = [spec.name for spec in classifier.preprocessing.channels]
    n_planes = 6 if path.name == "six.tif" else 1
    mapping = {name: f"channel {min(n, n_planes)}" for n, name in enumerate(names, start=1)}
    # The highest so far would be that of the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    stop, told, asked = threading.Event(), [], 0.0
    begun = time.perf_counter()
    if stop_after is not None:
        threading.Timer(stop_after, stop.set).start()
        asked = begun + stop_after
    results = classifier.predict_sources(
        collect_sources([path]), mapping=mapping, on_progress=told.append, should_stop=stop.is_set
    )
    found = [str(result) for result in results]
    ended = time.perf_counter()
    peak = memory("VmHWM")
    answer.send(
        json.dumps(
            {
                "seconds": ended - begun,
                "extra": peak - before,
                "told": len(told),
                "after_stop": ended - asked if asked and not found else None,
            }
        )
    )


def in_process(model: str, path: Path, stop_after: float | None) -> dict[str, Any]:
    """Measure in a process of its own."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=measure, args=(model, path, stop_after, there)
    )
    process.start()
    result: dict[str, Any] = json.loads(here.recv())
    process.join()
    return result


def main() -> None:
    """Print a row for each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--model", default="rxrx1-celltype")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        print("file         pixels MiB  memory x pixels  seconds  progress  slowest stop, s")
        for path in make(folder, args.side):
            count = 12 * (args.side // 3) ** 2 if path.name == "six.tif" else args.side**2
            whole = in_process(args.model, path, None)
            stops = [in_process(args.model, path, after)["after_stop"] for after in STOPS]
            slowest = max((stop for stop in stops if stop is not None), default=0.0)
            print(
                f"{path.name:12s} {count / 2**20:10.0f} {whole['extra'] / count:16.2f} "
                f"{whole['seconds']:8.1f} {whole['told']:9d} {slowest:17.2f}"
            )


if __name__ == "__main__":
    main()
