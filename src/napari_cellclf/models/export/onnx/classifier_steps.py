"""The steps of a classifier around its network, in the graph: normalisation, views, temperature."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from napari_cellclf.core.calibration import SMALLEST_PROBABILITY
from napari_cellclf.core.tta import Views
from napari_cellclf.models.export.onnx.graph import Scope, Value

_BEGINNING = np.iinfo(np.int64).min


@dataclass(frozen=True)
class ClassifierSteps:
    """What is computed before and after the network.

    Parameters
    ----------
    normalize : callable, optional
        `Normalization.write_onnx`, which writes what comes first: from a scope of the graph and
        the image to what the network is fed.
    views : {'one', 'flips', 'all'}
        From how many sides the image is looked at; ``all`` takes square images only.
    temperature : float
        What softens the probabilities.
    """

    normalize: Callable[[Scope, Value], Value] | None = None
    views: Views = "one"
    temperature: float = 1.0


def write_with_steps(
    scope: Scope, steps: ClassifierSteps, image: Value, network: Callable[[Value], Value]
) -> Value:
    """Write a network with the steps around it.

    `image`: images ``(N, Y, X, C)``, channels last. Returns probabilities ``(N, K)``.
    """
    if steps.normalize is not None:
        image = steps.normalize(scope.inside("normalization"), image)
    if steps.views == "one":
        answer = network(image)
    else:
        answer = _mean_over_views(scope.inside("views"), image, steps.views, network)
    if steps.temperature == 1:
        return answer
    return _soften(scope.inside("temperature"), answer, steps.temperature)


def _mean_over_views(
    scope: Scope, image: Value, views: Views, network: Callable[[Value], Value]
) -> Value:
    sides = [image]
    if views == "all":
        sides.append(scope.op("Transpose", (image,), image.shape, perm=(0, 2, 1, 3)))
    turned = [
        view
        for side in sides
        for view in (side, *(_reversed(scope, side, axes) for axes in ([1], [2], [1, 2])))
    ]
    # One batch of all views: the weights are there once, and the engine sees one network.
    batch = scope.op("Concat", turned, image.shape, axis=0)
    answers = network(batch)
    shape = scope.constant("shape", [len(turned), -1, answers.shape[-1]], np.int64)
    apart = scope.op("Reshape", (answers, shape), (len(turned), *answers.shape))
    axes = scope.constant("over_views", [0], np.int64)
    return scope.op("ReduceMean", (apart, axes), answers.shape, keepdims=0)


def _reversed(scope: Scope, image: Value, axes: list[int]) -> Value:
    count = len(axes)
    return scope.each(
        "Slice",
        image,
        scope.constant("last", [-1] * count, np.int64),
        scope.constant("beginning", [_BEGINNING] * count, np.int64),
        scope.constant(f"axes{''.join(map(str, axes))}", axes, np.int64),
        scope.constant("backwards", [-1] * count, np.int64),
    )


def _soften(scope: Scope, probabilities: Value, temperature: float) -> Value:
    """Divide the logarithms by the temperature, as `core.calibration.apply_temperature` does."""
    smallest = scope.constant("smallest", SMALLEST_PROBABILITY)
    logits = scope.each("Log", scope.each("Max", probabilities, smallest))
    softened = scope.each("Div", logits, scope.constant("temperature", temperature))
    return scope.each("Softmax", softened, axis=-1)
