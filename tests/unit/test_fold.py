"""The fast network gives the same numbers: folded batch norm, dtypes, torch.compile and its fallback."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from libs.app.build import build_model, for_inference
from libs.app.config import load_config
from libs.method.cycle import GradientCorrection
from libs.method.propagate import Reference, Step, harden
from models.compiled import compile_network
from models.fold import fold_batch_norm
from models.memory_read import read
from models.stm import STM, Objects


def network(arch: str, context: str) -> STM:
    """Build a float64 network whose batch norm statistics are not trivial."""
    torch.manual_seed(0)
    model = STM(arch, 8, 8, context=context, decoder_dim=8)
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        for tensor in (norm.running_mean, norm.bias.data):
            tensor.normal_(0, 0.3)
        for tensor in (norm.running_var, norm.weight.data):
            tensor.uniform_(0.5, 1.5)
    return model.eval().double()


@torch.no_grad()
def outputs(model: STM) -> list[Tensor]:
    torch.manual_seed(1)
    frames, masks = torch.randn(2, 3, 48, 64), torch.rand(2, 4, 48, 64).softmax(1)
    memory, query = model.memorize(frames, masks, Objects.of([3, 1])), model.encode(frames.flip(0))
    return [memory.keys, memory.values, query.key, *query.image_maps, model.segment(query, [memory])]


@pytest.mark.parametrize("context", ["background", "others"])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_folding_changes_nothing(arch: str, context: str) -> None:
    model = network(arch, context)
    before, folded = outputs(model), outputs(fold_batch_norm(model))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    for one, other in zip(before, folded, strict=True):
        assert (one - other).abs().max() < 1e-9 * one.abs().max()


def test_group_norm_is_not_folded_and_comes_back_from_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = STM("resnet18", 8, 8, decoder_dim=8, norm="gn").eval()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.save({"state_dict": model.state_dict()}, tmp_path / "gn.pth")
    (tmp_path / "empty.yaml").write_text("")
    options = ["arch", "resnet18", "keydim", "8", "valdim", "8", "decoder_dim", "8"]
    options += ["initial", str(tmp_path / "gn.pth")]
    again, _ = build_model(load_config(tmp_path / "empty.yaml", options), torch.device("cpu"))
    for one, other in zip(outputs(model), outputs(fold_batch_norm(again.eval())), strict=True):
        assert (one - other).abs().max() < 1e-4


def test_for_inference_has_no_parameter_to_train_and_one_dtype() -> None:
    model = for_inference(STM("resnet18", 8, 8, decoder_dim=8), "bf16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and not any(
        p.requires_grad for p in model.parameters()
    )
    *maps, logits = outputs(model)
    assert {x.dtype for x in maps} == {
        torch.bfloat16
    } and logits.dtype == torch.float32  # soft aggregation is not halved


@pytest.mark.parametrize("norm", ["bn", "gn"])
@pytest.mark.parametrize("count", [1, 3])
def test_all_maps_of_the_memory_encoder_have_one_layout(norm: str, count: int) -> None:
    """Sums of maps of different layouts take several times as long, pooling in the other one 20 times."""
    model = for_inference(STM("resnet18", 8, 8, decoder_dim=8, norm=norm))
    seen = []
    for module in model.Encoder_M.modules():
        if isinstance(module, (nn.Conv2d, nn.MaxPool2d)):
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.memorize(torch.randn(1, 3, 48, 64), torch.rand(1, count + 1, 48, 64), Objects.of([count]))
    inner = [maps for maps in seen if maps.shape[1] > 3]
    assert len(inner) > 10 and all(maps.is_contiguous(memory_format=torch.channels_last) for maps in inner)


def test_reading_in_half_precision_keeps_scores_in_full() -> None:
    """Keys whose scores reach 60: in bf16 a score of that size would be off by up to 0.125."""
    torch.manual_seed(0)
    keys, values, query = torch.randn(2, 60, 16), torch.randn(2, 60, 8), 12 * torch.randn(2, 16, 3, 5)
    half = [x.bfloat16() for x in (keys, values, query)]
    found, exact = read(*half), read(*(x.float() for x in half))
    assert found.dtype == torch.bfloat16 and (found - exact).abs().max() < 0.02


@pytest.mark.slow
def test_compiled_gives_the_same_labels_and_corrections() -> None:
    model = for_inference(STM("resnet18", 8, 8, decoder_dim=8))
    plain, moved = outputs(model), corrected(model)
    compile_network(model)
    for one, other in zip([*plain, moved], [*outputs(model), corrected(model)], strict=True):
        assert (one - other).abs().max() < 1e-3 * one.abs().max()


@torch.no_grad()
def corrected(model: STM) -> Tensor:
    """Masks after two steps of gradient correction."""
    torch.manual_seed(2)
    frames, masks, objects = torch.randn(2, 3, 48, 64), torch.rand(1, 3, 48, 64).softmax(1), Objects.of([2])
    logits = model.segment(model.encode(frames[1:]), [model.memorize(frames[:1], masks, objects)])
    reference = Reference(model.encode(frames[:1]), harden(masks))
    step = Step(model, 5, frames[1:], objects, logits, logits.softmax(1), reference)
    return GradientCorrection(5, 2, 20.0)(step).masks


def test_a_failure_to_compile_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no working C++ compiler found\nand a long story")

    model = STM("resnet18", 8, 8, decoder_dim=8)
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(
        UserWarning, match=r"does not work here \(no working C\+\+ compiler found\); continuing without it"
    ):
        for_inference(model, compiled=True)
    assert torch.isfinite(outputs(model)[-1]).all()
