"""Batches for training and a held-out set for choosing checkpoints, from pairs on disk and from the virtual shutter."""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.datasets.draw import generator_for, seed_for, share_of
from deblur_cli.datasets.photos import Picture, size_of
from deblur_cli.datasets.readers import Dataset
from deblur_cli.datasets.video import Frame
from deblur_cli.errors import DatasetError
from deblur_cli.progress import Progress
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.makers import INPUTS, ChunkMaker, crop_px, finished, needs_shutter
from deblur_cli.training.ring import Chunk, Ring, RingPlan, Sample
from deblur_cli.training.tasks import Batch

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
        scenes = {pair.scene for pair in dataset.pairs} | {sequence.scene for sequence in dataset.sequences}
        names = sorted(scenes | {photo.stem for photo in dataset.photos}, key=share_of)
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
        sequences=tuple(sequence for sequence in dataset.sequences if sequence.scene in names),
    )


def large_enough(dataset: Dataset, config: TrainConfig, progress: Progress) -> Dataset:
    """Returns the dataset without pictures that a crop does not fit into; how many were left out is noted.

    A sequence that keeps a single picture is left out too. Raises DatasetError where none is large enough.
    """
    side = crop_px(config, with_shutter=needs_shutter(dataset))

    @functools.cache
    def file_fits(path: Path) -> bool:
        return min(size_of(path)) >= side

    def fits(picture: Picture) -> bool:
        # All frames of a clip have one size; sequences of files are as large as their first picture only by custom.
        return file_fits(picture.video if isinstance(picture, Frame) else picture)

    sequences = (replace(it, frames=tuple(frame for frame in it.frames if fits(frame))) for it in dataset.sequences)
    kept = replace(
        dataset,
        pairs=tuple(pair for pair in dataset.pairs if fits(pair.blurry)),
        photos=tuple(photo for photo in dataset.photos if fits(photo)),
        sequences=tuple(sequence for sequence in sequences if len(sequence.frames) > 1),
    )
    count, left = _pictures(dataset), _pictures(kept)
    if not left:
        raise DatasetError(
            f"{dataset.root}: none of {count} pictures has {side} pixels on its shorter side, as patches of "
            f"{config.data.patch_px} need. Choose a smaller --patch."
        )
    if left < count:
        small = count - left
        progress.note(f"{dataset.root}: {small} of {count} pictures are smaller than {side} pixels and left out.")
    return kept


def _pictures(dataset: Dataset) -> int:
    return len(dataset.pairs) + len(dataset.photos) + sum(len(sequence.frames) for sequence in dataset.sequences)


def sample_px(config: TrainConfig) -> int:
    """Returns the side of the ring's samples."""
    return config.data.patch_px + config.data.slack_px


