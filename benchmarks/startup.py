"""Measure how train.py finds the files of a set as large as YouTube-VOS: time, memory and system calls.

python3 -m benchmarks.startup FOLDER [--videos 3471] [--frames 27] [--latency 0] [--shards] [--cache FOLDER]

The set is written into FOLDER, unless it is there from an earlier call. Its files are hard links to a few.
"""

import argparse
import builtins
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.measure import resident
from dataset.build import check_masks, training_sets
from dataset.sampling import ClipSettings
from dataset.shards import write_shards
from libs.core.image_io import save_index_png

LINKS = 10_000  # to one file; file systems have a limit
CALLS = ("stat", "lstat", "listdir", "scandir", "open")  # of the module os, each a request to a file server


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path)
    add("--videos", type=int, default=3471, help="videos of the set (default: 3471, as in YouTube-VOS)")
    add("--frames", type=int, default=27, help="annotated frames of a video (default: 27)")
    add("--latency", type=float, default=0, help="milliseconds that each call takes longer (default: 0)")
    add("--shards", action="store_true", help="read the set from tar shards, written into FOLDER/shards")
    add("--cache", type=Path, help="as the key index_cache: the second call uses the list of the first")
    args = parser.parse_args()
    root = args.folder
    write_set(root, args.videos, args.frames)
    if args.shards:
        train, root = root / "Youtube-VOS/train", root / "shards"
        if not root.exists():
            write_shards(train, root / "Youtube-VOS/train", megabytes=2)
    print(measure(root, args.latency, args.cache))


def write_set(root: Path, videos: int, frames: int) -> None:
    """Write the train split of YouTube-VOS below `root`, with tiny files."""
    train = root / "Youtube-VOS/train"
    if (train / "meta.json").exists():
        return
    names = [f"{number:010x}" for number in range(videos)]
    labels = np.zeros((48, 64), np.uint8)
    labels[8:24, 8:24] = 1
    shown = [f"{5 * t:05d}" for t in range(frames)]
    sources: list[Path] = []
    for number, name in enumerate(names):
        if number * frames // LINKS == len(sources):
            sources.append(root / f"source{len(sources)}")
            root.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.dstack([labels * 200] * 3)).save(sources[-1].with_suffix(".jpg"))
            save_index_png(sources[-1].with_suffix(".png"), labels)
        for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".png")):
            (train / folder / name).mkdir(parents=True)
            for frame in shown:
                os.link(sources[-1].with_suffix(suffix), train / folder / name / f"{frame}{suffix}")
    meta = {"videos": {name: {"objects": {"1": {"category": "thing", "frames": shown}}} for name in names}}
    (train / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def measure(root: Path, latency: float, cache: Path | None) -> str:
    """Find the files, check 100 masks as train.py does, and report what that took."""
    calls = count_calls(latency)
    before, start, processor = resident(), time.perf_counter(), time.process_time()
    sets = training_sets(root, ["VOS"], [1], cache=cache)
    listed, used = time.perf_counter() - start, time.process_time() - processor
    listed_calls = calls.total()
    memory = resident() - before
    check_masks(sets, ClipSettings(size=(48, 64), max_skip=[1]), 100)
    return (
        f"{len(sets[0].videos)} videos; listing {listed:.2f} s ({used:.2f} s of the processor), "
        f"{memory:.0f} MB, {listed_calls} calls; check_masks {time.perf_counter() - start - listed:.2f} s, "
        f"{calls.total() - listed_calls} calls; {dict(calls)}"
    )


def count_calls(latency: float) -> Counter[str]:
    """From now on count calls of CALLS and of the built-in `open`; each takes `latency` ms longer."""
    counts: Counter[str] = Counter()

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, counted and slow."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            """Count, wait, call."""
            counts[name] += 1
            if latency:
                time.sleep(latency / 1000)
            return call(*args, **kwargs)

        return wrapper

    for name in CALLS:
        setattr(os, name, counted(name, getattr(os, name)))
    # pathlib calls io.open, Pillow the built-in open.
    io.open = builtins.open = counted("io.open", io.open)  # type: ignore[assignment]
    return counts


if __name__ == "__main__":
    main()
