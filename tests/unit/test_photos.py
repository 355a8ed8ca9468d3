"""STATIC: clips generated from annotated images of all kinds; PROCEDURAL beside it in the sampler."""

import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dataset import registry
from dataset.build import build_loader, training_sets
from dataset.clips import ClipSampler
from dataset.loader import PilLoader
from dataset.sampling import ClipSettings
from dataset.synthetic.clips import SyntheticVideo
from dataset.synthetic.export import VAL_SEEDS, write_tree
from dataset.synthetic.photos import AnnotatedImage, PhotoTextures, _read, index_images, open_photo_textures
from dataset.synthetic.render import MIN_AREA, render
from dataset.synthetic.scene import generate_clip, generate_scene, inpaint_marked
from dataset.synthetic.textures import GeneratedTextures
from libs.core.errors import InputError
from tests.helpers import fake_datasets as trees

INPUT = (48, 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three images: regions without background, a saliency mask of 0 and 255, objects 2 and 5."""
    rng = np.random.default_rng(0)
    for i, ids in enumerate(([1, 2, 3], [255], [2, 5])):
        image, labels = trees.scene(ids, size=(60, 90))
        labels = labels + 1 if i == 0 else labels
        trees.save_image(
            tmp_path / f"STATIC/images/{i}.jpg",
            np.clip(image + rng.integers(0, 20, image.shape), 0, 255).astype(np.uint8),
        )
        trees.save_mask(tmp_path / f"STATIC/masks/{i}.png", labels, mode="L" if i == 1 else "P")
    return tmp_path


def test_clips_of_every_kind_of_mask(root: Path) -> None:
    indices = index_images(root)
    assert [index.name for index in indices] == ["0", "1", "2"]
    marked = 0
    for first in range(3):
        open_textures = partial(open_photo_textures, indices, first)
        for index in range(6):
            images, labels = generate_clip(0, index, (0, 3), INPUT, (0.7, 2.2), open_textures)
            assert images.shape == (2, *INPUT, 3) and images.std() > 3
            num_objects = labels[0].max()
            assert 1 <= num_objects <= 3 and {0, *np.unique(labels[0])} == set(range(num_objects + 1))
        for i in range(8):
            backdrop = open_textures(np.random.default_rng(i)).backdrop(np.random.default_rng(i), 80)
            marked += backdrop.shape[2] == 4
    assert 8 < marked < 23  # of 24; seven in ten are meant to have an object marked


def test_a_cutout_shows_an_object_and_nothing_else() -> None:
    image, labels = trees.scene([1, 2], size=(60, 90))
    annotated = AnnotatedImage(image, labels)
    textures = PhotoTextures(annotated, annotated)
    found = [textures.cutout(np.random.default_rng(i), 50) for i in range(20)]
    cuts = [cut for cut in found if cut is not None]
    assert len(cuts) > 10
    for cut in cuts:
        inside = cut[..., 3] == 255
        assert cut.shape == (50, 50, 4) and inside.any() and not cut[0, 0, 3]
        assert set(np.unique(trees.decode(cut[..., :3], [1, 2])[inside])) <= {
            1,
            2,
        }  # the squares' colours, no grey around them


def test_an_image_without_a_mask_is_named(root: Path) -> None:
    (root / "STATIC/masks/1.png").unlink()
    with pytest.warns(UserWarning, match="masks: 1 image of 3 left out, without a mask.*: 1.jpg"):
        assert [video.name for video in registry.training_videos(root, "STATIC")] == ["0", "2"]
    for path in (root / "STATIC/masks").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="masks.*0.jpg, 1.jpg, 2.jpg"):
        registry.training_videos(root, "STATIC")
    with pytest.raises(InputError, match="images: expected images"):
        registry.training_videos(root / "elsewhere", "STATIC")


def test_a_mask_of_another_size_is_named(root: Path) -> None:
    trees.save_mask(root / "STATIC/masks/2.png", np.ones((30, 30), np.uint8))
    with pytest.raises(InputError, match="2.png.*90x60"):
        open_photo_textures(index_images(root), 2, np.random.default_rng(0))


def sampler(root: Path, epoch: int = 0, max_skip: int = 4) -> ClipSampler:
    sets = training_sets(root, ["PROCEDURAL", "STATIC"], [1, 2])
    return ClipSampler(sets, ClipSettings(size=INPUT, max_skip=[max_skip] * 2), epoch)


def test_generated_clips_are_functions_of_seed_epoch_and_position(root: Path) -> None:
    one, again, later = sampler(root), sampler(root), sampler(root, epoch=1)
    assert len(one) == 100 + 2 * 3
    for position in range(0, 106, 15):
        clip = one[position]
        assert clip.frames.shape == (3, 3, *INPUT) and clip.frames.isfinite().all()
        assert clip.labels.max() <= clip.num_objects <= 3 and clip.name.split("/")[0] in (
            "PROCEDURAL",
            "STATIC",
        )
        assert torch.equal(clip.frames, again[position].frames) and torch.equal(
            clip.labels, again[position].labels
        )
        assert not torch.equal(clip.frames, later[position].frames)


def test_gaps_of_generated_clips_stay_within_the_curriculum(root: Path) -> None:
    gaps = np.concatenate([np.diff(sampler(root).draw(position).positions) for position in range(106)])
    assert set(gaps) == {1, 2, 3, 4}


def test_every_step_has_one_of_the_sizes_and_coarse_epochs_the_smallest(root: Path) -> None:
    sets = training_sets(root, ["PROCEDURAL"], [1])
    settings = ClipSettings(
        size=INPUT, max_skip=[3], sampled_frames=2, train_batch=4, scales=(0.75, 1.0, 1.25), coarse_epochs=2
    )
    loader, half = PilLoader(sets, settings, workers=0), replace(settings, train_batch=2)
    halves = [PilLoader(sets, half, rank=rank, world_size=2, workers=0) for rank in range(2)]
    small, middle, large = (36, 48), (48, 64), (60, 80)
    seen = set()
    for epoch, expected in ((0, {small}), (1, {small}), (2, {small, middle, large})):
        steps = [
            [clip.frames.shape[-2:] for clip in clips] for clips, _ in zip(loader.batches(epoch), range(8))
        ]
        assert all(len(set(sizes)) == 1 for sizes in steps) and {sizes[0] for sizes in steps} == expected
        shared = [
            [clip.frames.shape[-2:] for clip in clips] for clips, _ in zip(halves[1].batches(epoch), range(8))
        ]
        assert [sizes[0] for sizes in shared] == [sizes[0] for sizes in steps]  # processes agree
        seen |= expected
    assert len(seen) == 3


def test_generated_videos_can_be_pickled_for_workers(root: Path) -> None:
    for name in ("STATIC", "PROCEDURAL"):
        video = pickle.loads(pickle.dumps(registry.training_videos(root, name)[1]))
        assert video.make(np.random.default_rng(0), (0, 2), INPUT)[0].shape == (2, *INPUT, 3)


def test_void_is_an_object_only_without_other_labels(root: Path) -> None:
    image, labels = trees.scene([1, 255], size=(60, 90))
    trees.save_mask(root / "STATIC/masks/1.png", labels)
    index = index_images(root)[1]
    assert set(np.unique(_read(index).labels)) == {0, 1}
    trees.save_mask(root / "STATIC/masks/1.png", np.where(labels == 1, 0, labels))
    assert np.array_equal(_read(index).labels == 1, labels == 255)


@pytest.mark.parametrize("size", [(20, 700), (700, 20), (33, 35)])
def test_images_of_every_shape(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, labels = rng.integers(0, 255, (*size, 3), np.uint8), np.ones(size, np.uint8)
    labels[:, : size[1] // 3] = 2
    annotated = AnnotatedImage(image, labels)
    for i in range(6):
        images, maps = generate_clip(
            0, i, (0, 2), (64, 64), (0.7, 2.2), lambda _: PhotoTextures(annotated, annotated)
        )
        assert images.shape == (2, 64, 64, 3) and maps[0].any()


def test_an_object_that_leaves_the_backdrop_leaves_no_trace() -> None:
    backdrop = np.full((120, 160, 4), 90, np.uint8)
    backdrop[..., 3] = 0
    backdrop[40:80, 60:100] = (250, 0, 0, 255)
    empty = inpaint_marked(backdrop)
    assert empty.shape == (120, 160, 3) and np.abs(empty.astype(int) - 90).max() < 12


def test_visibility_is_checked_at_the_image_s_own_shape() -> None:
    """Each object is visible in frame 0, even if the coarse grid is hardly smaller than the image."""
    for index in range(30):
        rng = np.random.default_rng(index)
        scene = next(
            filter(None, (generate_scene(rng, (40, 96), GeneratedTextures(), 1.0) for _ in range(20)))
        )
        labels = np.zeros((40, 96), np.uint8)
        render(scene, labels, 0, scene.camera.pose(0))
        for label in range(1, max(actor.label for actor in scene.actors) + 1):
            assert (labels == label).sum() >= 0.7 * MIN_AREA * labels.size


def test_generated_sets_are_refused_as_valset_and_by_dali(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="valset.*python3 -m dataset.synthetic"):
        registry.recorded_videos(root, "PROCEDURAL", "val")
    sets = training_sets(root, ["PROCEDURAL"], [1])
    assert all(isinstance(video, SyntheticVideo) for video in sets[0].videos)
    monkeypatch.setattr("dataset.dali.require_dali", lambda: None)
    with pytest.raises(InputError, match="data_backend.*PROCEDURAL.*PIL"):
        build_loader("DALI", torch.device("cpu"), sets, ClipSettings(size=INPUT, max_skip=[3]), workers=0)


def test_a_tree_generated_from_images(root: Path, tmp_path: Path) -> None:
    """`static` writes clips of the same scenes that training generates."""
    tree = write_tree(tmp_path / "out", train=1, val=1, frames=2, size=INPUT, seed=3, static=root)
    indices = index_images(root)
    first, second = np.random.default_rng(3).permutation(3)[:2]
    for name, seed, position in (("train-0000", 3, first), ("val-0000", VAL_SEEDS + 3, second)):
        images, labels = generate_clip(
            seed, 0, range(2), INPUT, open_textures=partial(open_photo_textures, indices, position)
        )
        assert np.array_equal(np.array(Image.open(tree / f"Annotations/480p/{name}/00001.png")), labels[1])
        written = np.array(Image.open(tree / f"JPEGImages/480p/{name}/00001.jpg")).astype(int)
        assert (
            np.abs(written - images[1]).mean()
            < np.abs(written - generate_clip(seed, 0, range(2), INPUT)[0][1]).mean() / 3
        )
    (root / "STATIC/images/0.jpg").write_bytes((root / "STATIC/images/1.jpg").read_bytes())
    with pytest.raises(InputError, match="something else"):
        write_tree(tmp_path / "out", train=1, val=1, frames=2, size=INPUT, seed=3, static=root)
    with pytest.raises(InputError, match="something else"):
        write_tree(tmp_path / "out", train=1, val=1, frames=2, size=INPUT, seed=3)
