"""The training loop, top to bottom: step after step until the budget is spent or somebody stops it."""

from __future__ import annotations

import functools
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from deblur_cli.datasets.draw import seed_for
from deblur_cli.progress import Progress, Stage
from deblur_cli.training.checkpoint import save_checkpoint
from deblur_cli.training.config import OptimiserConfig, RunConfig, TrainConfig
from deblur_cli.training.distributed import AGREE_EVERY, World
from deblur_cli.training.journal import Journal, Meter
from deblur_cli.training.state import SHARE, TrainState, keep_before, to_checkpoint, update_average
from deblur_cli.training.tasks import Batch, Outcome, RestoreTask, Validation, Validator, autocast


def progress_share(run: RunConfig, step: int, elapsed_s: float) -> float:
    """Returns how much of the budget is spent, in [0, 1]: the larger share where steps and minutes are both limited.

    `elapsed_s` counts every part of a resumed training, so the share goes on where it stopped.
    """
    shares = [0.0]
    if run.steps is not None:
        shares.append(step / run.steps)
    if run.minutes is not None:
        shares.append(elapsed_s / (60 * run.minutes))
    return min(1.0, max(shares))


def rate(share: float, settings: OptimiserConfig) -> float:
    """Returns the learning rate where `share` of the budget is spent: linear warm-up, then cosine annealing.

    Source: section 4.1.3 of Zou et al.: from 2e-4 down to 1e-6 by cosine annealing. Every round begins anew, as
    the warm restarts of Loshchilov and Hutter (SGDR, 2017) do.
    """
    share = _within(share, settings)
    if share < settings.warmup_share:
        # Never zero, or the first step of a training would be lost.
        return settings.rate * max(share / settings.warmup_share, 0.01)
    descent = (share - settings.warmup_share) / (1 - settings.warmup_share)
    half_range = (settings.rate - settings.final_rate) / 2
    return settings.final_rate + half_range * (1 + math.cos(math.pi * min(descent, 1.0)))


def round_of(share: float, settings: OptimiserConfig) -> int:
    """Returns the number, from 0, of the round that is on where `share` of the budget is spent."""
    return sum(share >= end for end in _ends(settings)[:-1])


def _within(share: float, settings: OptimiserConfig) -> float:
    """Returns how much of its round is spent."""
    ends = _ends(settings)
    number = round_of(share, settings)
    begin = ends[number - 1] if number else 0.0
    return (share - begin) / (ends[number] - begin)


def _ends(settings: OptimiserConfig) -> list[float]:
    """Returns the shares of the budget at which the rounds end, 1 the last."""
    total = sum(settings.rounds)
    return [*(sum(settings.rounds[: number + 1]) / total for number in range(len(settings.rounds) - 1)), 1.0]


