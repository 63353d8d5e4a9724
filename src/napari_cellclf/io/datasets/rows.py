"""From images that were found to the table of a data set."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from napari_cellclf.core.classes import ClassSpec, make_classes
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.grouping import columns_from_names, group_keys, guess_group
from napari_cellclf.io.naming import NamingScheme
from napari_cellclf.io.sources import ImageSource

if TYPE_CHECKING:
    import pandas as pd

#: Columns that every data set has; what a name says cannot replace them.
_OWN = ("path", "label", "split")


def make_row(source: ImageSource, label: str, split: str = "") -> dict[str, Any]:
    """Make the row of an image."""
    # A group that its scheme does not split by is made of fields that have columns of their own.
    own = _OWN if source.scheme and "group" in source.scheme.groups else (*_OWN, "group")
    says = {
        str(key): "; ".join(map(str, value)) if isinstance(value, list | tuple) else value
        for key, value in source.metadata.items()
        if key not in own
    }
    return {"path": os.path.abspath(source.id), "label": label, "split": split, **says}  # noqa: PTH100


def make_dataset(
    rows: Sequence[Mapping[str, Any]],
    source: str,
    *,
    classes: Iterable[ClassSpec] | None = None,
    names: Sequence[str] | None = None,
    of_table: Container[str] = (),
    schemes: Iterable[NamingScheme] = (),
) -> Dataset:
    """Make a data set and guess what its images are kept together by.

    `names`: what may say more of each image, such as its path below the folder of its class.
    `of_table`: columns that the user's own table has.
    `schemes`: what the images are named by.
    """
    table = make_frame(rows)
    said = {} if names is None else columns_from_names(names)
    new = {column: values for column, values in said.items() if column not in table.columns}
    table = table.assign(**new)
    known = [name for name in table.columns if name not in of_table]
    used = list(dict.fromkeys(schemes))
    groups = used[0].groups if len(used) == 1 else ()
    column, reason = guess_group(table, known, groups)
    if classes is None:
        classes = make_classes(table["label"])
    return Dataset(table, tuple(classes), column, reason, source)


def make_frame(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Make a table in which a cell of text is never missing, but empty."""
    import pandas as pd

    table = pd.DataFrame(list(rows))
    for name in table.columns:
        if not pd.api.types.is_numeric_dtype(table[name]):
            table[name] = table[name].astype(object).fillna("").astype(str)
    return table


def with_group(data: Dataset, group: str | None) -> Dataset:
    """Keep images together by a column that the user names."""
    if group is None:
        return data
    group_keys(data.table, group)
    return replace(data, group_column=group, group_reason=f"the group was chosen: {group}")
