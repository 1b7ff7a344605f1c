"""What a reference network matches by is taught before the network, finds places, and is refused where it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deblur_cli.catalogue import find
from deblur_cli.datasets.readers import read_dataset
from deblur_cli.errors import ConfigurationError, DatasetError, MissingWeightsError
from deblur_cli.networks.contract import Architecture, InputKind
from deblur_cli.networks.papers.deep_ref_net import DeepRefNet, DeepRefNetConfig
from deblur_cli.networks.papers.match_encoder import VGG19Features
from deblur_cli.networks.papers.ref_networks import RefNAFNet
from deblur_cli.networks.registry import ARCHITECTURES
from deblur_cli.progress import SILENT
from deblur_cli.training import matcher as module
from deblur_cli.training.checkpoint import load_checkpoint, save_checkpoint
from deblur_cli.training.config import MatcherConfig, NetworkConfig, TrainConfig
from deblur_cli.training.job import TrainJob, train
from deblur_cli.training.loop import LAST
from deblur_cli.training.matcher import PlaceSource, matcher_of, prepare_matcher
from tests.golden.make_golden import TINY

CPU = torch.device("cpu")
TAUGHT = MatcherConfig(steps=200, batch=1, patch_px=64, samples=96, rate=3e-3)
HARDLY = replace(TAUGHT, steps=2, least_gain=-1.0)
"""For what is not about how well it matches."""
CHANCE = 9 / 64**2
"""Of finding a place within 1.5 positions by guessing."""
BLUR_PX = 9
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example photographs, shrunken to 200 px at least: places of drawn pictures are told apart by anything."""
    folder = tmp_path_factory.mktemp("pictures")
    for path in sorted(EXAMPLES.glob("*.jpg")):
        picture = Image.open(path).convert("RGB")
        shrink = min(picture.size) / 200
        picture.resize((round(picture.width / shrink), round(picture.height / shrink)), Image.Resampling.LANCZOS).save(
            folder / f"{path.stem}.png"
        )
    return folder


