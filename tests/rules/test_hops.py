"""The way of a photo is short: calls from a command's function to the network's `forward`, all of them ours."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor
from typer.testing import CliRunner

from deblur_cli.cli import app
from deblur_cli.measure.blur_extent import BlurExtent
from deblur_cli.networks.contract import ReferenceOutput
from deblur_cli.pipelines import fuse_one, ref, single
from tests.support import fake_networks
from tests.support.bursts import burst
from tests.support.raw_pairs import Exposure, scene_light, write_jpeg

PACKAGE = str(Path(__file__).parents[2] / "deblur_cli")
MOST = 9
PLAIN = ("--device", "cpu", "--precision", "float32", "--scale", "1", "--tile", "512")


class Traced:
    """Takes down, at each call of a network, through which of our functions it came from the command."""

    ways: list[list[str]]

    def trace(self) -> None:
        ours = [frame for frame in traceback.extract_stack() if frame.filename.startswith(PACKAGE)]
        first = next(index for index, frame in enumerate(ours) if Path(frame.filename).stem == frame.name)
        self.ways.append([f"{Path(frame.filename).stem}.{frame.name}" for frame in ours[first:]])


class Single(Traced, fake_networks.Brighten):
    def forward(self, blurry: Tensor) -> Tensor:
        self.trace()
        return super().forward(blurry)


class Reference(Traced, fake_networks.Borrow):
    def forward(self, query: Tensor, reference: Tensor, *, with_confidence: bool = False) -> Tensor | ReferenceOutput:
        self.trace()
        return super().forward(query, reference, with_confidence=with_confidence)


class Pair(Traced, fake_networks.MeanOfPair):
    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        self.trace()
        return super().forward(noisy, blurry)


def install_single(patch: pytest.MonkeyPatch) -> Traced:
    fake_networks.install(patch, fake_networks.single_model(network := Single(0.05)))
    return network


def install_reference(patch: pytest.MonkeyPatch) -> Traced:
    other = fake_networks.single_model(fake_networks.Brighten(0.05))
    fake_networks.install_ref(patch, fake_networks.reference_model(network := Reference(0.75)), other)
    return network


def install_pair(patch: pytest.MonkeyPatch) -> Traced:
    fake_networks.install_pair(patch, fake_networks.pair_model(network := Pair()))
    return network


@pytest.mark.parametrize(
    ("install", "arguments"),
    [
        (install_single, ("single", "IMG_0001.png")),
        (install_reference, ("ref", "IMG_0001.png", "--ref", "IMG_0002.png")),
        (install_pair, ("pair", "short.jpg", "long.jpg")),
    ],
)
def test_from_command_to_network(
    install: Callable[[pytest.MonkeyPatch], Traced],
    arguments: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (single, ref, fuse_one):
        monkeypatch.setattr(module, "estimate_blur_extent", lambda pixels: BlurExtent(12.0, 1.0))
    folder = tmp_path / "burst"
    burst(folder, (10.0, 0.0))
    light = scene_light((64, 96), 3) * 0.5
    write_jpeg(folder / "short.jpg", (light / 6).clip(0, 1) ** (1 / 2.2), Exposure(1 / 24))
    write_jpeg(folder / "long.jpg", light.clip(0, 1) ** (1 / 2.2), Exposure(1 / 4))
    network = install(monkeypatch)
    network.ways = []
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out"), *PLAIN], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    way = network.ways[-1]
    assert way[0] == f"{arguments[0]}.{arguments[0]}"
    assert len(way) <= MOST, f"{len(way)} calls: {' → '.join(way)} → forward"
