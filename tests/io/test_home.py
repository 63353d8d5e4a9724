"""Paths as people type them."""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.io.home import expanded


def test_a_home_that_nobody_has_is_left_as_it_was_typed() -> None:
    assert expanded("~") == Path.home()
    assert expanded("~/models") == Path.home() / "models"
    assert expanded("~nobody-of-that-name/x.keras") == Path("~nobody-of-that-name/x.keras")
    assert expanded(Path("plain")) == Path("plain")
