"""Count the frames of an MP4 or MOV that its edit list shows.

A video that was trimmed without encoding it again keeps all of its frames. The edit list in the header says
which of them are shown, and OpenCV, as players do, leaves out the others. The count in the header is that of
all frames.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

MAX_HEADER = 1 << 26  # bytes of the box 'moov'; a video of ten hours has a few million
MAX_FRAMES = 10_000_000
MAX_BOXES = 10_000  # side by side


def shown_frames(path: Path) -> int | None:
    """Count the frames of the first video track that its edit list shows.

    Returns: None if the file has no edit list, or is damaged, or no MP4 or MOV.
    """
    try:
        with path.open("rb") as file:
            header = _read_header(file)
        for track in _children(header, b"trak"):
            media = _child(track, b"mdia")
            if media and bytes(_child(media, b"hdlr")[8:12]) == b"vide":
                return _count(header, track, media)
    except (OSError, struct.error, ValueError, OverflowError):  # the file is damaged
        pass
    return None


def _count(header: memoryview, track: memoryview, media: memoryview) -> int | None:
    """Count the frames whose time of display lies within an edit."""
    edits = list(_edits(_child(_child(track, b"edts"), b"elst")))
    movie_scale, media_scale = _timescale(_child(header, b"mvhd")), _timescale(_child(media, b"mdhd"))
    times = _display_times(_child(_child(media, b"minf"), b"stbl"))
    if not edits or not movie_scale or not media_scale or not len(times):
        return None
    shown = 0
    for duration, start in edits:
        if start >= 0:  # -1 is a pause before the video
            end = start + duration * media_scale // movie_scale
            shown += int(np.searchsorted(times, end) - np.searchsorted(times, start))
    return shown


def _display_times(table: memoryview) -> np.ndarray:
    """When each frame is shown, in units of the track's timescale, rising, (N,) int64."""
    durations = _expand(_child(table, b"stts"))
    times = np.cumsum(durations) - durations
    delays = _expand(_child(table, b"ctts"))[: len(times)]  # of frames that are decoded ahead
    times[: len(delays)] += delays
    return np.sort(times)


def _expand(table: memoryview) -> np.ndarray:
    """A table of (count, value) as one value for each frame, (N,) int64; empty if it has too many."""
    entries = np.frombuffer(table[8 : len(table) - len(table) % 8], ">i4").reshape(-1, 2).astype(np.int64)
    counts = entries[:, 0].clip(0)
    return np.repeat(entries[:, 1], counts) if counts.sum() <= MAX_FRAMES else np.empty(0, np.int64)


def _edits(table: memoryview) -> Iterator[tuple[int, int]]:
    """Yield the duration (in units of the movie's timescale) and the start (of the track's) of each edit."""
    if table:
        form = struct.Struct(">Qqi" if table[0] else ">Iii")  # version 1 has 64 bits
        whole = table[8 : len(table) - (len(table) - 8) % form.size]
        for duration, start, _rate in form.iter_unpack(whole):
            yield duration, start


def _timescale(box: memoryview) -> int:
    """Units per second of 'mvhd' or 'mdhd'; 0 if there is no such box."""
    if not box:
        return 0
    return struct.unpack_from(">I", box, 20 if box[0] else 12)[0]


def _child(box: memoryview, kind: bytes) -> memoryview:
    """The content of the first box of a kind inside another; empty if there is none."""
    return next(_children(box, kind), memoryview(b""))


def _children(box: memoryview, kind: bytes) -> Iterator[memoryview]:
    """Yield the content of each box of a kind that lies directly inside another."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(box):
            return
        size, name = struct.unpack_from(">I4s", box, at)
        if size < 8:  # no box inside a header needs 64 bits, or reaches to the end of the file
            return
        if name == kind:
            yield box[at + 8 : at + size]
        at += size


def _read_header(file: BinaryIO) -> memoryview:
    """Read the content of the box 'moov'; empty if there is none, or it is too large."""
    for _ in range(MAX_BOXES):
        start = file.tell()
        size, name = struct.unpack(">I4s", file.read(8))
        if size == 1:  # 64 bits follow
            size = struct.unpack(">Q", file.read(8))[0]
        if name == b"moov":
            return memoryview(file.read(min(size, MAX_HEADER)))
        if size < 8:
            break
        file.seek(start + size)
    return memoryview(b"")
