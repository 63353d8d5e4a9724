"""Say in one plain sentence why settings were refused, whatever pydantic calls it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError

_LONGEST = 60
#: Of settings, in characters.
_MOST_TEXT = 1 << 20
#: What is allowed, by the kind of the problem; filled with what pydantic knows of it.
_ALLOWED: Mapping[str, str] = {
    "greater_than": "a number above {gt}",
    "greater_than_equal": "a number of at least {ge}",
    "less_than": "a number below {lt}",
    "less_than_equal": "a number of at most {le}",
    "finite_number": "a finite number",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_too_short": "text that is not empty",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
_ALLOWED_BY_BEGINNING: Mapping[str, str] = {
    "int_": "a whole number",
    "float_": "a number",
    "bool_": "true or false",
    "string_": "text",
    "tuple_": "a list",
    "list_": "a list",
    "dict_": "a table of names and values",
    "model_": "a table of names and values",
}


def reason_of(error: ValidationError, *, skip: int = 0) -> str:
    """Return what was wrong first: the setting, what was given, and what is allowed.

    `skip`: how many steps of the path to a setting are none of its name.
    """
    problems = error.errors(include_url=False)
    # Of a setting that may be one of several things, each says why it is not that one.
    of_field = [one for one in problems if _field(one) == _field(problems[0])]
    shortest = min(of_field, key=lambda one: len(_path(one)))
    where = ".".join(_path(shortest)[skip:]) or "the whole"
    if shortest["type"] == "extra_forbidden":
        return f"{where} is not a setting"
    if shortest["type"] == "missing":
        return f"{where} is missing"
    if shortest["type"] == "union_tag_invalid":
        tag = shortest["ctx"]
        key = tag["discriminator"].strip("'")
        return f"{key} cannot be {_short(tag['tag'])}; give one of {tag['expected_tags']}"
    own_words = [_own_words(one) for one in of_field if one["type"] == "value_error"]
    if own_words:
        # It names what was given itself, and so it does where it is about several settings.
        return f"{where}: {own_words[0]}" if _path(shortest) else own_words[0]
    allowed = " or ".join(dict.fromkeys(filter(None, map(_allowed, of_field))))
    return f"{where} cannot be {_short(shortest['input'])}; give {allowed}"


def parse_toml(text: str) -> dict[str, Any]:
    """Parse settings that somebody else may have written; ValueError says why they are refused."""
    if len(text) > _MOST_TEXT:
        raise ValueError(f"it is longer than {_MOST_TEXT} characters")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def refuse_truth_value(value: Any, annotation: Any) -> Any:
    """Refuse true and false where a setting is a number or a list of numbers, not 1 and 0."""
    kinds = set(_kinds(annotation))
    given = value if isinstance(value, list | tuple) else [value]
    if bool in kinds or not kinds & {int, float} or not any(isinstance(v, bool) for v in given):
        return value
    number = "whole number" if int in kinds else "number"
    wanted = f"list of {number}s" if isinstance(value, list | tuple) else number
    raise ValueError(f"{value!r} is not a {wanted}")


def _kinds(annotation: Any) -> Iterator[Any]:
    inner = get_args(annotation)
    if not inner:
        yield annotation
    for one in inner:
        yield from _kinds(one)


def _path(problem: Any) -> tuple[str, ...]:
    """Return the steps to a setting, without the names of pydantic's own validators."""
    return tuple(str(step) for step in problem["loc"] if not _is_validator(str(step)))


def _field(problem: Any) -> tuple[str, ...]:
    """Return the path of the setting that a value, or a part of one, was given for."""
    return tuple(step for step in _path(problem) if not step.isdecimal())


def _is_validator(step: str) -> bool:
    return "[" in step or step in ("int", "float", "str", "bool", "dict")


def _own_words(problem: Any) -> str:
    return str(problem["msg"]).removeprefix("Value error, ")


def _allowed(problem: Any) -> str:
    kind, context = str(problem["type"]), problem.get("ctx", {})
    for beginning, text in _ALLOWED_BY_BEGINNING.items():
        if kind not in _ALLOWED and kind.startswith(beginning):
            return text
    if kind in _ALLOWED:
        return _ALLOWED[kind].format_map(context)
    return _own_words(problem)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
