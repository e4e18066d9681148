"""The rest of the drawn pool, part one: animals and plants. Each painter draws one kind, in any colour it may have."""

from __future__ import annotations

import numpy as np

from simcore.datasets._canvas import Canvas, ellipse, stroke


def draw_beetle(canvas: Canvas) -> None:
    """An oval shell with a seam, dots or stripes, six legs."""
    shell = canvas.paint((0, 1), (0.5, 1), (0.3, 0.9))
    dark = shell * 0.25
    side, length = np.abs(canvas.x), canvas.uniform(0.5, 0.75)
    for row in (-0.25, 0.1, 0.4):
        canvas.fill(
            stroke(side, canvas.y, (0.2, row), (canvas.uniform(0.6, 0.85), row + canvas.normal(0, 0.2)), 0.035), dark
        )
    canvas.fill(ellipse(canvas, 0, -0.55, 0.28, 0.22), dark)
    body = ellipse(canvas, 0, 0.12, canvas.uniform(0.38, 0.55), length)
    canvas.fill(body, shell)
    spots = np.hypot((side - 0.22) / 0.8, (canvas.y * canvas.uniform(2.0, 3.5)) % 1.0 - 0.5) - canvas.uniform(0.1, 0.28)
    stripes = 0.4 * (np.sin(canvas.x * canvas.uniform(14, 22)) - 0.2)
    canvas.mark(np.where(canvas.some(0.5), spots * 0.3, stripes * 0.3), dark, canvas.uniform(0, 1))
    canvas.mark(side - 0.025, dark)
    canvas.mark(ellipse(canvas, -0.15, -0.1, 0.1, 0.2), 0 * shell + 1.0, 0.35)


def draw_fish(canvas: Canvas) -> None:
    """A side view: spindle, forked tail, fins, stripes, an eye."""
    scales = canvas.paint((0, 1), (0.2, 0.9), (0.5, 1))
    accent = canvas.paint((0, 1), (0.3, 1), (0.2, 0.9))
    height = canvas.uniform(0.22, 0.48)
    fork = np.maximum(np.abs(canvas.y) - 0.55 * (canvas.x - 0.45), canvas.x - 0.95 + 0.3 * np.cos(3 * canvas.y))
    canvas.fill(fork, accent)
    canvas.fill(ellipse(canvas, 0.05, -height, 0.32, 0.16), accent)
    canvas.fill(ellipse(canvas, 0.1, height * 0.9, 0.16, 0.14), accent)
    canvas.fill(ellipse(canvas, -0.1, 0, 0.72, height), scales)
    wave = np.sin(canvas.x * canvas.uniform(6, 24) + canvas.uniform(0, 6))
    canvas.mark(0.1 * (wave - canvas.uniform(0, 0.7)), accent, canvas.some(0.7) * 0.8)
    canvas.mark(0.3 * (-canvas.y - height * 0.2), np.minimum(scales * 1.4, 1), 0.3)
    canvas.mark(0.3 * (height * 0.4 - canvas.y), np.minimum(scales + 0.3, 1), 0.6)
    canvas.fill(ellipse(canvas, -0.58, -0.06, 0.08, 0.08), 0 * scales + 0.95)
    canvas.fill(ellipse(canvas, -0.59, -0.06, 0.045, 0.045), 0 * scales + 0.05)


def draw_bird(canvas: Canvas) -> None:
    """A perched bird: body, head, beak, wing, tail."""
    coat, wing = canvas.paint((0, 1), (0.1, 0.8), (0.3, 1)), canvas.paint((0, 1), (0.1, 0.8), (0.2, 0.8))
    canvas.fill(
        stroke(canvas.x, canvas.y, (-1.0, 0.62), (1.0, 0.66), 0.05), canvas.paint((0.05, 0.1), (0.4, 0.6), (0.2, 0.4))
    )
    canvas.fill(stroke(canvas.x, canvas.y, (0.35, 0.15), (0.95, canvas.uniform(0.2, 0.7)), 0.09), wing)
    canvas.fill(ellipse(canvas, 0, 0.12, 0.5, canvas.uniform(0.3, 0.42)), coat)
    canvas.fill(stroke(canvas.x, canvas.y, (-0.55, -0.3), (canvas.uniform(-0.95, -0.8), -0.26), 0.05), 0 * coat + 0.2)
    canvas.fill(ellipse(canvas, -0.4, -0.32, 0.25, 0.24), np.where(canvas.some(0.5)[:, None], coat, wing))
    canvas.fill(ellipse(canvas, 0.15, 0.08, 0.36, 0.2), wing)
    canvas.fill(ellipse(canvas, -0.46, -0.37, 0.05, 0.05), 0 * coat)


