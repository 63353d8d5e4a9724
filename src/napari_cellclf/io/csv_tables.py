"""CSV tables: read as spreadsheets save them, and cells that no spreadsheet runs."""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.errors import InputError
from napari_cellclf.io.raster import sniff
from napari_cellclf.io.regular_files import open_regular, read_regular
from napari_cellclf.io.replacing import replacing

#: Endings of files that are tables when they are given beside images.
TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".xls", ".ods"})

#: Cells that begin with one of these are formulas to a spreadsheet (OWASP, CSV Injection).
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
#: Numbers and genotypes such as ``+/-`` look like formulas but are not.
_HARMLESS = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?|[+/-]+")

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
#: Excel's own first line that names the separator.
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?[,;\t]*(?:\r\n|\r|\n)', re.IGNORECASE)
_LOOKED_AT = 30
#: A million rows of long paths are half as large; read as text, they take several times that.
_MOST_BYTES = 128 * 2**20
_MOST_LINES = 2_000_000
_LONGEST_LINE = 2**20
#: As many as a spreadsheet has.
_MOST_COLUMNS = 16_384
_MOST_NAMED = 5

#: Those of four bytes begin like those of two.
_WIDE = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
#: Western words have one or two letters beyond ASCII beside others; text of other alphabets that
#: is read as Western has runs of them, and text of old Macs and of DOS has signs within words.
_NOT_WESTERN = re.compile(
    r"[^\x00-\x7f]{3}|(?<![A-Za-z])[^\W\d_a-zA-Z]{2}(?![A-Za-z])"
    # Dashes, apostrophes, dots and crosses are in words of all.
    r"|[a-z][ŠŒŽŸ]|[^\W\d_][^\w\s\x00-\x7f\u2013\u2014\u2018\u2019\xb7\xd7\u2026][^\W\d_]"
)


@dataclass(frozen=True)
class CsvTable:
    """A table as text, cell by cell."""

    #: Without spaces around them; columns without a name are left out.
    columns: tuple[str, ...]
    #: Every row that is not blank; cells unchanged.
    rows: list[dict[str, str]]
    #: What the user should know of how it was read; mostly empty.
    note: str = ""


def read_csv(path: Path, *, own: bool = False) -> CsvTable:
    """Read a table of any separator and of the encodings in which spreadsheets save text.

    `own`: whether it was written here, and may hold names of files that are not valid Unicode.
    """
    return parse_csv(path, open_csv(path, own=own))


def parse_csv(path: Path, found: CsvText) -> CsvTable:
    """Take a decoded table apart; `path` is what errors name."""
    lines = io.StringIO(found.text, newline="")
    reader = csv.reader(lines, delimiter=found.separator, strict=True)
    try:
        heading = [unescape(name).strip() for name in next(reader, [])]
        check_heading(path, heading)
        rows = list(_rows(path, reader, heading, found))
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as a CSV table: {error} (line "
            f"{found.line + reader.line_num}); correct that line"
        ) from error
    return CsvTable(tuple(filter(None, heading)), rows, found.note)


@dataclass(frozen=True)
class CsvText:
    """A table that is decoded and not yet taken apart."""

    #: From its heading on.
    text: str
    #: Between two cells.
    separator: str = ","
    #: What the user should know of how it was read.
    note: str = ""
    #: How many lines are above the heading.
    line: int = 0


def open_csv(path: Path, *, own: bool = False) -> CsvText:
    """Decode a table, and find its heading and its separator."""
    try:
        data = read_regular(path) if own else _read_strange(path)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read as a CSV table: {error.strerror or error}"
        ) from error
    if own:
        return CsvText(data.decode("utf-8-sig", "surrogateescape"))
    text, note = _decode(path, data)
    _check_lines(path, text)
    # DOS programs end a text file with this character.
    text = text.removesuffix("\x1a")
    stated = _SEPARATOR_LINE.match(text)
    start = 0 if stated is None else stated.end()
    table = text[start:].lstrip("\r\n")
    above = text[: len(text) - len(table)].replace("\r\n", "\n").replace("\r", "\n").count("\n")
    try:
        separator = _guess_separator(table) if stated is None else stated[1]
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as a CSV table: {error}; correct the cells of its first lines"
        ) from error
    return CsvText(table, separator, note, above)


def _read_strange(path: Path) -> bytes:
    """Read what is said to be a table, and no more of it than tells that it is something else."""
    with open_regular(path) as handle:
        head = handle.peek(512)[:512]
        if head.startswith(_WORKBOOKS):
            raise InputError(
                f"{path} is a workbook, not a CSV table; save it from the spreadsheet as CSV UTF-8"
            )
        if sniff(head) is not None:
            raise InputError(f"{path} is an image, not a CSV table; give a table, or a folder")
        size = os.fstat(handle.fileno()).st_size
        if size > _MOST_BYTES:
            raise InputError(
                f"the table {path} is {size / 2**20:,.0f} MiB large; give tables of at most "
                f"{_MOST_BYTES // 2**20} MiB"
            )
        return handle.read(_MOST_BYTES)


def _check_lines(path: Path, text: str) -> None:
    """Refuse what would take far more memory as cells than as text."""
    if len(text) <= _LONGEST_LINE:
        return
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if len(line) > _LONGEST_LINE or number > _MOST_LINES:
            what = "is too long" if number <= _MOST_LINES else "is one too many"
            raise InputError(
                f"line {number:,} of {path} {what} for a table of images; give at most "
                f"{_MOST_LINES:,} lines of at most {_LONGEST_LINE:,} characters"
            )


