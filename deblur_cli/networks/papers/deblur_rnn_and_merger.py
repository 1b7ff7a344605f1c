"""DeblurRNN and DeblurMerger: a short noisy and a long blurry exposure, one after the other or side by side.

Source: section III-A of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs. DeblurRNN is a net that
denoises the short exposure, then one that deblurs with what it found, joined by a state. Both are encoder-decoders with
weights of their own; the second sees the denoised and the blurry picture. Between each encoder and its decoder lies a
ConvLSTM, whose state goes from the first net to the second. In DeblurMerger each exposure goes through an encoder of
its own; both are merged, and decoded together.

Decided here, since figures 2 and 3 with all widths and depths cannot be read from the text:

- Widths 64 to 512 are those of the pix2pix U-Net. The paper speaks of a bottleneck *vector*: eight halvings of its
  256-px patches. The default stops at six, a 4×4 map. A convolution over a single place trains its middle tap alone,
  batch norm has nothing to average over there, and larger pictures would meet weights that never learnt. Two more
  widths in the configuration give the paper's depth.
- The first cell is given no state, so it has no weights for one: they would never learn.
- Convolutions of the cells are 3×3, without peepholes, and forgetting starts at "no" (bias 1).
- Each decoder's last layer starts at zero, so that untrained nets return the noisy picture, or the mean of both; the
  paper's start, Gaussian like all the rest, would have to unlearn noise of half the range first.
- The merger concatenates both bottlenecks and has two blocks of stride 1 in which to merge them; its decoder is given
  the features of both encoders at every scale, as each holds what the other lacks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Published, Shapes, Traits
from deblur_cli.networks.papers.strided_blocks import DEVIATION, Decoder, Encoder, StridedBlock
from deblur_cli.networks.shapes import config_if_exact, count_names


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Hyper-parameters: `channels` at 1/2, 1/4, 1/8 … of the picture's scale, in each net; the last is the bottleneck.

    The default, of 117 million weights in DeblurRNN and 94 million in DeblurMerger, is for training as in the paper.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512)


class FirstCell(nn.Module):
    """A ConvLSTM's step without a state before it. Source: eq. 3 of Shi et al., ConvLSTM (2015), with zeros for it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels, 3 * channels, 3, padding=1)
        nn.init.normal_(self.gates.weight, std=DEVIATION)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the hidden state, which is the output, and the cell's; both of the features' shape."""
        take, show, new = self.gates(features).chunk(3, 1)
        cell = torch.sigmoid(take) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(cell), cell


class NextCell(nn.Module):
    """A ConvLSTM's step. Source: eq. 3 of Shi et al., ConvLSTM (2015), without peepholes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 4 * channels, 3, padding=1)
        nn.init.normal_(self.gates.weight, std=DEVIATION)

    def forward(self, features: Tensor, hidden: Tensor, cell: Tensor) -> Tensor:
        """Returns the new hidden state, which is the output; all of one shape."""
        take, keep, show, new = self.gates(torch.cat((features, hidden), 1)).chunk(4, 1)
        cell = torch.sigmoid(keep + 1) * cell + torch.sigmoid(take) * torch.tanh(new)
        return torch.sigmoid(show) * torch.tanh(cell)


class DeblurRNN(nn.Module):
    """The network: noisy and blurry (B, 3, H, W) in [0, 1], equally bright; sides multiples of `size_multiple(config)`.

    In training it normalises over the batch; the bottleneck needs two places in it, else ValueError.
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.denoising_encoder = Encoder(3, config.channels)
        self.denoising_cell = FirstCell(config.channels[-1])
        self.denoising_decoder = Decoder(config.channels, encoders=1, shares=(1.0,))
        self.deblurring_encoder = Encoder(6, config.channels)
        self.deblurring_cell = NextCell(config.channels[-1])
        self.deblurring_decoder = Decoder(config.channels, encoders=1, shares=(1.0, 0.0))

    def forward(self, noisy: Tensor, blurry: Tensor, *, every_output: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Returns the restored picture, same shape, not clipped; with `every_output` (denoised, restored)."""
        *skips, bottleneck = self.denoising_encoder(noisy)
        hidden, cell = self.denoising_cell(bottleneck)
        denoised = self.denoising_decoder(hidden, skips, noisy)
        pictures = torch.cat((denoised, blurry), 1)
        *skips, bottleneck = self.deblurring_encoder(pictures)
        hidden = self.deblurring_cell(bottleneck, hidden, cell)
        restored: Tensor = self.deblurring_decoder(hidden, skips, pictures)
        return (denoised, restored) if every_output else restored


class DeblurMerger(nn.Module):
    """The network: noisy and blurry (B, 3, H, W) in [0, 1], equally bright; sides multiples of `size_multiple(config)`.

    In training it normalises over the batch; the bottleneck needs two places in it, else ValueError.
    """

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.noisy_encoder = Encoder(3, config.channels)
        self.blurry_encoder = Encoder(3, config.channels)
        bottleneck = config.channels[-1]
        self.merger = nn.Sequential(
            StridedBlock(2 * bottleneck, bottleneck, 1), StridedBlock(bottleneck, bottleneck, 1)
        )
        self.decoder = Decoder(config.channels, encoders=2, shares=(0.5, 0.5))

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape, not clipped."""
        pairs = zip(self.noisy_encoder(noisy), self.blurry_encoder(blurry), strict=True)
        *skips, bottlenecks = (torch.cat(pair, 1) for pair in pairs)
        restored: Tensor = self.decoder(self.merger(bottlenecks), skips, torch.cat((noisy, blurry), 1))
        return restored


def size_multiple(config: EncoderDecoderConfig) -> int:
    """Returns what sides must be multiples of."""
    return int(2 ** len(config.channels))


def _config_in(encoder: str, shapes: Shapes) -> EncoderDecoderConfig:
    """Returns the configuration of a network whose first encoder has that name."""
    rest = range(count_names(shapes, rf"{encoder}\.rest\.\d+\.conv\.weight"))
    names = ("first", *(f"rest.{number}" for number in rest))
    return EncoderDecoderConfig(tuple(shapes[f"{encoder}.{name}.conv.weight"][0] for name in names))


def _default_traits(config: EncoderDecoderConfig) -> Traits:
    # Measured with a DeblurRNN of 32 to 160 channels after 1,600 patches, between whole pictures and cut ones: 96 px
    # from the cut, three times what its coarsest place covers, no value differs by a level of 255 (by 4 at 64 px, 0.1
    # on average from 24 px on). That other depths, and DeblurMerger, which shares all layers that see far, need as many
    # coarsest places is concluded, not measured. The reach is what the shutter's paths have for two exposures.
    return Traits(size_multiple=size_multiple(config), overlap_px=3 * size_multiple(config), reach_px=45.0)


def _line(name: str, build: type[nn.Module], encoder: str, outputs: tuple[float, ...]) -> Architecture:
    return Architecture(
        name=name,
        kind=InputKind.PAIR,
        config=EncoderDecoderConfig,
        build=build,
        infer=partial(config_if_exact, build, partial(_config_in, encoder)),
        default_traits=_default_traits,
        outputs=outputs,
        published=(Published(name, EncoderDecoderConfig()),),
    )


ARCHITECTURES = (
    _line("deblur-merger", DeblurMerger, "noisy_encoder", (1.0,)),
    _line("deblur-rnn", DeblurRNN, "denoising_encoder", (1.0, 1.0)),
)
