"""The deblurring network itself, trained on the camera's own shots."""

from __future__ import annotations

import copy
import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deblur_cli.adaptation.contract import AdaptSettings, Shots
from deblur_cli.adaptation.exposures import ExposureMaker, recipe_for, shutter_crop_px
from deblur_cli.adaptation.fit_shutter import FittedShutter, fit_shutter
from deblur_cli.adaptation.frames import FrameStore, store_of
from deblur_cli.adaptation.learner import Product, Taught
from deblur_cli.adaptation.matched import crop_matched, match_shots
from deblur_cli.catalogue.recognise import recognise
from deblur_cli.engine.device import Device
from deblur_cli.networks.contract import SingleModel
from deblur_cli.progress import Progress
from deblur_cli.shutter.settings import Range, ShutterSettings
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.data import SampleStream, ring_plan
from deblur_cli.training.distributed import World
from deblur_cli.training.draw import seed_for
from deblur_cli.training.loop import Setting, take_step
from deblur_cli.training.ring import Maker
from deblur_cli.training.schedule import rate
from deblur_cli.training.state import TrainState, new_state
from deblur_cli.training.tasks import Batch, task_for

ENOUGH_MATCHED = 20
"""Of fewer matched shots a proportionally smaller share of the batches is made."""


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
        self._model, self._device, self._world, self._progress = model, device.torch_device, world, progress
        known = recognise(
            {name: tuple(value.shape) for name, value in model.network.state_dict().items()}, where=model.name
        )
        fitted = FittedShutter(ShutterSettings(), "not fitted")
        if settings.finetune.fit:
            fitted = fit_shutter(shots, settings, stop=stop, progress=progress)
            progress.note(f"The shutter for {model.name} is {fitted.told}.")
        self._finetune = settings.finetune
        on_gpu = self._device.type == "cuda"
        self._config = recipe_for(
            settings,
            known,
            model.traits.size_multiple,
            fitted.settings,
            room_px=int(np.median([min(frame.shape[:2]) for frame in shots.sharp])),
            on_gpu=on_gpu,
        )
        self._sharp = store_of(shots.sharp, shutter_crop_px(self._config), self._device, "sharp")
        self._matched = match_shots(shots) if settings.finetune.matched_share > 0 else ()
        # A few matched shots would be learned by heart, and of a few the false ones weigh most.
        self._share = settings.finetune.matched_share * min(1.0, len(self._matched) / ENOUGH_MATCHED)
        dtype = torch.bfloat16 if device.dtype is torch.bfloat16 else torch.float32
        self._setting = Setting(self._config, self._device, dtype, world, Path(), "")
        self._task = task_for(self._config, known.architecture.outputs)
        network = copy.deepcopy(model.network).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._state: TrainState = new_state(network.requires_grad_(True), self._config.optimiser)
        self._runner = world.wrap(network.train(), self._device)
        self._stream: SampleStream | None = None
        self.product = Product(known.architecture.name, known.config, model.traits, self._recipe(fitted))

    def step(self, number: int, share: float) -> Taught:
        """Takes one step down the loss of a batch of exposures, some exchanged for matched shots."""
        stream = self._stream or self._open(number)
        batch = self._with_matched(stream.batch(number), number)
        batch = batch.as_bgr() if self._model.traits.bgr else batch
        outcome, _ = take_step(
            self._setting, self._state, self._runner, self._task, batch, rate(share, self._config.optimiser)
        )
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
        """Returns weights, their average, and the optimiser."""
        state = self._state
        return {
            "network": state.network.state_dict(),
            "averaged": state.averaged.state_dict(),
            "optimiser": state.optimiser.state_dict(),
        }

    def restore(self, record: Mapping[str, Any], step: int) -> None:
        """Goes on from a record."""
        state = self._state
        state.network.load_state_dict(record["network"])
        state.averaged.load_state_dict(record["averaged"])
        state.optimiser.load_state_dict(dict(record["optimiser"]))
        state.step = step

    def close(self) -> None:
        """Ends the stream of exposures."""
        if self._stream is not None:
            self._stream.__exit__()

    def _open(self, step: int) -> SampleStream:
        stream = f"rank {self._world.rank}"
        others = (self._finetune.unfitted_share, ShutterSettings().path_px) if self._finetune.fit else None
        factory = functools.partial(_maker, self._sharp, self._config, stream, others)
        self._stream = SampleStream(
            self._config,
            (),
            self._device,
            rank=self._world.rank,
            start_step=step,
            progress=self._progress,
            factory=factory,
        )
        return self._stream

    def _with_matched(self, batch: Batch, number: int) -> Batch:
        """Returns the batch with about `matched_share` of its samples exchanged for matched shots."""
        if not self._share:
            return batch
        draw = random.Random(seed_for("matched", self._config.run.seed, self._world.rank, number))
        inputs, truth = batch.inputs[0].clone(), batch.truth.clone()
        for index in range(len(batch)):
            if draw.random() < self._share:
                taken = crop_matched(self._matched, self._config.data.patch_px, draw)
                if taken is not None:
                    inputs[index], truth[index] = (picture.to(inputs.device) for picture in taken)
        return Batch((inputs,), truth)

    def _recipe(self, fitted: FittedShutter) -> str:
        return (
            f"{self._model.name} trained on {len(self._sharp)} sharp shots, blurred by a shutter {fitted.told}; "
            f"{len(self._matched)} blurry shots with a sharp one of their scene."
        )


def _maker(
    sharp: FrameStore, config: TrainConfig, stream: str, others: tuple[float, Range] | None, device: torch.device
) -> Maker:
    return ExposureMaker(sharp, config, ring_plan(config, device).chunk, stream, device, others)
