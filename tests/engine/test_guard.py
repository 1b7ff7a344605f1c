import pytest
import torch
import torch.nn.functional as F

from deblur_cli.engine.guard import checkerboard_share, judge


def picture(side=256, seed=0):
    """Returns something like a photograph: coarse shapes, edges and some fine texture."""
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(1, 3, side, side)
    for cells in (4, 16, 64):
        coarse = torch.rand(1, 3, cells, cells, generator=generator) - 0.5
        total += F.interpolate(coarse, (side, side), mode="bicubic") * (2 / cells) ** 0.5
    return (0.5 + 0.3 * total).clamp(0, 1)


def checkerboard(side, field, colour=(1.0, -0.3, 0.5)):
    y, x = torch.meshgrid(torch.arange(side) // field, torch.arange(side) // field, indexing="ij")
    return (((x + y) % 2) * 2.0 - 1) * torch.tensor(colour).view(1, 3, 1, 1)


def blur(photo, side=9):
    return F.avg_pool2d(F.pad(photo, (side // 2,) * 4, mode="reflect"), side, 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_that_is_no_number_is_refused(value):
    photo = picture()
    restored = photo.clone()
    restored[0, 1, 7, 200] = value
    assert judge(restored, [photo]).reason == "not a number"


def test_a_colour_cast_is_refused():
    photo = picture()
    cast = photo + torch.tensor([0.12, 0, 0]).view(1, 3, 1, 1)
    assert judge(cast, [photo]).reason == "colours far off"


def test_exploding_contrast_is_refused():
    photo = picture()
    mean = photo.mean((2, 3), keepdim=True)
    assert judge(mean + 4 * (photo - mean), [photo]).reason == "contrast far above the photo's"


def test_a_flattened_picture_is_refused():
    photo = picture()
    assert judge(photo.mean((2, 3), keepdim=True).expand_as(photo), [photo]).reason == "contrast far below the photo's"


@pytest.mark.parametrize("field", [1, 2, 4, 8])
def test_checkerboards_over_a_flat_dark_area_are_refused(field):
    photo = torch.full((1, 3, 256, 256), 0.05)
    assert judge(photo + 0.03 * checkerboard(256, field), [photo]).reason == "checkerboards"


def test_checkerboards_in_a_quarter_of_a_blurry_photo_are_refused():
    sharp = picture()
    spoilt = sharp.clone()
    spoilt[..., :128, :128] += 0.05 * checkerboard(128, 2)
    assert judge(spoilt, [blur(sharp)]).reason == "checkerboards"


@pytest.mark.parametrize("seed", range(4))
def test_a_perfect_restoration_passes(seed):
    sharp = picture(seed=seed)
    assert judge(sharp, [blur(sharp)]).plausible


def test_denoising_passes():
    photo = picture()
    assert judge(photo, [photo + 0.1 * torch.randn(photo.shape)]).plausible


def test_the_photo_itself_passes():
    assert judge(picture(), [picture()]).plausible


@pytest.mark.parametrize("side", [1, 2, 15, 16, 40])
def test_small_pictures_are_judged_too(side):
    photo = torch.full((1, 3, side, side), 0.5)
    assert judge(photo, [photo]).plausible
    assert not judge(photo * float("nan"), [photo]).plausible


def test_a_pair_may_lie_between_its_exposures():
    dark, bright = picture() * 0.6, picture()
    assert not judge(bright, [dark]).plausible
    assert judge(bright * 0.8, [dark, bright]).plausible


def test_white_noise_and_edges_are_no_checkerboard():
    noise = 0.2 * torch.randn(1, 3, 256, 256)
    edges = torch.zeros(1, 3, 256, 256)
    edges[..., ::7] = 0.5
    assert checkerboard_share(noise) == 0
    assert checkerboard_share(edges) == 0
    assert checkerboard_share(0.02 * checkerboard(256, 1)) == 1
