"""How fast, how steady and how right ``cellclf serve`` is: ``python benchmarks/serve.py``.

Throughput: small networks with random weights on 512 x 512 PNG images, asked by 16 clients at a
time. By turns with it, on the same network, a plain Flask app that calls ``model.predict`` for each
request, as the first student project did; and what the network alone computes in this process, the
most that any server can reach with it. Then the bundled model with the six files of a site.

Soak: good and bad requests by turns from 32 clients; statuses, growth of the server's memory, and
the largest difference from ``cellclf predict`` for the same files.

Needs the extra ``server``, and Flask (``pip install flask``). Only figures of one run compare.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from imagecodecs import png_encode

SIDE = 512
IMAGES = 24
#: Of the network: the default, and the least, where all the rest counts for more.
WIDTHS = (24, 8)
BOUNDARY = b"cellclf-benchmark"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=15, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="of Flask and this server by turns")
    parser.add_argument("--soak", type=int, default=10_000, metavar="REQUESTS")
    parser.add_argument("--flask", metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if arguments.flask:
        run_flask(arguments.flask)
        return
    with tempfile.TemporaryDirectory(prefix="cellclf-serve-") as folder:
        images = write_images(Path(folder))
        contents = [path.read_bytes() for path in images]
        print(f"{'what':44} {'images/s':>9} {'median ms':>10} {'99 % ms':>9} {'99 %/median':>12}")
        for width in WIDTHS:
            print(f"a network of {width} channels and more, 512 x 512 pixels")
            model = save_model(Path(folder, f"width{width}.cellclf"), width)
            bare_network(model, contents[0])
            with flask(model) as plain, server(str(model)) as ours:
                compare(plain, ours, contents, arguments)
        if arguments.soak:
            with server(str(model)) as ours:
                soak(ours, model, images, arguments.soak)
    site_throughput(arguments.seconds)


def save_model(path: Path, width: int) -> Path:
    """Save a network for one channel, with random weights and pixels / 255."""
    from napari_cellclf import Image, Preprocessing
    from napari_cellclf.models.architectures.registry import build_network
    from napari_cellclf.models.save import save_bundle

    preprocessing = Preprocessing(
        channels=[{"name": "w2 ConA"}], normalization={"kind": "scale_linear"}
    )
    save_bundle(
        build_network("compact-cnn", input_shape=(None, None, 1), n_classes=4, width=width, seed=0),
        path,
        preprocessing=preprocessing,
        # As the images that a training holds out: they tell whether 16 bits will do.
        typical=[preprocessing(Image(field(seed), "YX")) for seed in range(8)],
        classes=["HEPG2", "HUVEC", "RPE", "U2OS"],
        architecture="compact-cnn",
        test_image=Image(field(0), "YX"),
    )
    return path


def field(seed: int) -> np.ndarray:
    """Draw spots on a dark ground, which a PNG compresses about as well as a real field."""
    rng = np.random.default_rng(seed)
    pixels = rng.poisson(12, (SIDE, SIDE)).astype(np.float64)
    for y, x in rng.integers(20, SIDE - 20, (60, 2)):
        pixels[y - 15 : y + 15, x - 15 : x + 15] += rng.uniform(20, 120)
    return pixels.clip(0, 255).astype(np.uint8)


def write_images(folder: Path) -> list[Path]:
    """Write the images that are sent."""
    paths = [folder / f"field{seed}.png" for seed in range(IMAGES)]
    for seed, path in enumerate(paths):
        path.write_bytes(png_encode(field(seed)))
    return paths


def run_flask(model: str) -> None:
    """Serve a network in the way of the first project: decode, divide by 255, predict."""
    from flask import Flask, request
    from PIL import Image as Pillow

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.inference.keras_engine import KerasEngine

    network = KerasEngine.load(ModelBundle.load(model)).network
    names = [c["name"] for c in json.loads(Path(model, "bundle.json").read_text())["classes"]]
    app = Flask("plain")

    @app.get("/api/predict")
    def predict() -> str:
        pixels = np.asarray(Pillow.open(io.BytesIO(request.data)))
        answer = network.predict((pixels / 255).reshape(1, SIDE, SIDE, 1), verbose=0)[0]
        return ", ".join(f"{name}: {p:.4f}" for name, p in zip(names, answer, strict=True))

    app.run(port=0, threaded=True)


@contextlib.contextmanager
def _process(command: list[str], ready: str) -> Iterator[str]:
    """Run a server, and give its address once it says that it is ready."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if match := re.search(ready, line.decode()):
                break
        else:
            raise RuntimeError(f"{command} did not start")
        # Read on, so that its log never blocks it.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        yield match[1]
    finally:
        process.terminate()
        process.wait()
        drain.wait()


