"""What `bundle.json` says of a trained model: a versioned schema without room for typos."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from napari_cellclf.bundles.seal import SEAL, seal_of
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.tta import Views

#: Raised when a change would make older versions of this package misread a bundle.
FORMAT_VERSION: Literal[1] = 1

#: Numbers of one image that a network is given: 2048 x 2048 pixels in eight channels. On the way
#: there are some copies of each.
MAX_INPUT = 1 << 25

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=10_000)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
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
    #: What it was built with.
    parameters: dict[str, JsonScalar | list[JsonScalar]] = {}
    #: Where its first weights came from, None if they were random.
    pretrained: Text | None = None
    #: Number of weights.
    n_parameters: int | None = Field(default=None, ge=0)


class TrainingSpec(_Part):
    """What a model was trained on, and with what."""

    #: The data set, in words.
    source: Text = ""
    #: Of the data.
    licence: Text = ""
    #: Images by class, then by split (``train``, ``validation``, ``test``).
    counts: dict[str, dict[str, Annotated[int, Field(ge=0)]]] = {}
    #: The column by which images were kept together in a split, such as ``"plate"``.
    group_column: str | None = Field(default=None, max_length=100)
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
    name: str = Field(min_length=1, max_length=200)
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
    training : TrainingSpec
        On what and with what.
    evaluations : tuple of EvaluationSpec
        How well, on which data.
    temperature : float
        Softens probabilities (above 1) so that they mean what they say; 1 changes nothing.
    unsure_threshold : float, optional
        Below this confidence an answer should be read as "unsure".
    rounding : RoundingSpec, optional
        What rounding to 16 bits does to its answers; None if that was not tried.
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
    training: TrainingSpec = TrainingSpec()
    evaluations: tuple[EvaluationSpec, ...] = ()
    temperature: float = Field(default=1.0, gt=0, le=1000, allow_inf_nan=False)
    unsure_threshold: float | None = Field(default=None, ge=0, le=1)
    rounding: RoundingSpec | None = None
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
