"""The file that a download grows in, and the note by which it can be continued."""

from __future__ import annotations

import json
import time
from pathlib import Path

_MARK = ".cellclf-partial"
#: A download that nobody has written to for so long is nobody's: its process was killed.
_ABANDONED_SECONDS = 86_400.0


class PartialFile:
    """What has arrived of a file so far, hidden beside its place."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(f".{target.name}{_MARK}")
        self._note = target.with_name(f".{target.name}{_MARK}.json")

    def resume_at(self, origin: str) -> tuple[int, str | None]:
        """Say from which byte on the rest is wanted."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            size = self.path.stat().st_size
        except (OSError, ValueError):
            return 0, None
        if not isinstance(note, dict) or note.get("origin") != origin:
            return 0, None
        return size, str(note.get("tag"))

    def remember(self, origin: str, tag: str | None) -> None:
        """Note which version of the file is about to arrive; without a tag, that none is known."""
        if tag is None:
            self._note.unlink(missing_ok=True)
        else:
            text = json.dumps({"origin": origin, "tag": tag})
            self._note.write_text(text, encoding="utf-8")

    def remove(self) -> None:
        """Leave nothing."""
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the whole file in its place at once."""
        self.path.replace(self.target)
        self._note.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove what processes that were killed have left in a folder."""
    long_ago = time.time() - _ABANDONED_SECONDS
    for path in folder.glob(f".*{_MARK}*"):
        # Another process may have finished it between listing and looking.
        if path.is_file() and path.stat().st_mtime < long_ago:
            path.unlink(missing_ok=True)
