from __future__ import annotations

import sys

import numpy as np
import pytest

from napari_cellclf.core.image import Image
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.errors import InputError
from napari_cellclf.reports.plots import plot_confusion, plot_montage, to_rgb

CLASSES = ("HEPG2", "RPE", "a class of a long name")
PNG = b"\x89PNG\r\n\x1a\n"


def scene(channels: int = 3) -> Image:
    return Image(np.random.default_rng(0).integers(0, 99, (channels, 32, 32)), "CYX")


def answers(n: int) -> Predictions:
    rows = np.random.default_rng(1).dirichlet(np.ones(3), n).astype(np.float32)
    return Predictions(rows, CLASSES, tuple(f"plate/very/long/path/{i:040d}.png" for i in range(n)))


def test_a_confusion_matrix_becomes_a_picture(tmp_path):
    path = plot_confusion(np.arange(9).reshape(3, 3), CLASSES, tmp_path / "c.png", title="held out")
    assert path.read_bytes().startswith(PNG)


def test_the_svg_shows_names_counts_and_title(tmp_path):
    counts = np.array([[41, 0, 0], [0, 52, 0], [0, 7, 63]])
    import matplotlib

    with matplotlib.rc_context({"svg.fonttype": "none"}):
        text = plot_confusion(counts, CLASSES, tmp_path / "c.svg", title="held out").read_text()
    for word in (*CLASSES, "held out", "true", "predicted", ">41<", ">52<", ">63<", ">7<"):
        assert word in text


def test_a_class_without_images_does_no_harm(tmp_path):
    assert plot_confusion(np.zeros((3, 3), int), CLASSES, tmp_path / "c.png").stat().st_size


def test_names_and_matrix_must_fit(tmp_path):
    with pytest.raises(InputError, match=r"shape \(2, 2\) does not fit 3 classes"):
        plot_confusion(np.zeros((2, 2), int), CLASSES, tmp_path / "c.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n", [1, 5])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_montage_becomes_a_picture(tmp_path, n, channels):
    path = plot_montage([scene(channels)] * n, answers(n), tmp_path / "m.png")
    assert path.read_bytes().startswith(PNG)


def test_the_montage_tells_wrong_answers(tmp_path):
    import matplotlib

    predictions = Predictions(np.array([[0.9, 0.06, 0.04]], np.float32), CLASSES, ("a.png",))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        wrong = plot_montage([scene()], predictions, tmp_path / "w.svg", truth=["RPE"]).read_text()
        right = plot_montage(
            [scene()], predictions, tmp_path / "r.svg", truth=["HEPG2"]
        ).read_text()
    assert "true: RPE" in wrong
    assert "true:" not in right
    assert "90.0%" in wrong


@pytest.mark.parametrize(("images", "truth"), [(0, None), (2, None), (1, ["RPE", "RPE"])])
def test_a_montage_needs_as_many_of_everything(tmp_path, images, truth):
    with pytest.raises(InputError, match="one prediction"):
        plot_montage([scene()] * images, answers(1), tmp_path / "m.png", truth=truth)


def test_colours_of_channels():
    dna, actin = np.eye(8), np.eye(8)[::-1]
    rgb = to_rgb(Image(np.stack([dna, actin]), "CYX"))
    np.testing.assert_allclose(rgb[..., 2], dna)
    np.testing.assert_allclose(rgb[..., 1], actin)
    assert not rgb[..., 0].any()


def test_one_channel_is_grey_and_rgb_keeps_its_order():
    grey = to_rgb(Image(np.eye(8), "YX"))
    np.testing.assert_array_equal(grey[..., 0], grey[..., 2])
    red = np.zeros((8, 8, 3), np.uint8)
    red[2:6, 2:6, 0] = 200
    shown = to_rgb(Image(red, "YXS"))
    assert shown[3, 3].tolist() == [1, 0, 0]


def test_drawing_leaves_pyplot_alone(tmp_path):
    loaded = "matplotlib.pyplot" in sys.modules
    plot_confusion(np.eye(3, dtype=int), CLASSES, tmp_path / "c.png")
    assert ("matplotlib.pyplot" in sys.modules) == loaded
