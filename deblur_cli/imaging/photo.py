"""The photograph as the tool carries it between reader and writer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from deblur_cli.arrays import Pixels

Transfer = Literal["srgb", "icc", "linear", "pq", "hlg"]


@dataclass(frozen=True)
class Encoding:
    """How `Photo.pixels` encode light: the photo's own profile, never converted on the way.

    `icc` is the embedded profile, byte for byte, or None where the file has none (then sRGB is assumed).
    `transfer` names the curve for the conversions of `imaging.colour`; "icc" means: ask the profile. `cicp` are the
    numbers of colour primaries and transfer function (ITU-T H.273) where the file names its encoding by them.
    """

    name: str = "sRGB (assumed)"
    icc: bytes | None = None
    transfer: Transfer = "srgb"
    cicp: tuple[int, int] | None = None


@dataclass(frozen=True)
class Metadata:
    r"""The raw blocks of a photo's metadata, as the file held them.

    `exif` starts with the TIFF header (no "Exif\0\0"), MakerNotes and all; `xmp` is the packet; `iptc` is the
    content of JPEG's APP13 (Photoshop image resources, from the first "8BIM" on); `xmp_extension` is what a JPEG's XMP
    packet left to further segments, joined.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    xmp_extension: bytes | None = None


@dataclass(frozen=True)
class JpegSettings:
    """How the source JPEG was compressed, so that an output can be at least as good."""

    quality: int
    """Estimated from the quantisation tables, 1–100."""
    subsampling: Literal["4:4:4", "4:2:2", "4:2:0", "other"]


@dataclass(frozen=True)
class Photo:
    """One photograph, upright.

    `pixels` are (H, W, 3) float32, RGB, display-encoded in [0, 1], in the profile that `encoding` names. Greyscale
    files are carried as three equal channels and written back as one. `alpha` is (H, W) float32 or None.
    `bit_depth` is the file's, 8 or 16 (10 and 12 bits count as 16). `notes` are sentences that the user should see
    (first frame of an animation taken, gain map dropped, developed from raw …). `resolution_dpi` is the print
    resolution, horizontal and vertical, or None where the file names none.
    """

    path: Path
    pixels: Pixels
    format: str
    bit_depth: Literal[8, 16]
    encoding: Encoding = field(default_factory=Encoding)
    metadata: Metadata = field(default_factory=Metadata)
    alpha: Pixels | None = None
    grayscale: bool = False
    jpeg: JpegSettings | None = None
    notes: tuple[str, ...] = ()
    resolution_dpi: tuple[float, float] | None = None

    @property
    def height(self) -> int:
        """Height in pixels, upright."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels, upright."""
        return int(self.pixels.shape[1])

    @property
    def megapixels(self) -> float:
        """Size in millions of pixels."""
        return self.height * self.width / 1e6

    def with_pixels(self, pixels: Pixels) -> Photo:
        """Returns this photo with other pixels; everything else, metadata included, is kept.

        Raises ValueError when the shape differs.
        """
        if pixels.shape != self.pixels.shape:
            raise ValueError(f"expected pixels of shape {self.pixels.shape}, got {pixels.shape}")
        return replace(self, pixels=pixels)
