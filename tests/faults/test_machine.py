"""What the machine can do to a run: signals, kills, full disks, a second run, loader processes that die; and how it goes on."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from libs.core.errors import InputError
from libs.core.files import exclusive_run
from libs.training.checkpoint import read_file, read_training_state, save_checkpoint
from tests.faults.test_wrong_input import SMALL, goes_on, one_line, own, weights  # noqa: F401
from tests.helpers import fake_datasets as trees
from tests.helpers.subprocess_runner import ROOT, End, Fork, bound_by_permissions, run, small_disk

LONG = ["epochs", "500", "save_steps", "2", "trainset", "FOLDER", "datafreq", "2", "max_skip", "1"]
KILLS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]


def training(root: Path, *options: str, before: Callable[[], object] = lambda: None) -> Fork:
    if not (root / "JPEGImages").exists():
        for name in ("a", "b", "c"):
            trees.folder(root, name=name)
    return Fork("train.py", *SMALL, *LONG, "root", root, "checkpoint", root / "ckpt", *options, before=before)


def segmenting(root: Path, weights: Path, *options: str, before: Callable[[], object] = lambda: None) -> Fork:
    return Fork(
        "test.py", *SMALL, "root", root, "valset", "FOLDER", "initial", weights, *options, before=before
    )


def until(there: Callable[[], object], process: Fork, seconds: float = 120) -> None:
    """Wait for something; fail where the process ends before."""
    end = time.monotonic() + seconds
    while not there():
        assert (
            time.monotonic() < end
            and os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        )
        time.sleep(0.02)


def steps_done(root: Path) -> tuple[int, int]:
    state = read_training_state(root / "ckpt/recurrent.pth.tar")
    return state["epoch"], state["step"]


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp*"))


# ---- signals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_signal_while_training_saves_first(tmp_path: Path, number: int, code: int, workers: str) -> None:
    process = training(tmp_path, "workers", workers, "save_steps", "0")
    until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    before = steps_done(tmp_path)
    time.sleep(0.3)
    process.send(number)  # to the workers too, as Ctrl-C, timeout and torchrun do
    end = process.wait()
    assert end.code == code and "Traceback" not in end.err and "saved" in end.out, end
    assert steps_done(tmp_path) >= before and not leftovers(tmp_path)
    again = training(tmp_path, "resume", "auto", "max_minutes", "0.0001").wait()
    goes_on(again)
    assert "resuming after epoch" in again.out


def test_a_signal_while_validating_ends_at_once_saved(tmp_path: Path) -> None:
    for name in "abc":
        trees.folder(tmp_path, name=name)
    trees.folder(tmp_path, name="long", masked=(0,), frames=2000)
    process = training(tmp_path, "epoch_per_test", "1", "valset", "FOLDER", "save_steps", "0")
    until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    time.sleep(1)
    process.send(signal.SIGTERM)
    sent = time.monotonic()
    assert process.wait().code == 143 and time.monotonic() - sent < 5
    assert steps_done(tmp_path) == (1, 0)


def test_a_validation_frame_that_cannot_be_read_costs_no_epoch(tmp_path: Path) -> None:
    """And validation is made good where training goes on."""
    for name in "abc":
        trees.folder(tmp_path, name=name)
    trees.folder(tmp_path, name="z", masked=(0,))
    frame = tmp_path / "JPEGImages/z/00002.png"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:60])
    options = ["epoch_per_test", "1", "valset", "FOLDER", "epochs", "1"]
    one_line(training(tmp_path, *options).wait(), "00002.png")
    assert steps_done(tmp_path) == (1, 0)
    frame.write_bytes(whole)
    end = training(tmp_path, *options, "resume", "auto").wait()
    goes_on(end)
    assert "validation: J" in end.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_testing_leaves_whole_masks(
    tmp_path: Path, weights: Path, number: int, code: int
) -> None:
    trees.folder(tmp_path, masked=(0,), frames=400)
    process = segmenting(tmp_path, weights)
    until(lambda: list(tmp_path.rglob("output/FOLDER/mine/*.png")), process)
    os.kill(process.pid, number)
    end = process.wait()
    assert end.code == code and "Traceback" not in end.err, end
    assert not leftovers(tmp_path)
    for path in (tmp_path / "output/FOLDER/mine").glob("*.png"):
        assert Image.open(path).convert("P").size == trees.SIZE[::-1]


@pytest.mark.parametrize("seed", KILLS)
def test_training_is_killed_and_goes_on(tmp_path: Path, seed: int) -> None:
    """SIGKILL at a random moment, workers and all: the checkpoint that is there is whole and training goes on from it."""
    process = training(tmp_path, "workers", "1")
    until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    time.sleep(random.Random(seed).uniform(0, 1.5))
    process.send(signal.SIGKILL)
    assert process.wait().code == 137
    reached = steps_done(tmp_path)
    again = training(tmp_path, "resume", "auto", "max_minutes", "0.0001").wait()
    goes_on(again)
    assert steps_done(tmp_path) > reached


@pytest.mark.parametrize("seed", KILLS)
def test_testing_is_killed_and_goes_on(tmp_path: Path, weights: Path, seed: int) -> None:
    """skip_done leaves out what is complete, and makes anew what is not; the table is that of an undisturbed run."""
    for name in "abcdef":
        trees.folder(tmp_path, name=name, frames=6)
    process = segmenting(tmp_path, weights)
    until(lambda: list(tmp_path.rglob("output/FOLDER/.done/*.json")), process)
    time.sleep(random.Random(seed).uniform(0, 0.5))
    process.send(signal.SIGKILL)
    code = process.wait().code
    done = len(list(tmp_path.rglob("output/FOLDER/.done/*.json")))
    again = segmenting(tmp_path, weights, "skip_done", "True").wait()
    goes_on(again)
    assert code in (0, 137) and f"{done} of 6 videos are there" in again.out
    whole = segmenting(tmp_path, weights, "output_dir", "whole").wait()
    goes_on(whole)
    assert table(again) == table(whole)
    for path in (tmp_path / "whole/FOLDER").rglob("*.png"):
        other = tmp_path / "output/FOLDER" / path.relative_to(tmp_path / "whole/FOLDER")
        assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(other)))


def table(end: End) -> list[str]:
    return sorted(
        line
        for line in end.out.splitlines()
        if line[:1] in "abcdef" and line[1:2] == " " or line.startswith("global")
    )


# ---- what is done stays done, with the same settings ------------------------------------------------------------------


def test_done_videos_are_left_out_only_with_the_same_settings(tmp_path: Path, weights: Path) -> None:
    own(tmp_path)
    goes_on(segmenting(tmp_path, weights).wait())
    mask = tmp_path / "output/FOLDER/mine/00002.png"
    written = mask.stat().st_mtime_ns
    end = segmenting(tmp_path, weights, "skip_done", "True").wait()
    goes_on(end)
    assert "2 of 2 videos are there" in end.out and mask.stat().st_mtime_ns == written
    end = segmenting(tmp_path, weights, "skip_done", "True", "save_freq", "2").wait()  # other masks
    assert "skip_done:" not in end.out and mask.stat().st_mtime_ns > written
    mask.unlink()
    end = segmenting(tmp_path, weights, "skip_done", "True", "save_freq", "2").wait()
    assert "1 of 2 videos are there" in end.out and mask.exists()


def test_a_damaged_note_is_named(tmp_path: Path, weights: Path) -> None:
    own(tmp_path)
    goes_on(segmenting(tmp_path, weights).wait())
    note = tmp_path / "output/FOLDER/.done/mine.json"
    for damage in (
        "{",
        "[]",
        '{"recipe": 1}',
        note.read_text().replace('"seconds": ', '"seconds": null, "x": '),
        note.read_text().replace('"iou": ', '"iou": "", "y": '),
    ):
        note.write_text(damage)
        one_line(segmenting(tmp_path, weights, "skip_done", "True").wait(), str(note), "remove it")


def test_a_submission_is_not_made_of_all_masks(tmp_path: Path, weights: Path) -> None:
    """skip_done after a run that wrote more than the server asks for."""
    trees.youtube_vos(tmp_path)
    vos = Fork("test.py", *SMALL, "root", tmp_path, "valset", "VOS", "initial", weights).wait()
    goes_on(vos)
    end = Fork(
        "test.py",
        *SMALL,
        "root",
        tmp_path,
        "valset",
        "VOS",
        "initial",
        weights,
        "skip_done",
        "True",
        "submission",
        "True",
    ).wait()
    assert "skip_done:" not in end.out


def test_what_a_kill_left_half_written_goes(tmp_path: Path, weights: Path) -> None:
    """Masks, and the zip beside their folder; but nothing of another run in a folder further down."""
    own(tmp_path)
    left = [
        tmp_path / "output" / name
        for name in ("FOLDER/mine/.00000.png.77.tmp", "FOLDER/.scores.csv.7.tmp", ".FOLDER.zip.77.tmp")
    ]
    others = [
        tmp_path / "output" / name
        for name in ("FOLDER/run/.r.pth.tar.7.tmp", "FOLDER/other/deep/.x.7.tmp", ".OTHER.zip.77.tmp")
    ]
    for path in (*left, *others, tmp_path / "output/FOLDER/run/.lock"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    goes_on(segmenting(tmp_path, weights).wait())
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)


# ---- disks ------------------------------------------------------------------------------------------------------------


def test_a_full_disk_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """The checkpoint of before stays whole."""
    goes_on(training(tmp_path, "epochs", "1").wait())
    before = (tmp_path / "ckpt/recurrent.pth.tar").read_bytes()
    end = training(
        tmp_path, "epochs", "3", "resume", "auto", "save_steps", "0", before=small_disk(100_000)
    ).wait()
    one_line(end, "recurrent.pth.tar", "cannot be written", "space")
    assert (tmp_path / "ckpt/recurrent.pth.tar").read_bytes() == before and not leftovers(tmp_path)


def test_a_full_disk_while_masks_are_written(tmp_path: Path, weights: Path) -> None:
    own(tmp_path)
    one_line(
        segmenting(tmp_path, weights, before=small_disk(600)).wait(),
        "mine/00000.png",
        "cannot be written",
        "space",
    )
    assert not leftovers(tmp_path) and not list((tmp_path / "output").rglob("*.png"))


@pytest.mark.parametrize("script", ["train.py", "test.py", "demo/demo.py"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, weights: Path, script: str) -> None:
    """A file lies where the folder should be (who may write everywhere, as root may, cannot write there either)."""
    own(tmp_path)
    trees.folder(tmp_path)
    (tmp_path / "taken").write_text("")
    options = {
        "train.py": [
            "trainset",
            "FOLDER",
            "checkpoint",
            tmp_path / "taken/ckpt",
            "datafreq",
            "1",
            "max_skip",
            "1",
        ],
        "test.py": ["valset", "FOLDER", "output_dir", "taken/out", "initial", weights],
        "demo/demo.py": [
            "video_path",
            tmp_path / "JPEGImages/mine",
            "mask_path",
            tmp_path / "Annotations/mine/00000.png",
            "output_dir",
            tmp_path / "taken/out",
            "initial",
            weights,
        ],
    }[script]
    one_line(run(script, *SMALL, "root", tmp_path, *options), str(tmp_path / "taken"))


def test_a_folder_without_permission(tmp_path: Path, weights: Path) -> None:
    own(tmp_path)
    (tmp_path / "output").mkdir(mode=0o500)
    one_line(
        segmenting(tmp_path, weights, before=bound_by_permissions).wait(),
        str(tmp_path / "output"),
        "cannot be written",
    )


def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    path, older = tmp_path / "run.pth.tar", tmp_path / "run.1.pth.tar"
    for step in range(2):
        save_checkpoint(path, {"step": step}, keep=2)
    path.write_bytes(path.read_bytes()[:100])
    save_checkpoint(path, {"step": 2}, keep=2)
    assert read_file(path) == {"step": 2} and read_file(older) == {"step": 0}


def test_no_room_in_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch raises in a loader process where /dev/shm is full; it must not be waited for."""

    def full(_: object) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    one_line(training(tmp_path, "workers", "1").wait(), "/dev/shm", "workers")


