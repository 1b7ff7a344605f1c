"""Blur2Blur: a translator of the camera's blur into known blur, against a critic that knows the difference.

Source: Pham et al., Blur2Blur: Blur Conversion for Unsupervised Image Deblurring on Unknown Domains (2024), sections
3.2 to 4.1; `settings.TranslateSettings` tells where the authors' public code differs. Known blur (section 3.3) is the
camera's own sharp shots under blur that the deblurring network knows, with the noise of the camera's blurry shots: a
critic can tell them apart by nothing but blur. The deblurring network takes no part in the training: it is run after
the translator.
"""

from __future__ import annotations

import copy
import functools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.adaptation.blurred_shots import CPU, Blur, BlurredShots, PairsBlur, ShutterBlur, least_side_px
from deblur_cli.adaptation.converter_check import check_converter
from deblur_cli.adaptation.finetune import as_it_is, make_held_out, noise_of, workers_for
from deblur_cli.adaptation.frames import FrameStore, store_of, thinned
from deblur_cli.adaptation.judge import score
from deblur_cli.adaptation.kernel_extractor import PairSquares, train_extractor
from deblur_cli.adaptation.learner import Job, Learner, run_of
from deblur_cli.adaptation.perceptual import Perceptual, perceptual
from deblur_cli.adaptation.settings import AdaptSettings, TranslateSettings
from deblur_cli.adaptation.translator_losses import (
    at_scales,
    critic_loss,
    gradient_penalty,
    reconstruction,
    translator_loss,
)
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.datasets.readers import read_pairs
from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.contract import Architecture, SingleModel
from deblur_cli.networks.papers import deblurnet, mimo_unet, nafnet
from deblur_cli.networks.papers.discriminators import PatchDiscriminator
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import DataConfig, NetworkConfig, OptimiserConfig, PicturesConfig, TrainConfig
from deblur_cli.training.data import turned
from deblur_cli.training.fill import Filling, fill
from deblur_cli.training.loop import Setting, set_rate
from deblur_cli.training.losses import psnr
from deblur_cli.training.state import Adversary, TrainState, build_optimiser, update_average
from deblur_cli.training.tasks import HARM_DB, Batch, Outcome, RestoreTask, Validation, Validator, predicted, task_for
from deblur_cli.training.whole_pictures import PictureCache

LAYERS_THAT_PREDICT = ("ConvsOut.0.", "ConvsOut.1.", "feat_extract.5.", "ending.", "img_prd.0.")
"""Of all backbones: what they say is added to the picture."""
JUDGED_PICTURES = 6
"""Held-out pictures by which checkpoints are chosen: each goes through both networks."""
KNOWN_SIDE_PX = 448


def learner_of(job: Job) -> Learner | None:
    """Returns the translator to train, and what it learns from, made where it is missing; None once stopped.

    Raises DatasetError, MissingWeightsError.
    """
    translate, device = job.settings.translate, job.device.torch_device
    blurry = store_of(job.shots.blurry, translate.crop_px, device, "blurry")
    config = recipe_for(job)
    if not make_held_out(job, config) or not make_known(job, config):
        return None
    pictures = PictureCache(job.folder / "known", "train")
    known = FrameStore(tuple(pictures.array(n, "blurry").to(device) for n in range(config.pictures.count)))
    line, backbone = backbone_of(translate)
    network = new_translator(translate, job.settings.seed).to(device).train()
    adam = OptimiserConfig(name="adam", rate=translate.rate, betas=translate.betas)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("critic", job.settings.seed))
        critic = PatchDiscriminator(translate.critic_width, instance_norm=translate.instance_norm)
    critic = critic.to(device).train()
    features = perceptual(
        job.settings, store_of(job.shots.sharp, 128, device, "sharp"), device, job.progress, job.folder
    )
    traits = replace(line.default_traits(backbone), bgr=False)

    def stages(trained: nn.Module) -> tuple[SingleModel, ...]:
        # A copy: the engine runs networks in inference mode, and what it moves there cannot be trained any more.
        return SingleModel("translator", copy.deepcopy(trained).eval(), traits), job.model

    from_where = "the virtual shutter's" if job.settings.known_blur is None else f"of {job.settings.known_blur.name}"
    batch_at = functools.partial(batch_of, blurry, known, job.settings, job.world.rank)
    return Learner(
        network=network,
        config=config,
        task=task_for(config, line.outputs),
        batch_at=batch_at,
        validator=ChainValidator([], RestoreTask(config.loss), device, job.device.dtype, job, stages),
        stages=stages,
        architecture=line.name,
        settings=backbone,
        traits=traits,
        recipe=f"Translator to the blur that {job.model.name} knows, {from_where}: {len(blurry)} blurry and "
        f"{len(job.shots.sharp)} sharp shots, crops of {translate.crop_px} px in batches of {translate.batch}, "
        f"{translate.adversarial} loss, critic of {translate.critic_scales} scales, features: {features.told}.",
        start={name: value.detach().cpu().clone() for name, value in network.state_dict().items()},
        step=functools.partial(TranslatorStep, translate, features, line.outputs),
        adversary=Adversary(critic, build_optimiser(critic, adam)),
        further_scores=functools.partial(table_6, job, batch_at),
    )


