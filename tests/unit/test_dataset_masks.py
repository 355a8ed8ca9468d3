"""What the values of a mask mean: decoding, one mask by itself, and all masks of a video."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dataset import annotations
from dataset.annotations import Annotations
from dataset.build import check_masks, training_sets
from dataset.davis import davis16
from dataset.masks import style as mask_style
from dataset.masks.files import MaskFile, decode_image, pack, unpack
from dataset.masks.kinds import Kind, MaskContent, examine
from dataset.masks.style import VideoStyle
from dataset.sampling import ClipSettings
from dataset.synthetic.photos import index_images
from libs.core.errors import InputError, UnreadableError
from libs.core.masks import palette
from libs.core.structures import VideoIndex
from tests.helpers import fake_datasets
from tests.helpers.masks import (
    Pixels,
    blur,
    coloured,
    enlarge,
    grey,
    grid,
    in_alpha,
    indexed,
    labels,
    save,
    spots,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real masks at ../shared/data are not here")
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


# ---- mask files ----


def decode(pixels: Pixels, **info: object) -> MaskFile:
    image = Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.info.update(info)
    return decode_image(image, Path("m.png"))


def with_alpha(values: np.ndarray, alpha: np.ndarray) -> Image.Image:
    """A palette image with an alpha channel; no format that is read writes this mode."""
    image = indexed(values).convert("PA")
    image.putalpha(Image.fromarray(alpha))
    return image


VALUES = {
    "P": lambda v: indexed(v),
    "L": lambda v: v,
    "16 bits": lambda v: v.astype(np.uint16),
    "32 bits": lambda v: Image.fromarray(v.astype(np.int32)),
    "RGB": grey,
    "RGBA": lambda v: Image.fromarray(grey(v)).convert("RGBA"),
    "LA": lambda v: Image.fromarray(v).convert("LA"),
    "PA": lambda v: with_alpha(v, np.full_like(v, 255)),
}


@pytest.mark.parametrize("mode", VALUES)
def test_values_are_label_numbers_in_every_mode(mode: str) -> None:
    found = decode(VALUES[mode](labels(1, 7, 254, 255)))
    assert found.values.dtype == np.uint8 and found.colours is None
    assert np.array_equal(found.values, labels(1, 7, 254, 255))


@pytest.mark.parametrize(
    ("mode", "alpha"),
    [*((mode, alpha) for mode in ("LA", "RGBA", "PA") for alpha in (0, 128, 255)), ("PA", 127)],
)
def test_pixels_that_are_mostly_transparent_are_background(mode: str, alpha: int) -> None:
    values, opacity = labels(1, 2), np.where(labels(1, 2) == 2, alpha, 255).astype(np.uint8)
    image = with_alpha(values, opacity)
    if mode != "PA":
        image = Image.fromarray(values if mode == "LA" else grey(values))
        image.putalpha(Image.fromarray(opacity))
    assert image.mode == mode
    assert np.array_equal(decode(image).values, np.where((values == 2) & (alpha < 128), 0, values))


def test_transparent_entries_and_colours_are_background() -> None:
    assert set(np.unique(decode(indexed(labels(1, 2, 3)), transparency=2).values)) == {0, 1, 3}
    mask = decode(indexed(labels(1, 2, 3)), transparency=bytes([255, 0, 127, 128]))
    assert set(np.unique(mask.values)) == {0, 3}
    assert set(np.unique(decode(labels(4, 9), transparency=9).values)) == {0, 4}
    assert decode(coloured(RED, GREEN), transparency=RED).colours == (pack(np.array(GREEN, np.uint8)),)


SWAPPED = [WHITE, (0, 0, 0), RED]


def test_entry_0_of_a_palette_is_the_background() -> None:
    with pytest.raises(UnreadableError, match=r"m.png: palette entry 0 is \(255, 255, 255\) and entry 1"):
        decode(indexed(labels(1, 2), SWAPPED))
    decode(indexed(labels(2), SWAPPED))  # the black entry is not used
    decode(indexed(labels(1, 2), SWAPPED), transparency=0)  # says which is background
    decode(indexed(labels(1, 2), [WHITE, RED, BLUE]))
    for colours in ([(0, 0, 0)] * 256, [[i] * 3 for i in range(256)]):
        assert np.array_equal(decode(indexed(labels(1, 2), colours)).values, labels(1, 2))


@pytest.mark.parametrize("mode", ["F", "CMYK", "YCbCr", "LAB", "HSV"])
def test_other_modes_are_refused(mode: str) -> None:
    image = Image.fromarray(labels(1)) if mode in ("F", "CMYK") else Image.fromarray(coloured(RED))
    with pytest.raises(UnreadableError, match=f"m.png.*mode {mode}.*PNG of label numbers"):
        decode(image.convert(mode) if mode != "LAB" else Image.new("LAB", (8, 8)))


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_beyond_16_bits_are_refused(value: int) -> None:
    with pytest.raises(UnreadableError, match=f"m.png: found the value {value}"):
        decode(Image.fromarray(labels(1).astype(np.int32) * value))


def test_colours_are_numbered_in_their_order() -> None:
    mask = decode(coloured(RED, BLUE, GREEN))
    assert [unpack(colour) for colour in mask.colours] == [BLUE, GREEN, RED]
    assert np.array_equal(mask.values, np.array([0, 3, 1, 2], np.uint8)[labels(1, 2, 3)])
    image = Image.fromarray(coloured(RED, BLUE, GREEN)).convert("RGBA")
    assert np.array_equal(decode(image).values, mask.values)


# ---- one mask by itself ----


def shown(pixels: Pixels, **properties: object) -> MaskContent:
    if properties:
        return examine(MaskFile(Path("m.png"), pixels, "L", **properties))
    return examine(decode(pixels))


def jpeg(values: np.ndarray, quality: int) -> np.ndarray:
    return cv2.imdecode(
        cv2.imencode(".jpg", values, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE
    )


def disc(value: int = 255, radius: int = 60) -> np.ndarray:
    return cv2.circle(np.zeros((200, 300), np.uint8), (150, 100), radius, value, -1)


def two_discs(one: int, other: int) -> np.ndarray:
    found = cv2.circle(np.zeros((200, 300), np.uint8), (90, 100), 60, one, -1)
    return cv2.circle(found, (190, 100), 60, other, -1)


SMOOTH: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "blurred": blur,
    "blurred more": lambda v: cv2.GaussianBlur(v, (0, 0), 3),
    "blurred widely": lambda v: cv2.GaussianBlur(v, (0, 0), 6),
    "enlarged": lambda v: cv2.resize(v, None, fx=2, fy=2),
    "enlarged a little": lambda v: cv2.resize(v, None, fx=1.3, fy=1.3),
    "enlarged eight times": lambda v: cv2.resize(v, None, fx=8, fy=8),
    "enlarged, cubic": lambda v: cv2.resize(v, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC),
    "reduced": lambda v: cv2.resize(v, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "reduced a little": lambda v: cv2.resize(v, None, fx=0.7, fy=0.7),
}


@pytest.mark.parametrize("how", SMOOTH)
def test_smoothed_edges_are_found(how: str) -> None:
    assert shown(SMOOTH[how](disc())).kind is Kind.SMOOTHED
    for values in (two_discs(127, 255), two_discs(40, 80), two_discs(20, 255)):
        found = shown(SMOOTH[how](values))
        assert found.kind is Kind.UNCLEAR and "anti-aliased" in found.problem and not found.is_faint
    red = SMOOTH[how](np.dstack([disc(), disc(0), disc(0)]))
    assert shown(red).kind is Kind.UNCLEAR


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 95])
def test_a_jpeg_is_one_object_or_unclear(quality: int) -> None:
    assert shown(jpeg(disc(), quality), lossy="JPEG").kind is Kind.SMOOTHED
    for values in (
        two_discs(127, 255),
        two_discs(20, 255),
        two_discs(20, 40),
        disc(20),
        disc(200),
        labels(127, 255),
    ):
        found = shown(jpeg(values, quality), lossy="JPEG")
        assert found.kind is Kind.UNCLEAR and "JPEG changes labels; save as PNG" in found.problem
    assert shown(jpeg(disc(20), quality), lossy="JPEG").is_faint
    assert not shown(jpeg(disc(60), quality), lossy="JPEG").is_faint


def surrounded(area: int, *ids: int) -> np.ndarray:
    """(24, 24) uint8: an object all around which tiny ones lie, as in a label map of few pixels."""
    found = np.zeros((24, 24), np.uint8)
    found[8:14, 8:14] = area
    places = [(6, 7), (6, 10), (6, 13), (9, 6), (12, 6), (14, 8), (14, 11), (14, 14), (9, 14), (12, 14)]
    for i, (y, x) in enumerate(places):
        found[y : y + 2, x : x + 2] = ids[i % len(ids)]
    return found


THIN = {
    "tiny ones around a large one": surrounded(1, 2, 3, 4, 5),
    "tiny ones around void": surrounded(255, 1, 2, 3, 4),
    "tiny ones of higher labels around void": surrounded(255, 6, 7, 8, 9),
    "squares of 2 pixels": spots(1, 2, 3, 4, 255),
    "single pixels": spots(*range(1, 8), side=1),
    "three pixels each": np.pad(np.array([[1, 1, 0, 2, 0], [1, 0, 0, 2, 3], [0, 0, 0, 2, 3]], np.uint8), 20),
    "two squares of 2 pixels that touch": np.pad(np.repeat([[100, 200]], 2, 0).repeat(2, 1), 20).astype(
        np.uint8
    ),
    "lines": np.repeat(np.arange(20, dtype=np.uint8)[:, None] % 2 * np.arange(20)[:, None], 40, 1).astype(
        np.uint8
    ),
    "crossing lines": cv2.line(cv2.line(disc(3, 40), (0, 0), (299, 199), 1), (0, 199), (299, 0), 2),
    "small ones on a large one": np.where(
        np.pad(spots(1, 2, 4), 60) > 0, np.pad(spots(1, 2, 4), 60), 3
    ).astype(np.uint8),
    "a tiny one within void": cv2.circle(disc(255, 20), (150, 100), 1, 1, -1),
    "a leash": cv2.line(disc(255), (150, 40), (290, 0), 127),
    "70 objects": grid(70, 185),
    "void outlines": cv2.circle(two_discs(1, 2), (190, 100), 60, 255, 3),
}


@pytest.mark.parametrize("name", THIN)
def test_thin_and_tiny_objects_are_objects(name: str) -> None:
    assert shown(THIN[name]).kind is Kind.LABELS


@pytest.mark.parametrize(
    ("pixels", "kind"),
    [
        (labels() * 0, Kind.EMPTY),
        (labels(255), Kind.ONE),
        (indexed(labels(255)), Kind.ONE),
        (Image.fromarray(labels(1) > 0), Kind.ONE),
        (labels(1).astype(np.uint16) * 65535, Kind.ONE),
        (blur(labels(255)), Kind.SMOOTHED),
        (cv2.blur(labels(1).astype(np.uint16) * 65535, (3, 3)), Kind.SMOOTHED),
        (indexed(blur(labels(255))), Kind.LABELS),  # no tool smooths palette indices
        (enlarge(labels(90, 200), cv2.INTER_NEAREST), Kind.LABELS),
        (labels(254), Kind.LABELS),
        (labels(1, 2).astype(np.uint16) * 500, Kind.UNCLEAR),
        (coloured(RED, GREEN), Kind.COLOURS),
        (coloured(WHITE), Kind.ONE),
        (in_alpha(labels(1)), Kind.ONE),
    ],
)
def test_kinds(pixels: Pixels, kind: Kind) -> None:
    assert shown(pixels).kind is kind


def test_a_photograph_is_no_mask() -> None:
    noise = np.random.default_rng(0).integers(1, 255, (120, 160)).astype(np.uint8)
    smooth = cv2.GaussianBlur(noise.astype(np.float32), (0, 0), 3)
    smooth = (smooth - smooth.mean()) / smooth.std()
    for contrast in (40, 80, 120):
        image = np.clip(contrast * smooth + 110, 0, 255).astype(np.uint8)
        assert shown(image).kind is Kind.UNCLEAR
    beside = disc(200)
    beside[:40, :40] = noise[:40, :40]
    assert shown(beside).kind is Kind.UNCLEAR
    ramp = np.linspace(0, 255, 1200).astype(np.uint8).reshape(30, 40)
    assert shown(ramp).kind is Kind.UNCLEAR and shown(ramp).is_faint


# ---- all masks of a video ----


def video(root: Path, masks: Sequence[Pixels], binary: bool | None = None) -> VideoIndex:
    paths = [root / f"{t:05d}.png" for t in range(len(masks))]
    for path, pixels in zip(paths, masks):
        save(path, pixels)
    return VideoIndex("v", tuple(paths), dict(enumerate(paths)), binary=binary)


def read(index: VideoIndex, order: Sequence[int] = (), warn: Callable | None = None) -> list[list[int]]:
    """The labels that each mask shows, in the order of the video, read in another order."""
    opened = Annotations(index, warn=warn)
    found = {t: opened.read(t) for t in order or range(len(index.masks))}
    return [np.unique(found[t]).tolist()[1:] for t in sorted(found)]


EMPTY = labels() * 0
VIDEOS: dict[str, tuple[list[Pixels], bool | None, list[list[int]]]] = {
    "labels": ([labels(1, 2), indexed(labels(2)), labels(1).astype(np.uint16)], None, [[1, 2], [2], [1]]),
    "void": ([labels(1, 255), indexed(labels(255))], None, [[1, 255], [255]]),
    "one object": ([EMPTY, labels(255), blur(labels(255)), EMPTY], None, [[], [1], [1], []]),
    "one object that vanishes": ([labels(255), blur(spots(255))], None, [[1], []]),
    "one object in a palette": ([indexed(labels(255)), indexed(labels(255))], None, [[1], [1]]),
    "colours": (
        [coloured(RED), EMPTY, coloured(GREEN, RED), coloured(WHITE), coloured(BLUE, WHITE)],
        None,
        [[1], [], [1, 2], [3], [3, 4]],
    ),
    "palette colours": ([palette()[labels(2, 7, 255)], palette()[labels(7)]], None, [[2, 7, 255], [7]]),
    "greys": ([grey(labels(2, 5)), grey(labels(128))], None, [[2, 5], [128]]),
    "DAVIS 2016": ([labels(255), labels(3, 9), blur(labels(255)), EMPTY], True, [[1], [1], [1], []]),
    "DAVIS 2017": ([EMPTY, labels(1, 2), labels(255), labels(2, 255)], False, [[], [1, 2], [255], [2, 255]]),
    "a photograph of nothing but crowds": ([indexed(labels(255))], False, [[255]]),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_masks_are_read_alike_in_every_order(tmp_path: Path, name: str) -> None:
    masks, binary, ids = VIDEOS[name]
    index = video(tmp_path, masks, binary)
    order = list(range(len(masks)))
    for one in (order, order[::-1], [*order[len(order) // 2 :], *order[: len(order) // 2]]):
        assert read(index, one) == ids
        style = VideoStyle(index)  # as for the clips of a training video
        for t in one:
            found = Annotations(index, [t], style, warn=None).read(t)
            assert np.unique(found).tolist()[1:] == ids[t]


def test_a_smoothed_object_is_thresholded(tmp_path: Path) -> None:
    """Half of what is grey is object, in sets of one object, too."""
    for binary in (None, True):
        (index,) = (video(tmp_path, [blur(labels(255))], binary),)
        assert np.array_equal(
            Annotations(index, warn=None).read(0), (blur(labels(255)) >= 128).astype(np.uint8)
        )


WRONG: dict[str, tuple[list[Pixels], bool | None, int, list[str]]] = {
    "0 and 255 after labels": ([labels(1), labels(255)], None, 1, ["label numbers (1)", "0 and 255 only"]),
    "labels after 0 and 255": ([labels(255), labels(255, 3)], None, 1, ["one object", "(3, 255)"]),
    "a single grey after 0 and 255": ([labels(255), spots(9)], None, 1, ["label numbers (9)"]),
    "colours after labels": ([labels(1), coloured(RED)], None, 1, ["found colours"]),
    "labels after colours": ([coloured(RED), labels(1)], None, 1, ["holds colours"]),
    "0 and 255 after colours": ([coloured(RED), labels(255)], None, 1, ["holds colours"]),
    "a colour that varies": (
        [coloured(RED), coloured((223, 32, 0))],
        None,
        1,
        ["(223, 32, 0)", "(255, 0, 0)"],
    ),
    "another palette": ([coloured((128, 0, 0)), coloured(RED)], None, 1, ["DAVIS palette"]),
    "0 and 255 in DAVIS 2017": ([EMPTY, labels(255), labels(1)], False, 1, ["255 is void here", "write 1"]),
    "one smoothed object in DAVIS 2017": ([labels(1), blur(labels(255))], False, 1, ["smoothed edges"]),
}


@pytest.mark.parametrize("name", WRONG)
def test_masks_that_do_not_fit_together_are_named(tmp_path: Path, name: str) -> None:
    """The mask that decides and the one that differs, in whichever order they are read."""
    masks, binary, wrong, words = WRONG[name]
    index = video(tmp_path, masks, binary)
    for order in (range(len(masks)), [wrong]):
        opened = Annotations(index, warn=None)
        with pytest.raises(UnreadableError) as error:
            for t in order:
                opened.read(t)
        message = str(error.value)
        assert all(word in message for word in [f"{wrong:05d}.png", *words]), message
        assert binary is False or "00000.png" in message


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("pixels", [coloured(RED), blur(labels(60, 120)), labels(9).astype(np.uint16) * 99])
def test_data_sets_refuse_what_is_no_label(tmp_path: Path, binary: bool, pixels: Pixels) -> None:
    with pytest.raises(UnreadableError, match="00000.png"):
        read(video(tmp_path, [pixels], binary))


def test_a_colour_that_differs_enough_is_a_new_object(tmp_path: Path) -> None:
    assert read(video(tmp_path, [coloured(RED), coloured((222, 0, 0))])) == [[1], [2]]


def test_a_video_has_at_most_254_colours(tmp_path: Path) -> None:
    table = np.array([(i % 7 * 40, i // 7 % 7 * 40, i // 49 * 40) for i in range(256)], np.uint8)
    blocks = np.kron(np.arange(1, 128), np.ones((4, 4))).astype(int)
    masks = [np.pad(table[blocks + 127 * half], ((1, 0), (0, 0), (0, 0))) for half in (0, 1)]
    assert [len(ids) for ids in read(video(tmp_path / "a", masks))] == [127, 127]
    masks.append(coloured((255, 0, 255)))
    with pytest.raises(UnreadableError, match="00002.png: expected at most 254 colours"):
        read(video(tmp_path / "b", masks))


def test_nothing_is_decoded_before_it_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    decode_file = annotations.decode_mask
    for module in (annotations, mask_style):
        monkeypatch.setattr(
            module, "decode_mask", lambda path: decoded.append(path.stem) or decode_file(path)
        )
    index = video(tmp_path, [labels(1), *[labels(1, 2)] * 5])
    opened = Annotations(index)
    assert not decoded
    opened.read(4)
    assert decoded == ["00004", "00000"]  # the first one decides
    opened.read(2)
    assert decoded == ["00004", "00000", "00002"]
    decoded.clear()
    Annotations(video(tmp_path, [labels(1)] * 3, False)).read(2)
    assert decoded == ["00002"]  # the index decides


def test_each_warning_is_given_once_a_video(tmp_path: Path) -> None:
    told: list[str] = []
    read(video(tmp_path, [labels(255), *[blur(labels(255))] * 3]), warn=told.append)
    assert len(told) == 1 and "00001.png: smoothed edges; read as one object, values from 128 on" in told[0]
    lost = int(((blur(labels(255)) > 0) & (blur(labels(255)) < 128)).sum())
    assert f"({lost} pixels below become background)" in told[0] and lost > 0
    told.clear()
    read(video(tmp_path, [labels(1), *[labels(1, 255)] * 3]), warn=told.append)
    assert len(told) == 1 and "255 beside other labels (1)" in told[0]


# ---- the check before training ----


def settings() -> ClipSettings:
    return ClipSettings(size=(32, 48), max_skip=[1])


def test_checked_masks_are_spread_over_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abc":
        fake_datasets.folder(tmp_path, name=name, frames=5)
    sets = training_sets(tmp_path, ["FOLDER"], [1])
    decoded: list[str] = []
    decode_file = annotations.decode_mask
    monkeypatch.setattr(
        annotations,
        "decode_mask",
        lambda path: decoded.append(f"{path.parent.name}{path.stem[-1]}") or decode_file(path),
    )
    check_masks(sets, settings(), 4)
    assert decoded == ["a0", "b0", "b4", "c4"]
    decoded.clear()
    check_masks(sets, settings(), 0)
    assert not decoded
    check_masks(sets, settings(), 99)
    assert len(decoded) == 15


def test_a_mask_of_another_size_is_found_before_training(tmp_path: Path) -> None:
    fake_datasets.folder(tmp_path)
    fake_datasets.save_mask(tmp_path / "Annotations/mine/00002.png", labels(1)[:40])
    with pytest.raises(InputError, match="00002.png.*64x48.*64x40"):
        check_masks(training_sets(tmp_path, ["FOLDER"], [1]), settings(), 100)


# ---- real masks: none of them may be refused ----


@real
@pytest.mark.parametrize(("root", "step"), [("", 1), ("TRAIN", 25)])
def test_real_masks_of_images_are_read(root: str, step: int) -> None:
    """Maps of hundreds of thin regions (BSDS), and saliency masks (DUTS)."""
    told: list[str] = []
    for index in index_images(SHARED / root)[::step]:
        assert Annotations(index, warn=told.append).read(0).any()
    assert not told


@real
@pytest.mark.parametrize("binary", [True, None])
def test_real_masks_of_videos_are_read(binary: bool | None) -> None:
    told: list[str] = []
    for index in davis16(SHARED, "train"):
        masks = VideoIndex(index.name, index.frames, index.masks, binary=binary)
        for t in sorted(masks.masks)[::10]:
            assert set(np.unique(Annotations(masks, warn=told.append).read(t))) <= {0, 1}
    assert not told
