"""One network over one picture of any size."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from deblur_cli.arrays import Pixels
from deblur_cli.convert import to_pixels, to_tensor
from deblur_cli.engine import precision
from deblur_cli.engine.blur import FoundBlur, find_blur
from deblur_cli.engine.device import Device, fit_to_network
from deblur_cli.engine.guard import judge
from deblur_cli.engine.memory import TileChoice, choose_tile, smallest_tile
from deblur_cli.engine.tiles import Tile, TilePlan, cut, plan_tiles
from deblur_cli.errors import OutOfMemoryError, UsageError
from deblur_cli.networks.contract import Model, ReferenceModel, ReferenceOutput, SingleModel
from deblur_cli.progress import SILENT, Progress, Stage

MEMORY_COMPLAINTS = ("not enough memory", "can't allocate memory", "out of memory", "ALLOC_FAILED")
"""How PyTorch's allocators say it where they raise a plain RuntimeError."""


@dataclass(frozen=True)
class Restored:
    """A restored picture: (H, W, 3) float32 in [0, 1], and how it was made.

    `tile_px` is the longer side of the tiles. `refused_tiles` of the `tiles` were implausible and keep the photo's own
    pixels. `network_seconds` is what the network itself took, without cutting, judging and putting together. `blur` is
    what a network was shown that asks for estimated kernels.
    """

    pixels: Pixels
    tile_px: int
    overlap_px: int
    tiles: int
    refused_tiles: int
    network_seconds: float
    borrowed: Borrowed | None = None
    blur: FoundBlur | None = None


@dataclass(frozen=True)
class Borrowed:
    """What a reference network took from where: at each pixel of the picture how much (`confidence`, (H, W), [0, 1]),
    and where in the reference, in pixels x then y relative to the pixel itself (`flow`, (H, W, 2)).
    """

    confidence: Pixels
    flow: Pixels


