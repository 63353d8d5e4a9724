"""What somebody else wrote is shown as it stands, and loads nothing."""

from __future__ import annotations

from typing import Any

import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.form import ChannelForm
from napari_cellclf.plugin.classify.results_view import Bars
from napari_cellclf.plugin.shared.controls import Section, plain_hint, small_label

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
