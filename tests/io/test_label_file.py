"""Label files: every label at once, opened again, cut off, locked, and on a full disk."""

from __future__ import annotations

import csv
import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imagecodecs import png_encode

from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.errors import InputError
from napari_cellclf.io import label_file
from napari_cellclf.io.label_file import LabelFile, read_labels, write_label_table


@pytest.fixture
def rows(tmp_path: Path) -> tuple[str, ...]:
    """Ids of an image, of planes, of objects and of an object in a layer."""
    for name in ("a.png", "stack.tif", "a_masks.png"):
        tmp_path.joinpath(name).write_bytes(b"")
    return (
        str(tmp_path / "a.png"),
        f"{tmp_path / 'stack.tif'}[t=3,z=1]",
        f"{tmp_path / 'a.png'}[object=12]",
        f"{tmp_path / 'stack.tif'}[t=3,object=12]",
        "cells | day 3[object=4]",
        os.path.abspath(os.sep + os.path.join("elsewhere", "b,1.png")),  # noqa: PTH100, PTH118
    )


def _state(book: LabelBook) -> tuple[Any, ...]:
    return book.classes, dict(book.labels), dict(book._unsure)


def test_labels_stand_at_once_and_are_there_again(tmp_path: Path, rows: tuple[str, ...]) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book, mask_of=lambda row: f"{tmp_path}/a_masks.png")
    assert not path.exists()
    book.label(rows[:1], "=round")
    book.label(rows, "long", drawn="random")
    book.rename_class("long", 'very "long"')
    book.mark_unsure(rows[1:2])
    book.label(rows[:1], "=round")
    book.add_class("third")
    book.undo()
    # Before it is closed: a crash would lose nothing.
    assert _state(read_labels(path)) == _state(book)
    file.close()
    assert sorted(one.name for one in tmp_path.iterdir() if "labels" in one.name) == ["labels.csv"]

    with path.open(newline="", encoding="utf-8") as text:
        table = list(csv.DictReader(text))
    first = table[1]
    assert (first["path"], first["label"], first["who"]) == ("a.png", "'=round", "ada")
    assert first["mask"] == "a_masks.png"
    assert first["when"].endswith("Z")
    stack = next(row for row in table if row["plane"] and row["object"])
    assert (stack["path"], stack["plane"], stack["object"]) == ("stack.tif", "t=3", "12")

    again = LabelBook("bob")
    file = LabelFile(path, again)
    assert _state(again) == _state(book)
    again.label(rows[1:2], "third")
    file.close()
    label = read_labels(path).label_of(rows[1])
    assert label is not None
    assert (label.class_name, label.who) == ("third", "bob")


def test_everything_that_is_undone_is_undone_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    for number, name in enumerate(("x", "y", "x", "z")):
        book.label([str(tmp_path / f"{number}.png")], name)
    book.merge_classes("x", "z")
    states = [_state(book)]
    while book.can_undo:
        book.undo()
        assert _state(read_labels(path)) == _state(book)
        states.append(_state(book))
    while book.can_redo:
        book.redo()
    assert _state(read_labels(path)) == states[0]
    file.close()


@pytest.mark.parametrize("tail", ["a.png,,,,rou", 'a.png,,,,"ro\nund', "\0" * 40, 'x"'])
def test_a_line_that_was_cut_off_costs_nothing_else(tmp_path: Path, tail: str) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    book.label([str(tmp_path / "a.png"), str(tmp_path / "b.png")], 'ro"und')
    file.close()
    with path.open("a", encoding="utf-8") as text:
        text.write(tail)
    assert _state(read_labels(path)) == _state(book)
    again = LabelBook("ada")
    file = LabelFile(path, again)
    assert _state(again) == _state(book)
    again.label([str(tmp_path / "c.png")], "long")
    file.close()
    assert len(read_labels(path).labels) == 3


def test_a_crash_during_the_first_line_leaves_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("path,plane,obj")
    book = LabelBook("ada")
    file = LabelFile(path, book)
    book.label([str(tmp_path / "a.png")], "round")
    file.close()
    assert _state(read_labels(path)) == _state(book)


def test_a_process_that_is_killed_loses_no_label(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    code = """
import os, sys
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.io.label_file import LabelFile
book = LabelBook("ada")
LabelFile(sys.argv[1], book)
for number in range(50):
    book.label([f"/{number}.png"], "round")
os._exit(9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 9
    book = LabelBook("ada")
    LabelFile(path, book).close()
    assert len(book.labels) == 50


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    code = """
import sys
from napari_cellclf.core.labelling import LabelBook
from napari_cellclf.io.label_file import LabelFile
file = LabelFile(sys.argv[1], LabelBook("bob"))
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError, match="open in another window or program"):
            LabelFile(path, LabelBook("ada"))
        other.communicate("")
    LabelFile(path, LabelBook("ada")).close()


