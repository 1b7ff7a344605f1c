"""Where a training's batches come from: the ring of patches, or windows of whole pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from deblur_cli.datasets.photos import keep_decoded
from deblur_cli.datasets.readers import Dataset, Layout, read_dataset
from deblur_cli.datasets.video import Frame
from deblur_cli.errors import ConfigurationError, DatasetError
from deblur_cli.networks.contract import InputKind
from deblur_cli.progress import Progress
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import HeldOut, SampleStream, held_out_batches, hold_back, large_enough
from deblur_cli.training.fill import Filling, fill
from deblur_cli.training.loop import Setting
from deblur_cli.training.picture_maker import PictureMaker, settings_digest
from deblur_cli.training.start import Start
from deblur_cli.training.tasks import Batch
from deblur_cli.training.whole_pictures import PARTS, Part, PictureCache, WindowStream, held_out_windows, source_name

BatchAt = Callable[[int], Batch]
DECODED = "decoded"
"""Where decoded pictures are kept, within --cache."""


@dataclass(frozen=True)
class Source:
    """Fixed held-out batches, and a way to open the stream of those to train on at a step.

    `selects`: the batches are windows with what a network's selector sees of their pictures.
    """

    held_out: Sequence[Batch]
    open: Callable[[int], AbstractContextManager[BatchAt]]
    selects: bool = False


def read_pictures(roots: Sequence[Path], layout: Layout | None, config: TrainConfig, progress: Progress) -> HeldOut:
    """Returns what is trained on and what is held back, without pictures that are too small. Raises DatasetError."""
    related = config.kind is InputKind.REFERENCE
    found = (read_dataset(root, layout, related=related) for root in roots)
    return hold_back([large_enough(dataset, config, progress) for dataset in found], config.data.held_out)


def with_pictures(config: TrainConfig, count: int | None, cache: Path) -> TrainConfig:
    """Returns the recipe with so many whole pictures; 0 stands for those that lie in the folder already.

    Raises ConfigurationError where there are none yet.
    """
    if count is None:
        return config
    there = count or PictureCache(cache, "train").complete(config.pictures.candidates)
    if not there:
        what = " with ".join(filter(None, ("whole pictures", ", ".join(config.pictures.candidates))))
        raise ConfigurationError(f"{cache} holds no {what} yet. Give --pictures a number to make some.")
    return replace(config, pictures=replace(config.pictures, count=there))


def make_missing(
    config: TrainConfig, pictures: HeldOut, folder: Path, progress: Progress, stop: Callable[[], bool]
) -> bool:
    """Makes the whole pictures that a folder lacks, those to judge by first; returns False once `stop` says so.

    Raises PhotoError, DatasetError, CannotWriteError.
    """
    wanted: Mapping[Part, tuple[int, tuple[Dataset, ...]]]
    wanted = {
        "held-out": (config.pictures.held_out, pictures.held_out),
        "train": (config.pictures.count, pictures.train),
    }
    return all(
        fill(Filling(folder, part, count, partial(PictureMaker, datasets, config, part), config), progress, stop=stop)
        for part, (count, datasets) in wanted.items()
    )


def open_source(
    setting: Setting, pictures: HeldOut, cache: Path, begun: Start, progress: Progress, stop: Callable[[], bool]
) -> Source | None:
    """Returns where the batches of a training come from; None once `stop` says so while pictures are made.

    Raises PhotoError, DatasetError, CannotWriteError.
    """
    config = setting.config
    if not config.pictures.count:
        return _ring(setting, pictures, begun, cache / DECODED, progress)
    if not make_missing(config, pictures, cache, progress, stop):
        return None
    check_made(cache, config, pictures, progress)
    return _windows(setting, cache, begun)


def check_made(cache: Path, config: TrainConfig, pictures: HeldOut, progress: Progress) -> None:
    """Returns if no picture to train on was made of what is held back now; notes those that other settings made.

    Raises DatasetError.
    """
    counts = {"train": config.pictures.count, "held-out": config.pictures.held_out}
    facts = {part: [PictureCache(cache, part).facts(number) for number in range(counts[part])] for part in PARTS}
    made = settings_digest(config)
    others = sum(it.get("settings", made) != made for part in PARTS for it in facts[part])
    if others:
        progress.note(
            f"{cache}: {others} of {sum(counts.values())} pictures were made with other settings of pictures, shutter "
            "or data.scale than the recipe's, and are used as they are. Another --cache makes new ones."
        )
    seen = {part: {it.get("source") for it in facts[part]} for part in PARTS}
    kept_back = {source_name(photo) for dataset in pictures.held_out for photo in dataset.photos}
    frames = (f for dataset in pictures.held_out for sequence in dataset.sequences for f in sequence.frames)
    kept_back |= {source_name(frame.video) for frame in frames if isinstance(frame, Frame)}
    both = sorted(str(name) for name in seen["train"] & (seen["held-out"] | kept_back))
    if both:
        raise DatasetError(
            f"{cache}: pictures to train on were made of what is held back now ({', '.join(both[:3])}). Name the same "
            "--data as when they were made, or choose another --cache."
        )


def _windows(setting: Setting, cache: Path, begun: Start) -> Source:
    selects, ordered = hasattr(begun.network, "selector"), _order(begun)
    train_on, judged = (PictureCache(cache, part) for part in PARTS)

    @contextmanager
    def opened(step: int) -> Iterator[BatchAt]:
        stream = WindowStream(train_on, setting.config, setting.device, rank=setting.world.rank, selects=selects)
        yield lambda number: ordered(stream.batch(number))

    held_out = held_out_windows(judged, setting.config, setting.device, selects=selects)
    return Source([ordered(batch) for batch in held_out], opened, selects)


def _order(begun: Start) -> Callable[[Batch], Batch]:
    """Returns what brings a batch into the order of channels that the engine will run the network with."""
    bgr = begun.architecture.default_traits(begun.settings).bgr
    return Batch.as_bgr if bgr else lambda batch: batch


def _ring(setting: Setting, pictures: HeldOut, begun: Start, folder: Path, progress: Progress) -> Source:
    decoded = folder if setting.config.data.keep_decoded and _all_decoded(setting, pictures, folder, progress) else None
    ordered = _order(begun)

    @contextmanager
    def opened(step: int) -> Iterator[BatchAt]:
        stream = SampleStream(
            setting.config,
            pictures.train,
            setting.device,
            rank=setting.world.rank,
            start_step=step,
            progress=progress,
            decoded=decoded,
        )
        with stream:
            yield lambda number: ordered(stream.batch(number))

    held_out = held_out_batches(setting.config, pictures.held_out, setting.device)
    return Source([ordered(batch) for batch in held_out], opened)


def _all_decoded(setting: Setting, pictures: HeldOut, folder: Path, progress: Progress) -> bool:
    """Decodes this process's share of the pictures that are trained on; returns whether it holds them all."""
    every = [picture for dataset in pictures.train for picture in dataset.every_picture]
    kept = keep_decoded(every[setting.world.rank :: setting.world.size], folder, progress)
    setting.world.wait()
    return kept
