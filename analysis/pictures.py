"""Pictures of several images beside each other, with titles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from libs.core.files import atomic_write
from libs.evaluation.visualize import overlay

TILE = 240  # width of an image in a grid, in pixels
DPI = 100


@dataclass(frozen=True)
class Tile:
    """One cell of a grid: an image with a title above it, or, without an image, the title as text."""

    image: np.ndarray | None  # (h, w, 3) uint8 RGB
    title: str = ""


@dataclass(frozen=True)
class Bar:
    """A value with its interval, as fractions."""

    label: str
    mean: float
    interval: tuple[float, float] | None = None


def shrink(image: np.ndarray) -> np.ndarray:
    """Reduce an image (H, W, 3) uint8 to the width of a tile; smaller ones stay as they are."""
    height, width = image.shape[:2]
    if width <= TILE:
        return image
    return cv2.resize(image, (TILE, max(1, round(height * TILE / width))), interpolation=cv2.INTER_AREA)


def grey(image: np.ndarray) -> np.ndarray:
    """Take the colours out of an image (H, W, 3) uint8, so that those of a heat map stand out."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def outline(image: np.ndarray, mask: np.ndarray, number: int, alpha: float = 0.0) -> np.ndarray:
    """Draw the contour of one object in its palette colour.

    Args:
        image: (H, W, 3) uint8; mask: (H, W) bool; number: id of the object; alpha: opacity of a tint.
    """
    return overlay(image, np.where(mask, number, 0).astype(np.uint8), alpha)


def save_grid(path: Path, rows: Sequence[Sequence[Tile]], title: str) -> None:
    """Write a grid of tiles as PNG.

    Args:
        rows: all of one length.
    """
    height, width = next(tile.image for row in rows for tile in row if tile.image is not None).shape[:2]
    across, down = len(rows[0]), len(rows)
    size = across * (width + 8) / DPI, (down * (height + 26) + 30) / DPI
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=9)
    cells = figure.subplots(down, across, squeeze=False)
    for axes, tile in zip(cells.flat, (tile for row in rows for tile in row)):
        axes.set_axis_off()
        if tile.image is None:
            axes.text(0.5, 0.5, tile.title, ha="center", va="center", fontsize=9, wrap=True)
        else:
            axes.imshow(tile.image)
            axes.set_title(tile.title, fontsize=8, pad=3)
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=DPI)
    with atomic_write(path) as temporary:  # 256 colours: a third of the size
        Image.open(drawn).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=3).save(
            temporary, format="PNG", optimize=True
        )


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure as PNG, atomically."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def save_intervals(path: Path, panels: Mapping[str, Sequence[Bar]], unit: str) -> None:
    """Write values with their intervals as PNG, in percent: a panel for each title, all on one axis.

    Args:
        panels: title -> at least one value; unit: what is measured.
    """
    rows = [len(bars) for bars in panels.values()]
    figure = Figure(figsize=(8, 0.8 + 0.24 * sum(rows) + 0.5 * len(rows)), layout="constrained")
    cells = figure.subplots(len(rows), 1, sharex=True, squeeze=False, height_ratios=[n + 0.5 for n in rows])
    for axes, (title, bars) in zip(cells.flat, panels.items()):
        middle = 100 * np.array([bar.mean for bar in bars])
        ends = 100 * np.array([bar.interval or (bar.mean, bar.mean) for bar in bars]).T  # (2, n)
        axes.hlines(range(len(bars)), *ends, color="tab:blue", linewidth=2)
        axes.plot(middle, range(len(bars)), "o", color="tab:blue")
        axes.set_yticks(range(len(bars)), [bar.label for bar in bars], fontsize=8)
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.set_title(title, fontsize=9)
        axes.grid(axis="x", alpha=0.4)
    cells[-1, 0].set_xlabel(f"{unit}, and 95 % interval")
    save_figure(path, figure)
