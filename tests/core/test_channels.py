from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_cellclf.core.channels import (
    ChannelMapping,
    ChannelSpec,
    _words,
    match_channels,
    missing_message,
    require_channels,
)
from napari_cellclf.core.stains import CELL_TYPES, STAINS
from napari_cellclf.errors import ChannelMismatchError

STAIN_SPECS = [ChannelSpec(name=name, required=int(name[1]) < 5) for name in STAINS]


def specs(*names: str) -> list[ChannelSpec]:
    return [ChannelSpec(name=name) for name in names]


def test_words_are_split_at_punctuation_and_lowered():
    assert _words("B02_s1 [w1-Hoechst]") == ("b02", "s1", "w1", "hoechst")
    assert _words("--") == ()


@pytest.mark.parametrize("name", ["w1 Hoechst", "W1_HOECHST", "B02_s1 w1-hoechst", "DAPI"])
def test_a_spec_matches_whole_words_in_any_case(name):
    assert ChannelSpec(name="w1 Hoechst", aliases=("DAPI",)).matches(name)


@pytest.mark.parametrize("name", ["", "hoechst", "w11 hoechst", "Hoechst w1", "DAPIX"])
def test_a_spec_does_not_match_parts_of_words(name):
    assert not ChannelSpec(name="w1 Hoechst", aliases=("DAPI",)).matches(name)


def test_a_name_of_punctuation_alone_matches_nothing():
    assert not ChannelSpec(name="--").matches("a -- b")


def test_a_spec_refuses_unknown_keys_and_empty_names():
    with pytest.raises(ValidationError):
        ChannelSpec(name="a", alias=("b",))
    with pytest.raises(ValidationError):
        ChannelSpec(name="")


@given(st.permutations(list(STAINS)))
def test_names_decide_whatever_the_order(names):
    mapping = match_channels(STAIN_SPECS, names)
    assert [names[source] for source in mapping.sources] == list(STAINS)
    assert mapping.missing == ()


@given(st.sets(st.sampled_from(STAINS), min_size=2))
def test_missing_channels_are_told(names):
    mapping = match_channels(STAIN_SPECS, sorted(names))
    assert set(mapping.missing) == set(STAINS) - names


def test_nameless_channels_are_taken_in_order_if_as_many():
    assert match_channels(specs("a", "b"), ["", ""]).sources == (0, 1)


def test_nameless_channels_are_not_guessed_if_not_as_many():
    assert match_channels(specs("a", "b"), ["", "", ""]).sources == (None, None)


def test_partly_named_channels_are_not_taken_in_order():
    assert match_channels(specs("a", "b"), ["", "a"]).sources == (1, None)


@pytest.mark.parametrize("name", ["", "grey", "Channel 0", "Channel:0:1", "my membranes, membrane"])
def test_one_channel_feeds_a_network_of_one_if_its_name_does_not_differ(name):
    assert match_channels(specs("membrane"), [name]).sources == (0,)


@pytest.mark.parametrize("name", ["GFP", "488", "DAPI (405)"])
def test_one_channel_of_another_name_is_not_taken(name):
    assert match_channels(specs("membrane"), [name]).sources == (None,)
    assert match_channels(specs("image"), [name]).sources == (0,)
    assert match_channels(specs("membrane"), [name], {"membrane": name}).sources == (0,)


def test_grey_saved_as_rgb_is_each_of_its_colours():
    assert match_channels(specs("blue", "red"), ["grey"]).sources == (0, 0)
    assert match_channels(specs("image"), ["grey"], {"image": "green"}).sources == (0,)
    assert match_channels(specs("red", "far red"), ["grey"]).missing == ("far red",)


def test_the_exact_name_wins_over_a_longer_one():
    assert match_channels(specs("DNA", "x"), ["DNA copy", "dna", "x"]).sources == (1, 2)


def test_the_name_wins_over_an_alias():
    expected = [ChannelSpec(name="DNA", aliases=("nuclei",)), ChannelSpec(name="actin")]
    assert match_channels(expected, ["nuclei", "my DNA", "actin"]).sources == (1, 2)


def test_two_equally_good_channels_are_refused():
    with pytest.raises(ChannelMismatchError, match="'DNA' could be any of my DNA, your DNA"):
        match_channels(specs("DNA", "b"), ["my DNA", "your DNA"])


