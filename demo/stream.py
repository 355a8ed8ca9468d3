"""Segment a video file or a camera as if live.

python3 demo/stream.py SOURCE MASK [--drop] [--show] [--out FILE.mp4]

SOURCE is a video file, played at its own rate, or the number of a camera. MASK marks the first frame.
The latency of each frame is printed: from its arrival to its labels. Memory is bounded, however long it runs.
"""

import argparse
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # so that it starts from any folder

import libs.core.threads  # noqa: E402, F401  before torch

# isort: split
import cv2  # noqa: E402
import numpy as np  # noqa: E402

from dataset.annotations import Annotations  # noqa: E402
from dataset.video_file import decode_video, frame_rate  # noqa: E402
from libs import Segmenter  # noqa: E402
from libs.app.build import build_device  # noqa: E402
from libs.app.script import SignalHandler, run_with_error_messages  # noqa: E402
from libs.app.segmenter import SMALLEST_INPUT  # noqa: E402
from libs.core.errors import InputError, counted  # noqa: E402
from libs.core.image_io import write_image  # noqa: E402
from libs.core.masks import object_ids  # noqa: E402
from libs.core.structures import VideoIndex  # noqa: E402
from libs.evaluation.visualize import Mp4Writer, overlay  # noqa: E402

WAITING = 4  # frames that may wait for the network if none is dropped
RECENT = 1000  # frames whose latencies are kept for the median
RATE = 25.0  # frames per second of a video whose header names no rate, and of what is written of a camera
WINDOW = "stream"  # title
SILENT = 0  # log level of OpenCV


# ---- frames as they arrive --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arrival:
    """One frame, and when it arrived."""

    number: int  # 0 for the first
    image: np.ndarray  # (H, W, 3) uint8 RGB
    time: float  # in seconds


Frames = Generator[Arrival, None, None]


