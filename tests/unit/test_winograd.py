"""Winograd convolutions against torch's: values, odd sizes, and where they are not used."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from libs.app.build import for_inference
from models import winograd
from models.stm import STM, Objects
from models.winograd import MIN_CHANNELS, WinogradConv, use_winograd

HERE = torch.device("cpu")


def pair(
    size: tuple[int, ...], width: int = 5, bias: bool = True, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, nn.Conv2d, WinogradConv]:
    """Maps of this size (B, C, h, w), a convolution of them, and the Winograd convolution of its weights."""
    torch.manual_seed(0)
    conv = nn.Conv2d(size[1], width, 3, padding=1, bias=bias).to(dtype).requires_grad_(False)
    maps = torch.randn(size, dtype=dtype).to(memory_format=torch.channels_last)
    return maps, conv, WinogradConv(conv)


# heights and widths with each remainder by 4, one tile, and fewer pixels than a tile
SIZES = [(16, 16), (17, 22), (15, 27), (30, 53), (4, 100), (2, 70), (1, 64)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_values_are_those_of_a_convolution(size: tuple[int, int], bias: bool) -> None:
    """Exactly the same function: double precision leaves no room for a wrong factor at the border."""
    maps, conv, fast = pair((2, 6, *size), bias=bias, dtype=torch.float64)
    expected = F.conv2d(maps, conv.weight, conv.bias, padding=1)
    assert (fast(maps) - expected).abs().max() < 1e-12 * expected.abs().max()


@pytest.mark.parametrize("channels", [(128, 128), (256, 512), (1024, 128)])
def test_rounding_is_small_in_float32(channels: tuple[int, int]) -> None:
    maps, conv, fast = pair((1, channels[0], 15, 27), channels[1])
    expected = F.conv2d(maps, conv.weight, conv.bias, padding=1)
    found = fast(maps)
    assert found.shape == expected.shape and found.is_contiguous(memory_format=torch.channels_last)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()
    assert not torch.equal(found, expected)  # it was not convolved directly


def test_large_maps_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of tiles in several passes, the last one not full, and more columns than a pass may have."""
    maps, _, fast = pair((2, 6, 37, 41), dtype=torch.float64)
    whole = fast(maps)
    for most in (33, 5):
        monkeypatch.setattr(winograd, "MAX_TILES", most)
        assert (fast(maps) - whole).abs().max() < 1e-12


def test_an_object_does_not_depend_on_those_beside_it() -> None:
    maps, _, fast = pair((3, 128, 15, 27), 128)
    assert torch.equal(fast(maps)[1:2], fast(maps[1:2]))


def test_small_maps_and_gradients_take_the_convolution_itself() -> None:
    small, conv, fast = pair((1, 6, 15, 15), dtype=torch.float64)  # 16 tiles, and one row less: 12
    assert not torch.equal(fast(small), conv(small)) and torch.equal(
        fast(small[:, :, :12]), conv(small[:, :, :12])
    )
    leaf = small.clone().requires_grad_()
    assert torch.equal(fast(leaf), conv(leaf))
    assert torch.equal(*(torch.autograd.grad(layer(leaf).sum(), leaf)[0] for layer in (fast, conv)))


def converted(model: STM) -> set[str]:
    """Names of the convolutions that were replaced."""
    return {name for name, module in model.named_modules() if isinstance(module, WinogradConv)}


def test_wide_3x3_convolutions_of_stride_1_are_replaced() -> None:
    model = for_inference(STM("resnet18", 128, 128, decoder_dim=128))
    names = converted(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and name != "Decoder.convFM":
            wide = min(module.in_channels, module.out_channels) >= MIN_CHANNELS
            assert (name in names) == (wide and module.kernel_size == (3, 3) and module.stride == (1, 1)), (
                name
            )
    assert {"Encoder_Q.res4.1.conv2", "KV_M_r4.Value", "Decoder.RF2.ResMM.conv1"} <= names
    assert "Decoder.convFM" not in names  # the decoder uses its weights


@pytest.mark.parametrize(
    "prepare",
    [
        lambda model: for_inference(model, "bf16"),
        lambda model: for_inference(model, winograd=False),
        lambda model: for_inference(model.to("meta")),  # not a CPU
    ],
    ids=["half precision", "turned off", "another device"],
)
def test_where_they_are_not_used(prepare: Callable[[STM], STM]) -> None:
    assert not converted(prepare(STM("resnet18", 128, 128, decoder_dim=128)))


def test_not_in_a_compiled_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("libs.app.build.compile_network", lambda model: model)
    assert not converted(for_inference(STM("resnet18", 128, 128, decoder_dim=128), compiled=True))


@torch.no_grad()
def test_the_network_gives_the_same() -> None:
    """All maps have at least 16 tiles, so that every replaced convolution is one of Winograd."""
    torch.manual_seed(0)
    weights = STM("resnet18", 128, 128, decoder_dim=128).state_dict()
    frames, masks, objects = (
        torch.randn(2, 3, 240, 256),
        torch.rand(1, 3, 240, 256).softmax(1),
        Objects.of([2]),
    )
    found = []
    for fast in (False, True):
        model = STM("resnet18", 128, 128, decoder_dim=128)
        model.load_state_dict(weights)
        model = for_inference(model, winograd=fast)
        memory, query = model.memorize(frames[:1], masks, objects), model.encode(frames[1:])
        found.append(
            [memory.keys, memory.values, query.key, *query.image_maps, model.segment(query, [memory])]
        )
    for one, other in zip(*found, strict=True):
        assert 0 < (one - other).abs().max() < 1e-4 * one.abs().max()


def test_a_network_with_a_narrow_decoder_stays_as_it_is() -> None:
    for width, expected in ((96, False), (128, True)):
        model = use_winograd(STM("resnet18", 8, 8, decoder_dim=width))
        assert any(isinstance(module, WinogradConv) for module in model.modules()) == expected
