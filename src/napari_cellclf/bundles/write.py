"""Write a bundle so that there is always a whole one: beside, verified, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.bundle_files import (
    CARD,
    LIMITS,
    OPTIONAL,
    REQUIRED,
    SPEC,
    copy_and_hash,
)
from napari_cellclf.bundles.card import model_card
from napari_cellclf.bundles.paths import SUFFIX, previous_path, refuse_urls
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.errors import BundleError
from napari_cellclf.io.home import expanded


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
    ``test_output.npy`` and, if there is one, ``model.onnx``.
    """
    refuse_urls(path)
    target = expanded(path)
    _check_request(target, files, overwrite)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=f".{target.name}.", suffix=".partial", dir=target.parent
        ) as beside:
            finished = _write_beside(Path(beside), target.name, spec, files, as_zip)
            verify(finished)
            exchange(finished, target)
    except OSError as error:
        raise BundleError(
            f"{target} could not be written ({error.strerror or error}); free some space or "
            "choose another folder"
        ) from error
    return ModelBundle.load(target)


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
