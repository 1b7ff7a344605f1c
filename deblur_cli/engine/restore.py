"""One network over one picture of any size."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.arrays import Pixels
from deblur_cli.convert import to_pixels, to_tensor
from deblur_cli.engine.blur import FoundBlur, find_blur
from deblur_cli.engine.device import (
    Device,
    channels_last,
    fit_to_network,
    free_cached,
    lowered,
    move_network,
    synchronise,
)
from deblur_cli.engine.guard import judge
from deblur_cli.engine.memory import TileChoice, choose_tile, smallest_tile
from deblur_cli.engine.tiles import Tile, TilePlan, cut, plan_tiles
from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.networks.contract import Model, ReferenceModel, ReferenceOutput, SingleModel
from deblur_cli.progress import SILENT, Progress, Stage

MEMORY_COMPLAINTS = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")
"""How PyTorch's allocators say it where they raise a plain RuntimeError."""


@dataclass(frozen=True)
class EngineReport:
    """How the engine ran the network over a picture.

    `tile_px` is the longer side of the tiles. `refused_tiles` of the `tiles` were implausible and keep the photo's own
    pixels. `network_seconds` is what the network itself took, without cutting, judging and putting together.
    """

    tile_px: int
    tiles: int
    refused_tiles: int
    network_seconds: float


@dataclass(frozen=True)
class Correspondence:
    """What a reference network took from where in the reference, at each pixel of the picture.

    `confidence` (H, W) in [0, 1] is how much; `flow` (H, W, 2) from where, in pixels x then y relative to the pixel.
    """

    confidence: Pixels
    flow: Pixels


@dataclass(frozen=True)
class Restored(EngineReport):
    """A restored picture, (H, W, 3) float32 in [0, 1], and how it was made.

    `blur` is what a network was shown that asks for estimated kernels; `translated` what it was given in the photo's
    place, where a translator came first and that is wanted.
    """

    pixels: Pixels
    correspondence: Correspondence | None = None
    blur: FoundBlur | None = None
    translated: Pixels | None = None

    @property
    def report(self) -> EngineReport:
        """How the engine ran, without any picture."""
        return EngineReport(self.tile_px, self.tiles, self.refused_tiles, self.network_seconds)

    def after(self, earlier: EngineReport) -> Restored:
        """Returns this result with tiles and seconds of what ran before it counted in."""
        return replace(
            self,
            tiles=earlier.tiles + self.tiles,
            refused_tiles=earlier.refused_tiles + self.refused_tiles,
            network_seconds=earlier.network_seconds + self.network_seconds,
        )


def restore(
    model: Model,
    device: Device,
    inputs: Sequence[Pixels],
    progress: Progress = SILENT,
    *,
    tile_px: int | None = None,
    with_confidence: bool = False,
) -> Restored:
    """Returns the first input restored: same height and width, clipped to [0, 1]; no input is changed.

    `inputs` are one picture for a SingleModel, else two (query and reference, or noisy and blurry), equally large,
    (H, W, 3) float32, RGB, display-encoded, at least one pixel. `tile_px` None takes what fits the free memory; tiles
    are halved when memory runs out all the same. Beside the inputs one picture is held, the result. Tiles equal the
    whole picture within 1e-5 in float32 for a network that sees no farther than `TilePlan.exact_reach_px`. The
    network is left on the device. `with_confidence`, for a ReferenceModel alone, also tells where what it took came
    from, which holds as much again as the picture.

    Raises OutOfMemoryError where the smallest tile does not fit, UsageError for a `tile_px` that is too small,
    DeviceError where the precision asked for is not safe for this network, ValueError for inputs that don't fit.
    """
    _check(model, inputs, with_confidence)
    device = fit_to_network(device, model.name, model.traits)
    choice = _asked_for(model, tile_px) if tile_px is not None else None
    with torch.inference_mode():
        _move(model, device)
        blur = find_blur(inputs[0], device, progress) if model.traits.candidates else None
        choice = choice or _choose(model, device)
        canvas = _Canvas.of(inputs[0], with_confidence)
        progress.detail(f"{model.name} on {device.torch_device} in {device.dtype_name} ({device.reason}).")
        while True:
            plan = _plan(model, inputs[0], choice, progress)
            try:
                with progress.stage("restoring", plan.count, "tiles") as stage:
                    report, refusals = _restore_tiles(model, device, inputs, canvas, plan, stage, blur)
                break
            except (MemoryError, RuntimeError) as error:
                if not _is_about_memory(error):
                    raise
            # Only here, where the error and the tensors that its traceback holds are gone, can memory be given back.
            free_cached(device)
            # All tiles are equally large, so the first one fails or none: beginning again costs next to nothing.
            canvas.begin_again(inputs[0])
            choice = _halved(model, plan)
    if refusals:
        _tell_refusals(model, report, refusals, progress)
    np.clip(canvas.pixels, 0, 1, out=canvas.pixels)
    return Restored(**asdict(report), pixels=canvas.pixels, correspondence=canvas.correspondence, blur=blur)


@dataclass(frozen=True)
class _Canvas:
    """What the tiles are added to: `pixels` began as the photo, the correspondence as none."""

    pixels: Pixels
    correspondence: Correspondence | None

    @staticmethod
    def of(photo: Pixels, with_confidence: bool) -> _Canvas:
        """Returns where no tile has been added yet."""
        height, width = photo.shape[:2]
        nothing = Correspondence(np.zeros((height, width), np.float32), np.zeros((height, width, 2), np.float32))
        return _Canvas(photo.copy(), nothing if with_confidence else None)

    def begin_again(self, photo: Pixels) -> None:
        """Undoes all tiles."""
        np.copyto(self.pixels, photo)
        if self.correspondence is not None:
            self.correspondence.confidence.fill(0)
            self.correspondence.flow.fill(0)

    def add(self, tile: Tile, original: Tensor, restored: Tensor, matched: ReferenceOutput | None) -> None:
        """Adds what the network made of a tile."""
        _add_weighted(self.pixels, tile, to_pixels(restored - original))
        if self.correspondence is not None and matched is not None:
            _add_weighted(self.correspondence.confidence[..., None], tile, to_pixels(matched.confidence.float()))
            _add_weighted(self.correspondence.flow, tile, to_pixels(matched.flow.float()))


