"""Whether a network, computed here, still answers what is stored beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import InputError, SelfTestError
from napari_cellclf.inference.engine import Computed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.inference.engine import Engine

#: Largest difference of a probability that other processors and backends may make in float32.
TOLERANCE = 1e-3
#: And where numbers are rounded to 16 bits between the layers.
ROUNDED_TOLERANCE = 1e-2
#: Largest difference of an unlike score, whose threshold is 1, that rounding may make.
UNLIKE_TOLERANCE = 5e-2


def run_self_test(bundle: ModelBundle, engine: Engine, tolerance: float = TOLERANCE) -> float:
    """Predict the stored test image and compare."""
    name = bundle.path.name
    pixels, expected = prepared_test(bundle)
    fed = pixels[np.newaxis]
    can_say = bundle.spec.unlike is not None and "features" in engine.gives
    computed = engine.compute(fed, features=True) if can_say else Computed(engine(fed))
    found = computed.probabilities
    if expected.shape != (1, len(bundle.spec.classes)) or found.shape != expected.shape:
        raise SelfTestError(
            f"{name} answers its test image with an array of shape {found.shape}, stored is "
            f"{expected.shape}, and it names {len(bundle.spec.classes)} classes; get it again"
        )
    if not (found >= -tolerance).all() or not abs(float(found.sum()) - 1) <= tolerance:
        raise SelfTestError(
            f"{name} answers its test image with numbers that are no probabilities; its network "
            "must end in a softmax"
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise SelfTestError(
            f"{name} answers its test image {difference:.2g} away from the stored answer (limit "
            f"{tolerance:g}); get it again, or train it again with this version of Keras"
        )
    if computed.features is not None:
        _check_features(bundle, computed.features)
    return difference


def _check_features(bundle: ModelBundle, features: NDArray[np.float32]) -> None:
    unlikeness = bundle.unlikeness
    try:
        known = unlikeness is None or np.isfinite(unlikeness.scores(features)).all()
    except InputError as error:
        raise SelfTestError(f"{bundle.path.name} does not fit its own network: {error}") from error
    if not known:
        raise SelfTestError(
            f"{bundle.path.name} cannot say how unlike training its test image is; get it again"
        )


def prepared_test(bundle: ModelBundle) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return what a network is given in its test, and what it must answer.

    Returns ``(Y, X, C)``, prepared. Returns ``(1, K)`` probabilities as stored.
    """
    name, expected = bundle.path.name, bundle.test_output
    if not np.isfinite(expected).all():
        raise SelfTestError(f"the stored answer of {name} is not finite; get it again")
    try:
        return bundle.spec.input.preprocessing.without_cutting(bundle.test_image), expected
    except InputError as error:
        raise SelfTestError(f"{name} cannot prepare its own test image: {error}") from error
