"""Show versions, the backend, devices and folders: what to send along when asking for help."""

from __future__ import annotations

import argparse
import json
import platform
from importlib import metadata
from typing import Any

from napari_cellclf.cli.terminal import ExitCode, columns, printable
from napari_cellclf.inference.engine import ENGINES, choose_engine, look_at_machine
from napari_cellclf.models.devices import chosen_backend, find_devices

_PACKAGES = (
    "napari-cellclf",
    "napari",
    "keras",
    "tensorflow",
    "torch",
    "jax",
    "openvino",
    "onnxruntime",
    "numpy",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of ``cellclf info``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


def run(args: argparse.Namespace) -> int:
    """Print what this machine has."""
    facts = gather()
    if args.json:
        print(json.dumps(facts, indent=2))
    else:
        rows = [(name.replace("_", " "), _words(value)) for name, value in facts.items()]
        print(columns([(name, printable(words)) for name, words in rows if words]))
    return ExitCode.OK


def gather() -> dict[str, Any]:
    """Collect everything that the command tells; imports the backend to ask for its devices."""
    from napari_cellclf.bundles.catalogue import models_folder
    from napari_cellclf.io.cache import cache_folder

    backend = chosen_backend()
    devices = find_devices(backend)
    machine = look_at_machine()
    engine = choose_engine("auto", has_graph=True, machine=machine)
    return {
        **package_versions(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "backend": backend,
        "engine": engine,
        "engines": [name for name in ENGINES if name in machine.engines],
        "devices": list(devices.names),
        "why_no_gpu": devices.why_no_gpu,
        "models_folder": str(models_folder()),
        "cache_folder": str(cache_folder()),
    }


def package_versions() -> dict[str, str | None]:
    """Look up versions without importing anything."""
    return {name: _version(name) for name in _PACKAGES}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _words(value: Any) -> str:
    if value is None:
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
