from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from deblur_cli.catalogue import vgg as module
from deblur_cli.catalogue.vgg import digest_of, vgg19, vgg19_file, vgg19_weights
from deblur_cli.errors import DamagedWeightsError, MissingWeightsError
from deblur_cli.networks.papers.match_encoder import VGG19Features
from deblur_cli.networks.shapes import shapes_of
from deblur_cli.progress import SilentProgress, Stage
from tests.support.hub import COMMIT, LoopbackHub, loopback_hub

WHERE = "timm/vgg19.tv_in1k/model.safetensors"
SMALL = ("conv1_1", "relu1_1", "conv1_2")


class Watcher(SilentProgress):
    """Remembers what it was told; interrupts the download after so many bytes, as Ctrl-C does."""

    def __init__(self, interrupt_after: int | None = None) -> None:
        self.notes: list[str] = []
        self.done, self.total = 0, None
        self.interrupt_after = interrupt_after

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        self.total = total
        yield self

    def advance(self, amount: int = 1) -> None:
        self.done += amount
        if self.interrupt_after is not None and self.done >= self.interrupt_after:
            raise KeyboardInterrupt

    def note(self, message: str) -> None:
        self.notes.append(message)


def features() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes_of(VGG19Features, SMALL).items()}


def published(head: int = 500_000, **more: Tensor) -> bytes:
    """Returns a file as the authors' is laid out: features first, then a classifier several times as large."""
    return save({**features(), "head.fc.weight": torch.ones(head), "pre_logits.fc1.bias": torch.zeros(9), **more})


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    """A Hub with a VGG19 of two layers."""
    monkeypatch.setattr(module, "LAYERS", SMALL)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("DEBLUR_CACHE", str(tmp_path / "cache"))
    with loopback_hub() as running:
        running.files[WHERE] = published()
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


def same(found: dict[str, Tensor]) -> bool:
    wanted = features()
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_offline_with_a_cold_cache_says_what_to_do(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingWeightsError, match=r"HF_HUB_OFFLINE .* `deblur models pull vgg19` once"):
        vgg19_weights()
    assert hub.gets == []


def test_an_unreachable_hub_says_so(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(MissingWeightsError, match=r"timm/vgg19\.tv_in1k: .*Check the network"):
        vgg19_weights()


def test_a_full_disk_is_foreseen(hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SIZE_BYTES", 10**18)
    with pytest.raises(MissingWeightsError, match=r"VGG19 needs .* are free at .* DEBLUR_CACHE"):
        vgg19_weights()
    assert hub.gets == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff" * 100, "no safetensors file"),
        (b"short", "size 8 but has size 5"),
        (save({"head.weight": torch.ones(3)}), r"has no features\.\*"),
    ],
)
def test_another_file_in_its_place_is_refused(hub: LoopbackHub, content: bytes, message: str) -> None:
    hub.files[WHERE] = content
    with pytest.raises(MissingWeightsError, match=message):
        vgg19_weights()
    assert not vgg19_file().exists()


def test_features_that_do_not_lie_side_by_side_are_refused(hub: LoopbackHub) -> None:
    header = {
        "features.0.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        "head.bias": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]},
        "features.0.weight": {"dtype": "F32", "shape": [1], "data_offsets": [8, 12]},
    }
    text = json.dumps(header).encode()
    hub.files[WHERE] = len(text).to_bytes(8, "little") + text + bytes(12)
    with pytest.raises(MissingWeightsError, match="are not side by side"):
        vgg19_weights()


def test_features_of_another_network_are_refused(hub: LoopbackHub) -> None:
    hub.files[WHERE] = published(**{"features.99.weight": torch.ones(2)})
    with pytest.raises(DamagedWeightsError, match="does not hold VGG19's features"):
        vgg19_weights()
    assert not vgg19_file().exists()


def test_a_server_that_sends_everything_is_stopped(hub: LoopbackHub) -> None:
    hub.ignores_ranges = True
    with pytest.raises(MissingWeightsError, match="does not send parts of files"):
        vgg19_weights()


def test_what_changed_since_first_use_is_refused(hub: LoopbackHub) -> None:
    vgg19_weights()
    vgg19_file().unlink()
    hub.files[WHERE] = published(**{"features.0.bias": torch.ones(64)})
    with pytest.raises(DamagedWeightsError, match=r"not what it was at first use here .* delete .*\.sha256 first"):
        vgg19_weights()
    assert not vgg19_file().exists()
    hub.files[WHERE] = published()
    assert same(vgg19_weights())


def test_only_the_features_are_fetched_announced_and_kept(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watcher = Watcher()
    assert same(vgg19_weights(watcher))
    assert watcher.notes[0].startswith("Fetching VGG19's features (80 MB, BSD-3-Clause) from http://127.0.0.1")
    assert watcher.done == watcher.total == sum(4 * value.numel() for value in features().values())
    assert all(COMMIT in path for path in hub.gets)  # one commit, whatever the branch does meanwhile
    assert vgg19_file().stat().st_size < len(hub.files[WHERE]) / 5
    assert {path.name for path in (tmp_path / "cache" / "parts").iterdir()} == {
        "vgg19-features.safetensors",
        "vgg19-features.sha256",
    }
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    before = len(hub.gets)
    assert same(vgg19_weights())
    assert len(hub.gets) == before


def test_an_interrupted_fetch_goes_on(hub: LoopbackHub) -> None:
    half = sum(4 * value.numel() for value in features().values()) // 2
    with pytest.raises(KeyboardInterrupt):
        vgg19_weights(Watcher(interrupt_after=half))
    hub.ranges.clear()
    watcher = Watcher()
    assert same(vgg19_weights(watcher))
    first = int(hub.ranges[-1].removeprefix("bytes=").partition("-")[0])
    assert first > half
    assert watcher.done == watcher.total


def test_a_damaged_copy_is_fetched_anew(hub: LoopbackHub) -> None:
    vgg19_weights()
    whole = vgg19_file().read_bytes()
    for damaged in (whole[:-4] + b"rot!", whole[:100], b""):
        vgg19_file().write_bytes(damaged)
        assert same(vgg19_weights())


def test_the_whole_file_in_the_clients_cache_is_used(
    hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("timm/vgg19.tv_in1k", "model.safetensors", cache_dir=tmp_path / "hf" / "hub", endpoint=hub.endpoint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert same(vgg19_weights())


def test_the_network_gets_its_weights_and_learns_nothing(hub: LoopbackHub) -> None:
    network = vgg19(("relu1_1",))
    assert torch.equal(network.state_dict()["features.0.weight"], features()["features.0.weight"])
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_digest_sees_names_shapes_and_values_and_not_the_order() -> None:
    one, two = torch.ones(2, 3), torch.zeros(4)
    digest = digest_of({"a": one, "b": two})
    assert digest == digest_of({"b": two, "a": one})
    others = [{"a": one, "c": two}, {"a": one.T, "b": two}, {"a": one * 2, "b": two}, {"a": one}]
    assert len({digest, *(digest_of(other) for other in others)}) == 5
