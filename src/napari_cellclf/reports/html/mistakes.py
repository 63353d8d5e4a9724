"""The worst mistakes as small pictures with what was answered."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.evaluation import percent
from napari_cellclf.errors import InputError
from napari_cellclf.reports.plots import to_rgb

if TYPE_CHECKING:
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.core.image import Image

MOST_MISTAKES = 24
#: Longer side of a thumbnail, in pixels; shown at half that on ordinary screens.
_SIDE = 240
_SHOWN_CLASSES = 3


def mistakes_view(
    evaluation: Evaluation, read: Callable[[str], Image] | None, shorten: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Collect the most confident wrong answers."""
    return [
        {
            "id": shorten(evaluation.ids[row]),
            "truth": evaluation.classes[evaluation.truth[row]].title,
            "answer": evaluation.classes[evaluation.predicted[row]].title,
            "bars": _bars(evaluation, row),
            **_picture(evaluation.ids[row], read),
        }
        for row in evaluation.mistakes(MOST_MISTAKES)
    ]


def thumbnail(image: Image) -> str:
    """Make a small picture of an image for a page."""
    from PIL import Image as Pillow

    shades = np.nan_to_num(to_rgb(image)) * 255
    picture = Pillow.fromarray(shades.round().astype(np.uint8))
    picture.thumbnail((_SIDE, _SIDE), Pillow.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _picture(name: str, read: Callable[[str], Image] | None) -> dict[str, str]:
    if read is None:
        return {"picture": "", "why": "no picture"}
    try:
        return {"picture": thumbnail(read(name)), "why": ""}
    except (InputError, OSError) as error:
        return {"picture": "", "why": f"no picture: {error}"}


def _bars(evaluation: Evaluation, row: int) -> list[dict[str, Any]]:
    """List the most probable classes and, if it is not among them, the true one."""
    probabilities = evaluation.probabilities[row]
    best = [int(n) for n in np.argsort(-probabilities, kind="stable")[:_SHOWN_CLASSES]]
    truth, answer = int(evaluation.truth[row]), int(evaluation.predicted[row])
    if truth not in best:
        best = [*best[: _SHOWN_CLASSES - 1], truth]
    return [
        {
            "name": evaluation.classes[number].title,
            "part": f"{100 * float(probabilities[number]):.2f}",
            "text": percent(float(probabilities[number])),
            "kind": "truth" if number == truth else "answer" if number == answer else "",
        }
        for number in best
    ]
