"""Models of other kinds get the way to a bundle said, wherever they are handed over."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.bundles.paths import HDF5_MAGIC
from napari_cellclf.errors import BundleError, ModelNotFoundError, UnsafeModelError
from napari_cellclf.inference.load import load_classifier

EVERYWHERE = pytest.mark.parametrize("take", [ModelBundle.load, find_model, load_classifier])


def _hdf5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.4.0"
    return path


def _pickle(path: Path) -> Path:
    path.write_bytes(pickle.dumps({"weights": [1, 2]}))
    return path


def _saved_model(path: Path) -> Path:
    (path / "variables").mkdir(parents=True)
    (path / "saved_model.pb").write_bytes(b"\x08\x01")
    return path


def _text(path: Path) -> Path:
    path.write_text("not what its name says")
    return path


@EVERYWHERE
@pytest.mark.parametrize(
    ("make", "name", "kind"),
    [
        (_hdf5, "m.h5", "an HDF5 file of an older Keras"),
        (_hdf5, "m.cellclf", "an HDF5 file of an older Keras"),
        (_text, "m.HDF5", "an HDF5 file of an older Keras"),
        (_saved_model, "m", "a SavedModel folder"),
        (_saved_model, "m.cellclf", "a SavedModel folder"),
    ],
)
def test_older_keras_models_get_the_steps_of_a_conversion(
    make: Callable[[Path], Path],
    name: str,
    kind: str,
    take: Callable[[Path], object],
    tmp_path: Path,
) -> None:
    with pytest.raises(UnsafeModelError) as caught:
        take(make(tmp_path / name))
    message = str(caught.value)
    assert message.startswith(f"{name} is {kind}, which may hold code; where you trust it, run ")
    assert f"keras.models.load_model('{name}').save('new.keras')" in message
    assert message.endswith("bring new.keras in with cellclf models import")
    assert "\n" not in message


@EVERYWHERE
@pytest.mark.parametrize(
    ("make", "name"), [(_pickle, "m.pkl"), (_pickle, "m"), (_text, "m.pt"), (_text, "m.joblib")]
)
def test_pickles_are_not_opened(
    make: Callable[[Path], Path], name: str, take: Callable[[Path], object], tmp_path: Path
) -> None:
    with pytest.raises(
        UnsafeModelError, match=r"is a pickle, which runs code .*cellclf models import$"
    ):
        take(make(tmp_path / name))


@EVERYWHERE
@pytest.mark.parametrize("start", [b"PK\x03\x04", HDF5_MAGIC])
def test_a_bare_network_is_sent_to_the_import(
    take: Callable[[Path], object], start: bytes, tmp_path: Path
) -> None:
    (tmp_path / "m.keras").write_bytes(start)
    with pytest.raises(BundleError, match=r"without its preprocessing and classes; .*import m.ker"):
        take(tmp_path / "m.keras")


@EVERYWHERE
@pytest.mark.parametrize("name", ["", "  "])
def test_no_name_is_no_model(take: Callable[[str], object], name: str) -> None:
    with pytest.raises(ModelNotFoundError, match="no model was named; give"):
        take(name)
