"""Command line, console and server say the same of images that are unlike any in training."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_samples import png

from napari_cellclf.bundles.arrays import dump_array
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.cli import main
from napari_cellclf.core.image import Image
from napari_cellclf.core.unlikeness import Unlikeness
from napari_cellclf.errors import ServerError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.remote import connect
from napari_cellclf.server.served_model import ServedModel, load_served

Client = Callable[..., httpx.Client]
REMARKS = {"usual.png": [], "bright.png": ["saturated: w2 ConA"], "black.png": ["empty image"]}


@pytest.fixture(scope="module")
def known(save_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was trained on images of medium brightness."""
    folder = tmp_path_factory.mktemp("known")
    channels = [{"name": "w2 ConA"}]
    plain = load_classifier(save_model(folder / "plain.cellclf", channels))
    random = np.random.default_rng(0)
    images = [random.integers(20, 60 + seed, (16, 16), np.uint8) for seed in range(30)]
    features = plain.features([Image(pixels, "YX") for pixels in images])
    path = folder / "known.cellclf"
    return save_model(path, channels, unlikeness=Unlikeness.fit(features), unsure_threshold=0.4)


@pytest.fixture(scope="module")
def served(known: Path) -> ServedModel:
    return load_served(str(known), 4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    usual = np.random.default_rng(1).integers(20, 70, (16, 16), np.uint8)
    bright = usual.copy()
    bright[:7] = 255
    for name, pixels in zip(REMARKS, (usual, bright, np.zeros_like(usual)), strict=True):
        (folder / name).write_bytes(png(pixels))
    return [folder / name for name in REMARKS]


def test_all_give_the_same_scores_and_remarks(
    known: Path, served: ServedModel, files: list[Path], client: Client, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = load_classifier(known).predict(list(files))
    assert found.unlike is not None
    assert found.unlike.tolist() == [False, True, True]
    assert [list(remarks) for remarks in found.remarks] == list(REMARKS.values())
    scores = pytest.approx(found.unlike_scores.tolist(), rel=1e-4)

    table = tmp_path / "t.csv"
    assert main(["predict", str(known), *map(str, files), "--out", str(table)]) == 0
    said = capsys.readouterr().err
    assert "2 of 3 images are unlike anything in training, 2 have remarks" in said
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[-4:] == ["unsure", "unlike", "unlike_score", "remarks"]
    assert [float(row["unlike_score"]) for row in rows] == scores
    assert [row["unlike"] for row in rows] == ["False", "True", "True"]
    assert [row["remarks"] for row in rows] == ["; ".join(one) for one in REMARKS.values()]

    main(["predict", str(known), *map(str, files), "--json"])
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["unlike_score"] for one in documents] == scores
    assert [one["remarks"] for one in documents] == list(REMARKS.values())

    sent = [("image", (path.name, path.read_bytes())) for path in files]
    answer = client(served).post("/api/predict", files=sent).json()["predictions"]
    assert [one["unlike_score"] for one in answer] == scores
    assert [one["unlike"] for one in answer] == [False, True, True]
    assert [one["remarks"] for one in answer] == list(REMARKS.values())
    assert [one["label"] for one in answer] == list(found.labels)


def test_swapped_channels_are_named_by_all(
    save_model: Callable[..., Path], client: Client, tmp_path: Path,
) -> None:  # fmt: skip
    names = ("w1 Hoechst", "w2 ConA")
    channels = [{"name": name} for name in names]
    plain = load_classifier(save_model(tmp_path / "plain.cellclf", channels))
    random = np.random.default_rng(0)

    def draw() -> np.ndarray[Any, Any]:
        return np.stack([random.integers(low, low + 40, (16, 16), np.uint8) for low in (10, 150)])

    images = [Image(draw(), "CYX", names) for _ in range(30)]
    path = tmp_path / "known.cellclf"
    save_model(path, channels, unlikeness=Unlikeness.fit(plain.features(images)))
    usual = draw()
    sent, images = [], []
    for name, pixels in (("usual", usual), ("swapped", usual[::-1])):
        files = [(f"{name}_w{number}.png", png(one)) for number, one in enumerate(pixels, 1)]
        sent.append([("image", file) for file in files])
        images.append(Image(pixels, "CYX", names))
    expected = [list(one) for one in load_classifier(path).predict(images).remarks]
    assert expected == [[], [f"channel order: fits better with {names[0]} and {names[1]} swapped"]]
    there = client(load_served(str(path), 4))
    found = []
    for form in sent:
        answer = there.post("/api/predict?channel=w1 Hoechst&channel=w2 ConA", files=form).json()
        found += [one["remarks"] for one in answer["predictions"]]
    assert found == expected


def test_a_server_gives_a_client_of_its_network_the_same(
    known: Path, served: ServedModel, files: list[Path], running: Callable[..., Any],
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    here = load_classifier(known)
    with running(served) as live:
        there = connect(live.url)
        assert there.says_unlike
        found, expected = there.predict(list(files)), here.predict(list(files))
        assert there.features(files[0]) == pytest.approx(here.features(files[0]), abs=1e-4)
        tables = tmp_path / "there.csv", tmp_path / "here.csv"
        for model, table in zip((live.url, str(known)), tables, strict=True):
            assert main(["predict", model, *map(str, files), "--out", str(table)]) == 0
            said = capsys.readouterr().err
            assert "2 of 3 images are unlike anything in training, 2 have remarks" in said
    np.testing.assert_allclose(found.unlike_scores, expected.unlike_scores, rtol=1e-4)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-6)
    assert found.remarks == expected.remarks
    assert found.remarks[2] == ("empty image",)
    headings = [table.read_text().splitlines()[0] for table in tables]
    assert headings[0] == headings[1]
    assert "unlike_score,remarks" in headings[0]


def test_what_is_unlike_is_checked_by_its_hash(
    served: ServedModel, files: list[Path], running: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with running(served) as live:
        there = connect(live.url)
        monkeypatch.setattr(ModelBundle, "unlike_file", lambda bundle: b"something else")
        with pytest.raises(ServerError, match=r"sends another unlike\.safetensors than known"):
            there.predict(files[0])


def test_what_the_address_of_what_is_unlike_refuses(
    served: ServedModel, served_one: ServedModel, client: Client
) -> None:
    names = {one: {"If-Match": f'"{one.sha256}"'} for one in (served, served_one)}
    assert client(served).get("/api/unlike").status_code == 412
    assert client(served).get("/api/unlike", headers=names[served]).status_code == 200
    none = client(served_one).get("/api/unlike", headers=names[served_one])
    assert (none.status_code, none.json()["error"]) == (404, "not_known")
    assert "one cannot say which images are unlike" in none.json()["detail"]
    array = dump_array(np.zeros((1, 16, 16, 1), np.float32))
    asked = client(served).post("/api/compute?features=yes", content=array, headers=names[served])
    assert (asked.status_code, asked.json()["error"]) == (400, "features")


def test_rows_on_the_terminal_are_marked(
    known: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", str(known), *map(str, files)])
    _, usual, bright, black = capsys.readouterr().out.splitlines()
    assert "unlike" not in usual
    assert bright.endswith("unlike, saturated: w2 ConA")
    assert black.endswith("unlike, empty image")


def test_a_model_that_cannot_say_has_no_scores(
    one_channel: Path,
    served_one: ServedModel,
    files: list[Path],
    client: Client,
    tmp_path: Path,
) -> None:
    table = tmp_path / "t.csv"
    main(["predict", str(one_channel), str(files[2]), "--out", str(table)])
    assert table.read_text().splitlines()[0].endswith(",p_RPE,remarks")
    asked: httpx.Client = client(served_one)
    (one,) = asked.post("/api/predict", content=files[2].read_bytes()).json()["predictions"]
    assert not {"unlike", "unlike_score"} & set(one)
    assert one["remarks"] == ["empty image"]
    described = asked.get("/openapi.json").json()["components"]["schemas"]["ImageAnswer"]
    assert {"unlike", "unlike_score", "remarks"} <= set(described["properties"])


def test_all_give_the_same_prediction_sets(
    save_model: Callable[..., Path], files: list[Path], client: Client, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    channels = [{"name": "w2 ConA"}]
    # All classes but the least probable ones.
    sets = {"coverage": 0.9, "threshold": 0.01}
    path = save_model(tmp_path / "sets.cellclf", channels, prediction_sets=sets)
    found = load_classifier(path).predict(list(files))
    assert found.sets is not None
    assert [one[0] for one in found.sets] == list(found.labels)
    expected = [
        {name for name, p in zip(found.classes, row, strict=True) if p >= 0.01 or p == row.max()}
        for row in found.probabilities
    ]
    assert list(map(set, found.sets)) == expected

    named = [str(path), *map(str, files)]
    table = tmp_path / "t.csv"
    assert main(["predict", *named, "--sets", "--out", str(table)]) == 0
    with table.open() as file:
        written = [row["prediction_set"] for row in csv.DictReader(file)]
    assert written == ["; ".join(one) for one in found.sets]
    capsys.readouterr()
    main(["predict", *named, "--sets", "--json"])
    documents = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [tuple(one["prediction_set"]) for one in documents] == list(found.sets)

    sent = [("image", (one.name, one.read_bytes())) for one in files]
    answer = client(load_served(str(path), 4)).post("/api/predict", files=sent)
    sets_sent = [tuple(one["prediction_set"]) for one in answer.json()["predictions"]]
    assert sets_sent == list(found.sets)


def test_sets_are_refused_where_the_model_has_no_threshold(
    known: Path, files: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(known), str(files[0]), "--sets"]) != 0
    assert "known has no threshold for prediction sets" in capsys.readouterr().err
