"""Pack a checkpoint's network (its running average where there is one) in half precision, as it ships:

    python3 -m libs.pack CHECKPOINT OUT.pth
"""

import sys
from pathlib import Path

from libs.checkpoint import read_weights, save_checkpoint
from libs.script import run_guarded
from libs.structures import InputError


def main() -> None:
    """The command line."""
    if len(sys.argv) != 3:
        raise InputError("expected two paths: python3 -m libs.pack CHECKPOINT OUT.pth")
    source, target = map(Path, sys.argv[1:])
    state = read_weights(source).state_dict
    packed = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    save_checkpoint(target, packed)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, {sum(value.numel() for value in packed.values()) / 1e6:.1f} million numbers")


if __name__ == "__main__":
    run_guarded(main)
