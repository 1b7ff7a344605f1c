"""The networks that tell results from truths while another is trained; none of them is needed to restore a photo.

They give logits; what is made of these, relativistic or conditional, is the training's.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Discriminator
from deblur_cli.networks.papers.strided_blocks import DEVIATION, KERNEL_PX, SLOPE, FirstBlock, StridedBlock


class PairDiscriminator(nn.Module):
    """One logit a picture, given the blurry one beside it: the discriminator of DeblurRNN and of DeblurMerger.

    Source: section III-A.1 of Zhang et al., Deep Motion Blur Removal Using Noisy/Blurry Image Pairs: blocks as in the
    nets (`strided_blocks`), the first without norms, and a scalar, whose sigmoid is left to the loss. The paper's
    widths and depth cannot be read; five halvings are taken, and the scalar is the mean of a map, so any size will do.
    """

    def __init__(self, channels: tuple[int, ...] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.first = FirstBlock(6, channels[0])
        self.rest = nn.Sequential(*(StridedBlock(a, b) for a, b in pairwise(channels)))
        self.last = nn.Conv2d(channels[-1], 1, KERNEL_PX, padding=KERNEL_PX // 2)
        nn.init.normal_(self.last.weight, std=DEVIATION)

    def forward(self, picture: Tensor, blurry: Tensor) -> Tensor:
        """Returns logits (B,) of pictures (B, 3, H, W) in [0, 1]; the batch needs two places at 1/32 of the size."""
        logits: Tensor = self.last(self.rest(self.first(torch.cat((picture, blurry), 1))))
        return logits.mean((1, 2, 3))


class PatchDiscriminator(nn.Module):
    """One logit for each patch of 70×70 px, every eighth pixel, of a picture alone.

    Source: the PatchGAN of Isola et al., Image-to-Image Translation with Conditional Adversarial Networks (2017), which
    Blur2Blur's authors use, with `instance_norm` in their public code. No batch norm: it would tie the pictures of a
    batch together, which neither a gradient penalty for each nor a relativistic mean can bear.

    It serves DeepRefNet too, whose paper names the relativistic loss but no network: crops of 120 px leave a critic of
    larger patches little more than one opinion.
    """

    def __init__(self, width: int = 64, *, instance_norm: bool = False) -> None:
        super().__init__()
        self.instance_norm = instance_norm
        widths = (3, width, 2 * width, 4 * width, 8 * width, 1)
        strides = (2, 2, 2, 1, 1)
        self.layers = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride, 1) for (a, b), stride in zip(pairwise(widths), strides, strict=True)
        )
        for layer in self.layers:
            weight = layer.get_parameter("weight")
            # Isola et al.'s deviation counts on norms: without any, a narrow critic's logits would begin at nothing.
            nn.init.normal_(weight, std=DEVIATION) if instance_norm else nn.init.kaiming_normal_(weight, SLOPE)

    def forward(self, picture: Tensor) -> Tensor:
        """Returns logits (B, 1, ⌊H / 8⌋ − 2, ⌊W / 8⌋ − 2) of pictures (B, 3, H, W) in [0, 1], H and W at least 24."""
        features = 2 * picture - 1
        for number, layer in enumerate(self.layers):
            features = layer(features)
            if self.instance_norm and 0 < number < len(self.layers) - 1:
                features = F.instance_norm(features)
            if number < len(self.layers) - 1:
                features = F.leaky_relu(features, SLOPE)
        return features


DISCRIMINATORS: tuple[Discriminator, ...] = (
    Discriminator("deblur-pair", PairDiscriminator, beside_input=True),
    Discriminator("deblur-pair-small", lambda: PairDiscriminator((16, 32, 48, 48, 48)), beside_input=True),
    Discriminator("patches", PatchDiscriminator),
    Discriminator("patches-small", lambda: PatchDiscriminator(16)),
    Discriminator("patches-instance-norm", lambda: PatchDiscriminator(instance_norm=True)),
)
"""The one list of them; a recipe's `[adversary]` names one."""
