"""Wrong input of demo/stream.py: one line that names the file, the camera or the option."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import fake_datasets
from tests.helpers.subprocess_runner import Result, run_in_process


@pytest.fixture
def film(tmp_path: Path) -> tuple[Path, Path]:
    """A film of two objects in four frames, and the mask of its first frame."""
    paths = tmp_path / "film.mp4", tmp_path / "film.png"
    fake_datasets.write_mp4(paths[0], (fake_datasets.scene([1, 2], t)[0] for t in range(4)))
    fake_datasets.save_mask(paths[1], fake_datasets.scene([1, 2])[1])
    return paths


@pytest.fixture
def run(weights: Path) -> Callable[..., Result]:
    """Run the script with these words."""

    def start(*words: object) -> Result:
        return run_in_process("demo/stream.py", *words, "--weights", weights, "--gpu-id", "-1")

    return start


@pytest.mark.parametrize(
    "words, named",
    [
        ("nowhere.mp4 MASK", ("nowhere.mp4", "expected a video file")),
        ("MASK MASK", ("film.png", "single frame")),
        ("FILM nowhere.png", ("nowhere.png does not exist", "--snapshot")),
        ("FILM FILM", ("film.mp4", "mask")),
        ("FILM", ("MASK", "--snapshot")),
        ("FILM EMPTY", ("empty.png", "at least one object")),
        ("FILM SMALL", ("small.png", "64x48", "32x24")),
        ("FILM MASK --out FILM", ("--out", "film.mp4", "is the input")),
        ("FILM MASK --out MASK", ("--out", "film.png", "is the input")),
        ("FILM --snapshot FILM", ("--snapshot", "film.mp4", "is the input")),
        ("FILM MASK --snapshot MASK", ("--snapshot", "film.png", "is the input")),
        ("FILM MASK --snapshot LINK", ("--snapshot", "link.png", "is the input")),
        ("FILM --snapshot OTHER", ("--snapshot", "suffix .png", "other.mp4")),
    ],
)
def test_wrong_input(
    run: Callable[..., Result], film: tuple[Path, Path], tmp_path: Path, words: str, named: tuple[str, ...]
) -> None:
    fake_datasets.save_mask(tmp_path / "empty.png", np.zeros(fake_datasets.SIZE, np.uint8))
    fake_datasets.save_mask(tmp_path / "small.png", fake_datasets.scene([1, 2], 0, (24, 32))[1])
    paths = {
        "FILM": film[0],
        "MASK": film[1],
        "EMPTY": tmp_path / "empty.png",
        "SMALL": tmp_path / "small.png",
        "LINK": tmp_path / "link.png",
        "OTHER": tmp_path / "other.mp4",
    }
    paths["LINK"].symlink_to(paths["MASK"])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    run(*(paths.get(word, word) for word in words.split())).check_error(*named)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("words", ["--fps 0", "--fps nan", "--max_size 31"])
def test_wrong_numbers(run: Callable[..., Result], film: tuple[Path, Path], words: str) -> None:
    end = run(*film, *words.split())
    assert end.code == 2 and words.split(maxsplit=1)[0] in end.err and "expected" in end.err


def test_the_earlier_name_of_an_option_works(run: Callable[..., Result], film: tuple[Path, Path]) -> None:
    run(*film, "--fps", "1000", "--max-size", "64").check_success()
