"""What may stand under the name of a layer's parameter, so that nothing else reaches Keras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_LARGE = 1e9
_TEXT = 200
#: As deep as lists of numbers may be nested, and as long as they may be altogether.
_NESTED, _ENTRIES = 6, 1 << 16


def words(text: str) -> frozenset[str]:
    """Return the words of a text: a list of names that stays readable."""
    return frozenset(text.split())


ACTIVATIONS = words(
    "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu hard_swish hard_tanh "
    "leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid silu soft_shrink "
    "softmax softplus softsign sparse_plus sparsemax squareplus swish tanh tanh_shrink "
    "threshold"
)
_PRECISIONS = frozenset(["float16", "float32", "float64", "mixed_bfloat16", "mixed_float16"])
_INITIALIZERS = words(
    "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity LecunNormal LecunUniform "
    "Ones Orthogonal RandomNormal RandomUniform TruncatedNormal VarianceScaling Zeros"
)
_INITIALIZER_TEXTS = words(
    "fan_in fan_out fan_avg normal truncated_normal uniform untruncated_normal"
)
_REGULARIZERS = frozenset(("L1", "L1L2", "L2"))
_CONSTRAINTS = frozenset(("MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"))


@dataclass(frozen=True)
class Rule:
    """What a parameter may be."""

    #: In words, for messages.
    expected: str
    #: Whether a value parsed from JSON is such a one.
    accepts: Callable[[Any], bool]


def is_whole(value: Any, low: int, high: int) -> bool:
    """Whether a value is a whole number between two bounds, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def whole(low: int, high: int) -> Rule:
    """Return the rule of a whole number between two bounds."""
    return Rule(f"a whole number from {low} to {high}", lambda value: is_whole(value, low, high))


def wholes(low: int, high: int, most: int) -> Rule:
    """Return the rule of a whole number, or a list of up to `most`, each between two bounds."""

    def accepts(value: Any) -> bool:
        listed = value if isinstance(value, list) else [value]
        return 0 < len(listed) <= most and all(is_whole(one, low, high) for one in listed)

    return Rule(f"up to {most} whole numbers from {low} to {high}", accepts)


def sides(high: int) -> Rule:
    """Return the rule of one number, or one for each axis, or two for each: pixels at the edges."""

    def accepts(value: Any) -> bool:
        listed = value if isinstance(value, list) else [value, value]
        pairs = [one if isinstance(one, list) else [one, one] for one in listed]
        return len(pairs) == 2 and all(
            len(pair) == 2 and all(is_whole(one, 0, high) for one in pair) for pair in pairs
        )

    return Rule(f"whole numbers from 0 to {high}, for each side", accepts)


def either(*words: str) -> Rule:
    """Return the rule of one of some words."""
    return Rule(
        " or ".join(map(repr, words)), lambda value: isinstance(value, str) and value in words
    )


def exactly(*values: Any) -> Rule:
    """Return the rule of one of some values that no other type equals."""

    def accepts(value: Any) -> bool:
        return any(type(value) is type(one) and value == one for one in values)

    return Rule(" or ".join(map(repr, values)), accepts)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LARGE


def _is_numbers(value: Any) -> bool:
    """Whether a value is a number, or lists of lists of numbers, of bounded size."""
    pending, entries = [(value, 0)], 0
    while pending:
        part, depth = pending.pop()
        entries += 1
        if entries > _ENTRIES or depth > _NESTED:
            return False
        if isinstance(part, list):
            pending.extend((one, depth + 1) for one in part)
        elif not _is_number(part):
            return False
    return True


def or_none(rule: Rule) -> Rule:
    """Return the rule that also takes nothing."""
    return Rule(f"{rule.expected}, or null", lambda value: value is None or rule.accepts(value))


def _is_object(value: Any, module: str, classes: frozenset[str]) -> bool:
    """Whether a value describes an object of Keras made from numbers and a few words alone."""
    if not isinstance(value, Mapping) or not value.keys() <= {
        "module", "class_name", "config", "registered_name", "shared_object_id",
    }:  # fmt: skip
        return False
    name, config = value.get("class_name"), value.get("config")
    return (
        isinstance(name, str)
        and name in classes
        and value.get("module") == module
        and value.get("registered_name") in (None, name)
        and isinstance(config, Mapping)
        and all(_is_plain(part) for part in config.values())
    )


def _is_plain(value: Any) -> bool:
    listed = value if isinstance(value, list) and len(value) <= 8 else [value]
    return all(
        one is None or isinstance(one, bool) or _is_number(one) or _is_word(one) for one in listed
    )


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and (value in _INITIALIZER_TEXTS or value in _PRECISIONS)


def _is_precision(value: Any) -> bool:
    if isinstance(value, str):
        return value in _PRECISIONS
    return (
        _is_object(value, "keras", frozenset(("DTypePolicy",)))
        and set(value["config"]) == {"name"}
        and isinstance(value["config"]["name"], str)
        and _is_word(value["config"]["name"])
    )


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
NUMBER = Rule(f"a number up to {_LARGE:g}", _is_number)
NUMBERS = Rule("numbers", _is_numbers)
SHARE = Rule("a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1)
TEXT = Rule("a short text", lambda value: isinstance(value, str) and 0 < len(value) <= _TEXT)
ACTIVATION = Rule(
    "the name of one of Keras's activations",
    lambda value: value is None or (isinstance(value, str) and value in ACTIVATIONS),
)
PRECISION = Rule("a precision such as 'float32'", lambda v: v is None or _is_precision(v))
INITIALIZER = Rule(
    "a plain initializer of Keras",
    lambda value: value is None or _is_object(value, "keras.initializers", _INITIALIZERS),
)
REGULARIZER = Rule(
    "an L1 or L2 regularizer",
    lambda value: value is None or _is_object(value, "keras.regularizers", _REGULARIZERS),
)
CONSTRAINT = Rule(
    "a plain constraint of Keras",
    lambda value: value is None or _is_object(value, "keras.constraints", _CONSTRAINTS),
)
SEED = or_none(whole(0, (1 << 63) - 1))
