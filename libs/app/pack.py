"""Pack a checkpoint's network (its running average where there is one) in half precision, as it ships:

python3 -m libs.app.pack CHECKPOINT OUT.pth
"""

import argparse
from pathlib import Path

from libs.app.script import run_with_error_messages
from libs.training.checkpoint import read_weights, save_checkpoint


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 -m libs.app.pack", description=__doc__.split(":")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="such as my.pth")
    args = parser.parse_args()
    state, target = read_weights(args.checkpoint).state_dict, args.out
    packed = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_checkpoint(target, packed)
    print(
        f"{target}: {target.stat().st_size / 1e6:.1f} MB, {sum(value.numel() for value in packed.values()) / 1e6:.1f} million numbers"
    )


if __name__ == "__main__":
    run_with_error_messages(main)
