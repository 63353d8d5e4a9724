"""A table that was not finished is gone on with, by the same command and no other."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.cli.prediction_table import (
    Earlier,
    Journal,
    journal_path,
    sole_writer,
    work_key,
)
from napari_cellclf.errors import InputError
from napari_cellclf.io.sources import ImageSource

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]
WritePng = Callable[[Path, int], None]


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def _done(journal: Path) -> int:
    lines = journal.read_text().split("\n")[1:-1] if journal.exists() else []
    return json.loads(lines[-1])["done"] if lines else 0


@pytest.fixture
def screen(tmp_path: Path, write_png: WritePng) -> Path:
    """Two thousand sites in links to a few files; the second is damaged."""
    folder = tmp_path / "screen" / "HUVEC-01" / "Plate1"
    for channel, level in ((1, 200), (2, 50)):
        write_png(folder / f"A00_s0_w{channel}.png", level)
        for number in range(1, 2000):
            name = f"{chr(65 + number // 100)}{number % 100:02d}_s1_w{channel}.png"
            os.link(folder / f"A00_s0_w{channel}.png", folder / name)
    damaged = folder / "A01_s1_w1.png"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:40])
    return tmp_path / "screen"


def test_after_a_kill_no_row_is_lost_and_none_is_there_twice(
    cellclf: Run, bundle: Path, screen: Path, tmp_path: Path
) -> None:
    table = tmp_path / "p.csv"
    command = ["predict", str(bundle), str(screen), "--batch-size", "2", "--out", str(table)]
    process = subprocess.Popen([sys.executable, "-m", "napari_cellclf", *command])
    while process.poll() is None and _done(journal_path(table)) == 0:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    done = _done(journal_path(table))
    assert 0 < done < 2000
    assert not table.exists()

    result = cellclf(*command)
    assert result.code == 3
    assert f"resuming: {done:,} of 2,000 images done in {tmp_path / 'p.partial.csv'}" in result.err
    assert "1,999 images classified" in result.err
    assert sorted(path.name for path in tmp_path.glob("*p.*")) == ["p.bad_files.csv", "p.csv"]
    assert cellclf(*command[:-1], tmp_path / "whole.csv").code == 3
    found, wanted = _rows(table), _rows(tmp_path / "whole.csv")
    assert [row["image"] for row in found] == [row["image"] for row in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert float(one["p_nuclei"]) == pytest.approx(float(other["p_nuclei"]), abs=1e-6)
    bad = (tmp_path / "p.bad_files.csv").read_text()
    assert bad == (tmp_path / "whole.bad_files.csv").read_text()


def stop_after_one_row(patch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C when the first row has been written."""
    from napari_cellclf.io.tables import PredictionWriter

    write = PredictionWriter.write

    def press(self: PredictionWriter, record: dict[str, Any]) -> None:
        write(self, record)
        signal.raise_signal(signal.SIGINT)

    patch.setattr(PredictionWriter, "write", press)


