"""Signals, kills, full disks, a second run and dying loader processes, and how a run resumes after them."""

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from libs.core.errors import InputError
from libs.core.files import exclusive_run
from libs.training.checkpoint import read_file, read_training_state, save_checkpoint
from tests.helpers import fake_datasets
from tests.helpers.limits import small_disk
from tests.helpers.small_network import TRAIN_ON_FOLDER, segment_folder, small
from tests.helpers.subprocess_runner import ForkedScript, Result, run_in_process, start_group

LONG = {"epochs": 500, "save_steps": 2, "trainset": "FOLDER", "datafreq": 2, "max_skip": 1}
BRIEF = {"resume": "auto", "max_minutes": 0.0001}
KILLS = [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 10))]


def training(root: Path, **keys: object) -> dict[str, object]:
    """Config keys of a long training run below `root`; writes its data if there are none."""
    if not (root / "JPEGImages").exists():
        for name in ("a", "b", "c"):
            fake_datasets.folder(root, name=name)
    return small(**{**LONG, "root": root, "checkpoint": root / "ckpt", **keys})


def segmentation(root: Path, weights: Path, **keys: object) -> dict[str, object]:
    """Config keys of a test run on the videos below `root`."""
    return small(**{"root": root, "valset": "FOLDER", "initial": weights, **keys})


def train(root: Path, **keys: object) -> Result:
    return run_in_process("train.py", **training(root, **keys))


def segment(root: Path, weights: Path, **keys: object) -> Result:
    return run_in_process("test.py", **segmentation(root, weights, **keys))


