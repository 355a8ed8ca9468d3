"""The Python interface: segment the frames of one's own video as they come."""

from copy import deepcopy

import numpy as np
import torch

from libs.app.build import for_inference, load_network, settings_from
from libs.app.config import check_keys
from libs.app.defaults import DEFAULTS
from libs.core.errors import InputError
from libs.core.masks import VOID, keep_objects, object_ids
from libs.core.named_weights import weights_file
from libs.core.precision import AUTO, DTYPES
from libs.core.structures import Prediction, SourceFrame
from libs.evaluation.inference import FrameReader, InferenceSettings, VideoSegmenter
from libs.evaluation.scores import mean_jaccard
from libs.method.memory_rules import AUTO as AUTO_RULE
from models.stm import STM

LARGEST_ID = 254  # 255 is void
SMALLEST_INPUT = 32  # least max_size, in pixels
PRECISIONS = (AUTO, *DTYPES)


class Segmenter:
    """Tracks objects, which masks mark, frame by frame; one video at a time.

        segmenter = Segmenter.load("shipped")
        for image, mask in frames:                # (H, W, 3) uint8 RGB; (H, W) labels or None
            labels = segmenter.step(image, mask)  # (H, W) uint8 with the ids of the masks

    It runs the loop of test.py and of the demo: with the same settings, the same masks give the same labels.

    Args:
        model: a network in evaluation mode, on its device; see `load`.
        correct: correct every fifth mask by its gradient (STM-Cycle, section 3.3): slower, and masks drift
            less from the first one.
        memory_frames: bound of the memory in frames, so that long videos need no more than short ones; 0:
            none.
        memory_rule: which frames stay in the memory, one of the values of the key `memory_rule`: auto, all,
            even, last, first_last, surprise. 'all' needs memory_frames=0.
        top_k: memory positions that each position of a frame reads; 0: all.
        max_size: longer side of the network's input in pixels, at least 32; larger finds smaller objects
            and takes longer.
        probabilities: keep the probabilities of the newest frame for `probabilities`.
    Raises: InputError naming an argument that is out of range or contradicts another one.
    """

    def __init__(
        self,
        model: STM,
        *,
        correct: bool = False,
        memory_frames: int = 20,
        memory_rule: str = AUTO_RULE,
        top_k: int = 0,
        max_size: int = 427,
        probabilities: bool = False,
    ) -> None:
        if max_size < SMALLEST_INPUT:
            raise InputError(f"max_size: expected at least {SMALLEST_INPUT} pixels, found {max_size}")
        memory = {"memory_frames": memory_frames, "memory_rule": memory_rule, "top_k": top_k}
        check_keys(memory)
        self.model = model
        self.settings = settings_from(
            InferenceSettings,
            DEFAULTS,
            input_size=(max_size, max_size),
            max_size=max_size,
            loop=DEFAULTS["loop"] if correct else 0,
            save_corrected=correct,
            object_probs=probabilities,
            **memory,
        )
        self.reset()

    @classmethod
    def load(
        cls,
        weights: str = "shipped",
        *,
        device: str | torch.device | None = None,
        precision: str = "auto",
        correct: bool = False,
        memory_frames: int = 20,
        memory_rule: str = AUTO_RULE,
        top_k: int = 0,
        max_size: int = 427,
        probabilities: bool = False,
    ) -> "Segmenter":
        """Build the network that a file of weights describes.

        Args:
            weights: a file, or a name that the key `initial` accepts: shipped, stm-cycle-resnet18,
                stm-cycle-resnet50.
            device: default: the GPU if there is one, else the CPU.
            precision: 'off' computes in float32, 'bf16' and 'fp16' in half precision; 'auto' takes bf16 if
                the device has instructions for it, else float32.
            The others: see the class.
        Raises: InputError naming the file that cannot be read, or the wrong argument.
        """
        if precision not in PRECISIONS:
            raise InputError(f"precision: expected one of {', '.join(PRECISIONS)}, found {precision!r}")
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        model = load_network(weights_file(weights)).to(place)
        model = for_inference(model, precision)
        return cls(
            model,
            correct=correct,
            memory_frames=memory_frames,
            memory_rule=memory_rule,
            top_k=top_k,
            max_size=max_size,
            probabilities=probabilities,
        )

    @property
    def ids(self) -> tuple[int, ...]:
        """The ids that are tracked, in ascending order."""
        return self._reader.ids

    def reset(self) -> None:
        """Start a new video: drop all frames and objects."""
        self._segmenter = VideoSegmenter(self.model, self.settings)
        self._reader = FrameReader("of the segmenter", self.settings.views)
        self._newest: Prediction | None = None
        self._frames = 0

    def copy(self) -> "Segmenter":
        """Return a second segmenter in the same state, to go back to this frame later.

        Both continue independently, with the same network. A copy takes about the memory of the kept frames.
        """
        return deepcopy(self, {id(self.model): self.model})

    def step(self, image: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """Segment the next frame.

        Args:
            image: (H, W, 3) uint8 RGB, of one size within a video.
            mask: (H, W) integers, 0 for background, 1 to 254 for objects, 255 for void, which counts as
                background. In this frame the objects that it shows are exactly these pixels, and the others
                keep their predictions. New ids are tracked from here. None, or a mask without objects: all
                objects are predicted.
        Returns: (H, W) uint8 labels with the ids of the masks; 0 before the first object.
        Raises: InputError if shapes, sizes or values are not as expected.
        """
        mask = None if mask is None else np.asarray(mask)
        given = None if mask is None else _checked_mask(mask)
        frame = SourceFrame(f"{self._frames:05d}", _checked(image, mask), given)
        self._newest = self._segmenter.step(self._reader.read(frame))
        self._frames += 1
        return self._newest.labels

    def probabilities(self) -> dict[int, np.ndarray]:
        """Probability of each object in the newest frame: id -> (H, W) float32.

        Raises: InputError unless the segmenter was created with probabilities=True.
        """
        if not self.settings.object_probs:
            raise InputError("probabilities: create the segmenter with probabilities=True")
        if self._newest is None or self._newest.object_probs is None:
            return {}
        known = zip(self._newest.ids, self._newest.object_probs)
        return {number: probs for number, probs in known if number in self.ids}

    def remove(self, number: int) -> None:
        """Stop tracking the object with this id; a later mask may bring it back.

        Raises: InputError if there is no such object.
        """
        if number not in self.ids:
            raise InputError(f"object {number}: expected one of {list(self.ids)}, which are tracked")
        self._segmenter.remove(number)
        self._reader.remove(number)

    def drift(self) -> dict[int, float]:
        """Compute the round-trip IoU of each object: a low value means drift, and no ground truth is needed.

        The latest frame with a given mask is predicted back from the newest frame alone.

        Returns: id -> IoU of the object in that frame with itself, predicted back; empty if the newest frame
            is that frame, or if there is no object. Objects that the frame does not show are left out.
        """
        trip = self._segmenter.round_trip()
        if trip is None:
            return {}
        shown = [number for number in object_ids(trip.tracked) if number in self.ids]
        return {number: mean_jaccard(trip.labels, trip.tracked, [number]) for number in shown}


def _checked_mask(mask: np.ndarray) -> np.ndarray | None:
    """The caller's mask as (H, W) uint8; None if it shows no object.

    Raises: InputError.
    """
    labels = np.asarray(mask)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise InputError(f"mask: expected (H, W) integers, found shape {labels.shape} of {labels.dtype}")
    if labels.size and (labels.min() < 0 or labels.max() > VOID):
        raise InputError(
            f"mask: expected labels from 0 to {LARGEST_ID}, found {labels.min()} to {labels.max()}"
        )
    labels = labels.astype(np.uint8)
    numbers = object_ids(labels)
    return keep_objects(labels, numbers) if numbers else None


def _checked(image: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """The image, after a check of its type and shape, and of the size of its mask.

    Raises: InputError.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = (
            f"shape {image.shape} of {image.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise InputError(f"image: expected an array (H, W, 3) of uint8, RGB, found {found}")
    if mask is not None and mask.shape != image.shape[:2]:
        raise InputError(f"mask: expected the size of its image, {image.shape[:2]}, found {mask.shape}")
    return image
