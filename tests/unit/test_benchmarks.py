"""The protocols and scores of the benchmarks on small trees, worked out by hand.

Objects are squares of 10x10 pixels in frames of 40x60. The contour of a square is a ring of 11x11 pixels, 40
of them. F allows a distance of 1 pixel, as ceil(0.008 * sqrt(40^2 + 60^2)) = ceil(0.58) = 1. A prediction is
    exact:             J = 1,               F = 1
    5 columns too far: J = 50 / 150 = 1/3,  F = 2/5: of each ring, 7 pixels of the upper side, 7 of the lower
                                            and 2 of the near side are close to the other one, 16 of 40
    missing:           J = 0,               F = 0
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from dataset.build import test_videos as videos_of
from libs.core.masks import object_ids
from libs.core.structures import Prediction, Video
from libs.evaluation.evaluator import Report, VideoSink
from libs.evaluation.results import ResultFolder
from libs.evaluation.scores import Summary, format_table, j_and_f, overall, write_csv
from tests.helpers import fake_datasets as trees

SIZE = (40, 60)
THIRD, FIFTHS = 1 / 3, 2 / 5  # J and F of a square that is shifted by 5 columns
EXACT, SHIFTED, MISSING = 0, 5, None
approx = pytest.approx


def squares(columns: dict[int, int | None], height: int = 10) -> np.ndarray:
    """Label map with a square for each label at a column; None: it is not there."""
    labels = np.zeros(SIZE, np.uint8)
    for number, column in columns.items():
        if column is not None:
            labels[10 : 10 + height, column : column + 10] = number
    return labels


AT = {1: 2, 2: 22, 3: 42}  # column of each object
Frames = Sequence[Sequence[int]]  # of each frame: the objects that are there


def write(images: Path, masks: Path, frames: Frames, names: Sequence[str] = ()) -> None:
    """Write the frames of a video, and a mask of each."""
    for t, ids in enumerate(frames):
        name = names[t] if names else f"{t:05d}"
        labels = squares({i: AT[i] for i in ids})
        trees.save_image(images / f"{name}.jpg", trees.colour(labels))
        trees.save_mask(masks / f"{name}.png", labels)


# Of a video, a frame (by its position) and an object: how far its prediction is shifted.
Predict = Callable[[str, int, int], int | None]


def report_on(videos: Sequence[Video], predict: Predict = lambda video, t, number: EXACT) -> Report:
    """What test.py reports if the network predicts this."""
    report = Report()
    for video in videos:
        sink, ids = VideoSink(video), ()
        with sink:
            for t, frame in enumerate(video.read()):
                ids += tuple(object_ids(frame.given)) if frame.given is not None else ()
                shifts = {i: predict(video.name, t, i) for i in ids}
                labels = squares({i: None if s is None else AT[i] + s for i, s in shifts.items()})
                sink.put(Prediction(frame, labels, None, ids=ids))
        sink.finish(None)
        report = report.then(sink.report)
    return report


def scored_in(video: Video) -> dict[str, tuple[int, ...]]:
    """Name of a frame with ground truth -> the objects that are scored there."""
    return {frame.name: frame.scored for frame in video.read() if frame.truth is not None}


def rows(summary: Summary) -> dict[str, list[str]]:
    """First cells of a row of the table -> its numbers."""
    lines = [line.split() for line in format_table(summary).splitlines() if "---" not in line]
    count = len(summary.columns)
    return {" ".join(cells[:-count]): cells[-count:] for cells in lines[1:]}


# ---- DAVIS 2016 and 2017 ----


def test_davis16_by_its_list_takes_all_labels_for_one_object(tmp_path: Path) -> None:
    tree, frames = tmp_path / "DAVIS16", [(1, 2)] * 5
    write(tree / "JPEGImages/480p/dog", tree / "Annotations/480p/dog", frames)
    lines = (f"/JPEGImages/480p/dog/{t:05d}.jpg /Annotations/480p/dog/{t:05d}.png\n" for t in range(5))
    (tree / "ImageSets/480p").mkdir(parents=True)
    (tree / "ImageSets/480p/val.txt").write_text("".join(lines))
    (video,) = videos_of(tmp_path, "DAVIS16", "val")
    assert scored_in(video) == {"00001": (1,), "00002": (1,), "00003": (1,)}
    # The object is both squares, 200 pixels. Predicted is one of them: J = 100 / 200.
    summary = report_on([video]).summary
    assert [o.object_id for o in summary.objects] == [1] and summary.J.mean == approx(0.5)
    # Precision 40 / 40, recall 40 / 80: F = 2 * 1 * 0.5 / 1.5
    assert summary.F.mean == approx(2 / 3)


@pytest.mark.parametrize("resolution", ["480p", "Full-Resolution"])
def test_davis17_in_either_resolution(tmp_path: Path, resolution: str) -> None:
    tree = tmp_path / "DAVIS17"
    write(tree / "JPEGImages" / resolution / "duo", tree / "Annotations" / resolution / "duo", [(1, 2)] * 5)
    (tree / "ImageSets/2017").mkdir(parents=True)
    (tree / "ImageSets/2017/val.txt").write_text("duo\n")
    videos = videos_of(tmp_path, "DAVIS17", "val", resolution)
    # Object 1 is exact; object 2 is shifted in frame 2 of the frames 1, 2, 3.
    report = report_on(videos, lambda video, t, i: SHIFTED if (t, i) == (2, 2) else EXACT)
    J, F = (1 + (1 + THIRD + 1) / 3) / 2, (1 + (1 + FIFTHS + 1) / 3) / 2
    assert (report.summary.J.mean, report.summary.F.mean) == (approx(J), approx(F))
    assert not report.summary.groups


# ---- MOSE ----


def test_mose_is_scored_as_davis(tmp_path: Path) -> None:
    part = tmp_path / "MOSE/train"
    # Object 3 appears late and is left out. Object 2 is hidden in frame 2.
    write(part / "JPEGImages/a", part / "Annotations/a", [(1, 2), (1, 2), (1, 3), (1, 2), (1, 2)])
    write(part / "JPEGImages/short", part / "Annotations/short", [(1,)])
    videos = videos_of(tmp_path, "MOSE", "train")
    with pytest.warns(UserWarning, match="DAVIS protocol neither gives nor scores.*3 .from frame 00002"):
        report = report_on(videos)
    # Object 2 is predicted in frame 2, where it is not: 0. J = F = (1 + (1 + 0 + 1) / 3) / 2
    assert report.summary.J.mean == report.summary.F.mean == approx((1 + 2 / 3) / 2)
    assert report.unscored == ["short"]


def test_the_valid_split_of_mose_has_first_masks_only(tmp_path: Path) -> None:
    trees.mose(tmp_path)
    videos = videos_of(tmp_path, "MOSE", "val")
    assert [(video.name, video.length, video.scored) for video in videos] == [
        ("a", 4, False),
        ("b", 3, False),
    ]
    assert all(frame.submitted for video in videos for frame in video.read())


# ---- VOST ----


def vost(root: Path, frames: int = 10) -> list[Video]:
    """A video with objects 1 and 2 in all frames, and object 3 from frame 4 on."""
    tree = root / "VOST"
    there = [(1, 2, 3) if t >= 4 else (1, 2) for t in range(frames)]
    write(tree / "JPEGImages/0_cut_onion", tree / "Annotations/0_cut_onion", there)
    (tree / "ImageSets").mkdir()
    (tree / "ImageSets/val.txt").write_text("0_cut_onion\n")
    return videos_of(root, "VOST", "val")


@pytest.mark.filterwarnings("ignore:.*VOST protocol neither gives nor scores")
def test_vost_reports_j_and_j_of_the_last_quarter(tmp_path: Path) -> None:
    shifts = {(7, 1): SHIFTED, (8, 1): MISSING}
    summary = report_on(vost(tmp_path), lambda video, t, i: shifts.get((t, i), EXACT)).summary
    one, two = summary.objects  # object 3 is not in the first mask
    # Frames 1 to 8 are scored, n = 8; the last quarter starts at floor(0.75 * 8) = 6: frames 7 and 8.
    assert one.J.mean == approx((6 + THIRD + 0) / 8) and one.J_tr == approx((THIRD + 0) / 2)
    assert (two.J.mean, two.J_tr, two.F) == (1, 1, None)
    assert summary.J.mean == approx((one.J.mean + 1) / 2) and summary.J_tr == approx((1 / 6 + 1) / 2)
    assert summary.F is None and j_and_f(summary) is None and overall(summary) == summary.J.mean
    assert summary.columns == ["J mean", "J recall", "J decay", "J_tr"]
    # 0.8958, recall (6 / 8 + 1) / 2; decay: frames 1 to 3 minus frames 6 to 8, by (1 - (1 + 1/3 + 0) / 3) / 2
    assert rows(summary)["global"] == ["89.6", "87.5", "27.8", "58.3"]


@pytest.mark.parametrize(("frames", "start"), [(3, 0), (4, 1), (5, 2), (6, 3), (9, 5)])
def test_the_last_quarter_of_few_frames(tmp_path: Path, frames: int, start: int) -> None:
    """n = frames - 2, start = floor(0.75 * n)."""
    summary = report_on(vost(tmp_path, frames), lambda video, t, i: EXACT if t > start else MISSING).summary
    assert summary.J_tr == 1 and summary.J.mean == approx((frames - 2 - start) / (frames - 2))


def test_vost_drops_the_last_mask_and_counts_255_as_background(tmp_path: Path) -> None:
    tree = trees.vost(tmp_path) / "Annotations/new"
    (tree / "00005.png").unlink()
    (video,) = videos_of(tmp_path, "VOST", "val")
    assert scored_in(video) == {f"{t:05d}": (1, 2) for t in (1, 2, 3)}
    assert {i for frame in video.read() if frame.truth is not None for i in np.unique(frame.truth)} == {
        0,
        1,
        2,
    }


# ---- LVOS ----

NAMES = [f"{number:08d}" for number in range(1, 36, 5)]  # 1, 6, ..., 31


def lvos(root: Path, unseen: str | None = "rare\n") -> list[Video]:
    """Two videos of 7 frames. Object 1 from frame 1 to 31; in 'common' also object 2 from 11 to 26."""
    part = root / "LVOS/val"
    ranges = {"common": {1: (1, 31), 2: (11, 26)}, "rare": {1: (1, 31)}}
    for name, objects in ranges.items():
        numbers = [int(frame) for frame in NAMES]
        there = [[i for i, (a, b) in objects.items() if a <= n <= b] for n in numbers]
        write(part / "JPEGImages" / name, part / "Annotations" / name, there, NAMES)
    trees.write_frame_ranges(part, ranges)
    if unseen is not None:
        (root / "LVOS/unseen_videos.txt").write_text(unseen)
    return videos_of(root, "LVOS", "val")


def predict_lvos(video: str, t: int, number: int) -> int | None:
    """In 'common', object 1 is shifted in frame 11 and object 2 in frame 16; in 'rare', from frame 16 on."""
    if video == "common":
        return SHIFTED if (t, number) in {(2, 1), (3, 2)} else EXACT
    return SHIFTED if t >= 3 else EXACT


def test_lvos_scores_each_object_in_its_own_frames(tmp_path: Path) -> None:
    common, rare = lvos(tmp_path)
    # Object 1: 6, 11, ... below 31. Object 2: 16, 21, and not 26, its end; after it, it is background.
    assert scored_in(common) == dict(zip(NAMES[1:6], [(1,), (1,), (1, 2), (1, 2), (1,)]))
    assert scored_in(rare) == dict.fromkeys(NAMES[1:6], (1,))


def test_an_object_of_lvos_that_is_hidden_where_another_appears_is_scored(tmp_path: Path) -> None:
    """Its masks show all objects, unlike those of YouTube-VOS's valid: object 1 is absent in frame 11."""
    lvos(tmp_path)
    mask = tmp_path / "LVOS/val/Annotations/common/00000011.png"
    trees.save_mask(mask, squares({2: AT[2]}))
    common, _ = videos_of(tmp_path, "LVOS", "val")
    assert scored_in(common)["00000011"] == (1,)


