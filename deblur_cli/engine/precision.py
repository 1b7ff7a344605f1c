"""Runs a network on a device in its precision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deblur_cli.engine.device import Device
from deblur_cli.networks.contract import ReferenceOutput


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


def run(network: nn.Module, device: Device, inputs: Sequence[Tensor], candidates: Tensor | None = None) -> Tensor:
    """Returns the network's answer to the inputs as float32 on the device.

    `inputs` are (B, 3, H, W) float32 on the device; `candidates` (B, C, H, W) for a network whose traits ask for them.
    Must be called under `torch.inference_mode` when nothing is to be learnt.
    """
    shown = {} if candidates is None else {"candidates": candidates}
    with _lowered(device):
        answer: Tensor = network(*_laid_out(inputs), **shown)
    return answer.float()


def run_with_confidence(network: nn.Module, device: Device, inputs: Sequence[Tensor]) -> ReferenceOutput:
    """Returns a reference network's answer as `run` does, and what it says of where that comes from, in float32."""
    with _lowered(device):
        answer: ReferenceOutput = network(*_laid_out(inputs), with_confidence=True)
    return ReferenceOutput(*(part.float() for part in answer))


def _lowered(device: Device) -> torch.autocast:
    lowered = device.dtype is not torch.float32
    return torch.autocast(device.torch_device.type, device.dtype if lowered else None, enabled=lowered)


def _laid_out(inputs: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.contiguous(memory_format=torch.channels_last) for tensor in inputs]


def wait(device: Device) -> None:
    """Returns once the device has done what it was given, so that time can be measured."""
    if device.torch_device.type == "cuda":
        torch.cuda.synchronize(device.torch_device)
    elif device.torch_device.type == "mps":
        torch.mps.synchronize()
