"""Why a model predicts what it predicts: evidence for a class as a map over the image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from napari_cellclf.core.counting import counted
from napari_cellclf.core.explaining import (
    hires_cam,
    map_offset,
    noise_around,
    occlusion,
    on_image,
)
from napari_cellclf.core.progress import OnProgress, ShouldStop
from napari_cellclf.errors import EngineError, ImageError, InputError
from napari_cellclf.inference.batches import MAX_BATCH_BYTES
from napari_cellclf.inference.prepare import BadImage, UnreadImage, prepare_plane, read_item

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.objects import ImageObject
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.inference.engine import Engine

Method = Literal["auto", "cam", "occlusion"]
METHODS: tuple[Method, ...] = get_args(Method)

_BATCH_SIZE = 16


@dataclass(frozen=True, eq=False)
class Explanation:
    """Where in an image the evidence for a class lies.

    Parameters
    ----------
    heat : ndarray, shape (Y, X), float32
        On the image's own pixels: above 0 is evidence for the class, below 0 against it, NaN what
        the network did not see. Only comparisons within one map mean something.
    class_name : str
        For which class.
    method : {'cam', 'occlusion'}
        How it was found: HiRes-CAM, in parts of the class's logit above the mean of all; or by how
        much the log-odds of the class fall where a patch is covered.
    id : str
        Of which plane or object, as in `Predictions`.
    probability : float
        Of the class, as predicted.
    model : str
        Name of the model.

    Examples
    --------
    >>> import napari_cellclf as cc
    >>> classifier = cc.load_classifier("rxrx1-celltype")
    >>> why = classifier.explain(cc.simulate_site("RPE", seed=1, size=64), class_name="U2OS")
    >>> why.class_name, why.heat.dtype, why.limit > 0
    ('U2OS', dtype('float32'), True)
    """

    heat: NDArray[np.float32]
    class_name: str
    method: Literal["cam", "occlusion"]
    id: str
    probability: float
    model: str

    @property
    def limit(self) -> float:
        """The largest absolute value of `heat`: colours go from minus this to this."""
        return max(float(np.nanmax(np.abs(self.heat))), float(np.finfo(np.float32).tiny))


@dataclass(frozen=True, eq=False)
class EvidenceMap:
    """Evidence all over the prepared image, in cells that may lie a little beside it."""

    cells: NDArray[np.float32]
    method: Literal["cam", "occlusion"]
    offset: tuple[float, float] = (0.0, 0.0)


def explain(
    classifier: Classifier,
    item: UnreadImage,
    class_name: str | None,
    method: Method,
    index: Mapping[str, int] | None,
    number: int | None,
    mapping: Mapping[str, str | None] | None,
    *,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> Explanation:
    """Explain one plane or object; see `Classifier.explain`."""
    _check(classifier, class_name, method)
    image = read_item(item)
    if isinstance(image, BadImage):
        raise image.error
    plane, position = image.plane(index or {}), image.position(index or {})
    index = dict(zip(image.leading_axes, position, strict=True)) if image.n_planes > 1 else {}
    region = _region(classifier, plane, number, item.id)
    row = prepare_plane(
        item, image, index, plane, classifier.bundle.spec, mapping, 1, region=region
    )
    if isinstance(row, BadImage):
        raise row.error
    probabilities = classifier.compute(row.pixels[np.newaxis])[0]
    if not np.isfinite(probabilities).all():
        raise ImageError(f"{classifier.name} predicts NaN for {row.id}; check its pixels")
    which = int(probabilities.argmax())
    if class_name is not None:
        which = classifier.classes.index(class_name)
    found = None if method == "occlusion" else _cam(classifier, row.pixels, which, method)
    if found is None:
        found = _occlusion(classifier, row.pixels, which, on_progress, should_stop)
    return Explanation(
        on_image(found.cells, classifier.preprocessing, plane, region, found.offset),
        classifier.classes[which],
        found.method,
        row.id,
        float(probabilities[which]),
        classifier.name,
    )


def _check(classifier: Classifier, class_name: str | None, method: str) -> None:
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}; choose one of {', '.join(METHODS)}")
    if class_name is not None and class_name not in classifier.classes:
        raise InputError(
            f"{classifier.name} has no class {class_name!r}; choose one of "
            f"{', '.join(classifier.classes[:20])}"
        )


def _region(
    classifier: Classifier, plane: Image, number: int | None, where: str
) -> ImageObject | None:
    """Find the object that is asked about; without a number, the only one."""
    if classifier.preprocessing.object_crop is None:
        if number is not None:
            raise InputError(
                f"{classifier.name} classifies whole images, but object {number} was asked about; "
                "leave number out"
            )
        return None
    objects = plane.find_objects()
    if plane.objects is None:
        # Preparing it says so.
        return None
    meant = [one for one in objects if number in (None, one.number)]
    if len(meant) != 1:
        known = ", ".join(str(one.number) for one in objects[:10]) or "none"
        asked = "none was chosen" if number is None else f"none has the number {number}"
        raise InputError(
            f"{where} has {counted(len(objects), 'object')} ({known}), but {asked}; give one of "
            "these numbers"
        )
    return meant[0]


def _cam(
    classifier: Classifier, pixels: NDArray[np.float32], which: int, method: Method
) -> EvidenceMap | None:
    """Compute HiRes-CAM; None where the network does not allow it and another method will do."""
    try:
        return cam(classifier.engine, classifier.bundle.weights, pixels, which)
    except EngineError:
        if method == "cam":
            raise
        return None


def cam(
    engine: Engine,
    weights: Callable[[], Mapping[str, NDArray[Any]]],
    pixels: NDArray[np.float32],
    which: int,
) -> EvidenceMap:
    """Compute HiRes-CAM of one prepared image; an EngineError if that cannot be.

    `weights`: reads those of the network.
    """
    if not {"features", "feature_map"} <= engine.gives:
        raise EngineError(
            f"{engine.device} gives no feature map of this network, which the method cam needs; "
            "use the method occlusion"
        )
    computed = engine.compute(pixels[np.newaxis], features=True, feature_map=True)
    assert computed.features is not None  # the engine gives them
    assert computed.feature_map is not None
    cells = hires_cam(
        computed.feature_map[0], computed.features[0], computed.probabilities[0], weights(), which
    )
    noise = engine.compute(noise_around(pixels), feature_map=True).feature_map
    return EvidenceMap(cells, "cam", (0.0, 0.0) if noise is None else map_offset(noise))


def _occlusion(
    classifier: Classifier,
    pixels: NDArray[np.float32],
    which: int,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> EvidenceMap:
    # A network keeps many times the bytes of its images.
    fit = MAX_BATCH_BYTES // (4 * pixels.nbytes)
    cells = occlusion(
        classifier.compute,
        pixels,
        which,
        batch_size=max(1, min(_BATCH_SIZE, fit)),
        on_progress=on_progress,
        should_stop=should_stop,
    )
    return EvidenceMap(cells, "occlusion")
