"""Files recognised by their content and opened, nothing decoded: size, depth, colour and metadata are known after."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import tifffile
from PIL import GifImagePlugin, Image, ImageCms, ImageFile, JpegImagePlugin, PngImagePlugin

from deblur_cli.errors import DeblurError, PhotoTooLargeError, UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import companions, heif, heif_items, jpeg, png, raw, tiff_read
from deblur_cli.imaging.colour import DAMAGED_PROFILE, adobe_rgb, encoding_of, is_whole_profile
from deblur_cli.imaging.find import PHOTO_SUFFIXES, format_of, unsupported_kind
from deblur_cli.imaging.metadata import Resolution, names_adobe_rgb, orientation_of, without_exif_header
from deblur_cli.imaging.photo import Encoding, JpegSettings, Metadata
from deblur_cli.imaging.samples import without_pillows_limit
from deblur_cli.imaging.tiff_layout import PALETTE

# Pillow prints what it thinks of a photo's EXIF; this project reads EXIF itself, and whatever else matters is raised.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

COPY_AGAIN = "Copy it from the card again."
NO_END_MARK = "has no end mark, but all rows of its picture are there"
WRONG_CHECKSUMS = "has wrong checksums, but all rows of its picture are there"
WHOLE_SHARE = 0.999
"""A file of this part of its bytes or more is not told as cut short in so many megabytes: they would look equal."""
FEWEST_ZEROS = 64
"""Zeros at the end of a coded picture from here on are what a broken copy left."""
READ_FORMATS = "JPEG, PNG, TIFF, WebP, GIF, HEIC, AVIF and camera raw"

LIBRARY_ERRORS = (struct.error, zlib.error, cv2.error, tifffile.TiffFileError, ImageCms.PyCMSError)
PYTHON_ERRORS = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AttributeError)
DECODER_ERRORS = (*PYTHON_ERRORS, RuntimeError, *LIBRARY_ERRORS)
"""What decoders raise for damaged files; all become one sentence about the file."""


@dataclass(frozen=True)
class Opened:
    """One file recognised and its header read: what is needed before decoding is decided on.

    `height` and `width` are as stored; `orientation` still has to be applied. `image` is Pillow's lazy picture where
    Pillow decodes the format, `heic` pillow_heif's. `complete`: the file has its end mark, where the format has one.
    `resolution_dpi` is what the format itself says, as stored; EXIF may say one where it does not. `crop` (left, top,
    width, height) is what of the stored picture is shown, before it is turned; `height` and `width` are those of it.
    `turned_from` is the orientation that a decoder applies by itself.
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
    heic: Any = None
    notes: tuple[str, ...] = ()
    complete: bool = True
    resolution_dpi: Resolution | None = None
    crop: tuple[int, int, int, int] | None = None
    turned_from: int = 1


def open_file(path: Path) -> Opened:
    """Returns the file recognised by its first bytes, nothing decoded."""
    opened = _recognised(path, path.read_bytes())
    if opened.encoding.icc is None or is_whole_profile(opened.encoding.icc):
        return opened
    return replace(opened, encoding=Encoding(), notes=(*opened.notes, DAMAGED_PROFILE))


def _recognised(path: Path, data: bytes) -> Opened:
    kind = format_of(data[:16])
    if kind and (kind != "HEIF" or heif.is_heif(data)):
        return _OPENERS[kind](path, data)
    if not data.strip(b"\0"):
        raise UnreadablePhotoError(path, raw.ONLY_ZEROS)
    if (unsupported := unsupported_kind(data[:132])) is not None:
        raise UnsupportedPhotoError(path, f"is {unsupported}, which is not supported. {READ_FORMATS} can be read.")
    if path.suffix.lower() in PHOTO_SUFFIXES:
        raise UnreadablePhotoError(
            path, f"is not a photo of a known format, in spite of its name. {READ_FORMATS} can be read."
        )
    raise UnsupportedPhotoError(path, f"is not a photo of a known format. {READ_FORMATS} can be read.")


