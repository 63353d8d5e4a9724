"""`/api/predict`: the seed's clients, and all the ways to send images."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tifffile
from server_samples import encoded, png

from napari_cellclf.cli import main
from napari_cellclf.errors import InputError
from napari_cellclf.server.predict import warnings_header
from napari_cellclf.server.schemas import Answer, ImageAnswer, ModelName
from napari_cellclf.server.served_model import ServedModel, load_served
from napari_cellclf.server.settings import Limits

RAW = {"Content-Type": "application/octet-stream"}
LINE = re.compile(r"HEPG2: \d\.\d{4}, HUVEC: \d\.\d{4}, RPE: \d\.\d{4}")


@pytest.fixture(scope="module")
def one(running: Any, served_one: ServedModel) -> Iterator[httpx.Client]:
    with running(served_one) as live, httpx.Client(base_url=live.url) as client:
        yield client


@pytest.fixture(scope="module")
def site(running: Any, served_site: ServedModel) -> Iterator[httpx.Client]:
    with running(served_site) as live, httpx.Client(base_url=live.url) as client:
        yield client


def _tiff(pixels: np.ndarray, **fields: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **fields)
    return buffer.getvalue()


def _form(**files: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (name, content)) for name, content in files.items()]


def _sites(*channels: int, well: str = "B02") -> list[tuple[str, tuple[str, bytes]]]:
    return [("image", (f"{well}_s1_w{c}.png", png(40 * c))) for c in channels]


def _by_command_line(model: Path, paths: list[Path], capsys: pytest.CaptureFixture[str]) -> list:
    capsys.readouterr()
    assert main(["predict", str(model), *map(str, paths), "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_the_first_seeds_client_is_answered_as_before(one: httpx.Client, kind: str) -> None:
    answer = one.request("GET", "/api/predict", content=encoded(np.full((32, 32), 90, "u1"), kind))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert LINE.fullmatch(answer.text)


def test_a_picture_means_what_its_file_says(one: httpx.Client) -> None:
    grey = np.random.default_rng(0).integers(0, 255, (20, 20), dtype=np.uint8)
    opaque = np.full_like(grey, 255)
    same = [
        encoded(grey, "PNG"),
        encoded(np.stack([grey] * 3, axis=-1), "PNG"),
        encoded(np.dstack([grey, grey, grey, opaque]), "PNG"),
        encoded(np.dstack([grey, opaque]), "PNG"),
        _tiff(255 - grey, photometric="miniswhite"),
    ]
    texts = [one.request("GET", "/api/predict", content=content).text for content in same]
    assert LINE.fullmatch(texts[0])
    assert set(texts) == {texts[0]}
    # A quarter turn moves pixels, whose mean stays.
    turned = _tiff(np.rot90(grey), extratags=[(274, 3, 1, 6, True)])
    assert one.request("GET", "/api/predict", content=turned).text == texts[0]


def test_several_different_images_in_one_file_are_refused(one: httpx.Client) -> None:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for size in (20, 10):
            file.write(np.zeros((size, size), np.uint8), photometric="minisblack")
    answer = one.post("/api/predict", content=buffer.getvalue(), headers=RAW)
    assert answer.status_code in (400, 422)
    assert "2 different images" in answer.json()["detail"]


def test_get_can_ask_for_json_and_post_for_text(one: httpx.Client) -> None:
    as_json = one.request(
        "GET", "/api/predict", content=png(9), headers={"Accept": "application/json"}
    )
    assert as_json.json()["predictions"][0]["label"] == "HEPG2"
    as_text = one.post("/api/predict", content=png(9), headers={"Accept": "text/plain"} | RAW)
    assert LINE.fullmatch(as_text.text)


def test_post_answers_all_that_is_known(one: httpx.Client, served_one: ServedModel) -> None:
    answer = one.post("/api/predict", content=png(200), headers={"Content-Type": "image/png"})
    body = answer.json()
    assert body["model"] == {"name": "one", "sha256": served_one.spec.fingerprint}
    (prediction,) = body["predictions"]
    assert list(prediction["probabilities"]) == ["HEPG2", "HUVEC", "RPE"]
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    assert prediction["confidence"] == max(prediction["probabilities"].values())
    assert prediction["label"] == "RPE"
    assert (prediction["image"], prediction["warnings"]) == ("image", [])
    assert "unsure" not in prediction


def test_files_of_a_site_are_one_image(site: httpx.Client) -> None:
    body = site.post("/api/predict", files=_sites(2, 1, 5)).json()
    (prediction,) = body["predictions"]
    assert prediction["image"] == "B02_s1_w1.png"
    assert prediction["metadata"]["well"] == "B02"
    assert prediction["unsure"] in (True, False)
    assert prediction["warnings"] == []


def test_a_stain_that_the_model_can_do_without_is_told_of(site: httpx.Client) -> None:
    (prediction,) = site.post("/api/predict", files=_sites(1, 2)).json()["predictions"]
    assert prediction["warnings"] == [
        "the image has no channel for w5 MitoTracker; the model can do without"
    ]


def test_several_sites_and_an_other_image_in_one_request(site: httpx.Client) -> None:
    stack = _tiff(np.zeros((2, 2, 16, 16), "u1"), imagej=True, metadata={"axes": "TCYX"})
    files = [*_sites(1, 2), ("image", ("stack.tif", stack)), *_sites(1, 2, well="C03")]
    names = [one["image"] for one in site.post("/api/predict", files=files).json()["predictions"]]
    assert names == ["B02_s1_w1.png", "stack.tif[t=0]", "stack.tif[t=1]", "C03_s1_w1.png"]


def test_a_stack_has_an_answer_for_each_plane(one: httpx.Client) -> None:
    planes = np.stack([np.full((16, 16), level, np.uint16) for level in (100, 40_000, 65_000)])
    content = _tiff(planes, imagej=True, metadata={"axes": "TYX"})
    body = one.post("/api/predict", files=_form(**{"movie.tif": content})).json()
    assert [p["image"] for p in body["predictions"]] == [f"movie.tif[t={t}]" for t in range(3)]
    assert [p["label"] for p in body["predictions"]] == ["HEPG2", "RPE", "RPE"]


def test_a_tiff_brings_its_own_channel_names(site: httpx.Client) -> None:
    pixels = np.stack([np.full((16, 16), level, np.uint8) for level in (10, 200, 30)])
    content = _tiff(
        pixels, ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["w2", "DNA", "other"]}}
    )
    body = site.post("/api/predict", content=content, headers={"Content-Type": "image/tiff"})
    assert body.status_code == 200
    assert body.json()["predictions"][0]["warnings"] == [
        "the image has no channel for w5 MitoTracker; the model can do without"
    ]


def test_nameless_channels_are_taken_in_order_with_a_word(site: httpx.Client) -> None:
    content = _tiff(np.zeros((3, 16, 16), "u1"), imagej=True, metadata={"axes": "CYX"})
    (prediction,) = site.post("/api/predict", content=content, headers=RAW).json()["predictions"]
    assert "w1 Hoechst, w2 ConA, w5 MitoTracker, in this order" in prediction["warnings"][0]


def test_channels_can_be_said_as_on_the_command_line(site: httpx.Client) -> None:
    content = _tiff(
        np.stack([np.full((16, 16), level, np.uint8) for level in (10, 200)]),
        ome=True, metadata={"axes": "CYX", "Channel": {"Name": ["left", "right"]}},
    )  # fmt: skip
    refused = site.post("/api/predict", content=content, headers=RAW)
    assert refused.status_code == 422
    assert refused.json()["error"] == "channel_mismatch"
    assert "?channels=MODEL=IMAGE" in refused.json()["detail"]
    asked = "/api/predict?channels=w1=left,w2=right,w5="
    assert site.post(asked, content=content, headers=RAW).status_code == 200


def test_files_without_telling_names_can_be_named(site: httpx.Client) -> None:
    files = _form(**{"a.png": png(40), "b.png": png(80)})
    named = site.post("/api/predict?channel=DNA&channel=w2", files=files).json()["predictions"]
    by_name = site.post("/api/predict", files=_sites(1, 2)).json()["predictions"]
    assert len(named) == 1
    assert named[0]["probabilities"] == by_name[0]["probabilities"]


def test_one_stain_of_a_model_that_needs_more_is_refused_with_a_remedy(site: httpx.Client) -> None:
    answer = site.request("GET", "/api/predict", content=png(50))
    assert answer.status_code == 422
    assert answer.json()["error"] == "channel_mismatch"
    assert "w1 Hoechst, w2 ConA" in answer.json()["detail"]


@pytest.fixture(scope="module")
def any_stain(save_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that can do with any of its stains."""
    path = tmp_path_factory.mktemp("any") / "any.cellclf"
    channels = [{"name": name, "required": False} for name in ("w1 Hoechst", "w2 ConA")]
    return save_model(path, channels, single_channel="w2 ConA")