def test_an_override_settles_what_names_leave_open():
    mapping = match_channels(
        specs("DNA", "b"), ["my DNA", "your DNA"], {"DNA": "your DNA", "b": None}
    )
    assert mapping == ChannelMapping((1, None), ("DNA", "b"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"RNA": "a"}, "names channel 'RNA', but the model expects DNA"),
        ({"DNA": "z"}, "image's channel 'z', but it has a, b"),
    ],
)
def test_an_override_of_what_is_not_there_is_refused(overrides, message):
    with pytest.raises(ChannelMismatchError, match=message):
        match_channels(specs("DNA"), ["a", "b"], overrides)


@pytest.mark.parametrize("source", ["2", "channel 2", "Channel 2"])
def test_a_channel_without_a_name_is_called_by_its_number(source):
    assert match_channels(specs("DNA", "b"), ["", "", "b"], {"DNA": source}).sources == (1, 2)


def test_a_name_wins_over_a_number():
    assert match_channels(specs("DNA", "b"), ["", "1"], {"DNA": "1", "b": None}).sources[0] == 1


@pytest.mark.parametrize("source", ["0", "4", "", "3", "-1", "\u0661"])
def test_numbers_of_no_nameless_channel_are_refused(source):
    with pytest.raises(ChannelMismatchError, match="it has channel 1, channel 2, b;"):
        match_channels(specs("DNA"), ["", "", "b"], {"DNA": source})


@pytest.mark.parametrize("given", ["w1 Hoechst", "w1", "W1_hoechst", "DNA", "hoechst"])
def test_the_models_channel_may_be_called_by_its_words_and_aliases(given):
    expected = [ChannelSpec(name="w1 Hoechst", aliases=("DNA",)), ChannelSpec(name="w2 ConA")]
    assert match_channels(expected, ["x", "y"], {given: "y"}).sources == (1, None)


def test_words_that_mean_several_of_the_models_channels_are_refused():
    with pytest.raises(
        ChannelMismatchError, match="'DNA', which could be any of the model's DNA old"
    ):
        match_channels(specs("DNA old", "DNA new"), ["x"], {"DNA": "x"})


def test_two_names_for_one_of_the_models_channels_are_refused():
    with pytest.raises(ChannelMismatchError, match="'w1 Hoechst' twice"):
        match_channels(specs("w1 Hoechst", "w2"), ["x", "y"], {"w1": "x", "w1 Hoechst": "y"})


def test_a_missing_required_channel_is_refused_by_name():
    mapping = match_channels(STAIN_SPECS, STAINS[1:])
    with pytest.raises(ChannelMismatchError, match="no channel for w1 Hoechst;"):
        require_channels(STAIN_SPECS, mapping, STAINS[1:])


def test_the_message_names_what_the_image_has_and_both_front_ends_remedies():
    names = ["red", "", "blue"]
    with pytest.raises(ChannelMismatchError) as raised:
        require_channels(specs("DNA", "actin"), match_channels(specs("DNA", "actin"), names), names)
    says = str(raised.value)
    assert "no channel for DNA, actin; it has red, channel 2, blue;" in says
    assert "mapping={'DNA': ...}" in says
    assert '--channels "DNA=..."' in says
    assert says.count(". ") == 0


def test_a_missing_channel_is_named_with_whether_the_model_needs_it():
    needed = ChannelSpec(name="DNA"), ChannelSpec(name="actin", required=False)
    told = {
        names: missing_message(needed, match_channels(needed, names))
        for names in (("actin", "x", "y"), ("DNA", "x", "y"), ("x", "y", "z"), ("actin", "DNA"))
    }
    assert list(told.values()) == [
        "the image has no channel for DNA; the model needs DNA",
        "the image has no channel for actin; the model can do without",
        "the image has no channel for DNA, actin; the model needs DNA, actin",
        "",
    ]


def test_missing_optional_channels_are_accepted():
    mapping = match_channels(STAIN_SPECS, STAINS[:4])
    require_channels(STAIN_SPECS, mapping, STAINS[:4])
    assert mapping.missing == STAINS[4:]


def test_an_image_that_feeds_nothing_is_refused_even_if_all_is_optional():
    optional = [ChannelSpec(name=name, required=False) for name in ("a", "b")]
    with pytest.raises(ChannelMismatchError, match="no channel for a, b"):
        require_channels(optional, match_channels(optional, ["x", "y"]), ["x", "y"])


def test_stains_are_six_different_names_in_file_order():
    assert [_words(name)[0] for name in STAINS] == [f"w{number}" for number in range(1, 7)]
    assert list(CELL_TYPES) == sorted(CELL_TYPES)
