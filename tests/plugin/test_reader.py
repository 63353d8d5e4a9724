"""napari's reader and sample data, in a real viewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from npe2 import PluginManager

from napari_cellclf.core.image import Image
from napari_cellclf.core.stains import STAINS
from napari_cellclf.plugin import reader, sample_data
from napari_cellclf.plugin.napari_layers import contrast_limits, to_layer_data

KEY = "cellclf"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what the reader notified the user of."""
    messages: list[str] = []
    monkeypatch.setattr(reader, "_notify", messages.append)
    monkeypatch.setattr(reader, "_told_at", {})
    return messages


def test_any_file_of_a_site_opens_all_of_it(
    make_napari_viewer: Any, plate: Path, told: list[str]
) -> None:
    viewer = make_napari_viewer()
    viewer.open(plate / "B02_s1_w3.png", plugin="napari-cellclf")
    assert [layer.metadata[KEY]["channel"] for layer in viewer.layers] == list(STAINS)
    assert [layer.colormap.name for layer in viewer.layers] == [
        "blue", "green", "red", "cyan", "magenta", "yellow",
    ]  # fmt: skip
    layer = viewer.layers[0]
    assert layer.name == "w1 Hoechst | HUVEC-01 Plate1 B02 s1"
    assert layer.blending == "additive"
    assert layer.axis_labels == ("y", "x")
    assert layer.metadata["experiment"] == "HUVEC-01"
    assert layer.metadata["plate"] == 1
    assert told == []


def test_six_files_dropped_together_open_their_site_once(
    make_napari_viewer: Any, plate: Path, told: list[str]
) -> None:
    viewer = make_napari_viewer()
    viewer.open(sorted(plate.glob("B02_s1_*.png")), plugin="napari-cellclf")
    assert len(viewer.layers) == 6
    assert len(told) == 1
    viewer.open(sorted(plate.glob("B02_s2_*.png")), plugin="napari-cellclf", stack=True)
    assert len(viewer.layers) == 12


def test_missing_channels_are_told(make_napari_viewer: Any, plate: Path, told: list[str]) -> None:
    viewer = make_napari_viewer()
    viewer.open(plate / "B03_s1_w1.png", plugin="napari-cellclf")
    assert len(viewer.layers) == 4
    assert "w5 MitoTracker, w6 WGA" in told[0]
    assert viewer.layers[3].colormap.name == "cyan"


def test_plate_opens_lazily_with_a_slider(
    make_napari_viewer: Any, plate: Path, told: list[str]
) -> None:
    viewer = make_napari_viewer()
    viewer.open(plate, plugin="napari-cellclf")
    assert len(viewer.layers) == 6
    layer = viewer.layers[0]
    assert layer.data.shape == (3, 48, 48)
    assert hasattr(layer.data, "dask")
    assert layer.axis_labels == ("site", "y", "x")
    assert viewer.dims.axis_labels == ("site", "y", "x")
    assert [row["well"] for row in layer.metadata[KEY]["planes"]] == ["B02", "B02", "B03"]
    assert "1 of the 3 sites" in told[0]


