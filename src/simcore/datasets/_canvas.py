"""A batch of small pictures drawn at once: signed distances, soft edges, noise textures, light.

Coordinates of a :class:`Canvas` run from -1 to 1 over the object, x to the right and y down. A shape is a field of
signed distances [B, S, S], negative inside; filling it blends a colour over what is there, one pixel soft at the edge.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.floating[Any]]
"""Values that broadcast against [B, S, S]."""

Strength = Field | npt.NDArray[np.bool_] | float
"""Opacity in 0..1, for all or for each picture [B, 1, 1]."""

NUM_TEXTURES, TEXTURE_SIZE = 64, 160


class Canvas:
    """An object layer for ``count`` pictures of ``size`` x ``size`` pixels, each in its own pose.

    Args:
        rng: every draw of this batch comes from it.
        turn: spread of the rotation, in radians.
        wild: a share of pictures whose object is cut by the border or very small.
    """

    def __init__(
        self, rng: np.random.Generator, count: int, size: int, *, turn: float = 0.25, wild: float = 0.1
    ) -> None:
        self.rng, self.count, self.size = rng, count, size
        angle = self.normal(0.0, turn)
        spread = np.where(self.uniform(0, 1) < wild, 0.3, 0.08).astype(np.float32)
        scale = self.uniform(0.82, 1.0) * np.exp(self.normal(0.0, 1.0) * spread)
        axis = np.linspace(-1, 1, size, dtype=np.float32)
        across = (axis[None, None, :] - self.normal(0.0, 1.0) * spread) / scale
        down = (axis[None, :, None] - self.normal(0.0, 1.0) * spread) / scale
        squeeze = self.uniform(0.85, 1.0)
        self.x: Field = (across * np.cos(angle) + down * np.sin(angle)) / squeeze
        self.y: Field = down * np.cos(angle) - across * np.sin(angle)
        self.soft: Field = (2.0 / size) / scale
        self.colour = np.zeros((count, 3, size, size), np.float32)
        self.cover = np.zeros((count, 1, size, size), np.float32)

    def uniform(self, low: float, high: float) -> Field:
        """Draw one value a picture, [B, 1, 1]."""
        return self.rng.uniform(low, high, (self.count, 1, 1)).astype(np.float32)

    def normal(self, mean: float, deviation: float) -> Field:
        """Draw one value a picture, [B, 1, 1]."""
        return self.rng.normal(mean, deviation, (self.count, 1, 1)).astype(np.float32)

    def some(self, share: float) -> npt.NDArray[np.bool_]:
        """Draw yes for about ``share`` of the pictures, [B, 1, 1]."""
        return self.rng.random((self.count, 1, 1)) < share

    def paint(self, hue: tuple[float, float], depth: tuple[float, float], light: tuple[float, float]) -> Field:
        """Draw one colour a picture from ranges of hue (turns), saturation and value: [B, 3, 1, 1]."""
        return hsv(self.uniform(*hue), self.uniform(*depth), self.uniform(*light))

    def fill(self, distance: Field, colour: Field, strength: Strength = 1.0) -> None:
        """Blend ``colour`` ([B, 3, 1, 1] or [B, 3, S, S]) over the inside of ``distance``."""
        alpha = self._alpha(distance, strength)
        self.colour += alpha * (colour - self.colour)
        self.cover += alpha * (1 - self.cover)

    def mark(self, distance: Field, colour: Field, strength: Strength = 1.0) -> None:
        """Blend ``colour`` over what is drawn already, without growing the object."""
        alpha = self._alpha(distance, strength) * self.cover
        self.colour += alpha * (colour - self.colour)

    def _alpha(self, distance: Field, strength: Strength) -> Field:
        alpha = np.clip(0.5 - distance / self.soft, 0, 1) * strength
        return alpha.astype(np.float32, copy=False)[:, None]

    def shade(self, factor: Field) -> None:
        """Multiply the drawn colours by ``factor`` [B, S, S]."""
        self.colour *= factor[:, None]


def hsv(hue: Field, depth: Field, light: Field) -> Field:
    """Turn hue (in turns, any real), saturation and value [B, ...] into RGB [B, 3, ...] in 0..1."""
    sector = (np.asarray([5.0, 3.0, 1.0], np.float32).reshape(1, 3, *[1] * (hue.ndim - 1)) + hue[:, None] * 6) % 6
    ramp = np.clip(np.minimum(sector, 4 - sector), 0, 1)
    colour: Field = light[:, None] * (1 - depth[:, None] * ramp)
    return np.broadcast_to(colour, (len(hue), 3, *hue.shape[1:])) if hue.ndim > 3 else colour.reshape(len(hue), 3, 1, 1)


def ellipse(canvas: Canvas, cx: Any, cy: Any, rx: Any, ry: Any) -> Field:
    """Signed distance (approximate away from the border) to an upright ellipse."""
    near: Field = (np.hypot((canvas.x - cx) / rx, (canvas.y - cy) / ry) - 1) * np.minimum(rx, ry)
    return near.astype(np.float32, copy=False)


def box(canvas: Canvas, cx: Any, cy: Any, half_width: Any, half_height: Any, corner: float = 0.0) -> Field:
    """Signed distance to an upright box with rounded corners."""
    dx = np.abs(canvas.x - cx) - half_width + corner
    dy = np.abs(canvas.y - cy) - half_height + corner
    outside: Field = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0)) + np.minimum(np.maximum(dx, dy), 0) - corner
    return outside.astype(np.float32, copy=False)


def stroke(x: Field, y: Field, start: tuple[Any, Any], end: tuple[Any, Any], width: Any) -> Field:
    """Signed distance to a straight line of half width ``width`` with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    near: Field = np.hypot(x - start[0] - along * dx, y - start[1] - along * dy) - width
    return near.astype(np.float32, copy=False)


