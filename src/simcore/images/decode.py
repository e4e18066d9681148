"""Bytes to upright RGB pixels. Whatever the bytes are, the answer is a picture or a named fault.

The format is told by content. Every Pillow mode becomes 8-bit RGB by fixed rules (see ``pixels``): no picture
is stretched by its own brightest value, so equal values give equal levels across a data set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import io
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from simcore.images.faults import DEFAULT_LIMITS, ImageFault, Limits, Refused, Unreadable
from simcore.images.formats import DECODERS, describe_stranger, ends_early, is_doubtful, png_fault
from simcore.images.pixels import may_be_oriented, orientation_of, turn_upright, turns_sideways, uint8_rgb

# Their loading applies the orientation and removes the tag.
ORIENTED_BY_PILLOW = ("TIFF",)
# Their loading warns about odd metadata.
LOUD = ("TIFF",)
# How decoders say that they do not know a variant of their format.
UNSUPPORTED = (
    "unknown pixel mode",
    "unsupported",
    "not supported",
    "not implemented",
    "unimplemented",
    "cannot handle",
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Decoded:
    """An upright picture.

    Attributes:
        pixels: RGB, uint8 [H, W, 3], writable and contiguous; possibly at a reduced scale.
        width, height: of the whole upright picture.
        format: Pillow's name of the format that the content has.
    """

    pixels: npt.NDArray[np.uint8]
    width: int
    height: int
    format: str


def decode(data: bytes, *, short_side: int | None = None, limits: Limits = DEFAULT_LIMITS) -> Decoded:
    """Decode one file; of several frames or pages the first.

    With ``short_side`` a JPEG may be decoded at 1/2, 1/4 or 1/8 as long as its short side stays at least that.
    Raises ``Unreadable`` (empty, truncated, damaged, not an image) or ``Refused`` (beyond ``limits``).
    """
    if not data:
        raise Unreadable("empty (0 bytes)")
    limits.check_bytes(len(data))
    image, name = _open(data, limits)
    try:
        return _decode(image, name, short_side)
    except MemoryError as error:
        raise Refused(f"{image.width} x {image.height} needs more memory than there is") from error
    except ImageFault:
        raise
    except Exception as error:  # decoders raise whatever their parsing trips over
        raise _fault(data, name, error) from error


def _open(data: bytes, limits: Limits) -> tuple[ImageFile.ImageFile, str]:
    """Read the header with the first decoder that knows the signature; no pixel is decoded yet.

    ``Image.open`` is not used since its bomb check follows a global of Pillow, warns and cannot be told a limit.
    """
    failure: ImageFault | None = None
    for name, factory in _decoders(data[:16]):
        try:
            with _pillow_silenced():
                image = factory(io.BytesIO(data), "")
        except MemoryError as error:
            raise Refused("its header asks for more memory than there is") from error
        except Exception as error:  # as above
            if not is_doubtful(name, data[:32]):
                failure = failure or _fault(data, name, error)
            continue
        limits.check_shape(*image.size)
        _check_whole(data, name)
        return image, name
    raise failure or Unreadable(describe_stranger(data))


def _check_whole(data: bytes, name: str) -> None:
    """Look for what Pillow lets pass: a PNG without its last chunks or with wrong sums, a JPEG without its end."""
    if name == "PNG" and (fault := png_fault(data)):
        raise Unreadable(f"truncated PNG ({fault})" if fault.startswith("ends") else f"damaged PNG ({fault})")
    if name == "JPEG" and ends_early(data, name):
        raise Unreadable("truncated JPEG (no end marker)")


def _decoders(head: bytes) -> Iterator[tuple[str, Any]]:
    """Give the decoders that accept the first 16 bytes; the rarer ones are loaded when the common ones do not."""
    Image.preinit()
    tried: set[str] = set()
    for _ in range(2):
        for name in DECODERS:
            if name in Image.OPEN and name not in tried:
                tried.add(name)
                factory, accepts = Image.OPEN[name]
                if accepts is None or accepts(head) is True:
                    yield name, factory
        with _pillow_silenced():
            Image.init()
            _add_heif()


def _add_heif() -> None:
    """Let Pillow read HEIC where the user has installed the package for it."""
    with contextlib.suppress(ImportError):
        if "HEIF" not in Image.OPEN:
            importlib.import_module("pillow_heif").register_heif_opener()


def _decode(image: ImageFile.ImageFile, name: str, short_side: int | None) -> Decoded:
    orientation = 1
    if name not in ORIENTED_BY_PILLOW and may_be_oriented(image):
        with _pillow_silenced():
            orientation = orientation_of(image)
    width, height = image.size
    if short_side is not None:
        image.draft(None, (short_side, short_side))
    with _pillow_silenced() if name in LOUD else contextlib.nullcontext():
        image.load()
    if name in ORIENTED_BY_PILLOW:
        width, height = image.size
    pixels = turn_upright(_rgb(image), orientation)
    if turns_sideways(orientation):
        width, height = height, width
    return Decoded(pixels=pixels, width=width, height=height, format=name)


def _rgb(image: Image.Image) -> npt.NDArray[np.uint8]:
    if image.mode in ("RGB", "L"):
        return uint8_rgb(image)
    with _pillow_silenced():
        return uint8_rgb(image)


def _fault(data: bytes, name: str, error: Exception) -> ImageFault:
    """Name what a decoder stumbled over: a file that ends early, a variant Pillow does not read, or damage."""
    said = " ".join(str(error).split())[:120] or type(error).__name__
    if isinstance(error, Image.DecompressionBombError):  # a frame or embedded picture larger than the header said
        return Refused(f"{name} with more pixels than Pillow takes ({said})")
    if "MAX_TEXT" in said:
        return Refused(f"{name} with a text or colour profile that unpacks to more than Pillow takes ({said})")
    cut = any(word in said.lower() for word in ("truncat", "unexpected end", "eof", "not enough", "only got"))
    if cut or isinstance(error, EOFError) or ends_early(data, name):
        return Unreadable(f"truncated {name}")
    kind = "unsupported" if any(word in said.lower() for word in UNSUPPORTED) else "damaged"
    return Unreadable(f"{kind} {name} ({said})")


_FILTERS = threading.Lock()


@contextlib.contextmanager
def _pillow_silenced() -> Iterator[None]:
    """Keep Pillow's warnings about odd metadata from the user, who gets our reasons instead.

    The interpreter's warning filters belong to the whole process, so threads take turns here; the slow part,
    decoding the pixels, is outside.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield
