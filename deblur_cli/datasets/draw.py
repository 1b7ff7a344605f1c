"""Random draws that depend on names alone: the same seed, purpose and number give the same draw on any machine."""

from __future__ import annotations

import hashlib

import torch


def seed_for(*parts: int | str) -> int:
    """Returns a seed below 2⁶³ of any numbers and names; other parts give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def generator_for(device: torch.device | str, *parts: int | str) -> torch.Generator:
    """Returns a fresh generator on `device`, seeded by `seed_for`."""
    return torch.Generator(device=device).manual_seed(seed_for(*parts))


def share_of(name: str) -> float:
    """Returns a number in [0, 1) that is fixed for a name and evenly spread over names."""
    return seed_for("share", name) / 2**63
