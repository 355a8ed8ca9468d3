"""Masks per object, probabilities and COCO files, read back with independent readers."""

import json
import sys
import tracemalloc
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from libs.core.errors import InputError
from libs.core.structures import Prediction, SourceFrame
from libs.evaluation.outputs import FULL, LAYOUTS, STYLES, WITH_PROBABILITIES, drawn_style, open_output
from libs.evaluation.visualize import FORMATS

SIZE = (48, 64)
IDS = (3, 9)
FRAMES = 4
MASKS = {f"{t:05d}": IDS for t in range(FRAMES)}


def label_map(t: int) -> np.ndarray:
    """Object 3 moves and leaves after frame 1, object 9 is in all frames but the last."""
    labels = np.zeros(SIZE, np.uint8)
    if t < 2:
        labels[5:20, 3 + t : 20 + t] = 3
    if t < FRAMES - 1:
        labels[30:41, 40 - 2 * t : 60 - 2 * t] = 9
        labels[35, 50 - 2 * t] = 0  # a hole
    return labels


def probabilities(t: int) -> np.ndarray:
    return np.random.default_rng(t).random((len(IDS), *SIZE)).astype(np.float32)


def prediction(t: int, probs: np.ndarray | None = None, ids: tuple[int, ...] = IDS) -> Prediction:
    frame = SourceFrame(f"{t:05d}", np.zeros((*SIZE, 3), np.uint8), file=f"{t:05d}.png")
    return Prediction(frame, label_map(t), probs, ids=ids)


def write(folder: Path, style: str) -> None:
    output = open_output(folder, "mine", style)
    for t in range(FRAMES):
        output.write(prediction(t, probabilities(t)))
    output.finish()


def test_binary_masks_are_read_back(tmp_path: Path) -> None:
    write(tmp_path, "binary")
    for t in range(FRAMES):
        for k in IDS:
            path = tmp_path / f"mine/{k}/{t:05d}.png"
            with Image.open(path) as image:
                assert image.mode == "L"
                np.testing.assert_array_equal(np.array(image), (label_map(t) == k) * 255)
            np.testing.assert_array_equal(
                cv2.imread(str(path), cv2.IMREAD_UNCHANGED), np.array(Image.open(path))
            )
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"3", "9"}


def test_probabilities_are_read_back_to_one_part_in_65535(tmp_path: Path) -> None:
    write(tmp_path, "probability")
    for t in range(FRAMES):
        for k, probs in zip(IDS, probabilities(t)):
            path = tmp_path / f"mine/{k}/{t:05d}.png"
            with Image.open(path) as image:
                by_pillow = np.array(image).astype(np.float64) / FULL
            by_opencv = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert by_opencv.dtype == np.uint16
            np.testing.assert_allclose(by_pillow, probs, rtol=0, atol=0.51 / FULL)  # float32 rounds, too
            np.testing.assert_array_equal(by_opencv / FULL, by_pillow)


def test_probability_0_and_1_are_exact_and_others_are_clipped(tmp_path: Path) -> None:
    probs = np.zeros((1, *SIZE), np.float32)
    probs[0, :10], probs[0, 10:20] = 1, 1.0001
    output = open_output(tmp_path, "mine", "probability")
    output.write(prediction(0, probs, (3,)))
    values = cv2.imread(str(tmp_path / "mine/3/00000.png"), cv2.IMREAD_UNCHANGED)
    assert (values[:20] == 65535).all() and (values[20:] == 0).all()


@pytest.mark.parametrize("style", ["binary", "probability"])
def test_an_object_that_appears_later_has_an_image_of_every_frame(tmp_path: Path, style: str) -> None:
    output = open_output(tmp_path, "mine", style)
    output.write(prediction(0, np.zeros((0, *SIZE), np.float32), ()))
    output.write(prediction(1, probabilities(1)[:1], IDS[:1]))
    output.write(prediction(2, probabilities(2)))
    output.write(prediction(3, np.zeros((0, *SIZE), np.float32)))  # as before the first object
    assert output.existing(tmp_path, "mine") == output.expected(MASKS)
    for k, first in ((3, 1), (9, 2)):
        images = [
            cv2.imread(str(tmp_path / f"mine/{k}/{t:05d}.png"), cv2.IMREAD_UNCHANGED) for t in range(FRAMES)
        ]
        assert not any(image.any() for image in images[:first]) and not images[-1].any()
        assert len({image.dtype for image in images}) == 1 and all(image.shape == SIZE for image in images)
    if style == "probability":
        assert cv2.imread(str(tmp_path / "mine/9/00002.png"), cv2.IMREAD_UNCHANGED).any()


def test_a_coco_file_gives_the_same_label_maps(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    write(tmp_path, "coco")
    with redirect_stdout(StringIO()):
        coco = COCO(str(tmp_path / "mine.json"))
    assert coco.getCatIds() == list(IDS) and len(coco.getImgIds()) == FRAMES
    for t, image in enumerate(coco.loadImgs(coco.getImgIds())):
        assert (image["file_name"], image["width"], image["height"]) == (f"{t:05d}.png", SIZE[1], SIZE[0])
        labels = np.zeros(SIZE, np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            mask = coco.annToMask(annotation).astype(bool)
            labels[mask] = annotation["category_id"]
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1]
            assert (annotation["area"], annotation["iscrowd"], annotation["bbox"]) == (mask.sum(), 0, box)
        np.testing.assert_array_equal(labels, label_map(t))
    assert not coco.getAnnIds(imgIds=FRAMES)  # without an object, but listed


def test_a_coco_file_appears_when_the_video_is_complete(tmp_path: Path) -> None:
    output = open_output(tmp_path, "mine", "coco")
    output.write(prediction(0))
    assert not list(tmp_path.iterdir())
    output.finish()
    assert list(tmp_path.iterdir()) == [output.place]
    content = json.loads(output.place.read_text())
    assert all(isinstance(a["segmentation"]["counts"], str) for a in content["annotations"])
    assert [category["id"] for category in content["categories"]] == list(IDS)


def test_a_frame_of_a_video_file_has_a_file_name_in_a_coco_file(tmp_path: Path) -> None:
    output = open_output(tmp_path, "film", "coco")
    output.write(Prediction(SourceFrame("00000", np.zeros((*SIZE, 3), np.uint8)), label_map(0), None))
    output.finish()
    assert json.loads(output.place.read_text())["images"][0]["file_name"] == "00000.jpg"


def test_a_coco_file_holds_run_length_codes_only(tmp_path: Path) -> None:
    """What is kept of a frame does not grow with its pixels, nor with the frames before it."""
    output = open_output(tmp_path, "mine", "coco")
    frame = prediction(0)
    output.write(frame)
    tracemalloc.start()
    for _ in range(500):
        output.write(frame)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept / 500 < 2500 < label_map(0).nbytes


@pytest.mark.parametrize("style", STYLES)
def test_the_files_of_each_style_are_the_ones_that_it_expects(tmp_path: Path, style: str) -> None:
    write(tmp_path, style)
    output = open_output(tmp_path, "mine", style)
    written = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert output.existing(tmp_path, "mine") == output.expected(MASKS) == written
    others = [kind for kind in LAYOUTS if not isinstance(output, kind)]
    assert not any(kind.existing(tmp_path, "mine") for kind in others)
    assert output.place.exists() and drawn_style(style) in FORMATS
    if style in WITH_PROBABILITIES:
        with pytest.raises(ValueError, match="00000.*object_probs"):
            output.write(prediction(0))


def test_without_pycocotools_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match="'save_indexed_format': coco needs pycocotools; pip install"):
        open_output(tmp_path, "mine", "coco")
