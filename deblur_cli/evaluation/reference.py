"""How much a reference helps a network, and how little it harms: the same photos with a good one, a bad one and none.

Source of the comparison: Table 5 of Zou et al., Reference-based Motion Blur Removal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.datasets.protocol import ranked_references, sampled_references
from deblur_cli.datasets.sets import PairSet
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.errors import DatasetError, UsageError
from deblur_cli.evaluation.evaluate import EvaluateJob, OutputSource, Produced, at_8_bit, evaluate
from deblur_cli.evaluation.scores import Evaluation, ReferenceKind
from deblur_cli.geometry.register import register_with_parallax
from deblur_cli.imaging.photo import Photo
from deblur_cli.imaging.read import read_grey, read_photo
from deblur_cli.measure.blur_extent import estimate_blur_extent
from deblur_cli.measure.sharpness import WORKING_PX, score_fourier
from deblur_cli.networks.contract import ReferenceModel, SingleModel
from deblur_cli.pipelines.jobs import ReferenceUse
from deblur_cli.pipelines.ref import ReferenceNetworks
from deblur_cli.pipelines.references import AlignedReference, align_reference, stretch_reference, warp_reference
from deblur_cli.pipelines.restore import (
    RestoredPhoto,
    is_already_sharp,
    left_alone,
    restore_photo,
    restore_with_references,
)
from deblur_cli.progress import SILENT, Progress

PLACES = {ReferenceKind.SHARPEST: 1.0, ReferenceKind.MIDDLE: 0.5, ReferenceKind.BLURRIEST: 0.0}
"""Where in the order of sharpness the reference stands."""
AS_PUBLISHED = frozenset((*PLACES, ReferenceKind.NEIGHBOUR, ReferenceKind.WRONG))
"""References that a network which matches by itself is given as they are, as its authors do."""


@dataclass(frozen=True)
class ReferenceEvaluation:
    """The scores of the same photos with one kind of reference."""

    reference: ReferenceKind
    evaluation: Evaluation


def evaluate_references(
    job: EvaluateJob, kinds: Sequence[ReferenceKind], progress: Progress = SILENT
) -> tuple[ReferenceEvaluation, ...]:
    """Returns the scores of the job's photos with each kind of reference, in the order asked for.

    Protocol as in `evaluate`. The network gets every reference whether it helps or not, aligned with the photo where
    that can be done with confidence, or as it is where the network matches by itself; only PIPELINE refuses. Photos
    that are sharp already stay as they are. Raises UsageError, DatasetError for folders without references, and what
    models and devices raise.
    """
    if job.outputs is not None:
        raise UsageError("--outputs scores pictures made before, so --reference has nothing to do. Leave one out.")
    entry = find(job.model, ReferenceModel)
    device = choose(job.device, job.precision)
    fitted = fit_to_network(device, entry.name, entry.traits)
    model = load(entry, progress)

    @cache
    def single() -> tuple[SingleModel, Device]:
        fallback = find(None, SingleModel)
        return load(fallback, progress), fit_to_network(device, fallback.name, fallback.traits)

    networks = ReferenceNetworks(model, fitted, single)

    def open_source(kind: ReferenceKind) -> Callable[[Sequence[PairSet]], OutputSource]:
        def open_with(sets: Sequence[PairSet]) -> OutputSource:
            make = _make(kind, _references(sets, kind), networks, job, progress)
            return OutputSource(make, entry.name, str(fitted.torch_device), fitted.dtype_name)

        return open_with

    return tuple(ReferenceEvaluation(kind, evaluate(job, progress, open_source=open_source(kind))) for kind in kinds)


def _references(sets: Sequence[PairSet], kind: ReferenceKind) -> dict[Path, Path]:
    """Returns each photo's reference file; for WRONG that of a photo half the list away, of another scene.

    Without a folder ref/ the frames of a scene are each other's references: its neighbours' sharp pictures.
    """
    # Each set by itself: both halves of RealBlur show the same scenes under the same names.
    if kind in PLACES:
        ranked = (ranked_references(part.pairs, eq_7_sharpness, PLACES[kind]) for part in sets)
        return {blurry: reference for found in ranked for blurry, reference in found.items()}
    if kind is ReferenceKind.NEIGHBOUR:
        drawn = (sampled_references(part.pairs) for part in sets)
        return {blurry: reference for found in drawn for blurry, reference in found.items()}
    pairs = [pair for part in sets for pair in part.pairs]
    if kind in (ReferenceKind.SELF, ReferenceKind.NONE):
        return {}
    if kind is ReferenceKind.WRONG and all(pair.reference is None for pair in pairs):
        pairs = [replace(pair, reference=pair.sharp) for pair in pairs]
    lacking = next((pair for pair in pairs if pair.reference is None), None)
    if lacking is not None:
        raise DatasetError(
            f"{lacking.blurry} has no reference: there is no picture of its name in a folder ref/ beside blur/. "
            "On GoPro, HIDE and RealBlur, whose scenes have many frames, give --reference neighbour."
        )
    known = [(pair, pair.reference) for pair in pairs if pair.reference is not None]
    if kind is not ReferenceKind.WRONG:
        return {pair.blurry: reference for pair, reference in known}
    others = {}
    for index, (pair, _) in enumerate(known):
        turned = [known[(index + step + len(known) // 2) % len(known)] for step in range(len(known))]
        wrong = next((reference for other, reference in turned if other.scene != pair.scene), None)
        if wrong is None:
            raise DatasetError("All photos show one scene, so none has a wrong reference. Give more folders.")
        others[pair.blurry] = wrong
    return others


def eq_7_sharpness(path: Path) -> float:
    """Returns the sharpness of a picture by eq. 7 of Zou et al., at the size at which photos are scored."""
    grey, _ = read_grey(path, long_side=WORKING_PX)
    return score_fourier(grey).score


def _make(
    kind: ReferenceKind, files: dict[Path, Path], networks: ReferenceNetworks, job: EvaluateJob, progress: Progress
) -> Callable[[Photo], Produced]:
    def make(photo: Photo) -> Produced:
        restored = _restored(photo, kind, files.get(photo.path), networks, job, progress)
        return Produced(at_8_bit(restored.photo), restored)

    return make


def _restored(
    photo: Photo,
    kind: ReferenceKind,
    file: Path | None,
    networks: ReferenceNetworks,
    job: EvaluateJob,
    progress: Progress,
) -> RestoredPhoto:
    extent = estimate_blur_extent(photo.pixels)
    if job.settings.scale is None and is_already_sharp(extent):
        return left_alone(photo, extent)
    reference = _content(photo, kind, file, job.max_megapixels)
    if kind is ReferenceKind.PIPELINE:
        aligned = align_reference(photo, reference, progress)
        if isinstance(aligned, ReferenceUse):
            single, device = networks.single()
            return restore_photo(photo, extent, single, device, job.settings, progress)
    else:
        as_it_is = networks.model.traits.any_scene and kind in AS_PUBLISHED
        aligned = stretch_reference(photo, reference) if as_it_is else _align_anyhow(photo, reference, kind)
    return restore_with_references(photo, extent, [aligned], networks.model, networks.device, job.settings, progress)


def _content(photo: Photo, kind: ReferenceKind, file: Path | None, max_megapixels: float) -> Photo:
    """Returns what the network is to be given as reference, as a photo."""
    if file is not None:
        return read_photo(file, max_megapixels=max_megapixels)
    if kind is ReferenceKind.NONE:
        mean = photo.pixels.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)
        return replace(photo, pixels=np.broadcast_to(mean, photo.pixels.shape).copy())
    return photo


def _align_anyhow(photo: Photo, reference: Photo, kind: ReferenceKind) -> AlignedReference:
    """Returns the reference aligned over the photo; as it is, stretched to the photo's size, where it does not fit."""
    if kind in (ReferenceKind.SELF, ReferenceKind.NONE):
        return stretch_reference(photo, reference)
    found = register_with_parallax(
        reference.pixels, photo.pixels, moving_encoding=reference.encoding, onto_encoding=photo.encoding
    )
    return warp_reference(photo, reference, found) if found.trusted else stretch_reference(photo, reference)
