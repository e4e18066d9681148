"""Any file name as text that Arrow, JSON and UTF-8 files can hold, and back without loss.

A byte that is not part of valid UTF-8 becomes ``%XX``. So that this can be undone, a ``%`` that already
stands before two hexadecimal digits becomes ``%25``. Every other name stays as it is.
"""

from __future__ import annotations

import os
import re

_STRAY_BYTE = re.compile("[\udc80-\udcff]")
_LOOKS_ESCAPED = re.compile("%(?=[0-9A-Fa-f]{2})")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")


def escape(name: str | bytes) -> str:
    """Write a file name (as bytes, or as ``os.fsdecode`` gives it) as valid Unicode text.

    >>> escape(b"caf\\xe9.jpg"), escape("50%20.jpg"), escape("100%.jpg")
    ('caf%E9.jpg', '50%2520.jpg', '100%.jpg')
    """
    text = name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name
    if "%" in text:
        text = _LOOKS_ESCAPED.sub("%25", text)
    if not text.isascii():
        text = _STRAY_BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)
    return text


def unescape(text: str) -> str:
    """Give back the file name, as ``open`` takes it: the inverse of :func:`escape`."""
    if "%" not in text:
        return text
    return os.fsdecode(_ESCAPED.sub(lambda hit: bytes([int(hit[1], 16)]), text.encode("utf-8", "surrogateescape")))
