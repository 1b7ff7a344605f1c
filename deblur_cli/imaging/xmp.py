"""XMP packets: read by the standard library's parser, changed by patches of bytes, so that the rest stays as it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from xml.parsers import expat

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
TIFF = "http://ns.adobe.com/tiff/1.0/"
XMP_BASIC = "http://ns.adobe.com/xap/1.0/"
XMP_NOTE = "http://ns.adobe.com/xmp/note/"
GOOGLE_CAMERA = "http://ns.google.com/photos/1.0/camera/"
XIAOMI_CAMERA = "http://ns.xiaomi.com/photos/1.0/camera/"
OPPO_CAMERA = "http://ns.oplus.com/photos/1.0/camera/"
COMPANION_NAMESPACES = (
    "http://ns.adobe.com/hdr-gain-map/1.0/",
    "http://ns.apple.com/HDRGainMap/1.0/",
    "http://ns.apple.com/HDRToneMap/1.0/",
    "http://ns.apple.com/pixeldatainfo/1.0/",
    "http://ns.google.com/photos/1.0/container/",
    "http://ns.google.com/photos/1.0/container/item/",
    "http://ns.google.com/photos/dd/1.0/",
)
"""Beginnings of the namespaces whose every property speaks of a further picture or clip in the file."""
EXTENSION_NAMESPACES = (
    "http://ns.google.com/photos/1.0/depthmap/",
    "http://ns.google.com/photos/1.0/image/",
    "http://ns.google.com/photos/1.0/audio/",
)
"""Namespaces whose data lie in a JPEG's extended XMP."""
COMPANION_PROPERTIES = {
    GOOGLE_CAMERA: re.compile(r"MotionPhoto|MicroVideo"),
    XIAOMI_CAMERA: re.compile(r"XMPMeta"),
    OPPO_CAMERA: re.compile(r"MotionPhoto|OLivePhoto|VideoLength"),
    XMP_BASIC: re.compile(r"Thumbnails$"),
}
"""Beginnings of single properties that do, or that hold a small copy of the old picture."""
_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_PADDED_ORIENTATION = re.compile(rb"(tiff:Orientation\s*(?:=\s*[\"']|>\s*))[2-8](?=\s*[\"'<])")

Name = tuple[str, str]
"""Namespace and local name."""


class DamagedXmpError(ValueError):
    """The packet is no well-formed XML, or declares a document type, which XMP forbids."""


@dataclass(frozen=True)
class Value:
    """One property's text: where it lies in the packet, and where all of the property does."""

    name: Name
    text: str
    start: int
    stop: int
    whole: range


@dataclass
class Element:
    """One element of the packet; offsets are bytes. `content` lies between its tags; attributes are values."""

    name: Name
    start: int
    content: int = 0
    content_end: int = 0
    stop: int = 0
    attributes: list[Value] = field(default_factory=list)
    namespaces: list[tuple[str, str, range]] = field(default_factory=list)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def walk(self) -> Iterator[Element]:
        """Yields this element and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def properties(self) -> Iterator[Value]:
        """Yields the simple properties that stand directly in this element: attributes, and children of mere text."""
        yield from self.attributes
        for child in self.children:
            if not child.children:
                place = range(child.start, child.stop)
                yield Value(child.name, child.text.strip(), child.content, child.content_end, place)


class _Builder:
    """Builds elements with their places from the parser's events."""

    def __init__(self, packet: bytes) -> None:
        self.packet = packet
        self.root: Element | None = None
        self.open: list[tuple[Element, dict[str, str]]] = []
        self.parser = expat.ParserCreate("utf-8")
        self.parser.StartElementHandler = self.begin
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.characters
        self.parser.StartDoctypeDeclHandler = self.refuse

    def refuse(self, *_: object) -> None:
        raise DamagedXmpError("a document type")

    def begin(self, tag: str, _: dict[str, str]) -> None:
        start = self.parser.CurrentByteIndex
        scope = dict(self.open[-1][1]) if self.open else {}
        at = start + 1 + len(tag.encode())
        found: list[tuple[str, str, int, int, range]] = []
        namespaces = []
        while match := _ATTRIBUTE.match(self.packet, at):
            group = 2 if match[2] is not None else 3
            name, text = match[1].decode(), match[group].decode()
            place = range(match.start(), match.end())
            if name == "xmlns" or name.startswith("xmlns:"):
                scope[name.partition(":")[2]] = text
                namespaces.append((name.partition(":")[2], text, place))
            else:
                found.append((name, text, match.start(group), match.end(group), place))
            at = match.end()
        element = Element(_resolved(tag, scope, scope.get("", "")), start, namespaces=namespaces)
        element.content = self.packet.index(b">", at) + 1
        element.attributes = [Value(_resolved(n, scope, ""), t, a, b, place) for n, t, a, b, place in found]
        if self.open:
            self.open[-1][0].children.append(element)
        elif self.root is None:
            self.root = element
        self.open.append((element, scope))

    def end(self, _: str) -> None:
        element = self.open.pop()[0]
        at = self.parser.CurrentByteIndex
        if self.packet[element.content - 2 : element.content] == b"/>":
            element.content_end = element.stop = element.content
        else:
            element.content_end, element.stop = at, self.packet.index(b">", at) + 1

    def characters(self, text: str) -> None:
        if self.open:
            self.open[-1][0].text += text


