from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deblur_cli.progress import SILENT
from deblur_cli.training import fit_selector as module
from deblur_cli.training.config import PicturesConfig, SelectorConfig, TrainConfig
from deblur_cli.training.fit_selector import bank_digest, is_new, teach_selector
from deblur_cli.training.whole_pictures import PARTS, PictureCache, whole_picture
from tests.adaptation.bank import tiny_bank
from tests.conftest import textured

CONFIG = TrainConfig(
    pictures=PicturesConfig(count=3, held_out=1, held_out_windows=4),
    selector=SelectorConfig(passes=150, windows=4, rate=3e-3, batch=4),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures blurred by 5 px to the right; the last to train on is at rest."""
    root = tmp_path_factory.mktemp("pictures")
    for part in PARTS:
        for number in range(3 if part == "train" else 1):
            sharp = torch.from_numpy(textured((300, 330), number + len(part))).permute(2, 0, 1).contiguous()
            mean = torch.stack([sharp.float().roll(s, 2) for s in range(-2, 3)]).mean(0).round().to(torch.uint8)
            PictureCache(root, part).put(number, whole_picture(mean if number < 2 else sharp, sharp, {}))
    return root


def test_a_fresh_selector_gains_on_what_was_held_out(folder: Path) -> None:
    network = tiny_bank()
    fit = teach_selector(network, folder, CONFIG, SILENT)
    assert fit is not None
    assert (fit.kept, fit.windows, fit.made_worse, fit.gain_before) == (True, 4, 0, 0.0)
    assert fit.gain_after > 0.1
    assert not is_new(network.selector)


def test_a_fit_repeats_itself(folder: Path) -> None:
    short = replace(CONFIG, selector=replace(CONFIG.selector, passes=10))
    one, other = tiny_bank(), tiny_bank()
    assert teach_selector(one, folder, short, SILENT) == teach_selector(other, folder, short, SILENT)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_selector_that_gains_nothing_is_not_taken(folder: Path) -> None:
    network = tiny_bank()
    before = [parameter.clone() for parameter in network.parameters()]
    wild = replace(CONFIG, selector=replace(CONFIG.selector, rate=30.0, passes=2))
    fit = teach_selector(network, folder, wild, SILENT)
    assert fit is not None
    assert not fit.kept
    assert fit.gain_after < 0
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before, strict=True))


def test_forms_of_a_bank_are_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny_bank()
    short = replace(CONFIG, selector=replace(CONFIG.selector, passes=2))
    teach_selector(network, folder, short, SILENT)

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(module, "error_forms", refuse)
    fewer = replace(short, selector=replace(short.selector, windows=2))
    assert teach_selector(tiny_bank(), folder, fewer, SILENT) is not None
    with torch.no_grad():
        network.bank_half.mul_(1.5)
    assert bank_digest(network) != bank_digest(tiny_bank())
    with pytest.raises(AssertionError, match="made again"):
        teach_selector(network, folder, short, SILENT)


def test_a_stop_leaves_the_selector_as_it_was(folder: Path) -> None:
    network = tiny_bank()
    assert teach_selector(network, folder, CONFIG, SILENT, stop=lambda: True) is None
    assert is_new(network.selector)


def test_a_stop_within_the_fit_does_too(folder: Path) -> None:
    network = tiny_bank()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3 + 1 + 5  # the pictures, and five passes

    assert teach_selector(network, folder, CONFIG, SILENT, stop=stop) is None
    assert len(asked) == 10
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
