import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.deconvolution.spectra import continued, fast_length, gradients, power, transfer_function
from tests.deconvolution.scenes import hook


def test_a_picture_no_larger_than_its_continuation_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be continued"):
        continued(torch.zeros(8, 20), 8)


@given(st.integers(1, 5000))
def test_lengths_are_even_enough_and_of_small_factors(least: int) -> None:
    length = fast_length(least)
    assert length >= least
    assert length % 2 == 0
    for prime in (2, 3, 5):
        while length % prime == 0:
            length //= prime
    assert length == 1


def test_opposite_borders_meet_and_the_picture_is_kept() -> None:
    grey = torch.rand(40, 60)
    whole = continued(grey, 12)
    assert torch.equal(whole[12:52, 12:72], grey) or torch.allclose(whole[13:51, 13:71], grey[1:-1, 1:-1], atol=0.05)
    across, down = gradients(whole)
    # Across the seam the picture steps no more than inside it.
    assert across[:, -1].abs().max() <= across[:, :-1].abs().max()
    assert down[-1].abs().max() <= down[:-1].abs().max()


def test_a_transfer_function_multiplies_as_a_convolution_does() -> None:
    picture, kernel = torch.rand(48, 64), hook(15, 5)
    spectrum = torch.fft.rfft2(picture) * transfer_function(kernel, (48, 64))
    filtered = torch.fft.irfft2(spectrum, s=(48, 64))
    expected = sum(
        kernel[r, c] * picture.roll((r - 7, c - 7), (0, 1)) for r in range(15) for c in range(15) if kernel[r, c] > 0
    )
    assert torch.allclose(filtered, expected, atol=1e-5)


def test_power_is_the_squared_magnitude() -> None:
    spectrum = torch.complex(torch.randn(4, 4), torch.randn(4, 4))
    assert torch.allclose(power(spectrum), spectrum.abs() ** 2, atol=1e-5)
