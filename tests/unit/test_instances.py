"""INSTANCES: every label is an object, and any may be the target; objects pasted over recorded clips."""

import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dataset import paste, registry
from dataset.build import build_loader, training_sets
from dataset.clips import ClipSampler
from dataset.framing import Crop
from dataset.paste import Paster, open_paster
from dataset.sampling import ClipSettings
from dataset.synthetic import instances
from dataset.synthetic.cutouts import (
    Photo,
    crossing_motion,
    cut_object,
    index_instances,
    read_photo,
    tinted_copy,
)
from dataset.synthetic.instances import generate_instances_clip, generate_photo_scene
from dataset.synthetic.motion import Actor, Motion
from dataset.synthetic.render import MIN_AREA, Scene, render
from libs.core.errors import InputError
from libs.core.masks import object_ids
from tests.helpers import fake_datasets as trees

SIZE = (96, 96)
COLOURS = {1: (200, 30, 30), 2: (30, 200, 30), 3: (30, 30, 200), 4: (200, 200, 30)}
VOID_COLOUR, GREY = (250, 0, 250), 90


def photo_labels() -> np.ndarray:
    """Objects 1 and 2 touch, 3 and 4 stand alone, and there is void."""
    labels = np.zeros((120, 160), np.uint8)
    labels[30:70, 20:50], labels[30:70, 50:80] = 1, 2
    labels[20:50, 100:130], labels[70:110, 95:140], labels[80:110, 20:60] = 3, 4, 255
    return labels


