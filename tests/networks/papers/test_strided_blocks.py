from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from deblur_cli.networks.papers.strided_blocks import (
    SLOPE,
    BatchNorm,
    Decoder,
    Encoder,
    FirstBlock,
    SpectralConv,
    SpectralUpConv,
    StridedBlock,
    UpBlock,
    largest_singular_value,
)


def settled(layer: SpectralConv | SpectralUpConv, features: torch.Tensor) -> torch.Tensor:
    """Returns the layer's answer after as many steps of training as its singular vector needs."""
    layer.train()
    with torch.no_grad():
        for _ in range(300):
            layer(features)
    return layer.eval()(features)


def test_batch_norm_of_a_single_value_is_refused_in_training() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm(4).train()(torch.rand(1, 4, 1, 1))


def test_the_largest_singular_value_is_that_of_linear_algebra() -> None:
    torch.manual_seed(0)
    matrix, left = torch.randn(6, 40), torch.randn(6)
    for _ in range(200):
        value = largest_singular_value(matrix, left, improve=True)
    assert torch.allclose(value, torch.linalg.matrix_norm(matrix, 2), rtol=1e-5)
    assert torch.allclose(largest_singular_value(matrix, 0.1 * left, improve=False), value, rtol=1e-5)


def test_a_first_guess_is_kept_when_not_improved_and_weights_of_zero_give_numbers() -> None:
    left = torch.tensor([3.0, 4.0])
    matrix = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    value = largest_singular_value(matrix, left, improve=False)
    assert value == pytest.approx((0.6**2 + 1.6**2) ** 0.5)
    assert torch.equal(left, torch.tensor([3.0, 4.0]))
    assert largest_singular_value(torch.zeros(2, 2), left, improve=True) > 0


def test_the_gradient_is_that_of_the_norm() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(4, 9, requires_grad=True)
    u, _, v = torch.linalg.svd(matrix.detach(), full_matrices=False)
    (gradient,) = torch.autograd.grad(largest_singular_value(matrix, u[:, 0].clone(), improve=True), matrix)
    assert torch.allclose(gradient, u[:, :1] * v[:1], atol=1e-5)


@pytest.mark.parametrize("layer", [SpectralConv, SpectralUpConv])
def test_weights_are_divided_by_their_largest_singular_value(layer: type[SpectralConv] | type[SpectralUpConv]) -> None:
    torch.manual_seed(0)
    conv, features = layer(3, 5), torch.rand(2, 3, 8, 8)
    answer = settled(conv, features)
    outputs_first = conv.weight.detach() if layer is SpectralConv else conv.weight.detach().transpose(0, 1)
    weight = conv.weight / torch.linalg.matrix_norm(outputs_first.flatten(1), 2)
    if layer is SpectralConv:
        expected = F.conv2d(features, weight, stride=2, padding=2)
    else:
        expected = F.conv_transpose2d(features, weight, stride=2, padding=2, output_padding=1)
    assert torch.allclose(answer, expected, atol=1e-5)
    with torch.no_grad():
        conv.weight *= 50
    assert torch.allclose(conv(features), answer, rtol=1e-4, atol=1e-6)


def test_two_forwards_before_one_backward_are_allowed() -> None:
    block = StridedBlock(3, 4).train()
    one, other = torch.rand(2, 2, 3, 8, 8)
    (block(one).mean() - block(other).square().mean()).backward()
    assert block.conv.weight.grad is not None
    assert block.conv.weight.grad.abs().sum() > 0


def test_use_changes_nothing_and_training_does() -> None:
    torch.manual_seed(0)
    block, features = StridedBlock(3, 4), torch.rand(2, 3, 8, 8)
    before = {name: value.clone() for name, value in block.state_dict().items()}
    block.eval()(features)
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())
    block.train()(features)
    changed = {name for name, value in block.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"conv.left", "norm.running_mean", "norm.running_var"}


def test_names_of_weights_are_plain_and_the_same_in_training_and_in_use() -> None:
    block = StridedBlock(3, 4)
    names = ["conv.weight", "conv.left", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"]
    assert list(block.train().state_dict()) == list(block.eval().state_dict()) == names
    assert all(value.is_floating_point() for value in block.state_dict().values())


def test_batch_norm_is_that_of_torch() -> None:
    torch.manual_seed(0)
    ours, theirs = BatchNorm(4).train(), torch.nn.BatchNorm2d(4).train()
    features = 3 * torch.randn(2, 4, 5, 5) + 1
    for _ in range(3):
        assert torch.equal(ours(features), theirs(features))
    assert torch.equal(ours.eval()(features), theirs.eval()(features))


def test_grey_is_nothing_to_the_first_block() -> None:
    block = FirstBlock(3, 4)
    assert block(torch.full((1, 3, 8, 8), 0.5)).abs().max() == 0
    assert torch.allclose(block(torch.ones(1, 3, 8, 8)), F.leaky_relu(block.conv(torch.ones(1, 3, 8, 8)), SLOPE))


def test_dropout_is_for_training_and_for_the_coarser_half() -> None:
    torch.manual_seed(0)
    block, features = UpBlock(3, 8, drop=True), torch.rand(2, 3, 6, 6)
    zeros = (block.train()(features) == 0).float().mean()
    assert 0.1 < zeros < 0.3
    assert (block.eval()(features) == 0).float().mean() < 0.01
    assert [up.drop for up in Decoder((4, 4, 4, 4), 1, (1.0,)).blocks] == [True, True, False]  # type: ignore[union-attr]


@pytest.mark.parametrize(("encoders", "shares"), [(1, (1.0,)), (1, (1.0, 0.0)), (2, (0.5, 0.5))])
def test_an_untrained_decoder_gives_shares_of_the_pictures(encoders: int, shares: tuple[float, ...]) -> None:
    pictures = torch.rand(1, 3 * len(shares), 16, 16)
    *skips, bottleneck = Encoder(3 * len(shares), (4, 8, 8))(pictures)
    skips = [torch.cat([skip] * encoders, 1) for skip in skips]
    restored = Decoder((4, 8, 8), encoders, shares).eval()(bottleneck, skips, pictures)
    expected = sum(share * picture for share, picture in zip(shares, pictures.chunk(len(shares), 1), strict=True))
    assert torch.allclose(restored, torch.as_tensor(expected), atol=1e-6)


def test_bfloat16_products_leave_the_singular_value_exact() -> None:
    torch.manual_seed(0)
    matrix, left = torch.randn(8, 50), torch.randn(8)
    exact = largest_singular_value(matrix, left, improve=False)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(largest_singular_value(matrix, left, improve=False), exact)
