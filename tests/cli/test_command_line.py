"""The command line as a process, and what holds for every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from napari_cellclf.cli import info
from napari_cellclf.cli.terminal import ExitCode

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


def run_process(
    *arguments: object, timeout: int = 240, **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "napari_cellclf", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **environment},
        check=False,
    )


def test_version(cellclf: Run) -> None:
    result = cellclf("--version")
    assert (result.code, result.out) == (0, f"cellclf {version('napari-cellclf')}\n")


def test_help_names_commands_and_exit_codes(cellclf: Run) -> None:
    result = cellclf("--help")
    assert result.code == 0
    for word in ("predict", "models", "info", "demo", "130"):
        assert word in result.out


@pytest.mark.parametrize("arguments", [[], ["no-such-command"], ["models"], ["predict"]])
def test_a_wrong_command_line_is_two(cellclf: Run, arguments: list[str]) -> None:
    result = cellclf(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "usage: cellclf" in result.err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (MemoryError(), "out of memory; try a smaller --batch-size, or smaller images"),
        (PermissionError(13, "Permission denied", "/a/b"), "/a/b: Permission denied"),
        (OSError("odd"), "odd"),
        (ImportError("No module named 'x'"), "No module named 'x'; see cellclf info"),
        (ValueError("two\nlines"), None),
    ],
)
def test_errors_from_outside_are_one_line(
    cellclf: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str | None
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(info, "gather", fail)
    if line is None:
        # A fault of this program is not dressed up as the user's.
        with pytest.raises(ValueError, match="two"):
            cellclf("info")
        return
    result = cellclf("info")
    assert result.code == ExitCode.FAILED
    assert result.err.startswith("cellclf: error: ")
    assert line in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["-v", "models", "show", "none"],
        ["models", "-v", "show", "none"],
        ["models", "show", "none", "-v"],
    ],
)
def test_verbose_shows_the_traceback(cellclf: Run, arguments: list[str]) -> None:
    assert "Traceback" in cellclf(*arguments).err
    assert "Traceback" not in cellclf("models", "show", "none").err


def test_a_process_predicts_with_clean_streams(bundle: Path, plate: Path) -> None:
    done = run_process("predict", bundle, plate, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["label"] for line in done.stdout.splitlines()] == [
        "nuclei",
        "reticulum",
    ]


def test_a_process_reports_an_error_in_one_line(tmp_path: Path) -> None:
    done = run_process("predict", "no-such-model", tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("cellclf: error: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGPIPE")
def test_a_reader_that_goes_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "napari_cellclf", "models", "list", "--json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, b"")
