"""The time loop and the evaluation of a video, with networks simple enough to know the expected answers."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from dataset.build import test_videos as videos_of
from libs.app.build import inference_settings
from libs.app.config import load_config
from libs.core.errors import InputError
from libs.core.masks import Letterbox, normalise, one_hot
from libs.core.structures import Prediction, SourceFrame, Video
from libs.evaluation.evaluator import Report, VideoSink, evaluate, evaluate_video
from libs.evaluation.inference import VideoSegmenter, segment_video
from libs.evaluation.visualize import save
from libs.method.cycle import GradientCorrection
from libs.method.propagate import FrameInput, Remembered, Step, harden, impose, propagate
from models.decoder import ImageMaps
from models.stm import STM, Memory, Objects, Query
from tests.helpers import fake_datasets as trees
from tests.helpers.settings import plain_settings

SIZE = (4, 6)


class Diary(nn.Module):
    """A network that records the frames it is shown. All pixels of frame t are t.

    reads: (time of the query, {channel: times in its memory}) of every call of segment.
    """

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[tuple[int, dict[int, list[int]]]] = []
        self.memorized: dict[int, Tensor] = {}

    def encode(self, frames: Tensor) -> Query:
        return Query(frames, ImageMaps(frames, frames, frames), frames.shape[-2:])

    def memorize(self, frames: Tensor, masks: Tensor, objects: Objects) -> Memory:
        time = frames[:, 0, 0, 0][objects.clip_index].view(-1, 1, 1)
        self.memorized[int(frames[0, 0, 0, 0])] = masks
        return Memory(time, time, objects)

    def segment(self, query: Query, memories: Sequence[Memory], top_k: int = 0) -> Tensor:
        times = {
            int(k): row.flatten().int().tolist()
            for m in memories
            for k, row in zip(m.objects.channel, m.keys)
        }
        assert sum(len(m.objects) for m in memories) == len(times)  # no object twice
        self.reads.append((int(query.key[0, 0, 0, 0]), times))
        return torch.zeros(len(query.key), memories[0].objects.num_channels, *query.size)


def frame(t: int, given: Tensor | None = None, new: Sequence[int] = (), channels: int = 4) -> FrameInput:
    """Frame t; given: label map; new: objects that are first seen here."""
    masks = None if given is None else one_hot(given, channels)[None]
    appearing = Objects(torch.zeros(len(new), dtype=torch.long), torch.tensor(new), channels) if new else None
    return FrameInput(torch.full((1, 3, *SIZE), float(t)), masks, appearing)


def labels(**boxes: int) -> Tensor:
    """Label map with one pixel column per object: labels(o1=0, o2=3)."""
    found = torch.zeros(SIZE, dtype=torch.uint8)
    for name, column in boxes.items():
        found[:, column] = int(name[1:])
    return found


def video_of(length: int, **late: int) -> list[FrameInput]:
    """Object 1 from frame 0 on; object o from frame late['o<o>'] on, where its mask is given."""
    frames = [frame(0, labels(o1=0), [1])]
    for t in range(1, length):
        new = [int(name[1:]) for name, first in late.items() if first == t]
        frames.append(frame(t, labels(**{f"o{o}": o for o in new}), new) if new else frame(t))
    return frames


# ---- which frames are remembered ------------------------------------------------------------------------


@pytest.mark.parametrize("save_freq", [1, 3, 5, 100])
def test_the_memory_is_every_so_many_frames_and_the_previous_one(save_freq: int) -> None:
    model = Diary()
    list(propagate(model, video_of(14), save_freq))
    assert [t for t, _ in model.reads] == list(range(1, 14))
    for t, times in model.reads:
        assert times == {1: sorted({*range(0, t, save_freq), t - 1})}, t  # each once


def test_the_papers_rule_by_hand() -> None:
    model = Diary()
    list(propagate(model, video_of(12), 5))
    assert dict(model.reads)[3] == {1: [0, 2]}
    assert dict(model.reads)[5] == {1: [0, 4]}
    assert dict(model.reads)[6] == {1: [0, 5]}
    assert dict(model.reads)[7] == {1: [0, 5, 6]}
    assert dict(model.reads)[11] == {1: [0, 5, 10]}


def test_a_frame_with_a_given_mask_stays() -> None:
    """Otherwise an object that appears between multiples of save_freq would lose its one true mask."""
    model = Diary()
    list(propagate(model, video_of(13, o2=3, o3=7), 5))
    reads = dict(model.reads)
    assert reads[3] == {1: [0, 2]}
    assert reads[4] == {1: [0, 3], 2: [3]}
    assert reads[6] == {1: [0, 3, 5], 2: [3, 5]}
    assert reads[8] == {1: [0, 3, 5, 7], 2: [3, 5, 7], 3: [7]}
    assert reads[12] == {1: [0, 3, 5, 7, 10, 11], 2: [3, 5, 7, 10, 11], 3: [7, 10, 11]}


def test_nothing_happens_before_the_first_object() -> None:
    model = Diary()
    frames = [frame(0), frame(1, labels()), frame(2, labels(o2=1), [2]), frame(3)]
    steps = list(propagate(model, frames, 5))
    assert [step.t for step in steps] == [2, 3]  # there is no step before
    assert steps[0].logits is None and steps[1].logits is not None
    assert model.reads == [(3, {2: [2]})]


def test_frames_are_asked_for_one_at_a_time() -> None:
    asked = []

    def frames() -> Iterator[FrameInput]:
        for t, one in enumerate(video_of(5)):
            asked.append(t)
            yield one

    for step in propagate(Diary(), frames(), 5):
        assert asked[-1] == step.t  # the loop does not read ahead


# ---- which masks are remembered -------------------------------------------------------------------------


def test_given_masks_and_what_remember_says_are_memorized() -> None:
    model, asked = Diary(), []

    def remember(step: Step) -> Remembered:
        asked.append(step.t)
        return Remembered(torch.full((1, 4, *SIZE), step.t / 10))

    steps = list(propagate(model, [*video_of(4, o2=2), frame(4)], 5, remember))
    assert asked == [1, 3, 4]  # predicted frames only
    assert torch.equal(model.memorized[0], one_hot(labels(o1=0), 4)[None])
    assert torch.equal(model.memorized[1], torch.full((1, 4, *SIZE), 0.1))
    assert torch.equal(model.memorized[3], steps[3].masks) and steps[3].masks[0, 0, 0, 0] == pytest.approx(
        0.3
    )
    assert torch.equal(model.memorized[2][0, 2], (labels(o2=2) == 2).float())


def test_probabilities_are_memorized_by_default() -> None:
    model = Diary()
    steps = list(propagate(model, video_of(4), 5))
    assert torch.equal(model.memorized[1], torch.full((1, 4, *SIZE), 0.25))
    assert torch.equal(steps[3].masks, torch.full((1, 4, *SIZE), 0.25))


def test_the_reference_is_the_latest_frame_with_a_given_mask() -> None:
    steps = list(propagate(Diary(), video_of(6, o2=3), 5))
    assert [int(step.reference.query.key[0, 0, 0, 0]) for step in steps] == [0, 0, 0, 3, 3, 3]
    for step in steps:
        assert (
            set(step.reference.masks.unique().tolist()) <= {0.0, 1.0}
            and (step.reference.masks.sum(1) == 1).all()
        )
    assert torch.equal(steps[5].reference.masks[0, 2], (labels(o2=2) == 2).float())


def test_a_given_mask_adds_to_the_others() -> None:
    """The original let it replace them."""
    probs = torch.tensor([0.1, 0.7, 0.2, 0.0]).view(1, 4, 1, 1).expand(1, 4, *SIZE).contiguous()
    masks = impose(probs, one_hot(labels(o3=2), 4)[None])
    inside = labels(o3=2) == 3
    assert torch.equal(masks[0, 3], inside.float())
    assert (masks[0, :3, inside] == 0).all()
    assert torch.equal(masks[0, 1][~inside], probs[0, 1][~inside]) and torch.equal(
        masks[0, 2][~inside], probs[0, 2][~inside]
    )
    torch.testing.assert_close(masks.sum(1), torch.ones(1, *SIZE))


def test_a_given_object_is_exactly_its_pixels() -> None:
    """What was predicted of it elsewhere becomes background, not another object."""
    probs = torch.tensor([0.1, 0.3, 0.0, 0.6]).view(1, 4, 1, 1).expand(1, 4, *SIZE).contiguous()
    masks = impose(probs, one_hot(labels(o3=2), 4)[None])
    outside = labels(o3=2) == 0
    assert (masks[0, 3, outside] == 0).all()
    torch.testing.assert_close(masks[0, 0, outside], torch.full((20,), 0.7))
    torch.testing.assert_close(masks[0, 1, outside], torch.full((20,), 0.3))


def test_hardening_takes_the_likeliest_channel() -> None:
    masks = torch.rand(2, 4, *SIZE, generator=torch.Generator().manual_seed(0))
    hard = harden(masks)
    assert torch.equal(hard.argmax(1), masks.argmax(1)) and torch.equal(hard.sum(1), torch.ones(2, *SIZE))
    assert set(hard.unique().tolist()) == {0.0, 1.0}


# ---- from videos to predictions -------------------------------------------------------------------------


class Tracker(nn.Module):
    """A network that finds each object by the colour that it had in the oldest frame of its memory."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def encode(self, frames: Tensor) -> Query:
        return Query(frames, ImageMaps(frames, frames, frames), frames.shape[-2:])

    def memorize(self, frames: Tensor, masks: Tensor, objects: Objects) -> Memory:
        chosen = masks[objects.clip_index, objects.channel].unsqueeze(1)  # (O, 1, H, W)
        colours = (frames[objects.clip_index] * chosen).sum((2, 3)) / chosen.sum((2, 3)).clamp(min=1e-6)
        return Memory(colours.unsqueeze(1), colours.unsqueeze(1), objects)  # (O, 1, 3)

    def segment(self, query: Query, memories: Sequence[Memory], top_k: int = 0) -> Tensor:
        channels = torch.cat([memory.objects.channel for memory in memories]).tolist()
        assert len(channels) == len(set(channels))  # no object twice
        num_channels = max(memory.objects.num_channels for memory in memories)
        logits = torch.full((1, num_channels, *query.size), -9.0)
        logits[:, 0] = 0
        for memory in memories:
            for channel, colour in zip(memory.objects.channel, memory.keys[:, 0]):
                distance = (query.key[0] - colour.view(3, 1, 1)).square().sum(0)
                logits[0, channel] = 6 * (1.5 - distance).clamp(min=-1.5)
        return logits


