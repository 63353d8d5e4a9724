"""Normalisations: the ways to bring pixels to the range a network was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from napari_cellclf.core.counting import counted
from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.core.normalization_forms import FORMS
from napari_cellclf.errors import NormalizationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Float = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_PLANE = ["y", "x"]


class Normalization(BaseModel):
    """A normalisation: a frozen record of all its numbers, told apart by its `kind`.

    A package adds one by an entry point in the group ``napari_cellclf.normalizations``, whose name
    is the `kind`. A subclass declares ``kind: Literal["..."] = "..."``, fields for its numbers
    (those without a default with ``Field(examples=...)`` for two channels), and at least
    `__call__`.

    Parameters
    ----------
    kind : str
        What it is called in a bundle.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str

    #: What people type, such as ``"percentile:LOW,HIGH"``, and what it means. The word before the
    #: colon chooses the normalisation.
    forms: ClassVar[Mapping[str, str]] = {}
    #: Whether the normalised values lie in 0 to 1, for networks that want to know.
    unit_range: ClassVar[bool] = False
    #: Whether the numbers depend on which value is white (255 for 8 bits).
    needs_white: ClassVar[bool] = False

    @property
    def needs_every_channel(self) -> bool:
        """Whether an image without one of the channels cannot be normalised."""
        return False

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise one plane.

        Parameters
        ----------
        pixels : ndarray, shape (Y, X, C), float32
            In the units of the file; not to be changed.
        dtype : dtype
            That the file had.

        Returns
        -------
        ndarray, shape (Y, X, C), float32
            Normalised; a channel without contrast must not become infinite or NaN.
        """
        raise NotImplementedError

    @classmethod
    def parse(cls, word: str, numbers: str) -> Self:
        """Make one from what people type.

        Parameters
        ----------
        word : str
            Before the colon.
        numbers : str
            Behind it; empty without a colon.

        Returns
        -------
        Normalization
            With all its numbers.

        Raises
        ------
        ValueError
            If the numbers are not those of one of `forms`.
        """
        if numbers:
            raise ValueError(numbers)
        return cls.model_validate({})

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write it as preprocessing steps of the bioimage.io model specification 0.5.

        Parameters
        ----------
        full : float
            The value that stands for white.
        n_channels : int
            Channels of the network.

        Returns
        -------
        list of dict
            Steps for float32 pixels, as ``{"id": ..., "kwargs": {...}}``. What the specification
            has no words for is written by `write_onnx`.

        Raises
        ------
        NormalizationError
            By default.
        """
        raise NormalizationError(
            f"normalisation {self.kind!r} does not say how it is written for bioimage.io; export "
            "the model in another format"
        )

    def write_onnx(self, scope: Any, image: Any) -> Any:
        """Write what `bioimageio_steps` cannot say, as the first operators of the ONNX graph.

        Parameters
        ----------
        scope : napari_cellclf.models.export.onnx.graph.Scope
            Adds operators and constants.
        image : napari_cellclf.models.export.onnx.graph.Value
            ``(N, Y, X, C)`` float32, after the steps.

        Returns
        -------
        napari_cellclf.models.export.onnx.graph.Value
            What the network is fed; by default the image itself.
        """
        return image

    def neutral(self, full: float, n_channels: int) -> list[float]:
        """Return the value of each channel that becomes zero, to fill in for one that is missing.

        Parameters
        ----------
        full : float
            The value that stands for white.
        n_channels : int
            Channels of the network.

        Returns
        -------
        list of float
            In the units of the file.
        """
        return [0.0] * n_channels


#: Every normalisation that is installed, ours first.
NORMALIZATIONS: ExtensionPoint[type[Normalization]] = ExtensionPoint(
    "napari_cellclf.normalizations",
    "normalisation",
    NormalizationError,
    Normalization,
    of_classes=True,
)


def _of_its_kind(value: Any) -> Any:
    """Validate a mapping by the class that its `kind` names."""
    if isinstance(value, Normalization) or not isinstance(value, Mapping):
        return value
    kind = value.get("kind")
    if not isinstance(kind, str):
        raise ValueError("a normalisation needs a kind, such as 'zero_mean_unit_variance'")
    try:
        found = NORMALIZATIONS.get(kind)
    except NormalizationError as error:
        raise ValueError(str(error)) from error
    return found.model_validate(value)


