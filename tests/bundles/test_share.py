"""Sharing and removing bundles."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import samples

from napari_cellclf.bundles import catalogue, write
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model, list_models, origin_note
from napari_cellclf.bundles.write import copy_bundle, remove_model, share_model
from napari_cellclf.errors import (
    BundleError,
    IntegrityError,
    ModelError,
    ModelNotFoundError,
    SelfTestError,
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder, bundled = tmp_path / "mine", tmp_path / "bundled"
    folder.mkdir()
    bundled.mkdir()
    monkeypatch.setenv("CELLCLF_MODELS", str(folder))
    for module in (catalogue, write):
        monkeypatch.setattr(module, "bundled_folder", lambda: bundled)
    samples.bundle(bundled, "theirs")
    return folder


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("suffix", [".cellclf", ".zip"])
def test_a_shared_model_is_the_same_to_the_byte(
    mine: Path, tmp_path: Path, suffix: str, as_zip: bool
) -> None:
    original = samples.bundle(mine, "two", as_zip=as_zip)
    shared = share_model("two", tmp_path / f"out{suffix}")
    assert shared.spec == ModelBundle.load(tmp_path / f"out{suffix}").spec == original.spec
    with zipfile.ZipFile(shared.path) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert sorted(archive.namelist()) == sorted(["bundle.json", *original.spec.files])
    again = share_model(shared.path, tmp_path / "again.cellclf")
    assert again.spec.spec_sha256 == original.spec.spec_sha256
    assert again.test_input.tobytes() == original.test_input.tobytes()


def test_nothing_is_replaced_without_a_word(mine: Path, tmp_path: Path) -> None:
    samples.bundle(mine, "two")
    target = tmp_path / "out.cellclf"
    target.write_bytes(b"mine")
    with pytest.raises(BundleError, match="exists already"):
        share_model("two", target)
    assert target.read_bytes() == b"mine"
    assert share_model("two", target, overwrite=True).path == target


def test_a_folder_of_something_else_is_never_replaced(mine: Path, tmp_path: Path) -> None:
    samples.bundle(mine, "two")
    other = tmp_path / "results.zip"
    other.mkdir()
    (other / "table.csv").write_text("a year of work")
    with pytest.raises(BundleError, match="something else than a model"):
        share_model("two", other, overwrite=True)
    assert (other / "table.csv").read_text() == "a year of work"


def test_a_name_that_is_none_of_a_model_is_refused(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"must end in \.cellclf or \.zip"):
        share_model("theirs", tmp_path / "out.tar")
    with pytest.raises(ModelNotFoundError):
        share_model("nothing", tmp_path / "out.zip")


def test_a_damaged_model_is_not_passed_on(mine: Path, tmp_path: Path) -> None:
    path = samples.bundle(mine, "two").path
    (path / "test_input.npy").write_bytes(b"x")
    with pytest.raises(IntegrityError):
        share_model("two", tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_copy_that_does_not_pass_leaves_the_old_one(mine: Path, tmp_path: Path) -> None:
    old = samples.bundle(mine, "two", fields={"title": "old"})
    new = samples.bundle(tmp_path, "two", fields={"title": "new"})

    def refuse(path: Path) -> None:
        raise SelfTestError(f"{path.name} is wrong")

    with pytest.raises(SelfTestError, match=r"two\.cellclf is wrong"):
        copy_bundle(new.path, old.path, overwrite=True, verify=refuse)
    assert ModelBundle.load(old.path).spec.title == "old"
    assert sorted(path.name for path in mine.iterdir()) == ["two.cellclf"]


def test_a_place_that_cannot_be_written_is_said(mine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="choose another folder"):
        share_model("theirs", tmp_path / "file" / "out.zip")


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_model_of_ones_own_is_removed(mine: Path, as_zip: bool) -> None:
    path = samples.bundle(mine, "two", as_zip=as_zip).path
    origin_note(path).write_text("{}")
    assert remove_model("two") == path
    assert [model.name for model in list_models()] == ["theirs"]
    assert list(mine.iterdir()) == []


def test_removing_ones_own_shows_the_bundled_one_again(mine: Path) -> None:
    samples.bundle(mine, "theirs", fields={"title": "my own"})
    remove_model("theirs.cellclf")
    assert find_model("theirs").parent.name == "bundled"
    with pytest.raises(ModelError, match="comes with the package"):
        remove_model("theirs")
    assert find_model("theirs").exists()


@pytest.mark.parametrize("name", ["nothing", "../bundled/theirs", "", ".", "a\nb", "/etc"])
def test_only_names_are_removed(mine: Path, name: str) -> None:
    with pytest.raises(ModelNotFoundError):
        remove_model(name)


def test_a_link_is_removed_and_what_it_leads_to_stays(mine: Path, tmp_path: Path) -> None:
    real = samples.bundle(tmp_path, "real").path
    (mine / "link.cellclf").symlink_to(real, target_is_directory=True)
    remove_model("link")
    assert not (mine / "link.cellclf").exists()
    assert ModelBundle.load(real).spec.name == "two"


def test_what_can_be_fetched_is_said_to_be(mine: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="cellclf models fetch saureus-cellcycle-dna"):
        find_model("saureus-cellcycle-dna")
