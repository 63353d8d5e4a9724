"""Train, judge, calibrate and write the bundled model ``rxrx1-celltype``.

    python tools/train_rxrx1_celltype.py DATA --out src/napari_cellclf/resources/models

DATA is a folder of RxRx1 sites with their published names (``images/<experiment>/Plate<p>/``).
Each plate is left out once, by networks that are trained on the others; they answer the plate as
it is, as another batch might have photographed it (`batch_shifts`), and with some of its stains.
Temperature and "unsure" threshold come from those answers. The model itself is then trained on all
plates.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from batch_shifts import SHIFTS, shift_image
from rxrx1_judgement import TRUTH, Judgement, calibrate, collect, evaluations, report

from napari_cellclf.bundles.schema import (
    ArchitectureSpec,
    ClassSpec,
    TrainingSpec,
    prediction_sets_of,
)
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.seen_images import SeenImages, pixel_hashes
from napari_cellclf.core.stains import STAINS
from napari_cellclf.core.unlikeness import LeftOut, Unlikeness
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.io.named_images import find_images
from napari_cellclf.io.read import read_named
from napari_cellclf.io.rxrx1 import stain_channels
from napari_cellclf.models.architectures.compact_cnn import COMPACT_CNN
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.models.sample_image import make_test_image
from napari_cellclf.models.save import save_bundle
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.stages import LabelledArrays, TrainingData, train_network

CLASSES = ("HEPG2", "HUVEC", "RPE", "U2OS")
DISPLAY_NAMES = {
    "HEPG2": "liver cancer (HepG2)",
    "HUVEC": "umbilical vein endothelium (HUVEC)",
    "RPE": "retinal pigment epithelium (RPE)",
    "U2OS": "bone cancer (U2OS)",
}
#: Half of RxRx1's 512 pixels: nuclei are still 8 pixels wide, and the pixel noise and the few grey
#: levels, by which experiments are told apart more easily than by their cells, average out.
PREPROCESSING = Preprocessing(channels=stain_channels(optional=range(1, 7)), size=(256, 256))
#: What a lone grey image is taken for: the stain of the first project's client.
SINGLE_CHANNEL = STAINS[1]
ARCHITECTURE: dict[str, Any] = {"width": 32, "depth": 4, "dropout": 0.2, "normalization": "batch"}
AUGMENTATION = AugmentationConfig(
    gaps=0.2,
    bleed_through=0.15,
    illumination=0.2,
    haze=0.15,
    gamma=0.4,
    gain=0.15,
    offset=0.15,
    channel_dropout=0.15,
    drop_together=(4, 5),
)
#: All stains, or all but w5 and w6, at first: a network that is given any few of them from the
#: beginning learns too little in a run of this length.
FIRST = TrainingConfig(
    epochs=25,
    steps_per_epoch=20,
    batch_size=24,
    crop=96,
    balance="oversample",
    learning_rate=3e-3,
    ema=0.98,
    augmentation=AUGMENTATION,
)
#: Then any of the stains, and stronger changes of colour and focus.
SECOND = FIRST.changed(
    epochs=30,
    learning_rate=2e-3,
    augmentation=AUGMENTATION.model_copy(
        update={
            "gaps": 0.25,
            "bleed_through": 0.2,
            "gamma": 0.55,
            "gain": 0.2,
            "offset": 0.2,
            "defocus": 0.5,
            "zoom": 0.25,
            "channel_subset": 0.6,
            "drop_together_probability": 0.4,
        }
    ),
)
#: Stains that a field is also classified by, counted from 0.
SUBSETS = {
    **{f"w{number + 1} alone": (number,) for number in range(6)},
    "w1, w2": (0, 1),
    "w1, w3": (0, 2),
    "w2, w3": (1, 2),
    "w2, w4": (1, 3),
    "w1 to w4": (0, 1, 2, 3),
}
#: Subsets that are also looked at as another batch might have photographed them.
SHIFTED_SUBSETS = ("w1 alone", "w2 alone", "w3 alone", "w4 alone", "w1 to w4")

View = Callable[[Image, int], Image]
#: Images whose features are computed at a time.
CONSIDERED = 24


@dataclass(frozen=True)
class Site:
    """A field with its class and plate."""

    image: Image
    label: int
    plate: int


def read_sites(data: Path) -> list[Site]:
    """Read all sites; the class is the experiment's name up to the dash."""
    sites = []
    for files in find_images(data, "rxrx1").named:
        experiment, plate = str(files.fields.get("experiment", "")), files.fields.get("plate")
        if not experiment or plate is None:
            sys.exit(f"{files.first} does not lie in an experiment's and a plate's folder")
        label = CLASSES.index(experiment.rpartition("-")[0])
        sites.append(Site(read_named(files), label, int(plate)))
    return sites


def with_only(image: Image, kept: Sequence[int]) -> Image:
    """Leave out all channels but some, counted from 0, as a site with missing files does."""
    kept = list(kept)
    names = [image.channels[i] for i in kept]
    return Image(image.to_cyx()[kept], "CYX", names, source=image.source)


