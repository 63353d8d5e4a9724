"""Normalisations in one word and their numbers, as people type them."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import ValidationError

from napari_cellclf.core.normalization import (
    Fixed,
    ImageNet,
    Normalization,
    Percentile,
    ScaleLinear,
    ZeroMeanUnitVariance,
)
from napari_cellclf.core.normalization_forms import FORMS
from napari_cellclf.errors import NormalizationError

_IMAGENET = {
    "tf": ImageNet(),
    "torch": ImageNet(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)),
    "caffe": ImageNet(mean=(123.68, 116.779, 103.939), std=(1, 1, 1), bgr=True),
    "raw": ImageNet(mean=(0, 0, 0), std=(1, 1, 1)),
}


def parse_normalization(text: str) -> Normalization:
    """Read a normalisation from one word, with its numbers after a colon.

    Parameters
    ----------
    text : str
        One of `FORMS`.

    Returns
    -------
    Normalization
        With all its numbers.

    Raises
    ------
    NormalizationError
        If it is none of them, naming them all.

    Examples
    --------
    >>> parse_normalization("percentile:1,99.5")
    Percentile(kind='percentile', low=1.0, high=99.5)
    >>> parse_normalization("min_max") == parse_normalization("percentile:0,100")
    True
    """
    word, _, numbers = text.strip().partition(":")
    reader = _READERS.get(word)
    try:
        if reader is not None:
            return reader(numbers)
    except (ValueError, KeyError, ValidationError) as error:
        forms = " or ".join(form for form in FORMS if form.split(":")[0] == word)
        raise NormalizationError(
            f"normalisation {text!r} has numbers that it does not take; give {forms}"
        ) from error
    raise NormalizationError(
        f"{text!r} is no normalisation; give one of {', '.join(FORMS)}, or a JSON file with "
        "a whole preprocessing"
    )


def _nothing(numbers: str) -> None:
    if numbers:
        raise ValueError(numbers)


def _standardized(numbers: str) -> Normalization:
    _nothing(numbers)
    return ZeroMeanUnitVariance()


def _min_max(numbers: str) -> Normalization:
    _nothing(numbers)
    return Percentile(low=0, high=100)


def _percentile(numbers: str) -> Normalization:
    low, high = map(float, numbers.split(","))
    return Percentile(low=low, high=high)


def _scaled(numbers: str) -> Normalization:
    # The white of 8 and of 16 bits say no more than the word alone; as factors they would turn
    # nearly every pixel white.
    if numbers in ("", "255", "65535"):
        return ScaleLinear()
    if not numbers.startswith("x"):
        raise ValueError(numbers)
    return ScaleLinear(factor=float(numbers[1:]))


def _fixed(numbers: str) -> Normalization:
    pairs = [tuple(map(float, pair.split("/"))) for pair in numbers.split(",")]
    means, spreads = zip(*((mean, spread) for mean, spread in pairs), strict=True)
    return Fixed(mean=means, std=spreads)


def _imagenet(numbers: str) -> Normalization:
    return _IMAGENET[numbers]


_READERS: dict[str, Callable[[str], Normalization]] = {
    "zero_mean_unit_variance": _standardized,
    "min_max": _min_max,
    "percentile": _percentile,
    "scale_linear": _scaled,
    "fixed": _fixed,
    "imagenet": _imagenet,
}
