"""Why an item gives no picture, and the limits that a picture has to keep."""

from __future__ import annotations

import dataclasses
import os

from simcore.errors import UsageError


class ImageFault(Exception):  # noqa: N818 - a fault of the data, not an error of the program
    """One item gives no pixels; ``reason`` says why in a few plain words. The job goes on without it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Unreadable(ImageFault):
    """The bytes are missing, cut, damaged, or no image."""


class Refused(ImageFault):
    """Readable in principle, but beyond a stated limit."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """What is refused before any pixel is decoded. Sources take theirs from the environment.

    Attributes:
        max_bytes: size of the encoded file in bytes.
        max_pixels: width times height; 2**27 pixels take about 1 GB while they are decoded.
        max_aspect: long side over short side. Scaling the short side of a needle up to an encoder's input
            would blow its long side up with it.
    """

    max_bytes: int = 1 << 29
    max_pixels: int = 1 << 27
    max_aspect: float = 1000.0

    def __post_init__(self) -> None:
        if min(self.max_bytes, self.max_pixels) < 1 or self.max_aspect < 1:
            raise UsageError("image limits must be at least 1")

    @classmethod
    def from_environment(cls) -> Limits:
        """Take ``SIMCORE_MAX_BYTES``, ``SIMCORE_MAX_PIXELS`` and ``SIMCORE_MAX_ASPECT`` where they are set.

        Raises ``UsageError`` for a value that is no number of its kind, or below 1.
        """
        found: dict[str, float] = {}
        for name, default in dataclasses.asdict(cls()).items():
            text = os.environ.get(variable := "SIMCORE_" + name.upper(), "")
            try:
                found[name] = type(default)(text) if text else default
            except ValueError as error:
                raise UsageError(f"{variable} is '{text}', but must be a number of at least 1") from error
            if not found[name] >= 1:
                raise UsageError(f"{variable} is {text}, but must be at least 1")
        return cls(**found)  # type: ignore[arg-type]  # of the kinds of the defaults

    def __or__(self, other: Limits) -> Limits:
        """Let pass what either would."""
        return Limits(**{name: max(value, getattr(other, name)) for name, value in dataclasses.asdict(self).items()})

    def check_bytes(self, size: int) -> None:
        """Raise ``Refused`` for a file of ``size`` bytes that is too large."""
        if size > self.max_bytes:
            raise Refused(
                f"{size:,} bytes, above the limit of {self.max_bytes:,} (max_bytes; variable SIMCORE_MAX_BYTES)"
            )

    def check_shape(self, width: int, height: int) -> None:
        """Raise ``Refused`` for a picture of too many pixels or too extreme a shape, ``Unreadable`` for none."""
        if width < 1 or height < 1:
            raise Unreadable(f"no pixels ({width} x {height})")
        if width * height > self.max_pixels:
            raise Refused(
                f"{width} x {height} is {width * height:,} pixels, above the limit of {self.max_pixels:,} "
                "(max_pixels; variable SIMCORE_MAX_PIXELS)"
            )
        if max(width, height) > self.max_aspect * min(width, height):
            raise Refused(
                f"{width} x {height} is longer than {self.max_aspect:g} to 1 (max_aspect; variable SIMCORE_MAX_ASPECT)"
            )


DEFAULT_LIMITS = Limits()
