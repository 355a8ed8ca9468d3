"""From (seed, index) to an annotated clip: choose the actors of a scene, then render it frame by frame."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dataset.synthetic.motion import (
    Actor,
    Motion,
    Part,
    affine,
    random_camera,
    random_figure,
    random_motion,
    random_wave,
)
from dataset.synthetic.render import BACKDROP_HALF_SIDE, Scene, Size, render, simulate_camera, visible_objects
from dataset.synthetic.textures import GeneratedTextures, Textures
from libs.core.errors import InputError

COPIES = 0.35  # fraction of the figures that copy another figure of the scene, as distractors
SCENE_DRAWS = 20  # of a scene, until one has all its objects visible in frame 0
PLACE_DRAWS = 30  # of the places of a scene's actors


def generate_clip(
    seed: int,
    index: int,
    times: Sequence[int],
    size: Size,
    object_scale: tuple[float, float] = (1.0, 1.0),
    open_textures: Callable[[np.random.Generator], Textures] = GeneratedTextures,
    jolt: float = 0.0,
    distractors: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate one clip.

    The same arguments give the same bytes. Other `times` give other frames of the same scene.

    Args:
        seed, index: from 0 to 2**32 - 1.
        times: T rising times in frames, the first 0. size: (H, W) in pixels.
        object_scale: range of a factor on the size of all objects; training uses a wide one.
        open_textures: makes the textures of one clip from its generator.
        jolt: largest random shift of each later frame, as a fraction of the image, with a rotation and a
            zoom in proportion. Without it a network learns to expect objects where they were, which it reads
            off the zero padding of its convolutions.
        distractors: whether to add copies of objects, and moving figures that are not annotated. Figures that
            only pass in front of the scene are always there.
    Returns: images (T, H, W, 3) uint8 RGB; labels (T, H, W) uint8, 0 = background, objects 1..O with
        O <= 3, all of them visible in frame 0.
    Raises: InputError if an argument is out of range.
    """
    check_clip(seed, index, times, size)
    rng = np.random.default_rng([seed, index])
    textures, scale = open_textures(rng), math.exp(rng.uniform(*np.log(object_scale)))
    draws = (generate_scene(rng, size, textures, scale, distractors) for _ in range(SCENE_DRAWS))
    scene = next(filter(None, draws), None)
    if scene is None:
        raise InputError(
            f"size {size[0]}x{size[1]}: could not place the objects; "
            "choose a larger size or one closer to a square"
        )
    return render_clip(scene, seed, index, times, size, jolt * rng.choice([0.2, 0.6, 1.0]))


