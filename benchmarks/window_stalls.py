"""How long the window stands still with 5,000 rows: opened, labelled, sorted, predicted, saved.

``python benchmarks/window_stalls.py`` opens napari with the dock on simulated images and objects
and clicks through it; a timer that should fire every 5 ms tells the longest gap between two turns
of the event loop in each phase, and the most processor time that the window's own thread used in
one gap, which a busy machine hardly changes. The features are random numbers: a child process
computes the real ones. Needs a display (without one: ``xvfb-run -a python
benchmarks/window_stalls.py``). ``--rows N`` (5,000); ``--profile WORDS`` tells what takes long in
the phases whose titles hold these words.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import train_widget_stall
from train_widget_stall import Gaps

SIDE, PITCH = 24, 28
CLASSES = ("dim", "mid", "bright")
_NO_TITLE = "\0"

_MAKE_MODEL = """
import sys
import numpy as np
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ObjectCrop
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.save import save_bundle

for path, crop in zip(sys.argv[1:], (None, ObjectCrop(side=24))):
    network = build_network("compact-cnn", input_shape=(None, None, 1), n_classes=3)
    pixels = np.random.default_rng(0).integers(0, 255, (1, 48, 48), np.uint8)
    save_bundle(
        network, path,
        preprocessing=Preprocessing(channels=(ChannelSpec(name="DNA"),), object_crop=crop),
        classes=("dim", "mid", "bright"), architecture="compact-cnn",
        test_image=Image(pixels, "CYX", ("DNA",)),
    )
"""


class Table:
    """Measures phases and prints a row for each."""

    def __init__(self, profiled: str) -> None:
        self._gaps = Gaps()
        self._profiled = profiled
        print("| phase | length | longest gap | gaps > 100 ms | most own processor time |")
        print("| --- | --- | --- | --- | --- |")

    def phase(
        self,
        title: str,
        begin: Callable[[], Any],
        is_over: Callable[[], bool],
        settle: float = 0.5,
    ) -> None:
        """Measure from the beginning until it is over, and a moment longer."""
        over = _and_then(is_over, settle)
        profile = cProfile.Profile() if self._profiled in title else None
        if profile is not None:
            profile.enable()
        seconds = self._gaps.measure(begin, over)
        if profile is not None:
            profile.disable()
        gaps, own = self._gaps.gaps, self._gaps.own
        count = sum(gap > 100 for gap in gaps)
        print(
            f"| {title} | {seconds - settle:.1f} s | {max(gaps, default=0):.0f} ms | {count} "
            f"| {max(own, default=0):.0f} ms |",
            flush=True,
        )
        if profile is not None:
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


def _and_then(is_over: Callable[[], bool], settle: float) -> Callable[[], bool]:
    import time

    ended: list[float] = []

    def over() -> bool:
        if not ended and is_over():
            ended.append(time.perf_counter())
        return bool(ended) and time.perf_counter() - ended[0] > settle

    return over


def write_images(folder: Path, count: int) -> Path:
    """Write images of three classes, told apart by how bright they are."""
    from imagecodecs import png_encode

    place = folder / "cells"
    place.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = random.integers(0, 40, (SIDE, SIDE), np.uint8) + np.uint8(70 * (number % 3))
        (place / f"P{number % 4}_cell_{number:05}.png").write_bytes(png_encode(pixels))
    return place


def field(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Make an image and a mask of so many squares."""
    side = int(np.ceil(np.sqrt(count)))
    mask = np.zeros((side * PITCH, side * PITCH), np.int32)
    for number in range(count):
        y, x = (PITCH * at + 4 for at in divmod(number, side))
        mask[y : y + 18, x : x + 18] = number + 1
    noise = np.random.default_rng(1).integers(0, 40, mask.shape, np.uint8)
    return noise + (mask % 3 * 70 * (mask > 0)).astype(np.uint8), mask


