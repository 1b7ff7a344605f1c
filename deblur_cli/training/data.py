"""Batches for training and a held-out set for choosing checkpoints, from pairs on disk and from the virtual shutter."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.errors import DatasetError
from deblur_cli.imaging.read import read_size
from deblur_cli.progress import Progress
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.draw import generator_for, seed_for, share_of
from deblur_cli.training.photos import PhotoStore
from deblur_cli.training.readers import Dataset, Pair
from deblur_cli.training.ring import Chunk, Ring, RingPlan
from deblur_cli.training.tasks import PairBatch

JPEG_PHASE_PX = 16
"""Pictures are finished this much larger and then cut at a random place: JPEG's blocks must not always start at the
patch's corner, or the network learns where they are."""
CHUNK_ON_CPU, CHUNK_ON_GPU = 1, 32
"""Pairs that go through the shutter together. All of them take as many sub-frames as their longest path, so a processor
makes them one by one (52 ms a pair of 224², against 86 in fours); many fill a GPU."""


@dataclass(frozen=True)
class HeldOut:
    """What is trained on, and what is held back."""

    train: tuple[Dataset, ...]
    held_out: tuple[Dataset, ...]


def hold_back(datasets: Sequence[Dataset], share: float) -> HeldOut:
    """Returns the datasets with about `share` of their photos, or of their scenes, held back.

    The choice follows from the names alone, so it is the same in every training, whatever else is in the folder. A
    folder of at least two photos or scenes gives at least one to each side; with `share` 0 nothing is held back.
    """
    train, held = [], []
    for dataset in datasets:
        names = sorted({pair.scene for pair in dataset.pairs} | {photo.stem for photo in dataset.photos}, key=share_of)
        count = sum(share_of(name) < share for name in names)
        if share > 0:
            count = min(max(count, 1), len(names) - 1)
        kept_back = frozenset(names[:count])
        train.append(_keep(dataset, frozenset(names[count:])))
        if kept_back:
            held.append(_keep(dataset, kept_back))
    return HeldOut(tuple(train), tuple(held))


def _keep(dataset: Dataset, names: frozenset[str]) -> Dataset:
    return replace(
        dataset,
        pairs=tuple(pair for pair in dataset.pairs if pair.scene in names),
        photos=tuple(photo for photo in dataset.photos if photo.stem in names),
    )


def large_enough(dataset: Dataset, config: TrainConfig, progress: Progress) -> Dataset:
    """Returns the dataset without pictures that a crop does not fit into; how many were left out is noted.

    Raises DatasetError where none is large enough.
    """
    side = crop_px(config, dataset)

    def fits(path: Path) -> bool:
        height, width = read_size(path)
        return min(height, width) >= side

    kept = replace(
        dataset,
        pairs=tuple(pair for pair in dataset.pairs if fits(pair.blurry)),
        photos=tuple(photo for photo in dataset.photos if fits(photo)),
    )
    count = len(dataset.pairs) + len(dataset.photos)
    left_out = count - len(kept.pairs) - len(kept.photos)
    if left_out == count:
        raise DatasetError(
            f"{dataset.root}: none of {count} pictures has {side} pixels on its shorter side, as patches of "
            f"{config.data.patch_px} need. Choose a smaller --patch."
        )
    if left_out:
        progress.note(f"{dataset.root}: {left_out} of {count} pictures are smaller than {side} pixels and left out.")
    return kept


def crop_px(config: TrainConfig, dataset: Dataset) -> int:
    """Returns the side of what is cut from a picture: the ring's pairs, plus the shutter's margin for photographs."""
    margin = 2 * config.shutter.margin_px if dataset.photos else 0
    return pair_px(config) + margin


def pair_px(config: TrainConfig) -> int:
    """Returns the side of the ring's pairs."""
    return config.data.patch_px + config.data.slack_px


