"""Annotated clips of moving textured shapes, drawn from (seed, index) alone, and a DAVIS-2017 tree made of them.

    python3 -m dataset.procedural --out DIR [--train 24] [--val 4] [--frames 24] [--size 240x432] [--seed 0]

Lengths are in units of sqrt(H * W), so that clips look alike at every size; times in frames; angles in radians.
"""

import argparse
import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import yaml
from PIL import Image

from libs.masks import palette
from libs.structures import InputError

VAL_SEEDS = 1 << 31  # seeds from here on draw validation clips, those below draw training clips
MIN_AREA, MIN_SHOWN = 0.02, 0.6  # what an object shows in frame 0: a share of the picture, a share of itself
Size = tuple[int, int]  # height and width in pixels


@dataclass(frozen=True)
class Actor:
    """A shape and its motion."""

    label: int  # 1..O, or 0 for what nobody annotated
    outline: np.ndarray  # (P, 2) x and y around the shape's own origin
    reach: float  # its texture is drawn for the square from -reach to reach, and mirrored beyond
    room: np.ndarray  # (2, 2) lowest and highest x, y of its origin, between which it bounces
    start: np.ndarray  # (2,)
    velocity: np.ndarray  # (2,) per frame
    sway: np.ndarray  # (2,) amplitude of the curve added to the straight path
    turning: tuple[float, float]  # angle at first, and its change per frame
    breath: float  # amplitude of the logarithm of the scale
    ripple: float  # how far the outline swells and shrinks, as a share of its radius
    pulse: tuple[float, float]  # phase at first, and its change per frame, of sway, breath and ripple

    def pose(self, time: int) -> np.ndarray:
        """Returns: (2, 3) affine map from the shape's own plane to the picture's."""
        wave = math.sin(self.pulse[0] + self.pulse[1] * time) - math.sin(self.pulse[0])
        low, span = self.room[0], self.room[1] - self.room[0]
        travelled = (self.start - low + self.velocity * time + self.sway * wave) % (2 * span)
        x, y = low + span - np.abs(travelled - span)
        angle, scale = self.turning[0] + self.turning[1] * time, math.exp(self.breath * wave)
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        return np.array([[cos, -sin, x], [sin, cos, y]])

    def coverage(self, time: int, size: Size) -> np.ndarray:
        """Returns: (H, W) uint8, how much of each pixel the shape covers; 255 = all of it."""
        around = np.linspace(0, math.tau, len(self.outline), endpoint=False)
        swell = 1 + self.ripple * np.sin(3 * around + self.pulse[0] + 2 * self.pulse[1] * time)
        pose = self.pose(time) * math.sqrt(math.prod(size)) * 16  # corners in sixteenths of a pixel: `shift` 4
        corners = np.rint((self.outline * swell[:, None]) @ pose[:, :2].T + pose[:, 2]).astype(np.int32)
        return cv2.fillPoly(np.zeros(size, np.uint8), [corners], 255, lineType=cv2.LINE_AA, shift=4)


