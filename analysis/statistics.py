"""Intervals and tests for means over objects that lie in videos."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

SAMPLES = 10_000  # of a bootstrap
LEVEL = 0.95  # of an interval


def bootstrap_interval(groups: Sequence[np.ndarray], samples: int = SAMPLES) -> tuple[float, float]:
    """Compute the 95 % interval of the mean over all values by the bootstrap over groups.

    Values of one video resemble each other, so whole videos are drawn, with replacement (percentile
    bootstrap). The same groups give the same interval.

    Args:
        groups: the values (n,) of each video; at least one value in all.
    """
    filled = [values for values in groups if len(values)]
    sums = np.array([values.sum() for values in filled])
    counts = np.array([len(values) for values in filled])
    drawn = np.random.default_rng(0).integers(len(filled), size=(samples, len(filled)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Compute Spearman's rank correlation; None for fewer than three pairs, or if one side is constant."""
    if len(one) < 3 or len(set(one)) == 1 or len(set(other)) == 1:
        return None
    return float(spearmanr(one, other).statistic)
