"""Means over the whole map, or over windows as large as in training: one module, no weights, the policy explicit.

A network that pools over the whole picture is trained on small patches and run on large photos, where a mean over
everything says little about a place. Local pooling takes, at every place, the mean over a window around it instead.
Source: Chu et al., Improving Image Restoration by Revisiting Global Information Aggregation (2022).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.networks.contract import LocalPooling


class PooledMean(nn.Module):
    """The mean of each channel: over the whole map, or under a policy over a window around each place.

    `level` says how often the picture was halved before this map. There are no weights and nothing is remembered
    between calls, so plain and local networks share one state dict.
    """

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level
        self.policy: LocalPooling | None = None

    @property
    def window_px(self) -> int | None:
        """Side of the window in pixels of this map, or None for the whole map."""
        return None if self.policy is None else max(1, self.policy.window_px >> self.level)

    def forward(self, features: Tensor) -> Tensor:
        """Returns float32 means of (B, C, H, W): (B, C, 1, 1), or (B, C, H, W) where the map exceeds the window."""
        features = features.float()
        window = self.window_px
        if window is None or max(features.shape[2:]) <= window:
            return features.mean((2, 3), keepdim=True)
        return window_means(features, window)

    def extra_repr(self) -> str:
        """Returns what `print(network)` shows of it."""
        return f"level={self.level}, window_px={self.window_px}"


def apply_local_pooling(network: nn.Module, policy: LocalPooling | None) -> None:
    """Returns nothing; from here on the network pools under the policy, or over whole maps with None.

    Raises ValueError for a network that has no `PooledMean`: a policy that does nothing is a mistake in the entry.
    """
    pools = [module for module in network.modules() if isinstance(module, PooledMean)]
    if policy is not None and not pools:
        raise ValueError(f"{type(network).__name__} pools nowhere, so local pooling cannot apply to it")
    for pool in pools:
        pool.policy = policy


def window_means(features: Tensor, window_px: int) -> Tensor:
    """Returns the mean over a window around each place: (B, C, H, W) float32 to the same shape.

    Windows lie wholly inside the map; places nearer to the border than half a window take the nearest such mean. A
    side shorter than the window is averaged whole. An even window reaches one pixel farther after than before, as in
    the authors' code. Cost does not depend on the window.
    """
    return _means_along(_means_along(features, window_px, -1), window_px, -2)


def _means_along(values: Tensor, window_px: int, dim: int) -> Tensor:
    """Returns the means over a window along one dimension, the same length, ends repeated.

    One dimension at a time keeps running sums to thousands of terms, where float32 loses a millionth; sums over a
    whole map would lose a thousand times more.
    """
    length = values.shape[dim]
    if length <= window_px:
        return values.mean(dim, keepdim=True).expand_as(values)
    running = F.pad(values.cumsum(dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
    inside = running.narrow(dim, window_px, length - window_px + 1) - running.narrow(dim, 0, length - window_px + 1)
    before = (window_px - 1) // 2
    after = window_px - 1 - before
    ends = (before, after, 0, 0) if dim == -1 else (0, 0, before, after)
    return F.pad(inside / window_px, ends, mode="replicate")