def wait_until(there: Callable[[], object], process: ForkedScript, seconds: float = 120) -> None:
    """Wait for something; fail if the process ends before."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end and process.is_running()
        time.sleep(0.02)


def steps_done(root: Path) -> tuple[int, int]:
    state = read_training_state(root / "ckpt/recurrent.pth.tar")
    return state["epoch"], state["step"]


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp*"))


# ---- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_signal_while_training_saves_first(tmp_path: Path, number: int, code: int, workers: str) -> None:
    process = ForkedScript("train.py", **training(tmp_path, workers=workers, save_steps=0))
    wait_until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    before = steps_done(tmp_path)
    time.sleep(0.3)
    process.send(number)  # to the workers too, as Ctrl-C, timeout and torchrun do
    end = process.wait()
    assert end.code == code and "Traceback" not in end.err and "saved" in end.out, end
    assert steps_done(tmp_path) >= before and not leftovers(tmp_path)
    again = train(tmp_path, resume="auto", max_minutes=0.0001)
    again.check_success()
    assert "resuming after epoch" in again.out


def test_a_signal_while_validating_ends_at_once_saved(tmp_path: Path) -> None:
    for name in "abc":
        fake_datasets.folder(tmp_path, name=name)
    fake_datasets.folder(tmp_path, name="long", masked=(0,), frames=2000)
    process = ForkedScript("train.py", **training(tmp_path, epoch_per_test=1, valset="FOLDER", save_steps=0))
    wait_until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    time.sleep(1)
    process.send(signal.SIGTERM)
    sent = time.monotonic()
    assert process.wait(60).code == 143 and time.monotonic() - sent < 5
    assert steps_done(tmp_path) == (1, 0)


def test_a_validation_frame_that_cannot_be_read_costs_no_epoch(tmp_path: Path) -> None:
    """The checkpoint is saved first, and a resumed run validates again."""
    for name in "abc":
        fake_datasets.folder(tmp_path, name=name)
    fake_datasets.folder(tmp_path, name="z", masked=(0,))
    frame = tmp_path / "JPEGImages/z/00002.png"
    whole = frame.read_bytes()
    frame.write_bytes(whole[:60])
    keys = {"epoch_per_test": 1, "valset": "FOLDER", "epochs": 1}
    train(tmp_path, **keys).check_error("00002.png")
    assert steps_done(tmp_path) == (1, 0)
    frame.write_bytes(whole)
    end = train(tmp_path, **keys, resume="auto")
    end.check_success()
    assert "validation: J" in end.out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_while_testing_leaves_whole_masks(
    tmp_path: Path, weights: Path, number: int, code: int
) -> None:
    fake_datasets.folder(tmp_path, masked=(0,), frames=400)
    process = ForkedScript("test.py", **segmentation(tmp_path, weights))
    wait_until(lambda: list(tmp_path.rglob("output/FOLDER/mine/*.png")), process)
    os.kill(process.pid, number)
    end = process.wait()
    assert end.code == code and "Traceback" not in end.err, end
    assert not leftovers(tmp_path)
    for path in (tmp_path / "output/FOLDER/mine").glob("*.png"):
        assert Image.open(path).convert("P").size == fake_datasets.SIZE[::-1]


@pytest.mark.parametrize("seed", KILLS)
def test_killed_training_resumes(tmp_path: Path, seed: int) -> None:
    """After SIGKILL at a random moment the checkpoint is whole, and training resumes from it."""
    process = ForkedScript("train.py", **training(tmp_path, workers=1))
    wait_until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    time.sleep(random.Random(seed).uniform(0, 1.5))
    process.send(signal.SIGKILL)
    assert process.wait().code == 137
    reached = steps_done(tmp_path)
    again = train(tmp_path, resume="auto", max_minutes=0.0001)
    again.check_success()
    assert steps_done(tmp_path) > reached


@pytest.mark.parametrize("seed", KILLS)
def test_killed_testing_resumes(tmp_path: Path, weights: Path, seed: int) -> None:
    """skip_done leaves out complete videos and segments the others; the scores are those of a whole run."""
    for name in "abcdef":
        fake_datasets.folder(tmp_path, name=name, frames=6)
    process = ForkedScript("test.py", **segmentation(tmp_path, weights))
    wait_until(lambda: list(tmp_path.rglob("output/FOLDER/.done/*.json")), process)
    time.sleep(random.Random(seed).uniform(0, 0.5))
    process.send(signal.SIGKILL)
    code = process.wait().code
    done = len(list(tmp_path.rglob("output/FOLDER/.done/*.json")))
    again = segment(tmp_path, weights, skip_done=True)
    again.check_success()
    assert code in (0, 137) and f"{done} of 6 videos are there" in again.out
    whole = segment(tmp_path, weights, output_dir="whole")
    whole.check_success()
    assert table(again) == table(whole)
    for path in (tmp_path / "whole/FOLDER").rglob("*.png"):
        other = tmp_path / "output/FOLDER" / path.relative_to(tmp_path / "whole/FOLDER")
        assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(other)))


def table(end: Result) -> list[str]:
    return sorted(
        line
        for line in end.out.splitlines()
        if line[:1] in "abcdef" and line[1:2] == " " or line.startswith("global")
    )


# ---- what is done stays done, with the same settings ---------------------------------------------


def test_done_videos_are_left_out_only_with_the_same_settings(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    segment(tmp_path, weights).check_success()
    mask = tmp_path / "output/FOLDER/mine/00002.png"
    written = mask.stat().st_mtime_ns
    end = segment(tmp_path, weights, skip_done=True)
    end.check_success()
    assert "2 of 2 videos are there" in end.out and mask.stat().st_mtime_ns == written
    end = segment(tmp_path, weights, skip_done=True, save_freq=2)  # other masks
    assert "skip_done:" not in end.out and mask.stat().st_mtime_ns > written
    mask.unlink()
    end = segment(tmp_path, weights, skip_done=True, save_freq=2)
    assert "1 of 2 videos are there" in end.out and mask.exists()


def test_a_completion_record_of_an_older_version_is_outdated(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    segment(tmp_path, weights).check_success()
    note = tmp_path / "output/FOLDER/.done/mine.json"
    note.write_text(note.read_text().replace('"inputs"', '"made of"'))
    end = segment(tmp_path, weights, skip_done=True)
    end.check_success()
    assert "1 of 2 videos are there" in end.out and '"inputs"' in note.read_text()


def test_a_mask_that_was_repaired_makes_its_video_pending(tmp_path: Path, weights: Path) -> None:
    """So does a frame that was replaced."""
    fake_datasets.two_videos(tmp_path)
    segment(tmp_path, weights).check_success()
    given = tmp_path / "Annotations/mine/00000.png"
    labels = np.array(Image.open(given))
    labels[:4, :4] = 1
    fake_datasets.save_mask(given, labels)
    assert "1 of 2 videos are there" in segment(tmp_path, weights, skip_done=True).out
    assert "2 of 2 videos are there" in segment(tmp_path, weights, skip_done=True).out
    os.utime(tmp_path / "JPEGImages/mine/00001.png", (1, 1))
    assert "1 of 2 videos are there" in segment(tmp_path, weights, skip_done=True).out


def test_a_damaged_completion_record_is_named(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    segment(tmp_path, weights).check_success()
    note = tmp_path / "output/FOLDER/.done/mine.json"
    for damage in (
        "{",
        "[]",
        '{"fingerprint": 1}',
        note.read_text().replace('"seconds": ', '"seconds": null, "x": '),
        note.read_text().replace('"iou": ', '"iou": "", "y": '),
    ):
        note.write_text(damage)
        segment(tmp_path, weights, skip_done=True).check_error(str(note), "remove it")


def test_a_submission_is_not_made_of_all_masks(tmp_path: Path, weights: Path) -> None:
    """skip_done redoes a run that wrote more masks than the server asks for."""
    fake_datasets.youtube_vos(tmp_path)
    segment(tmp_path, weights, valset="VOS").check_success()
    end = segment(tmp_path, weights, valset="VOS", skip_done=True, submission=True)
    assert "skip_done:" not in end.out


def test_what_a_kill_left_half_written_goes(tmp_path: Path, weights: Path) -> None:
    """Temporary files of masks and of the zip are removed, those of other runs are not."""
    fake_datasets.two_videos(tmp_path)
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
    segment(tmp_path, weights).check_success()
    assert not any(path.exists() for path in left) and all(path.exists() for path in others)


# ---- disks ---------------------------------------------------------------------------------------


def test_a_full_disk_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    """The earlier checkpoint stays whole."""
    train(tmp_path, epochs=1).check_success()
    before = (tmp_path / "ckpt/recurrent.pth.tar").read_bytes()
    keys = training(tmp_path, epochs=3, resume="auto", save_steps=0)
    end = ForkedScript("train.py", before=small_disk(100_000), **keys).wait()
    end.check_error("recurrent.pth.tar", "cannot be written", "space")
    assert (tmp_path / "ckpt/recurrent.pth.tar").read_bytes() == before and not leftovers(tmp_path)


def test_a_full_disk_while_masks_are_written(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    end = ForkedScript("test.py", before=small_disk(600), **segmentation(tmp_path, weights)).wait()
    end.check_error("mine/00000.png", "cannot be written", "space")
    assert not leftovers(tmp_path) and not list((tmp_path / "output").rglob("*.png"))


@pytest.mark.parametrize("script", ["train.py", "test.py", "demo/demo.py"])
def test_a_folder_that_cannot_be_made(tmp_path: Path, weights: Path, script: str) -> None:
    """A file lies where the folder should be, so that not even root can write there."""
    fake_datasets.two_videos(tmp_path)
    fake_datasets.folder(tmp_path)
    (tmp_path / "taken").write_text("")
    keys: dict[str, dict[str, object]] = {
        "train.py": {**TRAIN_ON_FOLDER, "checkpoint": tmp_path / "taken/ckpt"},
        "test.py": {"valset": "FOLDER", "output_dir": "taken/out", "initial": weights},
        "demo/demo.py": {
            "video_path": tmp_path / "JPEGImages/mine",
            "mask_path": tmp_path / "Annotations/mine/00000.png",
            "output_dir": tmp_path / "taken/out",
            "initial": weights,
        },
    }
    run_in_process(script, **small(root=tmp_path, **keys[script])).check_error(str(tmp_path / "taken"))


def test_a_folder_without_permission(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    (tmp_path / "output").mkdir(mode=0o500)
    segment_folder(tmp_path, weights).check_error(str(tmp_path / "output"), "cannot be written")


def test_a_damaged_checkpoint_does_not_push_out_a_whole_one(tmp_path: Path) -> None:
    path, older = tmp_path / "run.pth.tar", tmp_path / "run.1.pth.tar"
    for step in range(2):
        save_checkpoint(path, {"step": step}, keep=2)
    path.write_bytes(path.read_bytes()[:100])
    save_checkpoint(path, {"step": 2}, keep=2)
    assert read_file(path) == {"step": 2} and read_file(older) == {"step": 0}


def test_no_room_in_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loader process raises what torch does if /dev/shm is full; the script must not wait for it."""

    def full(_: object) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: No space left on device (28)"
        )

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    end = ForkedScript("train.py", **training(tmp_path, workers=1)).wait()  # inherits the patch
    end.check_error("/dev/shm", "workers")


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


