"""The page without a browser: what a tab draws, tracks, corrects, removes and downloads; as test.py does."""

import errno
import json
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from demo.web.downloads import DOWNLOADS, save
from demo.web.loaded_video import LoadedVideo, load_video
from demo.web.session import Session
from demo.web.sessions import Sessions
from libs.app.build import for_inference, load_network
from libs.app.segmenter import Segmenter
from libs.core.errors import InputError
from libs.core.image_io import save_index_png
from tests.helpers import fake_datasets
from tests.helpers.small_network import TRAIN_ON_FOLDER, small
from tests.helpers.subprocess_runner import run_in_process
from tests.unit.test_propagate import Tracker

SIZE = fake_datasets.SIZE
ALL = (1, 2)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """21 frames with two objects, which move."""
    fake_datasets.folder(tmp_path, name="film", objects=ALL, frames=21)
    return tmp_path / "JPEGImages/film"


@pytest.fixture
def session(tmp_path: Path, film: Path) -> Session:
    """A session that follows colours, with the film loaded."""
    session = new_session(tmp_path / "tab")
    session.load(film)
    return session


def new_session(folder: Path, model: object = None) -> Session:
    folder.mkdir()
    return Session(lambda: Segmenter(model or Tracker(), max_size=64), folder, threading.Lock())


def truth(t: int, ids: tuple[int, ...] = ALL) -> np.ndarray:
    return fake_datasets.scene(ids, t, SIZE)[1]


def give(session: Session, t: int, labels: np.ndarray) -> None:
    """Load labels as a mask PNG."""
    path = session.place / "mask.png"
    save_index_png(path, labels.astype(np.uint8))
    session.load_mask(t, path)


def track(session: Session, t: int, until: int | None = None) -> list[int]:
    """Track without a thread, up to frame `until`. Returns the frames that were tracked."""
    done = []
    for now in session.track(t):
        done.append(now)
        if now == until:
            break
    return done


def labels_of(session: Session) -> list[np.ndarray]:
    return [session.marks.read(t) for t in range(len(session.video))]


# ---- the same as test.py ----------------------------------------------------------------------------------


def test_its_masks_are_those_of_test_py(tmp_path: Path, film: Path, weights: Path) -> None:
    """To the last pixel: with a correction, an object that appears later, and ways there that go back."""
    masks = {0: np.where(truth(0) == 1, 1, 0), 7: truth(7), 12: np.where(truth(13) == 1, 1, 0)}
    for path in (tmp_path / "Annotations/film").iterdir():
        path.unlink()
    for t, labels in masks.items():
        save_index_png(tmp_path / f"Annotations/film/{t:05d}.png", labels.astype(np.uint8))
    keys = {"max_size": 64, "memory_frames": 20, "given_masks": "all", "amp": "off"}
    test = run_in_process("test.py", **small(root=tmp_path, valset="FOLDER", initial=weights, **keys))
    test.check_success()
    session = new_session(tmp_path / "tab", for_inference(load_network(weights)))
    session.load(film)
    give(session, 0, masks[0])
    track(session, 0, until=9)
    give(session, 7, masks[7])
    track(session, 7, until=12)
    give(session, 12, masks[12])  # the newest frame
    track(session, 12)
    for t, labels in enumerate(labels_of(session)):
        with Image.open(tmp_path / f"output/FOLDER/film/{t:05d}.png") as image:
            assert np.array_equal(np.array(image), labels), t
    assert len({labels.tobytes() for labels in labels_of(session)}) > 6  # something moves


def test_going_back_costs_as_many_frames_as_it_goes_back(session: Session) -> None:
    give(session, 0, truth(0))
    track(session, 0)
    assert track(session, 11)[0] == 5  # the copies before frames 5, 15 and 20 were kept
    give(session, 17, truth(17))
    assert track(session, 17)[0] == 15  # the newest copy
    give(session, 3, truth(3))
    assert track(session, 20)[0] == 0  # frame 20 depends on what was given in frame 3


# ---- masks ------------------------------------------------------------------------------------------------


