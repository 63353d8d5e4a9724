"""The formats that models are exported to, and what can be chosen about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Format:
    """A format that models can be exported to."""

    #: For people.
    title: str
    #: What the path must end in; empty for a folder of any name.
    suffix: str
    #: Suffix of a second file that belongs to it, or nothing.
    beside: str = ""


FormatName = Literal["onnx", "openvino", "savedmodel", "keras", "bioimageio"]

#: By the name that `export_model` and the command line take.
FORMATS: dict[FormatName, Format] = {
    "onnx": Format("ONNX", ".onnx"),
    "openvino": Format("OpenVINO", ".xml", beside=".bin"),
    "savedmodel": Format("TensorFlow SavedModel", ""),
    "keras": Format("Keras, the network only", ".keras"),
    "bioimageio": Format("bioimage.io package", ".zip"),
}


class ExportOptions(BaseModel):
    """What can be chosen when a model is exported.

    Parameters
    ----------
    format : {'onnx', 'openvino', 'savedmodel', 'keras', 'bioimageio'}
        Which program it is for: ONNX or OpenVINO, TensorFlow (a folder), Keras (the network only),
        or a bioimage.io package.
    licence : str
        SPDX identifier such as CC-BY-4.0, for bioimageio; by default what the model says.
    authors : str
        For bioimageio, which needs one or more: name and affiliation, such as
        Ada Lovelace, Analytical Institute; several with semicolons between.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: FormatName = "onnx"
    licence: str = ""
    authors: str = ""

    @property
    def author_list(self) -> list[str]:
        """The authors, one by one."""
        return [one.strip() for one in self.authors.split(";") if one.strip()]
