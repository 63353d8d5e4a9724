"""A full disk, in everything that writes: one sentence, and nothing half-written looks whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from full_disk import contents, full_disk
from napari_cellclf.bundles import model_lists
from napari_cellclf.bundles.backbone_files import keep_backbone
from napari_cellclf.bundles.catalogue import bundled_folder, note_origin
from napari_cellclf.bundles.schema import BackboneSpec
from napari_cellclf.bundles.write import share_model
from napari_cellclf.cli.demo.demo_folder import claim_folder
from napari_cellclf.cli.prediction_table import Earlier, Journal, write_bad_files
from napari_cellclf.core.evaluation import Evaluation
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.errors import CellclfError
from napari_cellclf.inference.compiled_cache import find_compiled, keep_compiled
from napari_cellclf.io.array_cache import ArrayCache
from napari_cellclf.io.csv_tables import mark_for_excel, write_cells
from napari_cellclf.io.remote.checksum import Checksum, note_checked, note_path
from napari_cellclf.io.remote.fetch import fetch_file
from napari_cellclf.io.tables import PredictionWriter, write_predictions
from napari_cellclf.models.training import measured_precision
from napari_cellclf.reports.plots import plot_confusion
from napari_cellclf.reports.report import write_report
from napari_cellclf.runs.checkpoints import DiskKeeper
from napari_cellclf.runs.progress_log import ProgressLog
from napari_cellclf.runs.tuning.search_folder import TuningFolder

#: What writes into a folder; the number makes it write something else than before.
Writer = Callable[[Path, int], Any]
MODEL = bundled_folder() / "rxrx1-celltype.cellclf"
CLASSES = ("a", "b")


def _predictions(number: int) -> Predictions:
    answers = np.array([[number / 10, 1 - number / 10]] * 3, np.float32)
    return Predictions(answers, CLASSES, ("1.png", "2.png", "3.png"))


def _report(folder: Path, number: int) -> None:
    answers = _predictions(number)
    found = Evaluation.from_probabilities(
        answers.probabilities, np.array([0, 1, 1]), CLASSES, ids=answers.ids
    )
    write_report(folder, [found], title=str(number))


def _rows(folder: Path, number: int) -> None:
    with PredictionWriter(folder / "rows.csv", CLASSES) as writer:
        writer.write({"image": f"{number}.png"})
        writer.write({"image": "wide.png", "more": number})


def _backbone(folder: Path, number: int) -> None:
    content = bytes([number]) * 100
    spec = BackboneSpec(
        name="mine",
        sha256=hashlib.sha256(content).hexdigest(),
        size=(8, 8),
        n_inputs=1,
        output="y",
        n_features=number,
    )
    keep_backbone(spec, content)


def _journal(folder: Path, number: int) -> None:
    journal = Journal(folder / "t.partial.jsonl", "work")
    try:
        journal.begin(Earlier(number, number))
        journal.add(number + 1, number + 1, ())
    finally:
        journal.close()


def _excel(folder: Path, number: int) -> None:
    table = folder / "t.csv"
    if number == 1:
        write_cells(table, [["a"], ["1"]])
    else:
        mark_for_excel(table)


def _arrays(folder: Path, number: int) -> None:
    cache = ArrayCache(folder, "group", 1 << 20)
    with cache.adding(cache.find([str(number)])) as adder:
        adder.add(str(number), np.ones(1 << 16, np.float32))


def _checkpoints(folder: Path, number: int) -> None:
    kept = DiskKeeper(folder / "checkpoints", note=lambda _: None)
    state = {"stage": "network", "best_epoch": number, "epoch": number}
    kept.save(state, {"w": np.ones(9)}, {"w": np.ones(9)})


def _log(folder: Path, number: int) -> None:
    log = ProgressLog(folder / "progress.jsonl")
    try:
        log.write("note", message=str(number))
    finally:
        log.close()


def _fetch(folder: Path, number: int) -> None:
    source = folder.parent / f"{number}.bin"
    content = source.read_bytes()
    checksum = Checksum("sha256", hashlib.sha256(content).hexdigest())
    kept = fetch_file(str(source), folder, checksum=checksum, max_bytes=100, name="file.bin")
    # Of a file that was compared; without it that is done again.
    note_path(kept).unlink()


def _share(folder: Path, number: int) -> None:
    share_model(MODEL, folder / "shared.cellclf", overwrite=True)


WRITERS: dict[str, Writer] = {
    "predictions": lambda f, n: write_predictions(_predictions(n), f / "p.csv"),
    "rows": lambda f, n: _rows(f, n) if n == 2 else None,
    "cells": lambda f, n: write_cells(f / "t.csv", [["a", str(n)]]),
    "for Excel": _excel,
    "bad files": lambda f, n: write_bad_files([(f"{n}.png", "damaged")], f / "bad.csv"),
    "journal": _journal,
    "plot": lambda f, n: plot_confusion(np.eye(2, dtype=int) * n, CLASSES, f / "c.png"),
    "report": _report,
    "backbone": _backbone,
    "origin": lambda f, n: note_origin(
        f / "m.cellclf",
        SimpleNamespace(checksum=n, uri="u"),  # type: ignore[arg-type]
    ),
    "list": lambda f, n: model_lists._keep(f / "list.json", bytes([n])),
    "search": lambda f, n: TuningFolder(f).write(f / "trials.csv", str(n)),
    "arrays": _arrays,
    "checkpoints": _checkpoints,
    "log": _log,
    "fetch": _fetch,
    "share": _share,
    "demo": lambda f, n: claim_folder(f / "demo", [str(n)]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "here"))
    folder = tmp_path / "here"
    folder.mkdir()
    for number in (1, 2):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 50)
    WRITERS[name](folder, 1)
    before = contents(folder)
    with pytest.raises(CellclfError) as told, full_disk():
        WRITERS[name](folder, 2)
    assert "\n" not in str(told.value)
    assert "File too large" in str(told.value)
    after = contents(folder)
    # Rows of a table that is not complete are there as far as they came: under another name.
    if name == "rows":
        assert after == {"rows.csv": b""}
    else:
        assert after == before


#: What can do without: it is said nowhere, and done again next time.
SPARED: dict[str, Writer] = {
    "compiled": lambda f, n: keep_compiled("network", bytes([n]) * 100),
    "precision": lambda f, n: measured_precision._write(
        f / "m.json", {"float32": measured_precision.MeasuredWay((float(n),), 1.0)}
    ),
    "checked": lambda f, n: note_checked(f / "x", Checksum("md5", str(n) * 32)),
}


@pytest.mark.parametrize("name", SPARED)
def test_what_is_only_kept_for_speed_does_not_matter(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path))
    (tmp_path / "x").touch()
    SPARED[name](tmp_path, 1)
    before = contents(tmp_path)
    assert len(before) == 2
    with full_disk():
        SPARED[name](tmp_path, 2)
    assert contents(tmp_path) == before
    assert name != "compiled" or find_compiled("network") == b"\1" * 100
