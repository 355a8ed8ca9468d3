"""The plan of an ablation: a YAML file that docs/analysis/ablate.md describes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from libs.core.errors import InputError

Keys = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One row of the table: what differs in training and in testing."""

    name: str
    train: Keys
    test: Keys


@dataclass(frozen=True)
class Plan:
    """What is compared.

    cfg: the config of all trainings; keys: for all of them.
    tests: name -> keys of a call of test.py, `cfg` among them if it is not the config of the training. Their
        `root` is a path below that of --root.
    weights: what `initial` accepts; if given, nothing is trained.
    """

    cfg: Path
    keys: Keys
    seeds: list[int]
    variants: list[Variant]
    tests: dict[str, Keys]
    weights: str | None = None


def read_plan(path: Path) -> Plan:
    """Read a plan.

    Raises: InputError naming the file and what is wrong in it.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: expected a YAML file: {' '.join(str(error).split())}") from error
    needed, known = {"cfg", "variants", "tests"}, {"keys", "seeds", "weights"}
    if not isinstance(content, dict) or not needed <= content.keys() <= needed | known:
        raise InputError(f"{path}: expected cfg, variants, tests and, if needed, keys, and seeds or weights")
    if ("seeds" in content) == ("weights" in content):
        raise InputError(f"{path}: expected either seeds, to train, or weights, to test these alone")
    seeds, variants = content.get("seeds", [0]), content["variants"]
    if not isinstance(seeds, list) or not seeds or not all(isinstance(seed, int) for seed in seeds):
        raise InputError(f"{path}: seeds: expected a list of whole numbers, found {seeds!r}")
    if not isinstance(variants, dict) or not variants:
        raise InputError(f"{path}: variants: expected names with their keys, found {variants!r}")
    tests = _keys(path, "tests", content["tests"])
    if not tests:
        raise InputError(f"{path}: tests: expected names with keys for test.py, found none")
    for name in (*tests, *variants):
        if not str(name) or not all(letter.isalnum() or letter in "-_" for letter in str(name)):
            raise InputError(f"{path}: {name!r}: expected a name of letters, digits, - and _")
    chosen = [_variant(path, str(name), entry) for name, entry in variants.items()]
    if "weights" in content and any(variant.train for variant in chosen):
        raise InputError(f"{path}: with `weights` nothing is trained, but a variant has keys below `train`")
    return Plan(
        Path(str(content["cfg"])),
        _keys(path, "keys", content.get("keys")),
        seeds,
        chosen,
        {name: _keys(path, f"tests: {name}", entry) for name, entry in tests.items()},
        None if "weights" not in content else str(content["weights"]),
    )


def _variant(path: Path, name: str, entry: object) -> Variant:
    found = _keys(path, f"variants: {name}", entry)
    if not found.keys() <= {"train", "test"}:
        raise InputError(
            f"{path}: variants: {name}: expected `train` and `test` with keys, found {', '.join(found)}"
        )
    train, test = (_keys(path, f"variants: {name}: {part}", found.get(part)) for part in ("train", "test"))
    return Variant(name, train, test)


def _keys(path: Path, where: str, entry: object) -> Keys:
    if entry is None:
        return {}
    if not isinstance(entry, dict):
        raise InputError(f"{path}: {where}: expected keys with values, found {entry!r}")
    return {str(key): value for key, value in entry.items()}
