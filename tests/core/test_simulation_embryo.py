from __future__ import annotations

import numpy as np
import pytest

from napari_cellclf.core.simulation import simulate_embryo
from napari_cellclf.core.simulation.embryo import front_depth
from napari_cellclf.errors import InputError

SMALL = (105, 277)


def test_a_series_is_dark_8_bit_and_says_when_and_which():
    series = simulate_embryo(minutes=[60, 69], embryo=5, size=SMALL)
    assert (series.axes, series.shape, series.dtype) == ("TYX", (2, *SMALL), np.uint8)
    assert series.metadata["frames"] == [{"minute": 60, "embryo": 5}, {"minute": 69, "embryo": 5}]
    assert series.metadata["simulated"] is True
    assert series.source == "simulated"
    assert 15 <= series.data.max() <= 31


def test_the_default_is_17_stages():
    assert len(simulate_embryo(size=(32, 64)).metadata["frames"]) == 17


def test_a_frame_does_not_depend_on_the_others():
    both = simulate_embryo(minutes=[60, 150], size=SMALL)
    alone = simulate_embryo(minutes=[150], size=SMALL)
    np.testing.assert_array_equal(both.data[1], alone.data[0])


@pytest.mark.parametrize("other", [{"seed": 1}, {"embryo": 4}])
def test_other_embryos_are_other_pictures(other):
    first = simulate_embryo(minutes=[60], size=SMALL)
    assert (first.data != simulate_embryo(minutes=[60], size=SMALL, **other).data).any()


def test_cells_lengthen_with_time():
    depths = [front_depth(minute) for minute in range(0, 300, 30)]
    assert depths == sorted(depths)
    series = simulate_embryo(minutes=[60, 204], size=(210, 555))
    early, late = series.data[:, :, 260:300].mean(axis=2)
    # Going down from the upper surface, the later cells reach into what was yolk.
    surface = int(np.argmax(early > 2))
    between = slice(surface + int(210 * front_depth(75)), surface + int(210 * front_depth(170)))
    assert late[between].mean() > 1.5 * early[between].mean()


def test_outside_is_darker_than_the_shell():
    frame = simulate_embryo(minutes=[100], size=(210, 555)).data[0]
    assert frame[:4].mean() < 0.6
    assert frame[20:40, 200:350].mean() > 3


@pytest.mark.parametrize(
    "asked",
    [
        {"minutes": []},
        {"minutes": [-1]},
        {"minutes": [2000]},
        {"embryo": -1},
        {"seed": -1},
        {"size": (5, 500)},
        {"size": (500, 50_000)},
    ],
)
def test_impossible_embryos_are_refused(asked):
    with pytest.raises(InputError, match="simulated embryo"):
        simulate_embryo(**asked)