def ring_plan(config: TrainConfig, device: torch.device) -> RingPlan:
    """Returns the ring's layout for a recipe on a kind of device."""
    data = config.data
    chunk = CHUNK_ON_CPU if device.type == "cpu" else CHUNK_ON_GPU
    chunks = max(1, -(-data.ring_pairs // chunk))
    first = min(chunks, max(1, -(-max(2 * data.batch, data.ring_pairs // 16) // chunk)))
    return RingPlan(chunk=chunk, chunks=chunks, first=first, batch=data.batch, reuse=data.reuse)


class ChunkMaker:
    """Makes chunks of pairs, in turn from each dataset; chunk n is the same whoever makes it."""

    def __init__(
        self, device: torch.device, *, datasets: tuple[Dataset, ...], config: TrainConfig, plan: RingPlan, stream: str
    ) -> None:
        """Opens nothing yet; `stream` names the sequence of draws (a rank of a training, or the held-out set)."""
        self._device = device
        self._datasets = datasets
        self._config = config
        self._plan = plan
        self._stream = stream
        self._store = PhotoStore(device, config.data.photo_memory_mb * 10**6)

    def make(self, number: int) -> Chunk:
        """Returns chunk `number`: from photographs by the shutter, from pairs by cutting. Raises PhotoError."""
        dataset = self._datasets[number % len(self._datasets)]
        seed = (self._config.run.seed, self._stream, number)
        draw = random.Random(seed_for("chunk", *seed))
        if dataset.photos:
            side = crop_px(self._config, dataset)
            crops = torch.stack([self._crop(draw.choice(dataset.photos), side, draw) for _ in range(self._plan.chunk)])
            settings = self._config.shutter_at(self._plan.first_step_of(number))
            exposed = make_pairs(crops, settings, generator_for(self._device, "shutter", *seed))
            return Chunk(exposed.blurry, exposed.sharp, finished=False)
        pairs = [self._cut(draw.choice(dataset.pairs), draw) for _ in range(self._plan.chunk)]
        blurry, sharp = (torch.stack(pictures) for pictures in zip(*pairs, strict=True))
        return Chunk(blurry / 255, sharp / 255, finished=True)

    def _crop(self, path: Path, side: int, draw: random.Random) -> Tensor:
        """Returns a random square of a photograph, (3, side, side) float32 in [0, 1], shrunken by a random scale."""
        photo = self._store.get(path)
        height, width = photo.shape[1:]
        low, high = self._config.data.scale
        scale = max(draw.uniform(low, high), side / min(height, width))
        cut = min(round(side / scale), height, width)
        y, x = draw.randint(0, height - cut), draw.randint(0, width - cut)
        crop = photo[:, y : y + cut, x : x + cut].float() / 255
        if cut == side:
            return crop
        resized = F.interpolate(crop[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        return resized[0]

    def _cut(self, pair: Pair, draw: random.Random) -> tuple[Tensor, Tensor]:
        """Returns the same random square of both pictures, (3, s, s) uint8. Raises DatasetError where sizes differ."""
        blurry, sharp = self._store.get(pair.blurry), self._store.get(pair.sharp)
        if blurry.shape != sharp.shape:
            raise DatasetError(
                f"{pair.blurry} is {blurry.shape[2]}×{blurry.shape[1]}, but {pair.sharp} is "
                f"{sharp.shape[2]}×{sharp.shape[1]}. Pairs must have one size: remove this one."
            )
        side = pair_px(self._config)
        y, x = draw.randint(0, blurry.shape[1] - side), draw.randint(0, blurry.shape[2] - side)
        inside = (slice(None), slice(y, y + side), slice(x, x + side))
        return blurry[inside], sharp[inside]


class PairStream:
    """Batches of one rank of a training; batch n follows from the seed and n alone. A context manager."""

    def __init__(
        self,
        config: TrainConfig,
        datasets: tuple[Dataset, ...],
        device: torch.device,
        *,
        rank: int,
        start_step: int,
        progress: Progress,
    ) -> None:
        """Starts the ring at `start_step`; a resumed training makes again what was live there."""
        self._config = config
        self._device = device
        self._stream = f"rank {rank}"
        self._plan = ring_plan(config, device)
        factory = functools.partial(ChunkMaker, datasets=datasets, config=config, plan=self._plan, stream=self._stream)
        self._ring = Ring(
            self._plan,
            pair_px(config),
            factory,
            device=device,
            workers=config.data.workers,
            start_step=start_step,
            progress=progress,
        )

    def __enter__(self) -> PairStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._ring.close()

    def batch(self, step: int) -> PairBatch:
        """Returns the batch of a step, on the device; steps must not fall. Raises DatasetError, PhotoError."""
        live = self._ring.advance(step)
        seed = (self._config.run.seed, self._stream, step)
        draw = random.Random(seed_for("batch", *seed))
        side = self._config.data.patch_px + JPEG_PHASE_PX
        blurry, sharp, finished = [], [], []
        for _ in range(self._config.data.batch):
            pair = self._ring.pair(draw.randrange(live.start, live.stop), draw.randrange(self._plan.chunk))
            y, x = (draw.randint(0, pair_px(self._config) - side) for _ in range(2))
            turn = draw.randrange(8)
            blurry.append(_turned(pair[0][:, y : y + side, x : x + side], turn))
            sharp.append(_turned(pair[1][:, y : y + side, x : x + side], turn))
            finished.append(pair[2])
        y, x = (draw.randrange(JPEG_PHASE_PX) for _ in range(2))
        generator = generator_for(self._device, "finish", *seed)
        batch = self._finished(torch.stack(blurry), torch.stack(sharp), finished, generator)
        patch = self._config.data.patch_px
        inside = (..., slice(y, y + patch), slice(x, x + patch))
        return PairBatch(batch.blurry[inside], batch.sharp[inside])

    def _finished(self, blurry: Tensor, sharp: Tensor, finished: list[bool], generator: torch.Generator) -> PairBatch:
        """Returns the pairs on the device, in [0, 1], with noise and JPEG on those that no camera finished."""
        pictures = _moved(blurry, self._device).float()
        truth = _moved(sharp, self._device).float() / 255
        if not all(finished):
            saved = finish(pictures, self._config.shutter, generator)
            if any(finished):
                by_camera = torch.tensor(finished, device=self._device).view(-1, 1, 1, 1)
                saved = torch.where(by_camera, pictures, saved)
            pictures = saved
        return PairBatch(pictures, truth)


def held_out_batches(config: TrainConfig, datasets: tuple[Dataset, ...], device: torch.device) -> list[PairBatch]:
    """Returns the fixed patches that choose checkpoints, on the device: the same in every training with these settings.

    The shutter's full range of paths is used whatever the curriculum, so that figures of campaigns can be compared.
    The seed of the recipe has no part in it. Empty when nothing is held back.
    """
    if not datasets:
        return []
    fixed = replace(config, run=replace(config.run, seed=0), curriculum=replace(config.curriculum, steps=0))
    plan = replace(ring_plan(fixed, device), chunk=1)
    maker = ChunkMaker(device, datasets=datasets, config=fixed, plan=plan, stream="held out")
    inside = (..., slice(config.data.patch_px), slice(config.data.patch_px))
    made = []
    for number in range(config.data.held_out_patches):
        chunk = maker.make(number)
        blurry = chunk.blurry[inside]
        if not chunk.finished:
            blurry = finish(blurry, config.shutter, generator_for(device, "held out", number))
        made.append(PairBatch(blurry, chunk.sharp[inside]))
    groups = [made[first : first + config.data.batch] for first in range(0, len(made), config.data.batch)]
    return [
        PairBatch(torch.cat([pair.blurry for pair in group]), torch.cat([pair.sharp for pair in group]))
        for group in groups
    ]


def _turned(picture: Tensor, turn: int) -> Tensor:
    """Returns one of the eight flips and transpositions of a (3, s, s) picture."""
    if turn & 1:
        picture = picture.flip(2)
    if turn & 2:
        picture = picture.flip(1)
    return picture.transpose(1, 2) if turn & 4 else picture


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on the device without making the processor wait for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
