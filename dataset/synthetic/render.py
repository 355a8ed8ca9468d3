"""Rendering a synthetic scene: warp textures into the frame, check visibility, simulate a poor camera."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dataset.synthetic.motion import Actor, Motion, Part, Wave, affine

MIN_AREA = 0.008  # fraction of the image that an object covers in frame 0
MIN_VISIBLE = 0.5  # fraction of an object that is visible in frame 0
BACKDROP_HALF_SIDE = 0.9  # half the shorter side of the backdrop, which is mirrored beyond its border
Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Scene:
    """All that is needed to render a clip, apart from the camera's noise and jolts."""

    backdrop: np.ndarray  # (S, S', 3) uint8 RGB
    actors: list[Actor]  # from back to front
    camera: Motion
    light: tuple[Wave, Wave, Wave]  # logarithms of the gains of red, green and blue
    blur: float  # sigma in pixels
    noise: float  # standard deviation, of 255
    jpeg_quality: int  # 0: not compressed


def render(scene: Scene, labels: np.ndarray, time: float, camera_pose: np.ndarray) -> np.ndarray:
    """Render the scene at `time` in constant light, without noise or blur.

    Args:
        labels: (H, W) uint8, filled in.
        camera_pose: (3, 3), from the scene to the image.
    Returns: (H, W, 3) float32.
    """
    height, width = labels.shape
    unit = math.sqrt(labels.size)
    # The camera turns and zooms around the centre of the image, which is where the backdrop is centred.
    view = np.diag([unit, unit, 1.0]) @ affine((width / unit / 2, height / unit / 2)) @ camera_pose
    rows, columns = scene.backdrop.shape[:2]
    backdrop_pose = view @ affine(scale=2 * BACKDROP_HALF_SIDE / min(rows, columns))
    backdrop_pose = backdrop_pose @ affine((-columns / 2, -rows / 2))
    image = cv2.warpAffine(
        scene.backdrop, backdrop_pose[:2], (width, height), borderMode=cv2.BORDER_REFLECT_101
    ).astype(np.float32)
    view = view @ affine((-width / unit / 2, -height / unit / 2))
    for actor in scene.actors:
        composite(image, labels, actor, view, time)
    return image


def composite(image: np.ndarray, labels: np.ndarray, actor: Actor, view: np.ndarray, time: float) -> None:
    """Composite an actor over an image (H, W, 3) float32 and its labels (H, W) uint8, in place.

    Args:
        view: (3, 3), from the scene to pixels.
    """
    body = view @ actor.motion.pose(time)
    for part in actor.parts:
        _composite_part(image, labels, actor, part, body @ part.pose(time), time)


def simulate_camera(scene: Scene, image: np.ndarray, time: float, rng: np.random.Generator) -> np.ndarray:
    """Apply light, blur, noise and JPEG compression. Args: image (H, W, 3) float32. Returns: uint8."""
    image = image * np.exp([wave.at(time) for wave in scene.light]).astype(np.float32)
    if scene.blur > 0.3:
        image = cv2.GaussianBlur(image, (0, 0), scene.blur)
    image += scene.noise * rng.standard_normal(image.shape[:2], np.float32)[..., None]
    photo = np.clip(image, 0, 255).astype(np.uint8)
    if not scene.jpeg_quality:
        return photo
    quality = [cv2.IMWRITE_JPEG_QUALITY, scene.jpeg_quality]
    encoded = cv2.imencode(".jpg", photo[..., ::-1], quality)[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))[..., ::-1]


