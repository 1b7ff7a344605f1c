"""A camera in small: textured scenes shot sharp and blurry, a network of a few weights, settings that end at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from deblur_cli.adaptation.frames import Frame, Shots
from deblur_cli.adaptation.learner import Job
from deblur_cli.adaptation.settings import AdaptSettings, FinetuneSettings, TranslateSettings
from deblur_cli.convert import stack_bytes
from deblur_cli.engine.device import Device
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.registry import architecture
from deblur_cli.progress import SILENT
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.distributed import World
from tests.adaptation.bank import line_library
from tests.conftest import textured

CPU = Device(torch.device("cpu"), torch.float32, "tests")
SIZE = (300, 310)
SHUTTER = ShutterSettings(margin_px=0, path_px=(5.0, 9.0), sharp_probability=0.0, max_frames=10)


def blurred(frame: Frame, seed: int, shutter: ShutterSettings = SHUTTER) -> Frame:
    """Returns a frame as a shutter exposes it, noise and JPEG included."""
    generator = torch.Generator().manual_seed(seed)
    made = make_pairs(stack_bytes([frame]).float() / 255, shutter, generator).blurry
    saved = finish(made, shutter, generator)[0].permute(1, 2, 0).numpy()
    return np.asarray(np.rint(saved * 255), np.uint8)


@functools.cache
def made_up_shots() -> Shots:
    """Returns four sharp, four blurry, two held-back blurry and two held-back sharp shots, all of different scenes."""
    scenes = [textured(SIZE, seed) for seed in range(12)]
    blurry = tuple(blurred(scene, seed) for seed, scene in enumerate(scenes[6:]))
    return Shots(blurry[:4], tuple(scenes[:4]), blurry[4:], tuple(scenes[4:6]))


@pytest.fixture(scope="session")
def shots() -> Shots:
    """A camera's shots in small."""
    return made_up_shots()


def tiny_network() -> SingleModel:
    """Returns a NAFNet of few weights that changes its input a little."""
    line = architecture("nafnet")
    config = line.config(width=8, encoder_blocks=(1,), middle_blocks=1, decoder_blocks=(1,))
    torch.manual_seed(3)
    network = line.build(config).requires_grad_(False).eval()
    return SingleModel("tiny", network, line.default_traits(config))


QUICK = FinetuneSettings(batch=2, rate=1e-3, average=0.5, pictures=3, held_out=2, side_px=240, matched_share=0.0)
SMALL = TranslateSettings(
    blocks=1, width=4, critic_width=4, batch=2, crop_px=32, perceptual="encoder", rate=1e-3, known_pictures=3
)


@pytest.fixture
def model() -> SingleModel:
    """A deblurring network in small."""
    return tiny_network()


FINETUNE = AdaptSettings("finetune", steps=4, finetune=QUICK, judge_every=2)
TRANSLATE = AdaptSettings("translate", steps=4, translate=SMALL, finetune=QUICK, judge_every=2)


@pytest.fixture
def finetune() -> AdaptSettings:
    """Four steps of two windows of three pictures."""
    return FINETUNE


@pytest.fixture
def translate() -> AdaptSettings:
    """Four steps of two crops of 32 px, the encoder in VGG19's place."""
    return TRANSLATE


@pytest.fixture
def job(shots: Shots, model: SingleModel, tmp_path: Path) -> Callable[[AdaptSettings], Job]:
    """Makes what a learner is told."""

    def make(settings: AdaptSettings) -> Job:
        library = line_library()
        return Job(shots, library, library, model, settings, tmp_path, CPU, World(), SILENT, lambda: False)

    return make
