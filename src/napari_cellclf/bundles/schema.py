"""What `bundle.json` says of a trained model: a versioned schema without room for typos."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from napari_cellclf.core.calibration import SET_COVERAGE, Calibration
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.normalization import ImageNet
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.tta import Views

if TYPE_CHECKING:
    from napari_cellclf.core.unlikeness import Unlikeness

#: Raised when a change would make older versions of this package misread a bundle.
FORMAT_VERSION: Literal[1] = 1

#: Numbers of one image that a network is given: 2048 x 2048 pixels in eight channels. On the way
#: there are some copies of each.
MAX_INPUT = 1 << 25
#: Numbers that one layer may make of one image (0.5 GiB in float32), and all together.
MAX_NUMBERS = 1 << 27
MAX_ALL_NUMBERS = 1 << 32
#: Multiplications for one image: about a minute of two processor cores.
MAX_OPERATIONS = 1 << 41
#: What an image of open size is taken to have, in pixels along a side.
OPEN_SIDE = 256

#: What a network may give besides probabilities, which are its first output: the names of the
#: other outputs of ``model.onnx``, in their order. Features are ``(N, F)``, a map ``(N, C, h, w)``.
Extra = Literal["features", "feature_map"]
EXTRAS: tuple[Extra, ...] = get_args(Extra)

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

SEAL = "spec_sha256"
#: The hashes of the other files prove themselves; the seal cannot contain itself.
_UNSEALED = ("files", SEAL)

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=10_000)]

#: A path from a root, from the home or from a folder above, without its last name.
_FOLDERS = re.compile(
    r"""(?<![\w.:/\\~-])                                # not inside a word or an address
    (?:file:/+(?=\S)|~[\w.-]*[\\/]|\.{1,2}[\\/]|[A-Za-z]:[\\/]+|\\\\(?=\S)|/(?=[^\s/]))
    (?:(?:(?![,;][ ]|[ ][.~]|[A-Za-z]:[\\/])[^\\/\n])*(?<![ ])[\\/]+)*""",
    re.VERBOSE,
)


def names_only(text: str) -> str:
    """Leave only the last name of each path: the others tell of somebody's computer.

    Examples
    --------
    >>> names_only("4 images below /data/jane/my data/plate 1, labelled by kind")
    '4 images below plate 1, labelled by kind'
    >>> names_only("https://zenodo.org/records/1 and/or C:/Users/jane/x.csv")
    'https://zenodo.org/records/1 and/or x.csv'
    """
    # What is left may look like a path again; read twice, a text says the same.
    while (shorter := _FOLDERS.sub("", text)) != text:
        text = shorter
    return text


#: Texts that older versions wrote whole paths into, and that are passed on with a model.
NamesOnly = Annotated[Text, AfterValidator(names_only)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=1 << 16)]
JsonScalar = bool | int | Finite | str | None
Role = Literal["train", "validation", "test", "leave-one-group-out"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputSpec(_Part):
    """What the network is fed, and how it is made from an image."""

    #: Always ``"YXC"``, with the batch in front.
    axes: Literal["YXC"] = "YXC"
    #: Always ``"float32"``.
    dtype: Literal["float32"] = "float32"
    #: From an image to that array, with all its numbers.
    preprocessing: Preprocessing
    #: The smallest height and width, in pixels, that the network can take; None if `preprocessing`
    #: makes every image the same size.
    minimum_size: tuple[int, int] | None = None
    #: From how many sides each image is looked at; the answers are averaged.
    views: Views = "one"
    #: The channel that a lone grey image without a name is taken for, where nobody says which it
    #: is; None for a model that needs to be told.
    single_channel: str | None = None

    @model_validator(mode="after")
    def _single_channel_suffices(self) -> InputSpec:
        if self.single_channel is None:
            return self
        if self.single_channel not in self.channels:
            raise ValueError(f"single_channel {self.single_channel!r} is not one of the channels")
        others = (c for c in self.preprocessing.channels if c.name != self.single_channel)
        if any(channel.required for channel in others):
            raise ValueError("single_channel is for models that can do without all others")
        return self

    @model_validator(mode="after")
    def _bounded(self) -> InputSpec:
        numbers = math.prod(self.preprocessing.size or ()) * len(self.preprocessing.channels)
        if numbers > MAX_INPUT:
            raise ValueError(f"makes {numbers} numbers of one image; limit {MAX_INPUT}")
        return self

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels, in the network's order."""
        return tuple(channel.name for channel in self.preprocessing.channels)


