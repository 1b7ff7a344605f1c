"""Files recognised by their content and opened, nothing decoded: size, depth, colour and metadata are known after."""

from __future__ import annotations

import io
import struct
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from PIL import GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import heif, jpeg, png, tiff_read
from deblur_cli.imaging.colour import encoding_of
from deblur_cli.imaging.find import PHOTO_SUFFIXES
from deblur_cli.imaging.metadata import summarise, without_exif_header
from deblur_cli.imaging.photo import Encoding, JpegSettings, Metadata
from deblur_cli.imaging.resolution import Resolution
from deblur_cli.imaging.samples import without_pillows_limit

# Pillow prints what it thinks of a photo's EXIF; this project reads EXIF itself, and whatever else matters is raised.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

COPY_AGAIN = "Copy it from the card again."
READ_FORMATS = "JPEG, PNG, TIFF, WebP, GIF, HEIC, AVIF and camera raw"


@dataclass(frozen=True)
class Opened:
    """One file recognised and its header read: what is needed before decoding is decided on.

    `height` and `width` are as stored; `orientation` still has to be applied. `image` is Pillow's lazy picture where
    Pillow decodes the format. `complete`: the file has its end mark, where the format has one. `resolution_dpi` is
    what the format itself says, as stored; EXIF may say one where it does not.
    """

    path: Path
    data: bytes
    format: str
    height: int
    width: int
    orientation: int = 1
    depth: int = 8
    encoding: Encoding = field(default_factory=Encoding)
    metadata: Metadata = field(default_factory=Metadata)
    image: ImageFile.ImageFile | Image.Image | None = None
    jpeg: JpegSettings | None = None
    tiff: tiff_read.TiffHead | None = None
    heic: heif.HeicFile | None = None
    notes: tuple[str, ...] = ()
    complete: bool = True
    resolution_dpi: Resolution | None = None


