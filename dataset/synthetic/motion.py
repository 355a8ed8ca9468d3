"""Who moves in a scene, and how: figures of one or more parts, their paths, the camera.

Lengths are in units of sqrt(H * W), so that clips look alike at every size; times in frames; angles in radians. A pose
is a (3, 3) affine matrix from a thing's own plane to the one that it moves in.
"""

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from dataset.synthetic.textures import Paints, outline

MAX_SIDE = 512  # pixels of a part's paint


@dataclass(frozen=True)
class Wave:
    """A swing to and fro that starts from 0."""

    size: float = 0.0
    phase: float = 0.0
    pace: float = 0.0  # radians per frame

    def at(self, time: float) -> float:
        """Its value at `time`."""
        return self.size * (math.sin(self.phase + self.pace * time) - math.sin(self.phase))


@dataclass(frozen=True)
class Part:
    """A flat piece of a figure that swings around its joint and ripples like cloth."""

    paint: np.ndarray  # (S, S', 4) uint8 RGBA
    reach: tuple[float, float]  # its paint covers -reach to reach in x and y of its own plane
    joint: tuple[float, float] = (0.0, 0.0)  # in the figure's plane
    middle: tuple[float, float] = (0.0, 0.0)  # of its paint, seen from the joint
    swing: Wave = Wave()
    ripple: Wave = Wave()  # size as a share of its reach

    def pose(self, time: float) -> np.ndarray:
        """In the figure's plane."""
        return affine(self.joint, self.swing.at(time)) @ affine(self.middle)


@dataclass(frozen=True)
class Motion:
    """Straight on with a sway, turning and breathing, bouncing between walls."""

    start: np.ndarray = field(default_factory=lambda: np.zeros(2))
    room: np.ndarray | None = None  # (2, 2) lowest and highest x, y; None: no walls
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # per frame
    sway: tuple[Wave, Wave] = (Wave(), Wave())  # of x and y
    facing: float = 0.0
    turn: float = 0.0  # per frame
    rock: Wave = Wave()  # of the angle
    breath: Wave = Wave()  # of the logarithm of the scale

    def pose(self, time: float) -> np.ndarray:
        """In the scene's plane."""
        place = self.start + self.velocity * time + [wave.at(time) for wave in self.sway]
        if self.room is not None:
            low, span = self.room[0], self.room[1] - self.room[0]
            place = low + span - np.abs((place - low) % (2 * span) - span)
        return affine(
            place, self.facing + self.turn * time + self.rock.at(time), math.exp(self.breath.at(time))
        )


@dataclass(frozen=True)
class Actor:
    """A figure on its path."""

    label: int  # 1..O, or 0 for what nobody annotated
    parts: tuple[Part, ...]  # from back to front
    motion: Motion
    shadow: float = 0.0  # how dark a shadow it throws


def affine(
    shift: tuple[float, float] | np.ndarray = (0.0, 0.0), angle: float = 0.0, scale: float = 1.0
) -> np.ndarray:
    """(3, 3): scale, then rotate, then shift."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])


def random_wave(rng: np.random.Generator, most: float, pace: tuple[float, float] = (0.08, 0.25)) -> Wave:
    """A random one of size up to `most`."""
    return Wave(rng.uniform(0, most), rng.uniform(0, math.tau), rng.uniform(*pace))


def figure(rng: np.random.Generator, paints: Paints, diameter: float, unit: float) -> tuple[Part, ...]:
    """A cutout, or a drawn body with up to four limbs.

    Args:
        diameter: of a disc as large; unit: pixels of a length of 1.
    """
    ripple = random_wave(rng, rng.choice([0.0, 0.06, 0.12]))
    side = _side(1.3 * diameter * unit)
    cut = paints.cutout(rng, side)
    if cut is not None:
        reach = 0.5 * diameter * math.sqrt(math.pi * cut[..., 3].size / max(1.0, cut[..., 3].sum() / 255)) / 2
        return (Part(cut, (reach, reach), ripple=ripple),)
    limbs = 0 if rng.random() < 0.5 else int(rng.integers(1, 5))
    body = _piece(rng, paints, diameter, unit, outline(rng))
    parts = [replace(body, ripple=ripple)]
    alike = paints.surface(rng, side)
    for _ in range(limbs):
        angle, length = rng.uniform(0, math.tau), diameter * rng.uniform(0.3, 0.8)
        around = np.linspace(0, math.tau, 48, endpoint=False)
        thin = np.stack([np.cos(around), rng.uniform(0.15, 0.45) * np.sin(around)], axis=1)
        turned = thin @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
        limb = _piece(
            rng, paints, length, unit, turned / np.abs(turned).max(), alike if rng.random() < 0.7 else None
        )
        toward = np.array([math.cos(angle), math.sin(angle)])
        limb = replace(
            limb,
            joint=tuple(0.35 * diameter * toward),
            middle=tuple(0.35 * length * toward),
            swing=random_wave(rng, 0.6, (0.1, 0.4)),
        )
        parts.insert(int(rng.integers(0, len(parts) + 1)), limb)
    return tuple(parts)


def _piece(
    rng: np.random.Generator,
    paints: Paints,
    diameter: float,
    unit: float,
    points: np.ndarray,
    surface: np.ndarray | None = None,
) -> Part:
    """An outline filled with a surface; `diameter` of a disc of the same area."""
    area = cv2.contourArea(points.astype(np.float32))
    reach = 0.5 * diameter * math.sqrt(math.pi / max(area, 0.2))
    side = _side(2.1 * reach * unit)
    surface = paints.surface(rng, side) if surface is None else cv2.resize(surface, (side, side))
    cover = np.zeros((side, side), np.uint8)
    corners = np.rint((points / 1.05 + 1) * side / 2 * 16).astype(np.int32)
    cv2.fillPoly(cover, [corners], 255, cv2.LINE_AA, shift=4)
    return Part(np.dstack([surface, cover]), (1.05 * reach, 1.05 * reach))


def _side(pixels: float) -> int:
    return int(min(max(pixels, 12), MAX_SIDE))


def stroll(
    rng: np.random.Generator, picture: np.ndarray, diameter: float, brisk: float, inset: float = 0.12
) -> Motion:
    """A random path for a figure of this diameter.

    Args:
        picture: (2,) width and height; brisk: most of its own diameter that it travels in a frame; inset: how far inside
            the picture it turns round, as a share of the picture; below 0 it roams outside too.
    """
    room = np.stack([inset * picture, (1 - inset) * picture])
    heading, speed = rng.uniform(0, math.tau), diameter * rng.uniform(0, brisk)
    return Motion(
        start=rng.uniform(*room),
        room=room,
        velocity=speed * np.array([math.cos(heading), math.sin(heading)]),
        sway=(random_wave(rng, 0.3 * diameter), random_wave(rng, 0.3 * diameter)),
        facing=rng.uniform(0, math.tau),
        turn=rng.uniform(-0.04, 0.04) if rng.random() < 0.5 else 0.0,
        rock=random_wave(rng, 0.3),
        breath=random_wave(rng, 0.3, (0.03, 0.12)),
    )


def camera(rng: np.random.Generator, shake: float) -> Motion:
    """How the whole scene moves in the picture: a bounded pan, roll and zoom."""
    return Motion(
        sway=(random_wave(rng, 0.3 * shake, (0.03, 0.12)), random_wave(rng, 0.2 * shake, (0.03, 0.12))),
        rock=random_wave(rng, 0.12 * shake, (0.03, 0.15)),
        breath=random_wave(rng, 0.25 * shake, (0.02, 0.1)),
    )