def _decode(path: Path, data: bytes) -> tuple[str, str]:
    try:
        for mark, encoding in _WIDE.items():
            if data.startswith(mark):
                return data.decode(encoding), ""
        if b"\0" in data[:2]:
            # Without a byte order mark; the first character of a table is in ASCII.
            return data.decode("utf-16-be" if data[:1] == b"\0" else "utf-16-le"), ""
        if b"\0" not in data:
            return _decode_bytes(data)
    except UnicodeDecodeError:
        pass
    raise InputError(
        f"the text of {path} is in an encoding that cannot be told; save the table as CSV UTF-8"
    )


def _decode_bytes(data: bytes) -> tuple[str, str]:
    try:
        return data.decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        text = data.decode("cp1252")
        if _NOT_WESTERN.search(text):
            raise
        return text, "it is not UTF-8 and was read as Western European text (cp1252)"


def _guess_separator(text: str) -> str:
    """Choose the separator by which the first rows are all as wide as the heading."""
    start = list(islice(io.StringIO(text, newline=""), _LOOKED_AT))
    heading = next(csv.reader(start), [])

    def fitness(mark: str) -> tuple[bool, int]:
        widths = [len(row) for row in csv.reader(start, delimiter=mark) if any(row)]
        # The last one may go on below.
        even = all(width == widths[0] for width in widths[:-1] or widths)
        return even and widths[0] > 1, widths[0]

    written = "".join(heading) + ("," if len(heading) > 1 else "")
    marks = [mark for mark in _SEPARATORS if mark in written]
    return max(marks, key=fitness) if marks else ","


def check_heading(path: Path, heading: Sequence[str]) -> None:
    """Refuse a table with two columns of one name, or with more names than a spreadsheet."""
    named = sum(map(bool, heading))
    if named > _MOST_COLUMNS:
        raise InputError(
            f"the table {path} has {named:,} columns; give at most {_MOST_COLUMNS:,} of them"
        )
    seen: set[str] = set()
    for name in filter(None, heading):
        if name.lower() in seen:
            raise InputError(
                f"the table {path} has two columns {name!r}; rename or remove one of them"
            )
        seen.add(name.lower())


def _rows(path: Path, reader: Any, heading: list[str], found: CsvText) -> Iterator[dict[str, str]]:
    """Go over the rows; those of another number of cells than the heading are refused."""
    wrong = []
    end = reader.line_num
    for row in reader:
        begin, end = end + 1, reader.line_num
        if not any(cell.strip() for cell in row):
            continue
        if len(row) < len(heading) or any(row[len(heading) :]):
            wrong.append(f"line {found.line + begin} has {len(row)}")
        elif not wrong:
            named = zip(heading, row, strict=False)
            yield {name: unescape(cell) for name, cell in named if name}
    if wrong:
        more = len(wrong) - _MOST_NAMED
        mark = found.separator
        rest = f" and {more} more lines have another number" if more > 0 else ""
        raise InputError(
            f"the heading of the table {path} has {counted(len(heading), 'cell')}, but "
            f"{', '.join(wrong[:_MOST_NAMED])}{rest}; correct these lines (the cells are separated "
            f"by {_SEPARATORS.get(mark, repr(mark))}; one that holds {mark!r} itself needs quotes)"
        )


def write_cells(table: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write the cells of a table, whole or not at all."""
    with (
        replacing(table) as beside,
        # Undecodable bytes in names of files come back as they were.
        beside.open("w", newline="", encoding="utf-8", errors="surrogateescape") as out,
    ):
        csv.writer(out).writerows(rows)


def mark_for_excel(*tables: Path) -> None:
    """Put a byte order mark in front of tables, without which Excel takes UTF-8 for something else.

    Tables that do not exist are passed over.
    """
    for table in tables:
        if not table.is_file():
            continue
        with (
            replacing(table, remedy="it is complete without --excel") as beside,
            table.open("rb") as plain,
            beside.open("wb") as marked,
        ):
            marked.write(codecs.BOM_UTF8)
            shutil.copyfileobj(plain, marked)


def safe_row(values: Iterable[Any]) -> list[str]:
    """Turn values into the cells of a row."""
    return [safe_cell(value) for value in values]


def safe_cell(value: Any) -> str:
    """Turn a value into a cell that a spreadsheet shows and never runs.

    Examples
    --------
    >>> safe_cell("=1+1"), safe_cell(-0.1), safe_cell(None), safe_cell(["w5", "w6"])
    ("'=1+1", '-0.1', '', 'w5; w6')
    >>> safe_cell("-5"), safe_cell("+/-"), safe_cell("1.10")
    ('-5', '+/-', '1.10')
    """
    if value is None:
        return ""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        text = "; ".join(str(item) for item in value)
    elif isinstance(value, Mapping):
        text = json.dumps(value, default=str)
    else:
        text = str(value)
    return f"'{text}" if _is_formula(text) else text


def escape(text: str) -> str:
    """Turn text into a safe cell that `unescape` turns back."""
    # An apostrophe that is there already gets another one, so that one can be taken away.
    return f"'{text}" if _is_formula(text.lstrip("'")) else text


def unescape(cell: str) -> str:
    """Take away the apostrophe that keeps a cell from being a formula."""
    return cell[1:] if cell[:1] == "'" and _is_formula(cell.lstrip("'")) else cell


def _is_formula(text: str) -> bool:
    return text.startswith(_FORMULA_STARTS) and not _HARMLESS.fullmatch(text)
