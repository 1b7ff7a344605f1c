"""A network that recognises the blur in the picture's spectrum, undoes it with a bank of inverse filters, and refines.

Our own network, made to learn from little. Deblurring one photo means recognising its blur and undoing it:

1. *Recognise.* Motion leaves its length and direction in the power spectrum. The spectra of windows of 224 px, and what
   they have in common, go through a small perceptron that gives one weight for each filter (`blur_selector`).
2. *Undo.* Undoing a known blur needs no learning: regularised inverses of straight motions, 8 directions by several
   lengths at full, half and quarter scale, are mixed with these weights into one candidate. Since the error of a mix
   is quadratic in its weights, the perceptron can be fitted to thousands of patches in a minute.
3. *Refine.* A small dense U-Net sees picture and candidate, and says for every pixel how much of the candidate's
   change to keep (noise, clipped lights and what moves otherwise want less) and what to add.

A network of `candidates` is shown further ones beside: the photo with kernels undone that were estimated from all of
it (`deconvolution`). They know curved and long paths, which straight filters do not, and are sometimes wrong
altogether; how much of each to keep is the U-Net's to say, pixel by pixel.

Untrained, the network returns its input. docs/explanation/filter-bank.md tells more, with the ablations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.blur_selector import DIRECTIONS, STEP_PX, BlurSelector, weights_everywhere
from deblur_cli.networks.contract import Architecture, InputKind, Shapes, Traits
from deblur_cli.networks.residual_unet import ResidualUNet, ResidualUNetConfig, layout_in, start_at_zero
from deblur_cli.networks.shapes import config_if_exact

LENGTHS_PX = ((2.5, 4.0), (2.5, 9.0), (5.5, 14.0))
"""Shortest and longest motion undone at full, half and quarter scale, in pixels of that scale."""
BANK_RATE = 0.1
"""Banks are stored divided by it: Adam's steps do not scale with a parameter, and at full rate it tears up filters."""
MOST_FILTERS, LARGEST_SIDE_PX = 1024, 255
"""Beyond these a weight file's bank is forged: they are computed to compare shapes, which would take minutes and
gigabytes."""
SEEN_PLANES = 24
"""Picture and change in three colours each, at half the scale; those of the candidates come after."""
NOISE_TO_SIGNAL = 0.05
"""Regularisation of the inverses, relative to the spectrum of natural pictures (falling with the frequency squared)."""


