"""What a photo may have looked like before it was blurred: each estimated kernel undone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from deblur_cli.deconvolution.by_place import nearest
from deblur_cli.deconvolution.estimate import BlurKernels, luma
from deblur_cli.deconvolution.wiener import undo

NOISE_TO_SIGNAL = ((0.03, 0.2), (0.1,), (0.1,))
"""Regularisations of each way's kernel; the first, which is right most often, is undone sharply and softly."""
COUNT = sum(map(len, NOISE_TO_SIGNAL))
"""Candidates of a photo."""
BLOCK_PX, FADE_PX, SEEN_PX = 1536, 64, 96
"""Large photos are undone in blocks, which bounds the memory. A filter's ripples reach far, so blocks fade into each
other over twice `FADE_PX`, and see `SEEN_PX` beyond that."""


def candidates(picture: Tensor, blurs: tuple[BlurKernels, ...]) -> Tensor:
    """Returns candidates (COUNT, H, W) for the luma of a picture (3, H, W), in [0, 1], kernel by kernel; float16.

    Of the kernels of several parts of the picture, each block takes those that were found nearest to it.

    Luma alone: undoing the colours too gains 0.03 dB of 1.02 on photographs whose kernel is known, for three times the
    work. Sides must be 64 pixels at least.
    """
    height, width = picture.shape[1:]
    result = torch.zeros(COUNT, height, width, dtype=torch.float16, device=picture.device)
    for down in _blocks(height):
        for across in _blocks(width):
            grey = luma(picture[:, down.seen, across.seen])
            blur = nearest(blurs, down.middle, across.middle)
            undone = torch.cat([undo(grey, *each) for each in zip(blur.kernels, NOISE_TO_SIGNAL, strict=True)])
            weights = down.weights(picture.device)[:, None] * across.weights(picture.device)
            result[:, down.kept, across.kept] += undone[:, down.kept_of_seen, across.kept_of_seen].clamp(0, 1) * weights
    return result


@dataclass(frozen=True)
class _Block:
    """A part of a side: what is `seen`, what of it is `kept`, and over how many pixels it fades at either end."""

    seen: slice
    kept: slice
    fades: tuple[int, int]

    @property
    def middle(self) -> float:
        """Where its middle is, in pixels."""
        return float(self.kept.start + self.kept.stop) / 2

    @property
    def kept_of_seen(self) -> slice:
        """Where the kept part lies in what is seen."""
        return slice(self.kept.start - self.seen.start, self.kept.stop - self.seen.start)

    def weights(self, device: torch.device) -> Tensor:
        """Returns the weights of the kept part; with those of the neighbours they sum to one."""
        weights = torch.ones(self.kept.stop - self.kept.start, device=device)
        before, after = self.fades
        ramp = (torch.arange(2 * FADE_PX, device=device) + 0.5) / (2 * FADE_PX)
        weights[:before] *= ramp[:before]
        weights[len(weights) - after :] *= ramp.flip(0)[:after]
        return weights


def _blocks(side: int) -> list[_Block]:
    """Returns equal parts of a side, each fading into the next."""
    count = -(-side // BLOCK_PX)
    borders = [number * side // count for number in range(count + 1)]
    blocks = []
    for begin, end in pairwise(borders):
        fades = (2 * FADE_PX if begin else 0, 2 * FADE_PX if end < side else 0)
        kept = slice(begin - fades[0] // 2, end + fades[1] // 2)
        blocks.append(_Block(slice(max(0, kept.start - SEEN_PX), min(side, kept.stop + SEEN_PX)), kept, fades))
    return blocks
