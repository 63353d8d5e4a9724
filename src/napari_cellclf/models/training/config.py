"""The configuration of a run: every setting with its default."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from napari_cellclf.core.metrics import METRICS
from napari_cellclf.core.normalization import AnyNormalization, parse_normalization
from napari_cellclf.core.objects import ObjectCrop
from napari_cellclf.core.preprocessing import MOST_SIDE
from napari_cellclf.core.tta import Views
from napari_cellclf.core.validation import parse_toml, refuse_truth_value
from napari_cellclf.errors import InputError, NormalizationError
from napari_cellclf.models.augmentation.config import AugmentationConfig

Scalar = bool | int | float | str | None
Name = Annotated[str, Field(min_length=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
#: What `precision` comes to.
Settled = Literal["float32", "bfloat16", "float16"]
#: Of epochs and steps: more than anybody will wait for.
_MOST_STEPS = 10**6
#: In pixels; augmentation blurs over 5 of them.
_LEAST_SIDE = 8


class TrainingConfig(BaseModel):
    """All settings of a run.

    Training has up to two stages. In the first, `head_epochs`, the backbone is frozen: its features
    of each image are computed once, and only the last layers are trained. In the second, `epochs`,
    the whole network is trained on augmented images.

    Parameters
    ----------
    architecture : str
        Name in the registry of architectures.
    parameters : mapping
        Parameters of the architecture, such as ``{"dropout": 0.3}``.
    weights : str, optional
        ``"imagenet"``, a file of the backbone's weights, or None to start from random ones.
    continue_from : str, optional
        A bundle whose network is trained further; new classes are added. Replaces `architecture`,
        `parameters`, `weights` and everything about pixels.
    channels : tuple of str, optional
        The channels that the network uses, in order; all channels of the images by default.
    optional_channels : tuple of str
        Channels that an image may lack. Augmentation blanks them together, so that the network
        learns to work without them.
    centre : float
        Fraction of each image's height and width, in its centre, that is used; 1 is all of it. Less
        is for images cropped to one cell each, which then fills more of the network's pixels.
    object_crop : ObjectCrop, {'auto'}, optional
        How objects are cut out of their images; ``auto`` is a square of twice their usual size
        where rows are objects, and nothing for whole images.
    size : tuple of int, {'auto', 'own'}
        Height and width that images are resized to, in pixels; ``auto`` is the architecture's,
        ``own`` keeps each image's own.
    normalization : Normalization or {'auto', 'fixed'}
        How pixels are brought to the network's range; ``auto`` is the architecture's, ``fixed``
        takes mean and deviation of the training images.
    fixed_rotations : tuple of float
        Angles in degrees; each training image is also used rotated by each of them.
    rotation_frame : {'keep', 'grow'}
        Whether rotated corners are cut off, or the frame grows to hold the whole image.
    augmentation : AugmentationConfig
        How training images are augmented in the second stage.
    crop : int, optional
        Side of random crops in pixels in the second stage; None trains on whole images.
    balance : {'none', 'class-weights', 'oversample', 'equal-numbers'}
        What to do where classes have different numbers of images: nothing; give rare classes more
        weight; use their images more often; or use only as many of each as of the rarest.
    head_epochs : int
        Epochs of the first stage; 0 skips it.
    head_learning_rate : float
        Its largest learning rate.
    epochs : int
        Epochs of the second stage; 0 skips it.
    learning_rate : float
        Its largest learning rate.
    steps_per_epoch : int, optional
        Batches per epoch of the second stage; None for as many as use each image once.
    batch_size : int
        Images in a batch.
    optimizer : {'adamw', 'adam', 'sgd'}
        SGD has a Nesterov momentum of 0.9.
    weight_decay : float
        Of AdamW (Loshchilov and Hutter, ICLR 2019).
    schedule : {'cosine', 'constant'}
        What the learning rate does after its warm-up.
    warmup : float
        Fraction of a stage's steps in which the learning rate rises from a hundredth.
    label_smoothing : float
        Fraction of the label that is spread over all classes, against overconfidence.
    ordinal_smoothing : float
        For ordered classes: standard deviation, in classes, of the Gaussian over which the label is
        spread, since neighbouring stages look alike. 0 is off.
    mixup : float
        Strength of mixing pairs of images and their labels (Zhang et al., ICLR 2018). 0 is off.
    ema : float
        Momentum of a running mean of the weights, which is validated and kept; 0 is off.
    semi_supervised : {'none', 'pseudo-label', 'sgan'}
        How images without labels are used in the second stage. ``pseudo-label``: where the network
        is confident of one, that class is the label of its augmented view. ``sgan``: a second
        network learns to draw images, which the network learns to tell from real ones.
    unlabelled : str, optional
        Those images: a folder, or a table of paths. Images of held-out groups are left out.
    finetune_depth : float
        Fraction of the backbone, counted from its end, that the second stage trains.
    finetune_statistics : bool
        Whether its batch normalisations adapt to the new images.
    early_stopping : int
        Epochs without improvement on the validation images after which a stage ends; 0 is off. The
        best weights are kept in any case, if there are validation images.
    monitor : str
        The metric that chooses the best weights on the validation images: any installed one that
        needs only predictions, such as ``"loss"`` or ``"balanced_accuracy"``.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
        Of the computations; ``auto`` is bfloat16 on GPUs that have it, and on processors that have
        it where a run finds it to be faster for its network, at the same loss.
    views : {'one', 'flips', 'all'}
        How many views of each image the finished model averages: the image itself, also flipped
        (4), or also transposed (8). Each view costs one prediction.
    devices : {'one', 'all'}
        Whether each batch is distributed over all GPUs.
    top_k : tuple of int
        The values of k for which the report gives the top-k accuracy.
    seed : int
        Start of all random numbers.
    reproducible : bool
        Makes the same seed give the same weights, even if the run is stopped or killed in between;
        some operations are slower then.
    checkpoint_seconds : float
        Longest time between two checkpoints; one is also written where a stage begins and ends.

    Examples
    --------
    >>> config = TrainingConfig(architecture="resnet50", weights="imagenet", head_epochs=10)
    >>> config.epochs, TrainingConfig.model_validate_json(config.model_dump_json()) == config
    (30, True)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = "compact-cnn"
    parameters: dict[str, Scalar | list[Scalar]] = {}
    weights: str | None = None
    continue_from: str | None = None
    channels: tuple[Name, ...] | None = Field(default=None, min_length=1)
    optional_channels: tuple[Name, ...] = ()
    centre: float = Field(default=1.0, gt=0, le=1)
    object_crop: ObjectCrop | Literal["auto"] | None = "auto"
    size: tuple[int, int] | Literal["auto", "own"] = "auto"
    normalization: AnyNormalization | Literal["auto", "fixed"] = "auto"
    fixed_rotations: tuple[Finite, ...] = ()
    rotation_frame: Literal["keep", "grow"] = "keep"
    augmentation: AugmentationConfig = AugmentationConfig.off()
    crop: int | None = Field(default=None, ge=_LEAST_SIDE)
    balance: Literal["none", "class-weights", "oversample", "equal-numbers"] = "none"
    head_epochs: int = Field(default=0, ge=0, le=_MOST_STEPS)
    head_learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    epochs: int = Field(default=30, ge=0, le=_MOST_STEPS)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    steps_per_epoch: int | None = Field(default=None, ge=1, le=_MOST_STEPS)
    batch_size: int = Field(default=32, ge=1, le=1 << 16)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ordinal_smoothing: float = Field(default=0.0, ge=0, le=10)
    mixup: float = Field(default=0.0, ge=0, le=10)
    ema: float = Field(default=0.0, ge=0, lt=1)
    semi_supervised: Literal["none", "pseudo-label", "sgan"] = "none"
    unlabelled: Name | None = None
    finetune_depth: float = Field(default=1.0, gt=0, le=1)
    finetune_statistics: bool = True
    early_stopping: int = Field(default=0, ge=0)
    monitor: str = "loss"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    views: Views = "one"
    devices: Literal["one", "all"] = "one"
    top_k: tuple[Annotated[int, Field(ge=1)], ...] = (1, 3, 6)
    seed: int = Field(default=0, ge=0, lt=1 << 32)
    reproducible: bool = False
    checkpoint_seconds: float = Field(default=60.0, gt=0, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth_value(cls, value: Any, info: ValidationInfo) -> Any:
        return refuse_truth_value(value, cls.model_fields[str(info.field_name)].annotation)

    @field_validator("size", mode="before")
    @classmethod
    def _is_a_size(cls, size: Any) -> Any:
        named = isinstance(size, str) and size in ("auto", "own")
        sides = list(size) if isinstance(size, list | tuple) else []
        if named or (
            len(sides) == 2 and all(type(s) is int and _LEAST_SIDE <= s <= MOST_SIDE for s in sides)
        ):
            return size
        raise ValueError(
            f"{size!r} is not a height and a width; give two whole numbers from {_LEAST_SIDE} to "
            f"{MOST_SIDE}, auto, or own"
        )

    @field_validator("normalization", mode="before")
    @classmethod
    def _as_typed(cls, value: Any) -> Any:
        """Take what people type for a normalisation, such as ``percentile:1,99.5``, too."""
        if not isinstance(value, str) or value in ("auto", "fixed"):
            return value
        try:
            return parse_normalization(value)
        except NormalizationError as error:
            raise ValueError(f"{error}, auto, or fixed") from error

    @field_validator("channels", "optional_channels")
    @classmethod
    def _are_different(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = [name for name in names or () if (names or ()).count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} is named twice; name each channel once")
        return names

    @field_validator("monitor")
    @classmethod
    def _can_decide(cls, monitor: str) -> str:
        try:
            needs = METRICS.get(monitor).needs
        except InputError as error:
            raise ValueError(str(error)) from error
        if needs:
            raise ValueError(
                f"the metric {monitor!r} needs more than predictions ({', '.join(needs)}); monitor "
                "another one, such as loss"
            )
        return monitor

    @model_validator(mode="after")
    def _objects_as_they_are(self) -> TrainingConfig:
        if isinstance(self.object_crop, ObjectCrop):
            if self.centre != 1:
                raise ValueError("an object is cut out by object_crop alone; leave centre at 1")
            if self.fixed_rotations:
                raise ValueError(
                    "fixed_rotations turn whole images; for objects use augmentation.rotation"
                )
        return self

    @model_validator(mode="after")
    def _trains_at_all(self) -> TrainingConfig:
        if not self.head_epochs and not self.epochs:
            raise ValueError("epochs and head_epochs are both 0; train for at least one epoch")
        return self

    @model_validator(mode="after")
    def _can_use_unlabelled(self) -> TrainingConfig:
        kind, weights = self.semi_supervised, self.weights or self.continue_from
        if kind == "none" and self.unlabelled is not None:
            raise ValueError(
                "images without labels are used only if semi_supervised says how; set it to "
                "pseudo-label or sgan, or leave unlabelled out"
            )
        if kind == "none":
            return self
        if self.unlabelled is None:
            raise ValueError(f"{kind} needs images without labels; set unlabelled to their folder")
        if not self.epochs:
            raise ValueError(f"{kind} trains the whole network; set epochs to 1 or more")
        if kind == "pseudo-label" and not self.augmentation.varies:
            raise ValueError(
                "pseudo-label compares each image with its augmented view; switch on at least one "
                "augmentation"
            )
        if kind == "sgan" and (weights or self.head_epochs or self.devices == "all"):
            raise ValueError(
                "sgan trains from random weights on one device; set weights to none, head_epochs "
                "to 0 and devices to one, continue no model, or use pseudo-label"
            )
        return self

    def changed(self, **fields: Any) -> TrainingConfig:
        """Return a validated copy with other values.

        Parameters
        ----------
        **fields
            Fields and their new values.

        Returns
        -------
        TrainingConfig
            A new one.

        Raises
        ------
        ValidationError
            If a value is out of its range.
        """
        return TrainingConfig.model_validate(self.model_dump() | fields)


def parse_value(text: str) -> Any:
    """Read a value as TOML where it is, else as text.

    Examples
    --------
    >>> parse_value("0.1"), parse_value("[32, 32]"), parse_value("none"), parse_value("null")
    (0.1, [32, 32], 'none', None)
    """
    if text == "null":
        return None
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError:
        # Also a whole number of thousands of digits, which no setting takes.
        return text
