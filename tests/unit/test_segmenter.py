"""The Python interface: the same labels as test.py, objects that come and go, and what is refused."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import libs
from dataset.build import test_videos as videos_of
from libs.app.segmenter import Segmenter
from libs.core.errors import InputError
from libs.core.structures import Video
from libs.evaluation.inference import VideoSegmenter, segment_video
from models.stm import STM
from tests.helpers import fake_datasets
from tests.helpers.settings import plain_settings
from tests.unit.test_propagate import Tracker

SIZE = (48, 64)


def scene(t: int, ids: tuple[int, ...] = (1, 2)) -> tuple[np.ndarray, np.ndarray]:
    return fake_datasets.scene(ids, t, SIZE)


def small_network() -> STM:
    torch.manual_seed(0)
    model = STM("resnet18", 8, 8, decoder_dim=8)
    model.init_memory_encoder_from_query()
    return model.eval()


def test_the_package_exports_it() -> None:
    assert libs.Segmenter is Segmenter
    with pytest.raises(AttributeError, match="no attribute 'Segment'"):
        libs.Segment  # noqa: B018


@pytest.mark.parametrize("correct", [False, True])
def test_its_labels_are_those_of_test_py(tmp_path: Path, correct: bool) -> None:
    """Ids with gaps, with and without gradient correction, to the last pixel."""
    fake_datasets.folder(tmp_path, objects=(3, 7, 20), frames=12)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    assert both_ways(small_network(), video, correct) == (3, 7, 20)


def test_late_objects_are_those_of_test_py(tmp_path: Path) -> None:
    """The network sees fewer channels before object 7 appears, and its channel comes last."""
    root = tmp_path / "JPEGImages/mine", tmp_path / "Annotations/mine"
    fake_datasets.write_video(*root, {3: 0, 20: 0, 7: 4}, frames=12, masked=(0, 4), size=SIZE, suffix=".png")
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    assert both_ways(Tracker(), video, False) == (3, 7, 20)


@pytest.mark.parametrize(
    "memory",
    [
        {"memory_frames": 3},
        {"memory_frames": 3, "memory_rule": "surprise"},
        {"memory_rule": "first_last"},
        {"memory_rule": "last"},
        {"top_k": 3},
    ],
    ids=str,
)
def test_with_each_memory_its_labels_are_those_of_test_py(tmp_path: Path, memory: dict[str, Any]) -> None:
    fake_datasets.folder(tmp_path, objects=(3, 7), frames=21)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    assert both_ways(small_network(), video, False, **memory) == (3, 7)


def both_ways(model: torch.nn.Module, video: Video, correct: bool, **memory: Any) -> tuple[int, ...]:
    """Compare the labels of test.py's loop and of the segmenter; the ids that were tracked."""
    settings = plain_settings(SIZE, max_size=64, loop=10 if correct else 0, save_corrected=correct, **memory)
    expected = [p.labels for p in segment_video(VideoSegmenter(model, settings), video)]
    segmenter = Segmenter(model, correct=correct, max_size=64, **{"memory_frames": 0, **memory})
    for frame, labels in zip(video.read(), expected, strict=True):
        assert np.array_equal(segmenter.step(frame.image, frame.given), labels)
    assert len({labels.tobytes() for labels in expected}) > 6  # something moves
    return segmenter.ids


@pytest.mark.parametrize("correct", [False, True])
def test_a_copy_goes_on_from_the_same_frame_and_alone(correct: bool) -> None:
    """The labels are those of a segmenter that was never copied, also after the other has gone elsewhere."""
    segmenter = Segmenter(small_network(), correct=correct, memory_frames=3, max_size=64)
    labels, copies = [segmenter.step(*scene(0))], []
    for t in range(1, 21):
        copies.append(segmenter.copy())
        labels.append(segmenter.step(scene(t)[0]))
    assert len({x.tobytes() for x in labels}) > 6  # something moves
    for start in (1, 6, 13):
        copy = copies[start - 1]
        other = copy.copy()
        other.remove(1)
        other.step(*scene(0))
        for t in range(start, 21):
            assert np.array_equal(copy.step(scene(t)[0]), labels[t]), (start, t)
        assert copy.model is segmenter.model and copy.ids == (1, 2)
        assert copy.drift() == segmenter.drift()


