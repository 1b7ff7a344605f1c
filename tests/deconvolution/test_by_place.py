import pytest
import torch

from deblur_cli.deconvolution import by_place as module
from deblur_cli.deconvolution.by_place import MOST_PARTS, estimate_by_place, nearest, shape_of_parts
from deblur_cli.deconvolution.estimate import BlurKernels
from deblur_cli.deconvolution.kernel import agreement
from tests.deconvolution.scenes import blocks, blurred, hook


@pytest.mark.parametrize(
    ("height", "width", "shape"),
    [(560, 560, (1, 1)), (1600, 2200, (1, 1)), (2000, 3000, (1, 2)), (3000, 4000, (2, 3)), (4000, 6000, (2, 3))],
)
def test_pictures_of_every_size_have_few_parts(height: int, width: int, shape: tuple[int, int]) -> None:
    assert shape_of_parts(height, width) == shape


def test_panoramas_have_no_more_parts() -> None:
    for height, width in ((1000, 30_000), (30_000, 1000), (12_000, 9000)):
        rows, columns = shape_of_parts(height, width)
        assert 1 < rows * columns <= MOST_PARTS


def test_each_part_has_its_own_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PART_PX", 360)
    sharp, turned = blocks(320, 800), hook().rot90()
    halves = (blurred(sharp, hook(), noise=0.004)[..., :400], blurred(sharp, turned, noise=0.004)[..., 400:])
    left, right = estimate_by_place(torch.cat(halves, dim=2))
    assert agreement(left.kernels[0], hook()) > 0.9
    assert agreement(right.kernels[0], turned) > 0.9
    assert agreement(right.kernels[0], hook()) < 0.8
    assert (left.region[1].start, left.region[1].stop, right.region[1].start, right.region[1].stop) == (
        0,
        400,
        400,
        800,
    )


def test_a_part_that_is_not_believed_takes_its_neighbour_s(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {400: BlurKernels((hook(),), 0.9, (slice(0, 320), slice(0, 400)))}
    answers[401] = BlurKernels((hook(),), 0.2, (slice(0, 320), slice(0, 401)))
    monkeypatch.setattr(module, "PART_PX", 360)
    monkeypatch.setattr(module, "estimate_kernels", lambda picture: answers[picture.shape[2]])
    (believed,) = estimate_by_place(torch.zeros(3, 320, 801))
    assert believed.agreement == 0.9


def test_a_picture_that_tells_nothing_anywhere_still_has_kernels() -> None:
    assert len(estimate_by_place(torch.full((3, 128, 128), 0.5))) == 1


def test_the_nearest_is_chosen_by_where_was_looked() -> None:
    left, right = (BlurKernels((), 1.0, (slice(0, 100), slice(first, first + 100))) for first in (0, 300))
    assert nearest((left, right), 50, 190) is left
    assert nearest((left, right), 50, 210) is right
