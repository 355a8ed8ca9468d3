"""What one tab of the page works on: a video, its masks, and the run that tracks them."""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np

from dataset.annotations import Annotations
from demo.web.background import BackgroundRun
from demo.web.loaded_video import LoadedVideo, load_video
from demo.web.marks import MarkedVideo, impose
from demo.web.outline import Outline, Point, brush
from demo.web.tracker import Tracker
from libs.app.segmenter import Segmenter
from libs.core.errors import InputError, counted
from libs.core.image_io import image_size, save_index_png
from libs.core.masks import keep_objects, object_ids
from libs.core.structures import Prediction, SourceFrame, VideoIndex

DRIFT_EVERY = 5  # frames
TOOLS = ("box", "inside", "outside", "paint", "erase")


class Session:
    """A video and its masks on disk, and a segmenter. All methods may be called from any thread.

    line: the newest message.
    shown: the frame that the page shows; following: whether it shows the newest one while masks are tracked.
    newest: the frame that was tracked last; drift: frame -> object -> round trip IoU.

    Args:
        new_segmenter: creates a segmenter; the network is shared by all sessions.
        folder: of its own, and there already; `close` removes it. `place` in it has the files of the video.
        computing: held while the network runs, so that tabs take turns.
    """

    def __init__(
        self, new_segmenter: Callable[[], Segmenter], folder: Path, computing: AbstractContextManager
    ) -> None:
        self.folder = self.place = folder
        self.line = "Load a video."
        self.shown = self.newest = 0
        self.following = True
        self.drift: dict[int, dict[int, float]] = {}
        self.run = BackgroundRun(self._tell)
        self._new_segmenter, self._computing = new_segmenter, computing
        self._lock = threading.RLock()
        self._closed = False
        self._readers = 0  # blocks of `keep_video` that are running
        self._video: LoadedVideo | None = None
        self._outline: tuple[int, int, Outline] | None = None  # frame, object, and what was drawn of it

    # ---- the video ----------------------------------------------------------------------------------------

    def load(self, path: Path, progress: Callable[[int], None] = lambda count: None) -> None:
        """Open a folder of frames or a video file, in place of the video before.

        Args:
            progress: called with the number of frames that were taken out of a video file so far.
        Raises: InputError naming it, or while a file is made of the video before; then that video stays.
        """

        def report(count: int) -> None:
            """Tell the caller, unless the tab was closed meanwhile."""
            if self._closed:
                raise InputError("the tab was closed")
            progress(count)

        with self._idle():
            if self._readers:
                raise InputError("a file is being made of this video; wait for it, then load the other one")
            place = Path(tempfile.mkdtemp(dir=self.folder))
            try:
                video = load_video(path, place / "frames", report)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
            if self._video is not None:
                shutil.rmtree(self.place, ignore_errors=True)
            self.place, self.marks = place, MarkedVideo(place / "masks", video.size)
            self._tracker = Tracker(self._new_segmenter())
            self._video, self._outline, self.drift = video, None, {}
            self.shown = self.newest = 0
            height, width = video.size
            size = f"{counted(len(video), 'frame')} of {width}x{height} pixels"
            self.line = f"{video.name}: {size}. Drag a box around the first object."

    @property
    def video(self) -> LoadedVideo:
        """The video that was loaded last.

        Raises: InputError if none was loaded.
        """
        if self._video is None:
            raise InputError("load a video first")
        return self._video

    @contextmanager
    def keep_video(self) -> Iterator[None]:
        """Within the block, no other video can be loaded. It waits for one that is being loaded already."""
        with self._lock:
            self._readers += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= 1

    @property
    def loaded(self) -> bool:
        """Whether there is a video."""
        return self._video is not None

    def close(self) -> None:
        """Stop, and remove all files."""
        self._closed = True
        self.run.stop()
        with self._lock:
            self._video = None
            shutil.rmtree(self.folder, ignore_errors=True)

    # ---- masks --------------------------------------------------------------------------------------------

    def draw(self, t: int, number: int, tool: str, points: Sequence[Point], radius: float) -> None:
        """Change the mask of an object in frame t by what was drawn.

        Args:
            number: id of the object, 1 to 254.
            tool: one of TOOLS.
            points: (x, y) in pixels of the frame; of a box, the first and last are opposite corners.
            radius: of the brush in pixels; it has no meaning for a box.
        Raises: InputError if nothing comes of it.
        """
        with self._lock:
            with self._changing(t):
                mask, outline = self._drawn(t, number, tool, points, radius)
                self.marks.mark(t, number, mask)
            self._outline = (t, number, outline) if outline else None
        self._say_changed(f"Frame {t}: changed object {number}.")

    def load_mask(self, t: int, path: Path) -> None:
        """Give the masks of all objects that an image file shows in frame t.

        Raises: InputError naming the file.
        """
        with self._changing(t):
            (height, width), found = self.video.size, image_size(path)
            if found != (height, width):
                raise InputError(
                    f"{path}: expected the size of the frames, {width}x{height}, found "
                    f"{found[1]}x{found[0]}; scale the mask"
                )
            index = VideoIndex(self.video.name, self.video.frames, {t: path}, binary=None)
            shown = Annotations(index).read(t)
            ids = object_ids(shown)
            if not ids:
                raise InputError(f"{path}: expected a mask with at least one object, found background only")
            given, new = self.marks.given.read(t), keep_objects(shown, ids)  # without void
            self.marks.give(t, new if given is None else impose(given, new))
        self._say_changed(f"Frame {t}: loaded the masks of {counted(len(ids), 'object')}.")

    def remove(self, t: int, number: int) -> None:
        """End an object before frame t.

        Raises: InputError if it is not there.
        """
        with self._changing(t):
            self.marks.remove(t, number)
        self._say_changed(f"Removed object {number} from frame {t} on.")

    def undo(self) -> int:
        """Take back the latest change of a mask. Returns: the frame it was in.

        Raises: InputError if there is none.
        """
        with self._idle():
            self._check_frame(0)
            t = self.marks.undo()
            self._forget_from(t)
        self._say_changed(f"Took back the latest change, in frame {t}.")
        return t

    @contextmanager
    def _changing(self, t: int) -> Iterator[None]:
        """Within the block, masks of frame t may change. Then what depends on them is forgotten."""
        with self._idle():
            self._check_frame(t)
            yield
            self._forget_from(t)

    def _say_changed(self, line: str) -> None:
        """Show what has changed, and what to do if masks are from before."""
        advice = " The masks in orange below are from before: track again from here."
        self.line = line + (advice if self.marks.stale and self.marks.objects() else "")

    def _forget_from(self, t: int) -> None:
        self._outline = None
        self._tracker.forget_from(t)
        self.drift = {time: ious for time, ious in self.drift.items() if time < t}

    def _drawn(
        self, t: int, number: int, tool: str, points: Sequence[Point], radius: float
    ) -> tuple[np.ndarray, Outline | None]:
        """The mask of an object after something was drawn, and the outline that further strokes refine."""
        if tool in ("paint", "erase"):
            mask, drawn = self.marks.read(t) == number, brush(self.video.size, points, radius)
            return (mask | drawn if tool == "paint" else mask & ~drawn), None
        outline = self._outline_of(t, number)
        if tool == "box":
            outline.start_from_box((*points[0], *points[-1]))
        else:
            outline.stroke(points, radius, inside=tool == "inside")
        return outline.solve(), outline

    def _outline_of(self, t: int, number: int) -> Outline:
        """A copy of what was drawn of an object so far, or an outline that starts from its mask."""
        if self._outline and self._outline[:2] == (t, number):
            return self._outline[2].copy()  # a stroke of which nothing comes leaves no trace
        labels = self.marks.read(t)
        outline = Outline(self.video.image(t), (labels > 0) & (labels != number))
        outline.start_from_mask(labels == number)
        return outline

    @contextmanager
    def _idle(self) -> Iterator[None]:
        """Within the block, no other thread tracks or changes a mask.

        Raises: InputError while masks are being tracked, or after `close`.
        """
        with self._lock:
            if self._closed:
                raise InputError("the tab was closed; reload the page")
            if self.run.running:
                raise InputError("stop tracking first")
            yield

    def _check_frame(self, t: int) -> None:
        if not 0 <= t < len(self.video):
            raise InputError(f"frame {t}: expected a number from 0 to {len(self.video) - 1}")

    # ---- tracking -----------------------------------------------------------------------------------------

    def start(self, t: int) -> None:
        """Track from frame t to the end in a thread, `run`.

        Raises: InputError if no object is marked.
        """
        with self._idle():
            self._check_frame(t)
            if not self.marks.objects():
                raise InputError("mark an object first: choose a tool and draw in the frame")
            self.run.start(self.track(t))

    def track(self, t: int) -> Iterator[int]:
        """Track from frame t to the end. Yields the frames whose masks were written.

        It starts before frame t if frame t depends on masks that are not there yet.
        """
        first, last = self._tracker.go_back(t), len(self.video) - 1
        begun = time.monotonic()
        for now in range(first, last + 1):
            image = self.video.image(now)
            with self._computing:
                given, removed = self.marks.given.read(now), self.marks.removed.get(now, ())
                labels = self._tracker.step(image, given, removed)
                ious = self._tracker.drift() if now % DRIFT_EVERY == 0 or now == last else {}
            self.marks.predicted(now, labels)
            if ious:
                self.drift = {**self.drift, now: ious}  # others may be reading it
            self.newest = now
            seconds = time.monotonic() - begun
            speed = (now + 1 - first) / seconds
            if now == last:
                rate = f"{seconds:.0f} s, {speed:.1f} frames per second"
                self.line = f"Done: masks to frame {now} in {rate}. Check the curves, correct, or download."
            elif self.run.stopping:
                self.line = f"Stopped after frame {now}. Correct a mask and track from there, or download."
            else:
                left = f"{speed:.1f} frames per second, {(last - now) / speed:.0f} s left"
                self.line = f"Tracked frame {now} of {last}: {left}."
            yield now

    def _tell(self, error: str, warned: list[str]) -> None:
        """Show how a run has ended."""
        line = f"Error: {error}" if error else self.line
        self.line = " ".join([line, *(f"Warning: {text}" for text in warned)])

    # ---- results ------------------------------------------------------------------------------------------

    def prediction(self, t: int) -> Prediction:
        """Frame t with its labels, zeros if it has none."""
        video, ids = self.video, self.marks.objects()
        frame = SourceFrame(video.names[t], video.image(t), file=video.frames[t].name)
        return Prediction(frame, self.marks.read(t), None, ids=tuple(ids))

    def packed_mask(self, t: int) -> bytes:
        """The labels of frame t as the bytes of a palette PNG."""
        with self._lock:
            path = self.place / "packed.png"
            save_index_png(path, self.marks.read(t))
            return path.read_bytes()

    def largest_drop(self) -> tuple[int, int, float, float] | None:
        """Find the largest drop of an object's round trip IoU between two measurements; the first is from 1.

        Returns: frame, object, IoU before, IoU in that frame; None if it falls nowhere.
        """
        falls = []
        before: dict[int, float] = {}
        for t in sorted(self.drift):
            for number, iou in self.drift[t].items():
                falls.append((before.get(number, 1.0) - iou, (t, number, before.get(number, 1.0), iou)))
                before[number] = iou
        fall, where = max(falls, default=(0.0, None))
        return where if fall > 0 else None
