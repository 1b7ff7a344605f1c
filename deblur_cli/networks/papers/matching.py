"""For each 3×3 patch of a query's features the most alike patch of a reference's, by cosine, and features moved there.

Source: sections 3.2.2, 3.2.3 and 3.3 of Zou et al., Reference-based Motion Blur Removal (eq. 1 and 2). The matrix of
all similarities is never held: it is made and used up in blocks (operators of `match_blocks`), whose size an argument
bounds.

Features are (B, C, H, W) for the query and (B, C, h, w) for the reference; outside a map everything is zero. An index
counts the positions of the reference row by row: y · w + x.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.networks.papers.match_blocks import inverse_norms, positions

SIDE = 16
"""L of section 3.3: the side of the block that is searched around a coarse match."""


CPU_POSITIONS = 8192
"""How many positions a processor compares at once; more would leave its cache."""


class Matches(NamedTuple):
    """`index` (B, H, W) int64 into the h · w positions of the reference; `confidence` (B, 1, H, W), cosine of the two.

    The confidence is float32, in [-1, 1], and carries gradients to both maps of features; the index has none.
    """

    index: Tensor  # type: ignore[assignment]  # the field's word, though tuples have a method of that name
    confidence: Tensor


def match(query: Tensor, reference: Tensor, *, memory_mb: float = 256.0) -> Matches:
    """Returns the most alike patch of the whole reference for each patch of the query, eq. 1; exact.

    Features (B, C, H, W) and (B, C, h, w). While no gradients are recorded, at most `memory_mb` megabytes (and one row
    of the query) are held beside inputs, outputs, maps of one channel and one copy of the reference's features. Pixels
    are multiplied in the precision of autocast, or else of the features, and summed in float32; the confidence is
    computed anew in float32. Time is proportional to H · W · h · w. Raises ValueError for shapes that don't belong
    together and for too little memory.
    """
    _check(query, reference)
    index = torch.ops.deblur.best_everywhere(query.detach(), reference.detach(), memory_mb, _product_dtype(query))
    return Matches(index, agreement(query, reference, index, memory_mb=memory_mb))


def match_within(
    query: Tensor,
    reference: Tensor,
    coarse: Tensor,
    coarse_width: int,
    *,
    side: int = SIDE,
    memory_mb: float = 256.0,
) -> Matches:
    """Returns the most alike patch within `side` × `side` positions around twice the coarse match; section 3.3.

    `coarse` (B, H / 2, W / 2) is the index of a match at half the size, halves rounded either way, in a reference
    `coarse_width` wide. The block's middle is the two by two positions that the coarse match became; at borders it is
    moved inside the reference. Features, memory, precision and errors as in `match`. Time is proportional to
    H · W · side².
    """
    _check(query, reference)
    height, width = query.shape[2:]
    halves = [{side // 2, (side + 1) // 2} for side in (height, width)]
    if coarse.shape[0] != len(query) or any(
        size not in half for size, half in zip(coarse.shape[1:], halves, strict=True)
    ):
        raise ValueError(f"a coarse index of shape {tuple(coarse.shape)} is not half of a query of {height} × {width}")
    if side < 2:
        raise ValueError(f"a block must be 2 positions wide at least, got {side}")
    index = torch.ops.deblur.best_within(
        query.detach(), reference.detach(), coarse, coarse_width, side, memory_mb, _product_dtype(query)
    )
    return Matches(index, agreement(query, reference, index, memory_mb=memory_mb))


def match_pyramid(
    queries: Sequence[Tensor], references: Sequence[Tensor], *, side: int = SIDE, memory_mb: float = 256.0
) -> Matches:
    """Returns the matches at the last of several scales, each twice as fine as the one before; the first is global.

    `queries` and `references` are features as in `match`, coarse to fine.
    """
    matches = match(queries[0], references[0], memory_mb=memory_mb)
    for coarser, query, reference in zip(references, queries[1:], references[1:], strict=False):
        coarse_width = coarser.shape[3]
        matches = match_within(query, reference, matches.index, coarse_width, side=side, memory_mb=memory_mb)
    return matches


def agreement(query: Tensor, reference: Tensor, index: Tensor, *, memory_mb: float = 256.0) -> Tensor:
    """Returns the cosine (B, 1, H, W), float32, of each patch of the query with the one that it is matched to.

    Differentiable in both maps of features; `index` (B, H, W) as in `Matches`.
    """
    batch, channels, _, width = query.shape
    wide = reference.shape[3] + 2
    rows = F.pad(reference.permute(0, 2, 3, 1).float(), (0, 0, 1, 1, 1, 1)).flatten(0, 2)
    inverse = F.pad(inverse_norms(reference), (1, 1, 1, 1)).flatten()
    first = torch.arange(batch, device=query.device)[:, None, None] * (reference.shape[2] + 2)
    cosines = []
    for top, bottom in _bands(query, memory_mb):
        window = positions(query, top, bottom, 0, width).float()
        seen = window.permute(0, 2, 3, 1)
        y, x = _split(index[:, top:bottom], reference.shape[3])
        place = (first + y + 1) * wide + x + 1
        product = torch.zeros(y.shape, device=query.device)
        for dy, dx in _offsets(3):
            taken = rows.index_select(0, (place + dy * wide + dx).flatten()).view(*y.shape, channels)
            near = seen[:, 1 + dy : 1 + dy + bottom - top, 1 + dx : 1 + dx + width]
            product = product + (near * taken).sum(3)
        own = inverse_norms(window)[:, 1:-1, 1:-1]
        cosines.append(product * own * inverse[place])
    return torch.cat(cosines, 1)[:, None]


def gather(features: Tensor, index: Tensor, *, scale: int = 1, patch: int = 3) -> Tensor:
    """Returns what the reference shows where the query's patches were found, (B, C, scale · H, scale · W); eq. 2.

    `features` (B, C, scale · h, scale · w) of the reference, `index` (B, H, W) into its h · w positions. With `patch` 1
    every place takes one match's features, as eq. 2 says; with 3 whole patches are moved, and their mean taken where
    they overlap. Gradients reach the features. Raises ValueError for sides that are no multiples of the scale.
    """
    if patch % 2 == 0:
        raise ValueError(f"a patch has a middle, so its side is odd; got {patch}")
    if any(side % scale for side in features.shape[2:]):
        raise ValueError(f"features of {features.shape[2]} × {features.shape[3]} are no multiple of {scale}")
    features = F.pixel_unshuffle(features, scale)
    rows = _rows(features)
    y, x = _split(index, features.shape[3])
    reach = patch // 2
    # Neighbours beyond the query's border have no match: they lie so far out that they never count.
    y, x = (F.pad(place, (reach,) * 4, value=-2 * patch) for place in (y, x))
    height, width = index.shape[1:]
    total, count = torch.zeros((), device=features.device), torch.zeros((), device=features.device)
    for dy, dx in _offsets(patch):
        top, left = reach - dy, reach - dx
        at = (y[:, top : top + height, left : left + width] + dy, x[:, top : top + height, left : left + width] + dx)
        total = total + _taken(rows, *at, features.shape)
        count = count + _inside(*at, features.shape)
    moved = (total / count[..., None]).to(features.dtype)
    return F.pixel_shuffle(moved.permute(0, 3, 1, 2), scale)


def displacement(index: Tensor, reference_width: int) -> Tensor:
    """Returns where each match lies relative to its position, (B, 2, H, W) float32: x, then y, in positions."""
    y, x = _split(index, reference_width)
    rows, columns = (torch.arange(length, device=index.device) for length in index.shape[1:])
    return torch.stack((x - columns, y - rows[:, None]), 1).float()


def _product_dtype(features: Tensor) -> torch.dtype:
    """Returns the precision in which pixels are multiplied: autocast's where it is on."""
    kind = features.device.type
    if kind in {"cpu", "cuda"} and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return features.dtype


