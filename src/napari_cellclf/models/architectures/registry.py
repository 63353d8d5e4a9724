"""The networks that can be trained, by name.

Listing them loads no Keras, so that the command line and the widgets can do it at once; building
one does. Names are compared without regard to case, hyphens and underscores.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.errors import ArchitectureError
from napari_cellclf.models.architectures.names import (
    FETCHED,
    OWN,
    canonical_name,
    list_architectures,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras

    from napari_cellclf.core.channels import ChannelSpec
    from napari_cellclf.core.preprocessing import Preprocessing

__all__ = [
    "ArchitectureInfo",
    "architecture_info",
    "build_network",
    "default_preprocessing",
    "list_architectures",
]

_PACKAGE = "napari_cellclf.models.architectures"
_MOST_CLASSES = 100_000


@dataclass(frozen=True)
class ArchitectureInfo:
    """What there is to know of an architecture before building it."""

    #: The name it is known by.
    name: str
    #: One sentence.
    description: str
    #: What `build_network` takes for it beyond shape, classes and weights, with defaults.
    parameters: Mapping[str, Any]
    #: Height and width in pixels that images are resized to; None keeps each image's own size.
    default_size: tuple[int, int] | None
    #: Whether it can be built for images of any size, ``(None, None, C)``.
    any_size: bool
    #: Where weights that it can start from come from; None if there are none.
    pretrained: str | None


# The Drosophila project put two dense layers, 128 and one per class, on ResNet50.
_HEADS: Mapping[str, Mapping[str, Any]] = {"resnet50": {"hidden_units": 128}}


def architecture_info(name: str) -> ArchitectureInfo:
    """Describe an architecture; this loads Keras.

    Examples
    --------
    >>> architecture_info("ResNet-50").parameters["hidden_units"]
    128
    """
    name = canonical_name(name)
    parameters = {key: value for key, value in _parameters(name).items() if key != "weights"}
    if name in OWN:
        own = OWN[name]
        return ArchitectureInfo(
            name, own.description, parameters, own.default_size, own.any_size, own.pretrained
        )
    applications = importlib.import_module(f"{_PACKAGE}.applications")
    return ArchitectureInfo(
        name,
        f"{name} of keras.applications with a head for these classes",
        parameters,
        default_size=applications.default_size(name),
        any_size=True,
        pretrained=FETCHED,
    )


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
        ones. Pretrained backbones are widened to the number of channels (see `stems`) and, unless
        ``train_backbone=True``, are not changed by training.
    **parameters
        Those that `architecture_info` names.

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
    name = canonical_name(architecture)
    _check_request(name, input_shape, n_classes)
    accepted = _parameters(name)
    unknown = sorted(set(parameters) - set(accepted) - {"weights"})
    if unknown:
        known = ", ".join(key for key in accepted if key != "weights") or "none"
        raise ArchitectureError(
            f"{name} has no parameter {', '.join(unknown)}; its parameters are: {known}"
        )
    defaults = dict(_HEADS.get(name, {}))
    if "weights" in accepted:
        defaults["weights"] = None if weights is None else str(weights)
    elif weights is not None:
        raise ArchitectureError(
            f"{name} has no pretrained weights, but weights={str(weights)!r} was received; "
            "give weights=None"
        )
    return _builder(name)(input_shape, n_classes, **(defaults | parameters))


def default_preprocessing(
    architecture: str,
    channels: Sequence[ChannelSpec],
    *,
    weights: str | Path | None = "imagenet",
) -> Preprocessing:
    """Choose size and normalisation for an architecture.

    Examples
    --------
    >>> from napari_cellclf.core.channels import ChannelSpec
    >>> prepare = default_preprocessing("seed-cnn", [ChannelSpec(name="w2 ConA")])
    >>> prepare.size, prepare.normalization.kind
    ((512, 512), 'scale_linear')
    """
    from napari_cellclf.core.normalization import ScaleLinear, ZeroMeanUnitVariance
    from napari_cellclf.core.preprocessing import Preprocessing

    info = architecture_info(architecture)
    photographs = len(channels) == 3 and all(channel.required for channel in channels)
    normalization: Any = ZeroMeanUnitVariance()
    if info.name == "seed-cnn":
        normalization = ScaleLinear()
    elif info.pretrained and weights is not None and photographs:
        normalization = _photograph_normalization(info.name)
    return Preprocessing(
        channels=tuple(channels), size=info.default_size, normalization=normalization
    )


def _builder(name: str) -> Callable[..., keras.Model]:
    if name in OWN:
        builder = importlib.import_module(f"{_PACKAGE}.{OWN[name].module}").build
    else:
        builder = partial(importlib.import_module(f"{_PACKAGE}.applications").build, name)
    return builder  # type: ignore[no-any-return]


def _parameters(name: str) -> dict[str, Any]:
    signature = inspect.signature(_builder(name)).parameters.values()
    defaults = {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY}
    return defaults | dict(_HEADS.get(name, {}))


def _photograph_normalization(name: str) -> Any:
    module = importlib.import_module(
        f"{_PACKAGE}.{OWN[name].module if name in OWN else 'applications'}"
    )
    return module.NORMALIZATION if name in OWN else module.imagenet_normalization(name)


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