def _resolved(name: str, scope: dict[str, str], default: str) -> Name:
    prefix, colon, local = name.partition(":")
    return (scope.get(prefix, prefix), local) if colon else (default, name)


def parse(packet: bytes) -> Element:
    """Returns the packet's outermost element. Raises DamagedXmpError."""
    if packet[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in packet[:4]:
        raise DamagedXmpError("not UTF-8, as files hold it")
    builder = _Builder(packet)
    try:
        builder.parser.Parse(packet, True)
    except (expat.ExpatError, UnicodeDecodeError, ValueError) as error:
        # What follows the outermost element is padding, or rubbish that some writers leave.
        if builder.root is None or builder.open:
            raise DamagedXmpError(str(error)) from error
    if builder.root is None:
        raise DamagedXmpError("no element")
    return builder.root


def patched(packet: bytes, patches: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Returns the packet with each (start, stop) replaced; what lies inside a larger patch is left out."""
    parts, at = [], 0
    for start, stop, content in sorted(patches, key=lambda patch: (patch[0], -patch[1])):
        if start < at:
            continue
        parts += [packet[at:start], content]
        at = stop
    return b"".join([*parts, packet[at:]])


def orientation(packet: bytes | None) -> int:
    """Returns tiff:Orientation, 1 to 8; 1 where the packet does not say or cannot be read."""
    if packet is None or b"Orientation" not in packet:
        return 1
    first = next((value.text for value in _orientations(packet)), "1")
    return int(first) if first in tuple("12345678") else 1


def _orientations(packet: bytes) -> list[Value]:
    try:
        every = (value for element in parse(packet).walk() for value in element.properties())
        return [value for value in every if value.name == (TIFF, "Orientation")]
    except DamagedXmpError:
        return []


def upright(packet: bytes | None) -> bytes | None:
    """Returns the packet with tiff:Orientation 1, of unchanged length, whether or not the rest can be read."""
    if packet is None or b"Orientation" not in packet:
        return packet
    packet = _PADDED_ORIENTATION.sub(rb"\g<1>1", packet)
    turned = (v for v in _orientations(packet) if v.text in tuple("2345678"))
    return patched(packet, [(v.start, v.stop, packet[v.start : v.stop].replace(v.text.encode(), b"1")) for v in turned])


def without_companions(packet: bytes | None, *, extension: str | None = None) -> bytes | None:
    """Returns the packet without what it claims of pictures and clips that no output carries.

    Those are gain maps, motion clips, depth maps, and thumbnails of the old picture. `extension` is the GUID of the
    extended XMP that goes along; without one, claims about it and about what lies in it leave too. A packet that makes
    no such claim, or that cannot be read, comes back byte for byte.
    """
    if packet is None:
        return None
    try:
        root = parse(packet)
    except DamagedXmpError:
        return packet
    patches = []
    for element in root.walk():
        patches += [_removed(packet, place) for place in _claims(element, extended=extension is not None)]
        for value in element.properties():
            if value.name == (XMP_NOTE, "HasExtendedXMP") and extension is not None and value.text != extension:
                patches.append((value.start, value.stop, extension.encode()))
    return _without_unused_namespaces(patched(packet, patches)) if patches else packet


def _claims(element: Element, *, extended: bool) -> list[range]:
    attributes = [value.whole for value in element.attributes if _is_claim(value.name, extended)]
    children = [range(child.start, child.stop) for child in element.children if _is_claim(child.name, extended)]
    return attributes + children


def _is_claim(name: Name, extended: bool) -> bool:
    namespace, local = name
    if namespace.startswith(COMPANION_NAMESPACES):
        return True
    if not extended and (namespace.startswith(EXTENSION_NAMESPACES) or name == (XMP_NOTE, "HasExtendedXMP")):
        return True
    pattern = COMPANION_PROPERTIES.get(namespace)
    return pattern is not None and pattern.match(local) is not None


def _removed(packet: bytes, place: range) -> tuple[int, int, bytes]:
    """Returns the patch that takes out a property, and the line that it had to itself."""
    start, stop = place.start, place.stop
    line = packet.rfind(b"\n", 0, start)
    if packet[start : start + 1] == b"<" and line >= 0 and not packet[line:start].strip():
        start = line
    return start, stop, b""


def _without_unused_namespaces(packet: bytes) -> bytes:
    """Returns the packet without the declarations of our namespaces that nothing uses any more."""
    root = parse(packet)
    used = {name[0] for element in root.walk() for name in (element.name, *(v.name for v in element.attributes))}
    ours = (*COMPANION_NAMESPACES, *EXTENSION_NAMESPACES, XMP_NOTE, GOOGLE_CAMERA, XIAOMI_CAMERA, OPPO_CAMERA)
    places = [
        place
        for element in root.walk()
        for _, namespace, place in element.namespaces
        if namespace.startswith(ours) and namespace not in used
    ]
    return patched(packet, [(place.start, place.stop, b"") for place in places])
