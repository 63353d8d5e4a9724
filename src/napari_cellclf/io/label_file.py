"""Label files: a CSV to which every label is appended the moment it is given.

A row is one `Change`, and making all of them again gives the labels and classes as they stand.
Nothing that was written is ever rewritten, so that a crash costs the line being written at most.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO, Any, get_args

from filelock import FileLock, Timeout

from napari_cellclf.core.labelling import Action, Change, Label, LabelBook, class_name
from napari_cellclf.errors import InputError
from napari_cellclf.io.csv_tables import (
    CsvTable,
    CsvText,
    escape,
    open_csv,
    parse_csv,
    read_csv,
    write_cells,
)
from napari_cellclf.io.regular_files import read_regular
from napari_cellclf.io.sources import listed, path_column, path_in_table

_COLUMNS = (
    "path", "plane", "object", "mask", "label", "who", "when", "drawn", "action", "detail"
)  # fmt: skip
#: Those of a table of labels as they stand, and which of them are left out where they are empty.
_TABLE_COLUMNS = ("path", "plane", "mask", "object", "label", "who", "when")
_OF_SOME = ("plane", "mask", "object")
_HEADING = ",".join(_COLUMNS) + "\n"
#: In front of the name of a layer, which is no path.
_LAYER = "layer:"
_ACTIONS: Mapping[str, Action] = {action: action for action in get_args(Action)}
#: "path[t=3,object=12]"; see `napari_cellclf.core.collection.Row.id`.
_ROW_ID = re.compile(r"(?P<source>.+)\[(?P<place>[a-z]+=\d+(?:,[a-z]+=\d+)*)\]", re.DOTALL)

#: Bytes of some 500 labels.
_SHORT = 32 * 1024
_NUMBER = re.compile(r"\d+(\.0*)?")
#: Bytes that are not UTF-8, as Python holds them.
_UNDECODED = re.compile("[\udc80-\udcff]")


class LabelFile:
    """Keeps the labels of a book in a file, from what the file says already on.

    Parameters
    ----------
    path
        Is made with the first label if it does not exist.
    book
        Gets the labels of the file, and is listened to.
    mask_of
        From a row's id to the path of the mask that its object is of.
    on_problem
        Is told in one sentence that labels cannot be saved, and with an empty one that they can be
        again; they stay in the book and are saved with the next label if that is possible.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        book: LabelBook,
        *,
        mask_of: Callable[[str], str | None] = lambda row: None,
        on_problem: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.path = Path(os.path.abspath(path))  # noqa: PTH100
        #: Why labels cannot be saved; empty as long as they can.
        self.problem = ""
        self._book = book
        self._mask_of = mask_of
        self._on_problem = on_problem
        self._waiting: list[Change] = []
        self._lock = FileLock(
            self.path.with_name(f".{self.path.name}.lock"), timeout=0, thread_local=False
        )
        self._acquire()
        try:
            known = self._read()
            book.replay(known)
        except InputError:
            self._release()
            raise
        self._end_listening = book.listen(self._on_changes)

    @property
    def n_waiting(self) -> int:
        """How many changes are not in the file yet."""
        return len(self._waiting)

    def tell_problems(self, on_problem: Callable[[str], None]) -> None:
        """Tell somebody else of problems, as where the file was opened in a thread."""
        self._on_problem = on_problem

    def save(self) -> bool:
        """Try once more to write what could not be written; whether all is in the file now."""
        if not self._waiting:
            return True
        try:
            self._append(self._waiting)
        except OSError as error:
            self._tell(_cannot_be_saved(self.path, error))
            return False
        self._waiting = []
        self._tell("")
        return True

    def close(self) -> None:
        """Stop listening, and let other programs have the file."""
        self._end_listening()
        self.save()
        self._release()

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except Timeout:
            raise InputError(
                f"the labels {self.path} are open in another window or program; close it there, or "
                "choose another file"
            ) from None
        except OSError as error:
            # Labelling goes on without a file until another one is chosen.
            self._tell(_cannot_be_saved(self.path, error))

    def _release(self) -> None:
        if self._lock.is_locked:
            # Windows does not delete a file that is open; it stays there, and harms nobody.
            with suppress(OSError):
                Path(self._lock.lock_file).unlink()
            self._lock.release()

    def _read(self) -> Iterable[Change]:
        if not self.path.exists():
            return ()
        text, whole = _whole_lines(self.path)
        # A crash may have come while the heading was written.
        started = not whole and _HEADING.encode().startswith(read_regular(self.path))
        if _first_line(text) != _HEADING.strip() and not started:
            # Such as UTF-16, which only the reader of all tables knows.
            text = open_csv(self.path)
            heading = _first_line(text)
            if sorted(re.findall(r"\w+", heading)) == sorted(_COLUMNS):
                # Labels are only ever added, so that nothing is written in another form first.
                raise InputError(_saved_again(self.path, f"its first line is now {heading!r}"))
        table = parse_csv(self.path, text)
        if _is_western(self.path, table):
            raise InputError(_saved_again(self.path, "its text is not UTF-8 any more"))
        if table.columns != _COLUMNS and not started:
            raise InputError(
                f"{self.path} is not a file that labels were added to here (its columns: "
                f"{listed(table.columns)}); choose another name"
            )
        if whole < self.path.stat().st_size:
            # What was cut off by a crash would run into the next line.
            try:
                os.truncate(self.path, whole)
            except OSError as error:
                self._tell(_cannot_be_saved(self.path, error))
        return _changes(self.path, table.rows)

    def _on_changes(self, changes: tuple[Change, ...]) -> None:
        self._waiting += changes
        self.save()

    def _append(self, changes: Sequence[Change]) -> None:
        # Opened each time: a file that somebody deletes or replaces in the meantime is noticed.
        if not self._lock.is_locked:
            self._lock.acquire()
        with self.path.open("a+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            rows: Iterable[Sequence[str]]
            if end == 0:
                rows = [_COLUMNS, *map(self._cells, self._book.snapshot())]
            else:
                rows = map(self._cells, changes)
            data = memoryview(_line_end(file, end) + _as_csv(rows))
            try:
                while data:
                    data = data[file.write(data) or 0 :]
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise

    def _cells(self, change: Change) -> list[str]:
        mask = self._mask_of(change.row) if change.row else None
        return [
            *_place_cells(change.row, mask, self.path.parent),
            *map(escape, (change.name, change.who, change.when, change.drawn)),
            "" if change.action == "label" else change.action,
            escape(change.detail),
        ]

    def _tell(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            self._on_problem(problem)


def is_short(path: str | os.PathLike[str]) -> bool:
    """Whether the labels of a file are read within a moment."""
    try:
        return Path(path).stat().st_size < _SHORT
    except OSError:
        # What is wrong with it is told at once.
        return True


def read_labels(path: str | os.PathLike[str]) -> LabelBook:
    """Read the labels of a file without opening it for more.

    It may be a label file, or any table with the columns ``path`` and ``label`` (and ``object``,
    ``plane``, ``who``, ``when`` where it has them).
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100
    text, _ = _whole_lines(file)
    own = text.text.startswith(_HEADING)
    table = parse_csv(file, text) if own else read_csv(file)
    if own and _is_western(file, table):
        table = read_csv(file)
    rows = [{name.lower(): cell for name, cell in row.items()} for row in table.rows]
    place = path_column(file, table.columns).lower()
    if rows and "label" not in rows[0]:
        raise InputError(
            f"the table {file} has no column 'label' (its columns: {listed(table.columns)}); "
            "choose a table of labels"
        )
    book = LabelBook()
    book.replay(_changes(file, [row | {"path": row[place]} for row in rows]))
    return book


def current_labels(path: Path, table: CsvTable) -> CsvTable:
    """Return the rows of a label file as they stand in the end; other tables as they are."""
    if not set(_COLUMNS) <= set(table.columns):
        return table
    changes = tuple(_changes(path, table.rows))
    book = LabelBook()
    book.replay(changes)
    last = {change.row: row for change, row in zip(changes, table.rows, strict=True)}
    rows = [
        {name: last[row][name] for name in _TABLE_COLUMNS} | {"label": label.class_name}
        for row, label in book.items()
    ]
    there = [
        name for name in _TABLE_COLUMNS if name not in _OF_SOME or any(row[name] for row in rows)
    ]
    note = "; ".join(filter(None, (table.note, book.remark().rstrip("."))))
    return CsvTable(tuple(there), [{name: row[name] for name in there} for row in rows], note)


def write_label_table(
    path: str | os.PathLike[str],
    labels: Mapping[str, Label],
    *,
    mask_of: Callable[[str], str | None] = lambda row: None,
    fields: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write labels as they stand, as a table for ``cellclf train``; whole or not at all.

    `labels`: by id. `fields`: what else is known of each row, such as plate and well, by id.
    """
    file = Path(os.path.abspath(path))  # noqa: PTH100
    own, known = _TABLE_COLUMNS, fields or {}
    names = dict.fromkeys(name for row in labels for name in known.get(row, ()) if name not in own)
    rows = []
    for row, label in labels.items():
        place, plane, number, mask = _place_cells(row, mask_of(row), file.parent)
        said = [escape(str(known.get(row, {}).get(name, ""))) for name in names]
        cells = (label.class_name, label.who, label.when)
        rows.append([place, plane, mask, number, *map(escape, cells), *said])
    kept = [
        number
        for number, name in enumerate((*own, *names))
        if name not in _OF_SOME or any(row[number] for row in rows)
    ]
    table = [[*own, *map(escape, names)], *rows]
    write_cells(file, [[row[number] for number in kept] for row in table])


def _place_cells(row: str, mask: str | None, folder: Path) -> tuple[str, str, str, str]:
    """Return the cells path, plane, object and mask of a row; all empty for what is of no row."""
    match = _ROW_ID.fullmatch(row)
    source, place = (match["source"], match["place"]) if match else (row, "")
    steps = place.split(",") if place else []
    plane = ",".join(step for step in steps if not step.startswith("object="))
    number = "".join(step[len("object=") :] for step in steps if step.startswith("object="))
    return _path_cell(source, folder), plane, number, _path_cell(mask or "", folder)


def _path_cell(text: str, folder: Path) -> str:
    # As text: thousands of paths, of which each is absolute and normal, are written at once.
    if not text or "://" in text:
        return text
    if not os.path.isabs(text):  # noqa: PTH117
        return _LAYER + text
    inside = text.removeprefix(os.path.join(folder, ""))  # noqa: PTH118
    return escape(text if inside == text else inside.replace(os.sep, "/"))


def _changes(file: Path, rows: Iterable[Mapping[str, str]]) -> Iterator[Change]:
    @cache
    def source_of(text: str) -> str:
        if text.startswith(_LAYER):
            return text[len(_LAYER) :]
        if "://" in text:
            return text
        found = path_in_table(text, file)
        if text != text.strip() and not found.exists():
            found = path_in_table(text.strip(), file)
        return os.path.abspath(found)  # noqa: PTH100

    for row in rows:
        if not row.get("path") and not row.get("action"):
            # As where the column that says which class was added is gone.
            continue
        action = _ACTIONS.get(row.get("action", "") or "label")
        if action is None:
            raise InputError(
                f"the labels {file} hold {row['action']!r}, which this version does not know; "
                "install a newer one"
            )
        label = row.get("label", "")
        yield Change(
            action,
            _row_id(file, source_of(row["path"]), row) if row.get("path") else "",
            class_name(label) if label.strip() else "",
            row.get("detail", ""),
            row.get("who", ""),
            row.get("when", ""),
            row.get("drawn", ""),
        )


def _is_western(file: Path, table: CsvTable) -> bool:
    """Whether another program saved a label file again in the encoding of Western Windows."""

    def is_western(row: Mapping[str, str]) -> bool:
        if _UNDECODED.search("".join(row.get(name, "") for name in ("label", "who", "detail"))):
            return True
        text = row.get("path", "")
        if not _UNDECODED.search(text) or path_in_table(text, file).exists():
            # Names of files need not be valid Unicode.
            return False
        read_again = text.encode("utf-8", "surrogateescape").decode("cp1252", "replace")
        return path_in_table(read_again, file).exists()

    return any(map(is_western, table.rows))


def _saved_again(path: Path, how: str) -> str:
    return (
        f"{path} was saved again by another program ({how}); save it as CSV UTF-8 with commas and "
        f"the columns {', '.join(_COLUMNS)}, or choose another name"
    )


def _first_line(text: CsvText) -> str:
    return text.text.partition("\n")[0].rstrip("\r").replace('"', "")


def _row_id(file: Path, source: str, row: Mapping[str, str]) -> str:
    number = row.get("object", "").strip()
    if number and not _NUMBER.fullmatch(number):
        raise InputError(
            f"the labels {file} hold the object {number!r} of {source}; give its number in the mask"
        )
    step = row.get("plane", "").replace(" ", "").lower()
    # As a spreadsheet may write it: 9.0.
    place = ",".join(filter(None, (step, f"object={number.partition('.')[0]}" if number else "")))
    return f"{source}[{place}]" if place else source


def _whole_lines(path: Path) -> tuple[CsvText, int]:
    """Return the text up to the last line that is whole, and its length in bytes."""
    try:
        data = read_regular(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error
    end, at, quotes = 0, 0, 0
    # A power cut may leave zeros where a line was to be.
    for line in data.rstrip(b"\0").splitlines(keepends=True):
        at += len(line)
        quotes += line.count(b'"')
        if line.endswith(b"\n") and quotes % 2 == 0:
            end = at
    # Names of files that are not valid Unicode come back as they were.
    return CsvText(data[:end].decode("utf-8-sig", "surrogateescape")), end


def _line_end(file: IO[bytes], end: int) -> bytes:
    """Return what ends the last line, should another program have left it open."""
    if end == 0:
        return b""
    file.seek(end - 1)
    return b"" if file.read(1) == b"\n" else b"\n"


def _as_csv(rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogateescape")


def _cannot_be_saved(path: Path, error: OSError) -> str:
    return (
        f"the labels cannot be saved in {path} ({error.strerror or error}); they are kept in this "
        "window: free the disk or choose another file"
    )
