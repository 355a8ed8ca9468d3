"""INSTANCES: clips generated from photographs with several labelled objects, any of which may be the target.

Objects of the backdrop stay in their place or leave it. Other objects are pasted. Copies and occluders
compete with them. The targets of each clip are drawn from all of these, so that only the first mask tells
which they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dataset.synthetic.backdrop import BackdropObject, cut_backdrop, remove_objects
from dataset.synthetic.cutouts import (
    Figure,
    Photo,
    crossing_motion,
    cut_object,
    random_ripple,
    read_photo,
    soft_mask,
    tinted_copy,
    upright_motion,
)
from dataset.synthetic.motion import Actor, Motion
from dataset.synthetic.render import Scene, Size, visible_objects
from dataset.synthetic.scene import COPIES, add_camera_and_light, check_clip, render_clip
from libs.core.errors import InputError
from libs.core.structures import VideoIndex

SAME_PHOTO = 0.35  # fraction of the clips that paste objects of the photograph that is their backdrop
NUM_PASTED = (0.2, 0.35, 0.3, 0.15)  # probabilities of 0, 1, ... pasted objects
LEAVES = 0.45  # fraction of the clips in which one or two objects leave their place in the backdrop
MAX_HOLE = 0.2  # fraction of the view that an object may leave behind
NUM_TARGETS = (0.42, 0.31, 0.19, 0.05, 0.03)  # probabilities of 1, 2, ... targets
OCCLUDED = 0.5  # fraction of the clips in which something passes in front of a target
JOLT = 0.25  # see generate_clip
SCENE_DRAWS = 30  # of a scene, until one has a target


@dataclass(frozen=True)
class Member:
    """An actor whose label is not chosen yet."""

    actor: Actor  # label 0
    diameter: float
    stays: bool  # it is part of the backdrop and does not leave its place


def generate_instances_clip(
    photos: Sequence[VideoIndex],
    first: int,
    distractors: bool,
    rng: np.random.Generator,
    times: Sequence[int],
    size: Size,
) -> tuple[np.ndarray, np.ndarray]:
    """Generate one clip from photograph number `first` and a random second one.

    Args:
        distractors: whether copies and pasted objects may be background. If not, they are all targets; only
            occluders, which pass in front, are not.
        times: T rising times in frames, the first 0. size: (H, W) in pixels.
    Returns: images (T, H, W, 3) uint8 RGB; labels (T, H, W) uint8, objects 1..O with O <= 5, all of them
        visible in frame 0.
    Raises: InputError naming a file that cannot be read, or a mask without objects of a useful size.
    """
    seed, index = int(rng.integers(1 << 31)), int(rng.integers(1 << 32))
    check_clip(seed, index, times, size)
    min_side = int(1.5 * max(size))
    backdrop = read_photo(photos[first], min_side)
    for _ in range(SCENE_DRAWS):
        other = backdrop
        if rng.random() > SAME_PHOTO:
            other = read_photo(photos[int(rng.integers(len(photos)))], min_side)
        scene = generate_photo_scene(rng, size, backdrop, other, distractors)
        if scene:
            return render_clip(scene, seed, index, times, size, JOLT * rng.choice([0.2, 0.6, 1.0]))
    raise InputError(
        f"{photos[first].masks[0]}: expected objects of a useful size, found none; "
        "remove this mask and its image"
    )


def generate_photo_scene(
    rng: np.random.Generator, size: Size, photo: Photo, other: Photo, distractors: bool = True
) -> Scene | None:
    """Draw a scene and its targets; None if no object that could be a target is visible in frame 0."""
    backdrop, members = _draw_members(rng, size, photo, other, distractors)
    numbered = [replace(member.actor, label=i) for i, member in enumerate(members, start=1)]
    visible = np.flatnonzero(visible_objects(numbered, len(numbered), size))
    targets = _choose_targets(rng, members, visible, distractors)
    if not targets:
        return None
    labels = dict(zip(targets, range(1, len(targets) + 1)))
    # An object that stays shows the same pixels as the backdrop: leave it out, unless it is a target or
    # hides something that moves behind it.
    first_moving = next((i for i, member in enumerate(members) if not member.stays), len(members))
    actors = [
        replace(member.actor, label=labels.get(i, 0))
        for i, member in enumerate(members)
        if i in labels or i >= first_moving
    ]
    if rng.random() < OCCLUDED:
        actors = _add_occluder(rng, actors, members[int(rng.choice(targets))], other, size)
    return add_camera_and_light(rng, backdrop, actors)


def _draw_members(
    rng: np.random.Generator, size: Size, photo: Photo, other: Photo, distractors: bool
) -> tuple[np.ndarray, list[Member]]:
    """Draw the backdrop, (S, S, 3) uint8 RGB, and all objects on their paths, from back to front."""
    unit = math.sqrt(math.prod(size))
    view = np.array(size[::-1]) / unit
    backdrop, objects = cut_backdrop(rng, photo, size)
    pasted = _draw_pasted(rng, objects, other, unit, distractors)
    leaving = _choose_leaving(rng, objects, math.prod(view))
    if leaving:
        backdrop = remove_objects(backdrop, [objects[i] for i in leaving])
    max_speed = rng.choice([0.01, 0.03, 0.07])
    shadow = rng.uniform(0.2, 0.6) if rng.random() < 0.3 else 0.0
    members = []
    for i, own in enumerate(objects):
        stays = i not in leaving
        still = Actor(0, own.figure.parts, Motion(start=own.centre))
        actor = still if stays else _set_moving(rng, own, view, max_speed, shadow)
        members.append(Member(actor, own.figure.diameter, stays))
    for figure in pasted:
        motion = upright_motion(rng, view, figure.diameter, max_speed)
        members.append(Member(Actor(0, figure.parts, motion, shadow), figure.diameter, stays=False))
    members = [members[i] for i in rng.permutation(len(members))]
    if rng.random() < 0.6:
        members.sort(key=lambda member: not member.stays)  # objects that stay are behind all others
    return backdrop, members


def _draw_pasted(
    rng: np.random.Generator, objects: list[BackdropObject], other: Photo, unit: float, distractors: bool
) -> list[Figure]:
    """Cut objects out of the other photograph, and perhaps add a copy of an object of the scene."""
    count = int(rng.choice(len(NUM_PASTED), p=NUM_PASTED))
    pasted = [figure for figure in (cut_object(rng, other, unit) for _ in range(count)) if figure]
    originals = [*(own.figure for own in objects), *pasted]
    if distractors and originals and rng.random() < COPIES:
        pasted.append(tinted_copy(rng, originals[int(rng.integers(len(originals)))]))
    return pasted


def _choose_leaving(rng: np.random.Generator, objects: list[BackdropObject], view_area: float) -> list[int]:
    """Choose one or two objects of the backdrop that leave their place, or none."""
    areas = [math.pi / 4 * own.figure.diameter**2 for own in objects]
    candidates = [i for i, area in enumerate(areas) if area < MAX_HOLE * view_area]
    if not candidates or rng.random() > LEAVES:
        return []
    return rng.permutation(candidates)[: int(rng.integers(1, 3))].tolist()


def _set_moving(
    rng: np.random.Generator, own: BackdropObject, view: np.ndarray, max_speed: float, shadow: float
) -> Actor:
    """Let an object of the backdrop leave its place."""
    part = own.figure.parts[0]
    motion = upright_motion(rng, view, own.figure.diameter, max_speed, own.centre)
    # Erode the outline: its outermost pixels show the background that the object leaves.
    texture = np.dstack([part.texture[..., :3], soft_mask(part.texture[..., 3] >= 128, shrink=1)])
    part = replace(part, texture=texture, ripple=random_ripple(rng))
    return Actor(0, (part,), replace(motion, angle=0.0), shadow)


def _choose_targets(
    rng: np.random.Generator, members: Sequence[Member], visible: np.ndarray, distractors: bool
) -> list[int]:
    """Choose which members become targets 1, 2, ...; none if there is no valid choice.

    Args:
        visible: positions of the members that are visible in frame 0.
    """
    if distractors:
        count = min(len(visible), int(rng.choice(len(NUM_TARGETS), p=NUM_TARGETS)) + 1)
        return rng.permutation(visible)[:count].tolist()
    moving = [i for i, member in enumerate(members) if not member.stays]
    if not set(moving) <= set(visible.tolist()):
        return []  # a moving object would be no target
    still = [i for i in visible.tolist() if members[i].stays]
    still.sort(key=lambda i: -members[i].diameter)
    return rng.permutation((moving + still)[: len(NUM_TARGETS)]).tolist()


def _add_occluder(
    rng: np.random.Generator, actors: list[Actor], target: Member, photo: Photo, size: Size
) -> list[Actor]:
    """Add an object that passes in front of the target, unless it would hide a target in frame 0."""
    figure = cut_object(rng, photo, math.sqrt(math.prod(size)))
    if figure is None:
        return actors
    distance = (target.diameter + figure.diameter) / 2
    motion = crossing_motion(rng, target.actor.motion, distance, rng.uniform(1, 8))
    occluded = [*actors, Actor(0, figure.parts, motion)]
    return occluded if visible_objects(occluded, max(actor.label for actor in actors), size).all() else actors
