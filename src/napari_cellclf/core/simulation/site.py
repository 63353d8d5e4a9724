"""One simulated field of cells in up to six stains."""

from __future__ import annotations

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.core.simulation.camera import camera_of, take
from napari_cellclf.core.simulation.layout import make_layout
from napari_cellclf.core.simulation.painting import PAINTERS
from napari_cellclf.core.simulation.traits import TRAITS, traits_of
from napari_cellclf.core.stains import STAINS
from napari_cellclf.errors import InputError


def simulate_site(
    cell_type: str = "HUVEC",
    *,
    seed: int = 0,
    size: int = 512,
    channels: int = 6,
    batch: int = 0,
) -> Image:
    """Make up a field of cells as RxRx1's stains would show it.

    Cells are placed by Poisson-disc sampling, each takes the pixels nearest to it in its own
    elliptic measure, and each stain paints its structures (`napari_cellclf.core.stains`): nuclei;
    a net around them; fibres and borders; nucleoli; threads or grains; Golgi and membranes. The
    four types differ in size, shape, density and textures. A camera with gain, offset, uneven
    light, focus and shot noise of its `batch` takes the pictures, so that batches differ in
    brightness as real ones do while the cells do not.

    Parameters
    ----------
    cell_type : str
        ``"HEPG2"`` (dense islands of small round cells), ``"HUVEC"`` (long, loosely sown),
        ``"RPE"`` (cobblestones) or ``"U2OS"`` (large and flat, with large nuclei).
    seed : int
        Which field; the same number gives the same pixels.
    size : int
        Side of the square field in pixels, 32 to 4096. Cells keep their size in pixels.
    channels : int
        How many stains, 1 to 6, from w1 on; fewer do not change those that remain.
    batch : int
        Which camera settings.

    Returns
    -------
    Image
        Axes ``"CYX"``, uint8, channels named as `STAINS`, `source` ``"simulated"``.

    Raises
    ------
    InputError
        If a value is not one of those above.

    Examples
    --------
    >>> site = simulate_site("U2OS", seed=3, size=64, channels=2)
    >>> site.shape, site.channels, site.metadata["cell_type"]
    ((2, 64, 64), ('w1 Hoechst', 'w2 ConA'), 'U2OS')
    """
    traits = traits_of(cell_type)
    _check("size", size, 32, 4096)
    _check("channels", channels, 1, len(STAINS))
    for name, value in (("seed", seed), ("batch", batch)):
        _check(name, value, 0, 2**32 - 1)
    # Each step draws from its own stream: leaving out a stain changes nothing in the others.
    key = [seed, batch, list(TRAITS).index(cell_type)]
    cells = make_layout(np.random.default_rng([*key, 0]), traits, size)
    planes = []
    for channel in range(channels):
        rng = np.random.default_rng([*key, channel + 1])
        scene = PAINTERS[channel](rng, cells, traits)
        planes.append(take(scene, camera_of(batch, channel), rng))
    metadata = {"simulated": True, "cell_type": cell_type, "seed": seed, "batch": batch}
    return Image(np.stack(planes), "CYX", STAINS[:channels], source="simulated", metadata=metadata)


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; a simulated site takes {low} to {high}")
