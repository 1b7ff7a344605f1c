from __future__ import annotations

import importlib
import importlib.machinery
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli.catalogue.download import Bundled, sha256_of
from deblur_cli.catalogue.entries import Entry
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import ForeignConfig, load
from deblur_cli.catalogue.weight_file import save_model, write_safetensors
from deblur_cli.engine.device import choose
from deblur_cli.engine.restore import restore
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError, TrainingError, UnrecognisedNetworkError
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


GAIN = 0.75


class Strange(nn.Module):
    """A network that nobody knows: its weights are named as no other's, and one has five dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.curious = nn.Parameter(torch.full((1, 3, 1, 1, 1), GAIN))

    def forward(self, image: Tensor) -> Tensor:
        return image * self.curious[..., 0]


@dataclass
class Descriptor:
    """Of spandrel's interface what the door uses."""

    model: nn.Module
    purpose: str = "Restoration"
    scale: int = 1
    input_channels: int = 3
    output_channels: int = 3
    tags: list[str] = field(default_factory=lambda: ["tiny"])
    architecture: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="Strange"))
    size_requirements: SimpleNamespace = field(
        default_factory=lambda: SimpleNamespace(multiple_of=8, minimum=0, square=False)
    )

    def __call__(self, image: Tensor) -> Tensor:
        assert image.shape[0] == 1
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        result: Tensor = self.model(image).clamp(0, 1)
        return result


class UnsupportedModelError(Exception): ...


def install(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> ModuleType:
    """Puts a spandrel in place that knows one network; `facts` change what it says of it."""

    class ModelLoader:
        def __init__(self, device: str) -> None: ...

        def load_from_state_dict(self, weights: dict[str, Tensor]) -> Descriptor:
            if set(weights) != {"curious"}:
                raise UnsupportedModelError
            network = Strange()
            network.load_state_dict(weights)
            return Descriptor(network, **facts)

    module = ModuleType("spandrel")
    module.__spec__ = importlib.machinery.ModuleSpec("spandrel", None)
    module.ModelLoader = ModelLoader  # type: ignore[attr-defined]
    module.UnsupportedModelError = UnsupportedModelError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spandrel", module)
    return module


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "strange.pth"
    torch.save({"state_dict": Strange().state_dict()}, path)
    return path


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deblur_cli.catalogue.load.importlib.util.find_spec", lambda name: None)


def test_without_it_an_unrecognised_file_is_told_which_extra_might_know_it(file: Path, absent: None) -> None:
    with pytest.raises(UnrecognisedNetworkError, match=r"strange\.pth: 1 weights .*`pip install 'deblur-cli\[spandrel"):
        find(str(file), SingleModel)


def test_what_is_nearly_one_of_ours_is_not_sent_elsewhere(tmp_path: Path, absent: None) -> None:
    path = tmp_path / "net.pth"
    torch.save({"params": dict(list(_width32().items())[:-1])}, path)
    with pytest.raises(UnrecognisedNetworkError, match="nearly those of nafnet") as caught:
        find(str(path), SingleModel)
    assert "pip" not in str(caught.value)


def _width32() -> dict[str, Tensor]:
    from deblur_cli.networks.papers.nafnet import NAFNet, NAFNetConfig
    from deblur_cli.networks.shapes import skip_init

    with skip_init():
        return NAFNet(NAFNetConfig(32, (1, 1, 1, 28), 1, (1, 1, 1, 1))).state_dict()


def test_one_that_cannot_be_loaded_says_why(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)

    def broken(name: str) -> ModuleType:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr("deblur_cli.catalogue.load.importlib.import_module", broken)
    with pytest.raises(UnrecognisedNetworkError, match=r"strange\.pth: .*torchvision::nms does not exist\)\. It needs"):
        find(str(file), SingleModel)


def test_what_it_does_not_know_either_is_refused_as_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    path = tmp_path / "odd.pth"
    torch.save({"weights.of.nobody": torch.zeros(1)}, path)
    with pytest.raises(UnrecognisedNetworkError, match=r"odd\.pth: 1 weights named like weights\.of\.nobody") as caught:
        find(str(path), SingleModel)
    assert "pip" not in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"scale": 4, "purpose": "SR"}, "Strange, which enlarges photos 4 times"),
        ({"purpose": "Inpainting"}, "Strange, which was made for Inpainting"),
        ({"input_channels": 1, "output_channels": 1}, "Strange, which takes 1 channels and gives 1"),
        ({"input_channels": 4}, "Strange, which takes 4 channels and gives 3"),
    ],
)
def test_networks_for_other_work_are_refused(
    file: Path, monkeypatch: pytest.MonkeyPatch, facts: dict[str, Any], message: str
) -> None:
    install(monkeypatch, **facts)
    with pytest.raises(UnrecognisedNetworkError, match=message):
        find(str(file), SingleModel)


def test_a_file_that_it_fails_at_is_named(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = install(monkeypatch)
    monkeypatch.setattr(
        module.ModelLoader, "load_from_state_dict", lambda self, weights: Strange().load_state_dict({"a": weights})
    )
    with pytest.raises(UnrecognisedNetworkError, match=r"strange\.pth: spandrel takes it for one of its networks, but"):
        find(str(file), SingleModel)


def test_a_network_of_its_own_runs_through_our_engine(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    told: list[str] = []

    class Watcher(SilentProgress):
        def note(self, message: str) -> None:
            told.append(message)

    entry = find(str(file), SingleModel)
    assert entry.config == ForeignConfig("Strange", "tiny", 3)
    assert (entry.traits.size_multiple, entry.traits.bgr, entry.traits.bfloat16) == (8, False, False)
    model = load(entry, Watcher())
    assert told == ["strange.pth was recognised as spandrel: network Strange, variant tiny, parameters 3."]
    photo = np.random.default_rng(0).random((45, 150, 3), dtype=np.float32)
    done = restore(model, choose("cpu", "float32"), [photo], tile_px=128)
    assert done.tiles == 2
    assert done.refused_tiles == 0
    assert np.allclose(done.pixels, GAIN * photo, atol=1e-5)


def test_our_own_networks_never_ask_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch)
    monkeypatch.delattr(sys.modules["spandrel"], "ModelLoader")
    published_nafnet(tmp_path / "net.pth")
    entry = find(str(tmp_path / "net.pth"), SingleModel)
    assert entry.architecture == "nafnet"
    assert entry.traits.pooling is not None  # plain in spandrel


def test_the_real_one_knows_a_network_that_we_do_not(tmp_path: Path) -> None:
    try:
        architectures = importlib.import_module("spandrel.architectures.KBNet")
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"spandrel, or a torchvision that fits this PyTorch, is not installed: {error}")
    network = architectures.KBNet_s(width=8, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1])
    torch.save({"params": network.state_dict()}, tmp_path / "kb.pth")
    entry = find(str(tmp_path / "kb.pth"), SingleModel)
    assert isinstance(entry.config, ForeignConfig)
    assert entry.config.network == "KBNet"
    photo = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    assert restore(load(entry), choose("cpu", "float32"), [photo]).pixels.shape == photo.shape
