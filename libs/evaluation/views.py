"""How source frames become the network's input, and how its masks return: size, letterbox, mirror."""

from dataclasses import dataclass

import torch
from torch import Tensor

from libs.core.masks import Letterbox, normalise, one_hot
from libs.core.structures import SourceFrame


@dataclass(frozen=True)
class View:
    """One way to look at a video; averaging several is test-time augmentation.

    input_size: (H, W) of the network's input, letterboxed; max_size: instead, longer side in pixels, the aspect ratio
    kept and never enlarged (0: input_size); scale: factor on either; flip: mirrored left to right.
    """

    input_size: tuple[int, int]
    max_size: int = 0
    scale: float = 1.0
    flip: bool = False

    def box(self, source: tuple[int, int]) -> Letterbox:
        """The letterbox of a source of (height, width) pixels."""
        target = self.input_size
        if self.max_size:
            shrink = min(1.0, self.max_size / max(source))
            target = source[0] * shrink, source[1] * shrink
        height, width = (max(16, round(side * self.scale)) for side in target)
        return Letterbox(source, (height, width))

    def image(self, frame: SourceFrame) -> Tensor:
        """(1, 3, H, W) normalised."""
        return self._mirror(normalise(self.box(frame.image.shape[:2]).image(frame.image)[None]))

    def given(self, frame: SourceFrame, num_channels: int) -> Tensor:
        """The given labels as (1, K, H, W) one-hot masks."""
        labels = torch.from_numpy(self.box(frame.image.shape[:2]).labels(frame.given))
        return self._mirror(one_hot(labels, num_channels)[None])

    def undo(self, masks: Tensor, source: tuple[int, int]) -> Tensor:
        """Masks (1, K, H, W) back to (K, Hs, Ws)."""
        return self.box(source).undo(self._mirror(masks)[0])

    def _mirror(self, maps: Tensor) -> Tensor:
        return maps.flip(-1) if self.flip else maps
