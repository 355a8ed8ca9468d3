"""Which masks are given and which objects are scored where: by hand, on videos whose every mask is known.

Each object is a 10x10 square. A prediction that is shifted by 5 columns has J = 50 / 150 = 1/3.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dataset.build import test_videos as videos_of
from dataset.folder import single_video
from dataset.protocol import DAVIS, OWN_SET, YOUTUBE_VOS
from dataset.video import open_video
from libs.core.errors import UnreadableError
from libs.core.masks import object_ids
from libs.core.structures import Prediction, SourceFrame, Video
from libs.evaluation.evaluator import Report, VideoSink
from libs.evaluation.inference import FrameReader, VideoSegmenter, segment_video
from libs.evaluation.scores import VideoScores
from tests.helpers import fake_datasets as trees
from tests.helpers.settings import plain_settings
from tests.helpers.truth import score, split
from tests.unit.test_datasets import count_decodes, given_in, scored_in
from tests.unit.test_propagate import Tracker

SIZE = (40, 60)
THIRD = pytest.approx(1 / 3)


def mask(**columns: int) -> np.ndarray:
    """Label map with a 10x10 square from each column on: mask(o1=0, o2=30)."""
    labels = np.zeros(SIZE, np.uint8)
    for name, column in columns.items():
        labels[10:20, column : column + 10] = int(name[1:])
    return labels


def late(frames: int = 8, first: int = 3, ids: tuple[int, int] = (1, 2)) -> list[np.ndarray]:
    """Object ids[0] in all frames, object ids[1] from frame `first` on."""
    early, later = (f"o{number}" for number in ids)
    return [mask(**{early: 0}, **({later: 30} if t >= first else {})) for t in range(frames)]


def roles(frames: list[SourceFrame]) -> list[tuple[list[int], tuple[int, ...]]]:
    """Of each frame: the objects that are given, and those that are scored."""
    return [([] if f.given is None else object_ids(f.given), f.scored) for f in frames]


def J(scores: VideoScores) -> dict[int, list[float]]:
    return dict(zip(scores.ids, (values.tolist() for values in scores.jaccard), strict=True))


# ---- what is given, and what is scored ------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [OWN_SET, YOUTUBE_VOS])
def test_an_object_is_given_where_it_first_appears_and_scored_from_the_next_frame_on(protocol: str) -> None:
    frames = split(late(), protocol)
    assert roles(frames) == [([1], ()), ([], (1,)), ([], (1,)), ([2], (1,)), *[([], (1, 2))] * 4]
    assert set(np.unique(frames[3].given)) == {0, 2} and set(np.unique(frames[3].truth)) == {0, 1}


def test_davis_gives_the_first_mask_and_leaves_out_the_last_frame() -> None:
    with pytest.warns(
        UserWarning, match=r"'clip': the DAVIS protocol.* not show: 2 \(from frame 00003\); .*FOLDER"
    ):
        frames = split(late(), DAVIS)
    assert roles(frames) == [([1], ()), *[([], (1,))] * 6, ([], ())]
    assert all(set(np.unique(frame.truth)) == {0, 1} for frame in frames[1:7])


def test_sparse_masks_are_ground_truth() -> None:
    masks = [one if t in (0, 2, 5) else None for t, one in enumerate(late())]
    assert [t for t, (_, scored) in enumerate(roles(split(masks))) if scored] == [2, 5]
    assert roles(split(masks))[5] == ([2], (1,))
    assert J(score([mask(o1=0)] * 2 + [mask(o1=5)] + [mask(o1=0)] * 5, masks, OWN_SET)) == {
        1: [THIRD, 1],
        2: [],
    }


def test_empty_masks_do_not_count_as_first_ones() -> None:
    masks = [mask(), np.full(SIZE, 255, np.uint8), *late(6, 2)]
    assert [given for given, _ in roles(split(masks))] == [[], [], [1], [], [2], [], [], []]
    assert [scored for _, scored in roles(split(masks))][2:] == [(), (1,), (1,), (1, 2), (1, 2), (1, 2)]


def test_all_masks_are_given_as_they_stand() -> None:
    masks = [*late(5, 3), mask(), None]
    frames = split(masks, give_all=True)
    assert roles(frames) == [([1], ()), ([1], ()), ([1], ()), ([1, 2], ()), ([1, 2], ()), ([], ()), ([], ())]
    assert np.array_equal(frames[4].given, masks[4])


def test_a_mask_of_new_objects_alone_is_no_ground_truth_of_the_others() -> None:
    """The masks of YouTube-VOS's valid are such: object 1 is not absent in frame 2."""
    frames = split([mask(o1=0), None, mask(o2=30), mask(o1=0, o2=30)], YOUTUBE_VOS)
    assert roles(frames) == [([1], ()), ([], ()), ([2], ()), ([], (1, 2))]


