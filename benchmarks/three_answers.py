"""What features and feature map cost beside the probabilities, for each network and engine.

``python benchmarks/three_answers.py [--repeats 15]``. Arrays are in memory, batches of 16. In each
repeat all ways of one engine follow one another: the network of one output, the same with three
outputs of which only probabilities are asked for, and all three asked for. Time is that of the
processors, of all threads together, which a busy machine does not lengthen much; the figure is the
median, over the repeats, of the time against the first way.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from engines import MODEL, resnet50

from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.onnx_engines import Graph, load_graph_engine
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.export.onnx.convert import to_onnx

BATCH = 16
#: At least about this long is one measurement, in seconds of the processors.
_LONG = 0.3
#: Threads of TensorFlow and ONNX Runtime go on looking for work for so long, in seconds.
_PAUSE = 0.25

Run = Callable[[], Any]


def ways(network: Any, batch: np.ndarray[Any, Any]) -> dict[str, list[Run]]:
    """Return the three ways to compute a batch, for each engine."""
    keras = KerasEngine(network)
    found: dict[str, list[Run]] = {"keras": [lambda: keras(batch)] * 2 + [_all(keras, batch)]}
    one, three = (_graph(to_onnx(network, extras=extras)) for extras in (False, True))
    for name, precision in (
        ("openvino", "float32"),
        ("openvino", "fast"),
        ("onnxruntime", "float32"),
    ):
        before, after = (load_graph_engine(name, graph, precision) for graph in (one, three))
        found[after.device] = [
            lambda engine=before: engine(batch),
            lambda engine=after: engine(batch),
            _all(after, batch),
        ]
    return found


def _all(engine: Any, batch: np.ndarray[Any, Any]) -> Run:
    return lambda: engine.compute(batch, features=True, feature_map=True)


def _graph(content: bytes) -> Graph:
    return Graph("network", hashlib.sha256(content).hexdigest(), lambda: content)


def ratios(runs: list[Run], repeats: int) -> tuple[float, list[float]]:
    """Return the median seconds of the first, and the median ratio of each to it."""
    for run in runs:
        run()
    each = max(1, round(_LONG / _seconds(runs[0], 1)))
    times = []
    for number in range(repeats):
        taken = [0.0] * len(runs)
        # Each is first as often as the others.
        for place in np.roll(range(len(runs)), number):
            taken[place] = _seconds(runs[place], each)
        times.append(taken)
    first = statistics.median(taken[0] for taken in times)
    return first, [
        statistics.median(taken[place] / taken[0] for taken in times) for place in range(len(runs))
    ]


def _seconds(run: Run, count: int) -> float:
    run()
    began = time.process_time()
    for _ in range(count):
        run()
    return (time.process_time() - began) / count


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    print(f"load before: {os.getloadavg()[0]:.1f}")
    shape = (224, 224, 3)
    lite0 = build_network("efficientnet-lite0", input_shape=shape, n_classes=4, weights="imagenet")
    with tempfile.TemporaryDirectory() as folder:
        large = KerasEngine.load(resnet50(Path(folder))).network
    shipped = load_classifier(MODEL, engine="keras", self_test=False)
    sides = shipped.preprocessing.size or (256, 256)
    networks = {
        MODEL: (shipped.engine.network, (*sides, len(shipped.preprocessing.channels))),
        "EfficientNet-Lite0": (lite0, shape),
        "ResNet50": (large, shape),
    }
    print("| network | engine | processor ms an image | one answer of three | all three |")
    print("|---|---|---|---|---|")
    for name, (network, size) in networks.items():
        batch = np.random.default_rng(1).normal(size=(BATCH, *size)).astype(np.float32)
        for engine, runs in ways(network, batch).items():
            time.sleep(_PAUSE)
            seconds, (_, quiet, whole) = ratios(runs, repeats)
            print(
                f"| {name} | {engine} | {1000 * seconds / BATCH:.2f} | {quiet - 1:+.1%} "
                f"| {whole - 1:+.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
