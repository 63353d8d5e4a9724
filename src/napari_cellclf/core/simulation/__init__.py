"""Made-up microscopy: cells in six stains, whole plates of them, and a growing embryo.

For trying things out, for tests and for the demo; plainly named "simulated" wherever it goes.
Nothing here was fitted to real images, and a network trained on these pictures knows nothing of
real ones.
"""

from __future__ import annotations

from napari_cellclf.core.simulation.embryo import simulate_embryo
from napari_cellclf.core.simulation.site import simulate_plate, simulate_site

__all__ = ["simulate_embryo", "simulate_plate", "simulate_site"]
