"""The networks that can be trained, by name.

Listing them imports no Keras, so that the command line and the widgets can do it at once; building
one does. Names are compared without regard to case, hyphens and underscores.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.base import ARCHITECTURES, Architecture

if TYPE_CHECKING:
    import keras

    from napari_cellclf.core.channels import ChannelSpec
    from napari_cellclf.core.preprocessing import Preprocessing

_MOST_CLASSES = 100_000


def list_architectures() -> list[str]:
    """List the names of all architectures, without importing Keras.

    Examples
    --------
    >>> names = list_architectures()
    >>> names[0], "resnet50" in names, "vgg16" in names
    ('compact-cnn', True, True)
    """
    return list(ARCHITECTURES.names())


def canonical_name(architecture: str) -> str:
    """Find the name that an architecture is known by.

    Examples
    --------
    >>> canonical_name("EfficientNet_Lite0")
    'efficientnet-lite0'
    """
    names = {_key(name): name for name in ARCHITECTURES.names()}
    key = _key(str(architecture))
    if key in names:
        return names[key]
    close = [names[match] for match in difflib.get_close_matches(key, names, n=3)]
    hint = " or ".join(close) if close else f"one of {', '.join([*names.values()][:4])}, ..."
    raise ArchitectureError(f"there is no architecture {architecture!r}; did you mean {hint}?")


def find_architecture(name: str) -> Architecture:
    """Return an architecture, ours or another package's; this imports Keras.

    Examples
    --------
    >>> find_architecture("ResNet-50").parameters()["hidden_units"]
    128
    """
    return ARCHITECTURES.get(canonical_name(name))


def build_network(
    architecture: str,
    *,
    input_shape: tuple[int | None, int | None, int],
    n_classes: int,
    weights: str | Path | None = None,
    **parameters: Any,
) -> keras.Model:
    """Build a network for images of a shape and a number of classes.

    Parameters
    ----------
    architecture : str
        Any way of writing one of `list_architectures`.
    input_shape : tuple of (int or None)
        Height and width in pixels (None for any, where the architecture allows it) and number of
        channels.
    n_classes : int
        Number of classes, at least 2.
    weights : str, path or None
        ``"imagenet"``, a file ``.weights.h5`` or ``.keras`` of the backbone, or None for random
        ones. Pretrained backbones are widened to the number of channels and, unless
        ``train_backbone=True``, are not changed by training.
    **parameters
        Those of the architecture, see `Architecture.parameters`.

    Returns
    -------
    keras.Model
        Prepared images ``(N, Y, X, C)`` float32 to probabilities ``(N, n_classes)`` float32. Feed
        it what `default_preprocessing` makes, given the same `weights`.

    Raises
    ------
    ArchitectureError
        If there is no such architecture, or it cannot be built so.
    DownloadError
        If weights were to be fetched and could not be.

    Examples
    --------
    >>> network = build_network("seed-cnn", input_shape=(32, 32, 1), n_classes=4)
    >>> network.output_shape
    (None, 4)
    """
    found = find_architecture(architecture)
    _check_request(found.name, input_shape, n_classes)
    accepted = found.parameters()
    unknown = sorted(set(parameters) - set(accepted))
    if unknown:
        raise ArchitectureError(
            f"{found.name} has no parameter {', '.join(unknown)}; its parameters are: "
            f"{', '.join(accepted) or 'none'}"
        )
    for name, value in parameters.items():
        _check_number(found.name, name, value, accepted[name])
    settings = {**accepted, **parameters}
    if found.pretrained:
        settings["weights"] = None if weights is None else str(weights)
    elif weights is not None:
        raise ArchitectureError(
            f"{found.name} has no pretrained weights, but weights={str(weights)!r} was received; "
            "give weights=None"
        )
    try:
        return found.build(input_shape, n_classes, **settings)
    except ArchitectureError:
        raise
    except (TypeError, ValueError) as error:
        # An architecture is anybody's code, and so are the values of its parameters.
        given = ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "its own"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ArchitectureError(
            f"{found.name} cannot be built with {given} ({reason}); correct its parameters"
        ) from error


def architecture_version(name: str) -> int:
    """Return the version of an architecture; it changes when `build` makes another network."""
    return find_architecture(name).version


def default_preprocessing(
    architecture: str,
    channels: Sequence[ChannelSpec],
    *,
    weights: str | Path | None = "imagenet",
) -> Preprocessing:
    """Choose size and normalisation for an architecture.

    With pretrained `weights`, three required channels are taken for photographs and normalised as
    the weights' authors did; otherwise the architecture's own normalisation is taken.

    Examples
    --------
    >>> from napari_cellclf.core.channels import ChannelSpec
    >>> prepare = default_preprocessing("seed-cnn", [ChannelSpec(name="w2 ConA")])
    >>> prepare.size, prepare.normalization.kind
    ((512, 512), 'scale_linear')
    """
    from napari_cellclf.core.preprocessing import Preprocessing

    found = find_architecture(architecture)
    normalization = found.normalization()
    if weights is not None and len(channels) == 3 and all(one.required for one in channels):
        normalization = found.photograph_normalization() or normalization
    return Preprocessing(
        channels=tuple(channels), size=found.default_size, normalization=normalization
    )


def weights_origin(architecture: str, weights: str | Path | None, channels: int) -> str | None:
    """Describe the origin of a network's initial weights, for the record in a bundle.

    Examples
    --------
    >>> weights_origin("efficientnet-lite0", "imagenet", 6)[:45]
    'efficientnet-lite0: ImageNet, in this package'
    """
    if weights is None:
        return None
    found = find_architecture(architecture)
    if weights == "imagenet":
        source = found.pretrained
    else:
        path = Path(weights)
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        source = f"file {path.name}, SHA-256 {digest}"
    widened = (
        f"; first convolution widened from 3 to {channels} channels by averaging, input rescaled "
        "from unit variance to the range of photographs"
    )
    return f"{found.name}: {source}{'' if channels == 3 else widened}"


def _key(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.lower())


def _check_number(architecture: str, name: str, value: object, default: object) -> None:
    """Refuse text, true, false and nothing for a parameter whose default is a number."""
    if type(default) in (int, float) and isinstance(value, bool | str | None):
        raise ArchitectureError(
            f"{architecture} cannot be built with {name}={value!r}; give a number, such as "
            f"{default}"
        )


def _check_request(name: str, input_shape: Sequence[object], n_classes: object) -> None:
    sides = tuple(input_shape)
    whole = all(isinstance(side, int) and side > 0 for side in sides if side is not None)
    if len(sides) != 3 or sides[-1] is None or not whole:
        raise ArchitectureError(
            f"{name} received input_shape={sides}; give height, width (or None) and the number of "
            "channels, such as (224, 224, 3)"
        )
    if not isinstance(n_classes, int) or not 2 <= n_classes <= _MOST_CLASSES:
        raise ArchitectureError(
            f"{name} received n_classes={n_classes!r}; a classifier needs at least 2 classes"
        )
