"""How long napari takes to open the widget, and a plate of 616 sites in six channels.

``python benchmarks/open_plate.py`` prints one table: the widget; listing and reading with this
package; and what napari itself needs for six plain arrays of the same shape, which is the least
that any reader can take. Needs a display (on a machine without one:
``xvfb-run -a python benchmarks/open_plate.py``).
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from imagecodecs import png_encode

RUNS = 5
WELLS, SITES, CHANNELS, SIDE = 308, 2, 6, 512


def write_plate(folder: Path) -> Path:
    """Write 3,696 files; their pixels are the same, their names are those of a real plate."""
    plate = folder / "HUVEC-01" / "Plate1"
    plate.mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.poisson(20, (CHANNELS, SIDE, SIDE)).clip(0, 255).astype(np.uint8)
    content = [png_encode(channel) for channel in pixels]
    for well in range(WELLS):
        name = f"{chr(ord('B') + well // 22)}{well % 22 + 2:02d}"
        for site in range(1, SITES + 1):
            for channel in range(CHANNELS):
                (plate / f"{name}_s{site}_w{channel + 1}.png").write_bytes(content[channel])
    return plate


def median_seconds(action: Callable[[], Any], tidy: Callable[[], Any]) -> float:
    """Time an action a few times; what it leaves behind is tidied away untimed."""
    seconds = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
        tidy()
    # The first run also imports.
    return statistics.median(seconds[1:])


def main() -> None:
    """Measure and print."""
    import napari

    from napari_cellclf.io.rxrx1 import find_sites
    from napari_cellclf.plugin.reader import read

    viewer = napari.Viewer()
    with tempfile.TemporaryDirectory() as folder:
        plate = write_plate(Path(folder))
        stack = np.zeros((WELLS * SITES, SIDE, SIDE), np.uint8)

        def add_plain_arrays() -> None:
            for _ in range(CHANNELS):
                viewer.add_image(stack, contrast_limits=(0, 255))

        def step() -> None:
            viewer.dims.set_current_step(0, (viewer.dims.current_step[0] + 97) % (WELLS * SITES))

        def nothing() -> None:
            pass

        def open_widget() -> None:
            viewer.window.add_plugin_dock_widget("napari-cellclf", "Classify")

        def close_widget() -> None:
            viewer.window.remove_dock_widget("all")

        rows = [
            ("open the widget", median_seconds(open_widget, close_widget)),
            ("list 616 sites", median_seconds(lambda: find_sites(plate), nothing)),
            ("read as lazy layers", median_seconds(lambda: read(str(plate)), nothing)),
            (
                "open in napari",
                median_seconds(
                    lambda: viewer.open(plate, plugin="napari-cellclf"), viewer.layers.clear
                ),
            ),
            (
                "napari alone: six plain arrays",
                median_seconds(add_plain_arrays, viewer.layers.clear),
            ),
        ]
        viewer.open(plate, plugin="napari-cellclf")
        rows.append(("one step of the slider", median_seconds(step, nothing)))
    viewer.close()
    for name, seconds in rows:
        print(f"{name:32} {seconds:7.3f} s")


if __name__ == "__main__":
    main()