def open_file(path: Path) -> Opened:
    """Returns the file recognised by its first bytes, nothing decoded."""
    data = path.read_bytes()
    if data.startswith(b"\xff\xd8\xff"):
        return _open_jpeg(path, data)
    if data.startswith(png.SIGNATURE):
        return _open_png(path, data)
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _open_tiff(path, data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _open_webp(path, data)
    if data[:6] in (b"GIF87a", b"GIF89a"):
        return _open_gif(path, data)
    if data[4:8] == b"ftyp":
        brands = data[8 : 8 + min(64, struct.unpack_from(">L", data)[0])]
        if any(brand in brands for brand in heif.AVIF_BRANDS):
            return _open_avif(path, data)
        if any(brand in brands for brand in heif.HEIF_BRANDS):
            return _open_heic(path, data)
    if not data.strip(b"\0"):
        raise UnreadablePhotoError(path, f"holds nothing but zeros: the copy failed. {COPY_AGAIN}")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        raise UnreadablePhotoError(
            path, f"is not a photo of a known format, in spite of its name. {READ_FORMATS} can be read."
        )
    raise UnsupportedPhotoError(path, f"is not a photo of a known format. {READ_FORMATS} can be read.")


def _open_jpeg(path: Path, data: bytes) -> Opened:
    filled = jpeg.zero_filled_from(data)
    if filled is not None:
        raise _cut_short(path, filled, len(data))
    blocks = jpeg.read_blocks(data)
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    notes = ("its HDR gain map is not carried over; the picture keeps its standard range",) if blocks.gain_map else ()
    return Opened(
        path,
        data,
        "JPEG",
        image.height,
        image.width,
        summarise(blocks.metadata.exif).orientation,
        8,
        encoding_of(blocks.icc),
        blocks.metadata,
        image,
        jpeg.estimate_settings(image.quantization, image.layer),
        notes=notes,
    )


def _open_png(path: Path, data: bytes) -> Opened:
    blocks = png.read_blocks(data)
    depth = 16 if blocks.bit_depth == 16 else 8
    image = None
    if depth == 8 and blocks.complete:
        image = PngImagePlugin.PngImageFile(io.BytesIO(png.picture_only(data)))
    encoding = encoding_of(blocks.icc, blocks.cicp)
    if blocks.icc is None and blocks.cicp is None and blocks.gamma is not None and abs(blocks.gamma - 1) < 0.01:
        encoding = Encoding("linear sRGB", None, "linear")
    notes = () if not blocks.animated else ("is animated; only the first frame is taken",)
    return Opened(
        path,
        data,
        "PNG",
        blocks.height,
        blocks.width,
        summarise(blocks.metadata.exif).orientation,
        depth,
        encoding,
        blocks.metadata,
        image,
        notes=notes,
        complete=blocks.complete,
    )


def _open_tiff(path: Path, data: bytes) -> Opened:
    head = tiff_read.read_head(path, data)
    notes = () if head.pages == 1 else (f"has {head.pages} pages; only the first is taken",)
    return Opened(
        path,
        data,
        "TIFF",
        head.height,
        head.width,
        head.orientation,
        16 if head.bits > 8 else 8,
        encoding_of(head.icc),
        head.metadata,
        tiff=head,
        notes=notes,
        resolution_dpi=head.resolution_dpi,
    )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Returns (height, width) of the canvas without the decoder, which would allocate it (RFC 9649)."""
    kind = data[12:16]
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    elif kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    else:
        width, height = (int.from_bytes(data[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    return height, width


def _open_webp(path: Path, data: bytes) -> Opened:
    expected = struct.unpack_from("<L", data, 4)[0] + 8
    if expected > len(data) + 1:
        raise _cut_short(path, len(data), expected)
    height, width = _webp_size(data)
    exif, xmp, icc, at, frames = None, None, None, 12, 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sL", data, at)
        content = data[at + 8 : at + 8 + size] if kind in (b"EXIF", b"XMP ", b"ICCP") else b""
        exif = without_exif_header(content) if kind == b"EXIF" else exif
        xmp = content if kind == b"XMP " else xmp
        icc = content if kind == b"ICCP" else icc
        frames += kind == b"ANMF"
        at += 8 + size + size % 2
    notes = (f"is animated with {frames} frames; only the first is taken",) if frames > 1 else ()
    orientation = summarise(exif).orientation
    return Opened(path, data, "WebP", height, width, orientation, 8, encoding_of(icc), Metadata(exif, xmp), notes=notes)


def _open_gif(path: Path, data: bytes) -> Opened:
    with without_pillows_limit():
        # A frame may be larger than the canvas that the header names; Pillow then takes the frame's size.
        image = GifImagePlugin.GifImageFile(io.BytesIO(data))
        # Whether there is a second frame is all that matters; counting all would decode the animation.
        notes = ("is animated; only the first frame is taken",) if image.is_animated else ()
    return Opened(path, data, "GIF", image.height, image.width, image=image, notes=notes)


def _open_avif(path: Path, data: bytes) -> Opened:
    facts = heif.box_facts(data)
    if facts.bytes_expected > len(data):
        raise _cut_short(path, len(data), facts.bytes_expected)
    image = heif.open_avif(data)
    exif = without_exif_header(image.info.get("exif"))
    orientation = summarise(exif).orientation
    encoding = encoding_of(image.info.get("icc_profile"), facts.cicp)
    notes = ("is animated; only the first frame is taken",) if getattr(image, "n_frames", 1) > 1 else ()
    metadata = Metadata(exif, image.info.get("xmp"))
    return Opened(
        path, data, "AVIF", image.height, image.width, orientation, facts.depth, encoding, metadata, image, notes=notes
    )


def _open_heic(path: Path, data: bytes) -> Opened:
    facts = heif.box_facts(data)
    if facts.bytes_expected > len(data):
        raise _cut_short(path, len(data), facts.bytes_expected)
    file = heif.open_heic(path, data)
    encoding = encoding_of(file.icc, facts.cicp)
    notes = ("its HDR gain map is not carried over; the picture keeps its standard range",) if facts.gain_map else ()
    return Opened(
        path, data, "HEIC", file.height, file.width, 1, file.depth, encoding, file.metadata, heic=file, notes=notes
    )


def _cut_short(path: Path, have: int, expected: int) -> UnreadablePhotoError:
    return UnreadablePhotoError(
        path, f"is cut short: {have / 1e6:.1f} of {expected / 1e6:.1f} MB can be read. {COPY_AGAIN}"
    )
