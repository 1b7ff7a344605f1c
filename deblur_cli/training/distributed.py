"""One training on several GPUs or machines, started by torchrun; alone, everything here does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from deblur_cli.errors import UsageError

AGREE_EVERY = 16
"""Steps between two exchanges of clock and stop requests: each exchange makes a GPU wait."""


@dataclass(frozen=True)
class World:
    """One process among those of the training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def local_device(self, device: torch.device) -> torch.device:
        """Returns this process's own GPU where several processes share a machine."""
        return torch.device("cuda", self.local_rank) if device.type == "cuda" and self.size > 1 else device

    def agree(self, share: float, stop: bool, device: torch.device) -> tuple[float, bool]:
        """Returns the largest share of the budget, and whether any process wants to stop; the same everywhere."""
        if self.size == 1:
            return share, stop
        requests = torch.tensor([share, float(stop)], dtype=torch.float64, device=device)
        dist.all_reduce(requests, op=dist.ReduceOp.MAX)
        return float(requests[0]), bool(requests[1])

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Returns the network, its gradients averaged over all processes; starts from the leader's weights."""
        if self.size == 1:
            return network
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids, gradient_as_bucket_view=True)

    @torch.no_grad()
    def share(self, network: nn.Module) -> None:
        """Gives every process the leader's weights and buffers."""
        if self.size > 1:
            for tensor in (*network.parameters(), *network.buffers()):
                dist.broadcast(tensor, src=0)

    @torch.no_grad()
    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Makes every gradient the mean over all processes: what `wrap` does, for steps with several losses."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.size == 1 or not gradients:
            return
        together = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(together)
        together /= self.size
        begin = 0
        for gradient in gradients:
            gradient.copy_(together[begin : begin + gradient.numel()].view_as(gradient))
            begin += gradient.numel()

    def wait(self) -> None:
        """Returns when every process has come here."""
        if self.size > 1:
            dist.barrier()


def world_from_environment() -> World:
    """Returns this process's place, as torchrun wrote it into the environment; alone where it did not.

    Raises UsageError for an environment that is torchrun's only in part.
    """
    if "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
        return World()
    try:
        rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        local = int(os.environ.get("LOCAL_RANK", "0"))
    except ValueError as error:
        raise UsageError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers ({error}). Start with torchrun.") from error
    return World(rank, size, local)


@contextmanager
def joined(world: World, device: torch.device) -> Iterator[None]:
    """Joins the training's processes for the time of the context: NCCL between GPUs, gloo otherwise."""
    if world.size == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=world.rank, world_size=world.size)
    try:
        yield
    finally:
        dist.destroy_process_group()
