"""What the scripts share: method, training, evaluation, app, core. `Segmenter` is the Python interface."""

from typing import Any

__all__ = ["Segmenter"]


def __getattr__(name: str) -> Any:
    """Import the interface only when it is asked for, so that `libs.core` stays light."""
    if name in __all__:
        from libs.app.segmenter import Segmenter

        return Segmenter
    raise AttributeError(f"module 'libs' has no attribute '{name}'")
