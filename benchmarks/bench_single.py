"""How long the installed `deblur single` takes, and how much memory, on photos of 12, 24 and 100 megapixels.

    python benchmarks/bench_single.py [PHOTO …] [--megapixels 24] [-- options of deblur single, as --precision float32]

Each photo is restored by a process of its own, as a user starts it. Without photos, blurred ones are made up. Prints
wall time, what the network itself took of it, and the peak of resident memory.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

MEGAPIXELS = (12, 24, 100)
POLL_S = 0.05


@dataclass(frozen=True)
class Run:
    """One photo through the command: `report` is what `--json` says of it."""

    seconds: float
    peak_bytes: int
    exit_code: int
    report: str


def make_photo(path: Path, megapixels: float, seed: int = 0, *, length_px: int | None = None) -> None:
    """Writes a JPEG of this size, 3:2, with shapes of all sizes, blurred along a line and noisy like a photo.

    `length_px` of the blur: without it, a 300th of the width; 1 for none.
    """
    rng = np.random.default_rng(seed)
    width = round(math.sqrt(megapixels * 1e6 * 1.5) / 8) * 8
    height = width * 2 // 3
    picture = np.full((height, width, 3), 110, np.uint8)
    for size in (width // 4, width // 10, width // 30, width // 80):
        for _ in range(min(int(0.4 * height * width / size**2), 4000)):
            centre = int(rng.integers(width)), int(rng.integers(height))
            axes = int(size * rng.uniform(0.2, 0.7)), int(size * rng.uniform(0.2, 0.7))
            colour = tuple(int(v) for v in rng.integers(10, 245, 3))
            cv2.ellipse(picture, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    length = max(width // 300, 3) if length_px is None else length_px
    picture = cv2.filter2D(picture, -1, np.eye(length, dtype=np.float32) / length)
    noise = rng.normal(0, 2, (512, 512, 3)).astype(np.int16)
    for top in range(0, height, 512):  # in blocks, so that making the photo stays small as well
        rows = picture[top : top + 512]
        grain = np.tile(noise, (1, width // 512 + 1, 1))[: len(rows), :width]
        rows[:] = np.clip(rows + grain, 0, 255)
    cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


def run_single(photo: Path, out: Path, options: list[str]) -> Run:
    """Returns what restoring one photo took, in a process of its own."""
    return run_command(["single", str(photo), "-o", str(out), "--overwrite", "--json", *options])


def run_command(arguments: list[str]) -> Run:
    """Returns what one run of the installed command took, in a process of its own."""
    command = [_deblur(), *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peaks = [0]
    watcher = threading.Thread(target=_watch, args=(process, peaks), daemon=True)
    watcher.start()
    report, complaints = process.communicate()
    seconds = time.perf_counter() - began
    watcher.join()
    if process.returncode:
        print(complaints, file=sys.stderr)
    return Run(seconds, peaks[0], process.returncode, report)


def _deblur() -> str:
    beside = Path(sys.executable).with_name("deblur.exe" if os.name == "nt" else "deblur")
    command = str(beside) if beside.exists() else shutil.which("deblur")
    if command is None:
        raise SystemExit("The command `deblur` is not installed: python -m pip install .")
    return command


def _watch(process: subprocess.Popen[str], peaks: list[int]) -> None:
    """Keeps the peak of resident memory that Linux counts for the process, as long as it lives."""
    status = Path(f"/proc/{process.pid}/status")
    while process.poll() is None:
        try:
            lines = status.read_text().splitlines()
        except OSError:  # gone in between, or no Linux
            return
        for line in lines:
            if line.startswith("VmHWM:"):
                peaks[0] = max(peaks[0], int(line.split()[1]) * 1024)
        time.sleep(POLL_S)


def network_seconds(report: str) -> float:
    """Returns the time that the network took, from the command's own report; NaN where it has none."""
    try:
        content = json.loads(report)
        return sum(float(photo["seconds"]["network"]) for photo in content["photos"])
    except (ValueError, KeyError, TypeError):
        return math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path)
    parser.add_argument("--megapixels", type=float, action="append")
    ours, options = sys.argv[1:], []
    if "--" in ours:
        at = ours.index("--")
        ours, options = ours[:at], ours[at + 1 :]
    chosen = parser.parse_args(ours)
    print(f"{'photo':24s} {'megapixels':>10s} {'wall s':>8s} {'network s':>9s} {'share':>6s} {'peak MiB':>9s}  exit")
    with tempfile.TemporaryDirectory() as folder:
        photos = list(chosen.photos)
        for megapixels in chosen.megapixels or (() if photos else MEGAPIXELS):
            photos.append(Path(folder) / f"made-up-{megapixels:g}.jpg")
            make_photo(photos[-1], megapixels)
        for photo in photos:
            run = run_single(photo, Path(folder) / "out", options)
            height, width = cv2.imread(str(photo), cv2.IMREAD_REDUCED_GRAYSCALE_8).shape
            network = network_seconds(run.report)
            print(
                f"{photo.name[:24]:24s} {height * width * 64 / 1e6:10.1f} {run.seconds:8.1f} {network:9.1f} "
                f"{network / run.seconds:6.0%} {run.peak_bytes / 2**20:9.0f}  {run.exit_code}",
                flush=True,
            )


if __name__ == "__main__":
    main()
