import numpy as np
import pytest

from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.pipelines.blur_map import LONGEST_PX, draw_blur_map
from tests.deconvolution.scenes import hook

GREY = np.full((300, 420, 3), 0.5, np.float32)


def blur(agreement: float = 0.95) -> BlurKernels:
    return BlurKernels((hook(25), hook(31)), agreement, (slice(20, 280), slice(60, 400)))


def test_kernels_and_the_part_that_was_looked_at_are_drawn_over_the_dimmed_photo() -> None:
    drawn = draw_blur_map(GREY, blur())
    assert drawn.shape == (300, 420, 3)
    assert drawn[5, 5].max() < 0.5 * 128 + 1
    assert drawn[20, 200].max() > 100  # the frame's upper edge
    middle = drawn[110:190, 140:320]
    assert middle.max() > 240  # the kernels' brightest point
    assert np.mean(middle == 0) > 0.2  # and the dark around their paths


def test_the_frame_is_green_where_both_ways_agree_and_orange_where_not() -> None:
    agreed, doubted = draw_blur_map(GREY, blur(0.95))[20, 200], draw_blur_map(GREY, blur(0.1))[20, 200]
    assert agreed[1] > agreed[0]
    assert doubted[0] > doubted[1]


def test_a_large_photo_is_drawn_small() -> None:
    photo = np.full((1500, 2400, 3), 0.5, np.float32)
    assert draw_blur_map(photo, blur(), 0.5).shape == (750, LONGEST_PX, 3)


@pytest.mark.parametrize("size", [(64, 64), (64, 400), (400, 64)])
def test_the_smallest_photos_have_room(size: tuple[int, int]) -> None:
    everything = BlurKernels((hook(25), hook(31)), 0.9, (slice(0, size[0]), slice(0, size[1])))
    assert draw_blur_map(np.zeros((*size, 3), np.float32), everything).shape == (*size, 3)
