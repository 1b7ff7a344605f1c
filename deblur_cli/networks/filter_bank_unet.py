"""A U-Net that restores by choosing, pixel by pixel, among the answers of a bank of inverse filters.

Our own network, made to learn from little: deblurring one photo means recognising its blur and undoing it. Undoing a
known blur needs no learning, so a bank of regularised inverse filters, one for each direction and length of straight
motion, runs over the picture at full, half and quarter scale, as the first layer. A small dense U-Net sees the picture,
the bank's answers and their local energies (blur shows as directions and scales that lack energy), and predicts, for
every pixel, how much of each answer to add, plus a residual of its own. The filters start as Wiener inverses and are
trained along with everything else; weights of the answers start at zero, so that an untrained network returns its
input. docs/explanation/filter-bank.md tells more, with the ablation.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Shapes, Traits

DIRECTIONS = 8
LENGTHS_PX = ((2.5, 4.0), (2.5, 9.0), (5.5, 14.0))
"""Shortest and longest motion undone at full, half and quarter scale, in pixels of that scale."""
BANK_RATE = 0.1
"""Banks are stored divided by it: Adam's steps do not scale with a parameter, and at full rate it tears up filters."""
NOISE_TO_SIGNAL = 0.05
"""Regularisation of the inverses, relative to the spectrum of natural pictures (falling with the frequency squared)."""


@dataclass(frozen=True)
class FilterBankUNetConfig:
    """Hyper-parameters: `channels` at 1/2, 1/4, 1/8 … of the picture's scale; the last is the middle's.

    `encoder_blocks` and `decoder_blocks` have one count for each scale but the last. `filters` and `filter_sides_px`
    (odd) describe the banks at full, half and quarter scale.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    encoder_blocks: tuple[int, ...] = (0, 1, 1)
    middle_blocks: int = 3
    decoder_blocks: tuple[int, ...] = (1, 1, 1)
    filters: tuple[int, int, int] = (16, 32, 32)
    filter_sides_px: tuple[int, int, int] = (11, 21, 21)


class ResidualBlock(nn.Module):
    """Two dense 3×3 convolutions with GELU between, added to their input; the second starts at zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        _start_at_zero(self.second)

    def forward(self, features: Tensor) -> Tensor:
        """Returns features of the same shape."""
        result: Tensor = features + self.second(F.gelu(self.first(features)))
        return result


