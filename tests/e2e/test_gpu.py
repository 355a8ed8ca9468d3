"""What only a GPU can show: `make gpu` runs it. Skipped without CUDA."""

import socket
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist

from benchmarks.inference import scene, segment_last
from benchmarks.training import scene as training_scene
from dataset.synthetic.scene import generate_clip
from libs.app.build import for_inference
from libs.app.segmenter import Segmenter
from libs.core.distributed import Processes
from libs.method.objective import training_losses
from libs.training.optim import Precision, build_optimizer
from models.compiled import compile_network
from models.stm import STM
from tests.helpers import fake_datasets as trees
from tests.helpers.small_network import TRAIN_ON_FOLDER, small
from tests.helpers.subprocess_runner import run_in_process

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
DEVICE = torch.device("cuda")
SMALL = {"keydim": 8, "valdim": 8, "decoder_dim": 8}


def segmented(device: torch.device | str, precision: str) -> np.ndarray:
    """Labels (T, H, W) of the model that ships, of a synthetic clip."""
    images, masks = generate_clip(3, 0, range(6), (120, 213))
    segmenter = Segmenter.load("shipped", device=device, precision=precision)
    return np.stack([segmenter.step(image, masks[0] if t == 0 else None) for t, image in enumerate(images)])


@pytest.mark.parametrize("precision, agreement", [("off", 0.999), ("bf16", 0.98), ("fp16", 0.99)])
def test_the_labels_of_the_cpu(monkeypatch: pytest.MonkeyPatch, precision: str, agreement: float) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # or float32 would have 10 bits
    expected = segmented("cpu", "off")
    assert (segmented(DEVICE, precision) == expected).mean() > agreement and expected.any()


@pytest.mark.parametrize("graphs", [False, True])
@torch.no_grad()
def test_compiled(monkeypatch: pytest.MonkeyPatch, graphs: bool) -> None:
    """With CUDA graphs too: the third call replays what the second one records."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.manual_seed(0)
    model = for_inference(STM("resnet18", **SMALL).to(DEVICE))
    clip = scene(2, (64, 96), DEVICE, 5)
    expected = segment_last(model, *clip, 2)()
    compile_network(model, graphs=graphs)
    compiled = segment_last(model, *clip, 2)
    for _ in range(4):
        assert (compiled() - expected).abs().max() < 1e-2 * expected.abs().max()


def test_fp16_scales_the_loss_and_skips_an_overflow() -> None:
    torch.manual_seed(0)
    model = STM("resnet18", **SMALL).to(DEVICE)
    optimizer = build_optimizer(model.parameters(), "adam", 1e-4, (0.9, 0.999), 0.0)
    precision, batch = Precision("fp16", DEVICE), training_scene(3, 2, DEVICE, (64, 96))
    weight = model.Decoder.pred2.weight

    def step(factor: float = 1.0) -> None:
        with precision():
            total = training_losses(model, batch, "recurrent").total
        precision.scaler.scale(factor * total).backward()
        precision.update(optimizer, 0.0)

    for _ in range(20):  # until the scale has come down to where the gradients are finite
        step()
    before, scale = weight.detach().clone(), precision.scaler.get_scale()
    step()
    assert scale > 1 and weight.isfinite().all() and not torch.equal(weight, before)
    before, scale = weight.detach().clone(), precision.scaler.get_scale()
    step(float("inf"))
    assert torch.equal(weight, before) and precision.scaler.get_scale() == scale / 2


def test_nccl_with_one_rank() -> None:
    """Sums of gradients and buffers go through NCCL; with one rank they stay as they are."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        address = "tcp://127.0.0.1:" + str(listener.getsockname()[1])
    dist.init_process_group("nccl", init_method=address, rank=0, world_size=1)
    try:
        model = STM("resnet18", **SMALL).to(DEVICE)
        batch = training_scene(2, 1, DEVICE, (64, 96))
        training_losses(model, batch, "recurrent").total.backward()
        gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
        group = Processes(world_size=2)  # of one process a group exchanges nothing, so pretend
        group.sum_gradients(model.parameters())
        group.broadcast_buffers(model)
        for p, before in zip(model.parameters(), gradients):
            expected = torch.zeros_like(p) if before is None else before
            assert p.grad is not None and torch.equal(p.grad, expected)
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
def test_train_and_test(tmp_path: Path, amp: str) -> None:
    trees.folder(tmp_path, frames=4)
    keys = {"root": tmp_path, "valset": "FOLDER", "gpu_id": 0, "amp": amp}
    trained = run_in_process(
        "train.py", **small(**TRAIN_ON_FOLDER, **keys, checkpoint=tmp_path / "ckpt", epoch_per_test=1)
    )
    trained.check_success()
    weights = tmp_path / "ckpt/recurrent.pth.tar"
    tested = run_in_process("test.py", **small(**keys, initial=weights, loop=2, save_freq=2))
    tested.check_success()
    assert "J&F" in tested.out
