"""Unpacking archives that nobody vouches for: nothing is written outside the folder, and nothing without end."""

from __future__ import annotations

import bz2
import dataclasses
import errno
import gzip
import io
import lzma
import re
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from simcore.datasets._tree import is_hidden
from simcore.errors import SimcoreError, SimcoreWarning
from simcore.progress import Progress

ENDINGS = (".tar", ".tgz", ".tar.gz", ".tbz2", ".tar.bz2", ".txz", ".tar.xz", ".zip")
CHUNK = 1 << 20
BLOCK = 512
OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {
    b"\x1f\x8b": lambda raw: gzip.GzipFile(fileobj=raw),
    b"BZh": lambda raw: bz2.BZ2File(raw),
    b"\xfd7zXZ": lambda raw: lzma.LZMAFile(raw),  # noqa: SIM115
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Allowance:
    """What an archive may unpack to.

    Images hardly compress, so an archive that grows more than ``max_ratio`` times (and past ``free_bytes``) is a bomb.
    """

    max_files: int = 50_000_000
    max_member_bytes: int = 16 << 30
    max_ratio: float = 100.0
    free_bytes: int = 1 << 30


def is_archive(path: Path) -> bool:
    """Tell by the name whether a file is an archive of a kind that :func:`extract` reads."""
    return path.name.lower().endswith(ENDINGS)


def extract(
    archive: Path,
    into: Path,
    *,
    wants: Callable[[str], bool] = lambda member: True,
    shelf: Callable[[str], str] = lambda name: "",
    allowance: Allowance | None = None,
    quiet: bool = False,
) -> int:
    """Unpack a .tar (plain, gzip, bzip2 or xz) or .zip below ``into`` and give the number of files written.

    Refused as a whole (``SimcoreError``): members with an absolute path or ``..``, links, devices, more than the
    allowance, a cut or damaged archive. A tar inside a tar is unpacked in place of itself. ``shelf`` names the
    sub-folder for an archive's members.
    """
    size = archive.stat().st_size
    with archive.open("rb") as raw, Progress(f"unpack {archive.name}", total=size >> 20, unit="MiB", quiet=quiet) as p:
        writer = _Writer(archive, into, wants, shelf, allowance or Allowance(), size, _position_teller(raw, p))
        try:
            _unpack(cast(IO[bytes], raw), archive.name, writer)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise SimcoreError(f"{into}: the disk is full; {archive} is not unpacked") from error
            raise SimcoreError(f"{archive}: cut or damaged ({error})") from error
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError) as error:
            raise SimcoreError(f"{archive}: cut or damaged ({error})") from error
    return writer.num_files


def _position_teller(raw: IO[bytes], progress: Progress) -> Callable[[], None]:
    return lambda: progress.advance((raw.tell() >> 20) - progress.done)


def _unpack(raw: IO[bytes], name: str, writer: _Writer) -> None:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"PK"):
        _unpack_zip(raw, name, writer)
    else:
        _unpack_tar(_opened(raw, head), name, writer)


def _opened(raw: IO[bytes], head: bytes) -> IO[bytes]:
    """Undo the compression that the first bytes tell of."""
    for magic, opener in OPENERS.items():
        if head.startswith(magic):
            return cast(IO[bytes], opener(raw))
    return raw


def _unpack_tar(stream: IO[bytes], name: str, writer: _Writer) -> None:
    counted = _Counted(stream)
    with tarfile.open(fileobj=cast(IO[bytes], counted), mode="r|") as tar:
        for member in tar:
            if member.isdir():
                continue
            if not member.isreg():
                raise SimcoreError(f"{writer.archive}: refused, '{member.name}' is a link or device")
            content = tar.extractfile(member)
            if content is not None:
                writer.take(name, member.name, content)
        end = tar.offset
    counted.drain()
    if counted.num_read < end + BLOCK:  # tarfile takes a cut header for the end; a whole archive has a zero block
        warnings.warn(f"{writer.archive}: no end mark in {name}; it may be cut", SimcoreWarning, stacklevel=2)


def _unpack_zip(raw: IO[bytes], name: str, writer: _Writer) -> None:
    with zipfile.ZipFile(raw) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if info.is_dir():
                continue
            if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
                raise SimcoreError(f"{writer.archive}: refused, '{info.filename}' is a link or device")
            with archive.open(info) as content:
                writer.take(name, info.filename.replace("\\", "/"), content)


class _Counted(io.RawIOBase):
    """Counts what is read, so that a missing end can be told."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self.num_read = stream, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.num_read += len(data)
        return data

    def drain(self) -> None:
        while self.read(CHUNK):
            pass


class _Writer:
    """Puts members below one folder, within the allowance."""

    def __init__(
        self,
        archive: Path,
        into: Path,
        wants: Callable[[str], bool],
        shelf: Callable[[str], str],
        allowance: Allowance,
        size: int,
        tell: Callable[[], None],
    ) -> None:
        self.archive, self.num_files = archive, 0
        self._into, self._wants, self._shelf, self._allowance, self._tell = into, wants, shelf, allowance, tell
        self._left = int(max(size * allowance.max_ratio, allowance.free_bytes))

    def take(self, source: str, member: str, content: IO[bytes]) -> None:
        parts = self._parts(member)
        if any(is_hidden(part) for part in parts) or not self._wants("/".join(parts)):
            return
        if parts[-1].lower().endswith(".tar"):
            _unpack_tar(content, parts[-1], self)
            return
        self.num_files += 1
        if self.num_files > self._allowance.max_files:
            raise SimcoreError(f"{self.archive}: refused, holds more than {self._allowance.max_files:,} files")
        target = self._into.joinpath(self._shelf(source), *parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        self._write(target, member, content)
        self._tell()

    def _parts(self, member: str) -> list[str]:
        parts = [part for part in member.split("/") if part not in ("", ".")]
        absolute = member.startswith("/") or re.match(r"[A-Za-z]:", member)
        if absolute or ".." in parts or "\0" in member or not parts:
            raise SimcoreError(f"{self.archive}: refused, '{member}' points outside the archive")
        return parts

    def _write(self, target: Path, member: str, content: IO[bytes]) -> None:
        num_bytes = 0
        with target.open("wb") as file:
            for chunk in _chunks(content):
                num_bytes += len(chunk)
                self._left -= len(chunk)
                if num_bytes > self._allowance.max_member_bytes or self._left < 0:
                    raise SimcoreError(f"{self.archive}: refused, '{member}' unpacks to more than is allowed")
                file.write(chunk)


def _chunks(content: IO[bytes]) -> Iterator[bytes]:
    while chunk := content.read(CHUNK):
        yield chunk