#: A field that holds a normalisation of any installed kind.
AnyNormalization = Annotated[
    SerializeAsAny[Normalization],
    BeforeValidator(_of_its_kind),
    WithJsonSchema(
        {"type": "object", "properties": {"kind": {"type": "string"}}, "required": ["kind"]}
    ),
]


def parse_normalization(text: str) -> Normalization:
    """Read a normalisation from one word, with its numbers after a colon.

    Parameters
    ----------
    text : str
        One of `typed_forms`.

    Returns
    -------
    Normalization
        With all its numbers.

    Raises
    ------
    NormalizationError
        If it is not one of them; the message lists them.

    Examples
    --------
    >>> parse_normalization("percentile:1,99.5")
    Percentile(kind='percentile', low=1.0, high=99.5)
    >>> parse_normalization("min_max") == parse_normalization("percentile:0,100")
    True
    """
    word, _, numbers = text.strip().partition(":")
    for name in NORMALIZATIONS.names():
        found = NORMALIZATIONS.get(name)
        forms = [form for form in found.forms or (name,) if form.partition(":")[0] == word]
        if forms:
            try:
                return found.parse(word, numbers)
            except (ValueError, KeyError, ValidationError) as error:
                raise NormalizationError(
                    f"normalisation {text!r} has numbers that it does not take; give "
                    f"{' or '.join(forms)}"
                ) from error
    raise NormalizationError(
        f"{text!r} is not a normalisation; give one of {', '.join(typed_forms())}"
    )


def typed_forms() -> dict[str, str]:
    """Return what can be typed for every installed normalisation, and what it means."""
    installed = {
        form: meaning
        for name, found in NORMALIZATIONS.all().items()
        for form, meaning in (found.forms or {name: ""}).items()
    }
    # Ours as they are ordered for reading, the most used first.
    return {**FORMS, **installed}


def _forms(*words: str) -> dict[str, str]:
    return {form: text for form, text in FORMS.items() if form.partition(":")[0] in words}


class ZeroMeanUnitVariance(Normalization):
    """Subtract the mean and divide by the standard deviation, per image and channel.

    The default for fluorescence: gain, exposure and bit depth of the camera cancel out, which is
    what makes a network hold on a batch it has not seen.

    Parameters
    ----------
    epsilon : float
        A channel whose standard deviation is at most `epsilon` times its largest absolute value
        is constant up to rounding and becomes zeros.
    """

    kind: Literal["zero_mean_unit_variance"] = "zero_mean_unit_variance"
    epsilon: Positive = 1e-6

    forms: ClassVar = _forms("zero_mean_unit_variance")

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels."""
        # In float64: the variance of 16-bit pixels around a large mean cancels in float32.
        values = pixels.astype(np.float64)
        values -= values.mean(axis=(0, 1))
        spread = values.std(axis=(0, 1))
        floor = self.epsilon * np.abs(pixels).max(axis=(0, 1)).astype(np.float64)
        flat = spread <= floor
        values /= np.where(flat, 1.0, spread)
        values[..., flat] = 0.0
        return values.astype(np.float32)

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write it in float64, as here."""
        return [
            _step("ensure_dtype", dtype="float64"),
            _step("zero_mean_unit_variance", axes=_PLANE),
        ]


class Percentile(Normalization):
    """Stretch each channel between two of its percentiles to 0..1, and clip.

    Parameters
    ----------
    low, high : float
        Percentiles that become 0 and 1.
    """

    kind: Literal["percentile"] = "percentile"
    low: float = Field(default=1.0, ge=0, lt=100)
    high: float = Field(default=99.5, gt=0, le=100)

    forms: ClassVar = _forms("percentile", "min_max")
    unit_range: ClassVar = True

    @model_validator(mode="after")
    def _ordered(self) -> Percentile:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        return self

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels; a channel without spread becomes zeros."""
        low, high = np.percentile(pixels, (self.low, self.high), axis=(0, 1)).astype(np.float32)
        spread = np.where(high > low, high - low, 1)
        stretched = np.clip((pixels - low) / spread, 0, 1)
        return np.where(high > low, stretched, 0).astype(np.float32)

    @classmethod
    def parse(cls, word: str, numbers: str) -> Self:
        """Read ``percentile:LOW,HIGH``, or ``min_max``."""
        if word == "min_max":
            if numbers:
                raise ValueError(numbers)
            return cls(low=0, high=100)
        low, high = map(float, numbers.split(","))
        return cls(low=low, high=high)

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write it as a stretch that is clipped."""
        stretch = {"min_percentile": self.low, "max_percentile": self.high}
        return [_step("scale_range", axes=_PLANE, **stretch), _step("clip", min=0.0, max=1.0)]


