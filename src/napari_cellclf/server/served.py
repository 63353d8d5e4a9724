"""The model that a server answers with: loaded and warmed, and exchanged for a new one."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_cellclf.errors import CellclfError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.server.metrics import Metrics

T = TypeVar("T")

_log = logging.getLogger("napari_cellclf.server")


@dataclass(frozen=True, eq=False)
class Served:
    """A model that is ready to answer.

    Parameters
    ----------
    classifier : Classifier
        Loaded, and warmed.
    sha256 : str
        Of all that its bundle says, its network's hash included.
    """

    classifier: Classifier
    sha256: str

    @property
    def spec(self) -> BundleSpec:
        """What it says of itself."""
        return self.classifier.bundle.spec


def load_served(reference: str, max_batch: int) -> Served:
    """Load a model and compute what it will be asked, so that the first client does not wait.

    Parameters
    ----------
    reference : str
        What `load_classifier` takes: a path, a run, or a name.
    max_batch : int
        Images at a time.

    Returns
    -------
    Served
        Ready.

    Raises
    ------
    ModelError
        If there is no such model, or it cannot be trusted.
    """
    from napari_cellclf.inference.load import load_classifier

    classifier = load_classifier(reference)
    for batch in _warming(classifier, max_batch):
        classifier.compute(batch)
    return Served(classifier, classifier.bundle.spec.fingerprint)


def _warming(classifier: Classifier, max_batch: int) -> Iterator[NDArray[np.float32]]:
    """Give batches of the sizes by which backends decide what to compile.

    A backend that compiles for each shape is given every size of batch that is a power of two;
    TensorFlow lets go of a dimension when it has seen two sizes of it.
    """
    bundle = classifier.bundle
    plane = classifier.preprocessing(bundle.test_image)
    sizes = [1 << power for power in range(max_batch.bit_length())]
    for size in sizes:
        yield np.stack([plane] * size)
    if classifier.preprocessing.size is None:
        # Any size of image: another one, then both together with another size of batch.
        wider = np.concatenate([plane, plane[:, :1]], axis=1)
        taller = np.concatenate([wider, wider[:1]], axis=0)
        yield wider[np.newaxis]
        yield np.stack([taller, taller])


class Models:
    """Which model answers now, and the way to the next one.

    Parameters
    ----------
    reference : str
        Where to look for it again.
    served : Served
        The present one.
    max_batch : int
        Images at a time.
    metrics : Metrics
        Told of each exchange.
    """

    def __init__(self, reference: str, served: Served, max_batch: int, metrics: Metrics) -> None:
        self.current = served
        self._reference = reference
        self._max_batch = max_batch
        self._metrics = metrics
        self._refused = ""
        self._looks_without = 0
        self._loading = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "cellclf-loading")
        metrics.model(served.spec.name, served.sha256)

    async def watch(self, seconds: float) -> None:
        """Look for another model on the disk again and again, until this is cancelled.

        Parameters
        ----------
        seconds : float
            Between two looks.
        """
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
        """Load the model on the disk beside the present one and answer with it from then on.

        Returns
        -------
        bool
            Whether it was taken. One that cannot be loaded is refused, and the present one stays.
        """
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
        return load_served(self._reference, self._max_batch)

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
