"""Pack the network of checkpoints in half precision, as the shipped weights are:

python3 -m libs.app.pack CHECKPOINT [CHECKPOINT ...] OUT.pth

If a checkpoint has a running average of the weights, the average is packed. Several checkpoints are averaged
first. That helps if they were trained from the same start (model soups, Wortsman et al., ICML 2022).
"""

import argparse
from pathlib import Path

import torch

from libs.app.script import run_with_error_messages
from libs.core.errors import InputError
from libs.training.checkpoint import read_weights, save_checkpoint
from models.weights import Weights


def main() -> None:
    """Parse the command line and write the packed file."""
    parser = argparse.ArgumentParser(prog="python3 -m libs.app.pack", description=__doc__.split(":")[0])
    parser.add_argument(
        "checkpoints",
        type=Path,
        nargs="+",
        metavar="CHECKPOINT",
        help="checkpoint of train.py, or a file of weights; several are averaged",
    )
    parser.add_argument("out", type=Path, metavar="OUT.pth", help="file to write, such as my.pth")
    args = parser.parse_args()
    state = average_weights(args.checkpoints)
    packed = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_checkpoint(args.out, packed)
    megabytes = args.out.stat().st_size / 1e6
    millions = sum(value.numel() for value in packed.values()) / 1e6
    print(f"{args.out}: {megabytes:.1f} MB, {millions:.1f} million numbers")


def average_weights(paths: list[Path]) -> Weights:
    """Average the weights of several checkpoints of the same network; whole numbers are those of the first.

    Raises: InputError naming the file whose network is another one.
    """
    first, *others = (read_weights(path) for path in paths)
    shapes = {name: value.shape for name, value in first.items()}
    for path, state in zip(paths[1:], others):
        if {name: value.shape for name, value in state.items()} != shapes:
            raise InputError(f"{path}: its network differs from that in {paths[0]}; average equal networks")
    return {
        name: torch.stack([value.float(), *(state[name].float() for state in others)]).mean(0)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }


if __name__ == "__main__":
    run_with_error_messages(main)
