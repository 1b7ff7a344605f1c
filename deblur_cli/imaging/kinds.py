"""Kinds of files that are no damaged photographs but ones that cannot be read here, known by their first bytes."""

from __future__ import annotations

# fmt: off
SIGNATURES = (
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL picture"),
    (0, b"\xff\x0a", "a JPEG XL picture"),
    (0, b"II\xbc\x01", "a JPEG XR picture"),
    (0, b"\x8aMNG\r\n\x1a\n", "an MNG animation"),
    (0, b"\x8bJNG\r\n\x1a\n", "a JNG picture"),
    (0, b"BM", "a BMP picture"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR picture"),
    (0, b"#?RADIANCE", "a Radiance HDR picture"),
    (0, b"gimp xcf", "a GIMP file"),
    (0, b"qoif", "a QOI picture"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x0a\x05\x01\x08", "a PCX picture"),
    (0, b"P5\n", "a PGM picture"), (0, b"P6\n", "a PPM picture"), (0, b"P7\n", "a PAM picture"),
    (0, b"BPG\xfb", "a BPG picture"),
    (0, b"SIMPLE  =", "a FITS picture"),
    (128, b"DICM", "a DICOM picture"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<!DOCTYPE html", "a web page"), (0, b"<html", "a web page"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x1a\x45\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
)
# fmt: on
VIDEO_BRANDS = (b"qt  ", b"mp41", b"mp42", b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"avc1", b"M4V ", b"3gp")


def unsupported_kind(head: bytes) -> str | None:
    """Returns what a file is by its first 132 bytes, with its article, or None where they fit no kind known here."""
    if head[4:8] == b"ftyp" and head[8:12].startswith(VIDEO_BRANDS):
        return "a video"
    text = head.lstrip()
    return next(
        (
            name
            for place, mark, name in SIGNATURES
            if head[place : place + len(mark)] == mark
            or (mark[:1] == b"<" and text[: len(mark)].lower() == mark.lower())
        ),
        None,
    )
