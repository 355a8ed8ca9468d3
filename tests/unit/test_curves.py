"""The plot of J and of the round trip IoU over time."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from libs.evaluation.curves import save_curves
from libs.evaluation.evaluator import DriftRow, Report
from libs.evaluation.scores import VideoScores

FRAMES = [f"{t:05d}" for t in range(6)]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[int], list[float]]]:
    """The curves that are drawn, in order."""
    curves = []
    plot = Axes.plot

    def record(axes: Axes, times: list[int], values: list[float], **style: object) -> object:
        curves.append((list(times), list(values)))
        return plot(axes, times, values, **style)

    monkeypatch.setattr(Axes, "plot", record)
    return curves


def test_values_stand_at_the_positions_of_their_frames(
    tmp_path: Path, drawn: list[tuple[list[int], list[float]]]
) -> None:
    """Object 7 appears in frame 3, so that it has fewer values."""
    jaccard = np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.5])
    frames = tuple(FRAMES[1:5]), (FRAMES[4],)
    scores = VideoScores("v", (1, 7), jaccard, jaccard, frames)
    drift = [DriftRow("v", FRAMES[2], 1, 0.4, 0.8), DriftRow("v", FRAMES[5], 1, 0.3, None)]
    save_curves(tmp_path / "curves.png", Report(scores=[scores], drift=drift), FRAMES)
    assert drawn == [([1, 2, 3, 4], [0.9, 0.8, 0.7, 0.6]), ([4], [0.5]), ([2, 5], [0.4, 0.3])]
    assert Image.open(tmp_path / "curves.png").size == (800, 520)


def test_without_ground_truth_there_is_one_panel(tmp_path: Path) -> None:
    save_curves(tmp_path / "curves.png", Report(drift=[DriftRow("v", FRAMES[5], 1, 0.3, None)]), FRAMES)
    assert Image.open(tmp_path / "curves.png").size == (800, 260)


def test_with_nothing_to_plot_there_is_no_file(tmp_path: Path) -> None:
    save_curves(tmp_path / "curves.png", Report(), FRAMES)
    assert not list(tmp_path.iterdir())