def photo_image(labels: np.ndarray) -> np.ndarray:
    image = np.full((*labels.shape, 3), GREY, np.uint8)
    for label, colour in {**COLOURS, 255: VOID_COLOUR}.items():
        image[labels == label] = colour
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three photographs, one of them mirrored, one of other objects."""
    labels = photo_labels()
    for i, own in enumerate((labels, labels[:, ::-1], labels.T)):
        trees.save_image(tmp_path / f"INSTANCES/images/{i}.png", photo_image(own))
        trees.save_mask(tmp_path / f"INSTANCES/masks/{i}.png", np.ascontiguousarray(own))
    return tmp_path


def clip(
    root: Path, seed: int, first: int = 0, distractors: bool = True, times: Sequence[int] = (0, 3)
) -> tuple[np.ndarray, np.ndarray]:
    return generate_instances_clip(
        index_instances(root), first, distractors, np.random.default_rng(seed), times, SIZE
    )


def scenes(count: int, distractors: bool = True) -> list[Scene]:
    labels = photo_labels()
    photo = Photo(photo_image(labels), np.where(labels == 255, 0, labels).astype(np.uint8))
    candidates = [
        generate_photo_scene(np.random.default_rng(i), SIZE, photo, photo, distractors) for i in range(count)
    ]
    return [scene for scene in candidates if scene]


# ---- INSTANCES ---------------------------------------------------------------------------------


def test_a_clip_is_a_function_of_its_generator(root: Path) -> None:
    images, labels = clip(root, 3)
    again = clip(root, 3)
    assert np.array_equal(images, again[0]) and np.array_equal(labels, again[1])
    assert not np.array_equal(images, clip(root, 4)[0])
    longer = clip(root, 3, times=(0, 1, 3))  # more frames of the same scene
    assert np.array_equal(longer[0][[0, 2]], images) and np.array_equal(longer[1][[0, 2]], labels)


def test_targets_are_numbered_from_one_visible_and_vary(root: Path) -> None:
    counts, targets = Counter(), set()
    for seed in range(60):
        images, labels = clip(root, seed, first=seed % 3)
        assert images.shape == (2, *SIZE, 3) and images.dtype == labels.dtype == np.uint8
        num_objects = int(labels[0].max())
        counts[num_objects] += 1
        areas = np.bincount(labels[0].ravel(), minlength=num_objects + 1) / labels[0].size
        assert (areas[1:] >= 0.5 * MIN_AREA).all()  # half: visibility is estimated on a coarse grid
        assert labels[1].max() <= num_objects
        colour = np.median(images[0][labels[0] == 1], axis=0)
        known = {**COLOURS, 0: (GREY,) * 3, 255: VOID_COLOUR}
        targets.add(min(known, key=lambda i: np.abs(colour - known[i]).sum()))
    assert targets == set(COLOURS)
    assert counts[1] > 10 and counts[2] > 10 and counts[3] > 4 and max(counts) <= 5 and min(counts) == 1


def test_touching_objects_stay_apart_and_void_is_never_cut_out() -> None:
    """Every target has one colour, apart from its mixed edge, and never that of void."""
    seen = Counter()
    for scene in scenes(60):
        labels = np.zeros(SIZE, np.uint8)
        still = replace(scene, actors=[replace(actor, shadow=0.0) for actor in scene.actors])
        image = render(still, labels, 0, scene.camera.pose(0))
        for label in object_ids(labels):
            inside = cv2.erode((labels == label).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
            if inside.sum() < 20:
                continue
            pixels = image[inside]
            spread = np.abs(pixels - np.median(pixels, axis=0)).max(1)
            assert (spread < 25).mean() > 0.95
            names = {**COLOURS, 0: (GREY,) * 3, 255: VOID_COLOUR}
            seen[min(names, key=lambda i: np.abs(np.median(pixels, axis=0) - names[i]).sum())] += 1
    assert seen[0] == seen[255] == 0 and min(seen[i] for i in COLOURS) > 5


def test_moving_objects_are_background_as_often_as_targets() -> None:
    """Otherwise the fringes of pasted objects would tell which are targets."""
    moving, still = Counter(), Counter()
    for scene in scenes(150):
        for actor in scene.actors:
            own = moving if actor.motion.bounds is not None else still  # occluders have no bounds
            own[actor.label > 0] += 1
    assert 0.35 < moving[True] / moving.total() < 0.65
    assert still[True] > 40


def test_all_visible_objects_are_targets_equally_often() -> None:
    members = [
        instances.Member(Actor(0, (), Motion()), 0.3, stays) for stays in (True, True, False, False, False)
    ]

    def choose(seed: int, visible: list[int], distractors: bool) -> list[int]:
        rng = np.random.default_rng(seed)
        return instances._choose_targets(rng, members, np.array(visible), distractors)

    chosen = Counter(i for seed in range(800) for i in choose(seed, [0, 1, 2, 4], True))
    assert set(chosen) == {0, 1, 2, 4} and max(chosen.values()) < 1.25 * min(chosen.values())
    # without distractors every moving object must be a target: none is chosen if a moving one is hidden
    assert choose(0, [0, 1, 2, 4], False) == []
    assert set(choose(0, [0, 1, 2, 3, 4], False)) == set(range(5))


def test_there_are_copies_and_occluders() -> None:
    found = scenes(100)
    copies = sum(len({a.parts[0].texture[..., 3].tobytes() for a in s.actors}) < len(s.actors) for s in found)
    passing = sum(
        actor.motion.bounds is None and actor.motion.velocity.any()
        for scene in found
        for actor in scene.actors
    )
    assert copies > 5 and 25 < passing < 75


def test_without_distractors_moving_objects_are_targets_or_occluders() -> None:
    for scene in scenes(60, distractors=False):
        others = [actor for actor in scene.actors if actor.label == 0 and actor.motion.bounds is not None]
        assert not others
        alphas = [actor.parts[0].texture[..., 3].tobytes() for actor in scene.actors if actor.label]
        assert len(alphas) == len(set(alphas))


def test_a_crossing_path_meets_its_goal_in_time_and_starts_beside_it() -> None:
    goal = Motion(start=np.array([0.5, 0.4]), velocity=np.array([0.02, 0.0]))
    for seed in range(20):
        path = crossing_motion(np.random.default_rng(seed), goal, 0.3, 4.0)
        assert np.allclose(path.pose(4.0)[:2, 2], goal.pose(4.0)[:2, 2])
        assert np.linalg.norm(path.pose(0)[:2, 2] - goal.pose(4.0)[:2, 2]) >= 0.3


def test_cutouts_and_copies() -> None:
    labels = photo_labels()
    photo = Photo(photo_image(labels), np.where(labels == 255, 0, labels).astype(np.uint8))
    cut = cut_object(np.random.default_rng(0), photo, 96)
    texture = cut.parts[0].texture
    assert not texture[[0, -1], :, 3].any() and not texture[:, [0, -1], 3].any()
    area = (texture[..., 3] >= 128).mean() * 4 * np.prod(cut.parts[0].half_size)
    assert cut.diameter == pytest.approx(2 * np.sqrt(area / np.pi))
    copied = tinted_copy(np.random.default_rng(1), cut).parts[0].texture
    assert copied.shape == texture.shape and not np.array_equal(copied[..., :3], texture[..., :3])
    assert cut_object(np.random.default_rng(0), Photo(photo.image, np.zeros_like(labels)), 96) is None


def test_large_photographs_are_reduced_with_their_masks(tmp_path: Path) -> None:
    labels = cv2.resize(photo_labels(), (1600, 1200), interpolation=cv2.INTER_NEAREST)
    trees.save_image(tmp_path / "INSTANCES/images/a.jpg", photo_image(labels))
    trees.save_mask(tmp_path / "INSTANCES/masks/a.png", labels)
    photo = read_photo(index_instances(tmp_path)[0], 300)
    assert photo.labels.shape == photo.image.shape[:2] == (300, 400)
    assert np.unique(photo.labels).tolist() == [0, 1, 2, 3, 4]
    assert np.abs(photo.image[photo.labels == 3].astype(int) - COLOURS[3]).mean() < 15


def test_the_set_is_registered_picklable_and_reproducible(root: Path) -> None:
    videos = registry.training_videos(root, "INSTANCES")
    assert [video.name for video in videos] == ["0", "1", "2"] and registry.find("INSTANCES").skip_step == 1
    video = pickle.loads(pickle.dumps(videos[1]))
    assert video.make(np.random.default_rng(0), (0, 2), SIZE)[0].shape == (2, *SIZE, 3)
    one, again = (
        ClipSampler(training_sets(root, ["INSTANCES"], [2]), ClipSettings(size=SIZE, max_skip=[4]))
        for _ in range(2)
    )
    assert len(one) == 6 and all(torch.equal(one[i].frames, again[i].frames) for i in range(6))
    with pytest.raises(InputError, match="INSTANCES/images: expected images"):
        registry.training_videos(root / "elsewhere", "INSTANCES")
    trees.save_mask(root / "INSTANCES/masks/1.png", np.ones((30, 30), np.uint8))
    with pytest.raises(InputError, match="1.png.*160x120"):
        clip(root, 0, first=1)


def test_photographs_without_objects_end_in_one_line(root: Path) -> None:
    for path in (root / "INSTANCES/masks").iterdir():
        labels = photo_labels().T if path.stem == "2" else photo_labels()
        trees.save_mask(path, np.where(labels == 255, 255, 0).astype(np.uint8))
    with pytest.raises(InputError, match="0.png: expected objects"):
        clip(root, 0)


# ---- pasting over recorded clips ---------------------------------------------------------------


def frames() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Three black frames with an object 6 that moves, and void."""
    images, labels = [], []
    for t in range(3):
        label = np.zeros(SIZE, np.uint8)
        label[40:70, 30 + 3 * t : 60 + 3 * t], label[:5] = 6, 255
        labels.append(label)
        images.append(np.where(label[..., None] == 6, np.uint8(255), np.uint8(0)).repeat(3, axis=2))
    return images, labels


