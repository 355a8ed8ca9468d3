"""What the page of demo/app.py refuses: command lines, videos, and strokes that no browser would send."""

import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from demo.web import loaded_video
from demo.web.library import Library
from demo.web.loaded_video import load_video
from demo.web.sessions import Sessions
from demo.web.views import chosen, drawn, line_view
from libs.app.segmenter import Segmenter
from libs.core.errors import InputError
from tests.helpers import fake_datasets
from tests.helpers.subprocess_runner import ForkedScript, run_in_process
from tests.unit.test_propagate import Tracker
from tests.unit.test_web_session import new_session

MJPG = cv2.VideoWriter.fourcc(*"MJPG")


def save_film(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """A film of frames of one (width, height)."""
    writer = cv2.VideoWriter(str(path), MJPG, 7, sizes[0])
    for width, height in sizes:
        writer.write(np.full((height, width, 3), 80, np.uint8))
    writer.release()
    return path


@pytest.mark.parametrize(
    "words, line",
    [
        (("--video", "nowhere"), "--video: nowhere does not exist"),
        (("--video", "README.md"), "--video: README.md holds no video"),
        (("--max_size", "0"), "--max_size 0: expected at least 32 pixels"),
        (("--port", "70000"), "--port 70000: cannot be used"),
    ],
    ids=str,
)
def test_a_wrong_command_line_is_told_before_the_page_is_served(words: tuple[str, ...], line: str) -> None:
    run_in_process("demo/app.py", *words).check_error(line)


def test_a_wrong_model_is_told() -> None:
    pytest.importorskip("gradio", reason="needs the packages of requirements-web.txt")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ForkedScript("demo/app.py", "--port", port, "--model", "nowhere.pth").wait().check_error("nowhere.pth")


def test_without_gradio_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_OFFLINE"):
        monkeypatch.setenv(name, "")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    line = "the page needs the package gradio; pip install -r requirements-web.txt"
    run_in_process("demo/app.py", "--port", port).check_error(line)


def test_a_port_that_is_in_use_is_told() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        run_in_process("demo/app.py", "--port", port).check_error(
            f"--port {port}: cannot be used", str(port + 1)
        )


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
@pytest.mark.parametrize("ignored", [False, True], ids=["terminal", "nohup"])
def test_closing_the_terminal_removes_all_temporary_files(tmp_path: Path, ignored: bool) -> None:
    """The shell and the terminal send SIGHUP; a program under nohup stays."""
    pytest.importorskip("gradio", reason="needs the packages of requirements-web.txt")

    class Page:
        """In place of the one in gradio."""

        def launch(self, **_: Any) -> tuple[None, str, None]:
            (tmp_path / "launched").touch()
            return None, "http://nowhere", None

        def close(self, verbose: bool) -> None:
            os.kill(os.getpid(), signal.SIGHUP)  # the second one comes while files are removed
            (tmp_path / "closed").touch()

    def prepare() -> None:
        (tmp_path / "temporary").mkdir()
        tempfile.tempdir = str(tmp_path / "temporary")
        page.build_page = lambda *_: Page()
        Segmenter.load = lambda *_, **__: Segmenter(Tracker(), max_size=64)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)

    from demo.web import page

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = ForkedScript("demo/app.py", "--port", port, before=prepare)
    while process.is_running() and not (tmp_path / "launched").exists():
        time.sleep(0.05)
    process.send(signal.SIGHUP)
    if ignored:
        time.sleep(0.5)
        assert process.is_running()
        process.send(signal.SIGTERM)
    result = process.wait()
    assert result.code == 128 + (signal.SIGTERM if ignored else signal.SIGHUP), result
    assert "Traceback" not in result.err and (tmp_path / "closed").exists()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize(
    "name, write, line",
    [
        ("a.mp4", lambda path: path.write_bytes(b"rubbish"), "could not read a single frame"),
        ("a.mp4", lambda path: path.write_bytes(b""), "could not read a single frame"),
        ("a.avi", lambda path: cv2.VideoWriter(str(path), MJPG, 7, (64, 48)).release(), "a single frame"),
        ("a.png", lambda path: Image.new("RGB", (64, 48)).save(path), r"a.png: expected a video file \(.mp4"),
        ("a.m3u8", lambda path: path.write_text("#EXTM3U\n/etc/passwd"), "expected a video file"),
        ("a.mp4", lambda path: path.write_text("#EXTM3U\n/etc/passwd"), "could not read a single frame"),
        ("a", lambda path: path.mkdir(), "expected the frames of video 'a', found no image"),
        ("a.avi", lambda path: save_film(path, [(5000, 4000)]), "at most 16 megapixels, found 5000x4000"),
    ],
)  # fmt: skip
def test_a_film_that_cannot_be_used_is_told(
    tmp_path: Path, name: str, write: Callable[[Path], Any], line: str
) -> None:
    write(tmp_path / name)
    session = new_session(tmp_path / "tab")
    with pytest.raises(InputError, match=line) as error:
        session.load(tmp_path / name)
    assert "\n" not in str(error.value) and not session.loaded


