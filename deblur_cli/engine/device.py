"""Where a network runs, and in which precision: chosen, and applied."""

from __future__ import annotations

import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from deblur_cli.errors import DeviceError
from deblur_cli.networks.contract import Traits

PRECISIONS = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
CPU_BFLOAT16 = ("amx_bf16", "avx512_bf16")
"""Instructions that multiply bfloat16. Without either, PyTorch computes it in software, many times slower."""
CUDA_BFLOAT16_CAPABILITY = (8, 0)
"""Ampere. Older cards take bfloat16 and compute it in float32."""


@dataclass(frozen=True)
class Device:
    """Where and how precisely to run. `reason` is a phrase for `--verbose`.

    `precision_asked` tells that the user named the precision, so that it is never exchanged quietly.
    """

    torch_device: torch.device
    dtype: torch.dtype
    reason: str
    precision_asked: bool = False

    @property
    def dtype_name(self) -> str:
        """The precision's name: "float32", "bfloat16" or "float16"."""
        return str(self.dtype).removeprefix("torch.")


def choose(device: str = "auto", precision: str = "auto") -> Device:
    """Returns the device and precision that were asked for, or with "auto" the fastest that this machine really has.

    `device` is "auto" (CUDA, then MPS, then CPU), "cpu", "cuda", "cuda:N" or "mps"; `precision` is "auto" (bfloat16
    where the hardware multiplies it, else float32), "float32", "bfloat16", "float16" or "fp32", "bf16", "fp16".
    Raises DeviceError for what is not there, with the remedy.
    """
    torch_device, why_device = _find_device(device.strip().lower())
    dtype, why_precision = _find_precision(precision.strip().lower(), torch_device)
    return Device(torch_device, dtype, f"{why_device}; {why_precision}", precision.strip().lower() != "auto")


def fit_to_network(device: Device, name: str, traits: Traits) -> Device:
    """Returns the device in a precision that is safe for the network: the same, or float32 where nobody asked.

    Raises DeviceError where the user named a precision that the network's measurements rule out.
    """
    safe = {torch.float32: True, torch.bfloat16: traits.bfloat16, torch.float16: traits.float16}
    if safe[device.dtype]:
        return device
    if device.precision_asked:
        raise DeviceError(
            f"The network {name} gives wrong pictures in {device.dtype_name}. "
            "Take --precision float32, or leave the option out."
        )
    reason = f"{device.reason}; float32 all the same, since {name} is not safe in {device.dtype_name}"
    return replace(device, dtype=torch.float32, reason=reason)


def _find_device(requested: str) -> tuple[torch.device, str]:
    if requested == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device()), f"{torch.cuda.get_device_name()} found"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU found"
        return torch.device("cpu"), "no GPU found"
    if requested == "cpu":
        return torch.device("cpu"), "CPU asked for"
    if requested == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError(
                "MPS was asked for, but this machine has no Apple GPU that PyTorch can use. Leave --device out."
            )
        return torch.device("mps"), "MPS asked for"
    if re.fullmatch(r"cuda(:\d+)?", requested):
        return _find_cuda(requested)
    raise DeviceError(
        f"There is no device '{requested}'. Take --device auto, cpu, cuda, cuda:N (the N-th card) or mps."
    )


def _find_cuda(requested: str) -> tuple[torch.device, str]:
    if torch.version.cuda is None and torch.version.hip is None:
        raise DeviceError(
            "CUDA was asked for, but the installed PyTorch is a build without it. Install one with CUDA "
            "(https://pytorch.org/get-started), or leave --device out."
        )
    if not torch.cuda.is_available():
        raise DeviceError(
            "CUDA was asked for, but PyTorch sees no card. Check with nvidia-smi that the driver runs and is new "
            f"enough for CUDA {torch.version.cuda}, or leave --device out."
        )
    number = int(requested.partition(":")[2] or torch.cuda.current_device())
    if number >= torch.cuda.device_count():
        raise DeviceError(
            f"Card {requested} was asked for, but there are {torch.cuda.device_count()}, counted from cuda:0. "
            "Take one of those, or leave --device out."
        )
    return torch.device("cuda", number), f"{torch.cuda.get_device_name(number)} asked for"


def _find_precision(requested: str, device: torch.device) -> tuple[torch.dtype, str]:
    if requested != "auto" and requested not in PRECISIONS:
        raise DeviceError(f"There is no precision '{requested}'. Take --precision auto, float32, bfloat16 or float16.")
    has_bfloat16, why = bfloat16_support(device)
    if requested == "auto":
        return (torch.bfloat16, f"bfloat16, since {why}") if has_bfloat16 else (torch.float32, f"float32, since {why}")
    dtype = PRECISIONS[requested]
    if dtype is torch.bfloat16 and not has_bfloat16 and device.type != "mps":
        raise DeviceError(f"bfloat16 was asked for, but {why}. Take --precision float32, or leave the option out.")
    if dtype is torch.float16 and device.type == "cpu":
        raise DeviceError("float16 was asked for, but needs a GPU. Take --precision float32, or leave the option out.")
    return dtype, f"{str(dtype).removeprefix('torch.')} asked for"


def bfloat16_support(device: torch.device) -> tuple[bool, str]:
    """Returns whether the hardware itself multiplies bfloat16, and what says so."""
    if device.type == "cuda":
        if torch.version.hip is not None:
            return bool(torch.cuda.is_bf16_supported(including_emulation=False)), "the card's driver says so"
        major, minor = torch.cuda.get_device_capability(device)
        has = (major, minor) >= CUDA_BFLOAT16_CAPABILITY
        return has, f"a card of compute capability {major}.{minor} {'has' if has else 'lacks'} bfloat16"
    if device.type == "mps":
        return False, "bfloat16 has not been measured on Apple GPUs"
    found = [flag for flag in CPU_BFLOAT16 if flag in cpu_flags()]
    if found:
        return True, f"the processor has {found[0]}"
    return False, f"the processor has neither {' nor '.join(CPU_BFLOAT16)}"


def cpu_flags(proc: Path = Path("/proc")) -> frozenset[str]:
    """Returns the instruction sets that the processor reports, in lower case; empty where nothing tells them."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # newer than the oldest PyTorch that we take
    if capabilities is not None:
        return frozenset(str(name).lower() for name, has in capabilities().items() if has is True)
    if platform.system() != "Linux":
        return frozenset()
    for line in (proc / "cpuinfo").read_text(errors="replace").splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].lower().split())
    return frozenset()


def move_network(network: nn.Module, device: Device) -> nn.Module:
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
    """Returns pictures (B, 3, H, W) in the order in memory that `move_network` gave the weights."""
    return [tensor.contiguous(memory_format=torch.channels_last) for tensor in pictures]


def synchronise(device: Device) -> None:
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
