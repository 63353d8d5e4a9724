"""A frozen backbone and its head: ours against the plain `fit` on augmented images, as one table.

Run ``python benchmarks/frozen.py``, or the same with ``--accuracy FOLDER``. Noise images in
four classes lie on disk as PNG files. Plain is what a user would write: `fit` on a `tf.data`
pipeline that decodes, resizes and rotates each image anew in each epoch, through the frozen
network; its seconds are those of some steps, times all steps. Ours is ``cellclf train`` in a new
process, each stage by the times in its log: once with an empty cache, and again with another head.
Both see each image and five rotations of it in each epoch. They take turns: a slice of plain steps
before and after each of ours. The limit is the floating-point operations of the backbone at the
rate of one large matrix product (see engines.py).

``--accuracy`` trains on real images, a folder per class, with the ImageNet weights of
EfficientNet-Lite0, three seeds each way, and judges both on the same held-out images. It takes a
while.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from engines import operations, peak
from imagecodecs import png_encode

import napari_cellclf as cc
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.runs.api import run_training
from napari_cellclf.runs.create import create_run

SIDE = 224
BATCH = 32
ROTATIONS = (45.0, 90.0, 135.0, 180.0, 270.0)
CLASSES = ("a", "b", "c", "d")
STEPS = 6
SEEDS = 3
NETWORKS = {"resnet50": None, "efficientnet-lite0": "imagenet"}


def write_images(folder: Path, count: int) -> Path:
    """Write noise of four levels as PNG files, a folder per class."""
    random = np.random.default_rng(0)
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        level = 40 + 50 * (number % len(CLASSES))
        pixels = random.normal(level, 30, (256, 256, 3)).clip(0, 255).astype(np.uint8)
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / f"{number:04d}.png").write_bytes(png_encode(pixels))
    return folder


def configuration(architecture: str, epochs: int, **changes: Any) -> TrainingConfig:
    """Return what both ways train."""
    fields = {
        "architecture": architecture,
        "weights": NETWORKS[architecture],
        "size": (SIDE, SIDE),
        "fixed_rotations": ROTATIONS,
        "head_epochs": epochs,
        "epochs": 0,
        "batch_size": BATCH,
        "label_smoothing": 0.0,
    }
    return TrainingConfig(**(fields | changes))


class Plain:
    """What a user would write: Keras's `fit` through a frozen network."""

    def __init__(self, data: Dataset, config: TrainingConfig, seed: int = 0) -> None:
        import keras

        from napari_cellclf.models.architectures.registry import build_network

        keras.utils.set_random_seed(seed)
        self._config = config
        self._data = data
        self.network = build_network(
            config.architecture,
            input_shape=(SIDE, SIDE, 3),
            n_classes=len(data.class_names),
            weights=config.weights,
            train_backbone=False,
        )
        self.network.compile(
            keras.optimizers.AdamW(config.head_learning_rate, weight_decay=config.weight_decay),
            "sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )

    def batches(self, split: str, augment: bool) -> Any:
        """Return a pipeline that decodes from disk, on both cores and ahead."""
        import keras
        import tensorflow as tf

        part = getattr(self._data, split)
        turn = keras.layers.RandomRotation(0.5, fill_mode="constant")
        # As both sets of weights want their photographs, near enough for the time.
        mean, spread = (127.0, 128.0)

        def load(path: Any, label: Any) -> Any:
            image = tf.io.decode_image(tf.io.read_file(path), 3, expand_animations=False)
            return (tf.image.resize(image, (SIDE, SIDE)) - mean) / spread, label

        dataset = tf.data.Dataset.from_tensor_slices((list(part.paths), part.labels))
        if augment:
            dataset = dataset.shuffle(len(part), seed=self._config.seed)
            dataset = dataset.repeat(1 + len(self._config.fixed_rotations))
        dataset = dataset.map(load, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH)
        if augment:
            dataset = dataset.map(lambda images, labels: (turn(images, training=True), labels))
        return dataset.prefetch(tf.data.AUTOTUNE)

    def seconds_a_step(self) -> float:
        """Measure some steps of `fit`; the first call compiles, and is made before."""
        some = self.batches("train", augment=True).take(STEPS)
        began = time.perf_counter()
        self.network.fit(some, verbose=0, shuffle=False)
        return (time.perf_counter() - began) / STEPS

    def accuracy(self) -> float:
        """Train all epochs, and judge on the test images."""
        batches, epochs = self.batches("train", augment=True), self._config.head_epochs
        self.network.fit(batches, epochs=epochs, verbose=0, shuffle=False)
        return float(self.network.evaluate(self.batches("test", augment=False), verbose=0)[1])


def ours(data: Dataset, config: TrainingConfig, folder: Path, cache: Path) -> dict[str, float]:
    """Train with ``cellclf train`` in a new process; return the seconds of each stage, and all."""
    run = create_run(data, config, folder)
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "napari_cellclf", "train", str(run.path)],
        check=True,
        capture_output=True,
        env={**os.environ, "CELLCLF_CACHE": str(cache), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    taken = {"all": time.perf_counter() - began}
    events = [json.loads(line) for line in run.log.read_text().splitlines()]
    marks = [event for event in events if event["event"] in ("stage", "done")]
    for mark, after in pairwise(marks):
        taken[mark["stage"]] = after["time"] - mark["time"]
    for event in events:
        if event["event"] == "note":
            print(f"  note: {event['message']}", file=sys.stderr)
    return taken


def limit(architecture: str) -> dict[str, float]:
    """Return how many images a second the backbone could be computed at most, by precision."""
    from napari_cellclf.models.architectures.registry import build_network
    from napari_cellclf.models.export.onnx.convert import to_onnx
    from napari_cellclf.models.training.network import split_head

    shape = (SIDE, SIDE, 3)
    network = build_network(architecture, input_shape=shape, n_classes=4, weights=None)
    work = operations(to_onnx(split_head(network)[0]), shape)
    return {precision: peak(precision) / work for precision in ("float32", "fast")}


def compare(architecture: str, data: Dataset, epochs: int, folder: Path) -> None:
    """Measure one network and print its table."""
    config = configuration(architecture, epochs)
    plain = Plain(data, config)
    plain.seconds_a_step()
    shown = len(data.train) * (1 + len(ROTATIONS))
    steps = epochs * -(-shown // BATCH)
    slices, rows = [plain.seconds_a_step()], {}
    turns = {
        "ours, first time": config,
        "ours, another head on the same features": config.changed(head_learning_rate=2e-3),
    }
    for number, (name, changed) in enumerate(turns.items()):
        rows[name] = ours(data, changed, folder / f"{architecture}-{number}", folder / architecture)
        slices.append(plain.seconds_a_step())
    step = statistics.median(slices)
    title = f"{len(data.train)} images, {len(ROTATIONS)} rotations, {epochs} epochs"
    print(f"\n### {architecture}, {title}\n")
    print("| what | seconds | against plain |\n|---|---|---|")
    whole = step * steps
    each = ", ".join(f"{one:.2f}" for one in slices)
    steps_of = f"{steps} steps of {step:.2f} s (slices of {STEPS}: {each})"
    print(f"| plain `fit`: {steps_of} | {whole:.0f} | 1 |")
    for name, taken in rows.items():
        training = taken["prepare"] + taken["features"] + taken["head"]
        everything = taken["all"]
        print(f"| {name}: the whole process | {everything:.1f} | {whole / everything:.1f} |")
        print(f"| preparing, features and head of it | {training:.1f} | {whole / training:.1f} |")
        for stage in ("prepare", "features", "head", "evaluate", "save"):
            print(f"| - {stage} | {taken[stage]:.2f} | |")
    for precision, rate in limit(architecture).items():
        at = f"{rate:.0f} images/s"
        print(f"| limit of the features in {precision}: {at} | {shown / rate:.1f} | |", flush=True)


def accuracies(folder: str, images: int, epochs: int) -> None:
    """Train on real images in both ways, and print how many test images each gets right."""
    whole = cc.read_dataset(folder)
    random = np.random.default_rng(0)
    chosen = np.sort(random.permutation(len(whole))[:images])
    print(f"\n### Accuracy on {Path(folder).name}, EfficientNet-Lite0, {epochs} epochs\n")
    print("| seed | plain `fit` | ours |\n|---|---|---|")
    found = []
    for seed in range(SEEDS):
        data = whole.subset(chosen).split("random", seed=0)
        changes = {"seed": seed, "fixed_rotations": (90.0, 180.0, 270.0)}
        config = configuration("efficientnet-lite0", epochs, **changes)
        run = create_run(data, config, Path(tempfile.mkdtemp()) / "run")
        evaluation = run_training(run.path).evaluation
        found.append((Plain(data, config, seed).accuracy(), evaluation.accuracy))
        print(f"| {seed} | {found[-1][0]:.3f} | {found[-1][1]:.3f} |", flush=True)
    means, spreads = np.mean(found, axis=0), np.std(found, axis=0, ddof=1)
    cells = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in zip(means, spreads, strict=True)]
    print(f"| mean and deviation | {' | '.join(cells)} |")


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--accuracy", metavar="FOLDER")
    parser.add_argument("--accuracy-images", type=int, default=400)
    asked = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = os.getloadavg()[0]
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {cores} cores, load {load:.1f}")
    if asked.accuracy:
        accuracies(asked.accuracy, asked.accuracy_images, asked.epochs)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = cc.read_dataset(write_images(folder / "images", asked.images))
        data = replace(data, table=data.table.assign(split="train"))
        for architecture in NETWORKS:
            compare(architecture, data, asked.epochs, folder)


if __name__ == "__main__":
    main()
