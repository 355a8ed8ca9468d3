"""Winograd convolution F(4x4, 3x3): 3x3 convolutions with a quarter of the multiplications, on CPUs.

A tile of 4x4 outputs depends on 6x6 inputs. A fixed matrix turns these into values at 36 points, at which the
convolution is one matrix product over the channels; another one turns the products into the tile. That takes
36 multiplications for each pair of channels, where the sum over the kernel takes 144 (Lavin and Gray, Fast
Algorithms for Convolutional Neural Networks, CVPR 2016).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.stm import STM

TILE, PATCH = 4, 6  # side of a tile of the output, and of the inputs that it depends on
# With fewer channels, turning tiles into points and back takes as long as the multiplications that it saves.
MIN_CHANNELS = 128
MIN_TILES = 16  # with fewer, the weights, four times as many, take longer to read
MAX_TILES = 1024  # in one pass, to bound memory: 38 MB of points for 256 channels
# In one dimension, with the points 0, 1, -1, 2, -2 and infinity: output = OUTPUT ((KERNEL w) * (INPUT x)).
INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def use_winograd(model: STM) -> STM:
    """Replace the 3x3 convolutions that are faster so by `WinogradConv`, in place. The weights must be final.

    Each takes five times the memory of its weights. A network with a narrow decoder stays as it is, because a
    whole frame would gain nothing.
    """
    if model.Decoder.convFM.out_channels < MIN_CHANNELS:
        return model
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            # The decoder takes convFM's weights apart and never calls it.
            if child is not model.Decoder.convFM and isinstance(child, nn.Conv2d) and _is_suited(child):
                setattr(module, name, WinogradConv(child))
    return model


def _is_suited(conv: nn.Conv2d) -> bool:
    plain = conv.kernel_size == (3, 3) and conv.stride == conv.padding == conv.dilation == (1, 1)
    wide = min(conv.in_channels, conv.out_channels) >= MIN_CHANNELS
    return plain and wide and conv.groups == 1 and conv.padding_mode == "zeros"


def _in_two_dimensions(matrix: Sequence[Sequence[float]], like: Tensor) -> Tensor:
    """Transform rows and columns of a plane in one product: (m, n) to (m*m, n*n), in double precision."""
    one = torch.tensor(matrix, dtype=torch.float64, device=like.device)
    return torch.kron(one, one)


class WinogradConv(nn.Conv2d):
    """The same function as a 3x3 convolution of stride 1 and padding 1, up to rounding.

    Small maps, and maps that need a gradient, are convolved directly.

    Args:
        conv: the convolution, whose weights it uses.
    """

    weight_at_points: Tensor
    to_points: Tensor
    to_tiles: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = conv.weight, conv.bias
        weight = conv.weight.detach()
        to_points, kernel, to_tiles = (
            _in_two_dimensions(matrix, weight) for matrix in (INPUT, KERNEL, OUTPUT)
        )
        at_points = kernel @ weight.double().permute(2, 3, 1, 0).reshape(9, -1)  # (36, Ci*Co)
        at_points = at_points.to(weight.dtype).view(PATCH**2, conv.in_channels, conv.out_channels)
        self.register_buffer("weight_at_points", at_points)
        self.register_buffer("to_points", to_points.to(weight.dtype))  # (36, 36)
        self.register_buffer("to_tiles", to_tiles.to(weight.dtype))  # (16, 36)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Ci, h, w) to (B, Co, h, w), channels last."""
        height, width = x.shape[-2:]
        rows, columns = -(-height // TILE), -(-width // TILE)
        if x.requires_grad or rows * columns < MIN_TILES:
            return super().forward(x)
        out = x.new_empty(len(x), height, width, self.out_channels)
        border = (0, 0, 1, TILE * columns + 1 - width, 1, TILE * rows + 1 - height)
        step = max(1, MAX_TILES // columns)
        for image, own in zip(F.pad(x.permute(0, 2, 3, 1), border), out):  # one by one, for caches
            patches = image.unfold(0, PATCH, TILE).unfold(1, PATCH, TILE)  # (rows, columns, Ci, 6, 6)
            for some, part in zip(patches.split(step), own.split(TILE * step)):
                self._convolve(some, part)
        return out.permute(0, 3, 1, 2)

    def _convolve(self, patches: Tensor, out: Tensor) -> None:
        """Fill r rows of tiles of the output of one image.

        Args:
            patches: (r, c, Ci, 6, 6), the inputs of each tile.
            out: (h, w, Co). What the last tiles have beyond h and w is left out.
        """
        rows, columns, width = patches.shape[:3]
        patches = patches.permute(3, 4, 0, 1, 2).reshape(PATCH**2, -1)  # (36, r*c*Ci)
        points = (self.to_points @ patches).view(PATCH**2, rows * columns, width)
        products = torch.bmm(points, self.weight_at_points)  # (36, r*c, Co)
        tiles = (self.to_tiles @ products.flatten(1)).view(TILE, TILE, rows, columns, self.out_channels)
        bias = tiles.new_zeros(()) if self.bias is None else self.bias
        for i in range(TILE):
            for j in range(TILE):
                part = out[i::TILE, j::TILE]  # pixel (i, j) of each tile
                torch.add(tiles[i, j, : part.shape[0], : part.shape[1]], bias, out=part)
