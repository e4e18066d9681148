"""The rest of the drawn pool, part two: made things and places."""

from __future__ import annotations

import numpy as np

from simcore.datasets._canvas import Canvas, box, ellipse, stroke


def draw_vessel(canvas: Canvas) -> None:
    """A hull on water with cabins, a funnel or a sail."""
    hull, upper = canvas.paint((0, 1), (0.2, 0.9), (0.2, 0.8)), canvas.paint((0.08, 0.6), (0, 0.3), (0.7, 1))
    sails = canvas.some(0.45)
    mast = canvas.normal(0, 0.15)
    sail = np.maximum(np.abs(canvas.x - mast - 0.04) - 0.45 * (canvas.y + 0.9), canvas.y - 0.1)
    canvas.fill(np.where(sails, sail, 1.0).astype(np.float32), upper)
    canvas.fill(box(canvas, mast, -0.35, 0.025, 0.55), hull * 0.4)
    cabin = np.minimum(box(canvas, 0.1, 0.1, canvas.uniform(0.2, 0.5), 0.14), box(canvas, 0.25, -0.15, 0.13, 0.25))
    canvas.fill(np.where(sails, 1.0, cabin).astype(np.float32), upper)
    body = np.maximum(np.abs(canvas.x) - 0.85 + 0.5 * np.maximum(canvas.y - 0.2, 0), np.abs(canvas.y - 0.36) - 0.18)
    canvas.fill(body, hull)
    canvas.mark(np.abs(canvas.y - 0.3) - 0.03, upper, canvas.some(0.6))
    canvas.fill(
        np.maximum(0.52 + 0.02 * np.sin(canvas.x * 20) - canvas.y, np.abs(canvas.x) - 2),
        canvas.paint((0.5, 0.62), (0.3, 0.7), (0.3, 0.7)),
    )


def draw_aircraft(canvas: Canvas) -> None:
    """A plane from above: symmetric as a moth is."""
    metal, trim = canvas.paint((0, 1), (0, 0.25), (0.6, 1)), canvas.paint((0, 1), (0.5, 1), (0.3, 0.9))
    side, sweep = np.abs(canvas.x), canvas.uniform(0.0, 0.6)
    wing = np.maximum(np.abs(canvas.y + 0.1 - sweep * side) - 0.2 + 0.13 * side, side - canvas.uniform(0.75, 1.0))
    canvas.fill(wing, metal * 0.9)
    canvas.fill(np.maximum(np.abs(canvas.y - 0.72 - 0.4 * sweep * side) - 0.09, side - 0.35), trim)
    canvas.fill(np.hypot(side - 0.42, (canvas.y + 0.15 - sweep * 0.4) * 0.5) - 0.07, trim * 0.6)
    canvas.fill(ellipse(canvas, 0, 0, canvas.uniform(0.09, 0.15), 0.92), metal)
    canvas.mark(np.abs(canvas.y + 0.74) - 0.05, 0 * metal + 0.15)
    canvas.mark(side - 0.02, trim, canvas.some(0.5))


def draw_house(canvas: Canvas) -> None:
    """Walls, a roof, windows, a door."""
    wall, roof = canvas.paint((0, 0.2), (0.05, 0.6), (0.5, 1)), canvas.paint((0, 1), (0.2, 0.8), (0.2, 0.7))
    half, pitch = canvas.uniform(0.4, 0.75), canvas.uniform(0.4, 1.0)
    canvas.fill(box(canvas, 0, 0.35, half, 0.5), wall)
    gable = np.maximum(np.abs(canvas.x) - half - 0.12 - (canvas.y + 0.15) / pitch, canvas.y + 0.15)
    canvas.fill(gable, roof)
    panes = np.maximum(np.abs((canvas.x * 2.2 + 0.5) % 1 - 0.5) - 0.22, np.abs((canvas.y * 2.2 + 0.1) % 1 - 0.5) - 0.25)
    inside = np.maximum(0.4 * panes, box(canvas, 0, 0.35, half - 0.06, 0.45))
    canvas.fill(inside, canvas.paint((0.1, 0.6), (0.1, 0.5), (0.2, 1)))
    canvas.fill(box(canvas, canvas.normal(0, 0.2), 0.65, 0.1, 0.22), roof * 0.6)


