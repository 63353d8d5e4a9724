"""How fast the device that Keras finds trains and predicts: with our pipeline, and bare.

    KERAS_BACKEND=jax python benchmarks/gpu.py [--quick] [--repeats 5]

ResNet50 at 224 pixels and the network of `rxrx1-celltype` at 512 x 512 x 6, each in float32 and in
bfloat16, with random weights on generated PNG files. One table of images per second, medians:

- training as a run does it: batches out of the memory-mapped cache, augmentation, and the step,
  whose loss is waited for; and the same on one batch over and over, which is all but its input;
- prediction as `Classifier.stream` does it from files, and as a validation does it from the cache;
- beside each, the bare network: Keras's own `train_step`, and the forward pass, on one batch that
  already lies on the device, with nothing waited for until the last step;
- what the input takes alone: batches out of the cache, and files that are read and prepared.

It needs Keras, the backend, and of this package's dependencies h5py, imagecodecs, numpy, onnx and
pydantic; neither TensorFlow, napari nor Qt. ``--quick`` is for a look whether it runs: small
images, few steps, so that its figures say nothing of a device.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from engines import medians

import napari_cellclf as cc
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import bundled_folder
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.onnx_engines import Graph, OnnxRuntimeEngine
from napari_cellclf.inference.prepare import BadImage, UnreadImage, prepared_ahead
from napari_cellclf.io.array_cache import KeptArrays
from napari_cellclf.io.prepared import TurnedFile, prepare_images
from napari_cellclf.io.rxrx1 import stain_channels
from napari_cellclf.io.sources import ImageSource, collect_sources
from napari_cellclf.models.devices import chosen_backend, describe_device, find_devices, set_up
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.minibatches import Batches, Subset
from napari_cellclf.models.training.presets import load_preset

MODEL = "rxrx1-celltype.cellclf"
CLASSES = tuple(ClassSpec(name=name) for name in ("HEPG2", "HUVEC", "RPE", "U2OS"))
RATE = 1e-4
#: Files that are generated; an epoch goes over them as often as it takes.
FILES = 64

Run = Callable[[], Any]


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and what it is fed."""

    title: str
    config: TrainingConfig
    channels: tuple[ChannelSpec, ...]
    side: int

    @property
    def preprocessing(self) -> Preprocessing:
        """Every pixel of the files, per channel of zero mean and unit variance."""
        return Preprocessing(channels=self.channels, size=(self.side, self.side))


@dataclass(frozen=True)
class Material:
    """The images of a case: as files, and prepared on disk."""

    sources: list[ImageSource]
    prepared: KeptArrays


def cases(quick: bool, batch_size: int | None) -> list[Case]:
    """Return the two networks with the augmentation of the presets that they are made for."""
    rgb = tuple(ChannelSpec(name=name) for name in ("red", "green", "blue"))
    rxrx1 = ModelBundle.load(bundled_folder() / MODEL).spec.architecture
    resnet = load_preset("brightfield-rgb").changed(architecture="resnet50", parameters={})
    ours = load_preset("fluorescence").changed(
        architecture=rxrx1.name, parameters=rxrx1.parameters, crop=None
    )
    found = []
    for name, preset, channels, side, batch in (
        ("ResNet50", resnet, rgb, 224, 64),
        ("The RxRx1 network", ours, stain_channels(), 512, 32),
    ):
        side = 64 if quick else side
        batch = batch_size or (4 if quick else batch)
        config = preset.changed(weights=None, head_epochs=0, batch_size=batch)
        title = f"{name} at {side} x {side} x {len(channels)}, batches of {batch}"
        found.append(Case(title, config, channels, side))
    return found


