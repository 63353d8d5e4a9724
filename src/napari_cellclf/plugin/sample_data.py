"""Sample data in napari's File menu: two simulated images and a real one from its publisher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_cellclf.plugin.napari_layers import to_layer_data

if TYPE_CHECKING:
    from napari.types import LayerData


def simulated_site() -> list[LayerData]:
    """Return a simulated RxRx1 site of HUVEC cells, six channels of 512 x 512 pixels."""
    from napari_cellclf.core.simulation import simulate_site

    return to_layer_data(simulate_site("HUVEC", seed=1), title="simulated HUVEC site")


def simulated_embryo() -> list[LayerData]:
    """Return a simulated epithelium whose cells lengthen with time, axes ``TYX``."""
    from napari_cellclf.core.simulation import simulate_embryo

    return to_layer_data(simulate_embryo(), title="simulated embryo")


def rxrx1_site() -> list[LayerData]:
    """Fetch one real RxRx1 site from its publisher, once, and return its six channels."""
    from napari_cellclf.io.read import read_image
    from napari_cellclf.io.samples import fetch_rxrx1_site
    from napari_cellclf.plugin.reader import image_title

    first = fetch_rxrx1_site("HUVEC")[0]
    return to_layer_data(read_image(first), title=image_title(first), path=str(first))
