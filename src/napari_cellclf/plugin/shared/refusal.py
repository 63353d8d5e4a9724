"""Why a click would do nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """Why a click would do nothing."""

    #: What was received and what to do.
    message: str
