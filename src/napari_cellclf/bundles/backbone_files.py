"""ONNX files of backbones on this computer: each kept under its hash, with a description of a name.

A bundle on a backbone names it by hash, and finds it here, whatever it is called here.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from napari_cellclf.bundles.bundle import GRAPH, LIMITS
from napari_cellclf.bundles.catalogue import ELSEWHERE, models_folder
from napari_cellclf.bundles.plainfile import open_plain, read_up_to
from napari_cellclf.bundles.schema import BackboneSpec
from napari_cellclf.errors import BundleError, IntegrityError, ModelNotFoundError
from napari_cellclf.io.notes import read_note
from napari_cellclf.io.replacing import replacing

if TYPE_CHECKING:
    from napari_cellclf.bundles.model_lists import BackboneEntry

#: As of a graph in a bundle: a ViT-S takes 90 MB.
MAX_BYTES = LIMITS[GRAPH]


def backbones_folder() -> Path:
    """Return the folder of backbones, in the user's folder of models."""
    return models_folder() / "backbones"


def list_backbones() -> list[BackboneSpec]:
    """List the backbones that are here, in the order of their names."""
    found = []
    for path in sorted(backbones_folder().glob("*.json")):
        spec = _described(path)
        if spec is not None and file_of(spec).is_file():
            found.append(spec)
    return found


def find_backbone(name: str) -> BackboneSpec:
    """Find a backbone that is here; where it is not, the error says how to get it."""
    known = {spec.name: spec for spec in list_backbones()}
    if name in known:
        return known[name]
    entry = backbone_entries().get(name)
    if entry is not None:
        raise ModelNotFoundError(f"the backbone {name} is not here; {entry.way}")
    here = ", ".join(known) or "none"
    raise ModelNotFoundError(
        f"there is no backbone {name!r} (here: {here}); add one with: cellclf models add-backbone "
        f"FILE.onnx --name {name}"
    )


def backbone_entries() -> dict[str, BackboneEntry]:
    """Return the entries of backbones in all lists of models, by name; no network is asked."""
    from napari_cellclf.bundles.model_lists import BackboneEntry, read_registries

    entries = read_registries().entries
    return {entry.name: entry for entry in entries if isinstance(entry, BackboneEntry)}


def file_of(spec: BackboneSpec) -> Path:
    """Return where the file of a backbone lies, if it is here."""
    return backbones_folder() / f"{spec.sha256}.onnx"


def read_backbone(spec: BackboneSpec, needed_by: str = "") -> bytes:
    """Read the file of a backbone, and compare it with its hash.

    `needed_by`: name of a model, for messages.
    """
    path = file_of(spec)
    of_model = f"{needed_by} needs the" if needed_by else "the"
    if not path.is_file():
        entry = backbone_entries().get(spec.name)
        source = f" (from {spec.source})" if spec.source else ""
        fetched = entry is not None and entry.sha256 == spec.sha256
        way = (
            f"get it with: cellclf models fetch {spec.name}"
            if fetched
            else f"add its file{source} with: cellclf models add-backbone FILE.onnx --name "
            f"{spec.name}"
        )
        raise ModelNotFoundError(
            f"{of_model} backbone {spec.name} (SHA-256 {spec.sha256}), which is not here; {way}"
        )
    content = read_file(path)
    if hashlib.sha256(content).hexdigest() != spec.sha256:
        raise IntegrityError(
            f"{of_model} backbone {spec.name}, whose file {path} has changed (its SHA-256 "
            "differs); delete that file and add it again"
        )
    return content


def read_file(path: Path) -> bytes:
    """Read an ONNX file that may be one of a backbone."""
    with open_plain(path) as handle:
        content = read_up_to(handle, MAX_BYTES + 1, path.name)
    if len(content) > MAX_BYTES:
        raise BundleError(
            f"{path.name} has over {MAX_BYTES / 1e6:.0f} MB, the most that a backbone may have; "
            "choose a smaller network"
        )
    return content


def keep_backbone(spec: BackboneSpec, content: bytes) -> Path:
    """Put a backbone that was checked where it is found; returns the path of its file."""
    target = file_of(spec)
    described = target.with_name(f"{spec.name}.json")
    for path, data in ((target, content), (described, spec.model_dump_json(indent=1).encode())):
        with replacing(path, BundleError, ELSEWHERE) as beside:
            beside.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(data)
    return target


def _described(path: Path) -> BackboneSpec | None:
    try:
        spec = BackboneSpec.model_validate(read_note(path))
    except ValidationError:
        return None
    return spec if f"{spec.name}.json" == path.name else None
