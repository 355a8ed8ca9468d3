"""Intervals and tests for means over objects that lie in videos."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

SAMPLES = 10_000  # of a bootstrap
LEVEL = 0.95  # of an interval

Interval = tuple[float, float] | None  # low and high; None if there is only one video


def bootstrap_interval(groups: Sequence[np.ndarray], samples: int = SAMPLES) -> Interval:
    """Compute the 95 % interval of the mean over all values by the bootstrap over groups.

    Values of one video resemble each other, so whole videos are drawn, with replacement (percentile
    bootstrap). The same groups give the same interval. Of one video there is none: None.

    Args:
        groups: the values (n,) of each video; at least one value in all.
    """
    filled = [values for values in groups if len(values)]
    if len(filled) < 2:
        return None
    sums = np.array([values.sum() for values in filled])
    counts = np.array([len(values) for values in filled])
    drawn = np.random.default_rng(0).integers(len(filled), size=(samples, len(filled)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def format_interval(interval: Interval, sign: str = "+") -> str:
    """Format an interval of fractions in percent: '-7.6 to +5.4'."""
    if interval is None:
        return "no interval: one video"
    low, high = (100 * end for end in interval)
    return f"{low:{sign}.1f} to {high:{sign}.1f}"


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation; None for fewer than three pairs, or if one side is constant."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return float(spearmanr(one, other).statistic)
