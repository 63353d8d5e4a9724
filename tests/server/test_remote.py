"""The engine on a server: the same numbers as here, and one sentence for what goes wrong."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import trustme
from server_samples import TOKEN, png

from napari_cellclf.cli import main
from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageTooLargeError, InputError, ServerError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.remote import connect
from napari_cellclf.server.served_model import ServedModel, load_served
from napari_cellclf.server.settings import Limits


def _images(count: int) -> list[Image]:
    rng = np.random.default_rng(1)
    names = ("w1 Hoechst", "w2 ConA")
    return [
        Image(rng.integers(0, 255, (2, 20, 24), dtype=np.uint8), "CYX", names) for _ in range(count)
    ]


@pytest.fixture(scope="module")
def live(running: Any, served_site: ServedModel) -> Iterator[Any]:
    with running(served_site, token=TOKEN) as live:
        yield live


def test_numbers_are_those_of_the_model_here(live: Any, site_model: Path) -> None:
    there, here = connect(live.url, TOKEN), load_classifier(site_model)
    images = _images(11)
    assert (there.name, there.classes, there.preprocessing) == (
        here.name, here.classes, here.preprocessing,
    )  # fmt: skip
    assert there.device == f"{here.device} of 127.0.0.1"
    found, expected = there.predict(images), here.predict(images)
    assert found.ids == expected.ids
    # More images than the server takes at a time, from every side, with a temperature.
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)


def test_a_certificate_is_checked(running: Any, served_site: ServedModel, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "authority")}
    for pem in issued.cert_chain_pems:
        pem.write_to_path(files["certificate"], append=True)
    issued.private_key_pem.write_to_path(files["key"])
    authority.cert_pem.write_to_path(files["authority"])
    tls = {name: files[name] for name in ("certificate", "key")}
    with running(served_site, **tls) as live:
        assert live.url.startswith("https://")
        trusting = connect(live.url, certificates=files["authority"])
        assert len(trusting.predict(_images(2))) == 2
        with pytest.raises(ServerError, match=r"not trusted.*SSL_CERT_FILE"):
            connect(live.url)
    with pytest.raises(InputError, match="PEM"):
        connect("https://127.0.0.1", certificates=files["key"])


@pytest.mark.parametrize("token", [None, "another-token-altogether"])
def test_another_token(live: Any, token: str | None) -> None:
    with pytest.raises(ServerError, match="requires another token"):
        connect(live.url, token)


def test_a_token_that_is_none() -> None:
    with pytest.raises(InputError, match="no token has"):
        connect("http://localhost:1", "a\r\nX-Other: b")


@pytest.mark.parametrize(
    "url",
    ["plates.example", "ftp://plates.example", "https://", "https://me:pw@plates.example",
     "https://plates.example/?x=1", "https://[", "https://plates.example:port", "", "s3://a/b",
     "https://plates..example", f"https://{'a' * 300}.example", "https://plates.example/\xe4"],
)  # fmt: skip
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match="is not the address of a server"):
        connect(url)


def test_images_are_not_sent_readable_through_a_network() -> None:
    with pytest.raises(InputError, match="use https"):
        connect("http://plates.example:8080")


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(ServerError, match="cannot be reached"):
        connect(f"http://127.0.0.1:{port}")


@contextmanager
def _answering(answer: bytes | None) -> Iterator[str]:
    """Stand at an address and say always the same, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                if answer is not None:
                    connection.sendall(answer)
                else:
                    connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join(10)


def _http(status: str, body: bytes) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "cannot be reached"),
        (_http("200 OK", b"<html>"), "does not answer as cellclf serve does"),
        (_http("200 OK", b"[]"), "does not answer as cellclf serve does"),
        (_http("200 OK", b'{"spec": {}}'), "same version on both sides"),
        (_http("200 OK", 99_999 * b"["), "does not answer as cellclf serve does"),
        (_http("500 Oh", 60_000 * b"["), "status 500"),
        # More than 64 MiB of an answer, or 64 KiB of a refusal, is not read.
        (_http("200 OK", b"[" + (64 << 20) * b" "), "sends more than expected"),
        (_http("503 Busy", b'{"detail": "busy", "more": "' + 66_000 * b"x" + b'"}'), "status 503"),
        (_http("502 Bad Gateway", b"<html>"), "status 502"),
        (_http("503 Busy", b'{"detail": "too\\nmuch to do"}'), "refuses: toomuch to do"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{", "does not answer|cannot be reached"),
    ],
)
def test_other_servers(answer: bytes, says: str) -> None:
    with _answering(answer) as url, pytest.raises(ServerError, match=says):
        connect(url)


