"""Whether what the bundled model gets wrong is flagged: left-out plates under changes of batch.

``python benchmarks/unlike_batches.py DATA/rxrx1 runs/rxrx1-celltype`` takes the networks that
`tools/train_rxrx1_celltype.py` trained without each plate, and shows each the fields of that plate
in all views. Known are the other plates, in the views that the tool takes for known.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

import train_rxrx1_celltype as tool
from rxrx1_judgement import calibrate, collect

from napari_cellclf.core.unlikeness import LeftOut, Unlikeness
from napari_cellclf.inference.keras_engine import KerasEngine


def main() -> int:
    """Print for each view what is right, flagged, and wrong without a word."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    options = parser.parse_args()
    sites = tool.read_sites(options.data)
    plates = sorted({site.plate for site in sites})
    judgement = collect([[options.work / f"lopo-{plate}-0.npz" for plate in plates]])
    unsure = calibrate(judgement).unsure_threshold
    known = tool.known_views(judgement.always_right())
    images = tool.viewed(sites, tool.views())
    view = np.array([one.view for one in images])
    plate = np.array([one.site.plate for one in images])
    truth = np.array([one.site.label for one in images])
    group = np.array([one.group for one in images])
    pixels = np.stack([one.pixels for one in images])
    score = np.zeros(len(images))
    right, sure = np.zeros((2, len(images)), bool)
    parts = []
    for number in plates:
        engine = KerasEngine(tool.join([options.work / f"lopo-{number}-0.weights.h5"]))
        found = [
            engine.compute(pixels[at : at + 24].astype(np.float32), features=True)
            for at in range(0, len(pixels), 24)
        ]
        features = np.concatenate([one.features for one in found])
        answers = np.concatenate([one.probabilities for one in found])
        out = plate == number
        right[out] = answers[out].argmax(axis=1) == truth[out]
        sure[out] = answers[out].max(axis=1) >= unsure
        of_known = features[np.isin(view, list(known)) & ~out]
        parts.append((of_known, features, out))
    # One threshold for all plates, as the bundled model has one.
    left_out = [
        LeftOut(of_known, features[out & (view == "as it is")], group[out & (view == "as it is")])
        for of_known, features, out in parts
    ]
    for of_known, features, out in parts:
        score[out] = Unlikeness.fit_left_out(of_known, left_out).scores(features[out])
    flagged = score > 1
    silent = ~right & sure & ~flagged
    subsets = np.isin(view, list(tool.SUBSETS))
    as_they_are = view == "as it is"
    rows = {name: view == name for name in tool.views()}
    rows |= {"all changes": ~subsets & ~as_they_are, "all subsets": subsets}
    print(f"{'view':32s} fields right flagged flagged-of-right wrong-and-sure of-these-not-flagged")
    for name, of in rows.items():
        wrong = int((of & ~right & sure).sum())
        good = flagged[of & right].mean() if (of & right).any() else np.nan
        print(
            f"{name:32s} {of.sum():6d} {right[of].sum():5d} {flagged[of].sum():7d} {good:16.0%} "
            f"{wrong:14d} {silent[of].sum():20d}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
