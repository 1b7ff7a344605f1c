"""What places are matched by: a small encoder that tells what a place shows and not how blurred it is, or VGG19.

VGG19 is what Zou et al., Reference-based Motion Blur Removal, section 4.1.2, take. The encoder learns by InfoNCE (van
den Oord et al., Representation Learning with Contrastive Predictive Coding, 2018) over pairs whose correspondence is
known: a blurred and a sharp picture of one scene.

VGG19 is that of Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (2015),
column E. Published weights fit by name: `features.0` is conv1_1, and counts convolutions, rectifiers and poolings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import Shapes
from deblur_cli.networks.papers.matching import displacement
from deblur_cli.networks.shapes import config_if_exact, count_names, shapes_of

TEMPERATURE = 0.07
"""The usual one of contrastive learning on unit vectors (He et al., Momentum Contrast, 2020)."""

KINDS = ("compact", "vgg19")
VGG_LAYER = "relu1_2"


@dataclass(frozen=True)
class MatchEncoderConfig:
    """`channels` of the features, and `blocks` of two convolutions each, the first of which steps 1, 2, 4 … pixels."""

    channels: int = 32
    blocks: int = 3


class MatchEncoder(nn.Module):
    """The network: (B, 3, H, W) in [0, 1] to features (B, channels, H, W), of any size.

    Steps that grow see blur as a whole (23 px across with three blocks); nothing is shrunken, so places stay exact. The
    last convolution has no rectifier behind it: unlike places can have cosines about zero and below.
    """

    def __init__(self, config: MatchEncoderConfig) -> None:
        super().__init__()
        width = config.channels
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(_MatchBlock(width, 2**number) for number in range(config.blocks))
        self.ending = nn.Conv2d(width, width, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Returns the features of a picture."""
        # Mid grey becomes zero, as the border is: brightness alone would make all patches alike.
        features = F.relu(self.stem(picture - 0.5))
        for block in self.blocks:
            features = block(features)
        result: Tensor = self.ending(features)
        return result


class _MatchBlock(nn.Module):
    def __init__(self, channels: int, step: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=step, dilation=step)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        result: Tensor = features + self.conv2(F.relu(self.conv1(features)))
        return result


BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))
"""Convolutions in each block and their channels; a 2×2 maximum follows each block."""
MEAN, SPREAD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the photos of ImageNet, which the published weights expect taken out."""


class VGG19Features(nn.Module):
    """The network as far as the deepest of `layers`, named conv1_1, relu1_1, conv1_2 … pool1, conv2_1 … pool5.

    Raises ValueError for a name that is none of these.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        unknown = [layer for layer in layers if layer not in LAYERS]
        if unknown or not layers:
            raise ValueError(f"VGG19 has no layer {unknown[0]!r}" if unknown else "no layers of VGG19 are named")
        self.layers = tuple(layers)
        depth = max(LAYERS.index(layer) for layer in layers) + 1
        self.features = nn.Sequential(*_built(depth))
        self.mean = nn.Buffer(torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.deviation = nn.Buffer(torch.tensor(SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Returns the features at each of the layers, in the order in which they were named.

        `picture` is (B, 3, H, W), RGB, display-encoded, [0, 1]; block n sees it shrunken by 2^(n − 1), odd sides
        rounded down.
        """
        features = (picture - self.mean) / self.deviation
        found: dict[str, Tensor] = {}
        for name, layer in zip(LAYERS, self.features, strict=False):
            features = layer(features)
            if name in self.layers:
                found[name] = features
        return tuple(found[name] for name in self.layers)


def _names() -> tuple[str, ...]:
    """Returns the names of all layers in their order."""
    names: list[str] = []
    for block, (count, _) in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return tuple(names)


LAYERS = _names()


def _built(depth: int) -> list[nn.Module]:
    """Returns the first `depth` layers."""
    layers: list[nn.Module] = []
    before = 3
    for count, channels in BLOCKS:
        for _ in range(count):
            layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
            before = channels
        layers.append(nn.MaxPool2d(2))
    return layers[:depth]


class VGGMatchFeatures(nn.Module):
    """What the paper matches by: VGG19, fixed, (B, 3, H, W) in [0, 1] to features (B, 64, H, W).

    The paper names no layer. Matches need features at every position of the picture, so it is the last one before VGG19
    halves it. `catalogue.vgg` has the weights, which fit `vgg`; a trained network's file holds them too (0.15 MB).
    """

    def __init__(self) -> None:
        super().__init__()
        self.vgg = VGG19Features((VGG_LAYER,)).requires_grad_(False)

    def forward(self, picture: Tensor) -> Tensor:
        """Returns the features of a picture."""
        features: Tensor = self.vgg(picture)[0]
        return features


@dataclass(frozen=True)
class Matching:
    """What a reference network matches by: `kind` is one of `KINDS`; the rest is for a `MatchEncoder` alone."""

    kind: str = "compact"
    encoder: MatchEncoderConfig = MatchEncoderConfig()


def build_matching(matching: Matching) -> nn.Module:
    """Returns the module that gives features to match by. Raises ValueError for another kind."""
    if matching.kind not in KINDS:
        raise ValueError(f"{matching.kind!r} is nothing to match by; there are {' and '.join(KINDS)}")
    return VGGMatchFeatures() if matching.kind == "vgg19" else MatchEncoder(matching.encoder)


def infer_matching(shapes: Shapes) -> Matching | None:
    """Returns what has exactly these keys and shapes, or None."""
    if shapes_of(build_matching, Matching("vgg19")) == dict(shapes):
        return Matching("vgg19")
    return config_if_exact(build_matching, _compact_in, shapes)


def _compact_in(shapes: Shapes) -> Matching:
    channels = shapes["ending.bias"][0]
    if not channels:
        raise ValueError("nothing can be matched by no channels")
    return Matching("compact", MatchEncoderConfig(channels, count_names(shapes, r"blocks\.\d+\.conv1\.bias")))


def contrastive_loss(
    query: Tensor,
    reference: Tensor,
    flow: Tensor,
    generator: torch.Generator,
    *,
    samples: int = 256,
    clearance_px: float = 2.0,
    temperature: float = TEMPERATURE,
) -> Tensor:
    """Returns InfoNCE in nats: how hard a query's patch is to tell from the others by its cosine with the reference.

    `query` and `reference` are features (B, C, H, W) and (B, C, h, w); `flow` (B, 2, H, W), x then y, says in pixels
    where each place of the query lies in the reference, relative to itself. Of each picture `samples` places are drawn;
    those that lie outside the reference don't count, and places closer than `clearance_px` in the reference are not
    told apart. What is compared are 3×3 patches, as in matching. Zero where nothing lies inside.
    """
    height, width = query.shape[2:]
    shape = (len(query), samples)
    x = torch.randint(width, shape, generator=generator, device=generator.device).to(query.device)
    y = torch.randint(height, shape, generator=generator, device=generator.device).to(query.device)
    at = flow.flatten(2).gather(2, (y * width + x)[:, None].expand(-1, 2, -1))
    there_x, there_y = x + at[:, 0], y + at[:, 1]
    inside = (there_x >= 0) & (there_x <= reference.shape[3] - 1) & (there_y >= 0) & (there_y <= reference.shape[2] - 1)
    similarity = _patches(query, x.float(), y.float()) @ _patches(reference, there_x, there_y).mT / temperature
    apart = torch.hypot(there_x[:, :, None] - there_x[:, None], there_y[:, :, None] - there_y[:, None])
    same = torch.eye(samples, dtype=torch.bool, device=query.device)
    told = same | (inside[:, None] & (apart > clearance_px))
    nll = -similarity.masked_fill(~told, -torch.inf).log_softmax(2).diagonal(dim1=1, dim2=2)
    loss: Tensor = torch.where(inside, nll, 0).sum() / inside.sum().clamp_min(1)
    return loss


def accuracy(index: Tensor, reference_width: int, flow: Tensor, *, within_px: float = 1.5) -> Tensor:
    """Returns the share of matches that lie within `within_px` of the truth, a number in [0, 1].

    `index` (B, H, W) as in `Matches`, `flow` (B, 2, H, W) as in `contrastive_loss`, of the matching's positions; places
    where it is not finite don't count.
    """
    apart = (displacement(index, reference_width) - flow).norm(dim=1)
    known = apart.isfinite()
    share: Tensor = (known & (apart <= within_px)).sum() / known.sum().clamp_min(1)
    return share


def _patches(features: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Returns the 3×3 patches around places (B, n), as unit vectors (B, n, 9 C); bilinear between pixels."""
    reach = torch.arange(-1, 2, device=features.device)
    size = torch.tensor([features.shape[3], features.shape[2]], device=features.device)
    around = torch.stack((reach.repeat(3), reach.repeat_interleave(3)), -1)
    places = (2 * (torch.stack((x, y), -1)[:, :, None] + around) + 1) / size - 1
    taken = F.grid_sample(features.float(), places, align_corners=False, padding_mode="zeros")
    return F.normalize(taken.permute(0, 2, 3, 1).flatten(2), dim=2)
