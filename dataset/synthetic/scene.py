"""From (seed, index) to an annotated clip: cast a scene, let it move, film it with a poor camera."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from dataset.synthetic.motion import Actor, Motion, Part, Wave, affine, camera, figure, random_wave, stroll
from dataset.synthetic.textures import Drawn, Paints
from libs.core.errors import InputError

MIN_AREA, MIN_SHOWN = 0.008, 0.5  # what an object shows in frame 0: a share of the picture, a share of itself
LOOK_ALIKES = 0.35  # of the figures, copy one that is there already
BACKDROP_REACH = 0.9  # half the shorter side of its paint, which is mirrored beyond
Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Scene:
    """Everything that a clip is filmed from."""

    backdrop: np.ndarray  # (S, S', 3) uint8 RGB
    actors: list[Actor]  # from back to front
    camera: Motion
    light: tuple[Wave, Wave, Wave]  # of the logarithms of red, green and blue
    blur: float  # sigma in pixels
    grain: float  # of 255
    quality: int  # of the JPEG; 0: none


def draw_clip(
    seed: int,
    index: int,
    times: Sequence[int],
    size: Size,
    closeness: tuple[float, float] = (1.0, 1.0),
    open_paints: Callable[[np.random.Generator], Paints] = Drawn,
    jolt: float = 0.0,
    distractors: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one clip: the same arguments give the same bytes, and other times more frames of the same film.

    Args:
        seed, index: from 0 to 2**32 - 1. times: T rising times in frames, the first 0. size: (H, W) in pixels.
        closeness: least and most by which everything is larger than in a film to look at, as in crops for training.
        open_paints: what makes the paints of one clip.
        jolt: most by which each later frame is shifted at random, as a share of the picture, and turned and zoomed in
            proportion; without it, networks learn that things stay where they are, which they read off the padded borders.
        distractors: whether there are look-alikes, and things that nobody annotated beside those that pass in front.
    Returns: images (T, H, W, 3) uint8 RGB; labels (T, H, W) uint8, 0 = background, objects 1..O with O <= 3, all of
        them in sight in frame 0.
    Raises: InputError where an argument is out of range.
    """
    check_clip(seed, index, times, size)
    rng = np.random.default_rng([seed, index])
    paints, closer = open_paints(rng), math.exp(rng.uniform(*np.log(closeness)))
    scene = next(filter(None, (stage(rng, size, paints, closer, distractors) for _ in range(20))), None)
    if scene is None:
        raise InputError(
            f"size {size[0]}x{size[1]}: the objects find no room; choose a larger or squarer one"
        )
    return shoot(scene, seed, index, times, size, jolt * rng.choice([0.2, 0.6, 1.0]))


