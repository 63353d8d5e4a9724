"""Write the package's list of models that can be fetched: `resources/registry.json`.

The ImageNet weights of `keras.applications` are asked of the installed Keras itself: each network
is built with ``weights="imagenet"``, and what it would fetch is written down instead of fetched.
The other entries stand in `tools/registry_models.json`, and are copied.

    python tools/make_registry.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
from keras.src.utils import file_utils

from napari_cellclf.bundles.model_lists import REGISTRY_FILE, parse_registry
from napari_cellclf.models.architectures.applications import application_names, default_size

_BYTES_PER_WEIGHT = 4
_MD5_REASON = "Keras publishes no other checksum of these weights"
_LICENCE = (
    "Published by Keras, whose code is Apache-2.0, without a licence of their own; trained on "
    "ImageNet, whose images are for non-commercial research"
)
_CITATION = "https://keras.io/api/applications/"


class Asked(Exception):
    """What Keras would fetch."""

    def __init__(self, file_name: str, uri: str, file_hash: str | None) -> None:
        super().__init__(uri)
        self.file_name = file_name
        self.uri = uri
        self.file_hash = file_hash


def main() -> None:
    """Write the file, having read it as the package does."""
    published = json.loads(Path(__file__).with_name("registry_models.json").read_text("utf-8"))
    names = application_names()
    entries = [*published, *filter(None, map(weights_entry, names))]
    document = {
        "format_version": 1,
        "title": f"Models and weights known to napari-cellclf (weights: Keras {keras.__version__})",
        "entries": entries,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    registry = parse_registry(text.encode(), "registry.json")
    if registry.problems:
        raise SystemExit("\n".join(registry.problems))
    REGISTRY_FILE.write_text(text, encoding="utf-8")
    print(f"{len(entries)} entries in {REGISTRY_FILE}")


def weights_entry(name: str) -> dict[str, Any] | None:
    """Describe the weights of one backbone; None where Keras states no checksum of them."""
    asked, n_weights = ask_keras(name)
    if asked.file_hash is None:
        print(f"{name}: left out, Keras states no checksum")
        return None
    stated = (
        {"sha256": asked.file_hash}
        if len(asked.file_hash) == 64
        else {"md5": asked.file_hash, "md5_reason": _MD5_REASON}
    )
    return {
        "kind": "weights",
        "name": f"imagenet-{name}",
        "title": f"ImageNet weights of {name}, without its head",
        "uri": asked.uri,
        **stated,
        "size_bytes": n_weights * _BYTES_PER_WEIGHT,
        "size_is_exact": False,
        "licence": _LICENCE,
        "citation": _CITATION,
        "architecture": name,
        "file_name": asked.file_name,
    }


def ask_keras(name: str) -> tuple[Asked, int]:
    """Let Keras say what it would fetch for a backbone, and how many numbers that holds."""
    make = next(
        value
        for key, value in vars(keras.applications).items()
        if key.lower() == name and callable(value)
    )
    side = default_size(name)[0]
    kept, file_utils.get_file = file_utils.get_file, _refuse
    try:
        make(include_top=False, weights="imagenet", input_shape=(side, side, 3), pooling="avg")
    except Asked as asked:
        network = make(include_top=False, weights=None, input_shape=(side, side, 3), pooling="avg")
        return asked, network.count_params()
    finally:
        file_utils.get_file = kept
        keras.backend.clear_session()
    raise SystemExit(f"{name} fetches nothing")


def _refuse(fname: str, origin: str, *, file_hash: str | None = None, **_: Any) -> None:
    raise Asked(fname, origin, file_hash)


if __name__ == "__main__":
    main()
