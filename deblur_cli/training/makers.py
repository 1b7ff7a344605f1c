"""What fills the ring: samples from sharp photographs by the shutter, from pairs and high-rate frames by cutting."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.datasets.corresponding import place_of
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.datasets.photos import PhotoStore, Picture
from deblur_cli.datasets.readers import Dataset, Layout, Pair, Sequence
from deblur_cli.errors import DatasetError
from deblur_cli.networks.contract import InputKind
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.light import SRGB, to_display, to_light
from deblur_cli.shutter.low_light import finish_low_light, make_low_light_pairs
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.reference import make_references
from deblur_cli.shutter.settings import ReferenceSettings, ShutterSettings
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.ring import Chunk, RingPlan

INPUTS = {InputKind.SINGLE: 1, InputKind.REFERENCE: 2, InputKind.PAIR: 2}
"""How many pictures a network of each kind takes."""


def margin_px(config: TrainConfig) -> int:
    """Returns what the shutter cuts from every side of a crop."""
    if config.kind is InputKind.REFERENCE:
        return config.reference.margin_px
    return config.dark.margin_px if config.kind is InputKind.PAIR else config.shutter.margin_px


def exposed(
    config: TrainConfig,
    shutter: ShutterSettings,
    crops: Tensor,
    generator: torch.Generator,
    *,
    elsewhere: Tensor | None = None,
    in_place: bool = False,
) -> Chunk:
    """Returns samples from sharp crops (n, 3, L, L) in [0, 1]; the margin is cut off. Nothing is finished yet.

    `elsewhere` is what references show in place of the crops; `in_place`: without another hand position.
    """
    if config.kind is InputKind.REFERENCE:
        settings = _still(config.reference) if in_place else config.reference
        seen = make_references(crops, shutter, settings, generator, elsewhere=elsewhere)
        return Chunk((seen.blurry, seen.reference), seen.sharp, (False, False))
    if config.kind is InputKind.PAIR:
        dark = make_low_light_pairs(crops, shutter, config.dark, generator)
        return Chunk((dark.noisy, dark.blurry), dark.sharp, (False, False), frames=dark.frames)
    single = make_pairs(crops, shutter, generator)
    return Chunk((single.blurry,), single.sharp, (False,))


def _still(settings: ReferenceSettings) -> ReferenceSettings:
    return replace(settings, shift_px=(0.0, 0.0), rotation_deg=0.0, zoom=0.0, perspective=0.0)


def finished(config: TrainConfig, inputs: Tensor, generator: torch.Generator, frames: Tensor | None = None) -> Tensor:
    """Returns the inputs (B, N, 3, h, w) in [0, 1] with noise and JPEG of their own, drawn anew on every call.

    `frames` (B,) is how many frames a pair's long exposure is the mean of, as `dark_as_in_the_paper` takes it.
    """
    if config.kind is InputKind.PAIR:
        pair = finish_low_light(inputs[:, 0], inputs[:, 1], config.shutter, config.dark, generator, frames)
        return torch.stack(pair, dim=1)
    return torch.stack([finish(picture, config.shutter, generator) for picture in inputs.unbind(1)], dim=1)


@dataclass(frozen=True)
class Cut:
    """A square of a picture: its upper left corner and its side, in the picture's own pixels."""

    y: int
    x: int
    side: int


