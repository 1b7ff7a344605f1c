"""The camera's sharp shots, blurred: the one maker of what a camera's networks learn from and are judged by.

A picture is a square of a sharp shot under a blur, saved as the camera saves: with the noise of its blurry shots, and
through JPEG. The blur is a kernel of the camera's own library, a path of the virtual shutter, or a kernel taken from a
pair of some dataset.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from deblur_cli.adaptation.blur_library import SCALED, WIDEST_PX, BlurLibrary, blur_by
from deblur_cli.adaptation.frames import FrameStore
from deblur_cli.adaptation.kernel_extractor import KERNEL_PX, KernelExtractor, PairSquares
from deblur_cli.adaptation.matched import MatchedPair, crop_matched
from deblur_cli.datasets.draw import generator_for, seed_for
from deblur_cli.deconvolution.kernel import extent_px
from deblur_cli.networks.blur_selector import WINDOW_PX
from deblur_cli.shutter.expose import make_pairs
from deblur_cli.shutter.light import sample_curves, sample_lights_gain
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.settings import Range, ShutterSettings
from deblur_cli.training.picture_maker import as_saved
from deblur_cli.training.whole_pictures import WholePicture, whole_picture

CPU = torch.device("cpu")
GAMMA = (1.1, 2.4)
"""Of a camera's response: its contrast curve takes much of the gamma back in the mid-tones. With sRGB's curve a blurry
picture is 7 % brighter than a sharp one, on the simulated action camera 2 %."""


@dataclass(frozen=True)
class Blurred:
    """A blurry square and its truth, (1, 3, h, w) in [0, 1], no noise added; `path_px` is 0 where nothing moved."""

    blurry: Tensor
    truth: Tensor
    path_px: float


class Blur(Protocol):
    """One way of blurring; it takes `margin_px` off every side."""

    @property
    def margin_px(self) -> int:
        """By how much the square to blur must be larger, on every side."""

    def __call__(self, square: Tensor, draw: random.Random, generator: torch.Generator) -> Blurred:
        """Returns a square (1, 3, s, s) in [0, 1], blurred."""


@dataclass(frozen=True)
class LibraryBlur:
    """A kernel of the camera's own, scaled by a ratio from `scaled`, in light.

    A camera's response is not known: a gamma is drawn from `GAMMA`. Lights that are clipped are brighter than white, as
    the virtual shutter has them.
    """

    library: BlurLibrary
    scaled: Range = SCALED

    @property
    def margin_px(self) -> int:
        """Half of the largest kernel's side."""
        return WIDEST_PX // 2 + 1

    def __call__(self, square: Tensor, draw: random.Random, generator: torch.Generator) -> Blurred:
        """Returns a square blurred, by a kernel drawn for it."""
        kernel = self.library.draw(draw, self.scaled).to(square.device)
        cut = self.margin_px - len(kernel) // 2
        usual, device = ShutterSettings(), square.device
        curve = sample_curves(1, GAMMA, 0.0, generator, device)
        gain = sample_lights_gain(1, usual.lights_gain, usual.lights_probability, generator, device)
        blurry = _inside(blur_by(kernel[None], square, curve, gain), cut)
        return Blurred(blurry, _inside(square, self.margin_px), extent_px(kernel))


@dataclass(frozen=True)
class ShutterBlur:
    """A path of the virtual shutter."""

    settings: ShutterSettings

    @property
    def margin_px(self) -> int:
        """The shutter's own."""
        return self.settings.margin_px

    def __call__(self, square: Tensor, draw: random.Random, generator: torch.Generator) -> Blurred:
        """Returns a square exposed."""
        made = make_pairs(square, self.settings, generator)
        return Blurred(made.blurry, made.sharp, float(made.path_px[0]))


@dataclass(frozen=True)
class PairsBlur:
    """The kernel of a random pair of a dataset, as an extractor tells it."""

    squares: PairSquares
    extractor: KernelExtractor

    @property
    def margin_px(self) -> int:
        """Half of a kernel's side."""
        return KERNEL_PX // 2

    @torch.no_grad()
    def __call__(self, square: Tensor, draw: random.Random, generator: torch.Generator) -> Blurred:
        """Returns a square blurred as the pair is."""
        sharp, blurry = (part[None] for part in self.squares.draw(draw))
        kernel = self.extractor(sharp, blurry).to(square.device)
        return Blurred(blur_by(kernel, square), _inside(square, self.margin_px), extent_px(kernel[0]))


@dataclass(frozen=True)
class BlurredShots:
    """Makes whole pictures of sharp shots; picture n follows from `seed`, `name` and n alone.

    `blurs` with their shares; `still_share` of the pictures are sharp shots as the camera saves them, and their own
    truth. `matched_share` are squares of `matched` shots instead, as long as good ones are found. `saved` has noise and
    compression, `scale` the range of random shrinking.
    """

    sharp: FrameStore
    blurs: Sequence[tuple[Blur, float]]
    saved: ShutterSettings
    side_px: int
    scale: Range
    seed: int
    name: str
    still_share: float = 0.0
    matched: Sequence[MatchedPair] = ()
    matched_share: float = 0.0

    def make(self, number: int) -> WholePicture:
        """Returns picture `number`."""
        draw = random.Random(seed_for("blurred shots", self.name, self.seed, number))
        generator = generator_for(CPU, "blurred shots", self.name, self.seed, number)
        if self.matched and draw.random() < self.matched_share:
            taken = crop_matched(self.matched, WINDOW_PX, draw)
            if taken is not None:
                return whole_picture(as_saved(taken[0]), as_saved(taken[1]), _facts("matched", "matched", -1.0))
        still = draw.random() < self.still_share
        blur = draw.choices([each for each, _ in self.blurs], [share for _, share in self.blurs])[0]
        shot, made = self.blurred(blur, draw, generator)
        blurry = as_saved(finish(made.truth if still else made.blurry, self.saved, generator)[0])
        path_px = 0.0 if still else made.path_px
        truth = as_saved(made.truth[0]) if path_px else blurry
        return whole_picture(blurry, truth, _facts(f"shot {shot}", type(blur).__name__, path_px))

    def blurred(self, blur: Blur, draw: random.Random, generator: torch.Generator) -> tuple[int, Blurred]:
        """Returns the number of a random shot, and a square of it blurred."""
        shot = draw.randrange(len(self.sharp))
        room = min(self.sharp.pictures[shot].shape[1:])
        side = min(self.side_px + 2 * blur.margin_px, room)
        square = self.sharp.crop(shot, side, draw, self.scale)[None].cpu()
        return shot, blur(square, draw, generator)


def least_side_px(blurs: Sequence[Blur]) -> int:
    """Returns how long the shorter side of a shot must be: a window and every margin."""
    return WINDOW_PX + 2 * max(blur.margin_px for blur in blurs)


def _facts(source: str, maker: str, path_px: float) -> dict[str, str]:
    return {"source": source, "maker": maker, "path_px": f"{path_px:.3f}", "at_rest": str(int(path_px == 0))}


def _inside(picture: Tensor, cut: int) -> Tensor:
    return picture[..., cut : picture.shape[-2] - cut, cut : picture.shape[-1] - cut]
