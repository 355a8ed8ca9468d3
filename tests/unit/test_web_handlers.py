"""What the page's events do to the session of their tab, without a browser."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("gradio", reason="needs the packages of requirements-web.txt")

from demo.web import views
from demo.web.background import BackgroundRun
from demo.web.handlers import LOCKED, Handlers
from demo.web.library import Library
from demo.web.marks import MOST_OBJECTS
from demo.web.session import Session
from demo.web.sessions import Sessions
from libs.app.segmenter import Segmenter
from tests.helpers import fake_datasets
from tests.unit.test_propagate import Tracker

MJPG = cv2.VideoWriter.fourcc(*"MJPG")
ONE, TWO = (SimpleNamespace(session_hash=name) for name in ("one", "two"))  # requests of two tabs


@pytest.fixture
def handlers(tmp_path: Path) -> Handlers:
    """Handlers of sessions that follow colours."""
    (tmp_path / "temporary").mkdir()
    return Handlers(Sessions(Segmenter(Tracker(), max_size=64), tmp_path / "temporary"), Library(None))


def upload_film(handlers: Handlers) -> Path:
    """A film of 9 frames, 7 in a second, where gradio puts it, and as gradio does: over an equal one."""
    path = handlers.sessions.folder / "0a1b/a  film.avi"
    path.parent.mkdir(exist_ok=True)
    writer = cv2.VideoWriter(str(path.with_name("new.avi")), MJPG, 7, fake_datasets.SIZE[::-1])
    for t in range(9):
        writer.write(np.ascontiguousarray(fake_datasets.scene([1, 2], t)[0]))
    writer.release()
    os.rename(path.with_name("new.avi"), path)
    return path


def no_progress(*_: Any, **__: Any) -> None:
    """In place of gradio's."""


def check_loaded(handlers: Handlers, *requests: SimpleNamespace) -> None:
    """Expect the film in these tabs, and no file of an upload."""
    for request in requests:
        session = handlers.sessions.of(request.session_hash)
        assert (session.video.name, len(session.video), session.video.fps) == ("a_film", 9, 7)
        assert session.video.image(8).shape == (*fake_datasets.SIZE, 3)
        assert list(session.folder.iterdir()) == [session.place]
    assert all(folder.name.startswith("tab-") for folder in handlers.sessions.folder.iterdir())


def load_frames(handlers: Handlers, folder: Path) -> Session:
    """A tab with 9 frames, in each of which two objects are marked."""
    fake_datasets.folder(folder, name="film", objects=(1, 2), frames=9)
    session = handlers.sessions.of("one")
    session.load(folder / "JPEGImages/film")
    for t in range(9):
        session.marks.give(t, fake_datasets.scene([1, 2], t)[1])
    return session


# ---- frames -----------------------------------------------------------------------------------------------


def test_an_object_is_removed_from_the_frame_on_that_the_browser_shows(
    handlers: Handlers, tmp_path: Path
) -> None:
    """Another listener may have changed what the session shows."""
    session = load_frames(handlers, tmp_path)
    session.shown = 7
    line = handlers.remove(SimpleNamespace(_data={"frame": 3, "object": 2}), ONE)[-1]
    assert "Removed object 2 from frame 3 on" in line and session.marks.removed == {3: {2}}
    for data in ({"object": 1}, {"frame": 9, "object": 1}, {"frame": -1, "object": 1}):
        assert "Error: " in handlers.remove(SimpleNamespace(_data=data), ONE)[-1]
    assert session.marks.removed == {3: {2}}


@pytest.mark.parametrize(
    "look",
    [
        lambda handlers: handlers.scrub(4, ONE),
        lambda handlers: handlers.click_timeline(SimpleNamespace(_data={"fraction": 0.5}), ONE),
        lambda handlers: handlers.go_to_drop(ONE),
    ],
    ids=["slider", "time line", "drop"],
)
def test_what_a_person_looks_at_stays_while_masks_are_tracked(
    handlers: Handlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, look: Callable[[Handlers], object]
) -> None:
    """The listener of `track` may come between any two steps."""
    session = load_frames(handlers, tmp_path)
    session.newest, session.drift = 6, {4: {1: 0.5}}

    def set_and_track(self: Session, name: str, value: object) -> None:
        object.__setattr__(self, name, value)
        if self.following:
            object.__setattr__(self, "shown", self.newest)

    monkeypatch.setattr(Session, "__setattr__", set_and_track)
    look(handlers)
    assert session.shown == 4 and not session.following


