"""The names of the architectures, found without loading Keras."""

from __future__ import annotations

import ast
import difflib
import importlib.util
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from napari_cellclf.errors import ArchitectureError


@dataclass(frozen=True)
class OwnArchitecture:
    """An architecture written out in this package."""

    module: str
    description: str
    default_size: tuple[int, int] | None
    any_size: bool = True
    pretrained: str | None = None


OWN = {
    "compact-cnn": OwnArchitecture(
        "compact_cnn",
        "a small network with global pooling, for any image size and any channels: the default",
        default_size=None,
    ),
    "seed-cnn": OwnArchitecture(
        "seed_cnn",
        "two convolutions and two dense layers on a fixed size, 130 million parameters at 512",
        default_size=(512, 512),
        any_size=False,
    ),
    "efficientnet-lite0": OwnArchitecture(
        "efficientnet_lite0",
        "a network of 3.4 million parameters pretrained on photographs, weights in this package",
        default_size=(224, 224),
        pretrained="ImageNet, in this package (Apache-2.0)",
    ),
}
#: Where the weights of `keras.applications` come from.
FETCHED = "ImageNet, as Keras publishes them, fetched when first used"


def list_architectures() -> list[str]:
    """List the names of all architectures, without loading Keras.

    Examples
    --------
    >>> names = list_architectures()
    >>> names[0], "resnet50" in names, "vgg16" in names
    ('compact-cnn', True, True)
    """
    return [*OWN, *_application_names()]


def canonical_name(architecture: str) -> str:
    """Find the name that an architecture is known by.

    Examples
    --------
    >>> canonical_name("EfficientNet_Lite0")
    'efficientnet-lite0'
    """
    names = {_key(name): name for name in list_architectures()}
    key = _key(str(architecture))
    if key in names:
        return names[key]
    close = [names[match] for match in difflib.get_close_matches(key, names, n=3)]
    hint = " or ".join(close) if close else f"one of {', '.join(OWN)}, resnet50, vgg16, ..."
    raise ArchitectureError(f"there is no architecture {architecture!r}; did you mean {hint}?")


def _key(name: str) -> str:
    return re.sub(r"[-_\s]", "", name.lower())


@lru_cache(maxsize=1)
def _application_names() -> tuple[str, ...]:
    """Read Keras's own list of its applications, its source, without importing it."""
    spec = importlib.util.find_spec("keras")
    if spec is None or not spec.submodule_search_locations:
        return ()
    source = Path(spec.submodule_search_locations[0], "applications", "__init__.py")
    imports = [
        node
        for node in ast.parse(source.read_text("utf-8")).body
        if isinstance(node, ast.ImportFrom)
    ]
    names = {alias.asname or alias.name for node in imports for alias in node.names}
    # Its modules are in lower case, its networks begin with a capital.
    return tuple(sorted(name.lower() for name in names if name[0].isupper()))