def test_void_is_background_in_the_ground_truth() -> None:
    masks = [np.where(one == 0, 255, one).astype(np.uint8) for one in late()]
    frames = split(masks)
    assert roles(frames) == roles(split(late()))
    assert set(np.unique(frames[5].truth)) == {0, 1, 2}


# ---- scores by hand -------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [OWN_SET, YOUTUBE_VOS])
@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (9, 4), (3, 254)])
def test_scores_do_not_depend_on_numbers(protocol: str, ids: tuple[int, int]) -> None:
    """Object A is shifted by 5 columns in frame 2, B in frame 5; B is not there before frame 3."""
    early, later = (f"o{number}" for number in ids)
    labels = [mask(**{early: 5 if t == 2 else 0, later: 35 if t == 5 else 30}) for t in range(8)]
    found = J(score(labels, late(ids=ids), protocol))
    assert found == {ids[0]: [1, THIRD, 1, 1, 1, 1, 1], ids[1]: [1, THIRD, 1, 1]}
    assert list(found) == sorted(ids)


@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (9, 4)])
@pytest.mark.filterwarnings("ignore:.*DAVIS protocol")
def test_davis_does_not_depend_on_numbers(ids: tuple[int, int]) -> None:
    labels = [mask(**{f"o{ids[0]}": 5 if t == 2 else 0}) for t in range(8)]
    assert J(score(labels, late(ids=ids), DAVIS)) == {ids[0]: [1, THIRD, 1, 1, 1, 1]}


def test_an_object_that_vanishes_is_still_scored() -> None:
    masks = [mask(o1=0, o2=30), mask(o1=0), mask(), mask(o1=0, o2=30)]
    assert J(score([masks[0]] * 4, masks, OWN_SET)) == {1: [1, 0, 1], 2: [0, 0, 1]}
    assert J(score(masks, masks, OWN_SET)) == {1: [1, 1, 1], 2: [1, 1, 1]}  # absent, and predicted so


def report_on(labels: Sequence[np.ndarray], masks: Sequence[np.ndarray | None]) -> Report:
    """What the sink reports on these predictions, the copied masks included."""
    sink, ids = VideoSink(Video("clip", len(masks), lambda: iter(())), score_copy=True), ()
    with sink:
        for frame, predicted in zip(split(masks), labels, strict=True):
            ids += tuple(object_ids(frame.given)) if frame.given is not None else ()
            sink.put(Prediction(frame, predicted, None, ids=ids))
    sink.finish(None)
    return sink.report


def test_late_objects_in_the_report() -> None:
    masks = [mask(o1=0), mask(o1=5), mask(o1=5, o2=30), mask(o1=0, o2=35)]
    report = report_on([mask(o1=0)] * 3 + [mask(o1=0, o2=35)], masks)
    (scores,), (copies,) = report.scores, report.copies
    assert J(scores) == {1: [THIRD, THIRD, 1], 2: [1]}
    assert J(copies) == {1: [THIRD, THIRD, 1], 2: [THIRD]}  # copied from frame 2, where it appears
    assert report.summary.J.mean == pytest.approx(((1 / 3 + 1 / 3 + 1) / 3 + 1) / 2)  # mean over objects
    assert not report.unscored


