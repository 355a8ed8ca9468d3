"""Configuration: defaults, a YAML file, KEY VALUE pairs from the command line; checked, then frozen."""

import argparse
import difflib
import os
import reprlib
import warnings
from collections.abc import Sequence
from copy import copy
from pathlib import Path

from yacs.config import CfgNode

from libs.app.defaults import DEAD_KEYS, KEYS, SET_NAMES
from libs.core.errors import InputError
from libs.core.files import parse_yaml


def parse_arguments(
    description: str, default_cfg: Path, argv: Sequence[str] | None = None, demo: bool = False
) -> CfgNode:
    """Read the command line of a script, `--cfg FILE KEY VALUE ...`, and return the frozen config.

    Args:
        demo: whether keys that are not given take the demo's defaults.
    """
    keys = "\n".join(
        f"  {name} = {key.default_of(demo)!r}\n      {key.meaning}" for name, key in KEYS.items()
    )
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"keys, and what they are where the config does not name them:\n{keys}",
    )
    parser.add_argument(
        "--cfg", default=str(default_cfg), metavar="FILE", help="YAML config (default: %(default)s)"
    )
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, metavar="N", help="set by torch.distributed.launch"
    )
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="override keys of the config"
    )
    args = parser.parse_args(argv)
    if args.local_rank is not None:  # launchers of before torchrun give it here and not in the environment
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return load_config(Path(args.cfg), args.options, demo)


def load_config(path: Path, options: Sequence[str] = (), demo: bool = False) -> CfgNode:
    """Defaults, overridden by the YAML file, overridden by `options` (key, value, key, value, ...).

    Args:
        demo: whether keys that are not given take the demo's defaults.
    Raises: InputError naming the file or key.
    """
    cfg = CfgNode({name: copy(key.default_of(demo)) for name, key in KEYS.items()})
    in_file = _read_yaml(path)
    for key, value in in_file.items():
        _set(cfg, key, value, str(path))
    for key in options[::2]:
        if key.startswith("--"):
            raise InputError(f"'{key}': expected before the KEY VALUE pairs")
        if "=" in key:
            raise InputError(f"'{key}': write it as two words, {key.replace('=', ' ')}")
    if len(options) % 2:
        raise InputError(f"options come as KEY VALUE pairs; the last one, '{options[-1]}', has no value")
    for key, value in zip(options[::2], options[1::2]):
        _set(cfg, key, value, "command line")
    for key in ("datafreq", "max_skip"):
        used = cfg[key][: len(cfg.trainset)]  # defaults are for two sets; who names one need not repeat them
        if used != cfg[key] and key in {*in_file, *options[::2]}:  # the original ignored the rest, too
            warnings.warn(
                f"key '{key}': the first {len(used)} of {cfg[key]} count, one per training set", stacklevel=2
            )
        cfg[key] = used
    cfg.trainset = [_own_name(name, cfg.data_backend) for name in cfg.trainset]
    cfg.valset = _own_name(cfg.valset, "")
    _check(cfg)
    cfg.freeze()
    return cfg


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"config file {path} does not exist; give one by --cfg FILE")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"config file {path} is not plain YAML: {error}") from error
    if not isinstance(content or {}, dict):
        raise InputError(f"config file {path}: expected lines 'key: value', found a {type(content).__name__}")
    return content or {}


def _set(cfg: CfgNode, key: str, value: object, source: str) -> None:
    if key not in KEYS:
        near = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0)
        raise InputError(f"{source}: there is no key '{key}'; the nearest one is '{near[0]}'")
    if key in DEAD_KEYS:
        warnings.warn(
            f"{source}: key '{key}' does nothing, as in the original; {DEAD_KEYS[key]}", stacklevel=2
        )
    default = KEYS[key].default
    is_text = isinstance(value, str) and not isinstance(default, str)
    try:
        cfg[key] = _coerce(default, parse_yaml(value) if is_text else value, key, source)
    except ValueError as error:
        raise InputError(f"{source}: key '{key}': '{value}' cannot be read as a value") from error


def _own_name(name: str, backend: str) -> str:
    """Name of a data set, where `name` may be that of one of the original's DALI data sets."""
    own = SET_NAMES.get(name, name)
    if own != name and backend == "PIL":
        warnings.warn(
            f"data set '{name}' is read as {own}; set data_backend DALI to load it with DALI", stacklevel=3
        )
    return own


def _coerce(default: object, value: object, key: str, source: str) -> object:
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-5 as a string
        except (ValueError, OverflowError):
            pass
    if isinstance(default, (list, tuple)):
        # "(240, 427)" is no YAML list; one name stands for a list of one
        items = (
            _split(value)
            if isinstance(value, str)
            else value
            if isinstance(value, (list, tuple))
            else [value]
        )
        inner = default[0] if default else 0
        return type(default)(_coerce(inner, item, key, source) for item in items)
    if type(value) is not type(default):
        kind = {str: "a text", int: "a whole number", float: "a number", bool: "True or False"}[type(default)]
        raise InputError(
            f"{source}: key '{key}': expected {kind} such as {default!r}, found {reprlib.repr(value)}"
        )
    if isinstance(value, str) and "\0" in value:
        raise InputError(f"{source}: key '{key}': expected a text without NUL")
    return value


def _split(text: str) -> list:
    return [parse_yaml(part) for part in text.strip("()[] ").split(",") if part.strip()]


def _check(cfg: CfgNode) -> None:
    for name, key in KEYS.items():
        if key.check and not key.check.accepts(cfg[name]):
            raise InputError(f"key '{name}': expected {key.check.expected}, found {cfg[name]!r}")
    lengths = {key: len(cfg[key]) for key in ("trainset", "datafreq", "max_skip")}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(f"keys trainset, datafreq and max_skip: expected one entry per training set; {told}")
    if min(cfg.input_size) * min(cfg.scales) < 16:
        raise InputError(
            f"keys 'input_size' and 'scales': expected at least 16 pixels, found {min(cfg.input_size)} times {min(cfg.scales):g}"
        )
    if cfg.grad_checkpoint and not cfg.freeze_bn:
        raise InputError(
            "key 'grad_checkpoint': expected freeze_bn True, as what is made again would update batch norm twice"
        )
    if cfg.norm == "gn" and cfg.pretrained and not cfg.initial and cfg.resume in ("", "auto"):
        raise InputError("key 'norm': ImageNet weights are for 'bn'; set pretrained False for 'gn'")
    if cfg.submission and cfg.save_indexed_format != "index":
        raise InputError(
            f"key 'submission': servers take save_indexed_format index, not {cfg.save_indexed_format}"
        )
    if cfg.initial and cfg.resume not in ("", "auto"):
        warnings.warn("key 'initial' is ignored, because 'resume' brings its own weights", stacklevel=3)
