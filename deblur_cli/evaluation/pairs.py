"""Folders of noisy, blurry and sharp pictures to a table: the pair network beside what could be done without it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from deblur_cli.arrays import Bytes, Pixels
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.datasets.readers import natural_key, pictures_in
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import (
    DatasetError,
    MismatchedPairError,
    UnknownModelError,
    UnsupportedPhotoError,
    describe_failure,
)
from deblur_cli.evaluation.evaluate import SSIM_LEAST_PX
from deblur_cli.evaluation.scores import MOST_DB, WORSE_DB, FailedPhoto
from deblur_cli.evaluation.triples import Set, Triple, gopro_sets
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import quantise
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.measure.fidelity import psnr, ssim
from deblur_cli.networks.contract import PairModel, SingleModel
from deblur_cli.pipelines.batch import CONCERNS_ALL
from deblur_cli.pipelines.fuse_one import FusedPair, brightened, fuse_pair
from deblur_cli.pipelines.jobs import RestoreSettings
from deblur_cli.pipelines.pair import read_pair
from deblur_cli.pipelines.pairing import FoundPair, pair_named
from deblur_cli.pipelines.restore import restore_photo
from deblur_cli.progress import SILENT, Progress

NOISY = "noisy"
BLURRY_NAMES = ("pair_blur", "blur", "blurry")
SHARP = "sharp"
NLM_STRENGTHS = (10, 15, 20)
"""Of non-local means; a photo's figure is the best of the three, which only the truth can tell: an upper bound."""
SCALED, LONG, SINGLE, DENOISED, FUSED = "noisy, scaled", "blurry", "single image", "non-local means", "pair"


@dataclass(frozen=True)
class PairsEvaluationJob:
    """What to score: `folders` with noisy/, pair_blur/ (or blur/) and sharp/, of equal names, or GoPro's.

    Of GOPRO_Large and GOPRO_Large_all noisy and blurry pictures are made as `triples` says.
    """

    folders: tuple[Path, ...]
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    settings: RestoreSettings = field(default_factory=RestoreSettings)
    max_megapixels: float = 250.0


@dataclass(frozen=True)
class MethodScore:
    """PSNR in dB, at most MOST_DB, and SSIM of what one method makes of a pair, or of its mean."""

    method: str
    psnr: float
    ssim: float


@dataclass(frozen=True)
class PairScore:
    """One pair against its truth: a score a method, and what the pipeline found out on the way."""

    photo: Path
    scores: tuple[MethodScore, ...]
    gain: tuple[float, float, float]
    shift_px: float
    confidence: float
    moved_share: float
    network_seconds: float

    def score(self, method: str) -> MethodScore:
        """Returns the score of a method. Raises StopIteration for one that was not measured."""
        return next(score for score in self.scores if score.method == method)


@dataclass(frozen=True)
class PairFolder:
    """One folder's scores. `worse`: pairs whose result lost more than 0.1 dB to the better of both inputs."""

    name: str
    folder: Path
    pairs: tuple[PairScore, ...]
    failed: tuple[FailedPhoto, ...]
    means: tuple[MethodScore, ...]
    worse: int


@dataclass(frozen=True)
class PairsEvaluation:
    """What was scored, by which networks, where, and the pair network's speed over its megapixels."""

    model: str
    single_model: str | None
    device: str
    precision: str
    folders: tuple[PairFolder, ...]
    network_seconds: float
    megapixels: float


@dataclass(frozen=True)
class _PairNetworks:
    pair: PairModel
    pair_device: Device
    single: SingleModel | None
    single_device: Device | None
    settings: RestoreSettings


