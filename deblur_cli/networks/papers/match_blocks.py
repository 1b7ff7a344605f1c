"""The search behind `matching`, block by block: which patch of the reference is most like each patch of the query.

The product of two patches is the sum of nine products of pixels, and patches side by side share these products, along
diagonals. So pixels are multiplied, C operations a pair of positions instead of 9 C, and summed along diagonals. A
block of rows and columns is laid out as one row with its border; then a step to the next row is a step of its width.

Both searches are operators of their own (`deblur::…`): without gradients, opaque to compilers and to those who count a
network's multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_ENERGY = 1e-12
"""Patches with a smaller sum of squares count as having this much: a flat zero is like nothing."""

CPU_TILE_PX = 32
CPU_CELLS = 64
"""The largest block of a step on a processor; more would leave its cache. Found with benchmarks/bench_matching.py."""


def inverse_norms(features: Tensor) -> Tensor:
    """Returns one over the length of each 3×3 patch of (B, C, H, W): (B, H, W) float32."""
    energy = torch.linalg.vector_norm(features, dim=1, keepdim=True, dtype=torch.float32).square()
    return F.avg_pool2d(energy, 3, 1, 1, divisor_override=1)[:, 0].clamp_min(LEAST_ENERGY).rsqrt()


def positions(features: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Returns that part of the features with a border of one, zero where the border lies outside the map."""
    height, width = features.shape[2:]
    part = features[:, :, max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1]
    missing = (int(left == 0), max(right + 1 - width, 0), int(top == 0), max(bottom + 1 - height, 0))
    return F.pad(part, missing) if any(missing) else part


def _best_everywhere(query: Tensor, reference: Tensor, memory_mb: float, products: torch.dtype) -> Tensor:
    """Returns the index (B, H, W) of the most alike patch in the whole reference."""
    search = _GlobalSearch(query, reference, memory_mb, products)
    height, width = query.shape[2:]
    index = torch.empty((len(query), height, width), dtype=torch.int64, device=query.device)
    with torch.autocast(query.device.type, enabled=False):
        for number in range(len(query)):
            for top, bottom, left, right in _tiles(height, width, *search.tile):
                seen = positions(query[number : number + 1], top, bottom, left, right)
                index[number, top:bottom, left:right] = search(seen, number)
    return index