@dataclass(frozen=True)
class FilterBankUNetConfig(ResidualUNetConfig):
    """Hyper-parameters of the U-Net, and of what is before it.

    `filters` and `filter_sides_px` (odd) describe the banks at full, half and quarter scale; `selector_width` is the
    perceptron's. `candidates`: how many estimates of the luma from elsewhere it is shown.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    encoder_blocks: tuple[int, ...] = (0, 1, 1)
    middle_blocks: int = 3
    decoder_blocks: tuple[int, ...] = (1, 1, 1)
    filters: tuple[int, int, int] = (16, 32, 32)
    filter_sides_px: tuple[int, int, int] = (11, 21, 21)
    selector_width: int = 192
    candidates: int = 0


class FilterBankUNet(ResidualUNet):
    """The network: (B, 3, H, W) in [0, 1] to the same shape; sides multiples of `size_multiple(config)`."""

    def __init__(self, config: FilterBankUNetConfig) -> None:
        super().__init__(config)
        self.config = config
        channels = config.channels
        full, half, quarter = (
            nn.Parameter(inverse_filters(count, side, lengths) / BANK_RATE)
            for count, side, lengths in zip(config.filters, config.filter_sides_px, LENGTHS_PX, strict=True)
        )
        self.bank_full, self.bank_half, self.bank_quarter = full, half, quarter
        self.selector = BlurSelector(config.selector_width, sum(config.filters) // DIRECTIONS)
        self.stem = nn.Conv2d(SEEN_PLANES + 4 * config.candidates, channels[0], 3, padding=1)
        self.residual = nn.Conv2d(channels[0], 12, 3, padding=1)
        self.trust = nn.Conv2d(channels[0], 12, 3, padding=1)
        start_at_zero(self.residual)
        start_at_zero(self.trust)
        if config.candidates:
            self.shares = nn.Conv2d(channels[0], 4 * config.candidates, 3, padding=1)
            start_at_zero(self.shares)

    def forward(self, blurry: Tensor, weights: Tensor | None = None, candidates: Tensor | None = None) -> Tensor:
        """Returns the restored picture, same shape; not clipped.

        `weights` (B, N, rows, columns) of the filters, at the centres of windows, take the place of the selector's own:
        a training on windows of a picture knows what the whole picture calls for. `candidates` (B, C, H, W) are
        estimates of the sharp luma, as many as the configuration says; without them there are none to choose from.
        """
        change = self.candidate(blurry, weights)
        # The factor brings the change, which is small, near the picture's own range.
        seen = [F.pixel_unshuffle(blurry, 2), 4 * F.pixel_unshuffle(change, 2)]
        if not self.config.candidates:
            features = self.features(self.stem(torch.cat(seen, dim=1)))
            return self._refined(blurry, change, features)
        changes = self._changes(blurry, candidates)
        features = self.features(self.stem(torch.cat((*seen, 4 * F.pixel_unshuffle(changes, 2)), dim=1)))
        kept = (F.pixel_shuffle(self.shares(features), 2) * changes).sum(1, keepdim=True)
        return self._refined(blurry, change, features) + kept

    def _refined(self, blurry: Tensor, change: Tensor, features: Tensor) -> Tensor:
        trust = 2 * torch.sigmoid(F.pixel_shuffle(self.trust(features), 2))
        return blurry + trust * change + F.pixel_shuffle(self.residual(features), 2)

    def _changes(self, blurry: Tensor, candidates: Tensor | None) -> Tensor:
        """Returns by how much candidates differ from the luma of the picture, (B, C, H, W)."""
        count, _, height, width = blurry.shape
        if candidates is None:
            return blurry.new_zeros(count, self.config.candidates, height, width)
        red, green, blue = blurry.unbind(1)
        return candidates.to(blurry.dtype) - (0.299 * red + 0.587 * green + 0.114 * blue)[:, None]

    def candidate(self, blurry: Tensor, weights: Tensor | None = None) -> Tensor:
        """Returns what the recognised mix of inverse filters, or one of given weights, would add to the picture."""
        if weights is None:
            weights = self.selector(blurry.float().mean(1))
        full = (blurry.shape[2], blurry.shape[3])
        changes, first = [], 0
        for number, (picture, bank) in enumerate(self._scales(blurry)):
            changes.append(_raise(_mix(picture, bank, weights[:, first : first + len(bank)], full), 2**number))
            first += len(bank)
        return changes[0] + changes[1] + changes[2]

    def filter_responses(self, blurry: Tensor) -> Tensor:
        """Returns what each filter by itself would add to the picture, (B, N, 3, H, W)."""
        added = []
        for number, (picture, bank) in enumerate(self._scales(blurry)):
            raised = _raise(_filter_responses(picture, bank).transpose(1, 2).flatten(1, 2), 2**number)
            each = raised.reshape(len(blurry), len(bank), -1, *blurry.shape[2:])
            added.append(each.expand(-1, -1, blurry.shape[1], -1, -1))
        return torch.cat(added, 1)

    def _scales(self, blurry: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
        """Returns what each bank responds to, and the bank: at full scale (grey alone), half and quarter."""
        half = F.avg_pool2d(blurry, 2)
        grey = blurry.mean(1, keepdim=True)
        return (grey, self.bank_full), (half, self.bank_half), (F.avg_pool2d(half, 2), self.bank_quarter)


def _raise(picture: Tensor, factor: int) -> Tensor:
    return picture if factor == 1 else F.interpolate(picture, scale_factor=float(factor), mode="bilinear")


def _mix(picture: Tensor, bank: Tensor, weights: Tensor, full: tuple[int, int]) -> Tensor:
    """Returns the responses of a bank (N, 1, k, k) to each plane of a picture (B, C, H, W), summed with these weights.

    `weights` (B, N, rows, columns) are those at the windows' centres and interpolated between. Filters of one weight
    for the whole picture are mixed first and run once, which is the same and N times cheaper.
    """
    if weights.shape[2:] != (1, 1):
        everywhere = weights_everywhere(weights, full, (picture.shape[2], picture.shape[3]))
        return (_filter_responses(picture, bank) * everywhere[:, None]).sum(2)
    count, planes = picture.shape[:2]
    mixed = torch.einsum("bn,nckl->bckl", weights[:, :, 0, 0], bank * BANK_RATE).to(picture.dtype)
    padded = _continued(picture, bank)
    responses = F.conv2d(
        padded.reshape(1, count * planes, *padded.shape[2:]), mixed.repeat_interleave(planes, 0), groups=count * planes
    )
    return responses.reshape(picture.shape)


def _filter_responses(picture: Tensor, bank: Tensor) -> Tensor:
    """Returns the responses (B, C, N, H, W) of a bank (N, 1, k, k) to each plane of a picture (B, C, H, W)."""
    count, planes, height, width = picture.shape
    padded = _continued(picture, bank)
    responses = F.conv2d(padded.reshape(count * planes, 1, *padded.shape[2:]), bank * BANK_RATE)
    return responses.reshape(count, planes, len(bank), height, width)


def _continued(picture: Tensor, bank: Tensor) -> Tensor:
    """Returns the picture with its border repeated as far as the bank's filters reach."""
    reach = bank.shape[-1] // 2
    return F.pad(picture, (reach, reach, reach, reach), mode="replicate")


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


