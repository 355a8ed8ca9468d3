"""Annotated clips that the project draws itself: endless for training, or on disk as a DAVIS tree."""
