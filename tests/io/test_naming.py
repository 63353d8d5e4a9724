"""What every naming scheme must do, ours and those of other packages."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from napari_cellclf.io.naming import CHANNEL, NAMING, NamingScheme


@pytest.mark.parametrize("name", NAMING.names())
def test_every_naming_scheme(name: str) -> None:
    scheme = NAMING.get(name)
    assert isinstance(scheme, NamingScheme)
    assert scheme.name == name
    fields = scheme.parse(PurePath(scheme.example))
    assert fields, "its example follows it"
    assert all(isinstance(key, str) and key.isidentifier() for key in fields)
    assert all(isinstance(value, str | int) for value in fields.values())
    # The folder may be elsewhere, and other names are not taken for its own.
    assert scheme.parse(PurePath("elsewhere", scheme.example)) == fields
    for other in ("notes.txt", "image.tif", ".hidden.tif", "x" * 300, ""):
        assert scheme.parse(PurePath(other)) is None
    if CHANNEL in fields:
        assert scheme.channel_name(fields[CHANNEL]).strip()
