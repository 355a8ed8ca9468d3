"""Speed and memory, printed as ratios."""
