"""Damaged photographs through reader and writer: no traceback, no hang, no flood of memory.

    python -m tests.fuzz --seed 1 --mutations 3000 [--folder PHOTOS]

Bytes of real files are flipped, cut out and doubled. One process reads and writes them, one after the other, within
MOST_SECONDS and MOST_BYTES each; whatever it raises must be a sentence of ours. Without a folder, small files of every
format are made. The same seed gives the same mutations; what fails is kept as fuzz-SEED-NUMBER.SUFFIX.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

MOST_SECONDS = 20.0
"""Of processor time."""
PATIENCE_S = 300.0
"""Wall time, on a machine that does much else; what waits for something that never comes is found by this."""
MOST_BYTES = 2 * 1024**3
MOST_FILES = 40
SIZE = (72, 96)


def mutated(content: bytes, rng: random.Random) -> bytes:
    """Returns the bytes with up to four places flipped, cut out or doubled, often near the start: in headers."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if len(changed) < 2:
            break
        reach = len(changed) if rng.random() < 0.5 else min(len(changed), 2048)
        at = rng.randrange(reach)
        length = min(len(changed) - at, rng.choice((1, 2, 4, 64, 4096, len(changed))))
        kind = rng.choice(("flip", "flip", "value", "cut", "double", "end"))
        if kind == "flip":
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == "value":
            changed[at] = rng.choice((0, 1, 127, 128, 255))
        elif kind == "cut":
            del changed[at : at + length]
        elif kind == "double":
            changed[at:at] = changed[at : at + length]
        else:
            del changed[at:]
    return bytes(changed)


def sources(folder: Path | None, made: Path) -> list[Path]:
    """Returns the files to damage: of a folder the smallest of each suffix first, or made ones of every format."""
    if folder is None:
        return make_sources(made)
    found = sorted((path for path in folder.rglob("*.*") if path.suffix != ".md"), key=lambda p: p.stat().st_size)
    by_suffix: dict[str, list[Path]] = {}
    for path in found:
        by_suffix.setdefault(path.suffix.lower(), []).append(path)
    turns = [group[place] for place in range(len(found)) for group in by_suffix.values() if place < len(group)]
    return turns[:MOST_FILES]


def make_sources(folder: Path) -> list[Path]:
    """Returns small files of every format that can be written here, some of them with metadata."""
    import numpy as np
    import tifffile
    from PIL import Image

    from tests.conftest import textured
    from tests.imaging.exif_samples import exif, small_jpeg, write_dng

    pixels = textured(SIZE, 3)
    picture, deep = Image.fromarray(pixels), pixels.astype(np.uint16) * 257
    block = exif(orientation=6, thumbnail=small_jpeg("red"))
    for name, options in {
        "a.jpg": {"exif": b"Exif\0\0" + block},
        "b.jpg": {"progressive": True},
        "a.png": {"exif": block},
        "a.webp": {"exif": block},
        "b.webp": {"lossless": True},
        "a.gif": {},
        "a.avif": {"exif": block},
        "a.tif": {"compression": "tiff_lzw"},
        "b.tif": {"compression": "packbits"},
    }.items():
        picture.save(folder / name, **options)
    picture.convert("CMYK").save(folder / "c.jpg")
    picture.convert("RGBA").save(folder / "c.png")
    picture.quantize(16).save(folder / "d.png")
    for name, samples, more in (
        ("c.tif", deep, {"compression": "zlib", "predictor": True}),
        ("d.tif", np.moveaxis(deep, 2, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        ("e.tif", pixels.astype(np.float32) / 255, {"photometric": "rgb", "tile": (32, 32)}),
    ):
        tifffile.imwrite(folder / name, samples, **more)
    write_dng(folder / "a.dng", deep[..., 1])
    with contextlib.suppress(ImportError):
        import pillow_heif

        pillow_heif.from_pillow(picture).save(folder / "a.heic", exif=block)
    return sorted(folder.iterdir())


def work() -> None:
    """Reads and writes the files that are named on stdin, and says on stdout what became of each; the inner process."""
    from deblur_cli.errors import DeblurError, UnexpectedPhotoError
    from deblur_cli.imaging.read import read_grey, read_photo, read_size
    from deblur_cli.imaging.shot import read_shot
    from deblur_cli.imaging.write import write_photo

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    answers = sys.stdout
    sys.stdout = io.StringIO()
    for line in sys.stdin:
        source, target = map(Path, json.loads(line))
        said = "read"
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)  # its signal ends the process, also within a decoder
        try:
            with contextlib.suppress(DeblurError):
                read_size(source), read_shot(source), read_grey(source, long_side=64, max_megapixels=40)
            write_photo(read_photo(source, max_megapixels=40), target, overwrite=True)
        except UnexpectedPhotoError as error:
            said = "".join(traceback.format_exception(error))
        except DeblurError as error:
            said = f"refused: {error}"
        except BaseException:  # noqa: BLE001 - what is looked for
            said = traceback.format_exc()
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(said), file=answers, flush=True)


class Worker:
    """The inner process, started again when it died or hung."""

    def __init__(self) -> None:
        self.process = self._start()

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fuzz", "--work"]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def outcome(self, source: Path, target: Path, seconds: float) -> str:
        """Returns "read", "refused: …", or what went wrong."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(source), str(target)]) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], seconds)
        line = self.process.stdout.readline() if ready else ""
        if line:
            return str(json.loads(line))
        self.stop()
        said = f"ended with {self.process.returncode}" if ready else f"gave no answer for {seconds:.0f} s"
        said = f"took more than {MOST_SECONDS:.0f} s" if self.process.returncode == -signal.SIGPROF else said
        self.process = self._start()
        return said

    def stop(self) -> None:
        """Ends the inner process."""
        self.process.kill()
        self.process.communicate()


def fuzz(
    files: Sequence[Path], seed: int, mutations: int, patience_s: float = PATIENCE_S
) -> Iterator[tuple[bytes, Path, str]]:
    """Yields each mutation, the file that it was made of, and its outcome."""
    rng = random.Random(seed)
    worker = Worker()
    try:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(mutations):
                source = files[number % len(files)]
                content = mutated(source.read_bytes(), rng)
                place = Path(folder) / f"in{source.suffix}"
                place.write_bytes(content)
                yield (
                    content,
                    source,
                    worker.outcome(place, Path(folder) / rng.choice(("out.png", "out.jpg")), patience_s),
                )
    finally:
        worker.stop()


def main() -> int:
    """Runs the mutations and says how many were read, refused and went wrong; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mutations", type=int, default=3000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return 0
    with tempfile.TemporaryDirectory() as made:
        files = sources(arguments.folder, Path(made))
        counts: Counter[str] = Counter()
        for number, (content, source, said) in enumerate(fuzz(files, arguments.seed, arguments.mutations)):
            counts[said if said == "read" else said.partition(":")[0] if said.startswith("refused") else "wrong"] += 1
            if said != "read" and not said.startswith("refused"):
                kept = Path(f"fuzz-{arguments.seed}-{number}{source.suffix}")
                kept.write_bytes(content)
                print(f"{kept} of {source.name}:\n{said}")  # noqa: T201
            if number % 100 == 99:
                print(f"{number + 1}: {dict(counts)}", flush=True)  # noqa: T201
    print(f"{len(files)} files, {sum(counts.values())} mutations: {dict(counts)}")  # noqa: T201
    return int(bool(counts["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
