from __future__ import annotations

import numpy as np
import pytest

from napari_cellclf.core.simulation import simulate_plate, simulate_site
from napari_cellclf.core.simulation.cells import TRAITS, make_layout, traits_of
from napari_cellclf.core.simulation.optics import camera_of, take
from napari_cellclf.core.stains import CELL_TYPES, STAINS
from napari_cellclf.errors import InputError


def layout_of(cell_type: str, size: int = 256):
    return make_layout(np.random.default_rng(0), traits_of(cell_type), size)


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_a_site_is_a_named_8_bit_image_that_says_it_is_simulated(cell_type):
    site = simulate_site(cell_type, seed=1, size=64)
    assert (site.axes, site.shape, site.dtype) == ("CYX", (6, 64, 64), np.uint8)
    assert site.channels == STAINS
    assert site.source == "simulated"
    assert site.metadata["simulated"] is True
    assert site.metadata["cell_type"] == cell_type


def test_the_same_numbers_give_the_same_pixels():
    first, again = (simulate_site("RPE", seed=4, size=64, batch=2) for _ in range(2))
    np.testing.assert_array_equal(first.data, again.data)


@pytest.mark.parametrize("other", [{"seed": 5}, {"batch": 3}, {"cell_type": "U2OS"}])
def test_other_numbers_give_other_pixels(other):
    asked = {"cell_type": "RPE", "seed": 4, "batch": 2, "size": 64}
    assert (simulate_site(**asked).data != simulate_site(**{**asked, **other}).data).any()


def test_leaving_out_stains_does_not_change_the_others():
    whole = simulate_site("HUVEC", size=64)
    some = simulate_site("HUVEC", size=64, channels=3)
    np.testing.assert_array_equal(whole.data[:3], some.data)
    assert some.channels == STAINS[:3]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"cell_type": "HELA"}, "no simulated cell type 'HELA'; choose one of HEPG2"),
        ({"size": 8}, "size is 8"),
        ({"size": 100_000}, "size is 100000"),
        ({"channels": 0}, "channels is 0"),
        ({"channels": 7}, "channels is 7"),
        ({"seed": -1}, "seed is -1"),
        ({"batch": -1}, "batch is -1"),
    ],
)
def test_impossible_sites_are_refused(asked, message):
    with pytest.raises(InputError, match=message):
        simulate_site(**asked)


def test_every_stain_shows_structure_without_much_saturation():
    for cell_type in CELL_TYPES:
        for plane in simulate_site(cell_type, seed=2, size=256).data:
            assert plane.std() > 2
            assert (plane == 255).mean() < 0.02
            assert plane.min() < np.median(plane)


def test_types_differ_in_density_and_size_of_nuclei():
    counts = {name: len(layout_of(name).centres) for name in CELL_TYPES}
    assert counts["HEPG2"] > 2 * counts["HUVEC"] > 2 * counts["U2OS"]
    nuclei = {name: layout_of(name).nucleus_radii.mean() for name in CELL_TYPES}
    assert max(nuclei, key=nuclei.get) == "U2OS"
    assert min(nuclei, key=nuclei.get) == "HEPG2"


def test_long_cells_are_long():
    along, across = layout_of("HUVEC").radii.T
    assert (along / across).mean() == pytest.approx(TRAITS["HUVEC"].elongation)


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_cells_keep_their_distance(cell_type):
    centres = layout_of(cell_type).centres
    gaps = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() >= TRAITS[cell_type].spacing


@pytest.mark.parametrize("cell_type", CELL_TYPES)
def test_nuclei_lie_inside_cells(cell_type):
    cells = layout_of(cell_type)
    assert cells.cell.min() >= 0
    assert cells.cell.max() <= 1
    assert cells.cell[cells.nucleus > 0.9].mean() > 0.95
    assert (cells.gap >= 0).all()


def test_hoechst_is_bright_where_the_nuclei_are():
    site = simulate_site("U2OS", seed=0, size=128, channels=1)
    key = [0, 0, list(TRAITS).index("U2OS"), 0]
    cells = make_layout(np.random.default_rng(key), traits_of("U2OS"), 128)
    hoechst = site.data[0]
    assert hoechst[cells.nucleus > 0.9].mean() > 3 * hoechst[cells.nucleus < 0.1].mean()


def test_batches_have_their_own_camera_and_keep_it():
    assert camera_of(1, 0) == camera_of(1, 0)
    assert camera_of(1, 0) != camera_of(2, 0)
    assert camera_of(1, 0) != camera_of(1, 1)


def test_the_camera_saturates_and_has_an_offset():
    camera = camera_of(0, 0)
    dark = take(np.zeros((64, 64), np.float32), camera, np.random.default_rng(0))
    assert dark.mean() == pytest.approx(camera.offset, abs=0.3)
    white = take(np.full((64, 64), 100, np.float32), camera, np.random.default_rng(0))
    assert (white == 255).all()


def test_a_plate_has_its_wells_in_order_and_draws_late():
    plate = simulate_plate(wells_per_type=23, sites_per_well=2, cell_types=("RPE",), size=64)
    assert len(plate) == 46
    assert [site.well for site in plate[:4]] == ["B02", "B02", "B03", "B03"]
    assert plate[-1].well == "C02"
    assert [site.site for site in plate[:2]] == [1, 2]
    assert plate[0].draw().metadata["cell_type"] == "RPE"


def test_no_two_sites_are_alike_and_each_is_drawn_the_same_again():
    plate = simulate_plate(wells_per_type=2, sites_per_well=2, size=32, channels=1)
    drawn = [site.draw().data for site in plate]
    assert len({array.tobytes() for array in drawn}) == len(plate)
    np.testing.assert_array_equal(plate[3].draw().data, drawn[3])


def test_another_batch_is_another_experiment():
    assert simulate_plate(wells_per_type=1, batch=1)[0].experiment == "HEPG2-02"


@pytest.mark.parametrize(
    "asked", [{"wells_per_type": 0}, {"wells_per_type": 309}, {"sites_per_well": 11}]
)
def test_impossible_plates_are_refused(asked):
    with pytest.raises(InputError, match="do not fit on a simulated plate"):
        simulate_plate(**asked)
