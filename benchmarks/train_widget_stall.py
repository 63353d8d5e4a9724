"""How long the window stands still while the Train widget works.

``python benchmarks/train_widget_stall.py`` opens napari with the widget, reads a table of many
images, and trains on simulated sites; a timer that should fire every 5 ms tells the longest gaps
between two turns of the event loop. One table: for each part of the work its length, the longest
gap, the gaps above 100 ms, and the most processor time that the window's own thread used in one
gap. A busy machine lengthens gaps, also those of the first row, in which nothing is done, but
hardly the processor time. Needs a display (on a machine without one: ``xvfb-run -a
python benchmarks/train_widget_stall.py``). ``--images N`` is the number of rows of the table
(100,000), ``--epochs N`` the length of the training (30).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TICK_MS = 5
PATIENCE_SECONDS = 900
ROOT = Path(__file__).resolve().parents[1]


class Gaps:
    """Collects the times between two turns of the event loop."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.gaps: list[float] = []
        self.own: list[float] = []
        self._last = self._last_own = 0.0
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)

    def measure(self, begin: Callable[[], Any], is_over: Callable[[], bool]) -> float:
        """Begin some work and let the event loop run until it is over; return its seconds."""
        from qtpy.QtCore import QEventLoop, QTimer

        loop = QEventLoop()
        self.gaps.clear()
        self.own.clear()
        started = self._last = time.perf_counter()
        self._last_own = time.thread_time()

        def look() -> None:
            if is_over() or time.perf_counter() - started > PATIENCE_SECONDS:
                loop.quit()

        watch = QTimer()
        watch.timeout.connect(look)
        watch.start(50)
        self._timer.start(TICK_MS)
        # In the loop, so that what the click itself takes is a gap, too.
        QTimer.singleShot(0, begin)
        loop.exec()
        self._timer.stop()
        return time.perf_counter() - started

    def _tick(self) -> None:
        now, own = time.perf_counter(), time.thread_time()
        self.gaps.append(1000 * (now - self._last))
        self.own.append(1000 * (own - self._last_own))
        self._last, self._last_own = now, own


def write_table(folder: Path, count: int) -> Path:
    """Write a table of images in 40 plates; one small file stands for all images."""
    picture = folder / "pictures"
    picture.mkdir()
    names = []
    for number in range(count):
        name = f"pictures/plate{number % 40 + 1}_{number}.png"
        names.append(f"{name},{'abcd'[number // 40 % 4]},plate{number % 40 + 1}")
    content = _png()
    for number in range(count):
        (folder / names[number].split(",")[0]).write_bytes(content)
    table = folder / "table.csv"
    table.write_text("path,label,group\n" + "\n".join(names) + "\n")
    return table


def write_sites(folder: Path) -> Path:
    """Write a simulated screen of four cell types and three plates."""
    from imagecodecs import png_encode

    from napari_cellclf.core.simulation.site import simulate_plate

    root = folder / "rxrx1"
    for plate in (1, 2, 3):
        for site in simulate_plate(wells_per_type=2, sites_per_well=2, plate=plate, size=128):
            place = root / site.experiment / f"Plate{plate}"
            place.mkdir(parents=True, exist_ok=True)
            for channel, pixels in enumerate(site.draw().data, start=1):
                name = f"{site.well}_s{site.site}_w{channel}.png"
                (place / name).write_bytes(png_encode(pixels))
    return root


def _png() -> bytes:
    import numpy as np
    from imagecodecs import png_encode

    return bytes(png_encode(np.arange(64, dtype=np.uint8).reshape(8, 8)))


def _row(title: str, seconds: float, gaps: Gaps) -> None:
    over = sum(gap > 100 for gap in gaps.gaps)
    longest, own = max(gaps.gaps, default=0.0), max(gaps.own, default=0.0)
    print(f"| {title} | {seconds:.1f} s | {longest:.0f} ms | {over} | {own:.0f} ms |", flush=True)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=30)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellclf-stall-") as name:
        folder = Path(name)
        os.environ["NAPARI_CONFIG"] = str(folder / "napari.yaml")
        table, sites = write_table(folder, arguments.images), write_sites(folder)
        _measure(folder, table, sites, arguments.epochs)
    return 0


def _measure(folder: Path, table: Path, sites: Path, epochs: int) -> None:
    import napari

    viewer = napari.Viewer(show=True)
    _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    bench.show_tab(2)
    widget = bench.train
    form, data, run, gaps = widget.form, widget.data, widget.run, Gaps()
    print("| part | length | longest gap | gaps > 100 ms | most own processor time |")
    print("| --- | --- | --- | --- | --- |")

    def over() -> bool:
        return not data.busy and data.found is not None

    seconds = gaps.measure(lambda: None, _after(5))
    _row("nothing", seconds, gaps)
    seconds = gaps.measure(lambda: form.data.path.set_path(str(table)), over)
    _row(f"reading and dividing {len(data.found.dataset):,} images", seconds, gaps)
    seconds = gaps.measure(lambda: None, lambda: not data.inspecting)
    _row("inspecting their files", seconds, gaps)
    form.run.folder.set_path(str(folder / "large"))
    run.command = [sys.executable, "-c", "pass"]
    seconds = gaps.measure(run.start, lambda: not run.active)
    _row("writing them down as a run", seconds, gaps)
    run.command = None
    seconds = gaps.measure(lambda: form.data.path.set_path(str(sites)), over)
    form.model.epochs.setText(str(epochs))
    form.model.more.setPlainText("steps_per_epoch = 8\nsize = 'own'\ncrop = 48")
    form.run.folder.set_path(str(folder / "run"))
    widget.refresh()
    seconds = gaps.measure(run.start, lambda: not run.active)
    _row(f"training, {len(run.follower.state.points)} epochs", seconds, gaps)
    print(f"\nthe run ended as: {run.follower.phase} {run.follower.problem}")
    viewer.close()


def _after(seconds: float) -> Callable[[], bool]:
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


if __name__ == "__main__":
    sys.exit(main())
