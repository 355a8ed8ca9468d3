"""INSTANCES: clips of photographs with several marked objects, of which any may be what is to be followed.

Objects of the backdrop's photograph stay with it or leave their place; others are pasted; copies and
passers-by compete with them. The targets are drawn from all these for each clip, so that only the mask tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dataset.synthetic.backdrop import Native, emptied, lay_out
from dataset.synthetic.cutouts import (
    Photo,
    crossing,
    cut_object,
    look_alike,
    random_ripple,
    read_photo,
    soft,
    wander,
)
from dataset.synthetic.motion import Actor, Motion
from dataset.synthetic.scene import LOOK_ALIKES, Scene, Size, check_clip, equip, in_sight, shoot
from libs.core.errors import InputError
from libs.core.structures import VideoIndex

SAME_PHOTO = 0.35  # of the clips, paste objects of the photograph that is their backdrop
PASTED = (0.2, 0.35, 0.3, 0.15)  # probabilities of 0, 1, ... pasted objects
LEAVES = 0.45  # of the clips, one or two objects leave their place in the backdrop
LARGEST_HOLE = 0.2  # of the view, that an object may leave behind
TARGETS = (0.42, 0.31, 0.19, 0.05, 0.03)  # probabilities of 1, 2, ... targets
OCCLUDED = 0.5  # of the clips, something passes in front of a target
JOLT = 0.25  # see draw_clip
TRIES = 30


@dataclass(frozen=True)
class Cast:
    """What a clip shows, from back to front.

    stays: of each actor, whether it is part of the backdrop and does not leave it; labels are 0 as yet.
    """

    backdrop: np.ndarray  # (S, S, 3) uint8 RGB
    actors: list[Actor]
    stays: list[bool]
    diameters: list[float]


def draw_instances(
    pictures: Sequence[VideoIndex],
    first: int,
    distractors: bool,
    rng: np.random.Generator,
    times: Sequence[int],
    size: Size,
) -> tuple[np.ndarray, np.ndarray]:
    """Make one clip of the first-th photograph and another one, from the generator alone.

    Args:
        distractors: whether there are copies, and pasted things, beside those that pass in front, that are no
            target.
        times: T rising times in frames, the first 0; size: (H, W) in pixels.
    Returns: images (T, H, W, 3) uint8 RGB; labels (T, H, W) uint8, objects 1..O with O <= 5, all of them in
        sight in frame 0.
    Raises: InputError naming a file that cannot be read, or the mask where nothing can be made of it.
    """
    seed, index = int(rng.integers(1 << 31)), int(rng.integers(1 << 32))
    check_clip(seed, index, times, size)
    enough = int(1.5 * max(size))
    backdrop = read_photo(pictures[first], enough)
    for _ in range(TRIES):
        other = backdrop
        if rng.random() > SAME_PHOTO:
            other = read_photo(pictures[int(rng.integers(len(pictures)))], enough)
        scene = stage(rng, size, backdrop, other, distractors)
        if scene:
            return shoot(scene, seed, index, times, size, JOLT * rng.choice([0.2, 0.6, 1.0]))
    raise InputError(f"{pictures[first].masks[0]}: expected objects of a useful size, found none; remove it")


def stage(
    rng: np.random.Generator, size: Size, photo: Photo, other: Photo, distractors: bool = True
) -> Scene | None:
    """Cast a scene and choose its targets; None where nothing is in sight in frame 0 that could be one."""
    cast = _cast(rng, size, photo, other, distractors)
    numbered = [replace(actor, label=i) for i, actor in enumerate(cast.actors, start=1)]
    shown = in_sight(numbered, len(numbered), size)
    chosen = _choose(rng, cast, np.flatnonzero(shown), distractors)
    if not chosen:
        return None
    labels = dict(zip(chosen, range(1, len(chosen) + 1)))
    moves = [i for i, stays in enumerate(cast.stays) if not stays]
    actors = [
        replace(actor, label=labels.get(i, 0))
        for i, actor in enumerate(cast.actors)
        if i in labels or moves and i >= moves[0]  # the others only repeat the backdrop
    ]
    if rng.random() < OCCLUDED:
        aim = int(rng.choice(chosen))
        actors = _with_occluder(rng, actors, cast.actors[aim].motion, cast.diameters[aim], other, size)
    return equip(rng, cast.backdrop, actors)


def _cast(rng: np.random.Generator, size: Size, photo: Photo, other: Photo, distractors: bool) -> Cast:
    """The backdrop, those of its objects that are in view, and what is pasted, each on its path."""
    unit, view = math.sqrt(math.prod(size)), np.array(size[::-1]) / math.sqrt(math.prod(size))
    backdrop, natives = lay_out(rng, photo, size)
    count = int(rng.choice(len(PASTED), p=PASTED))
    pasted = [figure for figure in (cut_object(rng, other, unit) for _ in range(count)) if figure]
    if distractors and natives + pasted and rng.random() < LOOK_ALIKES:
        models = [*(native.figure for native in natives), *pasted]
        pasted.append(look_alike(rng, models[int(rng.integers(len(models)))]))
    leavers = _choose_leavers(rng, natives, math.prod(view))
    if leavers:
        backdrop = emptied(backdrop, [natives[i] for i in leavers])
    brisk, shadow = rng.choice([0.01, 0.03, 0.07]), rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0
    members = []
    for i, native in enumerate(natives):
        if i in leavers:
            members.append((_leave(rng, native, view, brisk, shadow), False, native.figure.diameter))
        else:
            still = Actor(0, native.figure.parts, Motion(start=native.home))
            members.append((still, True, native.figure.diameter))
    for figure in pasted:
        motion = wander(rng, view, figure.diameter, brisk)
        members.append((Actor(0, figure.parts, motion, shadow), False, figure.diameter))
    members = [members[i] for i in rng.permutation(len(members))]
    if rng.random() < 0.6:
        members.sort(key=lambda member: not member[1])  # the backdrop's own ones behind all others
    actors, stays, diameters = (list(column) for column in zip(*members)) if members else ([], [], [])
    return Cast(backdrop, actors, stays, diameters)


def _leave(rng: np.random.Generator, native: Native, view: np.ndarray, brisk: float, shadow: float) -> Actor:
    """An object of the backdrop on a path from where it lies, its outline taken back against fringes."""
    part, motion = native.figure.parts[0], wander(rng, view, native.figure.diameter, brisk, native.home)
    paint = np.dstack([part.paint[..., :3], soft(part.paint[..., 3] >= 128, shrink=1)])
    part = replace(part, paint=paint, ripple=random_ripple(rng))
    return Actor(0, (part,), replace(motion, facing=0.0), shadow)


def _choose(rng: np.random.Generator, cast: Cast, shown: np.ndarray, distractors: bool) -> list[int]:
    """The actors that become targets 1, 2, ...; none where that cannot be."""
    if distractors:
        count = min(len(shown), int(rng.choice(len(TARGETS), p=TARGETS)) + 1)
        return rng.permutation(shown)[:count].tolist()
    moving = [i for i, stays in enumerate(cast.stays) if not stays]
    if not set(moving) <= set(shown.tolist()):
        return []  # something would move that is no target
    still = sorted((i for i in shown.tolist() if cast.stays[i]), key=lambda i: -cast.diameters[i])
    return rng.permutation((moving + still)[: len(TARGETS)]).tolist()


def _with_occluder(
    rng: np.random.Generator, actors: list[Actor], aim: Motion, diameter: float, photo: Photo, size: Size
) -> list[Actor]:
    """The actors, and something that passes in front of one, unless it would hide a target in frame 0."""
    figure = cut_object(rng, photo, math.sqrt(math.prod(size)))
    if figure is None:
        return actors
    motion = crossing(rng, aim, (diameter + figure.diameter) / 2, rng.uniform(1, 8))
    longer = [*actors, Actor(0, figure.parts, motion)]
    return longer if in_sight(longer, max(actor.label for actor in actors), size).all() else actors


def _choose_leavers(rng: np.random.Generator, natives: list[Native], view: float) -> list[int]:
    """Which one or two objects of the backdrop leave their place; `view`: its area."""
    areas = [math.pi / 4 * native.figure.diameter**2 for native in natives]
    fit = [i for i, area in enumerate(areas) if area < LARGEST_HOLE * view]
    if not fit or rng.random() > LEAVES:
        return []
    return rng.permutation(fit)[: int(rng.integers(1, 3))].tolist()
