"""One image to one event: every format and mode, exact pixels where no filter stands between, and bad bytes."""

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from elbound.data.image import ImagePreprocessor, decode_and_look, decode_image, image_facts
from elbound.errors import DataError, DecodeError, LimitExceeded, SchemaError
from elbound.schema import ImageSchema, ResizeMode

Picture = Callable[..., bytes]
GREY = np.array([[0, 50, 100], [150, 200, 255]], np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=2)
DEEP = np.array([[0, 1, 256], [1000, 40_000, 65_535]], np.uint16)
EXACT = ("PNG", "BMP", "TIFF", "WEBP")


def schema(
    channels: int = 1, *, height: int = 2, width: int = 3, bits: int = 8, resize: ResizeMode = "fit"
) -> ImageSchema:
    return ImageSchema(height=height, width=width, channels=channels, bits=bits, resize=resize)  # type: ignore[arg-type]


def options(kind: str) -> dict[str, object]:
    return {"lossless": True} if kind == "WEBP" else {}


@pytest.mark.parametrize("kind", EXACT)
def test_lossless_formats_come_back_exactly(kind: str, picture: Picture) -> None:
    if kind != "WEBP":  # WebP has no grey
        np.testing.assert_array_equal(decode_image(picture(GREY, kind), schema()), GREY[None])
    found = decode_image(picture(COLOUR, kind, **options(kind)), schema(3))
    np.testing.assert_array_equal(found, COLOUR.transpose(2, 0, 1))
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable


def test_jpeg_comes_back_nearly(picture: Picture) -> None:
    flat = np.full((16, 16, 3), (200, 30, 90), np.uint8)
    found = decode_image(picture(flat, "JPEG", quality=95), schema(3, height=16, width=16))
    assert np.abs(found.astype(int) - flat.transpose(2, 0, 1)).max() <= 3


def test_grey_becomes_colour_and_colour_grey(picture: Picture) -> None:
    np.testing.assert_array_equal(decode_image(picture(GREY), schema(3)), np.stack([GREY] * 3))
    weights = np.array([299, 587, 114])
    expected = (COLOUR * weights).sum(2) / 1000
    assert np.abs(decode_image(picture(COLOUR), schema(1))[0] - expected).max() <= 1


def test_transparent_pixels_lie_on_white(picture: Picture) -> None:
    alpha = np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    white = np.where(alpha == 0, 255, GREY)
    for kind in ("PNG", "TIFF", "WEBP"):
        rgba = picture(np.dstack([COLOUR, alpha]), kind, **options(kind))
        expected = np.where(alpha[..., None] == 0, 255, COLOUR)
        np.testing.assert_array_equal(decode_image(rgba, schema(3)), expected.transpose(2, 0, 1))
    la = picture(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(alpha)]))
    np.testing.assert_array_equal(decode_image(la, schema(1)), white[None])
    half = np.dstack([np.zeros((2, 3, 3), np.uint8), np.full((2, 3), 128, np.uint8)])
    assert set(decode_image(picture(half), schema(3)).ravel().tolist()) == {127}


def test_palettes_with_and_without_transparency(picture: Picture) -> None:
    palette = Image.fromarray(np.array([[0, 1, 2], [2, 1, 0]], np.uint8))
    palette = palette.convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    red, green, blue = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    plain = np.array([[red, green, blue], [blue, green, red]])
    np.testing.assert_array_equal(decode_image(picture(palette), schema(3)), plain.transpose(2, 0, 1))
    for transparency in (1, bytes([255, 0, 255])):
        seen = decode_image(picture(palette, transparency=transparency), schema(3))
        expected = np.where((plain == green).all(2, keepdims=True), 255, plain)
        np.testing.assert_array_equal(seen, expected.transpose(2, 0, 1))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_one_bit_images_are_black_and_white(kind: str, picture: Picture) -> None:
    bits = Image.fromarray(np.array([[0, 255, 0], [255, 255, 0]], np.uint8)).convert("1")
    np.testing.assert_array_equal(decode_image(picture(bits, kind), schema(1)), [[[0, 255, 0], [255, 255, 0]]])


