"""``progress.jsonl``: what happens in a run, one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from napari_cellclf.errors import RunError

OnEvent = Callable[[Mapping[str, Any]], None]


def ignore_event(record: Mapping[str, Any]) -> None:
    """Take no notice: the default of every `on_event`."""


class ProgressLog:
    """Writes lines as things happen."""

    def __init__(self, path: Path, on_event: OnEvent = ignore_event) -> None:
        self._path = path
        self._on_event = on_event
        with self._explained():
            # Unbuffered: a line that found no room is not written again later.
            self._file = path.open("a+b", buffering=0)
            self._close_last_line()

    def write(self, event: str, **fields: Any) -> None:
        """Write one line."""
        record = {"time": round(time.time(), 3), "event": event, **fields}
        with self._explained():
            self._file.write(json.dumps(record).encode() + b"\n")
        self._on_event(record)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RunError(
                f"{self._path} cannot be written ({error.strerror or error}); free some space, or "
                "make it writable, and start the run again, it goes on from its last checkpoint"
            ) from error

    def _close_last_line(self) -> None:
        """End the line in which a process was killed."""
        if self._file.seek(0, 2):
            self._file.seek(-1, 2)
            if self._file.read(1) != b"\n":
                self._file.write(b"\n")


def read_progress(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Read the lines that were written since the last time."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            content = file.read()
    except OSError:
        return [], offset
    end = content.rfind(b"\n") + 1
    records = [_parse(line) for line in content[:end].splitlines()]
    return [record for record in records if record is not None], offset + end


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and "event" in found else None
