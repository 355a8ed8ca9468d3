"""Commands that show what a trained network does: where it looks, and what matters to it."""
