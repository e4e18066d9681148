"""Bytes of local files and remote objects, with every failure named.

Local files go through the operating system; URLs go through fsspec, whose file systems are asked for anew at
each call (it caches them itself, per process), so nothing here has to survive a fork or a pickle. Credentials
come from the environment's own chain only.
"""

from __future__ import annotations

import errno
import io
import os
import ssl
import stat
import time
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any, BinaryIO, TypeVar, cast

from simcore.errors import SimcoreError
from simcore.images.faults import ImageFault, Unreadable
from simcore.images.names import unescape

T = TypeVar("T")

RETRY_DELAYS = (0.3, 1.0, 3.0)
REMOTE_BLOCK_BYTES = 4 << 20
GONE = (FileNotFoundError, PermissionError, IsADirectoryError)
MISSING_STATUS = (401, 403, 404, 410)


def is_remote(where: str) -> bool:
    """Tell a URL from a local path (``file://`` is local)."""
    scheme, found, _ = where.partition("://")
    return bool(found) and scheme != "file" and scheme.replace("+", "").replace("-", "").isalnum()


def local_path(where: str) -> str:
    """Give the path of a ``file://`` URL; other paths stay as they are."""
    return where.removeprefix("file://") if where.startswith("file://") else where


def filesystem(url: str) -> tuple[Any, str]:
    """Give fsspec's file system for ``url`` and the path in it; a missing extra is a clear error."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        scheme = url.partition("://")[0]
        raise SimcoreError(f"{url}: reading {scheme}:// needs another package ({error})") from error
    except ValueError as error:
        raise SimcoreError(f"{url}: {error}") from error
    return system, str(path)


def read_bytes(uri: str) -> bytes:
    """Read a whole file, given by escaped local path or by URL.

    Raises ``Unreadable`` where this file is missing or closed to us, ``SimcoreError`` where the remote store
    cannot be reached after several tries.
    """
    if is_remote(uri):
        return remotely(uri, lambda system, path: cast(bytes, system.cat_file(path)))
    try:
        with _open_regular(unescape(uri)) as file:
            return file.read()
    except (OSError, ValueError) as error:
        raise Unreadable(os_reason(error)) from error


def _open_regular(path: str) -> BinaryIO:
    """Open a local file; a pipe or device, which could keep us waiting for ever, is refused."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, flags), "rb")  # noqa: PTH123, SIM115 - names may not be valid UTF-8
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise Unreadable("not a regular file")
    return file


def read_range(where: str, start: int, size: int) -> bytes:
    """Read ``size`` bytes from byte ``start`` of an unescaped local path or a URL; errors as in ``read_bytes``."""
    if not is_remote(where):
        try:
            with _open_regular(where) as file:
                file.seek(start)
                data = file.read(size)
        except OSError as error:
            raise Unreadable(os_reason(error)) from error
    else:
        data = remotely(where, lambda system, path: cast(bytes, system.cat_file(path, start=start, end=start + size)))
        if len(data) > size:  # a server that knows no ranges sends the whole
            data = data[start : start + size]
    if len(data) < size:
        raise Unreadable(f"truncated (its container holds {len(data):,} of {size:,} bytes)")
    return data


def read_start(where: str, size: int) -> bytes:
    """Read at most ``size`` bytes from the start of an unescaped local path or a URL; errors as in ``read_bytes``."""
    with open_binary(where) as file:
        try:
            return file.read(size)
        except OSError as error:
            raise Unreadable(os_reason(error)) from error


def open_binary(where: str) -> BinaryIO:
    """Open an unescaped local path or a URL for reading; errors as in ``read_bytes``.

    The file of a server that knows no ranges can only be read forwards (``seekable()`` is false).
    """
    if is_remote(where):
        return remotely(where, _open_remote)
    try:
        return _open_regular(where)
    except OSError as error:
        raise Unreadable(os_reason(error)) from error


def _open_remote(system: Any, path: str) -> BinaryIO:
    if not path.startswith("http") or system.info(path).get("partial", False):
        return cast(BinaryIO, system.open(path, "rb", block_size=REMOTE_BLOCK_BYTES))
    return cast(BinaryIO, _Stream(system.open(path, "rb", block_size=0)))