def test_objects_are_tracked_under_the_callers_ids() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    assert not segmenter.step(scene(0)[0]).any()  # nothing is marked yet
    image, labels = scene(1)
    assert np.array_equal(segmenter.step(image, labels * 100), labels * 100)  # ids 100 and 200
    image, labels = scene(2)
    assert np.array_equal(segmenter.step(image), labels * 100) and segmenter.ids == (100, 200)


def test_a_later_mask_adds_an_object_and_replaces_those_that_it_names() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    image, labels = scene(0, (1, 2))
    segmenter.step(image, np.where(labels == 1, 5, 0))
    image, labels = scene(1, (1, 2))
    found = segmenter.step(image, np.where(labels == 2, 9, 0))
    assert np.array_equal(found, np.where(labels == 1, 5, np.where(labels == 2, 9, 0)))
    image, labels = scene(2, (1, 2))
    moved = np.zeros(SIZE, np.uint8)
    moved[40:, 50:] = 5
    found = segmenter.step(image, moved)
    assert np.array_equal(found == 5, moved == 5) and np.array_equal(found == 9, labels == 2)


def test_an_object_that_was_removed_is_gone_and_may_come_back() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    image, labels = scene(0)
    segmenter.step(image, labels)
    segmenter.step(scene(1)[0])
    segmenter.remove(2)
    image, labels = scene(2)
    assert segmenter.ids == (1,) and np.array_equal(segmenter.step(image), np.where(labels == 1, 1, 0))
    with pytest.raises(InputError, match="object 2: expected one of \\[1\\]"):
        segmenter.remove(2)
    image, labels = scene(3)
    segmenter.step(image, np.where(labels == 2, 2, 0))
    image, labels = scene(4)
    assert np.array_equal(segmenter.step(image), labels) and segmenter.ids == (1, 2)


def test_without_objects_it_waits_for_the_next_mask() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    segmenter.step(*scene(0))
    segmenter.remove(1)
    segmenter.remove(2)
    assert not segmenter.step(scene(1)[0]).any() and segmenter.drift() == {}
    image, labels = scene(2)
    segmenter.step(image, labels)
    assert np.array_equal(segmenter.step(scene(3)[0]), scene(3)[1])


def test_a_reset_starts_a_new_video_of_another_size() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    segmenter.step(*scene(0))
    with pytest.raises(InputError, match="expected the size of the first frame, 64x48, found 60x40"):
        segmenter.step(np.zeros((40, 60, 3), np.uint8))
    segmenter.reset()
    assert segmenter.ids == () and not segmenter.step(np.zeros((40, 60, 3), np.uint8)).any()


def test_drift_is_the_iou_of_each_object_predicted_back() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    segmenter.step(*scene(0))
    assert segmenter.drift() == {}  # the newest frame is the reference itself
    segmenter.step(scene(1)[0])
    assert segmenter.drift() == {1: 1.0, 2: 1.0}
    image, labels = scene(2)
    image[labels == 2] = image[labels == 1][0]  # object 2 turns into a second object 1
    segmenter.step(image)
    assert segmenter.drift()[2] < 0.5
    segmenter.remove(2)
    assert list(segmenter.drift()) == [1]


def test_probabilities_come_if_asked_for() -> None:
    with pytest.raises(InputError, match="probabilities=True"):
        Segmenter(Tracker(), max_size=64).probabilities()
    segmenter = Segmenter(Tracker(), max_size=64, probabilities=True)
    assert segmenter.probabilities() == {}
    segmenter.step(*scene(0, (4, 7)))
    labels = segmenter.step(scene(1, (4, 7))[0])
    for number, probs in segmenter.probabilities().items():
        assert probs.shape == SIZE and probs.dtype == np.float32 and number in (4, 7)
        assert probs[labels == number].min() > 0.5 > probs[labels != number].max()


