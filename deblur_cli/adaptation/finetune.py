"""The deblurring network itself, trained on the camera's own shots."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from deblur_cli.adaptation.contract import AdaptSettings, Shots
from deblur_cli.adaptation.crop_batches import CropBatches
from deblur_cli.adaptation.exposures import recipe_for, shutter_crop_px
from deblur_cli.adaptation.fit_shutter import FittedShutter, fit_shutter
from deblur_cli.adaptation.frames import store_of
from deblur_cli.adaptation.learner import Product, Taught
from deblur_cli.adaptation.matched import match_shots
from deblur_cli.adaptation.window_batches import WindowBatches
from deblur_cli.catalogue.recognise import recognise
from deblur_cli.engine.device import Device
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.networks.contract import SingleModel
from deblur_cli.networks.filter_bank_unet import FilterBankUNet
from deblur_cli.progress import Progress
from deblur_cli.shutter.settings import ShutterSettings
from deblur_cli.training.distributed import World
from deblur_cli.training.loop import Setting, take_step
from deblur_cli.training.schedule import rate
from deblur_cli.training.state import TrainState, new_state
from deblur_cli.training.tasks import Batch, task_for

ENOUGH_MATCHED = 20
"""Of fewer matched shots a proportionally smaller share of the batches is made."""


class TrainingBatches(Protocol):
    """What a network learns from."""

    def begin(self, *, first: bool) -> bool:
        """Gets ready, teaches what comes before the `first` step, and returns whether it did; a stop comes before."""

    def batch(self, number: int) -> Batch:
        """Returns the batch of a step; steps must not fall."""

    def close(self) -> None:
        """Ends what runs beside."""


class Finetuner:
    """A learner whose product takes the deblurring network's place."""

    def __init__(
        self,
        shots: Shots,
        model: SingleModel,
        settings: AdaptSettings,
        device: Device,
        world: World,
        progress: Progress,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        """Fits the shutter and finds sharp shots of the blurry ones' scenes; trains nothing yet.

        Once `stop` says so the shutter is left as it is: what asks must not then take a step.
        Raises UnrecognisedNetworkError for a network that cannot be written to a file of ours, DatasetError.
        """
        self._model, self._settings, self._world, self._progress = model, settings, world, progress
        self._device = device.torch_device
        known = recognise(
            {name: tuple(value.shape) for name, value in model.network.state_dict().items()}, where=model.name
        )
        fitted = FittedShutter(ShutterSettings(), "not fitted")
        if settings.finetune.fit:
            fitted = fit_shutter(shots, settings, stop=stop, progress=progress)
            progress.note(f"The shutter for {model.name} is {fitted.told}.")
        self._sharp_count = len(shots.sharp)
        on_gpu = self._device.type == "cuda"
        self._config = recipe_for(
            settings,
            known,
            model.traits.size_multiple,
            fitted.settings,
            room_px=int(np.median([min(frame.shape[:2]) for frame in shots.sharp])),
            on_gpu=on_gpu,
        )
        self._matched = match_shots(shots) if settings.finetune.matched_share > 0 else ()
        dtype = torch.bfloat16 if device.dtype is torch.bfloat16 else torch.float32
        self._setting = Setting(self._config, self._device, dtype, world, Path(), "")
        self._task = task_for(self._config, known.architecture.outputs)
        network = copy.deepcopy(model.network).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.requires_grad_(True)
        self._batches = self._batches_for(network, shots, stop)
        self._state: TrainState = new_state(network, self._config.optimiser)
        self._runner = world.wrap(network.train(), self._device)
        self._begun, self._first_share = False, 0.0
        self.product = Product(known.architecture.name, known.config, model.traits, self._recipe(fitted))

    def begin(self) -> None:
        """Gets ready, and has taught what comes before the first step, unless a stop was asked for."""
        first = not self._begun
        if self._batches.begin(first=first) and first:
            self._begun = True
            self._state.averaged.load_state_dict(self._state.network.state_dict())

    def step(self, number: int, share: float) -> Taught:
        """Takes one step down the loss of a batch of exposures, some exchanged for matched shots."""
        if number == 0:
            self._first_share = share
        batch = self._batches.batch(number)
        batch = batch.as_bgr() if self._model.traits.bgr else batch
        # What was spent before the first step is no part of the schedule.
        spent = (share - self._first_share) / max(1 - self._first_share, 1e-9)
        learning_rate = rate(spent, self._config.optimiser)
        outcome, _ = take_step(self._setting, self._state, self._runner, self._task, batch, learning_rate)
        # The median: where nothing moved, the input is the truth, and any change loses tens of decibels.
        gain = (outcome.psnr_out - outcome.psnr_in).median()
        return Taught((("loss", outcome.loss.detach()), ("gain on own pairs, dB", gain)))

    def stages(self) -> tuple[SingleModel, ...]:
        """Returns a copy of the averaged network alone: what the engine moves cannot be trained any more."""
        return (replace(self._model, network=copy.deepcopy(self._state.averaged)),)

    def weights(self) -> Mapping[str, Tensor]:
        """Returns the averaged weights."""
        return self._state.averaged.state_dict()

    def to_record(self) -> Mapping[str, Any]:
        """Returns weights, their average, the optimiser, and what was done before the first step."""
        state = self._state
        return {
            "network": state.network.state_dict(),
            "averaged": state.averaged.state_dict(),
            "optimiser": state.optimiser.state_dict(),
            "begun": self._begun,
            "first_share": self._first_share,
        }

    def restore(self, record: Mapping[str, Any], step: int) -> None:
        """Goes on from a record."""
        state = self._state
        state.network.load_state_dict(record["network"])
        state.averaged.load_state_dict(record["averaged"])
        state.optimiser.load_state_dict(dict(record["optimiser"]))
        state.step = step
        self._begun, self._first_share = bool(record["begun"]), float(record["first_share"])

    def close(self) -> None:
        """Ends the stream of exposures."""
        self._batches.close()

    def _batches_for(self, network: nn.Module, shots: Shots, stop: Callable[[], bool]) -> TrainingBatches:
        """Returns what the network is to learn from. Raises DatasetError for shots that are too small."""
        settings, device, rank = self._settings, self._device, self._world.rank
        # A few matched shots would be learned by heart, and of a few the false ones weigh most.
        share = settings.finetune.matched_share * min(1.0, len(self._matched) / ENOUGH_MATCHED)
        matched = (self._matched, share)
        if isinstance(network, FilterBankUNet):
            shutter = self._config.shutter
            sharp = store_of(shots.sharp, WINDOW_PX + 2 * shutter.margin_px, device, "sharp")
            return WindowBatches(network, sharp, shutter, matched, settings, rank, stop=stop, progress=self._progress)
        sharp = store_of(shots.sharp, shutter_crop_px(self._config), device, "sharp")
        return CropBatches(sharp, self._config, matched, settings, device, rank, self._progress)

    def _recipe(self, fitted: FittedShutter) -> str:
        return (
            f"{self._model.name} trained on {self._sharp_count} sharp shots, blurred by a shutter {fitted.told}; "
            f"{len(self._matched)} blurry shots with a sharp one of their scene."
        )
