"""Data sets on disk -> videos: the layouts of the real sets, your own sets, video files, damaged files."""

import warnings
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dataset import annotations, registry
from dataset.build import build_loader, training_sets
from dataset.build import test_videos as videos_of
from dataset.davis import davis17
from dataset.folder import folder, index_video, list_images, single_video
from dataset.loader import PilLoader
from dataset.masks import style as mask_style
from dataset.registry import REGISTRY, DataSet, find, recorded_videos
from dataset.sampling import ClipSettings
from dataset.video import open_video
from dataset.youtube_vos import youtube_vos
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import object_ids
from libs.core.structures import SourceFrame, Video, VideoIndex
from libs.method.objective import Batch, training_losses
from models.stm import STM
from tests.helpers import fake_datasets as trees

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real frames at ../shared/data are not here")


def frames_of(video: Video) -> list[SourceFrame]:
    frames = list(video.read())
    assert all(frame.image.shape[:2] == trees.SIZE and frame.image.dtype == np.uint8 for frame in frames)
    return frames


def ids_of(video: Video) -> tuple[int, ...]:
    """Ids of the objects whose masks are given."""
    return tuple(
        sorted({i for frame in video.read() if frame.given is not None for i in object_ids(frame.given)})
    )


def given_in(video: Video) -> list[int]:
    """Positions of the frames with given masks."""
    return [t for t, frame in enumerate(video.read()) if frame.given is not None]


def scored_in(video: Video) -> dict[int, tuple[int, ...]]:
    """Position of a frame with ground truth -> the objects that are scored there."""
    return {t: frame.scored for t, frame in enumerate(video.read()) if frame.truth is not None}


def names(videos: list[VideoIndex] | list[Video]) -> list[str]:
    return [video.name for video in videos]


def refused(action, *arguments) -> str:
    """The one line with which something is refused."""
    with pytest.raises(InputError) as error:
        found = action(*arguments)
        for video in found:
            list(video.read())
    message = str(error.value)
    assert message and "\n" not in message
    return message


# ---- DAVIS ----


def test_davis16_is_one_object_whatever_the_masks_mode(tmp_path: Path) -> None:
    trees.davis16(tmp_path)
    (video,) = videos_of(tmp_path, "DAVIS16", "val")
    assert (video.name, ids_of(video), video.length) == ("dog", (1,), 4)  # not the cat of 2017
    assert given_in(video) == [0] and scored_in(video) == {1: (1,), 2: (1,)} and video.scored
    for t, frame in enumerate(frames_of(video)[:3]):
        expected = trees.scene([255], t)[1] > 0
        assert frame.name == f"{t:05d}" and expected.any()
        # Frame 1 is the LA one.
        assert np.array_equal(frame.given if t == 0 else frame.truth, expected.astype(np.uint8))
    assert names(registry.find("DAVIS16").index(tmp_path, "train")) == ["bear"]


def test_davis16_also_by_its_lists(tmp_path: Path) -> None:
    tree = trees.davis16(tmp_path)
    (tree / "data/db_info.yaml").unlink()
    (tree / "ImageSets/2016").mkdir(parents=True)
    (tree / "ImageSets/2016/val.txt").write_text("dog\ncat\n")
    assert names(videos_of(tmp_path, "DAVIS16", "val")) == ["dog", "cat"]


@pytest.mark.parametrize("lists", ["db_info", "ImageSets"])
def test_davis17(tmp_path: Path, lists: str) -> None:
    trees.davis17(tmp_path, lists)
    (duo,) = videos_of(tmp_path, "DAVIS17", "val")
    assert (duo.name, ids_of(duo), duo.scored) == ("duo", (1, 2), True)
    assert scored_in(duo) == {1: (1, 2), 2: (1, 2)}
    for t, frame in enumerate(frames_of(duo)):
        labels = trees.scene([1, 2], t)[1]
        assert frame.truth is None if t in (0, 3) else np.array_equal(frame.truth, labels)
        for label in (1, 2):  # RGB, not BGR; the right frame
            assert trees.iou(trees.decode(frame.image, [1, 2]) == label, labels == label) > 0.9
    assert names(videos_of(tmp_path, "DAVIS17", "train")) == ["pair", "trio"]
    (dev,) = videos_of(tmp_path, "DAVIS17", "test-dev")
    assert (dev.name, ids_of(dev), dev.scored) == ("dev", (1, 2, 3), False)
    assert [frame.given is not None for frame in dev.read()] == [True, False, False, False]
    assert all(frame.truth is None for frame in dev.read())