def run(
    video: Video, input_size: tuple[int, int] = trees.SIZE, model: nn.Module | None = None, **settings
) -> tuple[list[Prediction], Report]:
    found = []
    report = evaluate(
        model or Tracker(), [video], plain_settings(input_size, **settings), lambda _, p: found.append(p)
    )
    return found, report


def drawn(size: tuple[int, int], ids: Sequence[int] = (1, 2), length: int = 4) -> Video:
    """A video of drawn squares. The first mask is given, all others are ground truth."""

    def read() -> Iterator[SourceFrame]:
        for t in range(length):
            image, labels = trees.scene(range(1, len(ids) + 1), t, size)
            labels = np.array((0, *ids), np.uint8)[labels]
            yield SourceFrame(f"{t:05d}", image, *((labels,) if t == 0 else (None, labels, tuple(ids))))

    return Video("drawn", length, read)


@pytest.mark.parametrize(
    "source, target",
    [
        ((48, 64), (48, 64)),
        ((60, 200), (96, 128)),
        ((200, 90), (96, 128)),
        ((101, 133), (64, 65)),
        ((48, 64), (100, 90)),
    ],
)
def test_the_letterbox_is_undone(source: tuple[int, int], target: tuple[int, int]) -> None:
    """The original's demo cropped it wrongly."""
    found, report = run(drawn(source), target)
    assert [prediction.frame.name for prediction in found] == ["00000", "00001", "00002", "00003"]
    assert np.array_equal(found[0].labels, found[0].frame.given)  # not a pixel changes
    for prediction in found[1:]:
        assert prediction.labels.shape == source and prediction.labels.dtype == np.uint8
        for label in (1, 2):
            assert (
                trees.iou(prediction.labels == label, prediction.frame.truth == label)
                > (1 if source == target else 0.87) - 1e-9
            )
    assert report.frames == 4 and report.summary.J.mean > 0.87


