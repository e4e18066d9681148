"""Files that are whole or absent, and fingerprints that say what an artifact was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from simcore.artifacts.parts import let_go
from simcore.errors import NO_ROOM, SimcoreError

HASHED_AT_ONCE = 1 << 22  # numbers


@contextlib.contextmanager
def written_aside(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside ``path``; rename it into place on success, remove it on failure.

    The data are synced to disk before the rename, so that no crash leaves a half-written file under the name.
    """
    final = Path(path)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=".tmp", dir=final.parent)
    except OSError as error:
        raise SimcoreError(f"{final}: cannot be written ({error.strerror})") from error
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        aside.chmod(0o666 & ~_umask())
        with aside.open("rb") as written:
            os.fsync(written.fileno())
        aside.replace(final)
    except OSError as error:
        raise SimcoreError(f"{final}: cannot be written ({error.strerror or error})") from error
    except Exception as error:
        if isinstance(error, SimcoreError) or (number := _room_lacked(error)) is None:
            raise
        raise SimcoreError(f"{final}: cannot be written ({os.strerror(number)})") from error
    finally:
        aside.unlink(missing_ok=True)


def _room_lacked(error: BaseException | None) -> int | None:
    """Find the system's refusal in the errors that torch and safetensors make of it; None for other errors."""
    while error is not None:
        told = re.search(r"\(os error (\d+)\)", str(error))
        number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
        if number in NO_ROOM:
            return number
        error = error.__cause__ or error.__context__
    return None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_json(path: str | os.PathLike[str], content: Any) -> None:
    """Write ``content`` as indented JSON, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from anywhere; raises ``ValueError`` for all that is none, brackets without end too."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file that simcore wrote; a missing or damaged one is a clear error."""
    try:
        return parse_json(Path(path).read_text("utf-8"))
    except FileNotFoundError as error:
        raise SimcoreError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise SimcoreError(f"{path}: not a readable JSON file ({error})") from error


def fingerprint(*parts: Any) -> str:
    """Hash settings, strings, bytes and arrays into 16 hex digits; equal input gives equal digits anywhere."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, np.ndarray):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            flat = np.ascontiguousarray(part).reshape(-1)
            for start in range(0, len(flat), HASHED_AT_ONCE):
                block = flat[start : start + HASHED_AT_ONCE]
                digest.update(block.view(np.uint8).data)
                let_go(block)
        elif isinstance(part, bytes):
            digest.update(part)
        else:
            digest.update(json.dumps(part, sort_keys=True, default=str).encode())
        digest.update(b"\0")
    return digest.hexdigest()