class ScaleLinear(Normalization):
    """Divide by the largest value of the pixel type, multiply by `factor`, saturate at 1.

    With factor 1 this is the usual "divide by 255"; with 6 or 7 it brightens the dark embryo
    images. Floating-point pixels must lie in 0..1.

    Parameters
    ----------
    factor : float
        Brightening after the division.
    eight_bit : bool
        First drop 16-bit pixels to their upper 8 bits (``raw >> 8``), as files published in
        8 bits were made, so that both forms give the same numbers.
    """

    kind: Literal["scale_linear"] = "scale_linear"
    factor: Positive = 1.0
    eight_bit: bool = False

    forms: ClassVar = _forms("scale_linear")
    unit_range: ClassVar = True
    needs_white: ClassVar = True

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels to 0..1."""
        full = full_scale(pixels, dtype)
        if self.eight_bit:
            steps = (full + 1) / 256 if full > 255 else full / 255
            pixels, full = np.floor(pixels / np.float32(steps)), 255.0
        return np.asarray(np.clip(pixels * np.float32(self.factor / full), 0, 1), np.float32)

    @classmethod
    def parse(cls, word: str, numbers: str) -> Self:
        """Read ``scale_linear``, ``scale_linear:255`` or ``scale_linear:xN``."""
        # The white of 8 and of 16 bits say no more than the word alone; as factors they would turn
        # nearly every pixel white.
        if numbers in ("", "255", "65535"):
            return cls()
        if not numbers.startswith("x"):
            raise ValueError(numbers)
        return cls(factor=float(numbers[1:]))

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write it as a gain that is clipped."""
        steps = []
        if self.eight_bit:
            # Casting to whole numbers drops what is behind the point.
            steps = _gain((256 if full > 255 else 255) / (full + (full > 255)))
            steps.append(_step("ensure_dtype", dtype="uint16"))
            steps.append(_step("ensure_dtype", dtype="float32"))
            full = 255.0
        return [*steps, *_gain(self.factor / full), _step("clip", min=0.0, max=1.0)]


class Fixed(Normalization):
    """Subtract and divide by numbers measured once, on the training images only.

    Parameters
    ----------
    mean, std : tuple of float
        One for each channel, in the units of the file.
    """

    kind: Literal["fixed"] = "fixed"
    mean: tuple[Float, ...] = Field(min_length=1, examples=[(120.0, 80.0)])
    std: tuple[Positive, ...] = Field(min_length=1, examples=[(30.0, 25.0)])

    forms: ClassVar = _forms("fixed")

    @model_validator(mode="after")
    def _same_length(self) -> Fixed:
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means were given for {len(self.std)} deviations")
        return self

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels."""
        _check_count(len(self.mean), pixels.shape[-1], self.kind)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.asarray((pixels - mean) / std, np.float32)

    @classmethod
    def parse(cls, word: str, numbers: str) -> Self:
        """Read ``fixed:MEAN/STD,...``."""
        pairs = [tuple(map(float, pair.split("/"))) for pair in numbers.split(",")]
        means, spreads = zip(*((mean, spread) for mean, spread in pairs), strict=True)
        return cls(mean=means, std=spreads)

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write its numbers."""
        return [_fixed_step(self.mean, self.std)]

    def neutral(self, full: float, n_channels: int) -> list[float]:
        """Return the means."""
        return list(self.mean)


