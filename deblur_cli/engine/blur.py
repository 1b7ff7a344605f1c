"""The blur of a whole photo, estimated before it is cut into tiles."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from deblur_cli.arrays import Pixels
from deblur_cli.convert import seen_as_tensor
from deblur_cli.deconvolution.by_place import estimate_by_place
from deblur_cli.deconvolution.candidates import candidates
from deblur_cli.deconvolution.estimate import SMALLEST_SIDE_PX, BlurKernels
from deblur_cli.engine.device import Device
from deblur_cli.progress import Progress


@dataclass(frozen=True)
class FoundBlur:
    """Kernels of the parts of a photo, and candidates for its luma when it was sharp, (H, W, C) float16 in [0, 1]."""

    parts: tuple[BlurKernels, ...]
    candidates: npt.NDArray[np.float16]


def find_blur(pixels: Pixels, device: Device, progress: Progress) -> FoundBlur | None:
    """Returns the blur of a picture (H, W, 3), display-encoded in [0, 1]; None where it is too small to tell.

    Estimated over the picture as a whole, so that tiles cannot disagree. What it takes beside the picture are the
    candidates, two thirds of the picture's size. Deterministic on one device.
    """
    if min(pixels.shape[:2]) < SMALLEST_SIDE_PX:
        return None
    began = time.perf_counter()
    picture = seen_as_tensor(pixels).to(device.torch_device)
    parts = estimate_by_place(picture)
    undone = candidates(picture, parts)
    seconds = time.perf_counter() - began
    for part in parts:
        row, column = map(int, part.centre)
        progress.detail(
            f"blur of {part.extent_px:.0f} px was estimated around {column}, {row}, "
            f"kernels agree by {part.agreement:.0%}."
        )
    progress.detail(f"estimating blur took {seconds:.1f} s.")
    return FoundBlur(parts, undone.permute(1, 2, 0).cpu().numpy())