class _Stream(io.RawIOBase):
    """A remote file that can only be read forwards, and says so (fsspec's own claims to be seekable)."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def stamp_of(where: str) -> tuple[int, int]:
    """Give (size in bytes, a number that changes with the content); -1 where the store does not say.

    The number is the modification time in nanoseconds, or a hash of what the remote store says instead.
    """
    if is_remote(where):
        return stamp_of_info(remotely(where, lambda system, path: cast(dict[str, Any], system.info(path))))
    try:
        status = os.stat(where)  # noqa: PTH116
    except (OSError, ValueError) as error:
        raise Unreadable(os_reason(error)) from error
    return status.st_size, status.st_mtime_ns


def stamp_of_info(info: dict[str, Any]) -> tuple[int, int]:
    """Do the same for one entry of a remote listing."""
    import hashlib

    known = [str(info[key]) for key in ("ETag", "etag", "md5Hash", "LastModified", "mtime", "created") if key in info]
    digest = hashlib.blake2b("|".join(known).encode(), digest_size=7).digest()
    return int(info.get("size") or -1), int.from_bytes(digest, "big") if known else -1


def remotely(url: str, action: Callable[[Any, str], T]) -> T:
    """Run ``action(file system, path)``, trying again after passing failures."""
    system, path = filesystem(url)
    return retried(url, lambda: action(system, path))


def retried(where: str, action: Callable[[], T]) -> T:
    """Run ``action``, which reads ``where``; if that is remote, again after failures that may pass.

    Faults of the data and missing objects are raised at once, lasting failures as ``SimcoreError``.
    """
    if not is_remote(where):
        return action()
    for delay in (*RETRY_DELAYS, None):
        try:
            return action()
        except (ImageFault, SimcoreError):
            raise
        except (ImportError, NotImplementedError) as error:
            raise SimcoreError(f"{where}: cannot be read ({error})") from error
        except Exception as error:  # each store raises its client's own kinds
            if isinstance(error, GONE) and not _broke_off(error):
                raise Unreadable(os_reason(error)) from error
            error = error.__cause__ if isinstance(error, GONE) and isinstance(error.__cause__, Exception) else error
            lasting = _lasting(error)
            if delay is None or lasting is not None:
                said = lasting or " ".join(str(error).split())[:200] or type(error).__name__
                tries = "" if lasting else f" after {len(RETRY_DELAYS) + 1} tries"
                raise SimcoreError(f"{where}: cannot be read{tries} ({said})") from error
            time.sleep(delay)
    raise AssertionError("unreachable")


def _lasting(error: Exception) -> str | None:
    """Say what no second try will mend; None for what may pass."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = getattr(error, "certificate_error", error)  # aiohttp wraps it in its own kind
        return f"its certificate is not trusted: {getattr(said, 'verify_message', said)}; SSL_CERT_FILE names others"
    if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "ProfileNotFound"):
        return f"{' '.join(str(error).split())}; they come from the environment, its profiles or the machine's role"
    return None


def _broke_off(error: BaseException) -> bool:
    """Tell a lost connection, which fsspec reports as a missing file over http, from a missing file."""
    cause = error.__cause__
    if cause is None or getattr(cause, "status", None) in MISSING_STATUS:
        return False
    return isinstance(cause, OSError | TimeoutError) or type(cause).__module__.startswith("aiohttp")


def os_reason(error: OSError | ValueError) -> str:
    """Say in plain words why the operating system gave no file."""
    match getattr(error, "errno", None) or type(error):
        case errno.ENOENT | errno.ENOTDIR:
            return "missing file"
        case errno.EACCES | errno.EPERM:
            return "permission denied"
        case errno.EISDIR:
            return "a folder, not a file"
        case errno.ELOOP:
            return "missing file (a link that leads to itself)"
    if isinstance(error, FileNotFoundError):
        return "missing file"
    if isinstance(error, PermissionError):
        return "permission denied"
    return f"cannot be read ({getattr(error, 'strerror', None) or error})"


def join(folder: str, name: str) -> str:
    """Put a relative name under a local folder or a URL; absolute paths and URLs stay as they are."""
    if is_remote(name) or os.path.isabs(name):  # noqa: PTH117 - may not be UTF-8
        return name
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, name)  # noqa: PTH118


def base_name(where: str) -> str:
    """Give the last component of a path or URL."""
    return PurePosixPath(where).name


def folder_of(where: str) -> str:
    """Give what stands before the last component of a path or URL."""
    return where.rpartition("/")[0] if is_remote(where) else os.path.dirname(os.path.abspath(where))  # noqa: PTH100, PTH120
