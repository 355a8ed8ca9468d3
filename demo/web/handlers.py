"""What happens on the page: each event changes the session of its tab, and returns what is shown then."""

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import gradio as gr

from demo.web.background import BUG
from demo.web.downloads import save
from demo.web.library import Library, bundled_clip
from demo.web.notices import collect_warnings
from demo.web.session import Session
from demo.web.sessions import Sessions
from demo.web.timeline import frame_at
from demo.web.upload import Upload
from demo.web.views import chosen, drawn, frame_view, line_view, timeline_view
from libs.app.script import error_message
from libs.core.errors import InputError

Shown = tuple[Any, ...]  # frame, its slider, time line, Stop, LOCKED buttons, line of text; see `_show`
LOCKED = 5  # what cannot be used while masks are tracked: bundled clip, upload, choice, mask, Track


class Handlers:
    """The listeners of the page's events."""

    def __init__(self, sessions: Sessions, library: Library) -> None:
        self.sessions, self.library = sessions, library

    # ---- video --------------------------------------------------------------------------------------------

    def load_bundled(self, request: gr.Request) -> Shown:
        """Load the clip that comes with the project."""
        return self._do(request, lambda session: session.load(bundled_clip()))

    def load_chosen(self, name: str | None, request: gr.Request) -> Shown:
        """Load a video of the folder that the command line names."""
        return self._do(request, lambda session: session.load(self.library.find(name or "")))

    def load_only(self, request: gr.Request) -> Shown:
        """Load the video that the command line names, if it is only one."""
        (name,) = self.library.names()
        return self.load_chosen(name, request)

    def load_upload(
        self,
        path: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> Shown:
        """Load an uploaded video, and remove the file: its frames are kept."""

        def load(session: Session, file: Path) -> None:
            """Show how far it has come."""
            session.load(file, lambda count: progress((count, None), desc="reading frames"))

        return self._do_with_upload(request, path, load)

    # ---- masks --------------------------------------------------------------------------------------------

    def draw(self, event: gr.EventData, request: gr.Request) -> Shown:
        """Change a mask by what was drawn in the frame."""
        return self._do(request, lambda session: session.draw(*drawn(session, event._data)))

    def load_mask(self, path: str, request: gr.Request) -> Shown:
        """Load a mask for the frame that is shown."""
        return self._do_with_upload(
            request, path, lambda session, file: session.load_mask(session.shown, file)
        )

    def remove(self, event: gr.EventData, request: gr.Request) -> Shown:
        """End an object before the frame that the browser shows."""
        return self._do(request, lambda session: session.remove(*chosen(event._data)))

    def undo(self, request: gr.Request) -> Shown:
        """Take back the latest change, and show its frame."""

        def undo(session: Session) -> None:
            """Go to the frame that has changed."""
            session.shown = session.undo()

        return self._do(request, undo)

    # ---- frames and tracking ------------------------------------------------------------------------------

    def scrub(self, t: float, request: gr.Request) -> Shown:
        """Show another frame; while masks are tracked, do not follow them any more."""

        def scrub(session: Session) -> None:
            """Remember what the person looks at."""
            session.following = int(t) == session.newest  # first: `track` changes `shown` while it is true
            session.shown = int(t)

        return self._do(request, scrub)

    def click_timeline(self, event: gr.EventData, request: gr.Request) -> Shown:
        """Show the frame at the place that was clicked."""

        def click(session: Session) -> None:
            """Turn a fraction of the width into a frame."""
            session.following = False
            session.shown = frame_at(float(event._data["fraction"]), len(session.video))

        return self._do(request, click)

    def go_to_drop(self, request: gr.Request) -> Shown:
        """Show the frame in which the round trip IoU of an object falls most, and choose the object."""
        choose: int | None = None

        def go(session: Session) -> None:
            """Say what falls there."""
            nonlocal choose
            drop = session.largest_drop()
            if drop is None:
                falls = "the round trip IoU falls nowhere; track first"
                raise InputError(falls if session.loaded else "load a video first")
            session.following = False
            session.shown, choose, before, after = drop
            session.line = (
                f"Object {choose}: the round trip IoU falls from {before:.2f} to {after:.2f} at frame "
                f"{session.shown}. Look from there back, correct the mask, and track on."
            )

        view, *others = self._do(request, go)
        if choose is not None and "image" in view:
            view["choose"] = choose
        return view, *others

    def track(self, request: gr.Request) -> Iterator[Shown]:
        """Track from the frame that is shown to the end, and show the masks as they come."""

        started: list[Session] = []

        def start(session: Session) -> None:
            """Follow the newest mask."""
            session.start(session.shown)
            session.following = True
            started.append(session)

        yield self._do(request, start)
        for session in started:
            while session.run.running:
                session.run.wait(session.run.steps, 1.0)
                yield self._show_newest(session)
            yield self._show_newest(session)

    def stop(self, request: gr.Request) -> None:
        """End tracking; the masks made so far stay. The listener of `track` shows them."""
        self.sessions.stop(request.session_hash or "")

    # ---- results ------------------------------------------------------------------------------------------

    def download(
        self,
        kind: str,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008
    ) -> tuple[Any, str]:
        """Write a file, and offer it."""
        path = None

        def write(session: Session) -> None:
            """Say what is in it."""
            nonlocal path
            path, content = save(session, kind, lambda done, total: progress((done, total), desc=kind))
            session.line = f"{path.name}: {content}, {max(1, path.stat().st_size // 1000)} kB."

        line = self._do(request, write)[-1]
        if path is None:
            return gr.DownloadButton(visible=False), line
        return gr.DownloadButton(f"Download {path.name}", str(path), visible=True), line

    def close(self, request: gr.Request) -> None:
        """Remove all that belongs to a tab that was closed."""
        self.sessions.close(request.session_hash or "")

    # ---- common -------------------------------------------------------------------------------------------

    def _do_with_upload(
        self, request: gr.Request, path: str, action: Callable[[Session, Path], object]
    ) -> Shown:
        """Let a session do something with an uploaded file, which is removed afterwards."""
        upload = Upload(path, self.sessions.folder)
        try:
            return self._do(
                request, lambda session: action(session, upload.take(session.folder)), upload.shorten
            )
        finally:
            upload.remove()

    def _do(
        self,
        request: gr.Request,
        action: Callable[[Session], object],
        shorten: Callable[[str], str] = lambda text: text,
    ) -> Shown:
        """Let a session do something. An error becomes the line of text.

        Args:
            shorten: applied to that line.
        """
        session = None
        with collect_warnings() as warned:
            try:
                session = self.sessions.of(request.session_hash or "")
                action(session)
                line = session.line
            except Exception as error:
                line = f"Error: {describe(error)}"
        line = shorten(" ".join([line, *(f"Warning: {text}" for text in warned)]))
        if session is None:
            return *[gr.skip()] * (4 + LOCKED), line_view(line)
        session.line = line
        return self._show(session)

    def _show_newest(self, session: Session) -> Shown:
        """Show a session, and the newest frame unless the person looks at another one."""
        if session.following:
            session.shown = session.newest
        return self._show(session)

    def _show(self, session: Session) -> Shown:
        """Show a session: one value for each output of the page's events."""
        running = session.run.running
        buttons = gr.update(interactive=running), *[gr.update(interactive=not running)] * LOCKED
        try:
            view = frame_view(session)
        except (InputError, OSError) as error:  # a frame that cannot be read, or a tab that was closed
            return *[gr.skip()] * 3, *buttons, line_view(f"Error: {error_message(error)}")
        last = len(session.video) - 1 if session.loaded else 0
        slider = gr.Slider(maximum=max(1, last), value=view.get("frame", 0), interactive=session.loaded)
        return view, slider, timeline_view(session), *buttons, line_view(session.line)


def describe(error: Exception) -> str:
    """The line for an error; a bug is printed as well."""
    message = "the image cannot be processed" if isinstance(error, cv2.error) else error_message(error)
    if not message:
        traceback.print_exception(error)
        return BUG
    return " ".join(message.split())
