"""The benchmarks: rank correlation, optical flow, contact sheet, loader, memories, times at a tiny size."""

import argparse
import builtins
import io
import os
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from analysis.statistics import spearman
from benchmarks import (
    clips,
    gpu,
    inference,
    loaders,
    measure,
    memory,
    objects,
    peers,
    scaling,
    scores,
    startup,
    training_profile,
    waiting,
    winograd,
)
from dataset.build import test_videos as videos_of
from dataset.build import training_sets
from dataset.clips import ClipSampler
from dataset.sampling import ClipSettings
from dataset.synthetic.export import write_tree
from libs.app.build import for_inference
from libs.core.errors import InputError
from libs.method.losses import soft_iou_loss
from models.stm import STM
from tests.helpers import fake_datasets as trees
from tests.helpers.settings import plain_settings
from tests.unit.test_propagate import Tracker


def test_rank_correlation() -> None:
    assert spearman([1, 2, 3, 4], [10, 20, 30, 99]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [9, 7, 5, 1]) == pytest.approx(-1)
    assert spearman([0, 0, 1, 2], [0, 1, 2, 3]) == pytest.approx(0.9486833)  # ties share their rank
    assert spearman([1, 2], [1, 2]) is None and spearman([1, 1, 1], [1, 2, 3]) is None


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
    assert "0.50" in table and [line.split(" |")[0] for line in table.splitlines()[2:]] == [
        "| v, object 1",
        "| v",
    ]
    table = scores.table([video, video], {"flow": rows["flow"] * 2}, {"v": 0.5})
    assert [line.split(" |")[0] for line in table.splitlines()[2:]] == ["| v", "| v", "| all"]


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


def test_a_video_is_played_forward_and_backward(tmp_path: Path) -> None:
    """Only the first frame of the first pass is given; later its mask is ground truth."""
    trees.folder(tmp_path, frames=4)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    frames = list(video.read())
    played = list(memory.palindrome(frames, 9))
    places = [next(i for i, f in enumerate(frames) if f.image is p.image) for p in played]
    assert places == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert [t for t, frame in enumerate(played) if frame.given is not None] == [0]
    assert [t for t, frame in enumerate(played) if frame.truth is None] == [0]
    assert np.array_equal(played[6].truth, frames[0].given) and played[6].scored == (1, 2)
    assert [frame.image is frames[0].image for frame in memory.palindrome(frames[:1], 3)] == [True] * 3


def test_memories_are_compared(tmp_path: Path) -> None:
    """The size of each memory in frames, and a row of numbers for each."""
    trees.folder(tmp_path, frames=4)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    settings = plain_settings(trees.SIZE, save_freq=2)
    sizes, frame_bytes = {}, 2 * (3 + 3) * 4  # two objects, keys and values of 3 float32
    for name, own in memory.memories(settings, memory_frames=4, top_k=2):
        run = memory.measure(Tracker(), own, "mine", list(video.read()), 13)
        sizes[name] = round(run.megabytes * 1e6 / frame_bytes)
        assert len(run.jaccard) == len(run.milliseconds) == 12
        assert memory.row(name, [run, run]).startswith(f"| {name} | 100.0 | 100.0 | 0.0 | ")
    bounded = {"even, 4 frames": 4, "surprise, 4 frames": 4, "even, 4 frames, top_k 2": 4}
    assert sizes == {"all": 7, "all, top_k 2": 7, **bounded, "first_last": 2, "last": 1}


def test_videos_are_chosen_by_name(tmp_path: Path) -> None:
    trees.folder(tmp_path)
    videos = videos_of(tmp_path, "FOLDER", "val")
    assert scores.choose_videos(videos, None) == scores.choose_videos(videos, [videos[0].name]) == videos
    with pytest.raises(InputError, match="--videos: there is no nobody; expected some of"):
        scores.choose_videos(videos, ["nobody"])


def test_the_exchange_of_gradients_in_a_ring() -> None:
    """Two processes send the message once; many send it twice."""
    assert scaling.exchange_time(1e9, 1, 1e9) == 0
    assert scaling.exchange_time(1e9, 2, 1e9) == pytest.approx(1)
    assert scaling.exchange_time(1e9, 64, 1e9) == pytest.approx(2 - 1 / 32)
    page = Path(scaling.__file__).with_suffix(".md").read_text()
    assert "\n".join(scaling.estimates()) in page


def test_the_start_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The calls are counted: each folder is listed once, and shards are not listed."""
    for name in startup.CALLS:
        monkeypatch.setattr(os, name, getattr(os, name))  # put back at the end
    monkeypatch.setattr(io, "open", io.open)
    monkeypatch.setattr(builtins, "open", builtins.open)
    startup.write_set(tmp_path, videos=3, frames=2)
    assert "3 videos" in (line := startup.measure(tmp_path, 0, None)) and "'listdir': 8" in line


CPU = torch.device("cpu")
SMALL = {"shipped": {"arch": "resnet18", "keydim": 8, "valdim": 8, "decoder_dim": 8, "norm": "gn"}}


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small network, and a peak that is not measured."""
    monkeypatch.setattr(training_profile, "matmul_gflop_per_second", lambda amp, device: 100.0)
    for module in (gpu, objects, peers, training_profile):
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


