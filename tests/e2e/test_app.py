"""The page of demo/app.py in a real browser: what a person draws, tracks, corrects, removes and downloads.

Screenshots of each step go to the folder that the variable SCREENSHOTS names, if it is set. The network then
sees frames at the usual size, so that they show what it can do.
"""

import os
import signal
import socket
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from demo.web.library import bundled_clip
from libs.core.image_io import read_image
from tests.helpers import fake_datasets
from tests.helpers.browser import open_page
from tests.helpers.subprocess_runner import ForkedScript

LONGEST_STEP = 300_000  # milliseconds, on a busy machine
SCREENSHOTS = os.environ.get("SCREENSHOTS")
MAX_SIZE = 427 if SCREENSHOTS else 160  # pixels of the network's longer side: small, to be quick
CLIP = bundled_clip()
ZIP = "dogs_jump_masks.zip"
MJPG = cv2.VideoWriter.fourcc(*"MJPG")


@dataclass
class App:
    """A page that is being served."""

    address: str
    process: ForkedScript
    temporary: Path  # its folder of temporary files


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """demo/app.py with two videos to choose from; a signal ends it, and it leaves no file."""
    pytest.importorskip("gradio", reason="needs the packages of requirements-web.txt")
    videos, temporary = tmp_path_factory.mktemp("app") / "my_videos", tmp_path_factory.mktemp("temporary")
    for name in ("one", "two"):
        fake_datasets.folder(videos / name, name=name, frames=3)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("--port", port, "--max_size", MAX_SIZE, "--video", videos)
    process = ForkedScript("demo/app.py", *words, before=lambda: setattr(tempfile, "tempdir", str(temporary)))
    wait_for_port(process, port)
    yield App(f"http://127.0.0.1:{port}", process, temporary)
    process.send(signal.SIGTERM)
    result = process.wait()
    assert result.code == 128 + signal.SIGTERM and "Traceback" not in result.err, result
    assert result.out.startswith(f"the page is at http://127.0.0.1:{port}")
    assert list(temporary.iterdir()) == []


def wait_for_port(process: ForkedScript, port: int) -> None:
    end = time.monotonic() + 120
    while process.is_running() and time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(str(process.wait(1)))


class Tab:
    """What a person does in one tab."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.steps = 0
        page.set_default_timeout(LONGEST_STEP)
        page.goto(address)
        page.wait_for_selector("#bundled")

    @property
    def line(self) -> str:
        """The line of text above the frame."""
        return self.page.locator("#line").inner_text().strip()

    def wait_for_line(self, words: str) -> None:
        self.page.wait_for_function(
            "words => document.querySelector('#line').innerText.includes(words)", arg=words
        )

    def load_clip(self) -> None:
        self.page.click("#bundled")
        self.page.wait_for_selector("#canvas canvas[data-frame='0']")

    def choose(self, tool: str, number: int) -> None:
        self.page.click(f"#canvas [data-tool={tool}]")
        self.page.click(f"#canvas [data-object='{number}']")

    def drag(self, *points: tuple[float, float], look: str = "") -> None:
        """Drag along points (x, y), in pixels of the clip's frames, and wait for the new image."""
        canvas = self.page.locator("#canvas canvas")
        box, (height, width) = canvas.bounding_box(), read_image(CLIP / "00000.jpg").shape[:2]
        places = [
            (box["x"] + x / width * box["width"], box["y"] + y / height * box["height"]) for x, y in points
        ]
        version = canvas.get_attribute("data-version")
        self.page.mouse.move(*places[0])
        self.page.mouse.down()
        for place in places[1:]:
            self.page.mouse.move(*place, steps=3)
        if look:
            self.look(look, "#canvas")
        self.page.mouse.up()
        self.wait_for_new_image(version)

    def pixels(self) -> str:
        """What the canvas shows."""
        return self.page.evaluate("document.querySelector('#canvas canvas').toDataURL()")

    def wait_for_pixels(self, comparison: str, pixels: str) -> None:
        self.page.wait_for_function(
            f"old => document.querySelector('#canvas canvas').toDataURL() {comparison} old", arg=pixels
        )

    def wait_for_new_image(self, version: str) -> None:
        self.page.wait_for_selector(f"#canvas canvas:not([data-version='{version}'])")

    def go_to(self, t: int) -> None:
        number = self.page.locator("#frame input[type=number]")
        number.fill(str(t))
        number.press("Enter")
        self.page.wait_for_selector(f"#canvas canvas[data-frame='{t}']")

    def wait_for_frame(self, t: int) -> None:
        """Wait until frame t or a later one is shown; while masks are tracked, some are left out."""
        self.page.wait_for_function(
            "t => Number(document.querySelector('#canvas canvas').dataset.frame) >= t", arg=t
        )

    def click(self, selector: str) -> None:
        """Click, and wait for the new image."""
        version = self.page.locator("#canvas canvas").get_attribute("data-version")
        self.page.click(selector)
        self.wait_for_new_image(version)

    def upload(self, selector: str, file: Path) -> None:
        with self.page.expect_file_chooser() as chooser:
            self.page.click(selector)
        chooser.value.set_files(file)

    def download(self, kind: str, name: str, folder: Path) -> Path:
        """Choose a kind of file, make it, and fetch it under the name that it should have."""
        self.page.click("#kind input")
        self.page.click(f"[role=option]:has-text('{kind}')")
        self.page.click("#make")
        self.wait_for_line(f"{name}: ")
        with self.page.expect_download() as download:
            self.page.click(f"#file:has-text('Download {name}')")
        assert download.value.suggested_filename == name
        download.value.save_as(folder / name)
        return folder / name

    def look(self, name: str, part: str = "") -> None:
        """Take a screenshot of the page, or of a part of it."""
        self.steps += 1
        if SCREENSHOTS:
            path = Path(SCREENSHOTS) / f"{self.steps:02d}-{name}.jpg"
            (self.page.locator(part) if part else self.page).screenshot(path=path, quality=75)


