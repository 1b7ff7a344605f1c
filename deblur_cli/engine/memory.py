"""How much memory is free, how much a network wants, and the tile that follows."""

from __future__ import annotations

import math
import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from deblur_cli.engine.device import Device, channels_last, lowered
from deblur_cli.engine.tiles import round_up
from deblur_cli.networks.contract import Model, SingleModel

MIB = 1 << 20
CPU_BUDGET_BYTES = 448 * MIB
"""Most that activations of a tile may take on a CPU: beside a 24-megapixel photo, its restoration (0.3 GiB each), the
decoder and PyTorch itself this keeps the process under 2.5 GiB, and 100 megapixels under 4 GiB."""
SHARE_OF_FREE = 0.6
"""Of the memory that is free now: other programs, and our own decoding and encoding threads, want some too."""
LONGEST_TILE_PX = {"cpu": 1152, "mps": 1152, "cuda": 2048}
"""Beyond these the overlap costs little (at 64 px: 1.12 and 1.07 times the work; at 192 px: 1.44 and 1.22)."""
PROBE_PX = 128
UNSEEN = 1.6
"""Allowance for what the probe cannot see: copies that kernels make, memory that the allocator keeps."""


@dataclass(frozen=True)
class TileChoice:
    """The longest side of a tile that fits, and why, as a phrase for `--verbose`."""

    tile_px: int
    reason: str


def choose_tile(model: Model, device: Device, *, free_bytes: int | None = None) -> TileChoice:
    """Returns the largest useful tile whose activations fit; never below `smallest_tile(model)`.

    The network, which must be on the device, is run once over a small picture to see what it keeps alive per pixel.
    `free_bytes` replaces the measured free memory.
    """
    free = free_memory(device.torch_device) if free_bytes is None else free_bytes
    per_pixel = activation_bytes_per_pixel(model, device)
    budget = SHARE_OF_FREE * free
    if device.torch_device.type == "cpu":
        budget = min(budget, CPU_BUDGET_BYTES)
    fits = int(math.sqrt(max(budget, 0) / per_pixel))
    longest = LONGEST_TILE_PX.get(device.torch_device.type, LONGEST_TILE_PX["cpu"])
    multiple = model.traits.size_multiple
    tile = max(min(fits, longest) // multiple * multiple, smallest_tile(model))
    reason = f"{per_pixel / 1024:.1f} KiB a pixel, {free / MIB:,.0f} MiB free, {budget / MIB:,.0f} MiB of it for tiles"
    return TileChoice(tile, reason)


def smallest_tile(model: Model) -> int:
    """Returns the smallest tile that makes sense for the network: half of it is overlap."""
    traits = model.traits
    return max(2 * round_up(traits.overlap_px, traits.size_multiple), round_up(64, traits.size_multiple))


def activation_bytes_per_pixel(model: Model, device: Device) -> float:
    """Returns the most that the network keeps alive at one moment for each pixel of its input, in bytes.

    Measured on a grey picture of 128 px or the smallest tile, on the device and in its precision.
    """
    # A smaller one is mostly what a network that pads its input adds around it.
    side = max(round_up(PROBE_PX, model.traits.size_multiple), smallest_tile(model))
    grey = torch.full((1, 3, side, side), 0.5, device=device.torch_device)
    inputs = [grey] if isinstance(model, SingleModel) else [grey, grey.clone()]
    live = _LiveBytes()
    with torch.inference_mode(), live, lowered(device):
        model.network(*channels_last(inputs))
    outside = 4 * 3 * (len(inputs) + 1)
    return UNSEEN * (live.peak / side**2 + outside)


class _LiveBytes(TorchFunctionMode):
    """Watches what every torch function returns, and counts the bytes of what is still alive; `peak` is the most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak: int = 0
        self._live: int = 0
        self._holders: dict[int, int] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self._watch(value)
        return result

    def _watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if address not in self._holders:
            self._live += storage.nbytes()
            self.peak = max(self.peak, self._live)
        self._holders[address] = self._holders.get(address, 0) + 1
        weakref.finalize(tensor, self._forget, address, storage.nbytes())

    def _forget(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if self._holders[address] == 0:
            del self._holders[address]
            self._live -= size


def free_memory(device: torch.device) -> int:
    """Returns the bytes that a tile may hope for on the device: free now, or freed on demand."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + kept)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return min(int(psutil.virtual_memory().available), control_group_room())


def control_group_room(proc: Path = Path("/proc"), mount: Path = Path("/sys/fs/cgroup")) -> int:
    """Returns the bytes that the process's control groups (containers) still allow; `sys.maxsize` without a limit.

    Honours versions 1 and 2, and every group above the process's own. Pages of files that the kernel gives back at
    need do not count as used.
    """
    try:
        memberships = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return sys.maxsize
    room = sys.maxsize
    for line in memberships:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers == "":
            room = min(room, _room_upwards(mount, path, "memory.max", "memory.current", "inactive_file"))
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            room = min(room, _room_upwards(mount / "memory", path, *names))
    return max(room, 0)


def _room_upwards(mount: Path, path: str, limit_name: str, usage_name: str, reclaimable_name: str) -> int:
    # Inside a container the path is the host's and absent here: then the mount itself is our group.
    group = mount / path.lstrip("/")
    if not group.is_dir():
        group = mount
    room = sys.maxsize
    for folder in (group, *group.parents):
        room = min(room, _room(folder, limit_name, usage_name, reclaimable_name))
        if folder == mount:
            break
    return room


def _room(folder: Path, limit_name: str, usage_name: str, reclaimable_name: str) -> int:
    try:
        limit = (folder / limit_name).read_text().strip()
        usage = int((folder / usage_name).read_text())
        statistics = (folder / "memory.stat").read_text().split()
    except (OSError, ValueError):
        return sys.maxsize
    if not limit.isdigit() or int(limit) >= 1 << 60:  # "max", or version 1's way of saying so
        return sys.maxsize
    pairs = dict(zip(statistics[::2], statistics[1::2], strict=False))
    return int(limit) - usage + int(pairs.get(reclaimable_name, 0))
