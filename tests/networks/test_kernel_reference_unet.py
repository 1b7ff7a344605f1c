from __future__ import annotations

import pytest
import torch
from torch import Tensor

from deblur_cli.networks.contract import ReferenceOutput
from deblur_cli.networks.kernel_reference_unet import KernelReferenceUNet, KernelReferenceUNetConfig
from tests.networks.test_kernel_fusion import cut, moved, psnr, texture

TINY = KernelReferenceUNetConfig(channels=(8, 8, 16), encoder_blocks=(1, 0), middle_blocks=1, decoder_blocks=(0, 1))


def network(seed: int = 0) -> KernelReferenceUNet:
    torch.manual_seed(seed)
    return KernelReferenceUNet(TINY).eval()


def scene(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a sharp picture that stood 14 px to the left, the blurry query, and the query's truth."""
    sharp = texture(seed)
    reference, query, truth = cut(sharp, moved(sharp, 9, late=10), torch.roll(sharp, 14, 3))
    return reference, query, truth


@torch.inference_mode()
def test_untrained_it_takes_the_detail_of_a_displaced_reference() -> None:
    reference, query, truth = scene(2)
    inside = (..., slice(32, -32), slice(32, -32))
    assert psnr(network()(query, reference)[inside], truth[inside]) > psnr(query[inside], truth[inside]) + 5


@torch.inference_mode()
def test_its_confidence_and_flow_say_what_was_borrowed_from_where() -> None:
    reference, query, _ = scene(2)
    output = network()(query, reference, with_confidence=True)
    assert isinstance(output, ReferenceOutput)
    assert torch.equal(output.restored, network()(query, reference))
    assert output.confidence.shape == (1, 1, *query.shape[2:])
    assert float(output.confidence.amin()) >= 0
    assert float(output.confidence.amax()) <= 1
    middle = output.flow[0, :, 96, 96].tolist()
    assert middle == pytest.approx([-14, 0], abs=1)
    elsewhere = network()(query, texture(7)[..., 48:-48, 48:-48], with_confidence=True)
    assert float(elsewhere.confidence.mean()) < float(output.confidence.mean()) - 0.2


@torch.inference_mode()
def test_where_nothing_is_believed_the_query_alone_stands() -> None:
    doubting = network()
    torch.nn.init.normal_(doubting.residual.weight)
    reference, query, _ = scene(3)
    alone = doubting.single(query).clamp(0, 1)
    assert (doubting(query, reference) - alone).abs().max() > 0.01
    doubting.trust.bias.fill_(-60.0)
    torch.testing.assert_close(doubting(query, reference), alone)