def test_the_object_whose_round_trip_iou_falls_is_chosen(handlers: Handlers, tmp_path: Path) -> None:
    view, *_, line = handlers.go_to_drop(ONE)
    assert view == {} and "Error: load a video first" in line
    session = load_frames(handlers, tmp_path)
    assert "Error: the round trip IoU falls nowhere; track first" in handlers.go_to_drop(ONE)[-1]
    session.drift = {4: {1: 0.9, 2: 0.5}}
    view, *_, line = handlers.go_to_drop(ONE)
    assert view["choose"] == 2 and view["frame"] == 4 and "Object 2: " in line
    assert "choose" not in handlers.scrub(4, ONE)[0]


def test_the_view_that_was_begun_first_counts_as_the_older_one(
    handlers: Handlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The browser leaves out images that are older than the one that it shows."""
    session, newer = load_frames(handlers, tmp_path), []
    overlay = views.overlay

    def show_another(*arguments: Any) -> np.ndarray:
        monkeypatch.setattr(views, "overlay", overlay)
        newer.append(views.frame_view(session))
        return overlay(*arguments)

    monkeypatch.setattr(views, "overlay", show_another)
    assert views.frame_view(session)["version"] < newer[0]["version"]


def test_a_new_object_is_offered_as_long_as_there_is_a_number(handlers: Handlers, tmp_path: Path) -> None:
    session = load_frames(handlers, tmp_path)
    offered = [one["label"] for one in views.frame_view(session)["objects"]]
    assert offered == ["object 1", "object 2", "object 3 (new)"]
    session.marks.ids[0] = frozenset(range(1, MOST_OBJECTS + 1))
    offered = [one["label"] for one in views.frame_view(session)["objects"]]
    assert len(offered) == 254 and offered[-1] == "object 254"


def test_what_cannot_be_used_while_masks_are_tracked_is_disabled(
    handlers: Handlers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that says so would be replaced by the next frame's at once."""
    load_frames(handlers, tmp_path)
    for running in (False, True):
        monkeypatch.setattr(BackgroundRun, "running", running)
        view, *shown = handlers.scrub(4, ONE)
        stop, *locked = [one["interactive"] for one in shown[2:-1]]
        assert stop == running and locked == [not running] * LOCKED
        assert view["running"] == running and bool(view["plain"]) != running


# ---- uploads ----------------------------------------------------------------------------------------------


def test_a_tab_may_end_with_an_upload_that_another_one_still_reads(handlers: Handlers) -> None:
    """Gradio puts equal files into one place."""
    path = str(upload_film(handlers))

    def load_in_two(done: tuple[int, None], **_: Any) -> None:
        if done[0] == 3:
            assert "9 frames" in handlers.load_upload(path, TWO, no_progress)[-1]
            assert not Path(path).exists()

    assert "9 frames" in handlers.load_upload(path, ONE, load_in_two)[-1]
    check_loaded(handlers, ONE, TWO)


def test_the_frame_rate_is_known_although_the_film_is_removed(handlers: Handlers) -> None:
    path = upload_film(handlers)
    session = handlers.sessions.of("one")
    session.load(path, lambda count: shutil.rmtree(path.parent, ignore_errors=True))
    check_loaded(handlers, ONE)


def test_an_equal_file_that_is_uploaded_meanwhile_stays(handlers: Handlers) -> None:
    path = str(upload_film(handlers))
    handlers.load_upload(path, ONE, lambda done, **_: done[0] == 3 and upload_film(handlers))
    assert Path(path).exists()
    assert "9 frames" in handlers.load_upload(path, TWO, no_progress)[-1]
    check_loaded(handlers, ONE, TWO)


def test_an_upload_is_copied_where_there_are_no_links(
    handlers: Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    assert "9 frames" in handlers.load_upload(str(upload_film(handlers)), ONE, no_progress)[-1]
    check_loaded(handlers, ONE)


def test_a_message_has_the_name_of_an_upload_and_no_temporary_path(handlers: Handlers) -> None:
    path = upload_film(handlers)
    path.write_bytes(b"rubbish")
    line = handlers.load_upload(str(path), ONE, no_progress)[-1]
    assert ">Error: a film.avi: expected a video" in line and "0a1b" not in line and not path.exists()
