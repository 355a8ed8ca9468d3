"""The protocols of a test run: which masks are given to the network, and which objects are scored where.

    protocol       an object is given in the first mask that shows    it is scored in the frames with a mask
    DAVIS          any object; later objects are left out             from the next one to the last but one
    YouTube-VOS    this object                                        from the next one to the last one
    own set        this object                                        from the next one to the last one

`given_masks all` gives every mask as it stands instead, and nothing is scored.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from libs.core.errors import LISTED
from libs.core.masks import keep_objects, object_ids
from libs.core.structures import VideoIndex

DAVIS, YOUTUBE_VOS, OWN_SET = "DAVIS", "YouTube-VOS", "own set"


@dataclass(frozen=True)
class Roles:
    """What one mask serves for, see SourceFrame. `new`: the objects that are given for the first time."""

    given: np.ndarray | None = None
    truth: np.ndarray | None = None
    scored: tuple[int, ...] = ()
    new: tuple[int, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """How the masks of one video are used.

    start, ids: position of the first mask that shows an object, and the objects in it.
    give_all: give every mask as it stands, and score nothing.
    name_of: position of a frame -> its name, for messages.
    """

    index: VideoIndex
    start: int
    ids: tuple[int, ...]
    give_all: bool
    name_of: Callable[[int], str]

    @cached_property
    def scored_positions(self) -> tuple[int, ...]:
        """Frames in which the objects that were given before are scored, in ascending order."""
        if self.give_all:
            return ()
        later = tuple(t for t in sorted(self.index.masks) if t > self.start)
        ends_scored = self.index.protocol != DAVIS
        return later if ends_scored else tuple(t for t in later if t < len(self.index.frames) - 1)

    def describe(self, backward: bool) -> str:
        """Say in one line which masks are given, and which objects are scored from which frame on."""
        name, masks = self.index.protocol, len(self.index.masks)
        parts = [f"video '{self.index.name}': {name}{'' if name == OWN_SET else ' protocol'}"]
        if self.give_all:
            parts.append(f"all {masks} masks are given" if masks > 1 else "the only mask is given")
            parts.append("nothing is scored (given_masks all)")
        else:
            parts.append(f"{list_objects(self.ids)} given in frame {self.name_of(self.start)}")
            parts.append(self._describe_scored())
        if self.start:
            parts += self._describe_start(backward)
        return "; ".join(parts)

    def _describe_scored(self) -> str:
        """Say in which frames objects are scored."""
        positions = self.scored_positions
        if not positions:
            if self.start == max(self.index.masks):
                return "only the given mask exists; not scored"
            return "there is no mask between the first and the last frame; not scored"
        if self.index.protocol == DAVIS:
            frames = f"{len(positions)} frames, {self.name_of(positions[0])} to {self.name_of(positions[-1])}"
            return f"scored in {frames if len(positions) > 1 else f'frame {self.name_of(positions[0])}'}"
        later = f"{len(positions)} later masks are" if len(positions) > 1 else "later mask is"
        return f"the {later} ground truth, except where an object first appears: there it is given"

    def _describe_start(self, backward: bool) -> list[str]:
        """Say what becomes of the frames before the first object."""
        empty = sum(t < self.start for t in self.index.masks)
        cause = f" ({empty} earlier masks show no object)" if empty else ""
        frames = f"the {self.start} frames before it are" if self.start > 1 else "the frame before it is"
        become = "filled backward" if backward else "left as background (backward True fills them)"
        return [f"starts at frame {self.name_of(self.start)}{cause}", f"{frames} {become}"]

    def describe_new(self, position: int, roles: Roles) -> str:
        """Say in one line where objects appear that the first mask did not show."""
        appear = "appears" if len(roles.new) == 1 else "appear"
        where = f"{list_objects(roles.new)} {appear} in frame {self.name_of(position)}"
        line = f"video '{self.index.name}': {where}: given there"
        if self.give_all:
            return line
        if not any(t > position for t in self.scored_positions):
            line += ", and not scored, as no later mask exists"
        else:
            line += f", scored from {self.name_of(position + 1)} on"
        if not roles.scored:
            line += "; its mask shows no earlier object, and none is scored in it"
        return line


class MaskSplitter:
    """Splits the masks of one video, in the order of its frames, into given masks and ground truth."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.ids: tuple[int, ...] = ()  # objects given so far
        self._refused: dict[int, int] = {}  # object that is neither given nor scored -> its first position

    def split(self, position: int, labels: np.ndarray) -> Roles:
        """Decide what the next mask serves for.

        Args:
            labels: (Hs, Ws) uint8 with the ids of the data set; void is background.
        """
        protocol, earlier = self.protocol, self.ids
        shown = object_ids(labels)
        new = tuple(i for i in shown if i not in earlier)
        if protocol.give_all:
            self.ids += new
            return Roles(keep_objects(labels, shown) if shown else None, new=new)
        if protocol.index.protocol == DAVIS and earlier:
            for number in new:
                self._refused.setdefault(number, position)
            new = ()
        self.ids += new
        scored = earlier if position in protocol.scored_positions else ()
        if new and not set(shown) & set(earlier):
            scored = ()  # as in YouTube-VOS's valid: such a mask is no ground truth of the other objects
        given = keep_objects(labels, new) if new else None
        return Roles(given, keep_objects(labels, scored) if scored else None, scored, new)

    def warn_of_left_out(self) -> None:
        """Warn, after the last mask, of objects that were neither given nor scored."""
        index = self.protocol.index
        if self._refused:
            refused = [f"{i} (from frame {self.protocol.name_of(t)})" for i, t in self._refused.items()]
            warnings.warn(
                f"video '{index.name}': the DAVIS protocol neither gives nor scores objects that the first "
                f"mask does not show: {list_some(refused)}; valset FOLDER gives them where they first appear",
                stacklevel=2,
            )
        unlisted = sorted(set(self.ids) - set(index.objects)) if index.objects else []
        if unlisted:
            warnings.warn(
                f"video '{index.name}': its masks show {list_objects(unlisted)}, which meta.json does not "
                "list; given and scored all the same",
                stacklevel=2,
            )
        absent = sorted(set(index.objects) - set(self.ids))
        if absent:
            warnings.warn(
                f"video '{index.name}': no mask shows {list_objects(absent)} of meta.json, so neither given "
                "nor scored",
                stacklevel=2,
            )


def list_objects(ids: Sequence[int]) -> str:
    """Name objects for a message: 'object 3', or 'objects 1, 2'."""
    return f"object{'s' * (len(ids) > 1)} {list_some([str(number) for number in ids])}"


def list_some(names: Sequence[str]) -> str:
    """Join the first names with commas, and say how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