@pytest.mark.parametrize(("asked", "name"), [(None, "w2 ConA"), ("hoechst", "w1 Hoechst")])
def test_a_lone_grey_image_is_what_the_model_or_the_server_says(
    running: Any, any_stain: Path, asked: str | None, name: str
) -> None:
    served = load_served(str(any_stain), 1, single_channel=asked)
    as_rgb = encoded(np.full((16, 16, 3), 50, "u1"), "PNG")
    with running(served) as live, httpx.Client(base_url=live.url, headers=RAW) as client:

        def classified(content: bytes, query: str = "") -> dict[str, Any]:
            answer = client.post(f"/api/predict{query}", content=content).json()
            return answer["predictions"][0]

        lone, grey = classified(png(50)), classified(as_rgb)
        named = classified(png(50), f"?channel={name}")
        text = client.request("GET", "/api/predict", content=png(50), headers={"Accept": "*/*"})
    assert lone["warnings"][0] == f"the image is one channel without a name, taken as {name}"
    assert grey["warnings"] == lone["warnings"]
    assert named["warnings"] == lone["warnings"][1:]
    assert lone["probabilities"] == grey["probabilities"] == named["probabilities"]
    # Old programs read the line, which stays as it was.
    assert LINE.fullmatch(text.text)
    assert text.headers["X-Warnings"] == "; ".join(lone["warnings"])