class ArchitectureSpec(_Part):
    """Which network it is."""

    #: Name in the registry of architectures.
    name: str = Field(min_length=1, max_length=100)
    #: Of that architecture; another version may build another network.
    version: int = Field(default=1, ge=1)
    #: What it was built with.
    parameters: dict[str, JsonScalar | list[JsonScalar]] = {}
    #: Height, width (None for any) and channels that it was built for.
    input_shape: tuple[Side | None, Side | None, Side] | None = None
    #: Whether it was built as for pretrained weights, for which pixels are scaled otherwise.
    as_pretrained: bool = False
    #: The layers of a network that no architecture builds, as Keras describes them; they are
    #: compared with the list of allowed layers before Keras sees them.
    layers: dict[str, Any] | None = None
    #: Where its first weights came from, None if they were random.
    pretrained: NamesOnly | None = None
    #: Number of weights.
    n_parameters: int | None = Field(default=None, ge=0)


class BackboneSpec(_Part):
    """A frozen network in an ONNX file that is not in the bundle, and is known by its hash."""

    #: Under which it is added, such as ``"dinov2-vits14"``.
    name: str = Field(pattern=NAME_PATTERN)
    #: Of the file.
    sha256: Sha256
    title: str = Field(default="", max_length=200)
    #: Where the file comes from, in words or as an address.
    source: Text = ""
    licence: Text = ""
    #: Height and width of the images that it is given, in pixels.
    size: tuple[Side, Side]
    #: Channels of the images that it is given.
    n_inputs: int = Field(ge=1, le=64)
    #: Whether channels are the last axis of its input; else they are the second.
    channels_last: bool = False
    #: Whether each channel is given by itself, and the features of all are put one after the
    #: other. So it is, too, with images of another number of channels than `n_inputs`.
    one_channel: bool = False
    #: The name of the output that features are taken from: features, a map of them, or tokens of
    #: which the first is taken.
    output: str = Field(min_length=1, max_length=200)
    #: How many features it makes of an image that it is given.
    n_features: int = Field(ge=1, le=1 << 16)
    #: What was done to photographs that it was trained on; None where each image was brought to
    #: zero mean and unit variance.
    photographs: ImageNet | None = None

    def runs(self, channels: int) -> int:
        """Return how often it is computed for an image: once, or for each channel."""
        return channels if self.one_channel or channels != self.n_inputs else 1


#: Name of the architecture of what a bundle holds itself where its backbone is a file.
HEAD_ON_BACKBONE = "head-on-backbone"


class TrainingSpec(_Part):
    """What a model was trained on, and with what."""

    #: The data set, in words.
    source: NamesOnly = ""
    #: Of the data.
    licence: Text = ""
    #: Images by class, then by split (``train``, ``validation``, ``test``).
    counts: dict[str, dict[str, Annotated[int, Field(ge=0)]]] = {}
    #: The column by which images were kept together in a split, such as ``"plate"``.
    group_column: str | None = Field(default=None, max_length=100)
    #: The naming scheme or pattern that the images were read by, if one was chosen.
    naming: str | None = Field(default=None, max_length=500)
    #: Micrometres that a pixel usually covers, as the network is given them (see
    #: `Preprocessing.pixel_size`); None if the images do not say.
    pixel_size: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    #: Hash of the table of all training images.
    manifest_sha256: Sha256 | None = None
    #: Of the random numbers.
    seed: int | None = None
    #: Software, such as ``{"keras": "3.15.1"}``.
    versions: dict[str, str] = {}
    #: Where it ran, such as ``"cpu"``.
    device: str = Field(default="", max_length=200)


class EvaluationSpec(_Part):
    """How well a model did on some data, and what part the data played."""

    #: Such as ``"leave one plate out"``.
    name: Annotated[NamesOnly, Field(min_length=1, max_length=200)]
    #: What the data was to the model.
    role: Role
    #: Number of images.
    n: int = Field(ge=0)
    #: Such as ``{"accuracy": 0.97}``.
    metrics: dict[str, Finite]