def ring_plan(config: TrainConfig, device: torch.device) -> RingPlan:
    """Returns the ring's layout for a recipe on a kind of device."""
    data = config.data
    chunk = CHUNK_ON_CPU if device.type == "cpu" else CHUNK_ON_GPU
    chunks = max(1, -(-data.ring_pairs // chunk))
    first = min(chunks, max(1, -(-max(2 * data.batch, data.ring_pairs // 16) // chunk)))
    return RingPlan(chunk=chunk, chunks=chunks, first=first, batch=data.batch, reuse=data.reuse)


class SampleStream:
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
        decoded: Path | None = None,
    ) -> None:
        """Starts the ring at `start_step`; a resumed training makes again what was live there.

        `decoded` is a folder of decoded pictures, as `PhotoStore` takes it.
        """
        self._config = config
        self._device = device
        self._stream = f"rank {rank}"
        self._plan = ring_plan(config, device)
        made_of = functools.partial(
            ChunkMaker, datasets=datasets, config=config, plan=self._plan, stream=self._stream, decoded=decoded
        )
        self._ring = Ring(
            self._plan,
            sample_px(config),
            made_of,
            inputs=INPUTS[config.kind],
            device=device,
            workers=config.data.workers,
            start_step=start_step,
            progress=progress,
        )

    def __enter__(self) -> SampleStream:
        return self

    def __exit__(self, *_: object) -> None:
        self._ring.close()

    def batch(self, step: int) -> Batch:
        """Returns the batch of a step, on the device; steps must not fall. Raises DatasetError, PhotoError."""
        live = self._ring.advance(step)
        seed = (self._config.run.seed, self._stream, step)
        draw = random.Random(seed_for("batch", *seed))
        side = self._config.data.patch_px + JPEG_PHASE_PX
        samples = []
        for _ in range(self._config.data.batch):
            sample = self._ring.sample(draw.randrange(live.start, live.stop), draw.randrange(self._plan.chunk))
            y, x = (draw.randint(0, sample_px(self._config) - side) for _ in range(2))
            turn = draw.randrange(8)
            inputs, truth = (
                turned(picture[..., y : y + side, x : x + side], turn) for picture in (sample.inputs, sample.truth)
            )
            samples.append(replace(sample, inputs=inputs, truth=truth))
        y, x = (draw.randrange(JPEG_PHASE_PX) for _ in range(2))
        batch = self._finished(samples, generator_for(self._device, "finish", *seed))
        patch = self._config.data.patch_px
        inside = (..., slice(y, y + patch), slice(x, x + patch))
        return Batch(tuple(picture[inside] for picture in batch.inputs), batch.truth[inside])

    def _finished(self, samples: list[Sample], generator: torch.Generator) -> Batch:
        """Returns the samples on the device, in [0, 1], with noise and JPEG on those that no camera finished."""
        inputs = _moved(torch.stack([sample.inputs for sample in samples]), self._device).float()
        truth = _moved(torch.stack([sample.truth for sample in samples]), self._device).float() / 255
        by_camera = [sample.finished for sample in samples]
        if not all(map(all, by_camera)):
            frames = torch.tensor([sample.frames for sample in samples], device=self._device)
            saved = finished(self._config, inputs, generator, frames)
            if any(map(any, by_camera)):
                keep = torch.tensor(by_camera, device=self._device)[..., None, None, None]
                saved = torch.where(keep, inputs, saved)
            inputs = saved
        return Batch(inputs.unbind(1), truth)


def held_out_batches(config: TrainConfig, datasets: tuple[Dataset, ...], device: torch.device) -> list[Batch]:
    """Returns the fixed patches that choose checkpoints, on the device: the same in every training with these settings.

    The shutter's full range of paths is used whatever the curriculum, so that figures of campaigns can be compared.
    The seed of the recipe has no part in it. Empty when nothing is held back.
    """
    if not datasets:
        return []
    fixed = replace(config, run=replace(config.run, seed=0), curriculum=replace(config.curriculum, steps=0))
    plan = replace(ring_plan(fixed, device), chunk=1)
    maker = ChunkMaker(device, datasets=datasets, config=fixed, plan=plan, stream="held out")
    made = [_held_out(config, maker.make(number), number, device) for number in range(config.data.held_out_patches)]
    groups = [made[first : first + config.data.batch] for first in range(0, len(made), config.data.batch)]
    return [
        Batch(
            tuple(torch.cat(pictures) for pictures in zip(*(batch.inputs for batch in group), strict=True)),
            torch.cat([batch.truth for batch in group]),
        )
        for group in groups
    ]


def _held_out(config: TrainConfig, chunk: Chunk, number: int, device: torch.device) -> Batch:
    """Returns the one sample of a chunk, finished, cut to a patch."""
    inside = (..., slice(config.data.patch_px), slice(config.data.patch_px))
    inputs = torch.stack([picture[inside] for picture in chunk.inputs], dim=1)
    if not all(chunk.finished):
        frames = torch.full((len(inputs),), chunk.frames, device=device)
        saved = finished(config, inputs, generator_for(device, "held out", number), frames)
        keep = torch.tensor(chunk.finished, device=device).view(1, -1, 1, 1, 1)
        inputs = torch.where(keep, inputs, saved)
    return Batch(inputs.unbind(1), chunk.truth[inside])


def turned(picture: Tensor, turn: int) -> Tensor:
    """Returns one of the eight flips and transpositions of pictures (..., s, s)."""
    if turn & 1:
        picture = picture.flip(-1)
    if turn & 2:
        picture = picture.flip(-2)
    return picture.transpose(-2, -1) if turn & 4 else picture


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Returns the tensor on the device without making the processor wait for the copy."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
