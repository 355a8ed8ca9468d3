"""The network and its loops against the numbers of the original implementations."""

import json

import pytest
import torch

from libs.app.build import build_network, for_inference
from libs.method.cycle import GradientCorrection
from libs.method.objective import Batch, memory_policy, training_frames, training_losses
from libs.method.propagate import FrameInput, propagate
from models.stm import STM, Objects
from models.weights import convert_state_dict, describe_network, load_weights
from tests.golden import CYCLE, HERE, OFFICIAL, Case


def network(case):
    """Build the model that the weights imply. Official files carry the prefix of DataParallel."""
    state = {("module." + k if case.official else k): v for k, v in case.weights().items()}
    weights = convert_state_dict(state if case.official else {"epoch": 1, "state_dict": state})
    model = build_network(describe_network(weights))
    load_weights(model, weights)
    return model.eval()


def run_loop(model, case, remember=None, dtype=torch.float32):
    """Return all steps after frame 0, whose mask is given."""
    objects = Objects.of([case.num_objects], case.masks.shape[1])
    frames, given = case.frames.to(dtype), case.masks[:1].to(dtype)
    inputs = (
        FrameInput(image[None], given if t == 0 else None, objects if t == 0 else None)
        for t, image in enumerate(frames)
    )
    return list(propagate(model, inputs, case.save_freq, remember))[1:]


def probabilities(steps):
    return torch.cat([step.logits.softmax(1) for step in steps])


@pytest.mark.parametrize("file", sorted(HERE.glob("keys_*.json")), ids=lambda file: file.stem)
def test_names_and_shapes(file):
    _, kind, arch = file.stem.replace("stm_", "").split("_")
    model = STM(arch, context="others" if kind == "official" else "background")
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == json.loads(file.read_text())


@pytest.mark.parametrize("name", CYCLE)
@torch.no_grad()
def test_one_frame(name):
    case = Case(name)
    model = network(case)
    objects = Objects.of([case.num_objects], case.masks.shape[1])
    memory = model.memorize(case.frames[:1], case.masks[:1], objects)
    query = model.encode(case.frames[1:2])
    case.check_array("memory_key", memory.keys)
    case.check_array("memory_value", memory.values)
    case.check_array("object_prob", model.object_probs(query, [memory]))
    case.check_array("logits", model.segment(query, [memory]))


@pytest.mark.parametrize("name", CYCLE)
def test_training(name):
    case = Case(name)
    model = network(case).train()
    batch = Batch([name], case.frames[None, :3], case.masks[None, :3], [case.num_objects])
    losses = training_losses(model, batch, "recurrent")
    case.check_losses(losses.forward, losses.cycle, losses.total)
    losses.total.backward()
    case.check_gradients({k: p.grad for k, p in model.named_parameters()})
    with torch.no_grad():
        policy = memory_policy("recurrent", batch.masks, 0.0)
        steps = list(propagate(model, training_frames(model, batch), save_freq=1, remember=policy))
    case.check_array("train_prob_last", steps[-1].logits.softmax(1))


@pytest.mark.parametrize("name", CYCLE + OFFICIAL)
@torch.no_grad()
def test_loop_without_correction(name):
    case = Case(name)
    probs = probabilities(run_loop(network(case), case))
    case.check_array("test_prob", probs)
    case.check_labels("test_labels", probs)


@pytest.mark.parametrize("name", ("resnet18", "resnet34_absent"))
@torch.no_grad()
def test_the_loop_of_a_network_prepared_for_inference(name, monkeypatch):
    """With folded batch norm, and every wide 3x3 convolution one of Winograd, whatever its size."""
    monkeypatch.setattr("models.winograd.MIN_TILES", 1)
    case = Case(name)
    probs = probabilities(run_loop(for_inference(network(case)), case))
    case.check_array("test_prob", probs)
    case.check_labels("test_labels", probs)


@pytest.mark.parametrize("name", CYCLE)
@torch.no_grad()
def test_loop_with_correction(name):
    case = Case(name)
    model = network(case).double()
    correction = GradientCorrection(case.save_freq, case.meta["loop"], case.meta["correction_rate"])
    steps = run_loop(model, case, correction, torch.float64)
    probs = probabilities(steps)
    case.check_array("corrected_prob", probs)
    case.check_labels("corrected_labels", probs)
    case.check_array("corrected_mask_last", steps[case.save_freq - 1].masks)


@pytest.mark.parametrize("name", ("resnet18", "resnet34_absent"))
@torch.no_grad()
def test_labels_with_correction_in_float32(name):
    case = Case(name)
    model = network(case)
    correction = GradientCorrection(case.save_freq, case.meta["loop"], case.meta["correction_rate"])
    case.check_labels("corrected_labels", probabilities(run_loop(model, case, correction)))