def shoot(
    scene: Scene, seed: int, index: int, times: Sequence[int], size: Size, jolt: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Film a scene, with draw_clip's arguments (`jolt`: most of this scene) and returns."""
    images, labels = np.empty((len(times), *size, 3), np.uint8), np.zeros((len(times), *size), np.uint8)
    for t, time in enumerate(times):
        sensor = np.random.default_rng(
            np.random.SeedSequence([seed, index], spawn_key=(time,))
        )  # whatever was filmed before
        view = scene.camera.pose(time) @ _jolted(sensor, jolt if time else 0.0, size)
        images[t] = expose(scene, render(scene, labels[t], time, view), time, sensor)
    return images, labels


def stage(
    rng: np.random.Generator, size: Size, paints: Paints, closeness: float, distractors: bool = True
) -> Scene | None:
    """Cast a scene whose objects are all in sight in frame 0; None where they find no room."""
    unit, picture = math.sqrt(math.prod(size)), np.array(size[::-1]) / math.sqrt(math.prod(size))
    backdrop = paints.backdrop(rng, min(512, int(2 * BACKDROP_REACH * unit)))
    native = _native(backdrop, picture, rng)
    if native and not in_sight([replace(native, label=1)], 1, size).all():
        native = None
    if native and native.motion.sway[0].size:
        backdrop = without(backdrop)
    num_objects = int(rng.choice([1, 2, 3], p=[0.75, 0.2, 0.05] if native else [0.5, 0.3, 0.2]))
    others = int(rng.integers(0, 2 if native else 3)) * distractors  # that nobody annotated
    cast = _cast(
        rng,
        paints,
        [*range(1, num_objects + (not native)), *[0] * others],
        closeness,
        unit,
        LOOK_ALIKES * distractors,
    )
    brisk, shadow = rng.choice([0.01, 0.03, 0.07]), rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0
    passing = [
        figure(rng, paints, d, unit) for d in rng.uniform(0.1, 0.3, rng.integers(0, 3)) if rng.random() < 0.4
    ]
    for _ in range(30):
        actors = [replace(native, label=num_objects)] if native else []
        actors += [
            Actor(r.label, r.parts, stroll(rng, picture, r.diameter, brisk), shadow)
            for r in (cast[i] for i in rng.permutation(len(cast)))
        ]
        actors += [Actor(0, parts, stroll(rng, picture, 0.3, 0.1, inset=-0.3)) for parts in passing]
        if in_sight(actors, num_objects, size).all():
            return equip(rng, backdrop[..., :3], actors)
    return None


def equip(rng: np.random.Generator, backdrop: np.ndarray, actors: list[Actor]) -> Scene:
    """Draw light and camera for a backdrop (S, S', 3) uint8 and what moves before it."""
    light = tuple(random_wave(rng, rng.choice([0.0, 0.05, 0.2]), (0.02, 0.15)) for _ in range(3))
    return Scene(
        backdrop,
        actors,
        camera(rng, rng.choice([0.0, 0.3, 1.0])),
        light,
        max(0.0, rng.normal(0.2, 0.5)),
        rng.uniform(0, 6),
        int(rng.choice([0, 0, rng.integers(25, 95)])),
    )


@dataclass(frozen=True)
class Role:
    """A figure that has no place yet."""

    label: int
    diameter: float
    parts: tuple[Part, ...]


def _cast(
    rng: np.random.Generator, paints: Paints, labels: list[int], closeness: float, unit: float, alike: float
) -> list[Role]:
    """A figure for each label; a share `alike` of them looks like one that is there already."""
    cast: list[Role] = []
    for label in labels:
        if cast and rng.random() < alike:
            twin = cast[int(rng.integers(len(cast)))]
            cast.append(Role(label, twin.diameter, tinted(rng, twin.parts)))
        else:
            diameter = closeness * rng.uniform(0.15, 0.45)
            cast.append(Role(label, diameter, figure(rng, paints, diameter, unit)))
    return cast


def _native(backdrop: np.ndarray, picture: np.ndarray, rng: np.random.Generator) -> Actor | None:
    """What the backdrop's alpha marks, as an actor that stays where it is, or nearly so."""
    if backdrop.shape[2] == 3 or not backdrop[..., 3].any():
        return None
    scale = BACKDROP_REACH / min(backdrop.shape[:2])
    reach = (scale * backdrop.shape[1], scale * backdrop.shape[0])
    part = Part(backdrop, reach)
    stray = rng.choice([0.0, 0.0, 0.05, 0.15])
    return Actor(
        0,
        (part,),
        Motion(
            start=picture / 2,
            sway=(random_wave(rng, stray), random_wave(rng, stray)),
            rock=random_wave(rng, stray),
        ),
    )


def without(backdrop: np.ndarray) -> np.ndarray:
    """The backdrop with what its alpha marks painted over, at a quarter of its size, so that nothing stays behind."""
    small = cv2.resize(backdrop, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    hole = cv2.dilate((small[..., 3] > 0).astype(np.uint8), np.ones((3, 3), np.uint8))
    filled = cv2.inpaint(small[..., :3], hole, 3, cv2.INPAINT_TELEA)
    filled = cv2.resize(filled, backdrop.shape[1::-1])
    hole = cv2.dilate(backdrop[..., 3], np.ones((5, 5), np.uint8))[..., None] > 0
    return np.where(hole, filled, backdrop[..., :3])


def _jolted(rng: np.random.Generator, jolt: float, size: Size) -> np.ndarray:
    """(3, 3) affine: a random shift, turn and zoom."""
    x, y, angle, zoom = jolt * rng.uniform(-1, 1, 4)
    picture = np.array(size[::-1]) / math.sqrt(math.prod(size))
    return affine((x, y) * picture, 0.6 * angle, math.exp(0.6 * zoom))


def render(scene: Scene, labels: np.ndarray, time: float, camera_pose: np.ndarray) -> np.ndarray:
    """The scene at `time` in perfect light: (H, W, 3) float32; fills in labels (H, W) uint8.

    Args:
        camera_pose: (3, 3), how the whole scene lies in the picture.
    """
    height, width = labels.shape
    unit = math.sqrt(labels.size)
    view = np.diag([unit, unit, 1.0]) @ affine((width / unit / 2, height / unit / 2)) @ camera_pose
    side = min(scene.backdrop.shape[:2])
    laid = (
        view
        @ affine(scale=2 * BACKDROP_REACH / side)
        @ affine((-scene.backdrop.shape[1] / 2, -scene.backdrop.shape[0] / 2))
    )
    picture = cv2.warpAffine(
        scene.backdrop, laid[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    view = view @ affine((-width / unit / 2, -height / unit / 2))
    for actor in scene.actors:
        lay(picture, labels, actor, view, time)
    return picture


def lay(picture: np.ndarray, labels: np.ndarray, actor: Actor, view: np.ndarray, time: float) -> None:
    """Lay an actor over picture (H, W, 3) float32 and labels (H, W) uint8, in place; `view` (3, 3) from scene to pixels."""
    body = view @ actor.motion.pose(time)
    for part in actor.parts:
        _put(picture, labels, actor, part, body @ part.pose(time), time)


def expose(scene: Scene, picture: np.ndarray, time: float, sensor: np.random.Generator) -> np.ndarray:
    """What the camera makes of it: light, blur, grain, JPEG. (H, W, 3) float32 to uint8."""
    picture = picture * np.exp([wave.at(time) for wave in scene.light]).astype(np.float32)
    if scene.blur > 0.3:
        picture = cv2.GaussianBlur(picture, (0, 0), scene.blur)
    picture += scene.grain * sensor.standard_normal(picture.shape[:2], np.float32)[..., None]
    image = np.clip(picture, 0, 255).astype(np.uint8)
    if scene.quality:
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, scene.quality])[1]
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR)[..., ::-1]
    return image


def _put(
    picture: np.ndarray, labels: np.ndarray, actor: Actor, part: Part, pose: np.ndarray, time: float
) -> None:
    """Lay a part over picture (H, W, 3) float32 and labels (H, W) uint8, in place; `pose` from its plane to pixels."""
    reach = max(2, int(0.03 * math.sqrt(labels.size))) if actor.shadow else 0
    box = _box(part, pose, labels.shape, margin=3 * reach)
    if box is None:
        return
    laid = _warp(part.paint, part, pose, box, time)
    rows, columns = box
    cover = laid[..., 3:].astype(np.float32) / 255
    if actor.shadow:
        cast = cv2.warpAffine(cover, np.float32([[1, 0, reach], [0, 1, reach]]), cover.shape[1::-1])
        picture[rows, columns] *= 1 - actor.shadow * cv2.blur(cast, (2 * reach + 1,) * 2)[..., None]
    view = picture[rows, columns]
    view += (laid[..., :3] - view) * cover
    labels[rows, columns][laid[..., 3] >= 128] = actor.label


def _box(part: Part, pose: np.ndarray, size: Size, margin: int = 0) -> tuple[slice, slice] | None:
    """Rows and columns that a part may touch, and so many pixels more."""
    x, y = (1.1 * reach for reach in part.reach)
    corners = pose[:2] @ np.array([[-x, x, x, -x], [-y, -y, y, y], [1, 1, 1, 1]])
    low, high = (
        np.floor(corners.min(1)).astype(int) - margin,
        np.ceil(corners.max(1)).astype(int) + 1 + margin,
    )
    low, high = np.maximum(low, 0), np.minimum(high, size[::-1])
    return None if (high <= low).any() else (slice(low[1], high[1]), slice(low[0], high[0]))


def _warp(
    paint: np.ndarray, part: Part, pose: np.ndarray, box: tuple[slice, slice], time: float
) -> np.ndarray:
    """The part as it looks in a box of the picture: (h, w, C) uint8."""
    height, width = paint.shape[:2]
    onto = (
        pose
        @ np.diag([2 * part.reach[0] / width, 2 * part.reach[1] / height, 1])
        @ affine((-width / 2, -height / 2))
    )
    onto = affine((-box[1].start, -box[0].start)) @ onto
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    if not part.ripple.size:
        return cv2.warpAffine(paint, onto[:2], size)
    back = np.linalg.inv(onto)
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    u, v = (row[0] * x + row[1] * y + row[2] for row in back[:2].astype(np.float32))
    swell, turn = (
        part.ripple.size / 2 * np.array([width, height]),
        part.ripple.phase + part.ripple.pace * time,
    )
    du = swell[0] * np.sin(v * (5 / height) + turn)
    v = v + swell[1] * np.sin(u * (5 / width) + 1.3 * turn)
    return cv2.remap(paint, (u + du).astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)


def in_sight(actors: list[Actor], num_objects: int, size: Size) -> np.ndarray:
    """Which objects show enough in frame 0, looked at through a coarse grid: (O,) bool."""
    shrink = max(0.25, 24 / min(size))
    small = tuple(max(1, round(shrink * side)) for side in size)
    unit = math.sqrt(math.prod(small))
    labels, whole = np.zeros(small, np.uint8), np.zeros(num_objects + 1)
    for actor in actors:
        body, own = np.diag([unit, unit, 1.0]) @ actor.motion.pose(0), np.zeros(small, bool)
        for part in actor.parts:
            pose = body @ part.pose(0)
            box = _box(part, pose, small)
            if box:
                own[box] |= _warp(part.paint[..., 3], part, pose, box, 0) >= 128
            whole[actor.label] += (
                (part.paint[::4, ::4, 3] >= 128).mean() * 4 * math.prod(part.reach) * unit**2
            )
        labels[own] = actor.label
    shown = np.bincount(labels.ravel(), minlength=num_objects + 1)[1:]
    return shown >= np.maximum(MIN_AREA * labels.size, np.minimum(MIN_SHOWN * whole[1:], 0.25 * labels.size))


def tinted(rng: np.random.Generator, parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """The same figure in slightly other colours."""
    gain = np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    colour = [cv2.convertScaleAbs(part.paint[..., :3] * gain) for part in parts]
    return tuple(replace(part, paint=np.dstack([c, part.paint[..., 3]])) for part, c in zip(parts, colour))


def check_clip(seed: int, index: int, times: Sequence[int], size: Size) -> None:
    if not (0 <= seed < 1 << 32 and 0 <= index < 1 << 32):
        raise InputError(f"seed {seed}, index {index}: expected whole numbers from 0 to 2**32 - 1")
    if not len(times) or times[0] != 0 or any(b <= a for a, b in zip(times, times[1:])):
        raise InputError(f"times {list(times)}: expected rising whole numbers, the first 0")
    if min(size) < 32 or max(size) > 4 * min(size):
        raise InputError(
            f"size {size[0]}x{size[1]}: expected sides of at least 32 pixels, and at most 4:1 or 1:4"
        )
