from __future__ import annotations

import sys
from pathlib import Path

import pytest
import samples

from napari_cellclf.bundles import catalogue
from napari_cellclf.bundles.catalogue import find_model, list_models
from napari_cellclf.errors import ModelNotFoundError, UnsafeModelError


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    mine, bundled = tmp_path / "mine", tmp_path / "bundled"
    mine.mkdir()
    bundled.mkdir()
    monkeypatch.setenv("CELLCLF_MODELS", str(mine))
    monkeypatch.setattr(catalogue, "bundled_folder", lambda: bundled)
    monkeypatch.chdir(tmp_path)
    return mine, bundled


def test_both_folders_are_listed_and_mine_hides(folders: tuple[Path, Path]) -> None:
    mine, bundled = folders
    samples.bundle(mine, "both", fields={"title": "my own"})
    samples.bundle(bundled, "both", fields={"title": "theirs"})
    samples.bundle(bundled, "only", as_zip=True, fields={"licence": "MIT"})
    listed = {model.name: model for model in list_models()}
    assert list(listed) == ["both", "only"]
    assert (listed["both"].title, listed["both"].where) == ("my own", "mine")
    only = listed["only"]
    assert (only.where, only.classes, only.n_classes) == ("bundled", ("a", "b"), 2)
    assert (only.channels, only.licence) == (("DNA",), "MIT")
    assert only.size_bytes == only.path.stat().st_size
    assert find_model("both") == mine / "both.cellclf"
    assert find_model("only") == bundled / "only.cellclf"
    assert find_model("only.cellclf") == bundled / "only.cellclf"


def test_a_broken_bundle_is_left_out_with_a_word(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    mine, _ = folders
    samples.bundle(mine, "good")
    (mine / "bad.cellclf").write_bytes(b"<html>")
    (mine / "notes.txt").write_text("x")
    assert [model.name for model in list_models()] == ["good"]
    assert "truncated download" in caplog.text


def test_a_list_reads_nothing_but_the_description(folders: tuple[Path, Path]) -> None:
    mine, _ = folders
    path = samples.bundle(mine, "good").path
    (path / "weights.safetensors").write_bytes(b"not looked at")
    assert [model.name for model in list_models()] == ["good"]


def test_no_folder_is_an_empty_list(
    tmp_path: Path, folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "none"))
    assert list_models() == []
    with pytest.raises(ModelNotFoundError, match="models by name: none"):
        find_model("anything")


def test_a_path_comes_before_a_name(folders: tuple[Path, Path], tmp_path: Path) -> None:
    mine, _ = folders
    samples.bundle(mine, "two")
    samples.bundle(tmp_path, "two")
    assert find_model("two.cellclf") == Path("two.cellclf")
    # A folder that bears the name but is no bundle does not hide the model.
    (tmp_path / "two").mkdir()
    assert find_model("two") == mine / "two.cellclf"


@pytest.mark.parametrize("wanted", ["nothing", "../mine/two", "a/b/c", "", "two.cellclf/x", "a\nb"])
def test_what_is_not_there_is_told_with_what_is(folders: tuple[Path, Path], wanted: str) -> None:
    mine, _ = folders
    samples.bundle(mine, "two")
    with pytest.raises(ModelNotFoundError, match=r"no model|no bundle\.json") as caught:
        find_model(wanted)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_bundle_says_so(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ModelNotFoundError, match="run holds no bundle"):
        find_model(tmp_path / "run")


def test_addresses_are_refused(folders: tuple[Path, Path]) -> None:
    with pytest.raises(UnsafeModelError, match="is an address"):
        find_model("hf://someone/model")


def test_the_folder_of_the_system_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CELLCLF_MODELS", raising=False)
    assert catalogue.models_folder().name == "models"
    assert "napari-cellclf" in str(catalogue.models_folder())


def test_models_lie_beside_what_was_fetched_also_on_windows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from platformdirs import windows

    from napari_cellclf.io.cache import cache_folder

    monkeypatch.delenv("CELLCLF_MODELS", raising=False)
    monkeypatch.delenv("CELLCLF_CACHE", raising=False)
    # Only Windows has folders of authors; there the name stood twice, one inside the other.
    monkeypatch.setattr(windows, "get_win_folder", lambda name: f"/{name}")
    monkeypatch.setattr("platformdirs.PlatformDirs", windows.Windows)
    assert catalogue.models_folder().parent == cache_folder().parent


def test_listing_loads_neither_keras_nor_h5py(folders: tuple[Path, Path]) -> None:
    import subprocess

    code = (
        "import sys, napari_cellclf as cc; cc.list_models();"
        "print([m for m in ('keras', 'tensorflow', 'h5py', 'napari') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
