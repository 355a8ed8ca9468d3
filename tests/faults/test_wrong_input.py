"""What can be wrong with an input, row by row, through the three scripts: each row says what the one line must name."""

import json
import os
import pickle
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from models.stm import STM
from tests.helpers import fake_datasets as trees
from tests.helpers.subprocess_runner import End, bound_by_permissions, run

NETWORK = [
    "arch",
    "resnet18",
    "keydim",
    "8",
    "valdim",
    "8",
    "decoder_dim",
    "8",
    "pretrained",
    "False",
    "gpu_id",
    "-1",
]
SMALL = [
    *NETWORK,
    "input_size",
    "(32, 48)",
    "workers",
    "0",
    "sampled_frames",
    "2",
    "iter_size",
    "1",
    "epochs",
    "1",
    "loop",
    "0",
    "epoch_per_test",
    "0",
]


def small_model() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = STM("resnet18", 8, 8, decoder_dim=8)
    model.init_memory_encoder_from_query()
    return model.state_dict()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.pth.tar"
    torch.save({"state_dict": small_model()}, path)
    return path


def one_line(end: End, *named: str) -> None:
    """Exit code 2, one line of error that holds these words, no traceback."""
    errors = [line for line in end.err.splitlines() if line.startswith("error: ")]
    assert end.code == 2, (end.code, end.out, end.err)
    assert len(errors) == 1 and "Traceback" not in end.err and len(errors[0]) < 2500, end.err
    own = [
        line for line in end.err.splitlines() if not re.match(r"\[[\w,]+ @ 0x", line)
    ]  # ffmpeg talks where the parent has used it before
    assert all(line.startswith(("error: ", "warning: ")) for line in own), end.err
    for word in named:
        assert word in errors[0], errors[0]


def goes_on(end: End, *warned: str) -> None:
    """Exit code 0, and these words among the warnings."""
    assert end.code == 0, (end.code, end.err)
    assert "Traceback" not in end.err
    for word in warned:
        assert word in end.err, end.err


# ---- config -----------------------------------------------------------------------------------------------------------

CONFIG = {  # content of the file (None: no file), options, words
    "missing file": (None, [], ["c.yaml", "does not exist"]),
    "not YAML": ("a: [1", [], ["c.yaml", "not plain YAML"]),
    "no keys": ("- 1\n- 2", [], ["c.yaml", "key: value"]),
    "not text": (b"\xff\xfe\x00\x01", [], ["c.yaml"]),
    "object tag": (
        "root: !!python/object/apply:os.system ['touch {root}/pwned']",
        [],
        ["c.yaml", "not plain YAML"],
    ),
    "unknown key": ("epoch: 3", [], ["'epoch'", "'epochs'"]),
    "unknown option": ("", ["learning_rat", "1"], ["'learning_rat'", "'learning_rate'"]),
    "wrong type": ("epochs: many", [], ["'epochs'", "whole number"]),
    "wrong type of a list": ("datafreq: [a, b]", [], ["'datafreq'", "whole number"]),
    "bool for a number": ("epochs: true", [], ["'epochs'"]),
    "number for a text": ("arch: 3", [], ["'arch'", "text"]),
    "a dash too late": ("", ["epochs", "1", "--cfg", "x"], ["'--cfg'", "before"]),
    "an equals signals": ("", ["epochs=1"], ["'epochs=1'", "epochs 1"]),
    "odd options": ("", ["epochs"], ["'epochs'", "pairs"]),
    "negative size": ("input_size: (-240, 427)", [], ["'input_size'"]),
    "zero size": ("input_size: (0, 0)", [], ["'input_size'"]),
    "one side": ("input_size: 240", [], ["'input_size'"]),
    "zero epochs": ("epochs: 0", [], ["'epochs'"]),
    "zero batch": ("train_batch: 0", [], ["'train_batch'"]),
    "negative rate": ("learning_rate: -1.0", [], ["'learning_rate'"]),
    "rate not a number": ("learning_rate: .nan", [], ["'learning_rate'"]),
    "infinite rate": ("learning_rate: .inf", [], ["'learning_rate'"]),
    "unknown arch": ("arch: resnet19", [], ["'arch'", "resnet18"]),
    "unknown set": ("trainset: DAVIS71", [], ["DAVIS71", "DAVIS17"]),
    "unknown mode": ("mode: recurent", [], ["'mode'", "recurrent"]),
    "unknown loader": ("data_backend: NUMPY", [], ["'data_backend'", "DALI"]),
    "unknown solver": ("solver: lion", [], ["'solver'", "adamw"]),
    "unequal lists": ("trainset: [DAVIS17, VOS]\ndatafreq: [5]", [], ["trainset", "datafreq", "max_skip"]),
    "empty list": ("trainset: []", [], ["'trainset'"]),
    "null": ("root: null", [], ["'root'", "text"]),
    "odd tag": ("epochs: !!bool maybe", [], ["c.yaml", "not plain YAML"]),
    "a date that is none": ("root: !!timestamp x", [], ["c.yaml", "not plain YAML"]),
    "deep nesting": ("", ["epochs", "[" * 5000], ["'epochs'"]),
    "400 digits": ("learning_rate: 1" + "0" * 400, [], ["'learning_rate'"]),
    "a seed too large": ("seed: 18446744073709551616", [], ["'seed'"]),
    "infinite scale": ("scales: [.inf]", [], ["'scales'"]),
    "scale of no pixels": ("input_size: (32, 32)\nscales: [0.1]", [], ["'input_size'", "'scales'"]),
    "scale not a number": ("tta_scales: [1.0, .nan]", [], ["'tta_scales'"]),
    "infinite sharpness": ("sharpness: .inf", [], ["'sharpness'"]),
    "NUL in a path": ('output_dir: "a\\0b"', [], ["'output_dir'", "NUL"]),
    "group norm from ImageNet": ("norm: gn", [], ["'norm'", "pretrained False"]),
    "coloured masks for a server": (
        "submission: True\nsave_indexed_format: segmentation",
        [],
        ["'submission'", "index"],
    ),
    "a GPU below 0": ("multi_gpu_ids: [-1]", [], ["'multi_gpu_ids'"]),
    "a line of its own": ('"a\\nerror: b": 1', [], ["there is no key"]),
}