def test_an_object_given_in_the_last_mask_has_no_score() -> None:
    report = report_on([mask(o1=0)] * 3, [mask(o1=0), mask(o1=0), mask(o1=0, o2=30)])
    assert [(o.object_id, o.J is None) for o in report.summary.objects] == [(1, False), (2, True)]
    assert report.summary.J.mean == 1
    assert report_on([mask(o1=0)] * 2, [mask(o1=0), None]).unscored == ["clip"]


# ---- videos on disk -------------------------------------------------------------------------------------


def write(root: Path, masks: Sequence[np.ndarray | None], valset: str = "FOLDER") -> Video:
    """Write a video in the layout of a data set, and open it."""
    where = {
        "FOLDER": (root / "JPEGImages/clip", root / "Annotations/clip"),
        "DAVIS17": (root / "DAVIS17/JPEGImages/480p/clip", root / "DAVIS17/Annotations/480p/clip"),
        "VOS": (root / "Youtube-VOS/train/JPEGImages/clip", root / "Youtube-VOS/train/Annotations/clip"),
    }[valset]
    for t, labels in enumerate(masks):
        trees.save_image(where[0] / f"{t:05d}.png", trees.colour(mask() if labels is None else labels))
        if labels is not None:
            trees.save_mask(where[1] / f"{t:05d}.png", labels)
    trees.write_db_info(root / "DAVIS17", [("clip", "train", 2017)])
    (root / "Youtube-VOS/train").mkdir(parents=True, exist_ok=True)
    ids = sorted({i for labels in masks if labels is not None for i in object_ids(labels)})
    frames = {str(i): [f"{t:05d}" for t, m in enumerate(masks) if m is not None and i in m] for i in ids}
    trees.write_meta(root / "Youtube-VOS/train", {"clip": frames})
    (video,) = videos_of(root, valset, "train")
    return video


@pytest.mark.parametrize("ids", [(1, 2), (2, 1)])
@pytest.mark.parametrize("valset", ["FOLDER", "VOS"])
def test_a_late_object_on_disk(tmp_path: Path, valset: str, ids: tuple[int, int]) -> None:
    video = write(tmp_path, late(6, 3, ids), valset)
    both = tuple(ids)
    assert given_in(video) == [0, 3]
    assert scored_in(video) == {1: ids[:1], 2: ids[:1], 3: ids[:1], 4: both, 5: both}


def test_objects_of_meta_json_that_no_mask_shows_are_warned_of(tmp_path: Path) -> None:
    video = write(tmp_path, late(), "VOS")
    trees.write_meta(tmp_path / "Youtube-VOS/train", {"clip": {str(i): ["00000"] for i in (1, 2, 7)}})
    (video,) = videos_of(tmp_path, "VOS", "train")
    with pytest.warns(UserWarning, match="'clip': no mask shows object 7 of meta.json"):
        list(video.read())


def test_the_fingerprint_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, decoded = write(tmp_path, late()), count_decodes(monkeypatch)
    assert video.fingerprint() and decoded == []


# ---- lines at the start ---------------------------------------------------------------------------------

