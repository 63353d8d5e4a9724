"""The texts of a package: licence, authors, name, citation, documentation; and its cover."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from pydantic import ValidationError

from napari_cellclf.bundles.card import model_card
from napari_cellclf.errors import ExportError
from napari_cellclf.models.export.runtimes import export_library

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import BundleSpec


#: What the specification lets a name hold, and its shortest and longest.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_+\-() ]+")
_SHORTEST, _LONGEST = 5, 128
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s,;]*[^\s,;.]")
_COVER_SIDE = 256
_ARXIV = re.compile(r"arXiv:\s*(\d{4}\.\d{4,5})", re.IGNORECASE)


def spdx_licence(stated: str, given: str | None) -> str:
    """Find the SPDX identifier of a licence."""
    # What follows a comma, a colon or a bracket explains.
    said = re.split(r"[,;:(]", stated if given is None else given)[0].strip().rstrip(".")
    dashed = re.sub(r"\s+", "-", said)
    found = next(filter(_is_spdx, (said, dashed, dashed.upper())), None)
    if found is not None:
        return found
    received = repr(said[:80]) if said else "nothing"
    raise ExportError(
        f"a bioimage.io package needs the SPDX identifier of its licence, but {received} was "
        "found; give it with licence='CC-BY-4.0' or another (--licence on the command line)"
    )


def written_authors(lines: tuple[str, ...]) -> list[dict[str, str]]:
    """Write authors in the form of the specification."""
    if not lines:
        raise ExportError(
            "a bioimage.io package needs its authors; give them with authors=['Name, Affiliation'] "
            "(--author on the command line)"
        )
    made = []
    for line in lines:
        name, _, affiliation = (part.strip() for part in line.partition(","))
        if not name or "/" in name or "\\" in name:
            raise ExportError(f"{line!r} does not name an author; write it as 'Name, Affiliation'")
        made.append({"name": name} | ({"affiliation": affiliation} if affiliation else {}))
    return made


def package_name(title: str) -> str:
    """Make a name of the letters that the specification allows.

    Examples
    --------
    >>> package_name("w1/#"), package_name("RxRx1 cell type")
    ('w1 classifier', 'RxRx1 cell type')
    """
    plain = " ".join(_NOT_IN_NAMES.sub(" ", title).split())[:_LONGEST].strip()
    return plain if len(plain) >= _SHORTEST else f"{plain} classifier".strip()


def citations(text: str) -> list[dict[str, str]]:
    """Write a citation that names a DOI or an arXiv number; others stay in the documentation."""
    # arXiv registers a DOI for each of its papers.
    doi = _DOI.search(_ARXIV.sub(r"10.48550/arXiv.\1", text))
    if doi is None:
        return []
    return [{"text": text, "doi": doi.group()}]


def documentation(spec: BundleSpec, neutral: list[float], full: float) -> str:
    """Write the model card, and what the specification cannot express."""
    return model_card(spec) + "\n" + "\n".join(_lines(spec, neutral, full)) + "\n"


def cover(pixels: NDArray[np.float32]) -> bytes:
    """Draw up to three channels of the test image.

    `pixels`: ndarray, shape (Y, X, C); in any units. Returns a square PNG, each channel stretched
    between its 1st and 99.5th percentile.
    """
    from PIL import Image as Pillow

    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    square = pixels[top : top + side, left : left + side, :3]
    low, high = np.percentile(square, (1, 99.5), axis=(0, 1))
    grey = np.clip((square - low) / np.maximum(high - low, 1e-6), 0, 1)
    colours = np.zeros((side, side, 3))
    colours[..., : grey.shape[-1]] = grey
    if grey.shape[-1] == 1:
        colours[:] = grey
    picture = Pillow.fromarray((255 * colours).astype(np.uint8))
    stream = io.BytesIO()
    picture.resize((_COVER_SIDE, _COVER_SIDE)).save(stream, "PNG")
    return stream.getvalue()


def _lines(spec: BundleSpec, neutral: list[float], full: float) -> Iterator[str]:
    preprocessing = spec.input.preprocessing
    yield from ("## Input", "")
    yield (
        "One array for each image, axes batch, y, x, channel, float32, in the units of the camera. "
        "The channels are " + ", ".join(spec.input.channels) + ", in this order."
    )
    if preprocessing.object_crop is not None:
        yield (
            f"It must be an object of an image, of which {preprocessing.object_crop.text} is cut "
            "out: cut first. The package does not do this."
        )
    if preprocessing.centre < 1:
        yield (
            f"It must be the centre of an image, {preprocessing.centre:g} of its height and width: "
            "crop first. The package does not do this."
        )
    if preprocessing.size is not None:
        height, width = preprocessing.size
        yield (
            f"It must already be {height} x {width} pixels (height x width): resize it with linear "
            "interpolation, with smoothing when shrinking. The package does not do this."
        )
    elif spec.input.views == "all":
        yield "Images must be square, since they are also predicted transposed."
    if preprocessing.normalization.needs_white:
        yield f"White is {full:g}: rescale images of other types."
    optional = [
        f"{channel.name} with {value:g}"
        for channel, value in zip(preprocessing.channels, neutral, strict=True)
        if not channel.required
    ]
    if optional:
        yield f"A channel that is missing is filled: {', '.join(optional)}."
    yield from ("", "## Output", "")
    yield "The probability of each class. Inside the ONNX file, besides the network:"
    yield f"the mean over views of the image ({spec.input.views}), and the temperature"
    yield f"{spec.temperature:g}{' with class offsets' if spec.class_offsets else ''}."
    yield from ("", "## Validation", "")
    yield (
        "The test tensors reproduce the original model's prediction of its test image. Its "
        "evaluations are listed above; validate it on images of known class from your own "
        "microscope before you rely on it."
    )


def _is_spdx(name: str) -> bool:
    try:
        export_library("bioimageio.spec.model.v0_5").LicenseId(name)
    except ValidationError:
        return False
    return True
