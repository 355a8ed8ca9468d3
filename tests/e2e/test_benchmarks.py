"""The benchmarks: rank correlation, optical flow, contact sheet, plain loader, times at a tiny size."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from benchmarks import clips, gpu, inference, loaders, measure, objects, peers, scores
from dataset.build import test_videos as videos_of
from dataset.build import training_sets
from dataset.clips import ClipSampler
from dataset.sampling import ClipSettings
from dataset.synthetic.export import write_tree
from libs.app.build import for_inference
from libs.core.errors import InputError
from models.stm import STM
from tests.helpers import fake_datasets as trees


def test_rank_correlation() -> None:
    assert scores.spearman([1, 2, 3, 4], [10, 20, 30, 99]) == pytest.approx(1)
    assert scores.spearman([1, 2, 3, 4], [9, 7, 5, 1]) == pytest.approx(-1)
    assert scores.spearman([0, 0, 1, 2], [0, 1, 2, 3]) == pytest.approx(0.9486833)  # ties share their rank


def smooth_noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Noise without fine detail, which optical flow can follow."""
    coarse = rng.integers(0, 255, (height // 4, width // 4, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)


def test_flow_follows_a_moving_square(tmp_path: Path) -> None:
    """The square moves by 3 pixels per frame. Flow keeps its mask; a copy of the first mask falls behind."""
    rng = np.random.default_rng(0)
    backdrop, square = smooth_noise(rng, 120, 160), smooth_noise(rng, 40, 40)
    for t in range(12):
        image, labels = backdrop.copy(), np.zeros((120, 160), np.uint8)
        place = slice(40, 80), slice(20 + 3 * t, 60 + 3 * t)
        image[place], labels[place] = square, 1
        trees.save_image(tmp_path / f"JPEGImages/v/{t:05d}.png", image)
        trees.save_mask(tmp_path / f"Annotations/v/{t:05d}.png", labels)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    first = next(video.read()).given
    (copied,) = scores.score(video, iter([first] * 12)).jaccard
    (carried,) = scores.score(video, scores.carry_by_flow(video)).jaccard
    # the square has moved by 3 pixels in the first scored frame: 37 of 43 columns overlap
    assert len(copied) == 11 and copied[0] == pytest.approx(37 / 43)
    assert carried.mean() > max(0.6, copied.mean() + 0.15)
    rows = {"flow": [scores.score(video, scores.carry_by_flow(video))]}
    table = scores.table([video], rows, {"v": 0.5})
    assert "| v | " in table and "0.50" in table and table.splitlines()[-1].startswith("| all |")


def test_a_contact_sheet_of_clips() -> None:
    settings = ClipSettings(size=(64, 64), max_skip=[5], sampled_frames=clips.FRAMES, seed=3)
    sampler = ClipSampler(training_sets(Path(), ["PROCEDURAL"], [1]), settings)
    sheet = clips.contact_sheet(sampler)
    assert sheet.shape == (8 * 64, 10 * 64, 3) and sheet.std() > 20


def test_the_plain_loader(tmp_path: Path) -> None:
    write_tree(tmp_path, train=1, val=0, frames=4, size=(48, 64))
    settings = ClipSettings(size=(32, 48), max_skip=[1])
    sampler = ClipSampler(training_sets(tmp_path, ["DAVIS17"], [1]), settings)
    frames, masks = next(loaders.plain(sampler))
    assert frames.shape == (3, 3, 32, 48) and masks.shape == (3, 6, 32, 48)


CPU = torch.device("cpu")
SMALL = {"shipped": {"arch": "resnet18", "keydim": 8, "valdim": 8, "decoder_dim": 8, "norm": "gn"}}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, and a peak that is not measured."""
    for module in (gpu, objects, peers):
        monkeypatch.setattr(module, "NETWORKS", SMALL)
        monkeypatch.setattr(module, "peak_gflop_per_second", lambda amp, device: 100.0)


def run(module: object, monkeypatch: pytest.MonkeyPatch, arguments: str = "") -> None:
    """Run a benchmark with this command line."""
    monkeypatch.setattr("sys.argv", ["benchmark", *arguments.split()])
    module.main()  # type: ignore[attr-defined]


def test_the_profile_counts_what_torch_counts() -> None:
    model = for_inference(STM(**SMALL["shipped"]))
    frames, masks, tracked = inference.scene(2, (32, 48), CPU, 3)
    with torch.no_grad():
        call = inference.segment_last(model, frames, masks, tracked)
        costs = measure.profile(call, CPU, runs=1)
        total = measure.count_gflop(call)
    assert sum(cost.gflop for cost in costs.values()) == pytest.approx(total)
    assert costs["convolutions"].calls > 40 and costs["matrix products"].gflop > 0
    seconds = [cost.seconds for cost in costs.values()]
    assert seconds == sorted(seconds, reverse=True) and costs["native_group_norm"].gflop == 0


@torch.no_grad()
def test_frames_encoded_ahead_are_segmented_as_one_by_one() -> None:
    torch.manual_seed(0)
    model = for_inference(STM(**SMALL["shipped"]))
    frames, masks, tracked = inference.scene(2, (32, 48), CPU, 5)
    ahead = inference.segment_last(model, frames, masks, tracked, 3)()
    last = inference.segment_last(model, frames[[0, 3, 4]], masks[[0, 3, 4]], tracked)()
    assert ahead.shape == (1, 3, 32, 48) and (ahead - last).abs().max() < 1e-4


def test_the_cost_of_each_object(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(objects, monkeypatch, "--objects 1 3 --amp off --size 32x48 --runs 1 --chunk 2")
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [row[0].strip("| ") for row in rows[2:]] == [
        "query encoder", "memory encoder", "read", "decoder", "frame",
    ]  # fmt: skip
    assert rows[0][1:3] == ["1 object", "3 objects"] and all("GFLOP" in cell for cell in rows[-1][1:])


def test_the_ways_to_run_on_a_gpu(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = "--network shipped --objects 1 --amp off --size 32x48 --runs 1"
    run(gpu, monkeypatch, f"{arguments} --device cpu --ways plain ahead")
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| shipped | 1 | off")]
    assert len(rows) == 2 and " plain " in rows[0] and " ahead " in rows[1]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="CUDA is not available.*--device cpu"):
        run(gpu, monkeypatch, arguments)


def test_peers_without_cutie_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="without the module cutie; run `pip install --no-deps rf-cutie"):
        run(peers, monkeypatch)


@torch.no_grad()
def test_our_side_of_the_peers(quick: None) -> None:
    """Labels at the frame's size, and a table of mean and median."""
    frames, masks = peers.scene(2, peers.MEMORY + 1, (32, 48), CPU)
    segment = peers.ours(STM(**SMALL["shipped"]), "bf16", frames[: peers.MEMORY], masks, CPU)
    assert segment(frames[-1:]).shape == (32, 48)
    assert "| convolutions | " in peers.profile_table(lambda: segment(frames[-1:]), 100.0, CPU)
    times = {"Cutie-small": [0.3, 0.3, 0.6], "shipped": [0.1, 0.1, 0.4]}
    assert "| shipped | 200 / 100 (2.00) |" in peers.table({(1, "off"): times})
