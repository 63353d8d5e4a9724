"""Refusals and errors as one line for a widget."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
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


#: How programs that compute networks are spelt.
_PROGRAMS = {"openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
_DEVICE = re.compile(rf"\b({'|'.join(_PROGRAMS)}) [\w.+-]+, (\w+), \w+")


def device_in_words(device: str) -> str:
    """Name what computed, without versions and kinds of numbers.

    Examples
    --------
    >>> device_in_words("openvino 2026.4.1, CPU, bfloat16"), device_in_words("gpu:0")
    ('CPU (OpenVINO)', 'GPU')
    """
    plain = device.partition(":")[0]
    return plain.upper() if plain in ("cpu", "gpu", "tpu") else in_plain_words(device)


def in_plain_words(text: str) -> str:
    """Write a sentence that names a device for those who look at cells."""
    return _DEVICE.sub(lambda found: f"{found[2]} ({_PROGRAMS[found[1]]})", text)


def set_in_words(names: Sequence[str], most: int = 8) -> str:
    """List the classes of a prediction set, the first ones of many.

    Examples
    --------
    >>> set_in_words(["RPE", "U2OS"]), set_in_words("abcdefghij")
    ('RPE, U2OS', 'a, b, c, d, e, f, g, h and 2 more')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def percent(probability: float) -> str:
    """Write a probability for people.

    `probability`: 0 to 1.

    Examples
    --------
    >>> percent(0.846), percent(0.99999), percent(0.0001)
    ('84.6 %', '> 99.9 %', '< 0.1 %')
    """
    if probability > 0.9995:
        return "> 99.9 %"
    return "< 0.1 %" if probability < 0.0005 else f"{probability:.1%}".replace("%", " %")


@dataclass(frozen=True)
class Refusal:
    """Why a click would do nothing."""

    #: What was received and what to do.
    message: str
