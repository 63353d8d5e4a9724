"""The six stains of RxRx1, in the order of its files ``w1`` to ``w6``.

The cell painting protocol and its channels are described on the data set's page
(https://www.rxrx.ai/rxrx1) and by Bray et al., Nature Protocols 11, 1757 (2016).
"""

from __future__ import annotations

#: Channel names, ``STAINS[0]`` is file ``w1``.
STAINS: tuple[str, ...] = (
    "w1 Hoechst",
    "w2 ConA",
    "w3 Phalloidin",
    "w4 Syto14",
    "w5 MitoTracker",
    "w6 WGA",
)

#: The cell types of RxRx1, in alphabetical order.
CELL_TYPES: tuple[str, ...] = ("HEPG2", "HUVEC", "RPE", "U2OS")
