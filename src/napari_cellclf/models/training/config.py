"""How a classifier is trained: every choice, with its default, in one record."""

from __future__ import annotations

import tomllib
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from napari_cellclf.core.metrics import METRICS
from napari_cellclf.core.normalization import AnyNormalization
from napari_cellclf.core.tta import Views
from napari_cellclf.errors import InputError
from napari_cellclf.models.augmentation.config import AugmentationConfig

Scalar = bool | int | float | str | None


class TrainingConfig(BaseModel):
    """Every choice of a training.

    A training has up to two stages. In the first, `head_epochs`, the backbone is frozen: each
    image goes through it once, and only the last layers learn. In the second, `epochs`, the whole
    network learns from augmented images.

    Parameters
    ----------
    architecture : str
        Name in the registry of architectures.
    parameters : mapping
        What the architecture is built with, such as ``{"dropout": 0.3}``.
    weights : str, optional
        ``"imagenet"``, a file of the backbone's weights, or None to start from random ones.
    continue_from : str, optional
        A bundle whose network is trained on; classes that it does not know are added. Takes the
        place of `architecture`, `parameters`, `weights` and everything about pixels.
    channels : tuple of str, optional
        Which channels the network sees, in order; all that the images have if left out.
    optional_channels : tuple of str
        Those that an image may lack. The network must learn to do without them: augmentation
        blanks them together.
    centre : float
        Part of each image's height and width, in its middle, that is looked at; 1 is all of it.
        Less is for images cut around one cell each: the same number of pixels shows more of it.
    size : tuple of int, {'auto', 'own'}
        Height and width that images are resized to, in pixels; ``auto`` is the architecture's,
        ``own`` keeps each image's own.
    normalization : Normalization or {'auto', 'fixed'}
        How pixels are brought to the network's range; ``auto`` is the architecture's, ``fixed``
        takes mean and deviation of the training images.
    fixed_rotations : tuple of float
        Degrees by which each training image is also seen, turned before it is resized.
    rotation_frame : {'keep', 'grow'}
        Whether corners are cut off, or the frame grows until it holds the turned image.
    augmentation : AugmentationConfig
        How training images are varied in the second stage.
    crop : int, optional
        Side of random crops in pixels in the second stage; None trains on whole images.
    balance : {'none', 'class-weights', 'oversample', 'equal-numbers'}
        What is done where classes have different numbers of images: nothing; rare classes weigh
        more; their images are seen more often; or only as many of each as of the rarest are used.
    head_epochs : int
        Epochs of the first stage; 0 leaves it out.
    head_learning_rate : float
        Its largest learning rate.
    epochs : int
        Epochs of the second stage; 0 leaves it out.
    learning_rate : float
        Its largest learning rate.
    steps_per_epoch : int, optional
        Batches in an epoch of the second stage; None for as many as see each image once.
    batch_size : int
        Images in a batch.
    optimizer : {'adamw', 'adam', 'sgd'}
        SGD has a Nesterov momentum of 0.9.
    weight_decay : float
        Of AdamW (Loshchilov and Hutter, ICLR 2019).
    schedule : {'cosine', 'constant'}
        What the learning rate does after its warm-up.
    warmup : float
        Part of a stage's steps in which the rate rises from a hundredth.
    label_smoothing : float
        Part of the truth that is shared among all classes, against overconfidence.
    ordinal_smoothing : float
        For ordered classes: deviation, in classes, of the bell over which the truth is spread,
        since neighbouring stages look alike. 0 is off.
    mixup : float
        Strength of mixing pairs of images and their labels (Zhang et al., ICLR 2018). 0 is off.
    ema : float
        The weights that are judged and kept are a running mean with this momentum; 0 is off.
    finetune_depth : float
        Part of the backbone, counted from its end, that the second stage changes.
    finetune_statistics : bool
        Whether its batch normalisations follow the new images.
    early_stopping : int
        Epochs without a better validation after which a stage ends; 0 never does. The best
        weights are kept in any case, where there is a validation.
    monitor : str
        What "better" means, on the validation images: any installed metric that needs nothing but
        predictions, such as ``"loss"`` or ``"balanced_accuracy"``.
    precision : {'auto', 'float32', 'bfloat16', 'float16'}
        Of the computations; ``auto`` is bfloat16 on GPUs that have it.
    views : {'one', 'flips', 'all'}
        From how many sides the finished model looks at each image: as it is, also mirrored (4), or
        also transposed (8). The answers are averaged; each side costs one prediction.
    devices : {'one', 'all'}
        Whether a batch is shared among all GPUs.
    top_k : tuple of int
        Which "among the k most probable" the report counts.
    seed : int
        Start of all random numbers.
    reproducible : bool
        Makes the same seed give the same weights, also through stops and kills; some operations
        are slower then.
    checkpoint_seconds : float
        At least so often the state of the training is written; also where a stage begins and ends.

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
    channels: tuple[str, ...] | None = Field(default=None, min_length=1)
    optional_channels: tuple[str, ...] = ()
    centre: float = Field(default=1.0, gt=0, le=1)
    size: tuple[int, int] | Literal["auto", "own"] = "auto"
    normalization: AnyNormalization | Literal["auto", "fixed"] = "auto"
    fixed_rotations: tuple[float, ...] = ()
    rotation_frame: Literal["keep", "grow"] = "keep"
    augmentation: AugmentationConfig = AugmentationConfig.off()
    crop: int | None = Field(default=None, ge=8)
    balance: Literal["none", "class-weights", "oversample", "equal-numbers"] = "none"
    head_epochs: int = Field(default=0, ge=0)
    head_learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    epochs: int = Field(default=30, ge=0)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=32, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(default=1e-3, ge=0, allow_inf_nan=False)
    schedule: Literal["cosine", "constant"] = "cosine"
    warmup: float = Field(default=0.1, ge=0, lt=1)
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    ordinal_smoothing: float = Field(default=0.0, ge=0, le=10)
    mixup: float = Field(default=0.0, ge=0, le=10)
    ema: float = Field(default=0.0, ge=0, lt=1)
    finetune_depth: float = Field(default=1.0, gt=0, le=1)
    finetune_statistics: bool = True
    early_stopping: int = Field(default=0, ge=0)
    monitor: str = "loss"
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    views: Views = "one"
    devices: Literal["one", "all"] = "one"
    top_k: tuple[int, ...] = (1, 3, 6)
    seed: int = Field(default=0, ge=0)
    reproducible: bool = False
    checkpoint_seconds: float = Field(default=60.0, gt=0)

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
    def _trains_at_all(self) -> TrainingConfig:
        if not self.head_epochs and not self.epochs:
            raise ValueError("epochs and head_epochs are both 0; train for at least one epoch")
        return self

    def changed(self, **fields: Any) -> TrainingConfig:
        """Return a configuration with other values, checked again.

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
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