@pytest.mark.parametrize("name", CONFIG)
def test_config(tmp_path: Path, name: str) -> None:
    content, options, words = CONFIG[name]
    path = tmp_path / "c.yaml"
    if content is not None:
        path.write_bytes(
            content if isinstance(content, bytes) else content.replace("{root}", str(tmp_path)).encode()
        )
    script = ("train.py", "test.py", "demo/demo.py")[len(name) % 3] if name != "unknown set" else "train.py"
    one_line(run(script, "--cfg", path, *options), *words)
    assert not (tmp_path / "pwned").exists()


def test_config_a_gpu_that_is_not_there(tmp_path: Path, weights: Path) -> None:
    """Without CUDA the CPU does it, with a warning; with CUDA the GPU's number must exist."""
    trees.davis17(tmp_path)
    end = run("test.py", *SMALL, "root", tmp_path, "initial", weights, "gpu_id", "99")
    one_line(end, "'gpu_id'", "99") if torch.cuda.is_available() else goes_on(end, "CUDA is not available")


# ---- weights ----------------------------------------------------------------------------------------------------------


class Payload:
    """Unpickles by running code."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.system, (f"touch {self.target}",)


def not_finite() -> dict:
    state = small_model()
    state["Decoder.pred2.bias"] = torch.tensor([float("nan"), 0.0])
    return state


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"state_dict": Payload(path.parent / "pwned")}))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("hello.txt", "hello")


def _truncated(path: Path) -> None:
    torch.save(small_model(), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


WEIGHTS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "missing": (lambda p: None, ["w.pth", "does not exist"]),
    "folder": (lambda p: p.mkdir(), ["w.pth"]),
    "empty": (lambda p: p.write_bytes(b""), ["w.pth"]),
    "text": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1"), ["w.pth"]),
    "truncated": (_truncated, ["w.pth", "whole"]),
    "zip of something else": (_zip, ["w.pth"]),
    "code in a pickle": (_pickled, ["w.pth", "safe"]),
    "code in a torch file": (
        lambda p: torch.save({"state_dict": Payload(p.parent / "pwned")}, p),
        ["w.pth", "safe"],
    ),
    "NaN": (lambda p: torch.save(not_finite(), p), ["w.pth", "NaN", "Decoder.pred2.bias"]),
    "a list": (lambda p: torch.save([1, 2], p), ["w.pth", "state dict"]),
    "an empty dict": (lambda p: torch.save({}, p), ["w.pth", "state dict"]),
    "an optimizer": (
        lambda p: torch.save({"state": {}, "param_groups": [{"lr": 0.1}]}, p),
        ["w.pth", "network weights"],
    ),
    "another arch": (
        lambda p: torch.save(STM("resnet50", 8, 8, decoder_dim=8).state_dict(), p),
        ["w.pth", "arch resnet50", "arch resnet18"],
    ),
    "another width": (
        lambda p: torch.save(STM("resnet18", 16, 8, decoder_dim=8).state_dict(), p),
        ["w.pth", "keydim 16", "keydim 8"],
    ),
    "a tensor as average": (lambda p: torch.save({"ema": torch.zeros(2)}, p), ["w.pth"]),
    "odd names": (lambda p: torch.save({"Encoder_Q.res4.x": torch.zeros(2)}, p), ["w.pth", "missing"]),
    "sparse": (
        lambda p: torch.save({"Decoder.pred2.bias": torch.zeros(2).to_sparse()}, p),
        ["w.pth", "dense"],
    ),
    "half of it": (lambda p: torch.save(dict(list(small_model().items())[:50]), p), ["w.pth", "missing"]),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(tmp_path: Path, name: str) -> None:
    trees.davis17(tmp_path)
    make, words = WEIGHTS[name]
    make(tmp_path / "w.pth")
    one_line(run("test.py", *SMALL, "root", tmp_path, "initial", tmp_path / "w.pth"), *words)
    assert not (tmp_path / "pwned").exists() and not list((tmp_path / "output").rglob("*.png"))


FITTING = {
    "bare": lambda state: state,
    "in state_dict": lambda state: {"state_dict": state, "epoch": 3, "max_skip": [5]},
    "module.": lambda state: {"state_dict": {f"module.{k}": v for k, v in state.items()}},
    "fp16": lambda state: {k: v.half() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("name", FITTING)
@pytest.mark.parametrize("old", [False, True])
def test_weights_that_fit(tmp_path: Path, name: str, old: bool) -> None:
    trees.davis17(tmp_path)
    torch.save(FITTING[name](small_model()), tmp_path / "w.pth", _use_new_zipfile_serialization=not old)
    goes_on(run("test.py", *SMALL, "root", tmp_path, "initial", tmp_path / "w.pth"))


def test_weights_where_a_training_state_is_wanted(tmp_path: Path, weights: Path) -> None:
    trees.davis17(tmp_path)
    end = run(
        "train.py",
        *SMALL,
        "root",
        tmp_path,
        "trainset",
        "DAVIS17",
        "checkpoint",
        tmp_path / "ckpt",
        "resume",
        weights,
    )
    one_line(end, str(weights), "optimizer", "initial")


@pytest.mark.parametrize(
    "damage",
    [
        {"rng": {}},
        {"optimizer": {}},
        {"epoch": "3"},
        {"totals": {"x": 1}},
        {"scheduler": {}},
        {"max_skip": [None]},
    ],
)
def test_a_training_state_of_odd_content(tmp_path: Path, damage: dict) -> None:
    trees.folder(tmp_path)
    options = [
        "root",
        tmp_path,
        "trainset",
        "FOLDER",
        "datafreq",
        "1",
        "max_skip",
        "1",
        "checkpoint",
        tmp_path / "ckpt",
    ]
    goes_on(run("train.py", *SMALL, *options))
    path = tmp_path / "ckpt/recurrent.pth.tar"
    torch.save({**torch.load(path, weights_only=True), **damage}, path)
    one_line(run("train.py", *SMALL, *options, "resume", path), "initial")


def test_output_that_is_not_finite_is_no_background(tmp_path: Path) -> None:
    own(tmp_path)
    state = small_model()
    torch.save(
        {name: value * 1e30 if name.startswith("Decoder") else value for name, value in state.items()},
        tmp_path / "w.pth",
    )
    end = segment_folder(tmp_path, tmp_path / "w.pth")
    one_line(end, "2 of 2 videos failed")
    assert "not finite" in end.err


# ---- frames -----------------------------------------------------------------------------------------------------------


def own(root: Path, frames: int = 4) -> tuple[Path, Path]:
    """Folder of frames and of the first mask of the video 'mine'; beside it 'other', which nothing is wrong with."""
    trees.folder(root, masked=(0,), frames=frames)
    trees.folder(root, name="other", masked=(0,))
    return root / "JPEGImages/mine", root / "Annotations/mine"


def resave(path: Path, change: Callable[[Image.Image], Image.Image], **options: object) -> None:
    with Image.open(path) as picture:
        changed = change(picture)
    changed.save(path, **options)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def bomb(path: Path) -> None:
    """A small file of very many pixels."""
    Image.new("1", (30000, 30000)).save(path)


def segment_folder(root: Path, weights: Path, *options: str) -> End:
    return run(
        "test.py",
        *SMALL,
        "root",
        root,
        "valset",
        "FOLDER",
        "initial",
        weights,
        *options,
        before=bound_by_permissions,
    )


BROKEN_FRAMES = {  # the video fails, the others go on
    "truncated": lambda folder: cut(folder / "00002.png"),
    "empty file": lambda folder: (folder / "00002.png").write_bytes(b""),
    "text": lambda folder: (folder / "00002.png").write_text("no picture"),
    "another size": lambda folder: Image.new("RGB", (60, 60)).save(folder / "00002.png"),
    "decompression bomb": lambda folder: bomb(folder / "00002.png"),
    "a folder": lambda folder: ((folder / "00002.png").unlink(), (folder / "00002.png").mkdir()),
    "dangling link": lambda folder: (
        (folder / "00002.png").unlink(),
        (folder / "00002.png").symlink_to("nowhere.png"),
    ),
    "unreadable": lambda folder: (folder / "00002.png").chmod(0),
    "a pipe": lambda folder: ((folder / "00002.png").unlink(), os.mkfifo(folder / "00002.png")),
    "PostScript": lambda folder: (folder / "00002.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\n"
    ),
}


@pytest.mark.parametrize("name", BROKEN_FRAMES)
def test_a_frame_that_cannot_be_read(tmp_path: Path, weights: Path, name: str) -> None:
    folder, _ = own(tmp_path)
    BROKEN_FRAMES[name](folder)
    end = segment_folder(tmp_path, weights)
    one_line(end, "1 of 2 videos failed")
    assert "video 'mine' failed" in end.err and "00002" in end.err
    assert len(list((tmp_path / "output/FOLDER/other").glob("*.png"))) == 4
    assert all(
        Image.open(path).size == trees.SIZE[::-1] for path in (tmp_path / "output/FOLDER/mine").glob("*.png")
    )


ODD_EXIF = (  # held sideways, and with bytes as resolution
    b"Exif\0\0MM\0*\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\x01\x1a\0\x07\0\0\0\x01X\0\0\0\0\0\0\0"
)
GOOD_FRAMES = {
    "one frame": lambda folder: [path.unlink() for path in sorted(folder.iterdir())[1:]],
    "grey": lambda folder: resave(folder / "00001.png", lambda p: p.convert("L")),
    "RGBA": lambda folder: resave(folder / "00001.png", lambda p: p.convert("RGBA")),
    "palette": lambda folder: resave(folder / "00001.png", lambda p: p.convert("P")),
    "16 bits": lambda folder: cv2.imwrite(str(folder / "00001.png"), np.full(trees.SIZE, 40000, np.uint16)),
    "CMYK": lambda folder: resave(folder / "00001.png", lambda p: p.convert("CMYK"), format="JPEG"),
    "a number missing": lambda folder: (folder / "00002.png").unlink(),
    "names of letters": lambda folder: (folder / "00002.png").rename(folder / "schön und gut.png"),
    "odd EXIF": lambda folder: resave(
        folder / "00001.png", lambda p: p.transpose(Image.Transpose.ROTATE_90), format="JPEG", exif=ODD_EXIF
    ),
    "a link": lambda folder: (
        (folder / "00002.png").rename(folder.parent / "x.png"),
        (folder / "00002.png").symlink_to(folder.parent / "x.png"),
    ),
    "hidden files": lambda folder: (folder / "._00001.png").write_text("of a Mac"),
}


@pytest.mark.parametrize("name", GOOD_FRAMES)
def test_frames_of_another_kind(tmp_path: Path, weights: Path, name: str) -> None:
    folder, _ = own(tmp_path)
    GOOD_FRAMES[name](folder)
    goes_on(segment_folder(tmp_path, weights))
    wanted = {path.stem for path in folder.glob("[!.]*.png")}
    assert {path.stem for path in (tmp_path / "output/FOLDER/mine").glob("*.png")} == wanted


def test_a_picture_held_sideways_is_turned(tmp_path: Path, weights: Path) -> None:
    """EXIF says so; the mask is upright, as every viewer shows the picture."""
    folder, masks = own(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for path in sorted(folder.iterdir()):
        with Image.open(path) as picture:
            picture.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".jpg"), exif=exif)
        path.unlink()
    goes_on(segment_folder(tmp_path, weights))
    assert Image.open(tmp_path / "output/FOLDER/mine/00001.png").size == trees.SIZE[::-1]


def test_an_empty_folder_of_frames(tmp_path: Path, weights: Path) -> None:
    folder, _ = own(tmp_path)
    for path in folder.iterdir():
        path.unlink()
    one_line(segment_folder(tmp_path, weights), str(folder), "no image")


def test_a_name_that_is_not_utf8(tmp_path: Path, weights: Path) -> None:
    """As an old zip leaves it."""
    trees.folder(tmp_path, name=os.fsdecode(b"sch\xf6n"))
    end = segment_folder(tmp_path, weights)
    goes_on(end)
    assert "sch\\udcf6n" in (tmp_path / "output/FOLDER/scores.csv").read_text(encoding="utf-8")


def test_links_of_one_target_name_are_two_videos(tmp_path: Path, weights: Path) -> None:
    for name in "ab":
        trees.folder(tmp_path / name, name="frames", masked=(0,))
        (tmp_path / "JPEGImages").mkdir(exist_ok=True)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "JPEGImages" / name).symlink_to(tmp_path / name / "JPEGImages/frames")
        (tmp_path / "Annotations" / name).symlink_to(tmp_path / name / "Annotations/frames")
    goes_on(segment_folder(tmp_path, weights))
    assert {path.parent.name for path in (tmp_path / "output/FOLDER").glob("*/*.png")} == {"a", "b"}


def test_a_mask_without_a_frame_is_told(tmp_path: Path, weights: Path) -> None:
    _, masks = own(tmp_path)
    trees.save_mask(masks / "00050.png", labels(1))
    goes_on(segment_folder(tmp_path, weights), "1 masks have no frame", "'00050'")


def test_unicode_and_spaces(tmp_path: Path, weights: Path) -> None:
    root = tmp_path / "mein Ördner 视频"
    trees.folder(root, name="a b 狗", masked=(0,))
    goes_on(segment_folder(root, weights))
    assert len(list((root / "output/FOLDER/a b 狗").glob("*.png"))) == 4


def film(path: Path, frames: int = 12) -> Path:
    trees.write_mp4(path, (trees.scene([1, 2], t)[0] for t in range(frames)))
    return path


FILMS = {
    "text": (lambda path: path.write_text("no film"), ["film.mp4", "single frame"]),
    "empty": (lambda path: path.write_bytes(b""), ["film.mp4", "single frame"]),
    "no frames": (lambda path: path.write_bytes(film(path).read_bytes()[:48]), ["film.mp4", "single frame"]),
    "cut off": (
        lambda path: path.write_bytes(film(path).read_bytes()[: path.stat().st_size // 2]),
        ["film.mp4"],
    ),
    "missing": (lambda path: None, ["film.mp4"]),
    "a picture": (
        lambda path: (
            trees.save_image(path.with_suffix(".png"), trees.scene([1])[0])
            or path.with_suffix(".png").rename(path)
        ),
        ["film.mp4", "single frame"],
    ),
    "a playlist": (
        lambda path: path.write_text(
            f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{film(path.parent / 'other.mp4')}\n#EXT-X-ENDLIST\n"
        ),
        ["film.mp4"],
    ),
}


@pytest.mark.parametrize("name", FILMS)
def test_a_film(tmp_path: Path, weights: Path, name: str) -> None:
    make, words = FILMS[name]
    make(tmp_path / "film.mp4")
    trees.save_mask(tmp_path / "m.png", trees.scene([1, 2])[1])
    end = run(
        "demo/demo.py",
        *SMALL,
        "initial",
        weights,
        "video_path",
        tmp_path / "film.mp4",
        "mask_path",
        tmp_path / "m.png",
        "output_dir",
        tmp_path / "out",
    )
    one_line(end, *words)
    assert not list(tmp_path.rglob("*.gif")) and not list(tmp_path.rglob("out/film/*.png"))


def uneven(path: Path) -> None:
    """From its fourth frame on an MP4 runs four times as fast: two entries in its table of durations instead of one."""
    data = bytearray(path.read_bytes())
    at = data.index(b"stts") + 8
    _, count, duration = struct.unpack(">3I", data[at : at + 12])
    data[at : at + 12] = struct.pack(">5I", 2, 3, duration, count - 3, duration // 4)
    for box in (
        b"moov",
        b"trak",
        b"mdia",
        b"minf",
        b"stbl",
        b"stts",
    ):  # each holds the next, and is 8 bytes longer now
        start = data.index(box) - 4
        data[start : start + 4] = struct.pack(">I", struct.unpack(">I", data[start : start + 4])[0] + 8)
    path.write_bytes(data)


def test_a_film_of_varying_frame_rate(tmp_path: Path, weights: Path) -> None:
    """Each of its frames is segmented once."""
    trees.save_mask(tmp_path / "Annotations/mine/00000.png", trees.scene([1, 2])[1])
    (tmp_path / "JPEGImages").mkdir()
    uneven(film(tmp_path / "JPEGImages/mine.mp4"))
    end = segment_folder(tmp_path, weights)
    goes_on(end)
    assert "cut off" not in end.err
    assert sorted(path.stem for path in (tmp_path / "output/FOLDER/mine").glob("*.png")) == [
        f"{t:05d}" for t in range(12)
    ]


def test_half_of_the_bundled_clip_is_no_input(tmp_path: Path, weights: Path) -> None:
    trees.folder(tmp_path)
    for key, path, other in (
        ("video_path", "JPEGImages/mine", "mask_path"),
        ("mask_path", "Annotations/mine", "video_path"),
    ):
        one_line(
            run(
                "demo/demo.py",
                *SMALL,
                "initial",
                weights,
                key,
                tmp_path / path,
                "output_dir",
                tmp_path / "out",
            ),
            f"'{other}'",
        )


def test_the_demo_does_not_write_over_its_input(tmp_path: Path, weights: Path) -> None:
    trees.folder(tmp_path)
    for where in ("JPEGImages", "Annotations"):
        end = run(
            "demo/demo.py",
            *SMALL,
            "initial",
            weights,
            "video_path",
            tmp_path / "JPEGImages/mine",
            "mask_path",
            tmp_path / "Annotations/mine/00000.png",
            "output_dir",
            tmp_path / where,
        )
        one_line(end, "'output_dir'", f"{where}/mine")


# ---- masks ------------------------------------------------------------------------------------------------------------


def labels(*ids: int) -> np.ndarray:
    return trees.scene(list(ids))[1]


def ramp() -> Image.Image:
    return Image.fromarray(
        np.linspace(0, 255, trees.SIZE[0] * trees.SIZE[1]).astype(np.uint8).reshape(trees.SIZE)
    )


BAD_MASKS: dict[str, tuple[Callable[[Path], object], list[str]]] = {
    "none": (lambda p: p.unlink(), ["Annotations/mine", "mask"]),
    "another size": (
        lambda p: trees.save_mask(p, trees.scene([1], size=(40, 40))[1]),
        ["00000.png", "40x40"],
    ),
    "no object": (lambda p: trees.save_mask(p, labels() * 0), ["00000.png", "at least one object"]),
    "smoothed": (lambda p: ramp().save(p), ["00000.png", "anti-aliased"]),
    "smoothed colours": (lambda p: ramp().convert("RGB").save(p), ["00000.png", "anti-aliased"]),
    "16 bits": (lambda p: cv2.imwrite(str(p), labels(1).astype(np.uint16)), ["00000.png", "8 bits"]),
    "truncated": (cut, ["00000.png"]),
    "text": (lambda p: p.write_text("no mask"), ["00000.png"]),
}


@pytest.mark.parametrize("name", BAD_MASKS)
def test_a_mask_that_cannot_be_used(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = own(tmp_path)
    make, words = BAD_MASKS[name]
    make(masks / "00000.png")
    end = segment_folder(tmp_path, weights)
    if name == "none":  # a set of which a part is not there
        one_line(end, *words)
        return
    one_line(end, "1 of 2 videos failed", "mine")
    told = next(line for line in end.err.splitlines() if "video 'mine' failed" in line)
    assert all(word in told for word in words)
    assert len(list((tmp_path / "output/FOLDER/other").glob("*.png"))) == 4


GOOD_MASKS: dict[str, tuple[Callable[[Path], object], set[int]]] = {
    "colours": (lambda p: trees.save_mask(p, labels(1, 2), "RGB"), {1, 2}),
    "0 and 255": (lambda p: trees.save_mask(p, labels(255), "L"), {1}),
    "255 as void": (lambda p: trees.save_mask(p, labels(1, 255), "P"), {1}),
    "gaps": (lambda p: trees.save_mask(p, labels(3, 9), "P"), {3, 9}),
    "id 254": (lambda p: trees.save_mask(p, labels(254, 7), "P"), {7, 254}),
    "twelve objects": (lambda p: trees.save_mask(p, labels(*range(1, 13)), "P"), set(range(1, 13))),
}


@pytest.mark.parametrize("name", GOOD_MASKS)
def test_masks_of_another_kind(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = own(tmp_path)
    make, ids = GOOD_MASKS[name]
    make(masks / "00000.png")
    goes_on(segment_folder(tmp_path, weights))
    assert set(np.unique(np.array(Image.open(tmp_path / "output/FOLDER/mine/00000.png")))) - {0} == ids


LATER = {
    "vanishes for ever": {2: labels(1)},
    "leaves and returns": {1: labels(1), 2: labels(1, 2)},
    "brings nothing new": {2: labels(1, 2)},
    "is empty": {2: labels() * 0},
}


@pytest.mark.parametrize("name", LATER)
def test_later_masks(tmp_path: Path, weights: Path, name: str) -> None:
    _, masks = own(tmp_path, frames=5)
    for t, mask in LATER[name].items():
        trees.save_mask(masks / f"{t:05d}.png", mask)
    goes_on(segment_folder(tmp_path, weights, "loop", "1", "save_freq", "2"))
    assert len(list((tmp_path / "output/FOLDER/mine").glob("*.png"))) == 5


# ---- data sets --------------------------------------------------------------------------------------------------------


def _half(root: Path) -> None:
    tree = trees.davis17(root)
    names = [f"v{i:02d}" for i in range(14)]
    trees.write_db_info(tree, [(name, "val", 2017) for name in names])


def _meta(root: Path, videos: object) -> None:
    (trees.youtube_vos(root) / "valid/meta.json").write_text(json.dumps(videos))


def _db_info(root: Path, text: str) -> None:
    (trees.davis17(root) / "data/db_info.yaml").write_text(text.replace("{root}", str(root)))


LISTED = {"objects": {"1": {"category": "x", "frames": ["00000"]}}}
SETS: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "wrong root": (lambda r: None, "DAVIS17", ["DAVIS17", "set root"]),
    "no YouTube-VOS": (lambda r: None, "VOS", ["meta.json", "set root"]),
    "no folder": (lambda r: None, "FOLDER", ["JPEGImages"]),
    "half a set": (_half, "DAVIS17", ["14 of 14 videos are incomplete", "v00", "v09"]),
    "listed, not there": (
        lambda r: trees.write_db_info(trees.davis17(r), [("ghost", "val", 2017)]),
        "DAVIS17",
        ["ghost", "complete the data set"],
    ),
    "no video of the split": (
        lambda r: trees.write_db_info(trees.davis17(r), [("pair", "train", 2017)]),
        "DAVIS17",
        ["'val'"],
    ),
    "db_info not YAML": (lambda r: _db_info(r, "sequences: ["), "DAVIS17", ["db_info.yaml"]),
    "db_info of another shape": (
        lambda r: _db_info(r, "sequences: {a: 1}"),
        "DAVIS17",
        ["db_info.yaml", "sequences"],
    ),
    "db_info with an object tag": (
        lambda r: _db_info(r, "sequences: !!python/object/apply:os.system ['touch {root}/pwned']"),
        "DAVIS17",
        ["db_info.yaml"],
    ),
    "meta.json without the video": (lambda r: _meta(r, {"videos": {"ghost": LISTED}}), "VOS", ["ghost"]),
    "meta.json empty": (lambda r: _meta(r, {}), "VOS", ["meta.json", "videos"]),
    "meta.json nested deeply": (
        lambda r: (trees.youtube_vos(r) / "valid/meta.json").write_text("[" * 100000),
        "VOS",
        ["meta.json"],
    ),
    "../ in db_info": (
        lambda r: trees.write_db_info(trees.davis17(r), [("../../x", "val", 2017)]),
        "DAVIS17",
        ["would leave the folder"],
    ),
    "../ in meta.json": (lambda r: _meta(r, {"videos": {"../x": LISTED}}), "VOS", ["would leave the folder"]),
    "odd tag in db_info": (lambda r: _db_info(r, "sequences: !!int ''"), "DAVIS17", ["db_info.yaml"]),
    "a name that is a list": (
        lambda r: _db_info(r, "sequences: [{name: [a], set: val}]"),
        "DAVIS17",
        ["db_info.yaml", "sequences"],
    ),
    "two videos of a name": (
        lambda r: (trees.folder(r, masked=(0,)), film(r / "JPEGImages/mine.mp4")),
        "FOLDER",
        ["'mine'", "twice"],
    ),
    "two frames of a name": (
        lambda r: (
            trees.folder(r, masked=(0,)),
            trees.save_image(r / "JPEGImages/mine/00001.jpg", labels(1)),
        ),
        "FOLDER",
        ["'00001'", "twice"],
    ),
    "a made set to test on": (lambda r: None, "STATIC", ["'valset'", "STATIC"]),
}


@pytest.mark.parametrize("name", SETS)
def test_data_sets(tmp_path: Path, weights: Path, name: str) -> None:
    make, valset, words = SETS[name]
    make(tmp_path)
    one_line(run("test.py", *SMALL, "root", tmp_path, "valset", valset, "initial", weights), *words)
    assert not (tmp_path / "pwned").exists()


def static_with(root: Path, picture: bytes | None, mask: bool) -> None:
    trees.save_image(root / "STATIC/images/a.png", trees.scene([1])[0])
    if picture is not None:
        (root / "STATIC/images/a.png").write_bytes(picture)
    (root / "STATIC/masks").mkdir(parents=True)
    if mask:
        trees.save_mask(root / "STATIC/masks/a.png", labels(1))


TRAINING: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "wrong root": (lambda r: None, "DAVIS17", ["DAVIS17", "set root"]),
    "no clip to train on": (
        lambda r: trees.folder(r, masked=(0,)),
        "FOLDER",
        ["'FOLDER'", "two annotated frames"],
    ),
    "no pictures": (lambda r: None, "STATIC", ["STATIC/images"]),
    "a picture without a mask": (lambda r: static_with(r, None, False), "STATIC", ["STATIC/masks", "a.png"]),
    "a broken picture": (lambda r: static_with(r, b"no picture", True), "STATIC", ["a.png", "readable"]),
    "a broken frame": (lambda r: cut(trees.folder(r) / "JPEGImages/mine/00001.png"), "FOLDER", ["00001.png"]),
    "a broken mask": (lambda r: cut(trees.folder(r) / "Annotations/mine/00001.png"), "FOLDER", ["00001.png"]),
    "a mask of another size": (
        lambda r: [
            trees.save_mask(p, trees.scene([1], size=(40, 40))[1])
            for p in (trees.folder(r) / "Annotations/mine").iterdir()
        ],
        "FOLDER",
        ["40x40"],
    ),
}


@pytest.mark.parametrize("workers", ["0", "1"])
@pytest.mark.parametrize("name", TRAINING)
def test_training_sets(tmp_path: Path, name: str, workers: str) -> None:
    make, trainset, words = TRAINING[name]
    make(tmp_path)
    end = run(
        "train.py",
        *SMALL,
        "root",
        tmp_path,
        "trainset",
        trainset,
        "datafreq",
        "1",
        "max_skip",
        "1",
        "workers",
        workers,
        "samples_per_video",
        "4",
        "checkpoint",
        tmp_path / "ckpt",
    )
    one_line(end, *words)


# ---- tracebacks -------------------------------------------------------------------------------------------------------


def test_a_traceback_where_it_is_asked_for(tmp_path: Path) -> None:
    end = run("test.py", "debug", "True", "initial", "nowhere.pth", "root", tmp_path, "valset", "FOLDER")
    assert end.code == 2 and "Traceback" in end.err and end.err.splitlines()[-1].startswith("error: ")
