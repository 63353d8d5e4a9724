"""A classifier whose images are read, prepared and computed by the workers of a dask cluster."""

from __future__ import annotations

import importlib
import math
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.cluster.chunk import Chunk, WantedModel
from napari_cellclf.core.counting import counted
from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.errors import CancelledError, ImageError, InputError, ServerError
from napari_cellclf.inference.batches import FinishedImages
from napari_cellclf.inference.prepare import BadImage

if TYPE_CHECKING:
    from distributed import Client, Future

    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.inference.engine import EngineChoice, Precision
    from napari_cellclf.io.sources import ImageSource


#: Batches in a chunk at most: seconds of work, so that neither sending nor losing one counts.
_BATCHES = 4
#: Chunks for each thread of the cluster: as many under way as wait for it.
_AHEAD = 2
#: Seconds between two looks at whether to stop, and without any worker before giving up.
_LOOK, _PATIENCE = 0.2, 120.0


@dataclass(frozen=True)
class _Sent:
    chunk: Chunk
    future: Future[list[FinishedImages]]


class ClusterClassifier:
    """Classifies images on a dask cluster; `connect_cluster` makes one."""

    def __init__(
        self,
        client: Client,
        bundle: ModelBundle,
        inputs: Sequence[str | Path],
        engine: EngineChoice,
        precision: Precision,
    ) -> None:
        from napari_cellclf.cluster.worker import ModelPlugin

        self.bundle = bundle
        self._client = client
        self._address = str(client.scheduler_info(n_workers=0)["address"])
        self._inputs = tuple(str(Path(path).absolute()) for path in inputs)
        wanted = WantedModel(
            str(bundle.path.absolute()),
            bundle.spec.name,
            bundle.spec.fingerprint,
            version("napari-cellclf"),
            engine,
            precision,
        )
        self._plugin = f"napari-cellclf {client.id}"
        client.register_plugin(ModelPlugin(wanted, self._plugin))

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it tells apart."""
        return self.bundle.spec.class_names

    @property
    def preprocessing(self) -> Preprocessing:
        """How it makes the network's input from an image."""
        return self.bundle.spec.input.preprocessing

    @property
    def says_unlike(self) -> bool:
        """Whether it says which images are unlike anything in training."""
        return self.bundle.spec.unlike is not None

    @property
    def device(self) -> str:
        """How many workers compute, and whose."""
        return f"{counted(len(self._threads()), 'worker')} of {self._address}"

    def stream(
        self,
        sources: Sequence[ImageSource],
        *,
        mapping: Mapping[str, str | None] | None = None,
        batch_size: int = 16,
        on_progress: OnProgress = ignore_progress,
        should_stop: ShouldStop = never_stop,
    ) -> Generator[FinishedImages]:
        """Classify many images; see `Classifier.stream`."""
        chunks = self._chunks(sources, mapping, batch_size)
        total, done = len(sources), 0
        with closing(self._in_order(chunks, should_stop)) as answered:
            try:
                for chunk, answers in answered:
                    for answer in answers:
                        found = replace(answer, done=done + answer.done)
                        message = f"classified {found.last}"
                        on_progress(Progress(found.done, total, message))
                        yield found
                    done += len(chunk.sources)
            except CancelledError:
                return

    def close(self) -> None:
        """Leave the cluster, whose workers then release the model."""
        try:
            self._client.unregister_worker_plugin(self._plugin)
        except (OSError, TimeoutError):
            # The cluster is gone already.
            pass
        finally:
            self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _chunks(
        self,
        sources: Sequence[ImageSource],
        mapping: Mapping[str, str | None] | None,
        batch_size: int,
    ) -> Iterator[Chunk]:
        # Small enough that every thread has some when there are few images.
        share = math.ceil(len(sources) / (4 * max(1, sum(self._threads().values()))))
        size = max(1, min(_BATCHES * batch_size, share))
        for first in range(0, len(sources), size):
            some = tuple(sources[first : first + size])
            yield Chunk(some, self._inputs, mapping, batch_size)

    def _in_order(
        self, chunks: Iterator[Chunk], should_stop: ShouldStop
    ) -> Generator[tuple[Chunk, list[FinishedImages]]]:
        sent: deque[_Sent] = deque()
        try:
            while True:
                # Asked every time: workers come and go.
                room = _AHEAD * max(1, sum(self._threads().values()))
                while len(sent) < room and (chunk := next(chunks, None)) is not None:
                    sent.append(self._send(chunk))
                if not sent:
                    return
                yield sent[0].chunk, self._answers(sent[0], list(sent)[1:], should_stop)
                sent.popleft()
        finally:
            self._client.cancel([one.future for one in sent])

    def _send(self, chunk: Chunk) -> _Sent:
        from napari_cellclf.cluster.worker import classify_chunk

        return _Sent(chunk, self._client.submit(classify_chunk, self._plugin, chunk, pure=False))

    def _answers(
        self, sent: _Sent, others: Sequence[_Sent], should_stop: ShouldStop
    ) -> list[FinishedImages]:
        answers = self._result(sent, should_stop)
        if answers is not None:
            return answers
        # An image of this chunk crashed the workers, or one that they had in progress with it: try
        # each image by itself, with nothing else in progress.
        for other in others:
            self._wait(other.future, should_stop)
        answers = []
        for done, source in enumerate(sent.chunk.sources):
            one = self._send(replace(sent.chunk, sources=(source,)))
            for found in self._result(one, should_stop) or [_ended_its_workers(source.id)]:
                answers.append(replace(found, done=done + found.done))
        return answers

    def _result(self, sent: _Sent, should_stop: ShouldStop) -> list[FinishedImages] | None:
        """Return the predictions of a chunk; None if it crashed every worker."""
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        self._wait(sent.future, should_stop)
        if sent.future.status == "finished":
            try:
                answers: list[FinishedImages] = sent.future.result()
            except FutureCancelledError as gone:
                raise self._lost() from gone
            return answers
        error = sent.future.exception() if sent.future.status == "error" else None
        if error is None:
            raise self._lost()
        if not isinstance(error, KilledWorker):
            raise error
        return None

    def _wait(self, future: Future[list[FinishedImages]], should_stop: ShouldStop) -> None:
        from distributed import wait

        seen = time.monotonic()
        while True:
            if should_stop():
                raise CancelledError("the classification was stopped; start it again")
            try:
                with self._client.as_current():
                    wait(future, timeout=_LOOK)
            except TimeoutError:
                now = time.monotonic()
                seen = now if self._threads() else seen
                if now - seen > _PATIENCE:
                    raise ServerError(
                        f"the scheduler at {self._address} has had no worker for {_PATIENCE:g} s; "
                        "start some, and run the same command again"
                    ) from None
            else:
                return

    def _threads(self) -> dict[str, int]:
        """Return the workers that are there, and how many threads each has."""
        try:
            found: dict[str, int] = self._client.nthreads()
        except (OSError, TimeoutError) as error:
            raise self._lost() from error
        return found

    def _lost(self) -> ServerError:
        return ServerError(
            f"the scheduler at {self._address} cannot be reached any more; start it, and run the "
            "same command again"
        )


