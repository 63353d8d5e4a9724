"""Whether a network takes what its bundle feeds it, and answers what its bundle names."""

from __future__ import annotations

from napari_cellclf.bundles.graph import Network
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.errors import BundleError


def check_ports(network: Network, spec: BundleSpec, name: str) -> None:
    """Hold the input and output of a network against its bundle."""
    taken, given = (None, *network.input_shape), (None, *network.output_shape)
    channels, classes = len(spec.input.channels), len(spec.classes)
    if len(taken) != 4 or taken[3] != channels:
        raise BundleError(
            f"the network of {name} takes arrays of shape {taken}, but its bundle feeds it "
            f"(None, Y, X, {channels}); write the bundle again"
        )
    if given != (None, classes):
        raise BundleError(
            f"the network of {name} gives arrays of shape {given}, but its bundle names {classes} "
            "classes; write the bundle again"
        )
    size = spec.input.preprocessing.size or (None, None)
    if any(side not in (None, made) for side, made in zip(taken[1:3], size, strict=True)):
        raise BundleError(
            f"the network of {name} takes images of {taken[1]} x {taken[2]} pixels only, but its "
            f"preprocessing makes {size[0]} x {size[1]}; write the bundle again"
        )
