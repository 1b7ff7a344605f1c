"""What is found out about whole pictures before a training and kept beside them: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deblur_cli.deconvolution.candidates import candidates
from deblur_cli.deconvolution.estimate import estimate_kernels
from deblur_cli.training.whole_pictures import WholePicture

Addition = Callable[[WholePicture], Tensor]
"""Makes one array of a picture; must follow from the picture alone. (C, H, W) uint8 or float16 where it is a candidate:
a picture that the network is shown beside the blurry one, cut and turned with it. uint8 stands for [0, 1]."""


def undone(picture: WholePicture) -> Tensor:
    """Returns the luma with the kernels undone that are estimated from the blurry picture, uint8 (4, H, W)."""
    blurry = picture.blurry.float() / 255
    with torch.inference_mode():
        found = candidates(blurry, (estimate_kernels(blurry),))
        return (found.float() * 255).round().to(torch.uint8).clone()


ADDITIONS: Mapping[str, Addition] = {"undone": undone}
"""By the name that a recipe's `pictures.candidates` calls it."""
