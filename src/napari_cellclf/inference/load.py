"""From the name of a model to one that answers, having proved that it still can."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.errors import CellclfError, InputError, SelfTestError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.engine import Engine
from napari_cellclf.inference.process_engine import ProcessEngine, window_is_open

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Largest difference of a probability that other processors and backends may make.
TOLERANCE = 1e-3


def load_classifier(
    name_or_path: str | Path, *, self_test: bool = True, own_process: bool | None = None
) -> Classifier:
    """Load a trained model.

    Parameters
    ----------
    name_or_path : str or Path
        A bundle, or the name of a model that `list_models` shows.
    self_test : bool
        Whether to predict the stored test image and compare the answer with the stored one. A
        process of its own always does.
    own_process : bool, optional
        Whether the network runs in a child process, as it must beside an OpenGL window on some
        drivers. None decides: in napari yes, elsewhere no. The numbers are the same.

    Returns
    -------
    Classifier
        Ready to answer.

    Raises
    ------
    ModelNotFoundError
        If there is no such model.
    BundleError
        If it is not a complete, valid bundle.
    IntegrityError
        If a file is not the one its hash was made from.
    UnsafeModelError
        If it holds anything that is not a plain network.
    SelfTestError
        If it does not reproduce its stored answer.

    Examples
    --------
    >>> import napari_cellclf as cc
    >>> classifier = cc.load_classifier("rxrx1-celltype")
    >>> classifier.classes
    ('HEPG2', 'HUVEC', 'RPE', 'U2OS')
    """
    path = find_model(name_or_path)
    bundle = ModelBundle.load(path)
    if window_is_open() if own_process is None else own_process:
        return Classifier(bundle, _ready(ProcessEngine(str(path))))
    # Keras takes seconds to import: everything that is wrong with the file is said before.
    if self_test:
        _prepared_test(bundle)
    from napari_cellclf.inference.keras_engine import KerasEngine

    engine = KerasEngine.load(bundle)
    if self_test:
        run_self_test(bundle, engine)
    return Classifier(bundle, engine)


def _ready(engine: ProcessEngine) -> ProcessEngine:
    try:
        engine.wait_until_ready()
    except (CellclfError, MemoryError, KeyboardInterrupt):
        engine.close()
        raise
    return engine


def run_self_test(bundle: ModelBundle, engine: Engine) -> float:
    """Predict the stored test image and compare.

    Parameters
    ----------
    bundle : ModelBundle
        With test input and answer.
    engine : Engine
        To be tested.

    Returns
    -------
    float
        The largest difference of a probability.

    Raises
    ------
    SelfTestError
        If it is above `TOLERANCE`, or the answer is not probabilities of the classes.
    """
    name = bundle.path.name
    pixels, expected = _prepared_test(bundle)
    found = engine(pixels[np.newaxis])
    if expected.shape != (1, len(bundle.spec.classes)) or found.shape != expected.shape:
        raise SelfTestError(
            f"{name} answers its test image with an array of shape {found.shape}, stored is "
            f"{expected.shape}, and it names {len(bundle.spec.classes)} classes; get it again"
        )
    if not (found >= -TOLERANCE).all() or not abs(float(found.sum()) - 1) <= TOLERANCE:
        raise SelfTestError(
            f"{name} answers its test image with numbers that are no probabilities; its network "
            "must end in a softmax"
        )
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise SelfTestError(
            f"{name} answers its test image {difference:.2g} away from the stored answer (limit "
            f"{TOLERANCE:g}); get it again, or train it again with this version of Keras"
        )
    return difference


def _prepared_test(bundle: ModelBundle) -> tuple[NDArray[np.float32], NDArray[Any]]:
    """Return what the network is given and what it must answer; neither takes Keras."""
    name, expected = bundle.path.name, bundle.test_output
    if not np.isfinite(expected).all():
        raise SelfTestError(f"the stored answer of {name} is not finite; get it again")
    try:
        return bundle.spec.input.preprocessing(bundle.test_image), expected
    except InputError as error:
        raise SelfTestError(f"{name} cannot prepare its own test image: {error}") from error
