"""Progress: a line a minute with speed and time left, from a clock that the test moves."""

from pathlib import Path

import pytest

from libs.core.log import Progress, RunLog, SilentLog
from tests.helpers.training import Clock


def advance(progress: Progress, clock: Clock, count: int, seconds: float) -> None:
    """`count` units that take `seconds` each."""
    for _ in range(count):
        clock.now += seconds
        progress.advance()


def test_frames_of_several_videos(capsys: pytest.CaptureFixture[str]) -> None:
    """The minute and the time left are those of the run, the frames those of the video."""
    clock = Clock()
    progress = Progress("test", 130, "frame", clock=clock)
    with progress.section("cat", 50):
        advance(progress, clock, 50, 1.0)
    assert capsys.readouterr().err == ""
    with progress.section("dog", 80):
        advance(progress, clock, 20, 2.0)
    lines = capsys.readouterr().err.splitlines()
    # after 55 frames in 60 s, 75 are left
    assert lines == ["test dog: frame 5 of 80, 0.92 frames per second, 0:01:22 left"]


def test_the_speed_is_that_of_the_last_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress("test", 1000, "frame", clock=clock)
    with progress.section("cat", 1000):
        advance(progress, clock, 120, 0.5)
        advance(progress, clock, 6, 10.0)
    first, second = capsys.readouterr().err.splitlines()
    assert first == "test cat: frame 120 of 1000, 2.00 frames per second, 0:07:20 left"
    assert second == "test cat: frame 126 of 1000, 0.10 frames per second, 0:13:52 left"


def test_a_video_that_breaks_off_counts_as_passed(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress("test", 200, "frame", clock=clock)
    with pytest.raises(ValueError), progress.section("broken", 100):
        advance(progress, clock, 1, 10.0)
        raise ValueError
    with progress.section("next", 100):
        advance(progress, clock, 5, 10.0)
    assert capsys.readouterr().err.endswith("frame 5 of 100, 0.10 frames per second, 0:15:50 left\n")


def test_a_total_that_is_not_known(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    progress = Progress("demo", 0, "frame", clock=clock)
    with progress.section("film", 0):
        advance(progress, clock, 1, 60.0)
    assert capsys.readouterr().err == "demo film: frame 1, 0.02 frames per second\n"


def test_other_processes_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    clock, lines = Clock(), []
    progress = Progress("epoch", 3, record=lines.append, shown=False, clock=clock)
    with progress.section("1/1", 3):
        advance(progress, clock, 3, 100.0)
    assert capsys.readouterr().err == "" and lines == []


def test_on_a_terminal_a_bar_and_lines_for_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    clock, lines = Clock(), []
    progress = Progress("epoch", 3, record=lines.append, clock=clock)
    with progress.section("1/1", 3):
        advance(progress, clock, 1, 100.0)
    assert lines == ["epoch 1/1: step 1 of 3, 0.01 steps per second, 0:03:20 left"]
    assert lines[0] not in capsys.readouterr().err


def test_lines_go_to_the_terminal_and_the_file_or_to_the_file_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = RunLog(tmp_path)
    log.info("shown")
    log.record("kept")
    log.close()
    assert (tmp_path / "train.log").read_text() == "shown\nkept\n"
    assert capsys.readouterr().out == "shown\n"
    silent = SilentLog()
    silent.info("dropped")
    silent.record("dropped")
    silent.close()
    assert capsys.readouterr().out == ""
