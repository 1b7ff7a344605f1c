"""TIFF files: the main picture's samples, brought to what its own description says, or refused with the way out."""

from __future__ import annotations

import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from deblur_cli.errors import UnreadablePhotoError, UnsupportedPhotoError
from deblur_cli.imaging import exif_block, xmp
from deblur_cli.imaging.exif_block import Buffer, Contents, Directory, NoDirectoryError, ValueOutsideError
from deblur_cli.imaging.metadata import (
    INCH,
    RESOLUTION_UNIT,
    X_RESOLUTION,
    Y_RESOLUTION,
    Resolution,
    iptc_from_resources,
    resolution_of,
    resources_from_iptc,
)
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import Samples
from deblur_cli.imaging.tiff_codecs import (
    COLOUR_MAP,
    SAVE_AS_ZIP,
    Options,
    UnknownCodecError,
    has_more_codecs,
    is_known,
    unknown_codec,
    unsupported,
)
from deblur_cli.imaging.tiff_layout import (
    FLOAT,
    JPEG,
    NO_COMPRESSION,
    PALETTE,
    SEPARATED,
    WHITE_IS_ZERO,
    YCBCR,
    BadLayoutError,
    TiffLayout,
    check_chunks,
    is_thumbnail,
    is_whole,
    layout_of,
    main_page,
    read_pages,
)
from deblur_cli.imaging.tiff_samples import (
    FULL_RANGE,
    REC_601,
    MissingChunkError,
    YCbCr,
    black_tail,
    ends_with_zeros,
    read_layout,
    sample_type,
    zeros_from,
)

# tifffile logs what it finds odd; whatever matters is raised or comes back empty.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

COPY_AGAIN = "Copy it from the card again."
LARGEST_VALUE, LUMA_WEIGHTS, SUBSAMPLING, REFERENCE_BLACK_WHITE = 341, 529, 530, 532
MOST_LIT_QUANTILE, MOST_ABOVE = 0.99, 8.0
"""Of floats whose white is 1, all but highlights lie within three stops of it."""
QUANTILE_SAMPLES = 1_000_000
DARK_SHARE = 1 / 256
"""Whole numbers of 32 bits that reach no farther than this are of fewer bits, and nobody says of how many."""
_ALWAYS_THERE = (exif_block.ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT)
"""Resolution and orientation alone are no metadata worth a block."""
NO_UNIT = 1
LAYERS, LAYER_MARKS = 37724, (b"8BIMLayr", b"MIB8ryaL", b"8BIMLr16", b"MIB861rL", b"8BIMLr32", b"MIB823rL")


