"""python3 -m benchmarks.published: from downloads to a table, on a local server and a small tree."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from benchmarks.published import PUBLISHED
from dataset.known import KNOWN, Known
from libs.core import named_weights
from libs.core.named_weights import RELEASED
from tests.helpers import fake_datasets as trees
from tests.helpers.file_server import serve
from tests.helpers.published_sets import Publisher
from tests.helpers.subprocess_runner import ROOT, Result, run_in_process

KEYS = ("--", "gpu_id", "-1", "input_size", "(32, 48)", "loop", "1", "save_freq", "2")


@pytest.fixture
def publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: Path) -> Iterator[Publisher]:
    """A server with the videos of fake DAVIS 2017, and the weights of a small network at all addresses."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with serve() as server:
        publisher = Publisher(server, monkeypatch, tmp_path / "scratch")
        publisher.davis17(test_dev=False)
        monkeypatch.setattr(named_weights, "DRIVE", f"{server.address}/weights/")
        for number in (number for numbers in RELEASED.values() for number in numbers):
            server.put(f"weights/{number}", weights.read_bytes(), kind="application/octet-stream")
        yield publisher


def run(root: Path, *words: str) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(sys.modules, "benchmarks.published")  # it is run anew, though it is imported here
        return run_in_process("benchmarks.published", "--root", root, *words)


@pytest.fixture
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Let test.py run in this process, which saves its start. Returns: how each run ended."""
    ends: list[Result] = []

    def run_here(command: list[str]) -> int:
        assert command[:2] == [sys.executable, str(ROOT / "test.py")]
        ends.append(run_in_process("test.py", *command[2:]))
        return ends[-1].code

    monkeypatch.setattr("libs.app.script.run_as_process", run_here)
    return ends


def rows(end: Result) -> dict[str, list[str]]:
    """Network -> its numbers, of the Markdown table."""
    cells = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in end.out.splitlines() if line[:1] == "|"
    ]
    return {row[0]: row[1:] for row in cells[2:]}


def test_both_networks_beside_the_published_scores(
    publisher: Publisher, tmp_path: Path, in_this_process: list[Result]
) -> None:
    root = tmp_path / "data"
    end = run(root, *KEYS)
    end.check_success("DAVIS17 val below", "has 1 video and 4 frames, not the 30 and 1999 of the publication")
    table = rows(end)
    assert table["resnet18"][4:8] == ["65.3", "70.8", "68.1", "14.8"]
    assert table["resnet50"][4:8] == ["70.5", "76.3", "73.4", "9.3"]
    for model, done in zip(PUBLISHED, in_this_process):
        scores = root / f"output/published/{model}/DAVIS17/scores.csv"
        header, *lines = (line.split(",") for line in scores.read_text().splitlines())
        last = dict(zip(header, lines[-1]))
        here = [100 * float(last[name]) for name in ("J mean", "F mean", "J&F")]
        assert [float(number) for number in table[model][:3]] == pytest.approx(here, abs=0.051)
        assert float(table[model][8]) == pytest.approx(here[2] - PUBLISHED[model].J_and_F, abs=0.051)
        speed = float(re.search(r": ([\d.]+) frames per second", done.out)[1])
        assert float(table[model][3]) == pytest.approx(speed, abs=0.06)
        assert "gradient correction took" in done.out
    assert "sha256" in end.out and "1 video, with gradient correction" in end.out
    assert sorted(path.name for path in root.iterdir()) == ["DAVIS17", "output"]


def test_a_second_run_downloads_and_segments_nothing(
    publisher: Publisher, tmp_path: Path, in_this_process: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tmp_path / "data", "--models", "resnet18", *KEYS)
    asked = len(publisher.server.asked)
    monkeypatch.setitem(KNOWN, ("DAVIS17", "val"), (Known("small", 1, 4),))
    again = run(tmp_path / "data", "--models", "resnet18", *KEYS)
    again.check_success()
    assert "publication" not in again.err and len(publisher.server.asked) == asked
    assert "1 of 1 videos are there from an earlier run" in in_this_process[-1].out
    assert rows(again) == rows(first)


def test_without_correction_the_line_says_so(
    publisher: Publisher, tmp_path: Path, in_this_process: list[Result]
) -> None:
    end = run(tmp_path / "data", "--models", "resnet18", *KEYS, "loop", "0")
    end.check_success()
    assert "1 video, without gradient correction, the published ones with it; " in end.out
    assert "frames/s here: reading and writing included" in end.out and "with gradient" not in end.out
    assert "correction took" not in in_this_process[0].out


def test_val_is_enough(
    publisher: Publisher, tmp_path: Path, in_this_process: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without train, nothing of the set is downloaded."""
    publisher.server.files.pop("DAVIS-2017-trainval-480p.zip")
    monkeypatch.setitem(KNOWN, ("DAVIS17", "val"), (Known("small", 1, 4),))
    root = tmp_path / "data"
    tree = trees.davis17(root, lists="ImageSets")
    (tree / "ImageSets/2017/train.txt").unlink()
    run(root, "--models", "resnet18", *KEYS).check_success()
    assert not any("DAVIS" in path for path, _ in publisher.server.asked)


