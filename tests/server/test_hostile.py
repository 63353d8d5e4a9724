"""What must be refused: each with a status that fits, one line, and nobody else disturbed."""

from __future__ import annotations

import io
import json
import logging
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from server_samples import TOKEN, png

from napari_cellclf.server.served_model import ServedModel
from napari_cellclf.server.settings import Limits
from napari_cellclf.server.uploads import base_name

RAW = {"Content-Type": "application/octet-stream"}
SMALL = Limits(
    body_bytes=200_000, pixel_bytes=1_000_000, plane_bytes=1_000_000, files=4, planes=10, batch=4,
    header_seconds=0.4, body_seconds=0.4, idle_per_peer=20, header_bytes=4096, write_seconds=0.4,
)  # fmt: skip


@pytest.fixture(scope="module")
def live(running: Any, served_one: ServedModel) -> Iterator[Any]:
    with running(served_one, SMALL) as live:
        yield live


@pytest.fixture(scope="module")
def one(live: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=live.url) as client:
        yield client


def _refusal(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error", "detail"}
    assert body["error"] == code
    detail = str(body["detail"])
    assert "\n" not in detail
    assert " at 0x" not in detail
    assert "/tmp" not in detail
    return detail


def _talk(live: Any, *sent: bytes, wait: float = 5) -> bytes:
    """Send bytes as they are, and read until the server closes."""
    with socket.create_connection(live.address, timeout=wait) as connection:
        for number, piece in enumerate(sent):
            # Less than a header may take.
            time.sleep(0.1 if number else 0)
            connection.sendall(piece)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    return received


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", crc)


def _png(width: int, height: int, extra: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + extra + _chunk(b"IDAT", pixels)
        + _chunk(b"IEND", b"")
    )  # fmt: skip


def _jpeg(width: int, height: int) -> bytes:
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8\xff\xc0" + struct.pack(">H", len(frame) + 2) + frame + b"\xff\xd9"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "no_image"),
        (b"GIF89a" + bytes(50), 415, "unsupported_media_type"),
        (b"PK\x03\x04" + bytes(50), 415, "unsupported_media_type"),
        (b"<!doctype html><p>no", 415, "unsupported_media_type"),
        (b"\x80\x04cos\nsystem\n", 415, "unsupported_media_type"),
        (b"/etc/passwd", 415, "unsupported_media_type"),
        (b"https://example.org/image.png", 415, "unsupported_media_type"),
        (png(9)[:50], 422, "unreadable_image"),
        (b"II*\x00" + b"\xff" * 60, 422, "unreadable_image"),
        (_png(65535, 65535), 413, "image_too_large"),
        (_jpeg(65535, 65535), 413, "image_too_large"),
        (_png(0, 10), 422, "unreadable_image"),
        (png(9, 900), 413, "image_too_large"),
    ],
)
def test_bodies_that_are_no_image_we_take(
    one: httpx.Client, content: bytes, status: int, code: str
) -> None:
    _refusal(one.post("/api/predict", content=content, headers=RAW), status, code)
    _refusal(one.request("GET", "/api/predict", content=content), status, code)


def test_what_is_read_is_named_where_something_else_is_sent(one: httpx.Client) -> None:
    content = io.BytesIO()
    Pillow.fromarray(np.full((9, 9), 9, np.uint8)).save(content, "bmp")
    assert one.post("/api/predict", content=content.getvalue(), headers=RAW).status_code == 200
    answer = one.post("/api/predict", content=b"GIF89a" + bytes(50), headers=RAW)
    said = _refusal(answer, 415, "unsupported_media_type")
    assert said.endswith("is not a PNG, JPEG, TIFF or BMP image; convert it")


def test_an_animated_png_is_its_first_image(one: httpx.Client) -> None:
    control = _chunk(b"acTL", struct.pack(">II", 1_000_000, 0))
    still = png(200)
    animated = still[:33] + control + still[33:]
    answers = [one.request("GET", "/api/predict", content=content) for content in (still, animated)]
    assert answers[0].text == answers[1].text


def test_a_png_of_expanding_text_stays_small(one: httpx.Client) -> None:
    bomb = _chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(50_000_000), 9))
    still = png(200)
    answer = one.request("GET", "/api/predict", content=still[:33] + bomb + still[33:])
    assert answer.status_code in (200, 422)