class ImageNet(Normalization):
    """What a backbone pretrained on ImageNet photographs expects, as plain numbers.

    Pixels are brought to 0..255 by the range of their type, `mean` is subtracted, `std` divides.

    Parameters
    ----------
    mean, std : tuple of float
        For red, green and blue, in 0..255. An image of another number of channels takes their
        average for every channel.
    bgr : bool
        Whether the network wants blue first. Only applied to images of three channels.
    """

    kind: Literal["imagenet"] = "imagenet"
    mean: tuple[Float, Float, Float] = (127.5, 127.5, 127.5)
    std: tuple[Positive, Positive, Positive] = (127.5, 127.5, 127.5)
    bgr: bool = False

    forms: ClassVar = _forms("imagenet")
    needs_white: ClassVar = True

    @property
    def needs_every_channel(self) -> bool:
        """Blue cannot be put first where a channel may be missing."""
        return self.bgr

    def __call__(self, pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> NDArray[np.float32]:
        """Normalise ``(Y, X, C)`` pixels."""
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        if pixels.shape[-1] != len(mean):
            mean, std = mean.mean(), std.mean()
        scaled = (pixels * np.float32(255 / full_scale(pixels, dtype)) - mean) / std
        flipped = scaled[..., ::-1] if self.bgr and scaled.shape[-1] == 3 else scaled
        return np.ascontiguousarray(flipped, np.float32)

    @classmethod
    def parse(cls, word: str, numbers: str) -> Self:
        """Read ``imagenet:`` and one of Keras's modes."""
        return cls.model_validate(_KERAS_MODES[numbers])

    def bioimageio_steps(self, full: float, n_channels: int) -> list[dict[str, Any]]:
        """Write all but the order of the channels."""
        mean, std = self._per_channel(n_channels)
        return [*_gain(255 / full), _fixed_step(mean, std)]

    def write_onnx(self, scope: Any, image: Any) -> Any:
        """Put blue first."""
        if not self.bgr or image.shape[-1] != 3:
            return image
        order = scope.constant("blue_first", [2, 1, 0], np.int64)
        return scope.each("Gather", image, order, axis=3)

    def neutral(self, full: float, n_channels: int) -> list[float]:
        """Return the means in the units of the file."""
        return [mean * full / 255 for mean in self._per_channel(n_channels)[0]]

    def _per_channel(self, n_channels: int) -> tuple[list[float], list[float]]:
        if n_channels == 3:
            return list(self.mean), list(self.std)
        return [float(np.mean(self.mean))] * n_channels, [float(np.mean(self.std))] * n_channels


#: Mean and standard deviation of ImageNet's training photographs (0..255), averaged over red,
#: green and blue: (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225) times 255, the numbers that
#: Keras's and torchvision's "torch" preprocessing state.
PHOTOGRAPH_MEAN = 255 * (0.485 + 0.456 + 0.406) / 3
PHOTOGRAPH_STD = 255 * (0.229 + 0.224 + 0.225) / 3


def photograph_range(normalization: ImageNet, unit_range: bool = False) -> tuple[float, float]:
    """Find the scale and offset from prepared pixels to those that a network was pretrained on.

    `unit_range`: whether prepared pixels lie in 0 to 1; else they have zero mean and unit variance.

    Examples
    --------
    >>> scale, offset = photograph_range(ImageNet(mean=(0, 0, 0), std=(1, 1, 1)))
    >>> round(scale, 1), round(offset, 1)
    (57.6, 114.5)
    """
    mean, std = np.mean(normalization.mean), np.mean(normalization.std)
    if unit_range:
        return float(255 / std), float(-mean / std)
    return float(PHOTOGRAPH_STD / std), float((PHOTOGRAPH_MEAN - mean) / std)


_KERAS_MODES: dict[str, dict[str, Any]] = {
    "tf": {},
    "torch": {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)},
    "caffe": {"mean": (123.68, 116.779, 103.939), "std": (1, 1, 1), "bgr": True},
    "raw": {"mean": (0, 0, 0), "std": (1, 1, 1)},
}


def full_scale(pixels: NDArray[np.float32], dtype: np.dtype[Any]) -> float:
    """Return the value that stands for white in pixels of a type.

    `pixels`: the pixels, looked at only if they are floating-point numbers.
    """
    if dtype.kind in "iu":
        return float(np.iinfo(dtype).max)
    low, high = float(pixels.min()), float(pixels.max())
    # Resizing may overshoot 0 and 1 by rounding.
    if low < -1e-3 or high > 1 + 1e-3:
        raise NormalizationError(
            f"floating-point pixels from {low:g} to {high:g} have no known white; rescale them "
            "to 0..1 or keep the camera's integers"
        )
    return 1.0


def _check_count(wanted: int, received: int, kind: str) -> None:
    if wanted != received:
        raise NormalizationError(
            f"normalisation {kind!r} holds numbers for {counted(wanted, 'channel')}, but "
            f"{counted(received, 'was', 'were')} "
            "received; use the channels that the model was trained on"
        )


def _step(name: str, **kwargs: Any) -> dict[str, Any]:
    return {"id": name, "kwargs": kwargs}


def _fixed_step(mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    return _step("fixed_zero_mean_unit_variance", mean=list(mean), std=list(std), axis="channel")


def _gain(gain: float) -> list[dict[str, Any]]:
    # The specification refuses a scaling that changes nothing.
    return [] if gain == 1 else [_step("scale_linear", gain=float(gain))]
