from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.catalogue.download import LocalFile
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.weight_file import save_model
from deblur_cli.errors import UnknownModelError, UnrecognisedNetworkError, WrongModelKindError
from deblur_cli.networks.contract import ReferenceModel, SingleModel
from tests.support.weights import TINY_BANK, TINY_NAFNET, published_nafnet, tiny_bank_weights


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    with pytest.raises(UnknownModelError, match=r"'nafnet-gopro-widht64'. Did you mean nafnet-gopro-width64\?"):
        find("nafnet-gopro-widht64", SingleModel)


def test_a_name_that_no_file_can_have_is_an_unknown_one() -> None:
    with pytest.raises(UnknownModelError, match="There is no network called 'xxx"):
        find("x" * 300, SingleModel)
    with pytest.raises(UnknownModelError, match="there is no such weight file"):
        find(f"{'x' * 300}.pth", SingleModel)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match=r"gone\.pth: there is no such weight file"):
        find(str(tmp_path / "gone.pth"), SingleModel)


def test_a_network_for_other_photos_is_refused_before_anything_is_opened() -> None:
    with pytest.raises(WrongModelKindError, match="needs one photo, but this command has a photo and a sharper"):
        find("nafnet-gopro-width32", ReferenceModel)


def test_without_a_name_there_is_a_bundled_default() -> None:
    entry = find(None, SingleModel)
    assert entry.default
    assert entry.model_type is SingleModel


def test_our_own_file_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, "filter-bank-unet", TINY_BANK, tiny_bank_weights(), notes="of a test")
    entry = find(str(path), SingleModel)
    assert (entry.architecture, entry.config, entry.notes) == ("filter-bank-unet", TINY_BANK, "of a test")
    assert entry.source == LocalFile(path)


def test_a_published_pickle_is_recognised_by_its_keys(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    published_nafnet(path)
    entry = find(str(path), SingleModel)
    assert (entry.architecture, entry.config) == ("nafnet", TINY_NAFNET)


def test_a_foreign_network_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"conv.weight": torch.zeros(1)}}, path)
    with pytest.raises(UnrecognisedNetworkError, match=r"foreign\.pth: 1 weights named like conv\.weight fit no"):
        find(str(path), SingleModel)
