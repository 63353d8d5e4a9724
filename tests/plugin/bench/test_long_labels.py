"""Long files of labels are read beside the window, which can be closed or go on meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from simulated_rows import make_rows

from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.io.label_file import LabelFile, is_short
from napari_cellclf.plugin.bench import label_tab
from napari_cellclf.plugin.bench.label_tab import LabelTab

PATIENCE = 30_000


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Write a file too long to be read at once."""
    path, book = tmp_path / "labels.csv", LabelBook("ada", ("dim", "bright"))
    file = LabelFile(path, book)
    for name in ("dim", "bright"):
        book.label(make_rows(1000, tmp_path).ids, name)
    file.close()
    assert not is_short(path)
    return path


@pytest.fixture
def gate(monkeypatch: Any) -> threading.Event:
    """Hold up whatever reads labels until it is set."""
    event = threading.Event()

    class Slow(LabelFile):
        def _read(self) -> Any:
            event.wait(30)
            return super()._read()

    monkeypatch.setattr(label_tab, "LabelFile", Slow)
    return event


@pytest.fixture
def tab(qtbot: Any, gate: threading.Event) -> Iterator[LabelTab]:
    widget = LabelTab()
    qtbot.addWidget(widget)
    widget.resize(360, 600)
    widget.show()
    yield widget
    gate.set()
    widget.shut_down()


def is_free(path: Path) -> bool:
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        with lock.acquire(timeout=0):
            return True
    except TimeoutError:
        return False


def test_the_tab_tells_that_it_reads(
    tab: LabelTab, gate: threading.Event, labels: Path, qtbot: Any
) -> None:
    tab.show_collection(make_rows(1000, labels.parent), labels, "ada")
    assert tab.page is None
    assert "Reading the labels" in tab._empty.text()
    gate.set()
    qtbot.waitUntil(lambda: tab.page is not None, timeout=PATIENCE)
    assert len(tab.page.book.labels) == 1000
    assert "1,000 labels are in it already" in tab.message.text()
    # What is labelled from now on goes to the file.
    tab.page.label("dim", [3])
    tab.shut_down()
    assert labels.read_text().splitlines()[-1].startswith("image_00003.png,,,,dim,ada")
    assert is_free(labels)


def test_other_images_may_be_opened_with_the_same_labels_meanwhile(
    tab: LabelTab, gate: threading.Event, labels: Path, qtbot: Any
) -> None:
    tab.show_collection(make_rows(1000, labels.parent), labels, "ada")
    tab.show_collection(make_rows(7, labels.parent), labels, "ada")
    gate.set()
    qtbot.waitUntil(lambda: tab.page is not None, timeout=PATIENCE)
    assert len(tab.page.collection) == 7
    assert tab.message.is_wrong() is False
    assert not is_free(labels)


def test_closing_meanwhile_lets_other_programs_have_the_file(
    tab: LabelTab, gate: threading.Event, labels: Path, qtbot: Any
) -> None:
    tab.show_collection(make_rows(1000, labels.parent), labels, "ada")
    tab.shut_down()
    gate.set()
    qtbot.waitUntil(lambda: is_free(labels), timeout=PATIENCE)
    qtbot.wait(300)
    assert tab.page is None


def test_what_is_wrong_with_it_is_told_in_the_window(
    tab: LabelTab, gate: threading.Event, labels: Path, qtbot: Any
) -> None:
    labels.write_text("path,label\n" + "a.png,dim\n" * 5000)
    tab.show_collection(make_rows(7, labels.parent), labels, "ada")
    gate.set()
    qtbot.waitUntil(tab.message.is_wrong, timeout=PATIENCE)
    assert "choose another name" in tab.message.text()
    assert tab.page is None
    assert "cannot be labelled yet" in tab._empty.text()


def test_another_person_s_labels_are_read_beside_the_window(
    tab: LabelTab, gate: threading.Event, labels: Path, tmp_path: Path, qtbot: Any
) -> None:
    gate.set()
    tab.show_collection(make_rows(1000, labels.parent), tmp_path / "own.csv", "bob")
    page = tab.page
    page.book.label(page.collection.ids[:10], "dim")
    assert page.compare_with(labels)
    assert "Reading the other labels" in page.message.text()
    qtbot.waitUntil(lambda: page.agreement is not None, timeout=PATIENCE)
    assert len(page.agreement.differing) == 10
