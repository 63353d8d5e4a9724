"""The public names: exactly these, loaded when first used, each documented with an example."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

import napari_cellclf
from napari_cellclf.errors import CellclfError

PUBLIC = [
    "Classifier",
    "Dataset",
    "Evaluation",
    "Explanation",
    "Image",
    "ImageObject",
    "ModelBundle",
    "ObjectCrop",
    "Predictions",
    "Preprocessing",
    "TrainingConfig",
    "__version__",
    "evaluate",
    "list_models",
    "load_classifier",
    "objects_at",
    "objects_in_mask",
    "read_dataset",
    "read_image",
    "simulate_embryo",
    "simulate_site",
    "train",
]
DOCUMENTED = [name for name in PUBLIC if not name.startswith("__")]


def _sections(documented: object) -> list[str]:
    text = inspect.getdoc(documented) or ""
    return re.findall(r"^([A-Z][A-Za-z ]+)\n-+$", text, re.MULTILINE)


def test_the_public_names_are_these() -> None:
    assert napari_cellclf.__all__ == PUBLIC
    assert dir(napari_cellclf) == PUBLIC


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_is_the_one_of_its_module(name: str) -> None:
    value = getattr(napari_cellclf, name)
    assert value.__name__ == name
    assert value.__module__.startswith("napari_cellclf.")
    assert getattr(importlib.import_module(value.__module__), name) is value


def test_other_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'clasify'"):
        napari_cellclf.clasify  # noqa: B018


@pytest.mark.parametrize("name", DOCUMENTED)
def test_a_public_name_is_documented_in_numpydoc_with_an_example(name: str) -> None:
    value = getattr(napari_cellclf, name)
    sections = _sections(value)
    takes_something = [p for p in inspect.signature(value).parameters if p != "self"]
    if takes_something:
        assert "Parameters" in sections
    if inspect.isfunction(value):
        assert "Returns" in sections
    assert sections[-1] == "Examples"
    assert ">>>" in (inspect.getdoc(value) or "").split("Examples\n")[-1]


@pytest.mark.parametrize("name", [n for n in DOCUMENTED if n[0].isupper()])
def test_public_methods_are_documented(name: str) -> None:
    cls = getattr(napari_cellclf, name)
    methods = {
        member: value
        for member, value in vars(cls).items()
        if not member.startswith("_") and inspect.isfunction(getattr(value, "__func__", value))
    }
    bare = [
        member
        for member, value in methods.items()
        if not (inspect.getdoc(value) or "").strip()
        or (len(inspect.signature(getattr(value, "__func__", value)).parameters) > 1
            and not {"Parameters", "Returns"} & set(_sections(value)))
    ]  # fmt: skip
    assert not bare


def test_every_error_is_in_the_tree_at_the_top_of_its_module() -> None:
    errors = importlib.import_module("napari_cellclf.errors")
    for name, value in vars(errors).items():
        if inspect.isclass(value):
            assert issubclass(value, CellclfError), name
            assert re.search(rf"\b{name}\b", errors.__doc__ or ""), name
