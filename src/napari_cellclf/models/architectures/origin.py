"""Where the first weights of a network came from, in words."""

from __future__ import annotations

import hashlib
from pathlib import Path

from napari_cellclf.models.architectures.names import FETCHED, OWN, canonical_name


def weights_origin(architecture: str, weights: str | Path | None, channels: int) -> str | None:
    """Say where a network's first weights came from, for the record that a bundle keeps.

    Examples
    --------
    >>> weights_origin("efficientnet-lite0", "imagenet", 6)[:45]
    'efficientnet-lite0: ImageNet, in this package'
    """
    if weights is None:
        return None
    name = canonical_name(architecture)
    if weights == "imagenet":
        source = OWN[name].pretrained if name in OWN else FETCHED
    else:
        path = Path(weights)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        source = f"file {path.name}, SHA-256 {digest}"
    widened = (
        f"; first convolution widened from 3 to {channels} channels by averaging, input rescaled "
        "from unit variance to the range of photographs"
    )
    return f"{name}: {source}{'' if channels == 3 else widened}"
