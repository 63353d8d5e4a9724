"""Make `.keras` files by hand: one that is whole, and the parts of it to spoil."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np

METADATA = {"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"}


def layer(class_name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": class_name,
        "config": config,
        "registered_name": None,
    }


CONFIG: dict[str, Any] = {
    "module": "keras",
    "class_name": "Sequential",
    "registered_name": None,
    "config": {
        "name": "plain",
        "trainable": True,
        "layers": [
            layer("InputLayer", batch_shape=[None, 4, 4, 1], dtype="float32", name="in"),
            layer("Flatten", name="flatten"),
            layer("Dense", units=2, activation="softmax", name="dense"),
        ],
    },
    "build_config": {"input_shape": [None, 4, 4, 1]},
}


def config_with(*layers: dict[str, Any], **outer: Any) -> dict[str, Any]:
    config = deepcopy(CONFIG) | outer
    config["config"]["layers"].extend(layers)
    return config


def weights(spoil: Callable[[h5py.File], None] | None = None) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((16, 2), np.float32)
        file["layers/dense/vars/1"] = np.zeros(2, np.float32)
        if spoil is not None:
            spoil(file)
    return stream.getvalue()


def write(
    path: Path,
    *,
    config: Any = CONFIG,
    metadata: Any = METADATA,
    h5: bytes | None = None,
    extra: tuple[tuple[str | zipfile.ZipInfo, bytes], ...] = (),
    compression: int = zipfile.ZIP_STORED,
    leave_out: str = "",
) -> Path:
    members = {
        "metadata.json": metadata if isinstance(metadata, bytes) else _json(metadata),
        "config.json": config if isinstance(config, bytes) else _json(config),
        "model.weights.h5": weights() if h5 is None else h5,
    }
    with zipfile.ZipFile(path, "w", compression) as archive:
        for member, content in members.items():
            if member != leave_out:
                # A fixed date, so that the same network is the same bytes at any time.
                stamped = zipfile.ZipInfo(member, (1980, 1, 1, 0, 0, 0))
                archive.writestr(stamped, content, compression)
        for info, content in extra:
            archive.writestr(info, content)
    return path


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
