"""The Space-Time Memory network (Oh et al., ICCV 2019): two verbs, memorize a frame and segment a frame.

One object's way through the network: `MemoryEncoder` and `KeyValue` turn a past frame with its mask into
memory, `QueryEncoder` and `KeyValue` turn the current frame into a query, `read` compares the two, `Decoder`
turns the readout into the object's probability, and `soft_aggregate` merges the probabilities of all objects.

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

# Most pixels (objects x H x W) in one pass at inference: 40 objects at 240x427, about 2 GB of feature maps.
MAX_PIXELS = 1 << 22
# Scales the initial weights of the mask convolutions in `init_memory_encoder_from_query`: masks must not
# drown out the image.
INIT_MASK_SCALE = 0.1


@dataclass(frozen=True)
class Objects:
    """Which objects the O rows of a tensor are: row i is channel `channel[i]` of clip `clip_index[i]`.

    All objects of all clips are processed side by side, whatever their number in each clip.
    """

    clip_index: Tensor  # (O,) int64, 0..B-1
    channel: Tensor  # (O,) int64, 1..K-1
    num_channels: int  # K

    @staticmethod
    def of(
        num_objects: Sequence[int], num_channels: int | None = None, device: torch.device | str = "cpu"
    ) -> "Objects":
        """List all objects of clips that hold num_objects[0], num_objects[1], ... objects."""
        clip_index = [clip for clip, count in enumerate(num_objects) for _ in range(count)]
        channel = [k for count in num_objects for k in range(1, count + 1)]
        k = num_channels or max(num_objects) + 1
        return Objects(torch.tensor(clip_index, device=device), torch.tensor(channel, device=device), k)

    def __len__(self) -> int:
        return len(self.clip_index)

    def __getitem__(self, some: slice | Tensor) -> "Objects":
        return Objects(self.clip_index[some], self.channel[some], self.num_channels)

    def to(self, device: torch.device) -> "Objects":
        """Copy to `device`."""
        return Objects(self.clip_index.to(device), self.channel.to(device), self.num_channels)

    def __add__(self, more: "Objects") -> "Objects":
        clip_index = torch.cat([self.clip_index, more.clip_index])
        channel = torch.cat([self.channel, more.channel])
        return Objects(clip_index, channel, max(self.num_channels, more.num_channels))


@dataclass(frozen=True)
class Memory:
    """Keys and values of one or more frames, for objects that are remembered from the same frames."""

    keys: Tensor  # (O, N, Ck)
    values: Tensor  # (O, N, Cv)
    objects: Objects


@dataclass(frozen=True)
class Query:
    """Features of B images that do not depend on an object, among them the decoder's maps of the images."""

    key: Tensor  # (B, Ck, h, w)
    image_maps: ImageMaps
    size: tuple[int, int]  # (H, W), before padding

    def __getitem__(self, images: slice) -> "Query":
        return Query(self.key[images], ImageMaps(*(maps[images] for maps in self.image_maps)), self.size)