def test_the_network_sees_letterboxed_normalised_rgb(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = Tracker(), []
    monkeypatch.setattr(model, "encode", lambda frames: seen.append(frames) or Tracker.encode(model, frames))
    video = drawn((60, 100))
    run(video, (48, 64), model)
    expected = [normalise(Letterbox((60, 100), (48, 64)).image(frame.image)[None]) for frame in video.read()]
    assert len(seen) == 4 and all(torch.equal(found, true) for found, true in zip(seen, expected))


def test_late_objects_are_added_and_ids_come_back(tmp_path: Path) -> None:
    trees.write_video(
        tmp_path / "Youtube-VOS/valid/JPEGImages/bbb",
        tmp_path / "Youtube-VOS/valid/Annotations/bbb",
        {2: 0, 5: 3},
        frames=7,
        masked=(0, 3),
        suffix=".png",
    )
    trees.write_meta(tmp_path / "Youtube-VOS/valid", {"bbb": {"2": ["00000"], "5": ["00003"]}})
    # the mask of frame 3 marks the newcomer only: the other object must stay
    trees.save_mask(
        tmp_path / "Youtube-VOS/valid/Annotations/bbb/00003.png",
        np.where(trees.scene([2, 5], 3)[1] == 5, np.uint8(5), np.uint8(0)),
    )
    (video,) = videos_of(tmp_path, "VOS", "val")
    found, report = run(video, save_freq=2)
    assert report.unscored == ["bbb"] and not report.scores and report.summary.J is None
    for t, prediction in enumerate(found):
        path = tmp_path / "out" / f"{prediction.frame.name}.png"
        save(path, prediction, "index")
        written, truth = np.array(Image.open(path)), trees.scene([2, 5], t)[1]
        truth[(truth == 5) & (t < 3)] = 0
        assert set(np.unique(written)) == ({0, 2} if t < 3 else {0, 2, 5})
        for label in (2, 5):
            assert trees.iou(written == label, truth == label) > 0.98, (t, label)


def test_frames_before_the_first_mask_are_empty(tmp_path: Path) -> None:
    trees.folder(tmp_path, masked=(2,), frames=5)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    found, _ = run(video, object_probs=True)
    assert len(found) == 5
    assert not found[0].labels.any() and not found[1].labels.any() and found[0].labels.shape == trees.SIZE
    assert found[0].object_probs.shape == (0, *trees.SIZE)
    for t in (2, 3, 4):
        assert np.array_equal(found[t].labels, trees.scene([1, 2], t)[1])


def shifted(step: Step) -> Remembered:
    """A correction that one can see: the masks, four pixels further down."""
    return Remembered(step.masks.roll(4, 2))


@pytest.mark.parametrize("save_corrected", [True, False])
@torch.no_grad()
def test_what_is_saved_is_corrected_or_not(save_corrected: bool) -> None:
    video, settings = (
        drawn(trees.SIZE),
        plain_settings(trees.SIZE, save_corrected=save_corrected, object_probs=True),
    )
    found = list(segment_video(VideoSegmenter(Tracker(), settings, shifted), video))
    assert np.array_equal(found[0].labels, found[0].frame.given)
    for prediction in found[1:]:
        truth = prediction.frame.truth
        assert np.array_equal(prediction.labels, np.roll(truth, 4, 0) if save_corrected else truth)
        for label in (1, 2):
            assert (
                prediction.object_probs[label - 1][prediction.labels == label].min() > 0.9
            )  # the heat map shows the same


def test_probabilities_are_handed_out_only_where_asked_for() -> None:
    assert all(prediction.object_probs is None for prediction in run(drawn(trees.SIZE))[0])
    for prediction in run(drawn((60, 100)), object_probs=True)[0]:
        assert prediction.object_probs.shape == (2, 60, 100) and prediction.object_probs.dtype == np.float32
        assert prediction.object_probs.min() >= 0 and prediction.object_probs.max() <= 1
        for label in (1, 2):
            labels = prediction.frame.given if prediction.frame.truth is None else prediction.frame.truth
            assert prediction.object_probs[label - 1][labels == label].mean() > 0.8


def test_a_later_given_mask_wins_at_its_pixels() -> None:
    """At the source's resolution, and it takes what the tracker would have given to another."""
    correction = np.zeros((60, 100), np.uint8)
    cv2.ellipse(correction, (70, 34), (9, 5), 25, 0, 360, 2, -1)

    def read() -> Iterator[SourceFrame]:
        for one in drawn((60, 100)).read():
            yield replace(one, given=correction) if one.name == "00002" else one

    found, _ = run(replace(drawn((60, 100)), read=read), (48, 64))
    assert np.array_equal(found[2].labels == 2, correction == 2)
    assert trees.iou(found[2].labels == 1, found[2].frame.truth == 1) > 0.87  # the other one is still there


def test_no_more_than_one_frame_is_held() -> None:
    taken = []

    def read() -> Iterator[SourceFrame]:
        for one in drawn(trees.SIZE, length=40).read():
            taken.append(one.name)
            yield one

    video = replace(drawn(trees.SIZE), read=read)
    evaluate(
        Tracker(), [video], plain_settings(trees.SIZE), lambda _, p: taken.append(f"done {p.frame.name}")
    )
    assert [entry for entry in taken if entry.startswith("done")] == [f"done {t:05d}" for t in range(40)]
    reading, done = 0, 0  # read ahead and written behind, but never far: the video is not held
    for entry in taken:
        done += entry.startswith("done")
        reading += not entry.startswith("done")
        assert 0 <= reading - done <= 12


def test_frames_of_another_size_are_named() -> None:
    def read() -> Iterator[SourceFrame]:
        for one in drawn(trees.SIZE).read():
            yield replace(one, image=one.image[:, :-2]) if one.name == "00002" else one

    with pytest.raises(InputError, match="'drawn', frame 00002"):
        run(replace(drawn(trees.SIZE), read=read))


def test_scores_and_their_reference() -> None:
    slow, fast = drawn(trees.SIZE, length=8), replace(drawn(trees.SIZE, ids=(3, 7), length=8), name="other")
    report = evaluate(Tracker(), [slow, fast], plain_settings(trees.SIZE), score_copy=True)
    assert report.summary.J.mean == report.summary.F.mean == 1 and report.frames == 16 and not report.unscored
    assert [(o.video, o.object_id) for o in report.summary.objects] == [
        ("drawn", 1),
        ("drawn", 2),
        ("other", 3),
        ("other", 7),
    ]
    copy = report.references["copy of first mask"]
    expected = np.mean(
        [
            trees.iou(trees.scene([1, 2], t)[1] == k, trees.scene([1, 2])[1] == k)
            for t in range(1, 8)
            for k in (1, 2)
        ]
    )
    assert copy.J.mean == pytest.approx(expected)
    assert not evaluate(Tracker(), [slow], plain_settings(trees.SIZE)).references


def test_correction_runs_every_save_freq_frames_and_only_on_predictions() -> None:
    torch.manual_seed(0)
    model = STM("resnet18", keydim=8, valdim=8, decoder_dim=8).eval()
    _, report = run(drawn(trees.SIZE, length=7), (32, 48), model, save_freq=2, loop=1, correction_rate=1.0)
    assert (
        len(report.corrections) == 3
        and all(row.milliseconds > 0 for row in report.corrections)
        and "gradient correction" in report.speed()
    )
    assert all(parameter.grad is None for parameter in model.parameters())
    _, report = run(drawn(trees.SIZE, length=3), (32, 48), model, save_freq=2, loop=0)
    assert not report.corrections and "gradient correction" not in report.speed()


def test_sharper_masks_are_remembered() -> None:
    logits = torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1).expand(1, 3, *SIZE)
    step = Step(None, 3, torch.zeros(1, 3, *SIZE), Objects.of([2]), logits, logits.softmax(1), None)
    for sharpness in (1.0, 3.0):
        masks = GradientCorrection(2, 0, 0.0, sharpness=sharpness)(step).masks
        assert torch.allclose(masks, (sharpness * logits).softmax(1))
    cfg = load_config(Path(__file__).resolve().parents[2] / "config.yaml", ["sharpness", "2.5"])
    assert inference_settings(cfg).correction().sharpness == 2.5


