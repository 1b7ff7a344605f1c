"""What a reference network matches by, taught or loaded before the network itself is trained, and measured.

A restoration loss cannot teach to match (`networks.papers.reference_fusion` says why), so features that were drawn at
random stay as they are: with them a reference is borrowed from in the wrong places. The compact encoder, and a narrow φ
of DeepRefNet, learn by InfoNCE from the training pictures, whose correspondence is known: an exposure by the virtual
shutter and a second view, or a real blurry frame and its sharp one, cut at another place. VGG19 comes from the
catalogue. Then the share of places that are found is measured, and a matcher that finds no more than an untrained one
is refused.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deblur_cli.catalogue.vgg import vgg19_weights
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.datasets.photos import PhotoStore, Picture, size_of
from deblur_cli.datasets.readers import Dataset, Pair
from deblur_cli.datasets.video import Frame
from deblur_cli.errors import ConfigurationError, DatasetError
from deblur_cli.networks.papers.deep_ref_net import COARSE, DeepRefNet, MatchingEncoder, coarsened
from deblur_cli.networks.papers.match_encoder import LAYERS, VGGMatchFeatures, accuracy, contrastive_loss
from deblur_cli.networks.papers.matching import match
from deblur_cli.networks.papers.reference_fusion import Guided
from deblur_cli.progress import Progress
from deblur_cli.shutter.expose import grid
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.reference import looked_at, make_references
from deblur_cli.shutter.settings import ReferenceSettings, ShutterSettings
from deblur_cli.training.config import MatcherConfig
from deblur_cli.training.makers import check_one_size

BORDER_PX = 16
"""Places so near to the border may lie outside of the second view; they are not counted."""
MEASURED = 8
"""Squares on which a matcher is measured."""
ENOUGH = 0.5
"""Share of places found that is enough whatever an untrained matcher finds: at 1/4 of the size that is much."""
LEAST_SQUARE_PX = 48
PHI_LAYERS = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1")
"""The layers that φ of DeepRefNet has, in order."""
SHUTTER = ShutterSettings(
    margin_px=16, path_px=(1.5, 20.0), max_frames=24, sharp_probability=0.0, object_probability=0.0
)
"""Estimates are matched at 1/4 and 1/2 of the size, where paths are that short."""
VIEWS = ReferenceSettings(margin_px=24, shift_px=(0.0, 16.0))


@dataclass(frozen=True)
class Matcher:
    """A network's features to match by: `features` of pictures (B, 3, H, W), at 1 / `step` of their size.

    `prepare` is what the network does to the reference first. `fixed`: the restoration does not teach them.
    """

    features: nn.Module
    step: int
    prepare: Callable[[Tensor], Tensor]
    fixed: bool


@dataclass(frozen=True)
class MatcherReport:
    """How many places a matcher finds, and one of the same kind that nobody taught: shares in [0, 1]."""

    found: float
    untrained: float

    @property
    def gain(self) -> float:
        """The share that it finds of what an untrained one misses; about zero, or below, where it knows nothing."""
        return (self.found - self.untrained) / max(1 - self.untrained, 1e-6)


@dataclass(frozen=True)
class Places:
    """Squares of one scene and where each place of the first is in the second, as `contrastive_loss` takes them."""

    query: Tensor
    reference: Tensor
    flow: Tensor


def matcher_of(network: nn.Module) -> Matcher | None:
    """Returns what a network matches by, or None for one that matches by nothing that is learned."""
    if isinstance(network, Guided):
        return Matcher(network.guide.match_features, 1, lambda picture: picture, fixed=True)
    if isinstance(network, DeepRefNet):
        return Matcher(network.matching, COARSE, coarsened, fixed=False)
    return None


def prepare_matcher(
    network: nn.Module,
    config: MatcherConfig,
    datasets: Sequence[Dataset],
    held_out: Sequence[Dataset],
    device: torch.device,
    progress: Progress,
    *,
    seed: int,
    taught: bool = False,
    resumed: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> MatcherReport | None:
    """Returns how much the network's matcher knows, having loaded or taught it unless it is `taught` or `resumed`.

    None for a network without one. It is measured on held-out pictures where there are any. Deterministic in the seed.
    Raises MissingWeightsError where VGG19 is out of reach, DatasetError for pictures that are too small to learn from,
    and ConfigurationError where the matcher knows nothing, so that a training would teach the network to mistrust it;
    not of a resumed one that learns along. KeyboardInterrupt once `stop` says so: half a matcher is of no use.
    """
    matcher = matcher_of(network)
    if matcher is None:
        return None
    features = matcher.features.to(device)
    source = PlaceSource(datasets, config.patch_px, device)
    if not (taught or resumed):
        if isinstance(features, VGGMatchFeatures) or config.vgg19:
            load_vgg19(features, progress)
        else:
            teach(matcher, source, config, seed, progress, stop)
    unseen = PlaceSource(held_out, config.patch_px, device) if held_out else source
    untrained = replace(matcher, features=_untrained(features, seed))
    report = MatcherReport(share_found(matcher, unseen), share_found(untrained, unseen))
    progress.note(
        f"The matcher finds {report.found:.0%} of the places of blurred squares in another view of "
        f"{'held-out' if held_out else 'training'} scenes; an untrained one finds {report.untrained:.0%}."
    )
    decides = matcher.fixed or not resumed
    if decides and report.found < ENOUGH and report.gain < config.least_gain:
        raise ConfigurationError(
            f"What the network matches by finds {report.found:.0%} of the places in a reference, an untrained one "
            f"{report.untrained:.0%}: it knows nothing, and the network would learn to borrow nothing. Raise "
            "matcher.steps in the recipe, give more pictures with detail, or begin anew without --resume or --init so "
            "that it is taught."
        )
    return report


def load_vgg19(features: nn.Module, progress: Progress) -> None:
    """Gives a matcher the weights of VGG19 that the catalogue has, layer by layer.

    Raises MissingWeightsError, and ConfigurationError for one with other widths than VGG19's.
    """
    weights = vgg19_weights(progress)
    if isinstance(features, VGGMatchFeatures):
        features.vgg.load_state_dict({name: weights[name] for name in features.vgg.state_dict()})
        return
    if isinstance(features, MatchingEncoder):
        own = [layer.get_parameter(part) for layer in features.layers for part in ("weight", "bias")]
        given = [weights[f"features.{LAYERS.index(name)}.{part}"] for name in PHI_LAYERS for part in ("weight", "bias")]
        if [value.shape for value in own] == [value.shape for value in given]:
            with torch.no_grad():
                for target, value in zip(own, given, strict=True):
                    target.copy_(value)
            return
    raise ConfigurationError(
        "matcher: vgg19 was asked for, but the network's matcher has other widths than VGG19. Leave vgg19 out, so that "
        "it is taught, or take VGG19's: matching = [64, 128, 256]."
    )


def teach(
    matcher: Matcher,
    source: PlaceSource,
    config: MatcherConfig,
    seed: int,
    progress: Progress,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains the matcher's features to tell places apart however they are blurred; frozen ones stay frozen after.

    Raises KeyboardInterrupt once `stop` says so.
    """
    features = matcher.features.train()
    wanted = [parameter.requires_grad for parameter in features.parameters()]
    features.requires_grad_(True)
    optimiser = torch.optim.Adam(features.parameters(), lr=config.rate)
    with progress.stage("Matcher", config.steps, "steps") as stage:
        for step in range(config.steps):
            for group in optimiser.param_groups:
                group["lr"] = config.rate * (1 - 0.9 * step / config.steps)
            places = source.draw(config.batch, SHUTTER.path_px, "matcher", seed, step)
            query, reference, flow = _seen_by(matcher, places)
            loss = contrastive_loss(
                query, reference, flow, generator_for(source.device, "places", seed, step), samples=config.samples
            )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            stage.advance()
            if stop():
                raise KeyboardInterrupt
    for parameter, was in zip(features.parameters(), wanted, strict=True):
        parameter.requires_grad_(was)


