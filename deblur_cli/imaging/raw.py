"""Camera raw through LibRaw: developed the same way whatever the picture shows, with the file's own EXIF."""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import rawpy
from PIL import ImageCms, JpegImagePlugin

from deblur_cli.errors import PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block, jpeg
from deblur_cli.imaging.exif_block import Contents
from deblur_cli.imaging.heif_items import boxes
from deblur_cli.imaging.metadata import resources_from_iptc, turned
from deblur_cli.imaging.photo import Encoding, Metadata, Photo
from deblur_cli.imaging.raw_layout import (
    FILTER_ARRAY,
    PHOTOMETRIC,
    UNSUPPORTED_CODINGS,
    SensorData,
    broken_at,
    directories,
    sensor_data,
)
from deblur_cli.imaging.regions import Turn
from deblur_cli.imaging.samples import Samples, floats_from_samples

# fmt: off
RAW_SUFFIXES = frozenset(
    {
        ".3fr", ".ari", ".arw", ".bay", ".cap", ".cr2", ".cr3", ".crw", ".dcr", ".dcs", ".dng", ".erf",
        ".fff", ".gpr", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef",
        ".ptx", ".pxn", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
    }
)
# fmt: on
RAW_MAGICS = (b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"II\x1a\0\0\0HEAPCCDR")
DNG_VERSION = 50706
ORIENTATIONS = {3: 3, 5: 8, 6: 6}
"""EXIF orientations of LibRaw's numbers for how it turns a photo."""
XYZ_TO_SRGB = np.array(
    [[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]]
)
"""IEC 61966-2-1, from CIE XYZ under D65."""
SRGB_CURVE = (2.4, 12.92)
"""LibRaw's (power, slope at black) that gives sRGB's curve."""
CUT_SHORT = "is no complete camera raw file: the sensor's data is missing or damaged. Copy it from the card again."
NO_RAW = "is no camera raw file that can be read."
ONLY_ZEROS = "holds nothing but zeros: the copy failed. Copy it from the card again."
CONVERT = "Convert it to a DNG of another compression."
NO_MEMORY = "needs more memory than there is. Close other programs; if it is no larger than others, copy it again."
XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
XMP_PADDING = re.compile(rb"\s{200,}(?=<\?xpacket end)")
Crop = tuple[float, float, float, float]
NOT_A_RAW = (
    "is named as camera raw but holds only a JPEG: the sensor's data is gone. To restore that JPEG, rename it to .jpg."
)


@dataclass(frozen=True)
class Preview:
    """The JPEG that a camera put into its raw file, and its size as stored (H, W)."""

    jpeg: bytes
    height: int
    width: int


@dataclass(frozen=True)
class CameraColour:
    """What a camera's own RGB means.

    `white_balance` are the multipliers of R, G, B that make grey neutral in this shot, the least of them 1. `to_srgb`
    turns white-balanced camera RGB into linear sRGB, rows R, G, B, each of which adds up to 1. `daylight` are the
    multipliers for light of D65, of any common scale.
    """

    white_balance: tuple[float, float, float]
    to_srgb: tuple[tuple[float, float, float], ...]
    daylight: tuple[float, float, float]

    @property
    def from_xyz(self) -> npt.NDArray[np.float64]:
        """The matrix (3, 3) from CIE XYZ under D65 to camera RGB without white balance, its largest value about 1."""
        to_camera = np.linalg.inv(np.array(self.to_srgb)) / np.array(self.daylight)[:, None]
        matrix = np.asarray(to_camera @ XYZ_TO_SRGB, np.float64)
        return np.asarray(matrix / np.abs(matrix).max(), np.float64)


@dataclass(frozen=True)
class LinearRaw:
    """A raw file as light: `photo` holds white-balanced camera RGB, linear, (H, W, 3), 1 where the sensor clips.

    `headroom` is how many times brighter than the exposure's white 1 is, where highlights came from another frame.
    """

    photo: Photo
    colour: CameraColour
    headroom: float = 1.0


