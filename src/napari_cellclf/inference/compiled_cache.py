"""Compiled networks on disk, so that the next start need not compile them again.

A file is named after all that it depends on and begins with the SHA-256 of the rest: one that was
cut short, or whose bits have changed, is not used. Any of them may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from napari_cellclf.io.cache import cache_folder, delete_oldest, remove_abandoned

#: Above this much, in bytes, those that were not used for longest are deleted.
MAX_BYTES = 1 << 30

_SUFFIX = ".compiled"
_DIGEST = hashlib.sha256().digest_size

_log = logging.getLogger(__name__)


def engines_folder() -> Path:
    """Return the folder of compiled networks; it need not exist yet."""
    return cache_folder() / "engines"


def key_of(*parts: str) -> str:
    """Name what a compiled network depends on."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def find_compiled(key: str) -> bytes | None:
    """Read a compiled network.

    Returns as it was kept; None if there is none, or a damaged one.
    """
    path = _path(key)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    # Now it is the one that was used last; a folder that is only read needs no order.
    with suppress(OSError):
        os.utime(path)
    found = content[_DIGEST:]
    return found if hashlib.sha256(found).digest() == content[:_DIGEST] else None


def keep_compiled(key: str, compiled: bytes) -> None:
    """Keep a compiled network for next time; a folder that refuses is no reason to stop.

    `compiled`: bytes; what `find_compiled` is to return.
    """
    path = _path(key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path.parent)
        with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=path.parent) as folder:
            beside = Path(folder) / path.name
            beside.write_bytes(hashlib.sha256(compiled).digest() + compiled)
            beside.replace(path)
        delete_oldest(path.parent.glob(f"*{_SUFFIX}"), MAX_BYTES)
    except OSError as error:
        _log.info("a compiled network is not kept in %s: %s", path.parent, error)


def _path(key: str) -> Path:
    return engines_folder() / f"{key}{_SUFFIX}"
