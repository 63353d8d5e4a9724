"""The secret that a server and its clients share."""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.errors import InputError

_SHORTEST = 16


def read_token(path: Path) -> str:
    """Read the secret that clients must know."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token file {path} cannot be read ({error}); check it") from error
    if len(token) < _SHORTEST or not token.isprintable() or " " in token:
        raise InputError(
            f"the token in {path} must be one line of at least {_SHORTEST} characters "
            'without spaces; make one with python -c "import secrets; '
            'print(secrets.token_urlsafe())"'
        )
    return token
