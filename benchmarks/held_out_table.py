"""Write a table of a folder of classes, with images of each class held out at random.

``python benchmarks/held_out_table.py FOLDER TABLE --test 50`` writes ``path,label,split``, for
``cellclf train TABLE --split given``. Of each class, ``--test`` images (50) are the test images and
the others the training images; which, depends on ``--seed`` (0) and the names of the files alone.
There are no validation images, so that nothing is chosen by them.
"""

from __future__ import annotations

import argparse
import csv
import random
from pathlib import Path

import napari_cellclf as cc


def main() -> None:
    """Read, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path)
    parser.add_argument("--test", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data = cc.read_dataset(arguments.folder).table.sort_values(["label", "path"])
    draw = random.Random(arguments.seed)
    with arguments.table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for label, rows in data.groupby("label"):
            paths = [str(Path(path).absolute()) for path in rows["path"]]
            held_out = set(draw.sample(paths, arguments.test))
            for path in paths:
                writer.writerow([path, label, "test" if path in held_out else "train"])


if __name__ == "__main__":
    main()
