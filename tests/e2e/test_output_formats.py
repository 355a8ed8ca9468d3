"""test.py in several formats: all of them hold the same masks."""

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers import fake_datasets
from tests.helpers.small_network import segment_folder

IDS = (3, 9)
FRAMES = 5


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> dict[str, Path]:
    """The result folder of each format."""
    root = tmp_path_factory.mktemp("formats")
    fake_datasets.folder(root, masked=(0,), objects=IDS, frames=FRAMES)
    styles = ("index", "binary", "probability", "coco")
    for style in styles:
        end = segment_folder(root, weights, save_indexed_format=style, output_dir=style)
        end.check_success()
        assert end.err == ""
    return {style: root / style / "FOLDER" for style in styles}


def labels(outputs: dict[str, Path], t: int) -> np.ndarray:
    """The label map of frame t in the format index."""
    with Image.open(outputs["index"] / f"mine/{t:05d}.png") as image:
        return np.array(image)


@pytest.mark.parametrize("t", range(FRAMES))
def test_binary_masks_are_the_labels(outputs: dict[str, Path], t: int) -> None:
    for k in IDS:
        mask = cv2.imread(str(outputs["binary"] / f"mine/{k}/{t:05d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(mask, 255 * (labels(outputs, t) == k))


@pytest.mark.parametrize("t", range(1, FRAMES))
def test_the_highest_probability_is_the_label(outputs: dict[str, Path], t: int) -> None:
    """But in frame 0, whose given mask is exact, and where two values differ by less than their rounding."""
    paths = [outputs["probability"] / f"mine/{k}/{t:05d}.png" for k in IDS]
    objects = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED).astype(int) for path in paths]
    values = np.stack([65535 - sum(objects), *objects])
    second, first = np.sort(values, axis=0)[-2:]
    clear = first - second > 2
    best = np.array((0, *IDS))[values.argmax(0)]
    assert clear.mean() > 0.5
    np.testing.assert_array_equal(best[clear], labels(outputs, t)[clear])


def test_a_coco_file_holds_the_labels_and_the_names_of_the_frames(outputs: dict[str, Path]) -> None:
    from pycocotools.coco import COCO

    with redirect_stdout(StringIO()):
        coco = COCO(str(outputs["coco"] / "mine.json"))
    images = coco.loadImgs(coco.getImgIds())
    assert [image["file_name"] for image in images] == [f"{t:05d}.png" for t in range(FRAMES)]
    for t, image in enumerate(images):
        found = np.zeros((image["height"], image["width"]), np.uint8)
        for annotation in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            found[coco.annToMask(annotation) > 0] = annotation["category_id"]
        np.testing.assert_array_equal(found, labels(outputs, t))