def test_void_is_background(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path)
    mask = tree / "Annotations/480p/duo/00000.png"
    labels = np.array(Image.open(mask))
    labels[:5] = 255
    trees.save_mask(mask, labels)
    (video,) = videos_of(tmp_path, "DAVIS17", "val")
    assert ids_of(video) == (1, 2)
    assert not next(video.read()).given[:5].any()


def test_davis_without_lists_or_with_none_of_the_split(tmp_path: Path) -> None:
    tree = trees.davis16(tmp_path)
    message = refused(videos_of, tmp_path, "DAVIS16", "test-dev")
    assert str(tree) in message and "'test-dev'" in message
    (tree / "data/db_info.yaml").unlink()
    message = refused(videos_of, tmp_path, "DAVIS16", "val")
    assert "data/db_info.yaml" in message and "ImageSets/2016/val.txt" in message
    assert str(tmp_path / "DAVIS17") in refused(videos_of, tmp_path, "DAVIS17", "val")  # not there at all


@pytest.mark.parametrize(
    "text",
    ["[not closed", "sequences: 3", "- a", "sequences:\n- {set: val}\n", "sequences: [dog]", b"\xff\xfe\x00"],
)
def test_a_damaged_db_info_is_named(tmp_path: Path, text: str | bytes) -> None:
    info = trees.davis16(tmp_path) / "data/db_info.yaml"
    info.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert str(info) in refused(videos_of, tmp_path, "DAVIS16", "val")


def test_yaml_of_a_data_set_runs_no_code(tmp_path: Path) -> None:
    info = trees.davis16(tmp_path) / "data/db_info.yaml"
    info.write_text(f'sequences: !!python/object/apply:os.mkdir ["{tmp_path / "mark"}"]\n')
    assert str(info) in refused(videos_of, tmp_path, "DAVIS16", "val")
    assert not (tmp_path / "mark").exists()


# ---- YouTube-VOS ----


def test_youtube_vos_train_can_be_trained_on(tmp_path: Path) -> None:
    trees.youtube_vos(tmp_path)
    (one,) = training_sets(tmp_path, ["VOS"], [3])
    assert (one.name, one.freq, one.skip_step, names(one.videos)) == ("VOS", 3, 1, ["aaa"])
    assert sorted(one.videos[0].masks) == [0, 1, 2, 3]


def test_youtube_vos_valid_has_gaps_and_late_objects(tmp_path: Path) -> None:
    trees.youtube_vos(tmp_path)
    (video,) = videos_of(tmp_path, "VOS", "val")
    assert (video.name, ids_of(video), video.length) == ("bbb", (2, 5), 7)
    frames = frames_of(video)
    assert len(frames) == 7 and given_in(video) == [
        0,
        3,
    ]  # all frames, those that meta.json does not list too
    assert [t for t, frame in enumerate(frames) if frame.submitted] == [0, 3, 6]
    for t, number in ((0, 2), (3, 5)):  # each object where it first appears, and there only
        truth = trees.scene([2, 5], t)[1]
        assert np.array_equal(frames[t].given, np.where(truth == number, number, 0))
    assert scored_in(video) == {3: (2,)}


def test_other_sets_submit_every_frame(tmp_path: Path) -> None:
    trees.davis17(tmp_path)
    assert all(frame.submitted for frame in videos_of(tmp_path, "DAVIS17", "val")[0].read())


def test_youtube_vos_needs_the_mask_where_an_object_appears(tmp_path: Path) -> None:
    tree = trees.youtube_vos(tmp_path)
    (tree / "valid/Annotations/bbb/00003.png").unlink()
    message = refused(videos_of, tmp_path, "VOS", "val")
    assert "'bbb'" in message and "00003" in message


