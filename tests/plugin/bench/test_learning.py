"""Learning while labelling, by keys, in a real window."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qtpy.QtCore import Qt, QTimer
from qtpy.QtTest import QTest
from simulated_rows import LEVELS, make_rows, true_class

from napari_cellclf.bundles.backbone_files import keep_backbone
from napari_cellclf.bundles.schema import BackboneSpec
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.core.seen_images import pixel_hashes
from napari_cellclf.core.suggesting import Estimate, LabelCheck, Suggester
from napari_cellclf.plugin.bench import learning
from napari_cellclf.plugin.bench.label_page import LabelPage
from napari_cellclf.plugin.bench.label_tab import LabelTab
from napari_cellclf.plugin.bench.learning import Learning, estimate_text

PATIENCE = 60_000
CLASSES = tuple(LEVELS)
LEFT = Qt.MouseButton.LeftButton


class Brightness:
    """Stands for the child process; an image's features say which levels it has, and noise."""

    device = "here"
    width = 16

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.may_go_on.set()
        self.images = 0
        self.is_closed = False
        self._random = np.random.default_rng(0)

    def wait_until_ready(self) -> None:
        pass

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.may_go_on.wait()
        self.images += len(batch)
        noise = self._random.normal(size=(len(batch), self.width)).astype(np.float32)
        # Rows of these tests differ in which pixel is the darkest and the brightest by far.
        noise[:, 0] += 8 * batch.reshape(len(batch), -1).max(axis=1)
        return noise

    def close(self) -> None:
        self.is_closed = True
        self.may_go_on.set()


@pytest.fixture
def engines(monkeypatch: Any, tmp_path: Path) -> list[Brightness]:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(learning, "_SOON_MS", 0)
    started: list[Brightness] = []

    def start(backbone: Any) -> Brightness:
        started.append(Brightness())
        return started[-1]

    monkeypatch.setattr(learning, "start_process", start)
    return started


class Opened:
    """A tab with a page of simulated rows, and what learns for it."""

    def __init__(
        self, tab: LabelTab, count: int, classes: tuple[str, ...], told_apart: bool
    ) -> None:
        self.tab = tab
        self.learning = Learning(tab)
        rows = make_rows(count, told_apart=told_apart)
        self.page = LabelPage(rows, LabelBook("ada", classes))
        tab.page = self.page
        tab._pages.addWidget(self.page)
        tab._pages.setCurrentWidget(self.page)
        tab.footer.setVisible(True)

    def begin(self) -> None:
        self.tab.page_changed.emit(self.page)

    def press_the_right_key(self) -> int:
        row = self.page.gallery.current()
        key = CLASSES.index(true_class(row)) + 1
        QTest.keyClick(self.page.gallery.view, str(key))
        return row


@pytest.fixture
def opener(make_napari_viewer: Any, engines: Any, qtbot: Any) -> Iterator[Callable[..., Opened]]:
    opened: list[Opened] = []

    def make(
        count: int = 60, classes: tuple[str, ...] = CLASSES, *, told_apart: bool = False
    ) -> Opened:
        viewer = make_napari_viewer(show=True)
        tab = LabelTab()
        viewer.window.add_dock_widget(tab, name="Label")
        viewer.window._qt_window.resize(1000, 760)
        opened.append(Opened(tab, count, classes, told_apart))
        viewer.window._qt_window.activateWindow()
        page = opened[-1].page
        focused = page.gallery.view if classes else page.bar.name.line
        focused.setFocus()
        qtbot.waitUntil(focused.hasFocus, timeout=PATIENCE)
        return opened[-1]

    yield make
    for one in opened:
        one.learning.stop()
        one.tab.shut_down()