def without_candidates(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the weights of the network that restores as one with these does when it is shown no candidates."""
    kept = {name: value for name, value in weights.items() if not name.startswith("shares.")}
    kept["stem.weight"] = kept["stem.weight"][:, :SEEN_PLANES]
    return kept


def size_multiple(config: FilterBankUNetConfig) -> int:
    """Returns what sides must be multiples of."""
    return int(2 ** len(config.channels))


def _config_in(shapes: Shapes) -> FilterBankUNetConfig:
    """Returns the configuration. Raises KeyError, IndexError or ValueError for shapes of another network."""
    full, half, quarter = (shapes[f"bank_{scale}"] for scale in ("full", "half", "quarter"))
    if any(bank[0] > MOST_FILTERS or bank[-1] > LARGEST_SIDE_PX for bank in (full, half, quarter)):
        raise ValueError("a forged file must not make us compute filters for minutes")
    return FilterBankUNetConfig(
        *layout_in(shapes),
        filters=(full[0], half[0], quarter[0]),
        filter_sides_px=(full[-1], half[-1], quarter[-1]),
        selector_width=shapes["selector.layers.0.weight"][0],
        candidates=shapes["shares.weight"][0] // 4 if "shares.weight" in shapes else 0,
    )


def _default_traits(config: FilterBankUNetConfig) -> Traits:
    # Tiles that start at multiples of the windows' step see the windows that the whole picture has.
    multiple = math.lcm(size_multiple(config), STEP_PX)
    return Traits(size_multiple=multiple, overlap_px=STEP_PX, reach_px=45.0, candidates=config.candidates)


ARCHITECTURE = Architecture(
    name="filter-bank-unet",
    kind=InputKind.SINGLE,
    config=FilterBankUNetConfig,
    build=FilterBankUNet,
    infer=partial(config_if_exact, FilterBankUNet, _config_in),
    default_traits=_default_traits,
)