def test_cmyk_becomes_rgb(picture: Picture) -> None:
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    for kind in ("TIFF", "JPEG"):
        found = decode_image(picture(ink, kind), schema(3, height=8, width=8))
        assert np.abs(found.astype(int) - np.array([0, 255, 255]).reshape(3, 1, 1)).max() <= 4


TURNED = {
    1: GREY, 2: GREY[:, ::-1], 3: GREY[::-1, ::-1], 4: GREY[::-1], 5: GREY.T, 6: np.rot90(GREY, 1),
    7: GREY[::-1, ::-1].T, 8: np.rot90(GREY, -1),
}  # fmt: skip
"""Pixels as they are stored, so that a reader who obeys the orientation sees GREY."""


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("deep", [False, True])
def test_exif_rotation_is_applied(orientation: int, kind: str, deep: bool, picture: Picture) -> None:
    if deep and kind == "WEBP":
        return
    stored = np.ascontiguousarray(TURNED[orientation]).astype(np.uint16 if deep else np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = picture(stored, kind, exif=exif, **options(kind))
    np.testing.assert_array_equal(decode_image(data, schema(1, bits=16 if deep else 8)), GREY[None])
    assert image_facts(data) == (2, 3, False, deep)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_are_kept_scaled_and_repeated(kind: str, picture: Picture) -> None:
    data = picture(DEEP, kind)
    found = decode_image(data, schema(1, bits=16))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, DEEP[None])
    np.testing.assert_array_equal(decode_image(data, schema(3, bits=16)), np.stack([DEEP] * 3))
    eight = np.array([[0, 0, 1], [4, 156, 255]])
    np.testing.assert_array_equal(decode_image(data, schema(1)), eight[None])
    np.testing.assert_array_equal(decode_image(data, schema(3)), np.stack([eight] * 3))
    assert image_facts(data) == (2, 3, False, True)


def test_big_endian_tiff_of_sixteen_bits(picture: Picture) -> None:
    data = picture(Image.frombytes("I;16B", (3, 2), DEEP.astype(">u2").tobytes()), "TIFF")
    assert data[:2] == b"MM"
    np.testing.assert_array_equal(decode_image(data, schema(1, bits=16)), DEEP[None])


def test_eight_bits_fill_sixteen(picture: Picture) -> None:
    found = decode_image(picture(GREY), schema(1, bits=16))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, GREY[None].astype(int) * 257)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.fromarray(GREY.astype(np.int32)), "32-bit or signed integers are not read, .*; write 8 or 16 bits"),
        (Image.fromarray(DEEP.astype(np.int32)), "32-bit or signed integers are not read"),
        (Image.fromarray(np.ones((2, 3), np.float32)), "floating-point pixels are not read; write 8 or 16 bits"),
        (Image.frombytes("LAB", (3, 2), COLOUR.tobytes()), "LAB is not read; convert to RGB"),
    ],
)
def test_pixels_without_a_certain_scale_are_refused(image: Image.Image, message: str, picture: Picture) -> None:
    for read in (lambda data: decode_image(data, schema()), lambda data: decode_image(data, schema(3)), image_facts):
        with pytest.raises(DecodeError, match=f"^{message}") as caught:
            read(picture(image, "TIFF"))
        assert caught.value.code == "image_unreadable"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_other_mode_of_tiff_is_read(mode: str, picture: Picture) -> None:
    grey = np.array([[0, 255, 0], [255, 255, 0]], np.uint8)
    deep, colour = Image.fromarray(grey.astype(np.uint16) * 257), Image.fromarray(grey).convert("RGB")
    data = picture(deep if mode == "I;16" else colour.convert(mode), "TIFF")
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == mode
    assert np.abs(decode_image(data, schema()).astype(int) - grey).max() <= 3


