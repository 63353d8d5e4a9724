"""Lists of models that can be fetched: the package's, the environment's and the settings'.

A name belongs to the first list that has it: the package's cannot be taken over by another. One
entry that is wrong is left out with its reason, and does not cost the others.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from napari_cellclf.bundles.catalogue import bundled_folder
from napari_cellclf.bundles.jsontext import parse_json
from napari_cellclf.bundles.paths import SUFFIX
from napari_cellclf.bundles.plainfile import open_plain, read_up_to
from napari_cellclf.bundles.schema import NAME_PATTERN, Sha256, Text
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.normalization import ImageNet
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.validation import reason_of
from napari_cellclf.errors import CellclfError, ModelError, RegistryError
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.remote.addresses import FileAddress, WebAddress, check_name, parse_address
from napari_cellclf.io.remote.checksum import Checksum
from napari_cellclf.io.remote.source import PassingFault, Rules, is_offline
from napari_cellclf.io.remote.web import read_text
from napari_cellclf.io.replacing import replacing

#: Environment variable that names further lists, separated as in PATH.
REGISTRY_VARIABLE = "CELLCLF_REGISTRY"

# On most systems PATH is separated by the very sign that stands in an address.
_PLACES = re.compile(rf"https?://[^/{os.pathsep}]+(?::\d+)?(?:/[^{os.pathsep}]*)?|[^{os.pathsep}]+")
#: A list is short, and nobody waits long for one.
_PATIENCE = Rules(stall_seconds=5.0, total_seconds=15.0)


def read_registries(*, refresh: bool = False, offline: bool = False) -> Registry:
    """Read all lists of models.

    Parameters
    ----------
    refresh : bool
        Whether lists on the network are asked for again; else, and where they cannot be reached,
        what they said last is used. Without it no network is used at all.
    offline : bool
        Use no network; ``CELLCLF_OFFLINE=1`` says so for everything.

    Returns
    -------
    Registry
        All entries, the package's first, and one sentence for everything that cannot be used.

    Examples
    --------
    >>> "imagenet-resnet50" in {entry.name for entry in read_registries().entries}
    True
    """
    found = parse_registry(REGISTRY_FILE.read_bytes(), "the package's list")
    for place in registry_places():
        try:
            found = _merged(found, _read(place, refresh and not is_offline(offline)), place)
        except CellclfError as error:
            found = replace(found, problems=(*found.problems, str(error)))
    return found


def find_entry(name: str, *, refresh: bool = False, offline: bool = False) -> RegistryEntry:
    """Find what can be fetched under a name."""
    for again in (False, True) if refresh else (False,):
        registry = read_registries(refresh=again, offline=offline)
        for entry in registry.entries:
            if entry.name == name:
                return entry
    problems = "".join(f"; {problem}" for problem in registry.problems)
    raise RegistryError(
        f"nothing called {name!r} can be fetched; cellclf models list --available names what "
        f"can{problems}"
    )


def registry_places() -> tuple[str, ...]:
    """Return where further lists are: `CELLCLF_REGISTRY`, then those of the settings."""
    stated = os.environ.get(REGISTRY_VARIABLE, "")
    return tuple(dict.fromkeys([*split_places(stated), *settings_places()]))


def split_places(text: str) -> list[str]:
    """Take apart what is separated as in PATH, without taking addresses apart.

    Examples
    --------
    >>> split_places(os.pathsep.join(["/share/models.json", "https://a.org:8443/m.json"]))
    ['/share/models.json', 'https://a.org:8443/m.json']
    """
    return [place.strip() for place in _PLACES.findall(text) if place.strip()]


def settings_files() -> tuple[Path, Path]:
    """Return the files that name further lists, one a line.

    Each has one owner. napari keeps the setting of this plugin in a folder that only napari can
    find (its name is made from the environment's path), so that the plugin writes it down again
    where the command line, and a computer without napari, can read it.
    """
    from platformdirs import user_config_path

    folder = user_config_path("napari-cellclf", appauthor=False)
    return folder / "registries.txt", folder / "registries.napari.txt"


def settings_places() -> list[str]:
    """Read the places that the settings name."""
    lines = [line.strip() for path in settings_files() for line in _lines_of(path)]
    return [line for line in lines if line and not line.startswith("#")]


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _merged(first: Registry, second: Registry, place: str) -> Registry:
    """Put one list behind another, whose names it cannot take over."""
    taken = {entry.name for entry in first.entries}
    hidden = [
        f"entry {entry.name!r} of {place} is left out: a list before it has that name already; "
        "rename it"
        for entry in second.entries
        if entry.name in taken
    ]
    new: Sequence[RegistryEntry] = [e for e in second.entries if e.name not in taken]
    return Registry((*first.entries, *new), (*first.problems, *second.problems, *hidden))


def _read(place: str, ask: bool) -> Registry:
    address = parse_address(place)
    if isinstance(address, WebAddress):
        return _read_web(address, ask)
    if not isinstance(address, FileAddress):
        raise RegistryError(f"{place} cannot be a list of models; give a path or an https address")
    path = address.path
    try:
        with open_plain(path) as file:
            text = read_up_to(file, MAX_REGISTRY_BYTES + 1, path.name)
    except ModelError as error:
        raise RegistryError(
            f"the list of models {path} cannot be read ({error}); check {REGISTRY_VARIABLE} and "
            f"{settings_files()[0]}"
        ) from error
    return parse_registry(text, str(path), folder=path.parent.absolute())


def _read_web(address: WebAddress, ask: bool) -> Registry:
    """Ask for a list, and fall back on what it said last."""
    kept = cache_folder() / "registries" / f"{_short_hash(address.url)}.json"
    why = "it was never asked for"
    if ask:
        try:
            text = read_text(address.url, MAX_REGISTRY_BYTES, _PATIENCE)
            found = parse_registry(text, str(address))
        except (PassingFault, CellclfError) as error:
            why = str(error)
        else:
            _keep(kept, text)
            return found
    if not kept.is_file():
        raise RegistryError(
            f"the list of models {address} is not here ({why}); cellclf models list --available "
            "asks for it when there is a connection"
        )
    found = parse_registry(kept.read_bytes(), str(address))
    if ask:
        note = f"the list of models {address} is as it was last time ({why}); try again later"
        return replace(found, problems=(*found.problems, note))
    return found


def _keep(path: Path, text: bytes) -> None:
    remedy = "free some space, or set CELLCLF_CACHE to a folder that is writable"
    with replacing(path, RegistryError, remedy) as beside:
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(text)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


#: The list that comes with the package.
REGISTRY_FILE = Path(__file__).parents[1] / "resources" / "registry.json"

FORMAT_VERSION: Literal[1] = 1
MAX_REGISTRY_BYTES = 1 << 22

_LARGEST = 1 << 33
#: What a file of weights may have beside its numbers: names, and room between them.
_HEADERS = 1 << 24


class _Entry(BaseModel):
    """What is known of everything that can be fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What to type: letters, digits, dots, dashes and underscores.
    name: str = Field(pattern=NAME_PATTERN)
    #: What to read.
    title: str = Field(min_length=1, max_length=200)
    #: Where it is: any address that `fetch_file` takes.
    uri: str = Field(min_length=1, max_length=2000)
    #: Where else, tried in turn.
    mirrors: tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...] = Field(
        default=(), max_length=20
    )
    #: Of the file.
    sha256: Sha256 | None = None
    #: In its place, where the publisher gives nothing else; then `md5_reason` says so.
    md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    #: Why there is no SHA-256.
    md5_reason: Text = ""
    #: Of the file.
    size_bytes: int = Field(gt=0, le=_LARGEST)
    #: Whether `size_bytes` is the file's size, or that of the numbers in it.
    size_is_exact: bool = True
    licence: str = Field(min_length=1, max_length=10_000)
    citation: Text = ""
    description: Text = ""
    #: What it cannot do, one plain sentence each.
    limits: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _one_checksum(self) -> _Entry:
        if (self.sha256 is None) == (self.md5 is None):
            raise ValueError("give sha256, or md5 where the publisher gives nothing else")
        if (self.md5 is None) != (self.md5_reason == ""):
            raise ValueError("md5 and md5_reason belong together")
        return self

    @model_validator(mode="after")
    def _addresses(self) -> _Entry:
        for place in self.places:
            try:
                parse_address(place)
            except CellclfError as error:
                raise ValueError(str(error)) from error
        return self

    @property
    def places(self) -> tuple[str, ...]:
        """All its addresses."""
        return (self.uri, *self.mirrors)

    @property
    def checksum(self) -> Checksum:
        """What the file must have."""
        if self.sha256 is not None:
            return Checksum("sha256", self.sha256)
        return Checksum("md5", str(self.md5))

    @property
    def max_bytes(self) -> int:
        """Size above which it is another file."""
        return self.size_bytes if self.size_is_exact else self.size_bytes * 5 // 4 + _HEADERS


