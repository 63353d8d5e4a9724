"""What the server answers, as models that make the answers and describe them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from napari_cellclf.bundles.schema import BundleSpec, Sha256


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Failure(_Answer):
    """Why there is no answer."""

    error: str = Field(description="a code for programs", examples=["channel_mismatch"])
    detail: str = Field(description="one sentence: what was received, and what to do")


class ModelName(_Answer):
    """Which model answered."""

    name: str
    sha256: Sha256 = Field(description="of all that its bundle says, its network included")


class ImageAnswer(_Answer):
    """The class of one image, or of one plane of a stack."""

    image: str = Field(description="the file's name; planes add their position")
    label: str = Field(description="the most probable class")
    confidence: float = Field(ge=0, le=1, description="its probability")
    unsure: bool | None = Field(
        default=None, description="whether that is below the model's threshold, if it has one"
    )
    probabilities: dict[str, float] = Field(description="of all classes, in the model's order")
    warnings: tuple[str, ...] = ()
    metadata: dict[str, Any] = Field(default={}, description="what the file's name says")


class ImageFailure(Failure):
    """Why one of several images has no class."""

    image: str


class Answer(_Answer):
    """The classes of all images of a request, in order."""

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
    """The model, its card, and all it takes to prepare images for it."""

    device: str
    version: str = Field(description="of napari-cellclf on the server")
    card: str = Field(description="Markdown")
    spec: BundleSpec
    limits: RequestLimits


class State(_Answer):
    """Whether the server is alive, or ready to be asked."""

    status: str = Field(examples=["ok"])
