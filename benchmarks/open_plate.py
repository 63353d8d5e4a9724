"""How long napari takes to open the widget, and a plate of 616 sites in six channels.

``python benchmarks/open_plate.py`` prints one table: opening the plate in napari and, by turns with
it, what napari itself needs for six plain arrays of the same shape, which is the least that any
reader can take; listing and reading with this package; a step of the slider; the widget.

The columns are the first time in this process, the least of five more, and the least processor time
of those, which a busy machine changes less. Whatever comes first also pays for napari's own first
use of its modules: ``--plain-first`` lets that be the plain arrays. Needs a display (on a machine
without one: ``xvfb-run -a python benchmarks/open_plate.py``).
"""

from __future__ import annotations

import sys
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


def seconds(action: Callable[[], Any]) -> tuple[float, float]:
    """Time an action until all is drawn: by the clock, and of the processor."""
    from qtpy.QtWidgets import QApplication

    clock, processor = time.perf_counter(), time.process_time()
    action()
    # Without this, adding layers returns before they are seen.
    QApplication.processEvents()
    return time.perf_counter() - clock, time.process_time() - processor


def measure(actions: dict[str, Callable[[], Any]], tidy: Callable[[], Any]) -> None:
    """Time actions by turns, so that a busy machine slows all of them, and print the least."""
    rows: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    for _ in range(RUNS + 1):
        for name, action in actions.items():
            rows[name].append(seconds(action))
            tidy()
    for name, row in rows.items():
        # The first run also imports.
        clock, processor = (min(values) for values in zip(*row[1:], strict=True))
        print(f"{name:32} {row[0][0]:9.3f} {clock:9.3f} {processor:11.3f}")


def main() -> None:
    """Measure and print."""
    import napari
    from qtpy.QtWidgets import QApplication

    from napari_cellclf.io.named_images import find_images
    from napari_cellclf.plugin.reader import read

    viewer = napari.Viewer()
    stack = np.zeros((WELLS * SITES, SIDE, SIDE), np.uint8)

    def add_plain_arrays() -> None:
        for _ in range(CHANNELS):
            viewer.add_image(stack, contrast_limits=(0, 255))

    def step() -> None:
        viewer.dims.set_current_step(0, (viewer.dims.current_step[0] + 97) % (WELLS * SITES))

    def close_layers() -> None:
        viewer.layers.clear()
        QApplication.processEvents()

    def close_widget() -> None:
        viewer.window.remove_dock_widget("all")

    def open_widget() -> None:
        _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
        bench.show_tab(3)

    print(f"{'seconds':32} {'first':>9} {'again':>9} {'processor':>11}")
    with tempfile.TemporaryDirectory() as folder:
        plate = write_plate(Path(folder))

        def open_plate() -> None:
            viewer.open(plate, plugin="napari-cellclf")

        QApplication.processEvents()
        in_napari = {"open in napari": open_plate, "napari: six plain arrays": add_plain_arrays}
        if "--plain-first" in sys.argv:
            in_napari = dict(reversed(in_napari.items()))
        measure(in_napari, close_layers)
        measure({"list 616 sites": lambda: find_images(plate)}, QApplication.processEvents)
        measure({"read as lazy layers": lambda: read(str(plate))}, QApplication.processEvents)
        open_plate()
        measure({"one step of the slider": step}, QApplication.processEvents)
        close_layers()
        measure({"open the widget": open_widget}, close_widget)
    viewer.close()


if __name__ == "__main__":
    main()
