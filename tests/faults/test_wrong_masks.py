"""Masks that are wrong, and unusual ones that are right: testing, training and the demo."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from libs.core.masks import palette
from tests.helpers import fake_datasets
from tests.helpers.damage import cut
from tests.helpers.masks import blur, coloured, enlarge, grey, grid, in_alpha, indexed, labels, save, spots
from tests.helpers.small_network import TRAIN_ON_FOLDER, segment_folder, small
from tests.helpers.subprocess_runner import run_in_process

Make = Callable[[Path], object]
NEAREST = cv2.INTER_NEAREST
SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def ramp() -> Image.Image:
    size = fake_datasets.SIZE
    return Image.fromarray(np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size))


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (*fake_datasets.SIZE, 3)).astype(np.uint8)


def writes(pixels: object, suffix: str = "", **options: object) -> Make:
    """A row that writes this mask."""
    return lambda path: save(path, pixels, suffix, **options)


BAD_MASKS: dict[str, tuple[Make, list[str]]] = {
    "none": (lambda p: p.unlink(), ["Annotations/mine", "mask"]),
    "another size": (
        lambda p: fake_datasets.save_mask(p, fake_datasets.scene([1], size=(40, 40))[1]),
        ["00000.png", "40x40"],
    ),
    "no object": (writes(indexed(labels() * 0)), ["00000.png", "at least one object"]),
    "smoothed": (writes(ramp()), ["00000.png", "anti-aliased", "nearest neighbour"]),
    "smoothed colours": (writes(ramp().convert("RGB")), ["00000.png", "anti-aliased"]),
    "one red object, blurred": (writes(blur(coloured(RED))), ["00000.png", "one colour", "anti-aliased"]),
    "two objects, blurred": (writes(blur(labels(127, 255))), ["00000.png", "one label", "anti-aliased"]),
    "two objects, enlarged": (writes(enlarge(labels(90, 200))), ["00000.png", "anti-aliased"]),
    "labels 1 and 5, blurred": (writes(blur(labels(1, 5))), ["00000.png", "anti-aliased"]),
    "two objects as JPEG": (writes(labels(127, 255), ".jpg"), ["00000.jpg", "JPEG", "save as PNG"]),
    "labels as JPEG": (writes(labels(1, 2), ".jpg"), ["00000.jpg", "JPEG", "save as PNG"]),
    "colours as JPEG": (writes(coloured(RED, GREEN), ".jpg"), ["00000.jpg", "JPEG", "save as PNG"]),
    "labels as lossy WebP": (writes(grey(labels(1, 2)), ".webp", quality=80), ["00000.webp", "lossy WebP"]),
    "colours as lossy WebP": (writes(coloured(RED, GREEN), ".webp"), ["00000.webp", "lossy WebP", "PNG"]),
    "labels as JPEG within a TIFF": (
        writes(Image.fromarray(labels(1, 2)), ".tif", compression="jpeg"),
        ["00000.tif", "JPEG", "save as PNG"],
    ),
    "several pages": (
        writes(Image.fromarray(labels(1)), save_all=True, append_images=[Image.fromarray(labels(2))]),
        ["00000.png", "expected one image in the file, found several pages"],
    ),
    "a translucent overlay": (
        writes(np.dstack([coloured(RED), 120 * labels(1)])),
        ["00000.png", "more transparent than opaque (alpha 120)", "without transparency"],
    ),
    "one translucent object": (
        writes(np.dstack([coloured(RED, GREEN), np.array([0, 255, 90], np.uint8)[labels(1, 2)]])),
        ["00000.png", "(alpha 90)"],
    ),
    "CMYK": (
        writes(Image.fromarray(coloured(RED)).convert("CMYK"), ".jpg"),
        ["00000.jpg", "mode CMYK", "PNG"],
    ),
    "a photograph": (writes(noise()), ["00000.png", "colours", "no mask"]),
    "16 bits, too large": (writes(labels(1, 2).astype(np.uint16) * 500), ["00000.png", "1000", "up to 254"]),
    "16 bits, labels and -1": (
        writes(np.array([0, 1, 65535], np.uint16)[labels(1, 2)]),
        ["00000.png", "65535", "up to 254"],
    ),
    "floating point": (writes(Image.fromarray(labels(1) / 2.0).convert("F"), format="TIFF"), ["00000.png"]),
    "white is entry 0": (
        writes(indexed(1 - labels(1), [(255, 255, 255), (0, 0, 0)])),
        ["00000.png", "entry 0 is (255, 255, 255)", "entry 1 is black", "unclear"],
    ),
    "truncated": (cut, ["00000.png"]),
    "text": (lambda p: p.write_text("no mask"), ["00000.png"]),
}


def check_mine_failed(end: object, root: Path, *words: str) -> None:
    """Expect that 'mine' failed with these words in its line, and that 'other' was segmented."""
    end.check_error("1 of 2 videos failed", "mine")
    told = next(line for line in end.err.splitlines() if line.startswith("warning: video 'mine' "))
    assert all(word in told for word in words), told
    assert len(list((root / "output/FOLDER/other").glob("*.png"))) == 4


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_mask_that_cannot_be_used(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path)
    make, words = BAD_MASKS[name]
    make(masks / "00000.png")
    check_mine_failed(segment_folder(tmp_path, weights), tmp_path, *words)


SMOOTHED = "00000.png: smoothed edges; read as one object, values from 128 on"
GOOD_MASKS: dict[str, tuple[Make, set[int], list[str]]] = {
    "colours": (writes(palette()[labels(1, 2)]), {1, 2}, []),
    "0 and 255": (writes(labels(255)), {1}, []),
    "255 as void": (writes(indexed(labels(1, 255))), {1}, ["255 beside other labels (1)"]),
    "grey 127 and 255": (writes(labels(127, 255)), {127}, ["255 beside other labels (127)"]),
    "gaps": (writes(indexed(labels(3, 9))), {3, 9}, []),
    "id 254": (writes(indexed(labels(254, 7))), {7, 254}, []),
    "twelve objects": (writes(indexed(labels(*range(1, 13)))), set(range(1, 13)), []),
    "seventy objects": (writes(indexed(grid(70, 185))), set(range(185, 255)), []),
    "seventy grey objects": (writes(grid(70, 185)), set(range(185, 255)), []),
    "tiny objects": (writes(spots(1, 2, 3, 4)), {1, 2, 3, 4}, []),
    "one object, blurred": (writes(blur(labels(255))), {1}, [SMOOTHED]),
    "one object, enlarged": (writes(enlarge(labels(255))), {1}, [SMOOTHED]),
    "one grey RGB object, blurred": (writes(grey(blur(labels(255)))), {1}, [SMOOTHED]),
    "two objects, enlarged by nearest": (writes(enlarge(labels(90, 200), NEAREST)), {90, 200}, []),
    "one object as JPEG": (
        writes(labels(255), ".jpg", quality=90),
        {1},
        ["00000.jpg: JPEG; read as one object"],
    ),
    "16 bits": (writes(labels(7, 254).astype(np.uint16)), {7, 254}, []),
    "16 bits, one object": (writes(labels(1).astype(np.uint16) * 65535), {1}, []),
    "16 bits, blurred": (writes(cv2.blur(labels(1).astype(np.uint16) * 65535, (3, 3))), {1}, [SMOOTHED]),
    "1 bit": (writes(Image.fromarray(labels(1) > 0)), {1}, []),
    "grey as RGB": (writes(grey(labels(2, 5))), {2, 5}, []),
    "shape in alpha, RGBA": (writes(in_alpha(labels(1))), {1}, []),
    "shape in alpha, LA": (writes(in_alpha(labels(1), "LA")), {1}, []),
    "a transparent palette entry": (writes(indexed(labels(1, 2)), transparency=2), {1}, []),
    "transparent palette entries": (
        writes(indexed(labels(1, 2, 3)), transparency=bytes([0, 255, 90, 255])),
        {1, 3},
        [],
    ),
    "a transparent grey": (writes(labels(3, 4), transparency=4), {3}, []),
    "a black palette": (writes(indexed(labels(1, 2), np.zeros((256, 3)))), {1, 2}, []),
    "a grey palette": (writes(indexed(labels(1, 2), [[i] * 3 for i in range(256)])), {1, 2}, []),
    "BMP": (writes(indexed(labels(1, 2)), ".bmp"), {1, 2}, []),
    "lossless WebP": (writes(coloured(*palette()[1:3]), ".webp", lossless=True), {1, 2}, []),
    "one object as lossy WebP": (
        writes(grey(labels(255)), ".webp", quality=90),
        {1},
        ["00000.webp: lossy WebP; read as one object"],
    ),
    "held sideways": (
        lambda p: indexed(labels(1, 2)).transpose(Image.Transpose.ROTATE_90).save(p, exif=SIDEWAYS),
        {1, 2},
        [],
    ),
}


def edged(value: int, top: int) -> np.ndarray:
    """Object 1 on background, with a border of this value, and another at the top."""
    found = np.pad(labels(1)[1:-1, 1:-1], 1, constant_values=value)
    found[0] = top
    return found


def on_white(values: np.ndarray) -> np.ndarray:
    return np.where(values.any(-1, keepdims=True), values, np.uint8(255))


COVERED: dict[str, tuple[Make, str]] = {
    "inverted": (writes(255 - labels(255)), "objects (label 1), and 1024 of 3072"),
    "colours on white": (writes(on_white(coloured(RED, GREEN))), "objects (label 3), and 0 of 3072"),
    "background has a number": (
        writes(indexed(np.array([3, 1, 2], np.uint8)[labels(1, 2)])),
        "(label 3), and 0 of 3072",
    ),
    "an object is entry 0": (
        writes(indexed(np.array([2, 0, 1], np.uint8)[labels(1, 2)], [RED, GREEN, (9, 9, 9)])),
        "(label 2), and 256 of 3072",
    ),
    "void everywhere": (writes(indexed(labels() * 0 + 255)), "(label 1), and 0 of 3072"),
    "an object at all sides": (writes(indexed(edged(1, top=1))), "(label 1)"),
    "void at the border": (writes(indexed(edged(255, top=255))), ""),
    "an object at three sides": (writes(indexed(edged(1, top=0))), ""),
}


@pytest.mark.parametrize("name", COVERED)
def test_objects_at_the_whole_border(tmp_path: Path, weights: Path, name: str) -> None:
    """They may be background that has a label; it is said once."""
    _, masks = fake_datasets.two_videos(tmp_path)
    make, words = COVERED[name]
    make(masks / "00000.png")
    end = segment_folder(tmp_path, weights)
    end.check_success()
    said = [line for line in end.err.splitlines() if "its whole border is covered by objects" in line]
    assert len(said) == bool(words) and all(words in line for line in said), end.err


@pytest.mark.parametrize("name", GOOD_MASKS)
def test_masks_of_another_kind(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path)
    make, ids, warned = GOOD_MASKS[name]
    make(masks / "00000.png")
    end = segment_folder(tmp_path, weights)
    end.check_success(*warned)
    told = [line for line in end.err.splitlines() if "as one object" in line or "counts as void" in line]
    assert len(told) == len(warned)
    assert set(np.unique(np.array(Image.open(tmp_path / "output/FOLDER/mine/00000.png")))) - {0} == ids


LATER = {
    "vanishes for ever": {2: labels(1)},
    "leaves and returns": {1: labels(1), 2: labels(1, 2)},
    "brings nothing new": {2: labels(1, 2)},
    "is empty": {2: labels() * 0},
}


@pytest.mark.parametrize("name", LATER)
def test_later_masks(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = fake_datasets.two_videos(tmp_path, frames=5)
    for t, mask in LATER[name].items():
        fake_datasets.save_mask(masks / f"{t:05d}.png", mask)
    segment_folder(tmp_path, weights, loop=1, save_freq=2).check_success()
    assert len(list((tmp_path / "output/FOLDER/mine").glob("*.png"))) == 5


# First mask, later mask, and words of the line if they do not fit together.
FORMS: dict[str, tuple[Make, Make, list[str]]] = {
    "labels, then 0 and 255": (writes(labels(1, 2)), writes(labels(255)), ["label numbers (1, 2)"]),
    "labels, then one object, blurred": (writes(labels(1)), writes(blur(labels(255))), ["smoothed edges"]),
    "labels, then blurred": (writes(labels(1)), writes(blur(labels(90, 200))), ["anti-aliased"]),
    "labels, then colours": (writes(labels(1, 2)), writes(coloured(RED)), ["found colours"]),
    "greys as RGB, then colours": (writes(grey(labels(1, 2))), writes(coloured(RED)), ["found colours"]),
    "0 and 255, then labels": (writes(labels(255)), writes(labels(1, 255)), ["label numbers (1, 255)"]),
    "0 and 255, then palette labels": (writes(labels(255)), writes(indexed(labels(1))), ["one object"]),
    "colours, then labels": (writes(coloured(RED)), writes(labels(1)), ["label numbers (1)"]),
    "a colour varies": (writes(coloured(RED)), writes(coloured((240, 9, 0))), ["(240, 9, 0)", "vary"]),
    "palette colours, then others": (writes(coloured((128, 0, 0))), writes(coloured(RED)), ["vary"]),
    "palette, then grey labels": (writes(indexed(labels(1, 2))), writes(labels(1, 2)), []),
    "labels, then void alone": (writes(indexed(labels(1))), writes(indexed(labels(255))), []),
    "0 and 255, then blurred": (writes(labels(255)), writes(blur(labels(255))), []),
    "0 and 255, then 1 bit": (writes(labels(255)), writes(Image.fromarray(labels(1) > 0)), []),
    "blurred, then a few blurred pixels": (writes(blur(labels(255))), writes(blur(spots(255))), []),
    "nothing, then 0 and 255": (writes(labels() * 0), writes(labels(255)), []),
    "colours, then another": (writes(coloured(RED)), writes(coloured(GREEN, RED)), []),
    "colours, then white alone": (writes(coloured(RED)), writes(coloured((255, 255, 255))), []),
}


@pytest.mark.parametrize("name", FORMS)
def test_masks_of_one_video_have_one_form(tmp_path: Path, weights: Path, name: str) -> None:
    """A mask that does not fit the first one fails its video, and the line names both."""
    _, masks = fake_datasets.two_videos(tmp_path)
    first, later, words = FORMS[name]
    first(masks / "00000.png")
    later(masks / "00002.png")
    end = segment_folder(tmp_path, weights)
    if not words:
        end.check_success()
    elif "anti-aliased" in words:
        check_mine_failed(end, tmp_path, "00002.png", *words)
    else:
        check_mine_failed(end, tmp_path, "00000.png", "00002.png", *words)


# ---- 0 and 255 in a set of label numbers ----


def make_binary(masks: Path) -> Path:
    """Rewrite the masks of a video as 0 and 255."""
    for path in masks.glob("*.png"):
        fake_datasets.save_mask(path, np.where(np.array(Image.open(path)), 255, 0).astype(np.uint8), "L")
    return masks


def davis17(root: Path, *videos: str) -> Path:
    """DAVIS 2017 in which these videos have masks of 0 and 255."""
    masks = fake_datasets.davis17(root) / "Annotations/480p"
    for name in videos:
        make_binary(masks / name)
    return masks


def test_0_and_255_in_davis17(tmp_path: Path, weights: Path) -> None:
    """The video fails alone, and the line says what to do. A later mask may show nothing but void."""
    masks = davis17(tmp_path, "duo")
    fake_datasets.write_db_info(tmp_path / "DAVIS17", [("duo", "val", 2017), ("pair", "val", 2017)])
    fake_datasets.save_mask(masks / "pair/00002.png", labels(255), "L")
    end = run_in_process("test.py", **small(root=tmp_path, valset="DAVIS17", initial=weights))
    end.check_error("1 of 2 videos failed", "duo")
    told = next(line for line in end.err.splitlines() if "video 'duo' failed" in line)
    assert all(word in told for word in ("duo/00000.png", "255 is void here", "write 1", "DAVIS16, FOLDER"))


def train(root: Path, **keys: object) -> object:
    return run_in_process("train.py", **small(root=root, checkpoint=root / "ckpt", **keys))


@pytest.mark.parametrize("backend", ["PIL", "DALI"])
@pytest.mark.parametrize("checked", [0, 100])
def test_training_refuses_0_and_255_in_davis17(tmp_path: Path, backend: str, checked: int) -> None:
    """At the start, or, if nothing is checked there, when the first such mask is read."""
    if backend == "DALI":
        pytest.importorskip("nvidia.dali")
    davis17(tmp_path, "pair", "trio")
    keys = {"trainset": "DAVIS17", "datafreq": 1, "max_skip": 1, "data_backend": backend}
    end = train(tmp_path, **keys, checked_masks=checked)
    end.check_error("00000.png", "255 is void here", "DAVIS16, FOLDER")
    assert ("8 of 8 checked masks are wrong" in end.err) == (checked > 0)


@pytest.mark.parametrize("checked", [0, 100])
def test_training_compares_masks_with_the_first_one(tmp_path: Path, checked: int) -> None:
    """Although a clip from the middle of the video does not show it."""
    fake_datasets.folder(tmp_path, frames=9)
    masks = tmp_path / "Annotations/mine"
    for t in range(1, 9):
        fake_datasets.save_mask(masks / f"{t:05d}.png", labels(255), "L")
    end = train(tmp_path, **TRAIN_ON_FOLDER, samples_per_video=8, checked_masks=checked)
    end.check_error("label numbers (1, 2)", "00000.png", "one form")


def annotated_images(root: Path, name: str, mask: Make, count: int = 6) -> None:
    """A set of annotated images with this mask each."""
    for i in range(count):
        fake_datasets.save_image(root / name / f"images/{i}.jpg", fake_datasets.scene([1, 2])[0])
        mask(root / name / f"masks/{i}.png")


IMAGES: dict[str, tuple[str, Make, int, str]] = {
    "grey edges": ("STATIC", writes(blur(labels(255))), 0, "6 of 6 checked masks are unusual, the first"),
    "JPEG": ("STATIC", writes(labels(255), ".jpg"), 0, "6 of 6 checked masks are unusual, the first"),
    "void": ("STATIC", writes(indexed(labels(1, 255))), 0, "6 of 6 checked masks are unusual, the first"),
    "colours": ("STATIC", writes(coloured(RED, BLUE)), 0, ""),
    "two objects, blurred": ("STATIC", writes(blur(labels(127, 255))), 2, "6 of 6 checked masks are wrong"),
    "labels as JPEG": ("STATIC", writes(labels(60, 120), ".jpg"), 2, "6 of 6 checked masks are wrong"),
    "0 and 255": ("INSTANCES", writes(labels(255)), 2, "255 is void here"),
    "instances, blurred": ("INSTANCES", writes(blur(labels(90, 200))), 2, "anti-aliased"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_masks_of_images_to_train_on(tmp_path: Path, name: str) -> None:
    """One line per set, not one per mask or clip."""
    trainset, mask, code, words = IMAGES[name]
    annotated_images(tmp_path, trainset, mask)
    end = train(tmp_path, trainset=trainset, datafreq=1, max_skip=1, distractors=False)
    assert end.code == code, end
    found = [line for line in end.err.splitlines() if "checked masks" in line]
    assert len(found) == (1 if words else 0) and words in end.err


def test_photographs_to_paste_are_checked(tmp_path: Path) -> None:
    fake_datasets.folder(tmp_path)
    annotated_images(tmp_path, "INSTANCES", partial(save, pixels=labels(255)))
    train(tmp_path, **TRAIN_ON_FOLDER, paste=0.5).check_error("'paste'", "255 is void here")


# ---- the demo ----


@pytest.mark.parametrize("name", ["one object, blurred", "grey as RGB", "two objects, blurred", "CMYK"])
def test_the_demo_reads_masks_as_test_does(tmp_path: Path, weights: Path, name: str) -> None:
    frames, masks = fake_datasets.two_videos(tmp_path)
    make = (GOOD_MASKS.get(name) or BAD_MASKS[name])[0]
    make(masks / "00000.png")
    (mask,) = masks.iterdir()
    keys = small(initial=weights, video_path=frames, mask_path=mask, output_dir=tmp_path / "out")
    end = run_in_process("demo/demo.py", **keys)
    if name in BAD_MASKS:
        end.check_error(*BAD_MASKS[name][1])
    else:
        end.check_success(*GOOD_MASKS[name][2])