def evaluate_pairs(job: PairsEvaluationJob, progress: Progress = SILENT) -> PairsEvaluation:
    """Returns PSNR and SSIM of all pairs, for the pair network and for what else could be done with the photos.

    Pairs are fused as `deblur pair` does. Results are rounded to 8 bit and compared as they are, neither cropped nor
    aligned: the truth must be at the noisy frame's pose. A pair that cannot be scored is named and the others go on.
    Raises DatasetError for a folder of another layout, and what models and devices raise.
    """
    sets = [list(_members(folder)) for folder in job.folders]
    networks = _networks(job, progress)
    folders = []
    megapixels = 0.0
    with progress.stage("Pairs", sum(map(len, sets)), "pairs") as stage:
        for folder, members in zip(job.folders, sets, strict=True):
            scored: list[PairScore] = []
            failed: list[FailedPhoto] = []
            for member in members:
                photo = member.blurry or member.sharp
                try:
                    with TemporaryDirectory(prefix="deblur-triple-") as home:
                        triple = member if isinstance(member, Triple) else member.make(Path(home))
                        truth = read_photo(triple.sharp, max_megapixels=job.max_megapixels)
                        pair, _ = pair_named(triple.noisy, triple.blurry, max_megapixels=job.max_megapixels)
                        score = _score(pair, truth, networks, job.max_megapixels, progress)
                    scored.append(replace(score, photo=photo))
                    megapixels += truth.megapixels
                except Exception as error:  # as in a batch: whatever one pair fails with is its own
                    if isinstance(error, CONCERNS_ALL) and not isinstance(error, MismatchedPairError):
                        raise
                    failed.append(FailedPhoto(photo, describe_failure(photo, error)))
                stage.advance()
            folders.append(_summarised(folder, scored, [*failed, *_alone(folder)]))
    seconds = sum(pair.network_seconds for part in folders for pair in part.pairs)
    device = networks.pair_device
    single = None if networks.single is None else networks.single.name
    return PairsEvaluation(
        networks.pair.name, single, str(device.torch_device), device.dtype_name, tuple(folders), seconds, megapixels
    )


def _members(folder: Path) -> Iterator[Triple | Set]:
    """Yields noisy, blurry and sharp pictures of equal names; of GoPro, what they are made of. Raises DatasetError."""
    if sets := _sets(folder):
        yield from sets
        return
    noisy, blurry, sharp = _parts(folder).values()
    shared = noisy.keys() & blurry.keys() & sharp.keys()
    if not shared:
        raise DatasetError(f"{folder}: no picture has one name in {', '.join(_parts(folder))}. Rename them.")
    for stem in sorted(shared, key=lambda name: natural_key(Path(name))):
        yield Triple(noisy[stem], blurry[stem], sharp[stem])


def _sets(folder: Path) -> Sequence[Set]:
    """Returns what pairs are made of where a folder holds GoPro's test part and no pairs."""
    return () if all(_pictures(folder).values()) else gopro_sets(folder)


def _alone(folder: Path) -> Iterator[FailedPhoto]:
    """Yields the pictures that lack another of their name, with the sentence that says where."""
    parts = {} if _sets(folder) else _parts(folder)
    for paths in parts.values():
        for stem, path in paths.items():
            lacking = [name for name, others in parts.items() if stem not in others]
            if lacking:
                yield FailedPhoto(path, f"{path}: there is no picture of its name in {' and '.join(lacking)}.")


def _parts(folder: Path) -> dict[str, dict[str, Path]]:
    """Returns the pictures by stem of the folders of noisy, blurry and sharp ones, by folder. Raises DatasetError."""
    parts = _pictures(folder)
    if not all(parts.values()):
        raise DatasetError(
            f"{folder} holds no pairs of exposures. Looked for the folders {NOISY}, {BLURRY_NAMES[0]} (or "
            f"{', '.join(BLURRY_NAMES[1:])}) and {SHARP}, with pictures of equal names, and for GoPro's test part."
        )
    return parts


def _pictures(folder: Path) -> dict[str, dict[str, Path]]:
    blurry = next((name for name in BLURRY_NAMES if pictures_in(folder / name)), BLURRY_NAMES[0])
    return {name: {path.stem: path for path in pictures_in(folder / name)} for name in (NOISY, blurry, SHARP)}


