"""Real images from their publisher, here from a server on this computer."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import napari_cellclf as cc
from loopback import FAST, Server, serving
from napari_cellclf.errors import DownloadError, InputError
from napari_cellclf.io import samples
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.samples import RXRX1_SHA256, RXRX1_URL, fetch_rxrx1_site

BODIES = [f"file {channel}".encode() * 100 for channel in range(1, 7)]


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture
def small(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server of six small files whose hashes are known."""
    for channel, body in enumerate(BODIES, 1):
        server.files[f"/HUVEC-01/Plate1/B02_s1_w{channel}.png"] = body
    hashes = tuple(hashlib.sha256(body).hexdigest() for body in BODIES)
    monkeypatch.setattr(samples, "RXRX1_SHA256", {"HUVEC": hashes})
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    return server


def kept(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]


def test_six_files_are_fetched_once(small: Server, tmp_path: Path) -> None:
    paths = fetch_rxrx1_site(base_url=small.url)
    assert [path.read_bytes() for path in paths] == BODIES
    assert paths[0] == tmp_path / "cache" / "rxrx1" / "HUVEC-01" / "Plate1" / "B02_s1_w1.png"
    assert len(small.requests) == 6
    assert fetch_rxrx1_site(base_url=small.url) == paths
    assert len(small.requests) == 6


def test_a_damaged_copy_is_fetched_again(small: Server) -> None:
    paths = fetch_rxrx1_site(base_url=small.url)
    paths[2].write_bytes(b"damaged")
    assert fetch_rxrx1_site(base_url=small.url)[2].read_bytes() == BODIES[2]
    assert len(small.requests) == 7


def test_what_is_kept_needs_no_connection(small: Server) -> None:
    paths = fetch_rxrx1_site(base_url=small.url)
    assert fetch_rxrx1_site(base_url="https://offline.invalid") == paths


def test_a_wrong_file_is_named_and_leaves_nothing(small: Server, tmp_path: Path) -> None:
    small.fault = "wrong"
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch_rxrx1_site(base_url=small.url, rules=FAST)
    assert kept(tmp_path / "cache") == []


def test_a_missing_file_is_named(small: Server, tmp_path: Path) -> None:
    del small.files["/HUVEC-01/Plate1/B02_s1_w4.png"]
    with pytest.raises(DownloadError, match=r"B02_s1_w4\.png answers 404"):
        fetch_rxrx1_site(base_url=small.url)
    assert sorted(kept(tmp_path / "cache")) == [f"B02_s1_w{channel}.png" for channel in (1, 2, 3)]


def test_no_server_is_said(small: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot be reached"):
        fetch_rxrx1_site(base_url="http://127.0.0.1:9", rules=FAST)
    assert kept(tmp_path / "cache") == []


def test_a_place_that_cannot_be_written_is_said(small: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="CELLCLF_CACHE"):
        fetch_rxrx1_site(base_url=small.url, folder=tmp_path / "file")


def test_unknown_cell_types_are_refused() -> None:
    with pytest.raises(InputError, match="HEPG2, HUVEC, RPE, U2OS"):
        fetch_rxrx1_site("HeLa")


def test_the_publishers_address() -> None:
    assert RXRX1_URL == "https://storage.googleapis.com/rxrx1-us-central1/images/train"
    assert {len(hashes) for hashes in RXRX1_SHA256.values()} == {6}


def test_the_cache_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELLCLF_CACHE", raising=False)
    assert cache_folder().name in ("napari-cellclf", "Cache")


@pytest.mark.parametrize("cell_type", ["HEPG2", "HUVEC", "RPE", "U2OS"])
def test_the_real_files_have_the_known_hashes(
    server: Server, real_data: Path, tmp_path: Path, cell_type: str
) -> None:
    root = real_data / "rxrx1" / "images"
    for file in (root / f"{cell_type}-01" / "Plate1").glob("B02_s1_w*.png"):
        server.files[f"/{file.relative_to(root).as_posix()}"] = file.read_bytes()
    paths = fetch_rxrx1_site(cell_type, base_url=server.url, folder=tmp_path)
    image = cc.read_image(paths[0])
    assert image.shape == (6, 512, 512)
    assert image.metadata["site_id"] == f"{cell_type}-01_1_B02_1"