def test_a_script_does_not_wait_for_loader_processes_that_ignore_its_end(tmp_path: Path) -> None:
    """Loader processes ignore SIGTERM if an epoch ends early."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    started = time.monotonic()
    end = ForkedScript(tmp_path / "stubborn.py").wait()
    assert end.code == 2 and end.err == "error: over\n" and time.monotonic() - started < 60


def test_nobody_reads_what_training_prints(tmp_path: Path) -> None:
    """Standard output is closed, as after `| tee` has ended: training continues, and its log is complete."""

    def deaf() -> None:
        """A pipe without a reader as standard output."""
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
        sys.stdout = os.fdopen(1, "w", closefd=False)

    end = ForkedScript("train.py", before=deaf, **training(tmp_path, epochs=2)).wait()
    end.check_success()
    log = (tmp_path / "ckpt/train.log").read_text()
    assert "epoch 2/2" in log and "done:" in log and steps_done(tmp_path) == (2, 0)


# ---- others at work ------------------------------------------------------------------------------


def test_a_second_run_into_the_same_folder_is_refused(tmp_path: Path, weights: Path) -> None:
    fake_datasets.two_videos(tmp_path)
    fake_datasets.folder(tmp_path)
    with exclusive_run(tmp_path / "ckpt"), exclusive_run(tmp_path / "output/FOLDER"):
        train(tmp_path, max_minutes=0.01).check_error(str(tmp_path / "ckpt"), "another run")
        segment(tmp_path, weights).check_error(str(tmp_path / "output/FOLDER"), "another run")
        with pytest.raises(InputError, match="another run"), exclusive_run(tmp_path / "ckpt"):
            pass
    segment(tmp_path, weights).check_success()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_process_whose_peer_is_killed_ends(tmp_path: Path, victim: int) -> None:
    """It waits for the other one's gradients, and says why it ends. Then the run resumes."""
    group = start_group("train.py", 2, **training(tmp_path))
    wait_until((tmp_path / "ckpt/recurrent.pth.tar").exists, group[0])
    group[victim].send(signal.SIGKILL)
    assert group[victim].wait().code == 137
    group[1 - victim].wait(60).check_error("another process", "resume auto")
    again = [process.wait() for process in start_group("train.py", 2, **training(tmp_path, **BRIEF))]
    for end in again:
        end.check_success()
    assert "resuming after epoch" in again[0].out and not leftovers(tmp_path)


