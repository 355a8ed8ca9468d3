"""What a training run draws."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from libs.core.masks import normalise
from libs.core.structures import Clip
from libs.training.figures import contact_sheet, save_curves
from models.stm import STM
from tests.helpers import fake_datasets as trees


def test_the_contact_sheet_shows_frames_truth_prediction_and_return() -> None:
    torch.manual_seed(0)
    images, labels = map(np.stack, zip(*(trees.scene([1, 2], t, (48, 64)) for t in range(3))))
    model = STM("resnet18", 8, 8, decoder_dim=8)
    sheet = contact_sheet(model, Clip("drawn", normalise(images), torch.from_numpy(labels), 2))
    assert sheet.shape == (4 * 48, 3 * 64, 3) and sheet.dtype == np.uint8 and not model.training
    rows = [[sheet[48 * r : 48 * r + 48, 64 * c : 64 * c + 64] for c in range(3)] for r in range(4)]
    assert all(np.array_equal(rows[0][t], images[t]) for t in range(3))
    for t in range(3):  # untouched where nothing is marked, tinted where something is
        away, inside = labels[t] == 0, labels[t] == 1
        assert np.array_equal(rows[1][t][away], images[t][away]) and not np.array_equal(
            rows[1][t][inside], images[t][inside]
        )
    assert np.array_equal(rows[2][0], rows[1][0]) and np.array_equal(rows[3][0], rows[1][0])
    assert not np.array_equal(rows[3][1], rows[2][1])  # frame 0 again, not frame 1


def test_curves_are_drawn_of_whatever_is_known(tmp_path: Path) -> None:
    history = [
        {
            "epoch": e,
            "loss": 1 / e,
            "forward": 0.5 / e,
            "cycle": 0.5 / e,
            "cycle_skipped": 0.1,
            "learning rate": 1e-4,
        }
        for e in range(1, 6)
    ]
    save_curves(history, tmp_path / "plain.png")
    save_curves(
        [{**row, "J": 0.1 * row["epoch"], "F": 0.2, "J&F": 0.3} for row in history], tmp_path / "scored.png"
    )
    plain, scored = (
        np.array(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int)
        for name in ("plain", "scored")
    )
    panel = np.array(plain.shape[:2]) // 2 + 40  # lower right: the scores
    ink = [
        (np.ptp(picture[panel[0] : -60, panel[1] : -20], axis=-1) > 60).sum() for picture in (plain, scored)
    ]
    assert ink[0] == 0 and ink[1] > 500  # coloured lines
