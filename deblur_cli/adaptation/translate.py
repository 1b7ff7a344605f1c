"""Blur2Blur: a translator of the camera's blur into known blur, against a critic that knows the difference.

Source: Pham et al., Blur2Blur: Blur Conversion for Unsupervised Image Deblurring on Unknown Domains (2024), sections
3.2 and 4.1; `contract.TranslateSettings` tells where the authors' public code differs. The deblurring network takes no
part in the training: it is run after the translator.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from deblur_cli.adaptation.contract import AdaptSettings, Shots, TranslateSettings
from deblur_cli.adaptation.converter_check import STEPS as CHECK_STEPS
from deblur_cli.adaptation.converter_check import ConverterCheck, check_converter
from deblur_cli.adaptation.curriculum import batch_share, jittered, learning_rate, mildest, turned
from deblur_cli.adaptation.frames import store_of
from deblur_cli.adaptation.known_blur import KnownBlur
from deblur_cli.adaptation.learner import Product, Taught
from deblur_cli.adaptation.perceptual import Perceptual, perceptual
from deblur_cli.adaptation.translator_losses import (
    accuracy,
    at_scales,
    critic_loss,
    gradient_penalty,
    reconstruction,
    translator_loss,
)
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.engine.device import Device
from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.contract import Architecture, SingleModel
from deblur_cli.networks.papers import deblurnet, mimo_unet, nafnet
from deblur_cli.networks.papers.discriminators import PatchDiscriminator
from deblur_cli.progress import Progress
from deblur_cli.training.config import OptimiserConfig
from deblur_cli.training.distributed import World
from deblur_cli.training.loop import set_rate
from deblur_cli.training.state import build_optimiser
from deblur_cli.training.tasks import predicted

LAYERS_THAT_PREDICT = ("ConvsOut.0.", "ConvsOut.1.", "feat_extract.5.", "ending.", "img_prd.0.")
"""Of all backbones: what they say is added to the picture."""


class Translator:
    """A learner whose product is run before the deblurring network."""

    def __init__(
        self,
        shots: Shots,
        model: SingleModel,
        settings: AdaptSettings,
        device: Device,
        world: World,
        progress: Progress,
    ) -> None:
        """Builds both networks from the seed; trains nothing yet. Raises DatasetError, MissingWeightsError."""
        self._model, self._settings, self._world, self._progress = model, settings, world, progress
        self._device = device.torch_device
        translate = settings.translate
        self._blurry = store_of(shots.blurry, translate.crop_px, self._device, "blurry")
        self._known = KnownBlur(shots, settings, self._device, world, progress)
        self._architecture, config = backbone_of(translate)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for("translator", settings.seed))
            network, critic = (
                self._architecture.build(config),
                PatchDiscriminator(translate.critic_width, instance_norm=translate.instance_norm),
            )
        if translate.identity_start:
            begin_as_identity(network)
        self._network, self._critic = network.to(self._device).train(), critic.to(self._device).train()
        for each in (self._network, self._critic):
            world.share(each)
        adam = OptimiserConfig(name="adam", rate=translate.rate, betas=translate.betas)
        self._optimiser, self._critic_optimiser = (
            build_optimiser(each, adam) for each in (self._network, self._critic)
        )
        self._features: Perceptual | None = None
        self._traits = replace(self._architecture.default_traits(config), bgr=False)
        self._config = config

    @property
    def product(self) -> Product:
        """The translator."""
        translate = self._settings.translate
        features = "not made yet" if self._features is None else self._features.told
        recipe = (
            f"Translator to the blur that {self._model.name} knows, {self._known.told}: {len(self._blurry)} blurry and "
            f"{len(self._known.sharp)} sharp shots, crops of {translate.crop_px} px in batches of {translate.batch}, "
            f"{translate.adversarial} loss, critic of {translate.critic_scales} scales, features: {features}."
        )
        return Product(self._architecture.name, self._config, self._traits, recipe)

    def begin(self) -> None:
        """Finds or makes the features that translations are held by, unless a record brought them."""
        if self._features is None:
            self._make_features()

    def step(self, number: int, share: float) -> Taught:
        """Takes one step of the critic (eq. 7), then one of the translator (eq. 6)."""
        features = self._features or self._make_features()
        blurry = self._blurry_batch(number)
        known = self._known.batch(number)
        kept = mildest(blurry, batch_share(share, self._settings.translate))
        blurry, known = blurry[kept], known[: len(kept)]
        rate = learning_rate(share, self._settings.translate)
        for optimiser in (self._optimiser, self._critic_optimiser):
            set_rate(optimiser, rate)
        translated = predicted(self._network, (blurry,), self._architecture.outputs)
        critic, right = self._teach_critic(blurry, known, translated, number)
        adversarial, kept_content = self._teach_translator(features, blurry, translated)
        losses = (("critic", critic), ("adversarial", adversarial), ("reconstruction", kept_content))
        return Taught(tuple((name, value.detach()) for name, value in losses), right)

    def stages(self) -> tuple[SingleModel, ...]:
        """Returns the translator, then the deblurring network."""
        # A copy: the engine runs networks in inference mode, and what it moves there cannot be trained any more.
        return SingleModel("translator", copy.deepcopy(self._network).eval(), self._traits), self._model

    def weights(self) -> Mapping[str, Tensor]:
        """Returns the translator's weights."""
        return self._network.state_dict()

    def check(self, *, steps: int | None = None) -> ConverterCheck:
        """Returns whether translations pass for known blur, by the critic and by a classifier trained for it alone."""
        network = copy.deepcopy(self._network).eval()
        return check_converter(
            network,
            self._critic,
            self._known.batch,
            self._blurry,
            crop_px=self._settings.translate.crop_px,
            seed=self._settings.seed,
            steps=CHECK_STEPS if steps is None else steps,
        )

    def to_record(self) -> Mapping[str, Any]:
        """Returns both networks and their optimisers, and what was made at the beginning."""
        return {
            "network": self._network.state_dict(),
            "critic": self._critic.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "critic_optimiser": self._critic_optimiser.state_dict(),
            "features": {} if self._features is None else dict(self._features.own_weights()),
            "known": dict(self._known.to_record()),
        }

    def restore(self, record: Mapping[str, Any], step: int) -> None:
        """Goes on from a record."""
        self._network.load_state_dict(record["network"])
        self._critic.load_state_dict(record["critic"])
        self._optimiser.load_state_dict(dict(record["optimiser"]))
        self._critic_optimiser.load_state_dict(dict(record["critic_optimiser"]))
        self._known.restore(record["known"])
        if step:
            self._make_features(record["features"])

    def close(self) -> None:
        """Ends the stream of known blur."""
        self._known.close()

    def _make_features(self, trained: Mapping[str, Tensor] | None = None) -> Perceptual:
        self._features = perceptual(self._settings, self._known.sharp, self._device, self._progress, trained)
        return self._features

    def _blurry_batch(self, number: int) -> Tensor:
        """Returns squares (B, 3, s, s) of the camera's blurry shots, turned, flipped and of slightly other colours."""
        translate = self._settings.translate
        draw = random.Random(seed_for("blurry", self._settings.seed, self._world.rank, number))
        squares = [
            turned(self._blurry.crop(draw.randrange(len(self._blurry)), translate.crop_px, draw), draw.randrange(8))
            for _ in range(translate.batch)
        ]
        return jittered(torch.stack(squares), translate.colour_jitter, draw)

    def _teach_critic(
        self, blurry: Tensor, known: Tensor, translated: tuple[Tensor, ...], number: int
    ) -> tuple[Tensor, Tensor]:
        """Returns the critic's loss, and how often it was right, once it has learned from both."""
        translate, world = self._settings.translate, self._world
        seen = [picture.detach() for picture in self._seen(translated)]
        known_logits = self._logits(at_scales(known, seen))
        translated_logits = self._logits(seen)
        loss = critic_loss(known_logits, translated_logits, translate.adversarial)
        if translate.gradient_penalty:
            real = blurry if translate.penalty_between == "blurry" else known
            generator = generator_for(self._device, "penalty", self._settings.seed, world.rank, number)
            mix = torch.rand(len(real), generator=generator, device=self._device)
            penalty = gradient_penalty(self._critic, real, seen[-1], mix)
            loss = loss + translate.gradient_penalty * penalty
        self._critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        world.average_gradients(self._critic.parameters())
        self._critic_optimiser.step()
        return loss, accuracy(known_logits, translated_logits).detach()

    def _teach_translator(
        self, features: Perceptual, blurry: Tensor, translated: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Returns both terms of the translator's loss, once it has learned from them."""
        translate = self._settings.translate
        self._critic.requires_grad_(False)
        adversarial = translator_loss(self._logits(self._seen(translated)), translate.adversarial)
        self._critic.requires_grad_(True)
        kept = reconstruction(features, at_scales(blurry, translated), translated)
        loss = translate.adversarial_weight * adversarial + translate.reconstruction * kept
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._world.average_gradients(self._network.parameters())
        self._optimiser.step()
        return adversarial, kept

    def _seen(self, translated: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns what the critic sees of a translation: the full size alone, or every scale."""
        return translated if self._settings.translate.critic_scales == "all" else translated[-1:]

    def _logits(self, pictures: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
        """Returns the critic's logits (B, N) of pictures at one or several scales, the patches of all side by side."""
        return torch.cat([self._critic(picture).flatten(1) for picture in pictures], dim=1)


def backbone_of(settings: TranslateSettings) -> tuple[Architecture, Any]:
    """Returns the translator's architecture and configuration. Raises ConfigurationError for crops that don't fit."""
    config: Any
    if settings.backbone == "nafnet":
        line = nafnet.ARCHITECTURE
        config = nafnet.NAFNetConfig(settings.width, (1, 1, 1, settings.blocks))
    elif settings.backbone == "deblurnet":
        line, config = deblurnet.ARCHITECTURE, deblurnet.DeblurNetConfig(settings.width)
    else:
        line, config = mimo_unet.ARCHITECTURE, mimo_unet.MimoUNetConfig(settings.blocks, settings.width)
    multiple = line.default_traits(config).size_multiple
    if settings.crop_px % multiple:
        raise ConfigurationError(f"train-device: crops of {line.name} are multiples of {multiple} px.")
    return line, config


def begin_as_identity(network: nn.Module) -> None:
    """Makes the network return its input: what its last layers add to it becomes zero."""
    for name, parameter in network.named_parameters():
        if name.startswith(LAYERS_THAT_PREDICT):
            nn.init.zeros_(parameter)
