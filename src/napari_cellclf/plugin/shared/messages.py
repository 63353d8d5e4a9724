"""Refusals and errors as one line for a widget."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from napari_cellclf.errors import CellclfError

_log = logging.getLogger(__name__)


def explain(error: BaseException) -> str:
    """Write an error as one line for the widget."""
    if isinstance(error, CellclfError):
        return sentence(str(error))
    _log.error("the work failed", exc_info=error)
    if isinstance(error, MemoryError):
        return "There was not enough memory; close other images or choose smaller ones."
    kind: Any = type(error).__name__
    first = (str(error).splitlines() or [""])[0][:200]
    return f"Something unexpected happened ({kind}: {first}); the log has the details."


def sentence(text: str) -> str:
    """Write a message as a sentence: on one line, with a capital letter and a full stop."""
    text = " ".join(text.split())
    first = text.split(" ", 1)[0]
    # The name of a file stays as it is.
    start = first.capitalize() if first.isalpha() and first.islower() else first
    return start + text[len(first) :] + ("" if text.endswith((".", "!", "?")) else ".")


@dataclass(frozen=True)
class Refusal:
    """Why a click would do nothing."""

    #: What was received and what to do.
    message: str