def _full_disk(*arguments: Any) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_labels_in_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels.csv"
    problems: list[str] = []
    book = LabelBook("ada")
    file = LabelFile(path, book, on_problem=problems.append)
    book.label([str(tmp_path / "a.png")], "round")
    before = path.read_bytes()
    with monkeypatch.context() as full:
        full.setattr(label_file, "_as_csv", _full_disk)
        book.label([str(tmp_path / "b.png")], "round")
        book.label([str(tmp_path / "c.png")], "long")
    assert len(problems) == 1
    assert "No space left" in problems[0]
    assert "kept in this window" in problems[0]
    assert path.read_bytes() == before
    assert file.n_waiting == 3
    book.label([str(tmp_path / "d.png")], "long")
    assert problems[1:] == [""]
    assert _state(read_labels(path)) == _state(book)
    file.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_half_written_line_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    book.label([str(tmp_path / "a.png")], "round")
    before = path.read_bytes()
    real = Path.open

    def open_full(self: Path, *arguments: Any, **named: Any) -> Any:
        opened = real(self, *arguments, **named)
        return _Filling(opened) if self == path else opened

    with monkeypatch.context() as full:
        full.setattr(Path, "open", open_full)
        book.label([str(tmp_path / "b.png")], "round")
    assert path.read_bytes() == before
    assert file.problem
    assert file.save()
    assert not file.problem
    assert _state(read_labels(path)) == _state(book)
    file.close()