def test_of_many_sites_only_those_that_are_seen_are_read(
    make_napari_viewer: Any, plate: Path, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellclf.io import stacks

    content = {w: (plate / f"B02_s1_w{w}.png").read_bytes() for w in range(1, 7)}
    for well in range(308):
        for site in (1, 2):
            for channel, pixels in content.items():
                name = f"{'CDEFGHIJKLMNOP'[well // 22]}{well % 22 + 2:02d}_s{site}_w{channel}.png"
                (plate / name).write_bytes(pixels)
    seen: list[Path] = []
    read_channel = stacks.read_channel

    def counted(path: Path, **options: Any) -> Any:
        seen.append(path)
        return read_channel(path, **options)

    monkeypatch.setattr(stacks, "read_channel", counted)
    viewer = make_napari_viewer()
    viewer.open(plate, plugin="napari-cellclf")
    assert viewer.layers[0].data.shape[0] == 619
    # The first site and the one in view, by which contrast is judged too: each file once.
    assert viewer.dims.current_step[0] == 309
    assert {path.name.rpartition("_w")[0] for path in seen} == {"B02_s1", "I23_s1"}
    assert len(seen) == 12
    seen.clear()
    viewer.dims.set_current_step(0, 100)
    assert len({path.name.rpartition("_w")[0] for path in seen}) == 1
    assert len(seen) == 6


def test_embryo_has_its_minute(make_napari_viewer: Any, tmp_path: Path, told: list[str]) -> None:
    import tifffile

    pixels = np.random.default_rng(0).integers(0, 31, (42, 111), np.uint8)
    for minute in (60, 51, 69):
        name = f"Stage({minute:03d})-20230811-Cycle00-embryo03-3.tif"
        tifffile.imwrite(tmp_path / name, pixels)
    viewer = make_napari_viewer()
    viewer.open(tmp_path / "Stage(060)-20230811-Cycle00-embryo03-3.tif", plugin="napari-cellclf")
    assert viewer.layers[0].metadata["minute"] == 60
    assert viewer.layers[0].colormap.name == "gray"
    viewer.open(tmp_path, plugin="napari-cellclf")
    planes = viewer.layers[1].metadata[KEY]["planes"]
    assert [row["minute"] for row in planes] == [51, 60, 69]
    assert viewer.layers[1].axis_labels == ("time", "y", "x")


@pytest.mark.parametrize(
    "name",
    ["B02_s1_w1.png", "Stage(060)-20230811-Cycle00-embryo03-3.tif",
     "Stage(060)-20230811-Cycle00-embryo03-3-MULTIPLIED-7.TIF"],
)  # fmt: skip
def test_our_files_match_the_manifest(name: str) -> None:
    assert "napari-cellclf" in _readers_for(name)
    assert reader.get_reader(name) is not None


@pytest.mark.parametrize(
    "name", ["cells.png", "cells_s1.png", "stack.tif", "Stage.tif", "cells_w1.tif", "a.jpg"]
)
def test_plain_files_stay_with_napari(name: str) -> None:
    assert "napari-cellclf" not in _readers_for(name)
    assert reader.get_reader(name) is None


def test_plain_folders_stay_with_napari(tmp_path: Path, plate: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "cells.png").write_bytes(b"")
    assert reader.get_reader(str(tmp_path / "other")) is None
    assert reader.get_reader(str(plate)) is reader.read
    assert reader.get_reader([]) is None


def _readers_for(name: str) -> set[str]:
    manager = PluginManager.instance()
    manager.discover()
    return {found.plugin_name for found in manager.iter_compatible_readers([name])}


@pytest.mark.parametrize(
    ("function", "shape", "count"),
    [
        (sample_data.simulated_site, (512, 512), 6),
        (sample_data.simulated_embryo, (17, 420, 1110), 1),
    ],
)
def test_simulated_samples(function: Any, shape: tuple[int, ...], count: int) -> None:
    layers = function()
    assert len(layers) == count
    for data, settings, kind in layers:
        assert kind == "image"
        assert data.shape == shape
        assert "simulated" in settings["name"]


def test_real_sample_is_the_site_that_was_fetched(
    plate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(plate.glob("B02_s1_*.png"))
    monkeypatch.setattr("napari_cellclf.io.samples.fetch_rxrx1_site", lambda cell_type: files)
    layers = sample_data.rxrx1_site()
    assert [settings["metadata"][KEY]["channel"] for _, settings, _ in layers] == list(STAINS)
    assert layers[0][1]["name"] == "w1 Hoechst | HUVEC-01 Plate1 B02 s1"
    assert layers[0][1]["metadata"][KEY]["path"] == str(files[0])


def test_samples_are_in_the_menu(make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    viewer.open_sample("napari-cellclf", "simulated_embryo")
    assert viewer.layers[0].metadata[KEY]["planes"][1]["minute"] == 69


def test_contrast_limits_show_something() -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    low, high = contrast_limits(ramp)
    assert 0 <= low < 5
    assert 250 < high <= 255
    assert contrast_limits(ramp // 4, 6)[1] > contrast_limits(ramp // 4)[1]
    assert contrast_limits(np.zeros((4, 4), np.uint16)) == (0, 65535)
    assert contrast_limits(np.zeros((4, 4))) == (0, 1)
    assert contrast_limits(np.full((4, 4), np.nan)) == (0, 1)
    mask = np.eye(8, dtype=bool)
    assert contrast_limits(mask) == (0, 1)
    channels_first = np.stack([np.stack([ramp // 4] * 3), np.stack([ramp // 2] * 3)])
    layers = to_layer_data(Image(channels_first, "CTYX"), title="t")
    limits = [settings["contrast_limits"] for _, settings, _ in layers]
    assert limits == [contrast_limits(channel, 2) for channel in channels_first]
    assert limits[0][1] < limits[1][1]
    black_first = np.stack([np.zeros((16, 16), np.uint8), ramp, ramp])
    assert contrast_limits(black_first)[1] > 250


def test_pixel_size_becomes_scale() -> None:
    image = Image(np.zeros((3, 4, 5)), "TYX", pixel_size=(0.5, 0.25))
    ((_, settings, _),) = to_layer_data(image, title="t")
    assert settings["scale"] == (1, 0.5, 0.25)


def test_colours_stay_one_layer() -> None:
    image = Image(np.zeros((3, 4, 5), np.uint8), "SYX")
    ((data, settings, _),) = to_layer_data(image, title="t")
    assert settings["rgb"]
    assert data.shape == (4, 5, 3)
