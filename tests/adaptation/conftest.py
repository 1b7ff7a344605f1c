"""A camera in small: textured scenes shot sharp and blurry, a network of a few weights, settings that end at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deblur_cli.adaptation.contract import AdaptSettings, FinetuneSettings, Frame, Shots, TranslateSettings
from deblur_cli.convert import stack_bytes
from deblur_cli.engine.device import Device
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import ShutterSettings
from tests.conftest import textured

CPU = Device(torch.device("cpu"), torch.float32, "tests")
SIZE = (150, 170)
SHUTTER = ShutterSettings(margin_px=0, path_px=(5.0, 9.0), sharp_probability=0.0, max_frames=10)


def blurred(frame: Frame, seed: int, shutter: ShutterSettings = SHUTTER) -> Frame:
    """Returns a frame as a shutter exposes it, noise and JPEG included."""
    generator = torch.Generator().manual_seed(seed)
    made = make_pairs(stack_bytes([frame]).float() / 255, shutter, generator).blurry
    saved = finish(made, shutter, generator)[0].permute(1, 2, 0).numpy()
    return np.asarray(np.rint(saved * 255), np.uint8)


@pytest.fixture(scope="session")
def shots() -> Shots:
    """Five sharp, six blurry and two held-back shots, all of different scenes."""
    scenes = [textured(SIZE, seed) for seed in range(13)]
    blurry = [blurred(scene, seed) for seed, scene in enumerate(scenes[5:])]
    return Shots(tuple(blurry[:6]), tuple(scenes[:5]), tuple(blurry[6:]))


@pytest.fixture
def model() -> SingleModel:
    """A NAFNet of few weights that changes its input a little."""
    line = architecture("nafnet")
    config = line.config(width=8, encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,))
    torch.manual_seed(3)
    network = line.build(config).requires_grad_(False).eval()
    return SingleModel("tiny", network, line.default_traits(config))


@pytest.fixture
def finetune() -> AdaptSettings:
    """Six steps of two crops of 32 px."""
    settings = FinetuneSettings(batch=2, crop_px=32, rate=1e-3, average=0.5, fit=False, matched_share=0.0)
    return AdaptSettings("finetune", steps=6, finetune=settings, judge_every=3, show_every=1)


@pytest.fixture
def translate() -> AdaptSettings:
    """Four steps of two crops of 32 px, the encoder in VGG19's place."""
    settings = TranslateSettings(
        blocks=1, width=4, critic_width=4, batch=2, crop_px=32, perceptual="encoder", rate=1e-3
    )
    return AdaptSettings("translate", steps=4, translate=settings, judge_every=2, show_every=1)