def test_probabilities_of_corrected_masks_lie_within_0_and_1() -> None:
    """Correction moves the values of a mask beyond."""
    segmenter = Segmenter(Tracker(), max_size=64, probabilities=True)
    average = segmenter._segmenter._average
    segmenter._segmenter._average = lambda masks, size: 3 * average(masks, size) - 1
    segmenter.step(*scene(0))
    segmenter.step(scene(1)[0])
    values = np.stack(list(segmenter.probabilities().values()))
    assert (values.min(), values.max()) == (0, 1)


@pytest.mark.parametrize(
    "image, mask, line",
    [
        (np.zeros((48, 64), np.uint8), None, "image: expected an array"),
        (np.zeros((48, 64, 3), np.float32), None, "float32"),
        (torch.zeros(48, 64, 3), None, "found Tensor"),
        (np.zeros((48, 64, 3), np.uint8), np.zeros((48, 60), np.uint8), "mask: expected the size"),
        (
            np.zeros((48, 64, 3), np.uint8),
            np.zeros((48, 64, 3), np.uint8),
            r"mask: expected \(H, W\) integers",
        ),
        (np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.float32), "float32"),
        (np.zeros((48, 64, 3), np.uint8), np.full((48, 64), 300), "from 0 to 254, found 300"),
        (np.zeros((48, 64, 3), np.uint8), np.full((48, 64), -1), "found -1"),
        (np.zeros((48, 64, 3), np.uint8), [[0, 1], [0, 1]], "mask: expected the size"),
    ],
)
def test_wrong_input_is_told_in_one_line(image: np.ndarray, mask: np.ndarray | None, line: str) -> None:
    with pytest.raises(InputError, match=line) as error:
        Segmenter(Tracker()).step(image, mask)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "memory, line",
    [
        ({"memory_rule": "newest"}, "key 'memory_rule': expected one of auto, all, even, last, first_last"),
        ({"memory_rule": "all"}, "key 'memory_rule': all drops no frame, but memory_frames 20"),
        ({"memory_rule": "surprise", "memory_frames": 0}, "key 'memory_rule': surprise drops frames"),
        ({"memory_frames": 2}, "key 'memory_frames': expected 0 or a whole number of at least 3, found 2"),
        ({"top_k": -1}, "key 'top_k': expected a whole number of at least 0, found -1"),
        ({"max_size": 0}, "max_size: expected at least 32 pixels, found 0"),
    ],
    ids=str,
)
def test_a_memory_that_cannot_be_is_refused(memory: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        Segmenter(Tracker(), **memory)


def test_void_is_background() -> None:
    segmenter = Segmenter(Tracker(), max_size=64)
    image, labels = scene(0, (1,))
    found = segmenter.step(image, np.where(labels == 0, 255, labels))
    assert np.array_equal(found, labels) and segmenter.ids == (1,)


def test_loading_by_name_and_what_is_refused(tmp_path: Path) -> None:
    segmenter = Segmenter.load("shipped", device="cpu", precision="off", max_size=64)
    assert segmenter.step(*scene(0)).shape == SIZE
    with pytest.raises(InputError, match="precision: expected one of auto, off, bf16, fp16"):
        Segmenter.load("shipped", precision="half")
    with pytest.raises(InputError, match="nowhere.pth does not exist"):
        Segmenter.load(str(tmp_path / "nowhere.pth"))


def test_an_object_of_a_few_pixels_is_warned_of() -> None:
    image, mask = np.full((480, 640, 3), 90, np.uint8), np.zeros((480, 640), np.uint8)
    mask[100:103, 100:103], mask[200:300, 200:300] = 1, 2
    with pytest.warns(
        UserWarning,
        match="1 of 2 new objects have only [0-5] pixels at the network's input of 64x48.*max_size",
    ):
        Segmenter(Tracker(), max_size=64).step(image, mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Segmenter(Tracker(), max_size=640).step(image, mask)
