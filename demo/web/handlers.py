"""What happens on the page: each event changes the session of its tab, and returns what is shown then."""

import shutil
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
from demo.web.views import drawn, frame_view, line_view, timeline_view
from libs.app.script import error_message
from libs.core.errors import InputError

Shown = tuple[Any, ...]  # frame, its slider, time line, line of text; see `show`


class Handlers:
    """The listeners of the page's events."""

    def __init__(self, sessions: Sessions, library: Library) -> None:
        self.sessions, self.library = sessions, library

    # ---- video --------------------------------------------------------------------------------------------

    def load_bundled(self, request: gr.Request) -> Shown:
        """Load the clip that comes with the project."""
        return self._do(request, lambda session: session.load(bundled_clip()), frame=0)

    def load_chosen(self, name: str | None, request: gr.Request) -> Shown:
        """Load a video of the folder that the command line names."""
        return self._do(request, lambda session: session.load(self.library.find(name or "")), frame=0)

    def load_only(self, request: gr.Request) -> Shown:
        """Load the video that the command line names, if it is only one."""
        (name,) = self.library.names()
        return self.load_chosen(name, request)

    def load_upload(self, path: str, request: gr.Request, progress: gr.Progress = gr.Progress()) -> Shown:  # noqa: B008
        """Load an uploaded film, and remove the file: its frames are kept."""

        def load(session: Session) -> None:
            """Show how far it has come."""
            upload = self._uploaded(path)
            session.load(upload, lambda count: progress((count, None), desc="reading frames"))

        return self._do(request, load, upload=path, frame=0)

    # ---- masks --------------------------------------------------------------------------------------------

    def draw(self, event: gr.EventData, request: gr.Request) -> Shown:
        """Change a mask by what was drawn in the frame."""
        return self._do(request, lambda session: session.draw(*drawn(session, event._data)))

    def load_mask(self, path: str, request: gr.Request) -> Shown:
        """Load a mask for the frame that is shown."""

        def load(session: Session) -> None:
            """Give it to the session."""
            session.load_mask(session.shown, self._uploaded(path))

        return self._do(request, load, upload=path)

    def remove(self, event: gr.EventData, request: gr.Request) -> Shown:
        """End an object before the frame that is shown."""
        return self._do(request, lambda session: session.remove(session.shown, int(event._data["object"])))

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
            session.shown = int(t)
            session.following = session.shown == session.newest

        return self._do(request, scrub)

    def click_timeline(self, event: gr.EventData, request: gr.Request) -> Shown:
        """Show the frame at the place that was clicked."""

        def click(session: Session) -> None:
            """Turn a fraction of the width into a frame."""
            session.shown = frame_at(float(event._data["fraction"]), len(session.film))
            session.following = False

        return self._do(request, click)

    def go_to_drop(self, request: gr.Request) -> Shown:
        """Show the frame in which the round trip IoU of an object falls most."""

        def go(session: Session) -> None:
            """Say what falls there."""
            drop = session.largest_drop()
            if drop is None:
                raise InputError("the round trip IoU falls nowhere; track first")
            session.shown, number, before, after = drop
            session.following = False
            session.line = (
                f"Object {number}: the round trip IoU falls from {before:.2f} to {after:.2f} at frame "
                f"{session.shown}. Look from there back, correct the mask, and track on."
            )

        return self._do(request, go)

    def track(self, request: gr.Request) -> Iterator[Shown]:
        """Track from the frame that is shown to the end, and show the masks as they come."""

        def start(session: Session) -> None:
            """Follow the newest mask."""
            session.start(session.shown)
            session.following = True

        yield self._do(request, start)
        session = self._session(request)
        while session is not None and session.run.running:
            session.run.wait(session.run.steps, 1.0)
            yield self._show(session, session.newest if session.following else None)
        if session is not None:
            yield self._show(session, session.newest if session.following else None)

    def stop(self, request: gr.Request) -> None:
        """End tracking; the masks made so far stay. The listener of `track` shows them."""
        session = self._session(request)
        if session is not None:
            session.run.stop()

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
        return gr.File(str(path) if path else None, visible=path is not None), line

    def close(self, request: gr.Request) -> None:
        """Remove all that belongs to a tab that was closed."""
        self.sessions.close(request.session_hash or "")

    # ---- common -------------------------------------------------------------------------------------------

    def _session(self, request: gr.Request) -> Session | None:
        """The tab's session; None if there are too many."""
        try:
            return self.sessions.of(request.session_hash or "")
        except InputError:
            return None

    def _do(
        self,
        request: gr.Request,
        action: Callable[[Session], object],
        *,
        upload: str | None = None,
        frame: int | None = None,
    ) -> Shown:
        """Let a session do something. An error becomes the line of text.

        Args:
            upload: an uploaded file, which is removed afterwards.
            frame: to be shown afterwards; default: the one that was shown.
        """
        session = None
        with collect_warnings() as warned:
            try:
                session = self.sessions.of(request.session_hash or "")
                action(session)
                line = session.line
            except Exception as error:
                line = f"Error: {self._describe(error, upload)}"
            finally:
                if upload is not None:
                    shutil.rmtree(Path(upload).parent, ignore_errors=True)
        line = " ".join([line, *(f"Warning: {text}" for text in warned)])
        if session is None:
            return gr.skip(), gr.skip(), gr.skip(), line_view(line)
        session.line = line
        return self._show(session, frame)

    def _show(self, session: Session, frame: int | None) -> Shown:
        """Show a session: one value for each output of the page's events."""
        try:
            view = frame_view(session, session.shown if frame is None else frame)
        except InputError as error:  # a frame that cannot be read, or a tab that was closed
            return gr.skip(), gr.skip(), gr.skip(), line_view(f"Error: {error}")
        last = len(session.film) - 1 if session.loaded else 0
        slider = gr.Slider(maximum=max(1, last), value=view.get("frame", 0), interactive=session.loaded)
        return view, slider, timeline_view(session), line_view(session.line)

    def _uploaded(self, path: str) -> Path:
        """The path of an uploaded file.

        Raises: InputError if it lies elsewhere.
        """
        file = Path(path).resolve()
        if not file.is_relative_to(self.sessions.folder.resolve()) or not file.is_file():
            raise InputError("expected an uploaded file; upload it again")
        return file

    def _describe(self, error: Exception, upload: str | None) -> str:
        """The line for an error, with the name of an uploaded file in place of its temporary path."""
        message = "the image cannot be processed" if isinstance(error, cv2.error) else error_message(error)
        if not message:
            traceback.print_exception(error)
            return BUG
        if upload is not None:
            message = message.replace(str(Path(upload).resolve()), Path(upload).name)
        return " ".join(message.split())