def test_a_look_has_size_copies_and_two_values(picture: Picture) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:9, 4:12] = 255
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    cases = [
        (mask, True), (mask // 255, True), (np.stack([mask] * 3, 2), True), (mask.astype(np.uint16) * 257, True),
        (Image.fromarray(mask).convert("1"), True), (noise, False), (noise.astype(np.uint16)[..., 0] * 9, False),
        (np.full((20, 30), 255, np.uint8), False), (mask[2:12, 3:13], False),
    ]  # fmt: skip
    for pixels, two_valued in cases:
        for channels in (1, 3):
            data = picture(pixels)
            wanted = schema(channels, height=5, width=7)
            found, look = decode_and_look(data, wanted)
            np.testing.assert_array_equal(found, decode_image(data, wanted))
            size = pixels.size[::-1] if isinstance(pixels, Image.Image) else pixels.shape[:2]
            assert (look.height, look.width) == size
            assert look.two_valued == two_valued
    digests = [decode_and_look(picture(noise, kind), wanted)[1].digest for kind in ("PNG", "PNG", "BMP")]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str, picture: Picture) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1])]
    data = picture(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DecodeError, match="holds several frames; write one file a frame") as caught:
        decode_image(data, schema(3))
    assert caught.value.code == "image_frames"
    assert decode_image(picture(frames[0], kind, save_all=True, append_images=[]), schema(3)).shape == (3, 2, 3)


