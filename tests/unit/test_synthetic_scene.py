"""Synthetic scenes: reproducible, exactly labelled, moving, and written to disk as DAVIS 2017."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from dataset.synthetic.__main__ import main
from dataset.synthetic.export import VAL_SEEDS, write_tree
from dataset.synthetic.motion import Part, Wave, random_motion
from dataset.synthetic.render import MIN_AREA, render
from dataset.synthetic.scene import generate_clip, generate_scene
from dataset.synthetic.textures import GeneratedTextures
from libs.core.errors import InputError
from libs.core.masks import palette

SIZE = (64, 112)
TINY_TREE = {"train": 2, "val": 1, "frames": 3, "size": SIZE, "seed": 5}


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Args: (H, W) bool."""
    return float((one & other).sum() / max(1, (one | other).sum()))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(one: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(one, other))


def test_a_clip_follows_from_its_arguments_alone() -> None:
    first = generate_clip(3, 7, range(4), SIZE)
    np.random.rand(10)  # the global generator must not matter
    assert same(first, generate_clip(3, 7, range(4), SIZE))
    for seed, index in ((3, 8), (4, 7), (7, 3), (VAL_SEEDS + 3, 7)):
        other = generate_clip(seed, index, range(4), SIZE)
        assert not np.array_equal(first[0], other[0]) and not np.array_equal(first[1], other[1])


def test_times_pick_from_the_same_scene() -> None:
    images, labels = generate_clip(3, 7, range(7), SIZE)
    assert same(generate_clip(3, 7, range(3), SIZE), (images[:3], labels[:3]))
    assert same(generate_clip(3, 7, (0, 1, 4, 6), SIZE), (images[[0, 1, 4, 6]], labels[[0, 1, 4, 6]]))


@pytest.mark.parametrize("size", [SIZE, (160, 160), (128, 48)])
@pytest.mark.parametrize("closeness", [(1.0, 1.0), (0.7, 2.2)])
def test_objects_are_numbered_from_one_and_visible_at_first(
    size: tuple[int, int], closeness: tuple[float, float]
) -> None:
    counts = set()
    for index in range(40):
        images, labels = generate_clip(1, index, (0, 5), size, closeness)
        assert images.shape == (2, *size, 3) and labels.shape == (2, *size)
        assert images.dtype == labels.dtype == np.uint8
        num_objects = int(labels[0].max())
        counts.add(num_objects)
        areas = np.bincount(labels[0].ravel(), minlength=num_objects + 1) / labels[0].size
        assert (areas[1:] >= 0.5 * MIN_AREA).all()  # half: visibility is estimated on a coarse grid
        assert labels[1].max() <= num_objects
    assert counts == {1, 2, 3}


def test_objects_move_but_can_be_followed() -> None:
    copied, followed = [], []
    for index in range(16):
        labels = generate_clip(2, index, range(24), SIZE)[1]
        for masks in (labels == label for label in range(1, int(labels[0].max()) + 1)):
            copied += [iou(masks[0], mask) for mask in masks[1:]]
            followed += [iou(before, after) for before, after in zip(masks, masks[1:])]
    assert 0.2 < np.mean(copied) < 0.6
    assert np.mean(followed) > 0.75