A, B, NONE = {"o1": 0}, {"o1": 0, "o2": 30}, {}
LINES: dict[str, tuple[str, list[dict[str, int] | None], dict[str, object], str]] = {
    "DAVIS": (
        "DAVIS17",
        [B] * 9,
        {},
        "DAVIS protocol; objects 1, 2 given in frame 00000; scored in 7 frames, 00001 to 00007",
    ),
    "DAVIS, one scored frame": (
        "DAVIS17",
        [A] * 3,
        {},
        "DAVIS protocol; object 1 given in frame 00000; scored in frame 00001",
    ),
    "DAVIS, two frames": (
        "DAVIS17",
        [A, A],
        {},
        "DAVIS protocol; object 1 given in frame 00000; there is no mask between the first and the last "
        "frame; not scored",
    ),
    "DAVIS, one mask": (
        "DAVIS17",
        [A, None, None],
        {},
        "DAVIS protocol; object 1 given in frame 00000; only the given mask exists; not scored",
    ),
    "YouTube-VOS": (
        "VOS",
        [A, A, B],
        {},
        "YouTube-VOS protocol; object 1 given in frame 00000; the 2 later masks are ground truth, except "
        "where an object first appears: there it is given",
    ),
    "own set": (
        "FOLDER",
        [A, None, B],
        {},
        "own set; object 1 given in frame 00000; the later mask is ground truth, except where an object "
        "first appears: there it is given",
    ),
    "one mask": (
        "FOLDER",
        [A, None],
        {},
        "own set; object 1 given in frame 00000; only the given mask exists; not scored",
    ),
    "all": (
        "FOLDER",
        [A, None, B, B],
        {"all": True},
        "own set; all 3 masks are given; nothing is scored (given_masks all)",
    ),
    "all of one": (
        "FOLDER",
        [A, None],
        {"all": True},
        "own set; the only mask is given; nothing is scored (given_masks all)",
    ),
    "late": (
        "FOLDER",
        [None] * 4 + [A, None],
        {},
        "own set; object 1 given in frame 00004; only the given mask exists; not scored; starts at frame "
        "00004; the 4 frames before it are left as background (backward True fills them)",
    ),
    "late, backward": (
        "FOLDER",
        [None, A],
        {"backward": True},
        "own set; object 1 given in frame 00001; only the given mask exists; not scored; starts at frame "
        "00001; the frame before it is filled backward",
    ),
    "empty first": (
        "FOLDER",
        [NONE, NONE, A, A],
        {},
        "own set; object 1 given in frame 00002; the later mask is ground truth, except where an object "
        "first appears: there it is given; starts at frame 00002 (2 earlier masks show no object); the 2 "
        "frames before it are left as background (backward True fills them)",
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_the_line_of_a_video(tmp_path: Path, name: str) -> None:
    valset, masks, how, line = LINES[name]
    video = write(tmp_path, [None if one is None else mask(**one) for one in masks], valset)
    if how.get("all"):
        index = single_video(tmp_path / "JPEGImages/clip", tmp_path / "Annotations/clip")
        video = open_video(index, "all")
    assert video.describe(bool(how.get("backward"))) == f"video 'clip': {line}"


def test_twelve_objects_are_named_in_part(tmp_path: Path) -> None:
    many = {f"o{i}": 4 * i for i in range(1, 13)}
    assert "objects 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 and 2 more given" in write(
        tmp_path, [mask(**many)] * 3
    ).describe(False)


APPEARING: dict[str, tuple[list[dict[str, int] | None], str, list[str]]] = {
    "one": ([A, A, A, B, B], "first", ["object 2 appears in frame 00003: given there, scored from 00004 on"]),
    "in the last mask": (
        [A, A, B, None],
        "first",
        ["object 2 appears in frame 00002: given there, and not scored, as no later mask exists"],
    ),
    "alone in its mask": (
        [A, None, {"o2": 30}, B],
        "first",
        [
            "object 2 appears in frame 00002: given there, scored from 00003 on; its mask shows no earlier "
            "object, and none is scored in it"
        ],
    ),
    "two at once": (
        [A, {**B, "o3": 45}, B],
        "first",
        ["objects 2, 3 appear in frame 00001: given there, scored from 00002 on"],
    ),
    "all given": ([A, B, B], "all", ["object 2 appears in frame 00001: given there"]),
    "none": ([B, A, B], "first", []),
}


@pytest.mark.parametrize("name", APPEARING)
def test_the_line_of_a_late_object(tmp_path: Path, name: str) -> None:
    masks, given_masks, lines = APPEARING[name]
    write(tmp_path, [None if one is None else mask(**one) for one in masks])
    printed: list[str] = []
    index = single_video(tmp_path / "JPEGImages/clip", tmp_path / "Annotations/clip")
    list(open_video(index, given_masks, printed.append).read())
    assert printed == [f"video 'clip': {line}" for line in lines]


# ---- masks are read when their frames come --------------------------------------------------------------


@pytest.mark.parametrize("given_masks", ["first", "all"])
def test_no_mask_is_read_long_before_its_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given_masks: str
) -> None:
    """Of 60 masks only those of the frames that are read ahead are decoded before the first prediction."""
    write(tmp_path, late(60))
    index = single_video(tmp_path / "JPEGImages/clip", tmp_path / "Annotations/clip")
    decoded = count_decodes(monkeypatch)
    video = open_video(index, given_masks)
    assert set(decoded) == {"00000"}
    predictions = segment_video(VideoSegmenter(Tracker(), plain_settings(SIZE)), video)
    next(predictions)
    assert len(set(decoded)) <= 8
    predictions.close()


# ---- channels of the network ----------------------------------------------------------------------------


def channels(frames: Sequence[np.ndarray | None]) -> list[tuple[tuple[int, ...], list[int], int]]:
    """Of each frame: the ids so far, the channels that appear, and K."""
    reader = FrameReader("clip", plain_settings(SIZE).views)
    image, found = np.zeros((*SIZE, 3), np.uint8), []
    for given in frames:
        read = reader.read(SourceFrame("", image, given))
        appearing = read.inputs[0].appearing
        found.append(
            (
                read.ids,
                [] if appearing is None else appearing.channel.tolist(),
                0 if read.inputs[0].given is None else read.inputs[0].given.shape[1],
            )
        )
    return found


def test_channels_are_given_in_the_order_of_appearance() -> None:
    assert channels([mask(o9=0, o4=20), None, mask(o2=40), mask(o4=0)]) == [
        ((4, 9), [1, 2], 3),
        ((4, 9), [], 0),
        ((4, 9, 2), [3], 4),
        ((4, 9, 2), [], 4),  # given again: not new
    ]


@pytest.mark.parametrize("ids", [(1, 2), (2, 1), (200, 3)])
def test_predictions_have_the_data_sets_ids(tmp_path: Path, ids: tuple[int, int]) -> None:
    settings = plain_settings(SIZE, object_probs=True)
    masks = late(6, 3, ids)
    found = list(segment_video(VideoSegmenter(Tracker(), settings), write(tmp_path, masks)))
    assert [p.ids for p in found] == [ids[:1]] * 3 + [ids] * 3
    for t, prediction in enumerate(found):
        assert np.array_equal(prediction.labels, masks[t])
        for number, probs in zip(prediction.ids, prediction.object_probs, strict=True):
            assert (probs > 0.5).tolist() == (masks[t] == number).tolist() or t in (0, 3)


# ---- the demo's mask ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "position"), [("00004", 4), ("00000", 0), ("drawn", 0), ("99999", 0)])
def test_a_mask_is_for_the_frame_whose_name_it_bears(tmp_path: Path, name: str, position: int) -> None:
    trees.folder(tmp_path, frames=6)
    path = tmp_path / f"elsewhere/{name}.png"
    trees.save_mask(path, trees.scene([1, 2], position)[1])
    assert given_in(open_video(single_video(tmp_path / "JPEGImages/mine", path))) == [position]


@pytest.mark.parametrize(("name", "position"), [("00004", 4), ("4", 4), ("drawn", 0)])
def test_a_mask_is_for_the_frame_of_a_film_whose_number_it_bears(
    tmp_path: Path, name: str, position: int
) -> None:
    trees.write_mp4(tmp_path / "film.mp4", (trees.scene([1, 2], t)[0] for t in range(6)))
    trees.save_mask(tmp_path / f"{name}.png", trees.scene([1, 2], position)[1])
    assert given_in(open_video(single_video(tmp_path / "film.mp4", tmp_path / f"{name}.png"))) == [position]


def test_a_mask_after_the_end_of_a_film_is_refused(tmp_path: Path) -> None:
    trees.write_mp4(tmp_path / "film.mp4", (trees.scene([1, 2], t)[0] for t in range(6)))
    trees.save_mask(tmp_path / "2024.png", trees.scene([1, 2])[1])
    video = open_video(single_video(tmp_path / "film.mp4", tmp_path / "2024.png"))
    with pytest.raises(UnreadableError, match=r"film.mp4 ends at frame 5: its first mask.*2024.png"):
        list(video.read())