@pytest.fixture
def stopped(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A table of which Ctrl-C left one of two rows."""
    with monkeypatch.context() as patch:
        stop_after_one_row(patch)
        arguments = ("predict", bundle, plate, "--batch-size", "1", "--out", tmp_path / "p.csv")
        assert cellclf(*arguments).code == 130
    return tmp_path / "p.csv"


def test_after_a_stop_the_same_command_goes_on(
    cellclf: Run, bundle: Path, plate: Path, stopped: Path
) -> None:
    # With batches of another size, too: they do not change the numbers.
    result = cellclf("predict", bundle, plate, "--out", stopped)
    assert (result.code, result.err.splitlines()[0]) == (
        0,
        f"cellclf: resuming: 1 of 2 images done in {stopped.with_name('p.partial.csv')}",
    )
    assert [row["well"] for row in _rows(stopped)] == ["B02", "B03"]


@pytest.mark.parametrize("edit", [("B02", "B09"), ("image,label", "label,image")])
def test_rows_that_were_changed_are_computed_again(
    cellclf: Run, bundle: Path, plate: Path, stopped: Path, edit: tuple[str, str]
) -> None:
    partial = stopped.with_name("p.partial.csv")
    text = partial.read_text()
    partial.write_text(text.replace(*edit))
    assert partial.read_text() != text
    result = cellclf("predict", bundle, plate, "--out", stopped)
    assert (result.code, result.err.splitlines()[0]) == (
        0,
        f"cellclf: {partial} was changed after it was written; its rows from number 1 on are "
        "computed again",
    )
    whole = stopped.with_name("whole.csv")
    assert cellclf("predict", bundle, plate, "--out", whole).code == 0
    assert stopped.read_text() == whole.read_text()


def test_all_that_is_said_of_an_image_is_in_a_table_that_was_gone_on_with(
    cellclf: Run, telling: Path, plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "p.csv"
    command = ("predict", telling, plate, "--sets", "--batch-size", "1", "--out", table)
    with monkeypatch.context() as patch:
        stop_after_one_row(patch)
        assert cellclf(*command).code == 130
    result = cellclf(*command)
    assert (result.code, "resuming: 1 of 2 images" in result.err) == (0, True)
    whole = tmp_path / "whole.csv"
    assert cellclf(*command[:-1], whole).code == 0
    assert table.read_text() == whole.read_text()
    for row in _rows(table):
        assert {"nuclei", "reticulum"} == set(row["prediction_set"].split("; "))
        assert row["unlike"] == str(float(row["unlike_score"]) > 1)
        assert "constant channel" in row["remarks"] or "empty image" in row["remarks"]


@pytest.mark.parametrize("other", ["images", "channels", "model"])
def test_other_work_does_not_replace_it(
    cellclf: Run, bundle: Path, plate: Path, stopped: Path, other: str
) -> None:
    inputs = [next(plate.rglob("B03*w1.png"))] if other == "images" else [plate]
    channels = ["--channels", "w5="] if other == "channels" else []
    if other == "model":
        journal = journal_path(stopped)
        heading, *lines = journal.read_text().splitlines(keepends=True)
        journal.write_text(heading.replace('"work": "', '"work": "0') + "".join(lines))
    before = stopped.with_name("p.partial.csv").read_bytes()
    refused = cellclf("predict", bundle, *inputs, "--out", stopped, *channels)
    assert (refused.code, "add --overwrite to start again" in refused.err) == (1, True)
    assert stopped.with_name("p.partial.csv").read_bytes() == before
    again = cellclf("predict", bundle, *inputs, "--out", stopped, "--overwrite", *channels)
    assert again.code == 0
    assert len(_rows(stopped)) == (1 if other == "images" else 2)
    assert not journal_path(stopped).exists()


def test_a_stack_that_was_not_finished_is_not_there_twice(
    cellclf: Run, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np
    import tifffile

    from napari_cellclf.io.tables import PredictionWriter

    for name in "ab":
        pixels = np.full((5, 3, 8, 8), 9, np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels, metadata={"axes": "TCYX"}, imagej=True)
    write = PredictionWriter.write
    written: list[str] = []

    def fill(self: PredictionWriter, record: dict[str, Any]) -> None:
        if len(written) == 7:
            raise OSError(28, "No space left on device", "p.partial.csv")
        written.append(record["image"])
        write(self, record)

    command = ("predict", bundle, *sorted(tmp_path.glob("*.tif")), "--out", tmp_path / "p.csv")
    with monkeypatch.context() as patch:
        patch.setattr(PredictionWriter, "write", fill)
        assert cellclf(*command, "--batch-size", "1").code == 1
    assert len(_rows(tmp_path / "p.partial.csv")) == 7
    assert "resuming: 1 of 2 images" in cellclf(*command).err
    ids = [row["image"] for row in _rows(tmp_path / "p.csv")]
    assert ids == [f"{tmp_path / name}.tif[t={t}]" for name in "ab" for t in range(5)]


def test_two_processes_do_not_write_one_table(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path
) -> None:
    with sole_writer(tmp_path / "p.csv"):
        result = cellclf("predict", bundle, plate, "--out", tmp_path / "p.csv")
    assert (result.code, "another process is writing" in result.err) == (1, True)
    assert cellclf("predict", bundle, plate, "--out", tmp_path / "p.csv").code == 0


lines_of_work = st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=8)


@settings(max_examples=80, deadline=None)
@given(work=lines_of_work, cut=st.integers(0, 400), lost=st.integers(0, 4))
def test_whatever_is_cut_off_a_journal_it_says_what_was_true_once(
    tmp_path_factory: pytest.TempPathFactory, work: list[tuple[int, bool]], cut: int, lost: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / "p.partial.jsonl"
    journal = Journal(path, "key")
    journal.begin(Earlier())
    true = [Earlier()]
    for rows, fails in work:
        last = true[-1]
        bad = [(f"{len(true)}.png", "a reason\n\udcff")] if fails else []
        true.append(Earlier(last.done + rows + fails, last.rows + rows, (*last.bad, *bad)))
        journal.add(true[-1].done, true[-1].rows, bad)
    journal.close()
    rows = max(0, true[-1].rows - lost)
    sums = [0] * rows
    assert journal.earlier(sums) == [one for one in true if one.rows <= rows][-1]
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - cut)])
    assert journal.earlier(sums) in true


def test_a_line_is_written_once_a_second(tmp_path: Path) -> None:
    now = 5.0
    journal = Journal(tmp_path / "j", "key", clock=lambda: now)
    journal.begin(Earlier())
    assert journal.is_due()
    journal.add(1, 1, [])
    assert not journal.is_due()
    now = 6.0
    assert journal.is_due()
    journal.remove()
    assert list(tmp_path.iterdir()) == []


def test_the_key_knows_everything_that_decides_the_rows() -> None:
    def source(name: str, **metadata: Any) -> ImageSource:
        return ImageSource(name, metadata, read=lambda: pytest.fail("read"))

    keys = {
        work_key(["m", "auto"], None, ["plate"], [source("a", plate=1)]),
        work_key(["m", "keras"], None, ["plate"], [source("a", plate=1)]),
        work_key(["n", "auto"], None, ["plate"], [source("a", plate=1)]),
        work_key(["m", "auto"], {"w1": None}, ["plate"], [source("a", plate=1)]),
        work_key(["m", "auto"], None, [], [source("a", plate=1)]),
        work_key(["m", "auto"], None, ["plate"], [source("a", plate=2)]),
        work_key(["m", "auto"], None, ["plate"], [source("b", plate=1)]),
        work_key(["m", "auto"], None, ["plate"], [source("a", plate=1), source("b")]),
    }
    assert len(keys) == 8


def test_a_journal_of_nothing_that_can_be_read_is_none(tmp_path: Path) -> None:
    path = tmp_path / "p.partial.jsonl"
    for content in (b"", b"\n", b"[]\n", b"no json\n", b"\xff\xfe\n"):
        path.write_bytes(content)
        assert Journal(path, "key").earlier([0] * 10) == Earlier()
    path.write_bytes(b'{"format": 1, "work": "other"}\n')
    with pytest.raises(InputError, match="another model"):
        Journal(path, "key").earlier([0] * 10)


@pytest.mark.parametrize("edit", [('"done": 2', '"done": 202'), ('"rows": 2', '"rows": 1')])
def test_a_line_that_was_changed_ends_a_journal(tmp_path: Path, edit: tuple[str, str]) -> None:
    journal = Journal(tmp_path / "j", "key")
    journal.begin(Earlier())
    journal.add(1, 1, [])
    journal.add(2, 2, [])
    journal.add(3, 3, [])
    journal.close()
    assert journal.earlier([0] * 10) == Earlier(3, 3)
    assert journal.earlier([0] * 10, total=2) == Earlier(2, 2)
    text = journal.path.read_text()
    journal.path.write_text(text.replace(*edit))
    assert journal.earlier([0] * 10) == Earlier(1, 1)
    assert journal.path.read_text() != text