@dataclass(frozen=True)
class _Pass:
    """What one pass over all tiles gave beside the pixels."""

    refusals: Counter[str]
    seconds: float


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
    network is left on the device. `with_confidence`, for a ReferenceModel alone, also tells what was borrowed, which
    holds as much again as the picture.

    Raises OutOfMemoryError where the smallest tile does not fit, UsageError for a `tile_px` that is too small,
    DeviceError where the precision asked for is not safe for this network, ValueError for inputs that don't fit.
    """
    _check(model, inputs)
    if with_confidence and not isinstance(model, ReferenceModel):
        raise ValueError(f"{model.name} borrows from no reference, so it has no confidence")
    device = fit_to_network(device, model.name, model.traits)
    choice = _asked_for(model, tile_px) if tile_px is not None else None
    with torch.inference_mode():
        _move(model, device)
        blur = find_blur(inputs[0], device, progress) if model.traits.candidates else None
        choice = choice or _choose(model, device)
        done = _restore_in_tiles(model, device, inputs, progress, choice, with_confidence, blur)
    return replace(done, blur=blur)


def _restore_in_tiles(
    model: Model,
    device: Device,
    inputs: Sequence[Pixels],
    progress: Progress,
    choice: TileChoice,
    with_confidence: bool,
    blur: FoundBlur | None,
) -> Restored:
    height, width = inputs[0].shape[:2]
    result = _Result(inputs[0].copy(), _nothing_borrowed(height, width) if with_confidence else None)
    plan = _plan(model, height, width, choice.tile_px)
    progress.detail(f"{model.name} on {device.torch_device} in {device.dtype_name} ({device.reason}).")
    while True:
        rows, columns = plan.shape
        progress.detail(
            f"{plan.count} {'tile' if plan.count == 1 else 'tiles'} of {columns} × {rows} px, overlapping by "
            f"{plan.rows.overlap_px} px ({choice.reason})."
        )
        done = _try_all_tiles(model, device, inputs, result, plan, progress, blur)
        if done is not None:
            break
        # All tiles are equally large, so the first one fails or none: beginning again costs next to nothing.
        result.begin_again(inputs[0])
        choice = _halved(model, plan)
        plan = _plan(model, height, width, choice.tile_px)
    np.clip(result.pixels, 0, 1, out=result.pixels)
    refused = done.refusals.total()
    if refused:
        why = ", ".join(done.refusals)
        progress.note(
            f"{refused} of {plan.count} tiles came out of {model.name} implausible ({why}) and stay as they were."
        )
    overlap_px = plan.rows.overlap_px
    return Restored(result.pixels, max(plan.shape), overlap_px, plan.count, refused, done.seconds, result.borrowed)


@dataclass(frozen=True)
class _Result:
    """What the tiles are added to: `pixels` began as the photo, what is borrowed as nothing."""

    pixels: Pixels
    borrowed: Borrowed | None

    def begin_again(self, photo: Pixels) -> None:
        """Undoes all tiles."""
        np.copyto(self.pixels, photo)
        if self.borrowed is not None:
            self.borrowed.confidence.fill(0)
            self.borrowed.flow.fill(0)


def _nothing_borrowed(height: int, width: int) -> Borrowed:
    return Borrowed(np.zeros((height, width), np.float32), np.zeros((height, width, 2), np.float32))


def _check(model: Model, inputs: Sequence[Pixels]) -> None:
    expected = 1 if isinstance(model, SingleModel) else 2
    if len(inputs) != expected:
        raise ValueError(f"{model.name} takes {expected} pictures, got {len(inputs)}")
    for pixels in inputs:
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.size == 0 or pixels.dtype != np.float32:
            raise ValueError(f"expected (H, W, 3) float32 pixels, got {pixels.shape} {pixels.dtype}")
        if pixels.shape != inputs[0].shape:
            raise ValueError(f"expected pictures of one size, got {inputs[0].shape} and {pixels.shape}")


def _asked_for(model: Model, tile_px: int) -> TileChoice:
    smallest = smallest_tile(model)
    if tile_px < smallest:
        raise UsageError(f"Tiles of {tile_px} px are too small for {model.name}. Take --tile {smallest} or more.")
    return TileChoice(tile_px, "asked for")


def _plan(model: Model, height: int, width: int, tile_px: int) -> TilePlan:
    traits = model.traits
    return plan_tiles(height, width, tile_px=tile_px, overlap_px=traits.overlap_px, multiple=traits.size_multiple)


def _move(model: Model, device: Device) -> None:
    try:
        precision.move(model.network, device)
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


def _try_all_tiles(
    model: Model,
    device: Device,
    inputs: Sequence[Pixels],
    result: _Result,
    plan: TilePlan,
    progress: Progress,
    blur: FoundBlur | None,
) -> _Pass | None:
    """Returns what the pass gave, its changes added to `result`; None where memory ran out, with `result` half done."""
    try:
        with progress.stage("restoring", plan.count, "tiles") as stage:
            return _all_tiles(model, device, inputs, result, plan, stage, blur)
    except (MemoryError, RuntimeError) as error:
        if not _is_about_memory(error):
            raise
    # Only here, where the error and the tensors that its traceback holds are gone, can their memory be given back.
    if device.torch_device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.torch_device.type == "mps":
        torch.mps.empty_cache()
    return None


def _all_tiles(
    model: Model,
    device: Device,
    inputs: Sequence[Pixels],
    result: _Result,
    plan: TilePlan,
    stage: Stage,
    blur: FoundBlur | None,
) -> _Pass:
    refusals: Counter[str] = Counter()
    seconds = 0.0
    for tile in plan.tiles():
        patches = [to_tensor(cut(pixels, tile)).to(device.torch_device) for pixels in inputs]
        undone = None if blur is None else _candidates(blur, tile).to(device.torch_device)
        precision.wait(device)
        began = time.perf_counter()
        restored, borrowed = _run(model, device, patches, undone, with_confidence=result.borrowed is not None)
        precision.wait(device)
        seconds += time.perf_counter() - began
        verdict = judge(restored, patches)
        if verdict.plausible:
            _add_weighted(result.pixels, tile, to_pixels(restored - patches[0]))
            if borrowed is not None and result.borrowed is not None:
                _add_weighted(result.borrowed.confidence[..., None], tile, to_pixels(borrowed.confidence))
                _add_weighted(result.borrowed.flow, tile, to_pixels(borrowed.flow))
        else:
            refusals[verdict.reason] += 1
        stage.advance()
    return _Pass(refusals, seconds)


def _candidates(blur: FoundBlur, tile: Tile) -> Tensor:
    """Returns what a network is shown beside a tile, (1, C, h, w)."""
    return to_tensor(cut(blur.candidates, tile).astype(np.float32))


def _run(
    model: Model, device: Device, patches: Sequence[Tensor], candidates: Tensor | None, *, with_confidence: bool
) -> tuple[Tensor, ReferenceOutput | None]:
    """Returns the network's answer, RGB, whatever order of channels it works in, and what it borrowed if asked."""
    ordered = [patch.flip(1) for patch in patches] if model.traits.bgr else patches
    borrowed = precision.run_with_confidence(model.network, device, ordered) if with_confidence else None
    answer = precision.run(model.network, device, ordered, candidates) if borrowed is None else borrowed.restored
    return answer.flip(1) if model.traits.bgr else answer, borrowed


def _add_weighted(result: Pixels, tile: Tile, change: Pixels) -> None:
    """Adds a tile's weighted change (h, w, C) to the result (H, W, C), which began as the photo.

    Adding changes instead of pictures leaves what a network does not touch, and refused tiles, bit for bit as it was.
    """
    part = result[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]
    height, width = part.shape[:2]
    change *= tile.weights
    part += change[:height, :width]