def texture_bank(seed: int) -> Field:
    """Draw noise fields [NUM_TEXTURES, TEXTURE_SIZE, TEXTURE_SIZE] in 0..1: from smooth to rough, some with a grain."""
    rng = np.random.default_rng([seed, 17])
    axis = np.fft.fftfreq(TEXTURE_SIZE).astype(np.float32) * TEXTURE_SIZE
    bank = np.empty((NUM_TEXTURES, TEXTURE_SIZE, TEXTURE_SIZE), np.float32)
    for number in range(NUM_TEXTURES):
        stretch = np.exp(rng.normal(0, 0.9)) if number % 2 else 1.0
        frequency = np.hypot(axis[:, None] * stretch, axis[None, :] / stretch)
        power = (frequency + 1.0) ** -rng.uniform(0.9, 2.2)
        power[0, 0] = 0
        spectrum = np.fft.fft2(rng.standard_normal((TEXTURE_SIZE, TEXTURE_SIZE))) * power
        noise = np.fft.ifft2(spectrum).real
        ranks = np.clip(noise / (2.6 * noise.std()), -1, 1)
        bank[number] = 0.5 + 0.5 * ranks
    return bank


def crops(bank: Field, rng: np.random.Generator, count: int, size: int) -> Field:
    """Cut a random square out of a random texture for each picture: [B, S, S]."""
    which = rng.integers(0, len(bank), count)
    corner = rng.integers(0, bank.shape[1] - size + 1, (count, 2))
    return np.stack([bank[w, r : r + size, c : c + size] for w, (r, c) in zip(which, corner, strict=True)])


def backdrop(canvas: Canvas, bank: Field, typical: tuple[float, float], plain: float) -> Field:
    """Draw what is behind: two shades of one hue mixed by noise, [B, 3, S, S].

    A share ``plain`` of the pictures lies on pale, even, earthy ground. Of the others three in five have a hue from
    the range ``typical``, the rest any hue.
    """
    even = canvas.some(plain)
    hue = np.where(canvas.some(0.6), canvas.uniform(*typical), canvas.uniform(0, 1))
    hue = np.where(even, canvas.uniform(0.05, 0.17), hue)
    depth = np.where(even, canvas.uniform(0.02, 0.25), canvas.uniform(0.03, 0.85) ** 1.6)
    light = np.where(even, canvas.uniform(0.5, 0.9), canvas.uniform(0.3, 0.95))
    contrast = np.where(even, canvas.uniform(0.05, 0.25), canvas.uniform(0.1, 0.6))
    noise = crops(bank, canvas.rng, canvas.count, canvas.size)
    noise = np.where(canvas.some(0.25) & ~even, np.clip(6 * noise - 2.5, 0, 1), noise)
    first = hsv(hue, depth, light)
    second = hsv(hue + canvas.normal(0, 0.05), depth * canvas.uniform(0.5, 1.3), light * (1 - contrast))
    return (first + noise[:, None] * (second - first)).astype(np.float32)


def develop(canvas: Canvas, behind: Field, bank: Field) -> npt.NDArray[np.uint8]:
    """Put the object with its shadow on the background, light it and expose it: uint8 [B, S, S, 3]."""
    rng, count, size = canvas.rng, canvas.count, canvas.size
    shadow = _shifted(canvas.cover, rng.integers(1, max(2, size // 12), 2)) * canvas.uniform(0, 0.55)[:, None]
    picture = behind * (1 - shadow * (1 - canvas.cover))
    grain = 1 + canvas.uniform(0.0, 0.35) * (crops(bank, rng, count, size) - 0.5)
    picture += canvas.cover * (canvas.colour * grain[:, None] - picture)
    axis = np.linspace(-1, 1, size, dtype=np.float32)
    slope = canvas.normal(0, 0.1) * axis[None, None, :] + canvas.normal(0, 0.1) * axis[None, :, None]
    tint = 1 + rng.normal(0, 0.04, (count, 3, 1, 1)).astype(np.float32)
    picture *= (canvas.uniform(0.8, 1.15) + slope)[:, None] * tint
    noise = rng.standard_normal((count, 1, size, size), np.float32)
    picture += noise * canvas.uniform(0.0, 0.05)[:, None]
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(0, 2, 3, 1)


def _shifted(cover: Field, offset: npt.NDArray[np.int64]) -> Field:
    """Move a mask down and right by ``offset`` pixels (at least one each way) and soften it a little."""
    down, right = offset.tolist()
    moved = np.zeros_like(cover)
    moved[:, :, down:, right:] = cover[:, :, :-down, :-right]
    moved[:, :, 1:] = (moved[:, :, 1:] + moved[:, :, :-1]) / 2
    moved[..., 1:] = (moved[..., 1:] + moved[..., :-1]) / 2
    return moved
