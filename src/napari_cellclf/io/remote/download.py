"""Copy a source into a file: bounded in time and size, stopped at once, resumed where it broke."""

from __future__ import annotations

import json
import queue
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from napari_cellclf.core.progress import OnProgress, Progress, ShouldStop
from napari_cellclf.errors import CancelledError, CellclfError, DownloadError
from napari_cellclf.io.notes import read_note
from napari_cellclf.io.remote.source import OpenFile, PassingFault, Rules, Source, too_slow

_BLOCK = 1 << 16
_BLOCKS_WAITING = 16
#: Seconds: how soon a stop is noticed while nothing arrives, and how often progress is told.
_TICK = 0.1
#: What reading a source may raise.
_FAULTS = (PassingFault, CellclfError, OSError)
_Item = OpenFile | bytes | BaseException | None
_MARK = ".cellclf-partial"
#: A download that nobody has written to for so long is nobody's: its process was killed.
_ABANDONED_SECONDS = 86_400.0
#: Left free, so that other programs do not stop because of us.
_RESERVE = 32 << 20


@dataclass
class Transfer:
    """The attempts to fetch one file from one source."""

    source: Source
    #: Its address, for messages.
    where: str
    #: Larger files are refused.
    max_bytes: int
    rules: Rules
    #: Receives bytes done and in all.
    on_progress: OnProgress
    #: Asked before every block, and while waiting.
    should_stop: ShouldStop
    _deadline: float = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = time.monotonic() + self.rules.total_seconds

    def run(self, partial: PartialFile) -> None:
        """Fetch the file, resuming where a connection broke."""
        wait = self.rules.first_wait
        for attempt in range(1, self.rules.attempts + 1):
            try:
                return self._attempt(partial)
            except PassingFault as fault:
                if fault.from_start:
                    partial.remove()
                if attempt == self.rules.attempts:
                    raise fault.error from fault
                self._pause(max(wait, fault.wait))
                wait *= 2

    def _attempt(self, partial: PartialFile) -> None:
        start, tag = partial.resume_at(self.where)
        with self._reading(start, tag) as reader:
            answer = self._receive(reader)
            if not isinstance(answer, OpenFile):
                raise DownloadError(f"{self.where} sends nothing; try again later")
            total = self._checked_total(answer, partial.path.parent)
            partial.remember(self.where, answer.tag)
            received = self._write(reader, partial.path, answer.start, total)
        if answer.total is not None and received != answer.total:
            raise PassingFault(
                DownloadError(
                    f"{self.where} ended after {received} of {answer.total} bytes; try again"
                )
            )

    @contextmanager
    def _reading(self, start: int, tag: str | None) -> Iterator[_Reader]:
        reader = _Reader(self.source, start, tag)
        try:
            yield reader
        finally:
            reader.abandon()

    def _checked_total(self, answer: OpenFile, folder: Path) -> int:
        if answer.total is None:
            return self.max_bytes
        if answer.total > self.max_bytes:
            raise self._too_large()
        check_space(folder, answer.total - answer.start)
        return answer.total

    def _write(self, reader: _Reader, path: Path, start: int, total: int) -> int:
        received, told = start, 0.0
        pace = _Pace(self.rules)
        with path.open("r+b" if start else "wb") as file:
            # Cut where the server goes on, lest anything older stays behind the end.
            file.truncate(start)
            file.seek(start)
            while isinstance(block := self._receive(reader), bytes):
                received += len(block)
                if received > self.max_bytes:
                    raise self._too_large()
                if pace.is_too_slow(len(block)):
                    raise too_slow(self.where)
                file.write(block)
                if time.monotonic() - told >= _TICK:
                    told = time.monotonic()
                    self.on_progress(Progress(received, total, self.where))
        self.on_progress(Progress(received, max(received, total), self.where))
        return received

    def _receive(self, reader: _Reader) -> OpenFile | bytes | None:
        """Wait for the next item, for as long as a server may be silent."""
        silent_until = time.monotonic() + self.rules.stall_seconds
        while True:
            self._stop_if_asked()
            now = time.monotonic()
            if now > self._deadline:
                raise too_slow(self.where)
            try:
                item = reader.next()
            except queue.Empty:
                if now > silent_until:
                    raise PassingFault(too_slow(self.where)) from None
                continue
            if isinstance(item, BaseException):
                raise item
            return item

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._stop_if_asked()
            time.sleep(min(left, _TICK))

    def _stop_if_asked(self) -> None:
        if self.should_stop():
            raise CancelledError(f"stopped while {self.where} was being fetched")

    def _too_large(self) -> DownloadError:
        return DownloadError(
            f"{self.where} is larger than the {self.max_bytes} bytes expected, so it is another "
            "file; check the address"
        )