def server(model: str) -> contextlib.AbstractContextManager[str]:
    """Run this package's server."""
    start = "import sys; from napari_cellclf.cli import main; sys.exit(main(sys.argv[1:]))"
    return _process([sys.executable, "-c", start, "serve", model, "--port", "0"], r"ready at (\S+)")


def flask(model: Path) -> contextlib.AbstractContextManager[str]:
    """Run the plain one."""
    return _process([sys.executable, __file__, "--flask", str(model)], r"Running on (\S+)")


def bare_network(model: Path, content: bytes) -> None:
    """Print what the network computes without any server, one process, batches of 1 and 8."""
    import napari_cellclf as cc
    from napari_cellclf.io.files import read_memory
    from napari_cellclf.io.memory import MemoryFile

    classifier = cc.load_classifier(model)
    image = read_memory(MemoryFile("x.png", content))
    for size in (1, 8):
        batch = np.stack([classifier.preprocessing(image)] * size)
        seconds = [_seconds(lambda batch=batch: classifier.compute(batch)) for _ in range(20)]
        rate = size / np.median(seconds[2:])
        print(f"{f'the network alone, batches of {size}':44} {rate:9.1f}")


def _seconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def compare(plain: str, ours: str, contents: list[bytes], arguments: argparse.Namespace) -> None:
    """Ask both servers by turns, so that a busy machine slows both."""
    requests = [_raw("GET", content) for content in contents]
    rows: dict[str, list[np.ndarray]] = {"Flask and model.predict": [], "cellclf serve": []}
    for url in (plain, ours):
        asyncio.run(ask(url, requests, 4, count=8))
    rates: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(arguments.rounds):
        for name, url in zip(rows, (plain, ours), strict=True):
            began = time.perf_counter()
            answers = asyncio.run(ask(url, requests, 16, seconds=arguments.seconds))
            rates[name].append(len(answers) / (time.perf_counter() - began))
            rows[name].append(np.array([seconds for _, seconds, _ in answers]))
    for name, taken in rows.items():
        _print(f"{name}, 16 at a time", float(np.median(rates[name])), np.concatenate(taken))
    ratio = np.median(rates["cellclf serve"]) / np.median(rates["Flask and model.predict"])
    print(f"{'times as many':44} {ratio:9.1f}")


def site_throughput(seconds: float) -> None:
    """Ask the bundled model for simulated sites of six files."""
    from napari_cellclf import simulate_site

    requests = []
    for seed, cell_type in enumerate(("HEPG2", "HUVEC", "RPE", "U2OS")):
        planes = simulate_site(cell_type, seed=seed).data
        files = {f"B02_s1_w{c}.png": png_encode(plane) for c, plane in enumerate(planes, start=1)}
        requests.append(_form(files))
    with server("rxrx1-celltype") as url:
        asyncio.run(ask(url, requests, 4, count=8))
        began = time.perf_counter()
        answers = asyncio.run(ask(url, requests, 16, seconds=seconds))
        rate = len(answers) / (time.perf_counter() - began)
        _print(
            "six files, rxrx1-celltype, 16 at a time", rate, np.array([s for _, s, _ in answers])
        )


def _print(name: str, rate: float, seconds: np.ndarray) -> None:
    median, late = np.percentile(seconds * 1000, (50, 99))
    print(f"{name:44} {rate:9.1f} {median:10.0f} {late:9.0f} {late / median:12.1f}", flush=True)


