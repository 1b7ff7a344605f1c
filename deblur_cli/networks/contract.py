"""What a network declares about itself, and the typed models that the engine runs.

A network is mathematics: tensors (B, 3, H, W), RGB, display-encoded, [0, 1] in, the same out. What must be done around
it (padding, tiles, pooling, precision, channel order) is declared in `Traits` and applied by the engine. Weights and
traits travel together as one model, whose type says which photos it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
"""Names and shapes of a state dict."""


class InputKind(StrEnum):
    """Which photos a network needs."""

    SINGLE = "single"
    REFERENCE = "reference"
    PAIR = "pair"


@dataclass(frozen=True)
class LocalPooling:
    """Policy for networks that pool over the whole picture: pool over windows as large as in training instead.

    Source: Chu et al., Improving Image Restoration by Revisiting Global Information Aggregation (2022): windows of
    1.5 times the training size. Plain and local variants share one state dict, so the policy is a fact of the entry.
    """

    training_size_px: int
    factor: float = 1.5

    @property
    def window_px(self) -> int:
        """Side of the pooling window at full resolution."""
        return int(self.training_size_px * self.factor)


@dataclass(frozen=True)
class Traits:
    """What the engine must know of a network to run it.

    `size_multiple`: sides are padded to multiples of it. `overlap_px`: how far one output pixel sees, in pixels that
    matter, measured; tiles overlap by it. `reach_px`: the longest blur extent that it was trained to undo; the pipeline
    shrinks photos blurred beyond it. `bgr`: the network wants blue first. `bfloat16`/`float16`: measured as safe.
    `candidates`: how many estimates of the luma, with estimated kernels undone, it is shown beside the photo (by the
    keyword `candidates`). `any_scene`: of two photos the second may show another scene, since the network looks in all
    of it for what helps.
    """

    size_multiple: int
    overlap_px: int
    reach_px: float
    bgr: bool = False
    bfloat16: bool = True
    float16: bool = False
    pooling: LocalPooling | None = None
    candidates: int = 0
    any_scene: bool = False


@dataclass(frozen=True)
class SingleModel:
    """A network that restores one photo: `network(blurry) -> restored`, shapes (B, 3, H, W)."""

    name: str
    network: nn.Module
    traits: Traits


@dataclass(frozen=True)
class ReferenceModel:
    """A network that restores a photo with another: `network(query, reference) -> restored`."""

    name: str
    network: nn.Module
    traits: Traits


class ReferenceOutput(NamedTuple):
    """What a reference network gives when called with `with_confidence=True`.

    `restored` (B, 3, H, W) as without the keyword; `confidence` (B, 1, H, W) in [0, 1], how much of what was borrowed
    is believed, zero where the result is the single-image estimate; `flow` (B, 2, H, W) in pixels, x then y: where each
    pixel's match lies in the reference, relative to the pixel itself.
    """

    restored: Tensor
    confidence: Tensor
    flow: Tensor


@dataclass(frozen=True)
class PairModel:
    """A network that fuses two exposures: `network(noisy, blurry) -> restored`."""

    name: str
    network: nn.Module
    traits: Traits


Model = SingleModel | ReferenceModel | PairModel


@dataclass(frozen=True)
class Published:
    """A configuration under the name that its authors gave it."""

    name: str
    config: Any


@dataclass(frozen=True)
class Architecture:
    """One line of the registry: how a network is built, and recognised in a state dict.

    `config` is a frozen dataclass of hyper-parameters with defaults; `build(config)` returns the network with fresh
    weights; `infer(shapes)` returns the config whose network has exactly these keys and shapes, or None when the keys
    are another network's; `default_traits(config)` serves files that have no catalogue entry. `checkpoint_keys` are
    the top-level keys under which published files keep the state dict, tried in order. `outputs` are the scales that
    the network is supervised at, in the order in which it predicts; the last one is 1 and the result. A network with
    more than one takes the keyword `every_output`, which makes its forward return the tuple of all of them. `published`
    are configurations of which weights may turn up that no catalogue entry describes.
    """

    name: str
    kind: InputKind
    config: type[Any]
    build: Callable[[Any], nn.Module]
    infer: Callable[[Shapes], Any | None]
    default_traits: Callable[[Any], Traits]
    checkpoint_keys: tuple[str, ...] = ()
    outputs: tuple[float, ...] = (1.0,)
    published: tuple[Published, ...] = ()


@dataclass(frozen=True)
class Discriminator:
    """One line of `discriminators.DISCRIMINATORS`: a network that tells results from truths, for training alone.

    `build()` returns it with fresh weights. Its `forward(picture, *beside)` takes (B, 3, H, W) in [0, 1], the blurry
    input beside it where `beside_input`, and gives logits whose first side is B: one a picture, or one a patch.
    """

    name: str
    build: Callable[[], nn.Module]
    beside_input: bool = False
