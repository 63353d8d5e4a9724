"""From a name in a list, or an address, to a model that answers."""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from loopback import FAST, Server, serving
from napari_cellclf.bundles.arrays import dump_array, dump_weights
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.catalogue import find_model, is_here
from napari_cellclf.bundles.model_lists import WeightsEntry, find_entry, read_registries
from napari_cellclf.bundles.write import remove_model, share_model, write_bundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import (
    BundleError,
    CancelledError,
    DownloadError,
    InputError,
    RegistryError,
    SelfTestError,
    UnsafeModelError,
)
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.models.architectures import applications
from napari_cellclf.models.architectures.pretrained_weights import fetch_imagenet_weights
from napari_cellclf.models.fetching import fetch_address, fetch_model
from napari_cellclf.models.save import save_bundle

#: Keras publishes no checksum of these.
UNCHECKED = {"mobilenet", "mobilenetv2"}


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(scope="module")
def network() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2, activation="softmax")]
    )


@pytest.fixture(scope="module")
def files(network: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A bundle as one file, and a bare network."""
    folder = tmp_path_factory.mktemp("made")
    made = save_bundle(
        network,
        folder / "made.cellclf",
        preprocessing=Preprocessing(channels=[{"name": "DNA"}], size=(8, 8)),
        classes=["a", "b"],
        architecture="made-up",
        test_image=Image(np.arange(64.0).reshape(8, 8), "YX"),
    )
    network.save(folder / "net.keras")
    good = share_model(made.path, folder / "good.zip").path.read_bytes()
    return {"good.cellclf": good, "net.keras": (folder / "net.keras").read_bytes()}


@pytest.fixture
def server(
    files: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("CELLCLF_REGISTRY", str(tmp_path / "list.json"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    with serving() as running:
        running.files = {f"/{name}": body for name, body in files.items()}
        entries = [
            entry(running, "good.cellclf", kind="bundle", classes=["a", "b"], channels=["DNA"]),
            entry(
                running,
                "net.keras",
                kind="network",
                classes=[{"name": "a"}, {"name": "b"}],
                preprocessing={"channels": [{"name": "DNA"}], "size": [8, 8]},
                limits=["Made up."],
            ),
        ]
        write_list(tmp_path, entries)
        yield running


def entry(server: Server, file: str, **fields: Any) -> dict[str, Any]:
    body = server.files[f"/{file}"]
    return {
        "name": f"the-{file.partition('.')[0]}",
        "title": "Made up",
        "uri": f"{server.url}/{file}",
        "sha256": sha256(body),
        "size_bytes": len(body),
        "licence": "CC0-1.0",
    } | fields


def write_list(folder: Path, entries: list[dict[str, Any]]) -> None:
    text = json.dumps({"format_version": 1, "title": "Made up", "entries": entries})
    (folder / "list.json").write_text(text)


def test_a_bundle_is_fetched_tried_and_found(server: Server, tmp_path: Path) -> None:
    told: list[Progress] = []
    bundle = fetch_model("the-good", on_progress=told.append)
    assert isinstance(bundle, ModelBundle)
    assert bundle.path == tmp_path / "models" / "the-good.cellclf" == find_model("the-good")
    assert told[-1] == Progress(1, 1, "trying the-good")
    assert is_here(find_entry("the-good"))
    answer = load_classifier("the-good").predict(np.arange(64.0).reshape(8, 8))
    assert answer.label in ("a", "b")


def test_the_second_use_asks_nobody_and_after_a_removal_the_cache_has_it(server: Server) -> None:
    first = fetch_model("the-good")
    asked = len(server.requests)
    assert fetch_model("the-good") == first
    remove_model("the-good")
    assert not is_here(find_entry("the-good"))
    assert fetch_model("the-good", offline=True) == first
    assert len(server.requests) == asked


def test_a_network_becomes_a_model_and_survives_a_round_trip(
    server: Server, network: keras.Model, tmp_path: Path
) -> None:
    bundle = fetch_model("the-net")
    assert isinstance(bundle, ModelBundle)
    assert bundle.spec.class_names == ("a", "b")
    assert (bundle.spec.licence, bundle.spec.title) == ("CC0-1.0", "Made up")
    assert "Made up." in bundle.spec.limits
    image = np.random.default_rng(0).random((8, 8))
    pixels = bundle.spec.input.preprocessing(Image(image, "YX"))
    expected = np.asarray(network(pixels[np.newaxis]))[0]
    shared = share_model("the-net", tmp_path / "shared.zip")
    for name in ("the-net", shared.path):
        found = load_classifier(name, precision="float32").predict(image)
        np.testing.assert_allclose(found.probabilities[0], expected, atol=1e-6)


def test_somebodys_own_model_is_not_taken_for_it(server: Server, tmp_path: Path) -> None:
    fetch_model("the-good")
    mine = tmp_path / "models" / "the-net.cellclf"
    share_model("the-good", mine)
    with pytest.raises(BundleError, match="another model 'the-net'"):
        fetch_model("the-net")
    assert ModelBundle.load(mine).spec.architecture.name == "made-up"
    assert fetch_model("the-net", overwrite=True).spec.title == "Made up"


def test_a_file_that_is_no_model_changes_nothing(server: Server, tmp_path: Path) -> None:
    server.files["/bad.cellclf"] = b"<html>"
    write_list(
        tmp_path,
        [entry(server, "bad.cellclf", kind="bundle", classes=["a", "b"], channels=["DNA"])],
    )
    with pytest.raises((BundleError, UnsafeModelError)):
        fetch_model("the-bad")
    assert list((tmp_path / "models").glob("*")) == []


@pytest.mark.parametrize("classes", [["a", "c"], ["b", "a"], ["a", "b", "c"]])
def test_a_bundle_of_other_classes_than_announced_is_not_put_in_place(
    server: Server, tmp_path: Path, classes: list[str]
) -> None:
    announced = entry(server, "good.cellclf", kind="bundle", classes=classes, channels=["DNA"])
    write_list(tmp_path, [announced])
    with pytest.raises(BundleError, match=r"has other classes \(a, b\) than the list"):
        fetch_model("the-good")
    assert list((tmp_path / "models").glob("*")) == []


def test_a_bundle_that_answers_otherwise_is_not_put_in_place(
    server: Server, files: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "good.cellclf").write_bytes(files["good.cellclf"])
    good = ModelBundle.load(tmp_path / "good.cellclf")
    parts: dict[str, bytes | Path] = {
        "weights.safetensors": dump_weights({key: -array for key, array in good.weights().items()}),
        "test_input.npy": dump_array(good.test_input),
        "test_output.npy": dump_array(good.test_output),
    }
    body = write_bundle(tmp_path / "x.cellclf", good.spec, parts, as_zip=True).path.read_bytes()
    server.files["/wrong.cellclf"] = body
    with pytest.raises(SelfTestError):
        fetch_address(f"{server.url}/wrong.cellclf", sha256=sha256(body))
    assert list((tmp_path / "models").glob("*")) == []


@pytest.mark.parametrize("when", ["http", "trying"])
def test_a_stop_leaves_nothing(server: Server, tmp_path: Path, when: str) -> None:
    told: list[str] = []
    with pytest.raises(CancelledError):
        fetch_model(
            "the-good",
            on_progress=lambda progress: told.append(progress.message),
            should_stop=lambda: bool(told) and told[-1].startswith(when),
        )
    assert list((tmp_path / "models").glob("*")) == []


def test_offline_says_what_to_do(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="fetch it once"):
        fetch_model("the-good", offline=True)
    with pytest.raises(RegistryError, match=r"'nothing' can be fetched; .* list --available"):
        fetch_model("nothing")


def test_an_address_needs_no_list(server: Server, files: dict[str, bytes], tmp_path: Path) -> None:
    options: dict[str, Any] = {"sha256": sha256(files["good.cellclf"]), "rules": FAST}
    bundle = fetch_address(f"{server.url}/good.cellclf", name="renamed", **options)
    assert find_model("renamed") == tmp_path / "models" / "renamed.cellclf" == bundle.path
    with pytest.raises(BundleError, match="give another name"):
        fetch_address(f"{server.url}/good.cellclf", name="renamed", **options)
    with pytest.raises(BundleError, match="cannot be the name of a model"):
        fetch_address(f"{server.url}/good.cellclf", name="a b", **options)
    with pytest.raises(DownloadError, match="SHA-256 differs"):
        fetch_address(f"{server.url}/net.keras", **options)
    with pytest.raises(InputError, match="not a SHA-256"):
        fetch_address(f"{server.url}/good.cellclf", sha256="1234")


def test_a_network_by_its_address_waits_for_what_must_be_said(
    server: Server, files: dict[str, bytes], tmp_path: Path
) -> None:
    path = fetch_address(f"{server.url}/net.keras", sha256=sha256(files["net.keras"]))
    assert isinstance(path, Path)
    assert path.is_relative_to(tmp_path / "cache")
    assert not (tmp_path / "models").exists()


def test_the_published_classifier(server: Server, real_data: Path, tmp_path: Path) -> None:
    """The real file, from a list that names a server on this computer."""
    published = find_entry("saureus-cellcycle-dna")
    file = real_data / "keras-models" / "dna_only_cellcycle_model.keras"
    server.files["/dna.keras"] = file.read_bytes()
    described = published.model_dump(mode="json", exclude_none=True)
    described |= {"name": "here", "uri": f"{server.url}/dna.keras"}
    write_list(tmp_path, [described])
    bundle = fetch_model("here")
    assert isinstance(bundle, ModelBundle)
    assert bundle.spec.class_names == ("Phase 1", "Phase 2", "Phase 3")
    assert bundle.spec.input.preprocessing.size == (100, 100)
    shared = share_model("here", tmp_path / "shared.cellclf")
    image = np.random.default_rng(0).random((60, 60))
    answers = [
        load_classifier(name, precision="float32").predict(image) for name in ("here", shared.path)
    ]
    np.testing.assert_array_equal(answers[0].probabilities, answers[1].probabilities)


def test_the_list_names_every_backbone_as_keras_publishes_it() -> None:
    entries = [e for e in read_registries().entries if isinstance(e, WeightsEntry)]
    assert {e.architecture for e in entries} == set(applications.application_names()) - UNCHECKED
    folder = Path(str(keras.__file__)).parent / "src" / "applications"
    sources = "".join(path.read_text("utf-8") for path in folder.glob("*.py"))
    others = [e.name for e in entries if e.checksum.digest not in sources]
    assert not others, "Keras publishes others now: run tools/make_registry.py"
    for name in UNCHECKED:
        source = inspect.getsource(sys.modules[applications._application(name).__module__])
        assert "file_hash" not in source, f"Keras has a checksum of {name} now"


@pytest.mark.parametrize("name", ["resnet50", "mobilenetv3small", "efficientnetb0"])
def test_an_entry_is_what_keras_would_fetch(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, str]] = []

    def ask(fname: str, origin: str, *, file_hash: str, **_: object) -> None:
        asked.append((fname, origin, file_hash))
        raise DownloadError("far enough")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", ask)
    make = applications._application(name)
    with pytest.raises(DownloadError, match="far enough"):
        make(include_top=False, weights="imagenet", input_shape=(224, 224, 3))
    found = find_entry(f"imagenet-{name}")
    assert isinstance(found, WeightsEntry)
    assert asked == [(found.file_name, found.uri, found.checksum.digest)]


@pytest.fixture
def small_weights(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, bytes]:
    """Weights of a real, small backbone, on this computer instead of at Keras's."""
    import h5py
    from keras.src.applications import mobilenet_v3
    from keras.src.legacy.saving import legacy_h5_format

    name = "mobilenetv3small"
    made = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(224, 224, 3), pooling="avg"
    )
    published = next(e for e in read_registries().entries if e.name == f"imagenet-{name}")
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, made)
    body = path.read_bytes()
    server.files["/w.h5"] = body
    stated = {"uri": f"{server.url}/w.h5", "sha256": None}
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
    ours = published.model_copy(update=stated | {"md5": digest, "md5_reason": "for a test"})
    monkeypatch.setattr(
        "napari_cellclf.models.architectures.pretrained_weights.read_registries",
        lambda: type(read_registries())((ours,)),
    )
    monkeypatch.setitem(mobilenet_v3.WEIGHTS_HASHES, "small_224_1.0_float", (digest, digest))
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    return name, body


