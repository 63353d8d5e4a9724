"""Memory and speed over tens of thousands of files: neither may depend on how many there are.

    python benchmarks/many_files.py [--files 50000]

Makes small PNG files (64 x 64 pixels, six a site, all of them links to one), classifies them with
``cellclf predict --out`` in a process of its own, and looks at that process's memory (VmRSS; Linux)
and at how many images are done, twice a second. Rows: at file 1,000 and then at every fifth.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import imagecodecs
import numpy as np

from napari_cellclf.cli.prediction_table import journal_path

SIDE = 64
#: Files of a plate: 84 wells, four sites each.
PLATE = 2016


def make(folder: Path, files: int) -> None:
    """Write the files: links, so that they need no room."""
    random = np.random.default_rng(0)
    first = folder / "first.png"
    first.write_bytes(imagecodecs.png_encode(random.integers(0, 255, (SIDE, SIDE), np.uint8)))
    for number in range(files // 6 * 6):
        plate, inside = divmod(number, PLATE)
        parent = folder / "screen" / f"HUVEC-{plate // 10 + 1:02d}" / f"Plate{plate}"
        parent.mkdir(parents=True, exist_ok=True)
        well, site, channel = inside // 24, inside // 6 % 4 + 1, inside % 6 + 1
        name = f"{chr(65 + well // 24)}{well % 24 + 1:02d}_s{site}_w{channel}.png"
        os.link(first, parent / name)


def memory(process: int) -> float:
    """Return the resident memory of a process in MB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1000
    return 0.0


def done(table: Path) -> int:
    """Return how many images are done, as the journal says."""
    journal = journal_path(table)
    lines = journal.read_bytes().split(b"\n")[1:-1] if journal.exists() else []
    return json.loads(lines[-1])["done"] if lines else 0


def main() -> None:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--model", default="rxrx1-celltype")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(folder, arguments.files)
        table = folder / "p.csv"
        command = ["predict", arguments.model, str(folder / "screen"), "--out", str(table)]
        process = subprocess.Popen([sys.executable, "-m", "napari_cellclf", *command])
        seen = []
        while process.poll() is None:
            time.sleep(0.5)
            if count := done(table):
                seen.append((6 * count, time.perf_counter(), memory(process.pid)))
        rows = len(table.read_text().splitlines()) - 1
    print(f"exit code {process.returncode}, {rows} rows")
    print(f"{'files':>8} {'files/s since':>14} {'MB':>8} {'MB more':>8}")
    marks = [1000, *(arguments.files * fifth // 5 for fifth in range(1, 6))]
    before = None
    for mark in marks:
        files, when, used = next((one for one in seen if one[0] >= mark), seen[-1])
        rate = "" if before is None else f"{(files - before[0]) / (when - before[1]):14.0f}"
        first = used if before is None else before[2]
        print(f"{files:8} {rate:>14} {used:8.0f} {used - first:8.1f}")
        before = (files, when, first)


if __name__ == "__main__":
    main()
