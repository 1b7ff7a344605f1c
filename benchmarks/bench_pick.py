"""How often `deblur ref --ref auto` picks the truly sharpest frame of a burst.

    python benchmarks/bench_pick.py ../shared/bench

`truth.tsv` has the columns file and path_px; rows of one folder under score/ are one burst. Each frame of a burst is
the photo once, and the others are what may be picked; for the sharpest frame itself, that nothing is picked is right.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

from bench_score import read_bursts

from deblur_cli.pipelines.references import ReferenceFinder

WINDOW, MOST_MEGAPIXELS = 30, 250.0
"""As `deblur ref` has them where nothing else is asked for."""


def wrong_picks(frames: list[tuple[Path, float]]) -> list[str]:
    """Returns a line for each frame of a burst for which not the sharpest other frame is picked."""
    finder = ReferenceFinder(window=WINDOW, max_megapixels=MOST_MEGAPIXELS)
    wrong = []
    for photo, path_px in frames:
        others = [frame for frame in frames if frame[0] != photo]
        best, shortest = min(others, key=lambda frame: frame[1])
        found = finder.find(photo, photo.parent)
        picked = found.sharper[0].path if found.sharper else None
        if picked != (best if shortest < path_px else None):
            name = "nothing" if picked is None else picked.name
            wrong.append(f"  {photo} ({path_px:.1f} px): {name} was picked; {best.name} has {shortest:.1f} px")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench", type=Path)
    bursts = read_bursts(parser.parse_args().bench)
    totals: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for burst, frames in sorted(bursts.items()):
        wrong = wrong_picks(frames)
        print("\n".join([f"{burst}: {len(frames) - len(wrong)} of {len(frames)} right", *wrong]), flush=True)
        for kind in (Path(burst).parent.name, "all"):
            totals[kind][0] += len(frames) - len(wrong)
            totals[kind][1] += len(frames)
    for kind, (right, count) in totals.items():
        print(f"{kind}: {right} of {count} right, {right / max(count, 1):.1%}")


if __name__ == "__main__":
    main()