def trained(sites: Sequence[Site], seed: int, weights: Path) -> keras.Model:
    """Train one network in two stages, unless they were finished before."""
    shape = (None, None, len(PREPROCESSING.channels))
    network = COMPACT_CNN.build(shape, len(CLASSES), seed=seed, **ARCHITECTURE)
    images = [PREPROCESSING(site.image) for site in sites]
    labels = np.array([site.label for site in sites])
    material = TrainingData(LabelledArrays(images, labels))
    first = weights.with_name(weights.name.replace(".weights.h5", "-first.weights.h5"))
    stages = ((first, FIRST.changed(seed=seed)), (weights, SECOND.changed(seed=seed + 1000)))
    for file, config in stages:
        if file.exists():
            network.load_weights(file)
            continue
        train_network(network, material, config)
        network.save_weights(file)
    return network


def views() -> dict[str, tuple[View, int]]:
    """Return the ways in which a left-out field is looked at, and how many stains each needs."""
    found: dict[str, tuple[View, int]] = {"as it is": (lambda image, seed: image, 0)}
    for name in SHIFTS:
        found[name] = (partial(_shifted, name), 0)
    for name, kept in SUBSETS.items():
        found[name] = (partial(_subset, kept), max(kept) + 1)
    for name in SHIFTED_SUBSETS:
        found[f"all of these, {name}"] = (partial(_shifted_subset, SUBSETS[name]), 0)
    return found


def _shifted(name: str, image: Image, seed: int) -> Image:
    return shift_image(image, name, seed)


def _subset(kept: Sequence[int], image: Image, seed: int) -> Image:
    return with_only(image, kept)


def _shifted_subset(kept: Sequence[int], image: Image, seed: int) -> Image:
    return with_only(shift_image(image, "all of these", seed + 500), kept)


def answer(network: keras.Model, images: Sequence[Image]) -> np.ndarray[Any, Any]:
    """Return probabilities, shape (N, K)."""
    prepared = np.stack([PREPROCESSING(image) for image in images])
    return np.asarray(network(prepared, training=False))


def leave_plate_out(data: Path, folder: Path, plate: int, seed: int) -> Path:
    """Train without a plate, answer it in all views, and write the answers to a file."""
    done = folder / f"lopo-{plate}-{seed}.npz"
    if done.exists():
        return done
    sites = read_sites(data)
    kept = [site for site in sites if site.plate != plate]
    network = trained(kept, 10 * seed + plate, done.with_suffix(".weights.h5"))
    left_out = [site for site in sites if site.plate == plate]
    found: dict[str, Any] = {}
    for name, (view, n_stains) in views().items():
        used = [(i, site) for i, site in enumerate(left_out) if site.image.n_channels >= n_stains]
        found[name] = answer(network, [view(site.image, 1000 * plate + i) for i, site in used])
        found[f"{TRUTH}{name}"] = np.array([site.label for _, site in used])
    np.savez(done, **found)
    return done


def train_final(data: Path, folder: Path, seed: int) -> Path:
    """Train one member on all plates and write its weights to a file."""
    done = folder / f"final-{seed}.weights.h5"
    trained(read_sites(data), 900 + seed, done)
    return done


def join(files: Sequence[Path]) -> keras.Model:
    """Build the network of as many members as there are files of weights, and fill it."""
    shape = (None, None, len(PREPROCESSING.channels))
    joined = build_network(
        "compact-cnn",
        input_shape=shape,
        n_classes=len(CLASSES),
        members=len(files),
        **ARCHITECTURE,
    )
    weights: list[Any] = []
    for file in files:
        member = COMPACT_CNN.build(shape, len(CLASSES), **ARCHITECTURE)
        member.load_weights(file)
        # The weights of the whole are those of its members, one after the other.
        weights += member.get_weights()
    joined.set_weights(weights)
    return joined


def manifest_hash(data: Path) -> str:
    """Hash names and contents of all files that were trained on."""
    lines = []
    for site in find_images(data, "rxrx1").named:
        for path in site.files.values():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append("/".join(path.parts[-3:]) + " " + digest)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def describe(data: Path, seeds: int) -> dict[str, Any]:
    """Return what the bundle says of itself."""
    labels = [site.label for site in read_sites(data)]
    counts = {name: {"train": labels.count(i)} for i, name in enumerate(CLASSES)}
    texts = json.loads(Path(__file__).with_name("rxrx1_celltype_card.json").read_text("utf-8"))
    return {
        **texts["bundle"],
        "classes": [ClassSpec(name=name, display_name=DISPLAY_NAMES[name]) for name in CLASSES],
        "architecture": ArchitectureSpec(
            name="compact-cnn", parameters={**ARCHITECTURE, "members": seeds}
        ),
        "training": TrainingSpec(
            source=texts["source"],
            licence=texts["data_licence"],
            counts=counts,
            group_column="plate",
            manifest_sha256=manifest_hash(data),
            seed=0,
            device="cpu",
        ),
    }


