"""The first thing that a filter bank learns from whole pictures: which filters their spectra call for.

What a bank of filters adds to a picture is linear in the weights that the selector gives them, so the squared error of
a window is a quadratic form in the weights, which is kept in place of the pixels it came from. Thousands of windows can
be gone through in a second, and minutes do what gradients through crops take hours for. Source: our own;
docs/explanation/filter-bank.md.
"""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.datasets.draw import seed_for
from deblur_cli.networks.blur_selector import BlurSelector
from deblur_cli.networks.filter_bank_unet import FilterBankUNet
from deblur_cli.progress import Progress
from deblur_cli.training.config import SelectorConfig, TrainConfig
from deblur_cli.training.loop import set_rate
from deblur_cli.training.tasks import AT_REST_DB, HARM_DB
from deblur_cli.training.whole_pictures import BLURRY, TRUTH, Part, PictureCache, corners_of, in_range, some_windows

EVERY_PX = 3
"""Errors are summed over every third pixel either way: neighbours say much the same."""
Window = tuple[Tensor, Tensor]
"""A window of a blurry picture and its truth, (3, WINDOW_PX, WINDOW_PX) float32 in [0, 1]."""


@dataclass(frozen=True)
class ErrorForms:
    """The mean squared error of N windows as w'Cw − 2 b'w + e in the weights w (K,) of their filters' responses.

    `curvature` C (N, K, K), `slope` b (N, K), `error` e (N,), which is the error of the blurry picture itself.
    """

    curvature: Tensor
    slope: Tensor
    error: Tensor

    def __call__(self, weights: Tensor) -> Tensor:
        """Returns the mean squared errors (N,) of weights (N, K)."""
        bent = torch.einsum("ni,nij,nj->n", weights, self.curvature, weights)
        return bent - 2 * (weights * self.slope).sum(1) + self.error

    def only(self, these: Tensor) -> ErrorForms:
        """Returns the forms of the windows of these numbers."""
        return ErrorForms(self.curvature[these], self.slope[these], self.error[these])


def error_forms(network: FilterBankUNet, windows: Iterable[Window]) -> ErrorForms:
    """Returns the quadratic forms of the windows' errors, on the CPU."""
    return joined([_form(network, *window) for window in windows])


def joined(parts: Sequence[ErrorForms]) -> ErrorForms:
    """Returns the forms of all parts, one after the other."""
    return ErrorForms(
        torch.cat([part.curvature for part in parts]),
        torch.cat([part.slope for part in parts]),
        torch.cat([part.error for part in parts]),
    )


@torch.no_grad()
def _form(network: FilterBankUNet, blurry: Tensor, truth: Tensor) -> ErrorForms:
    device = network.bank_full.device
    shown, sharp = blurry[None].to(device), truth[None].to(device)
    # One by one: the responses of all filters to a whole picture would take much memory.
    responses = network.filter_responses(shown)[0, ..., 1::EVERY_PX, 1::EVERY_PX].flatten(1)
    wanted = (sharp - shown)[0, ..., 1::EVERY_PX, 1::EVERY_PX].flatten()
    curvature, slope = responses @ responses.T / len(wanted), responses @ wanted / len(wanted)
    return ErrorForms(curvature[None].cpu(), slope[None].cpu(), wanted.square().mean()[None].cpu())


FLOOR = 1e-6
"""Mean squared error that counts as none: a window at rest is not to be changed by more."""
LEAST_DEVIATION = 1e-3


def fit_selector(
    selector: BlurSelector,
    spectra: Tensor,
    forms: ErrorForms,
    settings: SelectorConfig,
    seed: int,
    *,
    passed: Callable[[], None] = lambda: None,
) -> BlurSelector:
    """Returns the selector, on the CPU, with the least mean error in decibels on windows of these spectra; the same
    seed gives the same one. Its means and deviations of spectra stay. `passed` is called after each pass.
    """
    fitted = copy.deepcopy(selector).cpu().train().requires_grad_(True)
    rate = settings.rate
    optimiser = torch.optim.AdamW(fitted.layers.parameters(), lr=rate, weight_decay=settings.weight_decay)
    generator = torch.Generator().manual_seed(seed_for("selector", seed))
    batch = min(settings.batch, len(spectra))
    batches = len(spectra) // batch
    for number in range(settings.passes):
        order = torch.randperm(len(spectra), generator=generator)[: batches * batch].view(batches, batch)
        for step, chosen in enumerate(order, number * batches):
            set_rate(optimiser, rate * 0.5 * (1 + math.cos(math.pi * step / (settings.passes * batches))))
            loss = decibels(weights_of(fitted, spectra[chosen]), forms.only(chosen))
            optimiser.zero_grad(set_to_none=True)
            (loss + (settings.harm - 1) * loss.clamp_min(0)).mean().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        passed()
    return fitted.requires_grad_(False).eval()


def is_new(selector: BlurSelector) -> bool:
    """Returns whether a selector does not know yet what spectra are like."""
    return bool((selector.mean == 0).all() and (selector.deviation == 1).all())


@torch.no_grad()
def standardise(selector: BlurSelector, spectra: Tensor) -> None:
    """Gives a selector the means and deviations of spectra (N, KINDS, ANGLES, RADII), frequency by frequency."""
    selector.mean.copy_(spectra.mean((0, 2))[:, None])
    selector.deviation.copy_(spectra.transpose(1, 2).flatten(0, 1).std(0).clamp_min(LEAST_DEVIATION)[:, None])


def weights_of(selector: BlurSelector, spectra: Tensor) -> Tensor:
    """Returns the weights (N, K) that a selector gives windows of spectra (N, KINDS, ANGLES, RADII)."""
    return selector.weigh(spectra[:, None, None])[:, 0, 0]


def decibels(weights: Tensor, forms: ErrorForms) -> Tensor:
    """Returns by how much weights (N, K) change the error of windows, (N,) in dB: below zero where it gets less."""
    return 10 * torch.log10((forms(weights).clamp_min(0) + FLOOR) / (forms.error + FLOOR))


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
