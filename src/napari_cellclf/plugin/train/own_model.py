"""A model that was trained becomes one of the user's own, found by name, with its own test."""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.errors import ModelError

_LONGEST = 90


def keep_as_own(bundle: Path) -> str:
    """Copy a trained model into the user's folder of models, unless it is there already.

    Returns its name there: that of the run, with a number where another model has it. The run may
    be moved or deleted afterwards.
    """
    from napari_cellclf.bundles.bundle import read_spec
    from napari_cellclf.bundles.catalogue import bundled_folder, models_folder
    from napari_cellclf.bundles.paths import SUFFIX
    from napari_cellclf.bundles.write import copy_bundle

    spec = read_spec(bundle)
    name, number = spec.name, 1
    while True:
        place = models_folder() / f"{name}{SUFFIX}"
        if _fingerprint(place) == spec.fingerprint:
            return name
        if not place.exists() and not (bundled_folder() / place.name).exists():
            copy_bundle(bundle, place)
            return name
        number += 1
        name = f"{spec.name[:_LONGEST]}-{number}"


def images_kept_for_tests() -> frozenset[str]:
    """Return the hashes (`pixel_hashes`) of images that the user's own models are tested on."""
    from napari_cellclf.bundles.bundle import ModelBundle, read_spec
    from napari_cellclf.bundles.catalogue import list_models

    kept: set[str] = set()
    for model in list_models():
        if model.where == "mine":
            try:
                seen = ModelBundle(model.path, read_spec(model.path)).seen_images()
            except ModelError:
                # No test could be trusted of what is damaged.
                continue
            kept.update(image for image, split in seen.splits.items() if split == "test")
    return frozenset(kept)


def _fingerprint(place: Path) -> str:
    from napari_cellclf.bundles.bundle import read_spec

    try:
        return read_spec(place).fingerprint
    except ModelError:
        return ""
