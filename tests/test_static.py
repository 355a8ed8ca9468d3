"""STATIC: pictures with masks become clips, whatever kind of masks they are; PROCEDURAL beside it in the sampler."""

from pathlib import Path

import numpy as np
import pytest
import torch

from dataset import registry
from dataset.clips import COARSE, ClipSampler, MadeVideo
from dataset.loader import PilLoader, build_loader, training_sets
from dataset.procedural.film import draw_clip
from dataset.static import Album, index_pictures, open_album
from libs.structures import InputError
from tests import trees

INPUT = (48, 64)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three pictures: regions without a background, a saliency mask of 0 and 255, objects 2 and 5 on background."""
    rng = np.random.default_rng(0)
    for i, ids in enumerate(([1, 2, 3], [255], [2, 5])):
        image, labels = trees.scene(ids, size=(60, 90))
        labels = labels + 1 if i == 0 else labels
        trees.save_image(tmp_path / f"STATIC/images/{i}.jpg", np.clip(image + rng.integers(0, 20, image.shape), 0, 255).astype(np.uint8))
        trees.save_mask(tmp_path / f"STATIC/masks/{i}.png", labels, mode="L" if i == 1 else "P")
    return tmp_path


def test_clips_of_every_kind_of_mask(root: Path) -> None:
    pictures = index_pictures(root)
    assert [index.name for index in pictures] == ["0", "1", "2"]
    marked = 0
    for first in range(3):
        for index in range(6):
            images, labels = draw_clip(0, index, (0, 3), INPUT, (0.7, 2.2), open_album(pictures, first))
            assert images.shape == (2, *INPUT, 3) and images.std() > 3
            assert 1 <= labels[0].max() <= 3 and set(np.unique(labels[0])) == set(range(labels[0].max() + 1)) | {0}
        marked += sum(open_album(pictures, first)(np.random.default_rng(i)).backdrop(np.random.default_rng(i), 80)[..., 3].any() for i in range(8))
    assert 5 < marked < 20  # of 24, half are asked for


def test_a_cutout_is_a_thing_of_the_picture_and_nothing_else() -> None:
    image, labels = trees.scene([1, 2], size=(60, 90))
    album = Album(((image, labels), (image, labels)))
    found = [album.cutout(np.random.default_rng(i), 50) for i in range(20)]
    cuts = [cut for cut in found if cut is not None]
    assert len(cuts) > 10
    for cut in cuts:
        inside = cut[..., 3] == 255
        assert cut.shape == (50, 50, 4) and inside.any() and not cut[0, 0, 3]
        assert set(np.unique(trees.decode(cut[..., :3], [1, 2])[inside])) <= {1, 2}  # the squares' colours, no grey around them


def test_a_picture_without_a_mask_is_named(root: Path) -> None:
    (root / "STATIC/masks/1.png").unlink()
    with pytest.raises(InputError, match="masks.*1.jpg"):
        registry.training_videos(root, "STATIC")
    with pytest.raises(InputError, match="images: expected pictures"):
        registry.training_videos(root / "elsewhere", "STATIC")


def test_a_mask_of_another_size_is_named(root: Path) -> None:
    trees.save_mask(root / "STATIC/masks/2.png", np.ones((30, 30), np.uint8))
    with pytest.raises(InputError, match="2.png.*90x60"):
        open_album(index_pictures(root), 2)(np.random.default_rng(0))


def sampler(root: Path, epoch: int = 0, max_skip: int = 4) -> ClipSampler:
    sets = training_sets(root, ["PROCEDURAL", "STATIC"], [1, 2])
    return ClipSampler(sets, INPUT, 3, 1, [max_skip] * 2, 0, epoch)


def test_made_clips_are_functions_of_seed_epoch_and_position(root: Path) -> None:
    one, again, later = sampler(root), sampler(root), sampler(root, epoch=1)
    assert len(one) == 100 + 2 * 3
    for position in range(0, 106, 15):
        clip = one[position]
        assert clip.frames.shape == (3, 3, *INPUT) and clip.frames.isfinite().all()
        assert clip.labels.max() <= clip.num_objects <= 3 and clip.name.split("/")[0] in ("PROCEDURAL", "STATIC")
        assert torch.equal(clip.frames, again[position].frames) and torch.equal(clip.labels, again[position].labels)
        assert not torch.equal(clip.frames, later[position].frames)


def test_gaps_of_made_clips_stay_within_the_curriculum(root: Path) -> None:
    gaps = np.concatenate([np.diff(sampler(root).draw(position).positions) for position in range(106)])
    assert set(gaps) == {1, 2, 3, 4}


def test_coarse_epochs_are_smaller(root: Path) -> None:
    loader = PilLoader(training_sets(root, ["STATIC"], [1]), INPUT, 2, 1, [3], 1, 0, 0, coarse_epochs=2)
    sizes = [next(loader.batches(epoch))[0].frames.shape[-2:] for epoch in range(3)]
    small = tuple(round(side * COARSE) for side in INPUT)
    assert sizes == [small, small, INPUT]


def test_what_is_made_cannot_be_segmented_nor_decoded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="valset.*python3 -m dataset.procedural"):
        registry.recorded_videos(root, "PROCEDURAL", "val")
    sets = training_sets(root, ["PROCEDURAL"], [1])
    assert all(isinstance(video, MadeVideo) for video in sets[0].videos)
    monkeypatch.setattr("dataset.dali.require_dali", lambda: None)
    with pytest.raises(InputError, match="data_backend.*PROCEDURAL.*PIL"):
        build_loader("DALI", torch.device("cpu"), sets, INPUT, 3, 1, [3], 1, 0, 0)