def test_the_preview_of_a_phones_jpeg_is_passed_over(picture: Picture) -> None:
    flat, preview = Image.new("RGB", (8, 8), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    data = picture(flat, "MPO", save_all=True, append_images=[preview])
    found = decode_image(data, schema(3, height=8, width=8))
    assert found[0].min() > 250
    assert found[2].max() < 5


@pytest.mark.parametrize(
    ("data", "inside"),
    [
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00", "HEIC; convert it to PNG or JPEG"),
        (b"\x00\x00\x00\x18ftypavif\x00\x00\x00\x00", "AVIF; convert it to PNG or JPEG"),
        (b"\x00\x00\x00\x18ftypisom\x00\x00\x00\x00", "a video; export its frames as PNG"),
        (b"GIF89a\x01\x00\x01\x00", "a GIF; convert it to PNG or JPEG"),
        (b"%PDF-1.7", "a PDF; export its pictures as PNG"),
        (b"\x1f\x8b\x08\x00", "packed by gzip; unpack it first"),
        (b"  <!DOCTYPE HTML><html>", "a page of HTML, as a failed download leaves it"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; fetch the file with: git lfs pull"),
        (bytes(128) + b"DICM", "DICOM; convert it to 16-bit PNG"),
    ],
)
def test_a_file_of_another_kind_is_named_for_what_it_is(data: bytes, inside: str) -> None:
    with pytest.raises(DecodeError, match=f"not an image in PNG, .* format; inside it is {inside}$"):
        decode_image(data, schema())


def test_a_tiff_of_pixels_that_pillow_does_not_know_is_said(picture: Picture) -> None:
    data = bytearray(picture(GREY, "TIFF"))
    place = data.index(struct.pack("<HHI", 258, 3, 1))
    data[place + 8 : place + 10] = struct.pack("<H", 24)  # bits of a pixel
    with pytest.raises(
        DecodeError, match="the TIFF is broken, or its pixels are of a kind that is not read; write grey"
    ):
        decode_image(bytes(data), schema())


@pytest.mark.parametrize("kind", ["GIF", "ICO", "PPM", "TGA", "PCX"])
def test_other_formats_are_not_read(kind: str, picture: Picture) -> None:
    with pytest.raises(DecodeError, match="not an image in PNG, JPEG, WebP, BMP or TIFF format"):
        decode_image(picture(Image.new("RGB", (32, 32)), kind), schema(3))
    frames = {"save_all": True, "append_images": [Image.new("RGB", (32, 32), "red")]} if kind == "GIF" else {}
    with pytest.raises(DecodeError, match="not an image"):
        image_facts(picture(Image.new("RGB", (32, 32)), kind, **frames))


def bomb(width: int, height: int) -> bytes:
    """A PNG that announces any size and holds nothing."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    start = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "height"), [(8_001, 8_000), (10_000, 10_000), (50_000, 50_000), (2**31 - 1, 2**31 - 1)]
)
def test_too_many_pixels_are_refused_before_they_are_decoded(width: int, height: int) -> None:
    for read in (lambda data: decode_image(data, schema()), image_facts):
        with pytest.raises(LimitExceeded) as caught:
            read(bomb(width, height))
        assert caught.value.code == "image_too_large"


def test_the_limit_of_pixels_is_exact(picture: Picture) -> None:
    assert decode_image(picture(GREY), schema(), max_pixels=6).shape == (1, 2, 3)
    with pytest.raises(LimitExceeded, match="3 x 2 pixels; at most 5 are read"):
        decode_image(picture(GREY), schema(), max_pixels=5)


@pytest.mark.parametrize("resize", ["fit", "crop", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(1, 500), (500, 1), (1, 1), (7, 5), (64, 64), (3000, 2)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_shape_becomes_that_of_the_schema(
    resize: ResizeMode, height: int, width: int, channels: int, picture: Picture
) -> None:
    for target in ((16, 24), (1, 64), (64, 1), (1, 1)):
        wanted = schema(channels, height=target[0], width=target[1], resize=resize)
        eight = decode_image(picture(np.full((height, width), 200, np.uint8)), wanted)
        deep = decode_image(picture(np.full((height, width), 51_400, np.uint16)), wanted)
        assert eight.shape == deep.shape == (channels, *target)
        np.testing.assert_array_equal(eight, deep)
        assert eight.max() == 200  # an image so thin that it would vanish keeps a line of pixels
        assert resize == "fit" or eight.min() == 200


def test_fit_pads_crop_cuts_and_stretch_bends(picture: Picture) -> None:
    wide = np.tile(np.array([[10, 10, 10, 10, 250, 250, 250, 250]], np.uint8), (4, 1))
    fit, crop, stretch = (
        decode_image(picture(wide), schema(1, height=4, width=4, resize=resize))[0]
        for resize in ("fit", "crop", "stretch")
    )
    np.testing.assert_array_equal(fit[[0, 3]], 0)
    assert (fit[1:3] > 0).all()
    assert (np.diff(fit[1:3].astype(int), axis=1) >= 0).all()
    np.testing.assert_array_equal(crop, wide[:, 2:6])
    assert stretch[:, 0].max() < 60
    assert stretch[:, 3].min() > 200


def test_facts_are_size_colour_and_depth(picture: Picture) -> None:
    assert image_facts(picture(GREY)) == (2, 3, False, False)
    assert image_facts(picture(np.dstack([GREY] * 3))) == (2, 3, False, False)
    assert image_facts(picture(COLOUR)) == (2, 3, True, False)
    with pytest.raises(DecodeError):
        image_facts(picture(np.random.default_rng(0).integers(0, 65_536, (90, 90), np.uint16))[:9_000])


def test_many_files_are_items_and_the_bad_ones_errors(picture: Picture) -> None:
    files = [
        picture(GREY),
        b"",
        b"no image",
        picture(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8))[:3000],
        picture(GREY),
    ]
    items = ImagePreprocessor(schema()).to_tensor(files, names=list("abcde"))
    assert items.x.dtype == torch.uint8
    assert items.x.tolist() == [[GREY.tolist()]] * 2
    assert items.index.tolist() == [0, 4]
    assert items.n == 5
    assert items.names == list("abcde")
    assert {i: (error.code, error.where) for i, error in items.errors.items()} == {
        1: ("image_empty", "b"), 2: ("image_unreadable", "c"), 3: ("image_truncated", "d"),
    }  # fmt: skip
    too_large = ImagePreprocessor(schema()).to_tensor([picture(GREY)], max_pixels=5)
    assert (too_large.errors[0].code, too_large.errors[0].where) == ("image_too_large", None)
    assert ImagePreprocessor(schema()).to_tensor([]).x.shape == (0, 1, 2, 3)


@pytest.mark.parametrize(("channels", "bits"), [(1, 8), (3, 8), (1, 16), (3, 16)])
def test_arrays_are_images_of_the_schemas_size(channels: int, bits: int) -> None:
    top = 2**bits - 1
    array = np.arange(2 * 6 * channels).reshape((2, 2, 3, channels)) * (top // 36)
    expected = array.transpose(0, 3, 1, 2)
    preprocessor = ImagePreprocessor(schema(channels, bits=bits))
    kinds = ("u1", "i8") if bits == 8 else (">u2", "<i4")
    for kind in kinds:
        x = preprocessor.array_to_tensor(np.asfortranarray(array.astype(kind))).only()
        assert x.dtype == preprocessor.dtype
        np.testing.assert_array_equal(x.numpy(), expected)
        if channels == 1:
            np.testing.assert_array_equal(preprocessor.array_to_tensor(array[..., 0].astype(kind)).x.numpy(), expected)
    assert preprocessor.array_to_tensor(np.zeros((0, 2, 3, channels), np.uint8)).n == 0


def test_arrays_of_another_shape_or_range_are_refused() -> None:
    preprocessor = ImagePreprocessor(schema(1))
    for shape in ((2, 3), (1, 3, 2), (1, 2, 3, 3), (1, 2, 3, 1, 1), ()):
        with pytest.raises(SchemaError, match=r"expected an array of shape \('n', 2, 3\), but got \("):
            preprocessor.array_to_tensor(np.zeros(shape, np.uint8))
    for array in (np.full((1, 2, 3), 256), np.full((1, 2, 3), -1), np.zeros((1, 2, 3)), np.zeros((1, 2, 3), bool)):
        with pytest.raises(SchemaError, match="expected whole numbers from 0 to 255, but got dtype"):
            preprocessor.array_to_tensor(array)
    with pytest.raises(SchemaError, match=r"expected an array of shape \('n', 2, 3, 3\)"):
        ImagePreprocessor(schema(3)).array_to_tensor(np.zeros((1, 2, 3), np.uint8))


def test_a_tensor_becomes_pixels_again() -> None:
    x = torch.from_numpy(GREY)[None, None]
    np.testing.assert_array_equal(ImagePreprocessor(schema()).from_tensor(x), GREY[None])
    deep = torch.from_numpy(DEEP.astype(np.int32))[None, None]
    pixels = ImagePreprocessor(schema(1, bits=16)).from_tensor(deep)
    np.testing.assert_array_equal(pixels, [[[0, 0, 1], [4, 156, 255]]])
    colour = torch.from_numpy(COLOUR.transpose(2, 0, 1).copy())[None]
    np.testing.assert_array_equal(ImagePreprocessor(schema(3)).from_tensor(colour), COLOUR[None])


def test_threads_decode_side_by_side_and_leave_the_warnings_alone(picture: Picture) -> None:
    draw = np.random.default_rng(0)
    pixels = [draw.integers(0, 256, (40, 30, 3), np.uint8) for _ in range(20)]
    files = [picture(image, kind, **options(kind)) for image in pixels for kind in ("PNG", "TIFF", "WEBP")]
    wanted = schema(3, height=40, width=30)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda data: decode_image(data, wanted), files * 5))
    assert warnings.filters == before
    for place, image in enumerate(found):
        np.testing.assert_array_equal(image, pixels[place % len(files) // 3].transpose(2, 0, 1))


def survives(data: bytes) -> None:
    with warnings.catch_warnings(), suppress(DataError):
        warnings.simplefilter("ignore")  # Pillow warns of metadata that it passes over
        assert decode_image(data, schema(3, height=4, width=4), max_pixels=100_000).shape == (3, 4, 4)
    with warnings.catch_warnings(), suppress(DataError):
        warnings.simplefilter("ignore")
        assert len(image_facts(data, max_pixels=100_000)) == 4


@pytest.fixture(scope="module")
def valid(picture: Picture) -> dict[str, bytes]:
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (11, 13, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "PNG": picture(noise, "PNG", exif=exif),
        "P": picture(noise.convert("P"), "PNG", transparency=3),
        "APNG": picture(noise, "PNG", save_all=True, append_images=[noise.rotate(90)]),
        "16": picture(DEEP, "PNG"),
        "JPEG": picture(noise, "JPEG", exif=exif),
        "progressive": picture(noise, "JPEG", progressive=True),
        "MPO": picture(noise, "MPO", save_all=True, append_images=[noise]),
        "WEBP": picture(noise, "WEBP", exif=exif),
        "BMP": picture(noise, "BMP"),
        "TIFF": picture(noise, "TIFF", exif=exif),
        "LZW": picture(noise, "TIFF", compression="tiff_lzw"),
        "pages": picture(noise, "TIFF", save_all=True, append_images=[noise, noise]),
    }


KINDS = ("PNG", "P", "APNG", "16", "JPEG", "progressive", "MPO", "WEBP", "BMP", "TIFF", "LZW", "pages")


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_cut_anywhere_raises_data_errors_only(kind: str, valid: dict[str, bytes]) -> None:
    data = valid[kind]
    for end in range(min(len(data), 1024)):
        survives(data[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_with_a_flipped_byte_raises_data_errors_only(kind: str, valid: dict[str, bytes]) -> None:
    data = valid[kind]
    draw = np.random.default_rng(0)
    for place in range(min(len(data), 1024)):
        flipped = bytearray(data)
        flipped[place] ^= int(draw.integers(1, 256))
        survives(bytes(flipped))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"BM", b"RIFF\x10\x00\x00\x00WEBP"]
    ),
    st.binary(max_size=200),
)
def test_random_bytes_raise_data_errors_only(start: bytes, data: bytes) -> None:
    survives(start + data)


def test_a_cut_image_is_never_half_an_image(picture: Picture) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for kind in ("PNG", "JPEG", "BMP", "WEBP"):
        data = picture(noise, kind)
        with pytest.raises(DecodeError) as caught:
            decode_image(data[: len(data) // 2], schema(3))
        assert caught.value.code in ("image_truncated", "image_unreadable")


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "L", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_large_images_are_decoded_in_strips_to_the_same_pixels(mode: str, channels: int, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(3)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65_536, (37, 23), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (37, 23, 4), dtype=np.uint8), "RGBA").convert(mode)
    sink = io.BytesIO()
    options = {"transparency": 3} if mode == "P" else {}
    image.save(sink, "TIFF" if mode in ("CMYK", "PA") else "PNG", **options)
    data, schema = sink.getvalue(), ImageSchema(height=37, width=23, channels=channels)
    monkeypatch.setattr("elbound.data.image.STRIP_PIXELS", 100)
    found = decode_image(data, schema)
    with Image.open(io.BytesIO(data)) as whole:
        if mode == "I;16":
            expected = np.rint(np.asarray(whole).astype(np.float32) / 257)[..., None].repeat(channels, 2)
        else:
            if whole.has_transparency_data:
                page = Image.new("RGBA", whole.size, "white")
                page.alpha_composite(whole.convert("RGBA"))
            else:
                page = whole
            pixels = np.asarray(page.convert("L" if channels == 1 else "RGB"))
            expected = pixels.reshape(37, 23, channels)
    np.testing.assert_array_equal(found, expected.transpose(2, 0, 1))
