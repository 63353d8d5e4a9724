"""What a click will do, decided without a window."""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.plugin.classify.choices import ImageChoice, LayerInfo
from napari_cellclf.plugin.classify.request import (
    ClassifyRequest,
    ModelChoice,
    plan,
    plan_folder,
    propose_mapping,
)
from napari_cellclf.plugin.shared.messages import Refusal

CHANNELS = (
    ChannelSpec(name="w1 Hoechst", aliases=("DNA",)),
    ChannelSpec(name="w2 ConA"),
    ChannelSpec(name="w5 Mito", required=False),
)
MODEL = ModelChoice("stains", "Stains", CHANNELS, ("a", "b"))


def image(*names: str, path: str | None = "/data/a b.png") -> ImageChoice:
    """Make an image of layers that our reader named."""
    layers = tuple(LayerInfo(name, name, (8, 9), metadata=(("channel", name),)) for name in names)
    return ImageChoice("a", layers, "YX", names, path)


def test_names_fill_in_the_mapping() -> None:
    proposal = propose_mapping(CHANNELS, ("w2 ConA", "DNA", "w5 Mito"))
    assert proposal.sources == (1, 0, 2)
    assert proposal.message == ""


def test_missing_channels_are_named() -> None:
    needed = propose_mapping(CHANNELS, ("w2 ConA", "GFP"))
    assert needed.sources == (None, 0, None)
    assert "w1 Hoechst, w5 Mito" in needed.message
    assert "needs w1 Hoechst" in needed.message
    spare = propose_mapping(CHANNELS, ("w2 ConA", "DNA"))
    assert "can do without" in spare.message


def test_ambiguous_channels_fill_in_the_others() -> None:
    proposal = propose_mapping(CHANNELS, ("DNA 1", "DNA 2", "w2 ConA"))
    assert proposal.sources == (None, 2, None)
    assert "DNA 1, DNA 2" in proposal.message


def test_a_click_needs_model_and_image() -> None:
    assert "model" in plan(None, None, (), ()).message  # type: ignore[union-attr]
    nothing = plan(MODEL, None, (), ())
    assert isinstance(nothing, Refusal)
    assert "Open Sample" in nothing.message


def test_a_click_needs_the_required_channels() -> None:
    refused = plan(MODEL, image("x", "y"), (None, 1, None), (None, None, None))
    assert isinstance(refused, Refusal)
    assert "w1 Hoechst" in refused.message


def test_a_problem_of_the_image_is_said() -> None:
    choice = ImageChoice("a", (), "YX", (), problem="these differ")
    assert plan(MODEL, choice, (), ()) == Refusal("These differ")


def test_a_good_click_is_a_request_with_its_command_line() -> None:
    request = plan(MODEL, image("DNA", "w2 ConA"), (0, 1, None), (0, 1, None))
    assert isinstance(request, ClassifyRequest)
    assert request.mapping == {"w1 Hoechst": "DNA", "w2 ConA": "w2 ConA", "w5 Mito": None}
    assert request.command == "cellclf predict stains '/data/a b.png' --out predictions.csv"


def test_a_mapping_by_hand_is_in_the_command_line() -> None:
    request = plan(MODEL, image("GFP", "w2 ConA"), (0, 1, None), (None, 1, None))
    assert isinstance(request, ClassifyRequest)
    assert request.command.endswith("--channels 'w1 Hoechst=GFP'")


def test_images_without_a_file_have_no_command_line() -> None:
    request = plan(MODEL, image("DNA", "w2 ConA", path=None), (0, 1, None), (0, 1, None))
    assert isinstance(request, ClassifyRequest)
    assert request.command == ""


def test_a_folder_must_exist(tmp_path: Path) -> None:
    assert isinstance(plan_folder(MODEL, "  "), Refusal)
    gone = plan_folder(MODEL, str(tmp_path / "gone"))
    assert isinstance(gone, Refusal)
    assert str(tmp_path / "gone") in gone.message
    request = plan_folder(MODEL, str(tmp_path))
    assert isinstance(request, ClassifyRequest)
    assert request.mapping is None
    assert request.folder == str(tmp_path)


def test_a_lone_channel_without_a_name_is_proposed_as_what_the_model_takes_it_for() -> None:
    stains = tuple(ChannelSpec(name=name, required=False) for name in ("w1 Hoechst", "w2 ConA"))
    proposal = propose_mapping(stains, ("picture",), "w2 ConA")
    assert proposal.sources == (None, 0)
    assert "It is taken as w2 ConA, unless you choose another" in proposal.message
    assert not proposal.by_names
    named = propose_mapping(stains, ("w1 Hoechst",), "w2 ConA")
    assert (named.sources, named.by_names) == ((0, None), True)
    assert propose_mapping(stains, ("a", "b"), "w2 ConA").sources == (None, None)
    assert propose_mapping(stains, ("picture",)).sources == (None, None)