def _check(model: Model, inputs: Sequence[Pixels], with_confidence: bool) -> None:
    expected = 1 if isinstance(model, SingleModel) else 2
    if len(inputs) != expected:
        raise ValueError(f"{model.name} takes {expected} pictures, got {len(inputs)}")
    for pixels in inputs:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype != np.float32:
            raise ValueError(f"expected (H, W, 3) float32 pixels, got {pixels.shape} {pixels.dtype}")
        if pixels.shape != inputs[0].shape:
            raise ValueError(f"expected pictures of one size, got {inputs[0].shape} and {pixels.shape}")
    if with_confidence and not isinstance(model, ReferenceModel):
        raise ValueError(f"{model.name} takes from no reference, so it has no confidence")


def _asked_for(model: Model, tile_px: int) -> TileChoice:
    smallest = smallest_tile(model)
    if tile_px < smallest:
        raise UsageError(f"Tiles of {tile_px} px are too small for {model.name}. Take --tile {smallest} or more.")
    return TileChoice(tile_px, "asked for")


def _plan(model: Model, picture: Pixels, choice: TileChoice, progress: Progress) -> TilePlan:
    """Returns the tiles of a picture, and tells them."""
    height, width = picture.shape[:2]
    overlap_px, multiple = model.traits.overlap_px, model.traits.size_multiple
    plan = plan_tiles(height, width, tile_px=choice.tile_px, overlap_px=overlap_px, multiple=multiple)
    rows, columns = plan.shape
    progress.detail(
        f"{plan.count} {'tile' if plan.count == 1 else 'tiles'} of {columns} × {rows} px, overlapping by "
        f"{plan.rows.overlap_px} px ({choice.reason})."
    )
    return plan


def _move(model: Model, device: Device) -> None:
    try:
        move_network(model.network, device)
    except RuntimeError as error:
        if not _is_about_memory(error):
            raise
        raise OutOfMemoryError(
            f"The network {model.name} itself does not fit into the memory of {device.torch_device}. "
            "Close other programs, take --device cpu, or a smaller --model."
        ) from error


def _choose(model: Model, device: Device) -> TileChoice:
    """Returns the tile that fits; the smallest one where not even the probe for it does."""
    try:
        return choose_tile(model, device)
    except (MemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
        return TileChoice(smallest_tile(model), "the smallest, since memory ran out while measuring")


def _halved(model: Model, plan: TilePlan) -> TileChoice:
    longer, smallest = max(plan.shape), smallest_tile(model)
    if longer <= smallest:
        raise OutOfMemoryError(
            f"Not even a tile of {longer} px fits into the free memory with {model.name}. "
            "Close other programs, take --device cpu, or a smaller --model."
        )
    return TileChoice(max(longer // 2, smallest), f"memory ran out with {longer} px")


def _is_about_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(complaint in str(error) for complaint in MEMORY_COMPLAINTS)


def _restore_tiles(
    model: Model,
    device: Device,
    inputs: Sequence[Pixels],
    canvas: _Canvas,
    plan: TilePlan,
    stage: Stage,
    blur: FoundBlur | None,
) -> tuple[EngineReport, Counter[str]]:
    """Runs the network over every tile and adds what it changed; returns how that went, and why tiles were refused."""
    refusals: Counter[str] = Counter()
    seconds = 0.0
    asked: dict[str, Any] = {} if canvas.correspondence is None else {"with_confidence": True}
    for tile in plan.tiles():
        patches = [to_tensor(cut(pixels, tile)).to(device.torch_device) for pixels in inputs]
        if blur is not None:
            undone = cut(blur.candidates, tile).astype(np.float32)
            asked["candidates"] = to_tensor(undone).to(device.torch_device)
        synchronise(device)
        began = time.perf_counter()
        ordered = [patch.flip(1) for patch in patches] if model.traits.bgr else patches
        with lowered(device):
            answer = model.network(*channels_last(ordered), **asked)
        matched = answer if isinstance(answer, ReferenceOutput) else None
        restored = (answer if matched is None else matched.restored).float()
        restored = restored.flip(1) if model.traits.bgr else restored
        synchronise(device)
        seconds += time.perf_counter() - began
        verdict = judge(restored, patches)
        if verdict.plausible:
            canvas.add(tile, patches[0], restored, matched)
        else:
            refusals[verdict.reason] += 1
        stage.advance()
    return EngineReport(max(plan.shape), plan.count, refusals.total(), seconds), refusals


def _tell_refusals(model: Model, report: EngineReport, refusals: Counter[str], progress: Progress) -> None:
    progress.note(
        f"{report.refused_tiles} of {report.tiles} tiles came out of {model.name} implausible "
        f"({', '.join(refusals)}) and stay as they were."
    )


def _add_weighted(result: Pixels, tile: Tile, change: Pixels) -> None:
    """Adds a tile's weighted change (h, w, C) to the result (H, W, C), which began as the photo.

    Adding changes instead of pictures leaves what a network does not touch, and refused tiles, bit for bit as it was.
    """
    part = result[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    height, width = part.shape[:2]
    change *= tile.weights
    part += change[:height, :width]