def test_a_header_holds_no_more_than_headers_may(one: httpx.Client) -> None:
    assert "X-Warnings" not in one.request("GET", "/api/predict", content=png(9)).headers
    image = ImageAnswer(
        image="a", label="b", confidence=1, probabilities={}, warnings=("β\r\nSet-Cookie: x",)
    )
    answer = Answer(model=ModelName(name="m", sha256="0" * 64), predictions=(image,))
    assert warnings_header(answer) == {"X-Warnings": "\\u03b2Set-Cookie: x"}


def test_a_lone_image_cannot_be_enough_for_a_model_that_needs_more(site_model: Path) -> None:
    with pytest.raises(InputError, match=r"also needs w1 Hoechst, so it cannot .* of w2 ConA"):
        load_served(str(site_model), 1, single_channel="w2")


@pytest.mark.parametrize("name", ["DAPI", "", "w"])
def test_an_unknown_single_channel_is_blamed_on_its_own_option(any_stain: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"--single-channel names channel .* w1 Hoechst, w2 ConA"):
        load_served(str(any_stain), 1, single_channel=name)


def test_a_bad_image_among_good_ones_fails_alone(one: httpx.Client) -> None:
    files = _form(**{"a.png": png(9), "b.png": png(99)[:60], "c.png": png(200)})
    body = one.post("/api/predict", files=files).json()
    assert [p["image"] for p in body["predictions"]] == ["a.png", "b.png", "c.png"]
    assert body["predictions"][1]["error"] == "unreadable_image"
    assert body["predictions"][2]["label"] == "RPE"
    text = one.post("/api/predict", files=files, headers={"Accept": "text/plain"}).text
    assert [line.split("\t")[0] for line in text.splitlines()] == ["a.png", "b.png", "c.png"]


def test_more_planes_than_a_batch_are_all_answered(one: httpx.Client) -> None:
    levels = np.random.default_rng(0).integers(0, 255, 40)
    planes = np.stack([np.full((16, 16), level, np.uint8) for level in levels])
    content = _tiff(planes, imagej=True, metadata={"axes": "ZYX"})
    body = one.post("/api/predict", content=content, headers=RAW).json()
    assert len(body["predictions"]) == 40
    single = one.post("/api/predict", content=png(int(levels[33])), headers=RAW).json()
    expected = single["predictions"][0]["probabilities"]
    assert body["predictions"][33]["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_answers_are_those_of_the_command_line(
    client: Any, served_site: ServedModel, site_model: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    rng = np.random.default_rng(3)
    folder = tmp_path / "HUVEC-01" / "Plate1"
    folder.mkdir(parents=True)
    contents = {
        f"B02_s1_w{channel}.png": png(rng.integers(0, 255, (24, 30), dtype=np.uint8))
        for channel in range(1, 7)
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (by_command,) = _by_command_line(site_model, [folder / "B02_s1_w1.png"], capsys)
    body = client(served_site).post("/api/predict", files=_form(**contents)).json()
    (by_server,) = body["predictions"]
    assert by_server["label"] == by_command["label"]
    assert by_server["unsure"] == by_command["unsure"]
    assert by_server["probabilities"] == pytest.approx(by_command["probabilities"], abs=1e-5)


def test_the_bundled_model_answers_a_real_site(
    client: Any, real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    served = load_served("rxrx1-celltype", 2)
    files = sorted((real_data / "rxrx1" / "images" / "RPE-01" / "Plate1").glob("B02_s1_w*.png"))
    (by_command,) = _by_command_line(Path("rxrx1-celltype"), files, capsys)
    form = [("image", (path.name, path.read_bytes())) for path in files]
    body = client(served, Limits(batch=2)).post("/api/predict", files=form).json()
    (by_server,) = body["predictions"]
    assert by_server["label"] == "RPE"
    assert by_server["probabilities"] == pytest.approx(by_command["probabilities"], abs=1e-5)
    lone = client(served).request("GET", "/api/predict", content=files[1].read_bytes())
    assert re.fullmatch(LINE.pattern + r", U2OS: \d\.\d{4}", lone.text)