@pytest.fixture(scope="module")
def scenes(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GoPro's layout in small: a scene of four frames for each example, sharp and blurred along x."""
    folder = tmp_path_factory.mktemp("scenes") / "gopro"
    for picture in sorted(pictures.iterdir()):
        wide = np.asarray(Image.open(picture))
        for number in range(4):
            place = folder / "train" / picture.stem
            sharp = wide[:160, 3 * number : 3 * number + 200]
            blurry = np.mean(
                [np.roll(sharp, shift, axis=1) for shift in range(-(BLUR_PX // 2), BLUR_PX // 2 + 1)], axis=0
            ).round()
            for name, pixels in (("sharp", sharp), ("blur", blurry)):
                (place / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(place / name / f"{number:06}.png")
    return folder


def network(line: Architecture) -> torch.nn.Module:
    torch.manual_seed(0)
    return line.build(TINY[line.name])


WITH_MATCHER: list[Architecture] = [
    line for line in ARCHITECTURES if matcher_of(line.build(TINY[line.name])) is not None
]
TWO_PHOTOS = [line for line in ARCHITECTURES if line.kind is not InputKind.SINGLE]


def test_the_papers_reference_networks_have_a_matcher() -> None:
    assert {line.name for line in WITH_MATCHER} == {"deeprefnet", "ref-deblurnet", "ref-mimo-unet", "ref-nafnet"}


@pytest.mark.parametrize(("line", "least"), [(WITH_MATCHER[0], 0.6), (WITH_MATCHER[-1], 0.3)], ids=["φ", "compact"])
def test_a_matcher_is_taught_on_photos_and_finds_places(line: Architecture, least: float, pictures: Path) -> None:
    built = network(line)
    wanted = [parameter.requires_grad for parameter in built.parameters()]
    report = prepare_matcher(built, TAUGHT, [read_dataset(pictures)], [], CPU, SILENT, seed=0)
    assert report is not None
    assert report.found > max(least, 20 * CHANCE)
    assert report.gain > 0.08
    assert [parameter.requires_grad for parameter in built.parameters()] == wanted


def test_a_matcher_learns_from_blurry_frames_and_their_sharp_ones(scenes: Path) -> None:
    data = [read_dataset(scenes)]
    report = prepare_matcher(network(WITH_MATCHER[1]), TAUGHT, data, [], CPU, SILENT, seed=0)
    assert report is not None
    assert report.gain > 0.08


def test_where_places_are_is_true(pictures: Path, scenes: Path) -> None:
    """Of the colours of a hardly blurred square, nearly all are found where the flow says."""
    for folder, path_px in ((pictures, (1.5, 1.6)), (scenes, (1.5, 1.6))):
        places = PlaceSource([read_dataset(folder)], 64, CPU).draw(1, path_px, "test", 3)
        flow = places.flow.round().long()
        ys, xs = torch.meshgrid(torch.arange(20, 44), torch.arange(20, 44), indexing="ij")
        there = places.reference[0, :, ys + flow[0, 1, 20:44, 20:44], xs + flow[0, 0, 20:44, 20:44]]
        here = places.query[0, :, 20:44, 20:44]
        elsewhere = places.reference[0, :, 20:44, 20:44]
        assert (here - there).square().mean() < 0.8 * (here - elsewhere).square().mean()


def test_an_untaught_matcher_is_refused(pictures: Path) -> None:
    data = [read_dataset(pictures)]
    with pytest.raises(ConfigurationError, match="knows nothing"):
        prepare_matcher(network(WITH_MATCHER[1]), TAUGHT, data, [], CPU, SILENT, seed=0, taught=True)


def test_a_resumed_matcher_that_does_not_learn_along_is_refused_too(pictures: Path) -> None:
    data = [read_dataset(pictures)]
    along, fixed = WITH_MATCHER[0], WITH_MATCHER[1]
    with pytest.raises(ConfigurationError, match="begin anew without --resume"):
        prepare_matcher(network(fixed), TAUGHT, data, [], CPU, SILENT, seed=0, resumed=True)
    never = replace(TAUGHT, least_gain=2.0)
    assert prepare_matcher(network(along), never, data, [], CPU, SILENT, seed=0, resumed=True) is not None


def test_ctrl_c_ends_the_teaching_at_once(pictures: Path) -> None:
    endless = replace(TAUGHT, steps=10**9)
    with pytest.raises(KeyboardInterrupt):
        prepare_matcher(
            network(WITH_MATCHER[0]), endless, [read_dataset(pictures)], [], CPU, SILENT, seed=0, stop=lambda: True
        )


def test_pairs_of_two_sizes_are_named(photo_factory: Callable[..., Path], tmp_path: Path) -> None:
    for name, size in (("blur", (120, 130)), ("sharp", (130, 120))):
        photo_factory(f"pairs/{name}/a.png", size=size)
    source = PlaceSource([read_dataset(tmp_path / "pairs")], 64, CPU)
    with pytest.raises(DatasetError, match="Pairs must have one size"):
        source.draw(1, (2.0, 3.0), "test")


def test_pictures_too_small_to_learn_from_are_named(photo_factory: Callable[..., Path], tmp_path: Path) -> None:
    small = photo_factory("small/a.png", size=(60, 60))
    with pytest.raises(DatasetError, match=r"a\.png: too small"):
        PlaceSource([read_dataset(small.parent)], 64, CPU)


def test_vgg19_is_loaded_layer_by_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    vgg = VGG19Features(("relu3_1",))
    monkeypatch.setattr(module, "vgg19_weights", lambda progress: vgg.state_dict())
    deep = DeepRefNet(DeepRefNetConfig(channels=(4, 8, 16), blocks=1))
    module.load_vgg19(deep.matching, SILENT)
    picture = torch.rand(1, 3, 16, 16)
    assert torch.allclose(deep.matching(picture), vgg(picture)[0], atol=1e-5)
    fixed = RefNAFNet(replace(TINY["ref-nafnet"], match_by="vgg19"))
    module.load_vgg19(fixed.guide.match_features, SILENT)
    assert torch.equal(fixed.guide.match_features.vgg.features[0].weight, vgg.features[0].weight)


def test_vgg19_out_of_reach_stops_the_training(
    pictures: Path, tmp_path: Path, reference_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**reference_config.network.options, "match_by": "vgg19"}
    config = replace(reference_config, network=NetworkConfig("ref-nafnet", options))
    with pytest.raises(MissingWeightsError, match="VGG19"):
        train(TrainJob(config, (pictures,), tmp_path / "out", device="cpu"))


def test_other_widths_than_vgg19s_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "vgg19_weights", lambda progress: VGG19Features(("relu3_1",)).state_dict())
    with pytest.raises(ConfigurationError, match="other widths"):
        module.load_vgg19(DeepRefNet(DeepRefNetConfig(matching=(4, 8, 16), channels=(4, 8, 16))).matching, SILENT)


@pytest.fixture
def reference_config(small_config: TrainConfig) -> TrainConfig:
    options = {"width": 4, "encoder_blocks": [1, 1, 1], "decoder_blocks": [1, 1, 1], "match_channels": 8}
    return replace(small_config, kind=InputKind.REFERENCE, network=NetworkConfig("ref-nafnet", options), matcher=TAUGHT)


@pytest.mark.parametrize("line", TWO_PHOTOS, ids=lambda line: line.name)
def test_every_network_for_two_photos_is_trained_by_the_command_s_own_way(
    line: Architecture, pictures: Path, tmp_path: Path, small_config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few steps through `train()`: the real network, the data, the matcher, the export."""
    monkeypatch.setattr(module, "share_found", partial(module.share_found, squares=1))
    traits = line.default_traits(TINY[line.name])
    patch = -(-32 // traits.size_multiple) * traits.size_multiple
    config = replace(
        small_config,
        kind=line.kind,
        network=NetworkConfig(line.name, asdict(TINY[line.name])),
        data=replace(small_config.data, patch_px=patch, held_out=0.25, ring_pairs=4, held_out_patches=2),
        reference=replace(small_config.reference, margin_px=16),
        dark=replace(small_config.dark, margin_px=16),
        matcher=HARDLY,
        run=replace(small_config.run, steps=3, validate_every=2, log_every=1),
    )
    result = train(TrainJob(config, (pictures,), tmp_path / "out", device="cpu"))
    assert result.model is not None
    entry = find.find_any(str(result.model))
    assert (entry.architecture, entry.config) == (line.name, TINY[line.name])


def test_a_resumed_training_is_refused_whose_matcher_knows_nothing(
    pictures: Path, tmp_path: Path, reference_config: TrainConfig
) -> None:
    """As one that was begun by a version that taught no matcher."""
    out = tmp_path / "out"
    run = replace(reference_config.run, steps=2, validate_every=2)
    begun = replace(reference_config, matcher=HARDLY, run=run)
    train(TrainJob(begun, (pictures,), out, device="cpu"))
    checkpoint = load_checkpoint(out / LAST)
    strict = replace(begun, matcher=TAUGHT, run=replace(run, steps=3))
    save_checkpoint(replace(checkpoint, config=replace(strict, run=run)), out / LAST)
    with pytest.raises(ConfigurationError, match="knows nothing"):
        train(TrainJob(strict, (pictures,), out, device="cpu", resume=True))
