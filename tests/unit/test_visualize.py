"""Pictures and videos of predictions, read back with independent readers."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from libs.core.errors import InputError
from libs.core.image_io import save_index_png
from libs.core.masks import palette
from libs.core.structures import Prediction, SourceFrame
from libs.evaluation.visualize import FORMATS, GifWriter, Mp4Writer, heatmap, overlay, render, save

SIZE = (48, 64)


@pytest.fixture
def labels() -> np.ndarray:
    picture = np.zeros(SIZE, np.uint8)
    picture[10:30, 5:25], picture[10:30, 25:45], picture[40:48, 50:64] = 1, 2, 5
    return picture


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


@pytest.fixture
def prediction(image: np.ndarray, labels: np.ndarray) -> Prediction:
    probs = np.stack([(labels == 1) * 0.9, (labels == 2) * 0.6]).astype(np.float32)
    return Prediction(SourceFrame("00003", image), labels, probs, ids=(1, 2))


def save_gif(path: Path, frames: Iterable[np.ndarray], fps: float, max_width: int = 480) -> None:
    with GifWriter(path, fps, max_width) as gif:
        for frame in frames:
            gif.add(frame)


def moving_square(count: int, height: int, width: int) -> Iterator[np.ndarray]:
    for i in range(count):
        frame = np.full((height, width, 3), 200, np.uint8)
        frame[5:25, 5 + 3 * i : 25 + 3 * i] = (220, 30, 10)
        yield frame


def read_rgb(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.mode == "RGB"
        return np.array(picture)


def read_mp4(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (result := capture.read())[0]:
        frames.append(result[1][..., ::-1])
    return frames


def test_index_png_keeps_every_label_and_has_the_palette(tmp_path: Path) -> None:
    labels = np.arange(256 * 3, dtype=np.uint16).reshape(24, 32).astype(np.uint8)
    save_index_png(tmp_path / "new" / "00000.png", labels)
    with Image.open(tmp_path / "new" / "00000.png") as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.array(picture), labels)
        np.testing.assert_array_equal(np.array(picture.getpalette()).reshape(256, 3), palette())
    assert palette()[:4].tolist() == [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["00000.png"]


def test_index_png_refuses_what_is_no_label_map(tmp_path: Path) -> None:
    for wrong in (np.zeros((4, 4), np.int64), np.zeros((4, 4), np.float32), np.zeros((4, 4, 3), np.uint8)):
        with pytest.raises((TypeError, ValueError)):
            save_index_png(tmp_path / "a.png", wrong)
    assert not list(tmp_path.iterdir())


def test_overlay_changes_object_pixels_only(image: np.ndarray, labels: np.ndarray) -> None:
    before = image.copy()
    picture = overlay(image, labels)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(picture[labels == 0], image[labels == 0])
    inside = picture[12:28, 7:23].astype(int)  # clear of the contour
    np.testing.assert_allclose(inside, (image[12:28, 7:23] + np.array([128, 0, 0])) / 2, atol=0.5)


def test_overlay_draws_contours_between_objects_but_not_along_the_frame(
    image: np.ndarray, labels: np.ndarray
) -> None:
    picture = overlay(image, labels, alpha=0)
    assert picture[20, 24].tolist() == [255, 0, 0] and picture[20, 25].tolist() == [0, 255, 0]
    assert picture[40, 55].tolist() == [255, 0, 255]
    np.testing.assert_array_equal(picture[47, 52:], image[47, 52:])


def test_overlay_leaves_void_and_empty_maps_alone(image: np.ndarray) -> None:
    for label in (0, 255):
        np.testing.assert_array_equal(overlay(image, np.full(SIZE, label, np.uint8)), image)


def test_heatmap_is_clear_at_zero_and_red_at_one(image: np.ndarray) -> None:
    np.testing.assert_array_equal(heatmap(image, np.zeros(SIZE, np.float32)), image)
    grey = np.full((*SIZE, 3), 128, np.uint8)
    red, green, blue = heatmap(grey, np.ones(SIZE, np.float32))[0, 0].tolist()
    assert red > 1.3 * max(green, blue)
    np.testing.assert_array_equal(heatmap(grey, np.full(SIZE, 1.5)), heatmap(grey, np.ones(SIZE)))


@pytest.mark.parametrize("fmt", FORMATS)
def test_every_format_is_saved_as_it_is_rendered(fmt: str, prediction: Prediction, tmp_path: Path) -> None:
    path = tmp_path / "00003.png"
    save(path, prediction, fmt)
    rendered = render(prediction, fmt)
    assert rendered.shape == (*SIZE, 3) and rendered.dtype == np.uint8
    if fmt == "index":
        with Image.open(path) as picture:
            np.testing.assert_array_equal(np.array(picture), prediction.labels)
            np.testing.assert_array_equal(np.array(picture.convert("RGB")), rendered)
    else:
        np.testing.assert_array_equal(read_rgb(path), rendered)
    assert list(tmp_path.iterdir()) == [path]


def test_formats_show_what_they_say(prediction: Prediction) -> None:
    image, labels = prediction.frame.image, prediction.labels
    np.testing.assert_array_equal(render(prediction, "segmentation"), overlay(image, labels))
    np.testing.assert_array_equal(render(prediction, "mask"), overlay(image, (labels == 1).astype(np.uint8)))
    other = replace(prediction, ids=(2, 1))  # the first object is the one that appeared first
    np.testing.assert_array_equal(render(other, "mask"), overlay(image, np.where(labels == 2, labels, 0)))
    np.testing.assert_array_equal(
        render(prediction, "heatmap"), heatmap(image, prediction.object_probs.max(axis=0))
    )


def test_heatmap_of_no_object_and_of_no_probabilities(image: np.ndarray, labels: np.ndarray) -> None:
    nobody = Prediction(SourceFrame("00000", image), labels, np.zeros((0, *SIZE), np.float32))
    np.testing.assert_array_equal(render(nobody, "heatmap"), image)
    with pytest.raises(ValueError, match="00000.*object_probs"):
        render(Prediction(SourceFrame("00000", image), labels, None), "heatmap")


def test_unknown_format_names_the_key(prediction: Prediction, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="save_indexed_format.*'png'.*segmentation"):
        save(tmp_path / "a.png", prediction, "png")
    assert not list(tmp_path.iterdir())


def test_gif_has_every_frame_at_its_size_and_rate(tmp_path: Path) -> None:
    path = tmp_path / "clip.gif"
    save_gif(path, moving_square(7, 60, 100), fps=15)
    with Image.open(path) as gif:
        assert gif.n_frames == 7 and gif.size == (100, 60) and gif.info["loop"] == 0
        for i, frame in enumerate(moving_square(7, 60, 100)):
            gif.seek(i)
            assert gif.info["duration"] == 70
            assert np.abs(np.array(gif.convert("RGB")).astype(int) - frame).mean() < 2
    assert list(tmp_path.iterdir()) == [path]


def test_gif_is_scaled_down_and_does_not_flicker(tmp_path: Path) -> None:
    background = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8), (300, 200))
    frames = [background.copy() for _ in range(4)]
    for i, frame in enumerate(frames):
        frame[:40, 20 * i : 20 * i + 40] = 255
    save_gif(tmp_path / "clip.gif", frames, fps=10, max_width=150)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.size == (150, 100)
        shown = [np.array(gif.convert("RGB"))[40:] for i in range(4) if gif.seek(i) is None]
    for frame in shown[1:]:
        np.testing.assert_array_equal(frame, shown[0])


def test_gif_holds_equal_frames_longer(tmp_path: Path) -> None:
    save_gif(tmp_path / "clip.gif", [np.full((20, 30, 3), 90, np.uint8)] * 5, fps=10)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.n_frames == 1 and gif.info["duration"] == 500


@pytest.mark.parametrize("height, width", [(60, 100), (61, 101)])
def test_mp4_reads_back(height: int, width: int, tmp_path: Path) -> None:
    path = tmp_path / "new" / "clip.mp4"
    with Mp4Writer(path, fps=12) as video:
        for frame in moving_square(9, height, width):
            video.add(frame)
            assert not path.exists()
    frames = read_mp4(path)
    assert len(frames) == 9 and frames[0].shape == (height + height % 2, width + width % 2, 3)
    assert cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    for shown, frame in zip(frames, moving_square(9, height, width)):
        assert np.abs(shown[:height, :width].astype(int) - frame).mean() < 6
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("writer, name", [(GifWriter, "a.gif"), (Mp4Writer, "a.mp4")])
def test_what_fails_leaves_the_old_file(writer: type, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text("old")
    frame = np.zeros((20, 30, 3), np.uint8)
    with pytest.raises(KeyError), writer(path, fps=10) as video:
        video.add(frame)
        raise KeyError
    with pytest.raises(InputError, match=f"{name}: no frames"), writer(path, fps=10):
        pass
    told = rf"{name}: .*\(20, 40, 3\) after others of \(20, 30, 3\)"
    with pytest.raises(InputError, match=told), writer(path, fps=10) as video:
        video.add(frame)
        video.add(np.zeros((20, 40, 3), np.uint8))
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_mp4_that_cannot_be_opened_is_an_input_error(tmp_path: Path) -> None:
    told, path = "a.mp4: cannot write.*30x20", tmp_path / "a.mp4"
    with pytest.raises(InputError, match=told), Mp4Writer(path, fps=0) as video:
        video.add(np.zeros((20, 30, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_mp4_that_lost_frames_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.VideoCapture, "get", lambda capture, key: 1.0, raising=False)
    with pytest.raises(InputError, match="1 of 3 frames"), Mp4Writer(tmp_path / "a.mp4", fps=10) as video:
        for frame in moving_square(3, 40, 60):
            video.add(frame)
    assert not list(tmp_path.iterdir())
