"""The first thing that a filter bank learns from whole pictures: which filters their spectra call for."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.networks.blur_selector import BlurSelector
from deblur_cli.networks.filter_bank_unet import FilterBankUNet
from deblur_cli.progress import Progress
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.error_forms import ErrorForms, Window, error_forms, joined
from deblur_cli.training.fit_selector import decibels, fit_selector, is_new, standardise, weights_of
from deblur_cli.training.validate import AT_REST_DB, HARM_DB
from deblur_cli.training.whole_pictures import BLURRY, TRUTH, Part, PictureCache, corners_of
from deblur_cli.training.windows import in_range, some_windows


@dataclass(frozen=True)
class SelectorFit:
    """What a fit gained: mean gain in dB of the filters alone on held-out windows, before and after.

    `made_worse` of `windows` lose more than 0.1 dB after it. `kept`: it gained, so the network has it now.
    """

    gain_before: float
    gain_after: float
    made_worse: int
    windows: int
    kept: bool


class _StoppedError(Exception):
    """Somebody asked the training to stop."""


@dataclass(frozen=True)
class _Seen:
    spectra: Tensor
    forms: ErrorForms

    def moved(self) -> _Seen:
        """Those that are not at rest, or as good as that."""
        these = torch.nonzero(self.forms.error > 10 ** (-AT_REST_DB / 10))[:, 0]
        return _Seen(self.spectra[these], self.forms.only(these))


def teach_selector(
    network: FilterBankUNet,
    folder: Path,
    config: TrainConfig,
    progress: Progress,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> SelectorFit | None:
    """Gives a network the selector that is fitted to whole pictures, if it gains on held-out ones, and says how much.

    None once `stop` says so: the network is then as it was. The forms of a bank are kept beside the pictures, so a
    second fit of the same bank takes minutes. Raises DatasetError, CannotWriteError.
    """
    pictures = config.pictures
    learned = _see(network, folder, "train", pictures.count, config.selector.windows, progress, stop)
    if learned is None:
        return None
    judged = _see(network, folder, "held-out", pictures.held_out, pictures.held_out_windows, progress, stop)
    if judged is None:
        return None
    former = copy.deepcopy(network.selector).cpu()
    if is_new(former):
        standardise(former, learned.spectra)
    fitted = _fitted(former, learned, config, progress, stop)
    if fitted is None:
        return None
    moved = judged.moved()
    before, after = (_gains(each, moved) for each in (former, fitted))
    kept = not len(after) or bool(after.mean() > before.mean())
    network.selector.load_state_dict((fitted if kept else former).state_dict())
    worse = int((after < -HARM_DB).sum())
    return SelectorFit(_mean(before), _mean(after), worse, len(after), kept)


def _fitted(
    selector: BlurSelector, seen: _Seen, config: TrainConfig, progress: Progress, stop: Callable[[], bool]
) -> BlurSelector | None:
    """Returns the selector fitted to what was seen; None once `stop` says so."""
    with progress.stage("Fitting the selector", config.selector.passes, "passes") as stage:

        def passed() -> None:
            stage.advance()
            if stop():
                raise _StoppedError

        try:
            return fit_selector(selector, seen.spectra, seen.forms, config.selector, config.run.seed, passed=passed)
        except _StoppedError:
            return None


@torch.no_grad()
def _gains(selector: BlurSelector, seen: _Seen) -> Tensor:
    return -decibels(weights_of(selector, seen.spectra), seen.forms)


def _mean(gains: Tensor) -> float:
    return float(gains.mean()) if len(gains) else 0.0


def _see(
    network: FilterBankUNet,
    folder: Path,
    part: Part,
    count: int,
    windows: int,
    progress: Progress,
    stop: Callable[[], bool],
) -> _Seen | None:
    """Returns spectra and forms of some windows of each of the first `count` pictures; None once `stop` says so."""
    cache, name = PictureCache(folder, part), f"forms-{bank_digest(network)}"
    spectra, forms = [], []
    with progress.stage(f"Forms of the filters' errors ({part})", count, "pictures") as stage:
        for number in range(count):
            chosen = some_windows(cache, number, windows)
            if not cache.has(number, name) or len(cache.array(number, name)) < len(chosen):
                cache.add(number, name, _pack(error_forms(network, (_window(cache, number, w) for w in chosen))))
            forms.append(_unpack(cache.array(number, name)[: len(chosen)]))
            spectra.append(cache.spectra(number)[chosen])
            stage.advance()
            if stop():
                return None
    return _Seen(torch.cat(spectra), joined(forms))


def bank_digest(network: FilterBankUNet) -> str:
    """Returns eight hexadecimal digits that tell one bank of filters from another."""
    digest = hashlib.sha256()
    for bank in (network.bank_full, network.bank_half, network.bank_quarter):
        digest.update(bank.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:8]


def _window(cache: PictureCache, number: int, window: int) -> Window:
    corner = corners_of(*cache.size(number))[window]
    blurry, truth = (in_range(cache.window(number, name, corner)) for name in (BLURRY, TRUTH))
    return blurry, truth


def _pack(forms: ErrorForms) -> Tensor:
    """Returns the forms of N windows as one array (N, K + 2, K): curvature, slope, and the error K times."""
    error = forms.error[:, None, None].expand(-1, 1, forms.slope.shape[1])
    return torch.cat((forms.curvature, forms.slope[:, None], error), dim=1)


def _unpack(packed: Tensor) -> ErrorForms:
    return ErrorForms(packed[:, :-2], packed[:, -2], packed[:, -1, 0])