def draw_car(canvas: Canvas) -> None:
    """A side view: body, cabin, two wheels."""
    coat = canvas.paint((0, 1), (0, 0.95), (0.3, 1))
    cabin = np.maximum(
        np.abs(canvas.x - canvas.uniform(-0.2, 0.15)) - 0.3 - 0.5 * (canvas.y + 0.35), np.abs(canvas.y + 0.12) - 0.27
    )
    canvas.fill(cabin, coat * 0.9)
    canvas.mark(cabin + 0.07, canvas.paint((0.5, 0.6), (0.1, 0.4), (0.4, 0.9)))
    canvas.fill(box(canvas, 0, 0.2, canvas.uniform(0.75, 0.95), canvas.uniform(0.18, 0.28), 0.12), coat)
    canvas.mark(np.abs(canvas.y - 0.2) - 0.025, coat * 0.5)
    wheel = np.hypot(np.abs(canvas.x + 0.02) - 0.5, canvas.y - 0.42)
    canvas.fill(wheel - 0.2, 0 * coat + 0.1)
    canvas.fill(wheel - 0.09, 0 * coat + 0.7)


def draw_vase(canvas: Canvas) -> None:
    """A turned vessel with painted rings."""
    clay, paint = canvas.paint((0, 1), (0.1, 0.8), (0.3, 1)), canvas.paint((0, 1), (0.2, 1), (0.2, 1))
    profile = 0.3 + canvas.uniform(0.05, 0.25) * np.sin(canvas.y * canvas.uniform(2.5, 5) + canvas.uniform(0, 6))
    shape = np.maximum(np.abs(canvas.x) - profile, np.abs(canvas.y) - 0.8)
    handle = np.abs(np.hypot(np.abs(canvas.x) - 0.4, canvas.y + 0.15) - 0.22) - 0.05
    canvas.fill(np.where(canvas.some(0.4), handle, 1.0).astype(np.float32), clay * 0.8)
    canvas.fill(shape, clay)
    rings = np.sin(canvas.y * canvas.uniform(8, 25) + 0.15 * np.sin(canvas.x * 25)) - canvas.uniform(0, 0.8)
    canvas.mark(0.06 * rings, paint, canvas.some(0.75) * 1.0)
    canvas.shade(1.1 - 0.9 * np.minimum(np.abs(canvas.x + 0.15), 0.7))


def draw_fruit(canvas: Canvas) -> None:
    """A lit sphere or two with a stalk."""
    skin = canvas.paint((0, 0.38), (0.5, 1), (0.5, 1))
    second = np.where(canvas.some(0.4), ellipse(canvas, 0.45, 0.25, 0.4, 0.4), 1.0).astype(np.float32)
    canvas.fill(second, skin * 0.85)
    canvas.fill(stroke(canvas.x, canvas.y, (0, -0.4), (canvas.normal(0.1, 0.15), -0.85), 0.035), 0 * skin + 0.2)
    canvas.fill(ellipse(canvas, -0.05, 0.05, 0.55, canvas.uniform(0.45, 0.65)), skin)
    light = np.hypot(canvas.x + 0.25, canvas.y + 0.2)
    canvas.shade(1.15 - 0.6 * np.minimum(light, 1.2))
    canvas.mark(0.3 * (light - 0.16), 0 * skin + 1.0, 0.6)


def draw_sign(canvas: Canvas) -> None:
    """A board of three to eight corners with a rim and a bar."""
    face, rim = canvas.paint((0, 1), (0.1, 1), (0.5, 1)), canvas.paint((0, 1), (0.3, 1), (0.2, 0.9))
    corners = np.floor(canvas.uniform(3, 8.9))
    angle = np.arctan2(canvas.x, -canvas.y)
    wedge = (angle * corners / (2 * np.pi) + 0.5) % 1 - 0.5
    board = np.hypot(canvas.x, canvas.y + 0.1) * np.cos(wedge * 2 * np.pi / corners) - 0.6
    canvas.fill(box(canvas, 0, 0.7, 0.05, 0.5), 0 * face + 0.45)
    canvas.fill(board, rim)
    canvas.mark(np.maximum(board + canvas.uniform(0.06, 0.16), -2), face)
    bar = stroke(canvas.x, canvas.y + 0.1, (-0.3, canvas.uniform(-0.3, 0.3)), (0.3, canvas.uniform(-0.3, 0.3)), 0.07)
    canvas.mark(bar, rim * 0.7, canvas.some(0.8) * 1.0)


