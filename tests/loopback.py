"""A server on this computer that serves files as real ones do, or goes wrong as real ones do."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from napari_cellclf.io.remote.source import Rules

#: Patience for tests.
FAST = Rules(stall_seconds=0.4, slowest=2000.0, total_seconds=20.0, attempts=3, first_wait=0.01)

_REDIRECTS = {"loop": "{path}x", "leave": "http://192.0.2.1/x", "elsewhere": "/elsewhere{path}"}


class Server(ThreadingHTTPServer):
    """Serves `files`; `fault` says what goes wrong, `faulty` how often, `faulty_end` where."""

    daemon_threads = True
    scheme = "http"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.tags = True
        self.fault = ""
        self.faulty = 1_000_000
        self.faulty_end = ""
        self.requests: list[tuple[str, dict[str, str]]] = []
        #: Set when what is being held back may go on.
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def ranges(self) -> list[str | None]:
        """Return which part each request asked for."""
        return [headers.get("Range") for _, headers in self.requests]

    def handle_error(self, request: object, client_address: object) -> None:
        # A client that has had enough hangs up, as it should.
        return


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        path = self.path.partition("?")[0]
        fault = server.fault if server.faulty > 0 and path.endswith(server.faulty_end) else ""
        server.faulty -= bool(fault)
        path = path.removeprefix("/elsewhere") if fault == "elsewhere" else path
        if fault in _REDIRECTS and path == self.path:
            self._redirect(_REDIRECTS[fault].format(path=path))
        elif fault.isdecimal():
            self.send_error(int(fault))
        elif fault == "stall":
            server.released.wait()
        elif path not in server.files:
            self.send_error(404)
        else:
            self._send(server.files[path], fault)

    def _redirect(self, where: str) -> None:
        self.send_response(302)
        self.send_header("Location", where)
        self.end_headers()

    def _send(self, body: bytes, fault: str) -> None:
        tag = f'"{len(body)}-{hash(body)}"'
        start = self._start(tag) if self.server.tags else 0
        self.send_response(206 if start else 200)
        if start:
            start += fault == "shifted"
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if fault not in ("endless", "trickle"):
            self.send_header("Content-Length", str(len(body) - start))
        if self.server.tags:
            self.send_header("ETag", tag)
        self.end_headers()
        self._write(body[start:], fault)

    def _start(self, tag: str) -> int:
        asked = self.headers.get("Range", "")
        if not asked or tag not in (self.headers.get("If-Range"), self.headers.get("If-Match")):
            return 0
        return int(asked.removeprefix("bytes=").rstrip("-"))

    def _write(self, body: bytes, fault: str) -> None:
        if fault in ("short", "shifted"):
            self.wfile.write(body[: len(body) // 2])
        elif fault == "wrong":
            self.wfile.write(body[::-1])
        elif fault == "hold":
            self.wfile.write(body[: len(body) // 2])
            self.server.released.wait()
            self.wfile.write(body[len(body) // 2 :])
        elif fault in ("endless", "trickle"):
            size, pause = (65_536, 0.0) if fault == "endless" else (1, 0.02)
            while not self.server.released.wait(pause):
                self.wfile.write(b"x" * size)
        else:
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server, over TLS where a context is given."""
    with Server() as running:
        if context is not None:
            running.socket = context.wrap_socket(running.socket, server_side=True)
            running.scheme = "https"
        thread = threading.Thread(target=running.serve_forever, args=(0.05,))
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def zenodo_record(number: int, files: dict[str, bytes], md5: dict[str, str]) -> bytes:
    """Return what Zenodo's records API answers (InvenioRDM), shortened to what is looked at."""
    described = [
        {
            "id": f"0000-{position}",
            "key": key,
            "size": len(body),
            "checksum": f"md5:{md5[key]}",
            "links": {"self": f"https://zenodo.org/api/records/{number}/files/{key}/content"},
        }
        for position, (key, body) in enumerate(files.items())
    ]
    return json.dumps(
        {
            "id": number,
            "conceptrecid": str(number - 1),
            "doi": f"10.5281/zenodo.{number}",
            "metadata": {"title": "Models", "license": {"id": "cc-by-4.0"}},
            "files": described,
            "status": "published",
        }
    ).encode()
