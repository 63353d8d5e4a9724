"""The model that a server serves: loaded, warmed up, and replaced by a new one."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_cellclf.core.channels import expected_name
from napari_cellclf.errors import CellclfError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_cellclf.bundles.schema import BundleSpec
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.inference.engine import EngineChoice, Precision
    from napari_cellclf.server.prometheus import Metrics
    from napari_cellclf.server.settings import Settings


T = TypeVar("T")

_REPEATS = 4
_ABOUT = 1.1

_log = logging.getLogger("napari_cellclf.server")


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A model that is ready to be served."""

    #: Loaded and warmed up.
    classifier: Classifier
    #: Of everything its bundle holds.
    sha256: str
    #: The fastest number of images at a time on this machine.
    batch: int
    #: What a lone grey image without a name is taken for; None refuses it.
    single_channel: str | None = None

    @property
    def spec(self) -> BundleSpec:
        """The description in its bundle."""
        return self.classifier.bundle.spec


def load_served(
    reference: str,
    max_batch: int,
    *,
    engine: EngineChoice = "auto",
    precision: Precision = "auto",
    single_channel: str | None = None,
) -> ServedModel:
    """Load a model and warm it up, so that the first client does not wait.

    `single_channel`: what a lone grey image is taken for; None for what the model says.
    """
    from napari_cellclf.inference.load import load_classifier

    classifier = load_classifier(reference, engine=engine, precision=precision)
    single = _single_channel(classifier.bundle.spec, single_channel)
    seconds = {
        size: _seconds_each(classifier, size)
        for size in (1 << power for power in range(max_batch.bit_length()))
    }
    _warm_other_sizes(classifier)
    # The largest of those that are about as fast, which leaves the other threads more time.
    fast = min(seconds.values()) * _ABOUT
    batch = max(size for size, each in seconds.items() if each <= fast)
    return ServedModel(classifier, classifier.bundle.spec.fingerprint, batch, single)


def _single_channel(spec: BundleSpec, wanted: str | None) -> str | None:
    """Find what a lone grey image is taken for, and whether the model can do with that alone."""
    if wanted is None:
        return spec.input.single_channel
    channels = spec.input.preprocessing.channels
    name = expected_name(channels, wanted, "--single-channel names")
    others = [one.name for one in channels if one.required and one.name != name]
    if others:
        raise InputError(
            f"{spec.name} also needs {', '.join(others)}, so it cannot classify a lone image of "
            f"{name}; leave out --single-channel"
        )
    return name


def _seconds_each(classifier: Classifier, size: int) -> float:
    """Compute batches of one size, which a backend may compile for; time the fastest."""
    plane = classifier.preprocessing.without_cutting(classifier.bundle.test_image)
    batch = np.stack([plane] * size)
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        classifier.answers(batch)
        times.append(time.perf_counter() - began)
    return min(times) / size


def _warm_other_sizes(classifier: Classifier) -> None:
    """Compute two other sizes if any is allowed: TensorFlow then compiles for all."""
    if classifier.preprocessing.size is not None:
        return
    plane = classifier.preprocessing.without_cutting(classifier.bundle.test_image)
    wider = np.concatenate([plane, plane[:, :1]], axis=1)
    taller = np.concatenate([wider, wider[:1]], axis=0)
    classifier.answers(wider[np.newaxis])
    classifier.answers(np.stack([taller, taller]))


class Models:
    """The model that is served now, and how it is replaced."""

    def __init__(
        self, reference: str, served: ServedModel, settings: Settings, metrics: Metrics
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
        """Look for another model on the disk repeatedly, until this is cancelled."""
        while True:
            await asyncio.sleep(seconds)
            await self.look()

    async def look(self) -> None:
        """Load the model on the disk if it has changed."""
        found = await self._run(self._fingerprint)
        # Missing once may be a model that is being replaced; missing twice is an error.
        self._looks_without = 0 if found else self._looks_without + 1
        if self._looks_without == 2:
            self._refuse("no complete model was found at its path", found)
        elif found not in ("", self.current.sha256, self._refused):
            await self.reload()

    async def reload(self) -> bool:
        """Load the model on the disk beside the current one and serve it from then on."""
        async with self._loading:
            before = await self._run(self._fingerprint)
            loading = asyncio.ensure_future(self._run(self._load))
            await asyncio.wait([loading])
            # No error of the new model may end the watch.
            error = loading.exception()
            if error is not None:
                self._refuse(_sentence(error), before)
                return False
            self.current, self._refused = loading.result(), ""
            name, sha256 = self.current.spec.name, self.current.sha256
            self._metrics.model(name, sha256)
            self._metrics.reload("taken")
            _log.info("now serving model %s (%.12s)", name, sha256)
            return True

    def _refuse(self, why: str, fingerprint: str) -> None:
        self._refused = fingerprint
        self._metrics.reload("refused")
        _log.error("the new model is refused and the current one kept: %s", why)

    def close(self) -> None:
        """Shut down the thread that loads."""
        self._thread.shutdown(wait=False)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _load(self) -> ServedModel:
        settings = self._settings
        return load_served(
            self._reference,
            settings.limits.batch,
            engine=settings.engine,
            precision=settings.precision,
            single_channel=settings.single_channel,
        )

    def _fingerprint(self) -> str:
        """Return the hash of the model on the disk; empty where it is incomplete."""
        from napari_cellclf.bundles.bundle import read_spec
        from napari_cellclf.bundles.catalogue import find_model

        try:
            return read_spec(find_model(self._reference)).fingerprint
        except (CellclfError, OSError):
            return ""


def _sentence(error: BaseException) -> str:
    return str(error) if isinstance(error, CellclfError) else f"{type(error).__name__}: {error}"
