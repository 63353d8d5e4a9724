"""The model that a server answers with: loaded and warmed, and exchanged for a new one."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_cellclf.errors import CellclfError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.inference.engine import EngineChoice, Precision
    from napari_cellclf.server.metrics import Metrics
    from napari_cellclf.server.settings import Settings

T = TypeVar("T")

_REPEATS = 4
_ABOUT = 1.1

_log = logging.getLogger("napari_cellclf.server")


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is ready to answer."""

    #: Loaded, and warmed.
    classifier: Classifier
    #: Of all that its bundle says, its network's hash included.
    sha256: str
    #: Images at a time, with which it is fastest here.
    batch: int

    @property
    def spec(self) -> BundleSpec:
        """What it says of itself."""
        return self.classifier.bundle.spec


def load_served(
    reference: str,
    max_batch: int,
    *,
    engine: EngineChoice = "auto",
    precision: Precision = "auto",
) -> Served:
    """Load a model and compute what it will be asked, so that the first client does not wait."""
    from napari_cellclf.inference.load import load_classifier

    classifier = load_classifier(reference, engine=engine, precision=precision)
    seconds = {
        size: _seconds_each(classifier, size)
        for size in (1 << power for power in range(max_batch.bit_length()))
    }
    _warm_other_sizes(classifier)
    # Of those that are about as fast the largest, which leaves the other threads more time.
    fast = min(seconds.values()) * _ABOUT
    batch = max(size for size, each in seconds.items() if each <= fast)
    return Served(classifier, classifier.bundle.spec.fingerprint, batch)


def _seconds_each(classifier: Classifier, size: int) -> float:
    """Compute batches of one size, which a backend may compile for; time the fastest."""
    plane = classifier.preprocessing(classifier.bundle.test_image)
    batch = np.stack([plane] * size)
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        classifier.compute(batch)
        times.append(time.perf_counter() - began)
    return min(times) / size


def _warm_other_sizes(classifier: Classifier) -> None:
    """Show a network for any size of image two more: TensorFlow then lets go of the dimension."""
    if classifier.preprocessing.size is not None:
        return
    plane = classifier.preprocessing(classifier.bundle.test_image)
    wider = np.concatenate([plane, plane[:, :1]], axis=1)
    taller = np.concatenate([wider, wider[:1]], axis=0)
    classifier.compute(wider[np.newaxis])
    classifier.compute(np.stack([taller, taller]))


class Models:
    """Which model answers now, and the way to the next one."""

    def __init__(
        self, reference: str, served: Served, settings: Settings, metrics: Metrics
    ) -> None:
        self.current = served
        self._reference = reference
        self._settings = settings
        self._metrics = metrics
        self._refused = ""
        self._looks_without = 0
        self._loading = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "cellclf-loading")
        metrics.model(served.spec.name, served.sha256)

    async def watch(self, seconds: float) -> None:
        """Look for another model on the disk again and again, until this is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.look()

    async def look(self) -> None:
        """Take the model on the disk if it is another one than before."""
        found = await self._run(self._fingerprint)
        # Nothing there for a moment is a model that is being exchanged; twice it is a fault.
        self._looks_without = 0 if found else self._looks_without + 1
        if self._looks_without == 2:
            self._refuse("there is no whole model in its place", found)
        elif found not in ("", self.current.sha256, self._refused):
            await self.reload()

    async def reload(self) -> bool:
        """Load the model on the disk beside the present one and answer with it from then on."""
        async with self._loading:
            before = await self._run(self._fingerprint)
            loading = asyncio.ensure_future(self._run(self._load))
            await asyncio.wait([loading])
            # Whatever went wrong with it, it must not end the watch.
            error = loading.exception()
            if error is not None:
                self._refuse(_sentence(error), before)
                return False
            self.current, self._refused = loading.result(), ""
            name, sha256 = self.current.spec.name, self.current.sha256
            self._metrics.model(name, sha256)
            self._metrics.reload("taken")
            _log.info("model %s (%.12s) answers now", name, sha256)
            return True

    def _refuse(self, why: str, fingerprint: str) -> None:
        self._refused = fingerprint
        self._metrics.reload("refused")
        _log.error("the new model is refused, the present one goes on: %s", why)

    def close(self) -> None:
        """Let go of the thread that loads."""
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> Served:
        settings = self._settings
        return load_served(
            self._reference,
            settings.limits.batch,
            engine=settings.engine,
            precision=settings.precision,
        )

    def _fingerprint(self) -> str:
        """Say what is on the disk; nothing where it is not whole, as while it is exchanged."""
        from napari_cellclf.bundles.bundle import read_spec
        from napari_cellclf.bundles.catalogue import find_model

        try:
            return read_spec(find_model(self._reference)).fingerprint
        except (CellclfError, OSError):
            return ""


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, CellclfError) else f"{type(error).__name__}: {error}"