def render_clip(
    scene: Scene, seed: int, index: int, times: Sequence[int], size: Size, jolt: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Render a scene. Arguments and results are those of `generate_clip`; `jolt` is not reduced at random."""
    images, labels = np.empty((len(times), *size, 3), np.uint8), np.zeros((len(times), *size), np.uint8)
    for t, time in enumerate(times):
        # A generator of its own, so that a frame does not depend on which frames came before.
        rng = np.random.default_rng(np.random.SeedSequence([seed, index], spawn_key=(time,)))
        camera_pose = scene.camera.pose(time) @ _random_jolt(rng, jolt if time else 0.0, size)
        images[t] = simulate_camera(scene, render(scene, labels[t], time, camera_pose), time, rng)
    return images, labels


def generate_scene(
    rng: np.random.Generator, size: Size, textures: Textures, object_scale: float, distractors: bool = True
) -> Scene | None:
    """Draw a scene whose objects are all visible in frame 0; None if they could not be placed."""
    unit = math.sqrt(math.prod(size))
    view = np.array(size[::-1]) / unit
    backdrop = textures.backdrop(rng, min(512, int(2 * BACKDROP_HALF_SIDE * unit)))
    marked = _backdrop_object(backdrop, view, rng)
    if marked and not visible_objects([replace(marked, label=1)], 1, size).all():
        marked = None
    if marked and marked.motion.sway[0].amplitude:
        backdrop = inpaint_marked(backdrop)  # the object moves away from its place
    num_objects = int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05] if marked else [0.5, 0.3, 0.2]))
    num_others = int(rng.integers(0, 2 if marked else 3)) * distractors  # not annotated
    labels = [*range(1, num_objects + (not marked)), *[0] * num_others]
    roles = _draw_roles(rng, textures, labels, object_scale, unit, COPIES * distractors)
    max_speed = rng.choice([0.01, 0.03, 0.07])
    shadow = rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0
    diameters = rng.uniform(0.1, 0.3, rng.integers(0, 3))
    occluders = [random_figure(rng, textures, d, unit) for d in diameters if rng.random() < 0.4]
    for _ in range(PLACE_DRAWS):
        actors = [replace(marked, label=num_objects)] if marked else []
        for role in (roles[i] for i in rng.permutation(len(roles))):
            motion = random_motion(rng, view, role.diameter, max_speed)
            actors.append(Actor(role.label, role.parts, motion, shadow))
        # Occluders come from outside the image and are in front of all others.
        actors += [Actor(0, parts, random_motion(rng, view, 0.3, 0.1, inset=-0.3)) for parts in occluders]
        if visible_objects(actors, num_objects, size).all():
            return add_camera_and_light(rng, backdrop[..., :3], actors)
    return None


def add_camera_and_light(rng: np.random.Generator, backdrop: np.ndarray, actors: list[Actor]) -> Scene:
    """Draw camera and light for a backdrop (S, S', 3) uint8 RGB and the actors in front of it."""
    red, green, blue = (random_wave(rng, rng.choice([0.0, 0.05, 0.2]), (0.02, 0.15)) for _ in range(3))
    return Scene(
        backdrop,
        actors,
        camera=random_camera(rng, rng.choice([0.0, 0.3, 1.0])),
        light=(red, green, blue),
        blur=max(0.0, rng.normal(0.2, 0.5)),
        noise=rng.uniform(0, 6),
        jpeg_quality=int(rng.choice([0, 0, int(rng.integers(25, 95))])),
    )


@dataclass(frozen=True)
class Role:
    """A labelled figure that has no place in the scene yet."""

    label: int
    diameter: float
    parts: tuple[Part, ...]


def _draw_roles(
    rng: np.random.Generator,
    textures: Textures,
    labels: list[int],
    object_scale: float,
    unit: float,
    copies: float,
) -> list[Role]:
    """Draw a figure for each label; a fraction `copies` of them are tinted copies of an earlier figure."""
    roles: list[Role] = []
    for label in labels:
        if roles and rng.random() < copies:
            original = roles[int(rng.integers(len(roles)))]
            roles.append(Role(label, original.diameter, tinted(rng, original.parts)))
        else:
            diameter = object_scale * rng.uniform(0.15, 0.45)
            roles.append(Role(label, diameter, random_figure(rng, textures, diameter, unit)))
    return roles


def _backdrop_object(backdrop: np.ndarray, view: np.ndarray, rng: np.random.Generator) -> Actor | None:
    """Turn the object marked in the backdrop's alpha into an actor that hardly moves; None: there is none."""
    if backdrop.shape[2] == 3 or not backdrop[..., 3].any():
        return None
    scale = BACKDROP_HALF_SIDE / min(backdrop.shape[:2])
    part = Part(backdrop, (scale * backdrop.shape[1], scale * backdrop.shape[0]))
    amplitude = rng.choice([0.0, 0.0, 0.05, 0.15])
    sway = (random_wave(rng, amplitude), random_wave(rng, amplitude))
    return Actor(0, (part,), Motion(start=view / 2, sway=sway, rocking=random_wave(rng, amplitude)))


def inpaint_marked(backdrop: np.ndarray) -> np.ndarray:
    """Inpaint the marked object of a backdrop, so that the object leaves no trace when it moves.

    Args:
        backdrop: (S, S', 4) uint8 RGBA, the object marked in alpha.
    Returns: (S, S', 3) uint8 RGB.
    """
    # At a quarter of the size: inpainting is slow, and fine detail is not needed.
    small = cv2.resize(backdrop, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    hole = cv2.dilate((small[..., 3] > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(small[..., :3], hole, 3, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, backdrop.shape[1::-1])
    hole = cv2.dilate(backdrop[..., 3], np.ones((5, 5), np.uint8))
    return np.where(hole[..., None] > 0, filled, backdrop[..., :3])


def tinted(rng: np.random.Generator, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Return the same figure in slightly different colours."""
    gain = np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    colour = [cv2.convertScaleAbs(part.texture[..., :3] * gain) for part in parts]
    return tuple(
        replace(part, texture=np.dstack([c, part.texture[..., 3]])) for part, c in zip(parts, colour)
    )


def _random_jolt(rng: np.random.Generator, jolt: float, size: Size) -> np.ndarray:
    """Draw a (3, 3) affine matrix of a random shift, rotation and zoom."""
    x, y, angle, zoom = jolt * rng.uniform(-1, 1, 4)
    view = np.array(size[::-1]) / math.sqrt(math.prod(size))
    return affine((x, y) * view, 0.6 * angle, math.exp(0.6 * zoom))


def check_clip(seed: int, index: int, times: Sequence[int], size: Size) -> None:
    """Check the arguments of `generate_clip`.

    Raises: InputError naming the argument that is out of range.
    """
    if not (0 <= seed < 1 << 32 and 0 <= index < 1 << 32):
        raise InputError(f"seed {seed}, index {index}: expected whole numbers from 0 to 2**32 - 1")
    if not len(times) or times[0] != 0 or any(b <= a for a, b in zip(times, times[1:])):
        raise InputError(f"times {list(times)}: expected rising whole numbers, the first 0")
    if min(size) < 32 or max(size) > 4 * min(size):
        raise InputError(
            f"size {size[0]}x{size[1]}: expected sides of at least 32 pixels "
            "and an aspect ratio of at most 4:1"
        )