def truth(t: int) -> np.ndarray:
    """The ground truth of the clip."""
    with Image.open(CLIP.with_name(f"{CLIP.name}_masks") / f"{t:05d}.png") as image:
        return np.array(image)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


def box_of(mask: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Opposite corners of the box around a mask."""
    rows, columns = np.nonzero(mask)
    return (columns.min(), rows.min()), (columns.max() + 1, rows.max() + 1)


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """Name of a frame -> its labels."""
    with zipfile.ZipFile(path) as archive:
        return {Path(name).stem: np.array(Image.open(archive.open(name))) for name in archive.namelist()}


def test_a_person_draws_tracks_corrects_removes_and_downloads(app: App, tmp_path: Path) -> None:
    person, dog = (truth(0) == k for k in (3, 2))
    with open_page(1400, 1040) as page:
        tab = Tab(page, app.address)
        tab.look("start")
        tab.load_clip()
        assert tab.line == ("dogs_jump: 66 frames of 432x240 pixels. Drag a box around the first object.")
        top = page.locator("#canvas .tools").bounding_box()
        # 1. A box is enough for the dog. The person's box holds a dog, too, which a stroke excludes.
        tab.choose("box", 1)
        tab.drag(*box_of(person), look="box")
        tab.look("outline")
        masks = read_zip(tab.download("masks", ZIP, tmp_path))
        assert list(masks) == ["00000"] and iou(masks["00000"] == 1, person) < 0.8
        tab.choose("outside", 1)
        tab.drag((214, 132), (216, 145), (220, 165), (222, 178), look="stroke")
        tab.look("refined", "#canvas")
        tab.choose("box", 2)
        tab.drag(*box_of(dog))
        tab.look("second-object")
        with_masks = tab.pixels()
        page.check("#canvas .plain")
        tab.wait_for_pixels("!=", with_masks)
        tab.look("hidden")
        page.uncheck("#canvas .plain")
        tab.wait_for_pixels("==", with_masks)
        assert page.locator("#canvas .tools").bounding_box() == top, "the tools have moved"
        # 2. Track, and stop: the masks made so far stay.
        page.click("#track")
        tab.wait_for_frame(5)
        assert not any(tab.page.is_enabled(f"#{name}") for name in ("bundled", "upload", "mask", "track"))
        tab.look("tracking")
        tab.wait_for_frame(15)
        page.click("#stop")
        tab.wait_for_line("Stopped after frame")
        page.wait_for_selector("#track:not([disabled])")
        assert all(page.is_enabled(f"#{name}") for name in ("bundled", "upload", "mask"))
        assert page.is_disabled("#stop")
        tab.look("stopped")
        masks = read_zip(tab.download("masks", ZIP, tmp_path))
        stopped = len(masks) - 1
        assert 15 <= stopped < 65 and list(masks) == [f"{t:05d}" for t in range(stopped + 1)]
        assert iou(masks["00000"] == 1, person) > 0.8 and iou(masks["00000"] == 2, dog) > 0.8
        # 3. Correct a mask, add an object, and track on from there.
        tab.go_to(10)
        tab.choose("paint", 2)
        tab.drag((60, 60), (90, 60))
        tab.choose("box", 3)
        tab.drag(*box_of(truth(10) == 1))
        assert "are from before: track again from here" in tab.line
        tab.look("corrected")
        page.click("#track")
        tab.wait_for_frame(stopped + 3)
        page.click("#stop")
        tab.wait_for_line("Stopped after frame")
        # 4. Remove an object from frame 12 on.
        tab.go_to(12)
        page.click("#canvas [data-object='1']")
        tab.click("#canvas .remove")
        tab.look("removed")
        masks = read_zip(tab.download("masks", ZIP, tmp_path))
        assert len(masks) >= stopped + 4 and (masks["00010"][60, 60:90] == 2).all()
        assert (masks["00010"] == 3).any() and not (masks["00009"] == 3).any()
        shown = [(mask == 1).any() for mask in masks.values()]
        assert all(shown[:5]) and not any(shown[12:])
        # 5. Look where the round trip IoU falls, and click into the time line.
        tab.click("#drop")
        assert "the round trip IoU falls from" in tab.line
        named = page.locator("#canvas [data-object].chosen").inner_text()
        assert tab.line.startswith(f"{named.capitalize()}: "), named
        strip = page.locator("#timeline svg").bounding_box()
        page.mouse.click(strip["x"] + strip["width"] * 14.5 / 66, strip["y"] + 10)
        page.wait_for_selector("#canvas canvas[data-frame='14']")
        tab.look("time-line")
        # 6. The film plays in the browser.
        film = tab.download("MP4", "dogs_jump.mp4", tmp_path)
        page.goto(film.as_uri())
        played = page.evaluate(
            "async () => { const v = document.querySelector('video'); v.muted = true; await v.play();"
            " while (v.currentTime < 0.3) await new Promise(r => setTimeout(r, 50));"
            " return [v.videoWidth, v.videoHeight, v.duration]; }"
        )
        assert played == [432, 240, pytest.approx(len(masks) / 12, abs=0.2)]
        tab.look("video")
    wait_until_empty(app)


def wait_until_empty(app: App) -> None:
    """Wait until the server has noticed that the tabs are closed, and has removed their files."""
    (folder,) = app.temporary.iterdir()
    end = time.monotonic() + 60
    while list(folder.glob("tab-*")) and time.monotonic() < end:
        time.sleep(0.1)
    # Gradio leaves an empty file of each upload until it ends.
    left = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == []


def test_two_tabs_stay_apart(app: App) -> None:
    with open_page() as page:
        one, two = Tab(page, app.address), Tab(page.context.new_page(), app.address)
        one.load_clip()
        assert two.line == "Load a video." and two.page.locator("canvas[data-frame]").count() == 0
        two.page.click("#choice input")
        assert two.page.locator("[role=option]").all_inner_texts()[-1].strip().endswith("JPEGImages/two")
        two.page.locator("[role=option]", has_text="two/JPEGImages/two").click()
        two.wait_for_line("two: 3 frames of 64x48 pixels.")
        one.choose("paint", 1)
        one.drag((100, 100), (120, 100))
        assert two.page.locator("#canvas [data-object]").all_inner_texts() == ["object 1 (new)"]
        one.page.wait_for_selector("text=object 2 (new)")
        (folder,) = app.temporary.iterdir()
        assert len(list(folder.glob("tab-*"))) == 2
        two.page.close()
        end = time.monotonic() + 60
        while len(list(folder.glob("tab-*"))) == 2 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(list(folder.glob("tab-*"))) == 1
        one.go_to(1)
    wait_until_empty(app)


def test_rubbish_ends_in_one_line(app: App, tmp_path: Path) -> None:
    save = {
        "rubbish.mp4": lambda path: path.write_bytes(b"rubbish" * 1000),
        "notes.txt": lambda path: path.write_text("no film"),
        "empty.avi": lambda path: cv2.VideoWriter(str(path), MJPG, 10, (64, 48)).release(),
        "huge.png": lambda path: Image.new("L", (20000, 20000)).save(path),
        "small.png": lambda path: Image.new("L", (64, 48), 255).save(path),
        "black.png": lambda path: Image.new("L", (432, 240)).save(path),
        "broken.png": lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nrubbish"),
    }  # fmt: skip
    for name, write in save.items():
        write(tmp_path / name)
    with open_page() as page:
        tab = Tab(page, app.address)
        tab.upload("#upload", tmp_path / "rubbish.mp4")
        tab.wait_for_line("Error: rubbish.mp4: expected a video, could not read a single frame")
        tab.upload("#upload", tmp_path / "empty.avi")
        tab.wait_for_line("Error: empty.avi: expected a video, could not read a single frame")
        tab.upload("#upload", tmp_path / "notes.txt")
        tab.wait_for_line("Error: notes.txt: expected a video file (.mp4")
        tab.upload("#mask", tmp_path / "small.png")
        tab.wait_for_line("Error: load a video first")
        tab.load_clip()
        page.click("#track")
        tab.wait_for_line("Error: mark an object first")
        tab.upload("#mask", tmp_path / "huge.png")
        tab.wait_for_line("Error: huge.png")
        assert len(tab.line) < 300 and "\n" not in tab.line
        tab.look("error")
        tab.upload("#mask", tmp_path / "small.png")
        tab.wait_for_line("Error: small.png: expected the size of the frames, 432x240, found 64x48")
        tab.upload("#mask", tmp_path / "black.png")
        tab.wait_for_line("Error: black.png: expected a mask with at least one object")
        tab.upload("#mask", tmp_path / "broken.png")
        tab.wait_for_line("Error: broken.png: expected a readable")
        page.click("#make")
        tab.wait_for_line("Error: there are no masks yet")
        tab.upload("#mask", CLIP.with_name(f"{CLIP.name}_masks") / "00000.png")
        tab.wait_for_line("Frame 0: loaded the masks of 3 objects")
    wait_until_empty(app)
