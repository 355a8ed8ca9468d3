"""Shared basics: data structures, files, images, logs."""
