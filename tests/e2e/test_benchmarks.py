"""What the benchmarks compare with: copying, optical flow, rank correlation; and that what they call is there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import clips, scores, training
from dataset.build import test_videos as videos_of
from dataset.build import training_sets
from dataset.clips import ClipSampler
from dataset.sampling import ClipSettings
from dataset.synthetic.export import write_tree
from tests.helpers import fake_datasets as trees


def test_rank_correlation() -> None:
    assert scores.spearman([1, 2, 3, 4], [10, 20, 30, 99]) == pytest.approx(1)
    assert scores.spearman([1, 2, 3, 4], [9, 7, 5, 1]) == pytest.approx(-1)
    assert scores.spearman([0, 0, 1, 2], [0, 1, 2, 3]) == pytest.approx(0.9486833)  # ties share their rank


def test_flow(tmp_path: Path) -> None:
    """A textured square that moves 3 pixels a frame is kept by optical flow."""
    rng = np.random.default_rng(0)
    texture, square = (
        rng.integers(0, 255, (120, 160, 3), np.uint8),
        rng.integers(0, 255, (40, 40, 3), np.uint8),
    )
    texture, square = (
        np.array(
            Image.fromarray(x).resize(
                x.shape[1::-1], Image.Resampling.BILINEAR, (0, 0, x.shape[1] // 4, x.shape[0] // 4)
            )
        )
        for x in (texture, square)
    )
    for t in range(12):
        image, labels = texture.copy(), np.zeros((120, 160), np.uint8)
        image[40:80, 20 + 3 * t : 60 + 3 * t], labels[40:80, 20 + 3 * t : 60 + 3 * t] = square, 1
        trees.save_image(tmp_path / f"JPEGImages/v/{t:05d}.png", image)
        trees.save_mask(tmp_path / f"Annotations/v/{t:05d}.png", labels)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    first = next(video.read()).given
    copied, carried = (
        scores.score(video, way).jaccard for way in (iter([first] * 12), scores.carried(video))
    )
    assert copied.shape == (1, 10) and copied[0, 0] == pytest.approx(37 / 43)
    assert carried.mean() > max(0.6, copied.mean() + 0.15)
    table = scores.table([video], {"flow": [scores.score(video, scores.carried(video))]}, {"v": 0.5})
    assert "| v | " in table and "0.50" in table and table.splitlines()[-1].startswith("| all |")


def test_a_contact_sheet_of_clips() -> None:
    settings = ClipSettings(size=(64, 64), max_skip=[5], sampled_frames=clips.FRAMES, seed=3)
    sampler = ClipSampler(training_sets(Path(), ["PROCEDURAL"], [1]), settings)
    sheet = clips.contact_sheet(sampler)
    assert sheet.shape == (8 * 64, 10 * 64, 3) and sheet.std() > 20


def test_the_naive_loader_of_the_training_benchmark(tmp_path: Path) -> None:
    write_tree(tmp_path, train=1, val=0, frames=4, size=(48, 64))
    settings = ClipSettings(size=(32, 48), max_skip=[1])
    sampler = ClipSampler(training_sets(tmp_path, ["DAVIS17"], [1]), settings)
    frames, masks = next(training.plain(sampler))
    assert frames.shape == (3, 3, 32, 48) and masks.shape == (3, 6, 32, 48)
