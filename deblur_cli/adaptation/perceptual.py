"""What a translation must keep: features of the picture, from VGG19 or from a small encoder made on the spot.

The encoder stands in where VGG19 cannot be had. It learns by InfoNCE, on the camera's own sharp shots and their
exposures by the virtual shutter, what a place shows whatever the blur: that is what is to stay, and blur what may go.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.adaptation.settings import AdaptSettings, TranslateSettings
from deblur_cli.catalogue.vgg import vgg19
from deblur_cli.catalogue.weight_file import read_tensors, write_safetensors
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.errors import MissingWeightsError
from deblur_cli.networks.papers.match_encoder import MatchEncoder, MatchEncoderConfig, VGG19Features, contrastive_loss
from deblur_cli.progress import Progress
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.loop import LAST

ENCODER_FILE = "encoder.safetensors"
ENCODER_STEPS, ENCODER_BATCH, ENCODER_PX = 200, 2, 96
ENCODER_RATE = 1e-3
ENCODER = MatchEncoderConfig(channels=16)
"""Half as wide as the encoder of the reference networks: features at three scales were most of a step's time."""


@dataclass(frozen=True)
class Perceptual:
    """A fixed network that gives features of pictures (B, 3, H, W) in [0, 1], and what it is in words."""

    network: nn.Module
    told: str

    def __call__(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Returns the features, one tensor a layer."""
        found = self.network(picture)
        return found if isinstance(found, tuple) else (found,)


def perceptual(
    settings: AdaptSettings, sharp: FrameStore, device: torch.device, progress: Progress, folder: Path
) -> Perceptual:
    """Returns the features by which translations are held to their shots.

    An encoder that was made here is kept in the folder: a training that is resumed never changes from VGG19 to an
    encoder, nor back. Raises MissingWeightsError where VGG19 was asked for by name, or begun with, and is out of reach.
    """
    translate, kept = settings.translate, folder / ENCODER_FILE
    told = f"an encoder of {ENCODER.channels} channels learned from the sharp shots, in place of VGG19"
    if kept.exists():
        encoder = MatchEncoder(ENCODER)
        encoder.load_state_dict(read_tensors(kept))
        return Perceptual(encoder.to(device).requires_grad_(False).eval(), told)
    if translate.perceptual != "encoder":
        try:
            return _vgg(translate, device, progress)
        except MissingWeightsError as error:
            if translate.perceptual == "vgg19" or (folder / LAST).exists():
                raise
            progress.note(f"{error} Meanwhile a small encoder, made from the sharp shots, takes its place.")
    network = train_encoder(sharp, settings.seed, device)
    write_safetensors(kept, network.state_dict(), {})
    return Perceptual(network, told)


def _vgg(settings: TranslateSettings, device: torch.device, progress: Progress) -> Perceptual:
    network: VGG19Features = vgg19((settings.layer,), progress)
    if not settings.feature_norm:
        network.mean.zero_()
        network.deviation.fill_(1)
    plain = "" if settings.feature_norm else ", pictures not normalised"
    return Perceptual(network.to(device), f"VGG19 {settings.layer}{plain}")


def train_encoder(sharp: FrameStore, seed: int, device: torch.device, *, steps: int = ENCODER_STEPS) -> MatchEncoder:
    """Returns an encoder, fixed, that tells places of sharp shots apart however they are blurred. Same seed, same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("encoder", seed))
        encoder = MatchEncoder(ENCODER)
    encoder.to(device).train()
    optimiser = torch.optim.Adam(encoder.parameters(), lr=ENCODER_RATE)
    shutter = ShutterSettings(margin_px=16, path_px=(1.5, 20.0), max_frames=20, sharp_probability=0.0)
    for step in range(steps):
        draw = random.Random(seed_for("encoder", seed, step))
        generator = generator_for(device, "encoder", seed, step)
        side = ENCODER_PX + 2 * shutter.margin_px
        crops = [sharp.crop(draw.randrange(len(sharp)), side, draw) for _ in range(ENCODER_BATCH)]
        made = make_pairs(torch.stack(crops), shutter, generator)
        flow = torch.zeros(ENCODER_BATCH, 2, ENCODER_PX, ENCODER_PX, device=device)
        loss = contrastive_loss(encoder(made.blurry), encoder(made.sharp), flow, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return encoder.requires_grad_(False).eval()
