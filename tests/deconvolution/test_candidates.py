import pytest
import torch

from deblur_cli.deconvolution import candidates as module
from deblur_cli.deconvolution.candidates import COUNT, candidates
from deblur_cli.deconvolution.estimate import BlurKernels, luma
from deblur_cli.deconvolution.wiener import undo
from tests.deconvolution.scenes import blocks, blurred, hook

EVERYWHERE = (slice(0, 600), slice(0, 640))


def test_undoing_the_true_kernel_brings_the_picture_nearer_to_the_truth() -> None:
    sharp = blocks()
    blurry = luma(blurred(sharp, hook(), noise=0.002, exponent=1.0))
    restored = undo(blurry, hook(), (0.03,))[0]
    inside = (slice(20, -20), slice(20, -20))
    before, after = ((picture - luma(sharp))[inside].square().mean() for picture in (blurry, restored))
    assert after < 0.4 * before


def test_undoing_no_blur_softly_changes_little() -> None:
    grey = luma(blocks())
    point = torch.zeros(9, 9)
    point[4, 4] = 1
    sharp, soft = undo(grey, point, (1e-4, 0.2))
    assert (sharp - grey).abs().max() < 0.01
    assert (soft - grey).square().mean() > (sharp - grey).square().mean()


def test_there_is_one_for_each_kernel_and_regularisation() -> None:
    picture = blurred(blocks(120, 140), hook(15, 4))
    found = candidates(picture, (BlurKernels((hook(15, 4), hook(15, 2), hook(15, 3)), 1.0, EVERYWHERE),))
    assert found.shape == (COUNT, 120, 140)
    assert found.dtype == torch.float16
    assert found.min() >= 0
    assert found.max() <= 1


def test_blocks_fade_into_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = blurred(blocks(600, 640), hook(25))
    blur = (BlurKernels((hook(25),) * 3, 1.0, EVERYWHERE),)
    whole = candidates(picture, blur).float()
    monkeypatch.setattr(module, "BLOCK_PX", 320)
    parts = candidates(picture, blur).float()
    # Ripples from a block's own border differ, but nowhere steps by more than elsewhere.
    assert (whole - parts).square().mean().sqrt() < 1.5 / 255
    step = (whole - parts).diff(dim=1).abs().amax((0, 2))
    assert step[295:305].max() <= step.max()
    assert step[299] < 4 / 255


def test_a_constant_stays_constant_over_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_PX", 260)
    blur = (BlurKernels((hook(15, 4),) * 3, 1.0, EVERYWHERE),)
    found = candidates(torch.full((3, 500, 310), 0.5), blur)
    assert (found.float() - 0.5).abs().max() < 2e-3


def test_each_block_takes_the_kernels_found_nearest_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_PX", 320)
    picture = blurred(blocks(320, 640), hook(25))
    left = BlurKernels((hook(25),) * 3, 1.0, (slice(0, 320), slice(0, 320)))
    right = BlurKernels((hook(15, 2),) * 3, 1.0, (slice(0, 320), slice(320, 640)))
    both, lefts, rights = (candidates(picture, blurs) for blurs in ((left, right), (left,), (right,)))
    assert torch.equal(both[..., :250], lefts[..., :250])
    assert torch.equal(both[..., 390:], rights[..., 390:])
    assert not torch.equal(lefts[..., :250], rights[..., :250])
