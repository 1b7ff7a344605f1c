"""How far tiles differ from the whole picture, and whether their borders show.

    python benchmarks/bench_tiles.py [PHOTO …] [--model NAME] [--tile 256 --tile 384] [--overlap 32 --overlap 64]

Prints, for each picture, tile and overlap: the largest and the 99.9th percentile of the difference to the whole picture
in steps of 8 bits, the PSNR to it, the mean step that this difference makes between neighbouring pixels where tiles
overlap and elsewhere (a border shows where the first is several tenths), and how much more work the overlap makes. A
flat gradient is always measured.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from deblur_cli.arrays import Pixels
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose
from deblur_cli.engine.restore import restore
from deblur_cli.engine.tiles import TileAxis, TilePlan, plan_tiles
from deblur_cli.imaging.read import read_photo
from deblur_cli.networks.contract import SingleModel

WHOLE_PX = 1 << 16
LONGEST_PX = 1024
"""Photos are cropped to this, so that the whole picture fits into memory."""


def gradient(height: int = 700, width: int = 1000) -> Pixels:
    """Returns a picture that brightens evenly, by less than a step of 8 bits every five pixels."""
    ramp = np.linspace(0.3, 0.6, width, dtype=np.float32)
    return np.repeat(np.broadcast_to(ramp, (height, width))[..., None], 3, axis=2).copy()


def crop(pixels: Pixels) -> Pixels:
    """Returns the middle of a photo."""
    top, left = (max(side - LONGEST_PX, 0) // 2 for side in pixels.shape[:2])
    return pixels[top : top + LONGEST_PX, left : left + LONGEST_PX].copy()


def steps(picture: Pixels, plan: TilePlan) -> tuple[float, float]:
    """Returns the mean step of a picture between neighbouring pixels inside the tiles' overlaps, and elsewhere."""
    inside, outside = zip(_steps(picture, plan.rows, 0), _steps(picture, plan.columns, 1), strict=True)
    return tuple(float(np.concatenate(part).mean()) for part in (inside, outside))  # type: ignore[return-value]


def _steps(picture: Pixels, axis: TileAxis, number: int) -> tuple[Pixels, Pixels]:
    lines = np.abs(np.diff(picture, axis=number)).mean(axis=(1 - number, 2))
    overlaps = np.zeros(len(lines), dtype=bool)
    for before, after in pairwise(axis.starts):
        overlaps[after : before + axis.tile_px] = True
    return lines[overlaps], lines[~overlaps]


def measure(name: str, pixels: Pixels, model: SingleModel, device: Device, tile_px: int) -> str:
    """Returns one line of the table."""
    whole = restore(model, device, [pixels], tile_px=WHOLE_PX).pixels
    tiled = restore(model, device, [pixels], tile_px=tile_px)
    traits = model.traits
    height, width = pixels.shape[:2]
    plan = plan_tiles(height, width, tile_px=tile_px, overlap_px=traits.overlap_px, multiple=traits.size_multiple)
    difference = np.abs(tiled.pixels - whole) * 255
    psnr = -10 * np.log10(max(float(np.mean((tiled.pixels - whole) ** 2)), 1e-20))
    borders, elsewhere = steps(tiled.pixels - whole, plan)
    work = plan.count * plan.shape[0] * plan.shape[1] / (height * width)
    return (
        f"{name[:24]:24s} {tile_px:5d} {traits.overlap_px:7d} {difference.max():8.3f} "
        f"{np.percentile(difference, 99.9):8.3f} {psnr:7.1f} {borders * 255:9.4f} {elsewhere * 255:9.4f} {work:6.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--tile", type=int, action="append")
    parser.add_argument("--overlap", type=int, action="append", help="instead of the network's own")
    options = parser.parse_args()
    model = load(find(options.model, SingleModel))
    device = choose(options.device, options.precision)
    pictures = {"gradient": gradient()} | {path.name: crop(read_photo(path).pixels) for path in options.photos}
    print(f"{model.name} on {device.torch_device} in {device.dtype_name}")
    print(
        f"{'picture':24s} {'tile':>5s} {'overlap':>7s} {'largest':>8s} {'99.9 %':>8s} {'PSNR':>7s} "
        f"{'borders':>9s} {'elsewhere':>9s} {'work':>6s}"
    )
    for overlap_px in options.overlap or [model.traits.overlap_px]:
        fitted = replace(model, traits=replace(model.traits, overlap_px=overlap_px))
        for tile_px in options.tile or [384]:
            for name, pixels in pictures.items():
                print(measure(name, pixels, fitted, device, tile_px), flush=True)


if __name__ == "__main__":
    main()