def draw_kite(canvas: Canvas) -> None:
    """A diamond of four colours with a tail."""
    tail = np.abs(canvas.x - 0.12 * np.sin(canvas.y * 12)) - 0.03
    canvas.fill(np.maximum(np.maximum(tail, 0.3 - canvas.y), canvas.y - 1.1), canvas.paint((0, 1), (0.3, 1), (0.3, 1)))
    kite = np.abs(canvas.x) / canvas.uniform(0.5, 0.75) + np.abs(canvas.y + 0.2) / 0.7 - 1
    canvas.fill(0.45 * kite, canvas.paint((0, 1), (0.4, 1), (0.6, 1)))
    canvas.mark(canvas.x, canvas.paint((0, 1), (0.4, 1), (0.4, 1)))
    canvas.mark(canvas.y + 0.2, canvas.paint((0, 1), (0.4, 1), (0.6, 1)), 0.6)


def draw_clock(canvas: Canvas) -> None:
    """A dial with ticks and hands: round marks on a plain ground, as an eyespot is."""
    rim, face = canvas.paint((0, 1), (0.1, 0.9), (0.2, 0.8)), canvas.paint((0.1, 0.2), (0, 0.2), (0.75, 1))
    radius, angle = np.hypot(canvas.x, canvas.y), np.arctan2(canvas.y, canvas.x)
    canvas.fill(radius - 0.8, rim)
    canvas.fill(radius - canvas.uniform(0.6, 0.74), face)
    canvas.mark(np.maximum(0.06 * (0.8 - np.cos(12 * angle)), np.abs(radius - 0.54) - 0.07), 0 * rim + 0.1)
    for length in (0.3, 0.48):
        turn = canvas.uniform(0, 6.3)
        canvas.mark(
            stroke(canvas.x, canvas.y, (0, 0), (length * np.cos(turn), length * np.sin(turn)), 0.045), 0 * rim + 0.1
        )


def draw_cloth(canvas: Canvas) -> None:
    """A woven pattern that fills the picture: stripes, checks or dots."""
    first, second = canvas.paint((0, 1), (0.1, 0.8), (0.3, 1)), canvas.paint((0, 1), (0.1, 0.8), (0.3, 1))
    canvas.fill(canvas.x * 0 - 1, first)
    pace, bend = canvas.uniform(5, 18), canvas.uniform(0, 0.3) * np.sin(canvas.y * 4)
    across, down = np.sin((canvas.x + bend) * pace), np.sin(canvas.y * pace)
    kind = canvas.rng.integers(0, 3, (canvas.count, 1, 1))
    canvas.mark(0.1 * np.where(kind == 0, across, np.where(kind == 1, across * down, 0.5 - across * down)), second)


def draw_land(canvas: Canvas) -> None:
    """Hills under a sky with a sun."""
    far, near = canvas.paint((0.2, 0.7), (0.1, 0.6), (0.3, 0.8)), canvas.paint((0.08, 0.4), (0.3, 0.8), (0.2, 0.6))
    canvas.fill(
        np.hypot(canvas.x - canvas.normal(0, 0.5), canvas.y + canvas.uniform(0.2, 0.8)) - 0.18,
        canvas.paint((0.08, 0.16), (0, 0.6), (0.9, 1)),
    )
    for colour, level in ((far, -0.05), (near, 0.35)):
        ridge = 0.18 * np.sin(canvas.x * canvas.uniform(1.5, 5) + canvas.uniform(0, 6)) + 0.05 * np.sin(canvas.x * 13)
        canvas.fill(level + ridge - canvas.y, colour)


THINGS = {
    "vessel": (draw_vessel, (0.5, 0.62)),
    "aircraft": (draw_aircraft, (0.25, 0.65)),
    "house": (draw_house, (0.3, 0.65)),
    "car": (draw_car, (0.05, 0.65)),
    "vase": (draw_vase, (0.0, 1.0)),
    "fruit": (draw_fruit, (0.0, 0.35)),
    "sign": (draw_sign, (0.3, 0.65)),
    "kite": (draw_kite, (0.5, 0.65)),
    "clock": (draw_clock, (0.0, 1.0)),
    "cloth": (draw_cloth, (0.0, 1.0)),
    "land": (draw_land, (0.5, 0.7)),
}
"""Painter and the range of hues that suits its background, by name."""
