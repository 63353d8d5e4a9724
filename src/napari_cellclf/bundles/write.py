"""Write bundles, share them and remove them: whole at every moment, and unchanged."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from napari_cellclf.bundles.bundle import (
    CARD,
    LIMITS,
    OPTIONAL,
    REQUIRED,
    SPEC,
    ModelBundle,
    copy_and_hash,
    members_of,
)
from napari_cellclf.bundles.card import model_card
from napari_cellclf.bundles.catalogue import bundled_folder, find_model, models_folder, origin_note
from napari_cellclf.bundles.paths import SUFFIX, previous_path, refuse_urls
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.bundles.schema import NAME_PATTERN, BundleSpec
from napari_cellclf.errors import (
    BundleError,
    CellclfError,
    IntegrityError,
    ModelError,
    ModelNotFoundError,
)
from napari_cellclf.io.local_paths import expanded


def write_bundle(
    path: str | Path,
    spec: BundleSpec,
    files: Mapping[str, bytes | Path],
    *,
    overwrite: bool = False,
    as_zip: bool = False,
    verify: Callable[[Path], object] = ModelBundle.load,
) -> ModelBundle:
    """Write a bundle atomically.

    `files`: content, or a file to copy, for ``weights.safetensors``, ``test_input.npy``,
    ``test_output.npy`` and, where there are any, ``model.onnx``, ``seen_images.npy`` and
    ``unlike.safetensors``.
    """
    refuse_urls(path)
    target = expanded(path)
    _check_request(target, files, overwrite)
    with folder_beside(target, BundleError) as beside:
        finished = _write_beside(beside, target.name, spec, files, as_zip)
        verify(finished)
        exchange(finished, target)
    return ModelBundle.load(target)


@contextmanager
def folder_beside(target: Path, error: type[CellclfError]) -> Iterator[Path]:
    """Make a folder on the disk of a target, to be written in and renamed from; it is removed.

    `error`: what is raised, in one sentence, where the disk refuses.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        ) as folder:
            yield Path(folder)
    except OSError as refused:
        raise error(
            f"{target} could not be written ({refused.strerror or refused}); free some space or "
            "choose another folder"
        ) from refused


def _check_request(target: Path, files: Mapping[str, bytes | Path], overwrite: bool) -> None:
    if target.suffix != SUFFIX:
        raise BundleError(f"{target.name!r} must end in {SUFFIX} to be known as a model")
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists already; give overwrite=True to replace it")
    check_replaceable(target)
    if not set(REQUIRED) <= set(files) <= {*REQUIRED, *OPTIONAL}:
        raise BundleError(f"a bundle is made of {', '.join(REQUIRED)}; got {', '.join(files)}")


def _write_beside(
    beside: Path,
    name: str,
    spec: BundleSpec,
    files: Mapping[str, bytes | Path],
    as_zip: bool,
) -> Path:
    folder = beside / name
    folder.mkdir()
    contents = {**files, CARD: model_card(spec).encode()}
    hashes = {member: _write(folder / member, contents[member]) for member in sorted(contents)}
    described = spec.sealed(hashes).model_dump_json(indent=1)
    _write(folder / SPEC, described.encode())
    _sync_folder(folder)
    return _zip(folder) if as_zip else folder


def _write(path: Path, content: bytes | Path) -> str:
    """Write a file down to the disk and return its SHA-256."""
    with path.open("wb") as target:
        if isinstance(content, bytes):
            target.write(content)
            digest = hashlib.sha256(content).hexdigest()
        else:
            with open_plain(content) as source:
                digest = copy_and_hash(Span.whole(source, content.name), target)
        target.flush()
        os.fsync(target.fileno())
    return digest


def _zip(folder: Path) -> Path:
    packed = folder.with_name("packed")
    with packed.open("wb") as target:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for member in LIMITS:
                if (folder / member).exists():
                    archive.write(folder / member, member)
        target.flush()
        os.fsync(target.fileno())
    shutil.rmtree(folder)
    # Verified under the name it will have.
    return packed.rename(folder)


def check_replaceable(target: Path) -> None:
    """Refuse to replace a folder that is no model, whatever else was allowed."""
    if target.is_dir() and not (target / SPEC).exists() and any(target.iterdir()):
        raise BundleError(
            f"{target} is a folder with something else than a model in it; choose another name"
        )


