"""Wrong command lines of the commands of analysis/: one line that names the option."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from analysis.common import Moment
from tests.helpers import fake_datasets
from tests.helpers.subprocess_runner import Result, run_in_process

KEYS = {"gpu_id": -1, "input_size": (32, 48), "loop": 0}


@pytest.fixture
def run(tmp_path: Path, weights: Path) -> Callable[..., Result]:
    """Run a command on a video of objects 1 and 2 in four frames of 64x48; words replace its arguments."""
    fake_datasets.folder(tmp_path)
    paths = {"ROOT": tmp_path, "WEIGHTS": weights}
    video = ["--video", "ROOT/JPEGImages/mine", "--mask", "ROOT/Annotations/mine"]

    def start(command: str, words: str, chosen: bool = True) -> Result:
        arguments = ["--out", "ROOT/out", "--weights", "WEIGHTS", *(video if chosen else []), *words.split()]
        for name, path in paths.items():
            arguments = [word.replace(name, str(path)) for word in arguments]
        if "--" not in arguments:
            arguments.append("--")
        return run_in_process(f"analysis.{command}", *arguments, **KEYS)

    return start


def test_attention_shows_the_whole_read_only(run: Callable[..., Result]) -> None:
    run("attention", "-- top_k 3").check_error("top_k", "expected 0")


@pytest.mark.parametrize("command", ["erf", "attention", "noise"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--out ROOT/JPEGImages/mine", ("--out", "among the frames or masks")),
        ("--out ROOT/Annotations/mine/maps", ("--out", "among the frames or masks")),
        ("--video ROOT/JPEGImages/nobody", ("--video", "does not exist")),
        ("--mask ROOT/nothing", ("--mask", "does not exist")),
        ("--weights ROOT/nothing.pth", ("nothing.pth", "does not exist")),
        ("-- tta_flip True", ("tta_flip", "test-time augmentation")),
        ("-- savefreq 3", ("savefreq", "save_freq")),
    ],
)
def test_all_commands(run: Callable[..., Result], command: str, words: str, named: tuple[str, ...]) -> None:
    run(command, words).check_error(*named)


@pytest.mark.parametrize("command", ["erf", "attention"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--object 9", ("--object", "no object 9", "1, 2")),
        ("--object 1 300", ("--object", "no object 300")),
        ("--FRAME 00099", ("no frame 00099", "00000 to 00003")),
        ("--FRAME 00000", ("00000", "comes with a mask")),
        ("--FRAME 2", ("no frame 2", "00000 to 00003")),
    ],
)
def test_frames_and_objects(
    run: Callable[..., Result], command: str, words: str, named: tuple[str, ...]
) -> None:
    option = "--frames" if command == "erf" else "--frame"
    run(command, words.replace("--FRAME", option)).check_error(*named)


@pytest.mark.parametrize("command", ["erf", "attention"])
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            "--root ROOT --valset FOLDER --video mind",
            ("--video", "no video 'mind' in its split 'val'", "'mine'"),
        ),
        (
            "--root ROOT --valset FOLDER --video ROOT/JPEGImages/mine",
            ("--video", "to name it by its path, give --mask too"),
        ),
        ("--mask ROOT/Annotations/mine", ("--mask", "--video")),
        ("--root ROOT/nothing --valset FOLDER --video mine", ("nothing",)),
        ("--valset FOLDR --video mine", ("FOLDR", "FOLDER")),
    ],
)
def test_the_video(run: Callable[..., Result], command: str, words: str, named: tuple[str, ...]) -> None:
    run(command, words, chosen=False).check_error(*named)


@pytest.mark.parametrize(
    ("command", "words", "named"),
    [
        ("attention", "--pixel 64 10", ("--pixel", "64x48", "found 64 10")),
        ("attention", "--pixel 3 -1", ("--pixel", "found 3 -1")),
        ("erf", "--weights WEIGHTS WEIGHTS", ("--weights", "given twice")),
        ("erf", "--every 9", ("--every", "no frame")),
        ("noise", "--kinds erode --amounts 1", ("--amounts", "nothing is left of object 1, 2", "00000")),
        ("noise", "--mask ROOT/Annotations/mine/00000.png", ("'mine'", "true masks")),
        ("noise", "--length 1", ("'mine'", "no frame", "--length")),
    ],
)
def test_one_command(run: Callable[..., Result], command: str, words: str, named: tuple[str, ...]) -> None:
    run(command, words).check_error(*named)


def test_an_object_that_is_lost_is_left_out_with_a_count(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object 2 has no pixel in any of the three predicted frames."""

    def predicted(moment: Moment, number: int) -> np.ndarray:
        mask = np.zeros(moment.step.masks.shape[2:], bool)
        mask[:8, :8] = number == 1
        return mask

    monkeypatch.setattr(Moment, "predicted", predicted)
    end = run("attention", "")
    end.check_success("without a pixel to read for is left out in 3 frames (first object 2 in frame 00001)")
    assert end.out.count("\n| 1 |") == 1 and "\n| 2 |" not in end.out
    run("attention", "--object 2").check_error("nothing was read")


@pytest.mark.parametrize("amount", ["1.5", "-0.5", "much", "nan"])
def test_an_amount_of_damage_is_a_fraction(run: Callable[..., Result], amount: str) -> None:
    end = run("noise", f"--amounts={amount}")
    assert end.code == 2 and f"expected a number from 0 to 1, found '{amount}'" in end.err


def test_nothing_is_left_of_a_run_that_was_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    run("erf", "--object 9").check_error("--object")
    assert not (tmp_path / "out").exists()
