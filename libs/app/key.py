"""A key of the configuration, the checks that it may use, and lists of keys for --help and Markdown."""

import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

MOST = 4e9  # The largest number that any key accepts. It fits every seed and index below.
KINDS = {
    str: "a text",
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    list: "a list",
    tuple: "a list",
}


class Check(NamedTuple):
    """A condition on the value of a key, and the same condition in words."""

    accepts: Callable[[Any], object]
    expected: str


class Key(NamedTuple):
    """A key of the configuration. The type of its default is the type of its values.

    `demo` is the default of demo/demo.py; None means that it has the same default as the other scripts.
    """

    default: Any
    meaning: str
    check: Check | None = None
    demo: Any = None

    def default_of(self, demo: bool) -> Any:
        """The default of the demo, or of the other scripts."""
        return self.demo if demo and self.demo is not None else self.default

    @property
    def expected(self) -> str:
        """What the key accepts, in words."""
        return self.check.expected if self.check else KINDS[type(self.default)]


Sections = Mapping[str, Mapping[str, Key]]  # heading -> name of a key -> key


def one_of(*names: str) -> Check:
    """One of these names."""
    return Check(names.__contains__, "one of " + ", ".join(names))


def number(low: float, high: float = math.inf) -> Check:
    """A number from `low` to `high`."""
    return Check(lambda value: low <= value <= high, f"a number {_range(low, high)}")


def numbers(low: float, high: float = math.inf) -> Check:
    """At least one number, each from `low` to `high`."""
    return Check(
        lambda values: values and all(low <= v <= high for v in values), f"numbers {_range(low, high)}"
    )


def below_one() -> Check:
    """A number from 0 on that is smaller than 1."""
    return Check(lambda value: 0 <= value < 1, "a number from 0 to below 1")


def whole_number(low: int) -> Check:
    """A whole number from `low` on."""
    return Check(lambda value: value >= low, f"a whole number {_range(low, math.inf)}")


def whole_numbers(low: int) -> Check:
    """A list of whole numbers from `low` on; it may be empty."""
    return Check(lambda values: all(v >= low for v in values), f"whole numbers {_range(low, math.inf)}")


def image_size() -> Check:
    """Height and width in pixels."""
    return Check(
        lambda size: len(size) == 2 and all(16 <= side <= 10000 for side in size),
        "(height, width), each from 16 to 10000",
    )


def _range(low: float, high: float) -> str:
    return f"of at least {low:g}" if high == math.inf else f"from {low:g} to {high:g}"


def help_text(sections: Sections, demo: bool = False) -> str:
    """All keys for --help: name, default, meaning and what it accepts."""
    lines = []
    for heading, keys in sections.items():
        lines.append(f"\n{heading.lower()}:")
        for name, key in keys.items():
            text = f"{key.meaning} Expects {key.expected}."
            lines += [f"  {name} = {key.default_of(demo)!r}", *_wrapped(text)]
    return "\n".join(lines)


def _wrapped(text: str) -> list[str]:
    indent = 6 * " "
    return textwrap.wrap(text, 100, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def markdown_tables(sections: Sections) -> str:
    """All keys in Markdown: for each section a heading and a table."""
    parts = []
    for heading, keys in sections.items():
        rows = [_row(name, key) for name, key in keys.items()]
        title = ["| key | default | accepts | meaning |", "| --- | --- | --- | --- |"]
        parts.append("\n".join([f"## {heading}", *title, *rows]))
    return "\n\n".join(parts)


def _row(name: str, key: Key) -> str:
    default = f"`{key.default!r}`"
    if key.demo is not None:
        default += f", demo `{key.demo!r}`"
    meaning = key.meaning.replace("<", "&lt;")  # else a browser takes <root> for a tag
    return "| " + " | ".join([f"`{name}`", default, key.expected, meaning]) + " |"
