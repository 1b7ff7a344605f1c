"""HEIC and AVIF: the boxes of ISO base media files, and the decoders behind them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from PIL import AvifImagePlugin, Image

from deblur_cli.errors import UnsupportedPhotoError
from deblur_cli.imaging.avif_sample_transform import (
    SAMPLE_TRANSFORM_BITS,
    UnknownTransformError,
    joined_samples,
    picture_alone,
    sample_transform,
)
from deblur_cli.imaging.exif_block import Buffer
from deblur_cli.imaging.heif_items import Item, Items, clean_aperture, orientation, read_items
from deblur_cli.imaging.metadata import without_exif_header
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import Samples

CONTAINERS = (b"meta", b"iprp", b"ipco", b"moov", b"uuid")
DESCRIBING = (b"colr", b"pixi", b"av1C")
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
INSTALL_HEIF = "HEIC needs an extra: pip install 'deblur-cli[heif]'"


@dataclass(frozen=True)
class BoxFacts:
    """What the boxes say of the main picture.

    `depth` is 8 where they are silent. `orientation` and `crop` (left, top, width, height of what is shown) are for
    decoders that leave them to their callers.
    """

    items: Items
    cicp: tuple[int, int] | None
    depth: int
    bytes_expected: int
    orientation: int = 1
    crop: tuple[int, int, int, int] | None = None
    pixel_aspect: float = 1.0


def boxes(data: bytes, start: int = 0, stop: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yields (type, start, stop) of each box's content, those inside known containers after their container."""
    end = len(data) if stop is None else stop
    at = start
    while at + 8 <= end:
        size, kind = struct.unpack_from(">L4s", data, at)
        head = 8
        if size == 1 and at + 16 <= end:
            size, head = struct.unpack_from(">Q", data, at + 8)[0], 16
        if size == 0:
            size = end - at
        if size < head:
            return
        yield kind, at + head, at + size
        if kind in CONTAINERS:
            inner = {b"meta": 4, b"uuid": 16}.get(kind, 0)
            yield from boxes(data, at + head + inner, min(end, at + size))
        at += size


def box_facts(data: bytes) -> BoxFacts:
    """Returns colour numbers (ITU-T H.273), bit depth, turn, crop and completeness of a HEIC or AVIF file."""
    items = read_items(data)
    expected = max((stop for _, _, stop in boxes(data)), default=0)
    picture = items.picture
    if not picture.kind:  # a sequence without a main picture: its boxes describe its frames
        found = tuple((kind, data[a:b]) for kind, a, b in boxes(data) if b <= len(data) and kind in DESCRIBING)
        return BoxFacts(items, _colour_numbers(found), _depth(found), expected)
    parts = (*picture.properties, *(entry for item in items.coded()[:1] for entry in item.properties))
    return BoxFacts(
        items,
        _colour_numbers(parts),
        SAMPLE_TRANSFORM_BITS if sample_transform(items) is not None else _depth(parts),
        expected,
        orientation(picture),
        clean_aperture(picture),
        _pixel_aspect(picture),
    )


