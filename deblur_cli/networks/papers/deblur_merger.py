"""DeblurMerger: the short and the long exposure each through an encoder of its own, merged, and decoded together.

Source: section III-A.2 of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs. Decided here, since
figure 3 cannot be read from the text: the merger concatenates both bottlenecks and has two blocks of stride 1 in which
to merge them; the decoder is given the features of both encoders at every scale, as each holds what the other lacks;
the picture starts as the mean of both. What else was open is decided as in `deblur_rnn`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deblur_cli.networks.contract import Architecture, InputKind, Shapes, Traits
from deblur_cli.networks.papers.strided_blocks import Block, Decoder, Encoder, levels_in
from deblur_cli.networks.skip_init import shapes_of


@dataclass(frozen=True)
class DeblurMergerConfig:
    """Hyper-parameters: `channels` at 1/2, 1/4, 1/8 … of the picture's scale; the last is the bottleneck's.

    The default, of 94 million weights, is for training as in the paper; SMALL fits 16 MiB in half precision.
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 512, 512)


SMALL = DeblurMergerConfig(channels=(32, 64, 128, 160, 160))


class DeblurMerger(nn.Module):
    """The network: noisy and blurry (B, 3, H, W) in [0, 1], equally bright; sides multiples of `size_multiple(config)`.

    In training it normalises over the batch; the bottleneck needs two places in it, else ValueError.
    """

    def __init__(self, config: DeblurMergerConfig) -> None:
        super().__init__()
        if not config.channels:
            raise ValueError("DeblurMerger needs channels for one scale at least")
        self.config = config
        bottleneck = config.channels[-1]
        self.noisy_encoder = Encoder(3, config.channels)
        self.blurry_encoder = Encoder(3, config.channels)
        self.merger = nn.Sequential(Block(2 * bottleneck, bottleneck, 1), Block(bottleneck, bottleneck, 1))
        self.decoder = Decoder(config.channels, encoders=2, shares=(0.5, 0.5))

    def forward(self, noisy: Tensor, blurry: Tensor) -> Tensor:
        """Returns the restored picture, same shape, not clipped."""
        pairs = zip(self.noisy_encoder(noisy), self.blurry_encoder(blurry), strict=True)
        *skips, bottlenecks = (torch.cat(pair, 1) for pair in pairs)
        restored: Tensor = self.decoder(self.merger(bottlenecks), skips, torch.cat((noisy, blurry), 1))
        return restored


def size_multiple(config: DeblurMergerConfig) -> int:
    """Returns what sides must be multiples of."""
    return int(2 ** len(config.channels))


def _infer(shapes: Shapes) -> DeblurMergerConfig | None:
    """Returns the configuration whose network has exactly these keys and shapes, or None."""
    levels = levels_in(list(shapes), "noisy_encoder")
    try:
        rest = (shapes[f"noisy_encoder.rest.{i}.conv.weight"][0] for i in range(levels - 1))
        config = DeblurMergerConfig((shapes["noisy_encoder.first.conv.weight"][0], *rest))
        expected = shapes_of(DeblurMerger, config)
    except (KeyError, IndexError, ValueError, RuntimeError):
        return None
    return config if expected == dict(shapes) else None


def _default_traits(config: DeblurMergerConfig) -> Traits:
    # As in `deblur_rnn`, with which it shares all layers that see far.
    return Traits(size_multiple=size_multiple(config), overlap_px=3 * size_multiple(config), reach_px=45.0)


ARCHITECTURE = Architecture(
    name="deblur-merger",
    kind=InputKind.PAIR,
    config=DeblurMergerConfig,
    build=DeblurMerger,
    infer=_infer,
    default_traits=_default_traits,
)
