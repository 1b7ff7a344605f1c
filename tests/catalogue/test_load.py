from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from deblur_cli.catalogue.download import sha256_of
from deblur_cli.catalogue.entries import Entry
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.catalogue.source import Bundled
from deblur_cli.catalogue.weight_file import save_model, write_safetensors
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError, TrainingError
from deblur_cli.networks.contract import LocalPooling, SingleModel
from deblur_cli.networks.papers import nafnet
from deblur_cli.networks.papers.local_pooling import apply_local_pooling
from deblur_cli.networks.papers.nafnet import NAFNet
from deblur_cli.progress import SilentProgress
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


def test_the_entrys_pooling_policy_is_applied(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    weights = published_nafnet(path)
    entry = find(str(path), SingleModel)
    entry = replace(entry, traits=replace(entry.traits, pooling=LocalPooling(16)))
    plain, local = NAFNet(TINY_NAFNET).eval(), NAFNet(TINY_NAFNET).eval()
    for network in (plain, local):
        network.load_state_dict(weights)
    apply_local_pooling(local, LocalPooling(16))
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        restored = load(entry).network(picture)
        assert torch.equal(restored, local(picture))
        assert not torch.equal(restored, plain(picture))
        assert torch.equal(load(entry_without_pooling(entry)).network(picture), plain(picture))


def test_a_file_of_the_users_own_is_told_what_it_was_taken_for(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    published_nafnet(path)
    told: list[str] = []

    class Watcher(SilentProgress):
        def note(self, message: str) -> None:
            told.append(message)

    load(find(str(path), SingleModel), Watcher())
    assert told == [
        "net.pth was recognised as nafnet: width 4, encoder_blocks 1-1, middle_blocks 1, decoder_blocks 1-1."
    ]


def test_buffers_that_are_computed_rather_than_stored_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Computed(nn.Module):
        def __init__(self, config: object) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.steps = nn.Buffer(torch.zeros(1, dtype=torch.int64))
            self.share = nn.Buffer(torch.tensor(0.5), persistent=False)

    path = tmp_path / "net.pth"
    published_nafnet(path)
    entry = find(str(path), SingleModel)
    line = replace(nafnet.ARCHITECTURE, build=Computed)
    monkeypatch.setattr("deblur_cli.catalogue.load.architecture", lambda _: line)
    write_safetensors(path, {"weight": torch.ones(1).half(), "steps": torch.tensor([7])}, {})
    network = load(entry_without_pooling(entry)).network
    assert (float(network.share), int(network.steps), network.steps.dtype) == (0.5, 7, torch.int64)
    assert network.weight.dtype is torch.float32


def entry_without_pooling(entry: Entry[SingleModel]) -> Entry[SingleModel]:
    return replace(entry, traits=replace(entry.traits, pooling=None))


def test_export_keeps_eleven_bits_and_refuses_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    weights = tiny_bank_weights()
    save_model(tmp_path / "a.safetensors", "filter-bank-unet", TINY_BANK, weights)
    loaded = load(find(str(tmp_path / "a.safetensors"), SingleModel)).network.state_dict()
    assert all(torch.allclose(loaded[name], weights[name], rtol=1e-3, atol=1e-6) for name in weights)
    weights["stem.weight"] = torch.full_like(weights["stem.weight"], 1e6)
    with pytest.raises(TrainingError, match=r"stem\.weight has values"):
        save_model(tmp_path / "b.safetensors", "filter-bank-unet", TINY_BANK, weights)
    assert not (tmp_path / "b.safetensors").exists()
