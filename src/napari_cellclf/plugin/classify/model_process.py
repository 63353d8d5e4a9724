"""The model that was used last, in a process of its own, ready for the next click."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.errors import CellclfError
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.plugin.classify.request import ModelChoice

if TYPE_CHECKING:
    from napari_cellclf.inference.classifier import Classifier


class ModelProcess:
    """The model that was used last, kept running so that a second click need not load it again."""

    def __init__(self) -> None:
        self._engine: ProcessEngine | None = None
        self._classifier: Classifier | None = None
        self._lock = threading.Lock()
        self._shut = False

    def get(self, model: ModelChoice, should_stop: ShouldStop = never_stop) -> Classifier:
        """Return a classifier, loaded if need be."""
        from napari_cellclf.bundles.bundle import ModelBundle, read_spec
        from napari_cellclf.bundles.catalogue import find_model
        from napari_cellclf.inference.classifier import Classifier
        from napari_cellclf.inference.remote import connect

        if model.is_remote:
            return connect(model.reference, model.token)
        with self._lock:
            path = find_model(model.reference)
            known = self._classifier
            # The same name may stand for another model by now; its files' hashes tell.
            if known is not None and not self.is_idle() and known.bundle.spec == read_spec(path):
                return known
            self.close()
            bundle = ModelBundle.load(path)
            engine = self._engine = ProcessEngine(model.reference)
            # Whoever stopped before this line found no process to end; after it he ends this one.
            if self._shut or should_stop():
                self.close()
            try:
                engine.wait_until_ready()
            except (CellclfError, MemoryError):
                self.close()
                raise
            self._classifier = Classifier(bundle, engine)
            return self._classifier

    def is_idle(self) -> bool:
        """Whether no process is running."""
        engine = self._engine
        return engine is None or not engine.is_alive()

    def close(self) -> None:
        """End the model's process, whatever it is doing; it starts again when it is asked for."""
        engine, self._engine = self._engine, None
        self._classifier = None
        if engine is not None:
            engine.close()

    def shut_down(self) -> None:
        """End the model's process for good."""
        self._shut = True
        self.close()