@pytest.mark.parametrize(
    "meta",
    [
        None,
        "{",
        "[]",
        "{}",
        '{"videos": {}}',
        '{"videos": {"bbb": {}}}',
        '{"videos": {"bbb": {"objects": {"1": {"frames": []}}}}}',
        '{"videos": {"bbb": {"objects": []}}}',
        '{"videos": {"bbb": {"objects": {"1": {"frames": 5}}}}}',
        '{"videos": {"bbb": {"objects": {"1": {"frames": [{}]}}}}}',
        '{"videos": {"bbb": {"objects": {}}}}',
    ],
)
def test_a_damaged_meta_json_is_named(tmp_path: Path, meta: str | None) -> None:
    path = trees.youtube_vos(tmp_path) / "valid/meta.json"
    path.unlink() if meta is None else path.write_text(meta)
    assert str(path) in refused(videos_of, tmp_path, "VOS", "val")


# ---- names that leave their folder ----

OUTSIDE = ["../dog", "..", ".", "a/../../dog", "/etc", "sub/dog", ""]


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_video_name_cannot_leave_its_folder(tmp_path: Path, name: str) -> None:
    davis16 = trees.davis16(tmp_path)
    trees.write_db_info(davis16, [(name, "val", 2016)])
    assert "would leave the folder" in refused(videos_of, tmp_path, "DAVIS16", "val")
    youtube = trees.youtube_vos(tmp_path)
    trees.write_meta(youtube / "valid", {name: {"1": ["00000"]}})
    assert "would leave the folder" in refused(videos_of, tmp_path, "VOS", "val")
    davis17 = trees.davis17(tmp_path, "ImageSets")
    if name:  # no list has an empty word
        (davis17 / "ImageSets/2017/val.txt").write_text(f"duo\n{name}\n")
        message = refused(videos_of, tmp_path, "DAVIS17", "val")
        assert "would leave the folder" in message and f"'{name}'" in message


# ---- FOLDER and sets of one's own ----


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """With and without leading zeros, alone or within a name."""
    order = ["7", "08", "9", "10", "frame_2", "frame_11", "x1y10", "x1y11", "x2y3"]
    for name in sorted(order):
        trees.save_image(tmp_path / f"{name}.png", trees.scene([1])[0])
    assert [path.stem for path in list_images(tmp_path)] == order


def test_folder_is_scored_where_later_masks_are(tmp_path: Path) -> None:
    trees.folder(tmp_path, name="full")
    trees.folder(tmp_path, name="first", masked=(0,))
    trees.folder(tmp_path, name="late", masked=(2,))
    first, full, late = videos_of(tmp_path, "FOLDER", "val")
    assert [video.scored for video in (first, full, late)] == [False, True, False]
    assert [given_in(video) for video in (first, full, late)] == [[0], [0], [2]]
    assert scored_in(full) == {1: (1, 2), 2: (1, 2), 3: (1, 2)}
    assert names(videos_of(tmp_path, "FOLDER", "train")) == [
        "first",
        "full",
        "late",
    ]  # one part for all splits


def test_folder_takes_masks_of_0_and_255_for_one_object(tmp_path: Path) -> None:
    trees.folder(tmp_path, mode="L", objects=[255])
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    assert ids_of(video) == (1,)
    assert [set(np.unique(frame.truth)) for frame in list(video.read())[1:]] == [{0, 1}] * 3


