"""Add ``model.onnx`` to a folder bundle that was written without it, leaving all else as it is.

Usage: python tools/add_onnx.py src/napari_cellclf/resources/models/rxrx1-celltype.cellclf
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.members import GRAPH, SPEC
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.models.graph_file import write_graph


def main() -> None:
    """Add it, or say that it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    path = parser.parse_args().bundle
    bundle = ModelBundle.load(path)
    pixels = bundle.spec.input.preprocessing(bundle.test_image)[np.newaxis]
    network = KerasEngine.load(bundle).network
    with tempfile.TemporaryDirectory() as folder:
        graph = write_graph(network, Path(folder), bundle.spec.name, pixels, bundle.test_output)
        if graph is None:
            raise SystemExit(f"{path.name} stays without {GRAPH}")
        shutil.copyfile(graph, path / GRAPH)
    # The seal of a description leaves out the list of files, and so holds on.
    described = json.loads((path / SPEC).read_text(encoding="utf-8"))
    digest = hashlib.sha256((path / GRAPH).read_bytes()).hexdigest()
    described["files"] = dict(sorted({**described["files"], GRAPH: digest}.items()))
    text = json.dumps(described, indent=1, ensure_ascii=False)
    (path / SPEC).write_text(text, encoding="utf-8")
    print(f"{path.name} computes on {load_classifier(path).device}")


if __name__ == "__main__":
    main()
