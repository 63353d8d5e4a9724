"""Our normalisations in the words of the bioimage.io model specification 0.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.normalization import (
    Fixed,
    ImageNet,
    Percentile,
    ScaleLinear,
    ZeroMeanUnitVariance,
)

if TYPE_CHECKING:
    from napari_cellclf.core.preprocessing import Preprocessing

Step = dict[str, Any]

_PLANE = ["y", "x"]


def preprocessing_steps(preprocessing: Preprocessing, full: float) -> list[Step]:
    """Write a normalisation as a list of the specification's processing steps.

    Returns steps for float32 pixels in the units of the camera, channels chosen and ordered,
    resized.

    Examples
    --------
    >>> from napari_cellclf import Preprocessing
    >>> prepare = Preprocessing(channels=[{"name": "DNA"}], normalization={"kind": "scale_linear"})
    >>> [step["id"] for step in preprocessing_steps(prepare, 255.0)]
    ['scale_linear', 'clip']
    """
    normalization, count = preprocessing.normalization, len(preprocessing.channels)
    steps: dict[type, Callable[[Any, float, int], list[Step]]] = {
        ZeroMeanUnitVariance: _zero_mean,
        Percentile: _percentile,
        ScaleLinear: _scale_linear,
        Fixed: _fixed,
        ImageNet: _imagenet,
    }
    return steps[type(normalization)](normalization, full, count)


def neutral_values(preprocessing: Preprocessing, full: float) -> list[float]:
    """Find the value of each channel that its normalisation makes zero."""
    normalization, count = preprocessing.normalization, len(preprocessing.channels)
    if isinstance(normalization, Fixed):
        return list(normalization.mean)
    if isinstance(normalization, ImageNet):
        means = normalization.mean if count == 3 else [float(np.mean(normalization.mean))] * count
        return [mean * full / 255 for mean in means]
    return [0.0] * count


def _step(name: str, **kwargs: Any) -> Step:
    return {"id": name, "kwargs": kwargs}


def _zero_mean(normalization: ZeroMeanUnitVariance, full: float, count: int) -> list[Step]:
    # In float64, as here: the variance of 16-bit pixels around a large mean cancels in float32.
    return [
        _step("ensure_dtype", dtype="float64"),
        _step("zero_mean_unit_variance", axes=_PLANE),
    ]


def _percentile(normalization: Percentile, full: float, count: int) -> list[Step]:
    return [
        _step(
            "scale_range",
            axes=_PLANE,
            min_percentile=normalization.low,
            max_percentile=normalization.high,
        ),
        _step("clip", min=0.0, max=1.0),
    ]


def _scale_linear(normalization: ScaleLinear, full: float, count: int) -> list[Step]:
    steps = []
    if normalization.eight_bit:
        # Casting to whole numbers drops what is behind the point.
        steps = [*_gain((256 if full > 255 else 255) / (full + (full > 255)))]
        steps.append(_step("ensure_dtype", dtype="uint16"))
        steps.append(_step("ensure_dtype", dtype="float32"))
        full = 255.0
    return [*steps, *_gain(normalization.factor / full), _step("clip", min=0.0, max=1.0)]


def _fixed(normalization: Fixed, full: float, count: int) -> list[Step]:
    return [
        _step(
            "fixed_zero_mean_unit_variance",
            mean=list(normalization.mean),
            std=list(normalization.std),
            axis="channel",
        )
    ]


def _imagenet(normalization: ImageNet, full: float, count: int) -> list[Step]:
    mean, std = list(normalization.mean), list(normalization.std)
    if count != 3:
        mean, std = [float(np.mean(mean))] * count, [float(np.mean(std))] * count
    fixed = _step("fixed_zero_mean_unit_variance", mean=mean, std=std, axis="channel")
    return [*_gain(255 / full), fixed]


def _gain(gain: float) -> list[Step]:
    # The specification refuses a scaling that changes nothing.
    return [] if gain == 1 else [_step("scale_linear", gain=float(gain))]
