"""From the arguments of a command to the settings of a training."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig

_DIRECT = ("batch_size", "continue_from")


@dataclass(frozen=True)
class Settings:
    """A preset with the changes that the command line asks for."""

    #: Its name.
    preset: str
    #: Every choice.
    config: TrainingConfig


def chosen_settings(args: argparse.Namespace) -> Settings:
    """Put preset and changes together, and tell the reader of data what the preset keeps."""
    from napari_cellclf.models.training.presets import choose_preset, make_config

    preset = choose_preset(args.preset, args.architecture)
    fields = preset.fields_for(args.architecture)
    overrides: dict[str, Any] = {"seed": args.seed}
    if args.weights is not None:
        overrides["weights"] = None if args.weights == "none" else args.weights
    for name in _DIRECT:
        if getattr(args, name) is not None:
            overrides[name] = getattr(args, name)
    # Of a preset that only trains a head, these mean the head.
    prefix = "" if fields.get("epochs", 1) else "head_"
    for name in ("epochs", "learning_rate"):
        if getattr(args, name) is not None:
            overrides[prefix + name] = getattr(args, name)
    overrides |= dict(args.set)
    args.every = args.every or preset.data.get("every", 1)
    # Without a range of the preset's, the naming scheme has one.
    args.minutes = args.minutes or (tuple(preset.data.get("minutes", ())) or None)
    return Settings(preset.name, make_config(fields, overrides))


def parse_setting(text: str) -> tuple[str, Any]:
    """Read ``key=value``, the value as TOML where it is, else as text.

    Examples
    --------
    >>> parse_setting("augmentation.rotation=0.1"), parse_setting("architecture=resnet50")
    (('augmentation.rotation', 0.1), ('architecture', 'resnet50'))
    """
    from napari_cellclf.models.training.config import parse_value

    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form KEY=VALUE")
    return key, parse_value(value)
