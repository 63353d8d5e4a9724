"""How fast whole networks are trained here: in float32, in bfloat16, as a run chooses, in PyTorch.

    python benchmarks/train.py [--pairs 6] [--only resnet50]

Steps of fine-tuning on one batch of random images: the step of a run (`Trainer`) in float32, which
is what runs did before, and in bfloat16, in turns in one process; what a run chooses for itself;
and, where torch and torchvision are installed, a plain loop of PyTorch with AdamW, channels last,
in float32 and in bfloat16 (autocast). Fewest seconds of each; the first step, which compiles, does
not count.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.measured_precision import settled_precision
from napari_cellclf.models.training.network import initial_network
from napari_cellclf.models.training.trainer import Trainer

#: Architecture, side in pixels, images in a batch, and the function of torchvision.
CASES = (
    ("resnet50", 224, 16, "resnet50"),
    ("mobilenetv2", 160, 32, "mobilenet_v2"),
    ("efficientnet-lite0", 160, 32, None),
)
CLASSES = tuple(ClassSpec(name=name) for name in "abcd")
RATE = 1e-4

Step = Callable[[], Any]


def batch_of(count: int, side: int) -> np.ndarray:
    """Make random images, (N, Y, X, 3)."""
    return np.random.default_rng(0).normal(size=(count, side, side, 3)).astype(np.float32)


def preprocessing_of(side: int) -> Preprocessing:
    """Return that of images in colour."""
    channels = tuple({"name": name} for name in ("red", "green", "blue"))
    return Preprocessing(channels=channels, size=(side, side))


def our_step(config: TrainingConfig, side: int, precision: str) -> Step:
    """Make the step of a run."""
    made = initial_network(
        config.changed(precision=precision), preprocessing_of(side), CLASSES
    ).network
    made.trainable = True
    images = batch_of(config.batch_size, side)
    targets = np.eye(len(CLASSES), dtype=np.float32)[np.arange(len(images)) % len(CLASSES)]
    trainer = Trainer(made, config, images.shape[1:], None, made)
    return lambda: trainer.step(images, targets, RATE)


def torch_step(name: str, side: int, count: int, bfloat16: bool) -> Step:
    """Make the step of a plain loop in PyTorch, whose loss is waited for as well."""
    import torch
    import torchvision

    network = getattr(torchvision.models, name)(num_classes=len(CLASSES))
    network = network.to(memory_format=torch.channels_last).train()
    images = torch.from_numpy(batch_of(count, side)).permute(0, 3, 1, 2)
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(count) % len(CLASSES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            loss = torch.nn.functional.cross_entropy(network(images).float(), labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def fewest_seconds(steps: dict[str, Step], pairs: int) -> dict[str, float]:
    """Take the steps in turns, so that what else runs slows all alike."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
    for _ in range(pairs):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            found[name].append(time.perf_counter() - start)
    return {name: min(seconds) for name, seconds in found.items()}


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
        steps = {way: our_step(config, side, way) for way in ("float32", "bfloat16")}
        if has_torch and theirs is not None:
            for way in ("float32", "bfloat16"):
                steps[f"PyTorch {way}"] = torch_step(theirs, side, count, way == "bfloat16")
        seconds = fewest_seconds(steps, arguments.pairs)
        del steps
        rates = {way: count / taken for way, taken in seconds.items()}
        way = chosen(config, side)
        shown = ", ".join(f"{one} {rate:.1f}" for one, rate in rates.items())
        print(
            f"{name}, {side} pixels, batches of {count}: {shown}; a run takes {way}: "
            f"{rates[way] / rates['float32']:.2f} times float32",
            flush=True,
        )
    if not has_torch:
        print("PyTorch: torch and torchvision are not installed")


if __name__ == "__main__":
    main()
