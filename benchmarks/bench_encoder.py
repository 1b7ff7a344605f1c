"""How often the compact encoder finds a blurred patch in a sharp photograph of the same scene, from another position.

    python benchmarks/bench_encoder.py ../shared/data/photos [--minutes 5]

The encoder is trained for so long on exposures by the virtual shutter (InfoNCE, as everywhere here) of the photographs
that are not held back. Then every position of 96 px squares of those held back is looked for in the whole square that
the reference shows, and counts as found where the best match lies within 1.5 px of the truth (4 px in brackets), in the
middle of the square, which the reference shows too. Beside it: the colours themselves, the encoder before training, and
VGG19's features where the Hub gives them, which is what the paper matches by.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from deblur_cli.adaptation.frames import FrameStore, store_of
from deblur_cli.catalogue.vgg import vgg19
from deblur_cli.datasets.draw import generator_for, seed_for, share_of
from deblur_cli.errors import MissingWeightsError
from deblur_cli.networks.papers.match_encoder import (
    VGG_LAYER,
    MatchEncoder,
    MatchEncoderConfig,
    accuracy,
    contrastive_loss,
)
from deblur_cli.networks.papers.matching import match
from deblur_cli.progress import SILENT
from deblur_cli.shutter.expose import grid
from deblur_cli.shutter.noise import finish
from deblur_cli.shutter.reference import looked_at, make_references
from deblur_cli.shutter.settings import ReferenceSettings, ShutterSettings

HELD_BACK = 0.1
SQUARE_PX, BORDER_PX, BATCH, RATE = 96, 24, 2, 1e-3
REFERENCES = ReferenceSettings(shift_px=(0.0, 16.0), blurry_probability=0.0, other_scene_probability=0.0)
PATHS = ((1.5, 6.0), (6.0, 15.0), (15.0, 40.0))
TESTED = 24

Features = Callable[[Tensor], Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    arguments = parser.parse_args()
    paths = sorted(arguments.photos.glob("*.jpg"))
    learned = store([path for path in paths if share_of(path.stem) >= HELD_BACK])
    unseen = store([path for path in paths if share_of(path.stem) < HELD_BACK])
    torch.manual_seed(0)
    encoder = MatchEncoder(MatchEncoderConfig())
    rows: list[tuple[str, Features]] = [("colours", lambda picture: picture - 0.5), ("encoder, untrained", encoder)]
    try:
        network = vgg19((VGG_LAYER,), SILENT)
        rows.append((f"VGG19 {VGG_LAYER}", lambda picture: network(picture)[0]))
    except MissingWeightsError as error:
        print(f"VGG19 is out of reach: {error}")
    print("| features | " + " | ".join(f"paths {low:g} to {high:g} px" for low, high in PATHS) + " |")
    print("| --- |" + " --- |" * len(PATHS))
    for name, features in rows:
        print_row(name, features, unseen)
    steps = train(encoder, learned, arguments.minutes)
    print_row(f"encoder, {arguments.minutes:g} minutes, {steps} steps of {BATCH}", encoder, unseen)


def store(paths: Sequence[Path]) -> FrameStore:
    """Returns the photographs, shrunken to 1024 px."""
    frames = []
    for path in paths:
        picture = Image.open(path).convert("RGB")
        picture.thumbnail((1024, 1024), Image.Resampling.LANCZOS)
        frames.append(np.asarray(picture))
    return store_of(frames, SQUARE_PX + 2 * REFERENCES.margin_px, torch.device("cpu"), "test")


def draw(
    source: FrameStore, path_px: tuple[float, float], count: int, *seed: int | str
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns blurry squares and references (B, 3, s, s), and where places of those lie in these, (B, 2, s, s)."""
    chosen, generator = random.Random(seed_for(*seed)), generator_for("cpu", *seed)
    shutter = ShutterSettings(path_px=path_px, sharp_probability=0.0, object_probability=0.0, max_frames=40)
    side = SQUARE_PX + 2 * REFERENCES.margin_px
    squares = torch.stack([source.crop(chosen.randrange(len(source)), side, chosen) for _ in range(count)])
    made = make_references(squares, shutter, REFERENCES, generator)
    x, y = grid(SQUARE_PX, SQUARE_PX, squares.device)
    seen_x, seen_y = looked_at(torch.linalg.inv(made.view), SQUARE_PX, SQUARE_PX)
    flow = torch.stack((seen_x - x, seen_y - y), 1)
    return finish(made.blurry, shutter, generator), finish(made.reference, shutter, generator), flow


def train(encoder: MatchEncoder, source: FrameStore, minutes: float) -> int:
    """Trains the encoder for so long, and returns the steps taken."""
    optimiser = torch.optim.Adam(encoder.parameters(), lr=RATE)
    begun, step = time.monotonic(), 0
    while time.monotonic() - begun < 60 * minutes:
        query, reference, flow = draw(source, (1.5, 40.0), BATCH, "encoder", step)
        generator = generator_for("cpu", "places", step)
        loss = contrastive_loss(encoder(query), encoder(reference), flow, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        step += 1
    return step


@torch.inference_mode()
def print_row(name: str, features: Features, source: FrameStore) -> None:
    """Prints how often places are found, for every range of paths."""
    cells = []
    inside = (..., slice(BORDER_PX, -BORDER_PX), slice(BORDER_PX, -BORDER_PX))
    for path_px in PATHS:
        found = []
        for number in range(TESTED):
            query, reference, flow = draw(source, path_px, 1, "test", number)
            index = match(features(query), features(reference)).index
            hidden = torch.full_like(flow, torch.nan)
            hidden[inside] = flow[inside]
            found.append([float(accuracy(index, SQUARE_PX, hidden, within_px=px)) for px in (1.5, 4.0)])
        near, wide = np.mean(found, axis=0)
        cells.append(f"{near:.0%} ({wide:.0%})")
    print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
