"""What training minimizes (STM-Cycle, Figure 2): forward along the clip, then back to frame 0."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from libs.core.masks import one_hot
from libs.core.structures import Clip
from libs.method.attention import attention_loss
from libs.method.cycle import cycle_loss
from libs.method.damage import damage_some
from libs.method.losses import mask_loss, present_channels, soft_iou_loss
from libs.method.propagate import FrameInput, Remember, Remembered, Step, propagate
from models.stm import STM, Objects

MODES = ("mask", "recurrent", "threshold")


@dataclass(frozen=True)
class Batch:
    """Clips of one shape side by side, on the model's device."""

    names: list[str]
    frames: Tensor  # (B, T, 3, H, W)
    masks: Tensor  # (B, T, K, H, W) one-hot ground truth
    num_objects: list[int]

    @staticmethod
    def of(clips: list[Clip], device: torch.device) -> "Batch":
        """Stack clips of equal T, H, W. K is that of the clip with the most objects."""
        num_objects = [clip.num_objects for clip in clips]
        labels = torch.stack([clip.labels for clip in clips]).to(device)
        frames = torch.stack([clip.frames for clip in clips]).to(device)
        masks = one_hot(labels, max(num_objects) + 1)
        return Batch([clip.name for clip in clips], frames, masks, num_objects)


@dataclass(frozen=True)
class Losses:
    """Terms summed over clips and frames, and `total`, which is differentiated."""

    forward: Tensor  # frame t predicted from all earlier frames
    cycle: Tensor  # frame 0 predicted back from frame t alone
    total: Tensor
    cycle_used: int  # cycle terms that count
    cycle_skipped: int  # cycle terms that do not: frame t lacks the clip's last object
    attention: Tensor  # masks carried by the attention weights alone; 0 if this term is off


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
        """Average over the clips; of the cycle terms, also the fraction that was skipped."""
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
    *,
    kind: str = "both",
    iou_threshold: float = 0.65,
    cycle: bool = True,
    attention: float = 0.0,
    mask_damage: float = 0.0,
) -> Losses:
    """Compute the loss of a batch of clips (STM-Cycle, section 3.2).

    Args:
        mode: what is memorized of a predicted frame, see `memory_policy`.
        kind: 'ce', 'iou' or 'both', see `mask_loss`.
        iou_threshold: of mode 'threshold'.
        cycle: False leaves the cycle loss out.
        attention: weight of the attention loss, which neither paper has.
        mask_damage: probability that an object's mask is damaged before it is memorized; 0 in the papers.
    Returns: total = (forward + cycle + attention * attention loss) / (B (T - 1)), with its terms.
    """
    num_clips, num_frames = batch.frames.shape[:2]
    # Forward along the clip. With save_freq 1 every frame stays: frame t is predicted from frames 0..t-1.
    remember = memory_policy(mode, batch.masks, iou_threshold)
    if mask_damage:
        remember = damage_some(remember, mask_damage, batch.masks)
    frames = training_frames(model, batch, cycle)
    steps = list(propagate(model, frames, save_freq=1, remember=remember, differentiable=True))
    forward = forward_loss(steps, batch.masks, kind)
    # And back: frame 0 from each later frame alone. A mask that drifted on the way cannot explain frame 0.
    back = cycle_loss(steps if cycle else steps[:1], batch.masks, batch.num_objects, kind)
    carried = forward.new_zeros(())
    if attention and num_frames > 1:
        queries = [frame.query for frame in frames[1:] if frame.query is not None]
        carried = attention_loss(steps[0].memory, queries, batch.masks)
    total = forward + back.value + attention * carried
    # The mean over predicted frames: long clips weigh no more than short ones.
    total = total / (num_clips * max(num_frames - 1, 1))
    return Losses(forward, back.value, total, back.used, back.skipped, carried)


def forward_loss(steps: list[Step], truth: Tensor, kind: str) -> Tensor:
    """Sum the loss of each predicted frame, over frames 1..T-1 and clips.

    Args:
        steps: all T steps of propagation, frame 0 first.
        truth: (B, T, K, H, W) one-hot.
        kind: 'ce', 'iou' or 'both'.
    """
    loss = truth.new_zeros(())
    for b in range(len(truth)):
        # All knowledge of the objects comes from frame 0: one that it does not show cannot be predicted.
        counted = present_channels(truth[b, 0])
        for step in steps[1:]:
            assert step.logits is not None  # only frame 0 is not predicted
            loss = loss + mask_loss(step.logits[b], truth[b, step.t], counted, kind)
    return loss


def training_frames(model: STM, batch: Batch, cycle: bool = True) -> list[FrameInput]:
    """Prepare the loop's input: all frames, encoded in one pass, and the true masks of frame 0.

    Args:
        cycle: there is a cycle loss; without one, frame 0's features need no gradients.
    """
    # Batch norm with statistics of its own must see all frames at once.
    is_joint = any(isinstance(part, nn.BatchNorm2d) and part.training for part in model.modules())
    num_clips, num_frames = batch.frames.shape[:2]
    images = batch.frames.transpose(0, 1)  # (T, B, 3, H, W)
    apart = 0 if cycle or is_joint or num_frames == 1 else 1  # frames that are encoded without gradients
    query = model.encode(images[apart:].flatten(0, 1))  # images of one time lie next to each other
    queries = [query[i : i + num_clips] for i in range(0, len(query.key), num_clips)]
    if apart:
        with torch.no_grad():
            queries.insert(0, model.encode(images[0]))
    objects = Objects.of(batch.num_objects, batch.masks.shape[2], batch.frames.device)
    first = FrameInput(images[0], batch.masks[:, 0], objects, queries[0])
    return [first, *(FrameInput(images[t], query=queries[t]) for t in range(1, num_frames))]


def memory_policy(mode: str, truth: Tensor, iou_threshold: float) -> Remember:
    """Choose what is memorized of a predicted frame while training (the config's `mode`, original code).

    - 'mask': the ground truth.
    - 'recurrent': the soft prediction, as in testing. Gradients flow through it, so the network learns from
      errors that add up over time.
    - 'threshold': for each clip, the prediction if its mean soft IoU over the objects of frame 0 reaches
      `iou_threshold`, else the ground truth. A poor prediction early in training would teach nothing.

    Args:
        truth: (B, T, K, H, W) one-hot.
    """

    def threshold(step: Step) -> Remembered:
        """Choose the prediction or the ground truth, clip by clip."""
        chosen = []
        for probs, masks, first in zip(step.masks, truth[:, step.t], truth[:, 0]):
            iou = 1 - soft_iou_loss(probs.detach(), masks, present_channels(first))
            chosen.append(probs if iou >= iou_threshold else masks)
        return Remembered(torch.stack(chosen))

    policies: dict[str, Remember] = {
        "mask": lambda step: Remembered(truth[:, step.t]),
        "recurrent": lambda step: Remembered(step.masks),
        "threshold": threshold,
    }
    return policies[mode]
