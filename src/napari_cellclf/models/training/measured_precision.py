"""Which precision trains fastest here: tried for some seconds, and kept for the next run.

In bfloat16 a large network trains up to twice as fast on processors with instructions for it, and
a small one slower: whoever has not measured cannot know. Weights, their changes and the loss stay
in float32 either way.
"""

from __future__ import annotations

import gc
import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import keras
import numpy as np

from napari_cellclf.core.progress import ShouldStop, never_stop
from napari_cellclf.errors import CancelledError, InputError
from napari_cellclf.inference.engine_library import usable_cores
from napari_cellclf.io.notes import read_note
from napari_cellclf.io.replacing import replacing
from napari_cellclf.models.devices import chosen_backend, has_fast_bfloat16
from napari_cellclf.models.training.network import initial_network, thaw
from napari_cellclf.models.training.trainer import Trainer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.classes import ClassSpec
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.models.training.config import Settled, TrainingConfig

_WAYS: tuple[Literal["float32"], Literal["bfloat16"]] = ("float32", "bfloat16")
#: Of training that is over before measuring would have paid.
_FEW_STEPS = 200
#: Steps of each way, after the first, which compiles; and seconds after which two are enough.
_MOST_STEPS, _SECONDS = 5, 10.0
#: How much faster it has to be, and how far the first loss may be from float32's.
_WORTH_IT, _CLOSE = 1.1, 0.05
#: What processors call their instructions for bfloat16, as Linux lists them.
_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16"}


@dataclass(frozen=True)
class MeasuredWay:
    """How long the steps of one precision took but for the first, and the loss of each."""

    seconds: tuple[float, ...]
    losses: tuple[float, ...]