@dataclass(frozen=True, eq=False)
class Viewed:
    """A field as it may be looked at, prepared."""

    pixels: np.ndarray[Any, Any]
    site: Site
    view: str

    @property
    def group(self) -> str:
        """Its plate of its experiment."""
        return f"{CLASSES[self.site.label]} {self.site.plate}"


def known_views(always_right: Collection[str]) -> set[str]:
    """Choose the views of fields that count as known: any stains, and shifts that mislead nothing.

    Were a field known in a view in which it is predicted wrongly, no distance could warn of it.
    `always_right`: views in which all left-out fields are predicted rightly.
    """
    return {*always_right, *SUBSETS} - {f"all of these, {name}" for name in SHIFTED_SUBSETS}


def viewed(sites: Sequence[Site], known: Collection[str]) -> list[Viewed]:
    """Prepare all fields in the views that are known."""
    return [
        Viewed(PREPROCESSING(view(site.image, i)).astype(np.float16), site, name)
        for name, (view, n_stains) in views().items()
        for i, site in enumerate(sites)
        if name in known and site.image.n_channels >= n_stains
    ]


def features_of(network: keras.Model, images: Sequence[Viewed]) -> np.ndarray[Any, Any]:
    """Compute features, shape (N, F)."""
    engine, found = KerasEngine(network), []
    for first in range(0, len(images), CONSIDERED):
        some = [one.pixels for one in images[first : first + CONSIDERED]]
        features = engine.compute(np.stack(some).astype(np.float32), features=True).features
        assert features is not None  # the architecture ends in a dense layer
        found.append(features)
    return np.concatenate(found)


def fit_unlikeness(
    network: keras.Model,
    sites: Sequence[Site],
    left_out: Mapping[int, Sequence[Path]],
    always_right: Collection[str],
) -> Unlikeness:
    """Learn what is usual from all fields, and the threshold from networks that saw no such plate.

    `left_out`: weights of the members that were trained without a plate, by its number.
    `always_right`: views in which all left-out fields are predicted rightly.
    """
    images, parts = viewed(sites, known_views(always_right)), []
    for plate, files in left_out.items():
        without = join(files)
        known = features_of(without, [one for one in images if one.site.plate != plate])
        new = [one for one in images if one.site.plate == plate and one.view == "as it is"]
        groups = np.array([one.group for one in new])
        parts.append(LeftOut(known, features_of(without, new), groups))
    return Unlikeness.fit_left_out(features_of(network, images), parts)


def write(
    data: Path,
    out: Path,
    weights: Sequence[Path],
    left_out: Mapping[int, Sequence[Path]],
    judgement: Judgement,
) -> Path:
    """Save the final model as a bundle that was loaded once."""
    calibration = calibrate(judgement)
    network, sites = join(weights), read_sites(data)
    bundle = save_bundle(
        network,
        out / "rxrx1-celltype.cellclf",
        preprocessing=PREPROCESSING,
        test_image=make_test_image(PREPROCESSING, (96, 96)),
        single_channel=SINGLE_CHANNEL,
        unlikeness=fit_unlikeness(network, sites, left_out, judgement.always_right()),
        # The images that it was trained on: no others are at hand.
        typical=[PREPROCESSING(site.image) for site in sites],
        seen_images=SeenImages.of(
            (one, "train") for site in sites for one in pixel_hashes(site.image)
        ),
        evaluations=evaluations(judgement, calibration),
        temperature=calibration.temperature,
        unsure_threshold=calibration.unsure_threshold,
        prediction_sets=prediction_sets_of(calibration),
        overwrite=True,
        **describe(data, len(weights)),
    )
    return Path(bundle.path)


def main() -> None:
    """Run all of it; parts that are done in the work folder are not done again."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of RxRx1 sites")
    parser.add_argument("--out", type=Path, required=True, help="folder for the bundle")
    parser.add_argument("--work", type=Path, default=Path("runs/rxrx1-celltype"))
    parser.add_argument("--seeds", type=int, default=1, help="networks that are averaged")
    parser.add_argument("--jobs", type=int, default=2, help="trainings at a time")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    plates = sorted({site.fields["plate"] for site in find_images(arguments.data, "rxrx1").named})
    # Fresh processes: a copy of one that has started TensorFlow's threads would hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.jobs, mp_context=context) as pool:
        left_out = [
            [
                pool.submit(leave_plate_out, arguments.data, arguments.work, plate, seed)
                for plate in plates
            ]
            for seed in range(arguments.seeds)
        ]
        final = [
            pool.submit(train_final, arguments.data, arguments.work, seed)
            for seed in range(arguments.seeds)
        ]
        judgement = collect([[job.result() for job in of_seed] for of_seed in left_out])
        weights = [job.result() for job in final]
    report(judgement)
    members = {
        int(plate): [
            arguments.work / f"lopo-{plate}-{seed}.weights.h5" for seed in range(arguments.seeds)
        ]
        for plate in plates
    }
    bundle = write(arguments.data, arguments.out, weights, members, judgement)
    size = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file())
    print(f"{bundle}: {size / 1e6:.2f} MB, {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
