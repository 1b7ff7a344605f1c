"""What a training teaches: a task turns a batch into a loss and the figures worth watching, and judges weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from deblur_cli.networks.blur_selector import BlurSelector
from deblur_cli.networks.contract import InputKind
from deblur_cli.training.config import LossConfig, TrainConfig
from deblur_cli.training.losses import l1, log_error, over_outputs, psnr


@dataclass(frozen=True)
class Batch:
    """What the network takes, and the truth: (B, 3, h, w) float32, display-encoded, [0, 1], on the training's device.

    `inputs` in the order of the network's arguments: (blurry,), (query, reference) or (noisy, blurry); for windows of
    whole pictures (blurry, spectra) and the candidates where there are some, see `whole_pictures.WindowStream`.
    """

    inputs: tuple[Tensor, ...]
    truth: Tensor

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.truth)

    def __getitem__(self, which: slice) -> Batch:
        """Returns the samples of a slice."""
        return Batch(tuple(picture[which] for picture in self.inputs), self.truth[which])

    def as_bgr(self) -> Batch:
        """Returns the batch with blue first, for networks whose published weights are made for that."""
        return Batch(tuple(picture.flip(1) for picture in self.inputs), self.truth.flip(1))


@dataclass(frozen=True)
class Outcome:
    """What one batch gave, still on the device, so that nobody waits for it.

    `loss` is a number with a gradient; `psnr_in` and `psnr_out` (B,) in dB compare input and output with the truth.
    """

    loss: Tensor
    psnr_in: Tensor
    psnr_out: Tensor


@dataclass(frozen=True)
class RestoreTask:
    """Every one of the network's outputs should equal the truth at its scale.

    `outputs` are the scales that the network's line in the registry names. Where the loss has a weight for denoising
    and there is more than one output, the first is the noisy input denoised, and held to that alone. The first
    `compared` inputs show what the truth shows; a result is compared with the best of them.
    """

    weights: LossConfig
    outputs: tuple[float, ...] = (1.0,)
    compared: int = 1

    def __call__(self, network: nn.Module, batch: Batch) -> Outcome:
        """Returns loss and figures of a batch; the loss is computed in float32 whatever the network's precision."""
        return self.judge(self.predict(network, batch), batch, self.without(network, batch))

    def judge(self, predictions: tuple[Tensor, ...], batch: Batch, without: Tensor | None = None) -> Outcome:
        """Returns loss and figures of what was predicted."""
        loss = self.denoising(predictions, batch) + self.restoring(predictions, batch, without)
        return outcome(loss, predictions, batch, self)

    def predict(self, network: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Returns all that the network predicts, the result last."""
        return predicted(network, batch.inputs, self.outputs)

    def without(self, network: nn.Module, batch: Batch) -> Tensor | None:
        """Returns what there would be without the network's work, (B, 3, h, w); None: the best of the inputs."""
        return None

    @property
    def denoises(self) -> bool:
        """Whether the first output is the noisy input denoised."""
        return self.weights.denoising > 0 and len(self.outputs) > 1

    def denoising(self, predictions: tuple[Tensor, ...], batch: Batch) -> Tensor:
        """Returns eq. 7 of Zhang et al. with its weight, or zero where nothing is denoised."""
        if not self.denoises:
            return batch.truth.new_zeros(())
        return self.weights.denoising * l1(predictions[0].float(), batch.truth)

    def restoring(self, predictions: tuple[Tensor, ...], batch: Batch, without: Tensor | None = None) -> Tensor:
        """Returns the loss over the outputs that are results, coarse or fine."""
        loss = over_outputs(predictions[1:] if self.denoises else predictions, batch.truth, self.weights)
        if not self.weights.log_error:
            return loss
        shown = batch.inputs[: self.compared] if without is None else (without,)
        before = torch.stack([(it - batch.truth).square().mean(dim=(1, 2, 3)) for it in shown]).amin(dim=0)
        harmed = log_error(predictions[-1].float(), batch.truth, before, self.weights.harm)
        return loss + self.weights.log_error * harmed


@dataclass(frozen=True)
class WindowTask(RestoreTask):
    """Windows of whole pictures, restored with what their pictures tell: see `whole_pictures.WindowStream`.

    The network has a `selector` and takes (blurry, weights), or (blurry, weights, candidates) where the recipe names
    some. The selector learns along.
    """

    def predict(self, network: nn.Module, batch: Batch) -> tuple[Tensor, ...]:
        """Returns the result alone."""
        blurry, spectra, *candidates = batch.inputs
        selector = cast(BlurSelector, getattr(network, "module", network).selector)  # as several processes wrap it
        with torch.autocast(blurry.device.type, enabled=False):
            weights = selector.weigh(spectra[:, None, None])[:, 0, 0]
        return (network(blurry, weights[..., None, None], *candidates),)


@dataclass(frozen=True)
class ReferenceTask(RestoreTask):
    """A reference is to help: what it does is compared with what the network for the query alone makes of it."""

    @torch.no_grad()
    def without(self, network: nn.Module, batch: Batch) -> Tensor | None:
        """Returns the query restored by itself, where the network knows how and the loss asks for it."""
        single = getattr(getattr(network, "module", network), "single", None)
        if single is None or not self.weights.log_error:
            return None
        alone: Tensor = single(batch.inputs[0])
        return alone.clamp(0, 1).float()


def task_for(config: TrainConfig, outputs: tuple[float, ...], *, selects: bool = False) -> RestoreTask:
    """Returns the task of a recipe's kind, for a network with these outputs: of a pair, both inputs show the truth.

    `selects`: the network has a selector, and is trained on windows of whole pictures.
    """
    if config.kind is InputKind.REFERENCE:
        return ReferenceTask(config.loss, outputs)
    if selects:
        return WindowTask(config.loss, outputs)
    return RestoreTask(config.loss, outputs, compared=2 if config.kind is InputKind.PAIR else 1)


@torch.no_grad()
def outcome(loss: Tensor, predictions: tuple[Tensor, ...], batch: Batch, task: RestoreTask) -> Outcome:
    """Returns a loss with the figures of what was predicted and of what was given."""
    before = torch.stack([psnr(picture, batch.truth) for picture in batch.inputs[: task.compared]]).amax(dim=0)
    return Outcome(loss, before, psnr(_as_saved(predictions[-1].float()), batch.truth))


def predicted(network: nn.Module, inputs: tuple[Tensor, ...], outputs: tuple[float, ...]) -> tuple[Tensor, ...]:
    """Returns all that the network predicts, the result last.

    The keyword goes through the module that is called, so it reaches a network wrapped for several GPUs or compiled.
    """
    if len(outputs) == 1:
        return (network(*inputs),)
    predictions: tuple[Tensor, ...] = network(*inputs, every_output=True)
    return predictions


def _as_saved(picture: Tensor) -> Tensor:
    """Returns the picture as an 8-bit file would hold it, still in [0, 1]."""
    return torch.round(picture.clamp(0, 1) * 255) / 255


HARM_DB = 0.1
"""A patch counts as made worse from this loss on."""
AT_REST_DB = 45.0
"""Where input and truth are this close nothing is to be gained: such a picture is to come back as it is. A change that
nobody sees would count for several decibels there."""


@dataclass(frozen=True)
class Validation:
    """The averaged weights on the held-out patches: mean PSNR in dB before and after, and the worst change.

    `at_rest_psnr`: those whose input is as good as the truth are no part of these; their mean PSNR after.
    """

    step: int
    psnr_in: float
    psnr_out: float
    worst_gain: float
    made_worse: int
    patches: int
    at_rest_psnr: float | None = None

    @property
    def gain(self) -> float:
        """The mean gain in dB."""
        return self.psnr_out - self.psnr_in


@dataclass(frozen=True)
class Validator:
    """Fixed held-out batches, and the task that judges them."""

    batches: Sequence[Batch]
    task: RestoreTask
    device: torch.device
    dtype: torch.dtype

    @torch.no_grad()
    def __call__(self, network: nn.Module, step: int) -> Validation | None:
        """Returns the network's figures, or None where nothing was held back. The network stays in its mode."""
        if not self.batches:
            return None
        with autocast(self.device, self.dtype):
            outcomes = [self.task(network, batch) for batch in self.batches]
        before = torch.cat([outcome.psnr_in for outcome in outcomes]).cpu()
        after = torch.cat([outcome.psnr_out for outcome in outcomes]).cpu()
        moved = before < AT_REST_DB
        at_rest = None if bool(moved.all()) else float(after[~moved].mean())
        if bool(moved.any()):
            before, after = before[moved], after[moved]
        gain = after - before
        return Validation(
            step=step,
            psnr_in=float(before.mean()),
            psnr_out=float(after.mean()),
            worst_gain=float(gain.min()),
            made_worse=int((gain < -HARM_DB).sum()),
            patches=len(gain),
            at_rest_psnr=at_rest,
        )


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """Returns the context in which a network computes in `dtype`; weights and losses stay in float32."""
    reduced = dtype is torch.bfloat16
    return torch.autocast(device.type, dtype=torch.bfloat16 if reduced else None, enabled=reduced)
