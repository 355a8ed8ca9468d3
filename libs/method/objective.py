"""What training minimises: forward along the clip, then from each frame back to frame 0."""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

from libs.core.masks import one_hot
from libs.core.structures import Clip
from libs.method.cycle import cycle_loss
from libs.method.losses import mask_loss, present_channels, soft_iou_loss
from libs.method.propagate import FrameInput, Remember, Remembered, Step, propagate
from models.memory_read import at_least_float32, read
from models.stm import STM, Memory, Objects, Query

MODES = ("mask", "recurrent", "threshold")
ATTENTION_MARGIN = 1e-3  # what is carried stays this far from 0 and 1, where its logarithm is steep


@dataclass(frozen=True)
class Batch:
    """Clips of one shape side by side, on the model's device."""

    names: list[str]
    frames: Tensor  # (B, T, 3, H, W)
    masks: Tensor  # (B, T, K, H, W) one-hot
    num_objects: list[int]

    @staticmethod
    def of(clips: list[Clip], device: torch.device) -> "Batch":
        """Stack clips of equal T, H, W; K is that of the clip with the most objects."""
        num_objects = [clip.num_objects for clip in clips]
        labels = torch.stack([clip.labels for clip in clips]).to(device)
        frames = torch.stack([clip.frames for clip in clips]).to(device)
        return Batch(
            [clip.name for clip in clips], frames, one_hot(labels, max(num_objects) + 1), num_objects
        )


@dataclass(frozen=True)
class Losses:
    """Terms summed over clips and frames; `total` is what is differentiated."""

    forward: Tensor
    cycle: Tensor
    total: Tensor
    cycle_used: int
    cycle_skipped: int
    attention: Tensor  # 0 where it has no weight


@dataclass
class EpochTotals:
    """Sums over the steps of an epoch."""

    clips: int = 0
    total: float = 0.0
    forward: float = 0.0
    cycle: float = 0.0
    cycle_used: int = 0
    cycle_skipped: int = 0
    attention: float = 0.0

    def __add__(self, other: "EpochTotals") -> "EpochTotals":
        return EpochTotals(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def means(self) -> dict[str, float]:
        """Per clip, and the share of cycle terms that were skipped."""
        clips, terms = max(self.clips, 1), max(self.cycle_used + self.cycle_skipped, 1)
        return {
            "loss": self.total / clips,
            "forward": self.forward / clips,
            "cycle": self.cycle / clips,
            "cycle_skipped": self.cycle_skipped / terms,
            "attention": self.attention / clips,
        }


def training_losses(
    model: STM,
    batch: Batch,
    mode: str,
    kind: str = "both",
    iou_threshold: float = 0.65,
    cycle: bool = True,
    attention: float = 0.0,
) -> Losses:
    """Forward and cycle loss of a batch of clips (STM-Cycle, section 3.2).

    Args:
        mode: what is memorised, see `memory_policy`; kind: 'ce', 'iou' or 'both'; cycle: False leaves its loss out;
        attention: weight of the attention loss, which neither paper has.
    Returns: total = (forward + cycle + attention * its loss) / (B (T - 1)).
    """
    num_clips, num_frames = batch.frames.shape[:2]
    remember, frames = memory_policy(mode, batch.masks, iou_threshold), training_frames(model, batch)
    steps = list(propagate(model, frames, save_freq=1, remember=remember, differentiable=True))
    forward = batch.frames.new_zeros(())
    for b in range(num_clips):
        counted = present_channels(batch.masks[b, 0])
        forward = forward + sum(
            mask_loss(step.logits[b], batch.masks[b, step.t], counted, kind) for step in steps[1:]
        )
    back = cycle_loss(steps if cycle else steps[:1], batch.masks, batch.num_objects, kind)
    carried = forward.new_zeros(())
    if attention and num_frames > 1:
        carried = attention_loss(steps[0].memory, [frame.query for frame in frames], batch.masks)
    total = forward + back.value + attention * carried
    return Losses(
        forward, back.value, total / (num_clips * max(num_frames - 1, 1)), back.used, back.skipped, carried
    )


def attention_loss(memory: Memory, queries: list[Query], truth: Tensor) -> Tensor:
    """How far the first masks, carried by the attention weights alone at stride 16, are from the later ones.

    It tells the keys what to look for before the decoder can make anything of what is read.

    Args:
        memory: of frame 0; queries: of all T frames; truth: (B, T, K, H, W) one-hot.
    Returns: binary cross entropy, mean over positions and each clip's objects, summed over frames and clips.
    """
    objects, size = memory.objects, queries[0].key.shape[-2:]
    own = truth.transpose(1, 2)[objects.clip_index, objects.channel]  # (O, T, H, W)
    small = F.interpolate(own, size=size, mode="area")  # (O, T, h, w)
    share = 1 / torch.bincount(objects.clip_index, minlength=len(truth)).to(truth)[objects.clip_index]  # (O,)
    first, loss = small[:, 0].flatten(1).unsqueeze(2), truth.new_zeros(())  # (O, h*w, 1)
    for t in range(1, len(queries)):
        found = read(memory.keys, first, queries[t].key.index_select(0, objects.clip_index))[
            :, 0
        ]  # (O, h, w)
        found = ATTENTION_MARGIN + (1 - 2 * ATTENTION_MARGIN) * at_least_float32(found)
        entropy = small[:, t] * found.log() + (1 - small[:, t]) * (1 - found).log()
        loss = loss - (share * entropy.flatten(1).mean(1)).sum()
    return loss


def training_frames(model: STM, batch: Batch) -> list[FrameInput]:
    """The loop's input: frame 0 with its true masks; the query features of all frames are made in one pass."""
    num_clips, num_frames = batch.frames.shape[:2]
    images = batch.frames.transpose(0, 1)  # (T, B, 3, H, W)
    query = model.encode(images.flatten(0, 1))  # T*B pictures, those of one moment in a row
    objects = Objects.of(batch.num_objects, batch.masks.shape[2], batch.frames.device)
    queries = [query[t * num_clips : (t + 1) * num_clips] for t in range(num_frames)]
    first = FrameInput(images[0], batch.masks[:, 0], objects, queries[0])
    return [first, *(FrameInput(images[t], query=queries[t]) for t in range(1, num_frames))]


def memory_policy(mode: str, truth: Tensor, iou_threshold: float) -> Remember:
    """What is memorised of a predicted frame while training (the config's `mode`).

    'mask': the truth; 'recurrent': the soft prediction, through which gradients flow; 'threshold': the prediction of
    those clips where its mean soft IoU over the objects of frame 0 reaches `iou_threshold`, else the truth.

    Args:
        truth: (B, T, K, H, W) one-hot.
    """

    def threshold(step: Step) -> Remembered:
        """Prediction or truth, clip by clip."""
        probs, chosen = step.masks, []
        for b, masks in enumerate(truth[:, step.t]):
            iou = 1 - soft_iou_loss(probs[b].detach(), masks, present_channels(truth[b, 0]))
            chosen.append(probs[b] if iou >= iou_threshold else masks)
        return Remembered(torch.stack(chosen))

    policies: dict[str, Remember] = {
        "mask": lambda step: Remembered(truth[:, step.t]),
        "recurrent": lambda step: Remembered(step.masks),
        "threshold": threshold,
    }
    return policies[mode]