def test_labels_match_the_visible_objects() -> None:
    """In a scene with one flat colour per texture, labels change exactly where colours change."""

    class Flat(GeneratedTextures):
        def backdrop(self, rng: np.random.Generator, side: int) -> np.ndarray:
            return np.full((side, side, 3), 10, np.uint8)

        def surface(self, rng: np.random.Generator, side: int) -> np.ndarray:
            return np.full((side, side, 3), rng.integers(60, 250, 3), np.uint8)

    for index in range(10):
        scene = None
        rng = np.random.default_rng(index)
        while scene is None:
            scene = generate_scene(rng, (192, 256), Flat(), 1.0)
        labels = np.zeros((192, 256), np.uint8)
        image = render(
            replace(scene, actors=[replace(actor, shadow=0.0) for actor in scene.actors]),
            labels,
            3.0,
            scene.camera.pose(3.0),
        )
        bare = np.abs(image - 10).max(-1) < 1
        assert not labels[bare].any()  # only the backdrop is visible there
        for label in range(1, int(labels.max()) + 1):
            inside = cv2.erode((labels == label).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
            colours = [
                part.texture[0, 0, :3].astype(float)
                for actor in scene.actors
                if actor.label == label
                for part in actor.parts
            ]
            own = [np.abs(image - colour).max(-1) < 1.5 for colour in colours]
            assert np.any(own, axis=0)[inside].mean() > (
                0.96 if len(colours) == 1 else 0.75
            )  # seams between its parts are mixed


def test_a_part_swings_around_its_joint() -> None:
    part = Part(
        np.zeros((4, 4, 4), np.uint8), (1, 1), joint=(2.0, 1.0), centre=(1.0, 0.0), swing=Wave(1.0, 0.0, 1.0)
    )
    for time in (0.0, 0.7, 2.0):
        assert np.hypot(*(part.pose(time)[:2, 2] - (2.0, 1.0))) == pytest.approx(1.0)
    assert np.allclose(part.pose(0.0)[:2, 2], (3.0, 1.0)) and not np.allclose(
        part.pose(0.7)[:2, 2], (3.0, 1.0)
    )


def test_a_path_stays_within_its_bounds() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        motion = random_motion(rng, np.array([1.3, 0.8]), 0.3, 0.2)
        places = np.array([motion.pose(t)[:2, 2] for t in range(0, 400, 7)])
        assert (places >= motion.bounds[0] - 1e-9).all() and (places <= motion.bounds[1] + 1e-9).all()
        assert np.allclose(motion.pose(0)[:2, 2], motion.start)


def test_the_backdrop_moves_and_the_images_are_not_flat() -> None:
    changes = []
    for index in range(12):
        images, labels = generate_clip(4, index, (0, 12), SIZE)
        background = (labels == 0).all(axis=0)
        changes.append(np.abs(images[0].astype(int) - images[1])[background].mean())
        assert images.std() > 8
    assert np.median(changes) > 3


def test_without_distractors_there_are_only_objects_and_occluders() -> None:
    """Occluders are smaller than 0.3 and start outside the image."""
    others, copies = {True: 0, False: 0}, {True: 0, False: 0}
    for distractors in (True, False):
        for seed in range(30):
            scene = None
            rng = np.random.default_rng(seed)
            while scene is None:
                scene = generate_scene(rng, SIZE, GeneratedTextures(), 1.0, distractors)
            others[distractors] += sum(a.label == 0 and a.motion.bounds[0][0] > 0 for a in scene.actors)
            alphas = [actor.parts[0].texture[..., 3].tobytes() for actor in scene.actors]
            copies[distractors] += len(alphas) - len(set(alphas))
    assert others[True] > 10 and copies[True] > 5 and others[False] == copies[False] == 0


def test_the_tree_has_the_layout_of_davis_and_holds_the_generated_clips(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "new", **TINY_TREE)
    assert tree == tmp_path / "new" / "DAVIS17" and list(tree.parent.iterdir()) == [tree]
    sequences = yaml.safe_load((tree / "data" / "db_info.yaml").read_text())["sequences"]
    assert [entry["set"] for entry in sequences] == ["train", "train", "val"]
    assert all(entry["year"] == 2017 and entry["num_frames"] == 3 for entry in sequences)
    assert len(contents(tree)) == 1 + 3 * 3 * 2
    for entry, (seed, index) in zip(sequences, ((5, 0), (5, 1), (VAL_SEEDS + 5, 0))):
        images, labels = generate_clip(seed, index, range(3), SIZE)
        for t in range(3):
            mask = Image.open(tree / "Annotations" / "480p" / entry["name"] / f"{t:05d}.png")
            assert mask.mode == "P" and np.array_equal(np.asarray(mask), labels[t])
            used = palette()[:4].ravel().tolist()
            assert mask.getpalette()[: len(used)] == used
            image = Image.open(tree / "JPEGImages" / "480p" / entry["name"] / f"{t:05d}.jpg")
            assert image.mode == "RGB" and np.abs(np.asarray(image).astype(int) - images[t]).mean() < 8


def test_an_existing_folder_is_never_changed(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, **TINY_TREE)
    before = contents(tmp_path)
    assert write_tree(tmp_path, **TINY_TREE) == tree
    with pytest.raises(InputError, match="DAVIS17"):
        write_tree(tmp_path, **{**TINY_TREE, "seed": 6})
    assert contents(tmp_path) == before
    foreign = tmp_path / "foreign" / "DAVIS17" / "notes.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(InputError, match="DAVIS17"):
        write_tree(tmp_path / "foreign", **TINY_TREE)
    assert contents(tmp_path / "foreign") == {"DAVIS17/notes.txt": b"mine"}


def test_the_command_line_writes_a_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = "--train 1 --val 0 --frames 2 --size 48x80 --seed 9"
    main(["--out", str(tmp_path), *arguments.split()])
    assert capsys.readouterr().out.strip() == str(tmp_path / "DAVIS17")
    assert Image.open(tmp_path / "DAVIS17/Annotations/480p/train-0000/00001.png").size == (80, 48)


@pytest.mark.parametrize(
    "arguments",
    [
        "--size 240",
        "--size 8x8",
        "--size 40x400",
        "--size axb",
        "--frames 0",
        "--train -1",
        "--val x",
        "--seed -1",
        "--train 0 --val 0",
        f"--seed {VAL_SEEDS}",
        "--nonsense 1",
    ],
)
def test_bad_arguments_end_with_code_2_and_write_nothing(
    tmp_path: Path, arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--out", str(tmp_path / "out"), *arguments.split()])
    assert stop.value.code == 2
    assert "error: " in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_bad_arguments_of_a_clip_are_refused() -> None:
    for seed, index, times in (
        (-1, 0, [0]),
        (0, 1 << 32, [0]),
        (0, 0, []),
        (0, 0, [1, 2]),
        (0, 0, [0, 3, 3]),
    ):
        with pytest.raises(InputError, match="expected"):
            generate_clip(seed, index, times, SIZE)
