from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from deblur_cli.training.config import LossConfig
from deblur_cli.training.tasks import Batch, RestoreTask, Validator


class Lighter(nn.Module):
    def forward(self, picture: Tensor) -> Tensor:
        return picture + 2 / 255


def test_pictures_at_rest_are_judged_apart() -> None:
    """Levels of grey: two are 8 and 4 too dark, and one is right; the network adds 2."""
    truth = torch.full((3, 3, 8, 8), 100 / 255)
    blurry = truth - torch.tensor([8.0, 4.0, 0.0]).view(3, 1, 1, 1) / 255
    validator = Validator([Batch((blurry,), truth)], RestoreTask(LossConfig()), torch.device("cpu"), torch.float32)
    seen = validator(Lighter(), 7)
    assert seen is not None
    assert (seen.patches, seen.made_worse, seen.step) == (2, 0, 7)
    assert seen.gain == pytest.approx((2.5 + 6.02) / 2, abs=0.02)
    assert seen.at_rest_psnr == pytest.approx(42.1, abs=0.05)
    moved = Validator([Batch((blurry[:2],), truth[:2])], validator.task, validator.device, validator.dtype)
    alone = moved(Lighter(), 7)
    assert alone is not None
    assert alone.at_rest_psnr is None