def test_lvos_reports_seen_unseen_g_and_v(tmp_path: Path) -> None:
    summary = report_on(lvos(tmp_path), predict_lvos).summary
    first, second, rare = summary.objects
    assert [(o.video, o.object_id, o.seen) for o in summary.objects] == [
        ("common", 1, True),
        ("common", 2, True),
        ("rare", 1, False),
    ]
    # One of 5 frames is shifted. (J + F) / 2 is 1, and 11/30 there: less by d = 19/30.
    assert (first.J.mean, first.F.mean) == (approx((4 + THIRD) / 5), approx((4 + FIFTHS) / 5))
    d = 1 - (THIRD + FIFTHS) / 2
    assert approx([d * (1 / 5 * 4 / 5) ** 0.5]) == [first.V]  # of 1 frame in 5: d * sqrt(p * (1 - p))
    # Object 2 is shifted in one of its 2 frames. After its end it is predicted and not there, and not scored.
    assert (second.J.mean, second.F.mean) == (approx((THIRD + 1) / 2), approx((FIFTHS + 1) / 2))
    assert approx(d / 2) == second.V
    # 3 of 5 frames are shifted.
    assert (rare.J.mean, rare.F.mean) == (approx((2 + 3 * THIRD) / 5), approx((2 + 3 * FIFTHS) / 5))
    assert approx([d * (3 / 5 * 2 / 5) ** 0.5]) == [rare.V]
    seen, unseen, both = (summary.groups[name] for name in ("seen", "unseen", "G"))
    js, fs = (13 / 15 + 2 / 3) / 2, (0.88 + 0.7) / 2
    assert (seen.J.mean, seen.F.mean) == (approx(js), approx(fs))
    assert approx((first.V + second.V) / 2) == seen.V
    assert (unseen.J.mean, unseen.F.mean, unseen.V) == (rare.J.mean, rare.F.mean, rare.V)
    assert j_and_f(both) == approx((js + rare.J.mean + fs + rare.F.mean) / 4)
    assert approx((seen.V + rare.V) / 2) == both.V
    # Js 76.7, Fs 79.0; Ju 60.0, Fu 64.0; G = (76.7 + 79.0 + 60.0 + 64.0) / 4 = 69.9; V = (28.5 + 31.0) / 2
    table = rows(summary)
    assert [table[name][i] for name in ("seen", "unseen") for i in (0, 3)] == ["76.7", "79.0", "60.0", "64.0"]
    assert [table[name][-2:] for name in ("seen", "unseen", "G")] == [
        ["77.8", "28.5"],
        ["62.0", "31.0"],
        ["69.9", "29.8"],
    ]


