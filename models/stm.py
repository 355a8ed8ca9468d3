"""The Space-Time Memory network (Oh et al., ICCV 2019): two verbs, memorize a frame and segment a frame.

Letters: B clips, O objects of all clips in a row, K channels with background first, N memory positions,
H, W pixels, h = ceil(H/16), w = ceil(W/16), Ck = keydim, Cv = valdim.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from models.decoder import Decoder, ImageMaps
from models.encoders import KeyValue, MemoryEncoder, QueryEncoder, channels
from models.memory_read import at_least_float32, read, soft_aggregate

MAX_PIXELS = (
    1 << 22
)  # of objects side by side at inference: about 2 GB of feature maps; 40 objects at 240x427
TWIN_MASK_SCALE = 0.1  # of the mask convolutions' usual start, so that masks do not drown the picture


@dataclass(frozen=True)
class Objects:
    """Whose objects these are: object i is channel `channel[i]` of the masks of clip `clip_index[i]`."""

    clip_index: Tensor  # (O,) int64, 0..B-1
    channel: Tensor  # (O,) int64, 1..K-1
    num_channels: int  # K

    @staticmethod
    def of(
        num_objects: Sequence[int], num_channels: int | None = None, device: torch.device | str = "cpu"
    ) -> "Objects":
        """All objects of clips that hold num_objects[0], num_objects[1], ... objects."""
        clip_index = [clip for clip, count in enumerate(num_objects) for _ in range(count)]
        channel = [k for count in num_objects for k in range(1, count + 1)]
        k = num_channels or max(num_objects) + 1
        return Objects(torch.tensor(clip_index, device=device), torch.tensor(channel, device=device), k)

    def __len__(self) -> int:
        return len(self.clip_index)

    def __getitem__(self, some: slice) -> "Objects":
        return Objects(self.clip_index[some], self.channel[some], self.num_channels)

    def to(self, device: torch.device) -> "Objects":
        """The same on `device`."""
        return Objects(self.clip_index.to(device), self.channel.to(device), self.num_channels)

    def __add__(self, more: "Objects") -> "Objects":
        clip_index, channel = (
            torch.cat([self.clip_index, more.clip_index]),
            torch.cat([self.channel, more.channel]),
        )
        return Objects(clip_index, channel, max(self.num_channels, more.num_channels))


@dataclass(frozen=True)
class Memory:
    """What is remembered of one frame, or of several, for objects that share a history."""

    keys: Tensor  # (O, N, Ck)
    values: Tensor  # (O, N, Cv)
    objects: Objects


@dataclass(frozen=True)
class Query:
    """Everything of B pictures that does not depend on an object, the decoder's part included."""

    key: Tensor  # (B, Ck, h, w)
    picture: ImageMaps
    size: tuple[int, int]  # (H, W), before padding

    def __getitem__(self, pictures: slice) -> "Query":
        return Query(self.key[pictures], ImageMaps(*(maps[pictures] for maps in self.picture)), self.size)