def test_a_tiff_that_names_other_files_opens_none(
    one: httpx.Client, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.tif"
    tifffile.imwrite(secret, np.full((16, 16), 255, np.uint8))
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:1">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" '
        'SizeY="16" SizeZ="1" SizeC="1" SizeT="2"><TiffData FirstT="0" IFD="0" PlaneCount="1">'
        '<UUID FileName="{name}">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    for name in ("secret.tif", "../secret.tif", str(secret)):
        buffer = io.BytesIO()
        tifffile.imwrite(
            buffer, np.zeros((16, 16), "u1"), description=xml.format(name=name), metadata=None
        )
        answer = one.post("/api/predict", content=buffer.getvalue(), headers=RAW)
        if answer.status_code == 200:
            assert [p["label"] for p in answer.json()["predictions"]] == ["HEPG2"]
        else:
            assert answer.status_code == 422


def test_a_document_type_in_a_tiff_opens_no_other_file_either(
    one: httpx.Client, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tifffile.imwrite(tmp_path / "secret.tif", np.full((16, 16), 255, np.uint8))
    xml = (
        '<?xml version="1.0"?><!DOCTYPE OME [<!ENTITY a "b">]>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="16" '
        'SizeY="16" SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="0" PlaneCount="1">'
        '<UUID FileName="secret.tif">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((16, 16), "u1"), description=xml, metadata=None)
    answer = one.post("/api/predict", content=buffer.getvalue(), headers=RAW)
    assert answer.status_code in (200, 422)
    assert "RPE" not in [p["label"] for p in answer.json().get("predictions", [])]


def test_a_stack_of_too_many_planes(one: httpx.Client) -> None:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros((11, 8, 8), "u1"), imagej=True, metadata={"axes": "TYX"})
    answer = one.post("/api/predict", content=buffer.getvalue(), headers=RAW)
    assert "11 planes" in _refusal(answer, 413, "image_too_large")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large(one: httpx.Client, declared: bool) -> None:
    content = png(9) + bytes(300_000)
    body: Any = content if declared else iter([content])
    _refusal(one.post("/api/predict", content=body, headers=RAW), 413, "body_too_large")


def test_too_many_files(one: httpx.Client) -> None:
    files = [("image", (f"{i}.png", png(i))) for i in range(5)]
    _refusal(one.post("/api/predict", files=files), 413, "too_many_files")


def test_two_files_of_one_channel_of_a_site(one: httpx.Client) -> None:
    files = [("image", ("B02_s1_w1.png", png(9)))] * 2
    assert "twice" in _refusal(one.post("/api/predict", files=files), 422, "unusable_image")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "multipart/form-data"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "multipart/form-data; boundary=" + "x" * 300},
    ],
)
def test_forms_that_are_none(one: httpx.Client, headers: dict[str, str]) -> None:
    _refusal(one.post("/api/predict", content=b"--y\r\nno form", headers=headers), 400, "form")


@pytest.mark.parametrize("charset", ["undefined", "punycode", "no-such", "utf-7"])
def test_forms_in_strange_charsets(one: httpx.Client, charset: str) -> None:
    content = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="\xff--.png"\r\n\r\n'
        + png(9) + b"\r\n--x--\r\n"
    )  # fmt: skip
    headers = {"Content-Type": f"multipart/form-data; boundary=x; charset={charset}"}
    assert one.post("/api/predict", content=content, headers=headers).status_code in (200, 400)


def test_a_field_that_is_no_file(one: httpx.Client) -> None:
    answer = one.post("/api/predict", files={"image": ("a.png", png(9))}, data={"channels": "w2=1"})
    assert "'channels'" in _refusal(answer, 400, "form")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Content-Type": "application/json"}, "unsupported_media_type"),
        ({"Content-Type": "image/png", "Content-Encoding": "gzip"}, "unsupported_encoding"),
    ],
)
def test_kinds_of_content_that_are_not_taken(
    one: httpx.Client, headers: dict[str, str], code: str
) -> None:
    _refusal(one.post("/api/predict", content=png(9), headers=headers), 415, code)


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("url=http://example.org/x.png", "unknown_parameter"),
        ("path=/etc/passwd", "unknown_parameter"),
        ("channels=nonsense", "channels"),
        ("channels=a=1,a=2", "channels"),
    ],
)
def test_parameters_that_there_are_not(one: httpx.Client, query: str, code: str) -> None:
    _refusal(one.post(f"/api/predict?{query}", content=png(9), headers=RAW), 400, code)


