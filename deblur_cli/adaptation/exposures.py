"""The camera's sharp shots, blurred by the virtual shutter: what fine-tuning learns from."""

from __future__ import annotations

import random
from dataclasses import asdict, replace

import torch

from deblur_cli.adaptation.contract import AdaptSettings
from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.catalogue.recognise import Recognised
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.settings import Range, ShutterSettings
from deblur_cli.training.config import DataConfig, NetworkConfig, OptimiserConfig, RunConfig, TrainConfig
from deblur_cli.training.makers import crop_px
from deblur_cli.training.ring import Chunk

LEAST_CROP_PX, SLACK_PX = 32, 16
RING_PAIRS, RING_PAIRS_GPU = 384, 4096
REUSE = 4
"""A pair serves four times, with other crops, noise and JPEG: it costs a quarter of a step's time to make."""


def recipe_for(
    settings: AdaptSettings,
    network: Recognised,
    multiple: int,
    shutter: ShutterSettings,
    *,
    room_px: int,
    on_gpu: bool = False,
) -> TrainConfig:
    """Returns the recipe by which the deblurring network is trained on.

    Its crops are a `multiple` of pixels, and no larger than what `room_px` of a shot leave once it was blurred.
    """
    finetune = settings.finetune
    held = max(-(-LEAST_CROP_PX // multiple), (room_px - 2 * shutter.margin_px - SLACK_PX) // multiple)
    return TrainConfig(
        network=NetworkConfig(network.architecture.name, asdict(network.config)),
        data=DataConfig(
            patch_px=min(-(-finetune.crop_px // multiple), held) * multiple,
            batch=finetune.batch,
            slack_px=SLACK_PX,
            ring_pairs=RING_PAIRS_GPU if on_gpu else RING_PAIRS,
            reuse=REUSE,
            workers=0,
            scale=finetune.scale,
            leave_sharp=True,
        ),
        shutter=shutter,
        optimiser=OptimiserConfig(
            name="adamw",
            rate=finetune.rate,
            final_rate=finetune.final_rate,
            warmup_share=finetune.warmup_share,
            betas=(0.9, 0.95),
            ema_decay=finetune.average,
        ),
        loss=finetune.loss,
        run=RunConfig(steps=settings.steps, minutes=settings.minutes, seed=settings.seed),
    )


def shutter_crop_px(config: TrainConfig) -> int:
    """Returns the side of what is cut from a sharp shot: a sample, and the shutter's margin."""
    return crop_px(config, with_shutter=True)


class ExposureMaker:
    """Makes chunks of pairs from sharp shots; chunk n is the same whoever makes it.

    `others`: share of the chunks whose paths are another range's than the recipe's, and that range.
    """

    def __init__(
        self,
        sharp: FrameStore,
        config: TrainConfig,
        chunk: int,
        stream: str,
        device: torch.device,
        others: tuple[float, Range] | None = None,
    ) -> None:
        self._sharp, self._config, self._chunk = sharp, config, chunk
        self._stream, self._device, self._others = stream, device, others

    def make(self, number: int) -> Chunk:
        """Returns chunk `number`."""
        seed = (self._config.run.seed, self._stream, number)
        draw = random.Random(seed_for("exposures", *seed))
        side, scale = shutter_crop_px(self._config), self._config.data.scale
        squares = [self._sharp.crop(draw.randrange(len(self._sharp)), side, draw, scale) for _ in range(self._chunk)]
        generator = generator_for(self._device, "exposures", *seed)
        made = make_pairs(torch.stack(squares), self._shutter(number), generator)
        return Chunk((made.blurry,), made.sharp, (False,), at_rest=made.path_px == 0)

    def _shutter(self, number: int) -> ShutterSettings:
        shutter = self._config.shutter
        draw = random.Random(seed_for("other paths", self._config.run.seed, self._stream, number))
        if self._others is None or draw.random() >= self._others[0]:
            return shutter
        return replace(shutter, path_px=self._others[1])
