"""Which formats can be read and written here: tried by writing a small picture and reading it back."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from deblur_cli.diagnosis.check import Check, State
from deblur_cli.errors import describe_failure
from deblur_cli.imaging.photo import Encoding, Photo
from deblur_cli.imaging.raw import CameraColour, LinearRaw
from deblur_cli.imaging.read import read_photo
from deblur_cli.imaging.write import FORMAT_SUFFIXES, write_dng, write_photo

SIDE_PX = 64
MOST_DIFFERENT = 0.1
"""Mean of a smooth picture against what is read back; any compression keeps far closer."""
REMEDIES = {
    "heic": "Phones write HEIC. For it: pip install 'deblur-cli[heif]'",
    "avif": "Run: pip install --upgrade pillow",
}
ANSWER_WITHIN_S = 10.0


def check_formats() -> Iterator[Check]:
    """Yields each format of photographs, camera raw, video and exiftool."""
    with tempfile.TemporaryDirectory(prefix="deblur-doctor-") as folder:
        for name, suffix in FORMAT_SUFFIXES.items():
            yield _round_trip(name, Path(folder) / f"picture{suffix}")
        yield _raw(Path(folder) / "picture.dng")
    yield _video()
    yield _exiftool()


def _picture(path: Path) -> Photo:
    ramp = np.linspace(0.2, 0.8, SIDE_PX, dtype=np.float32)
    pixels = np.stack(
        [np.tile(ramp, (SIDE_PX, 1)), np.tile(ramp[:, None], SIDE_PX), np.full((SIDE_PX, SIDE_PX), 0.5)], 2
    )
    return Photo(path.with_suffix(".source"), np.asarray(pixels, np.float32), "none", 8)


def _round_trip(name: str, path: Path) -> Check:
    picture = _picture(path)
    try:
        write_photo(picture, path)
        difference = float(np.abs(read_photo(path).pixels - picture.pixels).mean())
    except Exception as error:  # noqa: BLE001 - codecs raise what they like
        found = f"cannot be used ({describe_failure(path, error)})"
        return Check(name, State.NOTE, found, REMEDIES.get(name, "Reinstall deblur-cli."))
    if difference > MOST_DIFFERENT:
        return Check(name, State.PROBLEM, f"comes back {difference:.0%} different", "Reinstall deblur-cli and pillow.")
    return Check(name, State.OK, "read and written")


def _raw(path: Path) -> Check:
    picture = _picture(path)
    unity = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    colour = CameraColour((1.0, 1.0, 1.0), unity, (1.0, 1.0, 1.0))
    light = Photo(picture.path, picture.pixels, "raw", 16, Encoding("linear camera RGB", None, "linear"))
    try:
        write_dng(LinearRaw(light, colour), path)
        size = read_photo(path).pixels.shape
    except Exception as error:  # noqa: BLE001 - as above
        found = f"cannot be used ({describe_failure(path, error)})"
        return Check("camera raw", State.PROBLEM, found, "Run: pip install --upgrade rawpy")
    found = "developed by LibRaw" if size == picture.pixels.shape else f"comes back as {size}"
    return Check("camera raw", State.OK if size == picture.pixels.shape else State.PROBLEM, found)


def _video() -> Check:
    backends = [cv2.videoio_registry.getBackendName(number) for number in cv2.videoio_registry.getStreamBackends()]
    pyav = importlib.util.find_spec("av") is not None
    able = [name for name, has in (("OpenCV with FFMPEG", "FFMPEG" in backends), ("PyAV", pyav)) if has]
    remedy = "" if pyav else "For clips that this cannot open: pip install 'deblur-cli[video]'"
    return Check("video", State.OK if able else State.NOTE, " and ".join(able) or "cannot be read", remedy)


def _exiftool() -> Check:
    program = shutil.which("exiftool")
    if program is None:
        return Check("exiftool", State.NOTE, "not installed", "Not needed; shows what metadata a result has.")
    try:
        ran = subprocess.run([program, "-ver"], capture_output=True, text=True, timeout=ANSWER_WITHIN_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return Check("exiftool", State.NOTE, f"{program} does not run ({error})", "Not needed; reinstall it to use it.")
    return Check("exiftool", State.OK, f"{ran.stdout.strip()}: {program}")
