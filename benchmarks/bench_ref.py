"""How long the installed `deblur ref` takes, and how much memory, on pairs of 12 and 24 megapixels.

    python benchmarks/bench_ref.py [--megapixels 12] [-- options of deblur ref, as --precision float32]

Each photo is made up, blurred, and restored with a sharp reference that was held a little differently, darker, by a
process of its own, as a user starts it. Prints wall time and the processors' own (the same on one core that nothing
else uses), what of it the network took and what finding out how the two lie on each other did, the peak of resident
memory, and how much of the blur's error is left.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from bench_single import make_photo, network_seconds, run_command

from deblur_cli.geometry.register import register_with_parallax
from deblur_cli.imaging.read import read_photo

MEGAPIXELS = (12, 24)
DEGREES, SHIFT_SHARE, EXPOSURE = 0.6, 0.012, 0.75
"""How differently the reference was held: rotation, shift as a share of the width, and its light."""
PATH_SHARE = 1 / 200
"""Length of the blur, as a share of the width."""


def make_pair(folder: Path, megapixels: float) -> tuple[Path, Path, Path]:
    """Writes a photo blurred along a line, its sharp reference and its truth; returns their paths."""
    folder.mkdir(parents=True)
    whole = folder / "whole.jpg"
    make_photo(whole, megapixels * 1.2, length_px=1)
    scene = cv2.imread(str(whole))
    whole.unlink()
    factor = (1 / 1.2) ** 0.5
    height, width = (round(side * factor / 8) * 8 for side in scene.shape[:2])
    top, left = (scene.shape[0] - height) // 2, (scene.shape[1] - width) // 2
    truth = scene[top : top + height, left : left + width]
    length = max(round(width * PATH_SHARE), 3)
    blurred = cv2.filter2D(truth, -1, np.eye(length, dtype=np.float32) / length)
    turn = cv2.getRotationMatrix2D((scene.shape[1] / 2, scene.shape[0] / 2), DEGREES, 1.0)
    turn[:, 2] += width * SHIFT_SHARE
    held = cv2.warpAffine(scene, turn, scene.shape[1::-1])[top : top + height, left : left + width]
    darker = np.clip(255 * (held / 255.0) ** 2.2 * EXPOSURE, 0, 255) / 255
    paths = folder / "photo.jpg", folder / "reference.jpg", folder / "truth.png"
    for path, picture in zip(paths, (blurred, 255 * darker ** (1 / 2.2), truth), strict=True):
        cv2.imwrite(str(path), picture.astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 94])
    return paths


def registration_seconds(photo: Path, reference: Path) -> float:
    """Returns how long it takes to find out how the two lie on each other."""
    onto, moving = read_photo(photo).pixels, read_photo(reference).pixels
    began = time.process_time()
    register_with_parallax(moving, onto)
    return time.process_time() - began


def children_seconds() -> float:
    """Returns how long all processes that ended so far kept processors busy."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def error_left(photo: Path, restored: Path, truth: Path) -> float:
    """Returns the restored photo's mean squared error over the blurred one's."""
    sharp = cv2.imread(str(truth)).astype(np.float32)
    before, after = (np.square(cv2.imread(str(path)) - sharp).mean() for path in (photo, restored))
    return float(after / before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, action="append")
    ours, options = sys.argv[1:], []
    if "--" in ours:
        at = ours.index("--")
        ours, options = ours[:at], ours[at + 1 :]
    chosen = parser.parse_args(ours)
    print("megapixels   wall s  processor s  network s  registering s  peak MiB  borrowed  error left  exit")
    with tempfile.TemporaryDirectory() as name:
        for megapixels in chosen.megapixels or MEGAPIXELS:
            folder = Path(name) / f"{megapixels:g}"
            photo, reference, truth = make_pair(folder, megapixels)
            out = folder / "out"
            before = children_seconds()
            run = run_command(["ref", str(photo), "--ref", str(reference), "-o", str(out), "--json", *options])
            line = f"{megapixels:10.1f} {run.seconds:8.1f} {children_seconds() - before:12.1f}"
            line += f" {network_seconds(run.report):10.1f}"
            if run.exit_code == 0:
                use = json.loads(run.report)["photos"][0]["references"][0]
                share = f"{use['borrowed_share']:9.0%}" if use["used"] else "  refused"
                line += f" {registration_seconds(photo, reference):14.1f} {run.peak_bytes / 2**20:9.0f} {share}"
                line += f" {error_left(photo, out / photo.name, truth):11.0%}"
            print(f"{line}  {run.exit_code:4d}", flush=True)


if __name__ == "__main__":
    main()
