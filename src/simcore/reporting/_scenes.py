"""Examples of detection and segmentation: each image twice, with what is there and with what was found."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw

from simcore.artifacts import Report
from simcore.errors import SimcoreError
from simcore.images import ImageFault, open_uris
from simcore.images.faults import DEFAULT_LIMITS
from simcore.images.mask_classes import IGNORED, MaskClasses
from simcore.images.mask_colours import colour_table
from simcore.images.masks import decode_mask
from simcore.images.names import escape
from simcore.images.storage import read_bytes
from simcore.reporting._facts import arm_of
from simcore.reporting._thumbnails import MIME, QUALITY

MAX_SHOWN = 24
SIDE = 320  # pixels of the longer side
VEIL = 0.55  # how much of a mask's colour covers the image

Pixels = npt.NDArray[np.uint8]


@dataclasses.dataclass(frozen=True)
class Scene:
    """One image of an evaluation; ``truth`` and ``found`` are ``data:`` URIs, beside them what they show in words."""

    id: str
    of: str
    truth: str
    found: str
    truth_words: str
    found_words: str


@dataclasses.dataclass(frozen=True)
class _Uris:
    """As much of a store as ``open_uris`` looks at."""

    table: pa.Table
    classes: tuple[str, ...] = ()


def scenes_of(evaluations: Sequence[Report]) -> list[Scene]:
    """Draw the examples that reports hold, as many of each as fit ``MAX_SHOWN``; what cannot be read is left out."""
    holding = [report for report in evaluations if report.details.get("examples")]
    share = MAX_SHOWN // max(1, len(holding))
    return [
        scene
        for report in holding
        for example in report.details["examples"][: max(1, share)]
        if (scene := _scene(example, f"{report.task} of {arm_of(report)}")) is not None
    ]


def _scene(example: Mapping[str, Any], of: str) -> Scene | None:
    try:
        pixels, size = _image(str(example["id"]), str(example["uri"]))
        if "code" in example:
            drawn, words = _masks(example, pixels)
        else:
            drawn, words = _boxes(example, pixels, size)
    except (SimcoreError, ImageFault, OSError, KeyError, TypeError, ValueError):
        return None  # moved since, or not written by us
    return Scene(str(example["id"]), of, *map(_encoded, drawn), *words)


def _image(name: str, uri: str) -> tuple[Pixels, tuple[int, int]]:
    source = open_uris(_Uris(pa.table({"id": [name], "uri": [uri]})))  # type: ignore[arg-type]
    decoded = source.decode(0, short_side=SIDE)
    picture = Image.fromarray(decoded.pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return np.asarray(picture), (decoded.width, decoded.height)


def _boxes(example: Mapping[str, Any], pixels: Pixels, size: tuple[int, int]) -> tuple[list[Pixels], list[str]]:
    names = sorted({box["class"] for side in ("truth", "found") for box in example[side]})
    drawn = [_with_boxes(pixels, size, example[side], names) for side in ("truth", "found")]
    words = [", ".join(_box_words(box) for box in example[side]) or "nothing" for side in ("truth", "found")]
    return drawn, words


def _with_boxes(
    pixels: Pixels, size: tuple[int, int], boxes: Sequence[Mapping[str, Any]], names: Sequence[str]
) -> Pixels:
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    scale = picture.width / size[0], picture.height / size[1]
    for box in boxes:
        edges = [float(edge) * scale[place % 2] for place, edge in enumerate(box["box"])]
        right, bottom = max(edges[0], edges[2] - 1), max(edges[1], edges[3] - 1)
        colour = colour_table()[1 + names.index(box["class"]) % 255].tolist()
        pen.rectangle((edges[0], edges[1], right, bottom), outline=tuple(colour), width=3)
    return np.asarray(picture)


def _box_words(box: Mapping[str, Any]) -> str:
    return f"{box['class']} {100 * box['score']:.0f} %" if "score" in box else str(box["class"])


def _masks(example: Mapping[str, Any], pixels: Pixels) -> tuple[list[Pixels], list[str]]:
    classes, code = list(example["code"]["classes"]), MaskClasses.parse(example["code"]["texts"])
    known = {name: number for number, name in enumerate(classes)}
    numbers = np.array([*(known.get(name, IGNORED) for name in code.names), IGNORED], np.uint8)
    own = code.numbers(decode_mask(read_bytes(str(example["truth"])), DEFAULT_LIMITS))
    truth = numbers[np.minimum(own, len(numbers) - 1)]
    found = decode_mask(read_bytes(escape(str(Path(example["found"])))), DEFAULT_LIMITS).astype(np.uint8)
    veiled = [_veiled(pixels, mask) for mask in (truth, found)]
    return veiled, [_mask_words(mask, classes) for mask in (truth, found)]


def _veiled(pixels: Pixels, mask: Pixels) -> Pixels:
    """Cover the image with the colours of its classes; class 0 and what is ignored stay bare."""
    size = (pixels.shape[1], pixels.shape[0])
    fitted = np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    covered = ((fitted > 0) & (fitted != IGNORED))[..., None]
    mixed = (1 - VEIL) * pixels + VEIL * colour_table()[fitted]
    return np.where(covered, np.rint(mixed), pixels).astype(np.uint8)


def _mask_words(mask: Pixels, classes: Sequence[str]) -> str:
    counts = np.bincount(mask.reshape(-1), minlength=IGNORED + 1)[: len(classes)]
    total = max(1, int(counts.sum()))
    named = [f"{name} {100 * n / total:.0f} %" for name, n in zip(classes, counts.tolist(), strict=True) if n]
    return ", ".join(named) or "nothing"


def _encoded(pixels: Pixels) -> str:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "WEBP", quality=QUALITY, method=4)
    return f"data:{MIME};base64,{base64.b64encode(held.getvalue()).decode('ascii')}"