class _Filling:
    """A file on a disk that has room for five more bytes."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._room = 5

    def __enter__(self) -> _Filling:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, data: memoryview) -> int:
        if not self._room:
            _full_disk()
        written = int(self._file.write(data[: self._room]))
        self._room -= written
        return written


def test_a_folder_that_does_not_allow_it_keeps_the_labels_in_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any, **named: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    problems: list[str] = []
    book = LabelBook("ada")
    with monkeypatch.context() as read_only:
        read_only.setattr(label_file.FileLock, "acquire", refuse)
        file = LabelFile(tmp_path / "labels.csv", book, on_problem=problems.append)
        book.label([str(tmp_path / "a.png")], "round")
        assert book.label_of(str(tmp_path / "a.png")) is not None
        assert len(problems) == 1
        assert "Permission denied" in problems[0]
        file.close()
    # Another file takes them all.
    other = LabelFile(tmp_path / "other.csv", book)
    book.label([str(tmp_path / "b.png")], "round")
    other.close()
    assert _state(read_labels(tmp_path / "other.csv")) == _state(book)


def test_a_file_that_is_deleted_in_the_meantime_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    book.label([str(tmp_path / "a.png")], "round")
    path.unlink()
    book.label([str(tmp_path / "b.png")], "long")
    assert _state(read_labels(path)) == _state(book)
    # Another program added a line and did not end it.
    with path.open("a") as text:
        text.write("c.png,,,,long,eve,,,,")
    book.label([str(tmp_path / "d.png")], "long")
    file.close()
    assert len(read_labels(path).labels) == 4


def test_a_table_of_somebody_else_is_read_and_never_added_to(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("Path;Label;object\na.png;round;\na.png;long;3\nb.png;;\n")
    book = read_labels(path)
    assert book.classes == ("round", "long")
    assert {Path(row).name: label.class_name for row, label in book.items()} == {
        "a.png": "round",
        "a.png[object=3]": "long",
    }
    with pytest.raises(InputError, match="choose another name"):
        LabelFile(path, LabelBook())
    # And the lock is not kept.
    path.unlink()
    LabelFile(path, LabelBook()).close()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,class\na.png,x\n", "no column 'label'"),
        ("file,label\na.png,x\n", "no column 'path'"),
        (",".join(label_file._COLUMNS) + "\na.png,,,,,,,,split,\n", "install a newer one"),
    ],
)
def test_tables_that_are_none_of_labels_are_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_labels(path)


def test_the_labels_are_a_table_that_training_takes(tmp_path: Path) -> None:
    from napari_cellclf import read_dataset

    book = LabelBook("ada")
    for number in range(4):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png_encode(np.full((4, 4), number, np.uint8)))
        book.label([str(path)], "round" if number % 2 else "long")
    known = {str(tmp_path / "0.png"): {"plate": "P1", "label": "not this"}}
    write_label_table(tmp_path / "table.csv", book.labels, fields=known)
    assert (tmp_path / "table.csv").read_text().splitlines()[0] == "path,label,who,when,plate"
    data = read_dataset(tmp_path / "table.csv")
    assert [one.name for one in data.classes] == ["long", "round"]
    assert list(data.table["label"]) == ["long", "round", "long", "round"]
    with pytest.raises(InputError, match="cannot be written"):
        write_label_table(tmp_path / "no" / "table.csv", book.labels)


def test_a_label_file_is_trained_on_as_it_stands(tmp_path: Path) -> None:
    from napari_cellclf import read_dataset

    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    for number in range(6):
        image = tmp_path / f"{number}.png"
        image.write_bytes(png_encode(np.full((4, 4), number, np.uint8)))
        book.label([str(image)], "round")
        book.label([str(image)], "round" if number % 2 else "long")
    book.clear([str(tmp_path / "5.png")])
    book.rename_class("round", "circle")
    data = read_dataset(path)
    assert list(data.table["label"]) == ["long", "circle"] * 2 + ["long"]
    book.label([f"{tmp_path / 'movie.tif'}[t=3]"], "long")
    assert read_dataset(path).ids[-1] == f"{tmp_path / 'movie.tif'}[t=3]"
    file.close()


def test_a_row_without_a_class_is_told_from_a_label_taken_back(tmp_path: Path) -> None:
    from napari_cellclf import read_dataset

    names = [f"{number}.png" for number in range(4)]
    for number, name in enumerate([*names, "6.png"]):
        (tmp_path / name).write_bytes(png_encode(np.full((4, 4), number, np.uint8)))
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    for number, name in enumerate(names):
        book.label([str(tmp_path / name)], "round" if number % 2 else "long")
    book.undo()
    book.mark_unsure([str(tmp_path / names[3])])
    book.undo()
    file.close()
    assert not read_labels(path).remark()
    assert "no class" not in read_dataset(path).source
    added = ["5.png,,,,,bob,,,,", "6.png,,,,  ,bob,,,,", "6.png,,,,round,bob,,,,", "7.png,,,,,,,,,"]
    with path.open("a") as text:
        text.write("\n".join(added) + "\n")
    said = "2 rows have no class, such as 5.png, and count as not labelled"
    assert read_labels(path).remark() == f"{said}."
    assert read_dataset(path).source.endswith(f"; {said}")


def test_objects_and_planes_have_columns_in_the_table(
    tmp_path: Path, rows: tuple[str, ...]
) -> None:
    book = LabelBook("ada", clock=lambda: "2026-03-01T12:00:00Z")
    book.label(rows[2:4], "round")
    write_label_table(tmp_path / "t.csv", book.labels, mask_of=lambda row: f"{tmp_path}/m.tif")
    assert (tmp_path / "t.csv").read_text().splitlines() == [
        "path,plane,mask,object,label,who,when",
        "a.png,,m.tif,12,round,ada,2026-03-01T12:00:00Z",
        "stack.tif,t=3,m.tif,12,round,ada,2026-03-01T12:00:00Z",
    ]


def _edited(path: Path, change: Any) -> None:
    with path.open(newline="", encoding="utf-8") as text:
        table = list(csv.reader(text))
    path.write_bytes(change(table))


@pytest.mark.parametrize(
    "change",
    [
        lambda table: "\r\n".join(";".join(row) for row in table).encode("utf-8-sig"),
        lambda table: "\n".join(",".join(row[::-1]) for row in table).encode(),
    ],
    ids=["semicolons", "reordered"],
)
def test_a_file_saved_anew_by_a_spreadsheet_is_read_and_not_added_to(
    tmp_path: Path, rows: tuple[str, ...], change: Any
) -> None:
    path = tmp_path / "labels.csv"
    book = LabelBook("ada")
    file = LabelFile(path, book)
    book.label(rows[:3], "round, or not")
    file.close()
    _edited(path, lambda table: change([[c.replace(",", " ") for c in row] for row in table]))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"saved again by another program.*save it as CSV UTF-8"):
        LabelFile(path, LabelBook())
    assert path.read_bytes() == before
    assert set(read_labels(path).labels) >= {rows[0], rows[2]}


@pytest.mark.parametrize(("stem", "name"), [("a", "\u00e9clair"), ("caf\u00e9", "round")])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_file_saved_anew_in_another_encoding_is_read_and_not_added_to(
    tmp_path: Path, stem: str, name: str, encoding: str
) -> None:
    path, image = tmp_path / "labels.csv", tmp_path / f"{stem}.png"
    image.touch()
    book = LabelBook("ada")
    file = LabelFile(path, book)
    book.label([str(image)], name)
    file.close()
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"saved again by another.*save it as CSV UTF-8"):
        LabelFile(path, LabelBook())
    assert path.read_bytes() == before
    labels = read_labels(path).labels
    assert {row: label.class_name for row, label in labels.items()} == {str(image): name}


def test_numbers_and_paths_as_spreadsheets_and_people_write_them(
    tmp_path: Path, rows: tuple[str, ...]
) -> None:
    path = tmp_path / "labels.csv"
    heading = ",".join(label_file._COLUMNS)
    path.write_text(f"{heading}\n a.png ,T = 3,12.0,,round,me,,,,\n,,,,nothing,me,,,,\n")
    book = read_labels(path)
    assert dict(book.labels).keys() == {f"{rows[0]}[t=3,object=12]"}
    assert book.classes == ("round",)
    path.write_text(f"{heading}\na.png,,twelve,,round,me,,,,\n")
    with pytest.raises(InputError, match="the object 'twelve'"):
        LabelFile(path, LabelBook())
