"""Write simulated embryos as files, named as the Drosophila project's are.

    python tools/simulate_embryos.py DIR [--embryos 6] [--every 9]

16 bits, as the camera's originals: the upper 8 hold what `simulate_embryo` draws. To try
``cellclf train DIR --preset drosophila-seed`` without real embryos.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import tifffile

from napari_cellclf.core.simulation import simulate_embryo


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--embryos", type=int, default=6)
    parser.add_argument("--every", type=int, default=9)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    minutes = range(60, 205, args.every)
    for embryo in range(1, args.embryos + 1):
        series = simulate_embryo(minutes=minutes, embryo=embryo, seed=embryo)
        for minute, frame in zip(minutes, np.asarray(series.data), strict=True):
            name = f"Stage({minute:03d})-20230811-Cycle00-embryo{embryo:02d}-3.tif"
            tifffile.imwrite(args.folder / name, frame.astype(np.uint16) << 8)
    print(f"{args.embryos} embryos of {len(minutes)} stages are in {args.folder}")


if __name__ == "__main__":
    main()
