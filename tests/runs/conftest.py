"""Small labelled images, a folder for what is prepared of them, and quick settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from imagecodecs import png_encode

MakeImages = Callable[..., Path]


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_the_disk() -> None:
    """Writing each of thousands of tiny states through to a busy disk takes minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this test alone."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("CELLCLF_CACHE", str(folder))
    return folder


@pytest.fixture
def make_images(tmp_path: Path) -> MakeImages:
    """Write a folder for each class, with noise of a level of its own in each."""

    def make(root: Path | None = None, names: tuple[str, ...] = ("dark", "light"), n: int = 12):
        root = tmp_path / "images" if root is None else root
        random = np.random.default_rng(0)
        for number, name in enumerate(names):
            (root / name).mkdir(parents=True)
            for image in range(n):
                pixels = random.normal(40 + 90 * number, 20, (32, 32)).clip(0, 255)
                content = png_encode(pixels.astype(np.uint8))
                (root / name / f"{image:03d}.png").write_bytes(content)
        return root

    return make