@pytest.mark.parametrize("path", ["/nothing", "/api/predict/", "/../etc/passwd", "/%2e%2e/x"])
def test_addresses_where_nothing_is(one: httpx.Client, path: str) -> None:
    _refusal(one.get(path), 404, "not_found")


def test_methods_that_there_are_not(one: httpx.Client) -> None:
    answer = one.put("/api/predict", content=png(9))
    _refusal(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) >= {"GET", "POST"}


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "localhost.evil.example", "", "a b", "[::1", "user@localhost"),
        *("localhost:x", "localhost/evil", "localhost?", "localhost#x", "x@[::1]", "[localhost]"),
    ],
)
def test_other_names_than_its_own(one: httpx.Client, host: str) -> None:
    answer = one.get("/healthz", headers={"Host": host})
    assert answer.status_code == 400
    assert answer.json()["error"] in ("host_not_allowed", "bad_request")


@pytest.mark.parametrize("host", ["localhost", "localhost:8080", "127.0.0.1", "[::1]:80"])
def test_its_own_names(one: httpx.Client, host: str) -> None:
    assert one.get("/healthz", headers={"Host": host}).status_code == 200


def test_web_pages_of_other_origins(one: httpx.Client) -> None:
    for origin in ("https://evil.example", "null", "http://["):
        answer = one.post("/api/predict", content=png(9), headers=RAW | {"Origin": origin})
        _refusal(answer, 403, "origin_not_allowed")
    own = {"Origin": str(one.base_url).rstrip("/")}
    answer = one.post("/api/predict", content=png(9), headers=RAW | own)
    assert answer.status_code == 200
    assert "access-control-allow-origin" not in answer.headers