def test_one_network_that_fails_does_not_stop_the_other(
    publisher: Publisher, tmp_path: Path, in_this_process: list[Result]
) -> None:
    """Without the weights, the line says where the user must put them."""
    for number in RELEASED["stm-cycle-resnet18"]:
        del publisher.server.files[f"weights/{number}"]
    end = run(tmp_path / "data", *KEYS)
    where = tmp_path / "torch/hub/checkpoints/stm-cycle-resnet18.pth.tar"
    end.check_error("resnet18: ", "could not be downloaded", f"save the file as {where}")
    assert list(rows(end)) == ["resnet50"]


def test_a_test_that_fails(publisher: Publisher, tmp_path: Path, in_this_process: list[Result]) -> None:
    end = run(tmp_path / "data", "--models", "resnet50", *KEYS, "backward", "True", "submission", "True")
    end.check_error("resnet50: test.py ended with exit code 2", "run this command again")
    in_this_process[0].check_error("backward")


def test_without_data_nothing_is_tested(
    publisher: Publisher, tmp_path: Path, in_this_process: list[Result]
) -> None:
    publisher.server.files.clear()
    end = run(tmp_path / "data", *KEYS)
    end.check_error("trainval: DAVIS-2017-trainval-480p.zip could not be downloaded", "404")
    assert not in_this_process and not (tmp_path / "data").exists()


@pytest.mark.slow
def test_test_py_runs_in_a_process_of_its_own(publisher: Publisher, tmp_path: Path) -> None:
    end = run(tmp_path / "data", "--models", "resnet18", *KEYS)
    end.check_success()
    assert (tmp_path / "data/output/published/resnet18/DAVIS17/duo/00003.png").is_file()
    assert list(rows(end)) == ["resnet18"]


def test_the_published_numbers_are_those_of_the_readme_and_the_configs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for model, numbers in PUBLISHED.items():
        name = model.replace("resnet", "ResNet-")
        line = next(line for line in readme.splitlines() if name in line and "published" in line)
        values = [numbers.J, numbers.F, numbers.J_and_F, numbers.frames_per_second]
        assert re.findall(r"(?<= )\d+\.\d(?= )", line) == [str(value) for value in values]
        text = (ROOT / numbers.cfg).read_text(encoding="utf-8")
        assert f"J {numbers.J}, F {numbers.F}, J&F {numbers.J_and_F}" in text
        cfg = yaml.safe_load(text)
        assert (cfg["arch"], cfg["valset"]) == (model, "DAVIS17") and cfg["loop"] > 0
    assert torch.get_num_threads() == 1