class _Reader:
    """Reads a source in a thread of its own, since a silent server cannot be interrupted."""

    def __init__(self, source: Source, start: int, tag: str | None) -> None:
        self._items: queue.Queue[_Item] = queue.Queue(_BLOCKS_WAITING)
        self._abandoned = threading.Event()
        # Where a server is silent the thread ends by its own time limit; nobody waits for it.
        self._thread = threading.Thread(
            target=self._run, args=(source, start, tag), name="cellclf-download", daemon=True
        )
        self._thread.start()

    def _run(self, source: Source, start: int, tag: str | None) -> None:
        try:
            with source.open(start, tag) as answer:
                self._put(answer)
                while not self._abandoned.is_set() and (block := answer.read(_BLOCK)):
                    self._put(block)
        except _FAULTS as error:
            self._put(error)
        finally:
            self._put(None)

    def _put(self, item: _Item) -> None:
        while not self._abandoned.is_set():
            try:
                self._items.put(item, timeout=_TICK)
            except queue.Full:
                continue
            return

    def next(self) -> _Item:
        """Return what has arrived next; `queue.Empty` is raised if nothing has for a moment."""
        return self._items.get(timeout=_TICK)

    def abandon(self) -> None:
        """Stop reading."""
        self._abandoned.set()


class _Pace:
    """Measures a server's speed over periods of `stall_seconds`."""

    def __init__(self, rules: Rules) -> None:
        self._seconds = rules.stall_seconds
        self._least = rules.slowest * rules.stall_seconds
        self._began, self._bytes = time.monotonic(), 0

    def is_too_slow(self, n_bytes: int) -> bool:
        self._bytes += n_bytes
        now = time.monotonic()
        if now - self._began < self._seconds:
            return False
        slow = self._bytes < self._least
        self._began, self._bytes = now, 0
        return slow


class PartialFile:
    """The downloaded part of a file, hidden beside its target."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}{_MARK}")
        self._note = target.with_name(f".{target.name}{_MARK}.json")

    def resume_at(self, origin: str) -> tuple[int, str | None]:
        """Return the byte and the tag to resume at."""
        note = read_note(self._note) or {}
        tag = note.get("tag")
        # It is sent to the server as a line.
        if note.get("origin") != origin or not isinstance(tag, str) or not tag.isprintable():
            return 0, None
        try:
            return self.path.stat().st_size, tag
        except OSError:
            return 0, None

    def remember(self, origin: str, tag: str | None) -> None:
        """Record the version of the file being fetched; without a tag, remove the record."""
        if tag is None:
            self._note.unlink(missing_ok=True)
        else:
            text = json.dumps({"origin": origin, "tag": tag})
            self._note.write_text(text, encoding="utf-8")

    def remove(self) -> None:
        """Delete the file and its note."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Move the complete file into place."""
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what killed processes have left in a folder."""
    long_ago = time.time() - _ABANDONED_SECONDS
    for path in folder.glob(f".*{_MARK}*"):
        # Another process may have finished it between listing and looking.
        if path.is_file() and path.stat().st_mtime < long_ago:
            path.unlink(missing_ok=True)


def check_space(folder: Path, n_bytes: int) -> None:
    """Refuse a file that is larger than the free space."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + _RESERVE:
        raise DownloadError(
            f"{n_bytes / 1e6:.1f} MB are needed and {folder} has {free / 1e6:.1f} MB free; free "
            "some space, or set CELLCLF_CACHE (for ImageNet weights KERAS_HOME) to another disk"
        )