@torch.no_grad()
def test_corrected_masks_feed_the_later_frames_whatever_is_saved() -> None:
    torch.manual_seed(0)
    model = STM("resnet18", keydim=8, valdim=8, decoder_dim=8).eval()

    def probs(rate: float, save_corrected: bool) -> list[np.ndarray]:
        settings = plain_settings(
            (32, 48),
            save_freq=2,
            loop=1,
            correction_rate=rate,
            save_corrected=save_corrected,
            object_probs=True,
        )
        return [
            p.object_probs for p in segment_video(VideoSegmenter(model, settings), drawn((32, 48), length=4))
        ]

    still, before, after = probs(0.0, False), probs(50.0, False), probs(50.0, True)
    assert np.array_equal(still[2], before[2]) and not np.allclose(
        before[2], after[2], atol=1e-4
    )  # frame 2 is corrected
    assert not np.allclose(still[3], before[3], atol=1e-6) and np.array_equal(
        before[3], after[3]
    )  # frame 3 sees that


# ---- back to the first mask -----------------------------------------------------------------------------


def test_the_first_mask_is_predicted_back_from_the_last_frame() -> None:
    sink = VideoSink(drawn((48, 64)))
    report = evaluate_video(VideoSegmenter(Tracker(), plain_settings((48, 64))), sink)
    trip = sink.returned
    assert trip.frame.name == "00000" and np.array_equal(trip.labels, trip.given)
    (row,) = report.round_trips
    assert row.iou == 1 and pytest.approx(report.summary.J.mean) == row.J