class FilterBankUNet(nn.Module):
    """The network: (B, 3, H, W) in [0, 1] to the same shape; sides multiples of `size_multiple(config)`."""

    def __init__(self, config: FilterBankUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        full, half, quarter = (
            nn.Parameter(inverse_filters(count, side, lengths) / BANK_RATE)
            for count, side, lengths in zip(config.filters, config.filter_sides_px, LENGTHS_PX, strict=True)
        )
        self.bank_full, self.bank_half, self.bank_quarter = full, half, quarter
        self.stem = nn.Conv2d(12 + len(half), channels[0], 3, padding=1)
        self.join_quarter = nn.Conv2d(len(quarter), channels[1], 1)
        self.encoders = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, config.encoder_blocks, strict=False))
        self.downs = nn.ModuleList(nn.Conv2d(a, b, 2, 2) for a, b in pairwise(channels))
        self.middle = _blocks(channels[-1], config.middle_blocks)
        self.join_energy = nn.Sequential(
            nn.Conv2d(2 * sum(config.filters), channels[-1], 1), nn.GELU(), nn.Conv2d(channels[-1], channels[-1], 1)
        )
        self.ups = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(channels))
        self.decoders = nn.ModuleList(_blocks(c, n) for c, n in zip(channels, config.decoder_blocks, strict=False))
        self.residual = nn.Conv2d(channels[0], 12, 3, padding=1)
        self.weigh_half = nn.Conv2d(channels[0], len(full) + len(half), 1)
        self.weigh_quarter = nn.Conv2d(channels[1], len(quarter), 1)
        for head in (self.residual, self.weigh_half, self.weigh_quarter):
            _start_at_zero(head)

    def forward(self, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape; not clipped."""
        half = F.avg_pool2d(blurry, 2)
        answers_full = filter_planes(blurry.mean(1, keepdim=True), self.bank_full * BANK_RATE)
        answers_half = filter_planes(half, self.bank_half * BANK_RATE)
        answers_quarter = filter_planes(F.avg_pool2d(half, 2), self.bank_quarter * BANK_RATE)
        energies = log_energies((answers_full, answers_half, answers_quarter), size_multiple(self.config))
        # The factor brings the answers, which are small corrections, near the picture's own range.
        seen = torch.cat((F.pixel_unshuffle(blurry, 2), 4 * answers_half.mean(1)), dim=1)
        fine, coarse = self._features(self.stem(seen), 4 * answers_quarter.mean(1), energies)
        weights = self.weigh_half(fine)
        count = len(self.bank_full)
        weights_full = F.interpolate(weights[:, :count], scale_factor=2.0, mode="bilinear")
        correction = (answers_full * weights_full[:, None]).sum(2)
        correction = correction + _raise((answers_half * weights[:, None, count:]).sum(2), 2)
        correction = correction + _raise((answers_quarter * self.weigh_quarter(coarse)[:, None]).sum(2), 4)
        return blurry + correction + F.pixel_shuffle(self.residual(fine), 2)

    def _features(self, features: Tensor, answers_quarter: Tensor, energies: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the decoder's features at half and at quarter scale."""
        skips = []
        for level, (encoder, down) in enumerate(zip(self.encoders, self.downs, strict=True)):
            features = encoder(features)
            skips.append(features)
            features = down(features)
            if level == 0:
                features = features + self.join_quarter(answers_quarter)
        features = coarse = self.middle(features + self.join_energy(energies))
        for level in reversed(range(len(skips))):
            features = self.decoders[level](F.pixel_shuffle(self.ups[level](features), 2) + skips[level])
            if level == 1:
                coarse = features
        return features, coarse


def _start_at_zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def _raise(picture: Tensor, factor: int) -> Tensor:
    return F.interpolate(picture, scale_factor=float(factor), mode="bilinear")


def filter_planes(picture: Tensor, bank: Tensor) -> Tensor:
    """Returns the answers (B, C, N, H, W) of a bank (N, 1, k, k) to each plane of a picture (B, C, H, W).

    The border is continued by repetition.
    """
    count, planes, height, width = picture.shape
    reach = bank.shape[-1] // 2
    padded = F.pad(picture, (reach, reach, reach, reach), mode="replicate")
    answers = F.conv2d(padded.reshape(count * planes, 1, *padded.shape[2:]), bank)
    return answers.reshape(count, planes, len(bank), height, width)


def log_energies(answers: tuple[Tensor, Tensor, Tensor], cell_px: int) -> Tensor:
    """Returns the local energies of the banks' answers (at scales 1, 1/2, 1/4) as (B, 2·ΣN, H/cell, W/cell).

    Mean squares over cells of `cell_px`, then again over 5×5 cells, as logarithms brought near unit range; an energy
    of 1e-6 (an answer of a thousandth of white) counts as nothing.
    """
    cells = [
        F.avg_pool2d(answer.float().mean(1).square(), cell_px // scale)
        for answer, scale in zip(answers, (1, 2, 4), strict=True)
    ]
    near = torch.cat(cells, dim=1)
    wide = F.avg_pool2d(F.pad(near, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    return 0.3 * (torch.log(torch.cat((near, wide), dim=1) + 1e-6) + 9)


def inverse_filters(count: int, side_px: int, lengths_px: tuple[float, float]) -> Tensor:
    """Returns `count` filters (count, 1, side, side) that undo straight motions: what to *add* to the picture.

    Lengths are spaced geometrically over the range, each in `DIRECTIONS` directions. Each filter sums to zero, so a
    flat area stays as it is. Raises ValueError where `count` is no multiple of `DIRECTIONS` or the side is even.
    """
    if count % DIRECTIONS or side_px % 2 == 0:
        raise ValueError(f"{count} filters of side {side_px}: need a multiple of {DIRECTIONS} and an odd side")
    steps = count // DIRECTIONS
    low, high = lengths_px
    lengths = [low * (high / low) ** (i / max(steps - 1, 1)) for i in range(steps)]
    angles = [math.pi * d / DIRECTIONS for d in range(DIRECTIONS)]
    return torch.stack([_inverse(length, angle, side_px) for length in lengths for angle in angles])[:, None]


def _inverse(length_px: float, angle: float, side_px: int) -> Tensor:
    """Returns the regularised inverse of a straight motion, minus the identity, windowed to (side, side)."""
    size = 64
    transfer = torch.fft.fft2(_line(length_px, angle, size))
    omega = 2 * math.pi * torch.fft.fftfreq(size)
    squared = 4 - 2 * torch.cos(omega)[:, None] - 2 * torch.cos(omega)[None, :]
    wiener = transfer.conj() / (transfer.abs() ** 2 + NOISE_TO_SIGNAL * (squared + 0.02))
    centre = side_px // 2
    kernel = torch.roll(torch.fft.ifft2(wiener).real, (centre, centre), (0, 1))[:side_px, :side_px]
    offset = torch.arange(side_px) - float(centre)
    radius = torch.hypot(offset[:, None], offset[None, :]) / (side_px / 2 + 0.5)
    kernel = kernel * torch.sqrt(0.5 + 0.5 * torch.cos(math.pi * radius.clamp(0, 1)))
    kernel[centre, centre] -= kernel.sum()
    return kernel


def _line(length_px: float, angle: float, size: int) -> Tensor:
    """Returns the kernel of a straight motion centred on the origin, wrapped around, (size, size), sum one."""
    kernel = torch.zeros(size, size)
    moments = torch.linspace(-0.5, 0.5, max(int(8 * length_px), 2)) * length_px
    x, y = moments * math.cos(angle), moments * math.sin(angle)
    left, top = torch.floor(x).long(), torch.floor(y).long()
    right_share, low_share = x - left, y - top
    for column, across in ((left, 1 - right_share), (left + 1, right_share)):
        for row, down in ((top, 1 - low_share), (top + 1, low_share)):
            kernel.index_put_((row % size, column % size), across * down, accumulate=True)
    return kernel / len(moments)


def size_multiple(config: FilterBankUNetConfig) -> int:
    """Returns what sides must be multiples of."""
    return int(2 ** len(config.channels))


def _infer(shapes: Shapes) -> FilterBankUNetConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""
    if not {"bank_full", "bank_half", "bank_quarter", "stem.weight"} <= shapes.keys():
        return None

    def count(pattern: str) -> int:
        return len({m.group(1) for key in shapes if (m := re.fullmatch(pattern, key))})

    levels = count(r"downs\.(\d+)\.weight")
    try:
        banks = [shapes[f"bank_{scale}"] for scale in ("full", "half", "quarter")]
        config = FilterBankUNetConfig(
            channels=(shapes["stem.weight"][0], *(shapes[f"downs.{i}.weight"][0] for i in range(levels))),
            encoder_blocks=tuple(count(rf"encoders\.{i}\.(\d+)\.first\.weight") for i in range(levels)),
            middle_blocks=count(r"middle\.(\d+)\.first\.weight"),
            decoder_blocks=tuple(count(rf"decoders\.{i}\.(\d+)\.first\.weight") for i in range(levels)),
            filters=(banks[0][0], banks[1][0], banks[2][0]),
            filter_sides_px=(banks[0][-1], banks[1][-1], banks[2][-1]),
        )
        with torch.device("meta"):
            expected = {key: tuple(value.shape) for key, value in FilterBankUNet(config).state_dict().items()}
    except (KeyError, IndexError, ValueError, RuntimeError):
        return None
    return config if expected == dict(shapes) else None


def _default_traits(config: FilterBankUNetConfig) -> Traits:
    return Traits(size_multiple=size_multiple(config), overlap_px=64, reach_px=45.0)


ARCHITECTURE = Architecture(
    name="filter-bank-unet",
    kind=InputKind.SINGLE,
    config=FilterBankUNetConfig,
    build=FilterBankUNet,
    infer=_infer,
    default_traits=_default_traits,
)
