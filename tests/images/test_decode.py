"""Decoding: every mode by its stated rule, every fault by its name."""

from __future__ import annotations

import io
import struct
import sys
import threading
import types
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from simcore.errors import UsageError
from simcore.images import Limits, Refused, Unreadable, decode, open_images

T = Image.Transpose
STORED_AS = {
    1: (), 2: (T.FLIP_LEFT_RIGHT,), 3: (T.ROTATE_180,), 4: (T.FLIP_TOP_BOTTOM,),
    5: (T.TRANSPOSE,), 6: (T.ROTATE_90,), 7: (T.TRANSVERSE,), 8: (T.ROTATE_270,), 99: (), 0: (),
}  # fmt: skip


def reason_of(data: bytes, kind: type[Exception] = Unreadable, **options: object) -> str:
    with pytest.raises(kind) as caught:
        decode(data, **options)
    return caught.value.reason


# ------------------------------------------------------------------------------------------------ faults


def test_faults_of_a_dirty_folder_have_their_own_reasons(make):
    whole = make.encode(make.noise(), "JPEG", quality=90)
    assert "truncated" in reason_of(whole[: len(whole) // 2])
    assert "empty" in reason_of(b"")
    assert "not an image" in reason_of(b"<!doctype html><title>404</title>")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0" * 5000, "null bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"),
        (b"%PDF-1.4 ...", "PDF"),
        (b'{"error": "not found"}', "not an image"),
        (b"BMW is a car maker from Munich and no bitmap", "not an image"),
        (b"Python is no PPM", "not an image"),
        (b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100), "HEIC"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + bytes(200), "not an image"),
        (np.random.default_rng(3).bytes(4000), "not an image"),
        (b"\xff", "truncated"),
        (b"\x89PNG\r\n", "truncated"),
    ],
)
def test_what_is_no_image_is_called_so(data, words):
    assert words in reason_of(data)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "JPEG2000", "PPM"])
def test_a_file_cut_anywhere_is_truncated(make, fmt):
    picture = Image.fromarray(make.noise(1, 48, 40))
    whole = make.encode(picture.convert("P") if fmt == "GIF" else picture, fmt)
    decode(whole)
    for length in np.linspace(1, len(whole) - (40 if fmt == "GIF" else 1), 40).astype(int):
        reason = reason_of(whole[:length])
        assert "truncated" in reason or (fmt not in ("JPEG", "PNG") and length < 40), (length, reason)


@pytest.mark.parametrize("options", [{"progressive": True}, {"optimize": True}, {"restart_marker_rows": 1}])
def test_cut_jpegs_of_every_build_are_truncated(make, options):
    whole = make.encode(make.noise(2), "JPEG", **options)
    decode(whole)
    for share in (0.1, 0.5, 0.9, 0.999):
        assert "truncated" in reason_of(whole[: int(len(whole) * share)])


def test_a_jpeg_whose_tail_was_never_written_is_not_passed_as_whole(make):
    whole = make.encode(make.noise(3), "JPEG", quality=90)
    assert reason_of(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2)).startswith(
        ("truncated", "damaged")
    )


