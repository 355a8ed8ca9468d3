"""How source frames become the network's input, and how masks are brought back: size, letterbox, mirror."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from libs.core.masks import Letterbox, normalise, one_hot
from libs.core.structures import SourceFrame


@dataclass(frozen=True)
class View:
    """One way to look at a video; averaging several is test-time augmentation.

    input_size: (H, W) of the network's input, into which frames are letterboxed.
    max_size: longer side of the network's input in pixels instead; the aspect ratio is kept, and frames are
        never enlarged. 0: input_size counts.
    scale: factor on either size.
    flip: mirror left to right.
    """

    input_size: tuple[int, int]
    max_size: int = 0
    scale: float = 1.0
    flip: bool = False

    def box(self, source: tuple[int, int]) -> Letterbox:
        """The letterbox of a source of (height, width) pixels."""
        sides: tuple[float, float] = self.input_size
        if self.max_size:
            shrink = min(1.0, self.max_size / max(source))
            sides = source[0] * shrink, source[1] * shrink
        height, width = (max(16, round(side * self.scale)) for side in sides)
        return Letterbox(source, (height, width))

    def image(self, frame: SourceFrame) -> Tensor:
        """(1, 3, H, W) normalised."""
        image = self.box(frame.image.shape[:2]).image(frame.image)
        return self._mirror(normalise(image[None]))

    def masks(self, labels: np.ndarray, num_channels: int) -> Tensor:
        """Given labels (Hs, Ws) as one-hot masks (1, K, H, W)."""
        height, width = labels.shape
        placed = self.box((height, width)).labels(labels)
        return self._mirror(one_hot(torch.from_numpy(placed), num_channels)[None])

    def undo(self, masks: Tensor, source: tuple[int, int]) -> Tensor:
        """Masks (1, K, H, W) back to (K, Hs, Ws)."""
        return self.box(source).undo(self._mirror(masks)[0])

    def _mirror(self, maps: Tensor) -> Tensor:
        return maps.flip(-1) if self.flip else maps