def draw_leaf(canvas: Canvas) -> None:
    """A leaf with midrib and side veins, smooth or toothed."""
    green = canvas.paint((0.05, 0.42), (0.4, 0.9), (0.3, 0.8))
    along = np.clip((canvas.y + 0.85) / 1.7, 0, 1)
    width = canvas.uniform(0.3, 0.6) * np.sin(np.pi * along ** canvas.uniform(0.6, 1.4))
    teeth = canvas.some(0.5) * 0.05 * np.sin(along * canvas.uniform(40, 80))
    canvas.fill(stroke(canvas.x, canvas.y, (0, 0.7), (canvas.normal(0, 0.15), 1.1), 0.03), green * 0.6)
    canvas.fill(np.maximum(np.abs(canvas.x) - width - teeth, np.abs(canvas.y) - 0.86), green)
    veins = np.abs(np.sin((canvas.y + 0.8 * np.abs(canvas.x)) * canvas.uniform(9, 16))) - 0.12
    canvas.mark(0.1 * veins, np.minimum(green * 1.35, 1), 0.5)
    canvas.mark(np.abs(canvas.x) - 0.025, np.minimum(green * 1.4, 1))


def draw_flower(canvas: Canvas) -> None:
    """Petals around a disc."""
    petals, disc = canvas.paint((0, 1), (0.2, 0.9), (0.6, 1)), canvas.paint((0.08, 0.2), (0.5, 1), (0.3, 1))
    radius, angle = np.hypot(canvas.x, canvas.y), np.arctan2(canvas.y, canvas.x)
    count = np.floor(canvas.uniform(4, 12))
    lobes = np.abs(np.cos(count * angle / 2)) ** canvas.uniform(0.3, 1.2)
    canvas.fill(
        stroke(canvas.x, canvas.y, (0, 0.2), (canvas.normal(0, 0.2), 1.3), 0.04),
        canvas.paint((0.25, 0.35), (0.5, 0.8), (0.3, 0.6)),
    )
    canvas.fill(radius - 0.35 - 0.5 * lobes, petals)
    canvas.mark(0.3 * (radius - 0.42), petals * canvas.uniform(0.4, 1)[:, None], 0.7)
    canvas.mark(0.06 * (np.abs(np.sin(count * angle / 2)) - 0.12), petals * 0.7, 0.6)
    canvas.fill(radius - canvas.uniform(0.13, 0.3), disc)


def draw_mushroom(canvas: Canvas) -> None:
    """A cap with dots over a stem."""
    cap, stem = canvas.paint((0, 0.15), (0.2, 0.95), (0.3, 0.95)), canvas.paint((0.1, 0.15), (0.05, 0.3), (0.6, 0.95))
    canvas.fill(stroke(canvas.x, canvas.y, (canvas.normal(0, 0.08), 0), (0, 0.75), canvas.uniform(0.1, 0.22)), stem)
    top = ellipse(canvas, 0, 0, canvas.uniform(0.5, 0.85), canvas.uniform(0.45, 0.8))
    dome = np.maximum(top, canvas.y - 0.08)
    canvas.fill(dome, cap)
    dots = np.hypot((canvas.x * 2.2) % 1 - 0.5, (canvas.y * 2.4 + canvas.uniform(0, 1)) % 1 - 0.5) - 0.22
    canvas.mark(np.maximum(0.35 * dots, dome), 0 * cap + 0.95, canvas.some(0.5) * 0.9)


def draw_starfish(canvas: Canvas) -> None:
    """Five to eight arms with a row of dots."""
    skin = canvas.paint((0, 1), (0.3, 0.9), (0.4, 1))
    radius, angle = np.hypot(canvas.x, canvas.y), np.arctan2(canvas.x, -canvas.y)
    arms = np.floor(canvas.uniform(5, 8.9))
    fold = np.abs((angle * arms / (2 * np.pi) + 0.5) % 1 - 0.5) * 2
    body = radius - 0.22 - canvas.uniform(0.4, 0.65) * (1 - fold) ** canvas.uniform(1.2, 2.2)
    canvas.fill(body, skin)
    canvas.mark(0.1 * (fold - 0.1) * (1 + np.sin(radius * 40)), np.minimum(skin + 0.25, 1), 0.8)


