from __future__ import annotations

import errno
from pathlib import Path
from typing import Any, NoReturn

import pytest
import samples

from napari_cellclf.bundles import write
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.errors import BundleError, UnsafeModelError


def _description(path: Path) -> str:
    return ModelBundle.load(path).spec.description


@pytest.mark.parametrize("as_zip", [False, True])
def test_every_file_is_hashed_and_nothing_is_left_beside(tmp_path: Path, as_zip: bool) -> None:
    home = tmp_path / "deep" / "er"
    (tmp_path / "deep").mkdir()
    home.mkdir()
    bundle = samples.bundle(home, as_zip=as_zip)
    assert set(bundle.spec.files) == {
        "weights.safetensors",
        "test_input.npy",
        "test_output.npy",
        "README.md",
    }
    assert sorted(p.name for p in home.iterdir()) == ["two.cellclf"]


def test_an_older_bundle_is_replaced_only_when_asked(tmp_path: Path) -> None:
    samples.bundle(tmp_path, fields={"description": "old"})
    with pytest.raises(BundleError, match="exists already; give overwrite=True"):
        samples.bundle(tmp_path, fields={"description": "new"})
    assert _description(tmp_path / "two.cellclf") == "old"
    samples.bundle(tmp_path, fields={"description": "new"}, overwrite=True)
    assert _description(tmp_path / "two.cellclf") == "new"
    samples.bundle(tmp_path, fields={"description": "zip"}, overwrite=True, as_zip=True)
    assert _description(tmp_path / "two.cellclf") == "zip"
    samples.bundle(tmp_path, fields={"description": "folder"}, overwrite=True)
    assert _description(tmp_path / "two.cellclf") == "folder"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["two.cellclf"]


class _KilledError(BaseException):
    """Like a kill: nothing of ours catches it."""


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("moment", ["_write", "_sync_folder", "exchange", "verify"])
def test_a_kill_leaves_the_old_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, as_zip: bool
) -> None:
    samples.bundle(tmp_path, fields={"description": "old"}, as_zip=as_zip)

    def die(*args: Any) -> NoReturn:
        raise _KilledError

    options: dict[str, Any] = {"overwrite": True, "as_zip": as_zip}
    if moment == "verify":
        options["verify"] = die
    else:
        monkeypatch.setattr(write, moment, die)
    with pytest.raises(_KilledError):
        samples.bundle(tmp_path, fields={"description": "new"}, **options)
    assert _description(tmp_path / "two.cellclf") == "old"


@pytest.mark.parametrize("as_zip", [False, True])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_kill_between_two_renames_leaves_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int, as_zip: bool
) -> None:
    samples.bundle(tmp_path, fields={"description": "old"}, as_zip=as_zip)
    real, calls = Path.rename, 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal calls
        # Packing a zip renames inside the scratch folder; the exchange is what counts here.
        if self.name != "packed":
            calls += 1
            if calls == step:
                raise _KilledError
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    description = "old"
    try:
        samples.bundle(tmp_path, fields={"description": "new"}, overwrite=True, as_zip=as_zip)
        description = "new"
    except _KilledError:
        pass
    monkeypatch.undo()
    assert description == ("new" if step == 3 else "old")
    assert _description(tmp_path / "two.cellclf") == description
    # and the next write clears up
    samples.bundle(tmp_path, fields={"description": "next"}, overwrite=True, as_zip=as_zip)
    assert _description(tmp_path / "two.cellclf") == "next"
    assert [p.name for p in tmp_path.iterdir() if "previous" in p.name] == []


def test_a_failed_exchange_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples.bundle(tmp_path, fields={"description": "old"})
    real, calls = Path.rename, 0

    def rename(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(BundleError, match=r"could not be written \(Permission denied\)"):
        samples.bundle(tmp_path, fields={"description": "new"}, overwrite=True)
    assert (tmp_path / "two.cellclf" / "bundle.json").exists()
    assert _description(tmp_path / "two.cellclf") == "old"


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write.os, "fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        samples.bundle(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_requests_that_make_no_bundle(tmp_path: Path) -> None:
    files = samples.files()
    with pytest.raises(BundleError, match=r"must end in \.cellclf"):
        write.write_bundle(tmp_path / "two", samples.spec(), files)
    with pytest.raises(BundleError, match="a bundle is made of weights"):
        write.write_bundle(tmp_path / "two.cellclf", samples.spec(), files | {"x.pkl": b""})
    with pytest.raises(UnsafeModelError, match="is an address"):
        write.write_bundle("s3://x/two.cellclf", samples.spec(), files)


def test_the_card_says_what_the_spec_says(tmp_path: Path) -> None:
    fields = {
        "title": "Two kinds",
        "limits": ["Seen on one microscope | only.\nNever outside."],
        "licence": "CC BY-NC-SA 4.0",
        "temperature": 1.5,
        "unsure_threshold": 0.6,
        "classes": [{"name": "060", "value": 60, "unit": "minute"}, {"name": "069"}],
        "architecture": {"name": "compact-cnn", "pretrained": "none", "n_parameters": 12345},
        "training": {
            "source": "Simulated.",
            "licence": "BSD-3-Clause",
            "counts": {"060": {"train": 3, "test": 1}, "069": {"train": 4}},
            "group_column": "plate",
        },
        "evaluations": [
            {
                "name": "new plate",
                "role": "leave-one-group-out",
                "n": 24,
                "metrics": {"accuracy": 0.96021, "mean error in minutes": 3.14159},
            },
            {
                "name": "stage",
                "role": "leave-one-group-out",
                "n": 8,
                "metrics": {"accuracy": 1, "calibration error": 0.0398},
            },
            {"name": "seen", "role": "train", "n": 7, "metrics": {"accuracy": 1}},
        ],
    }
    path = samples.bundle(tmp_path, fields=fields).path
    card = (path / "README.md").read_text()
    for line in (
        "# Two kinds",
        "| DNA | Hoechst | yes |",
        "- `060` = 60 minute",
        "| 060 | 1 | 3 |",
        "| 069 | 0 | 4 |",
        "On each group in turn kept apart from training:",
        "| on | images | accuracy | mean error in minutes | calibration error |",
        "| new plate | 24 | 96.0 % | 3.14 |  |",
        "| stage | 8 | 100.0 % |  | 4.0 % |",
        "On images it was trained on:",
        "| seen | 7 | 100.0 % |",
        "- Seen on one microscope | only. Never outside.",
        "Weights: CC BY-NC-SA 4.0.",
        "Network: compact-cnn, 12,345 parameters.",
    ):
        assert line in card.splitlines()
    assert "Advice: read an answer below 60 % confidence as unsure. The threshold is stored" in card


@pytest.mark.parametrize("end", ["", "."])
def test_sentences_of_the_card_end_with_one_dot(tmp_path: Path, end: str) -> None:
    fields = {
        "licence": f"MIT{end}",
        "training": {"source": f"Made up{end}", "licence": f"CC0{end}"},
    }
    card = (samples.bundle(tmp_path, fields=fields).path / "README.md").read_text().splitlines()
    assert {"Weights: MIT.", "Made up.", "Licence of the data: CC0."} <= set(card)
