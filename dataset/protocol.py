"""The protocols of a test run: which masks are given to the network, and which objects are scored where.

    protocol       an object is given in the first mask that shows    it is scored in the frames with a mask
    DAVIS          any object; later objects are left out             from the next one to the last but one
    VOST           any object; later objects are left out             likewise, counting annotated frames only
    YouTube-VOS    this object                                        from the next one to the last one
    LVOS           this object                                        that the meta file names for this object
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

DAVIS, VOST, YOUTUBE_VOS, LVOS, OWN_SET = "DAVIS", "VOST", "YouTube-VOS", "LVOS", "own set"
FIRST_MASK_ONLY = (DAVIS, VOST)  # protocols that leave out objects that the first mask does not show
MEASURES = {VOST: ("J", "J_tr"), LVOS: ("J", "F", "V")}  # what the others report is J and F


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
        index = self.index
        later = tuple(t for t in sorted(index.masks) if t > self.start)
        if index.scored is not None:
            listed = {t for positions in index.scored.values() for t in positions}
            return tuple(t for t in later if t in listed)
        ends = {DAVIS: len(index.frames) - 1, VOST: max(index.masks)}
        return tuple(t for t in later if t != ends.get(index.protocol))

    def scored_at(self, position: int, ids: tuple[int, ...]) -> tuple[int, ...]:
        """Which of the objects `ids`, which were given before, are scored in a frame."""
        if position not in self.scored_positions:
            return ()
        scored = self.index.scored
        return ids if scored is None else tuple(i for i in ids if position in scored.get(i, ()))

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
            if self.index.scored is not None:
                return "masks exist only where objects appear; not scored"
            return "there is no mask between the first and the last frame; not scored"
        if self.index.protocol in FIRST_MASK_ONLY or self.index.scored is not None:
            frames = f"{len(positions)} frames, {self.name_of(positions[0])} to {self.name_of(positions[-1])}"
            where = frames if len(positions) > 1 else f"frame {self.name_of(positions[0])}"
            each = ", each object in those that the meta file names for it"
            return f"scored in {where}{each if self.index.scored is not None else ''}"
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
        later = [t for t in self.scored_positions if t > position and self.scored_at(t, roles.new)]
        if not later:
            line += ", and not scored, as no later mask exists"
        else:
            first = position + 1 if self.index.scored is None else later[0]
            line += f", scored from {self.name_of(first)} on"
        if not roles.scored and self.index.scored is None:
            line += "; its mask shows no earlier object, and none is scored in it"
        return line


class MaskSplitter:
    """Splits the masks of one video, in the order of its frames, into given masks and ground truth."""

    def __init__(self, protocol: Protocol) -> None:
        self.protocol = protocol
        self.ids: tuple[int, ...] = ()  # objects given so far
        self._refused: dict[int, int] = {}  # object that is neither given nor scored -> its first position
        self._too_early: dict[int, int] = {}  # object -> frames to score in which it was not given yet

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
        if protocol.index.protocol in FIRST_MASK_ONLY and earlier:
            for number in new:
                self._refused.setdefault(number, position)
            new = ()
        self.ids += new
        scored = protocol.scored_at(position, earlier)
        if protocol.index.scored is not None:
            for number in set(protocol.index.scored) - set(earlier):
                early = position in protocol.index.scored[number]
                self._too_early[number] = self._too_early.get(number, 0) + early
        elif new and not set(shown) & set(earlier):
            scored = ()  # as in YouTube-VOS's valid: such a mask is no ground truth of the other objects
        given = keep_objects(labels, new) if new else None
        return Roles(given, keep_objects(labels, scored) if scored else None, scored, new)

    def warn_of_left_out(self) -> None:
        """Warn, after the last mask, of objects that were neither given nor scored."""
        index = self.protocol.index
        if self._refused:
            refused = [f"{i} (from frame {self.protocol.name_of(t)})" for i, t in self._refused.items()]
            warnings.warn(
                f"video '{index.name}': the {index.protocol} protocol neither gives nor scores objects that "
                f"the first mask does not show: {list_some(refused)}; valset FOLDER gives them where they "
                "first appear",
                stacklevel=2,
            )
        if index.objects:
            self._warn_of_list()

    def _warn_of_list(self) -> None:
        """Warn of objects that the masks show otherwise than the data set's list says."""
        index = self.protocol.index
        unlisted = sorted(set(self.ids) - set(index.objects))
        if unlisted:
            warnings.warn(
                f"video '{index.name}': its masks show {list_objects(unlisted)}, which meta.json does not "
                f"list; given{' and scored all the same' if index.scored is None else ', but not scored'}",
                stacklevel=3,
            )
        absent = sorted(set(index.objects) - set(self.ids))
        if absent:
            warnings.warn(
                f"video '{index.name}': no mask shows {list_objects(absent)} of meta.json, so neither given "
                "nor scored",
                stacklevel=3,
            )
        early = {number: count for number, count in self._too_early.items() if count and number in self.ids}
        if early:
            warnings.warn(
                f"video '{index.name}': {list_objects(sorted(early))} first shown in a later mask than "
                f"meta.json says; {sum(early.values())} frames before it are not scored",
                stacklevel=3,
            )


def list_objects(ids: Sequence[int]) -> str:
    """Name objects for a message: 'object 3', or 'objects 1, 2'."""
    return f"object{'s' * (len(ids) > 1)} {list_some([str(number) for number in ids])}"


def list_some(names: Sequence[str]) -> str:
    """Join the first names with commas, and say how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
