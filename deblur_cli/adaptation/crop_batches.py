"""What any deblurring network learns from a camera: crops of its sharp shots under the fitted shutter."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence

import torch

from deblur_cli.adaptation.contract import AdaptSettings
from deblur_cli.adaptation.exposures import ExposureMaker
from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.adaptation.matched import MatchedPair, crop_matched
from deblur_cli.datasets.draw import seed_for
from deblur_cli.progress import Progress
from deblur_cli.shutter.settings import Range, ShutterSettings
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import SampleStream, ring_plan
from deblur_cli.training.ring import ChunkMaker
from deblur_cli.training.tasks import Batch


class CropBatches:
    """Batches of crops; batch n follows from seed, rank and n alone, and steps must not fall.

    `matched` pairs take the place of a share of the samples.
    """

    def __init__(
        self,
        sharp: FrameStore,
        config: TrainConfig,
        matched: tuple[Sequence[MatchedPair], float],
        settings: AdaptSettings,
        device: torch.device,
        rank: int,
        progress: Progress,
    ) -> None:
        """Exposes nothing yet."""
        self._sharp, self._config, self._settings, self._device = sharp, config, settings, device
        self._matched, self._matched_share = matched
        self._rank, self._progress = rank, progress
        self._stream: SampleStream | None = None

    def begin(self, *, first: bool) -> bool:
        """Returns True: nothing comes before a step."""
        return True

    def batch(self, number: int) -> Batch:
        """Returns the crops of a step."""
        stream = self._stream or self._open(number)
        return self._with_matched(stream.batch(number), number)

    def close(self) -> None:
        """Ends the stream of exposures."""
        if self._stream is not None:
            self._stream.__exit__()

    def _open(self, step: int) -> SampleStream:
        finetune = self._settings.finetune
        others = (finetune.unfitted_share, ShutterSettings().path_px) if finetune.fit else None
        factory = functools.partial(_maker, self._sharp, self._config, f"rank {self._rank}", others)
        self._stream = SampleStream(
            self._config,
            (),
            self._device,
            rank=self._rank,
            start_step=step,
            progress=self._progress,
            factory=factory,
        )
        return self._stream

    def _with_matched(self, batch: Batch, number: int) -> Batch:
        """Returns the batch with about the matched shots' share of its samples exchanged for them."""
        if not self._matched_share:
            return batch
        draw = random.Random(seed_for("matched", self._config.run.seed, self._rank, number))
        inputs, truth = batch.inputs[0].clone(), batch.truth.clone()
        for index in range(len(batch)):
            if draw.random() < self._matched_share:
                taken = crop_matched(self._matched, self._config.data.patch_px, draw)
                if taken is not None:
                    inputs[index], truth[index] = (picture.to(inputs.device) for picture in taken)
        return Batch((inputs,), truth)


def _maker(
    sharp: FrameStore, config: TrainConfig, stream: str, others: tuple[float, Range] | None, device: torch.device
) -> ChunkMaker:
    return ExposureMaker(sharp, config, ring_plan(config, device).chunk, stream, device, others)
