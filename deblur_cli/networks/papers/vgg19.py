"""VGG19's convolutions: features by which places can be matched, and pictures be compared as an eye might.

Source: Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition (2015), column E.
Published weights fit by name: `features.0` is conv1_1, and counts convolutions, rectifiers and poolings.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

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
