"""Properties that hold for any input (hypothesis), and readers of damaged files."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from dataset.annotations import Annotations
from dataset.davis import davis17
from dataset.edit_list import shown_frames
from dataset.listing import Incomplete
from dataset.sampling import increase_max_skip, sample_frames
from dataset.youtube_vos import read_meta
from libs.app.config import load_config
from libs.app.defaults import KEYS
from libs.core.errors import InputError
from libs.core.image_io import read_image
from libs.core.masks import VOID, Letterbox, object_ids, one_hot, select_objects
from libs.core.structures import Video, VideoIndex
from libs.evaluation.results import ResultFolder
from libs.method.memory_bank import MemoryBank
from libs.method.memory_rules import build_rule
from libs.training.checkpoint import read_weights
from models.stm import Memory, Objects
from tests.helpers import fake_datasets
from tests.helpers.small_network import small_state_dict

CASES = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
FUZZED = 150  # damaged files for each reader
SIDES = st.integers(1, 200)
SEEDS = st.integers(0, 1 << 32)


# ---- masks ---------------------------------------------------------------------------------------


@CASES
@given(SEEDS, SIDES, SIDES, st.integers(1, 12))
def test_one_hot_and_back(seed: int, height: int, width: int, channels: int) -> None:
    labels = torch.from_numpy(np.random.default_rng(seed).integers(0, channels, (height, width)))
    masks = one_hot(labels, channels)
    assert torch.equal(masks.argmax(0), labels) and torch.equal(masks.sum(0), torch.ones(height, width))


@CASES
@given(SEEDS, st.sets(st.integers(1, 254), min_size=1, max_size=20))
def test_ids_are_renumbered_and_named_again(seed: int, chosen: set[int]) -> None:
    ids = sorted(chosen)
    labels = np.random.default_rng(seed).choice(np.array([0, VOID, *ids], np.uint8), (20, 30))
    renumbered = select_objects(labels, ids)
    assert set(np.unique(renumbered)) <= set(range(len(ids) + 1)) and set(object_ids(labels)) <= chosen
    again = np.array([0, *ids], np.uint8)[renumbered]
    assert np.array_equal(again, np.where(labels == VOID, 0, labels))


@CASES
@given(SIDES, SIDES, st.integers(16, 120), st.integers(16, 120))
def test_a_letterbox_fits_and_is_undone(source_h: int, source_w: int, h: int, w: int) -> None:
    letterbox = Letterbox((source_h, source_w), (h, w))
    rows, columns = letterbox.box
    assert 0 <= rows.start < rows.stop <= h and 0 <= columns.start < columns.stop <= w
    assert (rows.stop - rows.start, columns.stop - columns.start) == letterbox.size and (
        letterbox.size[0] == h or letterbox.size[1] == w
    )
    everywhere = letterbox.labels(np.ones((source_h, source_w), np.uint8))
    assert everywhere.sum() == letterbox.size[0] * letterbox.size[1]
    back = letterbox.undo(torch.from_numpy(everywhere)[None].float())
    assert back.shape == (1, source_h, source_w) and torch.allclose(back, torch.ones(()))


# ---- memory and sampling -------------------------------------------------------------------------


@CASES
@given(
    st.sampled_from(["even", "surprise"]),
    st.integers(3, 9),
    st.integers(1, 60),
    st.sets(st.integers(0, 59), max_size=6),
)
def test_memory_stays_bounded_and_keeps_what_was_given(
    rule: str, most: int, frames: int, given_at: set[int]
) -> None:
    bank = MemoryBank(most, rule=build_rule(rule, most))
    marked = {0} | {t for t in given_at if t < frames}
    bank.appear(Objects(torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.long), 2))
    with torch.no_grad():
        for t in range(frames):
            bank.add(
                Memory(torch.full((1, 1, 1), float(t)), torch.full((1, 1, 1), float(t)), None),
                t,
                keep=t % 2 == 0,
                given=t in marked,
            )
            held = bank.read()[0].keys[0, :, 0].tolist()
            assert held[-1] == t or t in bank.times()[0] and t in held  # the newest is there
            assert len(held) == len(set(held)) <= max(most, len([m for m in marked if m <= t]) + 2)
            assert {m for m in marked if m <= t} <= set(map(int, held))


@CASES
@given(SEEDS, st.integers(1, 120), st.integers(2, 9), st.integers(1, 100))
def test_sampled_frames_rise_within_their_bounds(seed: int, length: int, count: int, max_skip: int) -> None:
    positions = sample_frames(length, count, max_skip, np.random.default_rng(seed))
    gaps = np.diff(positions)
    assert len(positions) == min(length, count) and positions[0] >= 0 and positions[-1] < length
    assert (gaps >= 1).all() and (gaps <= max_skip).all()


@CASES
@given(st.integers(1, 300), st.integers(1, 20))
def test_the_curriculum_never_goes_back(skip: int, step: int) -> None:
    assert skip <= increase_max_skip(skip, step) <= max(skip, 100)


# ---- config --------------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 1000),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.integers(-2, 9), max_size=4),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["DAVIS17", "resnet18", "(1, 2)", "[a", "1e-5", "auto"]),
)


@CASES
@given(key=st.sampled_from(sorted(KEYS)), value=VALUES)
@pytest.mark.filterwarnings("ignore")
def test_any_value_is_taken_with_its_type_or_refused(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps({key: value}), encoding="utf-8")  # JSON is YAML
    try:
        cfg = load_config(path)
    except InputError as error:
        assert key in str(error) or "YAML" in str(error)
    else:
        assert type(cfg[key]) is type(KEYS[key].default)


# ---- damaged files -------------------------------------------------------------------------------


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes changed, cut out, doubled or put in, or the end cut off."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        at, length = int(rng.integers(0, len(data) or 1)), int(rng.integers(1, 40))
        match int(rng.integers(5)):
            case 0:
                data[at : at + length] = rng.integers(0, 256, length, np.uint8).tobytes()
            case 1:
                del data[at : at + length]
            case 2:
                data[at:at] = data[at : at + length]
            case 3:
                data[at:at] = rng.choice(
                    [b"..", b"/", b'"', b"{}", b"null", b"-1", b"1e999", b"\0", b"!!python/name:os.system "]
                )
            case 4 if rng.random() < 0.3:
                del data[at:]
    return bytes(data)


def _meta(root: Path) -> Path:
    return fake_datasets.youtube_vos(root) / "valid/meta.json"


def _info(root: Path) -> Path:
    return fake_datasets.davis17(root) / "data/db_info.yaml"


def _weights(root: Path) -> Path:
    torch.save(
        {"state_dict": {k: v for k, v in small_state_dict().items() if v.numel() < 200}}, root / "w.pth"
    )
    return root / "w.pth"


def _record(root: Path) -> Path:
    record = {
        "fingerprint": "r",
        "inputs": "",
        "frames": {},
        "report": {
            "scores": [
                {
                    "name": "v",
                    "ids": [1, 7],
                    "jaccard": [[0.5, 1.0], []],
                    "boundary": [[1, 0], []],
                    "frames": [["0", "1"], []],
                }
            ],
            "copies": [],
            "unscored": [],
            "corrections": [],
            "round_trips": [],
            "drift": [],
            "frames": 3,
            "seconds": 1.0,
        },
    }
    (root / ".done").mkdir()
    (root / ".done/v.json").write_text(json.dumps(record))
    return root / ".done/v.json"


def _tif(path: Path) -> Path:
    with Image.open(path) as image:
        image.save(path.with_suffix(".tif"))
    return path.with_suffix(".tif")


def _film(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    fake_datasets.write_mp4(root / "film.mp4", [fake_datasets.scene([1])[0]] * 3)
    return root / "film.mp4"


def _shown(path: Path) -> None:
    """Refuse a damaged film, as every reader in this table refuses its file."""
    if shown_frames(path) != 3:
        raise InputError("damaged")


def _complete(videos: Sequence[VideoIndex | Incomplete]) -> None:
    for video in videos:
        if isinstance(video, Incomplete):
            raise InputError(video.reason)


READERS: dict[str, tuple[Callable[[Path], Path], Callable[[Path, Path], object]]] = {
    "mask": (
        lambda root: fake_datasets.folder(root) / "Annotations/mine/00000.png",
        lambda root, path: Annotations(VideoIndex("v", (path,), {0: path}, binary=None)).read(0),
    ),
    "png": (
        lambda root: fake_datasets.folder(root) / "JPEGImages/mine/00000.png",
        lambda root, path: read_image(path),
    ),
    "jpeg": (
        lambda root: fake_datasets.davis17(root) / "JPEGImages/480p/duo/00000.jpg",
        lambda root, path: read_image(path, (20, 20)),
    ),
    "tif": (
        lambda root: _tif(fake_datasets.folder(root) / "JPEGImages/mine/00000.png"),
        lambda root, path: read_image(path),
    ),
    "edit list": (_film, lambda root, path: _shown(path)),
    "list of DAVIS": (
        lambda root: fake_datasets.davis17(root, "ImageSets") / "ImageSets/2017/val.txt",
        lambda root, path: _complete(davis17(root, "val")),
    ),
    "meta.json": (_meta, lambda root, path: read_meta(path)),
    "db_info.yaml": (_info, lambda root, path: _complete(davis17(root, "val"))),
    "weights": (_weights, lambda root, path: read_weights(path)),
    "record": (_record, lambda root, path: ResultFolder(root, "r").resume([Video("v", 3, iter)])),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_read_or_refused(tmp_path: Path, name: str) -> None:
    """Whatever the damage, the reader returns or raises InputError with one line."""
    make, read = READERS[name]
    path = make(tmp_path)
    whole, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    read(tmp_path, path)
    for _ in range(FUZZED):
        path.write_bytes(damaged(whole, rng))
        try:
            read(tmp_path, path)
        except InputError as error:
            refused += 1
            assert "\n" not in str(error), error
    assert refused > FUZZED / 10
