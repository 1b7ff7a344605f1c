from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deblur_cli.catalogue.download import sha256_of
from deblur_cli.catalogue.entry import Bundled
from deblur_cli.catalogue.export import save_model
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.nafnet import NAFNet
from tests.support.weights import TINY_BANK, TINY_NAFNET, published_nafnet, tiny_bank_weights


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    published_nafnet(path)
    entry = find(str(path), SingleModel)
    path.unlink()
    with pytest.raises(MissingWeightsError, match=r"net\.pth: there is no such file"):
        load(entry)


def test_weights_of_another_hash_are_never_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_model(path, "filter-bank-unet", TINY_BANK, tiny_bank_weights())
    entry = find(str(path), SingleModel)
    assert load(replace(entry, sha256=sha256_of(path)))
    with pytest.raises(DamagedWeightsError, match="damaged or not the published ones"):
        load(replace(entry, sha256="0" * 64))


def test_a_bundled_file_that_is_missing_is_an_installation_fault() -> None:
    entry = replace(find("nafnet-gopro-width32", SingleModel), source=Bundled("gone.safetensors"))
    with pytest.raises(MissingWeightsError, match=r"gone\.safetensors .* missing from this installation"):
        load(entry)


def test_weights_that_do_not_fit_the_entry_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    published_nafnet(path)
    entry = find(str(path), SingleModel)
    with pytest.raises(DamagedWeightsError, match="do not fit nafnet"):
        load(replace(entry, config=replace(TINY_NAFNET, width=8)))


def test_a_published_file_gives_the_same_picture_as_its_weights_put_in_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    weights = published_nafnet(path)
    model = load(find(str(path), SingleModel))
    by_hand = NAFNet(TINY_NAFNET).eval()
    by_hand.load_state_dict(weights)
    picture = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(model.network(picture), by_hand(picture))
    assert not model.network.training
    assert not any(p.requires_grad for p in model.network.parameters())


def test_export_keeps_eleven_bits_and_refuses_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    weights = tiny_bank_weights()
    save_model(tmp_path / "a.safetensors", "filter-bank-unet", TINY_BANK, weights)
    loaded = load(find(str(tmp_path / "a.safetensors"), SingleModel)).network.state_dict()
    assert all(torch.allclose(loaded[name], weights[name], rtol=1e-3, atol=1e-6) for name in weights)
    weights["stem.weight"] = torch.full_like(weights["stem.weight"], 1e6)
    with pytest.raises(ValueError, match=r"stem\.weight has values"):
        save_model(tmp_path / "b.safetensors", "filter-bank-unet", TINY_BANK, weights)
    assert not (tmp_path / "b.safetensors").exists()
