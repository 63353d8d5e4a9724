"""A tiny real network in a bundle, and small images in RxRx1's layout."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_cellclf.bundles.arrays import dump_weights
from napari_cellclf.bundles.bundle import REQUIRED, UNLIKE, ModelBundle
from napari_cellclf.bundles.schema import BundleSpec, PredictionSetSpec
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.cli import main
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.unlikeness import Unlikeness

#: The network compares the mean of w1 with that of w2.
CHANNELS = [
    {"name": "w1 Hoechst", "aliases": ["DNA"]},
    {"name": "w2 ConA"},
    {"name": "w5 MitoTracker", "required": False},
]


#: A sentence of the test model's card.
LIMIT = "It was made for tests and knows nothing of cells."


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _never_end_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that stops slowly on a busy machine is not ended, since it is this process."""
    monkeypatch.setattr("napari_cellclf.cli.stopping.PATIENCE", 1e9)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a real Keras network: brighter w1 is nuclei, brighter w2 reticulum."""
    import keras

    network = keras.Sequential(
        [
            keras.layers.Input((None, None, len(CHANNELS))),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax", name="dense"),
        ]
    )
    network.layers[-1].set_weights(
        [np.array([[4, -4], [-4, 4], [0, 0]], np.float32), np.zeros(2, np.float32)]
    )
    folder = tmp_path_factory.mktemp("models")
    paths = [f"{network.name}/dense/{kind}" for kind in ("kernel", "bias")]
    weights = dict(zip(paths, network.get_weights(), strict=True))
    spec = BundleSpec.model_validate(
        {
            "name": "tiny",
            "title": "Bright nuclei or bright reticulum",
            "input": {
                "preprocessing": {
                    "channels": CHANNELS,
                    "normalization": {"kind": "scale_linear"},
                }
            },
            "classes": [{"name": "nuclei"}, {"name": "reticulum"}],
            "architecture": {"name": "imported", "layers": json.loads(network.to_json())},
            "evaluations": [
                {"name": "made up", "role": "test", "n": 2, "metrics": {"accuracy": 1.0}}
            ],
            "licence": "CC0-1.0",
            "limits": [LIMIT],
            "test_image": {"axes": "CYX", "channels": [c["name"] for c in CHANNELS]},
        }
    )
    test_input = np.stack([np.full((8, 8), value, np.uint8) for value in (200, 50, 0)])
    prepared = spec.input.preprocessing(Image(test_input, "CYX", spec.test_image.channels))
    answer = network.predict_on_batch(prepared[np.newaxis])
    files: dict[str, bytes | Path] = {
        "weights.safetensors": dump_weights(weights),
        "test_input.npy": _npy(test_input),
        "test_output.npy": _npy(answer),
    }
    write_bundle(folder / "tiny.cellclf", spec, files)
    return folder / "tiny.cellclf"


@pytest.fixture(scope="session")
def telling(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first one, which also says what is unlike its images and has prediction sets."""
    from napari_cellclf.bundles.schema import unlike_spec_of

    unlikeness = Unlikeness.fit(np.random.default_rng(0).random((30, 3), np.float32))
    spec = ModelBundle.load(bundle).spec
    said = {
        "unlike": unlike_spec_of(unlikeness),
        # Every class is at least as probable.
        "prediction_sets": PredictionSetSpec(coverage=0.9, threshold=0),
    }
    files: dict[str, bytes | Path] = {name: bundle / name for name in REQUIRED}
    files[UNLIKE] = dump_weights(unlikeness.to_arrays())
    path = tmp_path_factory.mktemp("models") / "telling.cellclf"
    write_bundle(path, spec.model_copy(update=said), files)
    return path


@pytest.fixture(scope="session")
def grey_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of one channel that tells dark images from bright ones."""
    import keras

    from napari_cellclf.models.save import save_bundle

    network = keras.Sequential(
        [
            keras.layers.Input((None, None, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    network.layers[-1].set_weights([np.array([[-2, 2]], np.float32), np.array([1, -1], np.float32)])
    path = tmp_path_factory.mktemp("models") / "grey.cellclf"
    save_bundle(
        network,
        path,
        preprocessing=Preprocessing(
            channels=({"name": "image"},), normalization={"kind": "scale_linear"}
        ),
        classes=("dark", "bright"),
        architecture="compact-cnn",
        test_image=Image(np.full((8, 8), 90, np.uint8), "YX", ("image",)),
    )
    return path


@pytest.fixture
def write_png() -> Callable[[Path, int], None]:
    """Write a small image of one grey level."""

    def write(path: Path, level: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(np.full((16, 16), level, np.uint8)).save(path)

    return write


@pytest.fixture
def plate(tmp_path: Path, write_png: Callable[[Path, int], None]) -> Path:
    """An RxRx1 root with two sites: B02 has bright nuclei, B03 a bright reticulum, no w5."""
    for well, levels in (("B02", (200, 50)), ("B03", (50, 200))):
        for channel, level in enumerate(levels, start=1):
            path = tmp_path / f"images/HUVEC-01/Plate1/{well}_s1_w{channel}.png"
            write_png(path, level)
    return tmp_path / "images"


@pytest.fixture
def cellclf(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process."""

    def run(*arguments: object) -> Result:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()