def settled_precision(
    config: TrainingConfig,
    preprocessing: Preprocessing,
    classes: Sequence[ClassSpec],
    images: Callable[[int], NDArray[np.float32]],
    n_images: int,
    *,
    folder: Path,
    note: Callable[[str], None],
    should_stop: ShouldStop = never_stop,
) -> Settled:
    """Settle the precision that a run leaves open.

    `images`: gives so many prepared images, ``(N, Y, X, C)`` float32. `folder`: where what was
    measured is kept. `note`: told what was found.
    """
    if config.precision != "auto":
        return config.precision
    if has_fast_bfloat16():
        return "bfloat16"
    per_epoch = config.steps_per_epoch or -(-n_images // config.batch_size)
    size = (config.crop,) * 2 if config.crop else preprocessing.size
    few = config.epochs * per_epoch < _FEW_STEPS
    if few or size is None or config.reproducible or config.devices == "all":
        return "float32"
    if not processor_has_bfloat16():
        return "float32"
    kept = folder / f"{_key(config, preprocessing, len(classes), size)}.json"
    measured = _read(kept)
    if measured is None:
        batch = images(min(config.batch_size, n_images))
        top, left = ((side - want) // 2 for side, want in zip(batch.shape[1:3], size, strict=True))
        batch = batch[:, top : top + size[0], left : left + size[1]]
        # Names of layers count up through the life of a thread: those of the run start afresh.
        with ThreadPoolExecutor(1) as thread:
            work = thread.submit(_measure, config, preprocessing, classes, batch, should_stop)
            measured = work.result()
        _write(kept, measured)
    chosen = choose(measured)
    note(describe(measured, chosen))
    return chosen


def choose(measured: dict[Settled, MeasuredWay]) -> Settled:
    """Take bfloat16 if it is faster by more than chance, and learns as float32 does.

    The same weights have to give a close loss, and steps have to make it smaller where they do so
    in float32. How much smaller says little: large steps on one batch soon differ by chance.

    Examples
    --------
    >>> slow = MeasuredWay((1.5, 1.4), (0.70, 0.5, 0.4))
    >>> fast = MeasuredWay((1.1, 1.0), (0.71, 0.6, 0.5))
    >>> choose({"float32": slow, "bfloat16": fast}), choose({"float32": fast, "bfloat16": slow})
    ('bfloat16', 'float32')
    """
    plain, rounded = measured["float32"], measured["bfloat16"]
    first = plain.losses[0]
    is_close = abs(rounded.losses[0] - first) <= _CLOSE * max(1.0, first)
    learns = all(map(math.isfinite, rounded.losses)) and (
        min(rounded.losses[1:]) < rounded.losses[0] or min(plain.losses[1:]) >= first
    )
    is_faster = _WORTH_IT * min(rounded.seconds) <= min(plain.seconds)
    return "bfloat16" if is_close and learns and is_faster else "float32"


def describe(measured: dict[Settled, MeasuredWay], chosen: Settled) -> str:
    """Say in a line of the log what was measured."""
    plain, rounded = measured["float32"], measured["bfloat16"]
    ratio = min(plain.seconds) / min(rounded.seconds)
    return (
        f"a step in bfloat16 is {ratio:.2f} times as fast here as in float32 (loss of the first "
        f"{rounded.losses[0]:.3f} and {plain.losses[0]:.3f}); computing in {chosen}"
    )


def processor_has_bfloat16(listing: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor has instructions for bfloat16, where the system tells."""
    try:
        lines = listing.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.lower().startswith(("flags", "features"))), "")
    return not _INSTRUCTIONS.isdisjoint(flags.split())


def _measure(
    config: TrainingConfig,
    preprocessing: Preprocessing,
    classes: Sequence[ClassSpec],
    batch: NDArray[np.float32],
    should_stop: ShouldStop,
) -> dict[Settled, MeasuredWay]:
    """Take the same steps in both precisions, in turns, so that what else runs slows both alike."""
    targets = np.eye(len(classes), dtype=np.float32)[np.arange(len(batch)) % len(classes)]
    trainers = {way: _trainer(config, preprocessing, classes, batch, way) for way in _WAYS}
    seconds: dict[Settled, list[float]] = {way: [] for way in _WAYS}
    losses: dict[Settled, list[float]] = {way: [] for way in _WAYS}
    end = time.perf_counter() + _SECONDS
    for number in range(1 + _MOST_STEPS):
        for way in _WAYS:
            if should_stop():
                raise CancelledError("stopped while the precision was measured")
            start = time.perf_counter()
            losses[way].append(trainers[way].step(batch, targets, config.learning_rate)[0])
            seconds[way].append(time.perf_counter() - start)
        if number == 0:
            # Compiling is no step.
            end = time.perf_counter() + _SECONDS
        elif number >= 2 and time.perf_counter() > end:
            break
    del trainers
    keras.utils.clear_session()
    gc.collect()
    return {way: MeasuredWay(tuple(seconds[way][1:]), tuple(losses[way])) for way in _WAYS}


def _trainer(
    config: TrainingConfig,
    preprocessing: Preprocessing,
    classes: Sequence[ClassSpec],
    batch: NDArray[np.float32],
    way: Settled,
) -> Trainer:
    network = initial_network(config.changed(precision=way), preprocessing, classes).network
    if config.weights is not None or config.continue_from is not None or config.head_epochs:
        thaw(network, config.finetune_depth)
    return Trainer(network, config, batch.shape[1:], None, network)


def _key(
    config: TrainingConfig, preprocessing: Preprocessing, n_classes: int, size: Sequence[int]
) -> str:
    """Name everything that the time of a step depends on."""
    backend = chosen_backend()
    parts = [
        *(platform.node(), platform.machine(), usable_cores(), backend, version("keras")),
        *(version("napari-cellclf"), version(backend), config.architecture),
        *(json.dumps(dict(config.parameters), sort_keys=True, default=str), config.continue_from),
        *(list(size), len(preprocessing.channels), n_classes, config.batch_size),
        *(config.finetune_depth, bool(config.weights), config.head_epochs > 0, config.optimizer),
    ]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:32]


def _read(kept: Path) -> dict[Settled, MeasuredWay] | None:
    """Return what was measured before; None where nothing was, or it is damaged."""
    try:
        found = read_note(kept) or {}
        ways: dict[Settled, MeasuredWay] = {
            way: MeasuredWay(_numbers(found[way]["seconds"]), _numbers(found[way]["losses"]))
            for way in _WAYS
        }
    except (ValueError, KeyError, TypeError, OverflowError):
        return None
    measured = all(
        one.seconds and all(0 < second < math.inf for second in one.seconds) and len(one.losses) > 1
        for one in ways.values()
    )
    return ways if measured else None


def _numbers(found: Iterable[object]) -> tuple[float, ...]:
    return tuple(float(str(one)) for one in found)


def _write(kept: Path, measured: dict[Settled, MeasuredWay]) -> None:
    """Keep what was measured; where that is impossible, the next run measures again."""
    said = {way: {"seconds": one.seconds, "losses": one.losses} for way, one in measured.items()}
    with suppress(InputError), replacing(kept) as beside:
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(said), encoding="utf-8")