def test_a_flipped_bit_in_a_png_is_noticed(make):
    whole = bytearray(make.encode(make.noise(4, 32, 32)))
    for at in (20, 60, len(whole) // 2, len(whole) - 20):
        damaged = whole.copy()
        damaged[at] ^= 0x10
        assert "damaged" in reason_of(bytes(damaged))


def test_trailing_garbage_is_harmless(make):
    for fmt in ("JPEG", "PNG"):
        whole = make.encode(make.pixels(), fmt)
        assert np.array_equal(decode(whole + b"garbage" * 100).pixels, decode(whole).pixels)


def test_limits_are_stated_in_the_refusal(make):
    png = make.png(width=50, height=20)
    assert "max_pixels" in reason_of(png, Refused, limits=Limits(max_pixels=999))
    assert "max_bytes" in reason_of(png, Refused, limits=Limits(max_bytes=10))
    assert "max_aspect" in reason_of(png, Refused, limits=Limits(max_aspect=2.4))
    assert decode(png, limits=Limits(max_pixels=1000, max_aspect=2.5)).width == 50
    with pytest.raises(UsageError):
        Limits(max_pixels=0)


def test_sources_take_their_limits_from_the_environment(make, tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(make.png(width=50, height=20))
    usual = open_images(tmp_path)
    assert usual.limits == Limits()
    assert usual.decode(0).width == 50

    monkeypatch.setenv("SIMCORE_MAX_PIXELS", "999")
    narrow = open_images(tmp_path)
    assert narrow.limits == Limits(max_pixels=999)
    with pytest.raises(Refused, match=r"1,000 pixels, above the limit of 999.*SIMCORE_MAX_PIXELS"):
        narrow.decode(0)
    assert narrow.fingerprint != usual.fingerprint
    assert (narrow + usual).limits == Limits(), "what either takes"

    monkeypatch.setenv("SIMCORE_MAX_PIXELS", "1000")
    monkeypatch.setenv("SIMCORE_MAX_ASPECT", "2.5")
    assert open_images(tmp_path).decode(0).width == 50


@pytest.mark.parametrize(
    ("name", "value"), [("MAX_BYTES", "1e9"), ("MAX_PIXELS", "many"), ("MAX_PIXELS", "0"), ("MAX_ASPECT", "nan")]
)
def test_a_limit_that_is_none_is_named(tmp_path, make, monkeypatch, name, value):
    (tmp_path / "a.png").write_bytes(make.png())
    monkeypatch.setenv(f"SIMCORE_{name}", value)
    with pytest.raises(UsageError, match=f"SIMCORE_{name} is '?{value}"):
        open_images(tmp_path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and holds nearly nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(30_000, 30_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_before_decoding(size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "max_pixels" in reason_of(png_header(*size), Refused)


def test_needles_are_refused_and_thin_pictures_are_not(make):
    flat = Image.new("RGB", (1, 60_000), (200, 30, 60))
    assert "max_aspect" in reason_of(make.encode(flat), Refused)
    for size in ((1, 1), (1, 300), (300, 1), (400, 3), (3, 400)):
        found = decode(make.encode(Image.new("RGB", size, (200, 30, 60))))
        assert (found.width, found.height) == size
        assert found.pixels.shape == (size[1], size[0], 3)
        assert (found.pixels == (200, 30, 60)).all()


def test_pillow_is_left_as_it_was_and_stays_silent(make):
    before = Image.MAX_IMAGE_PIXELS
    odd = Image.new("P", (8, 8))
    odd.putpalette(list(range(256)) * 3)
    transparent = make.encode(odd, "PNG", transparency=bytes(range(0, 256)))
    exif = b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x03\0\xff\xff\xff\xff\x06\0\0\0" * 3
    broken_exif = make.encode(make.pixels(), "JPEG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(transparent)
        decode(broken_exif)
    assert before == Image.MAX_IMAGE_PIXELS


def test_threads_leave_the_warning_filters_as_they_were(make):
    data = make.jpeg()
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [decode(data) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


# ------------------------------------------------------------------------------------------------ pixels


def test_format_is_told_by_content(make):
    assert decode(make.encode(Image.fromarray(make.pixels()).convert("P"), "GIF")).format == "GIF"


def test_rgb_is_exact_and_writable(make):
    pixels = make.pixels(7)
    found = decode(make.encode(pixels))
    assert np.array_equal(found.pixels, pixels)
    assert found.pixels.flags.writeable
    assert found.pixels.flags.c_contiguous
    assert found.pixels.dtype == np.uint8


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_divided_by_257(make, fmt):
    ramp = np.linspace(1000, 62000, 64 * 64).reshape(64, 64).round().astype(np.uint16)
    found = decode(make.encode(Image.fromarray(ramp), fmt)).pixels
    assert np.array_equal(found[:, :, 0], np.floor(ramp / 257.0 + 0.5))
    assert (found[:, :, :1] == found).all()
    twelve_bit = np.linspace(0, 4095, 4096).reshape(64, 64).astype(np.uint16)
    assert decode(make.encode(Image.fromarray(twelve_bit), fmt)).pixels.max() == 16


def test_big_endian_sixteen_bit_tiff(make):
    ramp = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    image = Image.frombytes("I;16B", (32, 32), ramp.astype(">u2").tobytes())
    found = decode(make.encode(image, "TIFF")).pixels
    assert np.array_equal(found[:, :, 0], np.floor(ramp / 257.0 + 0.5))


def grey_tiff(samples: np.ndarray, *, photometric: int = 1, sample_format: int = 1) -> bytes:
    """A TIFF of one uncompressed strip, little-endian, written field by field."""
    data, (height, width) = samples.tobytes(), samples.shape
    start = 8 + 2 + 12 * 9 + 4
    fields = [(256, width), (257, height), (258, samples.itemsize * 8), (259, 1), (262, photometric), (273, start)]
    fields += [(278, height), (279, len(data)), (339, sample_format)]
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in fields)
    return b"II*\0" + struct.pack("<IH", 8, len(fields)) + entries + bytes(4) + data


@pytest.mark.parametrize(
    ("dtype", "scale", "sample_format"),
    [("<u1", 1, 1), ("<u2", 257, 1), ("<i2", 128, 2), ("<u4", 257, 1), ("<i4", 257, 2), ("<f4", 1 / 255, 3)],
)
def test_grey_tiffs_of_every_sample_type(dtype, scale, sample_format):
    levels = np.arange(256).reshape(16, 16)
    found = decode(grey_tiff((levels * scale).astype(dtype), sample_format=sample_format)).pixels[:, :, 0]
    want = levels // 2 if dtype == "<i2" else levels  # half of the 16-bit range
    assert np.abs(found.astype(int) - want).max() <= 1


@pytest.mark.parametrize(("dtype", "scale"), [("<u1", 1), ("<u2", 257)])
def test_tiffs_that_store_white_as_zero(dtype, scale):
    levels = np.arange(256).reshape(16, 16)
    found = decode(grey_tiff((levels * scale).astype(dtype), photometric=0)).pixels[:, :, 0]
    assert np.array_equal(found, 255 - levels)


def test_a_variant_that_pillow_does_not_read_is_called_unsupported():
    assert "unsupported" in reason_of(grey_tiff(np.zeros((4, 4), "<f8"), sample_format=3))


@pytest.mark.parametrize(
    ("data", "want"),
    [
        (b"P5 2 1 1023\n" + struct.pack(">HH", 0, 1023), [0, 255]),
        (b"P5 2 1 65535\n" + struct.pack(">HH", 257, 514), [1, 2]),
        (b"P2\n# comment\n2 1\n255\n7 8\n", [7, 8]),
        (b"P4 2 1\n\x80", [0, 255]),
        (b"P6 2 1 65535\n" + struct.pack(">6H", *[257] * 3, *[65535] * 3), [1, 255]),
    ],
)
def test_portable_maps(data, want):
    assert decode(data).pixels[0, :, 1].tolist() == want


def test_stereo_jpegs_give_their_first_picture(make):
    first, second = Image.fromarray(make.pixels(1)), Image.fromarray(make.pixels(2))
    data = make.encode(first, "MPO", save_all=True, append_images=[second], quality=95)
    found = decode(data).pixels.astype(int)
    assert np.abs(found - np.asarray(first)).mean() < 4
    assert np.abs(found - np.asarray(second)).mean() > 20


def test_sixteen_bit_colour_keeps_its_levels():
    levels = np.arange(256, dtype=np.uint16) * 257
    rows = levels.reshape(16, 16).astype(">u2")
    body = b"".join(b"\0" + np.repeat(row[:, None], 3, axis=1).tobytes() for row in rows)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")
    assert np.array_equal(decode(png).pixels[:, :, 1].ravel(), np.arange(256))


@pytest.mark.parametrize(("full", "dtype"), [(1.0, "F"), (255.0, "F"), (65535.0, "F"), (65535.0, "I")])
def test_wide_modes_use_a_conventional_full_scale(make, full, dtype):
    share = np.linspace(0, 1, 256).reshape(16, 16)
    values = (share * full).astype(np.float32 if dtype == "F" else np.int32)
    found = decode(make.encode(Image.fromarray(values), "TIFF")).pixels[:, :, 0]
    assert np.abs(found - share * 255).max() <= 0.51


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "I;16", "CMYK", "F"])
def test_large_pictures_are_converted_in_strips(make, monkeypatch, mode):
    image = Image.fromarray(make.pixels(2, width=61, height=97, channels=4 if mode in ("RGBA", "CMYK") else 3))
    if mode in ("LA", "I;16", "F"):
        image = image.convert("L").convert(mode)
    elif image.mode != mode:
        image = image.convert(mode)
    data = make.encode(image, "TIFF")
    whole = decode(data).pixels
    monkeypatch.setattr("simcore.images.pixels.STRIP_PIXELS", 500)
    assert np.array_equal(decode(data).pixels, whole)


def test_values_outside_the_scale_are_clipped(make):
    floats = np.array([[-5.0, np.nan], [0.5, np.inf]], np.float32)
    assert decode(make.encode(Image.fromarray(floats), "TIFF")).pixels[0, 0].tolist() == [0, 0, 0]
    integers = np.array([[-7, 0], [70_000, 65_535]], np.int32)
    assert decode(make.encode(Image.fromarray(integers), "TIFF")).pixels[:, :, 0].tolist() == [[0, 0], [255, 255]]


def test_alpha_is_composed_on_white(make):
    pixels = make.pixels(1, channels=4)
    pixels[:, :16, 3] = 0
    pixels[:, 24:, 3] = 255
    alpha = pixels[:, :, 3:].astype(float) / 255
    want = pixels[:, :, :3] * alpha + 255 * (1 - alpha)
    for fmt, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {})):
        found = decode(make.encode(Image.fromarray(pixels), fmt, **options)).pixels
        assert np.abs(found - want).max() <= 1, fmt
    opaque = pixels.copy()
    opaque[:, :, 3] = 255
    assert np.array_equal(decode(make.encode(opaque)).pixels, pixels[:, :, :3])


def test_transparent_colours_and_palettes_show_white(make):
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    found = decode(make.encode(grey, transparency=5)).pixels
    assert found[0, 5].tolist() == [255, 255, 255]
    assert found[0, 6].tolist() == [6, 6, 6]
    wide = grey.astype(np.uint16) * 1000
    found = decode(make.encode(Image.fromarray(wide), transparency=5000)).pixels
    assert found[0, 5].tolist() == [255, 255, 255]
    palette = Image.fromarray(grey, "L").convert("P")
    found = decode(make.encode(palette, "GIF", transparency=7)).pixels
    assert found[0, 7].tolist() == [255, 255, 255]
    two = np.dstack([grey, np.where(grey < 32, 0, 255).astype(np.uint8)])
    found = decode(make.encode(Image.fromarray(two, "LA"))).pixels
    assert (found[:4] == 255).all()
    assert found[7, 7].tolist() == [63, 63, 63]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA", "CMYK", "YCbCr", "LAB", "RGBX", "I;16", "F"])
def test_every_mode_gives_its_colours(make, mode):
    colours = Image.fromarray(make.pixels(3))
    gray = mode in ("L", "LA", "PA", "I;16", "F", "1")
    wanted = np.asarray((colours.convert("L") if gray else colours).convert("RGB")).astype(int)
    if mode == "LAB":
        to_lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(colours, to_lab)
    elif mode == "I;16":
        image = Image.fromarray(np.asarray(colours.convert("L")).astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(np.asarray(colours.convert("L")).astype(np.float32) / 255)
    else:
        image = (colours.convert("L") if gray else colours).convert(mode)
    if mode in ("1", "P", "PA"):
        wanted = np.asarray(image.convert("RGB")).astype(int)
    num_written = 0
    for fmt in ("TIFF", "PNG"):
        try:
            data = make.encode(image, fmt)
        except (OSError, KeyError, ValueError):
            continue  # a format without this mode
        num_written += 1
        found = decode(data).pixels.astype(int)
        assert found.shape == (24, 32, 3)
        # Colours in another space are rounded to its 8 bits a channel.
        assert np.abs(found - wanted).mean() <= {"LAB": 6, "YCbCr": 2}.get(mode, 1)
    assert num_written


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_text_that_unpacks_to_more_than_pillow_takes_is_refused(make, kind):
    body = b"note\0\0" + zlib.compress(b"A" * (80 << 20), 9)
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    png = make.png(1)
    end = png.index(b"IDAT") - 4
    assert "unpacks to more than Pillow takes" in reason_of(png[:end] + chunk + png[end:], Refused)


def test_heic_is_read_where_its_package_is_installed(monkeypatch):
    found = []
    package = types.ModuleType("pillow_heif")
    package.register_heif_opener = lambda: found.append("registered")
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    assert "pillow-heif" in reason_of(b"\0\0\0\x18ftypheic" + bytes(40), Unreadable)
    assert found


def test_cmyk_jpegs_are_not_inverted(make):
    image = Image.fromarray(make.pixels(5))
    found = decode(make.encode(image.convert("CMYK"), "JPEG", quality=100)).pixels
    assert np.abs(found.astype(int) - np.asarray(image)).mean() < 4


def test_lab_is_converted(make):
    lab = Image.merge("LAB", [Image.new("L", (4, 4), v) for v in (136, 208, 195)])  # about pure red
    red = decode(make.encode(lab, "TIFF")).pixels[0, 0].astype(int)
    assert red[0] > 230
    assert red[1:].max() < 40


@pytest.mark.parametrize("fmt", ["GIF", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_first_of_several_frames_is_taken(make, fmt):
    frames = [Image.new("RGB", (16, 12), colour) for colour in ("red", "blue", "green")]
    data = make.encode(frames[0], fmt, save_all=True, append_images=frames[1:])
    found = decode(data).pixels
    assert found.shape == (12, 16, 3)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 12


# ------------------------------------------------------------------------------------------------ orientation


def oriented(image: Image.Image, tag: int) -> tuple[Image.Image, Image.Exif]:
    for turn in STORED_AS[tag]:
        image = image.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = tag
    return image, exif


@pytest.mark.parametrize("tag", sorted(STORED_AS))
@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_orientation_is_honoured(make, tag, fmt):
    upright = make.pixels(3, width=48, height=96)
    image, exif = oriented(Image.fromarray(upright), tag)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95, "subsampling": 0}, "AVIF": {"quality": 95}}
    if fmt == "AVIF" and tag == 0:
        pytest.skip("Pillow does not write it")
    found = decode(make.encode(image, fmt, exif=exif, **options.get(fmt, {})))
    assert (found.width, found.height) == (48, 96)
    assert np.abs(found.pixels.astype(int) - upright).mean() <= (0 if fmt in ("PNG", "TIFF", "WEBP") else 3)


def test_orientation_of_a_grey_jpeg(make):
    image, exif = oriented(Image.fromarray(make.pixels(3, 48, 96)).convert("L"), 6)
    assert decode(make.encode(image, "JPEG", exif=exif)).pixels.shape == (96, 48, 3)


# ------------------------------------------------------------------------------------------------ reduced scale


@pytest.mark.parametrize(
    ("short_side", "want"), [(None, 375), (400, 375), (188, 375), (187, 188), (93, 94), (40, 47), (1, 47)]
)
def test_a_jpeg_is_reduced_no_further_than_asked(make, short_side, want):
    found = decode(make.jpeg(width=500, height=375), short_side=short_side)
    assert found.pixels.shape[0] == want
    assert (found.width, found.height) == (500, 375)


def test_a_reduced_jpeg_looks_like_the_whole_one(make):
    data = make.encode(make.pixels(width=256, height=512), "JPEG", quality=95)
    small = decode(data, short_side=64).pixels
    want = np.asarray(Image.open(io.BytesIO(data)).resize((64, 128), Image.Resampling.BOX))
    assert small.shape == want.shape
    assert np.abs(small.astype(int) - want).mean() < 2


def test_reduction_and_orientation_together(make):
    image, exif = oriented(Image.fromarray(make.pixels(3, width=200, height=400)), 8)
    found = decode(make.encode(image, "JPEG", exif=exif), short_side=50)
    assert found.pixels.shape == (100, 50, 3)
    assert (found.width, found.height) == (200, 400)


def test_other_formats_ignore_the_wanted_size(make):
    assert decode(make.png(width=64, height=64), short_side=8).pixels.shape == (64, 64, 3)