def test_an_origin_that_is_allowed(client: Any, served_one: ServedModel) -> None:
    origin = "https://lab.example"
    asking = client(served_one, allow_origins=(origin,), token=TOKEN)
    preflight = asking.options(
        "/api/predict",
        headers={"Origin": origin, "Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "Authorization"},
    )  # fmt: skip
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == origin
    answer = asking.post("/api/predict", content=png(9), headers=RAW | {"Origin": origin})
    assert answer.status_code == 401
    assert answer.headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize(
    "given_", ["", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \xff"]
)
def test_the_token_is_asked_for(client: Any, served_one: ServedModel, given_: str) -> None:
    asking = client(served_one, token=TOKEN)
    headers = RAW | {"Authorization": given_.encode("latin-1")}
    answer = asking.post("/api/predict", content=png(9), headers=headers)
    _refusal(answer, 401, "token")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert TOKEN not in answer.text
    assert asking.get("/metrics", headers=headers).status_code == 401
    assert [asking.get(path).status_code for path in ("/", "/healthz", "/readyz")] == [200] * 3
    right = {"Authorization": f"Bearer {TOKEN}"}
    assert asking.post("/api/predict", content=png(9), headers=RAW | right).status_code == 200


def test_what_is_not_http(live: Any) -> None:
    answer = _talk(live, b"\x16\x03\x01 not http\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "bad_request"


@pytest.mark.parametrize("line", [b"GET http://[ HTTP/1.1", b"GET /\xff\xfe HTTP/1.1", b"GET * XX"])
def test_addresses_that_are_none(live: Any, line: bytes) -> None:
    answer = _talk(live, line + b"\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 "))


def test_a_header_without_end(live: Any) -> None:
    answer = _talk(live, b"GET / HTTP/1.1\r\n" + b"X-Padding: yes\r\n" * 400)
    assert answer.startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize(("more", "status"), [(0, b"200"), (1, b"431")])
def test_the_limit_of_a_header_is_exact(live: Any, pieces: int, more: int, status: bytes) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX-Padding: "
    whole = head.ljust(4096 + more - 4, b"x") + b"\r\n\r\n"
    parts = [whole] if pieces == 1 else [whole[:3000], whole[3000:]]
    answer = _talk(live, *parts)
    assert answer.startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize("hosts", [("localhost", "localhost"), ("localhost", "evil.example"), ()])
def test_a_request_names_one_host(live: Any, hosts: tuple[str, ...]) -> None:
    named = "".join(f"Host: {host}\r\n" for host in hosts)
    answer = _talk(live, f"GET /healthz HTTP/1.1\r\n{named}Connection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_requests_that_do_not_wait_for_answers_are_all_answered(live: Any) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"
    answers = _talk(live, (one + b"\r\n") * 3 + one + b"Connection: close\r\n\r\n")
    assert answers.count(b"HTTP/1.1 200 ") == 4


def test_a_header_that_does_not_come_to_its_end(live: Any) -> None:
    assert _talk(live, b"GET / HTTP/1.1\r\nHost: local").startswith(b"HTTP/1.1 408 ")


def test_a_connection_that_says_nothing_is_closed(live: Any) -> None:
    assert _talk(live, b"") == b""


def test_a_body_that_does_not_come_to_its_end(live: Any) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n"
    answer = _talk(live, head + png(9)[:40])
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "body_timeout"


@pytest.mark.parametrize("more", [b"0\r\n" + 400 * b"X-More: yes\r\n", b"0\r\nX-" + 5000 * b"y"])
def test_what_follows_a_body_does_not_grow_without_end(live: Any, more: bytes) -> None:
    head = (
        b" HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        b"Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for path, first, then in (
        (b"/", b"HTTP/1.1 405 ", b""),
        (b"/api/predict", b"HTTP/1.1 100 ", b"HTTP/1.1 431 "),
    ):
        with socket.create_connection(live.address, timeout=5) as connection:
            connection.sendall(b"POST " + path + head)
            assert connection.recv(65536).startswith(first)
            connection.sendall(more)
            assert connection.recv(65536).startswith(then)


def test_what_is_no_request_is_not_answered_in_the_place_of_one(live: Any) -> None:
    body = png(9)
    one = b"GET /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert b"400" not in _talk(live, one + body + b"\0nonsense\r\n\r\n")


def test_a_client_that_does_not_take_its_answers(live: Any) -> None:
    one = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(10)
        connection.connect(live.address)
        connection.sendall(one * 500)
        mine = connection.getsockname()
        end = time.monotonic() + 10
        while any(c.client == mine for c in list(live.server.server_state.connections)):
            assert time.monotonic() < end
            time.sleep(0.01)


def test_another_protocol_is_not_taken_up(live: Any) -> None:
    head = (
        b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
        b"Content-Type: image/png\r\nContent-Length: %d\r\n\r\n"
    )
    answer = _talk(live, head % len(png(9)) + png(9))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"] == "upgrade"


def test_who_asks_before_sending_too_much_is_told_at_once(live: Any) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    answer = _talk(live, head + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_hundreds_of_open_connections_shut_nobody_out(live: Any, one: httpx.Client) -> None:
    opened = []
    try:
        for _ in range(300):
            connection = socket.create_connection(live.address, timeout=5)
            connection.sendall(b"GET /heal")
            opened.append(connection)
        for _ in range(5):
            with httpx.Client(base_url=live.url) as fresh:
                assert fresh.request("GET", "/api/predict", content=png(9)).status_code == 200
    finally:
        for connection in opened:
            connection.close()


def test_names_are_only_names(one: httpx.Client) -> None:
    name = "../../../../etc/B02\r\nX: y/passwd\x1b.png"
    (prediction,) = one.post("/api/predict", files={"image": (name, png(9))}).json()["predictions"]
    assert "/" not in prediction["image"]
    assert prediction["image"].isprintable()


@given(st.text())
def test_any_name_becomes_one_that_can_be_shown(sent: str) -> None:
    name = base_name(sent)
    assert name.isprintable()
    assert name.strip(". ")
    assert len(name) <= 100
    assert not {"/", "\\", "\n", "\0"} & set(name)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.binary(max_size=400), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\0"])
)
def test_no_bytes_break_it(one: httpx.Client, content: bytes, magic: bytes) -> None:
    answer = one.post("/api/predict", content=magic + content, headers=RAW)
    assert 400 <= answer.status_code < 500
    assert answer.json().keys() == {"error", "detail"}


def test_the_log_has_one_line_a_request(
    one: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    # A line is written after its response, and before the next request on that connection: that of
    # an earlier test's request is waited for.
    one.head("/healthz")
    with caplog.at_level(logging.INFO, "napari_cellclf.server"):
        one.get("/a%0d%0aFAKE%1b[31m")
        one.request("GET", "/api/predict", content=png(9))
        one.head("/healthz")
    lines = [record.getMessage() for record in caplog.records if "GET" in record.getMessage()]
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert "GET /api/predict 200" in lines[1]


def test_every_answer_forbids_guessing_its_kind(one: httpx.Client) -> None:
    for answer in (one.get("/"), one.get("/nothing"), one.get("/api/model")):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "server" not in answer.headers
