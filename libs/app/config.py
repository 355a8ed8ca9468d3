"""The configuration: defaults, overridden by a YAML file, overridden by KEY VALUE pairs; checked, frozen."""

import argparse
import difflib
import os
import reprlib
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from libs.app.defaults import DEAD_KEYS, KEYS, RENAMED, SECTIONS, SET_NAMES
from libs.app.key import KINDS, MOST, help_text
from libs.core.errors import InputError
from libs.core.files import parse_yaml
from libs.method.memory_rules import build_rule

PER_SET = ("datafreq", "max_skip")  # keys with one number per training set


class Source(Enum):
    """Where the value of a key came from."""

    DEFAULT = "default"
    FILE = "config file"
    COMMAND_LINE = "command line"


class Config(CfgNode):
    """The frozen configuration: `cfg.epochs` is a value, `cfg.source("epochs")` is where it came from."""

    def __init__(self, values: Mapping[str, Any], sources: Mapping[str, Source]) -> None:
        super().__init__(dict(values))
        # CfgNode turns every attribute into a key, and the sources are no key.
        self.__dict__["_sources"] = dict(sources)
        self.freeze()

    def source(self, key: str) -> Source:
        """Where the value of `key` came from."""
        return self.__dict__["_sources"].get(key, Source.DEFAULT)


def parse_arguments(
    description: str, default_cfg: Path, argv: Sequence[str] | None = None, demo: bool = False
) -> Config:
    """Parse the command line of a script, `--cfg FILE KEY VALUE ...`, and load the configuration.

    Args:
        description: first lines of --help.
        default_cfg: the YAML file to load without --cfg.
        argv: the words after the script's name; None takes those of this process.
        demo: use the defaults of the demo.
    Raises: InputError naming the file or key.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Keys with their defaults:\n{help_text(SECTIONS, demo)}",
    )
    parser.add_argument(
        "--cfg", default=str(default_cfg), metavar="FILE", help="YAML file (default: %(default)s)"
    )
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, metavar="N", help="set by torch.distributed.launch"
    )
    parser.add_argument(
        "options", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys that override the YAML file"
    )
    args = parser.parse_args(argv)
    if args.local_rank is not None:
        # Launchers older than torchrun pass the rank as an argument. torchrun sets this variable, beside
        # RANK and WORLD_SIZE, and `join_processes` reads all three. The rank differs between the processes
        # of one run, so it is no key of the configuration, which they share.
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    return load_config(Path(args.cfg), args.options, demo)


def load_config(path: Path, options: Sequence[str] = (), demo: bool = False) -> Config:
    """Load the configuration: defaults, overridden by the YAML file `path`, overridden by `options`.

    Args:
        options: key, value, key, value, ... as on the command line.
        demo: use the defaults of the demo.
    Raises: InputError naming the file or key.
    """
    values = {name: key.default_of(demo) for name, key in KEYS.items()}
    sources: dict[str, Source] = {}
    given = (
        (Source.FILE, str(path), _read_yaml(path)),
        (Source.COMMAND_LINE, Source.COMMAND_LINE.value, _pairs(options)),
    )
    for source, place, content in given:
        for key, value in _with_current_names(content, place).items():
            values[key] = _parse(key, value, place)
            sources[key] = source
    _shorten_lists(values, sources)
    values["trainset"] = [_set_name(name, values["data_backend"]) for name in values["trainset"]]
    values["valset"] = _set_name(values["valset"])
    cfg = Config(values, sources)
    check_keys(cfg)
    _check_combinations(cfg)
    return cfg


def _read_yaml(path: Path) -> dict:
    if not path.is_file():
        raise InputError(f"config file {path} does not exist; give a file with --cfg FILE")
    try:
        content = parse_yaml(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"config file {path} is not plain YAML: {error}") from error
    content = content or {}  # an empty file is None
    if not isinstance(content, dict):
        raise InputError(f"config file {path}: expected lines 'key: value', found a {type(content).__name__}")
    return content


def _pairs(options: Sequence[str]) -> dict[str, str]:
    """KEY VALUE pairs; of a key that is given twice, the last value counts."""
    for key in options[::2]:
        if key.startswith("--"):
            raise InputError(f"'{key}': expected before the KEY VALUE pairs")
        if "=" in key:
            raise InputError(f"'{key}': write it as two words, {key.replace('=', ' ')}")
    if len(options) % 2:
        raise InputError(f"expected KEY VALUE pairs; the last key, '{options[-1]}', has no value")
    return dict(zip(options[::2], options[1::2]))


def _with_current_names(content: Mapping[str, object], place: str) -> dict[str, object]:
    """The content with its renamed keys under their names of today; each of them is warned of."""
    current: dict[str, object] = {}
    for key, value in content.items():
        name = RENAMED.get(key, key)
        if name in current or (name != key and name in content):
            raise InputError(f"{place}: key '{key}' is now called '{name}', and both are given; remove one")
        if name != key:
            warnings.warn(f"{place}: key '{key}' is now called '{name}'; please rename it", stacklevel=4)
        current[name] = value
    return current


def _parse(key: str, value: object, place: str) -> object:
    """The value of `key` with the type of its default.

    Args:
        value: from YAML, or the text of the command line; place: the file or the command line, for messages.
    Raises: InputError if there is no such key, or if the value cannot be converted.
    """
    if key not in KEYS:
        near = difflib.get_close_matches(str(key), KEYS, n=1, cutoff=0)
        raise InputError(f"{place}: there is no key '{key}'; the nearest one is '{near[0]}'")
    if key in DEAD_KEYS:
        warnings.warn(
            f"{place}: key '{key}' has no effect, as in the original; {DEAD_KEYS[key]}", stacklevel=3
        )
    default = KEYS[key].default
    # The command line has text only. For keys of another type this text is YAML, such as "[1, 2]".
    try:
        if isinstance(value, str) and not isinstance(default, str):
            value = parse_yaml(value)
        return _convert(default, value, f"{place}: key '{key}'")
    except ValueError as error:
        raise InputError(f"{place}: key '{key}': '{value}' cannot be read as a value") from error


def _convert(default: object, value: object, where: str) -> object:
    """`value` with the type of `default`, and of its entries if it is a list.

    Raises: InputError that starts with `where`.
    """
    if isinstance(default, (list, tuple)):
        # A single entry stands for a list of one. "(240, 427)" is a text in YAML, not a list.
        items = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, str):
            items = [parse_yaml(part) for part in value.strip("()[] ").split(",") if part.strip()]
        entry = default[0] if default else 0
        return type(default)(_convert(entry, item, where) for item in items)
    if isinstance(default, float) and isinstance(value, (int, str)) and not isinstance(value, bool):
        with suppress(ValueError, OverflowError):
            value = float(value)  # YAML reads 1 as an integer and 1e-5 as a text
    if type(value) is not type(default):
        raise InputError(
            f"{where}: expected {KINDS[type(default)]} such as {default!r}, found {reprlib.repr(value)}"
        )
    if isinstance(value, str) and "\0" in value:
        raise InputError(f"{where}: expected a text without NUL")
    if isinstance(value, (int, float)) and not abs(value) <= MOST:  # NaN, too
        raise InputError(
            f"{where}: expected a finite number of at most {MOST:g}, found {reprlib.repr(value)}"
        )
    return value


def _shorten_lists(values: dict, sources: Mapping[str, Source]) -> None:
    """Cut the lists of the keys PER_SET to the number of training sets. The original ignored the rest too."""
    count = len(values["trainset"])
    for key in PER_SET:
        used = values[key][:count]
        # The defaults are for two sets: someone who names one set need not shorten them.
        if used != values[key] and key in sources:
            warnings.warn(
                f"key '{key}': only the first {count} of {values[key]} are used, one per training set",
                stacklevel=3,
            )
        values[key] = used


def _set_name(name: str, backend: str = "") -> str:
    """Our name of a data set, which may be given by the original's name for loading it with DALI."""
    own = SET_NAMES.get(name, name)
    if own != name and backend == "PIL":
        warnings.warn(
            f"data set '{name}' is read as {own}; set data_backend DALI to load it with DALI", stacklevel=4
        )
    return own