def _check(query: Tensor, reference: Tensor) -> None:
    if query.ndim != 4 or reference.ndim != 4 or query.shape[:2] != reference.shape[:2]:
        shapes = f"{tuple(query.shape)} and {tuple(reference.shape)}"
        raise ValueError(f"features must be (B, C, H, W) and (B, C, h, w), got {shapes}")
    if 0 in query.shape or 0 in reference.shape:
        raise ValueError(f"nothing to match: {tuple(query.shape)} with {tuple(reference.shape)}")


def _bands(query: Tensor, memory_mb: float) -> Iterator[tuple[int, int]]:
    """Yields the first row of each band of the query that fits the memory, and the row after its last."""
    batch, channels, height, width = query.shape
    fitting = memory_mb * 1e6 / (batch * width * (16 * channels + 96))
    if not query.is_cuda:
        fitting = min(fitting, CPU_POSITIONS / (batch * width))
    # With gradients every band would be kept anyway.
    rows = height if torch.is_grad_enabled() else max(1, int(fitting))
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _offsets(patch: int) -> list[tuple[int, int]]:
    reach = range(-(patch // 2), patch // 2 + 1)
    return [(dy, dx) for dy in reach for dx in reach]


def _rows(features: Tensor) -> Tensor:
    """Returns the features of each position, (B · h · w, C): a view of channels_last features, else a copy."""
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def _split(index: Tensor, width: int) -> tuple[Tensor, Tensor]:
    return index // width, index % width


def _inside(y: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
    return (y >= 0) & (y < shape[2]) & (x >= 0) & (x < shape[3])


def _flat(y: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns where in `_rows` the places (B, H, W) are; those outside count as the nearest."""
    batch = torch.arange(len(y), device=y.device)[:, None, None]
    return (batch * shape[2] + y.clamp(0, shape[2] - 1)) * shape[3] + x.clamp(0, shape[3] - 1)


def _taken(rows: Tensor, y: Tensor, x: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the features (B, H, W, C) at the places, zero outside."""
    taken = rows.index_select(0, _flat(y, x, shape).flatten()).view(*y.shape, -1)
    return taken * _inside(y, x, shape)[..., None]
