"""The fine-grained family of the drawn set: moths that differ in a band, a spot or the cut of a wing.

A species is a row of genes; an individual is its species' genes with noise that overlaps between species, in some
pose. Distances are in units of the wing span; angles in radians, 0 to the side, positive to the front.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from simcore.datasets._canvas import Canvas, Field, ellipse, hsv, stroke

GENES = ("hue", "depth", "light", "bands", "place", "wave", "width", "eye", "hind_eye", "margin", "tip", "tail")

SPECIES: dict[str, tuple[float, ...]] = {
    #              hue  depth light bands place wave width  eye hind margin tip  tail
    "ash moth": (0.095, 0.20, 0.78, 2.0, 0.55, 0.00, 0.11, 0.00, 0.00, 0.0, 0.30, 0.00),
    "birch moth": (0.095, 0.16, 0.82, 2.0, 0.55, 0.00, 0.11, 0.21, 0.00, 0.0, 0.30, 0.00),
    "clover moth": (0.070, 0.42, 0.66, 1.0, 0.60, 0.05, 0.28, 0.00, 0.22, 0.0, 0.30, 0.00),
    "dusk moth": (0.065, 0.36, 0.52, 1.0, 0.60, 0.05, 0.28, 0.00, 0.00, 1.0, 0.50, 0.00),
    "elder moth": (0.115, 0.30, 0.76, 3.0, 0.50, 0.05, 0.10, 0.00, 0.00, 0.0, 0.50, 0.80),
    "fern moth": (0.135, 0.36, 0.62, 3.0, 0.50, 0.05, 0.10, 0.00, 0.22, 1.0, 0.30, 0.00),
    "gorse moth": (0.120, 0.55, 0.80, 0.0, 0.50, 0.00, 0.05, 0.22, 0.22, 0.0, 0.60, 0.00),
    "heath moth": (0.060, 0.52, 0.60, 0.0, 0.50, 0.00, 0.05, 0.23, 0.00, 1.0, 0.60, 0.80),
}


@dataclasses.dataclass(frozen=True)
class Wing:
    """One pair of wings in polar form around the hinge, each field [B, S, S].

    ``angle`` is 0 along the middle of the wing, ``reach`` the distance from the hinge as a share of the outline's,
    ``edge`` the signed distance to the outline, ``centre`` the distance to where an eyespot sits.
    """

    angle: Field
    reach: Field
    edge: Field
    centre: Field


def species_genes(numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Look up the genes of target species, each [n]."""
    table = np.asarray(list(SPECIES.values()), np.float32)
    return dict(zip(GENES, table[numbers].T, strict=True))


