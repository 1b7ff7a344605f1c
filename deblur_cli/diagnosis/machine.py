"""Versions, the device and its precision, and memory."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata

import torch

from deblur_cli import __version__
from deblur_cli.diagnosis.check import Check, State
from deblur_cli.engine.device import bfloat16_support, choose, cpu_flags
from deblur_cli.engine.memory import free_memory

GIB = 1 << 30
LEAST_TORCH = (2, 10)
"""Older ones have loaders of weights that can be broken out of."""
LIBRARIES = (
    "torch",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "tifffile",
    "rawpy",
    "safetensors",
    "huggingface-hub",
)
NEEDED_GIB = 2.5
"""What restoring 24 megapixels takes on a processor; 100 megapixels take 4."""
AMX = ("amx_bf16", "amx_int8", "amx_tile")
SLOW_ON_CPU = "Restoring on a processor takes a minute or so for 24 megapixels; a card is many times as fast."


def check_versions() -> Iterator[Check]:
    """Yields deblur, Python and the libraries under it, with their versions."""
    yield Check("deblur", State.OK, __version__)
    yield Check("python", State.OK, f"{platform.python_version()} on {platform.platform(terse=True)}")
    for name in LIBRARIES:
        yield _library(name)


def _library(name: str) -> Check:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        # Other distributions of one library have other names: opencv-python, for example.
        return Check(name, State.NOTE, "not installed under this name", "Reinstall: pip install --upgrade deblur-cli")
    if name == "torch" and _number(version) < LEAST_TORCH:
        remedy = "Older ones can be broken out of by a weight file. Run: pip install --upgrade torch"
        return Check(name, State.PROBLEM, version, remedy)
    return Check(name, State.OK, version)


def _number(version: str) -> tuple[int, int]:
    major, minor = (int(part) for part in version.split("+")[0].split(".")[:2])
    return major, minor


def check_device() -> Iterator[Check]:
    """Yields where networks run without being told, every card, and what the processor has for them."""
    chosen = choose()
    on_cpu = chosen.torch_device.type == "cpu"
    yield Check(
        "device",
        State.NOTE if on_cpu else State.OK,
        f"{chosen.torch_device} in {chosen.dtype_name}: {chosen.reason}",
        _without_card() if on_cpu else "",
    )
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(number)
        has, why = bfloat16_support(torch.device("cuda", number))
        found = f"{facts.name}, {facts.total_memory / GIB:.0f} GiB; {why}"
        slow = "" if has else "Networks compute in float32 on it; newer cards are faster."
        yield Check(f"cuda:{number}", State.OK if has else State.NOTE, found, slow)
    yield _processor()


def _without_card() -> str:
    built = torch.version.cuda or torch.version.hip
    if built is None and (shutil.which("nvidia-smi") or shutil.which("rocm-smi")):
        return (
            "There is a card, but PyTorch was built without it. Install one that was from "
            f"https://pytorch.org/get-started. {SLOW_ON_CPU}"
        )
    if built is not None and sys.platform != "darwin":
        return f"PyTorch is built for a card but sees none. Check with nvidia-smi that the driver runs. {SLOW_ON_CPU}"
    return SLOW_ON_CPU


def _processor() -> Check:
    flags = cpu_flags()
    if not flags:
        return Check("processor", State.NOTE, f"{platform.machine()}, which does not tell what it has")
    amx = [name for name in AMX if name in flags]
    has, why = bfloat16_support(torch.device("cpu"))
    found = f"{'AMX: ' + ', '.join(amx) if amx else 'no AMX'}; {why}; {torch.get_num_threads()} threads"
    remedy = "" if has else "Networks compute in float32 here; processors with AMX or AVX512-BF16 are faster."
    return Check("processor", State.OK, found, remedy)


def check_memory() -> Iterator[Check]:
    """Yields what is free for photos."""
    free = free_memory(torch.device("cpu")) / GIB
    remedy = ""
    if free < NEEDED_GIB:
        remedy = f"24 megapixels take {NEEDED_GIB} GiB. Close other programs, or give a smaller --tile."
    yield Check("memory", State.NOTE if remedy else State.OK, f"{free:.1f} GiB free", remedy)