def _networks(job: PairsEvaluationJob, progress: Progress) -> _PairNetworks:
    entry = find(job.model, PairModel)
    device = choose(job.device, job.precision)
    pair = load(entry, progress)
    try:
        single = load(find(None, SingleModel), progress)
    except UnknownModelError:
        return _PairNetworks(pair, fit_to_network(device, pair.name, pair.traits), None, None, job.settings)
    return _PairNetworks(
        pair,
        fit_to_network(device, pair.name, pair.traits),
        single,
        fit_to_network(device, single.name, single.traits),
        job.settings,
    )


def _score(
    pair: FoundPair, truth: Photo, networks: _PairNetworks, max_megapixels: float, progress: Progress
) -> PairScore:
    ready = read_pair(pair, max_megapixels)
    if ready.colour is not None:
        raise UnsupportedPhotoError(pair.blurry.path, "is camera raw, of which no truth in a file can be compared.")
    blurry = ready.blurry
    if truth.pixels.shape != blurry.pixels.shape or min(truth.height, truth.width) < SSIM_LEAST_PX:
        raise UnsupportedPhotoError(
            blurry.path,
            f"is {blurry.width} by {blurry.height} pixels and its truth {truth.width} by {truth.height}. Only equal "
            f"sizes from {SSIM_LEAST_PX} pixels on compare.",
        )
    wanted = _bytes(truth.pixels)
    fused = fuse_pair(ready.frames, blurry, networks.pair, networks.pair_device, networks.settings, progress)
    scaled = _bytes(brightened(fused.short, blurry, fused.light).pixels)
    scores = [_measured(SCALED, scaled, wanted), _measured(LONG, _bytes(blurry.pixels), wanted)]
    if networks.single is not None and networks.single_device is not None:
        extent = estimate_blur_extent(blurry.pixels)
        alone = restore_photo(blurry, extent, networks.single, networks.single_device, RestoreSettings())
        scores.append(_measured(SINGLE, _bytes(alone.photo.pixels), wanted))
    denoised = (_measured(DENOISED, _non_local_means(scaled, strength), wanted) for strength in NLM_STRENGTHS)
    scores.append(max(denoised, key=lambda score: score.psnr))
    scores.append(_measured(FUSED, _bytes(fused.photo.pixels), wanted))
    return _described(blurry.path, scores, fused)


def _described(path: Path, scores: list[MethodScore], fused: FusedPair) -> PairScore:
    seconds = 0.0 if fused.engine is None else fused.engine.network_seconds
    return PairScore(path, tuple(scores), fused.gain, fused.shift_px, fused.confidence, fused.moved_share, seconds)


def _non_local_means(picture: Bytes, strength: int) -> Bytes:
    """Returns the picture denoised by OpenCV's non-local means, luma and chroma at this strength."""
    return np.asarray(cv2.fastNlMeansDenoisingColored(picture, None, strength, strength, 7, 21), np.uint8)


def _bytes(pixels: Pixels) -> Bytes:
    picture: Bytes = quantise(pixels, 8)
    return picture


def _measured(method: str, picture: Bytes, truth: Bytes) -> MethodScore:
    return MethodScore(method, min(psnr(picture, truth), MOST_DB), ssim(picture, truth))


def _summarised(folder: Path, scored: list[PairScore], failed: list[FailedPhoto]) -> PairFolder:
    def mean(of: Callable[[MethodScore], float], method: str) -> float:
        return fmean(of(pair.score(method)) for pair in scored)

    methods = [score.method for score in scored[0].scores] if scored else []
    means = tuple(
        MethodScore(method, mean(lambda score: score.psnr, method), mean(lambda score: score.ssim, method))
        for method in methods
    )
    worse = sum(
        pair.score(FUSED).psnr < max(pair.score(SCALED).psnr, pair.score(LONG).psnr) - WORSE_DB for pair in scored
    )
    return PairFolder(folder.resolve().name, folder, tuple(scored), tuple(failed), means, worse)
