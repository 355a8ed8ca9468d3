"""Textures of synthetic scenes: surfaces, cluttered backdrops, outlines and, with photographs, cutouts."""

import math
from typing import Protocol

import cv2
import numpy as np


class Textures(Protocol):
    """Source of a scene's textures. All random choices come from the generator that each method is given."""

    def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Return a backdrop (S, S', 3) uint8 RGB whose shorter side is at least `side`.

        A backdrop (S, S', 4) uint8 RGBA marks an object of the backdrop in its alpha channel.
        """

    def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Return a surface (side, side, 3) uint8 RGB to fill an outline with."""

    def cutout(self, rng: np.random.Generator, side: int) -> np.ndarray | None:
        """Return an object with its own outline, (side, side, 4) uint8 RGBA; None: generate an outline."""


class GeneratedTextures:
    """Textures that are computed from random numbers alone, without any image."""

    def __init__(self, rng: np.random.Generator | None = None) -> None:
        """Ignore `rng`: the class itself serves as `open_textures` of `generate_clip`."""

    def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Return a surface with up to three kinds of clutter on it, several copies of each kind."""
        image = self.surface(rng, side)
        for _ in range(rng.integers(0, 4)):
            kind, colour = outline(rng), 255 * rng.random(3)
            for _ in range(rng.integers(2, 12)):
                angle = rng.uniform(0, math.tau)
                size = side * math.exp(rng.uniform(math.log(0.02), math.log(0.15)))
                cos, sin = size * math.cos(angle), size * math.sin(angle)
                corners = kind @ np.array([[cos, sin], [-sin, cos]]) + rng.uniform(0, side, 2)
                tint = np.clip(colour + rng.normal(0, 12, 3), 0, 255).tolist()
                cv2.fillPoly(image, [np.rint(16 * corners).astype(np.int32)], tint, cv2.LINE_AA, shift=4)
        # Uneven light, so that brightness alone does not tell where the clutter is.
        return cv2.convertScaleAbs(image * (0.75 + 0.4 * noise(rng, side)[..., None]))

    def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
        """Return a pattern of two colours with patches of a third one."""
        first, second, third = colours(rng)
        grain, patches = noise(rng, side), noise(rng, side)
        texture = first + pattern(rng, grain)[..., None] * (second - first)
        texture += np.clip(10 * patches - rng.uniform(5, 10), 0, 1)[..., None] * (third - texture)
        return cv2.convertScaleAbs(texture * (0.7 + 0.5 * grain)[..., None])

    def cutout(self, rng: np.random.Generator, side: int) -> None:
        """Return None: outlines are generated as well."""


def colours(rng: np.random.Generator) -> np.ndarray:
    """Draw three colours of similar or different hue, from grey to vivid. Returns: (3, 3) float32, 0..255."""
    values = rng.permutation([rng.uniform(0.1, 0.5), rng.uniform(0.4, 1), rng.uniform(0.1, 1)])
    hues = rng.uniform(0, 360) + rng.choice([15, 60, 180]) * rng.uniform(-1, 1, 3)
    hsv = np.stack([hues % 360, rng.uniform(0, rng.choice([0.3, 0.6, 0.9]), 3), values], axis=1)
    return 255 * cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0]


def noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Draw smooth noise as a sum of six scales. Returns: (S, S) float32 from 0 to 1."""
    falloff = rng.uniform(0.4, 0.85)
    total = np.zeros((side, side), np.float32)
    for k in range(6):
        grid = falloff**k * rng.random((3 << k, 3 << k), np.float32)
        cv2.add(total, cv2.resize(grid, (side, side)), dst=total)
    return cv2.normalize(total, total, 0, 1, cv2.NORM_MINMAX)


def pattern(rng: np.random.Generator, grain: np.ndarray) -> np.ndarray:
    """Draw noise, patches, a gradient, stripes, checks or dots.

    Args:
        grain: (S, S) float32 noise from 0 to 1, which bends the regular patterns.
    Returns: (S, S) float32 from 0 to 1.
    """
    angle, pitch = rng.uniform(0, math.tau), rng.uniform(6, 26)
    axis = np.linspace(-1, 1, len(grain), dtype=np.float32)
    along, across = (math.cos(a) * axis + math.sin(a) * axis[:, None] for a in (angle, angle + math.tau / 4))
    kind = rng.integers(7)
    if kind < 3:  # three of seven are irregular, because regular patterns are rare in nature
        return np.clip((grain, 12 * grain - 5.5, 0.5 + 0.6 * along)[kind], 0, 1)
    stripes = np.sin(pitch * along + 2 * grain)
    if kind == 3:
        return np.clip(0.5 + 5 * stripes, 0, 1)
    checks = stripes * np.sin(pitch * across + 2 * grain)
    return np.clip((0.5 + 5 * checks, 5 * checks - 1, 0.5 + 0.5 * stripes)[kind - 4], 0, 1)


def outline(rng: np.random.Generator) -> np.ndarray:
    """Draw an ellipse, blob, star, polygon or elongated shape. Returns: (96, 2) x, y in -1..1."""
    around, corners = np.linspace(0, math.tau, 96, endpoint=False), int(rng.integers(3, 8))
    along = around * corners / math.tau % 1 - 0.5  # position between one corner and the next
    lobes = sum(rng.uniform(0.05, 0.3) * np.cos(k * around + rng.uniform(0, math.tau)) for k in (2, 3, 4, 5))
    star = 1 - rng.uniform(0.35, 0.6) * (1 - 2 * np.abs(along))
    polygon = math.cos(math.pi / corners) / np.cos(math.tau / corners * along)
    kind = rng.choice(5, p=(0.15, 0.4, 0.1, 0.15, 0.2))
    radius = (np.ones(96), 1 + lobes, star, polygon, 1 + 0.5 * lobes)[kind]
    stretch = rng.uniform(2.5, 5) if kind == 4 else rng.uniform(1, 1.8)
    x, y = radius * np.cos(around) * stretch, radius * np.sin(around)
    bend = rng.uniform(-0.3, 0.3) * x * x / stretch  # like a banana, so that few shapes are symmetric
    points = np.stack([x, y + bend], axis=1)
    return points / np.abs(points).max()
