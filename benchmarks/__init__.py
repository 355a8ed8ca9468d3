"""Benchmarks: speed and memory against a naive implementation, and scores against simple baselines."""
