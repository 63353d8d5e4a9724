from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.cli.app import COMMANDS, main
from napari_cellclf.cli.terminal import ProgressReporter, columns, printable
from napari_cellclf.errors import InputError


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


HOSTILE = "plate\x1b[2J\u202e\x9b31m"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_what_acts_on_a_terminal(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(args: argparse.Namespace) -> int:
        sys.stdout.write(HOSTILE)
        sys.stderr.write(HOSTILE)
        with ProgressReporter("bar") as reporter:
            reporter.begin(HOSTILE)
            reporter.note(HOSTILE)
        raise InputError(HOSTILE)

    def only_this(parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(run=say)

    module = importlib.import_module(f"napari_cellclf.cli.{command}")
    monkeypatch.setattr(module, "run", say)
    monkeypatch.setattr(module, "add_arguments", only_this)
    assert main([command]) == 1
    assert main([command, f"--{HOSTILE}"]) == 2
    said = capsys.readouterr()
    assert said.out.count("plate\\x1b[2J\\u202e\\x9b31m") == 1
    assert said.err.count("plate\\x1b[2J\\u202e\\x9b31m") >= 3
    for letter in "\u202e\x9b":
        assert letter not in said.out + said.err
    assert "\x1b[2J" not in said.out + said.err


def test_names_of_classes_and_images_are_escaped_by_data(
    tmp_path: Path, write_png: Callable[[Path, int], None], cellclf: Callable[..., Any]
) -> None:
    for name in (HOSTILE, "other"):
        for number in range(3):
            write_png(tmp_path / "data" / name / f"{number}\u202e.png", 40 * number)
    done = cellclf("data", tmp_path / "data")
    assert done.code == 0
    assert "plate\\x1b[2J\\u202e" in done.out
    for letter in "\x1b\u202e\x9b":
        assert letter not in done.out + done.err