class STM(nn.Module):
    """Space-Time Memory network (STM, Figure 2).

    Args:
        arch: resnet18, resnet34, resnet50 or resnet101.
        context: 'background' (STM-Cycle) or 'others' (official STM), see MemoryEncoder.
        pad_to: pad images and masks evenly to multiples of this; 16 for official STM, 1 for STM-Cycle.
        freeze_bn: keep batch norm on its running statistics while training, as in the paper.
        decoder_dim: channels of the decoder, 256 in the paper.
        norm: in the encoders, 'bn' (batch norm) as in the paper, or 'gn' (group norm).
        grad_checkpoint: while training, keep no activations inside encoders and decoder; compute them again
            in the backward pass.
    """

    def __init__(
        self,
        arch: str = "resnet50",
        keydim: int = 128,
        valdim: int = 512,
        *,
        context: str = "background",
        pad_to: int = 1,
        freeze_bn: bool = True,
        decoder_dim: int = 256,
        grad_checkpoint: bool = False,
        norm: str = "bn",
    ):
        super().__init__()
        width = channels(arch)
        self.pad_to, self.max_pixels = pad_to, MAX_PIXELS
        self.freeze_bn, self.grad_checkpoint = freeze_bn, grad_checkpoint
        # The names are those of the released weight files.
        self.Encoder_M = MemoryEncoder(arch, context, norm)
        self.Encoder_Q = QueryEncoder(arch, norm)
        self.KV_M_r4 = KeyValue(width.res4, keydim, valdim)
        self.KV_Q_r4 = KeyValue(width.res4, keydim, valdim)
        self.Decoder = Decoder(valdim, width.res3, width.res2, decoder_dim)
        self.train()  # a frozen batch norm is frozen from the start

    def memorize(self, frames: Tensor, masks: Tensor, objects: Objects) -> Memory:
        """Turn a frame of each clip, with its masks, into memory. Each object has its own keys and values.

        Args:
            frames: (B, 3, H, W) normalised.
            masks: (B, K, H, W) soft.
            objects: the O objects to remember.
        Returns: memory of N = h*w positions.
        """
        frames, masks = self._prepare(frames, is_image=True), self._prepare(masks)
        stem = self.Encoder_M.stem(frames)  # does not depend on the object: once for each image
        parts = []
        for some in self._object_chunks(len(objects), frames):
            maps = self._run(self.Encoder_M, stem, masks, objects.clip_index[some], objects.channel[some])
            parts.append([x.flatten(2).transpose(1, 2) for x in self.KV_M_r4(maps.res4)])  # (O, h*w, C)
        keys, values = (torch.cat(part) for part in zip(*parts))
        return Memory(keys, values, objects)

    def encode(self, frames: Tensor) -> Query:
        """Compute the features that `segment` needs of normalised images (B, 3, H, W)."""
        maps = self._run(self.Encoder_Q, self._prepare(frames, is_image=True))
        key, value = self.KV_Q_r4(maps.res4)
        size = (frames.shape[-2], frames.shape[-1])
        return Query(key, self.Decoder.image_maps(value, maps.res3, maps.res2), size)

    def segment(self, query: Query, memories: Sequence[Memory], top_k: int = 0) -> Tensor:
        """Find the remembered objects in the query images.

        Args:
            query: of B images.
            memories: one for each group of objects that are remembered from the same frames.
            top_k: memory positions that a query position reads, see `read`; 0: all.
        Returns: (B, K, H, W) logits. Their softmax over K gives probabilities.
        """
        probs = self.object_probs(query, memories, top_k)
        objects = _all_objects(memories)
        # Back from a row an object to a channel an object; channels without an object stay 0.
        masks = probs.new_zeros(len(query.key), objects.num_channels, *query.size)
        masks = masks.index_put((objects.clip_index, objects.channel), probs)
        return soft_aggregate(masks)

    def object_probs(self, query: Query, memories: Sequence[Memory], top_k: int = 0) -> Tensor:
        """Compute each object's probability as if it were alone: (O, H, W), in the order of the memories."""
        height, width = query.size
        top, bottom = padding(height, self.pad_to)
        left, right = padding(width, self.pad_to)
        padded = (top + height + bottom, left + width + right)
        parts = []
        for memory in memories:
            for some in self._object_chunks(len(memory.objects), query.image_maps.m2, stride=4):
                clip_index = memory.objects.clip_index[some]
                key = query.key.index_select(0, clip_index)  # (O, Ck, h, w)
                readout = read(memory.keys[some], memory.values[some], key, top_k)  # (O, Cv, h, w)
                logits = self._run(self.Decoder, readout, query.image_maps, clip_index, padded)
                logits = logits[..., top : top + height, left : left + width]  # (O, 2, H, W)
                parts.append(at_least_float32(logits).softmax(dim=1)[:, 1])  # channel 1: "this object"
        return torch.cat(parts)

    def _run(self, part: nn.Module, *inputs: Any) -> Any:
        """Call a part of the network, with gradient checkpointing if `grad_checkpoint` is set."""
        if self.grad_checkpoint and self.training:
            return checkpoint(part, *inputs, use_reentrant=False)
        return part(*inputs)

    def _object_chunks(self, num_objects: int, maps: Tensor, stride: int = 1) -> list[slice]:
        """Split the objects into chunks processed in one pass, sized to bound memory.

        Args:
            maps: (..., H/stride, W/stride), of the images.
        """
        pixels = maps.shape[-2] * maps.shape[-1] * stride**2
        # While training, autograd keeps the maps of all objects anyway, so chunks would save nothing.
        some = max(1, num_objects) if self.training else max(1, self.max_pixels // pixels)
        return [slice(first, first + some) for first in range(0, num_objects, some)]

    def init_memory_encoder_from_query(self) -> None:
        """Initialise the memory encoder and its heads as a copy of the query's, with small mask convolutions.

        A pixel's key is then close to its query from the first step on, so attention carries masks before any
        training. ImageNet weights do this for the encoders, but not for the heads. (In neither paper.)
        """
        self.Encoder_M.load_state_dict(self.Encoder_Q.state_dict(), strict=False)
        self.KV_M_r4.load_state_dict(self.KV_Q_r4.state_dict())
        with torch.no_grad():
            self.Encoder_M.conv1_m.weight.mul_(INIT_MASK_SCALE)
            self.Encoder_M.conv_context.weight.mul_(INIT_MASK_SCALE)

    def train(self, mode: bool = True) -> "STM":
        """Set training mode. With `freeze_bn`, batch norm stays in evaluation mode (frozen statistics)."""
        super().train(mode)
        if self.freeze_bn:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def _prepare(self, maps: Tensor, is_image: bool = False) -> Tensor:
        """Convert (B, C, H, W) to the network's dtype and pad it to multiples of `pad_to`.

        Masks are padded with 0. Official STM pads the raw image with 0 and normalises afterwards, so the
        border of a normalised image is -mean / std.
        """
        maps = maps.to(self.Encoder_Q.conv1.weight.dtype)
        top, bottom = padding(maps.shape[-2], self.pad_to)
        left, right = padding(maps.shape[-1], self.pad_to)
        if not any((top, bottom, left, right)):
            return maps
        border = -self.Encoder_Q.mean / self.Encoder_Q.std if is_image else 0
        return F.pad(maps - border, (left, right, top, bottom)) + border


def padding(side: int, multiple: int) -> tuple[int, int]:
    """Pixels that `pad_to` adds before and after a side of the input. An odd one goes after."""
    missing = -side % multiple
    return missing // 2, missing - missing // 2


def _all_objects(memories: Sequence[Memory]) -> Objects:
    """Objects of all memories, in order."""
    return sum((m.objects for m in memories[1:]), start=memories[0].objects)
