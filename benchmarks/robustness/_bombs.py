"""Small files that would grow without end: archives, pictures of too many pixels, compressed text."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from _scene import ENCODER, Scene, ids, jpeg
from _trial import simcore

Attempt = Callable[[Scene, Path], str | None]
UNHARMED = "skipped and counted, or read; the good picture beside it is embedded; less than 1.5 GB"


def archive_bomb(scene: Scene, place: Path) -> str | None:
    """Two gigabytes of zeros in two megabytes."""
    bad, zeros = place / "food11.zip", bytes(1 << 24)
    with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("training/0_0.jpg", "w") as member:
        for _ in range(120):
            member.write(zeros)
    outcome = simcore(["prepare", "food11", "--archive", bad, "--out", place / "set"])
    return outcome.refused("unpacks to more") or ("half a set was left" if (place / "set").exists() else None)


def beside_good(scene: Scene, place: Path, name: str, data: bytes) -> str | None:
    """Embed a harmful picture beside a good one: it is skipped and counted, or read."""
    (place / "photos").mkdir()
    (place / "photos" / "good.jpg").write_bytes(jpeg(0))
    (place / "photos" / name).write_bytes(data)
    outcome = simcore(["embed", place / "photos", *ENCODER, "--out", place / "store"])
    if fault := outcome.done():
        return fault
    if "good.jpg" not in ids(place / "store"):
        return "the good picture has no row"
    return None if len(ids(place / "store")) == 2 or "1 of 2 images gave no feature" in outcome.err else "not counted"


def png(width: int, height: int, *, text: int = 0) -> bytes:
    """An all-black PNG of 1 bit a pixel, with ``text`` bytes of compressed text before it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeeze, rows = zlib.compressobj(9), []
    for _ in range(height):
        rows.append(squeeze.compress(bytes(1 + -(-width // 8))))
    pixels = b"".join(rows) + squeeze.flush()
    said = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(text), 9)) if text else b""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + said + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def gif(width: int, height: int) -> bytes:
    """A GIF that claims a huge canvas."""
    data = io.BytesIO(b"")
    data.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6))
    data.write(b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02L\x01\x00;")
    return data.getvalue()


def made() -> Iterator[tuple[str, str, Attempt]]:
    """Yield each bomb with what surviving it means."""
    yield "an archive of 2 GB of zeros in 2 MB", "refused with the reason; nothing is left", archive_bomb
    pictures = {
        "a PNG of 60,000 x 60,000 pixels": ("bomb.png", lambda: png(60_000, 60_000)),
        "a PNG of 1 x 60,000 pixels": ("needle.png", lambda: png(1, 60_000)),
        "a PNG with 1 GB of compressed text": ("text.png", lambda: png(8, 8, text=1 << 30)),
        "a GIF that claims 65,535 x 65,535 pixels": ("bomb.gif", lambda: gif(65_535, 65_535)),
    }
    for what, (name, data) in pictures.items():
        yield what, UNHARMED, lambda scene, place, n=name, d=data: beside_good(scene, place, n, d())
