"""What runs on the workers: one model each, and one chunk after the other."""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from distributed import Worker, WorkerPlugin, get_worker

from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.cluster.chunk import Chunk, WantedModel
from napari_cellclf.errors import ModelNotFoundError, ServerError
from napari_cellclf.inference.batches import FinishedImages
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.load import load_classifier

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import Extra
    from napari_cellclf.inference.engine import Computed, Engine


class ModelPlugin(WorkerPlugin):
    """Holds the model of a worker, which is loaded for the first chunk and stays."""

    def __init__(self, wanted: WantedModel, name: str) -> None:
        self.name = name
        self._wanted = wanted

    def setup(self, worker: Worker) -> None:
        """Begin on a worker; nothing is loaded yet, since that would hold up its messages."""
        self._address = worker.address
        self._lock = threading.Lock()
        self._classifier: Classifier | None = None

    def teardown(self, worker: Worker) -> None:
        """Let go of the model."""
        self._classifier = None

    def classify(self, chunk: Chunk) -> list[FinishedImages]:
        """Classify a chunk; see `classify_chunk`."""
        self._check(chunk)
        with self._lock:
            if self._classifier is None:
                self._classifier = self._load()
        # One thread prepares, besides the one that is here: the worker runs a chunk in each of the
        # threads that it was given.
        return list(
            self._classifier.stream(
                chunk.sources, mapping=chunk.mapping, batch_size=chunk.batch_size, threads=1
            )
        )

    def _check(self, chunk: Chunk) -> None:
        here = version("napari-cellclf")
        if here != self._wanted.version:
            raise ServerError(
                f"the worker {self._address} has napari-cellclf {here}, and this is "
                f"{self._wanted.version}; install the same version on both sides"
            )
        for path in chunk.inputs:
            if not Path(path).exists():
                raise ServerError(
                    f"the worker {self._address} does not see {path}; all workers need the images "
                    "under the same path as here"
                )

    def _load(self) -> Classifier:
        loaded = load_classifier(
            self._find(), engine=self._wanted.engine, precision=self._wanted.precision
        )
        if loaded.bundle.spec.fingerprint != self._wanted.fingerprint:
            raise ServerError(
                f"the worker {self._address} has another model named {self._wanted.name}; copy "
                "this one there, or to a disk that both see"
            )
        return Classifier(loaded.bundle, _OneAtATime(loaded.engine))

    def _find(self) -> Path:
        if Path(self._wanted.path).exists():
            return Path(self._wanted.path)
        try:
            return find_model(self._wanted.name)
        except ModelNotFoundError as error:
            raise ServerError(
                f"the worker {self._address} has no model at {self._wanted.path}, and none named "
                f"{self._wanted.name}; put it on a disk that all workers see"
            ) from error


class _OneAtATime:
    """An engine that several threads of a worker share."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()

    @property
    def device(self) -> str:
        return self._engine.device

    @property
    def gives(self) -> frozenset[Extra]:
        return self._engine.gives

    def __call__(self, batch: NDArray[Any]) -> NDArray[Any]:
        with self._lock:
            return self._engine(batch)

    def compute(
        self, batch: NDArray[Any], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        with self._lock:
            return self._engine.compute(batch, features=features, feature_map=feature_map)


def classify_chunk(name: str, chunk: Chunk) -> list[FinishedImages]:
    """Classify some images with the model of the worker that this runs on."""
    plugin = cast(ModelPlugin, get_worker().plugins[name])
    return plugin.classify(chunk)
