"""The layout of the page, and which event calls which handler."""

from pathlib import Path

import gradio as gr

from demo.web.downloads import DOWNLOADS
from demo.web.handlers import Handlers
from demo.web.library import Library
from demo.web.sessions import Sessions
from demo.web.views import line_view
from libs.core.errors import InputError

HERE = Path(__file__).resolve().parent
FONTS = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}  # on every machine
CSS = """
.gradio-container { max-width: 1500px !important; }
#line { border-left: 4px solid #1d4ed8; padding: 6px 10px; background: #eff6ff; color: #18181b; }
#line:has(.error) { border-color: #b91c1c; background: #fef2f2; }
#line .error { color: #b91c1c; margin: 0; } #line .note { margin: 0; }
#timeline svg { width: 100%; cursor: pointer; display: block; }
"""
LEGEND = (
    "Green: has a mask. Blue: drawn by hand. Orange: from before a change. Curves: the **round trip IoU** of "
    "each object, that of its mask with itself, predicted back from that frame. Click to go to a frame."
)
CLICK = """
element.addEventListener("click", (event) => {
  const box = element.querySelector("svg").getBoundingClientRect();
  trigger("select", { fraction: (event.clientX - box.left) / box.width });
});
"""
AT_ONCE = {"show_progress": "hidden", "api_visibility": "private"}
SLOW = {"show_progress": "minimal", "api_visibility": "private"}


def build_page(sessions: Sessions, library: Library) -> gr.Blocks:
    """Build the page."""
    handlers = Handlers(sessions, library)
    with gr.Blocks(title="STM-Cycle", analytics_enabled=False, fill_width=True) as page:
        with gr.Row():
            with gr.Column(scale=3):
                line = gr.HTML(line_view("Load a video."), elem_id="line")
                frame = _new_canvas()
                slider = gr.Slider(0, 1, 0, step=1, label="Frame", interactive=False, elem_id="frame")
                timeline = gr.HTML("", js_on_load=CLICK, elem_id="timeline")
                gr.Markdown(LEGEND)
            with gr.Column(scale=1, min_width=300):
                bundled, upload, choice = _add_video_step(library)
                mask = _add_mask_step()
                track, stop, drop = _add_tracking_step()
                _add_download_step(handlers, line)
        shown = [frame, slider, timeline, stop, bundled, upload, choice, mask, track, line]
        bundled.click(handlers.load_bundled, None, shown, **SLOW)
        upload.upload(handlers.load_upload, upload, shown, **SLOW)
        choice.input(handlers.load_chosen, choice, shown, **SLOW)
        mask.upload(handlers.load_mask, mask, shown, **SLOW)
        track.click(handlers.track, None, shown, **AT_ONCE)
        stop.click(handlers.stop, None, None, **AT_ONCE)
        drop.click(handlers.go_to_drop, None, shown, **AT_ONCE)
        frame.select(handlers.draw, None, shown, trigger_mode="multiple", **AT_ONCE)
        frame.delete(handlers.remove, None, shown, **AT_ONCE)
        frame.undo(handlers.undo, None, shown, **AT_ONCE)
        slider.input(handlers.scrub, slider, shown, trigger_mode="always_last", **AT_ONCE)
        timeline.select(handlers.click_timeline, None, shown, **AT_ONCE)
        if len(library.names()) == 1:
            page.load(handlers.load_only, None, shown, **SLOW)
        page.unload(handlers.close)
    page.queue(default_concurrency_limit=16)  # tabs do not wait for each other
    return page


def _new_canvas() -> gr.HTML:
    """The frame in which a person draws."""
    text = {kind: (HERE / f"canvas.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")}
    return gr.HTML(
        {}, html_template=text["html"], css_template=text["css"], js_on_load=text["js"], elem_id="canvas"
    )


def _new_upload(label: str, elem_id: str) -> gr.UploadButton:
    """A button that takes files from the person's disk only; gradio's own would download an address, too."""
    button = gr.UploadButton(label, size="md", elem_id=elem_id)
    move = button.async_move_resource_to_block_cache

    async def move_file(path: str | None) -> str | None:
        """Refuse addresses."""
        if "://" in str(path):
            raise InputError("expected an uploaded file")
        return await move(path)

    button.async_move_resource_to_block_cache = move_file
    return button


def _add_video_step(library: Library) -> tuple[gr.Button, gr.UploadButton, gr.Dropdown]:
    with gr.Column():
        gr.Markdown("**1. Video.** Load the bundled clip, or upload a video.")
        bundled = gr.Button("Load the bundled clip", size="md", elem_id="bundled")
        upload = _new_upload("Upload a video", elem_id="upload")
        root = "" if library.root is None else library.root.name
        names = [(root if name == "." else name, name) for name in library.names()]
        choice = gr.Dropdown(
            names, value=None, label=f"or one of {root}", visible=library.root is not None, elem_id="choice"
        )
    return bundled, upload, choice


def _add_mask_step() -> gr.UploadButton:
    with gr.Column():
        gr.Markdown(
            "**2. Masks.** Choose an object above the frame and drag a box around it. Refine it with strokes "
            "(Inside, Outside), or paint and erase. Choose the new object for the next one."
        )
        return _new_upload("Load a mask (PNG) for this frame", elem_id="mask")


def _add_tracking_step() -> tuple[gr.Button, gr.Button, gr.Button]:
    with gr.Column():
        gr.Markdown(
            "**3. Track** from the frame that is shown to the end. Stop where a mask goes wrong, correct it, "
            "and track on."
        )
        track = gr.Button("Track from here", variant="primary", size="md", elem_id="track")
        stop = gr.Button("Stop", variant="stop", size="md", interactive=False, elem_id="stop")
        drop = gr.Button("Go to the largest drop of the round trip IoU", size="md", elem_id="drop")
    return track, stop, drop


def _add_download_step(handlers: Handlers, line: gr.HTML) -> None:
    with gr.Column():
        gr.Markdown("**4. Download** what has been made so far.")
        kind = gr.Dropdown(list(DOWNLOADS), label="format", elem_id="kind")
        make = gr.Button("Make the file", size="md", elem_id="make")
        file = gr.DownloadButton(visible=False, size="md", elem_id="file")
    make.click(handlers.download, kind, [file, line], **SLOW)
