"""Padding 'same' as Keras means it, in numbers where the size of the image is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Shape = tuple[int | None, ...]


def padding(
    kind: str,
    shape: Shape,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int] = (1, 1),
) -> dict[str, Any]:
    """Return the attributes of a convolution or a pooling that pad its image.

    `shape`: of the image, ``(N, Y, X, C)``.

    Examples
    --------
    >>> padding("same", (None, 7, 8, 3), (3, 3), (2, 2))
    {'pads': [1, 0, 1, 1]}
    >>> padding("same", (None, None, None, 3), (3, 3), (1, 1))
    {'pads': [1, 1, 1, 1]}
    >>> padding("same", (None, None, None, 3), (3, 3), (2, 2))
    {'auto_pad': 'SAME_UPPER'}
    """
    if kind == "valid":
        return {}
    totals = [_total(*sides) for sides in zip(shape[1:3], kernel, strides, dilations, strict=True)]
    known = [total for total in totals if total is not None]
    if len(known) < len(totals):
        return {"auto_pad": "SAME_UPPER"}
    before = [total // 2 for total in known]
    return {"pads": before + [total - half for total, half in zip(known, before, strict=True)]}


def _total(side: int | None, kernel: int, stride: int, dilation: int) -> int | None:
    reach = (kernel - 1) * dilation + 1
    if stride == 1 or reach == 1:
        return reach - 1
    if side is None:
        return None
    steps = -(-side // stride)
    return max((steps - 1) * stride + reach - side, 0)
