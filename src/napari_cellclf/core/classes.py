"""The classes that a data set names and a model answers."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class ClassSpec(BaseModel):
    """One class that a model can answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: What stands in tables, such as ``"HUVEC"`` or ``"060"``.
    name: str = Field(min_length=1, max_length=200)
    #: What people read, such as ``"endothelial cell (HUVEC)"``; empty means `name`.
    display_name: str = Field(default="", max_length=200)
    #: For ordered classes such as stages: where it lies on their scale, such as 60.
    value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    #: The unit of `value`, such as ``"minute"``.
    unit: str | None = Field(default=None, max_length=40)

    @property
    def title(self) -> str:
        """What people read."""
        return self.display_name or self.name
