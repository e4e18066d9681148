"""Where the members of a tar file lie, read from its headers alone.

The format is POSIX.1-2017 ``pax`` (ustar with extended headers) with the GNU long-name records. ``tarfile`` is
not used since it takes a file cut inside a header for a whole one, and since it makes an object per member.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

BLOCK = 512
REGULAR = (b"0", b"\0", b"7")
LINKS = (b"1", b"2")
WITHOUT_DATA = (*LINKS, b"3", b"4", b"5", b"6")
MAX_HEADER_RECORD = 1 << 20
NOWHERE = -1  # the size of a member that is a link to nothing in the file

_COMPRESSED = (
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)


class Member(NamedTuple):
    """One regular file of a tar: its name as bytes, where its data begin, their length, and the start of them."""

    name: bytes
    offset: int
    size: int
    start: bytes = b""


class TarFault(Exception):  # noqa: N818 - a fault of the data
    """The file stops being a tar; what came before is whole. The message is the reason."""


@dataclasses.dataclass
class _Extended:
    """What extended headers say about the member that follows."""

    name: bytes | None = None
    link: bytes | None = None
    size: int | None = None


class ForwardFile:
    """Reads a file forwards only, skipping by seek where it can; knows its position."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._seekable = file.seekable()
        self.position = 0

    def read(self, size: int) -> bytes:
        """Read ``size`` bytes, fewer only at the end of the file."""
        pieces, left = [], size
        while left and (piece := self._file.read(left)):
            pieces.append(piece)
            left -= len(piece)
        self.position += size - left
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def skip_to(self, position: int) -> None:
        """Move forwards to ``position``, which may lie behind the end."""
        if self._seekable:
            self._file.seek(position)
            self.position = position
        else:
            while self.position < position and self.read(min(position - self.position, 1 << 20)):
                pass


def members(file: ForwardFile, total: int, peek: Callable[[bytes, int], int]) -> Iterator[Member]:
    """Walk the regular files of a tar of ``total`` bytes (-1 unknown), and the links to them.

    A link to a later file is given at the end of a whole tar, and one that leads to no file of it then too, with the
    size ``NOWHERE``. ``peek(name, size)`` says how many bytes from the start of a member are wanted along with it.
    Raises ``TarFault`` where the file is cut, damaged or no tar, after all members that are whole were given.
    """
    known: dict[bytes, Member] = {}
    waiting: dict[bytes, bytes] = {}
    extended = _Extended()
    while True:
        at = file.position
        header = file.read(BLOCK)
        if header == bytes(BLOCK):
            if file.read(BLOCK) != bytes(BLOCK):
                raise TarFault("truncated (the second closing block is missing)")
            yield from _late_links(waiting, known)
            return
        kind, name, size, link = _parse(header, at)
        data = at + BLOCK
        if kind in (b"x", b"L", b"K", b"g"):
            _extend(extended, kind, _record(file, size))
            file.skip_to(data + _padded(size))
            continue
        name, size = extended.name or name, size if extended.size is None else extended.size
        link, extended = extended.link or link, _Extended()
        if kind in REGULAR and not name.endswith(b"/"):
            known[name] = member = Member(name, data, size, file.read(min(peek(name, size), size)))
            if total < 0:
                file.skip_to(data + size)
            if (total if total >= 0 else file.position) < data + size:
                raise TarFault(f"truncated (cut inside {name.decode('utf-8', 'replace')})")
            yield member
        elif kind in LINKS and (found := known.get(_target(name, link, kind))):
            known[name] = member = found._replace(name=name)
            yield member
        elif kind in LINKS:
            waiting[name] = _target(name, link, kind)
        if kind not in WITHOUT_DATA:
            file.skip_to(data + _padded(size))


def _late_links(waiting: dict[bytes, bytes], known: dict[bytes, Member]) -> Iterator[Member]:
    """Follow links to later files, also through other links."""
    for name, target in waiting.items():
        passed = {name}
        while target in waiting and target not in known and target not in passed:
            passed.add(target)
            target = waiting[target]
        yield known[target]._replace(name=name) if target in known else Member(name, 0, NOWHERE)


def _parse(header: bytes, at: int) -> tuple[bytes, bytes, int, bytes]:
    """Give (kind, name, size, link name) of one header block."""
    if len(header) < BLOCK:
        if at == 0:
            _refuse_foreign(header)
        raise TarFault("truncated (cut inside a header)" if header else "truncated (no closing blocks)")
    if not _sum_matches(header):
        if at == 0:
            _refuse_foreign(header)
        raise TarFault(f"damaged (no member header at byte {at:,})")
    name = header[:100].partition(b"\0")[0]
    prefix = header[345:500].partition(b"\0")[0]
    if header[257:263] == b"ustar\0" and prefix:
        name = prefix + b"/" + name
    return header[156:157], name, _number(header[124:136]), header[157:257].partition(b"\0")[0]


def _refuse_foreign(start: bytes) -> None:
    for signature, name in _COMPRESSED:
        if start.startswith(signature):
            raise TarFault(f"compressed with {name}, which allows no random access; decompress it first")
    raise TarFault("not a tar file" if start else "empty (0 bytes)")


def _sum_matches(header: bytes) -> bool:
    """Check the header's sum, taken as unsigned bytes or, as old writers did, as signed ones."""
    try:
        stated = _number(header[148:156])
    except TarFault:
        return False
    rest = header[:148] + header[156:]
    plain = sum(rest) + 8 * 32
    return stated == plain or stated == plain - 256 * sum(byte >= 128 for byte in rest)


def _number(field: bytes) -> int:
    """Read a number: octal digits, or big-endian binary where the first bit is set (GNU)."""
    if field[0] & 0x80:
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    digits = field.partition(b"\0")[0].strip()
    try:
        return int(digits or b"0", 8)
    except ValueError as error:
        raise TarFault("damaged (a member header holds no number)") from error


def _record(file: ForwardFile, size: int) -> bytes:
    if size > MAX_HEADER_RECORD:
        raise TarFault("damaged (an extended header of unlikely size)")
    data = file.read(size)
    if len(data) < size:
        raise TarFault("truncated (cut inside an extended header)")
    return data


def _extend(extended: _Extended, kind: bytes, data: bytes) -> None:
    if kind == b"L":
        extended.name = data.rstrip(b"\0")
    elif kind == b"K":
        extended.link = data.rstrip(b"\0")
    elif kind == b"x":
        for key, value in _pax(data):
            if key == b"path":
                extended.name = value
            elif key == b"linkpath":
                extended.link = value
            elif key == b"size" and value.isdigit():
                extended.size = int(value)


def _pax(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Split pax records, each ``length key=value newline`` with the length counting itself."""
    at = 0
    while at < len(data):
        digits = data[at : at + 20].partition(b" ")[0]
        if not digits.isdigit() or int(digits) < 5:
            return
        key, _, value = data[at + len(digits) + 1 : at + int(digits) - 1].partition(b"=")
        yield key, value
        at += int(digits)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _target(name: bytes, link: bytes, kind: bytes) -> bytes:
    """Give the member that a link means: hard links by full name, symbolic ones from the link's own folder."""
    if kind == b"1" or link.startswith(b"/"):
        return link
    parts = name.split(b"/")[:-1]
    for part in link.split(b"/"):
        if part == b"..":
            del parts[-1:]
        elif part not in (b"", b"."):
            parts.append(part)
    return b"/".join(parts)
