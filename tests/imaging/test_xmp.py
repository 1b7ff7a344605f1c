from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.imaging import xmp

MOTION = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
 <rdf:Description rdf:about="" xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"
   xmlns:dc="http://purl.org/dc/elements/1.1/"
   GCamera:MotionPhoto="1" GCamera:MicroVideo='1' dc:format="image/jpeg" GCamera:MotionPhotoVersion="1"/>
 <rdf:Description xmlns:Container="http://ns.google.com/photos/1.0/container/"
   xmlns:Item="http://ns.google.com/photos/1.0/container/item/" rdf:about="">
  <Container:Directory><rdf:Seq><rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4"/></rdf:li>
  </rdf:Seq></Container:Directory>
  <dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">caf\xc3\xa9 &amp; &gt; bar</dc:title>
 </rdf:Description>
</rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>   """


def packet(body: str, attributes: str = "") -> bytes:
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" {attributes}>{body}</rdf:Description></rdf:RDF></x:xmpmeta>'
    ).encode()


@pytest.mark.parametrize(
    "damaged",
    [b"", b"no xml", b"<x>", b"<x></y>", b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', b"\xff\xfe<\0x\0/\0>\0"],
)
def test_what_cannot_be_read_stays_as_it_is(damaged: bytes) -> None:
    with pytest.raises(xmp.DamagedXmpError):
        xmp.parse(damaged)
    assert xmp.without_companions(damaged) == damaged
    assert xmp.orientation(damaged) == 1


@given(st.binary(max_size=300))
def test_any_bytes_are_survived(data: bytes) -> None:
    xmp.without_companions(data)
    xmp.without_companions(MOTION[: len(MOTION) // 2] + data + MOTION[len(MOTION) // 2 :])


def test_claims_leave_and_everything_else_stays() -> None:
    clean = xmp.without_companions(MOTION)
    assert clean is not None
    for word in (b"MotionPhoto", b"MicroVideo", b"Container", b"Item", b"GCamera", b"google"):
        assert word not in clean
    assert b'dc:format="image/jpeg"' in clean
    assert b'<dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">caf\xc3\xa9 &amp; &gt; bar</dc:title>' in clean
    assert clean.startswith(MOTION[: MOTION.index(b"xmlns:GCamera")].rstrip())
    assert clean.endswith(b'<?xpacket end="w"?>   ')
    xmp.parse(clean)
    assert xmp.without_companions(clean) == clean


@pytest.mark.parametrize(
    "claim",
    [
        'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"',
        'xmlns:HDRGainMap="http://ns.apple.com/HDRGainMap/1.0/" HDRGainMap:HDRGainMapVersion="131072"',
        'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="ABC"',
        'xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Mime="image/png"',
        'xmlns:Device="http://ns.google.com/photos/dd/1.0/device/" Device:Container="x"',
        'xmlns:MiCamera="http://ns.xiaomi.com/photos/1.0/camera/" MiCamera:XMPMeta="x"',
        'xmlns:other="http://ns.adobe.com/hdr-gain-map/1.0/" other:GainMapMax="1.0"',
    ],
)
@pytest.mark.parametrize("form", ["attribute", "element"])
def test_each_claim_in_both_forms(claim: str, form: str) -> None:
    space, _, said = claim.partition(" ")
    name, _, value = said.partition("=")
    body = "" if form == "attribute" else f"<{name}>{value[1:-1]}</{name}>"
    dirty = packet(body, claim if form == "attribute" else space)
    assert xmp.without_companions(dirty) == packet("").replace(b'rdf:about="" ', b'rdf:about=""')


def test_an_extension_that_goes_along_is_named_by_its_new_name() -> None:
    said = 'xmlns:n="http://ns.adobe.com/xmp/note/" n:HasExtendedXMP="OLD"'
    said += ' xmlns:GDepth="http://ns.google.com/photos/1.0/depthmap/" GDepth:Mime="x"'
    assert xmp.without_companions(packet("", said), extension="NEW") == packet("", said.replace("OLD", "NEW"))
    assert xmp.without_companions(packet("", said), extension="OLD") == packet("", said)


def test_other_properties_of_the_camera_stay_and_keep_their_namespace() -> None:
    said = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/" GCamera:BurstID="7"'
    assert xmp.without_companions(packet("", said + ' GCamera:MotionPhoto="1"')) == packet("", said)
    assert xmp.without_companions(packet("", said)) == packet("", said)


def test_a_thumbnail_of_the_old_picture_leaves() -> None:
    space = 'xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5"'
    body = "<xmp:Thumbnails><rdf:Alt><rdf:li>base64</rdf:li></rdf:Alt></xmp:Thumbnails>"
    assert xmp.without_companions(packet(body, space)) == packet("", space)


@pytest.mark.parametrize(
    ("said", "orientation"),
    [
        ('xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"', 6),
        ("xmlns:t='http://ns.adobe.com/tiff/1.0/' t:Orientation='8'", 8),
        ('xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="9"', 1),
        ('xmlns:tiff="http://elsewhere/" tiff:Orientation="6"', 1),
    ],
)
def test_orientation_as_attribute_and_element(said: str, orientation: int) -> None:
    assert xmp.orientation(packet("", said)) == orientation
    name, value = said.split()[-1].split("=")
    element = packet(f"<{name}> {value[1:-1]} </{name}>", said.rsplit(" ", 1)[0])
    assert xmp.orientation(element) == orientation
    assert xmp.orientation(b"junk before " + element) == 1
    assert xmp.orientation(element + b"junk behind") == orientation


@pytest.mark.parametrize("written", ['{0}:Orientation="6"', "{0}:Orientation='8'"])
@pytest.mark.parametrize("prefix", ["tiff", "t"])
def test_an_orientation_under_any_prefix_is_upright_afterwards(prefix: str, written: str) -> None:
    attributes = f'xmlns:{prefix}="http://ns.adobe.com/tiff/1.0/" {written.format(prefix)}'
    said = packet("", attributes)
    assert xmp.orientation(said) in (6, 8)
    assert xmp.orientation(xmp.upright(said)) == 1
    assert len(xmp.upright(said) or b"") == len(said)


def test_an_orientation_as_an_element_is_upright_afterwards() -> None:
    said = packet("<t:Orientation> 3 </t:Orientation>", 'xmlns:t="http://ns.adobe.com/tiff/1.0/"')
    assert xmp.orientation(said) == 3
    assert xmp.orientation(xmp.upright(said)) == 1
