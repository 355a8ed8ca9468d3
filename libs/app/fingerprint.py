"""Tell apart runs of test.py whose masks may differ, for `skip_done`."""

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from models.weights import NetworkDescription

RULES = 2  # goes up when the same settings give other masks or scores: older records are then outdated
CHANGE_NO_MASK = {"skip_done", "debug", "gpu_id", "compile"}
# The weights have the last word on these keys, and their file counts.
NETWORK_KEYS = {field.name for field in fields(NetworkDescription)}


def settings_fingerprint(cfg: Mapping[str, object], weights: Path) -> str:
    """A text that changes with any key that can change a mask, and with the file of weights."""
    stat = weights.stat() if weights.is_file() else None
    keys = {key: value for key, value in cfg.items() if key not in CHANGE_NO_MASK | NETWORK_KEYS}
    return json.dumps([RULES, keys, stat and (stat.st_size, stat.st_mtime_ns)], sort_keys=True)