STUBBORN = """
import multiprocessing, signal, time
from libs.app.script import run_with_error_messages
from libs.core.errors import InputError

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(300)

def run():
    multiprocessing.get_context("fork").Process(target=stubborn, daemon=True).start()
    time.sleep(0.5)
    raise InputError("over")

run_with_error_messages(run)
"""


def test_a_script_does_not_wait_for_loader_processes_that_ignore_its_end() -> None:
    """As those of a loader do that was left in the middle, where shared memory is full."""
    end = subprocess.run(
        [sys.executable, "-c", STUBBORN], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert end.returncode == 2 and end.stderr == "error: over\n"


def test_nobody_reads_what_training_prints(tmp_path: Path) -> None:
    """As `| tee` that has died of Ctrl-C: training goes on, and its log has all of it."""

    def deaf() -> None:
        """A pipe without a reader as standard output."""
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        sys.stdout = os.fdopen(1, "w", closefd=False)

    goes_on(training(tmp_path, "epochs", "2", before=deaf).wait())
    log = (tmp_path / "ckpt/train.log").read_text()
    assert "epoch 2/2" in log and "done:" in log and steps_done(tmp_path) == (2, 0)


# ---- others at work ---------------------------------------------------------------------------------------------------


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path, weights: Path) -> None:
    own(tmp_path)
    trees.folder(tmp_path)
    with exclusive_run(tmp_path / "ckpt"), exclusive_run(tmp_path / "output/FOLDER"):
        one_line(training(tmp_path, "max_minutes", "0.01").wait(), str(tmp_path / "ckpt"), "another run")
        one_line(segmenting(tmp_path, weights).wait(), str(tmp_path / "output/FOLDER"), "another run")
        with pytest.raises(InputError, match="another run"), exclusive_run(tmp_path / "ckpt"):
            pass
    goes_on(segmenting(tmp_path, weights).wait())


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_loader_process_that_dies(tmp_path: Path, workers: str) -> None:
    """One of them; the others must not be waited for."""
    process = training(tmp_path, "workers", workers)
    until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(50):  # they live for an epoch
        until(lambda: children.read_text().split(), process)
        try:
            os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
            break
        except (ProcessLookupError, IndexError):
            pass
    end = process.wait()
    one_line(end, "'workers'", "loader process", "resume auto")
    read_file(tmp_path / "ckpt/recurrent.pth.tar")