def draw_shell(canvas: Canvas) -> None:
    """A snail's spiral."""
    ground, line = canvas.paint((0.02, 0.15), (0.1, 0.7), (0.5, 1)), canvas.paint((0, 0.12), (0.2, 0.8), (0.2, 0.6))
    radius, angle = np.hypot(canvas.x, canvas.y), np.arctan2(canvas.y, canvas.x)
    canvas.fill(ellipse(canvas, 0.1, 0.62, 0.95, 0.16), line)
    canvas.fill(radius - 0.62 - 0.06 * angle, ground)
    turns = (np.log(radius + 0.02) * canvas.uniform(1.0, 1.6) + angle / (2 * np.pi)) % 1
    canvas.mark(0.12 * (np.abs(turns - 0.5) - 0.1), line)
    canvas.mark(0.1 * (np.sin(angle * canvas.uniform(8, 20)) - 0.6), line, canvas.some(0.5) * 0.6)


def draw_tree(canvas: Canvas) -> None:
    """A trunk under round or pointed foliage."""
    wood, green = canvas.paint((0.04, 0.1), (0.3, 0.7), (0.2, 0.5)), canvas.paint((0.1, 0.42), (0.3, 0.9), (0.25, 0.8))
    canvas.fill(stroke(canvas.x, canvas.y, (0, 0), (canvas.normal(0, 0.05), 0.95), canvas.uniform(0.05, 0.13)), wood)
    pointed = canvas.some(0.4)
    for _ in range(5):
        puff = ellipse(canvas, canvas.normal(0, 0.25), canvas.normal(-0.25, 0.2), 0.34, 0.3)
        canvas.fill(np.where(pointed, 1.0, puff).astype(np.float32), green * canvas.uniform(0.75, 1.1)[:, None])
    tiers = np.abs(canvas.x) - 0.42 * ((canvas.y * 2.2 + 2) % 1 * 0.6 + (canvas.y + 0.9) * 0.5)
    cone = np.maximum(np.maximum(tiers, canvas.y - 0.5), -0.9 - canvas.y)
    canvas.fill(np.where(pointed, cone, 1.0).astype(np.float32), green * 0.8)


def draw_face(canvas: Canvas) -> None:
    """A round animal's face: ears, eyes, muzzle; symmetric as a moth is."""
    fur, inner = canvas.paint((0.02, 0.14), (0.05, 0.7), (0.25, 0.95)), canvas.paint((0, 0.1), (0.1, 0.4), (0.5, 1))
    side = np.abs(canvas.x)
    ear = np.hypot((side - 0.5) / canvas.uniform(0.18, 0.3), (canvas.y + 0.6) / canvas.uniform(0.25, 0.5)) - 1
    canvas.fill(0.25 * ear, fur * 0.8)
    canvas.fill(ellipse(canvas, 0, 0.05, canvas.uniform(0.6, 0.75), canvas.uniform(0.55, 0.7)), fur)
    canvas.fill(ellipse(canvas, 0, 0.38, 0.33, 0.25), inner)
    eye = np.hypot(side - 0.27, canvas.y + 0.05)
    canvas.fill(eye - canvas.uniform(0.1, 0.18), canvas.paint((0.05, 0.6), (0.1, 0.9), (0.6, 1)))
    canvas.fill(eye - 0.07, 0 * fur)
    canvas.fill(ellipse(canvas, 0, 0.26, 0.12, 0.08), 0 * fur + 0.1)


CREATURES = {
    "beetle": (draw_beetle, (0.05, 0.4)),
    "fish": (draw_fish, (0.45, 0.65)),
    "bird": (draw_bird, (0.2, 0.6)),
    "leaf": (draw_leaf, (0.05, 0.2)),
    "flower": (draw_flower, (0.2, 0.4)),
    "mushroom": (draw_mushroom, (0.08, 0.35)),
    "starfish": (draw_starfish, (0.1, 0.6)),
    "shell": (draw_shell, (0.08, 0.3)),
    "tree": (draw_tree, (0.3, 0.6)),
    "face": (draw_face, (0.0, 1.0)),
}
"""Painter and the range of hues that suits its background, by name."""
