"""Downloads, from a server on this computer."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import napari_cellclf as cc
from napari_cellclf.errors import DownloadError, InputError
from napari_cellclf.io import samples
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.download import Rules
from napari_cellclf.io.samples import RXRX1_SHA256, RXRX1_URL, fetch_rxrx1_site

FAST = Rules(max_bytes=2**20, stall_seconds=0.5, total_seconds=1.5)
BODIES = [f"file {channel}".encode() * 100 for channel in range(1, 7)]


class Server(ThreadingHTTPServer):
    """Serves a folder; `fault` says what goes wrong."""

    daemon_threads = True
    folder = Path()
    fault = ""
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        file = self.server.folder / self.path.lstrip("/")
        fault = self.server.fault
        if fault == "loop":
            self.send_response(302)
            self.send_header("Location", self.path + "x")
            self.end_headers()
        elif fault == "leave":
            self.send_response(302)
            self.send_header("Location", "http://192.0.2.1/x.png")
            self.end_headers()
        elif fault == "stall":
            time.sleep(1.0)
        elif not file.is_file():
            self.send_error(404)
        else:
            self._send(file.read_bytes(), fault)

    def _send(self, body: bytes, fault: str) -> None:
        self.send_response(200)
        if fault not in ("endless", "trickle"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault == "short":
            self.wfile.write(body[:10])
        elif fault == "wrong":
            self.wfile.write(body[::-1])
        elif fault in ("endless", "trickle"):
            self._go_on(b"x" * (65_536 if fault == "endless" else 1))
        else:
            self.wfile.write(body)

    def _go_on(self, piece: bytes) -> None:
        try:
            for _ in range(200):
                self.wfile.write(piece)
                time.sleep(0.0 if len(piece) > 1 else 0.05)
        except OSError:
            # The other side has had enough, as it should.
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def small(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server of six small files whose hashes are known."""
    server.folder = tmp_path / "bucket"
    plate = server.folder / "HUVEC-01" / "Plate1"
    plate.mkdir(parents=True)
    for channel, body in enumerate(BODIES, 1):
        (plate / f"B02_s1_w{channel}.png").write_bytes(body)
    hashes = tuple(hashlib.sha256(body).hexdigest() for body in BODIES)
    monkeypatch.setattr(samples, "RXRX1_SHA256", {"HUVEC": hashes})
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    return server


def kept(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_six_files_are_fetched_once(small: Server, tmp_path: Path) -> None:
    paths = fetch_rxrx1_site(base_url=small.url)
    assert [path.read_bytes() for path in paths] == BODIES
    assert paths[0] == tmp_path / "cache" / "rxrx1" / "HUVEC-01" / "Plate1" / "B02_s1_w1.png"
    assert small.requests == 6
    assert fetch_rxrx1_site(base_url=small.url) == paths
    assert small.requests == 6


def test_a_damaged_copy_is_fetched_again(small: Server) -> None:
    paths = fetch_rxrx1_site(base_url=small.url)
    paths[2].write_bytes(b"damaged")
    assert fetch_rxrx1_site(base_url=small.url)[2].read_bytes() == BODIES[2]
    assert small.requests == 7


def test_what_is_kept_needs_no_connection(small: Server) -> None:
    paths = fetch_rxrx1_site(base_url=small.url)
    assert fetch_rxrx1_site(base_url="https://offline.invalid") == paths


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("short", "ended after 10 of"),
        ("wrong", "SHA-256 differs"),
        ("endless", "more than 1048576 bytes"),
        ("trickle", "too slow"),
        ("stall", "too slow"),
        ("loop", "redirected again and again"),
        ("leave", "not an https address"),
    ],
)
def test_a_fault_is_named_and_leaves_nothing(
    small: Server, tmp_path: Path, fault: str, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    small.fault = fault
    started = time.perf_counter()
    with pytest.raises(DownloadError, match=reason) as error:
        fetch_rxrx1_site(base_url=small.url, rules=FAST)
    assert time.perf_counter() - started < 5
    assert "\n" not in str(error.value)
    assert kept(tmp_path / "cache") == []
    assert not caplog.records


def test_a_missing_file_is_named(small: Server, tmp_path: Path) -> None:
    (small.folder / "HUVEC-01" / "Plate1" / "B02_s1_w4.png").unlink()
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


@pytest.mark.parametrize("url", ["http://example.org", "ftp://127.0.0.1", "file:///etc", "x"])
def test_only_https(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="not an https address"):
        fetch_rxrx1_site(base_url=url, folder=tmp_path)


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
    server.folder = real_data / "rxrx1" / "images"
    paths = fetch_rxrx1_site(cell_type, base_url=server.url, folder=tmp_path)
    image = cc.read_image(paths[0])
    assert image.shape == (6, 512, 512)
    assert image.metadata["site_id"] == f"{cell_type}-01_1_B02_1"