class StopRequest:
    """Whether somebody asked the training to stop."""

    def __init__(self) -> None:
        self.asked = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """Notes a signal; a second one interrupts at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Gives a stop_request that SIGINT and SIGTERM set, and puts the former handlers back on leaving.

    Outside the main thread no signal can be caught: the stop_request is then never set.
    """
    stop_request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop_request
        return
    former = {number: signal.signal(number, stop_request.ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


LAST, BEST, LOG, MODEL = "last.pt", "best.pt", "log.jsonl", "model.safetensors"


@dataclass(frozen=True)
class Setting:
    """What stays the same while the loop runs. `data` is the digest of the pictures trained on."""

    config: TrainConfig
    device: torch.device
    dtype: torch.dtype
    world: World
    out: Path
    data: str


@dataclass(frozen=True)
class TrainResult:
    """Where a training stands; `validation` is the last one, None where nothing was held back or it never came to it.

    `patches_per_s` is the mean over this part of the training, all processes together: from the end of its first step,
    so that start-up is left out, to the end of its last, validation included.
    """

    step: int
    elapsed_s: float
    patches_per_s: float
    validation: Validation | None
    best_psnr: float | None
    interrupted: bool
    model: Path | None = None
    leads: bool = True
    """Whether this process speaks for all of a training on several."""
    exported: Validation | None = None
    """What the exported file scores on the held-out pictures, in its half precision."""


TrainStep = Callable[[Batch, float], tuple[Outcome, Tensor]]
"""A step of a training that needs more than one loss and one descent: of a batch, at a rate; see `take_step`."""


def run(
    setting: Setting,
    state: TrainState,
    task: RestoreTask,
    batch_at: Callable[[int], Batch],
    validator: Validator,
    journal: Journal,
    stop_request: StopRequest,
    progress: Progress,
    *,
    step: TrainStep | None = None,
) -> TrainResult:
    """Returns where the training stands when its budget is spent or a stop was asked for; `last.pt` is written then.

    `batch_at(step)` gives the batch of a step; a `step` of one's own takes the place of `take_step`, and sees itself to
    several processes. Raises TrainingError when the loss is no number any more: `last.pt` is then from before.
    """
    habits, patches = setting.config.run, setting.config.data.batch * setting.world.size
    take = step or functools.partial(take_step, setting, state, _runner(setting, state.network), task)
    meter, clock = Meter(setting.device), Clock(setting, state, stop_request)
    checkpointer = Checkpointer(setting, state, clock, validator, journal, progress)
    with clock.stage(progress) as stage:
        while not clock.ended():
            state.share = clock.share
            keep_before(state, round_of(clock.share, setting.config.optimiser))
            learning_rate = rate(clock.share, setting.config.optimiser)
            outcome, norm = take(batch_at(state.step), learning_rate)
            meter.add(outcome, norm)
            clock.count(stage)
            if state.step % habits.log_every == 0:
                journal.write("step", meter.read(state.step, learning_rate, clock.elapsed_s, patches))
            if state.step % habits.validate_every == 0:
                meter.check(state.step)
                checkpointer.judge()
            if checkpointer.save_is_due():
                meter.check(state.step)
                checkpointer.save(LAST)
    meter.check(state.step)
    if not clock.stopping:
        checkpointer.judge()
    checkpointer.save(LAST)
    setting.world.wait()
    return TrainResult(
        step=state.step,
        elapsed_s=clock.elapsed_s,
        patches_per_s=clock.steps_per_s * patches,
        validation=checkpointer.validation,
        best_psnr=state.best_psnr,
        interrupted=clock.stopping,
        leads=setting.world.leads,
    )


def take_step(
    setting: Setting, state: TrainState, runner: nn.Module, task: RestoreTask, batch: Batch, learning_rate: float
) -> tuple[Outcome, Tensor]:
    """Returns the outcome and the gradient's norm of one step, still on the device; the state is one step further.

    Whatever the network draws (dropout, say) is seeded by the step, so a resumed training draws the same.
    """
    seed_step(setting, state)
    set_rate(state.optimiser, learning_rate)
    state.optimiser.zero_grad(set_to_none=True)
    outcome = _added_up(setting, runner, task, batch)
    return outcome, descend(state, setting.config.optimiser)


def descend(state: TrainState, settings: OptimiserConfig) -> Tensor:
    """Takes the optimiser's step by the gradients there are, and returns their norm before it was clipped."""
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip_norm)
    state.optimiser.step()
    state.step += 1
    update_average(state, settings.ema_decay)
    return norm


def _added_up(setting: Setting, runner: nn.Module, task: RestoreTask, batch: Batch) -> Outcome:
    """Returns the outcome of a batch, having added up its gradients, part by part where the recipe says so."""
    outcomes = []
    parts = split(batch, setting.config.run.accumulate)
    for part, share in parts:
        with autocast(setting.device, setting.dtype):
            outcome = task(runner, part)
        loss: Tensor = outcome.loss * share
        loss.backward()  # type: ignore[no-untyped-call]  # as torch leaves it
        outcomes.append(Outcome(outcome.loss.detach() * share, outcome.psnr_in, outcome.psnr_out))
    if len(outcomes) == 1:
        return outcomes[0]
    return Outcome(
        torch.stack([it.loss for it in outcomes]).sum(),
        torch.cat([it.psnr_in for it in outcomes]),
        torch.cat([it.psnr_out for it in outcomes]),
    )


def split(batch: Batch, parts: int) -> list[tuple[Batch, float]]:
    """Returns a batch in parts of equal size, but for the last, and the share that each is of it."""
    size = -(-len(batch) // parts)
    pieces = [batch[first : first + size] for first in range(0, len(batch), size)]
    return [(piece, len(piece) / len(batch)) for piece in pieces]


def seed_step(setting: Setting, state: TrainState) -> None:
    """Seeds what a network draws in this step of this process."""
    torch.manual_seed(seed_for("step", setting.config.run.seed, setting.world.rank, state.step))


def set_rate(optimiser: Optimizer, learning_rate: float) -> None:
    """Makes an optimiser go on at another rate, each part of the network at its share of it."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate * group.get(SHARE, 1.0)


class Clock:
    """How much of the budget is spent, agreed on by all processes."""

    def __init__(self, setting: Setting, state: TrainState, stop_request: StopRequest) -> None:
        self._setting, self._state, self._stop_request = setting, state, stop_request
        self._begun, self._before_s = time.monotonic(), state.elapsed_s
        self._visits, self._time_share, self._shown = 0, 0.0, 0
        self._first_end_s, self._last_end_s, self._steps = 0.0, 0.0, 0
        self.share = 0.0
        self.stopping = False

    @property
    def here_s(self) -> float:
        """Seconds of this part of the training."""
        return time.monotonic() - self._begun

    @property
    def elapsed_s(self) -> float:
        """Seconds of all parts of the training."""
        return self._before_s + self.here_s

    @property
    def steps_per_s(self) -> float:
        """Speed of this part of the training from the end of its first step; 0 where there was but one."""
        span_s = self._last_end_s - self._first_end_s
        return (self._steps - 1) / span_s if span_s > 0 else 0.0

    def ended(self) -> bool:
        """Returns whether the budget is spent or a stop was asked for; asked once before every step."""
        run, world = self._setting.config.run, self._setting.world
        if world.size == 1 or self._visits % AGREE_EVERY == 0:
            spent = progress_share(run, 0, self.elapsed_s)
            self._time_share, self.stopping = world.agree(spent, self._stop_request.asked, self._setting.device)
        self._visits += 1
        self.share = max(progress_share(run, self._state.step, 0.0), self._time_share)
        return self.stopping or self.share >= 1

    def stage(self, progress: Progress) -> AbstractContextManager[Stage]:
        """Opens the stage that the user watches, in steps or in seconds, as the budget is."""
        run = self._setting.config.run
        if run.minutes is None and run.steps is not None:
            return progress.stage("training", total=max(0, run.steps - self._state.step), unit="steps")
        left_s = max(0.0, 60 * (run.minutes or 0.0) - self._before_s)
        return progress.stage("training", total=round(left_s), unit="s")

    def count(self, stage: Stage) -> None:
        """Counts one more step and tells the stage."""
        self._last_end_s = self.here_s
        self._steps += 1
        if self._steps == 1:
            self._first_end_s = self._last_end_s
        if self._setting.config.run.minutes is None:
            stage.advance(1)
        elif int(self.here_s) > self._shown:
            stage.advance(int(self.here_s) - self._shown)
            self._shown = int(self.here_s)


class Checkpointer:
    """Judges and saves: the last state in `last.pt`, the best on held-out pictures in `best.pt`. The leader alone."""

    def __init__(
        self,
        setting: Setting,
        state: TrainState,
        clock: Clock,
        validator: Validator,
        journal: Journal,
        progress: Progress,
    ) -> None:
        self._setting, self._state, self._clock = setting, state, clock
        self._judge, self._journal, self._progress = validator, journal, progress
        self._saved = time.monotonic()
        self.validation: Validation | None = None

    def judge(self) -> None:
        """Validates the averaged weights once a step, and keeps them where they are the best so far."""
        state = self._state
        if not self._setting.world.leads or (self.validation is not None and self.validation.step == state.step):
            return
        self.validation = self._judge(state.averaged, state.step)
        if self.validation is None:
            return
        self._journal.write("validation", self.validation)
        self._progress.note(
            f"step {state.step}: held-out {self.validation.psnr_in:.2f} → {self.validation.psnr_out:.2f} dB, "
            f"{self.validation.made_worse} of {self.validation.patches} patches made worse" + _at_rest(self.validation)
        )
        if state.best_psnr is None or self.validation.psnr_out > state.best_psnr:
            state.best_psnr = self.validation.psnr_out
            self.save(BEST)

    def save_is_due(self) -> bool:
        """Returns whether the last state has not been saved for a while."""
        return self._setting.world.leads and time.monotonic() - self._saved > self._setting.config.run.save_every_s

    def save(self, name: str) -> None:
        """Writes the state to `out / name`. Raises CannotWriteError."""
        if not self._setting.world.leads:
            return
        self._state.elapsed_s = self._clock.elapsed_s
        save_checkpoint(to_checkpoint(self._state, self._setting.config, self._setting.data), self._setting.out / name)
        if name == LAST:
            self._saved = time.monotonic()


def _at_rest(seen: Validation) -> str:
    """Returns what is said of patches at rest, where there are some."""
    return "" if seen.at_rest_psnr is None else f"; those at rest come back at {seen.at_rest_psnr:.1f} dB"


def _runner(setting: Setting, network: nn.Module) -> nn.Module:
    """Returns the network as the steps call it: spread over processes, and compiled where the recipe says so."""
    runner = setting.world.wrap(network.train(), setting.device)
    if setting.config.run.compile:
        runner.compile()
    return runner
