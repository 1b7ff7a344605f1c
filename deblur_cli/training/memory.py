"""How much memory a training step takes, told before the first: a step that does not fit ends a training at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from deblur_cli.engine.memory import free_memory
from deblur_cli.progress import Progress
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.kinds import INPUTS
from deblur_cli.training.loop import Setting

COPIES = 5
"""Of the weights: themselves, gradients, two moments of Adam, the running average."""
BFLOAT16_SHARE = 0.6
"""Of what float32 takes: most tensors are half as large, those that norms and pooling want are not."""
PROBE_PATCHES = 2
"""Those that normalise over the batch want more than one."""


@dataclass(frozen=True)
class StepMemory:
    """Bytes that stay the same, and bytes that each patch of a pass through the network keeps for the way back."""

    weights: int
    patch: int

    def of(self, patches: int) -> int:
        """Returns what a pass of so many patches takes."""
        return self.weights + patches * self.patch


def step_memory(network: nn.Module, config: TrainConfig, dtype: torch.dtype, *, every_output: bool) -> StepMemory:
    """Returns what a training step takes, without computing anything: on shapes alone (the meta device).

    What the forward pass saves for the backward pass is counted, each storage once; what kernels want for a moment is
    not. Estimated in bfloat16. The network is left as it was.
    """
    shapes: dict[str, Tensor] = {name: value.detach().to("meta") for name, value in network.named_buffers()}
    parameters = {
        name: value.detach().to("meta").requires_grad_(value.requires_grad)
        for name, value in network.named_parameters()
    }
    own = {value.untyped_storage()._cdata for value in (*shapes.values(), *parameters.values())}
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    side = config.data.patch_px
    pictures = (torch.empty(PROBE_PATCHES, 3, side, side, device="meta"),) * INPUTS[config.kind]
    keywords = {"every_output": True} if every_output else {}
    training = network.training
    network.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        held = functional_call(network, shapes | parameters, pictures, keywords)
    network.train(training)
    del held
    share = BFLOAT16_SHARE if dtype is torch.bfloat16 else 1.0
    weights = sum(value.numel() * value.element_size() for value in parameters.values())
    return StepMemory(COPIES * weights, round(share * sum(saved.values()) / PROBE_PATCHES))


def tell_memory(network: nn.Module, setting: Setting, progress: Progress, *, every_output: bool) -> None:
    """Tells what a step takes and what is free, and what to do where the one is more than the other."""
    config = setting.config
    memory = step_memory(network, config, setting.dtype, every_output=every_output)
    patches = -(-config.data.batch // config.run.accumulate)
    needed, free = memory.of(patches), free_memory(setting.device)
    text = (
        f"{sum(value.numel() for value in network.parameters()) / 1e6:.2f} million parameters. A step takes about "
        f"{_size(needed)}, {_size(memory.patch)} for each of {patches} patches; {_size(free)} are free"
    )
    fits = max(1, (free - memory.weights) // max(memory.patch, 1))
    if needed <= free or patches == 1:
        progress.note(f"{text}.")
        return
    parts = -(-config.data.batch // fits)
    progress.note(f"{text}: too little. Give --accumulate {parts}, or fewer patches with --batch.")


def _size(count: int) -> str:
    """Returns bytes in words."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
