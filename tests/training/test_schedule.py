from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.training.config import OptimiserConfig, RunConfig
from deblur_cli.training.loop import progress_share, rate, round_of

PAPER = OptimiserConfig(rate=2e-4, final_rate=1e-6, warmup_share=0.0)


def test_the_rate_runs_from_first_to_last_as_published() -> None:
    assert rate(0.0, PAPER) == pytest.approx(2e-4)
    assert rate(0.5, PAPER) == pytest.approx((2e-4 + 1e-6) / 2)
    assert rate(1.0, PAPER) == pytest.approx(1e-6)


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_rate_never_rises_after_the_warm_up(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert rate(high, PAPER) <= rate(low, PAPER) + 1e-12


@given(st.floats(0, 0.1, exclude_max=True))
def test_the_warm_up_is_linear_and_never_zero(share: float) -> None:
    warm = OptimiserConfig(rate=1e-3, warmup_share=0.1)
    assert rate(share, warm) == pytest.approx(1e-3 * max(share / 0.1, 0.01))


def test_the_share_is_of_steps_or_minutes_whichever_is_nearer_its_end() -> None:
    assert progress_share(RunConfig(steps=10), 5, 1e9) == 0.5
    assert progress_share(RunConfig(minutes=2), 10**9, 30.0) == 0.25
    assert progress_share(RunConfig(steps=10, minutes=2), 9, 30.0) == 0.9
    assert progress_share(RunConfig(steps=10, minutes=2), 1, 600.0) == 1.0


def test_every_round_begins_anew() -> None:
    settings = OptimiserConfig(rate=1e-3, final_rate=1e-5, warmup_share=0.1, rounds=(3.0, 1.0))
    single = OptimiserConfig(rate=1e-3, final_rate=1e-5, warmup_share=0.1)
    assert [round_of(share, settings) for share in (0.0, 0.74, 0.75, 1.0)] == [0, 0, 1, 1]
    for within in (0.0, 0.05, 0.4, 0.99):
        assert rate(0.75 * within, settings) == pytest.approx(rate(within, single))
        assert rate(0.75 + 0.25 * within, settings) == pytest.approx(rate(within, single))
    assert rate(1.0, settings) == pytest.approx(1e-5)
