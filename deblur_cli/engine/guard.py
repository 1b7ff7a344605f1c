"""Tells whether what a network made of a tile can be a restoration of it at all.

Networks go wrong on what they never saw: not-a-number from an overflow, a colour cast over flat dark areas, coloured
checkerboards from their up-sampling. The guard knows no ground truth, only what no restoration is. Its bounds were
measured on pairs of the virtual shutter (photographs of the training set, every setting at its default: paths to
60 px, lights raised to 6 times; 480 tiles of 192 px and 128 of 384 px, half of them with noise and JPEG), where the
truth stands for a perfect network:

| what is looked at | perfect network, worst of all | refused |
| --- | --- | --- |
| shift of a channel's mean | 0.065 (192 px), 0.061 (384 px) | over 0.03 + 15 px / side: 0.108, 0.069 |
| contrast (standard deviation) over the input's | times 1.97 | over times 2.5 and 0.03 |
| coarse contrast, means of 8 × 8 px, under the input's | times 0.94 | under half, less 0.02 |
| share of 64-px blocks whose change is a checkerboard | 1 in 9 at 192 px, 2 in 36 at 384 px | over 1/8 |

The first bound falls with the side because light that a restoration moves over a tile's border is what shifts means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MEAN_SHIFT = 0.03
MEAN_SHIFT_PX = 15.0
CONTRAST_GROWTH, CONTRAST_FLOOR = 2.5, 0.03
CONTRAST_LOSS, CONTRAST_LOSS_FLOOR = 0.5, 0.02
COARSE_PX = 8
CHECKERBOARD_RATIO = 3.0
"""Energy of the diagonal band over that of the two others: a half for white noise, less for pictures."""
CHECKERBOARD_STEP = 0.02
"""Root mean square of the diagonal band that the eye sees: a checkerboard of ± 1/200."""
CHECKERBOARD_SHARE = 1 / 8
CHECKERBOARD_LEVELS = 4
"""Checkerboards of 1, 2, 4 and 8 px a field: the steps by which networks up-sample."""
BLOCK_PX = 64


@dataclass(frozen=True)
class Verdict:
    """Whether a restored tile is plausible; otherwise `reason` is a phrase that says what is wrong with it."""

    plausible: bool
    reason: str = ""


def judge(restored: Tensor, inputs: Sequence[Tensor]) -> Verdict:
    """Returns whether `restored` can be a restoration of `inputs[0]`.

    All are (1, 3, H, W) float32, display-encoded, on one device. With several inputs, means and contrasts may lie
    anywhere between theirs: of a noisy and a blurry exposure each has something of the truth. Tiles with a side under
    16 px are judged by their numbers and means alone.
    """
    mean = restored.mean((0, 2, 3))
    if not bool(torch.isfinite(mean).all()):  # one value that is no number makes the mean none
        return Verdict(False, "not a number")
    side = min(restored.shape[2:])
    means = torch.stack([picture.mean((0, 2, 3)) for picture in inputs])
    outside = torch.maximum(mean - means.amax(0), means.amin(0) - mean)
    if float(outside.max()) > MEAN_SHIFT + MEAN_SHIFT_PX / side:
        return Verdict(False, "colours far off")
    if side < 2 * COARSE_PX:
        return Verdict(True)
    if _contrast(restored) > CONTRAST_GROWTH * max(map(_contrast, inputs)) + CONTRAST_FLOOR:
        return Verdict(False, "contrast far above the photo's")
    coarse = [_contrast(F.avg_pool2d(picture, COARSE_PX)) for picture in (restored, *inputs)]
    if coarse[0] < CONTRAST_LOSS * min(coarse[1:]) - CONTRAST_LOSS_FLOOR:
        return Verdict(False, "contrast far below the photo's")
    if checkerboard_share(restored - inputs[0]) > CHECKERBOARD_SHARE:
        return Verdict(False, "checkerboards")
    return Verdict(True)


def _contrast(picture: Tensor) -> float:
    """Returns the standard deviation of the pixels around their channel's mean."""
    flat = picture.flatten(2)
    variance = torch.linalg.vector_norm(flat, dim=2).square() / flat.shape[2] - flat.mean(2).square()
    return float(variance.clamp_min(0).mean().sqrt())


def checkerboard_share(change: Tensor) -> float:
    """Returns the share of 64-px blocks, [0, 1], in which a change (1, 3, H, W) is a checkerboard; the worst level's.

    By Haar's transform: a checkerboard of fields of 1, 2, 4 or 8 px, on the grid by which networks up-sample, lies in
    the diagonal band of one level alone; edges and texture lie at least as much in the other two bands.
    """
    worst = torch.zeros((), device=change.device)
    for level in range(CHECKERBOARD_LEVELS):
        block = BLOCK_PX >> (level + 1)
        if min(change.shape[2:]) // 2 < block:
            break
        change = change[..., : change.shape[2] // 2 * 2, : change.shape[3] // 2 * 2]
        upper, lower = change[..., 0::2, :], change[..., 1::2, :]
        vertical, smooth = upper - lower, upper + lower
        diagonal = _energy(vertical[..., 0::2] - vertical[..., 1::2], block)
        plain = _energy(vertical[..., 0::2] + vertical[..., 1::2], block)
        plain += _energy(smooth[..., 0::2] - smooth[..., 1::2], block)
        checkered = (diagonal > CHECKERBOARD_STEP**2) & (diagonal > CHECKERBOARD_RATIO * plain)
        worst = torch.maximum(worst, checkered.float().mean())
        change = (smooth[..., 0::2] + smooth[..., 1::2]) / 4
    return float(worst)


def _energy(band: Tensor, block: int) -> Tensor:
    """Returns the mean square of each block, over all channels."""
    return F.avg_pool2d(band.square_().sum(1, keepdim=True), block) / band.shape[1]
