"""What the page shows of a session: the frame with its masks, the time line, the line of text."""

import base64
import html
import math
import time
from io import BytesIO
from typing import Any

import cv2
import numpy as np
from PIL import Image

from demo.web.marks import MOST_OBJECTS
from demo.web.outline import Point
from demo.web.session import TOOLS, Session
from demo.web.timeline import colour_of, draw_timeline
from libs.core.errors import InputError
from libs.evaluation.visualize import overlay

LONGEST = 960  # pixels of the longer side of what is sent; larger frames are scaled down
MOST_POINTS = 20_000  # of a stroke


def frame_view(session: Session) -> dict[str, Any]:
    """What demo/web/canvas.js draws: the frame that is shown with its masks, and the objects."""
    if not session.loaded:
        return {}
    version = time.monotonic_ns() // 1000  # first: of two images, the one with the newer masks shall win
    session.shown = t = min(max(0, session.shown), len(session.video) - 1)
    prediction = session.prediction(t)
    height, width = session.video.size
    known = session.marks.objects()
    labels = {number: f"object {number}" for number in known}
    new = next((number for number in range(1, MOST_OBJECTS + 1) if number not in labels), None)
    if new is not None:
        labels[new] = f"object {new} (new)"
    image, running = prediction.frame.image, session.run.running
    return {
        "image": _data_url(overlay(image, prediction.labels)),
        "plain": "" if running else _data_url(image),  # left out while each frame counts
        "width": width,
        "height": height,
        "frame": t,
        "version": version,
        "objects": [{"id": k, "label": label, "colour": colour_of(k)} for k, label in labels.items()],
        "running": running,
    }


def timeline_view(session: Session) -> str:
    """The time line as SVG; empty if there is no video."""
    if not session.loaded:
        return ""
    marks = session.marks
    return draw_timeline(
        len(session.video),
        session.shown,
        masks=set(marks.labels.times),
        stale=set(marks.stale),
        given=set(marks.ids),
        drift=dict(session.drift),
    )


def line_view(line: str) -> str:
    """A line of text as HTML; errors stand out."""
    kind = "error" if line.startswith("Error:") else "note"
    return f'<p class="{kind}" role="status">{html.escape(line)}</p>'


def chosen(event: dict[str, Any]) -> tuple[int, int]:
    """Check what the browser says was chosen: a frame and an object. That the video has it is not checked.

    Raises: InputError if it is not what demo/web/canvas.js sends.
    """
    try:
        t, number = int(event["frame"]), int(event["object"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError("the page sent a frame or an object that cannot be read; do it again") from error
    if not 1 <= number <= MOST_OBJECTS:
        raise InputError(f"the page sent object {number}, expected 1 to {MOST_OBJECTS}; choose another one")
    return t, number


def drawn(session: Session, event: dict[str, Any]) -> tuple[int, int, str, list[Point], float]:
    """Check what the browser says was drawn: the arguments of Session.draw.

    Raises: InputError if it is not what demo/web/canvas.js sends.
    """
    height, width = session.video.size
    t, number = chosen(event)
    try:
        points = [(float(x) * width, float(y) * height) for x, y in event["points"]]
        radius = float(event["radius"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError("the page sent a stroke that cannot be read; draw it again") from error
    finite = all(math.isfinite(value) for point in points for value in point)
    within = finite and all(0 <= x <= width and 0 <= y <= height for x, y in points)
    if not (1 <= len(points) <= MOST_POINTS and within):
        raise InputError(
            "the page sent a stroke that leaves the frame, or has too many points; draw a shorter one"
        )
    if not (event.get("tool") in TOOLS and 0 < radius <= max(width, height)):
        raise InputError("the page sent a tool that does not exist; choose one above the frame")
    return t, number, event["tool"], points, radius


def _data_url(image: np.ndarray) -> str:
    """A JPEG of at most LONGEST pixels per side."""
    scale = min(1.0, LONGEST / max(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    packed = BytesIO()
    Image.fromarray(image).save(packed, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
