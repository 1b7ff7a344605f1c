"""A camera's shots in, a camera's weights out: the loop over steps, judgements and saved states."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from deblur_cli.adaptation.contract import Adapted, AdaptSettings, AdaptStep, Shots
from deblur_cli.adaptation.finetune import Finetuner
from deblur_cli.adaptation.frames import check_shots, digest_of_shots
from deblur_cli.adaptation.judge import Judge, Judgement
from deblur_cli.adaptation.learner import Learner, Taught
from deblur_cli.adaptation.run_state import RunState, load_state, save_state
from deblur_cli.adaptation.translate import Translator
from deblur_cli.catalogue.vgg import digest_of
from deblur_cli.engine.device import Device
from deblur_cli.errors import TrainingError
from deblur_cli.networks.contract import SingleModel
from deblur_cli.progress import SILENT, Progress
from deblur_cli.training.distributed import World, joined


def adapt(
    shots: Shots,
    model: SingleModel,
    settings: AdaptSettings,
    *,
    state: Path,
    observe: Callable[[AdaptStep], None],
    stop: Callable[[], bool],
    device: Device,
    world: World = World(),  # noqa: B008  # frozen
    progress: Progress = SILENT,
) -> Adapted:
    """Returns what came of the camera's shots.

    `state`: the file to resume from; where it exists the training goes on from it, and it is left there at the end.
    `observe` is called on the leading process alone, `stop` between two steps. With a budget in steps, on one kind of
    processor, an adaptation that was interrupted anywhere and resumed ends with the weights of an uninterrupted one.
    Raises DatasetError for too few shots or crops larger than all of them, CheckpointError for a state of other
    settings or shots, CannotWriteError, WeightsError (VGG19 asked for and out of reach), ConfigurationError,
    TrainingError.
    """
    check_shots(shots)
    with joined(world, device.torch_device):
        judge = Judge(shots, model, device)
        learner = _learner(shots, model, settings, device, world, progress, stop)
        try:
            return _Run(shots, model, settings, state, learner, judge, device, world).run(observe, stop)
        finally:
            learner.close()


def _learner(
    shots: Shots,
    model: SingleModel,
    settings: AdaptSettings,
    device: Device,
    world: World,
    progress: Progress,
    stop: Callable[[], bool],
) -> Learner:
    if settings.method == "finetune":
        return Finetuner(shots, model, settings, device, world, progress, stop)
    return Translator(shots, model, settings, device, world, progress)


class _Run:
    """One run of the loop, from the state file where there is one."""

    def __init__(
        self,
        shots: Shots,
        model: SingleModel,
        settings: AdaptSettings,
        path: Path,
        learner: Learner,
        judge: Judge,
        device: Device,
        world: World,
    ) -> None:
        self._settings, self._path, self._learner, self._judge = settings, path, learner, judge
        self._device, self._world = device.torch_device, world
        self._digest = f"{digest_of_shots(shots)} {digest_of(model.network.state_dict())}"
        self._state = RunState()
        if path.exists():
            self._state, record = load_state(path, settings, self._digest)
            learner.restore(record, self._state.step)
        self._begun = self._saved = time.monotonic()
        self._before_s = self._state.elapsed_s
        self._meter = _Meter()

    def run(self, observe: Callable[[AdaptStep], None], stop: Callable[[], bool]) -> Adapted:
        """Takes step after step until the budget is spent or a stop is asked for."""
        state, settings = self._state, self._settings
        self._learner.begin()
        while True:
            share, stopping = self._world.agree(self._share(), stop(), self._device)
            if stopping or share >= 1:
                break
            self._meter.add(self._learner.step(state.step, share))
            state.step += 1
            judged = state.step % settings.judge_every == 0
            if judged:
                self._judge_now()
            if self._world.leads and (judged or state.step % settings.show_every == 0):
                observe(self._told(share, judged))
            if judged or time.monotonic() - self._saved > settings.save_every_s:
                self._save()
        if not stopping and (state.best is None or state.step % settings.judge_every):
            self._judge_now()
        self._save()
        return self._result(stopping)

    def _share(self) -> float:
        settings = self._settings
        shares = [self._state.step / settings.steps] if settings.steps else []
        if settings.minutes:
            shares.append(self._elapsed_s() / (60 * settings.minutes))
        return min(1.0, max(shares))

    def _elapsed_s(self) -> float:
        return self._before_s + time.monotonic() - self._begun

    def _judge_now(self) -> None:
        """Judges the learner on the held-back shots, and keeps its weights where they are the best so far."""
        self._meter.check(self._state.step)
        self._latest = self._judge.judgement(self._learner.stages(), self._state.step)
        best = self._state.best
        if best is None or self._latest.merit > best.merit:
            self._state.best = self._latest
            self._state.best_weights = _copied(self._learner)

    def _told(self, share: float, judged: bool) -> AdaptStep:
        losses, accuracy = self._meter.read(self._state.step)
        strip = self._judge.strip(self._learner.stages()) if judged else None
        scores = (*self._latest.scores, ("merit", 0.0, self._latest.merit)) if judged else ()
        return AdaptStep(self._state.step, share, losses, accuracy, strip, scores)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if not self._world.leads:
            return
        self._meter.check(self._state.step)
        self._state.elapsed_s = self._elapsed_s()
        save_state(self._state, self._learner.to_record(), self._settings, self._digest, self._path)

    def _result(self, stopping: bool) -> Adapted:
        state, product = self._state, self._learner.product
        best = state.best or Judgement(state.step, (), 0.0, helps=False)
        weights = state.best_weights if state.best is not None else _copied(self._learner)
        kept = f" Kept: step {best.step} of {state.step}, merit {best.merit:+.2f}."
        return Adapted(
            method=self._settings.method,
            weights=weights,
            architecture=product.architecture,
            config=product.config,
            traits=product.traits,
            scores=best.scores,
            helps=best.helps,
            steps=state.step,
            seconds=self._elapsed_s(),
            recipe=product.recipe + kept,
            interrupted=stopping,
        )


class _Meter:
    """Sums what steps gave, on the device, so that only a reading waits for it."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._accuracy: Tensor | None = None
        self._steps = 0

    def add(self, taught: Taught) -> None:
        """Adds one step."""
        for name, value in taught.losses:
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
        if taught.accuracy is not None:
            self._accuracy = taught.accuracy if self._accuracy is None else self._accuracy + taught.accuracy
        self._steps += 1

    def check(self, step: int) -> None:
        """Returns if every loss since the last reading was a number. Raises TrainingError."""
        if not all(bool(torch.isfinite(value)) for value in self._sums.values()):
            raise TrainingError(
                f"The loss is no number any more (before step {step}). The state file is from before "
                "that: delete it and start again with a lower rate."
            )

    def read(self, step: int) -> tuple[tuple[tuple[str, float], ...], float | None]:
        """Returns the means since the last reading, and starts anew. Raises TrainingError as `check`."""
        self.check(step)
        steps = max(self._steps, 1)
        losses = tuple((name, float(value) / steps) for name, value in self._sums.items())
        accuracy = None if self._accuracy is None else float(self._accuracy) / steps
        self._sums, self._accuracy, self._steps = {}, None, 0
        return losses, accuracy


def _copied(learner: Learner) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in learner.weights().items()}
