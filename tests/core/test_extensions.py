from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from napari_cellclf.core import extensions
from napari_cellclf.core.extensions import ExtensionPoint
from napari_cellclf.errors import InputError

POINTS = ExtensionPoint[Any]("tests.things", "thing", InputError)


def _offer(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    points = [EntryPoint(name, value, POINTS.group) for name, value in values.items()]
    monkeypatch.setattr(extensions, "entry_points", lambda group: points)
    extensions._declared.cache_clear()


@pytest.fixture(autouse=True)
def _forget() -> Any:
    yield
    extensions._declared.cache_clear()


def test_an_extension_is_what_its_entry_point_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import math

    _offer(monkeypatch, pi="math:pi", root="math:sqrt")
    assert POINTS.names() == ("pi", "root")
    assert POINTS.get("root") is math.sqrt
    assert POINTS.all() == {"pi": math.pi, "root": math.sqrt}


def test_a_missing_extension_is_one_line_that_names_those_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _offer(monkeypatch, pi="math:pi")
    with pytest.raises(InputError, match=r"^no thing named 'tau' is installed; installed: pi$"):
        POINTS.get("tau")


@pytest.mark.parametrize("value", ["no_such_package_at_all:x", "math:no_such_name"])
def test_a_broken_extension_is_one_line(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    _offer(monkeypatch, broken=value)
    with pytest.raises(InputError, match=r"'broken' .* cannot be imported .* reinstall") as caught:
        POINTS.get("broken")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["math:pi", "collections:OrderedDict"])
def test_something_else_than_an_instance_is_one_line(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    points = ExtensionPoint[Any](POINTS.group, "thing", InputError, dict)
    _offer(monkeypatch, wrong=value, right="sys:modules")
    assert points.get("right")
    with pytest.raises(InputError, match=r"'wrong' \(.*\) is not an instance of dict; correct"):
        points.get("wrong")


@pytest.mark.parametrize("value", ["math:pi", "sys:modules", "collections:deque"])
def test_something_else_than_a_class_is_one_line(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    points = ExtensionPoint[Any](POINTS.group, "thing", InputError, dict, of_classes=True)
    _offer(monkeypatch, wrong=value, right="collections:OrderedDict")
    assert points.get("right")
    with pytest.raises(InputError, match="is not a class derived from dict"):
        points.get("wrong")


def test_nobody_replaces_one_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("image", "math:pi", POINTS.group),
        EntryPoint("image", "napari_cellclf.core.image:Image", POINTS.group),
    ]
    monkeypatch.setattr(extensions, "entry_points", lambda group: points)
    extensions._declared.cache_clear()
    assert POINTS.get("image").__name__ == "Image"
