from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from deblur_cli.adaptation import blur_library as module
from deblur_cli.adaptation.blur_library import (
    WIDEST_PX,
    BlurLibrary,
    ShotKernel,
    blur_by,
    detailed_windows,
    find_library,
    kernels_of,
    load_library,
    save_library,
)
from deblur_cli.convert import stack_bytes
from deblur_cli.deconvolution.kernel import agreement
from tests.adaptation.bank import line, line_library
from tests.adaptation.shot_files import scene


def shot(kernel: torch.Tensor, seed: int) -> np.ndarray:
    """Returns a scene blurred by a kernel, (260, 320, 3) uint8."""
    edge = len(kernel) - 1
    sharp = stack_bytes([scene(seed, (260 + edge, 320 + edge))]).float() / 255
    return np.ascontiguousarray(np.rint(blur_by(kernel[None], sharp)[0].permute(1, 2, 0).numpy() * 255), np.uint8)


def test_the_kernels_of_shots_are_found_and_none_twice() -> None:
    across, down = line(11), line(9, down=True)
    frames = [shot(across, 1), shot(down, 2), shot(across, 3)]
    library = find_library(frames, 3)
    assert library is not None
    assert library.windows == 3
    assert library.believed >= 2
    assert max(agreement(each.kernel, across) for each in library.kernels) > 0.8
    assert max(agreement(each.kernel, down) for each in library.kernels) > 0.8
    assert len(library) <= library.believed


def test_kernels_that_are_not_believed_or_are_no_blur_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [ShotKernel(line(9), 0.5, 0), ShotKernel(line(1), 0.99, 0), ShotKernel(line(7), 0.9, 0)]
    monkeypatch.setattr(module, "kernels_of", lambda *_: found)
    library = find_library([scene(0)], 3)
    assert library is not None
    assert [each.agreement for each in library.kernels] == [0.9]
    assert (library.windows, library.believed) == (3, 1)
    assert str(library).startswith("1 kernels, 1 of 3 windows believed, of 7 to 7 px")


def test_a_stop_leaves_nothing() -> None:
    assert find_library([scene(0)], 3, stop=lambda: True) is None


def test_of_many_shots_some_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(module, "kernels_of", lambda frame, number, windows: seen.append((number, windows)) or [])
    frames = [scene(0)] * 9
    find_library(frames, 3)
    find_library(frames, 30)
    assert seen == [(0, 1), (4, 1), (8, 1)] + [(number, 3) for number in range(9)]


def test_a_shot_too_small_for_a_kernel_has_none() -> None:
    assert kernels_of(scene(0, (60, 200)), 0, 1) == []


def test_windows_lie_where_detail_is_and_do_not_overlap() -> None:
    picture = torch.full((3, 1300, 2000), 0.5)
    picture[:, 660:, :640] = torch.rand(640, 640, generator=torch.Generator().manual_seed(0))
    windows = detailed_windows(picture, 3)
    assert windows[0] == (660, 1300, 0, 640)
    assert len(set(windows)) == 3
    for top, bottom, left, right in windows:
        others = [other for other in windows if other != (top, bottom, left, right)]
        assert all(o[1] <= top or bottom <= o[0] or o[3] <= left or right <= o[2] for o in others)
    assert detailed_windows(picture[:, :300, :500], 3) == [(0, 300, 0, 500)]


def test_what_is_drawn_is_flipped_turned_and_scaled() -> None:
    library = BlurLibrary((ShotKernel(line(11), 0.9, 0),), 1, 1)
    drawn = [library.draw(random.Random(seed)) for seed in range(24)]
    for kernel in drawn:
        assert len(kernel) % 2 == 1
        assert float(kernel.min()) >= 0
        assert float(kernel.sum()) == pytest.approx(1, abs=1e-4)
    assert {bool(kernel.sum(1).max() > kernel.sum(0).max()) for kernel in drawn} == {True, False}
    assert len({len(kernel) for kernel in drawn}) > 3
    assert min(map(len, drawn)) >= 11
    wide = BlurLibrary((ShotKernel(torch.full((45, 45), 45.0**-2), 0.9, 0),), 1, 1)
    assert max(len(wide.draw(random.Random(seed))) for seed in range(24)) == WIDEST_PX
    assert torch.equal(library.draw(random.Random(0)), library.draw(random.Random(0)))
    unscaled = [library.draw(random.Random(seed), (1.0, 1.0)) for seed in range(4)]
    assert all(sorted(kernel.flatten().tolist()) == sorted(line(11).flatten().tolist()) for kernel in unscaled)


def test_a_library_survives_its_file(tmp_path) -> None:
    library = line_library()
    save_library(library, tmp_path / "blur.safetensors")
    again = load_library(tmp_path / "blur.safetensors")
    assert (again.windows, again.believed, str(again)) == (library.windows, library.believed, str(library))
    for one, other in zip(again.kernels, library.kernels, strict=True):
        assert torch.equal(one.kernel, other.kernel)
        assert (one.agreement, one.shot, one.window) == (other.agreement, other.shot, other.window)