def check_keys(values: Mapping[str, Any]) -> None:
    """Check each value by itself.

    Args:
        values: name of a key -> value of the type of its default.
    Raises: InputError naming the first key whose value is out of range.
    """
    for name, value in values.items():
        key = KEYS[name]
        if key.check and not key.check.accepts(value):
            raise InputError(f"key '{name}': expected {key.expected}, found {value!r}")


def _check_combinations(cfg: Config) -> None:
    """Raises: InputError naming keys that do not fit together."""
    lengths = {key: len(cfg[key]) for key in ("trainset", *PER_SET)}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(
            f"keys trainset, datafreq and max_skip: expected one entry per training set; {found}"
        )
    shortest, scale = min(cfg.input_size), min(cfg.scales)
    if shortest * scale < 16:
        raise InputError(
            f"keys 'input_size' and 'scales': expected at least 16 pixels, found {shortest} times {scale:g}"
        )
    if cfg.grad_checkpoint and not cfg.freeze_bn:
        raise InputError(
            "key 'grad_checkpoint': expected freeze_bn True, because recomputed activations would update the "
            "statistics of batch norm twice"
        )
    if cfg.norm == "gn" and cfg.pretrained and not cfg.initial and cfg.resume in ("", "auto"):
        raise InputError("key 'norm': ImageNet weights need 'bn'; set pretrained False to use 'gn'")
    if cfg.submission and cfg.save_indexed_format != "index":
        raise InputError(
            f"key 'submission': servers need save_indexed_format index, found {cfg.save_indexed_format}"
        )
    build_rule(cfg.memory_rule, cfg.memory_frames)
    if cfg.initial and cfg.resume not in ("", "auto"):
        warnings.warn("key 'initial' is ignored, because 'resume' loads the weights", stacklevel=3)