def is_raw(path: Path) -> bool:
    """Returns whether the file is a camera raw: by its content, and by its suffix where content alone cannot tell.

    Raises OSError where it cannot be opened.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head.startswith(RAW_MAGICS) or head[8:10] == b"CR" or head[4:12] == b"ftypcrx ":
            return True
        if head[:4] in (b"II*\0", b"MM\0*"):
            return path.suffix.lower() in RAW_SUFFIXES or _describes_a_sensor(file.fileno())
    return path.suffix.lower() in RAW_SUFFIXES and not head.startswith(b"\x89PNG")


def _describes_a_sensor(descriptor: int) -> bool:
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        found = directories(data)
        # Scanners' programs write linear light into TIFFs, too; in a camera raw a mosaic or DNG's version stands by it.
        mosaic = any(directory.whole(PHOTOMETRIC, 0) == FILTER_ARRAY for directory in found)
        return mosaic or any(DNG_VERSION in directory.tags for directory in found[:1])


@contextmanager
def _opened(path: Path, max_megapixels: float) -> Iterator[rawpy.RawPy]:
    with path.open("rb") as file:
        if file.read(3) == b"\xff\xd8\xff":
            raise UnreadablePhotoError(path, NOT_A_RAW)
    try:
        with rawpy.imread(str(path)) as raw:
            megapixels = raw.sizes.raw_width * raw.sizes.raw_height / 1e6
            if megapixels > max_megapixels:
                raise PhotoTooLargeError(
                    path, f"has {megapixels:.0f} megapixels, more than --max-megapixels {max_megapixels:g} allows."
                )
            yield raw
    except rawpy.LibRawFileUnsupportedError as error:
        zeros = not path.read_bytes().strip(b"\0")
        raise _unsupported_coding(path) or UnreadablePhotoError(path, ONLY_ZEROS if zeros else NO_RAW) from error
    except rawpy.LibRawNotImplementedError as error:
        raise UnsupportedPhotoError(path, f"is coded in a way that LibRaw does not decode. {CONVERT}") from error
    except MemoryError as error:
        raise PhotoTooLargeError(path, NO_MEMORY) from error
    except rawpy.LibRawError as error:
        raise _unsupported_coding(path) or UnreadablePhotoError(path, CUT_SHORT) from error


def _unsupported_coding(path: Path) -> UnsupportedPhotoError | None:
    layout = _layout(path)
    name = UNSUPPORTED_CODINGS.get(layout.compression) if layout else None
    if name is None:
        return None
    return UnsupportedPhotoError(path, f"holds its sensor's data as {name}, which LibRaw does not decode. {CONVERT}")


def _layout(path: Path) -> SensorData | None:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return sensor_data(data)


def _refuse_broken(path: Path) -> SensorData | None:
    """Returns where the sensor's data lie. Raises UnreadablePhotoError where a broken copy left zeros instead."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        layout = sensor_data(data)
        place, size = broken_at(data, layout), len(data)
    unsupported = _unsupported_coding(path)
    if unsupported is not None:
        raise unsupported
    if place is not None:
        there = f"{place / 1e6:.1f} of {size / 1e6:.1f} MB" if size >= 1e6 else f"{place // 1000} of {size // 1000} kB"
        rest = f"{there} can be read, zeros follow" if place < size else "its sensor's data go on after its end"
        raise UnreadablePhotoError(path, f"is cut short: {rest}. Copy it from the card again.")
    return layout


def _shown(raw: rawpy.RawPy, layout: SensorData | None) -> Crop:
    """Returns (left, top, width, height) of what is shown of the developed photo, as fractions of it, upright.

    DNG's default crop in the active area (LibRaw gives it for other makers too: what the camera's own JPEG shows), and
    in it the crop that the photographer set.
    """
    sizes = raw.sizes
    left, top, width, height = 0.0, 0.0, 1.0, 1.0
    across, down = sizes.crop_left_margin - sizes.left_margin, sizes.crop_top_margin - sizes.top_margin
    inside = 0 <= across <= sizes.iwidth - sizes.crop_width and 0 <= down <= sizes.iheight - sizes.crop_height
    if inside and sizes.crop_width > 0 and sizes.crop_height > 0:
        left, width = across / sizes.iwidth, sizes.crop_width / sizes.iwidth
        top, height = down / sizes.iheight, sizes.crop_height / sizes.iheight
    if layout is not None and layout.user_crop is not None:
        first, start, last, end = layout.user_crop
        left, top = left + start * width, top + first * height
        width, height = (end - start) * width, (last - first) * height
    turn = Turn(ORIENTATIONS.get(sizes.flip, 1), sizes.iwidth, sizes.iheight)
    return (*turn.corner(left, top, width, height), *turn.size(width, height))


def _cropped(samples: Samples, shown: Crop) -> Samples:
    height, width = samples.shape[:2]
    sides = (width, height, width, height)
    left, top, across, down = (round(part * side) for part, side in zip(shown, sides, strict=True))
    return samples[top : top + down, left : left + across]


