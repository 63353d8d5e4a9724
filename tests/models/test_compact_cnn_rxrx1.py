"""The bundled model on the real fields it was trained on, and what it says of itself."""

import numpy as np
import pytest

from napari_cellclf.bundles.library import find_model
from napari_cellclf.core.image import Image
from napari_cellclf.core.simulation import simulate_site
from napari_cellclf.errors import ChannelMismatchError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.rxrx1 import find_sites, read_site


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("rxrx1-celltype")


def test_is_small():
    files = [path for path in find_model("rxrx1-celltype").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 3_000_000


def test_names_its_data_licence_and_limits(classifier):
    spec = classifier.bundle.spec
    assert classifier.classes == ("HEPG2", "HUVEC", "RPE", "U2OS")
    assert "CC BY-NC-SA 4.0" in spec.licence
    assert "arXiv:2301.05768" in spec.citation
    assert spec.limits
    plain = next(e for e in spec.evaluations if e.name == "leave one plate out, as it is")
    assert (plain.n, plain.metrics["accuracy"]) == (24, 1.0)
    assert spec.temperature >= 1


def test_needs_w1_to_w4_only(classifier):
    four = simulate_site("U2OS", seed=1, channels=4)
    assert len(classifier.predict(four)) == 1
    with pytest.raises(ChannelMismatchError, match="w4 Syto14"):
        classifier.predict(simulate_site("U2OS", seed=1, channels=3))


def test_knows_all_real_fields(classifier, real_data):
    sites = find_sites(real_data / "rxrx1")
    assert len(sites) == 24
    images = [read_site(site) for site in sites]
    truth = [site.name.experiment.partition("-")[0] for site in sites]
    assert list(classifier.predict(images).labels) == truth


def test_knows_real_fields_without_w5_w6_and_in_16_bits(classifier, real_data):
    sites = [s for s in find_sites(real_data / "rxrx1") if s.name.site == 1]
    truth = [site.name.experiment.partition("-")[0] for site in sites]
    images = []
    for site in sites:
        image = read_site(site)
        pixels = image.to_cyx()[:4].astype(np.uint16) * 137 + 2000
        images.append(Image(pixels, "CYX", image.channels[:4]))
    assert list(classifier.predict(images).labels) == truth