def test_out_of_memory_says_which_keys_to_lower(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a GPU raises, raised by the network here."""

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    own(tmp_path)
    trees.folder(tmp_path)
    monkeypatch.setattr("models.stm.STM.memorize", no_memory)  # the fork inherits it
    one_line(segmenting(tmp_path, weights).wait(), "out of memory", "input_size", "memory_frames")
    one_line(training(tmp_path).wait(), "out of memory", "train_batch", "grad_checkpoint")


def test_an_earlier_runs_checkpoints_are_not_written_over(tmp_path: Path) -> None:
    goes_on(training(tmp_path, "epochs", "1").wait())
    before = (tmp_path / "ckpt/recurrent.pth.tar").read_bytes()
    one_line(training(tmp_path, "epochs", "1").wait(), "'checkpoint'", "recurrent.pth.tar", "resume auto")
    assert (tmp_path / "ckpt/recurrent.pth.tar").read_bytes() == before


def test_tables_of_an_earlier_run_go_when_masks_change(tmp_path: Path, weights: Path) -> None:
    trees.folder(tmp_path)
    goes_on(segmenting(tmp_path, weights).wait())
    table = tmp_path / "output/FOLDER/scores.csv"
    assert table.exists()
    (tmp_path / "JPEGImages/mine/00001.png").write_bytes(b"")
    one_line(segmenting(tmp_path, weights).wait(), "1 of 1 videos failed")
    assert not table.exists()
