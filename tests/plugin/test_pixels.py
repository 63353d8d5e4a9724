"""From layers to planes, without a window."""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.choices import ImageChoice, LayerInfo, list_choices
from napari_cellclf.plugin.classify.pixels import plane_sources, positions
from napari_cellclf.plugin.classify.request import ClassifyRequest, ModelChoice

MODEL = ModelChoice(
    "m", "M", (ChannelSpec(name="A"), ChannelSpec(name="B", required=False)), ("x", "y")
)


def request_for(choice: ImageChoice, sources: tuple[int | None, ...]) -> ClassifyRequest:
    """Make a request of the model with two channels."""
    return ClassifyRequest(MODEL, choice, None, sources)


def test_layers_become_channels_in_the_models_order() -> None:
    layers = tuple(LayerInfo(i, f"l{i}", (4, 5)) for i in range(2))
    choice = ImageChoice("t", layers, "YX", ("l0", "l1"))
    arrays = [np.full((4, 5), i, np.uint8) for i in range(2)]
    (source,) = plane_sources(request_for(choice, (1, 0)), arrays)
    image = source.read()
    assert image.channels == ("A", "B")
    assert image.data[:, 0, 0].tolist() == [1, 0]
    assert source.id == "t"


def test_axis_of_channels_inside_a_stack() -> None:
    array = np.arange(3 * 2 * 4 * 5).reshape(3, 2, 4, 5)
    layer = LayerInfo(1, "stack", array.shape, axis_labels=("t", "c", "y", "x"))
    choice = list_choices([layer], set(), n_channels=2)[0][0]
    sources = plane_sources(request_for(choice, (0, 1)), [array])
    assert [source.id for source in sources] == ["stack[t=0]", "stack[t=1]", "stack[t=2]"]
    np.testing.assert_array_equal(sources[2].read().data, array[2])
    assert sources[1].metadata == {"t": 1}


def test_colours_at_the_end() -> None:
    array = np.arange(2 * 4 * 5 * 3).reshape(2, 4, 5, 3)
    choice = list_choices([LayerInfo(1, "rgb", array.shape, rgb=True)], set())[0][0]
    sources = plane_sources(request_for(choice, (2, None)), [array])
    np.testing.assert_array_equal(sources[1].read().data, array[1, :, :, 2][np.newaxis])


def test_two_leading_axes_go_last_fastest() -> None:
    choice = list_choices([LayerInfo(1, "s", (2, 3, 4, 5))], set())[0][0]
    assert positions(choice) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


def test_a_channel_that_a_plane_lacks_is_left_out() -> None:
    rows = [{"path": "a.png", "missing_channels": []}, {"path": "b.png", "missing_channels": ["B"]}]
    known: dict[str, Any] = {"axes": "PYX", "planes": rows, "channel": ""}
    layers = tuple(
        LayerInfo(i, name, (2, 4, 5), metadata=tuple({**known, "channel": name}.items()))
        for i, name in enumerate("AB")
    )
    choice = ImageChoice("plate", layers, "PYX", ("A", "B"))
    sources = plane_sources(request_for(choice, (0, 1)), [np.ones((2, 4, 5))] * 2)
    assert [source.read().channels for source in sources] == [("A", "B"), ("A",)]
    assert [source.id for source in sources] == ["a.png", "b.png"]
    assert dict(sources[1].metadata) == {"missing_channels": ["B"]}


def test_white_is_what_the_file_of_a_layer_declares() -> None:
    known = (("axes", "YX"), ("channel", "A"), ("white", 4095.0))
    layers = tuple(LayerInfo(i, f"l{i}", (4, 5), metadata=known) for i in range(2))
    choice = ImageChoice("t", layers, "YX", ("l0", "l1"))
    arrays = [np.full((4, 5), 4095, np.uint16)] * 2
    (source,) = plane_sources(request_for(choice, (1, 0)), arrays)
    assert source.read().white == 4095
