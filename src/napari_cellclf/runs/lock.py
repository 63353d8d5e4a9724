"""One process at a time trains in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from napari_cellclf.errors import RunError, RunLockedError
from napari_cellclf.runs.folder import RunFolder

#: Seconds.
_PATIENCE = 0.5


@contextmanager
def locked(run: RunFolder) -> Iterator[None]:
    """Hold a run's lock; the system lets go of it when the process ends, however it does."""
    # Without `thread_local`, the lock would not be this run's but this thread's. A moment of
    # patience, since whoever asks `is_locked` holds it for an instant.
    lock = FileLock(run.lock_file, timeout=_PATIENCE, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise RunLockedError(
            f"another process is training in {run.path}; wait for it, or stop it by making a file "
            f"{run.stop_file}"
        ) from error
    except OSError as error:
        raise RunError(
            f"{run.path} cannot be written ({error.strerror or error}); make it writable to go on "
            "with the run"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_locked(run: RunFolder) -> bool:
    """Whether a process is training in a folder."""
    if not run.lock_file.exists():
        return False
    try:
        with locked(run):
            return False
    except RunLockedError:
        return True