def test_boxes_strokes_and_brush_change_the_mask_of_one_object(session: Session) -> None:
    first, second = (truth(0) == k for k in ALL)
    rows, columns = np.nonzero(first)
    corners = [(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]
    session.draw(0, 1, "box", corners, 3)
    assert np.array_equal(session.marks.read(0) == 1, first)
    y, x = (int(axis.mean()) for axis in np.nonzero(second))
    session.draw(0, 2, "paint", [(x, y)], 3)
    painted = session.marks.read(0)
    assert painted[y, x] == 2 and np.count_nonzero(painted == 2) == 29  # pixels within 3 of a pixel
    assert np.array_equal(painted == 1, first)
    session.draw(0, 2, "inside", [(x - 2, y), (x + 2, y)], 2)
    assert (session.marks.read(0) == 2)[second].mean() > 0.9
    session.draw(0, 2, "erase", [(x, y)], 2)
    assert session.marks.read(0)[y, x] == 0
    assert session.undo() == 0 and session.marks.read(0)[y, x] == 2
    with pytest.raises(InputError, match="object 1 would have no pixels"):
        session.draw(0, 1, "erase", [(32, 24)], 100)
    assert session.marks.objects() == [1, 2]


def test_a_stroke_that_is_refused_leaves_no_trace(session: Session) -> None:
    """A stroke outside over the whole frame finds nothing; the next one does as if it had not been drawn."""
    rows, columns = np.nonzero(truth(0) == 1)
    corners = [(columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)]
    y, x = int(rows.mean()), int(columns.mean())
    found = []
    for refused in (False, True):
        session.draw(0, 1, "box", corners, 3)
        before = session.marks.read(0)
        if refused:
            with pytest.raises(InputError, match="no outline was found"):
                session.draw(0, 1, "outside", [(32, 24)], 100)
            assert np.array_equal(session.marks.read(0), before)
        session.draw(0, 1, "outside", [(x, y)], 1)
        found.append(session.marks.read(0))
    assert np.array_equal(*found) and (found[0] == 1).any()


def test_a_correction_leaves_the_other_objects_as_they_were_predicted(session: Session) -> None:
    give(session, 0, truth(0))
    track(session, 0)
    assert all(np.array_equal(labels, truth(t)) for t, labels in enumerate(labels_of(session)))
    moved = np.zeros(SIZE, bool)
    moved[40:, 50:] = True
    session.marks.mark(10, 1, moved)
    labels = session.marks.read(10)
    assert np.array_equal(labels == 1, moved)
    assert np.array_equal(labels == 2, (truth(10) == 2) & ~moved)
    assert session.marks.stale == set(range(11, 21)) and session.marks.ids[10] == {1}
    session.marks.mark(15, 1, moved)
    assert session.marks.stale == set(range(11, 21)) - {15}


def test_a_mask_that_cannot_be_put_back_stays_whole(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(session, 0, truth(0))
    before, packed = session.marks.labels.pack(0), b"another mask"

    def fill_disk(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_disk)
    with pytest.raises(InputError, match="00000.png cannot be written: No space left"):
        session.marks.labels.unpack(0, packed)
    assert session.marks.labels.pack(0) == before


def test_an_object_that_was_removed_is_gone_from_there_on(session: Session) -> None:
    give(session, 0, truth(0))
    give(session, 8, truth(8))
    track(session, 0)
    session.remove(5, 2)
    shown = [2 in labels for labels in labels_of(session)]
    assert shown == [True] * 5 + [False] * 16 and session.marks.ids == {0: {1, 2}, 8: {1}}
    track(session, 5)
    assert [2 in labels for labels in labels_of(session)] == shown
    session.draw(9, 2, "paint", [(10, 10)], 3)  # it comes back
    assert 2 in session.marks.read(9) and 2 not in session.marks.read(8)
    assert session.undo() == 9 and session.undo() == 5
    assert session.marks.ids == {0: {1, 2}, 8: {1, 2}} and session.marks.stale == set(range(5, 21)) - {8}
    track(session, 5)
    assert all(np.array_equal(x, truth(t)) for t, x in enumerate(labels_of(session)))
    with pytest.raises(InputError, match=r"object 9 is not in this frame; choose one of \[1, 2\]"):
        session.remove(5, 9)


def test_after_each_change_the_line_says_whether_masks_are_from_before(session: Session) -> None:
    advice = "are from before: track again from here."
    give(session, 0, truth(0))
    assert advice not in session.line
    track(session, 0)
    changes: list[Callable[[], object]] = [
        lambda: session.draw(5, 1, "paint", [(10, 10)], 3),
        session.undo,
        lambda: session.remove(5, 2),
        lambda: give(session, 5, truth(5)),
    ]
    for change in changes:
        change()
        assert session.line.endswith(advice)
        track(session, 5)
    for _ in range(3):
        session.undo()
    assert session.marks.stale and not session.marks.objects() and advice not in session.line


def test_an_object_that_is_removed_from_its_first_frame_on_was_never_there(session: Session) -> None:
    give(session, 0, truth(0))
    track(session, 0)
    session.remove(0, 2)
    assert session.marks.objects() == [1] and not any(2 in labels for labels in labels_of(session))
    track(session, 0)
    assert all(
        np.array_equal(labels, truth(t) * (truth(t) == 1)) for t, labels in enumerate(labels_of(session))
    )


def test_a_film_that_cannot_be_loaded_leaves_the_one_before(session: Session, tmp_path: Path) -> None:
    give(session, 0, truth(0))
    (tmp_path / "rubbish.mp4").write_bytes(b"rubbish")
    with pytest.raises(InputError, match="rubbish.mp4"):
        session.load(tmp_path / "rubbish.mp4")
    assert len(session.video) == 21 and np.array_equal(session.marks.read(0), truth(0))
    fake_datasets.folder(tmp_path, name="other", frames=2)
    session.load(tmp_path / "JPEGImages/other")
    assert len(session.video) == 2 and not session.marks.read(0).any() and session.marks.objects() == []
    assert session.line == "other: 2 frames of 64x48 pixels. Drag a box around the first object."
    assert list(session.folder.iterdir()) == [session.place]  # nothing is left of the others


# ---- tracking ---------------------------------------------------------------------------------------------


def test_stopping_keeps_the_masks_made_so_far(session: Session) -> None:
    give(session, 0, truth(0))
    image = session.video.image

    def slow(t: int) -> np.ndarray:
        time.sleep(0.05)
        return image(t)

    object.__setattr__(session.video, "image", slow)
    session.start(0)
    with pytest.raises(InputError, match="stop tracking first"):
        session.draw(0, 1, "paint", [(1, 1)], 3)
    while session.newest < 4:
        session.run.wait(session.run.steps, 5)
    session.run.stop()
    newest = session.newest
    assert 4 <= newest < 20 and session.line.startswith(f"Stopped after frame {newest}. Correct")
    assert session.marks.labels.times == set(range(newest + 1))
    session.start(newest)
    while session.run.running:
        session.run.wait(session.run.steps, 5)
    assert session.line.startswith("Done: masks to frame 20 in ")
    assert all(np.array_equal(labels, truth(t)) for t, labels in enumerate(labels_of(session)))


def test_a_frame_that_cannot_be_read_ends_the_run_in_one_line(session: Session, film: Path) -> None:
    give(session, 0, truth(0))
    (film / "00006.png").write_bytes(b"rubbish")
    session.start(0)
    while session.run.running:
        session.run.wait(session.run.steps, 5)
    assert session.line.startswith("Error:") and "00006.png" in session.line and session.newest == 5


def test_the_drop_of_the_return_iou_is_found(session: Session) -> None:
    assert session.largest_drop() is None
    session.drift = {0: {}, 5: {1: 0.9, 2: 0.8}, 10: {1: 0.85, 2: 0.3}, 15: {1: 0.5, 2: 0.2}}
    assert session.largest_drop() == (10, 2, 0.8, 0.3)


def test_the_return_iou_is_measured_every_fifth_frame(session: Session) -> None:
    give(session, 0, truth(0))
    track(session, 0)
    assert session.drift == {t: {1: 1.0, 2: 1.0} for t in (5, 10, 15, 20)}
    give(session, 10, truth(10))
    assert sorted(session.drift) == [5]


# ---- tabs and files ---------------------------------------------------------------------------------------


def test_two_tabs_do_not_mix_and_leave_no_file(tmp_path: Path, film: Path) -> None:
    sessions = Sessions(Segmenter(Tracker(), max_size=64), tmp_path / "tabs")
    (tmp_path / "tabs").mkdir()
    one, two = sessions.of("one"), sessions.of("two")
    assert sessions.of("one") is one and one is not two
    for session in (one, two):
        session.load(film)
    give(one, 0, truth(0))
    give(two, 0, np.where(truth(0) == 2, 7, 0))
    one.start(0)
    two.start(0)
    while one.run.running or two.run.running:
        time.sleep(0.01)
    for t in range(21):
        assert np.array_equal(one.marks.read(t), truth(t))
        assert np.array_equal(two.marks.read(t), np.where(truth(t) == 2, 7, 0))
    sessions.close("one")
    assert len(list((tmp_path / "tabs").iterdir())) == 1
    with pytest.raises(InputError, match="closed"):
        one.draw(0, 1, "paint", [(1, 1)], 3)
    sessions.close_all()
    assert list((tmp_path / "tabs").iterdir()) == []


def test_a_long_gif_has_every_nth_frame(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("demo.web.downloads.LONGEST_GIF", 3)
    give(session, 0, truth(0))
    track(session, 0, until=4)
    assert save(session, "overlay GIF")[1].startswith("3 frames, one of every 2")


@pytest.mark.parametrize("kind", DOWNLOADS)
def test_a_download_holds_one_film(tmp_path: Path, session: Session, kind: str) -> None:
    """Another one cannot be loaded meanwhile; a download that is asked for while one is loaded waits."""
    fake_datasets.folder(tmp_path, name="other", frames=2)
    give(session, 0, truth(0))
    track(session, 0, until=4)
    refused = []

    def load_other(done: int, total: int) -> None:
        with pytest.raises(InputError, match="a file is being made of this video; wait") as error:
            session.load(tmp_path / "JPEGImages/other")
        refused.append(error)

    path, content = save(session, kind, load_other)
    assert len(refused) == 5 and path.name.startswith("film") and content.startswith("5 ")
    session.load(tmp_path / "JPEGImages/other")
    assert session.video.name == "other"


def test_a_download_waits_for_a_film_that_is_being_loaded(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_datasets.folder(tmp_path, name="other", frames=2)
    give(session, 0, truth(0))
    opened, go_on = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> LoadedVideo:
        opened.set()
        assert go_on.wait(20)
        return load_video(*arguments)

    monkeypatch.setattr("demo.web.session.load_video", slow)
    load = threading.Thread(target=session.load, args=(tmp_path / "JPEGImages/other",))
    load.start()
    assert opened.wait(20)
    threading.Timer(0.3, go_on.set).start()
    with pytest.raises(InputError, match="there are no masks yet"):  # of the other film
        save(session, next(iter(DOWNLOADS)))
    load.join()


def test_downloads_hold_what_was_tracked(tmp_path: Path, session: Session, weights: Path) -> None:
    give(session, 0, truth(0))
    track(session, 0, until=14)
    files = {kind: save(session, kind) for kind in DOWNLOADS}
    masks, mp4, gif, coco, folder = (path for path, _ in files.values())
    with zipfile.ZipFile(masks) as archive:
        assert archive.namelist() == [f"film/{t:05d}.png" for t in range(15)]
        with Image.open(archive.open("film/00003.png")) as image:
            assert image.mode == "P" and np.array_equal(np.array(image), truth(3))
    with Image.open(gif) as image:
        assert image.n_frames >= 10  # equal frames are joined
    content = json.loads(coco.read_text())
    assert len(content["images"]) == 15 and {a["category_id"] for a in content["annotations"]} == {1, 2}
    assert mp4.read_bytes()[4:8] == b"ftyp" and b"avc1" in mp4.read_bytes()
    with zipfile.ZipFile(folder) as archive:
        archive.extractall(tmp_path / "own")
    assert "6 without a mask left out" in files["data set for train.py (zip)"][1]
    keys = {
        **TRAIN_ON_FOLDER,
        "root": tmp_path / "own/film",
        "initial": weights,
        "checkpoint": tmp_path / "ckpt",
    }
    run_in_process("train.py", **small(**keys)).check_success()
