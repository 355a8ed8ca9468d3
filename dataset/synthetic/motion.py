"""Actors of a synthetic scene and their motion: figures of one or more parts, paths, the camera.

Lengths are in units of sqrt(H * W), so that clips look the same at every size. Times are in frames, angles in
radians. A pose is a (3, 3) affine matrix from an object's own plane to the plane that it moves in.
"""

import math
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from dataset.synthetic.textures import Textures, outline

MAX_SIDE = 512  # pixels of a part's texture


@dataclass(frozen=True)
class Wave:
    """A sine wave, shifted so that it starts at 0."""

    amplitude: float = 0.0
    phase: float = 0.0
    frequency: float = 0.0  # radians per frame

    def at(self, time: float) -> float:
        """Return the value at `time`, in frames."""
        return self.amplitude * (math.sin(self.phase + self.frequency * time) - math.sin(self.phase))


@dataclass(frozen=True)
class Part:
    """A flat piece of a figure that swings around its joint and ripples like cloth."""

    texture: np.ndarray  # (S, S', 4) uint8 RGBA
    half_size: tuple[float, float]  # the texture covers -half_size to half_size in x and y of its own plane
    joint: tuple[float, float] = (0.0, 0.0)  # in the figure's plane
    centre: tuple[float, float] = (0.0, 0.0)  # of the texture, relative to the joint
    swing: Wave = Wave()  # angle around the joint
    ripple: Wave = Wave()  # displacement as a fraction of half_size

    def pose(self, time: float) -> np.ndarray:
        """Return the pose in the figure's plane."""
        return affine(self.joint, self.swing.at(time)) @ affine(self.centre)


@dataclass(frozen=True)
class Motion:
    """A straight path with sway, rotation and changing scale, reflected at the bounds."""

    start: np.ndarray = field(default_factory=lambda: np.zeros(2))
    bounds: np.ndarray | None = None  # (2, 2) lowest and highest x, y; None: unbounded
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(2))  # per frame
    sway: tuple[Wave, Wave] = (Wave(), Wave())  # added to x and y
    angle: float = 0.0  # at time 0
    spin: float = 0.0  # added to the angle per frame
    rocking: Wave = Wave()  # added to the angle
    pulsing: Wave = Wave()  # logarithm of the scale

    def pose(self, time: float) -> np.ndarray:
        """Return the pose in the scene's plane."""
        place = self.start + self.velocity * time + [wave.at(time) for wave in self.sway]
        if self.bounds is not None:
            # A triangle wave: the path turns round at the bounds, however far it would have gone.
            low, span = self.bounds[0], self.bounds[1] - self.bounds[0]
            place = low + span - np.abs((place - low) % (2 * span) - span)
        angle = self.angle + self.spin * time + self.rocking.at(time)
        return affine(place, angle, math.exp(self.pulsing.at(time)))


@dataclass(frozen=True)
class Actor:
    """A figure on its path."""

    label: int  # 1..O, or 0: not annotated, part of the background
    parts: tuple[Part, ...]  # from back to front
    motion: Motion
    shadow: float = 0.0  # darkness of its shadow, from 0 to 1


def affine(
    shift: tuple[float, float] | np.ndarray = (0.0, 0.0), angle: float = 0.0, scale: float = 1.0
) -> np.ndarray:
    """Return the (3, 3) matrix that scales, then rotates, then shifts."""
    cos, sin = scale * math.cos(angle), scale * math.sin(angle)
    return np.array([[cos, -sin, shift[0]], [sin, cos, shift[1]], [0, 0, 1]])


def random_wave(
    rng: np.random.Generator, max_amplitude: float, frequency: tuple[float, float] = (0.08, 0.25)
) -> Wave:
    """Draw a wave with an amplitude up to `max_amplitude` and a frequency in the given range."""
    return Wave(rng.uniform(0, max_amplitude), rng.uniform(0, math.tau), rng.uniform(*frequency))


