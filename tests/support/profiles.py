"""Camera profiles of small networks, as `deblur train-device` would write them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from deblur_cli.catalogue.camera_profile import Camera, CameraProfile, MadeFor, write_profile
from deblur_cli.catalogue.download import sha256_of
from deblur_cli.catalogue.weight_file import write_safetensors
from deblur_cli.networks import filter_bank_unet
from deblur_cli.networks.papers import mimo_unet
from deblur_cli.networks.papers.mimo_unet import MimoUNet, MimoUNetConfig
from tests.support.weights import TINY_BANK, randomised, tiny_bank_weights

TINY_MIMO = MimoUNetConfig(blocks=1, width=8)
CAMERA = Camera("Lumière", "No. 3", "f/6 rapid")
LAYERS_THAT_PREDICT = ("feat_extract.5", "ConvsOut")


def deblurring_network(path: Path, seed: int = 0) -> MadeFor:
    """Writes a small deblurring network, and returns how a profile names it."""
    write_safetensors(path, tiny_bank_weights(seed), {})
    return MadeFor(path.name, sha256_of(path))


@cache
def _identity() -> dict[str, Tensor]:
    network = MimoUNet(TINY_MIMO)
    for name, parameter in network.named_parameters():
        if name.startswith(LAYERS_THAT_PREDICT):
            nn.init.zeros_(parameter)
    return {name: value.detach() for name, value in network.state_dict().items()}


def identity_weights() -> dict[str, Tensor]:
    """Returns weights of a translator that changes nothing: what its last layers add is zero."""
    return dict(_identity())


def brightening_weights(by: float) -> dict[str, Tensor]:
    """Returns weights of a translator that adds a constant to every pixel."""
    weights = identity_weights()
    last = next(name for name in weights if name.startswith("feat_extract.5") and name.endswith("bias"))
    weights[last] = weights[last] + by
    return weights


def translator_profile(made_for: MadeFor, **facts: Any) -> CameraProfile:
    """Returns what a translator's profile tells; `facts` take the place of what is made up."""
    return _profile(
        {
            "method": "translate",
            "made_for": made_for,
            "architecture": "mimo-unet",
            "config": TINY_MIMO,
            "traits": mimo_unet.ARCHITECTURE.default_traits(TINY_MIMO),
        },
        facts,
    )


def finetuned_profile(made_for: MadeFor, **facts: Any) -> CameraProfile:
    """Returns what the profile of an adapted network tells."""
    return _profile(
        {
            "method": "finetune",
            "made_for": made_for,
            "architecture": "filter-bank-unet",
            "config": TINY_BANK,
            "traits": filter_bank_unet.ARCHITECTURE.default_traits(TINY_BANK),
        },
        facts,
    )


def write_translator(path: Path, made_for: MadeFor, weights: dict[str, Tensor] | None = None, **facts: Any) -> Path:
    """Writes a translator's profile, the identity unless weights are given; returns its path."""
    profile = translator_profile(made_for, **facts)
    write_profile(path, profile, identity_weights() if weights is None else weights, overwrite=True)
    return path


def write_finetuned(path: Path, made_for: MadeFor, weights: dict[str, Tensor] | None = None, **facts: Any) -> Path:
    """Writes the profile of an adapted network; returns its path."""
    profile = finetuned_profile(made_for, **facts)
    write_profile(path, profile, tiny_bank_weights(7) if weights is None else weights, overwrite=True)
    return path


def drawn_translator(seed: int = 0) -> dict[str, Tensor]:
    """Returns weights of a translator that changes everything."""
    return randomised(MimoUNet(TINY_MIMO), seed)


def _profile(facts: dict[str, Any], others: dict[str, Any]) -> CameraProfile:
    told = {
        "camera": CAMERA,
        "recipe": "12 blurry and 14 sharp shots, nothing else.",
        "scores": (("sharpness", 40.5, 47.25), ("noise", 0.01, 0.009)),
        "helps": True,
        "steps": 300,
    }
    return CameraProfile(**{**facts, **told, **others})
