"""The videos that can be chosen on the page: the bundled clip, and those that the command line names."""

import os
import warnings
from pathlib import Path

from dataset.listing import is_image
from dataset.video_file import SUFFIXES
from libs.app.config import load_config
from libs.core.errors import InputError

DEMO = Path(__file__).resolve().parents[1]
DEEPEST = 6  # folders below the root
MOST_VIDEOS = 1000


def bundled_clip() -> Path:
    """Return the clip that demo/demo.yaml names: a folder of frames."""
    return DEMO.parent / load_config(DEMO / "demo.yaml", demo=True).video_path


class Library:
    """Folders of frames and video files at or below `root`, by their relative names.

    Args:
        root: a folder, or one video file; None: there are no videos to choose from.
    Raises: InputError if there is no such path, or no video below it.
    """

    def __init__(self, root: Path | None) -> None:
        self.root = root
        if root is not None and not root.exists():
            raise InputError(f"--video: {root} does not exist; give a video file, or a folder")
        if root is not None and not self.names():
            raise InputError(
                f"--video: {root} holds no video; give a video file, a folder of frames, or a folder of these"
            )
        if len(self.names()) == MOST_VIDEOS:
            warnings.warn(f"--video: {root}: only its first {MOST_VIDEOS} videos can be chosen", stacklevel=2)

    def names(self) -> list[str]:
        """List the videos, sorted; at most MOST_VIDEOS."""
        if self.root is None:
            return []
        if self.root.is_file():
            return [self.root.name] if self.root.suffix.lower() in SUFFIXES else []
        found: list[str] = []
        for folder, below, files in os.walk(self.root):
            place = Path(folder)
            depth = len(place.relative_to(self.root).parts)
            below[:] = sorted(name for name in below if not name.startswith(".")) if depth < DEEPEST else []
            videos = [place] if any(is_image(Path(name)) for name in files) else []
            videos += [place / name for name in sorted(files) if Path(name).suffix.lower() in SUFFIXES]
            found += [str(video.relative_to(self.root)) for video in videos if self._lies_within(video)]
            if len(found) >= MOST_VIDEOS:
                break
        return found[:MOST_VIDEOS]

    def find(self, name: str) -> Path:
        """Return the path of a video.

        Raises: InputError if `name` is not one of `names`.
        """
        if self.root is None or name not in self.names():
            raise InputError(f"'{name}' is not below the folder that --video names; choose one of the list")
        return self.root if self.root.is_file() else self.root / name

    def _lies_within(self, video: Path) -> bool:
        """Whether it is below the root after its links are resolved."""
        return self.root is not None and video.resolve().is_relative_to(self.root.resolve())
