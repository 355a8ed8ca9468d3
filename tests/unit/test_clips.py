"""Training clips: frames, objects, the curriculum, and augmentation that keeps images and labels aligned."""

from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from dataset import clips as clips_module
from dataset import loader as loader_module
from dataset.annotations import Annotations
from dataset.build import training_sets
from dataset.clips import ClipSampler
from dataset.folder import folder
from dataset.loader import PilLoader
from dataset.sampling import (
    MAX_OBJECTS,
    MAX_SKIP,
    ClipSettings,
    TrainingSet,
    choose_objects,
    increase_max_skip,
    sample_frames,
)
from dataset.transforms import augment, to_input, to_landscape
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD, normalise
from libs.core.structures import Clip, VideoIndex
from tests.helpers import fake_datasets as trees

INPUT = (32, 48)


def settings_for(sets: list[TrainingSet], **options: Any) -> ClipSettings:
    """Small clips with gaps of at most 5; `options` are fields of ClipSettings."""
    return ClipSettings(**{"size": INPUT, "max_skip": [5] * len(sets), **options})


def read_first_two(video: VideoIndex, target: tuple[int, int]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and labels of the first two frames, reduced if `target` needs no more."""
    return clips_module._read_reduced(Annotations(video, [0, 1]), [0, 1], target)


def sampler(sets: list[TrainingSet], epoch: int = 0, **options: Any) -> ClipSampler:
    return ClipSampler(sets, settings_for(sets, **options), epoch)


def loader(
    sets: list[TrainingSet], workers: int = 0, rank: int = 0, world_size: int = 1, **options: Any
) -> PilLoader:
    settings = settings_for(sets, **options)
    return PilLoader(sets, settings, workers=workers, rank=rank, world_size=world_size)


def same(one: list[Clip], other: list[Clip]) -> bool:
    return len(one) == len(other) and all(
        a.name == b.name
        and a.num_objects == b.num_objects
        and torch.equal(a.frames, b.frames)
        and torch.equal(a.labels, b.labels)
        for a, b in zip(one, other)
    )


def pixels_of(frames: torch.Tensor) -> np.ndarray:
    """Undo `normalise`: (T, 3, H, W) to (T, H, W, 3) uint8."""
    pixels = frames.movedim(1, -1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return (pixels * 255).round().clip(0, 255).to(torch.uint8).numpy()


@pytest.fixture
def sets(tmp_path: Path) -> list[TrainingSet]:
    """DAVIS17 (2 videos) twice, YouTube-VOS (1 video) three times."""
    trees.davis17(tmp_path)
    trees.youtube_vos(tmp_path)
    return training_sets(tmp_path, ["DAVIS17", "VOS"], [2, 3])


# ---- which frames ----


@pytest.mark.parametrize(
    "length, count, max_skip",
    [(10, 3, 1), (10, 3, 2), (10, 3, 100), (3, 3, 5), (2, 3, 5), (4, 3, 2), (7, 2, 3), (9, 5, 4)],
)
def test_sampled_frames_are_those_that_the_rule_allows(length: int, count: int, max_skip: int) -> None:
    """Every allowed clip is drawn, and no other: the allowed ones are listed by brute force."""
    n = min(count, length)
    allowed = [[first] for first in range(length - n + 1)]
    for i in range(1, n):
        allowed = [
            [*p, j]
            for p in allowed
            for j in range(length)
            if p[-1] < j <= min(p[-1] + max_skip, length - n + i)
        ]
    rng = np.random.default_rng(0)
    drawn = {tuple(sample_frames(length, count, max_skip, rng)) for _ in range(100 * len(allowed))}
    assert drawn == {tuple(p) for p in allowed}


def test_the_first_frame_is_uniform() -> None:
    rng = np.random.default_rng(0)
    draws = 6000
    counts = Counter(sample_frames(14, 3, 5, rng)[0] for _ in range(draws))
    assert sorted(counts) == list(range(12))
    expected = draws / 12
    assert (
        sum((count - expected) ** 2 / expected for count in counts.values()) < 31.3
    )  # chi square, 11 degrees: 1 in 1000


def test_the_next_frame_is_uniform_up_to_max_skip() -> None:
    rng = np.random.default_rng(0)
    gaps = Counter(b - a for a, b in (sample_frames(1000, 2, 6, rng) for _ in range(6000)))
    assert sorted(gaps) == [1, 2, 3, 4, 5, 6]
    assert sum((count - 1000) ** 2 / 1000 for count in gaps.values()) < 20.6  # 5 degrees


def test_a_clip_takes_only_frames_with_masks(tmp_path: Path) -> None:
    trees.folder(tmp_path, masked=(0, 2, 3), frames=5)
    clip = sampler([TrainingSet("x", folder(tmp_path, "train"), 1, 5)], sampled_frames=4)[0]
    assert len(clip.frames) == len(clip.labels) == 3


# ---- the curriculum ----


def test_max_skip_grows_up_to_100_and_never_shrinks() -> None:
    assert MAX_SKIP == 100
    assert increase_max_skip(5, 5) == 10 and increase_max_skip(3, 1) == 4
    assert increase_max_skip(98, 5) == 100 and increase_max_skip(100, 5) == 100
    assert increase_max_skip(150, 5) == 150  # one that starts above 100 stays there


def test_each_set_grows_by_its_own_step(sets: list[TrainingSet]) -> None:
    """DAVIS by 5, YouTube-VOS by 1."""
    clips = loader(sets, max_skip=[50, 98])
    history = []
    for _ in range(12):
        clips.grow_max_skip()
        history.append(clips.max_skip)
    assert history[:3] == [[55, 99], [60, 100], [65, 100]] and history[9:] == [[100, 100]] * 3


def test_what_has_grown_is_what_is_sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.folder(tmp_path, frames=12)
    opened = []
    monkeypatch.setattr(
        clips_module, "read_image", lambda path, *_: opened.append(int(path.stem)) or read_image(path)
    )
    one = [TrainingSet("x", folder(tmp_path, "train"), 1, 5)]
    clips = loader(one, sampled_frames=2, samples_per_video=40, max_skip=[1])

    def longest_gap() -> int:
        opened.clear()
        list(clips.batches(0))
        return max(last - first for first, last in zip(opened[::2], opened[1::2]))

    assert longest_gap() == 1
    clips.grow_max_skip()
    assert longest_gap() == 6


# ---- which objects ----


def test_at_most_five_objects_drawn_at_random() -> None:
    labels = [np.arange(9, dtype=np.uint8).reshape(3, 3), np.zeros((3, 3), np.uint8)]
    seen = Counter()
    for seed in range(200):
        chosen, num_objects = choose_objects(labels, np.random.default_rng(seed))
        assert num_objects == MAX_OBJECTS == 5
        assert sorted(chosen[0][chosen[0] > 0].tolist()) == [1, 2, 3, 4, 5] and not chosen[1].any()
        kept = labels[0][chosen[0] > 0]
        assert (np.diff(chosen[0][np.isin(labels[0], kept)]) > 0).all()  # their order stays
        seen.update(kept.tolist())
    assert sorted(seen) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert all(85 < count < 165 for count in seen.values())  # 125 on average, deviation 7


def test_objects_are_those_up_to_the_first_frames_highest_label() -> None:
    """The original's rule: 1..n, with an empty mask for 2; a higher label in a later frame is background."""
    labels = [
        np.array([[0, 1, 3]], np.uint8),
        np.array([[2, 255, 4]], np.uint8),
        np.array([[9, 3, 1]], np.uint8),
    ]
    chosen, num_objects = choose_objects(labels, np.random.default_rng(0))
    assert num_objects == 3 and [label.tolist() for label in chosen] == [
        [[0, 1, 3]],
        [[2, 0, 0]],
        [[0, 3, 1]],
    ]


def test_five_of_all_labels_up_to_the_highest_are_drawn_one_of_them_in_sight() -> None:
    """Absent ones too, as in the original; but never five that the first frame does not show."""
    labels = [np.array([[0, 9]], np.uint8), np.array([[3, 9]], np.uint8)]
    seen = Counter()
    for seed in range(100):
        chosen, num_objects = choose_objects(labels, np.random.default_rng(seed))
        assert num_objects == 5 and chosen[0].tolist() == [[0, 5]] and chosen[1][0, 1] == 5
        seen[chosen[1][0, 0] > 0] += 1
    assert 30 < seen[True] < 70  # 3 is among the other four of 1..8


def test_a_clip_whose_first_frame_shows_no_object_is_drawn_again(tmp_path: Path) -> None:
    """Of 8 frames, the last 4 show the object: each clip starts in one of them, whatever was drawn first."""
    trees.write_video(tmp_path / "JPEGImages/late", tmp_path / "Annotations/late", {2: 4}, frames=8)
    late = [TrainingSet("x", folder(tmp_path, "train"), 1, 5)]
    clips = sampler(late, samples_per_video=20, max_skip=[2])
    draws = [clips.draw(i) for i in range(len(clips))]
    assert {draw.positions[0] for draw in draws} == {4, 5} and {draw.attempt for draw in draws} > {0}
    assert all(
        clip.num_objects == 2 and (clip.labels[0] == 2).any()
        for clip in (clips[i] for i in range(len(clips)))
    )
    kept = sampler(late, samples_per_video=20, max_skip=[2], clip_objects="all_frames")
    assert min(kept.draw(i).positions[0] for i in range(len(kept))) < 4


def test_a_video_whose_clips_never_start_with_an_object_is_named(tmp_path: Path) -> None:
    trees.write_video(tmp_path / "JPEGImages/end", tmp_path / "Annotations/end", {1: 3}, frames=4)
    clips = sampler([TrainingSet("x", folder(tmp_path, "train"), 1, 5)], max_skip=[2])
    with pytest.raises(InputError, match="'x/end'.*100 draws.*clip_objects all_frames"):
        clips[0]


def test_a_clip_is_drawn_again_where_augmentation_moves_its_objects_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.folder(tmp_path)
    calls = []

    def lose(images: list[np.ndarray], labels: list[np.ndarray], rng: np.random.Generator) -> None:
        calls.append(rng)
        labels[0] = labels[0] * (len(calls) > 2)

    monkeypatch.setattr(clips_module, "augment", lose)
    clip = sampler([TrainingSet("x", folder(tmp_path, "train"), 1, 5)], max_skip=[2])[0]
    assert len(calls) == 3 and (clip.labels[0] > 0).any()


def test_objects_are_those_of_all_frames_together() -> None:
    """With clip_objects all_frames, one that comes later, or is absent in between, keeps one number."""
    labels = [np.array([[0, 9]], np.uint8), np.array([[4, 255]], np.uint8), np.array([[9, 4]], np.uint8)]
    chosen, num_objects = choose_objects(labels, np.random.default_rng(0), "all_frames")
    assert num_objects == 2 and [label.tolist() for label in chosen] == [[[0, 2]], [[1, 0]], [[2, 1]]]


def test_a_clip_without_objects_has_one_that_is_nowhere() -> None:
    chosen, num_objects = choose_objects([np.array([[0, 255]], np.uint8)], np.random.default_rng(0))
    assert num_objects == 1 and not chosen[0].any()


# ---- an epoch ----


def test_the_length_of_an_epoch_is_the_sum_over_the_sets(sets: list[TrainingSet]) -> None:
    clips = sampler(sets, samples_per_video=4)
    assert len(clips) == 4 * (2 * 2 + 3 * 1)
    assert Counter((clips.sets[s].name, clips.sets[s].videos[v].name) for s, v in clips.order) == {
        ("DAVIS17", "pair"): 8,
        ("DAVIS17", "trio"): 8,
        ("VOS", "aaa"): 12,
    }
    assert len(loader(sets, train_batch=3)) == 3  # 7 clips; the last batch is smaller
    assert [len(batch) for batch in loader(sets, train_batch=3).batches(0)] == [3, 3, 1]


def test_the_sets_are_shuffled_together_and_anew_each_epoch(sets: list[TrainingSet]) -> None:
    orders = [sampler(sets, epoch, samples_per_video=4).order for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 3
    assert all(order != sorted(order) and sorted(order) == sorted(orders[0]) for order in orders)


def test_clips_depend_on_seed_and_epoch_alone(sets: list[TrainingSet]) -> None:
    """Not on the number of workers, not on the order of reading, not on global random states."""

    def epoch(number: int, **options) -> list[Clip]:
        return [clip for batch in loader(sets, **options).batches(number) for clip in batch]

    first = epoch(0)
    torch.manual_seed(99)
    np.random.seed(99)
    assert same(first, epoch(0, workers=2))
    assert same(first, epoch(0, train_batch=3))
    assert same(first, [sampler(sets)[i] for i in reversed(range(len(first)))][::-1])
    by_name = [
        sorted(clips, key=lambda clip: (clip.name, clip.frames.sum().item()))
        for clips in (first, epoch(1), epoch(0, seed=1))
    ]
    assert not same(by_name[0], by_name[1]) and not same(by_name[0], by_name[2])
    assert not any(torch.equal(a.frames, b.frames) for a, b in zip(by_name[0], by_name[1]))


def test_processes_and_starts_share_out_the_same_clips(sets: list[TrainingSet]) -> None:
    """Seven clips, two a process: whoever takes them and wherever one begins, step n holds the same ones."""
    steps = list(loader(sets, train_batch=6).batches(1))
    three = [loader(sets, train_batch=2, rank=rank, world_size=3) for rank in range(3)]
    assert [len(part) for part in three] == [2, 2, 2] and [three[0].clips_in_step(i) for i in range(2)] == [
        6,
        1,
    ]
    shares = [list(part.batches(1)) for part in three]
    assert [[len(clips) for clips in share] for share in shares] == [[2, 1], [2, 0], [2, 0]]
    for step, clips in enumerate(steps):
        assert same(clips, [clip for share in shares for clip in share[step]])
    assert same(list(three[2].batches(1, 1))[0], []) and same(list(three[0].batches(1, 1))[0], shares[0][1])


@pytest.mark.parametrize(
    "size, target, reduced",
    [
        ((400, 640), (37, 59), (50, 80)),
        ((400, 640), (74, 200), (100, 160)),
        ((400, 640), (75, 200), (200, 320)),
        ((640, 400), (37, 59), (80, 50)),
        ((400, 640), (200, 320), (400, 640)),
        ((40, 64), (50, 80), (40, 64)),
    ],
)
def test_jpeg_is_decoded_no_larger_than_needed(
    tmp_path: Path, size: tuple[int, int], target: tuple[int, int], reduced: tuple[int, int]
) -> None:
    trees.write_video(
        tmp_path / "JPEGImages/x", tmp_path / "Annotations/x", {1: 0, 4: 0}, frames=2, size=size
    )
    (video,) = folder(tmp_path, "train")
    images, labels = read_first_two(video, target)
    upright_size = tuple(sorted(reduced))
    assert all(image.shape[:2] == upright_size for image in [*images, *labels])
    for image, label in zip(images, labels):
        assert set(np.unique(label)) == {0, 1, 4}  # and nothing in between
        assert all(trees.iou(trees.decode(image, [1, 4]) == i, label == i) > 0.8 for i in (1, 4))


def test_a_mask_of_the_reduced_size_is_refused_all_the_same(tmp_path: Path) -> None:
    trees.write_video(
        tmp_path / "JPEGImages/x", tmp_path / "Annotations/x", {1: 0}, frames=2, size=(400, 640)
    )
    trees.save_mask(tmp_path / "Annotations/x/00000.png", trees.scene([1], 0, (200, 320))[1])
    with pytest.raises(InputError, match="00000.png.*640x400.*320x200"):
        read_first_two(folder(tmp_path, "train")[0], (200, 320))


def test_two_clips_of_one_video_differ(sets: list[TrainingSet]) -> None:
    clips = sampler(sets, samples_per_video=2)
    of_pair = [clips[i] for i in range(len(clips)) if clips.order[i] == (0, 0)]
    assert len(of_pair) == 4
    assert not any(torch.equal(a.frames, b.frames) for i, a in enumerate(of_pair) for b in of_pair[:i])


def test_a_clip_has_the_promised_shapes(sets: list[TrainingSet]) -> None:
    for clip in (batch[0] for batch in loader(sets).batches(0)):
        assert clip.frames.shape == (3, 3, *INPUT) and clip.frames.dtype == torch.float32
        assert clip.labels.shape == (3, *INPUT) and clip.labels.dtype == torch.uint8
        assert clip.num_objects == {"DAVIS17/pair": 2, "DAVIS17/trio": 3, "VOS/aaa": 2}[clip.name]
        assert set(clip.labels.unique().tolist()) == set(range(clip.num_objects + 1))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_mask_ends_training_in_one_line_that_names_it(tmp_path: Path, workers: int) -> None:
    trees.folder(tmp_path)
    clips = loader([TrainingSet("x", folder(tmp_path, "train"), 1, 5)], workers)
    for mask in (tmp_path / "Annotations/mine").iterdir():
        trees.save_mask(mask, trees.scene([1, 2], size=(64, 48))[1])  # lying on its side
    with pytest.raises(InputError, match=str(tmp_path / "Annotations/mine")) as error:
        list(clips.batches(0))
    assert "\n" not in str(error.value) and "64x48" in str(error.value) and "48x64" in str(error.value)


# ---- portrait ----


def test_portrait_images_are_transposed() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(4, 3)
    assert np.array_equal(to_landscape(image), image.T)
    assert to_landscape(np.zeros((4, 3, 3))).shape == (3, 4, 3)
    assert to_landscape(image.T) is not None and np.array_equal(to_landscape(image.T), image.T)
    assert np.array_equal(to_landscape(image[:3]), image[:3])  # a square one stays


def test_portrait_clips_fill_the_input(tmp_path: Path) -> None:
    trees.write_video(
        tmp_path / "JPEGImages/tall",
        tmp_path / "Annotations/tall",
        {1: 0, 2: 0},
        size=(96, 64),
        suffix=".png",
    )
    clip = sampler([TrainingSet("x", folder(tmp_path, "train"), 1, 5)], size=(64, 96))[0]
    assert clip.labels.shape == (3, 64, 96)
    found, labels = trees.decode(pixels_of(clip.frames), [1, 2]), clip.labels.numpy()
    for label in (1, 2):
        assert trees.iou(found == label, labels == label) > 0.85
    rows = np.argwhere(labels[0] > 0)[:, 0]
    columns = np.argwhere(labels[0] > 0)[:, 1]
    assert np.ptp(rows) > np.ptp(columns)  # squares side by side in the source are one above the other now


# ---- augmentation ----


def figures() -> tuple[np.ndarray, np.ndarray]:
    """A image of three objects in their palette colours, and its labels."""
    labels = np.zeros((240, 320), np.uint8)
    cv2.circle(labels, (90, 100), 52, 1, -1)
    cv2.rectangle(labels, (170, 40), (270, 120), 2, -1)
    cv2.fillPoly(labels, [np.array([(140, 216), (260, 216), (200, 144)], np.int32)], 4)
    return trees.colour(labels), labels


def test_images_and_labels_stay_aligned() -> None:
    (image, label), away = figures(), np.zeros(2)
    for seed in range(25):
        images, labels = [image], [label]
        augment(images, labels, np.random.default_rng(seed))
        assert (
            images[0].shape == image.shape and labels[0].shape == label.shape and labels[0].dtype == np.uint8
        )
        assert set(np.unique(labels[0])) <= {0, 1, 2, 4}  # no label in between
        frames, maps = to_input(images, labels, (192, 288))
        found, maps = trees.decode(pixels_of(frames), [1, 2, 4]), maps.numpy()
        for one in (1, 2, 4):
            assert trees.iou(found == one, maps == one) > 0.95, (seed, one)
            away += np.argwhere(found[0] == one).mean(0) - np.argwhere(maps[0] == one).mean(0)
    assert np.abs(away / 75).max() < 0.6  # pixels, on average; imgaug's nearest resize moves labels by 0.4


def test_one_draw_serves_all_frames_of_a_clip() -> None:
    image, label = figures()
    changed = 0
    for seed in range(8):
        images, labels = [image.copy() for _ in range(4)], [label.copy() for _ in range(4)]
        augment(images, labels, np.random.default_rng(seed))
        assert all(np.array_equal(images[0], other) for other in images)
        assert all(np.array_equal(labels[0], other) for other in labels)
        changed += not np.array_equal(images[0], image)
    assert changed == 8


def test_a_static_video_stays_static_through_the_loader(tmp_path: Path) -> None:
    image, label = figures()
    for t in range(5):
        trees.save_image(tmp_path / f"JPEGImages/still/{t:05d}.png", image)
        trees.save_mask(tmp_path / f"Annotations/still/{t:05d}.png", label)
    still = sampler([TrainingSet("x", folder(tmp_path, "train"), 3, 5)], size=(48, 64))
    clips = [still[i] for i in range(3)]
    for clip in clips:
        assert torch.equal(clip.frames, clip.frames[:1].expand_as(clip.frames))
        assert torch.equal(clip.labels, clip.labels[:1].expand_as(clip.labels))
    assert not torch.equal(clips[0].frames, clips[1].frames)  # each clip has its own draw


def test_the_augmentation_is_within_its_bounds() -> None:
    """A box in the middle is mirrored half the time, rotated and sheared a little, enlarged by the crop."""
    label = np.zeros((200, 200), np.uint8)
    label[60:140, 60:140] = 1
    label[90:110, 150:170] = 2  # to the right
    image = np.full((200, 200, 3), 100, np.uint8)
    mirrored, areas, angles, greys = 0, [], [], []
    for seed in range(120):
        images, labels = [image], [label]
        augment(images, labels, np.random.default_rng(seed))
        centre, beside = (np.argwhere(labels[0] == k).mean(0) for k in (1, 2))
        direction = beside - centre
        mirrored += direction[1] < 0
        angles.append(np.degrees(np.arctan2(direction[0], abs(direction[1]))))
        areas.append((labels[0] == 1).sum() / 6400)
        greys.append(int(images[0][int(centre[0]), int(centre[1]), 0]))
    assert 35 < mirrored < 85
    assert 10 < np.abs(angles).max() < 27 and np.std(angles) > 4
    assert 0.9 < min(areas) < 1.1 and 1.3 < max(areas) < 1.72  # from 0.95 squared to (1.05 / 0.8) squared
    assert 92 <= min(greys) < 96 and 104 < max(greys) <= 108  # contrast 3 % of the values, brightness +-5


def test_frames_are_normalised_and_letterboxed() -> None:
    image = np.full((30, 60, 3), 200, np.uint8)
    frames, labels = to_input([image], [np.ones((30, 60), np.uint8)], (40, 60))
    assert torch.equal(frames[0], normalise(np.pad(image, ((5, 5), (0, 0), (0, 0)))))
    assert labels[0, 5:35].eq(1).all() and labels[0, :5].eq(0).all() and labels[0, 35:].eq(0).all()


def test_one_object_of_255_survives_augmentation(tmp_path: Path) -> None:
    """DAVIS 2016: the original read 255 as a class index."""
    trees.davis16(tmp_path)
    for clip in (batch[0] for batch in loader(training_sets(tmp_path, ["DAVIS16"], [2])).batches(0)):
        assert clip.num_objects == 1 and set(clip.labels.unique().tolist()) == {0, 1}


def test_an_index_without_masks_on_every_frame_is_read_by_name(tmp_path: Path) -> None:
    """Masks go with the frames of their names, not with their rank."""
    for t in range(4):
        image, labels = trees.scene([1], 6 * t)
        trees.save_image(tmp_path / f"frames/{t:05d}.png", image)
        if t in (1, 3):
            trees.save_mask(tmp_path / f"masks/{t:05d}.png", labels)
    frames = tuple(sorted((tmp_path / "frames").iterdir()))
    masks = {1: tmp_path / "masks/00001.png", 3: tmp_path / "masks/00003.png"}
    clip = sampler([TrainingSet("x", [VideoIndex("v", frames, masks, (1,))], 1, 5)], size=trees.SIZE)[0]
    found = trees.decode(pixels_of(clip.frames), [1])
    for t in range(2):
        assert trees.iou(found[t] == 1, clip.labels[t].numpy() == 1) > 0.85


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        FileNotFoundError(2, "No such file or directory"),
        EOFError(),
    ],
)
def test_what_comes_of_a_worker_that_is_gone_says_so(
    sets: list[TrainingSet], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Torch notices some deaths only where it asks the worker for the memory of a clip."""

    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(loader_module, "DataLoader", broken)
    with pytest.raises(InputError, match="loader process died"):
        list(loader(sets, workers=1).batches(0))
