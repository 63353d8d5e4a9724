"""What a download may do, and whether there may be one at all."""

from __future__ import annotations

import os
from dataclasses import dataclass

#: Environment variable that forbids the network.
OFFLINE_VARIABLE = "CELLCLF_OFFLINE"


@dataclass(frozen=True)
class Rules:
    """How patient a download is.

    Parameters
    ----------
    stall_seconds : float
        Longest silence of a server, and the time over which its speed is judged.
    slowest : float
        Bytes per second below which a server is given up.
    total_seconds : float
        Longest time for one file.
    max_redirects : int
        How often a server may point elsewhere.
    attempts : int
        How often a file is tried at one address when servers fail or connections break.
    first_wait : float
        Seconds before the second attempt; doubled before each further one.
    """

    stall_seconds: float = 20.0
    slowest: float = 1024.0
    total_seconds: float = 6 * 3600.0
    max_redirects: int = 5
    attempts: int = 4
    first_wait: float = 0.5


def is_offline(asked: bool = False) -> bool:
    """Whether the network must not be used.

    Examples
    --------
    >>> is_offline(True)
    True
    """
    return asked or os.environ.get(OFFLINE_VARIABLE, "").strip() not in ("", "0")
