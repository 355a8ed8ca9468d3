"""demo/stream.py: films and a camera as if live, late frames, and latencies."""

import os
import runpy
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from dataset.video_file import decode_video, frame_rate
from libs import Segmenter
from libs.core.errors import InputError, UnreadableError
from tests.helpers import fake_datasets
from tests.helpers.subprocess_runner import ROOT, Result, run_in_process

FRAMES = 12
SCRIPT = SimpleNamespace(**runpy.run_path(str(ROOT / "demo/stream.py"), run_name="imported"))


class FakeCamera:
    """In place of cv2.VideoCapture: `frames` small images, then nothing."""

    frames = 5
    released = 0

    def __init__(self, number: int) -> None:
        self.number, self.count = number, 0

    def isOpened(self) -> bool:
        return self.number == 0

    def read(self) -> tuple[bool, np.ndarray | None]:
        self.count += 1
        return (
            (False, None) if self.count > self.frames else (True, picture(self.count - 1)[..., ::-1].copy())
        )

    def release(self) -> None:
        FakeCamera.released += 1


def picture(t: int) -> np.ndarray:
    return fake_datasets.scene([1, 2], t)[0]


@pytest.fixture
def film(tmp_path: Path) -> tuple[Path, Path]:
    """A film of two objects in 12 frames, 10 in a second, and the mask of its first frame."""
    paths = tmp_path / "film.mp4", tmp_path / "film.png"
    fake_datasets.write_mp4(paths[0], map(picture, range(FRAMES)))
    fake_datasets.save_mask(paths[1], fake_datasets.scene([1, 2])[1])
    return paths


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Record what Segmenter.step gets."""
    seen: list[tuple[np.ndarray, np.ndarray | None]] = []
    step = Segmenter.step

    def record(self: Segmenter, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        seen.append((image, mask))
        return step(self, image, mask)

    monkeypatch.setattr(Segmenter, "step", record)
    return seen


@pytest.fixture
def run(weights: Path) -> Callable[..., Result]:
    def start(*words: object) -> Result:
        return run_in_process("demo/stream.py", *words, "--weights", weights, "--gpu-id", "-1")

    return start


def lines_of(end: Result) -> list[str]:
    return [line for line in end.out.splitlines() if line.startswith("frame ")]


# ---- the script -------------------------------------------------------------------------------------------


def test_a_film(run: Callable[..., Result], film: tuple[Path, Path], steps: list, tmp_path: Path) -> None:
    """Every frame once, in order, the mask with the first one; a line each, and a film of overlays."""
    end = run(*film, "--fps", "1000", "--out", tmp_path / "out.mp4")
    end.check_success()
    for (image, mask), (_, known) in zip(steps, decode_video(film[0]), strict=True):
        assert np.array_equal(image, known) and (mask is None) == (image is not steps[0][0])
    assert np.array_equal(steps[0][1], fake_datasets.scene([1, 2])[1])
    assert [line.split(":")[0] for line in lines_of(end)] == [f"frame {t:05d}" for t in range(FRAMES)]
    assert all(line.endswith(" ms") for line in lines_of(end)) and "12 frames in" in end.out
    assert "latency" in end.out and "dropped" not in end.out
    written = list(decode_video(tmp_path / "out.mp4"))
    assert len(written) == FRAMES and written[0][1].shape == (*fake_datasets.SIZE, 3)


def test_late_frames_are_dropped_and_counted(
    run: Callable[..., Result], film: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that needs so long for the first frame that all others have arrived then."""
    step = Segmenter.step

    def slow(self: Segmenter, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        for thread in threading.enumerate():
            if thread.name == "frames":
                thread.join(timeout=20)
        return step(self, image, mask)

    monkeypatch.setattr(Segmenter, "step", slow)
    end = run(*film, "--fps", "1000", "--drop")
    end.check_success()
    assert [line.split(":")[0] for line in lines_of(end)] == ["frame 00000", "frame 00011"]
    assert lines_of(end)[1].endswith("after 10 dropped frames")
    assert "2 frames in" in end.out and "dropped 10 late frames of 12" in end.out


def test_a_camera(
    run: Callable[..., Result], film: tuple[Path, Path], steps: list, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    before = FakeCamera.released
    end = run("0", film[1])
    end.check_success()
    assert len(lines_of(end)) == len(steps) == 5 and FakeCamera.released == before + 1
    for t, (image, _) in enumerate(steps):
        assert np.array_equal(image, picture(t))  # RGB, not BGR
    run("1", film[1]).check_error("camera 1", "gives no frame")


def test_a_snapshot(run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    run("0", "--snapshot", tmp_path / "first.png").check_success()
    assert np.array_equal(cv2.imread(str(tmp_path / "first.png"))[..., ::-1], picture(0))


def test_a_signal_ends_it_and_the_film_is_completed(
    run: Callable[..., Result], film: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Segmenter.step

    def interrupted(self: Segmenter, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        if mask is None:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, image, mask)

    monkeypatch.setattr(Segmenter, "step", interrupted)
    end = run(*film, "--fps", "1000", "--out", tmp_path / "out.mp4")
    assert end.code == 130 and "2 frames in" in end.out and "interrupted" in end.err
    assert len(list(decode_video(tmp_path / "out.mp4"))) == 2


def test_a_window(
    run: Callable[..., Result], film: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows each frame until q is pressed; without a display one line says so."""
    shown: list[np.ndarray] = []
    monkeypatch.setattr(cv2, "imshow", lambda _, image: shown.append(image))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 3 else -1)
    end = run(*film, "--fps", "1000", "--show")
    end.check_success()
    assert len(lines_of(end)) == len(shown) == 3

    def no_display(*_: object) -> None:
        raise cv2.error("no display")

    monkeypatch.setattr(cv2, "imshow", no_display)
    run(*film, "--show").check_error("--show", "display")


# ---- its parts --------------------------------------------------------------------------------------------


def test_a_film_is_played_at_its_rate(film: tuple[Path, Path]) -> None:
    """By a clock of our own: frame i is due i / rate after the first, also if it is taken late."""
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    assert frame_rate(film[0]) == pytest.approx(10)
    frames = SCRIPT.play_video(film[0], 10.0, lambda: now[0], sleep)
    assert next(frames).time == 100
    now[0] += 0.03
    assert next(frames).time == pytest.approx(100.1) and now[0] == pytest.approx(100.1)
    now[0] += 0.35  # late: frames 2, 3 and 4 were due meanwhile
    assert [next(frames).time for _ in range(3)] == pytest.approx([100.2, 100.3, 100.4])
    assert slept == pytest.approx([0, 0.07, 0, 0, 0])
    assert next(frames).time == now[0] == pytest.approx(100.5)


def test_the_rate_of_what_is_no_film(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    assert frame_rate(tmp_path / "text.mp4") == frame_rate(tmp_path / "nowhere.mp4") == 0


def arrivals(count: int, taken: list[int], error: Exception | None = None) -> Iterator[Any]:
    """A source that notes which frames were asked for."""
    for number in range(count):
        taken.append(number)
        yield SCRIPT.Arrival(number, np.zeros((2, 2, 3), np.uint8), float(number))
    if error:
        raise error


def test_without_dropping_few_frames_wait_and_none_is_lost() -> None:
    taken: list[int] = []
    with SCRIPT.Live(arrivals(50, taken), drop=False) as live:
        assert live.take().number == 0
        time.sleep(0.2)
        assert len(taken) <= 2 + SCRIPT.WAITING  # one taken, WAITING in the queue, one in the thread's hand
        assert [live.take().number for _ in range(49)] == list(range(1, 50)) and live.take() is None


def test_with_dropping_the_newest_frame_is_taken_and_one_waits() -> None:
    live = SCRIPT.Live(arrivals(50, []), drop=True)
    with live:
        live._thread.join(timeout=20)
        assert len(live._waiting) == 1 and live.take().number == 49 and live.take() is None


@pytest.mark.parametrize("drop", [False, True])
def test_the_error_of_a_source_comes_after_its_frames(drop: bool) -> None:
    with SCRIPT.Live(arrivals(2, [], UnreadableError("cut off")), drop=drop) as live:
        live._thread.join(timeout=20)
        assert [live.take().number for _ in range(1 if drop else 2)][-1] == 1
        with pytest.raises(InputError, match="cut off"):
            live.take()


def test_a_source_that_is_left_early_ends_its_thread() -> None:
    closed: list[bool] = []

    def endless() -> Iterator[Any]:
        try:
            yield from arrivals(10**9, [])
        finally:
            closed.append(True)

    with SCRIPT.Live(endless(), drop=False) as live:
        live.take()
        assert live.take(stop=lambda: True) is None
    assert not live._thread.is_alive() and closed == [True]


def test_latencies_are_summed_up_in_bounded_memory() -> None:
    latencies = SCRIPT.Latencies()
    latencies.add(3.0)
    for _ in range(5 * SCRIPT.RECENT):
        latencies.add(0.02)
    assert latencies.count == 5 * SCRIPT.RECENT + 1 and len(latencies._recent) == SCRIPT.RECENT
    assert latencies.describe() == "latency of the last 1000 frames: 20 ms in the median, 3000 ms at worst"
