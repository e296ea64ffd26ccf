import io
import struct
import zlib

import numpy as np
import pytest
import torch
from helpers.media_samples import AS_IS, LIMITS, encoded, opened, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features
from torchvision.transforms import CenterCrop, InterpolationMode, Resize

from mmfeat.extract.modalities.decoders.image import render_image
from mmfeat.schemas.errors import ItemError
from mmfeat.schemas.inputs import PixelView
from mmfeat.schemas.media import MediaLimits

CLIP_VIEW = PixelView(mode="shortest", height=224, width=224, resize=224)
FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def rendered(data: bytes, view: PixelView = AS_IS, limits: MediaLimits = LIMITS) -> np.ndarray:
    frames = render_image(data, [view], limits)[0]
    assert frames.times == (0.0,)
    assert frames.pixels.dtype == np.uint8
    assert frames.pixels.flags.c_contiguous
    return frames.pixels[0]


def refusal(data: bytes, limits: MediaLimits = LIMITS) -> str:
    with pytest.raises(ItemError) as caught:
        render_image(data, [AS_IS], limits)
    assert caught.value.stage == "decode"
    return caught.value.reason


def resized(image: Image.Image, size: tuple[int, int], interpolation: str) -> Image.Image:
    """Pillow's resize, rows before columns: the one order of Pillow before 13."""
    rows = image.resize((size[0], image.height), FILTERS[interpolation])
    return rows.resize(size, FILTERS[interpolation])