def test_drift_is_seen_in_what_is_predicted_back() -> None:
    """Object 2's mask is lost on the way; half of what was given is not found again."""

    def lose(step: Step) -> Remembered:
        masks = step.masks
        return Remembered(torch.stack([masks[:, 0] + masks[:, 2], masks[:, 1], 0 * masks[:, 2]], 1))

    segmenter = VideoSegmenter(Tracker(), plain_settings((48, 64)), lose)
    list(segment_video(segmenter, drawn((48, 64))))
    trip = segmenter.round_trip()
    given, labels = trip.given, trip.labels
    assert np.array_equal(labels == 1, given == 1) and not np.array_equal(labels == 2, given == 2)


def test_the_iou_predicted_back_is_the_mean_over_the_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two objects one is not found again."""
    monkeypatch.setattr(
        VideoSegmenter,
        "round_trip",
        lambda self: replace(
            self._reference, labels=np.where(self._reference.given == 2, 0, self._reference.given)
        ),
    )
    (row,) = evaluate(Tracker(), [drawn((48, 64))], plain_settings((48, 64))).round_trips
    assert row.iou == pytest.approx(0.5)


@pytest.mark.parametrize(("every", "frames"), [(0, [5]), (2, [1, 3, 5]), (4, [3, 5]), (9, [5])])
def test_drift_over_time_has_a_row_for_every_nth_frame_and_object(every: int, frames: list[int]) -> None:
    video = drawn((48, 64), length=6)
    report = evaluate(Tracker(), [video], plain_settings((48, 64), drift_every=every))
    assert [(row.frame, row.object) for row in report.drift] == [
        (f"{t:05d}", k) for t in frames for k in (1, 2)
    ]
    assert all(row.iou == 1 for row in report.drift)  # the tracker makes no error


def test_no_frame_is_predicted_back_from_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last frame of six is one of every second."""
    way_back, calls = VideoSegmenter.round_trip, []
    monkeypatch.setattr(VideoSegmenter, "round_trip", lambda self: calls.append(1) or way_back(self))
    evaluate(Tracker(), [drawn((48, 64), length=6)], plain_settings((48, 64), drift_every=2))
    assert len(calls) == 3


