"""Frames and masks of a video to segment, read on demand, one at a time."""

import hashlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from dataset.annotations import Annotations
from dataset.protocol import MEASURES, MaskSplitter, Protocol, Roles
from dataset.video_file import SUFFIXES, decode_video
from libs.core.errors import UnreadableError, counted
from libs.core.image_io import read_image, write_image
from libs.core.masks import keep_objects, object_ids
from libs.core.shards import File, size_and_time
from libs.core.structures import Scoring, SourceFrame, Video, VideoIndex

END = 4096  # bytes at the end of a frame's file that are compared with an earlier run


def open_video(
    index: VideoIndex, given_masks: str = "first", announce: Callable[[str], None] = lambda line: None
) -> Video:
    """Open a video to segment; reads its masks up to the first one that shows an object.

    Args:
        given_masks: 'first' gives the first mask of each object, 'all' every mask; see dataset/protocol.py.
        announce: called with a line where an object appears that the first mask did not show.
    Raises: UnreadableError if one of these masks cannot be read, or if none shows an object.
    """
    annotations, start, ids = find_start(index)
    protocol = Protocol(annotations.index, start, ids, given_masks == "all", partial(_frame_name, index))
    recording = _Recording(annotations, protocol, announce)
    return Video(
        index.name,
        length=0 if is_video_file(index) else len(index.frames),
        read=recording.read,
        scored=bool(protocol.scored_positions),
        read_backward=recording.read_backward,
        describe=protocol.describe,
        fingerprint=partial(_fingerprint, index),
        scoring=Scoring(MEASURES.get(index.protocol, Scoring.measures), index.unseen),
    )


def find_start(index: VideoIndex) -> tuple[Annotations, int, tuple[int, ...]]:
    """Open the masks of a video, and find the first one that shows an object, and its objects.

    Warns if these objects cover all of its border.

    Raises: UnreadableError if none does.
    """
    annotations = Annotations(index)
    for position in sorted(index.masks):
        labels = annotations.read(position)
        ids = object_ids(labels)
        if ids:
            annotations.warn_of_surroundings(position, labels)
            return annotations, position, tuple(ids)
    first = index.masks[min(index.masks)]
    raise UnreadableError(f"{first}: expected a mask with at least one object, found background only")


def _fingerprint(index: VideoIndex) -> str:
    """Hash what results depend on: the masks, and name, size, time of change and last bytes of the frames.

    Frames may be too large to be read twice. In a compressed file, the last bytes change with nearly
    everything before them.
    """
    digest = hashlib.sha256(repr((index.protocol, index.binary)).encode())
    if index.scored is not None or index.unseen is not None:
        digest.update(repr((index.scored, index.unseen)).encode())
    for path in index.frames:
        size, time = size_and_time(path)
        digest.update(repr((path.name, size, time, _end_of(path, size))).encode())
    for position, path in index.mask_files():
        digest.update(repr((position, hashlib.sha256(path.read_bytes()).digest())).encode())
    return digest.hexdigest()


def _end_of(path: File, size: int) -> bytes:
    """The last bytes of a file; none if it cannot be read, which is an error when it is decoded."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(0, size - END))
        return file.read(END)
    return b""


def is_video_file(index: VideoIndex) -> bool:
    """Whether the frames lie in one video file."""
    return index.frames[0].suffix.lower() in SUFFIXES


class _Recording:
    """The frames and masks of a video on disk. Each mask is read when its frame comes."""

    def __init__(self, annotations: Annotations, protocol: Protocol, announce: Callable[[str], None]) -> None:
        self.index = annotations.index
        self.annotations, self.protocol, self.announce = annotations, protocol, announce

    def read(self) -> Iterator[SourceFrame]:
        """Yield the frames in order, each with what its mask serves for.

        Raises: UnreadableError naming the frame or mask.
        """
        index, splitter = self.index, MaskSplitter(self.protocol)
        position = -1
        for position, (name, image) in enumerate(_decode_frames(index)):
            roles = Roles()
            if position in index.masks:
                roles = splitter.split(position, self.annotations.read(position, image.shape[:2]))
            if roles.new and position > self.protocol.start:
                self.announce(self.protocol.describe_new(position, roles))
            submitted = index.submitted is None or position in index.submitted
            file = "" if is_video_file(index) else index.frames[position].name
            yield SourceFrame(name, image, roles.given, roles.truth, roles.scored, submitted, file)
        self._check_end(position)
        splitter.warn_of_left_out()

    def read_backward(self, scratch: Path) -> Iterator[SourceFrame]:
        """Yield the frames from the last one in which an object first appears to the first one.

        The given masks are those of `read`. Of a video file, these frames are kept as PNG in `scratch`.

        Raises: UnreadableError naming the frame or mask.
        """
        splitter, last, given = MaskSplitter(self.protocol), 0, {}
        for position in sorted(self.index.masks):
            roles = splitter.split(position, self.annotations.read(position))
            last = position if roles.new else last
            if roles.given is not None:
                given[position] = object_ids(roles.given)
        for position, path in reversed(list(enumerate(self._frame_files(last, scratch)))):
            image = read_image(path)
            labels = None
            if position in given:
                labels = self.annotations.read(position, image.shape[:2])
                labels = keep_objects(labels, given[position])
            yield SourceFrame(_frame_name(self.index, position), image, labels)

    def _frame_files(self, last: int, scratch: Path) -> list[File]:
        """Image files of the frames up to position `last`; none if that is the first frame."""
        if last == 0:
            return []
        if not is_video_file(self.index):
            return list(self.index.frames[: last + 1])
        files: list[File] = []
        for name, image in islice(_decode_frames(self.index), last + 1):
            path = scratch / f"{name}.png"
            write_image(path, image)
            files.append(path)
        return files

    def _check_end(self, last: int) -> None:
        """Warn of masks that are for frames after the last one.

        Raises: UnreadableError if there is no mask for an earlier one, so that nothing was segmented.
        """
        late = sorted(t for t in self.index.masks if t > last)
        if not late:
            return
        path, mask = self.index.frames[0], self.index.masks[late[0]]
        if self.protocol.start > last:
            raise UnreadableError(
                f"{path} ends at frame {last}: its first mask with an object, {mask}, is for a later one; "
                "name a mask after its frame, 00000 for the first"
            )
        warnings.warn(
            f"{path} ends at frame {last}: {counted(len(late), 'mask')} for later ones, first {mask}",
            stacklevel=2,
        )


def _frame_name(index: VideoIndex, position: int) -> str:
    """Name of a frame: of its file, without suffix; in a video file, its number."""
    return f"{position:05d}" if is_video_file(index) else index.frames[position].stem


def _decode_frames(index: VideoIndex) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the name and the image (Hs, Ws, 3) uint8 RGB of each frame."""
    if is_video_file(index):
        path = index.frames[0]
        assert isinstance(path, Path)  # not in a shard
        yield from decode_video(path)
    else:
        for path in index.frames:
            yield path.stem, read_image(path)