def random_figure(
    rng: np.random.Generator, textures: Textures, diameter: float, unit: float
) -> tuple[Part, ...]:
    """Draw a figure: a cutout if the textures have one, else a body with up to four limbs.

    Args:
        diameter: of a disc of the same area. unit: pixels of a length of 1.
    """
    ripple = random_wave(rng, rng.choice([0.0, 0.06, 0.12]))
    side = _texture_side(1.3 * diameter * unit)
    cutout = textures.cutout(rng, side)
    if cutout is not None:
        opaque = max(1.0, cutout[..., 3].sum() / 255)  # pixels
        half = 0.5 * diameter * math.sqrt(math.pi * cutout[..., 3].size / opaque) / 2
        return (Part(cutout, (half, half), ripple=ripple),)
    num_limbs = 0 if rng.random() < 0.5 else int(rng.integers(1, 5))
    body = _filled_outline(rng, textures, diameter, unit, outline(rng))
    parts = [replace(body, ripple=ripple)]
    shared = textures.surface(rng, side)  # most limbs have the same texture, as on animals
    for _ in range(num_limbs):
        limb = _random_limb(rng, textures, diameter, unit, shared)
        parts.insert(int(rng.integers(0, len(parts) + 1)), limb)  # in front of the body or behind it
    return tuple(parts)


def _random_limb(
    rng: np.random.Generator, textures: Textures, diameter: float, unit: float, surface: np.ndarray
) -> Part:
    """Draw a thin ellipse that swings around a joint inside a body of this diameter."""
    angle, length = rng.uniform(0, math.tau), diameter * rng.uniform(0.3, 0.8)
    around = np.linspace(0, math.tau, 48, endpoint=False)
    thin = np.stack([np.cos(around), rng.uniform(0.15, 0.45) * np.sin(around)], axis=1)
    turned = thin @ np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    own_surface = surface if rng.random() < 0.7 else None
    limb = _filled_outline(rng, textures, length, unit, turned / np.abs(turned).max(), own_surface)
    direction = np.array([math.cos(angle), math.sin(angle)])
    joint, centre = 0.35 * diameter * direction, 0.35 * length * direction
    swing = random_wave(rng, 0.6, (0.1, 0.4))
    return replace(limb, joint=tuple(joint), centre=tuple(centre), swing=swing)


def _filled_outline(
    rng: np.random.Generator,
    textures: Textures,
    diameter: float,
    unit: float,
    points: np.ndarray,
    surface: np.ndarray | None = None,
) -> Part:
    """Fill an outline (N, 2) with a surface; None: draw one. `diameter`: of a disc of the same area."""
    area = cv2.contourArea(points.astype(np.float32))
    half = 0.5 * diameter * math.sqrt(math.pi / max(area, 0.2))
    side = _texture_side(2.1 * half * unit)
    surface = textures.surface(rng, side) if surface is None else cv2.resize(surface, (side, side))
    alpha = np.zeros((side, side), np.uint8)
    # The texture is 5 % larger than the outline, so that the antialiased edge is not cut off.
    corners = np.rint((points / 1.05 + 1) * side / 2 * 16).astype(np.int32)
    cv2.fillPoly(alpha, [corners], 255, cv2.LINE_AA, shift=4)
    return Part(np.dstack([surface, alpha]), (1.05 * half, 1.05 * half))


def _texture_side(pixels: float) -> int:
    return int(min(max(pixels, 12), MAX_SIDE))


def random_motion(
    rng: np.random.Generator, view: np.ndarray, diameter: float, max_speed: float, inset: float = 0.12
) -> Motion:
    """Draw a path for a figure of this diameter.

    Args:
        view: (2,) width and height of the image. max_speed: in own diameters per frame.
        inset: distance of the bounds from the image border, as a fraction of the image; negative: outside.
    """
    bounds = np.stack([inset * view, (1 - inset) * view])
    heading, speed = rng.uniform(0, math.tau), diameter * rng.uniform(0, max_speed)
    return Motion(
        start=rng.uniform(bounds[0], bounds[1]),
        bounds=bounds,
        velocity=speed * np.array([math.cos(heading), math.sin(heading)]),
        sway=(random_wave(rng, 0.3 * diameter), random_wave(rng, 0.3 * diameter)),
        angle=rng.uniform(0, math.tau),
        spin=rng.uniform(-0.04, 0.04) if rng.random() < 0.5 else 0.0,
        rocking=random_wave(rng, 0.3),
        pulsing=random_wave(rng, 0.3, (0.03, 0.12)),
    )


def random_camera(rng: np.random.Generator, shake: float) -> Motion:
    """Draw how the whole scene moves in the image: a bounded pan, roll and zoom, in proportion to `shake`."""
    return Motion(
        sway=(random_wave(rng, 0.3 * shake, (0.03, 0.12)), random_wave(rng, 0.2 * shake, (0.03, 0.12))),
        rocking=random_wave(rng, 0.12 * shake, (0.03, 0.15)),
        pulsing=random_wave(rng, 0.25 * shake, (0.02, 0.1)),
    )
