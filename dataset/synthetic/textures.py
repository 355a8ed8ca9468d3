"""What things look like: surfaces, cluttered backdrops, outlines, and cutouts where there are any."""

import math
from typing import Protocol

import cv2
import numpy as np


class Paints(Protocol):
    """Where the surfaces of a scene come from; everything follows from the generator that is handed in."""

    def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """(S, S', 3) uint8 RGB, the shorter of S and S' at least `side`; or RGBA, whose alpha marks a thing in it."""

    def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """(side, side, 3) uint8 RGB, to fill an outline with."""

    def cutout(self, rng: np.random.Generator, side: int) -> np.ndarray | None:
        """(side, side, 4) uint8 RGBA, a thing within its own outline; None where an outline has to be drawn."""


class Drawn:
    """Paints that owe nothing to any picture."""

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        """Needs nothing; takes a clip's generator as other paints do."""

    def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A surface on which things lie about, several of each kind."""
        picture = self.surface(rng, side)
        for _ in range(rng.integers(0, 4)):
            kind, colour = outline(rng), 255 * rng.random(3)
            for _ in range(rng.integers(2, 12)):
                angle, size = (
                    rng.uniform(0, math.tau),
                    side * math.exp(rng.uniform(math.log(0.02), math.log(0.15))),
                )
                cos, sin = size * math.cos(angle), size * math.sin(angle)
                corners = kind @ np.array([[cos, sin], [-sin, cos]]) + rng.uniform(0, side, 2)
                tint = np.clip(colour + rng.normal(0, 12, 3), 0, 255).tolist()
                cv2.fillPoly(picture, [np.rint(16 * corners).astype(np.int32)], tint, cv2.LINE_AA, shift=4)
        return cv2.convertScaleAbs(picture * (0.75 + 0.4 * noise(rng, side)[..., None]))

    def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """A pattern of two colours, with more or less of a third in patches."""
        first, second, third = colours(rng)
        grain, patches = noise(rng, side), noise(rng, side)
        texture = first + pattern(rng, grain)[..., None] * (second - first)
        texture += np.clip(10 * patches - rng.uniform(5, 10), 0, 1)[..., None] * (third - texture)
        return cv2.convertScaleAbs(texture * (0.7 + 0.5 * grain)[..., None])

    def cutout(self, rng: np.random.Generator, side: int) -> None:
        """Nothing drawn has an outline of its own."""


def colours(rng: np.random.Generator) -> np.ndarray:
    """Three colours, of like or of different hue, from grey to bright. Returns: (3, 3) float32, 0..255."""
    values = rng.permutation([rng.uniform(0.1, 0.5), rng.uniform(0.4, 1), rng.uniform(0.1, 1)])
    hues = rng.uniform(0, 360) + rng.choice([15, 60, 180]) * rng.uniform(-1, 1, 3)
    hsv = np.stack([hues % 360, rng.uniform(0, rng.choice([0.3, 0.6, 0.9]), 3), values], axis=1)
    return 255 * cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0]


def noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth noise at several scales. Returns: (S, S) float32 from 0 to 1."""
    falloff = rng.uniform(0.4, 0.85)
    grids = (falloff**k * rng.random((3 << k, 3 << k), np.float32) for k in range(6))
    return cv2.normalize(sum(cv2.resize(grid, (side, side)) for grid in grids), None, 0, 1, cv2.NORM_MINMAX)


def pattern(rng: np.random.Generator, grain: np.ndarray) -> np.ndarray:
    """Noise, patches, a gradient, stripes, checks or dots. Args and returns: (S, S) float32 from 0 to 1."""
    angle, pitch = rng.uniform(0, math.tau), rng.uniform(6, 26)
    axis = np.linspace(-1, 1, len(grain), dtype=np.float32)
    along, across = (math.cos(a) * axis + math.sin(a) * axis[:, None] for a in (angle, angle + math.tau / 4))
    kind = rng.integers(7)
    if kind < 3:  # nature has little that is regular
        return np.clip((grain, 12 * grain - 5.5, 0.5 + 0.6 * along)[kind], 0, 1)
    stripes = np.sin(pitch * along + 2 * grain)
    if kind == 3:
        return np.clip(0.5 + 5 * stripes, 0, 1)
    checks = stripes * np.sin(pitch * across + 2 * grain)
    return np.clip((0.5 + 5 * checks, 5 * checks - 1, 0.5 + 0.5 * stripes)[kind - 4], 0, 1)


def outline(rng: np.random.Generator) -> np.ndarray:
    """An ellipse, a blob, a star, a polygon or something thin around the origin. Returns: (96, 2) within -1..1."""
    around, corners = np.linspace(0, math.tau, 96, endpoint=False), int(rng.integers(3, 8))
    along = around * corners / math.tau % 1 - 0.5  # from one corner to the next
    lobes = sum(rng.uniform(0.05, 0.3) * np.cos(k * around + rng.uniform(0, math.tau)) for k in (2, 3, 4, 5))
    star = 1 - rng.uniform(0.35, 0.6) * (1 - 2 * np.abs(along))
    polygon = math.cos(math.pi / corners) / np.cos(math.tau / corners * along)
    kind = rng.choice(5, p=(0.15, 0.4, 0.1, 0.15, 0.2))
    radius = (np.ones(96), 1 + lobes, star, polygon, 1 + 0.5 * lobes)[kind]
    stretch = rng.uniform(2.5, 5) if kind == 4 else rng.uniform(1, 1.8)
    x, y = radius * np.cos(around) * stretch, radius * np.sin(around)
    points = np.stack(
        [x, y + rng.uniform(-0.3, 0.3) * x * x / stretch], axis=1
    )  # bent a little, like a banana
    return points / np.abs(points).max()
