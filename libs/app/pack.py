"""Pack the network of a checkpoint in half precision, as the shipped weights are:

python3 -m libs.app.pack CHECKPOINT OUT.pth

If the checkpoint has a running average of the weights, the average is packed.
"""

import argparse
from pathlib import Path

from libs.app.script import run_with_error_messages
from libs.training.checkpoint import read_weights, save_checkpoint


def main() -> None:
    """Parse the command line and write the packed file."""
    parser = argparse.ArgumentParser(prog="python3 -m libs.app.pack", description=__doc__.split(":")[0])
    parser.add_argument("checkpoint", type=Path, help="checkpoint of train.py, or a file of weights")
    parser.add_argument("out", type=Path, help="file to write, such as my.pth")
    args = parser.parse_args()
    state = read_weights(args.checkpoint)
    packed = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_checkpoint(args.out, packed)
    megabytes = args.out.stat().st_size / 1e6
    millions = sum(value.numel() for value in packed.values()) / 1e6
    print(f"{args.out}: {megabytes:.1f} MB, {millions:.1f} million numbers")


if __name__ == "__main__":
    run_with_error_messages(main)
