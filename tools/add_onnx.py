"""Write the ``model.onnx`` of a folder bundle, again if it has one, and try it in 16 bits.

Usage: python tools/add_onnx.py src/napari_cellclf/resources/models/rxrx1-celltype.cellclf IMAGES...

The images (files or folders, of the kind that the model is for) are not stored: on them it is found
out whether the network bears to be computed in 16 bits. All else in the bundle stays as it is.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from napari_cellclf.bundles.bundle import (
    GRAPH,
    OPTIONAL,
    REQUIRED,
    ModelBundle,
    members_of,
    read_all,
)
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.sources import collect_sources
from napari_cellclf.models.save import measure_rounding, write_graph


def main() -> None:
    """Add it, or say that it cannot be made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", nargs="*")
    arguments = parser.parse_args()
    path = arguments.bundle
    bundle = ModelBundle.load(path)
    prepare = bundle.spec.input.preprocessing
    typical = [prepare(source.read()) for source in collect_sources(arguments.images)]
    network = KerasEngine.load(bundle).network
    members = [name for name in (*REQUIRED, *OPTIONAL) if name in bundle.spec.files]
    files: dict[str, bytes | Path] = {name: read_all(members_of(path), name) for name in members}
    with tempfile.TemporaryDirectory() as folder:
        pixels = prepare(bundle.test_image)[np.newaxis]
        graph = write_graph(network, Path(folder), bundle.spec.name, pixels, bundle.test_output)
        if graph is None:
            raise SystemExit(f"{path.name} stays without {GRAPH}")
        rounding = measure_rounding(network, graph, typical, bundle.unlikeness)
        spec = bundle.spec.model_copy(update={"rounding": rounding})
        write_bundle(path, spec, {**files, GRAPH: graph}, overwrite=True)
    print(f"{path.name} computes on {load_classifier(path).device}")


if __name__ == "__main__":
    main()
