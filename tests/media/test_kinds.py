"""What a file is, said of one that cannot be read."""

import gzip
import io
import tarfile
import zipfile

import pytest
from helpers.media_samples import clip, encoded, picture
from helpers.sound_samples import sound, tone

from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.extract.modalities.decoders.kinds import kind_of
from mmfeat.extract.modalities.decoders.sound import render_sound
from mmfeat.extract.modalities.decoders.video import render_clip
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import AudioPrepare, FrameSampling, PixelView
from mmfeat.schemas.media import MediaLimits

VIEW = PixelView(mode="squash", height=8, width=8)


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    return file.getvalue()


def tarred() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return file.getvalue()


def boxes(brand: bytes, *others: bytes) -> bytes:
    body = brand + bytes(4) + b"".join((brand, *others))
    return (8 + len(body)).to_bytes(4, "big") + b"ftyp" + body + b"\0\0\0\x08meta"


NO_MEDIA = {
    "an HTML page": [
        b"<!DOCTYPE html>\n<title>Not found</title>",
        b"\xef\xbb\xbf\r\n  <html lang=en>",
        b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''>",
        b"<!-- cached --><html>",
    ],
    "an SVG drawing": [
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        b'<?xml version="1.0"?>\n<!-- x --><svg width="1"/>',
    ],
    "an XML document": [b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'],
    "a JSON document": [b'{"error": "not found"}', b" [1, 2]"],
    "plain text": ["Datei nicht gefunden: Größe\n".encode(), ("ü" * 5000).encode()],
    "nothing but zero bytes": [bytes(500)],
    "nothing but blanks": [b" \n\n"],
    "a HEIC picture": [boxes(b"heic", b"mif1"), boxes(b"mif1", b"heic"), boxes(b"hevc")],
    "a JPEG XL picture": [b"\xff\x0a\x10\x10", b"\0\0\0\x0cJXL \r\n\x87\n\0\0"],
    "a JPEG 2000 picture": [b"\0\0\0\x0cjP  \r\n\x87\n\0\0", b"\xff\x4f\xff\x51\0"],
    "a PDF document": [b"%PDF-1.7\n"],
    "a gzip archive": [gzip.compress(b"a")],
    "a ZIP archive": [zipped()],
    "a tar archive": [tarred()],
    "a Git LFS pointer": [b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"],
    "a playlist": [b"#EXTM3U\n#EXTINF:2,\na.ts\n"],
    "a Photoshop document": [b"8BPS\0\1" + bytes(30)],
}


@pytest.mark.parametrize("kind", NO_MEDIA)
def test_a_file_that_is_no_media_is_told_what_it_is(kind):
    for data in NO_MEDIA[kind]:
        for read in (
            lambda data: render_image(data, [VIEW], MediaLimits()),
            lambda data: render_clip(data, FrameSampling(), [VIEW], MediaLimits()),
            lambda data: render_sound(data, [AudioPrepare(sample_rate=16_000)], MediaLimits()),
        ):
            with pytest.raises(ItemError) as caught:
                read(data)
            assert f": it is {kind}" in caught.value.reason, data[:40]


def test_kinds_that_are_not_read_say_what_to_convert_them_to():
    for data in (boxes(b"heic", b"mif1"), b"\xff\x0a\x10\x10", b"<svg/>"):
        with pytest.raises(ItemError, match="which is not read: convert it to JPEG, PNG or AVIF"):
            render_image(data, [VIEW], MediaLimits())


def test_media_of_another_kind_say_of_which():
    wanted = {
        "a JPEG picture": encoded(picture(20, 20), "JPEG"),
        "a PNG picture": encoded(picture(20, 20), "PNG"),
        "a WebP picture": encoded(picture(20, 20), "WEBP"),
        "an AVIF picture": encoded(picture(20, 20), "AVIF"),
        "a TIFF picture": encoded(picture(20, 20), "TIFF"),
        "an MP4 or QuickTime clip": clip(3),
        "a Matroska or WebM clip": clip(3, container="matroska"),
        "an AVI clip": clip(3, "mpeg4", "avi"),
        "a WAV sound": sound(tone(440, 1, 16_000), 16_000),
        "a FLAC sound": sound(tone(440, 1, 16_000), 16_000, "flac", "flac"),
    }
    assert {kind: kind_of(data) for kind, data in wanted.items()} == {kind: kind for kind in wanted}
    with pytest.raises(ItemError, match=r"not an image that can be read: it is an MP4 or QuickTime clip$"):
        render_image(wanted["an MP4 or QuickTime clip"], [VIEW], MediaLimits())
    with pytest.raises(ItemError, match=r"not a clip that can be read: it is a PNG picture$"):
        render_clip(wanted["a PNG picture"], FrameSampling(), [VIEW], MediaLimits())


def test_a_damaged_file_of_the_wanted_kind_is_not_told_that_it_is_one():
    with pytest.raises(ItemError, match=r"not an image that can be read$"):
        render_image(encoded(picture(20, 20), "JPEG")[:20], [VIEW], MediaLimits())


def test_bytes_that_mean_nothing_are_not_given_a_name():
    assert kind_of(bytes(range(128, 256)) * 9) is None
