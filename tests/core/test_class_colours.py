"""Colours of classes: stable by position, told apart, and readable on dark and on light."""

from __future__ import annotations

import numpy as np
from skimage.color import rgb2lab

from napari_cellclf.core.class_colours import class_colours, luminance


def _rgb(colours: tuple[str, ...]) -> np.ndarray:
    return np.array([[int(c[at : at + 2], 16) / 255 for at in (1, 3, 5)] for c in colours])


def test_the_first_colours_do_not_depend_on_how_many_there_are() -> None:
    assert class_colours(40)[:12] == class_colours(12)
    assert class_colours(0) == ()
    assert len(class_colours(200)) == 200


def test_colours_are_told_apart() -> None:
    for count, least in ((9, 30), (20, 20), (64, 15)):
        lab = rgb2lab(_rgb(class_colours(count)))
        apart = np.linalg.norm(lab[:, None] - lab[None], axis=-1) + 1000 * np.eye(count)
        assert apart.min() > least


def test_colours_are_readable_on_white_and_on_the_dark_theme() -> None:
    light = luminance(_rgb(class_colours(64)))
    dark_background = luminance(_rgb(("#262930",)))[0]
    assert (1.05 / (light + 0.05)).min() > 2.8
    assert ((light + 0.05) / (dark_background + 0.05)).min() > 2.8
