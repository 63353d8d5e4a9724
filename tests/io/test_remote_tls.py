"""Certificates and proxies of institutes."""

from __future__ import annotations

import hashlib
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from loopback import FAST, Server, serving
from napari_cellclf.errors import DownloadError
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.fetch import fetch_file

trustme = pytest.importorskip("trustme", reason="certificates for tests come from trustme")

BODY = b"model" * 1000
CHECKSUM = Checksum("sha256", hashlib.sha256(BODY).hexdigest())
HOST = "models.example.org"


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An institute's own authority, which ``SSL_CERT_FILE`` names."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    return made


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Server]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", HOST).configure_cert(context)
    with serving(context) as running:
        running.files["/m.cellclf"] = BODY
        yield running


def fetch(url: str, folder: Path) -> Path:
    return fetch_file(url, folder, checksum=CHECKSUM, max_bytes=len(BODY), rules=FAST)


def test_the_institutes_certificate_is_trusted(secure: Server, tmp_path: Path) -> None:
    assert fetch(f"{secure.url}/m.cellclf", tmp_path / "got").read_bytes() == BODY


def test_a_redirect_from_https_to_http_is_refused(secure: Server, tmp_path: Path) -> None:
    secure.fault = "leave"
    with pytest.raises(DownloadError, match="not an https address"):
        fetch(f"{secure.url}/m.cellclf", tmp_path / "got")
    assert list((tmp_path / "got").glob("m*")) == []


def test_a_certificate_of_nobody_is_refused_with_advice(
    secure: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "other.pem"))
    with pytest.raises(DownloadError, match=r"certificate .* SSL_CERT_FILE"):
        fetch(f"{secure.url}/m.cellclf", tmp_path / "got")
    assert secure.requests == []


class _Proxy(BaseHTTPRequestHandler):
    """Connects to the server of the test, whatever host is asked for."""

    target = ("127.0.0.1", 0)
    asked: list[str]

    def do_CONNECT(self) -> None:
        type(self).asked.append(self.path)
        with socket.create_connection(self.target) as far:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=self._pump, args=(far, self.connection))
            back.start()
            self._pump(self.connection, far)
            back.join()
        self.close_connection = True

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        while block := source.recv(65_536):
            sink.sendall(block)
        sink.shutdown(socket.SHUT_WR)

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def proxy(secure: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Proxy]]:
    handler = type("Proxy", (_Proxy,), {"target": ("127.0.0.1", secure.server_port), "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.delenv("no_proxy", raising=False)
        yield handler
        running.shutdown()
        thread.join()


def test_a_proxy_is_used_for_the_internet(proxy: type[_Proxy], tmp_path: Path) -> None:
    assert fetch(f"https://{HOST}/m.cellclf", tmp_path / "got").read_bytes() == BODY
    assert proxy.asked == [f"{HOST}:443"]


def test_a_proxy_is_not_used_for_this_computer(
    proxy: type[_Proxy], secure: Server, tmp_path: Path
) -> None:
    assert fetch(f"{secure.url}/m.cellclf", tmp_path / "got").read_bytes() == BODY
    assert proxy.asked == []
