from __future__ import annotations

import re
from pathlib import Path

import pytest

from deblur_cli.catalogue.recognise import describe, recognise, settings_of
from deblur_cli.errors import UnrecognisedNetworkError
from deblur_cli.networks.contract import Shapes
from deblur_cli.networks.nafnet import ARCHITECTURE, NAFNetConfig

GOPRO_64 = "nafnet: width 64, encoder_blocks 1-1-1-28, middle_blocks 1, decoder_blocks 1-1-1-1"
PUBLISHED = {
    "NAFNet-GoPro-width32": GOPRO_64.replace("64", "32"),
    "NAFNet-GoPro-width64": GOPRO_64,
    "NAFNet-REDS-width64": GOPRO_64,
    "NAFNet-SIDD-width32": "nafnet: width 32, encoder_blocks 2-2-4-8, middle_blocks 12, decoder_blocks 2-2-2-2",
    "NAFNet-SIDD-width64": "nafnet: width 64, encoder_blocks 2-2-4-8, middle_blocks 12, decoder_blocks 2-2-2-2",
}


def published(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    lines = (shared / "checkpoint-keys" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("\t") for line in lines)
    return {key: tuple(int(n) for n in re.findall(r"\d+", shape)) for key, shape in pairs}


def refusal(shapes: Shapes) -> str:
    with pytest.raises(UnrecognisedNetworkError) as caught:
        recognise(shapes, where="net.pth")
    return str(caught.value)


@pytest.mark.shared
def test_a_missing_weight_is_named_with_the_network_it_is_missing_from(shared: Path) -> None:
    shapes = published(shared, "NAFNet-SIDD-width64")
    del shapes["middle_blks.7.conv2.bias"]
    assert refusal(shapes).startswith(
        "net.pth: the weights are nearly those of nafnet-sidd-width64, but middle_blks.7.conv2.bias is missing."
    )


@pytest.mark.shared
def test_a_weight_of_another_shape_is_named(shared: Path) -> None:
    shapes = published(shared, "NAFNet-GoPro-width32")
    shapes["intro.weight"] = (32, 4, 3, 3)
    assert "nafnet-gopro-width32, but intro.weight has the shape (32, 4, 3, 3) instead of (32, 3, 3, 3)" in refusal(
        shapes
    )


@pytest.mark.shared
def test_of_many_differences_three_are_told(shared: Path) -> None:
    shapes = published(shared, "NAFNet-GoPro-width32")
    shapes |= {f"extra.{i}": (1,) for i in range(5)}
    assert "extra.2 does not belong there, and 2 more differ." in refusal(shapes)


def test_another_network_is_refused_with_what_it_holds() -> None:
    assert "1 weights named like conv.weight fit no network known here (" in refusal({"conv.weight": (1,)})
    assert "0 weights" in refusal({})


def test_a_file_that_claims_to_be_what_it_is_not_is_refused() -> None:
    metadata = describe(ARCHITECTURE, NAFNetConfig())
    with pytest.raises(UnrecognisedNetworkError, match="it says it is a nafnet, but its weights do not fit one"):
        recognise({"conv.weight": (1,)}, metadata)


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_nafnet_is_recognised_by_names_and_shapes(shared: Path, name: str) -> None:
    found = recognise(published(shared, name))
    assert f"{found.architecture.name}: {settings_of(found.config)}" == PUBLISHED[name]
