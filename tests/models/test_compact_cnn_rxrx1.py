"""The bundled model on the real fields it was trained on, and what it says of itself."""

import numpy as np
import pytest

from napari_cellclf.bundles.catalogue import find_model
from napari_cellclf.core.image import Image
from napari_cellclf.core.simulation import simulate_site
from napari_cellclf.errors import ChannelMismatchError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.rebuild import weight_names
from napari_cellclf.io.named_images import find_images
from napari_cellclf.io.read import read_named
from napari_cellclf.models.architectures.registry import build_network


@pytest.fixture(scope="module")
def classifier():
    return load_classifier("rxrx1-celltype")


def test_is_small():
    files = [path for path in find_model("rxrx1-celltype").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 3_500_000


def test_names_its_data_licence_and_limits(classifier):
    spec = classifier.bundle.spec
    assert classifier.classes == ("HEPG2", "HUVEC", "RPE", "U2OS")
    assert "CC BY-NC-SA 4.0" in spec.licence
    assert "arXiv:2301.05768" in spec.citation
    assert spec.limits
    plain = next(e for e in spec.evaluations if e.name == "leave one plate out, as it is")
    assert (plain.n, plain.metrics["accuracy"]) == (24, 1.0)
    assert spec.temperature >= 1


def test_its_network_can_be_built_again_from_what_it_says(classifier):
    bundle = classifier.bundle
    spec = bundle.spec
    again = build_network(
        spec.architecture.name,
        input_shape=(None, None, len(spec.input.channels)),
        n_classes=len(spec.classes),
        **spec.architecture.parameters,
    )
    shipped = bundle.weights()
    names = weight_names(again)
    assert {n: w.shape for n, w in zip(names, again.weights, strict=True)} == {
        name: array.shape for name, array in shipped.items()
    }
    assert again.count_params() == spec.architecture.n_parameters
    again.set_weights([shipped[name] for name in names])
    pixels = spec.input.preprocessing(bundle.test_image)[np.newaxis]
    answer = np.asarray(again(pixels, training=False))
    np.testing.assert_allclose(answer, bundle.test_output, atol=1e-5)


def test_says_what_was_simulated(classifier):
    names = [evaluation.name for evaluation in classifier.bundle.spec.evaluations]
    assert len(names) == 39
    untouched = [name for name in names if "(" not in name]
    assert untouched == ["leave one plate out, as it is"]
    assert sum(name.endswith("(simulated change)") for name in names) == 27
    assert sum(name.endswith("(stains left out)") for name in names) == 11


def test_licences_lie_beside_the_weights(classifier):
    resources = classifier.bundle.path.parents[1]
    ours = (resources / "models" / "LICENSE-rxrx1-celltype.txt").read_text("utf-8")
    for part in (
        "creativecommons.org/licenses/by-nc-sa/4.0/legalcode",
        "Sypetkowski",
        "2301.05768",
    ):
        assert part in ours
    lite0 = (resources / "weights" / "LICENSE-efficientnet-lite0.txt").read_text("utf-8")
    for part in ("ML Illustrated", "9. Accepting Warranty", "END OF TERMS AND CONDITIONS"):
        assert part in lite0


def test_any_stain_suffices(classifier):
    site = simulate_site("U2OS", seed=1)
    for number in range(6):
        one = Image(site.to_cyx()[number], "YX", [site.channels[number]])
        assert len(classifier.predict(one)) == 1
    assert classifier.bundle.spec.input.single_channel == "w2 ConA"
    with pytest.raises(ChannelMismatchError, match="if it shows w2 ConA, say so"):
        classifier.predict(Image(site.to_cyx()[1], "YX"))


def test_says_how_well_it_does_by_each_subset_of_the_stains(classifier):
    found = {e.name: e for e in classifier.bundle.spec.evaluations}
    alone = [found[f"leave one plate out, w{n} alone (stains left out)"] for n in range(1, 7)]
    assert [one.n for one in alone] == [24, 24, 24, 24, 12, 12]
    # Few stains tell less; that must show in its confidence.
    assert all(one.metrics["wrong and not unsure"] <= 1 for one in alone)
    four = found["leave one plate out, w1 to w4 (stains left out)"]
    assert four.metrics["accuracy"] == 1


def test_knows_all_real_fields(classifier, real_data):
    sites = find_images(real_data / "rxrx1").named
    assert len(sites) == 24
    images = [read_named(site) for site in sites]
    truth = [site.fields["experiment"].partition("-")[0] for site in sites]
    assert list(classifier.predict(images).labels) == truth


def test_knows_real_fields_without_w5_w6_and_in_16_bits(classifier, real_data):
    sites = [s for s in find_images(real_data / "rxrx1").named if s.fields["site"] == 1]
    truth = [site.fields["experiment"].partition("-")[0] for site in sites]
    images = []
    for site in sites:
        image = read_named(site)
        pixels = image.to_cyx()[:4].astype(np.uint16) * 137 + 2000
        images.append(Image(pixels, "CYX", image.channels[:4]))
    assert list(classifier.predict(images).labels) == truth