def test_a_film_that_would_fill_the_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_film(tmp_path / "a.avi", [(64, 48)] * 9)
    opened = load_video(path, tmp_path / "frames")
    assert len(opened) == 9 and opened.fps == 7 and opened.image(8).shape == (48, 64, 3)
    monkeypatch.setattr(loaded_video, "MOST_BYTES", 5 * opened.frames[0].stat().st_size)
    with pytest.raises(InputError, match="its first 5 frames fill 0.0 GB of temporary files"):
        load_video(path, tmp_path / "more")


def test_a_frame_of_another_size_is_told(tmp_path: Path) -> None:
    fake_datasets.folder(tmp_path, name="a", frames=3)
    Image.new("RGB", (60, 48)).save(tmp_path / "JPEGImages/a/00002.png")
    opened = load_video(tmp_path / "JPEGImages/a", tmp_path / "frames")
    with pytest.raises(InputError, match="00002.png: .*the first frame, 64x48, found 60x48"):
        opened.image(2)


def test_only_videos_below_the_named_folder_can_be_chosen(tmp_path: Path) -> None:
    root = tmp_path / "films"
    fake_datasets.folder(root / "set", name="a", frames=2)
    save_film(root / "b.avi", [(64, 48)])
    fake_datasets.folder(tmp_path / "elsewhere", name="secret", frames=2)
    (root / "link").symlink_to(tmp_path / "elsewhere/JPEGImages/secret")
    (root / "c.avi").symlink_to(save_film(tmp_path / "c.avi", [(64, 48)]))
    library = Library(root)
    assert library.names() == ["b.avi", "set/Annotations/a", "set/JPEGImages/a"]
    assert library.find("b.avi") == root / "b.avi"
    for name in ("../elsewhere/JPEGImages/secret", str(tmp_path / "c.avi"), "link", "c.avi", "", "set"):
        with pytest.raises(InputError, match="is not below the folder that --video names"):
            library.find(name)
    assert Library(root / "b.avi").find("b.avi") == root / "b.avi"
    assert Library(None).names() == []


def test_only_uploaded_files_are_taken_for_uploads(tmp_path: Path) -> None:
    """They lie in a folder of their own; files of tabs and of others are neither read nor removed."""
    pytest.importorskip("gradio", reason="needs the packages of requirements-web.txt")
    from demo.web.handlers import Handlers

    root = tmp_path / "temporary"
    upload, frame, other = root / "0a1b/a.mp4", root / "tab-x/place/00000.png", tmp_path / "a.mp4"
    for path in (upload, frame, root / "tab-x/a.mp4", root / "b.mp4", other):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"rubbish")
    (root / "0a1b/link.mp4").symlink_to(other)
    sessions = Sessions(Segmenter(Tracker(), max_size=64), root)
    handlers, request = Handlers(sessions, Library(None)), SimpleNamespace(session_hash="x")
    for path in (frame, root / "tab-x/a.mp4", root / "b.mp4", other, root / "0a1b/link.mp4", root / "0a1b"):
        line = handlers.load_upload(str(path), request, lambda *_, **__: None)[-1]
        assert "Error: expected an uploaded file" in line and path.exists()
    line = handlers.load_upload(str(upload), request, lambda *_, **__: None)[-1]
    assert "Error: a.mp4: expected a video" in line and not upload.exists()


@pytest.mark.parametrize(
    "change",
    [
        {"points": [[0.5, 1.5]]},
        {"points": [[float("nan"), 0.5]]},
        {"points": []},
        {"points": [[0.5, 0.5]] * 30_000},
        {"points": "rubbish"},
        {"points": [[1]]},
        {"object": 0},
        {"object": 255},
        {"object": None},
        {"frame": "x"},
        {"tool": "bomb"},
        {"tool": None},
        {"radius": -1},
        {"radius": float("inf")},
    ],
    ids=lambda change: str(change)[:40],
)
def test_a_stroke_that_no_page_sends_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    fake_datasets.folder(tmp_path, name="a", frames=2)
    session = new_session(tmp_path / "tab")
    session.load(tmp_path / "JPEGImages/a")
    event = {"frame": 1, "object": 2, "tool": "paint", "radius": 3, "points": [[0.5, 0.25], [1, 1]]}
    assert drawn(session, event) == (1, 2, "paint", [(32, 12), (64, 48)], 3)
    with pytest.raises(InputError, match="the page sent (a|object)"):
        drawn(session, {**event, **change})
    with pytest.raises(InputError, match="frame 9: expected a number from 0 to 1"):
        session.draw(*drawn(session, {**event, "frame": 9}))


@pytest.mark.parametrize(
    "event",
    [{}, {"frame": 1}, {"object": 1}, {"frame": 1, "object": 0}, {"frame": 1, "object": 255}, None]
    + [{"frame": float("inf"), "object": 1}, {"frame": 1, "object": "x"}],
    ids=str,
)
def test_a_choice_that_no_page_sends_is_refused(event: Any) -> None:
    assert chosen({"frame": 3, "object": 254}) == (3, 254)
    with pytest.raises(InputError, match="the page sent"):
        chosen(event)


def test_a_name_in_a_message_is_no_html() -> None:
    assert "<img" not in line_view("Error: <img src=x onerror=alert(1)>.mp4")
