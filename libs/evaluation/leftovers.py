"""Find files of earlier runs in a folder of results, and warn of them, as they look like new ones."""

import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from libs.evaluation.outputs import LAYOUTS, Masks, VideoOutput

# Why a file is not of this run.
FRAME = "of frames that this run did not write"
STYLE = "of another save_indexed_format"
VIDEO = "of videos that are not in the set"
Leftovers = dict[Path, str]  # file -> one of these


def of_video(output: VideoOutput, masks: Masks) -> Leftovers:
    """Find the files of one video that a run did not write.

    Args:
        output: of this run; masks: that this run wrote.
    """
    existing = {kind: kind.existing(output.folder, output.video) for kind in LAYOUTS}
    old = existing.pop(type(output)) - output.expected(masks)
    return {**dict.fromkeys(old, FRAME), **dict.fromkeys(set().union(*existing.values()), STYLE)}


def of_other_videos(folder: Path, known: Collection[str]) -> Leftovers:
    """Find the files of all videos in a folder but the `known` ones; folders of other runs have a lock."""
    folders = {path.name for path in folder.iterdir() if path.is_dir() and not (path / ".lock").exists()}
    names = folders | {path.stem for path in folder.glob("*.json")}
    others = [name for name in names if name not in known and not name.startswith(".")]
    return {path: VIDEO for name in others for kind in LAYOUTS for path in kind.existing(folder, name)}


def warn_of_leftovers(folder: Path, found: Leftovers) -> None:
    """Give one warning that counts the files of each kind and names the first of them."""
    if not found:
        return
    parts = []
    for reason, count in Counter(found.values()).items():
        first = min(path for path in found if found[path] == reason)
        parts.append(f"{count} {reason} (first {first.relative_to(folder)})")
    warnings.warn(
        f"{folder} holds {len(found)} files of earlier runs, which are no results of this one: "
        f"{', '.join(parts)}; remove them, or give another output_dir",
        stacklevel=3,
    )
