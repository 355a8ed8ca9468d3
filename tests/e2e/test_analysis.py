"""The commands of analysis/ from start to end, on a tiny network: their files, tables and numbers."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from analysis.attention import Recorder
from analysis.common import Moment, moments
from analysis.reading import focus_on
from dataset.folder import single_video
from dataset.video import open_video
from libs.app.build import for_inference, inference_settings, load_network
from libs.app.config import load_config
from libs.core.masks import one_hot
from libs.core.structures import SourceFrame
from libs.evaluation.views import View
from libs.method.propagate import Reference, Step
from models.memory_read import read
from tests.helpers import fake_datasets
from tests.helpers.small_network import NETWORK
from tests.helpers.subprocess_runner import ROOT, run_in_process

KEYS = {"gpu_id": -1, "input_size": (32, 48), "loop": 0, "save_freq": 2}


@pytest.fixture
def video(tmp_path: Path) -> list[object]:
    """Arguments that name a video of two objects, 1 and 7, and six frames."""
    fake_datasets.folder(tmp_path, objects=(1, 7), frames=6)
    return ["--video", tmp_path / "JPEGImages/mine", "--mask", tmp_path / "Annotations/mine"]


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_cycle_erf_of_two_checkpoints(tmp_path: Path, weights: Path, video: list[object]) -> None:
    other = shutil.copy(weights, tmp_path / "other.pth.tar")
    out, frames = tmp_path / "out", ("00002", "00004")
    arguments = ["--out", out, "--weights", weights, other, "--frames", *frames, *video, "--"]
    end = run_in_process("analysis.erf", *arguments, **KEYS)
    end.check_success()
    rows = table(out / "erf.csv")
    assert [(row["weights"], row["frame"], row["object"]) for row in rows] == [
        (name, frame, number)
        for name in ("small.pth.tar", "other.pth.tar")
        for frame in frames
        for number in ("1", "7")
    ]
    for row in rows:
        assert row["mask"] == "ground truth" and float(row["total"]) > 0
        for kind in ("", "_area"):
            assert sum(float(row[part + kind]) for part in ("inside", "border", "outside")) == pytest.approx(
                1
            )
        assert Image.open(out / f"maps/{row['weights']}/{row['frame']}_object{row['object']}.png").size == (
            64,
            48,
        )
    assert rows[:4] == [{**row, "weights": "small.pth.tar"} for row in rows[4:]]  # the same weights
    assert {path.name for path in out.glob("*.png")} == {"erf_object1.png", "erf_object7.png"}
    assert end.out.count("| small.pth.tar |") == 2 and end.out.count("| other.pth.tar |") == 2


def test_a_second_run_warns_of_the_pictures_of_the_first(
    tmp_path: Path, weights: Path, video: list[object]
) -> None:
    base = ["--out", tmp_path / "out", "--weights", weights, *video, "--object", "1"]
    run_in_process("analysis.erf", *base, "--frames", "00001", "--", **KEYS).check_success()
    end = run_in_process("analysis.erf", *base, "--every", "3", "--", **KEYS)
    end.check_success("1 picture of earlier runs")
    assert [row["frame"] for row in table(tmp_path / "out/erf.csv")] == ["00003"]


@pytest.mark.parametrize("pixel", [[], ["--pixel", "40", "20"]])
def test_attention(tmp_path: Path, weights: Path, video: list[object], pixel: list[str]) -> None:
    out = tmp_path / "out"
    end = run_in_process(
        "analysis.attention", "--out", out, "--weights", weights, *video, *pixel, "--", **KEYS
    )
    end.check_success()
    rows = table(out / "attention.csv")
    kept = {t: sorted({*range(0, t, 2), t - 1}) for t in range(1, 6)}
    for number in {row["object"] for row in rows}:
        for t, times in kept.items():
            own = [row for row in rows if (row["object"], row["frame"]) == (number, f"{t:05d}")]
            if own or pixel:
                assert [int(row["memory_frame"]) for row in own] == times
                assert sum(float(row["mass"]) for row in own) == pytest.approx(1, abs=1e-5)
    assert rows and (not pixel or {row["object"] for row in rows} == {"1", "7"})
    for number in {row["object"] for row in rows}:
        assert Image.open(out / f"attention_object{number}.png").width == 800
    assert "| object | frames | first frame |" in end.out


def test_attention_to_the_previous_frame_alone_is_not_called_that_to_the_first(
    tmp_path: Path, weights: Path, video: list[object]
) -> None:
    out, keys = tmp_path / "out", {**KEYS, "memory_rule": "last"}
    run_in_process(
        "analysis.attention", "--out", out, "--weights", weights, *video, "--", **keys
    ).check_success()
    rows = [(int(row["frame"]), row["kind"]) for row in table(out / "attention.csv")]
    assert {kind for t, kind in rows if t > 1} == {"previous"} and (1, "first") in rows


def test_noise(tmp_path: Path, weights: Path, video: list[object]) -> None:
    """Each damage is a row without and a row with correction; the first pair is without damage."""
    out, chosen = tmp_path / "out", ["--kinds", "erode", "--amounts", "0.5", "--length", "4"]
    keys = {**KEYS, "loop": 1}
    end = run_in_process("analysis.noise", "--out", out, "--weights", weights, *video, *chosen, "--", **keys)
    end.check_success()
    rows = table(out / "noise.csv")
    assert [(row["where"], row["kind"], row["amount"], row["loop"]) for row in rows] == [
        (where, kind, amount, loop)
        for where, kind, amount in (
            ("-", "none", "0.0"),
            ("given", "erode", "0.5"),
            ("remembered", "erode", "0.5"),
        )
        for loop in ("0", "1")
    ]
    assert rows[0]["iou"] == "" and [float(row["iou"]) for row in rows[2:4]] == pytest.approx(
        [0.5] * 2, abs=0.02
    )
    assert len({row["J"] for row in rows}) > 1 and rows[4]["memory_damaged"] == rows[4]["memory_kept"]
    text = (out / "noise.txt").read_text()
    assert text in end.out and len(text.splitlines()) == 5 and "| J&F without | with | gain |" in text
    assert Image.open(out / "noise.png").width == 1260  # three panels


def test_noise_keeps_its_rows_if_a_later_damage_fails(
    tmp_path: Path, weights: Path, video: list[object]
) -> None:
    """Erosion of a whole given mask is an error."""
    out, chosen = tmp_path / "out", ["--kinds", "erode", "--amounts", "0.5", "1", "--length", "3"]
    chosen += ["--where", "given"]
    end = run_in_process("analysis.noise", "--out", out, "--weights", weights, *video, *chosen, "--", **KEYS)
    end.check_error("smaller amounts")
    assert [row["amount"] for row in table(out / "noise.csv")] == ["0.0", "0.0", "0.5", "0.5"]


def test_the_readings_of_a_video_give_what_the_network_read(
    tmp_path: Path, weights: Path, video: list[object]
) -> None:
    """Maps times values are the readout, averaged over the object's pixels, with a bound on the memory."""
    options = {**NETWORK, **KEYS, "initial": weights, "memory_frames": 3}
    cfg = load_config(ROOT / "config.yaml", [str(word) for pair in options.items() for word in pair])
    model = for_inference(load_network(weights))
    opened = open_video(single_video(Path(str(video[1])), Path(str(video[3]))))
    recorder, seen = Recorder((), (40, 20)), 0
    for moment in moments(model, inference_settings(cfg), opened):
        recorder.add(moment)
        for number, (mask, reading) in recorder.newest.items():
            (memory,) = moment.bank.read()
            row = 1 - (number == 1)  # channels follow the ids, rows the channels
            readout = read(memory.keys[row : row + 1], memory.values[row : row + 1], moment.query.key)
            expected = (readout[0] * focus_on(torch.from_numpy(mask).float(), 1)).sum((1, 2))
            found = torch.from_numpy(reading.maps).flatten() @ memory.values[row]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
            assert len(reading.times) <= 3 and reading.masses.sum() == pytest.approx(1, abs=1e-5)
            seen += 1
    assert seen == 10


