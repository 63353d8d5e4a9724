"""The table on disk, and the list of images that failed beside it: both whole or not at all.

How far a table has come stands in a journal beside it, so that the same command resumes after a
kill: JSON lines, first what the work is, then, once a second, how many images and rows are on the
disk, and which images failed since the line before, with a checksum of the rows. Rows that were
written after the last line, or changed, are computed again, so that none is lost, none is there
twice, and none is somebody else's.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self

from napari_cellclf.errors import InputError
from napari_cellclf.io.regular_files import read_regular
from napari_cellclf.io.replacing import refusals, replacing

if TYPE_CHECKING:
    from napari_cellclf.core.predictions import Predictions
    from napari_cellclf.io.sources import ImageSource


#: Columns before those that names and tables bring.
_FIRST = ("image", "label", "confidence")
_FORMAT = 2
#: Of a journal, in bytes: reasons of as many failures as anybody has images.
_MOST_BYTES = 1 << 30
#: What each line says, besides its own checksum.
_SAID = {"done", "rows", "bad", "table"}
#: Seconds between two lines: what a kill costs at most.
_EVERY = 1.0

Bad = tuple[str, str]


@dataclass(frozen=True)
class Earlier:
    """What an earlier process did of the same work."""

    #: Images that are finished.
    done: int = 0
    #: Their rows in the partial table.
    rows: int = 0
    #: The images among them that failed, and why.
    bad: tuple[Bad, ...] = ()
    #: Whether somebody changed rows behind these.
    changed: bool = False


_NOTHING = Earlier()


def bad_files_path(table: Path) -> Path:
    """Return where the images that failed are listed.

    Examples
    --------
    >>> bad_files_path(Path("predictions.csv")).name
    'predictions.bad_files.csv'
    """
    return table.with_name(f"{table.stem}.bad_files.csv")


def partial_path(table: Path) -> Path:
    """Return where rows are written until the table is complete.

    Examples
    --------
    >>> partial_path(Path("predictions.csv")).name
    'predictions.partial.csv'
    """
    return table.with_name(f"{table.stem}.partial{table.suffix}")


def check_table(table: Path, inputs: Iterable[str], *, overwrite: bool) -> None:
    """Refuse a table that cannot be written, before any work is done."""
    outputs = (table, bad_files_path(table), partial_path(table), journal_path(table))
    for one in inputs:
        # By their real paths: a link to an input is that input.
        if any(path.resolve() == Path(one).resolve() for path in outputs):
            raise InputError(f"--out {table} would replace the input {one}; choose another --out")
    folder = table.parent
    if not folder.is_dir():
        raise InputError(f"the folder of --out {table} does not exist; create {folder} first")
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder of --out {table} is not writable; choose another one")
    # The list of an interrupted run goes on with its table.
    goes_on = partial_path(table).exists() and journal_path(table).exists()
    for path in outputs[:2]:
        if path.is_dir():
            raise InputError(f"{path} is a folder; give --out the name of a table")
        if path == bad_files_path(table) and goes_on:
            continue
        if path.exists() and not overwrite:
            raise InputError(
                f"{path} exists; add --overwrite to replace it, or choose another --out"
            )


def table_columns(
    classes: Sequence[str], metadata: Iterable[Mapping[str, Any]], said: Sequence[str] = ()
) -> tuple[list[str], list[str]]:
    """List what the images' names say beyond the columns of every table, and what these hide.

    `said`: from `said_columns`.

    Examples
    --------
    >>> table_columns(["a"], [{"plate": 1, "sirna": None}, {"label": "b", "minute": 60}])
    (['plate', 'minute'], ['label'])
    """
    own = {*_FIRST, *said, *(f"p_{name}" for name in classes)}
    # A dict keeps the order and each name once, for 100,000 images too.
    names = dict.fromkeys(
        str(key) for row in metadata for key, value in row.items() if value is not None
    )
    return [name for name in names if name not in own], [name for name in names if name in own]


class TableFile:
    """A CSV table that gets its name when it is complete.

    Until then, and if the work ends early, the rows are in a file named by `partial_path`.
    """

    def __init__(
        self,
        path: Path,
        classes: Sequence[str],
        extra: Sequence[str],
        note: Callable[[str], None],
        unsure_below: float | None = None,
        *,
        says_unlike: bool = False,
        sets: bool = False,
        journal: Journal | None = None,
        earlier: Earlier = _NOTHING,
    ) -> None:
        from napari_cellclf.io.tables import PredictionWriter, said_columns

        self._path = path
        self._partial = partial_path(path)
        self._unsure_below = unsure_below
        self._sets = sets
        first = said_columns(unsure=unsure_below is not None, unlike=says_unlike, sets=sets)
        kept = earlier.rows if earlier.done else None
        self._writer = PredictionWriter(self._partial, classes, [*first, *extra], kept)
        self._note = note
        self._journal = journal
        self._earlier = earlier
        self._rows = earlier.rows
        self._done = earlier.done
        self._rows_of_done = earlier.rows
        self._sum_of_done = 0
        self._failed: list[Bad] = []
        self._failed_of_done = 0

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self._writer)
            if self._journal is not None:
                self._journal.begin(self._earlier, self._writer.sum)
            stack.pop_all()
        return self

    def write(self, predictions: Predictions) -> None:
        """Append rows."""
        sets = predictions.sets if self._sets else None
        for row in range(len(predictions)):
            said: dict[str, Any] = {**predictions.unsure_column(row, self._unsure_below)}
            if sets is not None:
                said["prediction_set"] = "; ".join(sets[row])
            said["remarks"] = "; ".join(predictions.remarks[row])
            self._writer.write(predictions.record(row) | said)
            self._rows += 1

    def write_bad(self, image: str, reason: str) -> None:
        """Remember it for the journal; `BadFiles` lists them."""
        self._failed.append((image, reason))

    def finished(self, done: int) -> None:
        """Take note that all rows so far are of finished images."""
        self._done, self._rows_of_done = done, self._rows
        self._sum_of_done = self._writer.sum
        self._failed_of_done = len(self._failed)
        if self._journal is not None and self._journal.is_due():
            self._write_down(self._journal)

    def _write_down(self, journal: Journal) -> None:
        self._writer.sync()
        bad = self._failed[: self._failed_of_done]
        journal.add(self._done, self._rows_of_done, bad, self._sum_of_done)
        self._failed = self._failed[self._failed_of_done :]
        self._failed_of_done = 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and self._journal is not None:
            # On a full disk the line before it has to do.
            with suppress(InputError):
                self._write_down(self._journal)
        self._writer.__exit__(kind, error, trace)
        if kind is None:
            self._partial.replace(self._path)
        elif self._rows:
            self._note(f"not complete: the {self._rows} rows so far are in {self._partial}")
        else:
            self._partial.unlink(missing_ok=True)
        if self._journal is not None:
            (self._journal.close if kind is not None and self._rows else self._journal.remove)()


class BadFiles:
    """The images that could not be classified, in a table of their own beside it."""

    def __init__(self, table: Path, earlier: Sequence[Bad] = ()) -> None:
        self._path = bad_files_path(table)
        self._rows = list(earlier)

    def __enter__(self) -> Self:
        return self

    def write(self, predictions: Predictions) -> None:
        """Take no notice."""

    def write_bad(self, image: str, reason: str) -> None:
        """Remember an image."""
        self._rows.append((image, reason))

    def finished(self, done: int) -> None:
        """Take no notice; the table's journal does."""

    def __exit__(self, *exception: object) -> None:
        # However the work ended: what failed so far is worth knowing.
        if self._rows:
            write_bad_files(self._rows, self._path)
        else:
            # That of an earlier run, which the user allowed to overwrite, would be untrue now.
            self._path.unlink(missing_ok=True)


