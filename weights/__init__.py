"""The weights that ship, and how they are packed."""
