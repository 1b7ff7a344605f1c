"""Steps of several losses: against a network that tells results from truths, or with a stage that learns apart."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from deblur_cli.datasets.draw import seed_for
from deblur_cli.errors import ConfigurationError
from deblur_cli.networks.contract import Discriminator, InputKind
from deblur_cli.networks.papers import discriminators
from deblur_cli.training.config import TrainConfig
from deblur_cli.training.loop import Setting, descend, seed_step, set_rate
from deblur_cli.training.losses import conditional, conditional_deception, relativistic
from deblur_cli.training.makers import INPUTS
from deblur_cli.training.recipe import did_you_mean
from deblur_cli.training.state import Adversary, TrainState
from deblur_cli.training.tasks import Batch, Outcome, RestoreTask, autocast, outcome, predicted


def needs_duel(config: TrainConfig) -> bool:
    """Returns whether a recipe's step has more than one loss and one descent."""
    return bool(config.adversary.network) or config.loss.denoising_apart


class AdversarialStep:
    """One step after another, each in the order of Zhang et al.: the denoising net, the discriminator, the rest.

    Source: section IV-A of Deep Motion Blur Removal Using Noisy/Blurry Image Pairs; with a relativistic discriminator
    and nothing to denoise it is section 3.3 of Liu et al., DeepRefNet. The network runs once a step; the discriminator
    learns from the results before it judges them. Gradients are averaged over processes here, since a network wrapped
    for that may only descend once a step.
    """

    def __init__(self, setting: Setting, state: TrainState, task: RestoreTask) -> None:
        """Compiles the network where the recipe says so, and gives every process the leader's weights."""
        self._setting, self._state, self._task = setting, state, task
        self._runner = state.network.train()
        if setting.config.run.compile:
            self._runner.compile()
        for network in (state.network, *((state.adversary.network,) if state.adversary else ())):
            setting.world.share(network)
        parameters = [parameter for parameter in state.network.parameters() if parameter.requires_grad]
        first: list[nn.Parameter] = []
        if setting.config.loss.denoising_apart and task.denoises:
            names = first_stage(state.network, task, setting.config, setting.device)
            first = [value for name, value in state.network.named_parameters() if name in names]
        self._first, kept_apart = first, {id(parameter) for parameter in first}
        self._rest = [parameter for parameter in parameters if id(parameter) not in kept_apart]

    def __call__(self, batch: Batch, learning_rate: float) -> tuple[Outcome, Tensor]:
        """Returns the outcome and the gradient's norm, still on the device; the state is one step further."""
        setting, state, task = self._setting, self._state, self._task
        seed_step(setting, state)
        set_rate(state.optimiser, learning_rate)
        with autocast(setting.device, setting.dtype):
            predictions, without = task.predict(self._runner, batch), task.without(self._runner, batch)
        state.optimiser.zero_grad(set_to_none=True)
        denoising = task.denoising(predictions, batch)
        if self._first:
            denoising.backward(inputs=self._first, retain_graph=True)  # type: ignore[no-untyped-call]
        loss = task.restoring(predictions, batch, without)
        if state.adversary is not None:
            self._teach(state.adversary, predictions[-1].detach(), batch, learning_rate)
            weight = setting.config.adversary.weight
            loss = loss + weight * self._deceive(state.adversary, predictions[-1], batch)
        if not self._first:
            loss = loss + denoising
        loss.backward(inputs=self._rest)  # type: ignore[no-untyped-call]
        setting.world.average_gradients(state.network.parameters())
        norm = descend(state, setting.config.optimiser)
        total = loss.detach() + (denoising.detach() if self._first else 0)
        return outcome(total, predictions, batch, task), norm

    def _teach(self, adversary: Adversary, restored: Tensor, batch: Batch, learning_rate: float) -> None:
        """Takes one step of the discriminator, at a rate that falls as the network's does."""
        config = self._setting.config
        set_rate(adversary.optimiser, config.adversary.rate * learning_rate / config.optimiser.rate)
        adversary.optimiser.zero_grad(set_to_none=True)
        real, fake = self._score(adversary, batch.truth, batch), self._score(adversary, restored, batch)
        loss = relativistic(real, fake) if config.adversary.form == "relativistic" else conditional(real, fake)
        loss.backward()  # type: ignore[no-untyped-call]
        self._setting.world.average_gradients(adversary.network.parameters())
        adversary.optimiser.step()

    def _deceive(self, adversary: Adversary, restored: Tensor, batch: Batch) -> Tensor:
        """Returns the loss of results that the discriminator is not deceived by; its own weights get no gradient."""
        adversary.network.requires_grad_(False)
        try:
            fake = self._score(adversary, restored, batch)
            if self._setting.config.adversary.form == "conditional":
                return conditional_deception(fake)
            with torch.no_grad():
                real = self._score(adversary, batch.truth, batch)
            return relativistic(fake, real)
        finally:
            adversary.network.requires_grad_(True)

    def _score(self, adversary: Adversary, picture: Tensor, batch: Batch) -> Tensor:
        """Returns the discriminator's logits in float32: of the picture alone, or beside the blurry input."""
        blurry = batch.inputs[1 if self._setting.config.kind is InputKind.PAIR else 0]
        beside = (blurry,) if adversary.beside_input else ()
        with autocast(self._setting.device, self._setting.dtype):
            score: Tensor = adversary.network(picture, *beside)
        return score.float()


def new_adversary(config: TrainConfig, device: torch.device) -> Adversary | None:
    """Returns the discriminator that a recipe names, with the weights that its seed gives and a fresh optimiser.

    None where it names none. Raises ConfigurationError for an unknown name.
    """
    settings = config.adversary
    if not settings.network:
        return None
    line = discriminator_named(settings.network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("adversary", config.run.seed))
        network = line.build()
    network = network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.rate, betas=settings.betas, fused=True)
    return Adversary(network, optimiser, line.beside_input)


def discriminator_named(name: str) -> Discriminator:
    """Returns the line of that name. Raises ConfigurationError that gives the nearest."""
    found = next((line for line in discriminators.DISCRIMINATORS if line.name == name), None)
    if found is None:
        known = [line.name for line in discriminators.DISCRIMINATORS]
        raise ConfigurationError(
            f"adversary: there is no discriminator called {name!r}{did_you_mean(name, known)}. Choose one of "
            f"{', '.join(known) or '(none is built in)'}, or leave [adversary] out."
        )
    return found


def first_stage(network: nn.Module, task: RestoreTask, config: TrainConfig, device: torch.device) -> frozenset[str]:
    """Returns the names of the parameters that the network's first output depends on.

    Found by differentiating a copy, so that no network has to say it and none can say it wrongly.
    """
    twin = copy.deepcopy(network).eval()
    side = config.data.patch_px
    inputs = tuple(torch.rand(1, 3, side, side, device=device) for _ in range(INPUTS[config.kind]))
    named = {name: value for name, value in twin.named_parameters() if value.requires_grad}
    first = predicted(twin, inputs, task.outputs)[0].sum()
    gradients = torch.autograd.grad(first, list(named.values()), allow_unused=True)
    return frozenset(name for name, gradient in zip(named, gradients, strict=True) if gradient is not None)
