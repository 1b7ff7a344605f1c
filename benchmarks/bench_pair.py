"""What `deblur pair` gives and takes: PSNR over exposure, displacement and movement; wall time and peak memory.

    python benchmarks/bench_pair.py quality SHARP_FOLDER [--photos 4] [--model NAME|FILE]
    python benchmarks/bench_pair.py unlike SHARP_FOLDER [--photos 16] [--severity NAME] [--seed 0] [--keep FOLDER]
    python benchmarks/bench_pair.py speed [--megapixels 12 | --photo PHOTO] [--raw] [--keep FOLDER] [-- OPTIONS]

`quality` makes pairs of sharp photographs (noise in light, demosaicing's correlation, JPEG) and fuses them as the
command does: one table of the exposure of the short frame, one of how far the frames lie apart, one of a thing that
moves between them. `unlike`: frames that differ by more than one factor of light (tests/support/unlike_pairs.py), a
row a photograph, each of the next severity unless one is named. `speed` starts the installed command on a pair, JPEG or
raw mosaics, made of a sharp photograph or of a made-up one, in its own process; `--keep` leaves the pair and what came
of it to be looked at.
"""

from __future__ import annotations

import argparse
import io
import struct
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from bench_single import make_photo, run_command
from PIL import Image

from deblur_cli.arrays import Pixels
from deblur_cli.catalogue.find import find
from deblur_cli.catalogue.load import load
from deblur_cli.engine.device import Device, choose, fit_to_network
from deblur_cli.imaging import exif_block
from deblur_cli.imaging.colour import to_encoded, to_linear
from deblur_cli.imaging.exif_block import Contents, Tag
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.samples import quantise
from deblur_cli.imaging.tiff_write import BYTE, LONG, SHORT, Field, begin, end, numbers
from deblur_cli.measure.fidelity import psnr
from deblur_cli.networks.contract import PairModel
from deblur_cli.pipelines.burst import NoisyFrame
from deblur_cli.pipelines.fuse_one import FusedPair, PairLight, brightened, fuse_pair
from deblur_cli.pipelines.jobs import RestoreSettings

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.support.unlike_pairs import SEVERITIES, make_unlike

Bytes = npt.NDArray[np.uint8]
SRGB = Encoding()
NLM_STRENGTHS = (10, 15, 20)
SHOT, READ = 0.035, 0.002
"""Noise of the long frame in units of its white, about ISO 3200."""
JPEG_QUALITY = 92
BLACK, WHITE = 512, 16383


@dataclass(frozen=True)
class Case:
    """One pair. `ratio`: how many times longer the long exposure; `apart_share` of the width; `thing_px` moved by."""

    ratio: float = 6.0
    path_px: float = 20.0
    apart_share: float = 0.01
    thing_px: float = 0.0


