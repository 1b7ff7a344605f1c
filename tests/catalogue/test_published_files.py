"""Files as authors publish them: found, loaded and run, they give what the same weights give when put in by hand."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine import device
from deblur_cli.engine.restore import restore
from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import Shapes, SingleModel
from deblur_cli.networks.papers.deblurnet import DeblurNet, DeblurNetConfig
from deblur_cli.networks.papers.mimo_unet import MimoUNet, MimoUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNet, NAFNetConfig
from deblur_cli.networks.shapes import shapes_of
from tests.conftest import textured
from tests.support.images import assert_images_close

Weights = dict[str, Tensor]
CHANGE = 0.005


@dataclass(frozen=True)
class Scheme:
    """How authors keep a network: the file's name, what is in it beside the weights, how it wants its pictures."""

    file: str
    build: Callable[[Any], nn.Module]
    tiny: Any
    last: str
    wrapped: Callable[[Weights], dict[str, Any]]
    zip_file: bool
    bgr: bool
    multiple: int


def parallel(weights: Weights) -> Weights:
    return {f"module.{name}": value for name, value in weights.items()}


def training_state(weights: Weights) -> dict[str, Any]:
    """Returns what an optimiser and a schedule leave in a checkpoint."""
    parameter = nn.Parameter(next(iter(weights.values())).clone())
    optimiser = torch.optim.Adam([parameter])
    parameter.sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [500, 1000], 0.5)
    return {"optimizer": optimiser.state_dict(), "scheduler": schedule.state_dict()}


SCHEMES = (
    Scheme(
        "NAFNet-GoPro-width32.pth",
        NAFNet,
        NAFNetConfig(4, (1, 1), 1, (1, 1)),
        "ending",
        lambda weights: {"params": weights},
        zip_file=True,
        bgr=False,
        multiple=4,
    ),
    Scheme(
        "MIMO-UNet.pkl",
        MimoUNet,
        MimoUNetConfig(2, 4),
        "feat_extract.5.main.0",
        lambda weights: {"model": weights},
        zip_file=True,
        bgr=False,
        multiple=4,
    ),
    Scheme(
        "model.pkl",
        MimoUNet,
        MimoUNetConfig(1, 4),
        "feat_extract.5.main.0",
        lambda weights: {"model": weights, **training_state(weights), "epoch": 3000},
        zip_file=True,
        bgr=False,
        multiple=4,
    ),
    Scheme(
        "best-ckpt.pth.tar",
        DeblurNet,
        DeblurNetConfig(4),
        "img_prd.0",
        lambda weights: {
            "epoch_idx": 400,
            "Best_Img_PSNR": 30.55,
            "Best_Epoch": 398,
            "deblurnet_state_dict": parallel(weights),
            "deblurnet_solver_state_dict": training_state(weights)["optimizer"],
        },
        zip_file=False,
        bgr=True,
        multiple=4,
    ),
)
EACH = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.file)


