"""What DeblurRNN, DeblurMerger and their discriminator are made of: 5×5 convolutions of stride 2, normalised twice.

Source: section III-A of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs: convolution, spectral
norm on its weights, batch norm on its output, LeakyReLU; dropout in the decoder; skips concatenated.

Spectral norm (Miyato et al., 2018) is computed here rather than by PyTorch's parametrisation, so that a state dict has
the same names in training and in use: `weight` as it is trained, and `left`, the estimated first left singular vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

KERNEL_PX, STRIDE = 5, 2
SLOPE = 0.2
"""Of LeakyReLU; the paper names none. It is that of pix2pix, after whose U-Net these are built."""
DEVIATION = 0.02
"""Of the Gaussian that weights start from, section IV-A."""
DROPOUT = 0.2
"""The paper names no rate. Half, as in pix2pix, is for a few hundred pictures; what a shutter makes does not repeat."""
SMALLEST = 1e-12


class SpectralConv(nn.Conv2d):
    """A 5×5 convolution without bias whose weights are divided by their largest singular value."""

    left: Tensor

    def __init__(self, inputs: int, outputs: int, stride: int = STRIDE) -> None:
        super().__init__(inputs, outputs, KERNEL_PX, stride, KERNEL_PX // 2, bias=False)
        nn.init.normal_(self.weight, std=DEVIATION)
        self.register_buffer("left", _unit(torch.empty(outputs).normal_()))

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        weight = self.weight / largest_singular_value(self.weight.flatten(1), self.left, self.training)
        return F.conv2d(features, weight, None, self.stride, KERNEL_PX // 2)


class SpectralUpConv(nn.ConvTranspose2d):
    """A 5×5 transposed convolution of stride 2 without bias, its weights divided by their largest singular value."""

    left: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, KERNEL_PX, STRIDE, KERNEL_PX // 2, output_padding=1, bias=False)
        nn.init.normal_(self.weight, std=DEVIATION)
        self.register_buffer("left", _unit(torch.empty(outputs).normal_()))

    def forward(self, features: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Returns features (B, outputs, 2 · H, 2 · W)."""
        weight = self.weight / largest_singular_value(self.weight.transpose(0, 1).flatten(1), self.left, self.training)
        return F.conv_transpose2d(features, weight, None, STRIDE, KERNEL_PX // 2, output_padding=1)


def largest_singular_value(matrix: Tensor, left: Tensor, improve: bool) -> Tensor:
    """Returns the estimated largest singular value, float32, differentiable in the matrix (n, m) alone.

    `left` (n,) estimates the first left singular vector, of any length; with `improve` one power iteration makes it
    better in place. Products and sums are float32 whatever autocast is set to: it leaves these operations alone.
    """
    matrix = matrix.float()
    with torch.no_grad():
        u = _unit(left.float())
        v = _unit((matrix * u[:, None]).sum(0))
        if improve:
            u = _unit((matrix * v).sum(1))
            left.copy_(u)
    return (matrix * (u[:, None] * v)).sum().clamp_min(SMALLEST)


def _unit(vector: Tensor) -> Tensor:
    return vector / vector.square().sum().sqrt().clamp_min(SMALLEST)


class BatchNorm(nn.Module):
    """Normalises each channel over the batch and the plane in training, by running figures otherwise.

    PyTorch's own, without its count of batches: an integer among the weights, of use only without a momentum.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape. In training a channel needs two values, else ValueError."""
        return F.batch_norm(
            features, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum=0.1
        )


class StridedBlock(nn.Module):
    """Features at half the size, or at the same with `stride` 1: convolution, norms, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = STRIDE) -> None:
        super().__init__()
        self.conv = SpectralConv(inputs, outputs, stride)
        self.norm = BatchNorm(outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, outputs, ⌈H / stride⌉, ⌈W / stride⌉)."""
        return F.leaky_relu(self.norm(self.conv(features)), SLOPE)


class FirstBlock(nn.Module):
    """Features of a picture at half its size; neither spectral nor batch norm, as figure 2 says."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, KERNEL_PX, STRIDE, KERNEL_PX // 2)
        nn.init.normal_(self.conv.weight, std=DEVIATION)
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]  # it has one

    def forward(self, picture: Tensor) -> Tensor:
        """Returns features (B, outputs, ⌈H / 2⌉, ⌈W / 2⌉) of a picture in [0, 1]; to them grey is zero."""
        return F.leaky_relu(self.conv(2 * picture - 1), SLOPE)


class UpBlock(nn.Module):
    """Features at twice the size: transposed convolution, norms, dropout where asked for, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int, drop: bool) -> None:
        super().__init__()
        self.conv = SpectralUpConv(inputs, outputs)
        self.norm = BatchNorm(outputs)
        self.drop = drop

    def forward(self, features: Tensor) -> Tensor:
        """Returns features (B, outputs, 2 · H, 2 · W)."""
        features = self.norm(self.conv(features))
        if self.drop:
            features = F.dropout(features, DROPOUT, self.training)
        return F.leaky_relu(features, SLOPE)


class Encoder(nn.Module):
    """Features of `inputs` channels of pictures at 1/2, 1/4, 1/8 … of their size."""

    def __init__(self, inputs: int, channels: tuple[int, ...]) -> None:
        """Raises ValueError where there are no channels."""
        super().__init__()
        if not channels:
            raise ValueError("an encoder needs channels for one scale at least")
        self.first = FirstBlock(inputs, channels[0])
        self.rest = nn.ModuleList(StridedBlock(a, b) for a, b in pairwise(channels))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Returns the features of every scale, finest first; the last is the bottleneck."""
        features = [self.first(pictures)]
        for block in self.rest:
            features.append(block(features[-1]))
        return features


class Decoder(nn.Module):
    """A picture from a bottleneck and the features of `encoders` encoders, concatenated after each block.

    At full scale the encoder's layer is the picture itself: each restored channel takes a learnt share of every channel
    of the given pictures (`shares`). The block before it, whose result is added, has neither norm nor LeakyReLU. Half
    of the blocks, the coarser ones, have dropout: nearer to the picture it would only be noise.
    """

    def __init__(self, channels: tuple[int, ...], encoders: int, shares: Sequence[float]) -> None:
        """`shares` are what the restored picture starts as: a part of each given picture."""
        super().__init__()
        levels = len(channels)
        widths = [channels[-1], *((1 + encoders) * c for c in channels[-2::-1])]
        self.blocks = nn.ModuleList(
            UpBlock(inputs, outputs, drop=number < levels // 2)
            for number, (inputs, outputs) in enumerate(zip(widths[:-1], channels[-2::-1], strict=True))
        )
        self.last = nn.ConvTranspose2d(widths[-1], 3, KERNEL_PX, STRIDE, KERNEL_PX // 2, output_padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]  # it has one
        self.shares = nn.Conv2d(3 * len(shares), 3, 1, bias=False)
        with torch.no_grad():
            self.shares.weight.copy_(torch.cat([share * torch.eye(3) for share in shares], 1)[:, :, None, None])

    def forward(self, bottleneck: Tensor, skips: Sequence[Tensor], pictures: Tensor) -> Tensor:
        """Returns the picture (B, 3, H, W), not clipped.

        `skips` are the encoders' features, concatenated, finest first, without the bottleneck; `pictures`
        (B, 3 · n, H, W).
        """
        features = bottleneck
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            features = torch.cat((block(features), skip), 1)
        result: Tensor = self.last(features) + self.shares(pictures)
        return result