def generate(case: Case, folder: Path, count: int) -> Material:
    """Write images as PNG files, RGB or a site's channels in RxRx1's form, and prepare them."""
    random = np.random.default_rng(0)
    plate = folder / "HUVEC-01" / "Plate1"
    plate.mkdir(parents=True)
    for number in range(count):
        # Smooth with a little noise, so that they compress about as images do.
        coarse = random.integers(0, 200, (case.side // 8, case.side // 8, len(case.channels)))
        noise = random.integers(0, 8, (case.side, case.side, len(case.channels)))
        pixels = (np.kron(coarse, np.ones((8, 8, 1), int)) + noise).astype(np.uint8)
        if len(case.channels) == 3:
            (plate / f"{number}.png").write_bytes(imagecodecs.png_encode(pixels))
            continue
        for channel in range(len(case.channels)):
            file = plate / f"B{number % 24 + 1:02d}_s{number // 24 + 1}_w{channel + 1}.png"
            file.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels[..., channel])))
    sources = collect_sources([folder])
    items = [TurnedFile(source.id) for source in sources]
    prepared = prepare_images(items, case.preprocessing, folder=folder / "cache")
    if prepared.bad:
        raise SystemExit(next(iter(prepared.bad.values())))
    return Material(sources, prepared)


def batches_of(case: Case, material: Material, steps: int) -> Batches:
    """Return the batches of a training."""
    labels = np.arange(len(material.prepared)) % len(CLASSES)
    targets = np.eye(len(CLASSES), dtype=np.float32)
    return Batches(material.prepared, labels, targets, case.config.batch_size, steps=steps)


def inputs_alone(case: Case, material: Material, bundle: ModelBundle, steps: int) -> dict[str, Run]:
    """Return what makes the input and computes nothing."""
    batches, epochs = batches_of(case, material, steps), itertools.count()
    items = repeated(material.sources, steps * case.config.batch_size)

    def files() -> None:
        reading = (UnreadImage(source.id, source.read, source.metadata) for source in items)
        for _ in prepared_ahead(reading, bundle.spec, None, batch_size=case.config.batch_size):
            pass

    return {
        "batches out of the prepared cache, alone": lambda: [
            None for _ in batches.epoch(next(epochs))
        ],
        "files read and prepared, alone": files,
    }


def repeated(sources: list[ImageSource], count: int) -> list[ImageSource]:
    """Return so many sources, each of them again and again."""
    return list(itertools.islice(itertools.cycle(sources), count))


def training(case: Case, material: Material, network: Any, steps: int) -> dict[str, Run]:
    """Return our training, from the cache and on one batch."""
    from napari_cellclf.models.training.trainer import Trainer

    batches, epochs = batches_of(case, material, steps), itertools.count()
    trainer = Trainer(network, case.config, batches.input_shape, case.config.augmentation)
    (first,) = itertools.islice(batches.epoch(0), 1)

    def from_cache() -> None:
        for batch in batches.epoch(next(epochs)):
            trainer.step(batch.inputs, batch.targets, RATE)

    def one_batch() -> None:
        for _ in range(steps):
            trainer.step(first.inputs, first.targets, RATE)

    return {
        "training, from the prepared cache, augmented": from_cache,
        "training, one batch over and over, augmented": one_batch,
    }


def prediction(
    case: Case, material: Material, network: Any, bundle: ModelBundle, steps: int
) -> dict[str, Run]:
    """Return our prediction, from files, from the cache, and through ONNX Runtime."""
    from napari_cellclf.models.training.validation import predict

    if chosen_backend() == "tensorflow":
        # As `KerasEngine.load` does.
        network.jit_compile = False
    size = case.config.batch_size
    classifier = Classifier(bundle, KerasEngine(network))
    sources = repeated(material.sources, steps * size)
    cached = Subset(material.prepared, np.arange(steps * size) % len(material.prepared))

    def from_files() -> None:
        for delivered in classifier.stream(sources, batch_size=size):
            if isinstance(delivered.answer, BadImage):
                raise SystemExit(delivered.answer.reason)

    runs: dict[str, Run] = {
        "prediction, from files": from_files,
        "prediction, from the prepared cache": lambda: predict(network, cached, size),
    }
    if case.config.precision == "float32" and find_spec("onnxruntime") and bundle.has_graph:
        engine = OnnxRuntimeEngine.load(Graph.of(bundle))
        batch = np.stack([cached[number] for number in range(size)])
        runs[f"prediction, {engine.device}, a batch in memory"] = lambda: [
            engine(batch) for _ in range(steps)
        ]
    return runs