def _open_jpeg(path: Path, data: bytes) -> Opened:
    layout = jpeg.read_layout(data)
    if layout.unsupported is not None:
        raise UnsupportedPhotoError(
            path, f"is coded as {layout.unsupported}, which is not supported. Save it as an ordinary JPEG, or as TIFF."
        )
    blocks = jpeg.read_blocks(data)
    beside = companions.of_jpeg(data, layout.end, jpeg.segments(data), blocks.metadata.xmp)
    notes = (*companions.notes(beside), *blocks.notes, *_aspect_notes(blocks.pixel_aspect))
    picture, was_mended = jpeg.mended(data, layout)
    image = JpegImagePlugin.JpegImageFile(io.BytesIO(picture))
    encoding = encoding_of(blocks.icc)
    if blocks.icc is None and image.mode in ("L", "RGB") and names_adobe_rgb(blocks.metadata.exif):
        encoding = adobe_rgb(grey=image.mode == "L")
    return Opened(
        path,
        picture,
        "JPEG",
        image.height,
        image.width,
        orientation_of(blocks.metadata),
        8,
        encoding,
        blocks.metadata,
        image,
        jpeg.estimate_settings(image.quantization, image.layer),
        notes=(*notes, NO_END_MARK) if was_mended else notes,
        complete=not was_mended,
        resolution_dpi=blocks.resolution_dpi,
    )


def _aspect_notes(pixel_aspect: float) -> tuple[str, ...]:
    """Returns a note where pixels are not square: the picture is saved as it is stored."""
    if abs(pixel_aspect - 1) < 0.005:
        return ()
    return (f"its pixels are {pixel_aspect:.3g} times as wide as high, which is not carried over",)


def _credential_notes(kinds: Collection[bytes]) -> tuple[str, ...]:
    """Returns a note where chunks of these kinds sign the picture as it was."""
    return companions.notes(companions.CREDENTIALS for kind in companions.CREDENTIALS_CHUNKS if kind in kinds)


def _open_png(path: Path, data: bytes) -> Opened:
    if data[12:16] == b"CgBI":
        raise UnsupportedPhotoError(
            path, "is a PNG in Apple's own coding for apps (CgBI), which is not supported. Save it as an ordinary PNG."
        )
    blocks = png.read_blocks(data)
    encoding, notes = png.colour_of(blocks, grey=data[25] in (0, 4))
    notes = (*notes, *_aspect_notes(blocks.pixel_aspect), *_credential_notes({kind for kind, _, _ in png.chunks(data)}))
    if blocks.animated:
        notes = ("is animated; only the first frame is taken", *notes)
    return Opened(
        path,
        data,
        "PNG",
        blocks.height,
        blocks.width,
        orientation_of(blocks.metadata),
        16 if blocks.bit_depth == 16 else 8,
        encoding,
        blocks.metadata,
        notes=notes,
        complete=blocks.complete,
        resolution_dpi=blocks.resolution_dpi,
    )


def sound_png(opened: Opened) -> Opened:
    """Returns the PNG with its picture's own chunks alone, ready to decode, once it is known that all rows are there.

    Raises UnreadablePhotoError where they are not.
    """
    try:
        mended = png.mended(opened.data)
    except png.DamagedPngError as error:
        raise broken(opened.path, error.readable, len(opened.data), ended=opened.complete) from error
    notes = () if mended is None else (WRONG_CHECKSUMS if opened.complete else NO_END_MARK,)
    picture = png.picture_only(opened.data) if mended is None else mended
    image = PngImagePlugin.PngImageFile(io.BytesIO(picture)) if opened.depth == 8 else None
    if image is not None and "transparency" in image.info and picture[25] == 0 and picture[24] in (2, 4):
        image.info["transparency"] *= 255 // (2 ** picture[24] - 1)  # Pillow stretches the samples to eight bits alone
    return replace(opened, data=picture, image=image, notes=(*opened.notes, *notes))


