"""From the name of a model to one that answers, having proved that it still can."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.bundles.backbone_files import read_backbone
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.errors import (
    CellclfError,
    EngineError,
    InputError,
    SelfTestError,
)
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.engine import (
    PRECISIONS,
    EngineChoice,
    EngineName,
    EnginePrecision,
    Precision,
    choose_engine,
    look_at_machine,
)
from napari_cellclf.inference.onnx_engines import Graph, GraphEngineName, load_graph_engine
from napari_cellclf.inference.process_engine import ProcessEngine, window_is_open
from napari_cellclf.inference.self_test import (
    ROUNDED_TOLERANCE,
    UNLIKE_TOLERANCE,
    prepared_test,
    run_self_test,
)

if TYPE_CHECKING:
    from napari_cellclf.inference.engine import Engine

_log = logging.getLogger(__name__)


def load_classifier(
    name_or_path: str | Path,
    *,
    engine: EngineChoice = "auto",
    precision: Precision = "auto",
    self_test: bool = True,
    own_process: bool | None = None,
) -> Classifier:
    """Load a trained model.

    Parameters
    ----------
    name_or_path : str or Path
        A bundle, or the name of a model that `list_models` shows.
    engine : {'auto', 'openvino', 'onnxruntime', 'keras'}
        What computes its network. ``auto`` takes the fastest that is installed: OpenVINO on a
        processor, ONNX Runtime or Keras on a GPU, and Keras for a bundle without ``model.onnx``.
    precision : {'auto', 'fast', 'float32'}
        ``fast`` computes as processor or GPU do fastest, which may be in 16 bits, if the answer
        to the stored test image stays within 0.01. ``auto`` does so where the bundle says that
        this moves no probability of typical images by more than 0.01, and is float32 otherwise.
        Keras computes in float32 always.
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
        If it is not a complete, valid bundle, or has no graph for the engine that was asked for.
    IntegrityError
        If a file is not the one its hash was made from.
    UnsafeModelError
        If it holds anything that is not a plain network.
    SelfTestError
        If it does not reproduce its stored answer.
    EngineError
        If the engine that was asked for is not installed, or cannot load it.
    InputError
        If there is no such engine or precision.

    Examples
    --------
    >>> import napari_cellclf as cc
    >>> classifier = cc.load_classifier("rxrx1-celltype")
    >>> classifier.classes
    ('HEPG2', 'HUVEC', 'RPE', 'U2OS')
    """
    path = find_model(name_or_path)
    bundle = ModelBundle.load(path)
    if precision not in PRECISIONS:
        raise InputError(
            f"there is no precision {precision!r}; choose one of {', '.join(PRECISIONS)}"
        )
    machine = look_at_machine()
    backbone = bundle.spec.backbone
    if backbone is not None:
        # What is found compiled needs no file, but whoever has lost it should know now.
        read_backbone(backbone, path.name)
        machine = replace(machine, keras_has_gpu=False)
    chosen = choose_engine(engine, bundle.has_graph, machine)
    if window_is_open() if own_process is None else own_process:
        return Classifier(bundle, _ready(ProcessEngine(str(path), engine, precision)))
    # Engines take time to import: everything that is wrong with the file is said before.
    if self_test:
        prepared_test(bundle)
    told: EnginePrecision = "fast" if _may_round(bundle, precision) else "float32"
    may_change = engine == "auto" and backbone is None
    return Classifier(bundle, _load(bundle, chosen, told, self_test, may_change))


def _may_round(bundle: ModelBundle, precision: Precision) -> bool:
    rounding = bundle.spec.rounding
    bears_it = (
        rounding is not None
        and rounding.largest <= ROUNDED_TOLERANCE
        and (bundle.spec.unlike is None or _below(rounding.largest_unlike, UNLIKE_TOLERANCE))
    )
    return precision == "fast" or (precision == "auto" and bears_it)


def _below(moved: float | None, limit: float) -> bool:
    return moved is not None and moved <= limit


def _ready(engine: ProcessEngine) -> ProcessEngine:
    try:
        engine.wait_until_ready()
    except (CellclfError, MemoryError, KeyboardInterrupt):
        engine.close()
        raise
    return engine


def _load(
    bundle: ModelBundle,
    name: EngineName,
    precision: EnginePrecision,
    self_test: bool,
    may_change: bool,
) -> Engine:
    if name == "keras":
        return _load_keras(bundle, self_test)
    try:
        return _load_graph(bundle, name, precision, self_test)
    except (EngineError, SelfTestError) as error:
        if not may_change:
            raise
        # Keras is what the bundle's answers are from, and tests itself as well.
        _log.warning("%s; Keras computes instead", error)
        return _load_keras(bundle, self_test)


def _load_graph(
    bundle: ModelBundle, name: GraphEngineName, precision: EnginePrecision, self_test: bool
) -> Engine:
    """Load an engine for ``model.onnx``; where its precision does not do, load it in float32."""
    engine = load_graph_engine(name, Graph.of(bundle), precision)
    if not self_test:
        return engine
    if engine.precision == "float32":
        run_self_test(bundle, engine)
        return engine
    try:
        run_self_test(bundle, engine, ROUNDED_TOLERANCE)
    except SelfTestError:
        name_of_file, rounded = bundle.path.name, engine.precision
        _log.info("%s answers too differently in %s; float32 is used", name_of_file, rounded)
        return _load_graph(bundle, name, "float32", self_test)
    return engine


def _load_keras(bundle: ModelBundle, self_test: bool) -> Engine:
    from napari_cellclf.inference.keras_engine import KerasEngine

    engine = KerasEngine.load(bundle)
    if self_test:
        run_self_test(bundle, engine)
    return engine
