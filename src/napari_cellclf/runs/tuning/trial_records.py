"""What a search came to: a table of trials, the best one and its preset, and plots."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from napari_cellclf.io.csv_tables import safe_row
from napari_cellclf.models.augmentation.config import AugmentationConfig
from napari_cellclf.runs.tuning.search_folder import TuningFolder, TuningSpec
from napari_cellclf.runs.tuning.space import Choice, OneOf, Range, configuration

if TYPE_CHECKING:
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.reports.tuning_plots import SettingAxis
    from napari_cellclf.runs.tuning.study import Store

UNDER_WAY, COMPLETE, PRUNED, FAILED = "under way", "complete", "pruned", "failed"
_STATES = {"COMPLETE": COMPLETE, "PRUNED": PRUNED, "FAIL": FAILED}


@dataclass(frozen=True)
class TrialRecord:
    """What is known of a trial."""

    #: From 0, in the order in which they were begun.
    number: int
    #: Pruned ones were ended early, since others did better.
    state: str
    #: The best validation so far; None if there was none.
    value: float | None
    #: Its settings.
    choice: Choice
    #: Epochs of the last stage that were validated.
    epochs: int
    began: datetime | None = None
    ended: datetime | None = None
    #: Why it failed.
    reason: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state != UNDER_WAY


def read_records(store: Store, spec: TuningSpec) -> tuple[TrialRecord, ...]:
    """Read all trials that were begun."""
    from napari_cellclf.runs.tuning.study import choice_of

    better = max if spec.larger_is_better else min
    records = []
    for one in store.trials():
        trial = one.last
        state = _STATES.get(trial.state.name, UNDER_WAY)
        if state == FAILED and not one.is_failed:
            # It waits to be taken up again.
            state = UNDER_WAY
        seen = [v for v in trial.intermediate_values.values() if math.isfinite(v)]
        value = trial.value if state == COMPLETE else better(seen, default=None)
        records.append(
            TrialRecord(
                one.number,
                state,
                value,
                choice_of(trial),
                len(trial.intermediate_values),
                one.trials[0].datetime_start,
                trial.datetime_complete,
                one.reason if state == FAILED else "",
            )
        )
    return tuple(records)


def best_of(records: Sequence[TrialRecord], spec: TuningSpec) -> TrialRecord | None:
    """Return the best trial."""
    complete = [one for one in records if one.state == COMPLETE and one.value is not None]
    sign = -1 if spec.larger_is_better else 1
    return min(complete, key=lambda one: sign * (one.value or 0.0), default=None)


def write_results(folder: TuningFolder, spec: TuningSpec, records: Sequence[TrialRecord]) -> None:
    """Write table, best trial and best preset, each whole or not at all."""
    folder.write(folder.table, _table(folder, spec, records))
    best = best_of(records, spec)
    if best is None:
        return
    base = folder.base.spec()
    config = configuration(base.config, best.choice)
    states = [one.state for one in records]
    folder.write(
        folder.best_preset,
        preset_text(
            config,
            title=f"{folder.path.name}: best of {states.count(COMPLETE)} trials",
            description=f"Trial {best.number} of a search around "
            f"{base.preset or 'own settings'}: validation {spec.metric} {best.value:.4g}.",
            data=spec.data,
        ),
    )
    document = {
        "trial": best.number,
        "metric": f"validation {spec.metric}",
        "value": best.value,
        "choice": dict(best.choice),
        "trials": {state: states.count(state) for state in (COMPLETE, PRUNED, FAILED, UNDER_WAY)},
        "config": config.model_dump(mode="json"),
    }
    folder.write(folder.best_file, json.dumps(document, indent=1, allow_nan=False) + "\n")


def plot_results(folder: TuningFolder, spec: TuningSpec, records: Sequence[TrialRecord]) -> None:
    """Draw the history of the search, and each setting against what it came to."""
    from napari_cellclf.reports.tuning_plots import plot_history, plot_settings

    if all(one.value is None for one in records):
        return
    words = f"validation {spec.metric.replace('_', ' ')}"
    common: dict[str, Any] = {"label": words, "larger_is_better": spec.larger_is_better}
    axes = {one.name: _axis(one) for one in spec.ranges}
    plot_history(records, folder.path / "history.png", **common)
    plot_settings(records, axes, folder.path / "settings.png", **common)


def _axis(one: Range) -> SettingAxis:
    from napari_cellclf.reports.tuning_plots import SettingAxis

    if isinstance(one, OneOf):
        return SettingAxis(one.choices[0], one.choices[-1], logarithmic=True, marks=one.choices)
    return SettingAxis(one.low, one.high, logarithmic=one.log)


def _table(folder: TuningFolder, spec: TuningSpec, records: Sequence[TrialRecord]) -> str:
    names = [one.name for one in spec.ranges]
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    metric = f"validation_{spec.metric}"
    writer.writerow(["trial", "state", metric, *names, "epochs", "began", "ended", "run", "reason"])
    for one in records:
        times = [
            None if t is None else t.isoformat(sep=" ", timespec="seconds")
            for t in (one.began, one.ended)
        ]
        run = folder.trial(one.number).path.relative_to(folder.path).as_posix()
        chosen = [one.choice.get(name) for name in names]
        writer.writerow(
            safe_row(
                [one.number, one.state, one.value, *chosen, one.epochs, *times, run, one.reason]
            )
        )
    return text.getvalue()


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
    lines += _toml_table("data", data) if data else []
    lines += _toml_table("config", fields)
    for name, values in nested.items():
        lines += _toml_table(f"config.{name}", values)
    return "\n".join(lines) + "\n"


def _toml_table(name: str, values: Mapping[str, Any]) -> list[str]:
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