def play_video(
    path: Path,
    rate: float,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Frames:
    """Yield the frames of a video file when they are due: `rate` in a second, the first one at once.

    Raises: UnreadableError naming the file if no frame can be read.
    """
    start = None
    for number, (_, image) in enumerate(decode_video(path)):
        start = clock() if start is None else start
        due = start + number / rate
        sleep(max(0.0, due - clock()))
        # A frame that could not be taken in time has waited since then.
        yield Arrival(number, image, due)


def watch_camera(number: int, clock: Callable[[], float] = time.perf_counter) -> Frames:
    """Yield the frames of a camera until it gives none.

    Raises: InputError if it cannot be opened, or gives no frame at all.
    """
    cv2.setLogLevel(SILENT)  # the error below says it
    capture, count = cv2.VideoCapture(number), 0
    try:
        while capture.isOpened():
            found, image = capture.read()
            if not found:
                break
            yield Arrival(count, cv2.cvtColor(image, cv2.COLOR_BGR2RGB), clock())
            count += 1
    finally:
        capture.release()
    if not count:
        raise InputError(f"camera {number}: gives no frame; give the number of another one, or a video file")


class Live:
    """Takes frames from a source in a thread, while the network is busy. A context manager.

    Args:
        frames: the source.
        drop: keep the newest frame only. Else, up to WAITING frames wait, and then the source has to.
    """

    def __init__(self, frames: Frames, drop: bool) -> None:
        self._frames, self._drop = frames, drop
        self._waiting: deque[Arrival] = deque()
        self._changed = threading.Condition()  # holds all that is below and above
        self._ended, self._stopped = False, False  # by the source; by the reader
        self._error: BaseException | None = None  # of the source
        self._thread = threading.Thread(target=self._work, daemon=True, name="frames")

    def __enter__(self) -> "Live":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._thread.join(timeout=10)  # a camera may hang; the thread does not keep the process alive

    def take(self, stop: Callable[[], bool] = lambda: False) -> Arrival | None:
        """Take the next frame that arrived; wait for it. None at the end, or as soon as `stop` says so.

        Raises: the error of the source, after its last frame.
        """
        with self._changed:
            while not (self._waiting or self._ended or stop()):
                self._changed.wait(timeout=0.1)
            if stop():
                return None
            if self._waiting:
                self._changed.notify_all()
                return self._waiting.popleft()
            if self._error is not None:
                raise self._error
            return None

    def _work(self) -> None:
        """Take frames from the source until it ends."""
        try:
            with closing(self._frames):
                for arrival in self._frames:
                    if not self._put(arrival):
                        return
        except BaseException as error:  # `take` raises it in the other thread
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _put(self, arrival: Arrival) -> bool:
        """Let a frame wait. Returns: whether more are wanted."""
        with self._changed:
            if self._drop:
                self._waiting.clear()
            while len(self._waiting) >= WAITING and not self._stopped:
                self._changed.wait()
            self._waiting.append(arrival)
            self._changed.notify_all()
            return not self._stopped


# ---- what is shown and said of them -----------------------------------------------------------------------


class Latencies:
    """Sums up latencies in seconds, in bounded memory."""

    def __init__(self) -> None:
        self.count, self.worst = 0, 0.0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def add(self, latency: float) -> None:
        """Count one frame."""
        self.count, self.worst = self.count + 1, max(self.worst, latency)
        self._recent.append(latency)

    def describe(self) -> str:
        """Say the median, of the latest RECENT frames, and the worst."""
        last = f" of the last {RECENT} frames" if self.count > RECENT else ""
        median = np.median(self._recent) if self._recent else 0.0
        return f"latency{last}: {1000 * median:.0f} ms in the median, {1000 * self.worst:.0f} ms at worst"


def show(image: np.ndarray) -> bool:
    """Show an image (H, W, 3) uint8 RGB in a window. Returns: False after the key q.

    Raises: InputError if there is no display.
    """
    try:
        cv2.imshow(WINDOW, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        return cv2.waitKey(1) != ord("q")
    except cv2.error as error:
        raise InputError("--show: there is no display, or OpenCV was built without windows") from error


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Read the mask of the first frame, in any form that the data sets accept: (H, W) uint8 labels.

    Raises: InputError naming the file if it is missing, shows no object, or has another size than (H, W).
    """
    if not path.is_file():
        raise InputError(
            f"{path} does not exist; give the mask of the first frame (--snapshot saves that frame)"
        )
    labels = Annotations(VideoIndex(path.stem, (path,), {0: path}, binary=None)).read(0, size)
    if not object_ids(labels):
        raise InputError(f"{path}: expected a mask with at least one object, found background only")
    return labels


# ---- the script -------------------------------------------------------------------------------------------


def main() -> None:
    """Run the command line."""
    args = parse_arguments()
    camera, video = args.source.isdecimal(), Path(args.source)
    check_outputs(args, [path for path in (None if camera else video, args.mask) if path])
    rate = args.fps or (0.0 if camera else frame_rate(video)) or RATE
    frames = watch_camera(int(args.source)) if camera else play_video(video, rate)
    if args.snapshot:
        with closing(frames):
            write_image(args.snapshot, next(frames).image)
        print(f"wrote the first frame to {args.snapshot}")
        return
    if args.mask is None:
        raise InputError("MASK: expected the mask of the first frame; --snapshot FILE.png saves that frame")
    device = build_device(args.gpu_id)
    segmenter = Segmenter.load(args.weights, device=device, correct=args.correct, max_size=args.max_size)
    with SignalHandler() as signals:
        signals.defer()  # a signal ends the loop, and what was written so far is completed
        stream(args, segmenter, frames, rate, lambda: signals.requested is not None)
        signals.release()


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s SOURCE MASK ...",
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="video file, or number of a camera")
    add("mask", nargs="?", type=Path, metavar="MASK", help="mask of the first frame; 0 is background")
    add("--snapshot", type=Path, metavar="FILE.png", help="save the first frame, to draw its mask, and end")
    add("--drop", action="store_true", help="drop frames that are late: take the newest one")
    add("--fps", type=float, metavar="N", help="frames per second; without it, those of the video")
    add("--out", type=Path, metavar="FILE.mp4", help="write overlays of the frames that are segmented")
    add("--show", action="store_true", help="show overlays in a window; the key q ends it")
    add("--weights", default="shipped", metavar="W", help="file or name, as the key 'initial' takes it")
    add("--gpu-id", type=int, default=0, metavar="N", help="-1 is the CPU")
    add(
        "--max_size", "--max-size", type=int, default=427, metavar="N", help="network's longer side in pixels"
    )
    add("--correct", action="store_true", help="correct every fifth mask by its gradient")
    args = parser.parse_args()
    if args.fps is not None and not 0 < args.fps < float("inf"):
        parser.error(f"--fps: expected a number above 0, found {args.fps:g}")
    if args.max_size < SMALLEST_INPUT:
        parser.error(f"--max_size: expected at least {SMALLEST_INPUT}, found {args.max_size}")
    return args


def check_outputs(args: argparse.Namespace, inputs: list[Path]) -> None:
    """Check what is to be written, before anything is opened.

    Raises: InputError naming the option that would replace an input, or would write PNG under another suffix.
    """
    for option, output in (("--out", args.out), ("--snapshot", args.snapshot)):
        if output and any(is_same_file(output, path) for path in inputs):
            raise InputError(f"{option}: {output} is the input; give another file")
    if args.snapshot and args.snapshot.suffix.lower() != ".png":
        raise InputError(f"--snapshot: expected a file with the suffix .png, found {args.snapshot}")


def is_same_file(one: Path, other: Path) -> bool:
    """Whether both paths lead to one file that exists."""
    return one.exists() and other.exists() and one.samefile(other)


def stream(
    args: argparse.Namespace, segmenter: Segmenter, frames: Frames, rate: float, stop: Callable[[], bool]
) -> None:
    """Segment frames as they arrive, until they end or `stop` says so, and print how late each is."""
    arrival: Arrival | None = next(frames)  # the mask belongs to it, so it is never dropped
    assert arrival is not None
    mask: np.ndarray | None = read_mask(args.mask, arrival.image.shape[:2])
    latencies, start, last = Latencies(), arrival.time, -1
    with Mp4Writer(args.out, rate) if args.out else nullcontext() as writer, Live(frames, args.drop) as live:
        while arrival is not None:
            labels, mask = segmenter.step(arrival.image, mask), None
            now = time.perf_counter()
            latencies.add(now - arrival.time)
            print(describe(arrival, now - arrival.time, arrival.number - last - 1), flush=True)
            last = arrival.number
            if writer is not None:
                writer.add(overlay(arrival.image, labels))
            if args.show and not show(overlay(arrival.image, labels)):
                break
            arrival = live.take(stop)
    print(f"{latencies.count} frames in {time.perf_counter() - start:.1f} s; {latencies.describe()}")
    if args.drop:
        print(f"dropped {counted(last + 1 - latencies.count, 'late frame')} of {last + 1}")
    if args.out:
        print(f"wrote {args.out}")


def describe(arrival: Arrival, latency: float, dropped: int) -> str:
    """Format the line of one frame."""
    before = f", after {counted(dropped, 'dropped frame')}" if dropped else ""
    return f"frame {arrival.number:05d}: {1000 * latency:.0f} ms{before}"


if __name__ == "__main__":
    run_with_error_messages(main)
