"""What a filter bank learns from a camera: first its selector, then its U-Net, from windows of whole exposures.

Crops by themselves would teach the selector to judge by one window, and the U-Net to refine what such a selector
proposes; on a photo the selector judges by all windows together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch

from deblur_cli.adaptation.contract import AdaptSettings
from deblur_cli.adaptation.exposed_windows import Exposure, as_saved, expose, exposure_of, unfitted, windows_of
from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.adaptation.matched import MatchedPair, crop_matched
from deblur_cli.datasets.draw import seed_for
from deblur_cli.networks.blur_selector import WINDOW_PX, BlurSelector
from deblur_cli.networks.filter_bank_unet import FilterBankUNet
from deblur_cli.progress import Progress
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.config import SelectorConfig
from deblur_cli.training.error_forms import error_forms
from deblur_cli.training.fit_selector import fit_selector, weights_of
from deblur_cli.training.tasks import Batch

EXPOSURES, EXPOSURES_A_MINUTE, FEWEST_EXPOSURES = 320, 16.0, 24
"""So many exposures are made, and no more than take a third of a short training on one processor core."""
FIT = SelectorConfig(passes=15, rate=3e-4)
"""At a rate of 1e-3 the windows of a simulated camera were learned by heart: unseen ones gained 0.98, then 0.92 dB."""


class WindowBatches:
    """Batches of windows; batch n follows from seed, rank and n alone. `begin` comes first.

    `matched` pairs take the place of `matched_share` of the exposures' windows.
    """

    def __init__(
        self,
        network: FilterBankUNet,
        sharp: FrameStore,
        shutter: ShutterSettings,
        matched: tuple[Sequence[MatchedPair], float],
        settings: AdaptSettings,
        rank: int,
        *,
        stop: Callable[[], bool],
        progress: Progress,
    ) -> None:
        """Exposes nothing yet; from now on only the U-Net takes part in the steps that gradients make."""
        self._network, self._sharp, self._shutter, self._settings = network, sharp, shutter, settings
        network.selector.requires_grad_(False)
        for bank in (network.bank_full, network.bank_half, network.bank_quarter):
            bank.requires_grad_(False)
        self._matched, self._matched_share = matched
        self._rank, self._stop, self._progress = rank, stop, progress
        self._exposures: tuple[Exposure, ...] = ()
        self._windows: list[tuple[int, int]] = []

    def begin(self, *, first: bool) -> bool:
        """Exposes the sharp shots and, at first, gives the network a selector fitted to them.

        Returns whether it did: a stop comes before it, and leaves everything as it was.
        """
        exposures = self._expose()
        if exposures is None:
            return False
        self._exposures = exposures
        self._windows = [(e, w) for e, each in enumerate(exposures) for w in range(len(each.corners))]
        if first:
            with self._progress.stage("Fitting the selector"):
                forms = error_forms(self._network, windows_of(exposures))
                spectra = torch.cat([exposure.spectra for exposure in exposures])
                fitted = fit_selector(self._network.selector, spectra, forms, FIT, self._settings.seed)
            self._network.selector.load_state_dict(fitted.state_dict())
        return True

    def batch(self, number: int) -> Batch:
        """Returns windows, and the weights that the network's selector gives their filters, for one step."""
        draw = random.Random(seed_for("windows of a batch", self._settings.seed, self._rank, number))
        chosen = [draw.choice(self._windows) for _ in range(self._settings.finetune.batch)]
        pictures = [self._exposures[exposure].window(window) for exposure, window in chosen]
        device = self._network.bank_full.device
        blurry, truth = (torch.stack(part).to(device) for part in zip(*pictures, strict=True))
        spectra = torch.stack([self._exposures[exposure].spectra[window] for exposure, window in chosen])
        with torch.no_grad():
            weights = weights_of(self._network.selector, spectra.to(device))
        return Batch((blurry, weights[..., None, None]), truth)

    def close(self) -> None:
        """Does nothing: nothing runs beside."""

    def _expose(self) -> tuple[Exposure, ...] | None:
        """Returns the exposures; None once a stop is asked for."""
        finetune, minutes = self._settings.finetune, self._settings.minutes
        count = EXPOSURES if finetune.exposures is None else finetune.exposures
        if minutes is not None:
            count = min(count, max(FEWEST_EXPOSURES, round(EXPOSURES_A_MINUTE * minutes)))
        others = (finetune.unfitted_share if finetune.fit else 0.0, unfitted(self._shutter))
        seed, scale = self._settings.seed, finetune.scale
        made = expose(self._sharp, self._shutter, scale, others, count, seed, stop=self._stop, progress=self._progress)
        if made is None:
            return None
        windows = sum(len(exposure.corners) for exposure in made)
        return made + self._of_matched(round(self._matched_share * windows))

    def _of_matched(self, count: int) -> tuple[Exposure, ...]:
        """Returns so many squares of matched shots as exposures of one window; fewer where good ones are not found."""
        draw, selector = random.Random(seed_for("matched windows", self._settings.seed)), BlurSelector(1, 1)
        taken = (crop_matched(self._matched, WINDOW_PX, draw) for _ in range(count if self._matched else 0))
        pairs = ((as_saved(pair[0]), as_saved(pair[1])) for pair in taken if pair is not None)
        return tuple(exposure_of(blurry, target, selector) for blurry, target in pairs)