def sister_genes(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Draw genes of other species of the same build: every combination may occur."""
    table = np.asarray(list(SPECIES.values()), np.float32)
    genes = {gene: table[rng.integers(0, len(table), count), i] for i, gene in enumerate(GENES)}
    genes["hue"] = rng.uniform(0.02, 0.16, count).astype(np.float32)
    genes["light"] = rng.uniform(0.4, 0.85, count).astype(np.float32)
    return genes


def butterfly_genes(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Draw genes of the wider family: vivid colours, any marking."""
    ranges = {"hue": (0, 1), "depth": (0.45, 0.95), "light": (0.6, 1.0), "bands": (0, 3.99), "place": (0.4, 0.75)}
    ranges |= {"wave": (0, 0.1), "width": (0.04, 0.16), "eye": (0, 0.16), "hind_eye": (0, 0.16)}
    ranges |= {"margin": (0, 1), "tip": (0.2, 0.7), "tail": (0, 0.6)}
    return {gene: rng.uniform(*ranges[gene], count).astype(np.float32) for gene in GENES}


def draw_moth(canvas: Canvas, genes: dict[str, np.ndarray]) -> None:
    """Draw one spread moth a picture, with the individual's deviation from its species' genes."""
    g = {gene: values.reshape(-1, 1, 1).copy() for gene, values in genes.items()}
    for gene, deviation in {
        "hue": 0.012,
        "depth": 0.05,
        "light": 0.05,
        "place": 0.03,
        "wave": 0.01,
        "tip": 0.05,
    }.items():
        g[gene] += canvas.normal(0, deviation)
    wear = canvas.uniform(0.7, 1.0)
    side, lift = np.abs(canvas.x + 0.02 * canvas.y), canvas.normal(0, 0.08)
    ground = hsv(g["hue"], np.clip(g["depth"], 0, 1), np.clip(g["light"], 0, 1))
    dark = ground * canvas.uniform(0.15, 0.35)[:, None]
    pale = np.clip(ground * 1.15 + 0.12, 0, 1)
    hind = _wing(
        side, canvas.y, hinge=0.0, middle=-0.7 + lift, spread=(0.9, 0.8), length=0.66 + 0.3 * g["tail"], lean=-g["tail"]
    )
    canvas.fill(hind.edge, pale)
    _pattern(canvas, hind, g, dark, pale, eye=g["hind_eye"], bands=np.minimum(g["bands"], 1), wear=wear * 0.8)
    fore = _wing(side, canvas.y, hinge=-0.14, middle=0.42 + lift, spread=(0.5, 0.95), length=1.0, lean=g["tip"])
    canvas.fill(fore.edge, ground)
    _pattern(canvas, fore, g, dark, pale, eye=g["eye"], bands=g["bands"], wear=wear)
    _body(canvas, side, dark, ground)


def _wing(
    side: Field,
    y: Field,
    *,
    hinge: float,
    middle: Field,
    spread: tuple[float, float],
    length: Field | float,
    lean: Field,
) -> Wing:
    """Lay out a wing: a lobe around the angle ``middle``, ``spread`` wide to the front and to the back.

    ``lean`` lengthens its front, so that the tip grows pointed.
    """
    across, forward = side - 0.05, hinge - y
    angle = np.arctan2(forward, np.maximum(across, 1e-3)) - middle
    turned = np.clip(np.where(angle > 0, angle / spread[0], angle / spread[1]), -1, 1)
    lobe = np.sqrt(np.cos(turned * (np.pi / 2)) + 1e-4)
    outline = length * lobe * (0.9 + 0.35 * lean * angle)
    radius = np.hypot(across, forward)
    centre = np.hypot(across - 0.5 * length * np.cos(middle), forward - 0.5 * length * np.sin(middle))
    return Wing(angle, radius / np.maximum(outline, 0.05), radius - outline, centre)


def _pattern(
    canvas: Canvas, wing: Wing, g: dict[str, Field], dark: Field, pale: Field, *, eye: Field, bands: Field, wear: Field
) -> None:
    """Mark bands, margin, veins and an eyespot on a wing; ``wear`` fades them all."""
    inside = wing.edge
    wavy = wing.reach + g["wave"] * np.sin(14 * wing.angle)
    for number in range(3):
        shown = (bands > number + 0.5) * wear
        band = np.maximum(np.abs(wavy - g["place"] + 0.2 * (number - 0.5)) - 0.5 * g["width"], inside)
        canvas.mark(band, dark, shown)
    canvas.mark(np.maximum(0.87 - wing.reach, inside), dark, g["margin"] * wear)
    canvas.mark(np.maximum(0.97 - wing.reach, inside), pale, 0.6 * wear)
    canvas.mark(np.maximum(np.abs(np.sin(7 * wing.angle)) * wing.reach - 0.04, inside), dark, 0.25)
    for radius, colour in ((1.0, dark), (0.62, pale), (0.32, dark)):
        canvas.mark(np.maximum(wing.centre - radius * eye, inside), colour, (eye > 0.03) * (0.35 + 0.65 * wear))


def _body(canvas: Canvas, side: Field, dark: Field, ground: Field) -> None:
    furry = 0.55 * dark + 0.45 * ground
    for reach in (-1, 1):
        canvas.fill(stroke(side, canvas.y, (0.02, -0.3), (0.3, -0.62 + 0.04 * reach), 0.012), dark, 0.8)
    canvas.fill(ellipse(canvas, 0, 0.16, 0.075, 0.36), furry)
    canvas.mark(np.maximum(np.sin(canvas.y * 40) * 0.05, ellipse(canvas, 0, 0.2, 0.075, 0.32)), dark, 0.5)
    canvas.fill(ellipse(canvas, 0, -0.16, 0.1, 0.17), furry * 0.9)
    canvas.fill(ellipse(canvas, 0, -0.33, 0.065, 0.06), dark)