class BundleEntry(_Entry):
    """A finished model, as one zip."""

    #: Tells it from the others.
    kind: Literal["bundle"] = "bundle"
    classes: tuple[str, ...] = Field(min_length=2, max_length=10_000)
    channels: tuple[str, ...] = Field(min_length=1)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return self.classes

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return self.channels


class NetworkEntry(_Entry):
    """Somebody else's `.keras` file, with what has to be known to make a model of it."""

    #: Tells it from the others.
    kind: Literal["network"] = "network"
    #: In the order of its output.
    classes: tuple[ClassSpec, ...] = Field(min_length=2, max_length=10_000)
    #: Channels, size and normalisation it was trained with.
    preprocessing: Preprocessing

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in order."""
        return tuple(one.name for one in self.classes)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the channels, in order."""
        return tuple(channel.name for channel in self.preprocessing.channels)


class WeightsEntry(_Entry):
    """Weights of a backbone of `keras.applications`, for training and not for classifying."""

    #: Tells it from the others.
    kind: Literal["weights"] = "weights"
    #: Whose weights they are.
    architecture: str = Field(min_length=1, max_length=100)
    #: Under which Keras looks for them.
    file_name: str

    @model_validator(mode="after")
    def _plain_name(self) -> WeightsEntry:
        try:
            check_name(self.file_name, "file_name")
        except CellclfError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: it answers nothing."""
        return ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """None of its own: networks are widened to those of the images."""
        return ()


class BackboneEntry(_Entry):
    """A backbone as an ONNX file, for training a head and not for classifying.

    Where nobody publishes such a file with a checksum, the user makes it as `how` says, and its
    checksum is recorded when it is added.
    """

    #: Tells it from the others.
    kind: Literal["backbone"] = "backbone"
    #: How to make the file, where there is no checksum of one; then `uri` is where to begin.
    how: Text = ""
    #: Height and width that it is given, in pixels, for a file that takes any.
    size: tuple[int, int] | None = None
    #: As in `BackboneSpec`.
    one_channel: bool = False
    #: Name of the output with the features; the first one if empty.
    output: str = ""
    photographs: ImageNet | None = None

    @model_validator(mode="after")
    def _one_checksum(self) -> BackboneEntry:
        if self.md5 is not None or (self.sha256 is None) != bool(self.how):
            raise ValueError("give sha256, or say in `how` how the file is made")
        return self

    @property
    def way(self) -> str:
        """How to get it, for messages."""
        if self.sha256 is not None:
            return f"get it with: cellclf models fetch {self.name}"
        return f"{self.how}, then: cellclf models add-backbone FILE.onnx --name {self.name}"

    @property
    def class_names(self) -> tuple[str, ...]:
        """None: it answers nothing."""
        return ()

    @property
    def channel_names(self) -> tuple[str, ...]:
        """None of its own."""
        return ()


RegistryEntry = BundleEntry | NetworkEntry | WeightsEntry | BackboneEntry
_ADAPTER: TypeAdapter[RegistryEntry] = TypeAdapter(
    Annotated[RegistryEntry, Field(discriminator="kind")]
)


@dataclass(frozen=True)
class Registry:
    """What can be fetched, and what was left out.

    Parameters
    ----------
    entries : tuple of RegistryEntry
        In order, each name once.
    problems : tuple of str
        One sentence for each entry or list that cannot be used.
    """

    entries: tuple[RegistryEntry, ...] = ()
    problems: tuple[str, ...] = ()


def parse_registry(text: bytes, source: str, *, folder: Path | None = None) -> Registry:
    """Read a list of models.

    `text`: bytes; JSON: ``format_version``, ``title`` and ``entries``.
    """
    entries: dict[str, RegistryEntry] = {}
    problems = []
    bundled = {path.stem.casefold() for path in bundled_folder().glob(f"*{SUFFIX}")}
    for position, raw in enumerate(_raw_entries(text, source), start=1):
        try:
            entry = _placed(_ADAPTER.validate_python(raw), folder)
            if entry.name.casefold() in bundled:
                raise ValueError("a model that comes with this package has its name")
            if entry.name in entries:
                raise ValueError("its name stands there twice")
            entries[entry.name] = entry
        except ValueError as error:
            problems.append(f"{_title(raw, position)} of {source} is left out: {_reason(error)}")
    return Registry(tuple(entries.values()), tuple(problems))


def _raw_entries(text: bytes, source: str) -> list[Any]:
    if len(text) > MAX_REGISTRY_BYTES:
        raise RegistryError(f"{source} is longer than {MAX_REGISTRY_BYTES} bytes; split it")
    try:
        document = parse_json(text, source)
    except CellclfError as error:
        raise RegistryError(f"{error}, so it is no list of models; check it") from error
    if not isinstance(document, dict) or not isinstance(document.get("entries"), list):
        raise RegistryError(f"{source} is no list of models (it has no entries); check the address")
    version = document.get("format_version")
    if version != FORMAT_VERSION:
        raise RegistryError(
            f"{source} has format {version!r}, but this napari-cellclf reads {FORMAT_VERSION}; "
            "upgrade it with pip install -U napari-cellclf"
        )
    unknown = sorted(set(document) - {"format_version", "title", "entries"})
    if unknown:
        raise RegistryError(f"{source} says {unknown[0]!r}, which means nothing; remove it")
    return list(document["entries"])


def _placed(entry: RegistryEntry, folder: Path | None) -> RegistryEntry:
    """Make paths absolute, or refuse them in a list from the network."""
    places = [parse_address(place) for place in entry.places]
    paths = [place for place in places if isinstance(place, FileAddress)]
    if folder is None and paths:
        raise ValueError(
            f"a list from the network may not name a file ({paths[0]}); give an https address"
        )
    if not paths or folder is None:
        return entry
    uri, *mirrors = (
        str(folder / place.path) if isinstance(place, FileAddress) else text
        for place, text in zip(places, entry.places, strict=True)
    )
    return entry.model_copy(update={"uri": uri, "mirrors": tuple(mirrors)})


def _title(raw: Any, position: int) -> str:
    name = raw.get("name") if isinstance(raw, dict) else None
    return f"entry {name[:100]!r}" if isinstance(name, str) else f"entry {position}"


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # The first step is the kind of the entry.
    return reason_of(error, skip=1)
