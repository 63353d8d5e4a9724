"""Which augmentations there are, and how strong each is.

This does not import Keras, so that presets load quickly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.core.validation import refuse_truth_value
from napari_cellclf.errors import TrainingError

if TYPE_CHECKING:
    import keras

Strength = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(BaseModel):
    """The strength of each augmentation; 0 turns it off.

    Units are those of prepared pixels, that is standard deviations of a channel.

    Parameters
    ----------
    flips : bool or {'horizontal', 'vertical'}
        Random flips; True along both axes. Turn it off where left and right differ, as in embryos
        whose criteria are at fixed positions.
    rotation : float
        Largest angle as a fraction of a full turn, in both directions; 0.5 is any angle.
    shift : float
        Largest shift along each axis as a fraction of the image.
    zoom : float
        Largest logarithm of the magnification; 0.22 is 0.8 to 1.25.
    gaps : float
        Probability that patches of a crop are set to the background, as if fewer cells grew there.
    bleed_through : float
        Largest fraction of a neighbouring channel that is added to a channel.
    sharpness : float
        Largest fraction of a 5x5 blur that is added (out of focus) or subtracted (sharper).
    defocus : float
        Largest fraction of a broad blur (deviation 2.2 pixels) that is added.
    illumination : float
        Standard deviation of the logarithm of a smooth uneven illumination.
    haze : float
        Standard deviation of a smooth additive background.
    gamma : float
        Largest logarithm of the exponent of the intensity curve.
    gain : float
        Standard deviation of the logarithm of a channel's contrast.
    offset : float
        Standard deviation of a channel's brightness.
    noise : float
        Largest standard deviation of pixel noise.
    grey_steps : float
        Largest distance between grey levels: dim 8-bit images have few of them.
    channel_dropout : float
        Probability that one channel, any but those of `drop_together`, is blanked.
    channel_subset : float
        Probability that only a random subset of the channels, of any number, is kept.
    cutout : float
        Probability that a rectangle is blanked (random erasing, Zhong et al., AAAI 2020).
    cutout_area : float
        Largest fraction of the crop that such a rectangle covers.
    drop_together : tuple of int
        Channels that are often missing together.
    drop_together_probability : float
        Probability that these are blanked.
    extra : mapping of str to float
        Strengths, from 0 to 1, of augmentations of other packages, by name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    flips: bool | Literal["horizontal", "vertical"] = True
    rotation: float = Field(default=0.5, ge=0, le=0.5)
    shift: float = Field(default=0.0, ge=0, le=1)
    zoom: float = Field(default=0.22, ge=0, le=1)
    gaps: float = Field(default=0.25, ge=0, le=1)
    bleed_through: float = Field(default=0.2, ge=0, le=1)
    sharpness: float = Field(default=0.9, ge=0, le=1)
    defocus: float = Field(default=0.0, ge=0, le=1)
    illumination: float = Field(default=0.25, ge=0, le=1)
    haze: float = Field(default=0.2, ge=0, le=2)
    gamma: float = Field(default=0.5, ge=0, le=1.5)
    gain: float = Field(default=0.2, ge=0, le=1)
    offset: float = Field(default=0.2, ge=0, le=2)
    noise: float = Field(default=0.2, ge=0, le=2)
    grey_steps: float = Field(default=0.4, ge=0, le=2)
    channel_dropout: float = Field(default=0.2, ge=0, le=1)
    channel_subset: float = Field(default=0.0, ge=0, le=1)
    cutout: float = Field(default=0.0, ge=0, le=1)
    cutout_area: float = Field(default=0.2, gt=0.02, lt=1)
    drop_together: tuple[int, ...] = ()
    drop_together_probability: float = Field(default=0.5, ge=0, le=1)
    extra: dict[str, Strength] = {}

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_truth_value(value, cls.model_fields[str(info.field_name)].annotation)

    @field_validator("extra")
    @classmethod
    def _known(cls, extra: dict[str, float]) -> dict[str, float]:
        known = AUGMENTATIONS.foreign_names()
        for name in extra:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise ValueError(f"no augmentation {name!r} is installed; installed: {listed}")
        return extra

    @classmethod
    def off(cls, **strengths: Any) -> AugmentationConfig:
        """Return a configuration with only the named augmentations.

        Parameters
        ----------
        **strengths
            Fields and their values.

        Returns
        -------
        AugmentationConfig
            All other strengths are zero.

        Examples
        --------
        >>> AugmentationConfig.off(rotation=0.1).varies
        ('rotation',)
        """
        none = dict.fromkeys(_STRENGTHS, 0) | {"flips": False, "drop_together_probability": 0}
        return cls(**(none | strengths))

    @property
    def varies(self) -> tuple[str, ...]:
        """Names of the augmentations that are on."""
        own = tuple(name for name in ("flips", *_STRENGTHS) if getattr(self, name))
        return own + tuple(name for name, strength in self.extra.items() if strength)

    def strength(self, name: str) -> Any:
        """Return the strength of an augmentation, by the name of a field or in `extra`.

        Returns
        -------
        float, bool, str or tuple
            0, or something else that is false, where it is turned off.
        """
        own = name in type(self).model_fields
        return getattr(self, name) if own else self.extra.get(name, 0.0)

    def scaled(self, factor: float) -> AugmentationConfig:
        """Return a configuration that is stronger or weaker as a whole.

        Parameters
        ----------
        factor : float
            0 turns everything but flips off, 1 changes nothing.

        Returns
        -------
        AugmentationConfig
            Each strength multiplied, up to its largest value.
        """
        most = {name: _largest(name) for name in _STRENGTHS}
        changed = {n: min(getattr(self, n) * factor, most[n]) for n in _STRENGTHS}
        extra = {name: min(strength * factor, 1.0) for name, strength in self.extra.items()}
        return self.model_copy(update=changed | {"extra": extra})


