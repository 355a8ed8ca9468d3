"""Several processes: one finds the files, all get them."""

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from dataset.build import training_sets
from libs.core.distributed import Processes, join_processes
from libs.core.errors import InputError
from tests.helpers import fake_datasets as trees


def in_two_processes(folder: Path, run: Callable[[Processes], object]) -> list[object]:
    """Call `run` in two connected forks. Returns: what it returned in each."""
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            try:
                os.environ.update(WORLD_SIZE="2", RANK=str(rank), LOCAL_RANK=str(rank))
                processes = join_processes("gloo", f"file://{folder}/store")
                (folder / f"{rank}.json").write_text(json.dumps(run(processes)))
                processes.leave()
                os._exit(0)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_one_process_lists_the_files_and_all_have_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trees.davis17(tmp_path)
    listed: list[str] = []
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda folder: listed.append(str(folder)) or listdir(folder))

    def run(processes: Processes) -> object:
        (data,) = processes.from_main(lambda: training_sets(tmp_path, ["DAVIS17"], [1]))
        files = [str(file) for video in data.videos for file in (*video.frames, *video.masks.values())]
        return files, len([folder for folder in listed if str(tmp_path) in folder])

    (files, calls), (others, no_calls) = in_two_processes(tmp_path, run)
    assert files == others and len(files) == 16 and all(map(os.path.exists, files))
    assert calls == 6 and no_calls == 0


def test_an_error_reaches_all(tmp_path: Path) -> None:
    def run(processes: Processes) -> object:
        try:
            processes.from_main(lambda: training_sets(tmp_path, ["DAVIS17"], [1]))
        except InputError as error:
            return str(error)

    one, other = in_two_processes(tmp_path, run)
    assert one == other and "found no video in" in str(one)
