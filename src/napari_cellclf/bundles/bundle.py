"""A trained model on disk, opened: its files, what it says of itself, and its network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from napari_cellclf.bundles.archive import open_archive
from napari_cellclf.bundles.arrays import parse_array, parse_weights
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.paths import checked_path
from napari_cellclf.bundles.plainfile import TRUNCATED, Span, open_plain
from napari_cellclf.bundles.schema import (
    FORMAT_VERSION,
    MAX_INPUT,
    OPEN_SIDE,
    BundleSpec,
    seal_of,
)
from napari_cellclf.core.image import Image
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import BundleError, InputError, IntegrityError, UnsafeModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.seen_images import SeenImages
    from napari_cellclf.core.unlikeness import Unlikeness


SPEC = "bundle.json"
WEIGHTS = "weights.safetensors"
GRAPH = "model.onnx"
TEST_INPUT = "test_input.npy"
TEST_OUTPUT = "test_output.npy"
SEEN_IMAGES = "seen_images.npy"
UNLIKE = "unlike.safetensors"
CARD = "README.md"

#: Every file a bundle may have, with its largest size in bytes.
LIMITS = {
    SPEC: 1 << 22,
    WEIGHTS: (1 << 31) - (1 << 22),
    # It holds the same weights again: where they are more than this (67 million), the smaller
    # bundle is worth more than the faster start. A zip with both stays below 2 GB so, too.
    GRAPH: 1 << 28,
    TEST_INPUT: 1 << 26,
    TEST_OUTPUT: 1 << 20,
    # Sixteen bytes an image.
    SEEN_IMAGES: 1 << 26,
    UNLIKE: 1 << 24,
    CARD: 1 << 20,
}
REQUIRED = (WEIGHTS, TEST_INPUT, TEST_OUTPUT)
OPTIONAL = (GRAPH, SEEN_IMAGES, UNLIKE)

#: Raised when a backbone and a head are put together in another way.
_PUT_TOGETHER = 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class ModelBundle:
    """A trained model on disk: ``<name>.cellclf``, a folder or one zip.

    Parameters
    ----------
    path : Path
        Where it lies.
    spec : BundleSpec
        What it says of itself.

    Examples
    --------
    >>> from napari_cellclf import list_models
    >>> [ModelBundle.load(model.path).spec.name == model.name for model in list_models()][:1]
    [True]
    """

    path: Path
    spec: BundleSpec

    @classmethod
    def load(cls, path: str | Path) -> ModelBundle:
        """Open a bundle and check that it is complete and unchanged.

        Parameters
        ----------
        path : str or Path
            A folder or a zip.

        Returns
        -------
        ModelBundle
            Its network has not been looked at yet: `layers`, `weights` and `graph` do so.

        Raises
        ------
        ModelNotFoundError
            If there is nothing at `path`.
        BundleError
            If it is not a complete, valid bundle.
        IntegrityError
            If a file is not the one its hash was made from, or the description was edited.
        UnsafeModelError
            If the zip holds anything that does not belong there, or it is a model of another
            kind that may run code when it is opened.
        """
        found = checked_path(path)
        bundle = cls(found, read_spec(found))
        for member, expected in bundle.spec.files.items():
            with bundle._members.open(member) as span:
                _compare(copy_and_hash(span), expected, member, found)
        return bundle

    @property
    def test_input(self) -> NDArray[Any]:
        """The raw image that the stored answer belongs to; its axes are in `spec.test_image`."""
        return self._array(TEST_INPUT, MAX_INPUT)

    @property
    def test_output(self) -> NDArray[Any]:
        """What the network answers to `test_input`, shape (1, K), before the temperature."""
        return self._array(TEST_OUTPUT)

    @property
    def test_image(self) -> Image:
        """`test_input` with its axes and channels."""
        test = self.spec.test_image
        try:
            return Image(self.test_input, test.axes, test.channels, source="test image")
        except InputError as error:
            raise BundleError(f"the test image of {self.path.name} is invalid: {error}") from error

    def seen_images(self) -> SeenImages:
        """Return the images of its training run, by their pixels; none where that is not known.

        Raises
        ------
        BundleError
            If the file of them is invalid.
        """
        # Predicting does without.
        from napari_cellclf.core.seen_images import SeenImages

        if SEEN_IMAGES not in self.spec.files:
            return SeenImages()
        try:
            return SeenImages.from_array(self._array(SEEN_IMAGES))
        except InputError as error:
            raise BundleError(f"{SEEN_IMAGES} of {self.path.name} is invalid: {error}") from error

    @cached_property
    def unlikeness(self) -> Unlikeness | None:
        """What tells images that are unlike those of training; None where the model cannot.

        Raises
        ------
        IntegrityError
            If it has changed since the bundle was written.
        BundleError
            If its file is invalid, or another one than the bundle describes.
        """
        if UNLIKE not in self.spec.files:
            return None
        # Reading a bundle does without.
        from napari_cellclf.core.unlikeness import Unlikeness

        name = f"{UNLIKE} of {self.path.name}"
        try:
            found = Unlikeness.from_arrays(parse_weights(self.unlike_file(), name))
        except InputError as error:
            raise BundleError(f"{name} is invalid: {error}") from error
        stated = self.spec.unlike
        held = (found.level, found.n_groups, found.n_images)
        assert stated is not None  # or the file would not be there
        if held != (stated.level, stated.n_groups, stated.n_images):
            raise BundleError(
                f"{name} is not what the bundle says of it (level, groups and images {held}); "
                "write the bundle again"
            )
        return found

    def unlike_file(self) -> bytes:
        """Read the file that `unlikeness` is in.

        Raises
        ------
        IntegrityError
            If it has changed since the bundle was written.
        """
        return self._unchanged(UNLIKE)

    @property
    def size_bytes(self) -> int:
        """How much room it takes."""
        return self._members.total_size()

    def layers(self) -> dict[str, Any] | None:
        """Return the layers of a network that no architecture builds, checked; else None.

        Raises
        ------
        BundleError
            If the network does not take what the bundle feeds it.
        UnsafeModelError
            If a layer is not on the list of those that can be loaded safely.
        """
        listed = self.spec.architecture.layers
        if self.spec.backbone is not None:
            raise BundleError(
                f"{self.path.name} is built on the ONNX file of {self.spec.backbone.name}, which "
                "Keras cannot compute, train or export; use the engine openvino or onnxruntime"
            )
        if listed is None:
            stated = self.spec.architecture.input_shape
            if stated is not None:
                # Before Keras, which takes its time, builds it.
                check_input(stated, self.spec, self.path.name)
            return None
        # A registered architecture does without.
        from napari_cellclf.bundles.networks import read_network

        parts = read_network(listed, f"the network of {self.path.name}")
        check_input(parts.input_shape, self.spec, self.path.name)
        return parts.config

    def weights(self) -> dict[str, NDArray[Any]]:
        """Read the weights of the network, each array by its name.

        Raises
        ------
        IntegrityError
            If they have changed since the bundle was written.
        BundleError
            If the file is damaged, or holds NaN or infinity.
        """
        content = self._unchanged(WEIGHTS)
        arrays = parse_weights(content, f"{WEIGHTS} of {self.path.name}")
        stated = self.spec.architecture.n_parameters
        held = sum(array.size for array in arrays.values())
        if stated is not None and stated != held:
            raise BundleError(
                f"{WEIGHTS} of {self.path.name} holds {held:,} numbers, but its bundle names "
                f"{stated:,}; write the bundle again"
            )
        return arrays

    @property
    def has_graph(self) -> bool:
        """Whether its network is there as ONNX, for engines other than Keras."""
        return GRAPH in self.spec.files or self.spec.backbone is not None

    @property
    def graph_sha256(self) -> str:
        """Which ``model.onnx`` it has, or makes of its backbone; empty where it has none."""
        backbone = self.spec.backbone
        if backbone is None:
            return self.spec.files.get(GRAPH, "")
        preprocessing = self.spec.input.preprocessing
        described = (
            str(_PUT_TOGETHER),
            backbone.model_dump_json(),
            preprocessing.model_dump_json(),
        )
        parts = " ".join((*described, self.spec.files[WEIGHTS]))
        return hashlib.sha256(parts.encode()).hexdigest()

    def graph(self) -> bytes:
        """Read ``model.onnx`` and check it, before an engine sees it.

        Returns
        -------
        bytes
            What was checked: ``(N, Y, X, C)`` float32 to ``(N, K)`` probabilities, and perhaps to
            ``features`` and ``feature_map`` (`EXTRAS`).

        Raises
        ------
        IntegrityError
            If it has changed since the bundle was written.
        BundleError
            If there is none, or it does not take what the bundle feeds it, or answer what the
            bundle names.
        UnsafeModelError
            If it holds anything but standard operators on tensors.
        """
        name = f"{GRAPH} of {self.path.name}"
        if not self.has_graph:
            raise BundleError(
                f"{self.path.name} has no {GRAPH} for other engines; use the engine keras"
            )
        content = self._unchanged(GRAPH) if self.spec.backbone is None else self._put_together()
        size = self.spec.input.preprocessing.size or (None, None)
        channels = len(self.spec.input.channels)
        # An engine that finds the network compiled needs neither the file nor `onnx`.
        from napari_cellclf.bundles.onnx_file import check_onnx

        check_onnx(
            content,
            name,
            inputs=(None, *size, channels),
            n_classes=len(self.spec.classes),
            assumed=(None, *(size if size[0] else self._open_size()), channels),
        )
        return content

    def _open_size(self) -> list[int]:
        """Return the size by which a network that takes any is weighed: its test is one of them."""
        image = self.test_image
        return [max(OPEN_SIDE, image.shape[image.axes.index(axis)]) for axis in "YX"]

    def _put_together(self) -> bytes:
        """Write its network with the backbone that it names."""
        from napari_cellclf.bundles.backbone_files import read_backbone
        from napari_cellclf.bundles.backbone_graph import check_head, put_together

        backbone, channels = self.spec.backbone, len(self.spec.input.channels)
        assert backbone is not None  # or there would be nothing to put together
        head = self.weights()
        check_head(head, backbone, channels, len(self.spec.classes))
        return put_together(
            read_backbone(backbone, self.path.name),
            backbone,
            channels,
            photographs=self.spec.input.preprocessing.normalization == backbone.photographs,
            head=head,
        )

    @property
    def _members(self) -> Members:
        return members_of(self.path)

    def _unchanged(self, member: str) -> bytes:
        """Read a file whole and compare it with its hash."""
        content = read_all(self._members, member)
        _compare(hashlib.sha256(content).hexdigest(), self.spec.files[member], member, self.path)
        return content

    def _array(self, member: str, most: int | None = None) -> NDArray[Any]:
        content = read_all(self._members, member)
        return parse_array(content, f"{member} of {self.path.name}", most)


def check_input(shape: Sequence[int | None], spec: BundleSpec, name: str) -> None:
    """Compare the input of a network, without the batch, with what its bundle feeds it."""
    size, channels = spec.input.preprocessing.size or (None, None), len(spec.input.channels)
    if len(shape) != 3 or shape[2] != channels:
        raise BundleError(
            f"the network of {name} takes arrays of shape {(None, *shape)}, but its bundle feeds "
            f"it (None, Y, X, {channels}); write the bundle again"
        )
    if any(side not in (None, made) for side, made in zip(shape, size, strict=False)):
        raise BundleError(
            f"the network of {name} takes images of {shape[0]} x {shape[1]} pixels only, but its "
            f"preprocessing makes {size[0]} x {size[1]}; write the bundle again"
        )


def read_spec(path: Path) -> BundleSpec:
    """Read only what a bundle says of itself."""
    name = f"{SPEC} of {path.name}"
    raw = parse_json(read_all(members_of(path), SPEC), name)
    version = raw.get("format_version") if isinstance(raw, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise BundleError(
            f"{path.name} has format {version}, but this napari-cellclf reads up to "
            f"{FORMAT_VERSION}; upgrade it with pip install -U napari-cellclf"
        )
    try:
        spec = BundleSpec.model_validate(raw)
    except ValidationError as error:
        raise BundleError(f"{name} is not valid: {reason_of(error)}") from error
    _check_files(spec, path)
    if spec.spec_sha256 != seal_of(raw):
        raise IntegrityError(
            f"{name} was edited after the bundle was written (its spec_sha256 differs); get the "
            "bundle again, or write it again with the changes"
        )
    return spec


def _check_files(spec: BundleSpec, path: Path) -> None:
    lacking = [member for member in REQUIRED if member not in spec.files]
    unknown = [member for member in spec.files if member not in LIMITS or member == SPEC]
    if lacking or unknown:
        wrong = f"lacks {lacking[0]}" if lacking else f"names {unknown[0][:80]!r}"
        raise BundleError(f"the list of files of {path.name} {wrong}; write the bundle again")
    if (spec.unlike is None) != (UNLIKE not in spec.files):
        lacks = "description" if spec.unlike is None else "file"
        raise BundleError(
            f"{path.name} lacks the {lacks} of what is unlike its training; write the bundle again"
        )


def _compare(found: str, expected: str, member: str, path: Path) -> None:
    if found != expected:
        raise IntegrityError(
            f"{member} of {path.name} is not the file that the bundle was written with (its "
            "SHA-256 differs); get the bundle again"
        )


class Members(Protocol):
    """Read access to the files of a bundle."""

    def open(self, member: str) -> AbstractContextManager[Span]:
        """Open one file for reading."""
        ...

    def total_size(self) -> int:
        """Bytes of all files."""
        ...


class _FolderMembers:
    """The files of a bundle that is a folder; others in it are not looked at."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def open(self, member: str) -> Iterator[Span]:
        """Open one file for reading."""
        path = self.folder / member
        try:
            path.lstat()
        except OSError as error:
            raise BundleError(f"{self.folder.name} lacks {member}: it {TRUNCATED}") from error
        with open_plain(path, follow=False) as handle:
            span = Span.whole(handle, f"{member} of {self.folder.name}")
            if span.size > LIMITS[member]:
                raise UnsafeModelError(f"{span.name} has {span.size} bytes; limit {LIMITS[member]}")
            yield span

    def total_size(self) -> int:
        """Bytes of all files."""
        paths = (self.folder / member for member in LIMITS)
        return sum(path.stat().st_size for path in paths if path.is_file())


class _ZipMembers:
    """The files of a bundle that is one zip."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def open(self, member: str) -> Iterator[Span]:
        """Open one file for reading."""
        with open_plain(self.path) as handle:
            archive = open_archive(handle, self.path.name, LIMITS)
            if member == SPEC:
                # The one file that no hash in another stands for.
                archive.read(member)
            yield archive.span(member)

    def total_size(self) -> int:
        """Bytes of the file."""
        return self.path.stat().st_size


def members_of(path: Path) -> Members:
    """Return access to the files of a bundle."""
    return _FolderMembers(path) if path.is_dir() else _ZipMembers(path)


def read_all(members: Members, member: str) -> bytes:
    """Read one file whole.

    Returns its content, within its limit.
    """
    with members.open(member) as span:
        return span.read(0, span.size)


def copy_and_hash(source: Span, target: IO[bytes] | None = None) -> str:
    """Read a file through, optionally into another, and hash what was read."""
    digest = hashlib.sha256()
    for place in range(0, source.size, _CHUNK):
        chunk = source.read(place, min(_CHUNK, source.size - place))
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return digest.hexdigest()
