"""What matching costs, in time and memory, as photos grow: by the whole matrix, streaming, and from coarse to fine.

    python benchmarks/bench_matching.py [--megapixels 0.07 --megapixels 1 …] [--channels 32] [--memory-mb 256]
                                        [--device cpu] [--precision float32] [--longest-s 120]

A photo of so many megapixels (3:2) and a reference as large are matched at 1/4 of their sides, by features of random
texture; the reference's lie up to 5 % of the picture away, with noise of a third of their contrast. Every row comes
from a process of its own: seconds of one run after a warm-up on a small picture (by the clock, and of the processor,
which others may share), microseconds of the processor for each position, and the most memory held beyond what was held
before. Of the places that the reference shows, `found` is the share of matches within one position of the truth, and
`recall` the share of matches from coarse to fine that are those of the search everywhere. What would not fit into
memory, or would take longer than the limit by the growth since the row before, is not run, and said so.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deblur_cli.networks.papers.match_encoder import accuracy
from deblur_cli.networks.papers.matching import Matches, match, match_pyramid

MEGAPIXELS = (0.065, 0.26, 1.0, 4.0, 12.0, 24.0)
GLOBAL_POSITIONS = 64 * 64
"""Pyramids begin at maps of no more positions than this."""


@dataclass(frozen=True)
class Figures:
    """What one run gave: `found` is the share of matches within one position of the truth."""

    seconds: float
    processor_seconds: float
    peak_mb: float
    found: float
    recall: float | None = None


def scene(height: int, width: int, channels: int, seed: int) -> Tensor:
    """Returns features of random texture with detail at several scales, (1, C, H, W)."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, channels, height, width)
    for step in (1, 3, 9, 27):
        coarse = torch.randn(1, channels, height // step + 4, width // step + 4, generator=generator)
        total += coarse if step == 1 and coarse.shape == total.shape else _enlarged(coarse, height, width)
    return total


def _enlarged(coarse: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)


def pair(megapixels: float, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns features of a query and of a reference, and the true flow, at 1/4 of the photo's sides."""
    height = max(8, round(math.sqrt(megapixels * 1e6 * 2 / 3) / 4))
    width = max(8, round(height * 3 / 2))
    shift = (max(1, height // 20), max(1, width // 20))
    whole = scene(height + shift[0], width + shift[1], channels, 0)
    query = whole[:, :, : -shift[0], : -shift[1]] + _noise(1, channels, height, width) * whole.std() / 3
    reference = whole[:, :, shift[0] :, shift[1] :].contiguous()
    flow = torch.tensor([-shift[1], -shift[0]], dtype=torch.float32).view(1, 2, 1, 1).repeat(1, 1, height, width)
    flow[:, :, : shift[0]] = torch.nan
    flow[:, :, :, : shift[1]] = torch.nan
    return query.contiguous(), reference, flow


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def naive(query: Tensor, reference: Tensor, memory_mb: float) -> Matches:
    """Returns the matches by way of the whole matrix of similarities."""
    one, other = (F.normalize(F.unfold(maps, 3, padding=1), dim=1) for maps in (query, reference))
    best = (one.mT @ other).max(2)
    return Matches(best.indices.view(1, *query.shape[2:]), best.values.view(1, 1, *query.shape[2:]))


def streaming(query: Tensor, reference: Tensor, memory_mb: float) -> Matches:
    """Returns the matches of a search everywhere, block by block."""
    return match(query, reference, memory_mb=memory_mb)


def coarse_to_fine(query: Tensor, reference: Tensor, memory_mb: float) -> Matches:
    """Returns the matches by section 3.3: everywhere in a small map, then near the coarser match."""
    queries, references = [query], [reference]
    while queries[0].shape[2] * queries[0].shape[3] > GLOBAL_POSITIONS:
        queries.insert(0, F.avg_pool2d(queries[0], 2))
        references.insert(0, F.avg_pool2d(references[0], 2))
    return match_pyramid(queries, references, memory_mb=memory_mb)


METHODS: dict[str, Callable[[Tensor, Tensor, float], Matches]] = {
    "naive": naive,
    "streaming": streaming,
    "coarse-to-fine": coarse_to_fine,
}


def measure(method: str, megapixels: float, options: argparse.Namespace) -> Figures:
    """Returns the figures of one run in this process."""
    device = torch.device(options.device)
    search = METHODS[method]
    query, reference, flow = (maps.to(device) for maps in pair(megapixels, options.channels))
    half = torch.autocast(device.type, torch.bfloat16, enabled=options.precision == "bfloat16")
    with torch.inference_mode(), half:
        search(query[..., :16, :16], reference[..., :16, :16], options.memory_mb)
        before = _held_mb(device)
        start, start_processor = time.perf_counter(), time.process_time()
        found = search(query, reference, options.memory_mb)
        index = found.index.cpu()
        seconds, processor_seconds = time.perf_counter() - start, time.process_time() - start_processor
        peak_mb = _held_mb(device) - before
        recall = None
        if method == "coarse-to-fine" and options.recall:
            same = streaming(query, reference, options.memory_mb).index.cpu() == index
            recall = float(same[flow.cpu().isfinite().all(1)].float().mean())
    near = float(accuracy(index, reference.shape[3], flow.cpu(), within_px=1.0))
    return Figures(seconds, processor_seconds, peak_mb, near, recall)


def _held_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured_apart(method: str, megapixels: float, options: argparse.Namespace, *, recall: bool) -> Figures | None:
    """Returns the figures of one run in a process of its own, or None where that ran out of memory."""
    given = ["--megapixels", str(megapixels), "--run", method, *(["--recall"] if recall else [])]
    for name in ("channels", "memory_mb", "device", "precision"):
        given += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    done = subprocess.run([sys.executable, __file__, *given], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return Figures(**json.loads(done.stdout))
    if done.returncode == -signal.SIGKILL or "memory" in done.stderr:
        return None
    raise RuntimeError(done.stderr)


def naive_mb(megapixels: float, channels: int) -> float:
    """Returns what the whole matrix and the patches of both maps take."""
    positions = megapixels * 1e6 / 16
    return (4 * positions**2 + 2 * 2 * 9 * channels * 4 * positions) / 1e6


def free_mb(device: str) -> float:
    """Returns the memory that is free."""
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info()[0] / 1e6
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6


class Table:
    """Rows of growing size; it remembers each method's last time, to tell what would take too long."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.last: dict[str, tuple[float, float]] = {}

    def head(self) -> str:
        """Returns the two lines above."""
        options = self.options
        return (
            f"{options.channels} channels, {options.precision} on {options.device}, {options.memory_mb:g} MB allowed\n"
            f"{'photo':>9s} {'positions':>10s} {'method':>15s} {'seconds':>9s} {'processor':>9s} {'µs/place':>9s} "
            f"{'peak MB':>8s} {'found':>6s} {'recall':>6s}"
        )

    def row(self, method: str, megapixels: float) -> str:
        """Returns one line, after measuring what it tells."""
        positions = megapixels * 1e6 / 16
        label = f"{megapixels:6.3g} MP {positions:10.0f} {method:>15s} "
        needed = naive_mb(megapixels, self.options.channels)
        if method == "naive" and needed > free_mb(self.options.device):
            return f"{label} does not fit: {needed / 1e3:,.0f} GB"
        expected = self._expected(method, megapixels)
        if expected > self.options.longest_s:
            self.last[method] = (megapixels, expected)
            return f"{label} not run: about {expected / 60:,.0f} min"
        everywhere = self.last.get("streaming", (0.0, 0.0))
        compared = everywhere[0] == megapixels and everywhere[1] < self.options.longest_s
        figures = measured_apart(method, megapixels, self.options, recall=compared)
        if figures is None:
            return f"{label} ran out of memory"
        self.last[method] = (megapixels, figures.seconds)
        each = figures.processor_seconds * 1e6 / positions
        recall = "" if figures.recall is None else f"{figures.recall:6.3f}"
        return (
            f"{label}{figures.seconds:9.2f} {figures.processor_seconds:9.2f} {each:9.1f} {figures.peak_mb:8.0f} "
            f"{figures.found:6.3f} {recall}"
        )

    def _expected(self, method: str, megapixels: float) -> float:
        if method not in self.last:
            return 0.0
        before, seconds = self.last[method]
        return seconds * (megapixels / before) ** (1 if method == "coarse-to-fine" else 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, action="append")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--memory-mb", type=float, default=256.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--longest-s", type=float, default=120.0, help="what would take longer is not run")
    parser.add_argument("--run", choices=tuple(METHODS), help="measure this alone, and print the figures as JSON")
    parser.add_argument("--recall", action="store_true", help="with --run coarse-to-fine: search everywhere too")
    options = parser.parse_args()
    if options.run:
        print(json.dumps(measure(options.run, options.megapixels[0], options).__dict__))
    else:
        table = Table(options)
        print(table.head(), flush=True)
        for megapixels in options.megapixels or MEGAPIXELS:
            for method in METHODS:
                print(table.row(method, megapixels), flush=True)


if __name__ == "__main__":
    main()
