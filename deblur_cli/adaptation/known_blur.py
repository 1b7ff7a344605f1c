"""The known-blur set: the camera's own sharp shots under blur that the deblurring network knows.

Section 3.3 of Pham et al., Blur2Blur (2024): blurred shots of the same camera, so that a critic can tell them from the
camera's blurry ones by nothing but blur. The blur is the virtual shutter's, by which the bundled networks learned, or
taken from the pairs of a dataset (`kernel_extractor`). Noise is as strong as in the camera's blurry shots, since blur
averages the sharp shots' own away.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping

import torch
from torch import Tensor

from deblur_cli.adaptation.contract import AdaptSettings, Shots
from deblur_cli.adaptation.exposures import ExposureMaker, shutter_crop_px
from deblur_cli.adaptation.fit_shutter import MEASURED_SHOTS, with_noise_of
from deblur_cli.adaptation.frames import FrameStore, store_of, thinned
from deblur_cli.adaptation.kernel_extractor import (
    KERNEL_PX,
    KernelExtractor,
    PairSquares,
    blur_by,
    train_extractor,
)
from deblur_cli.datasets.draw import seed_for
from deblur_cli.datasets.readers import read_pairs
from deblur_cli.progress import Progress
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import DataConfig, RunConfig, TrainConfig
from deblur_cli.training.data import SampleStream, ring_plan
from deblur_cli.training.distributed import World
from deblur_cli.training.ring import Chunk, ChunkMaker

SLACK_PX = 32
RING_PAIRS, RING_PAIRS_GPU, REUSE = 192, 4096, 4


class KnownBlur:
    """Batches of known-blur squares; batch n follows from seed and n alone."""

    def __init__(
        self, shots: Shots, settings: AdaptSettings, device: torch.device, world: World, progress: Progress
    ) -> None:
        """Reads the pairs where the blur is taken from some. Raises DatasetError."""
        self._settings, self._device, self._world, self._progress = settings, device, world, progress
        self._config = _config(shots, settings, progress, on_gpu=device.type == "cuda")
        self.sharp = store_of(shots.sharp, shutter_crop_px(self._config), device, "sharp")
        folder = settings.known_blur
        self._squares = None if folder is None else PairSquares(read_pairs(folder), device)
        self._extractor: KernelExtractor | None = None
        self._stream: SampleStream | None = None
        self.told = "the virtual shutter's" if folder is None else f"taken from the pairs in {folder.name}"

    def batch(self, step: int) -> Tensor:
        """Returns known-blur squares (B, 3, s, s) in [0, 1] for a step; steps must not fall."""
        if self._stream is None:
            self._stream = self._open(step)
        return self._stream.batch(step).inputs[0]

    def to_record(self) -> Mapping[str, Tensor]:
        """Returns the extractor's weights; nothing where there is none."""
        return {} if self._extractor is None else self._extractor.state_dict()

    def restore(self, record: Mapping[str, Tensor]) -> None:
        """Takes the extractor from a record, so that it isn't trained again."""
        if record:
            extractor = KernelExtractor()
            extractor.load_state_dict(dict(record))
            self._extractor = extractor.to(self._device).requires_grad_(False).eval()

    def close(self) -> None:
        """Ends the stream."""
        if self._stream is not None:
            self._stream.__exit__()

    def _open(self, step: int) -> SampleStream:
        stream = f"known, rank {self._world.rank}"
        if self._squares is not None and self._extractor is None:
            self._extractor = train_extractor(self._squares, self._settings.seed, self._device)
        factory = functools.partial(self._maker, stream)
        return SampleStream(
            self._config,
            (),
            self._device,
            rank=self._world.rank,
            start_step=step,
            progress=self._progress,
            factory=factory,
        )

    def _maker(self, stream: str, device: torch.device) -> ChunkMaker:
        chunk = ring_plan(self._config, device).chunk
        if self._squares is None or self._extractor is None:
            return ExposureMaker(self.sharp, self._config, chunk, stream, device)
        return TransferMaker(self.sharp, self._squares, self._extractor, self._config, chunk, stream)


class TransferMaker:
    """Makes chunks of sharp shots under the blur of other pairs; chunk n is the same whoever makes it."""

    def __init__(
        self,
        sharp: FrameStore,
        squares: PairSquares,
        extractor: KernelExtractor,
        config: TrainConfig,
        chunk: int,
        stream: str,
    ) -> None:
        self._sharp, self._squares, self._extractor = sharp, squares, extractor
        self._config, self._chunk, self._stream = config, chunk, stream

    @torch.no_grad()
    def make(self, number: int) -> Chunk:
        """Returns chunk `number`."""
        draw = random.Random(seed_for("transfer", self._config.run.seed, self._stream, number))
        edge = KERNEL_PX // 2
        side = self._config.data.patch_px + self._config.data.slack_px + 2 * edge
        pairs = [self._squares.draw(draw) for _ in range(self._chunk)]
        x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
        sharp = [self._sharp.crop(draw.randrange(len(self._sharp)), side, draw, self._config.data.scale) for _ in pairs]
        crops = torch.stack(sharp)
        blurry = blur_by(self._extractor(x, y), crops)
        return Chunk((blurry,), crops[..., edge:-edge, edge:-edge], (False,))


def _config(shots: Shots, settings: AdaptSettings, progress: Progress, *, on_gpu: bool) -> TrainConfig:
    """Returns what the stream of known blur is told: the shutter of the bundled networks, the camera's noise."""
    shutter, translate = ShutterSettings(), settings.translate
    small = min(min(frame.shape[:2]) for frame in shots.sharp)
    store = store_of(shots.sharp, min(small, 256), torch.device("cpu"), "sharp")
    shutter = with_noise_of(thinned(shots.blurry, MEASURED_SHOTS), store, shutter, settings.seed, progress)
    data = DataConfig(
        patch_px=translate.crop_px,
        batch=translate.batch,
        slack_px=SLACK_PX,
        ring_pairs=RING_PAIRS_GPU if on_gpu else RING_PAIRS,
        reuse=REUSE,
        workers=0,
    )
    return TrainConfig(data=data, shutter=shutter, run=RunConfig(steps=1, seed=settings.seed))
