from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from samples import spec

from napari_cellclf.bundles.schema import BundleSpec, EvaluationSpec, InputSpec, TrainingSpec
from napari_cellclf.core.classes import ClassSpec

_finite = st.floats(allow_nan=False, allow_infinity=False)
_text = st.text(max_size=30)
_names = st.lists(st.text(min_size=1, max_size=10), min_size=2, max_size=6, unique=True)
_normalizations = st.sampled_from(
    [
        {"kind": "zero_mean_unit_variance"},
        {"kind": "percentile", "low": 2.0},
        {"kind": "scale_linear", "factor": 7.0, "eight_bit": True},
        {"kind": "fixed", "mean": [1.5], "std": [0.1]},
        {"kind": "imagenet"},
    ]
)
_classes = _names.flatmap(
    lambda names: st.tuples(
        *(
            st.builds(
                ClassSpec,
                name=st.just(name),
                display_name=_text,
                value=st.none() | _finite,
                unit=st.none() | st.just("minute"),
            )
            for name in names
        )
    )
)
_evaluations = st.lists(
    st.builds(
        EvaluationSpec,
        name=st.just("held out"),
        role=st.sampled_from(["train", "validation", "test", "leave-one-group-out"]),
        n=st.integers(0, 10**6),
        metrics=st.dictionaries(st.just("accuracy"), _finite),
    ),
    max_size=2,
)
_training = st.fixed_dictionaries(
    {
        "source": _text,
        "counts": st.dictionaries(_text, st.dictionaries(_text, st.integers(0, 99)), max_size=3),
        "seed": st.none() | st.integers(0, 2**32),
        "versions": st.dictionaries(_text, _text, max_size=2),
    }
)


@given(
    classes=_classes,
    normalization=_normalizations,
    size=st.none() | st.tuples(st.integers(1, 999), st.integers(1, 999)),
    evaluations=_evaluations,
    training=_training,
    temperature=st.floats(0.01, 100),
    unsure=st.none() | st.floats(0, 1),
    limits=st.lists(_text, max_size=3),
)
def test_a_spec_survives_its_file(
    classes: tuple[ClassSpec, ...],
    normalization: dict[str, object],
    size: tuple[int, int] | None,
    evaluations: list[EvaluationSpec],
    training: dict[str, object],
    temperature: float,
    unsure: float | None,
    limits: list[str],
) -> None:
    preprocessing = {
        "channels": [{"name": "DNA"}],
        "size": size,
        "normalization": normalization,
    }
    made = spec(
        classes=classes,
        input={"preprocessing": preprocessing},
        evaluations=evaluations,
        training=training,
        temperature=temperature,
        unsure_threshold=unsure,
        limits=limits,
        files={"weights.safetensors": "0" * 64},
    )
    assert BundleSpec.model_validate_json(made.model_dump_json(indent=1)) == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"colour": "red"},
        {"format_version": 2},
        {"name": "../up"},
        {"name": ""},
        {"classes": [{"name": "a"}]},
        {"classes": [{"name": "a"}, {"name": "a"}]},
        {"classes": [{"name": "a"}, {"name": "b", "value": float("nan")}]},
        {"temperature": 0},
        {"temperature": float("inf")},
        {"class_offsets": [0.1]},
        {"class_offsets": [0.1, float("nan")]},
        {"unsure_threshold": 1.5},
        {"files": {"weights.safetensors": "abc"}},
        {"training": {"manifest_sha256": "xyz"}},
        {"training": {"counts": {"a": {"train": -1}}}},
        {"evaluations": [{"name": "x", "role": "holdout", "n": 1, "metrics": {}}]},
        {"input": {"axes": "CYX", "preprocessing": {"channels": [{"name": "DNA"}]}}},
        {"input": {"preprocessing": {"channels": []}}},
        {"input": {"preprocessing": {"channels": [{"name": "DNA"}], "size": [8192, 8192]}}},
    ],
    ids=str,
)
def test_what_a_spec_may_not_say(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        spec(**wrong)


@pytest.mark.parametrize(
    ("single", "required", "says"),
    [("w9", False, "not one of the channels"), ("w2", True, "can do without all others")],
)
def test_a_single_channel_must_be_one_that_suffices(single: str, required: bool, says: str) -> None:
    channels = [{"name": "w1", "required": required}, {"name": "w2"}]
    with pytest.raises(ValidationError, match=says):
        InputSpec(preprocessing={"channels": channels}, single_channel=single)
    assert InputSpec(preprocessing={"channels": channels[1:]}, single_channel="w2")


def test_a_spec_is_frozen_and_says_titles() -> None:
    made = spec()
    with pytest.raises(ValidationError):
        made.temperature = 2  # type: ignore[misc]
    assert [c.title for c in made.classes] == ["a", "bee"]
    assert made.input.channels == ("DNA",)


def test_hashes_are_replaced_and_checked() -> None:
    made = spec(description="kept")
    assert made.sealed({"weights.safetensors": "1" * 64}).files == {"weights.safetensors": "1" * 64}
    assert made.sealed({"weights.safetensors": "1" * 64}).description == "kept"
    with pytest.raises(ValidationError):
        made.sealed({"weights.safetensors": "short"})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("3 images below /data/jane doe/plate 1, by kind", "3 images below plate 1, by kind"),
        (r"the table C:\Users\jane\x.csv and \\server\share\y.csv", "the table x.csv and y.csv"),
        ("~/secret/a and ../b/c, file:///srv/lab/d; and/or", "a and c, d; and/or"),
        ("https://zenodo.org/records/1 (sha256:00)", "https://zenodo.org/records/1 (sha256:00)"),
    ],
)  # fmt: skip
def test_no_folder_of_somebodys_computer_is_passed_on(written: str, read: str) -> None:
    assert TrainingSpec(source=written).source == read


@given(st.text(alphabet="/\\.~:a ,C", max_size=30))
def test_names_are_the_same_read_twice(text: str) -> None:
    once = TrainingSpec(source=text).source
    assert TrainingSpec(source=once).source == once
