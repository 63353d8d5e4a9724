"""What is wrong with settings is one plain sentence, without pydantic's words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from napari_cellclf.core.validation import reason_of


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    strength: float = Field(default=0.5, ge=0, le=1, allow_inf_nan=False)


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")

    count: int = Field(default=1, ge=1, lt=10)
    share: float = Field(default=0.5, gt=0, lt=1)
    on: bool = True
    kind: Literal["a", "b"] = "a"
    side: int | Literal["own"] = "own"
    names: tuple[Annotated[str, Field(min_length=1)], ...] = ("x",)
    few: tuple[int, ...] = Field(default=(1,), min_length=1, max_length=2)
    inner: Inner = Inner()
    needed: str

    @model_validator(mode="after")
    def _together(self) -> Settings:
        if self.kind == "b" and not self.on:
            raise ValueError("kind b needs on; switch it on")
        return self


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"count": 0}, "count cannot be 0; give a number of at least 1"),
        ({"count": 10}, "count cannot be 10; give a number below 10"),
        ({"count": 1.5}, "count cannot be 1.5; give a whole number"),
        ({"count": "many"}, "count cannot be 'many'; give a whole number"),
        ({"share": 0}, "share cannot be 0; give a number above 0"),
        ({"share": None}, "share cannot be None; give a number"),
        ({"on": 7}, "on cannot be 7; give true or false"),
        ({"kind": "c"}, "kind cannot be 'c'; give 'a' or 'b'"),
        ({"side": "big"}, "side cannot be 'big'; give a whole number or 'own'"),
        ({"names": ""}, "names cannot be ''; give a list"),
        ({"names": [""]}, "names.0 cannot be ''; give text that is not empty"),
        ({"names": [5]}, "names.0 cannot be 5; give text"),
        ({"few": []}, "few cannot be []; give a list of at least 1"),
        ({"few": [1, 2, 3]}, "few cannot be [1, 2, 3]; give a list of at most 2"),
        ({"inner": {"strength": 2}}, "inner.strength cannot be 2; give a number of at most 1"),
        (
            {"inner": {"strength": float("nan")}},
            "inner.strength cannot be nan; give a finite number",
        ),
        ({"inner": {"size": 2}}, "inner.size is not a setting"),
        ({"inner": 5}, "inner cannot be 5; give a table of names and values"),
        ({"other": 5}, "other is not a setting"),
        ({"needed": 1}, "needed cannot be 1; give text"),
        ({"kind": "b", "on": False}, "kind b needs on; switch it on"),
    ],
)
def test_every_kind_of_mistake_is_one_plain_sentence(given, expected):
    with pytest.raises(ValidationError) as refused:
        Settings(**{"needed": "x", **given})
    assert reason_of(refused.value).startswith(expected)


def test_what_is_missing_is_named():
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert reason_of(refused.value) == "needed is missing"


def test_a_long_value_is_cut():
    with pytest.raises(ValidationError) as refused:
        Settings(needed="x", count="9" * 5000 + "x")
    assert len(reason_of(refused.value)) < 120
