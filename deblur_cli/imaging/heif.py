"""HEIC and AVIF: the boxes of ISO base media files, and the decoders behind them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
from PIL import AvifImagePlugin, Image

from deblur_cli.errors import UnsupportedPhotoError
from deblur_cli.imaging.metadata import without_exif_header
from deblur_cli.imaging.photo import Metadata
from deblur_cli.imaging.samples import Samples

CONTAINERS = (b"meta", b"iprp", b"ipco", b"moov", b"uuid")
AVIF_BRANDS = (b"avif", b"avis")
HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
INSTALL_HEIF = "HEIC needs an extra: pip install 'deblur-cli[heif]'"


@dataclass(frozen=True)
class BoxFacts:
    """What the boxes say of the first picture. `depth` 8 where they are silent; `gain_map`: another rendering too."""

    cicp: tuple[int, int] | None
    depth: int
    gain_map: bool
    bytes_expected: int


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
    """Returns colour numbers (ITU-T H.273), bit depth and completeness of a HEIC or AVIF file."""
    cicp: tuple[int, int] | None = None
    depth, expected = 8, 0
    gain_map = b"tmap" in data[:4096] or b"hdrgainmap" in data[:65536]
    for kind, start, stop in boxes(data):
        expected = max(expected, stop)
        if stop > len(data):
            continue
        if kind == b"colr" and data[start : start + 4] == b"nclx" and cicp is None:
            cicp = struct.unpack_from(">HH", data, start + 4)
        elif kind == b"pixi" and stop - start > 5:
            depth = max(depth, data[start + 5])
        elif kind == b"av1C" and stop - start >= 3 and data[start + 2] & 0x40:
            depth = max(depth, 12 if data[start + 2] & 0x20 else 10)
    return BoxFacts(cicp, depth, gain_map, expected)


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
    """A HEIC file opened, not decoded. `depth` is 8, 10 or 12."""

    width: int
    height: int
    depth: int
    metadata: Metadata
    icc: bytes | None
    source: object

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
    return HeicFile(image.size[0], image.size[1], int(info.get("bit_depth", 8)), metadata, icc, image)


def open_avif(data: bytes) -> Image.Image:
    """Returns the AVIF opened, not decoded; `info["exif"]` has the orientation that must be applied."""
    return AvifImagePlugin.AvifImageFile(io.BytesIO(data))


def avif_deep_samples(data: bytes, depth: int) -> Samples | None:
    """Returns samples (H, W, 3 or 4) uint16 of the file's depth in the file's orientation, or None.

    Pillow decodes AVIF at eight bits; OpenCV keeps ten and twelve where its build can decode the file at all.
    """
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None or decoded.dtype != np.uint16 or decoded.ndim != 3 or decoded.max() >= 2**depth:
        return None
    ordered: Samples = decoded[..., [2, 1, 0, *range(3, decoded.shape[2])]]
    return ordered


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