class STM(nn.Module):
    """Space-Time Memory network.

    Args:
        arch: resnet18, resnet34, resnet50 or resnet101.
        context: 'background' (STM-Cycle) or 'others' (official STM), see MemoryEncoder.
        pad_to: pad pictures and masks evenly to multiples of this; 16 for official STM, 1 for STM-Cycle.
        freeze_bn: keep batch norm on its running statistics while training, as in the paper.
        decoder_dim: channels of the decoder, 256 in the paper.
        norm: 'bn' as in the paper, or 'gn', group norm, in the encoders.
        grad_checkpoint: while training, keep no activations inside encoders and decoder; make them again on the way back.
    """

    def __init__(
        self,
        arch: str = "resnet50",
        keydim: int = 128,
        valdim: int = 512,
        context: str = "background",
        pad_to: int = 1,
        freeze_bn: bool = True,
        decoder_dim: int = 256,
        grad_checkpoint: bool = False,
        norm: str = "bn",
    ):
        super().__init__()
        width = channels(arch)
        self.pad_to, self.freeze_bn, self.grad_checkpoint, self.max_pixels = (
            pad_to,
            freeze_bn,
            grad_checkpoint,
            MAX_PIXELS,
        )
        # The names are those of the released weight files.
        self.Encoder_M = MemoryEncoder(arch, context, norm)
        self.Encoder_Q = QueryEncoder(arch, norm)
        self.KV_M_r4 = KeyValue(width.res4, keydim, valdim)
        self.KV_Q_r4 = KeyValue(width.res4, keydim, valdim)
        self.Decoder = Decoder(valdim, width.res3, width.res2, decoder_dim)
        self.train()  # a frozen batch norm is frozen from the start

    def memorize(self, frames: Tensor, masks: Tensor, objects: Objects) -> Memory:
        """Remember each object of each clip as it looks in this frame.

        Args:
            frames: (B, 3, H, W) normalised; masks: (B, K, H, W) soft; objects: O of them.
        Returns: memory of N = h*w positions.
        """
        frames, masks = self._prepare(frames, picture=True), self._prepare(masks)
        stem = self.Encoder_M.stem(frames)
        parts = []
        for some in self._object_chunks(len(objects), frames):
            maps = self._run(self.Encoder_M, stem, masks, objects.clip_index[some], objects.channel[some])
            parts.append([maps.flatten(2).transpose(1, 2) for maps in self.KV_M_r4(maps.res4)])  # (O, h*w, C)
        keys, values = (torch.cat(part) for part in zip(*parts))
        return Memory(keys, values, objects)

    def encode(self, frames: Tensor) -> Query:
        """What `segment` needs to know of the pictures (B, 3, H, W), normalised."""
        maps = self._run(self.Encoder_Q, self._prepare(frames, picture=True))
        key, value = self.KV_Q_r4(maps.res4)
        return Query(key, self.Decoder.picture(value, maps.res3, maps.res2), frames.shape[-2:])

    def segment(self, query: Query, memories: Sequence[Memory]) -> Tensor:
        """Find the remembered objects in the query pictures.

        Args:
            query: B pictures; memories: one for each group of objects with its own history.
        Returns: (B, K, H, W) logits; softmax over K gives probabilities.
        """
        probs = self.object_probs(query, memories)
        objects = _all_objects(memories)
        masks = probs.new_zeros(len(query.key), objects.num_channels, *query.size)
        masks = masks.index_put((objects.clip_index, objects.channel), probs)
        return soft_aggregate(masks)

    def object_probs(self, query: Query, memories: Sequence[Memory]) -> Tensor:
        """Each object's own probability, as if it were alone: (O, H, W), in the order of the memories."""
        (top, bottom), (left, right) = (_padding(side, self.pad_to) for side in query.size)
        height, width = query.size
        parts = []
        for memory in memories:
            for some in self._object_chunks(len(memory.objects), query.picture.m2, stride=4):
                clip_index = memory.objects.clip_index[some]
                found = read(memory.keys[some], memory.values[some], query.key.index_select(0, clip_index))
                logits = self._run(
                    self.Decoder,
                    found,
                    query.picture,
                    clip_index,
                    (top + height + bottom, left + width + right),
                )
                inside = logits[..., top : top + height, left : left + width]
                parts.append(at_least_float32(inside).softmax(dim=1)[:, 1])
        return torch.cat(parts)

    def _run(self, part: nn.Module, *inputs: Any) -> Any:
        """Call a part of the network as `grad_checkpoint` says."""
        if self.grad_checkpoint and self.training:
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _object_chunks(self, num_objects: int, maps: Tensor, stride: int = 1) -> list[slice]:
        """Slices of the objects that run side by side: all of them, or where they would take too much memory, some."""
        pixels = maps.shape[-2] * maps.shape[-1] * stride**2
        # While training, autograd keeps the maps of all objects anyway, so chunks would save nothing.
        some = max(1, num_objects) if self.training else max(1, self.max_pixels // pixels)
        return [slice(first, first + some) for first in range(0, num_objects, some)]

    def init_memory_encoder_from_query(self) -> None:
        """Copy the query encoder and its heads to the memory's, whose mask convolutions start small.

        A pixel's key is then close to its query from the first step on, so attention carries masks before any
        training; ImageNet weights do the same for the encoders, not for the heads.
        """
        self.Encoder_M.load_state_dict(self.Encoder_Q.state_dict(), strict=False)
        self.KV_M_r4.load_state_dict(self.KV_Q_r4.state_dict())
        with torch.no_grad():
            self.Encoder_M.conv1_m.weight.mul_(TWIN_MASK_SCALE)
            self.Encoder_M.conv_context.weight.mul_(TWIN_MASK_SCALE)

    def train(self, mode: bool = True) -> "STM":
        """Training mode, in which batch norm stays as it is where `freeze_bn` says so."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _prepare(self, maps: Tensor, picture: bool = False) -> Tensor:
        """Bring (B, C, H, W) to the network's number format and pad it.

        Padding is 0, for a picture what 0 becomes by normalisation (official STM pads before it).
        """
        maps = maps.to(self.Encoder_Q.conv1.weight.dtype)
        top, bottom = _padding(maps.shape[-2], self.pad_to)
        left, right = _padding(maps.shape[-1], self.pad_to)
        if not any((top, bottom, left, right)):
            return maps
        border = -self.Encoder_Q.mean / self.Encoder_Q.std if picture else 0
        return F.pad(maps - border, (left, right, top, bottom)) + border


def _padding(side: int, multiple: int) -> tuple[int, int]:
    """Pixels to add before and after `side`; the odd one goes after."""
    missing = -side % multiple
    return missing // 2, missing - missing // 2


def _all_objects(memories: Sequence[Memory]) -> Objects:
    return sum((m.objects for m in memories[1:]), start=memories[0].objects)
