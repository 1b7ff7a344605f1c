from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from deblur_cli.engine import restore as module
from deblur_cli.engine.device import Device
from deblur_cli.engine.restore import restore
from deblur_cli.networks.contract import ReferenceModel, ReferenceOutput, SingleModel, Traits

CPU = Device(torch.device("cpu"), torch.float32, "for a test")
TRAITS = Traits(size_multiple=4, overlap_px=16, reach_px=50)
RNG = np.random.default_rng(0)
QUERY, REFERENCE = (RNG.uniform(0.2, 0.8, (90, 130, 3)).astype(np.float32) for _ in range(2))


class Halves(nn.Module):
    """Takes half of the reference; trusts it as much as the query is red; its flow tells the pixel's own colours."""

    def forward(self, query, reference, *, with_confidence=False):
        restored = (query + reference) / 2
        return ReferenceOutput(restored, query[:, :1], 10 * query[:, 1:]) if with_confidence else restored


def model(**traits) -> ReferenceModel:
    return ReferenceModel("halves", Halves(), TRAITS if not traits else Traits(4, 16, 50, **traits))


def test_a_single_network_borrows_nothing() -> None:
    with pytest.raises(ValueError, match="takes from no reference"):
        restore(SingleModel("one", nn.Identity(), TRAITS), CPU, [QUERY], with_confidence=True)


def test_without_asking_nothing_is_told() -> None:
    assert restore(model(), CPU, [QUERY, REFERENCE]).correspondence is None


@pytest.mark.parametrize("tile_px", [64, 200])
def test_tiles_put_together_what_was_borrowed(tile_px: int) -> None:
    done = restore(model(), CPU, [QUERY, REFERENCE], tile_px=tile_px, with_confidence=True)
    assert done.correspondence is not None
    assert np.allclose(done.pixels, (QUERY + REFERENCE) / 2, atol=1e-5)
    assert np.allclose(done.correspondence.confidence, QUERY[..., 0], atol=1e-5)
    assert np.allclose(done.correspondence.flow, 10 * QUERY[..., 1:], atol=1e-4)


def test_networks_that_want_blue_first_answer_in_their_order() -> None:
    done = restore(model(bgr=True), CPU, [QUERY, REFERENCE], with_confidence=True)
    assert done.correspondence is not None
    assert np.allclose(done.pixels, (QUERY + REFERENCE) / 2, atol=1e-5)
    assert np.allclose(done.correspondence.confidence, QUERY[..., 2], atol=1e-5)


def test_a_refused_tile_has_borrowed_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from deblur_cli.engine.guard import Verdict

    monkeypatch.setattr(module, "judge", lambda restored, patches: Verdict(False, "for a test"))
    done = restore(model(), CPU, [QUERY, REFERENCE], with_confidence=True)
    assert done.correspondence is not None
    assert np.array_equal(done.pixels, QUERY)
    assert not done.correspondence.confidence.any()
    assert not done.correspondence.flow.any()


def test_running_out_of_memory_begins_again_from_nothing() -> None:
    class Small(Halves):
        def forward(self, query, reference, *, with_confidence=False):
            if max(query.shape[2:]) > 70:
                raise MemoryError
            return super().forward(query, reference, with_confidence=with_confidence)

    done = restore(ReferenceModel("small", Small(), TRAITS), CPU, [QUERY, REFERENCE], tile_px=128, with_confidence=True)
    assert done.correspondence is not None
    assert np.allclose(done.correspondence.confidence, QUERY[..., 0], atol=1e-5)