def _best_within(
    query: Tensor,
    reference: Tensor,
    coarse: Tensor,
    coarse_width: int,
    side: int,
    memory_mb: float,
    products: torch.dtype,
) -> Tensor:
    """Returns the index (B, H, W) of the most alike patch within a block around each coarse match."""
    batch, _, height, width = query.shape
    search = _BlockSearch(reference, coarse, coarse_width, side, memory_mb, products)
    index = torch.empty((batch, height, width), dtype=torch.int64, device=query.device)
    columns = min(search.cells, (width + 1) // 2)
    rows = search.cells // columns
    with torch.autocast(query.device.type, enabled=False):
        for number in range(batch):
            for top in range(0, height, 2 * rows):
                for left in range(0, width, 2 * columns):
                    bottom, right = min(top + 2 * rows, height), min(left + 2 * columns, width)
                    part = search(query, number, top, bottom, left, right)
                    index[number, top:bottom, left:right] = part[: bottom - top, : right - left]
    return index


def _index_shape(query: Tensor, *others: object) -> Tensor:
    return query.new_empty((query.shape[0], *query.shape[2:]), dtype=torch.int64)


def _registered() -> torch.library.Library:
    """Returns what keeps the two searches registered as operators, for as long as it lives.

    Not `custom_op`: its first call imports the compiler, which takes longer than most matching.
    """
    library = torch.library.Library("deblur", "DEF")  # type: ignore[no-untyped-call]
    for schema, search in SEARCHES.items():
        library.define(f"{schema} -> Tensor")  # type: ignore[no-untyped-call]
        name = schema.partition("(")[0]
        library.impl(name, search, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"deblur::{name}", _index_shape, lib=library)
    return library


SEARCHES: dict[str, Callable[..., Tensor]] = {
    "best_everywhere(Tensor query, Tensor reference, float memory_mb, ScalarType products)": _best_everywhere,
    "best_within(Tensor query, Tensor reference, Tensor coarse, int coarse_width, int side, float memory_mb, "
    "ScalarType products)": _best_within,
}
_LIBRARY = _registered()


def patch_products(products: Tensor, spare: Tensor, query_stride: int, reference_stride: int) -> Tensor:
    """Returns products of 3×3 patches from products of pixels, a part of the argument, which is written over.

    `products` (…, n, m) of n positions of the query, rows of `query_stride` with a border of one laid end to end, and
    m of the reference; `spare` is as large. The first patch comes from the first three rows and columns. The last two
    places of each row of the result, where patches would hang over, are without meaning:
    (…, n − 2 · query_stride, m − 2 · reference_stride).
    """
    torch.add(products[..., :-2, :-2], products[..., 1:-1, 1:-1], out=spare[..., :-2, :-2])
    spare[..., :-2, :-2] += products[..., 2:, 2:]
    q, r = query_stride, reference_stride
    result = products[..., : -2 * q, : -2 * r]
    torch.add(spare[..., : -2 * q, : -2 * r], spare[..., q:-q, r:-r], out=result)
    result += spare[..., 2 * q :, 2 * r :]
    return result


class _GlobalSearch:
    """The search in the whole of each reference of a batch; it holds the room for the products of two blocks."""

    def __init__(self, query: Tensor, reference: Tensor, memory_mb: float, products: torch.dtype) -> None:
        self.reference = reference
        self.inverse = inverse_norms(reference)
        self.products = products
        self.tile, self.block = _tile_and_block(query, reference, memory_mb)
        laid_out = [(rows + 2) * (columns + 2) for rows, columns in (self.tile, self.block)]
        # Room is taken once: the system may take longer to hand out memory than the products take.
        self.room = torch.zeros(2, laid_out[0] * laid_out[1], device=query.device)

    def __call__(self, seen: Tensor, number: int) -> Tensor:
        """Returns the index (rows, columns) of the best for what is `seen` (1, C, rows + 2, columns + 2)."""
        rows, columns = (side - 2 for side in seen.shape[2:])
        pixels = seen[0].flatten(1).mT.to(self.products).contiguous()
        value = torch.full((rows * (columns + 2),), -math.inf, device=seen.device)
        index = torch.zeros(value.shape, dtype=torch.int64, device=seen.device)
        height, width = self.reference.shape[2:]
        for part in _tiles(height, width, *self.block):
            scores = self._scores(pixels, columns + 2, number, part)
            # Rows first, then in the best row: the place of a maximum costs ten times the maximum.
            by_row = scores.amax(2)
            best, row = by_row.max(1)
            column = scores[torch.arange(len(row), device=row.device), row].argmax(1)
            index = torch.where(best > value, (part[0] + row) * width + part[2] + column, index)
            value = torch.maximum(value, best)
        return index.view(rows, columns + 2)[:, :columns]

    def _scores(self, pixels: Tensor, stride: int, number: int, part: tuple[int, int, int, int]) -> Tensor:
        """Returns the cosines (n, rows, columns + 2) times the lengths of the query's n patches."""
        top, bottom, left, right = part
        block = positions(self.reference[number : number + 1], *part)[0].flatten(1).to(self.products)
        shape = (len(pixels), block.shape[1])
        products, spare = (room[: shape[0] * shape[1]].view(shape) for room in self.room)
        if self.products is torch.float32:
            torch.mm(pixels, block, out=products)
        else:
            products.copy_(torch.mm(pixels, block))
        across = right - left + 2
        scores = patch_products(products, spare, stride, across).view(shape[0] - 2 * stride, bottom - top, across)
        scores *= F.pad(self.inverse[number, top:bottom, left:right], (0, 2))
        scores[..., -2:] = -math.inf
        return scores


class _BlockSearch:
    """The search around coarse matches in each reference of a batch; it holds the room for `cells` at once.

    A cell is the two by two positions of the query that share a coarse match.
    """

    def __init__(
        self,
        reference: Tensor,
        coarse: Tensor,
        coarse_width: int,
        side: int,
        memory_mb: float,
        products: torch.dtype,
    ) -> None:
        _, channels, self.height, self.width = reference.shape
        self.coarse, self.coarse_width, self.products = coarse, coarse_width, products
        self.tall, self.wide = min(side, self.height), min(side, self.width)
        self.inverse = F.pad(inverse_norms(reference), (1, 1, 1, 1))
        # With a border of zeros every row of a block is one stretch of memory, and a window on it one row of a matrix.
        rows = F.pad(reference.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).to(products).flatten(0, 2)
        stretch = self.wide + 2
        self.stretches = rows.as_strided((len(rows) - stretch + 1, stretch * channels), (channels, 1))
        self.cells = _cells(reference, (self.tall + 2) * stretch, memory_mb)
        device = reference.device
        self.room = torch.zeros(2, self.cells * 16 * (self.tall + 2) * stretch, device=device)
        self.taken = torch.zeros(self.cells * (self.tall + 2), stretch * channels, dtype=products, device=device)

    def __call__(self, query: Tensor, number: int, top: int, bottom: int, left: int, right: int) -> Tensor:
        """Returns the index of a part of one query, rows and columns rounded up to whole cells."""
        window = positions(query[number : number + 1], top, bottom, left, right)
        window = F.pad(window, (0, (right - left) % 2, 0, (bottom - top) % 2))
        cells = window[0].to(self.products).unfold(1, 4, 2).unfold(2, 4, 2)
        down, along = cells.shape[1:3]
        device = query.device
        y = torch.arange(top // 2, top // 2 + down, device=device).clamp_max(self.coarse.shape[1] - 1)
        x = torch.arange(left // 2, left // 2 + along, device=device).clamp_max(self.coarse.shape[2] - 1)
        coarse = self.coarse[number, y[:, None], x].flatten()
        best = self._best(cells.permute(1, 2, 3, 4, 0).reshape(down * along, 16, -1), coarse, number)
        return best.view(down, along, 2, 2).permute(0, 2, 1, 3).reshape(2 * down, 2 * along)

    def _best(self, cells: Tensor, coarse: Tensor, number: int) -> Tensor:
        """Returns the index (n, 4) of the most alike patches for cells (n, 16, C) with their coarse matches (n,)."""
        count, stride = len(cells), self.wide + 2
        top = _block_start(coarse // self.coarse_width, self.tall, self.height)
        left = _block_start(coarse % self.coarse_width, self.wide, self.width)
        rows = number * (self.height + 2) + top[:, None] + torch.arange(self.tall + 2, device=top.device)
        taken = self.taken[: count * (self.tall + 2)]
        torch.index_select(self.stretches, 0, (rows * (self.width + 2) + left[:, None]).flatten(), out=taken)
        block = taken.view(count, -1, cells.shape[2]).mT
        products, spare = (room[: count * 16 * block.shape[2]].view(count, 16, -1) for room in self.room)
        if self.products is torch.float32:
            torch.bmm(cells, block, out=products)
        else:
            products.copy_(torch.bmm(cells, block))
        scores = patch_products(products, spare, 4, stride).view(count, 8, self.tall, stride)
        place = (
            rows[:, 1:-1, None] * (self.width + 2) + left[:, None, None] + 1 + torch.arange(stride, device=top.device)
        )
        scores *= self.inverse.flatten()[place.clamp_max(self.inverse.numel() - 1)][:, None]
        scores[..., -2:] = -math.inf
        # The last two of each row of four hang over the cell.
        best = scores.reshape(count, 2, 4, -1)[:, :, :2].argmax(3).flatten(1)
        return (top[:, None] + best // stride) * self.width + left[:, None] + best % stride


def _block_start(coarse: Tensor, side: int, length: int) -> Tensor:
    return (2 * coarse + 1 - side // 2).clamp(0, length - side)


def _tiles(height: int, width: int, rows: int, columns: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields the rectangles (top, bottom, left, right) of at most rows × columns that cover the map once."""
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield top, min(top + rows, height), left, min(left + columns, width)


def _tile_and_block(query: Tensor, reference: Tensor, memory_mb: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Returns the sides of the largest parts of query and reference whose products fit the memory."""
    channels = query.shape[1]
    largest = max(*query.shape[2:], *reference.shape[2:]) if query.is_cuda else CPU_TILE_PX
    for side in range(largest, 0, -1):
        tile, block = _oblong(query, side, 1), _oblong(reference, side, 2)
        n, m = ((rows + 2) * (columns + 2) for rows, columns in (tile, block))
        # Two rooms for products (and one of half precision), laid out pixels, what is known of each position so far.
        if 10 * n * m + 8 * channels * (n + m) + 100 * (n + m) + 4 * n * (block[0] + block[1]) <= memory_mb * 1e6:
            return tile, block
    raise ValueError(f"{memory_mb} MB do not hold one pair of patches with {channels} channels")


def _oblong(features: Tensor, side: int, stretch: int) -> tuple[int, int]:
    """Returns rows and columns of a part of about `side`² positions, `stretch` times wider than `side` if it can be."""
    height, width = features.shape[2:]
    columns = min(width, max(side * stretch, side * side // height))
    return max(1, min(height, side * side // columns)), columns


def _cells(reference: Tensor, block_positions: int, memory_mb: float) -> int:
    """Returns how many cells of two by two positions may be searched at once."""
    channels = reference.shape[1]
    # Two rooms for products (and one of half precision), the block's features, places and lengths of its patches.
    fitting = int(memory_mb * 1e6 / (block_positions * (10 * 16 + 4 * channels + 40) + 16 * channels * 12))
    if fitting == 0:
        raise ValueError(f"{memory_mb} MB do not hold one block of {block_positions} positions, {channels} channels")
    return fitting if reference.is_cuda else min(fitting, CPU_CELLS)
