"""What is searched: ranges around a configuration, and what a choice in them means for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig

#: Searched whatever is asked for.
ALWAYS = ("learning_rate", "batch_size")
#: All that can be searched.
SEARCHED = (*ALWAYS, "dropout", "finetune_depth", "augmentation")

Choice = Mapping[str, float | int]

#: Learning rates up to so many times smaller and larger than the configuration's.
_RATE_FACTOR = 10.0
_BATCH_FACTORS = (0.25, 0.5, 1, 2)
_LEAST_BATCH = 2
_MOST_DROPOUT = 0.7
_LEAST_DEPTH = 0.1
#: Augmentation twice as strong as the configuration's.
_MOST_AUGMENTATION = 2.0


class Between(BaseModel):
    """Any number in a range."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What is chosen.
    name: str
    #: The configuration's own.
    start: float
    low: float
    high: float
    #: Whether factors are searched evenly instead of differences.
    log: bool = False


class OneOf(BaseModel):
    """One of a few whole numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What is chosen.
    name: str
    #: The configuration's own.
    start: int
    #: In order.
    choices: tuple[int, ...]


Range = Between | OneOf


def search_space(
    config: TrainingConfig, names: Iterable[str], n_training: int
) -> tuple[Range, ...]:
    """Make the ranges that are searched around a configuration."""
    wanted = {*ALWAYS, *names}
    unknown = sorted(wanted - set(SEARCHED))
    if unknown:
        raise InputError(f"{unknown[0]!r} cannot be searched; choose among {', '.join(SEARCHED)}")
    ranges: list[Range] = [*_rates(config), _batches(config, n_training)]
    if "dropout" in wanted:
        ranges.append(_dropout(config))
    if "finetune_depth" in wanted:
        ranges.append(_depth(config))
    if "augmentation" in wanted:
        ranges.append(_augmentation(config))
    return tuple(ranges)


def configuration(config: TrainingConfig, choice: Choice) -> TrainingConfig:
    """Return a configuration with what was chosen.

    Examples
    --------
    >>> from napari_cellclf.models.training.config import TrainingConfig
    >>> config = TrainingConfig(batch_size=32, steps_per_epoch=40)
    >>> configuration(config, {"batch_size": 16, "learning_rate": 0.01}).steps_per_epoch
    80
    """
    fields = dict(choice)
    changes: dict[str, object] = {}
    if "dropout" in fields:
        changes["parameters"] = config.parameters | {"dropout": fields.pop("dropout")}
    if "augmentation" in fields:
        changes["augmentation"] = config.augmentation.scaled(
            fields.pop("augmentation")
        ).model_dump()
    if config.steps_per_epoch is not None and "batch_size" in fields:
        seen = config.steps_per_epoch * config.batch_size
        changes["steps_per_epoch"] = max(1, round(seen / fields["batch_size"]))
    return config.changed(**fields, **changes)


def _rates(config: TrainingConfig) -> list[Between]:
    found = []
    for name, epochs in (
        ("head_learning_rate", config.head_epochs),
        ("learning_rate", config.epochs),
    ):
        if epochs:
            rate = getattr(config, name)
            low, high = rate / _RATE_FACTOR, rate * _RATE_FACTOR
            found.append(Between(name=name, start=rate, low=low, high=high, log=True))
    return found


def _batches(config: TrainingConfig, n_training: int) -> OneOf:
    own = config.batch_size
    sizes = {round(own * factor) for factor in _BATCH_FACTORS}
    sizes = {size for size in sizes if _LEAST_BATCH <= size <= n_training} | {own}
    return OneOf(name="batch_size", start=own, choices=tuple(sorted(sizes)))


def _dropout(config: TrainingConfig) -> Between:
    from napari_cellclf.models.architectures.registry import find_architecture

    if config.continue_from is not None:
        raise InputError(
            "dropout cannot be searched while training goes on from a model, whose network stays "
            "as it was built; leave it out"
        )
    taken = dict(find_architecture(config.architecture).parameters()) | config.parameters
    own = taken.get("dropout")
    if not isinstance(own, int | float):
        raise InputError(
            f"the architecture {config.architecture} has no dropout to search; leave it out"
        )
    return Between(name="dropout", start=own, low=0, high=max(_MOST_DROPOUT, own))


def _depth(config: TrainingConfig) -> Between:
    knows = config.weights is not None or config.continue_from is not None
    if not config.epochs or not (knows or config.head_epochs):
        raise InputError(
            "finetune_depth can be searched where a network that has learned before is fine-tuned; "
            "give --weights imagenet and epochs of at least 1, or leave it out"
        )
    own = config.finetune_depth
    return Between(name="finetune_depth", start=own, low=min(_LEAST_DEPTH, own), high=1)


def _augmentation(config: TrainingConfig) -> Between:
    if not config.epochs or not set(config.augmentation.varies) - {"flips"}:
        raise InputError(
            "augmentation can be searched where images are varied by more than flips in epochs of "
            "the whole network; choose such a preset, or leave it out"
        )
    return Between(name="augmentation", start=1, low=0, high=_MOST_AUGMENTATION)