class RoundingSpec(_Part):
    """What rounding to 16 bits between the layers does to the answers."""

    #: To what was rounded.
    dtype: Literal["bfloat16"] = "bfloat16"
    #: Images of the kind that the model is for, on which it was tried.
    n: int = Field(ge=1)
    #: By how much a probability of theirs was away from the one in float32, at most.
    largest: float = Field(ge=0, le=1)
    #: By how much an unlike score of theirs was away, at most; None if there are no such scores.
    largest_unlike: float | None = Field(default=None, ge=0, allow_inf_nan=False)


class UnlikeSpec(_Part):
    """How the threshold of "unlike anything in training" was chosen."""

    #: Fraction of images of known groups that lie above it, at most.
    level: float = Field(gt=0, lt=1)
    #: Groups (plates, experiments) that were left out in turn to choose it; 0 if none were known.
    n_groups: int = Field(ge=0)
    #: Images whose features are compared with.
    n_images: int = Field(ge=1)


class PredictionSetSpec(_Part):
    """Which classes an image may be of, where one class is not enough."""

    #: Fraction of held-out images whose set holds the true class, at least.
    coverage: float = Field(gt=0, lt=1)
    #: Classes at least as probable are in the set, and always the most probable one.
    threshold: float = Field(ge=0, le=1)


def unlike_spec_of(unlikeness: Unlikeness) -> UnlikeSpec:
    """Describe how a threshold of "unlike" was chosen."""
    return UnlikeSpec(
        level=unlikeness.level, n_groups=unlikeness.n_groups, n_images=unlikeness.n_images
    )


def prediction_sets_of(calibration: Calibration) -> PredictionSetSpec | None:
    """Write down the threshold of prediction sets, where there is one."""
    threshold = calibration.set_threshold
    if threshold is None:
        return None
    return PredictionSetSpec(coverage=SET_COVERAGE, threshold=threshold)


class TestImageSpec(_Part):
    """What the array in `test_input.npy` is."""

    # Its name begins like a test's; pytest should not collect it.
    __test__ = False

    #: Of the raw image, such as ``"CYX"``.
    axes: str = Field(min_length=2, max_length=8)
    #: Their names.
    channels: tuple[str, ...]


