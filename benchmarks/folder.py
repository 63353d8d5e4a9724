"""A folder of RxRx1 to a table: how near it comes to what decoding or computing take alone.

    python benchmarks/folder.py DATA [--sites 600] [--runs 3] [--seed-sites 48] [--cluster]

DATA holds ``images/<experiment>/Plate<p>/*.png`` in RxRx1's form. Its sites are repeated, by links
in a temporary folder, up to ``--sites``. The rows, by turns in each run, medians at the end:

- the first seed's way: for each site, decode with Pillow, divide by 255, ``model.predict``;
- ours: `Classifier.stream` into a `PredictionWriter`;
- decode only: read and prepare as ours does, compute nothing;
- compute only: batches of 16 prepared sites that lie in memory.

With ``--cluster``: ours with one worker process of dask, and with two, each bound to a core of its
own (Linux, ``taskset``).
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

import napari_cellclf as cc
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.inference.prepare import PreparedPlane, UnreadImage, prepared_ahead
from napari_cellclf.io.sources import ImageSource, collect_sources
from napari_cellclf.io.tables import PredictionWriter

BATCH = 16
SEED = "the first seed's way"


def repeat(data: Path, folder: Path, sites: int) -> None:
    """Link the sites of a data set into as many plates as it takes."""
    first = collect_sources([data])
    for number in range(sites):
        file = Path(first[number % len(first)].id)
        stem = file.name.split("_w")[0]
        experiment = file.parent.parent.name
        # Every plate has one site of the name, so that all names stay as published.
        plate = folder / experiment / f"Plate{number + 1}"
        plate.mkdir(parents=True)
        for channel in sorted(file.parent.glob(f"{stem}_w*.png")):
            (plate / channel.name).symlink_to(channel.resolve())


def seeds_way(network: Any, sources: list[ImageSource]) -> None:
    """Decode, divide by 255, ``model.predict``, one site after the other."""
    for source in sources:
        first = Path(source.id)
        stem = first.name.split("_w")[0]
        pixels = np.zeros((256, 256, 6), np.float32)
        for channel in range(6):
            file = first.with_name(f"{stem}_w{channel + 1}.png")
            if file.exists():
                pixels[..., channel] = np.asarray(Pillow.open(file).resize((256, 256))) / 255
        network.predict(pixels[np.newaxis], verbose=0)


def into_table(stream: Iterator[Any], classes: tuple[str, ...], table: Path) -> None:
    """Write what a stream delivers, and make sure that it was all."""
    with PredictionWriter(table, classes) as writer:
        for delivered in stream:
            assert isinstance(delivered.answer, Predictions)
            for row in range(len(delivered.answer)):
                writer.write(delivered.answer.record(row))


def prepare(classifier: cc.Classifier, sources: list[ImageSource]) -> list[PreparedPlane]:
    """Read and prepare all; return the rows of one batch."""
    items = [UnreadImage(source.id, source.read, source.metadata) for source in sources]
    kept: list[PreparedPlane] = []
    for row in prepared_ahead(items, classifier.bundle.spec, None, batch_size=BATCH):
        assert isinstance(row, PreparedPlane)
        kept = [*kept[-BATCH + 1 :], row]
    return kept


@contextmanager
def workers(count: int) -> Iterator[str]:
    """Start a scheduler and workers, each on a core of its own."""
    from distributed import LocalCluster

    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1"]
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(n_workers=0, dashboard_address=":0"))
        for core in sorted(os.sched_getaffinity(0))[:count]:
            process = subprocess.Popen(
                ["taskset", "-c", str(core), *worker, "--no-nanny", cluster.scheduler_address],
                stderr=subprocess.DEVNULL,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
        yield cluster.scheduler_address


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds that something takes, by the clock and of all processors together."""
    began, worked = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - worked


def on_one_machine(arguments: argparse.Namespace, sources: list[ImageSource], table: Path) -> None:
    """Measure the rows of one machine, and print them."""
    from napari_cellclf.inference.keras_engine import KerasEngine

    classifier = cc.load_classifier(arguments.model)
    network = KerasEngine.load(classifier.bundle).network
    batch = np.stack([row.pixels for row in prepare(classifier, sources[: 2 * BATCH])])
    few = sources[: arguments.seed_sites]
    rows: dict[str, tuple[int, Callable[[], object]]] = {
        SEED: (len(few), lambda: seeds_way(network, few)),
        "ours": (
            len(sources),
            lambda: into_table(
                classifier.stream(sources, batch_size=BATCH), classifier.classes, table
            ),
        ),
        "decode only": (len(sources), lambda: prepare(classifier, sources)),
        "compute only": (
            len(sources),
            lambda: [classifier.compute(batch) for _ in range(len(sources) // BATCH)],
        ),
    }
    seeds_way(network, few[:2])
    classifier.compute(batch)
    rates: dict[str, list[float]] = {name: [] for name in rows}
    costs: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(arguments.runs):
        for name, (count, work) in rows.items():
            clock, processors = timed(work)
            rates[name].append(count / clock)
            costs[name].append(1000 * processors / count)
    print(f"engine {type(classifier.engine).__name__} on {classifier.device}")
    print(f"{'':22} {'sites/s':>8} {'processor ms a site':>20}   sites/s of each run")
    middle = {name: statistics.median(found) for name, found in rates.items()}
    for name, found in rates.items():
        cost = statistics.median(costs[name])
        each = " ".join(f"{rate:.1f}" for rate in found)
        print(f"{name:22} {middle[name]:8.1f} {cost:20.1f}   {each}")
    slower = min(middle["decode only"], middle["compute only"])
    together = 1 / (1 / middle["decode only"] + 1 / middle["compute only"])
    print(f"ours / the seed's way      {middle['ours'] / middle[SEED]:.2f}")
    print(f"ours / slower of the two   {middle['ours'] / slower:.2f}")
    print(f"ours / one after the other {middle['ours'] / together:.2f}")


def on_workers(arguments: argparse.Namespace, sources: list[ImageSource], table: Path) -> None:
    """Measure one worker and two, and print how much faster two are."""
    from napari_cellclf.cluster.classifier import connect_cluster

    middle = []
    for count in (1, 2):
        with workers(count) as address, connect_cluster(address, arguments.model) as cluster:
            cluster._client.wait_for_workers(count)
            into_table(cluster.stream(sources[: 8 * count]), cluster.classes, table)
            rates = [
                len(sources)
                / timed(
                    lambda cluster=cluster: into_table(
                        cluster.stream(sources), cluster.classes, table
                    )
                )[0]
                for _ in range(arguments.runs)
            ]
        middle.append(statistics.median(rates))
        print(f"{count} worker(s)            {middle[-1]:8.1f}   {rates}")
    print(f"two / one                  {middle[1] / middle[0]:.2f}")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="rxrx1-celltype")
    parser.add_argument("--sites", type=int, default=600)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seed-sites", type=int, default=48)
    parser.add_argument("--cluster", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        repeat(arguments.data, folder / "images", arguments.sites)
        sources = collect_sources([folder / "images"])
        measure = on_workers if arguments.cluster else on_one_machine
        measure(arguments, sources, folder / "table.csv")


if __name__ == "__main__":
    main()