class ChunkMaker:
    """Makes chunks of samples, in turn from each dataset; chunk n is the same whoever makes it."""

    def __init__(
        self,
        device: torch.device,
        *,
        datasets: tuple[Dataset, ...],
        config: TrainConfig,
        plan: RingPlan,
        stream: str,
        decoded: Path | None = None,
    ) -> None:
        """Remembers what to draw from; `stream` (a rank, or the held-out set) keeps streams apart.

        `decoded` is a folder of decoded pictures, as `PhotoStore` takes it. Raises DatasetError for sequences that are
        too short.
        """
        self._device = device
        self._datasets = datasets
        self._config = config
        self._plan = plan
        self._stream = stream
        self._store = PhotoStore(device, config.data.photo_memory_mb * 10**6, decoded)
        self._few_frames = (config.dark if config.kind is InputKind.PAIR else config.shutter).few_frames
        for dataset in datasets:
            check_lengths(dataset, self._few_frames[1])
        self._scenes = tuple(_by_scene(dataset) for dataset in datasets)
        self._sharp = tuple(_sharp_pictures(dataset) for dataset in datasets)

    def make(self, number: int) -> Chunk:
        """Returns chunk `number`. Raises PhotoError, and DatasetError for pictures that do not belong together."""
        turn = number % len(self._datasets)
        dataset = self._datasets[turn]
        seed = (self._config.run.seed, self._stream, number)
        draw = random.Random(seed_for("chunk", *seed))
        if dataset.pairs:
            return self._from_pairs(dataset, self._scenes[turn], draw)
        if dataset.sequences and dataset.sequences[0].high_rate:
            return self._from_high_rate(dataset, draw)
        generator = generator_for(self._device, "shutter", *seed)
        shutter = self._config.shutter_at(self._plan.first_step_of(number))
        sharp = self._sharp[turn]
        if self._config.kind is not InputKind.REFERENCE:
            crops = torch.stack([self._crop(draw.choice(sharp), draw) for _ in self._each])
            return exposed(self._config, shutter, crops, generator)
        in_place = bool(dataset.sequences) and draw.random() < self._config.reference.identical_probability
        both = [self._with_elsewhere(dataset, sharp, in_place, draw) for _ in self._each]
        crops, elsewhere = (torch.stack(pictures) for pictures in zip(*both, strict=True))
        return exposed(self._config, shutter, crops, generator, elsewhere=elsewhere, in_place=in_place)

    @property
    def _each(self) -> range:
        return range(self._plan.chunk)

    def _crop(self, path: Picture, draw: random.Random) -> Tensor:
        """Returns a random square of a photograph, (3, side, side) float32 in [0, 1], shrunken by a random scale."""
        return self._cut_out(path, self._any_cut(path, draw))

    def _any_cut(self, path: Picture, draw: random.Random) -> Cut:
        height, width = self._store.get(path).shape[1:]
        return random_cut(height, width, crop_px(self._config, with_shutter=True), self._config.data.scale, draw)

    def _cut_out(self, path: Picture, cut: Cut) -> Tensor:
        return cut_out(self._store.get(path), cut, crop_px(self._config, with_shutter=True))

    def _with_elsewhere(
        self, dataset: Dataset, sharp: tuple[Picture, ...], in_place: bool, draw: random.Random
    ) -> tuple[Tensor, Tensor]:
        """Returns a crop, and what a reference to it shows: the crop itself, a neighbour's, or another scene."""
        settings = self._config.reference
        sequence = draw.choice(dataset.sequences) if dataset.sequences else None
        pictures = sharp if sequence is None else sequence.frames
        index = draw.randrange(len(pictures))
        cut = self._any_cut(pictures[index], draw)
        crop = self._cut_out(pictures[index], cut)
        if draw.random() < settings.other_scene_probability:
            return crop, self._crop(draw.choice(sharp), draw)
        if sequence is None:
            return crop, crop
        window = max(1, settings.window // sequence.spacing)
        other = pictures[neighbour(index, len(pictures), window, draw)]
        seen = self._store.get(other)
        there = _clamped(cut, seen)
        if there is None:
            return crop, crop
        if not in_place:
            # Further from the query than hands move: as the tile's own window of the reference is found in use.
            y, x = place_of(_inside(self._store.get(pictures[index]), cut), seen)
            there = Cut(y, x, cut.side)
        return crop, self._cut_out(other, there)

    def _from_pairs(self, dataset: Dataset, scenes: dict[str, list[Pair]], draw: random.Random) -> Chunk:
        samples = [self._cut_pair(draw.choice(dataset.pairs), dataset, scenes, draw) for _ in self._each]
        *inputs, truth = (torch.stack(pictures) / 255 for pictures in zip(*samples, strict=True))
        # The noisy frame of a pair is the truth until the shutter gives it its noise.
        finished = (False, True) if self._config.kind is InputKind.PAIR else (True,) * len(inputs)
        return Chunk(tuple(inputs), truth, finished)

    def _cut_pair(
        self, pair: Pair, dataset: Dataset, scenes: dict[str, list[Pair]], draw: random.Random
    ) -> tuple[Tensor, ...]:
        """Returns the same random square of all pictures of a sample, the truth last: (3, s, s) uint8 each."""
        blurry, sharp = self._store.get(pair.blurry), self._store.get(pair.sharp)
        check_one_size(pair, blurry, sharp)
        side = crop_px(self._config, with_shutter=False)
        cut = Cut(draw.randint(0, blurry.shape[1] - side), draw.randint(0, blurry.shape[2] - side), side)
        query, truth = _inside(blurry, cut), _inside(sharp, cut)
        if self._config.kind is InputKind.PAIR:
            return truth, query, truth
        if self._config.kind is InputKind.SINGLE:
            return query, truth
        reference = self._store.get(self._reference_of(pair, dataset, scenes[_scene_of(pair, dataset)], draw))
        return query, _inside(reference, self._displaced(cut, reference, draw)), truth

    def _reference_of(self, pair: Pair, dataset: Dataset, scene: list[Pair], draw: random.Random) -> Picture:
        """Returns a neighbour's sharp picture, or its blurry one, or one of another scene. Raises DatasetError."""
        settings = self._config.reference
        if draw.random() < settings.other_scene_probability:
            near = draw.choice(dataset.pairs)
        elif pair.reference is not None:
            return pair.reference
        elif len(scene) > 1:
            near = scene[neighbour(scene.index(pair), len(scene), settings.window, draw)]
        else:
            raise DatasetError(
                f"{dataset.root}: nothing else shows the scene of {pair.blurry.name}. References are taken from the "
                "same scene's pictures, or from a folder `ref` beside the pairs; else train on views, video or photos."
            )
        return near.blurry if draw.random() < settings.blurry_probability else near.sharp

    def _displaced(self, cut: Cut, reference: Tensor, draw: random.Random) -> Cut:
        """Returns the cut itself, as Zou et al. have it, or one displaced as hands are; inside the reference.

        Raises DatasetError for a reference that is too small.
        """
        settings = self._config.reference
        reach = 0
        if draw.random() >= settings.identical_probability:
            reach = round(settings.shift_px[1])
        moved = Cut(cut.y + draw.randint(-reach, reach), cut.x + draw.randint(-reach, reach), cut.side)
        inside = _clamped(moved, reference)
        if inside is None:
            raise DatasetError(f"A reference of {reference.shape[2]}×{reference.shape[1]} is smaller than a patch.")
        return inside

    def _from_high_rate(self, dataset: Dataset, draw: random.Random) -> Chunk:
        """Returns samples whose blur is the mean of frames that a camera took in rapid succession."""
        count = draw.randint(*self._few_frames)
        samples = [self._averaged(dataset, count, draw) for _ in self._each]
        *inputs, truth = (torch.stack(pictures) for pictures in zip(*samples, strict=True))
        return Chunk(tuple(inputs), truth, (False,) * len(inputs), frames=count)

    def _averaged(self, dataset: Dataset, count: int, draw: random.Random) -> tuple[Tensor, ...]:
        """Returns one sample's inputs and truth, (3, s, s) in [0, 1], all cut at one place, of `count` frames.

        For pairs as section III-C of Zhang et al. has it: the first frame is the truth, the second is left out, the
        third to the last are averaged. Otherwise the middle frame is the truth, as in GoPro.
        """
        sequence = draw.choice(dataset.sequences)
        is_pair = self._config.kind is InputKind.PAIR
        taken = count + 2 if is_pair else count
        first = draw.randint(0, len(sequence.frames) - taken)
        side = crop_px(self._config, with_shutter=False)
        height, width = self._store.get(sequence.frames[first]).shape[1:]
        cut = Cut(draw.randint(0, height - side), draw.randint(0, width - side), side)
        in_light = not is_pair or draw.random() >= self._config.dark.paper_share
        if is_pair:
            truth = self._mean(sequence, range(first, first + 1), cut, in_light)
            return truth, self._mean(sequence, range(first + 2, first + taken), cut, in_light), truth
        middle = first + count // 2
        blurry = self._mean(sequence, range(first, first + count), cut, in_light)
        truth = self._mean(sequence, range(middle, middle + 1), cut, in_light)
        if self._config.kind is InputKind.SINGLE:
            return blurry, truth
        return blurry, self._high_rate_reference(dataset, sequence, middle, count, cut, draw), truth

    def _high_rate_reference(
        self, dataset: Dataset, sequence: Sequence, middle: int, count: int, cut: Cut, draw: random.Random
    ) -> Tensor:
        """Returns a reference within ± `window` exposures of the middle frame, and outside of its own exposure."""
        settings = self._config.reference
        if draw.random() < settings.other_scene_probability:
            sequence = draw.choice(dataset.sequences)
            middle = draw.randrange(len(sequence.frames))
        reach = settings.window * count
        places = [
            index
            for index in range(max(0, middle - reach), min(len(sequence.frames), middle + reach + 1))
            if abs(index - middle) > count // 2
        ]
        chosen = draw.choice(places)
        span = range(chosen, chosen + 1)
        if draw.random() < settings.blurry_probability:
            begin = min(max(0, chosen - count // 2), len(sequence.frames) - count)
            span = range(begin, begin + count)
        there = self._displaced(cut, self._store.get(sequence.frames[chosen]), draw)
        return self._mean(sequence, span, there, in_light=True)

    def _mean(self, sequence: Sequence, span: range, cut: Cut, in_light: bool) -> Tensor:
        """Returns the mean of frames inside a cut, (3, s, s) in [0, 1], of light or of what is displayed."""
        curve = torch.full((1,), SRGB if in_light else 1.0, device=self._device)
        total = torch.zeros(1, 3, cut.side, cut.side, device=self._device)
        for index in span:
            total += to_light(_inside(self._store.get(sequence.frames[index]), cut)[None].float() / 255, curve)
        return to_display(total / len(span), curve)[0]


def _sharp_pictures(dataset: Dataset) -> tuple[Picture, ...]:
    """Returns the pictures of a dataset that the shutter may blur."""
    return dataset.photos or tuple(frame for sequence in dataset.sequences for frame in sequence.frames)


def crop_px(config: TrainConfig, *, with_shutter: bool) -> int:
    """Returns the side of what is cut from a picture: the ring's samples, plus the shutter's margin where it blurs."""
    sample = config.data.patch_px + config.data.slack_px
    return sample + 2 * margin_px(config) if with_shutter else sample


def needs_shutter(dataset: Dataset) -> bool:
    """Returns whether the dataset's pictures are blurred by the virtual shutter."""
    return not dataset.pairs and dataset.layout is not Layout.GOPRO_ALL


def neighbour(index: int, count: int, window: int, draw: random.Random) -> int:
    """Returns another index of `count`, at most `window` before or after."""
    near = [other for other in range(max(0, index - window), min(count, index + window + 1)) if other != index]
    return draw.choice(near)


def _scene_of(pair: Pair, dataset: Dataset) -> str:
    """Returns what pictures of one scene share: both halves of RealBlur show the same scenes under the same names."""
    return pair.blurry.parent.as_posix() if dataset.layout is Layout.REALBLUR else pair.scene


def _by_scene(dataset: Dataset) -> dict[str, list[Pair]]:
    scenes: dict[str, list[Pair]] = {}
    for pair in dataset.pairs:
        scenes.setdefault(_scene_of(pair, dataset), []).append(pair)
    return scenes


def random_cut(height: int, width: int, side: int, scale: tuple[float, float], draw: random.Random) -> Cut:
    """Returns a random square that becomes `side` pixels by a scale of the range, larger where the picture wants it."""
    factor = max(draw.uniform(*scale), side / min(height, width))
    cut = min(round(side / factor), height, width)
    return Cut(draw.randint(0, height - cut), draw.randint(0, width - cut), cut)


def cut_out(picture: Tensor, cut: Cut, side: int) -> Tensor:
    """Returns the square of a picture (3, H, W) uint8, shrunken: (3, side, side) float32 in [0, 1]."""
    crop = _inside(picture, cut).float() / 255
    if cut.side == side:
        return crop
    return F.interpolate(crop[None], size=(side, side), mode="bilinear", antialias=True, align_corners=False)[0]


def _inside(picture: Tensor, cut: Cut) -> Tensor:
    return picture[:, cut.y : cut.y + cut.side, cut.x : cut.x + cut.side]


def _clamped(cut: Cut, picture: Tensor) -> Cut | None:
    """Returns the nearest cut that lies inside a picture, or None where the picture is too small for it."""
    height, width = picture.shape[1:]
    if min(height, width) < cut.side:
        return None
    return Cut(min(max(cut.y, 0), height - cut.side), min(max(cut.x, 0), width - cut.side), cut.side)


def check_lengths(dataset: Dataset, count: int) -> None:
    """Returns if `count` frames of every high-rate sequence can be averaged beside two others. Raises DatasetError."""
    short = next((it for it in dataset.sequences if it.high_rate and len(it.frames) < count + 2), None)
    if short is not None:
        raise DatasetError(
            f"{dataset.root}: {short.scene} has {len(short.frames)} frames, too few to average {count} of them. Remove "
            "it, or set few_frames lower in the recipe."
        )


def check_one_size(pair: Pair, blurry: Tensor, sharp: Tensor) -> None:
    """Returns if both pictures (3, H, W) of a pair have one size. Raises DatasetError."""
    if blurry.shape != sharp.shape:
        raise DatasetError(
            f"{pair.blurry} is {blurry.shape[2]}×{blurry.shape[1]}, but {pair.sharp} is "
            f"{sharp.shape[2]}×{sharp.shape[1]}. Pairs must have one size: remove this one."
        )
