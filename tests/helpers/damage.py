"""Ways to damage a file that several tests share."""

from pathlib import Path


def cut(path: Path) -> None:
    """Keep the first 60 bytes only, as an interrupted download does."""
    path.write_bytes(path.read_bytes()[:60])
