"""A model that only names its backbone, served with the numbers of the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

pytest.importorskip("onnx", reason="the backbone is written with onnx")

from napari_cellclf.cli import main
from napari_cellclf.models.backbones import add_backbone
from napari_cellclf.server.served_model import load_served
from stripes import write_stripes
from tiny_vit import tiny_vit

Client = Callable[..., httpx.Client]


@pytest.fixture
def trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Path]]:
    """A head on a small attention network that was added as a file, and its images."""
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vit.onnx").write_bytes(tiny_vit())
    add_backbone(tmp_path / "vit.onnx", "vit")
    files = write_stripes(tmp_path / "images", 20)
    run = tmp_path / "run"
    command = ["train", str(tmp_path / "images"), "--backbone", "vit", "--out", str(run)]
    assert main(command) == 0
    return run / "model.cellclf", files[:3] + files[-3:]


def test_it_is_served_with_the_same_numbers(
    trained: tuple[Path, list[Path]], client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    model, files = trained
    capsys.readouterr()
    assert main(["predict", str(model), *map(str, files), "--json"]) == 0
    expected = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    http = client(load_served(str(model), 4))
    sent = [("image", (path.name, path.read_bytes())) for path in files]
    answer = http.post("/api/predict", files=sent).json()["predictions"]
    assert len(answer) == len(expected) == 6
    for there, here in zip(answer, expected, strict=True):
        assert there["label"] == here["label"]
        assert there["probabilities"] == pytest.approx(here["probabilities"], abs=1e-4)
        assert there["unlike_score"] == pytest.approx(here["unlike_score"], rel=1e-3)
        assert (there["unsure"], there["unlike"]) == (here["unsure"], here["unlike"])


def test_a_server_says_at_once_that_the_backbone_is_gone(
    trained: tuple[Path, list[Path]], tmp_path: Path, capsys: pytest.CaptureFixture[Any]
) -> None:
    model, _ = trained
    for path in (tmp_path / "models" / "backbones").iterdir():
        path.unlink()
    assert main(["serve", str(model), "--port", "0"])
    told = capsys.readouterr().err.splitlines()[-1]
    assert "needs the backbone vit" in told
    assert "cellclf models add-backbone FILE.onnx --name vit" in told
