"""From what stands in the form to the settings of a training: no napari, no Qt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from napari_cellclf.errors import CellclfError
from napari_cellclf.plugin.shared.explain import sentence
from napari_cellclf.plugin.shared.refusal import Refusal

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.models.training.presets import Preset


@dataclass(frozen=True)
class ModelEntries:
    """What stands in the form; empty texts leave the preset's."""

    #: Name of a preset.
    preset: str
    architecture: str = ""
    epochs: str = ""
    batch_size: str = ""
    learning_rate: str = ""
    #: A bundle.
    continue_from: str = ""
    #: Advanced settings: the name of each, as after ``--set``, and its value as typed.
    advanced: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class ModelSettings:
    """Checked settings."""

    #: Where they come from.
    preset: str
    #: All of them.
    config: TrainingConfig
    #: The arguments of ``cellclf train`` that say the same.
    arguments: tuple[str, ...] = field(default=())

    @property
    def changed(self) -> bool:
        """Whether anything is not as in the preset."""
        return len(self.arguments) > len(("--preset", self.preset))


@dataclass(frozen=True)
class Usual:
    """What a preset does if nothing is entered."""

    architecture: str
    epochs: str
    batch_size: str
    learning_rate: str


def usual(preset: Preset) -> Usual:
    """Say what a preset does."""
    from napari_cellclf.models.training.presets import make_config

    config = make_config(preset.config)
    head = not config.epochs
    return Usual(
        config.architecture,
        str(config.head_epochs if head else config.epochs),
        str(config.batch_size),
        f"{config.head_learning_rate if head else config.learning_rate:g}",
    )


def settle(entries: ModelEntries, seed: int = 0) -> ModelSettings | Refusal:
    """Check what was entered."""
    from napari_cellclf.models.training.config import parse_value
    from napari_cellclf.models.training.presets import find_preset, make_config

    try:
        architecture = entries.architecture.strip() or None
        fields = find_preset(entries.preset).fields_for(architecture)
        overrides: dict[str, Any] = {"seed": seed}
        # Of a preset that only trains a head, epochs and rate mean the head's.
        prefix = "" if fields.get("epochs", 1) else "head_"
        arguments = ["--preset", entries.preset]
        if architecture is not None:
            arguments += ["--architecture", architecture]
        for option, key, text in (
            ("--epochs", f"{prefix}epochs", entries.epochs),
            ("--batch-size", "batch_size", entries.batch_size),
            ("--learning-rate", f"{prefix}learning_rate", entries.learning_rate),
            ("--continue-from", "continue_from", entries.continue_from),
        ):
            if text.strip():
                overrides[key] = text.strip()
                arguments += [option, text.strip()]
        for key, text in entries.advanced:
            overrides[key] = parse_value(text)
            arguments += ["--set", f"{key}={text}"]
        return ModelSettings(entries.preset, make_config(fields, overrides), tuple(arguments))
    except CellclfError as error:
        return Refusal(sentence(str(error)))