def test_suggestions_come_while_labels_are_given(opener: Any, engines: Any, qtbot: Any) -> None:
    opened = opener(60)
    opened.begin()
    page, learn = opened.page, opened.learning
    qtbot.waitUntil(lambda: learn.is_ready, timeout=PATIENCE)
    assert engines[0].is_closed
    assert not opened.tab.progress.isVisible()
    seen = []
    for _ in range(12):
        before = page.gallery.current()
        seen.append(opened.press_the_right_key())
        qtbot.waitUntil(lambda row=before: page.gallery.current() != row, timeout=PATIENCE)
    assert len(set(seen)) == 12
    qtbot.waitUntil(lambda: bool(page.gallery.rows.suggestion(0)), timeout=PATIENCE)
    qtbot.waitUntil(lambda: "drawn at random" in page.estimate.text(), timeout=PATIENCE)
    drawn = [label.drawn for _, label in page.book.items()]
    assert drawn.count("random") == 2


def test_nothing_fails_before_the_first_label(opener: Any, engines: Any, qtbot: Any) -> None:
    opened = opener(30)
    opened.begin()
    qtbot.waitUntil(lambda: opened.learning._found is not None, timeout=PATIENCE)
    qtbot.waitUntil(lambda: not opened.learning._estimate.running, timeout=PATIENCE)
    assert "Nothing is suggested" not in opened.page.estimate.text()


def test_labels_before_the_features_are_learnt_from_then(
    opener: Any, engines: Any, qtbot: Any
) -> None:
    opened = opener(60)
    for _ in range(9):
        opened.press_the_right_key()
    assert len(opened.page.book.labels) == 9
    opened.begin()
    qtbot.waitUntil(lambda: bool(opened.page.gallery.rows.suggestion(50)), timeout=PATIENCE)