def test_drift_over_time_sees_the_frame_in_which_an_object_is_lost() -> None:
    """Object 2 is lost from frame 3 on: until then its mask is predicted back, and J is high."""

    def lose(step: Step) -> Remembered:
        lost = step.masks * torch.tensor([1.0, 1.0, float(step.t < 3)])[:, None, None]
        return Remembered(lost + (1 - lost.sum(1, keepdim=True)) * torch.tensor([1.0, 0, 0])[:, None, None])

    segmenter = VideoSegmenter(Tracker(), plain_settings((48, 64), drift_every=1), lose)
    report = evaluate_video(segmenter, VideoSink(drawn((48, 64), length=6)))
    ious = {(row.frame, row.object): row.iou for row in report.drift}
    assert all(ious[f"{t:05d}", 2] > 0.9 for t in (1, 2)) and all(
        ious[f"{t:05d}", 2] < 0.1 for t in (3, 4, 5)
    )
    (scores,) = report.scores
    for row in report.drift:
        frames = scores.frames[scores.ids.index(row.object)]
        own = scores.jaccard[scores.ids.index(row.object)]
        assert (own[frames.index(row.frame)] if row.frame in frames else None) == row.J


def test_the_way_back_in_several_views() -> None:
    segmenter = VideoSegmenter(Tracker(), plain_settings((48, 64), tta_flip=True, tta_scales=(1.0, 1.5)))
    found = list(segment_video(segmenter, drawn((48, 64))))
    trip = segmenter.round_trip()
    assert trees.iou(trip.labels == 1, trip.given == 1) > 0.9
    for prediction in found[1:]:  # and forward: each view sees its own image
        assert all(trees.iou(prediction.labels == k, prediction.frame.truth == k) > 0.9 for k in (1, 2))


@pytest.mark.parametrize("length", [0, 1])
def test_there_is_no_way_back_without_a_way(length: int) -> None:
    video = drawn((48, 64), length=length)
    assert evaluate(Tracker(), [video], plain_settings(trees.SIZE)).round_trips == []


def test_a_video_that_ends_with_a_given_mask_is_not_predicted_back(tmp_path: Path) -> None:
    """Object 5 appears in the last frame, so that it is the reference itself."""
    trees.write_video(tmp_path / "JPEGImages/v", tmp_path / "Annotations/v", {4: 0, 5: 2}, frames=3)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    assert evaluate(Tracker(), [video], plain_settings(trees.SIZE)).round_trips == []