def reference(pixels: np.ndarray, view: PixelView) -> np.ndarray:
    """The view as the models' own libraries make it from a Pillow image."""
    image = Image.fromarray(pixels)
    width, height = image.size
    if view.mode == "shortest":
        # torchvision decides the size and the crop; only the order of the passes is pinned.
        probe = Resize(view.resize)(Image.new("1", image.size))
        image = resized(image, probe.size, view.interpolation)
        return np.asarray(CenterCrop((view.height, view.width))(image))
    if view.mode == "squash":
        return np.asarray(resized(image, (view.width, view.height), view.interpolation))
    if view.mode == "pad":
        ratio = max(height / view.height, width / view.width)
        size = max(1, round(width / ratio)), max(1, round(height / ratio))
        canvas = Image.new("RGB", (view.width, view.height), view.fill)
        canvas.paste(
            resized(image, size, view.interpolation),
            ((view.width - size[0]) // 2, (view.height - size[1]) // 2),
        )
        return np.asarray(canvas)
    ratio = max(1, max(width, height) / view.height)
    size = max(1, round(width / ratio)), max(1, round(height / ratio))
    return np.asarray(resized(image, size, view.interpolation))


def assert_same(found: np.ndarray, wanted: np.ndarray, interpolation: str = "bicubic") -> None:
    assert found.shape == wanted.shape
    difference = np.abs(found.astype(int) - wanted)
    if interpolation in ("bicubic", "bilinear"):  # torch's kernel has 16-bit weights
        assert difference.max() <= 2
        # At a ratio of 5 to 4, for one, many values lie half way and are rounded the other way.
        assert difference.sum() <= max(3, 0.1 * difference.size)
    else:
        assert difference.max() == 0


@st.composite
def views(draw: st.DrawFn) -> PixelView:
    mode = draw(st.sampled_from(("shortest", "squash", "pad", "bound")))
    return PixelView(
        mode=mode,
        height=draw(st.integers(1, 96)),
        width=draw(st.integers(1, 96)),
        resize=draw(st.integers(1, 96)) if mode == "shortest" else None,
        interpolation=draw(st.sampled_from(sorted(FILTERS))),
        fill=draw(st.sampled_from(((0, 0, 0), (127, 3, 255)))),
    )


@settings(max_examples=150, deadline=None)
@given(
    size=st.one_of(
        st.tuples(st.integers(1, 300), st.integers(1, 300)),
        st.tuples(st.integers(1, 3), st.integers(1, 1500)),
        st.tuples(st.integers(1, 1500), st.integers(1, 3)),
    ),
    view=views(),
    seed=st.integers(0, 99),
)
def test_every_view_has_the_pixels_of_the_reference_whatever_the_shape(size, view, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert_same(
        rendered(encoded(pixels, "PNG"), view).astype(int), reference(pixels, view), view.interpolation
    )


@pytest.mark.parametrize("size", [(1080, 1600), (500, 333), (240, 427), (224, 224), (97, 41)])
def test_a_jpeg_through_the_fast_path_is_what_torchvision_makes_of_a_pillow_image(size):
    data = encoded(picture(*size), "JPEG", quality=90)
    transform = torch.nn.Sequential(
        Resize(224, interpolation=InterpolationMode.BICUBIC, antialias=True), CenterCrop(224)
    )
    found = rendered(data, CLIP_VIEW)
    assert_same(found, reference(np.asarray(opened(data)), CLIP_VIEW))
    # Whichever order of passes the installed Pillow takes for this shape.
    assert np.abs(found - np.asarray(transform(opened(data))).astype(int)).mean() < 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"quality": 35, "subsampling": 0},
        {"quality": 75, "subsampling": 1},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"optimize": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_every_kind_of_jpeg_decodes_to_pillows_pixels(options, mode):
    data = encoded(Image.fromarray(picture(125, 203)).convert(mode), "JPEG", **options)
    assert np.array_equal(rendered(data), np.asarray(opened(data).convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_every_other_kind_of_image_decodes_to_pillows_pixels(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    data = encoded(picture(61, 83), kind)
    assert np.array_equal(rendered(data), np.asarray(opened(data).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_exif_is_applied(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(picture(40, 70), kind, exif=exif, **options)
    assert np.array_equal(rendered(data), np.asarray(ImageOps.exif_transpose(opened(data)).convert("RGB")))
    size = (70, 40) if orientation >= 5 else (40, 70)
    assert rendered(data).shape == (*size, 3)


def test_only_the_first_frame_of_an_animation_is_taken():
    first, second = picture(30, 40, 1), picture(30, 40, 2)
    frames = {"save_all": True, "append_images": [Image.fromarray(second)]}
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        assert np.array_equal(rendered(encoded(first, kind, **frames, **options)), first)
    gif = encoded(first, "GIF", **frames)
    assert np.array_equal(rendered(gif), np.asarray(opened(gif).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB key"])
def test_transparent_pixels_are_white_and_opaque_ones_as_they_are(mode):
    image = Image.new("RGBA", (4, 2), (10, 20, 30, 255))
    image.putpixel((1, 0), (200, 0, 0, 0))
    options = {}
    if mode == "LA":
        image = image.convert("LA")
    elif mode == "P":
        image = Image.new("P", (4, 2), 0)
        image.putpalette([10, 20, 30, 200, 0, 0])
        image.putpixel((1, 0), 1)
        options = {"transparency": 1}
    elif mode == "RGB key":
        image = image.convert("RGB")
        options = {"transparency": (200, 0, 0)}
    found = rendered(encoded(image, "PNG", **options))
    assert found[0, 1].tolist() == [255, 255, 255]
    solid = [18, 18, 18] if mode == "LA" else [10, 20, 30]
    assert all(found[y, x].tolist() == solid for y in range(2) for x in range(4) if (y, x) != (0, 1))


def test_half_transparent_pixels_are_mixed_with_white():
    data = encoded(Image.new("RGBA", (1, 1), (0, 100, 200, 128)), "PNG")
    assert np.abs(rendered(data)[0, 0].astype(int) - [127, 177, 227]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_and_not_clipped(kind):
    grey = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    assert rendered(encoded(grey, kind))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_samples_without_a_defined_white_are_refused():
    assert "floating-point" in refusal(encoded(np.ones((2, 2), np.float32), "TIFF"))
    assert "32-bit" in refusal(encoded(np.full((2, 2), 1 << 20, np.int32), "TIFF"))


def test_inverted_cmyk_of_adobe_jpegs_is_shown_upright():
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    assert np.abs(rendered(data)[8, 8].astype(int) - [255, 0, 0]).max() < 12


def test_scaled_decoding_is_close_and_shared_views_keep_their_own_rule():
    data = encoded(picture(1400, 2100), "JPEG", quality=90)
    exact, scaled = CLIP_VIEW, CLIP_VIEW.model_copy(update={"jpeg": "scaled"})
    together = [f.pixels for f in render_image(data, [scaled, exact, scaled, AS_IS], LIMITS)]
    assert np.array_equal(together[0][0], rendered(data, scaled))
    assert np.array_equal(together[2], together[0])
    assert np.array_equal(together[1][0], rendered(data, exact))
    assert np.array_equal(together[3][0], np.asarray(opened(data)))
    difference = np.abs(together[0].astype(int) - together[1])
    assert 0 < difference.mean() < 4


@pytest.mark.parametrize(("side", "scale"), [(447, 1), (895, 1), (896, 2), (1792, 4), (3584, 8)])
def test_scaled_decoding_never_goes_below_twice_the_size_that_the_view_needs(side, scale, monkeypatch):
    data = encoded(Image.new("RGB", (side, side)), "JPEG")
    asked = []
    draft = Image.Image.load
    monkeypatch.setattr(Image.Image, "load", lambda self: (asked.append(self.size), draft(self))[1])
    rendered(data, CLIP_VIEW.model_copy(update={"jpeg": "scaled"}))
    sizes = {size for size in asked if size[0] > 224}
    if scale > 1:
        assert (side // scale, side // scale) in sizes
    assert all(size[0] >= 2 * 224 for size in sizes) or scale == 1


def test_scaled_decoding_turns_by_exif_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(1000, 2000), "JPEG", exif=exif)
    view = PixelView(mode="bound", height=200, width=200, jpeg="scaled")
    found = rendered(data, view)
    assert found.shape == (200, 100, 3)
    assert np.abs(found.astype(int) - rendered(data, view.model_copy(update={"jpeg": "exact"}))).mean() < 4


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("jpeg", ["exact", "scaled"])
def test_a_jpeg_cut_anywhere_is_an_error_and_never_a_grey_bottom(options, jpeg):
    data = encoded(picture(900, 1000), "JPEG", quality=80, **options)
    view = CLIP_VIEW.model_copy(update={"jpeg": jpeg})
    for kept in (0.3, 0.6, 0.9, 0.999):
        with pytest.raises(ItemError) as caught:
            render_image(data[: int(len(data) * kept)], [view], LIMITS)
        assert caught.value.reason.startswith("image is cut short"), kept


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_any_other_image_cut_in_the_middle_is_an_error(kind):
    data = encoded(picture(100, 100), kind)
    reason = refusal(data[: len(data) * 6 // 10])
    assert reason.startswith(("image is cut short", "image is damaged", "not an image"))


def test_what_is_no_image_says_so():
    assert refusal(b"") == "file is empty"
    assert refusal(b"<html>404</html>") == "not an image that can be read: it is an HTML page"
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"
    assert refusal(drawing) == "not an image that can be read: it is a PostScript document"
    assert refusal(encoded(picture(9, 9), "JPEG")[:20]) == "not an image that can be read"


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def test_too_many_pixels_are_refused_by_the_header():
    assert refusal(huge_png(20_000)) == (
        "too large: 20,000 x 20,000 pixels are 400.0 million, over the limit of 100.0 million"
    )
    assert "over the limit of 0.0 million" in refusal(huge_png(200), MediaLimits(image_pixels=39_999))
    raised = MediaLimits(image_pixels=500_000_000)
    assert not refusal(huge_png(20_000), raised).startswith("too large")
    assert refusal(b"x" * 2_000_000, MediaLimits(image_bytes=1_000_000)).startswith(
        "too large: file is 1.9 MB, over"
    )


def test_a_long_strip_is_rendered_within_bounded_memory():
    strip = picture(4, 60_000)
    found = rendered(encoded(strip, "PNG"), CLIP_VIEW)
    # The middle of the strip is all that the view shows.
    middle = strip[:, 29_980:30_020]
    wanted = resized(Image.fromarray(middle), (40 * 56, 224), "bicubic").crop((1008, 0, 1232, 224))
    assert np.abs(found.astype(int) - np.asarray(wanted)).mean() < 0.5


def test_pillows_own_limit_is_left_as_it_was():
    before = Image.MAX_IMAGE_PIXELS
    rendered(encoded(picture(9, 9), "PNG"))
    refusal(huge_png(20_000))
    assert before == Image.MAX_IMAGE_PIXELS


def test_a_reader_gets_bytes_of_any_buffer_without_changing_them():
    data = encoded(picture(50, 60), "JPEG")
    copy = bytes(data)
    rendered(data, CLIP_VIEW)
    assert data == copy
    assert opened(io.BytesIO(data).getvalue()).size == (60, 50)
