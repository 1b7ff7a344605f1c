"""What is found out about whole pictures before a training and kept beside them: one line each."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from deblur_cli.training.whole_pictures import WholePicture

Addition = Callable[[WholePicture], Tensor]
"""Makes one array of a picture; must follow from the picture alone. (C, H, W) uint8 or float16 where it is a candidate:
a picture that the network is shown beside the blurry one, cut and turned with it. uint8 stands for [0, 1]."""

ADDITIONS: Mapping[str, Addition] = {}
"""By the name that a recipe's `pictures.candidates` calls it."""
