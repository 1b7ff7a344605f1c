from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deblur_cli.errors import DatasetError
from deblur_cli.networks.blur_selector import ANGLES, KINDS, RADII, WINDOW_PX, BlurSelector
from deblur_cli.training.whole_pictures import BASE, PictureCache, WholePicture, corners_of, whole_picture

HEIGHT, WIDTH = 240, 352


def picture(seed: int = 0) -> WholePicture:
    generator = torch.Generator().manual_seed(seed)
    blurry, truth = torch.randint(0, 256, (2, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    return whole_picture(blurry, truth, {"source": "x", "path_px": "3.5"})


def test_what_is_put_comes_back(tmp_path: Path) -> None:
    cache, made = PictureCache(tmp_path, "train"), picture()
    assert not cache.has(7)
    assert cache.numbers() == []
    cache.put(7, made)
    assert cache.has(7)
    back = cache.get(7)
    assert set(back.arrays) == set(BASE)
    assert all(torch.equal(back.arrays[name], made.arrays[name]) for name in BASE)
    assert dict(back.facts) == {"source": "x", "path_px": "3.5"}
    assert cache.size(7) == (HEIGHT, WIDTH)
    assert PictureCache(tmp_path, "held-out").numbers() == []


def test_a_picture_at_rest_is_its_own_truth_on_disk_too(tmp_path: Path) -> None:
    cache, still = PictureCache(tmp_path, "train"), picture().blurry
    cache.put(0, whole_picture(still, still, {}))
    assert torch.equal(cache.get(0).truth, still)
    assert torch.equal(cache.get(0).blurry, still)


def test_a_selector_would_see_the_same_windows() -> None:
    made = picture()
    spectra = BlurSelector(1, 1).spectra(made.blurry.float().mean(0, keepdim=True) / 255)[0]
    assert spectra.shape == (2, 3, KINDS, ANGLES, RADII)
    torch.testing.assert_close(made.arrays["spectra"], spectra.flatten(0, 1))
    assert corners_of(HEIGHT, WIDTH) == [(0, 0), (0, 64), (0, 128), (16, 0), (16, 64), (16, 128)]


def test_a_window_is_read_by_itself(tmp_path: Path) -> None:
    cache, made = PictureCache(tmp_path, "train"), picture()
    cache.put(0, made)
    corner = corners_of(HEIGHT, WIDTH)[4]
    expected = made.truth[:, 16 : 16 + WINDOW_PX, 64 : 64 + WINDOW_PX]
    assert torch.equal(cache.window(0, "truth", corner), expected)
    assert torch.equal(cache.spectra(0, 4), made.arrays["spectra"][4])
    assert torch.equal(cache.spectra(0), made.arrays["spectra"])


def test_additions_lie_beside_a_picture(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, "train")
    for number in (0, 1):
        cache.put(number, picture(number))
    candidate = torch.rand(4, HEIGHT, WIDTH).half()
    cache.add(1, "blind", candidate)
    assert cache.numbers() == [0, 1]
    assert cache.numbers(["blind"]) == [1]
    assert torch.equal(cache.get(1, ["blind"]).arrays["blind"], candidate)
    assert torch.equal(cache.window(1, "blind", (16, 0)), candidate[:, 16:240, :WINDOW_PX])
    cache.add(1, "blind", 0 * candidate)
    assert not cache.get(1, ["blind"]).arrays["blind"].any()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    cache = PictureCache(tmp_path, "train")
    cache.put(0, picture())
    cache.file(0).write_bytes(cache.file(0).read_bytes()[:1000])
    with pytest.raises(DatasetError, match=r"000000.safetensors.*made again"):
        cache.get(0)
    for read in (cache.size, cache.facts):
        with pytest.raises(DatasetError, match=r"000000.safetensors.*Delete that file"):
            read(0)
        with pytest.raises(DatasetError, match=r"000001.safetensors.*made again by the next run"):
            read(1)