@torch.no_grad()
def share_found(matcher: Matcher, source: PlaceSource, *, squares: int = MEASURED) -> float:
    """Returns the share of places whose best match lies within 1.5 positions of the truth, on `squares` fixed squares.

    Places near the border, which another view may not show, don't count.
    """
    training = matcher.features.training
    matcher.features.eval()
    found = []
    for number in range(squares):
        query, reference, flow = _seen_by(matcher, source.draw(1, SHUTTER.path_px, "measured", number))
        hidden = torch.full_like(flow, torch.nan)
        border = BORDER_PX // matcher.step
        inside = (..., slice(border, -border), slice(border, -border))
        hidden[inside] = flow[inside]
        found.append(float(accuracy(match(query, reference).index, reference.shape[3], hidden)))
    matcher.features.train(training)
    return sum(found) / len(found)


def _seen_by(matcher: Matcher, places: Places) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the features of both squares, and the flow in their positions."""
    step = matcher.step
    flow = F.avg_pool2d(places.flow, step) / step if step > 1 else places.flow
    return matcher.features(places.query), matcher.features(matcher.prepare(places.reference)), flow


def _untrained(features: nn.Module, seed: int) -> nn.Module:
    """Returns a copy with weights drawn anew, as an untrained one has them."""
    twin = copy.deepcopy(features)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for("untrained matcher", seed))
        for module in twin.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
    return twin


class PlaceSource:
    """Draws pairs of squares of one scene with known correspondence from training pictures."""

    def __init__(self, datasets: Sequence[Dataset], patch_px: int, device: torch.device) -> None:
        """Keeps what may be drawn. Raises DatasetError where no picture holds a square with its border."""
        self.device = device
        self._store = PhotoStore(device, 512 * 10**6)
        pictures: list[Picture] = [photo for dataset in datasets for photo in dataset.photos]
        pictures += [frame for dataset in datasets for sequence in dataset.sequences for frame in sequence.frames]
        self._pairs: list[Pair] = [pair for dataset in datasets for pair in dataset.pairs]
        self._pictures = pictures
        files = {picture.video if isinstance(picture, Frame) else picture for picture in pictures}
        files |= {pair.sharp for pair in self._pairs}
        room, smallest = min((min(size_of(path)), path) for path in files)
        border = 2 * VIEWS.margin_px if pictures else 0
        self._side = min(patch_px, room - border) // COARSE * COARSE
        if self._side < LEAST_SQUARE_PX:
            raise DatasetError(
                f"{smallest}: too small to teach what a reference is matched by, which needs "
                f"{LEAST_SQUARE_PX + border} pixels on the shorter side. Give larger pictures."
            )

    def draw(self, count: int, path_px: tuple[float, float], *seed: int | str) -> Places:
        """Returns `count` pairs of squares; the same for the same seed."""
        draw, generator = random.Random(seed_for(*seed)), generator_for(self.device, *seed)
        if not self._pictures or (self._pairs and draw.random() < 0.5):
            return self._from_pairs(count, draw)
        side = self._side + 2 * VIEWS.margin_px
        squares = torch.stack(
            [self._square(self._store.get(draw.choice(self._pictures)), side, draw) for _ in range(count)]
        )
        shutter = replace(SHUTTER, path_px=path_px)
        made = make_references(squares, shutter, VIEWS, generator)
        x, y = grid(self._side, self._side, self.device)
        seen_x, seen_y = looked_at(torch.linalg.inv(made.view), self._side, self._side)
        flow = torch.stack((seen_x - x, seen_y - y), 1)
        return Places(finish(made.blurry, shutter, generator), finish(made.reference, shutter, generator), flow)

    def _square(self, picture: Tensor, side: int, draw: random.Random) -> Tensor:
        """Returns a square (3, side, side) in [0, 1] of a picture shrunken by up to 4, as matching sees pictures."""
        shrink = draw.choice([by for by in (1, 2, 4) if by * side <= min(picture.shape[1:])] or [1])
        y, x = (draw.randint(0, max(0, length - shrink * side)) for length in picture.shape[1:])
        square = picture[:, y : y + shrink * side, x : x + shrink * side].float() / 255
        return F.avg_pool2d(square, shrink) if shrink > 1 else square

    def _from_pairs(self, count: int, draw: random.Random) -> Places:
        """Returns squares of blurry frames, and of their sharp ones cut up to a sixth of the side elsewhere."""
        queries: list[Tensor] = []
        references: list[Tensor] = []
        flows: list[Tensor] = []
        for _ in range(count):
            pair = draw.choice(self._pairs)
            blurry, sharp = self._store.get(pair.blurry), self._store.get(pair.sharp)
            check_one_size(pair, blurry, sharp)
            shrink = draw.choice([by for by in (1, 2) if by * self._side <= min(sharp.shape[1:])] or [1])
            side = shrink * self._side
            y, x = (draw.randint(0, length - side) for length in sharp.shape[1:])
            reach = side // 6
            there_y, there_x = (
                min(max(0, start + shrink * draw.randint(-reach // shrink, reach // shrink)), length - side)
                for start, length in zip((y, x), sharp.shape[1:], strict=True)
            )
            for picture, top, left, into in ((blurry, y, x, queries), (sharp, there_y, there_x, references)):
                square = picture[:, top : top + side, left : left + side].float() / 255
                into.append(F.avg_pool2d(square, shrink) if shrink > 1 else square)
            moved = torch.tensor((x - there_x, y - there_y), device=self.device) / shrink
            flows.append(moved.view(2, 1, 1).expand(2, self._side, self._side))
        return Places(torch.stack(queries), torch.stack(references), torch.stack(flows))