def connect_cluster(
    address: str,
    model: str | Path,
    *,
    inputs: Sequence[str | Path] = (),
    engine: EngineChoice = "auto",
    precision: Precision = "auto",
    timeout: float = 30.0,
) -> ClusterClassifier:
    """Connect to a dask cluster.

    Anyone who can reach the scheduler can run any code on it, on its workers, and here: dask's
    messages are pickles. Use TLS, set up in dask's own configuration, or a network that you trust.

    `engine`, `precision`: what computes on the workers, as for `load_classifier`. With
    ``precision="float32"`` the predictions of different processors agree to 1e-4.
    """
    library = distributed_library()
    bundle = ModelBundle.load(find_model(model))
    try:
        client = library.Client(address, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ServerError(
            f"there is no dask scheduler at {address} ({reason}); check the address, and for "
            "tls:// dask's configuration"
        ) from error
    try:
        client.wait_for_workers(1, timeout=timeout)
    except (OSError, TimeoutError) as error:
        client.close()
        raise ServerError(
            f"the scheduler at {address} has no workers; start some with dask worker {address}"
        ) from error
    return ClusterClassifier(client, bundle, inputs, engine, precision)


def _ended_its_workers(name: str) -> FinishedImages:
    reason = f"{name} crashed every worker that tried it, perhaps for lack of memory; try it alone"
    return FinishedImages(BadImage(name, reason, ImageError(reason)), 1, True)


def distributed_library() -> Any:
    """Import `distributed`."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise InputError(
            f"a cluster needs dask's distributed, which cannot be imported ({error}); install it "
            'with pip install "napari-cellclf[distributed]"'
        ) from error
