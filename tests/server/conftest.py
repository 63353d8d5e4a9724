"""Tiny real networks behind real servers, in this process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

pytest.importorskip("starlette", reason="the extra `server` is not installed")
pytest.importorskip("keras", reason="a served model needs Keras")

from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.server.run import Server, address_of, listen
from napari_cellclf.server.served_model import ServedModel, load_served
from napari_cellclf.server.service import Service
from napari_cellclf.server.settings import Limits, Settings

BATCH = 4

SaveModel = Callable[..., Path]
Running = Callable[..., AbstractContextManager["Live"]]
Client = Callable[..., httpx.Client]


@dataclass(frozen=True)
class Live:
    """A server that answers on a socket."""

    url: str
    service: Service
    server: Server

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.rpartition("//")[2].split(":")
        return host, int(port)


@pytest.fixture(scope="session")
def save_model(tmp_path_factory: pytest.TempPathFactory) -> SaveModel:
    """Save a network that answers by the mean of each channel."""

    def save(path: Path, channels: list[dict[str, Any]], slope: float = 4.0, **fields: Any) -> Path:
        import keras

        from napari_cellclf.models.save import save_bundle

        classes = fields.pop("classes", ("HEPG2", "HUVEC", "RPE"))
        count = len(channels)
        network = keras.Sequential(
            [
                keras.layers.Input((None, None, count)),
                keras.layers.GlobalAveragePooling2D(),
                keras.layers.Dense(len(classes), activation="softmax"),
            ]
        )
        weights = np.linspace(-slope, slope, count * len(classes), dtype=np.float32)
        offsets = np.linspace(0.3, -0.2, len(classes), dtype=np.float32)
        network.layers[-1].set_weights([weights.reshape(count, -1), offsets])
        pixels = np.random.default_rng(0).integers(0, 255, (count, 12, 12), dtype=np.uint8)
        names = [channel["name"] for channel in channels]
        save_bundle(
            network,
            path,
            preprocessing=Preprocessing(channels=channels, normalization={"kind": "scale_linear"}),
            classes=classes,
            architecture="compact-cnn",
            test_image=Image(pixels, "CYX", names),
            **fields,
        )
        return path

    return save


@pytest.fixture(scope="session")
def one_channel(save_model: SaveModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as the first seed's: one stain."""
    path = tmp_path_factory.mktemp("served") / "one.cellclf"
    return save_model(path, [{"name": "w2 ConA", "aliases": ["w2", "ER"]}])


@pytest.fixture(scope="session")
def site_model(save_model: SaveModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of several stains, one of which it can do without."""
    path = tmp_path_factory.mktemp("served") / "site.cellclf"
    channels = [
        {"name": "w1 Hoechst", "aliases": ["w1", "DNA"]},
        {"name": "w2 ConA", "aliases": ["w2"]},
        {"name": "w5 MitoTracker", "aliases": ["w5"], "required": False},
    ]
    return save_model(path, channels, unsure_threshold=0.5, temperature=1.5, views="flips")


@pytest.fixture(scope="session")
def served_one(one_channel: Path) -> ServedModel:
    return load_served(str(one_channel), BATCH)


@pytest.fixture(scope="session")
def served_site(site_model: Path) -> ServedModel:
    return load_served(str(site_model), BATCH)


@pytest.fixture(scope="session")
def running() -> Running:
    """Run a server on a socket of its own, in a thread."""

    @contextmanager
    def run(served: ServedModel, limits: Limits | None = None, **fields: Any) -> Iterator[Live]:
        settings = _settings(limits or Limits(batch=BATCH), {"port": 0} | fields)
        listening = listen(settings)
        live: list[Live] = []
        ready = threading.Event()

        async def main() -> None:
            service = Service(str(served.classifier.bundle.path), served, settings)
            server = Server(service)
            server.config.load()
            live.append(Live(address_of(listening, settings), service, server))
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            while not server.started and not serving.done():
                await asyncio.sleep(0.01)
            ready.set()
            await serving

        thread = threading.Thread(target=asyncio.run, args=(main(),))
        thread.start()
        assert ready.wait(20)
        try:
            yield live[0]
        finally:
            live[0].server.should_exit = True
            thread.join(20)
            listening.close()
        assert not thread.is_alive()

    return run


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    """Ask a server of a model, which lives as long as the test."""
    with ExitStack() as stack:

        def make(
            served: ServedModel, limits: Limits | None = None, **settings: Any
        ) -> httpx.Client:
            live = stack.enter_context(running(served, limits, **settings))
            return stack.enter_context(httpx.Client(base_url=live.url))

        yield make


def _settings(limits: Limits, fields: dict[str, Any]) -> Settings:
    return Settings(limits=limits, **fields)