def exchange(finished: Path, target: Path) -> None:
    """Put what is finished where an older one may lie."""
    previous = previous_path(target)
    _remove(previous if target.exists() else None)
    if target.exists():
        target.rename(previous)
    try:
        finished.rename(target)
    except OSError:
        if previous.exists():
            previous.rename(target)
        raise
    _sync_folder(target.parent)
    _remove(previous)


def _remove(path: Path | None) -> None:
    if path is None or not path.exists():
        return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def _sync_folder(folder: Path) -> None:
    """Write the names in a folder down to the disk."""
    # Windows cannot open a folder, and writes names down by itself.
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_SHARED = (SUFFIX, ".zip")
_REMOVING = ".removing"


def share_model(
    name_or_path: str | Path, target: str | Path, *, overwrite: bool = False
) -> ModelBundle:
    """Write a model as one file that can be passed on.

    Parameters
    ----------
    name_or_path : str or Path
        What `find_model` takes.
    target : str or Path
        Where to; the name ends in ``.cellclf`` or ``.zip``.
    overwrite : bool
        Whether a file that is there may be replaced.

    Returns
    -------
    ModelBundle
        The copy, checked: the same files, hashes and seal.

    Raises
    ------
    ModelError
        If there is no such model, or it is damaged.
    BundleError
        If the copy cannot be written.
    """
    source = find_model(name_or_path)
    goal = expanded(target)
    if goal.suffix.lower() not in _SHARED:
        raise BundleError(f"{goal.name!r} must end in {SUFFIX} or .zip to be known as a model")
    return copy_bundle(source, goal, overwrite=overwrite)


def copy_bundle(
    source: Path,
    target: Path,
    *,
    overwrite: bool = False,
    verify: Callable[[Path], object] = ModelBundle.load,
) -> ModelBundle:
    """Copy a bundle into one stored zip, leaving every file of it as it is."""
    refuse_urls(target)
    if target.exists() and not overwrite:
        raise BundleError(f"{target} exists already; choose another name, or add --overwrite")
    check_replaceable(target)
    original = ModelBundle.load(source)
    with folder_beside(target, BundleError) as beside:
        finished = beside / target.name
        _copy_into_zip(original, finished)
        if ModelBundle.load(finished).spec != original.spec:
            raise IntegrityError(f"{source.name} changed while it was copied; copy it again")
        verify(finished)
        exchange(finished, target)
    return ModelBundle(target, original.spec)


def find_own_model(name: str) -> Path:
    """Find a model that may be removed."""
    stem = name.removesuffix(SUFFIX)
    if not re.match(NAME_PATTERN, stem):
        raise ModelNotFoundError(
            f"{name!r} is not the name of a model; give one of your own models"
        )
    path = models_folder() / f"{stem}{SUFFIX}"
    if not os.path.lexists(path):
        if (bundled_folder() / path.name).exists():
            raise ModelError(f"{stem} comes with the package and stays; only your own are removed")
        raise ModelNotFoundError(
            f"you have no model {stem!r} in {path.parent}; nothing was removed"
        )
    return path


def remove_model(name: str) -> Path:
    """Remove a model of the user's own.

    Parameters
    ----------
    name : str
        As `list_models` shows it.

    Returns
    -------
    Path
        Where it was.

    Raises
    ------
    ModelNotFoundError
        If the user has no model of that name.
    ModelError
        If it comes with the package, or the disk refuses; then it is still there, whole.
    """
    path = find_own_model(name)
    try:
        # Gone under its name at once: a removal that is cut off leaves no half model.
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=_REMOVING, dir=path.parent))
        path.rename(aside / path.name)
        for beside in (origin_note(path), previous_path(path)):
            if beside.exists():
                beside.rename(aside / beside.name)
    except OSError as error:
        raise ModelError(
            f"{path} cannot be removed ({error.strerror or error}); close what uses it, and check "
            "that the folder may be written"
        ) from error
    _sweep(path.parent)
    return path


def _sweep(folder: Path) -> None:
    """Delete what was removed; what cannot be yet, such as an open file, is left to the next."""
    for aside in folder.glob(f".*{_REMOVING}"):
        shutil.rmtree(aside, ignore_errors=True)


def _copy_into_zip(bundle: ModelBundle, target: Path) -> None:
    members = members_of(bundle.path)
    with target.open("wb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for member in (SPEC, *bundle.spec.files):
                with (
                    members.open(member) as span,
                    archive.open(member, "w", force_zip64=False) as to,
                ):
                    copy_and_hash(span, to)
        file.flush()
        os.fsync(file.fileno())