def test_it_can_be_paused_resumed_and_stopped_at_once(
    opener: Any, engines: Any, qtbot: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("napari_cellclf.models.backbones._BATCH", 4)
    opened = opener(60)
    tab = opened.tab
    opened.begin()
    qtbot.waitUntil(lambda: tab.pause.isVisible() or opened.learning.is_ready, timeout=PATIENCE)
    qtbot.mouseClick(tab.pause, LEFT)
    assert tab.pause.text() == "Resume"
    assert "Paused" in opened.page.estimate.text()
    qtbot.wait(300)
    images = sum(engine.images for engine in engines)
    qtbot.wait(300)
    assert sum(engine.images for engine in engines) == images < 60
    qtbot.mouseClick(tab.pause, LEFT)
    assert tab.pause.text() == "Pause"
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    assert sum(engine.images for engine in engines) == 60


def test_closing_the_page_ends_the_process(opener: Any, engines: Any, qtbot: Any) -> None:
    opened = opener(60)
    opened.begin()
    qtbot.waitUntil(lambda: bool(engines) or opened.learning.is_ready, timeout=PATIENCE)
    opened.learning.show_page(None)
    assert engines[0].is_closed
    assert not opened.learning.is_ready
    assert not opened.tab.pause.isVisible()


def test_of_many_keys_only_the_last_state_is_learnt(
    opener: Any, engines: Any, qtbot: Any, monkeypatch: Any
) -> None:
    opened = opener(60)
    opened.begin()
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    suggester = opened.learning.learnable.suggester
    counts: list[int] = []
    refit = suggester.refit

    def slow(labels: Any, *others: Any) -> Any:
        counts.append(len(labels))
        time.sleep(0.2)
        return refit(labels, *others)

    qtbot.waitUntil(lambda: not opened.learning._refit.running, timeout=PATIENCE)
    monkeypatch.setattr(suggester, "refit", slow)
    for count in range(1, 9):
        opened.learning.learn(dict.fromkeys(range(count), 0), 3, (), ())
    qtbot.waitUntil(lambda: not opened.learning._refit.running, timeout=PATIENCE)
    assert counts == [1, 8]


def test_one_key_and_the_next_image_stands(opener: Any, engines: Any, qtbot: Any) -> None:
    opened = opener(5000)
    opened.begin()
    page = opened.page
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=2 * PATIENCE)
    for _ in range(4):
        row = opened.press_the_right_key()
        qtbot.waitUntil(lambda row=row: page.gallery.current() != row, timeout=PATIENCE)
    times, gaps = [], []
    last = [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(tick)
    timer.start(5)
    for _ in range(12):
        began = time.perf_counter()
        row = opened.press_the_right_key()
        while page.gallery.current() == row:
            qtbot.wait(2)
        times.append(time.perf_counter() - began)
    timer.stop()
    # Generous: other work runs beside these tests.
    assert np.median(times) < 1
    assert np.median(gaps) < 0.1


def test_images_that_cannot_be_read_are_told(opener: Any, engines: Any, qtbot: Any) -> None:
    opened = opener(20)
    opened.page.collection._read_row = _refuse
    opened.begin()
    qtbot.waitUntil(lambda: "cannot be read" in opened.page.estimate.text(), timeout=PATIENCE)
    assert not opened.learning.is_ready


def _refuse(row: Any) -> Any:
    from napari_cellclf.errors import UnreadableImageError

    raise UnreadableImageError(f"{row.source}: is damaged")


@pytest.mark.parametrize(
    ("found", "n_random", "words"),
    [
        (None, 3, "7 more images"),
        (None, 9, "1 more image drawn"),
        (None, 12, "Too few groups"),
        (Estimate(0.841, 0.71, 0.92, 20), 20, "84 % of new images"),
        (Estimate(0.8, 0.6, 0.9, 20, 5), 20, "without its embryo (5 of them)"),
    ],
)
def test_the_estimate_in_words(found: Any, n_random: int, words: str) -> None:
    assert words in estimate_text(found, n_random, "embryo", 100)


def test_of_few_images_no_estimate_is_promised() -> None:
    assert "too few images" in estimate_text(None, 2, None, 35)
    assert "8 more images" in estimate_text(None, 2, None, 36)


def test_what_was_learnt_becomes_a_model_at_once(
    make_napari_viewer: Any, models: Path, qtbot: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    from skimage.io import imsave

    from napari_cellclf.plugin.bench.widget import RESULTS

    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "cells"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(12):
        y, x = np.mgrid[:48, :48] + random.uniform(0, 9)
        lines = y if number % 2 else x
        pixels = 127 + 100 * np.sin(lines / 2) + random.normal(0, 5, (48, 48))
        file = folder / f"cell{number:02}.png"
        imsave(file, pixels.clip(0, 255).astype(np.uint8), check_contrast=False)
    viewer = make_napari_viewer(show=True)
    _, bench = viewer.window.add_plugin_dock_widget("napari-cellclf", "Cell Classifier")
    viewer.window._qt_window.activateWindow()
    bench.images.choose_path(str(folder))
    qtbot.waitUntil(bench.images.start.isEnabled, timeout=PATIENCE)
    qtbot.mouseClick(bench.images.start, LEFT)
    tab = bench.label
    qtbot.mouseClick(tab.use, LEFT)
    assert "Nothing has been learnt yet" in tab.message.text()
    for name in ("across", "along"):
        tab.page.bar.ask_for_class()
        QTest.keyClicks(tab.page.bar.name.line, name)
        QTest.keyClick(tab.page.bar.name.line, Qt.Key.Key_Return)
    # The network starts in a process of its own.
    qtbot.waitUntil(lambda: bench.learning.is_ready, timeout=4 * PATIENCE)
    qtbot.mouseClick(tab.use, LEFT)
    assert "at least two classes" in tab.message.text()
    view = tab.page.gallery.view
    # The click has left the keys to the tiles.
    assert not tab.use.hasFocus()
    view.setFocus()
    qtbot.waitUntil(view.hasFocus, timeout=PATIENCE)
    for _ in range(8):
        row = tab.page.gallery.current()
        QTest.keyClick(view, "12"[row % 2])
        qtbot.waitUntil(lambda row=row: tab.page.gallery.current() != row, timeout=PATIENCE)
    assert "at least two classes" not in tab.message.text()
    left = tab.page.gallery.current()
    wanted = ("across", "along")[left % 2]
    qtbot.waitUntil(lambda: tab.page.gallery.rows.suggestion(left) == wanted, timeout=PATIENCE)
    qtbot.mouseClick(tab.use, LEFT)
    qtbot.waitUntil(lambda: bench.tabs.currentIndex() == RESULTS, timeout=4 * PATIENCE)
    assert "Saved as cells-8-labels" in tab.message.text()
    said = bench.results.form.message.text()
    assert "Saved as cells-8-labels" in said
    assert "Press Classify" in said
    assert bench.results.form.classify.isEnabled()
    assert (models / "cells-8-labels.cellclf").exists()
    assert bench.results.form.model.current().reference == "cells-8-labels"


def test_a_model_is_saved_although_other_images_are_opened(
    opener: Any, engines: Any, qtbot: Any, monkeypatch: Any
) -> None:
    opened = opener(30)
    opened.begin()
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    may_end = threading.Event()

    def save(*known: Any) -> str:
        may_end.wait(60)
        return "kept"

    monkeypatch.setattr(learning, "save_model", save)
    classes: set[str] = set()
    while len(classes) < 2:
        row = opened.press_the_right_key()
        classes.add(true_class(row))
        qtbot.waitUntil(lambda row=row: opened.page.gallery.current() != row, timeout=PATIENCE)
    saved: list[tuple[str, bool]] = []
    opened.learning.model_saved.connect(lambda name, moved_on: saved.append((name, moved_on)))
    qtbot.mouseClick(opened.tab.use, LEFT)
    assert "Saving a model" in opened.tab.message.text()
    opened.learning.show_page(None)
    may_end.set()
    qtbot.waitUntil(lambda: saved == [("kept", True)], timeout=PATIENCE)
    assert opened.tab.use.isEnabled()


def test_features_may_come_before_the_first_class(opener: Any, qtbot: Any) -> None:
    opened = opener(20, ())
    opened.begin()
    # An error in a slot would fail the test.
    qtbot.waitUntil(lambda: opened.learning._found is not None, timeout=PATIENCE)
    assert opened.page.gallery.rows.rowCount() == 20
    for name in CLASSES:
        opened.page.book.add_class(name)
    for _ in range(12):
        row = opened.press_the_right_key()
        qtbot.waitUntil(lambda row=row: opened.page.gallery.current() != row, timeout=PATIENCE)
    qtbot.waitUntil(lambda: bool(opened.page.gallery.rows.suggestion(0)), timeout=PATIENCE)


def test_percentages_are_softened_once_it_is_known_how_sure_they_may_be(
    opener: Any, engines: Any, qtbot: Any, monkeypatch: Any
) -> None:
    may_tell = threading.Event()

    def check(suggester: Suggester, *asked: object) -> LabelCheck:
        return LabelCheck(5.0 if may_tell.wait(60) else 1.0, np.full(len(suggester), np.nan))

    monkeypatch.setattr(Suggester, "check", check)
    opened = opener(60)
    opened.begin()
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    for _ in range(12):
        row = opened.press_the_right_key()
        qtbot.waitUntil(lambda row=row: opened.page.gallery.current() != row, timeout=PATIENCE)
    row = opened.page.gallery.current()
    rows = opened.page.gallery.rows
    before, suggested = rows.confidence[row], rows.suggested[row]
    assert before > 0.9
    may_tell.set()
    # Without another key.
    qtbot.waitUntil(lambda: rows.confidence[row] < before - 0.1, timeout=PATIENCE)
    assert rows.suggested[row] == suggested


def opened_with_wrong_labels(opener: Any, qtbot: Any) -> Any:
    """Label 40 of 60 rows, 7 and 23 wrong, and wait until that is noticed."""
    opened = opener(60, told_apart=True)
    opened.begin()
    page = opened.page
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    for row in range(40):
        right = CLASSES.index(true_class(row))
        label = CLASSES[(right + (row in (7, 23))) % len(CLASSES)]
        page.book.label([page.collection.rows[row].id], label)
    qtbot.waitUntil(lambda: "2 labels look wrong" in page.estimate.text(), timeout=PATIENCE)
    return opened


def test_labels_that_look_wrong_can_be_sorted_to_the_front(opener: Any, qtbot: Any) -> None:
    page = opened_with_wrong_labels(opener, qtbot).page
    box = page.gallery.tab_stops[0]
    box.setFocus()
    while box.currentText() != "Sort: likely wrong labels":
        place = box.currentIndex()
        QTest.keyClick(box, Qt.Key.Key_Down)
        box.setFocus()
        assert box.currentIndex() == place + 1
    qtbot.waitUntil(lambda: set(page.gallery.rows.shown[:2].tolist()) == {7, 23}, timeout=PATIENCE)
    # A key corrects it; then the others do not speak against it any more.
    first = page.gallery.rows.number(0)
    page.gallery.go_to(first)
    page.gallery.view.setFocus()
    QTest.keyClick(page.gallery.view, str(CLASSES.index(true_class(first)) + 1))
    qtbot.waitUntil(lambda: "1 label looks wrong" in page.estimate.text(), timeout=PATIENCE)


_TESTED = """
import sys
from pathlib import Path
import keras, numpy as np
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.save import save_bundle

network = build_network("compact-cnn", input_shape=(None, None, 1), n_classes=2)
test = Image(np.random.default_rng(0).integers(0, 255, (1, 48, 48), np.uint8), "CYX", ("grey",))
save_bundle(
    network, sys.argv[1], preprocessing=Preprocessing(channels=(ChannelSpec(name="grey"),)),
    classes=("a", "b"), architecture="compact-cnn", test_image=test,
    seen_images=SeenImages.of([(sys.argv[2], "test"), (sys.argv[3], "train")]),
)
"""


def test_images_that_a_model_set_aside_for_its_test_are_not_listed_as_likely_wrong(
    opener: Any, qtbot: Any, tmp_path: Path, monkeypatch: Any, run_python: Callable[..., str]
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    opened = opened_with_wrong_labels(opener, qtbot)
    page, learn = opened.page, opened.learning
    hashes = [pixel_hashes(page.collection.read(row))[0] for row in (7, 23)]
    assert hashes[0] != hashes[1]
    (tmp_path / "models").mkdir()
    run_python(_TESTED, str(tmp_path / "models" / "tested.cellclf"), *hashes)
    # As the dock does when a training has ended.
    learn.judge_again()
    qtbot.waitUntil(lambda: "1 label looks wrong" in page.estimate.text(), timeout=PATIENCE)
    assert np.isnan(page.doubts[7])
    assert page.doubts[23] > 0


def test_another_network_looks_at_the_images_where_one_was_added(
    opener: Any, engines: Any, qtbot: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    spec = BackboneSpec(
        name="mine", sha256="0" * 64, size=(32, 32), n_inputs=3, output="out", n_features=16
    )
    keep_backbone(spec, b"a network")
    opened = opener()
    box = opened.tab.backbone
    opened.begin()
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    assert box.currentData() == "efficientnet-lite0"
    assert len(engines) == 1
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert box.currentData() == "mine"
    qtbot.waitUntil(lambda: len(engines) == 2, timeout=PATIENCE)
    qtbot.waitUntil(lambda: opened.learning.is_ready, timeout=PATIENCE)
    # What is saved as a model is built on it.
    assert opened.learning.learnable.backbone.file == spec
    QTest.keyClick(box, Qt.Key.Key_Down)
    assert box.currentData() == "mine"
    assert "dinov2-vits14 is not here" in opened.tab.message.text()
    assert len(engines) == 2