def make_pair(truth: Pixels, case: Case, rng: np.random.Generator) -> tuple[Photo, Photo, Pixels]:
    """Returns the short frame as dark as it is taken, the long one, and the truth of the short one's moment."""
    light = to_linear(truth, SRGB)
    height, width = light.shape[:2]
    thing = _thing(light, rng)
    first = _with_thing(light, thing, 0.0) if case.thing_px else light
    direction, turn = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5) * (case.apart_share > 0)
    start = case.apart_share * width * np.array([np.cos(direction + 2), np.sin(direction + 2)])
    steps = max(2, round(case.path_px))
    total = np.zeros_like(light)
    for step in range(steps):
        share = step / (steps - 1)
        moment = _with_thing(light, thing, case.thing_px * (0.5 + 0.5 * share)) if case.thing_px else light
        move = cv2.getRotationMatrix2D((width / 2, height / 2), turn, 1.0)
        move[:, 2] += start + share * case.path_px * np.array([np.cos(direction), np.sin(direction)])
        total += cv2.warpAffine(moment, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    short = _noisy(first, case.ratio, rng) / case.ratio
    return _saved(short, "short.jpg"), _saved(_noisy(total / steps, 1.0, rng), "long.jpg"), to_encoded(first, SRGB)


def _thing(light: Pixels, rng: np.random.Generator) -> Pixels:
    side = light.shape[0] // 4
    top, left = (int(rng.integers(0, full - side)) for full in light.shape[:2])
    return light[top : top + side, left : left + side][::-1] * 0.7 + 0.15


def _with_thing(light: Pixels, thing: Pixels, moved_px: float) -> Pixels:
    side = len(thing)
    mask = np.zeros(light.shape[:2], np.float32)
    top, left = light.shape[0] // 3, light.shape[1] // 4 + round(moved_px)
    cv2.ellipse(mask, (left + side // 2, top + side // 2), (side // 2 - 4, side // 3), 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 1.5)[..., None]
    whole = np.zeros_like(light)
    whole[top : top + side, left : left + side] = thing
    return np.asarray(light * (1 - mask) + whole * mask, np.float32)


def _noisy(light: Pixels, ratio: float, rng: np.random.Generator) -> Pixels:
    grain = rng.normal(0, 1, light.shape).astype(np.float32)
    grain = cv2.GaussianBlur(grain, (0, 0), 0.5)
    grain /= grain.std()
    sigma = np.sqrt(SHOT**2 * np.maximum(light, 0) * ratio + (READ * ratio) ** 2)
    return np.asarray(light + sigma * grain, np.float32)


def _saved(light: Pixels, name: str) -> Photo:
    stream = io.BytesIO()
    Image.fromarray(quantise(to_encoded(light, SRGB), 8)).save(stream, "JPEG", quality=JPEG_QUALITY)
    pixels = np.asarray(Image.open(stream), np.float32) / np.float32(255)
    return Photo(Path(name), pixels, "JPEG", 8)


def quality(folder: Path, photos: int, model_name: str | None) -> None:
    """Prints the three tables."""
    model = load(find(model_name, PairModel))
    device = fit_to_network(choose("auto", "auto"), model.name, model.traits)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[:photos]
    truths = [read_photo(path).pixels for path in paths]
    ratios = [Case(ratio=ratio) for ratio in (2, 4, 6, 8, 10)]
    apart = [Case(apart_share=share) for share in (0.0, 0.005, 0.01, 0.02, 0.03)]
    moved = [Case(thing_px=distance) for distance in (0.0, 10.0, 40.0, 120.0)]
    named = (
        ("exposure", [f"1/{case.ratio:.0f}" for case in ratios], ratios),
        ("apart", [f"{case.apart_share:.1%} of width" for case in apart], apart),
        ("a thing moves", [f"{case.thing_px:.0f} px" for case in moved], moved),
    )
    for title, labels, cases in named:
        print(f"{title:16s} {'noisy':>7s} {'blurry':>7s} {'fused':>7s} {'worst':>7s} {'moved':>7s} {'trust':>6s}")
        for label, case in zip(labels, cases, strict=True):
            print(f"{label:16s} {_row(truths, case, model, device)}", flush=True)
        print()


def _row(truths: Sequence[Pixels], case: Case, model: PairModel, device: Device) -> str:
    rows = []
    for seed, truth in enumerate(truths):
        short, long, wanted = make_pair(truth, case, np.random.default_rng(seed))
        frame = NoisyFrame(short, case.ratio)
        fused: FusedPair = fuse_pair([frame], long, model, device, RestoreSettings())
        pictures = (brightened(short, long, fused.light).pixels, long.pixels, fused.photo.pixels)
        target = quantise(wanted, 8)
        rows.append([*(psnr(quantise(one, 8), target) for one in pictures), fused.moved_share, fused.confidence])
    noisy, blurry, result, share, trust = np.mean(rows, axis=0)
    worst = min(row[2] for row in rows)
    return f"{noisy:7.2f} {blurry:7.2f} {result:7.2f} {worst:7.2f} {share:7.1%} {trust:6.2f}"


def unlike(folder: Path, photos: int, severity: str | None, seed: int, keep: Path | None) -> None:
    """Prints a row a pair: both frames, the short one denoised, the result, and its gain over the better of them."""
    model = load(find(None, PairModel))
    device = fit_to_network(choose("auto", "auto"), model.name, model.traits)
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))[:photos]
    print("photo  differs by  blurry denoised    pair   over  moved  gain found over the true one")
    rows = []
    for number, path in enumerate(paths):
        name = severity or tuple(SEVERITIES)[number % len(SEVERITIES)]
        pair = make_unlike(read_photo(path).pixels, SEVERITIES[name], seed + number)
        fused = fuse_pair([NoisyFrame(pair.short, None)], pair.long, model, device, RestoreSettings())
        truth, result = quantise(pair.truth, 8), quantise(fused.photo.pixels, 8)
        known = PairLight(pair.gain, np.full(3, pair.pedestal, np.float32), measured=True)
        bright = quantise(brightened(pair.short, pair.long, known).pixels, 8)
        denoised = max(psnr(_non_local_means(bright, strength), truth) for strength in NLM_STRENGTHS)
        row = (psnr(quantise(pair.long.pixels, 8), truth), denoised, psnr(result, truth))
        over = row[2] - max(row[:2])
        rows.append((*row, over))
        found = " ".join(f"{value:.2f}" for value in np.array(fused.gain) / pair.gain)
        scores = f"{row[0]:7.2f} {row[1]:8.2f} {row[2]:7.2f} {over:+6.2f} {fused.moved_share:6.1%}"
        print(f"{path.stem:6s} {name:10s} {scores}  {found}{' (kept)' if fused.kept else ''}", flush=True)
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            for part, picture in (("short", bright), ("long", quantise(pair.long.pixels, 8)), ("pair", result)):
                Image.fromarray(picture).save(keep / f"{path.stem}_{part}.png")
            Image.fromarray(truth).save(keep / f"{path.stem}_truth.png")
    blurry, denoised, result, over = np.mean(rows, axis=0)
    print(f"{'mean':17s} {blurry:7.2f} {denoised:8.2f} {result:7.2f} {over:+6.2f}")
    worst = min(row[3] for row in rows)
    print(f"over the blurry frame {result - blurry:+.2f} dB; worst beside the better of both {worst:+.2f} dB")


def _non_local_means(picture: Bytes, strength: int) -> Bytes:
    return np.asarray(cv2.fastNlMeansDenoisingColored(picture, None, strength, strength, 7, 21), np.uint8)


def speed(megapixels: float, photo: Path | None, raw: bool, keep: Path | None, options: list[str]) -> None:
    """Prints what one pair takes, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if keep is None else keep
        folder.mkdir(parents=True, exist_ok=True)
        if photo is None:
            photo = Path(name) / "scene.jpg"
            make_photo(photo, megapixels)
        light = to_linear(read_photo(photo).pixels, SRGB)
        short, long = _frames(folder, light, raw)
        size = f"{light.shape[1]} × {light.shape[0]}"
        del light
        command = ["pair", str(short), str(long), "-o", str(folder / "out"), "--json", *options]
        run = run_command(command)
        print(f"{'pair':24s} {'wall s':>8s} {'peak MiB':>9s}  exit")
        kind = "raw" if raw else "JPEG"
        print(f"{kind + ', ' + size:24s} {run.seconds:8.1f} {run.peak_bytes / 2**20:9.0f}  {run.exit_code}")


def _frames(folder: Path, light: Pixels, raw: bool) -> tuple[Path, Path]:
    """Returns a short frame at an eighth of the exposure, and a long one blurred and displaced, as files."""
    rng = np.random.default_rng(0)
    length = max(9, light.shape[1] // 250)
    kernel = np.full((1, length), 1 / length, np.float32)
    blurred = np.roll(cv2.filter2D(light, -1, kernel), length // 2, axis=1)
    paths = []
    for name, picture, ratio, seconds in (("short", light, 8.0, 1 / 32), ("long", blurred, 1.0, 1 / 4)):
        path = folder / f"{name}.{'dng' if raw else 'jpg'}"
        if raw:
            _write_mosaic(path, picture / ratio, _exif(seconds), rng)
        else:
            dark = quantise(to_encoded(_noisy(picture, ratio, rng) / np.float32(ratio), SRGB), 8)
            Image.fromarray(dark).save(path, quality=JPEG_QUALITY, exif=b"Exif\0\0" + _exif(seconds))
        paths.append(path)
    return paths[0], paths[1]


def _exif(seconds: float) -> bytes:
    def words(number: int, text: str) -> Tag:
        return Tag(number, 2, len(text) + 1, text.encode() + b"\0")

    time = Tag(33434, 5, 1, struct.pack("<LL", round(seconds * 10000), 10000))
    shot = (time, Tag(34855, 3, 1, struct.pack("<H", 1600)), words(36867, "2024:05:01 22:00:00"))
    return exif_block.build(Contents("<", main=(words(271, "Bench"), words(272, "Pair")), exif=shot))


def _write_mosaic(path: Path, light: Pixels, exif: bytes, rng: np.random.Generator) -> None:
    """Writes an RGGB mosaic of linear sRGB light as a DNG."""
    plane = light[..., 1].copy()
    plane[0::2, 0::2], plane[1::2, 1::2] = light[0::2, 0::2, 0], light[1::2, 1::2, 2]
    electrons = rng.poisson(np.maximum(plane, 0) / SHOT**2) * SHOT**2 + rng.normal(0, READ, plane.shape)
    samples = np.clip(np.rint(electrons * (WHITE - BLACK) + BLACK), 0, WHITE).astype("<u2")
    height, width = samples.shape
    matrix = (3.2404542, -1.5371385, -0.4985314, -0.969266, 1.8760108, 0.041556, 0.0556434, -0.2040259, 1.0572252)
    parts = [part for value in matrix for part in (round(value * 10000), 10000)]
    with path.open("wb") as stream:
        order, kept = begin(stream, exif)
        place = stream.tell()
        stream.write(samples.tobytes())
        fields = [
            numbers(order, 254, LONG, [0]),
            numbers(order, 256, LONG, [width]),
            numbers(order, 257, LONG, [height]),
            numbers(order, 258, SHORT, [16]),
            numbers(order, 259, SHORT, [1]),
            numbers(order, 262, SHORT, [32803]),
            numbers(order, 273, LONG, [place]),
            numbers(order, 277, SHORT, [1]),
            numbers(order, 278, LONG, [height]),
            numbers(order, 279, LONG, [samples.nbytes]),
            numbers(order, 33421, SHORT, [2, 2]),
            Field(33422, BYTE, 4, bytes([0, 1, 1, 2])),
            Field(50706, BYTE, 4, bytes([1, 4, 0, 0])),
            numbers(order, 50714, SHORT, [BLACK]),
            numbers(order, 50717, LONG, [WHITE]),
            Field(50721, 10, 9, struct.pack("<18l", *parts)),
            numbers(order, 50778, SHORT, [21]),
        ]
        end(stream, order, [*fields, *kept])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    table = what.add_parser("quality")
    table.add_argument("folder", type=Path)
    table.add_argument("--photos", type=int, default=4)
    table.add_argument("--model")
    differing = what.add_parser("unlike")
    differing.add_argument("folder", type=Path)
    differing.add_argument("--photos", type=int, default=16)
    differing.add_argument("--severity", choices=tuple(SEVERITIES))
    differing.add_argument("--seed", type=int, default=0)
    differing.add_argument("--keep", type=Path)
    timing = what.add_parser("speed")
    timing.add_argument("--megapixels", type=float, default=12)
    timing.add_argument("--photo", type=Path)
    timing.add_argument("--keep", type=Path)
    timing.add_argument("--raw", action="store_true")
    ours, options = sys.argv[1:], []
    if "--" in ours:
        at = ours.index("--")
        ours, options = ours[:at], ours[at + 1 :]
    chosen = parser.parse_args(ours)
    if chosen.what == "quality":
        quality(chosen.folder, chosen.photos, chosen.model)
    elif chosen.what == "unlike":
        unlike(chosen.folder, chosen.photos, chosen.severity, chosen.seed, chosen.keep)
    else:
        speed(chosen.megapixels, chosen.photo, chosen.raw, chosen.keep, options)


if __name__ == "__main__":
    main()