def _develop(path: Path, raw: rawpy.RawPy, shown: Crop, *, linear: bool, half_size: bool = False) -> Samples:
    """Returns (H, W, 3) uint16, sRGB primaries, of what is shown.

    No automatic brightness: it would differ from frame to frame.
    """
    samples: Samples = raw.postprocess(
        use_camera_wb=_is_balanced(
            raw
        ),  # else LibRaw's daylight: where a file tells none, it would adapt to the picture
        output_bps=16,
        gamma=(1, 1) if linear else SRGB_CURVE,
        no_auto_bright=True,
        output_color=rawpy.ColorSpace.sRGB,
        half_size=half_size,
    )
    _refuse_black(path, samples)
    return _cropped(samples, shown)


def _is_balanced(raw: rawpy.RawPy) -> bool:
    """Returns whether the file tells the camera's white balance."""
    return all(value > 0 for value in raw.camera_whitebalance[:3])


def _refuse_black(path: Path, samples: Samples) -> None:
    if not samples.any():
        raise UnsupportedPhotoError(
            path,
            "decodes to black: its sensor data is missing or packed in a way that LibRaw does not know. "
            "Copy it from the card again, or convert it to DNG.",
        )


def read_raw(path: Path, *, linear: bool = False, max_megapixels: float = 250.0) -> Photo:
    """Returns the developed photo: camera white balance, 16 bits, upright, sRGB primaries and curve.

    With `linear` the pixels are proportional to light, and the encoding says so. Raises UnreadablePhotoError for
    damaged files, UnsupportedPhotoError for those that decode to black, PhotoTooLargeError before anything is decoded.
    """
    with _opened(path, max_megapixels) as raw:
        layout = _refuse_broken(path)
        samples = _develop(path, raw, _shown(raw, layout), linear=linear)
        preview, turn = _thumbnail(raw), _turn(raw)
        balanced = _is_balanced(raw)
    pixels, _ = floats_from_samples(samples, 65535)
    profile = None if linear else srgb_profile()
    return Photo(
        path,
        pixels,
        "raw",
        16,
        Encoding("linear sRGB", None, "linear") if linear else Encoding("sRGB", profile, "srgb"),
        _upright(read_metadata(path, preview), turn),
        notes=(
            "developed from camera raw with "
            f"{'the camera' if balanced else 'daylight'}'s white balance, without brightening",
        ),
    )


def read_raw_linear(
    path: Path, *, white_balance: tuple[float, float, float] | None = None, max_megapixels: float = 250.0
) -> LinearRaw:
    """Returns the raw file as light, in the camera's own RGB, upright, white-balanced, 16 bits.

    Two frames developed with one `white_balance` (None: the frame's own) differ by their light alone: nothing is
    adapted to what a frame shows, and black and white are the sensor's. Errors are those of `read_raw`.
    """
    with _opened(path, max_megapixels) as raw:
        shown = _shown(raw, _refuse_broken(path))
        colour = _camera_colour(raw)
        balance = colour.white_balance if white_balance is None else white_balance
        samples: Samples = raw.postprocess(
            user_wb=[*balance, balance[1]],
            output_bps=16,
            gamma=(1, 1),
            no_auto_bright=True,
            adjust_maximum_thr=0.0,  # else LibRaw lowers the white of a frame that reaches no white
            output_color=rawpy.ColorSpace.raw,
        )
        preview, turn = _thumbnail(raw), _turn(raw)
    _refuse_black(path, samples)
    pixels, _ = floats_from_samples(_cropped(samples, shown), 65535)
    encoding = Encoding("linear camera RGB", None, "linear")
    photo = Photo(path, pixels, "raw", 16, encoding, _upright(read_metadata(path, preview), turn))
    return LinearRaw(photo, replace(colour, white_balance=balance))


