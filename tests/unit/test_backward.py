"""Segmenting in both directions: what is filled, what stays, and the files that are kept meanwhile."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from dataset.build import test_videos as videos_of
from libs.core.errors import UnreadableError
from libs.core.structures import Prediction, SourceFrame, Video
from libs.evaluation.backward import _fill, _store
from libs.evaluation.evaluator import VideoSink, evaluate_video
from libs.evaluation.inference import VideoSegmenter, segment_video
from tests.helpers import fake_datasets as trees
from tests.helpers.settings import plain_settings
from tests.unit.test_propagate import Tracker
from tests.unit.test_protocol import SIZE, mask


def moving(length: int, first: dict[int, int]) -> list[np.ndarray]:
    """Objects that move; the images show them in all frames, the masks from frame first[o] on."""
    places = {number: 20 * i for i, number in enumerate(first)}
    return [mask(**{f"o{number}": place + t for number, place in places.items()}) for t in range(length)]


def write_moving(
    root: Path, length: int, first: dict[int, int], masked: Sequence[int], film: bool = False
) -> Video:
    """A video in which all objects are visible from frame 0 on, but object o is marked from first[o] on."""
    true = moving(length, first)
    for t, labels in enumerate(true):
        if not film:
            trees.save_image(root / f"JPEGImages/clip/{t:05d}.png", trees.colour(labels))
        if t in masked:
            marked = [number for number, start in first.items() if start <= t]
            trees.save_mask(
                root / f"Annotations/clip/{t:05d}.png", np.where(np.isin(labels, marked), labels, 0)
            )
    if film:
        (root / "JPEGImages").mkdir()
        trees.write_mp4(root / "JPEGImages/clip.mp4", map(trees.colour, true))
    (video,) = videos_of(root, "FOLDER", "val")
    return video


def both_ways(video: Video, model: torch.nn.Module | None = None, **settings: object) -> list[Prediction]:
    """Segment a video by the way that test.py takes with `backward True`."""
    found: list[Prediction] = []
    segmenter = VideoSegmenter(model or Tracker(), plain_settings(SIZE, backward=True, **settings))
    evaluate_video(segmenter, VideoSink(video, lambda _, prediction: found.append(prediction)))
    return found


def test_frames_before_the_first_mask_are_filled(tmp_path: Path) -> None:
    video = write_moving(tmp_path, 8, {1: 4}, [4])
    found = both_ways(video)
    for prediction, truth in zip(found, moving(8, {1: 4}), strict=True):
        assert np.array_equal(prediction.labels, truth) and prediction.ids == (1,)
    assert [p.frame.name for p in found] == [f"{t:05d}" for t in range(8)]


def test_each_object_is_filled_up_to_its_own_first_mask(tmp_path: Path) -> None:
    """Object 5 is marked from frame 0 on, object 2 from frame 3, object 9 from frame 6."""
    first = {5: 0, 2: 3, 9: 6}
    video = write_moving(tmp_path, 8, first, range(8))
    found = both_ways(video, object_probs=True)
    for t, (prediction, truth) in enumerate(zip(found, moving(8, first), strict=True)):
        assert np.array_equal(prediction.labels, truth), t
        assert set(prediction.ids) == set(first) and len(prediction.object_probs) == 3
        assert prediction.object_probs.sum(0).max() <= 1.001
        for number, probs in zip(prediction.ids, prediction.object_probs, strict=True):
            assert probs[truth == number].min() > 0.5
    assert [frame.scored for frame in video.read()][:4] == [(), (5,), (5,), (5,)]  # nothing more than forward


def test_only_background_and_only_objects_to_come_are_filled(tmp_path: Path) -> None:
    """Four pixels. Backward, object 7 is on the first three, object 3, which has appeared, on the last."""
    frame = SourceFrame("00001", np.zeros((1, 4, 3), np.uint8))
    back_probs = np.array([[[0.9, 0.8, 0.7, 0.1]], [[0.1, 0.1, 0.1, 0.9]]], np.float32)
    _store(Prediction(frame, np.array([[7, 7, 7, 3]], np.uint8), back_probs, ids=(7, 3)), tmp_path)
    probs = np.array([[[0.6, 0.5, 0.0, 0.25]]], np.float32)
    found = _fill(Prediction(frame, np.array([[3, 0, 0, 0]], np.uint8), probs, ids=(3,)), tmp_path)
    assert found.labels.tolist() == [[3, 7, 7, 0]] and found.ids == (3, 7)
    # Object 7 has its part of what the forward prediction leaves: 0.4 * 0.9, 0.5 * 0.8, 1 * 0.7, 0.75 * 0.1.
    expected = [[[0.6, 0.5, 0.0, 0.25]], [[0.36, 0.4, 0.7, 0.075]]]
    np.testing.assert_allclose(found.object_probs, expected, atol=1e-3)
    later = Prediction(replace(frame, name="00002"), np.array([[3, 0, 0, 0]], np.uint8), probs, ids=(3,))
    assert _fill(later, tmp_path) is later  # the backward pass did not see this frame


@pytest.mark.parametrize("fails", [False, True])
def test_a_film_is_read_backward_from_files_that_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    video = write_moving(tmp_path, 8, {1: 4}, [4], film=True)
    held: list[int] = []
    model = Tracker()
    encode = model.encode

    def watched(frames: Tensor) -> object:
        held.append(len(list(scratch.rglob("*.png"))))
        if fails and len(held) == 3:
            raise UnreadableError("no more")
        return encode(frames)

    monkeypatch.setattr(model, "encode", watched)
    if fails:
        with pytest.raises(UnreadableError, match="no more"):
            both_ways(video, model)
    else:
        found = both_ways(video, model)
        for prediction, truth in zip(found, moving(8, {1: 4}), strict=True):
            assert trees.iou(prediction.labels == 1, truth == 1) > 0.6
    assert held[0] == 5 and not list(scratch.iterdir())  # frames 4 to 0, and none of the later ones


def test_nothing_is_read_backward_if_all_objects_are_there_at_the_start(tmp_path: Path) -> None:
    video = write_moving(tmp_path, 5, {1: 0, 2: 0}, range(5))
    assert list(video.read_backward(tmp_path)) == []
    forward = list(segment_video(VideoSegmenter(Tracker(), plain_settings(SIZE)), video))
    for one, other in zip(forward, both_ways(video), strict=True):
        assert np.array_equal(one.labels, other.labels) and one.ids == other.ids


def test_the_frames_come_backward_with_the_same_given_masks(tmp_path: Path) -> None:
    video = write_moving(tmp_path, 8, {1: 0, 2: 3, 3: 5}, range(8))
    forward = {frame.name: frame for frame in video.read()}
    backward = list(video.read_backward(tmp_path))
    assert [frame.name for frame in backward] == [f"{t:05d}" for t in (5, 4, 3, 2, 1, 0)]
    for frame in backward:
        same = forward[frame.name]
        assert np.array_equal(frame.image, same.image) and frame.truth is None
        assert (frame.given is None) == (same.given is None)
        assert frame.given is None or np.array_equal(frame.given, same.given)
