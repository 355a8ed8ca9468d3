"""The clip that comes with the project: dogs_jump of DAVIS 2017, three objects, see demo/sample/README.md."""

from dataclasses import replace
from pathlib import Path

from dataset.folder import single_video
from dataset.protocol import DAVIS
from libs.core.structures import VideoIndex

FRAMES = Path(__file__).resolve().parents[1] / "demo/sample/dogs_jump"
MASKS = FRAMES.with_name("dogs_jump_masks")


def bundled_clip() -> VideoIndex:
    """Find the bundled clip; its masks are given and scored by the protocol of DAVIS."""
    return replace(single_video(FRAMES, MASKS), protocol=DAVIS)
