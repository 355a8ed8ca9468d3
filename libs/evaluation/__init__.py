"""Evaluation: one video to masks, many videos to scores, results on disk."""
