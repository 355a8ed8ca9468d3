"""The number of frames that an edit list shows, by headers that are written here box by box."""

import struct
from pathlib import Path

import pytest

from dataset.edit_list import MAX_FRAMES, shown_frames

MOVIE, MEDIA = 1000, 2500  # units per second: of the movie, and of the track
FRAME = 100  # units of the track, so 40 of the movie


def box(kind: bytes, *content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, content)), kind) + b"".join(content)


def table(kind: bytes, *entries: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), struct.pack(">I", len(entries)), *entries)


def header(kind: bytes, scale: int, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]), bytes(16 if version else 8), struct.pack(">2I", scale, 0))


def pair(count: int, value: int) -> bytes:
    return struct.pack(">Ii", count, value)


def edit(shown: int, first: int, version: int = 0) -> bytes:
    """Show `shown` frames from number `first` on; -1: a pause."""
    start = first * FRAME if first >= 0 else -1
    return struct.pack(">QqI" if version else ">IiI", shown * FRAME * MOVIE // MEDIA, start, 1 << 16)


def film(
    *edits: bytes,
    durations: tuple[bytes, ...] = (pair(10, FRAME),),
    delays: tuple[bytes, ...] = (),
    kind: bytes = b"vide",
    version: int = 0,
    movie: int = MOVIE,
) -> bytes:
    """The header of a film of one track."""
    frames = box(b"stbl", box(b"stsd", bytes(8)), table(b"stts", *durations), table(b"ctts", *delays))
    media = [header(b"mdhd", MEDIA, version), box(b"hdlr", bytes(8), kind, bytes(12)), box(b"minf", frames)]
    track = box(b"trak", box(b"edts", table(b"elst", *edits, version=version)), box(b"mdia", *media))
    return box(b"moov", header(b"mvhd", movie, version), track)


def shown(path: Path, content: bytes) -> int | None:
    path.write_bytes(content)
    return shown_frames(path)


FILMS = {
    "all": (film(edit(10, 0)), 10),
    "no edit": (film(), None),
    "the first ones": (film(edit(4, 0)), 4),
    "the last ones": (film(edit(10, 7)), 3),
    "between": (film(edit(4, 3)), 4),
    "two parts": (film(edit(2, 0), edit(3, 6)), 5),
    "one part twice": (film(edit(4, 0), edit(4, 0)), 8),
    "a pause, then all": (film(edit(5, -1), edit(10, 0)), 10),
    "64 bits": (film(edit(4, 3, 1), version=1), 4),
    "frames of two durations": (film(edit(8, 0), durations=(pair(4, FRAME), pair(6, 2 * FRAME))), 6),
    "decoded ahead": (film(edit(4, 2), delays=(pair(10, 2 * FRAME),)), 4),  # the first is shown at time 2
    "decoded ahead by one": (film(edit(4, 0), delays=(pair(10, 2 * FRAME),)), 2),
    "sound before": (box(b"moov", film(edit(1, 0), kind=b"soun")[8:] + film(edit(4, 0))[8:]), 4),
    "after the frames": (box(b"ftyp", bytes(8)) + box(b"mdat", bytes(99)) + film(edit(4, 0)), 4),
    "after frames of 64 bits": (struct.pack(">I4sQ", 1, b"mdat", 20) + bytes(4) + film(edit(4, 0)), 4),
    # wrong ones
    "sound alone": (film(edit(4, 0), kind=b"soun"), None),
    "no scale": (film(edit(4, 0), movie=0), None),
    "no frames": (film(edit(4, 0), durations=()), None),
    "very many frames": (film(edit(4, 0), durations=(pair(MAX_FRAMES, 1),) * 200), None),
    "a negative number of frames": (film(edit(4, 0), durations=(pair(10, FRAME), b"\xff" * 8)), 4),
    "empty": (b"", None),
    "text": (b"no film " * 9, None),
    "a box of size 0": (bytes(16), None),
    "a box beyond the end": (struct.pack(">I4s", 1 << 31, b"mdat"), None),
    "a box of 2^64": (struct.pack(">I4sQ", 1, b"mdat", (1 << 64) - 1), None),
    "boxes without end": (struct.pack(">I4s", 8, b"free") * 100_000 + film(edit(4, 0)), None),
}


@pytest.mark.parametrize("name", FILMS)
def test_shown_frames(tmp_path: Path, name: str) -> None:
    content, expected = FILMS[name]
    assert shown(tmp_path / "film.mp4", content) == expected


def test_a_header_cut_anywhere_is_no_error(tmp_path: Path) -> None:
    whole = film(edit(4, 3), delays=(pair(10, 0),))
    for length in range(len(whole)):
        assert shown(tmp_path / "film.mp4", whole[:length]) in (None, 0, 1, 2, 3, 4)


@pytest.mark.parametrize("kind", [b"mvhd", b"mdhd", b"elst", b"stts", b"hdlr"])
def test_a_box_that_is_not_there_is_no_error(tmp_path: Path, kind: bytes) -> None:
    assert shown(tmp_path / "film.mp4", film(edit(4, 3)).replace(kind, b"xxxx")) is None


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert shown_frames(tmp_path / "none.mp4") is None
