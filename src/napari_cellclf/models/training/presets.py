"""Ready-made configurations, each a readable file with reasons; imports no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from napari_cellclf.core.image import RGB_NAMES, Image
from napari_cellclf.core.validation import parse_toml, reason_of
from napari_cellclf.errors import InputError
from napari_cellclf.io.regular_files import read_regular
from napari_cellclf.models.architectures.base import ARCHITECTURES
from napari_cellclf.models.architectures.registry import canonical_name
from napari_cellclf.models.training.config import TrainingConfig

_SUFFIX = ".toml"
#: Of a preset's file.
_MOST_BYTES = 1 << 22
DEFAULT_PRESET = "fluorescence"
#: What is taken instead where rows are objects.
OBJECTS_PRESET = "objects"
#: How to train a network that was pretrained on photographs.
_TRANSFER = "brightfield-rgb"
#: Images of at most so many pixels a side show one cell each.
_CELL_SIDE = 96


@dataclass(frozen=True)
class Preset:
    """A named configuration."""

    #: What `load_preset` takes.
    name: str
    title: str
    description: str
    #: The fields of `TrainingConfig` that it sets.
    config: Mapping[str, Any]
    #: Which images it uses: `every` and `minutes`, as for `read_dataset`.
    data: Mapping[str, Any] = field(default_factory=dict)

    def fields_for(self, architecture: str | None) -> dict[str, Any]:
        """Return its fields for another architecture."""
        fields = dict(self.config)
        if architecture is not None and canonical_name(architecture) != self.architecture:
            fields.pop("parameters", None)
            fields["architecture"] = canonical_name(architecture)
        return fields

    @property
    def architecture(self) -> str:
        """The architecture that it is made for."""
        return canonical_name(self.config.get("architecture", "compact-cnn"))


@cache
def list_presets() -> tuple[Preset, ...]:
    """List the presets of this package.

    Returns
    -------
    tuple of Preset
        In alphabetical order.

    Examples
    --------
    >>> [preset.name for preset in list_presets()][:2]
    ['brightfield-cells', 'brightfield-rgb']
    """
    folder = files("napari_cellclf") / "resources" / "presets"
    found = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(_SUFFIX))
    return tuple(
        _parse(name.removesuffix(_SUFFIX), (folder / name).read_text(encoding="utf-8"))
        for name in found
    )


def find_preset(name: str) -> Preset:
    """Find a preset."""
    if name.endswith(_SUFFIX):
        try:
            text = read_regular(Path(name), _MOST_BYTES).decode("utf-8")
            return _parse(Path(name).stem, text)
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                f"the preset {name} cannot be read ({error}); check the path"
            ) from error
    known = {preset.name: preset for preset in list_presets()}
    if name not in known:
        raise InputError(
            f"there is no preset {name!r}; choose one of {', '.join(known)}, or give a .toml file"
        )
    return known[name]


def choose_preset(name: str | None, architecture: str | None, *, objects: bool = False) -> Preset:
    """Choose the preset for a preset's or an architecture's name; the default if neither is given.

    `objects`: whether rows are objects.

    Examples
    --------
    >>> choose_preset(None, "vgg16").name
    'brightfield-rgb'
    """
    if name is not None:
        return find_preset(name)
    usual = OBJECTS_PRESET if objects else DEFAULT_PRESET
    if architecture is None:
        return find_preset(usual)
    found = canonical_name(architecture)
    # Whether one of another package has pretrained weights is not known before Keras is imported.
    from_scratch = {"compact-cnn", *ARCHITECTURES.foreign_names()}
    if found in from_scratch:
        return find_preset(usual)
    transfer = "stained-objects" if objects else _TRANSFER
    return find_preset("rxrx1-seed" if found == "seed-cnn" else transfer)


def suggest_preset(image: Image, *, ordered: bool = False, objects: bool = False) -> str:
    """Choose the preset that suits images like this one.

    `ordered`: whether the classes lie on a scale. `objects`: whether each row is an object.

    Examples
    --------
    >>> import numpy as np
    >>> suggest_preset(Image(np.zeros((40, 40, 3), "uint8"), "YXS"))
    'brightfield-rgb'
    >>> suggest_preset(Image(np.zeros((2, 40, 40), "uint16"), "CYX"))
    'single-cells'
    """
    if ordered:
        return "embryo-stages"
    in_colour = tuple(image.channels)[:3] == RGB_NAMES[:3]
    if objects:
        return "stained-objects" if in_colour else OBJECTS_PRESET
    if in_colour:
        return _TRANSFER
    if max(image.height_width) <= _CELL_SIDE:
        return "single-cells"
    return DEFAULT_PRESET


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> TrainingConfig:
    """Make the configuration of a preset.

    Parameters
    ----------
    name : str
        As for `find_preset`.
    overrides : mapping of str to object, optional
        Fields to change; those inside `augmentation` and `parameters` with a dot, such as
        ``{"augmentation.rotation": 0.1}``.

    Returns
    -------
    TrainingConfig
        Validated.

    Raises
    ------
    InputError
        If there is no such preset, or a field or value is invalid.

    Examples
    --------
    >>> load_preset("fluorescence", {"epochs": 3, "augmentation.flips": False}).epochs
    3
    """
    return make_config(find_preset(name).config, overrides)


def make_config(
    config: Mapping[str, Any], overrides: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Make a configuration from fields and overrides."""
    fields: dict[str, Any] = {key: _copied(value) for key, value in config.items()}
    for path, value in (overrides or {}).items():
        _put(fields, path, value)
    try:
        return TrainingConfig.model_validate(fields)
    except ValidationError as error:
        raise InputError(f"{reason_of(error)}; see the settings in the documentation") from error


def _put(fields: dict[str, Any], path: str, value: Any) -> None:
    *above, last = path.split(".")
    inside = fields
    for name in above:
        found = inside.setdefault(name, {})
        if not isinstance(found, dict):
            raise InputError(f"{path} cannot be set, since {name} is {found!r}; set {name} itself")
        inside = found
    inside[last] = value


def _copied(value: Any) -> Any:
    return {key: _copied(one) for key, one in value.items()} if isinstance(value, dict) else value


def _parse(name: str, text: str) -> Preset:
    try:
        found = parse_toml(text)
    except ValueError as error:
        raise InputError(f"the preset {name} is not valid TOML ({error}); correct it") from error
    extra = set(found) - {"title", "description", "config", "data"}
    config, data = found.get("config"), found.get("data", {})
    if extra or not isinstance(config, dict) or not isinstance(data, dict):
        raise InputError(
            f"the preset {name} must hold title, description and a table [config]; correct it"
        )
    title, description = str(found.get("title", name)), str(found.get("description", ""))
    return Preset(name, title, description, config, data)
