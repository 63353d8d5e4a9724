"""Fetch one file from anywhere, once, and keep it only if its checksum is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from napari_cellclf.core.progress import OnProgress, ShouldStop, ignore_progress, never_stop
from napari_cellclf.errors import CancelledError, DownloadError
from napari_cellclf.io.remote.addresses import (
    Address,
    FileAddress,
    HubAddress,
    ObjectAddress,
    WebAddress,
    check_name,
    parse_address,
)
from napari_cellclf.io.remote.checksum import Checksum, note_checked, note_path, was_checked
from napari_cellclf.io.remote.download import PartialFile, Transfer, sweep
from napari_cellclf.io.remote.object_store import ObjectSource
from napari_cellclf.io.remote.source import OFFLINE_VARIABLE, FileSource, Rules, Source, is_offline
from napari_cellclf.io.remote.web import WebSource, ZenodoSource, hub_url

#: Seconds between two questions whether to go on waiting for another process.
_PATIENCE = 0.2


def fetch_file(
    uri: str | Path,
    folder: Path,
    *,
    checksum: Checksum,
    max_bytes: int,
    mirrors: Sequence[str] = (),
    name: str | None = None,
    offline: bool = False,
    rules: Rules | None = None,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> Path:
    """Fetch a file into a folder, unless it is there already.

    A file that is there is not read again if the note beside it says that it was compared with
    `checksum` and neither its size nor its time of change is another since; else it is.

    Parameters
    ----------
    uri : str or Path
        ``https://``, ``s3://bucket/key``, ``doi:10.5281/zenodo.N[/file]``,
        ``hf:owner/name@commit/path``, ``file://`` or a path; plain HTTP to this computer only.
    folder : Path
        Where it is kept; created if needed.
    checksum : Checksum
        The checksum it must have.
    max_bytes : int
        Larger files are refused.
    mirrors : sequence of str
        Other addresses of the same file, tried in turn.
    name : str, optional
        Its name there; by default that of its address.
    offline : bool
        Use no network; ``CELLCLF_OFFLINE=1`` sets this for everything.
    rules : Rules, optional
        Limits of the download.
    on_progress : callable
        Told bytes done and in all, ten times a second.
    should_stop : callable
        Asked before every block and while waiting: a stop is noticed within a tenth of a second.

    Returns
    -------
    Path
        The file, checked.

    Raises
    ------
    DownloadError
        If it cannot be fetched, or is not the file expected; nothing of it is left then.
    CancelledError
        If `should_stop` says so; nothing of it is left then.
    """
    addresses = [parse_address(place) for place in (uri, *mirrors)]
    target = folder / check_name(name or addresses[0].name, str(addresses[0]))
    if was_checked(target, checksum):
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(target, should_stop):
            if not _is_here(target, checksum, should_stop):
                sweep(folder)
                job = _Job(target, checksum, max_bytes, rules or Rules(), on_progress, should_stop)
                job.run(_allowed(addresses, target, offline))
    except OSError as error:
        raise DownloadError(
            f"{target.name} cannot be written to {folder} ({error.strerror or error}); free some "
            "space, or set CELLCLF_CACHE (for ImageNet weights KERAS_HOME) to a folder that has it"
        ) from error
    return target


@dataclass(frozen=True)
class _Job:
    """The download of one file, from the first of several addresses that has it."""

    target: Path
    checksum: Checksum
    max_bytes: int
    rules: Rules
    on_progress: OnProgress
    should_stop: ShouldStop

    def run(self, addresses: Sequence[Address]) -> None:
        failed: list[DownloadError] = []
        for address in addresses:
            try:
                return self._fetch(address)
            except DownloadError as error:
                failed.append(error)
        if len(failed) == 1:
            raise failed[0]
        raise DownloadError(
            f"{self.target.name} could not be fetched from any of {len(failed)} addresses; the "
            f"first: {failed[0]}"
        ) from failed[0]

    def _fetch(self, address: Address) -> None:
        source = _source(address, self.rules)
        partial = PartialFile(self.target)
        transfer = Transfer(
            source, str(address), self.max_bytes, self.rules, self.on_progress, self.should_stop
        )
        try:
            inherited = partial.path.exists()
            transfer.run(partial)
            if inherited and not self.checksum.fits(partial.path, self.should_stop):
                # What another process left may have lost its end when the power went.
                partial.remove()
                transfer.run(partial)
            self._check(partial.path, source, address)
            partial.finish()
        finally:
            # Only a process that is killed leaves something, for its successor to go on with.
            partial.remove()
        note_checked(self.target, self.checksum)

    def _check(self, path: Path, source: Source, address: Address) -> None:
        published = source.published()
        for checksum, whose in (
            (self.checksum, "expected"),
            (published, "stated by the publisher"),
        ):
            if checksum is not None and not checksum.fits(path, self.should_stop):
                raise DownloadError(
                    f"{address} is not the file that was {whose} (its {checksum.title} differs); "
                    "try again, or use another connection"
                )


def _is_here(target: Path, checksum: Checksum, should_stop: ShouldStop) -> bool:
    """Whether the expected file is there; the note of another file is removed."""
    if not target.is_file():
        return False
    if was_checked(target, checksum):
        return True
    if checksum.fits(target, should_stop):
        note_checked(target, checksum)
        return True
    note_path(target).unlink(missing_ok=True)
    return False


def _allowed(addresses: Sequence[Address], target: Path, offline: bool) -> list[Address]:
    """Leave out addresses that need the network if it must not be used."""
    if not is_offline(offline):
        return list(addresses)
    here = [a for a in addresses if isinstance(a, FileAddress) and not a.is_share]
    if not here:
        raise DownloadError(
            f"{target.name} is not in {target.parent} and the network must not be used; fetch it "
            f"once without --offline and {OFFLINE_VARIABLE}, or copy it there"
        )
    return list(here)


def _source(address: Address, rules: Rules) -> Source:
    match address:
        case WebAddress(url):
            return WebSource(url, rules)
        case ObjectAddress():
            return ObjectSource(address, rules)
        case HubAddress():
            return WebSource(hub_url(address), rules)
        case FileAddress():
            return FileSource(address)
        case _:
            return ZenodoSource(address, rules)


@contextmanager
def _alone(target: Path, should_stop: ShouldStop) -> Iterator[None]:
    """Let one process at a time fetch a file, while the others wait for it."""
    lock = FileLock(target.with_name(f".{target.name}.lock"), thread_local=False)
    while True:
        if should_stop():
            raise CancelledError(f"stopped while another process was fetching {target.name}")
        try:
            lock.acquire(timeout=_PATIENCE)
            break
        except Timeout:
            continue
    try:
        yield
    finally:
        lock.release()