def test_lvos_without_its_list_of_unseen_videos(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="unseen_videos.txt does not exist, so that seen and unseen"):
        videos = lvos(tmp_path, unseen=None)
    summary = report_on(videos, predict_lvos).summary
    assert not summary.groups and summary.columns[-1] == "V"


@pytest.mark.parametrize("split", ["val", "valid"])
@pytest.mark.parametrize("above", [False, True])
def test_the_meta_file_of_lvos_in_both_versions(tmp_path: Path, split: str, above: bool) -> None:
    tree = trees.lvos(tmp_path)
    (tree / "val").rename(tree / split)
    meta = (tree / split / "val_meta.json").rename(tree / split / f"{split}_meta.json")
    if above:
        meta.rename(tree / meta.name)
    assert [video.name for video in videos_of(tmp_path, "LVOS", "val")] == ["common", "rare"]


def test_the_test_split_of_lvos_is_not_scored(tmp_path: Path) -> None:
    """Its masks show only the objects that appear; the second one is no ground truth of object 1."""
    part = tmp_path / "LVOS/test"
    write(part / "JPEGImages/a", part / "Annotations/a", [(1,), (2,), (), ()], NAMES)
    for name in NAMES[2:4]:
        (part / f"Annotations/a/{name}.png").unlink()
    trees.write_frame_ranges(part, {"a": {1: (1, 16), 2: (6, 16)}})
    (video,) = videos_of(tmp_path, "LVOS", "test")
    assert not video.scored and scored_in(video) == {}
    assert video.describe(False).endswith("masks exist only where objects appear; not scored")