@dataclass(frozen=True)
class TiffHead:
    """What a TIFF file says of its main picture, which is `number` of `pages` whole ones."""

    page: Directory
    layout: TiffLayout
    orientation: int
    pages: int
    number: int
    metadata: Metadata
    icc: bytes | None
    resolution_dpi: Resolution | None
    layered: bool

    @property
    def height(self) -> int:
        """Rows as stored."""
        return self.layout.height

    @property
    def width(self) -> int:
        """Columns as stored."""
        return self.layout.width

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences about what of the file is not in the photo."""
        notes = []
        if self.pages > 1:
            which = "the first" if self.number == 1 else f"number {self.number}"
            notes.append(f"has {self.pages} pages; only {which} is taken")
        dropped = self.layout.samples - len(self.layout.kept)
        if dropped:
            what = "channel beside its colours is" if dropped == 1 else f"{dropped} channels beside its colours are"
            notes.append(f"its {what} not carried over")
        return (*notes, *(("its layers are not carried over; the picture they make is",) if self.layered else ()))


@dataclass(frozen=True)
class TiffSamples:
    """Decoded samples (H, W, C), colours and then transparency, and the value of white.

    One and two channels are grey, three and four RGB, or CMYK where `cmyk`. `premultiplied`: the transparency is in
    the colours already. `negative`: white is 0, `maximum` black. `notes`: what was found out on the way.
    """

    samples: Samples
    maximum: float
    cmyk: bool = False
    premultiplied: bool = False
    negative: bool = False
    notes: tuple[str, ...] = ()


def read_head(path: Path, data: Buffer) -> TiffHead:
    """Returns what the file says; no pixel is decoded.

    Raises UnreadablePhotoError where that is not in the file or contradicts itself, UnsupportedPhotoError.
    """
    try:
        pages = read_pages(data)
        page = main_page(pages)
        layout = layout_of(page)
        reason = unsupported(page, layout)
        if reason is not None:
            raise UnsupportedPhotoError(path, reason)
        check_chunks(layout)
        first = page.parent or pages[0]
        metadata = metadata_of(page, first)
        orientation = orientation_of(page, metadata.xmp)
    except NoDirectoryError as error:
        raise _no_directory(path, data, error.position) from error
    except ValueOutsideError as error:
        raise _cut_short(path, data, error.stop) from error
    except BadLayoutError as error:
        raise UnreadablePhotoError(path, f"is damaged: {error}. {COPY_AGAIN}") from error
    whole = [each for each in pages if each.parent is None and is_whole(each) and not is_thumbnail(each, page)]
    layers = block_of(page, page, LAYERS) or b""
    return TiffHead(
        page=page,
        layout=layout,
        orientation=orientation,
        pages=max(1, len(whole)),
        number=whole.index(page) + 1 if page in whole else 1,
        metadata=metadata,
        icc=block_of(page, first, exif_block.ICC),
        resolution_dpi=resolution_of(page),
        layered=any(mark in layers for mark in LAYER_MARKS),
    )


def _sizes(there: float, whole: float) -> str:
    unit, scale = ("MB", 1e6) if whole >= 1e6 else ("kB", 1e3)
    return f"{there / scale:.1f} of {whole / scale:.1f} {unit}"


def _cut_short(path: Path, data: Buffer, expected: int) -> UnreadablePhotoError:
    return UnreadablePhotoError(path, f"is cut short: {_sizes(len(data), expected)} can be read. {COPY_AGAIN}")


def _zero_filled(path: Path, data: Buffer, share: float | None, otherwise: str = "") -> UnreadablePhotoError:
    """Returns the sentence about a copy that broke off and was filled up, and what else it may be."""
    what = "" if share is None else f"; {max(1, round(100 * share))} % of its picture is missing"
    there = _sizes(zeros_from(data), len(data))
    return UnreadablePhotoError(
        path, f"is cut short: only zeros follow the first {there}{what}. {COPY_AGAIN}{otherwise}"
    )


def _no_directory(path: Path, data: Buffer, position: int) -> UnreadablePhotoError:
    if position + 2 > len(data):
        there = _sizes(len(data), position).replace(" of ", " of more than ")
        return UnreadablePhotoError(path, f"is cut short: {there} can be read. {COPY_AGAIN}")
    if zeros_from(data) <= position:
        return _zero_filled(path, data, None)
    return UnreadablePhotoError(path, f"is damaged: the directory of its picture cannot be read. {COPY_AGAIN}")


def metadata_of(page: Directory, first: Directory) -> Metadata:
    """Returns the page's blocks; what it does not say, the file's first page says for it."""
    said = exif_block.contents(page)
    if first is not page:
        said = _completed(said, exif_block.contents(first))
    spoken = any(tag.number not in _ALWAYS_THERE for tag in (*said.main, *said.exif, *said.gps))
    records = block_of(page, first, exif_block.IPTC)
    resources = block_of(page, first, exif_block.PHOTOSHOP)
    if records and iptc_from_resources(resources) is None:
        resources = resources_from_iptc(records) + (resources or b"")
    return Metadata(exif_block.build(said) if spoken else None, block_of(page, first, exif_block.XMP), resources)


def block_of(page: Directory, first: Directory, number: int) -> bytes | None:
    """Returns the bytes of a tag that holds a block, of the page or else of the first one; None where neither has it.

    Some writers declare IPTC as 32-bit integers; the bytes in the file are what counts.
    """
    for each in (page, first):
        try:
            value = each.raw(number)
        except ValueOutsideError:
            value = None  # a lost block must not cost the picture
        if value:
            return value
    return None


def orientation_of(page: Directory, packet: bytes | None) -> int:
    """Returns the page's orientation, 1 to 8, or that of the XMP packet where no tag tells.

    A page in SubIFDs that does not say is turned as its parent.
    """
    for each in (page, page.parent):
        if each is not None and exif_block.ORIENTATION in each.tags:
            value = each.whole(exif_block.ORIENTATION, 1)
            return value if value in range(1, 9) else 1
    return xmp.orientation(packet)


def pixel_aspect(page: Directory) -> float:
    """Returns how many times as wide as high pixels are where a resolution without unit says that alone; else 1."""
    try:
        x, y = page.numbers(X_RESOLUTION), page.numbers(Y_RESOLUTION)
        alone = page.whole(RESOLUTION_UNIT, INCH) == NO_UNIT
    except ValueOutsideError:
        return 1.0
    return y[0] / x[0] if alone and x and y and x[0] > 0 and y[0] > 0 else 1.0


def _completed(said: Contents, other: Contents) -> Contents:
    present = {tag.number for tag in said.main}
    main = [*said.main, *(tag for tag in other.main if tag.number not in present)]
    return Contents(
        said.order,
        tuple(sorted(main, key=lambda tag: tag.number)) if said.order == other.order else said.main,
        said.exif or other.exif,
        said.gps or other.gps,
        said.interop or other.interop,
        said.maker_note_at if said.exif else other.maker_note_at,
    )


def read_samples(path: Path, data: bytes, head: TiffHead) -> TiffSamples:
    """Returns the main picture's samples, in the file's orientation.

    Strips and tiles are decoded here; where their compression needs more, by tifffile and imagecodecs if installed.
    Raises UnreadablePhotoError, UnsupportedPhotoError.
    """
    page, layout = head.page, head.layout
    ycbcr = ycbcr_of(page) if layout.photometric == YCBCR and layout.compression != JPEG else None
    options = Options(
        row_bytes=layout.row_bytes if ycbcr is None else ycbcr.row_bytes(layout.chunk_columns),
        rows_together=1 if ycbcr is None else ycbcr.down,
        jpeg_tables=page.raw(347),
        t4=page.whole(292, 0),
        t6=page.whole(293, 0),
    )
    try:
        if not is_known(layout.compression):
            raise UnknownCodecError
        samples = read_layout(layout, data, options, ycbcr)
    except UnknownCodecError as error:
        if not has_more_codecs():
            raise UnsupportedPhotoError(path, unknown_codec(layout)) from error
        samples = _with_tifffile(path, data, head)
    except MissingChunkError as error:
        raise _missing(path, data, layout, error) from error
    if layout.compression == NO_COMPRESSION:
        lost = black_tail(layout, data, options, samples)
        if lost:
            raise _zero_filled(path, data, lost, f" If it is truly black there, s{SAVE_AS_ZIP[1:]}.")
    return _as_described(path, head, samples)


def _missing(path: Path, data: bytes, layout: TiffLayout, error: MissingChunkError) -> UnreadablePhotoError:
    if error.stop > len(data):
        return _cut_short(path, data, error.stop)
    if error.lost and ends_with_zeros(data):
        return _zero_filled(path, data, error.lost)
    what = f"{'tile' if layout.tiled else 'strip'} {error.chunk.index + 1} of {layout.chunks} cannot be decoded"
    if error.lost:
        what = f"{max(1, round(100 * error.lost))} % of its picture is missing"
    return UnreadablePhotoError(path, f"is damaged: {what}. {COPY_AGAIN}")


def _with_tifffile(path: Path, data: bytes, head: TiffHead) -> Samples:
    """Returns what tifffile and imagecodecs decode, (H, W, kept channels), if it is what the description says."""
    layout = head.layout
    refusal = UnsupportedPhotoError(path, unknown_codec(layout))
    if layout.photometric == YCBCR:
        raise refusal
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pages = [*file.pages, *(sub for each in file.pages for sub in each.pages or ())]
        page = next((each for each in pages if each.offset == head.page.position), None)
        try:
            samples = None if page is None else np.asarray(page.asarray())
        except (KeyError, NotImplementedError, ImportError) as error:
            raise refusal from error
        except (ValueError, RuntimeError) as error:
            raise UnreadablePhotoError(path, f"is damaged and cannot be decoded ({error}). {COPY_AGAIN}") from error
    if samples is None or samples.dtype != sample_type(layout):
        raise refusal
    samples = np.moveaxis(samples, 0, -1) if layout.planar else samples
    return samples.reshape(layout.height, layout.width, layout.samples)[..., list(layout.kept)]


def ycbcr_of(page: Directory) -> YCbCr:
    """Returns how the page packs YCbCr. Raises BadLayoutError."""
    across, down = (int(value) for value in page.numbers(SUBSAMPLING) or (2, 2))
    luma, reference = page.numbers(LUMA_WEIGHTS) or REC_601, page.numbers(REFERENCE_BLACK_WHITE) or FULL_RANGE
    low, white, cb_grey, cb_top, cr_grey, cr_top = reference
    if across not in (1, 2, 4) or down not in (1, 2, 4) or len(luma) != 3 or luma[1] <= 0:
        raise BadLayoutError("what it says of its colours makes no sense")
    if white == low or cb_top == cb_grey or cr_top == cr_grey:
        raise BadLayoutError("its black is its white")
    return YCbCr(across, down, luma, reference)


def _as_described(path: Path, head: TiffHead, samples: Samples) -> TiffSamples:
    """Returns the samples with what the description says that they mean."""
    layout = head.layout
    if layout.photometric == PALETTE:
        return TiffSamples(_painted(path, head, samples), 255.0)
    colours = min(layout.colours, samples.shape[2])
    white, notes = _white(path, head, samples[..., :colours])
    return TiffSamples(
        samples,
        white,
        cmyk=layout.photometric == SEPARATED,
        premultiplied=layout.premultiplied,
        negative=layout.photometric == WHITE_IS_ZERO,
        notes=notes,
    )


def _painted(path: Path, head: TiffHead, samples: Samples) -> Samples:
    """Returns a palette's picture as RGB of 8 bits, with its transparency where it has one.

    Writers fill the map's 16 bits by shifting or by repeating; the upper eight are the same. A few fill eight.
    """
    entries = np.array(head.page.numbers(COLOUR_MAP), dtype=np.uint32)
    if entries.size != 3 << head.layout.bits:
        raise UnreadablePhotoError(path, f"is damaged: its colour map has {entries.size} numbers. {COPY_AGAIN}")
    colours = (entries if entries.max() < 256 else entries >> 8).astype(np.uint8).reshape(3, -1).T
    picture = colours[samples[..., 0]]
    return picture if samples.shape[2] == 1 else np.concatenate([picture, samples[..., 1:]], axis=2)


def _white(path: Path, head: TiffHead, colours: Samples) -> tuple[float, tuple[str, ...]]:
    """Returns the value of white, and how it is known where that is not by the number of bits.

    Floats mean 1 by white unless the file names its largest value (TIFF 6.0, SMaxSampleValue). Raises
    UnsupportedPhotoError where their values contradict that.
    """
    layout = head.layout
    floating = layout.sample_format == FLOAT
    if not floating and layout.bits <= 16:
        return float(2**layout.bits - 1), ()
    said = max(head.page.numbers(LARGEST_VALUE), default=0.0)
    if said > 1 and np.isfinite(said):
        return float(said), (f"its white is {said:g}, as the file says",)
    if floating and not is_white_one(colours):
        raise UnsupportedPhotoError(
            path,
            f"holds floating-point numbers up to {float(np.nanmax(colours)):g} and has no known white: it should be 1. "
            "Save it with 16 bits.",
        )
    if not floating and 0 < int(colours.max()) < DARK_SHARE * 2**layout.bits:
        raise UnsupportedPhotoError(
            path,
            f"holds numbers of {layout.bits} bits up to {int(colours.max())} and has no known white. "
            "Save it with 16 bits.",
        )
    return 1.0 if floating else float(2**layout.bits - 1), ()


def is_white_one(colours: Samples) -> bool:
    """Returns whether floats are light of which 1 is white: most of it is below, and highlights are not far above."""
    rows = max(1, colours.size // QUANTILE_SAMPLES)
    some = colours[::rows]
    lit = some[np.isfinite(some) & (some > 0)]
    if not lit.size or float(lit.max()) <= 1:
        return True
    middle, bright = np.quantile(lit.astype(np.float64), (0.5, MOST_LIT_QUANTILE), method="lower")
    return bool(middle < 1 and bright <= MOST_ABOVE)