def recipe_for(job: Job) -> TrainConfig:
    """Returns what the trainer's loop is told; rate and loss are the translator's own."""
    settings, translate = job.settings, job.settings.translate
    return TrainConfig(
        network=NetworkConfig(backbone_of(translate)[0].name),
        data=DataConfig(patch_px=translate.crop_px, batch=translate.batch, workers=workers_for(job.world)),
        pictures=PicturesConfig(count=translate.known_pictures, held_out=settings.finetune.held_out),
        optimiser=OptimiserConfig(name="adam", rate=translate.rate, betas=translate.betas, ema_decay=0.0),
        run=run_of(settings, log_every=10),
    )


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


def new_translator(settings: TranslateSettings, seed: int) -> nn.Module:
    """Returns the translator before its first step; the same seed gives the same one."""
    line, config = backbone_of(settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("translator", seed))
        network = line.build(config)
    if settings.identity_start:
        begin_as_identity(network)
    return network


def make_known(job: Job, config: TrainConfig) -> bool:
    """Makes what is missing of the known-blur pictures; returns False once stopped. Raises DatasetError."""
    settings = job.settings
    filling = Filling(job.folder / "known", "train", config.pictures.count, lambda: maker, config)
    if not filling.missing():
        return True
    blur: Blur = ShutterBlur(ShutterSettings())
    if settings.known_blur is not None:
        squares = PairSquares(read_pairs(settings.known_blur), CPU)
        blur = PairsBlur(squares, train_extractor(squares, settings.seed, CPU))
    sharp = store_of(job.shots.sharp, least_side_px([blur]), CPU, "sharp")
    saved = noise_of(job.shots.blurry, sharp, blur, settings.seed)
    maker = BlurredShots(sharp, [(blur, 1.0)], saved, KNOWN_SIDE_PX, settings.finetune.scale, settings.seed, "known")
    return fill(replace(filling, maker=functools.partial(as_it_is, maker)), job.progress, stop=job.stop)


def batch_of(blurry: FrameStore, known: FrameStore, settings: AdaptSettings, rank: int, step: int) -> Batch:
    """Returns squares (B, 3, s, s) of the camera's blurry shots, and of known blur as the truth.

    Both turned, flipped and of slightly other colours; they follow from seed, rank and step alone.
    """
    translate = settings.translate
    sides = []
    for name, store in (("blurry", blurry), ("known", known)):
        draw = random.Random(seed_for(name, settings.seed, rank, step))
        squares = [
            turned(store.crop(draw.randrange(len(store)), translate.crop_px, draw), draw.randrange(8))
            for _ in range(translate.batch)
        ]
        sides.append(jittered(torch.stack(squares), translate.colour_jitter, draw))
    return Batch((sides[0],), sides[1])