def test_hidden_files_and_other_suffixes_are_no_frames(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    for stray in ("._00000.png", ".DS_Store", "notes.txt", "Thumbs.db"):
        (tmp_path / "JPEGImages/mine" / stray).write_bytes(b"x")
    assert videos_of(tmp_path, "FOLDER", "val")[0].length == 4


def test_folder_without_its_layout_says_what_it_expects(tmp_path: Path) -> None:
    assert "JPEGImages" in refused(videos_of, tmp_path, "FOLDER", "val")
    (tmp_path / "JPEGImages").mkdir()
    assert str(tmp_path / "JPEGImages") in refused(videos_of, tmp_path, "FOLDER", "val")


def test_a_new_set_in_the_registry_can_be_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As DATASET.md tells: a function that lists the videos, and a line in the registry."""

    def mine(root: Path, split: str) -> list[VideoIndex]:
        where = root / f"shots-{split}"
        return [index_video(d.name, d, root / "labels" / d.name) for d in sorted(where.iterdir())]

    for name in ("a", "b"):
        trees.write_video(tmp_path / "shots-train" / name, tmp_path / "labels" / name, {1: 0, 2: 0}, frames=3)
    monkeypatch.setitem(REGISTRY, "MINE", DataSet(mine, skip_step=7))
    monkeypatch.setitem(REGISTRY, "EMPTY", DataSet(lambda root, split: [], skip_step=7))
    with pytest.raises(InputError, match="EMPTY below .*: found no video; check root and the split 'val'"):
        recorded_videos(tmp_path, "EMPTY", "val")
    settings = ClipSettings(size=(32, 48), max_skip=[5], sampled_frames=2, train_batch=2)
    loader = PilLoader(training_sets(tmp_path, ["MINE"], [2]), settings, workers=0)
    loader.grow_max_skip()
    assert len(loader) == 2 and loader.max_skip == [12]
    model = STM("resnet18", keydim=8, valdim=8)
    clips = next(loader.batches(0))
    assert {clip.name.split("/")[0] for clip in clips} == {"MINE"}
    training_losses(model, Batch.of(clips, torch.device("cpu")), "recurrent").total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_an_unknown_set_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="'DAVIS71'.*'DAVIS17'"):
        find("DAVIS71")


def test_a_set_to_train_on_needs_two_masks_a_video(tmp_path: Path) -> None:
    trees.folder(tmp_path, name="full")
    trees.folder(tmp_path, name="first", masked=(0,))
    assert names(training_sets(tmp_path, ["FOLDER"], [1])[0].videos) == ["full"]
    trees.folder(tmp_path / "other", masked=(0,))
    assert "'FOLDER'" in refused(training_sets, tmp_path / "other", ["FOLDER"], [1])


def test_dali_is_refused_or_there() -> None:
    try:
        loader = build_loader(
            "DALI", torch.device("cpu"), [], ClipSettings(size=(32, 48), max_skip=[]), workers=0
        )
    except InputError as error:
        assert "data_backend" in str(error) and "PIL" in str(error)
    else:
        assert hasattr(loader, "batches")


# ---- damaged trees ----


def test_missing_frames_and_masks_are_named(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path)
    trees.write_db_info(tree, [("ghost", "val", 2017)])
    message = refused(videos_of, tmp_path, "DAVIS17", "val")
    assert str(tree / "JPEGImages/480p/ghost") in message
    trees.write_video(tree / "JPEGImages/480p/ghost", tree / "elsewhere", {1: 0})
    message = refused(videos_of, tmp_path, "DAVIS17", "val")
    assert str(tree / "Annotations/480p/ghost") in message and "00000" in message


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
@pytest.mark.parametrize(
    "file",
    ["JPEGImages/480p/duo/00002.jpg", "Annotations/480p/duo/00002.png", "Annotations/480p/duo/00000.png"],
)
def test_an_unreadable_file_is_named(tmp_path: Path, file: str, damage: str) -> None:
    path = trees.davis17(tmp_path) / file
    path.write_bytes({"text": b"no image", "cut": path.read_bytes()[:-40], "empty": b""}[damage])
    assert str(path) in refused(videos_of, tmp_path, "DAVIS17", "val")


def test_an_rgb_mask_is_named(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path)
    mask = tree / "Annotations/480p/duo/00000.png"
    trees.save_mask(mask, trees.scene([1, 2])[1], "RGB")
    message = refused(videos_of, tmp_path, "DAVIS17", "val")
    assert str(mask) in message and "RGB" in message


@pytest.mark.parametrize("size", [(47, 64), (64, 48)])
@pytest.mark.parametrize("position", [0, 2])
def test_a_mask_of_another_size_is_named(tmp_path: Path, size: tuple[int, int], position: int) -> None:
    tree = trees.davis17(tmp_path)
    mask = tree / f"Annotations/480p/duo/0000{position}.png"
    trees.save_mask(mask, trees.scene([1, 2], size=size)[1])
    message = refused(videos_of, tmp_path, "DAVIS17", "val")
    assert str(mask) in message and "64x48" in message and f"{size[1]}x{size[0]}" in message


def test_masks_without_objects_are_named(tmp_path: Path) -> None:
    """A later mask with objects is the first mask, if there is one."""
    tree = trees.davis17(tmp_path)
    masks = [tree / f"Annotations/480p/duo/{t:05d}.png" for t in range(4)]
    for mask in masks:
        (video,) = videos_of(tmp_path, "DAVIS17", "val")
        assert given_in(video) == [int(mask.stem)]
        trees.save_mask(mask, np.zeros(trees.SIZE, np.uint8))
    assert str(masks[0]) in refused(videos_of, tmp_path, "DAVIS17", "val")


# ---- masks and images, one by one ----


def test_labels_are_read_by_number_in_every_mode(tmp_path: Path) -> None:
    labels = trees.scene([1, 2, 7])[1]
    for mode in ("P", "L", "LA"):
        trees.save_mask(tmp_path / f"{mode}.png", labels, mode)
        file = tmp_path / f"{mode}.png"
        opened = annotations.Annotations(VideoIndex("v", (file,), {0: file}))
        assert np.array_equal(opened.read(0), labels), mode
    path = tmp_path / "1.png"
    Image.fromarray(labels > 0).save(path)
    opened = annotations.Annotations(VideoIndex("v", (path,), {0: path}, binary=True))
    assert np.array_equal(opened.read(0), (labels > 0).astype(np.uint8))


def count_decodes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the mask files that are decoded from now on."""
    decoded: list[str] = []
    decode = annotations.decode_mask
    for module in (annotations, mask_style):
        monkeypatch.setattr(module, "decode_mask", lambda path: decoded.append(path.stem) or decode(path))
    return decoded


@pytest.mark.parametrize("ids", [(255,), (1, 2)])
def test_a_mask_is_decoded_when_its_frame_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: tuple[int, ...]
) -> None:
    """Only the first one is decoded to open a video."""
    trees.folder(tmp_path, objects=ids)
    (index,) = REGISTRY["FOLDER"].index(tmp_path, "val")
    for one in (index, replace(index, binary=ids == (255,))):
        decoded = count_decodes(monkeypatch)
        video = open_video(one)
        assert decoded == ["00000"]
        decoded.clear()
        expected = (1,) if ids == (255,) else ids
        for t, frame in enumerate(video.read()):
            labels = frame.given if t == 0 else frame.truth
            assert decoded == [f"{p:05d}" for p in range(t + 1)] and set(np.unique(labels)) == {0, *expected}
        decoded.clear()
        clip = annotations.Annotations(one, [1, 3])
        for position in (1, 1, 3):  # the first mask is read to accept the clip, and to make it
            assert sorted(np.unique(clip.read(position))) == [0, *expected]
        assert sorted(decoded) == (["00000", "00001", "00003"] if one.binary is None else ["00001", "00003"])
        monkeypatch.undo()


