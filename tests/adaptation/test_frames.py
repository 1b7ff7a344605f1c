from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from deblur_cli.adaptation.frames import Shots, check_shots, digest_of_shots, floats_of, grey_of, store_of, thinned
from deblur_cli.errors import DatasetError
from tests.conftest import textured

CPU = torch.device("cpu")


def test_shots_that_no_crop_fits_into_are_refused_with_their_size():
    with pytest.raises(DatasetError, match=r"None of 2 sharp shots has 64 pixels.*largest has 50"):
        store_of([textured((40, 90), 0), textured((50, 60), 1)], 64, CPU, "sharp")


def test_small_shots_are_left_out_where_others_are_large_enough():
    assert len(store_of([textured((40, 90), 0), textured((80, 70), 1)], 64, CPU, "sharp")) == 1


@pytest.mark.parametrize(("blurry", "sharp", "held", "held_sharp", "said"), [
    (3, 4, 1, 1, "3 blurry shots, and 4"), (4, 2, 1, 1, "2 sharp shots, and 3"),
    (4, 4, 0, 1, "0 held-back blurry shots, and 1"), (4, 4, 1, 0, "0 held-back sharp shots, and 1"),
])  # fmt: skip
def test_too_few_shots_are_counted(blurry, sharp, held, held_sharp, said):
    frame = textured((32, 32), 0)
    with pytest.raises(DatasetError, match=said):
        check_shots(Shots((frame,) * blurry, (frame,) * sharp, (frame,) * held, (frame,) * held_sharp))


def test_a_crop_at_full_scale_is_the_pixels_themselves():
    frame = textured((60, 80), 3)
    crop = store_of([frame], 32, CPU, "sharp").crop(0, 32, random.Random(0))
    pixels = (crop.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    places = [(y, x) for y in range(29) for x in range(49) if np.array_equal(frame[y : y + 32, x : x + 32], pixels)]
    assert len(places) == 1


def test_a_shrunken_crop_has_the_side_asked_for():
    store = store_of([textured((60, 80), 3)], 32, CPU, "sharp")
    assert store.crop(0, 32, random.Random(0), (0.6, 0.7)).shape == (3, 32, 32)
    assert store.crop(0, 32, random.Random(0), (0.1, 0.1)).shape == (3, 32, 32)


def test_the_digest_knows_every_pixel_and_every_part():
    frame, other = textured((32, 32), 0), textured((32, 32), 0)
    other[5, 5, 1] ^= 1
    shots = Shots((frame,), (frame,), (frame,), ())
    digests = {digest_of_shots(s) for s in (
        shots, Shots((other,), (frame,), (frame,), ()), Shots((frame,), (frame, frame), (), ()),
        Shots((frame, frame), (frame,), (), ()),
    )}  # fmt: skip
    assert len(digests) == 4
    assert digest_of_shots(shots) == digest_of_shots(Shots((frame.copy(),), (frame.copy(),), (frame.copy(),), ()))


def test_thinning_keeps_both_ends():
    frames = [np.full((1, 1, 3), n, np.uint8) for n in range(10)]
    assert [int(f[0, 0, 0]) for f in thinned(frames, 4)] == [0, 3, 6, 9]
    assert len(thinned(frames, 20)) == 10


def test_pixels_as_numbers():
    frame = np.full((2, 2, 3), 51, np.uint8)
    assert floats_of(frame).dtype == np.float32
    assert floats_of(frame)[0, 0, 0] == pytest.approx(0.2)
    assert grey_of(floats_of(frame))[1, 1] == pytest.approx(0.2, abs=1e-6)
