"""Requests and answers of the server as models, and the OpenAPI description made from them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from napari_cellclf.bundles.schema import BundleSpec, Sha256

_REF = "#/components/schemas/{model}"
BINARY = {"type": "string", "format": "binary"}
_FILES = {"type": "object", "properties": {"image": {"type": "array", "items": BINARY}}}
_REASONS = {
    400: "The request is not well formed.",
    401: "A token is needed, or the one sent is wrong.",
    404: "The model has none.",
    408: "The body did not arrive in time.",
    412: "The server has loaded another model.",
    413: "The body, or an image in it, is too large.",
    415: "Not a PNG, JPEG, TIFF or BMP image.",
    422: "The images cannot be used with this model.",
    503: "The server is busy; try again after Retry-After seconds.",
    504: "The answer was not ready in time.",
}


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(_Answer):
    """An error."""

    error: str = Field(description="a code for programs", examples=["channel_mismatch"])
    detail: str = Field(description="one sentence: what was received, and what to do")


class ModelName(_Answer):
    """The model that predicted."""

    name: str
    sha256: Sha256 = Field(description="of the bundle's description, with the hashes of its files")


class ImageAnswer(_Answer):
    """The prediction of one image, or of one plane of a stack."""

    image: str = Field(description="the file's name; planes add their position")
    label: str = Field(description="the most probable class")
    confidence: float = Field(ge=0, le=1, description="its probability")
    unsure: bool | None = Field(
        default=None, description="whether it is below the model's threshold, if there is one"
    )
    prediction_set: tuple[str, ...] | None = Field(
        default=None,
        description="the classes that it may be of, the most probable first, if the model has a "
        "threshold for that",
    )
    unlike: bool | None = Field(
        default=None,
        description="whether it is unlike anything in training, if the model can say: its "
        "`unlike_score` is above 1",
    )
    unlike_score: float | None = Field(
        default=None, description="how unlike it is to the images of training; 1 is the limit"
    )
    remarks: tuple[str, ...] = Field(
        default=(),
        description="what plain checks of its pixels found",
        examples=[["constant channel: w3"]],
    )
    probabilities: dict[str, float] = Field(description="of all classes, in the model's order")
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = Field(default={}, description="fields of the file's name")


class ImageFailure(Failure):
    """The error of one of several images."""

    image: str


class Answer(_Answer):
    """The predictions of all images of a request, in order."""

    model: ModelName
    predictions: tuple[ImageAnswer | ImageFailure, ...]


class RequestLimits(_Answer):
    """How much one request may hold."""

    body_bytes: int
    pixel_bytes: int
    files: int
    planes: int
    batch: int = Field(description="arrays in one /api/compute")


class ModelAnswer(ModelName):
    """The model, its card, and everything needed to prepare images for it."""

    device: str
    version: str = Field(description="of napari-cellclf on the server")
    card: str = Field(description="Markdown")
    gives_features: bool = Field(
        description="whether /api/compute gives what tells images that are unlike training"
    )
    spec: BundleSpec
    limits: RequestLimits


class State(_Answer):
    """Whether the server is alive, or ready for requests."""

    status: str = Field(examples=["ok"])


class PredictQuery(BaseModel):
    """The query parameters of ``/api/predict``."""

    channels: str = Field(
        default="",
        description="Which channel of the image feeds which of the model: "
        "`MODEL=IMAGE,MODEL=IMAGE`; nothing after the = leaves one out.",
    )
    channel: list[str] = Field(
        default=[],
        description="What each file shows, where names do not say it; once for each file, in "
        "order. The files are then one image.",
    )


class ComputeQuery(BaseModel):
    """The query parameters of ``/api/compute``."""

    features: bool = Field(
        default=False,
        description="Whether to add the features, from which the network decides, to its "
        "probabilities: (N, K + F).",
    )


class ModelHeaders(BaseModel):
    """The headers of what is about one model and no other."""

    if_match: str = Field(
        alias="If-Match",
        description="The sha256 of the model that is meant, in quotes.",
    )


@dataclass(frozen=True)
class Endpoint:
    """An address of the server, its handler and its description."""

    path: str
    handler: Callable[[Request], Awaitable[Response]]
    #: One sentence; without it, the address is not described.
    summary: str = ""
    methods: tuple[str, ...] = ("GET",)
    #: The content types of a body, if it takes one, and of its answer: models or schemas.
    takes: tuple[str, ...] = ()
    answers: dict[str, type[BaseModel] | dict[str, Any]] | None = None
    query: type[BaseModel] | None = None
    headers: type[BaseModel] | None = None
    statuses: tuple[int, ...] = ()
    #: Whether it needs no token, since it reveals nothing of the model and costs nothing.
    public: bool = False


def describe(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Describe the API in OpenAPI 3.1."""
    from napari_cellclf import __version__

    described = [endpoint for endpoint in endpoints if endpoint.summary]
    answers = (answer for one in described for answer in (one.answers or {}).values())
    models = {Failure} | {answer for answer in answers if isinstance(answer, type)}
    _, definitions = models_json_schema(
        [(model, "serialization") for model in sorted(models, key=lambda model: model.__name__)],
        ref_template=_REF,
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "napari-cellclf",
            "description": "Classifies microscopy images.",
            "version": __version__,
        },
        "paths": {
            endpoint.path: {
                method.lower(): _operation(endpoint, method) for method in endpoint.methods
            }
            for endpoint in described
        },
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, method: str) -> dict[str, Any]:
    answers = {kind: {"schema": _schema(it)} for kind, it in (endpoint.answers or {}).items()}
    failure = {"application/json": {"schema": _schema(Failure)}}
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "security": [] if endpoint.public else [{}, {"token": []}],
        "responses": {
            "200": {"description": "As asked.", "content": answers},
            **{
                str(status): {"description": _REASONS[status], "content": failure}
                for status in endpoint.statuses
            },
        },
    }
    parameters = [*_parameters(endpoint.query, "query"), *_parameters(endpoint.headers, "header")]
    if parameters:
        operation["parameters"] = parameters
    if endpoint.takes and method == "GET":
        # OpenAPI gives a GET no body of its own; the clients of the first version send one.
        operation["description"] = (
            "The body holds the bytes of a PNG, JPEG, TIFF or BMP image; the answer is one line."
        )
    elif endpoint.takes:
        content = {
            kind: {"schema": _FILES if kind == "multipart/form-data" else BINARY}
            for kind in endpoint.takes
        }
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _schema(answer: type[BaseModel] | dict[str, Any]) -> dict[str, Any]:
    if isinstance(answer, dict):
        return answer
    return {"$ref": _REF.format(model=answer.__name__)}


def _parameters(model: type[BaseModel] | None, place: str) -> list[dict[str, Any]]:
    """Describe the fields of a model as parameters of a request."""
    if model is None:
        return []
    schema = model.model_json_schema()
    return [
        {
            "name": name,
            "in": place,
            "description": field.pop("description"),
            "required": name in schema.get("required", ()),
            "schema": {key: value for key, value in field.items() if key != "title"},
        }
        for name, field in schema["properties"].items()
    ]