def test_the_keys_of_the_memory_count(weights: Path, video: list[object]) -> None:
    """With memory_rule last, only the previous frame is read."""
    options = {**NETWORK, **KEYS, "initial": weights, "memory_rule": "last"}
    cfg = load_config(ROOT / "config.yaml", [str(word) for pair in options.items() for word in pair])
    opened = open_video(single_video(Path(str(video[1])), Path(str(video[3]))))
    found = [
        moment.bank.read_times()
        for moment in moments(for_inference(load_network(weights)), inference_settings(cfg), opened)
    ]
    assert all(len(times) == 1 for groups in found[1:] for times in groups)


def test_predicted_pixels_and_their_inverse(tmp_path: Path, weights: Path) -> None:
    """A clip that the letterbox pads: the map of an object lies at the object's place in the source."""
    view, labels = View((64, 96)), np.zeros((96, 96), np.uint8)
    labels[24:48, 60:84] = 1
    masks = view.masks(labels, 2)
    step = Step(None, 1, None, None, one_hot(masks[0, 1].long(), 2)[None] * 50, masks, Reference(None, masks))
    moment = Moment(SourceFrame("a", np.zeros((96, 96, 3), np.uint8)), step, None, None, (9,), view)
    assert ((moment.to_source(moment.predicted(9)) > 0.5) == (labels == 1)).mean() > 0.99
