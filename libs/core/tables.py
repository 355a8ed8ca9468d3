"""Tables for people to read."""

from collections.abc import Sequence


def markdown_table(rows: Sequence[Sequence[object]]) -> str:
    """Format rows of cells as a Markdown table; the first row is its header."""
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
