"""A trained model on disk, opened: what it says of itself and the way to its network."""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from napari_cellclf.bundles.arrays import parse_array
from napari_cellclf.bundles.gate import CheckedNetwork, check_network, check_values
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.members import (
    GRAPH,
    LIMITS,
    NETWORK,
    REQUIRED,
    SPEC,
    TEST_INPUT,
    TEST_OUTPUT,
    Members,
    copy_and_hash,
    members_of,
    read_all,
)
from napari_cellclf.bundles.onnx_gate import check_onnx
from napari_cellclf.bundles.paths import checked_path
from napari_cellclf.bundles.ports import check_ports
from napari_cellclf.bundles.schema import FORMAT_VERSION, BundleSpec
from napari_cellclf.bundles.seal import seal_of
from napari_cellclf.core.image import Image
from napari_cellclf.errors import BundleError, InputError, IntegrityError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class PrivateNetwork:
    """A copy of the network file that nobody else can change, checked."""

    #: The copy; gone when the context that gave it ends.
    path: Path
    #: What the gate found in it.
    checked: CheckedNetwork


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
            Its network has not been opened yet: `private_network` does, and checks it.

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
        return self._array(TEST_INPUT)

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

    @property
    def size_bytes(self) -> int:
        """How much room it takes."""
        return self._members.total_size()

    @contextmanager
    def private_network(self) -> Iterator[PrivateNetwork]:
        """Give a checked copy of the network file for as long as the context lasts.

        Yields
        ------
        PrivateNetwork
            A copy in a folder of its own: what was checked is what will be loaded.

        Raises
        ------
        IntegrityError
            If it has changed since the bundle was written.
        BundleError
            If it does not take what the bundle feeds it, or answer what the bundle names.
        UnsafeModelError
            If it holds anything that is not a plain network.
        """
        with tempfile.TemporaryDirectory(prefix="cellclf-") as folder:
            copy = Path(folder) / NETWORK
            with self._members.open(NETWORK) as source, copy.open("wb") as target:
                digest = copy_and_hash(source, target)
            _compare(digest, self.spec.files[NETWORK], NETWORK, self.path)
            checked = check_network(copy, self.spec.input.preprocessing.size or self._test_size)
            check_ports(checked.network, self.spec, self.path.name)
            if not checked.values_checked:
                check_values(copy)
            yield PrivateNetwork(copy, checked)

    @property
    def has_graph(self) -> bool:
        """Whether it has its network as ``model.onnx``, too, for engines other than Keras."""
        return GRAPH in self.spec.files

    @property
    def graph_sha256(self) -> str:
        """Which ``model.onnx`` it has; empty where it has none."""
        return self.spec.files.get(GRAPH, "")

    def graph(self) -> bytes:
        """Read ``model.onnx`` and check it, before an engine sees it.

        Returns
        -------
        bytes
            What was checked: ``(N, Y, X, C)`` float32 to ``(N, K)`` probabilities.

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
        content = read_all(self._members, GRAPH)
        _compare(hashlib.sha256(content).hexdigest(), self.spec.files[GRAPH], GRAPH, self.path)
        size = self.spec.input.preprocessing.size or (None, None)
        check_onnx(
            io.BytesIO(content),
            name,
            inputs=(None, *size, len(self.spec.input.channels)),
            n_classes=len(self.spec.classes),
        )
        return content

    @property
    def _test_size(self) -> tuple[int, int]:
        """Height and width of the test image, the first that a network of open size is given."""
        image = self.test_image
        height, width = (image.shape[image.axes.index(axis)] for axis in "YX")
        return height, width

    @property
    def _members(self) -> Members:
        return members_of(self.path)

    def _array(self, member: str) -> NDArray[Any]:
        return parse_array(read_all(self._members, member), f"{member} of {self.path.name}")


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
        raise BundleError(f"{name} is not valid: {_first(error)}") from error
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


def _compare(found: str, expected: str, member: str, path: Path) -> None:
    if found != expected:
        raise IntegrityError(
            f"{member} of {path.name} is not the file that the bundle was written with (its "
            "SHA-256 differs); get the bundle again"
        )


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in problem["loc"]) or "the whole"
    return f"{where}: {problem['msg']}"
