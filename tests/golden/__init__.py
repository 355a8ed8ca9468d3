"""Numbers computed with the original implementations (see README.md), and the tolerances that hold."""

import json
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.golden.inputs import clip
from tests.golden.weights import fill_

HERE = Path(__file__).parent
CYCLE = ("resnet18", "resnet34_absent", "resnet50")
OFFICIAL = ("stm_official_resnet50", "stm_official_resnet50_padded")

KEPT = {  # which entries of an array were stored
    "memory_key": np.s_[:, ::7, ::5],
    "memory_value": np.s_[:, ::7, ::17],
    "logits": np.s_[:, :, ::2, ::2],
    "object_prob": np.s_[:, ::2, ::2],
    "train_prob_last": np.s_[:, :, ::2, ::2],
    "test_prob": np.s_[:, :, ::4, ::4],
    "corrected_prob": np.s_[:, :, ::4, ::4],
    "corrected_mask_last": np.s_[:, :, ::4, ::4],
}
BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "mean", "std")


@cache
def filled(kind: str, arch: str, gain: float) -> dict[str, Tensor]:
    """Build the state dict of `kind` 'stm_cycle' or 'stm_official', filled with fixed numbers."""
    shapes = json.loads((HERE / f"keys_{kind}_{arch}.json").read_text())
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    for encoder in ("Encoder_M", "Encoder_Q"):  # as in every model and every released file
        state[f"{encoder}.mean"] = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        state[f"{encoder}.std"] = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    return fill_(state, gain)


def trainable(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy the tensors. All but the buffers require gradients."""
    return {k: v.detach().clone().requires_grad_(k.split(".")[-1] not in BUFFERS) for k, v in state.items()}


def double(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy the tensors as `trainable` does, in float64."""
    return trainable({k: v.double() if v.is_floating_point() else v for k, v in state.items()})


class Case:
    """One .npz file: its input and weights, and comparisons with its arrays (README.md: tolerances)."""

    def __init__(self, name: str):
        self.arrays = np.load(HERE / f"{name}.npz")
        self.meta = json.loads(str(self.arrays["meta"]))
        self.official = name in OFFICIAL
        names = ("frames", "height", "width", "num_objects", "max_obj")
        frames, masks = clip(
            self.meta["clip_seed"], *(self.meta[n] for n in names), self.meta.get("absent", ())
        )
        self.num_objects, self.save_freq = self.meta["num_objects"], self.meta["save_freq"]
        channels = self.num_objects + 1 if self.official else self.meta["max_obj"] + 1
        self.frames, self.masks = torch.from_numpy(frames), torch.from_numpy(masks)[:, :channels]

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the weights that requires gradients."""
        return trainable(
            filled("stm_official" if self.official else "stm_cycle", self.meta["arch"], self.meta["gain"])
        )

    def check_array(self, name: str, full: Tensor) -> None:
        expected = self.arrays[name]
        found = full.detach().numpy()[KEPT[name]]
        assert found.shape == expected.shape, name
        assert np.abs(found - expected).max() <= 1e-4, name

    def check_labels(self, name: str, probs: Tensor) -> None:
        """Compare the labels of probs (T - 1, K, H, W), at 99.9 % of the pixels."""
        assert np.mean(probs.argmax(1).numpy() == self.arrays[name][1:]) >= 0.999, name

    def check_losses(self, forward: Tensor, cycle: Tensor, total: Tensor) -> None:
        for name, found in (("forward", forward), ("cycle", cycle), ("total", total)):
            expected = float(self.arrays[f"train_{name}_loss"])
            assert abs(found.item() - expected) <= 1e-4 * abs(expected), name

    def check_gradients(self, gradients: dict[str, Tensor]) -> None:
        """Compare the norms of the gradients of every parameter, by name."""
        names = [str(name) for name in self.arrays["grad_names"]]
        assert set(gradients) - {"KV_M_r4.Key.bias"} == set(names)
        for name, expected in zip(names, self.arrays["grad_norms"]):
            assert abs(gradients[name].double().norm().item() - expected) <= 2e-4 * expected, name
