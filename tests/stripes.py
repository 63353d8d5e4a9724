"""Images of two classes that only the direction of fine stripes tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from imagecodecs import png_encode


def write_stripes(folder: Path, count: int) -> list[Path]:
    """Write as many images of each class, in folders ``across`` and then ``down``."""
    random, files = np.random.default_rng(0), []
    for turned, name in enumerate(("across", "down")):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.normal(90, 10, (32, 32))
            pixels[random.integers(4) :: 4] += 100
            pixels = np.ascontiguousarray(pixels.T) if turned else pixels
            files.append(folder / name / f"{number:03}.png")
            files[-1].write_bytes(png_encode(pixels.clip(0, 255).astype(np.uint8)))
    return files
