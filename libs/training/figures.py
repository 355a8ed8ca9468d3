"""Figures of a training run: a contact sheet of one clip, and curves of losses and scores."""

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from libs.core.files import atomic_write
from libs.core.masks import denormalise
from libs.core.structures import Clip
from libs.evaluation.visualize import overlay
from libs.method.cycle import predict_reference
from libs.method.objective import Batch, training_frames
from libs.method.propagate import propagate
from models.stm import STM

PANELS = {  # title of a panel -> entries of the history that it shows
    "loss": ("loss", "forward", "cycle"),
    "cycle terms skipped": ("cycle_skipped",),
    "learning rate": ("learning rate",),
    "validation": ("J", "F", "J&F"),
}


@torch.no_grad()
def contact_sheet(model: STM, clip: Clip) -> np.ndarray:
    """One image of what the network makes of a clip. Leaves the model in evaluation mode.

    Rows: the frames; their ground truth; the predictions from frame 0 on; frame 0, predicted back from each
    later frame alone (the cycle).

    Returns: (4 H, T W, 3) uint8 RGB.
    """
    model.eval()
    batch = Batch.of([clip], next(model.parameters()).device)
    steps = list(propagate(model, training_frames(model, batch), save_freq=1))
    images = denormalise(batch.frames[0])
    truth = [overlay(image, labels.numpy()) for image, labels in zip(images, clip.labels)]
    # Nothing is predicted for frame 0 itself: both lower rows begin with its given mask.
    forward, back = [truth[0]], [truth[0]]
    for step in steps[1:]:
        assert step.logits is not None  # only frame 0 has none
        forward.append(overlay(images[step.t], _labels(step.logits)))
        back.append(overlay(images[0], _labels(predict_reference(step))))
    rows = [list(images), truth, forward, back]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])


def _labels(logits: Tensor) -> np.ndarray:
    """(1, K, H, W) to (H, W) uint8."""
    return logits[0].argmax(0).to(torch.uint8).cpu().numpy()


def save_curves(history: list[dict[str, float]], path: Path) -> None:
    """Plot losses, skipped cycle terms, learning rate and scores against the epochs, as a PNG file.

    Args:
        history: one dict per epoch, with 'epoch' and any of the entries that PANELS names.
    """
    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, PANELS.items()):
        for name in names:
            points = [(row["epoch"], row[name]) for row in history if name in row]
            if points:
                # Markers show single epochs, and become a thick line if there are many.
                marker = "." if len(points) < 50 else ""
                axes.plot(*zip(*points), marker=marker, label=name.replace("_", " "))
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
            axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100)
