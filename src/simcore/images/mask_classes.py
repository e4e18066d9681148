"""What the values or colours of a segmentation mask mean, written as text: ``sky=0 road=1-3 tree=#00ff40``."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from simcore.errors import UsageError

IGNORED = 255
MAX_CLASSES = 255
_CODE = re.compile(r"#(?P<colour>[0-9a-fA-F]{6})|(?P<low>\d{1,5})(?:-(?P<high>\d{1,5}))?")


@dataclasses.dataclass(frozen=True)
class MaskClasses:
    """Classes of a mask; whatever value or colour is not named here is ignored.

    Attributes:
        names: class names; class number i is ``names[i]``.
        ranges: (lowest value, highest value, class number) of masks of indices.
        colours: (red * 65536 + green * 256 + blue, class number) of masks of colours.
    """

    names: tuple[str, ...]
    ranges: tuple[tuple[int, int, int], ...] = ()
    colours: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> MaskClasses:
        """Read ``NAME=CODE[,CODE…]``, where a code is a value, a range ``51-204`` or a colour ``#rrggbb``."""
        names: list[str] = []
        ranges: list[tuple[int, int, int]] = []
        colours: list[tuple[int, int]] = []
        for text in texts:
            name, equals, codes = text.rpartition("=")
            if not equals or not name.strip():
                raise UsageError(f"mask class '{text}' is not NAME=VALUE, NAME=LOW-HIGH or NAME=#rrggbb")
            if name.strip() not in names:
                names.append(name.strip())
            number = names.index(name.strip())
            for code in codes.split(","):
                found = _CODE.fullmatch(code.strip())
                if found is None:
                    raise UsageError(f"mask class '{text}': '{code}' is no value, range LOW-HIGH or colour #rrggbb")
                if found["colour"]:
                    colours.append((int(found["colour"], 16), number))
                else:
                    ranges.append((int(found["low"]), int(found["high"] or found["low"]), number))
        return cls(tuple(names), tuple(ranges), tuple(colours))._checked()

    @classmethod
    def of_values(cls, values: Sequence[int]) -> MaskClasses:
        """Take each value as a class of its own, called by its digits."""
        ordered = sorted(values)
        return cls(tuple(map(str, ordered)), tuple((v, v, i) for i, v in enumerate(ordered)))._checked()

    def _checked(self) -> MaskClasses:
        if len(self.names) > MAX_CLASSES:
            raise UsageError(f"{len(self.names)} mask classes are more than the {MAX_CLASSES} that a mask can hold")
        spans = sorted(self.ranges)
        for (_, high, one), (low, _, other) in itertools.pairwise(spans):
            if low <= high:
                raise UsageError(f"mask classes '{self.names[one]}' and '{self.names[other]}' share value {low}")
        return self

    def numbers(self, raw: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Turn a mask as stored, [H, W] of values or [H, W, 3] of colours, into class numbers.

        Returns:
            uint8 [H, W], ``IGNORED`` (255) where a value is of no class.
        """
        known = np.full(raw.shape[:2], IGNORED, np.uint8)
        if raw.ndim == 3:
            packed = raw.astype(np.int64) @ np.array([65536, 256, 1])
            for colour, number in self.colours:
                known[packed == colour] = number
            if self.colours or not (raw[..., :1] == raw).all():
                return known
            raw = raw[..., 0]  # grey stored as colour
        for low, high, number in self.ranges:
            known[(raw >= low) & (raw <= high)] = number
        return known
