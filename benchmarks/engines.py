"""How fast each engine computes, as one table for each network.

``python benchmarks/engines.py [--repeats 5]``. Arrays are in memory, batches of 16, and the engines
take turns, so that a busy machine slows all of them alike; each figure is the median. The limit is
what the graph's floating-point operations would take at the rate of one large matrix product in the
same library, precision and process.
"""

from __future__ import annotations

import argparse
import io
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import napari_cellclf as cc
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.inference.engine_library import engine_library, openvino_core
from napari_cellclf.inference.load import load_classifier

BATCH = 16
BATCHES = 2
MODEL = "rxrx1-celltype"
_PRODUCT = 2048
#: Threads of TensorFlow and ONNX Runtime go on looking for work for so long, in seconds.
_PAUSE = 0.3

Run = Callable[[], Any]


def resnet50(folder: Path) -> ModelBundle:
    """Write a ResNet50 at 224 pixels with random weights as a bundle."""
    from napari_cellclf.models.architectures.registry import build_network
    from napari_cellclf.models.save import save_bundle

    channels = [{"name": name} for name in ("red", "green", "blue")]
    pixels = np.random.default_rng(0).integers(0, 255, (3, 224, 224), np.uint8)
    return save_bundle(
        build_network("resnet50", input_shape=(224, 224, 3), n_classes=4, weights=None),
        folder / "resnet50.cellclf",
        preprocessing=Preprocessing(channels=channels, size=(224, 224)),
        classes=list("abcd"),
        architecture="resnet50",
        test_image=cc.Image(pixels, "CYX", [channel["name"] for channel in channels]),
    )


def contenders(bundle: ModelBundle, batch: np.ndarray[Any, Any]) -> dict[str, Run]:
    """Return each way to compute one batch, by its name."""
    import tensorflow as tf

    path = bundle.path
    keras = load_classifier(path, engine="keras").engine
    network = keras.network
    compiled = tf.function(lambda images: network(images, training=False), jit_compile=False)
    tensor = tf.constant(batch)
    runs: dict[str, Run] = {
        "Keras, `model.predict`": lambda: network.predict(batch, verbose=0),
        "Keras, our engine": lambda: keras(batch),
        "TensorFlow, compiled function": lambda: compiled(tensor).numpy(),
    }
    for engine, precision in (
        ("onnxruntime", "float32"),
        ("openvino", "float32"),
        ("openvino", "fast"),
    ):
        classifier = load_classifier(path, engine=engine, precision=precision)
        device = classifier.device
        runs[f"our engine: {device}"] = lambda one=classifier: one.engine(batch)
    runs = {name: repeated(run) for name, run in runs.items()}
    for precision in ("float32", "fast"):
        for hint in ("LATENCY", "THROUGHPUT"):
            name = f"OpenVINO's bare loop, {precision}, {hint}"
            runs[name] = bare(bundle, batch, precision, hint)
    return runs


def repeated(run: Run) -> Run:
    """Return a run of as many batches as are counted."""
    return lambda: [run() for _ in range(BATCHES)]


def bare(bundle: ModelBundle, batch: np.ndarray[Any, Any], precision: str, hint: str) -> Run:
    """Return OpenVINO's own loop over requests of fixed shape, without anything of ours.

    As its `benchmark_app` does, several requests are kept busy; a run computes `BATCHES`.
    """
    openvino = engine_library("openvino")
    core = openvino_core()
    model = core.read_model(io.BytesIO(bundle.graph()))
    model.reshape({0: list(batch.shape)})
    wanted = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "float32" else {}
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": hint, **wanted})
    queue = openvino.AsyncInferQueue(compiled)

    def run() -> None:
        for _ in range(BATCHES):
            queue.start_async({0: batch}, share_inputs=True)
        queue.wait_all()

    return run


def medians(runs: dict[str, Run], repeats: int) -> dict[str, float]:
    """Let all take turns; return the median seconds of each.

    A turn begins with a run without a clock, since the threads of the one before may still be
    looking for work and hold the cores.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            time.sleep(_PAUSE)
            run()
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def peak(precision: str) -> float:
    """Measure the rate of a large matrix product in OpenVINO, in operations a second."""
    openvino, opset13 = engine_library("openvino"), engine_library("openvino.opset13")
    left = opset13.parameter([_PRODUCT, _PRODUCT], np.float32)
    right = np.random.default_rng(0).normal(size=(_PRODUCT, _PRODUCT)).astype(np.float32)
    model = openvino.Model([opset13.matmul(left, opset13.constant(right), False, False)], [left])
    wanted = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "float32" else {}
    request = openvino_core().compile_model(model, "CPU", wanted).create_infer_request()
    taken = medians({"product": lambda: request.infer({0: right}, share_inputs=True)}, 9)
    return 2 * _PRODUCT**3 / taken["product"]


def operations(graph: bytes, image: tuple[int, ...]) -> float:
    """Count the floating-point operations of one image in convolutions and matrix products."""
    model = openvino_core().read_model(io.BytesIO(graph))
    model.reshape({0: [1, *image]})
    total = 0.0
    for operation in model.get_ops():
        kind = operation.get_type_name()
        made = float(np.prod(operation.output(0).shape)) if operation.get_output_size() else 0
        if kind in ("Convolution", "GroupConvolution"):
            kernel = operation.input(1).get_shape()
            total += 2 * made * float(np.prod(kernel[1 if kind == "Convolution" else 2 :]))
        elif kind == "MatMul":
            total += 2 * made * operation.input(0).get_shape()[-1]
    return total


def report(title: str, taken: dict[str, float], bundle: ModelBundle) -> None:
    """Print the table of one network."""
    slowest = next(iter(taken.values()))
    sides = bundle.spec.input.preprocessing.size
    work = operations(bundle.graph(), (*sides, len(bundle.spec.input.channels)))
    print(f"\n### {title}\n\n| what | images a second | against `model.predict` |\n|---|---|---|")
    for name, seconds in taken.items():
        print(f"| {name} | {BATCH * BATCHES / seconds:.1f} | {slowest / seconds:.1f} |")
    for precision in ("float32", "fast"):
        rate = peak(precision)
        print(
            f"| limit in {precision}: {work / 1e9:.2f} GFLOP an image at {rate / 1e9:.0f} GFLOP/s "
            f"| {rate / work:.0f} | |"
        )


def compare(title: str, bundle: ModelBundle, repeats: int) -> None:
    """Measure and print one network."""
    sides = bundle.spec.input.preprocessing.size
    shape = (BATCH, *sides, len(bundle.spec.input.channels))
    batch = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    report(title, medians(contenders(bundle, batch), repeats), bundle)


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, {platform.processor() or platform.machine()}, {cores} cores"
    )
    print(f"load before: {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        compare("ResNet50 at 224 x 224 x 3", resnet50(Path(folder)), repeats)
        bundled = load_classifier(MODEL).bundle
        size = "{} x {}".format(*bundled.spec.input.preprocessing.size)
        compare(f"The bundled network at {size} x 6", bundled, repeats)


if __name__ == "__main__":
    main()