def save(case: Case, folder: Path) -> ModelBundle:
    """Write a case's network as a bundle, which is in float32."""
    from napari_cellclf.models.save import save_bundle
    from napari_cellclf.models.training.network import initial_network

    shape = (len(case.channels), case.side, case.side)
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    started = initial_network(case.config.changed(precision="float32"), case.preprocessing, CLASSES)
    return save_bundle(
        started.network,
        folder / "benchmark.cellclf",
        preprocessing=case.preprocessing,
        classes=CLASSES,
        architecture=started.architecture,
        test_image=cc.Image(pixels, "CYX", [channel.name for channel in case.channels]),
    )


def measure(case: Case, files: int, steps: int, repeats: int) -> None:
    """Measure and print one network."""
    images = steps * case.config.batch_size
    with tempfile.TemporaryDirectory() as name:
        material = generate(case, Path(name, "files"), files)
        bundle = save(case, Path(name))
        print(f"\n### {case.title}\n")
        print("| what | ours, images/s | the bare network, images/s | ours / bare |")
        print("|---|---|---|---|")
        for what, seconds in medians(inputs_alone(case, material, bundle, steps), repeats).items():
            print(f"| {what} | {images / seconds:.1f} | | |", flush=True)
        for precision in ("float32", "bfloat16"):
            exact = replace(case, config=case.config.changed(precision=precision))
            ours, alone = contenders(exact, material, bundle, steps)
            taken = medians(ours | alone, repeats)
            for what in ours:
                beside = taken[what.split(",")[0]]
                rates = f"{images / taken[what]:.1f} | {images / beside:.1f}"
                print(f"| {precision}: {what} | {rates} | {beside / taken[what]:.2f} |", flush=True)


def contenders(
    case: Case, material: Material, bundle: ModelBundle, steps: int
) -> tuple[dict[str, Run], dict[str, Run]]:
    """Return our ways, and the bare network's training and prediction."""
    from bare import bare

    from napari_cellclf.models.training.network import initial_network

    ours, alone = (
        initial_network(case.config, case.preprocessing, CLASSES).network for _ in range(2)
    )
    backend = chosen_backend()
    # As Keras does by itself: XLA on JAX, and on TensorFlow's GPUs.
    has_gpu = len(find_devices(backend).names) > 1
    compiled = backend == "jax" or (backend == "tensorflow" and has_gpu)
    batch = next(batches_of(case, material, 1).epoch(0))
    train, predict = bare(alone, batch.inputs, batch.targets, compiled)
    runs = prediction(case, material, ours, bundle, steps) | training(case, material, ours, steps)
    return runs, {"training": partial(train, steps), "prediction": partial(predict, steps)}


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="only see whether it runs")
    parser.add_argument("--repeats", type=int, help="5, or 1 with --quick")
    parser.add_argument("--steps", type=int, help="batches in a repeat; 20, or 2 with --quick")
    parser.add_argument("--batch-size", type=int, help="64 and 32, or 4 with --quick")
    options = parser.parse_args()
    backend = chosen_backend()
    set_up(reproducible=False)
    device = describe_device(find_devices(backend))
    versions = ", ".join(f"{name} {version(name)}" for name in ("keras", backend, "numpy"))
    print(f"- {datetime.now(UTC):%Y-%m-%d}, {platform.system()} {platform.machine()}, {device}")
    print(f"- Python {platform.python_version()}, {versions}, {os.cpu_count()} processors")
    print(f"- `KERAS_BACKEND={backend} python {' '.join(sys.argv)}`")
    steps = options.steps or (2 if options.quick else 20)
    repeats = options.repeats or (1 if options.quick else 5)
    for case in cases(options.quick, options.batch_size):
        measure(case, 8 if options.quick else FILES, steps, repeats)


if __name__ == "__main__":
    main()