class BundleSpec(_Part):
    """Everything that is known about a trained model, the content of `bundle.json`.

    Parameters
    ----------
    format_version : int
        Of this schema.
    name : str
        Letters, digits, dots, dashes and underscores, such as ``"rxrx1-celltype"``.
    title, description : str
        For people.
    input : InputSpec
        What the network is fed.
    classes : tuple of ClassSpec
        In the order of the network's output.
    architecture : ArchitectureSpec
        Which network.
    backbone : BackboneSpec, optional
        The network whose features it classifies, where that is a file beside the bundle.
    training : TrainingSpec
        On what and with what.
    evaluations : tuple of EvaluationSpec
        How well, on which data.
    temperature : float
        Softens (above 1) or sharpens (below 1) probabilities so that they mean what they say; 1
        changes nothing.
    class_offsets : tuple of float
        Added to the logarithms of the probabilities after the temperature, one for each class, to
        undo part of what balanced classes did in training; none changes nothing.
    unsure_threshold : float, optional
        Below this confidence an answer should be read as "unsure".
    prediction_sets : PredictionSetSpec, optional
        How probable a class must be to be in the prediction set; None if that was not fitted.
    rounding : RoundingSpec, optional
        What rounding to 16 bits does to its answers; None if that was not tried.
    unlike : UnlikeSpec, optional
        How the threshold of ``unlike.safetensors`` was chosen; None if the model cannot say what is
        unlike anything in training.
    licence : str
        Of the weights.
    limits : tuple of str
        What the model cannot do, one plain sentence each.
    citation : str
        What to cite.
    test_image : TestImageSpec
        What the stored test input is.
    files : mapping of str to str
        SHA-256 of every other file of the bundle.
    spec_sha256 : str, optional
        SHA-256 of all of this but `files` and itself (see `seal`); written with the bundle and
        compared when it is read.

    Examples
    --------
    >>> spec = BundleSpec(
    ...     name="two", input={"preprocessing": {"channels": [{"name": "DNA"}]}},
    ...     classes=[{"name": "a"}, {"name": "b"}], architecture={"name": "compact-cnn"},
    ...     test_image={"axes": "YX", "channels": [""]},
    ... )
    >>> spec.class_names, spec == BundleSpec.model_validate_json(spec.model_dump_json())
    (('a', 'b'), True)
    """

    format_version: Literal[1] = FORMAT_VERSION
    name: str = Field(pattern=NAME_PATTERN)
    title: str = Field(default="", max_length=200)
    description: Text = ""
    input: InputSpec
    classes: tuple[ClassSpec, ...] = Field(min_length=2, max_length=10_000)
    architecture: ArchitectureSpec
    backbone: BackboneSpec | None = None
    training: TrainingSpec = TrainingSpec()
    evaluations: tuple[EvaluationSpec, ...] = ()
    temperature: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    class_offsets: tuple[Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)], ...] = ()
    unsure_threshold: float | None = Field(default=None, ge=0, le=1)
    prediction_sets: PredictionSetSpec | None = None
    rounding: RoundingSpec | None = None
    unlike: UnlikeSpec | None = None
    licence: Text = ""
    limits: tuple[Text, ...] = ()
    citation: Text = ""
    test_image: TestImageSpec
    files: dict[str, Sha256] = {}
    spec_sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _different_classes(self) -> BundleSpec:
        counts = Counter(self.class_names)
        twice = sorted(name for name, count in counts.items() if count > 1)
        if twice:
            raise ValueError(f"classes named twice: {', '.join(twice)}")
        return self

    @model_validator(mode="after")
    def _an_offset_for_each_class(self) -> BundleSpec:
        if len(self.class_offsets) not in (0, len(self.classes)):
            raise ValueError(
                f"{len(self.class_offsets)} class offsets for {len(self.classes)} classes; give "
                "none, or one for each"
            )
        return self

    @model_validator(mode="after")
    def _fits_its_backbone(self) -> BundleSpec:
        backbone = self.backbone
        if (self.architecture.name == HEAD_ON_BACKBONE) != (backbone is not None):
            raise ValueError(f"a backbone and the architecture {HEAD_ON_BACKBONE} belong together")
        if backbone is not None and self.input.preprocessing.size != backbone.size:
            raise ValueError(
                f"the backbone is given images of {backbone.size} pixels, but the preprocessing "
                f"makes {self.input.preprocessing.size}"
            )
        return self

    @property
    def set_threshold(self) -> float | None:
        """How probable a class must be to be in the prediction set, if that is known."""
        return None if self.prediction_sets is None else self.prediction_sets.threshold

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the network's output."""
        return tuple(spec.name for spec in self.classes)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all of this, the hashes of the files included: which model it is."""
        described = json.dumps(self.model_dump(mode="json"), sort_keys=True, allow_nan=False)
        return hashlib.sha256(described.encode("ascii")).hexdigest()

    def sealed(self, files: dict[str, str]) -> BundleSpec:
        """Return the same spec with the hashes of its files and of itself.

        Parameters
        ----------
        files : dict of str to str
            Member name to SHA-256.

        Returns
        -------
        BundleSpec
            Validated again.
        """
        seal = seal_of(json.loads(self.model_dump_json()))
        fields: dict[str, Any] = {key: getattr(self, key) for key in type(self).model_fields}
        return type(self)(**(fields | {"files": files, SEAL: seal}))


def seal_of(described: Mapping[str, Any]) -> str:
    """Hash a description, whatever its layout: the order of classes counts, that of keys does not.

    Examples
    --------
    >>> first = seal_of({"classes": ["a", "b"], "temperature": 1.0})
    >>> first == seal_of({"temperature": 1.0, "classes": ["a", "b"], "files": {}})
    True
    >>> first == seal_of({"classes": ["b", "a"], "temperature": 1.0})
    False
    """
    kept = {key: value for key, value in described.items() if key not in _UNSEALED}
    canonical = json.dumps(kept, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