class TranslatorStep:
    """One step after another, each of the critic (eq. 7), then of the translator (eq. 6)."""

    def __init__(
        self,
        settings: TranslateSettings,
        features: Perceptual,
        outputs: tuple[float, ...],
        setting: Setting,
        state: TrainState,
    ) -> None:
        """Gives every process the leader's weights."""
        assert state.adversary is not None
        self._translate, self._features, self._setting, self._state = settings, features, setting, state
        self._outputs = outputs
        self._network, self._critic = state.network, state.adversary.network
        self._critic_optimiser = state.adversary.optimiser
        for each in (self._network, self._critic):
            setting.world.share(each)

    def __call__(self, batch: Batch, learning_rate: float) -> tuple[Outcome, Tensor]:
        """Returns the translator's loss, and how alike translations and shots are; the state is one step further.

        The rate is the paper's, not the trainer's.
        """
        state, translate = self._state, self._translate
        blurry, known = batch.inputs[0], batch.truth
        kept = mildest(blurry, batch_share(state.share, translate))
        blurry, known = blurry[kept], known[: len(kept)]
        for optimiser in (state.optimiser, self._critic_optimiser):
            set_rate(optimiser, paper_rate(state.share, translate))
        translated = predicted(self._network, (blurry,), self._outputs)
        critic = self._teach_critic(blurry, known, translated)
        loss = self._teach_translator(blurry, translated)
        state.step += 1
        update_average(state, 0.0)
        alike = psnr(translated[-1].detach(), blurry)
        return Outcome(loss.detach(), alike, alike), critic.detach()

    def _teach_critic(self, blurry: Tensor, known: Tensor, translated: tuple[Tensor, ...]) -> Tensor:
        """Returns the critic's loss, once it has learned from both."""
        translate, world = self._translate, self._setting.world
        seen = [picture.detach() for picture in self._seen(translated)]
        loss = critic_loss(self._logits(at_scales(known, seen)), self._logits(seen), translate.adversarial)
        if translate.gradient_penalty:
            real = blurry if translate.penalty_between == "blurry" else known
            seed = ("penalty", self._setting.config.run.seed, world.rank, self._state.step)
            mix = torch.rand(len(real), generator=generator_for(real.device, *seed), device=real.device)
            loss = loss + translate.gradient_penalty * gradient_penalty(self._critic, real, seen[-1], mix)
        self._critic_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        world.average_gradients(self._critic.parameters())
        self._critic_optimiser.step()
        return loss

    def _teach_translator(self, blurry: Tensor, translated: tuple[Tensor, ...]) -> Tensor:
        """Returns the translator's loss, once it has learned from it."""
        translate, state = self._translate, self._state
        self._critic.requires_grad_(False)
        adversarial = translator_loss(self._logits(self._seen(translated)), translate.adversarial)
        self._critic.requires_grad_(True)
        kept = reconstruction(self._features, at_scales(blurry, translated), translated)
        loss = translate.adversarial_weight * adversarial + translate.reconstruction * kept
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._setting.world.average_gradients(self._network.parameters())
        state.optimiser.step()
        return loss

    def _seen(self, translated: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Returns what the critic sees of a translation: the full size alone, or every scale."""
        return translated if self._translate.critic_scales == "all" else translated[-1:]

    def _logits(self, pictures: tuple[Tensor, ...] | list[Tensor]) -> Tensor:
        """Returns the critic's logits (B, N) of pictures at one or several scales, the patches of all side by side."""
        return torch.cat([self._critic(picture).flatten(1) for picture in pictures], dim=1)


@dataclass(frozen=True)
class ChainValidator(Validator):
    """Judges a translator by what the deblurring network makes of its translations of held-out pictures."""

    job: Job
    stages: Callable[[nn.Module], tuple[SingleModel, ...]]

    def __call__(self, network: nn.Module, step: int) -> Validation | None:
        """Returns the figures of the chain; `psnr_in` are those of the deblurring network by itself."""
        before, after = self._before, self._scores(self.stages(network))
        gains = [b - a for a, b in zip(before, after, strict=True)]
        worse = sum(gain < -HARM_DB for gain in gains)
        return Validation(step, mean(before), mean(after), min(gains), worse, len(gains))

    @functools.cached_property
    def _before(self) -> list[float]:
        return self._scores((self.job.model,))

    def _scores(self, stages: Sequence[SingleModel]) -> list[float]:
        cache = PictureCache(self.job.folder / "pictures", "held-out")
        numbers = thinned(cache.numbers(), JUDGED_PICTURES)
        return [score(cache.get(number), stages, self.job.device) for number in numbers]


def table_6(job: Job, batch_at: Callable[[int], Batch], state: TrainState) -> tuple[tuple[str, float, float], ...]:
    """Returns which share of shots passes for known blur, before and after the translator, by two judges: percents."""
    assert state.adversary is not None
    translate = job.settings.translate
    blurry = store_of(job.shots.blurry, translate.crop_px, job.device.torch_device, "blurry")
    found = check_converter(
        copy.deepcopy(state.averaged).eval(),
        state.adversary.network,
        lambda step: batch_at(step).truth,
        blurry,
        crop_px=translate.crop_px,
        seed=job.settings.seed,
    )
    return (
        ("% of shots that the critic takes for known blur", 100 * found.critic_input, 100 * found.critic_translated),
        ("% that a classifier does", 100 * found.classifier_input, 100 * found.classifier_translated),
    )


def begin_as_identity(network: nn.Module) -> None:
    """Makes the network return its input: what its last layers add to it becomes zero."""
    for name, parameter in network.named_parameters():
        if name.startswith(LAYERS_THAT_PREDICT):
            nn.init.zeros_(parameter)


def paper_rate(share: float, settings: TranslateSettings) -> float:
    """Returns the rate where `share` of the budget is spent: constant for the first half, then linearly to zero."""
    begin = settings.constant_share
    if share <= begin:
        return settings.rate
    return settings.rate * max(0.0, (1 - share) / (1 - begin))


def batch_share(share: float, settings: TranslateSettings) -> float:
    """Returns how much of a batch is learned from where `share` of the budget is spent.

    Half for the first 200 thousand of a million steps, then more and more; the paper does not say until when: until the
    rate begins to fall. 1 without a curriculum.
    """
    if not settings.curriculum:
        return 1.0
    begin, end = settings.curriculum_grows
    if share <= begin:
        return settings.curriculum_start
    if share >= end:
        return 1.0
    return settings.curriculum_start + (1 - settings.curriculum_start) * (share - begin) / (end - begin)


def laplacian_variance(pictures: Tensor) -> Tensor:
    """Returns the variance (B,) of the Laplacian of pictures' brightness, low where blurry; (B, 3, H, W) in [0, 1]."""
    grey = (pictures * pictures.new_tensor((0.299, 0.587, 0.114)).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)
    kernel = pictures.new_tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]).view(1, 1, 3, 3)
    return F.conv2d(grey, kernel).flatten(1).var(dim=1, unbiased=False)


