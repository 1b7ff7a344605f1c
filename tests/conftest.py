"""What every test starts from: fixed seeds, an empty home, no network, no colour."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes test at once; more threads would only wait for each other
ROOT = Path(__file__).parent.parent
LOOPBACK = ("127.", "::1", "localhost")
_homes = count()


@pytest.fixture(autouse=True)
def _seeds() -> None:
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True)
def _isolated(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives each test its own home and caches, and a plain terminal of 80 columns."""
    # Not by mktemp, which looks through the folders of all tests before for a free number.
    home = tmp_path_factory.getbasetemp() / "homes" / str(next(_homes))
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    for name in [n for n in os.environ if n.startswith(("HF_", "HUGGING", "DEBLUR_")) and n != "DEBLUR_TEST_DEVICE"]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuses every connection that leaves this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.family != socket.AF_UNIX and not str(address[0]).startswith(LOOPBACK):  # type: ignore[index]
            raise OSError(f"tests must not reach the network: {address}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def shared() -> Path:
    """The project's shared photographs and benchmark; a user's clone has none."""
    folder = ROOT.parent / "shared"
    if not (folder / "bench").is_dir():
        pytest.skip("the shared benchmark and photographs are not beside this clone")
    return folder


def textured(size: tuple[int, int], seed: int) -> np.ndarray:
    """Returns an (H, W, 3) uint8 picture with smooth areas, edges and fine texture."""
    return _textured(size, seed).copy()


@lru_cache(maxsize=64)
def _textured(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    height, width = size
    y, x = np.mgrid[0:height, 0:width] / max(size)
    phase = rng.uniform(0, 6.28, (4, 3))
    picture = np.stack(
        [0.5 + 0.2 * np.sin(9 * x + phase[0, c]) + 0.15 * np.cos(14 * y + phase[1, c]) for c in range(3)], axis=-1
    )
    picture += 0.25 * ((np.sin(40 * x + phase[2, 0]) * np.sin(31 * y + phase[3, 0])) > 0.4)[..., None] - 0.1
    return np.clip(picture * 255 + rng.normal(0, 1.5, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def photo_factory(tmp_path: Path) -> Callable[..., Path]:
    """Writes small textured pictures into the test's folder; the suffix decides the format."""
    from PIL import Image

    def make(name: str = "a.jpg", size: tuple[int, int] = (48, 64), seed: int = 0, **save_options: object) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(textured(size, seed)).save(path, **save_options)
        return path

    return make
