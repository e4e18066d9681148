"""Images with masks for segmentation: what the masks hold, and the joint transforms of pixels and mask."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from simcore.errors import SimcoreError
from simcore.images import ImageFault, ImageSource, Unreadable
from simcore.images.mask_classes import IGNORED, MaskClasses
from simcore.images.masks import masked_rows, read_mask
from simcore.tasks._scenes import PlainScenes, kept, resized, tell
from simcore.tasks._segmentation_score import BACKGROUND

SCALES = (0.5, 2.0)  # of a training image's short side, over ``base_size``
READERS = 4


class TrainScene(NamedTuple):
    """One crop to learn from.

    Shape:
        pixels: uint8 [3, S, S]; mask: uint8 [S, S] of class numbers, 255 ignored.
    """

    pixels: Tensor
    mask: Tensor


class WholeScene(NamedTuple):
    """One image to be measured on: a :class:`PlainScene` with ``mask``, uint8 [H, W], that of the whole image."""

    row: int
    pixels: Tensor
    size: tuple[int, int]
    mask: npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MaskScenes(PlainScenes):
    """Rows of a source with masks, for a segmenter; ``short_side`` is also the side of a training crop.

    Attributes:
        code: the classes of the source's masks.
        numbers: class number for each class of ``code`` and, last, for what is ignored, uint8 [num_classes + 1].
        base_size: short side to which the random scale refers.
    """

    code: MaskClasses
    numbers: npt.NDArray[np.uint8]
    base_size: int

    def scene(self, row: int, *, augmented: bool) -> TrainScene | WholeScene:
        """Give a random crop at a random scale, flipped at random, or the resized whole with its full mask."""
        if not augmented:
            plain = self.plain(row)
            return WholeScene(*plain, self.mask(row, plain.size))
        decoded = self.source.decode(row, short_side=int(self.base_size * SCALES[1]))
        pixels = tv_tensors.Image(torch.from_numpy(decoded.pixels).permute(2, 0, 1))
        mask = tv_tensors.Mask(torch.from_numpy(self.mask(row, (decoded.width, decoded.height))))
        if pixels.shape[1:] != mask.shape:  # decoded at a reduced scale
            mask = v2.functional.resize(mask, list(pixels.shape[1:]))
        parts = train_transform(self.short_side, self.base_size)(pixels, mask)
        return TrainScene(*(part.as_subclass(Tensor).contiguous() for part in parts))

    def mask(self, row: int, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
        """Read the class numbers of one row, uint8 [H, W]; 255 is ignored.

        Raises ``ImageFault``, also where the mask has not the ``size`` (width, height) of its image.
        """
        own = self.code.numbers(read_mask(self.source, row))
        if own.shape != size[::-1]:
            raise Unreadable(f"its mask is {own.shape[1]} x {own.shape[0]}, but the image {size[0]} x {size[1]}")
        return self.numbers[np.minimum(own, len(self.numbers) - 1)]


def train_transform(crop_size: int, base_size: int) -> v2.Compose:
    """Flip, scale and crop as DeepLab is trained; pixels beyond the image are black, and ignored in the mask."""
    beyond: dict[Any, Any] = {tv_tensors.Image: 0, tv_tensors.Mask: IGNORED}
    return v2.Compose(
        [
            v2.RandomHorizontalFlip(),
            RandomShortSide(int(base_size * SCALES[0]), int(base_size * SCALES[1])),
            v2.RandomCrop(crop_size, pad_if_needed=True, fill=beyond),
        ]
    )


class RandomShortSide(v2.Transform):  # type: ignore[misc]
    """Resize so that the short side is a whole number drawn evenly from ``low`` to ``high``."""

    def __init__(self, low: int, high: int) -> None:
        super().__init__()
        self.low, self.high = max(1, low), max(1, high)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the side."""
        return {"side": int(torch.randint(self.low, self.high + 1, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize pixels bilinearly and masks to the nearest value."""
        return resized(inpt, params["side"])


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class MaskedSets:
    """Train and test rows with masks, what their masks mean, and the classes that are learnt."""

    train: ImageSource
    test: ImageSource
    train_code: MaskClasses
    test_code: MaskClasses
    classes: tuple[str, ...]

    def numbers(self, code: MaskClasses) -> npt.NDArray[np.uint8]:
        """Give the class number for each class of ``code``, and last for what it ignores."""
        known = {name: number for number, name in enumerate(self.classes)}
        return np.array([*(known.get(name, IGNORED) for name in code.names), IGNORED], np.uint8)


def masked_sets(train: ImageSource, test: ImageSource, named: Sequence[str], ignore_value: int) -> MaskedSets:
    """Keep the images that have a mask, and find the classes: as ``named``, as the source says, or by the values."""
    learnt, tested = (
        _with_mask(source, part, named, ignore_value) for source, part in ((train, "train"), (test, "test"))
    )
    classes = learnt.present
    if len(classes) < 2:
        lone = classes[0] if classes else "background"
        only = "background" if lone in BACKGROUND else f"'{lone}'"
        hint = f" (value {ignore_value} is ignored; if it is a class, name it: --mask-classes background=0 object=255)"
        raise SimcoreError(f"{train.name}: no class but {only} is present in the masks{'' if named else hint}")
    if not set(tested.present) & set(classes):
        raise SimcoreError(f"{test.name}: its masks hold none of the classes {', '.join(classes)}")
    if unknown := [name for name in tested.present if name not in classes]:
        tell(f"pixels of test classes that are unknown to the train set are left out: {', '.join(unknown)}")
    return MaskedSets(
        train=learnt.source, test=tested.source, train_code=learnt.code, test_code=tested.code, classes=classes
    )


class _Masked(NamedTuple):
    """Images that have a mask, what the values mean, and the names of those that occur."""

    source: ImageSource
    code: MaskClasses
    present: tuple[str, ...]


def _with_mask(source: ImageSource, part: str, named: Sequence[str], ignore_value: int) -> _Masked:
    rows = masked_rows(source)
    if not len(rows):
        raise SimcoreError(
            f"{source.name}: no {part} image has a mask; give masks:FOLDER (with images/ and masks/), a list with a "
            "column 'mask', or what `simcore prepare` made of a data set with masks"
        )
    chosen = kept(source, rows, f"{part} images have no mask")
    code = _code(chosen, named, ignore_value)
    there = _present(chosen, code)
    return _Masked(chosen, code, tuple(name for name, is_there in zip(code.names, there, strict=True) if is_there))


def _code(source: ImageSource, named: Sequence[str], ignore_value: int) -> MaskClasses:
    texts = tuple(named) or source.mask_classes
    if texts:
        return MaskClasses.parse(texts)
    values: set[int] = set()
    for raw in _masks(source):
        if raw.ndim == 3 and not (raw[..., :1] == raw).all():
            raise SimcoreError(
                f"{source.name}: its masks are of colours; say what they mean: --mask-classes sky=#80c0ff road=#404040"
            )
        values |= set(np.unique(raw).tolist())
    if len(values) > IGNORED:
        raise SimcoreError(f"{source.name}: its masks hold {len(values)} values; say which are classes: --mask-classes")
    return MaskClasses.of_values(sorted(values - {ignore_value}))


def _present(source: ImageSource, code: MaskClasses) -> npt.NDArray[np.bool_]:
    counts = np.zeros(IGNORED + 1, np.int64)
    for raw in _masks(source):
        counts += np.bincount(code.numbers(raw).reshape(-1), minlength=IGNORED + 1)
    return counts[: len(code.names)] > 0


def _masks(source: ImageSource) -> Iterator[npt.NDArray[np.integer[Any]]]:
    """Read every mask that can be read."""
    with ThreadPoolExecutor(READERS) as readers:
        for first in range(0, len(source), 16 * READERS):
            rows: Iterable[int] = range(first, min(first + 16 * READERS, len(source)))
            yield from (raw for raw in readers.map(lambda row: _mask_or_none(source, row), rows) if raw is not None)


def _mask_or_none(source: ImageSource, row: int) -> npt.NDArray[np.integer[Any]] | None:
    try:
        return read_mask(source, row)
    except ImageFault:
        return None  # counted when the row is used
