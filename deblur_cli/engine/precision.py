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
    # The stubs of Module.to lack its fourth form, which sets the order of four-dimensional weights in memory.
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def run(network: nn.Module, device: Device, inputs: Sequence[Tensor]) -> Tensor:
    """Returns the network's answer to the inputs as float32 on the device.

    `inputs` are (B, 3, H, W) float32 on the device. Must be called under `torch.inference_mode` when nothing is to be
    learnt.
    """
    laid_out = [tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs]
    lowered = device.dtype is not torch.float32
    with torch.autocast(device.torch_device.type, device.dtype if lowered else None, enabled=lowered):
        answer: Tensor = network(*laid_out)
    return answer.float()


def wait(device: Device) -> None:
    """Returns once the device has done what it was given, so that time can be measured."""
    if device.torch_device.type == "cuda":
        torch.cuda.synchronize(device.torch_device)
    elif device.torch_device.type == "mps":
        torch.mps.synchronize()