def mildest(pictures: Tensor, share: float) -> Tensor:
    """Returns the indices of the `share` of a batch (at least one picture) that is blurred least, mildest first.

    The paper sorts by blur and begins with half; that it is the mild half is how a curriculum is meant.
    """
    count = max(1, math.ceil(share * len(pictures) - 1e-9))
    return torch.argsort(laplacian_variance(pictures), descending=True, stable=True)[:count]


def jittered(pictures: Tensor, strength: float, draw: random.Random) -> Tensor:
    """Returns pictures (B, 3, H, W) in [0, 1], each a little brighter, more contrasty and more colourful, or less.

    Each of the three factors is drawn from 1 ± `strength`, once a picture.
    """
    if not strength:
        return pictures
    factors = [[draw.uniform(1 - strength, 1 + strength) for _ in range(3)] for _ in range(len(pictures))]
    light, contrast, colour = (pictures.new_tensor(column).view(-1, 1, 1, 1) for column in zip(*factors, strict=True))
    brighter = pictures * light
    mean = brighter.mean(dim=(1, 2, 3), keepdim=True)
    contrasted = mean + contrast * (brighter - mean)
    grey = contrasted.mean(dim=1, keepdim=True)
    return (grey + colour * (contrasted - grey)).clamp(0, 1)