def pasted(root: Path, seed: int, fraction: float = 1.0) -> tuple[list[np.ndarray], list[np.ndarray]]:
    images, labels = frames()
    Paster(fraction, index_instances(root)).apply(images, labels, [4, 6, 9], np.random.default_rng(seed))
    return images, labels


def test_pasted_objects_are_labelled_half_the_time_and_alone_a_third_of_it(root: Path) -> None:
    before, labelled, alone, both = frames(), 0, 0, 0
    for seed in range(200):
        images, labels = pasted(root, seed)
        ids = set(object_ids(labels[0]))
        assert not np.array_equal(images, before[0])
        new = ids - {6}
        labelled += bool(new)
        both += len(new) == 2
        alone += 6 not in ids
        assert new <= {1, 2} and (new or 6 in ids)
        assert all((labels[0] == i).sum() >= MIN_AREA * labels[0].size for i in new)
        if 6 in ids:
            assert (labels[0] == 6).sum() >= paste.KEPT * (before[1][0] == 6).sum()
        else:
            assert not (labels[0] == 255).any()
    assert 0.5 < labelled / 200 < 0.7 and both > 5  # 0.5 of the clips with one, 0.75 of those with two
    assert 0.2 < alone / labelled < 0.47


def test_labels_lie_on_what_was_pasted(root: Path) -> None:
    agreement = []
    for seed in range(60):
        images, labels = pasted(root, seed)
        for image, label, before in zip(images, labels, frames()[0]):
            for new in set(object_ids(label)) - {6}:
                mine = label == new
                changed = np.abs(image.astype(int) - before).max(-1) > 40
                agreement.append(changed[mine].mean())
    assert len(agreement) > 50 and np.mean(agreement) > 0.95


