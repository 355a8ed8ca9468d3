"""What was found in the splits of a data set, and the report about it that dataset/check.py prints."""

import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dataset.build import ReadMasks
from dataset.known import Found, Known
from libs.core.errors import LISTED, counted, named
from libs.core.tables import markdown_table

PACKAGES = ("numpy", "pillow", "opencv-python", "torch")
COLUMNS = ("split", "release", "videos", "frames", "masks", "objects", "frames read", "masks read", "result")


@dataclass
class SplitReport:
    """What was found in one split.

    said: what a session says of it, warnings and errors, in its words.
    wrong_frames, wrong_masks: of those that were read.
    differences: what is missing and what is too many, in a few words; errors: why the split cannot be used.
    """

    split: str
    found: Found = field(default_factory=lambda: Found(()))
    known: Known | None = None
    objects: int = 0
    frames_read: int = 0
    masks: ReadMasks = field(default_factory=lambda: ReadMasks(0))
    wrong_frames: list[str] = field(default_factory=list)
    wrong_masks: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def is_right(self) -> bool:
        """Whether nothing is missing, too many or wrong."""
        return not (self.errors or self.differences or self.wrong_frames or self.wrong_masks)


def describe(root: Path, name: str, reports: Sequence[SplitReport]) -> str:
    """The report in Markdown."""
    rows = [COLUMNS, *(_row(report) for report in reports)]
    lines = [f"{name} below {root}", "", markdown_table(rows), ""]
    if any("~" in cell for row in rows for cell in row):
        lines.append("~: this number is likely, not certain; its source is weak")
    for report in reports:
        script = "train.py" if report.split == "train" else "test.py"
        lines += _list(f"{report.split}: errors", report.errors)
        lines += _list(f"{report.split}: wrong frames", report.wrong_frames)
        lines += _list(f"{report.split}: wrong masks", report.wrong_masks)
        lines += _list(f"{report.split}: unusual masks", report.masks.notes)
        lines += _list(f"{report.split}: {script} says", report.said)
    return "\n".join([*lines, _versions()])


def _row(report: SplitReport) -> tuple[str, ...]:
    """The cells of one split."""
    found, known = report.found, report.known
    if not found.videos:
        return (report.split, *("" for _ in COLUMNS[2:]), "not there, or not readable")
    numbers = {"videos": len(found.videos), "frames": found.frames, "objects": report.objects}
    cells = {kind: _of(number, kind, known) for kind, number in numbers.items()}
    if found.files:
        cells["frames"] = f"in {counted(found.files, 'video file')}, not counted"
    frames, masks = len(report.wrong_frames), len(report.wrong_masks)
    unusual = f", {len(report.masks.notes)} unusual" if report.masks.notes else ""
    read = [_wrong(report.frames_read, frames), _wrong(report.masks.count, masks) + unusual]
    wrong = [f"{counted(frames + masks, 'file')} wrong"] if frames + masks else []
    wrong += ["errors, see below"] if report.errors else []
    result = "; ".join([*report.differences, *wrong]) or (
        "complete" if known else "no numbers are known to compare with"
    )
    counts = [cells["videos"], cells["frames"], str(found.masks), cells["objects"]]
    return (report.split, known.release if known else "-", *counts, *read, result)


def _of(number: int, kind: str, known: Known | None) -> str:
    """'60 of 60', or '60' if it is not known how many there should be."""
    expected = getattr(known, kind) if known else 0
    likely = "~" if known and kind in known.likely else ""
    return f"{number} of {likely}{expected}" if expected else str(number or "-")


def _wrong(count: int, wrong: int) -> str:
    return f"{count}, {wrong} wrong" if wrong else f"{count}, all right"


def _list(title: str, lines: Sequence[str]) -> list[str]:
    """A list under a title, cut after the first entries; nothing if there are none."""
    if not lines:
        return []
    more = [f"- ... and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [
        "",
        f"{title} ({len(lines)}):",
        *(f"- {' '.join(line.split())}" for line in lines[:LISTED]),
        *more,
    ]


def _versions() -> str:
    """The versions that matter to a bug report."""
    found = [f"Python {platform.python_version()}", platform.platform()]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return f"\n{named(found)}"