def visible_objects(actors: Sequence[Actor], num_objects: int, size: Size) -> np.ndarray:
    """Find which objects 1..O are visible enough in frame 0. Returns: (O,) bool."""
    # A coarse grid of at least 24 pixels a side: scenes are tried often, and an estimate is enough.
    shrink = max(0.25, 24 / min(size))
    small = (max(1, round(shrink * size[0])), max(1, round(shrink * size[1])))
    unit = math.sqrt(math.prod(small))
    labels, whole = np.zeros(small, np.uint8), np.zeros(num_objects + 1)
    for actor in actors:
        body, own = np.diag([unit, unit, 1.0]) @ actor.motion.pose(0), np.zeros(small, bool)
        for part in actor.parts:
            pose = body @ part.pose(0)
            box = _bounding_box(part, pose, small)
            if box:
                own[box] |= _warp(part.texture[..., 3], part, pose, box, 0) >= 128
            opaque = (part.texture[::4, ::4, 3] >= 128).mean()
            whole[actor.label] += opaque * 4 * math.prod(part.half_size) * unit**2
        labels[own] = actor.label
    area = np.bincount(labels.ravel(), minlength=num_objects + 1)[1:]
    # An object larger than the image can never show half of itself: a quarter of the image is enough.
    visible_part = np.minimum(MIN_VISIBLE * whole[1:], 0.25 * labels.size)
    return area >= np.maximum(MIN_AREA * labels.size, visible_part)


def _composite_part(
    image: np.ndarray, labels: np.ndarray, actor: Actor, part: Part, pose: np.ndarray, time: float
) -> None:
    """Composite a part over image (H, W, 3) and labels (H, W), in place; `pose`: from its plane to pixels."""
    height, width = labels.shape
    offset = max(2, int(0.03 * math.sqrt(labels.size))) if actor.shadow else 0  # of the shadow, in pixels
    box = _bounding_box(part, pose, (height, width), margin=3 * offset)
    if box is None:
        return
    warped = _warp(part.texture, part, pose, box, time)
    rows, columns = box
    alpha = warped[..., 3:].astype(np.float32) / 255
    if actor.shadow:
        shift = affine((offset, offset))[:2].astype(np.float32)
        shadow = cv2.blur(cv2.warpAffine(alpha, shift, alpha.shape[1::-1]), (2 * offset + 1,) * 2)
        image[rows, columns] *= 1 - actor.shadow * shadow[..., None]
    under = image[rows, columns]
    under += (warped[..., :3] - under) * alpha
    labels[rows, columns][warped[..., 3] >= 128] = actor.label


def _bounding_box(part: Part, pose: np.ndarray, size: Size, margin: int = 0) -> tuple[slice, slice] | None:
    """Find the rows and columns that a part may touch, and `margin` pixels more; None: it is out of view."""
    x, y = (1.1 * half for half in part.half_size)  # ripples reach beyond the texture
    corners = pose[:2] @ np.array([[-x, x, x, -x], [-y, -y, y, y], [1, 1, 1, 1]])
    low = np.maximum(np.floor(corners.min(1)).astype(int) - margin, 0)
    high = np.minimum(np.ceil(corners.max(1)).astype(int) + 1 + margin, size[::-1])
    return None if (high <= low).any() else (slice(low[1], high[1]), slice(low[0], high[0]))


def _warp(
    texture: np.ndarray, part: Part, pose: np.ndarray, box: tuple[slice, slice], time: float
) -> np.ndarray:
    """Warp a part's texture, or one channel of it, into a box of the image: (h, w, C) uint8."""
    height, width = texture.shape[:2]
    pixel = np.diag([2 * part.half_size[0] / width, 2 * part.half_size[1] / height, 1])
    to_image = pose @ pixel @ affine((-width / 2, -height / 2))
    to_box = affine((-box[1].start, -box[0].start)) @ to_image
    size = (box[1].stop - box[1].start, box[0].stop - box[0].start)
    if not part.ripple.amplitude:
        return cv2.warpAffine(texture, to_box[:2], size)
    # Ripples: each pixel of the box looks up a displaced point of the texture.
    to_texture = np.linalg.inv(to_box)
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    u, v = (row[0] * x + row[1] * y + row[2] for row in to_texture[:2].astype(np.float32))
    swell = part.ripple.amplitude / 2 * np.array([width, height])
    phase = part.ripple.phase + part.ripple.frequency * time
    du = swell[0] * np.sin(v * (5 / height) + phase)
    v = v + swell[1] * np.sin(u * (5 / width) + 1.3 * phase)
    return cv2.remap(texture, (u + du).astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
