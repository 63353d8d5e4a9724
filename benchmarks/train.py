"""How fast whole networks are trained here: as Keras does it, as a run does it, and in PyTorch.

    python benchmarks/train.py [--pairs 6] [--only resnet50]

Steps of fine-tuning on one batch of random images, in turns: the step of a run (`Trainer`) in
float32 and in bfloat16, each with batch normalization as Keras computes it and in one operation
(`fused_normalization`); which precision a run chooses for itself; and, where torch and torchvision
are installed, a plain loop of PyTorch with AdamW, channels last, in float32 and in bfloat16
(autocast), in a process of its own (`torch_steps.py`). Fewest seconds of each; the first step,
which compiles, does not count. Before there was `fused_normalization`, and before a precision was
measured, runs took the first column. Last, how much of the rate on one batch over and over is kept
when batches come out of the cache of prepared images, with the augmentation of a preset.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import patch

import keras
import numpy as np
from gpu import Case, generate, training

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.models.training import trainer as trainers
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.measured_precision import settled_precision
from napari_cellclf.models.training.network import initial_network
from napari_cellclf.models.training.presets import load_preset
from napari_cellclf.models.training.trainer import Trainer

#: Architecture, side in pixels, images in a batch, and the function of torchvision.
CASES = (
    ("resnet50", 224, 16, "resnet50"),
    ("mobilenetv2", 160, 32, "mobilenet_v2"),
    ("efficientnet-lite0", 160, 32, None),
)
WAYS = ("float32", "bfloat16")
CLASSES = tuple(ClassSpec(name=name) for name in "abcd")
RATE = 1e-4

#: Takes a step, and returns its seconds.
Step = Callable[[], float]


def batch_of(count: int, side: int) -> np.ndarray:
    """Make random images, (N, Y, X, 3)."""
    return np.random.default_rng(0).normal(size=(count, side, side, 3)).astype(np.float32)


def preprocessing_of(side: int) -> Preprocessing:
    """Return that of images in colour."""
    channels = tuple({"name": name} for name in ("red", "green", "blue"))
    return Preprocessing(channels=channels, size=(side, side))


def our_step(config: TrainingConfig, side: int, precision: str, *, fused: bool) -> Step:
    """Make the step of a run, or what it was when Keras normalized the batches."""
    made = initial_network(
        config.changed(precision=precision), preprocessing_of(side), CLASSES
    ).network
    made.trainable = True
    images = batch_of(config.batch_size, side)
    targets = np.eye(len(CLASSES), dtype=np.float32)[np.arange(len(images)) % len(CLASSES)]
    if fused:
        trainer = Trainer(made, config, images.shape[1:], None, made)
    else:
        with patch.object(trainers, "with_fused_normalization", lambda network: network):
            trainer = Trainer(made, config, images.shape[1:], None, made)

    def step() -> float:
        start = time.perf_counter()
        trainer.step(images, targets, RATE)
        return time.perf_counter() - start

    return step


@contextmanager
def torch_steps(name: str, side: int, count: int) -> Iterator[dict[str, Step]]:
    """Give steps of PyTorch, in a process that waits while others take theirs."""
    file = Path(__file__).with_name("torch_steps.py")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    command = [sys.executable, str(file), name, str(side), str(count), str(cores)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        asked, told = process.stdin, process.stdout
        assert asked is not None
        assert told is not None

        def step(way: str) -> float:
            print(way, file=asked, flush=True)
            return float(told.readline())

        yield {f"PyTorch {way}": lambda way=way: step(way) for way in WAYS}
        asked.close()


def fewest_seconds(steps: dict[str, Step], pairs: int) -> dict[str, float]:
    """Take the steps in turns, so that what else runs slows all alike."""
    for step in steps.values():
        step()
    rounds = [{name: step() for name, step in steps.items()} for _ in range(pairs)]
    return {name: min(seconds[name] for seconds in rounds) for name in steps}


def chosen(config: TrainingConfig, side: int) -> str:
    """Return what a run of many steps chooses here."""
    with tempfile.TemporaryDirectory() as folder:
        return settled_precision(
            config.changed(epochs=1000),
            preprocessing_of(side),
            CLASSES,
            lambda count: batch_of(count, side),
            config.batch_size,
            folder=Path(folder),
            note=lambda text: print(f"  {text}", flush=True),
        )


def measured(config: TrainingConfig, side: int, theirs: str | None, pairs: int) -> dict[str, float]:
    """Return images a second by way."""
    steps = {
        f"{'fused' if fused else 'Keras'} {way}": our_step(config, side, way, fused=fused)
        for fused in (False, True)
        for way in WAYS
    }
    if theirs is None:
        seconds = fewest_seconds(steps, pairs)
    else:
        with torch_steps(theirs, side, config.batch_size) as more:
            seconds = fewest_seconds(steps | more, pairs)
    return {name: config.batch_size / taken for name, taken in seconds.items()}


def kept_by_input(config: TrainingConfig, side: int, pairs: int) -> float:
    """Return the rate from the cache as a fraction of that on one batch over and over."""
    augmented = config.changed(augmentation=load_preset("brightfield-rgb").augmentation)
    case = Case("", augmented, preprocessing_of(side).channels, side)
    network = initial_network(config, case.preprocessing, CLASSES).network
    network.trainable = True
    with tempfile.TemporaryDirectory() as folder:
        material = generate(case, Path(folder), 4 * config.batch_size)
        cached, repeated = training(case, material, network, 4).values()
        cached(), repeated()
        rounds = [(seconds_of(cached), seconds_of(repeated)) for _ in range(pairs)]
    from_cache, on_one = (min(taken) for taken in zip(*rounds, strict=True))
    return on_one / from_cache


def seconds_of(run: Callable[[], object]) -> float:
    """Measure one run."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    """Print a table of images a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=6, help="steps of each (default 6)")
    parser.add_argument("--only", default="", metavar="ARCHITECTURE", help="one of the three")
    arguments = parser.parse_args()
    has_torch = all(find_spec(name) is not None for name in ("torch", "torchvision"))
    print(f"keras {keras.__version__} on {keras.backend.backend()}, images a second")
    for name, side, count, theirs in CASES:
        if arguments.only not in ("", name):
            continue
        config = TrainingConfig(architecture=name, weights=None, head_epochs=0, batch_size=count)
        rates = measured(config, side, theirs if has_torch else None, arguments.pairs)
        way = chosen(config, side)
        ratio = rates[f"fused {way}"] / rates["Keras float32"]
        kept = kept_by_input(config.changed(precision=way), side, arguments.pairs)
        print(
            f"{name}, {side} pixels, batches of {count}: "
            + ", ".join(f"{one} {rate:.1f}" for one, rate in rates.items())
            + f"; a run takes {way}: {ratio:.2f} times Keras float32; from the cache {kept:.0%}",
            flush=True,
        )
    if not has_torch:
        print("PyTorch: torch and torchvision are not installed")


if __name__ == "__main__":
    main()