def test_winograd_beside_direct_convolutions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A row for each way. Only a network with a wide decoder gets Winograd convolutions."""
    trees.folder(tmp_path, frames=4)
    frame = inference.scene(1, (32, 48), CPU, 3)
    monkeypatch.setattr(winograd, "NETWORKS", SMALL)
    monkeypatch.setattr(
        winograd, "load_network", lambda path: STM(**{**SMALL["shipped"], "decoder_dim": 128})
    )
    monkeypatch.setattr(winograd, "scene", lambda *_, **__: frame)
    (video,) = videos_of(tmp_path, "FOLDER", "val")
    run(winograd, monkeypatch, f"--networks shipped --root {tmp_path} --valset FOLDER --video {video.name}")
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    assert rows[0] == list(winograd.HEAD) and [row[:2] for row in rows[2:]] == [
        ["shipped", "direct"], ["shipped", "winograd"],
    ]  # fmt: skip
    direct, fast = rows[2:]
    assert direct[3:6] == ["1.00", "100.0000%", "0.0e+00"] and float(fast[7]) > float(direct[7])


def test_the_backward_pass_counts_to_the_part_that_it_differentiates() -> None:
    """A convolution of 2x2x9 weights on 6x6 pixels, then a loss, which has no convolution."""
    images, truth = torch.rand(1, 2, 6, 6), torch.ones(2, 6, 6)
    kernel, counted = torch.rand(2, 2, 3, 3, requires_grad=True), torch.ones(2, dtype=torch.bool)

    def call(backward: bool) -> None:
        probs = torch.conv2d(images, kernel, padding=1)[0]
        loss = soft_iou_loss(probs, truth, counted)
        if backward:
            loss.backward()

    alone, both = (
        measure.profile(partial(call, back), CPU, 1, training_profile.StepProfiler) for back in (False, True)
    )
    found = both["convolution", torch.float32]
    assert found.calls == 2 and found.gflop == pytest.approx(2 * 2 * (2 * 2 * 9 * 36) / 1e9)  # weights only
    losses = [
        sum(cost.calls for (part, _), cost in costs.items() if part == "losses") for costs in (alone, both)
    ]
    assert losses[1] > 1.5 * losses[0] > 10
    elsewhere = sum(cost.calls for (part, _), cost in both.items() if part == "other element-wise")
    assert elsewhere == 4  # taking the first image, its backward pass, and both ends of the gradient


def test_the_profile_of_a_training_step(
    quick: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(training_profile, monkeypatch, "--networks shipped --amp bf16 --size 32x48 --runs 1")
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if " | " in line]
    parts = {row[0] for row in rows[2:]}
    assert parts >= {"convolution", "norm", "read", "losses", "optimizer", "copies", "other element-wise"}
    assert "data: stacking clips" in parts and rows[-1][0] == "step" and rows[-1][2] == "100.0%"


def test_processes_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call is repeated for the given time; the table has the medians of all processes and rounds."""
    times = iter([0.0, 3.0, 3.0, 5.0, 5.0, 9.0])
    monkeypatch.setattr(waiting.time, "perf_counter", lambda: next(times))
    assert waiting.repeat(lambda: None, 9.0) == [3.0, 2.0, 4.0]
    seen = []

    def side_by_side(args: object, processes: int, threads: int, environment: dict) -> dict[str, list[float]]:
        seen.append((processes, threads, *environment.values()))
        return {"frame": [0.1, 0.3] * processes, "step": [processes]}

    monkeypatch.setattr(waiting, "side_by_side", side_by_side)
    monkeypatch.setattr(waiting.os, "sched_getaffinity", lambda _: range(4))
    table = waiting.table(argparse.Namespace(rounds=1, policies=list(waiting.POLICIES), processes=[1, 2]))
    assert [line.split(" | ")[1:] for line in table.splitlines()[2:]] == [
        ["200 / 1000", "200 / 2000", "200 / 2000 |"]
    ] * len(waiting.POLICIES)
    assert {case[:2] for case in seen} == {(1, 4), (2, 4), (2, 2)} and len(seen) == 3 * len(waiting.POLICIES)


@torch.no_grad()
def test_our_side_of_the_peers(quick: None) -> None:
    """Labels at the frame's size, and a table of mean and median."""
    frames, masks = peers.scene(2, peers.MEMORY + 1, (32, 48), CPU)
    segment = peers.ours(STM(**SMALL["shipped"]), "bf16", frames[: peers.MEMORY], masks, CPU)
    assert segment(frames[-1:]).shape == (32, 48)
    assert "| convolutions | " in peers.profile_table(lambda: segment(frames[-1:]), 100.0, CPU)
    times = {"Cutie-small": [0.3, 0.3, 0.6], "shipped": [0.1, 0.1, 0.4]}
    assert "| shipped | 200 / 100 (2.00) |" in peers.table({(1, "off"): times})
