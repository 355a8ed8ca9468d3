"""Figures of a training run."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from libs.core.masks import normalise
from libs.core.structures import Clip
from libs.training.figures import contact_sheet, save_curves
from models.stm import STM
from tests.helpers import fake_datasets as trees


def test_the_contact_sheet_shows_frames_truth_predictions_and_frame_0_again() -> None:
    torch.manual_seed(0)
    images, labels = map(np.stack, zip(*(trees.scene([1, 2], t, (48, 64)) for t in range(3))))
    model = STM("resnet18", 8, 8, decoder_dim=8)
    sheet = contact_sheet(model, Clip("synthetic", normalise(images), torch.from_numpy(labels), 2))
    assert sheet.shape == (4 * 48, 3 * 64, 3) and sheet.dtype == np.uint8 and not model.training
    rows = [[sheet[48 * r : 48 * r + 48, 64 * c : 64 * c + 64] for c in range(3)] for r in range(4)]
    assert all(np.array_equal(rows[0][t], images[t]) for t in range(3))
    for t in range(3):  # unchanged on the background, tinted on objects
        background, inside = labels[t] == 0, labels[t] == 1
        assert np.array_equal(rows[1][t][background], images[t][background])
        assert not np.array_equal(rows[1][t][inside], images[t][inside])
    assert np.array_equal(rows[2][0], rows[1][0]) and np.array_equal(rows[3][0], rows[1][0])
    assert not np.array_equal(rows[3][1], rows[2][1])  # frame 0 again, not frame 1


def test_curves_show_whatever_is_known(tmp_path: Path) -> None:
    losses = {"cycle_skipped": 0.1, "learning rate": 1e-4}
    history = [
        {"epoch": e, "loss": 1 / e, "forward": 0.5 / e, "cycle": 0.5 / e, **losses} for e in range(1, 6)
    ]
    scores = [{**row, "J": 0.1 * row["epoch"], "F": 0.2, "J&F": 0.3} for row in history]
    coloured = []
    for name, rows in {"plain": history, "scored": scores}.items():
        save_curves(rows, tmp_path / f"{name}.png")
        image = np.array(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        top, left = np.array(image.shape[:2]) // 2 + 40  # the lower right panel: the scores
        coloured.append((np.ptp(image[top:-60, left:-20], axis=-1) > 60).sum())
    assert coloured[0] == 0 and coloured[1] > 500  # pixels of coloured lines
