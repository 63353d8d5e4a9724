"""What the server says of itself: its model, its numbers, its description."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from server_samples import png

from napari_cellclf import __version__
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.server.app import ENDPOINTS
from napari_cellclf.server.schemas import Answer, Failure, ModelAnswer, describe
from napari_cellclf.server.served_model import ServedModel

RAW = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def one(running: Any, served_one: ServedModel) -> Iterator[httpx.Client]:
    with running(served_one) as live, httpx.Client(base_url=live.url) as client:
        yield client


def test_the_model_and_its_card(one: httpx.Client, served_one: ServedModel) -> None:
    answer = ModelAnswer.model_validate(one.get("/api/model").json())
    assert (answer.name, answer.version, answer.device) == (
        "one",
        __version__,
        served_one.classifier.device,
    )
    assert answer.sha256 == served_one.spec.fingerprint
    assert answer.spec == served_one.spec
    assert "w2 ConA" in answer.card


def test_a_model_is_told_from_another_by_any_change(served_one: ServedModel) -> None:
    spec = served_one.spec
    changed = [
        spec.model_copy(update={"temperature": 2.0}),
        spec.model_copy(update={"files": spec.files | {"weights.safetensors": "0" * 64}}),
    ]
    assert len({spec.fingerprint, *(one.fingerprint for one in changed)}) == 3
    again = BundleSpec.model_validate_json(spec.model_dump_json())
    assert again.fingerprint == spec.fingerprint


def test_alive_and_ready(one: httpx.Client) -> None:
    for path in ("/healthz", "/readyz"):
        assert one.get(path).json() == {"status": "ok"}


def test_numbers_for_prometheus(one: httpx.Client) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    one.post("/api/predict", content=png(9), headers=RAW)
    one.get("/made/up/by/a/client")
    answer = one.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    requests = {
        (sample.labels["path"], sample.labels["status"]): sample.value
        for sample in families["cellclf_requests"].samples
        if sample.name.endswith("_total")
    }
    assert requests["/api/predict", "200"] >= 1
    assert requests["other", "404"] >= 1
    assert "made" not in answer.text
    (model,) = families["cellclf_model_info"].samples
    assert model.labels["name"] == "one"
    assert families["process_resident_memory_bytes"].samples[0].value > 1e6


def test_the_description_is_valid() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(describe(ENDPOINTS))


def test_answers_are_as_described(one: httpx.Client) -> None:
    schemas = one.get("/openapi.json").json()["components"]["schemas"]
    for model in (Answer, Failure, ModelAnswer):
        assert set(schemas[model.__name__]["properties"]) == set(model.model_fields)
    good = one.post("/api/predict", content=png(9), headers=RAW)
    assert Answer.model_validate(good.json()).predictions[0].image == "image"
    bad = one.post("/api/predict", content=b"", headers=RAW)
    assert Failure.model_validate(bad.json()).error == "no_image"


def test_every_address_is_described(one: httpx.Client) -> None:
    for path, methods in describe(ENDPOINTS)["paths"].items():
        for method in ("get", "post"):
            found = one.request(method, path).status_code
            assert (found == 405) == (method not in methods), (path, method)


def test_every_status_of_an_image_is_described(one: httpx.Client) -> None:
    described = describe(ENDPOINTS)["paths"]["/api/predict"]["post"]["responses"]
    assert {"200", "400", "401", "408", "413", "415", "422", "503", "504"} == set(described)
    assert all(re.fullmatch(r"[A-Z].*\.", one["description"]) for one in described.values())