def _colour_box(properties: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    numbers = (content for kind, content in properties if kind == b"colr" and content[:4] == b"nclx")
    return next((content for content in numbers if len(content) >= 8), None)


def _colour_numbers(properties: Iterable[tuple[bytes, bytes]]) -> tuple[int, int] | None:
    first = _colour_box(properties)
    return None if first is None else struct.unpack_from(">HH", first, 4)


def _depth(properties: Iterable[tuple[bytes, bytes]]) -> int:
    depth = 8
    for kind, content in properties:
        if kind == b"pixi" and len(content) > 5:
            depth = max(depth, content[5])
        elif kind == b"av1C" and len(content) >= 3 and content[2] & 0x40:
            depth = max(depth, 12 if content[2] & 0x20 else 10)
    return depth


def _pixel_aspect(picture: Item) -> float:
    content = picture.find(b"pasp")
    if content is None or len(content) < 8:
        return 1.0
    across, down = struct.unpack_from(">LL", content)
    return across / down if across and down else 1.0


def is_heif(data: Buffer) -> bool:
    """Returns whether the brands of an ISO base media file are those of pictures."""
    brands = data[8 : 8 + min(64, struct.unpack_from(">L", data)[0])]
    return any(brand in brands for brand in (*AVIF_BRANDS, *HEIF_BRANDS))


def is_avif(data: bytes, facts: BoxFacts) -> bool:
    """Returns whether the main picture is AV1, which its coding decides, and brands where there is no main picture."""
    coded = facts.items.coded()
    if coded:
        return coded[0].kind == b"av01"
    brands = data[8 : 8 + min(64, struct.unpack_from(">L", data)[0])]
    return any(brand in brands for brand in AVIF_BRANDS)


def with_avif_brand(data: bytes) -> bytes:
    """Returns the file with the brand that AVIF decoders ask for; other programs leave it out of files of AV1."""
    return data if any(brand in data[8:72] for brand in AVIF_BRANDS) else data[:8] + AVIF_BRANDS[0] + data[12:]


def heif_module(path: Path) -> ModuleType:
    """Returns pillow_heif. Raises UnsupportedPhotoError with the remedy where it is not installed."""
    try:
        import pillow_heif
    except ImportError as error:
        raise UnsupportedPhotoError(path, f"cannot be read. {INSTALL_HEIF}") from error
    module: ModuleType = pillow_heif
    return module


@dataclass(frozen=True)
class HeicFile:
    """A HEIC file opened, not decoded. `depth` is 8, 10 or 12; `premultiplied`: transparency is in the colours."""

    width: int
    height: int
    depth: int
    metadata: Metadata
    icc: bytes | None
    source: object
    premultiplied: bool = False

    def samples(self) -> Samples:
        """Returns upright samples (H, W, 1…4), uint8 or uint16 (the full range of 16 bits)."""
        return np.asarray(self.source)


def open_heic(path: Path, data: bytes) -> HeicFile:
    """Returns the primary picture of a HEIC file, which libheif turns upright by the file's own transformations.

    Raises UnsupportedPhotoError without pillow-heif, and what that raises for a damaged file.
    """
    file = heif_module(path).open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
    image = file[file.primary_index]
    info = image.info
    metadata = Metadata(without_exif_header(info.get("exif")), info.get("xmp") or None)
    icc = info.get("icc_profile") or None
    depth, premultiplied = int(info.get("bit_depth", 8)), image.mode.startswith("RGBa")
    return HeicFile(image.size[0], image.size[1], depth, metadata, icc, image, premultiplied)


def open_avif(data: bytes) -> Image.Image:
    """Returns the AVIF opened, not decoded; `info["exif"]` has the orientation that must be applied."""
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def avif_deep_samples(path: Path, data: bytes, depth: int) -> Samples | None:
    """Returns samples (H, W, 3 or 4) uint16 of the file's depth in the file's orientation, or None.

    Pillow decodes AVIF at eight bits; OpenCV keeps ten and twelve where its build can decode the file at all. Sixteen
    are joined of two pictures. Raises UnsupportedPhotoError where they cannot be.
    """
    items = read_items(data)
    transform = sample_transform(items)
    if transform is not None:
        try:
            return joined_samples(data, items, transform)
        except UnknownTransformError as error:
            raise UnsupportedPhotoError(
                path,
                f"keeps its 16 bits in several pictures (AVIF sample transform) of a kind that is not supported: "
                f"{error}. Save it as TIFF or PNG of 16 bits.",
            ) from error
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None and _is_simple(items):
        # OpenCV tells AVIF by the first 500 bytes, and does not know it where metadata lie further on.
        alone = picture_alone(data, items.picture, _colour_box(items.picture.properties))
        decoded = cv2.imdecode(np.frombuffer(alone, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.max() >= 2**depth:
        return None
    ordered: Samples = decoded[..., [2, 1, 0, *range(3, decoded.shape[2])]]
    return ordered


def _is_simple(items: Items) -> bool:
    """Returns whether the picture is one coded one without transparency."""
    picture = items.picture
    coded = picture.kind == b"av01" and None not in (picture.find(b"av1C"), picture.find(b"ispe"))
    return coded and not any(number in items.items for number in items.referring(b"auxl", items.primary))


def with_cicp(encoded: bytes, cicp: tuple[int, int]) -> bytes:
    """Returns an AVIF or HEIC file whose colour box names these primaries and this transfer function."""
    result = bytearray(encoded)
    for kind, start, stop in boxes(encoded):
        if kind == b"colr" and stop <= len(encoded) and encoded[start : start + 4] == b"nclx":
            struct.pack_into(">HH", result, start + 4, *cicp)
    return bytes(result)


def encode_heic(
    path: Path, size: tuple[int, int], mode: str, samples: bytes, quality: int, blocks: Metadata, icc: bytes | None
) -> bytes:
    """Returns a HEIC file of 8-bit ("RGB", "RGBA", "L") or deep ("RGB;16"…) samples. Raises what pillow_heif raises."""
    stream = io.BytesIO()
    file = heif_module(path).from_bytes(mode=mode, size=size, data=samples)
    exif = b"Exif\0\0" + blocks.exif if blocks.exif else None
    # x265 at its default preset takes a minute for ten megapixels and gains two per cent of size.
    file.save(
        stream, quality=quality, chroma=444, exif=exif, xmp=blocks.xmp, icc_profile=icc, enc_params={"preset": "fast"}
    )
    return stream.getvalue()
