"""Benchmarks: speed and memory against a naive implementation, and scores against simple baselines."""

import libs.core.threads  # noqa: F401  before torch, as in the scripts