@pytest.mark.parametrize(
    "wrong",
    [{"batch": 0}, {"batch": float("inf")}, {"body_bytes": float("inf")}, {"sha256": "a\r\nX: y"}],
)
def test_a_server_that_describes_its_model_wrongly(live: Any, wrong: dict[str, Any]) -> None:
    said = httpx.get(f"{live.url}/api/model", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    said["sha256"] = wrong.pop("sha256", said["sha256"])
    said["limits"] |= wrong
    answer = _http("200 OK", json.dumps(said).encode())
    with _answering(answer) as url, pytest.raises(ServerError, match="same version on both sides"):
        connect(url)


def test_what_a_server_runs_on_is_one_line(live: Any) -> None:
    said = httpx.get(f"{live.url}/api/model", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    said["device"] = "cpu\x1b[2J\n"
    with _answering(_http("200 OK", json.dumps(said).encode())) as url:
        assert connect(url).device == "cpu[2J of 127.0.0.1"


def test_a_server_that_says_nothing() -> None:
    with _answering(None) as url, pytest.raises(ServerError, match=r"within 0\.2 s"):
        connect(url, timeout=0.2)


def test_a_server_that_went_away(running: Any, served_site: ServedModel) -> None:
    with running(served_site) as live:
        classifier = connect(live.url)
    with pytest.raises(ServerError, match="check that the server runs"):
        classifier.predict(_images(1))


def test_another_model_in_its_place(
    running: Any, served_site: ServedModel, one_channel: Path
) -> None:
    with running(served_site) as live:
        classifier = connect(live.url)
        live.service.models.current = load_served(str(one_channel), 2)
        with pytest.raises(ServerError, match="connect again"):
            classifier.predict(_images(1))


def test_an_image_that_is_more_than_it_takes(running: Any, served_site: ServedModel) -> None:
    with running(served_site, Limits(body_bytes=4000, batch=4)) as live:
        with pytest.raises(ImageTooLargeError, match="20 x 24 pixels"):
            connect(live.url).predict(_images(1))
        small = [Image(np.ones((2, 8, 8), "u1"), "CYX", ("w1", "w2"))] * 5
        # Two at a time fit into a body.
        assert len(connect(live.url).predict(small)) == 5


@pytest.mark.parametrize(
    ("array", "status"),
    [
        (np.zeros((1, 8, 8, 3), np.float64), 422),
        (np.zeros((1, 8, 8, 2), np.float32), 422),
        (np.zeros((8, 8, 3), np.float32), 422),
        (np.zeros((5, 8, 8, 3), np.float32), 422),
        (np.zeros((0, 8, 8, 3), np.float32), 422),
        (b"no array", 400),
        (b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (9,)}", 400),
    ],
)
def test_arrays_that_do_not_fit(
    client: Any, served_site: ServedModel, array: np.ndarray | bytes, status: int
) -> None:
    from napari_cellclf.bundles.arrays import dump_array

    content = array if isinstance(array, bytes) else dump_array(array)
    headers = {"If-Match": f'"{served_site.sha256}"'}
    answer = client(served_site).post("/api/compute", content=content, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (status, "array")


def test_the_command_line_asks_a_server_by_its_address(
    live: Any, site_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for channel in (1, 2):
        (tmp_path / f"B02_s1_w{channel}.png").write_bytes(png(60 * channel))
    token = tmp_path / "token"
    token.write_text(TOKEN)
    image = str(tmp_path / "B02_s1_w1.png")
    assert main(["predict", live.url, image, "--json", "--token-file", str(token)]) == 0
    there = json.loads(capsys.readouterr().out)
    assert main(["predict", str(site_model), image, "--json"]) == 0
    here = json.loads(capsys.readouterr().out)
    assert there["probabilities"] == pytest.approx(here["probabilities"], abs=1e-6)
    assert main(["predict", live.url, image]) == 1
    assert "requires another token" in capsys.readouterr().err