def test_a_loader_process_does_not_keep_the_lock_of_a_killed_run(tmp_path: Path) -> None:
    """It lives some seconds longer than the run, and torchrun starts the run again before."""
    ready, started = os.pipe()
    end, running = os.pipe()
    run = os.fork()
    if run == 0:
        os.close(running)
        with exclusive_run(tmp_path):
            if os.fork() == 0:
                os.write(started, b"x")
                os.read(end, 1)  # until the test closes the other end
                os._exit(0)
            signal.pause()
    os.read(ready, 1)
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    with exclusive_run(tmp_path):
        for pipe in (ready, started, end, running):
            os.close(pipe)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_loader_process_that_dies(tmp_path: Path, workers: str) -> None:
    """One of them dies; the script must not wait for the others."""
    process = ForkedScript("train.py", **training(tmp_path, workers=workers))
    wait_until((tmp_path / "ckpt/recurrent.pth.tar").exists, process)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    # They live for one epoch, and the death of one that has delivered all its clips does no harm.
    while process.is_running():
        for child in children.read_text().split()[:1]:
            with suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        time.sleep(0.05)
    end = process.wait()
    end.check_error("'workers'", "loader process", "resume auto")
    read_file(tmp_path / "ckpt/recurrent.pth.tar")


def test_out_of_memory_says_which_keys_to_lower(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network raises what a GPU would raise."""

    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    fake_datasets.two_videos(tmp_path)
    fake_datasets.folder(tmp_path)
    monkeypatch.setattr("models.stm.STM.memorize", no_memory)  # the fork inherits it
    segment(tmp_path, weights).check_error("out of memory", "input_size", "memory_frames")
    train(tmp_path).check_error("out of memory", "train_batch", "grad_checkpoint")


def test_an_earlier_runs_checkpoints_are_not_written_over(tmp_path: Path) -> None:
    train(tmp_path, epochs=1).check_success()
    before = (tmp_path / "ckpt/recurrent.pth.tar").read_bytes()
    train(tmp_path, epochs=1).check_error("'checkpoint'", "recurrent.pth.tar", "resume auto")
    assert (tmp_path / "ckpt/recurrent.pth.tar").read_bytes() == before


def test_tables_of_an_earlier_run_go_when_masks_change(tmp_path: Path, weights: Path) -> None:
    fake_datasets.folder(tmp_path)
    segment(tmp_path, weights).check_success()
    table = tmp_path / "output/FOLDER/scores.csv"
    assert table.exists()
    (tmp_path / "JPEGImages/mine/00001.png").write_bytes(b"")
    segment(tmp_path, weights).check_error("1 of 1 videos failed")
    assert not table.exists()


# ---- a script that starts another one --------------------------------------------------------------------

STARTS = """
import sys
from libs.app.script import run_as_process, run_with_error_messages
run_with_error_messages(lambda: sys.exit(run_as_process([sys.executable, sys.argv[1]])))
"""
SAVES = """
import pathlib, signal, sys, time
folder = pathlib.Path(__file__).parent
def save(number, _):
    time.sleep(1)
    (folder / "saved").touch()
    sys.exit(128 + number)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, save)
(folder / "ready").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_script_that_another_one_has_started_saves_at_a_signal(tmp_path: Path, number: int) -> None:
    """subprocess.run kills it a quarter of a second after SIGINT, and SIGTERM leaves it behind."""
    starts, saves = tmp_path / "starts.py", tmp_path / "saves.py"
    starts.write_text(STARTS)
    saves.write_text(SAVES)
    process = ForkedScript(starts, saves)
    wait_until((tmp_path / "ready").exists, process)
    process.send(number)
    assert process.wait(30).code == 128 + number
    assert (tmp_path / "saved").exists()