def test_pasted_objects_pass_in_front_of_an_object_of_the_clip(root: Path) -> None:
    hidden = 0
    for seed in range(150):
        before, (_, labels) = frames()[1], pasted(root, seed)
        if 6 in object_ids(labels[0]):
            hidden += any(
                (after == 6).sum() < 0.6 * (old == 6).sum() for old, after in zip(before[1:], labels[1:])
            )
    assert hidden > 25  # 16 if they only wander


def test_a_fraction_of_the_clips_is_pasted_over(root: Path) -> None:
    changed = [not np.array_equal(pasted(root, seed, 0.3)[0], frames()[0]) for seed in range(100)]
    assert 0.15 < np.mean(changed) < 0.45
    assert np.array_equal(pasted(root, 5)[0], pasted(root, 5)[0])


@pytest.mark.parametrize("crop", [None, Crop((48, 85), (1.0, 2.0))])
def test_recorded_clips_with_pasted_objects(root: Path, crop: Crop | None) -> None:
    trees.davis16(root)
    sets = training_sets(root, ["DAVIS16"], [30])
    settings = ClipSettings(size=(64, 64), max_skip=[2], crop=crop, paste=open_paster(root, 1.0))
    clips = [ClipSampler(sets, settings) for _ in range(2)]
    plain, counts = ClipSampler(sets, replace(settings, paste=None)), Counter()
    for position in range(len(clips[0])):
        clip, again = (own[position] for own in clips)
        assert torch.equal(clip.frames, again.frames) and torch.equal(clip.labels, again.labels)
        assert clip.frames.shape == (3, 3, 64, 64) and clip.labels[0].unique().tolist()[1:] == list(
            range(1, clip.num_objects + 1)
        )
        counts[clip.num_objects] += 1
        counts["same"] += torch.equal(clip.frames, plain[position].frames)
    assert counts[1] and counts[2] and counts["same"] < 6


def test_paste_without_photographs_names_folder_and_key(tmp_path: Path) -> None:
    assert open_paster(tmp_path, 0.0) is None
    with pytest.raises(InputError, match="INSTANCES/images: expected images.*key 'paste'") as told:
        open_paster(tmp_path, 0.5)
    assert "\n" not in str(told.value)


def test_dali_refuses_to_paste(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.davis17(root)
    monkeypatch.setattr("dataset.dali.require_dali", lambda: None)
    sets = training_sets(root, ["DAVIS17"], [1])
    with pytest.raises(InputError, match="'paste': DALI.*PIL"):
        settings = ClipSettings(size=SIZE, max_skip=[3], paste=open_paster(root, 0.5))
        build_loader("DALI", torch.device("cpu"), sets, settings, workers=0)
