"""Write predictions as CSV tables that spreadsheets open without running anything in them."""

from __future__ import annotations

import csv
import io
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Literal, Self

from napari_cellclf.errors import InputError
from napari_cellclf.io.csv_tables import safe_row
from napari_cellclf.io.regular_files import open_regular
from napari_cellclf.io.replacing import refusals, replacing

if TYPE_CHECKING:
    from napari_cellclf.core.predictions import Predictions


class PredictionWriter:
    r"""Write rows of predictions as they come; each is on the disk when `write` returns.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = Path(folder, "predictions.csv")
    ...     with PredictionWriter(table, ["RPE"]) as writer:
    ...         writer.write({"image": "=a.png", "label": "RPE", "confidence": 1.0, "p_RPE": 1.0})
    ...     table.read_text()
    "image,label,confidence,p_RPE\n'=a.png,RPE,1.0,1.0\n"
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        classes: Sequence[str],
        extra: Sequence[str] = (),
        kept_rows: int | None = None,
    ) -> None:
        self._path = Path(path)
        # A dict keeps the order and each name once.
        self._name_columns(dict.fromkeys((*_columns(classes), *extra)))
        self._file: IO[str] | None = None
        self._kept_rows = kept_rows
        #: Of all rows so far; see `row_sums`.
        self.sum = 0

    def __enter__(self) -> Self:
        if self._kept_rows is None:
            with refusals(self._path):
                self._file = _open(self._path)
            try:
                self._put(self._file, self._heading)
            except InputError as error:
                self.__exit__(InputError, error, None)
                raise
        else:
            with _reading(self._path) as file:
                self._name_columns(next(csv.reader(file)))
            self.sum = (0, *row_sums(self._path))[self._kept_rows]
            self._rewrite(0, self._kept_rows)
        return self

    def sync(self) -> None:
        """Make sure that what was written so far outlives the computer's power."""
        if self._file is not None:
            with refusals(self._path):
                os.fsync(self._file.fileno())

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a row."""
        if self._file is None:
            raise InputError("a row was written to a closed table; write inside the with block")
        new = [key for key in record if key not in self._columns]
        if new:
            self._widen(new)
        cells = safe_row(record.get(column) for column in self._columns)
        self._put(self._file, cells)
        self.sum = _sum_with(self.sum, self._heading, cells)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            # What did not fit before does not fit now either, and was said.
            with refusals(self._path) if kind is None else suppress(OSError):
                self._file.close()
            self._file = None

    def _name_columns(self, names: Iterable[str]) -> None:
        self._columns = list(names)
        self._heading = safe_row(self._columns)

    def _put(self, file: IO[str], cells: Iterable[str]) -> None:
        with refusals(self._path):
            csv.writer(file).writerow(cells)
            file.flush()

    def _widen(self, new: list[str]) -> None:
        self._name_columns((*self._columns, *new))
        assert self._file is not None
        self._file.close()
        self._rewrite(len(new), None)

    def _rewrite(self, empty: int, rows: int | None) -> None:
        """Rewrite the table beside the old one until it is complete, then append to it."""
        with replacing(self._path) as beside, _open(beside) as wide:
            self._put(wide, self._heading)
            with _reading(self._path) as narrow:
                old = csv.reader(narrow)
                next(old)
                # These are safe already: a second escape would change them.
                csv.writer(wide).writerows(row + [""] * empty for row in islice(old, rows))
        with refusals(self._path):
            self._file = _open(self._path, "a")


def said_columns(*, unsure: bool, unlike: bool, sets: bool = False) -> list[str]:
    """List the columns behind the probabilities, before what the names of images say.

    Whether the model has a threshold, whether it says what is unlike anything in training, and
    whether prediction sets are asked for.

    Examples
    --------
    >>> said_columns(unsure=True, unlike=False)
    ['unsure', 'remarks']
    """
    unlike_columns = ["unlike", "unlike_score"] * unlike
    return ["unsure"] * unsure + ["prediction_set"] * sets + unlike_columns + ["remarks"]


def row_sums(path: Path) -> list[int]:
    """Return checksums of the table up to each whole row; its end may be cut off.

    Each is of what stands in which column, the same after other columns have been added.
    """
    sums: list[int] = []
    with suppress(OSError, csv.Error), _reading(path) as file:
        table = csv.reader(file)
        heading = next(table, [])
        for row in takewhile(lambda row: len(row) == len(heading), table):
            sums.append(_sum_with(sums[-1] if sums else 0, heading, row))
    return sums


def _sum_with(before: int, columns: Iterable[Any], cells: Iterable[Any]) -> int:
    """Add one row to a checksum."""
    filled = (pair for pair in zip(columns, cells, strict=True) if pair[1] not in (None, ""))
    row = "".join(f"{column}\0{cell}\0" for column, cell in filled) + "\n"
    return zlib.crc32(row.encode("utf-8", "backslashreplace"), before)


def _reading(path: Path) -> IO[str]:
    # What cannot be decoded is no row that was written here.
    file = open_regular(path, follow=False)
    return io.TextIOWrapper(file, newline="", encoding="utf-8", errors="replace")


def write_predictions(predictions: Predictions, path: str | os.PathLike[str]) -> None:
    """Write predictions as a CSV table, whole or not at all."""
    records = [predictions.record(row) for row in range(len(predictions))]
    write_records(path, predictions.classes, (), records)


def write_records(
    path: str | os.PathLike[str],
    classes: Sequence[str],
    extra: Sequence[str],
    records: Sequence[Mapping[str, Any]],
) -> None:
    """Write rows that are all there as a CSV table, whole or not at all."""
    columns = dict.fromkeys(
        (*_columns(classes), *extra, *(key for record in records for key in record))
    )
    with replacing(Path(path)) as beside, _open(beside) as file:
        table = csv.writer(file)
        table.writerow(safe_row(columns))
        table.writerows(safe_row(map(record.get, columns)) for record in records)


def _columns(classes: Sequence[str]) -> list[str]:
    return ["image", "label", "confidence", *(f"p_{name}" for name in classes)]


def _open(path: Path, mode: Literal["w", "a"] = "w") -> IO[str]:
    # Names that are not valid Unicode (surrogates) are written as escapes, not lost.
    return path.open(mode, newline="", encoding="utf-8", errors="backslashreplace")
