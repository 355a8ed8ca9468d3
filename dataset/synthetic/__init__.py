"""Synthetic annotated clips: generated endlessly during training, or written to disk as DAVIS."""