def test_255_is_the_object_only_if_it_is_alone(tmp_path: Path) -> None:
    """And if the data set leaves it open: in DAVIS 2016, 255 is an object, in DAVIS 2017 it is void."""
    alone, beside = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    alone[:2], beside[:2], beside[4:6] = 255, 255, 3
    for name, labels, binary, ids in (
        ("alone", alone, None, (1,)),
        ("alone", alone, True, (1,)),
        ("beside", beside, None, (3,)),
        ("beside", beside, True, (1,)),
    ):
        path = tmp_path / f"{name}.png"
        trees.save_mask(path, labels, "L")
        opened = annotations.Annotations(VideoIndex("v", (path,), {0: path}, binary=binary))
        assert tuple(object_ids(opened.read(0))) == ids, (name, binary)


def test_grey_and_transparent_images_become_rgb(tmp_path: Path) -> None:
    image = trees.scene([1, 2])[0]
    Image.fromarray(image).convert("L").save(tmp_path / "grey.png")
    Image.fromarray(image).convert("RGBA").save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "grey.png").shape == image.shape
    assert np.array_equal(read_image(tmp_path / "alpha.png"), image)


# ---- video files ----


def test_a_video_file_is_read_frame_by_frame(tmp_path: Path) -> None:
    images, labels = zip(*(trees.scene([1, 4], t, size=(64, 96)) for t in range(5)))
    trees.write_mp4(tmp_path / "clip.mp4", images)
    trees.save_mask(tmp_path / "first.png", labels[0])
    video = open_video(single_video(tmp_path / "clip.mp4", tmp_path / "first.png"))
    assert (video.name, ids_of(video), video.scored) == ("clip", (1, 4), False)
    for _ in range(2):  # from the start again
        frames = list(video.read())
        assert [frame.name for frame in frames] == [f"{t:05d}" for t in range(5)]
        assert [frame.given is not None for frame in frames] == [True, False, False, False, False]
        for t, frame in enumerate(frames):  # red is red, and every frame is the one of its time
            assert trees.iou(trees.decode(frame.image, [1, 4]) == 1, labels[t] == 1) > 0.8
    assert np.array_equal(frames[0].given, labels[0])