def random_weights(scheme: Scheme, config: Any, shapes: Shapes) -> Weights:
    """Returns weights of these names and shapes that change a picture by half a hundredth: no more is plausible."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes.items():
        spread = 0.1 if len(shape) == 1 else 0.7 * float(np.prod(shape[1:])) ** -0.5
        weights[name] = spread * torch.randn(shape, generator=generator)
    network = scheme.build(config).eval()
    network.load_state_dict(weights, strict=True)
    picture = torch.from_numpy(photo(64, 64).transpose(2, 0, 1).copy())[None]
    with torch.inference_mode():
        change = float((network(picture) - picture).abs().mean())
    for kind in ("weight", "bias"):
        weights[f"{scheme.last}.{kind}"] *= CHANGE / change
    return weights


def weights_of(scheme: Scheme) -> Weights:
    return random_weights(scheme, scheme.tiny, shapes_of(scheme.build, scheme.tiny))


def written(folder: Path, scheme: Scheme, weights: Weights) -> Path:
    path = folder / scheme.file
    torch.save(scheme.wrapped(weights), path, _use_new_zipfile_serialization=scheme.zip_file)
    return path


def photo(height: int, width: int) -> np.ndarray:
    return textured((height, width), 3).astype(np.float32) / 255


def by_hand(scheme: Scheme, config: Any, weights: Weights, pixels: np.ndarray) -> np.ndarray:
    """Returns the picture that the weights make when everything around the network is done here, once more."""
    network = scheme.build(config).eval()
    network.load_state_dict(weights, strict=True)
    height, width = pixels.shape[:2]
    ordered = pixels[..., ::-1] if scheme.bgr else pixels
    tensor = torch.from_numpy(ordered.transpose(2, 0, 1).copy())[None]
    padded = F.pad(tensor, (0, -width % scheme.multiple, 0, -height % scheme.multiple), mode="reflect")
    with torch.inference_mode():
        result = network(padded)[0, :, :height, :width].numpy().transpose(1, 2, 0)
    return np.clip(result[..., ::-1] if scheme.bgr else result, 0, 1)


def restored(path: Path, pixels: np.ndarray) -> np.ndarray:
    result = restore(load(find(str(path), SingleModel)), device.choose("cpu", "float32"), [pixels])
    assert result.refused_tiles == 0
    return result.pixels


@EACH
def test_one_weight_too_many_or_of_another_shape_is_never_loaded(tmp_path: Path, scheme: Scheme) -> None:
    weights = weights_of(scheme)
    name, value = list(weights.items())[5]
    for changed in ({**weights, "extra": torch.ones(1)}, {**weights, name: torch.cat((value, value))}):
        with pytest.raises(UnrecognisedNetworkError, match=re.escape(scheme.file)):
            find(str(written(tmp_path, scheme, changed)), SingleModel)


@EACH
def test_a_file_gives_the_picture_that_its_weights_give_when_put_in_by_hand(tmp_path: Path, scheme: Scheme) -> None:
    weights = weights_of(scheme)
    path = written(tmp_path, scheme, weights)
    for pixels in (photo(33, 46), photo(64, 48), photo(41, 67)):
        expected = by_hand(scheme, scheme.tiny, weights, pixels)
        assert_images_close(restored(path, pixels), expected, tolerance=1e-5)
        assert np.abs(expected - pixels).mean() > CHANGE / 2


@EACH
def test_every_weight_arrives_as_it_was(tmp_path: Path, scheme: Scheme) -> None:
    weights = weights_of(scheme)
    model = load(find(str(written(tmp_path, scheme, weights)), SingleModel))
    loaded = model.network.state_dict()
    assert loaded.keys() == weights.keys()
    assert all(torch.equal(loaded[name], weights[name]) for name in weights)
    assert model.traits.bgr is scheme.bgr


def test_channels_in_the_other_order_and_borders_of_zeros_would_be_noticed(tmp_path: Path) -> None:
    scheme = SCHEMES[-1]
    weights, pixels = weights_of(scheme), photo(33, 46)
    found = restored(written(tmp_path, scheme, weights), pixels)
    other_order = by_hand(replace(scheme, bgr=False), scheme.tiny, weights, pixels)
    zeros = by_hand(scheme, scheme.tiny, weights, np.pad(pixels, ((0, 3), (0, 2), (0, 0))))[:33, :46]
    assert np.abs(found - other_order).max() > 0.002
    assert np.abs(found - zeros).max() > 1e-4


PUBLISHED = {
    "NAFNet-GoPro-width32": (SCHEMES[0], NAFNetConfig(32)),
    "MIMO-UNet": (SCHEMES[1], MimoUNetConfig(8)),
    "MIMO-UNetPlus": (SCHEMES[1], MimoUNetConfig(20)),
}


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_of_the_published_names_and_sizes_gives_the_same_picture_too(
    shared: Path, tmp_path: Path, name: str
) -> None:
    lines = (shared / "checkpoint-keys" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("\t") for line in lines]
    shapes = {key: tuple(int(n) for n in re.findall(r"\d+", shape)) for key, shape in pairs}
    scheme, config = PUBLISHED[name]
    scheme = replace(scheme, multiple=16 if scheme.build is NAFNet else 4)
    weights, pixels = random_weights(scheme, config, shapes), photo(49, 70)
    expected = by_hand(scheme, config, weights, pixels)
    assert_images_close(restored(written(tmp_path, scheme, weights), pixels), expected, tolerance=1e-5)
    assert np.abs(expected - pixels).mean() > CHANGE / 2