def draw_clip(seed: int, index: int, frames: int, size: Size, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Draw one clip: the same arguments give the same bytes, and a shorter clip is the beginning of a longer one.

    Args:
        seed, index: from 0 to 2**32 - 1. frames: T. size: (H, W) in pixels.
        step: time between frames; a clip of step s is every s-th frame of the clip of step 1.
    Returns: images (T, H, W, 3) uint8 RGB; labels (T, H, W) uint8, 0 = background, objects 1..O with O <= 3, all of
        them well in sight in frame 0.
    Raises: InputError where an argument is out of range.
    """
    _check(seed, index, frames, size, step)
    rng = np.random.default_rng([seed, index])
    actors = _stage(rng, size)
    textures, grain = [_texture(rng, actor.reach, size) for actor in actors], rng.uniform(1, 6)
    images, labels = np.empty((frames, *size, 3), np.uint8), np.zeros((frames, *size), np.uint8)
    for t, time in enumerate(range(0, frames * step, step)):
        picture = np.zeros((*size, 3), np.float32)
        for actor, texture in zip(actors, textures):
            _paint(picture, labels[t], actor, texture, time)
        sensor = np.random.default_rng(np.random.SeedSequence([seed, index], spawn_key=(time,)))  # whatever the step
        picture *= 1 + 0.06 * math.sin(actors[0].pulse[0] + actors[0].pulse[1] * time)
        picture += grain * sensor.standard_normal(picture.shape, np.float32)
        images[t] = np.clip(picture, 0, 255)
    return images, labels


def write_tree(out: Path, train: int = 24, val: int = 4, frames: int = 24, size: Size = (240, 432),
               seed: int = 0) -> Path:
    """Write `out`/DAVIS17 in the layout of DAVIS 2017; a tree written before with these arguments is left as it is.

    Args:
        train, val: numbers of clips. frames: T of each. size: (H, W) in pixels. seed: from 0 to 2**31 - 1.
    Returns: the tree's folder. Raises: InputError where an argument is out of range or the folder holds anything else.
    """
    if min(train, val) < 0 or train + val == 0 or not 0 <= seed < VAL_SEEDS:
        raise InputError(f"train {train}, val {val}, seed {seed}: expected a clip or more, and a seed below 2**31")
    _check(seed, 0, frames, size, 1)
    subsets = {"train": (seed, train), "val": (VAL_SEEDS + seed, val)}
    sequences = [{"name": f"{subset}-{i:04d}", "set": subset, "year": 2017, "num_frames": frames}
                 for subset, (_, count) in subsets.items() for i in range(count)]
    index = yaml.safe_dump({"procedural": {"seed": seed, "size": list(size)}, "sequences": sequences})
    tree, index_at = out / "DAVIS17", Path("data", "db_info.yaml")
    if tree.exists() and any(tree.iterdir()):
        if (tree / index_at).is_file() and (tree / index_at).read_bytes() == index.encode():
            return tree
        raise InputError(f"{tree}: holds something else already; choose another folder or move it away")
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as unfinished:
        draft = Path(unfinished) / tree.name
        for subset, (subset_seed, count) in subsets.items():
            for i in range(count):
                _write_clip(draft, f"{subset}-{i:04d}", *draw_clip(subset_seed, i, frames, size))
        (draft / index_at).parent.mkdir()
        (draft / index_at).write_bytes(index.encode())
        draft.rename(tree)
    return tree


def _write_clip(tree: Path, name: str, images: np.ndarray, labels: np.ndarray) -> None:
    pictures, masks = (tree / kind / "480p" / name for kind in ("JPEGImages", "Annotations"))
    pictures.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t in range(len(images)):
        Image.fromarray(images[t]).save(pictures / f"{t:05d}.jpg", quality=95)
        indexed = Image.fromarray(labels[t])
        indexed.putpalette(palette().tobytes())
        indexed.save(masks / f"{t:05d}.png")


def _check(seed: int, index: int, frames: int, size: Size, step: int) -> None:
    if not (0 <= seed < 1 << 32 and 0 <= index < 1 << 32):
        raise InputError(f"seed {seed}, index {index}: expected whole numbers from 0 to 2**32 - 1")
    if min(frames, step) < 1:
        raise InputError(f"frames {frames}, step {step}: expected at least 1")
    if min(size) < 32 or max(size) > 4 * min(size):
        raise InputError(f"size {size[0]}x{size[1]}: expected sides of at least 32 pixels, and at most 4:1 or 1:4")


def _stage(rng: np.random.Generator, size: Size) -> list[Actor]:
    """Cast until all objects are well in sight in frame 0. Returns: the backdrop, and the others from back to front."""
    backdrop = replace(_actor(rng, 0, size), outline=3 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]), reach=1.0,
                       ripple=0.0, velocity=rng.uniform(-0.008, 0.008, 2), turning=(0.0, rng.uniform(-0.01, 0.01)))
    labels = [*range(1, rng.integers(1, 4) + 1), *[0] * rng.integers(0, 3)]
    for _ in range(200):
        actors = [_actor(rng, int(label), size) for label in rng.permutation(labels)]
        if rng.random() < 0.4:
            actors.append(_actor(rng, 0, size, passing=True))
        seen, whole = np.zeros(size, np.uint8), {}
        for actor in actors:
            whole[actor.label] = actor.coverage(0, size) >= 128
            seen[whole[actor.label]] = actor.label
        if all((seen == k).sum() >= max(MIN_AREA * seen.size, MIN_SHOWN * whole[k].sum()) for k in whole if k):
            return [backdrop, *actors]
    raise InputError(f"size {size[0]}x{size[1]}: the objects find no room; choose a larger or squarer one")


def _actor(rng: np.random.Generator, label: int, size: Size, passing: bool = False) -> Actor:
    """A random shape on a random path; one that only passes is slim and quick, and roams outside the picture too."""
    outline = _outline(rng, stretch=3.0 if passing else rng.uniform(1, 1.8))
    diameter = math.exp(rng.uniform(math.log(0.21), math.log(0.39)))  # of a disc as large
    outline *= diameter / 2 * math.sqrt(math.pi / cv2.contourArea(outline.astype(np.float32)))
    picture = np.array(size[::-1]) / math.sqrt(math.prod(size))
    inset, pace = (np.full(2, -0.3), (0.08, 0.16)) if passing else (0.15 * picture, (0.02, 0.06))
    room, heading, speed = np.stack([inset, picture - inset]), rng.uniform(0, math.tau), diameter * rng.uniform(*pace)
    return Actor(
        label=label, outline=outline, reach=float(np.abs(outline).max()), room=room, start=rng.uniform(*room),
        velocity=speed * np.array([math.cos(heading), math.sin(heading)]), sway=diameter * rng.uniform(-0.3, 0.3, 2),
        turning=(rng.uniform(0, math.tau), rng.uniform(-0.05, 0.05)), breath=rng.uniform(0, 0.2),
        ripple=rng.uniform(0, 0.1), pulse=(rng.uniform(0, math.tau), rng.uniform(0.1, 0.25)),
    )


def _outline(rng: np.random.Generator, stretch: float) -> np.ndarray:
    """An ellipse, a blob, a star or a polygon around the origin. Returns: (96, 2)."""
    around, corners = np.linspace(0, math.tau, 96, endpoint=False), int(rng.integers(3, 8))
    along = around * corners / math.tau % 1 - 0.5  # from one corner to the next
    lobes = sum(rng.uniform(0.05, 0.25) * np.cos(k * around + rng.uniform(0, math.tau)) for k in (2, 3, 4))
    star = 1 - rng.uniform(0.35, 0.6) * (1 - 2 * np.abs(along))
    polygon = math.cos(math.pi / corners) / np.cos(math.tau / corners * along)
    radius = (np.ones(96), 1 + lobes, star, polygon)[rng.integers(4)]
    x, y = radius * np.cos(around) * stretch, radius * np.sin(around)
    return np.stack([x, y + rng.uniform(-0.3, 0.3) * x * x / stretch], axis=1)  # bent a little, like a banana


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    """Smooth noise at several scales. Returns: (S, S) float32 from 0 to 1."""
    falloff = rng.uniform(0.4, 0.8)
    grids = (falloff ** k * rng.random((3 << k, 3 << k), np.float32) for k in range(6))
    return cv2.normalize(sum(cv2.resize(grid, (side, side)) for grid in grids), None, 0, 1, cv2.NORM_MINMAX)


def _pattern(rng: np.random.Generator, noise: np.ndarray) -> np.ndarray:
    """Noise, patches, a gradient, stripes, checks or dots. Args and returns: (S, S) float32 from 0 to 1."""
    angle, pitch = rng.uniform(0, math.tau), rng.uniform(8, 22)
    axis = np.linspace(-1, 1, len(noise), dtype=np.float32)
    along, across = (math.cos(a) * axis + math.sin(a) * axis[:, None] for a in (angle, angle + math.tau / 4))
    stripes = np.sin(pitch * along + 2 * noise)
    checks = stripes * np.sin(pitch * across + 2 * noise)
    fields = (noise, 12 * noise - 5.5, 0.5 + 0.6 * along, 0.5 + 5 * stripes, 0.5 + 5 * checks, 5 * checks - 1)
    return np.clip(fields[rng.integers(len(fields))], 0, 1)


def _texture(rng: np.random.Generator, reach: float, size: Size) -> np.ndarray:
    """A pattern of two colours, with more or less of a third in patches. Returns: (S, S, 3) float32, 0..255."""
    side = round(2 * reach * math.sqrt(math.prod(size)))
    values = rng.permutation([rng.uniform(0.15, 0.5), rng.uniform(0.6, 1)])
    hsv = np.stack([rng.uniform(0, 360, 3), rng.uniform(0.1, 0.85, 3), [*values, rng.uniform(0.15, 1)]], axis=1)
    first, second, third = 255 * cv2.cvtColor(hsv[None].astype(np.float32), cv2.COLOR_HSV2RGB)[0]
    noise, shade = _noise(rng, side)[..., None], _noise(rng, side)[..., None]
    texture = first + _pattern(rng, noise[..., 0])[..., None] * (second - first)
    texture += np.clip(10 * shade - rng.uniform(5, 10), 0, 1) * (third - texture)
    return texture * (0.7 + 0.5 * noise)


def _paint(picture: np.ndarray, labels: np.ndarray, actor: Actor, texture: np.ndarray, time: int) -> None:
    """Put an actor in front of picture (H, W, 3) float32 and labels (H, W) uint8, in place."""
    coverage, affine = actor.coverage(time, labels.shape), actor.pose(time) * math.sqrt(labels.size)
    x, y, width, height = cv2.boundingRect(coverage)
    if width == 0:
        return
    part = (slice(y, y + height), slice(x, x + width))
    affine[:, 2] -= affine[:, :2].sum(axis=1) * actor.reach + (x, y)  # from the texture's corner to the part's corner
    affine[:, :2] *= 2 * actor.reach / (len(texture) - 1)
    paint = cv2.warpAffine(texture, affine, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    picture[part] += (paint - picture[part]) * (coverage[part][..., None] / np.float32(255))
    labels[part][coverage[part] >= 128] = actor.label


def _height_x_width(text: str) -> Size:
    height, width = (int(side) for side in text.split("x"))
    return height, width


def main(argv: list[str] | None = None) -> None:
    """The command line; wrong arguments end it with code 2."""
    parser = argparse.ArgumentParser(prog="python3 -m dataset.procedural", description="Draw a DAVIS-2017 tree.")
    parser.add_argument("--out", type=Path, required=True, help="folder to put DAVIS17 in")
    for name, default in (("train", 24), ("val", 4), ("frames", 24), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--size", type=_height_x_width, default=(240, 432), metavar="HxW", help="in pixels")
    try:
        print(write_tree(**vars(parser.parse_args(argv))))
    except (InputError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
