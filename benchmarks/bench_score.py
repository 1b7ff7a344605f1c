"""How well the sharpness score ranks bursts of known blur, and how long a photo takes.

    python benchmarks/bench_score.py ../shared/bench          accuracy, against truth.tsv
    python benchmarks/bench_score.py --speed FOLDER           seconds a photo, as `deblur score-sharpness` reads them

`truth.tsv` has the columns file, scene and path_px; rows of one folder under score/ are one burst.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deblur_cli.imaging.read import read_grey
from deblur_cli.measure.sharpness import WORKING_PX, fourier_sharpness, score_sharpness
from deblur_cli.pipelines.score_sharpness import ScoreJob, rank_by_sharpness


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Returns the rank correlation of two sequences without ties."""
    first, second = (np.argsort(np.argsort(values)) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def read_bursts(bench: Path) -> dict[str, list[tuple[Path, float]]]:
    """Returns photos and their path lengths, by the folder of the burst."""
    bursts: dict[str, list[tuple[Path, float]]] = defaultdict(list)
    with (bench / "truth.tsv").open(encoding="utf-8") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            if row["file"].startswith("score/"):
                bursts[str(Path(row["file"]).parent)].append((bench / row["file"], float(row["path_px"])))
    return bursts


def print_accuracy(bench: Path) -> None:
    """Prints a row a burst, and the means of each kind."""
    kinds: dict[str, list[tuple[float, float, bool, bool]]] = defaultdict(list)
    print(f"{'burst':28s} {'ours':>6s} {'plain':>6s}  sharpest found (ours, plain)")
    for burst, frames in sorted(read_bursts(bench).items()):
        greys = [read_grey(path, long_side=WORKING_PX)[0] for path, _ in frames]
        short = [-path_px for _, path_px in frames]
        ours = [score_sharpness(grey).score for grey in greys]
        plain = [fourier_sharpness(grey) for grey in greys]
        best = int(np.argmax(short))
        row = (spearman(ours, short), spearman(plain, short), np.argmax(ours) == best, np.argmax(plain) == best)
        print(
            f"{burst:28s} {row[0]:6.3f} {row[1]:6.3f}  {'yes' if row[2] else 'no':>3s} {'yes' if row[3] else 'no':>3s}"
        )
        kinds[Path(burst).parent.name].append((row[0], row[1], bool(row[2]), bool(row[3])))
    for kind, rows in kinds.items():
        mean, worst = np.mean(rows, axis=0), np.min(rows, axis=0)
        print(
            f"{kind}: Spearman {mean[0]:.3f} (worst {worst[0]:.3f}), plain {mean[1]:.3f} ({worst[1]:.3f}); "
            f"sharpest found in {sum(r[2] for r in rows)} and {sum(r[3] for r in rows)} of {len(rows)} bursts"
        )


def print_speed(folder: Path, workers: int | None) -> None:
    """Prints seconds a photo, wall time, reading included."""
    start = time.perf_counter()
    result = rank_by_sharpness(ScoreJob((folder,), recursive=True, workers=workers))
    count = len(result.ranked) + len(result.failed)
    seconds = time.perf_counter() - start
    print(f"{count} photos in {seconds:.1f} s: {seconds / count:.3f} s a photo, {len(result.failed)} failed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path, nargs="?", help="folder with truth.tsv")
    parser.add_argument("--speed", type=Path, metavar="FOLDER", help="folder of photos to time")
    parser.add_argument("--workers", type=int)
    arguments = parser.parse_args()
    if arguments.bench is not None:
        print_accuracy(arguments.bench)
    if arguments.speed is not None:
        print_speed(arguments.speed, arguments.workers)


if __name__ == "__main__":
    main()
