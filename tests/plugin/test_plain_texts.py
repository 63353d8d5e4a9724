"""What somebody else wrote is shown as it stands, and loads nothing."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtGui import QGuiApplication
from qtpy.QtWidgets import QLabel, QTextBrowser, QWidget

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.form import ChannelForm
from napari_cellclf.plugin.classify.results_view import Bars, ResultsView
from napari_cellclf.plugin.shared.controls import (
    MessageLine,
    Section,
    plain_hint,
    shortened,
    show_page,
    small_label,
)
from napari_cellclf.plugin.shared.messages import device_in_words, in_plain_words

EVIL = "<img src='//evil.example/share/x.png'> & <b>bold</b>"


def _bars() -> QWidget:
    bars = Bars()
    bars.show_classes([(EVIL, 0.9), ("other", 0.1)])
    return bars


def _channels() -> QWidget:
    form = ChannelForm()
    form.fill([ChannelSpec(name=EVIL)], ["DNA"], (0,))
    assert "<" not in form.box(0).toolTip()
    return form


def _section() -> QWidget:
    section = Section("Models", QWidget(), open=False)
    section.summarise(EVIL)
    return section


@pytest.mark.parametrize("make", [_bars, _channels, _section, small_label])
def test_labels_are_plain(make: Any, qtbot: Any) -> None:
    widget = make()
    qtbot.addWidget(widget)
    labels = [widget] if isinstance(widget, QLabel) else widget.findChildren(QLabel)
    assert labels
    assert all(label.textFormat() == Qt.TextFormat.PlainText for label in labels)
    assert isinstance(widget, QLabel) or EVIL in [label.text() for label in labels]


def test_a_hint_is_shown_as_it_stands() -> None:
    assert plain_hint(EVIL).startswith("&lt;img src='//evil.example")
    assert plain_hint("A & B") == "A & B"


LONG = "/data/" + "a_very_long_name_of_a_folder" * 8 + "/" + "x" * 300 + ".tif"


def _message() -> QWidget:
    line = MessageLine()
    line.say(f"{LONG} cannot be read", wrong=True)
    return line


def _small() -> QWidget:
    label = small_label()
    label.setText(LONG)
    return label


def _long_bars() -> QWidget:
    view = ResultsView()
    view.bars.show_classes([(LONG, 0.9), ("other", 0.1)])
    view._winner.setText(LONG)
    view._about.setText(LONG)
    for label in (view._winner, view._about):
        label.setVisible(True)
    return view


def _long_channels() -> QWidget:
    form = ChannelForm()
    form.fill([ChannelSpec(name=LONG)], [LONG], (0,))
    form.unfold(True)
    return form


@pytest.mark.parametrize("make", [_message, _small, _long_bars, _long_channels])
def test_long_words_do_not_widen_a_dock(make: Any, qtbot: Any) -> None:
    widget = make()
    qtbot.addWidget(widget)
    widget.show()
    assert widget.minimumSizeHint().width() < 420


def test_what_is_copied_of_a_message_is_what_was_said(qtbot: Any) -> None:
    line = _message()
    qtbot.addWidget(line)
    line.show()
    label = line._text
    assert line.text() == f"{LONG} cannot be read"
    label.setSelection(0, 10_000)
    qtbot.keyClick(label, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == f"{LONG} cannot be read"


def test_a_card_is_formatted_and_loads_nothing(qtbot: Any) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    text = f"# Title\n\n**bold** {EVIL}\n\n![x](//evil.example/x.png)\n\n{table}"
    window = show_page(parent, "Card", text)
    page = window.findChild(QTextBrowser)
    shown = page.toPlainText()
    assert shown.startswith("Title\nbold")
    assert "|" not in shown
    assert "evil.example/share" in shown
    assert page.loadResource(2, "//evil.example/x.png") is None
    with qtbot.waitSignal(window.destroyed, timeout=5000):
        window.close()


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("openvino 2026.4.1, CPU, bfloat16", "CPU (OpenVINO)"),
        ("onnxruntime 1.24.1, CUDA, float32", "CUDA (ONNX Runtime)"),
        ("cpu:0", "CPU"),
        ("https://plates.example", "https://plates.example"),
    ],
)
def test_what_computed_is_said_in_plain_words(device: str, words: str) -> None:
    assert device_in_words(device) == words


def test_notes_of_a_run_are_said_in_plain_words() -> None:
    note = "the features of the backbone are computed by openvino 2026.4.1, CPU, bfloat16"
    assert in_plain_words(note) == "the features of the backbone are computed by CPU (OpenVINO)"
    assert in_plain_words("an image, and, bfloat16") == "an image, and, bfloat16"


def test_long_names_keep_both_ends() -> None:
    assert shortened("prophase", 12) == "prophase"
    assert shortened("early prophase, left", 12) == "early … left"
    assert len(shortened("x" * 300)) == 24
