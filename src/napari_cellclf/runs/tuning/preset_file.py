"""Write a configuration as a preset: TOML that people read and `load_preset` loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from napari_cellclf.models.augmentation.config import AugmentationConfig

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig


def preset_text(
    config: TrainingConfig, *, title: str, description: str, data: Mapping[str, Any]
) -> str:
    """Write a preset.

    Examples
    --------
    >>> from napari_cellclf.models.training.config import TrainingConfig
    >>> text = preset_text(TrainingConfig(epochs=3), title="Short", description="", data={})
    >>> print(text)
    title = "Short"
    description = ""
    <BLANKLINE>
    [config]
    epochs = 3
    <BLANKLINE>
    """
    defaults = type(config)().model_dump(mode="json")
    fields = {
        name: value
        for name, value in config.model_dump(mode="json").items()
        if value is not None and value != defaults[name]
    }
    nested = {name: fields.pop(name) for name in ("parameters", "augmentation") if name in fields}
    if "augmentation" in nested:
        # What such a table does not name is not off but as strong as usual.
        usual = AugmentationConfig().model_dump(mode="json")
        nested["augmentation"] = {
            name: value for name, value in nested["augmentation"].items() if value != usual[name]
        }
    lines = [f"title = {_toml(title)}", f"description = {_toml(description)}"]
    lines += _table("data", data) if data else []
    lines += _table("config", fields)
    for name, values in nested.items():
        lines += _table(f"config.{name}", values)
    return "\n".join(lines) + "\n"


def _table(name: str, values: Mapping[str, Any]) -> list[str]:
    # TOML has no null; a parameter that is None is as if it were not given.
    rows = [f"{_key(key)} = {_toml(value)}" for key, value in values.items() if value is not None]
    return ["", f"[{name}]", *rows]


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_toml(one)}" for key, one in value.items() if one is not None)
        return f"{{ {', '.join(pairs)} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return _text(str(value))


def _text(text: str) -> str:
    # A string of JSON is one of TOML, but for the one control character that JSON lets through.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _text(key)
