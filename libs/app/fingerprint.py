"""Recognize runs of test.py whose masks may differ, for `skip_done` and for a warning."""

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from libs.app.defaults import DEMO, MACHINE, TRAINING, WITHOUT_EFFECT
from libs.core.errors import counted
from libs.evaluation.results import ResultFolder
from models.weights import NetworkDescription

RULES = 2  # goes up when the same settings give other masks or scores: older records are then outdated
CHANGE_NO_MASK = {"skip_done", "compile", "workers", "initial", *TRAINING, *DEMO, *MACHINE, *WITHOUT_EFFECT}
# The weights have the last word on these keys, and their file counts.
NETWORK_KEYS = {field.name for field in fields(NetworkDescription)}


def settings_fingerprint(cfg: Mapping[str, object], weights: Path) -> str:
    """Describe, as JSON, all keys that can change a mask, and the content of the weights' file."""
    keys = {key: value for key, value in cfg.items() if key not in CHANGE_NO_MASK | NETWORK_KEYS}
    return json.dumps([RULES, keys, file_hash(weights) if weights.is_file() else None], sort_keys=True)


def warn_of_other_runs(folder: ResultFolder) -> None:
    """Warn once if a folder holds completion records of runs with other settings or weights."""
    others = folder.fingerprints()
    others.pop(folder.fingerprint, None)
    if others:
        keys = sorted({key for other in others for key in _differing(folder.fingerprint, other)})
        what = f" ({', '.join(keys)})" if keys else ""
        warnings.warn(
            f"{folder.path} holds results of {counted(others.total(), 'video')} with other settings or "
            f"weights{what}, and this run writes into the same folder; give another output_dir to keep them "
            "apart",
            stacklevel=2,
        )


def _differing(one: str, other: str) -> set[str]:
    """The keys in which two fingerprints differ, 'weights' among them; none if they cannot be compared."""
    try:
        (_, keys, weights), (_, other_keys, other_weights) = json.loads(one), json.loads(other)
        differing = {key for key in keys.keys() | other_keys.keys() if keys.get(key) != other_keys.get(key)}
    except (ValueError, TypeError, AttributeError):  # another version of this code wrote it
        return set()
    return differing | ({"weights"} if weights != other_weights else set())


def file_hash(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
