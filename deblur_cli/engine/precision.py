"""Runs a network on a device in its precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deblur_cli.engine.device import Device


def move(network: nn.Module, device: Device) -> nn.Module:
    """Returns the network itself, in eval mode, its weights on the device in float32, channels last.

    Weights stay float32 whatever the precision: autocast lowers what convolutions multiply, and norms and pooling,
    which overflow or drift in 16 bits, are kept in float32 by the networks themselves.
    """
    network.eval()
    network.to(device.torch_device, torch.float32)
    if not any(value.dim() > 4 for value in (*network.parameters(), *network.buffers())):  # those have another order
        # The stubs of Module.to lack its fourth form, which sets the order of four-dimensional weights in memory.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def lowered(device: Device) -> torch.autocast:
    """Returns the context in which a network runs in the device's precision; what it answers may be in 16 bits."""
    lower = device.dtype is not torch.float32
    return torch.autocast(device.torch_device.type, device.dtype if lower else None, enabled=lower)


def channels_last(pictures: Sequence[Tensor]) -> list[Tensor]:
    """Returns pictures (B, 3, H, W) in the order in memory that `move` gave the weights."""
    return [tensor.contiguous(memory_format=torch.channels_last) for tensor in pictures]


def wait(device: Device) -> None:
    """Returns once the device has done what it was given, so that time can be measured."""
    if device.torch_device.type == "cuda":
        torch.cuda.synchronize(device.torch_device)
    elif device.torch_device.type == "mps":
        torch.mps.synchronize()


def free_cached(device: Device) -> None:
    """Gives back the memory that PyTorch keeps for itself on the device."""
    if device.torch_device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.torch_device.type == "mps":
        torch.mps.empty_cache()