def write_labels(path: Path, folder: Path, count: int) -> None:
    """Write a label file of so many rows, most of them labels that were changed later."""
    from napari_cellclf.io.label_file import _HEADING

    names = sorted(folder.glob("*.png"))
    lines = [
        f"{names[number % len(names)].name},,,,{CLASSES[number % 3]},ada,2026-03-01T12:00:00Z,,,"
        for number in range(count)
    ]
    path.write_text(_HEADING + "\n".join(lines) + "\n")


def _use_random_features() -> None:
    from napari_cellclf.models.backbones import RowFeatures
    from napari_cellclf.plugin.bench import learning

    def row_features(collection: Any, backbone: Any, **others: Any) -> RowFeatures:
        random = np.random.default_rng(0)
        features = random.normal(size=(len(collection), 1280)).astype(np.float32)
        features[:, :3] += 6 * np.eye(3)[np.arange(len(collection)) % 3]
        return RowFeatures(np.abs(features), {}, (("",),) * len(collection))

    learning.row_features = row_features


class Walk:
    """Clicks through the dock."""

    def __init__(self, table: Table, folder: Path, rows: int) -> None:
        import napari

        self.table, self.folder, self.rows = table, folder, rows
        self._before: Any = None
        self.viewer = napari.Viewer(show=True)
        window = self.viewer.window
        _, self.bench = window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")

    def files(self, place: Path) -> None:
        """Open a folder, label in it, and look it up by name, class and field."""
        from qtpy.QtCore import Qt, QTimer
        from qtpy.QtTest import QTest

        bench, phase = self.bench, self.table.phase
        phase("nothing", lambda: None, lambda: True, 2)
        phase("open a folder", lambda: bench.images.files.set_path(str(place)), self._is_open)
        phase("first thumbnails", lambda: bench.show_tab(1), lambda: True, 2)
        page = bench.label.page
        for name in CLASSES:
            page.book.add_class(name)
        phase("features arrive", lambda: None, lambda: bench.learning.is_ready, 1)
        view, keys = page.gallery.view, list("123" * 10)
        self.viewer.window._qt_window.activateWindow()
        view.setFocus()

        def press() -> None:
            if keys:
                QTest.keyClick(view, keys.pop())
                QTimer.singleShot(250, press)

        phase("30 keys", press, lambda: not keys, 3)
        assert page.book.labels
        view.selectAll()
        phase("one key for all rows", lambda: QTest.keyClick(view, "2"), lambda: True, 2)
        undo = Qt.KeyboardModifier.ControlModifier
        phase("undo it", lambda: QTest.keyClick(view, Qt.Key.Key_Z, undo), lambda: True, 2)
        for how in ("class", "least sure", "most sure", "name"):
            phase(f"sort by {how}", partial(page.gallery.sort_by, how), lambda: True)
        text = page.gallery._text
        for key in "_001":
            phase(f"type {key} to find", partial(QTest.keyClick, text, key), lambda: True)
        phase("find nothing any more", text.clear, lambda: True)
        for tab in (2, 3, 0, 1):
            phase(f"first time on tab {tab}", partial(bench.show_tab, tab), lambda: True, 1)
        for tab in (0, 3, 1):
            phase(f"again on tab {tab}", partial(bench.show_tab, tab), lambda: True)
        table = self.folder / "written.csv"
        phase("write the table of labels", lambda: page.write_table(table), lambda: True)

    def long_labels(self, place: Path) -> None:
        """Open other labels of the same images, then those of another annotator."""
        images, long = self.bench.images, self.folder / "long.csv"
        write_labels(long, place, 20 * self.rows)
        before = self.bench.label.page

        def opened() -> bool:
            page = self.bench.label.page
            return page is not None and page is not before and bool(page.book.labels)

        title = f"open labels of {20 * self.rows:,} lines"
        self.table.phase(title, lambda: images.labels.set_path(str(long)), opened, 2)
        other = self.folder / "other.csv"
        write_labels(other, place, 20 * self.rows)
        page = self.bench.label.page
        self.table.phase(
            f"compare with {20 * self.rows:,} lines",
            lambda: page.compare_with(other),
            lambda: page.agreement is not None,
        )

    def layers(self) -> None:
        """Open the objects of a layer, classify them, and go through them."""
        bench, phase = self.bench, self.table.phase
        pixels, mask = field(self.rows)
        image = self.viewer.add_image(pixels, name="DNA")
        self.labels = self.viewer.add_labels(mask, name="nuclei")
        self.viewer.layers.selection = {image}
        bench.show_tab(0)
        bench.images.rows.setCurrentIndex(1)
        self._before = bench.images.collection
        phase("open a layer", lambda: bench.images.origin.setCurrentIndex(1), self._is_open, 1)
        phase("its first thumbnails", lambda: bench.show_tab(1), lambda: True, 2)
        phase("go to Images and back", self._there_and_back, lambda: True, 1)
        phase("its features arrive", lambda: None, lambda: bench.learning.is_ready, 1)

    def _there_and_back(self) -> None:
        self.bench.show_tab(0)
        self.bench.show_tab(1)

    def results(self) -> None:
        """Classify the objects of the layer; look at them, save them."""
        bench, phase = self.bench, self.table.phase
        bench.show_tab(3)
        results = bench.results
        results.form.model.choose("objects")
        results.form.tabs.setCurrentIndex(0)
        runner, view = results.runner, results.form.results
        phase("classify objects", results.classify, lambda: not runner.running, 1)
        assert "confidence" in self.labels.features, results.form.message.text()
        by_class = view.objects.by_class
        phase("former colours", by_class.click, lambda: True)
        phase("class colours", by_class.click, lambda: True)
        phase("select a row", lambda: view.table.setCurrentIndex(_index(view, 9)), lambda: True)
        phase("sort the table", lambda: view.table.sortByColumn(2, _ascending()), lambda: True)
        csv = str(self.folder / "cells.csv")
        phase("save", lambda: results.save_csv(results._shown, csv), lambda: True)
        phase("classify them again", results.classify, lambda: not runner.running, 1)
        results.form.tabs.setCurrentIndex(2)
        phase("classify the rows", results.classify, lambda: not runner.running, 1)
        phase("remove the layer", lambda: self.viewer.layers.remove(self.labels), lambda: True, 1)

    def folder_results(self, place: Path) -> None:
        """Classify the images of the folder."""
        bench, phase = self.bench, self.table.phase
        bench.show_tab(0)
        bench.images.rows.setCurrentIndex(0)
        self._before = bench.images.collection
        to_files = partial(bench.images.origin.setCurrentIndex, 0)
        phase("open the folder again", to_files, self._is_open, 1)
        bench.show_tab(3)
        results = bench.results
        results.form.model.choose("images")
        results.form.tabs.setCurrentIndex(2)
        runner = results.runner
        phase("classify images", results.classify, lambda: not runner.running, 1)
        phase("close", self._close, lambda: True)

    def _close(self) -> None:
        self.viewer.window.remove_dock_widget(self.bench)

    def _is_open(self) -> bool:
        collection = self.bench.images.collection
        return collection is not None and collection is not self._before


def _index(view: Any, row: int) -> Any:
    return view.table.model().index(row, 0)


def _ascending() -> Any:
    from qtpy.QtCore import Qt

    return Qt.SortOrder.AscendingOrder


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--profile", default=_NO_TITLE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cellclf-stalls-") as name:
        folder = Path(name)
        os.environ |= {
            "NAPARI_CONFIG": str(folder / "napari.yaml"),
            "CELLCLF_MODELS": str(folder / "models"),
            "CELLCLF_CACHE": str(folder / "cache"),
            "HOME": name,
        }
        (folder / "models").mkdir()
        train_widget_stall.PATIENCE_SECONDS = 60
        models = [str(folder / "models" / f"{kind}.cellclf") for kind in ("images", "objects")]
        subprocess.run([sys.executable, "-c", _MAKE_MODEL, *models], check=True)
        _use_random_features()
        walk = Walk(Table(options.profile), folder, options.rows)
        place = write_images(folder, options.rows)
        walk.files(place)
        walk.long_labels(place)
        walk.layers()
        walk.results()
        walk.folder_results(place)
        walk.viewer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
