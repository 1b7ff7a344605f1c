"""Which TIFFs are whole but of a kind that is not read, each with the way out."""

from __future__ import annotations

from deblur_cli.imaging.tiff_codecs import COMPRESSION_NAMES, has_more_codecs, is_known
from deblur_cli.imaging.tiff_layout import (
    CCITT,
    COLOURS,
    FLOAT,
    FLOATING_POINT,
    HORIZONTAL,
    JPEG,
    LZMA,
    NO_PREDICTOR,
    PALETTE,
    SEPARATED,
    SIGNED,
    UNDEFINED,
    UNSIGNED,
    YCBCR,
    ZSTD,
    BadLayoutError,
    TiffLayout,
    TiffPage,
)

SAVE_AS_ZIP = "Save it with ZIP (deflate) compression"
INSTALL_TIFF = "pip install 'deblur-cli[tiff]'"
REFUSED_PHOTOMETRICS = {
    4: "a transparency mask",
    8: "CIELAB colour",
    9: "CIELAB colour",
    10: "CIELAB colour",
    32803: "a sensor's raw values",
    32844: "LogL light",
    32845: "LogLuv light",
    34892: "a sensor's raw values",
    51177: "a depth map",
}
BY_THE_EXTRA = (JPEG, 33003, 33005, 34712, 34887, LZMA, ZSTD, 50001, 50002, 52546)
"""Compressions that tifffile decodes with imagecodecs."""
MOST_CHANNELS = 64
INK_SET, INK_COUNT, CMYK_INKS = 332, 334, 1
COLOUR_MAP = 320


def unsupported(page: TiffPage, layout: TiffLayout) -> str | None:
    """Returns the sentence about what of the page is not read, or None. Raises BadLayoutError where it is damaged."""
    return _unsupported_colour(page, layout) or _unsupported_numbers(layout) or _unsupported_packing(layout)


def _unsupported_colour(page: TiffPage, layout: TiffLayout) -> str | None:
    kind = layout.photometric
    if kind not in COLOURS:
        if kind < 0:
            return "does not say what its numbers mean (no PhotometricInterpretation). Save it as RGB."
        name = REFUSED_PHOTOMETRICS.get(kind, f"colour of kind {kind}")
        return f"holds {name}, which is not supported. Save it as RGB."
    if kind == SEPARATED and (page.whole(INK_SET, CMYK_INKS) != CMYK_INKS or page.whole(INK_COUNT, 4) != 4):
        return "holds inks other than cyan, magenta, yellow and black, which are not supported. Save it as RGB."
    if kind == PALETTE and not page.numbers(COLOUR_MAP):
        raise BadLayoutError("its colour map is missing")
    if kind == PALETTE and layout.alpha is not None and (layout.premultiplied or layout.bits != 8):
        return "holds a palette with transparency, which is not supported. Save it as RGB."
    if kind == YCBCR and layout.planar:
        return "holds YCbCr colour in separate planes, which is not supported. Save it as RGB."
    if kind == YCBCR and layout.compression != JPEG and (layout.bits, layout.predictor) != (8, NO_PREDICTOR):
        return "holds YCbCr colour of an uncommon kind, which is not supported. Save it as RGB."
    if kind == YCBCR and layout.samples != COLOURS[YCBCR]:
        return "holds YCbCr colour with more channels, which is not supported. Save it as RGB."
    return None


def _unsupported_numbers(layout: TiffLayout) -> str | None:
    if layout.samples > MOST_CHANNELS:
        return f"has {layout.samples} channels, which is not supported. Save it as RGB."
    if layout.sample_format == SIGNED:
        return "holds signed numbers, which have no known white. Save it with 16 bits."
    if layout.sample_format not in (UNSIGNED, FLOAT, UNDEFINED):
        return "holds channels of different or complex numbers, which are not supported. Save it with 16 bits."
    if layout.bits < 1:
        return "has channels of different depth, which is not supported. Save it with 8 or 16 bits in each."
    if layout.bits not in ((16, 32, 64) if layout.sample_format == FLOAT else (*range(1, 17), 32)):
        return f"has {layout.bits} bits in each channel, which is not supported. Save it with 16 bits."
    return None


def _unsupported_packing(layout: TiffLayout) -> str | None:
    floating = layout.sample_format == FLOAT
    if layout.predictor not in (NO_PREDICTOR, HORIZONTAL, FLOATING_POINT):
        return f"is stored as differences of an unknown kind, {layout.predictor}. {SAVE_AS_ZIP}."
    if layout.predictor == FLOATING_POINT and not floating:
        return f"is stored as differences meant for floating-point numbers, but holds others. {SAVE_AS_ZIP}."
    if layout.compression in CCITT and (layout.bits, layout.samples) != (1, 1):
        return f"uses fax compression for more than black and white. {SAVE_AS_ZIP}."
    if not is_known(layout.compression) and not has_more_codecs():
        return unknown_codec(layout)
    return None


def unknown_codec(layout: TiffLayout) -> str:
    """Returns the sentence about a compression that needs a decoder which is not there."""
    name = COMPRESSION_NAMES.get(layout.compression)
    which = f"{name} compression" if name else f"TIFF compression number {layout.compression}"
    rare = " of a rare kind" if layout.compression == JPEG else ""
    helps = layout.compression in BY_THE_EXTRA and layout.photometric != YCBCR and not has_more_codecs()
    more = f", or {INSTALL_TIFF}" if helps else ""
    return f"uses {which}{rare}, which cannot be decoded here. {SAVE_AS_ZIP}{more}."
