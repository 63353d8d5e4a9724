from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from napari_cellclf.cli.models import actions
from napari_cellclf.models.export.export_options import FORMATS

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


def test_it_offers_the_formats_there_are() -> None:
    assert tuple(FORMATS) == actions.FORMATS


@pytest.mark.parametrize("format", ["onnx", "keras"])
def test_a_model_is_written(cellclf: Run, bundle: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / f"tiny.{format}"
    result = cellclf("models", "export", bundle, "--format", format, "--out", out)
    assert (result.code, result.err) == (0, "")
    assert result.lines == [f"wrote {out}"]
    assert out.is_file()
    again = cellclf("models", "export", bundle, "--format", format, "--out", out)
    assert again.code == 1
    assert "exists already" in again.err
    forced = cellclf("models", "export", bundle, "--format", format, "--out", out, "--overwrite")
    assert forced.code == 0


def test_authors_are_asked_for_in_one_line(cellclf: Run, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.zip"
    result = cellclf("models", "export", bundle, "--format", "bioimageio", "--out", out)
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert "--author" in result.err
    assert not out.exists()


def test_a_package_of_the_zoo(cellclf: Run, bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.zip"
    author = ["--author", "A. Nobody, Nowhere", "--author", "B. Body"]
    result = cellclf("models", "export", bundle, "--format", "bioimageio", "--out", out, *author)
    assert (result.code, result.err) == (0, "")
    assert out.is_file()