def test_what_lvos_cannot_score_is_counted(tmp_path: Path) -> None:
    lvos(tmp_path)
    (tmp_path / "LVOS/val/Annotations/rare/00000016.png").unlink()
    masks = tmp_path / "LVOS/val/Annotations/common"
    for name in NAMES[2:4]:  # object 2 is not in the masks of its first frames, 11 and 16
        trees.save_mask(masks / f"{name}.png", squares({1: AT[1]}))
    with pytest.warns(UserWarning, match=r"1 frame that val_meta.json names .* is missing: rare/00000016"):
        common, _ = videos_of(tmp_path, "LVOS", "val")
    # Of its frames 16 and 21, none is left: in 21 it is given.
    with pytest.warns(
        UserWarning, match="object 2 first shown in a later mask .*; 2 frames before it are not"
    ):
        assert scored_in(common) == dict.fromkeys(NAMES[1:6], (1,))


# ---- YouTube-VOS ----

CATEGORIES = {("old", "1"): "dog", ("old", "2"): "sloth", ("new", "1"): "dog"}


def youtube_vos(root: Path, train: bool = True, categories: bool = True) -> list[Video]:
    """A hold-out of 5 frames with all masks. old: object 1, and object 2 from frame 2 on; new: object 1."""
    tree = root / "Youtube-VOS"
    part, every = tree / "valid", [f"{t:05d}" for t in range(5)]
    write(part / "JPEGImages/old", part / "Annotations/old", [(1,), (1,), (1, 2), (1, 2), (1, 2)])
    write(part / "JPEGImages/new", part / "Annotations/new", [(1,)] * 5)
    listed = {"old": {"1": every, "2": every[2:]}, "new": {"1": every}}
    trees.write_meta(part, listed, lambda *key: CATEGORIES[key] if categories else None)
    if train:
        trees.write_meta(tree / "train", {"x": {"1": every}}, lambda *key: "dog")
    return videos_of(root, "VOS", "val")


