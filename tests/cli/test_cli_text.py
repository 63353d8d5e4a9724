from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.cli.terminal import columns, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("B02_s1_w1.png", "B02_s1_w1.png"),
        ("Größe µm.tif", "Größe µm.tif"),
        ("a\nb", "a\\nb"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("bad\udcff", "bad\\udcff"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(alphabet=st.characters()))
def test_whatever_the_text_the_result_is_one_printable_line(text: str) -> None:
    assert printable(text).isprintable()


def test_columns_are_aligned_without_trailing_spaces() -> None:
    assert columns([["name", "x"], ["a", "long one"]], "  ") == "  name  x\n  a     long one"
