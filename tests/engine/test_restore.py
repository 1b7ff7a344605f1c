from contextlib import contextmanager

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deblur_cli.engine import restore as module
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import restore
from deblur_cli.errors import DeviceError, OutOfMemoryError, UsageError
from deblur_cli.networks.contract import PairModel, ReferenceModel, SingleModel, Traits
from deblur_cli.progress import SILENT

CPU = Device(torch.device("cpu"), torch.float32, "for a test")


class Identity(nn.Module):
    def forward(self, picture):
        return picture


class Brighter(nn.Module):
    """Multiplies red by 1.05, so that the order of channels shows."""

    def forward(self, picture):
        return picture * torch.tensor([1.05, 1.0, 1.0], device=picture.device).view(1, 3, 1, 1)


class Bounded(nn.Module):
    """A U-Net in small: unshuffles by 2, so the grid matters, and sees exactly 14 px."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*(nn.Conv2d(12, 12, 3, padding=1) for _ in range(3)))

    def forward(self, picture):
        features = F.pixel_unshuffle(picture, 4)[:, :12]
        for layer in self.layers:
            features = torch.tanh(layer(features))
        return picture + 0.1 * F.interpolate(F.pixel_shuffle(features, 2), scale_factor=2.0)


class Fusing(nn.Module):
    def forward(self, first, second):
        return 0.75 * first + 0.25 * second


class RunsOut(nn.Module):
    """Has memory for pictures up to `most_px` a side, and complains as `error` does."""

    def __init__(self, most_px, error):
        super().__init__()
        self.inside, self.most_px, self.error, self.sizes = Bounded(), most_px, error, []

    def forward(self, picture):
        self.sizes.append(max(picture.shape[2:]))
        if self.sizes[-1] > self.most_px:
            raise self.error
        return self.inside(picture)


class Watching:
    def __init__(self):
        self.notes, self.details, self.advanced, self.totals = [], [], 0, []

    @contextmanager
    def stage(self, name, total=None, unit=""):
        self.totals.append(total)
        yield self

    def advance(self, amount=1):
        self.advanced += amount

    def note(self, message):
        self.notes.append(message)

    def detail(self, message):
        self.details.append(message)


def single(network, **traits):
    return SingleModel("toy", network.eval(), Traits(**{"size_multiple": 8, "overlap_px": 56, "reach_px": 10} | traits))


def photo(height=200, width=300, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 20 + 2, width // 20 + 2, 3), dtype=np.float32)
    large = np.repeat(np.repeat(coarse, 20, axis=0), 20, axis=1)[:height, :width]
    return np.clip(0.2 + 0.5 * large + rng.normal(0, 0.02, large.shape), 0, 1).astype(np.float32)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([], "takes 1 pictures, got 0"),
        ([photo(), photo()], "takes 1 pictures, got 2"),
        ([photo().astype(np.float64)], "float32"),
        ([photo()[..., 0]], "H, W, 3"),
        ([photo()[:0]], "H, W, 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    with pytest.raises(ValueError, match=message):
        restore(single(Identity()), CPU, inputs)


def test_two_pictures_of_different_size_are_refused():
    model = PairModel("pair", Fusing(), Traits(size_multiple=8, overlap_px=8, reach_px=1))
    with pytest.raises(ValueError, match="one size"):
        restore(model, CPU, [photo(), photo(100)])


def test_a_tile_too_small_is_refused_with_the_smallest():
    with pytest.raises(UsageError, match=r"32 px are too small for toy\. Take --tile 112 or more"):
        restore(single(Identity()), CPU, [photo()], tile_px=32)


def test_a_precision_that_is_not_safe_is_refused():
    asked = Device(CPU.torch_device, torch.bfloat16, "", precision_asked=True)
    with pytest.raises(DeviceError):
        restore(single(Identity(), bfloat16=False), asked, [photo()])


def test_memory_too_small_for_any_tile_ends_with_a_sentence():
    with pytest.raises(OutOfMemoryError, match=r"Not even a tile of 112 px .* Close other programs"):
        restore(single(RunsOut(50, MemoryError())), CPU, [photo()], tile_px=256)


def test_other_errors_of_the_network_are_not_swallowed():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        restore(single(RunsOut(50, RuntimeError("shapes cannot be multiplied"))), CPU, [photo()], tile_px=256)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: not enough memory: you tried to"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_memory_that_runs_out_halves_the_tile_with_the_same_result(error):
    network = RunsOut(130, error)
    watching = Watching()
    halved = restore(single(network), CPU, [photo()], watching, tile_px=304)
    whole = restore(single(Bounded()), CPU, [photo()], tile_px=304)
    np.testing.assert_allclose(halved.pixels, whole.pixels, atol=1e-5)
    assert halved.tile_px <= 130
    assert halved.tiles > whole.tiles == 1
    assert watching.advanced == halved.tiles
    assert any("memory ran out with 304 px" in detail for detail in watching.details)


def test_memory_that_runs_out_halfway_leaves_nothing_doubled(monkeypatch):
    network = Bounded()
    calls = []

    def fails_on_the_third(picture):
        calls.append(picture.shape)
        if len(calls) == 4:  # the first is the probe
            raise MemoryError
        return network(picture)

    class Fails(nn.Module):
        def forward(self, picture):
            return fails_on_the_third(picture)

    monkeypatch.setitem(module.choose_tile.__globals__["LONGEST_TILE_PX"], "cpu", 240)
    halved = restore(single(Fails()), CPU, [photo(400, 400)])
    assert halved.tiles > 4
    np.testing.assert_allclose(
        halved.pixels, restore(single(network), CPU, [photo(400, 400)], tile_px=400).pixels, atol=1e-5
    )


@pytest.mark.parametrize("size", [(200, 300), (203, 301), (64, 500)])
@pytest.mark.parametrize("tile_px", [112, 160, 176])
def test_tiles_equal_the_whole_for_a_network_of_bounded_reach(size, tile_px):
    picture = photo(*size)
    whole = restore(single(Bounded()), CPU, [picture], tile_px=512)
    tiled = restore(single(Bounded()), CPU, [picture], tile_px=tile_px)
    assert whole.tiles == 1 < tiled.tiles
    assert np.abs(whole.pixels - picture).max() > 0.01
    np.testing.assert_allclose(tiled.pixels, whole.pixels, atol=1e-5)


def test_too_little_overlap_shows():
    """The comparison above can fail: with less overlap than the network sees, tiles differ from the whole."""
    whole = restore(single(Bounded()), CPU, [photo()], tile_px=512)
    tiled = restore(single(Bounded(), overlap_px=8), CPU, [photo()], tile_px=112)
    assert np.abs(tiled.pixels - whole.pixels).max() > 1e-4


def test_no_seam_shows_on_a_flat_gradient():
    ramp = np.linspace(0.2, 0.6, 400, dtype=np.float32)
    picture = np.repeat(np.broadcast_to(ramp, (300, 400))[..., None], 3, axis=2).copy()

    class Vignetting(nn.Module):
        """Wrong near the borders of what it sees, as networks that pad with zeros are."""

        def forward(self, picture):
            return picture + 0.02 * (F.avg_pool2d(picture, 17, 1, 8) - picture)

    tiled = restore(single(Vignetting(), overlap_px=32), CPU, [picture], tile_px=128)
    inside = np.abs(np.diff(tiled.pixels[20:-20, 20:-20], axis=1) - np.diff(picture[20:-20, 20:-20], axis=1))
    assert inside.max() < 0.1 / 255


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (2, 3), (7, 7), (8, 8), (9, 70), (65, 63)])
def test_every_size_comes_back_in_its_size_and_unchanged_by_identity(size):
    picture = photo(*size)
    before = picture.copy()
    result = restore(single(Identity()), CPU, [picture])
    assert result.pixels.dtype == np.float32
    assert result.pixels is not picture
    np.testing.assert_array_equal(result.pixels, before)
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("bgr", [False, True])
def test_a_network_that_wants_blue_first_gets_it(bgr):
    result = restore(single(Brighter(), bgr=bgr), CPU, [photo() * 0.5]).pixels / (photo() * 0.5 + 1e-9)
    np.testing.assert_allclose(result.mean((0, 1)), [1, 1, 1.05] if bgr else [1.05, 1, 1], atol=1e-3)


@pytest.mark.parametrize("kind", [ReferenceModel, PairModel])
def test_networks_of_two_pictures_get_both_in_order(kind):
    model = kind("two", Fusing(), Traits(size_multiple=8, overlap_px=8, reach_px=1))
    first, second = photo(), photo(seed=1) * 0.2 + photo() * 0.8
    result = restore(model, CPU, [first, second.astype(np.float32)], tile_px=96)
    np.testing.assert_allclose(result.pixels, 0.75 * first + 0.25 * second, atol=1e-6)


def test_the_result_is_clipped():
    class Over(nn.Module):
        def forward(self, picture):
            return (picture - 0.5) * 1.2 + 0.5

    picture = photo()
    result = restore(single(Over()), CPU, [np.where(picture > 0.5, 1, 0).astype(np.float32)]).pixels
    assert (result.min(), result.max()) == (0, 1)


def test_refused_tiles_keep_the_photo_are_counted_and_told():
    class FailsOnBright(nn.Module):
        def forward(self, picture):
            return picture * float("nan") if picture.mean() > 0.6 else picture + 0.01

    picture = np.full((128, 512, 3), 0.3, np.float32)
    picture[:, 256:] = 0.9
    watching = Watching()
    result = restore(single(FailsOnBright(), overlap_px=16), CPU, [picture], watching, tile_px=128)
    assert 0 < result.refused_tiles < result.tiles
    np.testing.assert_array_equal(result.pixels[:, 400:], picture[:, 400:])
    np.testing.assert_allclose(result.pixels[:, :100], 0.31, atol=1e-6)
    assert len(watching.notes) == 1
    assert f"{result.refused_tiles} of {result.tiles} tiles" in watching.notes[0]
    assert "not a number" in watching.notes[0]


def test_progress_advances_by_tiles_and_details_say_what_runs():
    watching = Watching()
    result = restore(single(Bounded()), CPU, [photo()], watching, tile_px=160)
    assert watching.totals == [result.tiles]
    assert watching.advanced == result.tiles
    assert watching.notes == []
    assert "toy on cpu in float32 (for a test)" in watching.details[0]
    assert "asked for" in watching.details[1]
    assert result.network_seconds > 0


def test_bfloat16_agrees_with_float32_within_its_rounding():
    exact = restore(single(Bounded()), CPU, [photo()])
    lowered = restore(single(Bounded()), Device(CPU.torch_device, torch.bfloat16, ""), [photo()])
    assert 0 < np.abs(exact.pixels - lowered.pixels).max() < 0.005


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu():
    if not torch.cuda.is_available():
        pytest.skip("this machine has no CUDA device")
    on_cpu = restore(single(Bounded()), CPU, [photo()], SILENT, tile_px=160)
    on_gpu = restore(single(Bounded()), Device(torch.device("cuda"), torch.float32, ""), [photo()], tile_px=160)
    np.testing.assert_allclose(on_gpu.pixels, on_cpu.pixels, atol=2e-3)