#: Everything that has a strength.
_STRENGTHS = (
    "rotation",
    "shift",
    "zoom",
    "gaps",
    "bleed_through",
    "sharpness",
    "defocus",
    "illumination",
    "haze",
    "gamma",
    "gain",
    "offset",
    "noise",
    "grey_steps",
    "channel_dropout",
    "channel_subset",
    "cutout",
)


def _largest(name: str) -> float:
    limits = (getattr(rule, "le", None) for rule in AugmentationConfig.model_fields[name].metadata)
    return float(next(limit for limit in limits if limit is not None))


@dataclass(frozen=True)
class Augmentation:
    """An augmentation of training images; offer one in ``napari_cellclf.augmentations``.

    Parameters
    ----------
    name : str
        The name of the entry point, and of the strength in `AugmentationConfig.extra`.
    order : int
        Augmentations are applied in this order: geometry has 10 to 40, what grows in the field 50,
        light 60 and 70, the lens 80, the camera 90 and 100, missing channels and parts 110 and 120.
    make : callable
        Takes the `AugmentationConfig` and a seed, and returns a ``keras.layers.Layer`` that takes
        and gives prepared pixels, float32 ``(N, Y, X, C)``, and varies them only if called with
        ``training=True``. `PixelLayer` is a base for such a layer.
    strengths : tuple of str
        What it reads of the configuration; it is left out where all of these are zero. By default
        its name.

    Examples
    --------
    >>> AUGMENTATIONS.get("flips").is_wanted(AugmentationConfig.off(flips=True))
    True
    """

    name: str
    order: int
    make: Callable[[AugmentationConfig, int], keras.layers.Layer]
    strengths: tuple[str, ...] = ()

    def is_wanted(self, config: AugmentationConfig) -> bool:
        """Whether a configuration turns it on.

        Returns
        -------
        bool
            Whether any of its strengths is not zero.
        """
        return any(config.strength(name) for name in self.strengths or (self.name,))


AUGMENTATIONS = ExtensionPoint[Augmentation](
    "napari_cellclf.augmentations", "augmentation", TrainingError, Augmentation
)