@contextmanager
def sole_writer(table: Path) -> Iterator[None]:
    """Hold the lock of a table, so that two processes do not write into one partial file."""
    from filelock import FileLock, Timeout

    path = table.with_name(f".{table.stem}.partial.lock")
    lock = FileLock(path, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is writing {partial_path(table)}; wait for it, or choose another "
            "--out"
        ) from None
    try:
        yield
    finally:
        # Windows does not let go of a file that is open; it stays there, and harms nobody.
        with suppress(OSError):
            path.unlink()
        lock.release()


def write_bad_files(rows: Sequence[tuple[str, str]], path: Path) -> None:
    """Write which images failed and why, whole or not at all."""
    from napari_cellclf.io.csv_tables import safe_row

    with (
        replacing(path) as beside,
        beside.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        table = csv.writer(file)
        table.writerow(("image", "reason"))
        table.writerows(map(safe_row, rows))


def journal_path(table: Path) -> Path:
    """Return where it is written how far a table has come.

    Examples
    --------
    >>> journal_path(Path("predictions.csv")).name
    'predictions.partial.jsonl'
    """
    return table.with_name(f"{table.stem}.partial.jsonl")


def work_key(
    model: Sequence[str],
    mapping: Mapping[str, str | None] | None,
    columns: Sequence[str],
    sources: Sequence[ImageSource],
) -> str:
    """Hash what decides the rows of a table: model and engine, channels, columns and images.

    The size of a batch is not part of it, so that work that ran out of memory can go on with a
    smaller one.
    """
    digest = hashlib.sha256(_line([list(model), dict(mapping or {}), list(columns)]))
    for source in sources:
        digest.update(_line([source.id, dict(source.metadata)]))
        if source.objects is not None:
            digest.update(_line([source.objects.mask, source.objects.chosen]))
        if source.planes:
            digest.update(_line([[plane, dict(said)] for plane, said in source.planes.items()]))
    return digest.hexdigest()


class Journal:
    """Remembers how far a table has come."""

    def __init__(self, path: Path, key: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._key = key
        self._clock = clock
        self._file: IO[bytes] | None = None
        self._next = 0.0

    def earlier(self, sums: Sequence[int], total: int | None = None) -> Earlier:
        """Return what an earlier process did of this work, up to the first line that is damaged.

        `sums`: of the whole rows in the table, see `row_sums`. `total`: images of the work.
        """
        first, *lines = _read(self.path) or [None]
        if not isinstance(first, dict):
            return Earlier()
        if first != self._heading():
            raise InputError(
                f"{self.path} is about another model or engine, other channels or other images; "
                "add --overwrite to start again, or choose another --out"
            )
        found, bad = Earlier(), []
        before = (0, 0)
        for line in lines:
            now = _counts(line)
            if now is None or now[0] < before[0] or now[1] < before[1]:
                break
            before = now
            bad += [(str(image), str(reason)) for image, reason in line["bad"]]
            if now[1] > len(sums):
                break
            if now[1] and sums[now[1] - 1] != line["table"]:
                return replace(found, changed=True)
            if (total is None or now[0] <= total) and len(bad) <= now[0]:
                found = Earlier(*now, tuple(bad))
        return found

    def begin(self, earlier: Earlier, table: int = 0) -> None:
        """Start again, with what was done earlier as the first line.

        `table`: checksum of its rows.
        """
        lines = [self._heading(), _state(earlier.done, earlier.rows, earlier.bad, table)]
        with replacing(self.path) as beside:
            beside.write_bytes(b"".join(map(_line, lines)))
        self._file = self.path.open("ab")

    def is_due(self) -> bool:
        """Whether it is time for another line."""
        return self._clock() >= self._next

    def add(self, done: int, rows: int, bad: Sequence[Bad], table: int = 0) -> None:
        """Write a line; the rows that it speaks of must be on the disk.

        `table`: checksum of the rows.
        """
        if self._file is not None:
            with refusals(self.path):
                self._file.write(_line(_state(done, rows, bad, table)))
                self._file.flush()
                os.fsync(self._file.fileno())
            self._next = self._clock() + _EVERY

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            # What found no room before finds none now, and was said.
            with suppress(OSError):
                self._file.close()
            self._file = None

    def remove(self) -> None:
        """Forget all of it."""
        self.close()
        self.path.unlink(missing_ok=True)

    def _heading(self) -> dict[str, Any]:
        return {"format": _FORMAT, "work": self._key}


def _state(done: int, rows: int, bad: Sequence[Bad], table: int) -> dict[str, Any]:
    said = {"done": done, "rows": rows, "bad": [list(one) for one in bad], "table": table}
    return said | {"sum": zlib.crc32(_line(said))}


def _counts(line: Any) -> tuple[int, int] | None:
    """Return how many images and rows a line speaks of; None if it is not as it was written."""
    if not isinstance(line, dict):
        return None
    said = {key: value for key, value in line.items() if key != "sum"}
    if line.get("sum") != zlib.crc32(_line(said)) or set(said) != _SAID:
        return None
    counts, bad = (said["done"], said["rows"]), said["bad"]
    pairs = isinstance(bad, list) and all(isinstance(one, list) and len(one) == 2 for one in bad)
    return counts if pairs and all(type(one) is int for one in counts) else None


def _line(document: Any) -> bytes:
    return json.dumps(document, default=str, sort_keys=True).encode("ascii") + b"\n"


def _read(path: Path) -> list[Any]:
    """Return the lines up to the first that is not whole."""
    try:
        lines = read_regular(path, _MOST_BYTES, follow=False).split(b"\n")
    except OSError:
        return []
    documents = []
    # What comes after the last line's end was cut off.
    for line in lines[:-1]:
        try:
            documents.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return documents