def test_one_folder_of_frames_with_a_mask_from_anywhere(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    trees.save_mask(
        tmp_path / "drawn.png", np.where(trees.scene([1, 2])[1] > 0, np.uint8(255), np.uint8(0)), "L"
    )
    video = open_video(single_video(tmp_path / "JPEGImages/mine", tmp_path / "drawn.png"))
    assert (video.name, ids_of(video), video.length, video.scored) == ("mine", (1,), 4, False)
    assert np.array_equal(next(video.read()).given, (trees.scene([1, 2])[1] > 0).astype(np.uint8))


def test_missing_or_damaged_video_files_are_named(tmp_path: Path) -> None:
    trees.save_mask(tmp_path / "first.png", trees.scene([1])[1])
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    (tmp_path / "bad.mpg").write_bytes(b"no video")
    for name in ("bad.mp4", "bad.mpg"):
        assert str(tmp_path / name) in refused(
            lambda name: list(open_video(single_video(tmp_path / name, tmp_path / "first.png")).read()), name
        )
    assert str(tmp_path / "nowhere") in refused(single_video, tmp_path / "nowhere", tmp_path / "first.png")
    assert str(tmp_path / "no.png") in refused(single_video, tmp_path / "bad.mp4", tmp_path / "no.png")


# ---- real frames ----


@real
def test_real_davis16() -> None:
    dog, horse = videos_of(SHARED, "DAVIS16", "val")
    assert (dog.name, horse.name) == ("dog", "horsejump-high")
    assert dog.length + horse.length == 110 and dog.scored and horse.scored
    for video in (dog, horse):
        frame = next(video.read())
        assert frame.image.shape[:2] == frame.given.shape and set(np.unique(frame.given)) == {0, 1}
    assert len(find("DAVIS16").index(SHARED, "train")) == 5


@real
def test_real_davis17() -> None:
    videos = {video.name: video for video in videos_of(SHARED, "DAVIS17", "val")}
    expected = {"gold-fish": [1, 2, 3, 4, 5], "horsejump-high": [1, 2]}
    assert videos.keys() == expected.keys()
    for name, video in videos.items():
        frame = next(video.read())
        assert not video.scored and frame.truth is None
        assert object_ids(frame.given) == expected[name] and frame.image.shape[:2] == frame.given.shape


# ---- colours and smoothed edges ----


def own_folder(root: Path, masks: dict[str, Image.Image]) -> Path:
    (root / "JPEGImages/mine").mkdir(parents=True)
    (root / "Annotations/mine").mkdir(parents=True)
    for t in range(4):
        Image.new("RGB", (40, 30), (9 * t, 50, 90)).save(root / f"JPEGImages/mine/{t:05d}.jpg")
    for name, mask in masks.items():
        mask.save(root / f"Annotations/mine/{name}.png")
    return root


def coloured(*colours: tuple[int, int, int]) -> Image.Image:
    image = np.zeros((30, 40, 3), np.uint8)
    for i, colour in enumerate(colours):
        image[5:20, 10 * i + 2 : 10 * i + 9] = colour
    return Image.fromarray(image)


def test_a_colour_for_each_object(tmp_path: Path) -> None:
    """Objects are numbered in the order in which they appear."""
    root = own_folder(tmp_path, {"00000": coloured((255, 0, 0)), "00002": coloured((0, 255, 0), (255, 0, 0))})
    (video,) = videos_of(root, "FOLDER", "val")
    frames = list(video.read())
    assert given_in(video) == [0, 2] and scored_in(video) == {2: (1,)}
    assert frames[2].given[10, 5] == 2 and frames[2].truth[10, 15] == 1


def test_colours_of_the_palette_keep_their_labels(tmp_path: Path) -> None:
    (video,) = videos_of(
        own_folder(tmp_path, {"00000": coloured((0, 128, 0), (128, 128, 0))}), "FOLDER", "val"
    )
    assert ids_of(video) == (2, 3)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_smoothed_edges_are_explained(tmp_path: Path, mode: str) -> None:
    ramp = np.linspace(0, 255, 1200).astype(np.uint8).reshape(30, 40)
    root = own_folder(tmp_path, {"00000": Image.fromarray(ramp).convert(mode)})
    with pytest.raises(InputError, match=r"00000.png.*anti-aliased.*without smoothing"):
        videos_of(root, "FOLDER", "val")


def test_a_video_file_with_one_mask(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations/film").mkdir(parents=True)
    writer = cv2.VideoWriter(
        str(tmp_path / "JPEGImages/film.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (40, 30)
    )
    for t in range(5):
        writer.write(np.full((30, 40, 3), 40 * t, np.uint8))
    writer.release()
    coloured((255, 255, 255)).convert("L").save(tmp_path / "Annotations/film/00000.png")
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    frames = list(video.read())
    assert len(frames) == 5 and ids_of(video) == (1,) and frames[0].given.max() == 1 and not video.scored


def test_a_single_video_with_a_folder_of_masks(tmp_path: Path) -> None:
    trees.folder(tmp_path, frames=5)
    (tmp_path / "Annotations/mine/00003.png").unlink()
    trees.write_mp4(tmp_path / "film.mp4", (trees.scene([1, 2], t)[0] for t in range(5)))
    for frames in ("JPEGImages/mine", "film.mp4"):
        index = single_video(tmp_path / frames, tmp_path / "Annotations/mine")
        video = open_video(index)
        assert video.scored and video.name == Path(frames).stem and ids_of(video) == (1, 2)
        assert given_in(video) == [0] and list(scored_in(video)) == [1, 2, 4]
        video = open_video(index, "all")
        assert not video.scored and given_in(video) == [0, 1, 2, 4] and not scored_in(video)


def test_a_single_video_keeps_its_folders_whole_name_and_has_no_twins(tmp_path: Path) -> None:
    for name in ("v1.0", "v1.1"):
        trees.folder(tmp_path, name=name)
    mask = tmp_path / "Annotations/v1.0/00000.png"
    assert [single_video(tmp_path / "JPEGImages" / name, mask).name for name in ("v1.0", "v1.1")] == [
        "v1.0",
        "v1.1",
    ]
    beside = tmp_path / "JPEGImages/v1.0/00000.jpg"
    trees.save_image(beside, trees.scene([1])[0])
    assert "'00000' is there twice" in refused(single_video, beside.parent, beside.with_suffix(".png"))


def test_void_stays_void_in_clips_that_show_nothing_else(tmp_path: Path) -> None:
    """The given mask, too, decides what 255 means, not the sampled frames alone."""
    trees.folder(tmp_path, frames=9, objects=(255,))
    trees.save_mask(tmp_path / "Annotations/mine/00000.png", trees.scene([1, 255])[1])
    sets = training_sets(tmp_path, ["FOLDER"], [8])
    settings = ClipSettings(size=(32, 48), max_skip=[1], sampled_frames=2)
    clips = [clip for step in PilLoader(sets, settings, workers=0).batches(0) for clip in step]
    assert len(clips) == 8 and all(clip.labels[1:].eq(0).all() for clip in clips)


@pytest.mark.parametrize(
    "suffix, codec",
    [
        *((suffix, "mp4v") for suffix in ("mp4", "m4v", "mov", "3gp", "3g2", "ismv", "mkv", "nut", "wtv")),
        *((suffix, "XVID") for suffix in ("ts", "mts", "m2ts", "m2t")),
        *((suffix, "MPG2") for suffix in ("mpg", "mpeg", "vob", "mxf", "m2v")),
        *((suffix, "VP80") for suffix in ("webm", "ogv", "ogg", "ivf")),
        *((suffix, "WMV2") for suffix in ("wmv", "asf")),
        *((suffix, "MJPG") for suffix in ("avi", "mjpeg", "mjpg")),
        ("wmv", "MPG2"),  # its count is too high by one
        ("m1v", "MPG1"),
        ("flv", "FLV1"),
        ("rm", "RV10"),
        ("dv", "dvsd"),
        ("y4m", "Y4M"),
        ("MP4", "mp4v"),
        ("Avi", "MJPG"),
        # OpenCV writes no files of these names, so that they are copied.
        ("qt from mov", "mp4v"),
        ("f4v from mp4", "mp4v"),
        ("divx from avi", "XVID"),
        ("ogm from ogg", "VP80"),
        ("mpe from mpg", "MPG2"),
        ("mod from mpg", "MPG2"),
        ("mpv from m2v", "MPG2"),
        ("rmvb from rm", "RV10"),
        ("gif", "GIF"),
    ],
)
def test_every_container_of_opencv_is_a_video(tmp_path: Path, suffix: str, codec: str) -> None:
    """Each is read to its end, without a warning that it is cut off."""
    (tmp_path / "JPEGImages").mkdir()
    suffix, _, written = suffix.partition(" from ")
    path = tmp_path / f"JPEGImages/one.{suffix}"
    size = {"dvsd": (576, 720), "RV10": (144, 176)}.get(codec, trees.SIZE)  # these have sizes of their own
    images = [trees.scene([1], t, size)[0] for t in range(5)]
    write_video_file(path.with_suffix(f".{written or suffix}"), codec, images)
    if written:
        path.with_suffix(f".{written}").rename(path)
    trees.save_mask(tmp_path / "Annotations/one/00000.png", trees.scene([1], size=size)[1])
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [frame.name for frame in video.read()] == [f"{t:05d}" for t in range(5)]


def write_video_file(path: Path, codec: str, images: list[np.ndarray]) -> None:
    """codec: of OpenCV, or GIF or Y4M, which it does not write."""
    height, width, _ = images[0].shape
    if codec == "GIF":
        first, *others = map(Image.fromarray, images)
        first.save(path, save_all=True, append_images=others)
    elif codec == "Y4M":
        frames = (b"FRAME\n" + cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).tobytes() for image in images)
        path.write_bytes(f"YUV4MPEG2 W{width} H{height} F25:1 C420jpeg\n".encode() + b"".join(frames))
    else:
        fourcc = cv2.VideoWriter.fourcc(*codec)
        writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, 25, (width, height))
        assert writer.isOpened()
        for image in images:
            writer.write(image)
        writer.release()


def test_what_is_no_video_is_named_once(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    (tmp_path / "JPEGImages/notes.txt").write_text("x")
    (tmp_path / "JPEGImages/.hidden").write_text("x")
    with pytest.warns(UserWarning, match="1 entry left out, not a folder.*: notes.txt") as told:
        folder(tmp_path, "val")
    assert len(told) == 1


def test_lists_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    tree = trees.davis17(tmp_path, lists="ImageSets")
    names = [video.name for video in davis17(tmp_path, "val")]
    listed = tree / "ImageSets/2017/val.txt"
    listed.write_text(listed.read_text(), encoding="utf-8-sig")
    assert [video.name for video in davis17(tmp_path, "val")] == names
    part = trees.youtube_vos(tmp_path) / "valid"
    (part / "meta.json").write_text((part / "meta.json").read_text(), encoding="utf-8-sig")
    assert [video.name for video in youtube_vos(tmp_path, "val")] == ["bbb"]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_of_a_mask_are_background(tmp_path: Path, mode: str) -> None:
    """Some labelling tools keep the shape in the alpha channel, and paint everything white."""
    trees.folder(tmp_path, objects=(1,), masked=(0,))
    path, labels = tmp_path / "Annotations/mine/00000.png", trees.scene([1])[1]
    alpha = Image.fromarray(255 * labels)
    picture = Image.new("RGB" if mode == "RGBA" else "L", alpha.size, "white")
    picture.putalpha(alpha)
    assert picture.mode == mode
    picture.save(path)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    given = next(iter(video.read())).given
    assert np.array_equal(given, labels)


def test_a_255_beside_other_labels_is_not_dropped_in_silence(tmp_path: Path) -> None:
    trees.folder(tmp_path, objects=(127, 255), masked=(0,), mode="L")
    with pytest.warns(UserWarning, match=r"'mine'.*255 beside other labels \(127\).*another number"):
        (video,) = videos_of(tmp_path, "FOLDER", "val")
    assert ids_of(video) == (127,)


def test_videos_that_cannot_be_trained_on_are_named(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    trees.folder(tmp_path, name="single", masked=(0,))
    with pytest.warns(UserWarning, match="1 of 2 videos are left out.*two masks.*single"):
        (data,) = training_sets(tmp_path, ["FOLDER"], [1])
    assert [video.name for video in data.videos] == ["mine"]
