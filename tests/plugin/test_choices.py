"""Which layers make up which image, decided without a window."""

from __future__ import annotations

from typing import Any

import pytest

from napari_cellclf.plugin.classify.choices import (
    LayerInfo,
    layer_axes,
    list_choices,
    with_channel_axis,
)


def site(group: int, channels: int = 6, **more: Any) -> list[LayerInfo]:
    """Describe the layers of a site that our reader opened."""
    known = {"group": group, "title": f"site {group}", "path": f"/data/{group}.png", **more}
    known.setdefault("axes", "YX")
    shape = tuple({"P": 3, "Y": 8, "X": 9}[letter] for letter in known["axes"])
    return [
        LayerInfo(
            (group, index),
            f"w{index + 1} | site {group}",
            shape,
            metadata=tuple({**known, "channel": f"w{index + 1}"}.items()),
        )
        for index in range(channels)
    ]


def plain(key: int, shape: tuple[int, ...] = (8, 9), **more: Any) -> LayerInfo:
    """Describe a layer of somebody else."""
    return LayerInfo(key, f"layer {key}", shape, **more)


def test_layers_of_one_file_are_one_image() -> None:
    choices, current = list_choices(site(1), {(1, 5)})
    assert [choice.title for choice in choices] == ["site 1"]
    assert current == 0
    assert choices[0].channels == ("w1", "w2", "w3", "w4", "w5", "w6")
    assert choices[0].planes == ()


def test_of_several_sites_the_selected_layer_decides() -> None:
    layers = site(1) + site(2) + site(3)
    for group in (1, 2, 3):
        choices, current = list_choices(layers, {(group, 0)})
        assert choices[current].title == f"site {group}"
    assert [choice.title for choice in choices] == ["site 3", "site 2", "site 1"]


def test_several_selected_layers_mean_exactly_those() -> None:
    layers = site(1) + site(2)
    choices, current = list_choices(layers, {(1, 0), (1, 2)})
    assert choices[current].channels == ("w1", "w3")
    assert choices[current].path is None
    choices, current = list_choices(layers, {layer.key for layer in site(2)})
    assert choices[current].title == "site 2"
    assert len(choices) == 2


def test_stack_along_sites_has_planes() -> None:
    choices, _ = list_choices(site(1, axes="PYX"), set())
    assert choices[0].planes == (3,)
    assert choices[0].leading == (0,)


def test_no_layers_no_choice() -> None:
    assert list_choices([], set()) == ([], -1)


def test_single_layers_of_one_size_are_offered_together() -> None:
    choices, current = list_choices([plain(1), plain(2), plain(3)], {3})
    assert choices[current].title == "layer 3"
    assert choices[-1].title == "all 3 single layers together"
    assert choices[-1].channels == ("layer 1", "layer 2", "layer 3")


def test_layers_of_different_size_are_refused_together() -> None:
    choices, current = list_choices([plain(1), plain(2, (4, 4))], {1, 2})
    assert "4x4 and 8x9" in choices[current].problem


def test_a_layer_of_many_channels_is_refused_among_others() -> None:
    colour = plain(2, (8, 9, 3), rgb=True)
    choices, current = list_choices([plain(1), colour], {1, 2})
    assert "layer 2" in choices[current].problem


def test_rgb_layer_has_colours_as_channels() -> None:
    choices, _ = list_choices([plain(1, (5, 8, 9, 4), rgb=True)], set())
    assert choices[0].axes == "IYXS"
    assert choices[0].channels == ("red", "green", "blue", "alpha")
    assert choices[0].planes == (5,)
    assert choices[0].candidate_axes == ()


def test_axes_are_understood_from_labels() -> None:
    assert layer_axes(plain(1, (2, 3, 8, 9), axis_labels=("t", "Channel", "y", "x"))) == "TCYX"
    assert layer_axes(plain(1, (2, 3, 8, 9), axis_labels=("-4", "-3", "-2", "-1"))) == "IJYX"
    assert layer_axes(plain(1, (2, 3, 8, 9), axis_labels=("z", "z", "y", "x"))) == "ZIYX"


def test_axis_of_channels_is_guessed_only_from_its_size() -> None:
    layer = plain(1, (4, 6, 8, 9))
    assert list_choices([layer], set(), n_channels=6)[0][0].axes == "ICYX"
    assert list_choices([layer], set(), n_channels=5)[0][0].axes == "IJYX"
    assert list_choices([layer], set(), n_channels=1)[0][0].axes == "IJYX"


def test_axis_of_channels_can_be_declared() -> None:
    choice = list_choices([plain(1, (4, 6, 8, 9))], set())[0][0]
    assert choice.candidate_axes == (0, 1)
    declared = with_channel_axis(choice, 0)
    assert declared.axes == "CIYX"
    assert declared.channels == ("channel 0", "channel 1", "channel 2", "channel 3")
    assert declared.names == ("",) * 4
    assert with_channel_axis(declared, None).axes == "IJYX"


@pytest.mark.parametrize("label", ["z", "t", "time", "slice", "site"])
def test_axes_with_names_are_never_guessed_to_be_channels(label):
    layer = LayerInfo(1, "stack", (6, 64, 64), axis_labels=(label, "y", "x"))
    choices, _ = list_choices([layer], [], n_channels=6)
    assert "C" not in choices[0].axes
    unnamed = LayerInfo(1, "stack", (6, 64, 64), axis_labels=("-3", "-2", "-1"))
    choices, _ = list_choices([unnamed], [], n_channels=6)
    assert choices[0].axes == "CYX"
