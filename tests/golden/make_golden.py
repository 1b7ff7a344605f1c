"""Writes the golden tensors: what a tiny network of each architecture makes of one picture, with weights from a seed.

    python -m tests.golden.make_golden [NAME ...]

README.md in this folder says when they may be made again.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deblur_cli.networks.contract import InputKind
from deblur_cli.networks.exposure_fusion_unet import ExposureFusionUNetConfig
from deblur_cli.networks.filter_bank_unet import FilterBankUNetConfig
from deblur_cli.networks.kernel_reference_unet import KernelReferenceUNetConfig
from deblur_cli.networks.papers.deblur_rnn_and_merger import EncoderDecoderConfig
from deblur_cli.networks.papers.deblurnet import DeblurNetConfig
from deblur_cli.networks.papers.deep_ref_net import DeepRefNetConfig
from deblur_cli.networks.papers.mimo_unet import MimoUNetConfig
from deblur_cli.networks.papers.nafnet import NAFNetConfig
from deblur_cli.networks.papers.ref_networks import RefDeblurNetConfig, RefMimoUNetConfig, RefNAFNetConfig
from deblur_cli.networks.papers.sgenet import SGENetConfig
from deblur_cli.networks.registry import ARCHITECTURES, architecture

FOLDER = Path(__file__).parent
SIZE = (32, 48)
TINY: dict[str, Any] = {
    "deblur-merger": EncoderDecoderConfig((8, 16, 24)),
    "deblur-rnn": EncoderDecoderConfig((8, 16, 24)),
    "deblurnet": DeblurNetConfig(8),
    "deeprefnet": DeepRefNetConfig((8, 12, 16), 2, (8, 8, 16)),
    "exposure-fusion-unet": ExposureFusionUNetConfig((8, 8, 16), (1, 0), 1, (0, 1)),
    "filter-bank-unet": FilterBankUNetConfig((8, 8, 16), (0, 1), 1, (1, 0), (8, 16, 8), (7, 11, 9)),
    "kernel-reference-unet": KernelReferenceUNetConfig((8, 8, 16), (1, 0), 1, (0, 1)),
    "mimo-unet": MimoUNetConfig(2, 8),
    "nafnet": NAFNetConfig(8, (1, 2), 1, (1, 1)),
    "ref-deblurnet": RefDeblurNetConfig(8, reference_blocks=1, match_channels=8, match_blocks=2),
    "ref-mimo-unet": RefMimoUNetConfig(1, 8, reference_blocks=1, match_channels=8, match_blocks=2),
    "ref-nafnet": RefNAFNetConfig(8, (1, 1, 1), 1, (1, 1, 1), reference_blocks=1, match_channels=8, match_blocks=2),
    "sgenet": SGENetConfig((24, 24, 36), 1),
}
"""One small configuration for each architecture, every kind of layer in it. A new network adds its own line."""


def golden_file(name: str) -> Path:
    """Returns where the golden tensors of that architecture lie."""
    return FOLDER / f"{name}.safetensors"


def tiny_network(name: str, seed: int = 0) -> nn.Module:
    """Returns the tiny network of that architecture in eval mode, its weights from the seed alone.

    They come from NumPy's frozen legacy stream, in the order of their names, scaled so that features keep their size:
    neither PyTorch's generators nor a network's way of starting are part of what is compared.
    """
    network = architecture(name).build(TINY[name]).eval()
    stream = np.random.RandomState(seed)
    weights = {key: _draw(key, tuple(value.shape), stream) for key, value in sorted(network.state_dict().items())}
    network.load_state_dict(weights, strict=True)
    return network


def picture(seed: int) -> Tensor:
    """Returns a picture (1, 3, H, W) in [0, 1]: waves, a bright disc, and noise."""
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width] / width
    waves = [0.4 + 0.25 * np.sin((9 + 3 * c + seed) * x + 5 * y) for c in range(3)]
    disc = np.hypot(x - 0.4, y - 0.3) < 0.15
    noise = np.random.RandomState(seed).standard_normal((3, height, width))
    pixels = np.where(disc, 0.9, np.stack(waves)) + 0.02 * noise
    return torch.from_numpy(np.clip(pixels, 0, 1).astype(np.float32))[None]


def make(name: str) -> dict[str, Tensor]:
    """Returns `input` (and `input_2` for networks of two pictures) and `output`, float32 on the CPU."""
    inputs = {"input": picture(1)}
    if architecture(name).kind is not InputKind.SINGLE:
        inputs["input_2"] = picture(2)
    return {**inputs, "output": answer(name, inputs)}


def answer(name: str, inputs: dict[str, Tensor]) -> Tensor:
    """Returns what the tiny network makes of the inputs of a golden file."""
    given = [inputs[key] for key in ("input", "input_2") if key in inputs]
    with torch.inference_mode():
        output: Tensor = tiny_network(name)(*given)
    return output.clone()


def _draw(name: str, shape: tuple[int, ...], stream: np.random.RandomState) -> Tensor:
    values = stream.standard_normal(shape)
    if name.endswith(("deviation", "running_var")) or (len(shape) == 1 and name.endswith("weight")):
        values = 1 + 0.1 * np.clip(values, -3, 3)
    elif len(shape) > 1:
        values /= np.sqrt(np.prod(shape[1:]))
    else:
        values *= 0.1
    return torch.from_numpy(values.astype(np.float32))


def main(names: list[str]) -> None:
    for name in names or [line.name for line in ARCHITECTURES]:
        if name not in TINY:
            known = ", ".join(TINY)
            raise SystemExit(
                f"{name} has no tiny configuration here ({known}). Add a line to TINY in {Path(__file__).name}."
            )
        save_file(make(name), golden_file(name))


if __name__ == "__main__":
    main(sys.argv[1:])