def _open_tiff(path: Path, data: bytes) -> Opened:
    head = tiff_read.read_head(path, data)
    layout = head.layout
    signed = [companions.CREDENTIALS] if companions.CREDENTIALS_TAG in head.page.tags else []
    return Opened(
        path,
        data,
        "TIFF",
        layout.height,
        layout.width,
        head.orientation,
        16 if layout.bits > 8 and layout.photometric != PALETTE else 8,
        encoding_of(head.icc),
        head.metadata,
        tiff=head,
        notes=(*head.notes, *_aspect_notes(tiff_read.pixel_aspect(head.page)), *companions.notes(signed)),
        resolution_dpi=head.resolution_dpi,
    )


def webp_size(data: bytes) -> tuple[int, int]:
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
    height, width = webp_size(data)
    exif, xmp, icc, at, frames, kinds = None, None, None, 12, 0, set()
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<4sL", data, at)
        content = data[at + 8 : at + 8 + size]
        if kind in (b"VP8 ", b"VP8L", b"ALPH", b"ANMF") and len(content) - len(content.rstrip(b"\0")) >= FEWEST_ZEROS:
            raise broken(path, at + 8 + len(content.rstrip(b"\0")), len(data))
        exif = without_exif_header(content) if kind == b"EXIF" else exif
        xmp = content if kind == b"XMP " else xmp
        icc = content if kind == b"ICCP" else icc
        frames += kind == b"ANMF"
        kinds.add(kind)
        at += 8 + size + size % 2
    notes = (f"is animated with {frames} frames; only the first is taken",) if frames > 1 else ()
    notes = (*notes, *_credential_notes(kinds))
    metadata = Metadata(exif, xmp)
    orientation = orientation_of(metadata)
    return Opened(path, data, "WebP", height, width, orientation, 8, encoding_of(icc), metadata, notes=notes)


def _open_gif(path: Path, data: bytes) -> Opened:
    with without_pillows_limit():
        # A frame may be larger than the canvas that the header names; Pillow then takes the frame's size.
        image = GifImagePlugin.GifImageFile(io.BytesIO(data))
        # Whether there is a second frame is all that matters; counting all would decode the animation.
        notes = ("is animated; only the first frame is taken",) if image.is_animated else ()
    return Opened(path, data, "GIF", image.height, image.width, image=image, notes=notes)


def _open_heif(path: Path, data: bytes) -> Opened:
    facts = heif.box_facts(data)
    if facts.bytes_expected > len(data):
        raise _cut_short(path, len(data), facts.bytes_expected)
    have, expected = heif_items.bytes_there(data, facts.items)
    if have < expected:
        raise broken(path, len(data) - expected + have, len(data))
    codings = {item.kind for item in facts.items.coded()} - {b"hvc1", b"av01"}
    if codings:
        kind = codings.pop()
        name = heif_items.CODED.get(kind, kind.decode("latin-1"))
        raise UnsupportedPhotoError(
            path, f"is a HEIF file coded as {name}, which is not supported. Save it as HEIC, AVIF or TIFF."
        )
    beside = companions.of_heif(facts.items)
    outer = (data[start : start + 16] for kind, start, _ in heif_items.children(data, 0, len(data)) if kind == b"uuid")
    if companions.CREDENTIALS_BOX in outer:
        beside.append(companions.CREDENTIALS)
    notes = (*companions.notes(beside), *_aspect_notes(facts.pixel_aspect))
    return _open_avif(path, data, facts, notes) if heif.is_avif(data, facts) else _open_heic(path, data, facts, notes)


