"""FileReader: one image a file, local or remote."""

from __future__ import annotations

import dataclasses
import unicodedata
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from simcore.images.faults import ImageFault, Limits, Unreadable
from simcore.images.source import Place, read_each
from simcore.images.storage import is_remote, read_bytes

REMOTE_REQUESTS = 16


@dataclasses.dataclass(frozen=True)
class FileReader:
    """Reads whole files by their uri; ``first`` is the size (-1 unknown), ``second`` the modification stamp."""

    fingerprint: str = "files"
    undated: str = "files"
    stamps_rows: bool = True

    def read(self, place: Place, limits: Limits) -> bytes:
        """Fetch one file; a name that differs only in its Unicode form (NFC, NFD) is found too."""
        limits.check_bytes(place.first)
        try:
            return read_bytes(place.uri)
        except Unreadable as fault:
            if fault.reason == "missing file" and not is_remote(place.uri):
                return _read_other_form(place.uri)
            raise

    def scan(self, places: Sequence[Place], limits: Limits) -> Iterator[bytes | ImageFault]:
        """Fetch files in order; of remote ones several at a time, since each costs a round trip."""
        if not any(is_remote(place.uri) for place in places):
            yield from read_each(self, places, limits)
            return
        with ThreadPoolExecutor(REMOTE_REQUESTS) as pool:
            for low in range(0, len(places), REMOTE_REQUESTS):
                batch = places[low : low + REMOTE_REQUESTS]
                yield from pool.map(lambda place: self._read_or_fault(place, limits), batch)

    def _read_or_fault(self, place: Place, limits: Limits) -> bytes | ImageFault:
        return next(iter(read_each(self, [place], limits)))


def _read_other_form(uri: str) -> bytes:
    forms = unicodedata.normalize("NFC", uri), unicodedata.normalize("NFD", uri)
    for other in forms:
        if other != uri:
            try:
                return read_bytes(other)
            except Unreadable:
                continue
    raise Unreadable("missing file")