def predict_youtube(video: str, t: int, number: int) -> int | None:
    """The dog of 'old' is shifted in frame 1 of 4; the sloth in frame 3 of the two after its first one."""
    return SHIFTED if (video, t, number) in {("old", 1, 1), ("old", 3, 2)} else EXACT


def test_youtube_vos_reports_seen_unseen_and_g(tmp_path: Path) -> None:
    summary = report_on(youtube_vos(tmp_path), predict_youtube).summary
    assert [(o.video, o.object_id, o.seen) for o in summary.objects] == [
        ("new", 1, True),
        ("old", 1, True),
        ("old", 2, False),
    ]
    seen, unseen, both = (summary.groups[name] for name in ("seen", "unseen", "G"))
    js, fs = (1 + (3 + THIRD) / 4) / 2, (1 + (3 + FIFTHS) / 4) / 2
    ju, fu = (THIRD + 1) / 2, (FIFTHS + 1) / 2
    assert (seen.J.mean, seen.F.mean) == (approx(js), approx(fs))
    assert (unseen.J.mean, unseen.F.mean) == (approx(ju), approx(fu))
    assert j_and_f(both) == approx((js + ju + fs + fu) / 4)
    # The mean over objects, in the global row, is another number.
    assert summary.J.mean == approx((2 * js + ju) / 3)
    # Js 91.7, Fs 92.5, Ju 66.7, Fu 70.0: G = 80.2
    assert rows(summary)["G"][-1] == "80.2" and list(rows(summary))[-4:] == ["global", "seen", "unseen", "G"]


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ({"train": False}, "train/meta.json does not exist, so that seen and unseen"),
        ({"categories": False}, "valid/meta.json names no category of old/1, old/2, new/1, so that seen"),
    ],
)
def test_youtube_vos_without_categories(tmp_path: Path, how: dict[str, bool], line: str) -> None:
    """The global row is left, and a warning says what is missing."""
    with pytest.warns(UserWarning, match=line):
        videos = youtube_vos(tmp_path, **how)
    assert not report_on(videos).summary.groups


def test_the_official_valid_split_asks_for_no_categories(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    trees.youtube_vos(tmp_path)
    (tmp_path / "Youtube-VOS/train/meta.json").unlink()
    (video,) = videos_of(tmp_path, "VOS", "val")
    assert video.scoring.unseen is None and not recwarn


def test_without_unseen_objects_there_is_no_g(tmp_path: Path) -> None:
    videos = youtube_vos(tmp_path)
    summary = report_on([video for video in videos if video.name == "new"]).summary
    assert rows(summary)["seen"][0] == "100.0" and rows(summary)["unseen"] == rows(summary)["G"] == ["-"] * 7


# ---- tables and records ----


def test_the_table_as_csv_has_the_same_rows(tmp_path: Path) -> None:
    summary = report_on(lvos(tmp_path), predict_lvos).summary
    write_csv(tmp_path / "scores.csv", summary)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines[0] == "video,object,J mean,J recall,J decay,F mean,F recall,F decay,J&F,V"
    assert [line.split(",")[0] for line in lines[4:]] == ["global", "seen", "unseen", "G"]
    assert float(lines[-1].split(",")[-2]) == j_and_f(summary.groups["G"])


@pytest.mark.parametrize("make", [lvos, vost, youtube_vos])
@pytest.mark.filterwarnings("ignore:.*VOST protocol neither gives nor scores")
def test_a_completion_record_keeps_what_the_benchmark_reports(
    tmp_path: Path, make: Callable[[Path], list[Video]]
) -> None:
    videos = make(tmp_path)
    for video in videos:
        folder = ResultFolder(tmp_path / "out", "same")
        folder.start([video])
        folder.finish(video, report_on([video], predict_lvos))
    again, pending = ResultFolder(tmp_path / "out", "same").resume(videos)
    assert not pending
    assert format_table(again.summary) == format_table(report_on(videos, predict_lvos).summary)


def test_a_video_is_segmented_again_if_its_division_changed(tmp_path: Path) -> None:
    first = {video.name: video.fingerprint() for video in lvos(tmp_path)}
    (tmp_path / "LVOS/unseen_videos.txt").write_text("common\nrare\n")
    second = {video.name: video.fingerprint() for video in videos_of(tmp_path, "LVOS", "val")}
    assert first["common"] != second["common"] and first["rare"] == second["rare"]
