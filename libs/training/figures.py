"""Training to look at: a contact sheet of one clip, and the run's curves."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from libs.core.files import atomic_write
from libs.core.masks import IMAGENET_MEAN, IMAGENET_STD
from libs.core.structures import Clip
from libs.evaluation.visualize import overlay
from libs.method.cycle import predict_reference
from libs.method.objective import Batch, training_frames
from libs.method.propagate import propagate
from models.stm import STM

PANELS = {
    "loss": ("loss", "forward", "cycle"),
    "cycle terms skipped": ("cycle_skipped",),
    "learning rate": ("learning rate",),
    "validation": ("J", "F", "J&F"),
}


@torch.no_grad()
def contact_sheet(model: STM, clip: Clip) -> np.ndarray:
    """Rows: the frames; their true masks; predictions from frame 0 on; frame 0, predicted back from each later frame alone.

    Args:
        model: in the mode that it is left in, evaluation mode.
    Returns: (4 H, T W, 3) uint8 RGB.
    """
    model.eval()
    batch = Batch.of([clip], next(model.parameters()).device)
    steps = list(propagate(model, training_frames(model, batch), save_freq=1))
    pictures = _pictures(batch.frames[0])
    truth = [overlay(picture, labels.numpy()) for picture, labels in zip(pictures, clip.labels)]
    forward, back = [truth[0]], [truth[0]]
    for step in steps[1:]:
        forward.append(overlay(pictures[step.t], _labels(step.logits)))
        back.append(overlay(pictures[0], _labels(predict_reference(step))))
    return np.concatenate([np.concatenate(row, axis=1) for row in (list(pictures), truth, forward, back)])


def _pictures(frames: Tensor) -> np.ndarray:
    """(T, 3, H, W) normalised to (T, H, W, 3) uint8 RGB."""
    pixels = frames.cpu().movedim(1, -1) * torch.tensor(IMAGENET_STD) + torch.tensor(IMAGENET_MEAN)
    return (255 * pixels).round().clip(0, 255).to(torch.uint8).numpy()


def _labels(logits: Tensor) -> np.ndarray:
    """(1, K, H, W) to (H, W) uint8."""
    return logits[0].argmax(0).to(torch.uint8).cpu().numpy()


def save_curves(history: list[dict[str, float]], path: Path) -> None:
    """Draw losses, skipped cycle terms, learning rate and scores over the epochs as PNG.

    Args:
        history: a dict an epoch, with 'epoch' and what is known of PANELS.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, PANELS.items()):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            if points:
                axes.plot(*zip(*points), marker="." if len(points) < 50 else "", label=name.replace("_", " "))
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
            axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