def _camera_colour(raw: rawpy.RawPy) -> CameraColour:
    daylight = _triple(raw.daylight_whitebalance[:3])
    daylight = daylight if min(daylight) > 0 else (1.0, 1.0, 1.0)
    balance = _triple(raw.camera_whitebalance[:3]) if _is_balanced(raw) else daylight
    matrix = np.asarray(raw.color_matrix, np.float64)[:3, :3]
    # LibRaw knows no matrix of some old cameras; their RGB is then shown as if it were sRGB's, as LibRaw does.
    known = abs(float(np.linalg.det(matrix))) > 1e-6
    rows = matrix / matrix.sum(axis=1, keepdims=True) if known else np.eye(3)
    return CameraColour(
        _triple([value / min(balance) for value in balance]), tuple(_triple(row.tolist()) for row in rows), daylight
    )


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def srgb_profile() -> bytes:
    """Returns an sRGB profile, for photos that this tool itself encoded; the same bytes every time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # The header's date is the moment of making; with it no run would write the files of another (ICC.1, 7.2.10).
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    return bytes(profile)


def read_raw_size(path: Path) -> tuple[int, int]:
    """Returns (height, width) of the developed photo. Raises UnreadablePhotoError."""
    with _opened(path, float("inf")) as raw:
        sizes, shown = raw.sizes, _shown(raw, _layout(path))
        # LibRaw stretches what has pixels that are not square.
        width = round(sizes.iwidth * max(1.0, sizes.pixel_aspect))
        height = round(sizes.iheight / min(1.0, sizes.pixel_aspect))
        upright = (width, height) if sizes.flip in (5, 6) else (height, width)
        return round(shown[3] * upright[0]), round(shown[2] * upright[1])


def _upright(metadata: Metadata, turn: Turn) -> Metadata:
    return turned(metadata, turn.orientation, width=turn.width, height=turn.height)


def _turn(raw: rawpy.RawPy) -> Turn:
    return Turn(ORIENTATIONS.get(raw.sizes.flip, 1), raw.sizes.iwidth, raw.sizes.iheight)


def read_raw_grey(path: Path, *, long_side: int, max_megapixels: float = 250.0) -> tuple[Samples, float]:
    """Returns developed samples (H, W, 3) uint16 and their maximum, at half size where that is still large enough."""
    with _opened(path, max_megapixels) as raw:
        half = max(raw.sizes.iwidth, raw.sizes.iheight) >= 4 * long_side
        shown = _shown(raw, _refuse_broken(path))
        return _develop(path, raw, shown, linear=False, half_size=half), 65535.0


def read_preview(path: Path) -> Preview | None:
    """Returns the largest JPEG preview of a raw file, or None. Raises UnreadablePhotoError."""
    with _opened(path, float("inf")) as raw:
        return _thumbnail(raw)


def _thumbnail(raw: rawpy.RawPy) -> Preview | None:
    try:
        thumbnail = raw.extract_thumb()
    except rawpy.LibRawError:
        return None  # many raw files have none, or one that is no JPEG
    if thumbnail.format != rawpy.ThumbFormat.JPEG or not isinstance(thumbnail.data, bytes):
        return None
    try:
        size = JpegImagePlugin.JpegImageFile(io.BytesIO(thumbnail.data)).size
    except (OSError, SyntaxError, ValueError):
        return None
    return Preview(thumbnail.data, size[1], size[0])


def read_metadata(path: Path, preview: Preview | None = None) -> Metadata:
    """Returns the metadata of a raw file as blocks that an output can carry.

    The EXIF is gathered from the file's TIFF directories, those of Canon's CR3 boxes, or the preview's own block.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[4:12] == b"ftypcrx ":
            head = bytes(data[: 4 * 1024 * 1024])
            return Metadata(_cr3_exif(head), _cr3_xmp(head))
        block = exif_block.try_parse(data)
        if block is None:
            return jpeg.read_blocks(preview.jpeg).metadata if preview else Metadata()
        what, records = exif_block.contents(block.main), block.main.raw(exif_block.IPTC)
        exif = exif_block.build(what) if what.main or what.exif else None
        return Metadata(exif, block.main.raw(exif_block.XMP), resources_from_iptc(records) if records else None)


def _cr3_xmp(data: bytes) -> bytes | None:
    """Returns the packet that Canon puts into a box of its own, without the 64 kB of blanks for later changes."""
    places = (range(start, stop) for kind, start, stop in boxes(data) if kind == b"uuid" and stop <= len(data))
    found = (data[place.start + 16 : place.stop] for place in places if data[place.start :].startswith(XMP_BOX))
    return next((XMP_PADDING.sub(b"\n", packet).strip() for packet in found), None) or None


def _cr3_exif(data: bytes) -> bytes | None:
    """Returns the EXIF of Canon's boxes: CMT1 main, CMT2 EXIF, CMT3 MakerNotes, CMT4 GPS, each a TIFF block."""
    parts: list[Contents | None] = [None, None, None, None]
    note: bytes | None = None
    for kind, start, stop in boxes(data):
        if kind[:3] != b"CMT" or stop > len(data) or kind[3:] not in (b"1", b"2", b"3", b"4"):
            continue
        if kind == b"CMT3":
            note = data[start:stop]
            continue
        block = exif_block.try_parse(data[start:stop])
        parts[int(kind[3:]) - 1] = exif_block.contents(block.main) if block else None
    main, shot, _, place = parts
    if main is None:
        return None
    exif = [*shot.main, *shot.exif] if shot else []
    if note is not None:
        exif.append(exif_block.Tag(exif_block.MAKER_NOTE, 7, len(note), note))
    return exif_block.build(replace(main, exif=tuple(exif), gps=place.main if place else ()))
