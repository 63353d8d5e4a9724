"""The OpenAPI description, made of the models that make the answers."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from napari_cellclf.server.schemas import Answer, Failure, ModelAnswer, State

_REF = "#/components/schemas/{model}"
_IMAGES = ("image/png", "image/jpeg", "image/tiff", "application/octet-stream")
_BINARY = {"type": "string", "format": "binary"}
_REASONS = {
    400: "The request is not well formed.",
    401: "A token is needed, or it is another one.",
    408: "The body did not arrive in time.",
    412: "Another model answers now.",
    413: "The body, or an image in it, is too large.",
    415: "Not a PNG, JPEG or TIFF image.",
    422: "The images cannot be used with this model.",
    503: "Too much to do; come again after Retry-After.",
    504: "The answer was not ready in time.",
}
_PARAMETERS = [
    {
        "name": "channels",
        "in": "query",
        "description": "Which channel of the image feeds which of the model: "
        "`MODEL=IMAGE,MODEL=IMAGE`; nothing after the = leaves one out.",
        "schema": {"type": "string"},
    },
    {
        "name": "channel",
        "in": "query",
        "description": "What each file shows, where names do not say it; once for each file, in "
        "order. The files are then one image.",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
]


@cache
def description() -> dict[str, Any]:
    """Describe the API."""
    from napari_cellclf import __version__

    _, definitions = models_json_schema(
        [(model, "serialization") for model in (Answer, Failure, ModelAnswer, State)],
        ref_template=_REF,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "napari-cellclf",
            "description": "Tells what class microscopy images belong to.",
            "version": __version__,
        },
        "paths": {
            "/api/predict": {"get": _predict_get(), "post": _predict_post()},
            "/api/compute": {"post": _compute()},
            "/api/model": {"get": _plain("The model and its card.", ModelAnswer, 401)},
            "/healthz": {"get": _plain("Whether the server is alive.", State, public=True)},
            "/readyz": {"get": _plain("Whether it can be asked.", State, 503, public=True)},
            "/metrics": {
                "get": _operation(
                    "Numbers for Prometheus.", {"text/plain": {"schema": {"type": "string"}}}, 401
                )
            },
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _predict_get() -> dict[str, Any]:
    text = {"type": "string", "examples": ["HEPG2: 0.8455, HUVEC: 0.1040, RPE: 0.0505"]}
    answer = {"text/plain": {"schema": text}, "application/json": {"schema": _ref(Answer)}}
    operation = _operation("Classify the image in the body.", answer, *_IMAGE_STATUSES)
    # OpenAPI gives a GET no body of its own; the clients of the first version send one.
    operation["description"] = (
        "The body holds the bytes of an encoded PNG, JPEG or TIFF image; the answer is one line."
    )
    return operation | {"parameters": _PARAMETERS}


def _predict_post() -> dict[str, Any]:
    answer = {
        "application/json": {"schema": _ref(Answer)},
        "text/plain": {"schema": {"type": "string"}},
    }
    files = {
        "type": "object",
        "properties": {"image": {"type": "array", "items": _BINARY}},
    }
    body: dict[str, Any] = {kind: {"schema": _BINARY} for kind in _IMAGES}
    body["multipart/form-data"] = {"schema": files}
    return _operation("Classify images.", answer, *_IMAGE_STATUSES) | {
        "parameters": _PARAMETERS,
        "requestBody": {"required": True, "content": body},
    }


def _compute() -> dict[str, Any]:
    npy = {"application/octet-stream": {"schema": _BINARY}}
    condition = {
        "name": "If-Match",
        "in": "header",
        "description": "The sha256 of the model that the arrays were prepared for, in quotes.",
        "required": True,
        "schema": {"type": "string"},
    }
    operation = _operation(
        "Compute the network: float32 (N, Y, X, C) in, (N, K) out, as .npy files.",
        npy, 400, 401, 408, 412, 413, 422, 503, 504,
    )  # fmt: skip
    return operation | {
        "parameters": [condition],
        "requestBody": {"required": True, "content": npy},
    }


_IMAGE_STATUSES = (400, 401, 408, 413, 415, 422, 503, 504)


def _plain(
    summary: str, model: type[BaseModel], *statuses: int, public: bool = False
) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(model)}}
    return _operation(summary, content, *statuses) | ({"security": []} if public else {})


def _operation(summary: str, content: dict[str, Any], *statuses: int) -> dict[str, Any]:
    failure = {"application/json": {"schema": _ref(Failure)}}
    responses: dict[str, Any] = {"200": {"description": "As asked.", "content": content}}
    for status in statuses:
        responses[str(status)] = {"description": _REASONS[status], "content": failure}
    return {"summary": summary, "responses": responses, "security": [{}, {"token": []}]}


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}