def test_training_takes_imagenet_weights_from_where_they_were_fetched_to(
    server: Server, small_weights: tuple[str, bytes], tmp_path: Path
) -> None:
    name, body = small_weights
    network = applications.Application(name).build((224, 224, 3), 2, weights="imagenet")
    (path,) = (tmp_path / "keras" / "models").glob("*.h5")
    assert path.read_bytes() == body
    assert len(server.requests) == 1
    # Again, and without a connection.
    server.fault = "500"
    again = applications.Application(name).build((224, 224, 3), 2, weights="imagenet")
    assert len(server.requests) == 1
    kernel = [layer for layer in network.layers if layer.name == "conv"]
    same = [layer for layer in again.layers if layer.name == "conv"]
    for first, second in zip(kernel, same, strict=True):
        np.testing.assert_array_equal(first.get_weights()[0], second.get_weights()[0])


def test_weights_that_cannot_be_fetched_say_so(
    server: Server, small_weights: tuple[str, bytes]
) -> None:
    server.fault = "404"
    with pytest.raises(DownloadError, match=r"mobilenetv3small .* 404 .* efficientnet-lite0"):
        fetch_imagenet_weights("mobilenetv3small")
    assert len(server.requests) == 1


def test_offline_also_keeps_keras_from_the_network(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_OFFLINE", "1")
    with pytest.raises(DownloadError, match="CELLCLF_OFFLINE forbids the network"):
        fetch_imagenet_weights("mobilenetv2")
    with pytest.raises(DownloadError, match="the network must not be used"):
        fetch_imagenet_weights("resnet50")