def soak(url: str, model: Path, images: list[Path], count: int) -> None:
    """Mix good and bad requests; compare the good answers, and the memory before and after."""
    from napari_cellclf.cli import main as cellclf

    table = model.parent / "expected.csv"
    if cellclf(["predict", str(model), *map(str, images), "--out", str(table)]):
        raise RuntimeError("cellclf predict failed")
    lines = table.read_text().splitlines()
    columns = lines[0].split(",")
    chosen = [columns.index(name) for name in columns if name.startswith("p_")]
    expected = [np.array([float(line.split(",")[i]) for i in chosen]) for line in lines[1:]]
    good = [_raw("POST", path.read_bytes(), b"image/png") for path in images]
    bad = [
        _raw("POST", images[0].read_bytes()[:5000], b"image/png"),
        _raw("POST", b"GIF89a not taken", b"image/gif"),
        _raw("POST", b"", b"image/png"),
        _raw("POST", png_encode(np.zeros((9000, 9000), np.uint8)), b"image/png"),
        b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"POST /api/predict?url=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
    ]
    mixed = [request for i, one in enumerate(good) for request in (one, bad[i % len(bad)])]
    asyncio.run(ask(url, mixed, 32, count=count // 10))
    before = _memory(url)
    answers = asyncio.run(ask(url, mixed, 32, count=count))
    growth = _memory(url) - before
    worst = 0.0
    for number, _, (status, body) in answers:
        position = number % len(mixed)
        if status == 200 and position % 2 == 0:
            found = list(json.loads(body)["predictions"][0]["probabilities"].values())
            worst = max(worst, float(np.abs(found - expected[position // 2]).max()))
    statuses = Counter(status for _, _, (status, _) in answers)
    print(f"soak: {count} requests, 32 at a time: {dict(sorted(statuses.items()))}")
    print(f"soak: memory grew by {growth / 1e6:.1f} MB, from {before / 1e6:.0f} MB")
    print(f"soak: largest difference from cellclf predict {worst:.2g}", flush=True)


def _memory(url: str) -> float:
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        text = answer.read().decode()
    match = re.search(r"^process_resident_memory_bytes (\S+)", text, re.M)
    assert match is not None
    return float(match[1])


def _raw(method: str, content: bytes, kind: bytes = b"image/png") -> bytes:
    return (
        f"{method} /api/predict HTTP/1.1\r\nHost: localhost\r\n".encode()
        + b"Content-Type: " + kind + b"\r\nContent-Length: %d\r\n\r\n" % len(content) + content
    )  # fmt: skip


def _form(files: dict[str, bytes]) -> bytes:
    parts = b"".join(
        b'--%b\r\nContent-Disposition: form-data; name="image"; filename="%b"\r\n\r\n%b\r\n'
        % (BOUNDARY, name.encode(), content)
        for name, content in files.items()
    )
    body = parts + b"--%b--\r\n" % BOUNDARY
    return _raw("POST", body, b"multipart/form-data; boundary=" + BOUNDARY)


async def ask(
    url: str, requests: list[bytes], clients: int, *, count: int = 0, seconds: float = 0
) -> list[tuple[int, float, tuple[int, bytes]]]:
    """Ask in turn, so many at a time; return number, seconds, status and body of each answer."""
    host, port = url.rstrip("/").rpartition("//")[2].split(":")
    end = time.perf_counter() + seconds
    numbers = iter(range(count or sys.maxsize))
    answers = []

    async def client() -> None:
        connection = None
        for number in numbers:
            if seconds and time.perf_counter() > end:
                break
            connection = connection or await asyncio.open_connection(host, int(port))
            began = time.perf_counter()
            connection[1].write(requests[number % len(requests)])
            status, body, keep = await _read_answer(connection[0])
            answers.append((number, time.perf_counter() - began, (status, body)))
            if not keep:
                connection[1].close()
                connection = None
        if connection:
            connection[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


async def _read_answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    match = re.search(rb"content-length: (\d+)", head)
    body = await reader.readexactly(int(match[1])) if match else b""
    keep = head.startswith(b"http/1.1") and b"connection: close" not in head
    return int(head.split(b" ", 2)[1]), body, keep


if __name__ == "__main__":
    main()
