"""Which formats are images, told by content, and whether a file of theirs ends before it should."""

from __future__ import annotations

import struct
import zlib

# Pillow's decoders in the order in which they are asked. Those that start other programs (EPS) or only read
# headers (the stub formats) are left out; TGA comes last, as it has no signature.
DECODERS = (
    "JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF", "PPM", "JPEG2000", "ICO",
    "HEIF", "CUR", "DDS", "ICNS", "PCX", "PSD", "QOI", "SGI", "TGA",
)  # fmt: skip

# Decoders that also accept the start of texts and the like.
WEAKLY_SIGNED = ("ICO", "CUR", "PCX", "SGI", "TGA")

IMAGE_EXTENSIONS = frozenset((
    "jpg", "jpeg", "jpe", "jfif", "jif", "jpg_large", "png", "apng", "webp", "gif", "tif", "tiff", "bmp", "dib",
    "avif", "avifs", "ppm", "pgm", "pbm", "pnm", "pfm", "jp2", "j2k", "jpx", "jpc", "j2c", "jpf", "ico", "cur",
    "heic", "heif", "dds", "icns", "pcx", "psd", "qoi", "sgi", "tga",
))  # fmt: skip

# Files that stand beside images in data sets and are never one themselves; anything else is looked into.
OTHER_EXTENSIONS = frozenset((
    "txt", "csv", "tsv", "json", "jsonl", "xml", "yaml", "yml", "md", "rst", "html", "htm", "log", "ini", "cfg",
    "toml", "lst", "names", "cls", "py", "ipynb", "sh", "m", "mat", "npy", "npz", "pkl", "pt", "pth", "ckpt",
    "safetensors", "h5", "hdf5", "db", "sqlite", "tar", "gz", "tgz", "zip", "bz2", "xz", "zst", "7z", "rar",
    "parquet", "arrow", "feather", "idx", "lock", "pdf", "doc", "docx", "xls", "xlsx", "svg", "mp4", "avi", "mov",
    "mkv", "webm", "mpg", "mp3", "wav", "aae", "xmp", "url", "lnk", "part", "crdownload",
))  # fmt: skip

_SIGNATURES = (
    b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+",
    b"8BPS", b"qoif", b"DDS ", b"icns", b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51",
)  # fmt: skip

_STRANGERS = (
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip data"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the real file with `git lfs pull`"),
    (b"\0\x05\x16\x07", "a Mac resource file"),
    (b"PAR1", "a Parquet table"),
    (b"\x1aE\xdf\xa3", "a video"),
)


def has_image_signature(head: bytes) -> bool:
    """Tell whether the first 32 bytes of a file are those of an image format with a reliable signature."""
    if head.startswith(_SIGNATURES):
        return True
    riff = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    iso = head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    bmp = head[:2] == b"BM" and len(head) >= 18 and struct.unpack_from("<I", head, 14)[0] in (12, 40, 52, 56, 108, 124)
    ppm = len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3] in b" \t\r\n"
    return riff or iso or bmp or ppm


def is_doubtful(name: str, head: bytes) -> bool:
    """Tell whether a failing decoder says nothing, since its signature is found in other files too."""
    return name in WEAKLY_SIGNED or (name in ("BMP", "PPM") and not has_image_signature(head))


def describe_stranger(data: bytes) -> str:
    """Say in a few words what bytes are that no decoder knows; always holds 'not an image' or 'truncated'."""
    if any(signature.startswith(data[: len(signature)]) for signature in _SIGNATURES):
        return "truncated (the signature alone)"
    for signature, name in _STRANGERS:
        if data.startswith(signature):
            return f"not an image ({name})"
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace").strip()
        heif = brand in ("heic", "heix", "mif1", "msf1", "hevc")
        return f"not an image that this Pillow reads ({'HEIC; install pillow-heif' if heif else f'ISO media {brand}'})"
    return f"not an image ({_text_kind(data[:512]) or 'unknown content'})"


def _text_kind(head: bytes) -> str | None:
    if not head.strip(b"\0"):
        return "null bytes only"
    try:
        text = head[:500].decode("utf-8").lstrip("\ufeff \t\r\n").lower()
    except UnicodeDecodeError:
        return None
    if text.startswith(("<!doctype html", "<html")) or "<head" in text or "<title" in text:
        return "an HTML page"
    if text.startswith("<svg") or "<svg" in text:
        return "an SVG drawing"
    return "text" if text.isprintable() or "\n" in text else None


def ends_early(data: bytes, name: str) -> bool:
    """Tell whether a file of format ``name`` ends before its own structure says it does."""
    match name:
        case "JPEG":
            return _jpeg_ends_early(data)
        case "PNG":
            return (png_fault(data) or "").startswith("ends")
        case "GIF":
            return not data.rstrip(b"\0").endswith(b";")
        case "WEBP":
            return len(data) < 12 or 8 + struct.unpack_from("<I", data, 4)[0] > len(data)
        case "BMP":
            return len(data) < 54 or struct.unpack_from("<I", data, 2)[0] > len(data)
        case "AVIF" | "HEIF" | "JPEG2000":
            return _boxes_end_early(data)
        case "TIFF":
            return _tiff_ends_early(data)
    return False


def _jpeg_ends_early(data: bytes) -> bool:
    """Walk the segments to the first scan; from there on an end marker has to come."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return False
        marker = data[at + 1]
        if marker == 0xDA:
            return data.rfind(b"\xff\xd9", at) < 0
        at += 1 if marker == 0xFF else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return True


def png_fault(data: bytes) -> str | None:
    """Walk the chunks of a PNG: say what is wrong with their lengths or check sums, or None.

    Pillow neither asks for the closing chunk nor checks the sums of pixel chunks, so a cut or damaged file
    could pass as whole.
    """
    view, at = memoryview(data), 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            return f"ends inside chunk {kind.decode('latin-1')}"
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            return f"bad check sum in chunk {kind.decode('latin-1')}"
        if kind == b"IEND":
            return None
        at = end
    return "ends without a closing chunk"


def _boxes_end_early(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = struct.unpack_from(">I", data, at)[0]
        if size == 1 and at + 16 <= len(data):
            size = struct.unpack_from(">Q", data, at + 8)[0]
        if size == 0:
            return False
        at += max(size, 8)
    return at != len(data)


def _tiff_ends_early(data: bytes) -> bool:
    if len(data) < 8:
        return True
    order = "<" if data[:2] == b"II" else ">"
    return bool(struct.unpack_from(order + "I", data, 4)[0] >= len(data))