def _open_avif(path: Path, data: bytes, facts: heif.BoxFacts, notes: tuple[str, ...]) -> Opened:
    data = heif.with_avif_brand(data)
    image = heif.open_avif(data)
    exif = heif_items.exif_block(data, facts.items) or without_exif_header(image.info.get("exif"))
    encoding = encoding_of(image.info.get("icc_profile"), facts.cicp)
    if getattr(image, "n_frames", 1) > 1:
        notes = ("is animated; only the first frame is taken", *notes)
    width, height = image.size if facts.crop is None else facts.crop[2:]
    return Opened(
        path,
        data,
        "AVIF",
        height,
        width,
        facts.orientation,
        facts.depth,
        encoding,
        Metadata(exif, image.info.get("xmp")),
        image,
        notes=notes,
        crop=facts.crop,
    )


def _open_heic(path: Path, data: bytes, facts: heif.BoxFacts, notes: tuple[str, ...]) -> Opened:
    image = heif.open_heic(path, data)
    info, (width, height) = image.info, image.size
    return Opened(
        path,
        data,
        "HEIC",
        height,
        width,
        depth=int(info.get("bit_depth", 8)),
        encoding=encoding_of(info.get("icc_profile") or None, facts.cicp),
        metadata=Metadata(without_exif_header(info.get("exif")), info.get("xmp") or None),
        heic=image,
        notes=notes,
        turned_from=facts.orientation,
    )


def broken(
    path: Path,
    have: int,
    expected: int,
    *,
    ended: bool = True,
    what: str = "rows of its picture are missing or do not decode",
) -> UnreadablePhotoError:
    """Returns what is to be said of a copy whose bytes are not all there, though its length may be right.

    `ended`: the file has its end mark.
    """
    if have < WHOLE_SHARE * expected:
        return _cut_short(path, have, expected)
    return UnreadablePhotoError(path, f"is damaged: {what}. {COPY_AGAIN}") if ended else _goes_on(path, have)


def _cut_short(path: Path, have: int, expected: int) -> UnreadablePhotoError:
    there = f"{have / 1e6:.1f} of {expected / 1e6:.1f} MB"
    return UnreadablePhotoError(path, f"is cut short: {there} can be read. {COPY_AGAIN}")


def _goes_on(path: Path, have: int) -> UnreadablePhotoError:
    size = f"{have / 1e6:.1f} MB" if have >= 1e5 else f"{have / 1e3:.1f} kB"
    return UnreadablePhotoError(
        path, f"is cut short: its picture goes on after the {size} that are there. {COPY_AGAIN}"
    )


def is_raw_photo(path: Path) -> bool:
    """Returns whether a file is camera raw. Raises UnreadablePhotoError for what is no file, empty or closed to us."""
    try:
        if path.is_dir():
            raise UnreadablePhotoError(path, "is a folder, not a photo.")
        if path.stat().st_size == 0:
            raise UnreadablePhotoError(path, f"is empty. {COPY_AGAIN}")
        return raw.is_raw(path)
    except FileNotFoundError as error:
        raise UnreadablePhotoError(path, f"does not exist in {path.parent}.") from error
    except OSError as error:
        raise UnreadablePhotoError(path, f"cannot be opened: {os.strerror(error.errno or 5)}.") from error


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """A context in which whatever decoders raise becomes a sentence about the file."""
    try:
        yield
    except DeblurError:
        raise
    except MemoryError as error:
        raise PhotoTooLargeError(path, "does not fit in memory.") from error
    except DECODER_ERRORS as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: BaseException) -> UnreadablePhotoError:
    text = str(error)
    ended = (EOFError, struct.error)  # Pillow wraps what its header parsers raise
    if "truncated" in text.lower() or isinstance(error, ended) or isinstance(error.__cause__, ended):
        return _goes_on(path, path.stat().st_size)
    why = type(error).__name__ if isinstance(error, LookupError) or not text else text  # a bare index says nothing
    return UnreadablePhotoError(path, f"is damaged and cannot be decoded ({why}). {COPY_AGAIN}")


_OPENERS = {
    "JPEG": _open_jpeg,
    "PNG": _open_png,
    "TIFF": _open_tiff,
    "WebP": _open_webp,
    "GIF": _open_gif,
    "HEIF": _open_heif,
}
